"""What a node's reply holds: bytes to results, in the one form that the fetcher works with.

Clients write the same facts in several forms: quantities as JSON integers or with capital digits, ``0X``, ``null`` for
``removed``, no ``logsBloom``. The form of the specification is read first and fast; what does not fit it is read again
loosely and rewritten. Whatever cannot be read is ``BrokenReply``, one plain clause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from backtest import foreign
from backtest.errors import FetchError
from backtest.fetch.asked import in_words
from backtest.fetch.dialects import STATE_METHODS, Complaint, classify
from backtest.fetch.provider import BrokenReply

__all__ = [
    "BLOCK_BITS",
    "Complained",
    "Header",
    "Log",
    "Topics",
    "all_logs_of",
    "batch_of",
    "decoded",
    "header_of",
    "hex_bytes",
    "logs_of",
    "quantity",
    "result_of",
]

T = TypeVar("T")
Result = msgspec.Raw | None
"""What a call gave, as JSON; None where it reverted."""

NO_BLOOM = f"0x{'0' * 512}"
"""A chain that leaves its blooms empty says nothing by them, and nor does one without any."""

BLOCK_BITS = 62
_QUANTITY = re.compile(r"0[xX]([0-9a-fA-F]{1,64})")


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
    """The parts of a block's header that are used: lower-case 0x hex. ``has_bloom``: False where the node gave none;
    ``logs_bloom`` is empty then.
    """

    number: str
    hash: str
    parent_hash: str
    timestamp: str
    logs_bloom: str
    base_fee_per_gas: str | None = None
    has_bloom: bool = True


class _LooseLog(msgspec.Struct, rename="camel"):
    address: str
    topics: Topics
    data: str
    block_number: str | int
    block_hash: str
    transaction_hash: str
    transaction_index: str | int
    log_index: str | int
    removed: bool | None = None


class _LooseHeader(msgspec.Struct, rename="camel"):
    number: str | int
    hash: str
    parent_hash: str
    timestamp: str | int
    logs_bloom: str | None = None
    base_fee_per_gas: str | int | None = None


_ABSENT = msgspec.Raw(b"")  # the field was absent; a JSON null is Raw(b"null")


class _Error(msgspec.Struct):
    code: int | str | float | None = None
    message: str | None = None
    data: msgspec.Raw = _ABSENT


class _Reply(msgspec.Struct):
    id: int | str | None = None
    result: msgspec.Raw = _ABSENT
    error: _Error | str | None = None


class _LogsReply(msgspec.Struct):
    result: list[Log] | msgspec.UnsetType | None = msgspec.UNSET
    error: _Error | str | None = None


class Complained(Exception):
    """The node answered with an error; ``index`` is that of the call in its batch."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.text)
        self.complaint = complaint
        self.index = 0
        self.retry_after = 0.0


# -- values --------------------------------------------------------------------------------------------------------


def quantity(value: str | int, bits: int = 256) -> int:
    """A number, as 0x hex in any case or as a JSON integer. ``foreign.Unreadable`` for anything else, and beyond
    ``bits`` bits.
    """
    if isinstance(value, int):
        number = value
    elif match := _QUANTITY.fullmatch(value):
        number = int(match[1], 16)
    else:
        raise foreign.Unreadable(f"'{foreign.shown(value, 40)}' is not a hex number")
    if not 0 <= number < 1 << bits:
        raise foreign.Unreadable("a number is out of range")
    return number


def _quantity(value: str | int) -> str:
    """A quantity in the form of the specification; text that is none stays, for whoever judges the log to name it."""
    return hex(value) if isinstance(value, int) else value.lower()


def header_of(data: bytes | msgspec.Raw) -> Header | None:
    """A header; None where the node has none. ``foreign.Unreadable`` for anything else."""
    found: _LooseHeader | None = foreign.json_value(data, _LooseHeader | None)
    if found is None:
        return None
    quantity(found.number, BLOCK_BITS)
    quantity(found.timestamp, BLOCK_BITS)
    fee = found.base_fee_per_gas
    bloom = (found.logs_bloom or "0x").lower()
    return Header(
        number=_quantity(found.number),
        hash=found.hash.lower(),
        parent_hash=found.parent_hash.lower(),
        timestamp=_quantity(found.timestamp),
        logs_bloom=NO_BLOOM if bloom == "0x" else bloom,
        base_fee_per_gas=None if fee is None else hex(quantity(fee)),
        has_bloom=bloom != "0x",
    )


def logs_of(data: bytes | msgspec.Raw) -> list[Log] | None:
    """Logs; None for a JSON null. ``foreign.Unreadable`` for anything else."""
    try:
        found: list[Log] | None = foreign.json_value(data, list[Log] | None)
    except foreign.Unreadable as error:
        found = _loosely(data, error)
    return _plain(found, data)


def _loosely(data: bytes | msgspec.Raw, error: foreign.Unreadable) -> list[Log] | None:
    """Logs in another form than the specification's; ``error``, which says what does not fit that one, if in none."""
    try:
        found: list[_LooseLog] | None = foreign.json_value(data, list[_LooseLog] | None)
    except foreign.Unreadable:
        raise error from None
    return None if found is None else [_rewritten(log) for log in found]


