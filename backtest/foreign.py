"""Bytes from elsewhere (a node, a file, a manifest, a flag) become values here, with size, depth and digits bounded.

Every way in which such bytes can be wrong ends in ``Unreadable``, one plain clause; whoever asked adds where the bytes
came from and what to do.
Numbers are ASCII digits: digits of other scripts that look alike (１０) are refused, since nobody meant them.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

__all__ = [
    "DEPTH",
    "DIGITS",
    "Unreadable",
    "bounded_recursion",
    "decimal",
    "exact_json",
    "integer",
    "json_value",
    "shown",
    "text",
    "toml_value",
]

DEPTH = 64
DIGITS = 100

T = TypeVar("T")


class Unreadable(ValueError):
    """Foreign bytes are not what they should be; the message is one clause, safe to show, such as "byte 12 is not
    UTF-8".
    """


def text(data: bytes) -> str:
    """UTF-8 without a byte order mark. Unreadable for other encodings and for NUL."""
    try:
        found = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"byte {error.start} is not UTF-8") from None
    if "\0" in found:
        raise Unreadable(f"character {found.index(chr(0))} is NUL: it is not text")
    return found


def integer(digits: str, *, bits: int = 256) -> int:
    """A whole number of ASCII digits with an optional sign. Unreadable for anything else, and beyond ``bits`` bits."""
    if not re.fullmatch(r"[+-]?[0-9]+", digits, re.ASCII):
        raise Unreadable(f"'{shown(digits, 40)}' is not a whole number")
    if len(digits) > DIGITS or abs(value := int(digits)) >= 1 << bits:
        raise Unreadable(f"a number of {len(digits.lstrip('+-'))} digits is out of range")
    return value


def decimal(text: str) -> Decimal:
    """A number of ASCII digits, with a fraction or an exponent if there is one. Unreadable for anything else (nan, inf,
    ``1_000``), and for more digits, or a larger exponent, than DIGITS.
    """
    found = re.fullmatch(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?0*([0-9]{1,9}))?", text)
    if found is None:
        raise Unreadable(f"'{shown(text, 40)}' is not a number")
    if len(text) > DIGITS or int(found[1] or 0) > DIGITS:
        raise Unreadable(f"'{shown(text, 40)}' is out of range")
    return Decimal(text)


def json_value(data: bytes | str, kind: Any = Any) -> Any:
    """JSON as a value, or as ``kind`` (any type that msgspec decodes, strictly).

    Raises:
        Unreadable: not JSON, not of that kind, nested too deep, not UTF-8, or a number beyond what ``kind`` holds.
    """
    return _decoded(lambda: msgspec.json.decode(data, type=kind))


def exact_json(data: bytes | str, pairs: Callable[[list[tuple[str, Any]]], Any] = dict) -> Any:
    """JSON with every number as the text that stands there, so that no digit is lost. ``pairs`` makes an object of its
    names and values.
    """
    return _decoded(
        lambda: json.loads(data, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=pairs)
    )


def toml_value(source: str, kind: Any = Any) -> Any:
    """TOML as a value, or as ``kind``; as ``json_value``."""
    if longest := _longest_number(source):
        raise Unreadable(f"a number of {longest} digits is out of range")
    return _decoded(lambda: msgspec.toml.decode(source, type=kind))


# A dependency of web3 raises Python's recursion limit to 100,000 when it is imported: there the C stack of a decoder
# ends before the limit is met, and the process with it. The limit is one for all threads: one at a time moves it.
_RECURSION = 3_000
_recursion = threading.RLock()


@contextmanager
def bounded_recursion() -> Iterator[None]:
    """Inside, what recurses too deep ends in RecursionError, however high the limit was set elsewhere."""
    with _recursion:
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(min(before, _RECURSION))
        try:
            yield
        finally:
            sys.setrecursionlimit(before)


def _decoded(decode: Callable[[], T]) -> T:
    try:
        with bounded_recursion():
            found = decode()
    except (RecursionError, MemoryError):
        raise Unreadable(f"it is nested deeper than {DEPTH} levels") from None
    except UnicodeError:
        raise Unreadable("it is not UTF-8") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise Unreadable(shown(str(error), 300)) from error
    _bound_depth(found)
    return found


def _bound_depth(found: Any) -> None:
    """Unreadable where lists and tables nest deeper than DEPTH: code that walks them further on may recurse."""
    level, depth = [found], 0
    while level := [item for item in level if isinstance(item, list | tuple | dict)]:
        depth += 1
        if depth > DEPTH:
            raise Unreadable(f"it is nested deeper than {DEPTH} levels")
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]


def _longest_number(source: str) -> int:
    """The digits of the longest run of digits if it is longer than any number may be, else 0."""
    longest = max((len(run) for run in re.findall(rf"(?<![\w\"'])[+-]?[0-9_]{{{DIGITS},}}", source)), default=0)
    return longest if longest > DIGITS else 0


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(foreign: str, limit: int = 200) -> str:
    """Foreign text that is safe to print: control characters and turns of direction as escapes, cut at ``limit``
    characters.
    """
    cut = foreign if len(foreign) <= limit else foreign[: limit - 1] + "…"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), cut)
