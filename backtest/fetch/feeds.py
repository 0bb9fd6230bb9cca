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
    NO_STATE,
    RATIO,
    SILENT,
    STATE_GETTERS,
    answers,
    calls_at,
    lacks_state,
    raw_address,
    resolve,
    selector,
    signed,
)
from backtest.fetch.context import FetchContext
from backtest.fetch.oracle import ASSET_PRICE, Oracles, Use, uses_of
from backtest.fetch.phases import Phase, estimated, phases_of, phases_without_state
from backtest.fetch.sampling import neighbours, refine
from backtest.model import EventSpec, SourceChange
from backtest.prices.fold import read_sources
from backtest.prices.oracles import CAPPED_RATIO, FEED, FIXED, SAMPLED, Source
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

ANSWERS = "raw/chainlink/AnswerUpdated"
COVERAGE = "oracle"
WINDOW = 200_000
"""Blocks of one commit of oracle state: what an interrupted fetch loses at most."""
SAMPLE_SECONDS = 3600
_LARGEST = 10**38 - 1


@dataclass(slots=True)
class PriceSummary:
    """What a fetch of prices found: sources by kind, how much was read, what is not exact. ``unanswered``: reads of the
    oracle that gave no price; ``overruled``: reads that differ from what the feed's own logs say.
    """

    kinds: dict[str, int] = field(default_factory=dict)
    reads: int = 0
    unanswered: int = 0
    overruled: int = 0
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
    _check_silent(context, uses, found)
    _note_other_rules(context, found)
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
    proxies = {
        source.address: min(
            (max(use.first, -1) for use in uses if not set(use.sources).isdisjoint(users_of(found, source))),
            default=end,
        )
        for source in found.values()
        if source.parameters.get("proxy")
    }
    phases, archive = phases_of(context, proxies)
    _fetch_logs(context, phases, found)
    if archive and (lie := told_otherwise(context, aggregators_of(phases, found), start, end)):
        context.progress.note(f"the node has no old state: {lie}")
        archive = False
        phases = phases_without_state(context, list(proxies))
        _fetch_logs(context, phases, found)
    phases = estimated(context, phases, _log_blocks(context, start, end))
    _store_phases(context, phases)
    gaps = _gaps(context.lake.covered(context.config.name, COVERAGE), start, end)
    if gaps:
        context.progress.begin("oracle state", sum(last - first + 1 for first, last in gaps))
    for first, last in gaps:
        _Window(context, first, last, uses, found, phases, archive, sorted(liquidation_blocks), summary).fetch()
        context.progress.advance(last - first + 1)
    if summary.unanswered:
        context.progress.note(
            f"{summary.unanswered} of {summary.reads} reads of the oracle gave no price: backtest check names them"
            " (prices__answered)"
        )
    for source_address in sorted(summary.restless):
        context.progress.note(
            f"the price or ratio of {source_address} moves all the time: between its samples it is not exact"
        )
    return summary


def _fetch_logs(context: FetchContext, phases: Sequence[Phase], found: Mapping[str, Source]) -> None:
    """Logs of every aggregator and adapter over the range."""
    start, end = context.from_block, context.to_block
    context.fetch_logs(FEED_EVENTS, sorted(aggregators_of(phases, found)), "chainlink", start, end)
    adapters = [source.address for source in found.values() if source.kind != FEED]
    context.fetch_logs(ADAPTER_EVENTS, sorted(adapters), "oracle-adapters", start, end)


def aggregators_of(phases: Iterable[Phase], found: Mapping[str, Source]) -> set[str]:
    """All aggregators: of proxies, and those that are sources themselves."""
    bare = {source.address for source in found.values() if source.kind == FEED and not source.parameters["proxy"]}
    return bare | {phase.aggregator for phase in phases}


def _check_silent(context: FetchContext, uses: Sequence[Use], found: Mapping[str, Source]) -> None:
    """FetchError where a source answers nothing and the oracle has a price from it: both cannot be."""
    end = context.to_block
    silent = [
        use
        for use in uses
        if use.last == end
        and use.sources
        and not use.untold
        and all(found[source].parameters.get("reason") == SILENT for source in use.sources)
    ]
    prices = Oracles(context.rpc, silent).prices([(use.asset, end) for use in silent])
    for use in silent:
        if prices[use.asset, end] is not None:
            raise FetchError(
                f"{context.rpc.name}: price source {', '.join(use.sources)} of {use.asset} answers nothing at block"
                f" {end}, and the oracle has a price from it",
                "use another node: what this one says of calls cannot be relied on",
            )


