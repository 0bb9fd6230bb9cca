"""Every way of competing says in words how searchers compete."""

from __future__ import annotations

from typing import get_args

import pytest

from backtest.scenario import Contest, LatencyRace, Oev, Participation, PriorityGas, SealedBid
from backtest.scenario.liquidators import Contested

SAID = {
    PriorityGas(): "5 searchers outbid each other in the open; losers pay 25 % of a call's gas",
    PriorityGas(searchers=2, revert_gas=125, cooperative=True): (
        "2 searchers outbid each other in the open; losers pay 1.25 % of a call's gas, and raise by the least step in"
        " turn"
    ),
    SealedBid(): (
        "5 searchers bid sealed to block builders, each by the equilibrium of evenly distributed private costs"
    ),
    Participation(): (
        "of 5 searchers a random number looks at a block (poisson with mean 1.78); alone one bids 0 %, several the"
        " second highest value"
    ),
    Participation(distribution="searchers", reserve=250): (
        "of 5 searchers a random number looks at a block (each by its own probability); alone one bids 2.5 %, several"
        " the second highest value"
    ),
    LatencyRace(race="softmax"): (
        "5 searchers race, first come first served, by softmax times; the order is of one opportunity, not of a whole"
        " block"
    ),
    Oev(coverage=9_050, delay=2): ("90.5 % of oracle updates are sold first; others wait 2 blocks where nobody bid"),
}


@pytest.mark.parametrize(("contest", "said"), SAID.items(), ids=map(repr, SAID))
def test_it_is_said(contest: Contest, said: str) -> None:
    assert contest.said == said


def test_none_is_left_out() -> None:
    assert {type(contest) for contest in SAID} == set(get_args(Contested))
