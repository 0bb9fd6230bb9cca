"""Joint replays: several markets of a lake under one scenario, stored as a run of each, beside their runs alone.

What the markets do to each other is the difference between the two: a joint run has the searchers, their purse and the
clock in common, a run alone has them to itself. The windows end together, at the earliest end of any history.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from backtest.contagion.depths import curves_of
from backtest.contagion.measured import (
    NetworkMeasure,
    claims,
    distress,
    equity_of,
    failures,
    links,
    matrix_of,
    overlaps,
)
from backtest.contagion.moments import MarketLooks, at_each, linked_accounts, steps_of
from backtest.errors import UserError, did_you_mean
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.model import AccountId, AssetId, Market
from backtest.protocols.registry import protocol_named
from backtest.replay import ENGINE_VERSION
from backtest.replay.engine import Progress
from backtest.replay.joint import JointPart, purse_of, replay_jointly
from backtest.replay.measure import Onlooker
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse, Sold
from backtest.result_tables import JOINTS, as_table
from backtest.results import (
    SAMPLES,
    Material,
    Run,
    baseline_of,
    history_of,
    keep,
    load_market,
    load_material,
    run_all,
    run_id_of,
    run_of,
    stored_run,
)
from backtest.scenario import Joint, Scenario
from backtest.scenario.joint import own, unmet
from backtest.scenario.settled import settled
from backtest.tables import RULES_VERSION

_TOGETHER = " (joint)"
"""What the names of joint runs have behind that of the scenario, which the runs alone have."""


@dataclass(frozen=True, slots=True)
class JointRun:
    """A stored joint replay: the run of each market, in the order in which they were named, and its run alone.

    ``replayed`` is false where the lake held all of it already.
    """

    joint_id: str
    runs: tuple[Run, ...]
    alone: tuple[Run, ...]
    replayed: bool


@dataclass(frozen=True, slots=True)
class JointMember:
    """One market of several. ``worth``: how many base units of the first one of its own is. ``claims``: as those of
    ``replay.joint.JointPart``.
    """

    config: MarketConfig
    market: Market
    digest: str
    worth: Fraction
    claims: Mapping[AssetId, tuple[str, str]] = field(default_factory=dict)

    def has(self, asset: str) -> bool:
        """Whether it has an asset of this symbol or address."""
        return self.market.asset_named(asset) is not None

    @property
    def parameters(self) -> dict[str, int]:
        """Those of its protocol that may be overridden."""
        return dict(protocol_named(self.config.protocol).parameters)


def run_jointly(
    lake: Lake,
    scenario: Scenario,
    *,
    samples: int = SAMPLES,
    renamed: Collection[str] | None = None,
    progress: Progress | None = None,
) -> JointRun:
    """Replay the markets of ``scenario.joint`` together, and each alone, and store all of it; what is stored is read.

    ``renamed``: as in ``results.run_all``, of the runs alone.

    Raises:
        UserError: as ``results.run``; a base currency has no rate; the histories have no time in common.
    """
    joint = scenario.joint
    if joint is None:
        raise UserError("a scenario of one market", "name several")
    members = members_of(lake, joint)
    scenario = asked_of(scenario, members)
    joint_id, ids = joint_ids(scenario, members)
    known = [stored_run(lake, member.config.name, run_id) for member, run_id in zip(members, ids, strict=True)]
    materials = [load_material(lake, name) for name in joint.markets]
    scenarios, _ = parts_of(scenario, members, materials)
    alone = tuple(
        next(run_all(lake, name, [one], samples=samples, renamed=renamed))
        for name, one in zip(joint.markets, scenarios, strict=True)
    )  # fmt: skip
    watched = None
    if any(run is None for run in known) or not _has_network(lake, joint.markets[0], joint_id):
        watched = _watched(scenario, members, materials, scenarios)
        made = replayed_jointly(materials, members, scenario, samples=samples, looks=watched, progress=progress)
        known = [keep(lake, name, run, {"joints": row}) for name, (run, row) in zip(joint.markets, made, strict=True)]
    runs = tuple(run for run in known if run is not None)
    if watched is not None:
        _keep_network(lake, joint.markets[0], joint_id, connections(members, materials, watched, runs, alone))
    return JointRun(joint_id, runs, alone, any(run.replayed for run in runs))


def with_own_name(scenario: Scenario) -> Scenario:
    """A scenario that a joint run was stored under, by its own name."""
    return replace(scenario, name=scenario.name.removesuffix(_TOGETHER))


def asked_of(scenario: Scenario, members: Sequence[JointMember]) -> Scenario:
    """The scenario as it is replayed: its own name, assets as the first market that has them names them.

    ScenarioError for what holds in none of the markets.
    """
    scenario = with_own_name(scenario)
    scenario = settled(scenario, lambda text: named_in(members, text))
    unmet(scenario, {member.config.name: (member.has, member.parameters) for member in members})
    return scenario


def replayed_jointly(
    materials: Sequence[Material],
    members: Sequence[JointMember],
    scenario: Scenario,
    *,
    samples: int = SAMPLES,
    looks: Sequence[MarketLooks] = (),
    progress: Progress | None = None,
) -> list[tuple[Run, pa.Table]]:
    """Replay what ``asked_of`` gave, without a lake: of each market its run, and its row of ``joints``, which names the
    run alone that may be stored beside. ``looks``: of each market, who looks at it on the way. Errors as
    ``run_jointly``.
    """
    joint = scenario.joint
    assert joint is not None
    joint_id, ids = joint_ids(scenario, members)
    scenarios, told = parts_of(scenario, members, materials)
    asked = replace(scenario, name=scenario.name + _TOGETHER)
    response = _response(scenario, members, netted_of(scenario, members, materials))
    outcomes = _replayed(scenario, members, materials, response, samples=samples, looks=looks, progress=progress)
    apart = ["Mitigations act in each market apart: each has funds and throttles of its own."]
    made = []
    for place, (material, outcome) in enumerate(zip(materials, outcomes, strict=True)):
        notes = [
            *_notes(joint, place),
            *_claimed(members[place]),
            *(apart if scenario.mitigations else ()),
            *told,
        ]
        run = run_of(material, outcome, scenarios[place], ids[place], asked=asked, notes=notes)
        alone_id = run_id_of(scenarios[place], material.config.name, material.digest)
        row = _row(scenario, members, place, joint_id, ids[place], alone_id)
        made.append((run, as_table(JOINTS["joints"], [row])))
    return made


def joint_ids(scenario: Scenario, members: Sequence[JointMember]) -> tuple[str, list[str]]:
    """Of the joint replay, and of each market's run in it."""
    joint_id = _joint_id(scenario, members)
    return joint_id, [_hash([joint_id, member.config.name]) for member in members]


