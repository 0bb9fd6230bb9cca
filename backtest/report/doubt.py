"""How sure an effect is, where several draws of a model, several seeds and many accounts stand behind it: doubt about
the model, about chance and about single accounts, each apart, and all together. Pure.

A pair is a proposal and its baseline under the same draw of the model and the same seed, whose random numbers are
keyed: what both have in common cancels. The effect is the mean of all pairs, draws by their weights.

- **accounts**: paired bootstrap over the market's accounts of the mean over draws and seeds (``verdict.intervals``).
- **model**: quantiles of the draws' means over their seeds. One draw says nothing of this doubt.
- **chance**: Student's t about the mean, with what seeds differ by within their draws, pooled. One seed of a model that
  draws says nothing of it; a model that does not draw has none.
- **all**: each of ``RESAMPLES`` times a draw by its weight, its seeds with replacement, and accounts with replacement.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from backtest.report.verdict import LEVEL, RESAMPLES, Contributions

Bounds = tuple[int, int]
_AT_ONCE = 4_000_000  # draws held in memory


@dataclass(frozen=True, slots=True)
class PairedRuns:
    """A proposal and its baseline under one draw and seed. ``whole``: effects that are not by account, by measure."""

    draw: int
    weight: float
    seed: int
    proposed: Contributions
    present: Contributions
    whole: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PartedDoubt:
    """Bounds of one effect at ``LEVEL``, base units or numbers, rounded outwards. None: not known; ``random`` False:
    the model draws nothing, so that chance has no part.
    """

    all: Bounds
    accounts: Bounds | None
    model: Bounds | None
    chance: Bounds | None
    random: bool = True

    @property
    def shares(self) -> dict[str, float]:
        """Which share of the doubt each part that is known has, by its squared width (widths of independent parts add
        in squares); none where all are points.
        """
        parts = {"accounts": self.accounts, "model": self.model, "chance": self.chance}
        squares = {name: float(part[1] - part[0]) ** 2 for name, part in parts.items() if part is not None}
        whole = sum(squares.values())
        return {name: square / whole for name, square in squares.items()} if whole else {}


def mean_of(pairs: Sequence[PairedRuns], values: Sequence[int]) -> int:
    """The mean of a value of each pair, draws by their weights and seeds of a draw alike; rounded to a whole number."""
    return round(sum(share * value for share, value in zip(_shares(pairs), values, strict=True)))


def doubts_of(
    pairs: Sequence[PairedRuns], measures: Sequence[str], *, population: int, seed: int, random: bool
) -> dict[str, PartedDoubt]:
    """By measure.

    Args:
        pairs: every draw has the same seeds.
        population: number of accounts of the market, those that contribute nothing included.
        seed: of the bootstrap's draws.
        random: whether the model draws.
    """
    draws = sorted({pair.draw for pair in pairs})
    seeds = sorted({pair.seed for pair in pairs})
    place = {(pair.draw, pair.seed): pair for pair in pairs}
    ordered = [[place[draw, own] for own in seeds] for draw in draws]
    weights = np.array([row[0].weight for row in ordered])
    weights = weights / weights.sum()
    by_account, whole = _effects(ordered, measures)  # draws, seeds, accounts, measures; draws, seeds, measures
    totals = by_account.sum(axis=2) + whole
    spread = _Accounts(by_account.shape[2], population, seed)

    means = np.tensordot(weights, totals.mean(axis=1), 1)
    sums = spread.sums(np.tensordot(weights, by_account.mean(axis=1), 1))
    accounts, model, chance = _quantiles(sums), _weighted(totals.mean(axis=1), weights), _chance(totals, weights)
    alone = len(pairs) == 1  # accounts are all the doubt that is told
    low, high = _quantiles(sums + whole[0, 0] if alone else spread.together(by_account, whole, weights))
    exact = [not whole[..., at].any() for at in range(len(measures))]
    return {
        key: PartedDoubt(
            all=_bounds(low[at], high[at]),
            accounts=_bounds(accounts[0][at], accounts[1][at]) if exact[at] else None,
            model=_bounds(*model[at]) if len(draws) > 1 else None,
            chance=_bounds(means[at] - chance[at], means[at] + chance[at]) if random and len(seeds) > 1 else None,
            random=random,
        )
        for at, key in enumerate(measures)
    }


class _Accounts:
    """Bootstrap draws of the accounts that an effect is made of. Only how often each is drawn matters: the others of
    the population share the last cell.
    """

    def __init__(self, number: int, population: int, seed: int) -> None:
        if population < number:
            raise ValueError(f"a population of {population} holds {number} accounts")
        self._chances = np.append(np.full(number, 1 / max(1, population)), (population - number) / max(1, population))
        self._population, self._number = population, number
        self._generator = np.random.Generator(np.random.Philox(key=seed))

    def _counts(self, size: int) -> npt.NDArray[np.int64]:
        return self._generator.multinomial(self._population, self._chances, size=size)[:, : self._number]

    def sums(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Resampled sums of a column by account (accounts, measures)."""
        return np.concatenate([self._counts(size) @ values for size in self._sizes(RESAMPLES)])

    def together(
        self,
        by_account: npt.NDArray[np.float64],
        whole: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Resampled sums of one draw each, its seeds and accounts resampled."""
        seeds = by_account.shape[1]
        chosen = self._generator.multinomial(RESAMPLES, weights)
        found = []
        for draw, times in enumerate(chosen.tolist()):
            for size in self._sizes(times):
                often = self._generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=size) / seeds
                counts = self._counts(size)
                own = np.stack([counts @ by_account[draw, at] + whole[draw, at] for at in range(seeds)], axis=1)
                found.append((often[:, :, None] * own).sum(axis=1))
        return np.concatenate(found)

    def _sizes(self, times: int) -> list[int]:
        step = max(1, _AT_ONCE // len(self._chances))
        return [min(step, times - done) for done in range(0, times, step)]


def _effects(
    ordered: Sequence[Sequence[PairedRuns]], measures: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What each account with a difference in any pair adds to each effect, and what is not by account."""
    differences = []
    moved: set[str] = set()
    for pair in (pair for row in ordered for pair in row):
        own: dict[str, list[int]] = {}
        for account in {*pair.proposed, *pair.present}:
            ours, theirs = pair.proposed.get(account, {}), pair.present.get(account, {})
            difference = [ours.get(key, 0) - theirs.get(key, 0) for key in measures]
            if any(difference):
                own[account] = difference
        moved |= own.keys()
        differences.append(own)
    accounts, none = sorted(moved), [0] * len(measures)
    table = np.array([[own.get(account, none) for account in accounts] for own in differences], dtype=np.float64)
    shape = len(ordered), len(ordered[0])
    whole = np.array([[[pair.whole.get(key, 0) for key in measures] for pair in row] for row in ordered], dtype=float)
    return table.reshape(*shape, len(accounts), len(measures)), whole


def _chance(totals: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Half the width of the interval of the mean that seeds leave."""
    from scipy.special import stdtrit  # Student's t by its inverse: scipy.stats takes seconds to import

    draws, seeds = totals.shape[:2]
    if seeds < 2:
        return np.zeros(totals.shape[2])
    variances = totals.var(axis=1, ddof=1)
    error = np.sqrt((weights[:, None] ** 2 * variances / seeds).sum(axis=0))
    half: npt.NDArray[np.float64] = float(stdtrit(draws * (seeds - 1), (1 + LEVEL) / 2)) * error
    return half


def _weighted(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
    """The outer quantiles of each column of rows that have weights."""
    found = []
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ends = np.cumsum(weights[order])
        low, high = (int(np.searchsorted(ends, share - 1e-12)) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        last = len(order) - 1
        found.append((float(column[order[min(low, last)]]), float(column[order[min(high, last)]])))
    return found


def _quantiles(sums: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    low, high = np.quantile(sums, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def _bounds(low: float, high: float) -> Bounds:
    return math.floor(low), math.ceil(high)


def _shares(pairs: Sequence[PairedRuns]) -> list[Fraction]:
    """Of each pair in the mean, exact: a mean of equal amounts is that amount."""
    number = Counter(pair.draw for pair in pairs)
    parts = [Fraction(pair.weight) / number[pair.draw] for pair in pairs]
    return [part / sum(parts) for part in parts]
