"""What was read by calls, symbols and headers, asked again: the part of ``verify`` that compares raw facts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from backtest.fetch.adapters import address as contract_in
from backtest.fetch.adapters import resolve, selector, text, word
from backtest.fetch.feeds import COVERAGE
from backtest.fetch.headers import DATASET as HEADERS
from backtest.fetch.oracle import Oracles, uses_of
from backtest.fetch.raw import LakeEvents
from backtest.fetch.rpc import Rpc
from backtest.fetch.state import CONSTANT, READING, REFERENCE, REVISION, TOKEN, stored
from backtest.foreign import Unreadable, integer, shown
from backtest.lake import Lake
from backtest.prices.fold import read_sources
from backtest.prices.oracles import ZERO_ADDRESS
from backtest.protocols.registry import protocol_named

MOST = 500
"""Headers, and oracle reads with a price, that are asked again; of those without a price all are."""

Say = Callable[[str, str | None], None]
"""Counts one comparison of a kind; the second argument tells the difference, if there is one."""


def check_facts(lake: Lake, market: str, rpc: Rpc, last: int, draw: random.Random, say: Say) -> None:
    """Compare tokens, revisions, constants, headers, price sources and oracle reads with what the node says."""
    _headers(lake, market, rpc, draw, say)
    _constants(lake, market, rpc, last, say)
    _readings(lake, market, rpc, draw, say)
    _reads(lake, market, rpc, draw, say)


def _headers(lake: Lake, market: str, rpc: Rpc, draw: random.Random, say: Say) -> None:
    rows = stored(lake, market, HEADERS)
    some = sorted(draw.sample(rows, min(MOST, len(rows))), key=lambda row: row["block_number"])
    for row, header in zip(some, rpc.headers([row["block_number"] for row in some]), strict=True):
        fee = None if header.base_fee_per_gas is None else int(header.base_fee_per_gas, 16)
        held = ("0x" + row["block_hash"].hex(), "0x" + row["parent_hash"].hex(), row["timestamp"], row["base_fee"])
        same = held == (header.hash, header.parent_hash, int(header.timestamp, 16), fee)
        say("headers", None if same else f"block {row['block_number']}: hash, parent, time or base fee differ")


def _constants(lake: Lake, market: str, rpc: Rpc, last: int, say: Say) -> None:
    config = lake.market_config(market)
    protocol = protocol_named(config.protocol)
    raw = LakeEvents(lake, market, config.protocol, protocol.events, config.parameters)
    deployments = protocol.deployments(raw)
    asked: list[tuple[str, str, str, object, Callable[[bytes | None], object]]] = []
    for row in stored(lake, market, TOKEN):
        token = "0x" + row["address"].hex()
        asked.append(("symbols", token, "symbol()", row["symbol"], lambda data, own=token: text(data) or own))  # type: ignore[misc]
        asked.append(("decimals", token, "decimals()", row["decimals"], word))
    for row in stored(lake, market, CONSTANT):
        held = None if row["value"] is None else int(row["value"])
        asked.append(("constants", "0x" + row["address"].hex(), f"{row['name']}()", held, _small))
    for row in stored(lake, market, REFERENCE):
        named = None if row["target"] is None else "0x" + row["target"].hex()
        asked.append(("constants", "0x" + row["address"].hex(), f"{row['name']}()", named, contract_in))
    for row in stored(lake, market, REVISION):
        getters = {deployment.getter for deployment in deployments if deployment.proxy == "0x" + row["address"].hex()}
        code = "0x" + row["implementation"].hex()
        asked += [("revisions", code, f"{getter}()", row["revision"], _revision) for getter in sorted(getters)]
    told = rpc.eth_calls([(owner, selector(getter), last) for _, owner, getter, _, _ in asked])
    for (kind, owner, getter, value, read), data in zip(asked, told, strict=True):
        found = read(data)
        same = found == value
        say(kind, None if same else f"{getter} of {owner}: the lake says {value}, the chain {found}")


def _readings(lake: Lake, market: str, rpc: Rpc, draw: random.Random, say: Say) -> None:
    rows = stored(lake, market, READING)
    some = sorted(draw.sample(rows, min(MOST, len(rows))), key=lambda row: (row["block_number"], row["call"]))
    asked: list[tuple[str, str, int]] = []
    kept: list[tuple[str, object]] = []
    for row in some:
        address, block = "0x" + row["address"].hex(), row["block_number"]
        where = f"{shown(row['call'], 80)} of {address} at block {block}"
        function, *arguments = row["call"].split(" ")
        try:
            words = [integer(argument) % (1 << 256) for argument in arguments]
        except Unreadable:
            say("views", f"{where} is no call: it was not read from a node")
            continue
        asked.append((address, selector(function) + "".join(f"{word:064x}" for word in words), block))
        kept.append((where, row["value"]))
    for (where, held), data in zip(kept, rpc.eth_calls(asked), strict=True):
        say("views", None if (data or None) == held else f"{where} is not what the lake says")


def _small(data: bytes | None) -> int | None:
    value = word(data)
    return value if value is not None and value < 10**38 else None


def _revision(data: bytes | None) -> int:
    value = word(data)
    return -1 if value is None or value >= 1 << 31 else value


def _reads(lake: Lake, market: str, rpc: Rpc, draw: random.Random, say: Say) -> None:
    covered = lake.covered(market, COVERAGE)
    if not covered:
        return
    config = lake.market_config(market)
    protocol = protocol_named(config.protocol)
    raw = LakeEvents(lake, market, config.protocol, protocol.events, config.parameters)
    start, end = covered[0][0], covered[-1][1]
    uses = uses_of(protocol.price_sources(raw), start, end)
    held = read_sources(lake.read("raw/oracle/Source", market)) if uses else {}
    for address, source in resolve(rpc, {use.source for use in uses} - {ZERO_ADDRESS}, end).items():
        kind = held[address].kind if address in held else "not known"
        say(
            "price sources", None if kind == source.kind else f"{address} is {kind} in the lake, {source.kind} on chain"
        )
    reads = {
        ("0x" + row["asset"].hex(), row["block_number"]): _price(row["price"])
        for dataset in ("raw/oracle/Read", "raw/oracle/WideRead")
        for row in stored(lake, market, dataset)
    }
    known = [key for key in reads if any(u.asset == key[0] and u.first <= key[1] <= u.last for u in uses)]
    empty = [key for key in known if reads[key] is None]
    some = [key for key in known if reads[key] is not None]
    _compare(rpc, uses, reads, sorted({*empty, *draw.sample(some, min(MOST, len(some)))}), say)
    blocks = {
        block
        for event in protocol.liquidation_events
        for block in raw.table(event).column("block_number").to_pylist()
        if any(first <= block <= last for first, last in covered)
    }
    for use in uses:
        for block in sorted(block for block in blocks if use.first <= block <= use.last):
            if (use.asset, block) not in reads:
                say("oracle reads", f"block {block}: the price of {use.asset} was not read, and there is a liquidation")


def _compare(
    rpc: Rpc, uses: Sequence[Any], reads: dict[tuple[str, int], int | None], asked: list[Any], say: Say
) -> None:
    for (asset, block), price in Oracles(rpc, uses).prices(asked).items():
        held = reads[asset, block]
        same = held == price
        say(
            "oracle reads",
            None if same else f"block {block}: price of {asset}: the lake says {held}, the chain {price}",
        )


def _price(value: object) -> int | None:
    if value is None or isinstance(value, bytes):
        return None if value is None else int.from_bytes(value, "big")
    return int(str(value))
