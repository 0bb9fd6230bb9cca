"""Text to exact integers: amounts, times, hashes, names. Whatever is not plainly what it should be is a ValueError that
says so.

Floats of a file come as text with their width behind (``1.5f64``, see ``sources``). A float is never an amount: what
the number was before it became one cannot be told. It may be a whole number (a block, a log index, a time) where every
whole number up to its size has a float of its own.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from backtest.foreign import shown

_DECIMAL = re.compile(r"([+-]?)(?=[0-9.])([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,4}))?", re.ASCII)
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?(?:"
    r" ?(Z|z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?))?)?",
    re.ASCII,
)
_COMPACT = re.compile(r"(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])", re.ASCII)
_HASH = re.compile(r"(?:0[xX]|\\x)?([0-9a-fA-F]{64})", re.ASCII)
_BARE_ADDRESS = re.compile(r"[0-9a-f]{40}", re.ASCII)
_FLOAT = re.compile(r"(.*)f(16|32|64)", re.ASCII | re.DOTALL)
_EXACT = {"16": 1 << 11, "32": 1 << 24, "64": 1 << 53}
"""Width of a float to the bound below which every whole number has one (IEEE 754: 11, 24 and 53 bits)."""
_LONGEST = 200
_EPOCHS = 10**11  # seconds, the year 5138
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""What a mapping may say that its epochs are counted in, and how many are a second."""
ETHEREUM, BITCOIN = 1_438_269_973, 1_230_940_800
"""No fact of a chain is older than the first block of Ethereum (30 July 2015), no market price of an asset of chains
older than Bitcoin's (3 January 2009).
"""
NAME_LENGTH = 256
_LIMIT = 10**38
_LARGEST_SHIFT = 80


def scaled(text: str, decimals: int, rounding: str | None = None) -> int:
    """A decimal number times ``10**decimals``, exact. Digits, a point, an exponent; nothing else (no separators, hex,
    nan).

    ``rounding``: None refuses a number with more decimals than that; "down" cuts them off towards zero, "half-up"
    rounds to nearest, halves away from zero.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"{_said(text)} is out of range")
    match = _DECIMAL.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        if _FLOAT.fullmatch(text):
            raise ValueError(f"{_said(text)} is a float, which is not exact: store the column as text or decimals")
        raise ValueError(f"{_said(text)} is not a decimal number")
    fraction = match[3] or ""
    shift = int(match[4] or 0) - len(fraction) + decimals
    digits = int(match[2] + fraction)
    if digits and abs(shift) > _LARGEST_SHIFT:
        raise ValueError(f"{_said(text)} is out of range")
    if shift >= 0:
        value = digits * 10**shift if digits else 0
    else:
        unit = 10 ** min(-shift, _LARGEST_SHIFT)
        value, rest = divmod(digits, unit)
        if rest and rounding is None:
            raise ValueError(f"{_said(text)} has more than {decimals} decimals")
        if rounding == "half-up" and 2 * rest >= unit:
            value += 1
    if value >= _LIMIT:
        raise ValueError(f"{_said(text)} needs more than 38 digits")
    return -value if match[1] == "-" else value


def whole(text: str) -> int:
    """An integer that is not negative: digits, also with a fraction of zeros or an exponent (``100.0``, ``1E2``), or a
    whole float in the range in which floats of its width are exact (``100f64``).
    """
    if text.isascii() and text.isdigit() and len(text) <= 38:
        return int(text)
    limit = _LIMIT
    number = text
    if found := _FLOAT.fullmatch(text[:_LONGEST]):
        number, limit = found[1], _EXACT[found[2]]
    try:
        value = scaled(number, 0)
    except ValueError:
        raise ValueError(f"{_said(text)} is not a whole number") from None
    if value < 0:
        raise ValueError(f"{_said(text)} is not a whole number: it is negative")
    if value >= limit:
        raise ValueError(f"{_said(text)} is a float too large to be exact: store the column as integers or text")
    return value


def seconds(text: str, zone: ZoneInfo | None, unit: int = 1) -> int:
    """Seconds since 1970: an ISO time with its offset (or Z), one without in ``zone``, a date alone as the start of the
    day in ``zone`` (without one UTC, as dates are everywhere here), or epochs, ``unit`` of which are a second.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return _epoch(text, unit)
    try:
        day = _midnight(match[1], match[2], match[3])
    except ValueError:
        raise ValueError(f"{_said(text)} is no date") from None
    if match[4] is None:
        return day if zone is None else _local(day, zone, text)
    if match[7] and match[7].strip("0"):
        raise ValueError(f"{_said(text)} is not a full second")
    if match[8] is None and zone is None:
        raise ValueError(f'{_said(text)} states no time zone: say timezone = "UTC", or another, in mapping.toml')
    hour, minute, second = int(match[4]), int(match[5]), int(match[6])
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{_said(text)} is no time of day")
    time = day + 3600 * hour + 60 * minute + second
    if match[8] is None:
        assert zone is not None
        return _local(time, zone, text)
    if match[8] in ("Z", "z", "UTC"):
        return time
    hours, minutes = int(match[8][1:3]), int(match[8][3:].lstrip(":") or 0)
    if hours > 14 or minutes > 59:
        raise ValueError(f"{_said(text)} is no offset from UTC")
    away = 3600 * hours + 60 * minutes
    return time - away if match[8][0] == "+" else time + away


