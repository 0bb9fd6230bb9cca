"""Raw logs of one Morpho Blue market to canonical tables.

Each log is one action. Interest: a log of an accrual gives a parameter with the recorded rate (``accrued``, or
``accrued_with_action`` where an action of the same transaction made it) and a row of ``indexes`` with share prices. The
book of ``state`` runs along, so that every recorded amount of interest and of fee shares is checked against the rules.

A pre-liquidation is a repayment and a withdrawal by the contract that the borrower authorised, and a log of that
contract behind them: it becomes one liquidation. Its terms are parameters whose category is the contract's number, in
the order in which contracts were made; who authorised it is a setting of the account. Whoever authorised a contract
before it was made (its address is known in advance) does so, here, where it is made.

Of a vault that lends here (MetaMorpho) its cap and its places in its queues are parameters whose category is the
vault's account number.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.model import AUTHORIZE, AccountId, Asset, AssetId, Market, ParamChange, PositionChange, Side
from backtest.protocols.folding import BookRows, Rows, Running, listed_rows, refuse_quarantined
from backtest.protocols.interface import RawEvents
from backtest.protocols.morpho_blue.events import ID, address_text, created, metadata, pre_liquidations, price_decimals
from backtest.protocols.morpho_blue.state import (
    COLLATERAL,
    LOAN,
    PRE_LIQUIDATION,
    RULES_REVISION,
    SHARE_DECIMALS,
    MorphoState,
    apply,
    index_update,
    open_state,
)
from backtest.tables import CANONICAL

SEGMENT_ROWS = 1 << 18

# Event: whose account, action, asset, side, sign.
_MOVES: Mapping[str, tuple[str, str, AssetId, Side, int]] = {
    "Supply": ("on_behalf", "supply", LOAN, "collateral", 1),
    "Withdraw": ("on_behalf", "withdraw", LOAN, "collateral", -1),
    "Borrow": ("on_behalf", "borrow", LOAN, "debt", 1),
    "Repay": ("on_behalf", "repay", LOAN, "debt", -1),
    "SupplyCollateral": ("on_behalf", "supply", COLLATERAL, "collateral", 1),
    "WithdrawCollateral": ("on_behalf", "withdraw", COLLATERAL, "collateral", -1),
}
_ACCRUES = frozenset({"Supply", "Withdraw", "Borrow", "Repay", "WithdrawCollateral", "Liquidate"})
_OUTSIDE = frozenset(  # of other contracts, or of no market
    {
        "BorrowRateUpdate", "SetFeeRecipient", "CreatePreLiquidation", "PreLiquidate", "SetAuthorization", "SetCap",
        "SetSupplyQueue", "SetWithdrawQueue",
    }
)  # fmt: skip
_COLUMNS = {
    "CreateMarket": ("lltv",),
    "SetFee": ("new_fee",),
    **dict.fromkeys(("Supply", "Withdraw", "Borrow", "Repay"), ("on_behalf", "assets", "shares")),
    **dict.fromkeys(("SupplyCollateral", "WithdrawCollateral"), ("on_behalf", "assets")),
    "Liquidate": (
        "caller",
        "borrower",
        "repaid_assets",
        "repaid_shares",
        "seized_assets",
        "bad_debt_assets",
        "bad_debt_shares",
        "transaction_hash",
    ),
    "AccrueInterest": ("prev_borrow_rate", "interest", "fee_shares"),
    "SetFeeRecipient": ("new_fee_recipient",),
    "BorrowRateUpdate": ("rate_at_target",),
    "SetCap": ("address", "id", "cap"),
    "SetSupplyQueue": ("address", "new_supply_queue"),
    "SetWithdrawQueue": ("address", "new_withdraw_queue"),
}
_QUEUES = {
    "SetSupplyQueue": ("supply_place", "new_supply_queue"),
    "SetWithdrawQueue": ("withdraw_place", "new_withdraw_queue"),
}
"""A vault's parameter, and the event's column: ids of markets, in order."""
_BY_CONTRACT = {
    **dict.fromkeys(("Repay", "WithdrawCollateral"), ("caller", "on_behalf", "assets")),
    "CreatePreLiquidation": ("pre_liquidation",),
    "PreLiquidate": (
        "address",
        "liquidator",
        "borrower",
        "repaid_assets",
        "repaid_shares",
        "seized_assets",
        "transaction_hash",
    ),
    "SetAuthorization": ("authorizer", "authorized", "new_is_authorized"),
}
"""Columns where the market has pre-liquidation contracts."""
_OF_CONTRACT = ("Repay", "WithdrawCollateral")
_BOUND = 10**38
_SHARES: Mapping[Side, str] = {"collateral": "supply_shares", "debt": "borrow_shares"}
_KEY = ("block_number", "log_index", "transaction_index")


def fold(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold`` and ``fold_on``.

    Raises:
        RulesError: a log could not be decoded, interest or fee shares differ from what the rules give (logs are
            missing); names its block.
        UserError: the market was not created yet, or the price decimals of its description are not those of its oracle.
    """
    refuse_quarantined(
        raw,
        "look at it in raw/morpho-blue/Quarantine; a market whose amounts need more than 38 digits is not supported",
    )
    market = _market(config, raw)
    folding = (running or Running()).begin(lambda: _Folding(market))
    folding.read(raw)
    known = len(folding.ids)
    columns = {event: [*_KEY, *own] for event, own in _COLUMNS.items()}
    if folding.contracts:
        for event, own in _BY_CONTRACT.items():
            columns[event] = list(dict.fromkeys([*columns.get(event, _KEY), *own]))
    for segment in raw.segments(SEGMENT_ROWS, columns):
        for name, rows in folding.segment(segment).items():
            yield name, pa.Table.from_pylist(rows, CANONICAL[name])
    yield from listed_rows(market, folding.ids, known)


