"""Random sessions of a plain second writing of the contracts: folded, replayed, screened."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    HistoricalLiquidation,
    PositionChange,
    Prices,
    PriceUpdate,
)
from backtest.protocols.interface import Acted, Action
from backtest.protocols.liquity_v1 import LIQUITY_V1
from backtest.protocols.liquity_v1.state import LiquityState
from backtest.replay.engine import replay
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.users import actions_of
from backtest.scenario import Competitive, Costs, Scenario, SealedBid, Searcher
from tests.protocols.liquity_v1.session import folded, market, played, timeline
from tests.protocols.liquity_v1.system import System

Rows = dict[str, list[dict[str, Any]]]
pytestmark = pytest.mark.slow


def equal(state: LiquityState, system: System, rows: Rows) -> None:
    """Every trove with what is pending, every deposit with its gain, and all that is the system's, to the last unit."""
    ids = {bytes.fromhex(row["account"][2:]): AccountId(row["account_id"]) for row in rows["accounts"]}
    troves = {ids[each]: (*system.whole(each), system.troves[each][2]) for each in system.troves}
    assert {each: (*state.entire(trove), trove.stake) for each, trove in state.troves.items()} == troves
    deposits = {ids[each]: (system.compounded(each), system.gain(each)) for each in system.deposits}
    assert {each: (state.deposit_of(d), state.gain_of(d)) for each, d in state.deposits.items()} == deposits
    assert (state.stakes, state.stakes_then, state.colls_then) == (
        system.stakes, system.stakes_snapshot, system.coll_snapshot,
    )  # fmt: skip
    assert [state.active_coll, state.active_debt, state.default_coll, state.default_debt] == [
        *system.active, *system.default,
    ]  # fmt: skip
    assert (state.product, state.scale, state.epoch) == (system.p, system.scale, system.epoch)
    assert (state.pool_deposits, state.pool_coll) == (system.total, system.pool_eth)


def applied(history: Timeline, of: Any) -> LiquityState:
    state = LIQUITY_V1.open(of)
    for event in history:
        if not isinstance(event, HistoricalLiquidation):
            LIQUITY_V1.apply(state, event)
    return state


@pytest.mark.parametrize("seed", range(4))
def test_a_session_is_folded_and_replayed_to_the_last_unit(seed: int) -> None:
    """The fold itself holds stakes, sums, snapshots, deposits and gains against every log; the replay explains every
    liquidation, those of several troves in a call too.
    """
    system = played(seed)
    rows = folded(system)
    of, history = market(rows), timeline(system, rows)
    equal(applied(history, of), system, rows)
    result: Any = replay(LIQUITY_V1, of, history, Scenario())
    assert result.mismatches == []
    assert len(result.liquidations) == len(rows["liquidations"]) > 5
    equal(result.book.state, system, rows)


@pytest.mark.parametrize("seed", range(4))
def test_the_screen_never_misses(seed: int) -> None:
    """Liquidators of a model, on their own from the first block: with the screen as without it."""
    system = played(seed)
    rows = folded(system)
    of, history = market(rows), timeline(system, rows)
    scenario = Scenario(liquidators=Competitive(gas_cost=50 * 10**18))
    found: list[Any] = [replay(LIQUITY_V1, of, history, scenario, screened=screened) for screened in (True, False)]
    fills = [[(each.seq, each.fill) for each in result.liquidations] for result in found]
    assert fills[0] == fills[1]
    assert fills[0]
    assert found[0].book.state == found[1].book.state
    worth = found[0].liquidations[0]
    assert worth.fill.paid == 0
    known = [e.price for e in history if isinstance(e, PriceUpdate) and e.asset == 0 and e.seq <= worth.seq]
    gets = worth.fill.seized * (known[-1] or 0) // 10**18 + 200 * 10**18 - 50 * 10**18
    assert worth.profit_base == gets


def test_whoever_liquidates_needs_no_money() -> None:
    """Neither capital nor a flash loan, whose fee would be a percent of the debt: the pool and the other troves pay."""
    system = played(3)
    rows = folded(system)
    model = SealedBid(searchers=(Searcher(name="poor", capital=1), Searcher(name="borrower")))
    result: Any = replay(
        LIQUITY_V1, market(rows), timeline(system, rows), Scenario(liquidators=model, costs=Costs(flash_fee=100))
    )
    assert len(result.liquidations) > 20
    assert {made.waterfall.funding for made in result.liquidations} == {0}
    liquidators = {result.book.address(made.fill.order.liquidator) for made in result.liquidations}
    assert liquidators == {"model:poor", "model:borrower"}


@pytest.mark.parametrize("seed", [1, 3, 5, 7])
def test_every_call_made_again_does_what_history_did(seed: int) -> None:
    """In history's own book, by this package's checks: opened, adjusted, closed, redeemed, provided, withdrawn."""
    system = played(seed)
    rows = folded(system)
    of, history = market(rows), timeline(system, rows)
    state, prices, kinds = LIQUITY_V1.open(of), dict[AssetId, int](), Counter[str]()
    balances = Counter[tuple[int, int, str]]()
    for transaction in history.transactions():
        waiting = actions_of(transaction)
        for event in transaction:
            if isinstance(event, PriceUpdate):
                prices[event.asset] = event.price or 0
            elif isinstance(event, PositionChange) and event.action != "liquidation":
                changes = waiting[event.action_seq]
                if changes[-1] is not event:
                    continue
                emptied = set()
                for place, each in enumerate(changes):
                    assert isinstance(each, PositionChange)
                    key = each.account, each.asset, each.side
                    balances[key] += each.delta
                    if not balances[key] and each.delta < 0:
                        emptied.add(place)
                now = Clock(event.block_number, event.log_index, event.timestamp)
                action = Action(event.action, tuple(changes), frozenset(emptied))
                acted = LIQUITY_V1.act(state, action, Prices(prices, prices, prices), now)
                assert isinstance(acted, Acted), acted
                assert list(map(stripped, acted.changes)) == list(map(stripped, changes))
                kinds[event.action] += 1
                for each in changes:
                    LIQUITY_V1.apply(state, each)
            elif not isinstance(event, HistoricalLiquidation):
                if isinstance(event, PositionChange):
                    balances[event.account, event.asset, event.side] += event.delta
                LIQUITY_V1.apply(state, event)
    assert set(kinds) >= {"open", "supply", "borrow", "repay", "withdraw", "redemption"}


def stripped(change: Any) -> tuple[Any, ...]:
    return change.account, change.asset, change.side, change.delta, change.action, change.amount
