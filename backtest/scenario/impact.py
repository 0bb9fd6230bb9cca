"""How prices answer to what liquidators sell. Quantities are whole tokens, shares and falls basis points, times
seconds.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from backtest.errors import ScenarioError
from backtest.scenario.base import Strict, at_least, share


class DepthKind(Strict, frozen=True, tag_field="kind"):
    """What a market pays for what is sold into it."""

    @property
    @abstractmethod
    def said(self) -> str:
        """The assumption, with its source, as results print it."""
        ...


def _rising(where: str, points: tuple[tuple[int, int], ...]) -> None:
    sizes = [size for size, _ in points]
    if not points or sizes != sorted(set(sizes)) or sizes[0] <= 0 or any(not 0 <= bps <= 10_000 for _, bps in points):
        raise ScenarioError(
            f"impact: {where} is no curve", "give quantities above zero, rising, each with 0 to 10000 basis points"
        )


class NoDepth(DepthKind, frozen=True, tag="none"):
    """Nothing moves the price; with ``into``: the asset is sold as what it stands for."""

    @property
    def said(self) -> str:
        """See ``DepthKind``."""
        return "no market of its own"


class ConstantProductDepth(DepthKind, frozen=True, tag="constant-product"):
    """A pool of two reserves whose product stays: selling q brings q / (1 + q / x) at the price before, which falls to
    1 / (1 + q / x)^2 of it (Uniswap v2; Angeris and Chitra 2020).
    """

    reserve: int
    """x: what the pool holds of the asset, whole tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, impact__reserve=self.reserve)

    @property
    def said(self) -> str:
        """See ``DepthKind``."""
        return f"a constant product with {self.reserve:,} of it (Uniswap v2)"


class LinearDepth(DepthKind, frozen=True, tag="kyle"):
    """The price falls in proportion to what was sold (Kyle 1985)."""

    size: int
    """So many whole tokens"""
    moves: int
    """move the price by so many basis points."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, impact__size=self.size, impact__moves=self.moves)

    @property
    def said(self) -> str:
        """See ``DepthKind``."""
        return f"{self.size:,} sold move it by {self.moves / 100:g} %, in proportion (Kyle 1985)"


class SquareRootDepth(DepthKind, frozen=True, tag="square-root"):
    """The price falls by Y * volatility * sqrt(sold / daily volume) (Almgren et al. 2005, Toth et al. 2011)."""

    daily_volume: int
    """Whole tokens."""
    daily_volatility: int
    """Basis points."""
    coefficient: int = 10_000
    """Y, in ten-thousandths."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(
            1,
            impact__daily_volume=self.daily_volume,
            impact__daily_volatility=self.daily_volatility,
            impact__coefficient=self.coefficient,
        )

    @property
    def said(self) -> str:
        """See ``DepthKind``."""
        return (
            f"the square root of what was sold over {self.daily_volume:,} a day, times {self.daily_volatility / 100:g}"
            f" % and {self.coefficient / 10_000:g} (Almgren et al. 2005)"
        )


class BandsDepth(DepthKind, frozen=True, tag="bands"):
    """How much can be sold until the price itself is so much lower, as exchanges and aggregators report depth within 1,
    2, 5 %. Straight between the points; where falls do not rise they are pooled (isotonic regression). Beyond the last
    point the fall goes on with the square root of size, and runs say how often.
    """

    curve: tuple[tuple[int, int], ...]
    """(whole tokens, basis points lower), from the smallest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _rising("curve", self.curve)

    @property
    def said(self) -> str:
        """See ``DepthKind``."""
        size, fall = self.curve[-1]
        return f"depth bands up to {size:,} at {fall / 100:g} %, beyond them the square root of size"


class QuotesDepth(DepthKind, frozen=True, tag="quotes"):
    """What selling so much brings less than the market price on average, as aggregators quote it, fitted to a price
    that never rises (isotonic regression). Beyond the last quote as in ``bands``.
    """

    curve: tuple[tuple[int, int], ...]
    """(whole tokens, basis points lost on average), from the smallest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _rising("curve", self.curve)

    @property
    def said(self) -> str:
        """See ``DepthKind``."""
        size, fall = self.curve[-1]
        return f"quotes up to {size:,} at {fall / 100:g} % on average, beyond them the square root of size"


