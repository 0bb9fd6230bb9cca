"""Raw logs of a Compound V2 market to canonical tables.

Each log is one action, but for a liquidation, which is made of a repayment, transfers of cTokens and its own log, and
stands where that is. The book of ``state`` runs along: every recorded interest, index, debt and total is checked
against the rules.

A cToken's cash is what it holds of its token, which anybody may send there: such cash is in no log of the market. The
next accrual says how much there is; what differs becomes a parameter there (``cash_found``, ``cash_lost``), and counts
from then on.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.model import (
    AccountId,
    Asset,
    AssetId,
    Market,
    ParamChange,
    Side,
)
from backtest.protocols.compound_v2.events import (
    BASE_DECIMALS,
    PRICE_DECIMALS,
    ZERO_ADDRESS,
    address_text,
    asset_rows,
    comptroller_revision,
    listed,
    periods,
    posts,
    seize_shares,
    underlyings,
)
from backtest.protocols.compound_v2.math import NO_KINK, factor_up, mul_down
from backtest.protocols.compound_v2.state import (
    MODEL,
    NOBODY,
    UNKNOWN_RATE,
    CompoundState,
    CTokenMarket,
    apply,
    index_update,
    open_state,
)
from backtest.protocols.folding import BookRows, Rows, Running
from backtest.protocols.interface import RawEvents
from backtest.tables import CANONICAL
from backtest.units import WAD

SEGMENT_ROWS = 1 << 18
LACKING = "logs before it are missing: run backtest check"

Log = tuple[int, str, dict[str, Any]]

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "AccrueInterest": ("cash_prior", "interest", "borrow_index", "total_borrows"),
    "AccrueInterestWithoutCash": ("interest", "borrow_index", "total_borrows"),
    "Mint": ("minter", "amount", "tokens"),
    "MintBehalf": ("receiver", "amount", "tokens"),
    "Redeem": ("redeemer", "amount", "tokens"),
    "RedeemFee": ("redeemer", "amount"),
    "Borrow": ("borrower", "amount", "account_borrows", "total_borrows"),
    "RepayBorrow": ("payer", "borrower", "amount", "account_borrows", "total_borrows"),
    "LiquidateBorrow": ("liquidator", "borrower", "amount", "collateral", "tokens", "transaction_hash"),
    "Transfer": ("source", "destination", "tokens"),
    "ReservesAdded": ("benefactor", "amount", "total_reserves"),
    "ReservesReduced": ("amount", "total_reserves"),
    "NewReserveFactor": ("after",),
    "NewProtocolSeizeShare": ("after",),
    "NewMarketInterestRateModel": ("after",),
    "NewImplementation": ("after",),
    "MarketListed": ("ctoken",),
    "MarketEntered": ("ctoken", "account"),
    "MarketExited": ("ctoken", "account"),
    "NewCloseFactor": ("after",),
    "NewCollateralFactor": ("ctoken", "after"),
    "NewLiquidationIncentive": ("after",),
    "NewPriceOracle": ("after",),
    "NewBorrowCap": ("ctoken", "cap"),
    "ActionPaused": ("action", "paused"),
    "MarketActionPaused": ("ctoken", "action", "paused"),
    "ComptrollerImplementation": ("after",),
    "NewVAIController": ("after",),
    "PricePosted": ("token", "price"),
    "NewInterestParams": ("base", "slope", "jump", "kink"),
    "NewStraightInterestParams": ("base", "slope"),
}
_KEY = ("block_number", "log_index", "transaction_index", "address")
_ACCRUALS = frozenset({"AccrueInterest", "AccrueInterestWithoutCash"})
_ACTIONS = frozenset({"Mint", "MintBehalf", "Redeem", "Borrow", "RepayBorrow"})
_PAUSES = {"Seize": "seize_paused", "Transfer": "transfer_paused"}
_MARKET_PAUSES = {"Mint": "mint_paused", "Borrow": "borrow_paused"}


def fold_on(config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]] | None:
    """See ``LendingProtocol.fold_on``. None where the oracle says its prices otherwise than before: then those of the
    past come from elsewhere too.
    """
    carried: Carried = running.begin(lambda: Carried(posts(raw)))
    return fold(config, raw, carried) if carried.posts == posts(raw) else None


@dataclass
class Carried:
    """Between two parts of a history: whether the oracle posts its prices, and the fold under way."""

    posts: bool
    folding: _Folding | None = None


def fold(config: MarketConfig, raw: RawEvents, carried: Carried | None = None) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold``; ``carried``: of the part before.

    Raises:
        RulesError: a log could not be decoded, a recorded number differs from what the rules give (logs are missing),
            or no rule covers what happened; names its block.
        UserError: the market lists nothing yet, or its description does not say what it must.
    """
    _refuse_quarantined(raw)
    market, ctokens = _market(config, raw)
    folding = (carried and carried.folding) or _Folding(config, market, ctokens)
    if carried is not None:
        carried.folding = folding
    folding.read(raw)
    known = len(folding.ids)
    for segment in raw.segments(SEGMENT_ROWS, {event: [*_KEY, *columns] for event, columns in _COLUMNS.items()}):
        for name, rows in folding.segment(segment).items():
            yield name, pa.Table.from_pylist(rows, CANONICAL[name])
    head = {"market": market.name}
    assets = [
        {
            **head,
            "asset_id": asset.id,
            "asset": asset.asset,
            "symbol": asset.symbol,
            "decimals": asset.decimals,
            "collateral_token": ctoken,
            "debt_token": None,
        }
        for asset, ctoken in zip(market.assets, ctokens, strict=True)
    ]
    yield "assets", pa.Table.from_pylist(assets, CANONICAL["assets"])
    new = itertools.islice(folding.ids.items(), known, None)
    people = [{**head, "account_id": number, "account": account} for account, number in new]
    yield "accounts", pa.Table.from_pylist(people, CANONICAL["accounts"])


