"""Logs of a market's pools to canonical rows: what happened to them, and what it says about market prices.

The market price of a token is its pool's mid price times the value of the pool's other token: that one's market price
where a pool tells it in turn, else its oracle price. It steps with the pool and with that price, and is rounded down to
a base unit once, at the end. Every recorded swap is made again by the exact rules from the state before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from backtest.errors import LakeError, UserError
from backtest.markets import PoolConfig
from backtest.model import AssetId, Pool, PoolChange, PoolId
from backtest.pools.uniswap_v3 import PoolState, agrees, mid_price
from backtest.tables import CANONICAL

Ratio = tuple[int, int]
"""Numerator and denominator."""


def pools_of(
    configs: Sequence[PoolConfig],
    facts: Sequence[Mapping[str, Any]],
    tokens: Sequence[Mapping[str, Any]],
    assets: Mapping[str, int],
) -> list[Pool]:
    """The pools of a market, in the order of its file.

    Args:
        facts, tokens: rows of ``raw/chain/Pool`` and ``raw/chain/Token``.
        assets: address to id.

    Raises:
        UserError: one was not fetched, has no token of that name, or tokens are priced in each other.
    """
    known = {"0x" + row["address"].hex(): row for row in facts}
    named = {"0x" + row["address"].hex(): row for row in tokens}
    found = []
    for number, config in enumerate(configs):
        row = known.get(config.address)
        if row is None:
            raise UserError(f"pool {config.address} was not fetched", "run the fetch again: it reads what is missing")
        first, second = ("0x" + row[side].hex() for side in ("token0", "token1"))
        pair = (first, second)
        symbols = [named[token]["symbol"] for token in pair]
        priced = [
            token
            for token, symbol in zip(pair, symbols, strict=True)
            if config.prices.lower() in (token, symbol.lower())
        ]
        if len(priced) != 1:
            raise UserError(
                f"pool {config.address} trades {symbols[0]} ({first}) for {symbols[1]} ({second}): prices ="
                f" '{config.prices}' names neither or both",
                "give the symbol or address of one",
            )
        made = Pool(
            id=PoolId(number),
            address=config.address,
            kind=row["kind"],
            tokens=pair,
            decimals=(named[first]["decimals"], named[second]["decimals"]),
            assets=(_asset(assets, first), _asset(assets, second)),
            fee=row["fee"],
            spacing=row["tick_spacing"],
            prices=priced[0],
        )
        found.append(made)
    for pool in found:
        if sum(other.prices == pool.prices for other in found) > 1:
            fix = "leave one of them out, or fetch into a new lake: a lake keeps its pools"
            raise UserError(f"pool {pool.address} is not the only one that prices {pool.prices}", fix)
        chain_of(pool.prices, found)
    return found


def _asset(assets: Mapping[str, int], token: str) -> AssetId | None:
    return AssetId(assets[token]) if token in assets else None


def pool_table(pools: Sequence[Pool], market: str) -> pa.Table:
    """The canonical table ``pools``."""
    rows = [
        {
            "market": market,
            "pool_id": pool.id,
            "pool": pool.address,
            "kind": pool.kind,
            "token0": pool.tokens[0],
            "token1": pool.tokens[1],
            "decimals0": pool.decimals[0],
            "decimals1": pool.decimals[1],
            "asset0_id": pool.assets[0],
            "asset1_id": pool.assets[1],
            "fee": pool.fee,
            "tick_spacing": pool.spacing,
            "prices": pool.prices,
        }
        for pool in pools
    ]
    schema = CANONICAL["pools"]
    plain = pa.schema([f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in schema])
    return pa.Table.from_pylist(rows, plain).cast(schema)


def chain_of(token: str, pools: Sequence[Pool]) -> list[Pool]:
    """The pools whose prices make up that of a token, from its own on. UserError where they go round."""
    chain: list[Pool] = []
    while (pool := next((pool for pool in pools if pool.prices == token), None)) is not None:
        if pool in chain:
            raise UserError(
                f"pools {', '.join(each.address for each in chain)} price tokens in each other", "leave one of them out"
            )
        chain.append(pool)
        token = pool.tokens[pool.quote]
    return chain


@dataclass(frozen=True, slots=True)
class PoolLog:
    """One log of a pool. ``key`` is its place in the order of the chain."""

    key: int
    event: str
    change: PoolChange
    amount0: int | None
    amount1: int | None


def logs_of(
    tables: Mapping[str, pa.Table], keys: Mapping[str, Sequence[int]], ids: Mapping[str, PoolId]
) -> list[PoolLog]:
    """Raw rows (``raw/uniswap-v3``) of some blocks in chain order. ``keys``: the place of each row; ``ids``: pools by
    address.
    """
    found = []
    for event, table in tables.items():
        for key, row in zip(keys[event], table.to_pylist(), strict=True):
            amount0, amount1 = (int(row[name]) if name in row else None for name in ("amount0", "amount1"))
            if event in ("Mint", "Burn"):
                tick, upper, price, liquidity = row["tick_lower"], row["tick_upper"], None, int(row["amount"])
            else:
                tick, upper, price, liquidity = (
                    row["tick"],
                    None,
                    int.from_bytes(row["sqrt_price_x96"], "big"),
                    int(row.get("liquidity", 0)),
                )
            if event == "Burn":
                liquidity, amount0, amount1 = -liquidity, -(amount0 or 0), -(amount1 or 0)
            change = PoolChange(
                seq=0,
                block_number=row["block_number"],
                log_index=row["log_index"],
                timestamp=0,
                pool=ids["0x" + row["address"].hex()],
                tick=tick,
                upper=upper,
                liquidity=liquidity,
                sqrt_price=price,
            )
            found.append(PoolLog(key, event.lower(), change, amount0, amount1))
    return sorted(found, key=lambda log: log.key)


class PoolFold:
    """Follows all pools of a market. ``swaps`` were made again, ``differing`` of them differ from their logs; ``first``
    names one of these.
    """

    def __init__(self, pools: Sequence[Pool], start: int, more: int) -> None:
        """``start``: the place where the market's history begins; ``more``: decimals that oracle prices have beyond
        base units.
        """
        self._pools, self._start, self._unit = pools, start, 10**more
        self._states = [PoolState(pool.fee, pool.spacing) for pool in pools]
        self._before: list[dict[tuple[int, int], int]] = [{} for _ in pools]
        """Liquidity by range, up to the start."""
        self._begun = False
        self._oracle: dict[AssetId, int] = {}
        self._told: dict[AssetId, int | None] = {}
        listed = [(pool, pool.assets[1 - pool.quote]) for pool in pools]
        self._priced = [(asset, chain_of(pool.prices, pools)) for pool, asset in listed if asset is not None]
        self.swaps = self.differing = 0
        self.first = ""
        self.events: list[dict[str, Any]] = []
        """Rows of ``pool_events`` not taken yet; ``key`` in place of the event's columns."""
        self.prices: list[dict[str, Any]] = []
        """Rows of ``market_prices``, likewise."""

    @property
    def quotes(self) -> frozenset[AssetId]:
        """Assets whose oracle price others' market prices depend on."""
        ends = (chain[-1] for _, chain in self._priced)
        return frozenset(asset for pool in ends if (asset := pool.assets[pool.quote]) is not None)

    def oracle(self, key: int, asset: AssetId, price: int | None) -> None:
        """From a place on the oracle says a price, in its own decimals."""
        self._begin(key)
        if price is None:
            self._oracle.pop(asset, None)
        else:
            self._oracle[asset] = price
        self._tell(key, [each for each in self._priced if each[1][-1].assets[each[1][-1].quote] == asset])

    def log(self, log: PoolLog) -> None:
        """One log. UserError where its pool is not known to be initialized; LakeError where it takes liquidity that is
        not there.
        """
        change, pool, state = log.change, self._pools[log.change.pool], self._states[log.change.pool]
        self._begin(log.key)
        if not state.sqrt_price and log.event != "initialize":
            raise UserError(
                f"pool {pool.address} has a {log.event} in block {change.block_number} before it is initialized",
                "its start_block is too late: give an earlier one, and fetch again",
            )
        if log.event == "swap":
            assert log.amount0 is not None
            assert log.amount1 is not None
            self.swaps += 1
            if not agrees(state, change, log.amount0, log.amount1):
                self.differing += 1
                self.first = self.first or f"pool {pool.address}, block {change.block_number}, log {change.log_index}"
        state.apply(change)
        if change.upper is not None and min(state.gross.get(change.tick, 0), state.gross.get(change.upper, 0)) < 0:
            raise LakeError(
                f"pool {pool.address}: more liquidity is burned in block {change.block_number} than was minted",
                "fetch it into a new lake",
            )
        if not self._begun:
            if change.upper is not None:
                place = (change.tick, change.upper)
                self._before[change.pool][place] = self._before[change.pool].get(place, 0) + change.liquidity
            return
        self._row(
            log.key,
            change.pool,
            log.event,
            change.tick,
            change.liquidity,
            upper=change.upper,
            sqrt_price=change.sqrt_price,
            amount0=log.amount0,
            amount1=log.amount1,
        )
        self._tell(log.key, [each for each in self._priced if pool in each[1]])

    def end(self) -> None:
        """No more comes: what was summed up is told."""
        self._begin(self._start)

    def _begin(self, key: int) -> None:
        """At the start, what was before it comes as a sum."""
        if self._begun or key < self._start:
            return
        self._begun = True
        for pool, state, ranges in zip(self._pools, self._states, self._before, strict=True):
            if not state.sqrt_price:
                continue
            sums = sorted((place, amount) for place, amount in ranges.items() if amount)
            for (lower, upper), amount in sums:
                self._row(self._start, pool.id, "mint", lower, amount, upper=upper)
            self._row(self._start, pool.id, "initialize", state.tick, state.liquidity, sqrt_price=state.sqrt_price)

    def _row(
        self,
        key: int,
        pool: PoolId,
        event: str,
        tick: int,
        liquidity: int,
        *,
        upper: int | None = None,
        sqrt_price: int | None = None,
        amount0: int | None = None,
        amount1: int | None = None,
    ) -> None:
        self.events.append(
            {
                "key": key,
                "pool_id": pool,
                "event": event,
                "tick": tick,
                "upper": upper,
                "liquidity": Decimal(liquidity),
                "sqrt_price": None if sqrt_price is None else sqrt_price.to_bytes(32, "big"),
                "amount0": None if amount0 is None else Decimal(amount0),
                "amount1": None if amount1 is None else Decimal(amount1),
            }
        )

    def _tell(self, key: int, priced: Sequence[tuple[AssetId, Sequence[Pool]]]) -> None:
        """Market prices that step here."""
        for asset, chain in priced:
            price = self._price_down(chain)
            if price == self._told.get(asset):
                continue
            self._told[asset] = price
            exact = None if price is None else Decimal(price)
            self.prices.append({"key": key, "asset_id": asset, "price": exact, "source": chain[0].address})

    def _price_down(self, chain: Sequence[Pool]) -> int | None:
        """Base units per whole token; None where the last oracle price is not there, a pool has no liquidity at its
        price, or no column has room.
        """
        last = chain[-1].assets[chain[-1].quote]
        oracle = None if last is None else self._oracle.get(last)
        if oracle is None:
            return None
        above, below = oracle, self._unit
        for pool in chain:
            state = self._states[pool.id]
            if not state.liquidity:
                return None
            up, down = mid_price(state.sqrt_price) if pool.quote == 1 else mid_price(state.sqrt_price)[::-1]
            above, below = (
                above * up * 10 ** pool.decimals[1 - pool.quote],
                below * down * 10 ** pool.decimals[pool.quote],
            )
        price: int = above // below
        return price if price < 10**38 else None

    def taken(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The rows made since the last call, by table."""
        yield "pool_events", self.events
        yield "market_prices", self.prices
        self.events, self.prices = [], []
