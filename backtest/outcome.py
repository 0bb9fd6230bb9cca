"""What a run keeps of a replay's outcome: rows of the result tables, and in sentences what its numbers rest on.
Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from backtest.markets import MarketConfig
from backtest.model import AccountId, AssetId
from backtest.protocols.interface import State
from backtest.replay import ENGINE_VERSION
from backtest.replay.record import ActionCount, Deficit, Horizon, Liquidation, Replay, Waterfall
from backtest.result_tables import RESULTS, as_table
from backtest.scenario import (
    Contest,
    Costs,
    LatencyRace,
    Liquidators,
    Observed,
    Oev,
    Participation,
    PriorityGas,
    ProtocolsOwn,
    Scenario,
    SealedBid,
)
from backtest.tables import RULES_VERSION

_LARGEST = 10**38 - 1
_LOCAL_CHAINS = frozenset({1337, 31_337})  # what development nodes call themselves
Rows = list[dict[str, Any]]

_RESPONSES = {
    "frozen": "Users act as in history",
    "same-ltv": "Users borrow and withdraw so that they use the same share of their borrowing power as in history",
    "same-health": "Users borrow and withdraw so that they have the same health factor as in history",
}
_OUTCOMES = {
    "skipped": "would have reverted and were skipped",
    "shrunk": "would have reverted and were shrunk to what the rules allow",
    "cut": "did not fit the changed book and were cut",
    "changed": "are of another size than in history",
}


def terms_of(scenario: Scenario) -> str:
    """Everything but what alters the market, canonical JSON: runs are comparable where it is equal."""
    return replace(scenario, overrides=(), allow_invalid=False, oracle_delay=None, mechanism=ProtocolsOwn()).canonical()


def question_of(scenario: Scenario) -> str:
    """Everything but how users respond, canonical JSON: the runs of one band share it."""
    return replace(scenario, users=replace(scenario.users, response="frozen")).canonical()


# -- assumptions and warnings ------------------------------------------------------------------------------------------


def notes_of(outcome: Replay[State], scenario: Scenario, config: MarketConfig, assumptions: Sequence[str]) -> list[str]:
    """What the numbers rest on, in sentences. ``assumptions`` are the protocol's own."""
    modelled = not isinstance(scenario.liquidators, Observed)
    notes = (
        [f"Not a real market: {config.description or f'a local node, chain id {config.chain_id}'}."]
        if is_synthetic(config)
        else []
    )
    notes += _market_price_notes(outcome)
    notes += outcome.costs
    if not modelled and scenario.costs != Costs():
        notes.append(
            "What history's liquidators paid to be included, and how they were funded, is not known: it is part of"
            " their rent here."
        )
    if modelled:
        notes += _competition_notes(scenario.liquidators)
        notes += _model_notes(outcome, scenario)
    compared = [r for r in outcome.liquidations if r.matches_history is not None]
    if compared or outcome.mismatches:
        refused = sum(1 for mismatch in outcome.mismatches if mismatch.ours is None)
        exact = sum(1 for r in compared if r.matches_history)
        notes.append(
            f"{exact} of {len(compared) + refused} re-enacted liquidations equal history's to the last unit; {refused}"
            " would have reverted."
        )
        notes += [_mismatch(outcome, i) for i in range(min(5, len(outcome.mismatches)))]
        if len(outcome.mismatches) > 5:
            notes.append(f"... and {len(outcome.mismatches) - 5} more differ.")
    for name, tested in sorted(outcome.rules.items()):
        notes.append(
            f"Rules of {name}:"
            f" {'tested against the deployed bytecode' if tested else 'tested by hand-worked vectors only'}."
        )
    notes += _action_notes(outcome.actions, config)
    for reason, accounts in outcome.refused.items():
        notes.append(f"Liquidations of {accounts} accounts were refused at some moment: {reason}.")
    notes += _unpaid_notes(outcome, config)
    notes += _override_notes(outcome, config)
    if outcome.short_of:
        notes.append(f"No figures for windows that end {', '.join(outcome.short_of)} later: the data end before.")
    unpriced = max(
        (totals.accounts_unpriced for totals in (*outcome.totals, *(h.totals for h in outcome.horizons))), default=0
    )
    if unpriced:
        notes.append(
            f"Totals and equity leave out accounts that use an asset without a price: up to {unpriced} accounts."
        )
    return [*notes, *assumptions]


def _market_price_notes(outcome: Replay[State]) -> Iterator[str]:
    """Whose market price is known, and whose is the oracle's."""
    book = outcome.book
    known = [f"{book.market.label(asset)} ({_pool_of(outcome, asset)})" for asset in sorted(book.traded)]
    others = [book.market.label(asset.id) for asset in book.market.assets if asset.id not in book.traded]
    if not known:
        yield "The oracle price is also the market price, which values what is at stake."
        return
    yield f"Market prices are those of pools: {', '.join(known)}."
    if others:
        yield f"The market price of {', '.join(others)} is the oracle's."


def _pool_of(outcome: Replay[State], asset: AssetId) -> str:
    market = outcome.book.market
    return next(f"{pool.kind} {pool.address}" for pool in market.pools if pool.prices == market.assets[asset].asset)


def is_synthetic(config: MarketConfig) -> bool:
    """The market is a test's or a demo's, on a local node."""
    return config.chain_id in _LOCAL_CHAINS


