"""A scenario is one frozen value: what is replayed, by which liquidators, at what cost, under which parameters.

Parsed strictly from TOML (unknown fields are errors with a did-you-mean) and hashed canonically: defaults are omitted,
so a new field with a default does not change the id of an old scenario.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import msgspec

from backtest.errors import ScenarioError
from backtest.scenario.base import Strict, plain, seconds_of
from backtest.scenario.costs import Costs, Demand, Gas, Slippage, Step
from backtest.scenario.impact import (
    AssetImpact,
    BandsDepth,
    BookDepth,
    ChainlinkRule,
    ConstantProductDepth,
    Impact,
    LinearDepth,
    NoDepth,
    OsmRule,
    PoolsDepth,
    QuotesDepth,
    SquareRootDepth,
    StableSwapDepth,
    Thinning,
    TwapRule,
)
from backtest.scenario.joint import ExchangeRate, Joint
from backtest.scenario.liquidators import (
    Competitive,
    Contest,
    Contested,
    LatencyRace,
    Liquidators,
    Modelled,
    Observed,
    Oev,
    Participation,
    PriorityGas,
    SealedBid,
    Searcher,
    draws,
)
from backtest.scenario.mechanisms import (
    Dutch,
    English,
    FixedSpread,
    HealthBonus,
    HealthDutch,
    Hybrid,
    Mechanism,
    ProtocolsOwn,
    TargetHealth,
)
from backtest.scenario.mitigations import (
    CircuitBreaker,
    DepthCap,
    DynamicBonus,
    DynamicCloseFactor,
    Grace,
    IsolatedMargin,
    Mitigation,
    OwnerTrigger,
    Pause,
    PriceBand,
    ReserveFund,
    RiskSizing,
    SizeTiers,
    SocialisedLoss,
    Throttle,
    ToxicHalt,
    VolatilityTiers,
    fits_together,
)
from backtest.scenario.overrides import PARAMETERS, Override, parse_override
from backtest.scenario.users import ACTS, FITTED, RESPONSES, FittedUsers, Hazard, Users

SCENARIO_VERSION = 1

__all__ = [
    "ACTS",
    "FITTED",
    "PARAMETERS",
    "RESPONSES",
    "SCENARIO_VERSION",
    "AssetImpact",
    "BandsDepth",
    "BookDepth",
    "ChainlinkRule",
    "CircuitBreaker",
    "Competitive",
    "ConstantProductDepth",
    "Contest",
    "Contested",
    "Costs",
    "Demand",
    "DepthCap",
    "Dutch",
    "DynamicBonus",
    "DynamicCloseFactor",
    "English",
    "ExchangeRate",
    "FittedUsers",
    "FixedSpread",
    "Gas",
    "Grace",
    "Hazard",
    "HealthBonus",
    "HealthDutch",
    "Hybrid",
    "Impact",
    "IsolatedMargin",
    "Joint",
    "LatencyRace",
    "LinearDepth",
    "Liquidators",
    "Mechanism",
    "Mitigation",
    "Modelled",
    "NoDepth",
    "Observed",
    "Oev",
    "OsmRule",
    "Override",
    "OwnerTrigger",
    "Participation",
    "Pause",
    "PoolsDepth",
    "PriceBand",
    "PriorityGas",
    "ProtocolsOwn",
    "QuotesDepth",
    "ReserveFund",
    "RiskSizing",
    "Scenario",
    "SealedBid",
    "Searcher",
    "SizeTiers",
    "Slippage",
    "SocialisedLoss",
    "SquareRootDepth",
    "StableSwapDepth",
    "Step",
    "TargetHealth",
    "Thinning",
    "Throttle",
    "ToxicHalt",
    "TwapRule",
    "Users",
    "VolatilityTiers",
    "draws",
    "parse_override",
    "seconds_of",
]


class Scenario(Strict, frozen=True):
    """The default scenario is history itself."""

    name: str = "history"
    """What tables and charts call the run; not part of the run id."""
    liquidators: Liquidators = Observed()
    """Who liquidates."""
    costs: Costs = Costs()
    """What a liquidation costs them."""
    mechanism: Mechanism = ProtocolsOwn()
    """How liquidations settle."""
    impact: Impact = Impact()
    """How prices answer to what is sold."""
    overrides: tuple[Override, ...] = ()
    """Changed parameters."""
    mitigations: tuple[Mitigation, ...] = msgspec.field(default=(), name="mitigation")
    """What is switched on against losses (``[[mitigation]]``, docs/mitigations.md)."""
    users: Users = Users()
    """How users behave."""
    rates: Literal["historical", "recomputed"] = "historical"
    """Interest: indexes as recorded, or following this book's utilisation through the market's own rate strategy."""
    allow_invalid: bool = False
    """Let overrides pass that the market's configurator would refuse."""
    oracle_delay: int | None = None
    """Seconds from a market price to the oracle's, for markets whose oracle is known by market prices; None: the
    protocol's own.
    """
    from_block: int | None = None
    """First block in which the model acts; before it history runs as observed. None: from the start."""
    to_block: int | None = None
    """Last block replayed; None: the last one the lake covers."""
    seed: int = 0
    """Seed of random draws, for models that draw."""
    joint: Joint | None = None
    """Several markets together; None: one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain(self.name, "name")
        if isinstance(self.liquidators, Observed) and self.alters:
            changed = "overrides" if isinstance(self.mechanism, ProtocolsOwn) else "another mechanism"
            changed = "mitigations" if self.mitigations and not self.overrides else changed
            raise ScenarioError(
                f"'observed' liquidators with {changed}: history's liquidators did not see the changed parameters or"
                " prices",
                "use liquidators kind = 'competitive', and compare with a competitive run without overrides",
            )
        if isinstance(self.liquidators, Observed) and self.impact.assets and self.impact.netting == "none":
            raise ScenarioError(
                "'observed' liquidators with impact.netting = 'none': history's liquidations at prices that were not"
                " history's",
                "use liquidators kind = 'competitive', or leave netting out",
            )
        fits_together(self.mitigations, self.from_block)
        if self.oracle_delay is not None and self.oracle_delay < 0:
            raise ScenarioError(f"oracle_delay = {self.oracle_delay} is negative", "give seconds, 0 or more")
        for name, block in (("from_block", self.from_block), ("to_block", self.to_block)):
            if block is not None and block < 0:
                raise ScenarioError(f"{name} = {block} is negative", "give a block number")
        if self.seed < 0:
            raise ScenarioError(f"seed = {self.seed} is negative", "give a whole number from 0 to 2^63 - 1")
        if self.joint is None and (own := next((one for one in self.overrides if one.market is not None), None)):
            raise ScenarioError(f"override {own.parameter}: market '{own.market}' without joint", "leave market out")
        if self.joint is None and any(isinstance(one, Pause) and one.market for one in self.mitigations):
            raise ScenarioError("mitigation pause: market without joint", "leave market out")
        if self.from_block is not None and self.to_block is not None and self.from_block > self.to_block:
            raise ScenarioError(f"from_block = {self.from_block} is after to_block = {self.to_block}", "swap them")

    @property
    def alters(self) -> bool:
        """Whether it changes the market itself, so that it is compared with the same scenario that does not."""
        return (
            bool(self.overrides or self.mitigations)
            or self.oracle_delay is not None
            or not isinstance(self.mechanism, ProtocolsOwn)
        )

    def canonical(self) -> str:
        """Canonical JSON: sorted keys, defaults omitted, scenario version included; the name is not part of it."""
        body = _without_defaults(self)
        body.pop("name", None)
        body["version"] = SCENARIO_VERSION
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """SHA-256 of ``canonical()``, hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


def _without_defaults(value: Any) -> Any:
    """A value as plain JSON types, fields equal to their defaults left out (msgspec's own omit_defaults compares by
    identity).
    """
    if isinstance(value, tuple):
        return [_without_defaults(item) for item in value]
    if not isinstance(value, msgspec.Struct):
        return value
    config = type(value).__struct_config__
    body = {config.tag_field: config.tag} if config.tag_field else {}
    for field in msgspec.structs.fields(value):
        own = getattr(value, field.name)
        if field.required or own != field.default:
            body[field.encode_name] = _without_defaults(own)
    return body
