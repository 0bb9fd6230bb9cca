"""The screen never misses whom the exact rule finds, and a replay with it is the replay without."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import AccountId, AssetId, IndexUpdate
from backtest.protocols.book import Book
from backtest.protocols.interface import BoxExposure, LinearExposure, Refusal
from backtest.protocols.mechanism import ProtocolSpread
from backtest.replay.engine import Engine, replay
from backtest.replay.record import Replay
from backtest.replay.timeline import Timeline
from backtest.replay.watch import foresight
from backtest.replay.watch import screen as module
from backtest.replay.watch.foresight import Foresight
from backtest.replay.watch.screen import Screen, Watch
from backtest.scenario import Competitive, Override, Scenario
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import History, market
from tests.support.random_history import USD, random_history

COMPETITIVE = Scenario(liquidators=Competitive(max_calls=3))


def lazy(engine: Engine[object], timeline: Timeline) -> Watch[object]:
    """The screen that knows nothing in advance."""
    return Screen(len(engine.book.market.assets))


def foreseeing(engine: Engine[object], timeline: Timeline) -> Watch[object]:
    """The one that does."""
    assert isinstance(engine.watch, Foresight)
    return engine.watch


WATCHES = (lazy, foreseeing)
Make = Callable[[Engine[object], Timeline], Watch[object]]


class Checked(Engine[object]):
    """Before each decision: is everyone whom the exact rule would liquidate among the candidates?"""

    checked = 0

    def _decide(self) -> None:
        book, protocol = self.book, self.book.protocol
        eligible = {a for a in protocol.accounts(book.state) if protocol.pairs(book.state, a, book.prices, book.now)}
        assert eligible <= set(self.watch.candidates(book))
        Checked.checked += len(eligible)
        super()._decide()


def _run(engine: Engine[object]) -> Replay[object]:
    for transaction in engine.transactions():
        engine.advance(transaction)
    return engine.finish()


def _run_checked(seeds: Iterable[int], make: Make) -> int:
    """Replay these histories, checked; how many liquidations there were."""
    made = 0
    for seed in seeds:
        h = random_history(seed)
        timeline = h.timeline()
        engine = Checked(FixedSpreadPool(), h.market, timeline, COMPETITIVE, ProtocolSpread())
        watch_by(engine, make, timeline)
        made += len(_run(engine).liquidations)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("make", WATCHES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_screen_never_misses_whom_the_exact_rule_finds(make: Make, seed: int) -> None:
    _run_checked([seed], make)


@pytest.mark.parametrize("make", WATCHES)
def test_the_check_above_checks_something(make: Make) -> None:
    Checked.checked = 0
    assert _run_checked([1], make) > 3
    assert Checked.checked > 10


def watch_by(engine: Engine[Any], make: Make, timeline: Timeline) -> None:
    """Another watch, which is told of the accounts that the book begins with."""
    engine.watch = make(engine, timeline)
    for account in engine.book.protocol.accounts(engine.book.state):
        engine.watch.touch(account)


@pytest.mark.slow
@pytest.mark.parametrize("make", WATCHES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), changed=st.booleans(), chunk=st.sampled_from([2, 7, 100]))
def test_a_replay_with_the_screen_is_the_replay_without(make: Make, seed: int, changed: bool, chunk: int) -> None:
    h = random_history(seed)
    timeline = h.timeline()
    overrides = (Override(parameter="close_factor", value=9000, from_block=20),) if changed else ()
    scenario = Scenario(liquidators=Competitive(max_calls=3, gas_cost=10 * USD), overrides=overrides, from_block=10)
    engine: Engine[object] = Engine(FixedSpreadPool(), h.market, timeline, scenario, ProtocolSpread(), samples=5)
    watch_by(engine, make, timeline)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foresight, "CHUNK", chunk)
        one = _run(engine)
    other = replay(FixedSpreadPool(), h.market, timeline, scenario, screened=False, samples=5)
    assert one.liquidations == other.liquidations
    assert one.totals == other.totals
    assert one.book.state.balances == other.book.state.balances
    assert (one.actions, one.actions_made, one.events) == (other.actions, other.actions_made, other.events)


def test_a_screen_that_forgets_interest_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The property has teeth."""
    monkeypatch.setattr(
        module,
        "index_bounds",
        lambda book, only=None: module.IndexBounds(*([1.0] * len(book.market.assets) for _ in range(4))),
    )
    with pytest.raises(AssertionError):
        _run_checked(range(20), lazy)


def test_a_screen_that_looks_a_tick_late_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    note = Foresight._note
    monkeypatch.setattr(Foresight, "_note", lambda self, row, tick: note(self, row, tick + 1))
    with pytest.raises(AssertionError):
        _run_checked(range(20), foreseeing)


class Charging(FixedSpreadPool):
    """Each liquidation adds a hundredth to what everyone owes of its debt asset: an index that is not history's."""

    def quote(self, state: Any, order: Any, prices: Any, now: Any) -> Any:
        fill = super().quote(state, order, prices, now)
        if isinstance(fill, Refusal):
            return fill
        asset = order.pair.debt_asset
        stored = state.indexes.get(asset)
        rates = (stored.supply_rate, stored.borrow_rate) if stored else (0, 0)
        indexes = [state.index(asset, side, now) for side in ("collateral", "debt")]
        charged = IndexUpdate(
            seq=-1, block_number=now.block_number, log_index=now.log_index, timestamp=now.timestamp, asset=asset,
            supply_index=indexes[0], borrow_index=indexes[1] * 101 // 100, supply_rate=rates[0], borrow_rate=rates[1],
        )  # fmt: skip
        return msgspec.structs.replace(fill, changes=(*fill.changes, charged))


