"""A book of Aave small enough to work by hand."""

from __future__ import annotations

from backtest.units import RAY
from tests.support.aave_books import DEBT, Toy

PERCENT = RAY // 100


def toy(revision: int) -> Toy:
    """Kink at 80 %, base 1 %, 4 % up to it, 75 % above; reserve factor 10 %."""
    book = Toy(revision)
    book.state.recompute = True
    values = {
        "optimal_usage": 80 * PERCENT,
        "base_rate": PERCENT,
        "slope1": 4 * PERCENT,
        "slope2": 75 * PERCENT,
        "reserve_factor": 1000,
    }
    for name, value in values.items():
        book.param(name, value, asset=DEBT)
    return book
