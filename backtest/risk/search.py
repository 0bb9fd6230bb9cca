"""The best of many parameter sets that each cost a stress to look at, under a limit: a local search with a certificate.
Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from backtest.errors import UserError

Values = tuple[int, ...]
MOST_PARAMETERS = 8
FULLY_AROUND = 3
"""Up to so many parameters all neighbours of a set are looked at; of more those that differ in one or two of them."""
_REFUSED = -1.0


@dataclass(frozen=True, slots=True)
class Tried:
    """A set that was looked at. ``aim``: the more the better; ``risk``: at most the limit; both None where it was
    refused, with the reason.
    """

    values: Values
    aim: int | None
    risk: int | None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Sought:
    """What a search found.

    Attributes:
        best: of all sets within the limit, the one of most aim (of several the one of least risk, then the nearest to
            the present one); None: no set that was looked at keeps the limit.
        runner_up: the next one.
        tried: every set, in order.
        settled: every neighbour (``moves_of``) of the best one was looked at, and none is better (where none keeps the
            limit: of the one of least risk, and none has less); else the looks were spent.
    """

    best: Tried | None
    runner_up: Tried | None
    tried: tuple[Tried, ...]
    settled: bool


class _Spent(Exception):
    """No look is left."""


def looks_of(parameters: int) -> int:
    """How many looks a search over so many parameters has as a rule: room for two rounds of neighbours."""
    return max(60, 4 * parameters**2)


def moves_of(parameters: int) -> list[Values]:
    """The neighbours of a set, as grid steps in each parameter, those that change fewest first. Up to three parameters
    all 3^n - 1 of them; of more the 2 n^2 that change one or two, which is what a trade of one parameter for another
    under a limit takes.
    """
    most = parameters if parameters <= FULLY_AROUND else 2
    moves = (
        tuple(dict(zip(which, by, strict=True)).get(place, 0) for place in range(parameters))
        for size in range(1, most + 1)
        for which in itertools.combinations(range(parameters), size)
        for by in itertools.product((-1, 1), repeat=size)
    )
    return list(moves)


def search(
    look: Callable[[Values], Tried],
    present: Values,
    bounds: Sequence[tuple[int, int]],
    *,
    step: int,
    limit: int,
    most: int,
) -> Sought:
    """The best set on a grid of ``step`` around ``present``, within ``bounds`` (inclusive), by at most ``most`` looks.

    In two steps. COBYQA (Ragonneau and Zhang 2023: derivative-free trust regions that honour bounds and constraints;
    scipy.optimize) goes from the present set and from the corner of most change upwards: a look costs a stress, and it
    gets on with some dozens of them, where evolution strategies want hundreds. Sets are rounded to the grid, so that
    the aim is a staircase; then the neighbours of the best set (``moves_of``) are looked at, going on from a better one
    as soon as it is found, until none is: that is what ``settled`` says, and all that it says. A better set far away is
    possible.

    Raises:
        UserError: no parameter or more than eight, a step below one, bounds that leave the present set out.
    """
    if not 1 <= len(present) <= MOST_PARAMETERS:
        raise UserError(f"a search over {len(present)} parameters", f"name 1 to {MOST_PARAMETERS} of them")
    if step < 1 or most < 1:
        raise UserError(f"a step of {step} and {most} looks", "give 1 or more of each")
    for value, (low, high) in zip(present, bounds, strict=True):
        if not low <= value <= high:
            raise UserError(f"bounds {low} to {high} leave out the present value {value}", "widen them")
    own = _Looks(look, most)
    # Whole steps from the present set, as far as the bounds go.
    spans = [
        (-((value - low) // step), (high - value) // step) for value, (low, high) in zip(present, bounds, strict=True)
    ]

    def at(places: Sequence[int]) -> Values:
        return tuple(value + step * place for value, place in zip(present, places, strict=True))

    settled = False
    try:
        first = own(present)
        # What the aim may be worth relative to what it is, and the risk to its limit.
        scale, room = max(abs(first.aim or 0), 1), max(limit, abs(first.risk or 0), 1)
        for start in ([0] * len(present), [high for _, high in spans]):
            _descend(lambda places: own(at(places)), start, spans, scale, limit, room)
        around, moves = _around(own.tried, present, limit), moves_of(len(present))
        while around is not None and not settled:
            place = [(value - now) // step for value, now in zip(around.values, present, strict=True)]
            settled = True
            for move in moves:
                beside = [one + by for one, by in zip(place, move, strict=True)]
                if all(low <= one <= high for one, (low, high) in zip(beside, spans, strict=True)):
                    own(at(beside))
                    if (better := _around(own.tried, present, limit)) != around:
                        around, settled = better, False
                        break
        settled = True
    except _Spent:
        pass
    best, runner_up = ranked(own.tried, present, limit)
    return Sought(best, runner_up, tuple(own.tried), settled)


def ranked(tried: Sequence[Tried], present: Values, limit: int) -> tuple[Tried | None, Tried | None]:
    """The best set within the limit, and the next one."""
    within = [one for one in tried if one.aim is not None and one.risk is not None and one.risk <= limit]

    def worse(one: Tried) -> tuple[int, int, int, Values]:
        away = sum(abs(value - now) for value, now in zip(one.values, present, strict=True))
        return -(one.aim or 0), one.risk or 0, away, one.values

    ordered = sorted(within, key=worse)
    return ordered[0] if ordered else None, ordered[1] if len(ordered) > 1 else None


def _around(tried: Sequence[Tried], present: Values, limit: int) -> Tried | None:
    """The best set within the limit; where there is none, the one of least risk."""
    best, _ = ranked(tried, present, limit)
    known = [one for one in tried if one.risk is not None]
    return best or min(known, key=lambda one: (one.risk or 0, -(one.aim or 0), one.values), default=None)


class _Looks:
    """Every set is looked at once."""

    def __init__(self, look: Callable[[Values], Tried], most: int) -> None:
        self._look, self._most = look, most
        self._known: dict[Values, Tried] = {}

    def __call__(self, values: Values) -> Tried:
        if values not in self._known:
            if len(self._known) >= self._most:
                raise _Spent
            self._known[values] = self._look(values)
        return self._known[values]

    @property
    def tried(self) -> list[Tried]:
        return list(self._known.values())


def _descend(
    look: Callable[[Sequence[int]], Tried],
    start: Sequence[int],
    spans: Sequence[tuple[int, int]],
    scale: int,
    limit: int,
    room: int,
) -> None:
    """COBYQA over whole steps, each coordinate scaled to its span."""
    widths = np.array([max(high - low, 1) for low, high in spans], dtype=np.float64)

    def told(x: npt.NDArray[np.float64]) -> Tried:
        places = np.clip(np.round(x * widths), [low for low, _ in spans], [high for _, high in spans])
        return look([int(one) for one in places])

    def loss(x: npt.NDArray[np.float64]) -> float:
        one = told(x)
        return 0.0 if one.aim is None else -one.aim / scale

    def left(x: npt.NDArray[np.float64]) -> float:
        one = told(x)
        return _REFUSED if one.risk is None else (limit - one.risk) / room

    optimize.minimize(
        loss,
        np.array(start, dtype=np.float64) / widths,
        method="COBYQA",
        bounds=optimize.Bounds(
            [low / width for (low, _), width in zip(spans, widths, strict=True)],
            [high / width for (_, high), width in zip(spans, widths, strict=True)],
        ),
        constraints=optimize.NonlinearConstraint(left, 0.0, np.inf),
        options={
            "initial_tr_radius": max(0.25, 1 / float(widths.min())),
            "final_tr_radius": float(0.5 / widths.max()),
            "maxfev": looks_of(len(spans)),
        },
    )
