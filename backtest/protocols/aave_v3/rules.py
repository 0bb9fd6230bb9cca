"""What differs between Aave V3's versions, as data: one frozen ``Rules`` a pool revision, chosen by ``rules_for``.

The pool decides every rounding of a liquidation and of an account's health. Up to 3.4 it hands native amounts to the
tokens, which scale half-up; from 3.5 on it scales itself (``TokenMath``) and hands scaled amounts over, with another
signature. Pool and tokens of different generations can therefore not liquidate together, and the pool's revision alone
chooses the rounding here; the token revisions matter only to decode token events.

Sources are named as file (function) and the versions that share the rule: 3.0 is aave/aave-v3-core (npm @aave/core-v3
1.19.3), 3.1 and later are the tags of aave-dao/aave-v3-origin, 3.7 its branch v3.7. Revision numbers:
``PoolInstance.POOL_REVISION`` (8 = 3.4); 1 to 3 are
the deployments of 3.0.x. Files: LL = LiquidationLogic, GL = GenericLogic, VL = ValidationLogic,
RL = ReserveLogic, TM = TokenMath.

Every version was compared with the bytecode of its sources over random liquidations: all amounts, balances, flags and
deficits are equal. The test suite repeats that for 3.0 and 3.6 (``tested``), whose contracts a package registry serves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from backtest.errors import RulesError
from backtest.protocols.aave_v3.math import (
    compounded_interest_v30,
    compounded_interest_v34,
    percent_div_down,
    percent_div_half_up,
    percent_div_up,
    percent_mul_down,
    percent_mul_half_up,
    percent_mul_up,
    ray_div_down,
    ray_div_half_up,
    ray_div_up,
    ray_mul_down,
    ray_mul_half_up,
    ray_mul_up,
    wad_div_half_up,
)
from backtest.units import BPS, WAD, mul_div_down, mul_div_up
from backtest.words import rule

# LL constants. The two thresholds are base-currency units of a pool that counts in US dollars with 8 decimals.
DEFAULT_CLOSE_FACTOR = 5_000
CLOSE_FACTOR_HEALTH = 95 * 10**16
MIN_BASE_MAX_CLOSE_FACTOR = 2_000 * 10**8
MIN_LEFTOVER_BASE = MIN_BASE_MAX_CLOSE_FACTOR // 2
LIQUIDATION_HEALTH = WAD

ASSUMPTIONS: tuple[str, ...] = (
    (
        "The price oracle sentinel of layer-2 markets (3.0 to 3.6) is taken as allowing every liquidation: its answer"
        " is not in the events."
    ),
    (
        "A reserve holds what calls brought and took by their logs: nothing tells of underlying that somebody sent it"
        " by hand. Under history's rates a reserve with stable-rate debt, or one whose logs leave less than nothing in"
        " it, is not asked whether it can pay."
    ),
    (
        "The debt ceiling of isolated collateral is not held against borrows that are made again; a reserve's pause and"
        " freeze are history's, and where a freeze takes the loan-to-value away (3.1+) one that is set meanwhile waits"
        " until history gives it back."
    ),
    (
        "Stable-rate loans (3.0, 3.1): where interest is not recomputed, a loan or swap of an account that differs from"
        " history's takes the rate that history's account had after it. Whether a reserve offers them is history's."
    ),
    (
        "No liquidator has the role ISOLATED_COLLATERAL_SUPPLIER: isolated collateral received as tokens is not enabled"
        " by itself (3.0 to 3.5)."
    ),
    (
        "Pool revisions 1 to 3 follow 3.0.2. Under 3.0.0 (2022) a liquidation of all collateral with a protocol fee"
        " left the collateral flag set."
    ),
    (
        "GHO on Ethereum before 3.4: debt is scaled balance times index, without the discount that its balanceOf grants"
        " (liquidated debt to 3.3, health in 3.3) and, in 3.3, without the interest that is waived before bad debt"
        " becomes a deficit."
    ),
)


class Target(NamedTuple):
    """The reserve debt that is to be liquidated, and what the close factor depends on. ``debt`` is native, ``*_base``
    are base-currency units.
    """

    debt: int
    debt_base: int
    collateral_base: int
    total_debt_base: int
    health: int
    close_factor: int
    debt_unit: int
    debt_price: int


class Taken(NamedTuple):
    """Collateral about to be taken (native units; ``gross`` = ``seized`` + ``fee``) and what decides whether any is
    left.
    """

    gross: int
    seized: int
    fee: int
    balance: int
    scaled_balance: int
    income: int
    price: int
    unit: int
    total_collateral_base: int


class Aftermath(NamedTuple):
    """Whether the collateral flag is cleared, and whether no collateral of any kind is left (what remains is bad
    debt).
    """

    clears_flag: bool
    depleted: bool


Rounded = Callable[[int, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of one pool revision; see ``RULES`` for where each comes from.

    Attributes:
        compounded_interest: growth factor (ray) of debt from yearly rate (ray) and seconds.
        collateral_balance, debt_balance: native balance from scaled balance and index.
        collateral_scaled, debt_scaled: scaled units burned or moved for a native amount at an index.
        debt_value: base value of debt: (native * price / unit) with its rounding.
        health: health factor (wad) from collateral, sum of collateral times threshold, and debt (not 0).
        borrow_power: collateral times loan-to-value.
        emode_by_bitmap: e-mode covers the assets of a category's collateral list (3.2+), else those whose own category
            it is.
        threshold_gates_collateral: an asset without a base liquidation threshold is no collateral, whatever its flag.
        emode_ltv_own: an e-mode's loan-to-value holds on its own (3.6+); before, it needs a base loan-to-value above
            zero.
        isolated_emode: an isolated category gives other assets no loan-to-value (3.7).
        max_debt: most native debt one call may repay.
        bonus_mul: collateral for repaid debt with bonus; needed_div: debt for all collateral without bonus.
        fee_div, fee_mul: the bonus part of the collateral, and the protocol's share of it.
        leaves_no_dust: a call must clear the debt, or the collateral, or leave 1000 of base currency of both.
        aftermath: what is left; ``writes_off`` says whether bad debt becomes a deficit.
        self_liquidation, grace_period: whether self-liquidation is allowed, whether a reserve's grace period is
        respected.
        collateral_minted, debt_minted: scaled units minted for a native amount at an index.
        debt_accrued: native interest on a scaled debt between two borrow indexes, of which the reserve factor's share
            goes to the treasury.
        treasury_scaled: scaled units minted for what had accrued to the treasury (scaled), at an index.
        averages_rates: the supply rate starts from an average over variable and stable debt, with its rounding (to
            3.1).
        deficit_in_usage: bad debt counts as supplied in the usage that the supply rate takes (3.3+).
        quotes_stable: a strategy says at which rate a new stable loan is made (3.0); later ones say 0.
        reads_balance: rates read the token balance of the aToken, where a liquidator's payment arrives last (3.0), not
            a virtual one.
        syncs_rates: a new reserve factor or new rate data accrues before and takes effect at once (3.1+).
        premium_to_suppliers: suppliers share the premiums of flash loans (to 3.3); later all of it accrues to the
            treasury.
        accrues_seized: a liquidation accrues the collateral reserve first, whatever the liquidator receives (3.5+).
        borrow_checked_after: a borrow is checked with its debt counted, health may be exactly 1, the need rounded up
            (3.5+).
        repay_with_tokens: what a repayment with collateral tokens does beside it: 0 nothing (3.0), 1 clears the flag of
            an emptied balance (3.1+), 2 checks health as well (3.5+).
        emode_always_checked: choosing an e-mode checks health whatever the one before (3.2+), else only when leaving
            one.
        emode_lists_all: choosing an e-mode needs a loan-to-value for each collateral and each debt to be borrowable,
            also in none (3.6+).
        receiver_enables, self_receiver_enables: received collateral tokens are enabled if the receiver had none, or
            (3.3) after a full self-liquidation.
    """

    name: str
    revision: int
    tested: bool
    compounded_interest: Rounded
    collateral_balance: Rounded
    debt_balance: Rounded
    collateral_scaled: Rounded
    debt_scaled: Rounded
    debt_value: Callable[[int, int, int], int]
    health: Callable[[int, int, int], int]
    borrow_power: Rounded
    emode_by_bitmap: bool
    threshold_gates_collateral: bool
    emode_ltv_own: bool
    isolated_emode: bool
    max_debt: Callable[[Target], int]
    bonus_mul: Rounded
    needed_div: Rounded
    fee_div: Rounded
    fee_mul: Rounded
    leaves_no_dust: bool
    aftermath: Callable[[Taken], Aftermath]
    writes_off: bool
    self_liquidation: bool
    grace_period: bool
    receiver_enables: bool
    self_receiver_enables: bool
    collateral_minted: Rounded
    debt_minted: Rounded
    debt_accrued: Callable[[int, int, int], int]
    treasury_scaled: Rounded
    averages_rates: bool
    quotes_stable: bool
    deficit_in_usage: bool
    reads_balance: bool
    syncs_rates: bool
    premium_to_suppliers: bool
    accrues_seized: bool
    borrow_checked_after: bool
    repay_with_tokens: int
    emode_always_checked: bool
    emode_lists_all: bool

    @property
    def directed(self) -> bool:
        """Whether scaled units are rounded against the user, by the pool (3.5+), and not to nearest by the token."""
        return self.collateral_scaled is not ray_div_half_up

    @property
    def label(self) -> str:
        """For results: ``aave-v3 3.6 (pool revision 10)``."""
        return f"aave-v3 {self.name} (pool revision {self.revision})"


