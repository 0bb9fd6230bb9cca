"""A sweep as a list of scenarios, with the baseline of each: deterministic, whoever replays them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from backtest.errors import ScenarioError
from backtest.joint import JointMember, joint_ids
from backtest.replay import ENGINE_VERSION
from backtest.replay.timeline import Timeline
from backtest.results import baseline_of, responding_by, run_id_of
from backtest.scenario import FittedUsers, Override, Scenario, draws, ensemble, seconds_of
from backtest.scenario.settled import Name, settled
from backtest.scenario.settled import named as named_in
from backtest.sweep.design import points_of
from backtest.sweep.spec import MOST, RESPONSE, Level, NoSuchField, Replicate, Sweep, Window, at, text_of
from backtest.tables import RULES_VERSION


@dataclass(frozen=True, slots=True)
class Planned:
    """One scenario of a sweep. ``point`` None: a baseline. No ``run_id``: the scenario itself makes no sense, ``error``
    says why.
    """

    ordinal: int
    point: int | None
    window: str
    response: str
    name: str
    run_id: str | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a sweep consists of.

    Attributes:
        points: the levels of each parameter set, by axis label; users' response is not among them.
        levels: of each axis, every level in order.
        rows: scenarios, then their baselines.
        scenarios: by run id; several rows may share one.
        of: where combinations are repeated: each window's name in ``windows``, with its seed, to that of the sweep.
        beside: of a sweep of several markets the others.
    """

    sweep: Sweep
    sweep_id: str
    market: str
    digest: str
    windows: tuple[Window, ...]
    points: tuple[Mapping[str, Level], ...]
    levels: Mapping[str, Sequence[Level]]
    rows: tuple[Planned, ...]
    scenarios: Mapping[str, Scenario]
    of: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()


def plan_of(
    sweep: Sweep,
    market: str,
    digest: str,
    timeline: Timeline,
    asset_name: Name = str,
    members: Sequence[JointMember] = (),
    fitted: FittedUsers | None = None,
) -> Plan:
    """The plan of a sweep of a market whose lake has this digest; of several, ``members``, the first of them. How users
    act who respond so: ``fitted``.

    A point is a combination of levels but for users' response: scenarios of one point differ by response and window
    alone. An override without a moment of its own holds from the first block of its window on. ``asset_name``
    gives assets their one name in this market.

    Raises:
        ScenarioError: an axis is over no field of a scenario, a window lies outside the history, or there are too many
            scenarios.
    """
    sweep = replace(sweep, scenario=named_in(sweep.scenario, asset_name))

    def identified(scenario: Scenario) -> str:
        return joint_ids(scenario, members)[1][0] if members else run_id_of(scenario, market, digest)

    drawn = points_of(sweep)
    windows = tuple(_in_blocks(window, timeline) for window in sweep.windows) or (
        Window(name="all", from_block=sweep.scenario.from_block, to_block=sweep.scenario.to_block),
    )
    windows, repeated, of = _repeated(windows, sweep)
    responses = sweep.responses or (None,)
    if len(drawn) * len(windows) * len(responses) > MOST:
        raise ScenarioError(
            f"{len(drawn) * len(windows) * len(responses):,} scenarios",
            f"at most {MOST:,}: take fewer levels, windows or responses",
        )
    points: dict[tuple[Level, ...], int] = {}
    rows: list[Planned] = []
    scenarios: dict[str, Scenario] = {}
    baselines: dict[str, tuple[str, str, Scenario]] = {}
    named = [axis.label for axis in sweep.axes if RESPONSE not in axis.paths]
    for places in drawn:
        values = [(axis, axis.levels[place]) for axis, place in zip(sweep.axes, places, strict=True)]
        own = tuple(level for axis, level in values if RESPONSE not in axis.paths)
        point = points.setdefault(own, len(points))
        words = ", ".join(f"{label}={text_of(level)}" for label, level in zip(named, own, strict=True)) or "base"
        for response in responses:
            for window in windows:
                name = words if len(windows) == 1 else f"{words}, {window.name}"
                try:
                    scenario = _within(at(_responding(sweep.scenario, response, fitted), values), window)
                    scenario = _as(scenario, repeated[window.name])
                    scenario = settled(scenario, asset_name)
                    scenario = replace(
                        scenario,
                        name=name if scenario.users.response == "frozen" else f"{name}, {scenario.users.response}",
                    )
                except NoSuchField:
                    raise
                except ScenarioError as error:
                    said = response or next(
                        (str(level) for axis, level in values if RESPONSE in axis.paths), sweep.scenario.users.response
                    )
                    rows.append(Planned(len(rows), point, window.name, said, name, None, str(error)))
                    continue
                run_id = identified(scenario)
                rows.append(Planned(len(rows), point, window.name, scenario.users.response, scenario.name, run_id))
                scenarios.setdefault(run_id, scenario)
                if scenario.overrides:
                    base = baseline_of(scenario)
                    base = base if len(windows) == 1 else replace(base, name=f"{base.name}, {window.name}")
                    baselines.setdefault(identified(base), (window.name, scenario.users.response, base))
    if len(sweep.replicates) > 1 and scenarios and not any(draws(one.liquidators) for one in scenarios.values()):
        kind = sweep.scenario.liquidators.__struct_config__.tag
        raise ScenarioError(f"repeats of '{kind}' liquidators, which draw nothing here", "leave them out")
    for run_id, (window_name, response, base) in baselines.items():
        rows.append(Planned(len(rows), None, window_name, response, base.name, run_id))
        scenarios.setdefault(run_id, base)
    # Points and blocks as drawn and found: another version of scipy, or another lake, may find others.
    sweep_id = sweep.digest_with(
        market,
        digest,
        RULES_VERSION,
        ENGINE_VERSION,
        repr(drawn),
        repr([(w.from_block, w.to_block) for w in windows]),
        *(member.digest for member in members[1:]),
    )
    levels = {axis.label: axis.levels for axis in sweep.axes}
    return Plan(
        sweep,
        sweep_id,
        market,
        digest,
        windows,
        tuple(dict(zip(named, own, strict=True)) for own in points),
        levels,
        tuple(rows),
        scenarios,
        of,
        tuple(member.config.name for member in members[1:]),
    )


