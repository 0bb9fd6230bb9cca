"""recommend over a market whose answers are known by hand: the search, what is held out, and what is said."""

from __future__ import annotations

import json
import shutil
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backtest.cli import main
from backtest.errors import UserError
from backtest.lake import Lake
from backtest.model import AssetId
from backtest.protocols.registry import PROTOCOLS
from backtest.recommend import (
    Recommendation,
    RecommendationQuestion,
    SetOutcome,
    WindowOutcome,
    as_json,
    as_text,
    recommend,
)
from backtest.resources import resource
from backtest.risk.tail import tail_risk
from backtest.scenario import Joint
from backtest.shocks import StressCase, Suite
from backtest.shocks.events import PegBreak
from backtest.shocks.models import Still
from tests.propose.market import lake_of_four
from tests.sketches.history import USD, USDC, WETH, History, borrower, market
from tests.support.sketch_history import POOL
from tests.support.sketch_lake import lake_of

recommendation = sys.modules[Recommendation.__module__]
pytestmark = pytest.mark.slow
WBTC = AssetId(2)

JUMP = PegBreak(assets=("WETH",), to=(6_000, 10_000), at=(0, 0), lasts=(1, 1))
FALLS = Suite(
    name="falls",
    version=1,
    cases=(StressCase(name="jump", prices=Still(), events=(JUMP,)),),
    horizon=120,
    step=60,
    paths=200,
)
"""WETH falls at once, to an even draw of 60 to 100 % of its price."""


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    return lake_of_four(tmp_path / "lake")


def asked(lake: Lake, *over: tuple[str, int], reserves: int, **more: Any) -> Recommendation:
    question = RecommendationQuestion(over=over, reserves=reserves * USD, suite=FALLS, step=100, **more)
    return recommend(lake, "sketch", question, workers=1)


def test_a_suite_of_several_markets_is_refused(lake: Lake) -> None:
    joint = replace(FALLS.scenario, joint=Joint(markets=("sketch", "other")))
    question = RecommendationQuestion((("WETH.ltv", 200),), 1, suite=replace(FALLS, scenario=joint))
    with pytest.raises(UserError, match="over a suite of several markets"):
        recommend(lake, "sketch", question)


def lost(price: Fraction, bonus: Fraction) -> Fraction:
    """Four accounts at the end of block 20: 1 WETH each against 1,000, 1,300 and 1,550 $, and against 990 what a
    liquidation of 600 at 1,900 $ left.
    """
    accounts = ((1, 1000), (1, 1300), (1, 1550), (1 - Fraction(630, 1900), 990))
    return sum((max(Fraction(0), debt - amount * price / (1 + bonus)) for amount, debt in accounts), Fraction(0))


