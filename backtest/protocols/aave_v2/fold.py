"""Raw logs to canonical tables: scaled positions, settings, indexes, liquidations, parameters.

Logs are streamed in segments of whole blocks and handled as columns; ``bundles`` says which logs are one action. Every
token log says its native amount and the index that the call divided it by, so a scaled change needs no balance before
it (``rules.scaled_change``). Every write of a reserve's indexes is followed by ``ReserveDataUpdated``
(``ReserveLogic.sol`` updateState, updateInterestRates); V2 writes no debt off, so there are no deficits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtest.errors import RulesError
from backtest.markets import MarketConfig
from backtest.protocols.aave.addresses import Addresses
from backtest.protocols.aave.columns import (
    address_text,
    address_words,
    amounts,
    category,
    event_columns,
    integers,
    number_accounts,
    numbers_of,
    words,
)
from backtest.protocols.aave_v2 import bundles
from backtest.protocols.aave_v2.bundles import Codes, Keys, Numbers, Shorts
from backtest.protocols.aave_v2.params import parameters
from backtest.protocols.aave_v2.reserves import Listing, assets_table, refuse_other_units
from backtest.protocols.aave_v2.rules import scaled_change
from backtest.protocols.folding import Running
from backtest.protocols.interface import RawEvents
from backtest.tables import CANONICAL
from backtest.units import RAY
from backtest.words.columns import Words, over

SEGMENT_ROWS = 1 << 19

# Event, kind of row, what its place names, column of that, account column, second account column.
SOURCES: tuple[tuple[str, int, str, str, str, str], ...] = (
    ("Mint", bundles.MINT, "aToken", "address", "from", ""),
    ("Burn", bundles.BURN, "aToken", "address", "from", ""),
    ("BalanceTransfer", bundles.TRANSFER, "aToken", "address", "from", "to"),
    ("DebtMint", bundles.DEBT, "debt token", "address", "on_behalf_of", ""),
    ("DebtBurn", bundles.DEBT, "debt token", "address", "user", ""),
    ("StableMint", bundles.STABLE, "stable debt token", "address", "on_behalf_of", ""),
    ("StableBurn", bundles.STABLE, "stable debt token", "address", "user", ""),
    ("ReserveUsedAsCollateralEnabled", bundles.FLAG_ON, "reserve", "reserve", "user", ""),
    ("ReserveUsedAsCollateralDisabled", bundles.FLAG_OFF, "reserve", "reserve", "user", ""),
    ("Deposit", bundles.DEPOSIT, "reserve", "reserve", "on_behalf_of", ""),
    ("Withdraw", bundles.WITHDRAW, "reserve", "reserve", "user", ""),
    ("Borrow", bundles.BORROW, "reserve", "reserve", "on_behalf_of", ""),
    ("Repay", bundles.REPAY, "reserve", "reserve", "user", ""),
    ("Swap", bundles.SWAP, "reserve", "reserve", "user", ""),
    ("RebalanceStableBorrowRate", bundles.SWAP, "reserve", "reserve", "user", ""),
    ("LiquidationCall", bundles.LIQUIDATION, "reserve", "collateral_asset", "user", "liquidator"),
)
_MOVES: dict[str, tuple[tuple[int, bool], ...]] = {
    "Mint": ((1, False),),
    "Burn": ((-1, False),),
    "BalanceTransfer": ((-1, False), (1, True)),
    "DebtMint": ((1, False),),
    "DebtBurn": ((-1, False),),
}
"""Token log to its changes: sign, and whether it is of the second account."""
_AMOUNT = {"DebtBurn": "amount"}
_PLACE = ("block_number", "log_index")
_AMOUNTS: dict[str, tuple[str, ...]] = {
    **{event: (_AMOUNT.get(event, "value"), "index") for event in _MOVES},
    "StableMint": ("amount", "current_balance", "balance_increase", "new_rate"),
    "StableBurn": ("amount", "current_balance", "balance_increase"),
    "Borrow": ("borrow_rate",),
    "LiquidationCall": (
        "transaction_hash",
        "debt_asset",
        "debt_to_cover",
        "liquidated_collateral_amount",
        "receive_a_token",
    ),
}
COLUMNS: dict[str, tuple[str, ...]] = {
    **{
        event: (*_PLACE, "transaction_index", *(column for column in columns if column), *_AMOUNTS.get(event, ()))
        for event, _, _, *columns in SOURCES
    },
    "ReserveInitialized": (*_PLACE, "asset"),
    "ReserveDataUpdated": (
        *_PLACE,
        "reserve",
        "liquidity_rate",
        "stable_borrow_rate",
        "variable_borrow_rate",
        "liquidity_index",
        "variable_borrow_index",
    ),
}
"""What the fold reads of each event that it streams."""
_UNUSED = frozenset({"FlashLoan", "LendingPoolCollateralManagerUpdated"})
"""Logs that no position depends on: one of them may be undecodable."""
_SETTINGS = (
    *("collateral_enabled", "stable_principal", "stable_rate", "stable_since", "stable_loan_rate", "stable_moved"),
)
_SIDES = ("collateral", "debt")
_LOW = (1 << 64) - 1


def fold(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold`` and ``fold_on``.

    Raises:
        RulesError: a needed log could not be decoded, or names a token that is not the market's; names its block.
        UserError: a revision was not read, or prices have other decimals than the description says.
    """
    for row in raw.table("Quarantine").sort_by([("block_number", "ascending"), ("log_index", "ascending")]).to_pylist():
        if row["event"] not in _UNUSED:
            raise RulesError(
                f"block {row['block_number']}, log {row['log_index']}: a {row['event']} log of"
                f" {address_text(row['address'])} could not be decoded ({row['reason']}), so positions after it are"
                " unknown",
                "look at it in raw/aave-v2/Quarantine; correct the market's contracts, or report it",
            )
    refuse_other_units(config, raw)
    listing = Listing.read(raw)
    accounts, treasuries, offered = (running or Running()).begin(_begun)
    known = len(accounts)
    for segment in raw.segments(SEGMENT_ROWS, COLUMNS):
        folded = _Segment(config.name, listing, accounts, segment, offered)
        treasuries |= folded.treasuries() | treasuries
        yield from folded.tables()
        offered.clear()
        offered |= folded.offered
    yield "assets", assets_table(config, raw, listing)
    yield "params", parameters(config, raw, listing, treasuries)
    ids = np.arange(known, len(accounts), dtype=np.int32)
    text = [address_text(address) for address in accounts.all(known)]
    columns = [category((config.name,), ids * 0), pa.array(ids), pa.array(text, pa.string())]
    yield "accounts", pa.table(columns, schema=CANONICAL["accounts"])