def _note_other_rules(context: FetchContext, found: Mapping[str, Source]) -> None:
    """Say which sources the lake holds under another rule: what was read of them earlier was chosen by that rule."""
    dataset, market = "raw/oracle/Source", context.config.name
    if dataset not in context.lake.datasets(market):
        return
    held = read_sources(context.lake.read(dataset, market))
    for address, source in found.items():
        if address in held and (held[address].kind, held[address].parameters) != (source.kind, source.parameters):
            context.progress.note(
                f"price source {address} is {source.kind} now, the lake holds it as {held[address].kind}: if it did not"
                " change, an earlier fetch was told wrongly: take its blocks again with --again A..B"
            )


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
    archive: bool
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
        lie = told_otherwise(self.context, self._aggregators(), first, last)
        plain = all(source.kind in (FEED, FIXED) for source in self.found.values())
        states = [] if lie else self._initial_states()
        lie = lie or self._otherwise_before(states)
        silent = self._aggregators() - {f"0x{owner.hex()}" for _, owner, name, _ in states if name == "answer"}
        if not lie and not self.archive and silent and first > 0:
            lie = f"at block {first - 1} {min(silent)} answers nothing, and feed proxies of the market neither"
        if lie and not plain:
            raise FetchError(f"{self.context.rpc.name} has no old state: {lie}", NO_STATE)
        if lie:
            states = self._answers_before()
        ratios = self._ratios(triggers)
        for source, series in ratios.items():
            changed = {block for (_, before), (block, value) in neighbours(series) if value != before}
            for user in self._users(source):
                triggers[user] |= changed
            states += [(block, raw_address(source), "ratio", value) for block, value in series.items()]
        try:
            reads = {} if lie else self._prices(triggers)
        except FetchError as error:
            if not lacks_state(error) or not plain:
                raise
            lie, reads = error.what, {}
        if lie:
            self.context.progress.note(
                "the node has no old state: prices of feeds are not compared with the oracle's; backtest check names"
                " what is missing (prices__read_at_liquidations)"
            )
        self._judge(reads, states)
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
        return users_of(self.found, self.found[source])

    def _judge(self, reads: Mapping[str, Mapping[int, int | None]], states: Sequence[tuple[object, ...]]) -> None:
        """Hold what the oracle answered against what the logs of plain feeds say of the same blocks.

        A price that differs from the logs is asked again.

        Raises:
            FetchError: the oracle gives no price where a feed's own log, or the source itself, gives one above zero; or
                one price the first time and another the second.
        """
        before = {owner: value for _, owner, name, value in states if name == "answer"}
        given = _answers_of(self.context, self.first, self.last)
        doubtful: list[tuple[str, Use, int]] = []
        overruled: list[tuple[str, int]] = []
        for asset, series in reads.items():
            for block, price in series.items():
                use = next(use for use in self.uses if use.asset == asset and use.first <= block <= use.last)
                if price is None:
                    self.summary.unanswered += 1
                if use.getter != ASSET_PRICE or not use.sources:
                    continue
                said = self._said_by(use, block, before, given)
                if price is None and said is not None and said > 0:
                    raise self._denied(asset, use, block, f"its feed's own logs say {said}")
                if price is None and said is None:
                    doubtful.append((asset, use, block))
                elif said is not None and (price or 0) != max(said, 0):
                    overruled.append((asset, block))
        for (asset, block), price in Oracles(self.context.rpc, self.uses).prices(overruled).items():
            if price != reads[asset][block]:
                raise FetchError(
                    f"{self.context.rpc.name} said that the price of {asset} at block {block} is"
                    f" {reads[asset][block]}, and when asked again {price}",
                    "use another node: what this one says of calls cannot be relied on",
                )
        if overruled:
            self.summary.overruled += len(overruled)
            self.context.progress.note(
                f"blocks {self.first} to {self.last}: {len(overruled)} of {sum(map(len, reads.values()))} reads of the"
                " oracle differ from the feeds' own logs: such prices are not exact; backtest check names them"
                " (prices__read_as_computed)"
            )
        asked = [(use.source, selector(ANSWER), block) for _, use, block in doubtful]
        for (asset, use, block), data in zip(doubtful, calls_at(self.context.rpc, asked), strict=True):
            if (value := signed(data)) is not None and value > 0:
                raise self._denied(asset, use, block, f"the source says {value}")

    def _denied(self, asset: str, use: Use, block: int, why: str) -> FetchError:
        return FetchError(
            f"{self.context.rpc.name} gives no price of {asset} at block {block}, and {why} (price source"
            f" {use.source})",
            "use another node: what this one says of calls cannot be relied on",
        )

    def _said_by(
        self, use: Use, block: int, before: Mapping[object, object], given: Mapping[str, Sequence[tuple[int, int]]]
    ) -> int | None:
        """What the first of a use's sources with a price above zero says; None where one before it does not tell."""
        said: int | None = None
        for source in use.sources:
            said = self._said(source, block, before, given)
            if said is None or said > 0:
                return said
        return None if use.untold else said

    def _said(
        self, source: str, block: int, before: Mapping[object, object], given: Mapping[str, Sequence[tuple[int, int]]]
    ) -> int | None:
        """A plain feed's answer at the end of a block by its logs; None where they do not tell."""
        if self.found[source].kind != FEED:
            return None
        aggregator = source
        if self.found[source].parameters["proxy"]:
            own = [phase for phase in self.phases if phase.proxy == source]
            in_force = [phase for phase in own if phase.from_block <= block]
            if not in_force or not all(phase.exact for phase in own):
                return None
            aggregator = max(in_force, key=lambda phase: phase.phase).aggregator
        rows = given.get(aggregator, ())
        place = bisect_right(rows, (block, 1 << 256))
        if place:
            return rows[place - 1][1]
        value = before.get(raw_address(aggregator))
        return value if isinstance(value, int) else None

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

    def _initial_states(self) -> list[tuple[int, bytes, str, int | None]]:
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
            told = calls_at(self.context.rpc, [(owner, data, before) for owner, _, data in asked])
        except FetchError as error:
            if not lacks_state(error) or getters:
                raise
            return self._answers_before()
        values = [(owner, name, signed(data)) for (owner, name, _), data in zip(asked, told, strict=True)]
        return [(before, raw_address(owner), name, value) for owner, name, value in values if value is not None]

    def _otherwise_before(self, states: Sequence[tuple[object, ...]]) -> str | None:
        """How what an aggregator answered before the window contradicts its own last log in the window before."""
        before = self.first - 1
        given = _answers_of(self.context, max(self.context.from_block, before - WINDOW), before)
        for _, owner, name, value in states if before >= 0 else ():
            address = f"0x{owner.hex()}" if isinstance(owner, bytes) else ""
            block, logged = given[address][-1] if name == "answer" and address in given else (before, value)
            if value != logged:
                return f"at block {before} {address} answers {value}, and its own log of block {block} says {logged}"
        return None

    def _aggregators(self) -> set[str]:
        bare = {
            source.address for source in self.found.values() if source.kind == FEED and not source.parameters["proxy"]
        }
        return bare | {phase.aggregator for phase in self.phases if phase.from_block <= self.last}

    def _answers_before(self) -> list[tuple[int, bytes, str, int | None]]:
        """The answers before the window from a node without old state: aggregators keep past rounds
        (``getRoundData``).
        """
        end = self.context.to_block  # the answer at the end is that before the window only where no log is between
        rounds: dict[str, int] = {}
        if ANSWERS in self.context.lake.datasets(self.context.config.name):
            table = self.context.lake.read(ANSWERS, self.context.config.name, from_block=self.first, to_block=end)
            for owner, number in zip(table["address"].to_pylist(), table["round_id"].to_pylist(), strict=True):
                rounds.setdefault(f"0x{owner.hex()}", int(number))
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
            if rounds.get(aggregator) != 1  # nothing came before its first round
        ]
        states: list[tuple[int, bytes, str, int | None]] = []
        for (aggregator, _, _), data in zip(calls, answers(self.context.rpc, calls), strict=True):
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
        dataset = "raw/chainlink/AnswerUpdated"
        if dataset not in self.context.lake.datasets(self.context.config.name):  # no asset has a feed
            return set()
        table = self.context.lake.read(
            dataset,
            self.context.config.name,
            columns=["current", "block_number"],
            from_block=self.first,
            to_block=self.last,
        )
        answers = zip(table["current"].to_pylist(), table["block_number"].to_pylist(), strict=True)
        return {block for answer, block in answers if answer <= 0}


