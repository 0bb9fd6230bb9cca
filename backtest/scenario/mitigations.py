"""Mitigations: what a protocol, its owners or its borrowers may switch on against losses, as a what-if.

Each holds from the scenario's first block on. Several act together: each may withhold what the others let through.
Shares, prices' moves and health are basis points (10000 = 100 %, a health of one), amounts base-currency units, times
UTC.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from backtest.errors import ScenarioError
from backtest.scenario.base import Strict, at_least, plain, seconds_of, share

Stops = Literal["liquidations", "risk", "both", "everything"]
_STOPS = {
    "liquidations": "liquidations",
    "risk": "what raises users' risk",
    "both": "liquidations and what raises users' risk",
    "everything": "liquidations and whatever users do",
}


class Switched(Strict, frozen=True):
    """What all mitigations share."""

    @property
    @abstractmethod
    def said(self) -> str:
        """What it does, in words, for those who read the results: one sentence without its full stop."""
        ...

    def told(self, money: Callable[[int], str]) -> str:
        """The same, its amounts as ``money`` writes base units."""
        return self.said

    @property
    def kind(self) -> str:
        """Its ``kind``."""
        return str(type(self).__struct_config__.tag)


def _of(asset: str | None) -> str:
    return "any asset" if asset is None else asset


def _base_units(amount: int) -> str:
    return f"{amount:,} base units"


def _percent(points: int) -> str:
    return f"{points / 100:g} %"


def _positive(kind: str, **fields: int) -> None:
    at_least(1, **{f"mitigation {kind}__{name}": value for name, value in fields.items()})


def _below_all(kind: str, **fields: int) -> None:
    for name, value in fields.items():
        if not 1 <= value < 10_000:
            raise ScenarioError(f"mitigation {kind}.{name} = {value}", "give basis points from 1 to 9999")


def _rising(kind: str, tiers: tuple[tuple[int, int], ...]) -> None:
    if not tiers:
        raise ScenarioError(f"mitigation {kind} without tiers", "give pairs, the first numbers rising")
    if any(one[0] >= other[0] for one, other in pairwise(tiers)) or tiers[0][0] < 0:
        raise ScenarioError(f"mitigation {kind}: the tiers do not rise", "sort them by their first numbers, 0 or more")


class Pause(Switched, frozen=True, tag_field="kind", tag="pause"):
    """The market stands still for a time: aave-v3 ``PoolConfigurator.setPoolPause`` stops users as well, Compound's
    ``Comptroller._setSeizePaused`` liquidations alone, ``_setBorrowPaused`` borrowing alone.
    """

    from_time: str
    """When it begins, UTC."""
    until_time: str
    """When it ends; that second is open again."""
    stops: Stops = "everything"
    """Liquidations; what raises users' risk (borrowing, withdrawing); both; or repaying and supplying too."""
    asset: str | None = None
    """Symbol or address: only what has this asset as debt or collateral; None: the whole market."""
    market: str | None = None
    """Of several that are replayed together, the one that stands still; None: each that has the asset."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.market is not None:
            plain(self.market, "mitigation pause: market")
        first, last = (seconds_of(text, "mitigation pause") for text in (self.from_time, self.until_time))
        if first >= last:
            raise ScenarioError(
                f"mitigation pause: until_time = '{self.until_time}' is not after from_time = '{self.from_time}'",
                "swap them",
            )

    @property
    def said(self) -> str:
        """See ``Switched``."""
        where = f" in {self.asset}" if self.asset else ""
        where += f" of {self.market}" if self.market else ""
        return f"A pause of {_STOPS[self.stops]}{where} from {self.from_time} to {self.until_time}"


class CircuitBreaker(Switched, frozen=True, tag_field="kind", tag="circuit-breaker"):
    """A large move of an oracle price stops the market for a while, as exchanges do: NYSE Rule 7.12 the whole market,
    the Limit Up-Limit Down plan (5 minutes) one asset. The move is the distance of a round from the highest or the
    lowest of those within the window.
    """

    move: int
    """A rise or fall of at least so much trips it, basis points of the price that it is measured from."""
    seconds: int
    """For how long everything stands still; a further move within begins anew."""
    window: int = 0
    """Seconds back to the prices that a round is compared with; 0: with the round before alone."""
    asset: str | None = None
    """Whose price trips it; None: any asset's."""
    scope: Literal["asset", "market"] = "asset"
    """What then stops: what has the asset as debt or collateral, or the whole market."""
    stops: Stops = "liquidations"
    """See ``Pause``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self.kind, move=self.move, seconds=self.seconds)
        at_least(0, **{f"mitigation {self.kind}__window": self.window})

    @property
    def said(self) -> str:
        """See ``Switched``."""
        within = f"within {self.window} s" if self.window else "in one round"
        where = "in the whole market" if self.scope == "market" else "in that asset"
        return (
            f"A move of {_of(self.asset)} by {_percent(self.move)} {within} stops {_STOPS[self.stops]} {where} for"
            f" {self.seconds} s"
        )


class PriceBand(Switched, frozen=True, tag_field="kind", tag="price-band"):
    """The protocol does not take an oracle's round that is too far from the price it has: it keeps that price, as
    Compound's ``UniswapAnchoredView`` does outside its anchor's bounds (``PriceGuarded``), or goes as far as the band.
    """

    move: int
    """How far a round may be from the price in force, basis points of that."""
    asset: str | None = None
    """Whose; None: every asset's."""
    beyond: Literal["keep", "clamp"] = "keep"
    """The old price stays; or the band's edge is taken."""
    seconds: int = 0
    """Once rounds were beyond it for so long, the next one is taken as it is. 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _below_all(self.kind, move=self.move)
        at_least(0, **{f"mitigation {self.kind}__seconds": self.seconds})

    @property
    def said(self) -> str:
        """See ``Switched``."""
        kept = "the old price stays" if self.beyond == "keep" else "the edge of the band is taken"
        until = f", until that lasts {self.seconds} s" if self.seconds else ""
        return (
            f"Oracle rounds of {_of(self.asset)} beyond {_percent(self.move)} of the price in force are not taken:"
            f" {kept}{until}"
        )


class Grace(Switched, frozen=True, tag_field="kind", tag="grace"):
    """Borrowers have time to act before anybody may liquidate: after a stop of the market, as aave-v3
    ``PriceOracleSentinel`` (``GRACE_PERIOD``) and ``setReservePause`` with its ``liquidationGracePeriodUntil`` give it,
    or from the moment an account may first be liquidated.
    """

    seconds: int
    """How long; what comes later than that is allowed."""
    after: Literal["stop", "unhealthy"] = "unhealthy"
    """After each pause or circuit breaker of the scenario that stops liquidations; or of each account by itself, anew
    when it was healthy in between.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self.kind, seconds=self.seconds)

    @property
    def said(self) -> str:
        """See ``Switched``."""
        since = "a stop of the market" if self.after == "stop" else "an account may first be liquidated"
        return f"No liquidation until {self.seconds} s after {since}"