def _begun() -> tuple[Addresses, dict[int, int], dict[int, int]]:
    """Accounts, treasuries by asset, and the rates last offered, of no history."""
    return Addresses(), {}, {}


@dataclass
class Frame:
    """Rows in chain order; ``source`` and ``source_row`` say where each comes from. Implements ``actions.Rows``."""

    seq: Keys
    block: Keys
    log: Numbers
    time: Keys
    tx: Keys
    kind: Codes
    asset: Shorts
    debt_asset: Shorts
    source: Codes
    source_row: Numbers
    a: Numbers
    b: Numbers

    def of(self, event: str) -> npt.NDArray[np.int64]:
        """The rows that come from this event."""
        return np.flatnonzero(self.source == next(i for i, source in enumerate(SOURCES) if source[0] == event))


def _frame(segment: Mapping[str, pa.Table], listing: Listing, accounts: Addresses) -> Frame:
    """All rows of a segment, sorted by seq."""
    known = listing.sets()
    parts: list[dict[str, Any]] = []
    for number, (event, kind, what, place, first, second) in enumerate(SOURCES):
        table = segment.get(event)
        if table is None or not table.num_rows:
            continue
        size, block = table.num_rows, integers(table, "block_number")
        part = {
            "seq": integers(table, "seq"),
            "block": block,
            "log": table["log_index"].to_numpy(),
            "time": integers(table, "timestamp"),
            "tx": block << 20 | table["transaction_index"].to_numpy(),
            "kind": np.full(size, kind, np.int8),
            "asset": numbers_of(table, place, known[what], what),
            "debt_asset": np.full(size, -1, np.int16),
            "source": np.full(size, number, np.int8),
            "source_row": np.arange(size, dtype=np.int32),
            "accounts": [address_words(table, column) if column else None for column in (first, second)],
        }
        if event == "LiquidationCall":
            part["debt_asset"] = numbers_of(table, "debt_asset", known["reserve"], "reserve")
        parts.append(part)
    if not parts:
        kinds = {Keys: np.int64, Numbers: np.int32, Shorts: np.int16, Codes: np.int8}
        return Frame(**{name: np.zeros(0, kinds[kind]) for name, kind in get_type_hints(Frame).items() if name != "of"})
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "accounts"}
    columns["a"], columns["b"] = number_accounts(parts, accounts)
    order = np.argsort(columns["seq"], kind="stable")
    return Frame(**{name: column[order] for name, column in columns.items()})


