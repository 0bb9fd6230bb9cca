"""Runs in a lake: stored once, refused on stale tables, exact values in the tables; and the verbs replay and
compare.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from backtest import results
from backtest.cli import main
from backtest.cli.replay import base_units
from backtest.errors import LakeError, ScenarioError, UserError
from backtest.lake import Lake
from backtest.outcome import rows
from backtest.protocols.registry import PROTOCOLS
from backtest.report import select
from backtest.report.text import as_text
from backtest.result_tables import RUN_TABLES
from backtest.results import load_market, load_timeline, run, run_id_of
from backtest.scenario import Competitive, Override, Scenario
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import ETH, USD, WETH
from tests.support.sketch_history import liquidated_history
from tests.support.sketch_lake import CONFIG, lake_of

pytestmark = pytest.mark.slow  # together they take what a quick run has no time for

COMPETITIVE = Scenario(name="competitive", liquidators=Competitive())


@pytest.fixture(autouse=True)
def _sketch_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "sketch", FixedSpreadPool())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lake_of(tmp_path / "lake", liquidated_history())


def test_the_same_run_has_the_same_rows_wherever_it_is_made(lake: Lake, tmp_path: Path) -> None:
    made = run(lake, "sketch", COMPETITIVE)
    elsewhere = run(lake_of(tmp_path / "other", liquidated_history()), "sketch", COMPETITIVE)
    lake.refresh()
    read = run(lake, "sketch", COMPETITIVE)
    assert (elsewhere.replayed, read.replayed) == (True, False)
    assert made.digest == elsewhere.digest == read.digest
    assert made.digest != run(lake, "sketch", Scenario()).digest


def test_tables_come_back_as_they_went_in(lake: Lake) -> None:
    h = liquidated_history()
    assert load_market(lake, "sketch").accounts == h.market.accounts
    assert load_market(lake, "sketch").assets == h.market.assets
    assert list(load_timeline(lake, "sketch")) == list(h.timeline())


def test_a_run_is_stored_with_exact_values(lake: Lake) -> None:
    stored = run(lake, "sketch", Scenario(), samples=6)
    assert stored.replayed
    lake.refresh()
    for name in RUN_TABLES:
        assert lake.read(f"results/{name}", "sketch").equals(stored.tables[name].cast(lake.schema(f"results/{name}")))
    [hit] = stored.tables["run_liquidations"].to_pylist()
    assert (hit["repaid"], hit["seized"], hit["matches_history"]) == (300 * 10**6, 262_500_000_000_000_000, True)
    assert (hit["repaid_base"], hit["profit_base"]) == (300 * USD, 15 * USD)
    assert (hit["account"], hit["collateral_asset"]) == ("0x" + "0" * 40, "0x" + "0" * 40)
    assert hit["block_number"] == 11
    assert stored.summary["liquidations"] == 1
    assert (stored.summary["from_block"], stored.summary["to_block"], stored.summary["to_timestamp"]) == (1, 11, 132)
    assert {
        (r["account"][-1], r["asset"][-1], int(r["collateral"]), int(r["debt"]))
        for r in stored.tables["run_balances"].to_pylist()
    } == {
        ("0", "0", 737_500_000_000_000_000, 0),
        ("0", "1", 0, 700 * 10**6),
    }
    assert [r["block_number"] for r in stored.tables["run_totals"].to_pylist()] == [1, 10, 11]


def test_the_same_run_again_is_read_not_stored_twice(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(lake, "sketch", COMPETITIVE)
    lake.refresh()
    files = lake.files(None, "sketch")
    monkeypatch.setattr(results, "replay", None)
    again = run(lake, "sketch", Scenario(name="another name", liquidators=Competitive()))
    assert not again.replayed
    assert again.run_id == first.run_id
    assert again.notes == first.notes
    assert again.summary == {**first.summary, "name": "another name"}
    assert again.digest == first.digest
    lake.refresh()
    assert [file for file in lake.files(None, "sketch") if file.dataset != "results/runs"] == [
        file for file in files if file.dataset != "results/runs"
    ]
    assert lake.read("results/runs", "sketch")["name"].to_pylist() == ["another name"]


def test_of_a_stored_run_only_what_is_asked_for_is_read(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lake of many runs has as many files of each table."""
    made = run(lake, "sketch", COMPETITIVE)
    lake.refresh()
    read, whole = list[str](), Lake.read

    def reading(self: Lake, dataset: str, market: str, **bounds: Any) -> pa.Table:
        read.append(dataset)
        return whole(self, dataset, market, **bounds)

    monkeypatch.setattr(Lake, "read", reading)
    again = run(lake, "sketch", COMPETITIVE)
    assert {name for name in read if name.startswith("results/")} == {"results/runs"}
    assert again.tables["run_liquidations"].num_rows == made.tables["run_liquidations"].num_rows > 0
    assert read[-1] == "results/run_liquidations"
    assert (*again.tables,) == RUN_TABLES
    with pytest.raises(KeyError):
        again.tables["validations"]