def members_of(lake: Lake, joint: Joint) -> list[JointMember]:
    """The markets of a lake that ``joint`` names. UserError where one is not there, its currency has no
    rate, or a rate is of no currency among them."""
    configs = [lake.market_config(name) for name in joint.markets]
    fixed = [
        (load_market(lake, name), lake.digest(name), lake.read("canonical/assets", name)) for name in joint.markets
    ]
    return _members(joint, configs, fixed)


def members_among(materials: Sequence[Material], joint: Joint) -> list[JointMember]:
    """The same of markets whose material is there, in the order of ``joint``."""
    fixed = [(material.market, material.digest, material.tables["assets"]) for material in materials]
    return _members(joint, [material.config for material in materials], fixed)


def _members(
    joint: Joint, configs: Sequence[MarketConfig], fixed: Sequence[tuple[Market, str, pa.Table]]
) -> list[JointMember]:
    first = configs[0].base_currency, configs[0].base_decimals
    needed = {config.base_currency for config in configs} - {first[0]}
    for rate in joint.rates:
        if rate.currency not in needed:
            raise UserError(
                f"joint.rates: no market's amounts are in '{rate.currency}' where the first's are in {first[0]}",
                did_you_mean(rate.currency, needed),
            )
    issued = {
        (config.chain_id, row["collateral_token"]): (config.name, row["asset"])
        for config, (_, _, assets) in zip(configs, fixed, strict=True)
        for row in assets.select(["asset", "collateral_token"]).to_pylist()
        if row["collateral_token"]
    }
    return [
        JointMember(
            config,
            market,
            digest,
            joint.worth(config.base_currency, config.base_decimals, first),
            {
                asset.id: issued[config.chain_id, asset.asset]
                for asset in market.assets
                if issued.get((config.chain_id, asset.asset), (config.name,))[0] != config.name
            },
        )
        for config, (market, digest, _) in zip(configs, fixed, strict=True)
    ]


