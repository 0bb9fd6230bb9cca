"""How programs and warehouses name the columns of raw logs and of blocks: one TOML file a program, and which of them
fits a file.

    [logs]    block_number, transaction_index, log_index, transaction_hash, address, data, topics (a column that holds
              all, or the columns of each); block_hash, timestamp, removed and chain_id where the files have them
    [blocks]  block_number, timestamp; block_hash, parent_hash, base_fee and chain_id where the files have them
    [events]  of decoded events: block_number, transaction_index, log_index, transaction_hash; address, timestamp and
              event (its name) where the files have them. Arguments go by the names of the ABI, or [arguments.EVENT]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from backtest.errors import UserError, did_you_mean
from backtest.files import read_text
from backtest.foreign import Unreadable, shown, toml_value
from backtest.resources import resource

Kind = Literal["logs", "blocks", "events"]


class _Columns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    block_number: str
    block_hash: str | None = None
    chain_id: str | None = None

    def named(self) -> dict[str, str | tuple[str, ...]]:
        """Field to the column, or columns, that hold it; fields that the layout does not name are left out."""
        values = {field: getattr(self, field) for field in self.__struct_fields__}
        return {field: value for field, value in values.items() if value is not None}


class LogColumnNames(_Columns, frozen=True, kw_only=True):
    """What the columns of logs are called."""

    transaction_index: str
    log_index: str
    transaction_hash: str
    address: str
    data: str
    topics: str | tuple[str, str, str, str]
    timestamp: str | None = None
    removed: str | None = None


class BlockColumnNames(_Columns, frozen=True, kw_only=True):
    """What the columns of blocks are called."""

    timestamp: str
    parent_hash: str | None = None
    base_fee: str | None = None


class EventColumnNames(_Columns, frozen=True, kw_only=True):
    """What the columns of decoded events are called that are no arguments."""

    transaction_index: str
    log_index: str
    transaction_hash: str
    address: str | None = None
    timestamp: str | None = None
    event: str | None = None


class _Layout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    description: str
    logs: LogColumnNames | None = None
    blocks: BlockColumnNames | None = None
    events: EventColumnNames | None = None
    arguments: dict[str, dict[str, str]] = {}

    def __post_init__(self) -> None:
        if self.logs is None and self.events is None:
            raise ValueError("it has neither [logs] nor [events]")
        if self.arguments and self.events is None:
            raise ValueError("[arguments] without [events]")


@dataclass(frozen=True, slots=True)
class FittedLayout:
    """A layout as it fits one file: ``columns`` is field to the file's own column, or columns; optional fields that the
    file lacks are left out. ``arguments``: of events that have other names in the file.
    """

    layout: str
    kind: Kind
    columns: Mapping[str, str | tuple[str, ...]]
    arguments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def wanted(self) -> list[str]:
        """Every column that is read, each once."""
        flat = [name for value in self.columns.values() for name in ([value] if isinstance(value, str) else value)]
        return list(dict.fromkeys(flat))


_OPTIONAL_OF: Mapping[Kind, frozenset[str]] = {
    "logs": frozenset(("block_hash", "chain_id", "timestamp", "removed")),
    "blocks": frozenset(("block_hash", "chain_id", "parent_hash", "base_fee")),
    "events": frozenset(("block_hash", "chain_id", "timestamp", "address", "event")),
}


def shipped() -> list[str]:
    """Names of the layouts that come with the package."""
    return sorted(path.stem for path in (resource("queries") / "import/logs").glob("*.toml"))


def load(name: str | None = None) -> dict[str, _Layout]:
    """The layout of this name or of this TOML file; without a name all that ship. UserError where there is none."""
    if name is None:
        return {each: _read(resource("queries") / f"import/logs/{each}.toml") for each in shipped()}
    if name in shipped():
        return {name: _read(resource("queries") / f"import/logs/{name}.toml")}
    if not name.endswith(".toml"):
        raise UserError(
            f"there is no mapping of logs '{shown(name, 100)}'",
            f"{did_you_mean(name[:100], shipped())} or give the path of a TOML file",
        )
    return {Path(name).stem: _read(Path(name))}


def _read(path: Path) -> _Layout:
    try:
        layout = toml_value(read_text(path), _Layout)
    except Unreadable as error:
        raise UserError(
            f"{shown(path.name)}: {error}", "see docs/import.md: [logs] and [events] say what the columns are called"
        ) from None
    assert isinstance(layout, _Layout)
    return layout


def fit(layouts: Mapping[str, _Layout], columns: Sequence[str], where: str) -> FittedLayout:
    """Which layout a file has, by the names of its columns in any case. Of several that fit, the one whose optional
    columns are there; a file that holds logs is never taken for one of events, nor one of events for one of blocks.

    Raises:
        UserError: none fits; the message names the nearest one and what it lacks.
    """
    held: dict[str, str] = {}
    for column in columns:
        if column.lower() in held:
            raise UserError(f"{where}: column '{shown(column, 60)}' comes twice", "name each column once")
        held[column.lower()] = column
    fits: list[tuple[tuple[int, int, int], FittedLayout]] = []
    short: list[tuple[int, str, list[str]]] = []
    for name, layout in layouts.items():
        parts: tuple[tuple[Kind, _Columns | None], ...] = (
            ("logs", layout.logs),
            ("events", layout.events),
            ("blocks", layout.blocks),
        )
        for kind, named in parts:
            if named is None:
                continue
            optional = _OPTIONAL_OF[kind]
            found: dict[str, str | tuple[str, ...]] = {}
            lacking: list[str] = []
            spare = 0
            for what, value in named.named().items():
                wanted = [value] if isinstance(value, str) else list(value)
                absent = [column for column in wanted if column.lower() not in held]
                if not absent:
                    own = [held[column.lower()] for column in wanted]
                    found[what] = own[0] if isinstance(value, str) else tuple(own)
                elif what in optional:
                    spare += 1
                else:
                    lacking += absent
            if lacking:
                if kind != "blocks":
                    short.append((len(lacking), name, lacking))
                continue
            if kind == "blocks" and "block_hash" not in found and len(found) < len(columns):
                continue  # a table of something else that has blocks and times
            rank = ("blocks", "events", "logs").index(kind), len(found), -spare
            fits.append((rank, FittedLayout(name, kind, found, layout.arguments)))
    if fits:
        return max(fits, key=lambda item: item[0])[1]
    _, nearest, lacking = min(short)
    names = ", ".join(shown(column, 40) for column in columns[:12]) + (", ..." if len(columns) > 12 else "")
    raise UserError(
        f"{where}: its columns ({names}) are those of no mapping of logs; nearest is {nearest}, which has"
        f" {', '.join(lacking)} too",
        "export these columns, rename them, or describe yours in a TOML file for --mapping (docs/import.md);"
        " nothing was imported",
    )
