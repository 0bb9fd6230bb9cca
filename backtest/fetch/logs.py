"""Logs of a market into its lake: gaps, requests in flight, judged replies, ordered commits.

The blocks still missing are cut into pieces; many pieces are asked for at once, and their rows are committed in block
order as soon as everything before them is there. A commit holds the rows, the headers of their blocks and the statement
that this range is now covered, so an interruption at any instant loses what was in flight and nothing else.
"""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from backtest.errors import FetchError
from backtest.fetch.context import Progress
from backtest.fetch.decode import LogColumns
from backtest.fetch.dialects import Complaint
from backtest.fetch.headers import DATASET as HEADERS
from backtest.fetch.headers import HeaderBook, Tip, header_table
from backtest.fetch.question import Omissions, Pair, Question
from backtest.fetch.ranges import Range, Width, gaps, halves, length
from backtest.fetch.rpc import Header, Log, Refused, Rpc
from backtest.fetch.sources import CoverageSources
from backtest.foreign import shown
from backtest.lake import Lake, Writer
from backtest.model import EventSpec

COMMIT_ROWS = 200_000
COMMIT_SECONDS = 20.0
ATTEMPTS = 3
"""How often a reply that contradicts its headers or omits logs is asked for again before its range is halved or the
fetch ends.
"""
_BLOOM_SAMPLE = 256
"""After this many headers, if nearly all blooms were saturated, headers that the lake has are no longer read again for
theirs.
"""


@dataclass
class LogStats:
    """Counted over one fetch: nothing is dropped or repaired in silence."""

    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    headers: int = 0
    doubled: int = 0
    incomplete: int = 0
    rechecked: int = 0
    saturated: int = 0
    blooms: int = 0


@dataclass(frozen=True)
class _Piece:
    """What one worker brings back: decoded rows of an inclusive range and the headers that belong to them."""

    first: int
    last: int
    tables: Mapping[str, pa.Table]
    headers: Sequence[Header]
    last_hash: str
    rows: int


