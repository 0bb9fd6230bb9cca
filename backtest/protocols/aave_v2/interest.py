"""What a call does to the reserves it touches where interest is recomputed: accrual, the treasury's share, rates.

Source: aave/protocol-v2 ``libraries/logic/ReserveLogic.sol`` updateState, _updateIndexes, _mintToTreasury,
updateInterestRates, cumulateToLiquidityIndex; ``lendingpool/DefaultReserveInterestRateStrategy.sol``
calculateInterestRates; ``tokenization/StableDebtToken.sol`` mint, burn, getSupplyData.

Rates depend on the state after a call, and all its steps share a timestamp, so each reserve's rates are computed once,
at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from backtest.errors import RulesError
from backtest.model import AccountId, AssetId, Clock, IndexUpdate
from backtest.protocols.aave.effects import UNPLACED, Effect, Effects, param
from backtest.protocols.aave.math import percent_mul_half_up, ray_div_half_up, ray_mul_half_up
from backtest.protocols.aave_v2.state import AaveV2State, Reserve, StableDebt, StableTotal
from backtest.units import BPS, RAY

WAD_TO_RAY = 10**9


@dataclass(slots=True)
class _Touched:
    """One reserve within a call: as accrued to now, and what the call adds to it (scaled debt, native liquidity).

    ``late``: the part of ``liquidity`` that arrives after the rates were computed. ``minted``: scaled units that the
    treasury got.
    """

    supply_index: int
    borrow_index: int
    minted: int
    stable: StableTotal
    debt: int = 0
    liquidity: int = 0
    late: int = 0


class TouchedReserves:
    """The reserves that one call touches. Reads the state and changes nothing; ``changes`` are what it does to them."""

    def __init__(self, state: AaveV2State, now: Clock) -> None:
        self._state, self._now = state, now
        self._touched: dict[AssetId, _Touched] = {}

    def _accrue(self, asset: AssetId) -> _Touched:
        """updateState: indexes to now, and the mint of the treasury's share of the interest."""
        touched = self._touched.get(asset)
        if touched is None:
            reserve, at = self._state.reserves[asset], self._now.timestamp
            supply, borrow = reserve.income(at), reserve.stored_debt_index(at)
            minted = 0
            if reserve.reserve_factor:
                total = reserve.stable
                interest = ray_mul_half_up(reserve.scaled_debt, borrow) + total.at(at)
                interest -= ray_mul_half_up(reserve.scaled_debt, reserve.borrow_index) + total.at(reserve.updated)
                minted = ray_div_half_up(percent_mul_half_up(interest, reserve.reserve_factor), supply)
            touched = self._touched[asset] = _Touched(supply, borrow, minted, reserve.stable)
        return touched

    def move(self, asset: AssetId, *, debt: int = 0, liquidity: int = 0, late: int = 0) -> None:
        """A step of the call: scaled debt and native liquidity added (or, negative, taken); ``late``: liquidity that
        arrives when the rates are set already.
        """
        touched = self._accrue(asset)
        touched.debt += debt
        touched.liquidity += liquidity + late
        touched.late += late

    def mint_stable(self, asset: AssetId, amount: int, rate: int) -> None:
        """A stable loan of ``amount`` at ``rate``, in the totals."""
        touched, at = self._accrue(asset), self._now.timestamp
        total, before = touched.stable, touched.stable.at(at)
        added = ray_mul_half_up(rate, amount * WAD_TO_RAY)
        weighted = ray_mul_half_up(total.average, before * WAD_TO_RAY) + added
        average = ray_div_half_up(weighted, (before + amount) * WAD_TO_RAY)
        touched.stable = StableTotal(before + amount, average, at)

    def burn_stable(self, asset: AssetId, debt: StableDebt, amount: int) -> None:
        """``amount`` of a stable debt is paid, in the totals: nothing where they are used up before their accounts are,
        or the average would fall below nothing.
        """
        touched, at = self._accrue(asset), self._now.timestamp
        total, before = touched.stable, touched.stable.at(at)
        touched.stable = StableTotal(0, 0, at)
        if before > amount:
            first = ray_mul_half_up(total.average, before * WAD_TO_RAY)
            second = ray_mul_half_up(debt.rate, amount * WAD_TO_RAY)
            if second < first:
                left = before - amount
                touched.stable = StableTotal(left, ray_div_half_up(first - second, left * WAD_TO_RAY), at)

    def premium(self, asset: AssetId, amount: int) -> None:
        """A flash loan's premium, which suppliers share (cumulateToLiquidityIndex)."""
        touched, reserve = self._accrue(asset), self._state.reserves[asset]
        supplied = ray_mul_half_up(reserve.scaled_supply + touched.minted, touched.supply_index)
        share = ray_div_half_up(amount * WAD_TO_RAY, supplied * WAD_TO_RAY) + RAY
        touched.supply_index = ray_mul_half_up(share, touched.supply_index)
        self.move(asset, liquidity=amount)

    def changes(self) -> list[Effect]:
        """Everything that the call does to the reserves, in the order in which it touched them."""
        state, now = self._state, self._now
        found: list[Effect] = []
        for asset, touched in self._touched.items():
            reserve = state.reserves[asset]
            if touched.minted:
                mint = Effects(now, "treasury")
                mint.position(_treasury(state, reserve, now), asset, "collateral", touched.minted)
                found += mint.all
            supply_rate, borrow_rate = rates(
                state,
                reserve,
                now,
                variable=ray_mul_half_up(reserve.scaled_debt + touched.debt, touched.borrow_index),
                stable=touched.stable,
                liquidity=reserve.liquidity + touched.liquidity - touched.late,
            )
            found.append(
                IndexUpdate(
                    seq=UNPLACED,
                    block_number=now.block_number,
                    log_index=now.log_index,
                    timestamp=now.timestamp,
                    asset=asset,
                    supply_index=touched.supply_index,
                    borrow_index=touched.borrow_index,
                    supply_rate=supply_rate,
                    borrow_rate=borrow_rate,
                )
            )
            if touched.liquidity:
                found.append(param(now, "liquidity", asset, reserve.liquidity + touched.liquidity))
            if touched.stable != reserve.stable:
                found.append(param(now, "stable_total", asset, touched.stable.principal))
                found.append(param(now, "stable_average", asset, touched.stable.average))
                found.append(param(now, "stable_total_since", asset, touched.stable.since))
        return found


