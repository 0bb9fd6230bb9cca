"""Replies that are asked of two providers, and what follows where these say different things.

Of what a trusted provider replies about blocks that are final, a share is asked of a second one; whatever another
provider replies counts only once a second one has said the same. Where two differ, the block's header settles it if
it can: its fields must have its hash, and receipts that give its ``receiptsRoot`` hold exactly the block's logs; its
bloom rules logs out. Otherwise further providers are asked, and the majority counts. Who was wrong is named and asked
no more.

Every reply that was passed on is remembered with those who vouched for it, as a digest. When all of them are found to
be liars, it is asked again of others, and where it was false the fetch is told (``Misled``), which takes those blocks
anew.
"""

from __future__ import annotations

import hashlib
import random
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec

from backtest.errors import FetchError
from backtest.fetch import asked as of
from backtest.fetch import bloom
from backtest.fetch.asked import Asked, Call
from backtest.fetch.member import Member
from backtest.fetch.provider_pool import ProviderPool, Refused
from backtest.fetch.receipts import header_holds, receipts_hold
from backtest.fetch.replies import Header, Log, header_of

LAGGING = 32
"""Blocks that a provider may be behind before it is named."""
UNSETTLED = 64
"""Blocks below the latest one that providers need not agree on, where nobody says which are final."""
_AT_ONCE = 8
_REFUSALS = frozenset(("range", "addresses", "batch", "limit"))
_TRIES = 3
"""At each provider, of what is asked to find out who is right."""
_TOO_MANY = "give --rpc a third provider, or leave out the one that you trust less"


class Misled(FetchError):
    """What was passed on turned out to be false; ``blocks``: where, as far as the questions name blocks."""

    def __init__(self, what: str, blocks: tuple[int, int] | None) -> None:
        fix = "run the same command again: what is stored of these blocks is to be taken anew (fetch --again)"
        super().__init__(what, fix)
        self.blocks = blocks


class _Entry:
    """A reply that was passed on, in short."""

    __slots__ = ("digest", "kind", "owed", "question", "vouchers")

    def __init__(self, question: bytes, kind: Any, digest: bytes, vouchers: frozenset[Member], owed: bool) -> None:
        self.question, self.kind, self.digest, self.vouchers = question, kind, digest, vouchers
        self.owed = owed
        """Whether it is still to be compared: nobody else could be asked when it came."""

    def asked(self) -> Asked:
        """The question once more."""
        calls: list[tuple[str, list[Any]]] = msgspec.json.decode(zlib.decompress(self.question))
        return Asked([(method, params) for method, params in calls])


