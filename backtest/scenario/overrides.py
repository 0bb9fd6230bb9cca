"""Changed parameters: which there are, one of them as a value, and as text on the command line."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from backtest import foreign
from backtest.errors import ScenarioError, did_you_mean
from backtest.scenario.base import Strict, seconds_of

Unit = Literal["basis points", "seconds", "whole tokens", "a code"]


class Parameter(NamedTuple):
    """A word of scenarios: what its values are counted in, in files and on pages, whatever a protocol stores, and the
    least and greatest of them.

    ``per_asset``: each asset has its own; else it is one for the whole market. ``per_category``: e-mode categories have
    one too. ``per_part``: one for the whole market, but one a part where a market is made of several, each named by
    its collateral.
    """

    low: int
    high: int
    unit: Unit = "basis points"
    per_asset: bool = False
    per_category: bool = False
    per_part: bool = False


_AMOUNT = Parameter(0, 10**12, "whole tokens")
_OF_A_PART = _AMOUNT._replace(per_part=True)
PARAMETERS: dict[str, Parameter] = {
    "ltv": Parameter(0, 10_000, per_asset=True, per_category=True),
    "liquidation_threshold": Parameter(0, 10_000, per_asset=True, per_category=True),
    "liquidation_target_ltv": Parameter(0, 10_000, per_asset=True),
    "liquidation_bonus": Parameter(10_000, 20_000, per_asset=True, per_category=True),
    "partial_liquidation_bonus": Parameter(10_000, 20_000, per_asset=True),
    "liquidation_protocol_fee": Parameter(0, 10_000, per_asset=True),
    "liquidation_factor": Parameter(0, 10_000, per_asset=True),
    "store_front_price_factor": Parameter(0, 10_000),
    "close_factor": Parameter(1, 10_000),
    "liquidation_ratio": Parameter(10_000, 100_000, per_part=True),
    "safety_ratio": Parameter(10_000, 100_000),
    "critical_ratio": Parameter(10_000, 100_000),
    "shutdown_ratio": Parameter(10_000, 100_000),
    "batch_margin": Parameter(0, 10_000),
    "gas_share": Parameter(0, 10_000),
    "liquidation_penalty": Parameter(10_000, 20_000, per_part=True),
    "redistribution_penalty": Parameter(10_000, 20_000),
    "liquidation_system": Parameter(10, 32, "a code", per_part=True),
    "dust": _OF_A_PART,
    "line": _OF_A_PART,
    "lump": _OF_A_PART,
    "dunk": _OF_A_PART,
    "box": _AMOUNT,
    "hole": _OF_A_PART,
    "global_hole": _AMOUNT,
    "beg": Parameter(10_000, 20_000, per_part=True),
    "ttl": Parameter(1, 10**8, "seconds", per_part=True),
    "tau": Parameter(1, 10**8, "seconds", per_part=True),
    "buf": Parameter(10_000, 100_000, per_part=True),
    "tail": Parameter(0, 10**8, "seconds", per_part=True),
    "cusp": Parameter(0, 10_000, per_part=True),
    "chip": Parameter(0, 10_000, per_part=True),
    "tip": _OF_A_PART,
    "calc": Parameter(0, 2, "a code", per_part=True),
    "calc_tau": Parameter(1, 10**8, "seconds", per_part=True),
    "step": Parameter(1, 10**8, "seconds", per_part=True),
    "cut": Parameter(0, 10_000, per_part=True),
    "min_discount": Parameter(1, 10_000),
    "max_discount": Parameter(1, 10_000),
    "discount_seconds": Parameter(1, 10**8, "seconds"),
    "minimum_bid": _AMOUNT,
    "amplification": Parameter(2, 10_000, "a code"),
    "loan_discount": Parameter(0, 5_000),
    "liquidation_discount": Parameter(0, 5_000),
    "amm_fee": Parameter(0, 1_000),
    "max_liquidation_discount": Parameter(0, 9_999),
    "liquidation_cool_off": Parameter(0, 65_535, "seconds"),
    "liquidation_premium": Parameter(0, 9_999),
    "liquidation_fee": Parameter(0, 9_999),
}
"""What may be overridden. A protocol says which of these it has, how it stores them (``LendingProtocol.parameters``)
and what its contracts would refuse (``fault``).
"""
MOST_STEPS = 10_000
"""Steps of a ramp, at most."""


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
    """Symbol or address; None: every asset, or every part of the market."""
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
    market: str | None = None
    """Of ``[joint]``: the market in which it holds; None: each that has the asset and the parameter."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.parameter
        word = _word(name)
        low, high = word.low, word.high
        if (self.value is None) == (self.change is None):
            raise ScenarioError(
                f"override {name}: {'neither' if self.value is None else 'both'} value and change", "give one of them"
            )
        if self.value is not None and not low <= self.value <= high:
            hint = "; a bonus is 10000 + bonus" if name == "liquidation_bonus" else ""
            if hint and 10 <= self.value < low:
                hint += f": did you mean {low + self.value}, a bonus of {self.value / 100:g} %?"
            raise ScenarioError(
                f"override {name} = {self.value} is out of range", f"give {word.unit} from {low} to {high}{hint}"
            )
        if self.emode is not None and not word.per_category:
            raise ScenarioError(
                f"override {name}: e-mode categories have no such parameter",
                f"they have {', '.join(each for each in PARAMETERS if PARAMETERS[each].per_category)}",
            )
        if isinstance(self.emode, int) and self.asset is not None:
            raise ScenarioError(
                f"override {name}: asset '{self.asset}' and e-mode {self.emode} together", "give one of them"
            )
        if not (word.per_asset or word.per_part) and self.asset is not None:
            raise ScenarioError(f"override {name}: it is one for the whole market", "leave the asset out")
        self._check_moments()

    def _remedy(self, field: str, value: object) -> str:
        if field in ("value", "change") and isinstance(value, float | str) and self.parameter in PARAMETERS:
            return meant(self.parameter, str(value), absolute=field == "value")
        return ""

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
        if self.steps > MOST_STEPS:
            raise ScenarioError(f"override {name}: steps = {self.steps:,}", f"give at most {MOST_STEPS:,}")
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
    r"(?:(?P<market>[a-z0-9][a-z0-9._-]{0,99}):)?(?:(?P<scope>[^=@]+)\.)?(?P<parameter>\w+?)(?P<relative>[+-]?)=(?P<value>[^=@]+)"
    r"(?:@(?P<start>[\w:-]+)(?:\.\.(?P<end>[\w:-]+)(?:/(?P<steps>\d+))?)?)?",
    re.ASCII,
)


