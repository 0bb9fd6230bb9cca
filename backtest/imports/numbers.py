"""Text to exact integers: amounts, times, hashes. Whatever is not plainly what it should be is a ValueError that says
so.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_DECIMAL = re.compile(r"([+-]?)(?=[0-9.])([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,4}))?", re.ASCII)
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?(?:"
    r" ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?",
    re.ASCII,
)
_EPOCH = re.compile(r"[0-9]{1,11}", re.ASCII)
_LIMIT = 10**38
_LARGEST_SHIFT = 80


def scaled(text: str, decimals: int, rounding: str | None = None) -> int:
    """A decimal number times ``10**decimals``, exact. Digits, a point, an exponent; nothing else (no separators, hex,
    nan).

    ``rounding``: None refuses a number with more decimals than that; "down" cuts them off towards zero, "half-up"
    rounds to nearest, halves away from zero.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise ValueError(f"'{text}' is not a decimal number")
    fraction = match[3] or ""
    shift = int(match[4] or 0) - len(fraction) + decimals
    digits = int(match[2] + fraction)
    if digits and abs(shift) > _LARGEST_SHIFT:
        raise ValueError(f"'{text}' is out of range")
    if shift >= 0:
        value = digits * 10**shift if digits else 0
    else:
        unit = 10 ** min(-shift, _LARGEST_SHIFT)
        value, rest = divmod(digits, unit)
        if rest and rounding is None:
            raise ValueError(f"'{text}' has more than {decimals} decimals")
        if rounding == "half-up" and 2 * rest >= unit:
            value += 1
    if value >= _LIMIT:
        raise ValueError(f"'{text}' needs more than 38 digits")
    return -value if match[1] == "-" else value


def whole(text: str) -> int:
    """An integer that is not negative, of digits only."""
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"'{text}' is not a whole number")
    return int(text)


def seconds(text: str, zone: ZoneInfo | None) -> int:
    """Seconds since 1970: an ISO time with its offset (or Z), one without in ``zone``, or epoch seconds."""
    if _EPOCH.fullmatch(text):
        return int(text)
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is neither an ISO time nor epoch seconds")
    if match[7] and match[7].strip("0"):
        raise ValueError(f"'{text}' is not a full second")
    if match[8] is None and zone is None:
        raise ValueError(f"'{text}' states no time zone")
    try:
        day = _midnight(match[1], match[2], match[3])
    except ValueError:
        raise ValueError(f"'{text}' is no date") from None
    hour, minute, second = int(match[4]), int(match[5]), int(match[6])
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"'{text}' is no time of day")
    time = day + 3600 * hour + 60 * minute + second
    if match[8] is None:
        assert zone is not None
        return _local(time, zone, text)
    if match[8] in ("Z", "UTC"):
        return time
    away = 3600 * int(match[8][1:3]) + 60 * int(match[8][-2:])
    return time - away if match[8][0] == "+" else time + away


@lru_cache(1 << 14)
def _midnight(year: str, month: str, day: str) -> int:
    return int(datetime(int(year), int(month), int(day), tzinfo=UTC).timestamp())


def _local(time: int, zone: ZoneInfo, text: str) -> int:
    naive = datetime(1970, 1, 1) + timedelta(seconds=time)
    early, late = naive.replace(tzinfo=zone, fold=0), naive.replace(tzinfo=zone, fold=1)
    if early.utcoffset() != late.utcoffset():
        raise ValueError(f"'{text}' comes twice or never in {zone.key}")
    return int(early.timestamp())


def digest32(text: str) -> bytes:
    """32 bytes from 0x and 64 hex digits."""
    if len(text) != 66 or text[:2].lower() != "0x":
        raise ValueError(f"'{text}' is not a transaction hash")
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise ValueError(f"'{text}' is not a transaction hash") from None