class LogFetcher:
    """Fetches logs of one market. Not thread-safe; the worker threads only run ``piece``.

    ``all_headers``: read and store the header of every block, not only of those with logs; then a block all of whose
    logs
    were omitted shows by its bloom as well. ``keys``: the market's parameters that ``EventSpec.key`` names (0x hex
    words, or names).
    """

    def __init__(
        self,
        lake: Lake,
        writer: Writer,
        market: str,
        rpc: Rpc,
        progress: Progress,
        omissions: str = "auto",
        all_headers: bool = False,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self.stats = LogStats()
        self._sources = CoverageSources(lake, market, keys or {})
        self._lake, self._writer, self._market, self._rpc, self._progress = lake, writer, market, rpc, progress
        self._omissions, self._all_headers = omissions, all_headers
        self._book = HeaderBook(lake, market)
        self._tip = Tip(lake, writer, rpc, market)
        self._width = Width(most=2_000) if all_headers else Width()

    def check_tip(self) -> None:
        """FetchError if the chain was reorganised since the last commit."""
        self._tip.check()

    # -- what is missing ---------------------------------------------------------------------------------------------

    def fetch(
        self, namespace: str, specs: Sequence[EventSpec], emitters: Mapping[str, Iterable[str]], first: int, last: int
    ) -> int:
        """Store what the lake lacks of these events of these contracts (role to addresses) in the inclusive range; rows
        added.

        Contracts with the same gaps share their requests, apart from those of which only the market's own logs are
        wanted.
        """
        by_gaps: dict[tuple[tuple[Range, ...], str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for role, addresses in emitters.items():
            if not any(spec.emitter == role for spec in specs):
                continue
            key = self._sources.key(specs, role)
            for address in sorted({address.lower() for address in addresses}):
                missing = gaps(
                    (first, last), self._lake.covered(self._market, self._sources.of(namespace, specs, role, address))
                )
                if missing:
                    by_gaps[tuple(missing), key][role].append(address)
        before = sum(self.stats.rows.values())
        blocks = sum(length(ranges) for ranges, _ in by_gaps)
        if blocks:
            self._progress.begin(f"{namespace} logs", blocks)
        for (ranges, key), members in sorted(by_gaps.items()):
            question = Question(members, [spec for spec in specs if spec.emitter in members], key or None)
            sources = [
                self._sources.of(namespace, specs, role, address)
                for role, addresses in members.items()
                for address in addresses
            ]
            for start, stop in ranges:
                _Run(self, question, namespace, sources, start, stop).run()
        return sum(self.stats.rows.values()) - before

    def fetch_headers(self, blocks: Iterable[int]) -> None:
        """Store the headers of these blocks that the lake lacks."""
        wanted = sorted(set(blocks))
        known = self._book.hashes(wanted)
        missing = [block for block in wanted if block not in known]
        for start in range(0, len(missing), COMMIT_ROWS):
            some = missing[start : start + COMMIT_ROWS]
            self._commit({}, self._rpc.headers(some), some[0], some[-1], {})

    # -- one piece, on a worker thread
    # -----------------------------------------------------------------------------------

    def piece(self, question: Question, omissions: Omissions, namespace: str, first: int, last: int) -> _Piece:
        """Ask, judge, check against the headers, decode. ``Refused`` where the range must be cut."""
        for attempt in range(ATTEMPTS):
            logs, doubled = question.judge(self._ask(question, first, last), first, last)
            self.stats.doubled += doubled
            blocks = list(range(first, last + 1)) if self._all_headers else np.unique(logs.block).tolist()
            headers, hashes, contradiction = self._headers(logs, blocks, last)
            if contradiction is None and first < last and len(logs) and len(logs) % 1_000 == 0:
                raise Refused(
                    Complaint(
                        "range", f"exactly {len(logs)} logs of blocks {first} to {last}: more may have been cut off"
                    )
                )
            if contradiction is None:
                suspects, saturated = omissions.suspects(headers, logs)
                self.stats.saturated += saturated
                self.stats.blooms += len(headers)
                if self._omissions != "never" and len(logs):  # where a reply was cut short, it is at one of its ends
                    suspects |= dict.fromkeys((int(logs.block[0]), int(logs.block[-1])), sorted(question.pairs))
                tables = question.decode(logs, namespace)
                try:
                    omitted = self._omitted(question, logs, suspects, hashes)
                except FetchError as error:  # another log now, or a block that the node does not know by this hash
                    contradiction = error.what
                    omitted = None
                if omitted is None and contradiction is None:
                    wanted = set(blocks)
                    found = [header for header in headers if int(header.number, 16) in wanted]
                    return _Piece(first, last, tables, found, headers[-1].hash, len(logs))
                if omitted is not None:
                    self.stats.incomplete += 1
                    contradiction = f"the reply for blocks {first} to {last} omits logs of block {omitted}"
            if attempt == ATTEMPTS - 1:
                assert contradiction is not None
                if first < last:
                    raise Refused(Complaint("range", contradiction))
                raise FetchError(
                    f"{self._rpc.name}: {contradiction}",
                    "use another node, or more confirmations if the block is recent",
                )
        raise AssertionError("unreachable")

    def _ask(self, question: Question, first: int, last: int, addresses: Sequence[str] | None = None) -> list[Log]:
        """The logs of a range. A single block that is refused, or a filter with too many addresses, is split by
        address.
        """
        addresses = addresses or question.addresses
        try:
            return self._rpc.logs(question.filter(first, last, addresses))
        except Refused as refused:
            if first < last and refused.complaint.kind != "addresses":
                raise
            if len(addresses) == 1:
                raise FetchError(
                    f"{self._rpc.name} refuses even the logs of {addresses[0]} in block {first} alone:"
                    f" {refused.complaint.text}",
                    "use a node with higher limits",
                ) from None
            return [log for half in halves(addresses) for log in self._ask(question, first, last, half)]

    def _headers(
        self, logs: LogColumns, blocks: Sequence[int], last: int
    ) -> tuple[list[Header], dict[int, str], str | None]:
        """(headers of the blocks of the logs and of ``last``, ascending; hashes of all of them; what contradicts them,
        if anything does).

        While blooms tell something, headers that the lake has are read again, for their blooms.
        """
        known: dict[int, str] = {}
        if self._omissions == "never" or (
            self.stats.blooms >= _BLOOM_SAMPLE and self.stats.saturated > 0.9 * self.stats.blooms
        ):
            known = self._book.hashes(blocks)
        headers = self._rpc.headers(sorted({*(block for block in blocks if block not in known), last}))
        stored = self._book.hashes(blocks)
        for header in headers:
            block = int(header.number, 16)
            if header.hash != stored.get(block, header.hash):
                was = f"it was {stored[block]} when the lake was filled: the chain was reorganised"
                return headers, stored, f"block {block} has hash {shown(header.hash, 80)} now, {was}"
        hashes = known | {int(header.number, 16): header.hash for header in headers} | stored
        for block, claimed in sorted(set(zip(logs.block.tolist(), logs.block_hashes, strict=True))):
            if claimed.lower() != hashes[block]:
                return (
                    headers,
                    hashes,
                    f"logs of block {block} name its hash {shown(claimed, 80)}, its header {hashes[block]}",
                )
        return headers, hashes, None

    def _omitted(
        self, question: Question, logs: LogColumns, suspects: Mapping[int, Sequence[Pair]], hashes: Mapping[int, str]
    ) -> int | None:
        """The first block in which logs show up, asked for by its hash, that did not come before; None if there is
        none.

        Raises:
            FetchError: a log that came before is another one now, or the node does not know a block by its hash.
        """
        self.stats.rechecked += len(suspects)
        calls = []
        for block, pairs in suspects.items():
            addresses, topics = sorted({address for address, _ in pairs}), sorted({topic for _, topic in pairs})
            calls.append(
                (
                    "eth_getLogs",
                    [{"blockHash": hashes[block], "address": addresses, "topics": question.topics_filter(topics)}],
                )
            )
        replies: list[list[Log]] = self._rpc.call_many(calls, list[Log])
        came = {place: row for row, place in enumerate(zip(logs.block.tolist(), logs.log_index.tolist(), strict=True))}
        for block, reply in zip(suspects, replies, strict=True):
            found, _ = question.judge(reply, block, block)
            for row, index in enumerate(found.log_index.tolist()):
                before = came.get((block, index))
                if before is None:
                    return block
                if found.row(row) != logs.row(before):
                    raise FetchError(
                        f"the node told log {index} of block {block} in one way, and when asked again in another",
                        "use another node",
                    )
        return None

    # -- commits, on the main thread
    # ---------------------------------------------------------------------------------------

    def standing(self, pieces: Sequence[_Piece]) -> int:
        """How many of the pieces, from the first on, are still of the node's chain by the hash of their last block."""
        headers = self._rpc.headers([piece.last for piece in pieces])
        return next(
            (
                at
                for at, (piece, header) in enumerate(zip(pieces, headers, strict=True))
                if header.hash != piece.last_hash
            ),
            len(pieces),
        )

    def commit(self, pieces: Sequence[_Piece], sources: Sequence[str]) -> None:
        """One atomic commit of neighbouring pieces."""
        self._rpc.report(self._progress)
        first, last = pieces[0].first, pieces[-1].last
        parts: dict[str, list[pa.Table]] = defaultdict(list)
        for piece in pieces:
            for dataset, table in piece.tables.items():
                parts[dataset].append(table)
        tables = {dataset: pa.concat_tables(found) for dataset, found in sorted(parts.items())}
        self._tip.check()
        self._tip.move(last, pieces[-1].last_hash)
        headers = [header for piece in pieces for header in piece.headers]
        self._commit(tables, headers, first, last, dict.fromkeys(sources, (first, last)))
        for dataset, table in tables.items():
            self.stats.rows[dataset] += table.num_rows
        self._progress.advance(last - first + 1, sum(piece.rows for piece in pieces))

    def _commit(
        self,
        tables: Mapping[str, pa.Table],
        headers: Iterable[Header],
        first: int,
        last: int,
        covers: Mapping[str, Range],
    ) -> None:
        rows = header_table(self._book.new(headers))
        self._book.check_links(rows)
        data = {**tables, HEADERS: rows} if rows.num_rows else dict(tables)
        self._writer.commit(self._market, data, from_block=first, to_block=last, covers=covers)
        self._book.add(rows)
        self.stats.headers += rows.num_rows


class _Run:
    """One gap: pieces out, pieces in, commits in order."""

    def __init__(
        self, fetcher: LogFetcher, question: Question, namespace: str, sources: Sequence[str], first: int, last: int
    ) -> None:
        self._fetcher, self._question, self._namespace, self._sources = fetcher, question, namespace, sources
        self._omissions = Omissions(question, fetcher._omissions)
        self._todo: list[Range] = [(first, last)]
        self._flying: dict[Future[_Piece], Range] = {}
        self._landed: dict[int, _Piece] = {}
        self._ready: list[_Piece] = []
        self._next = first
        self._last = last
        self._committed_at = time.monotonic()
        self._abandoned = 0

    def run(self) -> None:
        """Until the last block is committed. If a piece fails for good, what is ready is committed if the node still
        vouches for it.
        """
        try:
            while self._next <= self._last or self._ready:
                self._launch()
                if self._flying:
                    done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
                    for future in sorted(done, key=lambda flown: self._flying[flown]):
                        self._land(future)
                self._advance()
        except FetchError:
            with suppress(FetchError):  # the error that ended the fetch is the one to tell
                self._commit()
            raise
        finally:
            for future in self._flying:
                future.cancel()

    def _launch(self) -> None:
        rpc, width = self._fetcher._rpc, self._fetcher._width
        while (
            self._todo and len(self._flying) < rpc.workers and len(self._flying) + len(self._landed) < 3 * rpc.workers
        ):
            first, last = heapq.heappop(self._todo)
            stop = min(last, first + width.blocks - 1)
            if stop < last:
                heapq.heappush(self._todo, (stop + 1, last))
            future = rpc.submit(self._fetcher.piece, self._question, self._omissions, self._namespace, first, stop)
            self._flying[future] = (first, stop)

    def _land(self, future: Future[_Piece]) -> None:
        first, last = self._flying.pop(future)
        try:
            piece = future.result()
        except Refused as refused:
            self._fetcher._width.refused(last - first + 1, refused.complaint.width, refused.complaint.firm)
            heapq.heappush(self._todo, (first, last))
            return
        self._fetcher._width.answered(last - first + 1, piece.rows)
        self._landed[first] = piece

    def _advance(self) -> None:
        while self._next in self._landed:
            piece = self._landed.pop(self._next)
            self._ready.append(piece)
            self._next = piece.last + 1
        rows = sum(piece.rows for piece in self._ready)
        if rows >= COMMIT_ROWS or self._next > self._last or time.monotonic() - self._committed_at >= COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        """Commit what is ready. Pieces of a branch that the node has left meanwhile are asked for again."""
        ready, self._ready = self._ready, []
        self._committed_at = time.monotonic()
        if not ready:
            return
        standing = self._fetcher.standing(ready)
        if standing:
            self._fetcher.commit(ready[:standing], self._sources)
        if standing < len(ready):
            self._abandoned += 1
            if self._abandoned > ATTEMPTS:
                raise FetchError(
                    f"the chain keeps being reorganised at or before block {ready[standing].last}",
                    "ask for more confirmations",
                )
            self._next = ready[standing].first
            for piece in ready[standing:]:
                heapq.heappush(self._todo, (piece.first, piece.last))
