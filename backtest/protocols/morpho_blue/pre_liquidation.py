"""Pre-liquidations: what a borrower lets a contract of its choice do while Morpho itself would not liquidate.

Source: morpho-org/pre-liquidation, ``src/PreLiquidation.sol`` ``preLiquidate`` and ``onMorphoRepay``,
``src/PreLiquidationFactory.sol``. The contract repays on the borrower's behalf and withdraws collateral for it, which
Morpho lets whoever the borrower authorised do: close factor and incentive rise on a line from the contract's own
threshold up to the market's.

An account may have authorised several contracts, and a liquidator calls which it likes. An order without a contract's
name is that of the contract that leaves most to whoever calls, at the oracle's price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from msgspec import structs

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, HistoricalLiquidation
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.protocols.morpho_blue import liquidation
from backtest.protocols.morpho_blue.account import max_borrow_down, price_of
from backtest.protocols.morpho_blue.liquidation import (
    NOTHING,
    PAIR,
    REASONS,
    TOO_MUCH,
    most_of,
    seized_for_down,
    shares_for_up,
    taken,
)
from backtest.protocols.morpho_blue.math import ORACLE_PRICE_SCALE, to_assets_down, to_assets_up, to_shares_down
from backtest.protocols.morpho_blue.state import (
    COLLATERAL,
    MorphoState,
    Position,
    PreTerms,
    Totals,
    accrual,
    indexes_after,
)
from backtest.units import WAD, mul_div_down, mul_div_up

STEP = "pre-liquidate"
RULES = "pre-liquidation"
AS_RECORDED = "pre-liquidation as recorded"
UNKNOWN = Refusal(
    "the pre-liquidation contract that it authorised has an oracle of its own, or a close factor beyond 38 digits"
)


class Factors(NamedTuple):
    """At one loan-to-value, both wad: of the debt how much may be repaid at once, and what a unit repaid takes."""

    close: int
    incentive: int


def factors_down(borrowed: int, quoted: int, lltv: int, terms: PreTerms) -> Factors | None:
    """PreLiquidation.preLiquidate: of a position that owes ``borrowed`` against collateral worth ``quoted`` (native
    loan units); None where the contract refuses it: within its own threshold, or beyond the market's.
    """
    if borrowed > mul_div_down(quoted, lltv, WAD) or borrowed <= mul_div_down(quoted, terms.lltv, WAD):
        return None
    ltv = mul_div_up(borrowed, WAD, quoted)
    along = mul_div_down(ltv - terms.lltv, WAD, lltv - terms.lltv)
    return Factors(
        mul_div_down(along, terms.close_at_lltv - terms.close, WAD) + terms.close,
        mul_div_down(along, terms.incentive_at_lltv - terms.incentive, WAD) + terms.incentive,
    )


class _Call(NamedTuple):
    """What a call repays (shares, and the assets that they cost) and seizes."""

    shares: int
    assets: int
    seized: int


class _Looked(NamedTuple):
    """A position with debt as a contract looks at it: accrued, at the market's own oracle."""

    position: Position
    totals: Totals
    price: int
    lltv: int

    @property
    def quoted(self) -> int:
        return mul_div_down(self.position.collateral, self.price, ORACLE_PRICE_SCALE)

    @property
    def borrowed(self) -> int:
        return self.totals.debt_up(self.position.borrow_shares)

    def leaves(self, call: _Call) -> int:
        """To whoever calls, native loan units at the oracle's price."""
        return mul_div_down(call.seized, self.price, ORACLE_PRICE_SCALE) - call.assets

    def after(self, call: _Call) -> tuple[Position, Totals]:
        """The position and the market's totals."""
        held, totals = self.position, self.totals
        assets = max(0, totals.borrow_assets - call.assets)  # may be one more than all (UtilsLib.zeroFloorSub)
        return (
            replace(held, borrow_shares=held.borrow_shares - call.shares, collateral=held.collateral - call.seized),
            replace(totals, borrow_assets=assets, borrow_shares=totals.borrow_shares - call.shares),
        )


def authorized(state: MorphoState, account: AccountId) -> Sequence[PreTerms]:
    """Terms of the contracts that an account authorised, in the order in which they were created."""
    return [state.pre_terms[number] for number in sorted(state.authorized.get(account, ()))]


def pairs(state: MorphoState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Pair]:
    """As ``liquidation.pairs``, and where a contract that the account authorised would let it through."""
    found = liquidation.pairs(state, account, prices, now)
    if found or account not in state.authorized:
        return found
    try:
        looked = _looked(state, account, prices, now)
    except PriceMissing:
        return ()
    open_to = looked is not None and any(
        factors_down(looked.borrowed, looked.quoted, looked.lltv, terms) for terms in authorized(state, account)
    )
    return (PAIR,) if open_to else ()


