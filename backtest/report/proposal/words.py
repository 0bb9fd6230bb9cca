"""What is said about a proposal, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from backtest.report import tables
from backtest.report.proposal import BETTER, SHORT, Proposal, ProposalFinding, Shock
from backtest.report.verdict import JUDGEABLE, UNJUDGED, Measure


def answer(p: Proposal) -> list[str]:
    """The answer in sentences: what changes for certain, what is not judged, what happens at once, and by a fall."""
    shown = p.findings[:SHORT]
    gains = [each for each in shown if _way(each) > 0]
    harms = [each for each in shown if _way(each) < 0]
    neutral = [each for each in shown if _moved(each) and not _way(each)]
    same = [each.measure.label.lower() for each in shown if each.verdict.judged and not each.verdict.material]
    unjudged = [each for each in shown if not each.verdict.judged]
    found = []
    if gains and harms:
        found.append(f"A trade: {_listed([_effect(p, each) for each in (*gains, *harms)])}.")
    elif harms:
        how = "In what can be judged it costs" if unjudged else "It costs, and no gain is seen here"
        found.append(f"{how}: {_listed([_effect(p, each) for each in harms])}.")
    elif gains:
        how = "In what can be judged it gains" if unjudged else "It gains, and no cost is seen here"
        found.append(f"{how}: {_listed([_effect(p, each) for each in gains])}.")
    elif neutral:
        found.append("Nobody is seen to gain or lose here.")
    else:
        found.append("No difference that this history can show.")
    if neutral:
        found.append(f"{_capital(_listed([_effect(p, each) for each in neutral]))}.")
    if same:
        found.append(f"No material difference in {_listed(same)}.")
    found += [
        f"{each.measure.label} {UNJUDGED}: history had {_amount(p, each.verdict.history, each.measure)}, the baseline"
        f" {_amount(p, each.verdict.baseline, each.measure)}."
        if each.verdict.history is not None
        else f"{each.measure.label} {UNJUDGED}: history is not known."
        for each in unjudged
    ]
    before, after = p.refused
    if after > before:
        found.append(
            f"Of what users did, {tables.money(after - before, p.decimals)} {p.currency} more is refused under it: debt"
            " that is not made is not liquidated."
        )
    found.append(_at_once(p))
    fall = _fallen(p)
    return found + ([fall] if fall else [])


def _fallen(p: Proposal) -> str:
    """The fall of prices at which the change matters most to bad debt, or else to what may be liquidated."""
    if not p.shocks:
        return ""

    def weight(shock: Shock) -> tuple[int, int]:
        return abs(shock.bad_debt[1] - shock.bad_debt[0]), abs(shock.debt[1] - shock.debt[0])

    shock = max(p.shocks, key=weight)
    if not any(weight(shock)):
        return f"No fall of prices by up to {max(one.fall for one in p.shocks) / 100:g} % at once shows a difference."
    said = [
        f"{_turned(p, pair)} {what}"
        for pair, what in (
            (shock.debt, "of debt would be liquidatable"),
            (shock.bad_debt, "would be bad debt after frictionless liquidations"),
        )
        if pair[0] != pair[1]
    ]
    return f"Were {shock.assets} to fall by {shock.fall / 100:g} % at once, {_listed(said)}."


def _turned(p: Proposal, pair: tuple[int, int]) -> str:
    return f"{tables.money(pair[1], p.decimals)} {p.currency} in place of {tables.money(pair[0], p.decimals)}"


def _at_once(p: Proposal) -> str:
    moment = p.moment
    if not moment.newly:
        return "Taking effect at once, it makes nobody liquidatable by itself."
    number = len(moment.newly)
    return (
        f"Taking effect at once, it makes {number:,} {'account' if number == 1 else 'accounts'} with"
        f" {tables.money(moment.debt, p.decimals)} {p.currency} of debt liquidatable."
    )


LARGEST = 2
"""Accounts that the one screen names."""


def largest_newly(p: Proposal) -> str:
    """The largest accounts that the change makes liquidatable, and how long a ramp would spare them."""
    days, steps = p.moment.days, p.moment.steps
    named = [
        f"{short(one.account)} with {tables.money(one.debt, p.decimals)} (day {days * one.step // steps})"
        for one in p.moment.newly[:LARGEST]
    ]
    which = "It is" if len(p.moment.newly) == 1 else "The largest are" if len(named) > 1 else "The largest is"
    return f"{which} {_listed(named)}: the day until which a {days}-day ramp of {steps} steps would spare it."


def overturned_by(p: Proposal) -> list[str]:
    """Under which conditions another answer would be given, in sentences."""
    found = []
    for each in p.findings[:SHORT]:
        verdict, label = each.verdict, each.measure.label
        if not verdict.effect:
            continue
        way = _side(verdict.effect)
        against = [share for share, effect in each.draws if effect * verdict.effect < 0]
        reasons = []
        if against:
            reasons.append(f"draws of the baseline with {sum(against):.0%} of the weight")
        reasons += [
            f"users who respond by {response}"
            for response, effect in verdict.band.items()
            if response != "frozen" and effect * verdict.effect < 0
        ]
        if each.without_largest is not None and each.without_largest * verdict.effect < 0 and p.largest:
            reasons.append(f"the largest account, {short(p.largest)}, were it not there")
        if reasons:
            found.append(f"{label} ({way}): the other way by {_listed(reasons)}.")
    verdict = p.finding("bad_debt").verdict
    turned = [
        (shock, more)
        for shock in p.shocks
        if (more := shock.bad_debt[1] - shock.bad_debt[0]) * verdict.effect < 0 and verdict.judged
    ]
    if turned and verdict.material:
        shock, more = max(turned, key=lambda pair: abs(pair[1]))
        found.append(
            f"A fall of {shock.assets} by {shock.fall / 100:g} % at once: bad debt {_side(more)} by"
            f" {tables.money(abs(more), p.decimals)} {p.currency}."
        )
    if unjudged := [each.measure.label.lower() for each in p.findings[:SHORT] if not each.verdict.judged]:
        found.append(f"A baseline that has history's {_listed(unjudged)}{'' if p.ensemble else ' (--ensemble)'}.")
    hidden = [
        each.measure.label.lower()
        for each in p.findings[:SHORT]
        if each.verdict.judged
        and each.doubt.accounts is not None
        and not each.verdict.material
        and not each.verdict.low <= 0 <= each.verdict.high
    ]
    if hidden:
        found.append(
            f"A baseline nearer to history: the interval of the effect on {_listed(hidden)} contains 0 only for the own"
            " error of differences, which grows with the baseline's distance from history."
        )
    return found or ["Nothing that was tried: no draw, response, account or fall of prices turns a verdict round."]


def next_steps(p: Proposal) -> list[str]:
    """What to look at next, a line each."""
    sets = " ".join(f"--set {change}" for change in p.changes)
    markets = " ".join(f"--market {market}" for market in p.markets)
    start = f"backtest propose --lake {p.lake} {markets} {sets}"
    found = []
    if p.parts and p.frictionless:
        found.append("liquidators who are late or pay, in all these markets: --ensemble FILE (docs/propose.md)")
    elif not p.ensemble:
        found.append(
            f"a baseline that resembles history: backtest calibrate baseline --lake {p.lake} --market {p.market}"
        )
    if any(not each.verdict.judged for each in p.findings[:SHORT]):
        found.append(JUDGEABLE)
    if p.moment.newly:
        worst = max(one.step for one in p.moment.newly)
        found.append(
            f"a ramp: in {p.moment.steps} steps over {p.moment.days} days the last of them is safe until day"
            f" {p.moment.days * worst // p.moment.steps}: --set NAME=VALUE@FROM..UNTIL/STEPS"
        )
    if p.search is None:
        found.append(f"neighbours of the proposal, with the present one: {start} --best")
    found.append(f"run by run: backtest report --lake {p.lake} --sweep {p.sweep[:12]}")
    return found


def _way(each: ProposalFinding) -> int:
    """1 a gain, -1 a cost, 0 neither."""
    better = BETTER.get(each.measure.key)
    if better is None or not _moved(each):
        return 0
    return 1 if (each.verdict.effect > 0) == (better == "more") else -1


def _moved(each: ProposalFinding) -> bool:
    return each.verdict.judged and each.verdict.material


def _effect(p: Proposal, each: ProposalFinding) -> str:
    verdict = each.verdict
    share = f" ({abs(verdict.effect) / abs(verdict.baseline):.1%})" if verdict.baseline else ""
    doubt = "" if verdict.settled else ", not for every response of users"
    return (
        f"{each.measure.label.lower()} {_side(verdict.effect)} by {_amount(p, abs(verdict.effect), each.measure)}"
        f"{share}{doubt}"
    )


def _side(value: int) -> str:
    return "higher" if value > 0 else "lower"


def _amount(p: Proposal, value: int | None, measure: Measure) -> str:
    if measure.kind == "count":
        return tables.count(value)
    return f"{tables.money(value, p.decimals)} {p.currency}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def short(account: str) -> str:
    """An account where space is scarce."""
    return account if len(account) <= 16 else f"{account[:8]}…{account[-4:]}"


def basis(p: Proposal) -> str:
    """What the figures rest on, in one line."""
    return (
        f"blocks {p.from_block:,} to {p.to_block:,} ({tables.moment(p.from_timestamp)[:16]} to"
        f" {tables.moment(p.to_timestamp)[:16]} UTC); data {p.digest[:16]}, rules {p.rules}, engine {p.engine};"
        f" {p.runs} runs, seed {p.seed}"
    )


def liquidators(p: Proposal) -> str:
    """Who liquidates, in a sentence."""
    drawn = f"{p.draws} {'draw' if p.draws == 1 else 'draws'}, {p.seeds} {'seed' if p.seeds == 1 else 'seeds'} each"
    return f"{p.baseline}: the best case." if p.frictionless else f"{p.baseline}; {drawn}."
