"""How the borrowers of a market acted: a hazard for each kind of act in a step of time, by health, size and volatility,
fitted to the first part of history and held against the rest.

A row is a borrower at the start of a step; it acted, or did not, before the next. The logit of the chance is linear in
``replay.what_if.hazards.terms_of``, with a ridge. What is held out is scored by its log likelihood beside that of the
base rate, the share that acted in what was learnt from. A kind that does not beat it stays at it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from backtest.calibration.fitting import Floats
from backtest.errors import UserError
from backtest.model import AccountId, Clock, Market, PositionChange
from backtest.protocols.book import Book
from backtest.protocols.interface import LendingProtocol
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.hazards import MILLION, Borrower, Moves, acts_in, main_collateral, standings, terms_of
from backtest.scenario.users import ACTS, MOST_SIZE, TERMS, Act, FittedUsers, Hazard
from backtest.units import BPS

RIDGE = 1.0
"""Penalty on squared coefficients of the terms in units of their spread; the constant has none."""
MOST_ROWS = 1_000_000
"""Of accounts that did nothing, as many are kept at most, by a random share that weights make up for."""
LEAST_ACTS = 20
"""Of a kind, in what is learnt from and in what is held out; with fewer nothing is told."""
SIZES = 10
"""Sizes that are kept of a kind: the middles of its tenths."""
BEATS = 2.0
"""Standard errors by which a score must be above the base rate's."""
_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Steps:
    """Rows: borrowers at starts of steps.

    Attributes:
        terms: rows x ``TERMS``. acted: rows x ``ACTS``. weight: how many rows each stands for. account, step: whose and
            which (time // ``seconds``).
        sizes: of each act by value, basis points of debt or collateral at the step's start; with its step.
        unknown: acts whose size history does not say.
    """

    seconds: int
    terms: Floats
    acted: npt.NDArray[np.bool_]
    weight: Floats
    account: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    sizes: Mapping[Act, list[tuple[int, int]]]
    unknown: int


@dataclass(frozen=True, slots=True)
class ActFit:
    """One kind of act.

    Attributes:
        learnt, held_out: how often it was done.
        rate: share of borrowers who did it in a step, in what was learnt from.
        gain: what the hazard scores above the base rate on what was held out, nats an act; ``error``: its standard
            error, the larger of that over accounts and that over steps. None: too few to fit.
        coefficients: of the logit, by ``TERMS``; None: not fitted.
        told: whether it beats the base rate by ``BEATS`` standard errors.
    """

    act: Act
    learnt: int
    held_out: int
    rate: float
    gain: float | None
    error: float | None
    coefficients: Floats | None
    told: bool
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UsersFit:
    """All kinds. ``first``, ``split``, ``last``: steps: learnt from the first up to the split, held out from it on."""

    steps: Steps
    first: int
    split: int
    last: int
    acts: tuple[ActFit, ...]

    def fitted(self, source: str) -> FittedUsers:
        """As a scenario holds it: a kind that was not told at its base rate, one that nobody did not at all."""
        found = []
        for one in self.acts:
            if not one.sizes or not 0.0 < one.rate < 1.0:
                continue
            logits = one.coefficients if one.told and one.coefficients is not None else [logit(one.rate)]
            numbers = tuple(round(float(number) * MILLION) for number in logits)
            found.append(Hazard(act=one.act, coefficients=numbers, sizes=one.sizes))
        return FittedUsers(step=self.steps.seconds, hazards=tuple(found), source=source)


