"""Raw logs and readings of one credit manager to canonical tables.

The book of ``state`` runs along, a block at a time. What a block did to a credit account stands at the last log that
names it: its balances and quotas are those that were read at the end of the block, and its debt follows from the logs
by the rules, held against what the manager stores. The contracts let a debt change once a block. The pool's index and
rate are read in each block in which it accrued, and the index is held against the rate before. The fold stops, naming
block and account, where a reading and the rules differ.

What others brought the pool (lenders, the accounts of other managers, whoever sent it tokens) is what is left of its
change once this manager's accounts are counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, AssetId, IndexUpdate, Market, PositionChange
from backtest.protocols.folding import BookRows, Rows, Running, listed_rows, refuse_quarantined
from backtest.protocols.gearbox_v3.events import (
    ACCRUING,
    BALANCE,
    LIQUIDATIONS,
    OF_ACCOUNTS,
    OF_FACADE,
    OF_MODEL,
    QUOTA,
    AccountRead,
    Origin,
    Read,
    address_text,
    made,
    metadata,
    own_tokens,
    tokens,
)
from backtest.protocols.gearbox_v3.liquidation import left_with, reindexed
from backtest.protocols.gearbox_v3.math import (
    Repaid,
    decreased,
    fee_down,
    increased,
    quota_index_after_down,
    quota_interest_down,
)
from backtest.protocols.gearbox_v3.state import (
    CURVE,
    FEES,
    OTHERS,
    RULES_REVISION,
    UNDERLYING,
    CreditAccount,
    GearboxState,
    apply,
    open_state,
)
from backtest.protocols.interface import RawEvents
from backtest.tables import CANONICAL
from backtest.units import BPS, RAY

SEGMENT_ROWS = 1 << 18
_KEY = ("block_number", "log_index", "transaction_index", "transaction_hash", "address")
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "SetCreditConfigurator": (),
    "AddCollateralToken": ("token",),
    "SetTokenLiquidationThreshold": ("token", "liquidation_threshold"),
    "ScheduleTokenLiquidationThresholdRamp": (
        "token",
        "liquidation_threshold_initial",
        "liquidation_threshold_final",
        "timestamp_ramp_start",
        "timestamp_ramp_end",
    ),
    "ForbidToken": ("token",),
    "AllowToken": ("token",),
    "UpdateFees": (
        "fee_liquidation",
        "liquidation_premium",
        "fee_liquidation_expired",
        "liquidation_premium_expired",
    ),
    "SetCreditFacade": ("credit_facade",),
    "SetBorrowingLimits": ("min_debt", "max_debt"),
    "SetExpirationDate": ("expiration_date",),
    "OpenCreditAccount": ("credit_account", "on_behalf_of"),
    "CloseCreditAccount": ("credit_account",),
    "StartMultiCall": ("credit_account",),
    "FinishMultiCall": (),
    "AddCollateral": ("credit_account", "token", "amount"),
    "WithdrawCollateral": ("credit_account", "token", "amount"),
    "LiquidateCreditAccount": ("credit_account", "liquidator"),
    "PartiallyLiquidateCreditAccount": (
        "credit_account",
        "token",
        "liquidator",
        "repaid_debt",
        "seized_collateral",
        "fee",
    ),
    "Deposit": (),
    "Withdraw": (),
    "Borrow": ("credit_manager", "credit_account", "amount"),
    "Repay": ("credit_manager", "borrowed_amount", "profit", "loss"),
    "SetInterestRateModel": ("new_interest_rate_model",),
    "SetPoolQuotaKeeper": ("new_pool_quota_keeper",),
    "UpdateQuota": ("credit_account", "token", "quota_change"),
    "UpdateTokenQuotaRate": ("token", "rate"),
    "AddQuotaToken": ("token",),
    "SetTokenLimit": ("token", "limit"),
    "SetQuotaIncreaseFee": ("token", "fee"),
}
Row = Mapping[str, Any]
Log = tuple[str, Row]


def fold(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold`` and ``fold_on``.

    Raises:
        RulesError: a log could not be decoded, something was not read, or logs and readings show what the rules do not
            explain; names the block.
        UserError: the market has no credit manager yet.
    """
    refuse_quarantined(raw, "look at it in raw/gearbox-v3/Quarantine; is this a credit manager of Gearbox V3.1?")
    begun = made(raw)
    if begun is None:
        raise UserError(
            f"market '{config.name}' has no credit manager by the last block fetched, or what it was made with was not"
            " read",
            "check contracts and start_block of the market, or fetch further, with a node that has old state",
        )
    market = _market(config, raw)
    folding = (running or Running()).begin(lambda: Folding(market, begun))
    folding.read(raw)
    known = len(folding.ids)
    for segment in raw.segments(SEGMENT_ROWS, {event: [*_KEY, *columns] for event, columns in _COLUMNS.items()}):
        for name, rows in folding.segment(segment).items():
            yield name, pa.Table.from_pylist(rows, CANONICAL[name])
    yield from listed_rows(market, folding.ids, known)