class ToxicHalt(Switched, frozen=True, tag_field="kind", tag="toxic-halt"):
    """No liquidation that leaves an account with more debt for each collateral than it had: one with a loan-to-value
    above 1 / (1 + i), i being what the call itself gives (Warmuz, Chaudhary and Pinna 2022, arXiv 2212.07306), or above
    1 / ((1 + i) x impact) where selling moves the price (McFarlane 2025, arXiv 2510.10171: 1 + 2c/y in a constant
    product).
    """

    impact: int = 10_000
    """What selling does to the price, basis points: 10000 is none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(10_000, **{f"mitigation {self.kind}__impact": self.impact})

    @property
    def said(self) -> str:
        """See ``Switched``."""
        by = "" if self.impact == 10_000 else f", selling counted at {self.impact / 10_000:g}"
        return f"No liquidation above the toxic frontier, a loan-to-value of 1 / (1 + bonus){by}"


class Throttle(Switched, frozen=True, tag_field="kind", tag="throttle"):
    """At most so much debt is liquidated in a time, what does not fit is made smaller or waits: Maker's ``box`` and
    ``Hole`` (makerdao/dss ``cat.sol`` 1.1, ``dog.sol``: ``room``), for protocols that settle at once. Less room than a
    hundredth of all waits for more, so that nothing is cut into dust.
    """

    most_repaid: int
    """Debt that may be repaid, base units at the oracle's price,"""
    seconds: int
    """within so many seconds."""
    asset: str | None = None
    """Counted are liquidations of this collateral; None: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self.kind, most_repaid=self.most_repaid, seconds=self.seconds)

    @property
    def said(self) -> str:
        """See ``Switched``."""
        return self.told(_base_units)

    def told(self, money: Callable[[int], str]) -> str:
        """See ``Switched``."""
        of = f" against {self.asset}" if self.asset else ""
        return f"At most {money(self.most_repaid)} of debt{of} are liquidated within {self.seconds} s"


class SizeTiers(Switched, frozen=True, tag_field="kind", tag="size-tiers"):
    """The smaller a position, the lower its health may be: the liquidation threshold falls with size, as margins of
    derivatives exchanges rise by steps. The protocol's own threshold, or an override of it, is that of the largest.
    """

    tiers: tuple[tuple[int, int], ...]
    """Largest debt (base units) of a tier, and the health below which it may be liquidated (basis points, at most
    10000): a threshold of 10000 / health times the protocol's.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _rising(self.kind, self.tiers)
        for _, health in self.tiers:
            if not 1 <= health <= 10_000:
                raise ScenarioError(
                    f"mitigation size-tiers: a health of {health}",
                    "give basis points from 1 to 10000; lower the largest tier's threshold by an override",
                )

    @property
    def said(self) -> str:
        """See ``Switched``."""
        return self.told(_base_units)

    def told(self, money: Callable[[int], str]) -> str:
        """See ``Switched``."""
        steps = ", ".join(f"up to {money(size)} below {health / 10_000:g}" for size, health in self.tiers)
        return f"Accounts are liquidated at a health by the size of their debt: {steps}, others below 1"


