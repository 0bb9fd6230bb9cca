"""Fixed-point arithmetic of Euler's vaults. Every function names its rounding.

Sources: euler-xyz/euler-vault-kit at commit ``5b98b420`` (the release of March 2025), ``src/EVault/shared/Cache.sol``,
``shared/BorrowUtils.sol``, ``shared/LiquidityUtils.sol``, ``shared/types/Owed.sol``, ``Shares.sol``, ``Assets.sol``,
``LTVConfig.sol``, ``AmountCap.sol``, ``shared/lib/ConversionHelpers.sol``, ``RPow.sol``, ``modules/Liquidation.sol``;
``src/InterestRateModels/IRMLinearKink.sol``.
"""

from __future__ import annotations

from backtest.units import BPS, RAY, WAD, mul_div_down, mul_div_up
from backtest.words import rule

DEBT_SHIFT = 31
"""A unit of a token is 2^31 units of debt (Constants.INTERNAL_DEBT_PRECISION_SHIFT)."""
DEBT_UNIT = 1 << DEBT_SHIFT
VIRTUAL_DEPOSIT = 10**6
"""Assets, and shares, that a vault counts beside its own (ConversionHelpers.VIRTUAL_DEPOSIT_AMOUNT)."""
MAX_AMOUNT = (1 << 112) - 1
"""Constants.MAX_SANE_AMOUNT."""
MAX_DEBT = MAX_AMOUNT << DEBT_SHIFT
MAX_RATE = 291_867_278_914_945_094_175
"""Ray a second (Constants.MAX_ALLOWED_INTEREST_RATE)."""
NO_CAP = 10**37
"""A cap that nothing reaches: its code is 0."""
LEAST_SOCIALIZED = 10**6
"""Liquidation.MIN_SOCIALIZATION_LIABILITY_VALUE, base units."""
_WORD = 1 << 256
_KINK_SCALE = (1 << 32) - 1


@rule
def owed_up(debt: int) -> int:
    """Native units of a debt (Owed.toAssetsUp)."""
    return (debt + 2147483647) // 2147483648


@rule
def grown_down(debt: int, accumulator: int, since: int) -> int:
    """A debt now, that was ``debt`` at accumulator ``since`` (BorrowUtils.getCurrentOwed)."""
    return mul_div_down(debt, accumulator, since)


@rule
def assets_down(shares: int, assets: int, total: int) -> int:
    """What shares are worth; ``assets`` and ``total`` shares without the virtual deposit (Shares.toAssetsDown)."""
    return mul_div_down(shares, assets + 1000000, total + 1000000)


@rule
def assets_up(shares: int, assets: int, total: int) -> int:
    """Shares.toAssetsUp."""
    return mul_div_up(shares, assets + 1000000, total + 1000000)


@rule
def shares_down(amount: int, assets: int, total: int) -> int:
    """Assets.toSharesDown."""
    return mul_div_down(amount, total + 1000000, assets + 1000000)


@rule
def shares_up(amount: int, assets: int, total: int) -> int:
    """Assets.toSharesUp."""
    return mul_div_up(amount, total + 1000000, assets + 1000000)


def multiplier_half_up(rate: int, seconds: int) -> int | None:
    """One plus a rate a second, to the power of seconds, ray: each product to nearest (RPow.rpow); None where it
    overflows, and the vault accrues nothing.
    """
    x, n, half = RAY + rate, seconds, RAY // 2
    z = x if n % 2 else RAY
    n //= 2
    while n:
        if x >> 128 or x * x + half >= _WORD:
            return None
        x = (x * x + half) // RAY
        if n % 2:
            if z * x + half >= _WORD:
                return None
            z = (z * x + half) // RAY
        n //= 2
    return z


def accumulated_down(accumulator: int, rate: int, seconds: int) -> int:
    """The interest accumulator after some time at one rate (Cache.initVaultCache)."""
    multiplier = multiplier_half_up(rate, seconds)
    if multiplier is None or accumulator * multiplier >= _WORD:
        return accumulator
    return accumulator * multiplier // RAY


def fee_shares_down(before: int, after: int, cash: int, shares: int, fee: int) -> int:
    """Shares that the fee (basis points) makes of the interest which took all debt from ``before`` to ``after``
    (Cache.initVaultCache): at the rate that they leave, without the virtual deposit.
    """
    assets = (after - before) * fee // (BPS << DEBT_SHIFT)
    if not assets:
        return 0
    total = cash + owed_up(after)
    return total * shares // (total - assets) - shares


@rule
def ltv_at(target: int, initial: int, ends: int, duration: int, now: int) -> int:
    """The liquidation LTV in force, basis points (LTVConfig.getLTV): a lowered one is reached in a straight line."""
    if now >= ends or target >= initial:
        return target
    return target + (initial - target) * (ends - now) // duration


def cap_of(code: int) -> int:
    """What a cap's code of 16 bits says, native units (AmountCap.resolve); ``NO_CAP`` where it is 0."""
    return int(10 ** (code & 63)) * (code >> 6) // 100 if code else NO_CAP


@rule
def discount_factor(adjusted: int, liability: int, max_discount: int) -> int:
    """What a liquidator pays for one of collateral, wad: the health, and no less than the greatest discount (basis
    points) leaves (Liquidation.calculateMaxLiquidation).
    """
    return max(mul_div_down(adjusted, WAD, liability), WAD - WAD * max_discount // BPS)


@rule
def most_liquidated(liability: int, owed: int, balance: int, worth: int, factor: int) -> tuple[int, int]:
    """Native units repaid and shares seized by the greatest call on one collateral (calculateMaxLiquidation).
    ``liability`` and ``worth``: values of the debt and of this collateral, base units; of worthless shares all are
    taken for nothing.
    """
    if worth == 0:
        return 0, balance
    repay_value = liability
    yield_value = mul_div_down(liability, WAD, factor)
    if worth < yield_value:
        repay_value = mul_div_down(worth, factor, WAD)
        yield_value = worth
    return mul_div_down(repay_value, owed, liability), mul_div_down(yield_value, balance, worth)


def kink_rate(cash: int, borrows: int, base: int, slope: int, jump: int, kink: int) -> int:
    """Ray a second (IRMLinearKink.computeInterestRateInternal), and no more than a vault allows; ``kink`` counts in
    parts of 2^32 - 1.
    """
    total = cash + borrows
    used = borrows * _KINK_SCALE // total if total else 0
    rate = base + used * slope if used <= kink else base + kink * slope + (used - kink) * jump
    return min(rate, MAX_RATE)
