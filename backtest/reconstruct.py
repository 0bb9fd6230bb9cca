"""Raw datasets of a market to its canonical tables: a deterministic fold in chain order.

Every log gets its place, ``seq``: dense from 0 over all events of the market, in the order of (block number, log
index). A price that steps without a log has a place of its own, before the first log of its block; steps of several
assets there share it. The same raw rows give the same bytes, however they were cut into files and in whatever order
they came.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtest import foreign
from backtest.abi import event_schema
from backtest.errors import LakeError, UserError
from backtest.lake import Lake, claims
from backtest.markets import MarketConfig
from backtest.model import AssetId, PoolId
from backtest.pools.events import EVENTS as POOL_EVENTS
from backtest.pools.events import NAMESPACE, POOL
from backtest.pools.fold import PoolFold, PoolLog, logs_of, pool_table, pools_of
from backtest.prices.fold import START_OF_BLOCK, fold_prices
from backtest.prices.imported import CHECKPOINT, PRICE, ImportedPrices, imported_prices, spine_rows
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.registry import protocol_named
from backtest.tables import AMOUNT, CANONICAL, IMPORTED, QUARANTINE, RAW_KEY, RAW_STATE, RULES_VERSION

T = TypeVar("T")
Numbers = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]
"""Called with the events folded so far and their number."""

SEGMENT_ROWS = 1 << 19
POOL_ROWS = 1 << 16
"""Logs of pools at a time: these become Python objects."""
_HEADER = ["block_number", "timestamp", "base_fee"]
_PLACE = ["block_number", "log_index"]
_POOLS = {f"raw/{NAMESPACE}/{spec.name}": spec.name for spec in POOL_EVENTS}
_PLACES = 1 << 24  # log indexes of one block, the place before them included


@dataclass(frozen=True, slots=True)
class Summary:
    """What a reconstruction made. Blocks are inclusive; ``rows`` by table; ``notes`` are what a user should know."""

    market: str
    from_block: int
    to_block: int
    rows: Mapping[str, int]
    notes: tuple[str, ...] = field(default=())


def stamp(lake: Lake, market: str) -> str:
    """What the canonical tables of a market are stamped with: the version of the rules and the digest of the raw
    data.
    """
    return f"{RULES_VERSION}:{lake.digest(market)}"


def is_current(lake: Lake, market: str) -> bool:
    """Whether a market's canonical tables are there and were made by these rules from the raw data that the lake
    holds.
    """
    stamps = {file.stamp for dataset in CANONICAL for file in lake.files(f"canonical/{dataset}", market)}
    return stamps == {stamp(lake, market)}


def reconstruct(lake: Lake, market: str, *, progress: Progress | None = None) -> Summary:
    """Replace all canonical tables of a market by a fold of its raw data, in one commit.

    Raises:
        UserError: blocks are missing between the market's first block and the last one fetched (the message names them
            and the command that fetches them), or a fact was not read.
        RulesError: no rule covers what the data hold; the message names the block.
        LakeError: another process writes to the lake, or its data contradict each other.
    """
    with lake.writer() as writer:
        config = lake.market_config(market)
        last = _covered_to(lake, config)
        protocol = protocol_named(config.protocol)
        if why := unfolded(lake, market):
            raise UserError(why, "query its rows: SELECT * FROM liquidations WHERE without_state")
        history = History(lake, config, protocol, progress or (lambda done, total: None))
        own_oracle = bool(lake.sources(market))  # what was fetched has the prices of its oracle
        imported = history.imported_prices(None if own_oracle else protocol.oracle_delay)
        prices = _prices(history, protocol, imported)
        history.begin_pools()
        made = _Chunks(history, protocol, prices, imported)
        writer.replace(market, "canonical/", prefetched(made), stamp=stamp(lake, market))
        if ranges := claims.claimed(lake, market):
            history.notes.append(f"{claims.in_words(ranges)} are complete as files claim: no node has shown it")
    return Summary(market, config.start_block, last, made.rows, tuple(history.notes))


def unfolded(lake: Lake, market: str) -> str | None:
    """Why a market has no canonical tables: it was imported to be queried, its protocol folds no imports. None: it is
    not so.
    """
    held = any(lake.files(name, market) for name in IMPORTED if name != PRICE)
    if not held or lake.sources(market):
        return None
    config = lake.market_config(market)
    if protocol_named(config.protocol).imported_columns:
        return None
    return f"market '{market}' holds imports to be queried; {config.protocol} cannot be folded from imports"


def prefetched(items: Iterable[T], depth: int = 4) -> Iterator[T]:
    """The same items, made by a thread of its own up to ``depth`` ahead of the reader; an error in it is raised
    here.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: tuple[bool, Any]) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((True, item)):
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while True:
            more, item = waiting.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stop.set()
        worker.join()