def _plain(logs: list[Log] | None, data: bytes | msgspec.Raw) -> list[Log] | None:
    """The logs, with topics in lower case and without ``0X``. A node writes all topics alike: of the first ones, by
    which logs are told apart, few differ, and those are looked at.
    """
    if not logs:
        return logs
    topics = "".join({log.topics.first for log in logs})
    if topics == topics.lower() and b"X" not in bytes(data):
        return logs
    return [_rewritten(log) for log in logs]


def _rewritten(log: Log | _LooseLog) -> Log:
    topics = log.topics
    return Log(
        address=log.address.lower(),
        topics=Topics(
            topics.first.lower(), *(other and other.lower() for other in (topics.second, topics.third, topics.fourth))
        ),
        data=log.data.lower(),
        block_number=_quantity(log.block_number),
        block_hash=log.block_hash.lower(),
        transaction_hash=log.transaction_hash.lower(),
        transaction_index=_quantity(log.transaction_index),
        log_index=_quantity(log.log_index),
        removed=bool(log.removed),
    )


def decoded(name: str, result: msgspec.Raw, method: str, params: Sequence[Any], kind: Any) -> Any:
    """A result as ``kind``, of the node of this name. FetchError where it is something else."""
    try:
        found = _READERS[kind](result) if kind in _READERS else foreign.json_value(result, kind)
    except foreign.Unreadable as error:
        shown = ", ".join(str(p) for p in params)[:200]
        what = f"{name} answered {method}({shown}) with something else: {error}"
        raise FetchError(what, "use another node") from None
    if method in STATE_METHODS and isinstance(found, str):
        hex_bytes(found, in_words(method, params))
    return found


def hex_bytes(text: str, what: str) -> bytes:
    """Bytes of 0x hex. FetchError naming ``what`` gave something else."""
    try:
        return bytes.fromhex(text.removeprefix("0x").removeprefix("0X"))
    except ValueError:
        shown = foreign.shown(text, 80)
        raise FetchError(f"{what} gave '{shown}', which is not hex", "use another node") from None


_READERS: Mapping[Any, Callable[[msgspec.Raw], Any]] = {list[Log]: logs_of, Header | None: header_of}


# -- replies: bytes and HTTP status to results -----------------------------------------------------------------------


def result_of(data: bytes, status: int) -> Result:
    """The result of one call. ``Complained`` for an error other than a revert."""
    return _result(_parse(data, status, _Reply), status)


def all_logs_of(data: bytes, status: int) -> list[Log] | None:
    """The logs of one eth_getLogs; None for a JSON null."""
    try:
        reply = foreign.json_value(data, _LogsReply)
    except foreign.Unreadable as error:
        return _other_logs(data, status, error)
    _complain(reply.error, status)
    if reply.result is msgspec.UNSET:
        raise BrokenReply("a reply to eth_getLogs without a list of logs")
    found: list[Log] | None = reply.result
    return _plain(found, data)


def _other_logs(data: bytes, status: int, error: foreign.Unreadable) -> list[Log] | None:
    result = _result(_parse(data, status, _Reply), status)
    try:
        if result is None:
            raise error
        return _plain(_loosely(result, error), data)
    except foreign.Unreadable as broken:
        raise _broken(data, broken) from None


def batch_of(size: int) -> Callable[[bytes, int], list[Result]]:
    """A reader of the results of ``size`` calls with the ids 0, 1, ..."""

    def read(data: bytes, status: int) -> list[Result]:
        found: Any = _parse(data, status, list[_Reply] | _Reply)
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
            except Complained as error:
                error.index = number
                raise
        return results

    return read


def _result(reply: _Reply, status: int = 200) -> Result:
    try:
        _complain(reply.error, status)
    except Complained as error:
        if error.complaint.kind == "revert":
            return None
        raise
    if reply.result == _ABSENT:
        raise BrokenReply("a reply with neither result nor error")
    return reply.result


def _complain(error: _Error | str | None, status: int) -> None:
    if error is None and status < 400:
        return
    if isinstance(error, str):
        error = _Error(message=error)
    elif error is None:
        error = _Error()
    details = bytes(error.data)[:400].decode(errors="replace").strip('"')
    code = error.code if isinstance(error.code, int) else None
    if isinstance(error.code, str) and re.fullmatch("-?[0-9]{1,6}", error.code, re.ASCII):
        code = int(error.code)
    raise Complained(classify(f"{error.message or ''} {'' if details == 'null' else details}", code, status))


def _parse(data: bytes, status: int, kind: Any) -> Any:
    try:
        return foreign.json_value(data, kind)
    except foreign.Unreadable as error:
        if 300 <= status < 400:
            raise Complained(
                Complaint("denied", f"HTTP {status}, a redirection: give the address that it leads to")
            ) from None
        if status >= 400:
            raise Complained(classify(data[:300].decode(errors="replace"), None, status)) from None
        raise _broken(data, error) from None


def _broken(data: bytes, error: foreign.Unreadable) -> BrokenReply:
    return BrokenReply(f"a reply of {len(data)} bytes that is cut short or not what was asked for ({error})")
