"""Random sessions of a plain second writing of the contracts: folded, replayed, screened, their calls made again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from backtest.model import AccountId, AssetId, Clock, HistoricalLiquidation, PositionChange, Prices, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.euler_v2 import EULER_V2
from backtest.protocols.euler_v2.account import liquidity
from backtest.protocols.euler_v2.state import EulerState
from backtest.protocols.interface import Acted, Action
from backtest.replay.engine import replay
from backtest.replay.what_if.users import actions_of
from backtest.scenario import Competitive, Override, Scenario
from tests.protocols.euler_v2.session import NAMES, folded, market, played, timeline
from tests.protocols.euler_v2.system import RAY, System, ahead

Rows = dict[str, list[dict[str, Any]]]
pytestmark = pytest.mark.slow


def equal(state: EulerState, system: System, rows: Rows) -> None:
    """Every share, debt, flag and check, and all that is a vault's, to the last unit and at the system's time."""
    ids = {bytes.fromhex(row["account"][2:]): AccountId(row["account_id"]) for row in rows["accounts"]}
    lend, people = system.vaults["USDC"], state.people
    for asset, name in enumerate(NAMES):
        vault, ours = system.vaults[name], state.vaults[asset]
        assert (ours.cash, ours.debt, ours.shares, ours.accumulator, ours.rate) == (
            vault.cash, vault.debt, vault.total, vault.acc, vault.rate,
        )  # fmt: skip
        shares = {id: has.shares[AssetId(asset)] for id, has in people.items() if AssetId(asset) in has.shares}
        assert shares == {ids[each]: amount for each, amount in vault.shares.items() if amount}
    debts = {id: (has.debt, has.since) for id, has in people.items() if has.debt}
    assert debts == {ids[each]: debt for each, debt in lend.owed.items() if debt[0]}
    for address, account in ids.items():
        has = people[account]
        enabled = {NAMES.index(name) for name in system.enabled[address] if name != "USDC"}
        assert has.enabled == enabled
        if system.controller.get(address) == "USDC":
            assert has.checked == system.status.get(address, 0)


def looked_at(book: Book[Any], system: System, rows: Rows) -> int:
    """Liquidity of everyone at the system's time: how many were compared."""
    compared, view = 0, ahead(system.vaults["USDC"])
    for row in rows["accounts"]:
        account, address = AccountId(row["account_id"]), bytes.fromhex(row["account"][2:])
        has = book.state.account(account)
        vaults = book.state.all_accrued(system.time)
        for borrowing in (False, True):
            found = liquidity(book.state, has, vaults, book.prices.oracle, system.time, borrowing=borrowing)
            theirs = view.liquidity(address, not borrowing)
            assert (found.adjusted if has.debt else 0, found.liability) == (theirs[0] if has.debt else 0, theirs[1])
        compared += bool(has.debt)
        owner = EULER_V2.owner_in(book.state, account)
        assert (owner or row["account"]) == "0x" + address[:19].hex() + "40"
    return compared


@pytest.mark.parametrize("seed", range(3))
def test_a_session_is_folded_and_replayed_to_the_last_unit(seed: int) -> None:
    """The fold itself holds every status of every vault, and every interest, against the rules; the replay explains
    every liquidation.
    """
    system = played(seed)
    rows = folded(system)
    of, history = market(rows), timeline(system, rows)
    result: Any = replay(EULER_V2, of, history, Scenario())
    assert result.mismatches == []
    assert len(result.liquidations) == len(rows["liquidations"])
    equal(result.book.state, system, rows)
    system.next(5_000)
    assert looked_at(result.book, system, rows) > 5


def test_sessions_hold_what_they_are_for() -> None:
    """Partial liquidations and whole ones, written off debts, debts pulled, shares that pay debts, ramps under way."""
    found = Counter[str]()
    for seed in range(4):
        rows = folded(played(seed))
        found["liquidations"] += len(rows["liquidations"])
        found["deficits"] += len(rows["deficits"])
        found.update(row["action"] for row in rows["position_events"])
        found.update(row["setting"] for row in rows["setting_events"])
        ramps = [row for row in rows["params"] if row["name"] == "ramp_duration" and row["value"]]
        found["ramps"] += len(ramps)
    least = {"liquidations": 20, "deficits": 3, "repay_with_shares": 4, "transfer": 20, "treasury": 2, "ramps": 1}
    assert {name: found[name] for name, count in least.items() if found[name] < count} == {}
    assert found["sub_account"] > 10


