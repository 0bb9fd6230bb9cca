"""Mitigations in a scenario: strict, one form, each with a sentence of its own; what makes no sense is one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from backtest.errors import ScenarioError
from backtest.scenario import (
    CircuitBreaker,
    Competitive,
    DepthCap,
    DynamicBonus,
    DynamicCloseFactor,
    Grace,
    IsolatedMargin,
    Mitigation,
    OwnerTrigger,
    Pause,
    PriceBand,
    ReserveFund,
    RiskSizing,
    Scenario,
    SizeTiers,
    SocialisedLoss,
    Throttle,
    ToxicHalt,
    VolatilityTiers,
)
from backtest.scenario.settled import settled
from backtest.scenario.toml import parse_scenario

SAID: dict[Mitigation, str] = {
    Pause(from_time="2020-03-12", until_time="2020-03-13", asset="WETH", stops="both"): (
        "A pause of liquidations and what raises users' risk in WETH from 2020-03-12 to 2020-03-13"
    ),
    CircuitBreaker(move=700, seconds=900, window=3_600, scope="market"): (
        "A move of any asset by 7 % within 3600 s stops liquidations in the whole market for 900 s"
    ),
    PriceBand(move=250, asset="DAI", seconds=60): (
        "Oracle rounds of DAI beyond 2.5 % of the price in force are not taken: the old price stays, until that lasts"
        " 60 s"
    ),
    Grace(seconds=600): "No liquidation until 600 s after an account may first be liquidated",
    ToxicHalt(impact=11_000): (
        "No liquidation above the toxic frontier, a loan-to-value of 1 / (1 + bonus), selling counted at 1.1"
    ),
    Throttle(most_repaid=10**12, seconds=60): "At most 1,000,000,000,000 base units of debt are liquidated within 60 s",
    SizeTiers(tiers=((10**6, 9_500),)): (
        "Accounts are liquidated at a health by the size of their debt: up to 1,000,000 base units below 0.95, others"
        " below 1"
    ),
    VolatilityTiers(asset="WETH", tiers=((500, -200),), parameters="ltv"): (
        "Loan-to-value of WETH by the range of its price within 86400 s: -2 points from 5 %"
    ),
    DynamicBonus(): "The bonus is at most 1 / loan-to-value - 1, and 0 % at least",
    DynamicCloseFactor(): "A liquidation repays no more than brings the account to a health of 1.05",
    DepthCap(asset="CRV", depth_base=5): "Supply of CRV beyond 2 times a depth of 5 base units is refused",
    IsolatedMargin(): (
        "Margin is isolated: each collateral stands for its own share of the debt, parted at the first block"
    ),
    OwnerTrigger(by="sell", share=2_500, delay=12): (
        "25 % of borrowers sell collateral to repay below a health of 1.05, up to 1.15, 12 s later"
    ),
    RiskSizing(): ("Borrowers keep 1 times the price range of 86400 s between a new position and its liquidation"),
    ReserveFund(name="umbrella", reserve=7, fee_share=1_000): (
        "Fund 'umbrella' pays for written-off debt with 7 base units and 10 % of fees"
    ),
    SocialisedLoss(): "What no fund pays of written-off debt is shared by the suppliers of its asset",
}


@pytest.mark.parametrize(("mitigation", "said"), SAID.items(), ids=[each.kind for each in SAID])
def test_it_is_said(mitigation: Mitigation, said: str) -> None:
    assert mitigation.said == said


def test_none_is_left_out() -> None:
    assert [type(each) for each in SAID] == list(get_args(Mitigation))


def test_a_file_and_what_is_stored_are_the_same() -> None:
    """Names of assets and times have one form; defaults are left out; the list keeps its order."""
    chosen = [each for each in SAID if not isinstance(each, IsolatedMargin)]
    scenario = Scenario(liquidators=Competitive(), mitigations=tuple(chosen))
    text = scenario.canonical()
    again = msgspec.convert({k: v for k, v in json.loads(text).items() if k != "version"}, Scenario)
    assert again == scenario
    assert Scenario(liquidators=Competitive()).canonical() == '{"liquidators":{"kind":"competitive"},"version":1}'
    pause = Pause(from_time="2020-03-12T00:00:00Z", until_time="2020-03-13T01:00:00+01:00", asset="0xc0")
    [one] = settled(Scenario(liquidators=Competitive(), mitigations=(pause,)), lambda name: "WETH").mitigations
    assert one == Pause(from_time="2020-03-12", until_time="2020-03-13", asset="WETH")


def test_the_page_s_example_is_a_scenario() -> None:
    page = (Path(__file__).parents[2] / "docs/mitigations.md").read_text(encoding="utf-8")
    found = re.search(r"<<'END'\n(.*?)^END$", page, re.DOTALL | re.MULTILINE)
    assert found is not None
    scenario = parse_scenario(found[1], "page")
    kinds = [each.kind for each in scenario.mitigations]
    assert kinds == ["circuit-breaker", "grace", "throttle", "reserve-fund", "socialised-loss"]
    listed = re.findall(r"^\| `([a-z-]+)` \|", page.partition("## Over which protocols")[0], re.MULTILINE)
    assert listed == [each.kind for each in SAID], "the page's table names each kind, in order"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('kind = "pauze"', r"unknown mitigation 'pauze'.*pause"),
        ('kind = "grace"\nsecond = 5', r"unknown field 'mitigation\[0\].second'.*seconds"),
        ("seconds = 5", "mitigation says no kind; known: circuit-breaker"),
        ('kind = "grace"', "missing required field `seconds`"),
        ('kind = "grace"\nseconds = 0', "mitigation grace.seconds = 0 is too small; give 1 or more"),
        ('kind = "grace"\nseconds = 0.5', "Expected `int`, got `float`"),
        ('kind = "grace"\nseconds = 5\nafter = "stop"', "grace after a stop, and nothing that stops liquidations"),
        ('kind = "pause"\nfrom_time = "x"\nuntil_time = "2020-01-01"', "mitigation pause = 'x' is no date"),
        ('kind = "pause"\nfrom_time = "2020-01-02"\nuntil_time = "2020-01-01"', "is not after from_time.*swap them"),
        ('kind = "price-band"\nmove = 10_000', "mitigation price-band.move = 10000; give basis points from 1 to 9999"),
        ('kind = "toxic-halt"\nimpact = 1', "mitigation toxic-halt.impact = 1 is too small; give 10000 or more"),
        ('kind = "size-tiers"\ntiers = []', "mitigation size-tiers without tiers"),
        ('kind = "size-tiers"\ntiers = [[5, 9000], [5, 9500]]', "the tiers do not rise"),
        ('kind = "size-tiers"\ntiers = [[5, 10500]]', "a health of 10500; .*lower the largest tier's threshold"),
        ('kind = "owner-trigger"\ntarget = 10_000', "target = 10000 is not above health = 10500"),
        ('kind = "owner-trigger"\ncost = 5', "cost with by = 'repay'"),
        ('kind = "isolated-margin"', "isolated-margin without a first block; give from_block"),
        ('kind = "reserve-fund"\nname = ""', "mitigation reserve-fund without a name"),
        ('kind = "throttle"\nseconds = 5\nmost_repaid = -1', "throttle.most_repaid = -1 is too small"),
        ('kind = "dynamic-bonus"\nleast = 500', "dynamic-bonus.least = 500 is no bonus; give 10000"),
    ],
    ids=range(20),
)
def test_what_makes_no_sense_is_one_line(text: str, error: str) -> None:
    with pytest.raises(ScenarioError, match=error) as caught:
        parse_scenario(f'[liquidators]\nkind = "competitive"\n[[mitigation]]\n{text}\n', "file.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mitigations", "error"),
    [
        ((ReserveFund(name="a"), ReserveFund(name="a")), "a name appears twice"),
        ((SocialisedLoss(), ReserveFund(name="a")), "reserve-fund after socialised-loss"),
        ((OwnerTrigger(), OwnerTrigger(by="sell")), "mitigation owner-trigger twice"),
    ],
    ids=["names", "order", "twice"],
)
def test_what_does_not_go_together(mitigations: tuple[Mitigation, ...], error: str) -> None:
    with pytest.raises(ScenarioError, match=error):
        Scenario(liquidators=Competitive(), mitigations=mitigations)