class _Segment:
    """The fold of one segment: rows that matter, their actions, and the tables they give."""

    def __init__(
        self,
        market: str,
        listing: Listing,
        accounts: Addresses,
        segment: Mapping[str, pa.Table],
        offered: Mapping[int, int],
    ) -> None:
        self.market, self.segment, self.reserves = market, segment, listing.sets()["reserve"]
        self.frame = _frame(segment, listing, accounts)
        self.closed, self.action = bundles.group(self.frame)
        self._offered = self._rates_offered(offered)
        self.offered = {asset: rates[-1] for asset, (_, rates) in self._offered.items()}
        """By asset, the rate of a new stable loan after the segment."""

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """The segment's rows of every canonical table that it adds to."""
        yield "position_events", self._positions()
        yield "setting_events", self._settings()
        yield "indexes", self._indexes()
        yield "liquidations", self._liquidations()

    def treasuries(self) -> dict[int, int]:
        """By asset, whom the first mint without a deposit went to."""
        rows = np.flatnonzero((self.frame.kind == bundles.MINT) & (self.action == bundles.ACTIONS.index("treasury")))[
            ::-1
        ]
        return dict(zip(self.frame.asset[rows].tolist(), self.frame.a[rows].tolist(), strict=True))

    def _columns(self, row: Keys) -> dict[str, pa.Array]:
        frame = self.frame
        return event_columns(self.market, frame.seq[row], frame.block[row], frame.log[row], frame.time[row])

    def _action_columns(self, row: Keys) -> dict[str, pa.Array]:
        return {
            "action": category(bundles.ACTIONS, self.action[row]),
            "action_seq": pa.array(self.frame.seq[self.closed[row]]),
        }

    def _positions(self) -> pa.Table:
        frame = self.frame
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        for event, moves in _MOVES.items():
            place = frame.of(event)
            if len(place):
                table = self.segment[event]
                value, index = words(table, _AMOUNT.get(event, "value")), words(table, "index")
                for signed, other in moves:
                    parts.append((place, np.full(len(place), signed), np.full(len(place), other), value, index))
        if not parts:
            return CANONICAL["position_events"].empty_table()
        row, sign, second, value, index = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(2 * row + second, kind="stable")
        row, sign, second, value, index = row[order], sign[order], second[order], value[order], index[order]
        below = (index[:, 1] < RAY >> 64) | ((index[:, 1] == RAY >> 64) & (index[:, 0] < RAY & _LOW))
        if below.any():
            where = row[int(np.argmax(below))]
            raise RulesError(
                f"block {frame.block[where]}, log {frame.log[where]}: an index below one ray",
                "the log is not what the token's code emits",
            )
        found = over(scaled_change, _widened(value), _widened(index), sign.astype(np.int64), rows=len(row))
        assert found.exact.all()  # 38 digits times a ray fit a word
        delta: Words = np.ascontiguousarray(found.columns[0][:, :2])
        itself = (frame.kind[row] == bundles.TRANSFER) & (frame.a[row] == frame.b[row])
        moved = delta.any(axis=1) & ~itself
        row, second, delta, value = row[moved], second[moved], delta[moved], value[moved]
        columns = self._columns(row)
        columns["account_id"] = pa.array(np.where(second, frame.b[row], frame.a[row]).astype(np.int32))
        columns["asset_id"] = pa.array(frame.asset[row].astype(np.int16))
        columns["side"] = category(_SIDES, frame.kind[row] == bundles.DEBT)
        columns["delta"] = amounts(delta)
        columns |= self._action_columns(row)
        columns["amount"] = amounts(value)
        return pa.table(columns, CANONICAL["position_events"])

    def _settings(self) -> pa.Table:
        frame = self.frame
        flags = np.flatnonzero((frame.kind == bundles.FLAG_ON) | (frame.kind == bundles.FLAG_OFF))
        found = (
            [(int(row), 0, int(frame.kind[row] == bundles.FLAG_ON)) for row in flags] if self._has_stable() else None
        )
        if found is None:  # flags alone, as columns
            row, codes = flags, np.zeros(len(flags), np.int64)
            values = np.zeros((len(flags), 2), np.uint64)
            values[:, 0] = frame.kind[flags] == bundles.FLAG_ON
        else:
            found = sorted([*found, *self._stable()])
            row, codes = (np.array([entry[place] for entry in found], np.int64) for place in (0, 1))
            # A change that takes is negative: two's complement.
            values = np.array([(value & _LOW, value >> 64 & _LOW) for _, _, value in found], np.uint64).reshape(-1, 2)
        columns = self._columns(row)
        columns["account_id"] = pa.array(frame.a[row].astype(np.int32))
        columns["setting"] = category(_SETTINGS, codes)
        columns["asset_id"] = pa.array(frame.asset[row].astype(np.int16))
        columns["value"] = amounts(values)
        return pa.table({**columns, **self._action_columns(row)}, CANONICAL["setting_events"])

    def _has_stable(self) -> bool:
        return bool((self.frame.kind == bundles.STABLE).any())

    def _stable(self) -> Iterator[tuple[int, int, int]]:
        """(row, setting, value) of stable debt (``StableDebtToken.sol`` mint, burn).

        A Mint of a new loan logs the amount beside the balance with interest; one that a repayment smaller than the
        interest leaves logs what of the interest stays, as a Burn logs what goes beside it. The setting
        ``stable_moved`` is what the call itself moved: positive where debt was made.
        """
        frame, paying = self.frame, {bundles.ACTIONS.index("repay"), bundles.ACTIONS.index("liquidation")}
        for event, minted in (("StableMint", True), ("StableBurn", False)):
            place = frame.of(event)
            logs = self.segment[event].to_pylist() if len(place) else []
            for row, log in zip(place.tolist(), logs, strict=True):
                amount, increase = int(log["amount"]), int(log["balance_increase"])
                before = int(log["current_balance"]) - increase
                if minted and int(self.action[row]) not in paying:
                    principal, moved = before + increase + amount, amount
                elif minted:
                    principal, moved = before + amount, amount - increase
                else:
                    principal, moved = before - amount, -amount - increase
                yield row, 1, principal
                if not principal:
                    yield row, 2, 0
                elif minted:
                    yield row, 2, int(log["new_rate"])
                yield row, 3, log["timestamp"] if principal else 0
                if minted and int(self.action[row]) not in paying:
                    yield row, 4, self._loan_rate(row)
                yield row, 5, moved

    def _loan_rate(self, row: int) -> int:
        """What a new stable loan pays (the log says the average with what was owed before): as the Borrow that closes
        it says, or as the reserve offered it when it was swapped or rebalanced.
        """
        frame, closing = self.frame, int(self.closed[row])
        if int(self.action[row]) == bundles.ACTIONS.index("borrow"):
            return int(self.segment["Borrow"]["borrow_rate"][int(frame.source_row[closing])].as_py())
        seqs, rates = self._offered.get(int(frame.asset[row]), ([], []))
        place = bisect_left(seqs, int(frame.seq[row])) - 1
        return rates[place] if place >= 0 else 0

    def _rates_offered(self, before: Mapping[int, int]) -> dict[int, tuple[list[int], list[int]]]:
        """By asset: positions from which a stable rate is offered, in order, and the rates (``ReserveDataUpdated``);
        all of them only where a loan of the segment needs one, else the last.
        """
        found: dict[int, tuple[list[int], list[int]]] = {asset: ([-1], [rate]) for asset, rate in before.items()}
        table = self.segment.get("ReserveDataUpdated")
        if table is None or not table.num_rows:
            return found
        seqs, numbers = integers(table, "seq"), numbers_of(table, "reserve", self.reserves, "reserve")
        for asset in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == asset)
            rows = rows if self._has_stable() else rows[-1:]
            rates = [int(rate) for rate in table["stable_borrow_rate"].take(pa.array(rows)).to_pylist()]
            known = found.setdefault(asset, ([], []))
            known[0].extend(seqs[rows].tolist())
            known[1].extend(rates)
        return found

    def _indexes(self) -> pa.Table:
        """``ReserveDataUpdated``, and one ray at no rate where a reserve is listed (``ReserveLogic.sol`` init)."""
        parts = []
        listed = self.segment.get("ReserveInitialized")
        if listed is not None and listed.num_rows:
            start = pa.array([RAY] * listed.num_rows, pa.decimal128(38, 0))
            zero = pa.array([0] * listed.num_rows, pa.decimal128(38, 0))
            parts.append(self._index_rows(listed, "asset", (start, start, zero, zero)))
        updated = self.segment.get("ReserveDataUpdated")
        if updated is not None and updated.num_rows:
            names = ("liquidity_index", "variable_borrow_index", "liquidity_rate", "variable_borrow_rate")
            parts.append(self._index_rows(updated, "reserve", tuple(updated[name] for name in names)))
        if not parts:
            return CANONICAL["indexes"].empty_table()
        return pa.concat_tables(parts).sort_by("seq") if len(parts) > 1 else parts[0]

    def _index_rows(self, table: pa.Table, asset: str, values: tuple[Any, ...]) -> pa.Table:
        columns = event_columns(
            self.market,
            integers(table, "seq"),
            integers(table, "block_number"),
            table["log_index"].to_numpy(),
            integers(table, "timestamp"),
        )
        columns["asset_id"] = pa.array(numbers_of(table, asset, self.reserves, "reserve"))
        names = ("supply_index", "borrow_index", "supply_rate", "borrow_rate")
        return pa.table({**columns, **dict(zip(names, values, strict=True))}, CANONICAL["indexes"])

    def _liquidations(self) -> pa.Table:
        frame = self.frame
        row = np.flatnonzero(frame.kind == bundles.LIQUIDATION)
        if not len(row):
            return CANONICAL["liquidations"].empty_table()
        table = self.segment["LiquidationCall"]
        columns = self._columns(row)
        columns["transaction_hash"] = table["transaction_hash"]
        columns["account_id"] = pa.array(frame.a[row].astype(np.int32))
        columns["liquidator_id"] = pa.array(frame.b[row].astype(np.int32))
        columns["debt_asset_id"] = pa.array(frame.debt_asset[row].astype(np.int16))
        columns["collateral_asset_id"] = pa.array(frame.asset[row].astype(np.int16))
        columns["repaid"], columns["seized"] = table["debt_to_cover"], table["liquidated_collateral_amount"]
        columns["protocol_fee"] = pa.array([0] * len(row), pa.decimal128(38, 0))
        columns["receive_collateral_token"] = table["receive_a_token"]
        columns["debt_scaled"] = pa.nulls(len(row), pa.decimal128(38, 0))
        return pa.table(columns, CANONICAL["liquidations"])


def _widened(values: Words) -> Words:
    """Rows of (low, high) words, not negative, as four digits."""
    found: Words = np.zeros((len(values), 4), np.uint64)
    found[:, :2] = values
    return found
