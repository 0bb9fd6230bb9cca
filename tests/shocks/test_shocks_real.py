"""Models against November 2022: what docs/stress.md shows, with bounds stated here."""

from __future__ import annotations

import pytest

from tests.docs import shocks

pytestmark = pytest.mark.slow  # fits and days of each model


def test_models_of_november_2022_are_like_it() -> None:
    """Deviation of each asset within a quarter (400 days of returns with a tail index of two tell it no better);
    magnitudes that cluster, and falls within half an hour as large as those that happened, of the models that claim
    them; dependence in the tail of all but jumps at least half of the data's.
    """
    of = shocks.panel()
    for name, model in shocks.MODELS.items():
        found = shocks.statistics(of, model)
        for asset in shocks.ASSETS:
            told = {statistic: found[asset, statistic] for statistic in shocks.SHOWN}
            data, drawn = told["deviation"]
            assert data is not None
            assert drawn == pytest.approx(data, rel=0.25), (name, asset)
            if name in ("filtered", "bootstrap", "history"):
                data, drawn = told["clustering"]
                assert data is not None
                assert drawn == pytest.approx(data, abs=0.15), (name, asset)
                data, drawn = told["fall_half_hour_most"]
                assert data is not None
                assert drawn is not None
                assert drawn > 0.9 * data, (name, asset)
            if name != "jumps" and asset != "BTC":
                data, drawn = told["tail_dependence"]
                assert data is not None
                assert drawn is not None
                assert drawn > data / 2, (name, asset)
