"""What happens beside the prices' own movement: frozen structs that change a path, in the order in which a case names
them. Pure.

Times are seconds after the book's moment, levels and shares basis points; of a pair the draw is even between both ends.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
from typing_extensions import override

from backtest.errors import ScenarioError
from backtest.scenario.base import Strict, at_least
from backtest.shocks.panel import Panel, columns
from backtest.shocks.path import StressPath
from backtest.units import BPS

Span = tuple[int, int]


class StressEvent(Strict, frozen=True, tag_field="event"):
    """What every event is. ``assets`` of those that name some: labels, ``moving``, ``steady``, ``all``."""

    source: ClassVar[str]
    """Where such a thing happened, or who described it."""

    @property
    def unseen(self) -> bool:
        """Whether the oracle may say something else than the market at the end of the path."""
        return False

    @abstractmethod
    def happen(self, path: StressPath, panel: Panel, draw: np.random.Generator) -> None:
        """Change the path."""
        ...

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if isinstance(value, tuple) and value and all(isinstance(end, int) for end in value):
                at_least(0, **{field: value[0]})
                if value[0] > value[1]:
                    raise ScenarioError(f"{field} = {list(value)}", "give the lower end first")


class PegBreak(StressEvent, frozen=True, tag="peg-break"):
    """Assets lose their peg: from a time on they trade at a share of what they would be worth, and perhaps come back,
    half of the way each ``half_life``. Their oracle sees it (market), or says what the peg says (hard-coded).
    """

    source: ClassVar[str] = "stETH, June 2022 (0.92 to 0.937 of ETH); USDC, 11 March 2023 (0.88)"
    assets: tuple[str, ...]
    to: Span
    """What share is left."""
    at: Span = (0, 3_600)
    """When it begins."""
    lasts: Span = (3_600, 7_200)
    """How long it takes from the peg to the lowest, in a straight line of logarithms."""
    half_life: int | None = None
    """Of what is lost, after the lowest; None: it does not come back."""
    oracle: Literal["market", "hard-coded"] = "market"
    """What the oracle says."""

    @property
    @override
    def unseen(self) -> bool:
        return self.oracle == "hard-coded"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, to=self.to[0], half_life=self.half_life)

    def happen(self, path: StressPath, panel: Panel, draw: np.random.Generator) -> None:
        at, lasts = _between(draw, self.at), max(1, _between(draw, self.lasts))
        lost = np.log(_between(draw, self.to) / BPS)
        time = np.arange(1, path.steps + 1) * panel.step
        way = np.clip((time - at) / lasts, 0.0, 1.0)
        if self.half_life is not None:
            way = way * 0.5 ** (np.maximum(0, time - at - lasts) / self.half_life)
        _scale(path, columns(panel, self.assets), np.exp(lost * way), oracle=self.oracle == "market")


class OracleFault(StressEvent, frozen=True, tag="oracle-fault"):
    """The oracle of some assets is wrong for a time while the market goes on.

    ``misprint``: it says ``level`` of the market's price. ``stale``: it says nothing. ``capped``: it says no more than
    ``level`` of what it said at the book's moment. ``floor``: it says no less than that, however low the market.
    ``hard-coded``: it says what it said at the book's moment.
    """

    source: ClassVar[str] = (
        "DAI at 1.30, 26 November 2020; LUNA's floor, May 2022; xUSD hard-coded, November 2025; wstETH capped 2.85 %"
        " low, March 2026"
    )
    assets: tuple[str, ...]
    kind: Literal["misprint", "stale", "capped", "floor", "hard-coded"]
    level: Span = (BPS, BPS)
    """Of misprint, capped and floor."""
    at: Span = (0, 0)
    """When it begins."""
    lasts: Span | None = None
    """How long; None: to the end."""

    @property
    @override
    def unseen(self) -> bool:
        return self.lasts is None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, level=self.level[0])

    def happen(self, path: StressPath, panel: Panel, draw: np.random.Generator) -> None:
        during = _during(path, panel, draw, self.at, self.lasts)
        level = _between(draw, self.level) / BPS
        for asset in columns(panel, self.assets):
            said = path.oracle[:, asset]
            told = {
                "misprint": path.market[:, asset] * level,
                "stale": np.full(path.steps, np.nan),
                "capped": np.fmin(said, level),
                "floor": np.fmax(said, level),
                "hard-coded": np.ones(path.steps),
            }[self.kind]
            path.oracle[:, asset] = np.where(during, told, said)


class Worthless(StressEvent, frozen=True, tag="worthless"):
    """Assets go to a given value and cannot be sold for more: a loss of what they stand for. The oracle says so
    (market), or does not (hard-coded): then nobody is liquidated whose collateral it is, and nobody would buy it.
    """

    source: ClassVar[str] = "xUSD, November 2025 (0.11 to 0.30); rsETH, 18 April 2026 (a deficit of 15 %)"
    assets: tuple[str, ...]
    to: Span = (0, 0)
    """What share is left."""
    at: Span = (0, 0)
    """When it happens."""
    oracle: Literal["market", "hard-coded"] = "hard-coded"
    """What the oracle says."""

    @property
    @override
    def unseen(self) -> bool:
        return self.oracle == "hard-coded"

    def happen(self, path: StressPath, panel: Panel, draw: np.random.Generator) -> None:
        after = _during(path, panel, draw, self.at, None)
        left = _between(draw, self.to) / BPS
        _scale(path, columns(panel, self.assets), np.where(after, left, 1.0), oracle=self.oracle == "market")


class BridgeLoss(StressEvent, frozen=True, tag="bridge-loss"):
    """What a bridge holds for some assets is lost in part: they trade at what is left of it, and their oracles, which
    price what they stand for, do not see it.
    """

    source: ClassVar[str] = "Multichain, July 2023; the backing of rsETH, 18 April 2026"
    assets: tuple[str, ...]
    lost: Span
    """What share is lost."""
    at: Span = (0, 0)
    """When it is known."""

    @property
    @override
    def unseen(self) -> bool:
        return True

    def happen(self, path: StressPath, panel: Panel, draw: np.random.Generator) -> None:
        after = _during(path, panel, draw, self.at, None)
        left = max(0, BPS - _between(draw, self.lost)) / BPS
        _scale(path, columns(panel, self.assets), np.where(after, left, 1.0), oracle=False)


class SequencerOutage(StressEvent, frozen=True, tag="outage"):
    """The chain makes no blocks for a time: no oracle round, no liquidation, no repayment; then the oracle says where
    the market is. Gas and depth go on as they are.
    """

    source: ClassVar[str] = "Arbitrum, 15 December 2023; Base, 5 August 2025"
    at: Span
    lasts: Span

    def happen(self, path: StressPath, panel: Panel, draw: np.random.Generator) -> None:
        path.open[_during(path, panel, draw, self.at, self.lasts)] = False


class MarketPause(StressEvent, frozen=True, tag="pause"):
    """The market is paused for a time: the oracle goes on and nobody can act on it, so that what it says within the
    pause decides nothing. The same as an outage to who is liquidated; without the grace of an unpaused reserve.
    """

    source: ClassVar[str] = (
        "lending markets on four chains, 4 November 2023; recommended for USDC on 11 March 2023, and not done"
    )
    at: Span
    lasts: Span

    def happen(self, path: StressPath, panel: Panel, draw: np.random.Generator) -> None:
        path.open[_during(path, panel, draw, self.at, self.lasts)] = False


class WhaleExit(StressEvent, frozen=True, tag="whale-exit"):
    """A holder sells as much of some assets as ``sold`` of what one side of a constant-product pool holds of them, in
    equal parts over a time: the price falls to 1 / (1 + sold)^2 and comes back, as others buy, by the half-life.
    """

    source: ClassVar[str] = (
        "3AC and Celsius, about 800 million USD out of stETH's pool, May and June 2022; the price after a sale into x y"
        " = k"
    )
    assets: tuple[str, ...]
    sold: Span
    """As a share of the pool's side: 10000 is as much as it holds."""
    at: Span = (0, 0)
    lasts: Span = (3_600, 3_600)
    half_life: int | None = None
    """None: the price stays where the sale left it."""

    def happen(self, path: StressPath, panel: Panel, draw: np.random.Generator) -> None:
        at, lasts = _between(draw, self.at), max(1, _between(draw, self.lasts))
        sold = _between(draw, self.sold) / BPS
        time = np.arange(1, path.steps + 1) * panel.step
        part = np.clip((time - at) / lasts, 0.0, 1.0)
        fall = -2 * np.log1p(sold * part)
        if self.half_life is not None:
            fall = fall * 0.5 ** (np.maximum(0, time - at - lasts) / self.half_life)
        _scale(path, columns(panel, self.assets), np.exp(fall), oracle=True)


