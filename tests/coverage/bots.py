"""Liquidators that are not the model's: each decides by code of its own from what the chain says, and by dice keyed to
what it looks at, so that the same bot meets the same luck on both chains wherever it sees the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from random import Random

from tests.chain.node import UINT256_MAX
from tests.coverage.world import STEP

WAD = 10**18


@dataclass(frozen=True, slots=True)
class Seen:
    """An account near or beyond its edge: health as wad; what it holds and owes, native units and dollars by symbol."""

    who: str
    health: int
    held: Mapping[str, float]
    owed: Mapping[str, float]
    debts: Mapping[str, int]

    @property
    def debt(self) -> float:
        """Dollars."""
        return sum(self.owed.values())


@dataclass(frozen=True, slots=True)
class Try:
    """One liquidationCall: ``amount`` in native units, or all that is allowed; ``dollars`` it is meant to be."""

    bot: str
    who: str
    collateral: str
    debt: str
    amount: int
    dollars: float


@dataclass(slots=True)
class Bot:
    """``kind``: one of ``world.BOTS``; what it is like is drawn from ``seed`` and ``place``."""

    kind: str
    seed: int
    place: int
    address: str
    bonus: float
    """Of WETH on this chain, as a share of the debt."""
    cash: float = 0.0
    refilled: int = -1
    scared_until: int = -1
    first_seen: dict[str, int] = field(default_factory=dict)

    def dice(self, *what: object) -> Random:
        """The luck of this bot about something."""
        return Random(" ".join(map(str, (self.seed, self.place, self.kind, *what))))

    def acts(self, at: int, fall: float, accounts: Sequence[Seen]) -> list[Try]:
        """What it sends now. ``at``: seconds since the start; ``fall``: of WETH's price since an hour ago, a share."""
        weak = [one for one in accounts if one.health < WAD]
        for who in self.first_seen.keys() - {one.who for one in weak}:
            del self.first_seen[who]
        for one in weak:
            self.first_seen.setdefault(one.who, at)
        return getattr(_Kinds, self.kind)(self, at, fall, accounts, weak)  # type: ignore[no-any-return]

    def call(self, one: Seen, amount: int | None = None, dollars: float = 0.0, *, least: bool = False) -> Try:
        """On the largest debt, for the largest collateral or the least."""
        debt = max(one.owed, key=lambda symbol: (one.owed[symbol], symbol))
        pick = min if least else max
        collateral = pick(one.held, key=lambda symbol: (one.held[symbol], symbol))
        return Try(self.address, one.who, collateral, debt, UINT256_MAX if amount is None else amount, dollars)

    def part(self, one: Seen, dollars: float, *, least: bool = False) -> Try:
        """Of the largest debt, so many dollars of it."""
        debt = max(one.owed, key=lambda symbol: (one.owed[symbol], symbol))
        amount = int(one.debts[debt] * min(1.0, dollars / one.owed[debt])) or 1
        return self.call(one, amount, dollars, least=least)


class _Kinds:
    @staticmethod
    def late(bot: Bot, at: int, fall: float, accounts: Sequence[Seen], weak: Sequence[Seen]) -> list[Try]:
        """Comes to each account after a delay of its own, around twenty minutes to two hours."""
        typical = exp(bot.dice("typical").uniform(6.0, 8.8))
        return [
            bot.call(one)
            for one in weak
            if at - bot.first_seen[one.who] >= typical * exp(bot.dice(one.who).gauss(0, 0.8))
        ]

    @staticmethod
    def absent(bot: Bot, at: int, fall: float, accounts: Sequence[Seen], weak: Sequence[Seen]) -> list[Try]:
        """Takes everything, in the hours in which it is there."""
        away = bot.dice("share").uniform(0.3, 0.8)
        return [] if bot.dice("hour", at // 5400).random() < away else [bot.call(one) for one in weak]

    @staticmethod
    def greedy(bot: Bot, at: int, fall: float, accounts: Sequence[Seen], weak: Sequence[Seen]) -> list[Try]:
        """The largest alone, and only where the bonus is worth its while."""
        least = exp(bot.dice("least").uniform(3.0, 6.5))
        worth = [one for one in weak if one.debt / 2 * bot.bonus > least]
        return [bot.call(max(worth, key=lambda one: (one.debt, one.who)))] if worth else []

    @staticmethod
    def short(bot: Bot, at: int, fall: float, accounts: Sequence[Seen], weak: Sequence[Seen]) -> list[Try]:
        """Has so much money, and gets it back after hours."""
        own, every = exp(bot.dice("cash").uniform(8.5, 11.5)), bot.dice("every").choice((7_200, 14_400, 28_800))
        if at // every != bot.refilled:
            bot.cash, bot.refilled = own, at // every
        found = []
        for one in sorted(weak, key=lambda one: (one.health, one.who)):
            dollars = min(bot.cash, max(one.owed.values()) / 2)
            if dollars > 100:
                found.append(bot.part(one, dollars))
                bot.cash -= dollars
        return found

    @staticmethod
    def nibbling(bot: Bot, at: int, fall: float, accounts: Sequence[Seen], weak: Sequence[Seen]) -> list[Try]:
        """A small part of the debt at a time, of some of them."""
        share = bot.dice("share").uniform(0.05, 0.3)
        return [bot.part(one, share * one.debt) for one in weak if bot.dice(one.who, at // STEP).random() < 0.5]

    @staticmethod
    def choosy(bot: Bot, at: int, fall: float, accounts: Sequence[Seen], weak: Sequence[Seen]) -> list[Try]:
        """Wants the lesser collateral, and never an account with less than so much debt."""
        least = exp(bot.dice("least").uniform(6.5, 9.0))
        return [bot.call(one, least=True) for one in weak if one.debt > least]

    @staticmethod
    def timid(bot: Bot, at: int, fall: float, accounts: Sequence[Seen], weak: Sequence[Seen]) -> list[Try]:
        """Goes away when prices fall fast."""
        if fall > bot.dice("nerve").uniform(0.02, 0.08):
            bot.scared_until = at + bot.dice("rest").choice((3_600, 7_200, 14_400))
        return [] if at < bot.scared_until else [bot.call(one) for one in weak]

    @staticmethod
    def clumsy(bot: Bot, at: int, fall: float, accounts: Sequence[Seen], weak: Sequence[Seen]) -> list[Try]:
        """Calls too early, too late and for any amount."""
        found = []
        for one in accounts:
            luck = bot.dice(one.who, at)
            if one.health < 1.01 * WAD and luck.random() < 0.3:
                found.append(bot.part(one, one.debt * luck.uniform(0.1, 1.0)))
        return found
