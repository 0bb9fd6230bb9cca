"""Raw logs of one market to canonical tables.

The book of ``state`` runs along. An accrual logs its interest alone, and nothing where there is none: each call accrues
here by the silo's model, and its interest is held against the log. The logs of one liquidation (transfers of share
tokens, ``Repay``, ``Withdraw``) come before its own and are read with it; those of a ``transitionCollateral`` are one
action.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, AssetId, Market, PositionChange, Side
from backtest.protocols.folding import BookRows, Rows, Running, listed_rows, refuse_quarantined
from backtest.protocols.interface import RawEvents
from backtest.protocols.silo_v2.events import (
    BACKING,
    EVENTS,
    PRICE_DIGITS,
    ZERO_ADDRESS,
    Origin,
    Words,
    address_text,
    call_of,
    checked,
    made,
    metadata,
    words_read,
)
from backtest.protocols.silo_v2.irm import Gains
from backtest.protocols.silo_v2.state import (
    ACCRUED,
    BORROW_ORACLE,
    PROTECTED,
    RULES_REVISION,
    SILOS,
    TERMS,
    TOLD,
    VARIABLES,
    WITH_ACTION,
    SiloState,
    apply,
    index_update,
    open_state,
)
from backtest.tables import CANONICAL
from backtest.units import WAD

SEGMENT_ROWS = 1 << 18
_SHARES = ("assets", "shares")
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "HooksUpdated": (),
    "AccruedInterest": ("interest",),
    "InterestRateModelError": (),
    "Deposit": ("owner", *_SHARES),
    "DepositProtected": ("owner", *_SHARES),
    "Withdraw": ("owner", *_SHARES),
    "WithdrawProtected": ("owner", *_SHARES),
    "Borrow": ("owner", *_SHARES),
    "Repay": ("sender", "owner", *_SHARES),
    "CollateralTypeChanged": ("borrower",),
    "WithdrawnFees": (),
    "WithdrawnFeed": (),
    "Transfer": ("from", "to", "value"),
    "ShareTransfer": ("from", "to", "value"),
    "LiquidationCall": (
        "liquidator", "silo", "borrower", "repay_debt_assets", "withdraw_collateral", "receive_s_token",
        "transaction_hash",
    ),
    "DefaultingLiquidation": (),
}  # fmt: skip
assert _COLUMNS.keys() == {spec.name for spec in EVENTS}
_KEY = ("block_number", "log_index", "transaction_index", "address")
# Event: action, whether of protected collateral, side, sign.
_MOVES: Mapping[str, tuple[str, bool, Side, int]] = {
    "Deposit": ("supply", False, "collateral", 1),
    "DepositProtected": ("supply", True, "collateral", 1),
    "Withdraw": ("withdraw", False, "collateral", -1),
    "WithdrawProtected": ("withdraw", True, "collateral", -1),
    "Borrow": ("borrow", False, "debt", 1),
    "Repay": ("repay", False, "debt", -1),
}
_ACCRUES_BOTH = frozenset({"Withdraw", "WithdrawProtected"})
_TRANSFERS = frozenset({"Transfer", "ShareTransfer"})
_FEES = frozenset({"WithdrawnFees", "WithdrawnFeed"})
_TRANSITIONS = {"Withdraw": "DepositProtected", "WithdrawProtected": "Deposit"}
_NOBODY = bytes(20)
Log = tuple[int, str, dict[str, Any]]


def fold(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold`` and ``fold_on``.

    Raises:
        RulesError: a log could not be decoded, a rate model is not known, or logs show what the rules do not explain;
            names the block.
        UserError: the market has no log yet, or its description has other addresses or decimals than its contracts.
    """
    refuse_quarantined(raw, "look at it in raw/silo-v2/Quarantine")
    market, origin = _market(config, raw)
    folding = (running or Running()).begin(lambda: _Folding(market, origin))
    folding.words = words_read(raw)
    known = len(folding.ids)
    for segment in raw.segments(SEGMENT_ROWS, {event: [*_KEY, *columns] for event, columns in _COLUMNS.items()}):
        for name, rows in folding.segment(segment).items():
            yield name, pa.Table.from_pylist(rows, CANONICAL[name])
    yield from listed_rows(market, folding.ids, known)


