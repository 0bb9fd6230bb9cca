"""Stress: the book of one moment carried on along many paths of shocked prices, each settled in exact integers by the
engine; stored as rows of the lake.

    from backtest import Lake
    from backtest.stress import find_suite, stress
    from backtest.sweep import Processes

    stress(Lake("data/lake"), "ethereum-core", find_suite("crashes"), Processes(8))

A path is a function of the seed, its case and its number: rows do not depend on who replays them, or in which order. A
stress that was stopped, or killed, continues where its last commit was.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from backtest.crashes import PricePath, find_crash
from backtest.errors import UserError, did_you_mean
from backtest.files import read_text
from backtest.foreign import shown
from backtest.lake import Lake
from backtest.model import AssetId
from backtest.replay import ENGINE_VERSION
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.proposal import power_of
from backtest.resources import resource
from backtest.result_tables import STRESSES
from backtest.results import Material
from backtest.scenario import Observed
from backtest.scenario.impact import PoolsDepth
from backtest.scenario.settled import settled
from backtest.shocks import Panel, StressCase, StressPath, Suite, fits_of, panel_of, parse_suite
from backtest.shocks.models import PER_MILLION, Filtered, NamedCrash, Recorded
from backtest.shocks.panel import columns
from backtest.shocks.statistics import table_of
from backtest.stress import moment, several
from backtest.stress.paths import Prepared, StressQuestion, ended, prepared_in, write_material
from backtest.stress.several import StressMarkets, markets_of
from backtest.stress.store import StressStore
from backtest.sweep import Executor, Serial
from backtest.sweep.worker import materials_in, pack
from backtest.tables import RULES_VERSION

__all__ = ["StressOutcome", "digest_of", "find_suite", "resolved", "stress", "suites"]

SHOWN = 400
"""Paths of a case that its fan and its statistics are of, at most."""
DAY = 86_400

Progress = Callable[[int, int, int], None]
"""Called with the number of paths settled, of all, and of those that failed."""


@dataclass(frozen=True, slots=True)
class StressOutcome:
    """What a call of ``stress`` did. ``failed``: reasons, one for each path or task that has no outcome."""

    stress_id: str
    paths: int
    replayed: int
    failed: tuple[str, ...]


def suites() -> list[Suite]:
    """Every suite that ships, by name."""
    return [parse_suite(read_text(file), file.name) for file in sorted(resource("stress").glob("*.toml"))]


def find_suite(name: str) -> Suite:
    """The suite that ships under this name, or the one of a TOML file."""
    if name.endswith(".toml") or "/" in name:
        return parse_suite(read_text(pathlib.Path(name)), pathlib.Path(name).name)
    known = {suite.name: suite for suite in suites()}
    if name not in known:
        raise UserError(f"there is no suite '{shown(name, 60)}'", did_you_mean(name[:60], known))
    return known[name]


def stress(
    lake: Lake,
    market: str,
    suite: Suite,
    executor: Executor | None = None,
    *,
    block: int | None = None,
    seed: int = 0,
    paths: int | None = None,
    retry: bool = False,
    progress: Progress | None = None,
) -> StressOutcome:
    """Replay what the lake lacks of a stress, and store it.

    Args:
        market: of several, which ``suite.scenario.joint`` names, the first.
        executor: who replays; this process by default.
        block: at whose end the book stands; None: the last of the history, or that all histories cover.
        paths: of each case that draws; None: the suite's number.
        retry: try again what failed in an earlier call; else it stays failed.

    Raises:
        UserError: the market's tables are missing or stale; the suite makes no sense for it. A path that fails raises
            nothing: it is a row.
    """
    lake.refresh()
    markets = markets_of(lake, market, suite)
    suite = _settled(suite, markets.name_of, paths)
    block, *others = blocks = markets.blocks(suite, block)
    panel = _panel(markets, blocks, suite)
    members = markets.asked(suite, blocks, panel.assets)
    planned = [suite.paths_of(case) if case.concerns(panel) else 0 for case in suite.cases]
    stress_id = suite.digest_with(
        market,
        lake.digest(market),
        str(block),
        str(seed),
        RULES_VERSION,
        ENGINE_VERSION,
        _digest(panel),
        *(lake.digest(name) for name in markets.names[1:]),
        *map(str, others),
    )
    store = StressStore(lake, market, stress_id)
    if retry:
        store.forget_failed()
    tasks = store.tasks(planned, retry=retry)
    total = sum(planned)
    settled_, replayed = total - sum(len(task.numbers) for task in tasks), 0
    if progress is not None:
        progress(settled_, total, 0)
    if tasks:
        by_name = fits_of(suite.cases, panel)
        fits = [by_name.get(case.name) for case in suite.cases]
        with tempfile.TemporaryDirectory(prefix="backtest-stress-") as folder:
            for place, name in enumerate(markets.names):
                pack(lake, name, Path(folder), place)
            grid = panel.assets, panel.step, panel.end
            asked = StressQuestion(suite=suite, block=block, seed=seed, panel=grid, members=members)
            write_material(Path(folder), asked, panel, fits)
            try:
                prepared = prepared_in(folder)
                store.describe(_described(prepared, planned, lake.digest(market)))
                if members and store.lacks("stress_contagion"):
                    store.describe({"stress_contagion": several.contagion_rows(prepared, markets)})
                if not members and store.lacks("stress_books"):  # what one book says by itself
                    timeline = markets.materials[0].timeline(suite.scenario.oracle_delay)
                    store.describe(_moment(prepared, timeline, planned, lake.digest(market), _digest(panel)))
                for done in (executor or Serial()).outcomes(tasks, folder):
                    count = store.add(done)
                    settled_, replayed = settled_ + count, replayed + count
                    if progress is not None:
                        progress(settled_, total, len(store.failed))
            finally:
                store.flush()  # stopped, too: what is done is kept
                prepared_in.cache_clear()
                materials_in.cache_clear()
    lake.refresh()
    return StressOutcome(stress_id, total, replayed, tuple(store.failed))


def digest_of(lake: Lake, market: str, stress_id: str) -> str:
    """SHA-256, hex, of what its paths came to, in order of case and number, and of what each of several markets did:
    the same input, seed and versions give the same.
    """
    found: list[str] = []
    for name, order in (("stress_paths", ("ordinal", "path")), ("stress_markets", ("ordinal", "path", "place"))):
        table = lake.read(f"results/{name}", market)
        table = table.filter(pc.equal(table["stress_id"], stress_id)).sort_by([(each, "ascending") for each in order])
        columns = [column for column in STRESSES[name].names if column != "stress_id"]
        found += map(str, zip(*(table[column].to_pylist() for column in columns), strict=True))
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def resolved(suite: Suite) -> Suite:
    """The suite with the paths of the crashes that it names."""
    return replace(suite, cases=tuple(_resolved(case, suite.horizon) for case in suite.cases))


def _resolved(case: StressCase, horizon: int) -> StressCase:
    model = case.prices
    if not isinstance(model, NamedCrash):
        return case
    path = find_crash(model.name).path
    if path is None:
        raise UserError(f"crash {model.name} has no price path", "name another one, or say what happens as events")
    return replace(
        case,
        prices=Recorded(points=deepest(path, horizon), assets=model.assets, scale=model.scale),
        source=case.source or path.source,
    )


def deepest(path: PricePath, horizon: int) -> tuple[tuple[int, int], ...]:
    """The stretch of a path, no longer than the horizon, in which its price moved most against who holds it (or, of a
    path that is stated of the debt, against who owes it): (seconds from its beginning, millionths of its beginning).
    """
    times, prices = path.times(), [float(price) for _, price in path.points]
    best, begin = 0.0, 0
    for start, price in enumerate(prices):
        stop = bisect_right(times, times[start] + horizon)
        worst = (max if path.inverted else min)(prices[start:stop])
        moved = abs(np.log(worst / price))
        if moved > best:
            best, begin = float(moved), start
    stop = bisect_right(times, times[begin] + horizon)
    return tuple(
        (times[place] - times[begin], max(1, round(prices[place] / prices[begin] * PER_MILLION)))
        for place in range(begin, stop)
    )


def _settled(suite: Suite, name_of: Callable[[str], str], paths: int | None) -> Suite:
    """As it is asked of a market, or of several; UserError where that makes no sense."""
    if isinstance(suite.scenario.liquidators, Observed):
        raise UserError("a stress by the liquidations that happened", "name liquidators that act, such as competitive")
    if suite.scenario.rates != "historical":
        raise UserError("a stress with recomputed interest", "leave rates out: over a day they move little")
    if paths is not None:
        suite = replace(suite, paths=paths)
    if any(isinstance(each.depth, PoolsDepth) for each in suite.scenario.impact.assets):
        raise UserError(
            "a stress whose prices answer as fetched pools would", "state the depth of impact.assets in another way"
        )
    return replace(resolved(suite), scenario=settled(suite.scenario, name_of))


def _panel(markets: StressMarkets, blocks: Sequence[int], suite: Suite) -> Panel:
    """Prices of every asset that has one at the block, and base fees, up to its time; of several markets each token's
    as the first that has it knows it, and the first one's fees and pools.
    """
    material, block = markets.materials[0], blocks[0]
    known = [_prices_of(each, own) for each, own in zip(markets.materials, blocks, strict=True)]
    prices = {label: known[place][asset] for label, place, asset in markets.labelled() if asset in known[place]}
    timeline = material.timeline(suite.scenario.oracle_delay)
    end = int(timeline.clock_at(timeline.last_known_block(block)).timestamp)
    headers = material.tables["blocks"]
    headers = headers.filter(pc.and_(pc.is_valid(headers["base_fee"]), pc.less_equal(headers["block_number"], block)))
    fees = headers["timestamp"].to_numpy(), headers["base_fee"].cast(pa.float64()).to_numpy(zero_copy_only=False)
    rows = suite.days * DAY // suite.step
    return panel_of(
        prices, step=suite.step, end=end, rows=rows, gas=fees, depth=_depths(material, block, end - rows * suite.step)
    )


def _prices_of(material: Material, block: int) -> dict[AssetId, tuple[Any, Any]]:
    """Times and prices, by asset that has one at the block."""
    table = material.tables["prices"]
    table = table.filter(pc.less_equal(table["block_number"], block))
    asset = table["asset_id"].to_numpy()
    time, price = table["timestamp"].to_numpy(), table["price"].cast(pa.float64()).to_numpy(zero_copy_only=False)
    found = {}
    for listed in material.market.assets:
        mine = asset == listed.id
        if mine.any() and np.isfinite(price[mine][-1]):
            found[AssetId(listed.id)] = (time[mine], price[mine])
    return found


def _depths(material: Material, block: int, since: int) -> tuple[Any, ...]:
    """Of each pool times (from the day before ``since`` on) and what a small move of its price takes: active liquidity
    times the root of the price, in units of its own.
    """
    table = material.tables["pool_events"]
    within = pc.and_(pc.less_equal(table["block_number"], block), pc.greater_equal(table["timestamp"], since - DAY))
    table = table.filter(pc.and_(within, pc.is_valid(table["sqrt_price"])))
    pool, time = table["pool_id"].to_numpy(), table["timestamp"].to_numpy()
    size = np.array([int(each) for each in table["liquidity"].to_pylist()], np.float64)
    root = np.array([_number(each) for each in table["sqrt_price"].to_pylist()], np.float64)
    return tuple((time[pool == each], (size * root)[pool == each]) for each in np.unique(pool).tolist())


def _number(value: Any) -> float:
    """Of a whole number, or of one that is stored big-endian."""
    return float(int.from_bytes(value, "big") if isinstance(value, bytes) else int(value))


def _digest(panel: Panel) -> str:
    """Of the history that models are fitted to."""
    found = hashlib.sha256(json.dumps([panel.assets, panel.step, panel.end]).encode())
    for part in (panel.returns, panel.gas, panel.depth):
        found.update(b"-" if part is None else part.tobytes())
    return found.hexdigest()


def _described(prepared: Prepared, planned: Sequence[int], digest: str) -> Mapping[str, list[dict[str, Any]]]:
    """The rows of every table of ``STRESSES`` but the paths."""
    suite, standing, panel = prepared.asked.suite, prepared.standing, prepared.panel
    collateral, debt, bad = several.totals(prepared)
    still, _ = ended(StressPath.still(suite.steps, len(panel.assets)), prepared)
    fan: list[dict[str, Any]] = []
    held: list[dict[str, Any]] = []
    for ordinal, (case, count) in enumerate(zip(suite.cases, planned, strict=True)):
        drawn = [prepared.path(ordinal, number).market for number in range(min(count, SHOWN))]
        if not drawn:
            continue
        fan += [{"ordinal": ordinal, **row} for row in _fan(panel, np.stack(drawn))]
        if case.prices.random:
            with np.errstate(divide="ignore"):
                returns = [np.diff(np.log(path), axis=0, prepend=0.0) for path in drawn]
            held += [
                {
                    "ordinal": ordinal,
                    "asset": one.asset,
                    "statistic": one.statistic,
                    "data": one.data,
                    "model": one.model,
                }
                for one in table_of(panel, returns)
            ]
    return {
        "stresses": [
            {
                "name": suite.name,
                "suite_version": suite.version,
                "suite": suite.canonical(),
                "block_number": prepared.asked.block,
                "timestamp": standing.timestamp,
                "seed": prepared.asked.seed,
                "steps": suite.steps,
                "step_seconds": suite.step,
                "collateral_base": collateral,
                "debt_base": debt,
                "bad_debt_base": bad,
                "still_bad_debt_base": still["bad_debt_base"],
                "still_repaid_base": still["repaid_base"],
                "notes": json.dumps(notes_of(prepared, planned)),
                "lake_digest": digest,
                "rules_version": RULES_VERSION,
                "engine_version": ENGINE_VERSION,
            }
        ],
        "stress_cases": [
            {
                "ordinal": ordinal,
                "name": case.name,
                "model": str(case.prices.__struct_config__.tag),
                "events": ", ".join(str(event.__struct_config__.tag) for event in case.events),
                "source": case.source or "; ".join([case.prices.source, *(event.source for event in case.events)]),
                "paths": count,
            }
            for ordinal, (case, count) in enumerate(zip(suite.cases, planned, strict=True))
        ],
        "stress_fan": fan,
        "stress_statistics": held,
        "stress_members": several.members_rows(prepared) if prepared.members else [],
    }


def _moment(
    prepared: Prepared, timeline: Timeline, planned: Sequence[int], *rest: str
) -> Mapping[str, list[dict[str, Any]]]:
    """Rows of what the book says before any path."""
    suite, asked, scenario = prepared.asked.suite, prepared.asked, prepared.asked.suite.scenario
    book = moment.under(prepared.standing.start.book, timeline, scenario)
    levels, depths = moment.map_rows(book, scenario)
    drawn = [str(each) for each in (prepared.standing.market.name, asked.block, asked.seed, *planned)]
    return {
        "stress_books": [
            {
                "borrowing_power_base": power_of(views_of(book)),
                "changes": moment.changes_of(scenario),
                "draws": moment.draws_of(suite, *drawn, RULES_VERSION, ENGINE_VERSION, *rest),
            }
        ],
        "stress_levels": levels,
        "stress_depths": depths,
        "stress_spread": moment.spread_rows(book),
    }


def _fan(panel: Panel, paths: np.ndarray) -> list[dict[str, Any]]:
    """Of every asset that moves on some path; ``paths``: paths x steps x assets."""
    found = []
    for column, asset in enumerate(panel.assets):
        own = paths[:, :, column]
        if np.ptp(own) == 0 and own.flat[0] == 1:
            continue
        levels = np.quantile(own, [0, 0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
        for step in range(own.shape[1]):
            names = ("lowest", "q05", "q25", "q50", "q75", "q95")
            found.append({"asset": asset, "step": step + 1, **dict(zip(names, levels[:, step].tolist(), strict=True))})
    return found


def notes_of(prepared: Prepared, planned: Sequence[int]) -> list[str]:
    """What the stress assumes, in sentences."""
    suite, panel = prepared.asked.suite, prepared.panel
    days = len(panel) * panel.step / DAY
    notes = [
        *several.said(prepared),
        "No user acts but suppliers who are told to leave, and interest goes on at the rates of the book's moment.",
        "Prices answer to what liquidators sell, as the scenario's impact says; the paths themselves hold no such sale."
        if suite.scenario.impact.assets
        else "Prices do not answer to liquidations: what is sold moves nothing.",
        f"Models are fitted to {days:.1f} days of the market's own oracle prices, on a grid of {panel.step} s; where"
        " the oracle speaks seldom they are calmer from step to step than the market was.",
    ]
    if unknown := [asset for asset, known in zip(panel.assets, panel.known.tolist(), strict=True) if not known]:
        notes.append(f"Models leave still what has no price all along: {', '.join(unknown)}.")
    if prepared.fee is None:
        notes.append("Base fees are not known: gas is that of the scenario.")
    elif panel.gas is None:
        notes.append("Base fees are not known all along: models leave gas as it is.")
    if panel.depth is None:
        notes.append("The history of depth is not known: models leave it as it is.")
    absent = [case.name for case, count in zip(suite.cases, planned, strict=True) if not count]
    if absent:
        notes.append(f"Cases that do not concern this market: {', '.join(absent)}.")
    for case, count in zip(suite.cases, planned, strict=True):
        for event in case.events if count else ():
            named = getattr(event, "assets", ())
            if named and not columns(panel, named):
                kind = event.__struct_config__.tag
                notes.append(f"{case.name}: {kind} changes nothing, the market has none of {', '.join(named)}.")
            elif event.unseen:
                notes.append(
                    f"{case.name}: losses are counted at the oracle's prices, which do not see all of it: what the"
                    " market would not pay for the collateral that is left is not among them."
                )
    for case, fit in zip(suite.cases, prepared.fits, strict=True):
        if isinstance(case.prices, Filtered) and fit is not None:
            rough = [
                asset
                for asset, own, fitted in zip(panel.assets, panel.returns.T, fit["filtered"].tolist(), strict=True)
                if not fitted and own.std() > 1e-7
            ]
            if rough:
                notes.append(f"{case.name}: no GARCH fits {', '.join(rough)}; their rows are drawn as they are.")
    return notes