def parameter_fault(values: Mapping[str, int]) -> str | None:
    """Why the configurator would refuse these parameters of a reserve or an e-mode category (basis points), or None.

    PoolConfigurator configureReserveAsCollateral, setEModeCategory (all versions): loan-to-value at most the threshold;
    with a threshold, a bonus above 100 % and threshold times bonus (to nearest) at most 100 %; without one, no bonus.
    """
    ltv, threshold, bonus = (values.get(name, 0) for name in ("ltv", "liquidation_threshold", "liquidation_bonus"))
    if ltv > threshold:
        return f"loan-to-value {ltv} is above the threshold {threshold}"
    if not threshold:
        return f"a bonus of {bonus} without a threshold" if bonus else None
    if bonus <= BPS:
        return f"the bonus {bonus} is not above 100 %"
    if percent_mul_half_up(threshold, bonus) > BPS:
        return f"threshold {threshold} with bonus {bonus} would seize more than all collateral"
    return None


def target_of(
    debt: int, debt_base: int, collateral_base: int, total_debt_base: int, health: int, close_factor: int,
    debt_unit: int, debt_price: int,
) -> Target:  # fmt: skip
    """For compiled code, which has no keywords."""
    return Target(debt, debt_base, collateral_base, total_debt_base, health, close_factor, debt_unit, debt_price)


