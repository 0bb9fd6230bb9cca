"""A Comet worked by hand: USDC (6 decimals) against WETH (18) and WBTC (8), prices of 8 decimals.

Factors: WETH 82.5 % to borrow, 89.5 % to be absorbed, credited at 95 %; WBTC 70 %, 77 %, 93 %. Buyers get half of the
rest. Curves: kink 80 %; supply 0 + 3.25 % below, 40 % above; borrow 1.5 % + 3.5 % below, 25 % above, each a year over
31,536,000 seconds, cut.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    Side,
)
from backtest.protocols.compound_v3 import COMPOUND_V3
from backtest.protocols.compound_v3.state import BASE, RATE_SCALE, TO_RAY, CometState

USDC, ETH, BTC, USD, WAD, ONE = 10**6, 10**18, 10**8, 10**8, 10**18, 10**15
WETH, WBTC = AssetId(1), AssetId(2)
LENDER, ALICE, BOB, BUYER = map(AccountId, range(4))
START = 1_000_000
NOW = Clock(10, 5, START)
MARKET = Market(
    name="hand",
    protocol="compound-v3",
    chain_id=1,
    assets=(
        Asset(BASE, "0x" + "01" * 20, "USDC", 6),
        Asset(WETH, "0x" + "02" * 20, "WETH", 18),
        Asset(WBTC, "0x" + "03" * 20, "WBTC", 8),
    ),
    accounts=("lender", "alice", "bob", "buyer"),
)
PARAMS: Mapping[str, int] = {
    "comet_revision": 1,
    "supply_kink": 800_000_000_000_000_000,
    "supply_rate_base": 0,
    "supply_rate_slope_low": 1_030_568_239,
    "supply_rate_slope_high": 12_683_916_793,
    "borrow_kink": 800_000_000_000_000_000,
    "borrow_rate_base": 475_646_879,
    "borrow_rate_slope_low": 1_109_842_719,
    "borrow_rate_slope_high": 7_927_447_995,
    "store_front_price_factor": WAD // 2,
    "tracking_index_scale": ONE,
    "base_tracking_supply_speed": 2 * 10**11,
    "base_tracking_borrow_speed": 10**11,
    "base_min_for_rewards": 1_000 * USDC,
    "base_borrow_min": 100 * USDC,
    "target_reserves": 5_000 * USDC,
}
OF_ASSETS: Mapping[AssetId, tuple[int, int, int, int]] = {
    WETH: (825, 895, 950, 1_000 * ETH),
    WBTC: (700, 770, 930, 50 * BTC),
}


def place(time: int = START) -> dict[str, int]:
    """Where an event stands."""
    return {"seq": 0, "block_number": 10, "log_index": 0, "timestamp": time}


def param(name: str, value: int, asset: AssetId | None = None) -> ParamChange:
    """A parameter takes a value."""
    return ParamChange(seq=0, block_number=10, log_index=0, timestamp=START, name=name, value=value, asset=asset)


def moved(who: AccountId, asset: AssetId, side: Side, delta: int, action: str, amount: int = 0) -> PositionChange:
    """A change of one balance."""
    return PositionChange(
        seq=0, block_number=10, log_index=0, timestamp=START, account=who, asset=asset, side=side, delta=delta,
        action=action, action_seq=0, amount=amount,
    )  # fmt: skip


def indexes(supply: int, borrow: int, rates: tuple[int, int] = (0, 0), time: int = START) -> IndexUpdate:
    """Indexes of 10^15 and rates a second (wad)."""
    return IndexUpdate(
        seq=0, block_number=10, log_index=0, timestamp=time, asset=BASE,
        supply_index=supply * TO_RAY, borrow_index=borrow * TO_RAY,
        supply_rate=rates[0] * RATE_SCALE, borrow_rate=rates[1] * RATE_SCALE,
    )  # fmt: skip


def opened(*events: MarketEvent, recompute: bool = False, **changed: int) -> CometState:
    """A market with these parameters and nobody in it, then events."""
    state = COMPOUND_V3.open(MARKET, recompute=recompute)
    for name, value in {**PARAMS, **changed}.items():
        COMPOUND_V3.apply(state, param(name, value))
    for asset, factors in OF_ASSETS.items():
        names = ("ltv", "liquidation_threshold", "liquidation_factor")
        for name, value in zip(names, factors, strict=False):
            COMPOUND_V3.apply(state, param(name, value * WAD // 1_000, asset))
        COMPOUND_V3.apply(state, param("supply_cap", factors[3], asset))
    COMPOUND_V3.apply(state, param("created", START))
    for event in events:
        COMPOUND_V3.apply(state, event)
    return state


def book(*events: MarketEvent, recompute: bool = False, **changed: int) -> CometState:
    """The lender lends 10,000; alice owes 1,500 against one ether; indexes are one."""
    return opened(
        moved(LENDER, BASE, "collateral", 10_000 * USDC, "supply", 10_000 * USDC),
        moved(ALICE, WETH, "collateral", ETH, "supply", ETH),
        moved(ALICE, BASE, "debt", 1_500 * USDC, "borrow", 1_500 * USDC),
        *events,
        recompute=recompute,
        **changed,
    )


def at(weth: int, wbtc: int = 30_000 * USD, usdc: int = USD) -> Prices:
    """Prices, base units a token."""
    oracle = {BASE: usdc, WETH: weth, WBTC: wbtc}
    return Prices(oracle, oracle, oracle)