def refuse_two_of_one_address(members: Sequence[JointMember]) -> None:
    """UserError where an address is a token of two chains (WETH of many rollups is): they have a market each, and what
    is counted by address would take them for one.
    """
    chains: dict[str, tuple[int, str]] = {}
    for member in members:
        here = member.config.chain_id, member.config.name
        for asset in member.market.assets:
            chain, name = chains.setdefault(asset.asset, here)
            if chain != here[0]:
                raise UserError(
                    f"{asset.asset} is a token of '{name}' on chain {chain} and of '{here[1]}' on chain {here[0]}",
                    "ask about markets of one chain together",
                )


def named_in(members: Sequence[JointMember], text: str) -> str:
    """The name that the first market has for an asset that has it."""
    return next((member.market.name_of(text) for member in members if member.has(text)), text)


def _joint_id(scenario: Scenario, members: Sequence[JointMember]) -> str:
    """What decides the outcome, as ``results.run_id_of`` of one market."""
    data = [[member.config.name, member.digest] for member in members]
    return _hash([scenario.canonical(), data, RULES_VERSION, ENGINE_VERSION])


def _hash(body: list[Any]) -> str:
    return hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()


def parts_of(
    scenario: Scenario, members: Sequence[JointMember], materials: Sequence[Material]
) -> tuple[list[Scenario], list[str]]:
    """What of a joint scenario holds in each market, within the time that all of them cover; and, in sentences, whose
    history goes on.
    """
    lines = [material.timeline(scenario.oracle_delay) for material in materials]
    chain = members[0].config.chain_id
    since = None if scenario.from_block is None else lines[0].timestamp_from(scenario.from_block)
    until = lines[0].clock_at(lines[0].last_known_block(scenario.to_block)).timestamp
    ends = [until, *(line.clock_at(line.last_block).timestamp for line in lines[1:])]
    end = min(ends)
    made, told = [], []
    for member, material, line in zip(members, materials, lines, strict=True):
        first, last = scenario.from_block, scenario.to_block
        if member.config.chain_id != chain:
            first = None if since is None else line.block_from(since)
            last = None
            for one in scenario.overrides:
                holds = one.parameter in member.parameters and (one.asset is None or member.has(one.asset))
                if one.market is None and holds and (one.from_block or one.until_block is not None):
                    raise UserError(
                        f"override {one.parameter}: its blocks are not those of '{member.config.name}', which is on"
                        " another chain",
                        "give from_time and until_time, or an override for each market",
                    )
        if line.clock_at(line.last_known_block(last)).timestamp > end:
            last = line.block_before(end)
            if last is None:
                raise UserError(
                    f"the history of market '{member.config.name}' begins after that of another ends",
                    "fetch the same time of all of them",
                )
            told.append(f"{member.config.name}: its history goes on; the window ends with that of the others.")
        has, parameters = member.has, member.parameters
        part = own(scenario, member.config.name, has, parameters, member.worth, (first, last))
        made.append(settled(part, material.market.name_of))
    return made, told


def replayed_without(
    materials: Sequence[Material],
    members: Sequence[JointMember],
    scenario: Scenario,
    without: Mapping[str, frozenset[AccountId]],
    netted: Sequence[Sold] | None,
    *,
    progress: Progress | None = None,
) -> list[Replay[Any]]:
    """Replay what ``asked_of`` gave where nobody liquidates the accounts ``without`` (by market); nothing is stored.

    ``netted``: what history's prices hold already (``netted_of``), whoever is left out.
    """
    response = _response(scenario, members, netted)
    return _replayed(scenario, members, materials, response, without=without, progress=progress)


def _replayed(
    scenario: Scenario,
    members: Sequence[JointMember],
    materials: Sequence[Material],
    response: PriceResponse | None,
    *,
    samples: int = 0,
    without: Mapping[str, frozenset[AccountId]] = MappingProxyType({}),
    looks: Sequence[MarketLooks] = (),
    progress: Progress | None = None,
) -> list[Replay[Any]]:
    scenarios, _ = parts_of(scenario, members, materials)
    watched: Sequence[Onlooker | None] = [one.onlooker for one in looks] or [None] * len(members)
    parts = [
        _part(material, one, member, samples, without.get(member.config.name, frozenset()), seen)
        for material, one, member, seen in zip(materials, scenarios, members, watched, strict=True)
    ]
    shared = scenario.joint is not None and scenario.joint.purse == "shared"
    purse = purse_of(scenario) if shared else None
    return replay_jointly(parts, purse=purse, response=response, progress=progress)


