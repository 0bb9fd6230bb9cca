"""Follows the head of a chain into a lake: the health of every account kept current in memory, and alerts.

``head`` takes blocks on and undoes them, ``limits`` says what is worth an alert, ``outbox`` keeps every alert once,
``destinations`` hand them over. The lake gets final blocks only, by plain fetches, so that it ends as a fetch of the
same blocks would leave it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from backtest.errors import FetchError, LakeBusy
from backtest.fetch import check_chain, fetch, final_block
from backtest.fetch.context import Progress
from backtest.fetch.headers import DATASET as HEADERS
from backtest.fetch.rpc import Rpc
from backtest.follow.branch import Undone
from backtest.follow.destinations import Destination, Send
from backtest.follow.head import Finality, Head, HeadStep
from backtest.follow.limits import LATE, AlertLimits, Happened, WatchList, worsened
from backtest.follow.outbox import Outbox, Reached
from backtest.follow.state import BlockChanges, MarketState, SeenBlock, written_off
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.model import AssetId, MarketEvent
from backtest.protocols.registry import protocol_named
from backtest.reconstruct import is_current, reconstruct

__all__ = ["AlertLimits", "Followed", "Follower"]

SETTLE_BLOCKS = 64
"""Final blocks that wait in memory until they are stored together."""
SETTLE_SECONDS = 60.0
"""How long fewer of them wait."""
Note = Callable[[str], None]


@dataclass(slots=True)
class Followed:
    """Counted since the start."""

    blocks: int = 0
    undone: int = 0
    reorganisations: int = 0
    alerts: int = 0
    retracted: int = 0
    stored_to: int = 0
    failures: int = 0


class Follower:
    """Follows one market. ``open`` it, then ``run``; or call ``step``.

    Args:
        finality: as of ``fetch``: what is stored in the lake.
        destinations: name and way of each place that alerts go to.
        note: told what a user should know, one line each.
        progress: of the first fetch, which may take long.
    """

    def __init__(
        self,
        lake: Lake,
        config: MarketConfig,
        rpc: Rpc,
        limits: AlertLimits | None = None,
        *,
        finality: Finality = "finalized",
        destinations: Sequence[tuple[str, Send]] = (),
        note: Note = lambda text: None,
        progress: Progress | None = None,
    ) -> None:
        self.lake, self.config, self.rpc = lake, config, rpc
        self.limits = limits or AlertLimits()
        self.finality, self.note, self._progress = finality, note, progress
        self.counts = Followed()
        self._protocol = protocol_named(config.protocol)
        self._wanted = list(destinations)
        self._destinations: list[Destination] = []
        self._stack = ExitStack()
        self._late: tuple[str, dict[tuple[AssetId, str], bool]] = ("", {})
        self._settled_at = time.monotonic()
        self._updates: dict[int, dict[tuple[AssetId, str], int]] = {}

    # -- begin and end ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Follower:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self) -> None:
        check_chain(self.rpc, self.config)
        known = self.config.name in self.lake.markets() and bool(self.lake.sources(self.config.name))
        if not known:
            self._store(final_block(self.rpc, self.finality), first=None)
        self.outbox = self._stack.enter_context(Outbox(self.lake, self.config.name, self.config.chain_id))
        for name, send in self._wanted:
            self._destinations.append(Destination(self.outbox, name, send, self.note))
        reached = self.outbox.reached
        if known and reached is None:
            self._store(final_block(self.rpc, self.finality), first=None)
        self._begin(reached)

    def _begin(self, reached: Reached | None) -> None:
        """With the lake's own rows, and the alerts of blocks behind ``reached`` that it holds."""
        self._current()
        begin = None if reached is None else reached.number
        self.head = Head(self.lake, self.config, self.rpc, self._protocol, from_block=begin)
        self._watch = WatchList(self.head.standing, self.limits)
        self._watched = self.head.standing
        self._late = ("", {})
        self.counts.stored_to = self.head.branch.final.number
        if reached is None:
            self._write(self.head.branch.final, worsened(self.head.standing, {}, self._watch.conditions))
        else:
            self._retract_stored(reached)
            self._pass_stored()

    def _current(self) -> None:
        """Canonical tables as the raw rows have it."""
        self.lake.refresh()
        if not is_current(self.lake, self.config.name):
            reconstruct(self.lake, self.config.name)
            self.lake.refresh()

    def _retract_stored(self, reached: Reached) -> None:
        """Alerts of blocks that were gone when the lake got others in their place."""
        if blocks := self.outbox.blocks():
            last = self.head.branch.final.number
            rows = self.lake.read(HEADERS, self.config.name, from_block=blocks[0], to_block=last).to_pylist()
            hashes = {row["block_number"]: f"0x{row['block_hash'].hex()}" for row in rows}
            self.counts.retracted += self.outbox.retract(hashes, reached)

    def _pass_stored(self) -> None:
        """Blocks that somebody else fetched since the last alert: as far as the lake knows their time."""
        standing, final = self.head.standing, self.head.branch.final
        if standing.block >= final.number:
            return
        timeline = self.head.timeline
        assert timeline is not None
        headers = self.lake.read(HEADERS, self.config.name, from_block=standing.block + 1, to_block=final.number)
        seen = [
            SeenBlock(
                row["block_number"], f"0x{row['block_hash'].hex()}", f"0x{row['parent_hash'].hex()}", row["timestamp"]
            )
            for row in headers.sort_by("block_number").to_pylist()
        ]
        events: dict[int, list[MarketEvent]] = {}
        for transaction in timeline.transactions(final.number, standing.block + 1):
            events.setdefault(transaction[0].block_number, []).extend(transaction)
        begin = SeenBlock(standing.block, "", "", standing.book.now.timestamp)
        try:
            self._updates = self._ages(HeadStep(fork=begin, taken=seen))
        except FetchError as error:
            blocks = f"{begin.number + 1} to {final.number}"
            self.note(f"how old answers of feeds were in blocks {blocks} is not known: {error.what}")
        lost = written_off(self.lake.read("canonical/deficits", self.config.name, from_block=standing.block + 1))
        for block in seen:
            changes = BlockChanges(block, events.get(block.number, ()), written_off=lost.get(block.number, ()))
            self._visit(standing, changes)
        self.head.final = standing.copy()

    def close(self) -> int:
        """Store what is final, and hand over what waits for some seconds; how many alerts are left for the next
        start.
        """
        left = 0
        for destination in self._destinations:
            left += destination.close(5.0)
        self._destinations = []
        self._stack.close()
        return left

    # -- steps ------------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event, *, poll: float = 1.0, patience: float = 60.0) -> None:
        """Until ``stop`` is set. A node that does not answer well is asked again for as long as it takes.

        Raises:
            Undone: a final block is gone from the chain.
        """
        failing_since: float | None = None
        pause = poll
        while not stop.is_set():
            try:
                behind = self.step()
            except Undone:
                raise
            except FetchError as error:
                self.counts.failures += 1
                now = time.monotonic()
                if failing_since is None:
                    failing_since = now
                    self.note(f"{error.what}; it is asked again")
                pause = min(pause * 2, max(poll, patience / 4))
                stop.wait(pause)
                continue
            if failing_since is not None:
                self.note(f"the node answers again, after {time.monotonic() - failing_since:.0f} s")
                failing_since, pause = None, poll
            self.settle()
            if not behind:
                stop.wait(poll)

    def step(self) -> bool:
        """One look at the node; whether it has more at once.

        Raises:
            FetchError: the node did not answer well: the next step does what this one could not.
        """
        found = self.head.step(self._visit, self._before)
        self.counts.blocks += len(found.taken)
        if self.outbox.alerts:
            for destination in self._destinations:
                destination.wake()
        return bool(found.taken) and self.head.branch.tip.number < self.head.branch.lead

    def _before(self, step: HeadStep) -> None:
        """Blocks are gone, and others come."""
        if step.undone:
            self.counts.undone += len(step.undone)
            self.counts.reorganisations += 1
        assert step.fork is not None
        branch = self.head.branch
        hashes = {block.number: block.hash for block in branch} | {branch.final.number: branch.final.hash}
        retracted = self.outbox.retract(hashes, Reached(step.fork.number, step.fork.hash))
        self.counts.retracted += retracted
        self._updates = self._ages(step)

    def _visit(self, standing: MarketState, changes: BlockChanges) -> None:
        if self._watched is not standing:  # after blocks were undone, or assets were listed
            self._watch = WatchList(standing, self.limits)
            self._watched = standing
        happened = self._watch.block(standing, changes)
        happened += self._late_now(changes.block)
        self._write(changes.block, happened)

    def _write(self, block: SeenBlock, happened: Sequence[Happened] | Iterator[Happened]) -> None:
        found = list(happened)
        reached = self.outbox.reached
        if not found and reached is not None and block.number < reached.number + SETTLE_BLOCKS:
            return
        written = self.outbox.write(block, found)
        self.counts.alerts += written
        if written:
            for destination in self._destinations:
                destination.wake()

    # -- feeds ------------------------------------------------------------------------------------------------------

    def _ages(self, step: HeadStep) -> dict[int, dict[tuple[AssetId, str], int]]:
        """When feeds had last answered, by new block."""
        if self.limits.late is None or not step.taken or step.fork is None:
            return {}
        blocks = [block.number for block in step.taken]
        if self._late[0] != step.fork.hash:
            before = self.head.oracle.updated(self.rpc, [step.fork.number]).get(step.fork.number, {})
            self._late = (step.fork.hash, self._lateness(before, step.fork))
        return self.head.oracle.updated(self.rpc, blocks)

    def _lateness(self, updated: dict[tuple[AssetId, str], int], block: SeenBlock) -> dict[tuple[AssetId, str], bool]:
        most = self.limits.late
        assert most is not None
        return {feed: block.timestamp - seconds > most for feed, seconds in updated.items()}

    def _late_now(self, block: SeenBlock) -> list[Happened]:
        if self.limits.late is None or block.number not in self._updates:
            return []
        updated, before = self._updates[block.number], self._late[1]
        now = self._lateness(updated, block)
        self._late = (block.hash, now)
        market = self.head.standing.book.market
        return [
            Happened(
                LATE,
                feed,
                {"silent_seconds": str(block.timestamp - updated[asset, feed])},
                market.label(asset),
            )
            for (asset, feed), late in sorted(now.items())
            if late and not before.get((asset, feed), False)
        ]

    # -- what is final ----------------------------------------------------------------------------------------------

    def settle(self, *, all_of_it: bool = False) -> int:
        """Store final blocks that wait, if they are many or wait long, or ``all_of_it``; how many."""
        branch = self.head.branch
        waited = time.monotonic() - self._settled_at >= SETTLE_SECONDS
        if not all_of_it and not waited and branch.tip.number - branch.final.number < SETTLE_BLOCKS:
            return 0
        try:
            last = self.head.final_number(self.finality)
        except FetchError as error:
            self.note(f"{error.what}: nothing is stored yet")
            return 0
        waiting = last - branch.final.number
        if waiting <= 0 or not (all_of_it or waited or waiting >= SETTLE_BLOCKS):
            return 0
        self._settled_at = time.monotonic()
        self.outbox.write(branch.tip, ())  # the lake never gets ahead of the alerts
        try:
            self._store(last, first=branch.final.number + 1)
        except LakeBusy as error:
            self.note(f"{error.what}: final blocks wait")
            return 0
        except FetchError as error:
            self.note(f"{error.what}: final blocks wait")
            return 0
        before = branch.final
        if differing := self.head.settle(self.lake, last):
            self.note(f"{differing}: the market is read from the lake anew")
            self._begin(Reached(before.number, before.hash))
        self.outbox.forget(self.head.branch.final.number)
        self.counts.stored_to = self.head.branch.final.number
        return waiting

    def _store(self, last: int, first: int | None) -> None:
        """A plain fetch up to a block; with the header of every block from ``first`` on."""
        found = fetch(
            self.lake, self.config, self.rpc, from_block=first, to_block=last, finality=self.finality,
            headers="events" if first is None else "all",
            at_once=first is not None, progress=self._progress if first is None else None,
        )  # fmt: skip
        self.lake.refresh()
        for text in found.notes if first is None and self._progress is None else ():
            self.note(text)
