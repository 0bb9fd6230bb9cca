"""A comparison as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from backtest.report import notes, tables
from backtest.report.comparison import CRITERION, PAIRED, Comparison
from backtest.report.selection import Row, Selection

WIDTH = 140  # of running text


def as_text(selection: Selection, *, shared_only: bool = False) -> str:
    """The whole comparison: columns, verdicts, what is missing, where it comes from, and what it assumes.

    ``shared_only`` keeps to the assumptions that all modelled runs share.
    """
    comparison = Comparison(selection)
    lines = [*_head(selection), "", tables.as_text(comparison.table())]
    for judged in comparison.judged:
        users = "users frozen" if judged.run["response"] == "frozen" else f"users respond ({judged.run['response']})"
        lines += [
            "",
            (
                f"Verdict: {judged.label} against {judged.baseline} ({users}; {judged.population:,} accounts, seed"
                f" {judged.run['seed']})"
            ),
            *wrap(f"Under {judged.under}.", WIDTH),
            tables.as_text(comparison.verdict_table(judged)),
        ]
    if comparison.judged:
        lines += ["", *wrap(CRITERION, WIDTH)]
        if any(judged.paired is not None for judged in comparison.judged):
            lines += wrap(PAIRED, WIDTH)
    if remarks := comparison.remarks():
        lines.append("")
        for remark in remarks:  # a command stays on its line
            lines += [remark] if "Make it:" in remark else wrap(remark, WIDTH)
    lines += ["", *_runs(selection, comparison.labels)]
    title, stated = "Assumptions and warnings", notes(selection.runs)
    if shared_only:
        title = "What all modelled runs assume (the report page says more, by run)"
        modelled = [run for run in selection.runs if run["kind"] != "history"]
        stated = (
            [note for note in tables.notes_of(modelled[0]) if all(note in tables.notes_of(run) for run in modelled)]
            if modelled
            else []
        )
    return "\n".join([*lines, title, *(f"  - {note}" for note in stated)])


def _head(selection: Selection) -> list[str]:
    main = selection.main
    blocks = f"blocks {main['from_block']:,} to {main['to_block']:,}"
    window = f"{tables.moment(selection.start)} to {tables.moment(selection.end)} UTC"
    flags = tables.data_flags(selection.runs)
    return [
        f"Market {selection.market}, {blocks} ({window}){'; ' + '; '.join(flags) if flags else ''}",
        (
            f"Amounts in {selection.currency} at the oracle price of each execution. Changes are against the baseline:"
            " the same liquidators, users,"
        ),
        "rates and seed under history's parameters.",
    ]


def _runs(selection: Selection, labels: Sequence[str]) -> list[str]:
    symbols = {
        row["asset"]: row["label"] for row in selection.fill("SELECT asset, label FROM assets WHERE market = $market")
    }

    def line(label: str, run: Row) -> str:
        words = tables.describe(run["scenario"], selection.decimals, selection.currency, symbols)
        return f"  {label}: {words}; seed {run['seed']}; run {run['run_id'][:16]}"

    data = sorted({(run["lake_digest"][:16], run["rules_version"], run["engine_version"]) for run in selection.runs})
    made = [
        f"data {digest} (raw content), rules version {rules}, engine version {engine}" for digest, rules, engine in data
    ]
    mixed = "  These runs were made from different data or by different rules: only those of equal data are compared."
    return [
        "Runs",
        *(line(*pair) for pair in zip(labels, selection.runs, strict=True)),
        *(f"  {one}" for one in made),
        *([mixed] if len(data) > 1 else []),
    ]
