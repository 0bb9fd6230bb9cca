"""Scaled balances from token events, in plain integers.

aTokens and debt tokens store scaled balances and log amounts that include interest. How a log gives back the stored
change depends on the token's implementation:

- half-up (until 3.4; ``ScaledBalanceTokenBase._mintScaled``, ``_burnScaled``): the log's value and interest give the
  amount of the call, which was divided by the index and rounded to nearest.
- directed (from 3.5; same file, amounts scaled by ``libraries/helpers/TokenMath.sol``): the log holds the difference of
  two rounded balances; the stored balance after it is the only integer that rounds to the balance that follows
  (an index is at least one ray, so balances of neighbouring integers differ).
- discounted (the GHO debt token until 3.3; ``GhoVariableDebtToken`` in aave/gho-core): half-up, and part of the
  interest is forgiven by burning it; the part is what accrued interest exceeds the logged interest by.

``BalanceTransfer`` logs the scaled amount, except in aTokens from before 2022-11-15 (aave/aave-v3-core commit
ab07a4ee),
which logged the amount itself: ``unscaled_transfers``.
"""

from __future__ import annotations

from typing import Literal

from backtest.errors import RulesError
from backtest.protocols.aave_v3.math import (
    ray_div_down,
    ray_div_half_up,
    ray_div_up,
    ray_mul_down,
    ray_mul_half_up,
    ray_mul_up,
)
from backtest.words import rule

Kind = Literal["collateral", "debt"]

HALF_UP, DIRECTED_COLLATERAL, DIRECTED_DEBT, DISCOUNTED = 0, 1, 2, 3
"""Rounding rules of a token: how its Mint and Burn logs give back scaled balances."""

DIRECTED_FROM_POOL = 9
"""First pool revision (3.5) whose tokens round in one direction."""

_NO_DISCOUNT_FROM_POOL = 8
_NEWEST = {"collateral": 5, "debt": 6}
_HALF_UP_UNTIL = 3

MARCH_2022_POOL = "0x794a61358d6845594f94dc1db02a252b5b4814ad"
"""The pool of the markets opened in March 2022 (Polygon, Arbitrum, Optimism, Avalanche, Fantom, Harmony): one address
on all chains.
"""


def rounding(kind: Kind, revision: int, pool_revision: int, discounted: bool, where: str) -> int:
    """The rounding rule of a token: ATOKEN_REVISION or DEBT_TOKEN_REVISION to HALF_UP, DIRECTED_... or DISCOUNTED.

    Revisions in aave-v3-origin ``instances/``: 1 until 3.3 (2 or 3 where a market upgraded its own), 3 for 3.4, 4 for
    3.5, 5 for 3.6 and 3.7; the GHO debt token counts one more from 3.4 on, so that 4 alone does not tell: tokens and
    pool of 3.5 call each other by new signatures, so a token is directed exactly when its revision may be and the pool
    is of 3.5 or later.

    Raises RulesError for any other revision (-1: the code has none), naming ``where``.
    """
    if not 1 <= revision <= _NEWEST[kind]:
        name = "ATOKEN_REVISION" if kind == "collateral" else "DEBT_TOKEN_REVISION"
        raise RulesError(
            f"{name} {revision} {where}: no known rule gives balances from its logs",
            "install a newer version of backtest",
        )
    if revision > _HALF_UP_UNTIL and pool_revision >= DIRECTED_FROM_POOL:
        return DIRECTED_COLLATERAL if kind == "collateral" else DIRECTED_DEBT
    return DISCOUNTED if discounted and pool_revision < _NO_DISCOUNT_FROM_POOL else HALF_UP


def unscaled_transfers(pool: str, revision: int) -> bool:
    """Whether an aToken's ``BalanceTransfer`` holds the amount instead of the scaled amount: first revision, March 2022
    markets.
    """
    return pool == MARCH_2022_POOL and revision == 1


@rule
def half_up_delta(value: int, interest: int, index: int) -> int:
    """Scaled change by a half-up token; ``value`` is signed: positive as logged by Mint, negative as logged by Burn."""
    amount = value - interest
    return ray_div_half_up(amount, index) if amount >= 0 else -ray_div_half_up(-amount, index)


def directed_delta(rule: int, balance: int, value: int, interest: int, index: int) -> int:
    """Scaled change by a directed token that held the scaled ``balance`` before; ``value`` is signed as in
    ``half_up_delta``.

    Raises ValueError if the balance after it would be negative: then logs before it are missing.
    """
    after = directed_after(rule, balance, value, interest, index)
    if after < 0:
        raise ValueError("negative balance")
    return after - balance


@rule
def directed_after(rule: int, balance: int, value: int, interest: int, index: int) -> int:
    """The scaled balance after it; -1 where it would be negative."""
    collateral = rule == DIRECTED_COLLATERAL
    shown = ray_mul_down(balance, index) if collateral else ray_mul_up(balance, index)
    shown_after = shown + value - interest
    if shown_after < 0:
        return -1
    return ray_div_up(shown_after, index) if collateral else ray_div_down(shown_after, index)


@rule
def discounted_delta(balance: int, last_index: int, value: int, interest: int, index: int) -> int:
    """Scaled change by the discounted debt token; ``last_index`` is that of the account's log before (0: none).

    Burning the whole (discounted) balance burns every scaled unit (``GhoVariableDebtToken._burnScaled``).
    """
    amount = value - interest
    accrued = ray_mul_half_up(balance, index) - ray_mul_half_up(balance, last_index)
    discount = accrued - interest
    if amount < 0 and -amount == ray_mul_half_up(balance, index) - discount:
        return -balance
    return half_up_delta(value, interest, index) - ray_div_half_up(discount, index)


@rule
def transfer_amount(unscaled: bool, value: int, index: int) -> int:
    """Scaled units that a ``BalanceTransfer`` moves."""
    return ray_div_half_up(value, index) if unscaled else value
