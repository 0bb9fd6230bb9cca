"""A vault worked by hand: USDC (6 decimals) lent against shares of a WETH vault (18) and a WBTC vault (8), in dollars
of 18 decimals.

LTVs: WETH 83 % to borrow, 85 % to be liquidated; WBTC 78 %, 80 %. Discounts up to 15 %, no cool-off. Rates are nothing
unless a test says otherwise; a share of each collateral vault is a token.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    SettingChange,
    Side,
)
from backtest.protocols.euler_v2 import EULER_V2
from backtest.protocols.euler_v2.state import LENT, EulerState
from backtest.protocols.interface import Acted, Action, Fill, Order, Pair, Refusal

USDC, ETH, BTC, USD = 10**6, 10**18, 10**8, 10**18
WETH, WBTC = AssetId(1), AssetId(2)
LENDER, ALICE, BOB, KEEPER = map(AccountId, range(4))
START = 1_700_000_000
NOW = Clock(10, 5, START)
NAMES = ("0x" + "d0" * 20, "0x" + "a1" * 19 + "40", "0x" + "a1" * 19 + "42", "0x" + "ee" * 20)
MARKET = Market(
    name="hand", protocol="euler-v2", chain_id=1, accounts=NAMES, base_decimals=18,
    assets=(
        Asset(LENT, "0x" + "01" * 20, "USDC", 6), Asset(WETH, "0x" + "02" * 20, "eWETH-1", 18),
        Asset(WBTC, "0x" + "03" * 20, "eWBTC-1", 8),
    ),
)  # fmt: skip
OF_ASSETS: Mapping[AssetId, tuple[int, int]] = {WETH: (8_300, 8_500), WBTC: (7_800, 8_000)}


def place(time: int = START) -> dict[str, int]:
    """Where an event stands."""
    return {"seq": 0, "block_number": 10, "log_index": 0, "timestamp": time}


def param(name: str, value: int, asset: AssetId | None = None, time: int = START) -> ParamChange:
    """A parameter takes a value."""
    return ParamChange(**place(time), name=name, value=value, asset=asset)


def moved(
    who: AccountId, asset: AssetId, side: Side, delta: int, action: str, amount: int = 0, time: int = START
) -> PositionChange:
    """A change of one balance; debts in 2^-31 units."""
    own: dict[str, Any] = {**place(time), "action": action, "action_seq": 0, "amount": amount}
    return PositionChange(account=who, asset=asset, side=side, delta=delta, **own)


def flag(who: AccountId, setting: str, asset: AssetId | None, value: int) -> SettingChange:
    """A setting of an account."""
    own = {"account": who, "setting": setting, "asset": asset, "value": value}
    return SettingChange(**place(), **own, action="enable", action_seq=0)  # type: ignore[arg-type]


def lends(amount: int) -> PositionChange:
    """The lender deposits into an empty vault: a share is a unit."""
    return moved(LENDER, LENT, "collateral", amount, "supply", amount)


def pledges(who: AccountId, asset: AssetId, shares: int) -> list[MarketEvent]:
    """Enabled shares."""
    return [flag(who, "collateral_enabled", asset, 1), moved(who, asset, "collateral", shares, "supply", shares)]


def owes(who: AccountId, amount: int, time: int = START) -> PositionChange:
    """A loan."""
    return moved(who, LENT, "debt", amount << 31, "borrow", amount, time)


def vault(asset: AssetId, cash: int, shares: int) -> list[MarketEvent]:
    """A collateral vault that lends nothing."""
    names = {"vault_cash": cash, "vault_debt": 0, "vault_shares": shares, "vault_rate": 0}
    return [param(name, value, asset) for name, value in names.items()]


def opened(*events: MarketEvent, recompute: bool = False, **changed: int) -> EulerState:
    """A market with these parameters and nobody in it, then events."""
    state = EULER_V2.open(MARKET, recompute=recompute)
    for name, value in {"created": START, "max_liquidation_discount": 1_500, **changed}.items():
        EULER_V2.apply(state, param(name, value))
    first = [*vault(WETH, 1_000 * ETH, 1_000 * ETH), *vault(WBTC, 1_000 * BTC, 1_000 * BTC)]
    for asset, (ltv, threshold) in OF_ASSETS.items():
        terms = {"ltv": ltv, "initial_threshold": 0, "ramp_duration": 0, "ramp_end": START}
        first += [param(name, value, asset) for name, value in {**terms, "liquidation_threshold": threshold}.items()]
    for event in (*first, *events):
        EULER_V2.apply(state, event)
    return state


def book(owed: int = 1_500 * USDC, *events: MarketEvent, recompute: bool = False, **changed: int) -> EulerState:
    """The lender lends 10,000; alice owes against one ether."""
    made = [lends(10_000 * USDC), *pledges(ALICE, WETH, ETH), owes(ALICE, owed)]
    return opened(*made, *events, recompute=recompute, **changed)


def at(weth: int, wbtc: int = 30_000 * USD, usdc: int = USD) -> Prices:
    """Prices, base units a token."""
    oracle = {LENT: usdc, WETH: weth, WBTC: wbtc}
    return Prices(oracle, oracle, oracle)


def later(seconds: int) -> Clock:
    """A moment."""
    return Clock(11, 0, START + seconds)


def quoted(
    state: EulerState, weth: int, asset: AssetId = WETH, *, now: Clock = NOW, who: AccountId = ALICE, **order: Any
) -> Fill | Refusal:
    """What liquidating an account would do."""
    of = {"liquidator": KEEPER, **order}
    return EULER_V2.quote(state, Order(who, Pair(LENT, asset), **of), at(weth), now)


def liquidate(state: EulerState, weth: int, asset: AssetId = WETH, *, now: Clock = NOW, **order: Any) -> Fill:
    """Liquidates alice."""
    fill = quoted(state, weth, asset, now=now, **order)
    assert isinstance(fill, Fill), fill
    for change in fill.changes:
        EULER_V2.apply(state, change)
    return fill


def acted(
    state: EulerState, *changes: Any, weth: int = 2_000 * USD, now: Clock = NOW, name: str = "", **more: Any
) -> Acted | Refusal:
    """What an owner's calls do."""
    return EULER_V2.act(state, Action(name or changes[-1].action, changes, **more), at(weth), now)


def made(found: Acted | Refusal) -> Acted:
    """One that is not refused."""
    assert isinstance(found, Acted), found
    return found


def refusal(found: Acted | Fill | Refusal) -> str:
    """Why it was refused."""
    assert isinstance(found, Refusal), found
    return found.reason
