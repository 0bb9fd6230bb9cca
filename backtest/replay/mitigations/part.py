"""One mitigation at work: what it may do at each place where a replay asks.

A part that a scenario switches on overrides what it is about; all else lets everything pass. ``Mitigations`` asks them
in the scenario's order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from msgspec import structs

from backtest.model import AccountId, AssetId, ParamChange, PositionChange, PriceUpdate, SettingChange
from backtest.protocols.book import Book
from backtest.protocols.interface import AccountView, Acted, Refusal
from backtest.protocols.mechanism import Opportunity, spread
from backtest.replay.record import MitigationEffect

Changes = Sequence[PositionChange | SettingChange]


class Looked:
    """One account at one look."""

    def __init__(self, book: Book[Any], account: AccountId, *, unsafe: bool) -> None:
        self.book, self.account, self.unsafe = book, account, unsafe

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return self.book.now.timestamp

    @cached_property
    def view(self) -> AccountView:
        """Its totals and health. PriceMissing where it is not ``unsafe`` and has an asset without a price."""
        book = self.book
        return book.protocol.view(book.state, self.account, book.prices, book.now)


class Part:
    """A mitigation that lets everything pass. Owned by one replay."""

    kind = ""
    place = 0
    moves_prices = False
    """It changes prices that a history holds: nothing about them is known in advance."""

    def round(self, book: Book[Any], event: PriceUpdate) -> PriceUpdate:
        """A round of the oracle from the scenario's first block on, before the book takes it: what it takes instead."""
        return event

    def parameters_due(self) -> Sequence[ParamChange]:
        """Parameters to be set anew, at history's or an override's values, for ``parameter`` to change."""
        return ()

    def parameter(self, change: ParamChange) -> ParamChange:
        """A parameter takes a value: which one instead."""
        return change

    def refuses(self, book: Book[Any], changes: Changes) -> bool:
        """Whether a user's action is not let through."""
        return False

    def locks(self, asset: AssetId, now: int) -> bool:
        """Whether nobody can withdraw an asset now (seconds)."""
        return False

    def turns(self, now: int) -> int | None:
        """The first second after ``now`` at which ``locks`` may change by itself; None: never."""
        return None

    def within(self, book: Book[Any], acted: Acted) -> Callable[[AccountView], bool] | None:
        """How the account of a call that raises its risk may stand after it; None: as the protocol says."""
        return None

    def stops(self, looked: Looked) -> bool:
        """Whether nothing is on offer about an account now, whatever it would be."""
        return False

    def through(self, looked: Looked, offer: Opportunity) -> Opportunity | None:
        """What becomes of an offer; None: it is withheld."""
        return offer

    def recovered(self, account: AccountId) -> None:
        """The account may not be liquidated now."""

    def taken(self, book: Book[Any], offer: Opportunity) -> None:
        """An offer is taken."""

    @property
    def binds_others(self) -> bool:
        """Whether what was just taken changes what it let through of other accounts at this moment."""
        return False

    @property
    def follows(self) -> Sequence[AccountId]:
        """Accounts that it must hear of at every look."""
        return ()

    def lets_go(self, now: int) -> int | None:
        """The first second after ``now`` at which time alone may let through what it withholds; None: never."""
        return None

    def wakes(self, now: int) -> int | None:
        """The first second after ``now`` at which it acts by itself; None: never."""
        return None

    @property
    def effects(self) -> Sequence[MitigationEffect]:
        """What it did beyond withholding, at the end."""
        return ()

    def did(self, effect: str, number: int, value: int = 0, detail: str = "") -> MitigationEffect:
        """An effect of this part."""
        return MitigationEffect(
            place=self.place, kind=self.kind, effect=effect, detail=detail, number=number, value_base=value
        )


def smaller(book: Book[Any], offer: Opportunity, repay: int) -> Opportunity | None:
    """The offer for at most so much debt (native units), at its own price; None where the protocol refuses that, or the
    offer begins an auction, whose size is the protocol's.
    """
    if repay <= 0 or offer.opens:
        return None
    order = offer.order
    if order.agreed:
        assert order.repay is not None
        assert order.seize is not None
        order = structs.replace(order, repay=repay, seize=order.seize * repay // order.repay)
    else:
        order = structs.replace(order, repay=repay, repay_scaled=None, seize=None)
    made = quoted(book, structs.replace(offer, order=order))
    return None if made is None or made.fill.repaid > repay else made


def quoted(book: Book[Any], offer: Opportunity) -> Opportunity | None:
    """The offer with another order, as the protocol quotes it; None where it refuses."""
    fill = book.protocol.quote(book.state, offer.order, book.prices, book.now)
    if isinstance(fill, Refusal) and fill.instead is not None and not offer.order.agreed:
        offer = structs.replace(offer, order=structs.replace(offer.order, repay=fill.instead))
        fill = book.protocol.quote(book.state, offer.order, book.prices, book.now)
    return None if isinstance(fill, Refusal) else structs.replace(offer, fill=fill, profit=spread(book, fill))
