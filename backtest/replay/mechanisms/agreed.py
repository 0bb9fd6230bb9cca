"""Mechanisms that settle at once at terms of their own: they say how much collateral goes for how much debt, the
protocol does the rest.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backtest import scenario as config
from backtest.errors import ScenarioError
from backtest.model import AccountId, AssetId
from backtest.protocols.book import Book
from backtest.protocols.interface import AccountView, Holding, Order, Pair, Refusal, State
from backtest.protocols.mechanism import Immediate, Opportunity, spread
from backtest.replay.mechanisms.sizing import (
    debt_to_target_up,
    discount_factor_down,
    harmless_down,
    health_bonus_down,
    repaid_up,
    seized_down,
)
from backtest.units import BPS, WAD


@dataclass(frozen=True, slots=True)
class Terms:
    """What one call gives: ``factor`` (wad) and the most debt of the pair it may repay, native units."""

    factor: int
    most: int


def sale(
    book: Book[State],
    account: AccountId,
    pair: Pair,
    liquidator: AccountId,
    terms: Terms,
    held: int,
    *,
    receive_collateral_token: bool = False,
) -> Opportunity | Refusal:
    """As much as the terms allow; where the collateral ``held`` is worth less, all of it; where that would leave dust,
    what leaves none.
    """
    prices = (
        book.oracle[pair.debt_asset],
        book.units[pair.debt_asset],
        book.oracle[pair.collateral_asset],
        book.units[pair.collateral_asset],
    )

    def order(repay: int) -> Order:
        seize = seized_down(repay, *prices, terms.factor)
        if seize > held:
            seize, repay = held, min(repay, repaid_up(held, *prices, terms.factor))
        return Order(
            account,
            pair,
            liquidator,
            repay=repay,
            seize=seize,
            agreed=True,
            receive_collateral_token=receive_collateral_token,
        )

    asked = order(terms.most)
    if not asked.repay or not asked.seize:
        return Refusal("too small")
    fill = book.protocol.quote(book.state, asked, book.prices, book.now)
    if isinstance(fill, Refusal) and fill.instead is not None:
        asked = order(min(fill.instead, terms.most))
        fill = book.protocol.quote(book.state, asked, book.prices, book.now)
    return fill if isinstance(fill, Refusal) else Opportunity(asked, fill, spread(book, fill))


def weight_of(book: Book[State], account: AccountId, asset: AssetId) -> int:
    """How much of a collateral's value counts towards health, wad. ScenarioError where the protocol does not say."""
    weight = book.protocol.weight(book.state, account, asset)
    if weight is None:
        raise ScenarioError(
            f"mechanism: {book.protocol.name} does not say what a collateral counts",
            "use a mechanism that does not aim at a health",
        )
    return weight


class Agreed(Immediate[Any]):
    """Both amounts of an order by terms of its own (``Order.agreed``)."""

    @abstractmethod
    def terms(
        self, book: Book[State], account: AccountId, pair: Pair, view: AccountView, debt: Holding, collateral: Holding
    ) -> Terms | None:
        """What a call gives now; None: nothing."""
        ...

    def opportunities(
        self, book: Book[State], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """One for each pair."""
        pairs = book.protocol.pairs(book.state, account, book.prices, book.now)
        if not pairs:
            return ()
        view = book.protocol.view(book.state, account, book.prices, book.now)
        holdings = {h.asset: h for h in book.protocol.holdings(book.state, account, book.now)}
        found: list[Opportunity | Refusal] = []
        for pair in pairs:
            debt, collateral = holdings[pair.debt_asset], holdings.get(pair.collateral_asset)
            if collateral is None:  # all of it is sold, and the rest of the debt has nothing behind it
                found.append(Refusal("no collateral"))
                continue
            terms = self.terms(book, account, pair, view, debt, collateral)
            if terms is not None:
                tokens = receive_collateral_token
                found.append(
                    sale(book, account, pair, liquidator, terms, collateral.collateral, receive_collateral_token=tokens)
                )
        return found


class Fixed(Agreed):
    """See ``scenario.FixedSpread``."""

    name = "fixed-spread"

    def __init__(self, config: config.FixedSpread) -> None:
        self._factor, self._close = config.bonus * WAD // BPS, config.close_factor

    def terms(
        self, book: Book[State], account: AccountId, pair: Pair, view: AccountView, debt: Holding, collateral: Holding
    ) -> Terms | None:
        """The same for everybody."""
        return Terms(self._factor, debt.debt * self._close // BPS)


class ByHealth(Agreed):
    """See ``scenario.HealthBonus``."""

    name = "health-bonus"

    def __init__(self, config: config.HealthBonus) -> None:
        self._config = config

    def terms(
        self, book: Book[State], account: AccountId, pair: Pair, view: AccountView, debt: Holding, collateral: Holding
    ) -> Terms | None:
        """The worse the health, the larger the bonus."""
        if view.health is None:
            return None
        config = self._config
        factor = harmless_down(
            health_bonus_down(view.health, config.bonus, config.least, config.lowest),
            view.collateral_base,
            view.debt_base,
        )
        return Terms(factor, debt.debt * config.close_factor // BPS)


class ToTarget(Agreed):
    """See ``scenario.TargetHealth``."""

    name = "target-health"

    def __init__(self, config: config.TargetHealth) -> None:
        self._factor, self._target, self._dust = config.bonus * WAD // BPS, config.target * WAD // BPS, config.dust

    def terms(
        self, book: Book[State], account: AccountId, pair: Pair, view: AccountView, debt: Holding, collateral: Holding
    ) -> Terms | None:
        """Just enough, as far as the pair goes."""
        if view.health is None:
            return None
        weight = weight_of(book, account, pair.collateral_asset)
        value = debt_to_target_up(view.debt_base, view.health, self._target, self._factor, weight)
        most = debt.debt
        if value is not None:
            most = min(most, -(-value * book.units[pair.debt_asset] // book.oracle[pair.debt_asset]))
        if most < debt.debt and book.value_down(pair.debt_asset, debt.debt - most) < self._dust:
            most = debt.debt
        return Terms(self._factor, most)


class Discounted(Agreed):
    """See ``scenario.HealthDutch``."""

    name = "dutch-health"

    def __init__(self, config: config.HealthDutch) -> None:
        self._most = config.most

    def terms(
        self, book: Book[State], account: AccountId, pair: Pair, view: AccountView, debt: Holding, collateral: Holding
    ) -> Terms | None:
        """All of the debt at the discount of the moment."""
        return None if view.health is None else Terms(discount_factor_down(view.health, self._most), debt.debt)
