"""JSON-RPC to an Ethereum node: web3.py's HTTP provider for the transport, many requests in flight, retries, plain
errors.

Whatever a node says goes through ``dialects``; what can be waited out is retried here, what can be asked in smaller
parts is raised as ``Refused`` to whoever cut the parts, everything else is a ``FetchError``. Provider URLs hold keys:
no message, log line or representation made here contains more of one than its scheme and host.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from backtest import foreign
from backtest.errors import FetchError, UserError
from backtest.fetch import replies
from backtest.fetch.dialects import STATE_METHODS, Complaint, asked_of
from backtest.fetch.pace import Pace
from backtest.fetch.provider import BrokenReply, Provider, Unanswered, redact
from backtest.fetch.replies import Complained, Header, Log, Topics

__all__ = ["Header", "Log", "Refused", "Rpc", "Stats", "Topics", "redact"]

T = TypeVar("T")
Item = TypeVar("Item")

TIMEOUTS = (0.1, 3_600.0)
MOST_WORKERS = 256


class Refused(Exception):
    """The node will not answer this much at once; see ``Complaint.kind``."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.text)
        self.complaint = complaint


@dataclass
class Stats:
    """What it took. Updated by many threads; figures for a summary, not for decisions."""

    requests: int = 0
    retries: int = 0
    refused: int = 0
    bytes: int = 0
    bloomless: int = 0
    """Headers without logsBloom: by these, no omitted log shows."""
    nulls: int = 0
    """Replies of null where a list of logs was asked for, taken for none."""