def _market(config: MarketConfig, raw: RawEvents) -> tuple[Market, Origin]:
    origin = made(raw)
    if origin is None:
        raise UserError(
            f"market '{config.name}' has no log of its silos by the last block fetched, or what they were made with was"
            " not read",
            "check contracts and start_block of the market, or fetch further, with an archive node",
        )
    checked(config, origin)
    listed = [origin.address(n, name) for name in ("token", "protected") for n in SILOS]
    digits = [metadata(raw, origin.address(n, "token"))[1] for n in SILOS]
    assets = tuple(
        Asset(AssetId(number), token, metadata(raw, token)[0], digits[number % PROTECTED])
        for number, token in enumerate(listed)
    )
    unit = [digits[n] for n in SILOS if origin.address(n, "solvency_oracle") == ZERO_ADDRESS]
    base = unit[0] if unit else config.base_decimals
    if (config.base_decimals, config.price_decimals) != (base, base + PRICE_DIGITS):
        raise UserError(
            f"market '{config.name}': base_decimals = {config.base_decimals}, price_decimals ="
            f" {config.price_decimals}; the oracles' quote has {base} decimals, and prices are asked for with"
            f" {PRICE_DIGITS} more",
            f"write base_decimals = {base} and price_decimals = {base + PRICE_DIGITS} in the market's description",
        )
    return Market(
        name=config.name, protocol=config.protocol, chain_id=config.chain_id, assets=assets, accounts=(),
        base_decimals=config.base_decimals, price_decimals=config.price_decimals,
    ), origin  # fmt: skip


