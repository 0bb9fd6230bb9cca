"""``backtest import logs`` and ``backtest facts``: a market from files of raw logs, by the decoders that fetch uses.

    files -> gather (one reading, an external sort) -> FileLogs, in the node's place -> the same raw datasets

What no log says comes from the files, else from a facts file; without it nothing is imported, and the error names what
is missing. That the files leave nothing out is their claim: it is recorded as such (``backtest.lake.claims``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import structs

from backtest.errors import UserError
from backtest.fetch import check_chain, fetch, fetch_facts, fetch_protocol_logs, final_block, with_neighbours
from backtest.fetch.context import Progress, Silent
from backtest.fetch.decode import topic0
from backtest.fetch.feeds import ADAPTER_EVENTS, ANSWERS, COVERAGE, FEED_EVENTS, aggregators_of
from backtest.fetch.headers import DATASET as HEADERS
from backtest.fetch.oracle import uses_of
from backtest.fetch.phases import Phase
from backtest.fetch.ranges import gaps
from backtest.fetch.raw import LakeEvents
from backtest.fetch.rpc import Rpc
from backtest.fetch.state import CONSTANT, READING, REFERENCE, REVISION, TOKEN
from backtest.lake import Lake, Writer, claims
from backtest.lake.manifest import merge
from backtest.log_files.decoded import KnownEvents
from backtest.log_files.facts import LIMIT, LISTS, Facts, read_facts, written
from backtest.log_files.gather import Gathered, gather
from backtest.log_files.missing import missing_facts, missing_line
from backtest.log_files.reading import files_in
from backtest.log_files.source import TIMES, FileLogs
from backtest.log_files.spool import temporary
from backtest.markets import MarketConfig
from backtest.model import EventSpec
from backtest.pools.events import EMITTER, NAMESPACE, POOL
from backtest.pools.events import EVENTS as POOL_EVENTS
from backtest.pools.fold import pools_of
from backtest.prices.fold import read_sources
from backtest.prices.oracles import FEED
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.registry import protocol_named

__all__ = ["LogImport", "collect_facts", "files_in", "import_logs"]

_SHOWN = 3


@dataclass
class LogImport:
    """What an import of logs did. ``read``: logs of all files; ``rows``: dataset to logs stored; ``claimed``: inclusive
    block range that the files are taken to be complete in; ``notes``: what a user should know.
    """

    market: str
    files: Mapping[str, int]
    read: int
    first: int
    last: int
    rows: dict[str, int]
    headers: int
    quarantined: int
    doubled: int
    removed: int
    claimed: Sequence[tuple[int, int]]
    notes: list[str] = field(default_factory=list)


def import_logs(
    lake: Lake,
    config: MarketConfig,
    paths: Sequence[Path],
    *,
    facts: Path | None = None,
    mapping: str | None = None,
    from_block: int | None = None,
    to_block: int | None = None,
    advance: Callable[[int], None] | None = None,
    command: str = "",
) -> LogImport:
    """Fill what a lake lacks of a market from files of raw logs, in one commit.

    Args:
        paths: files, and folders of files, of logs and of blocks.
        facts: a facts file.
        mapping: name of a layout or path of its TOML file, for all files; None tells it by the columns of each.
        from_block, to_block: the blocks that the files claim to be complete in; default the market's first block and
            the last block of any log in the files.
        advance: told the bytes of each file once it is read.
        command: what gets missing facts, but for where to write them, for the error.

    Raises:
        UserError: a file cannot be read or contradicts itself, or facts are missing: in one line; the lake is as it
            was.
        LakeError: another process writes to the lake.
    """
    protocol = protocol_named(config.protocol)
    told = read_facts(facts, config) if facts is not None else None
    with temporary() as folder:
        gathered = gather(
            files_in(paths), _topics(protocol), Path(folder), mapping=mapping, chain_id=config.chain_id,
            decoded=KnownEvents(_specs(protocol), config.contracts), advance=advance,
        )  # fmt: skip
        first, last = asked = _range(lake, config, gathered, from_block, to_block)
        with lake.writer() as writer, writer.one_commit():
            writer.set_market(structs.replace(config, pools=()))
            first, last = with_neighbours(lake, config, first, last)
            raw = LakeEvents(lake, config.name, config.protocol, protocol.events, config.parameters)
            notes: list[str] = [gathered.gaps] if gathered.gaps else []
            notes += [f"read by nothing: {count:,} rows of {name}" for name, count in gathered.unused.items()]
            if told is not None:
                _store(lake, writer, config.name, told, (HEADERS, TIMES))
            logs = FileLogs(lake, writer, config, gathered, asked)
            contracts = fetch_protocol_logs(logs, protocol, config, raw, first, last)
            _refuse_empty(logs, lake, config, gathered)
            if told is not None:
                _store(lake, writer, config.name, told, (TOKEN, REVISION, CONSTANT, READING, REFERENCE, POOL))
            _take_pools(lake, writer, config, logs, first, last)
            priced = first <= config.start_block  # which sources are in use in the range, only earlier blocks tell
            if not priced:
                notes.append(
                    f"prices wait for the blocks before {first}: the market starts at block {config.start_block}"
                )
            lacking = missing_facts(lake, config, protocol, raw, told, (first, last) if priced else None)
            if priced and not lacking:  # what a price is made of may depend on all of it
                _take_prices(lake, writer, config, protocol, raw, logs, told, first, last)
            if told is not None:
                logs.fetch_headers(block for block in told.header_blocks if first <= block <= last)
            if logs.untimed:
                lacking["times of blocks"] = [str(block) for block in sorted(logs.untimed)]
            if lacking:
                raise UserError(missing_line(config, lacking), _remedy(config, paths, facts, command))
            notes += _silent_contracts(lake, config, protocol, raw, gathered, contracts)
            notes += _missing_rounds(lake, config.name)
            notes += _late_contracts(logs)
            for low, high in logs.claimed:
                claims.claim(lake, writer, config.name, low, high)
            writer.set_provenance(
                config.name, {f"logs of blocks {asked[0]} to {asked[1]}, from files": _origin(gathered)}
            )
            writer.compact(config.name)
    return LogImport(
        market=config.name,
        files=gathered.files,
        read=gathered.read,
        first=first,
        last=last,
        rows=dict(sorted(logs.rows.items())),
        headers=logs.headers,
        quarantined=sum(rows for dataset, rows in logs.rows.items() if dataset.endswith("/Quarantine")),
        doubled=gathered.doubled,
        removed=gathered.removed,
        claimed=merge(logs.claimed),
        notes=notes,
    )


def collect_facts(
    config: MarketConfig,
    rpc: Rpc,
    paths: Sequence[Path] = (),
    *,
    mapping: str | None = None,
    to_block: int | None = None,
    finality: Literal["finalized"] | int = "finalized",
    progress: Progress | None = None,
) -> tuple[str, tuple[int, int]]:
    """(the text of a facts file, the inclusive blocks that it is of): what the logs of a market do not say, asked of a
    node.

    The logs are those of ``paths``, else the node's. Headers are asked for where no file describes the block whole.

    Raises:
        UserError: as ``import_logs``; FetchError: the node cannot say it.
    """
    protocol = protocol_named(config.protocol)
    with temporary() as folder, tempfile.TemporaryDirectory(prefix="backtest-facts-") as place:
        lake = Lake(Path(place) / "lake", create=True)
        described: set[int] = set()
        sampled: set[int] = set()
        if paths:
            check_chain(rpc, config)
            gathered = gather(
                files_in(paths), _topics(protocol), Path(folder), mapping=mapping, chain_id=config.chain_id,
                decoded=KnownEvents(_specs(protocol), config.contracts),
            )  # fmt: skip
            first, last = _range(lake, config, gathered, None, to_block)
            _check_final(rpc, last, finality)
            with lake.writer() as writer, writer.one_commit():
                writer.set_market(structs.replace(config, pools=()))
                logs = FileLogs(lake, writer, config, gathered, (first, last), rpc)
                raw = LakeEvents(lake, config.name, config.protocol, protocol.events, config.parameters)
                fetch_protocol_logs(logs, protocol, config, raw, first, last)
                _refuse_empty(logs, lake, config, gathered)
                logs.fetch_headers([first, last])
                fetch_facts(lake, writer, config, rpc, protocol, raw, logs, first, last, progress or Silent())
            described, sampled = logs.described, logs.sampled
        else:
            summary = fetch(lake, config, rpc, to_block=to_block, finality=finality, progress=progress)
            first, last = summary.from_block, summary.to_block
        held = lake.datasets(config.name)
        tables = {dataset: lake.read(dataset, config.name) for dataset in LISTS.values() if dataset in held}
        if HEADERS in tables and described:
            own = pc.is_in(tables[HEADERS]["block_number"], value_set=pa.array(sorted(described)))
            tables[HEADERS] = tables[HEADERS].filter(pc.invert(own))
        emitters = sorted({source.rpartition("/")[2] for source in lake.sources(config.name)} - {COVERAGE})
    lines = written(config, (first, last), tables, sorted(described & sampled), emitters)
    text = "\n".join([*lines, ""])
    if len(text) > LIMIT:
        raise UserError(
            f"the facts of market '{config.name}' take {len(text) >> 20} MiB, a facts file has at most {LIMIT >> 20}",
            "give files of the chain's blocks beside those of logs (cryo blocks), which hold headers better",
        )
    return text, (first, last)


# -- the range, and what is looked for -------------------------------------------------------------------------------


def _specs(protocol: LendingProtocol[Any]) -> list[EventSpec]:
    """Every event that a market may need."""
    return [*protocol.events, *FEED_EVENTS, *ADAPTER_EVENTS, *POOL_EVENTS]


def _topics(protocol: LendingProtocol[Any]) -> list[bytes]:
    """Their first topics."""
    return [bytes.fromhex(topic[2:]) for topic in dict.fromkeys(map(topic0, _specs(protocol)))]


def _range(
    lake: Lake, config: MarketConfig, gathered: Gathered, from_block: int | None, to_block: int | None
) -> tuple[int, int]:
    if gathered.first is None or gathered.last is None:
        raise UserError("the files hold no logs", "give files of logs beside those of blocks; nothing was imported")
    first = _first_block(lake, config, gathered.first) if from_block is None else from_block
    last = gathered.last if to_block is None else to_block
    if not 0 <= first <= last:
        raise UserError(
            f"blocks {first} to {last} of '{config.name}' (the files hold logs of blocks {gathered.first} to"
            f" {gathered.last})",
            "are these files of the market's chain? else give --from-block and --to-block; nothing was imported",
        )
    return first, last


def _first_block(lake: Lake, config: MarketConfig, first: int) -> int:
    """The block that files are complete from whose first log is in block ``first``: the market's start, unless they
    continue what the lake holds.
    """
    own = lake.sources(config.name) if config.name in lake.markets() else []
    held = [part for source in own for part in lake.covered(config.name, source) if part[0] <= config.start_block]
    if not held:
        return config.start_block
    events = [name for name in lake.datasets(config.name) if name.startswith(f"raw/{config.protocol}/")]
    columns = [lake.read(name, config.name, columns=["block_number"])["block_number"] for name in events]
    earliest = min((pc.min(column).as_py() for column in columns if len(column)), default=first)
    return config.start_block if first <= earliest else min(first, max(stop for _, stop in held) + 1)


def _check_final(rpc: Rpc, last: int, finality: Literal["finalized"] | int) -> None:
    final = final_block(rpc, finality)
    if last > final:
        raise UserError(
            f"the files hold logs up to block {last}, and block {final} is the node's last final one",
            "use a node that is in sync, choose an earlier --to-block, or on a test chain --finality 0",
        )


def _refuse_empty(logs: FileLogs, lake: Lake, config: MarketConfig, gathered: Gathered) -> None:
    """UserError where the files say nothing of the market: an empty market is nobody's intention."""
    if sum(logs.rows.values()) or any(
        name.startswith(f"raw/{config.protocol}/") for name in lake.datasets(config.name)
    ):
        return
    contracts = ", ".join(f"{role} {address}" for role, address in list(config.contracts.items())[:_SHOWN])
    raise UserError(
        f"none of the {gathered.read:,} logs of the files is of market '{config.name}' ({contracts})",
        f"give logs of chain {config.chain_id} with those of these contracts; nothing was imported",
    )


