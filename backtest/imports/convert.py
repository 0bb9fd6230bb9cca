"""The rows of a mapping's SELECT to the columns of its dataset: exact, and each row that is not what it should be with
its reason.

The columns that only all rows together can fill stay open here: ``block_number`` and ``timestamp`` may be null,
``log_index`` is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import UserError, did_you_mean
from backtest.foreign import shown
from backtest.imports.mapping import ACTIONS, TARGETS, Loaded
from backtest.imports.numbers import (
    BITCOIN,
    ETHEREUM,
    UNITS,
    digest32,
    plausible,
    printable,
    scaled,
    seconds,
    spelled,
    whole,
)
from backtest.imports.sources import Sources
from backtest.protocols.interface import LendingProtocol
from backtest.tables import IMPORTED
from backtest.units import WAD

T = TypeVar("T")
Column = list[Any]
_INT32 = 2**31
_BLOCKS = 2**38
_INDEXES = 2**20
_PERIODS = 2**32
_AHEAD = 60
"""Seconds that a time may be ahead of the clock: clocks differ."""
BONUS = "liquidation_bonus"
"""The parameter that the view ``liquidations`` reads of markets without state: one and the bonus, wad."""
_KINDS = ("market", "oracle", "source", "derived")
_NAMES = ("account", "liquidator", "asset", "debt_asset", "collateral_asset", "name", "identity")


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that cannot be taken. ``file`` and ``row`` say where it is; ``dataset`` what it would have become."""

    file: int
    row: int
    dataset: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of the rows of a SELECT. ``aside`` are left out on purpose."""

    table: pa.Table
    refused: list[RefusedRow]
    aside: list[RefusedRow]


def open_schema(dataset: str) -> pa.Schema:
    """The schema of a dataset whose rows have no place yet: block and time may be null."""
    loose = ("block_number", "timestamp")
    return pa.schema(
        [pa.field(field.name, field.type) if field.name in loose else field for field in IMPORTED[dataset]]
    )


def check_columns(target: str, table: pa.Table, loaded: Loaded) -> None:
    """UserError unless a SELECT has the columns that its target needs, and no other."""
    spec, names, where = TARGETS[target], set(table.schema.names), f"{loaded.where}/{target}.sql"
    for name in table.schema.names:
        if name not in spec.columns:
            raise UserError(f"{where}: unknown column '{name}'", did_you_mean(name, spec.columns))
    needed = [*spec.required, "source_row"]
    lacking = [name for name in needed if name not in names]
    if "amount" in spec.amounts and not names & {"amount", "amount_native"}:
        lacking.append("amount")
    if target == "liquidation" and not names & {"seized", "seized_native"}:
        lacking.append("seized")
    if not names & {"block", "timestamp"}:
        lacking.append("timestamp")
    if lacking:
        raise UserError(
            f"{where} has no column '{lacking[0]}'", f"add it; the columns of {target} are in docs/import.md"
        )


def convert(
    target: str,
    table: pa.Table,
    loaded: Loaded,
    sources: Sources,
    base_decimals: int,
    now: int,
    protocol: LendingProtocol[Any] | None = None,
    tokens: Mapping[str, int] = MappingProxyType({}),
) -> Converted:
    """The rows that can be taken, in ``open_schema``, those that cannot, and those that the SELECT leaves out.

    Args:
        target: flow, liquidation, parameter or price.
        table: what its SELECT returned, all text.
        base_decimals: decimals of the market's prices.
        now: seconds since 1970; nothing has happened later.
        protocol: what will fold the rows, where that is known: parameters that it does not have are refused.
        tokens: decimals of tokens by lower-case address, for assets that the mapping does not name.

    Raises:
        UserError: a ``source_row`` that is none: the SELECT must pass it on.
    """
    check_columns(target, table, loaded)
    return _Conversion(target, table, loaded, sources, base_decimals, now, protocol, tokens).result()


class _Conversion:
    def __init__(
        self,
        target: str,
        table: pa.Table,
        loaded: Loaded,
        sources: Sources,
        base_decimals: int,
        now: int,
        protocol: LendingProtocol[Any] | None,
        tokens: Mapping[str, int],
    ) -> None:
        self.target, self.spec, self.loaded, self.sources = target, TARGETS[target], loaded, sources
        self.rows, self.tokens = table.num_rows, tokens
        self.columns: Mapping[str, Column] = {
            column: pc.utf8_trim_whitespace(table[column]).to_pylist() for column in table.schema.names
        }
        self.bad: dict[int, str] = {}
        self.known = protocol.imported_parameters if protocol else None
        self.base_decimals, self.latest = base_decimals, now + _AHEAD
        self.where = f"{loaded.where}/{target}.sql"
        self.places = [self._place(text) for text in self.columns["source_row"]]

    def _place(self, text: str | None) -> tuple[int, int]:
        place = self.sources.place(text or "")
        if place is None:
            raise UserError(
                f"{self.where}: '{shown(text or '', 60)}' is no source_row",
                "pass on the column source_row of the source as it is",
            )
        return place

    def result(self) -> Converted:
        for row, problem in enumerate(self.text("problem")):
            if problem:
                self.bad[row] = problem
        aside = {row: why for row, why in enumerate(self.text("aside")) if why}
        for column in _NAMES:
            self.check_names(column)
        values = {**self.key(), **getattr(self, f"_{self.target}")()}
        values["identity"] = self.identity(values)
        keep = [row for row in range(self.rows) if row not in self.bad and row not in aside]
        schema = open_schema(self.spec.dataset)
        arrays = []
        for field in schema:
            kept = [values[field.name][row] for row in keep]
            if pa.types.is_decimal(field.type):
                kept = [None if value is None else Decimal(value) for value in kept]
            arrays.append(pa.array(kept, field.type))
        refused, left = (
            [RefusedRow(*self.places[row], self.spec.dataset, reason) for row, reason in sorted(rows.items())]
            for rows in ({row: reason for row, reason in self.bad.items() if row not in aside}, aside)
        )
        return Converted(pa.table(arrays, schema=schema), refused, left)

    # -- columns
    # -----------------------------------------------------------------------------------------------------------

    def text(self, name: str) -> Column:
        """A column, nulls where the SELECT lacks it; empty text is null."""
        return [value or None for value in self.columns[name]] if name in self.columns else [None] * self.rows

    def parsed(self, name: str, parse: Callable[..., T], *beside: Column) -> list[T | None]:
        """A column through ``parse``, which also gets the row's values ``beside`` it; a ValueError quarantines the row,
        null stays null.
        """
        out: list[T | None] = []
        for row, (value, *more) in enumerate(zip(self.text(name), *beside, strict=True)):
            try:
                out.append(None if value is None else parse(value, *more))
            except ValueError as error:
                out.append(None)
                self.bad.setdefault(row, f"{name}: {error}")
        return out

    def check_names(self, column: str) -> None:
        """Rows whose name in this column cannot be shown are quarantined."""
        texts = self.text(column) if column in self.columns else []
        wrong = {}
        for text in set(texts) - {None}:
            try:
                printable(text)
            except ValueError as error:
                wrong[text] = f"{column}: {error}"
        for row, text in enumerate(texts) if wrong else ():
            if text in wrong:
                self.bad.setdefault(row, wrong[text])

    def given(self, name: str, column: list[T | None]) -> list[T | None]:
        """The column; a row without a value is quarantined."""
        for row, value in enumerate(column):
            if value is None:
                self.bad.setdefault(row, f"{name}: no value")
        return column

    def amount(self, name: str) -> list[int | None]:
        """An amount in native units, not negative: each row gives it in whole tokens, or in native units under the
        column's name with ``_native`` behind it.
        """
        rounding = self.rounding(name)

        def native(value: str, asset: str | None) -> int:
            return _not_negative(value, scaled(value, self.decimals_of(asset), rounding))

        plain = self.parsed(f"{name}_native", lambda text: _not_negative(text, scaled(text, 0)))
        for row, (units, tokens) in enumerate(zip(plain, self.text(name), strict=True)):
            if units is not None and tokens is not None:
                self.bad.setdefault(
                    row, f"{name}: both '{shown(tokens, 60)}' whole and {units} native: give one of them"
                )
        whole_ones = self.parsed(name, native, self.text(self.spec.amounts[name]))
        return [units if units is not None else tokens for units, tokens in zip(plain, whole_ones, strict=True)]

    def decimals_of(self, asset: str | None) -> int:
        """Of an asset as the mapping says, else of a token of the market's chain that is known by its address."""
        name = spelled(asset or "")
        if name in self.loaded.body.assets:
            return self.loaded.body.assets[name]
        if name in self.tokens:
            return self.tokens[name]
        raise ValueError(
            f"the decimals of '{shown(asset or '', 60)}' are not known: say them under [assets] of mapping.toml"
        )

    def rounding(self, name: str) -> str | None:
        found = self.loaded.body.rounding.get(f"{self.target}.{name}")
        return found.direction if found else None

    def key(self) -> dict[str, Column]:
        """The columns of IMPORT_KEY."""
        zone, unit, latest = self.loaded.zone(), UNITS[self.loaded.body.epoch], self.latest
        kinds = self.text("kind") if self.target == "price" else [None] * self.rows

        def time(text: str, kind: str | None) -> int:
            return plausible(seconds(text, zone, unit), text, BITCOIN if kind == "market" else ETHEREUM, latest)

        blocks = self.parsed("block", lambda text: _below(whole(text), _BLOCKS))
        times = self.parsed("timestamp", time, kinds)
        own = self.parsed("log_index", lambda text: _below(whole(text), _INDEXES))
        for row in range(self.rows):
            if blocks[row] is None and times[row] is None:
                self.bad.setdefault(row, "neither block nor time")
        files = self.sources.files
        return {
            "block_number": list(blocks),
            "timestamp": list(times),
            "log_index": [0] * self.rows,
            "transaction_hash": self.parsed("transaction_hash", digest32),
            "ordered": [index is not None for index in own],
            "ambiguous": [False] * self.rows,
            "block_known": [block is not None for block in blocks],
            "own_index": list(own),
            "rank": [rank or 0 for rank in self.parsed("rank", lambda text: _below(whole(text), _INT32))],
            "source_digest": [files[file].digest for file, _ in self.places],
            "source_row": [row for _, row in self.places],
        }

    def identity(self, values: Mapping[str, Column]) -> list[str]:
        """What makes a row the same fact: what the SELECT says, else transaction and log, else file and row."""
        details = {
            "flow": ("account", "asset", "side"),
            "liquidation": (),
            "parameter": ("name", "asset", "category"),
            "price": ("asset", "kind", "period"),
            "checkpoint": ("asset", "side"),
        }[self.target]
        parts = [values[name] for name in details]
        out = []
        for row, declared in enumerate(self.text("identity")):
            if declared:
                out.append(declared)
                continue
            detail = "".join(f":{column[row]}" for column in parts)
            hash_, index = values["transaction_hash"][row], values["own_index"][row]
            if hash_ is not None and index is not None:
                out.append(f"0x{hash_.hex()}:{index}{detail}")
            elif self.target == "price" and values["timestamp"][row] is not None:
                out.append(f"{values['timestamp'][row]}{detail}")
            else:
                out.append(f"{values['source_digest'][row].hex()[:32]}:{values['source_row'][row]}{detail}")
        return out

    # -- targets
    # -----------------------------------------------------------------------------------------------------------

    def _flow(self) -> dict[str, Column]:
        amounts = self.given("amount", self.amount("amount"))
        assets = self.given("asset", self.parsed("asset", spelled))
        sides, actions = self.text("side"), self.text("action")
        signed: list[int | None] = []
        for row, (action, amount) in enumerate(zip(actions, amounts, strict=True)):
            if action not in ACTIONS:
                self.bad.setdefault(row, f"action: '{shown(action or '', 60)}' is none of {', '.join(ACTIONS)}")
                signed.append(None)
                continue
            side, sign = ACTIONS[action]
            sides[row] = sides[row] or side
            if sides[row] not in ("collateral", "debt") or side not in (None, sides[row]):
                self.bad.setdefault(row, f"side: '{shown(sides[row] or '', 60)}' of action '{action}'")
            signed.append(None if amount is None else sign * amount)
            actions[row] = "transfer" if side is None else action
        account = self.given("account", self.parsed("account", spelled))
        return {"account": account, "asset": assets, "side": sides, "action": actions, "amount": signed}

    def _liquidation(self) -> dict[str, Column]:
        return {
            "account": self.given("account", self.parsed("account", spelled)),
            "liquidator": self.parsed("liquidator", spelled),
            "debt_asset": self.given("debt_asset", self.parsed("debt_asset", spelled)),
            "collateral_asset": self.given("collateral_asset", self.parsed("collateral_asset", spelled)),
            "repaid": self.amount("repaid"),
            "debt_scaled": self.amount("debt_scaled"),
            "seized": self.given("seized", self.amount("seized")),
            "bad_debt": self.amount("bad_debt"),
        }

    def _checkpoint(self) -> dict[str, Column]:
        sides = self.text("side")
        for row, side in enumerate(sides):
            if side not in ("collateral", "debt"):
                self.bad.setdefault(row, f"side: '{shown(side or '', 60)}' is neither collateral nor debt")
        return {
            "asset": self.given("asset", self.parsed("asset", spelled)),
            "side": sides,
            "amount": self.given("amount", self.amount("amount")),
        }

    def _parameter(self) -> dict[str, Column]:
        rounding, decimals = self.rounding("value"), self.parsed("decimals", lambda text: _below(whole(text), 78))
        values = self.parsed("value", lambda text, places: scaled(text, places or 0, rounding), decimals)
        names = self.given("name", self.text("name"))
        for row, found in enumerate(names):
            if self.known is not None and found is not None and found not in self.known:
                self.bad.setdefault(
                    row, f"name: '{shown(found, 60)}' is no parameter; {did_you_mean(found, self.known)}"
                )
            elif self.known is None and found == BONUS and (value := values[row]) is not None and value < WAD:
                self.bad.setdefault(
                    row, f"value: a {BONUS} of {value}: give one and the bonus in wad (1.05, decimals 18)"
                )
        return {
            "name": names,
            "asset": self.parsed("asset", spelled),
            "category": self.parsed("category", lambda text: _below(whole(text), _INT32)),
            "value": self.given("value", values),
        }

    def _price(self) -> dict[str, Column]:
        def price(name: str) -> list[int | None]:
            rounding = self.rounding(name)
            return self.parsed(name, lambda text: _positive(text, scaled(text, self.base_decimals, rounding)))

        prices, low, high = self.given("price", price("price")), price("low"), price("high")
        kinds = self.given("kind", self.text("kind"))
        for row, (kind, value, least, most) in enumerate(zip(kinds, prices, low, high, strict=True)):
            if kind not in _KINDS:
                self.bad.setdefault(row, f"kind: '{shown(kind or '', 60)}' is none of {', '.join(_KINDS)}")
            if value is not None and ((least is not None and least > value) or (most is not None and most < value)):
                self.bad.setdefault(row, "the price is not between low and high")
        return {
            "asset": self.given("asset", self.parsed("asset", spelled)),
            "kind": kinds,
            "price": prices,
            "low": low,
            "high": high,
            "period": self.parsed("period", lambda text: _below(whole(text), _PERIODS)),
        }


def _not_negative(text: str, value: int) -> int:
    if value < 0:
        raise ValueError(f"'{shown(text, 60)}' is negative")
    return value


def _positive(text: str, value: int) -> int:
    if value <= 0:
        raise ValueError(f"'{shown(text, 60)}' is not above zero")
    return value


def _below(value: int, limit: int) -> int:
    if value >= limit:
        raise ValueError(f"{value} is too large")
    return value


def used(tables: Iterable[pa.Table]) -> set[str]:
    """The ``source_row`` of every row that some SELECT returned."""
    return {text for table in tables if "source_row" in table.schema.names for text in table["source_row"].to_pylist()}