class Rpc:
    """A node. Thread-safe.

    Args:
        url: http(s) address, keys and all.
        timeout: seconds for one request, from connecting to the last byte, ``TIMEOUTS``.
        attempts: tries of one request before giving up.
        backoff: seconds before the first retry; doubles, with jitter, up to ``max_backoff``.
        workers: requests in flight, 1 to ``MOST_WORKERS``.
        batch: calls in one JSON-RPC batch; halved for good when the node refuses that many.

    Raises:
        UserError: the address is none, or ``timeout`` or ``workers`` is out of range.
    """

    def __init__(
        self,
        url: str,
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
        self.provider = Provider(url, timeout, workers)
        self.name = redact(url)
        self.workers = workers
        self.stats = Stats()
        self._attempts, self._backoff, self._max_backoff, self._batch = attempts, backoff, max_backoff, batch
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="rpc")
        self._in_pool = threading.local()
        self._pace = Pace(workers)
        self._header_method: str | None = None
        self.witness: tuple[str, str, int] | None = None
        """A call of ``eth_calls`` that gave a value, so that it must give one again (``adapters.answers``)."""

    def __repr__(self) -> str:
        return f"Rpc({self.name})"

    def close(self) -> None:
        """Let go of the threads; requests in flight are abandoned, and no further one is sent."""
        self._pace.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.provider.close()

    def __enter__(self) -> Rpc:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- work in parallel --------------------------------------------------------------------------------------------

    def submit(self, work: Callable[..., T], *args: Any) -> Any:
        """``work(*args)`` on one of the threads: a Future. Called from one of them, ``map`` and ``call_many`` run in
        place.
        """
        return self._pool.submit(self._as_worker, work, *args)

    def _as_worker(self, work: Callable[..., T], *args: Any) -> T:
        self._in_pool.yes = True
        return work(*args)

    def map(self, work: Callable[[Item], T], items: Iterable[Item]) -> list[T]:
        """``work`` of every item, many at a time, in order; the first error is raised."""
        if getattr(self._in_pool, "yes", False):
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
        reply = self._ask({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}, replies.result_of)
        return self._decode(reply, method, params, kind)

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
            None if result is None else _bytes(result, f"eth_call of {call[0]} at block {call[2]}")
            for call, result in zip(calls, results, strict=True)
        ]

    def storage(self, slots: Sequence[tuple[str, str, int]]) -> list[bytes]:
        """Storage words: (address, slot as 0x hex, block) each."""
        results = self.call_many(
            [("eth_getStorageAt", [address, slot, hex(block)]) for address, slot, block in slots], str
        )
        return [
            _bytes(result, f"storage of {slot[0]} at block {slot[2]}").rjust(32, b"\0")
            for slot, result in zip(slots, results, strict=True)
        ]

    def has_code(self, addresses: Sequence[str]) -> list[bool]:
        """Whether there is a contract at each address now."""
        return [
            len(code) > 2
            for code in self.call_many([("eth_getCode", [address, "latest"]) for address in addresses], str)
        ]

    def chain_id(self) -> int:
        """eth_chainId."""
        return self._number(self.call("eth_chainId", (), str | int), "eth_chainId")

    def block_number(self) -> int:
        """eth_blockNumber: the latest block."""
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
        found: Header | None = self.call(
            "eth_getBlockByNumber", [block if isinstance(block, str) else hex(block), False], Header | None
        )
        return found

    def headers(self, blocks: Sequence[int]) -> list[Header]:
        """Headers in the order asked; FetchError naming the first block that the node does not have."""
        if not blocks:
            return []
        method = self._header_method or self._find_header_method(blocks[0])
        calls = [
            (method, [hex(block), False] if method == "eth_getBlockByNumber" else [hex(block)]) for block in blocks
        ]
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

    def _find_header_method(self, block: int) -> str:
        """Headers alone where the node offers them (Geth), else blocks with their list of transaction hashes."""
        try:
            self.call("eth_getHeaderByNumber", [hex(block)], Header | None)
            self._header_method = "eth_getHeaderByNumber"
        except (FetchError, Refused):
            self._header_method = "eth_getBlockByNumber"
        return self._header_method

    def logs(self, question: dict[str, Any]) -> list[Log]:
        """eth_getLogs with this filter. ``Refused`` if the node wants a smaller question."""
        several = question.get("fromBlock") != question.get("toBlock")
        too_much = _TOO_MUCH | _TOO_SLOW if several else _TOO_MUCH
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [question]}
        return self._counted(self._ask(body, replies.all_logs_of, too_much))

    # -- one request, until it is answered -----------------------------------------------------------------------------

    def _batch_of(self, calls: Sequence[tuple[str, Sequence[Any]]], kind: Any) -> list[Any]:
        if len(calls) == 1:
            return [self.call(calls[0][0], calls[0][1], kind)]
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(calls)
        ]
        try:
            results = self._ask(body, replies.batch_of(len(calls)), _TOO_MUCH | _TOO_SLOW)
        except Refused as refused:
            if refused.complaint.kind in _TOO_MUCH:
                self._batch = max(1, min(self._batch, len(calls) // 2))
            middle = len(calls) // 2
            return self._batch_of(calls[:middle], kind) + self._batch_of(calls[middle:], kind)
        return [
            self._decode(result, method, params, kind) for result, (method, params) in zip(results, calls, strict=True)
        ]

    def _decode(self, result: msgspec.Raw | None, method: str, params: Sequence[Any], kind: Any) -> Any:
        if result is None:
            return None
        try:
            found = _READERS[kind](result) if kind in _READERS else foreign.json_value(result, kind)
        except foreign.Unreadable as error:
            shown = ", ".join(str(p) for p in params)[:200]
            raise FetchError(
                f"{self.name} answered {method}({shown}) with something else: {error}", "use another node"
            ) from None
        if method in STATE_METHODS and isinstance(found, str):
            _bytes(found, _question({"method": method, "params": params}))
        if kind == list[Log]:
            return self._counted(found)
        if isinstance(found, Header):
            self.stats.bloomless += not found.has_bloom
        return found

    def _counted(self, logs: list[Log] | None) -> list[Log]:
        """The logs; null, by which some clients say that there are none, is counted."""
        self.stats.nulls += logs is None
        return logs or []

    def _ask(self, body: Any, read: Callable[[bytes, int], T], refusals: frozenset[str] = frozenset()) -> T:
        """Send ``body`` until ``read`` accepts the reply. Complaints of the kinds in ``refusals`` are ``Refused`` at
        once, for the caller to ask for less; a reply twice cut short counts as a timeout.
        """
        payload = msgspec.json.encode(body)
        delay = self._backoff
        broken = index = 0
        for attempt in range(1, self._attempts + 1):
            self._pace.enter()
            self.stats.requests += 1
            retry_after = 0.0
            answered = False
            try:
                status, retry_after, data = self.provider.post(payload)
                self.stats.bytes += len(data)
                reply = read(data, status)
                answered = True
                return reply
            except Unanswered as error:
                complaint = Complaint(error.kind, str(error))
            except BrokenReply as error:
                broken += 1
                complaint = Complaint("timeout" if broken > 1 else "transient", str(error))
            except Complained as error:
                complaint, index = error.complaint, error.index
            finally:
                self._pace.leave(answered)
            one = body if isinstance(body, dict) else body[index]
            complaint = replace(asked_of(complaint, one["method"]), text=self.provider.scrub(complaint.text))
            kind = complaint.kind
            if kind in refusals:
                self.stats.refused += 1
                raise Refused(complaint)
            patience = self._attempts if kind in _PASSING else min(4, self._attempts) if kind == "missing" else 1
            if attempt >= patience:
                raise self._error(one, complaint, attempt)
            self.stats.retries += 1
            pause = max(min(retry_after, 120.0), delay * random.uniform(0.5, 1.0))
            if kind == "rate":
                self._pace.limited(pause)
            else:
                self._pace.sleep(pause)
            delay = min(delay * 2, self._max_backoff)
        raise AssertionError("unreachable")

    def _error(self, body: dict[str, Any], complaint: Complaint, attempts: int) -> FetchError:
        what = _question(body)
        said = complaint.text or "an empty error"
        if complaint.kind in _PASSING:
            fix = "run again later (what is stored stays), use fewer --workers, or another node"
            return FetchError(f"{self.name} did not answer {what} in {attempts} attempts: {said}", fix)
        of_state = body["method"] in ("eth_call", "eth_getStorageAt") and complaint.kind == "pruned"
        fix = _FIXES.get("archive" if of_state else complaint.kind, "check the node, or use another one")
        return FetchError(f"{self.name} refused {what}: {said}", fix)


_READERS: Mapping[Any, Callable[[msgspec.Raw], Any]] = {
    list[Log]: replies.logs_of,
    Header | None: replies.header_of,
}
_PASSING = frozenset(("rate", "limit", "timeout", "transient"))
_TOO_MUCH = frozenset(("range", "addresses", "batch"))
_TOO_SLOW = frozenset(("limit", "timeout"))
_FIXES = {
    "archive": "use an archive node: prices and checks read the state of old blocks",
    "pruned": "use a node with full history, or fetch a later range",
    "missing": "use a node that is in sync and has full history",
    "denied": "check the key and the plan behind --rpc",
    "unsupported": "use another node",
    "range": "use a node with higher limits",
}


def _question(body: dict[str, Any]) -> str:
    """A request in words, with its block numbers readable."""
    params = body["params"]
    if body["method"] == "eth_getLogs":
        filter_ = params[0]
        where = (
            f"block {filter_['blockHash']}"
            if "blockHash" in filter_
            else f"blocks {int(filter_['fromBlock'], 16)} to {int(filter_['toBlock'], 16)}"
        )
        addresses = filter_["address"]
        return f"eth_getLogs of {where}, {addresses[0]}" + (
            f" and {len(addresses) - 1} other addresses" if len(addresses) > 1 else ""
        )
    shown = [
        p["to"] if isinstance(p, dict) and "to" in p else f"block {int(p, 16)}" if _is_block(p) else str(p)
        for p in params
        if not isinstance(p, bool)
    ]
    return f"{body['method']}({', '.join(shown)[:200]})"


def _is_block(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("0x") and len(value) <= 18


def _bytes(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x").removeprefix("0X"))
    except ValueError:
        shown = foreign.shown(text, 80)
        raise FetchError(f"{what} gave '{shown}', which is not hex", "use another node") from None