class Witnesses:
    """Asks a pool, and holds its members against each other. Thread-safe.

    ``compare``: the share of trusted replies that is asked of two. ``final``: the last block of which all providers
    must say the same; None as long as nobody said (``UNSETTLED``).
    """

    def __init__(self, pool: ProviderPool, compare: float) -> None:
        self.pool, self.compare = pool, compare
        self.final: int | None = None
        self._draw = random.Random(0)
        self._entries: list[_Entry] = []
        self._lock, self._settling = threading.Lock(), threading.Lock()
        self._false: list[str] = []
        self._blocks: list[tuple[int, int]] = []

    # -- asking --------------------------------------------------------------------------------------------------------

    def ask(self, asked: Asked, kind: Any, refusals: frozenset[str] = frozenset()) -> Any:
        """As ``ProviderPool.ask``, its result alone, believed as the module says."""
        if not self.pool.several:
            return self.pool.ask(asked, kind, refusals)[0]
        while True:
            if not self._comparable(asked):
                trusted = [member for member in self.pool.members if member.trusted]
                return self.pool.ask(asked, kind, refusals, only=trusted or None)[0]
            value, member = self.pool.ask(asked, kind, refusals)
            if member.trusted and self._draw.random() >= self.compare:
                if self._noted(asked, kind, value, [member]):
                    return value
                continue
            second = self._second(asked, kind, member)
            if second is None:
                if self._noted(asked, kind, value, [member], owed=True):
                    return value
                continue
            said = {member: value, second[1]: second[0]}
            if same(value, second[0]):
                for each in said:
                    each.stats.confirmed += 1
                if self._noted(asked, kind, value, said):
                    return value
                continue
            self._settle(asked, kind, said)
            honest = [each for each in said if each.banned is None]
            if honest and self._noted(asked, kind, said[honest[0]], honest):
                return said[honest[0]]

    def _comparable(self, asked: Asked) -> bool:
        """Whether all providers must say the same to this."""
        if not asked.fixed:
            return False
        if asked.blocks is None:
            return True
        heads = [member.head for member in self.pool.members if member.head is not None and member.banned is None]
        final = max(heads, default=0) - UNSETTLED if self.final is None else self.final
        return asked.blocks[1] <= final

    def _second(self, asked: Asked, kind: Any, first: Member) -> tuple[Any, Member] | None:
        """What another one says, and who; None where nobody else can say and the first one is trusted. Beside one that
        is not trusted, a trusted one is asked if there is any.

        Raises:
            FetchError: the first one is not trusted, and nobody else answers.
        """
        others = [m for m in self.pool.members if m is not first and m.banned is None]
        ready = [m for m in others if m.up and m.lacks(asked, size=False) is None]
        trusted = [m for m in ready if m.trusted]
        failed: FetchError | Refused | None = None
        for group in [ready] if first.trusted else [trusted, others]:
            if not group:
                continue
            try:
                second = self._of(asked, kind, group, 1 if first.trusted else None)
            except (FetchError, Refused) as error:
                failed = error
            else:
                self.pool.stats.compared += 1
                return second
        if first.trusted:
            return None
        if isinstance(failed, Refused):
            raise failed
        why = "there is none" if failed is None else str(failed)
        raise FetchError(
            f"{first.name} is not trusted, and no other provider confirms what it says of {asked}: {why}",
            "give --rpc another provider, or trust this one in the file of providers",
        )

    def _of(
        self, asked: Asked, kind: Any, members: Collection[Member], tries: int | None = None, depth: int = 6
    ) -> tuple[Any, Member]:
        """As ``ProviderPool.ask`` of one of these members, who is asked in parts for what is too much at once."""
        try:
            return self.pool.ask(asked, kind, _REFUSALS, only=members, tries=tries)
        except Refused:
            halves = asked.halves()
            if halves is None or not depth:
                raise
        value, member = self._of(halves[0], kind, members, tries, depth - 1)
        other, _ = self._of(halves[1], kind, [member], tries, depth - 1)
        return joined(asked, halves, value, other), member

    # -- heads ---------------------------------------------------------------------------------------------------------

    def chain_ids(self) -> Mapping[str, int]:
        """Name of each provider that answers, and the chain that it is on."""
        self.pool.greet_all()
        return {m.name: m.chain_id for m in self.pool.members if m.chain_id is not None and m.banned is None}

    def latest(self) -> int:
        """The latest block, as far as providers may be believed (``_head``)."""
        self.pool.greet_all(again=True)
        heads = {m: m.head for m in self.pool.members if m.head is not None and m.banned is None and m.up}
        if not heads:
            raise FetchError(f"{self.pool.name} do not say their latest block", "check them, or use others")
        return heads[self._head(heads)]

    def tagged(self, tag: str) -> Header | None:
        """The header of a tag such as "finalized", of the provider whose block may be believed (``_head``)."""
        found: dict[Member, Header] = {}
        failed: FetchError | None = None
        for member in [m for m in self.pool.members if m.banned is None]:
            try:
                header = self.pool.ask(
                    Asked([(of.BLOCK, [tag, False])], literal=True), Header | None, only=[member], tries=_TRIES
                )[0]
            except FetchError as error:
                failed = error
            else:
                if header is not None:
                    found[member] = header
                    member.head = max(int(header.number, 16), member.head or 0)
        if not found and failed is not None:
            raise failed
        return found[self._head({m: int(h.number, 16) for m, h in found.items()})] if found else None

    def _head(self, heads: Mapping[Member, int]) -> Member:
        """Whose word on how far the chain is may be believed: the highest trusted one; of three or more the second
        highest, so that none alone can pretend to be ahead. Those far behind are named.
        """
        voices = [member for member in heads if member.trusted] or list(heads)
        voices.sort(key=lambda member: heads[member], reverse=True)
        chosen = voices[1] if len(voices) > 2 or (len(voices) > 1 and not voices[0].trusted) else voices[0]
        for member, head in heads.items():
            if head < heads[chosen] - LAGGING:
                self.pool.found(f"{member.name} is {heads[chosen] - head:,} blocks behind the others")
        return chosen

    # -- who is right --------------------------------------------------------------------------------------------------

    def _liars(self, asked: Asked, kind: Any, said: Mapping[Member, Any]) -> Collection[Member]:
        """Whoever of those asked is wrong about the first call of which they say different things.

        Raises:
            FetchError: nothing settles it.
        """
        single = len(asked.calls) == 1
        at = 0
        if not single:
            first, *others = said.values()
            at = next(n for n in range(len(asked.calls)) if any(not same(first[n], other[n]) for other in others))
        call = asked.calls[at]
        voices = {member: value if single else value[at] for member, value in said.items()}
        wrong = self._by_header(call, voices)
        if wrong:
            return wrong
        return self._by_vote(Asked([call], asked.literal), kind, voices)

    def _by_vote(self, asked: Asked, kind: Any, voices: dict[Member, Any]) -> Collection[Member]:
        """Those outvoted, once everybody has been asked. A majority needs more voices than any other view, and a
        trusted one among them if a trusted one has spoken; a trusted voice alone outweighs one that is not.
        """
        for member in self.pool.members:
            if member not in voices and member.banned is None:
                with suppress(FetchError, Refused):
                    voices[member] = self._of(asked, kind, [member], _TRIES)[0]
        wrong = self._by_header(asked.calls[0], voices)
        if wrong:
            return wrong
        views: list[list[Member]] = []
        for member, value in voices.items():
            view = next((view for view in views if same(voices[view[0]], value)), None)
            if view is None:
                views.append([member])
            else:
                view.append(member)
        views.sort(key=len, reverse=True)
        best = views[0]
        trusted = [member for member in voices if member.trusted]
        if len(voices) == 2 and len(trusted) == 1:
            best = next(view for view in views if trusted[0] in view)
        elif len(views) > 1 and (len(best) == len(views[1]) or (trusted and not any(m.trusted for m in best))):
            sides = " against ".join(" and ".join(sorted(member.name for member in view)) for view in views)
            raise FetchError(
                f"the providers contradict each other about {asked}, and nothing settles it: {sides}", _TOO_MANY
            )
        return [member for member in voices if member not in best]

    def _by_header(self, call: Call, voices: Mapping[Member, Any]) -> Collection[Member]:
        """Those whom the block's header proves wrong; nobody where it proves nothing."""
        method, params = call
        if method in (of.HEADER, of.BLOCK):
            return self._wrong_headers(params[0], voices)
        if method == "eth_getLogs":
            return self._wrong_logs(call, voices)
        return []

    def _wrong_headers(self, block: str, voices: Mapping[Member, Header | None]) -> Collection[Member]:
        """Whoever's header is not the one that has its hash, and who names a hash that no header of its has, once
        another one's header has the hash that it names.
        """
        whole = self._whole_headers(block, voices)
        proven = [header for header in whole.values() if header is not None]
        if not proven:
            return []
        wrong = []
        for member, said in voices.items():
            same_hash = [true for true in proven if said is not None and true["hash"].lower() == said.hash]
            if said is not None and (whole[member] is None if not same_hash else not _is(said, same_hash[0])):
                wrong.append(member)
        return wrong

    def _whole_headers(self, block: str, members: Iterable[Member]) -> dict[Member, dict[str, Any] | None]:
        """The header of a block with all fields, as each gives it, if it has its hash; nothing if not all answer."""
        found: dict[Member, dict[str, Any] | None] = {}
        for member in members:
            try:
                asked = Asked([(of.BLOCK, [block, False])], literal=True)
                header = self.pool.ask(asked, dict[str, Any] | None, only=[member], tries=_TRIES)[0]
            except (FetchError, Refused):
                return {}
            found[member] = header if header is not None and header_holds(header) else None
        return found

    def _wrong_logs(self, call: Call, voices: Mapping[Member, list[Log] | None]) -> Collection[Member]:
        """Who says wrong logs of the first block of which they say different ones, by its receipts or its bloom."""
        said = {member: {_place(log) for log in value or []} for member, value in voices.items()}
        first, *others = said.values()
        odd = {key[0] for other in others for key in first ^ other if isinstance(key[0], int)}
        if not odd:
            return []
        number = min(odd)
        headers = [header for header in self._whole_headers(hex(number), voices).values() if header is not None]
        if not headers or len({header["hash"] for header in headers}) > 1:
            return []
        true = self._receipts_logs(number, headers[0], call, voices)
        if true is not None:
            return [m for m, keys in said.items() if {key for key in keys if key[0] == number} != true]
        return [m for m, keys in said.items() if any(key[0] == number and _ruled_out(headers[0], key) for key in keys)]

    def _receipts_logs(
        self, number: int, header: Mapping[str, Any], call: Call, voices: Iterable[Member]
    ) -> set[tuple[Any, ...]] | None:
        """The block's logs that the question means, from receipts that have the header's root; None where nobody has
        those.
        """
        others = [m for m in self.pool.members if m not in voices and m.banned is None]
        for member in (*voices, *others):
            receipts = self._receipts(member, number, header)
            if receipts is not None and receipts_hold(receipts, header["receiptsRoot"]):
                logs = [(at, log) for at, receipt in enumerate(receipts) for log in receipt["logs"]]
                return {
                    (number, index, at, log["address"].lower(), _lower(log["topics"]), log["data"].lower())
                    for index, (at, log) in enumerate(logs)
                    if _meant(log, call[1][0])
                }
        return None

    def _receipts(self, member: Member, number: int, header: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """A block's receipts: all at once, or one by one where a provider has no such method."""
        kind = list[dict[str, Any]] | None
        with suppress(FetchError, Refused):
            found: list[dict[str, Any]] | None
            found = self.pool.ask(Asked([("eth_getBlockReceipts", [hex(number)])]), kind, only=[member], tries=_TRIES)[
                0
            ]
            return found
        calls = [("eth_getTransactionReceipt", [hash_]) for hash_ in header.get("transactions", ())]
        with suppress(FetchError, Refused):
            each = dict[str, Any] | None
            one_by_one = [self.pool.ask(Asked([call]), each, only=[member], tries=_TRIES)[0] for call in calls]
            return None if None in one_by_one else one_by_one
        return None

    # -- who lied, and what it had said --------------------------------------------------------------------------------

    def _settle(self, asked: Asked, kind: Any, said: Mapping[Member, Any]) -> None:
        """Find out who is wrong of those who said different things, and condemn them. One such quarrel at a time: the
        next one may be over by then. FetchError where nothing settles it.
        """
        with self._settling:
            if all(member.banned is None for member in said):
                for liar in self._liars(asked, kind, said):
                    self._ban(liar, asked)
        self._ask_again()

    def _ban(self, liar: Member, asked: Asked) -> None:
        """Ask it no more, and name it."""
        if liar.banned is None:
            liar.banned = f"was found lying about {asked}"
            self.pool.found(f"{liar.name} lied about {asked}: it is not asked again in this run")
        if all(member.banned for member in self.pool.members):
            raise FetchError("every provider was found lying", "give --rpc other providers")

    def _ask_again(self) -> None:
        """Replies whose vouchers were all found lying, asked of the others."""
        with self._lock:
            doubtful, self._entries = _split(self._entries, lambda entry: all(m.banned for m in entry.vouchers))
        if doubtful:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="again") as threads:
                list(threads.map(self._hold_against_others, doubtful))

    def _hold_against_others(self, entry: _Entry) -> None:
        asked = entry.asked()
        self.pool.stats.rechecked += 1
        if digest(self._in_parts(asked, entry.kind)) != entry.digest:
            names = ", ".join(sorted(member.name for member in entry.vouchers))
            with self._lock:
                self._false.append(f"{names} had said something false of {asked}, which was believed")
                if asked.blocks is not None:
                    self._blocks.append(asked.blocks)

    def _in_parts(self, asked: Asked, kind: Any) -> Any:
        """As ``ask``, in parts where nobody left answers as much at once as who is banned did."""
        try:
            return self.ask(asked, kind, _REFUSALS)
        except Refused as refused:
            halves = asked.halves()
            if halves is None:
                raise FetchError(f"nobody is left who answers {asked}: {refused}", _TOO_MANY) from None
        return joined(asked, halves, self._in_parts(halves[0], kind), self._in_parts(halves[1], kind))

    def pay(self) -> None:
        """Compare what should have been when nobody else could be asked. What still cannot be is named."""
        if not any(entry.owed for entry in self._entries):
            return
        self.pool.greet_all(again=True)
        self._confirm_all(lambda entry: entry.owed)
        left = [entry for entry in self._entries if entry.owed and len(entry.vouchers) == 1]
        if left:
            names = ", ".join(sorted({member.name for entry in left for member in entry.vouchers}))
            self.pool.found(f"{len(left):,} replies rest on {names} alone: nobody else could be asked to compare")

    def doubt(self) -> None:
        """Something is wrong with what was said: ask again all that one provider alone vouched for."""
        self._confirm_all(lambda entry: len(entry.vouchers) == 1)

    def _confirm_all(self, chosen: Callable[[_Entry], bool]) -> None:
        with self._lock:
            entries = [entry for entry in self._entries if chosen(entry)]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="confirm") as threads:
            list(threads.map(self._confirm, entries))

    def _confirm(self, entry: _Entry) -> None:
        """Hold a reply against another provider's, if one can be asked. FetchError where nothing settles a quarrel."""
        asked, kind = entry.asked(), entry.kind
        (voucher,) = entry.vouchers
        others = [m for m in self.pool.members if m is not voucher and m.up]
        if voucher.banned is not None or not others:
            return
        try:
            value, second = self._of(asked, kind, others, _TRIES)
            before = value if digest(value) == entry.digest else self._of(asked, kind, [voucher], _TRIES)[0]
        except (FetchError, Refused):
            return
        self.pool.stats.compared += 1
        entry.owed = False
        if digest(value) == entry.digest:
            entry.vouchers |= {second}
        elif digest(before) != entry.digest:  # it says something else now
            with self._settling:
                self._ban(voucher, asked)
            self._ask_again()
        elif not same(before, value):
            self._settle(asked, kind, {voucher: before, second: value})

    def misled(self) -> Misled | None:
        """What was passed on and is false, if anything is; after this it is forgotten."""
        with self._lock:
            if not self._false:
                return None
            first, count = self._false[0], len(self._false)
            ends = [*zip(*self._blocks, strict=True)]
            blocks = (min(ends[0]), max(ends[1])) if ends else None
            self._false, self._blocks = [], []
        return Misled(first + (f", and {count - 1} more" if count > 1 else ""), blocks)

    def _noted(self, asked: Asked, kind: Any, value: Any, vouchers: Iterable[Member], owed: bool = False) -> bool:
        """Remember who vouched; False where all of them were found lying meanwhile."""
        question = zlib.compress(msgspec.json.encode(asked.calls), 1)
        entry = _Entry(question, kind, digest(value), frozenset(vouchers), owed)
        with self._lock:
            if all(member.banned is not None for member in entry.vouchers):
                return False
            self._entries.append(entry)
        return True


