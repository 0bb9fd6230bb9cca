"""A node that shows the blocks of a played market one after another, on branches: what a follower sees at the head.

Behind a branch's root comes a block without logs, and then the node's blocks again, one later and with hashes of the
branch's own: the same things happen on every branch, at other heights.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from eth_utils.crypto import keccak
from typing_extensions import override

from tests.chain.node import Node
from tests.support.synthetic import RpcServer

ERROR = -32000
_NO_LOGS = "0x" + "00" * 256


@dataclass(frozen=True)
class Shown:
    """A block of a branch: the node's block behind it (whose state it has), its header, and its logs."""

    behind: int
    header: dict[str, Any]
    logs: list[dict[str, Any]]


class BranchingNode(RpcServer):
    """``height`` is the newest block shown; ``finality`` blocks below it count as final. ``stalls``: requests are not
    answered for as long as it is set.
    """

    def __init__(self, node: Node, last: int, *, finality: int = 64) -> None:
        self.node, self.last, self.finality = node, last, finality
        self.height = last
        self.stalls = threading.Event()
        self.last_asked = 0
        """The newest block whose logs were asked for."""
        self._real = _blocks(node, last)
        self.chain: Sequence[Shown] = [Shown(number, header, logs) for number, (header, logs) in enumerate(self._real)]
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str, int], Any] = {}
        super().__init__()

    # -- branches -------------------------------------------------------------------------------------------------

    def branch(self, root: int, salt: str) -> None:
        """Behind block ``root`` of the branch that is shown, another one; the node shows it from now on."""
        chain = list(self.chain[: root + 1])
        behind, parent, time = chain[-1].behind, chain[-1].header["hash"], int(chain[-1].header["timestamp"], 16)
        for number in range(root + 1, root + 1 + self.last - behind):
            empty = number == root + 1
            behind += not empty
            header, logs = self._real[behind]
            time = time + 1 if empty else max(time + 1, int(header["timestamp"], 16))
            digest = "0x" + keccak(text=f"{salt} {parent} {number}").hex()
            own = [] if empty else [{**log, "blockNumber": hex(number), "blockHash": digest} for log in logs]
            changed = {"number": hex(number), "hash": digest, "parentHash": parent, "timestamp": hex(time)}
            bloom = {"logsBloom": _NO_LOGS} if empty else {}
            chain.append(Shown(behind, {**header, **changed, **bloom}, own))
            parent = digest
        self.show(chain)

    def show(self, chain: Sequence[Shown]) -> None:
        """A branch that was shown before."""
        with self._lock:
            self.chain = chain

    # -- answers --------------------------------------------------------------------------------------------------

    def handle(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.stalls.is_set():
            return 0, {}, b""
        request = json.loads(body)
        several = isinstance(request, list)
        with self._lock:
            chain, height = self.chain, self.height
        replies = [self._reply(one, chain, height) for one in (request if several else [request])]
        return 200, {}, json.dumps(replies if several else replies[0]).encode()

    def _reply(self, request: dict[str, Any], chain: Sequence[Shown], height: int) -> dict[str, Any]:
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request.get("id")}
        try:
            reply["result"] = self._result(request["method"], request.get("params", []), chain, height)
        except LookupError as error:
            reply["error"] = {"code": ERROR, "message": str(error)}
        return reply

    def _result(self, method: str, params: list[Any], chain: Sequence[Shown], height: int) -> Any:
        if method == "eth_blockNumber":
            return hex(height)
        if method == "eth_getBlockByNumber":
            number = self._number(params[0], height)
            return chain[number].header if 0 <= number <= height else None
        if method == "eth_getHeaderByNumber":
            raise LookupError("the method eth_getHeaderByNumber does not exist/is not available")
        if method == "eth_getLogs":
            return self._logs(params[0], chain, height)
        if method in ("eth_call", "eth_getStorageAt", "eth_getCode"):
            number = self._number(params[-1], height)
            if number > height:
                raise LookupError("header not found")
            return self.state(method, params[:-1], chain[number].behind)
        return self.node_result(method, params)

    def _number(self, block: str, height: int) -> int:
        if block in ("latest", "pending"):
            return height
        return max(height - self.finality, 0) if block == "finalized" else int(block, 16)

    def _logs(self, question: dict[str, Any], chain: Sequence[Shown], height: int) -> list[Any]:
        if "blockHash" in question:
            blocks = [block for block in self._named(question["blockHash"], chain) if _height(block) <= height]
            if not blocks:
                raise LookupError("unknown block")
        else:
            first, last = (int(question[name], 16) for name in ("fromBlock", "toBlock"))
            self.last_asked = max(self.last_asked, last)
            blocks = list(chain[first : min(last, height) + 1])
        addresses = question.get("address")
        wanted = {address.lower() for address in ([addresses] if isinstance(addresses, str) else addresses or [])}
        topics = question.get("topics") or []
        return [
            log
            for block in blocks
            for log in block.logs
            if (not wanted or log["address"].lower() in wanted)
            and all(
                not asked or (len(log["topics"]) > place and log["topics"][place] in asked)
                for place, asked in enumerate(topics)
            )
        ]

    def _named(self, digest: str, chain: Sequence[Shown]) -> Sequence[Shown]:
        return [block for block in chain if block.header["hash"] == digest]

    def state(self, method: str, params: list[Any], behind: int) -> Any:
        """An answer from the state at the end of one of the node's blocks."""
        key = method, json.dumps(params, sort_keys=True), behind
        if key not in self._calls:
            self._calls[key] = self.node_result(method, [*params, hex(behind)])
        return self._calls[key]

    def node_result(self, method: str, params: list[Any]) -> Any:
        """The node's own answer."""
        with self._lock:
            (reply,) = self.node._post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        if "error" in reply:
            raise LookupError(reply["error"].get("message", ""))
        return reply["result"]


