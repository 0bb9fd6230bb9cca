"""The opportunity book: who could be liquidated when, at what profit, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from backtest.auctions.bidding import Bid
from backtest.model import AccountId, Clock
from backtest.protocols.book import Book
from backtest.protocols.interface import State
from backtest.protocols.mechanism import Opportunity
from backtest.replay.deferred import Deferred
from backtest.replay.record import Ending, Spell

UNPROFITABLE = "unprofitable"
GAS_ABOVE_CAPS = "gas above caps"
NO_CAPITAL = "no capital"
NOT_INCLUDED = "not included"
ABSENT = "absent"
OVERLOOKED = "overlooked"
STUCK = "transaction stuck"
BUSY = "searchers busy"
WAITING = "waiting"
AUCTIONED = "held back by an oracle auction"
CALLS = "calls per block"

OWNER_ACTED, PRICE_BACK, WITHHELD = "owner acted", "price back", "withheld by a mitigation"

Key = tuple[AccountId, int | None]
"""An account, and the open auction meant where there is one."""


@dataclass(slots=True)
class _Open:
    """An opportunity that nobody took so far. ``offer`` and ``profit`` are of the spell's first look."""

    number: int
    offer: Opportunity
    repaid_base: int
    seized_base: int
    profit: int
    begins: Clock
    ends: Clock
    looks: int
    reason: str


class OpportunityBook:
    """Fed by the engine after each decision. ``spells`` are complete once it is closed."""

    def __init__(self) -> None:
        self.spells: Deferred[Spell] = Deferred()
        self.acted: set[AccountId] = set()
        """Accounts with open opportunities whose owners acted since the last look."""
        self._open: dict[Key, _Open] = {}
        self._next = 0

    @property
    def standing(self) -> int:
        """How many opportunities nobody took so far."""
        return len(self._open)

    def owner_acted(self, account: AccountId) -> None:
        """An account's owner changed its position."""
        if (account, None) in self._open:
            self.acted.add(account)

    def taken(
        self, book: Book[State], offer: Opportunity, profit: int, liquidation: int, bids: tuple[Bid, ...]
    ) -> None:
        """The opportunity is taken now; ``profit`` before bids."""
        key = (offer.order.account, offer.lot)
        known = self._open.pop(key, None)
        if known is not None:
            self._close(key, known, "missed", known.reason)
        number = self._number() if known is None else known.number
        opened = _opened(book, number, offer, profit, "")
        self._close(key, opened, "taken", "", liquidation, bids)
        self.acted.discard(key[0])

    def taken_together(
        self,
        book: Book[State],
        accounts: Sequence[AccountId],
        offer: Callable[[int], tuple[Opportunity, int]],
        liquidation: int,
    ) -> None:
        """The same of liquidations that settle at once, in order, ``liquidation`` being the ordinal of the first. The
        opportunity and profit of each are asked for, by its place, when somebody reads what came of them; ``book`` has
        the prices of the moment then.
        """
        numbers, known = [], []
        for account in accounts:
            before = self._open.pop((account, None), None) if self._open else None
            known.append(before)
            numbers.append(self._number() if before is None else before.number)
        self.acted.difference_update(accounts)

        def spells() -> Iterator[Spell]:  # holds no more than it needs, and not this book
            for place, (account, number, before) in enumerate(zip(accounts, numbers, known, strict=True)):
                if before is not None:
                    yield _spell(account, before, "missed", before.reason)
                opened = _opened(book, number, *offer(place), "")
                yield _spell(account, opened, "taken", "", liquidation + place)

        self.spells.put_off(len(numbers) + sum(before is not None for before in known), spells)

    def taken_in_passing(
        self, accounts: Callable[[], Sequence[AccountId]], offer: Callable[[int], tuple[Book[State], Opportunity, int]],
        count: int, liquidation: int,
    ) -> None:  # fmt: skip
        """The same over many moments, of accounts about which nothing was open; each offer with the book of its
        moment.
        """
        first, self._next = self._next, self._next + count

        def spells() -> Iterator[Spell]:
            for place, account in enumerate(accounts()):
                then, opportunity, profit = offer(place)
                opened = _opened(then, first + place, opportunity, profit, "")
                yield _spell(account, opened, "taken", "", liquidation + place)

        self.spells.put_off(count, spells)

    def look(
        self,
        book: Book[State],
        left: Mapping[Key, tuple[Opportunity, int]],
        missed: Mapping[Key, str],
        withheld: Collection[AccountId] = (),
    ) -> None:
        """What is still on offer after a decision, with its profit before bids, and why it was not taken. What is not
        any more ends: of the accounts in ``withheld`` because a mitigation keeps it back.
        """
        for key in [key for key in self._open if key not in left]:
            gone = self._open.pop(key)
            self._close(key, gone, "missed", gone.reason)
            ended = _opened(book, gone.number, gone.offer, gone.profit, "")
            why = OWNER_ACTED if key[0] in self.acted else WITHHELD if key[0] in withheld else PRICE_BACK
            self._close(key, ended, "expired", why)
        for key, (offer, profit) in left.items():
            reason = missed.get(key, UNPROFITABLE)
            known = self._open.get(key)
            if known is not None and known.reason == reason:
                known.ends = book.now
                known.looks += 1
                continue
            if known is not None:
                self._close(key, known, "missed", known.reason)
            number = self._number() if known is None else known.number
            self._open[key] = _opened(book, number, offer, profit, reason)
        self.acted.clear()

    def close(self) -> None:
        """Nothing more happens: what is open stays missed."""
        for key, known in self._open.items():
            self._close(key, known, "missed", known.reason)
        self._open.clear()

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _close(
        self,
        key: Key,
        known: _Open,
        ending: Ending,
        reason: str,
        liquidation: int | None = None,
        bids: tuple[Bid, ...] = (),
    ) -> None:
        self.spells.append(_spell(key[0], known, ending, reason, liquidation, bids))


def _opened(book: Book[State], number: int, offer: Opportunity, profit: int, reason: str) -> _Open:
    pair, fill = offer.order.pair, offer.fill
    repaid = book.value_down(pair.debt_asset, fill.repaid)
    seized = book.value_down(pair.collateral_asset, fill.seized)
    return _Open(number, offer, repaid, seized, profit, book.now, book.now, 1, reason)


def _spell(
    account: AccountId,
    known: _Open,
    ending: Ending,
    reason: str,
    liquidation: int | None = None,
    bids: tuple[Bid, ...] = (),
) -> Spell:
    return Spell(
        opportunity=known.number,
        account=account,
        begins=known.begins,
        ends=known.ends,
        looks=known.looks,
        debt_asset=known.offer.order.pair.debt_asset,
        collateral_asset=known.offer.order.pair.collateral_asset,
        repaid=known.offer.fill.repaid,
        repaid_base=known.repaid_base,
        seized_base=known.seized_base,
        profit_base=known.profit,
        ending=ending,
        reason=reason,
        liquidation=liquidation,
        bids=bids,
    )
