"""The head of a chain above a lake: blocks as they come, undone and taken on again, with the market's state after each.

Nothing is stored: rows of blocks that are not final stay in memory (``overlay``). Every step asks the node with the
parts of a fetch, so that replies are judged as a fetch judges them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from backtest.errors import FetchError, RulesError, UserError
from backtest.fetch import check_chain, fetch_protocol_logs, final_block
from backtest.fetch.context import Silent
from backtest.fetch.headers import DATASET as HEADERS
from backtest.fetch.logs import LogFetcher
from backtest.fetch.rpc import Rpc
from backtest.fetch.state import fetch_constants, fetch_readings, fetch_revisions, fetch_tokens
from backtest.follow.branch import Branch
from backtest.follow.oracle import HeadOracle, Steps
from backtest.follow.overlay import Overlay, OverlayWriter
from backtest.follow.spans import Told
from backtest.follow.state import MarketState, Outgrown, SeenBlock, Visit
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.model import Asset, AssetId, Market
from backtest.near import NearList, near_in_book
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.registry import protocol_named
from backtest.replay.timeline import Timeline
from backtest.results import load_market, load_timeline

Finality = Literal["finalized"] | int


@dataclass(slots=True)
class HeadStep:
    """What one look at the node brought: blocks that are gone, and blocks that are new."""

    undone: list[SeenBlock] = field(default_factory=list)
    fork: SeenBlock | None = None
    taken: list[SeenBlock] = field(default_factory=list)


class Head:
    """A market at the head of its chain.

    Attributes:
        final: the state at the last block of the lake. standing: the state at the newest block.
        oracle_reads: prices by block above the final one.
    """

    def __init__(
        self,
        lake: Lake,
        config: MarketConfig,
        rpc: Rpc,
        protocol: LendingProtocol[Any],
        *,
        from_block: int | None = None,
    ) -> None:
        """``from_block``: begin with the state at this block of the lake instead of its last one.

        Raises:
            LakeError: canonical tables are missing or stale.
            UserError: the market was not fetched from a node.
        """
        self.lake, self.config, self.rpc, self.protocol = lake, config, rpc, protocol
        market = load_market(lake, config.name)
        self.timeline: Timeline | None = load_timeline(lake, config.name)
        self._begin(market, from_block)

    def _begin(self, market: Market, from_block: int | None = None) -> None:
        last = self.covered()
        timeline = self.timeline or load_timeline(self.lake, self.config.name)
        self.overlay = Overlay(self.lake, self.config.name, last)
        self.branch = Branch(self._stored(last))
        self._open()
        begin = last if from_block is None else min(from_block, last)
        self.final = MarketState.at_end(self.config, market, timeline, self.told, self.protocol, begin)
        self.standing = self.final.copy()
        self.oracle_reads: Steps = {}
        self.oracle = HeadOracle(self.lake, market, self.protocol.price_sources(self.told.span(-1, last)))

    def _open(self) -> None:
        """What reads and writes the overlay, anew."""
        self.told = Told(self.overlay, self.config, self.protocol)
        self._writer = OverlayWriter(self.overlay)
        self._logs_of = self._fetcher()

    def _fetcher(self) -> LogFetcher:
        return LogFetcher(
            self.overlay, self._writer, self.config.name, self.rpc, Silent(), "auto", True, self.config.parameters
        )

    def covered(self) -> int:
        """The last block up to which the lake has the market's own logs from its first block on."""
        name, own = self.config.name, set(self.config.contracts.values())
        ends = []
        for source in self.lake.sources(name):
            if source.rpartition("/")[2] in own:
                first = next(iter(self.lake.covered(name, source)), (0, -1))
                ends.append(first[1] if first[0] <= self.config.start_block else -1)
        last = min(ends, default=-1)
        if last < 0:
            raise UserError(
                f"the lake holds no blocks of market '{name}' from its first one on that a node told",
                "fetch it first: backtest fetch --help",
            )
        return last

    def _stored(self, number: int) -> SeenBlock:
        rows = self.lake.read(HEADERS, self.config.name, from_block=number, to_block=number).to_pylist()
        if not rows:
            raise UserError(
                f"market '{self.config.name}' has no header of block {number}", "run the fetch again: it reads it"
            )
        return _block(rows[0])

    # -- steps ----------------------------------------------------------------------------------------------------

    def step(self, visit: Visit, undone: Callable[[HeadStep], None]) -> HeadStep:
        """Take on what the node has that is new.

        Args:
            visit: called for each new block, in order (``MarketState.advance``).
            undone: called before, once it is known which blocks are gone and which come.

        Raises:
            Undone: a final block is gone.
            FetchError: the node did not answer well; the next step does what this one could not.
        """
        found = self.branch.next(self.rpc)
        if found is None:
            return HeadStep()
        step = HeadStep(fork=self.branch.at(found.fork))
        if found.fork < self.branch.tip.number:
            step.undone = self.branch.undo(found.fork)
            self._forget(found.fork)
            self._rebuild()
        first = found.fork + 1
        try:
            step.taken = self._ask(first, found.last)
        except BaseException:
            self._forget(found.fork)
            raise
        for block in step.taken:
            self.branch.blocks[block.number] = block
        undone(step)
        try:
            self._advance(step.taken, visit)
        except BaseException:
            self.branch.undo(found.fork)
            self._forget(found.fork)
            self._rebuild()
            raise
        return step

    def _advance(self, blocks: Sequence[SeenBlock], visit: Visit | None) -> None:
        if not blocks:
            return
        try:
            self.standing.advance(self.told, blocks, self.oracle_reads, visit)
        except (Outgrown, RulesError):
            if self.standing.block >= blocks[0].number:  # the fold is behind it
                raise
            self._grow(blocks[-1].number)
            self.standing.advance(self.told, blocks, self.oracle_reads, visit)

    def _grow(self, last: int) -> None:
        """Begin anew with a market that lists what it lists now."""
        assets = dict(self.protocol.fold(self.config, self.told.span(-1, last)))["assets"]
        kept = self.overlay, self.branch, self.oracle_reads, self.standing.block
        market = load_market(self.lake, self.config.name)
        self._begin(_listing(market, assets.sort_by("asset_id").to_pylist()))
        self.overlay, self.branch, self.oracle_reads, block = kept
        self._open()
        self.standing = self.final.copy()
        self._replay(block)

    def _forget(self, fork: int) -> None:
        """Rows behind a block are no more."""
        self.overlay.forget(fork + 1)
        self.oracle_reads = {block: steps for block, steps in self.oracle_reads.items() if block <= fork}
        self._logs_of = self._fetcher()

    def _rebuild(self) -> None:
        """The state at the newest block that stands, from the final one on."""
        self.standing = self.final.copy()
        self._replay(self.branch.tip.number)

    def _replay(self, last: int) -> None:
        again = [block for block in self.branch if block.number <= last]
        if again:
            self.standing.advance(self.told, again, self.oracle_reads)

    def _ask(self, first: int, last: int) -> list[SeenBlock]:
        """Everything about an inclusive range, into the overlay; its blocks."""
        if first > last:
            return []
        config, rpc, overlay = self.config, self.rpc, self.overlay
        whole = _Growing(self.told, first - 1, last)
        logs = self._logs_of
        logs.fetch_headers(range(first, last + 1))
        fetch_protocol_logs(logs, self.protocol, config, whole, first, last)
        name, writer = config.name, self._writer
        span = self.told.span(first - 1, last)
        fetch_constants(overlay, writer, name, rpc, self.protocol.constants(span), last)
        fetch_readings(overlay, writer, name, rpc, lambda: self.protocol.readings(whole), last)
        fetch_tokens(overlay, writer, name, rpc, self.protocol.tokens(whole), last)
        fetch_revisions(overlay, writer, name, rpc, self.protocol.deployments(whole), last)
        self.oracle = HeadOracle(self.lake, self.standing.book.market, self.protocol.price_sources(span))
        self.oracle_reads |= self.oracle.prices(rpc, first, last)
        blocks = [_block(row) for row in overlay.own(HEADERS, first, last).sort_by("block_number").to_pylist()]
        parent = self.branch.at(first - 1)
        assert parent is not None
        for number, block in enumerate(blocks, first):
            if block.number != number or block.parent != parent.hash:
                raise FetchError(f"{rpc.name}: the chain was reorganised at block {number} meanwhile", "ask again")
            parent = block
        told = rpc.headers([last])[0]
        if told.hash.lower() != parent.hash:
            raise FetchError(f"{rpc.name}: the chain was reorganised at block {last} meanwhile", "ask again")
        return blocks

    # -- final blocks ----------------------------------------------------------------------------------------------

    def final_number(self, finality: Finality) -> int:
        """The newest of the blocks taken that is final, and still on the chain."""
        last = min(final_block(self.rpc, finality), self.branch.tip.number)
        own = self.branch.at(last)
        on_chain = own is not None and self.rpc.headers([last])[0].hash.lower() == own.hash
        return last if on_chain else self.branch.final.number

    def settle(self, lake: Lake, last: int) -> str | None:
        """Blocks up to ``last`` are in the lake now: they leave the memory. What the lake says otherwise than the head
        did, in words; then this head is of no use any more.
        """
        block = self.branch.at(last)
        assert block is not None
        if (stored := self._stored(last)).hash != block.hash:
            return f"block {last} has hash {stored.hash} in the lake, {block.hash} at the head"
        if differing := self._differing(lake, last):
            return differing
        between = [each for each in self.branch if each.number <= last]
        self.final.advance(self.told, between, self.oracle_reads)
        self.overlay = self.overlay.above(lake, last)
        self.oracle_reads = {number: steps for number, steps in self.oracle_reads.items() if number > last}
        self.branch.settle(block)
        self._open()
        self.timeline = None
        return None

    def _differing(self, lake: Lake, last: int) -> str | None:
        own, name = f"raw/{self.config.protocol}/", self.config.name
        first = self.branch.final.number + 1
        for dataset in sorted({*lake.datasets(name), *self.overlay.datasets(name)}):
            if not dataset.startswith(own):
                continue
            ours = self.overlay.own(dataset, first, last)
            known = dataset in lake.datasets(name)
            theirs = lake.read(dataset, name, from_block=first, to_block=last) if known else ours.slice(0, 0)
            if not ours.sort_by(_PLACE).equals(theirs.sort_by(_PLACE)):
                rows = f"{theirs.num_rows} rows of blocks {first} to {last} in the lake, {ours.num_rows} at the head"
                return f"{dataset} has {rows}"
        return None