def _market(config: MarketConfig, raw: RawEvents) -> Market:
    row = created(raw)
    if row is None:
        raise UserError(
            f"market '{config.name}' was not created by the last block fetched",
            "check parameters.id of the market, or fetch further",
        )
    decimals = price_decimals(raw)
    if config.price_decimals != decimals:
        raise UserError(
            f"market '{config.name}': price_decimals = {config.price_decimals}, its oracle's price has {decimals} (36 +"
            " loan - collateral decimals)",
            f"write price_decimals = {decimals} in the market's description",
        )
    assets = []
    for number, name in enumerate(("loan_token", "collateral_token")):
        token = address_text(row[name])
        assets.append(Asset(AssetId(number), token, *metadata(raw, token)))
    return Market(
        name=config.name,
        protocol=config.protocol,
        chain_id=config.chain_id,
        assets=tuple(assets),
        accounts=(),
        base_decimals=config.base_decimals,
        price_decimals=config.price_decimals,
    )


@dataclass(frozen=True, slots=True)
class _Contract:
    """A pre-liquidation contract: its number among the market's, the log that made it, its terms as parameters, and
    what accounts had said of it before.
    """

    number: int
    seq: int
    terms: Mapping[str, int]
    before: Mapping[bytes, bool]


def _contracts(raw: RawEvents) -> dict[bytes, _Contract]:
    """A close factor without a bound, and an oracle that is not the market's, make its terms unknown."""
    rows = pre_liquidations(raw)
    if not rows:
        return {}
    market = created(raw)
    assert market is not None
    said = raw.table("SetAuthorization").to_pylist()
    found = {}
    for number, row in enumerate(rows):
        most = int.from_bytes(row["pre_lcf2"], "big")
        known = row["pre_liquidation_oracle"] == market["oracle"] and most < _BOUND
        terms = {name: int(row[name]) for name in ("pre_lltv", "pre_lcf1", "pre_lif1", "pre_lif2")}
        terms |= {"pre_lcf2": most if most < _BOUND else 0, "pre_known": int(known)}
        before = {
            each["authorizer"]: each["new_is_authorized"]
            for each in said
            if each["authorized"] == row["pre_liquidation"] and each["seq"] < row["seq"]
        }
        found[row["pre_liquidation"]] = _Contract(number, row["seq"], terms, before)
    return found