def steps_of(
    protocol: LendingProtocol[Any], market: Market, timeline: Timeline, seconds: int, last_block: int,
    progress: Callable[[int, int], None] | None = None,
) -> Steps:  # fmt: skip
    """History, a borrower and a step a row. UserError where nobody owes anything at the start of a step."""
    acts, moves, unit = acts_in(timeline, seconds), Moves(timeline), 10**market.base_decimals
    count = (int(timeline.timestamps[-1]) - int(timeline.timestamps[0])) // seconds + 1
    share = min(1.0, MOST_ROWS / max(1, count * _borrowers(timeline)))
    rows: list[tuple[float, ...]] = []
    acted: list[list[bool]] = []
    kept: list[tuple[float, int, int]] = []
    sizes: dict[Act, list[tuple[int, int]]] = {act: [] for act in ACTS}
    began: dict[AccountId, Borrower] = {}
    unknown = 0
    for step, book, amounts in _walk(protocol, market, timeline, seconds, last_block, progress):
        if book is None:  # the step is over
            for (account, act), value in amounts.items():
                size = _size(began.get(account), act, value)
                if size is not None:
                    sizes[act].append((step, size))
                else:
                    unknown += account in began
            continue
        began = standings(book)
        done, draw = acts.get(step, set()), np.random.Generator(np.random.Philox(key=step))
        drawn = draw.random(len(began))
        for account, chance in zip(sorted(began), drawn.tolist(), strict=True):
            did = [(account, act) in done for act in ACTS]
            if not any(did) and chance >= share:
                continue
            asset = main_collateral(book, account)
            price = None if asset is None else book.oracle.get(asset)
            percent = moves.percent(asset, price, book.now.timestamp)
            rows.append(terms_of(began[account], percent, unit))
            acted.append(did)
            kept.append((1.0 if any(did) else 1.0 / share, account, step))
    if not rows:
        raise UserError("nobody owes anything at the start of a step", "give more history, or a smaller --step")
    weight, whose, at = zip(*kept, strict=True)
    return Steps(
        seconds, np.array(rows), np.array(acted, dtype=np.bool_), np.array(weight), np.array(whose, dtype=np.int64),
        np.array(at, dtype=np.int64), sizes, unknown,
    )  # fmt: skip


Amounts = dict[tuple[AccountId, Act], int | None]


def _walk(
    protocol: LendingProtocol[Any], market: Market, timeline: Timeline, seconds: int, last_block: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, Book[Any] | None, Amounts]]:  # fmt: skip
    """At the start of each step with the book as it is then, at its end with what was done in it by value (base units,
    at the prices then; None where history does not say).
    """
    book, amounts = Book.open(protocol, market), Amounts()
    step, seen = int(timeline.timestamps[0]) // seconds, 0
    begun = False
    for transaction in timeline.transactions(last_block):
        time = transaction[0].timestamp
        while (step + 1) * seconds <= time:
            if begun:
                yield step, None, amounts
            step, amounts, begun = step + 1, Amounts(), True
            book.now = Clock(book.now.block_number, book.now.log_index, step * seconds)
            yield step, book, amounts
        for event in transaction:
            book.seq, book.now = event.seq, Clock(event.block_number, event.log_index, event.timestamp)
            book.relive(event)
            if type(event) is PositionChange and event.action in ACTS:
                key, asset = (event.account, event.action), event.asset
                if event.side != ("debt" if event.action in ("repay", "borrow") else "collateral"):
                    continue
                before = amounts.get(key, 0)
                known = event.amount is not None and before is not None and asset in book.oracle
                amounts[key] = before + book.value_down(asset, event.amount) if known else None  # type: ignore[arg-type, operator]
        seen += len(transaction)
        if progress is not None:
            progress(seen, len(timeline))
    if begun:
        yield step, None, amounts


def _borrowers(timeline: Timeline) -> int:
    rows = timeline.rows(PositionChange)
    if not len(rows):
        return 0
    actions, accounts = timeline.values(PositionChange, np.ones(len(rows), dtype=np.bool_), "action", "account")
    return len({account for action, account in zip(actions, accounts, strict=True) if action == "borrow"})


