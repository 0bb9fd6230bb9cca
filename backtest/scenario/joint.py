"""Several markets in one replay: which, what their base currencies are worth in each other, and what of a scenario
holds in each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeVar

from msgspec.structs import replace

from backtest import foreign
from backtest.errors import ScenarioError
from backtest.scenario.base import Strict, plain
from backtest.scenario.liquidators import Contest
from backtest.scenario.mitigations import Mitigation, Pause, ReserveFund, SizeTiers, asset_of

if TYPE_CHECKING:
    from backtest.scenario import Scenario

MOST_MARKETS = 64
T = TypeVar("T", bound=Strict)


class ExchangeRate(Strict, frozen=True):
    """What one unit of a base currency is worth, the same throughout."""

    currency: str
    """The base currency of a market: USDC."""
    worth: str
    """In the base currency of the first market, as a decimal number: 0.9995."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain(self.currency, "joint.rates: currency")
        if self.value <= 0:
            raise ScenarioError(f"joint.rates: {self.currency} = {foreign.shown(self.worth, 40)}", "give more than 0")

    @property
    def value(self) -> Fraction:
        """Exact."""
        try:
            return Fraction(foreign.decimal(self.worth))
        except foreign.Unreadable as error:
            raise ScenarioError(f"joint.rates: {self.currency}: {error}", "give a number such as 0.9995") from None


