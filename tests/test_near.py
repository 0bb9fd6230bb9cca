"""Who is near: exact at the bounds, and the whole list against the plain rule of one account after another."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest.account import account_at
from backtest.errors import UserError
from backtest.lake import Lake
from backtest.near import as_decimal, is_near, near_in_lake
from backtest.units import WAD

SAMPLE = Path(__file__).parent.parent / "data/sample/lake"
CRASH = "sample-crash"


@pytest.mark.parametrize(
    ("health", "within", "near"),
    [
        (None, 9_999, False),
        (WAD - 1, 0, True),
        (WAD, 0, False),
        (WAD, 1, True),
        (1_052_631_578_947_368_421, 500, True),  # 1 / 0.95 = 1.0526315789473684210526...
        (1_052_631_578_947_368_422, 500, False),
        (10_000 * WAD - 1, 9_999, True),
        (10_000 * WAD, 9_999, False),
        (2 * WAD, 5_000, False),
        (2 * WAD - 1, 5_000, True),
    ],
)
def test_near_is_exact_at_its_bounds(health: int | None, within: int, near: bool) -> None:
    assert is_near(health, within) is near


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0, 18, "0"),
        (1, 18, "0.000000000000000001"),
        (-15, 1, "-1.5"),
        (120, 1, "12"),
        (7, 0, "7"),
        (10**20, 8, "1000000000000"),
    ],
)
def test_decimals_keep_every_digit(value: int, digits: int, text: str) -> None:
    assert as_decimal(value, digits) == text


@pytest.mark.slow
def test_the_list_is_that_of_the_accounts_themselves() -> None:
    lake = Lake(SAMPLE)
    last = near_in_lake(lake, CRASH, 0).block
    found = near_in_lake(lake, CRASH, 2_000, block=last)
    healths = [one.health or 0 for _, one in found.accounts]
    assert healths == sorted(healths)
    assert 3 < len(healths) < found.of
    assert found.unvalued == 0
    for name, one in found.accounts[:3]:
        told = account_at(lake, CRASH, name, block=last)
        assert (told["total_collateral_base"], told["total_debt_base"], told["health_factor"]) == (
            one.collateral_base,
            one.debt_base,
            one.health,
        )


def test_a_block_outside_the_history_is_named() -> None:
    with pytest.raises(UserError, match="does not hold block 9999999"):
        near_in_lake(Lake(SAMPLE), CRASH, 500, block=9_999_999)