# -- facts -----------------------------------------------------------------------------------------------------------


def _store(lake: Lake, writer: Writer, market: str, facts: Facts, datasets: Sequence[str]) -> None:
    """Store the rows of these datasets that the lake does not hold."""
    for dataset in datasets:
        if (new := _new_rows(lake, market, dataset, facts.tables.get(dataset))) is not None:
            writer.append(market, dataset, new)


def _new_rows(lake: Lake, market: str, dataset: str, table: pa.Table | None) -> pa.Table | None:
    if table is None or not table.num_rows:
        return None
    held = lake.read(dataset, market) if dataset in lake.datasets(market) else table.schema.empty_table()
    known = {tuple(row.values()) for row in held.to_pylist()}
    fresh = [tuple(row.values()) not in known for row in table.to_pylist()]
    new = table.filter(pa.array(fresh, pa.bool_()))
    return new if new.num_rows else None


def _take_pools(lake: Lake, writer: Writer, config: MarketConfig, logs: FileLogs, first: int, last: int) -> None:
    """The logs of the market's pools, whose facts are stored; ``missing_facts`` names those without."""
    config = config.keeping_pools_of(lake.market_config(config.name))
    held = {row["address"]: row for row in _stored(lake, config.name, POOL)}
    if not config.pools or any(bytes.fromhex(pool.address[2:]) not in held for pool in config.pools):
        return
    tokens = _stored(lake, config.name, TOKEN)
    known = {row["address"] for row in tokens}
    if any(row[side] not in known for row in held.values() for side in ("token0", "token1")):
        return
    pools_of(config.pools, list(held.values()), tokens, {})
    writer.set_market(config)
    for pool in config.pools:
        start = first if pool.start_block is None or first > config.start_block else min(first, pool.start_block)
        logs.fetch(NAMESPACE, POOL_EVENTS, {EMITTER: [pool.address]}, start, last)


