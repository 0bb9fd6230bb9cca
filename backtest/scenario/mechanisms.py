"""How an account that may be liquidated becomes a settled liquidation, where that is not the protocol's own way.

Who may be liquidated is the protocol's rule in all of them. Shares and factors are basis points; a bonus is 10000 +
bonus.
"""

from __future__ import annotations

from backtest.errors import ScenarioError
from backtest.scenario.base import Strict, at_least, share


def _bonus(**fields: int | None) -> None:
    for name, value in fields.items():
        if value is not None and not 10_000 <= value <= 20_000:
            raise ScenarioError(
                f"{name.replace('__', '.')} = {value} is no bonus", "give basis points, 10000 + bonus (10500 = 5 %)"
            )


class ProtocolsOwn(Strict, frozen=True, tag_field="kind", tag="protocol"):
    """The protocol's own way."""


class FixedSpread(Strict, frozen=True, tag_field="kind", tag="fixed-spread"):
    """Repay at most a share of the debt, at once, for collateral worth as much and a bonus, whatever the health."""

    bonus: int = 10_500
    """10000 + bonus."""
    close_factor: int = 5_000
    """Share of the pair's debt that one call may repay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _bonus(mechanism__bonus=self.bonus)
        at_least(1, mechanism__close_factor=self.close_factor)
        share(mechanism__close_factor=self.close_factor)


class HealthBonus(Strict, frozen=True, tag_field="kind", tag="health-bonus"):
    """The bonus grows in a straight line as health falls, and is never so large that a liquidation leaves less
    collateral for each unit of debt.
    """

    bonus: int = 10_800
    """The largest, 10000 + bonus, at ``lowest`` health and below."""
    least: int = 2_500
    """Share of the largest bonus that there is at a health of one."""
    lowest: int = 9_000
    """The health at which the bonus is largest, ten-thousandths."""
    close_factor: int = 5_000
    """Share of the pair's debt that one call may repay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _bonus(mechanism__bonus=self.bonus)
        at_least(1, mechanism__close_factor=self.close_factor)
        share(mechanism__close_factor=self.close_factor, mechanism__least=self.least)
        if not 0 <= self.lowest < 10_000:
            raise ScenarioError(
                f"mechanism.lowest = {self.lowest}", "give a health below one, in ten-thousandths (9000 = 0.9)"
            )


class TargetHealth(Strict, frozen=True, tag_field="kind", tag="target-health"):
    """One call repays just so much that the account reaches a health (Aave V4's rule)."""

    target: int = 11_000
    """The health that is reached, ten-thousandths."""
    bonus: int = 10_500
    """10000 + bonus."""
    dust: int = 0
    """Where less debt of the pair than this would be left (base units), all of it may be repaid."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _bonus(mechanism__bonus=self.bonus)
        at_least(10_001, mechanism__target=self.target)
        at_least(0, mechanism__dust=self.dust)


class HealthDutch(Strict, frozen=True, tag_field="kind", tag="dutch-health"):
    """The discount is what the health is below one, up to a limit (Euler V2's rule): the price falls as the account
    gets worse.
    """

    most: int = 2_000
    """The largest discount on the collateral, basis points of its value."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, mechanism__most=self.most)
        if self.most > 9_999:
            raise ScenarioError(
                f"mechanism.most = {self.most} gives the collateral away", "give basis points below 10000"
            )


class Dutch(Strict, frozen=True, tag_field="kind", tag="dutch"):
    """An auction whose price falls in steps: it starts above the oracle's price when an
    account may first be liquidated; whoever takes it pays the price of the moment, and nothing leaves the account
    before. It ends where the account is healthy.
    """

    buf: int = 11_000
    """Starting price, share of the oracle's."""
    cut: int = 9_970
    """What is left of the price at each step."""
    step: int = 30
    """Seconds between steps."""
    tail: int = 8_400
    """Seconds after which it must start anew."""
    cusp: int = 4_000
    """Share of the starting price below which it must start anew."""
    close_factor: int = 10_000
    """Share of the pair's debt that one take may repay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(
            1, **{f"mechanism__{name}": getattr(self, name) for name in ("buf", "cut", "step", "tail", "close_factor")}
        )
        share(mechanism__cut=self.cut, mechanism__cusp=self.cusp, mechanism__close_factor=self.close_factor)


class Hybrid(Strict, frozen=True, tag_field="kind", tag="hybrid"):
    """The protocol's own liquidation for some blocks after an account may first be liquidated, then a Dutch auction."""

    blocks: int = 10
    """For how many."""
    block_seconds: int = 12
    """Seconds of a block."""
    auction: Dutch = Dutch()
    """What follows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, mechanism__blocks=self.blocks)
        at_least(1, mechanism__block_seconds=self.block_seconds)


class English(Strict, frozen=True, tag_field="kind", tag="english"):
    """An auction of rising bids for the largest collateral of an account against its largest debt: bids rise to the
    debt, then the part of the collateral that is asked for falls. The winner pays when its bid has stood; nothing
    leaves the account before.
    """

    ttl: int = 3_600
    """Seconds that a bid must stand."""
    tau: int = 21_600
    """Seconds after which no more bids are taken."""
    beg: int = 10_500
    """By how much a bid must be better, 10000 + more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, mechanism__ttl=self.ttl, mechanism__tau=self.tau)
        at_least(10_000, mechanism__beg=self.beg)


Mechanism = ProtocolsOwn | FixedSpread | HealthBonus | TargetHealth | HealthDutch | Dutch | Hybrid | English
