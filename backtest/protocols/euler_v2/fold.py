"""Raw logs of a lending vault and its collaterals to canonical tables.

A transaction is read as a whole: which logs of a debt belong to a liquidation or to a debt that changes hands shows
only behind them, and the calls of an account whose status the connector checked at the end are one action. Every
vault's ``Ledger`` runs along: what each ``VaultStatus`` says of shares, debt, fees, cash and accumulator, and each
``InterestAccrued``, has to be what the rules say; a log that is missing stops the fold there.

A collateral vault's status becomes parameters (``vault_*``), from which the worth of its shares follows at any time.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, AssetId, Market, PositionChange, SettingChange, Side
from backtest.protocols.euler_v2.calls import DebtCall, Debts
from backtest.protocols.euler_v2.events import (
    MODEL_GETTERS,
    ZERO_ADDRESS,
    Routing,
    address_text,
    collaterals,
    created,
    metadata,
    read_words,
    unit_decimals,
    vault_of,
)
from backtest.protocols.euler_v2.ledger import Ledger, Moved
from backtest.protocols.euler_v2.math import cap_of, kink_rate
from backtest.protocols.euler_v2.state import (
    ALL_OPS,
    INITIAL_FEE,
    KINK,
    LENT,
    RULES_REVISION,
    UNKNOWN_RATE,
    EulerState,
    Vault,
    apply,
    index_update,
    open_state,
)
from backtest.protocols.folding import BookRows, Rows, Running, listed_rows, refuse_quarantined
from backtest.protocols.interface import RawEvents
from backtest.tables import CANONICAL
from backtest.units import RAY

SEGMENT_ROWS = 1 << 18
ZERO = bytes(20)

Log = tuple[int, str, Mapping[str, Any]]

_KEY = ("block_number", "log_index", "transaction_index", "transaction_hash", "address")
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "EVaultCreated": (),
    "Transfer": ("from", "to", "value"),
    "Deposit": ("sender", "owner", "assets", "shares"),
    "Withdraw": ("sender", "receiver", "owner", "assets", "shares"),
    "Borrow": ("account", "assets"),
    "Repay": ("account", "assets"),
    "InterestAccrued": ("account", "assets"),
    "Liquidate": ("liquidator", "violator", "collateral", "repay_assets", "yield_balance"),
    "PullDebt": ("from", "to", "assets"),
    "DebtSocialized": ("account", "assets"),
    "ConvertFees": (),
    "VaultStatus": (
        "total_shares", "total_borrows", "accumulated_fees", "cash", "interest_accumulator", "interest_rate",
    ),
    "GovSetLTV": (
        "collateral", "borrow_ltv", "liquidation_ltv", "initial_liquidation_ltv", "target_timestamp", "ramp_duration",
    ),
    "GovSetInterestRateModel": ("new_interest_rate_model",),
    "GovSetMaxLiquidationDiscount": ("new_discount",),
    "GovSetLiquidationCoolOffTime": ("new_cool_off_time",),
    "GovSetHookConfig": ("new_hook_target", "new_hooked_ops"),
    "GovSetConfigFlags": ("new_config_flags",),
    "GovSetCaps": ("new_supply_cap", "new_borrow_cap"),
    "GovSetInterestFee": ("new_fee",),
    "CollateralStatus": ("account", "collateral", "enabled"),
    "AccountStatusCheck": ("account", "controller"),
    "ConfigSet": ("asset0", "asset1", "oracle"),
    "ResolvedVaultSet": ("vault", "asset"),
}  # fmt: skip
_ROUTED = frozenset({"ConfigSet", "ResolvedVaultSet"})
_CURVE = ("base_rate", "slope", "jump_slope", "kink")


def fold(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold`` and ``fold_on``.

    Raises:
        RulesError: a log could not be decoded, a collateral is none of the factory's vaults, or logs show what the
            rules do not explain; names the block.
        UserError: the vault was not created yet, or its unit of account has other decimals than the description says.
    """
    refuse_quarantined(raw, "look at it in raw/euler-v2/Quarantine; is this contract an EVault?")
    market = _market(config, raw)
    folding = (running or Running()).begin(lambda: _Folding(market))
    folding.read(raw)
    known = len(folding.ids)
    for segment in raw.segments(SEGMENT_ROWS, {event: [*_KEY, *columns] for event, columns in _COLUMNS.items()}):
        for name, rows in folding.segment(segment).items():
            yield name, pa.Table.from_pylist(rows, CANONICAL[name])
    yield from listed_rows(market, folding.ids, known)