def _repeated(
    windows: Sequence[Window], sweep: Sweep
) -> tuple[tuple[Window, ...], dict[str, Replicate], dict[str, str]]:
    """The windows, each once for every replicate; which that is, and of which window, by its name."""
    found: list[Window] = []
    names: dict[str, Replicate] = {}
    of: dict[str, str] = {}
    for window in windows:
        for one in sweep.replicates:
            name = f"{window.name}, {one.name}" if one.name else window.name
            if name in names:
                raise ScenarioError(f"two windows '{name}'", "name them otherwise")
            names[name] = one
            found.append(replace(window, name=name))
            if one.name:
                of[name] = window.name
    return tuple(found), names, of


def _as(scenario: Scenario, one: Replicate) -> Scenario:
    """The scenario with the seed of a replicate, and who liquidates in it."""
    own = scenario if one.draw is None else ensemble.drawn(scenario, one.draw)
    return replace(own, seed=one.seed) if one.name else own


def _responding(base: Scenario, response: str | None, fitted: FittedUsers | None) -> Scenario:
    return base if response is None else responding_by(base, response, base.users.fitted or fitted)


def _within(scenario: Scenario, window: Window) -> Scenario:
    """The scenario over the blocks of a window."""
    first = window.from_block

    def starting(override: Override) -> Override:
        moved = first is not None and not override.from_block and override.from_time is None
        return replace(override, from_block=first) if moved else override

    return replace(
        scenario, from_block=first, to_block=window.to_block, overrides=tuple(map(starting, scenario.overrides))
    )


def _in_blocks(window: Window, timeline: Timeline) -> Window:
    """The window with times as blocks."""
    first, last = window.from_block, window.to_block
    if window.from_time is not None:
        first = timeline.block_from(seconds_of(window.from_time, f"window {window.name}: from_time"))
    if window.to_time is not None:
        last = timeline.block_before(seconds_of(window.to_time, f"window {window.name}: to_time"))
        if last is None:
            raise ScenarioError(
                f"window {window.name}: to_time = {window.to_time} is outside the history",
                "leave it out for the end of the history",
            )
    if first is not None and first > (timeline.last_block if last is None else last):
        raise ScenarioError(
            f"window {window.name} is empty: it starts at block {first}", "give an earlier start or a later end"
        )
    return replace(window, from_block=first, to_block=last, from_time=None, to_time=None)
