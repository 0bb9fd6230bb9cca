"""Rows of a campaign to its table: how often intervals hold the truth, what is found, and what is found wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from math import ceil, inf
from random import Random
from typing import Any

from backtest.matching import wilson
from backtest.report.difference import share_of
from backtest.report.proposal import ProposalFinding
from backtest.report.verdict import reproduces

Row = dict[str, Any]
WORDS = {
    "repaid": "debt liquidated",
    "bad_debt": "bad debt",
    "borrower_loss": "borrowers' loss",
    "liquidations": "liquidations",
}
BASELINES = ("calibrated", "frictionless")
NOMINAL = 0.95
DRAWS = 1_000
"""Of worlds with replacement, for an interval of what depends on all of them."""
LEARNT = range(1, 11)
"""Worlds that the shares of ``report.difference`` come from; all others are held out."""


def said_of(finding: ProposalFinding) -> Row:
    """What the tool says of one measure. ``low`` and ``high``: before the own error of the difference is added."""
    verdict = finding.verdict
    return {
        "history": verdict.history,
        "baseline": verdict.baseline,
        "effect": verdict.effect,
        "low": verdict.low,
        "high": verdict.high,
    }


def measured(rows: Iterable[Row], baseline: str, measure: str) -> list[Row]:
    """One row a pair of twins: what was said of a measure, and the truth."""
    return [
        {**row["measures"][measure], "parameter": row["parameter"], "seed": row["seed"]}
        for row in rows
        if row["baseline"] == baseline and row["parameter"]
    ]


def equal(rows: Iterable[Row], measure: str) -> list[Row]:
    """One row a pair of equal parameters."""
    return [row["measures"][measure] for row in rows if not row["parameter"]]


def distance(said: Row) -> int:
    """Of the baseline from history."""
    return abs(int(said["baseline"]) - int(said["history"]))


def ends(said: Row, share: float | Fraction) -> tuple[int, int]:
    """The interval with so much of the distance on either side."""
    more = ceil(share * distance(said))
    return said["low"] - more, said["high"] + more


def holds(said: Row, share: float | Fraction) -> bool:
    """Whether it holds the truth."""
    low, high = ends(said, share)
    return bool(low <= said["truth"] <= high)


def needed(said: Row) -> float:
    """The least share at which it holds the truth; without a distance none may do."""
    outside = max(0, said["low"] - said["truth"], said["truth"] - said["high"])
    return 0.0 if not outside else outside / distance(said) if distance(said) else float("inf")


def calibrated(rows: Sequence[Row]) -> float:
    """The least share at which the nominal part of pairs hold the truth, one more pair counted as missed (split
    conformal); infinite where none does.
    """
    found = sorted(needed(row) for row in rows)
    place = ceil(NOMINAL * (len(found) + 1)) - 1
    return found[place] if place < len(found) else found[-1] if found else float("inf")


def verdict(said: Row, share: float | Fraction) -> int:
    """1 higher, -1 lower, 0 neither, by the interval alone."""
    low, high = ends(said, share)
    return 1 if low > 0 else -1 if high < 0 else 0


def part(rows: Sequence[Row], test: Callable[[Row], bool]) -> str:
    """How many, with the share and its Wilson interval at 95 %."""
    hits, of = sum(map(test, rows)), len(rows)
    if not of:
        return "none"
    rate = wilson(hits, of)
    return f"{hits} of {of}, {hits / of:.0%} ({rate.low:.0%} to {rate.high:.0%})"


def found_from(sized: Sequence[tuple[float, bool]]) -> float:
    """The least size from which on four in five are found, of at least five; infinite where there is none. ``sized``:
    size of each effect and whether it was found, in order of size.
    """
    found = of = 0
    least = inf
    for place in reversed(range(len(sized))):
        size, hit = sized[place]
        found, of = found + hit, of + 1
        whole = place == 0 or sized[place - 1][0] < size  # all of the same size are counted, or none
        if whole and of >= 5 and 5 * found >= 4 * of:
            least = size
    return least


def _drawn_again(worlds: Sequence[Sequence[tuple[float, bool]]]) -> tuple[float, float]:
    """95 % interval of ``found_from``, by worlds drawn again with replacement: pairs of one world share their history
    and are no independent evidence. The same draws each time.
    """
    rng = Random(0)
    least = sorted(
        found_from(sorted(pair for world in rng.choices(worlds, k=len(worlds)) for pair in world)) for _ in range(DRAWS)
    )
    return least[DRAWS // 40], least[-1 - DRAWS // 40]


def smallest_found(rows: Sequence[Row], share: float | Fraction) -> str:
    """The least size of a true effect, as a share of chain A's level, from which on four in five are found, and its
    interval; an end that is "none" means that these pairs may hold no effect large enough.
    """
    worlds: dict[int, list[tuple[float, bool]]] = {}
    for row in rows:
        if row["truth"] and row["history"]:
            pair = abs(row["truth"]) / row["history"], verdict(row, share) * row["truth"] > 0
            worlds.setdefault(row["seed"], []).append(pair)
    sized = sorted(pair for world in worlds.values() for pair in world)
    if not sized:
        return "none: 0 of 0 found"
    low, high = (f"{end:.0%}" if end < inf else "none" for end in _drawn_again(list(worlds.values())))
    least = found_from(sized)
    if least == inf:
        said = f"none: {sum(found for _, found in sized)} of {len(sized)} found"
    else:
        beyond = [found for size, found in sized if size >= least]
        said = f"{least:.0%} (of {len(beyond)} that large {sum(beyond)})"
    return f"{said}; 95 % of {DRAWS:,} draws of worlds: {low} to {high}"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown."""
    worlds = len({row["seed"] for row in rows})
    pairs = len(measured(rows, "calibrated", "repaid"))
    yield f"{worlds} worlds, {pairs} pairs of twins, {len(equal(rows, 'repaid'))} pairs of equal parameters."
    for baseline in BASELINES:
        yield from ["", f"**{baseline.capitalize()} baseline**", ""]
        yield (
            "| | its own doubts hold the truth | with the difference's own error: worlds learnt from | worlds held out"
            " | all, where the truth is not 0 | share needed, worlds learnt from |"
        )
        yield "|---|---|---|---|---|---|"
        for measure, words in WORDS.items():
            yield _row(measured(rows, baseline, measure), words, share_of(measure, ensemble=baseline == "calibrated"))
        yield from [
            "",
            "| | judged | mean width by four standard deviations of the truth | true effects found | four in five found"
            " from, of chain A's level | wrong way |",
            "|---|---|---|---|---|---|",
        ]
        for measure, words in WORDS.items():
            share = share_of(measure, ensemble=baseline == "calibrated")
            yield _power(measured(rows, baseline, measure), words, share)
    yield from ["", "**By parameter, calibrated baseline, with the difference's own error**", ""]
    names = list(dict.fromkeys(row["parameter"] for row in rows if row["parameter"]))
    yield f"| | {' | '.join(WORDS.values())} |"
    yield f"|---|{'---|' * len(WORDS)}"
    for name in names:
        cells = []
        for measure in WORDS:
            own = [row for row in measured(rows, "calibrated", measure) if row["parameter"] == name]
            share = share_of(measure, ensemble=True)
            cells.append(part(own, lambda row, share=share: holds(row, share)))  # type: ignore[misc]
        yield f"| {name} | {' | '.join(cells)} |"
    yield from ["", "**Equal parameters, each side with random numbers of its own: higher or lower**", ""]
    yield "| | by its own doubts | with the difference's own error |"
    yield "|---|---|---|"
    for measure, words in WORDS.items():
        own, share = equal(rows, measure), share_of(measure, ensemble=True)
        wide = part(own, lambda row, share=share: verdict(row, share) != 0)  # type: ignore[misc]
        yield f"| {words} | {part(own, lambda row: verdict(row, 0) != 0)} | {wide} |"


