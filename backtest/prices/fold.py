"""Raw oracle facts to canonical prices: pure, in chain order.

A price changes at a log where there is one (an answer, a cap, a source). What changes without a log (the phase of a
proxy, the exchange rate behind an adapter, time) changes at the start of a block, and is exact there unless something
else that matters happened in that block. ``getAssetsPrices`` reads decide where a rule is not known, and overrule it
where it is wrong.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from backtest.errors import LakeError
from backtest.markets import MarketConfig
from backtest.model import SourceChange
from backtest.prices.oracles import (
    CAPPED_RATIO,
    DISCOUNTED,
    FEED,
    FIXED,
    SAMPLED,
    ZERO_ADDRESS,
    Reverts,
    Source,
    Unknown,
    answer,
    parse_source,
)
from backtest.tables import AMOUNT, TEXT

START_OF_BLOCK = -1
_END_OF_BLOCK = 2**31 - 1
_TOO_LARGE = 10**38

PRICES = pa.schema(
    [
        pa.field("block_number", pa.int64(), nullable=False),
        pa.field("log_index", pa.int32(), nullable=False),
        pa.field("order", pa.int8(), nullable=False),
        pa.field("asset", TEXT, nullable=False),
        pa.field("price", AMOUNT),
        pa.field("price_rest", AMOUNT),
        pa.field("source", TEXT),
        pa.field("method", TEXT, nullable=False),
        pa.field("exact", pa.bool_(), nullable=False),
    ]
)

# What logs set: dataset, argument, name of the value as in raw/oracle/State. Values that no rule reads mark a possible
# change.
_VALUES = (
    ("raw/chainlink/AnswerUpdated", "current", "answer"),
    ("raw/chainlink/SecondaryRoundIdUpdated", "secondary_round_id", "secondary_round"),
    ("raw/chainlink/PrimaryFeedUnlocked", "primary_round_id", "primary_round"),
    *(
        (f"raw/oracle-adapters/{event}", argument, name)
        for event in ("CapParametersUpdated", "CapParametersUpdatedWide")
        for argument, name in (
            ("snapshot_ratio", "snapshot_ratio"),
            ("snapshot_timestamp", "snapshot_timestamp"),
            ("max_yearly_ratio_growth_percent", "max_growth_percent"),
        )
    ),
    ("raw/oracle-adapters/PriceCapUpdated", "price_cap", "price_cap"),
    ("raw/oracle-adapters/PriceCapRatioUpdated", "price_cap_ratio", "price_cap_ratio"),
    ("raw/oracle-adapters/FixedPriceUpdated", "new_price", "price"),
    ("raw/oracle-adapters/MaxDiscountPerYearUpdated", "new_max_discount_per_year", "max_discount"),
)

_METHODS = {FEED: "feed", FIXED: "fixed", SAMPLED: "read"}


@dataclass(frozen=True, slots=True)
class RoundGap:
    """Answers of one aggregator whose round ids do not follow each other: ``after`` was followed by ``next_round`` at
    ``block_number``.
    """

    aggregator: str
    block_number: int
    after: int
    next_round: int


def round_gaps(answers: pa.Table) -> list[RoundGap]:
    """Where consecutive ``AnswerUpdated`` logs of an aggregator do not have consecutive round ids: lost or doubled
    logs.

    ``answers`` cover a range without gaps. OCR aggregators count without holes (libocr, ``OffchainAggregator.sol``
    ``transmit``); a FluxAggregator (until 2021) may skip a round that timed out, which shows here too.
    """
    addresses, blocks, rounds = (
        _addresses(answers["address"]),
        answers["block_number"].to_pylist(),
        answers["round_id"].to_pylist(),
    )
    last: dict[str, int] = {}
    gaps = []
    for place in np.lexsort((answers["log_index"].to_numpy(), answers["block_number"].to_numpy())).tolist():
        aggregator, number = addresses[place], int(rounds[place])
        if aggregator in last and number != last[aggregator] + 1:
            gaps.append(RoundGap(aggregator, blocks[place], last[aggregator], number))
        last[aggregator] = number
    return gaps


def fold_prices(
    config: MarketConfig,
    raw: Mapping[str, pa.Table],
    sources: Sequence[SourceChange],
    blocks: Mapping[int, int],
    *,
    liquidation_blocks: Collection[int] = (),
) -> pa.Table:
    """Every step of every asset's price, sorted by (block_number, log_index, asset), one row per position and asset.

    ``order`` 0: the price holds from the log at (block_number, log_index) on, and shares its seq. ``order`` 1: no log
    says so; the price holds from the start of the block, ``log_index`` is ``START_OF_BLOCK``, before the block's first
    log. ``price`` None: the oracle would revert or (``exact`` false) nothing is known; ``price_rest`` are its digits
    below a base unit. The schema's metadata count the reads that overruled a rule (``mismatches``): those rows have
    ``method`` read and are not exact.

    Args:
        raw: dataset name to table: ``raw/chainlink/AnswerUpdated``, ``raw/oracle-adapters/*``, ``raw/oracle/*``; what a
            market does not have may be left out.
        sources: ``LendingProtocol.price_sources``.
        blocks: block number to timestamp of every known header; time-dependent prices step in these blocks.
        liquidation_blocks: blocks with a liquidation: a price that changed in one without a log is not exact there.

    Returns: a table with the schema ``PRICES``.

    Raises:
        LakeError: the header of a block that a time-dependent price needs is missing, or a price does not fit.
    """
    digits = 0 if config.price_decimals is None else config.price_decimals - config.base_decimals
    walk = _Walk(config.name, digits, read_sources(raw.get("raw/oracle/Source")), blocks, liquidation_blocks)
    steps = sorted(
        [*_logs(raw), *_phases(raw), *_states(raw), *_reads(raw), *_changes(sources)], key=lambda step: step[:3]
    )
    walk.busy.update(step[0] for step in steps if 0 <= step[1] < _END_OF_BLOCK)
    for (block, log_index), group in groupby(steps, key=lambda step: step[:2]):
        walk.ticks(block)
        walk.at(block, log_index, group)
    walk.ticks(None)
    return walk.table()


def read_sources(table: pa.Table | None) -> dict[str, Source]:
    """The sources of ``raw/oracle/Source`` by address; the last row of an address counts."""
    if table is None:
        return {}
    rows = zip(
        _addresses(table["address"]),
        *(table[name].to_pylist() for name in ("kind", "description", "decimals", "parameters")),
        strict=True,
    )
    return {row[0]: parse_source(*row) for row in rows}


# -- steps: (block, log index, rank, kind, what)
# ---------------------------------------------------------------------------

_SET, _PHASE, _SOURCE, _READ = "set", "phase", "source", "read"
_Step = tuple[int, int, int, str, tuple[Any, ...]]


def _logs(raw: Mapping[str, pa.Table]) -> Iterator[_Step]:
    for dataset, argument, name in _VALUES:
        if (table := raw.get(dataset)) is not None:
            for block, log_index, address, value in zip(
                table["block_number"].to_pylist(),
                table["log_index"].to_pylist(),
                _addresses(table["address"]),
                _integers(table[argument]),
                strict=True,
            ):
                yield block, log_index, 1, _SET, (address, name, value, True)


def _phases(raw: Mapping[str, pa.Table]) -> Iterator[_Step]:
    """Switches of proxies, each once. A fetch says of the phase it found in force that it began with its range: the
    earliest counts, and an exact block more than an estimate.
    """
    if (table := raw.get("raw/oracle/Phase")) is None:
        return
    rows = zip(
        _addresses(table["address"]),
        table["phase"].to_pylist(),
        table["from_block"].to_pylist(),
        _addresses(table["aggregator"]),
        table["exact"].to_pylist(),
        strict=True,
    )
    best = {
        (proxy, phase): (block, aggregator, exact)
        for proxy, phase, block, aggregator, exact in sorted(rows, key=lambda r: (r[4], -r[2]))
    }
    for (proxy, phase), (block, aggregator, exact) in best.items():
        yield block, START_OF_BLOCK, phase, _PHASE, (proxy, aggregator, exact)


def _states(raw: Mapping[str, pa.Table]) -> Iterator[_Step]:
    """Values that views returned at the end of a block. One that logs tell of holds from the next block on; a ratio, of
    which no log tells, changed in the block itself if it was read one block before, and else somewhere since the read
    before.
    """
    if (table := raw.get("raw/oracle/State")) is None:
        return
    rows = zip(
        _addresses(table["address"]),
        table["name"].to_pylist(),
        table["block_number"].to_pylist(),
        _integers(table["value"]),
        strict=True,
    )
    before: tuple[str, str, int] | None = None
    for address, name, block, value in sorted(set(rows), key=lambda row: row[:3]):
        if name == "ratio":
            proven = before is None or before[:2] != (address, name) or before[2] == block - 1
            yield block, START_OF_BLOCK, 1, _SET, (address, name, value, proven)
        else:
            yield block + 1, START_OF_BLOCK, 1, _SET, (address, name, value, True)
        before = (address, name, block)


def _reads(raw: Mapping[str, pa.Table]) -> Iterator[_Step]:
    rows: set[tuple[int, str, int | None]] = set()
    for dataset in ("raw/oracle/Read", "raw/oracle/WideRead"):
        if (table := raw.get(dataset)) is not None:
            rows.update(
                zip(
                    table["block_number"].to_pylist(),
                    _addresses(table["asset"]),
                    _integers(table["price"]),
                    strict=True,
                )
            )
    for block, asset, price in sorted(rows, key=lambda row: row[:2]):
        yield block, _END_OF_BLOCK, 1, _READ, (asset, price)


def _changes(sources: Iterable[SourceChange]) -> Iterator[_Step]:
    for rank, change in enumerate(sources):
        asked = tuple(source for source in (change.source, *change.others) if source != ZERO_ADDRESS)
        what = (change.asset, asked, change.untold, change.fixed, change.times)
        yield change.block_number, change.log_index, 2 + rank, _SOURCE, what


# -- the walk
# --------------------------------------------------------------------------------------------------------------


class _Walk:
    """State of the fold between two positions, and the rows so far."""

    def __init__(
        self,
        market: str,
        digits: int,
        sources: dict[str, Source],
        blocks: Mapping[int, int],
        liquidation_blocks: Collection[int],
    ) -> None:
        self.market = market
        self.digits = digits
        self.fixed: dict[str, int] = {}  # prices by definition
        self.scale: dict[str, int] = {}  # what the oracle says is this many times too small
        self.sources = sources
        self.blocks = blocks
        self.heights = sorted(blocks)
        self.times = [blocks[height] for height in self.heights]
        self.busy = set(liquidation_blocks)
        self.values: dict[tuple[str, str], int | None] = {}
        self.phase: dict[str, str] = {}
        self.sources_of: dict[str, tuple[str, ...]] = {}  # asked in this order until one answers
        self.untold: set[str] = set()  # and then an oracle of which nothing is known
        self.price: dict[str, int | None] = {}  # absent: not known
        self.due: dict[str, int] = {}  # timestamp from which the price may differ by itself
        self.last_read: dict[str, int] = {}
        self.mismatches = 0
        # Of the current block: rows by (log index, asset), log indexes at which an asset was touched, assets in doubt.
        self.block = -1
        self.rows: dict[tuple[int, int, str], tuple[int | None, str, bool]] = {}
        self.touched: dict[str, list[int]] = defaultdict(list)
        self.doubt: set[str] = set()
        self.done: tuple[list[Any], ...] = tuple([] for _ in PRICES)
        self._users = _closure(sources)
        self._timed = {
            user
            for source in sources.values()
            if source.kind in (CAPPED_RATIO, DISCOUNTED)
            for user in self._users[source.address]
        }
        self._affected: dict[str, tuple[str, ...]] = {}

    # -- one position
    # ----------------------------------------------------------------------------------------------------
    def at(self, block: int, log_index: int, steps: Iterable[_Step]) -> None:
        """Apply all steps of one position, then write the rows of the assets they touch."""
        self._open(block)
        assets: dict[str, None] = {}
        for _, _, _, kind, what in steps:
            if kind == _SET:
                assets.update(dict.fromkeys(self._set(log_index, *what)))
            elif kind == _PHASE:
                assets.update(dict.fromkeys(self._switch(*what)))
            elif kind == _SOURCE:
                asset, sources, untold, fixed, self.scale[asset] = what
                self.sources_of[asset] = sources
                (self.untold.add if untold else self.untold.discard)(asset)
                self.fixed.pop(asset, None)
                if fixed is not None:
                    self.fixed[asset] = fixed
                self.price.pop(asset, None)
                self._affected.clear()
                assets[asset] = None
            else:
                self._read(*what)
        for asset in assets:
            self._touch(asset, log_index)

    def _set(self, log_index: int, address: str, name: str, value: int | None, proven: bool) -> tuple[str, ...]:
        key = (address, name)
        if log_index == START_OF_BLOCK:
            if key in self.values and self.values[key] == value:
                return ()
            # A first reading says what was so already; a change without a log is exact if it is known to be of this
            # block alone.
            if key in self.values and not (proven and (name != "ratio" or self.block not in self.busy)):
                self.doubt.update(self._assets(address))
        self.values[key] = value
        return self._assets(address)

    def _switch(self, proxy: str, aggregator: str, exact: bool) -> tuple[str, ...]:
        first = proxy not in self.phase
        self.phase[proxy] = aggregator
        self._affected.clear()
        if not first and not (exact and self.block not in self.busy):
            self.doubt.update(self._assets(proxy))
        return self._assets(proxy)

    def _assets(self, address: str) -> tuple[str, ...]:
        """Assets whose price depends on this source, or on this aggregator as of now, in a fixed order."""
        if address not in self._affected:
            feeds = {address, *(proxy for proxy, aggregator in self.phase.items() if aggregator == address)}
            users = {user for feed in feeds for user in self._users.get(feed, ())}
            self._affected[address] = tuple(
                sorted(asset for asset, sources in self.sources_of.items() if not users.isdisjoint(sources))
            )
        return self._affected[address]

    def _touch(self, asset: str, log_index: int) -> None:
        """Something that the asset's price depends on changed here."""
        self.touched[asset].append(log_index)
        known, price = self._compute(asset)
        if not known:
            if log_index >= 0:
                self.rows[self.block, log_index, asset] = (self.price.get(asset), "read", False)
        elif log_index >= 0 or asset not in self.price or self.price[asset] != price:
            self.price[asset] = price
            self.rows[self.block, log_index, asset] = (price, self._method(asset), True)

    def _compute(self, asset: str) -> tuple[bool, int | None]:
        """Whether the rule tells the price now, and the price: None where the oracle would revert."""
        self.due.pop(asset, None)
        if asset in self.fixed:
            return True, self.fixed[asset]
        if not self.sources_of[asset]:
            return False, None
        for address in self.sources_of[asset]:
            source = self.sources.get(address)
            if source is None:
                return False, None
            if address in self._timed and self.block not in self.blocks:
                raise LakeError(
                    f"market '{self.market}': no header of block {self.block}, which the price of {asset} needs",
                    "run backtest fetch again",
                )
            try:
                value, due = answer(source, self.sources, self._value, self.blocks.get(self.block, 0))
            except Unknown:
                return False, None
            except Reverts:
                return True, None
            if due is not None:
                self.due[asset] = min(due, self.due.get(asset, due))
            if value > 0:
                return True, value * self.scale[asset]
        return asset not in self.untold, None

    def _value(self, address: str, name: str) -> int:
        if name == "answer" and self.sources[address].parameters["proxy"]:
            if address not in self.phase:
                raise Unknown(address, name)
            address = self.phase[address]
        if (address, name) not in self.values:
            raise Unknown(address, name)
        value = self.values[address, name]
        if value is None:
            raise Reverts(address, name)
        return value

    def _method(self, asset: str) -> str:
        if asset in self.fixed:
            return "fixed"
        kinds = {self.sources[address].kind for address in self.sources_of[asset]}
        return _METHODS.get(kinds.pop(), "formula") if len(kinds) == 1 else "formula"

    def _read(self, asset: str, price: int | None) -> None:
        """The oracle's price at the end of the current block. What an oracle says of which no log tells may have been
        otherwise a log before and a block later: its prices are never exact.
        """
        if asset not in self.sources_of:
            return
        price = None if price is None else price * self.scale[asset]
        touched = [log_index for log_index in self.touched[asset] if log_index >= 0]
        position = touched[-1] if touched else START_OF_BLOCK
        known, computed = self._compute(asset)
        one_block_after, told = self.last_read.get(asset) == self.block - 1, asset not in self.untold
        self.last_read[asset] = self.block
        if known:
            if computed != price:
                self.mismatches += 1
                self.rows[self.block, position, asset] = (price, "read", False)
        elif touched:
            self.rows[self.block, position, asset] = (price, "read", told)
        elif asset not in self.price:
            self.rows[self.block + 1, START_OF_BLOCK, asset] = (price, "read", told)
        elif self.price[asset] != price:
            exact = told and one_block_after and self.block not in self.busy
            self.rows[self.block, START_OF_BLOCK, asset] = (price, "read", exact)
        self.price[asset] = price

    # -- time
    # ------------------------------------------------------------------------------------------------------------
    def ticks(self, until: int | None) -> None:
        """Step the prices that change by time alone in every known block up to ``until`` (None: to the end)."""
        while self.due:
            place = bisect_left(self.times, min(self.due.values()))
            if place == len(self.times) or (until is not None and self.heights[place] > until):
                return
            self._open(self.heights[place])
            for asset in [asset for asset, due in self.due.items() if due <= self.times[place]]:
                known, price = self._compute(asset)
                if known and price != self.price[asset]:
                    self.price[asset] = price
                    self.rows[self.block, START_OF_BLOCK, asset] = (price, self._method(asset), True)

    # -- rows
    # ------------------------------------------------------------------------------------------------------------
    def _open(self, block: int) -> None:
        if block != self.block:
            self._close()
            self.block = block

    def _close(self) -> None:
        later = {}
        for (block, log_index, asset), (price, method, exact) in sorted(self.rows.items()):
            if block > self.block:
                later[block, log_index, asset] = (price, method, exact)
                continue
            sure = exact and (block < self.block or asset not in self.doubt)
            whole, rest = (None, None) if price is None else divmod(price, 10**self.digits)
            if whole is not None and whole >= _TOO_LARGE:
                raise LakeError(
                    f"market '{self.market}': the price of {asset} at block {block} has more than 38 digits",
                    "lower its base_decimals",
                )
            rest = rest if self.digits else None
            row = (
                block,
                log_index,
                int(log_index == START_OF_BLOCK),
                asset,
                whole,
                rest,
                self.sources_of[asset][0] if self.sources_of[asset] else ZERO_ADDRESS,
                method,
                sure,
            )
            for column, value in zip(self.done, row, strict=True):
                column.append(value)
        self.rows = later
        self.touched.clear()
        self.doubt.clear()

    def table(self) -> pa.Table:
        self._open(_END_OF_BLOCK)
        arrays = [pa.array(column, field.type) for column, field in zip(self.done, PRICES, strict=True)]
        return pa.table(arrays, schema=PRICES).replace_schema_metadata({"mismatches": str(self.mismatches)})


def _closure(sources: Mapping[str, Source]) -> dict[str, set[str]]:
    """Every source to the sources that read it, directly or not, itself included."""
    users: dict[str, set[str]] = {address: {address} for address in sources}
    for top in sources:
        todo = [top]
        while todo:
            for feed in sources[todo.pop()].feeds:
                users[feed].add(top)
                todo.append(feed)
    return users


# -- columns to Python
# -----------------------------------------------------------------------------------------------------


def _addresses(column: pa.ChunkedArray) -> list[str]:
    """20-byte addresses as lower-case 0x text, each distinct one made once."""
    encoded = column.combine_chunks().dictionary_encode()
    names = [f"0x{value.hex()}" for value in encoded.dictionary.to_pylist()]
    return [names[place] for place in encoded.indices.to_pylist()]


def _integers(column: pa.ChunkedArray) -> list[int | None]:
    if pa.types.is_fixed_size_binary(column.type):
        return [None if value is None else int.from_bytes(value, "big") for value in column.to_pylist()]
    return [None if value is None else int(value) for value in column.to_pylist()]
