"""The blocks above the last final one, as the node tells them: which of ours still stand, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from backtest.errors import FetchError
from backtest.fetch.rpc import Header, Rpc
from backtest.follow.state import SeenBlock
from backtest.foreign import shown

SPAN = 2_000
"""Blocks taken in one step at most."""
_BACK = 16


class Undone(FetchError):
    """A block that counted as final is not on the node's chain any more."""


@dataclass(frozen=True, slots=True)
class Next:
    """What to do: blocks behind ``fork`` are undone, and those up to ``last`` follow on it."""

    fork: int
    last: int


@dataclass(slots=True)
class Branch:
    """Blocks by number, from the final one on without a gap."""

    final: SeenBlock
    blocks: dict[int, SeenBlock] = field(default_factory=dict)
    lead: int = 0
    """The node's newest block when last asked."""

    @property
    def tip(self) -> SeenBlock:
        """The newest block that was taken."""
        return self.blocks[max(self.blocks)] if self.blocks else self.final

    def at(self, number: int) -> SeenBlock | None:
        """Our block of this number."""
        return self.final if number == self.final.number else self.blocks.get(number)

    def next(self, rpc: Rpc) -> Next | None:
        """What the node's newest block asks for; None where nothing is new, also where the node lags behind.

        Raises:
            Undone: the chain was reorganised at or below the final block.
        """
        newest = _seen(rpc.header("latest"), rpc)
        self.lead = newest.number
        tip = self.tip
        if newest.number <= tip.number:
            own = self.at(newest.number)
            if newest.number < self.final.number or (own is not None and own.hash == newest.hash):
                return None
        fork = self._fork(rpc, min(newest.number, tip.number), newest)
        last = min(newest.number, fork + SPAN)
        return Next(fork, last) if last > fork or fork < tip.number else None

    def _fork(self, rpc: Rpc, start: int, newest: SeenBlock) -> int:
        """The newest of our blocks that the node's chain has."""
        tip = self.tip
        if newest.number == tip.number + 1 and newest.parent == tip.hash:
            return tip.number
        high = start
        while high > self.final.number:
            low = max(self.final.number + 1, high - _BACK + 1)
            for header in reversed(rpc.headers(list(range(low, high + 1)))):
                theirs = _seen(header, rpc)
                if self.blocks[theirs.number].hash == theirs.hash:
                    return theirs.number
            high = low - 1
        final = _seen(rpc.headers([self.final.number])[0], rpc)
        if final.hash != self.final.hash:
            raise Undone(
                f"the chain was reorganised at or below block {final.number}, which counted as final: its hash is"
                f" {shown(final.hash, 80)} now, it was {self.final.hash}",
                f"ask for more confirmations (--finality finalized), and take those blocks of the lake anew: backtest"
                f" fetch ... --again A..{final.number}",
            )
        return final.number

    def undo(self, fork: int) -> list[SeenBlock]:
        """Blocks behind ``fork`` are no more; which those were."""
        gone = [self.blocks.pop(number) for number in sorted(self.blocks) if number > fork]
        return gone

    def settle(self, final: SeenBlock) -> None:
        """Blocks up to this one are final."""
        self.final = final
        for number in [number for number in self.blocks if number <= final.number]:
            del self.blocks[number]

    def __iter__(self) -> Iterator[SeenBlock]:
        return iter([self.blocks[number] for number in sorted(self.blocks)])


def _seen(header: Header | None, rpc: Rpc) -> SeenBlock:
    if header is None:
        raise FetchError(f"{rpc.name} tells no newest block", "use a node that is in sync")
    try:
        return SeenBlock(
            int(header.number, 16), header.hash.lower(), header.parent_hash.lower(), int(header.timestamp, 16)
        )
    except ValueError:
        raise FetchError(
            f"{rpc.name}: the header of block {shown(header.number, 40)} is malformed", "use another node"
        ) from None
