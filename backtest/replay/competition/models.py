"""Who takes a liquidation, when, and what it costs them: the models that a scenario names."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from backtest import scenario as config
from backtest.auctions.bidding import Bid, Bidder
from backtest.model import AccountId, Clock
from backtest.protocols.book import Book
from backtest.protocols.interface import Spreads, State
from backtest.protocols.mechanism import Bidders, Opportunity
from backtest.replay.competition.costs import CostModel
from backtest.replay.competition.opportunities import CALLS, Key
from backtest.replay.competition.strategy import Sizes
from backtest.replay.competition.unprofitable import count_sales, rents, told
from backtest.replay.record import Waterfall

if TYPE_CHECKING:
    from backtest.replay.mechanisms.offers import Offers

COMPETITIVE = "competitive"
"""The one account that stands for all liquidators where they do not differ."""
FRONT_RUNNER = "front-runner"
"""Who copies the winner's transaction."""


class Take(Struct, frozen=True):
    """The opportunity that is taken next, where its bonus goes, by whom (None: the one modelled liquidator), and what
    everybody bid.
    """

    opportunity: Opportunity
    waterfall: Waterfall
    searcher: str | None = None
    bids: tuple[Bid, ...] = ()


class LiquidatorModel(Protocol):
    """One model of competition. Owned by one replay; it may keep capital, pending bids or random draws of its own.

    ``receive_collateral_token``: how it settles. ``stateless``: it keeps nothing between decisions and never wakes by
    itself.
    """

    receive_collateral_token: bool
    stateless: bool

    @property
    def missed(self) -> Mapping[Key, str]:
        """Why it left opportunities at this moment, where that is not that they do not pay."""
        ...

    def choose(self, book: Book[State], open_to: Mapping[AccountId, Sequence[Opportunity]]) -> Take | None:
        """The liquidation that happens next at this moment, or None. Asked again after each one."""
        ...

    def left(
        self, book: Book[State], open_to: Mapping[AccountId, Sequence[Opportunity]]
    ) -> Mapping[Key, tuple[Opportunity, int]]:
        """What stays on offer after a decision, but for what is ``standing``: the best of each account and open
        auction, with its profit before bids.
        """
        ...

    @property
    def standing(self) -> Set[AccountId]:
        """Accounts of which the same is left at this moment for the same reason as at the last one."""
        ...

    def wake(self, now: Clock) -> int | None:
        """The next timestamp after ``now`` at which time alone may make it take what it left; None: never."""
        ...

    @property
    def bidders(self) -> Bidders | None:
        """Who bids where bidding lasts; None: what bidders do is the mechanism's to say."""
        ...


class NobodyElse:
    """Only history's liquidators act: re-enacted by the engine, nobody takes anything else."""

    receive_collateral_token = False
    stateless = True
    missed: Mapping[Key, str] = MappingProxyType({})
    standing: Set[AccountId] = frozenset()
    bidders = None

    def choose(self, book: Book[State], open_to: Mapping[AccountId, Sequence[Opportunity]]) -> Take | None:
        """Nothing."""
        return None

    def left(
        self, book: Book[State], open_to: Mapping[AccountId, Sequence[Opportunity]]
    ) -> Mapping[Key, tuple[Opportunity, int]]:
        """Nothing."""
        return {}

    def wake(self, now: Clock) -> int | None:
        """Never."""
        return None


_Rank = tuple[int, str, int, int]