class VolatilityTiers(Switched, frozen=True, tag_field="kind", tag="volatility-tiers"):
    """Loan-to-value and liquidation threshold of a collateral follow the range of its oracle price, the highest over
    the lowest within a window (Parkinson 1980), by steps; SmartLTV (RiskDAO) is the rule without steps.
    """

    asset: str
    """Symbol or address of the collateral."""
    tiers: tuple[tuple[int, int], ...]
    """From this range on (basis points of the lowest price), both change by so much (basis points, mostly negative)."""
    window: int = 86_400
    """Seconds."""
    parameters: Literal["both", "ltv", "liquidation_threshold"] = "both"
    """Which change: a lower loan-to-value reaches new debts alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self.kind, window=self.window)
        _rising(self.kind, self.tiers)
        if any(abs(change) > 10_000 for _, change in self.tiers):
            raise ScenarioError(f"mitigation {self.kind}: a change beyond 10000", "give basis points")

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that change."""
        return ("ltv", "liquidation_threshold") if self.parameters == "both" else (self.parameters,)

    @property
    def said(self) -> str:
        """See ``Switched``."""
        steps = ", ".join(f"{change / 100:+g} points from {_percent(range_)}" for range_, change in self.tiers)
        names = {
            "both": "Loan-to-value and liquidation threshold",
            "ltv": "Loan-to-value",
            "liquidation_threshold": "The liquidation threshold",
        }[self.parameters]
        return f"{names} of {self.asset} by the range of its price within {self.window} s: {steps}"


class DynamicBonus(Switched, frozen=True, tag_field="kind", tag="dynamic-bonus"):
    """The bonus falls as loan-to-value rises and never takes more than the account's own collateral for each debt:
    min(i, 1 / LTV - 1) (Warmuz, Chaudhary and Pinna 2022, arXiv 2212.07306).
    """

    least: int = 10_000
    """What a liquidator gets at least, 10000 + bonus: above it an insolvent account's lenders lose more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 10_000 <= self.least <= 20_000:
            raise ScenarioError(f"mitigation {self.kind}.least = {self.least} is no bonus", "give 10000 + bonus")

    @property
    def said(self) -> str:
        """See ``Switched``."""
        return f"The bonus is at most 1 / loan-to-value - 1, and {_percent(self.least - 10_000)} at least"


class DynamicCloseFactor(Switched, frozen=True, tag_field="kind", tag="dynamic-close-factor"):
    """A call repays no more than brings the account to a health (aave-v4 ``LiquidationLogic``, debt to target: D (T -
    HF) / (T - (1 + i) LT)), within the protocol's own close factor.
    """

    target: int = 10_500
    """The health, basis points."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(10_001, **{f"mitigation {self.kind}__target": self.target})

    @property
    def said(self) -> str:
        """See ``Switched``."""
        return f"A liquidation repays no more than brings the account to a health of {self.target / 10_000:g}"