def taken_of(
    gross: int, seized: int, fee: int, balance: int, scaled_balance: int, income: int, price: int, unit: int,
    total_collateral_base: int,
) -> Taken:  # fmt: skip
    """The same."""
    return Taken(gross, seized, fee, balance, scaled_balance, income, price, unit, total_collateral_base)


@rule
def health_of_averaged_threshold(collateral: int, weighted: int, debt: int) -> int:
    """The average threshold is floored first (GL calculateUserAccountData, 3.0 to 3.4)."""
    average = weighted // collateral if collateral else 0
    return wad_div_half_up(percent_mul_half_up(collateral, average), debt)


@rule
def health_of_weighted_sum(collateral: int, weighted: int, debt: int) -> int:
    """No averaging: the weighted sum is divided by the debt, then by 10000 (GL calculateUserAccountData, 3.5+)."""
    return wad_div_half_up(weighted, debt) // BPS


def max_debt_of_reserve(target: Target) -> int:
    """The close factor's share of the debt in the reserve; all of it at a health of 0.95 or below (LL _calculateDebt,
    3.0 to 3.2).
    """
    return percent_mul_half_up(target.debt, target.close_factor if target.health > CLOSE_FACTOR_HEALTH else BPS)


def max_debt_of_position(target: Target) -> int:
    """All of the reserve's debt, but no more than the close factor's share of the account's whole debt where both the
    debt and the collateral in the two reserves are worth 2000 of base currency or more and health is above 0.95 (LL
    executeLiquidationCall, 3.3+).
    """
    if (
        target.collateral_base >= MIN_BASE_MAX_CLOSE_FACTOR
        and target.debt_base >= MIN_BASE_MAX_CLOSE_FACTOR
        and target.health > CLOSE_FACTOR_HEALTH
    ):
        share = percent_mul_half_up(target.total_debt_base, target.close_factor)
        if target.debt_base > share:
            return share * target.debt_unit // target.debt_price
    return target.debt


