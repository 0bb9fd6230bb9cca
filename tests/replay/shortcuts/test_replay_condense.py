"""A past in short leaves the same book, the same counts, and the history of whoever was liquidated."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import RulesError
from backtest.model import IndexUpdate, ParamChange, PositionChange, SettingChange
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.several import state_at
from backtest.replay.shortcuts.past import condensed
from backtest.replay.watch.compiled import net
from backtest.scenario import Competitive, Override, Scenario, Users
from tests.bench.bench_replay import market as bench_market
from tests.bench.bench_replay import timeline
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import ETH, USD, WETH, History, borrower, market, opened
from tests.support.random_history import random_history
from tests.support.sketch_history import liquidated_history

POOL = FixedSpreadPool()


def same(one: Replay[Any], other: Replay[Any]) -> None:
    for field in fields(Replay):
        if field.name != "book":
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    assert one.book.state == other.book.state
    assert (one.book.now, one.book.seq, one.book.oracle, one.book.indexes) == (
        other.book.now, other.book.seq, other.book.oracle, other.book.indexes,
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 9), st.one_of(st.none(), st.integers(1, 150)), st.booleans())
def test_a_reenactment_in_short_is_the_whole_one(
    seed: int, samples: int, to_block: int | None, liquidations: bool
) -> None:
    h = random_history(seed, liquidations=liquidations)
    same(
        *(
            replay(POOL, h.market, h.timeline(), Scenario(to_block=to_block), samples=samples, screened=short)
            for short in (True, False)
        )
    )


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 120), st.sampled_from(["frozen", "same-health"]))
def test_a_model_after_a_past_in_short_does_as_after_the_whole_one(seed: int, block: int, response: str) -> None:
    h = random_history(seed, liquidations=True)
    scenario = Scenario(
        liquidators=Competitive(), from_block=min(block, h.timeline().last_block), users=Users(response=response)
    )
    same(*(replay(POOL, h.market, h.timeline(), scenario, samples=4, screened=short) for short in (True, False)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_the_book_at_every_later_block_is_the_same(seed: int, before: int) -> None:
    h = random_history(seed)
    timeline = h.timeline()
    short = condensed(timeline, [before])
    assert len(short.timeline) + short.events == len(timeline)
    for block in {max(before - 1, 1), before, timeline.last_block}:
        if block <= timeline.last_block and block in timeline.blocks:
            whole, less = (state_at(POOL, h.market, t, block)[0] for t in (timeline, short.timeline))
            assert whole == less
    assert [len(t) for t in timeline.transactions(None, before)] == [
        len(t) for t in short.timeline.transactions(None, before)
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_what_accounts_begin_with_stands_for_their_changes(seed: int, before: int) -> None:
    h = random_history(seed, liquidations=seed % 2 == 0)
    timeline = h.timeline()
    short = condensed(timeline, [before])
    opening, rest = short.opened()
    assert len(rest.timeline) + rest.events == len(timeline)
    for block in {max(before - 1, 1), before, timeline.last_block}:
        if block <= timeline.last_block and block in timeline.blocks:
            state = POOL.open(h.market)
            POOL.open_accounts(state, opening)
            for event in (event for transaction in rest.timeline.transactions(block) for event in transaction):
                if isinstance(event, PositionChange | SettingChange | ParamChange | IndexUpdate):
                    POOL.apply(state, event)
            assert state == state_at(POOL, h.market, short.timeline, block)[0]


CHANGES = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(-(2**125), 2**125), st.booleans())


@settings(max_examples=200, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=40), st.lists(st.integers(0, 40), max_size=4))
def test_sums_of_128_bits_are_those_of_integers(rows: list[tuple[int, int, int, bool]], stops: list[int]) -> None:
    ends = [*sorted(min(stop, len(rows)) for stop in stops), len(rows)]
    words = np.array(
        [[(v & (2**64 - 1)) - (2**64 if v >> 63 & 1 else 0), v >> 64] for _, _, v, _ in rows], dtype=np.int64
    )
    running: dict[tuple[int, int], int] = {}
    wanted: dict[tuple[tuple[int, int], int], tuple[int, int]] = {}
    fine = True
    for row, (account, slot, v, free) in enumerate(rows):
        if free:
            key = account, slot
            running[key] = running.get(key, 0) + v
            if running[key] >= 2**127:
                return  # more than the tables hold
            fine &= running[key] >= 0
            segment = sum(row >= end for end in ends)
            wanted[key, segment] = row, wanted.get((key, segment), (0, 0))[1] + v
    account, slot = (np.array([each[which] for each in rows], dtype=np.int32) for which in (0, 1))
    kept, total = np.zeros(len(rows), dtype=np.bool_), np.zeros_like(words)
    assert net(account, slot, words, np.array([f for *_, f in rows]), np.array(ends), 2, kept, total) == fine
    if fine:
        found = {
            int(row): (int(total[row, 1]) << 64) | (int(total[row, 0]) & (2**64 - 1)) for row in np.flatnonzero(kept)
        }
        assert found == dict(wanted.values())


def test_one_change_is_left_of_a_balance_and_one_of_a_setting() -> None:
    big = 10**30
    h = History(market(("WETH", 18), ("USDC", 6)))
    h.price(0, USD).position(0, 0, "collateral", big).setting(0, "flag", 1, 0).block(5).position(
        0, 0, "collateral", -big + 7, "withdraw"
    )
    h.position(0, 1, "debt", 5, "borrow").position(0, 1, "debt", -5, "repay").setting(0, "flag", 0, 0).block(
        9
    ).position(0, 0, "collateral", 3)
    short = condensed(h.timeline(), [9])
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
    short = condensed(timeline, [30])
    assert short.events == 2
    assert [(e.account, e.delta) for e in short.timeline if isinstance(e, PositionChange) and e.account == 5] == [
        (5, 2 * ETH),
        (5, 20 * 10**6),
    ]
    whole = [e for e in timeline if isinstance(e, PositionChange) and e.account != 5]
    assert [e for e in short.timeline if isinstance(e, PositionChange) and e.account != 5] == whole


@pytest.mark.parametrize(
    "override",
    [
        None,
        Override(parameter="close_factor", value=9000, from_block=15),
        Override(parameter="close_factor", value=9000),
    ],
)
def test_a_replay_counts_what_it_left_out(override: Override | None) -> None:
    h = opened()
    for _ in range(3):
        borrower(h, 0, 1, 400)
    h.block(15).price(WETH, 1900 * USD).block(20).price(WETH, 400 * USD)
    scenario = Scenario(liquidators=Competitive(), from_block=20, overrides=() if override is None else (override,))
    one, other = (replay(POOL, h.market, h.timeline(), scenario, screened=s) for s in (True, False))
    assert (one.events, one.actions_made, one.liquidations, one.reach) == (
        other.events,
        other.actions_made,
        other.liquidations,
        other.reach,
    )
    assert one.liquidations


@pytest.mark.parametrize(
    "override",
    [
        Override(parameter="liquidation_threshold", value=7800, asset="A0"),
        Override(parameter="liquidation_bonus", change=200),
        Override(parameter="close_factor", value=9000, from_block=1),
    ],
)
@pytest.mark.parametrize("liquidators", [Competitive(), Competitive(gas_cost=20 * USD)])
def test_overrides_from_the_beginning_find_the_empty_book_that_history_has(
    override: Override, liquidators: Competitive
) -> None:
    """They start before anything else happened: no rules apply yet, and nobody is reached. What is seen of the book
    then is not kept.
    """
    history, scenario = (
        timeline(40, 200, fall=0.3),
        Scenario(liquidators=liquidators, from_block=60, overrides=(override,)),
    )
    one, other = (
        replay(AAVE_V3, bench_market(40), history, scenario, samples=4, screened=short) for short in (True, False)
    )
    same(one, other)
    assert one.liquidations
    assert any(total.debt_base for total in one.totals)


def test_a_history_that_takes_more_than_there_is_still_says_so() -> None:
    h = History(market(("WETH", 18), ("USDC", 6), protocol="aave-v3"))
    h.param("pool_revision", 10).price(0, USD).position(0, 0, "collateral", 5).block(5).position(
        0, 0, "collateral", -6, "withdraw"
    )
    h.position(0, 0, "collateral", 9).block(9).price(0, USD)
    with pytest.raises(RulesError, match="would hold -1"):
        replay(AAVE_V3, h.market, h.timeline(), Scenario(liquidators=Competitive(), from_block=9))


@pytest.mark.parametrize(("name", "asset"), [("unheard_of", 0), ("collateral_enabled", None)])
def test_a_setting_that_nobody_knows_is_refused_as_by_the_whole_history(name: str, asset: int | None) -> None:
    h = History(market(("WETH", 18), ("USDC", 6), protocol="aave-v3"))
    h.param("pool_revision", 10).price(0, USD).block(5).setting(0, name, 1, asset).position(
        1, 0, "collateral", 5
    ).block(9).price(0, USD)
    said = []
    for short in (True, False):
        with pytest.raises(RulesError) as error:
            replay(AAVE_V3, h.market, h.timeline(), Scenario(liquidators=Competitive(), from_block=9), screened=short)
        said.append(error.value.what)
    assert said[0] == said[1]
    assert said[0].startswith("block 5: ")


class Counting(FixedSpreadPool):
    """A pool that does not say that a past adds up: every event comes to it."""

    def open_accounts(self, state: object, opening: object) -> bool:
        return False

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
    for protocol in (Counting(), type("Short", (Counting,), {"open_accounts": FixedSpreadPool.open_accounts})()):
        replay(protocol, h.market, h.timeline(), Scenario(liquidators=Competitive(), from_block=20))
        counts.append(protocol.applied)
    assert counts == [8, 3]