def _treasury(state: AaveV2State, reserve: Reserve, now: Clock) -> AccountId:
    if reserve.treasury is None:
        raise RulesError(
            f"block {now.block_number}: the treasury of {state.market.assets[reserve.asset].symbol} is not known:"
            " history mints it nothing",
            "replay with rates = 'historical'",
        )
    return AccountId(reserve.treasury)


def rates(
    state: AaveV2State, reserve: Reserve, now: Clock, *, variable: int, stable: StableTotal, liquidity: int
) -> tuple[int, int]:
    """Yearly supply and borrow rate (rays) for native variable debt and liquidity, and the totals of stable debt.

    Raises:
        RulesError: the reserve's strategy is not known, or the reserve would have less than no liquidity.
    """
    symbol = state.market.assets[reserve.asset].symbol
    if reserve.optimal_usage is None:
        raise RulesError(
            f"block {now.block_number}: the rate strategy of {symbol} is not known, so its interest cannot be"
            " recomputed",
            "fetch the market again with this version, or replay with rates = 'historical'",
        )
    if liquidity < 0:
        raise RulesError(
            f"block {now.block_number}: {symbol} would have {liquidity} units of liquidity",
            "more was taken than calls brought: replay with rates = 'historical'",
        )
    owed = stable.at(now.timestamp)
    debt, borrow_rate = variable + owed, reserve.base_rate
    usage = ray_div_half_up(debt, liquidity + debt) if debt else 0
    if usage > reserve.optimal_usage:
        excess = ray_div_half_up(usage - reserve.optimal_usage, RAY - reserve.optimal_usage)
        borrow_rate += reserve.slope1 + ray_mul_half_up(reserve.slope2, excess)
    else:
        borrow_rate += ray_div_half_up(ray_mul_half_up(usage, reserve.slope1), reserve.optimal_usage)
    if not debt:
        return 0, borrow_rate
    weighted = ray_mul_half_up(variable * WAD_TO_RAY, borrow_rate) + ray_mul_half_up(owed * WAD_TO_RAY, stable.average)
    overall = ray_div_half_up(weighted, debt * WAD_TO_RAY)
    return percent_mul_half_up(ray_mul_half_up(overall, usage), BPS - reserve.reserve_factor), borrow_rate
