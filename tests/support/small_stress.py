"""A small stress of the bundled sample: quick to replay, and every kind of thing in it."""

from __future__ import annotations

from msgspec.structs import replace

from backtest.scenario.impact import AssetImpact, ConstantProductDepth, Impact
from backtest.shocks import Suite, parse_suite

MARKET, BLOCK = "sample-crash", 150
TEXT = """
name = "small"
version = 1
horizon = 7200
paths = 6

[[cases]]
name = "bootstrap, doubled"
prices = { model = "history", scale = 20000 }

[[cases]]
name = "peg"
prices = { model = "regimes" }
events = [
  { event = "peg-break", assets = ["wstETH"], to = [6000, 9000], oracle = "hard-coded" },
  { event = "peg-break", assets = ["CRV"], to = [5000, 5000] },
  { event = "outage", at = [0, 1800], lasts = [600, 3600] },
]

[[cases]]
name = "a half in an hour"
prices = { model = "recorded", points = [[3600, 500000]] }

[[cases]]
name = "elsewhere"
needs = ["CRV"]
"""


def small_suite(*, answers: bool = False) -> Suite:
    """``answers``: what is sold of WETH and wstETH moves their prices."""
    suite = parse_suite(TEXT, "small.toml")
    if not answers:
        return suite
    assets = tuple(
        AssetImpact(asset=asset, depth=ConstantProductDepth(reserve=5_000), half_life=3_600, measured="an assumption")
        for asset in ("WETH", "wstETH")
    )
    return replace(suite, scenario=replace(suite.scenario, impact=Impact(netting="none", assets=assets)))
