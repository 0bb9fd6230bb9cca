"""JSON-RPC to an Ethereum node: web3.py's HTTP provider for the transport, many requests in flight, retries, plain
errors.

Whatever a node says goes through ``dialects``; what can be waited out is retried here, what can be asked in smaller
parts is raised as ``Refused`` to whoever cut the parts, everything else is a ``FetchError``. Provider URLs hold keys:
no message, log line or representation made here contains more of one than its scheme and host.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from backtest.errors import FetchError
from backtest.fetch.dialects import Complaint, classify
from backtest.fetch.pace import Pace
from backtest.fetch.provider import BrokenReply, Provider, Unanswered, redact

__all__ = ["Header", "Log", "Refused", "Rpc", "Stats", "Topics", "redact"]

T = TypeVar("T")
Item = TypeVar("Item")


class Topics(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    """One to four topics. Not a list: 100,000 lists would keep the garbage collector busy, and that is half the time of
    parsing.
    """

    first: str
    second: str | None = None
    third: str | None = None
    fourth: str | None = None


class Log(msgspec.Struct, rename="camel", gc=False):
    """One log as eth_getLogs gives it: 0x-prefixed hex."""

    address: str
    topics: Topics
    data: str
    block_number: str
    block_hash: str
    transaction_hash: str
    transaction_index: str
    log_index: str
    removed: bool = False


class Header(msgspec.Struct, rename="camel", gc=False):
    """The parts of a block's header that are used: 0x-prefixed hex."""

    number: str
    hash: str
    parent_hash: str
    timestamp: str
    logs_bloom: str
    base_fee_per_gas: str | None = None


class _Error(msgspec.Struct):
    code: int | None = None
    message: str = ""
    data: Any = None


_NOTHING = msgspec.Raw(b"")  # the field was absent; a JSON null is Raw(b"null")


class _Reply(msgspec.Struct):
    id: int | str | None = None
    result: msgspec.Raw = _NOTHING
    error: _Error | str | None = None


class _LogsReply(msgspec.Struct):
    result: list[Log] | None = None
    error: _Error | str | None = None


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


class Rpc:
    """A node. Thread-safe.

    Args:
        url: http(s) address, keys and all.
        timeout: seconds for one request, from sending to the last byte.
        attempts: tries of one request before giving up.
        backoff: seconds before the first retry; doubles, with jitter, up to ``max_backoff``.
        workers: requests in flight.
        batch: calls in one JSON-RPC batch; halved for good when the node refuses that many.
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
        self.provider = Provider(url, timeout, workers)
        self.name = redact(url)
        self.workers = workers
        self.stats = Stats()
        self._attempts, self._backoff, self._max_backoff, self._batch = attempts, backoff, max_backoff, batch
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="rpc")
        self._in_pool = threading.local()
        self._pace = Pace(workers)
        self._header_method: str | None = None

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
        reply = self._ask({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}, _reply_of(method))
        return self._decode(reply, method, params, kind)

    def call_many(self, calls: Sequence[tuple[str, Sequence[Any]]], kind: Any = Any) -> list[Any]:
        """The results of many requests in order, sent as JSON-RPC batches. A call that reverted gives None."""
        size = self._batch
        parts = [calls[start : start + size] for start in range(0, len(calls), size)]
        return [result for part in self.map(lambda some: self._batch_of(some, kind), parts) for result in part]

    def eth_calls(self, calls: Sequence[tuple[str, str, int]]) -> list[bytes | None]:
        """What contracts return: (address, call data as 0x hex, block) each; None where the call reverted."""
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
        return self._number(self.call("eth_chainId", (), str), "eth_chainId")

    def block_number(self) -> int:
        """eth_blockNumber: the latest block."""
        return self._number(self.call("eth_blockNumber", (), str), "eth_blockNumber")

    def _number(self, text: str, what: str) -> int:
        try:
            return int(text, 16)
        except ValueError:
            raise FetchError(f"{self.name}: {what} is '{text[:40]}', not a hex number", "use another node") from None

    def client_version(self) -> str:
        """web3_clientVersion, or "unknown" where providers hide it."""
        try:
            return str(self.call("web3_clientVersion"))
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
            number = self._number(header.number, f"the number of block {block}")
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
        return self._ask({"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [question]}, _logs_of, too_much)

    # -- one request, until it is answered -----------------------------------------------------------------------------

    def _batch_of(self, calls: Sequence[tuple[str, Sequence[Any]]], kind: Any) -> list[Any]:
        if len(calls) == 1:
            return [self.call(calls[0][0], calls[0][1], kind)]
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(calls)
        ]
        try:
            replies = self._ask(body, _batch_reader(len(calls)), _TOO_MUCH | _TOO_SLOW)
        except Refused as refused:
            if refused.complaint.kind in _TOO_MUCH:
                self._batch = max(1, min(self._batch, len(calls) // 2))
            middle = len(calls) // 2
            return self._batch_of(calls[:middle], kind) + self._batch_of(calls[middle:], kind)
        return [
            self._decode(reply, method, params, kind) for reply, (method, params) in zip(replies, calls, strict=True)
        ]

    def _decode(self, reply: msgspec.Raw | None, method: str, params: Sequence[Any], kind: Any) -> Any:
        if reply is None:
            return None
        try:
            return msgspec.json.decode(reply, type=kind)
        except msgspec.DecodeError as error:
            shown = ", ".join(str(p) for p in params)[:200]
            raise FetchError(
                f"{self.name} answered {method}({shown}) with something else: {error}", "use another node"
            ) from None

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
                complaint = Complaint("timeout" if error.timed_out else "transient", self.provider.scrub(str(error)))
            except BrokenReply as error:
                broken += 1
                complaint = Complaint("timeout" if broken > 1 else "transient", self.provider.scrub(str(error)))
            except _Complained as error:
                complaint, index = error.complaint, error.index
            finally:
                self._pace.leave(answered)
            kind = complaint.kind
            if kind in refusals:
                self.stats.refused += 1
                raise Refused(complaint)
            patience = self._attempts if kind in _PASSING else min(4, self._attempts) if kind == "missing" else 1
            if attempt >= patience:
                raise self._error(body if isinstance(body, dict) else body[index], complaint, attempt)
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
        said = self.provider.scrub(complaint.text) or "an empty error"
        if complaint.kind in _PASSING:
            fix = "run again later (what is stored stays), use fewer --workers, or another node"
            return FetchError(f"{self.name} did not answer {what} in {attempts} attempts: {said}", fix)
        of_state = body["method"] in ("eth_call", "eth_getStorageAt") and complaint.kind == "pruned"
        fix = _FIXES.get("archive" if of_state else complaint.kind, "check the node, or use another one")
        return FetchError(f"{self.name} refused {what}: {said}", fix)


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


class _Complained(Exception):
    """The node answered with an error; ``index`` is that of the call in its batch."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.text)
        self.complaint = complaint
        self.index = 0


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


