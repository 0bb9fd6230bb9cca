"""Everything that the prices of a market are made of: sources and their phases, answers, caps, ratios and oracle reads.

Logs say when a Chainlink aggregator answers and when an adapter's cap moves. What changes without a log is found by
reading old
state: phase switches of proxies and changes of exchange rates by bisection between samples. ``getAssetsPrices`` is read
at the end of every block in which an input of an adapter changed, of every liquidation and of every change of source,
so that a rule is checked
wherever it matters, and a source of unknown rule still has its price there. Sources whose changes no log shows are
sampled besides: about once an hour, each change in between found to its block; one that moves all the time is known at
samples only.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from backtest.errors import FetchError
from backtest.fetch.adapters import (
    ANSWER,
    RATIO,
    STATE_GETTERS,
    calls_at,
    lacks_state,
    raw_address,
    resolve,
    selector,
    signed,
)
from backtest.fetch.context import FetchContext
from backtest.fetch.oracle import ASSET_PRICE, Oracles, Use, uses_of
from backtest.fetch.phases import Phase, estimated, phases_of
from backtest.fetch.sampling import neighbours, refine
from backtest.model import EventSpec, SourceChange
from backtest.oracles import CAPPED_RATIO, FEED, FIXED, SAMPLED, Source
from backtest.tables import RAW_STATE

FEED_EVENTS = (
    EventSpec(
        "AnswerUpdated", "AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt)", "feed"
    ),
    EventSpec("SecondaryRoundIdUpdated", "SecondaryRoundIdUpdated(uint32 indexed secondaryRoundId)", "feed"),
    EventSpec("PrimaryFeedUnlocked", "PrimaryFeedUnlocked(uint32 indexed primaryRoundId)", "feed"),
)
_CAP = "uint256 snapshotRatio, uint256 snapshotTimestamp, uint256 maxRatioGrowthPerSecond"
ADAPTER_EVENTS = (
    EventSpec("CapParametersUpdated", f"CapParametersUpdated({_CAP}, uint16 maxYearlyRatioGrowthPercent)", "adapter"),
    EventSpec(
        "CapParametersUpdatedWide", f"CapParametersUpdated({_CAP}, uint32 maxYearlyRatioGrowthPercent)", "adapter"
    ),
    EventSpec("PriceCapUpdated", "PriceCapUpdated(int256 priceCap)", "adapter"),
    EventSpec("PriceCapRatioUpdated", "PriceCapRatioUpdated(int256 priceCapRatio)", "adapter"),
    EventSpec("FixedPriceUpdated", "FixedPriceUpdated(int256 currentPrice, int256 newPrice)", "adapter"),
    EventSpec(
        "MaxDiscountPerYearUpdated",
        "maxDiscountPerYearUpdated(uint16 oldMaxDiscountPerYear, uint16 newMaxDiscountPerYear)",
        "adapter",
    ),
)
# Namespace to its events: datasets are raw/<namespace>/<event>.
EVENTS: Mapping[str, tuple[EventSpec, ...]] = {"chainlink": FEED_EVENTS, "oracle-adapters": ADAPTER_EVENTS}

COVERAGE = "oracle"
WINDOW = 200_000
"""Blocks of one commit of oracle state: what an interrupted fetch loses at most."""
SAMPLE_SECONDS = 3600
_LARGEST = 10**38 - 1


@dataclass(slots=True)
class PriceSummary:
    """What a fetch of prices found: sources by kind, how much was read, what is not exact."""

    kinds: dict[str, int] = field(default_factory=dict)
    reads: int = 0
    samples: int = 0
    restless: set[str] = field(default_factory=set)


def fetch_prices(
    context: FetchContext, sources: Sequence[SourceChange], liquidation_blocks: Collection[int]
) -> PriceSummary:
    """Fetch and store all oracle facts of the context's block range that the lake lacks.

    Args:
        sources: ``LendingProtocol.price_sources`` over the market's history up to ``context.to_block``.
        liquidation_blocks: blocks of the range with a liquidation.

    Raises:
        FetchError: the node lacks state of an old block that a price needs, or refuses.
    """
    summary = PriceSummary()
    start, end = context.from_block, context.to_block
    uses = uses_of(sources, start, end)
    if not uses:
        context.progress.note("no asset has a price source in this range: there are no prices")
        return summary
    found = resolve(context.rpc, {source for use in uses for source in use.sources}, end)
    _store_new(context, "raw/oracle/Source", [_source_row(source) for source in found.values()])
    for source in found.values():
        summary.kinds[source.kind] = summary.kinds.get(source.kind, 0) + 1
        if source.kind == SAMPLED:
            context.progress.note(
                f"price source {source.address} '{source.description}' is read, not computed:"
                f" {source.parameters['reason']}"
            )
    if untold := sorted({use.oracle for use in uses if use.untold}):
        context.progress.note(
            f"the oracle {', '.join(untold)} falls back on one whose sources no log tells: where it answers, prices are"
            " read about once an hour and not exact between"
        )
    phases = phases_of(context, [source.address for source in found.values() if source.parameters.get("proxy")])
    aggregators = {phase.aggregator for phase in phases} | {
        a.address for a in found.values() if a.kind == FEED and not a.parameters["proxy"]
    }
    context.fetch_logs(FEED_EVENTS, sorted(aggregators), "chainlink", start, end)
    adapters = [source.address for source in found.values() if source.kind != FEED]
    context.fetch_logs(ADAPTER_EVENTS, sorted(adapters), "oracle-adapters", start, end)
    phases = estimated(context, phases, _log_blocks(context, start, end))
    _store_new(context, "raw/oracle/Phase", [phase.row for phase in phases])
    gaps = _gaps(context.lake.covered(context.config.name, COVERAGE), start, end)
    if gaps:
        context.progress.begin("oracle state", sum(last - first + 1 for first, last in gaps))
    for first, last in gaps:
        _Window(context, first, last, uses, found, phases, sorted(liquidation_blocks), summary).fetch()
        context.progress.advance(last - first + 1)
    for source_address in sorted(summary.restless):
        context.progress.note(
            f"the price or ratio of {source_address} moves all the time: between its samples it is not exact"
        )
    return summary


# -- who uses what, when
# ---------------------------------------------------------------------------------------------------


def _gaps(covered: Iterable[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """What of the range is not covered, cut at multiples of ``WINDOW``."""
    gaps, at = [], start
    for first, last in [*covered, (end + 1, end + 1)]:
        while at < min(first, end + 1):
            stop = min(first - 1, end, (at // WINDOW + 1) * WINDOW - 1)
            gaps.append((at, stop))
            at = stop + 1
        at = max(at, last + 1)
    return gaps


# -- the state of one window
# -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Window:
    """Reads of the blocks ``first`` to ``last``, committed at once."""

    context: FetchContext
    first: int
    last: int
    uses: list[Use]
    found: dict[str, Source]
    phases: list[Phase]
    liquidations: list[int]
    summary: PriceSummary
    grid: list[int] = field(default_factory=list)

    def fetch(self) -> None:
        """Read, then commit with the headers that the rows need."""
        first, last = self.first, self.last
        self.uses = [use for use in self.uses if use.first <= last and use.last >= first - 1]
        self.grid = self._sample_blocks()
        logs = _log_blocks(self.context, first, last)
        triggers = self._triggers(logs)
        states = self._initial_states(logs)
        ratios = self._ratios(triggers)
        for source, series in ratios.items():
            changed = {block for (_, before), (block, value) in neighbours(series) if value != before}
            for user in self._users(source):
                triggers[user] |= changed
            states += [(block, raw_address(source), "ratio", value) for block, value in series.items()]
        try:
            reads = self._prices(triggers)
        except FetchError as error:
            if not lacks_state(error) or any(source.kind not in (FEED, FIXED) for source in self.found.values()):
                raise
            self.context.progress.note("the node has no old state: prices of feeds are not compared with the oracle's")
            reads = {}
        rows = [
            (block, raw_address(asset), price) for asset, series in reads.items() for block, price in series.items()
        ]
        of_one_price = {raw_address(use.asset) for use in self.uses if use.getter != ASSET_PRICE}
        wide = [
            (block, asset, None if price is None else price.to_bytes(32, "big"))
            for block, asset, price in rows
            if asset in of_one_price
        ]
        self.summary.reads += len(rows)
        self.summary.samples += sum(map(len, ratios.values()))
        blocks = {block for block, _, _ in rows if block >= first} | {
            phase.from_block for phase in self.phases if first <= phase.from_block <= last
        }
        changed = {
            block for series in ratios.values() for (_, before), (block, value) in neighbours(series) if value != before
        }
        self.context.fetch_headers(sorted(blocks | changed | {first}))
        narrow = [row for row in rows if row[1] not in of_one_price]
        tables = {
            "raw/oracle/State": _table("raw/oracle/State", states),
            "raw/oracle/Read": _table("raw/oracle/Read", narrow),
            "raw/oracle/WideRead": _table("raw/oracle/WideRead", wide),
        }
        covers = {COVERAGE: (first, last)}
        self.context.writer.commit(
            self.context.config.name, tables, from_block=max(first - 1, 0), to_block=last, covers=covers
        )

    def _users(self, source: str) -> list[str]:
        """Sources that read a source, directly or not, and itself."""
        users = [source]
        for user in users:
            users += [
                other.address for other in self.found.values() if user in other.feeds and other.address not in users
            ]
        return users

    def _triggers(self, logs: Mapping[str, Sequence[int]]) -> dict[str, set[int]]:
        """Blocks in which a log or a phase switch may have changed what a source answers, by source."""
        triggers: dict[str, set[int]] = defaultdict(set)
        for source in self.found:
            own = set(logs.get(source, ()))
            for phase in (phase for phase in self.phases if phase.proxy == source):
                own |= {phase.from_block} if self.first <= phase.from_block <= self.last else set()
                own |= set(logs.get(phase.aggregator, ()))
            for user in self._users(source):
                triggers[user] |= own
        return triggers

    def _initial_states(self, logs: Mapping[str, Sequence[int]]) -> list[tuple[object, ...]]:
        """What every aggregator and adapter answered when the window began; nothing of one that was not there."""
        before = self.first - 1
        if before < 0:
            return []
        getters = [
            (source, name, getter)
            for source in self.found.values()
            for name, getter in STATE_GETTERS.get(source.kind, {}).items()
        ]
        getters = [item for item in getters if "constant" not in item[0].parameters]
        asked = [(source.address, name, selector(getter)) for source, name, getter in getters]
        asked += [(aggregator, "answer", selector(ANSWER)) for aggregator in sorted(self._aggregators())]
        try:
            answers = calls_at(self.context.rpc, [(owner, data, before) for owner, _, data in asked])
        except FetchError as error:
            if not lacks_state(error) or getters:
                raise
            return self._answers_before(logs)
        values = [(owner, name, signed(data)) for (owner, name, _), data in zip(asked, answers, strict=True)]
        return [(before, raw_address(owner), name, value) for owner, name, value in values if value is not None]

    def _aggregators(self) -> set[str]:
        bare = {
            source.address for source in self.found.values() if source.kind == FEED and not source.parameters["proxy"]
        }
        return bare | {phase.aggregator for phase in self.phases if phase.from_block <= self.last}

    def _answers_before(self, logs: Mapping[str, Sequence[int]]) -> list[tuple[object, ...]]:
        """The answers before the window from a node without old state: aggregators keep past rounds
        (``getRoundData``).
        """
        table = self.context.lake.read(
            "raw/chainlink/AnswerUpdated", self.context.config.name, from_block=self.first, to_block=self.last
        )
        rounds: dict[str, int] = {}
        for owner, number in zip(table["address"].to_pylist(), table["round_id"].to_pylist(), strict=True):
            rounds.setdefault(f"0x{owner.hex()}", int(number))
        end = self.context.to_block
        calls = [
            (
                aggregator,
                (
                    f"{selector('getRoundData(uint80)')}{rounds[aggregator] - 1:064x}"
                    if aggregator in rounds
                    else selector(ANSWER)
                ),
                end,
            )
            for aggregator in sorted(self._aggregators())
        ]
        states: list[tuple[object, ...]] = []
        for (aggregator, _, _), data in zip(calls, self.context.rpc.eth_calls(calls), strict=True):
            value = signed(data[32:] if data and aggregator in rounds else data)
            states += [] if value is None else [(self.first - 1, raw_address(aggregator), "answer", value)]
        return states

    def _sample_blocks(self) -> list[int]:
        """Blocks about ``SAMPLE_SECONDS`` apart, at least 64 in the window, its last one and the one before it
        included.
        """
        first, last = self.context.rpc.headers([self.first, self.last])
        seconds = max(int(last.timestamp, 16) - int(first.timestamp, 16), 1)
        step = max(1, min(SAMPLE_SECONDS * (self.last - self.first) // seconds, (self.last - self.first) // 64))
        return sorted({max(self.first - 1, 0), *range(self.first, self.last + 1, step), self.last})

    def _ratios(self, triggers: Mapping[str, set[int]]) -> dict[str, dict[int, int | None]]:
        """Exchange rates of the adapters while they are in use: on the grid and around every change between; one that
        moves all the time, at every trigger too.
        """
        series: dict[str, dict[int, int | None]] = {}
        spans: dict[str, list[tuple[int, int]]] = {}
        for source in self.found.values():
            if source.kind == CAPPED_RATIO and "ratio_feed" not in source.parameters:
                users = set(self._users(source.address))
                uses = [
                    (max(use.first, self.first - 1, 0), min(use.last, self.last))
                    for use in self.uses
                    if not users.isdisjoint(use.sources)
                ]
                spans[source.address] = uses
                blocks = {block for first, last in uses for block in (first, last, *_within(self.grid, first, last))}
                series[source.address] = dict.fromkeys(sorted(blocks))

        def read(asked: list[tuple[str, int]]) -> list[int | None]:
            return [
                signed(data)
                for data in calls_at(self.context.rpc, [(source, selector(RATIO), block) for source, block in asked])
            ]

        restless = refine(series, read)
        self.summary.restless |= restless
        more = [
            (own, block)
            for own in sorted(restless)
            for span in spans[own]
            for block in _within(sorted(triggers[own]), *span)
        ]
        for (own, block), value in zip(more, read(more), strict=True):
            series[own][block] = value
        return series

    def _prices(self, triggers: Mapping[str, set[int]]) -> dict[str, dict[int, int | None]]:
        """Oracle prices by asset: where an adapter's input changed, and for every asset at liquidations, changes of
        source and phase switches; sources of unknown rule on the grid too, and around every change between.
        """
        first, last = self.first, self.last
        switched = {phase.from_block for phase in self.phases}
        silent = self._silences() if any(use.untold for use in self.uses) else set()
        blocks: dict[str, set[int]] = defaultdict(set)
        for use in self.uses:
            wanted = {use.since, *_within(self.liquidations, first, last)}
            for source in use.sources:
                own = triggers.get(source, set())
                wanted |= own & (switched | silent) if self.found[source].kind in (FEED, FIXED) else own
            if use.untold or self._read(use):
                wanted |= {*self.grid, use.first, use.last}
            blocks[use.asset] |= {
                block for block in wanted if max(use.first, first - 1, 0) <= block <= min(use.last, last)
            }
        series: dict[str, dict[int, int | None]] = {asset: dict.fromkeys(sorted(own)) for asset, own in blocks.items()}
        oracles = Oracles(self.context.rpc, self.uses)
        unknown = {use.asset for use in self.uses if self._read(use)}
        for (asset, block), price in oracles.prices(
            [(asset, block) for asset, own in series.items() for block in own]
        ).items():
            series[asset][block] = price
        sampled = {asset: own for asset, own in series.items() if asset in unknown}
        self.summary.restless |= refine(sampled, lambda asked: list(oracles.prices(asked).values()), known=True)
        return series

    def _read(self, use: Use) -> bool:
        """Whether the price can only be read."""
        return not use.sources or any(self.found[source].kind == SAMPLED for source in use.sources)

    def _silences(self) -> set[int]:
        """Blocks in which a feed answered nothing above zero, so that the fallback is asked."""
        table = self.context.lake.read(
            "raw/chainlink/AnswerUpdated",
            self.context.config.name,
            columns=["current", "block_number"],
            from_block=self.first,
            to_block=self.last,
        )
        answers = zip(table["current"].to_pylist(), table["block_number"].to_pylist(), strict=True)
        return {block for answer, block in answers if answer <= 0}


# -- small things
# ----------------------------------------------------------------------------------------------------------


def _log_blocks(context: FetchContext, first: int, last: int) -> dict[str, list[int]]:
    """Blocks with a log of an aggregator or adapter, by its address, ascending, once each."""
    blocks: dict[str, set[int]] = defaultdict(set)
    known = set(context.lake.datasets(context.config.name))
    for namespace, specs in EVENTS.items():
        for spec in specs:
            if (dataset := f"raw/{namespace}/{spec.name}") in known:
                table = context.lake.read(
                    dataset, context.config.name, columns=["address", "block_number"], from_block=first, to_block=last
                )
                for owner, block in zip(table["address"].to_pylist(), table["block_number"].to_pylist(), strict=True):
                    blocks[f"0x{owner.hex()}"].add(block)
    return {owner: sorted(own) for owner, own in blocks.items()}


def _within(ordered: Sequence[int], first: int, last: int) -> Sequence[int]:
    return ordered[bisect_left(ordered, first) : bisect_right(ordered, last)]


def _source_row(source: Source) -> tuple[object, ...]:
    return raw_address(source.address), source.kind, source.description, source.decimals, source.parameters_json


def _table(dataset: str, rows: Sequence[tuple[object, ...]]) -> pa.Table:
    schema = RAW_STATE[dataset]
    for row in rows:
        if any(isinstance(value, int) and abs(value) > _LARGEST for value in row):
            raise FetchError(
                f"{dataset}: {row!r} does not fit 38 digits", "report this source: it is not supported yet"
            )
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(column, f.type) for column, f in zip(columns, schema, strict=True)], schema=schema)


def _store_new(context: FetchContext, dataset: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Commit the rows that the lake does not hold yet."""
    table = (
        context.lake.read(dataset, context.config.name)
        if dataset in context.lake.datasets(context.config.name)
        else None
    )
    held = {tuple(row.values()) for row in table.to_pylist()} if table is not None else set()
    new = [row for row in rows if row not in held]
    if new:
        context.writer.commit(
            context.config.name,
            {dataset: _table(dataset, new)},
            from_block=context.from_block,
            to_block=context.to_block,
        )