def _refuse_quarantined(raw: RawEvents) -> None:
    for row in raw.table("Quarantine").sort_by([("block_number", "ascending"), ("log_index", "ascending")]).to_pylist():
        raise RulesError(
            f"block {row['block_number']}, log {row['log_index']}: a {row['event']} log could not be decoded"
            f" ({row['reason']}), so what follows is unknown",
            "look at it in raw/compound-v2/Quarantine; contracts whose logs have other layouts (Venus since its"
            " diamond) are not supported: end before that block",
        )


def _market(config: MarketConfig, raw: RawEvents) -> tuple[Market, list[str]]:
    """The market, and the cToken of each asset."""
    if not listed(raw):
        raise UserError(
            f"market '{config.name}' lists nothing by the last block fetched",
            "check contracts.comptroller of the market, or fetch further",
        )
    if (config.base_decimals, config.price_decimals) != (BASE_DECIMALS, PRICE_DECIMALS):
        raise UserError(
            f"market '{config.name}': base_decimals = {config.base_decimals}, price_decimals = {config.price_decimals}",
            f"write base_decimals = {BASE_DECIMALS} and price_decimals = {PRICE_DECIMALS} in the market's description",
        )
    rows = asset_rows(raw)
    return Market(
        name=config.name,
        protocol=config.protocol,
        chain_id=config.chain_id,
        assets=tuple(Asset(AssetId(n), row[0], row[2], row[3]) for n, row in enumerate(rows)),
        accounts=(),
        base_decimals=config.base_decimals,
        price_decimals=config.price_decimals,
    ), [row[1] for row in rows]


