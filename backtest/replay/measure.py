"""What a replay measures as it runs: totals at sampled blocks, bad debt and its peak, and the outcome at each
horizon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, cast

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.book import Book
from backtest.protocols.interface import State, Views
from backtest.replay.deferred import DeferredMapping
from backtest.replay.record import Deficit, Horizon, Liquidation, MarketTotals
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.impact import views_of
from backtest.scenario import Scenario
from backtest.units import WAD

LATER = {"+1h": 3_600, "+1d": 86_400, "+7d": 7 * 86_400}
"""Horizons after the end of the window, seconds."""
FEW = 4
"""Fewer accounts are valued one by one: arrays would take longer."""


class Onlooker(NamedTuple):
    """Blocks of a replay (increasing, up to the window's end), and who looks at the book at the end of each. A look
    changes nothing.
    """

    blocks: tuple[int, ...]
    look: Callable[[Book[Any]], None]


class Measure(Generic[State]):
    """Sums of one replay from the scenario's first block on, and where they are read off."""

    def __init__(
        self,
        book: Book[State],
        timeline: Timeline,
        scenario: Scenario,
        samples: int,
        outside: Mapping[tuple[AccountId, AssetId], int],
        onlooker: Onlooker | None = None,
    ) -> None:
        self._book, self._timeline, self._taken_out = book, timeline, outside
        self._first = scenario.from_block or 0
        self.end = timeline.last_known_block(scenario.to_block)
        end = timeline.clock_at(self.end)
        later = {label: timeline.block_before(end.timestamp + seconds) for label, seconds in LATER.items()}
        self.short_of = tuple(label for label, block in later.items() if block is None)
        ahead = [("end", self.end), *((label, block) for label, block in later.items() if block is not None)]
        self._ahead = ahead[::-1]
        self.last = ahead[-1][1]
        """The last block that any horizon needs."""
        self._samples = timeline.sample_blocks(samples, self._first, self.end)[::-1]
        self._looks = list(onlooker.blocks[::-1]) if onlooker is not None else []
        self._look = None if onlooker is None else onlooker.look
        self.totals: list[MarketTotals] = []
        self.horizons: list[Horizon] = []
        self._sums = {"liquidations": 0, "deficits": 0, "repaid_base": 0, "seized_base": 0, "protocol_fee_base": 0}
        self._realised = 0
        self.bad_debt = 0
        """Debt written off so far and debt without cover, as of when that was last looked at, base units."""
        self._peak, self._peak_clock = 0, Clock(self._first, -1, timeline.timestamp_from(self._first))

    @property
    def reads(self) -> list[int]:
        """The blocks before which something is still to be read, increasing; nothing is after the last."""
        return sorted({block + 1 for block in (*self._samples, *self._looks, *(block for _, block in self._ahead))})

    @property
    def next_read(self) -> int:
        """The block at whose end something is read next; the last where nothing is."""
        ahead = (block for _, block in self._ahead[-1:])
        return min((*self._samples[-1:], *self._looks[-1:], *ahead), default=self.last)

    @property
    def is_over(self) -> bool:
        """Whether the window's end was measured: what follows counts for later horizons only."""
        return bool(self.horizons)

    def liquidated(self, made: Liquidation) -> None:
        """Count a liquidation. Of auctions: the debt that left the account, and the collateral that its buyers got."""
        if made.clock.block_number >= self._first:
            self.took(
                int(made.takes), made.repaid_base * made.takes, made.seized_base * made.ends, made.protocol_fee_base
            )

    def took(self, liquidations: int, repaid_base: int, seized_base: int, protocol_fee_base: int) -> None:
        """Count several, within the scenario's blocks: the sums of what they took."""
        sums = self._sums
        sums["liquidations"] += liquidations
        sums["repaid_base"] += repaid_base
        sums["seized_base"] += seized_base
        sums["protocol_fee_base"] += protocol_fee_base

    @property
    def realised(self) -> int:
        """Debt written off so far, base units."""
        return self._realised

    @property
    def peak(self) -> int:
        """The most that bad debt was so far, base units."""
        return self._peak

    def passed(self, deficits: int, realised: int, peak: int, peak_clock: Clock | None) -> None:
        """A stretch of decisions: how many more debts were written off, what all come to now, and the most that bad
        debt was, with the moment of it where it is one of these.
        """
        self._sums["deficits"] += deficits
        self._realised, self._peak = realised, peak
        self._peak_clock = peak_clock or self._peak_clock

    def wrote_off(self, deficit: Deficit) -> None:
        """Count debt that the protocol wrote off."""
        if deficit.clock.block_number >= self._first:
            self._sums["deficits"] += 1
            self._realised += deficit.amount_base

    def decided(self, candidates: Sequence[AccountId]) -> None:
        """Liquidators have acted: who owes more than they hold is among the accounts that may be liquidated, in id
        order.
        """
        book = self._book
        if len(candidates) >= FEW and not book.plain:
            short = book.protocol.shortfall(book.state, candidates, book.prices, book.now)
            if short is not None:
                self._peaked(short)
                return
        views = []
        for account in candidates:
            try:
                views.append(book.protocol.view(book.state, account, book.prices, book.now))
            except PriceMissing:
                continue
        self._peaked(sum(max(0, view.debt_base - view.collateral_base) for view in views))

    def pass_to(self, block: int) -> None:
        """Read off what ends before ``block``: samples, then horizons."""
        while self._samples and self._samples[-1] < block:
            self._look_to(self._samples[-1])
            self._book.now = self._timeline.clock_at(self._samples.pop())
            self.totals.append(self._take()[0])
            self._peaked(self.totals[-1].bad_debt_base)
        self._look_to(block)

    def _look_to(self, block: int) -> None:
        """Whoever looks sees what ends before ``block``."""
        while self._look is not None and self._looks and self._looks[-1] < block:
            self._book.now = self._timeline.clock_at(self._looks.pop())
            self._look(self._book)

    @property
    def next_horizon(self) -> int:
        """The block of the next horizon; ValueError after the last."""
        if not self._ahead:
            raise ValueError("every horizon was measured")
        return self._ahead[-1][1]

    def horizon_before(self, block: int) -> str | None:
        """The label of the next horizon that ends before ``block``."""
        return self._ahead[-1][0] if self._ahead and self._ahead[-1][1] < block else None

    def take_horizon(self) -> None:
        """The outcome at the next horizon."""
        label, block = self._ahead.pop()
        self._look_to(block + 1)
        self._book.now = self._timeline.clock_at(block)
        totals, equity = self._take()
        self._peaked(totals.bad_debt_base)
        self.horizons.append(
            Horizon(
                label=label,
                clock=self._book.now,
                totals=totals,
                **self._sums,
                realised_bad_debt_base=self._realised,
                open_bad_debt_base=totals.bad_debt_base,
                peak_bad_debt_base=self._peak,
                peak_clock=self._peak_clock,
                equity=equity,
                outside=self._outside(),
            )
        )

    def _outside(self) -> dict[AccountId, int]:
        """Base units, rounded down, by account; an asset without a price counts nothing."""
        found: dict[AccountId, int] = {}
        for (account, asset), amount in self._taken_out.items():
            found[account] = found.get(account, 0) + amount * self._book.oracle.get(asset, 0) // self._book.units[asset]
        return {account: value for account, value in sorted(found.items()) if value}

    def _peaked(self, open_bad_debt: int) -> None:
        self.bad_debt = total = self._realised + open_bad_debt
        if total > self._peak and self._book.now.block_number >= self._first:
            self._peak, self._peak_clock = total, self._book.now

    def _take(self) -> tuple[MarketTotals, Mapping[AccountId, int]]:
        book = self._book
        views = views_of(book)
        least = views.collateral.minus(views.debt)
        unsafe = views.debt.positive & (views.health[:, 1] == 0) & (views.health[:, 0] < WAD)
        collateral, debt, power = views.collateral.total(), views.debt.total(), views.power.total()
        liquidatable, accounts, bad, unpriced = (
            views.debt.take(unsafe).total(),
            int(unsafe.sum()),
            -least.take(least.negative).total(),
            0,
        )
        for view in views.rest.values():
            if view is None:
                unpriced += 1
                continue
            collateral += view.collateral_base
            debt += view.debt_base
            power += view.borrowing_power_base
            bad += max(0, view.debt_base - view.collateral_base)
            if view.health is not None and view.health < WAD:
                liquidatable += view.debt_base
                accounts += 1
        totals = MarketTotals(
            clock=book.now,
            deficit_base=self._realised,
            collateral_base=collateral,
            debt_base=debt,
            liquidatable_debt_base=liquidatable,
            bad_debt_base=bad,
            borrowing_power_base=power,
            accounts_liquidatable=accounts,
            accounts_unpriced=unpriced,
        )
        return totals, DeferredMapping(lambda: _equity(views))


def _equity(views: Views) -> dict[AccountId, int]:
    """Collateral minus debt by account, in id order; of those whose prices are all known."""
    least = views.collateral.minus(views.debt)
    found = dict(zip(cast("list[AccountId]", views.account.tolist()), least.integers(), strict=True))
    for account, view in views.rest.items():
        if view is not None:
            found[account] = view.collateral_base - view.debt_base
    return dict(sorted(found.items())) if views.rest else found
