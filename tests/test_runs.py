"""Stored runs by name: a name is one run's; list, rename, delete."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backtest.cli import main
from backtest.errors import UserError
from backtest.lake import Lake
from backtest.resources import resource
from backtest.results import run
from backtest.runs import delete, delete_all, find, rename, stored
from backtest.scenario import Competitive, Observed, Override, Scenario

pytestmark = pytest.mark.slow

CRASH = "sample-crash"


def model(name: str, **more: object) -> Scenario:
    return Scenario(name=name, liquidators=Competitive(), **more)  # type: ignore[arg-type]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    shutil.copytree(resource("sample") / "lake", tmp_path / "lake")
    made = Lake(tmp_path / "lake")
    run(made, CRASH, Scenario(name="history", liquidators=Observed()))
    run(made, CRASH, model("base"))
    lower = Override(parameter="liquidation_bonus", asset="WETH", value=11_000)
    run(made, CRASH, model("lower", overrides=(lower,)))
    return made


def names(lake: Lake) -> list[str]:
    return [run.name for run in stored(lake, CRASH)]


def test_two_runs_of_one_name_cannot_come_about(lake: Lake) -> None:
    second = run(lake, CRASH, model("base", seed=2))
    assert second.summary["name"] == f"base ({second.run_id[:8]})"
    assert names(lake) == ["base", f"base ({second.run_id[:8]})", "history", "lower"]
    again = run(lake, CRASH, model("base", seed=2))
    assert not again.replayed
    assert again.summary["name"] == second.summary["name"]
    taken = run(lake, CRASH, model("lower", seed=2))  # a name of another run
    assert taken.summary["name"] == f"lower ({second.run_id[:8]})"
    assert len(set(names(lake))) == 4
    with pytest.raises(UserError, match="is the name of run"):
        rename(lake, find(lake, second.run_id), "base")


def test_rename_changes_the_name_and_nothing_else(lake: Lake) -> None:
    before = {dataset: lake.read(dataset, CRASH) for dataset in lake.datasets(CRASH)}
    version = lake.manifest.version
    rename(lake, find(lake, "base"), "my base")
    assert lake.manifest.version == version + 1
    assert names(lake) == ["history", "lower", "my base"]
    for dataset, table in before.items():
        if dataset != "results/runs":
            assert lake.read(dataset, CRASH).equals(table)
    assert run(lake, CRASH, model("my base")).replayed is False
    for wrong in ("", "a\nb", "\x1b[31m", "x" * 201):
        with pytest.raises(UserError, match="is no name"):
            rename(lake, find(lake, "my base"), wrong)


def test_delete_removes_every_row_of_a_run_and_says_how_many(lake: Lake) -> None:
    whole = sum(file.rows for file in lake.files(None, CRASH))
    lower = find(lake, "lower")
    rows = delete(lake, [lower])
    assert names(lake) == ["base", "history"]
    assert sum(file.rows for file in lake.files(None, CRASH)) == whole - rows
    for dataset in lake.datasets(CRASH):
        if dataset.startswith("results/"):
            assert lower.run_id not in lake.read(dataset, CRASH)["run_id"].to_pylist()


def test_what_others_are_compared_with_is_not_deleted_alone(lake: Lake) -> None:
    version = lake.manifest.version
    with pytest.raises(UserError, match="are compared with; delete those first"):
        delete(lake, [find(lake, "base")])
    assert lake.manifest.version == version
    delete(lake, [find(lake, "base")], dependants=True)
    assert names(lake) == ["history"]


def test_the_verb(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["runs", *words, "--lake", str(lake.path)])
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    code, out, _ = said("list")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["base", "history", "lower"]
    assert said("rename", "lower", "lower bonus")[0] == 0
    assert said("rename", "nothing", "x")[0] == 2
    assert said("delete")[0] == 2
    code, out, _ = said("delete", "lower bonus")
    assert code == 0
    assert "rows deleted" in out
    code, _, err = said("delete", "history")
    assert (code, err.count("\n")) == (2, 1)
    assert said("delete", "--all", "--market", CRASH)[0] == 0
    assert said("list")[1] == "no runs are stored\n"


def test_all_results_go_where_a_file_of_them_is_damaged(lake: Lake) -> None:
    path = Path(lake.files("results/runs", CRASH)[0].path)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    rows = sum(file.rows for file in lake.files(None, CRASH) if file.dataset.startswith("results/"))
    assert delete_all(lake, CRASH) == rows
    assert run(lake, CRASH, model("base")).replayed