def _size(standing: Borrower | None, act: Act, value: int | None) -> int | None:
    """Basis points, rounded down, one at least; None where nothing tells."""
    if standing is None or value is None:
        return None
    whole = standing.debt if act in ("repay", "borrow") else standing.collateral
    if not whole or not value:
        return None
    return min(max(1, value * BPS // whole), BPS if act in ("repay", "withdraw") else MOST_SIZE)


def fit(steps: Steps, split: float) -> UsersFit:
    """Learn from the first ``split`` of the steps, and score on the rest. UserError where that leaves nothing."""
    first, last = int(steps.step.min()), int(steps.step.max())
    at = first + round((last + 1 - first) * split)
    learn, rest = steps.step < at, steps.step >= at
    if not learn.any() or not rest.any():
        raise UserError(
            f"{last + 1 - first} steps of {steps.seconds} s: nothing is left to learn from or to hold out",
            "give another --split, or a smaller --step",
        )
    return UsersFit(steps, first, at, last, tuple(_fit(steps, place, learn, rest, at) for place in range(len(ACTS))))


def _fit(
    steps: Steps, place: int, learn: npt.NDArray[np.bool_], rest: npt.NDArray[np.bool_], at: int
) -> ActFit:  # fmt: skip
    acted, weight, act = steps.acted[:, place], steps.weight, ACTS[place]
    learnt, held_out = int(acted[learn].sum()), int(acted[rest].sum())
    rate = float((weight * acted)[learn].sum() / weight[learn].sum())
    sizes = _middles([size for step, size in steps.sizes[act] if step < at])
    if min(learnt, held_out) < LEAST_ACTS or not sizes:
        return ActFit(act, learnt, held_out, rate, None, None, None, False, sizes)
    coefficients = logistic(steps.terms[learn], acted[learn], weight[learn])
    ours = log_scores(steps.terms[rest] @ coefficients, acted[rest])
    base = log_scores(np.full(int(rest.sum()), logit(rate)), acted[rest])
    gains = weight[rest] * (ours - base)
    error = max(_error(gains, steps.account[rest]), _error(gains, steps.step[rest]))
    gain = float(gains.sum())
    return ActFit(
        act, learnt, held_out, rate, gain / held_out, error / held_out, coefficients, gain > BEATS * error, sizes
    )


def logit(share: float) -> float:
    """Of a probability within 0 and 1."""
    return float(np.log(share) - np.log1p(-share))


def log_scores(logits: Floats, acted: npt.NDArray[np.bool_]) -> Floats:
    """The log likelihood of what was done, a row."""
    return -np.logaddexp(0.0, np.where(acted, -logits, logits))


def logistic(terms: Floats, acted: npt.NDArray[np.bool_], weight: Floats, ridge: float = RIDGE) -> Floats:
    """Coefficients of a logit by iteratively reweighted least squares, the first column being the constant. ``ridge``
    penalises the others in units of their weighted spread; a column without spread gets 0.
    """
    whole = weight.sum()
    mean = weight @ terms / whole
    spread = np.sqrt(weight @ (terms - mean) ** 2 / whole)
    mean[0], spread[0] = 0.0, 1.0
    scaled = np.where(spread > 0, (terms - mean) / np.where(spread > 0, spread, 1.0), 0.0)
    penalty = np.full(terms.shape[1], ridge)
    penalty[0] = 0.0
    rate = float(np.clip(weight @ acted / whole, 1e-9, 1 - 1e-9))
    found = np.zeros(terms.shape[1])
    found[0] = logit(rate)
    loss = _loss(scaled, acted, weight, penalty, found)
    for _ in range(_ROUNDS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(scaled @ found, -30, 30)))
        slope = scaled.T @ (weight * (acted - chance)) - penalty * found
        curve = (scaled * (weight * chance * (1.0 - chance))[:, None]).T @ scaled + np.diag(penalty + 1e-9)
        step, part = np.linalg.solve(curve, slope), 1.0
        while (after := _loss(scaled, acted, weight, penalty, found + part * step)) > loss and part > 1e-6:
            part /= 2  # a whole step may go too far where acts are rare
        found = found + part * step
        if loss - after < 1e-9 * max(1.0, abs(loss)):
            break
        loss = after
    raw = np.where(spread > 0, found / np.where(spread > 0, spread, 1.0), 0.0)
    raw[0] = found[0] - float(raw[1:] @ mean[1:])
    return raw


def _loss(terms: Floats, acted: npt.NDArray[np.bool_], weight: Floats, penalty: Floats, found: Floats) -> float:
    return float(-(weight @ log_scores(terms @ found, acted)) + 0.5 * (penalty @ found**2))


def _error(gains: Floats, of: npt.NDArray[np.int64]) -> float:
    """The standard error of the sum of gains, those of one account or step counted as one draw."""
    _, place = np.unique(of, return_inverse=True)
    sums = np.bincount(place, weights=gains)
    if len(sums) < 2:
        return float("inf")
    return float(np.sqrt(len(sums) * sums.var(ddof=1)))


def _middles(sizes: list[int]) -> tuple[int, ...]:
    ranked = sorted(sizes)
    return tuple(ranked[(2 * tenth + 1) * len(ranked) // (2 * SIZES)] for tenth in range(SIZES)) if ranked else ()


assert len(TERMS) == len(terms_of(Borrower(10**18, 1, 1), 0.0, 1))
