"""Named crashes: when, which markets, what was reported, and a model book along a price path that happened.

``catalogue`` reads the files of ``data/crashes``; ``book`` replays the model book; ``compare`` puts what replays say
beside what was reported, with the differences named.
"""

from backtest.crashes.book import Illustration, illustrated
from backtest.crashes.catalogue import (
    Crash,
    CrashWindow,
    ModelBook,
    PricePath,
    Reported,
    find_crash,
    parse_crash,
    shipped,
)
from backtest.crashes.compare import MEASURES, Ours, beside

__all__ = [
    "MEASURES",
    "Crash",
    "CrashWindow",
    "Illustration",
    "ModelBook",
    "Ours",
    "PricePath",
    "Reported",
    "beside",
    "find_crash",
    "illustrated",
    "parse_crash",
    "shipped",
]
