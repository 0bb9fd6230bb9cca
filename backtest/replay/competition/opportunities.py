"""The opportunity book: who could be liquidated when, at what profit, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
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
REACTION = "not reacted yet"
STUCK = "transaction stuck"
BUSY = "searchers busy"
OWN_COSTS = "costs of their own"
"""It pays, but not after what each was drawn to have for costs of its own in this block."""
WAITING = "waiting"
AUCTIONED = "held back by an oracle auction"
CALLS = "calls per block"

OWNER_ACTED, PRICE_BACK, WITHHELD = "owner acted", "price back", "withheld by a mitigation"

_NEVER = Clock(-1, -1, 0)

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
    since: int = 0
    """The look since which it is left as it was."""


class OpportunityBook:
    """Fed by the engine after each decision. ``spells`` are complete once it is closed."""

    def __init__(self) -> None:
        self.spells: Deferred[Spell] = Deferred()
        self.acted: set[AccountId] = set()
        """Accounts with open opportunities whose owners acted since the last look."""
        self._open: dict[Key, _Open] = {}
        self._standing: dict[AccountId, _Open] = {}
        """What is left look after look as it was: the number and the end of its looks are written when that ends."""
        self._looks, self._looked = 0, _NEVER
        """Looks so far, and when the last was."""
        self._next = 0

    @property
    def standing(self) -> int:
        """How many opportunities nobody took so far."""
        return len(self._open) + len(self._standing)

    def owner_acted(self, account: AccountId) -> None:
        """An account's owner changed its position."""
        if (account, None) in self._open or account in self._standing:
            self.acted.add(account)

    def taken(
        self, book: Book[State], offer: Opportunity, profit: int, liquidation: int, bids: tuple[Bid, ...]
    ) -> None:
        """The opportunity is taken now; ``profit`` before bids."""
        key = (offer.order.account, offer.lot)
        self._stirred(key[0])
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
            self._stirred(account)
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
        standing: Set[AccountId] = frozenset(),
    ) -> None:
        """What is still on offer after a decision, with its profit before bids, and why it was not taken; of the
        accounts in ``standing`` the same as at the last look, for the same reason. What is not any more ends: of the
        accounts in ``withheld`` because a mitigation keeps it back.
        """
        for account in self._standing.keys() - standing:
            self._stirred(account)
        for account in standing - self._standing.keys():
            stands = self._standing[account] = self._open.pop((account, None))
            stands.since = self._looks
        self._looks, self._looked = self._looks + 1, book.now
        for key in self._in_order(key for key in self._open if key not in left):
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
        for account in list(self._standing):
            self._stirred(account)
        for key in self._in_order(self._open):
            self._close(key, self._open[key], "missed", self._open[key].reason)
        self._open.clear()

    def _in_order(self, keys: Iterable[Key]) -> list[Key]:
        """In the order in which they were first seen."""
        return sorted(keys, key=lambda key: self._open[key].number)

    def _stirred(self, account: AccountId) -> None:
        """What stood about an account, if anything, does not as a matter of course any more."""
        if (known := self._standing.pop(account, None)) is not None:
            known.looks += self._looks - known.since
            known.ends = self._looked
            self._open[account, None] = known

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
