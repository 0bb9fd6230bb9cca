"""Comparisons: which runs are columns, what is compared with what, what is said to be missing, and SQL against sums in
Python.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backtest.errors import UserError
from backtest.lake import Lake
from backtest.report import find, notes, select, tables
from backtest.report.comparison import Comparison
from backtest.report.selection import BINS, STEPS, Selection
from backtest.report.text import as_text
from backtest.report.verdict import RESAMPLES
from backtest.result_tables import RESULTS
from backtest.results import band_of, baseline_of, scenario_of
from backtest.scenario import Competitive, Override, Scenario, Users
from tests.support.hand_made_replays import U, hit, lake_of, replay_of
from tests.support.lake_tables import MARKET as TOY
from tests.support.lake_tables import table
from tests.support.made_up_runs import MARKET, make_lake

pytestmark = pytest.mark.slow

LOWER = (Override(parameter="liquidation_threshold", asset="COL", value=8000),)
BASELINE = Scenario(name="baseline", liquidators=Competitive())
ALTERNATIVE = replace(BASELINE, name="lower", overrides=LOWER)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return make_lake(tmp_path_factory.mktemp("made-up") / "lake")


@pytest.fixture(scope="module")
def banded(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return make_lake(tmp_path_factory.mktemp("banded") / "lake", band=True)


def lake_with(path: Path, *scenarios: Scenario) -> Lake:
    """A lake with one liquidation under each scenario; run ids are letters in their order."""
    outcome = replay_of([hit("A", repaid=100, seized=105, fee=1)], equity={"end": {"A": 5}})
    return lake_of(path, {"abcdefgh"[i] * 64: (scenario, outcome) for i, scenario in enumerate(scenarios)})


def names(selection: Selection) -> list[str]:
    return [run["name"] for run in selection.runs]


# -- columns -----------------------------------------------------------------------------------------------------------


def test_history_comes_first_then_baselines_then_alternatives(lake: Lake) -> None:
    selection = select(lake)
    assert names(selection) == ["history", "baseline", "WETH threshold −3 points", "bonus +2 points"]
    assert [run["kind"] for run in selection.runs] == ["history", "baseline", "alternative", "alternative"]
    assert selection.main["name"] == "baseline"


def test_named_runs_bring_what_they_are_compared_with(lake: Lake) -> None:
    assert names(select(lake, ["3333"])) == ["history", "baseline", "WETH threshold −3 points"]
    assert names(select(lake, ["3333", "baseline", "3333"])) == ["history", "baseline", "WETH threshold −3 points"]
    assert names(select(lake, ["4444", "3333"])) == [
        "history",
        "baseline",
        "bonus +2 points",
        "WETH threshold −3 points",
    ]
    assert names(select(lake, ["history"])) == ["history"]


def test_users_who_respond_are_a_band_and_no_column_unless_named(banded: Lake) -> None:
    assert names(select(banded)) == ["history", "baseline", "WETH threshold −3 points", "bonus +2 points"]
    named = select(banded, ["WETH threshold −3 points, same-ltv"])
    assert names(named) == ["history", "baseline, same-ltv", "WETH threshold −3 points, same-ltv"]
    assert list(named.band(named.runs[-1])) == ["frozen", "same-health", "same-ltv"]


def test_alone_users_who_respond_are_a_column(tmp_path: Path) -> None:
    alone = [replace(one, users=Users(response="same-ltv")) for one in (BASELINE, ALTERNATIVE)]
    assert names(select(lake_with(tmp_path / "a", *alone))) == ["baseline", "lower"]
    mixed = select(lake_with(tmp_path / "b", BASELINE, *(replace(one, name=f"{one.name} r") for one in alone)))
    assert names(mixed) == ["baseline r", "baseline", "lower r"], "its baseline comes with it"


def test_unknown_and_ambiguous_runs_are_told(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run 'nothing'.*3333.*\(WETH threshold −3 points\)"):
        select(lake, ["nothing"])
    with pytest.raises(UserError, match="several runs match ''"):
        select(lake, [""])
    with pytest.raises(UserError, match="holds no runs of nowhere"):
        select(lake, market="nowhere")
    with pytest.raises(UserError, match="holds no runs"):
        select(Lake(tmp_path / "new", create=True))
    assert find(lake, "4444")["name"] == "bonus +2 points"


def test_runs_of_several_markets_are_told_apart_by_market(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", liquidations=3)
    make_lake(tmp_path / "lake", liquidations=0, market="another")
    lake.refresh()
    with pytest.raises(UserError, match="runs of several markets: another, made-up; name one with --market"):
        select(lake)
    with pytest.raises(UserError, match="several runs match 'baseline'"):
        select(lake, ["baseline"])
    assert {run["market"] for run in select(lake, market="another").runs} == {"another"}
    assert names(select(lake, ["baseline"], market="made-up")) == ["history", "baseline"]


def test_runs_of_older_versions_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = lake_with(tmp_path / "lake", BASELINE)
    now = RESULTS["runs"]
    then = pa.schema(
        [field for field in now if field.name not in ("terms", "question", "engine_version", "missing_windows")]
    )
    old = {**lake.read("results/runs", TOY).to_pylist()[0], "run_id": "9" * 64, "name": "old"}
    monkeypatch.setitem(RESULTS, "runs", then)
    with lake.writer() as writer:
        writer.append(TOY, "results/runs", table(then, [old]))
    monkeypatch.setitem(RESULTS, "runs", now)
    lake.refresh()
    assert names(select(lake)) == ["baseline"]
    assert Comparison(select(lake)).remarks() == ["1 runs of older versions are left out: replay them again."]
    with pytest.raises(
        UserError, match="run 'old' was stored by an older version and cannot be compared; replay it again"
    ):
        select(lake, ["old"])


# -- what is compared with what ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "comparable"),
    [
        ({}, True),
        ({"allow_invalid": True}, True),
        ({"seed": 1}, False),
        ({"liquidators": Competitive(gas_cost=1)}, False),
        ({"users": Users(response="same-ltv")}, False),
        ({"users": Users(refused="shrink")}, False),
        ({"rates": "recomputed"}, False),
        ({"from_block": 5}, False),
        ({"to_block": 500}, False),
        ({"oracle_delay": 60}, True),
    ],
)
def test_a_baseline_differs_by_the_overrides_alone(tmp_path: Path, other: Mapping[str, Any], comparable: bool) -> None:
    selection = select(lake_with(tmp_path / "lake", BASELINE, replace(ALTERNATIVE, **other)), ["lower"])
    comparison = Comparison(selection)
    assert names(selection) == (["baseline", "lower"] if comparable else ["lower"])
    assert len(comparison.judged) == comparable
    made = [remark for remark in comparison.remarks() if "no baseline is stored" in remark]
    command = f"backtest replay --lake {tmp_path / 'lake'} --run bbbbbbbbbbbb --baseline"
    assert made == ([] if comparable else [f"lower: no baseline is stored, so it is not compared. Make it: {command}"])
    for row in comparison.table().rows:
        assert "\n" not in row[-1] or comparable or "of 0" in row[-1], "nothing is compared with anything else"


def test_the_command_for_a_baseline_makes_one(tmp_path: Path) -> None:
    odd = replace(
        ALTERNATIVE,
        seed=7,
        allow_invalid=True,
        users=Users(response="same-health", refused="shrink"),
        rates="recomputed",
        oracle_delay=5,
    )
    lake = lake_with(tmp_path / "lake", odd)
    again = scenario_of(find(lake, "lower"))
    assert again == odd
    lake = lake_with(tmp_path / "other", odd, baseline_of(again))
    assert names(select(lake, ["lower"])) == ["baseline, same-health", "lower"]
    assert baseline_of(again).users == odd.users


@pytest.mark.slow
def test_the_band_is_three_responses_and_their_baselines(tmp_path: Path) -> None:
    planned = band_of(ALTERNATIVE)
    assert [one.name for one in planned] == [
        "baseline",
        "baseline, same-ltv",
        "baseline, same-health",
        "lower",
        "lower, same-ltv",
        "lower, same-health",
    ]
    assert band_of(planned[-1])[3:] == planned[3:], "from any of them"
    assert [one.name for one in band_of(BASELINE)] == ["baseline", "baseline, same-ltv", "baseline, same-health"]
    (judged,) = Comparison(select(lake_with(tmp_path / "lake", *planned))).judged
    assert judged.missing == ()
    assert [list(each.band) for each in judged.verdicts] == [["frozen", "same-health", "same-ltv"]] * 7
    remarks = Comparison(select(lake_with(tmp_path / "less", *planned[:2], *planned[3:]), ["lower"])).remarks()
    assert (
        remarks[0] == "lower: the band lacks users who respond by same-health. Make it: backtest replay --lake"
        f" {tmp_path / 'less'} --run cccccccccccc --band"
    )


def test_own_errors_are_the_distance_from_history_of_the_same_blocks(tmp_path: Path) -> None:
    """History repaid 100, the baseline 130: 30. History's profit after costs is not known."""
    runs = {
        "a" * 64: (Scenario(), replay_of([hit("A", repaid=100, seized=105, fee=1, matches=True)])),
        "b" * 64: (
            BASELINE,
            replay_of([hit("A", repaid=100, seized=105, fee=1), hit("B", repaid=30, seized=31, fee=0)]),
        ),
        "c" * 64: (ALTERNATIVE, replay_of([hit("A", repaid=100, seized=105, fee=1)])),
    }
    (judged,) = Comparison(select(lake_of(tmp_path / "lake", runs))).judged
    own = {each.measure.key: each.own_error for each in judged.verdicts}
    expected = {
        "repaid": 30 * U,
        "liquidations": 1,
        "accounts": 1,
        "bad_debt": 0,
        "borrower_loss": U,
        "protocol_fee": 0,
        "profit": None,
    }
    assert own == expected


