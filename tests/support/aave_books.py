"""Small hand-made Aave V3 books for tests, and a way to change them by canonical events."""

from __future__ import annotations

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
    SettingChange,
)
from backtest.protocols.aave_v3.liquidation import quote
from backtest.protocols.aave_v3.state import AaveState, apply, open_state
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.units import RAY

COL, DEBT, OTHER = AssetId(0), AssetId(1), AssetId(2)
ALICE, LIQUIDATOR, TREASURY, BOB = AccountId(0), AccountId(1), AccountId(2), AccountId(3)
START = 1_700_000_000
NOW = Clock(100, 5, START)
ONE = 10**8
"""A price of one US dollar."""


def market(decimals: int = 2) -> Market:
    assets = tuple(
        Asset(AssetId(i), f"0x{i + 1:040x}", symbol, decimals) for i, symbol in enumerate(("COL", "DEBT", "OTHER"))
    )
    return Market(
        name="toy", protocol="aave-v3", chain_id=1, assets=assets, accounts=tuple(f"0x{i + 1:040x}" for i in range(4))
    )


class Toy:
    """Three assets of ``decimals``, priced at a dollar; COL has threshold 80 %, bonus 5 %, protocol fee 10 % of the
    bonus.
    """

    def __init__(self, revision: int, decimals: int = 2, supply_index: int = RAY, borrow_index: int = RAY) -> None:
        self.state: AaveState = open_state(market(decimals))
        self.prices: dict[AssetId, int | None] = {COL: ONE, DEBT: ONE, OTHER: ONE}
        self.param("pool_revision", revision)
        for asset in (COL, DEBT, OTHER):
            self.param("reserve_id", asset, asset=asset)
            self.param("ltv", 7500, asset=asset)
            self.param("liquidation_threshold", 8000, asset=asset)
            self.param("liquidation_bonus", 10500, asset=asset)
            self.param("liquidation_protocol_fee", 1000, asset=asset)
            self.param("treasury", TREASURY, asset=asset)
            self.index(asset, supply_index, borrow_index)

    def do(self, event: MarketEvent) -> None:
        apply(self.state, event)

    def param(self, name: str, value: int, asset: AssetId | None = None, category: int | None = None) -> None:
        self.do(
            ParamChange(
                seq=0,
                block_number=99,
                log_index=0,
                timestamp=START,
                name=name,
                value=value,
                asset=asset,
                category=category,
            )
        )

    def index(self, asset: AssetId, supply: int, borrow: int, supply_rate: int = 0, borrow_rate: int = 0) -> None:
        at = {"seq": 0, "block_number": 99, "log_index": 0, "timestamp": START}
        self.do(
            IndexUpdate(
                **at,
                asset=asset,
                supply_index=supply,
                borrow_index=borrow,
                supply_rate=supply_rate,
                borrow_rate=borrow_rate,
            )
        )

    def setting(self, name: str, value: int, asset: AssetId | None = None, account: AccountId = ALICE) -> None:
        at = {"seq": 0, "block_number": 99, "log_index": 0, "timestamp": START, "action": "other", "action_seq": 0}
        self.do(SettingChange(**at, account=account, setting=name, asset=asset, value=value))

    def move(self, side: str, asset: AssetId, delta: int, account: AccountId = ALICE) -> None:
        at = {"seq": 0, "block_number": 99, "log_index": 7, "timestamp": START, "action": "supply", "action_seq": 0}
        self.do(PositionChange(**at, account=account, asset=asset, side=side, delta=delta))  # type: ignore[arg-type]

    def supply(self, asset: AssetId, scaled: int, account: AccountId = ALICE, *, enabled: bool = True) -> None:
        self.move("collateral", asset, scaled, account)
        if enabled:
            self.setting("collateral_enabled", 1, asset, account)

    def borrow(self, asset: AssetId, scaled: int, account: AccountId = ALICE) -> None:
        self.move("debt", asset, scaled, account)

    def order(
        self,
        repay: int | None = None,
        *,
        debt: AssetId = DEBT,
        collateral: AssetId = COL,
        tokens: bool = False,
        by: AccountId = LIQUIDATOR,
    ) -> Order:
        return Order(
            account=ALICE, pair=Pair(debt, collateral), liquidator=by, repay=repay, receive_collateral_token=tokens
        )

    def quote(self, order: Order | None = None, now: Clock = NOW) -> Fill | Refusal:
        return quote(self.state, order or self.order(), self.prices, now)  # type: ignore[arg-type]

    def fill(self, order: Order | None = None, now: Clock = NOW) -> Fill:
        fill = self.quote(order, now)
        assert isinstance(fill, Fill), fill
        return fill

    def refusal(self, order: Order | None = None, now: Clock = NOW) -> str:
        refusal = self.quote(order, now)
        assert isinstance(refusal, Refusal), refusal
        return refusal.reason

    def liquidate(self, order: Order | None = None, now: Clock = NOW) -> Fill:
        fill = self.fill(order, now)
        for change in fill.changes:
            self.do(change)
        return fill

    def scaled(self, side: str, asset: AssetId, account: AccountId = ALICE) -> int:
        book = self.state.accounts.get(account)
        return 0 if book is None else (book.debt if side == "debt" else book.collateral).get(asset, 0)

    def enabled(self, asset: AssetId, account: AccountId = ALICE) -> bool:
        book = self.state.accounts.get(account)
        return book is not None and asset in book.enabled
