"""A session on the compiled Comet (``record``), by vectors: logs and readings are folded, and every number that the
contract said of its market and of its users must come out, to the last unit. Interest between calls, absorptions with
one and several collaterals, written-off debt, credit beyond debt, purchases, upgrades that change curves, factors and
the list of assets, a pause, accruals that leave no log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backtest.cli import main
from backtest.errors import RulesError, ScenarioError, UserError
from backtest.lake import Lake
from backtest.model import AccountId, AssetId, Clock, HistoricalLiquidation, IndexUpdate, Market
from backtest.protocols.book import Book
from backtest.protocols.compound_v3 import COMPOUND_V3
from backtest.protocols.compound_v3.account import is_collateralized, is_liquidatable
from backtest.protocols.compound_v3.liquidation import sale_price
from backtest.protocols.compound_v3.math import bought_down, present_down, utilization_down
from backtest.protocols.compound_v3.state import BASE, CometState, Position
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.timeline import Timeline
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, FixedSpread, HealthBonus, HealthDutch, Override, Scenario, TargetHealth
from tests.protocols.compound_v3.recorded import MARKET, figures, imported
from tests.support.sql_engine import assert_sql_is_the_engine, spread

PAID = 123_456_789


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = imported(tmp_path_factory.mktemp("comet") / "lake")
    reconstruct(lake, MARKET)
    lake.refresh()
    return lake


@pytest.fixture(scope="module")
def market(lake: Lake) -> Market:
    return load_market(lake, MARKET)


@pytest.fixture(scope="module")
def timeline(lake: Lake) -> Timeline:
    return load_timeline(lake, MARKET)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return figures()


def books(
    market: Market, timeline: Timeline, told: dict[str, Any]
) -> Iterator[tuple[Book[CometState], dict[str, Any]]]:
    """History's book at the end of each block that was told of, with what was told."""
    book: Book[CometState] = Book.open(COMPOUND_V3, market)
    transactions = timeline.transactions()
    waiting = next(transactions, None)
    for there in told["figures"]:
        block = there["block"]
        while waiting is not None and waiting[0].block_number <= block:
            for event in waiting:
                if type(event) is not HistoricalLiquidation:
                    book.apply(event)
            waiting = next(transactions, None)
        book.now = Clock(block, 1 << 30, there["time"])
        yield book, there


def test_the_session_has_what_it_is_for(told: dict[str, Any], lake: Lake) -> None:
    made = Counter(call["call"] for call in told["calls"] if not call["refused"])
    assert made["absorb"] > 20
    assert made["buyCollateral"] > 50
    assert made["accrueAccount"] > 20
    assert made["transfer"] > 5
    ((count, several, credited, lost),) = lake.sql(
        """SELECT count(*), count(*) FILTER (n > 1), count(*) FILTER (supplied), (SELECT count(*) FROM deficits) FROM (
            SELECT action_seq, count(*) FILTER (asset_id > 0) AS n,
                bool_or(asset_id = 0 AND side = 'collateral') AS supplied
            FROM position_events WHERE action = 'liquidation' GROUP BY action_seq)"""
    ).fetchall()
    assert min(count - 20, several, credited, lost) > 3


def test_every_number_of_the_market(market: Market, timeline: Timeline, told: dict[str, Any]) -> None:
    for book, there in books(market, timeline, told):
        state, now, at = book.state, book.now, book.state.indexes
        supply, borrow, tracking_supply, tracking_borrow, total_supply, total_borrow, updated, flags = there["totals"]
        assert (state.total_supply, state.total_borrow) == (total_supply, total_borrow)
        assert state.params.get("pause_flags", 0) == flags
        if updated == at.updated:  # else somebody accrued without a log since
            assert (at.supply, at.borrow) == (supply, borrow)
            used = utilization_down(present_down(total_supply, supply), present_down(total_borrow, borrow))
            assert (used, list(state.curve_rates())) == (there["utilization"], there["rates"])
            assert state.reserves(now.timestamp) == there["reserves"]
            for ours, theirs in ((at.tracking_supply, tracking_supply), (at.tracking_borrow, tracking_borrow)):
                assert 0 <= (ours - theirs) * 10**7 <= theirs  # each accrual without a log is one at another time
        held = [state.total_held.get(AssetId(n), 0) for n in range(1, len(there["collateral"]) + 1)]
        assert held == there["collateral"]
        for n, quoted in enumerate(there["quotes"], 1):
            asset = AssetId(n)
            terms = book.oracle[BASE], sale_price(state, asset, book.oracle), market.unit(asset), state.base_scale
            assert bought_down(PAID, *terms) == quoted