def test_what_the_baseline_does_not_tell_of_history_is_not_judged_and_named(tmp_path: Path) -> None:
    """History liquidated ten times what the baseline does, of as many accounts."""
    runs = {
        "a" * 64: (Scenario(), replay_of([hit("A", repaid=1000, seized=1050, fee=10, matches=True)])),
        "b" * 64: (BASELINE, replay_of([hit("A", repaid=100, seized=105, fee=1)])),
        "c" * 64: (ALTERNATIVE, replay_of([hit("A", repaid=900, seized=945, fee=9)])),
    }
    comparison = Comparison(select(lake_of(tmp_path / "lake", runs)))
    (judged,) = comparison.judged
    words = {each.measure.key: each.words for each in judged.verdicts}
    assert {key for key, said in words.items() if said == "cannot be judged here"} == {
        "repaid",
        "borrower_loss",
        "protocol_fee",
    }
    (line,) = [remark for remark in comparison.remarks() if "cannot judge" in remark]
    assert line.startswith(
        "baseline cannot judge debt liquidated (history 1,000, the baseline 100.00); borrowers' loss"
    )
    assert "backtest calibrate" in line


def test_several_baselines_are_named_in_the_header(tmp_path: Path) -> None:
    dear = Competitive(gas_cost=5)
    lake = lake_with(
        tmp_path / "lake",
        BASELINE,
        ALTERNATIVE,
        replace(BASELINE, name="dear", liquidators=dear),
        replace(ALTERNATIVE, name="x", liquidators=dear),
    )
    assert Comparison(select(lake)).table().header == (
        "",
        "baseline",
        "dear\nbaseline",
        "lower\nagainst baseline",
        "x\nagainst dear",
    )