class BookDepth(DepthKind, frozen=True, tag="book"):
    """An order book, walked from its best bid; behind its last level nothing is bought."""

    levels: tuple[tuple[int, int], ...]
    """(whole tokens bid, basis points below the middle), the best first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        below = [bps for _, bps in self.levels]
        if not self.levels or below != sorted(set(below)) or any(size <= 0 for size, _ in self.levels):
            raise ScenarioError("impact: levels are no book", "give sizes above zero at rising basis points")
        share(impact__levels=below[-1])

    @property
    def said(self) -> str:
        """See ``DepthKind``."""
        return f"an order book of {len(self.levels)} levels and {sum(size for size, _ in self.levels):,} bid"


class StableSwapDepth(DepthKind, frozen=True, tag="stable-swap"):
    """A pool of two that should be worth the same: flat near balance, then the peg goes (StableSwap, Egorov 2019)."""

    reserve: int
    """What the pool holds of the asset, whole tokens."""
    other: int | None = None
    """And of the other; None: as much."""
    amplification: int = 100
    """A."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, impact__reserve=self.reserve, impact__other=self.other, impact__amplification=self.amplification)

    @property
    def said(self) -> str:
        """See ``DepthKind``."""
        other = self.reserve if self.other is None else self.other
        return f"a StableSwap pool of {self.reserve:,} and {other:,}, A = {self.amplification} (Egorov 2019)"


class PoolsDepth(DepthKind, frozen=True, tag="pools"):
    """The pool that was fetched for the asset's market price, by its exact rules, tick by tick (Uniswap v3)."""

    @property
    def said(self) -> str:
        """See ``DepthKind``."""
        return "the fetched pool, exactly, as history left it before each sale"


Depth = (
    NoDepth
    | ConstantProductDepth
    | LinearDepth
    | SquareRootDepth
    | BandsDepth
    | QuotesDepth
    | BookDepth
    | StableSwapDepth
    | PoolsDepth
)


class ChainlinkRule(Strict, frozen=True, tag_field="kind", tag="chainlink"):
    """A round when the price is off the last one by the deviation, or after the heartbeat; seen ``delay`` seconds
    before it is there (smartcontractkit/libocr ``OffchainAggregator``; a feed's page says both).
    """

    deviation: int = 50
    """Basis points."""
    heartbeat: int = 3_600
    """Seconds."""
    delay: int = 12
    """Seconds from what is seen to the round."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, impact__oracle__delay=self.delay, impact__oracle__deviation=self.deviation)
        at_least(1, impact__oracle__heartbeat=self.heartbeat)

    @property
    def said(self) -> str:
        """In words."""
        return (
            f"rounds at {self.deviation / 100:g} % or after {self.heartbeat:,} s, {self.delay:,} s after what they saw"
        )


class OsmRule(Strict, frozen=True, tag_field="kind", tag="osm"):
    """What was seen one period ago, once a period (makerdao/osm ``OSM.poke``: ``hop``)."""

    period: int = 3_600
    """Seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, impact__oracle__period=self.period)

    @property
    def said(self) -> str:
        """In words."""
        return f"once in {self.period:,} s, what was seen {self.period:,} s before (OSM)"


