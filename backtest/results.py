"""Runs: a market of a lake replayed under a scenario, stored beside its history, append-only.

A run id is a hash of what decides the outcome: canonical scenario, market, the lake's content, versions of the rules and of
the engine. The same run again is read from the lake, not replayed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import LakeError, UserError
from backtest.imported import delayed_prices, follows_market
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, AssetId, Market
from backtest.protocols import State
from backtest.protocols.registry import protocol_named
from backtest.reconstruct import stamp
from backtest.replay import ENGINE_VERSION
from backtest.replay.engine import Progress, replay
from backtest.replay.record import Replay
from backtest.replay.timeline import Timeline
from backtest.scenario import Competitive, Scenario
from backtest.tables import AMOUNT, CANONICAL, RESULTS, RULES_VERSION

SAMPLES = 200
"""Most blocks at which totals are taken,"""
VIEWS = 400_000
"""and about how many accounts are valued for them in all."""
_LARGEST = 10**38 - 1
_LOCAL_CHAINS = frozenset({1337, 31_337})  # what development nodes call themselves
_REPLAYED = ("events", "blocks", "position_events", "setting_events", "indexes", "prices", "params", "liquidations", "deficits")


@dataclass(frozen=True, slots=True)
class Run:
    """A stored run. ``tables`` by name as in ``backtest.tables.RESULTS``; ``notes`` are its assumptions and warnings;
    ``replayed`` is false where the lake held it already."""

    run_id: str
    tables: Mapping[str, pa.Table]
    notes: tuple[str, ...]
    replayed: bool

    @property
    def summary(self) -> dict[str, Any]:
        """The row of ``runs``."""
        row: dict[str, Any] = self.tables["runs"].to_pylist()[0]
        return row


def run(lake: Lake, market: str, scenario: Scenario, *, samples: int = SAMPLES, progress: Progress | None = None) -> Run:
    """Replay ``market`` under ``scenario`` and store the run; read it where it is stored already.

    Args:
        samples: most blocks at which totals are taken; fewer in markets of many accounts. Not part of the run id.
        progress: called with the number of events replayed so far, and of all.

    Raises:
        UserError: there are no canonical tables, or stale ones; the scenario does not fit the market; no rules cover its history.
    """
    require_current(lake, market)
    digest = lake.digest(market)
    run_id = run_id_of(scenario, market, digest)
    stored = _stored(lake, market, run_id)
    if stored is not None:
        return stored
    config, described = lake.market_config(market), load_market(lake, market)
    timeline = load_timeline(lake, market, oracle_delay=scenario.oracle_delay)
    protocol = protocol_named(config.protocol)
    outcome = replay(
        protocol, described, timeline, scenario, samples=min(samples, max(12, VIEWS // max(1, len(described.accounts)))), progress=progress
    )
    notes = (*_notes(outcome, scenario, config, getattr(protocol, "assumptions", ())), *_price_notes(lake, described, outcome))
    tables = _tables(outcome, scenario, run_id, digest, notes)
    with lake.writer() as writer:  # refreshes the lake, so a run that another process stored meanwhile is seen
        again = _stored(lake, market, run_id)
        if again is not None:
            return again
        writer.append_all(market, {f"results/{name}": table for name, table in tables.items()}, stamp=RULES_VERSION)
    return Run(run_id, tables, notes, replayed=True)


def run_id_of(scenario: Scenario, market: str, lake_digest: str) -> str:
    """SHA-256, hex. The scenario's name is not part of it."""
    body = [scenario.canonical(), market, lake_digest, RULES_VERSION, ENGINE_VERSION]
    return hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()