class DepthCap(Switched, frozen=True, tag_field="kind", tag="depth-cap"):
    """A cap by what the market can take: supply (or debt) of an asset beyond a multiple of the depth within the bonus
    is refused (LlamaRisk's framework: two times), as aave-v3 ``ValidationLogic.validateSupply`` and ``validateBorrow``
    do.
    """

    asset: str
    """Symbol or address."""
    depth_base: int
    """What can be sold within the bonus, base units."""
    multiple: int = 20_000
    """Times so much, basis points."""
    side: Literal["supply", "borrow"] = "supply"
    """What is capped."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, **{f"mitigation {self.kind}__depth_base": self.depth_base})
        _positive(self.kind, multiple=self.multiple)

    @property
    def said(self) -> str:
        """See ``Switched``."""
        return self.told(_base_units)

    def told(self, money: Callable[[int], str]) -> str:
        """See ``Switched``."""
        return (
            f"{'Supply' if self.side == 'supply' else 'Debt'} of {self.asset} beyond {self.multiple / 10_000:g} times a"
            f" depth of {money(self.depth_base)} is refused"
        )


class IsolatedMargin(Switched, frozen=True, tag_field="kind", tag="isolated-margin"):
    """The same users with isolated margin, as in markets of one collateral (Morpho Blue): at the scenario's first look
    every account that borrows against several collaterals is parted, one account for each of them, with debts in
    proportion to what each counts for. The largest stays with the account, which is what owners act on later.
    """

    @property
    def said(self) -> str:
        """See ``Switched``."""
        return "Margin is isolated: each collateral stands for its own share of the debt, parted at the first block"


class OwnerTrigger(Switched, frozen=True, tag_field="kind", tag="owner-trigger"):
    """Borrowers' own automation: below a health they repay, add collateral, or sell some to repay (DeFi Saver's
    automation), up to another health.
    """

    health: int = 10_500
    """Below it they act, basis points."""
    target: int = 11_500
    """Up to this health."""
    by: Literal["repay", "top-up", "sell"] = "repay"
    """With debt asset of their own; with more of their largest collateral; or by selling it for the largest debt."""
    share: int = 10_000
    """How probable it is that an account has it, basis points; drawn by the seed, the same whatever else happens."""
    delay: int = 0
    """Seconds from the moment its health is below to its transaction; with 0 it comes before any liquidator."""
    cost: int = 0
    """Of ``sell``: what selling costs beyond the oracle's price, basis points."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self.kind, health=self.health)
        if self.target > 100_000:
            raise ScenarioError(f"mitigation {self.kind}.target = {self.target}", "give a health up to 10, 100000")
        if self.target <= self.health:
            raise ScenarioError(
                f"mitigation {self.kind}: target = {self.target} is not above health = {self.health}",
                "give a higher one",
            )
        share(**{f"mitigation {self.kind}__share": self.share, f"mitigation {self.kind}__cost": self.cost})
        at_least(0, **{f"mitigation {self.kind}__delay": self.delay})
        if self.cost and self.by != "sell":
            raise ScenarioError(f"mitigation {self.kind}: cost with by = '{self.by}'", "give cost with by = 'sell'")

    @property
    def said(self) -> str:
        """See ``Switched``."""
        does = {"repay": "repay", "top-up": "add collateral", "sell": "sell collateral to repay"}[self.by]
        who = "Borrowers" if self.share == 10_000 else f"{_percent(self.share)} of borrowers"
        late = f", {self.delay} s later" if self.delay else ""
        return f"{who} {does} below a health of {self.health / 10_000:g}, up to {self.target / 10_000:g}{late}"


