"""propose and recommend over two markets that are known by hand, replayed together."""

from __future__ import annotations

import dataclasses
import json
import sys
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest

from backtest.cli import main
from backtest.errors import ScenarioError, UserError
from backtest.lake import Lake
from backtest.propose import ProposalQuestion, markets_of, propose
from backtest.protocols.registry import PROTOCOLS
from backtest.recommend import Recommendation, RecommendationQuestion, WindowOutcome, as_text, recommend
from backtest.report.proposal import ProposalOutcome, forms, several
from backtest.scenario import ExchangeRate, Joint, Override, parse_override
from backtest.shocks import StressCase, Suite
from backtest.shocks.events import PegBreak
from backtest.shocks.models import Still
from tests.propose.market import four_borrowers
from tests.sketches.history import USD
from tests.support.sketch_history import POOL
from tests.support.sketch_lake import CONFIG, lake_of

pytestmark = pytest.mark.slow

HALF = Joint(markets=("one", "two"), rates=(ExchangeRate(currency="EUR", worth="0.5"),))
"""A EUR, which ``two`` counts in, is half a USD: its amounts count half."""
LOWER = "two:WETH.liquidation_threshold=7600"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    for name, currency in (("one", "USD"), ("two", "EUR")):
        h = four_borrowers()
        h.market = dataclasses.replace(h.market, name=name)
        found = lake_of(tmp_path / "lake", h, config=msgspec.structs.replace(CONFIG, name=name, base_currency=currency))
    return found


