"""A sweep as one frozen value: a base scenario, axes over its fields, a design, windows. Parsed strictly from TOML or
from options.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from backtest import foreign
from backtest.errors import ScenarioError, did_you_mean
from backtest.scenario import FITTED, RESPONSES, Competitive, Scenario, parse_override, seconds_of
from backtest.scenario.base import Strict, plain
from backtest.scenario.ensemble import Draw, Ensemble
from backtest.scenario.overrides import amount_of
from backtest.scenario.toml import explained, parse_toml

Level = bool | int | str | tuple[bool | int | str, ...]
"""What an axis sets its fields to: one value for all of them, or a tuple of one for each."""
RESPONSE = "users.response"
MOST, MOST_REPEATS = 100_000, 1_000
"""Scenarios of one sweep, and seeds of each, at most."""
PARTS = 6
"""Draws of an ensemble that are replayed, each of an equal part of the weight; several may be the same one."""

Better = Literal["min", "max"]
OBJECTIVES: dict[str, Better] = {
    "bad_debt": "min",
    "borrower_loss": "min",
    "borrowing_power": "max",
    "repaid": "min",
}
"""The objectives of a sweep that names none, and which way each is better. ``repaid`` is the liquidated volume."""
MEASURES: dict[str, Better | None] = {
    **OBJECTIVES,
    "liquidations": "min",
    "accounts_liquidated": "min",
    "seized": "min",
    "protocol_fee": "max",
    "deficit": "min",
    "open_bad_debt": "min",
    "peak_bad_debt": "min",
    "rent": None,
    "bid": None,
    "protocol_share": "max",
    "oracle_share": "max",
    "opportunities": "min",
    "median_seconds": "min",
    "p90_seconds": "min",
    "missed_debt": "min",
    "hhi": "min",
    "contests": None,
    "zero_bid_share": "min",
}
"""What may be an objective (the view ``sweep_measures`` says of what), and which way it is better where a sweep does
not say: None has no such way, since what liquidators and builders keep is good or bad as one asks.
"""


class Axis(Strict, frozen=True):
    """One field that varies, over an ordered list of levels."""

    field: str | tuple[str, ...]
    """Path of a scenario field: ``overrides[0].value``, ``liquidators.gas_cost``; several vary together."""
    name: str = ""
    """What tables call it; the path by default."""
    values: tuple[Level, ...] = ()
    """The levels, in order (of several fields a list of one value for each, or one for all); or a range of whole
    numbers:"""
    from_: int | None = msgspec.field(default=None, name="from")
    """First level of a range."""
    to: int | None = None
    """Last level; it is one where the step meets it."""
    step: int = 1
    """From one level to the next."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ranged = self.from_ is not None or self.to is not None
        if ranged == bool(self.values):
            raise ScenarioError(
                f"axis {self.label}: {'both' if ranged else 'neither'} values and a range",
                "give values, or from and to",
            )
        if ranged and (self.from_ is None or self.to is None or self.step < 1 or self.from_ > self.to):
            raise ScenarioError(
                f"axis {self.label}: no range of whole numbers", "give from, to (not below it) and step (1 or more)"
            )
        if any(isinstance(level, tuple) and len(level) != len(self.paths) for level in self.values):
            raise ScenarioError(
                f"axis {self.label}: a level of another number of values than fields", "give one for each field"
            )
        plain(self.label, "axis")
        if len(set(self.values)) < len(self.values):
            raise ScenarioError(f"axis {self.label}: a value appears twice", "give each once")
        for path in self.paths:
            if not _PATH.fullmatch(path):
                raise ScenarioError(
                    f"axis '{path}' is no path of a field",
                    "write for example overrides[0].value or liquidators.gas_cost",
                )

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields that it sets."""
        return (self.field,) if isinstance(self.field, str) else self.field

    @property
    def label(self) -> str:
        """Its name, or its paths."""
        return self.name or " & ".join(self.paths)

    @property
    def levels(self) -> Sequence[Level]:
        """Every level, in order."""
        return self.values if self.from_ is None or self.to is None else range(self.from_, self.to + 1, self.step)


class Window(Strict, frozen=True):
    """Blocks over which every scenario is replayed."""

    name: str
    """What tables call it."""
    from_block: int | None = None
    """First block in which the model acts and overrides hold; None: from the start."""
    to_block: int | None = None
    """Last block; None: the last one the lake covers."""
    from_time: str | None = None
    """Instead of ``from_block``: a date or time of day, UTC."""
    to_time: str | None = None
    """Instead of ``to_block``."""
    held_out: bool = False
    """Kept apart from means, fronts and sensitivities, which choose; it shows whether the choice holds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain(self.name, "window")
        for which, block, time in (("from", self.from_block, self.from_time), ("to", self.to_block, self.to_time)):
            if block is not None and time is not None:
                raise ScenarioError(f"window {self.name}: {which}_block and {which}_time together", "give one of them")
            if time is not None:
                seconds_of(time, f"window {self.name}: {which}_time")


