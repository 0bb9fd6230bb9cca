"""A scenario is one frozen value: what is replayed, by which liquidators, under which parameters.

Parsed strictly from TOML (unknown fields are errors with a did-you-mean) and hashed canonically: defaults are omitted,
so a new field with a default does not change the id of an old scenario.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import msgspec

from backtest.errors import ScenarioError, did_you_mean

SCENARIO_VERSION = 1


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Observed(_Strict, frozen=True, tag_field="kind", tag="observed"):
    """Liquidators act exactly as in history."""


class Competitive(_Strict, frozen=True, tag_field="kind", tag="competitive"):
    """After each price, index or parameter change the most profitable liquidation happens at once, until none pays.

    Profit is valued at oracle prices; ties go to the lower account address.
    """

    gas_cost: int = 0
    """Cost of one call in base-currency units (1e8 = one US dollar on the main markets)."""
    pair: Literal["most-profitable", "largest-debt", "largest-collateral"] = "most-profitable"
    """How the pair of one account is chosen."""
    settle: Literal["underlying", "collateral-token"] = "underlying"
    """Whether the liquidator takes the underlying or the protocol's collateral token."""
    max_calls: int = 10
    """Most calls per account and block."""


Liquidators = Observed | Competitive

PARAMETERS = (
    "ltv",
    "liquidation_threshold",
    "liquidation_bonus",
    "liquidation_protocol_fee",
    "close_factor",
)


class Override(_Strict, frozen=True):
    """One changed parameter, from a block on. Values in basis points; a bonus is 10000 + bonus (10500 = 5 %)."""

    parameter: str
    value: int
    asset: str | None = None
    """Symbol or address; None: every asset."""
    emode: int | None = None
    """E-mode category whose parameter this is; None: the assets' own parameters."""
    from_block: int = 0

    def __post_init__(self) -> None:
        if self.parameter not in PARAMETERS:
            raise ScenarioError(f"unknown parameter '{self.parameter}' in an override", did_you_mean(self.parameter, PARAMETERS))
        if self.value < 0:
            raise ScenarioError(f"override {self.parameter} = {self.value} is negative", "give basis points, 10000 = 100 %")


class Scenario(_Strict, frozen=True):
    """See the module. The default scenario is history itself."""

    name: str = "history"
    liquidators: Liquidators = Observed()
    overrides: tuple[Override, ...] = ()
    from_block: int | None = None
    """First block in which the model acts; before it history runs as observed. None: from the start."""
    to_block: int | None = None
    """Last block replayed; None: the last one the lake covers."""
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.liquidators, Observed) and self.overrides:
            raise ScenarioError(
                "'observed' liquidators with overrides: history's liquidators did not see the changed parameters",
                "use liquidators kind = 'competitive', and compare with a competitive run without overrides",
            )

    def canonical(self) -> str:
        """Canonical JSON: sorted keys, defaults omitted, scenario version included; the name is not part of it."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        body.pop("name", None)
        body["version"] = SCENARIO_VERSION
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """SHA-256 of ``canonical()``, hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