class SuppliersExit(StressEvent, frozen=True, tag="suppliers-exit"):
    """The largest suppliers of some assets who owe nothing take out a share of what all such suppliers hold, at once or
    in equal parts over a time, as far as there is liquidity: what is left is borrowed out, and collateral that is
    seized can hardly be paid.
    """

    source: ClassVar[str] = "outflows of 8 to 10 billion USD after rsETH, 18 April 2026: pools at full utilisation"
    assets: tuple[str, ...]
    share: Span
    at: Span = (0, 0)
    lasts: Span = (0, 0)
    """From the first part to the last, one in each step."""

    def happen(self, path: StressPath, panel: Panel, draw: np.random.Generator) -> None:
        step = min(path.steps, _between(draw, self.at) // panel.step + 1)
        share = min(BPS, _between(draw, self.share))
        lasts = _between(draw, self.lasts) if any(self.lasts) else 0
        parts = min(lasts // panel.step, path.steps - step) + 1
        for place in range(parts):
            part = share * (place + 1) // parts - share * place // parts
            path.leaves.extend((step + place, asset, part) for asset in columns(panel, self.assets))
        path.leaves.sort()


class Congestion(StressEvent, frozen=True, tag="congestion"):
    """Gas costs a multiple, and a share of the usual depth is left, for a time."""

    source: ClassVar[str] = (
        "12 March 2020 (gas six times and more); 10 October 2025 (a quarter of the depth within 100 basis points left)"
    )
    gas: Span = (1, 1)
    """How many times as much gas costs."""
    depth: Span = (BPS, BPS)
    """What share of the depth is left."""
    at: Span = (0, 0)
    lasts: Span | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, gas=self.gas[0], depth=self.depth[0])

    def happen(self, path: StressPath, panel: Panel, draw: np.random.Generator) -> None:
        during = _during(path, panel, draw, self.at, self.lasts)
        path.gas[during] *= _between(draw, self.gas)
        path.depth[during] *= _between(draw, self.depth) / BPS


AnyEvent = (
    PegBreak
    | OracleFault
    | Worthless
    | BridgeLoss
    | SequencerOutage
    | MarketPause
    | WhaleExit
    | SuppliersExit
    | Congestion
)


def _between(draw: np.random.Generator, span: Span) -> int:
    """Evenly among the whole numbers of a span, both ends included."""
    return int(draw.integers(span[0], span[1] + 1))


def _during(
    path: StressPath, panel: Panel, draw: np.random.Generator, at: Span, lasts: Span | None
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """By step, whether it lies within; a step is what stands at its end."""
    time = np.arange(1, path.steps + 1) * panel.step
    begin = _between(draw, at)
    within = time > begin if begin else time >= 0
    if lasts is not None:
        within = within & (time <= begin + _between(draw, lasts))
    return np.asarray(within)


def _scale(path: StressPath, assets: list[int], factor: np.ndarray, *, oracle: bool) -> None:
    path.market[:, assets] *= factor[:, None]
    if oracle:
        path.oracle[:, assets] *= factor[:, None]
