"""The campaign of twin chains: a pair of it, and its arithmetic by hand."""

from __future__ import annotations

import math
import re
from random import Random

import pytest

from backtest.report.difference import share_of
from tests.coverage.pairs import pairs_of
from tests.coverage.scored import calibrated, ends, holds, needed, smallest_found, table, verdict
from tests.coverage.world import DOSES, PRESENT, world


def said(low: int, high: int, truth: int, far: int = 100, seed: int = 1) -> dict[str, int]:
    return {"seed": seed, "low": low, "high": high, "truth": truth, "baseline": 1000 + far, "history": 1000}


def test_an_interval_and_what_it_lacks_by_hand() -> None:
    row = said(10, 20, 45)
    assert [ends(row, share) for share in (0, 0.25)] == [(10, 20), (-15, 45)]
    assert [holds(row, share) for share in (0, 0.24, 0.25)] == [False, False, True]
    assert needed(row) == 0.25
    assert (needed(said(10, 20, 15)), needed(said(10, 20, 21, far=0))) == (0.0, math.inf)
    assert [verdict(row, share) for share in (0, 0.1)] == [1, 0]
    assert verdict(said(-20, -10, 5), 0) == -1


def test_the_share_is_that_at_which_the_nominal_part_holds() -> None:
    """Of 100 pairs that need 1 to 100 hundredths, one more counted as missed, 96 have to hold: 0.95 * 101 = 95.95."""
    rows = [said(0, 0, size) for size in range(1, 101)]
    assert calibrated(rows) == 0.96
    assert sum(holds(row, 0.96) for row in rows) == 96


def test_the_smallest_effect_that_is_found() -> None:
    """Effects of 1 to 10 % of the level; those of 6 % and more are found: from 5 % on five in six are."""
    rows = [said(1 if size > 5 else -1, 99, 10 * size, far=0) for size in range(1, 11)]
    assert smallest_found(rows, 0).startswith("5% (of 6 that large 5)")


def test_the_smallest_effect_has_an_interval_that_more_worlds_make_narrower() -> None:
    """An effect of a share s of the level is found with probability s, all sizes alike: of those from s on (1 + s) / 2
    are found, which is four in five at 60 %.
    """
    widths = []
    for worlds in (100, 1_600):
        rng = Random(7)
        rows = []
        for seed in range(worlds):
            size = rng.randint(1, 1_000)
            rows.append(said(1 if rng.randint(1, 1_000) <= size else -1, 2_000, size, far=0, seed=seed))
        words = smallest_found(rows, 0)
        assert words == smallest_found(rows, 0)
        low, high = (int(end) for end in re.findall(r"(\d+)% to (\d+)%$", words)[0])
        assert low <= 60 <= high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_pairs_of_one_world_are_no_evidence_of_their_own() -> None:
    """The same ten pairs in every world: whichever worlds are drawn, the answer is one. None found: none."""
    rows = [said(1 if size > 5 else -1, 99, 10 * size, far=0, seed=seed) for seed in range(4) for size in range(1, 11)]
    assert smallest_found(rows, 0).endswith("5% to 5%")
    assert smallest_found([{**row, "low": -1} for row in rows], 0).startswith("none: 0 of 40 found")
    assert smallest_found([{**row, "low": -1} for row in rows], 0).endswith("none to none")


def test_a_world_is_its_seed_and_changes_every_parameter() -> None:
    assert world(3) == world(3) != world(4)
    for seed in range(20):
        changes = world(seed).changes
        assert set(changes) == set(DOSES) == set(PRESENT)
        assert all(PRESENT[name] != value for name, value in changes.items())


@pytest.mark.slow
def test_pairs_of_a_world_on_the_contracts(chain_packages: None) -> None:
    """What the tool says of chain A is what the chain's logs say (asserted in ``pairs_of``); the table can be made."""
    rows = list(pairs_of(2, 2, equal=False))
    assert [(row["parameter"], row["baseline"]) for row in rows] == [
        ("liquidation_threshold", "calibrated"),
        ("liquidation_threshold", "frictionless"),
        ("liquidation_bonus", "calibrated"),
        ("liquidation_bonus", "frictionless"),
    ]
    threshold = rows[0]["measures"]["repaid"]
    assert threshold["history"] > 0 < threshold["truth"]  # 75 % in place of 82.5 %
    low, high = ends(threshold, share_of("repaid", ensemble=True))  # wider by the own error of a difference
    assert low <= threshold["truth"] <= high
    assert rows[2]["measures"]["borrower_loss"]["truth"] > 0  # 8 % in place of 5 %
    assert "1 worlds, 2 pairs of twins" in "\n".join(table(rows))