def _market(config: MarketConfig, raw: RawEvents) -> Market:
    vaults, own = created(raw), vault_of(raw)
    if own not in vaults:
        raise UserError(
            f"market '{config.name}': the factory made no vault {own} by the last block fetched",
            "check parameters.vault and contracts.factory of the market, or fetch further",
        )
    if (digits := unit_decimals(raw, vaults[own])) != config.base_decimals:
        raise UserError(
            f"market '{config.name}': base_decimals = {config.base_decimals}, the unit of account {vaults[own].unit}"
            f" has {digits}",
            f"write base_decimals = {digits} in the market's description",
        )
    strange = next((vault for vault in collaterals(raw) if vault not in vaults), None)
    if strange is not None:
        raise RulesError(
            f"market '{config.name}': collateral {strange} is no vault of the factory, so nothing says what its shares"
            " are worth",
            "choose another vault: only EVaults as collateral are covered",
        )
    listed = [vaults[own].asset, *collaterals(raw)]
    return Market(
        name=config.name,
        protocol=config.protocol,
        chain_id=config.chain_id,
        assets=tuple(Asset(AssetId(n), token, *metadata(raw, token)) for n, token in enumerate(listed)),
        accounts=(),
        base_decimals=config.base_decimals,
        price_decimals=config.price_decimals,
    )


@dataclass(slots=True)
class _Step:
    """What one log, or several of one call, make of an account; ``emit`` writes the rows, given their action's seq."""

    at: int
    account: bytes
    kind: str
    emit: Callable[[int], None]
    action_seq: int = -1


