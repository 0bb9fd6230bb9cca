"""What a market needs to know that neither its logs nor its facts say, by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backtest.errors import RulesError
from backtest.fetch.feeds import COVERAGE
from backtest.fetch.oracle import uses_of
from backtest.fetch.ranges import gaps
from backtest.fetch.raw import LakeEvents
from backtest.fetch.state import CONSTANT, READING, REFERENCE, REVISION, TOKEN
from backtest.lake import Lake
from backtest.log_files.facts import Facts
from backtest.markets import MarketConfig
from backtest.pools.events import POOL
from backtest.prices.fold import read_sources
from backtest.protocols.interface import LendingProtocol

_SHOWN = 2


def missing_facts(
    lake: Lake,
    config: MarketConfig,
    protocol: LendingProtocol[Any],
    raw: LakeEvents,
    facts: Facts | None,
    priced: tuple[int, int] | None,
) -> dict[str, list[str]]:
    """Kind of fact to what lacks it, in the order in which they are needed. What the lake holds counts, and of prices
    what the facts say. ``priced``: the inclusive blocks whose prices are wanted.
    """
    market = config.name

    def rows(dataset: str) -> list[dict[str, Any]]:
        held: list[dict[str, Any]] = lake.read(dataset, market).to_pylist() if dataset in lake.datasets(market) else []
        return held

    lacking: dict[str, list[str]] = {}

    def note(kind: str, names: Sequence[str]) -> None:
        if names:
            lacking[kind] = list(dict.fromkeys(names))

    tokens = {"0x" + row["address"].hex() for row in rows(TOKEN)}
    pools = {"0x" + row["address"].hex(): row for row in rows(POOL)}
    wanted = [*protocol.tokens(raw)]
    for pool in config.pools:
        if pool.address in pools:
            wanted += ["0x" + pools[pool.address][side].hex() for side in ("token0", "token1")]
    note("symbol and decimals of tokens", [token for token in wanted if token not in tokens])
    note("tokens, fee and tick spacing of pools", [pool.address for pool in config.pools if pool.address not in pools])
    try:
        note("revisions of implementations", _missing_revisions(protocol, raw, rows(REVISION)))
        held = [*rows(CONSTANT), *rows(REFERENCE)]
        constants = {("0x" + row["address"].hex(), row["name"]) for row in held}
        named = [one for one in protocol.constants(raw) if (one.address, one.getter) not in constants]
        note("constants of contracts", [f"{one.getter} of {one.address}" for one in named])
        readings = {(row["block_number"], "0x" + row["address"].hex(), row["call"]) for row in rows(READING)}
        asked = [one for one in protocol.readings(raw) if (one.block_number, one.address, one.call) not in readings]
        note("views of contracts", [f"{one.call} of {one.address} at {one.block_number}" for one in asked])
        if priced is not None:
            for kind, names in _missing_prices(lake, config, protocol, raw, facts, *priced).items():
                note(kind, names)
    except RulesError:  # what is lacking already has to be known before more can be asked
        if not lacking:
            raise
    return lacking


def _missing_revisions(protocol: LendingProtocol[Any], raw: LakeEvents, held: Sequence[Mapping[str, Any]]) -> list[str]:
    """Implementations without a revision; the first one of a proxy, which no log names, counts as there where a
    revision of the proxy is there that no log names.
    """
    revisions = {("0x" + row["address"].hex(), "0x" + row["implementation"].hex()) for row in held}
    deployments = protocol.deployments(raw)
    named = {(one.proxy, one.implementation) for one in deployments if one.implementation is not None}
    first_ones = {proxy for proxy, code in revisions if (proxy, code) not in named}
    lacking = []
    for one in deployments:
        if one.implementation is not None and (one.proxy, one.implementation) not in revisions:
            lacking.append(one.implementation)
        elif one.implementation is None and one.proxy not in first_ones:
            lacking.append(f"that of {one.proxy} at its listing")
    return lacking


def _missing_prices(
    lake: Lake,
    config: MarketConfig,
    protocol: LendingProtocol[Any],
    raw: LakeEvents,
    facts: Facts | None,
    first: int,
    last: int,
) -> Mapping[str, list[str]]:
    uses = uses_of(protocol.price_sources(raw), first, last)
    if not uses:
        return {}
    held = lake.datasets(config.name)
    known = read_sources(lake.read("raw/oracle/Source", config.name) if "raw/oracle/Source" in held else None)
    phased = {
        "0x" + row["address"].hex()
        for row in (lake.read("raw/oracle/Phase", config.name).to_pylist() if "raw/oracle/Phase" in held else [])
    }
    if facts is not None:
        known = known | read_sources(facts.tables.get("raw/oracle/Source"))
        phased |= {"0x" + row["address"].hex() for row in facts.rows("raw/oracle/Phase")}
    wanted = list(dict.fromkeys(source for use in uses for source in use.sources))
    for source in wanted:  # grows by what sources read
        if source in known:
            wanted += [feed for feed in known[source].feeds if feed not in wanted]
    uncovered = gaps((first, last), lake.covered(config.name, COVERAGE))
    if facts is not None and facts.blocks is not None:
        uncovered = [part for gap in uncovered for part in gaps(gap, [facts.blocks])]
    return {
        "price sources": [source for source in wanted if source not in known],
        "feed phases": [
            source
            for source in wanted
            if source in known and known[source].parameters.get("proxy") and source not in phased
        ],
        "oracle state": [f"blocks {low} to {high}" for low, high in uncovered],
    }


def missing_line(config: MarketConfig, lacking: Mapping[str, Sequence[str]]) -> str:
    """All of it in one line."""

    def some(names: Sequence[str]) -> str:
        rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"{', '.join(names[:_SHOWN])}{rest}"

    listed = "; ".join(f"{kind} ({len(names)}: {some(names)})" for kind, names in lacking.items())
    return f"no log of market '{config.name}' says, and the files and facts do not either: {listed}"