def _row(rows: Sequence[Row], words: str, share: float | Fraction) -> str:
    learnt, held = ([row for row in rows if (row["seed"] in LEARNT) == side] for side in (True, False))
    cells = [
        words,
        part(rows, lambda row: holds(row, 0)),
        *(part(own, lambda row: holds(row, share)) for own in (learnt, held)),
        part([row for row in rows if row["truth"]], lambda row: holds(row, share)),
        f"{calibrated(learnt):.0%}" if learnt else "",
    ]
    return f"| {' | '.join(cells)} |"


def _power(rows: Sequence[Row], words: str, share: float | Fraction) -> str:
    """Of pairs whose measure is judged."""
    judged = [row for row in rows if reproduces(row["baseline"], row["history"])]
    truths = [row["truth"] for row in judged]
    middle = sum(truths) / len(truths) if truths else 0
    spread = (sum((truth - middle) ** 2 for truth in truths) / max(1, len(truths))) ** 0.5
    width = sum(high - low for low, high in (ends(row, share) for row in judged)) / max(1, len(judged))
    said = [row for row in judged if verdict(row, share)]
    cells = [
        words,
        f"{len(judged)} of {len(rows)}",
        f"{width / (4 * spread):.1f}" if spread else "",
        part([row for row in judged if row["truth"]], lambda row: verdict(row, share) * row["truth"] > 0),
        smallest_found(judged, share),
        part(said, lambda row: verdict(row, share) * row["truth"] <= 0),
    ]
    return f"| {' | '.join(cells)} |"
