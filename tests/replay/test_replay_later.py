"""Records that are made when they are read: the same ones, and nothing that keeps a replay in memory."""

from __future__ import annotations

import gc

import pytest

from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.state import AaveState
from backtest.replay.deferred import Deferred
from backtest.replay.engine import replay
from backtest.scenario import Competitive, Scenario
from tests.bench import bench_events
from tests.bench.bench_replay import WINDOW, market, timeline


def test_a_list_whose_parts_are_made_when_read() -> None:
    made: list[str] = []

    def part(*items: int) -> tuple[int, ...]:
        made.append("part")
        return items

    numbers: Deferred[int] = Deferred([0])
    numbers.append(1)
    numbers.put_off(2, lambda: part(2, 3))
    numbers.append(4)
    numbers.put_off(0, part)
    assert (len(numbers), bool(numbers), made) == (5, True, [])
    assert list(numbers) == [0, 1, 2, 3, 4]
    assert made == ["part", "part"]
    numbers.append(5)
    assert (numbers[-1], numbers[1:3], len(numbers)) == (5, [1, 2], 6)
    assert numbers == [0, 1, 2, 3, 4, 5] == numbers
    assert numbers == Deferred(range(6))
    assert numbers != [0]
    assert repr(numbers) == "[0, 1, 2, 3, 4, 5]"
    assert len(made) == 2
    assert not Deferred()


@pytest.mark.parametrize("scenario", [WINDOW, Scenario(liquidators=Competitive(gas_cost=10**8, max_calls=1))])
def test_made_together_or_one_by_one(scenario: Scenario) -> None:
    """A crash with liquidations of many accounts at a moment, some of which do not pay or have used up their calls."""
    history, of = timeline(300, 150, fall=0.5), market(300)
    fast, plain = (replay(AAVE_V3, of, history, scenario, screened=screened) for screened in (True, False))
    assert fast.liquidations
    assert fast.liquidations == plain.liquidations
    assert fast.spells == plain.spells
    for name in ("deficits", "refused", "horizons", "rules", "actions", "events"):
        assert getattr(fast, name) == getattr(plain, name), name
    assert fast.book.state == plain.book.state


def test_an_event_heavy_book_is_the_plain_reference_s() -> None:
    """Users act, a threshold falls in steps, loops of a staked asset: the book of ``bench_events``."""
    history, of = bench_events.timeline(60, 400), market(60)
    fast, plain = (replay(AAVE_V3, of, history, WINDOW, screened=screened) for screened in (True, False))
    assert fast.liquidations
    assert fast.actions
    for name in ("liquidations", "spells", "deficits", "refused", "horizons", "actions", "actions_made", "events"):
        assert getattr(fast, name) == getattr(plain, name), name
    assert fast.book.state == plain.book.state


@pytest.mark.parametrize("read", [False, True])
def test_a_replay_goes_when_its_result_does(read: bool) -> None:
    """Without a garbage collector: a sweep holds many books, and a circle among them would keep each until it comes."""
    history, of = timeline(300, 150, fall=0.5), market(300)

    def states() -> int:
        return sum(type(thing) is AaveState for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = states()
        result = replay(AAVE_V3, of, history, WINDOW)
        assert len(result.liquidations) > 50
        if read:
            assert list(result.liquidations)
            assert list(result.spells)
        del result
        assert states() == before
    finally:
        gc.enable()
