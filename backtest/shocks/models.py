"""Models of joint prices: each a frozen struct with its source, a fit to data and a draw of one path. Pure.

A fit is a mapping of arrays, so that whoever draws needs no fitting of its own; a draw gives log returns (steps x
assets) and, where the data have them, gas and depth of the same moments. No model adds a drift: diffusions and
residuals have mean zero, rows that are drawn as they are have the data's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy import stats

from backtest.errors import ScenarioError
from backtest.scenario.base import Strict, at_least
from backtest.shocks import fits
from backtest.shocks.panel import Floats, Ints, Panel, columns
from backtest.units import BPS

Fit = Mapping[str, Floats]
DAY = 86_400
PER_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """Log returns (steps x assets), and by step gas and depth as multiples of their medians; None: unchanged."""

    returns: Floats
    gas: Floats | None = None
    depth: Floats | None = None


class PriceModel(Strict, frozen=True, tag_field="model"):
    """What every model is."""

    source: ClassVar[str]
    """Who described it."""
    random: ClassVar[bool] = True
    """Whether paths differ."""

    @abstractmethod
    def fit(self, panel: Panel) -> Fit:
        """To the data; UserError where they are too few."""
        ...

    @abstractmethod
    def draw(self, fit: Fit, draw: np.random.Generator, steps: int) -> Drawn:
        """One path."""
        ...


class Still(PriceModel, frozen=True, tag="still"):
    """Prices stay; what happens is in the case's events."""

    source: ClassVar[str] = "none: prices do not move by themselves"
    random: ClassVar[bool] = False

    def fit(self, panel: Panel) -> Fit:
        return {"assets": np.zeros(len(panel.assets))}

    def draw(self, fit: Fit, draw: np.random.Generator, steps: int) -> Drawn:
        return Drawn(np.zeros((steps, len(fit["assets"]))))


class Recorded(PriceModel, frozen=True, tag="recorded"):
    """A path that happened, of the assets that are named; a point holds until the next one."""

    source: ClassVar[str] = "the prices themselves"
    random: ClassVar[bool] = False
    points: tuple[tuple[int, int], ...]
    """(seconds after the book's moment, price in millionths of its beginning), in order of time."""
    assets: tuple[str, ...] = ("moving",)
    """Labels, or ``moving``, ``steady``, ``all``."""
    scale: int = BPS
    """Log returns are so many ten-thousandths of those that happened."""

    def __post_init__(self) -> None:
        super().__post_init__()
        times = [time for time, _ in self.points]
        if not times or times != sorted(set(times)) or times[0] < 0 or min(price for _, price in self.points) <= 0:
            raise ScenarioError("points of recorded prices", "give (seconds, price above zero), in order of time")
        at_least(0, scale=self.scale)

    def fit(self, panel: Panel) -> Fit:
        moved = np.zeros(len(panel.assets))
        moved[columns(panel, self.assets)] = 1.0
        return {"assets": moved, "step": np.array([float(panel.step)])}

    def draw(self, fit: Fit, draw: np.random.Generator, steps: int) -> Drawn:
        times = np.array([time for time, _ in self.points])
        level = np.log(np.array([price for _, price in self.points]) / PER_MILLION) * (self.scale / BPS)
        place = np.searchsorted(times, np.arange(1, steps + 1) * fit["step"][0], side="right") - 1
        at = np.where(place < 0, 0.0, level[np.maximum(place, 0)])
        return Drawn(np.diff(at, prepend=0.0)[:, None] * fit["assets"][None, :])


class NamedCrash(PriceModel, frozen=True, tag="crash"):
    """A named crash of ``data/crashes``: its horizon with the deepest fall (of a debt's price: the highest rise), put
    on today's book. Whoever knows the files makes it ``Recorded``.
    """

    source: ClassVar[str] = "data/crashes, which names the venue of each path"
    random: ClassVar[bool] = False
    name: str
    """As of ``backtest crash``."""
    assets: tuple[str, ...] = ("moving",)
    """Who moves as the crash's asset did."""
    scale: int = BPS
    """As of ``recorded``."""