class TwapRule(Strict, frozen=True, tag_field="kind", tag="twap"):
    """The mean of a pool's price over a window, always current (Uniswap v2 and v3 oracles): the mean of what selling
    did at eight moments of the window.
    """

    window: int = 1_800
    """Seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, impact__oracle__window=self.window)

    @property
    def said(self) -> str:
        """In words."""
        return f"the mean over {self.window:,} s, always current"


OracleRule = ChainlinkRule | OsmRule | TwapRule


class Thinning(Strict, frozen=True):
    """Depth that goes when it is needed: by volatility (the range of history's price over a window; on 10 October 2025
    three quarters of it at 1 % went) and by its own use (dealers who have bought step back).
    """

    calm: int | None = None
    """Basis points of range up to which depth is as stated; twice the range leaves half. None: volatility does
    nothing.
    """
    window: int = 3_600
    """Seconds over which the range is taken."""
    use: int | None = None
    """After so many whole tokens were sold, half of the depth is there. None: use does nothing."""
    refill: int = 3_600
    """Half-life of what was used, seconds."""
    least: int = 2_500
    """What is always left, basis points."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(
            1,
            impact__thinning__calm=self.calm,
            impact__thinning__window=self.window,
            impact__thinning__use=self.use,
            impact__thinning__refill=self.refill,
            impact__thinning__least=self.least,
        )
        share(impact__thinning__least=self.least)


class AssetImpact(Strict, frozen=True):
    """How one asset's price answers to sales."""

    asset: str
    """Symbol or address."""
    depth: Depth = NoDepth()
    """What its market pays."""
    fee: int = 0
    """Of what is sold, basis points; set apart, so that it does not move the price."""
    half_life: int | None = None
    """Seconds until half of the fall is gone, buyers having come (RiskDAO; Obizhaeva and Wang 2013); 0: at once after
    each sale; None: never.
    """
    permanent: int = 0
    """Part of each sale that never comes back, basis points."""
    into: str | None = None
    """The asset that sales of this one end in (WETH for an LST or a wrapper): what its own market pays is sold on
    there, and its price moves with that one's.
    """
    buys: bool = False
    """Liquidators buy what they repay of it in the same market, which raises its price: of ``constant-product`` and
    ``kyle``.
    """
    sells: int = 0
    """Seconds over which liquidators sell what they seized, evenly, from their inventory; 0: at once."""
    thinning: Thinning = Thinning()
    """When depth goes."""
    oracle: OracleRule = ChainlinkRule()
    """How the oracle follows the market."""
    measured: str = ""
    """When and how the figures were taken; printed with results."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, impact__assets__half_life=self.half_life, impact__assets__sells=self.sells)
        share(impact__assets__fee=self.fee, impact__assets__permanent=self.permanent)
        if self.into is not None and self.into.lower() == self.asset.lower():
            raise ScenarioError(f"impact of {self.asset}: into itself", "name the asset that it is sold for")
        if self.buys and (self.into is not None or not isinstance(self.depth, ConstantProductDepth | LinearDepth)):
            raise ScenarioError(
                f"impact of {self.asset}: buys with {'into' if self.into else 'this depth'}",
                "give it a depth of kind constant-product or kyle, and no 'into'",
            )

    @property
    def said(self) -> str:
        """In words."""
        back = (
            "which stays"
            if self.half_life is None
            else "which is gone after the sale"
            if not self.half_life
            else f"of which half is gone after {self.half_life:,} s"
        )
        kept = f", {self.permanent / 100:g} % of each sale for good" if self.permanent else ""
        on = f", sold on into {self.into}" if self.into else ""
        over = f"; sold over {self.sells:,} s" if self.sells else "; sold at once"
        over += ", and bought there to be repaid" if self.buys else ""
        thin = "; its depth thins" if self.thinning.calm or self.thinning.use else ""
        when = f"; measured {self.measured}" if self.measured else ""
        return (
            f"Price of {self.asset} answers to sales: {self.depth.said}{on}, {back}{kept}{over}{thin}; its oracle:"
            f" {self.oracle.said}{when}."
        )


class Impact(Strict, frozen=True):
    """Prices that answer to what liquidators sell. Assets that are not named are not moved."""

    assets: tuple[AssetImpact, ...] = ()
    """How each answers."""
    netting: Literal["baseline", "observed", "none"] = "baseline"
    """Whose impact history's prices hold already and is netted out: that of the same scenario under history's
    parameters (which then has history's oracle rounds exactly), of history's own liquidations, or nobody's (counted
    twice).
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        named = [entry.asset.lower() for entry in self.assets]
        if len(set(named)) < len(named):
            raise ScenarioError("impact.assets: two entries of one asset", "give one for each")
