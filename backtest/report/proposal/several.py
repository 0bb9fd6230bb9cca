"""A proposal over several markets that are replayed together: the answer of all, from those of each. Pure.

Amounts of all are in the first market's base units, each of another market's rounded up. An address is one account,
however many of the markets it is in: what it contributes is drawn together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from backtest.report.proposal import MEASURES, Proposal, ProposalFinding, ProposalMoment, ProposalOutcome, Shock, Term

_COUNTS = frozenset(measure.key for measure in MEASURES if measure.kind == "count")
EVERYWHERE = "all that move in every market"
"""What falls where the prices of all markets fall at once."""


def in_first_up(amount: int, worth: Fraction) -> int:
    """Base units of one of several markets in those of the first, rounded up."""
    return -(-amount * worth.numerator // worth.denominator)


def outcome_of(parts: Sequence[tuple[Fraction, ProposalOutcome]]) -> ProposalOutcome:
    """What one joint replay came to, from what each market's run did, with what one of its base units is worth."""
    contributions: dict[str, Counter[str]] = {}
    for worth, outcome in parts:
        for account, own in outcome.contributions.items():
            mine = contributions.setdefault(account, Counter())
            for key, value in own.items():
                mine[key] += value if key in _COUNTS else in_first_up(value, worth)
    return ProposalOutcome(
        contributions,
        sum(in_first_up(outcome.power, worth) for worth, outcome in parts),
        sum(in_first_up(outcome.refused, worth) for worth, outcome in parts),
    )


def proposal_of(
    parts: Sequence[tuple[Fraction, Proposal]], findings: tuple[ProposalFinding, ...], largest: str | None
) -> Proposal:
    """The answer of all markets; ``findings`` of them together."""
    first, told = parts[0][1], [part for _, part in parts]
    refused = [sum(in_first_up(part.refused[side], worth) for worth, part in parts) for side in (0, 1)]
    return replace(
        first,
        market=", ".join(part.market for part in told),
        markets=tuple(part.market for part in told),
        findings=findings,
        largest=largest,
        refused=(refused[0], refused[1]),
        terms=tuple(_of(part.market, term) for part in told for term in part.terms),
        warnings=tuple(f"{part.market}: {each}" for part in told for each in part.warnings),
        moment=_moment(parts),
        shocks=_shocks(parts),
        flags=tuple(dict.fromkeys(flag for part in told for flag in part.flags)),
        notes=tuple(dict.fromkeys(note for part in told for note in part.notes)),
        parts=tuple(told),
    )


def _of(market: str, term: Term) -> Term:
    return replace(term, of=f"{market}: {term.of}")


def _moment(parts: Sequence[tuple[Fraction, Proposal]]) -> ProposalMoment:
    """Of all markets; the block is the first one's."""
    newly = [
        replace(one, debt=in_first_up(one.debt, worth), collateral=in_first_up(one.collateral, worth))
        for worth, part in parts
        for one in part.moment.newly
    ]
    return replace(
        parts[0][1].moment,
        touched=sum(part.moment.touched for _, part in parts),
        of=sum(part.moment.of for _, part in parts),
        left_alone=sum(part.moment.left_alone for _, part in parts),
        newly=tuple(sorted(newly, key=lambda one: (-one.debt, one.account))),
        power_before=sum(in_first_up(part.moment.power_before, worth) for worth, part in parts),
        power_after=sum(in_first_up(part.moment.power_after, worth) for worth, part in parts),
    )


def _shocks(parts: Sequence[tuple[Fraction, Proposal]]) -> tuple[Shock, ...]:
    """All that move in every market (or all collateral, where nothing does) fall at once: the last case of each. Where
    one of them has none nothing is said, since a sum would lack it.
    """
    cases = [(worth, list(part.asset_shocks().values())[-1]) for worth, part in parts if part.shocks]
    if len(cases) < len(parts):
        return ()
    found = []
    for place in range(min(len(own) for _, own in cases)):
        rows = [(worth, own[place]) for worth, own in cases]
        settled = all(shock.repaid is not None for _, shock in rows)
        found.append(
            Shock(
                assets=EVERYWHERE,
                fall=rows[0][1].fall,
                accounts=_pair([(Fraction(1), shock.accounts) for _, shock in rows]),
                debt=_pair([(worth, shock.debt) for worth, shock in rows]),
                repaid=_pair([(worth, shock.repaid or (0, 0)) for worth, shock in rows]) if settled else None,
                bad_debt=_pair([(worth, shock.bad_debt) for worth, shock in rows]),
            )
        )
    return tuple(found)


def _pair(rows: Sequence[tuple[Fraction, tuple[int, int]]]) -> tuple[int, int]:
    present, proposed = (sum(in_first_up(pair[side], worth) for worth, pair in rows) for side in (0, 1))
    return present, proposed
