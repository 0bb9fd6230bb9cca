"""Raw logs to canonical tables: scaled positions, settings, indexes, liquidations, deficits, parameters.

Logs are streamed in segments of whole blocks and handled as columns; ``tokens`` says how a token log gives back a
scaled balance, ``bundles`` which logs are one action, ``params`` what the configuration was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtest.errors import RulesError
from backtest.markets import MarketConfig
from backtest.protocols.aave.addresses import Addresses
from backtest.protocols.aave.columns import (
    INCOMPLETE,
    address_text,
    amounts,
    category,
    event_columns,
    integers,
    numbers_of,
    rows,
    words,
)
from backtest.protocols.aave_v3 import bundles, token_rows
from backtest.protocols.aave_v3.accrual import SilentAccruals
from backtest.protocols.aave_v3.bundles import Codes, Keys
from backtest.protocols.aave_v3.frame import COLUMNS, Frame, build
from backtest.protocols.aave_v3.math import ray_mul_down, ray_mul_half_up
from backtest.protocols.aave_v3.native_amounts import moved as amounts_moved
from backtest.protocols.aave_v3.params import parameters
from backtest.protocols.aave_v3.reserves import (
    DISCOUNT_EVENT,
    FLAGS_AFTER_FROM_POOL,
    Listing,
    Versions,
)
from backtest.protocols.aave_v3.token_rows import Balances
from backtest.protocols.aave_v3.tokens import DIRECTED_COLLATERAL
from backtest.protocols.folding import Running
from backtest.protocols.interface import RawEvents
from backtest.tables import CANONICAL
from backtest.units import RAY
from backtest.words.columns import Words

SEGMENT_ROWS = 1 << 19

# Logs that no position depends on: one of them may be undecodable (a flash loan: recomputed interest then differs, and
# its comparison says so).
_UNUSED = frozenset(
    {
        "FlashLoan",
        "BackUnbacked",
        "IsolationModeTotalDebtUpdated",
        "MarketIdSet",
        "AddressSet",
        "AddressSetAsProxy",
        DISCOUNT_EVENT,
    }
)
_SETTINGS = ("collateral_enabled", "emode", "stable_principal", "stable_rate", "stable_since", "stable_moved")
_SIDES = ("collateral", "debt")
_DEFICIT_KINDS = ("created", "covered")
_LOW = (1 << 64) - 1


def fold(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold`` and ``fold_on``.

    Raises:
        RulesError: a token's revision is unknown, a needed log could not be decoded, or a scaled balance would fall
            below zero (logs are missing); each names its block.
        UserError: a revision was not read.
    """
    _refuse_quarantined(raw)
    listing = Listing.read(raw)
    versions = Versions(raw, listing)
    carried = (running or Running()).begin(lambda: (Addresses(), Balances(), SilentAccruals()))
    accounts, balances, silent = carried
    known = len(accounts)
    for segment in raw.segments(SEGMENT_ROWS, COLUMNS):
        yield from _Segment(config, listing, versions, accounts, balances, segment).tables(silent)
    yield "assets", _assets(config, raw, listing)
    yield "params", parameters(config, raw, listing, versions, accounts)
    yield "accounts", _accounts(config, accounts, known)


def _refuse_quarantined(raw: RawEvents) -> None:
    quarantine = raw.table("Quarantine").sort_by([("block_number", "ascending"), ("log_index", "ascending")])
    for row in quarantine.to_pylist():
        if row["event"] not in _UNUSED:
            raise RulesError(
                f"block {row['block_number']}, log {row['log_index']}: a {row['event']} log of"
                f" {address_text(row['address'])} could not be decoded ({row['reason']}), so positions after it are"
                " unknown",
                "look at it in raw/aave-v3/Quarantine; correct the market's contracts, or report it",
            )


def _accounts(config: MarketConfig, accounts: Addresses, start: int) -> pa.Table:
    ids = np.arange(start, len(accounts), dtype=np.int32)
    text = [address_text(address) for address in accounts.all(start)]
    return pa.table(
        [category((config.name,), ids * 0), pa.array(ids), pa.array(text, pa.string())], schema=CANONICAL["accounts"]
    )


