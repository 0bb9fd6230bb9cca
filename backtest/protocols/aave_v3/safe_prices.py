"""At which oracle price of one asset an account's health reaches one: by bisection of the exact rule, which is monotone
where this is asked.

Source: GenericLogic.calculateUserAccountData (all versions); ValidationLogic.validateHealthFactor and
validateLiquidationCall, which hold health against HEALTH_FACTOR_LIQUIDATION_THRESHOLD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.aave_v3.account import (
    account_data,
    category_of,
    debts,
    is_collateral,
    liquidation_threshold,
    price_source,
)
from backtest.protocols.aave_v3.rules import health_of_averaged_threshold
from backtest.protocols.aave_v3.state import AaveState
from backtest.protocols.interface import SafePrices
from backtest.units import WAD

_MOST = 2**127
"""No oracle's answer: more than 38 digits do not fit a price."""


def safe_prices(
    state: AaveState, account: AccountId, asset: AssetId, prices: Mapping[AssetId, int], now: Clock
) -> SafePrices | None:
    """See ``LendingProtocol.safe_prices``. A borrow or withdrawal has to meet loan-to-value besides, which is stricter:
    what this bounds is bounded in any case.

    None where health does not move one way with the price: the asset is on both sides of the account, its e-mode has a
    price of its own, or the average of differing thresholds is floored (to 3.4); also where another price is missing.
    """
    book = state.accounts.get(account)
    if book is None or not (book.debt or book.stable):
        return None
    rules, reserves, category = state.rules, state.reserves, category_of(state, book)
    used = [a for a in book.enabled if a in book.collateral and is_collateral(rules, reserves[a])]
    owed = asset in debts(book)
    priced_by_another = price_source(rules, category) is not None
    if (asset in book.collateral) == owed or (not owed and asset not in used) or priced_by_another:
        return None
    thresholds = {liquidation_threshold(rules, reserves[a], book, category) for a in used}
    if not used or (rules.health is health_of_averaged_threshold and len(thresholds) > 1):
        return None

    def safe(price: int) -> bool:
        return account_data(state, account, {**prices, asset: price}, now).health_factor >= WAD

    try:
        found = _first(lambda price: safe(price) != owed, prices.get(asset) or 1)
    except PriceMissing:
        return None
    if found is None or found == 1:
        return None  # safe, or not, at every price
    return SafePrices(most_down=found - 1) if owed else SafePrices(least_up=found)


def _first(holds: Callable[[int], bool], near: int) -> int | None:
    """The least number from one on for which ``holds``, which then holds for every larger one; None: there is none.
    Looked for from ``near`` outwards.
    """
    step = max(1, near // 64)
    if holds(near):
        high = near
        while (low := max(0, high - step)) and holds(low):
            high, step = low, 2 * step
    else:
        low = near
        while (high := low + step) <= _MOST and not holds(high):
            low, step = high, 2 * step
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