def require_current(lake: Lake, market: str) -> None:
    """LakeError where the canonical tables are missing, or were made by other rules or from other raw data."""
    files = [file for file in lake.files(None, market) if file.dataset.startswith("canonical/")]
    remedy = f"run backtest reconstruct --lake {lake.path} --market {market}"
    if not files:
        raise LakeError(f"market '{market}' has no canonical tables", remedy)
    stale = sorted({file.stamp for file in files} - {stamp(lake, market)})
    if stale:
        rules = stale[0].partition(":")[0]
        why = "the raw data changed since" if rules == RULES_VERSION else f"made by rules version {rules}, this is {RULES_VERSION}"
        raise LakeError(f"the canonical tables of market '{market}' are stale ({why})", remedy)


def load_market(lake: Lake, market: str) -> Market:
    """What is fixed about a market, from its description and canonical tables."""
    config = lake.market_config(market)
    assets = lake.read("canonical/assets", market).sort_by("asset_id").to_pylist()
    accounts = lake.read("canonical/accounts", market).sort_by("account_id")
    ids = accounts["account_id"].to_pylist()
    if ids != list(range(len(ids))) or [a["asset_id"] for a in assets] != list(range(len(assets))):
        raise LakeError(f"account or asset ids of market '{market}' have gaps", f"run backtest reconstruct --lake {lake.path} --market {market}")
    return Market(
        name=market,
        protocol=config.protocol,
        chain_id=config.chain_id,
        assets=tuple(Asset(AssetId(a["asset_id"]), a["asset"], a["symbol"], a["decimals"]) for a in assets),
        accounts=tuple(accounts["account"].to_pylist()),
        base_decimals=config.base_decimals,
    )


def load_timeline(lake: Lake, market: str, *, oracle_delay: int | None = None) -> Timeline:
    """The canonical history of a market. LakeError where its tables are missing or stale.

    ``oracle_delay``: seconds from a market price to the oracle's instead of the protocol's own; UserError without market prices.
    """
    require_current(lake, market)
    unread = {"transaction_hash", "address", "event", "market", "source", "method", "exact", "base_fee"}
    tables = {
        name: lake.read(f"canonical/{name}", market, columns=[column for column in CANONICAL[name].names if column not in unread])
        for name in _REPLAYED
    }
    if oracle_delay is not None:
        prices, venue, blocks = (lake.read(f"canonical/{name}", market) for name in ("prices", "market_prices", "blocks"))
        if not venue.num_rows:
            raise UserError(f"oracle_delay: market '{market}' has no market prices", "import them (backtest import candles), or leave it out")
        if not follows_market(prices):
            raise UserError(f"oracle_delay: the oracle prices of market '{market}' are its own, not a venue's", "leave it out")
        tables["prices"] = delayed_prices(prices, venue, blocks, oracle_delay)
    return Timeline.of(tables)


def _stored(lake: Lake, market: str, run_id: str) -> Run | None:
    """The run as the lake holds it, or None."""
    found = {}
    for name in RESULTS:
        table = lake.read(f"results/{name}", market)
        found[name] = table.filter(pc.equal(table["run_id"], run_id))
    if not found["runs"].num_rows:
        return None
    notes = json.loads(found["runs"]["notes"][0].as_py())
    return Run(run_id, found, tuple(notes), replayed=False)


# -- assumptions and warnings ------------------------------------------------------------------------------------------