def _response(
    scenario: Scenario, members: Sequence[JointMember], netted: Sequence[Sold] | None
) -> PriceResponse | None:
    """One set of prices for all markets."""
    if not scenario.impact.assets:
        return None
    return PriceResponse(scenario.impact, [member.market for member in members], netted)


def netted_of(
    scenario: Scenario, members: Sequence[JointMember], materials: Sequence[Material], *, itself: bool = False
) -> Sequence[Sold] | None:
    """What history's prices hold already, by a joint replay (``Material.response`` of one market). None where that is
    what this scenario itself sells, unless it is asked for ``itself``.
    """
    terms = scenario.impact
    if not terms.assets:
        return ()
    refuse_two_of_one_address(members)
    if terms.netting == "none":
        return ()
    against = baseline_of(scenario) if terms.netting == "baseline" else history_of(scenario)
    against = replace(against, joint=scenario.joint)
    if against.canonical() == scenario.canonical() and not itself:
        return None
    before = PriceResponse(terms, [member.market for member in members])
    _replayed(against, members, materials, before)
    return tuple(before.sales)


def _part(
    material: Material,
    scenario: Scenario,
    member: JointMember,
    samples: int,
    without: frozenset[AccountId],
    onlooker: Onlooker | None,
) -> JointPart:
    return JointPart(
        protocol_named(material.config.protocol),
        material.market,
        material.timeline(scenario.oracle_delay),
        scenario,
        member.worth,
        material.samples(samples) if samples else 0,
        material.fees_for(scenario),
        member.claims,
        without=without,
        onlooker=onlooker,
    )


# -- what connects them ------------------------------------------------------------------------------------------------


def _watched(
    scenario: Scenario, members: Sequence[JointMember], materials: Sequence[Material], parts: Sequence[Scenario]
) -> list[MarketLooks]:
    """Who looks at each market while ``parts`` are replayed together."""
    lines = [material.timeline(scenario.oracle_delay) for material in materials]
    ends = [line.last_known_block(part.to_block) for line, part in zip(lines, parts, strict=True)]
    since = min(line.timestamp_from(part.from_block or 0) for line, part in zip(lines, parts, strict=True))
    until = max(line.clock_at(end).timestamp for line, end in zip(lines, ends, strict=True))
    depths = curves_of(scenario, [member.market for member in members])[0] if scenario.impact.assets else {}
    return [
        MarketLooks(
            protocol_named(member.config.protocol),
            member.market,
            member.worth,
            member.claims,
            depths,
            steps_of(line, part.from_block, end, since, until),
        )
        for member, line, part, end in zip(members, lines, parts, ends, strict=True)
    ]


def connections(
    members: Sequence[JointMember],
    materials: Sequence[Material],
    watched: Sequence[MarketLooks],
    runs: Sequence[Run],
    alone: Sequence[Run],
) -> dict[str, list[dict[str, Any]]]:
    """Rows of ``joint_exposures``, ``joint_accounts``, ``joint_debts`` and ``joint_network``."""
    names = [member.config.name for member in members]
    moments = at_each(watched)
    times = [(seen.step, seen.timestamp) for one in watched for seen in one.seen]
    when = {step: max(time for of, time in times if of == step) for step, _ in times}
    hit = [
        {account for run in both for table in _LOSING for account in run.tables[table]["account"].to_pylist()}
        for both in zip(runs, alone, strict=True)
    ]
    accounts = linked_accounts(watched, hit, [_first_seen(material, max(when.values())) for material in materials])
    owners = {row["owner"] for row in accounts}
    network: list[dict[str, Any]] = []
    begun = False
    for step, bound, depth in moments:
        matrix = matrix_of(bound, depth)
        found = [*links(bound, names), *overlaps(matrix, names), *claims(bound, names), *failures(bound, names, matrix)]
        for measure, amounts in (("equity", equity_of(bound)), ("debt without cover", bound.bad)):
            found += [NetworkMeasure(measure, name, None, of) for name, of in zip(names, amounts, strict=True)]
        unpriced = zip(names, bound.unpriced, strict=True)
        found += [NetworkMeasure("accounts unpriced", name, number=float(of)) for name, of in unpriced if of]
        if not begun and any(bound.debt):
            begun = True
            lost = [dict(zip(names, map(_lost, each, members, bound.bad), strict=True)) for each in (alone, runs)]
            found += distress(bound, names, matrix, *lost)
        network += [{"step": step, "timestamp": when[step], **measure._asdict()} for measure in found]
    return {
        "joint_exposures": [row for one in watched for row in one.exposures(names.index(one.market.name))],
        "joint_accounts": accounts,
        "joint_debts": [
            {"step": step, "timestamp": when[step], "of_market": name, "owner": owner, "debt_base": debt}
            for step, bound, _ in moments
            for owner, debts in sorted(bound.owed.items())
            for name, debt in sorted(debts.items())
            if owner in owners
        ],
        "joint_network": network,
    }


