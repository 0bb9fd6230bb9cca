"""What a Comptroller says of an account, and the linear form that screens accounts.

Source: compound-finance/compound-protocol, ``contracts/Comptroller.sol`` ``getHypotheticalAccountLiquidityInternal``.
The contract takes each cToken as it was stored at its last accrual; so does all that is here, unless it is told to take
some as a call leaves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from types import MappingProxyType

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.compound_v2.math import (
    DEPRECATING,
    MOST_RATE,
    borrow_rate_down,
    mul_down,
    tokens_to_denom,
)
from backtest.protocols.compound_v2.state import MODEL, NOBODY, Account, CompoundState, CTokenMarket
from backtest.protocols.interface import (
    AccountView,
    BoxExposure,
    Exposure,
    Figure,
    Holding,
    LinearExposure,
)
from backtest.units import RAY, SECONDS_PER_YEAR, WAD

Fresh = Mapping[AssetId, CTokenMarket]
"""cTokens as a call leaves them, in the place of the stored ones."""
HORIZON = 86_400
"""Seconds for which an exposure holds."""
_PACE = 8
"""Times as many blocks as the rate models take for that time may come in it."""
_FULL = 11 * WAD // 10
"""Utilisation at which the rate that may come is taken: above one where reserves are lent out."""
EXPOSURE_ERROR = 1e-6


def price_of(state: CompoundState, asset: AssetId, prices: Mapping[AssetId, int]) -> int:
    """PriceOracle.getUnderlyingPrice: USD per native unit, times 1e36; PriceMissing where it is zero or reverts."""
    price = prices.get(asset, 0) // state.units[asset]
    if not price:
        raise PriceMissing(
            f"{state.market.assets[asset].symbol} has no price", "fetch prices, or leave the account out"
        )
    return price


def sums_down(
    state: CompoundState,
    account: Account,
    prices: Mapping[AssetId, int],
    fresh: Fresh,
    effect: tuple[AssetId, int, int] | None = None,
) -> tuple[int, int, int]:
    """sumCollateral and sumBorrowPlusEffects (base units), and the value of the collateral without its factors.

    ``effect``: cTokens redeemed and units borrowed of an asset, which are counted with what is owed. PriceMissing where
    any entered cToken has no price, held or not.
    """
    carried = owed = worth = 0
    for asset in sorted(account.entered):
        pool, price = fresh.get(asset) or state.pools[asset], price_of(state, asset, prices)
        tokens, rate = account.tokens.get(asset, 0), pool.exchange_rate
        each = tokens_to_denom(pool.factor, rate, price, state.revision)
        carried += mul_down(each, tokens)
        owed += mul_down(price, account.owed(asset, pool.index))
        worth += mul_down(price, mul_down(rate, tokens))
        if effect is not None and effect[0] == asset:
            owed += mul_down(each, effect[1])
            owed += mul_down(price, effect[2])
    return carried, owed, worth


def has_shortfall(
    state: CompoundState,
    account: Account,
    prices: Mapping[AssetId, int],
    fresh: Fresh,
    effect: tuple[AssetId, int, int] | None = None,
) -> bool:
    """Whether less is carried than is owed; see ``sums_down``."""
    carried, owed, _ = sums_down(state, account, prices, fresh, effect)
    return owed > carried


def view_of(
    state: CompoundState, account: Account, prices: Mapping[AssetId, int], fresh: Fresh = MappingProxyType({})
) -> AccountView:  # fmt: skip
    """Totals of the entered cTokens; health is what they carry over what is owed, below one where there is a shortfall.
    An account without anything needs no price.
    """
    if not account.holds:
        return AccountView(0, 0, None)
    carried, owed, worth = sums_down(state, account, prices, fresh)
    return AccountView(worth, owed, carried * WAD // owed if owed else None, carried)


def view(state: CompoundState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> AccountView:
    """See ``view_of``: as Comptroller.getAccountLiquidity would find it now."""
    return view_of(state, state.accounts.get(account, NOBODY), prices)


def figures(state: CompoundState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Figure]:
    """Liquidity and shortfall (Comptroller.getAccountLiquidity), what both come from, and of each cToken what
    CToken.getAccountSnapshot returns.
    """
    own = state.accounts.get(account, NOBODY)
    carried, owed, _ = sums_down(state, own, prices, {})
    found = [
        Figure("liquidity", max(carried - owed, 0), "base"),
        Figure("shortfall", max(owed - carried, 0), "base"),
        Figure("borrow_limit", carried, "base"),
        Figure("borrowed", owed, "base"),
        Figure("health_factor", carried * WAD // owed if owed else None, "wad"),
    ]
    for asset in sorted(own.entered | own.tokens.keys() | own.debts.keys()):
        name, pool = state.market.label(asset), state.pools[asset]
        found.append(Figure(f"ctokens of {name}", own.tokens.get(asset, 0), "shares"))
        found.append(
            Figure(f"borrow_balance of {name}", own.owed(asset, pool.index), state.market.assets[asset].symbol)
        )
    return found


def holdings(state: CompoundState, account: AccountId, now: Clock) -> Sequence[Holding]:
    """cTokens and principals as scaled amounts; native units at the stored exchange rate and borrow index."""
    own, found = state.accounts.get(account, NOBODY), []
    for asset in sorted(own.tokens.keys() | own.debts.keys()):
        pool, tokens = state.pools[asset], own.tokens.get(asset, 0)
        principal = own.debts.get(asset, (0, 0))[0]
        held, owed = mul_down(pool.exchange_rate, tokens), own.owed(asset, pool.index)
        found.append(Holding(asset, tokens, principal, held, owed, asset in own.entered))
    return found


def may_grow(state: CompoundState, asset: AssetId, now: Clock) -> tuple[float, float]:
    """By how much a cToken's stored index (first) may fall short of what a call within the horizon accrues it to, and
    by how much its exchange rate may change within it beside history's: factors, at least one.
    """
    pool = state.pools[asset]
    ahead = HORIZON if state.by_second else _PACE * HORIZON * state.periods_per_year // SECONDS_PER_YEAR + 1
    rate = pool.rate
    if pool.model == MODEL:
        full = borrow_rate_down(0, _FULL, _FULL - WAD, pool.base, pool.slope, pool.jump, pool.kink)
        rate = max(rate, min(full, MOST_RATE), min(pool.model_rate(), MOST_RATE))
    behind = max(0, state.period(now) - pool.updated)
    # The screen divides debt by an index that it grows at the rate that was shown.
    shown = exp(pool.shown / RAY * max(0, now.timestamp - pool.shown_at) / SECONDS_PER_YEAR)
    return (1 + rate * (behind + ahead) / WAD) * shown, 1 + rate * (behind + ahead) / WAD


def exposure(state: CompoundState, account: AccountId, now: Clock) -> Exposure | None:
    """A form that is negative before any call could find a shortfall; None without debt.

    A call accrues the two cTokens that it touches, so debts count with what they may grow by until then. Each cToken is
    cut once a unit, which ``constant`` covers. Whoever owes a deprecated market is safe at no price.
    """
    own = state.accounts.get(account, NOBODY)
    if not own.debts:
        return None
    if state.revision == DEPRECATING and any(state.pools[asset].deprecated for asset in own.debts):
        return BoxExposure(dict.fromkeys(own.debts, (1.0, 0.0)))
    weights: dict[AssetId, float] = {}
    debts: dict[AssetId, float] = {}
    constant = 0.0
    for asset in sorted(own.entered):
        tokens, principal = own.tokens.get(asset, 0), own.debts.get(asset)
        if not tokens and principal is None:
            continue
        pool, unit = state.pools[asset], state.market.unit(asset)
        behind, apart = may_grow(state, asset, now)
        carried = tokens * pool.exchange_rate * pool.factor / (WAD * WAD) / apart
        owed = (own.owed(asset, pool.index) + 1) * behind if principal is not None else 0.0
        weights[asset], debts[asset] = (carried - owed) / unit, owed / unit
        constant -= tokens / WAD + 4
    return LinearExposure(
        weights, constant=constant, relative_error=EXPOSURE_ERROR, debt=debts, until=now.timestamp + HORIZON
    )
