"""Several markets in one replay: one clock, and one set of searchers with one purse.

Transactions of all markets are made in the order of their chain: by time, then by block and log index, then in the
order in which the markets were given. Before each, time passes in every market up to that moment: auctions wake up, and
searchers look again at what they left. Where prices answer to sales, a sale in one market moves the prices of all, and
their liquidators look at once, again and again until nobody sells. What one market loses, claims on its deposits lose
in the others at that second (``claims``). Where nothing is shared, or what is shared never runs short, each market's
outcome is that of its replay alone, to the last integer.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from backtest.model import AccountId, AssetId, Market, MarketEvent
from backtest.protocols.interface import LendingProtocol
from backtest.replay.claims import Claims, Deposits
from backtest.replay.competition.gas import NEVER, NO_FEES, BaseFees
from backtest.replay.competition.purse import Purse, Till
from backtest.replay.engine import Engine, mechanism_for
from backtest.replay.measure import Onlooker
from backtest.replay.memory import uncollected
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse
from backtest.replay.shortcuts.common_start import Start
from backtest.replay.timeline import Reader, Timeline
from backtest.scenario import Contest, ReserveFund, Scenario, Searcher

_Place = tuple[int, int, int, int]
"""Of a transaction: time, chain, block, log index of its last event."""
_Told = tuple[int, tuple[object, ...]]
"""What one market may do to another: sales so far, and what is left of each claim."""


@dataclass(frozen=True, slots=True)
class JointPart:
    """One market of a joint replay: its history, and what of the scenario holds in it (``scenario.joint.own``).

    ``worth``: how many units of the purse one of its base units is. ``claims``: assets that are claims on deposits of
    another of the markets (name), and on which token there; one on a market that is not there is an asset as any.
    ``start``: where it goes on from a book that stands; ``backed``: what is supplied there, and debt without cover,
    base units, where that is known. ``without``: accounts that nobody liquidates, and whose debt without cover is no
    loss to those who hold claims; not with a ``start``. ``onlooker``: who looks at its book on the way.
    """

    protocol: LendingProtocol[Any]
    market: Market
    timeline: Timeline
    scenario: Scenario
    worth: Fraction = Fraction(1)
    samples: int = 0
    base_fees: BaseFees = NO_FEES
    claims: Mapping[AssetId, tuple[str, str]] = field(default_factory=dict)
    start: Start[Any] | None = None
    backed: tuple[int, int] | None = None
    without: frozenset[AccountId] = frozenset()
    onlooker: Onlooker | None = None


def replay_jointly(
    parts: Sequence[JointPart],
    *,
    purse: Purse | None = None,
    response: PriceResponse | None = None,
    screened: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[Replay[Any]]:
    """The outcome of each market.

    Args:
        purse: what searchers have once for all markets; None: each market has its own set of them.
        response: prices that answer to sales, of all these markets; None: history's, whatever is sold.
        screened, progress, errors: as those of ``engine.replay``.
    """
    with uncollected():
        tills = [None if purse is None else Till(purse, number, part.worth) for number, part in enumerate(parts)]
        links = linked(parts, response)
        lanes = [
            _Lane(number, part, tills[number], response, screened, links[number]) for number, part in enumerate(parts)
        ]
        together = _Together(lanes, purse, response)
        waiting = [(lane.place, lane.number) for lane in lanes if lane.ahead is not None]
        heapq.heapify(waiting)
        total, reported = sum(len(part.timeline) for part in parts), 0
        while waiting:
            place, number = waiting[0]
            together.pass_time(place[0])
            together.advance(number, place[0])
            if lanes[number].ahead is None:
                heapq.heappop(waiting)
            else:
                heapq.heapreplace(waiting, (lanes[number].place, number))
            if progress is not None and (done := sum(lane.engine.result.events for lane in lanes)) - reported >= 2_000:
                reported = done
                progress(done, total)
        together.pass_time(max(lane.until for lane in lanes))
        return [lane.engine.finish() for lane in lanes]


def purse_of(scenario: Scenario) -> Purse:
    """What the searchers of a scenario have, in its base units; empty where nobody competes."""
    terms = scenario.liquidators
    each: Sequence[Searcher] = terms.each if isinstance(terms, Contest) else ()
    return Purse(each)


def linked(
    parts: Sequence[JointPart], response: PriceResponse | None = None
) -> list[tuple[Deposits | None, Claims | None]]:
    """Of each market: itself as seen by those who hold claims on it, and its claims on others; None where there are
    none.
    """
    names = {part.market.name: number for number, part in enumerate(parts)}
    found: list[dict[AssetId, tuple[int, AssetId]]] = []
    for part in parts:
        own = {}
        for asset, (issuer, token) in part.claims.items():
            number = names.get(issuer)
            stands_for = None if number is None else parts[number].market.asset_named(token)
            if number is not None and stands_for is not None:
                own[asset] = number, stands_for.id
        found.append(own)
    issuers = {number for own in found for number, _ in own.values()}
    deposits = {
        number: Deposits(_reserve(parts[number].scenario), parts[number].backed, parts[number].without)
        for number in sorted(issuers)
    }
    links: list[tuple[Deposits | None, Claims | None]] = []
    for number, (part, own) in enumerate(zip(parts, found, strict=True)):
        answering = frozenset(
            asset.id for asset in part.market.assets if response is not None and response.market_of(asset.asset)
        )
        held = {asset: (deposits[issuer], stands_for) for asset, (issuer, stands_for) in own.items()}
        links.append((deposits.get(number), Claims(held, answering) if held else None))
    return links


def _reserve(scenario: Scenario) -> int:
    return sum(each.reserve for each in scenario.mitigations if isinstance(each, ReserveFund))


class _Lane:
    """One market's engine and what comes next in it."""

    def __init__(
        self,
        number: int,
        part: JointPart,
        till: Till | None,
        response: PriceResponse | None,
        screened: bool,
        link: tuple[Deposits | None, Claims | None],
    ) -> None:
        self.number = number
        self._chain = part.market.chain_id
        self.engine: Engine[Any] = Engine(
            part.protocol,
            part.market,
            part.timeline,
            part.scenario,
            mechanism_for(part.protocol, part.scenario),
            part.samples,
            screened,
            part.start,
            base_fees=part.base_fees,
            response=response,
            till=till,
            deposits=link[0],
            claims=link[1],
            without=part.without,
            onlooker=part.onlooker,
        )
        self.claims = link[1]
        self._reader: Reader = self.engine.transactions()
        self.ahead: Sequence[MarketEvent] | None = next(self._reader, None)
        self.until = self.engine.end.timestamp
        self._last = self.engine.end.block_number

    @property
    def place(self) -> _Place:
        """Of the transaction that comes next."""
        assert self.ahead is not None
        event = self.ahead[-1]
        return event.timestamp, self._chain, event.block_number, event.log_index

    def advance(self) -> None:
        """The next transaction, and those that the compiled loop makes with it."""
        assert self.ahead is not None
        self.engine.advance(self.ahead)
        self.engine.run_ahead(self._reader)
        self.ahead = next(self._reader, None)

    def next_wake(self) -> int:
        """When its liquidators look next by time alone, in its window; ``NEVER``."""
        self.engine.stand()
        time = self.engine.next_wake()
        return NEVER if time is None or time > self.until else time

    def wake_up(self, time: int) -> None:
        """They look."""
        self.engine.wake(time, self._next_block)

    def hear(self, time: int) -> None:
        """Somebody sold in another market, or it lost something."""
        if time <= self.until:
            self.engine.hear(time, self._next_block)

    @property
    def _next_block(self) -> int:
        return self._last + 1 if self.ahead is None else self.ahead[-1].block_number


