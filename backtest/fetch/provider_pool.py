"""Providers that are asked in each other's place: one request goes to whoever answers it soonest, and to the next one
where that fails. One provider is the pool of one.

What can be waited out is tried again, what can be asked in smaller parts is raised as ``Refused`` to whoever cut the
parts, everything else is a ``FetchError``. A provider that is silent altogether is found dead within a second: while
requests wait for it without a sign, it is asked for its latest block, and where that has no answer either, what waits
for it is asked of others.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from backtest import foreign
from backtest.errors import FetchError
from backtest.fetch import asked as of
from backtest.fetch import replies
from backtest.fetch.asked import Asked
from backtest.fetch.dialects import Complaint, Kind, asked_of
from backtest.fetch.member import Elsewhere, Member
from backtest.fetch.provider import BrokenReply, Unanswered
from backtest.fetch.replies import Complained, Header

PATIENCE = 0.9
"""Seconds after which a request is asked of another provider, unless such requests usually take long at this one."""
CONNECTING = 0.8
SILENCE, SIGN = 0.4, 0.4
"""Seconds without a sign before a provider is asked for one, and those in which it must come."""
_USUAL = 4
"""How many times its usual time a request may take before it is asked of another provider."""
_GREETING = 2.0
_DENIED = 60.0
_NOTICED = 1.0
"""Seconds, of a pause or of a request without an answer."""

PASSING = frozenset(("rate", "limit", "timeout", "transient"))
_FIXES = {
    "archive": "use an archive node: prices and checks read the state of old blocks",
    "pruned": "use a node with full history, or fetch a later range",
    "missing": "use a node that is in sync and has full history",
    "denied": "check the key and the plan behind --rpc",
    "unsupported": "use another node",
    "range": "use a node with higher limits",
}


class Refused(Exception):
    """No node will answer this much at once; see ``Complaint.kind``."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.text)
        self.complaint = complaint


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request waits for a provider, and nobody else can be asked in its place."""

    name: str
    why: str
    until: float
    """When it is asked again, ``time.monotonic`` seconds."""
    tries: int
    attempts: int
    member: Member
    answers: int
    """Of the provider, until then."""

    @property
    def over(self) -> bool:
        """It has answered since, whatever it was asked."""
        return self.member.stats.answers > self.answers

    def __str__(self) -> str:
        left = math.ceil(self.until - time.monotonic())
        when = f"in {left} s" if left > 0 else "now"
        return f"waiting for {self.name}: {self.why}; asked again {when}, try {self.tries + 1} of {self.attempts}"


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
    compared: int = 0
    """Replies that were asked of two providers."""
    rechecked: int = 0
    """Replies asked again because their only witness was found lying."""


class ProviderPool:
    """Asks its members. Thread-safe.

    Args:
        attempts: tries of one request at one member before giving up.
        backoff: seconds before the first retry where nobody else can be asked; doubles up to ``max_backoff``.
    """

    def __init__(self, members: Sequence[Member], attempts: int, backoff: float, max_backoff: float) -> None:
        self.members = members
        self.stats = Stats()
        self.findings: list[str] = []
        """What a user should know of the providers, one line each, in order."""
        self.on_waiting: Callable[[Waiting], None] | None = None
        """Told, by any thread, of waits that a user would notice (``_NOTICED``)."""
        self._attempts, self._backoff, self._max_backoff = attempts, backoff, max_backoff
        self._choosing, self._greeting = threading.Lock(), threading.Lock()
        self._greeted = threading.Event()
        self._closed = threading.Event()

    @property
    def several(self) -> bool:
        return len(self.members) > 1

    @property
    def name(self) -> str:
        """Of the one provider, or of all that are asked."""
        left = [member.name for member in self.members if member.banned is None]
        return left[0] if len(left) == 1 else f"the providers ({', '.join(left or ['none is left'])})"

    def found(self, line: str) -> None:
        """Note something that a user should know, once."""
        with self._choosing:
            if line not in self.findings:
                self.findings.append(line)

    def close(self) -> None:
        self._closed.set()
        for member in self.members:
            member.close()

    # -- one request, until it is answered -----------------------------------------------------------------------------

    def ask(
        self,
        asked: Asked,
        kind: Any,
        refusals: frozenset[str] = frozenset(),
        without: Collection[Member] = (),
        only: Collection[Member] | None = None,
        tries: int | None = None,
    ) -> tuple[Any, Member]:
        """(the decoded result, or the list of them for a batch; who gave it). ``tries``: at one member, where an answer
        is not worth as much patience as usual.

        Raises:
            Refused: a complaint of the kinds in ``refusals`` from everyone who could be asked; a reply twice cut short
                counts as a timeout.
            FetchError: nobody answers.
        """
        if self.several:
            self.greet_all()
        members = [m for m in (self.members if only is None else only) if m not in without]
        request = _Request(asked, kind, refusals, members, self._backoff, tries)
        while True:
            member, others = self._choose(request)
            request.tries[member] += 1
            self.stats.requests += 1
            try:
                return self._send(member, request, others), member
            except Elsewhere:
                request.tries[member] -= 1
                continue
            except FetchError as error:  # something else than what was asked for
                if not self.several:
                    raise
                member.trouble()
                request.fail(member, error)
                failed = None
            except _Failed as error:
                failed = error
                self._judge(member, request, failed)
            finally:
                self._done(member)
            self._go_on(member, request, failed)

    def _choose(self, request: _Request) -> tuple[Member, bool]:
        """(who is asked next; whether somebody else could be as well). Trusted ones first, those in trouble last."""
        with self._choosing:
            able = [member for member in request.left if self._able(member, request.asked)]
            if not able:
                raise self._nobody(request)
            up = [member for member in able if member.up]
            fresh = [member for member in up if member is not request.last]
            pick = fresh or up or able
            pick = [member for member in pick if member.trusted] or pick
            kind = request.asked.kind
            member = min(pick, key=lambda m: m.cost(kind)) if len(pick) > 1 else pick[0]
            member.load += 1
            if member.load == 1:
                member.answered_at = max(member.answered_at, time.monotonic())
            return member, any(other is not member for other in up)

    def _able(self, member: Member, asked: Asked) -> bool:
        if not self.several:
            return True
        return member.lacks(asked) is None

    def _done(self, member: Member) -> None:
        with self._choosing:
            member.load -= 1

    def _send(self, member: Member, request: _Request, others: bool) -> Any:
        asked = request.asked
        named = asked.calls[0][0] == of.HEADER and not asked.literal
        headers = self._header_method(member, asked) if named else of.HEADER
        body = asked.body(headers)
        full = member.timeout
        seconds, connecting = full, full
        if self.several:  # alone or not: another one may be back before this one answers
            patience = max(PATIENCE, _USUAL * member.usual(asked.kind)) * 2**request.slow
            seconds, connecting = min(full, patience), CONNECTING
        index = 0
        retry_after = 0.0
        before = member.stats.bytes
        try:
            reply = member.send(body, member.reader(asked, request.kind, body), asked.kind, seconds, connecting, others)
            if self.several:
                self._plausible(asked, request.kind, reply)
            return reply
        except Unanswered as error:
            if error.kind == "timeout":
                member.timed(asked.kind, seconds)
            complaint = Complaint(error.kind, str(error))
            if error.kind == "timeout" and seconds < full:
                raise _Failed(complaint, body if isinstance(body, dict) else body[0], 0.0, slow=True) from None
        except BrokenReply as error:
            request.broken[member] += 1
            complaint = Complaint("timeout" if request.broken[member] > 1 else "transient", str(error))
        except Complained as error:
            complaint, index, retry_after = error.complaint, error.index, error.retry_after
        finally:
            self.stats.bytes += member.stats.bytes - before
        one = body if isinstance(body, dict) else body[index]
        complaint = replace(asked_of(complaint, one["method"]), text=member.provider.scrub(complaint.text))
        raise _Failed(complaint, one, retry_after)

    def _plausible(self, asked: Asked, kind: Any, reply: Any) -> None:
        """A header that a provider said to have and gives as null is missing: another one may have it."""
        if kind == Header | None and asked.fixed and (None in reply if isinstance(reply, list) else reply is None):
            raise Complained(Complaint("missing", "null"))

    def _judge(self, member: Member, request: _Request, failed: _Failed) -> None:
        """What a complaint means for this request at this member, and for its further ones."""
        complaint, kind = failed.complaint, failed.complaint.kind
        if failed.slow:
            request.slow += 1
            if request.most_tries is not None and request.tries[member] >= request.most_tries:
                request.fail(member, _error(member.name, failed.one, complaint, request.tries[member]))
            return
        if self.several:
            member.learn(request.asked, complaint)
            if kind in ("timeout", "transient"):
                member.trouble()
            elif kind == "denied":
                member.trouble()
                self._denied(member, complaint.text)
        tries = request.tries[member]
        attempts = self._attempts if request.most_tries is None else request.most_tries
        patience = attempts if kind in PASSING else min(4, attempts) if kind == "missing" else 1
        if kind in request.refusals:
            request.refused[member] = complaint
            request.left.remove(member)
        elif tries >= patience:
            request.fail(member, _error(member.name, failed.one, complaint, tries))

    def _denied(self, member: Member, text: str) -> None:
        """Its key or its plan is refused: for a while it is not asked, and the user is told."""
        member.denied_until = time.monotonic() + _DENIED
        self.found(f"{member.name} refuses: {text}")

    def _go_on(self, member: Member, request: _Request, failed: _Failed | None) -> None:
        """Wait, where nobody else can be asked at once; raise what must be raised."""
        request.last = member
        able = [other for other in request.left if self._able(other, request.asked)]
        others = any(other.up for other in able if other is not member)
        if not able or (request.refused and not any(other.up for other in able)):
            raise self._nobody(request)
        self.stats.retries += 1
        if failed is None:
            return
        if failed.slow:
            if not others:
                self._tell(member, request, failed, 0.0)
            return
        pause = max(min(failed.retry_after, 120.0), request.delay * random.uniform(0.5, 1.0))
        if not others:
            self._tell(member, request, failed, pause)
        if failed.complaint.kind == "rate":
            member.pace.limited(pause)
        elif not others:
            member.pace.sleep(pause)
        if not others:
            request.delay = min(request.delay * 2, self._max_backoff)

    def _tell(self, member: Member, request: _Request, failed: _Failed, pause: float) -> None:
        """A user who sees nothing happen learns whom it waits for, why, and how long."""
        if self.on_waiting is None or (pause < _NOTICED and failed.complaint.kind != "timeout"):
            return
        attempts = self._attempts if request.most_tries is None else request.most_tries
        why, until = failed.complaint.text or "an empty error", time.monotonic() + pause
        tries, answers = request.tries[member], member.stats.answers
        self.on_waiting(Waiting(member.name, why, until, tries, attempts, member, answers))

    def _refusal(self, request: _Request) -> Complaint:
        """The complaint of who would answer most. It is no firm limit while others may come back who have none."""
        half = request.asked.width // 2
        complaint = max(request.refused.values(), key=lambda c: half if c.width is None else c.width)
        return complaint if len(request.refused) == len(self.members) else replace(complaint, firm=False)

    # -- errors --------------------------------------------------------------------------------------------------------

    def _nobody(self, request: _Request) -> FetchError | Refused:
        """Why nobody answers this. What its refusals say counts first: less may be asked for."""
        if request.refused:
            self.stats.refused += 1
            return Refused(self._refusal(request))
        lacking = {m: why for m in request.left if m not in request.errors and (why := m.lacks(request.asked))}
        limited = [m for m, why in lacking.items() if why == "answers smaller questions only"]
        if limited and request.refusals:
            self.stats.refused += 1
            too_much: Kind = "batch" if len(request.asked.calls) > 1 else "range"
            return Refused(Complaint(too_much, f"{limited[0].name} answers smaller questions only"))
        errors = list(request.errors.values())
        if len(errors) == 1 and not lacking:
            return errors[0]
        said = [error.what for error in errors] + [f"{member.name} {why}" for member, why in lacking.items()]
        fix = errors[0].fix if errors else "use other providers, or run again later"
        return FetchError(f"no provider answers {request.asked}: {'; '.join(said) or 'none is left'}", fix)

    # -- headers, heads and health ---------------------------------------------------------------------------------

    def _header_method(self, member: Member, asked: Asked) -> str:
        """How it gives headers: headers alone where it offers them (Geth), else blocks with their transactions'
        hashes.
        """
        with member.learning:
            if member.header_method is None:
                try:
                    self.ask(Asked(asked.calls[:1], literal=True), Header | None, only=[member])
                    member.header_method = of.HEADER
                except (FetchError, Refused):
                    member.header_method = of.BLOCK
            return member.header_method

    def greet_all(self, again: bool = False) -> None:
        """Ask all at once which chain each is on and how far it has it; once, unless ``again``. Those that say nothing
        are down.
        """
        if self._greeted.is_set() and not again:
            return
        with self._greeting:
            if self._greeted.is_set() and not again:
                return
            with ThreadPoolExecutor(len(self.members), thread_name_prefix="greet") as threads:
                left = [member for member in self.members if member.banned is None]
                list(threads.map(lambda member: self.greet(member, min(member.timeout, _GREETING)), left))
            if not self._greeted.is_set():
                self._greeted.set()
                threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def greet(self, member: Member, seconds: float) -> bool:
        """Ask a member for its chain and its latest block; False where it does not say them."""
        try:
            member.chain_id = self._quantity(member, "eth_chainId", seconds)
            member.head = max(self._quantity(member, "eth_blockNumber", seconds), member.head or 0)
        except (Unanswered, BrokenReply, Complained, FetchError, foreign.Unreadable) as error:
            member.trouble()
            if isinstance(error, Complained) and error.complaint.kind == "denied":
                self._denied(member, member.provider.scrub(error.complaint.text))
            return False
        member.down_until = 0.0
        return True

    def _quantity(self, member: Member, method: str, seconds: float) -> int:
        """A number that it says at once, without waiting for a place among its requests."""
        asked = Asked([(method, ())])
        self.stats.requests += 1
        member.stats.requests += 1
        member.pace.spent()
        payload = msgspec.json.encode(asked.body())
        status, _, data = member.provider.post(payload, seconds, min(seconds, CONNECTING))
        return replies.quantity(member.reader(asked, str | int, None)(data, status), replies.BLOCK_BITS)

    def _watch(self) -> None:
        """Until the pool is closed: notice who is silent while requests wait for it, and who is back."""
        asking: dict[Member, threading.Thread] = {}
        while not self._closed.wait(0.05):
            now = time.monotonic()
            for member in self.members:
                if member.banned is not None or (member in asking and asking[member].is_alive()):
                    continue
                waits = member.load > 0 and now - member.answered_at > SILENCE
                back = now >= member.denied_until and (not member.up or member.chain_id is None)
                if (waits or back) and now - member.sought_at > SILENCE:
                    member.sought_at = now
                    asking[member] = threading.Thread(target=self._seek, args=(member,), daemon=True)
                    asking[member].start()

    def _seek(self, member: Member) -> None:
        """Ask for a sign of life; without one, requests that wait for this member are asked of others."""
        try:
            if member.chain_id is None:
                member.chain_id = self._quantity(member, "eth_chainId", SIGN)
            with suppress(Complained):  # a complaint is a sign as well
                member.head = max(self._quantity(member, "eth_blockNumber", SIGN), member.head or 0)
            member.answered_at = time.monotonic()
            member.down_until = 0.0
        except (Unanswered, BrokenReply, Complained, FetchError, foreign.Unreadable):
            others = any(other.up for other in self.members if other is not member)
            if member.load and others and not self._closed.is_set():
                member.trouble()
                member.provider.cut()


class _Failed(Exception):
    def __init__(self, complaint: Complaint, one: Any, retry_after: float, slow: bool = False) -> None:
        super().__init__(complaint.text)
        self.complaint, self.one, self.retry_after, self.slow = complaint, one, retry_after, slow


def _error(name: str, one: dict[str, Any], complaint: Complaint, tries: int) -> FetchError:
    what = of.in_words(one["method"], one["params"])
    said = complaint.text or "an empty error"
    if complaint.kind in PASSING:
        fix = "run again later, use fewer --workers, or another node"
        return FetchError(f"{name} did not answer {what} in {tries} attempts: {said}", fix)
    of_state = one["method"] in ("eth_call", "eth_getStorageAt") and complaint.kind == "pruned"
    fix = _FIXES.get("archive" if of_state else complaint.kind, "check the node, or use another one")
    return FetchError(f"{name} refused {what}: {said}", fix)


class _Request:
    """One request on its way: who may still be asked, and what came of those who were."""

    def __init__(
        self,
        asked: Asked,
        kind: Any,
        refusals: frozenset[str],
        members: Iterable[Member],
        delay: float,
        most_tries: int | None,
    ) -> None:
        self.asked, self.kind, self.refusals, self.delay, self.most_tries = asked, kind, refusals, delay, most_tries
        self.left = list(members)
        self.tries: Counter[Member] = Counter()
        self.broken: Counter[Member] = Counter()
        self.refused: dict[Member, Complaint] = {}
        self.errors: dict[Member, FetchError] = {}
        self.last: Member | None = None
        self.slow = 0

    def fail(self, member: Member, error: FetchError) -> None:
        """This member is not asked again."""
        self.errors[member] = error
        self.left.remove(member)
