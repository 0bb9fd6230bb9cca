"""propose on the bundled crash: what the documentation shows is what the command prints."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from backtest.cli import main
from backtest.lake import Lake
from backtest.propose import ProposalQuestion, propose
from backtest.report.proposal import forms
from backtest.resources import resource
from backtest.scenario import Participation
from backtest.scenario.ensemble import Draw, Ensemble

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
CRASH = "sample-crash"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundled lake, where the demo puts it."""
    monkeypatch.chdir(tmp_path)
    folder = Path("backtest-demo/lake")
    shutil.copytree(resource("sample") / "lake", folder)
    return folder


def test_the_page_shows_what_the_command_prints(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "propose.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^backtest (propose .*600)$", text, re.MULTILINE)
    [shown] = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    with pytest.raises(SystemExit) as exit:
        main(command.split())
    assert exit.value.code == 0
    printed = capsys.readouterr().out.replace(f"{lake.resolve().parents[1]}/", "")
    versions = re.compile(r"rules\s+\d+,\s+engine\s+\d+")  # those of the day it was written
    assert versions.sub("", printed) == versions.sub("", shown), (
        "run the command and put its output into docs/propose.md"
    )
    assert "Bad debt cannot be judged here: history had 57,955 USD, the baseline 0 USD." in " ".join(shown.split())


def test_two_processes_and_one_answer_alike(lake: Path, tmp_path: Path) -> None:
    """Late searchers, two draws and seeds: the same answer whoever replays."""
    made = [Draw(weight=weight, liquidators=Participation(mean=20_000, searchers=3)) for weight in (1.0, 2.0)]
    question = ProposalQuestion(
        ("WETH.liquidation_bonus=10800",), Ensemble(draw=tuple(made)), from_block=500, to_block=540
    )
    other = tmp_path / "other" / "lake"
    shutil.copytree(lake, other)
    one = forms.as_json(propose(Lake(lake), CRASH, question, workers=1))
    two = forms.as_json(propose(Lake(other), CRASH, question, workers=2))
    assert two.replace(str(other), str(lake.resolve())) == one