SCENARIOS = [
    Scenario(liquidators=Competitive()),
    Scenario(
        liquidators=Competitive(),
        overrides=(
            Override(parameter="liquidation_threshold", asset="eWETH-1", value=7_000),
            Override(parameter="ltv", asset="eWETH-1", value=6_800),
        ),
    ),
    Scenario(
        liquidators=Competitive(),
        overrides=(Override(parameter="liquidation_cool_off", value=3_000),),
        rates="recomputed",
    ),
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("number", range(len(SCENARIOS)), ids=["as-is", "lower-ltv", "cool-off-recomputed"])
def test_the_screen_never_misses(seed: int, number: int) -> None:
    """Liquidators of a model, on their own from the first block: with the screen as without it."""
    system = played(seed)
    rows = folded(system)
    of, history, scenario = market(rows), timeline(system, rows), SCENARIOS[number]
    found: list[Any] = [replay(EULER_V2, of, history, scenario, screened=screened) for screened in (True, False)]
    fills = [[(each.seq, each.fill) for each in result.liquidations] for result in found]
    assert fills[0] == fills[1]
    assert fills[0]
    assert found[0].book.state == found[1].book.state
    assert sum(map(len, (found[0].deficits,))) == len(found[1].deficits)


@pytest.mark.parametrize("seed", range(2))
def test_recomputed_interest_is_history_s(seed: int) -> None:
    """Nothing else changed: the rates that the model gives for this book are those that were logged."""
    system = played(seed)
    rows = folded(system)
    result: Any = replay(EULER_V2, market(rows), timeline(system, rows), Scenario(rates="recomputed"))
    assert result.mismatches == []
    equal(result.book.state, system, rows)


@pytest.mark.parametrize("seed", [1, 5])
def test_every_call_made_again_does_what_history_did(seed: int) -> None:
    """In history's own book, by this package's checks: a batch as a whole, its loan before its collateral."""
    system = played(seed)
    rows = folded(system)
    of, history = market(rows), timeline(system, rows)
    state, prices, kinds = EULER_V2.open(of), dict[AssetId, int](), Counter[str]()
    balances = Counter[tuple[int, int, str]]()
    for transaction in history.transactions():
        waiting = actions_of(transaction)
        for event in transaction:
            if isinstance(event, PriceUpdate):
                prices[event.asset] = event.price or 0
            elif hasattr(event, "action_seq") and event.action != "liquidation":
                changes: list[Any] = waiting[event.action_seq]
                if changes[-1] is not event:
                    continue
                emptied = set()
                for place, each in enumerate(changes):
                    if isinstance(each, PositionChange):
                        key = each.account, each.asset, each.side
                        balances[key] += each.delta
                        if not balances[key] and each.delta < 0:
                            emptied.add(place)
                now = Clock(event.block_number, event.log_index, event.timestamp)
                action = Action(event.action, tuple(changes), frozenset(emptied))
                acted = EULER_V2.act(state, action, Prices(prices, prices, prices), now)
                assert isinstance(acted, Acted), (acted, action)
                assert list(map(stripped, acted.changes)) == list(map(stripped, changes))
                kinds[event.action] += 1
                for each in changes:
                    EULER_V2.apply(state, each)
            elif not isinstance(event, HistoricalLiquidation):
                if isinstance(event, PositionChange):
                    balances[event.account, event.asset, event.side] += event.delta
                EULER_V2.apply(state, event)
    assert set(kinds) >= {"batch", "supply", "repay", "withdraw", "transfer", "borrow"}
    assert state.vaults[0].accumulator > RAY


def stripped(change: Any) -> tuple[Any, ...]:
    if isinstance(change, PositionChange):
        return change.account, change.asset, change.side, change.delta, change.action, change.amount
    return change.account, change.setting, change.asset, change.value
