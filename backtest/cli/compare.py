"""``backtest compare``: history, baseline and alternatives side by side, and what the alternatives change."""

from __future__ import annotations

from pathlib import Path


def compare(*runs: str, lake: Path, market: str | None = None) -> None:
    """Print runs side by side, what each alternative changes against its baseline, and whether that is material.

    A baseline is the same run under the parameters of history and the protocol's own way of liquidating; it and the
    replay of history are shown with the runs that are named. Where history of their blocks is not stored it is replayed
    first: what the baseline does not tell of it is not judged.
    Nothing is compared with history itself: that would mix the model's effect with that of the parameters.

    Examples:

        backtest compare --lake backtest-demo/lake

        backtest compare 4f1c 9a02 --lake backtest-demo/lake

    Parameters
    ----------
    runs
        Ids, first digits of ids, or names of runs, all of one market; none for every run of the lake.
    lake
        Folder of the lake.
    market
        Only runs of this market.
    """
    from backtest.cli.histories import selected
    from backtest.lake import Lake
    from backtest.report.text import as_text

    print(as_text(selected(Lake(lake), runs, market=market)))