def _looked(state: MorphoState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> _Looked | None:
    position = state.positions.get(account)
    if position is None or not position.borrow_shares:
        return None
    return _Looked(position, state.accrued(now.timestamp), price_of(state, COLLATERAL, prices), state.lltv)


def quote(state: MorphoState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Fill | Refusal:
    """As ``liquidation.quote``; of a healthy account whose contract lets it through, what that contract does.

    ``order.seize`` and ``order.repay_scaled`` are the contract's two arguments, ``order.repay`` (native units) is
    turned into shares, rounded down; with none of them as much as the close factor allows. Both arguments: the contract
    that gives both.
    """
    found = liquidation.quote(state, order, prices, now)
    if order.early and order.repay_scaled is not None and isinstance(found, Fill):
        return structs.replace(found, rules=AS_RECORDED, rules_tested=False, step=STEP)
    looked = None
    if found == liquidation.IS_HEALTHY and order.account in state.authorized:
        looked = _looked(state, order.account, prices, now)
    if looked is None:
        return found
    best: _Call | None = None
    why = found
    for terms in authorized(state, order.account):
        factors = factors_down(looked.borrowed, looked.quoted, looked.lltv, terms)
        if factors is None:
            continue
        if terms.known and order.agreed:  # somebody else says the price, the contract that there is one
            made = liquidation.quote(state, structs.replace(order, early=True), prices, now)
            return made if isinstance(made, Refusal) else structs.replace(made, order=order, step=STEP)
        call = _call(order, looked, factors) if terms.known else UNKNOWN
        if isinstance(call, Refusal):
            why = call
        elif best is None or looked.leaves(call) > looked.leaves(best):
            best = call
    return why if best is None else _settle(state, order, looked, now, best)


def _call(order: Order, looked: _Looked, factors: Factors) -> _Call | Refusal:
    """PreLiquidation.preLiquidate from where the factors are known; then what Morpho.repay and withdrawCollateral
    refuse.
    """
    position, totals = looked.position, looked.totals
    allowed = mul_div_down(position.borrow_shares, factors.close, WAD)
    shares, seized = _size(order, looked, factors.incentive, min(allowed, position.borrow_shares))
    if not shares or not seized:
        return Refusal(REASONS[NOTHING])
    if shares > allowed:
        less = to_assets_down(allowed, totals.borrow_assets, totals.borrow_shares)
        return Refusal("repays more than the pre-liquidation contract allows", less or None)
    if shares > position.borrow_shares:
        return Refusal(REASONS[TOO_MUCH])
    if seized > position.collateral:
        return Refusal("seizes more collateral than there is")
    if None not in (order.seize, order.repay_scaled) and (shares, seized) != (order.repay_scaled, order.seize):
        return Refusal("no pre-liquidation contract gives these amounts")
    call = _Call(shares, to_assets_up(shares, totals.borrow_assets, totals.borrow_shares), seized)
    left, after = looked.after(call)
    if left.borrow_shares and max_borrow_down(left.collateral, looked.price, looked.lltv) < after.debt_up(
        left.borrow_shares
    ):
        return Refusal("insufficient collateral")
    return call


def _size(order: Order, looked: _Looked, incentive: int, most: int) -> tuple[int, int]:
    """Shares repaid and collateral seized, of which one is asked for and the other follows."""
    terms = looked.price, incentive, looked.totals.borrow_assets, looked.totals.borrow_shares
    if order.seize is not None:
        shares = shares_for_up(order.seize, *terms)
        if order.repay_scaled in (None, shares):
            return shares, order.seize
    if order.repay_scaled is not None:
        return order.repay_scaled, seized_for_down(order.repay_scaled, *terms)
    if order.repay is not None:
        most = min(most, to_shares_down(order.repay, *terms[2:]))
    return most_of(most, looked.position.collateral, *terms)


def _settle(state: MorphoState, order: Order, looked: _Looked, now: Clock, call: _Call) -> Fill:
    _, totals = looked.after(call)
    changes = (
        *accrual(state, now),
        *taken(now, order.account, call.shares, call.assets, call.seized, 0, 0),
        *indexes_after(state, totals, now),
    )
    return Fill(order, call.assets, call.seized, 0, changes, rules=RULES, step=STEP)


def observed_order(state: MorphoState, past: HistoricalLiquidation, prices: Mapping[AssetId, int], now: Clock) -> Order:
    """As ``liquidation.observed_order``; of a healthy account the call of a contract that it authorised, by both of its
    arguments where a contract gives both, else by the collateral, so that the difference shows. What a contract did
    whose terms are not known is taken as recorded.
    """
    if past.account not in state.authorized or liquidation.pairs(state, past.account, prices, now):
        return liquidation.observed_order(state, past, prices, now)
    order = Order(past.account, PAIR, past.liquidator, seize=past.seized)
    both = structs.replace(order, repay_scaled=past.debt_scaled)
    if isinstance(quote(state, both, prices, now), Fill):
        return both
    if all(terms.known for terms in authorized(state, past.account)):
        return order
    return structs.replace(both, repay=past.repaid, agreed=True, early=True)
