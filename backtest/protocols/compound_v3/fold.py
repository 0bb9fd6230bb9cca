"""Raw logs of one Comet to canonical tables.

The book of ``state`` runs along. Each log of a call on the base token accrues it, and the principal follows from the
amount by the contract's own rounding. What the logs say twice is checked: ``Transfer`` beside a call says what the
supply that it moved is worth at the index of then, and ``totalsBasic`` and ``userBasic`` (see ``events.readings``) what
the contract stored at the end of the block, of all and of those who called. Where a reading of all is there its indexes
are taken, since accruals of their own leave no log; without one the rules must explain every ``Transfer``, or the fold
stops.

Base tokens sent from one account to another leave nothing but the two ``Transfer`` logs of the supply that moved. Where
both are there, the amount is one that both show; where one is missing, its account is in debt and no log tells it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from typing_extensions import override

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, AssetId, Market, PositionChange
from backtest.protocols.compound_v3.account import counted_down
from backtest.protocols.compound_v3.actions import GIVING, MOVING, TAKING
from backtest.protocols.compound_v3.events import (
    Totals,
    Upgrade,
    address_text,
    metadata,
    read_principals,
    read_totals,
    tokens,
    upgrades,
)
from backtest.protocols.compound_v3.math import INDEX, accrued_down, base_for_down, borrowed_up, present_down
from backtest.protocols.compound_v3.state import (
    BASE,
    RULES_REVISION,
    CometState,
    Indexes,
    apply,
    held_change,
    index_update,
    open_state,
    principal_changes,
)
from backtest.protocols.folding import BookRows, Rows, Running, listed_rows, refuse_quarantined
from backtest.protocols.interface import RawEvents
from backtest.tables import CANONICAL
from backtest.units import WAD

SEGMENT_ROWS = 1 << 18
ZERO = bytes(20)

Log = tuple[int, str, Mapping[str, Any]]

_KEY = ("block_number", "log_index", "transaction_index", "transaction_hash")
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Upgraded": ("implementation",),
    "Supply": ("dst", "amount"),
    "Withdraw": ("src", "amount"),
    "Transfer": ("from", "to", "amount"),
    "SupplyCollateral": ("dst", "asset", "amount"),
    "WithdrawCollateral": ("src", "asset", "amount"),
    "TransferCollateral": ("from", "to", "asset", "amount"),
    "AbsorbDebt": ("absorber", "borrower", "base_paid_out", "usd_value"),
    "AbsorbCollateral": ("borrower", "asset", "collateral_absorbed", "usd_value"),
    "BuyCollateral": ("base_amount",),
    "PauseAction": ("supply_paused", "transfer_paused", "withdraw_paused", "absorb_paused", "buy_paused"),
    "WithdrawReserves": ("amount",),
}


def fold(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold`` and ``fold_on``.

    Raises:
        RulesError: a log could not be decoded, an implementation's parameters were not read, or logs and readings show
            what the rules do not explain; names the block.
        UserError: the market has no implementation yet.
    """
    refuse_quarantined(raw, "look at it in raw/compound-v3/Quarantine; is this contract a Comet?")
    market = _market(config, raw)
    folding = (running or Running()).begin(lambda: _Folding(market))
    folding.read(raw)
    known = len(folding.ids)
    for segment in raw.segments(SEGMENT_ROWS, {event: [*_KEY, *columns] for event, columns in _COLUMNS.items()}):
        for name, rows in folding.segment(segment).items():
            yield name, pa.Table.from_pylist(rows, CANONICAL[name])
    yield from listed_rows(market, folding.ids, known)


def _market(config: MarketConfig, raw: RawEvents) -> Market:
    if not upgrades(raw):
        raise UserError(
            f"market '{config.name}' has no implementation by the last block fetched",
            "check contracts.comet and start_block of the market, or fetch further",
        )
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


