"""A pair worked by hand: FRAX (18 decimals) lent against ether, in ether: at a rate of 5 x 10^14 an ether is
2,000 FRAX.

maxLTV 75 %, clean fee 10 %, dirty fee 9 %, protocol fee nothing, rates nothing unless a test says otherwise.
"""

from __future__ import annotations

from typing import Any

from backtest.model import AccountId, Asset, Clock, Market, MarketEvent, ParamChange, PositionChange, Prices, Side
from backtest.protocols.fraxlend import FRAXLEND
from backtest.protocols.fraxlend.liquidation import PAIR
from backtest.protocols.fraxlend.math import RateCurve
from backtest.protocols.fraxlend.state import COLLATERAL, LENT, FraxlendState
from backtest.protocols.interface import Acted, Action, Fill, Order, Refusal

E18 = 10**18
PAIR_ITSELF, LENDER, ALICE, BOB, KEEPER = map(AccountId, range(5))
START = 1_700_000_000
NOW = Clock(10, 5, START)
MARKET = Market(
    name="hand", protocol="fraxlend", chain_id=1, accounts=tuple(f"0x{n + 16:040x}" for n in range(8)),
    base_decimals=18, price_decimals=18,
    assets=(Asset(LENT, "0x" + "01" * 20, "FRAX", 18), Asset(COLLATERAL, "0x" + "02" * 20, "WETH", 18)),
)  # fmt: skip
TERMS = {
    "liquidation_threshold": 75_000,
    "liquidation_bonus": 110_000,
    "partial_liquidation_bonus": 109_000,
    "liquidation_protocol_fee": 0,
}
STILL = RateCurve(75_000, 85_000, 80_000, 0, 0, 0, 172_800, 2 * 10**17)
"""No interest."""
STEEP = RateCurve(75_000, 85_000, 80_000, 10**9, 4 * 10**10, 10**8, 172_800, 2 * 10**17)


def place(time: int = START) -> dict[str, int]:
    """Where an event stands."""
    return {"seq": 0, "block_number": 10, "log_index": 0, "timestamp": time}


def param(name: str, value: int, time: int = START) -> ParamChange:
    """A parameter takes a value."""
    return ParamChange(**place(time), name=name, value=value)


def moved(who: AccountId, side: Side, delta: int, action: str, amount: int, asset: int = 0) -> PositionChange:
    """A change of one balance."""
    own: dict[str, Any] = {**place(), "action": action, "action_seq": 0, "amount": amount}
    return PositionChange(account=who, asset=COLLATERAL if asset else LENT, side=side, delta=delta, **own)


def opened(*events: MarketEvent, curve: RateCurve = STILL, recompute: bool = False, **changed: int) -> FraxlendState:
    """A pair with these parameters and nobody in it, then events."""
    state = FRAXLEND.open(MARKET, recompute=recompute)
    first = {"created": 1, "fee_recipient": PAIR_ITSELF, "full_rate": curve.max_full_util_rate, **TERMS, **changed}
    for name, value in {**first, **curve._asdict()}.items():
        FRAXLEND.apply(state, param(name, value))
    state.totals.updated = START
    for event in events:
        FRAXLEND.apply(state, event)
    return state


def book(owed: int = 1_400, **more: Any) -> FraxlendState:
    """The lender lends 10,000; alice owes against one ether; a share is a unit."""
    return opened(
        moved(LENDER, "collateral", 10_000 * E18, "supply", 10_000 * E18),
        moved(ALICE, "collateral", E18, "supply", E18, 1),
        moved(ALICE, "debt", owed * E18, "borrow", owed * E18),
        **more,
    )


def at(usd: int) -> Prices:
    """Prices where an ether is so many FRAX, which divide 10^18."""
    oracle = {LENT: E18 // usd, COLLATERAL: E18}
    return Prices(oracle, oracle, oracle)


def later(seconds: int) -> Clock:
    """A moment."""
    return Clock(11, 0, START + seconds)


def quoted(state: FraxlendState, usd: int, now: Clock = NOW, **order: Any) -> Fill | Refusal:
    """What liquidating alice would do."""
    return FRAXLEND.quote(state, Order(ALICE, PAIR, KEEPER, **order), at(usd), now)


def liquidate(state: FraxlendState, usd: int, now: Clock = NOW, **order: Any) -> Fill:
    """Liquidates alice."""
    fill = quoted(state, usd, now, **order)
    assert isinstance(fill, Fill), fill
    for change in fill.changes:
        FRAXLEND.apply(state, change)
    return fill


def acted(state: FraxlendState, *changes: PositionChange, usd: int = 2_000, now: Clock = NOW, **more: Any) -> Any:
    """What a user's call does, or why not."""
    found = FRAXLEND.act(state, Action(changes[0].action, changes, **more), at(usd), now)
    if isinstance(found, Acted):
        for change in found.changes:
            FRAXLEND.apply(state, change)
        return found
    return found.reason
