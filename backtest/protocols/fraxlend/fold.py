"""Raw logs of one pair to canonical tables.

The book of ``state`` runs along, so that every recorded rate, amount of interest and of fee shares is checked against
the rules; a liquidation's own logs (FraxlendPairCore.sol ``liquidate``: RepayAsset, RemoveCollateral twice,
AddCollateral) are read with it, and the logs of a leveraged call are one action.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, AssetId, Market, PositionChange, Side
from backtest.protocols.folding import BookRows, Rows, Running, listed_rows, refuse_quarantined
from backtest.protocols.fraxlend.events import (
    EVENTS,
    Origin,
    address_text,
    curve,
    made,
    metadata,
    price_decimals,
)
from backtest.protocols.fraxlend.math import PRECISION, RateCurve, to_amount_down
from backtest.protocols.fraxlend.state import (
    COLLATERAL,
    LENT,
    LIMITS,
    NO_LIMIT,
    REVISION,
    TERMS,
    FraxlendState,
    apply,
    index_update,
    open_state,
)
from backtest.protocols.interface import RawEvents
from backtest.tables import CANONICAL

SEGMENT_ROWS = 1 << 18
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "UpdateRate": ("old_full_rate", "new_rate", "new_full_rate"),
    "AddInterest": ("interest", "rate", "fee_shares"),
    "UpdateExchangeRate": ("low", "high"),
    "Deposit": ("owner", "assets", "shares"),
    "Withdraw": ("owner", "assets", "shares"),
    "Transfer": ("from", "to", "value"),
    "BorrowAsset": ("borrower", "assets", "shares"),
    "RepayAsset": ("payer", "borrower", "assets", "shares"),
    "AddCollateral": ("borrower", "amount"),
    "RemoveCollateral": ("borrower", "amount"),
    "Liquidate": ("borrower", "seized", "shares", "repaid", "fee", "lost_shares", "lost", "transaction_hash"),
    "LeveragedPosition": ("initial",),
    "RepayAssetWithCollateral": (),
    "SetOracleInfo": ("new_deviation",),
    "SetMaxLTV": ("new_ltv",),
    "SetRateContract": ("new_contract",),
    "SetLiquidationFees": ("new_clean", "new_dirty", "new_protocol"),
    "ChangeFee": ("new_fee",),
    **dict.fromkeys(
        ("SetBorrowLimit", "RevokeBorrowAccessControl", "SetDepositLimit", "RevokeDepositAccessControl"), ("limit",)
    ),
    **dict.fromkeys(("PauseRepay", "PauseWithdraw", "PauseLiquidate", "PauseInterest"), ("paused",)),
}
assert _COLUMNS.keys() == {spec.name for spec in EVENTS}
_KEY = ("block_number", "log_index", "transaction_index")
# Event: whose account, action, asset, side, sign.
_MOVES: Mapping[str, tuple[str, str, AssetId, Side, int]] = {
    "Deposit": ("owner", "supply", LENT, "collateral", 1),
    "Withdraw": ("owner", "withdraw", LENT, "collateral", -1),
    "BorrowAsset": ("borrower", "borrow", LENT, "debt", 1),
    "RepayAsset": ("borrower", "repay", LENT, "debt", -1),
    "AddCollateral": ("borrower", "supply", COLLATERAL, "collateral", 1),
    "RemoveCollateral": ("borrower", "withdraw", COLLATERAL, "collateral", -1),
}
_BESIDE = frozenset({"UpdateRate", "UpdateExchangeRate", "Transfer"})
"""Logs that stand between an accrual and what accrued."""
_LIQUIDATION = ("RepayAsset", "RemoveCollateral", "RemoveCollateral", "AddCollateral")
_SET: Mapping[str, str] = {
    "SetMaxLTV": "liquidation_threshold",
    "SetBorrowLimit": "borrow_limit",
    "RevokeBorrowAccessControl": "borrow_limit",
    "SetDepositLimit": "deposit_limit",
    "RevokeDepositAccessControl": "deposit_limit",
    "PauseRepay": "repay_paused",
    "PauseWithdraw": "withdraw_paused",
    "PauseLiquidate": "liquidation_paused",
    "PauseInterest": "interest_paused",
    "ChangeFee": "fee",
    "SetOracleInfo": "max_deviation",
}
_LARGEST = 10**37
"""A limit above this is none: no total is as large."""
Log = tuple[int, str, dict[str, Any]]


def fold(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold`` and ``fold_on``.

    Raises:
        RulesError: a log could not be decoded, the pair is of another version, or logs show what the rules do not
            explain; names the block.
        UserError: the pair has no log yet, or its description has other decimals than its tokens.
    """
    refuse_quarantined(raw, "look at it in raw/fraxlend/Quarantine")
    market, origin = _market(config, raw)
    folding = (running or Running()).begin(lambda: _Folding(market, origin))
    folding.raw = raw
    known = len(folding.ids)
    for segment in raw.segments(SEGMENT_ROWS, {event: [*_KEY, *columns] for event, columns in _COLUMNS.items()}):
        for name, rows in folding.segment(segment).items():
            yield name, pa.Table.from_pylist(rows, CANONICAL[name])
    yield from listed_rows(market, folding.ids, known)


