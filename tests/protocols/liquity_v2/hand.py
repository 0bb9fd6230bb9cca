"""A branch of Liquity V2 worked by hand: ether at 18 decimals against BOLD."""

from __future__ import annotations

from typing import Any

from backtest.model import AccountId, Asset, AssetId, Clock, Market, ParamChange, Prices
from backtest.protocols.interface import Acted, Action, Fill, Order, Refusal
from backtest.protocols.liquity_v2 import LIQUITY_V2
from backtest.protocols.liquity_v2.actions import opened, registering
from backtest.protocols.liquity_v2.deposits import deposited
from backtest.protocols.liquity_v2.liquidation import PAIR
from backtest.protocols.liquity_v2.state import BranchState
from backtest.protocols.liquity_v2.touch import Change

E18 = 10**18
START = 1_000_000
YEAR = 31_536_000
ALICE, BOB, CAROL, DAVE, MANAGER, CALLER = map(AccountId, range(4, 10))
ASSETS = (Asset(AssetId(0), "0x" + "e1" * 20, "WETH", 18), Asset(AssetId(1), "0x" + "d1" * 20, "BOLD", 18))
MARKET = Market(
    name="hand", protocol="liquity-v2", chain_id=1, assets=ASSETS, base_decimals=18,
    accounts=("pool", "default", "active", "surplus", "alice", "bob", "carol", "dave", "manager", "caller"),
)  # fmt: skip
TERMS = {
    "liquidation_ratio": 11 * E18 // 10,
    "critical_ratio": 15 * E18 // 10,
    "shutdown_ratio": 11 * E18 // 10,
    "batch_margin": E18 // 10,
    "liquidation_penalty": 105 * E18 // 100,
    "redistribution_penalty": 11 * E18 // 10,
    "gas_share": E18 // 200,
    "dust": 2_000 * E18,
    "gas_reward": 375 * 10**14,
}


def at(seconds: int = 0) -> Clock:
    """So many seconds after the start."""
    return Clock(10, 0, START + seconds)


def prices(ether: int) -> Prices:
    """Dollars, whole."""
    oracle = {AssetId(0): ether * E18, AssetId(1): E18}
    return Prices(oracle, oracle, oracle)


def make(state: BranchState, changes: Any) -> None:
    """Applies changes."""
    for change in changes:
        LIQUITY_V2.apply(state, change)


def branch(**changed: int) -> BranchState:
    """A branch without troves at these terms."""
    state = LIQUITY_V2.open(MARKET)
    place = {"seq": 0, "block_number": 10, "log_index": 0, "timestamp": START}
    for name, value in {**TERMS, **changed}.items():
        LIQUITY_V2.apply(state, ParamChange(**place, name=name, value=value))
    return state


def opens(
    state: BranchState, who: AccountId, coll: int, debt: int, *, rate: int = 5, batch: AccountId | None = None,
    time: int = 0, fee: int = 0,
) -> None:  # fmt: skip
    """A trove of whole ether and BOLD at a rate in percent, with this upfront fee."""
    made = opened(state, who, coll * E18, debt * E18, rate * E18 // 100, batch, 0, at(time), fee)
    assert isinstance(made, tuple)
    make(state, made[0])


def registers(state: BranchState, who: AccountId, rate: int = 5, fee: int = 1) -> None:
    """A batch at a rate and a management fee in percent."""
    make(state, registering(who, rate * E18 // 100, fee * E18 // 100, at()))


def puts(state: BranchState, who: AccountId, amount: int, *, time: int = 0, claims: bool = True) -> None:
    """A deposit of whole BOLD."""
    make(state, deposited(state, who, amount * E18, at(time), claims=claims))


def quoted(state: BranchState, who: AccountId, ether: int, time: int = 0) -> Fill | Refusal:
    """What liquidating a trove would do."""
    return LIQUITY_V2.quote(state, Order(who, PAIR, CALLER), prices(ether), at(time))


def liquidate(state: BranchState, who: AccountId, ether: int, time: int = 0) -> Fill:
    """Liquidates a trove."""
    fill = quoted(state, who, ether, time)
    assert isinstance(fill, Fill), fill
    make(state, fill.changes)
    return fill


def acted(state: BranchState, ether: int, changes: list[Change], time: int = 0, **more: Any) -> Acted | Refusal:
    """What a user's call does that history made with these changes."""
    own: Any = tuple(changes)
    return LIQUITY_V2.act(state, Action(own[-1].action, own, **more), prices(ether), at(time))


def refusal(found: Any) -> str:
    """Why it was refused."""
    assert isinstance(found, Refusal), found
    return found.reason
