"""propose over a market whose answers are known by hand: the runs, the answer, and that nothing stored changes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backtest.cli import main
from backtest.errors import UserError
from backtest.lake import Lake
from backtest.propose import ProposalQuestion, ensemble_of, propose
from backtest.protocols.registry import PROTOCOLS
from backtest.report.proposal import Proposal, forms
from backtest.report.proposal.words import answer
from backtest.results import run
from backtest.scenario import Competitive, Override, Participation, Scenario
from backtest.scenario.ensemble import Draw, Ensemble
from backtest.sweep import Progress
from tests.propose.market import lake_of_four
from tests.sketches.history import USD
from tests.support.sketch_history import POOL

pytestmark = pytest.mark.slow  # together they take what a quick run has no time for

TIGHTER = "WETH.liquidation_threshold=7600"
HIGHER = "WETH.liquidation_bonus=10600"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    return lake_of_four(tmp_path / "lake")


def asked(lake: Lake, *sets: str, progress: Progress | None = None, **more: Any) -> Proposal:
    return propose(lake, "sketch", ProposalQuestion(sets, **more), progress=progress)


def texts(p: Proposal) -> dict[str, str]:
    return {"text": forms.as_text(p), "markdown": forms.as_markdown(p), "json": forms.as_json(p)}


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_a_lower_threshold_by_hand(lake: Lake) -> None:
    """Frictionless liquidators take half of both who owe more than 1,520 $ at 1,900 $, which makes them safe. At 76 %
    from the start those two may not borrow so much, so that nothing is liquidated.
    """
    found = asked(lake, TIGHTER)
    repaid, loss, bad = (found.finding(key) for key in ("repaid", "borrower_loss", "bad_debt"))
    assert repaid.verdict.history == 600 * USD
    assert repaid.verdict.baseline == (1550 + 1590) // 2 * USD  # one call each, of half the debt, makes them safe
    assert (repaid.proposed, repaid.verdict.effect) == (0, -repaid.verdict.baseline)
    assert found.refused == (0, (1550 + 1590) * USD)
    assert "3,140 USD more is refused under it: debt that is not made is not liquidated." in " ".join(answer(found))
    assert loss.verdict.baseline == pytest.approx((1550 + 1590) / 2 * 0.05 * USD, abs=10)
    assert (bad.verdict.history, bad.verdict.words) == (0, "no material difference")
    assert (found.finding("accounts").verdict.baseline, found.finding("accounts").proposed) == (2, 0)
    assert not found.warnings
    [ltv, threshold, bonus] = found.terms
    assert (ltv.name, ltv.present, ltv.proposed) == ("ltv", 7500, 7500)
    assert (threshold.present, threshold.proposed, bonus.present) == (8000, 7600, 10500)


def test_whom_it_makes_liquidatable_at_its_own_moment(lake: Lake) -> None:
    """At the end only the one who owes 1,550 is left beyond 1,520 (history liquidated 600 of the other's 1,590, for
    0.33 of its WETH: 990 against 0.67 * 2,000 * 76 %, which is 1,018.40). Before block 10 it is both.
    """
    at_end = asked(lake, TIGHTER)
    assert [one.debt for one in at_end.moment.newly] == [1550 * USD]
    assert (at_end.moment.block, at_end.moment.of) == (30, 4)
    at_ten = asked(lake, f"{TIGHTER}@10")
    assert [(one.debt, one.step) for one in at_ten.moment.newly] == [(1590 * USD, 2), (1550 * USD, 7)]
    assert at_ten.moment.block == 10
    assert "2 accounts with 3,140 USD of debt liquidatable" in " ".join(answer(at_ten))
    assert "a 30-day ramp" in forms.as_text(at_ten)
    assert "day 21" in forms.as_text(at_ten)


def test_no_change_is_no_difference_in_every_measure(lake: Lake) -> None:
    found = asked(lake, "WETH.liquidation_threshold=8000")
    for each in found.findings:
        assert each.verdict.effect == 0
        assert each.verdict.words in ("no material difference", "cannot be judged here")
        assert each.doubt.all == (0, 0)
    assert found.moment.newly == ()
    assert all(shock.debt[0] == shock.debt[1] and shock.bad_debt[0] == shock.bad_debt[1] for shock in found.shocks)
    words = " ".join(answer(found))
    assert words.startswith("No difference that this history can show.")
    assert "No fall of prices by up to 50 % at once shows a difference." in words


def test_warnings_where_the_threshold_meets_something(lake: Lake) -> None:
    """The loan-to-value is 75 %; 80 % times 1.25 is one."""
    [meets] = asked(lake, "WETH.liquidation_threshold=7500").warnings
    assert "the threshold (75 %) meets the loan-to-value (75 %)" in meets
    [toxic] = asked(lake, "WETH.liquidation_bonus=12500").warnings
    assert "threshold x (1 + bonus) is 100 %" in toxic
    assert asked(lake, "WETH.liquidation_bonus=12400").warnings == ()
    assert "80.65 %" in forms.as_text(asked(lake, "WETH.liquidation_bonus=12400"))  # 1 / 1.24


def test_a_search_holds_the_present_set_and_leaves_out_what_is_refused(lake: Lake) -> None:
    found = asked(lake, TIGHTER, HIGHER, within=200).search
    assert found is not None
    assert found.names == ("WETH.liquidation_bonus", "WETH.liquidation_threshold")
    assert (found.present, found.proposed) == ((10500, 8000), (10600, 7600))
    bonuses, thresholds = ({values[at] for values in (point.values for point in found.points)} for at in (0, 1))
    assert bonuses == {10400, 10500, 10600, 10700, 10800}
    assert thresholds == {7400, 7500, 7600, 7700, 7800, 8000}
    refused = {point.values[1] for point in found.points if point.totals is None}
    assert refused == {7400}  # below the loan-to-value
    assert {point.values for point in found.front()} <= {point.values for point in found.points if point.totals}
    one = asked(lake, TIGHTER, within=200).search
    assert one is not None
    stored = {point.values: point.totals for point in one.points}
    assert stored[8000,] != stored[7600,]


# -- an ensemble ------------------------------------------------------------------------------------------------------


def ensemble(*means: int) -> Ensemble:
    draws = tuple(Draw(weight=1.0, liquidators=Participation(mean=mean, searchers=2)) for mean in means)
    return Ensemble(draw=draws, title="made up", source="for a test")


def test_every_draw_and_seed_is_compared_under_the_same_numbers(lake: Lake) -> None:
    found = asked(lake, HIGHER, ensemble=ensemble(5_000, 20_000), seeds=3)
    assert (found.draws, found.seeds, found.ensemble, found.frictionless) == (2, 3, True, False)
    assert found.runs == 1 + 2 * 2 * (3 + 2)  # history; two draws and sides; three seeds, two more responses
    rows = lake.sql("SELECT scenario FROM runs")
    scenarios = [json.loads(row[0]) for row in rows.fetchall()]
    assert {body.get("seed", 0) for body in scenarios} == {0, 1, 2}
    same = asked(lake, "WETH.liquidation_bonus=10500", ensemble=ensemble(5_000, 20_000), seeds=3)
    assert all(each.verdict.effect == 0 for each in same.findings)  # the same draws, so nothing is left of chance
    assert "ensemble 'made up', for a test; 2 draws, 3 seeds each." in " ".join(forms.as_text(found).split())


def test_an_ensemble_of_one_draw_says_nothing_of_the_model(lake: Lake) -> None:
    found = asked(lake, HIGHER, ensemble=ensemble(5_000))
    assert (found.ensemble, found.frictionless) == (False, False)
    assert all(each.doubt.model is None for each in found.findings)
    assert "best case" not in forms.as_text(found)
    assert "best case" in forms.as_text(asked(lake, HIGHER))


def test_a_model_that_does_not_draw_is_replayed_once(lake: Lake) -> None:
    found = asked(lake, HIGHER, seeds=5)
    assert (found.seeds, found.runs) == (1, 7)


# -- what is stored ---------------------------------------------------------------------------------------------------


def test_the_same_question_again_reads_what_is_stored(lake: Lake) -> None:
    steps: list[tuple[int, int, int]] = []
    first = asked(lake, TIGHTER, progress=lambda *step: steps.append(step))
    assert (steps[0], steps[-1]) == ((0, 7, 0), (7, 7, 0))
    steps.clear()
    assert asked(lake, TIGHTER, progress=lambda *step: steps.append(step)) == first
    assert steps == [(7, 7, 0)]
    assert lake.sql("SELECT name, done, failed FROM sweeps").fetchall() == [(f"propose {TIGHTER}", 7, 0)]
    runs = lake.sql("SELECT count(*) FROM runs").fetchone()
    assert runs == (7,)


def test_the_answer_does_not_depend_on_what_is_stored(lake: Lake, tmp_path: Path) -> None:
    """Runs of the same and of other questions are there: history, the baseline, the proposal, another one."""
    alone = texts(asked(lake, TIGHTER, HIGHER))
    crowded = lake_of_four(tmp_path / "crowded" / "lake")
    base = Scenario(name="mine", liquidators=Competitive())
    for scenario in (
        Scenario(),
        Scenario(name="another history", to_block=20),
        base,
        Scenario(
            name="proposal",
            liquidators=Competitive(),
            overrides=(Override(parameter="liquidation_bonus", asset="WETH", value=10600),),
        ),
    ):
        run(crowded, "sketch", scenario)
    asked(crowded, "WETH.liquidation_bonus=11000")
    beside = texts(asked(crowded, TIGHTER, HIGHER))
    for name, text in alone.items():
        assert beside[name].replace(str(crowded.path), str(lake.path)) == text


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "WETHH.ltv=7000"], "market sketch has no asset 'WETHH'; did you mean 'WETH'?"),
        (["--set", "WETH.lvt=7000"], "unknown parameter 'lvt' in an override; did you mean 'ltv'?"),
        (["--set", "WETH.liquidation_threshold=7000"], "which the configurator refuses"),
        (["--set", "WETH.liquidation_threshold=0.8"], "did you mean 8000 (basis points) or 80%?"),
        ([], "nothing is proposed; say what changes"),
        (["--set", HIGHER, "--draws", "0"], "--draws 0; give 1 or more"),
        (["--set", HIGHER, "--seeds", "0"], "--seeds 0; give 1 or more"),
        (["--set", HIGHER, "--workers", "0"], "--workers 0; give 1 or more"),
        (["--set", HIGHER, "--within", "10"], "--within without --best; add --best"),
        (["--set", HIGHER, "--best", "--within", "0"], "--within 0; give basis points"),
        (["--set", "liquidation_bonus=10600", "--best"], "name one asset or one e-mode category"),
        (["--set", "WETH.liquidation_protocol_fee=100"], "protocol sketch has no such parameter"),
        (["--set", HIGHER, "--format", "page"], "a page is a file; say where"),
        (["--set", HIGHER, "--from-block", "25", "--to-block", "20"], "begins at block 25, after its end, 20"),
        (["--set", HIGHER, "--ensemble", "missing.toml"], "cannot read missing.toml"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_stored(
    lake: Lake, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["propose", "--lake", str(lake.path), *words])
    text = capsys.readouterr().err
    assert (exit.value.code, text.count("\n")) == (2, 1)
    assert said in text
    lake.refresh()
    assert not [name for name in lake.datasets("sketch") if name.startswith("results/")]


def test_an_ensemble_that_is_none_names_its_draw(tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text('[[draw]]\nweight = 1\nliquidators = { kind = "participation", meen = 1 }\n')
    with pytest.raises(UserError, match=r"e\.toml: draw\[0\]: unknown field 'liquidators\.meen'; did you mean 'mean'"):
        ensemble_of(file)


def test_a_change_that_the_configurator_refuses_may_be_let_pass(lake: Lake) -> None:
    found = asked(lake, "WETH.liquidation_threshold=7000", allow_invalid=True)
    assert any("meets the loan-to-value" in warning for warning in found.warnings)


# -- forms ------------------------------------------------------------------------------------------------------------


def test_the_json_form_is_stable(lake: Lake) -> None:
    body = json.loads(forms.as_json(asked(lake, f"{TIGHTER}@10", within=200)))
    assert body["schema"] == 1
    assert sorted(body) == [
        "answer", "basis", "changes", "currency", "decimals", "findings", "level", "market", "moment", "next",
        "overturned_by", "refused_actions", "schema", "search", "shocks", "terms", "warnings",
    ]  # fmt: skip
    assert sorted(body["findings"][0]) == [
        "difference_error", "doubt", "draws", "effect", "history", "interval", "judged", "label", "measure",
        "own_error", "present", "proposed", "responses", "unit", "verdict", "without_largest",
    ]  # fmt: skip
    assert sorted(body["moment"]["newly_liquidatable"][0]) == [
        "account", "collateral", "debt", "health", "liquidatable_at_step",
    ]  # fmt: skip
    assert sorted(body["shocks"][0]) == [
        "accounts", "assets", "bad_debt", "debt_liquidatable", "debt_liquidated", "fall",
    ]  # fmt: skip
    assert sorted(body["search"]["points"][0]) == ["measures", "on_front", "refused", "values"]
    repaid = body["findings"][0]
    assert (repaid["measure"], repaid["history"], repaid["unit"]) == ("repaid", "600.00000000", "USD")
    assert body["moment"]["debt_newly_liquidatable"] == "3140.00000000"
    assert [shock["fall"] for shock in body["shocks"]] == [1000, 2000, 3000, 4000, 5000]


def test_amounts_keep_every_digit() -> None:
    assert [forms.exact(value, 8) for value in (0, -1, 10**38 - 1)] == [
        "0.00000000",
        "-0.00000001",
        f"{'9' * 30}.{'9' * 8}",
    ]
    assert forms.exact(-12, 0) == "-12"


def test_the_one_screen_fits(lake: Lake) -> None:
    lines = forms.as_text(asked(lake, f"{TIGHTER}@10", HIGHER, ensemble=ensemble(5_000, 20_000))).split("\n")
    commands = [line for line in lines if line.startswith("  backtest ")]
    assert max(len(line) for line in lines if line not in commands) <= 100
    assert len(lines) <= 40


def test_forms_are_written_by_the_ending_of_the_file(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["propose", "--lake", str(lake.path), "--set", HIGHER, "--best", "--within", "100"]
    for name, begins in (
        ("a.md", "# sketch: WETH.liquidation_bonus=10600"),
        ("a.json", "{"),
        ("a.html", "\n<!doctype html>"),
        ("deep/a.txt", "sketch: WETH.liquidation_bonus=10600"),
    ):
        with pytest.raises(SystemExit) as exit:
            main([*words, "-o", str(tmp_path / name)])
        assert exit.value.code == 0
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.lstrip().startswith(begins.lstrip())
        assert capsys.readouterr().out.startswith(str(tmp_path / name))
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.count('class="chart"') == 3
    assert "default-src 'none'" in page
    with pytest.raises(SystemExit):
        main([*words, "--format", "json"])
    assert json.loads(capsys.readouterr().out)["market"] == "sketch"