def _assets(config: MarketConfig, raw: RawEvents, listing: Listing) -> pa.Table:
    """Metadata from ``raw/chain/Token``; without it the aToken's own decimals and its symbol. What e-mode categories
    take their price from, and is no reserve, follows: it has a price and nothing else.
    """
    known = {
        address_text(row["address"]): (row["symbol"], row["decimals"])
        for row in raw.table("raw/chain/Token").to_pylist()
    }
    own = {
        address_text(row["underlying_asset"]): (row["a_token_symbol"], row["a_token_decimals"])
        for row in rows(raw, "ATokenInitialized")
    }
    tokens: dict[tuple[int, str], str] = {(token.asset, token.kind): token.address for token in listing.tokens}
    body = []
    for asset, address in enumerate(listing.assets):
        if address not in known and address not in own:
            raise RulesError(f"nothing says the decimals of reserve {address}", INCOMPLETE)
        symbol, decimals = known.get(address) or own[address]
        body.append(
            {
                "market": config.name,
                "asset_id": asset,
                "asset": address,
                "symbol": symbol,
                "decimals": decimals,
                "collateral_token": tokens.get((asset, "collateral")),
                "debt_token": tokens.get((asset, "debt")),
            }
        )
    body += [
        {
            "market": config.name,
            "asset_id": asset,
            "asset": address,
            "symbol": f"emode-price-{address[2:8]}",
            "decimals": 0,
        }
        for address, asset in listing.priced.items()
        if asset >= len(listing.assets)
    ]
    return pa.Table.from_pylist(body, CANONICAL["assets"])


@dataclass
class _Effects:
    """Changes of scaled balances, one row an account touched, in chain order. ``row``: position in the frame."""

    row: Keys
    op: Codes
    rule: Codes
    unscaled: npt.NDArray[np.bool_]
    value: Words
    index: Words
    delta: Words

    def take(self, rows: npt.NDArray[np.bool_]) -> _Effects:
        return _Effects(**{name: column[rows] for name, column in vars(self).items()})


