"""How much a searcher asks for, where that is not as much as the rules allow."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from backtest.model import AccountId
from backtest.protocols.book import Book
from backtest.protocols.interface import Fill, Order, Pair, Refusal, State
from backtest.protocols.mechanism import Opportunity, spread
from backtest.replay.competition.costs import CostModel
from backtest.units import WAD

HALVINGS = 7
"""Sizes that are tried: all of it, a half, a quarter, down to 1/128."""
_ROUNDING = 4
"""Base units by which the first step stays below the computed one: values and health are cut to whole units on the
way.
"""


def of_size(book: Book[State], offer: Opportunity, repay: int) -> Opportunity | None:
    """The same liquidation for a smaller repayment; None where the rules refuse it."""
    order: Order = replace(offer.order, repay=repay, repay_scaled=None, seize=None)
    fill = book.protocol.quote(book.state, order, book.prices, book.now)
    if isinstance(fill, Refusal) or not fill.repaid:
        return None
    return replace(offer, order=order, fill=fill, profit=spread(book, fill))


class Sizes:
    """Smaller sizes of offers, quoted once: what they would do stands as long as the offer's own fill does."""

    def __init__(self) -> None:
        self._known: dict[tuple[AccountId, Pair], tuple[Fill, list[Opportunity | None]]] = {}

    def clear(self) -> None:
        """A new moment: all is quoted anew."""
        self._known.clear()

    def best(self, book: Book[State], costs: CostModel, offer: Opportunity) -> Opportunity:
        """Of all that may be repaid and its halvings, what leaves most after costs. Where prices answer to sales, what
        is left rises with size up to the best and falls from there, so that the first smaller size which leaves less
        ends the search.
        """
        answers = costs.seat is not None
        if offer.opens or offer.lot is not None or not (costs.terms.slippage or answers):
            return offer
        best, most = offer, costs.charged(book, offer, flash=True).rent
        for smaller in self._halved(book, offer):
            rent = costs.charged(book, smaller, flash=True).rent
            if rent > most:
                best, most = smaller, rent
            elif answers and not costs.terms.slippage:
                break
        return best

    def _halved(self, book: Book[State], offer: Opportunity) -> Iterator[Opportunity]:
        """Those that the rules accept, the largest first, at the market's prices of now."""
        key = offer.order.account, offer.order.pair
        fill, sizes = self._known.get(key, (None, []))
        if fill is not offer.fill:
            sizes = []
            self._known[key] = offer.fill, sizes
        for place in range(HALVINGS):
            if place == len(sizes):
                sizes.append(of_size(book, offer, offer.fill.repaid >> (place + 1)))
                found = sizes[place]
            elif (found := sizes[place]) is not None:
                found = sizes[place] = replace(found, profit=spread(book, found.fill))
            if found is not None:
                yield found


def first_step(book: Book[State], offer: Opportunity) -> Opportunity | None:
    """The largest liquidation after which the account is still unhealthy, where the whole offer would heal it (Qin et
    al., IMC 2021).

    Repaying r takes LT (1 + i) r of the weighted collateral B and r of the debt D: still unhealthy while r < (D - B) /
    (1 - LT (1 + i)). None where the whole offer leaves it unhealthy as well, or where the protocol does not say what
    its collateral counts.
    """
    fill, pair = offer.fill, offer.order.pair
    repaid = book.value_down(pair.debt_asset, fill.repaid)
    weight = book.protocol.weight(book.state, offer.order.account, pair.collateral_asset)
    if offer.opens or offer.lot is not None or weight is None or not repaid:
        return None
    view = book.protocol.view(book.state, offer.order.account, book.prices, book.now)
    if view.health is None:
        return None
    taken = book.value_down(pair.collateral_asset, fill.seized + fill.protocol_fee)
    missing = view.debt_base - view.debt_base * view.health // WAD
    kept = WAD - weight * taken // repaid
    if kept <= 0:
        return None
    first = missing * WAD // kept - _ROUNDING
    if first >= repaid or first <= 0:
        return None
    return of_size(book, offer, fill.repaid * first // repaid)