def _market(config: MarketConfig, raw: RawEvents) -> Market:
    assets = tuple(Asset(AssetId(n), token, *metadata(raw, token)) for n, token in enumerate(tokens(raw)))
    return Market(
        name=config.name,
        protocol=config.protocol,
        chain_id=config.chain_id,
        assets=assets,
        accounts=(),
        base_decimals=config.base_decimals,
        price_decimals=config.price_decimals,
    )


@dataclass
class _Touched:
    """What a block's logs say of one account, in order."""

    logs: list[Log] = field(default_factory=list)


class Folding(BookRows[GearboxState]):
    """The book as of the last block, and ids of accounts in order of first appearance."""

    def __init__(self, market: Market, begun: Origin) -> None:
        super().__init__(market, open_state(market), apply)
        self._made, self._begun = begun, False
        self._asset_of = {asset.asset: asset.id for asset in market.assets}
        self._own: set[str] = set()
        self._keeper = ""

    def read(self, raw: RawEvents) -> None:
        """What the history as a whole says."""
        self._read, self._tokens = Read(raw), own_tokens(raw)

    def segment(self, tables: Mapping[str, pa.Table]) -> Rows:
        """Rows of all tables that these logs add to."""
        logs = sorted(
            ((row["seq"], event, row) for event, table in tables.items() for row in table.to_pylist()),
            key=lambda log: log[0],
        )
        self._rows = defaultdict(list)
        blocks: dict[int, list[Log]] = defaultdict(list)
        for _, event, row in logs:
            blocks[row["block_number"]].append((event, row))
        for block in blocks.values():
            self._block(block)
        return self._rows

    # -- one block -----------------------------------------------------------------------------------------------------

    def _block(self, logs: Sequence[Log]) -> None:
        touched: dict[str, _Touched] = {}
        last: dict[str, Row] = {}
        steps: list[tuple[int, int, Any, Row]] = []
        inside: str | None = None
        repaid: Log | None = None
        accrues: tuple[str, Row] | None = None
        rated: Row | None = None
        for event, row in logs:
            account = address_text(row["credit_account"]) if "credit_account" in row else None
            if event in ACCRUING:
                accrues = event, row
            if event == "OpenCreditAccount":
                assert account is not None
                self._own.add(account)
            if event == "Repay" and address_text(row["credit_manager"]) == self._made.manager:
                account = inside
                if account is None:  # of a liquidation, whose own log follows
                    repaid = event, row
            if account in self._own and account is not None:
                entry = touched.setdefault(account, _Touched())
                if repaid is not None and event in LIQUIDATIONS:
                    entry.logs.append(repaid)
                    repaid = None
                entry.logs.append((event, row))
                if event in OF_ACCOUNTS:
                    last[account] = row
                if event == "StartMultiCall":
                    inside = account
            elif event == "FinishMultiCall":
                inside = None
            elif event == "UpdateQuota":
                steps.append((row["seq"], 0, self._others_quota, row))
            elif event not in ACCRUING or event == "SetInterestRateModel":
                rated = row if event == "UpdateTokenQuotaRate" else rated
                steps.append((row["seq"], 0, lambda row, event=event: self._parameter(event, row), row))
        if repaid is not None:
            self._at(repaid[1])
            raise self._unexplained("a repayment that no account made")
        for account, entry in touched.items():
            end = max((row for _, row in entry.logs), key=lambda row: int(row["seq"]))
            if account not in last:
                self._at(end)
                raise self._unexplained(f"no log of the facade names {account}, whose debt or quota changed")
            steps.append((end["seq"], 1, lambda row, a=account, e=entry: self._account(a, e.logs, row), end))
        if accrues is not None:
            end = logs[-1][1]
            steps.append((end["seq"], 2, lambda row, at=accrues[1]: self._pool(address_text(at["address"])), end))
        if rated is not None:  # of all tokens at once, behind the last of them
            time = int(rated["timestamp"])
            steps.append((rated["seq"], 1, lambda row: self._param("quota_rates_updated", time), rated))
        for _, _, step, row in sorted(steps, key=lambda step: step[:2]):
            self._at(row)
            step(row)

    def _parameter(self, event: str, row: Row) -> None:
        block = self._place["block_number"]
        if event == "SetCreditConfigurator":
            self._begin()
        elif event == "UpdateFees":
            names = "fee_liquidation", "liquidation_premium", "fee_liquidation_expired", "liquidation_premium_expired"
            for name, column in zip(FEES, names, strict=True):
                self._param(name, int(row[column]))
        elif event == "SetCreditFacade":
            facade = address_text(row["credit_facade"])
            limits = self._read.words(block, facade, OF_FACADE["limits"])
            self._param("least_debt", limits[0])
            self._param("greatest_debt", limits[1])
            self._param("expires", self._read.one(block, facade, OF_FACADE["expires"]))
        elif event == "SetBorrowingLimits":
            self._param("least_debt", int(row["min_debt"]))
            self._param("greatest_debt", int(row["max_debt"]))
        elif event == "SetExpirationDate":
            self._param("expires", int(row["expiration_date"]))
        elif event == "SetInterestRateModel":
            model = address_text(row["new_interest_rate_model"])
            curve = self._read.words(block, model, OF_MODEL["curve"])
            values = (*curve[:6], self._read.one(block, model, OF_MODEL["forbids"]))
            for name, value in zip(CURVE, values, strict=True):
                self._param(name, value)
        elif event == "SetPoolQuotaKeeper":
            keeper = address_text(row["new_pool_quota_keeper"])
            if self._keeper not in ("", keeper):
                raise self._unexplained("the pool took another quota keeper, whose quotas no rule carries over")
            self._keeper = keeper
        elif "token" in row:
            asset = self._asset_of.get(address_text(row["token"]))
            if asset is not None:
                self._of_asset(event, asset, row)

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        interest, fee, discount, fee_expired, discount_expired = self._made.fees
        self._param("gearbox_revision", RULES_REVISION)
        self._param("interest_fee", interest)
        for name, value in zip(FEES, (fee, BPS - discount, fee_expired, BPS - discount_expired), strict=True):
            self._param(name, value)

    def _of_asset(self, event: str, asset: AssetId, row: Row) -> None:
        names = ("threshold_from", "threshold_to", "threshold_ramp_start", "threshold_ramp_end")
        if event == "SetTokenLiquidationThreshold":
            self._param("liquidation_threshold", int(row["liquidation_threshold"]), asset)
            if self.state.of_assets.get(("threshold_from", asset)) is not None:
                for name in names:
                    self._param(name, int(row["liquidation_threshold"]) if name in names[:2] else 0, asset)
        elif event == "ScheduleTokenLiquidationThresholdRamp":
            initial = int(row["liquidation_threshold_initial"])
            values = (
                initial,
                int(row["liquidation_threshold_final"]),
                int(row["timestamp_ramp_start"]),
                int(row["timestamp_ramp_end"]),
            )
            self._param("liquidation_threshold", initial, asset)
            for name, value in zip(names, values, strict=True):
                self._param(name, value, asset)
        elif event in ("ForbidToken", "AllowToken"):
            self._param("forbidden", int(event == "ForbidToken"), asset)
        elif event == "SetTokenLimit":
            self._param("quota_limit", int(row["limit"]), asset)
        elif event == "SetQuotaIncreaseFee":
            self._param("quota_increase_fee", int(row["fee"]), asset)
        elif event == "AddQuotaToken":
            self._keeper = self._keeper or address_text(row["address"])
            self._param("quota_index", 1, asset)
        elif event == "UpdateTokenQuotaRate":
            self._rate(asset, int(row["rate"]))

    def _rate(self, asset: AssetId, rate: int) -> None:
        """PoolQuotaKeeperV3.updateRates: each token's index is brought to now at the rate before; their common time
        then follows, with the last of them.
        """
        known, time = self.state.of_assets, self._place["timestamp"]
        since = self.state.params.get("quota_rates_updated", 0)
        index, before = known.get(("quota_index", asset), 1), known.get(("quota_rate", asset), 0)
        self._param("quota_index", quota_index_after_down(index, before, max(time - since, 0)), asset)
        self._param("quota_rate", rate, asset)

    def _others_quota(self, row: Row) -> None:
        asset = self._asset_of.get(address_text(row["token"]))
        if asset is None:  # no token of this manager: it moves the pool's revenue alone, which is read
            return
        before = self.state.of_assets.get(("quoted_by_others", asset), 0)
        self._param("quoted_by_others", before + int(row["quota_change"]), asset)

    # -- the pool ------------------------------------------------------------------------------------------------------

    def _pool(self, address: str) -> None:
        block, time = self._place["block_number"], self._place["timestamp"]
        read, pool = self._read.pool(block, address), self.state.pool
        if read.updated != time:
            raise self._unexplained(f"the pool accrued, and at the end of the block it had last at {read.updated}")
        own = self.state.index_at(time) if pool.updated else read.base_index
        if read.base_index != own:
            raise self._unexplained(f"the pool's index is {read.base_index}, {own} by its rate before")
        steps = (
            read.expected - pool.expected_at(time),
            read.available - pool.available,
            read.borrowed - pool.borrowed,
            read.revenue - pool.revenue,
        )
        for name, step in zip(OTHERS, steps, strict=True):
            if step:
                self._param(name, self.state.params.get(name, 0) + step)
        self._indexed(self._update(own, read.rate))  # in every block that accrues: views of SQL know no other

    def _update(self, index: int, rate: int) -> IndexUpdate:
        return IndexUpdate(
            **self._place, asset=UNDERLYING, supply_index=RAY, borrow_index=index, supply_rate=0, borrow_rate=rate
        )

    # -- one account ---------------------------------------------------------------------------------------------------

    def _account(self, address: str, logs: Sequence[Log], end: Row) -> None:
        block = self._place["block_number"]
        id = self._id(bytes.fromhex(address[2:]))
        before = self.state.account(id)
        read = self._read.account(block, self._made.manager, address)
        ends = next((log for log in logs if log[0] in LIQUIDATIONS), None)
        found = _Walk(self.state, before, self._place["timestamp"], ends, read)
        for event, row in logs:
            try:
                found.log(event, row, self._asset_of)
            except RulesError as unexplained:
                raise self._unexplained(f"{address}: {unexplained.what}") from None
        held, quotas = self._end_of_block(address, block)
        after = self._settled(address, found.account, read, quotas, whole=found.whole)
        self._write(id, before, after, held, found, logs, end)

    def _end_of_block(self, address: str, block: int) -> tuple[dict[AssetId, int], dict[AssetId, tuple[int, int]]]:
        """Balances and quotas that were read."""
        who = int(address, 16)
        held = {UNDERLYING: self._read.one(block, self._made.underlying, BALANCE, who)}
        quotas: dict[AssetId, tuple[int, int]] = {}
        for since, token in self._tokens.get(address, ()):
            asset = self._asset_of.get(token)
            if asset is None or asset == UNDERLYING or since > block:
                continue
            held[asset] = self._read.one(block, token, BALANCE, who)
            words = self._read.words(block, self._keeper, QUOTA, who, int(token, 16))
            quotas[asset] = words[0], words[1]
        return held, quotas

    def _settled(
        self,
        address: str,
        own: CreditAccount,
        read: AccountRead,
        quotas: Mapping[AssetId, tuple[int, int]],
        *,
        whole: bool,
    ) -> CreditAccount:
        """The account by the rules, held against what the contracts store."""
        told = {asset: quota for asset, (quota, _) in quotas.items() if quota}
        ours = {asset: quota for asset, (quota, _) in own.quotas.items()}
        if read.debt != own.debt or told != ours:
            raise self._unexplained(
                f"{address} owes a principal of {read.debt} and has quotas {told}, {own.debt} and {ours} by the rules"
            )
        if whole or not own.debt:
            return replace(own, quota_interest=0, quota_fees=0)
        stored = own.debt_index, own.quota_interest, own.quota_fees
        if read[1:] == stored:
            return own
        time = self._place["timestamp"]
        now = {asset: self.state.quota_index_at(asset, time) for asset in ours}
        indexed = all(quotas[asset][1] in (now[asset], own.quotas[asset][1]) for asset in ours)
        if (read.debt_index, read.quota_fees) != (own.debt_index, own.quota_fees) or not indexed:
            raise self._unexplained(f"{address} stores {tuple(read[1:])} of its debt, {stored} by the rules")
        # A quota whose increase its token's limit cut to nothing leaves no log: its interest is brought to now.
        interest = own.quota_interest
        for asset, (quota, last) in own.quotas.items():
            if quotas[asset][1] != last:
                interest += quota_interest_down(quota, quotas[asset][1], last)
                own = own.quoted(asset, quota, quotas[asset][1])
        if interest != read.quota_interest:
            raise self._unexplained(f"{address} owes {read.quota_interest} for quotas, {interest} by the rules")
        return replace(own, quota_interest=interest)

    def _write(
        self,
        id: AccountId,
        before: CreditAccount,
        after: CreditAccount,
        held: Mapping[AssetId, int],
        found: _Walk,
        logs: Sequence[Log],
        end: Row,
    ) -> None:
        """Rows of what the block did to the account; see ``state`` for what they say."""
        deltas = {asset: amount - before.held.get(asset, 0) for asset, amount in sorted(held.items())}
        debt = after.debt - before.debt
        action = _named(debt, deltas, liquidated=found.ends is not None)
        for event, row in logs:
            if event == "OpenCreditAccount":
                self._setting(id, "owner", UNDERLYING, int(self._id(row["on_behalf_of"])), action)
        for asset in sorted({*before.quotas, *after.quotas}):
            old, new = before.quotas.get(asset, (0, 0)), after.quotas.get(asset, (0, 0))
            if old[0] != new[0]:
                self._setting(id, "quota", asset, new[0], action)
            elif old[1] != new[1]:
                self._setting(id, "quota_index", asset, new[1], action)
        if found.repaid:
            self._setting(id, "pool_cash", UNDERLYING, found.cash, action)
            self._setting(id, "pool_profit", UNDERLYING, found.profit, action)
        own: dict[str, Any] = {**self._place, "account": id, "action": action, "action_seq": self._place["seq"]}
        if debt:
            moved = found.cash if debt < 0 else debt
            self._changed(PositionChange(asset=UNDERLYING, side="debt", delta=debt, amount=moved, **own))
        if (found.borrowed or found.repaid) and after.debt:
            self._setting(id, "debt_index", UNDERLYING, after.debt_index, action)
        for name in ("quota_interest", "quota_fees"):
            if getattr(after, name) != getattr(before, name):
                self._setting(id, name, UNDERLYING, getattr(after, name), action)
        for asset, delta in deltas.items():
            if delta:
                self._changed(PositionChange(asset=asset, side="collateral", delta=delta, amount=abs(delta), **own))
        if found.ends is not None:
            self._liquidated(id, before, held, found, end)

    def _liquidated(
        self, id: AccountId, before: CreditAccount, held: Mapping[AssetId, int], found: _Walk, end: Row
    ) -> None:
        assert found.ends is not None
        _, row = found.ends
        if found.whole:
            gone = {
                asset: amount - held.get(asset, 0)
                for asset, amount in before.held.items()
                if asset != UNDERLYING and amount > held.get(asset, 0)
            }
            main = max(gone, key=lambda asset: (before.quotas.get(asset, (0, 0))[0], -asset), default=UNDERLYING)
            repaid, seized, brought = found.cash + held[UNDERLYING], gone.get(main, 0), None
        else:
            main = self._asset_of[address_text(row["token"])]
            brought = int(row["repaid_debt"]) + int(row["fee"])
            repaid, seized = brought, int(row["seized_collateral"])
        if found.loss:
            self._add(
                "deficits",
                account_id=id,
                asset_id=UNDERLYING,
                amount=found.loss,
                kind="created",
                liquidation_seq=self._place["seq"],
            )
        self._add(
            "liquidations",
            transaction_hash=end["transaction_hash"],
            account_id=id,
            liquidator_id=self._id(row["liquidator"]),
            debt_asset_id=UNDERLYING,
            collateral_asset_id=main,
            repaid=repaid,
            seized=seized,
            protocol_fee=0,
            receive_collateral_token=False,
            debt_scaled=brought,
        )

    def _unexplained(self, what: str) -> RulesError:
        return RulesError(
            f"block {self._place['block_number']}, log {self._place['log_index']}: {what}",
            "logs before it are missing: the market begins with the pool; or the manager is not one of Gearbox V3.1",
        )