def test_the_same_run_under_two_names_is_no_different(tmp_path: Path) -> None:
    (judged,) = Comparison(select(lake_with(tmp_path / "lake", BASELINE, ALTERNATIVE, Scenario()))).judged
    assert {each.words for each in judged.verdicts} == {"no material difference"}
    assert {(each.effect, each.low, each.high) for each in judged.verdicts} == {(0, 0, 0)}


# -- SQL against Python ------------------------------------------------------------------------------------------------


def test_marts_equal_sums_in_python(banded: Lake) -> None:
    hits = banded.read("results/run_liquidations", MARKET).to_pylist()
    deficits = banded.read("results/run_deficits", MARKET).to_pylist()
    equity = banded.read("results/run_equity", MARKET).to_pylist()
    own: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in hits:
        account = own[row["run_id"], row["account"]]
        account["liquidations"] += 1
        account["repaid_base"] += int(row["repaid_base"])
        account["borrower_loss_base"] += int(row["seized_base"] + row["protocol_fee_base"] - row["repaid_base"])
        account["profit_base"] += int(row["profit_base"])
    for row in deficits:
        own[row["run_id"], row["account"]]["realised_bad_debt_base"] += int(row["amount_base"])
    for row in equity:
        if row["label"] == "end":
            own[row["run_id"], row["account"]]["open_bad_debt_base"] += max(0, -int(row["equity_base"]))
    found = banded.sql("SELECT * FROM run_accounts").to_arrow_table().to_pylist()
    assert {(row["run_id"], row["account"]) for row in found} == set(own)
    keys = (
        "liquidations",
        "repaid_base",
        "borrower_loss_base",
        "profit_base",
        "realised_bad_debt_base",
        "open_bad_debt_base",
    )
    for row in found:
        assert {key: int(row[key]) for key in keys} == {key: own[row["run_id"], row["account"]][key] for key in keys}
    losses = {
        row["run_id"]: row
        for row in banded.sql("SELECT * FROM run_losses WHERE label = 'end'").to_arrow_table().to_pylist()
    }
    for run, row in losses.items():
        mine = [account for (of, _), account in own.items() if of == run]
        assert row["bad_debt_base"] == sum(
            account["realised_bad_debt_base"] + account["open_bad_debt_base"] for account in mine
        )
        assert row["borrower_loss_base"] == sum(account["borrower_loss_base"] for account in mine)