class _Folding(BookRows[CompoundState]):
    """The book as of the last log, and ids of accounts in order of first appearance."""

    def __init__(self, config: MarketConfig, market: Market, ctokens: Sequence[str]) -> None:
        super().__init__(market, open_state(market), apply)
        self.parameters = config.parameters
        self._asset = {ctoken: AssetId(n) for n, ctoken in enumerate(ctokens)}
        self._names = list(ctokens)
        self._by_second, self._periods_per_year = periods(config.parameters)
        self._rates = _RecordedRates(self._asset, "timestamp" if self._by_second else "block_number")
        self._model_of: dict[AssetId, str] = {}
        self._created: set[AssetId] = set()
        self._there: set[AssetId] = set()
        self._incentive = 0
        self._fee: dict[str, int] = {}
        self._oracle = ZERO_ADDRESS
        self._posted: dict[str, dict[AssetId, int]] = defaultdict(dict)
        self._begun = False

    def read(self, raw: RawEvents) -> None:
        """What the history as a whole says."""
        self._rates.read(raw)
        self._shares, self._models, self._posts = seize_shares(raw), _models(raw), posts(raw)
        lent = underlyings(raw)
        self._lends: dict[str, list[AssetId]] = defaultdict(list)
        for ctoken, asset in self._asset.items():
            self._lends[lent[ctoken] or ctoken].append(asset)

    def segment(self, tables: Mapping[str, pa.Table]) -> Rows:
        """Rows of all tables that these logs add to."""
        logs: list[Log] = sorted(
            ((row["seq"], event, row) for event, table in tables.items() for row in table.to_pylist()),
            key=lambda log: log[0],
        )
        for _, _, row in logs:
            row["address"] = address_text(row["address"])
        self._rows = defaultdict(list)
        start = 0
        while start < len(logs):
            key, end = _transaction(logs[start]), start
            while end < len(logs) and _transaction(logs[end]) == key:
                end += 1
            self._run(logs[start:end])
            start = end
        return self._rows

    def _run(self, logs: Sequence[Log]) -> None:
        """The logs of one transaction."""
        taken = _liquidations(logs)
        own = frozenset().union(*taken.values()) if taken else frozenset()
        for place, (_, event, row) in enumerate(logs):
            self._at(row)
            if not self._begun:
                self._begin()
            if place in own:
                continue
            if event == "LiquidateBorrow":
                self._liquidate(row, [logs[part] for part in taken[place]])
            elif event in _ACCRUALS:
                self._accrue(row, "accrued_with_action" if _acts(logs, place, taken) else "accrued")
            elif event == "Transfer":
                if not _told(logs, place):
                    self._transfer(row)
            elif event in _ACTIONS:
                self._act(event, row)
            else:
                self._set(event, row)

    # -- one log -----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._begun = True
        self._param("interest_by_second", int(self._by_second))
        self._param("periods_per_year", self._periods_per_year)

    def _accrue(self, row: Mapping[str, Any], name: str) -> None:
        asset = self._asset_of(row)
        if asset is None:
            return
        pool, period = (
            self.state.pools[asset],
            self.state.period(ParamChange(**self._place, name="", value=0, asset=asset)),
        )
        if asset not in self._created:
            raise self._wrong(f"{self._names[asset]} accrues before it was made")
        cash = row.get("cash_prior")
        if cash is not None and (difference := int(cash) - pool.cash):
            self._param("cash_found" if difference > 0 else "cash_lost", abs(difference), asset)
        before, after = pool.index, int(row["borrow_index"])
        elapsed = period - pool.updated
        rate, rest = divmod(factor_up(before, after), elapsed) if elapsed > 0 and after >= before else (0, 1)
        if not elapsed and after == before:  # code before 2.3 accrues at every call
            rate, rest = pool.rate, 0
        if rest:
            raise self._wrong(
                f"the borrow index of {self._names[asset]} goes from {before} to {after} in {elapsed} periods, which no"
                " rate gives"
            )
        if pool.model == MODEL and pool.model_rate() != rate:
            self._param("rate_model", UNKNOWN_RATE, asset)
        borrows = pool.borrows
        self._param(name, rate, asset)
        ours = pool.borrows - borrows, pool.index, pool.borrows
        theirs = tuple(int(row[column]) for column in ("interest", "borrow_index", "total_borrows"))
        if ours != theirs:
            raise self._wrong(
                f"interest, index and borrows of {self._names[asset]} are {theirs} in the log, {ours} here"
            )
        self._index(asset)

    def _act(self, event: str, row: Mapping[str, Any]) -> None:
        asset = self._asset_of(row)
        if asset is None:
            return
        amount = int(row["amount"])
        if event in ("Mint", "MintBehalf"):
            account = self._id(row["minter" if event == "Mint" else "receiver"])
            self._position(account, asset, "collateral", int(row["tokens"]), "supply", amount)
        elif event == "Redeem":
            fee = self._fee.pop(row["address"], 0)
            self._position(
                self._id(row["redeemer"]), asset, "collateral", -int(row["tokens"]), "withdraw", amount + fee
            )
        else:
            self._debt(row, asset, amount if event == "Borrow" else -amount, "borrow" if event == "Borrow" else "repay")
        self._index(asset)

    def _debt(self, row: Mapping[str, Any], asset: AssetId, moved: int, action: str) -> None:
        account, pool = self._id(row["borrower"]), self.state.pools[asset]
        own = self.state.accounts.get(account, NOBODY)
        new, principal = own.owed(asset, pool.index) + moved, own.debts.get(asset, (0, 0))[0]
        borrows = pool.borrows + moved
        theirs = int(row["account_borrows"]), int(row["total_borrows"])
        if theirs != (new, borrows):
            raise self._wrong(
                f"what {list(self.ids)[account]} owes {self._names[asset]}, and all owe, is {theirs} in the log,"
                f" {(new, borrows)} here"
            )
        self._position(account, asset, "debt", new - principal, action, abs(moved))

    def _transfer(self, row: Mapping[str, Any]) -> None:
        asset = self._asset_of(row)
        if asset is None:
            return
        tokens = int(row["tokens"])
        amount = mul_down(self.state.pools[asset].exchange_rate, tokens)
        for address, sign in ((row["source"], -1), (row["destination"], 1)):
            self._position(self._id(address), asset, "collateral", sign * tokens, "transfer", amount)

    def _liquidate(self, row: Mapping[str, Any], parts: Sequence[Log]) -> None:
        debt, collateral = self._asset.get(row["address"]), self._asset.get(address_text(row["collateral"]))
        if debt is None or collateral is None:
            return
        account, liquidator = self._id(row["borrower"]), self._id(row["liquidator"])
        repay = next(log for _, event, log in parts if event == "RepayBorrow")
        given = int(next(log for _, event, log in parts if event == "Transfer")["tokens"])
        tokens, pool = int(row["tokens"]), self.state.pools[collateral]
        self._debt(repay, debt, -int(repay["amount"]), "liquidation")
        kept, rate = mul_down(tokens, pool.seize_share), pool.exchange_rate
        if tokens - given != kept:
            raise self._wrong(
                f"{tokens - given} of {tokens} cTokens seized were kept, by the seize share of"
                f" {self._names[collateral]}, {pool.seize_share}, it would be {kept}"
            )
        fee = mul_down(rate, kept)
        self._position(account, collateral, "collateral", -tokens, "liquidation", None)
        self._position(liquidator, collateral, "collateral", given, "liquidation", None)
        if kept:
            self._setting(account, "protocol_share", collateral, fee, "liquidation")
        self._add(
            "liquidations",
            transaction_hash=row["transaction_hash"],
            account_id=account,
            liquidator_id=liquidator,
            debt_asset_id=debt,
            collateral_asset_id=collateral,
            repaid=int(row["amount"]),
            seized=mul_down(rate, given),
            protocol_fee=fee,
            receive_collateral_token=True,
            debt_scaled=None,
        )
        for asset in dict.fromkeys((debt, collateral)):
            self._index(asset)

    # -- settings ----------------------------------------------------------------------------------------------------

    def _set(self, event: str, row: Mapping[str, Any]) -> None:
        if event in ("MarketEntered", "MarketExited"):
            asset, entered = self._asset[address_text(row["ctoken"])], event == "MarketEntered"
            action = "enter" if entered else "exit"
            self._setting(self._id(row["account"]), "collateral_enabled", asset, int(entered), action)
        elif event == "NewPriceOracle":
            self._oracle = address_text(row["after"])
            for asset in self._asset.values() if self._posts else ():
                self._price(asset)
        elif event == "PricePosted":
            self._post(row)
        elif event in ("NewInterestParams", "NewStraightInterestParams"):
            for asset, model in self._model_of.items():
                if model == row["address"]:
                    self._model(asset)
        elif event == "NewVAIController":
            if address_text(row["after"]) != ZERO_ADDRESS:
                raise RulesError(
                    f"block {row['block_number']}: accounts may owe VAI from here on, which no rule here counts",
                    f"end before that block: --to-block {row['block_number'] - 1} of a new lake",
                )
        elif event == "RedeemFee":
            self._fee[row["address"]] = int(row["amount"])
        elif row["address"] in self._asset:
            self._set_ctoken(event, row, self._asset[row["address"]])
        else:
            self._set_comptroller(event, row)

    def _set_ctoken(self, event: str, row: Mapping[str, Any], asset: AssetId) -> None:
        if event in ("ReservesAdded", "ReservesReduced"):
            self._param("reserves_added" if event == "ReservesAdded" else "reserves_reduced", int(row["amount"]), asset)
            ours, theirs = self.state.pools[asset].reserves, int(row["total_reserves"])
            if ours != theirs:
                raise self._wrong(f"reserves of {self._names[asset]} are {theirs} in the log, {ours} here")
            self._index(asset)
        elif event == "NewReserveFactor":
            self._param("reserve_factor", int(row["after"]), asset)
        elif event == "NewProtocolSeizeShare":
            self._param("protocol_seize_share", int(row["after"]), asset)
        elif event == "NewImplementation":
            self._param("protocol_seize_share", self._shares.get(address_text(row["after"]), 0), asset)
        elif event == "NewMarketInterestRateModel":
            if asset not in self._created:
                self._created.add(asset)
                self._param("created", 1, asset)
                self._param("share_decimals", 0, asset)
                self._param("debt_is_principal", 1, asset)
                if share := self._shares.get(row["address"]):
                    self._param("protocol_seize_share", share, asset)
            self._model_of[asset] = address_text(row["after"])
            self._model(asset)
            self._index(asset)

    def _set_comptroller(self, event: str, row: Mapping[str, Any]) -> None:
        if event == "MarketListed":
            asset = self._asset[address_text(row["ctoken"])]
            self._there.add(asset)
            self._param("liquidation_threshold", 0, asset)
            self._param("liquidation_bonus", self._incentive, asset)
        elif event == "NewCollateralFactor":
            self._param("liquidation_threshold", int(row["after"]), self._asset[address_text(row["ctoken"])])
        elif event == "NewLiquidationIncentive":
            self._incentive = int(row["after"])
            for asset in sorted(self._there):
                self._param("liquidation_bonus", self._incentive, asset)
        elif event == "NewCloseFactor":
            self._param("close_factor", int(row["after"]))
        elif event == "NewBorrowCap":
            if (asset_or_none := self._asset.get(address_text(row["ctoken"]))) is not None:
                self._param("borrow_cap", int(row["cap"]), asset_or_none)
        elif event == "ComptrollerImplementation":
            self._param("comptroller_revision", comptroller_revision(self.parameters, address_text(row["after"])))
        elif event == "ActionPaused" and row["action"] in _PAUSES:
            self._param(_PAUSES[row["action"]], int(row["paused"]))
        elif event == "MarketActionPaused" and row["action"] in _MARKET_PAUSES:
            self._param(_MARKET_PAUSES[row["action"]], int(row["paused"]), self._asset[address_text(row["ctoken"])])

    def _model(self, asset: AssetId) -> None:
        """The parameters of an asset's rate model that hold here."""
        known = self._models.get(self._model_of[asset], ())
        seq = self._place["seq"]
        found = [values for since, values in known if since <= seq]
        names = ("base_rate", "slope", "jump_slope", "kink")
        for name, value in zip(names, found[-1] if found else (), strict=False):
            self._param(name, value, asset)
        self._param("rate_model", MODEL if found else UNKNOWN_RATE, asset)

    def _post(self, row: Mapping[str, Any]) -> None:
        for asset in self._lends.get(address_text(row["token"]), ()):
            self._posted[row["address"]][asset] = int.from_bytes(row["price"], "big")
            if self._posts and row["address"] == self._oracle:
                self._price(asset)

    def _price(self, asset: AssetId) -> None:
        """The price in force of an oracle that posts its prices: per whole token with 36 decimals."""
        posted = self._posted[self._oracle].get(asset, 0) * 10 ** self.market.assets[asset].decimals
        whole, rest = divmod(posted, 10 ** (PRICE_DECIMALS - BASE_DECIMALS)) if posted else (None, None)
        if whole is not None and whole >= 10**38:
            raise self._wrong(f"the price of {self._names[asset]} has more than 38 digits")
        self._add(
            "prices", asset_id=asset, price=whole, price_rest=rest, source=self._oracle, method="feed", exact=True
        )

    # -- rows, and the same in the book --------------------------------------------------------------------------------

    def _wrong(self, what: str) -> RulesError:
        return RulesError(f"block {self._place['block_number']}, log {self._place['log_index']}: {what}", LACKING)

    def _asset_of(self, row: Mapping[str, Any]) -> AssetId | None:
        """The asset of the cToken that logged; None of one that was never listed."""
        return self._asset.get(row["address"])

    def _position(
        self, account: AccountId, asset: AssetId, side: Side, delta: int, action: str, amount: int | None
    ) -> None:
        own = self.state.accounts.get(account, NOBODY)
        held = own.debts.get(asset, (0, 0))[0] if side == "debt" else own.tokens.get(asset, 0)
        if held + delta < 0:
            raise self._wrong(f"{list(self.ids)[account]} gives up more than it holds of {self._names[asset]}")
        self._balance(account, asset, side, delta, action, amount)

    def _index(self, asset: AssetId) -> None:
        pool = self.state.pools[asset]
        update = index_update(self.state, asset, pool, self._running_rate(asset, pool), self._place)
        if max(update.supply_index, update.borrow_index, update.borrow_rate) >= 10**38:
            raise self._wrong(f"an index of {self._names[asset]} has more than 38 digits")
        self._indexed(update)

    def _running_rate(self, asset: AssetId, pool: CTokenMarket) -> int:
        """The model's rate where that is known, else the one that the next accrual records; after the last one the last
        one known.
        """
        if pool.model == MODEL:
            return pool.model_rate()
        ahead = self._rates.ahead[asset]
        while ahead and ahead[-1][0] <= self._place["seq"]:
            ahead.pop()
        return ahead[-1][1] if ahead else pool.rate