def _named(debt: int, deltas: Mapping[AssetId, int], *, liquidated: bool) -> str:
    """What a multicall is called: by its debt, else by its tokens; ``transfer`` where some come and some go."""
    if liquidated:
        return "liquidation"
    if debt:
        return "borrow" if debt > 0 else "repay"
    if any(delta < 0 for delta in deltas.values()):
        return "transfer" if any(delta > 0 for delta in deltas.values()) else "withdraw"
    return "supply"


class _Walk:
    """An account through the logs of one block."""

    def __init__(
        self, state: GearboxState, account: CreditAccount, time: int, ends: Log | None, read: AccountRead
    ) -> None:
        self.account, self.ends = account, ends
        self.whole = ends is not None and ends[0] == "LiquidateCreditAccount"
        self.cash = self.profit = self.loss = 0
        self.borrowed = self.repaid = False
        self._state, self._time, self._stored = state, time, read

    def log(self, event: str, row: Row, asset_of: Mapping[str, AssetId]) -> None:
        """RulesError where the rules do not explain it."""
        if event == "Borrow":
            own, amount = self.account, int(row["amount"])
            debt, index = increased(amount, own.debt, self._state.index_at(self._time), own.debt_index)
            self.account, self.borrowed = replace(own, debt=debt, debt_index=index), True
        elif event == "UpdateQuota":
            self._quota(asset_of[address_text(row["token"])], int(row["quota_change"]))
        elif event == "Repay":
            self.repaid = True
            self.loss = int(row["loss"])
            self.profit = int(row["profit"]) - self.loss
            if self.whole:
                self._ended(int(row["borrowed_amount"]))
            else:
                self._repay(int(row["borrowed_amount"]))

    def _quota(self, asset: AssetId, change: int) -> None:
        own, index = self.account, self._state.quota_index_at(asset, self._time)
        quota, last = own.quotas.get(asset, (0, 0))
        fee = self._state.of_assets.get(("quota_increase_fee", asset), 0)
        self.account = replace(
            own,
            quota_interest=own.quota_interest + quota_interest_down(quota, index, last),
            quota_fees=own.quota_fees + (fee_down(change, fee) if change > 0 else 0),
        ).quoted(asset, quota + change, index)

    def _ended(self, principal: int) -> None:
        owed = self._state.owed(self.account, self._time)
        if principal != owed.debt:
            raise _differs(f"a liquidation repays a principal of {principal}, {owed.debt} by the rules")
        self.cash = owed.debt + owed.interest + self.profit
        self.account = replace(self.account, debt=0)

    def _repay(self, principal: int) -> None:
        owed = self._state.owed(self.account, self._time)
        if principal:
            least = principal + owed.interest + owed.fees
            paid = decreased(least, owed)
        else:
            paid = self._interest_alone()
        if (owed.debt - paid.debt, paid.profit) != (principal, self.profit):
            raise _differs(
                f"a repayment of {principal} of the principal brings the treasury {self.profit}, {paid.profit} by the"
                " rules"
            )
        self.cash = paid.amount
        self.account = reindexed(self._state, left_with(self.account, paid), self._time)

    def _interest_alone(self) -> Repaid:
        """No log says how much was paid where no principal was: what is stored afterwards says it, but for the cuts."""
        owed, after = self._state.owed(self.account, self._time), self._stored
        left = replace(owed, last=after.debt_index, quota_interest=after.quota_interest, quota_fees=after.quota_fees)
        amount = owed.interest - left.interest + self.profit
        return Repaid(amount, owed.debt, after.debt_index, self.profit, after.quota_interest, after.quota_fees)


def _differs(what: str) -> RulesError:
    return RulesError(what, "")
