"""A credit manager worked by hand: USDC (6 decimals) is lent; WETH (18) and WBTC (8) are collateral.

Thresholds 90 % and 80 %; premium 4 %, fee 1.5 %, of expired accounts 2 % and 1 %; a quarter of interest is the
treasury's. The pool has 10,000 and lent nothing; rates are nothing unless a test says otherwise.
"""

from __future__ import annotations

from typing import Any

from backtest.model import (
    AccountId,
    Asset,
    AssetId,
    Clock,
    IndexUpdate,
    Market,
    MarketEvent,
    ParamChange,
    PositionChange,
    Prices,
    SettingChange,
    Side,
)
from backtest.protocols.gearbox_v3 import GEARBOX_V3
from backtest.protocols.gearbox_v3.state import CURVE, UNDERLYING, GearboxState
from backtest.units import RAY

USDC, ETH, BTC, USD = 10**6, 10**18, 10**8, 10**8
WETH, WBTC = AssetId(1), AssetId(2)
ALICE, BOB, KEEPER, OWNER = map(AccountId, range(4))
START = 1_700_000_000
YEAR = 31_536_000
NOW = Clock(20, 5, START)
MARKET = Market(
    name="hand",
    protocol="gearbox-v3",
    chain_id=1,
    accounts=("0x" + "a1" * 20, "0x" + "b0" * 20, "0x" + "ee" * 20, "0x" + "0a" * 20),
    base_decimals=8,
    assets=(
        Asset(UNDERLYING, "0x" + "01" * 20, "USDC", 6),
        Asset(WETH, "0x" + "02" * 20, "WETH", 18),
        Asset(WBTC, "0x" + "03" * 20, "WBTC", 8),
    ),
)
TERMS = {
    "interest_fee": 2_500,
    "liquidation_fee": 150,
    "liquidation_premium": 400,
    "liquidation_fee_expired": 100,
    "liquidation_premium_expired": 200,
    "least_debt": 100 * USDC,
    "greatest_debt": 100_000 * USDC,
    "expires": 0,
    "quota_rates_updated": START,
    **dict(zip(CURVE, (8_000, 9_000, 0, 100, 125, 10_000, 0), strict=True)),
}


def place(time: int = START, block: int = 10) -> dict[str, int]:
    """Where an event stands."""
    return {"seq": 0, "block_number": block, "log_index": 0, "timestamp": time}


def param(name: str, value: int, asset: AssetId | None = None, time: int = START) -> ParamChange:
    """A parameter takes a value."""
    return ParamChange(**place(time), name=name, value=value, asset=asset)


def moved(who: AccountId, asset: AssetId, side: Side, delta: int, time: int = START, block: int = 10) -> PositionChange:
    """A balance changes."""
    own: dict[str, Any] = {**place(time, block), "action": "borrow", "action_seq": 0, "amount": abs(delta)}
    return PositionChange(account=who, asset=asset, side=side, delta=delta, **own)


def setting(who: AccountId, name: str, asset: AssetId, value: int, time: int = START) -> SettingChange:
    """A setting of an account."""
    return SettingChange(
        **place(time), account=who, setting=name, asset=asset, value=value, action="borrow", action_seq=0
    )


def rate(index: int, yearly: int, time: int = START) -> IndexUpdate:
    """The pool's index and rate, ray."""
    return IndexUpdate(
        **place(time), asset=UNDERLYING, supply_index=RAY, borrow_index=index, supply_rate=0, borrow_rate=yearly
    )


def loan(who: AccountId, debt: int, token: AssetId, held: int, quota: int, index: int = RAY) -> list[MarketEvent]:
    """An account that borrowed, and holds tokens with a quota."""
    return [
        setting(who, "owner", UNDERLYING, OWNER),
        moved(who, UNDERLYING, "debt", debt),
        setting(who, "debt_index", UNDERLYING, index),
        setting(who, "quota", token, quota),
        moved(who, token, "collateral", held),
    ]


def opened(*events: MarketEvent, recompute: bool = False, **changed: int) -> GearboxState:
    """The market, then events."""
    state = GEARBOX_V3.open(MARKET, recompute=recompute)
    first: list[MarketEvent] = [param(name, value) for name, value in {**TERMS, **changed}.items()]
    first.append(rate(RAY, 0))
    for asset, threshold in ((WETH, 9_000), (WBTC, 8_000)):
        values = {
            "liquidation_threshold": threshold,
            "quota_rate": 0,
            "quota_index": 1,
            "quota_limit": 10**12 * USDC,
            "quota_increase_fee": 0,
        }
        first += [param(name, value, asset) for name, value in values.items()]
    first += [param("others_expected", 10_000 * USDC), param("others_available", 10_000 * USDC)]
    for event in (*first, *events):
        GEARBOX_V3.apply(state, event)
    return state


def book(*events: MarketEvent, debt: int = 1_500 * USDC, recompute: bool = False, **changed: int) -> GearboxState:
    """Alice owes against one ether, with a quota of 3,000."""
    return opened(*loan(ALICE, debt, WETH, ETH, 3_000 * USDC), *events, recompute=recompute, **changed)


def at(weth: int, wbtc: int = 30_000, usdc: int = USD) -> Prices:
    """Prices in dollars, of the underlying in base units."""
    oracle = {UNDERLYING: usdc, WETH: weth * USD, WBTC: wbtc * USD}
    return Prices(oracle, oracle, oracle)


def later(seconds: int, block: int = 21) -> Clock:
    """A moment."""
    return Clock(block, 0, START + seconds)
