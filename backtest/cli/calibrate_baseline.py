"""``backtest calibrate baseline``: liquidators that resemble history, and what is said and written of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.cli.moments import FIRST, window_of
from backtest.cli.numbers import Whole, number
from backtest.cli.rows import days, text_table
from backtest.errors import UserError
from backtest.scenario import Scenario

if TYPE_CHECKING:
    from rich.progress import TaskID

    from backtest.baseline import Fit, FitMarket, FitWindow, TooFew
    from backtest.calibration.fitting import Floats
    from backtest.calibration.frictions import Known, Prior
    from backtest.lake import Lake

MOST_KEPT, MOST_DRAWS = 1_000, 20_000
MEASURES: Mapping[str, str] = {
    "liquidations": "liquidations",
    "accounts": "accounts liquidated",
    "repaid": "debt liquidated",
    "loss": "borrowers' loss",
    "bad_debt": "bad debt at the end",
    "median_delay": "delay, median (s)",
    "long_delay": "delay, 90th percentile (s)",
    "at_once": "liquidated at once (%)",
    "calls": "liquidations an episode",
    "healed": "safe after one (%)",
    "size": "debt repaid by one, median",
    "concentration": "HHI of liquidators",
    "missed": "on offer, never taken",
}
WORDS = {
    "attention": "attention",
    "least_profit": "least profit",
    "margin": "margin",
    "overlooked": "overlooked",
    "overlooked_for": "for",
    "partial": "asks for a part",
    "absent": "away",
    "absence": "a stretch away",
    "away": "who is away",
    "capital": "capital",
    "searchers": "searchers",
    "strategy": "strategy",
    "pair": "pair",
    "gas_cap": "gas cap",
}
NOT_FITTED = "Not fitted: latency and costs (as the scenario says), and how users respond (as in history)."


def baseline(
    *,
    lake: Path,
    market: list[str] | None = None,
    split: str | None = None,
    held_out: Path | None = None,
    from_block: str | None = None,
    to_block: str | None = None,
    scenario: Path | None = None,
    draws: Whole = 90,
    keep: Whole = 20,
    seed: Whole = 0,
    workers: Whole = 2,
    out: Path | None = None,
) -> None:
    """Liquidators that resemble a market's history, as a set of weighted draws.

    Draws of frictions (attention, least profit, margin, absence, capital, number, strategy, pair, gas cap)
    are replayed over the first part of history; those that show most nearly what it shows are kept, and tested on the
    part that is held out, beside frictionless liquidators and a rate by the hour. The lake keeps the draws: compare,
    propose and sweep judge the market's parameters under them from then on. With --out they are written as an ensemble,
    too. Where history has fewer than 20 liquidations, name more markets of the protocol: they are pooled, and share one
    set of draws. If that is not enough nothing is fitted or kept; the ensemble is of published figures, and says so.

    Examples:

        backtest calibrate baseline --lake backtest-demo/lake --market sample-crash --out ensemble.toml

        backtest calibrate baseline --lake data/lake --market my-pool --split 2021-07-01 --draws 300 --workers 8

        backtest calibrate baseline --lake backtest-demo/lake --market sample-crash --held-out data/sample/may-2021

        backtest calibrate baseline --lake data/lake --market my-pool --market my-other-pool

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Market; may be left out where the lake holds one. Given several times: markets of one protocol and one base
        currency, pooled.
    split
        Share of liquidations that is learnt from, 0.5 by default; or the block, date or time from which on is held out.
    held_out
        Folder of a lake of one market that is held out in place of the rest; this one's history is learnt from whole.
    from_block
        First block that counts, or a date or time in UTC.
    to_block
        Last block that counts, or a date or time in UTC.
    scenario
        File of a scenario whose costs and users all draws share; its liquidators are replaced.
    draws
        How many sets of frictions are tried.
    keep
        How many of them are kept.
    seed
        Seed of the draws; the same seed gives the same file.
    workers
        Processes that replay; the result does not depend on it.
    out
        File to write the ensemble to, as TOML.
    """
    from backtest.baseline import Portion, TooFew, fit, poolable
    from backtest.cli.replay import only_market, read_scenario
    from backtest.lake import Lake

    if not (5 <= keep <= MOST_KEPT and 3 * keep <= draws <= MOST_DRAWS and 1 <= workers <= 256 and seed < 1 << 62):
        raise UserError(
            f"--draws {draws}, --keep {keep}, --workers {workers} or --seed {seed} is too small or too large",
            f"keep 5 to {MOST_KEPT}, draw three times as many to {MOST_DRAWS:,}; workers from 1, seeds from 0",
        )
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise UserError(f"--out {out} cannot be written", "name a file in a folder that is there")
    base = Scenario() if scenario is None else read_scenario(scenario)
    if base.alters or base.rates != "historical":
        raise UserError(
            f"{scenario} changes what history is held against", "leave overrides, mechanism and recomputed rates out"
        )
    if held_out is not None and (split is not None or len(market or ()) > 1):
        second = "--split" if split is not None else "several --market"
        raise UserError(f"{second} and --held-out both say what is held out", "give one of them")
    opened = Lake(lake)
    markets = market or [only_market(opened)]
    poolable(opened, markets)
    portions = [
        Portion(
            each,
            *window_of(opened, each, from_block, to_block),
            0.5 if split is None else split_of(split, opened, each),
        )
        for each in markets
    ]
    elsewhere = None if held_out is None else held_out_of(held_out)
    with steps() as progress:
        found = fit(
            opened, portions, base, elsewhere=elsewhere, draws=draws, kept=keep, seed=seed, workers=workers,
            progress=progress,
        )  # fmt: skip
    if isinstance(found, TooFew):
        lines, text = told_of_too_few(found, keep, seed), prior_written(found, keep, seed, base)
    else:
        lines, text = told(found, seed), written(found, seed, base)
    print("\n".join(lines))
    if not isinstance(found, TooFew):
        print("\n".join(kept_in(opened, each, text) for each in markets))
    if out is not None:
        out.write_text(text, encoding="utf-8")
        print(f"written: {keep} draws to {out}")


def told(fit: Fit, seed: int) -> Iterator[str]:
    """What was fitted on what, what is known then, and how well it tells what it did not see."""
    from backtest.calibration.frictions import known

    whom = named([each.learn.market.name for each in fit.markets])
    if len(fit.markets) == 1:
        [one] = fit.markets
        elsewhere = one.held_out.market.name
        yield f"{whom}: frictions of liquidators, fitted on {_window(one.learn)};"
        yield (f"held out: {'' if elsewhere == one.learn.market.name else f'{elsewhere}, '}{_window(one.held_out)}.")
    else:
        yield f"{whom}: one set of frictions of liquidators, held against each market on its own scale, fitted on"
        for each in fit.markets:
            yield f"- {each.learn.market.name}: {_window(each.learn)}; held out: {_window(each.held_out)}."
    yield (
        f"{fit.draws} draws (seed {seed}), {fit.stopped} stopped early, the {len(fit.kept.draws)} nearest kept: as much"
        f" as {fit.kept.effective:.1f} of equal weight. Distance from history {fit.kept.distance[0]:.2f} to"
        f" {fit.kept.distance[-1]:.2f}, frictionless {fit.frictionless_distance:.2f}."
    )
    yield ""
    yield from text_table(
        ("Parameter", "prior", "kept (least / median / greatest)", ""),
        [_row(one) for one in known(fit.priors, fit.kept)],
    )
    yield NOT_FITTED
    if fit.without_cap:
        yield f"Of gas no policy is fitted: {fit.without_cap}."
    for one in fit.markets:
        if len(fit.markets) > 1:
            yield from ("", f"In {one.learn.market.name}:")
        for title, window, vectors in (
            ("Window learnt from", one.learn, one.learnt),
            ("Window held out", one.held_out, one.tested),
        ):
            yield ""
            yield from _goodness(fit, title, window, vectors)
        yield ""
        yield from _scores(fit, one)
        yield from _unmatched(fit, one)


def named(markets: Sequence[str]) -> str:
    """What results call a market, or several that were pooled."""
    return markets[0] if len(markets) == 1 else f"pooled over {', '.join(markets)}"


def written(fit: Fit, seed: int, base: Scenario) -> str:
    """The ensemble of the draws that were kept."""
    from backtest.calibration.ensemble import ensemble_text
    from backtest.calibration.frictions import model_of
    from backtest.scenario.ensemble import FittedOn

    windows = [each.learn for each in fit.markets]
    whom = named([window.market.name for window in windows])
    if len(windows) == 1:
        on = f"calibrated on {whom}, {_briefly(windows[0])}"
    else:
        each = "; ".join(f"{window.market.name}, {_briefly(window)}" for window in windows)
        on = f"calibrated, {whom} ({each})"
    draws = [
        (float(weight), model_of(draw, unit=fit.unit))
        for weight, draw in zip(fit.kept.weights, fit.kept.draws, strict=True)
    ]
    fitted = [FittedOn(market=window.market.name, from_block=window.first, to_block=window.last) for window in windows]
    return ensemble_text(list(told(fit, seed)), f"{whom}, calibrated", f"{on}, seed {seed}", draws, base.costs, fitted)


def _briefly(window: FitWindow) -> str:
    return f"blocks {window.first} to {window.last}, {window.liquidations} liquidations"


def kept_in(lake: Lake, market: str, text: str) -> str:
    """Keep an ensemble in the lake; what came of it."""
    from backtest.paired import keep_ensemble

    try:
        keep_ensemble(lake, market, text)
    except (UserError, OSError) as error:  # it may be read-only, or busy
        return f"not kept in the lake: {error}; compare and propose take the file: --ensemble FILE"
    return f"kept in the lake: compare, propose and sweep judge parameters of {market} under it from now on."


def told_of_too_few(few: TooFew, count: int, seed: int) -> Iterator[str]:
    """That nothing was fitted, what would help, and what stands in."""
    from backtest.calibration.frictions import LEAST, PUBLISHED

    whom = named([each.market for each in few.markets])
    if len(few.markets) == 1:
        [one] = few.markets
        where = f"in blocks {one.first} to {one.last}"
    else:
        each = (f"{one.market} {one.liquidations} in blocks {one.first} to {one.last}" for one in few.markets)
        where = f"({', '.join(each)})"
    yield (f"{whom}: {few.liquidations} liquidations {where}, too few to fit frictions to: nothing was fitted.")
    yield (
        f"What would help: pool it with other markets of its protocol, of the same base currency, until they have"
        f" {2 * LEAST} together: --market {few.markets[0].market} --market ANOTHER."
    )
    yield f"What stands in is a prior that is not about this market: {count} draws of equal weight, seed {seed}."
    yield ""
    yield from text_table(("Parameter", "range", "source"), [(WORDS[p.name], _range(p), p.source) for p in PUBLISHED])
    yield "Of money (least profit, margin, capital) nothing is assumed: flash loans, and whatever pays is taken."


def prior_written(few: TooFew, count: int, seed: int, base: Scenario) -> str:
    """The ensemble of that prior."""
    from backtest.calibration.ensemble import ensemble_text
    from backtest.calibration.frictions import PUBLISHED, first_draws, model_of

    draws = [(1 / count, model_of(draw, unit=few.unit)) for draw in first_draws(PUBLISHED, seed, count)]
    source = f"not calibrated: published figures of other markets; {few.liquidations} liquidations here, seed {seed}"
    notes, whom = list(told_of_too_few(few, count, seed)), named([each.market for each in few.markets])
    return ensemble_text(notes, f"{whom}, not calibrated", source, draws, base.costs)


def _window(window: FitWindow) -> str:
    return (
        f"blocks {window.first} to {window.last} ({days((window.start, window.start + window.seconds))}),"
        f" {window.liquidations} liquidations"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _range(prior: Prior) -> str:
    if prior.choices:
        return ", ".join(prior.choices)
    absent = f" or none ({prior.none:.0%})" if prior.none else ""
    return f"{_number(prior.low)} to {_number(prior.high)}{f' {prior.unit}' if prior.unit else ''}{absent}"


def _row(one: Known) -> tuple[str, ...]:
    if one.points is None:
        kept = ", ".join(f"{choice} {share:.0%}" for choice, share in one.shares.items())
    else:
        absent = f", none {one.shares['none']:.0%}" if "none" in one.shares else ""
        kept = " / ".join("none" if "none" in one.shares and not v else _number(v) for v in one.points) + absent
    return WORDS[one.prior.name], _range(one.prior), kept, one.verdict


def _shown(name: str, value: float) -> str:
    return _number(100 * value if name in ("at_once", "healed") else value)


def _goodness(fit: Fit, title: str, window: FitWindow, vectors: Floats) -> Iterator[str]:
    outside, rows = set(fit.unmatched(vectors, window)), []
    for name, words in MEASURES.items():
        low, middle, high = fit.range_of(vectors, name)
        rows.append(
            (
                words,
                _shown(name, getattr(window.history, name)),
                " / ".join(_shown(name, each) for each in (low, middle, high)),
                "no" if name in outside else "yes",
                _shown(name, getattr(window.frictionless, name)),
            )
        )
    yield from text_table((title, "history", "kept draws (5 / 50 / 95 %)", "inside", "frictionless"), rows)


def _scores(fit: Fit, of: FitMarket) -> Iterator[str]:
    import numpy as np

    from backtest.calibration import shown as s

    rated = [s.NAMES.index(name) for name in s.RATED]
    yield (
        "Log score of what was held out (nats, higher is better), in parts that each begin with history's own book; a"
        " forecast is as sure as its own errors before:"
    )
    rows = []
    for part in of.rolling:
        low, middle, high = fit.range_of(part.shown, "bad_debt")
        rows.append(
            (
                f"blocks {part.window.first} to {part.window.last}, {part.window.liquidations} liquidations",
                f"{part.scores.sum():.1f}",
                f"{part.frictionless.sum():.1f}",
                f"{part.scores[rated].sum():.1f}",
                f"{part.frictionless[rated].sum():.1f}",
                f"{part.naive.sum():.1f}",
                f"{_number(part.window.history.bad_debt)}: {_number(low)} / {_number(middle)} / {_number(high)}",
            )
        )
    ours = np.sum([part.scores for part in of.rolling], axis=0)
    theirs = np.sum([part.frictionless for part in of.rolling], axis=0)
    naive = np.sum([part.naive.sum() for part in of.rolling])
    rows.append(
        (
            "all of them",
            f"{ours.sum():.1f}",
            f"{theirs.sum():.1f}",
            f"{ours[rated].sum():.1f}",
            f"{theirs[rated].sum():.1f}",
            f"{naive:.1f}",
            "",
        )
    )
    heads = (
        "",
        "calibrated",
        "frictionless",
        "three: calibrated",
        "frictionless",
        "rate by the hour",
        "bad debt: kept",
    )
    yield from text_table(heads, rows)
    yield "The three are liquidations, debt liquidated and borrowers' loss: all that a rate by the hour says."
    better = [MEASURES[name] for at, name in enumerate(s.NAMES) if ours[at] > theirs[at]]
    yield f"Better than frictionless on {len(better)} of {len(s.NAMES)}: {', '.join(better) or 'none'}."


def _unmatched(fit: Fit, of: FitMarket) -> Iterator[str]:
    learnt, tested = fit.unmatched(of.learnt, of.learn), fit.unmatched(of.tested, of.held_out)
    yield f"Not matched on the window learnt from: {_listed(learnt)}."
    yield f"Not matched on the window held out: {_listed(tested)}."
    history = of.held_out.history.bad_debt
    low, middle, high = fit.range_of(of.tested, "bad_debt")
    if not history:
        yield "Bad debt: history has none on the held-out window, so nothing says whether the draws have it right."
        return
    ratio = middle / history
    if "bad_debt" not in tested and 1 / 3 < ratio < 3:
        verdict = "history lies within"
    elif ratio <= 1 / 3:
        verdict = "a third of it or less: cannot be judged with this baseline"
    else:
        verdict = "history lies outside: levels of bad debt are not to be trusted, differences with care"
    yield (
        f"Bad debt on the held-out window: history {_number(history)}, kept draws {_number(low)} to {_number(high)}"
        f" (median {_number(middle)}), frictionless {_number(of.held_out.frictionless.bad_debt)}: {verdict}."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(MEASURES[name] for name in names) or "nothing"


def held_out_of(folder: Path) -> tuple[Lake, str]:
    """The lake that ``--held-out`` names, and its one market."""
    from backtest.cli.replay import only_market
    from backtest.lake import Lake

    try:
        lake = Lake(folder)
        return lake, only_market(lake)
    except UserError as error:
        raise UserError(f"--held-out: {error.what}", "name the folder of a lake that holds one market") from None


def split_of(said: str, lake: Lake, market: str) -> float | int:
    """A share of the liquidations, or the first block held out."""
    if re.fullmatch(r"[0-9]*\.[0-9]+", said):
        share = float(number(said, "--split"))
        if not 0 < share < 1:
            raise UserError(f"--split {said} leaves nothing to learn from or nothing to test on", "give 0.5, or a date")
        return share
    try:
        first, _ = window_of(lake, market, said, None)
    except UserError as error:
        raise UserError(error.what.replace(FIRST, "--split"), error.fix) from None
    assert first is not None
    return first


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on standard error for one step after the other; none where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.update(tasks[what], completed=done)

        yield progress