def _complain(error: _Error | str | None, status: int) -> None:
    if error is None and status < 400:
        return
    if isinstance(error, str):
        error = _Error(message=error)
    details = f" {error.data}" if error is not None and error.data is not None else ""
    raise _Complained(classify((error.message if error else "") + details, error.code if error else None, status))


def _parse(data: bytes, status: int, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        if 300 <= status < 400:
            raise _Complained(
                Complaint("denied", f"HTTP {status}, a redirection: give the address that it leads to")
            ) from None
        if status >= 400:
            raise _Complained(classify(data[:300].decode(errors="replace"), None, status)) from None
        raise BrokenReply(
            f"a reply of {len(data)} bytes that is cut short or not what was asked for ({error})"
        ) from None


def _reply_of(method: str) -> Callable[[bytes, int], msgspec.Raw | None]:
    def read(data: bytes, status: int) -> msgspec.Raw | None:
        return _result(_parse(data, status, _Reply), status)

    return read


def _result(reply: _Reply, status: int = 200) -> msgspec.Raw | None:
    try:
        _complain(reply.error, status)
    except _Complained as error:
        if error.complaint.kind == "revert":
            return None
        raise
    if reply.result == _NOTHING:
        raise BrokenReply("a reply with neither result nor error")
    return reply.result


def _logs_of(data: bytes, status: int) -> list[Log]:
    reply = _parse(data, status, _LogsReply)
    _complain(reply.error, status)
    if reply.result is None:
        raise BrokenReply("a reply to eth_getLogs without a list of logs")
    return reply.result


def _batch_reader(size: int) -> Callable[[bytes, int], list[msgspec.Raw | None]]:
    def read(data: bytes, status: int) -> list[msgspec.Raw | None]:
        found = _parse(data, status, list[_Reply] | _Reply)  # type: ignore[arg-type]
        if isinstance(found, _Reply):  # the node refuses the batch as a whole
            _complain(found.error, status)
            raise BrokenReply("one reply to a batch of calls")
        by_id = {reply.id: reply for reply in found}
        if any(number not in by_id for number in range(size)):
            raise BrokenReply(f"{len(by_id)} replies to a batch of {size} calls")
        results = []
        for number in range(size):
            try:
                results.append(_result(by_id[number]))
            except _Complained as error:
                error.index = number
                raise
        return results

    return read


def _bytes(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise FetchError(f"{what} gave '{text[:80]}', which is not hex", "use another node") from None
