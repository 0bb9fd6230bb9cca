"""Losses and their concentration, worked out by hand on a book of four borrowers, through storing and SQL.

In whole units of the base currency; A, B, C, D borrow, H liquidates.

    baseline      A: 100 repaid, 104 seized, 1 fee; B: 50 repaid, 54 seized, 2 fee, and 20 of B's debt written off
                  at the end A has 30, C owes 7 more than it holds, D has 500; B has nothing
    alternative   A: 80 repaid, 90 seized, no fee; C: 60 repaid, 63 seized, 3 fee, made liquidatable by the override;
                  nothing written off at the end A has 25, B has 4, C owes 12 more than it holds, D has 500
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backtest.lake import Lake
from backtest.report import select
from backtest.report.comparison import Comparison
from backtest.scenario import Competitive, Override, Scenario
from tests.support.hand_made_replays import U, address, hit, lake_of, replay_of

BASELINE = Scenario(name="baseline", liquidators=Competitive())
ALTERNATIVE = Scenario(
    name="less",
    liquidators=Competitive(),
    overrides=(Override(parameter="liquidation_threshold", asset="COL", value=8000),),
)
RUNS = {
    "a" * 64: (
        BASELINE,
        replay_of(
            [hit("A", repaid=100, seized=104, fee=1), hit("B", repaid=50, seized=54, fee=2)],
            deficits={"B": 20},
            equity={
                "end": {"A": 30, "C": -7, "D": 500},
                "+1h": {"A": 28, "C": -9, "D": 500},
                "+1d": {"A": 28, "C": -9, "D": 500},
            },
            peak=40,
            unpriced={"+1d": 1},
        ),
    ),
    "b" * 64: (
        ALTERNATIVE,
        replay_of(
            [hit("A", repaid=80, seized=90, fee=0), hit("C", repaid=60, seized=63, fee=3, by_override=True)],
            equity={
                "end": {"A": 25, "B": 4, "C": -12, "D": 500},
                "+1h": {"A": 20, "B": 4, "C": -15, "D": 501},
                "+1d": {"A": 20, "B": 4, "C": -15, "D": 501},
            },
            peak=13,
        ),
    ),
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return lake_of(tmp_path_factory.mktemp("losses") / "lake", RUNS)


def rows(lake: Lake, query: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = lake.sql(query).fetchall()
    return found


def test_bad_debt_is_realised_open_and_at_its_peak(lake: Lake) -> None:
    found = rows(
        lake,
        "SELECT name, kind, realised_bad_debt_base, open_bad_debt_base, bad_debt_base, peak_bad_debt_base "
        "FROM run_losses WHERE label = 'end' ORDER BY name",
    )
    assert found == [
        ("baseline", "baseline", 20 * U, 7 * U, 27 * U, 40 * U),
        ("less", "alternative", 0, 12 * U, 12 * U, 13 * U),
    ]


def test_what_borrowers_lose_is_bonus_plus_fee(lake: Lake) -> None:
    """Baseline: (104 + 1 - 100) + (54 + 2 - 50) = 5 + 6; alternative: (90 + 0 - 80) + (63 + 3 - 60) = 10 + 6."""
    assert rows(lake, "SELECT borrower_loss_base FROM run_losses WHERE label = 'end' ORDER BY name") == [
        (11 * U,),
        (16 * U,),
    ]
    assert rows(lake, "SELECT borrower_loss_base FROM run_summary ORDER BY name") == [(11 * U,), (16 * U,)]
    by_account = rows(
        lake,
        f"SELECT account, borrower_loss_base FROM run_accounts WHERE run_id = '{'b' * 64}' AND liquidations > 0 ORDER"
        " BY account",
    )
    assert by_account == [(address("A"), 10 * U), (address("C"), 6 * U)]


def test_equity_is_compared_with_the_baseline_for_those_liquidated_in_either(lake: Lake) -> None:
    """A 25 - 30, B 4 - 0, C -12 - -7: -6 together; an hour later A 20 - 28, B 4, C -15 - -9: -10. D is liquidated in
    neither.

    A day later an account has no price in the baseline, and what an account without a row has is not known.
    """
    found = dict(rows(lake, "SELECT label, equity_difference_base FROM run_losses WHERE kind = 'alternative'"))
    assert found == {"end": -6 * U, "+1h": -10 * U, "+1d": None}
    assert set(rows(lake, "SELECT equity_difference_base FROM run_losses WHERE kind = 'baseline'")) == {(None,)}


def test_shares_of_the_largest_accounts(lake: Lake) -> None:
    """Repaid by the baseline: 100 of 150; its bad debt: 20 of B and 7 of C."""
    found = {
        (run[0], measure): values
        for run, measure, *values in rows(
            lake,
            "SELECT run_id, measure, accounts, total_base, largest_base, largest_five_base, share_largest,"
            " share_largest_five FROM run_concentration",
        )
    }
    assert found["a", "repaid"] == [2, 150 * U, 100 * U, 150 * U, pytest.approx(2 / 3), 1.0]
    assert found["a", "bad_debt"] == [2, 27 * U, 20 * U, 27 * U, pytest.approx(20 / 27), 1.0]
    assert found["b", "borrower_loss"] == [2, 16 * U, 10 * U, 16 * U, pytest.approx(10 / 16), 1.0]
    assert found["b", "protocol_fee"] == [1, 3 * U, 3 * U, 3 * U, 1.0, 1.0]


def test_shares_stay_within_0_and_1_where_some_lose(tmp_path: Path) -> None:
    """Profits of 20, 10 and -25: 5 in all, 20 of the 30 gained by one account."""
    hits = [hit(name, repaid=100, seized=100 + gain, fee=0) for name, gain in (("A", 20), ("B", 10), ("C", -25))]
    losing = [hit("A", repaid=100, seized=90, fee=0)]
    runs = {"c" * 64: (BASELINE, replay_of(hits)), "d" * 64: (ALTERNATIVE, replay_of(losing))}
    found = rows(
        lake_of(tmp_path / "lake", runs),
        "SELECT total_base, largest_base, share_largest, share_largest_five FROM run_concentration"
        " WHERE measure = 'profit' ORDER BY run_id",
    )
    assert found == [(5 * U, 20 * U, pytest.approx(2 / 3), 1.0), (-10 * U, -10 * U, None, None)]


def test_the_table_says_so(lake: Lake) -> None:
    table = Comparison(select(lake)).table()
    assert table.header == ("", "baseline", "less\nalternative")
    cells = {row[0].strip(): row[1:] for row in reversed(table.rows)}  # reversed: of several windows the first, the end
    assert cells["Bad debt, realised and open"] == ("27.00", "12.00\n−15.00 (−55.6%)")
    assert cells["Bad debt, at its peak"] == ("40.00", "13.00\n−27.00 (−67.5%)")
    assert cells["Borrowers' loss (bonus plus fee)"] == ("11.00", "16.00\n+5.00 (+45.5%)")
    assert cells["Equity left to those liquidated, less the baseline's"] == ("–", "−6.00")
    assert cells["made liquidatable by an override itself"] == ("0", "1\n+1")
    assert cells["made liquidatable by prices or interest"] == ("2", "1\n−1 (−50.0%)")
    titles = [row[0] for row in table.rows if len(row) == 1]
    assert titles[1:5] == [
        "Losses at the end of the window",
        "Losses 1 hour after the window",
        "Losses 1 day after the window",
        "Losses 7 days after the window: not known, the data end before",
    ]


def test_verdicts_are_about_these_numbers(lake: Lake) -> None:
    (judged,) = Comparison(select(lake)).judged
    effects = {each.measure.key: (each.baseline, each.effect) for each in judged.verdicts}
    assert effects["bad_debt"] == (27 * U, -15 * U)
    assert effects["borrower_loss"] == (11 * U, 5 * U)
    assert effects["profit"] == (8 * U, 5 * U)  # 4 + 4 against 10 + 3
    assert effects["accounts"] == (2, 0)
    assert judged.population == 4
    assert {each.own_error for each in judged.verdicts} == {None}  # no replay of history is stored
    assert judged.missing == ("same-ltv", "same-health")


def test_sums_of_large_amounts_stay_exact(tmp_path: Path) -> None:
    """Sums in SQL must not go through DOUBLE: these differ in the last of 22 digits."""
    large = 10**21 + 1
    odd = replay_of(
        [hit("A", repaid=large, seized=large + 1, fee=0), hit("B", repaid=large, seized=large, fee=1)],
        equity={"end": {"A": -1}},
    )
    lake = lake_of(tmp_path / "lake", {"c" * 64: (BASELINE, odd)})
    assert rows(lake, "SELECT repaid_base, borrower_loss_base, bad_debt_base FROM run_summary") == [
        (2 * large * U, 2 * U, U)
    ]
