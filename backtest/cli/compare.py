"""``backtest compare``: runs side by side."""

from __future__ import annotations

from pathlib import Path


def compare(*runs: str, lake: Path, market: str | None = None, base: str | None = None) -> None:
    """Print runs side by side, and what changes against a base run.

    Changes are against a competitive run under the parameters of history: against history itself they would mix the model's effect with
    that of the parameters.

    Examples:

        backtest compare --lake backtest-demo/lake

        backtest compare 4f1c 9a02 --lake backtest-demo/lake --base 4f1c

    Parameters
    ----------
    runs
        Ids, first digits of ids, or names of runs, all of one market; none for every run of the lake.
    lake
        Folder of the lake.
    market
        Only runs of this market.
    base
        Run that the others are compared with.
    """
    from backtest.lake import Lake
    from backtest.report import notes, select
    from backtest.report.tables import as_text, comparison, describe, labels_of

    selection = select(Lake(lake), runs, base=base, market=market)
    labels = labels_of(selection.runs)
    symbols = {row["asset"]: row["symbol"] for row in selection.fill("SELECT asset, symbol FROM assets WHERE market = $market")}
    print(f"Market {selection.market}; amounts in {selection.currency}, changes against {labels[selection.runs.index(selection.base)]}")
    if selection.base["liquidator_model"] == "observed" and any(run["liquidator_model"] != "observed" for run in selection.runs):
        print("No baseline among them: these changes mix the model with the parameters. Make one: backtest replay --liquidators competitive")
    print(as_text(comparison(selection, labels)))
    for label, run in zip(labels, selection.runs, strict=True):
        print(f"{label}: {describe(run['scenario'], selection.decimals, selection.currency, symbols)}; run {run['run_id'][:16]}")
    print("Assumptions and warnings")
    for note in notes(selection.runs):
        print(f"  - {note}")