def _take_prices(
    lake: Lake,
    writer: Writer,
    config: MarketConfig,
    protocol: LendingProtocol[Any],
    raw: LakeEvents,
    logs: FileLogs,
    facts: Facts | None,
    first: int,
    last: int,
) -> None:
    """What the prices are made of: facts of sources, the logs of their aggregators and adapters, and what was read."""
    if not uses_of(protocol.price_sources(raw), first, last):
        return
    market = config.name
    if facts is not None:
        for dataset in ("raw/oracle/Source", "raw/oracle/Phase"):
            if (new := _new_rows(lake, market, dataset, facts.tables.get(dataset))) is not None:
                writer.commit(market, {dataset: new}, from_block=first, to_block=last)
    sources = read_sources(lake.read("raw/oracle/Source", market))
    phases = [
        Phase(
            "0x" + row["address"].hex(), row["phase"], "0x" + row["aggregator"].hex(), row["from_block"], row["exact"]
        )
        for row in _stored(lake, market, "raw/oracle/Phase")
    ]
    feeds = sorted(aggregators_of(phases, sources))
    logs.fetch("chainlink", FEED_EVENTS, {spec.emitter: feeds for spec in FEED_EVENTS}, first, last)
    adapters = sorted(source.address for source in sources.values() if source.kind != FEED)
    logs.fetch("oracle-adapters", ADAPTER_EVENTS, {spec.emitter: adapters for spec in ADAPTER_EVENTS}, first, last)
    if facts is None:
        return
    for low, high in gaps((first, last), lake.covered(market, COVERAGE)):
        tables = {}
        for dataset in ("raw/oracle/State", "raw/oracle/Read", "raw/oracle/WideRead"):
            table = facts.tables.get(dataset)
            if table is not None:
                block = table["block_number"]
                table = table.filter(pc.and_(pc.greater_equal(block, low - 1), pc.less_equal(block, high)))
            if (new := _new_rows(lake, market, dataset, table)) is not None:
                tables[dataset] = new
        writer.commit(market, tables, from_block=max(low - 1, 0), to_block=high, covers={COVERAGE: (low, high)})


