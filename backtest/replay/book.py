"""Where a replay stands: a protocol's state with the prices, indexes and clock that its rules are asked with."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Generic

from backtest.model import AccountId, AssetId, Clock, IndexUpdate, Market, MarketEvent, Prices, PriceUpdate
from backtest.protocols import LendingProtocol, State


@dataclass(slots=True)
class Book(Generic[State]):
    """One market at one moment. ``prices`` is a live view of ``oracle``: without a market model all three prices are the oracle's.

    An asset without an entry in ``oracle`` has no price: the oracle would revert.
    """

    protocol: LendingProtocol[State]
    market: Market
    state: State
    now: Clock = field(default_factory=lambda: Clock(0, -1, 0))
    seq: int = -1
    """The last event applied."""
    oracle: dict[AssetId, int] = field(default_factory=dict)
    indexes: dict[AssetId, IndexUpdate] = field(default_factory=dict)
    prices: Prices = field(init=False)
    units: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.prices = Prices(self.oracle, self.oracle, self.oracle)
        self.units = [self.market.unit(asset.id) for asset in self.market.assets]

    @classmethod
    def open(cls, protocol: LendingProtocol[State], market: Market, *, recompute: bool = False) -> Book[State]:
        """The empty book of a market; with ``recompute`` interest follows the book."""
        return cls(protocol, market, protocol.open(market, recompute=recompute))

    def copy(self) -> Book[State]:
        """The book as it is now, independent of this one."""
        fixed = {id(self.protocol): self.protocol, id(self.market): self.market}
        oracle, indexes = dict(self.oracle), dict(self.indexes)
        return Book(self.protocol, self.market, deepcopy(self.state, fixed), self.now, self.seq, oracle, indexes)

    def apply(self, event: MarketEvent) -> None:
        """Apply one event or effect; prices are kept here, everything else is the protocol's."""
        if type(event) is PriceUpdate:
            if event.price is None:
                self.oracle.pop(event.asset, None)
            else:
                self.oracle[event.asset] = event.price
            return
        if type(event) is IndexUpdate:
            self.indexes[event.asset] = event
        self.protocol.apply(self.state, event)

    def value_down(self, asset: AssetId, amount: int) -> int:
        """``amount`` native units at the oracle price, in base units, rounded down; 0 without a price."""
        return amount * self.oracle.get(asset, 0) // self.units[asset]

    def value_up(self, asset: AssetId, amount: int) -> int:
        """``amount`` native units at the oracle price, in base units, rounded up; 0 without a price."""
        return -(-amount * self.oracle.get(asset, 0) // self.units[asset])

    def proceeds_down(self, asset: AssetId, amount: int) -> int:
        """What selling ``amount`` native units brings, at the execution price, in base units, rounded down."""
        return amount * self.prices.execution.get(asset, 0) // self.units[asset]

    def cost_up(self, asset: AssetId, amount: int) -> int:
        """What buying ``amount`` native units costs, at the market price, in base units, rounded up."""
        return -(-amount * self.prices.market.get(asset, 0) // self.units[asset])

    def address(self, account: AccountId) -> str:
        """An account's address, or the name of a modelled liquidator."""
        return self.market.accounts[account]
