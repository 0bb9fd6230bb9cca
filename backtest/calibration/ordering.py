"""What can be defended of a model whose oracle prices are a venue's: are the riskiest liquidated first, and how likely
is a liquidation how far below the liquidation price? Pure.

Of every step of the oracle each account counts once: it was liquidated in it, or it stood in it for longer than
liquidators take. Who was rescued sooner counts as neither. Risk is the price at which the account would be safe, by the
protocol's own check (``replay.accepted``), whatever the oracle's price was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from backtest.model import AccountId
from backtest.replay.accepted import LIQUIDATION, STOOD, Bound

EDGES = (-0.05, -0.02, -0.01, 0.0, 0.005, 0.01, 0.02, 0.05)
"""How far the price is below where an account is safe, as parts of it: those further than 5 % above are left out."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Account-steps by how far the price was below where the account is safe.

    Attributes:
        steps: that had a liquidation.
        left: step (seconds) and account that was riskier than one liquidated in it, and was left.
        counts: of each span of ``EDGES``, the last one open: account-steps and how many of them were liquidated.
        wrong: account-steps that are not as "liquidated where the price is below" says.
    """

    steps: int
    left: Sequence[tuple[int, AccountId]]
    counts: Sequence[tuple[int, int]]
    wrong: int

    @property
    def total(self) -> int:
        """Account-steps within ``EDGES`` and beyond."""
        return sum(number for number, _ in self.counts)

    @property
    def taken(self) -> int:
        """How many of them were liquidated."""
        return sum(hit for _, hit in self.counts)

    def brier(self) -> tuple[float, float, float] | None:
        """Mean square error of "liquidated where the price is below", of the base rate for everybody, and of each
        span's own share (in-sample); None without account-steps.
        """
        if not self.total:
            return None
        base = self.taken / self.total
        spans = sum(hit * (1 - hit / number) for number, hit in self.counts if number)
        return self.wrong / self.total, base * (1 - base), spans / self.total


@dataclass(slots=True)
class _Step:
    liquidated: dict[AccountId, Bound] = field(default_factory=dict)
    stood: dict[AccountId, Bound] = field(default_factory=dict)


def standing(bounds: Iterable[Bound], patience: int) -> Standing:
    """From all bounds of one asset, in order of time.

    Args:
        patience: seconds; who stood for longer was left.
    """
    steps: dict[int, _Step] = {}
    for bound in bounds:
        if bound.kind == LIQUIDATION:
            steps.setdefault(bound.step, _Step()).liquidated.setdefault(bound.account, bound)
        elif bound.kind == STOOD and bound.stood > patience:
            steps.setdefault(bound.step, _Step()).stood[bound.account] = bound
    counts = [[0, 0] for _ in EDGES]
    left, wrong = [], 0
    for time, step in steps.items():
        least = min((_risk(bound) for bound in step.liquidated.values()), default=None)
        for account, bound in step.stood.items():
            if account not in step.liquidated and least is not None and _risk(bound) > least:
                left.append((time, account))
        kept = [bound for account, bound in step.stood.items() if account not in step.liquidated]
        for bound, hit in [*((one, True) for one in step.liquidated.values()), *((one, False) for one in kept)]:
            below = _below(bound)
            if below is not None and below >= EDGES[0]:
                row = counts[sum(below >= edge for edge in EDGES) - 1]
                row[0] += 1
                row[1] += hit
                wrong += hit != (below > 0)
    return Standing(
        sum(bool(step.liquidated) for step in steps.values()), left, [(row[0], row[1]) for row in counts], wrong
    )


def _turn(bound: Bound) -> tuple[int, bool]:
    """The price at which the account is just safe, and whether it is safe above it (else below)."""
    passed = bound.kind != LIQUIDATION
    if bound.least_up is not None:
        return (bound.least_up, True) if passed else (bound.least_up - 1, False)
    assert bound.most_down is not None
    return (bound.most_down, False) if passed else (bound.most_down + 1, True)


def _risk(bound: Bound) -> float:
    """Larger is riskier, whatever the price."""
    price, above = _turn(bound)
    return float(price) if above else 1 / price


def _below(bound: Bound) -> float | None:
    """How far the price was on the wrong side of where the account is safe, as a part of that; negative: on the right
    one, or just at it. None where the price was not known.
    """
    price, above = _turn(bound)
    if bound.said is None:
        return None
    return (price - bound.said) / price if above else (bound.said - price) / price
