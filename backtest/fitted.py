"""How the borrowers of a market acted, as its lake keeps it (``backtest calibrate users``), and scenarios whose users
act so.
"""

from __future__ import annotations

import msgspec
import pyarrow as pa
from msgspec.structs import replace

from backtest.errors import LakeError, ScenarioError
from backtest.lake import Lake
from backtest.replay import ENGINE_VERSION
from backtest.result_tables import ENSEMBLES
from backtest.scenario import FITTED, FittedUsers, Scenario
from backtest.tables import RULES_VERSION

_DATASET = "results/fitted_users"


def keep_fitted(lake: Lake, market: str, fitted: FittedUsers) -> None:
    """Keep it in place of what was kept before."""
    row = {
        "market": market,
        "source": fitted.source,
        "step": fitted.step,
        "fitted": msgspec.json.encode(fitted).decode(),
        "lake_digest": lake.digest(market),
        "rules_version": RULES_VERSION,
        "engine_version": ENGINE_VERSION,
    }
    with lake.writer() as writer:
        kept = pa.Table.from_pylist([row], ENSEMBLES["fitted_users"])
        writer.replace(market, _DATASET, [(_DATASET, kept)], stamp=RULES_VERSION)
    lake.refresh()


def kept_fitted(lake: Lake, market: str) -> FittedUsers | None:
    """What ``keep_fitted`` kept last, whose source says so where it was fitted on other data than the lake holds now;
    None: nothing yet.
    """
    held = lake.read(_DATASET, market).to_pylist()
    if not held:
        return None
    [last] = held
    try:
        fitted = msgspec.json.decode(last["fitted"], type=FittedUsers)
    except msgspec.ValidationError:
        raise LakeError(
            f"the fitted users of {market} were kept by another version of the program",
            "fit them again: backtest calibrate users",
        ) from None
    if last["lake_digest"] == lake.digest(market):
        return fitted
    return replace(fitted, source=f"{fitted.source} (on other data than the lake holds now: fit anew)")


def with_fitted(lake: Lake, market: str, scenario: Scenario) -> Scenario:
    """The scenario with the hazards that it asks for by ``response = "fitted"`` alone. ScenarioError where the lake
    keeps none.
    """
    if scenario.users.response != FITTED or scenario.users.fitted is not None:
        return scenario
    fitted = kept_fitted(lake, market)
    if fitted is None:
        raise ScenarioError(
            f"users.response = 'fitted', and the lake keeps no fitted users of {market}",
            f"fit them: backtest calibrate users --lake {lake.path} --market {market}",
        )
    return replace(scenario, users=replace(scenario.users, fitted=fitted))