def _market(config: MarketConfig, raw: RawEvents) -> tuple[Market, Origin]:
    origin = made(raw)
    if origin is None:
        raise UserError(
            f"market '{config.name}' has no log of a pair of version {REVISION} by the last block fetched, or what it"
            " was made with was not read",
            "check contracts.pair of the market, or fetch further, with an archive node",
        )
    assets = tuple(
        Asset(AssetId(number), token, *metadata(raw, token))
        for number, token in enumerate((origin.lent, origin.collateral))
    )
    base, priced = assets[COLLATERAL].decimals, price_decimals(raw, origin)
    given = config.base_decimals, config.price_decimals or config.base_decimals
    if given != (base, priced):
        raise UserError(
            f"market '{config.name}': base_decimals = {given[0]}, price_decimals = {given[1]}; its collateral has"
            f" {base} decimals, and its exchange rate {priced} (18 + collateral - lent)",
            f"write base_decimals = {base} and price_decimals = {priced} in the market's description",
        )
    return Market(
        name=config.name, protocol=config.protocol, chain_id=config.chain_id, assets=assets, accounts=(),
        base_decimals=config.base_decimals, price_decimals=config.price_decimals,
    ), origin  # fmt: skip


class _Folding(BookRows[FraxlendState]):
    """The book as of the last log, and ids of accounts in order of first appearance; the pair's is the first."""

    raw: RawEvents

    def __init__(self, market: Market, origin: Origin) -> None:
        super().__init__(market, open_state(market), apply)
        self._origin = origin
        self._rest = 10 ** ((market.price_decimals or market.base_decimals) - market.base_decimals)
        self._expected: tuple[int, int] | None = None
        self._oracle = origin.oracle

    def segment(self, tables: Mapping[str, pa.Table]) -> Rows:
        """Rows of all tables that these logs add to."""
        logs: list[Log] = sorted(
            ((row["seq"], event, row) for event, table in tables.items() for row in table.to_pylist()),
            key=lambda log: log[0],
        )
        self._rows = defaultdict(list)
        groups = self._groups(logs)
        skipped = 0
        for place, (_, event, row) in enumerate(logs):
            self._at(row)
            if not self.ids:
                self._begin(row if event == "UpdateRate" else None)
            if skipped:
                skipped -= 1
            elif event in _MOVES:
                self._move(event, row, groups.get(place))
            elif event == "AddInterest":
                self._accrue(row, "accrued_with_action" if _called(logs, place) else "accrued")
            elif event == "Liquidate":
                self._liquidate(row, logs[place + 1 : place + 1 + len(_LIQUIDATION)])
                skipped = len(_LIQUIDATION)
            elif event == "Transfer":
                self._transfer(row)
            else:
                self._set(event, row)
        return self._rows

    def _unexplained(self, what: str) -> RulesError:
        place = self._place
        return RulesError(
            f"block {place['block_number']}, log {place['log_index']}: {what}",
            "logs before it are missing, or the pair is another: run backtest check",
        )

    # -- one log -------------------------------------------------------------------------------------------------------

    def _begin(self, first: Mapping[str, Any] | None) -> None:
        """The constructor accrues first of all."""
        if first is None:
            raise self._unexplained("the first log is not the constructor's accrual")
        self._param("pair_version", REVISION)
        self._param("created", 1)
        self._param("fee_recipient", self._id(bytes.fromhex(self._origin.pair[2:])))
        self._param("full_rate", int(first["old_full_rate"]), LENT)
        for name in LIMITS:
            self._param(name, NO_LIMIT, LENT)
        for name in TERMS:
            self._term(name, self._origin.terms[name])
        self._param("max_deviation", self._origin.max_deviation)
        self._curve(self._origin.block_number, self._origin.rate_contract)

    def _term(self, name: str, value: int) -> None:
        self._param(name, value + PRECISION if name.endswith("_bonus") else value, COLLATERAL)

    def _curve(self, block: int, model: str) -> None:
        for name, value in zip(RateCurve._fields, curve(self.raw, block, model), strict=True):
            self._param(name, value)

    def _groups(self, logs: Sequence[Log]) -> dict[int, tuple[int, str]]:
        """Of logs of leveraged calls: the seq that closes the call, and what it is."""
        found: dict[int, tuple[int, str]] = {}
        for place, (_, event, row) in enumerate(logs):
            if event == "LeveragedPosition":
                wanted, name = ["BorrowAsset", "AddCollateral"], "borrow"
                wanted = ["AddCollateral", *wanted] if int(row["initial"]) else wanted
            elif event == "RepayAssetWithCollateral":
                wanted, name = ["RemoveCollateral", "RepayAsset"], "repay"
            else:
                continue
            before = range(max(0, place - len(wanted)), place)
            if [logs[each][1] for each in before] != wanted:
                self._at(row)
                raise self._unexplained(f"{event} without the logs of its call")
            found |= dict.fromkeys(before, (logs[place - 1][0], name))
        return found

    def _move(self, event: str, row: Mapping[str, Any], group: tuple[int, str] | None) -> None:
        whose, action, asset, side, sign = _MOVES[event]
        amount = int(row["amount" if asset == COLLATERAL else "assets"])
        delta = amount if asset == COLLATERAL else int(row["shares"])
        closing, action = group or (self._place["seq"], action)
        self._position(self._id(row[whose]), asset, side, sign * delta, action, amount, closing)
        if asset == LENT:
            self._indexed(index_update(self.state, self.state.totals, self._place))

    def _position(
        self, account: AccountId, asset: AssetId, side: Side, delta: int, action: str, amount: int,
        closing: int | None = None,
    ) -> None:  # fmt: skip
        has = self.state.of(account)
        held = has.collateral if asset == COLLATERAL else has.borrow_shares if side == "debt" else has.supply_shares
        if -delta > held and action != "treasury":
            raise self._unexplained(f"{list(self.ids)[account]} gives up more than it holds")
        own: dict[str, Any] = {**self._place, "action": action, "amount": amount}
        own["action_seq"] = self._place["seq"] if closing is None else closing
        self._changed(PositionChange(account=account, asset=asset, side=side, delta=delta, **own))

    def _accrue(self, row: Mapping[str, Any], name: str) -> None:
        totals, told = self.state.totals, (int(row["rate"]), *self._told_full())
        ours: tuple[int, ...] = self.state.rates(self._place["timestamp"])
        if told != ours:
            raise self._unexplained(f"a rate and a rate at full use of {told} in the log, {ours} by the rules")
        before = totals.lent, totals.lent_shares
        self._param("full_rate", ours[1], LENT)
        self._param(name, ours[0], LENT)
        made_here = totals.lent - before[0], totals.lent_shares - before[1]
        logged = int(row["interest"]), int(row["fee_shares"])
        if made_here != logged:
            raise self._unexplained(f"interest and fee shares {logged} in the log, {made_here} by the rules")
        self._param("interest", logged[0], LENT)
        if logged[1]:
            assert self.state.pair is not None
            self._position(self.state.pair, LENT, "collateral", logged[1], "treasury", 0)
        self._indexed(index_update(self.state, totals, self._place))

    def _told_full(self) -> tuple[int, ...]:
        told, self._expected = self._expected, None
        if told is None:
            raise self._unexplained("an accrual without its UpdateRate")
        return told[1:]

    def _liquidate(self, row: Mapping[str, Any], own: Sequence[Log]) -> None:
        account = self._id(row["borrower"])
        seized, shares, repaid, fee, lost_shares, lost = (
            int(row[name]) for name in ("seized", "shares", "repaid", "fee", "lost_shares", "lost")
        )
        moved = [int(each["assets" if event == "RepayAsset" else "amount"]) for _, event, each in own]
        if [event for _, event, _ in own] != list(_LIQUIDATION) or moved != [repaid, seized, fee, fee]:
            raise self._unexplained("a liquidation without the logs of what it moved")
        if int(own[0][2]["shares"]) != shares + lost_shares:
            raise self._unexplained("a liquidation that repays other shares than its own log says")
        self._position(account, LENT, "debt", -shares, "liquidation", repaid)
        self._position(account, COLLATERAL, "collateral", -seized - fee, "liquidation", seized + fee)
        if fee:
            assert self.state.pair is not None
            self._position(self.state.pair, COLLATERAL, "collateral", fee, "liquidation", fee)
        if lost_shares:
            self._position(account, LENT, "debt", -lost_shares, "liquidation", lost)
            self._setting(account, "bad_debt", LENT, lost, "liquidation")
            self._add(
                "deficits", account_id=account, asset_id=LENT, amount=lost, kind="created", liquidation_seq=row["seq"]
            )
        self._add(
            "liquidations",
            transaction_hash=row["transaction_hash"],
            account_id=account,
            liquidator_id=self._id(own[0][2]["payer"]),
            debt_asset_id=LENT,
            collateral_asset_id=COLLATERAL,
            repaid=repaid,
            seized=seized,
            protocol_fee=fee,
            receive_collateral_token=False,
            debt_scaled=shares,
        )
        self._indexed(index_update(self.state, self.state.totals, self._place))

    def _transfer(self, row: Mapping[str, Any]) -> None:
        """fTokens between users; those that are made and burnt come with their own logs."""
        shares, ends = int(row["value"]), (row["from"], row["to"])
        if bytes(20) in ends or not shares:
            return
        totals = self.state.totals
        worth = to_amount_down(shares, totals.lent, totals.lent_shares)
        for who, sign in zip(ends, (-1, 1), strict=True):
            self._position(self._id(who), LENT, "collateral", sign * shares, "transfer", worth)

    def _set(self, event: str, row: Mapping[str, Any]) -> None:
        if event == "UpdateRate":
            self._expected = int(row["new_rate"]), int(row["new_full_rate"])
        elif event == "UpdateExchangeRate":
            self._priced(int(row["low"]), int(row["high"]))
        elif event == "SetRateContract":
            self._curve(self._place["block_number"], address_text(row["new_contract"]))
        elif event == "SetLiquidationFees":
            for name, column in zip(TERMS[1:], ("new_clean", "new_dirty", "new_protocol"), strict=True):
                self._term(name, int(row[column]))
        elif event in _SET:
            (column,) = _COLUMNS[event]
            value = row[column]
            number = int.from_bytes(value, "big") if isinstance(value, bytes) else int(value)
            name = _SET[event]
            if name in LIMITS:
                number = NO_LIMIT if number > _LARGEST else number
            asset = COLLATERAL if name in TERMS else LENT if name in LIMITS else None
            self._param(name, number, asset)

    def _priced(self, low: int, high: int) -> None:
        """The oracle's answer to the pair: exact from this log on."""
        self._param("low_rate", low, LENT)
        self._param("high_rate", high, LENT)
        price, rest = divmod(low, self._rest)
        self._add("prices", asset_id=LENT, price=price, price_rest=rest, source=self._oracle, method="feed", exact=True)


def _called(logs: Sequence[Log], place: int) -> bool:
    """Whether a user's call follows an accrual in its transaction, and so made it."""
    here = logs[place][2]
    for _, event, row in logs[place + 1 :]:
        if (row["block_number"], row["transaction_index"]) != (here["block_number"], here["transaction_index"]):
            return False
        if event in _MOVES or event == "Liquidate":
            return True
        if event not in _BESIDE:
            return False
    return False
