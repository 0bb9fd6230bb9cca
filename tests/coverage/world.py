"""What a world is: its prices, its people, and what is changed on chain B. All of it is drawn from a seed before
anything is mined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from random import Random
from typing import Literal

from eth_utils.crypto import keccak

STEP = 1_200
"""Seconds between two reports of prices."""
STEPS = 48
CHANGE_AT = 6
"""The step in whose first block chain B's parameter changes."""
BORROWERS = 48
PRESENT = {
    "liquidation_threshold": 8250,
    "liquidation_bonus": 10500,
    "close_factor": 5000,
    "ltv": 7000,
    "liquidation_protocol_fee": 1000,
}
"""Of WETH on chain A, basis points; the close factor is the pool's."""
DOSES: Mapping[str, tuple[int, ...]] = {
    "liquidation_threshold": (7500, 7750, 8000, 8150, 8350, 8500, 8750),
    "liquidation_bonus": (10200, 10400, 10600, 10800, 11200),
    "close_factor": (2500, 4000, 7500, 10000),
    "ltv": (5000, 6000, 6500, 7500),
    "liquidation_protocol_fee": (0, 2000, 5000),
}
"""What chain B has in place of it; a world draws one of each."""
STABLES = ("USDC", "DAI")
Kind = Literal["supply", "withdraw", "borrow", "repay"]


@dataclass(frozen=True, slots=True)
class Deed:
    """One call of a user, the same on every chain; ``amount`` in native units."""

    step: int
    who: str
    kind: Kind
    symbol: str
    amount: int


@dataclass(frozen=True, slots=True)
class World:
    """``reports``: of each step the prices reported, 8 decimals. ``changes``: of each parameter the value on B."""

    seed: int
    reports: tuple[Mapping[str, int], ...]
    deeds: tuple[Deed, ...]
    people: tuple[str, ...]
    changes: Mapping[str, int]
    bots: tuple[str, ...]


START_PRICES = {"WETH": 194.61, "WBTC": 7934.0, "USDC": 1.0, "DAI": 1.005}
DECIMALS = {"WETH": 18, "WBTC": 8, "USDC": 6, "DAI": 18}
BOTS = ("late", "absent", "greedy", "short", "nibbling", "choosy", "timid", "clumsy")


def world(seed: int) -> World:
    """The world of a seed."""
    dice = Random(f"world {seed}")
    reports = _path(dice)
    people = tuple("0x" + keccak(text=f"borrower {seed} {i}")[12:].hex() for i in range(BORROWERS))
    deeds = tuple(sorted((deed for who in people for deed in _life(who, reports, dice)), key=lambda deed: deed.step))
    changes = {name: dice.choice(values) for name, values in DOSES.items()}
    bots = tuple(dice.choice(BOTS) for _ in range(dice.choice((1, 2, 2, 3))))
    return World(seed, reports, deeds, people, changes, bots)


def _path(dice: Random) -> tuple[Mapping[str, int], ...]:
    """A day of falling prices: noise, and one or two slides, after some of which prices come back."""
    total, start = -dice.uniform(0.18, 0.6), dice.randrange(8, 20)
    length = dice.randrange(6, 24)
    back = dice.choice((0.0, 0.0, 0.3, 0.6)) * -total / 10
    level, other, found = 0.0, 0.0, []
    for step in range(STEPS):
        drift = total / length if start <= step < start + length else 0.0
        drift += back if start + length <= step < start + length + 10 else 0.0
        level += drift + dice.gauss(0, 0.006)
        other += dice.gauss(0, 0.006)
        found.append({"WETH": round(194.61e8 * exp(level)), "WBTC": round(7934e8 * exp(0.8 * level + other))})
    return tuple(found)


def _life(who: str, reports: tuple[Mapping[str, int], ...], dice: Random) -> list[Deed]:
    """Opens a position, most before the fall, some during it; then adds, repays, borrows or withdraws now and then."""
    opens = dice.choice((0, 0, 0, 0, 2, 4, 7, 9, 12, 16))
    dollars = dice.choice((1_500, 4_000, 9_000, 20_000, 50_000, 120_000)) * dice.uniform(0.6, 1.7)
    held = dice.choice((("WETH",), ("WETH",), ("WETH",), ("WBTC",), ("WETH", "WBTC")))
    owed = dice.choice(STABLES)
    limit = {"WETH": 0.70, "WBTC": 0.73}

    def native(symbol: str, value: float, step: int) -> int:
        price = reports[max(0, step - 1)][symbol] / 1e8 if symbol in limit else START_PRICES[symbol]
        return max(1, int(value / price * 10**6)) * 10 ** DECIMALS[symbol] // 10**6 or 1

    use = dice.uniform(0.6, 0.97)
    deeds = [Deed(opens, who, "supply", symbol, native(symbol, dollars / len(held), opens)) for symbol in held]
    power = sum(limit[symbol] * dollars / len(held) for symbol in held)
    deeds.append(Deed(opens, who, "borrow", owed, native(owed, power * use, opens)))
    for _ in range(dice.choice((0, 0, 1, 1, 2))):
        step = dice.randrange(opens + 1, STEPS)
        kind: Kind = dice.choice(("supply", "repay", "repay", "borrow", "withdraw"))
        symbol = held[0] if kind in ("supply", "withdraw") else owed
        share = dice.uniform(0.03, 0.3) if kind in ("supply", "repay") else dice.uniform(0.01, 0.06)
        deeds.append(Deed(step, who, kind, symbol, native(symbol, dollars * share, step)))
    return deeds
