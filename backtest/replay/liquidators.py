"""Who takes a liquidation, when, and what it costs them: the models that a scenario names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from backtest import scenario as config
from backtest.model import AccountId
from backtest.protocols import State
from backtest.replay.book import Book
from backtest.replay.mechanism import Opportunity


@dataclass(frozen=True, slots=True)
class Take:
    """The opportunity that is taken next. ``gas`` and ``bid`` (what is paid to be included) are base units."""

    opportunity: Opportunity
    gas: int = 0
    bid: int = 0

    @property
    def profit(self) -> int:
        """What stays with the liquidator, base units."""
        return self.opportunity.profit - self.gas - self.bid


class LiquidatorModel(Protocol):
    """One model of competition. Owned by one replay; it may keep capital, pending bids or random draws of its own.

    ``receive_collateral_token``: how it settles.
    """

    receive_collateral_token: bool

    def choose(self, book: Book[State], open_to: Mapping[AccountId, Sequence[Opportunity]]) -> Take | None:
        """The liquidation that happens next at this moment, or None. Asked again after each one."""
        ...


class NobodyElse:
    """Only history's liquidators act: re-enacted by the engine, nobody takes anything else."""

    receive_collateral_token = False

    def choose(self, book: Book[State], open_to: Mapping[AccountId, Sequence[Opportunity]]) -> Take | None:
        """Nothing."""
        return None


class Competition:
    """See ``scenario.Competitive``: the most profitable liquidation at once, until none pays."""

    def __init__(self, terms: config.Competitive) -> None:
        self._terms = terms
        self.receive_collateral_token = terms.settle == "collateral-token"
        self._calls: Counter[AccountId] = Counter()
        self._moment = (-1, -1)

    def choose(self, book: Book[State], open_to: Mapping[AccountId, Sequence[Opportunity]]) -> Take | None:
        """The paying opportunity with the highest profit; ties by account address, then debt asset, then collateral asset."""
        moment = (book.now.block_number, book.now.timestamp)  # between known blocks auctions wake by time alone
        if moment != self._moment:
            self._moment = moment
            self._calls.clear()
        gas = self._terms.gas_cost
        best: Opportunity | None = None
        best_key: tuple[int, str, int, int] | None = None
        for account, opportunities in open_to.items():
            if self._calls[account] >= self._terms.max_calls:
                continue
            for opportunity in self._of_chosen_pair(book, account, opportunities):
                if opportunity.profit <= gas and not opportunity.always:
                    continue
                pair = opportunity.order.pair
                key = (-opportunity.profit, book.address(account), pair.debt_asset, pair.collateral_asset)
                if best_key is None or key < best_key:
                    best, best_key = opportunity, key
        if best is None:
            return None
        self._calls[best.order.account] += 1
        return Take(best, gas=gas)

    def _of_chosen_pair(self, book: Book[State], account: AccountId, opportunities: Sequence[Opportunity]) -> Iterable[Opportunity]:
        """The opportunities that the field ``pair`` leaves: those with the account's largest debt, or largest collateral."""
        choice = self._terms.pair
        if choice == "most-profitable" or len(opportunities) < 2:
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


def model_of(liquidators: config.Liquidators) -> LiquidatorModel:
    """The model that a scenario asks for."""
    return Competition(liquidators) if isinstance(liquidators, config.Competitive) else NobodyElse()
