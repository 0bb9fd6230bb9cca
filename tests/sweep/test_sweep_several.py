"""Sweeps of several markets: each scenario is a joint replay, whose sum chooses; the same rows whoever replays."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from backtest.cli import main
from backtest.errors import UserError
from backtest.joint import run_jointly
from backtest.result_tables import JOINTS
from backtest.scenario import Competitive, Joint, Scenario
from backtest.sweep import Processes, Sweep, sweep, with_axes
from backtest.sweep.spec import Window
from tests.support.sample_sweeps import rows_of, sample

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sweep")]

CRASH, CALM = "sample-crash", "sample-calm"
JOINT = Joint(markets=(CRASH, CALM))


def _asked() -> Sweep:
    """The threshold of WETH in both markets, in blocks of the first."""
    base = Scenario(name="base", liquidators=Competitive(), joint=JOINT)
    base, axes = with_axes(base, ["WETH.liquidation_threshold=8100,8300"])
    return Sweep(name="both", axes=axes, scenario=base, windows=(Window(name="early", to_block=100),))


def test_rows_do_not_depend_on_who_replays_and_sums_are_those_of_the_joint_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, again = sample(tmp_path / "lake"), sample(tmp_path / "again")
    outcome = sweep(lake, CRASH, _asked(), Processes(2))
    assert (outcome.scenarios, outcome.replayed, outcome.failed) == (3, 3, ())
    plain = sweep(again, CRASH, _asked())
    assert plain.sweep_id == outcome.sweep_id
    for market in (CRASH, CALM):
        assert rows_of(lake, market) == rows_of(again, market)
        joints = [sorted(map(repr, one.read("results/joints", market).to_pylist())) for one in (lake, again)]
        assert joints[0] == joints[1]
        assert len(joints[0]) == 3
    assert "joints" in JOINTS
    assert sweep(lake, CRASH, _asked()).replayed == 0
    # what is stored is what a joint replay stores, and its runs alone come beside
    scenario = replace(
        _asked().scenario, to_block=100, overrides=(replace(_asked().scenario.overrides[0], value=8_300),)
    )
    made = run_jointly(lake, scenario)
    assert not made.replayed
    lake.refresh()
    [(runs, rows)] = lake.sql(
        "SELECT count(DISTINCT of_market), count(*) FILTER (alone_bad_debt_base IS NOT NULL) FROM sweep_markets"
    ).fetchall()
    assert (runs, rows) == (2, 2)
    sums = lake.sql("""
        SELECT m.measure, m.amount,
            CASE m.measure WHEN 'repaid' THEN sum(w.repaid_base) ELSE sum(w.borrowing_power_base) END
        FROM sweep_measures AS m JOIN sweep_parts AS p USING (run_id) JOIN run_windows AS w ON w.run_id = p.part_id
        WHERE m.measure IN ('repaid', 'borrowing_power') AND w.label = 'end' GROUP BY m.measure, m.amount, m.run_id
    """).fetchall()
    assert len(sums) == 4
    assert all(amount == of_both for _, amount, of_both in sums)
    words = ["sweep", "--lake", str(lake.path), "--market", CRASH, "--market", CALM, "--name", "by options"]
    words += ["--axis", "WETH.liquidation_threshold=8100,8300", "--window", "early=..100", "--stated", "--workers", "1"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "0 replayed now" in told
    assert "2 parameter sets" in told


def test_the_first_market_is_the_scenarios(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="market 'sample-calm' where the scenario names sample-crash, sample-calm"):
        sweep(sample(tmp_path / "lake"), CALM, _asked())