class Replicate(NamedTuple):
    """One of the repetitions of a combination: what tables call it, who liquidates where a draw says so, the seed."""

    name: str
    draw: Draw | None
    seed: int


class Sweep(Strict, frozen=True):
    """A base scenario, what varies in it, and over which blocks."""

    axes: tuple[Axis, ...]
    """What varies."""
    name: str = "sweep"
    """What tables call it; not part of its id."""
    scenario: Scenario = Scenario(name="base", liquidators=Competitive())
    """The base, as in a scenario file."""
    design: Literal["grid", "random", "latin-hypercube", "sobol"] = "grid"
    """Which combinations of levels are replayed: all, or ``points`` drawn ones."""
    points: int | None = None
    """How many combinations are drawn; of ``sobol`` a power of two. Those drawn twice are replayed once."""
    seed: int = 0
    """Seed of the draws."""
    responses: tuple[str, ...] = ()
    """Users' responses under which each combination is replayed; none: that of the base."""
    windows: tuple[Window, ...] = ()
    """None: one, the blocks of the base."""
    repeats: int = 1
    """Seeds of each scenario, from its own on, for models that draw; the same of every combination."""
    draw: tuple[Draw, ...] = ()
    """Who liquidates and at what cost, where that is not known: the draws of an ensemble, under each of which every
    combination is replayed, and which is which in equal parts of the weight."""
    objectives: dict[str, Literal["min", "max", "ignore"]] = msgspec.field(default_factory=dict)
    """Further ``MEASURES`` as objectives, with the way in which they are better; those of ``OBJECTIVES`` that are
    better the other way, or that are none here (``ignore``)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain(self.name, "name of the sweep")
        if not self.axes:
            raise ScenarioError("a sweep without axes", "say what varies: [[axes]], or --axis")
        for kind, names in (
            ("axis", [axis.label for axis in self.axes]),
            ("window", [window.name for window in self.windows]),
        ):
            if len(set(names)) < len(names):
                raise ScenarioError(f"two of the same {kind}", "names differ")
        if (self.design == "grid") != (self.points is None):
            raise ScenarioError(
                f"design = '{self.design}' {'with' if self.points else 'without'} points",
                "a grid has none, other designs need a number",
            )
        if self.points is not None and (
            self.points < 1 or (self.design == "sobol" and self.points & (self.points - 1))
        ):
            raise ScenarioError(
                f"points = {self.points}", "give 1 or more; of a Sobol design a power of two, such as 64 or 128"
            )
        if self.seed < 0:
            raise ScenarioError(f"seed = {self.seed} is negative", "give a whole number from 0 to 2^63 - 1")
        if not 1 <= self.repeats <= MOST_REPEATS:
            raise ScenarioError(f"repeats = {self.repeats}", f"give 1 to {MOST_REPEATS}")
        if len(self.replicates) > 1 and any("seed" in axis.paths for axis in self.axes):
            raise ScenarioError("repeats over seeds, and an axis over the seed", "give one of them")
        if self.draw and any(path.startswith(("liquidators", "costs")) for axis in self.axes for path in axis.paths):
            raise ScenarioError(
                "draws of an ensemble, and an axis over who liquidates or at what cost", "give one of them"
            )
        for response in self.responses:
            if response not in (known := (*RESPONSES, FITTED)):
                raise ScenarioError(f"unknown response '{response}'", did_you_mean(response, known))
        for measure in self.objectives:
            if measure not in MEASURES:
                raise ScenarioError(f"unknown measure '{measure}' in objectives", did_you_mean(measure, MEASURES))
        if not self.better:
            raise ScenarioError("every objective is ignored", "leave one to choose by")
        if self.responses and any(RESPONSE in axis.paths for axis in self.axes):
            raise ScenarioError(f"responses and an axis {RESPONSE} together", "give one of them")
        if self.windows and all(window.held_out for window in self.windows):
            raise ScenarioError("every window is held out", "leave one to choose by")
        if self.windows and (self.scenario.from_block is not None or self.scenario.to_block is not None):
            raise ScenarioError("windows, and blocks of the base scenario", "give the blocks of windows alone")

    @property
    def better(self) -> dict[str, Better]:
        """Its objectives, and which way each is better."""
        ways = {**OBJECTIVES, **self.objectives}
        return {measure: way for measure, way in ways.items() if way != "ignore"}

    @property
    def replicates(self) -> list[Replicate]:
        """What every combination is repeated by, each as likely: parts of an ensemble, each with seeds of its own."""
        first = self.scenario.seed
        parts: Sequence[tuple[str, Draw | None]] = [("", None)]
        if self.draw:
            counts = Ensemble(draw=self.draw).parts(PARTS)
            parts = [
                (f"draw {place + 1}, ", own)
                for place, (own, count) in enumerate(zip(self.draw, counts, strict=True))
                for _ in range(count)
            ]
        each = [(words, draw) for words, draw in parts for _ in range(self.repeats)]
        if len(each) == 1:
            return [Replicate("", each[0][1], first)]
        return [Replicate(f"{words}seed {first + i}", draw, first + i) for i, (words, draw) in enumerate(each)]

    def canonical(self) -> str:
        """Canonical JSON: sorted keys; names of sweep and scenario are not part of it."""
        body = msgspec.to_builtins(msgspec.structs.replace(self, name="", scenario=Scenario()))
        body["scenario"] = json.loads(self.scenario.canonical())
        for name, without in (("repeats", 1), ("draw", ())):  # so that sweeps keep the ids that they had before
            if getattr(self, name) == without:
                del body[name]
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    def digest_with(self, *parts: str) -> str:
        """SHA-256, hex, of the sweep and what else decides its results."""
        return hashlib.sha256(json.dumps([self.canonical(), *parts]).encode()).hexdigest()


_KIND = re.compile(r"\.kind$")
_PATH = re.compile(r"[a-z_]\w{0,60}(\[\d{1,6}\])?(\.\w{1,60}(\[\d{1,6}\])?)*", re.ASCII)
_RANGE = re.compile(r"(?P<from>-?\d[\d_]*)\.\.(?P<to>-?\d[\d_]*)(?:/(?P<step>\d[\d_]*))?", re.ASCII)


def parse_sweep(text: str, where: str) -> Sweep:
    """A sweep from TOML text; ``where`` names its file in errors. ScenarioError, one line, for anything not
    understood.
    """
    return parse_toml(text, Sweep, where)


def objective_of(text: str) -> tuple[str, Literal["min", "max", "ignore"]]:
    """``MEASURE=min``, ``=max`` or ``=ignore`` as on the command line; ``MEASURE`` alone is better as by default."""
    measure, said, way = (part.strip() for part in text.partition("="))
    shown = foreign.shown(text, 80)
    if measure not in MEASURES:
        raise ScenarioError(f"--objective '{shown}': unknown measure", did_you_mean(measure, MEASURES))
    ways: dict[str, Literal["min", "max", "ignore"]] = {"min": "min", "max": "max", "ignore": "ignore"}
    given = ways.get(way) if said else MEASURES[measure]
    if given is None:
        raise ScenarioError(
            f"--objective '{shown}' does not say which way is better",
            f"write {measure}=min or {measure}=max; {measure}=ignore leaves it out",
        )
    return measure, given


def with_axes(base: Scenario, texts: Sequence[str]) -> tuple[Scenario, tuple[Axis, ...]]:
    """The base and axes of ``PATH[,PATH...]=LEVELS`` as on the command line: LEVELS is ``a,b,c`` or ``from..to`` or
    ``from..to/step``.

    PATH is that of a scenario field, or a parameter as in --set (``WETH.ltv``, ``liquidation_bonus+``): then the base
    gets an override of it. Several paths move together: to the same level, or each to its own of ``a:b``.
    """
    axes: list[Axis] = []
    for text in texts:
        left, _, levels = text.partition("=")
        paths = [path.strip() for path in left.split(",")]
        if not all(path.rstrip("+-") for path in paths) or not levels:
            raise ScenarioError(
                f"--axis '{foreign.shown(text, 80)}' is not understood",
                "write PATH=a,b,c or PATH=from..to/step; PATH,PATH=a:b,c:d moves two together",
            )
        if _is_field(paths[0]) and len(paths) == 1:
            axes.append(Axis(field=paths[0], **_levels(levels, paths)))
            continue
        given = _levels(levels, paths)
        first = Axis(field=tuple(f"overrides[{i}].value" for i in range(len(paths))), **given).levels[0]
        fields = []
        for path, level in zip(paths, first if isinstance(first, tuple) else [first] * len(paths), strict=True):
            if _is_field(path):
                fields.append(path)
                continue
            changes = path[-1] in "+-"
            override = parse_override(f"{path.removesuffix('-')}{'+' * (path[-1] == '-')}={str(level).lstrip('-')}")
            fields.append(f"overrides[{len(base.overrides)}].{'change' if changes else 'value'}")
            base = msgspec.structs.replace(base, overrides=(*base.overrides, override))
        names = [f"{path[:-1]} change" if path[-1] in "+-" else path for path in paths]
        axes.append(Axis(field=fields[0] if len(fields) == 1 else tuple(fields), name=" & ".join(names), **given))
    return base, tuple(axes)


def _is_field(path: str) -> bool:
    return path.split(".")[0].split("[")[0] in Scenario.__struct_fields__


def _levels(text: str, paths: Sequence[str]) -> dict[str, Any]:
    """Levels as fields of an axis; of a parameter ``path-`` they are taken away."""
    if found := _RANGE.fullmatch(text):
        first, last, step = (_whole(found[part] or "1") for part in ("from", "to", "step"))
        if not any(path.endswith("-") for path in paths):
            return {"from_": first, "to": last, "step": step}
        whole = Axis(field="seed", from_=first, to=last, step=step).levels
        if len(whole) > MOST:
            raise ScenarioError(f"{len(whole):,} points", f"at most {MOST:,}: take fewer levels or larger steps")
        text = ",".join(map(str, whole))
    levels: list[Level] = []
    for word in text.split(","):
        parts = word.split(":") if len(paths) > 1 else [word]
        if len(parts) == 1:
            parts *= len(paths)
        if len(parts) != len(paths):
            raise ScenarioError(
                f"--axis: level '{foreign.shown(word, 40)}' has {len(parts)} values for {len(paths)} paths",
                "give one for each, a:b, or one for all",
            )
        each = [_level(part.strip(), path) for part, path in zip(parts, paths, strict=True)]
        levels.append(each[0] if all(one == each[0] for one in each) else tuple(each))
    return {"values": tuple(levels)}


def _level(word: str, path: str) -> bool | int | str:
    if re.fullmatch(r"-?[0-9][0-9_]*", word):
        value = _whole(word)
        return -value if path.endswith("-") and not _is_field(path) else value
    if _is_field(path):
        return {"true": True, "false": False}.get(word, word)
    parameter = path.rstrip("+-").rpartition(".")[2]
    value = amount_of(parameter, word, f"--axis {path}={word}", absolute=path[-1] not in "+-")
    return -value if path.endswith("-") else value


def _whole(digits: str) -> int:
    try:
        return foreign.integer(digits.replace("_", ""), bits=127)
    except foreign.Unreadable as error:
        raise ScenarioError(f"--axis: {error}", "give a smaller number") from None


def at(base: Scenario, values: Sequence[tuple[Axis, Level]], where: str = "axes") -> Scenario:
    """The base with these axes at these levels.

    Raises:
        ScenarioError: a path that no scenario has, or a value that does not fit; the scenario makes no sense.
    """
    body = _mutable(msgspec.to_builtins(base))
    # A kind goes first: it decides which other fields there are.
    for axis, value in sorted(values, key=lambda pair: not any(_KIND.search(path) for path in pair[0].paths)):
        each = value if isinstance(value, tuple) else [value] * len(axis.paths)
        for path, own in zip(axis.paths, each, strict=True):
            if _KIND.search(path):
                _without_defaults(base, body, path, own)
            _set(body, path, own)
    try:
        return msgspec.convert(body, Scenario)
    except msgspec.ValidationError as error:
        raise NoSuchField(*_parts(explained(error, body, where))) from None


def _without_defaults(base: Scenario, body: dict[str, Any], path: str, kind: object) -> None:
    """Make way for another kind at ``path``: fields at the defaults of the kind that the base has are left out of the
    body, since others have other fields. What was given stays: one that the new kind lacks is an error.
    """
    struct: Any = base
    place: Any = body
    for step in _steps(path)[:-1]:
        if isinstance(struct, msgspec.Struct):
            struct = msgspec.structs.asdict(struct).get(step)
        elif isinstance(struct, tuple) and step.isdigit() and int(step) < len(struct):
            struct = struct[int(step)]
        else:
            return  # no such path: setting it says so
        if struct is None:
            return
        place = place[int(step)] if isinstance(place, list) else place[step]
    if not isinstance(struct, msgspec.Struct) or place.get("kind") == kind:
        return
    for field in msgspec.structs.fields(struct):
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if msgspec.structs.asdict(struct)[field.name] == default:
            del place[field.encode_name]


def _mutable(value: Any) -> Any:
    """Plain values with lists in place of tuples."""
    if isinstance(value, dict):
        return {name: _mutable(item) for name, item in value.items()}
    return [_mutable(item) for item in value] if isinstance(value, list | tuple) else value


def text_of(level: Level) -> str:
    """A level in words: ``8000``, ``8000:7500``, ``true``."""
    if isinstance(level, tuple):
        return ":".join(map(text_of, level))
    return level if isinstance(level, str) else json.dumps(level)


class NoSuchField(ScenarioError):
    """An axis over something that is no field of a scenario, or of another type: the sweep is wrong, not one scenario
    of it.
    """


def _parts(error: ScenarioError) -> tuple[str, str]:
    return error.what, error.fix


def _steps(path: str) -> list[str]:
    return re.findall(r"\w+", re.sub(r"\[(\d+)\]", r".\1", path))


def _set(body: dict[str, Any], path: str, value: object) -> None:
    place: Any = body
    steps = _steps(path)
    for i, step in enumerate(steps):
        last = i == len(steps) - 1
        if isinstance(place, list):
            if not step.isdigit() or int(step) >= len(place):
                raise NoSuchField(
                    f"axis {path}: the base scenario has {len(place)} of {'.'.join(steps[:i])}",
                    "give it there first; the first is [0]",
                )
            key: Any = int(step)
        elif isinstance(place, dict):
            key = step
            if not last and step not in place:
                raise NoSuchField(f"axis {path}: unknown field '{step}'", did_you_mean(step, place))
        else:
            raise NoSuchField(
                f"axis {path}: {'.'.join(steps[:i])} holds no fields", "write for example overrides[0].value"
            )
        if last:
            place[key] = value
        else:
            place = place[key]
