"""Raw logs of one Liquity V1 system to canonical tables.

The book of ``state`` runs along. Every call's changes follow from its own log and the book before it, and what the logs
say twice is held against the rules: pending rewards where they are applied, stakes, deposits and gains, the pool's
product and sum, the sums per unit staked and the snapshots after a liquidation, and what a liquidation came to. A log
that the rules do not explain stops the fold at its block.

No log says who called a liquidation: it is who the ActivePool sent the collateral compensation to right after it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from typing_extensions import override

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, Clock, Market, PositionChange
from backtest.protocols.folding import BookRows, Rows, Running, listed_rows, refuse_quarantined
from backtest.protocols.interface import RawEvents
from backtest.protocols.liquity_v1.actions import adjusted, deposited, emptied, redeemed_from, touched, whole
from backtest.protocols.liquity_v1.events import ETHER, metadata, named, tokens
from backtest.protocols.liquity_v1.liquidation import (
    NORMAL,
    Change,
    applied,
    closed,
    liquidated,
    mode_of,
    settled,
)
from backtest.protocols.liquity_v1.math import GAS_DEBT
from backtest.protocols.liquity_v1.state import (
    BATCH,
    BATCH_MODE,
    ETH,
    LUSD,
    RULES_REVISION,
    SUMS,
    LiquityState,
    apply,
    open_state,
)
from backtest.tables import CANONICAL
from backtest.units import WAD

SEGMENT_ROWS = 1 << 18
Log = tuple[int, str, Mapping[str, Any]]
_TERMS = {
    "liquity_revision": RULES_REVISION,
    "liquidation_ratio": 11 * WAD // 10,
    "critical_ratio": 15 * WAD // 10,
    "gas_share": WAD // 200,
    "dust": 1_800 * WAD,
}
"""LiquityBase.MCR, CCR, PERCENT_DIVISOR, MIN_NET_DEBT."""
_FIRST = {"product": WAD}
"""What is stored before any liquidation, where it is not zero."""
_KEY = ("block_number", "log_index", "transaction_index", "transaction_hash")
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "PriceFeedAddressChanged": ("target",),
    "TroveUpdated": ("borrower", "debt", "coll", "stake", "operation"),
    "TroveLiquidated": ("borrower", "debt", "coll", "operation"),
    "Liquidation": ("debt", "coll", "gas_coll", "gas_debt"),
    "Redemption": ("redeemed", "coll", "fee"),
    "BaseRateUpdated": ("rate",),
    "LastFeeOpTimeUpdated": ("time",),
    "TotalStakesUpdated": ("stakes",),
    "SystemSnapshotsUpdated": ("stakes", "colls"),
    "LTermsUpdated": ("coll_sum", "debt_sum"),
    "TroveAdjusted": ("borrower", "debt", "coll", "stake", "operation"),
    "LUSDBorrowingFeePaid": ("fee",),
    "StabilityPoolLUSDBalanceUpdated": ("balance",),
    "UserDepositChanged": ("depositor", "deposit"),
    "ETHGainWithdrawn": ("depositor", "gain", "loss"),
    "P_Updated": ("product",),
    "S_Updated": ("sum", "epoch", "scale"),
    "EtherSent": ("target", "amount"),
    "LastGoodPriceUpdated": ("price",),
    "PriceFeedStatusChanged": ("status",),
}
TRUSTED = (0, 4)
"""Statuses of the price feed in which it takes Chainlink's answer: chainlinkWorking, usingChainlinkTellorUntrusted."""
APPLIED, REDEEMED = 0, 3
OPENED, CLOSED = 0, 1
"""Operations as the trove manager, and as BorrowerOperations logs them."""