def test_shares_equal_sums_in_python(banded: Lake) -> None:
    by_account: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in banded.read("results/run_liquidations", MARKET).to_pylist():
        by_account[row["run_id"]][row["account"]] += int(row["repaid_base"])
    found = banded.sql("SELECT * FROM run_concentration WHERE measure = 'repaid'").to_arrow_table().to_pylist()
    assert {row["run_id"] for row in found} == set(by_account)
    for row in found:
        amounts = sorted(by_account[row["run_id"]].values(), reverse=True)
        assert len(amounts) > 5
        assert (row["accounts"], row["total_base"]) == (len(amounts), sum(amounts))
        assert (row["largest_base"], row["largest_five_base"]) == (amounts[0], sum(amounts[:5]))
        assert row["share_largest_five"] == pytest.approx(sum(amounts[:5]) / sum(amounts))
        assert 0 < row["share_largest"] <= row["share_largest_five"] <= 1


def test_totals_of_verdicts_are_those_of_the_table(banded: Lake) -> None:
    (judged,) = Comparison(select(banded)).judged
    summary = {row["run_id"]: row for row in banded.sql("SELECT * FROM run_summary").to_arrow_table().to_pylist()}
    run, baseline = summary[judged.run["run_id"]], summary[judged.run["baseline_id"]]
    columns = {
        "repaid": "repaid_base",
        "liquidations": "liquidations",
        "accounts": "accounts_liquidated",
        "bad_debt": "bad_debt_base",
    }
    effects = {each.measure.key: each.effect for each in judged.verdicts}
    assert {key: effects[key] for key in columns} == {
        key: run[column] - baseline[column] for key, column in columns.items()
    }
    history = summary[judged.run["history_id"]]
    assert {each.own_error for each in judged.verdicts if each.measure.key == "repaid"} == {
        abs(baseline["repaid_base"] - history["repaid_base"])
    }


# -- text --------------------------------------------------------------------------------------------------------------


def test_text_says_everything_once(banded: Lake) -> None:
    text = as_text(select(banded))
    for part in (
        (
            "Market made-up, blocks 1,000 to 15,400 (2020-03-12 00:00:00 to 2020-03-14 00:00:00 UTC); synthetic data:"
            " not a real market"
        ),
        "Verdict: WETH threshold −3 points against baseline (users frozen;",
        f"({RESAMPLES:,}",
        "bonus +2 points: no baseline is stored, so it is not compared. Make it: backtest replay --lake",
        "Refused by the market's rules, skipped",
        "Losses 1 day after the window: not known, the data end before",
        "data abababababababab (raw content), rules version 1, engine version 1",
        "  - Market and execution prices are the oracle's.",
        "  - history: Liquidators: observed.",
    ):
        assert text.count(part) == 1, part
    assert text.count("12 of 48") == 2, "the reach of the overrides of two alternatives"
    assert "the band lacks" not in text
    assert max(map(len, text.splitlines())) < 190
    shared = as_text(select(banded), shared_only=True)
    assert "  - Market and execution prices are the oracle's.\n  - Liquidators: competitive." in shared
    assert "Liquidators: observed." not in shared


def test_a_band_that_is_not_whole_is_no_range(lake: Lake) -> None:
    comparison = Comparison(select(lake))
    assert {row[5] for row in comparison.verdict_table(comparison.judged[0]).rows} == {"incomplete"}


def test_notes_are_said_once_and_name_their_runs(lake: Lake) -> None:
    assert notes(select(lake).runs) == [
        "Market and execution prices are the oracle's.",
        "history: Liquidators: observed.",
        "baseline, WETH threshold −3 points, bonus +2 points: Liquidators: competitive.",
    ]
    assert notes(select(lake, ["history"]).runs) == [
        "Market and execution prices are the oracle's.",
        "Liquidators: observed.",
    ]


def test_runs_that_share_a_name_are_told_apart() -> None:
    runs = [{"name": "a", "run_id": "1" * 20}, {"name": "a", "run_id": "2" * 20}, {"name": "b", "run_id": "3" * 20}]
    assert tables.labels_of(runs) == ["a 11111111", "a 22222222", "b"]


def test_stored_scenarios_of_other_versions_are_refused(lake: Lake) -> None:
    run = dict(select(lake).runs[0])
    for body in ({"version": 99}, {"version": 1, "liquidaters": {}}):
        with pytest.raises(UserError, match="was stored by another version of the program; replay it with this one"):
            scenario_of({**run, "scenario": json.dumps(body)})


@given(st.integers(1, 10**9), st.integers(1, 4 * 365 * 86_400))
def test_time_bins_are_few(start: int, length: int) -> None:
    run = {"from_timestamp": start, "to_timestamp": start + length, "run_id": "x"}
    selection = Selection(lambda text: [], (run,), (run,), "m", "lake", 8, "USD")
    assert length / selection.step <= BINS or selection.step == STEPS[-1]
