"""What is on offer about each account at one moment, quoted when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

from backtest.model import AccountId
from backtest.protocols.interface import Spreads
from backtest.protocols.mechanism import Opportunity


class Offers(Mapping[AccountId, Sequence[Opportunity]]):
    """Accounts with an offer, in order of their ids. What is outdated is quoted anew as the model comes to it: one that
    takes what happens anyway from the first account needs no other, so that auctions of many accounts at once do not
    cost their product. An account that is let be is none of them, though something of it is on offer.
    """

    def __init__(
        self, quote: Callable[[AccountId], Sequence[Opportunity]], accounts: Iterable[AccountId],
        spreads: Callable[[Sequence[AccountId]], Spreads | None] = lambda _: None,
        valued: Callable[[Sequence[Opportunity]], Sequence[Opportunity]] | None = None,
    ) -> None:  # fmt: skip
        """``quote``: what is on offer about an account. ``valued``: the same offers at the market's prices of now,
        where those change nothing else; None: they are quoted anew.
        """
        self.told = False
        """Whether those were asked, by a model that asks once."""
        self._quote, self.spreads = quote, spreads
        """``spreads``: what quotes of many accounts would say of costs and proceeds, without making them; None: cannot
        tell.
        """
        self._valued = valued
        self._found: dict[AccountId, Sequence[Opportunity]] = {}
        self._outdated = set(accounts)
        self._let_be: set[AccountId] = set()
        self.lowered = 0
        """How often what is on offer became worth less,"""
        self._lowered: dict[AccountId, int] = {}
        """as of when each was last valued,"""
        self._all = 0
        """and all were outdated."""

    @property
    def worth_less(self) -> bool:
        """Whether offers that nothing else outdated since all were quoted can only be worth less than they were."""
        return self.lowered > self._all

    @property
    def outdated(self) -> list[AccountId]:
        """Accounts that are to be quoted anew for another reason, in order of their ids."""
        return sorted(self._outdated)

    @property
    def unquoted(self) -> list[AccountId]:
        """Accounts of which nobody asked yet what is on offer, in order of their ids."""
        return sorted(self._outdated)

    def let_be(self, account: AccountId) -> None:
        """Something of this account is on offer, and nobody wants to know what."""
        self._outdated.discard(account)
        self._let_be.add(account)

    def let_all(self, accounts: Set[AccountId]) -> None:
        """The same of many."""
        self._outdated -= accounts
        self._let_be |= accounts

    def nothing(self, accounts: Set[AccountId]) -> None:
        """It is known without quotes that nothing of these accounts, of which nobody asked yet, is on offer."""
        self._outdated -= accounts
        for account in self._found.keys() & accounts:
            del self._found[account]

    def outdate(self, accounts: Iterable[AccountId]) -> None:
        """Their offers, if any, are to be quoted anew."""
        self._outdated.update(accounts)
        self._let_be -= self._outdated

    def lower_all(self) -> None:
        """What is on offer is worth less than it was, whatever else is the same: valued anew when asked for."""
        self.outdate([*self._let_be])
        self.lowered += 1

    def outdate_all(self) -> None:
        """All that have any are to be quoted anew."""
        self.outdate([*self._found, *self._let_be])
        self._all = self.lowered

    def __getitem__(self, account: AccountId) -> Sequence[Opportunity]:
        found = self._found.get(account, ())
        if account in self._outdated or (found and self._lowered[account] < self.lowered):
            try:
                if account in self._outdated or self._valued is None:
                    found = self._quote(account)
                else:
                    found = self._valued(found)
            except KeyError as error:  # which a mapping would take for "nothing on offer", and the old offer for valid
                raise RuntimeError(f"account {account} cannot be quoted: {error!r}") from error
            self._outdated.discard(account)
            self._found[account], self._lowered[account] = found, self.lowered
        if not found:
            self._found.pop(account, None)
            raise KeyError(account)
        return found

    def __iter__(self) -> Iterator[AccountId]:
        for account in sorted(self._found.keys() | self._outdated):
            if not (self.lowered or account in self._outdated) or account in self:
                yield account

    def __bool__(self) -> bool:
        """Whether anything is on offer."""
        return bool(self._let_be) or any(True for _ in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