class Competition:
    """See ``scenario.Competitive``: the most profitable liquidation at once, until none pays."""

    stateless = True

    def __init__(self, terms: config.Competitive, costs: CostModel) -> None:
        self._terms, self._costs = terms, costs
        self.receive_collateral_token = terms.settle == "collateral-token"
        self.missed: dict[Key, str] = {}
        self.standing: set[AccountId] = set()
        self._unprofitable: set[AccountId] = set()
        """Accounts of which something was left at the last look, and did not pay."""
        self._keenest: Bidder | None = None
        """Whoever bids in auctions that last, as of the last look."""
        self._told: Spreads | None = None
        """What was told at this look, where quotes of sales are counted."""
        self._calls: Counter[AccountId] = Counter()
        self._moment = (-1, -1)
        self._ranked: dict[AccountId, tuple[Sequence[Opportunity], tuple[_Rank, Opportunity] | None]] = {}
        """The best of what was open to each account when it was last seen: as good as new while the offers are the same
        ones.
        """
        self._sizes = Sizes()
        self._bounds: list[tuple[_Rank, AccountId]] = []
        """A heap: what each account is worth at most, with ranks that no longer hold among them;"""
        self._exact: dict[AccountId, int] = {}
        """as of which lowering of the offers,"""
        self._bounds_of: Offers | None = None
        """whose."""

    @property
    def by_itself(self) -> bool:
        """Whether it takes of each account what pays most, whatever is open to others: then only the order depends on
        them.
        """
        return self._costs.free and self._terms.pair == "most-profitable" and not self.receive_collateral_token

    @property
    def cost(self) -> int:
        """Of each call, base units, where nothing else costs anything."""
        return self._costs.fixed

    @property
    def most_calls(self) -> int:
        """Per account and moment."""
        return self._terms.max_calls

    def calls(self, book: Book[State]) -> Counter[AccountId]:
        """Those of this moment so far; whoever calls for it adds to them."""
        moment = (book.now.block_number, book.now.timestamp)  # between known blocks auctions wake by time alone
        if moment != self._moment:
            self._moment = moment
            self._calls.clear()
            self._ranked.clear()
            self._sizes.clear()
            self._bounds_of = None
        return self._calls

    def choose(self, book: Book[State], open_to: Mapping[AccountId, Sequence[Opportunity]]) -> Take | None:
        """The paying opportunity with the highest profit; ties by account address, then debt asset, then collateral
        asset.
        """
        from backtest.replay.mechanisms.offers import Offers  # whose package knows this module

        ranked, calls, most = self._ranked, self.calls(book), self._terms.max_calls
        if isinstance(open_to, Offers):
            if self._costs.seat is not None and open_to.worth_less:
                return self._choose_lowered(book, open_to)
            if not open_to.told:
                self._let_unprofitable(book, open_to)
        kept, self._bounds_of = self._costs.seat is None, None
        best: tuple[_Rank, Opportunity] | None = None
        for account, opportunities in open_to.items():
            self.standing.discard(account)  # if it was told, something changed since
            known = ranked.get(account)
            if known is None or known[0] is not opportunities or not kept:
                known = ranked[account] = opportunities, self._best(book, account, opportunities)
            found = known[1]
            if found is not None and (best is None or found[0] < best[0]) and calls.get(account, 0) < most:
                best = found
        return None if best is None else self._taken(book, best[1])

    def _let_unprofitable(self, book: Book[State], open_to: Offers) -> None:
        """As that of ``Searchers``."""
        open_to.told = True
        self.standing, self._told = set(), None
        asked = open_to.unquoted if self._terms.pair == "most-profitable" else []
        if (found := told(open_to, asked, self._costs)) is None:
            return
        known = rents(book, self._costs, found, owned=False)
        open_to.nothing(set(asked).difference(known.account.tolist(), found.rest))
        let = self._unprofitable.intersection(known.account[known.high < 0].tolist()) - found.rest
        open_to.let_all(let)
        self.standing = let
        if self._costs.counts:
            self._told = found
            count_sales(self._costs, found, let, 1)

    def _choose_lowered(self, book: Book[State], open_to: Offers) -> Take | None:
        """The same where most offers are worth less than when they were ranked: those ranks bound what they are worth
        now, so that only as many are asked for again as may be the best.
        """
        ranked, calls, most, now = self._ranked, self.calls(book), self._terms.max_calls, open_to.lowered
        if self._bounds_of is not open_to:
            self._bounds_of, self._exact = open_to, {}
            self._bounds = [(known[1][0], account) for account, known in ranked.items() if known[1] is not None]
            heapq.heapify(self._bounds)
        heap, exact = self._bounds, self._exact

        def rank(account: AccountId) -> None:
            opportunities = open_to.get(account, ())
            found = self._best(book, account, opportunities) if opportunities else None
            ranked[account], exact[account] = (opportunities, found), now
            if found is not None:  # what does not pay now does not later
                heapq.heappush(heap, (found[0], account))

        for account in open_to.outdated:
            rank(account)
        while heap:
            bound, account = heapq.heappop(heap)
            best = ranked[account][1]
            if best is None or best[0] != bound or calls.get(account, 0) >= most:
                continue
            if exact.get(account) == now:
                return self._taken(book, best[1])
            rank(account)
        return None

    def _taken(self, book: Book[State], opportunity: Opportunity) -> Take:
        self.calls(book)[opportunity.order.account] += 1
        return Take(
            opportunity, self._costs.charged(book, opportunity, flash=True, sells=not self.receive_collateral_token)
        )

    def _best(
        self, book: Book[State], account: AccountId, opportunities: Sequence[Opportunity]
    ) -> tuple[_Rank, Opportunity] | None:
        best: tuple[_Rank, Opportunity] | None = None
        for opportunity in of_chosen_pair(self._terms.pair, book, account, opportunities):
            if self._costs.seat is not None:  # its sale moves the price: of all sizes the one that pays most
                opportunity = self._sizes.best(book, self._costs, opportunity)
            profit = self._profit(book, opportunity)
            if profit > 0 or opportunity.always:
                pair = opportunity.order.pair
                rank = (-profit, book.address(account), pair.debt_asset, pair.collateral_asset)
                if best is None or rank < best[0]:
                    best = rank, opportunity
        return best

    def left(
        self, book: Book[State], open_to: Mapping[AccountId, Sequence[Opportunity]]
    ) -> Mapping[Key, tuple[Opportunity, int]]:
        """See ``LiquidatorModel``; where more pays, the calls per block are used up."""
        found: dict[Key, tuple[Opportunity, int]] = {}
        self.missed.clear()
        for account, opportunities in open_to.items():
            for opportunity in of_chosen_pair(self._terms.pair, book, account, opportunities):
                key, profit = (account, opportunity.lot), self._profit(book, opportunity)
                if key not in found or profit > found[key][1]:
                    found[key] = opportunity, profit
                if profit > 0:
                    self.missed[key] = CALLS
        if self._told is not None:
            count_sales(self._costs, self._told, self.standing, 1)
        unprofitable = {account for account, lot in found if lot is None and (account, None) not in self.missed}
        self._unprofitable = unprofitable | self.standing
        return found

    def wake(self, now: Clock) -> int | None:
        """Never: it looks when something changes."""
        return None

    @property
    def bidders(self) -> Bidders | None:
        """Two that are alike bid each other up to what is left after the calls; where those cost nothing, or always the
        same, mechanisms know it.
        """
        return None if self._costs.free else self

    def bidding(self, book: Book[State], account: AccountId, lot: int) -> Sequence[Bidder]:
        """See ``mechanism.Bidders``."""
        return [Bidder(COMPETITIVE, self._costs.bidding_up(book))] * 2

    def keenest(self, book: Book[State], holder: str | None) -> Bidder | None:
        """See ``mechanism.Bidders``: there is always another one alike."""
        costs = self._costs.bidding_up(book)
        if self._keenest is None or self._keenest.costs != costs:
            self._keenest = Bidder(COMPETITIVE, costs)
        return self._keenest

    def bidding_changes(self, now: int) -> int:
        """See ``mechanism.Bidders``."""
        return self._costs.changes_after(now)

    def bidding_from(self, account: AccountId, lot: int, now: int) -> int:
        """See ``mechanism.Bidders``: somebody always is."""
        return self.bidding_changes(now)

    def _profit(self, book: Book[State], opportunity: Opportunity) -> int:
        if self._costs.free:
            return opportunity.profit - self._costs.fixed
        return self._costs.charged(book, opportunity, flash=True, sells=not self.receive_collateral_token).rent


