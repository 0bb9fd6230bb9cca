"""What ``backtest calibrate oracle`` says and writes."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path as File
from typing import TYPE_CHECKING

from backtest.cli.rows import days, text_table
from backtest.errors import UserError

if TYPE_CHECKING:
    from backtest.oracle_path import Held, Path
    from backtest.replay.accepted import Bound, Kind

KINDS: dict[Kind, str] = {
    "action": "borrows, withdrawals and the like that passed",
    "liquidation": "liquidations that happened",
    "stood": "accounts that stood, near the price",
}
SHOWN = 12
"""Conflicts and accounts named, at most."""


def told(found: Sequence[Path | Held]) -> Iterator[str]:
    """Every asset of a market in lines."""
    from backtest.oracle_path import Path

    for place, one in enumerate(found):
        if place:
            yield ""
        yield from _path(one) if isinstance(one, Path) else _held(one)


def written(found: Sequence[Path | Held], out: File) -> str:
    """Write the steps of every path, and say how many; UserError where no oracle had to be derived."""
    from backtest.oracle_path import COLUMNS, Path

    rows = [row for one in found if isinstance(one, Path) for row in one.rows()]
    if not rows:
        raise UserError("the oracle of this market is known, so there is no path to write", "leave --out away")
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    out.write_text(text.getvalue(), encoding="utf-8")
    return f"{len(rows):,} steps"


def _held(one: Held) -> Iterator[str]:
    symbol, kinds = one.market.label(one.asset.id), [kind for kind in KINDS if kind != "stood"]
    yield f"{one.market.name}, {symbol}: the oracle is known, so the book is held against it"
    rows = [(KINDS[kind], f"{one.bounds[kind]:,}", f"{_count(one.broken, kind):,}") for kind in kinds]
    yield from text_table(("", "bounds", "broken"), rows)
    for bound in one.broken[:SHOWN]:
        name = one.market.accounts[bound.account]
        yield f"broken: {bound.what} of {name}, block {bound.clock.block_number}, log {bound.clock.log_index}"


def _path(one: Path) -> Iterator[str]:
    derived, names = one.derived, one.market.accounts
    steps, symbol = derived.steps, one.market.label(one.asset.id)
    yield (
        f"{one.market.name}, {symbol}: {len(steps):,} steps of the oracle,"
        f" {days(step.moment.time for step in steps)}; derived in-sample"
    )
    yield ""
    yield from text_table(
        ("What the chain accepted", "used", "outside the venue's range, of all"),
        [(KINDS[kind], f"{derived.used[kind]:,}", f"{derived.outside[kind]:,}") for kind in KINDS],
    )
    if one.patience is None:
        yield "Nothing was liquidated, so how long an account has to stand to say anything is not known: none does."
    else:
        yield (
            f"An account narrows the interval by standing under one price for more than {one.patience:,} s; who stood"
            " for less says where in it the price was."
        )
    yield ""
    if derived.apart:
        yield f"Set apart, since their own history contradicts itself: {len(derived.apart)} accounts."
        for account, why in list(derived.apart.items())[:SHOWN]:
            yield f"  {names[account]}: {why}"
        if len(derived.apart) > SHOWN:
            yield f"  ... and {len(derived.apart) - SHOWN} more"
    yield f"Conflicts among the rest: {len(derived.conflicts):,} of {len(steps):,} steps leave no price."
    for step in derived.conflicts[:SHOWN]:
        yield f"  {step.moment.time}: {step.conflict}"
    unused = [(step.moment.time, account) for step in steps for account in step.unused]
    yield f"Accounts that stood where others were liquidated, or where the range forbids it, not used: {len(unused):,}."
    for time, account in unused[:SHOWN]:
        yield f"  {names[account]} in the step from {time}"
    yield ""
    yield from _widths(one)
    yield ""
    yield "One account left out at a time: how many of its own bounds a price obeys"
    yield from text_table(
        ("", "bounds", "venue's price", "path, in-sample", "path of all others", "inside their interval"),
        [
            (
                KINDS[score.kind],
                f"{score.bounds:,}",
                *(_of(part, score.bounds) for part in (score.proxy, score.path, score.others, score.inside)),
            )
            for score in derived.scores
        ],
    )
    yield from _worth(one)


def _widths(one: Path) -> Iterator[str]:
    """How far the interval narrows, and how far the price moves."""
    both = [
        (step, step.moment.venue)
        for step in one.derived.steps
        if step.moment.venue is not None and step.low is not None and step.high is not None
    ]
    if both:
        ours = statistics.median(((step.high or 0) - (step.low or 0)) / step.price for step, _ in both)
        theirs = statistics.median((venue[1] - venue[0]) / step.price for step, venue in both)
        narrowed = sum((step.low, step.high) != venue for step, venue in both)
        yield (
            f"Interval: {ours:.2%} of the price at the median, the venue's range {theirs:.2%}; evidence narrows"
            f" {narrowed:,} steps."
        )
    moved = [abs(step.price / step.moment.proxy - 1) for step in one.derived.steps if step.moved]
    if moved:
        yield (
            f"Price: {len(moved):,} steps are moved away from the venue's, by {statistics.median(moved):.2%} at the"
            f" median and {max(moved):.2%} at most; all others keep it."
        )
    else:
        yield "Price: no step had to be moved away from the venue's."


def _worth(one: Path) -> Iterator[str]:
    """What the path tells of accounts that it was not made from."""
    for score in one.derived.scores:
        if score.kind == "liquidation" and score.bounds:
            gained, honest = score.path - score.proxy, score.others - score.proxy
            yield (
                f"Of {gained} liquidations that the path explains and the venue's price does not, {max(honest, 0)} are"
                " explained without the account's own evidence: that many are knowledge, the rest is in-sample."
            )


def _of(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else "–"


def _count(bounds: Sequence[Bound], kind: str) -> int:
    return sum(bound.kind == kind for bound in bounds)