def test_a_lower_threshold_in_one_of_two_by_hand(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In each market frictionless liquidators take half of 1,550 and of 1,590: 1,570. At 76 % in ``two`` these two may
    not borrow so much, and nothing is liquidated there: of 1,570 + 1,570 / 2 = 2,355 USD 1,570 are left. History
    liquidated 600 in each: 600 + 300. Loss is 5 % of what is repaid.
    """
    found = propose(lake, "one", ProposalQuestion((LOWER,), joint=HALF))
    one, two = found.parts
    assert (one.market, two.market, one.changes, found.changes) == ("one", "two", (), (LOWER,))
    effects = [part.finding("repaid") for part in (one, two, found)]
    assert [each.verdict.history for each in effects] == [600 * USD, 600 * USD, 900 * USD]
    assert [each.verdict.baseline for each in effects] == [1_570 * USD, 1_570 * USD, 2_355 * USD]
    assert [each.proposed for each in effects] == [1_570 * USD, 0, 1_570 * USD]
    assert [each.verdict.effect for each in effects] == [0, -1_570 * USD, -785 * USD]
    assert found.refused == (0, 3_140 * USD // 2)
    assert found.finding("accounts").verdict.baseline == 4
    # at once: the one who owes 1,550 in two, of which half counts; four accounts in each owe something
    assert ([each.debt for each in found.moment.newly], found.moment.of) == ([1_550 * USD // 2], 8)
    # the same four addresses are in both markets
    assert (one.population, found.population) == (4, 4)
    by_fall = {shock.fall: shock for shock in found.shocks}
    apart = [next(shock for shock in part.shocks if shock.fall == 3_000) for part in (one, two)]
    assert by_fall[3_000].debt == tuple(apart[0].debt[side] + apart[1].debt[side] // 2 for side in (0, 1))
    text = " ".join(forms.as_text(found).split())
    assert "one, USD" in text
    assert "two, EUR" in text
    assert "--market one --market two --set two:WETH.liquidation_threshold=7600" in forms.as_markdown(found)
    body = json.loads(forms.as_json(found))
    assert [part["market"] for part in body["parts"]] == ["one", "two"]
    assert "parts" not in body["parts"][0]

    where = ["--lake", str(lake.path), "--market", "one", "--market", "two", "--rate", "EUR=0.5"]
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as code:
        main(["propose", *where, "--set", LOWER, "-o", str(page)])
    assert code.value.code == 0
    text = page.read_text(encoding="utf-8")
    assert "two: What it would have done, in EUR" in text
    capsys.readouterr()
    for sets, said in (
        ("three:WETH.liquidation_threshold=7600", "market 'three' is none of the joint ones"),
        ("one:DAI.liquidation_threshold=7600", "has no such thing"),
        ("two:WETH.liquidation_threshold=7000", "two: WETH at block 1: loan-to-value 7500 is above"),
    ):
        with pytest.raises(SystemExit) as code:
            main(["propose", *where, "--set", sets])
        assert code.value.code == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["replay", "--lake", str(lake.path), "--market", "one", "--liquidators", "competitive", "--set", LOWER])
    assert "market 'two' without joint" in capsys.readouterr().err


def test_a_parameter_that_differs_between_markets_needs_one_of_them(lake: Lake, tmp_path: Path) -> None:
    h = four_borrowers()
    h.market = dataclasses.replace(h.market, name="three")
    h.block(31).param("liquidation_threshold", 7_900, asset=0)
    lake_of(tmp_path / "lake", h, config=msgspec.structs.replace(CONFIG, name="three"))
    lake.refresh()
    both = Joint(markets=("three", "one"))
    with pytest.raises(UserError, match=r"is another number in three and one; name one of the markets: three:WETH"):
        markets_of(lake, "three", both).present(parse_override("WETH.liquidation_threshold+=0"), [31, 30])


def test_a_bonus_of_one_market_against_the_losses_of_both(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fall of 25 % each market loses what 1 + bonus leaves uncovered at 1,500 $: 1,550 - 1,500 / 1.05 and, on
    what history left of the other's WETH, 990 - (1 - 630 / 1,900) * 1,500 / 1.05; ``two`` counts half.
    """

    def lost(bonus: Fraction) -> Fraction:
        return 1_550 - 1_500 / bonus + 990 - (1 - Fraction(630, 1_900)) * 1_500 / bonus

    module = sys.modules[Recommendation.__module__]
    monkeypatch.setattr(
        module._Sets,
        "replayed",
        lambda self, values, window: WindowOutcome(window, 0, 0, 0, 0, {"frozen": 0}, {"frozen": 0}, 0, 0),
    )
    jump = PegBreak(assets=("WETH",), to=(9_000, 10_000), at=(0, 0), lasts=(1, 1))
    suite = Suite(
        name="falls",
        version=1,
        cases=(StressCase(name="jump", prices=Still(), events=(jump,)),),
        horizon=120,
        step=60,
        paths=5,
    )
    present, less = (lost(bonus) * 3 / 2 for bonus in (Fraction(105, 100), Fraction(104, 100)))
    whole = lost(Fraction(105, 100)) + lost(Fraction(104, 100)) / 2
    assert less < whole < present
    question = RecommendationQuestion(
        over=(("two:WETH.liquidation_bonus", 100),),
        reserves=int(whole * USD) + 1_000,
        suite=suite,
        step=100,
        withstand=2_500,
        level=5_000,
        joint=HALF,
    )
    found = recommend(lake, "one", question, workers=1)
    assert found.judged[(10_500,)].fallen == pytest.approx(float(present) * USD, abs=1_000)
    assert found.best is not None
    assert found.best.values == (10_400,)
    assert found.judged[(10_400,)].fallen == pytest.approx(float(whole) * USD, abs=1_000)
    assert as_text(found).startswith("one, two: two:WETH.liquidation_bonus=10400")
    with pytest.raises((UserError, ScenarioError), match="none of the joint ones"):
        recommend(lake, "one", dataclasses.replace(question, over=(("four:WETH.ltv", 100),)), workers=1)


def test_what_all_come_to_is_rounded_up_by_account() -> None:
    """3 and 1 units of a market whose unit is half: ceil(1.5) + ceil(0.5), on top of 5 of the same address."""
    first = ProposalOutcome({"a": {"repaid": 5, "liquidations": 1}}, power=10)
    second = ProposalOutcome({"a": {"repaid": 3, "liquidations": 2}, "b": {"repaid": 1}}, power=-3)
    found = several.outcome_of([(Fraction(1), first), (Fraction(1, 2), second)])
    assert found.contributions == {"a": {"repaid": 7, "liquidations": 3}, "b": {"repaid": 1}}
    assert found.power == 9


def test_a_market_before_a_parameter() -> None:
    assert parse_override("my-market.v2:WETH.ltv-=300@2024-01-01T10:00:00") == Override(
        parameter="ltv", change=-300, asset="WETH", market="my-market.v2", from_time="2024-01-01T10:00:00"
    )
    assert parse_override("core:close_factor=5000").market == "core"
    assert parse_override("core:emode1.ltv=5000").emode == 1
