"""Runs: a market of a lake replayed under a scenario, stored beside its history, append-only.

A run id is a hash of what decides the outcome: canonical scenario, market, the lake's content, versions of the rules
and of the engine. The same run again is read from the lake, not replayed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from backtest import runs
from backtest.errors import LakeError, ScenarioError, UserError
from backtest.fitted import kept_fitted, with_fitted
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.model import Asset, AssetId, Market, Pool, PoolId
from backtest.outcome import notes_of, tables_of
from backtest.prices.imported import DERIVED, IN_SAMPLE, PROXY, delayed_prices, follows_market
from backtest.protocols.interface import State
from backtest.protocols.registry import protocol_named
from backtest.reconstruct import stamp
from backtest.replay import ENGINE_VERSION
from backtest.replay.competition.gas import NO_FEES, BaseFees
from backtest.replay.engine import Progress, refuse_joint, replay
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse, Sold
from backtest.replay.shortcuts.common_start import Start, start_of
from backtest.replay.timeline import Timeline
from backtest.result_tables import RUN_TABLES, rows_digest
from backtest.scenario import FITTED, RESPONSES, SCENARIO_VERSION, FittedUsers, Observed, ProtocolsOwn, Scenario, draws
from backtest.scenario.settled import settled
from backtest.tables import CANONICAL, RULES_VERSION

SAMPLES = 200
"""Most blocks at which totals are taken,"""
VIEWS = 400_000
"""and about how many accounts are valued for them in all."""
_REPLAYED = (
    "events",
    "blocks",
    "position_events",
    "setting_events",
    "indexes",
    "prices",
    "market_prices",
    "pool_events",
    "params",
    "liquidations",
    "deficits",
)


@dataclass(frozen=True, slots=True)
class Run:
    """A stored run. ``tables`` by name as in ``backtest.result_tables``; ``notes`` are its assumptions and warnings;
    ``replayed`` is false where the lake held it already."""

    run_id: str
    tables: Mapping[str, pa.Table]
    notes: tuple[str, ...]
    replayed: bool

    @property
    def summary(self) -> dict[str, Any]:
        """The row of ``runs``."""
        row: dict[str, Any] = self.tables["runs"].to_pylist()[0]
        return row

    @property
    def digest(self) -> str:
        """Of its rows (``result_tables.rows_digest``): the same input, seed and versions give the same."""
        return rows_digest(self.tables)


@dataclass(frozen=True, slots=True)
class Material:
    """All that replays of one market need, loaded once and shared by them: its canonical tables, and a history for each
    oracle delay asked for.
    """

    config: MarketConfig
    digest: str
    market: Market
    tables: Mapping[str, pa.Table]
    fitted: FittedUsers | None = None
    """How the market's borrowers acted, as its lake keeps it; None: not fitted."""
    _timelines: dict[int | None, Timeline] = field(default_factory=dict)
    _starts: dict[tuple[object, ...], Start[Any]] = field(default_factory=dict)
    _netted: dict[str, Sequence[Sold]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: MarketConfig, digest: str, tables: Mapping[str, pa.Table], where: str = "") -> Material:
        """From the canonical tables of ``read_material``; ``where`` names their lake in errors."""
        return cls(config, digest, _market_of(config, tables, where), tables)

    def timeline(self, oracle_delay: int | None = None) -> Timeline:
        """The market's history, made once; under another delay of its oracle (seconds) where one is given."""
        if oracle_delay not in self._timelines:
            self._timelines[oracle_delay] = _timeline_of(self.config, self.tables, oracle_delay)
        return self._timelines[oracle_delay]

    def base_fees(self) -> BaseFees:
        """The base fees of the market's blocks, as far as their headers say them."""
        blocks = self.tables["blocks"]
        known = blocks.filter(pc.is_valid(blocks["base_fee"])).sort_by("timestamp")
        return BaseFees(known["timestamp"].to_pylist(), [int(fee) for fee in known["base_fee"].to_pylist()])

    def fees_for(self, scenario: Scenario) -> BaseFees:
        """The base fees that a scenario asks for: none where gas costs nothing."""
        return NO_FEES if scenario.costs.gas is None else self.base_fees()

    def samples(self, most: int = SAMPLES) -> int:
        """At how many blocks totals are taken, ``most`` at the most; fewer in markets of many accounts."""
        return min(most, max(12, VIEWS // max(1, len(self.market.accounts))))

    def start(self, scenario: Scenario) -> Start[Any] | None:
        """History up to the scenario's first block, made once for all scenarios that change nothing before it; None
        where this one may.
        """
        first, delay = scenario.from_block, scenario.oracle_delay
        early = any(
            override.from_time is not None or override.from_block < (first or 0) for override in scenario.overrides
        )
        alone = scenario.rates != "historical" or bool(scenario.impact.assets)
        if not first or early or alone or isinstance(scenario.liquidators, Observed):
            return None
        key = (first, delay, scenario.users)
        if key not in self._starts:
            protocol = protocol_named(self.config.protocol)
            self._starts[key] = start_of(protocol, self.market, self.timeline(delay), scenario)
        return self._starts[key]

    def response(self, scenario: Scenario) -> PriceResponse | None:
        """Prices that answer to sales as a settled scenario says; None where they do not. What is netted out is
        replayed once for all scenarios that net out the same. ScenarioError where the words do not fit the market.
        """
        terms = scenario.impact
        if not terms.assets:
            return None
        netted: Sequence[Sold] | None = ()
        if terms.netting != "none":
            against = baseline_of(scenario) if terms.netting == "baseline" else history_of(scenario)
            key = against.canonical()
            if key == scenario.canonical():
                netted = None
            else:
                if key not in self._netted:
                    alone = PriceResponse(terms, [self.market])
                    self._replay(against, alone)
                    self._netted[key] = tuple(alone.sales)
                netted = self._netted[key]
        return PriceResponse(terms, [self.market], netted)

    def _replay(self, scenario: Scenario, response: PriceResponse) -> None:
        fees, protocol = self.fees_for(scenario), protocol_named(self.config.protocol)
        timeline = self.timeline(scenario.oracle_delay)
        replay(protocol, self.market, timeline, scenario, base_fees=fees, response=response)


def run(
    lake: Lake, market: str, scenario: Scenario, *, samples: int = SAMPLES, progress: Progress | None = None
) -> Run:
    """Replay ``market`` under ``scenario`` and store the run; read it where it is stored already.

    Args:
        samples: most blocks at which totals are taken; fewer in markets of many accounts. Not part of the run id.
        progress: called with the number of events replayed so far, and of all.

    Raises:
        UserError: there are no canonical tables, or stale ones; the scenario does not fit the market; no rules cover
            its history.
    """
    [made] = run_all(lake, market, [scenario], samples=samples, progress=progress)
    return made


def run_all(
    lake: Lake,
    market: str,
    scenarios: Sequence[Scenario],
    *,
    samples: int = SAMPLES,
    progress: Progress | None = None,
    renamed: Collection[str] | None = None,
) -> Iterator[Run]:
    """``run`` of each scenario, one after another: what they share is loaded and replayed once.

    ``renamed``: names that a run which is stored under another takes; None for those of all scenarios. A name that
    another run of the market has gets the first digits of the run's id behind it.
    """
    require_current(lake, market)
    material: Material | None = None
    known = load_market(lake, market)
    for scenario in [settled(with_fitted(lake, market, scenario), known.name_of) for scenario in scenarios]:
        stored = stored_run(lake, market, run_id_of(scenario, market, lake.digest(market)))
        if stored is None:
            material = material or load_material(lake, market)
            start = material.start(scenario) if len(scenarios) > 1 else None
            stored = keep(lake, market, replayed(material, scenario, samples=samples, start=start, progress=progress))
        elif renamed is None or scenario.name in renamed:
            stored = _under(lake, market, stored, scenario.name)
        yield stored


def _under(lake: Lake, market: str, run: Run, name: str) -> Run:
    """A stored run under the name that it is asked for by."""
    if run.summary["name"] in (name, f"{name} ({run.run_id[:8]})"):
        return run
    row = runs.named(run.tables["runs"], [runs.take(lake, market, run.run_id, name)])
    return Run(run.run_id, _Kept(lake, market, run.run_id, row), run.notes, replayed=False)


def keep(lake: Lake, market: str, made: Run, beside: Mapping[str, pa.Table] = MappingProxyType({})) -> Run:
    """Store a run, with rows of other result tables ``beside`` it, unless another process did meanwhile: then that
    one.
    """
    with lake.writer() as writer:  # refreshes the lake
        again = stored_run(lake, market, made.run_id)
        if again is None:
            named = runs.apart(lake, market, made.tables["runs"])
            made = Run(made.run_id, {**made.tables, "runs": named}, made.notes, made.replayed)
            rows = {**made.tables, **beside}
            writer.append_all(market, {f"results/{name}": table for name, table in rows.items()}, stamp=RULES_VERSION)
    return made if again is None else again


def replayed(
    material: Material,
    scenario: Scenario,
    *,
    samples: int = SAMPLES,
    start: Start[Any] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Replay a scenario, without a lake: nothing is looked up or stored. Arguments and errors as those of ``run``.

    ``start``: the material's for this scenario, where many go on from it; the same result.
    """
    market = material.market
    scenario = settled(scenario, market.name_of)
    protocol = protocol_named(material.config.protocol)
    timeline, fees = material.timeline(scenario.oracle_delay), material.fees_for(scenario)
    most = material.samples(samples)
    outcome = replay(
        protocol,
        market,
        timeline,
        scenario,
        samples=most,
        start=start,
        base_fees=fees,
        response=material.response(scenario),
        progress=progress,
    )
    return run_of(material, outcome, scenario, run_id_of(scenario, market.name, material.digest))


def run_of(
    material: Material,
    outcome: Replay[State],
    scenario: Scenario,
    run_id: str,
    *,
    asked: Scenario | None = None,
    notes: Sequence[str] = (),
) -> Run:
    """What a run keeps of an outcome. ``asked``: the scenario that it is stored under, where this one is a part of it;
    ``notes``: more of what its numbers rest on.
    """
    config = material.config
    inexact, proxies = _prices(material, outcome, delayed=scenario.oracle_delay is not None)
    told = (
        *notes,
        *notes_of(outcome, scenario, config, protocol_named(config.protocol).assumptions),
        *inexact,
        *proxies,
        *_untold(material, outcome),
    )
    tables = tables_of(
        outcome,
        scenario if asked is None else asked,
        config,
        run_id,
        lake_digest=material.digest,
        proxy_prices=bool(proxies),
        notes=told,
    )
    return Run(run_id, tables, told, replayed=True)


def load_material(lake: Lake, market: str) -> Material:
    """What replays of a market need. LakeError where its tables are missing or stale."""
    made = Material.of(lake.market_config(market), lake.digest(market), read_material(lake, market), str(lake.path))
    return dataclasses.replace(made, fitted=kept_fitted(lake, market))


def read_material(lake: Lake, market: str) -> dict[str, pa.Table]:
    """The canonical tables that ``Material`` is made of, by name. LakeError where they are missing or stale."""
    require_current(lake, market)
    unread = {"transaction_hash", "address", "event", "market", "source", "amount0", "amount1"}
    read = {name: [column for column in CANONICAL[name].names if column not in unread] for name in _REPLAYED}
    read["market_prices"].append("source")
    return _fixed(lake, market) | {
        name: lake.read(f"canonical/{name}", market, columns=columns) for name, columns in read.items()
    }


def _fixed(lake: Lake, market: str) -> dict[str, pa.Table]:
    """What never changes about a market."""
    return {name: lake.read(f"canonical/{name}", market) for name in ("assets", "accounts", "pools")}


def run_id_of(scenario: Scenario, market: str, lake_digest: str) -> str:
    """SHA-256, hex, of a settled scenario (``scenario.settled``). Its name is not part of it."""
    refuse_joint(scenario)
    body = [scenario.canonical(), market, lake_digest, RULES_VERSION, ENGINE_VERSION]
    return hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()


def baseline_of(scenario: Scenario) -> Scenario:
    """What a scenario that alters the market is compared with: the same liquidators, users, rates and seed under
    history's parameters.
    """
    return replace(
        scenario,
        name=_responding("baseline", scenario),
        overrides=(),
        mitigations=(),
        allow_invalid=False,
        oracle_delay=None,
        mechanism=ProtocolsOwn(),
    )


def history_of(scenario: Scenario) -> Scenario:
    """History's own liquidations in the scenario's blocks, and the impact that it gives them."""
    return Scenario(
        impact=scenario.impact,
        users=scenario.users,
        rates=scenario.rates,
        from_block=scenario.from_block,
        to_block=scenario.to_block,
        seed=scenario.seed,
    )


def responding_by(scenario: Scenario, response: str, fitted: FittedUsers | None = None) -> Scenario:
    """The scenario under another response of users, ``fitted`` being how they act where that is asked for."""
    own = fitted if response == FITTED else None
    return replace(scenario, users=replace(scenario.users, response=response, fitted=own))


def band_of(scenario: Scenario, fitted: FittedUsers | None = None) -> tuple[Scenario, ...]:
    """The scenario under every stated response of users, frozen first, and beside them under the ``fitted`` one where
    it is given; where it has overrides, after all of their baselines.
    """
    base = scenario.name.removesuffix(f", {scenario.users.response}")
    fitted = scenario.users.fitted or fitted
    words = RESPONSES if fitted is None else (*RESPONSES, FITTED)
    each = [responding_by(scenario, response, fitted) for response in words]
    named = [replace(one, name=_responding(base, one)) for one in each]
    return (*(baseline_of(one) for one in named if one.alters), *named)


def repeats_of(scenario: Scenario, number: int) -> tuple[Scenario, ...]:
    """The scenario under ``number`` seeds from its own on; ScenarioError where it does not draw, or repeats nothing."""
    if number < 2:
        raise ScenarioError(f"{number} repeats", "give 2 or more: an interval needs several runs")
    if not draws(scenario.liquidators) and scenario.users.response != FITTED:
        kind = scenario.liquidators.__struct_config__.tag
        raise ScenarioError(
            f"repeats of '{kind}' liquidators, which draw nothing here: every seed gives the same", "leave them out"
        )
    name, first = scenario.name, scenario.seed
    return (
        scenario,
        *(replace(scenario, name=f"{name}, seed {seed}", seed=seed) for seed in range(first + 1, first + number)),
    )


def _responding(name: str, scenario: Scenario) -> str:
    response = scenario.users.response
    return name if response == "frozen" else f"{name}, {response}"


def scenario_of(row: Mapping[str, Any]) -> Scenario:
    """The scenario of a stored run, from its row of ``runs``. LakeError where a later version of the program wrote
    it.
    """
    body = json.loads(row["scenario"])
    version = body.pop("version")
    try:
        if version == SCENARIO_VERSION:
            return msgspec.convert({**body, "name": row["name"]}, Scenario)
    except msgspec.ValidationError:
        pass
    raise LakeError(f"run {row['run_id'][:12]} was stored by another version of the program", "replay it with this one")


def require_current(lake: Lake, market: str) -> None:
    """LakeError where the canonical tables are missing, damaged, or were made by other rules or from other raw data."""
    files = [file for file in lake.files(None, market) if file.dataset.startswith("canonical/")]
    remedy = f"run backtest reconstruct --lake {lake.path} --market {market}"
    if not files:
        raise LakeError(f"market '{market}' has no canonical tables", remedy)
    stale = sorted({file.stamp for file in files} - {stamp(lake, market)})
    if stale:
        rules = stale[0].partition(":")[0]
        why = (
            "the raw data changed since"
            if rules == RULES_VERSION
            else f"made by rules version {rules}, this is {RULES_VERSION}"
        )
        raise LakeError(f"the canonical tables of market '{market}' are stale ({why})", remedy)
    lake.provide(files)  # also where a stored run is all that will be read: it is served for sound data only


def load_market(lake: Lake, market: str) -> Market:
    """What is fixed about a market, from its description and canonical tables."""
    return _market_of(lake.market_config(market), _fixed(lake, market), str(lake.path))


def load_timeline(lake: Lake, market: str, *, oracle_delay: int | None = None) -> Timeline:
    """The canonical history of a market. LakeError where its tables are missing or stale.

    ``oracle_delay``: seconds from a market price to the oracle's instead of the protocol's own; UserError without
    market prices.
    """
    return _timeline_of(lake.market_config(market), read_material(lake, market), oracle_delay)


def _timeline_of(config: MarketConfig, tables: Mapping[str, pa.Table], oracle_delay: int | None) -> Timeline:
    replayed = {name: tables[name] for name in _REPLAYED}
    if oracle_delay is not None:
        prices, venue, blocks = (tables[name] for name in ("prices", "market_prices", "blocks"))
        venue = venue.filter(pc.is_null(venue["source"]))
        if not venue.num_rows:
            raise UserError(
                f"oracle_delay: market '{config.name}' has no market prices",
                "import them (backtest import candles), or leave it out",
            )
        if not follows_market(prices):
            raise UserError(
                f"oracle_delay: the oracle prices of market '{config.name}' are its own, not a venue's", "leave it out"
            )
        replayed["prices"] = delayed_prices(prices, venue, blocks, oracle_delay)
    return Timeline.of(
        replayed, price_digits=0 if config.price_decimals is None else config.price_decimals - config.base_decimals
    )


def _market_of(config: MarketConfig, tables: Mapping[str, pa.Table], where: str) -> Market:
    rows = tables["assets"].sort_by("asset_id").to_pylist()
    accounts = tables["accounts"].sort_by("account_id")
    ids = accounts["account_id"].to_pylist()
    if ids != list(range(len(ids))) or [a["asset_id"] for a in rows] != list(range(len(rows))):
        raise LakeError(
            f"account or asset ids of market '{config.name}' have gaps",
            f"run backtest reconstruct --lake {where} --market {config.name}",
        )
    return Market(
        name=config.name,
        protocol=config.protocol,
        chain_id=config.chain_id,
        assets=tuple(Asset(AssetId(a["asset_id"]), a["asset"], a["symbol"], a["decimals"]) for a in rows),
        accounts=tuple(accounts["account"].to_pylist()),
        base_decimals=config.base_decimals,
        price_decimals=config.price_decimals,
        pools=tuple(
            Pool(
                id=PoolId(p["pool_id"]),
                address=p["pool"],
                kind=p["kind"],
                tokens=(p["token0"], p["token1"]),
                decimals=(p["decimals0"], p["decimals1"]),
                assets=(p["asset0_id"], p["asset1_id"]),
                fee=p["fee"],
                spacing=p["tick_spacing"],
                prices=p["prices"],
            )
            for p in tables["pools"].sort_by("pool_id").to_pylist()
        ),
    )


def stored_run(lake: Lake, market: str, run_id: str) -> Run | None:
    """The run as the lake holds it, or None. Its tables are read as they are asked for: a lake keeps each in as many
    files as it has runs.
    """
    known = lake.read("results/runs", market)
    row = known.filter(pc.equal(known["run_id"], run_id))
    if not row.num_rows:
        return None
    notes = json.loads(row["notes"][0].as_py())
    return Run(run_id, _Kept(lake, market, run_id, row), tuple(notes), replayed=False)


class _Kept(Mapping[str, pa.Table]):
    """The tables of a run that a lake holds."""

    def __init__(self, lake: Lake, market: str, run_id: str, row: pa.Table) -> None:
        self._lake, self._market, self._run_id = lake, market, run_id
        self._read = {"runs": row}

    def __getitem__(self, name: str) -> pa.Table:
        if name not in RUN_TABLES:
            raise KeyError(name)
        if name not in self._read:
            table = self._lake.read(f"results/{name}", self._market)
            self._read[name] = table.filter(pc.equal(table["run_id"], self._run_id))
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(RUN_TABLES)

    def __len__(self) -> int:
        return len(RUN_TABLES)


def _prices(material: Material, outcome: Replay[State], *, delayed: bool) -> tuple[list[str], list[str]]:
    """Which assets' prices are not exactly known within the window, and whose are a proxy's: in sentences.
    ``delayed``: the oracle has another delay, under which derived prices are the venue's again.
    """
    market, table = material.market, material.tables["prices"]
    table = table.filter(pc.less_equal(table["block_number"], outcome.book.now.block_number))

    def counts(chosen: pa.Table) -> list[tuple[str, int]]:
        counted = {row["values"]: row["counts"] for row in pc.value_counts(chosen["asset_id"]).to_pylist()}
        return [(market.label(asset), number) for asset, number in sorted(counted.items())]

    method = table["method"].cast(pa.string())
    derived = pc.and_(pc.equal(method, DERIVED), not delayed)
    proxy = pc.and_(pc.is_in(method, value_set=pa.array([PROXY, DERIVED])), pc.invert(derived))
    inexact, proxies, in_sample = (
        counts(table.filter(pc.and_(pc.invert(table["exact"]), pc.invert(pc.or_(proxy, derived))))),
        counts(table.filter(proxy)),
        counts(table.filter(derived)),
    )
    return (
        [
            f"{symbol}: {number} prices are not known exactly at their position (read between oracle updates)."
            for symbol, number in inexact
        ],
        [
            f"{symbol}: {number} prices are a proxy: a venue's market prices in place of the oracle's. Levels and"
            " effects are rough; 'backtest validate' counts what the chain accepted outside the proxy's range."
            for symbol, number in proxies
        ]
        + [
            f"{symbol}: {number} oracle prices are {IN_SAMPLE}: from what this history's own actions and liquidations"
            " allow (backtest calibrate oracle), so that history is told better than any other period would be."
            for symbol, number in in_sample
        ],
    )


def _untold(material: Material, outcome: Replay[State]) -> list[str]:
    """Whose pools told no market price in a part of the window: in sentences."""
    table = material.tables["market_prices"]
    table = table.filter(pc.is_valid(table["source"]))
    first, last = outcome.from_clock.timestamp, outcome.book.now.timestamp
    sentences = []
    for asset in sorted(pc.unique(table["asset_id"]).to_pylist()):
        rows = table.filter(pc.equal(table["asset_id"], asset))
        steps = np.concatenate([[first], np.clip(rows["timestamp"].to_numpy(), first, last), [last]])
        told = np.concatenate([[False], pc.is_valid(rows["price"]).to_numpy()])
        if seconds := int(np.diff(steps)[~told].sum()):
            share = seconds / (last - first)
            sentences.append(
                f"{material.market.label(asset)}: no pool told a market price in {share:.1%} of the window; the"
                " oracle's stands in."
            )
    return sentences
