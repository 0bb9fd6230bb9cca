"""A sweep as one frozen value: a base scenario, axes over its fields, a design, windows. Parsed strictly from TOML or
from options.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from backtest.errors import ScenarioError, did_you_mean
from backtest.scenario import RESPONSES, Competitive, Scenario, parse_override, seconds_of
from backtest.scenario.toml import explained, parse_toml

Level = bool | int | str
RESPONSE = "users.response"
MOST = 100_000
"""Scenarios of one sweep, at most."""

OBJECTIVES: dict[str, Literal["min", "max"]] = {
    "bad_debt": "min",
    "borrower_loss": "min",
    "borrowing_power": "max",
    "repaid": "min",
}
"""Which way each measure is better, unless the sweep says otherwise. ``repaid`` is the liquidated volume."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Axis(_Strict, frozen=True):
    """One field that varies, over an ordered list of levels."""

    field: str | tuple[str, ...]
    """Path of a scenario field: ``overrides[0].value``, ``liquidators.gas_cost``; several vary together."""
    name: str = ""
    """What tables call it; the path by default."""
    values: tuple[Level, ...] = ()
    """The levels, in order; or a range of whole numbers:"""
    from_: int | None = msgspec.field(default=None, name="from")
    """First level of a range."""
    to: int | None = None
    """Last level; it is one where the step meets it."""
    step: int = 1
    """From one level to the next."""

    def __post_init__(self) -> None:
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


class Window(_Strict, frozen=True):
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
        for which, block, time in (("from", self.from_block, self.from_time), ("to", self.to_block, self.to_time)):
            if block is not None and time is not None:
                raise ScenarioError(f"window {self.name}: {which}_block and {which}_time together", "give one of them")
            if time is not None:
                seconds_of(time, f"window {self.name}: {which}_time")


class Sweep(_Strict, frozen=True):
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
    objectives: dict[str, Literal["min", "max"]] = {}
    """Measures that are better the other way than by default, or ``max``/``min`` as it is."""

    def __post_init__(self) -> None:
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
        if not 0 <= self.seed < 2**63:
            raise ScenarioError(
                f"seed = {self.seed} is negative or too large", "give a whole number from 0 to 2^63 - 1"
            )
        for response in self.responses:
            if response not in RESPONSES:
                raise ScenarioError(f"unknown response '{response}'", did_you_mean(response, RESPONSES))
        for measure in self.objectives:
            if measure not in OBJECTIVES:
                raise ScenarioError(f"unknown measure '{measure}' in objectives", did_you_mean(measure, OBJECTIVES))
        if self.responses and any(RESPONSE in axis.paths for axis in self.axes):
            raise ScenarioError(f"responses and an axis {RESPONSE} together", "give one of them")
        if self.windows and all(window.held_out for window in self.windows):
            raise ScenarioError("every window is held out", "leave one to choose by")
        if self.windows and (self.scenario.from_block is not None or self.scenario.to_block is not None):
            raise ScenarioError("windows, and blocks of the base scenario", "give the blocks of windows alone")

    def canonical(self) -> str:
        """Canonical JSON: sorted keys; names of sweep and scenario are not part of it."""
        body = msgspec.to_builtins(msgspec.structs.replace(self, name="", scenario=Scenario()))
        body["scenario"] = json.loads(self.scenario.canonical())
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    def digest_with(self, *parts: str) -> str:
        """SHA-256, hex, of the sweep and what else decides its results."""
        return hashlib.sha256(json.dumps([self.canonical(), *parts]).encode()).hexdigest()


_PATH = re.compile(r"\w+(\[\d+\])?(\.\w+(\[\d+\])?)*")
_RANGE = re.compile(r"(?P<from>-?\d[\d_]*)\.\.(?P<to>-?\d[\d_]*)(?:/(?P<step>\d[\d_]*))?")


def parse_sweep(text: str, where: str) -> Sweep:
    """A sweep from TOML text; ``where`` names its file in errors. ScenarioError, one line, for anything not
    understood.
    """
    return parse_toml(text, Sweep, where)


def with_axes(base: Scenario, texts: Sequence[str]) -> tuple[Scenario, tuple[Axis, ...]]:
    """The base and axes of ``PATH=LEVELS`` as on the command line: LEVELS is ``a,b,c`` or ``from..to`` or
    ``from..to/step``.

    PATH is that of a scenario field, or a parameter as in --set (``WETH.ltv``, ``liquidation_bonus+``): then the base
    gets an override of it.
    """
    axes: list[Axis] = []
    for text in texts:
        parts = re.fullmatch(r"([^=]*?)([+-]?)=(.+)", text)
        path, sign, levels = parts.groups() if parts else ("", "", "")
        if not path:
            raise ScenarioError(f"--axis '{text}' is not understood", "write PATH=a,b,c or PATH=from..to/step")
        given = _levels(levels)
        if path.split(".")[0].split("[")[0] in Scenario.__struct_fields__:
            axes.append(Axis(field=path, **given))
            continue
        axis = Axis(field="overrides[0].value", **given)
        first = axis.levels[0]
        override = parse_override(f"{path}{sign}={str(first).lstrip('-')}")
        field = "change" if sign else "value"
        if sign == "-":
            given = {"values": tuple(-level for level in axis.levels if isinstance(level, int))}
        axes.append(
            Axis(field=f"overrides[{len(base.overrides)}].{field}", name=f"{path}{' change' if sign else ''}", **given)
        )
        base = msgspec.structs.replace(base, overrides=(*base.overrides, override))
    return base, tuple(axes)


def _levels(text: str) -> dict[str, Any]:
    if found := _RANGE.fullmatch(text):
        return {"from_": int(found["from"]), "to": int(found["to"]), "step": int(found["step"] or 1)}
    words = [word.strip() for word in text.split(",")]
    return {
        "values": tuple(
            int(word) if re.fullmatch(r"-?\d[\d_]*", word) else {"true": True, "false": False}.get(word, word)
            for word in words
        )
    }


def at(base: Scenario, values: Sequence[tuple[Axis, Level]], where: str = "axes") -> Scenario:
    """The base with these axes at these levels.

    Raises:
        ScenarioError: a path that no scenario has, or a value that does not fit; the scenario makes no sense.
    """
    body = json.loads(msgspec.json.encode(base))
    for axis, value in values:
        for path in axis.paths:
            _set(body, path, value)
    try:
        return msgspec.convert(body, Scenario)
    except msgspec.ValidationError as error:
        raise NoSuchField(*_parts(explained(error, body, where))) from None


class NoSuchField(ScenarioError):
    """An axis over something that is no field of a scenario, or of another type: the sweep is wrong, not one scenario
    of it.
    """


def _parts(error: ScenarioError) -> tuple[str, str]:
    return error.what, error.fix


def _set(body: dict[str, Any], path: str, value: Level) -> None:
    place: Any = body
    steps = re.findall(r"\w+", re.sub(r"\[(\d+)\]", r".\1", path))
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