class RiskSizing(Switched, frozen=True, tag_field="kind", tag="risk-sizing"):
    """Borrowers open at constant risk: no call that raises risk may leave an account nearer to its liquidation than
    ``ranges`` times the widest price range of its collaterals within the window; a larger one is made smaller.
    """

    ranges: int = 10_000
    """How many, basis points."""
    window: int = 86_400
    """Seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self.kind, ranges=self.ranges, window=self.window)

    @property
    def said(self) -> str:
        """See ``Switched``."""
        return (
            f"Borrowers keep {self.ranges / 10_000:g} times the price range of {self.window} s between a new position"
            " and its liquidation"
        )


class ReserveFund(Switched, frozen=True, tag_field="kind", tag="reserve-fund"):
    """Money that pays for debt that is written off, in the order in which funds stand in the scenario, each as far as
    it goes (Aave's Umbrella, Maker's ``vow.sol`` with its surplus before ``flop``).
    """

    name: str
    """What tables call it."""
    reserve: int = 0
    """What it holds at the first block, base units."""
    fee_share: int = 0
    """What it gets of the protocol's fees of liquidations, basis points, before it pays for those that come later."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain(self.name, f"mitigation {self.kind}: name")
        if not self.name:
            raise ScenarioError(f"mitigation {self.kind} without a name", "name it")
        at_least(0, **{f"mitigation {self.kind}__reserve": self.reserve})
        share(**{f"mitigation {self.kind}__fee_share": self.fee_share})

    @property
    def said(self) -> str:
        """See ``Switched``."""
        return self.told(_base_units)

    def told(self, money: Callable[[int], str]) -> str:
        """See ``Switched``."""
        more = f" and {_percent(self.fee_share)} of fees" if self.fee_share else ""
        return f"Fund '{self.name}' pays for written-off debt with {money(self.reserve)}{more}"


class SocialisedLoss(Switched, frozen=True, tag_field="kind", tag="socialised-loss"):
    """What no fund pays is taken from the suppliers of the asset that was lent, in proportion (morpho-blue
    ``Morpho.liquidate``: ``badDebtAssets`` leave ``totalSupplyAssets``).
    """

    @property
    def said(self) -> str:
        """See ``Switched``."""
        return "What no fund pays of written-off debt is shared by the suppliers of its asset"


Mitigation = (
    Pause
    | CircuitBreaker
    | PriceBand
    | Grace
    | ToxicHalt
    | Throttle
    | SizeTiers
    | VolatilityTiers
    | DynamicBonus
    | DynamicCloseFactor
    | DepthCap
    | IsolatedMargin
    | OwnerTrigger
    | RiskSizing
    | ReserveFund
    | SocialisedLoss
)


def asset_of(mitigation: Mitigation) -> str | None:
    """The asset that it is about, where it names one."""
    match mitigation:
        case Pause() | CircuitBreaker() | PriceBand() | Throttle() | VolatilityTiers() | DepthCap():
            return mitigation.asset
    return None


def fits_together(mitigations: tuple[Mitigation, ...], from_block: int | None) -> None:
    """ScenarioError for a combination that says nothing, or says one thing twice."""
    if not from_block and any(isinstance(each, IsolatedMargin) for each in mitigations):
        raise ScenarioError("mitigation isolated-margin without a first block", "give from_block: accounts part there")
    names = [each.name for each in mitigations if isinstance(each, ReserveFund)]
    if len(set(names)) < len(names):
        raise ScenarioError("mitigation reserve-fund: a name appears twice", "give each a name of its own")
    for once in (IsolatedMargin, SocialisedLoss, OwnerTrigger, RiskSizing):
        if sum(isinstance(each, once) for each in mitigations) > 1:
            raise ScenarioError(f"mitigation {once.__struct_config__.tag} twice", "give it once")
    stopping = any(isinstance(each, Pause | CircuitBreaker) and each.stops != "risk" for each in mitigations)
    if any(isinstance(each, Grace) and each.after == "stop" for each in mitigations) and not stopping:
        raise ScenarioError(
            "mitigation grace after a stop, and nothing that stops liquidations",
            "add a pause or a circuit-breaker, or give after = 'unhealthy'",
        )
    last = max((place for place, each in enumerate(mitigations) if isinstance(each, ReserveFund)), default=0)
    if any(isinstance(each, SocialisedLoss) for each in mitigations[:last]):
        raise ScenarioError(
            "mitigation reserve-fund after socialised-loss, which leaves nothing to pay", "put the funds first"
        )