def _covered_to(lake: Lake, config: MarketConfig) -> int:
    """The last block up to which every source is complete from the market's first block on. Of a market that was only
    imported, the
    last one that its rows name: exports do not say what they leave out."""
    held = [
        file.to_block for name in IMPORTED for file in lake.files(name, config.name) if name not in (PRICE, CHECKPOINT)
    ]
    imported = [block for block in held if block is not None]
    if imported and not lake.sources(config.name):
        return max(imported)
    sources = {source: lake.covered(config.name, source) for source in lake.sources(config.name)}
    last = max((ranges[-1][1] for ranges in sources.values() if ranges), default=config.start_block)
    for source, ranges in sources.items() or [("events", [])]:
        expected = config.start_block
        for start, stop in [*ranges, (last + 1, last)]:
            if start > expected:
                command = (
                    f"backtest fetch {config.protocol} --market {config.name} --from-block {expected} --to-block"
                    f" {start - 1}"
                )
                raise UserError(
                    f"market '{config.name}' lacks blocks {expected} to {start - 1} of {source}",
                    f"fetch them first: {command} --lake {lake.path} --rpc URL"
                    + (", or import the files that hold them" if claims.claimed(lake, config.name) else ""),
                )
            expected = max(expected, stop + 1)
    return last


class History:
    """``RawEvents`` over a lake."""

    def __init__(self, lake: Lake, config: MarketConfig, protocol: LendingProtocol[Any], progress: Progress) -> None:
        self.config, self.parameters = config, config.parameters
        self.notes: list[str] = []
        self._lake, self._progress = lake, progress
        self._specs = {spec.name: spec for spec in protocol.events}
        self._own = f"raw/{config.protocol}/"
        held = {file.dataset for file in lake.files(None, config.name) if file.dataset.startswith("raw/")}
        self.events = sorted(name for name in held if name not in RAW_STATE and not name.endswith("/Quarantine"))
        self._imports = {name: lake.read(name, config.name) for name in self.events if name in IMPORTED}
        self.spine = {name: table.filter(pa.array(spine_rows(name, table))) for name, table in self._imports.items()}
        self._pools = [name for name in self.events if name in _POOLS]
        begin = config.start_block if self._pools else None  # what happened to a pool before is summed up
        self.set_headers(lake.read("raw/chain/Header", config.name, columns=_HEADER, from_block=begin))
        told = lake.read("raw/chain/BlockTime", config.name, columns=_HEADER, from_block=begin)
        self.add_headers(told["block_number"].to_numpy(), told["timestamp"].to_numpy(), told["base_fee"])
        for table in self.spine.values():
            self.add_headers(table["block_number"].to_numpy(), table["timestamp"].to_numpy())
        own = [name for name in self.events if name not in IMPORTED]
        fetched = [
            lake.read(name, config.name, columns=_PLACE, from_block=begin if name in _POOLS else None) for name in own
        ]
        parts = [_keys(table) for table in (*self.spine.values(), *fetched)]
        self.keys: Numbers = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
        doubled = np.flatnonzero(self.keys[1:] == self.keys[:-1])
        if len(doubled):
            block, log = divmod(int(self.keys[doubled[0]]), _PLACES)
            raise LakeError(
                f"market '{config.name}' holds log {log - 1} of block {block} twice", "fetch it into a new lake"
            )

    def set_headers(self, headers: pa.Table) -> None:
        """These are the known blocks and their times."""
        self.headers = _unique_headers(headers, self.config.name)
        self.blocks: Numbers = self.headers["block_number"].to_numpy()
        self.times: Numbers = self.headers["timestamp"].to_numpy()

    def add_headers(self, blocks: Numbers, times: Numbers, fees: pa.ChunkedArray | None = None) -> None:
        """Blocks whose time is known from elsewhere; LakeError where a header has another time."""
        none = pa.nulls(len(blocks), AMOUNT)
        new = pa.table({"block_number": blocks, "timestamp": times, "base_fee": none if fees is None else fees})
        held = np.isin(blocks, self.blocks)
        wrong = self.timestamps(blocks[held]) != times[held]
        if wrong.any():
            block = int(blocks[held][wrong][0])
            raise LakeError(
                f"market '{self.config.name}': block {block} has another time in imported rows than in its header",
                "mend the import",
            )
        self.set_headers(pa.concat_tables([self.headers, new.filter(pa.array(~held)).cast(self.headers.schema)]))

    def imported_prices(self, delay: int | None) -> ImportedPrices:
        """Price steps from imported prices; the blocks that they are placed in are known from here on."""
        rows = self._imports.get(PRICE)
        made = imported_prices(
            rows if rows is not None else IMPORTED[PRICE].empty_table(),
            self.blocks.tolist(),
            self.times.tolist(),
            delay=delay,
        )
        self.add_headers(np.array(list(made.placed), np.int64), np.array(list(made.placed.values()), np.int64))
        self.notes += made.notes
        return made

    def add_places(self, keys: Numbers) -> None:
        """Make room for what no log says: these keys, repeated or not, of no log."""
        self.keys = np.sort(np.concatenate([self.keys, np.unique(keys)]))

    def begin_pools(self) -> None:
        """Make room for the sum of what happened to pools before the market's first known block."""
        self.start = int(self.blocks[0]) * _PLACES if len(self.blocks) else 0
        if any(
            self._lake.read(name, self.config.name, columns=_PLACE, to_block=self.config.start_block - 1).num_rows
            for name in self._pools
        ):
            self.add_places(np.array([self.start], np.int64))

    def pool_logs(self, ids: Mapping[str, PoolId]) -> Iterator[list[PoolLog]]:
        """All logs of these pools (by address), those before the market's first block among them, some ``POOL_ROWS`` at
        a time.
        """
        keys = np.sort(
            np.concatenate(
                [
                    np.zeros(0, np.int64),
                    *(_keys(self._lake.read(n, self.config.name, columns=_PLACE)) for n in self._pools),
                ]
            )
        )
        for first, last in _ranges(keys, POOL_ROWS):
            tables = {
                _POOLS[name]: self._lake.read(name, self.config.name, from_block=first, to_block=last)
                for name in self._pools
            }
            yield logs_of(tables, {event: _keys(table).tolist() for event, table in tables.items()}, ids)

    def seq(self, keys: Numbers) -> Numbers:
        """Places of ascending or any keys."""
        return np.searchsorted(self.keys, keys).astype(np.int64)

    def timestamps(self, blocks: Numbers) -> Numbers:
        """Seconds; UserError names the first block whose header is missing."""
        place = np.minimum(np.searchsorted(self.blocks, blocks), max(len(self.blocks) - 1, 0))
        wrong = self.blocks[place] != blocks if len(self.blocks) else np.ones(len(blocks), np.bool_)
        if wrong.any():
            block = int(blocks[int(np.argmax(wrong))])
            raise UserError(
                f"market '{self.config.name}' has no header of block {block}",
                "run the fetch again: it reads what is missing",
            )
        times: Numbers = self.times[place]
        return times

    def table(self, event: str) -> pa.Table:
        dataset = event if event.startswith("raw/") else self._own + event
        if dataset in RAW_STATE:
            return self._lake.read(dataset, self.config.name)
        if dataset.endswith("/Quarantine"):
            return (
                self._lake.read(dataset, self.config.name)
                if self._lake.files(dataset, self.config.name)
                else QUARANTINE.empty_table()
            )
        if dataset in IMPORTED:
            return self.placed(self.spine.get(dataset) or IMPORTED[dataset].empty_table())
        if dataset in self.events:
            return self.placed(self._lake.read(dataset, self.config.name))
        return self.placed(event_schema(self._specs[event]).empty_table())

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterator[Mapping[str, pa.Table]]:
        wanted = {event: list(names) for event, names in columns.items() if self._own + event in self.events}

        def read() -> Iterator[tuple[int, dict[str, pa.Table]]]:
            for first, last in self.ranges(rows):
                yield (
                    last,
                    {
                        event: self.placed(self.read(self._own + event, names, first, last))
                        for event, names in wanted.items()
                    },
                )

        for last, segment in prefetched(read(), depth=1):
            yield segment
            self._progress(int(np.searchsorted(self.keys, (last + 1) * _PLACES)), len(self.keys))

    def ranges(self, rows: int) -> Iterator[tuple[int, int]]:
        """Consecutive inclusive block ranges of about ``rows`` places that cover all of them."""
        return _ranges(self.keys, rows)

    def read(self, dataset: str, columns: Sequence[str], first: int, last: int) -> pa.Table:
        """Some columns of a dataset in an inclusive block range; exports lack some, which are null."""
        if (table := self.spine.get(dataset)) is not None:
            rows = table.filter(
                pc.and_(pc.greater_equal(table["block_number"], first), pc.less_equal(table["block_number"], last))
            )
            kinds = {key.name: key.type for key in RAW_KEY}
            held = rows.schema.names
            return pa.table(
                [rows[name] if name in held else pa.nulls(rows.num_rows, kinds[name]) for name in columns],
                names=list(columns),
            )
        return self._lake.read(dataset, self.config.name, columns=columns, from_block=first, to_block=last)

    def oracle_data(self) -> dict[str, pa.Table]:
        """What ``fold_prices`` reads: everything of feeds, adapters and oracles."""
        held = {file.dataset for file in self._lake.files(None, self.config.name)}
        wanted = ("raw/chainlink/", "raw/oracle-adapters/", "raw/oracle/")
        return {
            name: self._lake.read(name, self.config.name)
            for name in sorted(held)
            if name.startswith(wanted) and not name.endswith("/Quarantine")
        }

    def placed(self, table: pa.Table) -> pa.Table:
        """The table with ``seq`` and ``timestamp`` before its own other columns."""
        seq, times = pa.array(self.seq(_keys(table))), pa.array(self.timestamps(table["block_number"].to_numpy()))
        own = table.drop_columns(["timestamp"]) if "timestamp" in table.schema.names else table
        return own.add_column(0, "seq", seq).add_column(1, "timestamp", times)


