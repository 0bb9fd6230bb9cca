"""A common start: history up to the first block of a window, made once for all scenarios that change nothing before
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic

from msgspec import structs

from backtest.model import Clock, Market, MarketEvent
from backtest.protocols.book import Book
from backtest.protocols.interface import LendingProtocol, State, Views
from backtest.protocols.mechanism import Mechanism
from backtest.replay.engine import Engine
from backtest.replay.mechanisms import mechanism_of
from backtest.replay.memory import uncollected
from backtest.replay.record import Deficit, Liquidation, Mismatch
from backtest.replay.timeline import Timeline
from backtest.replay.watch.foresight import Foresight
from backtest.replay.watch.screen import Screen
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.users import UserActions
from backtest.scenario import Observed, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Generic[State]):
    """A replay that stands before ``block``. Nothing in it changes: a scenario goes on from copies, which share what
    they do not change.
    """

    timeline: Timeline
    scenario: Scenario
    block: int
    last: MarketEvent | None
    book: Book[State]
    users: UserActions[State]
    watch: Foresight[State]
    events: int
    liquidations: tuple[Liquidation, ...]
    deficits: tuple[Deficit, ...]
    mismatches: tuple[Mismatch, ...]
    rules: dict[str, bool]
    _views: dict[Clock, Views] = field(default_factory=dict, repr=False)
    _screens: list[Screen[State]] = field(default_factory=list, repr=False)

    def screen(self) -> Screen[State]:
        """Of everybody, as read at the start's prices, for a replay whose prices are not known in advance."""
        if not self._screens:
            made = Screen.over(self.watch.rows.copy(), len(self.book.market.assets))
            made.candidates(self.book)
            self._screens.append(made)
        return self._screens[0].copy()

    def views_at(self, clock: Clock, book: Book[State]) -> Views:
        """Every account as the window begins, ``book`` being a copy that nothing has changed: the same for all
        scenarios.
        """
        if clock not in self._views:
            self._views[clock] = views_of(book)
        return self._views[clock]

    def suits(self, timeline: Timeline, scenario: Scenario, first_override: int | None) -> bool:
        """Whether a scenario is the same up to ``block``: same window's begin and users, history's rates, no override
        before.
        """
        mine = self.scenario
        return (
            timeline is self.timeline
            and not isinstance(scenario.liquidators, Observed)
            and (scenario.from_block, scenario.users, scenario.rates) == (mine.from_block, mine.users, mine.rates)
            and (first_override is None or first_override >= self.block)
        )


def start_of(
    protocol: LendingProtocol[State],
    market: Market,
    timeline: Timeline,
    scenario: Scenario,
    *,
    mechanism: Mechanism[State] | None = None,
) -> Start[State]:
    """History up to the scenario's first block, for replays of many scenarios with that first block (``Start.suits``
    says which).

    Raises:
        ValueError: the scenario recomputes interest, or only re-enacts.
        RulesError: see ``replay``.
    """
    with uncollected():
        engine = Engine(
            protocol,
            market,
            timeline,
            structs.replace(scenario, overrides=(), mitigations=()),
            mechanism or mechanism_of(protocol, getattr(scenario.liquidators, "gas_cost", 0)),
        )
        watch, result = engine.watch, engine.result
        if not isinstance(watch, Foresight):
            raise ValueError("no common start: it takes a model that acts, and history's rates")
        for transaction in engine.transactions(result.from_clock.block_number - 1):
            engine.advance(transaction)
        engine.stand()
        watch.candidates(engine.book)  # asks for everyone's exposure, once for all
        views_of(engine.book)  # the same: copies share what it takes to value a whole book
        protocol.compiled_rules(engine.book.state, result.from_clock)  # and what it takes to begin a stretch
    return Start(
        timeline=timeline,
        scenario=scenario,
        block=result.from_clock.block_number,
        last=engine.last,
        book=engine.book,
        users=engine.users,
        watch=watch,
        events=result.events,
        liquidations=tuple(result.liquidations),
        deficits=tuple(result.deficits),
        mismatches=tuple(result.mismatches),
        rules=result.rules,
    )