# -- what a node without old state says
# -------------------------------------------------------------------------------------------------


def told_otherwise(context: FetchContext, aggregators: Collection[str], first: int, last: int) -> str | None:
    """How a node's old state of the range contradicts the aggregators' own logs, in words; None where it does not.

    A node without the state of a block may say so, answer nothing, or answer from its latest state. An aggregator's
    ``latestAnswer`` at the end of a block with a log of its own is the last one logged there. Asked for is one block of
    each: the first whose answer is not the latest one, if there is any.
    """
    given = {owner: rows for owner, rows in _answers_of(context, first, last).items() if owner in aggregators}
    if not given:
        return None
    rpc, owners = context.rpc, sorted(given)
    ends = {context.to_block, max(context.to_block, rpc.block_number())}
    late: dict[str, set[int | None]] = {owner: set() for owner in owners}
    for end in sorted(ends):
        told = answers(rpc, [(owner, selector(ANSWER), end) for owner in owners])
        for owner, data in zip(owners, told, strict=True):
            late[owner].add(signed(data))
    asked = {
        owner: next((row for row in given[owner] if row[1] not in late[owner]), given[owner][0]) for owner in owners
    }
    try:
        told = answers(rpc, [(owner, selector(ANSWER), asked[owner][0]) for owner in owners])
    except FetchError as error:
        if not lacks_state(error):
            raise
        return error.what
    for owner, data in zip(owners, told, strict=True):
        (block, logged), value = asked[owner], signed(data)
        if value is None and late[owner] != {None}:
            return f"at block {block} {owner} answers nothing, and its own log there says {logged}"
        if value != logged and value in late[owner]:
            return (
                f"at block {block} {owner} answers {value}, which is its latest answer: its own log there says {logged}"
            )
    return None


