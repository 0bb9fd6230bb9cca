"""What all fits share: the split in time, tests of fit for counts, and the scenario fragment that a fit becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from backtest.errors import UserError
from backtest.scenario.toml import parse_scenario

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

LEAST_EXPECTED = 5.0
"""Cells of a chi-square test are pooled until each expects this many (Cochran)."""
LEAST_ROWS = 20
"""Fewer rows are not fitted."""


class Test(NamedTuple):
    """A test of fit."""

    statistic: float
    p_value: float | None
    """None: too few cells to say."""
    freedom: int = 0
    """Degrees of freedom, of a chi-square test; of an F test those of the numerator."""


def split_at(rows: int, share: float) -> int:
    """How many of the first rows are fitted on; the rest is held out. UserError where either part is too small."""
    if not 0 < share < 1:
        raise UserError(
            f"--split {share} leaves nothing to fit or nothing to test on", "give a share between 0 and 1, such as 0.7"
        )
    first = round(rows * share)
    if min(first, rows - first) < LEAST_ROWS:
        raise UserError(
            f"{rows} rows split into {first} and {rows - first}", f"each part needs {LEAST_ROWS} rows or more"
        )
    return first


def generator(seed: int) -> np.random.Generator:
    """The random numbers of a test of fit."""
    return np.random.Generator(np.random.Philox(key=seed))


def distance(counts: Counts, probabilities: Floats) -> float:
    """The Kolmogorov-Smirnov distance between counts of 0, 1, 2, ... and a distribution over the same values."""
    return float(np.abs(np.cumsum(counts) / counts.sum() - np.cumsum(probabilities)).max())


def ks_test(
    counts: Counts, probabilities: Floats, *, seed: int, draws: int, refit: Callable[[Counts], Floats] | None = None
) -> Test:
    """Kolmogorov-Smirnov with a p-value by parametric bootstrap, as tables do not hold for discrete values or fitted
    parameters.

    Args:
        counts: how often each of 0, 1, 2, ... was seen.
        probabilities: of the fit, over the same values.
        seed: of the draws.
        draws: how many samples of the same size are drawn from the fit.
        refit: fits a sample as the data were fitted; None where the fit did not see these data.
    """
    seen = distance(counts, probabilities)
    samples = generator(seed).multinomial(int(counts.sum()), probabilities, size=draws)
    far = sum(distance(sample, probabilities if refit is None else refit(sample)) >= seen for sample in samples)
    return Test(seen, (far + 1) / (draws + 1))


def chi_square(counts: Counts, probabilities: Floats, parameters: int) -> Test:
    """Pearson's test; the last cell of ``probabilities`` holds the rest of the tail, ``parameters`` were fitted on the
    same counts.
    """
    seen: list[float] = []
    expected: list[float] = []
    open_seen = open_expected = 0.0
    for count, probability in zip(counts, probabilities, strict=True):
        open_seen, open_expected = open_seen + float(count), open_expected + float(probability) * float(counts.sum())
        if open_expected >= LEAST_EXPECTED:
            seen.append(open_seen)
            expected.append(open_expected)
            open_seen = open_expected = 0.0
    if seen:
        seen[-1] += open_seen
        expected[-1] += open_expected
    statistic = float(sum((one - other) ** 2 / other for one, other in zip(seen, expected, strict=True)))
    freedom = len(seen) - 1 - parameters
    return Test(statistic, float(stats.chi2.sf(statistic, freedom)) if freedom > 0 else None, max(freedom, 0))


Table = Mapping[str, Any]


def fragment(notes: Sequence[str], tables: Mapping[str, Table | Sequence[Table]]) -> str:
    """TOML that a scenario may hold: what it rests on as comments, then its tables, one or an array of them by their
    dotted name.
    """
    lines = [f"# {note}".rstrip() for note in notes]
    for name, content in tables.items():
        for table in [content] if isinstance(content, Mapping) else content:
            lines += ["", f"[{name}]" if isinstance(content, Mapping) else f"[[{name}]]"]
            lines += [f"{field} = {toml(value)}" for field, value in table.items()]
    text = "\n".join(lines) + "\n"
    parse_scenario(text, "the fragment")
    return text


def toml(value: Any) -> str:
    """A value as TOML says it on one line: text, a number, a truth, or lists and tables of them."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {toml(each)}' for key, each in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml(item) for item in value)}]"
    return str(value)
