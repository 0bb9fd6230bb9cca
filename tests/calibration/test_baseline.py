"""``backtest calibrate baseline`` on the bundled markets."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backtest.cli import main
from backtest.foreign import toml_value
from backtest.lake import Lake
from backtest.reconstruct import is_current, reconstruct
from backtest.resources import resource
from backtest.scenario import Participation
from backtest.scenario.toml import parse_scenario


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("sample") / "lake"
    shutil.copytree(resource("sample") / "lake", folder)
    opened = Lake(folder)
    for market in opened.markets():
        if not is_current(opened, market):
            reconstruct(opened, market)
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    with pytest.raises(SystemExit) as end:
        main(["calibrate", "baseline", *map(str, words)])
    out, err = capsys.readouterr()
    assert end.value.code == code, err
    assert (err.count("\n"), out if code else "") == (1 if code else 0, "")
    return err if code else out


def models_of(file: Path) -> list[Participation]:
    """The draws of an ensemble, each through the strict scenario."""
    found = []
    for part in file.read_text().split("[[draw]]\n")[1:]:
        model = parse_scenario(part.partition("\n")[2], "a draw").liquidators
        assert isinstance(model, Participation)
        found.append(model)
    return found


@pytest.mark.slow
def test_the_bundled_crash(lake: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The same seed gives the same bytes, whoever replays."""
    files = [tmp_path / f"{workers}.toml" for workers in (1, 2)]
    outs = [
        said(capsys, "--lake", lake, "--market", "sample-crash", "--split", 200, "--to-block", 376, "--draws", 15,
             "--keep", 5, "--seed", 3, "--workers", workers, "--out", file)
        for workers, file in zip((1, 2), files, strict=True)
    ]  # fmt: skip
    assert files[0].read_bytes() == files[1].read_bytes()
    assert outs[0].splitlines()[:-1] == outs[1].splitlines()[:-1]
    for words in ("fitted on blocks", "held out: blocks", "attention", "bad debt at the end", "HHI", "Log score",
                  "Not matched on the window held out", "Bad debt"):  # fmt: skip
        assert words in outs[0]
    assert len(models_of(files[0])) == 5
    assert "calibrated on sample-crash, blocks" in toml_value(files[0].read_text())["source"]


@pytest.mark.slow
def test_another_market_may_be_held_out(lake: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """All blocks that were asked for are learnt from, and the other crash is what they are tested on."""
    other = tmp_path / "other"
    shutil.copytree(resource("sample") / "may-2021", other)
    if not is_current(Lake(other), "sample-crash-2021"):
        reconstruct(Lake(other), "sample-crash-2021")
    own, file = ("--lake", lake, "--market", "sample-crash", "--to-block", 200), tmp_path / "fitted.toml"
    text = said(capsys, *own, "--held-out", other, "--draws", 15, "--keep", 5, "--out", file)
    assert "held out: sample-crash-2021, blocks 8 to 642 (2021-05-12 to 2021-05-24), 158 liquidations." in text
    assert "Bad debt on the held-out window: history 8,181, kept draws" in text
    assert toml_value(file.read_text())["fitted"] == {"market": "sample-crash", "from_block": 8, "to_block": 200}
    assert "--split and --held-out" in said(capsys, *own, "--held-out", other, "--split", "0.5", code=2)


def test_too_few_liquidations_are_not_fitted(lake: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The calm market: a prior with its sources, which says that it is one."""
    file = tmp_path / "prior.toml"
    text = said(capsys, "--lake", lake, "--market", "sample-calm", "--out", file)
    assert "0 liquidations" in text
    assert "nothing was fitted" in text
    assert "Black Thursday" in text
    assert toml_value(file.read_text())["source"].startswith("not calibrated")
    models = models_of(file)
    assert len(models) == 20
    assert all(17_800 <= model.mean <= 33_000 for model in models)
    assert {searcher.capital for model in models for searcher in model.each} == {None}


def test_mistakes_are_one_line(lake: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    market = ("--lake", lake, "--market", "sample-crash")
    scenario = tmp_path / "weaker.toml"
    scenario.write_text('liquidators = { kind = "competitive" }\n[[overrides]]\nparameter = "ltv"\nchange = -100\n')
    for words, wrong in (
        (("--draws", 10, "--keep", 9), "--draws 10, --keep 9"),
        (("--workers", 0), "--workers 0"),
        (("--split", "1.5"), "--split 1.5"),
        (("--split", "never"), "--split never"),
        (("--split", "120"), "--split leaves"),
        (("--split", "2030-01-01"), "--split 2030-01-01"),
        (("--out", tmp_path), "--out"),
        (("--held-out", tmp_path / "none"), "--held-out: there is no lake at"),
        (("--held-out", lake), "holds 2 markets; name the folder of a lake that holds one market"),
        (("--scenario", scenario), "changes what history is held against"),
    ):
        assert wrong in said(capsys, *market, *words, code=2)