def aftermath_of_balance(taken: Taken) -> Aftermath:
    """Nothing is left when the native amounts are equal; depletion compares base values before the fee (LL
    executeLiquidationCall, 3.0 to 3.6).

    ``depleted`` counts only from 3.3 on (``Rules.writes_off``).
    """
    value = taken.gross * taken.price // taken.unit
    return Aftermath(taken.gross == taken.balance, value == taken.total_collateral_base)


def aftermath_of_scaled_balance(taken: Taken) -> Aftermath:
    """The two scaled amounts, each rounded up, decide what is left (LL executeLiquidationCall, 3.7)."""
    consumed = ray_div_up(taken.seized, taken.income) + ray_div_up(taken.fee, taken.income)
    consumed = min(consumed, taken.scaled_balance)
    value = ray_mul_down(consumed, taken.income) * taken.price // taken.unit
    depleted = value == taken.total_collateral_base
    return Aftermath(depleted or consumed == taken.scaled_balance, depleted)


def interest_of_balances(scaled: int, before: int, after: int) -> int:
    """The difference of the balance at two indexes, each rounded to nearest (RL _accrueToTreasury, 3.0 to 3.4)."""
    return ray_mul_half_up(scaled, after) - ray_mul_half_up(scaled, before)


def interest_of_indexes_down(scaled: int, before: int, after: int) -> int:
    """The scaled debt times the difference of the indexes, rounded down (RL _accrueToTreasury, 3.5+)."""
    return ray_mul_down(scaled, after - before)


def treasury_by_amount(accrued: int, index: int) -> int:
    """By way of the native amount, both roundings to nearest (PoolLogic executeMintToTreasury, AToken mintToTreasury;
    3.0 to 3.4).
    """
    return ray_div_half_up(ray_mul_half_up(accrued, index), index)


def treasury_as_stored(accrued: int, index: int) -> int:
    """As it is stored (PoolLogic executeMintToTreasury, 3.5+)."""
    return accrued


# aave-v3-core, contracts/protocol/libraries/logic: LL, GL, VL; balances by AToken and VariableDebtToken.
_V30 = Rules(
    name="3.0",
    revision=3,
    tested=True,
    compounded_interest=compounded_interest_v30,
    collateral_balance=ray_mul_half_up,
    debt_balance=ray_mul_half_up,
    collateral_scaled=ray_div_half_up,
    debt_scaled=ray_div_half_up,
    debt_value=mul_div_down,
    health=health_of_averaged_threshold,
    borrow_power=percent_mul_half_up,
    emode_by_bitmap=False,
    threshold_gates_collateral=True,
    emode_ltv_own=False,
    isolated_emode=False,
    max_debt=max_debt_of_reserve,
    bonus_mul=percent_mul_half_up,
    needed_div=percent_div_half_up,
    fee_div=percent_div_half_up,
    fee_mul=percent_mul_half_up,
    leaves_no_dust=False,
    aftermath=aftermath_of_balance,
    writes_off=False,
    self_liquidation=True,
    grace_period=False,
    receiver_enables=True,
    self_receiver_enables=False,
    collateral_minted=ray_div_half_up,
    debt_minted=ray_div_half_up,
    debt_accrued=interest_of_balances,
    treasury_scaled=treasury_by_amount,
    averages_rates=True,
    quotes_stable=True,
    deficit_in_usage=False,
    reads_balance=True,
    syncs_rates=False,
    premium_to_suppliers=True,
    accrues_seized=False,
    borrow_checked_after=False,
    repay_with_tokens=0,
    emode_always_checked=False,
    emode_lists_all=False,
)


