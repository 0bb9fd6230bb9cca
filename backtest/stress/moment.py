"""What a stress says of its book before any path: what all may owe, where falls of prices rupture, and what the fall of
one asset does to the others. By the exact book, under the scenario's parameters.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from msgspec.structs import replace

from backtest.cascade import cascades_of
from backtest.model import AssetId
from backtest.protocols.book import Book
from backtest.protocols.mechanism import ProtocolSpread
from backtest.replay.mechanisms import mechanism_of
from backtest.replay.response import PriceResponse
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.frictionless import liquidated_at_once
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.proposal import changed, moved, standings
from backtest.scenario import Scenario
from backtest.shocks import Suite
from backtest.units import BPS, RAY, WAD

LEVELS = range(0, 6_250, 250)
"""Falls of the cascade map, basis points."""
FALLS = (3_000, 5_000)
"""Falls of one asset alone."""
ASSETS = 12
"""Assets that fall alone, at most: those of which most is held behind debt."""


def under(book: Book[Any], timeline: Timeline, scenario: Scenario) -> Book[Any]:
    """The book under a scenario's parameters."""
    return changed(book, timeline, scenario.overrides) if scenario.overrides else book


def changes_of(scenario: Scenario) -> str:
    """What a scenario changes, in a few words: parameters, and what is switched on."""
    said = []
    for override in scenario.overrides:
        of = f"emode{override.emode}" if isinstance(override.emode, int) else override.asset
        name = f"{of}.{override.parameter}" if of else override.parameter
        said.append(f"{name}={override.value}" if override.value is not None else f"{name}{override.change:+}")
    said += [str(each.__struct_config__.tag) for each in scenario.mitigations]
    return ", ".join(said)


def draws_of(suite: Suite, *rest: str) -> str:
    """The same for stresses whose paths have the same prices, whatever their scenarios: a hash of the suite without
    its own, and of ``rest``.
    """
    return replace(suite, name="-", description="", scenario=Scenario(name="-")).digest_with(*rest)[:16]


def map_rows(book: Book[Any], scenario: Scenario) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of ``stress_levels`` and ``stress_depths``; none where no price answers."""
    if not scenario.impact.assets:
        return [], []
    response = PriceResponse(replace(scenario.impact, netting="none"), [book.market], ())
    levels, depths = [], []
    for found in cascades_of(book, response, LEVELS):
        levels += [
            {
                "asset": found.symbol,
                "fall": _fall(level.left),
                "accounts": level.sold.accounts,
                "repaid_base": level.sold.repaid_base,
                "sold": level.sold.amount / found.unit,
                "answered": (RAY - level.answered) * BPS / RAY,
                "slope": level.slope,
            }
            for level in found.levels
        ]
        rupture = None if found.rupture is None else _fall(found.rupture.left)
        depths.append(
            {"asset": found.symbol, "depth": found.depth, "rupture_fall": rupture, "critical": found.critical}
        )
    return levels, depths


def _fall(left: int) -> int:
    return (RAY - left) * BPS // RAY


def spread_rows(book: Book[Any]) -> list[dict[str, Any]]:
    """Rows of ``stress_spread``: of which assets something is sold, or goes bad, where one falls alone.

    Liquidators come at once and pay nothing, where the protocol's liquidations are settled at once; else nobody acts,
    nothing is sold, and bad debt is what is owed beyond its account's collateral.
    """
    held = Counter[AssetId]()
    for one in standings(views_of(book)):
        if one.debt_base:
            for each in book.protocol.holdings(book.state, one.account, book.now):
                if each.collateral and each.asset in book.oracle:
                    held[each.asset] += book.value_down(each.asset, each.collateral)
    label, found = book.market.label, []
    for fallen in sorted(held, key=lambda asset: (-held[asset], asset))[:ASSETS]:
        for fall in FALLS:
            sold, bad = _fallen(book, fallen, fall)
            found += [
                {
                    "fallen": label(fallen),
                    "fall": fall,
                    "asset": label(asset),
                    "sold_base": sold[asset],
                    "bad_debt_base": bad[asset],
                }
                for asset in sorted({*sold, *bad})
                if sold[asset] or bad[asset]
            ]
    return found


def _fallen(book: Book[Any], asset: AssetId, fall: int) -> tuple[Counter[AssetId], Counter[AssetId]]:
    """Collateral that is sold, and debt that goes bad, by asset and in base units. Debt beyond the collateral of its
    account is bad in each of its assets by their shares of it, rounded down.
    """
    trial = moved(book.copy(), {asset: (BPS - fall) * WAD // BPS})
    sold, bad = Counter[AssetId](), Counter[AssetId]()
    if type(mechanism_of(book.protocol)) is ProtocolSpread:
        taken = liquidated_at_once(trial, [one.account for one in standings(views_of(trial), unsafe=True)])
        bad += taken.lost
        sold += Counter({each: trial.value_down(each, amount) for each, amount in taken.seized.items()})
    for one in standings(views_of(trial)):
        if one.debt_base > one.collateral_base:
            short = one.debt_base - one.collateral_base
            for each in book.protocol.holdings(trial.state, one.account, trial.now):
                if each.debt and each.asset in trial.oracle:
                    bad[each.asset] += short * trial.value_down(each.asset, each.debt) // one.debt_base
    return sold, bad
