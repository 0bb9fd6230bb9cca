"""What a mapping is: a folder with ``mapping.toml`` and one SELECT for each kind of fact that its files hold.

``flow.sql``, ``liquidation.sql``, ``parameter.sql``, ``price.sql`` and ``checkpoint.sql`` are the SELECTs; their
columns are listed in ``TARGETS``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import inspect

from backtest.errors import UserError, did_you_mean
from backtest.files import read_text
from backtest.foreign import Unreadable, shown, toml_value
from backtest.markets import MarketConfig
from backtest.resources import resource

_NAME = re.compile(r"^[a-z_][a-z0-9_]*$")


@dataclass(frozen=True, slots=True)
class ImportTarget:
    """One kind of fact: its dataset, and the output columns that its SELECT may have. ``amounts``: column to the column
    that names the asset whose decimals it has; it may be given in whole tokens (``amount``) or in native units
    (``amount_native``).
    """

    dataset: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    amounts: Dict[str, str]

    @property
    def columns(self) -> frozenset[str]:
        """Every output column that is known."""
        return frozenset(
            {*COMMON, *self.required, *self.optional, *self.amounts, *(f"{name}_native" for name in self.amounts)}
        )


COMMON = ("source_row", "block", "timestamp", "transaction_hash", "log_index", "identity", "rank", "problem", "aside")
"""Columns of every SELECT: ``source_row`` and one of ``block`` and ``timestamp`` are required. ``problem``: text that
quarantines the row; ``aside``: text that leaves it out on purpose, and says why.
"""

TARGETS: dict[str, ImportTarget] = {
    "flow": ImportTarget("raw/import/Flow", ("account", "asset", "action"), ("side",), {"amount": "asset"}),
    "liquidation": ImportTarget(
        "raw/import/Liquidation",
        ("account", "debt_asset", "collateral_asset"),
        ("liquidator",),
        {"repaid": "debt_asset", "debt_scaled": "debt_asset", "seized": "collateral_asset", "bad_debt": "debt_asset"},
    ),
    "parameter": ImportTarget("raw/import/Parameter", ("name", "value"), ("asset", "category", "decimals"), {}),
    "checkpoint": ImportTarget("raw/import/Checkpoint", ("asset", "side"), (), {"amount": "asset"}),
    "price": ImportTarget("raw/import/Price", ("asset", "kind", "price"), ("low", "high", "period"), {}),
}
ACTIONS: dict[str, tuple[str | None, int]] = {
    "supply": ("collateral", 1),
    "withdraw": ("collateral", -1),
    "borrow": ("debt", 1),
    "repay": ("debt", -1),
    "transfer_in": (None, 1),
    "transfer_out": (None, -1),
}
"""What a flow may be: the side that it changes (None: the SELECT says it) and the sign of its amount, which is given
without one.
"""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class MarketPart(_Strict, frozen=True):
    """What a market that the lake does not have yet is made of. ``name`` is the default of ``--market``; ``$x`` in
    ``parameters`` stands for the mapping's parameter x. ``queries_only``: the market's rows are there to be queried and
    are never folded, so that its protocol need not be able to.
    """

    name: str
    protocol: str
    chain_id: int
    start_block: int = 0
    base_currency: str = "USD"
    base_decimals: int = 8
    description: str = ""
    parameters: dict[str, str] = {}
    queries_only: bool = False


class ImportSource(_Strict, frozen=True):
    """Files with the same columns. ``lookup``: rows that the SELECTs may join to others, and that become nothing by
    themselves. ``separator``: between the fields of a CSV file, where it is not what the file's name says. ``rows``:
    where the rows are in a JSON document, names with points between (``data.moves``).
    """

    files: str
    columns: tuple[str, ...]
    optional: bool = False
    lookup: bool = False
    separator: str | None = None
    rows: str | None = None


class Rounding(_Strict, frozen=True):
    """Leave to round an amount that has more decimals than its asset, and why the export has them."""

    direction: Literal["down", "half-up"]
    reason: str


class Mapping(_Strict, frozen=True):
    """``mapping.toml``. ``assets`` gives the decimals of each; ``timezone`` is that of times without one, ``epoch``
    what those are counted in that are numbers; ``rounding`` names columns as ``flow.amount``.
    """

    description: str
    sources: dict[str, ImportSource]
    market: MarketPart | None = None
    assets: dict[str, int] = {}
    parameters: dict[str, str] = {}
    timezone: str | None = None
    epoch: Literal["seconds", "milliseconds", "microseconds", "nanoseconds"] = "seconds"
    rounding: dict[str, Rounding] = {}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A mapping with its SELECTs by target. ``where`` names its folder in messages."""

    name: str
    where: str
    body: Mapping
    selects: Dict[str, str]

    def zone(self) -> ZoneInfo | None:
        """The time zone of times that state none."""
        return ZoneInfo(self.body.timezone) if self.body.timezone else None

    def config(self, market: str | None, values: Dict[str, str]) -> MarketConfig | None:
        """The market that this mapping makes with these values of its parameters; None where it only adds to one."""
        part = self.body.market
        if part is None:
            return None
        return MarketConfig(
            name=market or part.name,
            protocol=part.protocol,
            chain_id=part.chain_id,
            start_block=part.start_block,
            contracts={},
            description=part.description,
            base_decimals=part.base_decimals,
            base_currency=part.base_currency,
            parameters={
                name: values[value[1:]] if value.startswith("$") else value for name, value in part.parameters.items()
            },
        )


