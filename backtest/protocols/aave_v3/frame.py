"""The logs of one segment that move positions or bound actions, as columns in chain order, accounts and assets as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import RulesError
from backtest.protocols.aave_v3 import actions as act
from backtest.protocols.aave_v3.events import address_text
from backtest.protocols.aave_v3.kernel import Words
from backtest.protocols.aave_v3.reserves import Listing, address_set
from backtest.tables import AMOUNT

Numbers = npt.NDArray[np.int64]

# Event, kind of row, column that names asset or token, account column, second account column.
SOURCES: tuple[tuple[str, int, str, str, str], ...] = (
    ("Mint", act.COLLATERAL, "address", "on_behalf_of", ""),
    ("Burn", act.COLLATERAL, "address", "from", ""),
    ("BalanceTransfer", act.TRANSFER, "address", "from", "to"),
    ("StableMint", act.STABLE, "address", "on_behalf_of", ""),
    ("StableBurn", act.STABLE, "address", "from", ""),
    ("ReserveUsedAsCollateralEnabled", act.FLAG_ON, "reserve", "user", ""),
    ("ReserveUsedAsCollateralDisabled", act.FLAG_OFF, "reserve", "user", ""),
    ("DeficitCreated", act.DEFICIT, "debt_asset", "user", ""),
    ("Supply", act.SUPPLY, "reserve", "on_behalf_of", ""),
    ("MintUnbacked", act.SUPPLY, "reserve", "on_behalf_of", ""),
    ("Withdraw", act.WITHDRAW, "reserve", "user", ""),
    ("Borrow", act.BORROW, "reserve", "on_behalf_of", ""),
    ("Repay", act.REPAY, "reserve", "user", ""),
    ("MintedToTreasury", act.TREASURY, "reserve", "", ""),
    ("DeficitCovered", act.COVER, "reserve", "caller", ""),
    ("UserEModeSet", act.EMODE, "", "user", ""),
    ("SwapBorrowRateMode", act.SWAP, "reserve", "user", ""),
    ("RebalanceStableBorrowRate", act.SWAP, "reserve", "user", ""),
    ("LiquidationCall", act.LIQUIDATION, "collateral_asset", "user", "liquidator"),
    ("ATokenInitialized", act.INITIALIZED, "underlying_asset", "treasury", ""),
)
TOKEN_SOURCES = ("Mint", "Burn", "BalanceTransfer")
STABLE_SOURCES = ("StableMint", "StableBurn")

_PLACE = ("block_number", "log_index")
_AMOUNTS: dict[str, tuple[str, ...]] = {
    "Mint": ("value", "balance_increase", "index"),
    "Burn": ("value", "balance_increase", "index"),
    "BalanceTransfer": ("value", "index"),
    "StableMint": ("amount", "current_balance", "balance_increase", "new_rate"),
    "StableBurn": ("amount", "current_balance", "balance_increase"),
    "DeficitCreated": ("amount_created",),
    "DeficitCovered": ("amount_covered",),
    "UserEModeSet": ("category_id",),
    "LiquidationCall": ("transaction_hash", "debt_asset", "debt_to_cover", "liquidated_collateral_amount", "receive_a_token"),
}
COLUMNS: dict[str, tuple[str, ...]] = {
    **{event: (*_PLACE, "transaction_index", *(column for column in columns if column), *_AMOUNTS.get(event, ())) for event, _, *columns in SOURCES},
    "ReserveInitialized": (*_PLACE, "asset"),
    "ReserveDataUpdated": (*_PLACE, "reserve", "liquidity_rate", "variable_borrow_rate", "liquidity_index", "variable_borrow_index"),
}
"""What the fold reads of each event that it streams."""


def words(table: pa.Table, column: str) -> Words:
    """A DECIMAL(38, 0) column as rows of (low, high) 64-bit words."""
    array = _whole(table[column])
    found = np.frombuffer(array.buffers()[1], np.uint64)
    return found[2 * array.offset : 2 * (array.offset + len(array))].reshape(-1, 2)


def amounts(values: Words) -> pa.Array:
    """Rows of (low, high) words, two's complement, as DECIMAL(38, 0)."""
    return pa.Array.from_buffers(AMOUNT, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def integers(table: pa.Table, column: str) -> Numbers:
    """An integer column without nulls as int64."""
    found: Numbers = table[column].to_numpy().astype(np.int64, copy=False)
    return found


def numbers_of(table: pa.Table, column: str, known: pa.Array, what: str) -> Numbers:
    """Addresses as their position in ``known``; RulesError names one that is not in it."""
    found = pc.index_in(_whole(table[column]), value_set=known)
    if found.null_count:
        row = pc.index(pc.is_null(found), True).as_py()
        address, block = address_text(table[column][row].as_py()), table["block_number"][row].as_py()
        raise RulesError(f"block {block}: {address} is not a {what} of this market", "fetch the market from its start block on")
    numbers: Numbers = found.to_numpy().astype(np.int64)
    return numbers


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


class Accounts:
    """Accounts, dense in order of first appearance: by log, within a log the one that loses (or is acted on) first."""

    def __init__(self) -> None:
        self.ids: dict[bytes, int] = {}

    def number(self, addresses: pa.Array, order: Numbers) -> Numbers:
        """Ids of ``addresses`` (-1 for null); new ones are numbered by the least ``order`` they come with."""
        encoded = addresses.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy()
        distinct = encoded.dictionary.to_pylist()
        first = np.full(len(distinct) + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, codes, order)  # code -1 is the spare last element
        ids = self.ids
        for code in np.argsort(first[:-1], kind="stable").tolist():
            ids.setdefault(distinct[code], len(ids))
        table: Numbers = np.array([*(ids[address] for address in distinct), -1], np.int64)
        numbers: Numbers = table[codes]
        return numbers


@dataclass
class Frame:
    """Rows in chain order; ``source`` and ``source_row`` say where each comes from. Implements ``actions.Rows``."""

    seq: Numbers
    block: Numbers
    log: npt.NDArray[np.int32]
    time: Numbers
    tx: Numbers
    kind: npt.NDArray[np.int8]
    asset: Numbers
    debt_asset: Numbers
    token: Numbers
    a: Numbers
    b: Numbers
    receives: npt.NDArray[np.int8]
    flags_after: npt.NDArray[np.int8]
    source: npt.NDArray[np.int8]
    source_row: Numbers

    def take(self, rows: npt.NDArray[Any]) -> Frame:
        """The rows of a mask or of positions."""
        return Frame(**{name: column[rows] for name, column in vars(self).items()})

    def of(self, *events: str) -> npt.NDArray[np.bool_]:
        """Which rows come from these events."""
        return np.isin(self.source, [number for number, source in enumerate(SOURCES) if source[0] in events])


def build(segment: Mapping[str, pa.Table], listing: Listing, accounts: Accounts) -> Frame:
    """All rows of a segment, sorted by seq."""
    assets, tokens = listing.asset_set(), listing.token_set()
    stable_tokens = address_set([address for address, _ in listing.stable_tokens])
    token_asset = np.array([token.asset for token in listing.tokens], np.int64)
    token_is_debt = np.array([token.kind == "debt" for token in listing.tokens], np.bool_)
    stable_asset = np.array([asset for _, asset in listing.stable_tokens], np.int64)
    parts: list[dict[str, Any]] = []
    addresses: list[pa.Array] = []
    for number, (event, kind, place, first, second) in enumerate(SOURCES):
        table = segment.get(event)
        if table is None or not table.num_rows:
            continue
        size = table.num_rows
        part = {
            "seq": integers(table, "seq"),
            "block": integers(table, "block_number"),
            "log": table["log_index"].to_numpy(),
            "time": integers(table, "timestamp"),
            "tx": integers(table, "block_number") << 20 | integers(table, "transaction_index"),
            "kind": np.full(size, kind, np.int8),
            "debt_asset": np.full(size, -1, np.int64),
            "token": np.full(size, -1, np.int64),
            "receives": np.zeros(size, np.int8),
            "flags_after": np.zeros(size, np.int8),
            "source": np.full(size, number, np.int8),
            "source_row": np.arange(size),
        }
        if event in TOKEN_SOURCES:
            part["token"] = numbers_of(table, place, tokens, "token")
            part["asset"] = token_asset[part["token"]]
            if event != "BalanceTransfer":
                part["kind"] = np.where(token_is_debt[part["token"]], act.DEBT, act.COLLATERAL).astype(np.int8)
        elif event in STABLE_SOURCES:
            part["asset"] = stable_asset[numbers_of(table, place, stable_tokens, "stable debt token")]
        else:
            part["asset"] = numbers_of(table, place, assets, "reserve") if place else np.full(size, -1, np.int64)
        if event == "LiquidationCall":
            part["debt_asset"] = numbers_of(table, "debt_asset", assets, "reserve")
            part["receives"] = table["receive_a_token"].to_numpy().astype(np.int8)
        parts.append(part)
        addresses += [_whole(table[column]) if column else pa.nulls(size, pa.binary(20)) for column in (first, second)]
    if not parts:
        return _empty()
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # Account columns alternate by part: the first account of a log comes before the second.
    order = np.concatenate([2 * part["seq"] + place for part in parts for place in (0, 1)])
    ids = accounts.number(pa.concat_arrays(addresses), order)
    sizes = np.cumsum([0, *(len(part["seq"]) for part in parts for _ in (0, 1))])
    columns["a"] = np.concatenate([ids[sizes[2 * i] : sizes[2 * i + 1]] for i in range(len(parts))])
    columns["b"] = np.concatenate([ids[sizes[2 * i + 1] : sizes[2 * i + 2]] for i in range(len(parts))])
    return Frame(**columns).take(np.argsort(columns["seq"], kind="stable"))


def _empty() -> Frame:
    kinds = {"log": np.int32, "kind": np.int8, "receives": np.int8, "flags_after": np.int8, "source": np.int8}
    return Frame(**{name: np.zeros(0, kinds.get(name, np.int64)) for name in Frame.__dataclass_fields__})
