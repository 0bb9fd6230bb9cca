"""The rows of result tables that a run keeps of a replay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from backtest.markets import MarketConfig
from backtest.model import AccountId
from backtest.protocols.interface import State
from backtest.replay import ENGINE_VERSION
from backtest.replay.record import Deficit, Horizon, Liquidation, Replay, Waterfall
from backtest.replay.response.cascades import cascades_of, gap_of
from backtest.result_tables import RESULTS, as_table
from backtest.scenario import (
    ProtocolsOwn,
    Scenario,
)
from backtest.tables import RULES_VERSION

_LARGEST = 10**38 - 1
_LOCAL_CHAINS = frozenset({1337, 31_337})  # what development nodes call themselves
Rows = list[dict[str, Any]]


def terms_of(scenario: Scenario) -> str:
    """Everything but what alters the market, canonical JSON: runs are comparable where it is equal."""
    return replace(
        scenario, overrides=(), mitigations=(), allow_invalid=False, oracle_delay=None, mechanism=ProtocolsOwn()
    ).canonical()


def question_of(scenario: Scenario) -> str:
    """Everything but how users respond, canonical JSON: the runs of one band share it."""
    return replace(scenario, users=replace(scenario.users, response="frozen", fitted=None)).canonical()


def is_synthetic(config: MarketConfig) -> bool:
    """The market is a test's or a demo's, on a local node."""
    return config.chain_id in _LOCAL_CHAINS


def tables_of(
    outcome: Replay[State],
    scenario: Scenario,
    config: MarketConfig,
    run_id: str,
    *,
    lake_digest: str,
    proxy_prices: bool,
    notes: Sequence[str],
) -> dict[str, pa.Table]:
    """Every table of ``backtest.result_tables.RUN_TABLES``. UserError where a value does not fit its column.

    Liquidations and deficits are those from the scenario's first block on, as in the outcome's horizons: what was
    re-enacted before it is no part of the run.
    """
    first = outcome.from_clock.block_number
    liquidations = [r for r in outcome.liquidations if r.clock.block_number >= first]
    deficits = [d for d in outcome.deficits if d.clock.block_number >= first]
    run = {
        "name": scenario.name,
        "protocol": outcome.book.market.protocol,
        "scenario": scenario.canonical(),
        "terms": terms_of(scenario),
        "question": question_of(scenario),
        "seed": scenario.seed,
        "rules_version": RULES_VERSION,
        "engine_version": ENGINE_VERSION,
        "lake_digest": lake_digest,
        "synthetic": is_synthetic(config),
        "proxy_prices": proxy_prices,
        "from_block": first,
        "to_block": outcome.book.now.block_number,
        "from_timestamp": outcome.from_clock.timestamp,
        "to_timestamp": outcome.book.now.timestamp,
        "liquidator_model": str(scenario.liquidators.__struct_config__.tag),
        "overridden": scenario.alters,
        "response": scenario.users.response,
        "refused": scenario.users.refused,
        "rates": scenario.rates,
        "liquidations": sum(r.takes for r in liquidations),
        "accounts_liquidated": len({r.fill.order.account for r in liquidations}),
        "actions": outcome.actions_made,
        "actions_altered": sum(count.count for count in outcome.actions),
        "rate_updates": outcome.rate_check.updates if outcome.rate_check else None,
        "rate_updates_differing": outcome.rate_check.differing if outcome.rate_check else None,
        "rate_difference": outcome.rate_check.largest if outcome.rate_check else None,
        "missing_windows": json.dumps(outcome.short_of),
        "notes": json.dumps(notes),
    }
    data: dict[str, Rows] = {
        "runs": [run],
        "run_liquidations": _liquidations(outcome, liquidations),
        "run_deficits": _deficits(outcome, deficits),
        "run_waterfalls": [
            {
                "ordinal": r.ordinal,
                **{f"{name}_base": getattr(r.waterfall, name) for name in Waterfall.__struct_fields__},
            }
            for r in liquidations
        ],
        "run_opportunities": _opportunities(outcome),
        "run_bids": _bids(outcome),
        "run_balances": _balances(outcome),
        "run_totals": _totals(outcome),
        "run_windows": [_window(horizon) for horizon in outcome.horizons],
        "run_equity": _equity(outcome),
        "run_actions": [
            {
                "action": count.action,
                "outcome": count.outcome,
                "reason": count.reason,
                "unfunded": count.unfunded,
                "actions": count.count,
                "value_base": count.value_base,
            }
            for count in outcome.actions
        ],
        **_answers(outcome, gap_of(scenario.impact)),
        "run_override_accounts": [
            {
                "account": outcome.book.address(made.account),
                "block_number": made.clock.block_number,
                "timestamp": made.clock.timestamp,
                "debt_base": made.debt_base,
            }
            for made in outcome.made_liquidatable
        ],
        "run_reach": [
            {
                "override": reach.override,
                "accounts": reach.accounts,
                "accounts_with_debt": reach.of,
                "accounts_in_emode": reach.in_emode,
            }
            for reach in outcome.reach
        ],
    }
    data["run_mitigations"] = [
        {
            "ordinal": ordinal,
            "place": each.place,
            "kind": each.kind,
            "effect": each.effect,
            "detail": each.detail,
            "number": each.number,
            "value_base": each.value_base,
        }
        for ordinal, each in enumerate(outcome.mitigations)
    ]
    common = {"run_id": run_id, "market": outcome.book.market.name}
    return {name: as_table(RESULTS[name], rows, common) for name, rows in data.items()}


def _liquidations(outcome: Replay[State], liquidations: Sequence[Liquidation]) -> Rows:
    book = outcome.book
    name_of = [asset.asset for asset in book.market.assets]
    return [
        {
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
            "made_by_override": r.made_by_override,
            "stage": r.stage,
            "step": r.step,
            "lot": r.lot,
        }
        for r in liquidations
    ]


def _answers(outcome: Replay[State], gap: int) -> dict[str, Rows]:
    """How prices answered to sales."""
    book = outcome.book
    name_of = [asset.asset for asset in book.market.assets]
    repaid = {made.ordinal: made.repaid_base for made in outcome.liquidations} if outcome.sales else {}
    return {
        "run_prices": [
            {
                "step": step,
                "block_number": point.clock.block_number,
                "log_index": point.clock.log_index,
                "timestamp": point.clock.timestamp,
                "asset": name_of[point.asset],
                "history_price": point.history,
                "oracle_price": point.oracle,
                "market_price": point.market,
                "reason": point.reason,
            }
            for step, point in enumerate(outcome.points)
        ],
        "run_sales": [
            {
                "ordinal": sale.ordinal,
                "block_number": sale.clock.block_number,
                "timestamp": sale.clock.timestamp,
                "account": book.address(sale.account),
                "asset": name_of[sale.asset],
                "amount": sale.amount,
                "proceeds_asset": name_of[sale.proceeds],
                "market_before": sale.market_before,
                "market_after": sale.market_after,
                "brought": sale.brought,
                "round": sale.round,
                "endogenous": sale.endogenous,
            }
            for sale in outcome.sales
        ],
        "run_cascades": [
            {
                "cascade": found.number,
                "asset": name_of[found.asset],
                "from_block": found.begins.block_number,
                "to_block": found.ends.block_number,
                "from_timestamp": found.begins.timestamp,
                "to_timestamp": found.ends.timestamp,
                "liquidations": len(found.sales),
                "endogenous_liquidations": len(found.endogenous),
                "repaid_base": sum(repaid[ordinal] for ordinal in found.sales),
                "endogenous_repaid_base": sum(repaid[ordinal] for ordinal in found.endogenous),
                "sold": found.sold,
                "rounds": found.rounds,
                "history_before": found.history_before,
                "oracle_before": found.oracle_before,
                "history_low": found.history_low,
                "oracle_low": found.oracle_low,
                "market_low": found.market_low,
            }
            for found in cascades_of(outcome.points, outcome.sales, gap)
        ],
    }


def _opportunities(outcome: Replay[State]) -> Rows:
    book = outcome.book
    name_of = [asset.asset for asset in book.market.assets]
    return [
        {
            "spell": number,
            "opportunity": spell.opportunity,
            "account": book.address(spell.account),
            "from_block": spell.begins.block_number,
            "to_block": spell.ends.block_number,
            "from_timestamp": spell.begins.timestamp,
            "to_timestamp": spell.ends.timestamp,
            "looks": spell.looks,
            "debt_asset": name_of[spell.debt_asset],
            "collateral_asset": name_of[spell.collateral_asset],
            "repaid": spell.repaid,
            "repaid_base": spell.repaid_base,
            "seized_base": spell.seized_base,
            "profit_base": spell.profit_base,
            "ending": spell.ending,
            "reason": spell.reason,
            "ordinal": spell.liquidation,
        }
        for number, spell in enumerate(outcome.spells)
    ]


def _bids(outcome: Replay[State]) -> Rows:
    return [
        {
            "opportunity": spell.opportunity,
            "ordinal": spell.liquidation,
            "timestamp": spell.ends.timestamp,
            "searcher": bid.searcher,
            "value_base": bid.value,
            "bid_base": bid.bid,
            "paid_base": bid.paid,
            "won": bid.won,
        }
        for spell in outcome.spells
        for bid in spell.bids
    ]


def _deficits(outcome: Replay[State], deficits: Sequence[Deficit]) -> Rows:
    book = outcome.book
    return [
        {
            "ordinal": ordinal,
            "seq": d.seq,
            "block_number": d.clock.block_number,
            "timestamp": d.clock.timestamp,
            "account": book.address(d.account),
            "asset": book.market.assets[d.asset].asset,
            "amount": d.amount,
            "amount_base": d.amount_base,
        }
        for ordinal, d in enumerate(deficits)
    ]


def _totals(outcome: Replay[State]) -> Rows:
    return [
        {
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


def _window(horizon: Horizon) -> dict[str, Any]:
    return {
        "label": horizon.label,
        "block_number": horizon.clock.block_number,
        "timestamp": horizon.clock.timestamp,
        "liquidations": horizon.liquidations,
        "deficits": horizon.deficits,
        "repaid_base": horizon.repaid_base,
        "seized_base": horizon.seized_base,
        "protocol_fee_base": horizon.protocol_fee_base,
        "realised_bad_debt_base": horizon.realised_bad_debt_base,
        "open_bad_debt_base": horizon.open_bad_debt_base,
        "peak_bad_debt_base": horizon.peak_bad_debt_base,
        "peak_block": horizon.peak_clock.block_number,
        "peak_timestamp": horizon.peak_clock.timestamp,
        "collateral_base": horizon.totals.collateral_base,
        "debt_base": horizon.totals.debt_base,
        "borrowing_power_base": horizon.totals.borrowing_power_base,
        "liquidatable_debt_base": horizon.totals.liquidatable_debt_base,
        "accounts_liquidatable": horizon.totals.accounts_liquidatable,
        "accounts_unpriced": horizon.totals.accounts_unpriced,
    }


def _equity(outcome: Replay[State]) -> Rows:
    address = outcome.book.address
    return [
        {
            "label": horizon.label,
            "account": address(account),
            "equity_base": horizon.equity.get(account, 0),
            "outside_base": horizon.outside.get(account, 0),
        }
        for horizon in outcome.horizons
        for account in sorted(horizon.equity.keys() | horizon.outside.keys())
    ]


def _balances(outcome: Replay[State]) -> Rows:
    """What every account holds at the end of the window."""
    book = outcome.book
    return [
        {
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
