"""What the measures of ``matrices`` say of markets that were looked at: rows as they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from backtest.contagion.books import Connected, Token
from backtest.contagion.matrices import Numbers, debt_rank, leading_eigenvector, overlap

OWNERS = 5
"""Owners in several markets that are shown, by their debt."""


class NetworkMeasure(NamedTuple):
    """One measure: of what (``subject``), of pairs the second one (``other``), as base units or a number."""

    measure: str
    subject: str
    other: str | None = None
    amount_base: int | None = None
    number: float | None = None


def links(bound: Connected, names: Sequence[str]) -> Iterator[NetworkMeasure]:
    """Debt by market, what owners have in several of them, and the largest of these owners."""
    for place, one in enumerate(names):
        yield NetworkMeasure("debt", one, amount_base=bound.debt[place])
        for other in names[place + 1 :]:
            yield NetworkMeasure("debt of common owners", one, other, amount_base=bound.common(one, other))
    for owner, debts in bound.linked()[:OWNERS]:
        for market, debt in sorted(debts.items()):
            yield NetworkMeasure("debt of a common owner", owner, market, amount_base=debt)


def matrix_of(bound: Connected, depth: Mapping[Token, int | None]) -> Numbers:
    """``matrices.overlap`` of what stands behind debt; ``depth``: by token, common units."""
    return overlap(held_of(bound), depths_in(bound, depth))


def depths_in(bound: Connected, depth: Mapping[Token, int | None]) -> list[float | None]:
    """By token, in their order, as doubles."""
    values = (depth.get(token) for token in bound.tokens)
    return [None if value is None else float(value) for value in values]


def held_of(bound: Connected) -> list[list[float]]:
    """Markets x tokens, as doubles."""
    return [[float(value) for value in row] for row in bound.held]


def overlaps(matrix: Numbers, names: Sequence[str]) -> Iterator[NetworkMeasure]:
    """The overlap of each pair, its largest eigenvalue and how much each market weighs in that one's vector."""
    eigenvalue, index = leading_eigenvector(matrix)
    for p, one in enumerate(names):
        for q, other in enumerate(names):
            yield NetworkMeasure("overlap", one, other, number=float(matrix[p, q]))
        yield NetworkMeasure("risk index", one, number=float(index[p]))
    yield NetworkMeasure("eigenvalue", "all", number=eigenvalue)


def claims(bound: Connected, names: Sequence[str]) -> Iterator[NetworkMeasure]:
    """Claims of one market on another, and what of each one's failure others take over by them."""
    for (whose, on), value in sorted(bound.claims.items()):
        yield NetworkMeasure("claim", whose, on, amount_base=value)
    weights = _weights(bound, names, np.zeros((len(names), len(names))))
    for failed in range(len(names) if bound.claims else 0):
        for taker, level in _taken(weights, failed):
            yield NetworkMeasure("debt rank", names[taker], names[failed], number=level)


def failures(bound: Connected, names: Sequence[str], matrix: Numbers) -> Iterator[NetworkMeasure]:
    """What of each market's failure others take over by their claims on it and, as it sells all that it holds, by the
    overlap: distress passed on over several layers (Poledna, Martinez-Jaramillo, Caccioli and Thurner, Quantification
    of systemic risk from overlapping portfolios in the financial system, Journal of Financial Stability 52, 2021).
    Under subject ``others`` the part of their equity together.
    """
    weights, equity = _weights(bound, names, matrix), [max(0, one) for one in equity_of(bound)]
    for failed, name in enumerate(names if weights.any() else ()):
        taken = list(_taken(weights, failed))
        for taker, level in taken:
            yield NetworkMeasure("debt rank with sales", names[taker], name, number=level)
        whole = sum(equity[taker] for taker, _ in taken)
        if whole:
            part = sum(level * equity[taker] for taker, level in taken) / whole
            yield NetworkMeasure("debt rank with sales", "others", name, number=part)


def distress(
    bound: Connected, names: Sequence[str], matrix: Numbers, alone: Mapping[str, int], together: Mapping[str, int]
) -> Iterator[NetworkMeasure]:
    """What losses take of each market's equity: alone, what DebtRank (with sales) makes of that, and together, which
    it is to be held against. Of markets that have equity.

    ``alone``, ``together``: what each lost in a replay that begins here, common units.
    """
    equity = equity_of(bound)
    began = [
        min(1.0, alone[name] / equity[place]) if equity[place] > 0 else float(alone[name] > 0)
        for place, name in enumerate(names)
    ]
    passed = debt_rank(_weights(bound, names, matrix), began)
    for place, name in enumerate(names):
        if equity[place] > 0:
            yield NetworkMeasure("distress alone", name, number=began[place])
            yield NetworkMeasure("distress passed on", name, number=float(passed[place]))
            yield NetworkMeasure("distress together", name, number=min(1.0, together[name] / equity[place]))


def equity_of(bound: Connected) -> list[int]:
    """Collateral behind debt less debt, by market, common units: what is lost before depositors lose."""
    return [sum(row) - debt for row, debt in zip(bound.held, bound.debt, strict=True)]


def _weights(bound: Connected, names: Sequence[str], matrix: Numbers) -> Numbers:
    """Entry (q, p): the part of p's equity that q's failure takes, by claims and by ``matrix`` (what p loses where q
    sells); all of it where p has none.
    """
    equity = equity_of(bound)
    found = np.zeros((len(names), len(names)))
    for q, on in enumerate(names):
        for p, whose in enumerate(names):
            if p != q:
                lost = bound.claims.get((whose, on), 0) + float(matrix[p, q])
                known = (whose, on) in bound.claims or lost > 0
                found[q, p] = min(1.0, lost / equity[p]) if equity[p] > 0 else float(known)
    return found


def _taken(weights: Numbers, failed: int) -> Iterator[tuple[int, float]]:
    """How distressed each other market is where one fails."""
    levels = debt_rank(weights, [float(place == failed) for place in range(len(weights))])
    return ((place, float(level)) for place, level in enumerate(levels) if place != failed)