class Sigmas(PriceModel, frozen=True, tag="sigmas"):
    """A fall of so many standard deviations of each asset over the horizon of the fall, all at once: correlation one.
    The deviation is the data's, of overlapping sums over ``seconds``; prices fall in equal steps and stay.
    """

    source: ClassVar[str] = "Kupiec (1998), Stress testing in a value at risk framework: moves of k sigma"
    random: ClassVar[bool] = False
    sigmas: int = 6
    """How many."""
    seconds: int = 3_600
    """Over which they fall."""
    assets: tuple[str, ...] = ("moving",)
    """Who falls."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, sigmas=abs(self.sigmas), seconds=self.seconds)

    def fit(self, panel: Panel) -> Fit:
        length = max(1, self.seconds // panel.step)
        chosen = np.zeros(len(panel.assets))
        chosen[columns(panel, self.assets)] = 1.0
        sums = _summed(panel.required().returns, length)
        return {"fall": -self.sigmas * sums.std(axis=0) * chosen, "steps": np.array([float(length)])}

    def draw(self, fit: Fit, draw: np.random.Generator, steps: int) -> Drawn:
        length = int(fit["steps"][0])
        returns = np.zeros((steps, len(fit["fall"])))
        returns[:length] = fit["fall"] / length
        return Drawn(returns)


class ScaledHistory(PriceModel, frozen=True, tag="history"):
    """Stretches of the data as they were, each from a start of its own, with log returns scaled."""

    source: ClassVar[str] = "Hull and White (1998), historical simulation; the start is drawn, the scale is stated"
    scale: int = BPS
    """Log returns are so many ten-thousandths of the data's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, scale=self.scale)

    def fit(self, panel: Panel) -> Fit:
        return _rows(panel)

    def draw(self, fit: Fit, draw: np.random.Generator, steps: int) -> Drawn:
        count = len(fit["returns"])
        rows = (draw.integers(0, count) + np.arange(steps)) % count
        found = _taken(fit, rows)
        return Drawn(found.returns * (self.scale / BPS), found.gas, found.depth)


