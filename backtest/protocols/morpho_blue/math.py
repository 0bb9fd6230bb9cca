"""Fixed-point arithmetic of Morpho Blue and of its interest rate model. Every function names its rounding.

Sources: morpho-org/morpho-blue v1.0.0, ``src/libraries/MathLib.sol``, ``SharesMathLib.sol``, ``ConstantsLib.sol`` and
``Morpho.sol``; morpho-org/morpho-blue-irm, ``src/adaptive-curve-irm/libraries/ExpLib.sol``.
"""

from __future__ import annotations

from backtest.units import WAD, mul_div_down, mul_div_up
from backtest.words import rule

ORACLE_PRICE_SCALE = 10**36
"""A price is loan units per collateral unit, times this (ConstantsLib.ORACLE_PRICE_SCALE)."""
VIRTUAL_SHARES = 10**6
VIRTUAL_ASSETS = 1
LIQUIDATION_CURSOR = 3 * WAD // 10
MAX_INCENTIVE = 115 * WAD // 100


@rule
def to_shares_down(assets: int, total_assets: int, total_shares: int) -> int:
    """SharesMathLib.toSharesDown."""
    return mul_div_down(assets, total_shares + VIRTUAL_SHARES, total_assets + VIRTUAL_ASSETS)


@rule
def to_shares_up(assets: int, total_assets: int, total_shares: int) -> int:
    """SharesMathLib.toSharesUp."""
    return mul_div_up(assets, total_shares + VIRTUAL_SHARES, total_assets + VIRTUAL_ASSETS)


@rule
def to_assets_down(shares: int, total_assets: int, total_shares: int) -> int:
    """SharesMathLib.toAssetsDown."""
    return mul_div_down(shares, total_assets + VIRTUAL_ASSETS, total_shares + VIRTUAL_SHARES)


@rule
def to_assets_up(shares: int, total_assets: int, total_shares: int) -> int:
    """SharesMathLib.toAssetsUp."""
    return mul_div_up(shares, total_assets + VIRTUAL_ASSETS, total_shares + VIRTUAL_SHARES)


@rule
def taylor_compounded_down(rate: int, seconds: int) -> int:
    """exp(rate * seconds) - 1 to the third term, wad; each term is cut from the cut one before
    (MathLib.wTaylorCompounded).
    """
    first = rate * seconds
    second = mul_div_down(first, first, 2 * WAD)
    third = mul_div_down(second, first, 3 * WAD)
    return first + second + third


@rule
def incentive_factor(lltv: int) -> int:
    """The liquidation incentive factor of a market, wad (Morpho.liquidate): min(1.15, 1 / (1 - 0.3 (1 - lltv))), both
    products cut.
    """
    return min(MAX_INCENTIVE, mul_div_down(WAD, WAD, WAD - mul_div_down(LIQUIDATION_CURSOR, WAD - lltv, WAD)))


@rule
def div_to_zero(a: int, b: int) -> int:
    """a / b rounded towards zero, as Solidity divides signed integers; ``b`` > 0."""
    return a // b if a >= 0 else -(-a // b)


_LN_2 = 693_147_180_559_945_309
_LN_WEI = -41_446_531_673_892_822_312
_EXP_BOUND = 93_859_467_695_000_404_319
_EXP_AT_BOUND = 57_716_089_161_558_943_949_701_069_502_944_508_345_128_422_502_756_744_429_568


@rule
def exp_to_zero(x: int) -> int:
    """e to the signed wad ``x``, wad (ExpLib.wExp): 2^q times a second-order series of the rest, which is at most ln(2)
    / 2 from zero.

    0 below ln(1e-18), a constant from about 93.86 on. The shift for a negative ``q`` rounds down.
    """
    if x < _LN_WEI:
        return 0
    if x >= _EXP_BOUND:
        return _EXP_AT_BOUND
    q = div_to_zero(x + (_LN_2 // 2 if x >= 0 else -(_LN_2 // 2)), _LN_2)
    rest = x - q * _LN_2
    series = WAD + rest + rest * rest // WAD // 2
    return series << q if q >= 0 else series >> -q
