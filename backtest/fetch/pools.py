"""Pools that a market's file names: what is fixed about them, and their logs from their beginning on."""

from __future__ import annotations

import pyarrow as pa

from backtest.errors import FetchError
from backtest.fetch.adapters import address, answers, raw_address, selector, word
from backtest.fetch.context import LogSource
from backtest.fetch.rpc import Rpc
from backtest.fetch.state import TOKEN, fetch_tokens, stored
from backtest.lake import Lake, Writer
from backtest.markets import MarketConfig
from backtest.pools.events import EMITTER, EVENTS, GETTERS, NAMESPACE, POOL
from backtest.pools.fold import pools_of
from backtest.tables import RAW_STATE


def fetch_pools(
    lake: Lake, writer: Writer, config: MarketConfig, rpc: Rpc, logs: LogSource, first: int, last: int
) -> None:
    """Store the market's pools, and what the lake lacks of their logs in the inclusive range; from their own beginning
    where it begins with the market. The lake's description names a pool once it is known to be one.

    Raises:
        FetchError: an address is no pool.
        UserError: a pool does not trade the token that it is to price, or prices do not fit together.
    """
    config = config.keeping_pools_of(lake.market_config(config.name))
    _fetch_facts(lake, writer, config, rpc, last)
    facts = stored(lake, config.name, POOL)
    fetch_tokens(
        lake,
        writer,
        config.name,
        rpc,
        sorted({"0x" + row[side].hex() for row in facts for side in ("token0", "token1")}),
        last,
    )
    pools_of(config.pools, facts, stored(lake, config.name, TOKEN), {})
    writer.set_market(config)
    for pool in config.pools:
        start = first if pool.start_block is None or first > config.start_block else min(first, pool.start_block)
        logs.fetch(NAMESPACE, EVENTS, {EMITTER: [pool.address]}, start, last)


def _fetch_facts(lake: Lake, writer: Writer, config: MarketConfig, rpc: Rpc, block: int) -> None:
    """Tokens, fee and tick spacing, as of a block, of the pools that the lake does not know."""
    known = {row["address"] for row in stored(lake, config.name, POOL)}
    missing = [pool for pool in config.pools if raw_address(pool.address) not in known]
    told = iter(answers(rpc, [(pool.address, selector(getter), block) for pool in missing for getter in GETTERS]))
    rows = []
    for pool in missing:
        token0, token1, fee, spacing = (next(told) for _ in GETTERS)
        pair, numbers = (address(token0), address(token1)), (word(fee), word(spacing))
        if pair[0] is None or pair[1] is None or None in numbers:
            raise FetchError(
                f"{pool.address} is no pool of Uniswap v3 at block {block}", "check the address in the market's file"
            )
        body = {
            "token0": raw_address(pair[0]),
            "token1": raw_address(pair[1]),
            "fee": numbers[0],
            "tick_spacing": numbers[1],
        }
        rows.append({"address": raw_address(pool.address), "kind": pool.kind, **body})
    if rows:
        writer.append(config.name, POOL, pa.Table.from_pylist(rows, RAW_STATE[POOL]))