def _word(parameter: str) -> Parameter:
    if parameter not in PARAMETERS:
        name = foreign.shown(parameter, 60)
        raise ScenarioError(f"unknown parameter '{name}' in an override", did_you_mean(name, PARAMETERS))
    return PARAMETERS[parameter]


def amount_of(parameter: str, text: str, where: str, *, absolute: bool = True) -> int:
    """A value as on the command line: ``8000``, ``8_000``, ``8000.0``, or ``80%`` of a parameter in basis points.

    ScenarioError, which names ``where`` and says what is meant, for anything else: a share such as ``0.8``, a finer
    number, a sign.
    """
    unit = _word(parameter).unit
    given = text.strip()
    percent = given.endswith("%") and unit == "basis points"
    try:
        value = foreign.decimal((given.removesuffix("%").rstrip() if percent else given).replace("_", ""))
    except foreign.Unreadable as error:
        raise ScenarioError(f"{where} is not understood: {error}", meant(parameter, "")) from None
    value = value * 100 if percent else value
    if given[0] in "+-" or value != value.to_integral_value():
        what = f"{where} is not understood: {parameter} counts in {unit}"
        raise ScenarioError(what, meant(parameter, given, absolute=absolute))
    return int(value)


def meant(parameter: str, text: str, *, absolute: bool = True) -> str:
    """The remedy for a value in another unit than the parameter's."""
    unit = PARAMETERS[parameter].unit
    if unit == "basis points":
        share = text.strip().removesuffix("%")
        try:
            points = foreign.decimal(share.strip()) * (100 if share != text.strip() else 10_000)
        except foreign.Unreadable:
            points = Decimal("NaN")
        bonus = 10_000 if absolute and parameter == "liquidation_bonus" and points < 10_000 else 0
        if points == points.to_integral_value() and 0 < points <= 20_000:
            return f"did you mean {int(points) + bonus} (basis points) or {int(points + bonus) / 100:g}%?"
    return f"give {unit}, a whole number{', such as 8000 for 80 %' if unit == 'basis points' else ''}"


def parse_override(text: str) -> Override:
    """``[MARKET:][ASSET.|ASSET+emode.|emodeN.]PARAMETER[+|-]=VALUE[@FROM[..UNTIL[/STEPS]]]``, as on the command line.

    ``WETH.liquidation_threshold=8000@19000000``, or ``80%``; relative ``WETH.liquidation_threshold-=300``; a ramp
    ``WETH.ltv=7000@2024-01-01..2024-02-01/10``. FROM and UNTIL are blocks or dates; MARKET is one of several.
    """
    where = f"--set '{foreign.shown(text, 80)}'"
    match = _SET.fullmatch(text.strip())
    if match is None:
        raise ScenarioError(
            f"{where} is not understood",
            "write ASSET.parameter=value, for example WETH.liquidation_threshold=8000",
        )
    scope: str = match["scope"] or ""
    emode: int | Literal["all"] | None = None
    if numbered := re.fullmatch(r"emode([0-9]+)", scope):
        scope, emode = "", _whole(numbered[1], where)
    elif scope.endswith("+emode"):
        scope, emode = scope.removesuffix("+emode"), "all"
    amount = amount_of(match["parameter"], match["value"], where, absolute=not match["relative"])
    start, end = _moment(match["start"], "from", where), _moment(match["end"], "until", where)
    return Override(
        parameter=match["parameter"],
        value=None if match["relative"] else amount,
        change={"+": amount, "-": -amount}.get(match["relative"]),
        asset=scope or None,
        emode=emode,
        market=match["market"],
        steps=_whole(match["steps"] or "1", where),
        **start,
        **end,
    )


def _moment(text: str | None, field: str, where: str) -> dict[str, Any]:
    """The field of a block or of a time."""
    if text is None:
        return {}
    if re.fullmatch(r"[0-9_]+", text):
        return {f"{field}_block": _whole(text.replace("_", ""), where)}
    return {f"{field}_time": text}


def _whole(digits: str, where: str) -> int:
    try:
        return foreign.integer(digits, bits=63)
    except foreign.Unreadable as error:
        raise ScenarioError(f"{where}: {error}", "see docs/scenarios.md") from None
