"""What a hard liquidation does, and an exchange with the AMM, which liquidates softly.

Source: curvefi/curve-stablecoin at 58289a42, ``contracts/Controller.vy`` ``_liquidate``, ``_get_f_remove``,
``tokens_to_liquidate``; ``contracts/AMM.vy`` ``_exchange``.

A hard liquidation takes a loan's tokens out of its bands. Borrowed tokens among them pay for its debt first: ``repaid``
is what the liquidator adds to them, and what they exceed the debt by is the liquidator's. Nothing is written off: a
loan that nobody gains by stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from backtest.errors import PriceMissing, RulesError
from backtest.model import AccountId, AssetId, Clock, HistoricalLiquidation, MarketEvent
from backtest.protocols.changes import parameter_change, position_change, setting_change
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.protocols.llamma.account import health, oracle_price
from backtest.protocols.llamma.amm import Trade
from backtest.protocols.llamma.math import AmmReverts
from backtest.protocols.llamma.state import AMM, BORROWED, COLLATERAL, RULES, LlammaState
from backtest.units import WAD

EVERYTHING = 10**37
"""More than any AMM takes of a token, native."""


def part_removed_down(part: int, discount: int) -> int:
    """Which part of a loan's shares leaves for a part of its debt, both wad (``_get_f_remove``): less, so that who
    liquidates in parts gains less.
    """
    if part >= WAD:
        return WAD
    found = (WAD + discount // 2) * (WAD - part) // (WAD + discount)
    return (found + part) * part // WAD


def is_liquidatable(state: LlammaState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> bool:
    """Whether others may liquidate the loan: full health below zero (``_liquidate``); PriceMissing without a price."""
    loan = state.loan(account)
    debt = state.debt_up(loan, now.timestamp)
    if not debt:
        return False
    price = oracle_price(state, prices, now)
    return health(state, loan, debt, price, now.timestamp, full=True, discount=loan.discount) < 0


def pairs(state: LlammaState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Pair]:
    """Borrowed token against collateral, where others may liquidate."""
    try:
        return [Pair(BORROWED, COLLATERAL)] if is_liquidatable(state, account, prices, now) else []
    except (PriceMissing, AmmReverts):
        return []


class HardTaken(NamedTuple):
    """What a hard liquidation comes to, native: the part of the debt, the tokens that leave the bands, the parts of
    debt and of shares (wad).
    """

    debt: int
    x: int
    y: int
    removed: int


def taken(state: LlammaState, order: Order, now: Clock) -> HardTaken | Refusal:
    """What an order takes, whoever may; see ``quote``."""
    loan = state.loan(order.account)
    debt, discount = state.debt_up(loan, now.timestamp), loan.discount
    if order.liquidator == order.account:
        discount = 0
    if not debt:
        return Refusal("the loan does not exist")
    part = WAD
    if order.repay_scaled is not None:
        part = min(-(-order.repay_scaled * WAD // debt), WAD)
    elif order.repay is not None:
        part = min(order.repay * WAD // debt, WAD)
    share = debt * part // WAD
    if not share:
        return Refusal("no debt is repaid")
    removed = part_removed_down(part, discount)
    try:
        x, y, _ = state.amm.copy().withdraw(loan.shares, loan.first, removed)
    except AmmReverts as refused:
        return Refusal(str(refused))
    return HardTaken(share, x, y, removed)


def quote(state: LlammaState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Fill | Refusal:
    """See ``LendingProtocol.quote``. ``repay`` (rounded down to a part, wad) and ``repay_scaled`` (up, as who sends the
    part has it) are of the debt, borrowed tokens in the bands included; None: all of it.
    """
    if order.account == AMM:
        return _exchange(state, order, prices, now)
    if order.agreed:
        return Refusal("loans are not liquidated at agreed amounts here")
    found = taken(state, order, now)
    if isinstance(found, Refusal):
        return found
    if order.liquidator != order.account:
        try:
            if not is_liquidatable(state, order.account, prices, now):
                return Refusal("not enough rekt")
        except AmmReverts as refused:
            return Refusal(str(refused))
        except PriceMissing as missing:
            return Refusal(f"no price of {missing.what}")
    loan, account = state.loan(order.account), order.account
    after = state.debt_up(loan, now.timestamp) - found.debt
    gone = loan.deposited if found.removed == WAD else loan.deposited * found.removed // WAD
    changes = (
        position_change(now, account, BORROWED, "debt", after - loan.initial, amount=found.debt),
        position_change(now, account, COLLATERAL, "collateral", -gone, amount=found.y),
        setting_change(now, account, "withdrawn", COLLATERAL, found.removed),
    )
    return Fill(order, max(found.debt - found.x, 0), found.y, 0, changes, rules=rules_named(state))


def rules_named(state: LlammaState) -> str:
    """The revision whose rules decided."""
    return f"{RULES} {state.amm.terms.revision}"


def surplus(state: LlammaState, order: Order, now: Clock) -> int:
    """Borrowed tokens in the bands beyond the debt, native, which a liquidator gets too."""
    found = taken(state, order, now)
    return 0 if isinstance(found, Refusal) else max(found.x - found.debt, 0)


def traded(state: LlammaState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Trade:
    """What an exchange with the AMM comes to: ``repay`` is paid, or ``seize`` bought. It may revert."""
    amm, pump = state.amm, order.pair.debt_asset == BORROWED
    price = oracle_price(state, prices, now)
    oracle = price, amm.limited(prices[COLLATERAL], now.timestamp)[1]
    done = amm.trade(oracle, now.timestamp, pump=pump, paid=order.repay or 0, wanted=order.seize or 0)
    if order.seize is not None and done.bought != order.seize:
        raise AmmReverts("not as much is there")
    if not done.paid or not done.bought:
        raise AmmReverts("nothing is exchanged")
    return done


def _exchange(state: LlammaState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Fill | Refusal:
    if order.repay is None and order.seize is None:
        return Refusal("an exchange without an amount")
    try:
        done = traded(state, order, prices, now)
    except AmmReverts as refused:
        return Refusal(str(refused))
    except PriceMissing as missing:
        return Refusal(f"no price of {missing.what}")
    pair = order.pair
    if order.seize is not None:
        moved = parameter_change(now, "bought", order.seize, pair.collateral_asset)
    else:
        moved = parameter_change(now, "sold", order.repay or 0, pair.debt_asset)
    changes = parameter_change(now, "exchange_price", prices[COLLATERAL], COLLATERAL), moved
    return Fill(order, done.paid, done.bought, 0, changes, rules=rules_named(state))


def observed_order(state: LlammaState, past: HistoricalLiquidation, prices: Mapping[AssetId, int], now: Clock) -> Order:
    """The call behind a liquidation of history: of a loan, the part of the debt that its log names; of the AMM,
    ``exchange`` or ``exchange_dy``, whichever explains both amounts.

    Often both do, since the amount that follows is rounded to a unit of its token, and then bands differ by less than
    that. The one taken is that whose other amount is of the finer unit, which the other call would meet by chance only;
    and where nothing was left, one that would have taken more and went on through the empty bands.
    """
    order = Order(past.account, Pair(past.debt_asset, past.collateral_asset), past.liquidator)
    if past.account != AMM:
        return replace(order, repay_scaled=past.debt_scaled)
    sold, bought, terms = replace(order, repay=past.repaid), replace(order, seize=past.seized), state.amm.terms
    collateral_is_coarse = prices.get(COLLATERAL, 0) * terms.collateral_scale > WAD * terms.borrowed_scale
    by_paid = (past.debt_asset == COLLATERAL) == collateral_is_coarse
    everything = replace(order, repay=EVERYTHING)
    for one in (sold, bought) if by_paid else (bought, sold):
        done = _explained(state, one, past, prices, now)
        if done is None:
            continue
        left = done.bands.get(done.active, (0, 0))[past.debt_asset == BORROWED]
        scale = terms.collateral_scale if past.debt_asset == BORROWED else terms.borrowed_scale
        if left < max(scale, 2) and _explained(state, everything, past, prices, now) is not None:
            return everything
        return one
    return sold if _explained(state, everything, past, prices, now) is None else everything


def exchanged(
    state: LlammaState, past: HistoricalLiquidation, prices: Mapping[AssetId, int], now: Clock
) -> Sequence[MarketEvent]:
    """What an exchange of history did to the AMM; nothing of a hard liquidation, whose changes the history has.

    Raises:
        RulesError: the rules do not explain it.
    """
    if past.account != AMM:
        return ()
    fill = quote(state, observed_order(state, past, prices, now), prices, now)
    if isinstance(fill, Refusal):
        raise RulesError(
            f"block {past.block_number}, log {past.log_index}: {fill.reason}, which the AMM refuses",
            "logs before it are missing: run backtest check",
        )
    return fill.changes


def _explained(
    state: LlammaState, order: Order, past: HistoricalLiquidation, prices: Mapping[AssetId, int], now: Clock
) -> Trade | None:
    """The exchange, where it comes to both amounts of history."""
    try:
        done = traded(state, order, prices, now)
    except (AmmReverts, PriceMissing):
        return None
    return done if (done.paid, done.bought) == (past.repaid, past.seized) else None
