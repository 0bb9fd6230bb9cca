"""What the numbers of a run rest on, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import groupby

from backtest.markets import MarketConfig
from backtest.model import AssetId
from backtest.outcome.rows import is_synthetic
from backtest.protocols.interface import State
from backtest.replay.mitigations.funds import haircut_up
from backtest.replay.record import ActionCount, MitigationEffect, Replay
from backtest.scenario import (
    FITTED,
    Contest,
    Costs,
    Liquidators,
    Observed,
    Scenario,
    Users,
)

_RESPONSES = {
    "frozen": "Users act as in history",
    "same-ltv": "Users borrow and withdraw so that they use the same share of their borrowing power as in history",
    "same-health": "Users borrow and withdraw so that they have the same health factor as in history",
    "fitted": "Users act more or less often than in history where their health is another, by fitted hazards",
}
_OUTCOMES = {
    "skipped": "would have reverted and were skipped",
    "shrunk": "would have reverted and were shrunk to what the rules allow",
    "cut": "did not fit the changed book and were cut",
    "changed": "are of another size than in history",
    "made": "were made that history does not have",
    "dropped": "of history were not made",
    "forgone": "were decided on and could not be made",
}


def notes_of(outcome: Replay[State], scenario: Scenario, config: MarketConfig, assumptions: Sequence[str]) -> list[str]:
    """What the numbers rest on, in sentences. ``assumptions`` are the protocol's own."""
    modelled = not isinstance(scenario.liquidators, Observed)
    notes = (
        [f"Not a real market: {config.description.rstrip('.') or f'a local node, chain id {config.chain_id}'}."]
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
    notes += _mitigation_notes(outcome, scenario, config)
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
    pools = {asset: pool for asset in sorted(book.traded) if (pool := _pool_of(outcome, asset))}
    known = [f"{book.market.label(asset)} ({pool})" for asset, pool in pools.items()]
    others = [book.market.label(asset.id) for asset in book.market.assets if asset.id not in pools]
    but = ", but for what sales do to it" if outcome.points else ""
    if not known:
        yield f"The oracle price is also the market price{but}, which values what is at stake."
        return
    yield f"Market prices are those of pools{but}: {', '.join(known)}."
    if others:
        yield f"The market price of {', '.join(others)} is the oracle's{but}."


def _pool_of(outcome: Replay[State], asset: AssetId) -> str | None:
    """The pool that tells an asset's price; None for one whose market price is another than the oracle's by sales
    alone.
    """
    market = outcome.book.market
    found = (f"{pool.kind} {pool.address}" for pool in market.pools if pool.prices == market.assets[asset].asset)
    return next(found, None)


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
    yield from _users_notes(scenario.users)
    yield f"{_RESPONSES[scenario.users.response]}; each action is checked again by the market's rules, and {fit}."
    yield "An account that interest alone makes liquidatable is seen at the next price, index or parameter change."
    yield f"{outcome.left_out} liquidations of history are left out; the model acts in their place."


def _users_notes(users: Users) -> Iterator[str]:
    """What is assumed of those who act by hazards, and of those who come and go."""
    if users.fitted is not None:
        flat = [one.act for one in users.fitted.hazards if len(one.coefficients) == 1]
        source = f", {users.fitted.source}" if users.fitted.source else ""
        yield f"How users act was fitted in steps of {users.fitted.step} s{source}."
        if flat:
            yield (
                f"Of {', '.join(flat)} history tells no more than a base rate: health, size and volatility change"
                " nothing about how often users do it."
            )
    for share, who, way in (
        (users.departures, "borrowers leave", "less"), (users.arrivals, "newcomers come", "more")
    ):  # fmt: skip
        if share:
            yield (
                f"Assumed, not fitted: {share / 100:g} % of {who} for each percent by which collateral counts {way}"
                " than in history."
            )
    if not users.departures and not users.arrivals and users.response == FITTED:
        yield "Nobody comes or leaves because of changed terms (no elasticity is stated)."


def _competition_notes(model: Liquidators) -> Iterator[str]:
    """How searchers compete."""
    if not isinstance(model, Contest):
        return
    yield f"Competition: {'; '.join(said for said in (model.said, model.away, model.habits) if said)}."
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


_EFFECTS = {
    "withheld": "liquidations of {number} accounts withheld at some moment, {value} of debt (each at its most)",
    "made smaller": "liquidations of {number} accounts made smaller, by {value} (each at its most)",
    "bonus cut": "offers of {number} accounts left {value} more with their owners (each at its most)",
    "passed": "auctions or liquidations of {number} accounts as a whole, {value} of debt, it had no say in",
    "tripped": "tripped {number} times",
    "moved": "changed {number} prices or parameters",
    "acted": "{number} accounts acted, with {value}",
    "refused": "{number} accounts could not act ({detail})",
    "parted": "{number} accounts parted, with {value} of debt",
    "paid": "paid {value} for {number} written-off debts",
    "shared": "suppliers of {detail} share {value} of {number} written-off debts{cut}",
    "unpaid": "nobody pays {value} of {number} written-off debts in {detail}",
}


def _mitigation_notes(outcome: Replay[State], scenario: Scenario, config: MarketConfig) -> Iterator[str]:
    """What each mitigation is, and what it did."""
    for place, mitigation in enumerate(scenario.mitigations):
        did = [
            _EFFECTS[each.effect].format(
                number=f"{each.number:,}",
                value=amount(each.value_base, config),
                detail=each.detail,
                cut=_haircut(outcome, each) if each.effect == "shared" else "",
            )
            for each in outcome.mitigations
            if each.place == place
        ]
        text = "; ".join(did) or "by itself it did nothing"
        said = mitigation.told(lambda base: amount(base, config))
        yield f"Mitigation: {said}. {text[0].upper()}{text[1:]}."


def _haircut(outcome: Replay[State], shared: MitigationEffect) -> str:
    """What that is of what they supply, at the end of the window."""
    book = outcome.book
    supplied = sum(
        book.value_down(holding.asset, holding.collateral)
        for account in book.protocol.accounts(book.state)
        for holding in book.protocol.holdings(book.state, account, book.now)
        if book.market.label(holding.asset) == shared.detail
    )
    return f", {haircut_up(shared.value_base, supplied) / 100:g} % of what they supply"


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
