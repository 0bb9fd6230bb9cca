"""Stresses of the bundled sample: the same bytes whoever replays them, resumed where they were stopped, shown as
stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from msgspec.structs import replace

from backtest.cli import main
from backtest.crashes import find_crash, shipped
from backtest.errors import UserError
from backtest.lake import Lake
from backtest.report.stress import find_stress
from backtest.result_tables import STRESSES
from backtest.results import Material
from backtest.risk.tail import tail_risk
from backtest.scenario import Scenario
from backtest.shocks import parse_suite
from backtest.shocks.models import Recorded
from backtest.stress import _depths, deepest, digest_of, find_suite, resolved, store, stress, suites
from backtest.stress.paths import PathTask
from backtest.sweep import Processes, Serial
from backtest.sweep.worker import Done, Job
from backtest.tables import AMOUNT
from tests.support.sample_sweeps import sample
from tests.support.small_stress import BLOCK, MARKET, TEXT, small_suite

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("stress"),
]  # together they take what a quick run has no time for


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, str]:
    """The small stress by one process, and its id."""
    lake = sample(tmp_path_factory.mktemp("stress") / "lake")
    outcome = stress(lake, MARKET, small_suite(), block=BLOCK, seed=3)
    assert (outcome.paths, outcome.replayed, outcome.failed) == (13, 13, ())
    return lake, outcome.stress_id


def rows(lake: Lake, name: str) -> list[str]:
    lake.refresh()
    return sorted(map(repr, lake.read(f"results/{name}", MARKET).to_pylist()))


def test_two_processes_give_the_same_bytes(
    done: tuple[Lake, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHUNK", 2)
    lake = sample(tmp_path / "lake")
    outcome = stress(lake, MARKET, small_suite(), Processes(2), block=BLOCK, seed=3)
    assert outcome.stress_id == done[1]
    for name in STRESSES:
        assert rows(lake, name) == rows(done[0], name)
    assert digest_of(lake, MARKET, outcome.stress_id) == digest_of(done[0], MARKET, done[1])
    other = stress(lake, MARKET, small_suite(), block=BLOCK, seed=4)
    assert digest_of(lake, MARKET, other.stress_id) != digest_of(done[0], MARKET, done[1])


class _Stopped(Serial):
    """Ctrl-C after some tasks."""

    def __init__(self, after: int) -> None:
        self._after = after

    def outcomes(self, tasks: Sequence[Job], folder: str) -> Iterator[Done]:
        for place, made in enumerate(super().outcomes(tasks, folder)):
            if place == self._after:
                raise KeyboardInterrupt
            yield made


def test_a_stress_that_was_stopped_continues(
    done: tuple[Lake, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHUNK", 2)
    lake = sample(tmp_path / "lake")
    seen: list[tuple[int, int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        stress(lake, MARKET, small_suite(), _Stopped(3), block=BLOCK, seed=3)
    lake.refresh()
    assert lake.read("results/stress_paths", MARKET).num_rows == 6
    outcome = stress(lake, MARKET, small_suite(), block=BLOCK, seed=3, progress=lambda *settled: seen.append(settled))
    assert (outcome.stress_id, outcome.replayed) == (done[1], 7)
    assert seen == [(6, 13, 0), (8, 13, 0), (10, 13, 0), (12, 13, 0), (13, 13, 0)]
    for name in STRESSES:
        assert rows(lake, name) == rows(done[0], name)
    assert stress(lake, MARKET, small_suite(), block=BLOCK, seed=3).replayed == 0


def test_a_path_that_fails_is_a_row_with_its_reason_and_is_tried_again(
    done: tuple[Lake, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backtest.stress import paths

    lake, broken = sample(tmp_path / "lake"), paths.row_of

    def sometimes(prepared: paths.Prepared, case: int, number: int) -> dict[str, object]:
        if (case, number) == (1, 4):
            raise ZeroDivisionError("by zero")
        return broken(prepared, case, number)

    with monkeypatch.context() as patched:
        patched.setattr(paths, "row_of", sometimes)
        outcome = stress(lake, MARKET, small_suite(), block=BLOCK, seed=3)
    assert (outcome.replayed, outcome.failed) == (13, ("ZeroDivisionError: by zero",))
    view = find_stress(lake, "small")
    assert (view.stress["done"], view.stress["failed"]) == (12, 1)
    assert "ZeroDivisionError: by zero" in str(dict(view.tables())["Failed"].rows)
    assert stress(lake, MARKET, small_suite(), block=BLOCK, seed=3).replayed == 0
    assert stress(lake, MARKET, small_suite(), block=BLOCK, seed=3, retry=True).replayed == 1
    assert rows(lake, "stress_paths") == rows(done[0], "stress_paths")


def test_what_is_shown_is_what_is_stored(done: tuple[Lake, str], tmp_path: Path) -> None:
    lake, stress_id = done
    view = find_stress(lake, stress_id[:10])
    table = lake.read("results/stress_paths", MARKET)
    still = int(lake.read("results/stresses", MARKET)["still_bad_debt_base"][0].as_py())
    own = table.filter(pc.equal(table["ordinal"], 0)).sort_by("path")
    losses = [int(loss) - still for loss in own["bad_debt_base"].to_pylist()]
    assert view.losses(0) == losses
    [row] = view.rows("SELECT * FROM stress_losses WHERE stress_id = $stress AND ordinal = 0")
    for level in (95, 99):
        assert int(row[f"var{level}_base"]) == tail_risk(losses, level * 100).var
    assert int(row["worst_base"]) == losses[row["worst_path"]] == max(losses)
    assert table.filter(pc.equal(table["ordinal"], 2))["lowest_price"].to_pylist() == [5_000]
    notes = " ".join(view.notes)
    assert "Cases that do not concern this market: elsewhere." in notes
    assert "peg: peg-break changes nothing, the market has none of CRV." in notes
    assert "none of wstETH" not in notes
    page = tmp_path / "page.html"
    main_of(["report", "--stress", "small", "--lake", str(lake.path), "-o", str(page)])
    text = page.read_text(encoding="utf-8")
    assert "Price paths" in text
    assert stress_id in text
    assert "http://" not in text.replace("http://www.w3.org", "").split("<script>")[0]


def main_of(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = sample(tmp_path / "lake")
    file = tmp_path / "small.toml"
    file.write_text(TEXT, encoding="utf-8")
    words = ["stress", str(file), "--lake", str(lake.path), "--market", MARKET, "--block", str(BLOCK), "--paths", "30"]
    main_of([*words, "--workers", "1", "--set", "WETH.liquidation_threshold=8100"])
    said = capsys.readouterr().out
    assert "61 of 61 paths of 2 hours in steps of 300 s done, seed 0" in said
    assert "Value at risk and expected shortfall of bad debt" in said
    main_of(["stress"])
    assert {suite.name for suite in suites()} <= {line.split(" ")[0] for line in capsys.readouterr().out.splitlines()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["crahses"], "there is no suite 'crahses'; did you mean 'crashes'"),
        (["crashes", "--block", "99999999"], "block 99999999 is not within the history"),
        (["crashes", "--block", "1999-01-01"], "--block 1999-01-01 is outside the history"),
        (["crashes", "--paths", "0"], "--paths 0"),
        (["crashes", "--workers", "0"], "--workers 0"),
        (["crashes", "--set", "NOPE.ltv=1"], "NOPE"),
    ],
    ids=["suite", "block", "date", "paths", "workers", "asset"],
)
def test_mistakes_are_one_line_and_change_nothing(
    words: list[str], said: str, done: tuple[Lake, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(done[0], "stresses")
    with pytest.raises(SystemExit) as ended:
        main(["stress", *words, "--lake", str(done[0].path), "--market", MARKET])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
    assert rows(done[0], "stresses") == before


def test_what_a_stress_cannot_be(done: tuple[Lake, str]) -> None:
    suite = small_suite()
    with pytest.raises(UserError, match="liquidations that happened"):
        stress(done[0], MARKET, replace(suite, scenario=Scenario()), block=BLOCK)
    with pytest.raises(UserError, match="recomputed interest"):
        stress(done[0], MARKET, replace(suite, scenario=replace(suite.scenario, rates="recomputed")), block=BLOCK)
    with pytest.raises(UserError, match="has no price path"):
        resolved(replace(find_suite("crashes"), cases=(replace(find_suite("crashes").cases[0], prices=replace(
            find_suite("crashes").cases[0].prices, name="2022-01-22")),)))  # fmt: skip
    old = PathTask("0/0", "x", 0, (0,), ("0", "0", "0")).perform("nowhere")
    assert "install the same" in (old.error or "")


def test_every_suite_that_ships_is_whole() -> None:
    found = {suite.name: suite for suite in suites()}
    needed = {"crashes", "lst-depeg", "stable-depeg", "oracle", "gas-and-depth", "whale", "six-sigma"}
    assert needed <= set(found)
    assert len(found["crashes"].cases) == 10
    for suite in found.values():
        assert suite.description
        resolved(suite)


def test_the_example_of_the_page_is_a_suite(done: tuple[Lake, str]) -> None:
    page = (Path(__file__).parents[2] / "docs/stress.md").read_text(encoding="utf-8")
    suite = parse_suite(re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0], "stress.md")
    assert suite.cases[0].events
    assert stress(done[0], MARKET, replace(suite, horizon=1_800, paths=2), block=BLOCK).failed == ()


def test_depth_of_pools_is_what_a_small_move_takes() -> None:
    """Active liquidity times the root of the price: of two pools, since the day before the panel begins."""
    day = 86_400
    words = [(2**96).to_bytes(32, "big"), (2**97).to_bytes(32, "big"), None, (2**96).to_bytes(32, "big")]
    table = pa.table(
        {
            "pool_id": pa.array([0, 0, 0, 1], pa.int16()),
            "block_number": [1, 2, 3, 9],
            "timestamp": [day, day + 60, day + 90, day + 99],
            "liquidity": pa.array([10, 30, 5, 7], AMOUNT),
            "sqrt_price": pa.array(words, pa.binary(32)),
        }
    )
    material = cast(Material, SimpleNamespace(tables={"pool_events": table}))
    [(times, depth)] = _depths(material, 8, day)
    assert times.tolist() == [day, day + 60]
    assert depth.tolist() == [10 * 2.0**96, 30 * 2.0**97]
    assert len(_depths(material, 9, day)) == 2
    assert _depths(material, 8, 3 * day) == ()


def test_a_crash_is_put_on_todays_book_with_its_deepest_day() -> None:
    made = resolved(find_suite("crashes")).cases
    models = {case.name: case.prices for case in made if isinstance(case.prices, Recorded)}
    black = models["2020-03-12 Black Thursday"]
    assert min(price for _, price in black.points) == round(101.01 / 195.21 * 1e6)
    assert black.points[0] == (0, 1_000_000)
    assert all(time <= 86_400 for model in models.values() for time, _ in model.points)
    for crash in shipped():  # no stretch of the horizon in any path moves more than the one that is taken
        if crash.path is not None:
            prices, times = [float(price) for _, price in crash.path.points], crash.path.times()
            levels = [
                prices[later] / prices[first]
                for first in range(len(prices))
                for later in range(first, len(prices))
                if times[later] - times[first] <= 86_400
            ]
            taken = [price / 1e6 for _, price in deepest(crash.path, 86_400)]
            worst, own = (max(levels), max(taken)) if crash.path.inverted else (min(levels), min(taken))
            assert own == pytest.approx(worst, abs=1e-6)
    assert find_crash("2022-11-crv").path is not None
