"""What a liquidation costs who makes it. Amounts are base-currency units, gas prices wei, shares basis points."""

from __future__ import annotations

from typing import Literal

from backtest.errors import ScenarioError
from backtest.scenario.base import Strict, at_least, seconds_of, share


class Step(Strict, frozen=True):
    """A base fee from a time on."""

    from_time: str
    """UTC, 2020-03-12T08:00:00."""
    base_fee: int
    """Wei."""

    def __post_init__(self) -> None:
        super().__post_init__()
        seconds_of(self.from_time, "costs.gas.steps: from_time")
        at_least(0, costs__gas__steps__base_fee=self.base_fee)


class Demand(Strict, frozen=True):
    """How full blocks are, for a number of them."""

    blocks: int
    """How many."""
    used: int
    """Gas used, basis points of the target; 20000 are full blocks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, costs__gas__demand__blocks=self.blocks)
        if not 0 <= self.used <= 20_000:
            raise ScenarioError(f"costs.gas.demand: used = {self.used}", "give basis points of the target, 0 to 20000")


class Gas(Strict, frozen=True):
    """What gas costs."""

    fee: Literal["historical", "constant", "steps", "eip-1559"] = "historical"
    """The base fee: of history's blocks, one for all, given over time, or moved from block to block by ``demand``."""
    base_fee: int | None = None
    """Wei: the constant one, or the first of ``eip-1559``."""
    steps: tuple[Step, ...] = ()
    """Of ``steps``."""
    demand: tuple[Demand, ...] = ()
    """Of ``eip-1559``, from the first block in which the model acts; afterwards blocks use their target."""
    spike: int = 1
    """The base fee is this many times as high,"""
    spike_from: str | None = None
    """from this time on (UTC),"""
    spike_until: str | None = None
    """until this time; None: always."""
    tip: int = 0
    """Priority fee on top, wei."""
    units: int | None = None
    """Gas of one call with its loan and sale; None: what the protocol's calls use."""
    native: str | None = None
    """The asset whose oracle price is that of the chain's native token; None: WETH, where the market has it."""
    native_price: int | None = None
    """Instead: its price, base units a whole token."""

    def __post_init__(self) -> None:
        super().__post_init__()
        needs = self.fee in ("constant", "eip-1559")
        if needs != (self.base_fee is not None):
            said = f"fee = '{self.fee}' {'without' if needs else 'with'} base_fee"
            raise ScenarioError(f"costs.gas: {said}", "give base_fee, in wei, with constant and eip-1559")
        if (self.fee == "steps") != bool(self.steps):
            raise ScenarioError(
                f"costs.gas: fee = '{self.fee}' {'with' if self.steps else 'without'} steps",
                "give steps with fee = 'steps'",
            )
        if self.demand and self.fee != "eip-1559":
            raise ScenarioError(f"costs.gas: fee = '{self.fee}' with demand", "use fee = 'eip-1559'")
        at_least(0, costs__gas__base_fee=self.base_fee, costs__gas__tip=self.tip, costs__gas__units=self.units)
        at_least(1, costs__gas__spike=self.spike, costs__gas__native_price=self.native_price)
        times = [seconds_of(step.from_time, "costs.gas.steps: from_time") for step in self.steps]
        if times != sorted(set(times)):
            raise ScenarioError("costs.gas.steps are not in order of time", "sort them, each time once")
        for name in ("spike_from", "spike_until"):
            if (text := getattr(self, name)) is not None:
                seconds_of(text, f"costs.gas.{name}")


class Slippage(Strict, frozen=True):
    """What selling collateral costs beyond the market price, for one asset or for all that no other entry names."""

    model: Literal["none", "constant-product", "square-root", "depth", "pools"] = "none"
    """None; a pool of two reserves; the square root of size over volume; a curve of quotes; or the pools that were
    fetched.
    """
    asset: str | None = None
    """Symbol or address; None: every other asset."""
    reserve: int | None = None
    """Of ``constant-product``: what the pool holds of the asset, base units."""
    fee: int = 30
    """Of ``constant-product``, basis points."""
    daily_volume: int | None = None
    """Of ``square-root``: base units."""
    daily_volatility: int | None = None
    """Of ``square-root``: basis points."""
    coefficient: int = 10_000
    """Of ``square-root``: Y in Y * volatility * sqrt(size / volume), in ten-thousandths."""
    curve: tuple[tuple[int, int], ...] = ()
    """Of ``depth``: sizes sold (base units) and how much less than the market price they bring on average (basis
    points), both rising. Between two points it is a straight line; beyond the last it grows with the square root of
    size, and runs say how often that was used.
    """
    depth: int = 10_000
    """How much of the stated depth is there, basis points: 2500 in a stress that leaves a quarter."""
    measured: str = ""
    """When and how the figures were taken; printed with results."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"costs.slippage of {self.asset or 'every asset'}"
        needed = {
            "constant-product": ("reserve",),
            "square-root": ("daily_volume", "daily_volatility"),
            "depth": ("curve",),
        }
        for field in ("reserve", "daily_volume", "daily_volatility", "curve"):
            wanted, there = field in needed.get(self.model, ()), bool(getattr(self, field))
            if wanted != there:
                raise ScenarioError(
                    f"{where}: {self.model} {'without' if wanted else 'with'} {field}",
                    f"{'give' if wanted else 'leave out'} {field}",
                )
        if any(value is not None and value < 0 for value in (self.reserve, self.daily_volume, self.daily_volatility)):
            raise ScenarioError(f"{where}: a negative figure", "give 0 or more")
        share(**{f"{where}: fee": self.fee})
        at_least(1, **{f"{where}: depth": self.depth, f"{where}: coefficient": self.coefficient})
        sizes, losses = [point[0] for point in self.curve], [point[1] for point in self.curve]
        if (
            sizes != sorted(set(sizes))
            or losses != sorted(losses)
            or any(size <= 0 for size in sizes)
            or any(not 0 <= s <= 10_000 for s in losses)
        ):
            raise ScenarioError(
                f"{where}: the curve does not rise",
                "give sizes above zero and slippages from 0 to 10000 basis points, both rising",
            )


class Costs(Strict, frozen=True):
    """What a liquidation costs. Without any a liquidator keeps the whole bonus."""

    gas: Gas | None = None
    """None: gas costs nothing."""
    slippage: tuple[Slippage, ...] = ()
    """None: collateral sells at the market price."""
    flash_fee: int = 0
    """Fee of a flash loan, basis points of the debt repaid, of those who have no capital of their own."""
    sandwich: int = 0
    """What sandwiching takes of each sale, basis points of its market value."""

    def __post_init__(self) -> None:
        super().__post_init__()
        share(costs__flash_fee=self.flash_fee, costs__sandwich=self.sandwich)
        named = [entry.asset.lower() if entry.asset else None for entry in self.slippage]
        if len(set(named)) < len(named):
            raise ScenarioError("costs.slippage: two entries of one asset", "give one for each")
