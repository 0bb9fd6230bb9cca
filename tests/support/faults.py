"""A proxy in front of a node that misbehaves as real providers do. Each fault is a function of one request; a plan
deals them out.

    with FaultProxy(node.url, Plan(seed=1, faults=[too_many_requests, truncated], chance=0.3)) as proxy: ...

Faults see whole HTTP requests (``raw``) or single JSON-RPC answers (``logs``); requests with ids are forwarded
unchanged.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.support.synthetic import RpcServer

Response = tuple[int, Mapping[str, str], bytes]
Forward = Callable[[bytes], Response]
Fault = Callable[[bytes, Forward, random.Random], Response | None]
"""Gets the request and a way to the node; None where it does not apply."""


def error_reply(body: bytes, code: int, message: str, status: int = 200) -> Response:
    """The error of one request, or the same for every request of a batch."""
    request = json.loads(body)
    error = {"code": code, "message": message}
    many = isinstance(request, list)
    replies = [{"jsonrpc": "2.0", "id": one["id"], "error": error} for one in (request if many else [request])]
    return status, {}, json.dumps(replies if many else replies[0]).encode()


def too_many_requests(body: bytes, forward: Forward, draw: random.Random) -> Response:
    """HTTP 429, sometimes with Retry-After."""
    status, _, data = error_reply(body, -32005, "project ID request rate exceeded", 429)
    return status, {"Retry-After": "0.01"} if draw.random() < 0.5 else {}, data


def rate_in_body(body: bytes, forward: Forward, draw: random.Random) -> Response:
    """A rate limit that hides behind status 200."""
    return error_reply(body, -32029, "Too Many Requests, Please apply an OnFinality API key or contact us")


def server_error(body: bytes, forward: Forward, draw: random.Random) -> Response:
    """A gateway's HTML page."""
    return draw.choice([500, 502, 503]), {}, b"<html><h1>Bad Gateway</h1></html>"


def truncated(body: bytes, forward: Forward, draw: random.Random) -> Response:
    """JSON that ends in the middle; its length is declared as what is sent."""
    status, headers, data = forward(body)
    return status, headers, data[: draw.randrange(len(data))]


def cut_off(body: bytes, forward: Forward, draw: random.Random) -> Response:
    """The connection is dropped in the middle of a declared length."""
    status, _, data = forward(body)
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    return 0, {}, head + data[: draw.randrange(len(data))]


def dropped(body: bytes, forward: Forward, draw: random.Random) -> Response:
    """The connection is closed without a byte."""
    return 0, {}, b""


def stalled(seconds: float) -> Fault:
    """No answer within the client's patience."""

    def fault(body: bytes, forward: Forward, draw: random.Random) -> Response:
        time.sleep(seconds)
        return 0, {}, b""

    return fault


def changed_results(body: bytes, forward: Forward, change: Callable[[Any], Any]) -> Response:
    """The node's answer with other results."""
    status, headers, data = forward(body)
    replies = json.loads(data)
    for reply in replies if isinstance(replies, list) else [replies]:
        if "result" in reply:
            reply["result"] = change(reply["result"])
    return status, headers, json.dumps(replies).encode()


def logs_fault(change: Callable[[list[dict[str, Any]], random.Random], list[dict[str, Any]]]) -> Fault:
    """A fault in the logs of range requests; requests by block hash go to the node unharmed."""

    def fault(body: bytes, forward: Forward, draw: random.Random) -> Response | None:
        request = json.loads(body)
        if not isinstance(request, dict) or request["method"] != "eth_getLogs" or "blockHash" in request["params"][0]:
            return None
        status, _, data = forward(body)
        reply = json.loads(data)
        if not reply.get("result"):
            return None
        reply["result"] = change(reply["result"], draw)
        return status, {}, json.dumps(reply).encode()

    return fault


omitted = logs_fault(lambda logs, draw: [log for log in logs if draw.random() < 0.8])
omitted_ends = logs_fault(
    lambda logs, draw: (
        logs[: draw.randrange(len(logs))] if draw.random() < 0.5 else logs[draw.randrange(len(logs)) + 1 :]
    )
)
doubled = logs_fault(lambda logs, draw: [log for log in logs for _ in range(1 + (draw.random() < 0.3))])
shuffled = logs_fault(lambda logs, draw: draw.sample(logs, len(logs)))


