"""What of a scenario of several markets holds in one of them, in its own units."""

from __future__ import annotations

from fractions import Fraction

import pytest

from backtest.errors import ScenarioError
from backtest.scenario import Competitive, Joint, Scenario
from backtest.scenario.joint import own, unmet
from backtest.scenario.mitigations import DepthCap, Pause, ReserveFund, SizeTiers, Throttle

MITIGATIONS = (
    ReserveFund(name="umbrella", reserve=1_000),
    Throttle(most_repaid=1_001, seconds=60),
    SizeTiers(tiers=((500, 9_000), (900, 9_500))),
    DepthCap(asset="WETH", depth_base=8_000),
    Pause(from_time="2020-03-12", until_time="2020-03-13", asset="DAI"),
)
SCENARIO = Scenario(liquidators=Competitive(), joint=Joint(markets=("one", "two")), mitigations=MITIGATIONS)


def test_amounts_of_mitigations_are_in_the_units_of_each_market() -> None:
    """A base unit of the second market is four of the first's; the second has no DAI to pause."""
    part = own(SCENARIO, "two", lambda name: name == "WETH", {}, Fraction(4), (None, None))
    assert part.mitigations == (
        ReserveFund(name="umbrella", reserve=250),
        Throttle(most_repaid=251, seconds=60),  # rounded up
        SizeTiers(tiers=((125, 9_000), (225, 9_500))),
        DepthCap(asset="WETH", depth_base=2_000),
    )
    assert own(SCENARIO, "one", lambda name: True, {}, Fraction(1), (None, None)).mitigations == MITIGATIONS


def test_a_mitigation_of_an_asset_that_no_market_has() -> None:
    with pytest.raises(ScenarioError, match="mitigation pause: 'DAI' is no asset of these markets"):
        unmet(SCENARIO, {"one": (lambda name: name == "WETH", {}), "two": (lambda name: name == "WETH", {})})
