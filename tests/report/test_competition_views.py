"""Views of opportunities, bids and waterfalls: SQL against plain Python, on made-up rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from math import sqrt
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import pytest
from scipy.stats import t as student

from backtest.lake import Lake
from backtest.scenario import Competitive, Scenario, SealedBid
from tests.support.made_up_competition import SOURCES, USES
from tests.support.made_up_runs import MARKET, make_lake

SEEDS = tuple(
    Scenario(name="sealed bid", liquidators=SealedBid(private_cost=10**8), seed=seed) for seed in (0, 1, 2, 5)
)
OTHERS = (
    Scenario(),
    Scenario(name="baseline", liquidators=Competitive()),
    Scenario(name="other", liquidators=SealedBid(private_cost=10**9)),
)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return make_lake(tmp_path_factory.mktemp("contested") / "lake", scenarios=(*OTHERS, *SEEDS))


@pytest.fixture(scope="module")
def stored(lake: Lake) -> dict[str, list[Row]]:
    """Result tables as they were written."""
    names = ("runs", "run_liquidations", "run_opportunities", "run_bids", "run_waterfalls", "run_windows")
    return {name: lake.read(f"results/{name}", MARKET).to_pylist() for name in names}


def view(lake: Lake, name: str, *keys: str) -> dict[Any, Row]:
    """The rows of a view by its grain: no two share it."""
    rows = lake.sql(f"FROM {name}").to_arrow_table().to_pylist()
    found = {tuple(row[key] for key in keys): row for row in rows}
    assert len(found) == len(rows)
    return found


def grouped(rows: Iterable[Row], *keys: str) -> dict[Any, list[Row]]:
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[key] for key in keys)].append(row)
    return found


def ended(stored: dict[str, list[Row]]) -> list[Row]:
    """Every opportunity, its stretches in order under ``spells``."""
    ends = {run["run_id"]: run for run in stored["runs"]}
    found = []
    for (run_id, number), spells in grouped(stored["run_opportunities"], "run_id", "opportunity").items():
        spells.sort(key=lambda spell: spell["spell"])
        last, is_over = spells[-1], spells[-1]["ending"] != "missed"
        until = last["to_timestamp"] if is_over else ends[run_id]["to_timestamp"]
        missed = [spell for spell in spells if spell["ending"] == "missed"]
        found.append(
            {
                "run_id": run_id,
                "opportunity": number,
                "spells": spells,
                "ending": last["ending"],
                "seconds": until - spells[0]["from_timestamp"],
                "missed": missed[-1]["reason"] if missed else None,
                "last": last,
            }
        )
    return found


# -- views -------------------------------------------------------------------------------------------------------------


def test_every_opportunity_is_one_row_that_says_how_it_ended(lake: Lake, stored: dict[str, list[Row]]) -> None:
    rows = view(lake, "opportunities", "run_id", "opportunity")
    expected = ended(stored)
    assert len(rows) == len(expected) > 100
    assert {row["ending"] for row in rows.values()} == {"taken", "expired", "missed"}
    winners = {(bid["run_id"], bid["ordinal"]): bid for bid in stored["run_bids"] if bid["won"]}
    rents = {(row["run_id"], row["ordinal"]): row["rent_base"] for row in stored["run_waterfalls"]}
    hits = {(hit["run_id"], hit["ordinal"]): hit for hit in stored["run_liquidations"]}
    for each in expected:
        row, last = rows[each["run_id"], each["opportunity"]], each["last"]
        assert (row["ending"], row["reason"], row["missed"]) == (last["ending"], last["reason"], each["missed"])
        assert (row["seconds"], row["looks"]) == (each["seconds"], sum(spell["looks"] for spell in each["spells"]))
        assert (row["first_repaid_base"], row["repaid_base"]) == (each["spells"][0]["repaid_base"], last["repaid_base"])
        assert (row["first_profit_base"], row["profit_base"]) == (each["spells"][0]["profit_base"], last["profit_base"])
        assert row["ended_block"] == (None if last["ending"] == "missed" else last["to_block"])
        key = each["run_id"], last["ordinal"]
        if last["ending"] == "taken":
            bid = winners.get(key)
            assert row["taken_by"] == (bid["searcher"] if bid else hits[key]["liquidator"])
            assert (row["bid_base"], row["rent_base"]) == (bid["bid_base"] if bid else None, rents[key])
        else:
            assert row["taken_by"] is row["bid_base"] is row["rent_base"] is None


def test_the_league_table(lake: Lake, stored: dict[str, list[Row]]) -> None:
    rows = view(lake, "league_table", "run_id", "searcher")
    bids = grouped(stored["run_bids"], "run_id", "searcher")
    winners = {(bid["run_id"], bid["ordinal"]): bid["searcher"] for bid in stored["run_bids"] if bid["won"]}
    hits = {(hit["run_id"], hit["ordinal"]): hit for hit in stored["run_liquidations"]}
    named = [
        {
            **row,
            "searcher": (
                winners.get((row["run_id"], row["ordinal"])) or hits[row["run_id"], row["ordinal"]]["liquidator"]
            ),
        }
        for row in stored["run_waterfalls"]
    ]
    taken = grouped(named, "run_id", "searcher")
    assert rows.keys() == bids.keys() | taken.keys()
    volumes = {
        key: sum(hits[row["run_id"], row["ordinal"]]["repaid_base"] for row in own) for key, own in taken.items()
    }
    for (run_id, searcher), row in rows.items():
        own = bids.get((run_id, searcher))
        won = sum(bid["won"] for bid in own) if own else None
        assert (row["bids"], row["won"]) == (len(own) if own else None, won)
        assert row["win_rate"] == (pytest.approx(won / len(own)) if own else None)
        assert row["liquidations"] == len(taken[run_id, searcher])
        assert row["repaid_base"] == volumes.get((run_id, searcher), 0)
        assert row["bid_paid_base"] == sum(part["bid_base"] for part in taken[run_id, searcher])
        assert row["rent_base"] == sum(part["rent_base"] for part in taken[run_id, searcher])
        assert row["lost_base"] == sum(bid["paid_base"] for bid in own or () if not bid["won"])
        all_of_run = [volume for key, volume in volumes.items() if key[0] == run_id]
        shares = [Fraction(int(volume), int(sum(all_of_run))) for volume in all_of_run]
        assert row["hhi"] == pytest.approx(float(10_000 * sum(share**2 for share in shares)))
        assert row["volume_share"] == pytest.approx(float(Fraction(int(row["repaid_base"]), int(sum(all_of_run)))))


def test_the_waterfall_adds_up_to_the_last_unit(lake: Lake, stored: dict[str, list[Row]]) -> None:
    rows = view(lake, "waterfall", "run_id", "part")
    for (run_id,), own in grouped(stored["run_waterfalls"], "run_id").items():
        sums = {part: sum(row[f"{part}_base"] for row in own) for part in (*SOURCES, *USES)}
        assert [rows[run_id, part]["amount_base"] for part in sums] == list(sums.values())
        assert [rows[run_id, part]["place"] for part in sums] == list(range(1, 14))
        by_side = {
            side: sum(row["amount_base"] for (run, _), row in rows.items() if run == run_id and row["side"] == side)
            for side in ("source", "use")
        }
        assert by_side["source"] == by_side["use"] != 0
        assert rows[run_id, "bonus"]["percent_of_bonus"] == 100.0
        assert rows[run_id, "gas"]["percent_of_bonus"] == pytest.approx(float(100 * sums["gas"] / sums["bonus"]))
    assert {run for run, _ in rows} == {row["run_id"] for row in stored["run_waterfalls"]}


def test_what_was_missed_by_reason(lake: Lake, stored: dict[str, list[Row]]) -> None:
    rows = view(lake, "missed_by_reason", "run_id", "reason")
    expected: dict[Any, Row] = {}
    names = ("opportunities", "debt_base", "looks", "lost", "lost_expired", "lost_debt_base", "lost_profit_base")
    for each in ended(stored):
        for (reason,), spells in grouped(
            [spell for spell in each["spells"] if spell["ending"] == "missed"], "reason"
        ).items():
            row = expected.setdefault((each["run_id"], reason), dict.fromkeys(names, 0))
            row["opportunities"] += 1
            row["debt_base"] += spells[0]["repaid_base"]
            row["looks"] += sum(spell["looks"] for spell in spells)
            if reason == each["missed"] and each["ending"] != "taken":
                row["lost"] += 1
                row["lost_expired"] += each["ending"] == "expired"
                row["lost_debt_base"] += each["last"]["repaid_base"]
                row["lost_profit_base"] += max(0, each["last"]["profit_base"])
    assert {key: {name: row[name] for name in names} for key, row in rows.items()} == expected
    lost = sum(row["lost"] for row in rows.values())
    assert lost == sum(each["ending"] != "taken" for each in ended(stored)), "each that was lost is lost once"


def test_time_to_liquidation_and_its_curve(lake: Lake, stored: dict[str, list[Row]]) -> None:
    """The product-limit and cumulative incidence estimators, in fractions."""
    rows, curve = view(lake, "time_to_liquidation", "run_id"), view(lake, "liquidation_curve", "run_id", "seconds")
    for (run_id,), own in grouped(ended(stored), "run_id").items():
        still_open, taken_share, half = Fraction(1), Fraction(0), None
        for seconds in sorted({each["seconds"] for each in own}):
            at_risk = sum(each["seconds"] >= seconds for each in own)
            taken, expired = (
                sum(each["seconds"] == seconds and each["ending"] == ending for each in own)
                for ending in ("taken", "expired")
            )
            taken_share += still_open * Fraction(taken, at_risk)
            still_open *= 1 - Fraction(taken + expired, at_risk)
            half = seconds if half is None and taken_share >= Fraction(1, 2) else half
            point = curve[run_id, seconds]
            assert (point["at_risk"], point["taken"], point["expired"]) == (at_risk, taken, expired)
            assert (point["open_share"], point["taken_share"]) == (
                pytest.approx(float(still_open)),
                pytest.approx(float(taken_share)),
            )
        times = sorted(each["seconds"] for each in own if each["ending"] == "taken")
        row = rows[run_id,]
        counts = [sum(each["ending"] == ending for each in own) for ending in ("taken", "expired", "missed")]
        assert [row["opportunities"], row["taken"], row["expired"], row["still_open"]] == [len(own), *counts]
        assert (row["at_once"], row["longest_seconds"]) == (times.count(0), times[-1])
        assert row["mean_seconds"] == pytest.approx(mean(times))
        assert row["half_taken_seconds"] == half
        for quantile, name in ((0.5, "median_seconds"), (0.9, "p90_seconds"), (0.99, "p99_seconds")):
            assert row[name] == next(value for place, value in enumerate(times, 1) if place >= quantile * len(times))


def test_bid_share_by_rivals_and_zero_bids(lake: Lake, stored: dict[str, list[Row]]) -> None:
    shares, zero = view(lake, "bid_share", "run_id", "rivals"), view(lake, "zero_bids", "run_id")
    contests = grouped(stored["run_bids"], "run_id", "ordinal")
    found = defaultdict(list)
    for (run_id, _), bids in contests.items():
        winner = next(bid for bid in bids if bid["won"])
        found[run_id, len(bids) - 1].append(float(winner["bid_base"] / winner["value_base"]))
    assert shares.keys() == found.keys()
    for key, own in found.items():
        row = shares[key]
        assert (row["contests"], row["mean_share"], row["median_share"]) == (
            len(own),
            pytest.approx(mean(own)),
            pytest.approx(median(own)),
        )
        if len(own) > 1:
            error = stdev(own) / sqrt(len(own))
            width = student.ppf(0.975, len(own) - 1) * error
            assert (row["standard_error"], row["high"] - row["low"]) == (pytest.approx(error), pytest.approx(2 * width))
        else:
            assert row["standard_error"] is row["low"] is row["high"] is None
    for (run_id,), row in zero.items():
        own = [bids for (run, _), bids in contests.items() if run == run_id]
        nothing = sum(next(bid["bid_base"] for bid in bids if bid["won"]) == 0 for bids in own)
        assert (row["contests"], row["zero_bids"], row["alone"]) == (
            len(own),
            nothing,
            sum(len(bids) == 1 for bids in own),
        )
        low, high = _wilson(nothing, len(own))
        assert (row["share"], row["low"], row["high"]) == (
            pytest.approx(nothing / len(own)),
            pytest.approx(low),
            pytest.approx(high),
        )


def _wilson(hits: int, of: int) -> tuple[float, float]:
    """The roots of (p - share)^2 = z^2 p (1 - p) / n."""
    z2, share = 1.959963984540054**2, hits / of
    a, b, c = 1 + z2 / of, -(2 * share + z2 / of), share**2
    root = sqrt(b * b - 4 * a * c)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def test_runs_that_differ_by_seed_alone_are_repeats(lake: Lake, stored: dict[str, list[Row]]) -> None:
    rows = view(lake, "run_repeats", "repeats_id", "measure")
    assert len({repeats_id for repeats_id, _ in rows}) == 1, (
        "a scenario with one seed, and another of the same model, are no repeats"
    )
    by_measure = {measure: row for (_, measure), row in rows.items()}
    assert {(row["name"], row["runs"], row["first_seed"], row["last_seed"]) for row in rows.values()} == {
        ("sealed bid", 4, 0, 5)
    }
    mine = [run["run_id"] for run in stored["runs"] if run["name"] == "sealed bid"]
    at_end = {row["run_id"]: row for row in stored["run_windows"] if row["label"] == "end"}
    lost = defaultdict(int)
    for each in ended(stored):
        lost[each["run_id"]] += each["last"]["repaid_base"] if each["ending"] != "taken" else 0
    values = {
        "liquidations": [at_end[run]["liquidations"] for run in mine],
        "repaid": [at_end[run]["repaid_base"] for run in mine],
        "bad_debt": [at_end[run]["realised_bad_debt_base"] + at_end[run]["open_bad_debt_base"] for run in mine],
        "missed_debt": [lost[run] for run in mine],
        **{
            part: [sum(row[f"{part}_base"] for row in stored["run_waterfalls"] if row["run_id"] == run) for run in mine]
            for part in (*SOURCES, *USES)
        },
    }
    assert by_measure.keys() == values.keys()
    for measure, own in values.items():
        row, error = by_measure[measure], stdev([float(value) for value in own]) / 2
        assert (row["mean"], row["standard_error"]) == (pytest.approx(float(sum(own)) / 4), pytest.approx(error))
        assert (row["smallest"], row["largest"]) == (min(own), max(own))
        assert row["high"] - row["low"] == pytest.approx(2 * student.ppf(0.975, 3) * error)


def test_a_seed_without_liquidations_counts_as_none_of_each(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", liquidations=0, scenarios=SEEDS[:2])
    assert view(lake, "run_repeats", "measure")["liquidations",]["high"] == 0
    assert (
        view(lake, "opportunities", "run_id", "opportunity") == view(lake, "league_table", "run_id", "searcher") == {}
    )


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 20, 21, 25, 40, 100, 999, 1000])
def test_students_t(lake: Lake, degrees: int) -> None:
    [(t,)] = lake.sql(f"SELECT t FROM student_t WHERE degrees = {degrees}").fetchall()
    assert t == pytest.approx(student.ppf(0.975, degrees), abs=1e-6)
