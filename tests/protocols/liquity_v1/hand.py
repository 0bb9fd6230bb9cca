"""A Liquity V1 system worked by hand: ether at 18 decimals against LUSD."""

from __future__ import annotations

from typing import Any

from backtest.model import AccountId, AssetId, Clock, Market, ParamChange, PositionChange, Side
from backtest.protocols.interface import Acted, Action, Fill, Order, Refusal
from backtest.protocols.liquity_v1 import LIQUITY_V1
from backtest.protocols.liquity_v1.liquidation import PAIR
from backtest.protocols.liquity_v1.state import ETH, LUSD, POOL, LiquityState
from tests.protocols.liquity_v1.session import ASSETS

E18 = 10**18
ALICE, BOB, CAROL, DAVE, CALLER = map(AccountId, range(2, 7))
NOW = Clock(10, 0, 1_000_000)
MARKET = Market(
    name="hand", protocol="liquity-v1", chain_id=1, assets=ASSETS, base_decimals=18,
    accounts=("pool", "default", "alice", "bob", "carol", "dave", "caller"),
)  # fmt: skip
PLACE = {"seq": 0, "block_number": 10, "log_index": 0, "timestamp": 1_000_000}
TERMS = {
    "liquidation_ratio": 11 * E18 // 10,
    "critical_ratio": 15 * E18 // 10,
    "gas_share": E18 // 200,
    "dust": 1_800 * E18,
    "fee_time": 1_000_000,
}


def moved(
    who: AccountId, asset: AssetId, side: Side, delta: int, action: str, amount: int | None = None
) -> PositionChange:
    """A change of one balance."""
    own: dict[str, Any] = {**PLACE, "action": action, "action_seq": 0, "amount": amount}
    return PositionChange(account=who, asset=asset, side=side, delta=delta, **own)


def opens(who: AccountId, coll: int, debt: int) -> list[PositionChange]:
    """A trove of this collateral and debt, all included."""
    return [moved(who, LUSD, "debt", debt, "open", debt), moved(who, ETH, "collateral", coll, "open", coll)]


def puts(who: AccountId, amount: int) -> list[PositionChange]:
    """A deposit into an empty place of the pool."""
    return [
        moved(POOL, LUSD, "collateral", amount, "offset"),
        moved(who, LUSD, "collateral", amount, "supply", amount),
    ]


def opened(*events: list[PositionChange], **changed: int) -> LiquityState:
    """The system with these terms, then events."""
    state = LIQUITY_V1.open(MARKET)
    for name, value in {**TERMS, **changed}.items():
        LIQUITY_V1.apply(state, ParamChange(**PLACE, name=name, value=value))
    for some in events:
        for event in some:
            LIQUITY_V1.apply(state, event)
    return state


def prices(ether: int) -> Any:
    """Dollars, 18 decimals."""
    from backtest.model import Prices

    oracle = {ETH: ether, LUSD: E18}
    return Prices(oracle, oracle, oracle)


def quoted(state: LiquityState, who: AccountId, ether: int) -> Fill | Refusal:
    """What liquidating a trove would do."""
    return LIQUITY_V1.quote(state, Order(who, PAIR, CALLER), prices(ether), NOW)


def liquidate(state: LiquityState, who: AccountId, ether: int) -> Fill:
    """Liquidates a trove."""
    fill = quoted(state, who, ether)
    assert isinstance(fill, Fill), fill
    for change in fill.changes:
        LIQUITY_V1.apply(state, change)
    return fill


def acted(state: LiquityState, ether: int, *changes: PositionChange, time: int = 0) -> Acted | Refusal:
    """What a user's call does, named by its last change."""
    now = Clock(10, 0, 1_000_000 + time)
    return LIQUITY_V1.act(state, Action(changes[-1].action, changes), prices(ether), now)


def refusal(found: Acted | Fill | Refusal) -> str:
    """Why it was refused."""
    assert isinstance(found, Refusal), found
    return found.reason
