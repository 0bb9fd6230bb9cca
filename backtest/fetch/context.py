"""What every part of a fetch works with: where it reads, where it writes, how it says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from backtest.markets import MarketConfig
from backtest.model import EventSpec

if TYPE_CHECKING:
    from backtest.fetch.rpc import Rpc
    from backtest.lake import Lake, Writer


class Progress(Protocol):
    """Told what a fetch does. Called from one thread only."""

    def begin(self, what: str, total: int) -> None:
        """A stage begins: ``total`` units (blocks or calls) to do."""
        ...

    def advance(self, units: int, logs: int = 0) -> None:
        """``units`` more are done and safely stored; they held ``logs`` logs."""
        ...

    def note(self, text: str) -> None:
        """Something a user should know, one line, no secrets."""
        ...


class Silent:
    """A ``Progress`` that says nothing."""

    def begin(self, what: str, total: int) -> None:
        pass

    def advance(self, units: int, logs: int = 0) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class LogSource(Protocol):
    """Where a market's logs come from: a node (``logs.LogFetcher``) or files."""

    def fetch(
        self, namespace: str, specs: Sequence[EventSpec], emitters: Mapping[str, Iterable[str]], first: int, last: int
    ) -> int:
        """Store what the lake lacks of these events of these contracts (role to addresses) in the inclusive range, with
        the headers of their blocks; how many rows were added.
        """
        ...

    def fetch_headers(self, blocks: Iterable[int]) -> None:
        """Store the headers of these blocks that the lake lacks."""
        ...


@dataclass(frozen=True)
class FetchContext:
    """One fetch of one market. ``from_block`` and ``to_block`` are inclusive and final.

    ``fetch_logs(specs, addresses, namespace, from_block, to_block)`` stores every log of these events from these
    addresses in that inclusive range as datasets ``raw/<namespace>/<event name>``, with the headers of their blocks,
    skipping what the lake already covers; it returns the number of logs added. Events of one call share the emitter
    role of their specs. Logs that do not fit their ABI go to ``raw/<namespace>/Quarantine``.

    ``fetch_headers(blocks)`` stores the headers of these blocks in ``raw/chain/Header`` unless already there.
    """

    lake: Lake
    writer: Writer
    config: MarketConfig
    rpc: Rpc
    from_block: int
    to_block: int
    progress: Progress
    fetch_logs: Callable[[Sequence[EventSpec], Iterable[str], str, int, int], int]
    fetch_headers: Callable[[Iterable[int]], None]
