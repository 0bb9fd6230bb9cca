"""What a protocol's rules are to the compiled loop of a replay (``replay.shortcuts.loop``), and what it hands back.

Where prices and indexes are history's and liquidators take of each account what pays most, what happens between two
events of users or governance is one call of machine code. The protocol names its columns, arrays that the loop reads
and writes in place, and gives functions of them: the loop itself knows none of its rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from backtest.model import AccountId, AssetId, Clock, Side
from backtest.protocols.interface import Fill

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

Position = tuple[AccountId, AssetId, Side, int]
"""Account, asset, side, change of the scaled balance."""
Setting = tuple[AccountId, str, AssetId, int]
"""As in ``SettingChange``."""

# A liquidation as words in a row; amounts (native) and healths (wad) take two, the high one first. A protocol's own
# follow from ``COMMON`` on.
ACCOUNT, DEBT_ASSET, COLLATERAL_ASSET, NO_DEBT_LEFT, PROFIT, MOMENT = range(6)
REPAID, SEIZED, FEE, BEFORE, AFTER = range(6, 16, 2)
COMMON = 16
# Debt that one wrote off: its row among the liquidations, asset and native amount.
LOST_IN, LOST_ASSET, LOST_AMOUNT = range(3)
LOST_COMMON = 4

DONE, NOT_HERE, NO_ROOM = range(3)
"""How a moment ends: liquidated; left to the plain rules, and nothing changed; or the same for want of rows."""
ORACLE, MARKET = 0, 2
"""Where in a row of prices those two begin; each takes two words and has a flag, whether it is known."""
INDEX_WORDS = 8
"""An index update: supply index, borrow index, supply rate, borrow rate (ray), two words each."""


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """A protocol's columns and the functions of them that the loop calls.

    ``price`` below is assets x 4 words (``ORACLE``, ``MARKET``) and ``known`` assets x 4 flags in the same places.
    ``owes`` is by how much an account owes more than it holds, base units.

    Attributes:
        columns: arrays, which the functions take first.
        index: ``(columns, asset, words, timestamp)``: an index update of history.
        moment: ``(columns, accounts, price, known, timestamp, cost, calls, most, made, count, lost, used, refused,
            owes)``: what happens to these accounts at one moment, as ``LendingProtocol.together`` says; ``(DONE ...,
            count, used)``. ``made`` and ``lost`` are filled from ``count`` and ``used`` on, rows of one account one
            after another, or as they are taken (``Stretch.ordered``); ``refused`` is accounts x ``reasons``.
            ``NOT_HERE`` also where an offer stays that nobody takes.
        form: ``(columns, account, asset, owed, amount)``: the account's exposure, as a row of ``Exposures`` (amounts,
            all of the moment that ``moment`` saw last); how many terms, and the constant. No terms: it owes nothing.
        made, lost: words in a row.
        reasons: of the columns of ``refused``.
        relative_error: of the form, as in ``Exposures``.
        rules: as in ``Together``.
        settle: what the loop did to the columns becomes the book's: rows of liquidations, of what they wrote off, and
            who liquidated.
    """

    columns: tuple[Any, ...]
    index: Any
    moment: Any
    form: Any
    made: int
    lost: int
    reasons: tuple[str, ...]
    relative_error: float
    rules: tuple[str, bool]
    settle: Callable[[Words, Words, AccountId], Stretch]


@dataclass(slots=True)
class Stretch:
    """Liquidations that the loop made, with no event of users or governance between them; rows as the protocol has
    them.

    Attributes:
        fees: whom liquidations paid in collateral, of which asset, how much (scaled).
        sums: makes ``positions`` and ``settings``, when somebody asks.
        fill: the fill of a liquidation: its row, the rows of ``lost`` that belong to it, and when it was.
        ordered: rows of a moment are as they were taken; else those of one account are one after another.
    """

    made: Words
    lost: Words
    fees: list[tuple[AccountId, AssetId, int]]
    sums: Callable[[Stretch], tuple[list[Position], list[Setting]]]
    fill: Callable[[Words, Words, Clock], Fill]
    ordered: bool = False
    _sums: tuple[list[Position], list[Setting]] | None = None

    @property
    def positions(self) -> list[Position]:
        """What all of them change in scaled balances of those who are liquidated."""
        return self._made()[0]

    @property
    def settings(self) -> list[Setting]:
        """The same of settings, in order."""
        return self._made()[1]

    def _made(self) -> tuple[list[Position], list[Setting]]:
        if self._sums is None:
            self._sums = self.sums(self)
        return self._sums


def number(row: Words, place: int) -> int:
    """A number of two words of a row."""
    return int(row[place]) << 64 | int(row[place + 1])


def numbers(rows: Words, place: int) -> list[int]:
    """The same of many rows."""
    high, low = rows[:, place], rows[:, place + 1]
    if not high.any():
        return cast("list[int]", low.tolist())
    return [(h << 64) | n for h, n in zip(high.tolist(), low.tolist(), strict=True)]


def total(rows: Words, place: int) -> int:
    """Their sum, exactly: of halves of words, which 2**32 of them do not make overflow."""
    halves = rows[:, place : place + 2].astype("<u8", copy=True).view("<u4").astype(np.uint64).sum(axis=0)
    low, above, high, top = (int(half) for half in halves[[2, 3, 0, 1]])
    return low + (above << 32) + (high << 64) + (top << 96)