class _Together:
    """What happens in one market because of another: time that has come, and prices that answer."""

    def __init__(self, lanes: Sequence[_Lane], purse: Purse | None, response: PriceResponse | None) -> None:
        self._lanes, self._purse, self._response = lanes, purse, response
        self._claims = [lane.claims for lane in lanes if lane.claims is not None]
        self._heard: _Told = (0, ())
        """What every market has heard of."""
        self._due = [NEVER] * len(lanes)
        """When each market's liquidators look next by time alone,"""
        self._stale = set(range(len(lanes)))
        """those for which that is to be asked again,"""
        self._changes = -1
        """and the purse's changes when it was asked."""

    def advance(self, number: int, time: int) -> None:
        """A market's next transaction, and what others make of it."""
        self._lanes[number].advance()
        self._stale.add(number)
        self.answer(number, time)

    def pass_time(self, until: int) -> None:
        """What time alone brings, in all markets, in its order."""
        if self._purse is None and self._response is None and not self._claims:
            return
        while True:
            self._ask()
            time = min(self._due)
            if time > until:
                return
            number = self._due.index(time)
            self._lanes[number].wake_up(time)
            self._stale.add(number)
            self.answer(number, time)

    def _ask(self) -> None:
        if (
            self._response is not None
            or self._claims
            or (self._purse is not None and self._purse.changes != self._changes)
        ):
            self._stale.update(range(len(self._lanes)))
        if self._purse is not None:
            self._changes = self._purse.changes
        for number in self._stale:
            self._due[number] = self._lanes[number].next_wake()
        self._stale.clear()

    def answer(self, seller: int, time: int) -> bool:
        """The others hear of what was sold and lost, in order from the seller on, until all have heard of everything;
        whether there was anything.
        """
        if self._response is None and not self._claims:
            return False
        count, told = len(self._lanes), self._told(time)
        if told == self._heard:
            return False
        number, quiet = seller, 0
        while quiet < count - 1:  # all others have heard of the last sale
            number = (number + 1) % count
            self._lanes[number].hear(time)
            before, told = told, self._told(time)
            quiet = quiet + 1 if told == before else 0
        self._heard = told
        return True

    def _told(self, time: int) -> _Told:
        sales = 0 if self._response is None else len(self._response.sales)
        return sales, tuple(claims.reading(time) for claims in self._claims)
