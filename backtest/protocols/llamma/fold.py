"""Raw logs of one crvUSD or LlamaLend market to canonical tables.

The book of ``state`` runs along. A call is the AMM's ``Withdraw`` and ``Deposit`` with the controller's logs about the
same user; it stands where the last of them is. Everything that is logged is checked: what a withdrawal gives, the debt
after a call, the interest multiplier, and of every exchange the amount that the rules make of the other one at the
oracle's price of its block. The fold stops, naming the block, where one differs.

Of bands, ``params`` says after each change what they hold (``band_x``, ``band_y``, ``band_shares``, their ``category``
the band's number): for SQL, the book has them already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, AssetId, Clock, HistoricalLiquidation, IndexUpdate, Market
from backtest.protocols.folding import BookRows, Rows, Running, listed_rows, refuse_quarantined
from backtest.protocols.interface import RawEvents, Refusal
from backtest.protocols.llamma.amm import NOTHING
from backtest.protocols.llamma.events import (
    DECIMALS,
    EVENTS,
    Origin,
    made,
    metadata,
    read_fees,
    read_prices,
    revision,
)
from backtest.protocols.llamma.liquidation import observed_order, part_removed_down, quote
from backtest.protocols.llamma.math import AmmReverts
from backtest.protocols.llamma.state import (
    AMM,
    BORROWED,
    COLLATERAL,
    RATE_SCALE,
    TO_RAY,
    LlammaState,
    apply,
    open_state,
)
from backtest.tables import CANONICAL
from backtest.units import RAY, WAD

SEGMENT_ROWS = 1 << 18
_KEY = ("block_number", "log_index", "transaction_index", "transaction_hash")
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Deposit": ("provider", "amount", "n1", "n2"),
    "Withdraw": ("provider", "amount_borrowed", "amount_collateral"),
    "TokenExchange": ("buyer", "sold_id", "tokens_sold", "bought_id", "tokens_bought"),
    "SetRate": ("rate", "rate_mul"),
    "SetFee": ("fee",),
    "SetAdminFee": ("fee",),
    "UserState": ("user", "collateral", "debt", "n1", "n2", "liquidation_discount"),
    "Borrow": ("user", "collateral_increase", "loan_increase"),
    "Repay": ("user", "collateral_decrease", "loan_decrease"),
    "RemoveCollateral": ("user", "collateral_decrease"),
    "Liquidate": ("liquidator", "user", "collateral_received", "stablecoin_received", "debt"),
    "SetBorrowingDiscounts": ("loan_discount", "liquidation_discount"),
}
_NO_CALL = frozenset({"SetMonetaryPolicy", "CollectFees"})
assert _COLUMNS.keys() | _NO_CALL == {spec.name for spec in EVENTS}
Row = Mapping[str, Any]


def fold(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold`` and ``fold_on``.

    Raises:
        RulesError: a log could not be decoded, or logs show what the rules do not explain; names the block.
        UserError: the market has no loan yet, or its description does not say what it must.
    """
    refuse_quarantined(
        raw, "look at it in raw/llamma/Quarantine; markets of LlamaLend 2, whose logs are others, are not supported"
    )
    market, begun = _market(config, raw)
    folding = (running or Running()).begin(lambda: Folding(market, begun, revision(config.parameters)))
    folding.prices, folding.fees = read_prices(raw, begun.collateral), read_fees(raw)
    known = len(folding.ids) if folding.begun else 0
    for segment in raw.segments(SEGMENT_ROWS, {event: [*_KEY, *columns] for event, columns in _COLUMNS.items()}):
        for name, rows in folding.segment(segment).items():
            yield name, pa.Table.from_pylist(rows, CANONICAL[name])
    yield from listed_rows(market, folding.ids, known)


