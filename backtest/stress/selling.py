"""What it costs to sell the collateral of a path at the depth that its scenario states: a loss beside its bad debt."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from backtest.model import AccountId, AssetId
from backtest.protocols.interface import Holding
from backtest.replay.competition.costs import CostModel
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse
from backtest.replay.what_if.impact import views_of
from backtest.scenario import Scenario
from backtest.units import WAD


@dataclass(frozen=True, slots=True)
class SellingCost:
    """Base units, each rounded up.

    Attributes:
        sold: what liquidations of the path brought less than the market price, by the depth of their moments.
        left: the bad debt that would be added by selling, at once and at the path's end, all collateral of accounts
            that may still be liquidated then.
        unstated: collateral of both whose depth the scenario does not state, which counts as if it sold at its price.
    """

    sold: int
    left: int
    unstated: int


def selling_of(
    ended: Replay[Any], scenario: Scenario, since: int, response: PriceResponse | None = None
) -> SellingCost:
    """Of a path that began at ``since`` (seconds), under the scenario that it was replayed under; ``response``: the
    prices that answered in it.
    """
    market = _Depth(ended, scenario, response)
    sold = unstated = 0
    for made in ended.liquidations:
        if made.clock.timestamp > since and made.ends:
            sold += made.waterfall.slippage
            if not market.states(made.fill.order.pair.collateral_asset):
                unstated += made.seized_base
    left, unsold = market.left() if ended.horizons[0].totals.accounts_liquidatable else (0, 0)
    return SellingCost(sold, left, unstated + unsold)


class _Depth:
    """The end of a path, and what the scenario says of sales."""

    def __init__(self, ended: Replay[Any], scenario: Scenario, response: PriceResponse | None) -> None:
        self._book, self._response = ended.book, response
        self._costs = CostModel.of(scenario.costs, self._book.market, self._book.protocol)

    def states(self, asset: AssetId) -> bool:
        """Whether the scenario says what sales of an asset do."""
        if self._answers(asset):
            return True
        terms = self._costs.slippage_of(asset)
        return terms is not None and (terms.model != "pools" or self._book.sale_down(asset, 1) is not None)

    def left(self) -> tuple[int, int]:
        """``SellingCost.left``, and what of ``unstated`` is there."""
        book, unsafe = self._book, self._unsafe()
        held = {account: list(self._collateral(account)) for account in unsafe}
        amounts = Counter[AssetId]()
        for holdings in held.values():
            for holding in holdings:
                amounts[holding.asset] += holding.collateral
        lost = {asset: self._lost_up(asset, amount) for asset, amount in amounts.items()}
        more = unstated = 0
        for account, (collateral, debt) in unsafe.items():
            short = 0
            for holding in held[account]:
                value, (loss, of) = book.value_down(holding.asset, holding.collateral), lost[holding.asset]
                short += -(-value * loss // of) if of else 0
                unstated += 0 if self.states(holding.asset) else value
            before = max(0, debt - collateral)
            more += max(before, debt - max(0, collateral - short)) - before
        return more, unstated

    def _unsafe(self) -> dict[AccountId, tuple[int, int]]:
        """Collateral and debt of accounts that may be liquidated, base units."""
        views = views_of(self._book)
        mask = views.debt.positive & (views.health[:, 1] == 0) & (views.health[:, 0] < WAD)
        amounts = zip(views.collateral.take(mask).integers(), views.debt.take(mask).integers(), strict=True)
        found = dict(zip(map(AccountId, views.account[np.flatnonzero(mask)].tolist()), amounts, strict=True))
        for account, view in views.rest.items():
            if view is not None and view.health is not None and view.health < WAD:
                found[account] = view.collateral_base, view.debt_base
        return found

    def _collateral(self, account: AccountId) -> list[Holding]:
        book = self._book
        holdings = book.protocol.holdings(book.state, account, book.now)
        return [one for one in holdings if one.collateral and one.collateral_enabled]

    def _answers(self, asset: AssetId) -> bool:
        token = self._book.market.assets[asset].asset
        return self._response is not None and self._response.market_of(token) is not None

    def _lost_up(self, asset: AssetId, amount: int) -> tuple[int, int]:
        """What one sale of ``amount`` brings less than its value at the market price, and that value."""
        book, value = self._book, self._book.proceeds_down(asset, amount)
        if not value or not self.states(asset):
            return 0, value
        if self._response is not None and self._answers(asset):
            return self._response.loss_up(book.market.assets[asset].asset, amount, value, book.now), value
        return self._costs.slippage_up(book, asset, amount, value), value
