"""Raw logs of one branch of Liquity V2 to canonical tables.

The book of ``state`` runs along. Every call's changes follow from its own log and the book before it, and what the logs
say twice is held against the rules: troves, shares and stakes after every call, batches, what redistributions gave,
deposits with their gains, the pool's product and sums, collateral of the ActivePool, and what a liquidation came to. A
log that the rules do not explain stops the fold at its block.

No log of the branch says who called a liquidation: historical liquidators are the zero address.
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
from backtest.model import AccountId, Asset, Clock, Market, PositionChange, SettingChange
from backtest.protocols.folding import BookRows, Rows, Running, listed_rows, refuse_quarantined
from backtest.protocols.interface import RawEvents
from backtest.protocols.liquity_v2 import actions
from backtest.protocols.liquity_v2.deposits import deposited, taken_out
from backtest.protocols.liquity_v2.events import metadata, named, of_ether, terms, tokens
from backtest.protocols.liquity_v2.liquidation import parted, settled
from backtest.protocols.liquity_v2.math import GAS_ETHER
from backtest.protocols.liquity_v2.redemption import begins, redeemed_from, whole
from backtest.protocols.liquity_v2.state import (
    BATCH,
    BOLD,
    CLOSE,
    COLL,
    LIQUIDATION,
    REDEEMED_AT,
    REDEEMED_FOR,
    REDEEMED_RATE,
    RULES_REVISION,
    SUMS,
    BranchState,
    apply,
    open_state,
)
from backtest.protocols.liquity_v2.touch import Change, gone, touched
from backtest.tables import CANONICAL
from backtest.units import WAD

SEGMENT_ROWS = 1 << 18
Log = tuple[int, str, Mapping[str, Any]]
_TERMS = {"gas_share": WAD // 200, "dust": 2_000 * WAD}
"""Constants.COLL_GAS_COMPENSATION_DIVISOR, MIN_DEBT."""
_KEY = ("block_number", "log_index", "transaction_index", "transaction_hash")
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "PriceFeedAddressChanged": ("target",),
    "TroveUpdated": ("trove", "debt", "coll", "stake", "rate", "coll_sum", "debt_sum"),
    "BatchedTroveUpdated": ("trove", "manager", "shares", "coll", "stake", "coll_sum", "debt_sum"),
    "TroveOperation": ("trove", "operation", "rate", "debt_shared", "fee", "by_debt", "coll_shared", "by_coll"),
    "BatchUpdated": ("manager", "operation", "debt", "coll", "rate", "management_fee", "shares", "fee"),
    "RedemptionFeePaidToTrove": ("trove", "fee"),
    "Liquidation": (
        "offset", "debt", "gas_ether", "gas_coll", "to_pool", "coll", "surplus", "coll_sum", "debt_sum", "price",
    ),
    "Redemption": ("attempted", "redeemed", "coll", "fee", "price", "paid_at"),
    "ShutDown": ("ratio",),
    "ShutDownFromOracleFailure": ("failed",),
    "DepositOperation": (
        "depositor", "operation", "loss", "moved", "yielded", "yield_claimed", "gain", "gain_claimed",
    ),
    "DepositUpdated": ("depositor", "deposit", "stashed", "product", "gains", "yields", "scale"),
    "StabilityPoolBoldBalanceUpdated": ("balance",),
    "StabilityPoolCollBalanceUpdated": ("balance",),
    "P_Updated": ("product",),
    "S_Updated": ("sum", "scale"),
    "B_Updated": ("sum", "scale"),
}  # fmt: skip
OPENED, CLOSED, ADJUSTED, RATED, APPLIED, LIQUIDATED, REDEEMED, OPENED_IN, JOINED, LEFT = range(10)
"""ITroveEvents.Operation."""
REGISTERED, LOWERED, BATCH_RATED, APPLIED_TO_BATCH = range(4)
"""ITroveEvents.BatchOperation, of those that are no trove's, and the one that is told before its trove's."""
CLAIMED = 2
"""IStabilityPoolEvents.Operation."""


def fold(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold`` and ``fold_on``.

    Raises:
        RulesError: a log could not be decoded, shows what the rules do not explain, or a term was not read; names it.
        UserError: the contracts are not there yet.
    """
    refuse_quarantined(raw, "look at it in raw/liquity-v2/Quarantine; is this contract a branch of Liquity V2?")
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
    if len(found) < 2:
        raise UserError(
            f"market '{config.name}' has no contracts by the last block fetched",
            "check contracts.addresses_registry and start_block of the market, or fetch further",
        )
    listed = [Asset(asset, token, *metadata(raw, token)) for asset, token in zip((COLL, BOLD), found, strict=True)]
    if listed[0].decimals != 18:
        raise RulesError(f"{listed[0].symbol} does not have the 18 decimals that all sums are of", "is it Liquity V2?")
    return Market(
        name=config.name,
        protocol=config.protocol,
        chain_id=config.chain_id,
        assets=tuple(listed),
        accounts=(),
        base_decimals=config.base_decimals,
        price_decimals=config.price_decimals,
    )


