"""Replays of the bundled sample (real contracts' history): exact re-enactment, the screen against the plain reference,
cut windows.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from backtest.lake import Lake
from backtest.model import Market
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.state import AaveState
from backtest.protocols.mechanism import ProtocolSpread
from backtest.reconstruct import is_current, reconstruct
from backtest.replay.engine import Engine, replay
from backtest.replay.record import Replay
from backtest.replay.several import state_at
from backtest.replay.timeline import Timeline
from backtest.resources import resource
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, Override, Scenario, Users
from backtest.units import WAD
from tests.support.sql_engine import assert_sql_is_the_engine, spread

CRASH, CALM = "sample-crash", "sample-calm"
BASELINE = Scenario(liquidators=Competitive())


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder: Path = tmp_path_factory.mktemp("sample") / "lake"
    shutil.copytree(resource("sample") / "lake", folder)
    opened = Lake(folder)
    for market in (CRASH, CALM):
        if not is_current(opened, market):
            reconstruct(opened, market)
            opened.refresh()
    return opened


@pytest.fixture(scope="module")
def crash(lake: Lake) -> tuple[Market, Timeline]:
    return load_market(lake, CRASH), load_timeline(lake, CRASH)


def run(
    history: tuple[Market, Timeline], scenario: Scenario = BASELINE, *, screened: bool = True, samples: int = 0
) -> Replay[AaveState]:
    market, timeline = history
    return replay(AAVE_V3, market, timeline, scenario, screened=screened, samples=samples)


def test_history_is_reenacted_to_the_last_unit(crash: tuple[Market, Timeline]) -> None:
    result = run(crash, Scenario())
    assert result.mismatches == []
    assert len(result.liquidations) >= 40
    assert all(r.matches_history and r.fill.rules_tested for r in result.liquidations)
    assert not result.actions
    folded, _, now = state_at(AAVE_V3, *crash, crash[1].last_block)
    assert now == result.book.now
    assert {a: b for a, b in result.book.state.accounts.items() if b.collateral or b.debt} == {
        a: b for a, b in folded.accounts.items() if b.collateral or b.debt
    }


def test_nobody_is_liquidated_in_the_calm_market(lake: Lake) -> None:
    result = run((load_market(lake, CALM), load_timeline(lake, CALM)), samples=20)
    assert not result.liquidations
    assert not result.actions
    assert {totals.accounts_liquidatable for totals in result.totals} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("name", [CRASH, CALM])
def test_sql_is_the_engine_for_every_account(lake: Lake, name: str) -> None:
    """Balances, totals and health of every account at sixty blocks of the sample, to the last integer."""
    blocks = spread(lake, name, 60)
    compared = assert_sql_is_the_engine(lake, name, blocks)
    assert len(blocks) == 60
    assert compared.owing > 2_000


SCENARIOS = {
    "threshold": Scenario(
        liquidators=Competitive(), overrides=(Override(parameter="liquidation_threshold", value=8000, asset="WETH"),)
    ),
    "late": Scenario(
        liquidators=Competitive(gas_cost=20 * 10**8, pair="largest-debt", settle="collateral-token", max_calls=2),
        overrides=(Override(parameter="close_factor", value=10_000, from_block=300),),
        from_block=250,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_replay_with_the_screen_is_the_plain_reference(crash: tuple[Market, Timeline], name: str) -> None:
    scenario = SCENARIOS[name]
    fast, plain = (run(crash, scenario, screened=screened) for screened in (True, False))
    assert fast.liquidations == plain.liquidations
    assert fast.liquidations
    assert fast.deficits == plain.deficits
    assert fast.actions == plain.actions
    assert fast.refused == plain.refused
    assert fast.book.state == plain.book.state


def test_a_window_does_not_depend_on_how_it_is_cut(crash: tuple[Market, Timeline]) -> None:
    whole = run(crash)
    cut = whole.liquidations[len(whole.liquidations) // 2].clock.block_number
    part = run(crash, msgspec.structs.replace(BASELINE, to_block=cut))
    assert part.liquidations == [r for r in whole.liquidations if r.clock.block_number <= cut]
    assert part.book.now.block_number == cut


def test_before_the_models_first_block_history_runs_as_observed(crash: tuple[Market, Timeline]) -> None:
    observed = run(crash, Scenario())
    start = observed.liquidations[len(observed.liquidations) // 2].clock.block_number
    late = run(crash, msgspec.structs.replace(BASELINE, from_block=start))
    before = [r for r in late.liquidations if r.clock.block_number < start]
    assert before == [r for r in observed.liquidations if r.clock.block_number < start]
    assert all(r.matches_history is None for r in late.liquidations[len(before) :])
    assert late.left_out == len(observed.liquidations) - len(before)


def test_an_override_to_the_value_in_force_changes_nothing(crash: tuple[Market, Timeline]) -> None:
    """The bonus of each asset, from the block where history sets its last."""
    last = {c.asset: c for c in crash[1].params if c.name == "liquidation_bonus" and c.asset is not None and c.value}
    overrides = tuple(
        Override(
            parameter="liquidation_bonus", value=c.value, asset=crash[0].assets[asset].symbol, from_block=c.block_number
        )
        for asset, c in last.items()
    )
    assert overrides
    one, other = run(crash), run(crash, Scenario(liquidators=Competitive(), overrides=overrides))
    assert one.liquidations == other.liquidations
    assert one.book.state.accounts == other.book.state.accounts


class Watched(Engine[AaveState]):
    """After each decision: does anything that pays remain?"""

    decisions = 0

    def _decide(self) -> None:
        super()._decide()
        book = self.book
        self.decisions += 1
        for account in book.protocol.accounts(book.state):
            for offer in self._mechanism.opportunities(book, account, self.liquidator, receive_collateral_token=False):
                assert getattr(offer, "profit", 0) <= 0, f"{account} at block {book.now.block_number} pays {offer}"


@pytest.mark.slow
def test_nothing_that_pays_is_left_after_a_decision(crash: tuple[Market, Timeline]) -> None:
    market, timeline = crash
    engine = Watched(AAVE_V3, market, timeline, Scenario(liquidators=Competitive(max_calls=10**6)), ProtocolSpread())
    for transaction in engine.transactions():
        engine.advance(transaction)
    assert engine.decisions > 100
    assert engine.result.liquidations


def test_liquidations_were_due_and_help(crash: tuple[Market, Timeline]) -> None:
    for record in run(crash).liquidations:
        assert record.health_before is not None
        assert record.health_before < WAD
        assert record.profit_base > 0


@pytest.mark.parametrize("market", [CRASH, CALM])
def test_recomputed_interest_is_history_s(lake: Lake, market: str) -> None:
    result = run((load_market(lake, market), load_timeline(lake, market)), Scenario(rates="recomputed"))
    assert result.rate_check is not None
    assert result.rate_check.updates > 700
    assert (result.rate_check.differing, result.mismatches, result.actions) == (0, [], [])


def test_a_later_horizon_is_the_end_of_a_longer_window(crash: tuple[Market, Timeline]) -> None:
    """What a window says of an hour and a day after its end is what the window that ends then says of its end."""
    _, timeline = crash
    middle = run(crash).liquidations[40].clock.block_number
    part = run(crash, msgspec.structs.replace(BASELINE, to_block=middle))
    assert [horizon.label for horizon in part.horizons] == ["end", "+1h", "+1d"]
    assert part.short_of == ("+7d",)
    assert part.book.now.block_number == middle
    assert part.liquidations[-1].clock.block_number <= middle
    for later in part.horizons[1:]:
        longer = run(crash, msgspec.structs.replace(BASELINE, to_block=later.clock.block_number))
        end, *_ = longer.horizons
        assert (end.clock, end.totals, end.equity) == (later.clock, later.totals, later.equity)
        assert (end.liquidations, end.seized_base, end.peak_bad_debt_base) == (
            later.liquidations,
            later.seized_base,
            later.peak_bad_debt_base,
        )
        assert end.liquidations == len(longer.liquidations) > len(part.liquidations)
    assert timeline.clock_at(part.horizons[1].clock.block_number).timestamp - part.horizons[0].clock.timestamp <= 3600


@pytest.mark.slow
@pytest.mark.parametrize("rates", ["historical", "recomputed"])
@pytest.mark.parametrize("response", ["frozen", "same-ltv", "same-health"])
def test_no_override_equals_the_baseline(crash: tuple[Market, Timeline], rates: str, response: str) -> None:
    """Overrides to what history has change nothing, to the last integer, whatever users and rates do."""
    base = msgspec.structs.replace(BASELINE, rates=rates, users=Users(response=response))
    none = tuple(
        Override(parameter=name, change=0, asset="WETH")
        for name in ("liquidation_threshold", "liquidation_bonus", "ltv")
    )
    one, other = run(crash, base), run(crash, msgspec.structs.replace(base, overrides=none))
    assert one.liquidations == other.liquidations
    assert one.liquidations
    assert one.horizons == other.horizons
    assert one.book.state == other.book.state
    assert one.actions == other.actions
    assert other.made_liquidatable == []


def test_an_override_makes_accounts_liquidatable_by_itself(crash: tuple[Market, Timeline]) -> None:
    """A lower threshold at a block in calm: whom it made so is counted apart, and reach leaves e-modes alone."""
    start = run(crash).liquidations[20].clock.block_number
    cut = (
        Override(parameter="liquidation_threshold", change=-1500, asset="WETH", from_block=start),
        Override(parameter="ltv", change=-1500, asset="WETH"),
    )
    result = run(crash, msgspec.structs.replace(BASELINE, overrides=cut))
    assert result.made_liquidatable
    assert all(one.clock.block_number == start for one in result.made_liquidatable)
    made = {one.account for one in result.made_liquidatable}
    flagged = [r for r in result.liquidations if r.made_by_override]
    assert flagged
    assert {r.fill.order.account for r in flagged} <= made
    (reach,) = [r for r in result.reach if "liquidation_threshold" in r.override]
    assert 0 < reach.accounts < reach.of
    assert reach.in_emode > 0
    assert not reach.at_end
    (late,) = [r for r in result.reach if "liquidation_threshold" not in r.override]
    assert late.at_end, "the loan-to-value changed before anyone had debt"


def test_an_override_from_the_start_reaches_the_accounts_of_the_end(crash: tuple[Market, Timeline]) -> None:
    """Who holds WETH as base collateral at the end, counted by hand; the book is left as it was."""
    cut = tuple(Override(parameter=name, change=-1000, asset="WETH") for name in ("ltv", "liquidation_threshold"))
    scenario = msgspec.structs.replace(BASELINE, overrides=cut)
    result = run(crash, scenario)
    (reach,) = result.reach
    state = result.book.state
    weth = crash[0].asset_named("WETH").id
    indebted = [book for book in state.accounts.values() if book.debt]
    held = [book for book in indebted if weth in book.enabled and book.collateral.get(weth, 0) > 10**12]
    base = [book for book in held if not (book.emode and weth in state.categories[book.emode].collateral)]
    assert (reach.accounts, reach.of, reach.at_end) == (len(base), len(indebted), True)
    assert 0 < reach.accounts < reach.of
    assert state.reserves[weth].liquidation_threshold == 8250 - 1000
    assert result.made_liquidatable == []
