"""On-chain liquidation backtester: fetch, reconstruct, replay, in exact integers.

    from backtest import Competitive, Lake, Scenario, run

    lake = Lake("data/lake")
    run(lake, "ethereum-core", Scenario(name="baseline", liquidators=Competitive()))
    lake.sql("SELECT * FROM run_summary").df()

The names below are imported on first use, so that ``import backtest`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backtest.account import account_at as account_at
    from backtest.errors import UserError as UserError
    from backtest.lake import Lake as Lake
    from backtest.markets import MarketConfig as MarketConfig
    from backtest.markets import parse_market as parse_market
    from backtest.report import write_report as write_report
    from backtest.results import run as run
    from backtest.scenario import Competitive as Competitive
    from backtest.scenario import Observed as Observed
    from backtest.scenario import Override as Override
    from backtest.scenario import Scenario as Scenario

_HOMES = {
    "Competitive": "backtest.scenario",
    "Lake": "backtest.lake",
    "MarketConfig": "backtest.markets",
    "Observed": "backtest.scenario",
    "Override": "backtest.scenario",
    "Scenario": "backtest.scenario",
    "UserError": "backtest.errors",
    "account_at": "backtest.account",
    "parse_market": "backtest.markets",
    "run": "backtest.results",
    "write_report": "backtest.report",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("backtest.version").VERSION
    if name not in _HOMES:
        raise AttributeError(f"module 'backtest' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*_HOMES, "__version__"]