class _Segment:
    """The fold of one segment: rows that matter, their actions, and the tables they give."""

    def __init__(
        self,
        config: MarketConfig,
        listing: Listing,
        versions: Versions,
        accounts: Addresses,
        balances: Balances,
        segment: Mapping[str, pa.Table],
    ) -> None:
        self.market, self.listing, self.versions, self.segment = config.name, listing, versions, segment
        frame = build(segment, listing, accounts)
        for part, seq in versions.stretches(frame.seq):
            frame.flags_after[part] = versions.pool_at(seq) >= FLAGS_AFTER_FROM_POOL
        effects = self._effects(frame, accounts, balances)
        # What only printed interest is no part of any action.
        idle = np.zeros(len(frame.seq), np.bool_)
        idle[effects.row] = (effects.op < token_rows.OUT) & ~effects.delta.any(axis=1)
        if idle.any():
            effects = effects.take(~idle[effects.row])
            effects.row = (np.cumsum(~idle) - 1)[effects.row]
            frame = frame.take(~idle)
        self.frame, self.effects = frame, effects
        self.closed, self.action, self.fee = bundles.group(frame)

    def tables(self, silent: SilentAccruals) -> Iterator[tuple[str, pa.Table]]:
        """The segment's rows of every canonical table that it adds to."""
        liquidations = self._liquidations()
        taken_as_tokens = [row for row in liquidations.to_pylist() if row["receive_collateral_token"]]
        yield "position_events", self._positions()
        yield "setting_events", self._settings()
        yield (
            "indexes",
            silent.complete(self._indexes(), [(row, self.versions.pool_at(row["seq"])) for row in taken_as_tokens]),
        )
        yield "liquidations", liquidations
        yield "deficits", self._deficits()

    # -- positions -------------------------------------------------------------------------------------------------

    def _effects(self, frame: Frame, accounts: Addresses, balances: Balances) -> _Effects:
        parts: list[tuple[Keys, Codes, Words, Words, Words]] = []
        for event, ops in (
            ("Mint", (token_rows.MINT,)),
            ("Burn", (token_rows.BURN,)),
            ("BalanceTransfer", (token_rows.OUT, token_rows.IN)),
        ):
            place = np.flatnonzero(frame.of(event))
            if len(place):
                table = self.segment[event]
                value, index = words(table, "value"), words(table, "index")
                interest = np.zeros_like(value) if event == "BalanceTransfer" else words(table, "balance_increase")
                parts += [(place, np.full(len(place), code, np.int8), value, interest, index) for code in ops]
        if not parts:
            parts = [(np.zeros(0, np.int64), np.zeros(0, np.int8), *(np.zeros((0, 2), np.uint64),) * 3)]
        order = np.argsort(
            np.concatenate([2 * place + (op == token_rows.IN) for place, op, *_ in parts]), kind="stable"
        )
        row, op, value, interest, index = (np.concatenate(column)[order] for column in zip(*parts, strict=True))
        account, token = np.where(op == token_rows.IN, frame.b[row], frame.a[row]), frame.token[row]
        rule, unscaled = np.zeros(len(row), np.int8), np.zeros(len(row), np.bool_)
        for stretch, seq in self.versions.stretches(frame.seq[row]):
            rules, amounts_logged = self.versions.rules_at(seq)
            rule[stretch], unscaled[stretch] = rules[token[stretch]], amounts_logged[token[stretch]]
        below = (index[:, 1] < RAY >> 64) | ((index[:, 1] == RAY >> 64) & (index[:, 0] < RAY & _LOW))
        if below.any():
            self._fail(
                frame,
                row[int(np.argmax(below))],
                "an index below one ray",
                "the log is not what the token's code emits",
            )
        holder = account.astype(np.int64) * len(self.listing.tokens) + token
        code, failed, delta = balances.deltas(op, rule, unscaled, holder, value, interest, index)
        if code != token_rows.OK:
            who, where = address_text(accounts.all()[account[failed]]), self.listing.tokens[token[failed]].address
            what = "less than no" if code == token_rows.NEGATIVE else "more than 38 digits of"
            self._fail(
                frame,
                row[failed],
                f"{who} would hold {what} scaled units of {where}",
                "logs before it are missing: run backtest check",
            )
        return _Effects(row, op, rule, unscaled, value, index, delta)

    def _fail(self, frame: Frame, row: int, what: str, fix: str) -> None:
        raise RulesError(f"block {frame.block[row]}, log {frame.log[row]}: {what}", fix)

    def _columns(self, row: Keys) -> dict[str, pa.Array]:
        frame = self.frame
        return event_columns(self.market, frame.seq[row], frame.block[row], frame.log[row], frame.time[row])

    def _action_columns(self, row: Keys) -> dict[str, pa.Array]:
        return {
            "action": category(bundles.ACTIONS, self.action[row]),
            "action_seq": pa.array(self.frame.seq[self.closed[row]]),
        }

    def _positions(self) -> pa.Table:
        frame, effects = self.frame, self.effects
        itself = (effects.op >= token_rows.OUT) & (frame.a[effects.row] == frame.b[effects.row])
        moved = effects.delta.any(axis=1) & ~itself
        row, op = effects.row[moved], effects.op[moved]
        columns = self._columns(row)
        columns["account_id"] = pa.array(np.where(op == token_rows.IN, frame.b[row], frame.a[row]).astype(np.int32))
        columns["asset_id"] = pa.array(frame.asset[row].astype(np.int16))
        columns["side"] = category(_SIDES, frame.kind[row] == bundles.DEBT)
        columns["delta"] = amounts(effects.delta[moved])
        columns |= self._action_columns(row)
        closing, transfers = self.closed[row], op >= token_rows.OUT
        columns["amount"] = amounts_moved(
            frame,
            self.segment,
            closing,
            transfers,
            effects.rule[moved],
            effects.unscaled[moved],
            effects.value[moved],
            effects.index[moved],
        )
        return pa.table(columns, CANONICAL["position_events"])

    # -- settings --------------------------------------------------------------------------------------------------

    def _settings(self) -> pa.Table:
        frame = self.frame
        flags = np.flatnonzero((frame.kind == bundles.FLAG_ON) | (frame.kind == bundles.FLAG_OFF))
        modes = np.flatnonzero(frame.kind == bundles.EMODE)
        chosen = integers(self.segment["UserEModeSet"], "category_id")[frame.source_row[modes]] if len(modes) else modes
        row, setting, value = (
            [flags, modes],
            [np.zeros_like(flags), np.ones_like(modes)],
            [frame.kind[flags] == bundles.FLAG_ON, chosen],
        )
        for place, code, amount in self._stable():
            row.append(np.array([place]))
            setting.append(np.array([code]))
            value.append(np.array([amount], object))
        where, codes = np.concatenate(row), np.concatenate(setting)
        order = np.lexsort((codes, where))
        where, codes = where[order], codes[order]
        numbers = np.zeros((len(where), 2), np.uint64)
        whole = np.concatenate([part.astype(object) for part in value])[order] if len(row) > 2 else None
        if whole is None:
            numbers[:, 0] = np.concatenate(value)[order]
        else:
            numbers[:, 0], numbers[:, 1] = [int(v) & _LOW for v in whole], [int(v) >> 64 & _LOW for v in whole]
        columns = self._columns(where)
        columns["account_id"] = pa.array(frame.a[where].astype(np.int32))
        columns["setting"] = category(_SETTINGS, codes)
        columns["asset_id"] = pa.array(frame.asset[where].astype(np.int16), mask=frame.asset[where] < 0)
        columns["value"] = amounts(numbers)
        return pa.table({**columns, **self._action_columns(where)}, CANONICAL["setting_events"])

    def _stable(self) -> Iterator[tuple[int, int, int]]:
        """(row, setting, value) of stable debt (``StableDebtToken.mint`` and ``burn``, 3.0 and 3.1).

        A log gives the balance with interest, the interest, and the amount net of interest by which the principal
        changed. What the call itself moved is that amount without the interest: positive where debt was minted.
        """
        for event, sign in (("StableMint", 1), ("StableBurn", -1)):
            place = np.flatnonzero(self.frame.of(event)).tolist()
            for row, log in zip(place, self.segment[event].to_pylist() if place else (), strict=True):
                principal = int(log["current_balance"]) - int(log["balance_increase"]) + sign * int(log["amount"])
                yield row, 2, principal
                if not principal:
                    yield row, 3, 0
                elif sign > 0:
                    yield row, 3, int(log["new_rate"])
                yield row, 4, log["timestamp"] if principal else 0
                yield row, 5, sign * int(log["amount"]) - int(log["balance_increase"])

    # -- the pool's own tables -------------------------------------------------------------------------------------

    def _indexes(self) -> pa.Table:
        """``ReserveDataUpdated``, and one ray at no rate where a reserve is listed (``ReserveLogic.init``)."""
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
        columns["asset_id"] = pa.array(numbers_of(table, asset, self.listing.asset_set(), "reserve").astype(np.int16))
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
        columns["protocol_fee"] = pa.array([self._fee(int(fee)) for fee in self.fee[row]], pa.decimal128(38, 0))
        columns["receive_collateral_token"] = table["receive_a_token"]
        columns["debt_scaled"] = pa.nulls(len(row), pa.decimal128(38, 0))
        return pa.table(columns, CANONICAL["liquidations"])

    def _fee(self, row: int) -> int:
        """Native units of the fee transfer at a row (-1: none): what its scaled units are worth by the token's
        rounding.

        The call divided its fee by the index, so this can differ from the fee it computed by less than one index (in
        rays).
        """
        if row < 0:
            return 0
        effect = int(np.searchsorted(self.effects.row, row))
        value, index = (
            int(low) | int(high) << 64 for low, high in (self.effects.value[effect], self.effects.index[effect])
        )
        if self.effects.unscaled[effect]:
            return value
        return (
            ray_mul_down(value, index)
            if self.effects.rule[effect] == DIRECTED_COLLATERAL
            else ray_mul_half_up(value, index)
        )

    def _deficits(self) -> pa.Table:
        frame = self.frame
        row = np.flatnonzero((frame.kind == bundles.DEFICIT) | (frame.kind == bundles.COVER))
        if not len(row):
            return CANONICAL["deficits"].empty_table()
        columns = self._columns(row)
        created = frame.kind[row] == bundles.DEFICIT
        columns["account_id"] = pa.array(frame.a[row].astype(np.int32))
        columns["asset_id"] = pa.array(frame.asset[row].astype(np.int16))
        logged = {
            bundles.DEFICIT: ("DeficitCreated", "amount_created"),
            bundles.COVER: ("DeficitCovered", "amount_covered"),
        }
        found = []
        for place in row:
            event, column = logged[int(frame.kind[place])]
            found.append(self.segment[event][column][int(frame.source_row[place])].as_py())
        columns["amount"] = pa.array(found, pa.decimal128(38, 0))
        columns["kind"] = category(_DEFICIT_KINDS, ~created)
        closing = self.closed[row]
        columns["liquidation_seq"] = pa.array(
            frame.seq[closing], mask=~(created & (frame.kind[closing] == bundles.LIQUIDATION))
        )
        return pa.table(columns, CANONICAL["deficits"])
