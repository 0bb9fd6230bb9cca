"""Fold of raw oracle facts to canonical prices: a market of plain feeds, and one with adapters over them."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from backtest.abi import event_schema
from backtest.fetch.feeds import FEED_EVENTS
from backtest.markets import MarketConfig
from backtest.model import SourceChange
from backtest.prices.fold import fold_prices
from backtest.prices.oracles import Source
from backtest.tables import RAW_STATE

ROWS = 300_000
FEEDS = 20


def _address(number: int) -> str:
    return f"0x{number:040x}"


def _raw(address: str) -> bytes:
    return bytes.fromhex(address[2:])


def _answers() -> pa.Table:
    draw = np.random.default_rng(1)
    block = np.sort(draw.integers(1, 50 * ROWS, ROWS))
    owner = draw.integers(0, FEEDS, ROWS)
    addresses = [_raw(_address(1000 + number)) for number in range(FEEDS)]
    columns = {
        "block_number": block,
        "transaction_index": np.zeros(ROWS, np.int32),
        "log_index": np.arange(ROWS, dtype=np.int32) % 400,
        "transaction_hash": pa.array([b"\0" * 32] * ROWS, pa.binary(32)),
        "address": pa.array([addresses[number] for number in owner], pa.binary(20)),
        "current": pa.array(draw.integers(1, 10**12, ROWS)).cast(pa.decimal128(38, 0)),
        "round_id": pa.array(np.arange(ROWS)).cast(pa.decimal128(38, 0)),
        "updated_at": pa.array(block).cast(pa.decimal128(38, 0)),
    }
    return pa.table(columns, schema=event_schema(FEED_EVENTS[0]))


def run() -> list[dict[str, object]]:
    """Rows of raw answers folded per second."""
    answers = _answers()
    proxies = [_address(100 + number) for number in range(FEEDS)]
    adapters = [_address(500 + number) for number in range(FEEDS)]
    sources = [Source(proxy, "feed", "", 8, {"proxy": True}) for proxy in proxies]
    sources += [
        Source(own, "capped-feed", "", 8, {"feed": proxy}) for own, proxy in zip(adapters, proxies, strict=True)
    ]
    rows = [(_raw(s.address), s.kind, "", 8, s.parameters_json) for s in sources]
    raw = {
        "raw/oracle/Source": pa.table(
            [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), RAW_STATE["raw/oracle/Source"], strict=True)],
            schema=RAW_STATE["raw/oracle/Source"],
        ),
        "raw/oracle/Phase": pa.Table.from_pylist(
            [
                {
                    "address": _raw(proxy),
                    "phase": 1,
                    "aggregator": _raw(_address(1000 + number)),
                    "from_block": 0,
                    "exact": True,
                }
                for number, proxy in enumerate(proxies)
            ],
            schema=RAW_STATE["raw/oracle/Phase"],
        ),
        "raw/oracle/State": pa.Table.from_pylist(
            [{"block_number": 0, "address": _raw(own), "name": "price_cap", "value": 10**11} for own in adapters],
            schema=RAW_STATE["raw/oracle/State"],
        ),
        "raw/chainlink/AnswerUpdated": answers,
    }
    config = MarketConfig(name="m", protocol="p", chain_id=1, start_block=0, contracts={})
    results: list[dict[str, object]] = []
    for name, both in (("plain feeds", False), ("feeds and adapters", True)):
        changes = [SourceChange(0, 0, _address(1 + number), proxy, _address(9)) for number, proxy in enumerate(proxies)]
        if both:
            changes += [
                SourceChange(0, 0, _address(50 + number), own, _address(9)) for number, own in enumerate(adapters)
            ]
        begun = time.perf_counter()
        folded = fold_prices(config, raw, changes, {})
        seconds = time.perf_counter() - begun
        shape = f"{ROWS} answers of {FEEDS} feeds to {folded.num_rows} prices"
        rate = ROWS / seconds
        results.append(
            {
                "name": f"fold prices, {name}",
                "value": rate,
                "unit": "answers/s",
                "baseline": None,
                "ratio": None,
                "shape": shape,
            }
        )
    return results


if __name__ == "__main__":
    for row in run():
        print(row)
