"""The facts file: what no log of a market says, as TOML. ``backtest facts`` writes it, and people may.

Each list is one dataset of ``tables.RAW_STATE``, its rows in the order of the columns there: hashes and addresses as
0x hex, amounts as digits in quotes, "" where there is none. ``blocks`` is the inclusive range over which prices that no
log tells were read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from backtest.errors import UserError, did_you_mean
from backtest.files import read_text
from backtest.foreign import Unreadable, integer, shown, toml_value
from backtest.markets import MarketConfig
from backtest.prices.fold import read_sources
from backtest.tables import RAW_STATE

LISTS: Mapping[str, str] = {
    "tokens": "raw/chain/Token",
    "revisions": "raw/chain/Revision",
    "constants": "raw/chain/Constant",
    "readings": "raw/chain/Reading",
    "references": "raw/chain/Reference",
    "pools": "raw/chain/Pool",
    "sources": "raw/oracle/Source",
    "phases": "raw/oracle/Phase",
    "states": "raw/oracle/State",
    "reads": "raw/oracle/Read",
    "wide_reads": "raw/oracle/WideRead",
    "headers": "raw/chain/Header",
    "times": "raw/chain/BlockTime",
}
"""Name of a list to its dataset."""
LIMIT = 256 << 20
"""Bytes of a facts file."""
_HEX = re.compile(r"0[xX](?:[0-9a-fA-F]{2})*")
_SEE = "see docs/import.md, or have it written: backtest facts"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a facts file says. ``tables``: dataset to rows; ``blocks``: see above, None where it does not say;
    ``header_blocks``: blocks without logs whose headers the market has too, and which the files describe.
    """

    market: str
    chain_id: int
    blocks: tuple[int, int] | None
    header_blocks: tuple[int, ...]
    tables: Mapping[str, pa.Table]

    def rows(self, dataset: str) -> list[dict[str, Any]]:
        """The rows of a dataset; none where it is not there."""
        table = self.tables.get(dataset)
        found: list[dict[str, Any]] = [] if table is None else table.to_pylist()
        return found


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    market: str
    chain_id: int
    blocks: tuple[int, int] | None = None
    header_blocks: tuple[int, ...] = ()
    tokens: list[list[Any]] = []
    revisions: list[list[Any]] = []
    constants: list[list[Any]] = []
    readings: list[list[Any]] = []
    references: list[list[Any]] = []
    pools: list[list[Any]] = []
    sources: list[list[Any]] = []
    phases: list[list[Any]] = []
    states: list[list[Any]] = []
    reads: list[list[Any]] = []
    wide_reads: list[list[Any]] = []
    headers: list[list[Any]] = []
    times: list[list[Any]] = []


def read_facts(path: Path, config: MarketConfig) -> Facts:
    """The facts of a file, for this market. UserError in one line, with list and row, for anything that is not so."""
    where = shown(path.name)
    try:
        body: _File = toml_value(read_text(path, LIMIT), _File)
    except Unreadable as error:
        unknown = re.search(r"unknown field `([^`]+)`", str(error))
        fix = did_you_mean(unknown[1], _File.__struct_fields__) if unknown else _SEE
        raise UserError(f"{where}: {error}", fix) from None
    if body.chain_id != config.chain_id:
        raise UserError(
            f"{where} has facts of chain {body.chain_id}, market '{config.name}' is on chain {config.chain_id}",
            "give the facts of this market",
        )
    if body.market != config.name:
        raise UserError(
            f"{where} has facts of market '{shown(body.market, 100)}', not '{config.name}'",
            "give the facts of this market",
        )
    if body.blocks is not None and not 0 <= body.blocks[0] <= body.blocks[1]:
        raise UserError(f"{where}: blocks = [{body.blocks[0]}, {body.blocks[1]}]", "give the first block first")
    tables = {}
    for name, dataset in LISTS.items():
        rows = getattr(body, name)
        if rows:
            tables[dataset] = _table(rows, RAW_STATE[dataset], f"{where}: {name}")
    _check_sources(tables.get(LISTS["sources"]), where)
    return Facts(body.market, body.chain_id, body.blocks, body.header_blocks, tables)