class SecondsNode(BranchingNode):
    """A node that has a block each second from block ``begin`` on: between the node's blocks, whose times may lie hours
    apart, come blocks without logs. What a branch holds is made when somebody looks.
    """

    def __init__(self, node: Node, last: int, begin: int, *, finality: int = 64) -> None:
        super().__init__(node, last, finality=finality)
        first = list(self.chain[: begin + 1])
        self.named = {shown.header["hash"]: shown for shown in first}
        self.times = [int(header["timestamp"], 16) for header, _ in self._real]
        self.chain = _Seconds(self, first, "seconds", again=False)

    @override
    def branch(self, root: int, salt: str) -> None:
        self.show(_Seconds(self, list(self.chain[: root + 1]), salt, again=True))

    @override
    def _named(self, digest: str, chain: Sequence[Shown]) -> Sequence[Shown]:
        found = self.named.get(digest)
        return [found] if found is not None and chain[_height(found)] is found else []

    def busy(self, before: int, after: int) -> bool:
        """Whether a block of the node's own is shown between so many blocks below the height and so many above."""
        first, last = max(self.height - before, 0), min(self.height + after, len(self.chain) - 1)
        return self.chain[first].behind != self.chain[last].behind


class _Seconds(Sequence[Shown]):
    """A branch of a ``SecondsNode``: ``known`` blocks and what follows; ``again``: first a block without logs."""

    def __init__(self, owner: SecondsNode, known: list[Shown], salt: str, *, again: bool) -> None:
        self._owner, self._known, self._salt = owner, known, salt
        self._root = len(known) if again else -1
        self._growing = threading.Lock()
        time, later = int(known[-1].header["timestamp"], 16), owner.times[known[-1].behind + 1 :]
        end = time + again
        for at in later:
            end = max(end + 1, at)
        self._length = len(known) + end - time

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> Shown: ...
    @overload
    def __getitem__(self, at: slice) -> list[Shown]: ...
    def __getitem__(self, at: int | slice) -> Shown | list[Shown]:
        if isinstance(at, slice):
            self._grow(at.indices(self._length)[1] - 1)
            return self._known[at]
        self._grow(at if at >= 0 else self._length + at)
        return self._known[at]

    def __iter__(self) -> Iterator[Shown]:
        self._grow(self._length - 1)
        return iter(self._known)

    def _grow(self, last: int) -> None:
        if last < len(self._known):
            return
        with self._growing:
            while len(self._known) <= last:
                self._known.append(self._next())

    def _next(self) -> Shown:
        owner, tip, number = self._owner, self._known[-1], len(self._known)
        if number >= self._length:
            raise IndexError(number)
        time = int(tip.header["timestamp"], 16) + 1
        empty = number == self._root or owner.times[tip.behind + 1] > time
        behind = tip.behind + (not empty)
        header, logs = owner._real[behind]
        parent = tip.header["hash"]
        digest = "0x" + keccak(text=f"{self._salt} {parent} {number}").hex()
        own = [] if empty else [{**log, "blockNumber": hex(number), "blockHash": digest} for log in logs]
        changed = {"number": hex(number), "hash": digest, "parentHash": parent, "timestamp": hex(time)}
        kept = {"logsBloom": _NO_LOGS if empty else header["logsBloom"], "baseFeePerGas": header["baseFeePerGas"]}
        found = Shown(behind, {**kept, **changed, "transactions": []}, own)
        owner.named[digest] = found
        return found


def _height(block: Shown) -> int:
    return int(block.header["number"], 16)


def _blocks(node: Node, last: int) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Header and logs of every block up to one."""
    found: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for start in range(0, last + 1, 500):
        numbers = range(start, min(start + 500, last + 1))
        headers = node.batch([("eth_getBlockByNumber", [hex(number), False]) for number in numbers])
        logs: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
        for log in node.get_logs(from_block=numbers[0], to_block=numbers[-1]):
            logs[int(log["blockNumber"], 16)].append(log)
        for number, header in zip(numbers, headers, strict=True):
            found.append(({**header, "transactions": []}, logs[number]))
    return found