def _notes(outcome: Replay[State], scenario: Scenario, config: MarketConfig, assumptions: tuple[str, ...]) -> list[str]:
    """What the numbers rest on, in sentences."""
    modelled = isinstance(scenario.liquidators, Competitive)
    notes = [f"Not a real market: {config.description or f'a local node, chain id {config.chain_id}'}."] if config.chain_id in _LOCAL_CHAINS else []
    notes.append("The oracle price is also the market price and the price at which collateral is sold: no slippage.")
    if modelled:
        notes.append("Interest rates and indexes are history's: they do not react to what the model changes.")
        notes.append("Users act as in history; borrows and withdrawals are not checked again under the scenario.")
        notes.append("An account that interest alone makes liquidatable is seen at the next price, index or parameter change.")
        notes.append(f"{outcome.left_out} liquidations of history are left out; the model acts in their place.")
    compared = [r for r in outcome.liquidations if r.matches_history is not None]
    if compared or outcome.mismatches:
        refused = sum(1 for mismatch in outcome.mismatches if mismatch.ours is None)
        exact = sum(1 for r in compared if r.matches_history)
        notes.append(f"{exact} of {len(compared) + refused} re-enacted liquidations equal history's to the last unit; {refused} would have reverted.")
        notes += [_mismatch(outcome, i) for i in range(min(5, len(outcome.mismatches)))]
        if len(outcome.mismatches) > 5:
            notes.append(f"... and {len(outcome.mismatches) - 5} more differ.")
    for name, tested in sorted(outcome.rules.items()):
        notes.append(f"Rules of {name}: {'tested against the deployed bytecode' if tested else 'tested by hand-worked vectors only'}.")
    for whose, cuts in (("users", outcome.clamped), ("accounts that history's liquidations paid", outcome.unfunded)):
        for action, cut in sorted(cuts.items()):
            value = f"{cut.value_base / 10**config.base_decimals:,.2f} {config.base_currency}"
            notes.append(f"{cut.count} {action} changes of {whose} did not fit the changed book and were cut, by {value} in all.")
    for reason, accounts in outcome.refused.items():
        notes.append(f"Liquidations of {accounts} accounts were refused at some moment: {reason}.")
    for override, values in outcome.overrides.items():
        notes.append(f"Override {override}: {values} values.")
    unpriced = max((totals.accounts_unpriced for totals in outcome.totals), default=0)
    if unpriced:
        notes.append(f"Totals leave out accounts that use an asset without a price: up to {unpriced} accounts.")
    return [*notes, *assumptions]


def _mismatch(outcome: Replay[State], index: int) -> str:
    mismatch = outcome.mismatches[index]
    past, assets = mismatch.past, outcome.book.market.assets
    pair = f"{assets[past.collateral_asset].symbol}/{assets[past.debt_asset].symbol}"
    where = f"block {past.block_number}, log {past.log_index}, {outcome.book.address(past.account)}, {pair}"
    if mismatch.ours is None:
        return f"Differs from history: {where}: would have reverted ({mismatch.reason})."
    theirs = (past.repaid, past.seized, past.protocol_fee)
    return f"Differs from history: {where}: repaid, seized, fee {mismatch.ours} here, {theirs} then."


def _price_notes(lake: Lake, market: Market, outcome: Replay[State]) -> list[str]:
    """Which assets' prices are not exactly known, within the window."""
    table = lake.read("canonical/prices", market.name, columns=["block_number", "asset_id", "exact"], to_block=outcome.book.now.block_number)
    inexact = table.filter(pc.invert(table["exact"]))["asset_id"]
    counts = {row["values"]: row["counts"] for row in pc.value_counts(inexact).to_pylist()}
    return [
        f"{market.assets[asset].symbol}: {number} prices are not known exactly at their position (read between oracle updates)."
        for asset, number in sorted(counts.items())
    ]


# -- tables ------------------------------------------------------------------------------------------------------------


