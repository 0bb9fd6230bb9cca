"""JSON-RPC to Ethereum nodes: what the fetcher asks, many requests in flight.

How one request is answered is in ``provider_pool`` (one provider or several, retries, failover) and ``witnesses``
(replies that are asked of two), what a reply holds in ``replies``; whatever a node says in its errors goes through
``dialects``.
Provider URLs hold keys: no message, log line or representation made here contains more of one than its scheme and host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from backtest import foreign
from backtest.errors import FetchError, UserError
from backtest.fetch import asked as of
from backtest.fetch import replies
from backtest.fetch.asked import Asked, Call
from backtest.fetch.context import Progress
from backtest.fetch.member import MOST_WORKERS, members_of
from backtest.fetch.provider import redact
from backtest.fetch.provider_pool import ProviderPool, Refused, Stats
from backtest.fetch.providers import Providers, ProviderSettings
from backtest.fetch.replies import Header, Log, Topics
from backtest.fetch.witnesses import Misled, Witnesses

__all__ = ["MOST_WORKERS", "Header", "Log", "Misled", "Refused", "Rpc", "Stats", "Topics", "redact"]

T = TypeVar("T")
Item = TypeVar("Item")

TIMEOUTS = (0.1, 3_600.0)
_TOO_MUCH = frozenset(("range", "addresses", "batch"))
_TOO_SLOW = frozenset(("limit", "timeout"))


class Rpc:
    """A node, or several providers of the same chain that are asked in each other's place. Thread-safe.

    Args:
        url: http(s) address, keys and all; or the providers.
        timeout: seconds for one request, from connecting to the last byte, ``TIMEOUTS``.
        attempts: tries of one request at one provider before giving up.
        backoff: seconds before the first retry; doubles, with jitter, up to ``max_backoff``.
        workers: requests in flight at each provider, 1 to ``MOST_WORKERS``.
        batch: calls in one JSON-RPC batch; halved for good when the nodes refuse that many.

    Raises:
        UserError: the address is none, or ``timeout`` or ``workers`` is out of range.
    """

    def __init__(
        self,
        url: str | Providers,
        *,
        timeout: float = 30.0,
        attempts: int = 8,
        backoff: float = 0.25,
        max_backoff: float = 30.0,
        workers: int = 16,
        batch: int = 100,
    ) -> None:
        if not 1 <= workers <= MOST_WORKERS:
            raise UserError(f"{workers} requests in flight", f"choose 1 to {MOST_WORKERS} --workers")
        if not TIMEOUTS[0] <= timeout <= TIMEOUTS[1]:
            raise UserError(f"a timeout of {timeout:g} s", f"choose {TIMEOUTS[0]:g} to {TIMEOUTS[1]:g} s for --timeout")
        providers = Providers([ProviderSettings(url)]) if isinstance(url, str) else url
        # What is asked first, half as often: a mistyped address is told within seconds, not after the longest pauses.
        self._first_tries = min(attempts, max(4, attempts // 2))
        self.pool = ProviderPool(members_of(providers.settings, timeout, workers), attempts, backoff, max_backoff)
        self.witnesses = Witnesses(self.pool, providers.compare)
        self.workers = min(MOST_WORKERS, sum(member.workers for member in self.pool.members))
        self._batch = batch
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="rpc")
        self._in_thread = threading.local()
        self.witness: tuple[str, str, int] | None = None
        """A call of ``eth_calls`` that gave a value, so that it must give one again (``adapters.answers``)."""

    @property
    def name(self) -> str:
        """Of the provider, or of all of them."""
        return self.pool.name

    @property
    def stats(self) -> Stats:
        return self.pool.stats

    def __repr__(self) -> str:
        return f"Rpc({self.name})"

    def close(self) -> None:
        """Let go of the threads; requests in flight are abandoned, and no further one is sent."""
        self.pool.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Rpc:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None:
                self.confirm()
        finally:
            self.close()

    # -- several providers ---------------------------------------------------------------------------------------------

    def final(self, block: int) -> int:
        """This block is final, as the user counts it: from here down all providers must say the same."""
        self.witnesses.final = block
        return block

    def report(self, progress: Progress) -> None:
        """Tell what became of the providers meanwhile, from the thread that may. Misled where something that was passed
        on turned out to be false.
        """
        for line in list(self.pool.findings):
            progress.note(line)
        if misled := self.witnesses.misled():
            raise misled

    def confirm(self) -> None:
        """Compare what is still to be compared. Misled where something that was passed on was false."""
        self.witnesses.pay()
        if misled := self.witnesses.misled():
            raise misled

    def doubted(self, error: FetchError) -> Misled | None:
        """Whether false replies may be why something went wrong: what one provider alone had said is asked of others.
        None where nothing was false.
        """
        if isinstance(error, Misled) or not self.pool.several:
            return error if isinstance(error, Misled) else None
        self.witnesses.doubt()
        return self.witnesses.misled()

    def providers(self) -> list[str]:
        """What each of several providers did, a line each."""
        if not self.pool.several:
            return []
        best = max((member.head or 0 for member in self.pool.members), default=0)
        return [member.said(best) for member in self.pool.members]

    # -- work in parallel --------------------------------------------------------------------------------------------

    def submit(self, work: Callable[..., T], *args: Any) -> Any:
        """``work(*args)`` on one of the threads: a Future. Called from one of them, ``map`` and ``call_many`` run in
        place.
        """
        return self._threads.submit(self._as_worker, work, *args)

    def _as_worker(self, work: Callable[..., T], *args: Any) -> T:
        self._in_thread.yes = True
        return work(*args)

    def map(self, work: Callable[[Item], T], items: Iterable[Item]) -> list[T]:
        """``work`` of every item, many at a time, in order; the first error is raised."""
        if getattr(self._in_thread, "yes", False):
            return [work(item) for item in items]
        futures = [self.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    # -- questions -----------------------------------------------------------------------------------------------------

    def call(self, method: str, params: Sequence[Any] = (), kind: Any = Any) -> Any:
        """The result of one request, decoded as ``kind``. FetchError if the node refuses."""
        return self._counted(self.witnesses.ask(Asked([(method, params)], literal=True), kind), kind)

    def call_many(self, calls: Sequence[tuple[str, Sequence[Any]]], kind: Any = Any) -> list[Any]:
        """The results of many requests in order, sent as JSON-RPC batches. A call that reverted gives None."""
        size = self._batch
        parts = [calls[start : start + size] for start in range(0, len(calls), size)]
        return [result for part in self.map(lambda some: self._batch_of(some, kind), parts) for result in part]

    def eth_calls(self, calls: Sequence[tuple[str, str, int]]) -> list[bytes | None]:
        """What contracts return: (address, call data as 0x hex, block) each; None where the call reverted, or the node
        answered null, as some do that have no state of the block.
        """
        results = self.call_many(
            [("eth_call", [{"to": to, "data": data}, hex(block)]) for to, data, block in calls], str | None
        )
        return [
            None if result is None else replies.hex_bytes(result, f"eth_call of {call[0]} at block {call[2]}")
            for call, result in zip(calls, results, strict=True)
        ]

    def storage(self, slots: Sequence[tuple[str, str, int]]) -> list[bytes]:
        """Storage words: (address, slot as 0x hex, block) each."""
        results = self.call_many(
            [("eth_getStorageAt", [address, slot, hex(block)]) for address, slot, block in slots], str
        )
        return [
            replies.hex_bytes(result, f"storage of {slot[0]} at block {slot[2]}").rjust(32, b"\0")
            for slot, result in zip(slots, results, strict=True)
        ]

    def has_code(self, addresses: Sequence[str]) -> list[bool]:
        """Whether there is a contract at each address now."""
        return [
            len(code) > 2
            for code in self.call_many([("eth_getCode", [address, "latest"]) for address in addresses], str)
        ]

    def chain_id(self) -> int:
        """eth_chainId. FetchError where two providers are on different chains."""
        if self.pool.several:
            found = self.witnesses.chain_ids()
            if len(set(found.values())) > 1:
                said = ", ".join(f"{name} is on chain {chain}" for name, chain in found.items())
                raise FetchError(said, "give --rpc providers of one chain")
            if found:
                return next(iter(found.values()))
        asked = Asked([("eth_chainId", ())], literal=True)
        return self._number(self.pool.ask(asked, str | int, tries=self._first_tries)[0], "eth_chainId")

    def block_number(self) -> int:
        """eth_blockNumber: the latest block, of several providers as far as they may be believed."""
        if self.pool.several:
            return self.witnesses.latest()
        return self._number(self.call("eth_blockNumber", (), str | int), "eth_blockNumber")

    def _number(self, value: str | int, what: str) -> int:
        try:
            return replies.quantity(value, replies.BLOCK_BITS)
        except foreign.Unreadable as error:
            raise FetchError(f"{self.name}: {what}: {error}", "use another node") from None

    def client_version(self) -> str:
        """web3_clientVersion, or "unknown" where providers hide it."""
        try:
            return foreign.shown(self.call("web3_clientVersion", (), str), 200)
        except FetchError:
            return "unknown"

    def header(self, block: int | str) -> Header | None:
        """The header of a block or tag; None if the node has none."""
        if self.pool.several and isinstance(block, str):
            return self.witnesses.tagged(block)
        found: Header | None = self.call(
            "eth_getBlockByNumber", [block if isinstance(block, str) else hex(block), False], Header | None
        )
        return found

    def headers(self, blocks: Sequence[int]) -> list[Header]:
        """Headers in the order asked; FetchError naming the first block that the node does not have."""
        if not blocks:
            return []
        calls = [(of.HEADER, [hex(block)]) for block in blocks]
        headers = []
        for block, found in zip(blocks, self.call_many(calls, Header | None), strict=True):
            header = found or self.header(block)  # asked once more: behind a load balancer some nodes lag
            if header is None:
                raise FetchError(
                    f"{self.name} has no block {block}",
                    "use a node with full history (not pruned), or fetch a later range",
                )
            number = int(header.number, 16)
            if number != block:
                raise FetchError(
                    f"{self.name} answered block {number} when asked for block {block}", "use another node"
                )
            headers.append(header)
        return headers

    def logs(self, question: dict[str, Any]) -> list[Log]:
        """eth_getLogs with this filter. ``Refused`` if the node wants a smaller question."""
        several = question.get("fromBlock") != question.get("toBlock")
        too_much = _TOO_MUCH | _TOO_SLOW if several else _TOO_MUCH
        asked = Asked([("eth_getLogs", [question])])
        found: list[Log] = self._counted(self.witnesses.ask(asked, list[Log], too_much), list[Log])
        return found

    def _batch_of(self, calls: Sequence[Call], kind: Any) -> list[Any]:
        asked = Asked(calls)
        if len(calls) == 1:
            return [self._counted(self.witnesses.ask(asked, kind), kind)]
        try:
            results = self.witnesses.ask(asked, kind, _TOO_MUCH | _TOO_SLOW)
        except Refused as refused:
            if refused.complaint.kind in _TOO_MUCH:
                self._batch = max(1, min(self._batch, len(calls) // 2))
            middle = len(calls) // 2
            return self._batch_of(calls[:middle], kind) + self._batch_of(calls[middle:], kind)
        return [self._counted(result, kind) for result in results]

    def _counted(self, result: Any, kind: Any) -> Any:
        """A result; null for logs, by which some clients say that there are none, and headers without a bloom are
        counted.
        """
        if kind == list[Log]:
            self.stats.nulls += result is None
            return result or []
        if isinstance(result, Header):
            self.stats.bloomless += not result.has_bloom
        return result
