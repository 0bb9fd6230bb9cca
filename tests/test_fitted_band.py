"""Users who are fitted to a market stand in its bands once its lake keeps them, beside the stated responses."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest.errors import ScenarioError
from backtest.fitted import keep_fitted, kept_fitted, with_fitted
from backtest.lake import Lake
from backtest.propose import ProposalQuestion, propose
from backtest.protocols.registry import PROTOCOLS
from backtest.report.proposal import forms
from backtest.results import band_of
from backtest.scenario import FITTED, RESPONSES, Competitive, FittedUsers, Hazard, Scenario, Users
from tests.propose.market import lake_of_four
from tests.support.sketch_history import POOL

OFTEN = FittedUsers(
    step=3_600, hazards=(Hazard(act="repay", coefficients=(3_000_000,), sizes=(5_000,)),), source="hand"
)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    return lake_of_four(tmp_path / "lake")


def test_what_a_lake_keeps_is_what_a_scenario_takes(lake: Lake) -> None:
    asks = Scenario(liquidators=Competitive(), users=Users(response="fitted"))
    with pytest.raises(ScenarioError, match="the lake keeps no fitted users of sketch"):
        with_fitted(lake, "sketch", asks)
    assert kept_fitted(lake, "sketch") is None
    keep_fitted(lake, "sketch", OFTEN)
    assert kept_fitted(lake, "sketch") == OFTEN
    assert with_fitted(lake, "sketch", asks).users.fitted == OFTEN
    stated = Scenario(liquidators=Competitive())
    assert with_fitted(lake, "sketch", stated) == stated


def test_a_band_has_the_fitted_response_last_and_only_where_there_is_one() -> None:
    asks = Scenario(liquidators=Competitive(), name="x")
    assert [one.users.response for one in band_of(asks)] == list(RESPONSES)
    made = band_of(asks, OFTEN)
    assert [one.users.response for one in made] == [*RESPONSES, FITTED]
    assert [one.users.fitted for one in made] == [None, None, None, OFTEN]


@pytest.mark.slow
def test_a_proposal_tells_what_fitted_users_would_make_of_it(lake: Lake) -> None:
    """Its runs are those of the stated responses and one of the fitted, by name."""
    question = ProposalQuestion(("WETH.liquidation_threshold=7600",))
    assert FITTED not in forms.as_json(propose(lake, "sketch", question))
    keep_fitted(lake, "sketch", OFTEN)
    found = forms.as_json(propose(lake, "sketch", question))
    assert all(f'"{word}"' in found for word in (*RESPONSES, FITTED))
