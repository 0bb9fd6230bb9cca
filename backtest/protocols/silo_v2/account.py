"""An account's health, totals and holdings in a market; and the linear form that screens accounts.

Source: silo-finance/silo-contracts-v2 at 340a49b8, ``silo-core/contracts/lib/SiloSolvencyLib.sol``. Base units are
units of the oracles' quote: a token without an oracle is worth its own units, and so is the debt of whoever borrows the
token that backs it (``borrowSameAsset`` of releases before 3.10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.interface import AccountView, Figure, Holding, LinearExposure
from backtest.protocols.silo_v2.irm import most_a_second
from backtest.protocols.silo_v2.math import Backed, max_liquidation_down
from backtest.protocols.silo_v2.state import PROTECTED, SILOS, Position, Silo, SiloState
from backtest.units import WAD, mul_div_down

FLOAT_ERROR = 1e-9
_HORIZON = 6 * 3600
"""Seconds for which an exposure holds."""
NO_DEBT_VALUE_HEALTH = WAD * WAD
"""Of whoever owes less than a base unit: solvent at any threshold."""

Prices = Mapping[AssetId, int]


def value_down(state: SiloState, silo: int, amount: int, prices: Prices) -> int:
    """Base units of native units of a silo's token (ISiloOracle.quote). Raises PriceMissing."""
    if not amount:
        return 0
    asset = AssetId(silo)
    price = prices.get(asset)
    if price is None:
        raise PriceMissing(f"{state.market.assets[asset].symbol} has no price", "fetch prices")
    return mul_div_down(amount, price, state.market.unit(asset))


def deposits_down(has: Position, silos: Sequence[Silo], n: int) -> tuple[int, int]:
    """Native units that an account lends to a silo, and that it has there as protected collateral."""
    return silos[n].lent.assets_down(has.lent[n]), silos[n].kept.assets_down(has.protected[n])


def debt_up(has: Position, silos: Sequence[Silo], n: int) -> int:
    """Native units that an account owes to a silo."""
    return silos[n].owed.assets_up(has.owed[n]) if has.owed[n] else 0


def worth_of(state: SiloState, has: Position, silos: Sequence[Silo], prices: Prices) -> Backed | None:
    """What backs a debt, and the debt; None without debt (SiloSolvencyLib.getAssetsDataForLtvCalculations,
    getPositionValues).

    Raises:
        PriceMissing: a price that the oracles would be asked for.
    """
    debtor, backing = has.debtor, has.backing
    if debtor is None or backing is None:
        return None
    collateral, debt = sum(deposits_down(has, silos, backing)), debt_up(has, silos, debtor)
    if debtor == backing:
        return Backed(collateral, collateral, debt, debt)
    values = value_down(state, backing, collateral, prices), value_down(state, debtor, debt, prices)
    return Backed(collateral, values[0], debt, values[1])


def is_solvent(state: SiloState, has: Position, silos: Sequence[Silo], prices: Prices) -> bool:
    """SiloSolvencyLib.isSolvent, by the solvency oracles, of silos that have accrued. Raises PriceMissing."""
    worth, backing = worth_of(state, has, silos, prices), has.backing
    return worth is None or backing is None or worth.ltv <= state.term(backing, "liquidation_threshold")


def is_below_max_ltv(state: SiloState, has: Position, silos: Sequence[Silo], prices: Prices) -> bool:
    """SiloSolvencyLib.isBelowMaxLtv. Where a maxLtv oracle is another than the solvency oracle, whose price is not
    known, whoever borrows has to be solvent. Raises PriceMissing.
    """
    worth, backing = worth_of(state, has, silos, prices), has.backing
    if worth is None or backing is None:
        return True
    other = backing != has.debtor and any(state.term(n, "other_borrow_oracle") for n in SILOS)
    return worth.ltv <= state.term(backing, "liquidation_threshold" if other else "ltv")


def health_down(worth: Backed, threshold: int) -> int:
    """The threshold over the loan-to-value, wad, below one exactly where the contract says insolvent."""
    if not worth.ltv:
        return NO_DEBT_VALUE_HEALTH
    return mul_div_down(threshold, WAD, worth.ltv)


