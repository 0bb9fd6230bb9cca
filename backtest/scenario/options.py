"""Parts of a scenario as text on the command line."""

from __future__ import annotations

from typing import get_args

from msgspec.structs import fields

from backtest import foreign
from backtest.errors import ScenarioError, did_you_mean
from backtest.scenario import (
    AssetImpact,
    ConstantProductDepth,
    Demand,
    Gas,
    LinearDepth,
    Mechanism,
    PoolsDepth,
    Slippage,
    SquareRootDepth,
)
from backtest.scenario.base import LARGEST_AMOUNT
from backtest.units import GWEI

_GAS = (
    "write historical, constant:30 (gwei), spike:6 (times history's), eip-1559:30:20@200 (gwei, blocks @ percent of the"
    " target)"
)
_SLIPPAGE = (
    "write none, pools, constant-product:5000000 (reserve), or square-root:200000000@4.5 (daily volume @ daily"
    " volatility in percent)"
)
_IMPACT = (
    "write WETH=constant-product:20000 (reserve), WETH=kyle:5000@2 (so many move it by so many percent),"
    " WETH=square-root:400000@4.5 (daily volume @ daily volatility in percent), or WETH=pools; whole tokens"
)


def parse_gas(text: str) -> Gas:
    """``historical``, ``constant:GWEI``, ``spike:TIMES`` or ``eip-1559:GWEI[:BLOCKS@PERCENT[,BLOCKS@PERCENT...]]``."""
    kind, _, rest = text.partition(":")
    what = f"--gas '{foreign.shown(text, 80)}' is not understood"
    if kind == "historical" and not rest:
        return Gas()
    if kind == "constant":
        return Gas(fee="constant", base_fee=_whole(rest, GWEI, what, _GAS))
    if kind == "spike":
        return Gas(spike=_whole(rest, 1, what, _GAS))
    if kind == "eip-1559":
        first, _, stretches = rest.partition(":")
        demand = []
        for stretch in stretches.split(",") if stretches else ():
            blocks, _, percent = stretch.partition("@")
            used = 0 if percent == "0" else _whole(percent, 100, what, _GAS)
            demand.append(Demand(blocks=_whole(blocks, 1, what, _GAS), used=used))
        return Gas(fee="eip-1559", base_fee=_whole(first, GWEI, what, _GAS), demand=tuple(demand))
    raise ScenarioError(what, _GAS)


def parse_slippage(text: str, unit: int) -> Slippage:
    """``none``, ``pools``, ``constant-product:RESERVE`` or ``square-root:DAILY_VOLUME@DAILY_VOLATILITY``; amounts in
    whole units of the base currency, of which each is ``unit`` base units, volatility in percent.
    """
    kind, _, rest = text.partition(":")
    what = f"--slippage '{foreign.shown(text, 80)}' is not understood"
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


def parse_impact(text: str) -> AssetImpact:
    """``ASSET=pools``, ``ASSET=constant-product:RESERVE``, ``ASSET=kyle:SIZE@PERCENT`` or
    ``ASSET=square-root:DAILY_VOLUME@DAILY_VOLATILITY``; whole tokens, percent.
    """
    asset, _, words = text.partition("=")
    kind, _, rest = words.partition(":")
    what = f"--impact '{foreign.shown(text, 80)}' is not understood"
    first, found, second = rest.partition("@")
    if not asset:
        raise ScenarioError(what, _IMPACT)
    if kind == "pools" and not rest:
        return AssetImpact(asset=asset, depth=PoolsDepth())
    if kind == "constant-product" and not found:
        return AssetImpact(asset=asset, depth=ConstantProductDepth(reserve=_whole(rest, 1, what, _IMPACT)))
    if kind in ("kyle", "square-root") and found:
        size, percent = _whole(first, 1, what, _IMPACT), _whole(second, 100, what, _IMPACT)
        if kind == "kyle":
            return AssetImpact(asset=asset, depth=LinearDepth(size=size, moves=percent))
        return AssetImpact(asset=asset, depth=SquareRootDepth(daily_volume=size, daily_volatility=percent))
    raise ScenarioError(what, _IMPACT)


def parse_mechanism(text: str) -> Mechanism:
    """``KIND[:FIELD=VALUE,FIELD=VALUE...]``: dutch:step=60,cut=9950."""
    kind, _, rest = text.partition(":")
    kinds = {str(struct.__struct_config__.tag): struct for struct in get_args(Mechanism)}
    if kind not in kinds:
        raise ScenarioError(f"unknown mechanism '{foreign.shown(kind, 40)}'", did_you_mean(kind, kinds))
    known = [field.name for field in fields(kinds[kind]) if field.type is int]
    given = {}
    for part in rest.split(",") if rest else ():
        name, _, value = part.partition("=")
        if name not in known:
            raise ScenarioError(
                f"--mechanism {kind}: unknown field '{foreign.shown(name, 40)}'",
                did_you_mean(name, known) if known else "it has none",
            )
        try:
            given[name] = foreign.integer(value.replace("_", ""), bits=128)
        except foreign.Unreadable:
            raise ScenarioError(
                f"--mechanism {kind}: {name} = '{foreign.shown(value, 40)}' is no whole number",
                f"write {kind}:{name}=NUMBER",
            ) from None
    made: Mechanism = kinds[kind](**given)
    return made


def _whole(text: str, unit: int, what: str, fix: str) -> int:
    """A positive number times ``unit``, which must be whole."""
    try:
        value = foreign.decimal(text.replace("_", "")) * unit
    except foreign.Unreadable:
        raise ScenarioError(what, fix) from None
    if not 0 < value <= LARGEST_AMOUNT or value != value.to_integral_value():
        raise ScenarioError(what, fix)
    return int(value)