_LOSING = ("run_liquidations", "run_deficits")


def _lost(run: Run, member: JointMember, before: int) -> int:
    """What liquidations took of borrowers beyond what they repaid, and debt without cover beyond what was so
    ``before``, by the window's end; base units of the first market.
    """
    [end] = [row for row in run.tables["run_windows"].to_pylist() if row["label"] == "end"]

    def worth_up(*figures: str) -> int:
        base = sum(int(end[figure]) for figure in figures)
        return -(-base * member.worth.numerator // member.worth.denominator)

    taken = worth_up("seized_base", "protocol_fee_base") - worth_up("repaid_base")
    return max(0, taken) + max(0, worth_up("realised_bad_debt_base", "open_bad_debt_base") - before)


def _first_seen(material: Material, until: int) -> dict[int, int]:
    """When each account's balance first changed, in history up to a time."""
    events = material.tables["position_events"].select(["account_id", "timestamp"])
    first = events.filter(pc.less_equal(events["timestamp"], until)).group_by("account_id")
    found = first.aggregate([("timestamp", "min")])
    return dict(zip(found["account_id"].to_pylist(), found["timestamp_min"].to_pylist(), strict=True))


def _has_network(lake: Lake, first: str, joint_id: str) -> bool:
    known = lake.read("results/joint_network", first, columns=["joint_id"])["joint_id"]
    return bool(pc.any(pc.equal(known, joint_id)).as_py())


def _keep_network(lake: Lake, first: str, joint_id: str, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Under the first market, once."""
    common = {"joint_id": joint_id, "market": first}
    tables = {f"results/{name}": as_table(JOINTS[name], each, common) for name, each in rows.items() if each}
    with lake.writer() as writer:  # refreshes the lake
        if not _has_network(lake, first, joint_id):
            writer.append_all(first, tables, stamp=RULES_VERSION)


def _notes(joint: Joint, place: int) -> list[str]:
    others = ", ".join(name for number, name in enumerate(joint.markets) if number != place)
    purse = (
        "searchers have one purse for all of them" if joint.purse == "shared" else "searchers have a purse in each"
    )  # fmt: skip
    rates = [f"One {rate.currency} is taken for {rate.worth} throughout." for rate in joint.rates]
    return [f"Replayed together with {others}: {purse}.", *rates]


def _claimed(member: JointMember) -> Iterator[str]:
    """What is a claim on another market, in sentences."""
    for asset, (issuer, _) in sorted(member.claims.items()):
        yield (
            f"{member.market.label(asset)} is a claim on deposits of {issuer}: what that market loses in the window, by"
            " its deposits at the window's first block, leaves its price, and while nobody can withdraw there it sells"
            " for nothing."
        )


def _row(
    scenario: Scenario, members: Sequence[JointMember], place: int, joint_id: str, run_id: str, alone_id: str
) -> dict[str, Any]:
    first, member = members[0].config, members[place]
    return {
        "run_id": run_id,
        "market": member.config.name,
        "joint_id": joint_id,
        "name": scenario.name,
        "place": place,
        "markets": json.dumps([one.config.name for one in members]),
        "alone_id": alone_id,
        "currency": first.base_currency,
        "decimals": first.base_decimals,
        "worth_numerator": member.worth.numerator,
        "worth_denominator": member.worth.denominator,
    }
