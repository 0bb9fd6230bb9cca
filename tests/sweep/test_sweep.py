"""Sweeps in a lake: the same rows whoever replays them, stopped and continued, failures recorded, marts equal to sums
in Python.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

from backtest import sweep as sweeps
from backtest.cli import main
from backtest.errors import LakeBusy, UserError
from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from backtest.report import select
from backtest.report.sweeps import as_text, find_sweep, write_sweep_report
from backtest.result_tables import RESULTS, SWEEPS
from backtest.results import run
from backtest.scenario import Competitive, Override, Scenario
from backtest.sweep import Processes, Serial, Sweep, sweep
from backtest.sweep.spec import Axis
from backtest.sweep.worker import Done, Task
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.support.sample_sweeps import BASE, CRASH, rows_of, sample, serial, small
from tests.support.sketch_history import liquidated_history
from tests.support.sketch_lake import lake_of

__all__ = ["serial"]  # a fixture

pytestmark = pytest.mark.slow

GAS = Axis(field="liquidators.gas_cost", name="gas", values=(0, 10**8, 10**12))


@pytest.fixture
def sketch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A market whose replays take milliseconds."""
    monkeypatch.setitem(PROTOCOLS, "sketch", FixedSpreadPool())
    return lake_of(tmp_path / "lake", liquidated_history())


# -- who replays -------------------------------------------------------------------------------------------------------