class Bootstrap(PriceModel, frozen=True, tag="bootstrap"):
    """Stationary block bootstrap of joint rows: returns of all assets, gas and depth of one moment stay together."""

    source: ClassVar[str] = (
        "Politis and Romano (1994), The stationary bootstrap; block length by Politis and White (2004)"
    )
    block: int | None = None
    """Mean length of a block, steps; None: the longest of those that Politis and White choose for each asset's
    magnitude of returns.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, block=self.block)

    def fit(self, panel: Panel) -> Fit:
        block = float(self.block) if self.block is not None else fits.block_length(panel.required())
        return {**_rows(panel), "block": np.array([block])}

    def draw(self, fit: Fit, draw: np.random.Generator, steps: int) -> Drawn:
        return _taken(fit, stationary(draw, len(fit["returns"]), steps, fit["block"][0]))


class Filtered(PriceModel, frozen=True, tag="filtered"):
    """Filtered historical simulation: a GARCH(1,1) of each asset, and joint rows of what it leaves, drawn again."""

    source: ClassVar[str] = (
        "Barone-Adesi, Giannopoulos and Vosper (1999), VaR without correlations; Bollerslev (1986), GARCH"
    )
    start: Literal["today", "usual", "worst"] = "today"
    """Volatility at the beginning: the data's last, their mean, or the highest of them."""
    block: int = 1
    """Mean length of a block of standardised rows, steps; 1: each row by itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, block=self.block)

    def fit(self, panel: Panel) -> Fit:
        garch = fits.garch(panel.required())
        rows = _rows(panel)
        first = {"today": garch.ahead, "usual": garch.usual, "worst": garch.worst}[self.start]
        return {
            **rows,
            "residuals": garch.residuals,
            "terms": np.stack([garch.omega, garch.alpha, garch.beta, first]),
            "filtered": garch.filtered.astype(np.float64),
        }

    def draw(self, fit: Fit, draw: np.random.Generator, steps: int) -> Drawn:
        omega, alpha, beta, variance = fit["terms"]
        rows = stationary(draw, len(fit["residuals"]), steps, self.block)
        shocks = fit["residuals"][rows]
        returns = np.empty_like(shocks)
        for step in range(steps):
            returns[step] = np.sqrt(variance) * shocks[step]
            variance = omega + alpha * returns[step] ** 2 + beta * variance
        found = _taken(fit, rows)
        return Drawn(returns, found.gas, found.depth)


class Regimes(PriceModel, frozen=True, tag="regimes"):
    """Two regimes of volatility and correlation, calm and stressed, that follow each other as a Markov chain; within
    each returns are jointly Student-t with the regime's covariance.
    """

    source: ClassVar[str] = (
        "Hamilton (1989), regimes as a Markov chain; Ang and Chen (2002), correlations that rise in falls"
    )
    stressed: int = 1_000
    """Share of the data's rows that count as stressed, those of the highest volatility; basis points."""
    freedom: int = 4
    """Degrees of freedom of the Student-t."""
    start: Literal["calm", "stressed"] = "stressed"
    """The regime at the beginning."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(3, freedom=self.freedom)
        if not 1 <= self.stressed < BPS:
            raise ScenarioError(f"stressed = {self.stressed} is no share of rows", "give basis points, 1 to 9999")

    def fit(self, panel: Panel) -> Fit:
        found = fits.regimes(panel.required(), self.stressed / BPS)
        gas = _by_regime(panel.gas, found.stressed)
        depth = _by_regime(panel.depth, found.stressed)
        return {
            "calm": found.roots[0],
            "stress": found.roots[1],
            "leave": found.leave,
            **({} if gas is None else {"gas": gas}),
            **({} if depth is None else {"depth": depth}),
        }

    def draw(self, fit: Fit, draw: np.random.Generator, steps: int) -> Drawn:
        change, normal = draw.random(steps), draw.standard_normal((steps, len(fit["calm"])))
        mixed = normal * np.sqrt((self.freedom - 2) / draw.chisquare(self.freedom, steps))[:, None]
        state = np.empty(steps, np.int64)
        now = int(self.start == "stressed")
        for step in range(steps):
            now = 1 - now if change[step] < fit["leave"][now] else now
            state[step] = now
        both = np.stack([mixed @ fit["calm"].T, mixed @ fit["stress"].T])
        return Drawn(both[state, np.arange(steps)], *(fit[name][state] if name in fit else None for name in _BESIDE))


class Jumps(PriceModel, frozen=True, tag="jumps"):
    """Diffusion with correlated parts, jumps that all moving assets make together, and jumps of one asset alone. What
    is not given is estimated: variance by bipower variation, jumps as returns beyond ``threshold`` deviations.
    Jumps are not compensated by a drift.
    """

    source: ClassVar[str] = "Merton (1976), jump diffusion; Barndorff-Nielsen and Shephard (2004), bipower variation"
    per_day: int | None = None
    """Joint jumps a day, ten-thousandths."""
    size: int | None = None
    """Mean log size of a joint jump, basis points; negative: a fall."""
    deviation: int | None = None
    """Its standard deviation, basis points."""
    threshold: int = 5
    """Beyond how many deviations a return counts as a jump."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, per_day=self.per_day, deviation=self.deviation)
        at_least(2, threshold=self.threshold)

    def fit(self, panel: Panel) -> Fit:
        found = fits.jumps(panel.required(), self.threshold)
        rate = found.joint_rate if self.per_day is None else self.per_day / BPS * panel.step / DAY
        mean = found.joint_mean if self.size is None else np.where(panel.moving, self.size / BPS, 0.0)
        deviation = found.joint_deviation
        if self.deviation is not None:
            deviation = np.where(panel.moving, self.deviation / BPS, 0.0)
        return {
            "root": found.root,
            "rate": np.array([rate]),
            "mean": mean,
            "deviation": deviation,
            "own_rate": found.own_rate,
            "own_deviation": found.own_deviation,
        }

    def draw(self, fit: Fit, draw: np.random.Generator, steps: int) -> Drawn:
        count = len(fit["mean"])
        returns = draw.standard_normal((steps, count)) @ fit["root"].T
        joint = draw.poisson(fit["rate"][0], steps)[:, None]
        same = draw.standard_normal((steps, 1))  # one number: a joint jump is as large for everybody, in their measure
        returns = returns + joint * fit["mean"] + np.sqrt(joint) * same * fit["deviation"]
        alone = draw.poisson(np.broadcast_to(fit["own_rate"], (steps, count)))
        return Drawn(returns + np.sqrt(alone) * draw.standard_normal((steps, count)) * fit["own_deviation"])