def _transaction(log: Log) -> tuple[int, int]:
    return log[2]["block_number"], log[2]["transaction_index"]


def _liquidations(logs: Sequence[Log]) -> dict[int, list[int]]:
    """Places of ``LiquidateBorrow`` logs to those of what belongs to them: the repayment, the liquidator's transfer,
    and where reserves keep a share that transfer and its ``ReservesAdded``.
    """
    found: dict[int, list[int]] = {}
    used: set[int] = set()
    for place, (_, event, row) in enumerate(logs):
        if event != "LiquidateBorrow":
            continue
        collateral, parts, kept = address_text(row["collateral"]), list[int](), int(row["tokens"])
        for at in range(place - 1, -1, -1):
            _, kind, log = logs[at]
            if at in used:
                continue
            if kind == "Transfer" and log["address"] == collateral and log["source"] == row["borrower"]:
                if log["destination"] == row["liquidator"] and not any(logs[p][1] == "Transfer" for p in parts):
                    parts.insert(0, at)
                    kept -= int(log["tokens"])
                    for after in range(at + 1, place):
                        _, other, share = logs[after]
                        whose = share["address"] == collateral and after not in used
                        mine = other == "Transfer" and address_text(share["destination"]) == collateral
                        own = other == "ReservesAdded" and address_text(share["benefactor"]) == collateral
                        if whose and (own or (mine and share["source"] == row["borrower"])):
                            parts.append(after)
            elif (
                kind == "RepayBorrow"
                and log["address"] == row["address"]
                and (log["borrower"], log["payer"], log["amount"])
                == (row["borrower"], row["liquidator"], row["amount"])
            ):
                parts.append(at)
                break
        kinds = [logs[part][1] for part in parts]
        if kinds.count("RepayBorrow") != 1 or "Transfer" not in kinds:
            raise RulesError(
                f"block {row['block_number']}, log {row['log_index']}: the logs of a liquidation are not there",
                LACKING,
            )
        used.update(parts)
        found[place] = parts
    return found


