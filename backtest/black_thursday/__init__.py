"""Black Thursday, 12 March 2020, as an illustration: the day's ETH prices and gas, Maker's rules of that day, and
vaults and keepers that are
assumptions. Nothing is fitted to the outcome: the day's figures (``OUTCOME``) are printed beside the model's and used
nowhere.

``day`` makes the market from a price path, a book of vaults from a stated distribution, and keepers from a stated
distribution of gas caps; ``grid`` replays it over the knobs and sums up. Pure: files are the command line's (``backtest
illustrate``).
"""

from backtest.black_thursday.day import OUTCOME, RULES_1_0, RULES_2_0, Gwei, Keepers, Paths, Vaults
from backtest.black_thursday.grid import (
    Cell,
    CellSummary,
    Gases,
    GridRun,
    GridTask,
    Mean,
    cells,
    perform,
    region,
    summarised,
)

__all__ = [
    "OUTCOME",
    "RULES_1_0",
    "RULES_2_0",
    "Cell",
    "CellSummary",
    "Gases",
    "GridRun",
    "GridTask",
    "Gwei",
    "Keepers",
    "Mean",
    "Paths",
    "Vaults",
    "cells",
    "perform",
    "region",
    "summarised",
]