def _market(config: MarketConfig, raw: RawEvents) -> tuple[Market, Origin]:
    begun = made(raw)
    if begun is None:
        raise UserError(
            f"market '{config.name}' has no loan by the last block fetched, or what it was made with was not read",
            "check contracts.amm and contracts.controller of the market, or fetch further, with an archive node",
        )
    if (config.base_decimals, config.price_decimals or DECIMALS) != (DECIMALS, DECIMALS):
        raise UserError(
            f"market '{config.name}': base_decimals = {config.base_decimals}, price_decimals = {config.price_decimals}",
            f"write base_decimals = {DECIMALS} in the market's description, and no price_decimals",
        )
    assets = (
        Asset(which, token, *metadata(raw, token))
        for which, token in ((BORROWED, begun.borrowed), (COLLATERAL, begun.collateral))
    )
    return Market(
        name=config.name, protocol=config.protocol, chain_id=config.chain_id, assets=tuple(assets), accounts=(),
        base_decimals=config.base_decimals, price_decimals=config.price_decimals,
    ), begun  # fmt: skip


@dataclass
class Call:
    """The logs of a user's call so far."""

    withdrawn: Row | None = None
    deposited: Row | None = None
    state: Row | None = None
    moved: Row | None = None
    name: str = ""


class Folding(BookRows[LlammaState]):
    """The book as of the last log, and ids of accounts in order of first appearance; the AMM's is the first."""

    def __init__(self, market: Market, begun: Origin, rules: int) -> None:
        super().__init__(market, open_state(market), apply)
        self.prices: Mapping[int, int] = {}
        self.fees: Mapping[int, int] = {}
        self.begun = False
        self._made, self._rules = begun, rules
        self._calls: dict[bytes, Call] = defaultdict(Call)
        self._closed: bytes | None = None
        self._transaction: tuple[int, int] = (-1, -1)
        self._early: dict[str, int] = {}
        self._active: int | None = None

    def segment(self, tables: Mapping[str, pa.Table]) -> Rows:
        """Rows of all tables that these logs add to."""
        logs = sorted(
            ((row["seq"], event, row) for event, table in tables.items() for row in table.to_pylist()),
            key=lambda log: log[0],
        )
        self._rows = defaultdict(list)
        for _, event, row in logs:
            self._at(row)
            if (place := (row["block_number"], row["transaction_index"])) != self._transaction:
                self._transaction, self._closed = place, None
                if self._calls:
                    raise self._unexplained("a call before it whose logs are not complete")
            try:
                self._log(event, row)
            except AmmReverts as refused:
                raise self._unexplained(f"{refused}, which the contract refuses") from None
        return self._rows

    # -- one log -------------------------------------------------------------------------------------------------------

    def _log(self, event: str, row: Row) -> None:
        if not self.begun:
            self._begin()
        if event == "TokenExchange":
            self._exchanged(row)
        elif event == "SetRate":
            self._rate(row)
        elif event == "SetFee":
            self._param("amm_fee", int(row["fee"]))
        elif event == "SetAdminFee":
            self._param("amm_admin_fee", int(row["fee"]))
        elif event == "SetBorrowingDiscounts":
            self._param("loan_discount", int(row["loan_discount"]))
            self._param("liquidation_discount", int(row["liquidation_discount"]))
        else:
            self._of_call(event, row)

    def _begin(self) -> None:
        self.begun = True
        self._id(bytes.fromhex(self._made.amm[2:]))
        self._param("llamma_revision", self._rules)
        for name, value in self._made.params.items():
            self._param(name, value)

    def _rate(self, row: Row) -> None:
        told, amm = int(row["rate_mul"]), self.state.amm
        ours = amm.rate_mul_at(self._place["timestamp"])
        if told != ours:
            raise self._unexplained(f"an interest multiplier of {told}, {ours} by the rates before it")
        rate = int(row["rate"])
        self._indexed(
            IndexUpdate(
                **self._place, asset=BORROWED, supply_index=RAY, borrow_index=told * TO_RAY, supply_rate=0,
                borrow_rate=rate * RATE_SCALE,
            )
        )  # fmt: skip

    def _exchanged(self, row: Row) -> None:
        price = self.prices.get(self._place["block_number"])
        if not price:
            raise RulesError(
                f"block {self._place['block_number']}: the oracle's price was not read, so what an exchange left in the"
                " bands is unknown",
                "fetch the market with a node that has the state of that block",
            )
        if int(row["sold_id"]) + int(row["bought_id"]) != 1:
            raise self._unexplained("an exchange of other tokens than the AMM's two")
        sold, bought = (COLLATERAL, BORROWED) if int(row["sold_id"]) else (BORROWED, COLLATERAL)
        past = self._past(AMM, row["buyer"], (sold, bought), int(row["tokens_sold"]), int(row["tokens_bought"]), None)
        at, now = {BORROWED: WAD, COLLATERAL: price}, self._now()
        amm, told = self.state.amm, self.fees.get(self._place["block_number"])
        if told is not None and told != max(amm.fee, amm.limited(price, now.timestamp)[1]):
            self._param("exchange_price", price)
            self._param("silent_fee", told if told > amm.fee else 0)
        fill = quote(self.state, observed_order(self.state, past, at, now), at, now)
        if isinstance(fill, Refusal) or (fill.repaid, fill.seized) != (past.repaid, past.seized):
            ours = fill.reason if isinstance(fill, Refusal) else f"{fill.seized} for {fill.repaid}"
            raise self._unexplained(f"an exchange of {past.repaid} for {past.seized}; by the rules: {ours}")
        before = dict(self.state.amm.bands)
        for change in fill.changes:
            apply(self.state, change)
        self._liquidated(past, row)
        self._bands(before)

    def _of_call(self, event: str, row: Row) -> None:
        user = row["provider" if event in ("Deposit", "Withdraw") else "user"]
        call = self._calls[user]
        if event == "Withdraw":
            call.withdrawn = row
        elif event == "Deposit":
            call.deposited = row
        elif event == "UserState":
            if self._closed == user and not int(row["debt"]):
                del self._calls[user]
                self._closed = None
                return
            call.state = row
            if call.moved is not None and call.name != "Repay":
                self._finish(user, call)
        elif event == "Liquidate":
            if call.moved is None or call.withdrawn is None or call.name != "Repay":
                raise self._unexplained("a liquidation without its other logs")
            self._liquidate(user, call, row)
            del self._calls[user]
            self._closed = user
        else:
            call.moved, call.name = row, event
            if call.state is not None:
                self._finish(user, call)

    # -- one call ------------------------------------------------------------------------------------------------------

    def _finish(self, user: bytes, call: Call) -> None:
        del self._calls[user]
        assert call.moved is not None
        assert call.state is not None
        account, time = self._id(user), self._place["timestamp"]
        loan = self.state.loan(account)
        owed, after = self.state.debt_up(loan, time), int(call.state["debt"])
        collateral = next(
            (int(call.moved[name]) for name in ("collateral_increase", "collateral_decrease") if name in call.moved), 0
        )
        if call.name == "Repay":
            action, moved = "repay", int(call.moved["loan_decrease"])
            expected = owed - moved
        else:
            moved = int(call.moved.get("loan_increase", 0))
            action = "borrow" if moved else "supply" if call.name == "Borrow" else "withdraw"
            expected = owed + moved
        if after != expected:
            raise self._unexplained(f"a debt of {after} after the call, {expected} by the rules")
        left = loan.deposited if call.withdrawn is None and call.deposited is None else 0
        if call.deposited is not None:
            left = int(call.deposited["amount"])
        before = dict(self.state.amm.bands)
        if call.withdrawn is not None:
            self._check_withdrawn(account, call.withdrawn, WAD)
        self._balance(account, BORROWED, "debt", after - loan.initial, action, moved)
        self._balance(account, COLLATERAL, "collateral", left - loan.deposited, action, collateral)
        if call.withdrawn is not None:
            self._setting(account, "withdrawn", COLLATERAL, WAD, action)
        if call.deposited is not None:
            first, last = int(call.deposited["n1"]), int(call.deposited["n2"])
            values = int(call.state["liquidation_discount"]), first, last, left
            names = ("liquidation_discount", "first_band", "last_band", "deposited")
            for name, value in zip(names, values, strict=True):
                self._setting(account, name, COLLATERAL, value, action)
        self._bands(before)

    def _check_withdrawn(self, account: AccountId, row: Row, part: int) -> tuple[int, int]:
        loan = self.state.loan(account)
        x, y, _ = self.state.amm.copy().withdraw(loan.shares, loan.first, part)
        told = int(row["amount_borrowed"]), int(row["amount_collateral"])
        if told != (x, y):
            raise self._unexplained(f"a withdrawal of {told} from the bands, {(x, y)} by the rules")
        return x, y

    def _liquidate(self, user: bytes, call: Call, row: Row) -> None:
        assert call.withdrawn is not None
        account = self._id(user)
        loan, share = self.state.loan(account), int(row["debt"])
        owed = self.state.debt_up(loan, self._place["timestamp"])
        if not owed:
            raise self._unexplained("a liquidation of a loan that does not exist")
        discount = 0 if row["liquidator"] == user else loan.discount
        removed = part_removed_down(min(-(-share * WAD // owed), WAD), discount)
        x, y = self._check_withdrawn(account, call.withdrawn, removed)
        before = dict(self.state.amm.bands)
        gone = loan.deposited if removed == WAD else loan.deposited * removed // WAD
        self._balance(account, BORROWED, "debt", owed - share - loan.initial, "liquidation", share)
        self._balance(account, COLLATERAL, "collateral", -gone, "liquidation", y)
        self._setting(account, "withdrawn", COLLATERAL, removed, "liquidation")
        past = self._past(account, row["liquidator"], (BORROWED, COLLATERAL), max(share - x, 0), y, share)
        self._liquidated(past, row)
        self._bands(before)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _now(self) -> Clock:
        return Clock(self._place["block_number"], self._place["log_index"], self._place["timestamp"])

    def _past(
        self, account: AccountId, by: bytes, pair: tuple[AssetId, AssetId], repaid: int, seized: int, part: int | None
    ) -> HistoricalLiquidation:
        place = self._place
        return HistoricalLiquidation(
            seq=place["seq"], block_number=place["block_number"], log_index=place["log_index"],
            timestamp=place["timestamp"], account=account, liquidator=self._id(by), debt_asset=pair[0],
            collateral_asset=pair[1], repaid=repaid, seized=seized, protocol_fee=0, receive_collateral_token=False,
            debt_scaled=part,
        )  # fmt: skip

    def _liquidated(self, past: HistoricalLiquidation, row: Row) -> None:
        self._add(
            "liquidations",
            transaction_hash=row["transaction_hash"],
            account_id=past.account,
            liquidator_id=past.liquidator,
            debt_asset_id=past.debt_asset,
            collateral_asset_id=past.collateral_asset,
            repaid=past.repaid,
            seized=past.seized,
            protocol_fee=0,
            receive_collateral_token=False,
            debt_scaled=past.debt_scaled,
        )

    def _bands(self, before: Mapping[int, Any]) -> None:
        """What changed in bands, for SQL."""
        bands = self.state.amm.bands
        for n in sorted(n for n in before.keys() | bands.keys() if before.get(n) != bands.get(n)):
            old, new = before.get(n, NOTHING), bands.get(n, NOTHING)
            for name, was, value in (
                ("band_x", old.x, new.x), ("band_y", old.y, new.y), ("band_shares", old.shares, new.shares)
            ):  # fmt: skip
                if was != value:
                    self._add("params", asset_id=None, category=n, name=name, value=value)
        if self.state.amm.active != self._active:
            self._active = self.state.amm.active
            self._add("params", asset_id=None, category=None, name="active_band", value=self._active)

    def _unexplained(self, what: str) -> RulesError:
        place = self._place
        return RulesError(
            f"block {place['block_number']}, log {place['log_index']}: {what}",
            "logs before it are missing, the market's revision is another (docs/llamma.md), or the oracle was asked"
            " without a log",
        )
