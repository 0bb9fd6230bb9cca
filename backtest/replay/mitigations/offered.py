"""What is on offer, and for how much: halts above the toxic frontier, throttles, tiers, bonuses and close factors."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from backtest import scenario as config
from backtest.model import AccountId, AssetId, PositionChange
from backtest.protocols.book import Book
from backtest.protocols.interface import Fill
from backtest.protocols.mechanism import Opportunity
from backtest.replay.mechanisms.sizing import debt_to_target_up
from backtest.replay.mitigations.part import Looked, Part, quoted, smaller
from backtest.replay.record import MitigationEffect
from backtest.units import BPS, WAD


def frontier_down(bonus: int, impact: int = BPS) -> int:
    """The toxic frontier, wad: the loan-to-value above which a liquidation leaves more debt for each collateral,
    1 / ((1 + i) x impact). ``bonus`` (10000 + bonus) and ``impact`` in basis points. Warmuz, Chaudhary and Pinna 2022;
    McFarlane 2025.
    """
    return WAD * BPS * BPS // (bonus * impact)


def worth(book: Book[Any], fill: Fill) -> tuple[int, int]:
    """What is repaid and what leaves the account, fee included: values at oracle prices in one common unit, exact."""
    debt, collateral = fill.order.pair.debt_asset, fill.order.pair.collateral_asset
    return (
        fill.repaid * book.oracle[debt] * book.units[collateral],
        (fill.seized + fill.protocol_fee) * book.oracle[collateral] * book.units[debt],
    )


class Passed:
    """Offers that a mitigation has no say in, for results to tell that it was idle: by account the most debt of one."""

    def __init__(self) -> None:
        self._most: dict[AccountId, int] = {}

    def through(self, looked: Looked, offer: Opportunity) -> Opportunity:
        """As it is, counted; what only goes on with an auction, or liquidates nobody, is not."""
        if looked.unsafe and offer.fill.repaid > 0 and offer.lot is None:
            value = looked.book.value_up(offer.order.pair.debt_asset, offer.fill.repaid)
            self._most[looked.account] = max(value, self._most.get(looked.account, 0))
        return offer

    def effects(self, part: Part) -> list[MitigationEffect]:
        """How many accounts, and their debt."""
        return [part.did("passed", len(self._most), sum(self._most.values()))] if self._most else []


def at_once(looked: Looked, offer: Opportunity) -> bool:
    """It liquidates an account for a price that is known: no step of an auction, and no trade with an account that is
    not liquidatable (a pool in which collateral lies).
    """
    return looked.unsafe and offer.lot is None and not offer.opens and offer.fill.repaid > 0


def closes(looked: Looked, offer: Opportunity) -> bool:
    """It leaves no debt, and writes none off: what the liquidator repays is not all that does (a pool holds some
    of it), so that the ratio of its own two amounts says nothing about the account.
    """
    book, account = looked.book, looked.account
    left = {held.asset: held.debt_scaled for held in book.protocol.holdings(book.state, account, book.now)}
    for change in offer.fill.changes:
        if isinstance(change, PositionChange) and change.account == account and change.side == "debt":
            left[change.asset] = left.get(change.asset, 0) + change.delta
    return not any(left.values()) and not offer.fill.deficits


class Halted(Part):
    """See ``scenario.ToxicHalt``."""

    def __init__(self, terms: config.ToxicHalt) -> None:
        self._impact = terms.impact
        self._whole = Passed()

    def through(self, looked: Looked, offer: Opportunity) -> Opportunity | None:
        """Withheld where debt / collateral exceeds what is repaid / (what leaves x impact)."""
        if not at_once(looked, offer):
            return self._whole.through(looked, offer)
        repaid, leaves = worth(looked.book, offer.fill)
        view = looked.view
        toxic = view.debt_base * leaves * self._impact > view.collateral_base * repaid * BPS
        if toxic and closes(looked, offer):
            return self._whole.through(looked, offer)
        return None if toxic else offer

    @property
    def effects(self) -> Sequence[MitigationEffect]:
        """What it had no say in."""
        return self._whole.effects(self)


class Throttled(Part):
    """See ``scenario.Throttle``. ``asset``: whose liquidations count; None is all."""

    def __init__(self, terms: config.Throttle, asset: AssetId | None) -> None:
        self._most, self._seconds, self._asset = terms.most_repaid, terms.seconds, asset
        self._taken: deque[tuple[int, int]] = deque()
        self._in_use = 0
        self._passed = (-1, 0)
        """The most debt of an offer that was let through whole, at this moment."""
        self._made_smaller: dict[AccountId, int] = {}

    def _counts(self, offer: Opportunity) -> bool:
        here = self._asset is None or offer.order.pair.collateral_asset == self._asset
        return here and offer.lot is None and offer.fill.repaid > 0

    def through(self, looked: Looked, offer: Opportunity) -> Opportunity | None:
        """As much as there is room for."""
        book, debt = looked.book, offer.order.pair.debt_asset
        if not self._counts(offer):
            return offer
        room = self._room(looked.now)
        if (value := book.value_up(debt, offer.fill.repaid)) <= room:
            most = self._passed[1] if self._passed[0] == looked.now else 0
            self._passed = looked.now, max(most, value)
            return offer
        if room * 100 < self._most:
            return None
        fits = smaller(book, offer, room * book.units[debt] // book.oracle[debt])
        if fits is not None:
            self._passed = looked.now, self._most
            cut = value - book.value_up(debt, fits.fill.repaid)
            self._made_smaller[looked.account] = max(cut, self._made_smaller.get(looked.account, 0))
        return fits

    def _room(self, now: int) -> int:
        while self._taken and self._taken[0][0] <= now - self._seconds:
            self._in_use -= self._taken.popleft()[1]
        return self._most - self._in_use

    def taken(self, book: Book[Any], offer: Opportunity) -> None:
        """It takes room until its time is over."""
        if self._counts(offer):
            value = book.value_up(offer.order.pair.debt_asset, offer.fill.repaid)
            self._taken.append((book.now.timestamp, value))
            self._in_use += value

    @property
    def binds_others(self) -> bool:
        """There is less room than something needs that was let through."""
        return self._most - self._in_use < self._passed[1]

    def lets_go(self, now: int) -> int | None:
        """When what was taken first leaves."""
        return next((time + self._seconds for time, _ in self._taken if time + self._seconds > now), None)

    @property
    def effects(self) -> Sequence[MitigationEffect]:
        """What was made smaller."""
        cut = self._made_smaller
        return [self.did("made smaller", len(cut), sum(cut.values()))] if cut else []


class Tiered(Part):
    """See ``scenario.SizeTiers``."""

    def __init__(self, terms: config.SizeTiers) -> None:
        self._tiers = terms.tiers

    def stops(self, looked: Looked) -> bool:
        """Its health is not below what its tier asks for."""
        if not looked.unsafe:
            return False
        view = looked.view
        limit = next((health for size, health in self._tiers if view.debt_base <= size), BPS)
        return view.health is not None and view.health * BPS >= limit * WAD


class Rebated(Part):
    """See ``scenario.DynamicBonus``."""

    def __init__(self, terms: config.DynamicBonus) -> None:
        self._least = terms.least
        self._given: dict[AccountId, int] = {}
        self._whole = Passed()

    def through(self, looked: Looked, offer: Opportunity) -> Opportunity | None:
        """The same debt for less collateral; withheld where the protocol refuses that."""
        if not at_once(looked, offer):
            return self._whole.through(looked, offer)
        book, view, fill = looked.book, looked.view, offer.fill
        collateral = fill.order.pair.collateral_asset
        leaves, repaid = fill.seized + fill.protocol_fee, worth(book, fill)[0]
        # the larger of collateral / debt and the least factor, times what is repaid
        shares = (
            [(self._least, BPS), (view.collateral_base, view.debt_base)] if view.debt_base else [(self._least, BPS)]
        )
        unit = book.oracle[collateral] * book.units[fill.order.pair.debt_asset]
        most = max(repaid * up // (unit * down) for up, down in shares)
        if most >= leaves:
            return offer
        if closes(looked, offer):
            return self._whole.through(looked, offer)
        order = structs.replace(offer.order, repay=fill.repaid, seize=most, repay_scaled=None, agreed=True)
        made = quoted(book, structs.replace(offer, order=order)) if most else None
        if made is not None:
            kept = book.value_down(collateral, leaves - most)
            self._given[looked.account] = max(kept, self._given.get(looked.account, 0))
        return made

    @property
    def effects(self) -> Sequence[MitigationEffect]:
        """What offers left with borrowers, of each account the most at one look."""
        cut = [self.did("bonus cut", len(self._given), sum(self._given.values()))] if self._given else []
        return [*cut, *self._whole.effects(self)]


class ToHealth(Part):
    """See ``scenario.DynamicCloseFactor``."""

    def __init__(self, terms: config.DynamicCloseFactor) -> None:
        self._target = terms.target * WAD // BPS
        self._made_smaller: dict[AccountId, int] = {}
        self._whole = Passed()

    def through(self, looked: Looked, offer: Opportunity) -> Opportunity | None:
        """Just enough; what the protocol refuses to be made smaller (dust, a whole account) stays as it is."""
        book, fill = looked.book, offer.fill
        health = looked.view.health
        if not at_once(looked, offer) or health is None:
            return self._whole.through(looked, offer)
        pair = fill.order.pair
        weight = book.protocol.weight(book.state, looked.account, pair.collateral_asset)
        assert weight is not None  # asked before the replay begins
        repaid, leaves = worth(book, fill)
        value = debt_to_target_up(looked.view.debt_base, health, self._target, leaves * WAD // repaid, weight)
        if value is None:
            return offer
        enough = -(-value * book.units[pair.debt_asset] // book.oracle[pair.debt_asset])
        if enough >= fill.repaid:
            return offer
        made = smaller(book, offer, enough)
        if made is None:
            return self._whole.through(looked, offer)
        cut = book.value_down(pair.debt_asset, fill.repaid - made.fill.repaid)
        self._made_smaller[looked.account] = max(cut, self._made_smaller.get(looked.account, 0))
        return made

    @property
    def effects(self) -> Sequence[MitigationEffect]:
        """What was made smaller, and what it had no say in."""
        cut = self._made_smaller
        made = [self.did("made smaller", len(cut), sum(cut.values()))] if cut else []
        return [*made, *self._whole.effects(self)]
