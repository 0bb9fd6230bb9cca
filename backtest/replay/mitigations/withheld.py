"""Any way of liquidating, with what mitigations withhold of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from backtest.errors import PriceMissing
from backtest.model import AccountId, Clock
from backtest.protocols.book import Book
from backtest.protocols.interface import Refusal, State
from backtest.protocols.mechanism import Bidders, Mechanism, Opportunity
from backtest.replay.competition.opportunities import WITHHELD
from backtest.replay.mitigations.part import Looked, Part
from backtest.replay.record import MitigationEffect


class Withheld(Mechanism[Any]):
    """What ``inner`` offers, as far as every part lets it through. While a part stops everything about an account,
    nothing of it is asked: no auction begins meanwhile, and those that are open go on without takers.
    """

    def __init__(self, inner: Mechanism[Any], parts: Sequence[Part]) -> None:
        self._inner, self._parts = inner, parts
        self.name = inner.name
        self.waiting: set[AccountId] = set()
        """Of whom something was withheld at the last look."""
        self._most: dict[int, dict[AccountId, int]] = {part.place: {} for part in parts}
        """By part and account: the most debt whose liquidation it withheld at one look, base units."""

    @property
    def bidders(self) -> Bidders | None:
        """See ``Mechanism``."""
        return self._inner.bidders

    @bidders.setter
    def bidders(self, bidders: Bidders | None) -> None:
        self._inner.bidders = bidders

    def opportunities(
        self, book: Book[State], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """What every part lets through; what one withholds, as a refusal that names it."""
        self.waiting.discard(account)
        unsafe = bool(book.protocol.pairs(book.state, account, book.prices, book.now))
        if not unsafe:
            for part in self._parts:
                part.recovered(account)
            if account not in self._inner.open_accounts():
                return self._inner.opportunities(
                    book, account, liquidator, receive_collateral_token=receive_collateral_token
                )
        looked = Looked(book, account, unsafe=unsafe)
        try:
            stopping = [part for part in self._parts if part.stops(looked)]
            debt = looked.view.debt_base if stopping and unsafe else 0
        except PriceMissing as missing:
            return [Refusal(missing.what)]
        if stopping:
            return [self._refused(part, account, debt) for part in stopping]
        found = self._inner.opportunities(book, account, liquidator, receive_collateral_token=receive_collateral_token)
        return [offer if isinstance(offer, Refusal) else self._through(looked, offer) for offer in found]

    def _through(self, looked: Looked, offer: Opportunity) -> Opportunity | Refusal:
        passed: Opportunity | None = offer
        for part in self._parts:
            try:
                passed = part.through(looked, offer)
            except PriceMissing as missing:
                return Refusal(missing.what)
            if passed is None:
                debt = looked.book.value_down(offer.order.pair.debt_asset, offer.fill.repaid)
                return self._refused(part, looked.account, debt)
            offer = passed
        return offer

    def _refused(self, part: Part, account: AccountId, debt: int) -> Refusal:
        self.waiting.add(account)
        most = self._most[part.place]
        most[account] = max(debt, most.get(account, 0))
        return Refusal(f"{WITHHELD} ({part.kind})")

    def settle(self, book: Book[State], opportunity: Opportunity) -> int | None:
        """See ``Mechanism``."""
        for part in self._parts:
            part.taken(book, opportunity)
        return self._inner.settle(book, opportunity)

    def open_accounts(self) -> Collection[AccountId]:
        """Those of the way of liquidating, those of whom something is withheld, and those that a part follows."""
        followed = (account for part in self._parts for account in part.follows)
        return {*self._inner.open_accounts(), *self.waiting, *followed}

    def wake(self, now: Clock) -> int | None:
        """When time alone changes what is offered, or may let go what is withheld, or an owner acts."""
        times = [self._inner.wake(now), *(part.wakes(now.timestamp) for part in self._parts)]
        if self.waiting:
            times += [part.lets_go(now.timestamp) for part in self._parts]
        return min((time for time in times if time is not None), default=None)

    @property
    def effects(self) -> list[MitigationEffect]:
        """What each part withheld: of how many accounts, of each the most debt at one look."""
        return [
            part.did("withheld", len(most), sum(most.values()))
            for part in self._parts
            if (most := self._most[part.place])
        ]