def test_processes_make_the_same_rows(
    serial: tuple[Lake, dict[str, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "BATCH", 3)
    lake = sample(tmp_path / "lake")
    seen: list[tuple[int, int, int]] = []
    sweep(lake, CRASH, small(), Processes(2), progress=lambda *now: seen.append(now))
    assert rows_of(lake, CRASH) == serial[1]
    assert seen == [(done, 10, 0) for done in range(11)]


class Backwards:
    """An executor that answers in the reverse order."""

    def outcomes(self, tasks: Sequence[Task], folder: str) -> Iterator[Done]:
        yield from reversed(list(Serial().outcomes(tasks, folder)))


def test_rows_do_not_depend_on_the_order_of_answers(
    sketch: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = lake_of(tmp_path / "other", liquidated_history())
    spec = Sweep(axes=(GAS,), scenario=BASE)
    sweep(sketch, "sketch", spec)
    monkeypatch.setattr(sweeps, "BATCH", 1)
    sweep(other, "sketch", spec, Backwards())
    assert rows_of(sketch, "sketch") == rows_of(other, "sketch")


def test_runs_are_those_of_single_replays(serial: tuple[Lake, dict[str, list[str]]], tmp_path: Path) -> None:
    lake = sample(tmp_path / "lake")
    threshold = Override(parameter="liquidation_threshold", asset="WETH", value=8300)
    bonus = Override(parameter="liquidation_bonus", change=200)
    stored = run(lake, CRASH, Scenario(liquidators=Competitive(), overrides=(threshold, bonus), to_block=120))
    held = serial[0].read("results/run_balances", CRASH).to_pylist()
    assert [row for row in held if row["run_id"] == stored.run_id] == stored.tables["run_balances"].to_pylist()
    assert stored.summary["liquidations"] == next(
        row["liquidations"]
        for row in serial[0].read("results/runs", CRASH).to_pylist()
        if row["run_id"] == stored.run_id
    )


class Deadly:
    """A task whose arrival ends the process that it is sent to."""

    run_id = "deadly"

    def __reduce__(self) -> Any:
        return os._exit, (9,)


def test_a_process_that_dies_takes_one_scenario_with_it(
    serial: tuple[Lake, dict[str, list[str]]], tmp_path: Path
) -> None:
    from backtest.sweep.plan import plan_of
    from backtest.sweep.worker import material_in, pack

    lake = serial[0]
    pack(lake, CRASH, tmp_path)
    plan = plan_of(small(), CRASH, lake.digest(CRASH), material_in(str(tmp_path)).timeline)
    tasks: list[Any] = [Task(run_id, scenario) for run_id, scenario in plan.scenarios.items()][:3]
    done = {each.run_id: each for each in Processes(2).outcomes([tasks[0], Deadly(), *tasks[1:]], str(tmp_path))}
    assert set(done) == {"deadly", *(task.run_id for task in tasks)}
    assert done["deadly"].error == "the process that replayed it died (killed, or out of memory)"
    assert all(done[task.run_id].tables is not None for task in tasks)


def test_a_worker_of_another_version_replays_nothing(tmp_path: Path) -> None:
    task = Task("id", Scenario(), versions=("0", "0", "0"))
    (done,) = Serial().outcomes([task], str(tmp_path))
    assert done.error is not None
    assert re.search(r"the worker runs version .*, the sweep 0/0/0: install the same", done.error)


# -- stopped, continued, failed ----------------------------------------------------------------------------------------


def test_a_killed_sweep_continues(serial: tuple[Lake, dict[str, list[str]]], tmp_path: Path) -> None:
    lake = sample(tmp_path / "lake")
    program = (
        "import sys; from backtest import sweep as s; from backtest.lake import Lake; from tests.support.sample_sweeps"
        " import CRASH, small; s.BATCH = 1;"
        " s.sweep(Lake(sys.argv[1]), CRASH, small(), progress=lambda *now: print(*now, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(lake.path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("3 "):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    outcome = sweep(lake, CRASH, small())
    assert 5 <= outcome.replayed <= 7
    assert rows_of(lake, CRASH) == serial[1]
    assert sweep(lake, CRASH, small()).replayed == 0


def test_what_is_done_is_kept_when_a_sweep_is_interrupted(sketch: Lake) -> None:
    def interrupt(done: int, total: int, failed: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    spec = Sweep(axes=(GAS,), scenario=BASE)
    with pytest.raises(KeyboardInterrupt):
        sweep(sketch, "sketch", spec, progress=interrupt)
    assert sweep(sketch, "sketch", spec).replayed == 1


def test_a_new_name_of_a_stored_sweep_is_taken(sketch: Lake) -> None:
    spec = Sweep(name="first", axes=(GAS,), scenario=BASE)
    first = sweep(sketch, "sketch", spec)
    again = sweep(sketch, "sketch", replace(spec, name="second"))
    assert (again.sweep_id, again.replayed) == (first.sweep_id, 0)
    assert sketch.read("results/sweeps", "sketch")["name"].to_pylist() == ["second"]


def test_failures_are_rows_with_their_reason_and_may_be_tried_again(
    sketch: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = FixedSpreadPool()
    plain = broken.open

    def failing(market: Any, *, recompute: bool = False) -> Any:
        if failing.on:  # type: ignore[attr-defined]
            raise ZeroDivisionError("a defect")
        return plain(market, recompute=recompute)

    failing.on = True  # type: ignore[attr-defined]
    monkeypatch.setattr(broken, "open", failing)
    monkeypatch.setitem(PROTOCOLS, "sketch", broken)
    axis = Axis(field="liquidators.max_calls", values=(0, 1, 2))
    spec = Sweep(axes=(axis,), scenario=BASE)
    outcome = sweep(sketch, "sketch", spec)
    assert [(name, reason.split(";")[0]) for name, reason in outcome.failed] == [
        ("liquidators.max_calls=0", "liquidators.max_calls = 0 lets nobody liquidate"),
        ("liquidators.max_calls=1", "ZeroDivisionError: a defect"),
        ("liquidators.max_calls=2", "ZeroDivisionError: a defect"),
    ]
    assert sketch.datasets("sketch") == sorted({*sketch.datasets("sketch"), "results/sweep_scenarios"})
    failing.on = False  # type: ignore[attr-defined]
    assert sweep(sketch, "sketch", spec).failed == outcome.failed
    again = sweep(sketch, "sketch", spec, retry=True)
    assert (again.replayed, len(again.failed)) == (2, 1)
    assert sketch.sql("SELECT status, attempts FROM sweep_scenarios ORDER BY ordinal").fetchall() == [
        ("failed", 1),
        ("done", 2),
        ("done", 2),
    ]
    assert sketch.sql("SELECT done, failed FROM sweeps").fetchall() == [(2, 1)]


def test_runs_that_the_lake_holds_are_not_replayed(sketch: Lake) -> None:
    stored = run(sketch, "sketch", Scenario(liquidators=Competitive()))
    outcome = sweep(sketch, "sketch", Sweep(axes=(GAS,), scenario=BASE))
    assert outcome.replayed == 2
    assert sketch.sql("SELECT run_id, replayed FROM sweep_scenarios WHERE ordinal = 0").fetchall() == [
        (stored.run_id, False)
    ]


def test_another_writer_is_waited_for(sketch: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "_PAUSE", 0.01)
    monkeypatch.setattr(sweeps, "_TRIES", 3)
    spec = Sweep(axes=(GAS,), scenario=BASE)
    with Lake(sketch.path).writer(), pytest.raises(LakeBusy):
        sweep(sketch, "sketch", spec)
    tries: list[float] = []
    held = Lake(sketch.path).writer()
    held.__enter__()

    def release(seconds: float) -> None:
        tries.append(seconds)
        held.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", release)
    assert sweep(sketch, "sketch", spec).replayed == 3
    assert tries == [0.01]


# -- marts -------------------------------------------------------------------------------------------------------------

MEASURES = ("bad_debt", "borrower_loss", "borrowing_power", "repaid")


def made_up(
    lake: Lake,
    values: dict[tuple[int, str], tuple[int, int, int, int]],
    held_out: Sequence[str] = (),
    axis: Sequence[int] = (),
    blocks: Mapping[str, tuple[int | None, int | None]] = MappingProxyType({}),
) -> None:
    """A sweep whose runs have these measures, by point and window."""
    points = sorted({point for point, _ in values})
    windows = list(dict.fromkeys(window for _, window in values))
    common = {"sweep_id": "s", "market": "sketch"}
    ended: dict[str, Any] = dict.fromkeys(RESULTS["run_windows"].names, 0) | {"market": "sketch", "label": "end"}
    scenarios, ends = [], []
    for ordinal, ((point, window), (bad, loss, power, repaid)) in enumerate(values.items()):
        run_id = f"{point} {window}"
        row = {
            "ordinal": ordinal,
            "attempt": 1,
            "role": "scenario",
            "point": point,
            "window": window,
            "response": "frozen",
            "name": "n",
        }
        scenarios.append({**common, **row, "run_id": run_id, "status": "done", "error": None, "replayed": True})
        measured = {
            "realised_bad_debt_base": bad,
            "repaid_base": repaid,
            "seized_base": repaid + loss,
            "borrowing_power_base": power,
        }
        ends.append({**ended, **measured, "run_id": run_id})
    data = {
        "sweeps": [
            {
                **common,
                **dict.fromkeys(SWEEPS["sweeps"].names[2:], "x"),
                "points": len(points),
                "scenarios": len(values),
            }
        ],
        "sweep_windows": [
            {
                **common,
                "name": w,
                "ordinal": i,
                "held_out": w in held_out,
                **dict(zip(("from_block", "to_block"), blocks.get(w, ()), strict=False)),
            }
            for i, w in enumerate(windows)
        ],
        "sweep_objectives": [
            {**common, "measure": m, "better": "max" if m == "borrowing_power" else "min"} for m in MEASURES
        ],
        "sweep_values": [
            {**common, "point": p, "axis": "a", "level": p, "value": str(v), "number": v}
            for p, v in zip(points, axis or points, strict=True)
        ],
        "sweep_scenarios": scenarios,
        "run_windows": ends,
    }
    from tests.support.lake_tables import table

    schemas = {**RESULTS, **SWEEPS}
    with lake.writer() as writer:
        writer.append_all("sketch", {f"results/{name}": table(schemas[name], rows) for name, rows in data.items()})
    lake.refresh()


def test_the_front_is_what_nothing_dominates(sketch: Lake) -> None:
    import random

    draw = random.Random(7)
    values = {(point, "w"): tuple(draw.randrange(5) * 10**20 for _ in MEASURES) for point in range(40)}
    values[(40, "w")] = values[(0, "w")]  # equals do not dominate each other
    made_up(sketch, values)  # type: ignore[arg-type]

    def costs(point: int) -> tuple[int, ...]:
        bad, loss, power, repaid = values[(point, "w")]
        return bad, loss, -power, repaid

    def dominated(mine: tuple[int, ...]) -> bool:
        return any(
            all(o <= m for o, m in zip(costs(other), mine, strict=True)) and costs(other) != mine for other in range(41)
        )

    found = dict(sketch.sql("SELECT point, on_front FROM sweep_pareto").fetchall())
    assert found == {point: not dominated(costs(point)) for point in range(41)}
    assert 1 < sum(found.values()) < 41


def test_worst_windows_means_and_those_held_out_are_apart(sketch: Lake) -> None:
    made_up(
        sketch,
        {(0, "a"): (1, 2, 30, 4), (0, "b"): (5, 0, 10, 4), (0, "later"): (900, 900, 900, 900), (1, "a"): (0, 9, 5, 9)},
        held_out=["later"],
    )
    rows = sketch.sql(
        "SELECT measure, total, mean, worst, worst_window FROM sweep_points WHERE point = 0 AND NOT held_out"
    ).fetchall()
    assert sorted((m, int(t), mean, int(worst), w) for m, t, mean, worst, w in rows) == [
        ("bad_debt", 6, 3.0, 5, "b"),
        ("borrower_loss", 2, 1.0, 2, "a"),
        ("borrowing_power", 40, 20.0, 10, "b"),
        ("repaid", 8, 4.0, 4, "a"),
    ]
    # the second set lacks a window: it is in no front and no ranking
    assert sketch.sql("SELECT DISTINCT complete FROM sweep_points WHERE point = 1").fetchall() == [(False,)]
    assert sketch.sql("SELECT DISTINCT point FROM sweep_pareto").fetchall() == [(0,)]
    assert sketch.sql("SELECT DISTINCT point FROM sweep_ranks").fetchall() == [(0,)]


def _ranks(values: Sequence[int]) -> list[float]:
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values
    ]


def test_rank_correlations_and_shares_of_the_best(sketch: Lake) -> None:
    import random

    draw = random.Random(3)
    bad = {window: [draw.randrange(8) for _ in range(12)] for window in ("a", "b", "later")}
    axis = [draw.randrange(6) for _ in range(12)]
    made_up(sketch, {(p, w): (bad[w][p], 0, 0, 0) for p in range(12) for w in bad}, held_out=["later"], axis=axis)
    found = sketch.sql(
        "SELECT \"window\", other_window, held_out, correlation FROM sweep_rank_stability WHERE measure = 'bad_debt'"
        " ORDER BY ALL"
    ).fetchall()
    expected = [
        (x, y, y == "later", statistics.correlation(_ranks(bad[x]), _ranks(bad[y])))
        for x, y in (("a", "b"), ("a", "later"), ("b", "later"))
    ]
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in expected])
    assert set(sketch.sql("SELECT correlation FROM sweep_rank_stability WHERE measure = 'repaid'").fetchall()) == {
        (None,)
    }
    best = {p: sum(sum(other < bad[w][p] for other in bad[w]) < 3 for w in ("a", "b")) / 2 for p in range(12)}
    assert dict(sketch.sql("SELECT point, share FROM sweep_top(3) WHERE measure = 'bad_debt'").fetchall()) == best
    later = {p: float(sum(other < bad["later"][p] for other in bad["later"]) < 3) for p in range(12)}
    assert (
        dict(sketch.sql("SELECT point, held_out_share FROM sweep_top(3) WHERE measure = 'bad_debt'").fetchall())
        == later
    )
    totals = [bad["a"][p] + bad["b"][p] for p in range(12)]
    ((rank, effect, place),) = sketch.sql(
        "SELECT rank_correlation, effect, place FROM sweep_sensitivity WHERE measure = 'bad_debt'"
    ).fetchall()
    assert rank == pytest.approx(statistics.correlation(_ranks(axis), _ranks(totals)))
    # levels are the places of values; here each set has its own
    assert effect == pytest.approx((max(totals) - min(totals)) / 2)
    assert place == 1


# -- reports and the command line --------------------------------------------------------------------------------------


def test_a_window_held_out_that_others_have_seen_is_named(sketch: Lake) -> None:
    made_up(
        sketch,
        {(0, w): (1, 1, 1, 1) for w in ("a", "b", "later")},
        held_out=["later"],
        blocks={"a": (None, 9), "b": (5, 20), "later": (10, None)},
    )
    assert find_sweep(sketch, "s").overlaps == [
        "later is held out and shares blocks with b, which chooses: no check of its own."
    ]
    assert "later is held out and shares blocks with b" in as_text(find_sweep(sketch, "s"))


def test_text_and_page_show_the_sweep(serial: tuple[Lake, dict[str, list[str]]], tmp_path: Path) -> None:
    lake = serial[0]
    view = find_sweep(lake, "sweep")
    text = as_text(view)
    assert "grid design, 4 parameter sets, 10 of 10 scenarios done" in text
    front = lake.sql("SELECT parameters FROM sweep_pareto WHERE on_front AND NOT held_out").fetchall()
    assert front
    assert all(parameters in text for (parameters,) in front)
    write_sweep_report(lake, view.sweep["sweep_id"][:8], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://(?!www\.w3\.org)", page)
    specs = [json.loads(found) for found in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page)]
    shown = [point for spec in specs[:1] for panel in spec["vconcat"] for point in panel["data"]["values"]]
    assert {point["parameters"] for point in shown if point["on_front"]} == {parameters for (parameters,) in front}
    assert len(shown) == 4
    with pytest.raises(UserError, match="there is no sweep 'nothing'"):
        find_sweep(lake, "nothing")


def test_runs_of_sweeps_are_compared_when_they_are_named(sketch: Lake) -> None:
    sweep(sketch, "sketch", Sweep(axes=(GAS,), scenario=BASE))
    with pytest.raises(UserError, match="all runs of the lake are those of sweeps"):
        select(sketch)
    run(sketch, "sketch", Scenario())
    sketch.refresh()
    assert [row["name"] for row in select(sketch).runs] == ["history"]
    assert "gas=0" in [row["name"] for row in select(sketch, ["gas=0"]).runs]


def cli(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    said = capsys.readouterr()
    return int(str(caught.value.code)), said.out, said.err


def test_the_verb(sketch: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("sweep", "--lake", sketch.path, "--axis", "liquidators.gas_cost=0,5", "--workers", 1)
    code, out, err = cli(
        capsys,
        *words,
        "--response",
        "frozen",
        "--response",
        "same-ltv",
        "--window",
        "w=..9",
        "--held-out",
        "h=10..",
        "-o",
        tmp_path / "p.html",
    )
    assert (code, err) == (0, "")
    assert "2 parameter sets, 8 of 8 scenarios done" in out
    assert "8 replayed now" in out
    assert (tmp_path / "p.html").exists()
    assert cli(capsys, "report", "--lake", sketch.path, "--sweep", "sweep", "-o", tmp_path / "q.html")[0] == 0
    assert (tmp_path / "q.html").read_text() == (tmp_path / "p.html").read_text()
    file = tmp_path / "s.toml"
    file.write_text('name = "f"\n[[axes]]\nfield = "liquidators.max_calls"\nvalues = [0]\n')
    code, out, _ = cli(capsys, "sweep", file, "--lake", sketch.path, "--workers", 1)
    assert code == 1  # nothing has a run
    assert "lets nobody liquidate" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--axis", "seed=1,2", "--workers", "0"], "--workers 0; give 1 or more"),
        (["--axis", "seed=1,2", "--workers", "2", "--scheduler", "tcp://x"], "--workers 2 and --scheduler together"),
        ([], "a sweep without axes"),
        (["nowhere.toml"], "cannot read nowhere.toml: No such file or directory"),
        (["nowhere.toml", "--axis", "seed=1,2"], "a sweep file and --axis together"),
        (["--axis", "seed=1,2", "--window", "5..9"], "window '5..9' is not understood"),
        (["--axis", "seed=1,2", "--design", "sobol"], "design = 'sobol' without points"),
        (["--axis", "liquidators.gas_cots=1"], "did you mean 'gas_cost'?"),
        (["--axis", "seed=1,2", "--scheduler", "tcp://127.0.0.1:9"], "no scheduler at tcp://127.0.0.1:9"),
    ],
)
def test_mistakes_are_one_line(sketch: Lake, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    code, _, err = cli(capsys, "sweep", *words, "--lake", sketch.path)
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