def fold(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold`` and ``fold_on``.

    Raises:
        RulesError: a log could not be decoded, shows what the rules do not explain, or the price feed stopped trusting
            Chainlink; names the block.
        UserError: the contracts are not there yet.
    """
    refuse_quarantined(raw, "look at it in raw/liquity-v1/Quarantine; is this contract a TroveManager of Liquity V1?")
    market = _market(config, raw)
    folding = (running or Running()).begin(lambda: _Folding(market))
    known = len(folding.ids)
    folding.begin(raw)
    for segment in raw.segments(SEGMENT_ROWS, {event: [*_KEY, *columns] for event, columns in _COLUMNS.items()}):
        for name, rows in folding.segment(segment).items():
            yield name, pa.Table.from_pylist(rows, CANONICAL[name])
    yield from listed_rows(market, folding.ids, known)


def _market(config: MarketConfig, raw: RawEvents) -> Market:
    found = tokens(raw)
    if not found:
        raise UserError(
            f"market '{config.name}' has no contracts by the last block fetched",
            "check contracts.trove_manager and start_block of the market, or fetch further",
        )
    symbol, decimals = metadata(raw, found[0])
    return Market(
        name=config.name,
        protocol=config.protocol,
        chain_id=config.chain_id,
        assets=(Asset(ETH, ETHER, "ETH", 18), Asset(LUSD, found[0], symbol, decimals)),
        accounts=(),
        base_decimals=config.base_decimals,
        price_decimals=config.price_decimals,
    )


class _Folding(BookRows[LiquityState]):
    """The book as of the last log, and ids of accounts: the system's own two, then in order of first appearance."""

    def __init__(self, market: Market) -> None:
        super().__init__(market, open_state(market), apply)
        self._price = 0
        self._stakes = self._deposits = 0
        """As logged last."""
        self._gains: dict[AccountId, int] = {}
        self._touched: dict[AccountId, dict[str, int]] = {}
        """Troves whose pending rewards a call of this transaction has applied, and where, before the log that ends the
        call.
        """
        self._redeemed: list[Mapping[str, Any]] = []
        self._sums = [0, 0, 0, 0]
        self._gas = self._debt = 0
        self._left = 0
        """Of the call of liquidations in hand: what its troves came to, and how many are still to come."""
        self._several = False
        self._transaction = -1, -1
        self._said: dict[str, Mapping[str, Any]] = {}
        """The last log of each event in this transaction."""

    def begin(self, raw: RawEvents) -> None:
        """The system's own accounts come first."""
        for event in ("StabilityPoolAddressChanged", "DefaultPoolAddressChanged"):
            self._id(bytes.fromhex((named(raw, event) or "")[2:]))

    def segment(self, tables: Mapping[str, pa.Table]) -> Rows:
        """Rows of all tables that these logs add to."""
        logs: list[Log] = sorted(
            ((row["seq"], event, row) for event, table in tables.items() for row in table.to_pylist()),
            key=lambda log: log[0],
        )
        self._rows = defaultdict(list)
        for place, (_, event, row) in enumerate(logs):
            self._at(row)
            self._log(event, row, logs, place)
        return self._rows

    def _log(self, event: str, row: Mapping[str, Any], logs: Sequence[Log], place: int) -> None:
        self._said[event] = row
        if event == "TroveAdjusted":
            self._adjusted(row, logs, place)
        elif event == "TroveUpdated":
            self._updated(row)
        elif event == "TroveLiquidated":
            self._liquidated(row, logs, place)
        elif event == "Liquidation":
            self._settled(row)
        elif event == "Redemption":
            self._redemption(row)
        elif event == "UserDepositChanged":
            self._deposit(row)
        elif event == "ETHGainWithdrawn":
            self._gain(row)
        elif event == "BaseRateUpdated":
            self._param("base_rate", int(row["rate"]))
        elif event == "LastFeeOpTimeUpdated":
            self._param("fee_time", int(row["time"]))
        elif event == "TotalStakesUpdated":
            self._stakes = int(row["stakes"])
        elif event == "StabilityPoolLUSDBalanceUpdated":
            self._deposits = int(row["balance"])
        elif event == "LastGoodPriceUpdated":
            self._price = int(row["price"])
        elif event == "PriceFeedAddressChanged":
            for name, value in _TERMS.items():
                self._param(name, value)
        elif event == "PriceFeedStatusChanged" and row["status"] not in TRUSTED:
            raise RulesError(
                f"block {row['block_number']}, log {row['log_index']}: the price feed does not trust Chainlink any more"
                f" (status {row['status']}), so ether's price is another one",
                "end the fetch before that block",
            )

    # -- troves --------------------------------------------------------------------------------------------------------

    def _updated(self, row: Mapping[str, Any]) -> None:
        if row["operation"] == REDEEMED:
            self._redeemed.append(row)
        elif row["operation"] == APPLIED:
            account = self._id(row["borrower"])
            trove = self.state.trove(account)
            self._same("a trove with what was pending", self._trove_of(row), (*self.state.entire(trove), trove.stake))
            self._touched[account] = self._place

    def _adjusted(self, row: Mapping[str, Any], logs: Sequence[Log], place: int) -> None:
        account, now = self._id(row["borrower"]), self._clock()
        self._touched.pop(account, None)
        trove = self.state.trove(account)
        before, after = self.state.entire(trove), (int(row["coll"]), int(row["debt"]))
        changes: list[Change] = touched(self.state, account, now)
        if row["operation"] == CLOSED:
            changes += emptied(account, *before, now)
        else:
            opens = row["operation"] == OPENED
            by_coll, by_debt = after[0] - before[0], after[1] - before[1]
            fee = self._ahead(logs, place, "LUSDBorrowingFeePaid")
            paid = 0 if fee is None else int(fee["fee"])
            drawn = by_debt - paid - GAS_DEBT * opens if by_debt > 0 else by_debt
            changes += adjusted(account, by_coll, by_debt, drawn, now, opens=opens)
        self._make(changes)
        if row["operation"] != CLOSED:
            self._same("all stakes", self.state.stakes, self._stakes)
        self._same("a trove", (*after, int(row["stake"])), self._own(account))

    def _redemption(self, row: Mapping[str, Any]) -> None:
        """Every trove that it took from; before it, as a call of its own, one whose part was given up once its pending
        rewards were applied.
        """
        now, lots, changes = self._clock(), 0, list[Change]()
        ends = [(self._id(each["borrower"]), each) for each in self._redeemed]
        here = self._place
        for account in self._touched.keys() - {account for account, _ in ends}:
            self._place = self._touched[account]
            self._make(applied(self.state, account, now))
        self._place = here
        for account, each in ends:
            coll, debt = self.state.entire(self.state.trove(account))
            by = coll - int(each["coll"]), debt - int(each["debt"])
            lots += by[1] if each["debt"] else by[1] - GAS_DEBT
            changes += [*touched(self.state, account, now), *redeemed_from(account, *by, now)]
        self._same("what was redeemed", lots, int(row["redeemed"]))
        self._make(whole(changes, lots))
        for account, each in ends:
            self._same("a redeemed trove", self._trove_of(each), self._own(account))
        self._redeemed.clear()
        self._touched.clear()

    # -- liquidations --------------------------------------------------------------------------------------------------

    def _liquidated(self, row: Mapping[str, Any], logs: Sequence[Log], place: int) -> None:
        account, now, mode = self._id(row["borrower"]), self._clock(), int(row["operation"])
        ends = self._ahead(logs, place, "Liquidation")
        sent = self._ahead(logs, place, "EtherSent", behind="Liquidation")
        if ends is None or sent is None:
            raise self._unexplained("a liquidated trove without the Liquidation of its call")
        if not self._left:
            self._left = self._count(logs, place)
            if self._left == 1 and mode != mode_of(self.state, self._price):
                raise self._unexplained(
                    f"a liquidation in {'normal' if mode == NORMAL else 'recovery'} mode, the other one by the rules"
                )
            self._several = self._left > 1
        trove, state = self.state.trove(account), self.state
        entire = state.entire(trove)
        deposits = state.pool_deposits - self._sums[0]
        found = liquidated(state, trove, self._price, deposits, mode=mode, total_ratio=state.param("critical_ratio"))
        if found is None:
            raise self._unexplained("a liquidation where there is nothing to liquidate by the rules")
        told = found.to_pool if found.surplus or entire[0] != int(row["coll"]) else entire[0]
        self._same("a liquidated trove", (told, found.debt), (int(row["coll"]), int(row["debt"])))
        self._param(BATCH, self._left)
        self._param(BATCH_MODE, mode if self._several else 0)
        self._make(closed(state, account, now))
        self._add(
            "liquidations",
            transaction_hash=row["transaction_hash"],
            account_id=account,
            liquidator_id=self._id(sent["target"]),
            debt_asset_id=LUSD,
            collateral_asset_id=ETH,
            repaid=found.debt,
            seized=found.gas_coll,
            protocol_fee=found.to_pool + found.coll_shared,
            receive_collateral_token=False,
        )
        self._sums = [one + more for one, more in zip(self._sums, found[1:5], strict=True)]
        self._gas, self._debt = self._gas + found.gas_coll, self._debt + found.debt
        self._left -= 1

    def _settled(self, row: Mapping[str, Any]) -> None:
        """The call's end: what its logs said of the pool and the sums per unit staked is what they are now."""
        ours = self._debt, self._sums[1] + self._sums[3], self._gas
        self._same("a call of liquidations", ours, (int(row["debt"]), int(row["coll"]), int(row["gas_coll"])))
        self._make(settled(self._sums, self.state, self._clock()))
        state, said = self.state, self._said
        checks = {
            "LTermsUpdated": (state.coll_sum, state.debt_sum),
            "P_Updated": (state.product,),
            "StabilityPoolLUSDBalanceUpdated": (state.pool_deposits,),
            "SystemSnapshotsUpdated": (state.stakes_then, state.colls_then),
        }
        for event, values in checks.items():
            if event in said:
                self._same(event, tuple(int(said[event][name]) for name in _COLUMNS[event]), values)
        if (told := said.get("S_Updated")) is not None:
            place = int(told["epoch"]), int(told["scale"])
            self._same("S_Updated", int.from_bytes(told["sum"], "big"), state.sums.get(place, 0))
        for name in SUMS:
            if state.params.get(name, _FIRST.get(name, 0)) != (value := getattr(state, name)):
                self._param(name, value)
        self._sums, self._gas, self._debt, self._left = [0, 0, 0, 0], 0, 0, 0

    # -- the stability pool --------------------------------------------------------------------------------------------

    def _deposit(self, row: Mapping[str, Any]) -> None:
        account, now, state = self._id(row["depositor"]), self._clock(), self.state
        before = state.deposits.get(account)
        left, gain = (state.deposit_of(before), state.gain_of(before)) if before else (0, 0)
        self._make(deposited(state, account, left, gain, int(row["deposit"]) - left, now))
        self._same("all deposits", state.pool_deposits, self._deposits)
        self._gains[account] = gain

    def _gain(self, row: Mapping[str, Any]) -> None:
        account = self._id(row["depositor"])
        deposit = self.state.deposits.get(account)
        gain = self._gains.pop(account) if account in self._gains else self.state.gain_of(deposit) if deposit else 0
        self._same("what a deposit gained", gain, int(row["gain"]))

    # -- rows, and the same in the book --------------------------------------------------------------------------------

    @override
    def _at(self, row: Mapping[str, Any]) -> None:
        transaction = row["block_number"], row["transaction_index"]
        if transaction != self._transaction:
            self._transaction = transaction
            self._said = {}
            self._touched.clear()
            self._gains.clear()
        super()._at(row)

    def _clock(self) -> Clock:
        return Clock(self._place["block_number"], self._place["log_index"], self._place["timestamp"])

    def _make(self, changes: Iterable[Change]) -> None:
        own: dict[str, Any] = {**self._place, "action_seq": self._place["seq"]}
        for change in changes:
            if isinstance(change, PositionChange):
                self._changed(replace(change, **own))
            else:
                self._param(change.name, change.value)

    def _own(self, account: AccountId) -> tuple[int, int, int]:
        trove = self.state.trove(account)
        return trove.coll, trove.debt, trove.stake

    @staticmethod
    def _trove_of(row: Mapping[str, Any]) -> tuple[int, int, int]:
        return int(row["coll"]), int(row["debt"]), int(row["stake"])

    def _ahead(
        self, logs: Sequence[Log], place: int, event: str, *, behind: str | None = None
    ) -> Mapping[str, Any] | None:
        """The next log of an event in the same transaction, behind the next one of another where that is asked."""
        for _, name, row in itertools.islice(logs, place + 1, None):
            if (row["block_number"], row["transaction_index"]) != self._transaction:
                return None
            if name == behind:
                behind = None
            elif name == event and behind is None:
                return row
        return None

    def _count(self, logs: Sequence[Log], place: int) -> int:
        """Troves that the call closes, from this log on."""
        count = 0
        for _, name, _ in itertools.islice(logs, place, None):
            if name == "Liquidation":
                return count
            count += name == "TroveLiquidated"
        return count

    def _same(self, what: str, ours: object, theirs: object) -> None:
        if ours != theirs:
            raise self._unexplained(f"{what} is {ours} here and {theirs} in the logs")

    def _unexplained(self, what: str) -> RulesError:
        return RulesError(
            f"block {self._place['block_number']}, log {self._place['log_index']}: {what}",
            "logs before it are missing, or this is not Liquity V1 as it was deployed on Ethereum",
        )
