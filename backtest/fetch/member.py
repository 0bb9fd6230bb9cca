"""One provider of a pool: what it is asked and how it takes it, how fast and how healthy it is, what it cannot do."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from backtest.errors import UserError
from backtest.fetch import asked as of
from backtest.fetch import replies
from backtest.fetch.asked import Asked
from backtest.fetch.dialects import Complaint
from backtest.fetch.pace import Pace
from backtest.fetch.provider import Provider, redact
from backtest.fetch.providers import ProviderSettings

MOST_WORKERS = 256
_KEPT = 0.75
"""Of the usual time, how much stays when another request has been timed."""
_FORGOTTEN_AFTER = 10.0
"""Seconds in which a time that was measured counts half: a provider that was slow is asked again some time."""
_DOWN = (0.5, 30.0)
"""Seconds for which others are preferred after a failure: the first time, and at most."""


class Elsewhere(Exception):
    """This request is better asked of another provider."""


@dataclass
class MemberStats:
    """What one provider did. Updated by many threads; figures for a summary, not for decisions."""

    requests: int = 0
    answers: int = 0
    failures: int = 0
    seconds: float = 0.0
    bytes: int = 0
    confirmed: int = 0
    """Its replies that a second provider was asked for, and gave alike."""


class Member:
    """A provider with its own pace, rate limit and record. Thread-safe enough: counts may miss one."""

    def __init__(self, settings: ProviderSettings, name: str, timeout: float, workers: int) -> None:
        if settings.workers is not None and not 1 <= settings.workers <= MOST_WORKERS:
            raise UserError(f"{name}: {settings.workers} requests in flight", f"choose 1 to {MOST_WORKERS} workers")
        self.name, self.trusted, self.timeout = name, settings.trusted, timeout
        self.workers = settings.workers or workers
        self.provider = Provider(settings.url, timeout, self.workers)
        self.pace = Pace(self.workers, settings.rate)
        self.stats = MemberStats()
        self.head: int | None = None
        self.chain_id: int | None = None
        self.banned: str | None = None
        """Why it is not asked again in this run."""
        self.load = 0
        self.answered_at = time.monotonic()
        self.down_until = self.denied_until = self.sought_at = 0.0
        """Until when others are preferred, or its refusal of a key counts; when it was last asked for a sign."""
        self._down: float | None = None
        self._usual: dict[str, tuple[float, float]] = {}
        self._unsupported: set[str] = set()
        self._from: dict[bool, int] = {True: 0, False: 0}
        self._most_calls = self._most_blocks = math.inf
        self._answers_since_refusal = 0
        self.header_method: str | None = None
        self.learning = threading.Lock()
        """Held while it is found out whether it has headers alone."""

    def __repr__(self) -> str:
        return f"Member({self.name})"

    # -- whether and how to ask it -----------------------------------------------------------------------------------

    def lacks(self, asked: Asked, size: bool = True) -> str | None:
        """Why this must be asked of another one, as far as its earlier replies tell; None if it may be asked. Not
        ``size``: however much it asks for at once.
        """
        if self.banned is not None:
            return self.banned
        if unsupported := asked.methods & self._unsupported:
            return f"has no {min(unsupported)}"
        if asked.blocks is not None:
            low, high = asked.blocks
            if self.head is not None and high > self.head:
                return f"is at block {self.head}"
            if low < self._from[asked.of_state]:
                return f"has no {'state' if asked.of_state else 'history'} of block {low}"
        if size and (len(asked.calls) > self._most_calls or asked.width > self._most_blocks):
            return "answers smaller questions only"
        return None

    @property
    def up(self) -> bool:
        return self.banned is None and time.monotonic() >= max(self.down_until, self.denied_until)

    def usual(self, kind: str) -> float:
        """Seconds that such a request takes here; 0 as long as nobody knows."""
        seconds, at = self._usual.get(kind, (0.0, 0.0))
        return seconds * math.pow(0.5, (time.monotonic() - at) / _FORGOTTEN_AFTER)

    def cost(self, kind: str) -> tuple[float, float]:
        """Seconds until one more request would be answered here, about; and how full it is."""
        full = (self.load + 1) / self.pace.allowed
        return self.pace.pause + self.usual(kind) * full, full

    # -- one request ---------------------------------------------------------------------------------------------------

    def send(self, body: Any, read: Any, kind: str, seconds: float, connecting: float, others: bool) -> Any:
        """What ``read`` makes of the reply. The provider's, ``replies``' and the pace's errors pass through.
        ``Elsewhere`` where it went down while this waited for its turn, and there are ``others``.
        """
        answered = False
        payload = msgspec.json.encode(body)
        self.pace.enter()
        try:
            if others and not self.up:
                raise Elsewhere
            started = time.monotonic()
            self.stats.requests += 1
            status, retry_after, data = self.provider.post(payload, seconds, connecting)
            took = time.monotonic() - started
            self.answered_at = started + took
            self.stats.bytes += len(data)
            try:
                reply = read(data, status)
            except replies.Complained as error:
                error.retry_after = retry_after
                raise
            answered = True
            self.stats.answers += 1
            self.stats.seconds += took
            self.timed(kind, took)
            self._down = None
            return reply
        finally:
            self.pace.leave(answered)

    def timed(self, kind: str, seconds: float) -> None:
        """Such a request took, or took more than, this long."""
        known = self._usual.get(kind)
        usual = seconds if known is None else _KEPT * known[0] + (1 - _KEPT) * seconds
        self._usual[kind] = usual, time.monotonic()

    def reader(self, asked: Asked, kind: Any, body: Any) -> Any:
        """From the reply's bytes and HTTP status to decoded results: a list of them for a batch."""
        if len(asked.calls) == 1:
            if kind == list[replies.Log]:
                return replies.all_logs_of
            call = asked.calls[0]
            return lambda data, status: self._decoded(replies.result_of(data, status), call, kind)
        batch = replies.batch_of(len(asked.calls))
        return lambda data, status: [
            self._decoded(result, call, kind) for result, call in zip(batch(data, status), asked.calls, strict=True)
        ]

    def _decoded(self, result: msgspec.Raw | None, call: of.Call, kind: Any) -> Any:
        if result is None:
            return None
        method, params = call
        return replies.decoded(self.name, result, method, params, kind)

    # -- what became of it -----------------------------------------------------------------------------------------

    def learn(self, asked: Asked, complaint: Complaint) -> None:
        """Remember what a complaint says about further requests."""
        kind, blocks = complaint.kind, asked.blocks
        if kind == "unsupported":
            self._unsupported |= asked.methods - {of.HEADER} if len(asked.methods) == 1 else set()
        elif kind in ("archive", "pruned") and blocks is not None:
            self._from[asked.of_state] = max(self._from[asked.of_state], blocks[0] + 1)
        elif kind == "batch" and len(asked.calls) > 1:
            self._most_calls = len(asked.calls) // 2
        elif kind == "range" and asked.width > 1:
            fits = complaint.width if complaint.width is not None and complaint.width < asked.width else None
            self._most_blocks = fits or asked.width // 2
            self._answers_since_refusal = -1_000_000 if complaint.firm else 0

    def widen(self) -> None:
        """It answered logs: how many come from a range changes along a chain, so a limit is tried again some time."""
        self._answers_since_refusal += 1
        if self._answers_since_refusal >= 64:
            self._answers_since_refusal = 0
            self._most_blocks *= 2

    def trouble(self) -> None:
        """It gave no answer: others are preferred for a while, longer each time."""
        self.stats.failures += 1
        last = self._down  # another thread may set it back meanwhile
        self._down = now = _DOWN[0] if last is None else min(_DOWN[1], 2 * last)
        self.down_until = time.monotonic() + now

    def said(self, best: int) -> str:
        """What it did and how it is, in a line; ``best``: the highest block that any provider has."""
        stats = self.stats
        each = f"{1_000 * stats.seconds / stats.answers:,.0f} ms each" if stats.answers else "no answer"
        behind = "" if self.head is None or self.head >= best else f", {best - self.head:,} blocks behind"
        state = self.banned or ("" if self.up else "does not answer now")
        return (
            f"{self.name}{'' if self.trusted else ' (not trusted)'}: {stats.requests:,} requests, {each},"
            f" {stats.bytes / 1e6:,.1f} MB, {stats.failures:,} failures, {stats.confirmed:,} replies confirmed{behind}"
            f"{f'; {state}' if state else ''}"
        )

    def close(self) -> None:
        self.pace.stop()
        self.provider.close()


def _redacted(url: str) -> str:
    try:
        return redact(url)
    except ValueError:  # no address; ``Provider`` says so
        return "***"


def members_of(settings: Sequence[ProviderSettings], timeout: float, workers: int) -> list[Member]:
    """A member each, with names that tell them apart. UserError for a wrong address, or the same one twice."""
    members: list[Member] = []
    urls: set[str] = set()
    for each in settings:
        name = shown = each.name or _redacted(each.url)
        number = 2
        while any(member.name == name for member in members):
            name, number = f"{shown} ({number})", number + 1
        if each.url in urls:
            raise UserError(f"the provider {shown} is given twice", "give each once: a provider cannot confirm itself")
        urls.add(each.url)
        members.append(Member(each, name, timeout, workers))
    return members
