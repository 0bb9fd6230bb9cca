"""Shocks: joint paths of prices, gas and depth, and what happens beside them; drawn by seed, fitted to data. Pure.

``models`` are price models and ``events`` what changes a path, each a frozen struct with its source; ``suite`` puts
them together; ``statistics`` holds what is drawn against the data.
"""

from backtest.shocks.panel import Panel, panel_of
from backtest.shocks.path import StressPath
from backtest.shocks.suite import StressCase, Suite, fits_of, parse_suite

__all__ = ["Panel", "StressCase", "StressPath", "Suite", "fits_of", "panel_of", "parse_suite"]
