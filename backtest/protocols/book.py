"""Where a replay stands: a protocol's state with the prices, indexes and clock that its rules are asked with."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Generic

from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    HistoricalLiquidation,
    IndexUpdate,
    Market,
    MarketEvent,
    MarketPrice,
    PoolChange,
    PoolId,
    Prices,
    PriceUpdate,
)
from backtest.pools.uniswap_v3 import PoolState, swap
from backtest.protocols.interface import LendingProtocol, Opening, State


@dataclass(frozen=True, slots=True)
class Sale:
    """What selling an asset into its pool brings: ``proceeds`` are base units, rounded down; ``sold`` are the native
    units that the pool takes, fewer than offered where it runs out of liquidity.
    """

    sold: int
    proceeds: int


@dataclass(slots=True)
class Book(Generic[State]):
    """One market at one moment.

    Attributes:
        oracle: prices; an asset without an entry has none: the oracle would revert.
        traded: market prices, of the assets whose market price is known.
        plain: accounts are valued one by one, by the plain rule: the reference.
        pools: those that are initialized or hold liquidity.
        prices: a live view, another one from the first market price on: the oracle's, which decide about health; and as
            market and execution price, which value what liquidators get and pay, that of ``traded``, or the oracle's
            for an asset that is not in it.
    """

    protocol: LendingProtocol[State]
    market: Market
    state: State
    now: Clock = field(default_factory=lambda: Clock(0, -1, 0))
    seq: int = -1
    """The last event applied."""
    oracle: dict[AssetId, int] = field(default_factory=dict)
    indexes: dict[AssetId, IndexUpdate] = field(default_factory=dict)
    traded: dict[AssetId, int] = field(default_factory=dict)
    pools: dict[PoolId, PoolState] = field(default_factory=dict)
    plain: bool = field(default=False, compare=False)
    prices: Prices = field(init=False)
    units: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._price()
        self.units = [self.market.unit(asset.id) for asset in self.market.assets]

    def _price(self) -> None:
        """Only where something was traded does asking for a market price cost a second look-up."""
        known = ChainMap(self.traded, self.oracle) if self.traded else self.oracle
        self.prices = Prices(self.oracle, known, known)

    @classmethod
    def open(cls, protocol: LendingProtocol[State], market: Market, *, recompute: bool = False) -> Book[State]:
        """The empty book of a market; with ``recompute`` interest follows the book."""
        return cls(protocol, market, protocol.open(market, recompute=recompute))

    def begin(self, opening: Opening) -> bool:
        """Accounts that the book begins with. False: the protocol cannot, and nothing changed: an empty one asks."""
        return self.protocol.open_accounts(self.state, opening)

    def copy(self) -> Book[State]:
        """The book as it is now, independent of this one."""
        fixed = {id(self.protocol): self.protocol, id(self.market): self.market}
        oracle, indexes, traded = dict(self.oracle), dict(self.indexes), dict(self.traded)
        pools = {pool: state.copy() for pool, state in self.pools.items()}
        return Book(
            self.protocol,
            self.market,
            deepcopy(self.state, fixed),
            self.now,
            self.seq,
            oracle,
            indexes,
            traded,
            pools,
            self.plain,
        )

    def priced_now(self) -> Book[State]:
        """The book with its prices and clock as they are now, whatever becomes of its state."""
        return replace(self, oracle=dict(self.oracle), traded=dict(self.traded))

    def apply(self, event: MarketEvent) -> None:
        """Apply one event or effect; prices and pools are kept here, everything else is the protocol's."""
        if type(event) is PriceUpdate or type(event) is MarketPrice:
            known = self.oracle if type(event) is PriceUpdate else self.traded
            if event.price is None:
                known.pop(event.asset, None)
            else:
                known[event.asset] = event.price
            if self.traded and self.prices.market is self.oracle:
                self._price()
            return
        if type(event) is PoolChange:
            if event.pool not in self.pools:
                fixed = self.market.pools[event.pool]
                self.pools[event.pool] = PoolState(fixed.fee, fixed.spacing)
            self.pools[event.pool].apply(event)
            return
        if type(event) is IndexUpdate:
            self.indexes[event.asset] = event
        self.protocol.apply(self.state, event)

    def relive(self, event: MarketEvent) -> Sequence[MarketEvent]:
        """Apply one event of history as it was, with nothing re-enacted: of a liquidation its changes, which are events
        of their own, and what only its protocol can tell, which is returned.
        """
        if type(event) is not HistoricalLiquidation:
            self.apply(event)
            return ()
        now = Clock(event.block_number, event.log_index, event.timestamp)
        effects = self.protocol.relived(self.state, event, self.prices, now)
        for effect in effects:
            self.apply(effect)
        return effects

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

    def sale_down(self, asset: AssetId, amount: int) -> Sale | None:
        """What selling ``amount`` native units into the pool that prices the asset brings, exactly; None where no pool
        does, or it cannot be told.

        What the pool gives is valued at its market price. Where it is no asset of the market, it is sold on into the
        pool that prices it;
        what that one does not take brings nothing. Pools stay as they are: they are history's, and others trade them
        back to the market.
        """
        return self._sold_down(self.market.assets[asset].asset, amount)

    def _sold_down(self, token: str, amount: int) -> Sale | None:
        fixed = next((pool for pool in self.market.pools if pool.prices == token), None)
        pool = self.pools.get(fixed.id) if fixed is not None else None
        if fixed is None or pool is None or not pool.sqrt_price:
            return None
        done, into = swap(pool, fixed.quote == 1, amount), fixed.assets[fixed.quote]
        if into is None:
            rest = self._sold_down(fixed.tokens[fixed.quote], done.amount_out)
            return None if rest is None else Sale(done.amount_in, rest.proceeds)
        price = self.prices.market.get(into)
        return None if price is None else Sale(done.amount_in, done.amount_out * price // self.units[into])

    def address(self, account: AccountId) -> str:
        """An account's address, or the name of a modelled liquidator."""
        return self.market.accounts[account]