def _check_sources(table: pa.Table | None, where: str) -> None:
    try:
        for source in read_sources(table).values():
            _ = source.feeds
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{where}: the parameters of a price source are not those of its kind", _SEE) from None


def _table(rows: Sequence[Sequence[Any]], schema: pa.Schema, where: str) -> pa.Table:
    columns: list[list[Any]] = [[] for _ in schema]
    for number, row in enumerate(rows, 1):
        if len(row) != len(schema):
            raise UserError(
                f"{where}, row {number}: {len(row)} values, not {len(schema)}",
                f"a row has {', '.join(schema.names)}",
            )
        for value, field, column in zip(row, schema, columns, strict=True):
            try:
                column.append(_value(value, field))
            except (ValueError, TypeError) as error:
                raise UserError(f"{where}, row {number}, {field.name}: {error}", _SEE) from None
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def _value(value: Any, field: pa.Field) -> Any:
    kind = field.type
    if value == "" and field.nullable:
        return None
    said = f"'{shown(str(value), 80)}'"
    if pa.types.is_fixed_size_binary(kind):
        if not isinstance(value, str) or not _HEX.fullmatch(value) or len(value) != 2 + 2 * kind.byte_width:
            raise ValueError(f"{said} is not 0x and {2 * kind.byte_width} hex digits")
        return bytes.fromhex(value[2:])
    if pa.types.is_binary(kind):
        if not isinstance(value, str) or not _HEX.fullmatch(value):
            raise ValueError(f"{said} is not 0x and pairs of hex digits")
        return bytes.fromhex(value[2:])
    if pa.types.is_boolean(kind):
        if not isinstance(value, bool):
            raise ValueError(f"{said} is neither true nor false")
        return value
    if pa.types.is_string(kind):
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError(f"{said} is not text")
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{said} is not a whole number")
    number = integer(value) if isinstance(value, str) else value
    if pa.types.is_decimal(kind):
        if abs(number) >= 10**38:
            raise ValueError(f"{said} has more than 38 digits")
        return Decimal(number)
    if not -(1 << kind.bit_width - 1) <= number < 1 << kind.bit_width - 1:
        raise ValueError(f"{said} is out of range")
    return number


def written(
    config: MarketConfig,
    blocks: tuple[int, int],
    tables: Mapping[str, pa.Table],
    header_blocks: Sequence[int],
    emitters: Sequence[str],
) -> Iterator[str]:
    """The lines of a facts file. The same facts give the same text. ``emitters``: the contracts whose logs the market
    is made of, said in a comment.
    """
    yield f"# What no log of market '{config.name}' says: backtest import logs ... --facts THIS. See docs/import.md."
    yield "# Its logs are those of these contracts:"
    yield from (f"#   {address}" for address in emitters)
    yield f"market = {_text(config.name)}"
    yield f"chain_id = {config.chain_id}"
    yield f"blocks = [{blocks[0]}, {blocks[1]}]"
    if header_blocks:
        yield f"header_blocks = [{', '.join(map(str, header_blocks))}]"
    for name, dataset in LISTS.items():
        table = tables.get(dataset)
        if table is None or not table.num_rows:
            continue
        yield ""
        yield f"# {', '.join(table.schema.names)}"
        yield f"{name} = ["
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            yield f"  [{', '.join(map(_said, row))}],"
        yield "]"


def _said(value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return f'"0x{value.hex()}"'
    if isinstance(value, Decimal):
        return f'"{int(value)}"'
    return _text(value) if isinstance(value, str) else str(value)


def _text(value: str) -> str:
    """A basic string of TOML, which is one of JSON."""
    return msgspec.json.encode(value).decode()