def near_at_head(lake: Lake, market: str, rpc: Rpc, within: int) -> NearList:
    """Who is near at the newest block of the chain (``near_in_lake``): what the lake lacks is read into memory.

    Raises:
        FetchError: the node did not answer well, or is on another chain.
        LakeError: the market's canonical tables are missing or stale.
    """
    config = lake.market_config(market)
    check_chain(rpc, config)
    head = Head(lake, config, rpc, protocol_named(config.protocol))
    while True:
        head.step(lambda standing, changes: standing.take(changes), lambda step: None)
        if head.branch.tip.number >= head.branch.lead:
            return near_in_book(head.standing.book, head.standing.names, within)


_PLACE = [("block_number", "ascending"), ("log_index", "ascending")]


class _Growing:
    """``RawEvents`` that sees what is added while it is asked."""

    def __init__(self, told: Told, after: int, upto: int) -> None:
        self.parameters = dict(told.config.parameters)
        self._told, self._after, self._upto = told, after, upto

    def table(self, event: str) -> Any:
        """See ``RawEvents.table``."""
        return self._told.span(self._after, self._upto).table(event)

    def segments(self, rows: int, columns: Any) -> Any:
        """See ``RawEvents.segments``."""
        return self._told.span(-1, self._upto).segments(rows, columns)


def _block(row: dict[str, Any]) -> SeenBlock:
    return SeenBlock(
        row["block_number"], f"0x{row['block_hash'].hex()}", f"0x{row['parent_hash'].hex()}", row["timestamp"]
    )


def _listing(market: Market, rows: Sequence[dict[str, Any]]) -> Market:
    """The market with the assets of a canonical table."""
    assets = tuple(Asset(AssetId(row["asset_id"]), row["asset"], row["symbol"], row["decimals"]) for row in rows)
    return replace(market, assets=assets)