def _acts(logs: Sequence[Log], place: int, taken: Mapping[int, Sequence[int]]) -> bool:
    """Whether an accrual is part of an action of the same transaction: the next log of its cToken is one, or a
    liquidation seizes it.
    """
    address = logs[place][2]["address"]
    for _, event, row in logs[place + 1 :]:
        if event == "LiquidateBorrow" and address in (row["address"], address_text(row["collateral"])):
            return True
        if row["address"] == address and event not in ("Transfer", "RedeemFee"):
            return event in _ACTIONS
    return False


def _told(logs: Sequence[Log], place: int) -> bool:
    """Whether another log says what this transfer is: cTokens that come from the cToken itself were minted; those that
    go to it were redeemed where a ``Redeem`` of the same is its next log.
    """
    row = logs[place][2]
    if address_text(row["source"]) == row["address"]:
        return True
    if address_text(row["destination"]) != row["address"]:
        return False
    after = next(((event, log) for _, event, log in logs[place + 1 :] if log["address"] == row["address"]), None)
    return (
        after is not None
        and after[0] == "Redeem"
        and (after[1]["redeemer"], after[1]["tokens"]) == (row["source"], row["tokens"])
    )


class _RecordedRates:
    """Of each asset the accruals to come, with the rate that each records, the last first.

    ``column``: what counts the periods of interest.
    """

    def __init__(self, assets: Mapping[str, AssetId], column: str) -> None:
        self.ahead: dict[AssetId, list[tuple[int, int]]] = {asset: [] for asset in assets.values()}
        self._assets, self._column = assets, column
        self._since: dict[AssetId, tuple[int, int]] = {}
        self._seen = -1

    def read(self, raw: RawEvents) -> None:
        """What came since it was read before."""
        made = self._rows(raw, "NewMarketInterestRateModel")
        for row in made:
            if (asset := self._assets.get(address_text(row["address"]))) is not None:
                self._since.setdefault(asset, (row[self._column], WAD))
        rows = [row for event in sorted(_ACCRUALS) for row in self._rows(raw, event, "borrow_index")]
        found: dict[AssetId, list[tuple[int, int]]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: row["seq"]):
            asset = self._assets.get(address_text(row["address"]))
            if asset is None or asset not in self._since:
                continue
            period, index = row[self._column], int(row["borrow_index"])
            before, last = self._since[asset]
            elapsed = period - before
            if elapsed > 0 and index >= last:
                found[asset].append((row["seq"], factor_up(last, index) // elapsed))
            self._since[asset] = period, index
        for asset, rates in found.items():
            self.ahead[asset] = rates[::-1] + self.ahead[asset]
        self._seen = max([self._seen, *(row["seq"] for row in (*made, *rows))])

    def _rows(self, raw: RawEvents, event: str, *columns: str) -> list[dict[str, Any]]:
        table = raw.table(event).select(["seq", "address", self._column, *columns])
        rows: list[dict[str, Any]] = table.filter(pc.greater(table["seq"], self._seen)).to_pylist()
        return sorted(rows, key=lambda row: row["seq"])


def _models(raw: RawEvents) -> dict[str, list[tuple[int, tuple[int, int, int, int]]]]:
    """Of each rate model its parameters over time: place, base, slope, jump and kink."""
    found: dict[str, list[tuple[int, tuple[int, int, int, int]]]] = defaultdict(list)
    for row in raw.table("NewInterestParams").to_pylist():
        values = tuple(int(row[name]) for name in ("base", "slope", "jump", "kink"))
        found[address_text(row["address"])].append((row["seq"], values))  # type: ignore[arg-type]
    for row in raw.table("NewStraightInterestParams").to_pylist():
        values = int(row["base"]), int(row["slope"]), 0, NO_KINK
        found[address_text(row["address"])].append((row["seq"], values))
    return {model: sorted(steps) for model, steps in found.items()}
