"""``backtest compare``: history, baseline and alternatives side by side, and what the alternatives change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def compare(
    *runs: str,
    lake: Path,
    market: str | None = None,
    ensemble: Path | None = None,
    stated: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Print runs side by side, what each alternative changes against its baseline, and whether that is material.

    A baseline is the same run under the parameters of history and the protocol's own way of liquidating; it and the
    replay of history are shown with the runs that are named. What the verdicts need and the lake lacks (history of the
    same blocks, baselines, users who respond) is replayed first, so that a verdict does not depend on what is stored.

    Who liquidates is not known. Where the lake keeps an ensemble that was calibrated on the market (backtest calibrate
    baseline), alternatives that say nothing of it are judged under its draws, baseline and alternative under the same,
    and the doubt about single accounts, about the model and of chance is shown apart. Else the verdict is that of the
    model that a run states; frictionless liquidators are the best case.
    Nothing is compared with history itself: that would mix the model's effect with that of the parameters.

    Examples:

        backtest compare --lake backtest-demo/lake

        backtest compare 4f1c 9a02 --lake backtest-demo/lake

        backtest compare 'bonus +2 points' --lake backtest-demo/lake --stated

    Parameters
    ----------
    runs
        Ids, first digits of ids, or names of runs, all of one market; none for every run of the lake.
    lake
        Folder of the lake.
    market
        Only runs of this market.
    ensemble
        TOML file of weighted draws of liquidators and costs (docs/propose.md), under which every alternative is judged;
        without it that which the lake keeps of the market.
    stated
        Judge by the models that the runs state, without an ensemble.
    """
    from backtest.cli.histories import judged
    from backtest.errors import UserError
    from backtest.lake import Lake
    from backtest.propose import ensemble_of
    from backtest.report.text import as_text

    if stated and ensemble is not None:
        raise UserError("--stated and --ensemble together", "give one of them")
    given = None if ensemble is None else ensemble_of(ensemble)
    print(as_text(judged(Lake(lake), runs, market=market, ensemble=given, stated=stated)))