class _Folding(BookRows[BranchState]):
    """The book as of the last log, and ids of accounts: the system's own, then in order of first appearance."""

    def __init__(self, market: Market) -> None:
        super().__init__(market, open_state(market), apply)
        self._terms: dict[str, int] = {}
        self._lots: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
        self._redeemed: dict[AccountId, Mapping[str, Any]] = {}
        """What the redemption in hand left of each batch that it took from."""
        self._left = 0
        """Of the call of liquidations in hand: how many troves are still to come."""
        self._sums = [0] * 5
        self._totals = [0, 0]
        self._transaction = -1, -1
        self._said: dict[str, Mapping[str, Any]] = {}
        """The last log of each event in this transaction."""

    def begin(self, raw: RawEvents) -> None:
        """The system's own accounts come first."""
        for event in ("StabilityPool", "DefaultPool", "ActivePool", "CollSurplusPool"):
            self._id(bytes.fromhex((named(raw, f"{event}AddressChanged") or "")[2:]))
        reward = GAS_ETHER if of_ether(raw) else 0
        self._terms = {"liquity_revision": RULES_REVISION, **terms(raw), **_TERMS, "gas_reward": reward}

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
        if event == "TroveOperation":
            self._operation(row, logs, place)
        elif event == "BatchUpdated":
            self._batch(row)
        elif event == "Liquidation":
            self._settled(row, logs, place)
        elif event == "RedemptionFeePaidToTrove":
            updated = self._said["BatchedTroveUpdated" if self._batched(row) else "TroveUpdated"]
            self._lots.append(({**self._said["TroveOperation"], "paid": row["fee"]}, updated))
        elif event == "Redemption":
            self._redemption(row)
        elif event == "DepositOperation":
            self._deposit(row, logs, place)
        elif event in ("ShutDown", "ShutDownFromOracleFailure"):
            self._shut(failed=event != "ShutDown")
        elif event == "PriceFeedAddressChanged":
            for name, value in self._terms.items():
                self._param(name, value)

    def _shut(self, *, failed: bool) -> None:
        """No interest from now on. Where WETH's price is read from the feed that failed, what the contracts have
        instead is in no log (MainnetPriceFeedBase._shutDownAndSwitchToLastGoodPrice).
        """
        if failed and self._terms["gas_reward"]:
            block = self._place["block_number"]
            raise RulesError(
                f"block {block}, log {self._place['log_index']}: ether's oracle failed and shut the branch down; the"
                " contracts keep the last price that they read, which no log says",
                f"fetch into another lake with --to-block {block - 1}",
            )
        if not self.state.shutdown:
            self._make(actions.ended(self.state, self._clock(), failed=failed))

    def _batched(self, row: Mapping[str, Any]) -> bool:
        return self.state.trove(self._id(row["trove"])).batch is not None

    # -- troves --------------------------------------------------------------------------------------------------------

    def _operation(self, row: Mapping[str, Any], logs: Sequence[Log], place: int) -> None:
        operation, state, now = int(row["operation"]), self.state, self._clock()
        if operation == REDEEMED:
            return
        account, fee = self._id(row["trove"]), int(row["fee"])
        if operation == LIQUIDATED:
            self._liquidated(account, row, logs, place)
            return
        latest = state.latest(state.trove(account), now.timestamp)
        by_coll, by_debt, rate = int(row["by_coll"]), int(row["by_debt"]), int(row["rate"])
        if operation in (OPENED, OPENED_IN):
            batch = None if operation == OPENED else self._id(self._said["BatchedTroveUpdated"]["manager"])
            made = actions.opened(state, account, by_coll, by_debt, rate, batch, 0, now, fee)
            assert isinstance(made, tuple)
            changes = made[0]
        elif operation == CLOSED:
            self._same("a closed trove", (latest.coll, latest.debt), (-by_coll, -by_debt))
            changes = gone(state, account, latest, now, CLOSE)
        elif operation == ADJUSTED:
            changes = actions.adjusted(state, account, latest, by_coll, by_debt, fee, now)
        elif operation == RATED:
            changes = actions.rated_anew(state, account, latest, rate, fee, now)
        elif operation == APPLIED:
            changes = touched(state, account, latest, now)
            if state.trove(account).zombie and latest.debt >= state.param("dust"):
                changes += actions.active_again(account, now)
        elif operation == JOINED:
            batch = self._id(self._said["BatchedTroveUpdated"]["manager"])
            changes = actions.joined(state, account, latest, batch, fee, now)
        else:
            kicked = self._too_many(account, now)
            changes = actions.left(state, account, latest, rate, fee, now, kicked=kicked)
        self._same(
            "what redistributions gave",
            (latest.shared_coll, latest.shared_debt),
            (int(row["coll_shared"]), int(row["debt_shared"])),
        )
        self._make(changes)
        if operation == APPLIED:
            self._applied(account, now)
        elif operation != CLOSED:
            self._trove(account, self._said["BatchedTroveUpdated" if self._batched(row) else "TroveUpdated"])

    def _too_many(self, account: AccountId, now: Clock) -> bool:
        batch = self.state.trove(account).batch
        return batch is not None and actions.too_many(self.state, batch, now)

    def _applied(self, account: AccountId, now: Clock) -> None:
        """Its log says the whole debt of a trove in a batch too, and no rate (TroveManager.onApplyTroveInterest)."""
        said, latest = self._said["TroveUpdated"], self.state.latest(self.state.trove(account), now.timestamp)
        if self.state.trove(account).batch is None:
            self._same("a trove", (latest.coll, latest.debt), (int(said["coll"]), int(said["debt"])))
        else:
            self._same("a trove", latest.coll, int(said["coll"]))

    def _trove(self, account: AccountId, said: Mapping[str, Any]) -> None:
        trove = self.state.trove(account)
        ours = [trove.coll, trove.stake, trove.coll_sum, trove.debt_sum]
        theirs = [int(said[name]) for name in ("coll", "stake", "coll_sum", "debt_sum")]
        if trove.batch is None:
            ours, theirs = [*ours, trove.debt, trove.rate], [*theirs, int(said["debt"]), int(said["rate"])]
        else:
            ours, theirs = [*ours, trove.shares], [*theirs, int(said["shares"])]
        self._same("a trove", ours, theirs)

    def _batch(self, row: Mapping[str, Any]) -> None:
        """A batch's own calls; of a trove's calls in it, that it is what the log says."""
        operation, batch, now, state = int(row["operation"]), self._id(row["manager"]), self._clock(), self.state
        rate, fee = int(row["rate"]), int(row["management_fee"])
        if operation == REGISTERED:
            self._make(actions.registering(batch, rate, fee, now))
        elif operation == LOWERED:
            self._make(actions.lowered(state, batch, fee, now))
        elif operation == BATCH_RATED:
            self._make(actions.batch_rated(state, batch, rate, int(row["fee"]), now))
        elif operation == APPLIED_TO_BATCH:
            return
        elif self._said.get("TroveOperation", {}).get("operation") == REDEEMED:
            self._redeemed[batch] = row
            return
        self._left_of_batch(batch, row)

    def _left_of_batch(self, batch: AccountId, row: Mapping[str, Any]) -> None:
        of = self.state.batches[batch]
        told = tuple(int(row[name]) for name in ("debt", "shares", "rate", "management_fee"))
        self._same("a batch", (of.debt, of.shares, of.rate, of.fee), told)

    def _redemption(self, row: Mapping[str, Any]) -> None:
        """Every trove that it took from, in order."""
        now, lots, changes = self._clock(), self._lots, list[Change]()
        self._lots, ordered = [], not self.state.shutdown
        paid_at = int(row["paid_at"])
        if ordered:
            for name, value in (
                (REDEEMED_AT, int(row["price"])), (REDEEMED_FOR, paid_at), (REDEEMED_RATE, _rate(lots, paid_at)),
            ):  # fmt: skip
                self._param(name, value)
        book = self.state.__deepcopy__({})
        seen = []
        for operation, updated in lots:
            account = self._id(operation["trove"])
            if ordered:
                begun = begins(book, account, now)
                for change in begun:
                    apply(book, change)
                changes += begun
            latest = book.latest(book.trove(account), now.timestamp)
            given = int(operation["coll_shared"]), int(operation["debt_shared"])
            self._same("what redistributions gave", (latest.shared_coll, latest.shared_debt), given)
            lot, coll = -int(operation["by_debt"]), -int(operation["by_coll"])
            changes += redeemed_from(book, account, coll, lot, now, ordered=ordered)
            seen.append((account, updated))
        redeemed = sum(-int(each["by_debt"]) for each, _ in lots)
        gets, fees = sum(-int(each["by_coll"]) for each, _ in lots), sum(int(each["paid"]) for each, _ in lots)
        told = tuple(int(row[name]) for name in ("redeemed", "coll", "fee"))
        self._same("what was redeemed", (redeemed, gets, fees), told)
        self._make(whole(changes, redeemed))
        last = dict(seen)
        for account, updated in last.items():
            self._trove(account, updated)
        for batch, left in self._redeemed.items():
            self._left_of_batch(batch, left)
        self._redeemed = {}

    # -- liquidations --------------------------------------------------------------------------------------------------

    def _liquidated(self, account: AccountId, row: Mapping[str, Any], logs: Sequence[Log], place: int) -> None:
        now, state = self._clock(), self.state
        ends = self._ahead(logs, place, "Liquidation")
        if ends is None:
            raise self._unexplained("a liquidated trove without the Liquidation of its call")
        if not self._left:
            self._left = self._count(logs, place)
        latest = state.latest(state.trove(account), now.timestamp)
        found = parted(state, latest, int(ends["price"]), state.available() - self._sums[0])
        if found is None:
            raise self._unexplained("a liquidation where there is nothing to liquidate by the rules")
        told = tuple(int(row[name]) for name in ("by_coll", "by_debt", "coll_shared", "debt_shared"))
        ours = (-latest.coll, -latest.debt, latest.shared_coll, latest.shared_debt)
        self._same("a liquidated trove", ours, told)
        self._param(BATCH, self._left)
        self._make(gone(state, account, latest, now, LIQUIDATION))
        self._add(
            "liquidations",
            transaction_hash=row["transaction_hash"],
            account_id=account,
            liquidator_id=self._id(bytes(20)),
            debt_asset_id=BOLD,
            collateral_asset_id=COLL,
            repaid=latest.debt,
            seized=found.gas_coll,
            protocol_fee=found.to_pool + found.coll_shared,
            receive_collateral_token=False,
        )
        own = (found.offset, found.to_pool, found.debt_shared, found.coll_shared, found.surplus)
        self._sums = [one + more for one, more in zip(self._sums, own, strict=True)]
        self._totals[0] += found.gas_coll
        self._left -= 1

    def _settled(self, row: Mapping[str, Any], logs: Sequence[Log], place: int) -> None:
        """The call's end: what its logs said of the pool and the sums per unit staked is what they are now."""
        ours = (*self._sums, self._totals[0])
        told = tuple(int(row[name]) for name in ("offset", "to_pool", "debt", "coll", "surplus", "gas_coll"))
        self._same("a call of liquidations", ours, told)
        self._make(settled(self.state, self._sums, self._clock()))
        state = self.state
        sums = state.coll_sum, state.debt_sum
        self._same("sums per unit staked", sums, (int(row["coll_sum"]), int(row["debt_sum"])))
        if self._sums[0] or self._sums[1]:
            self._pool()
        for name in SUMS:
            self._param(name, getattr(state, name))
        self._sums, self._totals, self._left = [0] * 5, [0, 0], 0

    def _pool(self) -> None:
        state, said = self.state, self._said
        checks: dict[str, tuple[int, int]] = {}
        if "P_Updated" in said:
            checks["P_Updated"] = state.product, int(said["P_Updated"]["product"])
        for event, sums in (("S_Updated", state.gains), ("B_Updated", state.yields)):
            if event in said:
                told = said[event]
                checks[event] = sums.get(int(told["scale"]), 0), int.from_bytes(told["sum"], "big")
        for event, ours in (
            ("StabilityPoolBoldBalanceUpdated", state.pool_deposits),
            ("StabilityPoolCollBalanceUpdated", state.pool_coll),
        ):
            if event in said:
                checks[event] = ours, int(said[event]["balance"])
        for event, (ours, theirs) in checks.items():
            self._same(event, ours, theirs)

    # -- the stability pool --------------------------------------------------------------------------------------------

    def _deposit(self, row: Mapping[str, Any], logs: Sequence[Log], place: int) -> None:
        account, now, state = self._id(row["depositor"]), self._clock(), self.state
        if row["operation"] == CLAIMED:
            self._same("what a depositor left", state.stashed.get(account, 0), int(row["gain_claimed"]))
            self._make(taken_out(state, account, int(row["gain_claimed"]), now))
            return
        yielded, gain = int(row["yielded"]), int(row["gain"])
        claims = yielded == int(row["yield_claimed"]) and (yielded > 0 or gain == 0 or int(row["gain_claimed"]) > 0)
        if claims and not yielded and not gain:
            claims = not state.stashed.get(account, 0) or int(row["gain_claimed"]) > 0
        before, stashed = state.deposits.get(account), state.stashed.get(account, 0)
        loss, earned = (before.value - state.deposit_of(before), state.gain_of(before)) if before else (0, 0)
        told = tuple(int(row[name]) for name in ("loss", "gain", "gain_claimed", "yield_claimed"))
        paid = (stashed + earned, yielded) if claims else (0, 0)
        self._same("what a deposit lost and gained", (loss, earned, *paid), told)
        changes = deposited(state, account, int(row["moved"]), now, claims=claims)
        owed = sum(
            -each.delta
            for each in changes
            if isinstance(each, PositionChange) and each.account == 0 and each.side == "debt" and each.delta < 0
        )
        self._same("what a deposit yielded", owed, yielded)
        self._make(changes)
        said = self._ahead(logs, place, "DepositUpdated")
        if said is None:
            raise self._unexplained("a deposit without what it became")
        after = self.state.deposits.get(account)
        ours = (after.value, after.product, after.gains, after.yields, after.scale) if after else (0, 0, 0, 0, 0)
        became = (
            int(said["deposit"]), int(said["product"]), int.from_bytes(said["gains"], "big"),
            int.from_bytes(said["yields"], "big"), int(said["scale"]),
        )  # fmt: skip
        self._same("a deposit", ours, became)
        self._same("what a depositor left", self.state.stashed.get(account, 0), int(said["stashed"]))

    # -- rows, and the same in the book --------------------------------------------------------------------------------

    @override
    def _at(self, row: Mapping[str, Any]) -> None:
        transaction = row["block_number"], row["transaction_index"]
        if transaction != self._transaction:
            self._transaction = transaction
            self._said = {}
        super()._at(row)

    def _clock(self) -> Clock:
        return Clock(self._place["block_number"], self._place["log_index"], self._place["timestamp"])

    def _make(self, changes: Iterable[Change]) -> None:
        own: dict[str, Any] = {**self._place, "action_seq": self._place["seq"]}
        for change in changes:
            if isinstance(change, PositionChange):
                self._changed(replace(change, **own))
            elif isinstance(change, SettingChange):
                asset = BOLD if change.asset is None else change.asset
                self._setting(change.account, change.setting, asset, change.value, change.action)
            else:
                self._param(change.name, change.value)

    def _ahead(self, logs: Sequence[Log], place: int, event: str) -> Mapping[str, Any] | None:
        """The next log of an event in the same transaction."""
        for _, name, row in itertools.islice(logs, place + 1, None):
            if (row["block_number"], row["transaction_index"]) != self._transaction:
                return None
            if name == event:
                return row
        return None

    def _count(self, logs: Sequence[Log], place: int) -> int:
        """Troves that the call closes, from this log on."""
        count = 0
        for _, name, row in itertools.islice(logs, place, None):
            if name == "Liquidation":
                return count
            count += name == "TroveOperation" and row["operation"] == LIQUIDATED
        return count

    def _same(self, what: str, ours: object, theirs: object) -> None:
        if ours != theirs:
            raise self._unexplained(f"{what} is {ours} here and {theirs} in the logs")

    def _unexplained(self, what: str) -> RulesError:
        return RulesError(
            f"block {self._place['block_number']}, log {self._place['log_index']}: {what}",
            "logs before it are missing, or this is not Liquity V2 as it was deployed on Ethereum",
        )


def _rate(lots: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], price: int) -> int:
    """A rate by which every trove's fee is as logged: the least that none of them excludes. The contract's own is one
    of them, and none gives other amounts.
    """
    least = 0
    for operation, _ in lots:
        worth = -int(operation["by_debt"]) * WAD // price
        if worth:
            least = max(least, -(-int(operation["paid"]) * WAD // worth))
    return least