class _Folding(BookRows[SiloState]):
    """The book as of the last log, and ids of accounts in order of first appearance."""

    words: Words

    def __init__(self, market: Market, origin: Origin) -> None:
        super().__init__(market, open_state(market), apply)
        self._origin = origin
        self._silo = {origin.address(n, "silo"): n for n in SILOS}
        self._share: dict[str, tuple[AssetId, Side]] = {}
        for n in SILOS:
            self._share[origin.address(n, "silo")] = AssetId(n), "collateral"
            self._share[origin.address(n, "protected")] = AssetId(n + PROTECTED), "collateral"
            self._share[origin.address(n, "debt")] = AssetId(n), "debt"
        self._hook = bytes.fromhex(origin.address(0, "hook")[2:])
        self._begun = False

    def segment(self, tables: Mapping[str, pa.Table]) -> Rows:
        """Rows of all tables that these logs add to."""
        logs: list[Log] = sorted(
            ((row["seq"], event, row) for event, table in tables.items() for row in table.to_pylist()),
            key=lambda log: log[0],
        )
        self._rows = defaultdict(list)
        for _, group in itertools.groupby(logs, lambda log: (log[2]["block_number"], log[2]["transaction_index"])):
            self._transaction(list(group))
        return self._rows

    def _transaction(self, logs: Sequence[Log]) -> None:
        parts = {place: self._parts(logs, place) for place, log in enumerate(logs) if log[1] == "LiquidationCall"}
        skipped = {place for found in parts.values() for place in found}
        for place, (_, event, row) in enumerate(logs):
            self._at(row)
            if not self._begun:
                self._begin()
            if place in skipped:
                continue
            if event == "AccruedInterest":
                self._accrue(self._silo_of(row), int(row["interest"]), WITH_ACTION if _called(logs, place) else ACCRUED)
            elif event in _MOVES:
                skipped |= self._move(logs, place)
            elif event in _TRANSFERS:
                self._transfer(row)
            elif event == "CollateralTypeChanged":
                self._switch(row)
            elif event == "LiquidationCall":
                self._liquidate(row, [logs[each] for each in parts[place]])
            elif event in _FEES:
                self._touch([self._silo_of(row)], ACCRUED)
            elif event == "InterestRateModelError":
                raise self._unexplained("a rate model that failed: what it then charges is not known")
            elif event == "DefaultingLiquidation":
                raise RulesError(
                    f"block {row['block_number']}: a liquidation by defaulting (SiloHookV2, SiloHookV3), which takes"
                    " debt from lenders",
                    "markets with that hook are not supported",
                )

    def _unexplained(self, what: str) -> RulesError:
        place = self._place
        return RulesError(
            f"block {place['block_number']}, log {place['log_index']}: {what}",
            "logs before it are missing, or the market is another: run backtest check",
        )

    def _silo_of(self, row: Mapping[str, Any]) -> int:
        return self._silo[address_text(row["address"])]

    def _begin(self) -> None:
        origin = self._origin
        self._begun = True
        self._param("created", 1)
        self._param("silo_revision", RULES_REVISION)
        self._param("fractions", int(origin.fractions))
        for name in ("dao_fee", "deployer_fee"):
            self._param(name, origin.silos[0][name])
        for n in SILOS:
            own, asset = origin.silos[n], AssetId(n)
            terms = {**own, "liquidation_bonus": WAD + own["liquidation_fee"]}
            for name in (*TERMS, "flashloan_fee"):
                self._param(name, terms[name], asset)
            self._param(BORROW_ORACLE, int(own["max_ltv_oracle"] != own["solvency_oracle"]), asset)
            for name in (*Gains._fields, *VARIABLES):
                self._param(name, origin.models[n][name], asset)

    # -- interest ------------------------------------------------------------------------------------------------------

    def _touch(self, silos: Iterable[int], name: str = WITH_ACTION) -> None:
        """A call accrues these silos, and what it did not log it did not charge."""
        for n in silos:
            if self.state.silos[n].updated < self._place["timestamp"]:
                self._accrue(n, 0, name)

    def _accrue(self, n: int, logged: int, name: str) -> None:
        silo, asset = self.state.silos[n], AssetId(n)
        before = silo.debt, silo.collateral, silo.interest_left, silo.revenue_left
        rate = self.state.rate(n, self._place["timestamp"])
        if silo.updated:
            for variable, value in zip(VARIABLES, (rate.ri, rate.t_crit), strict=True):
                self._param(variable, value, asset)
        self._param(name, rate.rcomp, asset)
        after = silo.debt, silo.collateral, silo.interest_left, silo.revenue_left
        interest = after[0] - before[0]
        if interest != logged:
            raise self._unexplained(f"interest of {logged} in the log, {interest} by the rules")
        told = (interest, after[1] - before[1], *after[2:])
        for name, value, changed in zip(TOLD, told, map(int.__ne__, before, after), strict=True):
            if changed:
                self._param(name, value, asset)
        self._index(n)

    def _index(self, n: int) -> None:
        self._indexed(index_update(self.state, n, self.state.silos[n], self._place))

    # -- users' calls --------------------------------------------------------------------------------------------------

    def _move(self, logs: Sequence[Log], place: int) -> set[int]:
        """One call; which logs behind it were read with it."""
        _, event, row = logs[place]
        action, protected, side, sign = _MOVES[event]
        n, account = self._silo_of(row), self._id(row["owner"])
        asset, closing, also = AssetId(n + PROTECTED * protected), self._place["seq"], set()
        following = logs[place + 1] if place + 1 < len(logs) else None
        same = following is not None and following[2]["address"] == row["address"]
        touched: Sequence[int] = SILOS if event in _ACCRUES_BOTH else [n]
        given: Log | None = None
        if event == "Borrow":
            changed = same and following is not None and following[1] == "CollateralTypeChanged"
            backing = self._told_backing(row["owner"]) if changed else self.state.of(account).backed_by
            if backing is None:
                raise self._unexplained("a loan that no silo backs")
            touched = SILOS if backing != n else [n]
            if changed:
                also = {place + 1}
        elif same and following is not None and _is_transition(logs[place], following):
            given, also, action, closing = following, {place + 1}, "transfer", following[0]
        self._touch(touched)
        if event == "Borrow" and also:
            self._setting_of(account, backing, action)
        self._position(account, asset, side, sign * int(row["shares"]), action, int(row["assets"]), closing)
        if given is not None:
            other = AssetId(n + PROTECTED * (not protected))
            own = given[2]
            self._at(own)
            self._position(account, other, side, int(own["shares"]), action, int(own["assets"]), closing)
        self._index(n)
        return also

    def _told_backing(self, account: bytes) -> int:
        """Which silo then backs an account's debt, as it was read."""
        block = self._place["block_number"]
        words = self.words.get((block, self._origin.config, call_of(BACKING, int.from_bytes(account, "big"))))
        silo = None if not words else self._silo.get(f"0x{words[0] % 2**160:040x}")
        if silo is None:
            raise RulesError(
                f"block {block}: which silo backs the debt of {address_text(account)} was not read",
                "run the fetch again, with a node that has that block's state",
            )
        return silo

    def _setting_of(self, account: AccountId, backing: int | None, action: str) -> None:
        assert backing is not None
        self._setting(account, "collateral_silo", None, backing, action)

    def _switch(self, row: Mapping[str, Any]) -> None:
        """``switchCollateralToThisSilo``: another silo backs the debt, if there is one."""
        account = self._id(row["borrower"])
        if self.state.of(account).debtor is not None:
            self._touch(SILOS)
        self._setting_of(account, self._told_backing(row["borrower"]), "collateral-flag")

    def _transfer(self, row: Mapping[str, Any]) -> None:
        """Shares between users; those that are made and burnt come with their own logs."""
        shares, ends = int(row["value"]), (row["from"], row["to"])
        if _NOBODY in ends:
            return
        asset, side = self._share[address_text(row["address"])]
        n = asset % PROTECTED
        giver, taker = (self._id(who) for who in ends)
        has = self.state.of(giver)
        if side == "debt" or has.backing == n:
            self._touch(SILOS)
        if giver == taker:
            return
        silo = self.state.silos[n]
        if side == "debt":
            worth = silo.owed.assets_up(shares)
            if self.state.of(taker).backed_by is None and has.backed_by is not None:
                self._setting_of(taker, has.backed_by, "transfer")
        else:
            worth = (silo.kept if asset >= PROTECTED else silo.lent).assets_down(shares)
        for who, sign in ((giver, -1), (taker, 1)):
            self._position(who, asset, side, sign * shares, "transfer", worth)

    def _position(
        self, account: AccountId, asset: AssetId, side: Side, delta: int, action: str, amount: int,
        closing: int | None = None,
    ) -> None:  # fmt: skip
        has = self.state.of(account)
        held = (has.owed if side == "debt" else has.protected if asset >= PROTECTED else has.lent)[asset % PROTECTED]
        if -delta > held:
            raise self._unexplained(f"{list(self.ids)[account]} gives up more than it holds")
        own: dict[str, Any] = {**self._place, "action": action, "amount": amount}
        own["action_seq"] = self._place["seq"] if closing is None else closing
        self._changed(PositionChange(account=account, asset=asset, side=side, delta=delta, **own))

    # -- liquidations --------------------------------------------------------------------------------------------------

    def _parts(self, logs: Sequence[Log], place: int) -> list[int]:
        """Places of the logs of one liquidation before its own: the repayment by the hook, transfers from the borrower
        right before it, and what the hook redeems or gives away behind it.
        """
        row = logs[place][2]
        taker = row["liquidator"] if row["receive_s_token"] else self._hook
        repaid = next(
            (
                at
                for at in range(place - 1, -1, -1)
                if logs[at][1] == "Repay"
                and (logs[at][2]["sender"], logs[at][2]["owner"], logs[at][2]["address"])
                == (self._hook, row["borrower"], row["silo"])
            ),
            None,
        )
        if repaid is None:
            self._at(row)
            raise self._unexplained("a liquidation without the repayment of its debt")
        found = [repaid]
        tokens: set[bytes] = set()
        for at in range(repaid - 1, -1, -1):
            _, event, own = logs[at]
            if event not in _TRANSFERS:
                break
            if _NOBODY in (own["from"], own["to"]):
                continue
            token = own["address"]
            if (own["from"], own["to"]) != (row["borrower"], taker) or token in tokens or len(tokens) == 2:
                break
            tokens.add(token)
            found.append(at)
        found += [
            at
            for at in range(repaid + 1, place)
            if (logs[at][1] in ("Withdraw", "WithdrawProtected") and logs[at][2]["owner"] == self._hook)
            or (logs[at][1] in _TRANSFERS and logs[at][2]["from"] == self._hook and logs[at][2]["to"] != _NOBODY)
        ]
        return sorted(found)

    def _liquidate(self, row: Mapping[str, Any], own: Sequence[Log]) -> None:
        account, debtor = self._id(row["borrower"]), self._silo[address_text(row["silo"])]
        liquidator, backing = self._id(row["liquidator"]), self.state.of(account).backing
        if backing is None or self.state.of(account).debtor != debtor:
            raise self._unexplained("a liquidation of a debt that is not there")
        self._touch(sorted({debtor, backing}))
        repaid = next(each for _, event, each in own if event == "Repay")
        if int(repaid["assets"]) != int(row["repay_debt_assets"]):
            raise self._unexplained("a liquidation that repays another amount than its own log says")
        self._position(account, AssetId(debtor), "debt", -int(repaid["shares"]), "liquidation", int(repaid["assets"]))
        got = 0
        for asset in (AssetId(backing), AssetId(backing + PROTECTED)):
            got += self._seize(row, own, account, liquidator, asset)
        if got != int(row["withdraw_collateral"]):
            raise self._unexplained(
                f"collateral of {row['withdraw_collateral']} in the log, {got} in those of its parts"
            )
        self._add(
            "liquidations",
            transaction_hash=row["transaction_hash"],
            account_id=account,
            liquidator_id=liquidator,
            debt_asset_id=debtor,
            collateral_asset_id=backing,
            repaid=int(row["repay_debt_assets"]),
            seized=got,
            protocol_fee=0,
            receive_collateral_token=bool(row["receive_s_token"]),
            debt_scaled=int(repaid["shares"]),
        )
        for n in sorted({debtor, backing}):
            self._index(n)

    def _seize(
        self, row: Mapping[str, Any], own: Sequence[Log], account: AccountId, liquidator: AccountId, asset: AssetId
    ) -> int:
        """What leaves the borrower of one kind of collateral, native units."""
        moved = [each for _, event, each in own if event in _TRANSFERS]
        taken = [each for each in moved if each["from"] == row["borrower"] and self._asset_of(each) == asset]
        if not taken:
            return 0
        shares, pool = int(taken[0]["value"]), self.state.silos[asset % PROTECTED]
        given = [each for each in moved if each["from"] == self._hook and self._asset_of(each) == asset]
        if row["receive_s_token"] or given:
            worth = (pool.kept if asset >= PROTECTED else pool.lent).assets_down(shares)
            self._position(account, asset, "collateral", -shares, "liquidation", worth)
            self._position(liquidator, asset, "collateral", shares, "liquidation", worth)
            return worth
        kind = "WithdrawProtected" if asset >= PROTECTED else "Withdraw"
        redeemed = [each for _, event, each in own if event == kind]
        if not redeemed or int(redeemed[0]["shares"]) != shares:
            raise self._unexplained("a liquidation that redeems other shares than it took")
        self._position(account, asset, "collateral", -shares, "liquidation", int(redeemed[0]["assets"]))
        return int(redeemed[0]["assets"])

    def _asset_of(self, row: Mapping[str, Any]) -> AssetId | None:
        """The collateral whose shares a transfer moves; None: debt."""
        asset, side = self._share[address_text(row["address"])]
        return asset if side == "collateral" else None


def _is_transition(first: Log, second: Log) -> bool:
    """Whether two logs of one silo are of one ``transitionCollateral``: nothing was made or burnt between them."""
    return (
        second[1] == _TRANSITIONS.get(first[1])
        and second[2]["log_index"] == first[2]["log_index"] + 1
        and (second[2]["owner"], second[2]["assets"]) == (first[2]["owner"], first[2]["assets"])
    )


def _called(logs: Sequence[Log], place: int) -> bool:
    """Whether a user's call follows an accrual in its transaction, and so made it."""
    for _, event, row in logs[place + 1 :]:
        if event in _TRANSFERS:
            if _NOBODY not in (row["from"], row["to"]):
                return True
        elif event != "AccruedInterest":
            return event not in _FEES
    return False
