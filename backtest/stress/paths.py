"""Paths of a suite replayed in whatever process does it: from a folder of material, the same wherever that is."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from backtest.model import AssetId
from backtest.protocols.registry import protocol_named
from backtest.replay.competition.gas import NO_FEES, BaseFees
from backtest.replay.joint import purse_of, replay_jointly
from backtest.replay.record import Horizon, Replay
from backtest.replay.response import PriceResponse
from backtest.replay.what_if.ahead import SPACE, Lying, Prices, StandingBook, Withdrawal, scaled_down, standing
from backtest.result_tables import STRESSES, as_table
from backtest.results import Material
from backtest.scenario import Competitive, Scenario
from backtest.shocks import Panel, StressPath, Suite
from backtest.shocks.models import Fit
from backtest.stress.runs import Leaving, unpaid_rows
from backtest.stress.selling import selling_of
from backtest.sweep.worker import VERSIONS, Done, materials_in
from backtest.units import BPS

_ASKED, _ARRAYS = "stress.json", "stress.npz"


class StressQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What a stress is of; ``panel`` are the assets, the step and the end of the panel."""

    suite: Suite
    block: int
    seed: int
    panel: tuple[tuple[str, ...], int, int]
    members: tuple[StressMember, ...] = ()


class StressMember(msgspec.Struct, frozen=True, kw_only=True):
    """One of several markets that are stressed together.

    ``scenario``: what of the suite's holds in it; ``worth``: as that of ``joint.JointMember``, a fraction; ``columns``:
    by column of the panel the asset here, None where it has none; ``currency``: the column that its base currency is,
    where that is not the first market's; ``claims``: asset, market, token (``replay.joint.JointPart``).
    """

    block: int
    scenario: Scenario
    worth: tuple[int, int]
    columns: tuple[int | None, ...]
    currency: int | None
    claims: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that paths need: the book that stands, the panel and the fits of the cases (None: one that does not concern
    the market). ``assets`` are the panel's columns as the market numbers them, None for one that it does not have;
    ``fee`` is the base fee of the moment. ``members``: of several markets each one by itself, the first among them.
    """

    asked: StressQuestion
    standing: StandingBook[Any]
    panel: Panel
    fits: tuple[Fit | None, ...]
    assets: tuple[AssetId | None, ...]
    fee: int | None
    members: tuple[Prepared, ...] = ()
    member: StressMember | None = None
    backs: bool = False
    """Whether another of the markets has claims on its deposits."""

    def path(self, case: int, number: int) -> StressPath:
        """As it is drawn."""
        suite, fit = self.asked.suite, self.fits[case]
        assert fit is not None
        return suite.cases[case].path(fit, self.panel, suite.oracle, self.asked.seed, number, suite.steps)


@dataclass(frozen=True, slots=True)
class PathTask:
    """Some paths of one case, replayed from the material in a folder. ``versions`` are those of the program that
    asks.
    """

    run_id: str
    stress_id: str
    case: int
    numbers: tuple[int, ...]
    versions: tuple[str, str, str] = VERSIONS

    def perform(self, folder: str) -> Done:
        """Their rows. A path that fails is a row with its reason."""
        if self.versions != VERSIONS:
            theirs, ours = "/".join(self.versions), "/".join(VERSIONS)
            return Done(self.run_id, None, f"the worker runs version {ours}, the stress {theirs}: install the same")
        try:
            prepared = prepared_in(folder)
        except Exception as error:  # whatever a worker lacks
            return Done(self.run_id, None, " ".join(f"{type(error).__name__}: {error}".split()))
        rows = [self._row(prepared, number) for number in self.numbers]
        common = {"stress_id": self.stress_id, "market": prepared.standing.market.name, "ordinal": self.case}
        tables = {"stress_paths": as_table(STRESSES["stress_paths"], rows, common)}
        for name in BESIDE:
            beside = [each for row in rows for each in row.get(name, ())]
            if beside:
                tables[f"stress_{name}"] = as_table(STRESSES[f"stress_{name}"], beside, common)
        return Done(self.run_id, tables, None)

    def _row(self, prepared: Prepared, number: int) -> dict[str, Any]:
        try:
            return row_of(prepared, self.case, number)
        except Exception as error:  # it must not end the stress
            kind = "" if hasattr(error, "fix") else f"{type(error).__name__}: "
            nothing = dict.fromkeys(STRESSES["stress_paths"].names)
            return {**nothing, "path": number, "error": kind + " ".join(str(error).split())}


def row_of(prepared: Prepared, case: int, number: int) -> dict[str, Any]:
    """What one path came to: a row of ``stress_paths``, of several markets their sum; and under each name of ``BESIDE``
    the rows of that table.
    """
    path = prepared.path(case, number)
    lowest = np.exp(np.log(np.maximum(path.market, 1e-12)).min(axis=0))
    moved = int(np.argmin(lowest)) if len(lowest) else None
    figures, beside = ended(path, prepared)
    return {
        "path": number,
        **figures,
        "lowest_asset": None if moved is None else prepared.panel.assets[moved],
        "lowest_price": None if moved is None else round(float(lowest[moved]) * BPS),
        "gas_most": round(float(path.gas.max()) * BPS),
        "depth_least": round(float(path.depth.min()) * BPS),
        "error": None,
        **{name: [{"path": number, **row} for row in rows] for name, rows in beside.items()},
    }


def ended(path: StressPath, prepared: Prepared) -> tuple[dict[str, int], dict[str, list[dict[str, Any]]]]:
    """The figures of a path's end; of several markets their sum, each rounded up. And rows beside, by table (of
    ``BESIDE``): what each of several markets came to and comes to alone, what selling costs where the scenario states
    depth, what suppliers who leave get, and liquidations that could not be paid.
    """
    scenario = prepared.asked.suite.scenario
    owns = prepared.members or (prepared,)
    leaving = [Leaving(own.standing, _withdrawals(path, own), path.steps) for own in owns]
    if prepared.members:
        outcomes, response = together(path, prepared, leaving)
    else:
        response = prepared.standing.response(scenario)
        outcomes = [carried(path, prepared, response, leaving[0])]
    beside: dict[str, list[dict[str, Any]]] = {name: [] for name in BESIDE}
    if scenario.costs.slippage or scenario.impact.assets:
        beside["selling"] = [_selling(list(zip(outcomes, owns, strict=True)), path, response)]
    for found, own, left in zip(outcomes, owns, leaving, strict=True):
        name = own.standing.market.name
        beside["runs"] += [{"of_market": name, **row} for row in left.rows(found)]
        for row in unpaid_rows(found):
            beside["unpaid"].append({"of_market": name, **row, "value_base": in_first_up(own, row["value_base"])})
    if not prepared.members:
        return _figures(outcomes[0].horizons[0]), beside
    joint = [_figures(each.horizons[0], own) for each, own in zip(outcomes, owns, strict=True)]
    for place, (figures, own) in enumerate(zip(joint, owns, strict=True)):
        alone = _figures(carried(_seen(path, own), own).horizons[0], own)
        beside["markets"].append(
            {"place": place, "of_market": own.standing.market.name}
            | {name: figures[name] for name in OF_EACH}
            | {f"alone_{name}": alone[name] for name in OF_EACH}
        )
    return {name: sum(each[name] for each in joint) for name in joint[0]}, beside


def _selling(
    paths: Sequence[tuple[Replay[Any], Prepared]], path: StressPath, response: PriceResponse | None
) -> dict[str, int]:
    """What selling costs over the markets of a path, in base units of the first one, each rounded up."""
    total: Counter[str] = Counter()
    for each, own in paths:
        terms = harsher(own.asked.suite.scenario, path)
        found = selling_of(each, terms, own.standing.timestamp, response)
        for name in ("sold", "left", "unstated"):
            total[f"{name}_base"] += in_first_up(own, getattr(found, name))
    return dict(total)


OF_EACH = ("liquidations", "repaid_base", "bad_debt_base")
"""What is told of each market of several."""
BESIDE = ("markets", "selling", "runs", "unpaid")
"""Tables that have rows of a path beside that of ``stress_paths``, where there is something to tell."""


def _figures(end: Horizon, own: Prepared | None = None) -> dict[str, int]:
    """``own``: the market, where it is one of several: amounts are in the first one's base units then."""
    amounts = {
        "repaid_base": end.repaid_base,
        "seized_base": end.seized_base,
        "protocol_fee_base": end.protocol_fee_base,
        "bad_debt_base": end.realised_bad_debt_base + end.open_bad_debt_base,
        "realised_bad_debt_base": end.realised_bad_debt_base,
        "open_bad_debt_base": end.open_bad_debt_base,
        "peak_bad_debt_base": end.peak_bad_debt_base,
        "liquidatable_debt_base": end.totals.liquidatable_debt_base,
        "debt_base": end.totals.debt_base,
        "borrowing_power_base": end.totals.borrowing_power_base,
    }
    counts = {"liquidations": end.liquidations, "deficits": end.deficits}
    return counts | (amounts if own is None else {name: in_first_up(own, value) for name, value in amounts.items()})