def _split(entries: Iterable[_Entry], chosen: Callable[[_Entry], bool]) -> tuple[list[_Entry], list[_Entry]]:
    """Those chosen, and the rest."""
    found: tuple[list[_Entry], list[_Entry]] = [], []
    for entry in entries:
        found[not chosen(entry)].append(entry)
    return found


# -- what replies mean -------------------------------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """Whether two results, or lists of them, say the same: order, doubles and case of logs do not count, nor does a
    bloom that one of two headers lacks.
    """
    if isinstance(one, Header) and isinstance(other, Header) and not (one.has_bloom and other.has_bloom):
        return _facts(one) == _facts(other)
    if _is_logs(one) and _is_logs(other):
        return {_whole(log) for log in one or []} == {_whole(log) for log in other or []}
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, str) and isinstance(other, str):
        return one.lower() == other.lower()
    return bool(one == other)


def joined(asked: Asked, halves: tuple[Asked, Asked], value: Any, other: Any) -> Any:
    """The result of a question from those of its halves."""
    if len(asked.calls) == 1:
        return (value or []) + (other or [])  # one range in two
    parts = [[found] if len(half.calls) == 1 else found for half, found in zip(halves, (value, other), strict=True)]
    return parts[0] + parts[1]


def digest(value: Any) -> bytes:
    """Of a result, or of a list of them: equal for two that say the same in the usual order."""
    if isinstance(value, list) and value and not isinstance(value[0], Log):
        value = [_facts(each) if isinstance(each, Header) else each for each in value]
    plain = _facts(value) if isinstance(value, Header) else value or []
    return hashlib.blake2b(msgspec.json.encode(plain).lower(), digest_size=16).digest()


def _is_logs(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(each, Log) for each in value))


def _facts(header: Header) -> tuple[Any, ...]:
    return header.number, header.hash, header.parent_hash, header.timestamp, header.base_fee_per_gas


def _lower(topics: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(topic.lower() for topic in topics if topic is not None)


def _int(quantity: str) -> int | str:
    """A quantity; text that is none stays, for whoever judges the log to name it."""
    try:
        return int(quantity, 16)
    except ValueError:
        return quantity


def _place(log: Log) -> tuple[Any, ...]:
    """Where a log is in the chain and what it says: what receipts prove."""
    topics = log.topics
    return (
        _int(log.block_number),
        _int(log.log_index),
        _int(log.transaction_index),
        log.address.lower(),
        _lower((topics.first, topics.second, topics.third, topics.fourth)),
        log.data.lower(),
    )


def _whole(log: Log) -> tuple[Any, ...]:
    return *_place(log), log.block_hash.lower(), log.transaction_hash.lower(), log.removed


def _meant(log: Mapping[str, Any], question: Mapping[str, Any]) -> bool:
    """Whether a log passes a filter of eth_getLogs."""
    topics = _lower(log["topics"])
    wanted = [{topic.lower() for topic in some} for some in question["topics"]]
    return log["address"].lower() in {address.lower() for address in question["address"]} and (
        len(topics) >= len(wanted) and all(topic in some for topic, some in zip(topics, wanted, strict=False))
    )


def _is(said: Header, true: Mapping[str, Any]) -> bool:
    """Whether a header is this one."""
    found = header_of(msgspec.json.encode(dict(true)))
    return found is not None and same(said, found)


def _ruled_out(header: Mapping[str, Any], key: tuple[Any, ...]) -> bool:
    """Whether a block's bloom says that it has no such log."""
    try:
        table = bloom.bits([header["logsBloom"]])
        items = [bytes.fromhex(text[2:]) for text in (key[3], *key[4])]
    except ValueError:
        return False
    return bool(table.any()) and not bool(bloom.contains(table, [bloom.positions(item) for item in items]).all())
