"""Logs of a second writing of the silos: the fold gives back its state over scripted and random histories, a unit more
in a log stops it at its block, and what it cannot know it refuses by name.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pytest
from msgspec.structs import replace

from backtest.errors import RulesError, UserError
from backtest.model import AccountId, AssetId, Clock, HistoricalLiquidation, Market, PositionChange, Prices
from backtest.protocols.interface import Fill
from backtest.protocols.silo_v2 import SILO_V2
from backtest.protocols.silo_v2.claims import claims
from backtest.protocols.silo_v2.events import discover, price_sources, readings, tokens
from backtest.protocols.silo_v2.fold import fold
from backtest.replay.timeline import Timeline
from backtest.tables import CANONICAL
from tests.protocols.silo_v2.hand import E6, E18, MARKET
from tests.protocols.silo_v2.market import (
    ALICE,
    BOB,
    DEBT,
    HOOK,
    KEEPER,
    KEPT,
    KEPT0,
    LENDER,
    ORACLE,
    SILO0,
    SILOS,
    USDC,
    WETH,
    Raw,
    Rows,
    Script,
    config,
    folded,
    played,
    wandered,
)

KINDS = {"lent": 0, "kept": 2}


def sums(rows: Rows) -> dict[tuple[str, int, str], int]:
    """Shares by account, asset and side."""
    names = [row["account"] for row in rows["accounts"]]
    found: dict[tuple[str, int, str], int] = defaultdict(int)
    for row in rows["position_events"]:
        found[names[row["account_id"]], row["asset_id"], row["side"]] += int(row["delta"])
    return {key: value for key, value in found.items() if value}


def held(script: Script) -> dict[tuple[str, int, str], int]:
    """The same, as the script has it."""
    return {
        ("0x" + who.hex(), n + KINDS.get(kind, 0), "debt" if kind == "owed" else "collateral"): shares
        for (kind, n, who), shares in script.has.items()
        if shares
    }


def test_the_fold_gives_back_the_state() -> None:
    script = played()
    rows = folded(script)
    assert sums(rows) == held(script)
    first, second = rows["liquidations"]
    assert (first["debt_asset_id"], first["collateral_asset_id"], int(first["repaid"])) == (1, 0, 40 * E6)
    assert (first["receive_collateral_token"], second["receive_collateral_token"]) == (False, True)
    assert int(first["seized"]) == pytest.approx(42 * E18 / 1_700, rel=1e-9)
    assert {row["action"] for row in rows["position_events"]} == {
        "supply", "withdraw", "borrow", "repay", "transfer", "liquidation"
    }  # fmt: skip
    backing = [row for row in rows["setting_events"] if row["setting"] == "collateral_silo"]
    assert [int(row["value"]) for row in backing] == [0]


@pytest.mark.parametrize(("seed", "fractions"), [(1, True), (2, True), (3, False), (4, True)])
def test_random_histories_and_every_liquidation_made_again(seed: int, fractions: bool) -> None:
    """The rules repay and take what the second writing did, to the unit, and end with its totals."""
    script = wandered(seed, fractions=fractions)
    rows = folded(script)
    assert sums(rows) == held(script)
    state = SILO_V2.open(replace_accounts(rows))
    timeline = Timeline.of({name: pa.Table.from_pylist(each, CANONICAL[name]) for name, each in rows.items()})
    prices, made = script_prices(script), 0
    for transaction in timeline.transactions():
        waiting = {event.seq: event for event in transaction if isinstance(event, HistoricalLiquidation)}
        for event in transaction:
            if isinstance(event, PositionChange) and (past := waiting.pop(event.action_seq, None)) is not None:
                now = Clock(past.block_number, past.log_index, past.timestamp)
                order = SILO_V2.observed_order(state, past, prices[past.block_number], now)
                fill = SILO_V2.quote(state, order, prices[past.block_number], now)
                assert isinstance(fill, Fill), fill
                assert (fill.repaid, fill.seized) == (past.repaid, past.seized)
                made += 1
            if not isinstance(event, HistoricalLiquidation):
                SILO_V2.apply(state, event)
    assert made > 3
    for n in (0, 1):
        silo = state.silos[n]
        wanted = tuple(script.assets[kind, n] for kind in ("lent", "kept", "owed"))
        assert (silo.collateral, silo.protected, silo.debt) == wanted
        assert [silo.interest_left, silo.revenue_left] == script.left[n]


def replace_accounts(rows: Rows) -> Market:
    """The market by hand with the accounts of a history."""
    return dataclasses.replace(MARKET, accounts=tuple(row["account"] for row in rows["accounts"]))


def script_prices(script: Script) -> dict[int, Prices]:
    """By block, the price in force when the script liquidated."""
    found = {}
    for block, usd in script.prices.items():
        oracle = {AssetId(0): usd * 10**24, AssetId(1): 10**24}
        found[block] = Prices(oracle, oracle, oracle)
    return found


@pytest.mark.parametrize(
    ("event", "column", "what"),
    [
        ("AccruedInterest", "interest", "interest of"),
        ("Deposit", "assets", "interest of"),
        ("LiquidationCall", "withdraw_collateral", "those of its parts"),
        ("LiquidationCall", "repay_debt_assets", "another amount"),
        ("Repay", "owner", "without the repayment"),
    ],
)
def test_a_log_that_says_something_else_stops_the_fold(event: str, column: str, what: str) -> None:
    script = played()
    place = next(n for n, log in enumerate(script.logs) if log[3] == event)
    columns = script.logs[place][4]
    columns[column] = BOB if column == "owner" else columns[column] + (10**14 if event == "Deposit" else 1)
    with pytest.raises(RulesError, match=what):
        folded(script)


def test_what_is_refused_by_name() -> None:
    raw = Raw(played())
    raw.other_model = True
    with pytest.raises(RulesError, match="no InterestRateModelV2"):
        list(fold(config(), raw))
    for event, what in (("InterestRateModelError", "model that failed"), ("DefaultingLiquidation", "by defaulting")):
        script = played()
        own = {} if event == "InterestRateModelError" else {"canceled_debt": 1, "deducted_from_collateral": 1}
        script.log(SILO0, event, **own)
        with pytest.raises(RulesError, match=what):
            folded(script)
    script = played()
    script.told.clear()
    with pytest.raises(RulesError, match="which silo backs"):
        folded(script)
    with pytest.raises(UserError, match="write base_decimals = 6 and price_decimals = 24"):
        list(fold(replace(config(), base_decimals=8), Raw(played())))
    wrong = {**config().contracts, "debt1": "0x" + "77" * 20}
    with pytest.raises(UserError, match="write debt1"):
        list(fold(replace(config(), contracts=wrong), Raw(played())))


def test_another_silo_backs_a_debt() -> None:
    """A debt taken over by bob, who had none, and one that its own token backs."""
    script = Script()
    script.next(60)
    script.deposit(1, 10_000 * E6, LENDER)
    script.deposit(0, E18, ALICE)
    script.borrow(1, 100 * E6, ALICE)
    script.next(60)
    script.deposit(0, E18, BOB)
    script.transfer("owed", 1, ALICE, BOB, 10 * E6)
    script.deposit(1, 500 * E6, ALICE, "kept")
    script.switch(ALICE, 1)
    script.next(60)
    script.borrow(1, 5 * E6, ALICE, backing=1)
    rows = folded(script)
    assert sums(rows) == held(script)
    names = [row["account"] for row in rows["accounts"]]
    told = [(names[row["account_id"]], int(row["value"]), row["action"]) for row in rows["setting_events"]]
    alice, bob = ("0x" + who.hex() for who in (ALICE, BOB))
    assert told == [(alice, 0, "borrow"), (bob, 0, "transfer"), (alice, 1, "collateral-flag")]


def test_what_is_asked() -> None:
    raw = Raw(played())
    assert len(list(readings(raw))) == 7
    assert tokens(raw) == ["0x" + token.hex() for token in (WETH, USDC, *KEPT)]
    ether, kept, unit, kept_unit = price_sources(raw)
    assert (ether.asset, kept.asset) == ("0x" + WETH.hex(), "0x" + KEPT0.hex())
    assert (ether.oracle, ether.getter) == ("0x" + ORACLE.hex(), "quote(uint256,address)")
    assert ether.arguments == kept.arguments == (10**36, int(WETH.hex(), 16))
    assert unit.fixed == kept_unit.fixed == 10**24
    roles = discover({role: frozenset([address]) for role, address in config().contracts.items()})
    assert roles["silo"] == {"0x" + each.hex() for each in SILOS}
    assert roles["share"] == {"0x" + each.hex() for each in (*KEPT, *DEBT)}
    assert roles["hook"] == {"0x" + HOOK.hex()}


def test_what_the_contracts_must_return() -> None:
    script = played()
    rows = folded(script)

    def tables(name: str, columns: Sequence[str]) -> pa.Table:
        return pa.Table.from_pylist(rows[name], CANONICAL[name]).select(list(columns))

    names = {AccountId(n): row["account"] for n, row in enumerate(rows["accounts"])}
    told = {claim.what: claim.value for claim in claims(config(), tables, [10**6], names)}
    for n in (0, 1):
        assert told[f"lent assets of silo {n}"] == script.assets["lent", n]
        assert told[f"protected assets of silo {n}"] == script.assets["kept", n]
        assert told[f"debt assets of silo {n}"] == script.assets["owed", n]
    assert told["all lent shares of silo 1"] == script.shares["lent", 1]
    assert told[f"protected shares of silo 0 of 0x{KEEPER.hex()}"] == script.has["kept", 0, KEEPER]
