"""Event signatures as columns: the Arrow schema that the logs of an ``EventSpec`` decode to. Pure; no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from backtest.model import EventSpec
from backtest.tables import ADDRESS, AMOUNT, RAW_KEY, TEXT, WORD

_SIGNATURE = re.compile(r"^\s*(\w+)\s*\((.*)\)\s*$", re.DOTALL)
_INTEGER = re.compile(r"^(u?)int(\d*)$")
_FIXED_BYTES = re.compile(r"^bytes(\d+)$")
_KEY_NAMES = frozenset(field.name for field in RAW_KEY)
WORDS = "bytes32[]"
"""The one array that is stored: its words, one after another."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One event argument. ``type`` is canonical (``uint`` reads as ``uint256``); ``column`` is its snake-case name;
    ``within`` the name of the struct that it is a member of, else empty.
    """

    name: str
    column: str
    type: str
    indexed: bool
    within: str = ""

    @property
    def dynamic(self) -> bool:
        """True for ``string``, ``bytes`` and ``bytes32[]``, which sit behind an offset (or, indexed, are hashed)."""
        return self.type in ("string", "bytes", WORDS)

    @property
    def integer(self) -> tuple[bool, int] | None:
        """(signed, bits) of an integer type, else None."""
        match = _INTEGER.match(self.type)
        return (match[1] == "", int(match[2])) if match else None


@dataclass(frozen=True, slots=True)
class EventAbi:
    """A parsed event signature."""

    name: str
    arguments: tuple[Argument, ...]
    canonical: str
    """What topic 0 is the Keccak hash of: ``Supply(address,address,...)``."""

    @property
    def indexed(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.indexed)

    @property
    def data(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if not argument.indexed)


def snake_case(name: str) -> str:
    """``onBehalfOf`` -> ``on_behalf_of``, ``receiveAToken`` -> ``receive_a_token``."""
    spaced = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", spaced).strip("_").lower()


@cache
def parse_event(signature: str) -> EventAbi:
    """``"Supply(address indexed reserve, uint256 amount)"`` parsed; ValueError for what is not supported (other
    arrays than ``bytes32[]``).

    The members of a struct in the data, ``"(address token, uint256 cap) terms"``, become arguments: without dynamic
    members it is encoded so.
    """
    match = _SIGNATURE.match(signature)
    if not match:
        raise ValueError(f"not an event signature: {signature!r}")
    arguments: list[Argument] = []
    kinds: list[str] = []
    for part in _split(match[2]):
        if not part.startswith("("):
            _add(arguments, part, signature)
            kinds.append(arguments[-1].type)
            continue
        members, _, name = part[1:].rpartition(")")
        before = len(arguments)
        for member in _split(members):
            if len(member.split()) < 2:
                raise ValueError(f"a member of argument '{part}' of {signature!r} has no name")
            _add(arguments, member, signature, name.strip())
        own = arguments[before:]
        if any(member.indexed or member.dynamic for member in own) or "indexed" in name.split():
            raise ValueError(f"cannot store argument '{part}' of {signature!r}")
        kinds.append(f"({','.join(member.type for member in own)})")
    return EventAbi(match[1], tuple(arguments), f"{match[1]}({','.join(kinds)})")


def _split(text: str) -> list[str]:
    """What stands between commas outside parentheses."""
    parts, depth, start = [], 0, 0
    for place, sign in enumerate(text + ","):
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [part for part in parts if part]


def _add(arguments: list[Argument], part: str, signature: str, within: str = "") -> None:
    words = part.split()
    indexed = "indexed" in words[1:]
    names = [word for word in words[1:] if word != "indexed"]
    kind = {"uint": "uint256", "int": "int256"}.get(words[0], words[0])
    name = names[0] if names else f"arg{len(arguments)}"
    column = snake_case(name)
    if len(names) > 1 or not _supported(kind):
        raise ValueError(f"cannot store argument '{part}' of {signature!r}")
    if column in _KEY_NAMES or column in [a.column for a in arguments]:
        raise ValueError(f"argument '{part}' of {signature!r} would name its column '{column}', which is taken")
    arguments.append(Argument(name, column, kind, indexed, within))


def _supported(kind: str) -> bool:
    return kind in ("address", "bool", "string", "bytes", WORDS) or bool(
        _INTEGER.match(kind) or _FIXED_BYTES.match(kind)
    )


def column_type(argument: Argument, wide: bool) -> pa.DataType:
    """The Arrow type an argument is stored as; see docs/architecture.md."""
    if argument.indexed and argument.dynamic:
        return WORD
    if argument.integer is not None:
        return pa.int64() if argument.integer[1] <= 32 else WORD if wide else AMOUNT
    fixed = _FIXED_BYTES.match(argument.type)
    if fixed:
        return pa.binary(int(fixed[1]))
    return {"address": ADDRESS, "bool": pa.bool_(), "string": TEXT, "bytes": pa.binary(), WORDS: pa.binary()}[
        argument.type
    ]


@cache
def event_schema(spec: EventSpec) -> pa.Schema:
    """The columns of the raw dataset of ``spec``: ``tables.RAW_KEY``, then the arguments in the order of the
    signature.
    """
    abi = parse_event(spec.signature)
    own = [pa.field(a.column, column_type(a, a.name in spec.wide), nullable=False) for a in abi.arguments]
    sender = [pa.field("sender", ADDRESS, nullable=False)] if spec.note == "sender" else []
    return pa.schema([*RAW_KEY, *sender, *own])