def test_where_a_liquidation_moves_an_index_nothing_is_foreseen_any_more() -> None:
    made = 0
    for seed in range(30):
        h = random_history(seed)
        engine = Checked(Charging(), h.market, h.timeline(), COMPETITIVE, ProtocolSpread())
        assert isinstance(engine.watch, Foresight)
        result = _run(engine)
        made += len(result.liquidations)
        assert isinstance(engine.watch, Screen) == bool(result.liquidations)
        plain = replay(Charging(), h.market, h.timeline(), COMPETITIVE, screened=False)
        assert result.liquidations == plain.liquidations
    assert made > 30


# -- rows, by hand -----------------------------------------------------------------------------------------------------


class Given(FixedSpreadPool):
    """Exposures as given."""

    def __init__(self, given: dict[int, LinearExposure | BoxExposure | None]) -> None:
        self.given, self.asked = given, []

    def exposure(self, state: object, account: int, now: object) -> LinearExposure | BoxExposure | None:
        self.asked.append(account)
        return self.given[account]


def screen_of(protocol: Given, **prices: int) -> tuple[Screen[object], Book[object]]:
    h = History(market(("A", 18), ("B", 18), ("C", 18)))
    book = Book.open(protocol, h.market)
    book.oracle.update({"ABC".index(name): price for name, price in prices.items()})
    screen: Screen[object] = Screen(3)
    for account in protocol.given:
        screen.touch(AccountId(account))
    return screen, book


def test_only_accounts_at_or_below_the_margin_are_candidates() -> None:
    forms = {
        0: LinearExposure({0: 1.0, 1: -1.0}),
        1: LinearExposure({0: 1.0, 1: -1.001}),
        2: LinearExposure({0: 1.1, 1: -1.0}),
        3: None,
    }
    screen, book = screen_of(Given(forms), A=100, B=100)
    assert screen.candidates(book) == [0, 1]
    book.oracle[0] = 90
    assert screen.candidates(book) == [0, 1, 2]


def test_rows_are_asked_for_only_when_touched() -> None:
    protocol = Given({0: LinearExposure({0: 1.0, 1: -0.5}), 1: LinearExposure({2: 1.0, 1: -0.5})})
    screen, book = screen_of(protocol, A=100, B=100, C=100)
    for price in (99, 80, 120):
        book.oracle[0] = price
        screen.candidates(book)
    assert protocol.asked == [0, 1]
    screen.touch_parameter(AssetId(2))
    screen.candidates(book)
    assert protocol.asked == [0, 1, 1]
    screen.touch_parameter(None)
    screen.candidates(book)
    assert protocol.asked == [0, 1, 1, 0, 1]


def test_accounts_far_from_the_edge_are_not_read_until_prices_moved() -> None:
    """An account at a half bears a fall of collateral by a third together with a rise of debt by a third."""
    protocol = Given(
        {a: LinearExposure({0: 1.0, 1: -0.5}) for a in range(500)} | {500: LinearExposure({0: 1.0, 1: -0.999})}
    )
    screen, book = screen_of(protocol, A=1000, B=1000)
    assert screen.candidates(book) == []
    assert screen.read == 501
    for price in (1010, 950, 999.5, 905):
        book.oracle[0] = price
        screen.candidates(book)
    assert screen.read == 501 + 4
    book.oracle[0] = 700
    assert screen.candidates(book) == [500]
    assert screen.read == 501 + 4 + 501


def test_a_loop_is_not_read_again_when_both_its_prices_fall() -> None:
    """What counts is their ratio: values are held in units of what is owed most."""
    protocol = Given(
        {a: LinearExposure({0: 1.0, 1: -0.95}) for a in range(50)} | {50: LinearExposure({2: 1.0, 1: -0.9})}
    )
    screen, book = screen_of(protocol, A=1000, B=1000, C=1000)
    assert screen.candidates(book) == []
    for price in (900, 500, 2000):
        book.oracle.update({0: price, 1: price, 2: price})
        assert screen.candidates(book) == []
    assert screen.read == 51
    book.oracle[1] *= 2
    assert len(screen.candidates(book)) == 51


def test_a_box_is_a_candidate_outside_of_it() -> None:
    screen, book = screen_of(
        Given({0: BoxExposure({0: (90.0, float("inf")), 1: (0.0, 110.0)}), 1: LinearExposure({0: 1.0, 1: -0.1})}),
        A=100,
        B=100,
    )
    assert screen.candidates(book) == []
    book.oracle[0] = 89
    assert screen.candidates(book) == [0]
    book.oracle.update({0: 100, 1: 111})
    assert screen.candidates(book) == [0]
    book.oracle[1] = 110
    assert screen.candidates(book) == []
    del book.oracle[1]
    assert screen.candidates(book) == [0, 1]


def test_an_account_without_exposure_leaves_and_its_row_is_used_again() -> None:
    protocol = Given({0: LinearExposure({0: -1.0})})
    screen, book = screen_of(protocol, A=100)
    assert screen.candidates(book) == [0]
    protocol.given = {0: None, 1: LinearExposure({0: -1.0})}
    screen.touch(AccountId(0))
    screen.touch(AccountId(1))
    assert screen.candidates(book) == [1]


def test_a_form_that_holds_until_a_moment_is_asked_for_after_it() -> None:
    protocol = Given({0: LinearExposure({0: 1.0}, until=100)})
    screen, book = screen_of(protocol, A=100)
    for timestamp, asked in ((50, 1), (100, 1), (101, 2)):
        book.now = type(book.now)(1, 0, timestamp)
        screen.candidates(book)
        assert len(protocol.asked) == asked