def test_what_decides_the_outcome_is_in_the_run_id(monkeypatch: pytest.MonkeyPatch) -> None:
    one = run_id_of(COMPETITIVE, "m", "d")
    others = [
        run_id_of(Scenario(liquidators=Competitive(gas_cost=1)), "m", "d"),
        run_id_of(Scenario(liquidators=Competitive(), seed=1), "m", "d"),
        run_id_of(COMPETITIVE, "n", "d"),
        run_id_of(COMPETITIVE, "m", "e"),
    ]
    monkeypatch.setattr(results, "RULES_VERSION", "next")
    others.append(run_id_of(COMPETITIVE, "m", "d"))
    monkeypatch.setattr(results, "ENGINE_VERSION", "next")
    others.append(run_id_of(COMPETITIVE, "m", "d"))
    assert len({one, *others}) == 7


def test_deficits_and_cut_actions_are_stored(tmp_path: Path) -> None:
    h = liquidated_history()
    h.block(12).price(WETH, 10 * USD).block(13).position(0, WETH, "collateral", -737_500_000_000_000_000, "withdraw")
    stored = run(lake_of(tmp_path / "l", h), "sketch", COMPETITIVE)
    [deficit] = stored.tables["run_deficits"].to_pylist()
    assert deficit["ordinal"] == 0
    assert (stored.summary["actions"], stored.summary["actions_altered"]) == (3, 1)
    assert any(note.startswith("1 withdraw actions of users") for note in stored.notes)
    [window] = stored.tables["run_windows"].to_pylist()
    assert (window["realised_bad_debt_base"], window["deficits"]) == (deficit["amount_base"], 1)


def test_notes_say_what_the_numbers_rest_on(lake: Lake) -> None:
    observed, competitive = run(lake, "sketch", Scenario()), run(lake, "sketch", COMPETITIVE)
    assert "1 of 1 re-enacted liquidations equal history's to the last unit; 0 would have reverted." in observed.notes
    assert "1 liquidations of history are left out; the model acts in their place." in competitive.notes
    assert "Not a real market: a local node, chain id 31337." in observed.notes
    assert "Rules of sketch: tested by hand-worked vectors only." in observed.notes
    assert json.loads(competitive.summary["notes"]) == list(competitive.notes)


def test_inexact_prices_are_named(tmp_path: Path) -> None:
    h = liquidated_history()
    h.rows["prices"][-1]["exact"] = False
    assert "WETH: 1 prices are not known exactly at their position (read between oracle updates)." in run(
        lake_of(tmp_path / "l", h), "sketch", Scenario()
    ).notes  # fmt: skip


def test_stale_or_missing_tables_are_refused(tmp_path: Path) -> None:
    old_rules = lake_of(tmp_path / "a", liquidated_history(), stamped="0:abc")
    with pytest.raises(
        LakeError,
        match=r"stale \(made by rules version 0, this is \d+\); run backtest reconstruct --lake .*a --market sketch",
    ):
        run(old_rules, "sketch", Scenario())
    old_data = lake_of(tmp_path / "b", liquidated_history(), stamped=f"{results.RULES_VERSION}:abc")
    with pytest.raises(LakeError, match="the raw data changed since"):
        load_timeline(old_data, "sketch")
    empty = Lake(tmp_path / "c", create=True)
    with empty.writer() as writer:
        writer.set_market(CONFIG)
    with pytest.raises(LakeError, match="has no canonical tables"):
        run(empty, "sketch", Scenario())


def test_a_scenario_that_does_not_fit_stores_nothing(lake: Lake) -> None:
    with pytest.raises(ScenarioError, match="has no asset 'WTEH'"):
        run(
            lake,
            "sketch",
            Scenario(liquidators=Competitive(), overrides=(Override(parameter="ltv", value=1, asset="WTEH"),)),
        )
    lake.refresh()
    assert not [file for file in lake.files(None, "sketch") if file.dataset.startswith("results/")]


def test_large_health_is_capped_at_what_fits(tmp_path: Path) -> None:
    h = liquidated_history()
    h.block(12).position(1, WETH, "collateral", 10**30).position(1, 1, "debt", 1)
    run(lake_of(tmp_path / "l", h), "sketch", Scenario())
    assert rows._capped(10**40) == 10**38 - 1
    assert rows._capped(None) is None


# -- command line ------------------------------------------------------------------------------------------------------