def range_limit(most: int, code: int, message: str, status: int = 200) -> Fault:
    """Ranges over ``most`` blocks are refused; ``message`` may use {first}, {fits} (hex) and {most}."""

    def fault(body: bytes, forward: Forward, draw: random.Random) -> Response | None:
        request = json.loads(body)
        if not isinstance(request, dict) or request["method"] != "eth_getLogs" or "blockHash" in request["params"][0]:
            return None
        first, last = (int(request["params"][0][end], 16) for end in ("fromBlock", "toBlock"))
        if last - first + 1 <= most:
            return None
        text = message.format(
            first=hex(first), fits=hex(first + most - 1), first10=first, fits10=first + most - 1, most=most
        )
        return error_reply(body, code, text, status)

    return fault


def result_limit(most: int, code: int, message: str) -> Fault:
    """Replies of more than ``most`` logs are refused, unless they are of one block."""

    def fault(body: bytes, forward: Forward, draw: random.Random) -> Response | None:
        request = json.loads(body)
        if not isinstance(request, dict) or request["method"] != "eth_getLogs" or "blockHash" in request["params"][0]:
            return None
        question = request["params"][0]
        status, headers, data = forward(body)
        if len(json.loads(data)["result"]) <= most or question["fromBlock"] == question["toBlock"]:
            return status, headers, data
        return error_reply(body, code, message.format(most=most))

    return fault


def address_limit(most: int) -> Fault:
    """Filters of more than ``most`` addresses are refused, as some nodes do."""

    def fault(body: bytes, forward: Forward, draw: random.Random) -> Response | None:
        request = json.loads(body)
        if (
            not isinstance(request, dict)
            or request["method"] != "eth_getLogs"
            or len(request["params"][0]["address"]) <= most
        ):
            return None
        return error_reply(body, -32000, "exceed max addresses")

    return fault


class InFlight:
    """A provider's plan: ``most`` requests at once, each taking a while; any further one gets 429."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._flying = 0
        self._lock = threading.Lock()
        self.refused = 0
        self.__qualname__ = "in_flight"

    def __call__(self, body: bytes, forward: Forward, draw: random.Random) -> Response:
        with self._lock:
            full = self._flying >= self._most
            self.refused += full
            self._flying += not full
        if full:
            return too_many_requests(body, forward, draw)
        try:
            time.sleep(self._seconds)
            return forward(body)
        finally:
            with self._lock:
                self._flying -= 1


def once(fault: Fault) -> Fault:
    """The fault for each different request the first time only."""
    seen: set[bytes] = set()

    def again(body: bytes, forward: Forward, draw: random.Random) -> Response | None:
        if body in seen:
            return None
        seen.add(body)
        return fault(body, forward, draw)

    return again


def batch_limit(most: int) -> Fault:
    """Batches of more than ``most`` calls are refused with one error object."""

    def fault(body: bytes, forward: Forward, draw: random.Random) -> Response | None:
        request = json.loads(body)
        if not isinstance(request, list) or len(request) <= most:
            return None
        return (
            200,
            {},
            json.dumps(
                {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "batch too large"}}
            ).encode(),
        )

    return fault


@dataclass
class Plan:
    """``always`` are tried on every request in order; otherwise, with ``chance``, one of ``sometimes``. Reproducible
    for one client thread; with several the order of requests varies, which is what a test of faults wants. At most
    ``most`` random faults are dealt.
    """

    always: Sequence[Fault] = ()
    sometimes: Sequence[Fault] = ()
    chance: float = 0.3
    seed: int = 0
    most: int = 1_000_000
    dealt: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._lock = threading.Lock()

    def apply(self, body: bytes, forward: Forward) -> Response:
        with self._lock:
            draw = random.Random(self._draw.random())
        for fault in self.always:
            if (response := fault(body, forward, draw)) is not None:
                return self._count(fault, response)
        if self.sometimes and self.dealt["sometimes"] < self.most and draw.random() < self.chance:
            fault = draw.choice(list(self.sometimes))
            if (response := fault(body, forward, draw)) is not None:
                self.dealt["sometimes"] += 1
                return self._count(fault, response)
        return forward(body)

    def _count(self, fault: Fault, response: Response) -> Response:
        self.dealt[fault.__qualname__.partition(".")[0]] += 1
        return response


class FaultProxy(RpcServer):
    """Forwards to ``target`` through a plan of faults. ``plan`` may be replaced while it runs."""

    def __init__(self, target: str, plan: Plan) -> None:
        self.target = target
        self.plan = plan
        self.requests = 0
        self.methods: set[str] = set()
        super().__init__()

    def handle(self, body: bytes) -> Response:
        self.requests += 1
        request = json.loads(body)
        self.methods |= {one["method"] for one in (request if isinstance(request, list) else [request])}
        return self.plan.apply(body, self.forward)

    def forward(self, body: bytes) -> Response:
        """The node's own answer."""
        parts = urlsplit(self.target)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, {}, response.read()
        finally:
            connection.close()