def _epoch(text: str, unit: int) -> int:
    try:
        value = whole(text)
    except ValueError as error:
        if _FLOAT.fullmatch(text[:_LONGEST]):
            raise ValueError(str(error)) from None
        raise ValueError(f"{_said(text)} is neither an ISO time nor epoch seconds") from None
    time, rest = divmod(value, unit)
    if time >= _EPOCHS:
        finer = next((name for name, count in UNITS.items() if unit < count and time * unit // count < _EPOCHS), None)
        hint = f': say epoch = "{finer}" in mapping.toml if it counts {finer}' if finer else ""
        raise ValueError(f"{_said(text)} is neither an ISO time nor epoch seconds{hint}")
    if rest:
        raise ValueError(f"{_said(text)} is not a full second")
    return time


def plausible(time: int, text: str, earliest: int, latest: int) -> int:
    """The time, which ``text`` said; ValueError before ``earliest`` or after ``latest``, seconds since 1970."""
    if time < earliest:
        if _COMPACT.fullmatch(text):
            said = f"{text[:4]}-{text[4:6]}-{text[6:]}"
            raise ValueError(f"{_said(text)} is a date and no epoch: write it as {said}")
        raise ValueError(f"{_said(text)} is too early for a time: before {_day(earliest)}")
    if time > latest:
        raise ValueError(f"{_said(text)} is in the future")
    return time


def _day(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).date().isoformat()


@lru_cache(1 << 14)
def _midnight(year: str, month: str, day: str) -> int:
    return int(datetime(int(year), int(month), int(day), tzinfo=UTC).timestamp())


def _local(time: int, zone: ZoneInfo, text: str) -> int:
    naive = datetime(1970, 1, 1) + timedelta(seconds=time)
    early, late = naive.replace(tzinfo=zone, fold=0), naive.replace(tzinfo=zone, fold=1)
    if early.utcoffset() != late.utcoffset():
        raise ValueError(f"{_said(text)} comes twice or never in {zone.key}")
    return int(early.timestamp())


def digest32(text: str) -> bytes:
    """32 bytes from 64 hex digits, with ``0x`` or ``\\x`` before them or bare."""
    match = _HASH.fullmatch(text)
    if match is None:
        raise ValueError(f"{_said(text)} is not a transaction hash")
    return bytes.fromhex(match[1])


def spelled(text: str) -> str:
    """What an account or an asset is called, in lower case. Hex is written with ``0x``: ``\\x...`` and a bare address
    are the same account as with it.
    """
    found = text.lower()
    if found.startswith("\\x"):
        return "0x" + found[2:]
    if len(found) == 40 and _BARE_ADDRESS.fullmatch(found) and not found.isdigit():
        return "0x" + found
    return found


def printable(text: str) -> str:
    """A name that can be shown anywhere: no control characters, ``NAME_LENGTH`` characters at most."""
    if len(text) > NAME_LENGTH:
        raise ValueError(f"{_said(text)} is longer than {NAME_LENGTH} characters")
    if shown(text, NAME_LENGTH) != text:
        raise ValueError(f"{_said(text)} holds a control character")
    return text


def _said(text: str) -> str:
    """Foreign text in a message."""
    return f"'{shown(text, 60)}'"
