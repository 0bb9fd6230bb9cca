"""Dates where blocks are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest.cli.moments import window_of
from backtest.errors import UserError
from backtest.lake import Lake

LAKE = Path(__file__).parent.parent / "data" / "sample" / "lake"


def test_dates_and_blocks_name_the_same_window() -> None:
    lake = Lake(LAKE)
    first, last = window_of(lake, "sample-crash", "2020-03-12", "2020-03-13T00:00:00")
    assert first is not None
    assert last is not None
    assert window_of(lake, "sample-crash", str(first), str(last)) == (first, last)
    assert window_of(lake, "sample-crash", None, None) == (None, None)


@pytest.mark.parametrize("said", ["soon", "９", "9" * 80, "2031-01-01"])
def test_what_names_no_block_is_one_line(said: str) -> None:
    with pytest.raises(UserError):
        window_of(Lake(LAKE), "sample-crash", said, None)