def cli(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


def test_replay_prints_the_result_with_units_and_its_assumptions(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = cli(capsys, "replay", "--lake", lake.path)
    assert (code, err) == (0, "")
    assert "history: market sketch, blocks 1 to 11 (1970-01-01 00:00:12 to 1970-01-01 00:02:12 UTC)" in out
    assert "debt repaid   300.00 USD" in out
    assert f"rows          {run(lake, 'sketch', Scenario()).digest[:16]} (SHA-256 of the result's rows)" in out
    assert "liquidations  1 of 1 accounts" in out
    assert "1 of 1 re-enacted liquidations equal history's" in out
    code, out, _ = cli(capsys, "replay", "--lake", lake.path, "--name", "again")
    assert code == 0
    assert "(stored already, not replayed again)" in out
    assert out.startswith("again: market sketch")
    assert lake_names(lake) == ["again"]
    code, out, _ = cli(capsys, "replay", "--lake", lake.path)
    assert code == 0
    assert "The same run is stored under the name 'again'." in out


def lake_names(lake: Lake) -> list[str]:
    """Names of stored runs, as the lake holds them now."""
    return sorted(Lake(lake.path).read("results/runs", "sketch")["name"].to_pylist())


def test_replay_options_make_the_scenario(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--liquidators",
        "competitive",
        "--gas-cost",
        "0.5",
        "--set",
        "WETH.liquidation_threshold=7900",
        "--set",
        "close_factor=10000",
    )
    code, out, _ = cli(capsys, "replay", "--lake", lake.path, *options, "--from-block", 5, "--seed", 3)
    assert code == 0
    lake.refresh()
    [stored] = lake.read("results/runs", "sketch").to_pylist()
    assert json.loads(stored["scenario"]) == {
        "from_block": 5,
        "liquidators": {"gas_cost": 5 * 10**7, "kind": "competitive"},
        "overrides": [
            {"asset": "WETH", "parameter": "liquidation_threshold", "value": 7900},
            {"parameter": "close_factor", "value": 10000},
        ],
        "seed": 3,
        "version": 1,
    }
    assert stored["name"] == "WETH.liquidation_threshold=7900 close_factor=10000"
    assert "seed 3" in out


def test_replay_of_a_scenario_file_equals_that_of_options(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "s.toml"
    file.write_text('name = "file"\n[liquidators]\nkind = "competitive"\nmax_calls = 1\n')
    assert cli(capsys, "replay", "--lake", lake.path, "--scenario", file)[0] == 0
    _, out, _ = cli(capsys, "replay", "--lake", lake.path, "--liquidators", "competitive", "--max-calls", 1)
    assert "stored already" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "WETH.ltv=1"], "use liquidators kind = 'competitive'"),
        (["--gas-cost", "5"], "--gas-cost with observed liquidators; add --liquidators competitive"),
        (["--liquidators", "competitive", "--gas-cost", "0.123456789"], "finer than 8 decimals"),
        (["--liquidators", "competitive", "--set", "WETH"], "--set 'WETH' is not understood"),
        (["--liquidators", "competitive", "--set", "WTEH.ltv=1"], "did you mean 'WETH'?"),
        (["--market", "sketsch"], "did you mean 'sketch'?"),
        (["--scenario", "missing.toml"], "cannot read missing.toml: No such file or directory"),
        (["--to-block", "0"], "before the first"),
        (["--from-block", "12"], "from_block = 12 is after the last block of the window, 11"),
        (["--from-block", str(2**63)], "Scenario.from_block is no number that can be stored"),
        (["--seed", str(2**63)], "give a whole number from 0 to 2^63 - 1"),
        (["--liquidaters", "observed"], "liquidat"),
        (["--run", "nothing"], "holds no runs; make one first"),
        (["--run", "a", "--scenario", "missing.toml"], "--scenario and --run together"),
        (["--run", "a", "--set", "ltv=1"], "--run and --set together"),
        (
            ["--band"],
            "--band with observed liquidators: they and users act as in history; add --liquidators competitive",
        ),
        (["--baseline"], "--baseline with observed liquidators"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(
    lake: Lake, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, out, err = cli(capsys, "replay", "--lake", lake.path, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-1", "1e-9"])
def test_a_gas_cost_is_an_amount(amount: str) -> None:
    with pytest.raises(
        UserError, match=r"is no amount, negative or finer than 8 decimals; give an amount such as 5 or 0\.25"
    ):
        base_units(Decimal(amount), 8)
    assert base_units(Decimal("1e60"), 8) == 10**68


def test_mistakes_in_a_scenario_file_name_it(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.toml"
    file.write_text("from_blok = 3\n")
    code, _, err = cli(capsys, "replay", "--lake", lake.path, "--scenario", file)
    assert code == 2
    assert err == f"backtest: {file}: unknown field 'from_blok'; did you mean 'from_block'?\n"
    code, _, err = cli(capsys, "replay", "--lake", lake.path, "--scenario", file, "--set", "ltv=1")
    assert "--scenario and --set together" in err


def test_compare_puts_runs_side_by_side(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--liquidators", "competitive"]):
        assert cli(capsys, "replay", "--lake", lake.path, *words)[0] == 0
    code, out, err = cli(capsys, "compare", "--lake", lake.path)
    assert (code, err) == (0, "")
    [repaid] = [line for line in out.splitlines() if line.startswith("Debt repaid")]
    assert repaid.split()[-2:] == ["300.00", "500.00"]
    assert "%)" not in repaid, "a baseline is not compared with history"
    lake.refresh()
    ids = [row["run_id"] for row in lake.read("results/runs", "sketch").to_pylist()]
    code, out, _ = cli(capsys, "compare", ids[0][:10], "--lake", lake.path)
    assert code == 0
    code, _, err = cli(capsys, "compare", "nope", "--lake", lake.path)
    assert code == 2
    assert "there is no run 'nope'" in err


LOWER = ("--liquidators", "competitive", "--set", "WETH.liquidation_threshold=7900")


def test_compare_makes_the_baseline_and_the_band_that_a_verdict_needs(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(capsys, "replay", "--lake", lake.path, *LOWER, "--name", "lower", "--seed", 3)[0] == 0
    _, out, _ = cli(capsys, "compare", "lower", "--lake", lake.path)
    assert "Verdict: lower against baseline (users frozen; " in out
    assert not re.search("no baseline is stored|the band lacks|incomplete", out)
    lake.refresh()
    responses = lake.read("results/runs", "sketch")["response"].to_pylist()
    assert sorted(responses) == sorted(["frozen", *(2 * ["frozen", "same-ltv", "same-health"])])  # history, both sides


def test_a_verdict_does_not_depend_on_whether_history_is_stored(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """compare and replay --band make the history that they need."""
    for more in ((), ("--baseline",)):
        assert cli(capsys, "replay", "--lake", lake.path, *LOWER, "--name", "lower", *more)[0] == 0
    lake.refresh()
    assert set(lake.read("results/runs", "sketch")["liquidator_model"].to_pylist()) == {"competitive"}
    code, first, err = cli(capsys, "compare", "--lake", lake.path)
    assert (code, err) == (0, "")
    lake.refresh()
    assert sorted(lake.read("results/runs", "sketch")["liquidator_model"].to_pylist())[-1] == "observed"
    _, again, _ = cli(capsys, "compare", "--lake", lake.path)
    assert first == again
    assert "history" in first
    assert "no replay of history is stored" not in first


@pytest.mark.slow
def test_a_band_is_three_responses_with_their_baselines(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = cli(capsys, "replay", "--lake", lake.path, *LOWER, "--name", "lower", "--band")
    assert (code, err) == (0, "")
    ids = [line.partition(": run ") for line in out.splitlines()[:6]]
    assert [name for name, _, _ in ids] == [
        "baseline",
        "baseline, same-ltv",
        "baseline, same-health",
        "lower",
        "lower, same-ltv",
        "lower, same-health",
    ]
    assert len({run[:16] for _, _, run in ids}) == 6
    assert "Verdict: lower against baseline (users frozen; " in out
    assert "the band lacks" not in out
    assert "incomplete" not in out
    code, again, _ = cli(capsys, "replay", "--lake", lake.path, "--run", "lower, same-ltv", "--band")
    assert (code, again.count("(stored already, not replayed again)")) == (0, 6)


@pytest.mark.slow
def test_an_unfinished_band_says_so(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ((), ("--baseline",)):
        assert cli(capsys, "replay", "--lake", lake.path, *LOWER, "--name", "lower", *more)[0] == 0
    lake.refresh()
    out = as_text(select(lake))  # which only reads
    [line] = [
        line
        for line in out.splitlines()
        if line.startswith("lower: the band lacks users who respond by same-ltv and same-health.")
    ]
    assert "incomplete" in out
    assert cli(capsys, *line.partition("Make it: backtest ")[2].split())[0] == 0
    lake.refresh()
    assert "the band lacks" not in as_text(select(lake))


def test_a_run_replayed_again_is_the_same_scenario(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(capsys, "replay", "--lake", lake.path, *LOWER, "--seed", 3)[0] == 0
    lake.refresh()
    [stored] = lake.read("results/runs", "sketch").to_pylist()
    code, out, _ = cli(capsys, "replay", "--lake", lake.path, "--run", stored["run_id"][:8])
    assert code == 0
    assert "stored already" in out


def test_balances_have_full_precision(tmp_path: Path) -> None:
    h = liquidated_history()
    h.position(2, WETH, "collateral", 12_345_678_901_234_567_891 * ETH)
    stored = run(lake_of(tmp_path / "l", h), "sketch", Scenario())
    assert 12_345_678_901_234_567_891 * ETH in {int(r["collateral"]) for r in stored.tables["run_balances"].to_pylist()}
