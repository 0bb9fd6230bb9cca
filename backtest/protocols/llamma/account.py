"""Health, what an account is worth, and when it needs a look.

Source: curvefi/curve-stablecoin at 58289a42, ``contracts/Controller.vy`` ``_health``, ``get_y_effective``,
``_calculate_debt_n1``, ``max_p_base``, ``max_borrowable``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.interface import AccountView, Exposure, Figure, Holding, LinearExposure
from backtest.protocols.llamma.amm import DEAD_SHARES, MOST_BANDS, MOST_SKIPPED, RECENT_BANDS, AmmTerms
from backtest.protocols.llamma.math import AmmReverts, floor_bands, ln_wad, log2_wad
from backtest.protocols.llamma.state import BORROWED, COLLATERAL, LlammaState, Loan
from backtest.units import WAD

LEAST_BANDS = 4
_SPARE_BANDS = 5
_EVERYWHERE = LinearExposure({}, constant=-1.0)
"""A look at every decision."""
_MARGIN = WAD // 10**9


def oracle_price(state: LlammaState, prices: Mapping[AssetId, int], now: Clock) -> int:
    """The oracle's price as the AMM takes it (``AMM.price_oracle``); PriceMissing where the oracle has none, or bands
    do not mean what they did."""
    price = prices.get(COLLATERAL)
    if not price or state.is_regridded:
        raise PriceMissing(state.market.assets[COLLATERAL].symbol)
    return state.amm.limited(price, now.timestamp)[0]


def _cut(a: int, b: int) -> int:
    return a // b if a >= 0 else -(-a // b)


def health(state: LlammaState, loan: Loan, debt: int, price: int, time: int, *, full: bool, discount: int) -> int:
    """Health of a loan, wad: below zero others may liquidate it (``Controller._health``).

    ``full``: with what the collateral is worth above its bands, where the price is above them.
    """
    amm, terms = state.amm, state.amm.terms
    worth = amm.worth_down(loan.shares, loan.first, price, time)
    found = _cut(worth * (WAD - discount), debt) - WAD
    if full and loan.first > amm.active:
        up = amm.up(loan.first, time)
        if price > up:
            held = amm.held_down(loan.shares, loan.first)[1]
            found += (price - up) * held * terms.collateral_scale // (debt * terms.borrowed_scale)
    return found


def y_effective_down(collateral: int, bands: int, discount: int, terms: AmmTerms) -> int:
    """Collateral (18 decimals) over so many bands, as what the top of the first is worth, less a discount (wad)
    (``get_y_effective``).
    """
    kept = WAD - min(discount + DEAD_SHARES * WAD // max(collateral // bands, DEAD_SHARES), WAD)
    ratio = terms.amplification * 10**36 // (terms.amplification - 1)
    each = collateral * kept // (isqrt(ratio) * bands)
    total = each
    for _ in range(1, bands):
        each = each * (terms.amplification - 1) // terms.amplification
        total += each
    return total


def _bands_down(ratio: int, terms: AmmTerms) -> int:
    """How many bands a ratio (wad) is, rounded down, by the controller's own logarithms, which are not the AMM's to the
    last digit: binary ones in June 2023.
    """
    log = ln_wad if terms.revision >= RECENT_BANDS else log2_wad
    return floor_bands(log(ratio), log(terms.amplification * WAD // (terms.amplification - 1)))


def first_band(state: LlammaState, collateral: int, debt: int, bands: int, price: int, time: int) -> int:
    """The band that a loan begins in, so that its bands carry the debt (``_calculate_debt_n1``); Reverts where no band
    does.
    """
    if debt <= 0:
        raise AmmReverts("no loan")
    amm, terms = state.amm, state.amm.terms
    active, base = amm.active, amm.up(amm.active, time)
    effective = y_effective_down(collateral * terms.collateral_scale, bands, state.loan_discount, terms)
    ratio = effective * base // (debt * terms.borrowed_scale + 1)
    if ratio <= 0:
        raise AmmReverts("too little collateral")
    n = min(_bands_down(ratio, terms), MOST_SKIPPED - bands) + active
    if n <= active and not amm.can_skip(n - 1):
        raise AmmReverts("the debt is too high")
    if amm.up(n, time) >= price:
        raise AmmReverts("the debt is too high")
    return n


def _highest_base(state: LlammaState, price: int, time: int) -> int:
    """The highest upper edge that a deposit can have (``max_p_base``)."""
    amm, terms = state.amm, state.amm.terms
    ratio, least = amm.base_price_down(time) * WAD // price, amm.active_after_skip()
    if terms.revision >= RECENT_BANDS:
        n = max(_bands_down(ratio, terms) + _SPARE_BANDS, least + 1)
    else:
        bands = WAD * terms.amplification // (terms.amplification - 1)
        n = _cut(log2_wad(ratio), log2_wad(bands)) + _SPARE_BANDS
    base = amm.up(n, time)
    for _ in range(MOST_SKIPPED + 1):
        n -= 1
        if n <= least:
            break
        before, base = base, base * terms.amplification // (terms.amplification - 1)
        if base > price:
            return before
    return base


def most_debt_down(state: LlammaState, collateral: int, bands: int, price: int, time: int) -> int:
    """The most that so much collateral lets an account owe, native, whatever the controller has to lend
    (``max_borrowable``).
    """
    if not LEAST_BANDS <= bands <= MOST_BANDS:
        return 0
    terms = state.amm.terms
    effective = y_effective_down(collateral * terms.collateral_scale, bands, state.loan_discount, terms)
    most = max(effective * _highest_base(state, price, time) // WAD, 1) - 1
    return most * (WAD - 10**14) // (WAD * terms.borrowed_scale)


def view(state: LlammaState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> AccountView:
    """Value of both tokens in the bands, debt, and one more than the full health (so that below one is liquidatable).
    The AMM's account has nothing.
    """
    loan, time, amm = state.loan(account), now.timestamp, state.amm
    if account not in state.loans:
        return AccountView(0, 0, None)
    price = oracle_price(state, prices, now)
    x, y = amm.held_down(loan.shares, loan.first)
    raw, units = prices[COLLATERAL], [state.market.unit(asset.id) for asset in state.market.assets]
    one = prices.get(BORROWED, 10 ** (state.market.price_decimals or state.market.base_decimals))
    collateral = y * raw // units[COLLATERAL] + x * one // units[BORROWED]
    debt = state.debt_up(loan, time)
    if not debt:
        return AccountView(collateral, 0, None)
    level = WAD + health(state, loan, debt, price, time, full=True, discount=loan.discount)
    power = 0
    if not x and loan.shares:
        try:
            power = most_debt_down(state, y, len(loan.shares), price, time)
        except AmmReverts:
            power = 0
    return AccountView(collateral, debt * one // units[BORROWED], max(level, 0), power * one // units[BORROWED])


def exposure(state: LlammaState, account: AccountId, now: Clock) -> Exposure | None:
    """Safe while the price is above all bands of a loan that nothing was exchanged in: what the bands are worth grows
    with interest as the debt does. Else a look at every decision.
    """
    loan = state.loan(account)
    if not loan.initial:
        return None
    amm, time = state.amm, now.timestamp
    if not loan.shares or loan.first <= amm.active:
        return _EVERYWHERE
    try:
        up = amm.up(loan.first, time)
        debt = state.debt_up(loan, time)
        least = health(state, loan, debt, 2 * up, time, full=False, discount=loan.discount)
    except AmmReverts:
        return _EVERYWHERE
    near_limit = amm.old_price * 5 // 4 <= up * 101 // 100
    if least <= _MARGIN or near_limit:
        return _EVERYWHERE
    decimals = state.market.price_decimals or state.market.base_decimals
    edge = up / WAD
    return LinearExposure({COLLATERAL: WAD / 10**decimals, BORROWED: -edge}, debt={BORROWED: edge}, relative_error=1e-6)


def holdings(state: LlammaState, account: AccountId, now: Clock) -> Sequence[Holding]:
    """Borrowed tokens in the account's bands, and its debt; collateral in them."""
    loan = state.loan(account)
    x, y = state.amm.held_down(loan.shares, loan.first)
    found = (
        Holding(BORROWED, 0, loan.initial, x, state.debt_up(loan, now.timestamp), True),
        Holding(COLLATERAL, loan.deposited, 0, y, 0, True),
    )
    return [one for one in found if one.collateral_scaled or one.debt_scaled or one.collateral or one.debt]


