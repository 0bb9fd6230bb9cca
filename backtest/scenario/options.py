"""Parts of a scenario as text on the command line."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import get_args

from msgspec.structs import fields

from backtest.errors import ScenarioError, did_you_mean
from backtest.scenario import Demand, Gas, Mechanism, Slippage

_GWEI = 10**9
_GAS = (
    "write historical, constant:30 (gwei), spike:6 (times history's), eip-1559:30:20@200 (gwei, blocks @ percent of the"
    " target)"
)
_SLIPPAGE = (
    "write none, pools, constant-product:5000000 (reserve), or square-root:200000000@4.5 (daily volume @ daily"
    " volatility in percent)"
)


def parse_gas(text: str) -> Gas:
    """``historical``, ``constant:GWEI``, ``spike:TIMES`` or ``eip-1559:GWEI[:BLOCKS@PERCENT[,BLOCKS@PERCENT...]]``."""
    kind, _, rest = text.partition(":")
    what = f"--gas '{text}' is not understood"
    if kind == "historical" and not rest:
        return Gas()
    if kind == "constant":
        return Gas(fee="constant", base_fee=_whole(rest, _GWEI, what, _GAS))
    if kind == "spike" and re.fullmatch(r"[1-9]\d*", rest):
        return Gas(spike=int(rest))
    if kind == "eip-1559":
        first, _, stretches = rest.partition(":")
        demand = []
        for stretch in stretches.split(",") if stretches else ():
            found = re.fullmatch(r"(\d+)@(\d+)", stretch)
            if found is None:
                raise ScenarioError(what, _GAS)
            demand.append(Demand(blocks=int(found[1]), used=int(found[2]) * 100))
        return Gas(fee="eip-1559", base_fee=_whole(first, _GWEI, what, _GAS), demand=tuple(demand))
    raise ScenarioError(what, _GAS)


def parse_slippage(text: str, unit: int) -> Slippage:
    """``none``, ``pools``, ``constant-product:RESERVE`` or ``square-root:DAILY_VOLUME@DAILY_VOLATILITY``; amounts in
    whole units of the base currency, of which each is ``unit`` base units, volatility in percent.
    """
    kind, _, rest = text.partition(":")
    what = f"--slippage '{text}' is not understood"
    if kind in ("none", "pools") and not rest:
        return Slippage(model="pools" if kind == "pools" else "none")
    if kind == "constant-product":
        return Slippage(model="constant-product", reserve=_whole(rest, unit, what, _SLIPPAGE))
    volume, found, volatility = rest.partition("@")
    if kind == "square-root" and found:
        return Slippage(
            model="square-root",
            daily_volume=_whole(volume, unit, what, _SLIPPAGE),
            daily_volatility=_whole(volatility, 100, what, _SLIPPAGE),
        )
    raise ScenarioError(what, _SLIPPAGE)


def parse_mechanism(text: str) -> Mechanism:
    """``KIND[:FIELD=VALUE,FIELD=VALUE...]``: dutch:step=60,cut=9950."""
    kind, _, rest = text.partition(":")
    kinds = {str(struct.__struct_config__.tag): struct for struct in get_args(Mechanism)}
    if kind not in kinds:
        raise ScenarioError(f"unknown mechanism '{kind}'", did_you_mean(kind, kinds))
    known = [field.name for field in fields(kinds[kind]) if field.type is int]
    given = {}
    for part in rest.split(",") if rest else ():
        name, _, value = part.partition("=")
        if name not in known:
            raise ScenarioError(
                f"--mechanism {kind}: unknown field '{name}'", did_you_mean(name, known) if known else "it has none"
            )
        if not re.fullmatch(r"[\d_]+", value):
            raise ScenarioError(
                f"--mechanism {kind}: {name} = '{value}' is no whole number", f"write {kind}:{name}=NUMBER"
            )
        given[name] = int(value)
    made: Mechanism = kinds[kind](**given)
    return made


def _whole(text: str, unit: int, what: str, fix: str) -> int:
    """A positive number times ``unit``, which must be whole."""
    try:
        value = Decimal(text.replace("_", "")) * unit
    except InvalidOperation:
        raise ScenarioError(what, fix) from None
    if not value.is_finite() or value <= 0 or value != value.to_integral_value():
        raise ScenarioError(what, fix)
    return int(value)
