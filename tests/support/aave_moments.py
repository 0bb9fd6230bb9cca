"""Liquidations of a moment, in two ways."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from msgspec import structs

from backtest.model import AccountId, Clock, Prices
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.state import AaveState
from backtest.protocols.interface import Fill, Order, Refusal, Together
from tests.support.aave_books import LIQUIDATOR

BORROWERS = (AccountId(0), AccountId(3))


Ending = tuple[list[AccountId], set[tuple[AccountId, str]]]


def spread(state: AaveState, prices: Prices, fill: Fill) -> int:
    pair, unit = fill.order.pair, [reserve.unit for reserve in state.reserves]
    kept = fill.seized * prices.execution.get(pair.collateral_asset, 0) // unit[pair.collateral_asset]
    return kept - -(-fill.repaid * prices.market.get(pair.debt_asset, 0) // unit[pair.debt_asset])


def one_by_one(
    state: AaveState,
    accounts: list[AccountId],
    prices: Prices,
    now: Clock,
    cost: int,
    calls: dict[AccountId, int],
    most: int,
) -> tuple[list[tuple[int, Fill, int | None]], Ending]:
    """Profit, fill and health afterwards of each liquidation; the state is changed."""
    made: list[tuple[int, Fill, int | None]] = []
    on_offer: list[AccountId] = []
    refused: set[tuple[AccountId, str]] = set()
    for account in accounts:
        done = calls.get(account, 0)
        while True:
            offers: list[tuple[int, int, int, Fill]] = []
            for pair in AAVE_V3.pairs(state, account, prices, now):
                order = Order(account, pair, LIQUIDATOR)
                fill = AAVE_V3.quote(state, order, prices, now)
                if isinstance(fill, Refusal) and fill.instead is not None:
                    fill = AAVE_V3.quote(state, structs.replace(order, repay=fill.instead), prices, now)
                if isinstance(fill, Refusal):
                    refused.add((account, fill.reason))
                else:
                    offers.append((-spread(state, prices, fill), pair.debt_asset, pair.collateral_asset, fill))
            best = min(offers, default=None, key=lambda offer: offer[:3])
            if best is None or -best[0] <= cost or done >= most:
                on_offer += [account] * bool(offers)
                break
            for change in best[3].changes:
                AAVE_V3.apply(state, change)
            done += 1
            made.append((-best[0] - cost, best[3], AAVE_V3.view(state, account, prices, now).health))
    return made, (on_offer, refused)


def compare(
    state: AaveState,
    accounts: list[AccountId],
    prices: Prices,
    now: Clock,
    *,
    cost: int = 0,
    calls: dict[AccountId, int] | None = None,
    most: int = 10,
) -> Together | None:
    """Both ways; what the compiled rules say, None where they leave it to the plain ones."""
    plain = deepcopy(state)
    before = {account: AAVE_V3.view(state, account, prices, now).health for account in accounts}
    found = AAVE_V3.together(state, accounts, prices, now, LIQUIDATOR, cost=cost, calls=calls or {}, most=most)
    if found is None:
        return None
    made, (on_offer, refused) = one_by_one(plain, accounts, prices, now, cost, calls or {}, most)
    assert [found.fill(row) for row in range(len(found.account))] == [fill for _, fill, _ in made]
    assert found.profit == [profit for profit, _, _ in made]
    assert found.health_after == [after for _, _, after in made]
    seen: dict[AccountId, int | None] = dict(before)
    for account, then, after in zip(found.account, found.health_before, found.health_after, strict=True):
        assert seen.get(account, then) == then
        seen[account] = after
    for column, name in ((found.repaid, "repaid"), (found.seized, "seized"), (found.protocol_fee, "protocol_fee")):
        assert column == [getattr(fill, name) for _, fill, _ in made]
    assert found.account == [fill.order.account for _, fill, _ in made]
    assert found.on_offer == on_offer
    assert set(found.refused) == refused
    AAVE_V3.settle_together(state, found)
    assert books_of(state) == books_of(plain)
    return found


def books_of(state: AaveState) -> Any:
    accounts = {id: book for id, book in state.accounts.items() if book.collateral or book.debt or book.enabled}
    return accounts, [(r.scaled_supply, r.scaled_debt, r.deficit) for r in state.reserves]