def _stored(lake: Lake, market: str, dataset: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.read(dataset, market).to_pylist() if dataset in lake.datasets(market) else []
    return rows


def _remedy(config: MarketConfig, paths: Sequence[Path], facts: Path | None, command: str) -> str:
    name = facts.name if facts is not None else "facts.toml"
    get = command or f"backtest facts {' '.join(map(str, paths))} --market {config.name} --rpc URL"
    return f"get it: {get} --out {name}, then import with --facts {name}; nothing was imported"


def _late_contracts(logs: FileLogs) -> list[str]:
    """A note where earlier files have to be read again, for contracts that only these files name."""
    if not logs.late:
        return []
    low, high = min(low for low, _ in logs.late.values()), max(high for _, high in logs.late.values())
    return [
        f"{len(logs.late)} contracts are first named in these files ({', '.join(sorted(logs.late)[:_SHOWN])}): import"
        f" the files of blocks {low} to {high} again, which may hold logs of them"
    ]


# -- what the data can say of themselves -----------------------------------------------------------------------------


def _silent_contracts(
    lake: Lake,
    config: MarketConfig,
    protocol: LendingProtocol[Any],
    raw: LakeEvents,
    gathered: Gathered,
    count: int,
) -> list[str]:
    """A note for each role some of whose contracts have no log.

    Raises:
        UserError: the files are a selection, and have no log of any contract that the market's own name: these were
            left out.
    """
    start = {role: frozenset([address]) for role, address in config.contracts.items()}
    contracts: Mapping[str, frozenset[str]] = protocol.discover(start, raw)
    heard: set[bytes] = set()
    for dataset in lake.datasets(config.name):
        if dataset.startswith(f"raw/{config.protocol}/"):
            heard |= set(pc.unique(lake.read(dataset, config.name, columns=["address"])["address"]).to_pylist())
    notes = []
    found: list[str] = []
    heard_of = 0
    for role, addresses in sorted(contracts.items()):
        if not any(spec.emitter == role for spec in protocol.events):
            continue
        silent = sorted(address for address in addresses if bytes.fromhex(address[2:]) not in heard)
        if role not in config.contracts:
            found += silent
            heard_of += len(addresses) - len(silent)
        if silent:
            notes.append(f"no log of {len(silent)} of {len(addresses)} contracts ({role}): {_some(silent)}")
    if len(found) > 1 and not heard_of and not gathered.whole:
        raise UserError(
            f"the files hold logs of what market '{config.name}' is configured with alone, and none of the {len(found)}"
            f" contracts that these name: {_some(found)}",
            "export the logs of these contracts too; nothing was imported",
        )
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _missing_rounds(lake: Lake, market: str) -> list[str]:
    """A note where rounds of an aggregator do not follow each other."""
    if ANSWERS not in lake.datasets(market):
        return []
    table = lake.read(ANSWERS, market, columns=["address", "round_id"])
    rounds: dict[bytes, list[int]] = {}
    for address, number in zip(table["address"].to_pylist(), table["round_id"].to_pylist(), strict=True):
        rounds.setdefault(address, []).append(int(number))
    notes = []
    for address, numbers in sorted(rounds.items()):
        found = set(numbers)
        lacking = max(found) - min(found) + 1 - len(found)
        if lacking:
            gap = next(number for number in sorted(found) if number + 1 not in found) + 1
            notes.append(
                f"feed 0x{address.hex()}: {lacking} rounds between its first and its last are not there, from round"
                f" {gap} on (old aggregators leave some out themselves)"
            )
    return notes


def _origin(gathered: Gathered) -> str:
    kinds = ", ".join(f"{count} of {layout}" for layout, count in sorted(gathered.files.items()))
    gaps_ = f"; {gathered.gaps}" if gathered.gaps else ""
    return f"{kinds}, {gathered.read} logs read{gaps_}"
