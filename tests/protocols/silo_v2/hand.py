"""A market worked by hand: ether (silo 0, priced in USDC by its oracle) and USDC (silo 1, which has none). A base unit
is a unit of USDC.

Ether as collateral: maxLtv 75 %, lt 80 %, target 70 %, fee 5 %; USDC the same with lt 85 %. No interest unless a test
says otherwise; of what there is the DAO has 10 % and the deployer 5 %.
"""

from __future__ import annotations

from typing import Any

from backtest.model import (
    AccountId,
    Asset,
    AssetId,
    Clock,
    Market,
    MarketEvent,
    ParamChange,
    PositionChange,
    Prices,
    Side,
)
from backtest.protocols.interface import Acted, Action, Fill, Order, Pair, Refusal
from backtest.protocols.silo_v2 import SILO_V2
from backtest.protocols.silo_v2.irm import Gains
from backtest.protocols.silo_v2.state import SiloState
from backtest.units import WAD

E6, E18, E24 = 10**6, 10**18, 10**24
WETH, USDC, KEPT_WETH, KEPT_USDC = map(AssetId, range(4))
LENDER, ALICE, BOB, KEEPER = map(AccountId, range(4))
PAIR = Pair(USDC, WETH)
START = 1_700_000_000
NOW = Clock(10, 5, START)
PERCENT = WAD // 100
MARKET = Market(
    name="hand", protocol="silo-v2", chain_id=1, accounts=tuple(f"0x{n + 16:040x}" for n in range(8)),
    base_decimals=6, price_decimals=24,
    assets=(
        Asset(WETH, "0x" + "01" * 20, "WETH", 18), Asset(USDC, "0x" + "02" * 20, "USDC", 6),
        Asset(KEPT_WETH, "0x" + "03" * 20, "nbWETH-1", 18), Asset(KEPT_USDC, "0x" + "04" * 20, "nbUSDC-1", 6),
    ),
)  # fmt: skip
TERMS = {
    "ltv": 75 * PERCENT,
    "liquidation_threshold": 80 * PERCENT,
    "liquidation_target_ltv": 70 * PERCENT,
    "liquidation_bonus": 105 * PERCENT,
}
STILL = Gains(80 * PERCENT, 90 * PERCENT, 50 * PERCENT, 0, 0, 0, 0, 0)
"""No interest."""
STEEP = Gains(80 * PERCENT, 90 * PERCENT, 50 * PERCENT, 10**5, 10**11, 10**9, 10**9, 10**13)
"""3 % a year at least when all is lent, 300 % and more above 90 %."""


def place(time: int = START) -> dict[str, int]:
    """Where an event stands."""
    return {"seq": 0, "block_number": 10, "log_index": 0, "timestamp": time}


def param(name: str, value: int, asset: AssetId | None = None, time: int = START) -> ParamChange:
    """A parameter takes a value."""
    return ParamChange(**place(time), name=name, value=value, asset=asset)


def moved(
    who: AccountId, asset: AssetId, side: Side, delta: int, action: str, amount: int, time: int = START
) -> PositionChange:
    """A change of one balance."""
    own: dict[str, Any] = {**place(time), "action": action, "action_seq": 0, "amount": amount}
    return PositionChange(account=who, asset=asset, side=side, delta=delta, **own)


def opened(
    *events: MarketEvent, curve: Gains = STILL, ri: int = 0, recompute: bool = False, fractions: int = 1, **changed: int
) -> SiloState:
    """A market with these parameters (``changed``: of ether) and nobody in it, then events."""
    state = SILO_V2.open(MARKET, recompute=recompute)
    market = {"created": 1, "fractions": fractions, "dao_fee": 10 * PERCENT, "deployer_fee": 5 * PERCENT}
    for name, value in market.items():
        SILO_V2.apply(state, param(name, value))
    own = {WETH: {**TERMS, **changed}, USDC: {**TERMS, "liquidation_threshold": 85 * PERCENT}}
    for asset, terms in own.items():
        for name, value in {**terms, **curve._asdict(), "ri": ri, "t_crit": 0}.items():
            SILO_V2.apply(state, param(name, value, asset))
        SILO_V2.apply(state, param("accrued", 0, asset))
    for event in events:
        SILO_V2.apply(state, event)
    return state


def book(owed: int = 1_500, ether: int = E18, protected: int = 0, **more: Any) -> SiloState:
    """The lender lends 10,000 USDC; alice owes USDC against ether, of which so much is protected."""
    lent = ether - protected
    events = [moved(LENDER, USDC, "collateral", 10**13, "supply", 10**10)]
    if lent:
        events.append(moved(ALICE, WETH, "collateral", 1_000 * lent, "supply", lent))
    if protected:
        events.append(moved(ALICE, KEPT_WETH, "collateral", 1_000 * protected, "supply", protected))
    if owed:
        events.append(moved(ALICE, USDC, "debt", owed * E6, "borrow", owed * E6))
    return opened(*events, **more)


def at(usd: int) -> Prices:
    """Prices where an ether is so many USDC."""
    oracle = {WETH: usd * E24, USDC: E24, KEPT_WETH: usd * E24, KEPT_USDC: E24}
    return Prices(oracle, oracle, oracle)


def later(seconds: int) -> Clock:
    """A moment."""
    return Clock(11, 0, START + seconds)


def quoted(state: SiloState, usd: int, now: Clock = NOW, **order: Any) -> Fill | Refusal:
    """What liquidating alice would do."""
    return SILO_V2.quote(state, Order(ALICE, PAIR, KEEPER, **order), at(usd), now)


def liquidate(state: SiloState, usd: int, now: Clock = NOW, **order: Any) -> Fill:
    """Liquidates alice."""
    fill = quoted(state, usd, now, **order)
    assert isinstance(fill, Fill), fill
    for change in fill.changes:
        SILO_V2.apply(state, change)
    return fill


def acted(state: SiloState, *changes: Any, usd: int = 2_000, now: Clock = NOW, **more: Any) -> Any:
    """What a user's call does, or why not."""
    found = SILO_V2.act(state, Action(changes[-1].action, changes, **more), at(usd), now)
    if isinstance(found, Acted):
        for change in found.changes:
            SILO_V2.apply(state, change)
        return found
    return found.reason