class _Folding(BookRows[CometState]):
    """The book as of the last log, and ids of accounts in order of first appearance."""

    def __init__(self, market: Market) -> None:
        super().__init__(market, open_state(market), apply)
        self._asset_of = {asset.asset: asset.id for asset in market.assets}
        self._accrued = False
        self._holders: set[tuple[AccountId, AssetId]] = set()
        self._block = -1

    def read(self, raw: RawEvents) -> None:
        """What the history as a whole says."""
        self._upgrades = {(each.block_number, each.log_index): each for each in upgrades(raw)}
        self._totals = read_totals(raw)
        self._principals = read_principals(raw)

    def segment(self, tables: Mapping[str, pa.Table]) -> Rows:
        """Rows of all tables that these logs add to."""
        logs: list[Log] = sorted(
            ((row["seq"], event, row) for event, table in tables.items() for row in table.to_pylist()),
            key=lambda log: log[0],
        )
        self._rows = defaultdict(list)
        place = 0
        while place < len(logs):
            _, event, row = logs[place]
            if row["block_number"] != self._block:
                self._block_ends()
                self._block = row["block_number"]
            self._at(row)
            place += self._call(event, row, logs, place)
        self._block_ends()
        self._block = -1
        return self._rows

    def _call(self, event: str, row: Mapping[str, Any], logs: Sequence[Log], place: int) -> int:
        """One call by its first log; how many logs it has."""
        if event == "Supply":
            return self._base(logs, place, row["dst"], int(row["amount"]), GIVING)
        if event == "Withdraw":
            return self._base(logs, place, row["src"], -int(row["amount"]), TAKING)
        if event == "Transfer":
            return self._transfer(logs, place)
        if event in ("AbsorbCollateral", "AbsorbDebt"):
            return self._absorb(logs, place)
        if event in ("SupplyCollateral", "WithdrawCollateral"):
            giving = event == "SupplyCollateral"
            amount, action = int(row["amount"]), "supply" if giving else "withdraw"
            self._collateral(row["dst" if giving else "src"], row["asset"], amount if giving else -amount, action)
        elif event == "TransferCollateral":
            for whose, sign in (("from", -1), ("to", 1)):
                self._collateral(row[whose], row["asset"], sign * int(row["amount"]), "transfer")
        elif event == "Upgraded":
            self._upgrade(self._upgrades[row["block_number"], row["log_index"]])
        elif event == "PauseAction":
            flags = [row[f"{kind}_paused"] for kind in ("supply", "transfer", "withdraw", "absorb", "buy")]
            self._param("pause_flags", sum(flag << bit for bit, flag in enumerate(flags)))
        else:
            brought = int(row["base_amount"]) if event == "BuyCollateral" else -int(row["amount"])
            self._param("cash_of_reserves", self.state.params.get("cash_of_reserves", 0) + brought)
        return 1

    # -- calls on the base token ---------------------------------------------------------------------------------------

    def _base(self, logs: Sequence[Log], place: int, who: bytes, by: int, named: tuple[str, str]) -> int:
        """Supply and Withdraw, with the Transfer that follows where supply moved."""
        at, account = self._accrue(), self._id(who)
        before = self.state.position(account).principal
        after = at.principal(at.present(before) + by)
        own = self._positive(before), self._positive(after)
        if named == GIVING and own[1] < own[0]:  # nothing supplied is rounded down, and no total knows
            own = (0, 0)
        logs_of_it = 1 + self._leg(logs, place + 1, at, own, who)
        self._at(logs[place + logs_of_it - 1][2])
        if after == before:
            self._param("accrued", self._place["timestamp"])
        self._move(account, after, named, abs(by))
        self._index()
        return logs_of_it

    def _leg(self, logs: Sequence[Log], place: int, at: Indexes, own: tuple[int, int], who: bytes) -> int:
        """Takes the Transfer of what an account's supply changed by, and holds it against the rules; 1 where there has
        to be one.
        """
        moved = abs(own[1] - own[0])
        if not moved:
            return 0
        ends = (ZERO, who) if own[1] > own[0] else (who, ZERO)
        row = self._next(logs, place, "Transfer")
        said = None if row is None or (row["from"], row["to"]) != ends else int(row["amount"])
        if said != (ours := present_down(moved, at.supply)):
            raise self._unexplained(f"a Transfer of {said} beside it, {ours} by the rules")
        return 1

    def _transfer(self, logs: Sequence[Log], place: int) -> int:
        """``transferBase``: what one account's supply loses and another's gains."""
        row = logs[place][2]
        second = self._next(logs, place + 1, "Transfer")
        if row["to"] != ZERO or second is None or second["from"] != ZERO:
            raise RulesError(
                f"block {row['block_number']}, log {row['log_index']}: base tokens were sent to or from an account in"
                " debt, which the log does not name",
                "end the fetch before that block: its principal is not known after it",
            )
        at = self._accrue()
        giver, taker = self._id(row["from"]), self._id(second["to"])
        lost, gained = (self._supply_of(at, int(each["amount"])) for each in (row, second))
        found = set()
        before = self.state.position(giver).principal, self.state.position(taker).principal
        values = at.present(before[0]), at.present(before[1])
        near = at.present(gained) + max(-values[1], 0)  # within a few units of the amount
        for amount in range(max(near - 3, 0), near + 4):
            after = at.principal(values[0] - amount), at.principal(values[1] + amount)
            own = [self._positive(principal) for principal in (*before, *after)]
            if (own[0] - own[2], own[3] - own[1]) == (lost, gained):
                found.add((after, amount))
        if len({after for after, _ in found}) != 1:
            raise self._unexplained(
                f"a transfer of {row['amount']} and {second['amount']} that {'no' if not found else 'more than one'}"
                " amount explains"
            )
        (given, taken), amount = max(found)
        self._at(second)
        self._move(giver, given, MOVING, amount)
        self._move(taker, taken, MOVING, amount)
        self._index()
        return 2

    def _supply_of(self, at: Indexes, worth: int) -> int:
        """The principal that is worth so much, which is one at most since indexes begin at one."""
        principal = borrowed_up(worth, at.supply)
        if present_down(principal, at.supply) != worth:
            raise self._unexplained(f"a Transfer of {worth}, which no principal is worth")
        return principal

    def _absorb(self, logs: Sequence[Log], place: int) -> int:
        """AbsorbCollateral of each collateral, AbsorbDebt, and the Transfer of what is left as supply."""
        taken: dict[AssetId, tuple[int, int]] = {}
        used = 0
        borrowers = set()
        while (row := self._next(logs, place + used, "AbsorbCollateral")) is not None:
            borrowers.add(row["borrower"])
            taken[self._asset(row["asset"])] = int(row["collateral_absorbed"]), int(row["usd_value"])
            used += 1
        row = self._next(logs, place + used, "AbsorbDebt")
        if row is None or borrowers - {row["borrower"]}:
            raise self._unexplained("an absorption without its AbsorbDebt")
        used += 1
        at, account = self._accrue(), self._id(row["borrower"])
        position = self.state.position(account)
        if {asset: amount for asset, (amount, _) in taken.items()} != dict(position.held):
            raise self._unexplained("an absorption of other collateral than the account has")
        owed, paid = -at.present(position.principal), int(row["base_paid_out"])
        if position.principal >= 0 or paid < owed:
            raise self._unexplained(f"an absorption of {paid} where {max(owed, 0)} are owed")
        after = at.principal(paid - owed)
        used += self._leg(logs, place + used, at, (0, after), row["borrower"])
        self._at(logs[place + used - 1][2])
        self._move(account, after, ("liquidation", "liquidation"), 0)
        for asset, (amount, _) in taken.items():
            self._position(held_change(account, asset, "collateral", -amount, "liquidation", amount, self._place))
        main = max(taken, key=lambda asset: (taken[asset][1], -asset), default=AssetId(1))
        lost = self._written_off(owed, paid, int(row["usd_value"]), taken)
        if lost:
            self._add(
                "deficits",
                account_id=account,
                asset_id=BASE,
                amount=lost,
                kind="created",
                liquidation_seq=self._place["seq"],
            )
        self._add(
            "liquidations",
            transaction_hash=row["transaction_hash"],
            account_id=account,
            liquidator_id=self._id(row["absorber"]),
            debt_asset_id=BASE,
            collateral_asset_id=main,
            repaid=owed,
            seized=taken.get(main, (0, 0))[0],
            protocol_fee=0,
            receive_collateral_token=False,
        )
        self._index()
        return used

    def _written_off(self, owed: int, paid: int, value: int, taken: Mapping[AssetId, tuple[int, int]]) -> int:
        """What no collateral was credited for. The base token's price is the one that makes ``paid`` worth ``value``:
        one at most where a whole token or more was paid, else the least.
        """
        if paid > owed:
            return 0
        scale = self.state.base_scale
        price = -(-value * scale // paid) if paid else 0
        if not price:
            return 0
        credited = sum(
            counted_down(worth, self.state.param("liquidation_factor", asset)) for asset, (_, worth) in taken.items()
        )
        return max(0, owed - base_for_down(credited, price, scale))

    # -- indexes -------------------------------------------------------------------------------------------------------

    def _accrue(self) -> Indexes:
        """The indexes that the call stored: those read at the end of its block, else those of the rules."""
        timestamp = self._place["timestamp"]
        if (read := self._totals.get(self._block)) is not None:
            self._refuse_late(read)
            if not self._accrued:
                self._begin(read)
        self._accrued = True
        at = self.state.accrued(timestamp)
        if read is not None:
            at = replace(at, supply=read.supply_index, borrow=read.borrow_index)
        if (at.supply, at.borrow, at.updated) != (
            self.state.indexes.supply,
            self.state.indexes.borrow,
            self.state.indexes.updated,
        ):
            apply(self.state, index_update(at, self.state.rates, self._place))
        return self.state.indexes

    def _begin(self, read: Totals) -> None:
        """``initializeStorage``, from which the contract accrues, may come later than the proxy and has no log: where
        the first indexes show when it was, that is taken.
        """
        rate, grown = self.state.rates[1], read.borrow_index - INDEX
        seconds = -(-grown * WAD // (INDEX * rate)) if rate else 0
        since = self._place["timestamp"] - seconds
        if since > self.state.params["created"] and accrued_down(INDEX, rate, seconds) == read.borrow_index:
            self._param("created", since)

    def _refuse_late(self, read: Totals) -> None:
        if read.updated != self._place["timestamp"]:
            raise self._unexplained(
                f"a call that accrues, and at the end of the block the contract had last accrued at {read.updated}"
            )

    def _block_ends(self) -> None:
        """The book holds what the contract does at the end of a block with a reading."""
        for account, principal in self._principals.get(self._block, ()):
            own = self.state.position(AccountId(self.ids.get(account, -1))).principal
            if own != principal:
                raise self._unexplained(
                    f"{account} has a principal of {principal} at the end of the block, {own} by the logs: debt was"
                    " sent from one account to another"
                )
        if (read := self._totals.get(self._block)) is None:
            return
        ours = self.state.total_supply, self.state.total_borrow
        if ours != (read.supply, read.borrow):
            raise self._unexplained(
                f"total principal supplied and borrowed {(read.supply, read.borrow)} at the end of the block, {ours} by"
                " the logs: debt was sent from one account to another"
            )

    def _index(self) -> None:
        """Indexes and the rates of the period that begins."""
        update = index_update(self.state.indexes, self.state.curve_rates(), self._place)
        rows = self._rows["indexes"]
        if rows and rows[-1]["seq"] == update.seq:
            rows.pop()
        self._indexed(update)

    # -- rows, and the same in the book --------------------------------------------------------------------------------

    def _upgrade(self, upgrade: Upgrade) -> None:
        first = "created" not in self.state.params
        self._param("comet_revision", RULES_REVISION)
        for name, value in upgrade.params.items():
            self._param(name, value)
        for entry in upgrade.collateral:
            asset = self._asset(bytes.fromhex(entry.asset[2:]))
            if entry.scale != self.market.unit(asset):
                raise self._unexplained(f"a scale of {entry.scale} of {entry.asset}, whose token says otherwise")
            for name in ("ltv", "liquidation_threshold", "liquidation_factor", "supply_cap"):
                self._param(name, getattr(entry, name), asset)
        if first:
            self._param("created", self._place["timestamp"])
            self._index()

    def _collateral(self, who: bytes, asset: bytes, by: int, action: str) -> None:
        account, which = self._id(who), self._asset(asset)
        self._position(held_change(account, which, "collateral", by, action, abs(by), self._place))
        if by > 0 and (account, which) not in self._holders:
            self._holders.add((account, which))
            whose = {"account_id": account, "setting": "collateral_enabled", "asset_id": which, "value": 1}
            self._add("setting_events", **whose, action=action, action_seq=self._place["seq"])

    def _move(self, account: AccountId, after: int, named: tuple[str, str], amount: int) -> None:
        for change in principal_changes(self.state, account, after, self._place, named, amount):
            self._position(change)

    def _position(self, change: PositionChange) -> None:
        held = self.state.position(change.account)
        if change.delta < 0 and change.asset != BASE and -change.delta > held.held.get(change.asset, 0):
            raise self._unexplained(
                f"{list(self.ids)[change.account]} gives up more than it holds of"
                f" {self.market.assets[change.asset].symbol}"
            )
        self._changed(change)

    @override
    def _param(self, name: str, value: int, asset: AssetId | None = None) -> None:
        if (self.state.params.get(name) if asset is None else self.state.of_assets.get((name, asset))) == value:
            return
        super()._param(name, value, asset)

    @override
    def _at(self, row: Mapping[str, Any]) -> None:
        super()._at(row)
        self._transaction = row["block_number"], row["transaction_index"]

    def _next(self, logs: Sequence[Log], place: int, event: str) -> Mapping[str, Any] | None:
        """The log at a place, if it is of this event and of the same transaction."""
        if place >= len(logs) or logs[place][1] != event:
            return None
        row = logs[place][2]
        return row if (row["block_number"], row["transaction_index"]) == self._transaction else None

    def _asset(self, address: bytes) -> AssetId:
        text = address_text(address)
        if text not in self._asset_of:
            raise self._unexplained(f"an asset {text} that no implementation lists")
        return self._asset_of[text]

    @staticmethod
    def _positive(principal: int) -> int:
        return max(principal, 0)

    def _unexplained(self, what: str) -> RulesError:
        return RulesError(
            f"block {self._place['block_number']}, log {self._place['log_index']}: {what}",
            "logs before it are missing, or the contract accrued without a log: fetch it with an archive node, which is"
            " asked for its totals",
        )