def _table() -> dict[int, Rules]:
    """Each version is the one before it with the differences that its tag shows."""
    v30 = _V30
    # VL validateLiquidationCall: liquidationGracePeriodUntil.
    # PoolConfigurator: syncIndexesState, syncRatesState. BorrowLogic executeRepay: the flag of an emptied balance.
    v31 = replace(
        v30,
        name="3.1",
        revision=4,
        tested=False,
        grace_period=True,
        quotes_stable=False,
        reads_balance=False,
        syncs_rates=True,
        repay_with_tokens=1,
    )
    # GL, LL: collateralBitmap of the category; stable debt is gone. EModeLogic executeSetUserEMode.
    v32 = replace(v31, name="3.2", revision=5, emode_by_bitmap=True, averages_rates=False, emode_always_checked=True)
    # LL: whole-position close factor, MUST_NOT_LEAVE_DUST, _burnBadDebt; _liquidateATokens re-enables a full
    # self-liquidation.
    v33 = replace(
        v32,
        name="3.3",
        revision=7,
        max_debt=max_debt_of_position,
        leaves_no_dust=True,
        writes_off=True,
        self_receiver_enables=True,
        deficit_in_usage=True,
    )
    # VL: SelfLiquidation; MathUtils calculateCompoundedInterest.
    v34 = replace(
        v33,
        name="3.4",
        revision=8,
        self_liquidation=False,
        self_receiver_enables=False,
        compounded_interest=compounded_interest_v34,
        premium_to_suppliers=False,
    )
    # TM; GL: mulDivCeil of debt, health without average, percentMulFloor of borrow power; LL: percentDivCeil of needed
    # debt.
    v35 = replace(
        v34,
        name="3.5",
        revision=9,
        collateral_balance=ray_mul_down,
        debt_balance=ray_mul_up,
        collateral_scaled=ray_div_up,
        debt_scaled=ray_div_down,
        debt_value=mul_div_up,
        health=health_of_weighted_sum,
        borrow_power=percent_mul_down,
        needed_div=percent_div_up,
        collateral_minted=ray_div_down,
        debt_minted=ray_div_up,
        debt_accrued=interest_of_indexes_down,
        treasury_scaled=treasury_as_stored,
        accrues_seized=True,
        borrow_checked_after=True,
        repay_with_tokens=2,
    )
    # GL, VL: getUserReserveLtv, no threshold test; LL: transferOnLiquidation without enabling.
    v36 = replace(
        v35,
        name="3.6",
        revision=10,
        tested=True,
        threshold_gates_collateral=False,
        emode_ltv_own=True,
        receiver_enables=False,
        emode_lists_all=True,
    )
    # LL: percentMulFloor, percentDivFloor, percentMulCeil, scaled depletion; VL getUserReserveLtv: isolated.
    v37 = replace(
        v36,
        name="3.7",
        revision=11,
        tested=False,
        bonus_mul=percent_mul_down,
        fee_div=percent_div_down,
        fee_mul=percent_mul_up,
        aftermath=aftermath_of_scaled_balance,
        isolated_emode=True,
    )
    table = [
        replace(v30, revision=1),
        replace(v30, revision=2),
        v30,
        v31,
        v32,
        replace(v32, revision=6),
        v33,
        v34,
        v35,
        v36,
        v37,
    ]
    return {rules.revision: rules for rules in table}


RULES: dict[int, Rules] = _table()


def rules_for(revision: int, block_number: int) -> Rules:
    """The rules of a pool revision.

    Raises:
        RulesError: no rules for this revision; names the block at which it came into force.
    """
    rules = RULES.get(revision)
    if rules is None:
        raise RulesError(
            f"pool revision {revision} at block {block_number} is unknown; the rules cover revisions {min(RULES)} to"
            f" {max(RULES)} (Aave V3.0 to 3.7)",
            "replay up to the block before it (to_block), or add its rules to backtest/protocols/aave_v3/rules.py",
        )
    return rules
