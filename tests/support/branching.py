"""A node that shows the blocks of a played market one after another, on branches: what a follower sees at the head.

Behind a branch's root comes a block without logs, and then the node's blocks again, one later and with hashes of the
branch's own: the same things happen on every branch, at other heights.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any

from eth_utils.crypto import keccak

from tests.chain.node import Node
from tests.support.synthetic import RpcServer

ERROR = -32000


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
        self.chain = [Shown(number, header, logs) for number, (header, logs) in enumerate(self._real)]
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str, int], Any] = {}
        super().__init__()

    # -- branches -------------------------------------------------------------------------------------------------

    def branch(self, root: int, salt: str) -> None:
        """Behind block ``root`` of the branch that is shown, another one; the node shows it from now on."""
        chain = self.chain[: root + 1]
        behind, parent, time = chain[-1].behind, chain[-1].header["hash"], int(chain[-1].header["timestamp"], 16)
        for number in range(root + 1, root + 1 + self.last - behind):
            empty = number == root + 1
            behind += not empty
            header, logs = self._real[behind]
            time = time + 1 if empty else max(time + 1, int(header["timestamp"], 16))
            digest = "0x" + keccak(text=f"{salt} {parent} {number}").hex()
            own = [] if empty else [{**log, "blockNumber": hex(number), "blockHash": digest} for log in logs]
            changed = {"number": hex(number), "hash": digest, "parentHash": parent, "timestamp": hex(time)}
            bloom = {"logsBloom": "0x" + "00" * 256} if empty else {}
            chain.append(Shown(behind, {**header, **changed, **bloom}, own))
            parent = digest
        self.show(chain)

    def show(self, chain: list[Shown]) -> None:
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

    def _reply(self, request: dict[str, Any], chain: list[Shown], height: int) -> dict[str, Any]:
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request.get("id")}
        try:
            reply["result"] = self._result(request["method"], request.get("params", []), chain, height)
        except LookupError as error:
            reply["error"] = {"code": ERROR, "message": str(error)}
        return reply

    def _result(self, method: str, params: list[Any], chain: list[Shown], height: int) -> Any:
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

    def _logs(self, question: dict[str, Any], chain: list[Shown], height: int) -> list[Any]:
        if "blockHash" in question:
            blocks = [block for block in chain[: height + 1] if block.header["hash"] == question["blockHash"]]
            if not blocks:
                raise LookupError("unknown block")
        else:
            first, last = (int(question[name], 16) for name in ("fromBlock", "toBlock"))
            self.last_asked = max(self.last_asked, last)
            blocks = chain[first : min(last, height) + 1]
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