def test_every_number_of_every_user(market: Market, timeline: Timeline, told: dict[str, Any]) -> None:
    ids = {address: AccountId(n) for n, address in enumerate(market.accounts)}
    seen: Counter[str] = Counter()
    cuts = sum(call["call"] == "accrueAccount" for call in told["calls"])
    for book, there in books(market, timeline, told):
        state, silent = book.state, there["totals"][6] != book.state.indexes.updated
        at = state.accrued(book.now.timestamp, rewards=True)
        for address, row in zip(told["users"], there["users"], strict=True):
            principal, tracking, rewards, supplied, owed, *held, liquidatable, collateralized = row
            position = state.position(ids.get(address.lower(), AccountId(-1)))
            assert position.principal == principal
            assert [position.held.get(AssetId(n), 0) for n in range(1, len(held) + 1)] == held
            if silent:
                continue
            theirs = state.rewards(Position(principal, tracking=tracking, accrued=rewards), at)
            assert 0 <= state.rewards(position, at) - theirs <= cuts  # each accrual without a log cuts once more
            value = at.present(principal)
            assert (max(value, 0), max(-value, 0)) == (supplied, owed)
            stored = state.indexes
            assert is_liquidatable(state, position, stored, book.oracle) == bool(liquidatable)
            assert is_collateralized(state, position, stored, book.oracle) == bool(collateralized)
            view = COMPOUND_V3.view(state, ids.get(address.lower(), AccountId(-1)), book.prices, book.now)
            seen["rows"] += 1
            seen["owing"] += principal < 0
            seen["liquidatable"] += liquidatable
            if book.now.timestamp == stored.updated and view.health is not None:
                assert (view.health < 10**18) == bool(liquidatable)
    assert min(seen["rows"] - 800, seen["owing"] - 100, seen["liquidatable"]) > 5, seen


def test_every_absorption_is_explained(market: Market, timeline: Timeline) -> None:
    result = replay(COMPOUND_V3, market, timeline, Scenario())
    assert result.mismatches == []
    assert len(result.liquidations) > 20
    assert all(row.matches_history for row in result.liquidations)
    assert set(result.rules) == {"compound-v3, by vectors"}


# -- models ------------------------------------------------------------------------------------------------------------


def test_liquidators_absorb_and_buy_whom_history_had(market: Market, timeline: Timeline) -> None:
    """Every absorption comes no later than history's, every lot is bought where the discount pays."""
    result = replay(COMPOUND_V3, market, timeline, Scenario(liquidators=Competitive()))
    rows = list(result.liquidations)
    absorbed = [row for row in rows if row.step == "absorb"]
    bought = [row for row in rows if row.step == "buy"]
    assert {row.stage for row in absorbed} == {"opened"}
    assert {row.stage for row in bought} == {"auction"}
    assert len(absorbed) >= 20
    assert len(bought) >= 20
    assert all(row.profit_base > 0 for row in bought)


def test_the_screen_finds_whom_the_plain_look_finds(market: Market, timeline: Timeline) -> None:
    scenario = Scenario(liquidators=Competitive())
    fast, plain = (replay(COMPOUND_V3, market, timeline, scenario, screened=screened) for screened in (True, False))
    assert [row.fill for row in fast.liquidations] == [row.fill for row in plain.liquidations] != []
    assert fast.horizons == plain.horizons


def test_recomputed_interest_is_history_s_until_somebody_accrues_without_a_log(
    market: Market, timeline: Timeline, told: dict[str, Any]
) -> None:
    """From then on it compounds at other moments: by 2 in 10^7 after four and a half years and fifty such calls."""
    first = next(call["block"] for call in told["calls"] if call["call"] == "accrueAccount")
    before = sum(
        any(type(event) is IndexUpdate for event in transaction) for transaction in timeline.transactions(first - 1)
    )
    result = replay(COMPOUND_V3, market, timeline, Scenario(rates="recomputed"))
    assert result.rate_check is not None
    assert result.rate_check.updates - result.rate_check.differing == before - 1 > 5  # the first is the market's own
    assert result.rate_check.largest < 3 * 10**20