class _Folding(BookRows[MorphoState]):
    """The book as of the last log, and ids of accounts in order of first appearance."""

    def __init__(self, market: Market) -> None:
        super().__init__(market, open_state(market), apply)
        self._holders: set[int] = set()
        self.contracts: dict[bytes, _Contract] = {}
        """Pre-liquidation contracts of the market, as the whole history so far tells, by address."""
        self._closes: dict[int, int] = {}
        self._next_rate: dict[int, int] = {}
        self._first_rate = 0
        self._market_id = b""
        self._places: dict[tuple[bytes, str], int] = {}

    def read(self, raw: RawEvents) -> None:
        """What the history as a whole says."""
        self._market_id = bytes.fromhex(raw.parameters[ID].removeprefix("0x"))
        accruals = raw.table("AccrueInterest").select(["seq", "prev_borrow_rate"])
        following = list(
            zip(accruals["seq"].to_pylist()[1:], map(int, accruals["prev_borrow_rate"].to_pylist()[1:]), strict=True)
        )
        # After each accrual the rate of the period that then begins: known from the next one.
        self._next_rate = dict(zip(accruals["seq"].to_pylist(), (rate for _, rate in following), strict=False))
        self._first_rate = int(accruals["prev_borrow_rate"][0].as_py()) if accruals.num_rows else 0
        self.contracts = _contracts(raw)

    def segment(self, tables: Mapping[str, pa.Table]) -> Rows:
        """Rows of all tables that these logs add to."""
        logs = sorted(
            ((row["seq"], event, row) for event, table in tables.items() for row in table.to_pylist()),
            key=lambda log: log[0],
        )
        own = [
            (place, event, (row["block_number"], row["transaction_index"]))
            for place, (_, event, row) in enumerate(logs)
            if event not in _OUTSIDE
        ]
        after = {place: event for (place, _, here), (_, event, there) in itertools.pairwise(own) if here == there}
        self._closes = self._calls_of_contracts(logs) if tables.keys() >= {"PreLiquidate"} else {}
        self._rows = defaultdict(list)
        for place, (_, event, row) in enumerate(logs):
            self._at(row)
            if event in _MOVES:
                self._move(event, row)
            elif event == "AccrueInterest":
                self._accrue(row, "accrued_with_action" if after.get(place) in _ACCRUES else "accrued")
            elif event == "Liquidate":
                self._liquidate(row)
            elif event == "PreLiquidate":
                self._pre_liquidated(row)
            elif event == "CreatePreLiquidation":
                self._create(row)
            elif event == "SetAuthorization":
                self._authorize(row)
            elif event == "SetCap":
                self._cap(row)
            elif event in _QUEUES:
                self._queue(row, *_QUEUES[event])
            else:
                self._set(event, row)
        return self._rows

    def _calls_of_contracts(self, logs: Sequence[tuple[int, str, Mapping[str, Any]]]) -> dict[int, int]:
        """Seq of a repayment or withdrawal that a pre-liquidation made, to that of the log which says so: the last ones
        before it, in the same transaction, with the same amounts.
        """
        found: dict[int, int] = {}
        waiting: list[tuple[int, str, Mapping[str, Any]]] = []
        transaction = None
        for seq, event, row in logs:
            if (here := (row["block_number"], row["transaction_index"])) != transaction:
                waiting, transaction = [], here
            if event in _OF_CONTRACT and row["caller"] in self.contracts:
                waiting.append((seq, event, row))
            if event != "PreLiquidate":
                continue
            for wanted, amount in (("Repay", row["repaid_assets"]), ("WithdrawCollateral", row["seized_assets"])):
                made = (wanted, row["address"], row["borrower"], amount)
                own = [
                    each
                    for each in waiting
                    if (each[1], each[2]["caller"], each[2]["on_behalf"], each[2]["assets"]) == made
                ]
                if not own:
                    raise RulesError(
                        f"block {row['block_number']}, log {row['log_index']}: a pre-liquidation without its {wanted}",
                        "logs before it are missing: run backtest check",
                    )
                waiting.remove(own[-1])
                found[own[-1][0]] = seq
        return found

    # -- one log -----------------------------------------------------------------------------------------------------

    def _move(self, event: str, row: Mapping[str, Any]) -> None:
        whose, action, asset, side, sign = _MOVES[event]
        account, assets = self._id(row[whose]), int(row["assets"])
        closes = self._closes.get(row["seq"])
        if closes is not None:
            action = "liquidation"
        self._position(
            account, asset, side, sign * int(row["shares"] if asset == LOAN else assets), action, assets, closes
        )
        if asset == LOAN:
            self._index()
        if event == "SupplyCollateral" and account not in self._holders:
            self._holders.add(account)
            self._setting(account, "collateral_enabled", COLLATERAL, 1, action)

    def _accrue(self, row: Mapping[str, Any], name: str) -> None:
        totals, seq = self.state.totals, row["seq"]
        before = totals.borrow_assets, totals.supply_shares
        self._param(name, int(row["prev_borrow_rate"]), LOAN)
        ours = totals.borrow_assets - before[0], totals.supply_shares - before[1]
        theirs = int(row["interest"]), int(row["fee_shares"])
        if ours != theirs:
            raise RulesError(
                f"block {row['block_number']}, log {row['log_index']}: interest and fee shares {theirs} in the log,"
                f" {ours} by the rules",
                "logs before it are missing: run backtest check",
            )
        if theirs[1]:
            if self.state.fee_recipient is None:  # never set: the contract's variable is zero
                self._param("fee_recipient", self._id(bytes(20)))
            assert self.state.fee_recipient is not None
            self._position(self.state.fee_recipient, LOAN, "collateral", theirs[1], "treasury", 0)
        totals.rate = self._next_rate.get(seq, int(row["prev_borrow_rate"]))
        self._index()

    def _liquidate(self, row: Mapping[str, Any]) -> None:
        account, liquidator = self._id(row["borrower"]), self._id(row["caller"])
        repaid, shares, seized, lost, lost_shares = (
            int(row[name])
            for name in ("repaid_assets", "repaid_shares", "seized_assets", "bad_debt_assets", "bad_debt_shares")
        )
        self._position(account, LOAN, "debt", -shares, "liquidation", repaid)
        self._position(account, COLLATERAL, "collateral", -seized, "liquidation", seized)
        if lost_shares:
            self._position(account, LOAN, "debt", -lost_shares, "liquidation", lost)
            self._setting(account, "bad_debt", LOAN, lost, "liquidation")
            self._add(
                "deficits", account_id=account, asset_id=LOAN, amount=lost, kind="created", liquidation_seq=row["seq"]
            )
        self._add(
            "liquidations",
            transaction_hash=row["transaction_hash"],
            account_id=account,
            liquidator_id=liquidator,
            debt_asset_id=LOAN,
            collateral_asset_id=COLLATERAL,
            repaid=repaid,
            seized=seized,
            protocol_fee=0,
            receive_collateral_token=False,
            debt_scaled=shares,
        )
        self._index()

    def _pre_liquidated(self, row: Mapping[str, Any]) -> None:
        self._add(
            "liquidations",
            transaction_hash=row["transaction_hash"],
            account_id=self._id(row["borrower"]),
            liquidator_id=self._id(row["liquidator"]),
            debt_asset_id=LOAN,
            collateral_asset_id=COLLATERAL,
            repaid=int(row["repaid_assets"]),
            seized=int(row["seized_assets"]),
            protocol_fee=0,
            receive_collateral_token=False,
            debt_scaled=int(row["repaid_shares"]),
        )

    def _create(self, row: Mapping[str, Any]) -> None:
        made = self.contracts.get(row["pre_liquidation"])
        if made is None:  # another market's
            return
        for name, value in made.terms.items():
            own: dict[str, Any] = {**self._place, "name": name, "value": value, "category": made.number}
            apply(self.state, ParamChange(**own))
            self._add("params", asset_id=None, category=made.number, name=name, value=value)
        for authorizer, allowed in made.before.items():
            self._setting(self._id(authorizer), f"{PRE_LIQUIDATION}{made.number}", None, int(allowed), AUTHORIZE)

    def _authorize(self, row: Mapping[str, Any]) -> None:
        made = self.contracts.get(row["authorized"])
        if made is not None and made.seq < row["seq"]:
            name, allowed = f"{PRE_LIQUIDATION}{made.number}", int(row["new_is_authorized"])
            self._setting(self._id(row["authorizer"]), name, None, allowed, AUTHORIZE)

    def _cap(self, row: Mapping[str, Any]) -> None:
        """The most that a vault may lend in this market (MetaMorpho ``_setCap``), native units; beyond 38 digits: all
        nines.
        """
        if row["id"] == self._market_id:
            self._of_vault(row["address"], "lending_cap", min(int.from_bytes(row["cap"], "big"), _BOUND - 1))

    def _queue(self, row: Mapping[str, Any], name: str, column: str) -> None:
        """At which place of a vault's queue this market is, from 1; 0: not in it."""
        ids = [row[column][start : start + 32] for start in range(0, len(row[column]), 32)]
        place = ids.index(self._market_id) + 1 if self._market_id in ids else 0
        if place != self._places.get((row["address"], name), 0):
            self._places[row["address"], name] = place
            self._of_vault(row["address"], name, place)

    def _of_vault(self, vault: bytes, name: str, value: int) -> None:
        self._add("params", asset_id=LOAN, category=self._id(vault), name=name, value=value)

    def _set(self, event: str, row: Mapping[str, Any]) -> None:
        if event == "CreateMarket":
            self._param("pool_revision", RULES_REVISION)
            self._param("share_decimals", SHARE_DECIMALS, LOAN)
            self._param("liquidation_threshold", int(row["lltv"]), COLLATERAL)
            self._param("created", 1)
            self.state.totals.rate = self._first_rate
            self._index()
        elif event == "SetFee":
            self._param("fee", int(row["new_fee"]), LOAN)
        elif event == "SetFeeRecipient":
            self._param("fee_recipient", self._id(row["new_fee_recipient"]))
        else:
            self._param("rate_at_target", int(row["rate_at_target"]), LOAN)

    # -- rows, and the same in the book --------------------------------------------------------------------------------

    def _position(
        self,
        account: AccountId,
        asset: AssetId,
        side: Side,
        delta: int,
        action: str,
        amount: int,
        closes: int | None = None,
    ) -> None:
        held = self.state.positions.get(account)
        if action in ("withdraw", "repay", "liquidation") and (
            held is None or -delta > (held.collateral if asset else getattr(held, _SHARES[side]))
        ):
            raise RulesError(
                f"block {self._place['block_number']}, log {self._place['log_index']}: {list(self.ids)[account]} gives"
                f" up more than it holds of {self.market.assets[asset].symbol}",
                "logs before it are missing: run backtest check",
            )
        own: dict[str, Any] = {**self._place, "action": action, "amount": amount}
        own["action_seq"] = self._place["seq"] if closes is None else closes
        self._changed(PositionChange(account=account, asset=asset, side=side, delta=delta, **own))

    def _index(self) -> None:
        self._indexed(index_update(self.state.totals, self._place))