def test_a_lower_bonus_makes_room_by_hand(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad debt after a jump is what 1 + bonus leaves uncovered, so that the value at risk is the closed form at the
    path of that rank, and reserves just below that of 5 % allow 4 % at most. The higher the threshold, the less is
    liquidated: it goes to its bound.
    """
    over = (("WETH.liquidation_bonus", 100), ("WETH.liquidation_threshold", 100))
    monkeypatch.setattr(recommendation._Sets, "replayed", lambda self, values, window: held(window))
    found = asked(lake, *over, reserves=730, aim="liquidated")
    [own] = {
        row["stress_id"]
        for row in lake.read("results/stresses", "sketch").to_pylist()
        if (row["seed"], row["block_number"]) == (0, found.block) and "liquidation_" not in row["suite"]
    }
    paths = [row for row in lake.read("results/stress_paths", "sketch").to_pylist() if row["stress_id"] == own]
    worst = sorted(row["lowest_price"] for row in paths)[2]  # rank 198 of 200, of 10,000
    for (bonus, _), one in found.judged.items():
        exact = lost(Fraction(2000 * worst, 10_000), Fraction(bonus - 10_000, 10_000))
        assert one.bad_debt.var / USD == pytest.approx(float(exact), abs=0.5)
        assert one.bad_debt.paths == 200
    assert found.present == (10_500, 8_000)
    assert found.best is not None
    assert found.best.values == (10_400, 8_100)
    assert found.judged[found.best.values].liquidated.mean < found.judged[(10_400, 8_000)].liquidated.mean
    assert found.sought.settled
    assert "no set one step of 100 basis points away is better" in found.why_stopped
    assert found.at_bounds == ("WETH.liquidation_bonus", "WETH.liquidation_threshold")
    assert found.runner_up is not None
    assert found.runner_up.values == (10_400, 8_000)  # 5 % is beyond reserves whatever the threshold
    kept = [by[found.best.values].risk <= 730 * USD for by in (found.fresh, found.later)]
    assert found.holds_out == all(kept)


def test_four_parameters_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power grows with both loan-to-values, bad debt with the second and with a higher bonus: a lower bonus makes room
    for it. Each has its own bound, in the order of the question; a loan-to-value above the threshold is refused; the
    certificate is that of one or two parameters at a time.
    """

    def judged(self: Any, values: tuple[int, ...], block: int, seed: int) -> SetOutcome:
        weth, wbtc, _, bonus = values
        bad = tail_risk([max(0, wbtc - 7_500 + bonus - 10_500) * USD] * 400)
        return SetOutcome(power=2 * weth + wbtc, bad_debt=bad, liquidated=bad, fee=0, fallen=None)

    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    monkeypatch.setattr(recommendation._Sets, "_judge", judged)
    monkeypatch.setattr(recommendation._Sets, "replayed", lambda self, values, window: held(window))
    h = History(market(("WETH", 18), ("USDC", 6), ("WBTC", 8)))
    for asset in (WETH, WBTC):
        h.param("ltv", 7_500, asset=asset).param("liquidation_threshold", 7_600, asset=asset)
        h.param("liquidation_bonus", 10_500, asset=asset)
    h.price(WETH, 2_000 * USD).price(USDC, USD).price(WBTC, 20_000 * USD)
    borrower(h, 0, 10, 5_000).block(30)
    over = (("WETH.ltv", 200), ("WBTC.ltv", 50), ("WETH.liquidation_threshold", 150), ("WBTC.liquidation_bonus", 100))
    question = RecommendationQuestion(over=over, reserves=0, step=50)
    found = recommend(lake_of(tmp_path / "lake", h), "sketch", question, workers=1)
    assert found.names == tuple(name for name, _ in over)
    assert found.present == (7_500, 7_500, 7_600, 10_500)
    assert found.bounds == ((7_300, 7_700), (7_450, 7_550), (7_450, 7_750), (10_400, 10_600))
    assert found.best is not None
    assert found.best.values == (7_700, 7_550, 7_700, 10_450)
    assert found.sought.settled
    assert "no set one step of 50 basis points away in one or two parameters is better" in found.why_stopped
    assert len(found.sought.tried) <= found.question.most == 64
    assert {one.refused != "" for one in found.sought.tried} == {True, False}


def held(window: str, worse: int = 0) -> WindowOutcome:
    """What replays say where nothing changes, or one response of users makes bad debt larger."""
    return WindowOutcome(
        window, 0, 0, 0, 0, {"frozen": 0, "same-ltv": worse}, {"frozen": 0}, 0, 0, ("Warning: beware.",)
    )


def test_nothing_is_recommended_where_nothing_keeps_the_limit(lake: Lake) -> None:
    found = asked(lake, ("WETH.liquidation_bonus", 100), reserves=1, paths=50)
    assert (found.best, found.runner_up, found.holds_out) == (None, None, False)
    text = " ".join(as_text(found).split())
    assert "Nothing is recommended." in text
    assert "of WETH.liquidation_bonus=10400" in text
    body = json.loads(as_json(found))
    assert body["recommended"] is None
    assert {tuple(one["set"].values()) for one in body["tried"]} == {(10_400,), (10_500,), (10_600,)}
    # Equal questions are read, not replayed.
    before = len(lake.read("results/stress_paths", "sketch"))
    assert asked(lake, ("WETH.liquidation_bonus", 100), reserves=1, paths=50) == found
    lake.refresh()
    assert len(lake.read("results/stress_paths", "sketch")) == before


def test_a_fall_to_withstand_binds_where_paths_do_not(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 1,500 $ those who owe 1,550 and 990 (on 0.67 WETH) lose what 1.05 leaves uncovered."""
    monkeypatch.setattr(recommendation._Sets, "replayed", lambda self, values, window: held(window))
    exact = lost(Fraction(1500), Fraction(5, 100))
    found = asked(
        lake, ("WETH.liquidation_bonus", 100), reserves=int(exact) - 1, withstand=2_500, level=5_000, paths=50
    )
    assert found.judged[(10_500,)].fallen == pytest.approx(float(exact) * USD, rel=1e-6)
    assert found.best is not None
    assert found.best.values == (10_400,)
    assert found.judged[(10_500,)].bad_debt.var <= found.question.reserves < found.judged[(10_500,)].risk
    assert (found.judged[(10_400,)].fallen or 0) <= found.question.reserves


def test_replays_that_speak_against_a_set_drop_it(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held in drops a set, what is held out only says so."""

    def told(self: Any, values: tuple[int, ...], window: str) -> WindowOutcome:
        return held(window, 10**9 * USD if values == (8_200,) or window == "held out" else 0)

    monkeypatch.setattr(recommendation._Sets, "replayed", told)
    found = asked(lake, ("WETH.liquidation_threshold", 200), reserves=10_000, aim="liquidated", paths=50)
    assert found.dropped == ((8_200,),)
    assert found.best is not None
    assert found.best.values == (8_100,)
    assert not found.holds_out
    text = " ".join(as_text(found).split())
    assert "spoke against: WETH.liquidation_threshold=8200" in text
    assert "does NOT hold out" in text
    assert text.count("Warning: beware.") == 1


def test_borrowing_power_on_the_bundled_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More loan-to-value, more of it; the bound binds, since no path leaves bad debt, and that is said."""
    path = tmp_path / "lake"
    shutil.copytree(resource("sample") / "lake", path)
    monkeypatch.setattr(recommendation._Sets, "replayed", lambda self, values, window: held(window))
    question = RecommendationQuestion((("WETH.ltv", 50),), reserves=1_000 * USD, step=50, paths=4)
    found = recommend(Lake(path), "sample-crash", question, workers=1)
    assert found.best is not None
    assert found.best.values[0] == found.present[0] + 50
    assert found.judged[found.best.values].power > found.judged[found.present].power
    text = " ".join(as_text(found).split())
    assert "Aim: the most borrowing power, with VaR99" in text
    assert "No path leaves bad debt, so that the bounds of change bind" in text
    assert "At its bound of change: WETH.ltv." in text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"over": ()}, "nothing may change"),
        ({"over": (("WETH.ltv", 300),) * 2}, "a parameter twice"),
        ({"over": (("ltv", 300),)}, "--over with ltv"),
        ({"over": (("WETH.ltv", 50),)}, "a bound below the step"),
        ({"over": (("WETH.box", 300),)}, "box"),
        ({"over": (("WTH.ltv", 300),)}, "market sketch has no asset 'WTH'; did you mean 'WETH'"),
        ({"split": 1.0}, "--split 1"),
        ({"split": 0.0}, "--split 0"),
        ({"reserves": -1}, "--reserves"),
        ({"level": 10_000}, "percentile"),
        ({"withstand": 10_000}, "--withstand 100"),
        ({"aim": "fame"}, "no aim 'fame'"),
        ({"looks": 0}, "0 looks"),
    ],
    ids=[
        "nothing",
        "twice",
        "market-wide",
        "narrow",
        "unknown",
        "misspelt",
        "all",
        "none",
        "reserves",
        "level",
        "fall",
        "aim",
        "looks",
    ],
)
def test_mistakes(lake: Lake, more: dict[str, Any], said: str) -> None:
    question = {"over": (("WETH.ltv", 300),), "reserves": 0, "suite": FALLS, "step": 100, **more}
    with pytest.raises(UserError, match=said) as error:
        recommend(lake, "sketch", RecommendationQuestion(**question), workers=1)
    assert "\n" not in str(error.value)


def test_on_the_command_line(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With real replays of both windows, under every response."""
    suite = tmp_path / "falls.toml"
    suite.write_text(
        'name = "falls"\nversion = 1\nhorizon = 120\nstep = 60\npaths = 20\n[[cases]]\nname = "jump"\n'
        'prices = { model = "still" }\nevents = [{ event = "peg-break", assets = ["WETH"], to = [6000, 10000],'
        " at = [0, 0], lasts = [1, 1] }]\n"
    )
    words = ["recommend", "--lake", str(lake.path), "--over", "WETH.liquidation_threshold=100", "--step", "100"]
    words += ["--reserves", "10000", "--suite", str(suite), "--workers", "1", "--aim", "liquidated"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "-o", str(tmp_path / "answer.json")])
    assert stopped.value.code in (0, None)
    body = json.loads((tmp_path / "answer.json").read_text())
    assert body["recommended"]["set"] == {"WETH.liquidation_threshold": 8_100}
    assert body["runner_up"]["set"] == {"WETH.liquidation_threshold": 8_000}
    [held_in, held_out] = body["recommended"]["replays"]
    assert (held_in["window"], held_out["window"]) == ("held in", "held out")
    assert held_in["warnings"] == []
    # History's fall to 1,900 $ is held in: at 81 % the one who owes 1,550 (limit 1,539) is liquidated, safely.
    assert set(held_in["difference_by_response"]) == {"frozen", "same-ltv", "same-health"}
    assert (held_in["bad_debt"], held_in["within_reserves"], held_out["within_reserves"]) == ("0", True, True)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(words)
    text = " ".join(capsys.readouterr().out.split())
    assert "WETH.liquidation_threshold=8100: debt liquidated in the mean" in text
    assert "20 paths give VaR no upper end: take 368 or more (--paths)." in text
    for wrong, said in (
        (["--over", "WETH.ltv=x"], "--over WETH.ltv"),
        (["--percentile", "100"], "--percentile 100"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*words, *wrong])
        error = capsys.readouterr().err
        assert stopped.value.code == 2
        assert said in error
        assert error.count("\n") == 1
