"""Changed parameters: which there are, one of them as a value, and as text on the command line."""

from __future__ import annotations

import re
from typing import Any, Literal

from backtest.errors import ScenarioError, did_you_mean
from backtest.scenario.base import Strict, seconds_of

PARAMETERS: dict[str, tuple[int, int]] = {
    "ltv": (0, 10_000),
    "liquidation_threshold": (0, 10_000),
    "liquidation_bonus": (10_000, 20_000),
    "liquidation_protocol_fee": (0, 10_000),
    "close_factor": (1, 10_000),
    "liquidation_ratio": (10_000, 100_000),
    "liquidation_penalty": (10_000, 20_000),
    "liquidation_system": (10, 20),
    "dust": (0, 10**12),
    "line": (0, 10**12),
    "lump": (0, 10**12),
    "dunk": (0, 10**12),
    "box": (0, 10**12),
    "hole": (0, 10**12),
    "global_hole": (0, 10**12),
    "beg": (10_000, 20_000),
    "ttl": (1, 10**8),
    "tau": (1, 10**8),
    "buf": (10_000, 100_000),
    "tail": (0, 10**8),
    "cusp": (0, 10_000),
    "chip": (0, 10_000),
    "tip": (0, 10**12),
    "calc": (0, 2),
    "calc_tau": (1, 10**8),
    "step": (1, 10**8),
    "cut": (0, 10_000),
}
"""Parameters that may be overridden, and the least and greatest value of each: basis points; from ``dust`` on amounts
are whole tokens, times seconds (those of Maker, ``backtest.protocols.maker.params``). The protocol says which of them
it has.
"""

_OF_ASSETS = ("ltv", "liquidation_threshold", "liquidation_bonus", "liquidation_protocol_fee")
MARKET_WIDE = frozenset(PARAMETERS) - frozenset(_OF_ASSETS)
"""Parameters that are one for the whole market."""

_EMODE_PARAMETERS = ("ltv", "liquidation_threshold", "liquidation_bonus")


class Override(Strict, frozen=True):
    """One changed parameter: from a block on, at once or in equal steps. Values in basis points; a bonus is 10000 +
    bonus (10500 = 5 %).
    """

    parameter: str
    """See below."""
    value: int | None = None
    """What it becomes, basis points; or give ``change``."""
    change: int | None = None
    """By how much it changes, basis points: added to what history has, also later."""
    asset: str | None = None
    """Symbol or address; None: every asset."""
    emode: int | Literal["all"] | None = None
    """E-mode category whose parameter this is; None: the assets' own parameters, which leave accounts in an e-mode
    alone; "all": both, the assets' own and those of every category that has the asset as collateral.
    """
    from_block: int = 0
    """First block in which it holds; of a ramp, the block where it starts from history's value."""
    until_block: int | None = None
    """A ramp: the block from which it holds in full. Step k of n holds from the block at k/n of the way on."""
    from_time: str | None = None
    """Instead of ``from_block``: a date or a time of day, UTC (2020-03-12 or 2020-03-12T08:00:00)."""
    until_time: str | None = None
    """Instead of ``until_block``."""
    steps: int = 1
    """Of a ramp: how many equal steps it takes, each rounded towards history's value."""

    def __post_init__(self) -> None:
        name = self.parameter
        if name not in PARAMETERS:
            raise ScenarioError(f"unknown parameter '{name}' in an override", did_you_mean(name, PARAMETERS))
        low, high = PARAMETERS[name]
        if (self.value is None) == (self.change is None):
            raise ScenarioError(
                f"override {name}: {'neither' if self.value is None else 'both'} value and change", "give one of them"
            )
        if self.value is not None and not low <= self.value <= high:
            hint = "; a bonus is 10000 + bonus" if name == "liquidation_bonus" else ""
            raise ScenarioError(
                f"override {name} = {self.value} is out of range", f"give basis points from {low} to {high}{hint}"
            )
        if self.emode is not None and name not in _EMODE_PARAMETERS:
            raise ScenarioError(
                f"override {name}: e-mode categories have no such parameter",
                f"they have {', '.join(_EMODE_PARAMETERS)}",
            )
        if isinstance(self.emode, int) and self.asset is not None:
            raise ScenarioError(
                f"override {name}: asset '{self.asset}' and e-mode {self.emode} together", "give one of them"
            )
        if name in MARKET_WIDE and self.asset is not None:
            raise ScenarioError(f"override {name}: it is one for the whole market", "leave the asset out")
        self._check_moments()

    def _check_moments(self) -> None:
        name = self.parameter
        if self.from_block < 0 or (self.until_block or 0) < 0:
            raise ScenarioError(f"override {name}: a block below zero", "give a block number")
        for block, field in ((self.from_block, "from"), (self.until_block, "until")):
            time = self.from_time if field == "from" else self.until_time
            if block and time is not None:
                raise ScenarioError(f"override {name}: {field}_block and {field}_time together", "give one of them")
            if time is not None:
                seconds_of(time, f"override {name}: {field}_time")
        ramp = self.until_block is not None or self.until_time is not None
        if self.steps < 1 or (self.steps > 1 and not ramp):
            raise ScenarioError(
                f"override {name}: steps = {self.steps} without an end",
                "give until_block or until_time, and 1 step or more",
            )
        if self.until_block is not None and self.from_time is None and self.until_block <= self.from_block:
            raise ScenarioError(
                f"override {name}: until_block = {self.until_block} is not after from_block = {self.from_block}",
                "swap them",
            )


_SET = re.compile(
    r"(?:(?P<scope>[^=@]+)\.)?(?P<parameter>\w+?)(?P<relative>[+-]?)=(?P<value>[\d_]+)"
    r"(?:@(?P<start>[\w:-]+)(?:\.\.(?P<end>[\w:-]+)(?:/(?P<steps>\d+))?)?)?"
)


def parse_override(text: str) -> Override:
    """``[ASSET.|ASSET+emode.|emodeN.]PARAMETER[+|-]=VALUE[@FROM[..UNTIL[/STEPS]]]``, as on the command line.

    ``WETH.liquidation_threshold=8000@19000000``; relative ``WETH.liquidation_threshold-=300``; a ramp
    ``WETH.ltv=7000@2024-01-01..2024-02-01/10``. FROM and UNTIL are blocks or dates.
    """
    match = _SET.fullmatch(text.strip())
    if match is None:
        raise ScenarioError(
            f"--set '{text}' is not understood",
            "write ASSET.parameter=value, for example WETH.liquidation_threshold=8000",
        )
    scope: str = match["scope"] or ""
    emode: int | Literal["all"] | None = None
    if numbered := re.fullmatch(r"emode(\d+)", scope):
        scope, emode = "", int(numbered[1])
    elif scope.endswith("+emode"):
        scope, emode = scope.removesuffix("+emode"), "all"
    amount = int(match["value"])
    start, end = _moment(match["start"], "from"), _moment(match["end"], "until")
    return Override(
        parameter=match["parameter"],
        value=None if match["relative"] else amount,
        change={"+": amount, "-": -amount}.get(match["relative"]),
        asset=scope or None,
        emode=emode,
        steps=int(match["steps"] or 1),
        **start,
        **end,
    )


def _moment(text: str | None, field: str) -> dict[str, Any]:
    """The field of a block or of a time."""
    if text is None:
        return {}
    return {f"{field}_block": int(text)} if re.fullmatch(r"[\d_]+", text) else {f"{field}_time": text}