def _tables(outcome: Replay[State], scenario: Scenario, run_id: str, digest: str, notes: tuple[str, ...]) -> dict[str, pa.Table]:
    book = outcome.book
    market, name_of = book.market, [asset.asset for asset in book.market.assets]
    liquidations, rows = outcome.liquidations, {"run_id": run_id, "market": market.name}
    runs = {
        **rows,
        "name": scenario.name,
        "protocol": market.protocol,
        "scenario": scenario.canonical(),
        "seed": scenario.seed,
        "rules_version": RULES_VERSION,
        "lake_digest": digest,
        "from_block": outcome.from_clock.block_number,
        "to_block": book.now.block_number,
        "from_timestamp": outcome.from_clock.timestamp,
        "to_timestamp": book.now.timestamp,
        "liquidator_model": "competitive" if isinstance(scenario.liquidators, Competitive) else "observed",
        "liquidations": len(liquidations),
        "accounts_liquidated": len({r.fill.order.account for r in liquidations}),
        "actions_clamped": sum(cut.count for cut in outcome.clamped.values()),
        "notes": json.dumps(notes),
    }
    hits = [
        {
            **rows,
            "ordinal": r.ordinal,
            "seq": r.seq,
            "block_number": r.clock.block_number,
            "log_index": r.clock.log_index,
            "timestamp": r.clock.timestamp,
            "account": book.address(r.fill.order.account),
            "liquidator": book.address(r.fill.order.liquidator),
            "debt_asset": name_of[r.fill.order.pair.debt_asset],
            "collateral_asset": name_of[r.fill.order.pair.collateral_asset],
            "repaid": r.fill.repaid,
            "seized": r.fill.seized,
            "protocol_fee": r.fill.protocol_fee,
            "receive_collateral_token": r.fill.order.receive_collateral_token,
            "repaid_base": r.repaid_base,
            "seized_base": r.seized_base,
            "protocol_fee_base": r.protocol_fee_base,
            "profit_base": r.profit_base,
            "health_before": _capped(r.health_before),
            "health_after": _capped(r.health_after),
            "rules_tested": r.fill.rules_tested,
            "matches_history": r.matches_history,
        }
        for r in liquidations
    ]
    deficits = [
        {
            **rows,
            "ordinal": ordinal,
            "seq": d.seq,
            "block_number": d.clock.block_number,
            "timestamp": d.clock.timestamp,
            "account": book.address(d.account),
            "asset": name_of[d.asset],
            "amount": d.amount,
            "amount_base": d.amount_base,
        }
        for ordinal, d in enumerate(outcome.deficits)
    ]
    totals = [
        {
            **rows,
            "block_number": t.clock.block_number,
            "timestamp": t.clock.timestamp,
            "collateral_base": t.collateral_base,
            "debt_base": t.debt_base,
            "liquidatable_debt_base": t.liquidatable_debt_base,
            "bad_debt_base": t.bad_debt_base,
            "deficit_base": t.deficit_base,
            "accounts_liquidatable": t.accounts_liquidatable,
        }
        for t in outcome.totals
    ]
    data: dict[str, list[dict[str, Any]]] = {
        "runs": [runs],
        "run_liquidations": hits,
        "run_deficits": deficits,
        "run_balances": _balances(outcome, rows),
        "run_totals": totals,
    }
    return {name: _table(RESULTS[name], found) for name, found in data.items()}


def _balances(outcome: Replay[State], rows: Mapping[str, str]) -> list[dict[str, Any]]:
    """What every account holds at the end of the window."""
    book = outcome.book
    return [
        {
            **rows,
            "account": book.address(AccountId(account)),
            "asset": book.market.assets[holding.asset].asset,
            "collateral_scaled": holding.collateral_scaled,
            "debt_scaled": holding.debt_scaled,
            "collateral": holding.collateral,
            "debt": holding.debt,
            "collateral_enabled": holding.collateral_enabled,
        }
        for account in book.protocol.accounts(book.state)
        for holding in book.protocol.holdings(book.state, account, book.now)
    ]


def _capped(health: int | None) -> int | None:
    """Health that more than 38 digits would be needed for is stored as the largest number of 38."""
    return None if health is None else min(health, _LARGEST)


def _table(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Table:
    columns = []
    for field in schema:
        values = [row[field.name] for row in rows]
        if field.type == AMOUNT:
            values = [None if value is None else Decimal(value) for value in values]
        plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        try:
            columns.append(pa.array(values, plain).cast(field.type))
        except pa.ArrowInvalid:
            raise UserError(f"a value of {field.name} does not fit {field.type}", "please report it with the run's scenario") from None
    return pa.table(columns, schema=schema)