def _model_notes(outcome: Replay[State], scenario: Scenario) -> Iterator[str]:
    """What the model does in history's place."""
    check = outcome.rate_check
    compared = (
        f"{check.differing} of {check.updates} rate updates differ from history's, by at most {check.largest} ray"
        if check and check.updates
        else ""
    )
    if scenario.rates == "recomputed":
        yield "Interest follows this book's utilisation through the market's own rate strategies."
        yield f"Recomputed interest before the model acts: {compared or 'nothing to compare with history'}."
    else:
        yield "Interest rates and indexes are history's: they do not react to what the model changes."
        if compared:
            yield f"Recomputed interest would give, before the model acts: {compared}."
    fit = (
        "one that would revert is skipped"
        if scenario.users.refused == "skip"
        else "one that would revert is shrunk to the largest amount allowed"
    )
    yield f"{_RESPONSES[scenario.users.response]}; each action is checked again by the market's rules, and {fit}."
    yield "An account that interest alone makes liquidatable is seen at the next price, index or parameter change."
    yield f"{outcome.left_out} liquidations of history are left out; the model acts in their place."


def _competition_notes(model: Liquidators) -> Iterator[str]:
    """How searchers compete."""
    if not isinstance(model, Contest):
        return
    many = f"{len(model.each)} searchers"
    match model:
        case PriorityGas():
            how = f"{many} outbid each other in the open; losers pay {model.revert_gas / 100:g} % of a call's gas"
            how += ", and raise by the least step in turn" if model.cooperative else ""
        case SealedBid():
            how = f"{many} bid sealed to block builders, each by the equilibrium of evenly distributed private costs"
        case Participation():
            mean = (
                "each by its own probability"
                if model.distribution == "searchers"
                else f"{model.distribution} with mean {model.mean / 10_000:g}"
            )
            how = (
                f"of {many} a random number looks at a block ({mean}); alone one bids {model.reserve / 100:g} %,"
                " several the second highest value"
            )
        case LatencyRace():
            how = (
                f"{many} race, first come first served, by {model.race} times; the order is of one opportunity, not of"
                " a whole block"
            )
        case Oev():
            how = (
                f"{model.coverage / 100:g} % of oracle updates are sold first; others wait {model.delay} blocks where"
                " nobody bid"
            )
    yield f"Competition: {how}."
    if model.front_run:
        yield f"{model.front_run / 100:g} % of winners are copied and lose their liquidation."
    yield (
        f"What is left is looked at again {model.block_seconds} s later where time alone may bring a taker; draws are"
        " by Philox, keyed by the seed."
    )


def _action_notes(actions: Sequence[ActionCount], config: MarketConfig) -> Iterator[str]:
    """Users' actions that were not made as in history: number, value and reasons."""

    def place(count: ActionCount) -> tuple[bool, int, str]:
        return count.unfunded, list(_OUTCOMES).index(count.outcome), count.action

    for (unfunded, outcome, action), group in groupby(sorted(actions, key=place), key=place):
        counts = list(group)
        whose = "accounts that history's liquidations paid" if unfunded else "users"
        value = amount(sum(count.value_base for count in counts), config)
        reasons = "; ".join(f"{count.reason}: {count.count:,}" for count in counts if count.reason)
        number = sum(count.count for count in counts)
        words = list(_OUTCOMES.values())[outcome]
        yield f"{number:,} {action} actions of {whose} {words}, {value} in all{f' ({reasons})' if reasons else ''}."


def _unpaid_notes(outcome: Replay[State], config: MarketConfig) -> Iterator[str]:
    """Liquidations that no reserve could pay, by what would have been taken."""
    of = sorted(outcome.unpaid, key=lambda unpaid: unpaid.asset)
    for asset, group in groupby(of, key=lambda unpaid: unpaid.asset):
        found = list(group)
        value = amount(sum(unpaid.value_base for unpaid in found), config)
        yield (
            f"{outcome.book.market.assets[asset].symbol} was short: liquidations of {len(found):,} accounts could not"
            f" be paid in it at some moment, up to {value} of collateral (of each account the most at one look); other"
            " collateral, and later looks, stay open to them."
        )


def _override_notes(outcome: Replay[State], config: MarketConfig) -> Iterator[str]:
    """What overrides reach, and what they do by themselves."""
    for override, values in outcome.overrides.items():
        yield f"Override {override}: {values} values."
    for reach in outcome.reach:
        if not reach.of:
            yield f"Override {reach.override} reaches nobody: no account has debt."
            continue
        share = f" ({reach.accounts / reach.of:.1%})"
        left = f"; {reach.in_emode:,} with debt in an e-mode are left alone" if reach.in_emode else ""
        when = ", as of the end of the window" if reach.at_end else ""
        yield (
            f"Override {reach.override} touches {reach.accounts:,} of {reach.of:,} accounts with"
            f" debt{share}{left}{when}."
        )
    made = outcome.made_liquidatable
    if made:
        accounts = len({each.account for each in made})
        debt = amount(sum(each.debt_base for each in made), config)
        yield f"Overrides themselves, not prices, made {accounts:,} accounts with {debt} of debt liquidatable."


def amount(base: int, config: MarketConfig) -> str:
    """Base units as an amount of the base currency."""
    return f"{Decimal(base).scaleb(-config.base_decimals):,.2f} {config.base_currency}"


def _mismatch(outcome: Replay[State], index: int) -> str:
    mismatch = outcome.mismatches[index]
    past, market = mismatch.past, outcome.book.market
    pair = f"{market.label(past.collateral_asset)}/{market.label(past.debt_asset)}"
    where = f"block {past.block_number}, log {past.log_index}, {outcome.book.address(past.account)}, {pair}"
    if mismatch.ours is None:
        return f"Differs from history: {where}: would have reverted ({mismatch.reason})."
    theirs = (past.repaid, past.seized, past.protocol_fee)
    return f"Differs from history: {where}: repaid, seized, fee {mismatch.ours} here, {theirs} then."


# -- tables ------------------------------------------------------------------------------------------------------------


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