class _Folding(BookRows[EulerState]):
    """The book as of the last log, ledgers of all vaults, and ids of accounts in order of first appearance."""

    def __init__(self, market: Market) -> None:
        super().__init__(market, open_state(market), apply)
        self._ledgers: dict[bytes, Ledger] = {}
        self._statuses: dict[AssetId, Vault] = {}
        """As each vault last said it, by asset."""
        self._routing = Routing()
        self._started = False
        self._model = UNKNOWN_RATE

    def read(self, raw: RawEvents) -> None:
        """What the history as a whole says."""
        vaults, own = created(raw), vault_of(raw)
        self._own = bytes.fromhex(own[2:])
        self._terms = vaults
        self._asset_of = {self._own: LENT}
        self._asset_of |= {bytes.fromhex(v[2:]): AssetId(1 + n) for n, v in enumerate(collaterals(raw))}
        self._words = read_words(raw)
        registered = raw.table("OwnerRegistered").to_pylist()
        self._owners = {row["address_prefix"][:19]: row["owner"] for row in registered}

    def segment(self, tables: Mapping[str, pa.Table]) -> Rows:
        """Rows of all tables that these logs add to."""
        logs: list[Log] = sorted(
            ((row["seq"], event, row) for event, table in tables.items() for row in table.to_pylist()),
            key=lambda log: log[0],
        )
        self._rows = defaultdict(list)
        for _, group in itertools.groupby(logs, key=lambda log: (log[2]["block_number"], log[2]["transaction_index"])):
            self._transaction(list(group))
        return self._rows

    # -- one transaction -----------------------------------------------------------------------------------------------

    def _transaction(self, logs: Sequence[Log]) -> None:
        debts = Debts.of(logs)
        steps: dict[int, _Step] = {}
        seized = self._seized(logs, debts)
        for at, (_, event, row) in enumerate(logs):
            if event in ("Deposit", "Withdraw", "Transfer") and row["address"] in self._asset_of:
                step = self._shares(at, event, row, debts, at in seized)
            elif event == "CollateralStatus" and self._asset_of.get(row["collateral"], LENT) != LENT:
                step = self._enabled(at, row)
            else:
                step = None
            if step is not None:
                steps[at] = step
        for call in debts.calls:
            steps[call.at] = self._debt(call, logs)
        names = self._checks(logs, steps)
        self._moved = False
        # A new model's rate is in the status before the model's own log; a new fee's status keeps the rate as it was.
        self._governed = any(
            event in ("GovSetInterestRateModel", "GovSetInterestFee") and row["address"] == self._own
            for _, event, row in logs
        )
        for at, (seq, event, row) in enumerate(logs):
            self._at(row)
            if at in steps:
                step = steps[at]
                step.emit(seq if step.action_seq < 0 else step.action_seq)
            if at in names:
                self._check(row, names[at])
            self._other(event, row)

    def _checks(self, logs: Sequence[Log], steps: Mapping[int, _Step]) -> dict[int, str]:
        """Places of status checks of this vault's accounts, with what their actions are called."""
        names = {}
        for at, (seq, event, row) in enumerate(logs):
            if event != "AccountStatusCheck" or row["controller"] != self._own:
                continue
            own = [
                step
                for place, step in steps.items()
                if place < at and step.account == row["account"] and step.action_seq < 0 and step.kind != "liquidation"
            ]
            for step in own:
                step.action_seq = seq
            names[at] = own[0].kind if len(own) == 1 else "batch" if own else "check"
        return names

    def _check(self, row: Mapping[str, Any], name: str) -> None:
        self._set(self._person(row["account"]), "status_checked", None, row["timestamp"], name, self._place["seq"])

    def _seized(self, logs: Sequence[Log], debts: Debts) -> set[int]:
        """Places of the transfers of shares that liquidations made."""
        found: set[int] = set()
        for call in debts.calls:
            if call.kind != "liquidation":
                continue
            row = logs[call.at][2]
            shares = int(row["yield_balance"])
            if not shares or row["address"] != self._own:
                continue
            wanted = row["collateral"], row["violator"], row["liquidator"], shares
            for at in range(call.at - 1, -1, -1):
                _, event, other = logs[at]
                if event != "Transfer" or at in found:
                    continue
                if (other["address"], other["from"], other["to"], int(other["value"])) == wanted:
                    found.add(at)
                    break
            else:
                self._at(row)
                raise self._unexplained("a liquidation without the transfer of what it seized")
        return found

    # -- shares --------------------------------------------------------------------------------------------------------

    def _shares(self, at: int, event: str, row: Mapping[str, Any], debts: Debts, seized: bool) -> _Step | None:
        address, asset = row["address"], self._asset_of[row["address"]]
        if event == "Transfer":
            shares = int(row["value"])
            if not shares or seized or ZERO in (row["from"], row["to"]):
                return None

            def moves(seq: int) -> None:
                amount = self._accrued(address, row).vault.worth_down(shares)
                for whose, sign in ((row["from"], -1), (row["to"], 1)):
                    self._position(whose, asset, "collateral", sign * shares, "transfer", seq, amount)

            return _Step(at, row["from"], "transfer", moves)
        owner, assets, shares = row["owner"], int(row["assets"]), int(row["shares"])
        if not shares:  # what a written off debt is told by
            return None
        if event == "Deposit":
            kind = "treasury" if row["sender"] == ZERO and not assets else "supply"
        else:
            kind = "repay_with_shares" if at in debts.with_shares else "withdraw"

        def emit(seq: int) -> None:
            vault = self._accrued(address, row).vault
            if kind == "treasury":
                vault.fees -= shares
            else:
                vault.shares += shares if kind == "supply" else -shares
                if kind != "repay_with_shares":
                    vault.cash += assets if kind == "supply" else -assets
            delta = shares if event == "Deposit" else -shares
            self._position(owner, asset, "collateral", delta, kind, seq, assets)

        return _Step(at, owner, kind, emit)

    def _enabled(self, at: int, row: Mapping[str, Any]) -> _Step:
        asset, value = self._asset_of[row["collateral"]], int(row["enabled"])
        name = "enable" if value else "disable"

        def emit(seq: int) -> None:
            self._set(self._person(row["account"]), "collateral_enabled", asset, value, name, seq)

        return _Step(at, row["account"], name, emit)

    # -- debts ---------------------------------------------------------------------------------------------------------

    def _debt(self, call: DebtCall, logs: Sequence[Log]) -> _Step:
        row = logs[call.at][2]
        address = row["address"]
        if address not in self._asset_of:  # a vault that is none of ours any more is not fetched
            return _Step(call.at, call.account, call.kind, lambda seq: None)

        def emit(seq: int) -> None:
            ledger = self._accrued(address, row)
            ours = address == self._own
            if call.kind == "borrow":
                if ours:
                    self._priced(call.account)
                self._one(ledger.borrow(call.account, call.assets), call, "borrow", ours, seq)
            elif call.kind in ("repay", "repay_with_shares"):
                self._one(ledger.repay(call.account, call.assets, call.kind), call, call.kind, ours, seq)
            elif call.kind == "transfer":
                self._handed(ledger, call, ours, "transfer", seq)
            else:
                self._liquidated(ledger, call, row, ours, seq)

        return _Step(call.at, call.account, call.kind, emit)

    def _one(self, moved: Moved | None, call: DebtCall, action: str, ours: bool, seq: int) -> None:
        moved = self._said(moved, call.assets, call.interest)
        if ours:
            self._position(call.account, LENT, "debt", moved.after - moved.stored, action, seq, call.assets)

    def _handed(self, ledger: Ledger, call: DebtCall, ours: bool, action: str, seq: int) -> None:
        """A debt that one account takes over from another."""
        both = ledger.transfer(call.giver, call.taker, call.assets)
        if both is None:
            raise self._unexplained(f"{call.assets} of debt change hands, less is owed by the rules")
        gave = self._said(both[0], call.repaid, call.interest)
        took = self._said(both[1], call.borrowed, call.interest_there)
        if ours:
            amount = call.assets if action == "transfer" else 0
            self._position(call.giver, LENT, "debt", gave.after - gave.stored, action, seq, amount)
            self._position(call.taker, LENT, "debt", took.after - took.stored, action, seq, amount)

    def _liquidated(self, ledger: Ledger, call: DebtCall, row: Mapping[str, Any], ours: bool, seq: int) -> None:
        lost = call.lost
        if not ours:
            if call.assets:
                self._handed(ledger, call, False, "liquidation", seq)
            if lost:
                self._said(ledger.repay(call.giver, lost, "socialized"), lost, call.interest_lost)
            return
        shares = int(row["yield_balance"])
        if not call.assets and not shares:  # nobody was in violation: nothing happened
            return
        if row["collateral"] not in self._asset_of:
            raise self._unexplained(f"a liquidation of {address_text(row['collateral'])}, which is no collateral")
        self._priced(call.giver)
        asset = self._asset_of[row["collateral"]]
        tokens = self.state.accrued(asset, row["timestamp"]).worth_down(shares)
        self._add(
            "liquidations",
            transaction_hash=row["transaction_hash"],
            account_id=self._person(call.giver),
            liquidator_id=self._person(call.taker),
            debt_asset_id=LENT,
            collateral_asset_id=asset,
            repaid=call.assets,
            seized=tokens,
            protocol_fee=0,
            receive_collateral_token=True,
        )
        if call.assets:
            self._handed(ledger, call, True, "liquidation", seq)
        for whose, sign in ((call.giver, -1), (call.taker, 1)):
            if shares:
                self._position(whose, asset, "collateral", sign * shares, "liquidation", seq, tokens)
        if lost:
            moved = self._said(ledger.repay(call.giver, lost, "socialized"), lost, call.interest_lost)
            self._position(call.giver, LENT, "debt", moved.after - moved.stored, "liquidation", seq, 0)
            account = self._person(call.giver)
            self._set(account, "bad_debt", LENT, lost, "liquidation", seq)
            rows = self._rows["indexes"]
            if rows and rows[-1]["seq"] == self._place["seq"]:
                rows.pop()
            self._indexed(index_update(ledger.vault, LENT, self._place))  # what lenders have falls with this log
            self._add(
                "deficits",
                account_id=account,
                asset_id=LENT,
                amount=lost,
                kind="created",
                liquidation_seq=self._place["seq"],
            )

    def _said(self, moved: Moved | None, amount: int, interest: int) -> Moved:
        """A change of a debt that its logs say as the rules do."""
        if moved is None:
            raise self._unexplained(f"{amount} of debt are repaid, less is owed by the rules")
        if (moved.amount, moved.interest) != (amount, interest):
            raise self._unexplained(
                f"{amount} of debt moved and {interest} of interest by its logs, {moved.amount} and {moved.interest} by"
                " the rules"
            )
        return moved

    def _priced(self, who: bytes) -> None:
        """The oracle counts collateral as what its shares convert to; otherwise no price here is the vault's."""
        has, unit = self.state.account(self._person(who)), self._terms[address_text(self._own)].unit
        for asset in has.enabled:
            vault = self.market.assets[asset].asset
            if asset not in has.shares or not self.state.borrow_ltv(asset):
                continue
            if not self._routing.by_shares(vault, self._terms[vault].asset, unit):
                raise self._unexplained(
                    f"collateral {vault} is not priced by what its shares convert to, as far as the oracle's logs say"
                )

    # -- everything else -----------------------------------------------------------------------------------------------

    def _other(self, event: str, row: Mapping[str, Any]) -> None:
        if event in _ROUTED:
            self._routing.take(event, row)
        elif event == "VaultStatus" and row["address"] in self._asset_of:
            self._status(row)
        elif event == "GovSetInterestFee" and row["address"] in self._asset_of:
            self._accrued(row["address"], row).vault.fee = int(row["new_fee"])
            asset = self._asset_of[row["address"]]
            self._param("vault_fee", int(row["new_fee"]), asset)
        elif row["address"] == self._own:
            self._govern(event, row)

    def _govern(self, event: str, row: Mapping[str, Any]) -> None:
        if event == "EVaultCreated":
            self._param("created", row["timestamp"])
        elif event == "GovSetLTV":
            asset = self._asset_of[row["collateral"]]
            for name, column in (
                ("ltv", "borrow_ltv"), ("initial_threshold", "initial_liquidation_ltv"),
                ("ramp_duration", "ramp_duration"), ("ramp_end", "target_timestamp"),
                ("liquidation_threshold", "liquidation_ltv"),
            ):  # fmt: skip
                self._param(name, int(row[column]), asset)
        elif event == "GovSetMaxLiquidationDiscount":
            self._param("max_liquidation_discount", int(row["new_discount"]))
        elif event == "GovSetLiquidationCoolOffTime":
            self._param("liquidation_cool_off", int(row["new_cool_off_time"]))
        elif event == "GovSetHookConfig":
            self._param("hook_target", int(row["new_hook_target"] != ZERO))
            self._param("hooked_ops", int(row["new_hooked_ops"]))
        elif event == "GovSetConfigFlags":
            self._param("config_flags", int(row["new_config_flags"]))
        elif event == "GovSetCaps":
            self._param("supply_cap", cap_of(int(row["new_supply_cap"])))
            self._param("borrow_cap", cap_of(int(row["new_borrow_cap"])))
        elif event == "GovSetInterestRateModel":
            self._curve(address_text(row["new_interest_rate_model"]))

    def _curve(self, model: str) -> None:
        """The new model, as far as it is one bent line: no model leaves the rate at nothing."""
        told = [self._words.get((model, call)) for call in MODEL_GETTERS] if model != ZERO_ADDRESS else [0, 0, 0, 0]
        known = None not in told and max(each or 0 for each in told) < 10**30
        if known:
            for name, value in zip(_CURVE, told, strict=True):
                self._param(name, value or 0)
            vault = self._ledgers[self._own].vault
            known = vault.rate == kink_rate(vault.cash, vault.borrows, *(each or 0 for each in told))
        self._model = KINK if known else UNKNOWN_RATE
        self._param("rate_model", self._model)

    def _status(self, row: Mapping[str, Any]) -> None:
        """The vault checked itself: everything that it says is what the rules say."""
        asset = self._asset_of[row["address"]]
        if row["address"] not in self._ledgers:
            self._begin(row, asset)
        vault = self._accrued(row["address"], row).vault
        names = ("total_shares", "total_borrows", "accumulated_fees", "cash", "interest_accumulator")
        theirs = tuple(int(row[name]) for name in names)
        ours = vault.shares, vault.borrows, vault.fees, vault.cash, vault.accumulator
        for name, said, found in zip(names, theirs, ours, strict=True):
            if said != found:
                raise self._unexplained(
                    f"{name.replace('_', ' ')} of {address_text(row['address'])} is {said} in its status, {found} by"
                    " the rules"
                )
        vault.rate = int(row["interest_rate"])
        known = self._statuses.get(asset, Vault())
        self._statuses[asset] = replace(vault)
        for name, value, was in (
            ("vault_cash", vault.cash, known.cash), ("vault_debt", vault.debt, known.debt),
            ("vault_shares", vault.shares, known.shares),
            ("vault_accumulator", vault.accumulator, known.accumulator),
        ):  # fmt: skip
            if value != was:
                self._param(name, value, asset)
        self._param("vault_rate", vault.rate, asset)
        if asset != LENT:
            if known.shares and vault.share_price < known.share_price * (10**9 - 1) // 10**9:
                self._param("share_price_fell", 1, asset)
            self._indexed(index_update(vault, asset, self._place))
            return
        if self._model == KINK and not self._governed:
            curve = (self.state.param(name) for name in _CURVE)
            if vault.rate != kink_rate(vault.cash, vault.borrows, *curve):  # a model with the same getters
                self._model = UNKNOWN_RATE
                self._param("rate_model", UNKNOWN_RATE)
        if not self._moved and not self._governed:
            self._param("touched", row["timestamp"])
        self._indexed(index_update(vault, LENT, self._place))
        book = self.state.vaults[LENT]
        if book != vault:
            raise self._unexplained(f"the book has {book}, the vault's ledger {vault}")

    def _begin(self, row: Mapping[str, Any], asset: AssetId) -> None:
        """A vault's first status: as it was initialized."""
        self._ledgers[row["address"]] = Ledger(Vault(updated=row["timestamp"], fee=INITIAL_FEE, accumulator=RAY))
        self._param("share_decimals", 0, asset)
        if asset == LENT:
            self._param("euler_revision", RULES_REVISION)
            self._param("debt_is_principal", 1, LENT)
            self._param("hooked_ops", ALL_OPS)
            self._curve(ZERO_ADDRESS)
            if self.state.vaults[LENT].updated == 0:
                self._param("created", row["timestamp"])

    def _accrued(self, address: bytes, row: Mapping[str, Any]) -> Ledger:
        """A vault's ledger, with interest up to this log."""
        ledger = self._ledgers.get(address)
        if ledger is None:
            raise self._unexplained(f"{address_text(address)} was never initialized by its logs")
        ledger.vault.accrue(row["timestamp"])
        return ledger

    # -- rows, and the same in the book --------------------------------------------------------------------------------

    def _person(self, address: bytes) -> AccountId:
        """An account's id; where it is new and not its owner's first, which of them it is."""
        known = len(self.ids)
        account = self._id(address)
        owner = self._owners.get(address[:19])
        if len(self.ids) > known and owner is not None and owner != address:
            number = owner[19] ^ address[19]
            self._set(account, "sub_account", None, number, "register", self._place["seq"])
        return account

    def _position(self, who: bytes, asset: AssetId, side: Side, delta: int, action: str, seq: int, amount: int) -> None:
        account = self._person(who)
        has = self.state.account(account)
        held = has.debt if side == "debt" else has.shares.get(asset, 0)
        if held + delta < 0:
            raise self._unexplained(
                f"{address_text(who)} gives up more than it holds of {self.market.assets[asset].symbol}"
            )
        if asset == LENT and not self._moved:  # interest up to this call, as of which debts are stored
            self._moved = True
            self._indexed(index_update(self._ledgers[self._own].vault, LENT, self._place))
        change = PositionChange(
            **self._place, account=account, asset=asset, side=side, delta=delta, action=action, action_seq=seq,
            amount=amount,
        )  # fmt: skip
        self._changed(change)

    def _set(self, account: AccountId, setting: str, asset: AssetId | None, value: int, action: str, seq: int) -> None:
        own = {"account": account, "setting": setting, "asset": asset, "value": value}
        self._apply(self.state, SettingChange(**self._place, **own, action=action, action_seq=seq))  # type: ignore[arg-type]
        self._add(
            "setting_events", account_id=account, setting=setting, asset_id=asset, value=value, action=action,
            action_seq=seq,
        )  # fmt: skip

    def _unexplained(self, what: str) -> RulesError:
        return RulesError(
            f"block {self._place['block_number']}, log {self._place['log_index']}: {what}",
            "logs before it are missing, or the vault runs other code than that of March 2025: run backtest check",
        )