def shipped() -> list[str]:
    """Names of the mappings that come with the package."""
    return sorted(path.parent.name for path in (resource("queries") / "import").glob("*/mapping.toml"))


def load(name: str) -> Loaded:
    """A mapping by its name or by the path of its folder; UserError in one line where it is not one."""
    folder = resource("queries") / "import" / name if name in shipped() else Path(name).expanduser()
    if not _is_folder(folder):
        raise UserError(
            f"there is no mapping '{shown(name)}'", f"{did_you_mean(name, shipped())} Or give the path of a folder"
        )
    called = shown(folder.resolve().name)
    path = folder / "mapping.toml"
    if not path.is_file():
        raise UserError(f"{shown(str(folder))} has no mapping.toml", "see docs/import.md")
    where = f"{called}/mapping.toml"
    body = _parsed(read_text(path), where)
    selects = {}
    for file in sorted(folder.glob("*.sql")):
        if file.stem not in TARGETS:
            raise UserError(
                f"{called}/{shown(file.name)} feeds no table",
                did_you_mean(f"{file.stem}.sql", [f"{target}.sql" for target in TARGETS]),
            )
        selects[file.stem] = read_text(file)
    if not selects:
        raise UserError(
            f"{shown(str(folder))} has no SELECT", f"write one of {', '.join(f'{target}.sql' for target in TARGETS)}"
        )
    _check(body, where)
    return Loaded(called, called, body, selects)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or holds NUL
        return False


def _parsed(text: str, where: str) -> Mapping:
    try:
        found = toml_value(text, Mapping)
    except Unreadable as error:
        message, unknown = str(error), re.search(r"unknown field `([^`]+)`", str(error))
        if unknown:
            raise UserError(f"{where}: {message}", did_you_mean(unknown[1], _fields(message))) from None
        is_toml = isinstance(error.__cause__, msgspec.ValidationError)
        raise UserError(
            f"{where}: {message}", "see docs/import.md" if is_toml else "it is not TOML; see docs/import.md"
        ) from None
    assert isinstance(found, Mapping)
    return found


def _fields(message: str) -> list[str]:
    """The fields of the table that a message is about."""
    path = re.search(r"at `\$\.?([^`]*)`", message)
    first = re.split(r"[.\[]", path[1])[0] if path else ""
    struct = {"market": MarketPart, "sources": ImportSource, "rounding": Rounding}.get(first, Mapping)
    kind = inspect.type_info(struct)
    assert isinstance(kind, inspect.StructType)
    return [field.name for field in kind.fields]


def _check_source(name: str, source: ImportSource, where: str) -> None:
    pattern = Path(source.files)
    if pattern.is_absolute() or not pattern.parts or ".." in pattern.parts or not source.files.isprintable():
        raise UserError(
            f"{where}: sources.{name}.files = '{shown(source.files)}'",
            "give a pattern below the folder of --folder, such as 'moves*.csv'; other files go by --source",
        )
    mark = source.separator
    if mark is not None and (len(mark) != 1 or mark.isalnum() or mark in "\"'\r\n.-+ " or mark == "\0"):
        raise UserError(
            f"{where}: sources.{name}.separator = '{shown(mark)}'", 'give one character, such as ";" or "\\t"'
        )
    if source.rows is not None and not all(source.rows.split(".")):
        raise UserError(
            f"{where}: sources.{name}.rows = '{shown(source.rows)}'", "give names with points between: data.moves"
        )


def _check_market(part: MarketPart, where: str) -> None:
    for field, value, least, most in (
        ("base_decimals", part.base_decimals, 0, 36),
        ("chain_id", part.chain_id, 1, 2**63 - 1),
        ("start_block", part.start_block, 0, 2**38),
    ):
        if not least <= value <= most:
            raise UserError(f"{where}: market.{field} = {value}", f"give a number from {least} to {most}")


def _check(body: Mapping, where: str) -> None:
    for kind, names in (("source", body.sources), ("parameter", body.parameters)):
        for name in names:
            if not _NAME.fullmatch(name):
                raise UserError(f"{where}: {kind} '{shown(name)}'", "use lower-case letters, digits and '_'")
    for name, source in body.sources.items():
        _check_source(name, source, where)
    if body.market is not None:
        _check_market(body.market, where)
    for asset, decimals in body.assets.items():
        if not 0 <= decimals <= 38 or asset != asset.lower():
            raise UserError(
                f"{where}: asset {shown(asset)} = {decimals}", "give a lower-case name and decimals from 0 to 38"
            )
    plain = {"value", "price", "low", "high"}
    known = [
        f"{target}.{column}" for target, spec in TARGETS.items() for column in (*spec.amounts, *(plain & spec.columns))
    ]
    for column, rounding in body.rounding.items():
        if column not in known:
            raise UserError(f"{where}: rounding of '{column}'", did_you_mean(column, known))
        if not rounding.reason.strip():
            raise UserError(
                f"{where}: rounding of '{column}' gives no reason",
                "say why the files have more decimals than the asset",
            )
    for name, value in (body.market.parameters if body.market else {}).items():
        if value.startswith("$") and value[1:] not in body.parameters:
            raise UserError(f"{where}: market.parameters.{name} = '{value}'", did_you_mean(value[1:], body.parameters))
    if body.timezone is not None:
        try:
            ZoneInfo(body.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise UserError(
                f"{where}: unknown timezone '{shown(body.timezone)}'", "give a name such as UTC or Europe/Berlin"
            ) from None