def in_first_up(own: Prepared, base: int) -> int:
    """Base units of one of several markets in those of the first, rounded up."""
    up, down = (1, 1) if own.member is None else own.member.worth
    return -(-base * up // down)


def together(
    path: StressPath, prepared: Prepared, leaving: Sequence[Leaving]
) -> tuple[list[Replay[Any]], PriceResponse | None]:
    """A path of several markets: one clock, one set of prices, one purse, claims on each other; and the prices where
    they answer. ``leaving``: who looks at each.
    """
    terms = harsher(prepared.asked.suite.scenario, path)
    parts = []
    for own, left in zip(prepared.members, leaving, strict=True):
        assert own.member is not None
        parts.append(
            own.standing.part(
                lying(_seen(path, own), own),
                harsher(own.member.scenario, path),
                worth=Fraction(*own.member.worth),
                claims={AssetId(asset): (market, token) for asset, market, token in own.member.claims},
                backed=own.standing.backed if own.backs else None,
                onlooker=left.onlooker,
            )
        )
    markets = [own.standing.market for own in prepared.members]
    response = PriceResponse(terms.impact, markets, ()) if terms.impact.assets else None
    shared = terms.joint is not None and terms.joint.purse == "shared"
    return replay_jointly(parts, purse=purse_of(terms) if shared else None, response=response), response


def _seen(path: StressPath, own: Prepared) -> StressPath:
    """A path in a market's base currency, where another one's price moves too."""
    column = None if own.member is None else own.member.currency
    if column is None:
        return path
    said = path.said()
    oracle = np.where(np.isnan(path.oracle), np.nan, said / said[:, [column]])
    return dataclasses.replace(path, market=path.market / path.market[:, [column]], oracle=oracle)


def carried(
    path: StressPath, prepared: Prepared, response: PriceResponse | None = None, leaving: Leaving | None = None
) -> Replay[Any]:
    """The book at the path's end, and what happened on the way. ``response``: as that of ``StandingBook.along``."""
    terms = harsher(prepared.asked.suite.scenario, path)
    onlooker = None if leaving is None else leaving.onlooker
    return prepared.standing.along(lying(path, prepared), terms, response=response, onlooker=onlooker)


def lying(path: StressPath, prepared: Prepared) -> Lying:
    """The path in the book's integers. An asset has a market price of its own where that is not the oracle's at some
    step, or where the book knows one.
    """
    standing, step = prepared.standing, prepared.asked.suite.step
    said, book = path.said(), standing.start.book
    oracle: dict[AssetId, Sequence[int | None]] = {}
    traded: dict[AssetId, Sequence[int | None]] = {}
    for column, asset in enumerate(prepared.assets):
        if asset is None:
            continue
        now = book.oracle[asset]
        oracle[asset] = _prices(now, path.oracle[:, column], path.open)
        if asset in book.traded or not np.array_equal(said[path.open, column], path.market[path.open, column]):
            traded[asset] = _prices(book.traded.get(asset, now), path.market[:, column], path.open)
    seconds = [step * (place + 1) for place in range(path.steps)]
    prices: tuple[Prices, Prices] = oracle, traded
    fees = _fees(path, prepared.fee, standing.timestamp, seconds)
    return Lying(seconds, *prices, base_fees=fees, withdrawals=_withdrawals(path, prepared))


def harsher(scenario: Scenario, path: StressPath) -> Scenario:
    """The scenario with the path's most expensive gas, where a call costs a fixed sum, and its least depth, where sales
    have some: for the whole path, which is harsher than at their moments.
    """
    gas, depth = float(path.gas.max()), float(path.depth.min())
    liquidators, costs = scenario.liquidators, scenario.costs
    if isinstance(liquidators, Competitive) and gas > 1:
        liquidators = replace(liquidators, gas_cost=math.ceil(liquidators.gas_cost * gas))
    if depth < 1 and costs.slippage:
        left = tuple(replace(each, depth=max(1, int(each.depth * depth))) for each in costs.slippage)
        costs = replace(costs, slippage=left)
    return replace(scenario, liquidators=liquidators, costs=costs)


def write_material(folder: Path, asked: StressQuestion, panel: Panel, fits: Sequence[Fit | None]) -> None:
    """Put what a stress adds to a folder that holds the market's material (``sweep.worker.pack``)."""
    arrays = {
        f"panel/{name}": value
        for name in ("returns", "known", "gas", "depth")
        if (value := getattr(panel, name)) is not None
    }
    for place, fit in enumerate(fits):
        arrays |= {f"fit/{place}/{name}": value for name, value in (fit or {}).items()}
    (folder / _ASKED).write_bytes(msgspec.json.encode(asked))
    with (folder / _ARRAYS).open("wb") as file:
        np.savez(file, **arrays)


@lru_cache(maxsize=1)
def prepared_in(folder: str) -> Prepared:
    """What a folder holds, made once per process."""
    asked = msgspec.json.decode((Path(folder) / _ASKED).read_bytes(), type=StressQuestion)
    with np.load(Path(folder) / _ARRAYS, allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    own = {name.removeprefix("panel/"): value for name, value in arrays.items() if name.startswith("panel/")}
    panel = Panel(*asked.panel, own["returns"], own["known"], own.get("gas"), own.get("depth"))
    fits: list[dict[str, Any]] = [{} for _ in asked.suite.cases]
    for name, value in arrays.items():
        if name.startswith("fit/"):
            _, place, of = name.split("/")
            fits[int(place)][of] = value
    return prepare(materials_in(folder), asked, panel, [fit or None for fit in fits])


def prepare(materials: Sequence[Material], asked: StressQuestion, panel: Panel, fits: Sequence[Fit | None]) -> Prepared:
    """From the markets' material."""
    if not asked.members:
        stands = _standing(materials[0], asked.block, asked.suite.scenario)
        by_label = {stands.market.label(asset): asset for asset in stands.oracle}
        assets = tuple(by_label[label] for label in panel.assets)
        return Prepared(asked, stands, panel, tuple(fits), assets, materials[0].base_fees().at(stands.timestamp))
    claimed = {market for member in asked.members for _, market, _ in member.claims}
    members = []
    for material, member in zip(materials, asked.members, strict=True):
        own = replace(asked, block=member.block, suite=replace(asked.suite, scenario=member.scenario), members=())
        stands = _standing(material, member.block, member.scenario)
        here = tuple(
            AssetId(asset) if asset is not None and asset in stands.oracle else None for asset in member.columns
        )
        fee = material.base_fees().at(stands.timestamp)
        backs = material.market.name in claimed
        members.append(Prepared(own, stands, panel, tuple(fits), here, fee, member=member, backs=backs))
    first = members[0]
    return Prepared(asked, first.standing, panel, tuple(fits), first.assets, first.fee, members=tuple(members))


def _standing(material: Material, block: int, scenario: Scenario) -> StandingBook[Any]:
    timeline, params = material.timeline(scenario.oracle_delay), material.tables["params"]
    return standing(protocol_named(material.config.protocol), material.market, timeline, params, block, scenario)


def _withdrawals(path: StressPath, prepared: Prepared) -> list[Withdrawal]:
    """The largest suppliers first, the last of them in part, each step going on where the one before ended; as many as
    a step has places for.
    """
    found = []
    in_step = Counter(step for step, _, _ in path.leaves)
    shares: Counter[int] = Counter()
    gone: Counter[int] = Counter()
    for step, column, share in path.leaves:
        asset = prepared.assets[column]
        held = prepared.standing.suppliers.get(asset, ()) if asset is not None else ()
        shares[column] = min(BPS, shares[column] + share)
        until, before, places = sum(scaled for _, scaled, _ in held) * shares[column] // BPS, 0, 0
        for account, scaled, amount in held:
            part = min(before + scaled, until) - max(before, gone[column])
            before += scaled
            if part > 0 and asset is not None and places < (SPACE - 2) // in_step[step]:
                found.append(Withdrawal(step, account, asset, part, amount * part // scaled))
                gone[column], places = max(before - scaled, gone[column]) + part, places + 1
            if before >= until:
                break
    return found


def _prices(now: int, factors: np.ndarray, open_: np.ndarray) -> list[int | None]:
    return [
        scaled_down(now, factor) if known else None
        for factor, known in zip(factors.tolist(), (open_ & ~np.isnan(factors)).tolist(), strict=True)
    ]


def _fees(path: StressPath, fee: int | None, start: int, seconds: Sequence[int]) -> BaseFees:
    if fee is None:
        return NO_FEES
    fees = [fee, *(max(1, round(fee * multiple)) for multiple in path.gas.tolist())]
    return BaseFees([start, *(start + each for each in seconds)], fees)