def of_chosen_pair(
    choice: str, book: Book[State], account: AccountId, opportunities: Sequence[Opportunity]
) -> Iterable[Opportunity]:
    """The opportunities that a scenario's field ``pair`` leaves: all (of which ``any`` draws one later), or those with
    the account's largest debt, or largest collateral.
    """
    if choice in ("most-profitable", "any") or len(opportunities) < 2:
        return opportunities
    holdings = book.protocol.holdings(book.state, account, book.now)
    if choice == "largest-debt":
        size = {h.asset: book.value_down(h.asset, h.debt) for h in holdings}
        assets = [o.order.pair.debt_asset for o in opportunities]
    else:
        size = {h.asset: book.value_down(h.asset, h.collateral) for h in holdings}
        assets = [o.order.pair.collateral_asset for o in opportunities]
    largest = min(assets, key=lambda asset: (-size.get(asset, 0), asset))
    return [o for o, asset in zip(opportunities, assets, strict=True) if asset == largest]


def searcher_names(liquidators: config.Liquidators) -> tuple[str, ...]:
    """Who may take an opportunity by name (``Take.searcher``); the first stands for whoever has none."""
    if not isinstance(liquidators, config.Contest):
        return (COMPETITIVE,)
    return (COMPETITIVE, *(searcher.name for searcher in liquidators.each), FRONT_RUNNER)