def view(state: SiloState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
    """Accrued to ``now``. With debt counts what backs it, of both kinds; without debt every deposit of a token that has
    a threshold, and what may be borrowed is the most that one of them bears.
    """
    return view_of(state, state.of(account), state.accrued(now.timestamp), prices)


def view_of(state: SiloState, has: Position, silos: Sequence[Silo], prices: Prices) -> AccountView:
    """The same of a position and silos that have accrued."""
    worth, backing = worth_of(state, has, silos, prices), has.backing
    if worth is None or backing is None:
        values = {
            n: value_down(state, n, sum(deposits_down(has, silos, n)), prices)
            for n in SILOS
            if state.term(n, "liquidation_threshold")
        }
        power = max((mul_div_down(value, state.term(n, "ltv"), WAD) for n, value in values.items()), default=0)
        return AccountView(sum(values.values()), 0, None, power)
    power = mul_div_down(worth.collateral_value, state.term(backing, "ltv"), WAD)
    health = health_down(worth, state.term(backing, "liquidation_threshold"))
    return AccountView(worth.collateral_value, worth.debt_value, health, power)


def counts(state: SiloState, has: Position, n: int) -> bool:
    """Whether deposits in a silo count as the account's collateral."""
    backing = has.backing
    return bool(state.term(n, "liquidation_threshold")) if backing is None else n == backing


def figures(state: SiloState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
    """Shares and what they come to; the loan-to-value (SiloLens.getUserLTV), and what may be liquidated
    (PartialLiquidation.maxLiquidation).
    """
    has, silos = state.of(account), state.accrued(now.timestamp)
    found: list[Figure] = []
    for n in SILOS:
        symbol, (lent, protected) = state.market.assets[n].symbol, deposits_down(has, silos, n)
        found += [
            Figure(f"collateral_shares_{n}", has.lent[n], "shares"),
            Figure(f"protected_shares_{n}", has.protected[n], "shares"),
            Figure(f"debt_shares_{n}", has.owed[n], "shares"),
            Figure(f"collateral_{n}", lent, symbol),
            Figure(f"protected_{n}", protected, symbol),
            Figure(f"debt_{n}", debt_up(has, silos, n), symbol),
        ]
    worth, backing = worth_of(state, has, silos, prices), has.backing
    if worth is None or backing is None or has.debtor is None:
        return found
    threshold = state.term(backing, "liquidation_threshold")
    most = (0, 0)
    if not worth.collateral_value:
        most = worth.collateral, worth.debt
    elif worth.ltv > threshold:
        terms = state.term(backing, "liquidation_target_ltv"), state.term(backing, "liquidation_bonus")
        most = max_liquidation_down(worth, *terms)
    symbols = [state.market.assets[n].symbol for n in (backing, has.debtor)]
    return [
        *found,
        Figure("ltv", worth.ltv, "wad"),
        Figure("health", health_down(worth, threshold), "wad"),
        Figure("max_liquidation_collateral", most[0], symbols[0]),
        Figure("max_liquidation_debt", most[1], symbols[1]),
    ]


def holdings(state: SiloState, account: AccountId, now: Clock) -> Sequence[Holding]:
    """What the account has of each token, and of each as protected collateral (shares as scaled amounts)."""
    has, silos, found = state.of(account), state.accrued(now.timestamp), []
    for n in SILOS:
        if has.lent[n] or has.owed[n]:
            lent = silos[n].lent.assets_down(has.lent[n])
            owed, enabled = debt_up(has, silos, n), bool(has.lent[n]) and counts(state, has, n)
            found.append(Holding(AssetId(n), has.lent[n], has.owed[n], lent, owed, enabled))
    for n in SILOS:
        if has.protected[n]:
            kept = silos[n].kept.assets_down(has.protected[n])
            found.append(Holding(AssetId(n + PROTECTED), has.protected[n], 0, kept, 0, counts(state, has, n)))
    return found


def exposure(state: SiloState, account: AccountId, now: Clock) -> LinearExposure | None:
    """A form that is negative before the position is insolvent; None without debt.

    The oracles' quotes are cut, the collateral's by less than a base unit. Debt is what is owed at the end of
    ``_HORIZON``, whatever happens until then; no call makes a share of collateral worth less, but for a unit that
    fees take (applyFractions).
    """
    has = state.of(account)
    debtor, backing = has.debtor, has.backing
    if debtor is None or backing is None:
        return None
    silos = state.accrued(now.timestamp)
    threshold = state.term(backing, "liquidation_threshold") / WAD
    counted = max(0, sum(deposits_down(has, silos, backing)) - 2) * threshold / state.market.unit(AssetId(backing))
    owed = (debt_up(has, silos, debtor) + 2) * _growth(state, debtor, now) / state.market.unit(AssetId(debtor))
    weights = {AssetId(backing): counted}
    weights[AssetId(debtor)] = weights.get(AssetId(debtor), 0.0) - owed
    return LinearExposure(
        weights,
        constant=-1.0,
        relative_error=FLOAT_ERROR,
        debt={AssetId(debtor): owed},
        until=now.timestamp + _HORIZON,
    )


def _growth(state: SiloState, n: int, now: Clock) -> float:
    """The most by which a debt grows within ``_HORIZON``: what an accrual charges is the exponential of a rate that at
    no time is above ``most_a_second``, however the time is cut into accruals.
    """
    curve, silo = state.curve(n), state.silos[n]
    if curve is None or not silo.updated:
        return 1.0
    most = most_a_second(curve, silo.ri, silo.t_crit, now.timestamp + _HORIZON - silo.updated)
    return exp(min(most / WAD * _HORIZON, 100.0)) * (1 + FLOAT_ERROR)
