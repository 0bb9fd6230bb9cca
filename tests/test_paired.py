"""Parameters judged under an ensemble of liquidators: the same verdict from whatever is stored, doubt by its parts, and
what the baseline does not tell judged by no verb.
"""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest

from backtest.cli import main
from backtest.lake import Lake
from backtest.paired import keep_ensemble, kept_ensemble, paired_verdict
from backtest.protocols.registry import PROTOCOLS
from backtest.report.doubt import PairedRuns, doubts_of
from backtest.results import band_of, run
from backtest.scenario import Competitive, Override, Scenario
from backtest.scenario.ensemble import parse_ensemble
from tests.propose.market import lake_of_four
from tests.support.sketch_history import POOL

KEPT = """
title = "made up"
source = "for a test"
[[draw]]
weight = 1
liquidators = { kind = "participation", mean = 5_000, searchers = 2 }
[[draw]]
weight = 2
liquidators = { kind = "participation", mean = 20_000, searchers = 2 }
"""
NOBODY = '[[draw]]\nweight = 1\nliquidators = { kind = "participation", mean = 1, searchers = 2 }\n'
HIGHER = Scenario(
    name="higher",
    liquidators=Competitive(),
    overrides=(Override(parameter="liquidation_bonus", asset="WETH", value=10600),),
)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    return lake_of_four(tmp_path / "lake")


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as exit:
        main(list(words))
    printed = capsys.readouterr()
    assert exit.value.code == 0, printed.err
    return printed.out


@pytest.mark.slow
def test_the_verdict_is_the_same_from_two_stores(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One holds the alternative alone; the other history, its band with baselines, and other questions."""
    other = tmp_path / "other" / "lake"
    shutil.copytree(lake.path, other)
    run(lake, "sketch", HIGHER)
    crowded = Lake(other)
    for scenario in (Scenario(), Scenario(name="another", to_block=20), *band_of(HIGHER)):
        run(crowded, "sketch", scenario)

    def verdict(of: Lake, *words: str) -> str:
        text = told(capsys, "compare", "higher", "--lake", str(of.path), *words)
        assert not re.search("incomplete|the band lacks|no replay of history|no baseline is stored", text)
        [found] = re.findall(r"^Verdict: .*?\n\n.*", text, re.MULTILINE | re.DOTALL)
        return str(found).partition("\nRuns\n")[0].replace(str(of.path), "LAKE")

    said = verdict(lake)
    assert verdict(crowded).split() == said.split()  # lines end elsewhere where a path is longer
    assert "Under the stated model alone, competitive (frictionless liquidators: the best case)." in said
    assert "backtest calibrate baseline --lake LAKE --market sketch" in " ".join(said.split())
    for each in (lake, crowded):
        keep_ensemble(each, "sketch", KEPT)
    asked = verdict(lake)
    assert verdict(crowded).split() == asked.split()
    assert "Under ensemble 'made up', for a test; 2 draws, 2 seeds each." in asked
    assert asked.split("\n")[2].split()[-5:] == ["Accounts", "Model", "Chance", "Band", "Verdict"]
    assert "backtest calibrate baseline" not in asked
    assert verdict(lake, "--stated").split() == said.split()


@pytest.mark.slow
def test_what_the_baseline_does_not_tell_no_verb_judges(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """History liquidated 600 $ where these liquidators never come."""
    file = tmp_path / "nobody.toml"
    file.write_text(NOBODY)
    run(lake, "sketch", HIGHER)
    where = ("--lake", str(lake.path))
    compared = told(capsys, "compare", "higher", *where, "--ensemble", str(file))
    proposed = told(capsys, "propose", *where, "--set", "WETH.liquidation_bonus=10600", "--ensemble", str(file))
    base = tmp_path / "base.toml"
    base.write_text('liquidators = { kind = "participation", mean = 1, searchers = 2 }\n')
    axis = ("--axis", "WETH.liquidation_bonus=10600,10700", "--workers", "1")
    swept = told(capsys, "sweep", *where, "--scenario", str(base), *axis)
    for text in (compared, proposed, swept):
        flat = " ".join(text.split())
        assert re.search(r"cannot (be judged here|judge debt liquidated)", flat)
        assert "600" in flat
        assert "backtest calibrate" in flat


@pytest.mark.slow
def test_equal_parameters_are_no_difference_under_every_draw(lake: Lake) -> None:
    same = Scenario(
        name="same",
        liquidators=Competitive(),
        overrides=(Override(parameter="liquidation_bonus", asset="WETH", value=10500),),
    )
    found = paired_verdict(lake, "sketch", same, "same", parse_ensemble(KEPT, "kept"))
    assert (found.draws, found.seeds) == (2, 2)
    for each in found.findings:
        assert (each.verdict.effect, each.doubt.all, each.doubt.shares) == (0, (0, 0), {})


def test_a_lake_keeps_the_last_ensemble_and_says_when_data_changed_since(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept_ensemble(lake, "sketch") is None
    for text in (NOBODY, KEPT, KEPT):
        keep_ensemble(lake, "sketch", text)
    assert lake.read("results/ensembles", "sketch").num_rows == 1
    assert kept_ensemble(lake, "sketch") == parse_ensemble(KEPT, "kept")
    monkeypatch.setattr(lake, "digest", lambda market: "another")
    later = kept_ensemble(lake, "sketch")
    assert later is not None
    assert later.source == "for a test (on other data than the lake holds now: calibrate anew)"


def test_parts_of_doubt_add_up_and_are_what_made_it() -> None:
    """Made up so that one part is alone: draws that differ, seeds that differ, accounts that differ."""

    def parts(effect: dict[tuple[int, int], dict[str, int]]) -> dict[str, float]:
        pairs = [
            PairedRuns(draw, 1.0, seed, {who: {"repaid": value} for who, value in own.items()}, {}, {})
            for (draw, seed), own in effect.items()
        ]
        return doubts_of(pairs, ["repaid"], population=100_000, seed=1, random=True)["repaid"].shares

    cells = [(draw, seed) for draw in range(4) for seed in range(3)]
    many = [f"a{place}" for place in range(400)]
    model = parts({cell: dict.fromkeys(many, 1_000 * cell[0]) for cell in cells})
    chance = parts({cell: dict.fromkeys(many, 1_000 * cell[1]) for cell in cells})
    accounts = parts({cell: {"alone": 10**6} for cell in cells})
    assert max(model, key=model.__getitem__) == "model"
    assert max(chance, key=chance.__getitem__) == "chance"
    assert accounts == {"accounts": 1.0, "model": 0.0, "chance": 0.0}
    number = random.Random(3)
    for _ in range(20):
        shares = parts({cell: {who: number.randrange(-9, 9) for who in many[:9]} for cell in cells})
        assert sum(shares.values()) == pytest.approx(1)
        assert all(0 <= share <= 1 for share in shares.values())