@pytest.mark.parametrize(
    "mechanism", [FixedSpread(), HealthBonus(), TargetHealth(), HealthDutch()], ids=lambda each: type(each).__name__
)
def test_mechanisms_in_its_place(market: Market, timeline: Timeline, mechanism: Any) -> None:
    result = replay(COMPOUND_V3, market, timeline, Scenario(liquidators=Competitive(), mechanism=mechanism))
    assert len(result.liquidations) > 20
    assert all(row.fill.order.agreed for row in result.liquidations)


def test_what_ifs_of_its_own_parameters(market: Market, timeline: Timeline) -> None:
    def bad_debt(**more: Any) -> int:
        result = replay(COMPOUND_V3, market, timeline, Scenario(liquidators=Competitive(), **more))
        return sum(lost.amount_base for lost in result.deficits)

    lower = Override(parameter="liquidation_factor", value=9_000)
    earlier = Override(parameter="liquidation_threshold", change=-500)
    assert bad_debt(overrides=(earlier,), allow_invalid=True) < bad_debt() < bad_debt(overrides=(lower,))
    with pytest.raises(ScenarioError, match="a borrow collateral factor at or above the liquidation collateral factor"):
        bad_debt(overrides=(Override(parameter="ltv", value=9_000),))
    with pytest.raises(ScenarioError, match="no such parameter"):
        bad_debt(overrides=(Override(parameter="close_factor", value=5_000),))


# -- SQL ---------------------------------------------------------------------------------------------------------------


def test_sql_is_the_engine(lake: Lake) -> None:
    compared = assert_sql_is_the_engine(lake, MARKET, spread(lake, MARKET, 60))
    assert compared.owing > 200
    assert compared.unsafe > 5


def test_sql_knows_totals_and_use(lake: Lake, told: dict[str, Any]) -> None:
    blocks = [there["block"] for there in told["figures"]]
    rows = lake.sql(
        f"SELECT block_number, total_supply, total_borrow, utilization_wad FROM compound_v3_reserves({blocks})"
        " WHERE asset_id = 0 ORDER BY block_number"
    ).fetchall()
    settled = {there["block"]: there for there in told["figures"]}
    same = 0
    for block, supply, borrow, used in rows:
        there = settled[block]
        assert [int(supply), int(borrow)] == there["totals"][4:6]
        same += int(used) == there["utilization"]
    assert same > len(rows) * 3 // 4  # elsewhere somebody accrued without a log since


def test_an_account_is_shown_with_how_it_is_known(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["account", "0x00000000000000000000000000000000005e4017", "--lake", str(lake.path), "--market", MARKET])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "principal" in said
    assert "borrow_balance" in said
    assert "these numbers are exact by vectors: no test runs the contract's bytecode" in said


def test_a_lake_of_it_keeps_its_invariants(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", "--lake", str(lake.path)])
    assert (ended.value.code, "none violated" in capsys.readouterr().out) == (0, True)


# -- facts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"getAssetInfo(uint8) 1"', "", r"views of contracts \(3: getAssetInfo\(uint8\) 1 of 0x\w+ at \d+, "),
        ('"totalsBasic()"', "", r"views of contracts \(\d+: totalsBasic\(\) of"),
        (
            '"supplyKink()", "0x',
            '"supplyKink()", "0xq',
            r"readings, row \d+, value: '0xq.*' is not 0x and pairs of hex",
        ),
        ('"numAssets()", "0x', '"numAssets()", "0x0', r"readings, row \d+, value: .* is not 0x and pairs of hex"),
    ],
)
def test_facts_that_lack_a_reading_or_hold_none(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        imported(tmp_path / "lake", old, new)


def test_readings_that_no_comet_gives_stop_the_fold_by_name(tmp_path: Path) -> None:
    lake = imported(tmp_path / "lake", '"totalsBasic()", "0x' + "0" * 49, '"totalsBasic()", "0x' + "f" * 49)
    with pytest.raises(RulesError, match=r"totalsBasic\(\) of 0x\w+ is not what a Comet returns"):
        reconstruct(lake, MARKET)


def test_without_what_was_read_an_accrual_without_a_log_stops_the_fold(tmp_path: Path) -> None:
    """Readings that gave nothing: the rules accrue by themselves, up to the first Transfer that they do not explain."""
    lake = imported(tmp_path / "lake", *_NOTHING)
    with pytest.raises(RulesError, match=r"a Transfer of \d+ beside it, \d+ by the rules; .* accrued without a log"):
        reconstruct(lake, MARKET)


_NOTHING = (r'"(totalsBasic\(\)|userBasic\(address\) \d+)", "0x\w+"', r'"\1", ""')
