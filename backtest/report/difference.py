"""The own error of a difference: what a model gets wrong in baseline and alternative alike cancels between them, and
this much of it does not. Pure.

Measured on twin chains with real contracts, under liquidators that no model of ours describes
(``python -m tests.coverage``, docs/coverage.md): intervals that are wider on either side by this share of the
baseline's distance from history hold chain B's true difference in 95 % of the pairs of worlds 1 to 10 (split conformal
prediction, Vovk et al. 2005); worlds that were held out test it.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil

MEASURED_ON = "twin chains with liquidators of other kinds (docs/coverage.md)"

ENSEMBLE: Mapping[str, int] = {"repaid": 70, "bad_debt": 40, "borrower_loss": 25, "liquidations": 100}
"""Of the distance of levels, per cent that a difference keeps: under a calibrated ensemble,"""
ONE_MODEL: Mapping[str, int] = {"repaid": 90, "bad_debt": 470, "borrower_loss": 80, "liquidations": 85}
"""and under frictionless liquidators, taken for any single model."""
_NEAREST = {"accounts": "liquidations", "protocol_fee": "borrower_loss", "protocol_income": "borrower_loss"}
"""Of measures that were not measured, the one that stands in; for all others it is the debt liquidated."""


def share_of(measure: str, *, ensemble: bool) -> Fraction:
    """Of a measure."""
    shares = ENSEMBLE if ensemble else ONE_MODEL
    own = measure if measure in shares else _NEAREST.get(measure, "repaid")
    return Fraction(shares[own], 100)


def difference_error(measure: str, distance: int, *, ensemble: bool) -> int:
    """Base units or numbers, rounded up; ``distance`` of the baseline from history."""
    return ceil(share_of(measure, ensemble=ensemble) * distance)