class Copula(PriceModel, frozen=True, tag="copula"):
    """A Student-t copula over the data's own distributions of returns; steps are independent of each other."""

    source: ClassVar[str] = "Demarta and McNeil (2005), The t copula; correlations by Kendall's tau"
    freedom: int | None = None
    """Degrees of freedom; None: those of the greatest likelihood between 2 and 30."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, freedom=self.freedom)

    def fit(self, panel: Panel) -> Fit:
        root, freedom = fits.copula(panel.required(), self.freedom)
        return {"root": root, "freedom": np.array([freedom]), "sorted": np.sort(panel.returns, axis=0)}

    def draw(self, fit: Fit, draw: np.random.Generator, steps: int) -> Drawn:
        freedom, data = float(fit["freedom"][0]), fit["sorted"]
        normal = draw.standard_normal((steps, len(fit["root"]))) @ fit["root"].T
        student = normal * np.sqrt(freedom / draw.chisquare(freedom, steps))[:, None]
        place = np.clip(stats.t.cdf(student, freedom), 0, 1) * (len(data) - 1)
        return Drawn(
            np.column_stack(
                [np.interp(place[:, asset], np.arange(len(data)), data[:, asset]) for asset in range(data.shape[1])]
            )
        )


AnyModel = Filtered | Bootstrap | ScaledHistory | Regimes | Jumps | Copula | Sigmas | NamedCrash | Recorded | Still
_BESIDE = ("gas", "depth")


def stationary(draw: np.random.Generator, rows: int, steps: int, block: float) -> Ints:
    """Rows of a stationary bootstrap: blocks whose lengths are geometric with this mean, each from a row of its own;
    the last row is followed by the first.
    """
    new = draw.random(steps) < 1.0 / block
    starts = draw.integers(0, rows, steps)
    new[:1] = True
    at = np.arange(steps)
    begun = np.maximum.accumulate(np.where(new, at, 0))
    return np.asarray((starts[begun] + at - begun) % rows, dtype=np.int64)


def tail_dependence(freedom: float, correlation: float) -> float:
    """Of two assets under a t copula, the chance that one is beyond a quantile given that the other is, as it goes to
    the end: 2 t(-sqrt((v + 1)(1 - r) / (1 + r))) of v + 1 degrees (Demarta and McNeil 2005).
    """
    reach = np.sqrt((freedom + 1) * (1 - correlation) / (1 + correlation))
    return float(2 * stats.t.cdf(-reach, freedom + 1))


def _rows(panel: Panel) -> Fit:
    """The data's rows as they are."""
    beside = {name: value for name in _BESIDE if (value := getattr(panel, name)) is not None}
    return {"returns": panel.required().returns, **beside}


def _taken(fit: Fit, rows: Ints) -> Drawn:
    return Drawn(fit["returns"][rows], *(fit[name][rows] if name in fit else None for name in _BESIDE))


def _by_regime(values: Floats | None, stressed: Floats) -> Floats | None:
    """The mean in each regime."""
    if values is None:
        return None
    return np.array([values[stressed == which].mean() for which in (0, 1)])


def _summed(returns: Floats, length: int) -> Floats:
    """Overlapping sums of so many rows."""
    level = np.concatenate([np.zeros((1, returns.shape[1])), np.cumsum(returns, axis=0)])
    return np.asarray(level[length:] - level[:-length])