def _keys(table: pa.Table) -> Numbers:
    keys: Numbers = table["block_number"].to_numpy() * _PLACES + table["log_index"].to_numpy() + 1
    return keys


def _ranges(keys: Numbers, rows: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(keys):
        last = int(keys[min(start + rows, len(keys)) - 1]) // _PLACES
        yield int(keys[start]) // _PLACES, last
        start = int(np.searchsorted(keys, (last + 1) * _PLACES))


def _unique_headers(headers: pa.Table, market: str) -> pa.Table:
    headers = headers.sort_by("block_number")
    blocks, times = headers["block_number"].to_numpy(), headers["timestamp"].to_numpy()
    again = blocks[1:] == blocks[:-1]
    if (again & (times[1:] != times[:-1])).any():
        block = int(blocks[1:][again & (times[1:] != times[:-1])][0])
        raise LakeError(f"market '{market}' holds two headers of block {block}", "fetch it into a new lake")
    return headers.filter(pa.array(np.concatenate([[True], ~again])[: len(blocks)]))


def _prices(history: History, protocol: LendingProtocol[Any], imported: ImportedPrices) -> pa.Table:
    """Price steps with their places; those that no log makes are added to the history.

    A step from the start of a block of which no header is known holds from the next known block: nothing of the market
    happens in between. One that is after everything is left out.
    """
    liquidations = {
        block for event in protocol.liquidation_events for block in history.table(event)["block_number"].to_pylist()
    }
    known = dict(zip(history.blocks.tolist(), history.times.tolist(), strict=True))
    prices = fold_prices(
        history.config, history.oracle_data(), protocol.price_sources(history), known, liquidation_blocks=liquidations
    )
    notes = {key.decode(): value.decode() for key, value in (prices.schema.metadata or {}).items()}
    history.notes += (
        [f"oracle reads that overruled a price rule: {notes['mismatches']}"] if int(notes.get("mismatches", 0)) else []
    )
    prices = pa.concat_tables([prices.replace_schema_metadata(None), imported.steps])
    between = prices["order"].to_numpy() == 1
    blocks = prices["block_number"].to_numpy()
    known_from = np.searchsorted(history.blocks, blocks)
    held = ~between | (known_from < len(history.blocks))
    prices, between, blocks, known_from = prices.filter(pa.array(held)), between[held], blocks[held], known_from[held]
    moved = (
        np.where(between, history.blocks[np.minimum(known_from, len(history.blocks) - 1)], blocks)
        if len(blocks)
        else blocks
    )
    keys = moved * _PLACES + np.where(between, 0, prices["log_index"].to_numpy() + 1)
    history.add_places(np.concatenate([keys[between], imported.market["block_number"].to_numpy() * _PLACES]))
    prices = prices.set_column(0, "block_number", pa.array(moved)).append_column("key", pa.array(keys))
    if (
        imported.steps.num_rows or (moved != blocks).any()
    ):  # of two steps of an asset that now share a place the later one counts
        steps = zip(keys.tolist(), prices["asset"].to_pylist(), strict=True)
        last = {step: row for row, step in enumerate(steps)}
        prices = prices.take(pa.array(sorted(last.values()), pa.int64()))
    return prices.sort_by([("key", "ascending"), ("asset", "ascending")])


class _Chunks:
    """All canonical tables, chunk by chunk; counts rows as they pass."""

    def __init__(
        self, history: History, protocol: LendingProtocol[Any], prices: pa.Table, imported: ImportedPrices
    ) -> None:
        self._history, self._protocol, self._prices, self._imported = history, protocol, prices, imported
        self._market = history.config.name
        self.rows: dict[str, int] = dict.fromkeys(CANONICAL, 0)

    def __iter__(self) -> Iterator[tuple[str, pa.Table]]:
        for name, table in self._all():
            self.rows[name] += table.num_rows
            yield f"canonical/{name}", table

    def _all(self) -> Iterator[tuple[str, pa.Table]]:
        history = self._history
        yield "blocks", _with_market(self._market, history.headers).cast(CANONICAL["blocks"])
        yield from (("events", table) for table in self._events())
        assets: dict[str, int] = {}
        for name, table in self._protocol.fold(history.config, history):
            if name == "assets":
                ids = table["asset_id"].to_pylist()
                symbols = [symbol.lower() for symbol in table["symbol"].to_pylist()]  # exports name assets by symbol
                assets = dict(zip(symbols, ids, strict=True)) | dict(zip(table["asset"].to_pylist(), ids, strict=True))
                self._refuse_shared(Counter(symbols))
            yield name, table
        yield "prices", self._listed_prices(assets)
        yield "market_prices", self._market_prices(assets)
        if history.config.pools:
            yield from self._pools(assets)

    def _refuse_shared(self, symbols: Counter[str]) -> None:
        """UserError where an imported price names its asset by a symbol that several have."""
        named = {*self._prices["asset"].to_pylist(), *self._imported.market["asset"].to_pylist()}
        if shared := sorted(symbol for symbol in named if symbols[symbol] > 1):
            raise UserError(
                f"market '{self._market}': prices of '{foreign.shown(shared[0])}', a symbol of"
                f" {symbols[shared[0]]} assets",
                "name the asset by its address in the import",
            )

    def _market_prices(self, assets: Mapping[str, int]) -> pa.Table:
        """Prices of venues at their places; their time is their own."""
        rows = self._imported.market
        named = rows["asset"].to_pylist()
        for asset in sorted(set(named) - assets.keys()):
            self._history.notes.append(
                f"market prices of {asset}, which this market does not have, left out: {named.count(asset)}"
            )
        ids = pa.array([assets.get(asset) for asset in named], pa.int16())
        listed = rows.append_column("asset_id", ids).filter(pc.is_valid(ids))
        seq = self._history.seq(listed["block_number"].to_numpy() * _PLACES)
        whole = listed.append_column("seq", pa.array(seq)).append_column(
            "log_index", pa.array(np.full(len(seq), START_OF_BLOCK, np.int32))
        )
        whole = whole.append_column("source", pa.nulls(len(seq), pa.string()))
        return (
            _with_market(self._market, whole).select(CANONICAL["market_prices"].names).cast(CANONICAL["market_prices"])
        )

    def _pools(self, assets: Mapping[str, int]) -> Iterator[tuple[str, pa.Table]]:
        """Pools, what happened to them, and the market prices that they tell."""
        history, config = self._history, self._history.config
        pools = pools_of(
            config.pools, history.table(POOL).to_pylist(), history.table("raw/chain/Token").to_pylist(), assets
        )
        yield "pools", pool_table(pools, self._market)
        more = 0 if config.price_decimals is None else config.price_decimals - config.base_decimals
        fold = PoolFold(pools, history.start, more)
        steps = self._quotes(fold.quotes, assets, more)
        step = next(steps, None)
        for logs in history.pool_logs({pool.address: pool.id for pool in pools}):
            for log in logs:
                while step is not None and step[0] <= log.key:
                    fold.oracle(*step)
                    step = next(steps, None)
                fold.log(log)
            yield from self._placed(fold)
        while step is not None:
            fold.oracle(*step)
            step = next(steps, None)
        fold.end()
        yield from self._placed(fold)
        said = (
            "all as the rules say"
            if not fold.differing
            else f"{fold.differing} differ from the rules, the first: {fold.first}"
        )
        history.notes.append(f"swaps of pools made again: {fold.swaps}, {said}")

    def _quotes(
        self, wanted: Collection[int], assets: Mapping[str, int], more: int
    ) -> Iterator[tuple[int, AssetId, int | None]]:
        """Oracle price steps of some assets in order: place, asset, and the oracle's own number."""
        names = ("key", "asset", "price", "price_rest")
        named = pa.array([name for name, asset in assets.items() if asset in wanted], pa.string())
        mine = self._prices.filter(pc.is_in(self._prices["asset"], value_set=named))
        for key, asset, price, rest in zip(*(mine[name].to_pylist() for name in names), strict=True):
            yield key, AssetId(assets[asset]), None if price is None else int(price) * 10**more + int(rest or 0)

    def _placed(self, fold: PoolFold) -> Iterator[tuple[str, pa.Table]]:
        """What a fold made, with its places."""
        for name, rows in fold.taken():
            schema = CANONICAL[name]
            keys = np.array([row["key"] for row in rows], np.int64)
            blocks = keys // _PLACES
            body = {
                f.name: pa.array([row.get(f.name) for row in rows], f.type)
                for f in schema
                if not pa.types.is_dictionary(f.type)
            }
            if "event" in schema.names:
                body["event"] = pa.array([row["event"] for row in rows], pa.string())
            body |= {"seq": pa.array(self._history.seq(keys)), "block_number": pa.array(blocks)}
            body |= {"log_index": pa.array(keys % _PLACES - 1), "timestamp": pa.array(self._history.timestamps(blocks))}
            yield name, _with_market(self._market, pa.table(body)).select(schema.names).cast(schema)

    def _events(self) -> Iterator[pa.Table]:
        """The spine: every log once, with its place."""
        history = self._history
        columns = ["block_number", "transaction_index", "log_index", "transaction_hash", "address"]
        for first, last in history.ranges(SEGMENT_ROWS):
            parts = []
            for code, dataset in enumerate(history.events):
                table = history.read(dataset, columns, first, last)
                parts.append(table.append_column("event", pa.array(np.full(table.num_rows, code, np.int32))))
            if not parts:
                return
            whole = pa.concat_tables(parts, promote_options="default")  # columns that exports lack may be null
            order = np.argsort(_keys(whole), kind="stable")
            whole = history.placed(whole.take(order))
            names = pa.array([dataset.removeprefix("raw/") for dataset in history.events])
            event = pa.DictionaryArray.from_arrays(whole["event"].combine_chunks(), names)
            body = whole.set_column(whole.schema.get_field_index("event"), "event", event)
            body = body.set_column(body.schema.get_field_index("address"), "address", _address_text(whole["address"]))
            yield _with_market(self._market, body).select(CANONICAL["events"].names).cast(CANONICAL["events"])

    def _listed_prices(self, assets: Mapping[str, int]) -> pa.Table:
        number = pc.index_in(self._prices["asset"].combine_chunks(), value_set=pa.array(list(assets), pa.string()))
        if unlisted := len(pc.unique(self._prices["asset"].filter(pc.is_null(number)))):
            self._history.notes.append(f"assets with prices that are not listed, left out: {unlisted}")
        listed = self._prices.append_column("asset_id", number).filter(pc.is_valid(number))
        blocks = listed["block_number"].to_numpy()
        columns = {
            "seq": pa.array(self._history.seq(listed["key"].to_numpy())),
            "timestamp": pa.array(self._history.timestamps(blocks)),
            "method": listed["method"].combine_chunks().dictionary_encode(),
            "asset_id": pa.array(
                np.array(list(assets.values()), np.int16)[listed["asset_id"].to_numpy()] if len(blocks) else [],
                pa.int16(),
            ),
            **{name: listed[name] for name in ("block_number", "log_index", "price", "price_rest", "source", "exact")},
        }
        return _with_market(self._market, pa.table(columns)).select(CANONICAL["prices"].names).cast(CANONICAL["prices"])


def _with_market(market: str, table: pa.Table) -> pa.Table:
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(table.num_rows, np.int32)), pa.array([market]))
    return table.add_column(0, "market", column)


def _address_text(column: pa.ChunkedArray) -> pa.Array:
    """20 bytes as lower-case 0x text, each distinct address once; null stays null."""
    encoded = pa.chunked_array(column.chunks, column.type).combine_chunks().dictionary_encode()
    text = pa.array(["0x" + address.hex() for address in encoded.dictionary.to_pylist()], pa.string())
    return text.take(encoded.indices)