def figures(state: LlammaState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Figure]:
    """``Controller.user_state``, ``AMM.read_user_tick_numbers``, ``get_x_down``, ``get_y_up``, and both healths."""
    loan, time, amm = state.loan(account), now.timestamp, state.amm
    if not loan.shares:
        return ()
    price, symbols = oracle_price(state, prices, now), [asset.symbol for asset in state.market.assets]
    x, y = amm.held_down(loan.shares, loan.first)
    debt = state.debt_up(loan, time)
    found = [
        Figure("collateral in bands", y, symbols[COLLATERAL]),
        Figure("borrowed tokens in bands", x, symbols[BORROWED]),
        Figure("debt", debt, symbols[BORROWED]),
        Figure("first band", loan.first, "band"),
        Figure("last band", loan.last, "band"),
        Figure("x_down", amm.worth_down(loan.shares, loan.first, price, time), symbols[BORROWED]),
        Figure("y_up", amm.worth_down(loan.shares, loan.first, price, time, in_y=True), symbols[COLLATERAL]),
        Figure("liquidation discount", loan.discount, "wad"),
    ]
    if debt:
        for full in (False, True):
            level = health(state, loan, debt, price, time, full=full, discount=loan.discount)
            found.append(Figure("full health" if full else "health", level, "wad"))
    return found
