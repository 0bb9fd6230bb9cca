"""What searchers have only once, however many markets they act in: money, transactions in the mempool, and how many
calls they make in a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from backtest.model import AccountId
from backtest.scenario import Searcher

Lot = tuple[AccountId, int | None]
"""An account of one market, and the open auction meant where there is one."""


class Purse:
    """One for all markets of a replay, in base units of the first of them.

    Attributes:
        capital: by searcher; None: it borrows what it repays. changes: how often anything changed.
    """

    def __init__(self, searchers: Iterable[Searcher]) -> None:
        self.capital: Mapping[str, int | None] = {each.name: each.capital for each in searchers}
        self.changes = 0
        self._stuck: dict[str, int] = {}
        self._lent: dict[str, list[tuple[int, int]]] = {}
        self._tied: dict[tuple[int, Lot], tuple[str, int]] = {}
        self._ties: dict[str, int] = {}
        """By searcher: the sum of what it has tied."""
        self._calls: dict[str, tuple[int, int]] = {}

    def free(self, name: str, now: int, but: tuple[int, Lot] | None = None) -> int | None:
        """Its own money that neither waits to come back nor stands in another auction than ``but``; None: it
        borrows.
        """
        capital = self.capital.get(name)
        if capital is None:
            return None
        waiting = [(back, amount) for back, amount in self._lent.get(name, ()) if back > now]
        self._lent[name] = waiting
        tied = self._ties.get(name, 0)
        if but is not None and (here := self._tied.get(but)) is not None and here[0] == name:
            tied -= here[1]
        return max(0, capital - sum(amount for _, amount in waiting) - tied)

    def lend(self, name: str, back: int, amount: int) -> None:
        """It repaid with its own money, which comes back at that time."""
        self.changes += 1
        self._lent.setdefault(name, []).append((back, amount))

    def tie(self, lot: tuple[int, Lot], name: str, amount: int) -> None:
        """Its bid stands in an auction."""
        self.untie(lot)
        self.changes += 1
        self._tied[lot] = name, amount
        self._ties[name] = self._ties.get(name, 0) + amount

    def untie(self, lot: tuple[int, Lot]) -> None:
        """No bid stands there any more."""
        if (there := self._tied.pop(lot, None)) is not None:
            self.changes += 1
            self._ties[there[0]] -= there[1]

    def stick(self, name: str, until: int) -> None:
        """Its transaction is stuck until then."""
        self.changes += 1
        self._stuck[name] = until

    def stuck(self, name: str) -> int:
        """Until when its transaction was stuck last; 0: never."""
        return self._stuck.get(name, 0)

    @property
    def is_tied(self) -> bool:
        """Whether any bid stands."""
        return bool(self._tied)

    @property
    def returns(self) -> list[int]:
        """When money comes back that is lent now."""
        return [back for lent in self._lent.values() for back, _ in lent]

    @property
    def frees(self) -> list[int]:
        """When somebody can do more than before: money comes back, a transaction is through."""
        return [*self._stuck.values(), *self.returns]

    def called(self, name: str, now: int) -> None:
        """It made a call in the block of this time."""
        self.changes += 1
        self._calls[name] = now, self.calls(name, now) + 1

    def calls(self, name: str, now: int) -> int:
        """How many it made in the block of this time."""
        then, number = self._calls.get(name, (now, 0))
        return number if then == now else 0


class Till:
    """A purse as one market sees it, in that market's base units. ``market`` numbers the markets; ``worth`` is how many
    units of the purse one of these is.
    """

    def __init__(self, purse: Purse, market: int = 0, worth: Fraction = Fraction(1)) -> None:
        self.purse, self._market = purse, market
        self._up, self._down = worth.numerator, worth.denominator

    def free(self, name: str, now: int, but: Lot | None = None) -> int | None:
        """See ``Purse.free``; rounded down, so that what fits here fits there."""
        free = self.purse.free(name, now, None if but is None else (self._market, but))
        return None if free is None else free * self._down // self._up

    def lend(self, name: str, back: int, amount: int) -> None:
        """See ``Purse.lend``."""
        self.purse.lend(name, back, self._units_up(amount))

    def tie(self, lot: Lot, name: str, amount: int) -> None:
        """See ``Purse.tie``."""
        self.purse.tie((self._market, lot), name, self._units_up(amount))

    def untie(self, lot: Lot) -> None:
        """See ``Purse.untie``."""
        self.purse.untie((self._market, lot))

    def _units_up(self, amount: int) -> int:
        return -(-amount * self._up // self._down)
