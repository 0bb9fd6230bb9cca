"""``backtest recommend``: the parameter set that does most within reserves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from backtest.cli.numbers import Number, Real, Whole, whole
from backtest.errors import UserError


def recommend(
    *,
    lake: Path,
    reserves: Number,
    over: Annotated[list[str] | None, Parameter(negative="")] = None,
    market: Annotated[list[str] | None, Parameter(negative="")] = None,
    rate: Annotated[list[str] | None, Parameter(negative="")] = None,
    bound: Whole = 300,
    step: Whole = 25,
    aim: Literal["borrowing-power", "protocol-fee", "liquidated"] = "borrowing-power",
    percentile: Number | None = None,
    withstand: Number | None = None,
    suite: str | None = None,
    paths: Whole | None = None,
    looks: Whole | None = None,
    split: Real = 0.7,
    ensemble: Path | None = None,
    seed: Whole = 0,
    format: Literal["text", "json"] | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    workers: Whole | None = None,
) -> None:
    """Find the parameters that give the most borrowing power (or another aim) while a value at risk of bad debt stays
    within reserves, each within a bound of what it is now; with the interval, the runner-up and why the search stopped.

    Sets are judged on the book at the end of the first part of the history, over shocked paths; the best is then held
    against fresh paths, the later book, and replays of both parts under every response of users.

    Examples:

        backtest recommend --lake backtest-demo/lake --market sample-crash --over WETH.liquidation_threshold --over \
WETH.ltv --reserves 5000 --withstand 40

        backtest recommend --lake data/lake --over WETH.liquidation_threshold=200 --reserves 5000000 --suite market \
--paths 10000 --ensemble baseline.toml --format json -o answer.json

    Parameters
    ----------
    lake
        Folder of the lake.
    reserves
        What bad debt has to stay within, in the market's base currency.
    over
        A parameter that may change, as in backtest replay --set without a value; =BOUND gives its own bound, basis
        points. Eight at most.
    market
        Market; may be left out where the lake holds one. Several, each with an option of its own, are judged together
        (docs/several-markets.md); --over MARKET:WETH.ltv is a parameter of one of them.
    rate
        Of several markets, what one unit of a base currency is worth in the first one's, CURRENCY=NUMBER.
    bound
        How far a parameter may go from what it is, basis points.
    step
        Of the grid of sets, basis points.
    aim
        What is to be as much as can be: borrowing power, the mean protocol fee, or as little debt liquidated.
    percentile
        Of bad debt over the paths, percent; 99 by default.
    withstand
        A fall of all collateral that moves, at once, percent, whose bad debt has to stay within reserves too.
    suite
        Shocks and who liquidates: a suite of backtest stress or a TOML file; by default a day of the market's own
        half-hours, drawn again in blocks.
    paths
        Paths of each case; the suite's number by default.
    looks
        Sets that are judged, at most; by default 60, and of more than three parameters 4 times their square.
    split
        Share of the history's time that chooses; the rest is held out.
    ensemble
        Who liquidates in replays of history (docs/propose.md); frictionless liquidators without it.
    seed
        Of the paths; fresh paths have the next one.
    format
        Text or JSON; by default what the ending of the output says, else text.
    output
        File to write instead of printing.
    workers
        Processes of this machine; one a core by default.
    """
    from backtest.cli.replay import joint_named, only_market
    from backtest.cli.sweep import bar
    from backtest.lake import Lake
    from backtest.propose import ensemble_of
    from backtest.recommend import RecommendationQuestion, as_json, as_text
    from backtest.recommend import recommend as found_for
    from backtest.stress import find_suite

    opened = Lake(lake)
    where = market[0] if market else only_market(opened)
    base = 10 ** opened.market_config(where).base_decimals
    if reserves < 0:
        raise UserError(f"--reserves {reserves}", "give 0 or more")
    question = RecommendationQuestion(
        over=tuple(_bounded(text, bound) for text in over or ()),
        reserves=int(reserves * base),
        aim=aim,
        level=9_900 if percentile is None else _points(percentile, "--percentile"),
        suite=None if suite is None else find_suite(suite),
        paths=paths,
        withstand=None if withstand is None else _points(withstand, "--withstand"),
        step=step,
        looks=looks,
        split=split,
        ensemble=None if ensemble is None else ensemble_of(ensemble),
        seed=seed,
        joint=joint_named(market or [], rate or []),
    )
    with bar() as progress:
        found = found_for(opened, where, question, workers=workers, progress=progress)
    chosen = format or ("json" if output is not None and output.suffix.lower() == ".json" else "text")
    text = as_text(found) if chosen == "text" else as_json(found) + "\n"
    if output is None:
        print(text, end="")
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(f"{output}: {found.market}, {len(found.sought.tried)} sets looked at")


def _bounded(text: str, bound: int) -> tuple[str, int]:
    name, given, own = text.partition("=")
    return name, whole(own, f"--over {name}") if given else bound


def _points(percent: Number, option: str) -> int:
    """Percent as basis points."""
    points = percent * 100
    if points != points.to_integral_value() or not 0 < points < 10_000:
        raise UserError(f"{option} {percent}", "give percent above 0 and below 100, to two decimals")
    return int(points)
