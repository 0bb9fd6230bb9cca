"""A past in short leaves the same book, the same counts, and the history of whoever was liquidated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import RulesError
from backtest.model import PositionChange, SettingChange
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.replay.condense import condensed
from backtest.replay.engine import replay, state_at
from backtest.replay.kernels import net
from backtest.scenario import Competitive, Override, Scenario
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import History, market
from tests.test_replay_engine import ETH, USD, WETH, borrower, liquidated_history, opened
from tests.test_replay_screen import random_history

POOL = FixedSpreadPool()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_the_book_at_every_later_block_is_the_same(seed: int, before: int) -> None:
    h = random_history(seed)
    timeline = h.timeline()
    short = condensed(timeline, before)
    assert len(short.timeline) + short.events == len(timeline)
    for block in {max(before - 1, 1), before, timeline.last_block}:
        if block <= timeline.last_block and block in timeline.blocks:
            whole, less = (state_at(POOL, h.market, t, block)[0] for t in (timeline, short.timeline))
            assert whole == less
    assert [len(t) for t in timeline.transactions(None, before)] == [len(t) for t in short.timeline.transactions(None, before)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-(2**125), 2**125)), min_size=1, max_size=40))
def test_sums_of_128_bits_are_those_of_integers(rows: list[tuple[int, int]]) -> None:
    key = np.array([k for k, _ in rows])
    words = np.array([[(v & (2**64 - 1)) - (2**64 if v >> 63 & 1 else 0), v >> 64] for _, v in rows], dtype=np.int64)
    total = np.zeros_like(words)
    sums: dict[int, int] = {}
    fine, wanted = True, []
    for k, v in rows:
        sums[k] = sums.get(k, 0) + v
        fine &= sums[k] >= 0 and sums[k] < 2**127
        wanted.append(sums[k])
    if any(s >= 2**127 for s in wanted):
        return  # more than the tables hold
    assert net(np.argsort(key, kind="stable"), key, words, total) == fine
    if fine:
        assert [(int(high) << 64) | (int(low) & (2**64 - 1)) for low, high in total] == wanted


def test_one_change_is_left_of_a_balance_and_one_of_a_setting() -> None:
    big = 10**30
    h = History(market(("WETH", 18), ("USDC", 6)))
    h.price(0, USD).position(0, 0, "collateral", big).setting(0, "flag", 1, 0).block(5).position(0, 0, "collateral", -big + 7, "withdraw")
    h.position(0, 1, "debt", 5, "borrow").position(0, 1, "debt", -5, "repay").setting(0, "flag", 0, 0).block(9).position(0, 0, "collateral", 3)
    short = condensed(h.timeline(), 9)
    changes = [event for event in short.timeline if isinstance(event, PositionChange | SettingChange)]
    assert [(e.block_number, getattr(e, "delta", None), getattr(e, "value", None)) for e in changes] == [
        (5, 7, None),
        (5, 0, None),
        (5, None, 0),
        (9, 3, None),
    ]
    assert (short.events, short.actions) == (3, 3)


def test_who_was_liquidated_keeps_the_history() -> None:
    h = liquidated_history()
    h.block(20)
    borrower(borrower(h, 5, 1, 10), 5, 1, 10).block(30).price(WETH, 1100 * USD)
    timeline = h.timeline()
    short = condensed(timeline, 30)
    assert short.events == 2
    assert [(e.account, e.delta) for e in short.timeline if isinstance(e, PositionChange) and e.account == 5] == [(5, 2 * ETH), (5, 20 * 10**6)]
    whole = [e for e in timeline if isinstance(e, PositionChange) and e.account != 5]
    assert [e for e in short.timeline if isinstance(e, PositionChange) and e.account != 5] == whole


@pytest.mark.parametrize(
    "override", [None, Override(parameter="close_factor", value=9000, from_block=15), Override(parameter="close_factor", value=9000)]
)
def test_a_replay_counts_what_it_left_out(override: Override | None) -> None:
    h = opened()
    for _ in range(3):
        borrower(h, 0, 1, 400)
    h.block(15).price(WETH, 1900 * USD).block(20).price(WETH, 400 * USD)
    scenario = Scenario(liquidators=Competitive(), from_block=20, overrides=() if override is None else (override,))
    one, other = (replay(POOL, h.market, h.timeline(), scenario, screened=s) for s in (True, False))
    assert (one.events, one.actions_made, one.liquidations, one.reach) == (other.events, other.actions_made, other.liquidations, other.reach)
    assert one.liquidations


def test_a_history_that_takes_more_than_there_is_still_says_so() -> None:
    h = History(market(("WETH", 18), ("USDC", 6), protocol="aave-v3"))
    h.param("pool_revision", 10).price(0, USD).position(0, 0, "collateral", 5).block(5).position(0, 0, "collateral", -6, "withdraw")
    h.position(0, 0, "collateral", 9).block(9).price(0, USD)
    with pytest.raises(RulesError, match="would hold -1"):
        replay(AAVE_V3, h.market, h.timeline(), Scenario(liquidators=Competitive(), from_block=9))


class Counting(FixedSpreadPool):
    """A pool that does not say that a past adds up: every event comes to it."""

    past_adds_up = False

    def __init__(self) -> None:
        self.applied = 0

    def apply(self, state: object, event: object) -> None:
        self.applied += 1
        super().apply(state, event)


def test_a_protocol_that_does_not_say_so_gets_the_whole_past() -> None:
    h = opened()
    for _ in range(3):
        borrower(h, 0, 1, 400)
    h.block(20).price(WETH, 1900 * USD)
    counts = []
    for protocol in (Counting(), type("Short", (Counting,), {"past_adds_up": True})()):
        replay(protocol, h.market, h.timeline(), Scenario(liquidators=Competitive(), from_block=20))
        counts.append(protocol.applied)
    assert counts == [8, 4]