def _answers_of(context: FetchContext, first: int, last: int) -> dict[str, list[tuple[int, int]]]:
    """Aggregator to (block, the last answer logged in it), ascending."""
    if ANSWERS not in context.lake.datasets(context.config.name):
        return {}
    columns = ["address", "block_number", "current"]
    table = context.lake.read(ANSWERS, context.config.name, columns=columns, from_block=first, to_block=last)
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for owner, block, value in zip(*(table[name].to_pylist() for name in columns), strict=True):
        found[f"0x{owner.hex()}"][block] = int(value)
    return {owner: sorted(rows.items()) for owner, rows in found.items()}


def users_of(found: Mapping[str, Source], source: Source) -> list[str]:
    """Addresses of the sources that read a source, directly or not, and its own."""
    users = [source.address]
    for user in users:
        users += [other.address for other in found.values() if user in other.feeds and other.address not in users]
    return users


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


def _store_phases(context: FetchContext, phases: Sequence[Phase]) -> None:
    """Store the phases that the lake does not hold yet, in place of estimates of them.

    Raises:
        FetchError: the lake holds an earlier block of a switch within the range, which the node denies.
    """
    dataset, market = "raw/oracle/Phase", context.config.name
    held = context.lake.read(dataset, market).to_pylist() if dataset in context.lake.datasets(market) else []
    told = {phase.row[:2]: phase for phase in phases if phase.exact}
    for row in held:
        found = told.get((row["address"], row["phase"]))
        if row["exact"] and found and context.from_block <= row["from_block"] < found.from_block:
            blocks = f"{row['from_block']}..{found.from_block}"
            raise FetchError(
                f"feed proxy {found.proxy} has its phase {found.phase} from block {row['from_block']} on in the lake,"
                f" and from block {found.from_block} on by what {context.rpc.name} says: one of them was told wrongly",
                f"take these blocks again from a node that can be relied on: --again {blocks}",
            )
    kept = [row for row in held if row["exact"] or (row["address"], row["phase"]) not in told]
    if len(kept) < len(held):
        table = _table(dataset, [tuple(row.values()) for row in kept])
        context.writer.replace(market, dataset, [(dataset, table)], stamp="")
    _store_new(context, dataset, [phase.row for phase in phases])


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
