"""What a sweep says: refused sets as one line, a front of one set in words, levels as pairs, one id for one sweep."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backtest.cli import main
from backtest.cli.histories import of_sweep
from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from backtest.report.sweeps import as_text, find_sweep
from backtest.resources import resource
from backtest.scenario import Competitive, Scenario
from backtest.sweep import Sweep, sweep, with_axes
from tests.support.sketch_history import POOL, liquidated_history
from tests.support.sketch_lake import lake_of

pytestmark = pytest.mark.slow  # together they take what a quick run has no time for


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    return lake_of(tmp_path / "lake", liquidated_history())


def swept(lake: Lake, *axes: str) -> str:
    base, varied = with_axes(Scenario(name="base", liquidators=Competitive()), axes)
    return sweep(lake, "sketch", Sweep(scenario=base, axes=varied)).sweep_id


def test_refused_sets_are_one_line(lake: Lake) -> None:
    found = swept(lake, "WETH.ltv=7000,9000,9100,9200")
    text = as_text(find_sweep(lake, found))
    [line] = [line for line in text.split("\n") if "such as: " in line]
    assert line.split()[1] == "3"
    assert max(map(len, text.split("\n"))) <= 200


def test_a_front_of_one_set_says_so(lake: Lake) -> None:
    text = as_text(find_sweep(lake, swept(lake, "WETH.ltv=7000")))
    assert "Users frozen: one parameter set is complete, so there is nothing to choose among." in text


def test_pairs_are_values_of_their_axis(lake: Lake) -> None:
    found = swept(lake, "WETH.liquidation_threshold,WETH.ltv=8000:7000,7800:6900")
    rows = lake.sql(f"SELECT value, number FROM sweep_values WHERE sweep_id = '{found}' ORDER BY point").fetchall()
    assert rows == [("8000:7000", None), ("7800:6900", None)]
    assert swept(lake, "weth.liquidation_threshold,weth.ltv=8000:7000,7800:6900") != ""


def test_without_history_it_is_not_known_what_the_baseline_tells(lake: Lake) -> None:
    found = swept(lake, "WETH.liquidation_threshold=7900,8000")
    assert "is not stored, so whether the baseline tells it is not known" in as_text(find_sweep(lake, found))
    of_sweep(lake, "sketch", found)
    assert "is not known" not in as_text(find_sweep(lake, found))


@pytest.mark.slow
def test_what_a_bonus_is_for_cannot_be_judged_where_the_baseline_has_no_bad_debt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundled crash has 57,955 dollars of bad debt, the baseline none: terminal and page say so."""
    shutil.copytree(resource("sample") / "lake", tmp_path / "lake")
    words = ["sweep", "--lake", str(tmp_path / "lake"), "--market", "sample-crash", "--workers", "1"]
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as done:
        main([*words, "--axis", "WETH.liquidation_bonus=10300,10500", "-o", str(page)])
    assert done.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for text in (said, page.read_text().replace("&#39;", "'")):
        assert "Bad debt cannot be judged here: in window 'all' history had 57,955, the baseline 0." in text
        assert "a lower one looks better than it is" in text
        assert "no trade-off here" not in text
        assert "so whether there is a trade-off is not known" in text
    assert "bad debt (cannot be judged here): #" not in said
    assert "borrowers' loss: #0" in said  # what the baseline tells is judged