class Joint(Strict, frozen=True):
    """Markets that are replayed together: one clock, one set of searchers with one purse."""

    markets: tuple[str, ...]
    """Names in the lake. Amounts of the scenario and the searchers' capital are in base units of the first."""
    purse: Literal["shared", "each"] = "shared"
    """Searchers have their capital, calls and stuck transactions once for all markets, or once in each."""
    rates: tuple[ExchangeRate, ...] = ()
    """Of base currencies that are not the first market's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.markets:
            plain(name, "joint.markets")
        if len(set(self.markets)) < len(self.markets):
            raise ScenarioError("joint.markets: one of them twice", "name each once")
        if not 2 <= len(self.markets) <= MOST_MARKETS:
            raise ScenarioError(
                f"joint.markets: {len(self.markets)} of them", f"give from 2 to {MOST_MARKETS} names of the lake"
            )
        if len({rate.currency for rate in self.rates}) < len(self.rates):
            raise ScenarioError("joint.rates: one currency twice", "give one rate of each")

    def worth(self, currency: str, decimals: int, first: tuple[str, int]) -> Fraction:
        """How many base units of the first market (its currency and decimals) one base unit of another is.

        ScenarioError where the currencies differ and no rate is given.
        """
        value = Fraction(1)
        if currency != first[0]:
            found = next((rate for rate in self.rates if rate.currency == currency), None)
            if found is None:
                raise ScenarioError(
                    f"joint: what a {currency} is worth in {first[0]} is not said",
                    f"give it: --rate {currency}=1, or [[joint.rates]] in a scenario file",
                )
            value = found.value
        return value * Fraction(10) ** (first[1] - decimals)


def own(
    scenario: Scenario,
    market: str,
    has: Callable[[str], bool],
    parameters: Mapping[str, int],
    worth: Fraction,
    blocks: tuple[int | None, int | None],
) -> Scenario:
    """What of a joint scenario holds in one market, as a scenario of its own: overrides, slippage and impact of assets
    that it has, of parameters that its protocol has, and all amounts in its own base units, rounded up.

    ``has``: whether an asset is the market's. ``worth``: of its base unit in those of the scenario. ``blocks``: the
    first and last of the window on its chain.
    """
    overrides = tuple(
        replace(one, market=None)
        for one in scenario.overrides
        if (one.market == market)
        or (one.market is None and one.parameter in parameters and (one.asset is None or has(one.asset)))
    )
    costs = scenario.costs
    slippage = tuple(
        replace(
            entry,
            reserve=_up(entry.reserve, worth),
            daily_volume=_up(entry.daily_volume, worth),
            curve=tuple((_up(size, worth) or 0, loss) for size, loss in entry.curve),
        )
        for entry in costs.slippage
        if entry.asset is None or has(entry.asset)
    )
    gas = None if costs.gas is None else replace(costs.gas, native_price=_up(costs.gas.native_price, worth))
    return replace(
        scenario,
        joint=None,
        overrides=overrides,
        impact=replace(scenario.impact, assets=tuple(one for one in scenario.impact.assets if has(one.asset))),
        costs=replace(costs, slippage=slippage, gas=gas),
        liquidators=_scaled(scenario.liquidators, worth),
        mechanism=_scaled(scenario.mechanism, worth),
        mitigations=tuple(
            _mitigation(one, worth)
            for one in scenario.mitigations
            if ((asset := asset_of(one)) is None or has(asset))
            and not (isinstance(one, Pause) and one.market not in (None, market))
        ),
        from_block=blocks[0],
        to_block=blocks[1],
    )


def unmet(scenario: Scenario, markets: Mapping[str, tuple[Callable[[str], bool], Mapping[str, int]]]) -> None:
    """ScenarioError for an override, or slippage, that holds in none of the markets (name to ``has`` and ``parameters``
    of ``own``), or names another.
    """
    known = ", ".join(markets)
    for one in scenario.overrides:
        if one.market is not None and one.market not in markets:
            raise ScenarioError(f"override {one.parameter}: market '{one.market}' is none of the joint ones", known)
        fits = [
            name for name, (has, parameters) in markets.items()
            if one.parameter in parameters and (one.asset is None or has(one.asset))
        ]  # fmt: skip
        if not fits if one.market is None else one.market not in fits:
            of = f"{one.asset}.{one.parameter}" if one.asset else one.parameter
            raise ScenarioError(f"override {of}: {one.market or 'none of the markets'} has no such thing", known)
    for entry in scenario.costs.slippage:
        if entry.asset is not None and not any(has(entry.asset) for has, _ in markets.values()):
            raise ScenarioError(f"costs.slippage: '{entry.asset}' is no asset of these markets", known)
    for mitigation in scenario.mitigations:
        named, whose = asset_of(mitigation), mitigation.market if isinstance(mitigation, Pause) else None
        if whose is not None and whose not in markets:
            raise ScenarioError(f"mitigation pause: market '{whose}' is none of the joint ones", known)
        if named is not None and not any(has(named) for has, _ in markets.values()):
            raise ScenarioError(f"mitigation {mitigation.kind}: '{named}' is no asset of these markets", known)
    for answers in scenario.impact.assets:
        if not any(has(answers.asset) for has, _ in markets.values()):
            raise ScenarioError(f"impact.assets: '{answers.asset}' is no asset of these markets", known)


_BASE_UNITS = ("gas_cost", "private_cost", "dust", "most_repaid", "depth_base")
"""Fields that are amounts wherever they stand."""


def _mitigation(one: Mitigation, worth: Fraction) -> Mitigation:
    made = _scaled(one, worth)
    match made:
        case Pause():
            return replace(made, market=None)
        case ReserveFund():
            return replace(made, reserve=_up(made.reserve, worth))
        case SizeTiers():
            return replace(made, tiers=tuple((_up(size, worth), health) for size, health in made.tiers))
    return made


def _scaled(part: T, worth: Fraction) -> T:
    changed = {name: _up(getattr(part, name), worth) for name in _BASE_UNITS if name in part.__struct_fields__}
    made = replace(part, **changed)
    if isinstance(made, Contest) and not isinstance(made.searchers, int):
        each = [
            replace(one, capital=_up(one.capital, worth), min_profit=_up(one.min_profit, worth))
            for one in made.searchers
        ]
        return replace(made, searchers=tuple(each))
    return made


def _up(amount: int | None, worth: Fraction) -> int | None:
    """Base units of the first market as those of another, rounded up."""
    return None if amount is None else -(-amount * worth.denominator // worth.numerator)
