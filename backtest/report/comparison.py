"""The comparison: history, baseline and alternatives side by side, the verdicts, and what is missing for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from backtest.report import queries as q
from backtest.report import tables, verdict
from backtest.report.difference import MEASURED_ON
from backtest.report.proposal import PairedVerdict
from backtest.report.selection import Row, Selection
from backtest.report.tables import MISSING, Table
from backtest.scenario import RESPONSES

Kind = Literal["count", "money"]
Figures = dict[Any, Any]
"""Figures of one run by name, or by (window, name) or (outcome, name)."""
WINDOWS = {
    "end": "at the end of the window",
    "+1h": "1 hour after the window",
    "+1d": "1 day after the window",
    "+7d": "7 days after the window",
}
OUTCOMES = {
    "skipped": "Refused by the market's rules, skipped",
    "shrunk": "Refused by the market's rules, shrunk",
    "cut": "Cut to what was there",
    "changed": "Of another size than in history",
}
CRITERION = (
    "Cannot be judged here: the baseline does not tell that measure of history (a third or less of what history had, or"
    f" three times as much or more). No material difference: the {verdict.LEVEL:.0%} interval contains 0. The interval"
    f" is a paired bootstrap over the market's accounts ({verdict.RESAMPLES:,} resamples, seeded by the scenario): it"
    " says how much hangs on single accounts, wider on either side by the own error of the difference: the share of the"
    f" baseline's distance from history that does not cancel, measured on {MEASURED_ON}; what history's liquidators"
    " earned is not known. It does not say what other prices would have done. The band is the range of the effect over"
    " the users' responses, each against the baseline of the same response."
)
PAIRED = (
    "Accounts, model, chance: which share of the doubt each has, by squared width: single accounts (a paired"
    " bootstrap), the model (draws of the ensemble; baseline and alternative share each draw), chance (seeds, shared as"
    " well). The interval holds all three, and the own error of a difference as above."
)


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts on one alternative. ``population`` is the number of accounts that the interval draws from."""

    run: Row
    label: str
    baseline: str
    population: int
    verdicts: tuple[verdict.Verdict, ...]
    missing: tuple[str, ...]
    """Responses of users that the band lacks."""
    paired: PairedVerdict | None = None
    """What stands in the place of ``verdicts`` where it was asked under an ensemble."""

    @property
    def under(self) -> str:
        """Whose verdict it is, in words."""
        if self.paired is not None:
            many = f"{self.paired.draws} {'draw' if self.paired.draws == 1 else 'draws'}"
            return (
                f"{self.paired.words}; {many}, {self.paired.seeds} {'seed' if self.paired.seeds == 1 else 'seeds'} each"
            )
        model = self.run["liquidator_model"]
        best = " (frictionless liquidators: the best case)" if model == "competitive" else ""
        return f"the stated model alone, {model}{best}"

    @property
    def each(self) -> list[verdict.Verdict]:
        """Its verdicts, whoever gives them."""
        return list(self.verdicts) if self.paired is None else [one.verdict for one in self.paired.findings]


class Comparison:
    """Everything that is said about a selection, computed once."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.labels = tables.labels_of(selection.runs)
        self.judged = _judge(selection, self.labels)
        self._figures = _figures(selection)
        sides = selection.fill(q.SIDES)
        self._unmitigated = {row["run_id"]: row["without_id"] for row in sides}
        """Of runs with mitigations: the run without them, where it is stored."""
        for row in sides:
            own = {("sides", key): value for key, value in row.items() if key not in ("run_id", "without_id")}
            self._figures[row["run_id"]] |= own
        self._shares = {(row["run_id"], row["measure"]): row for row in selection.fill(q.SHARES)}

    # -- tables ------------------------------------------------------------------------------------------------------

    def table(self) -> Table:
        """One column per run, rows in groups; under each value of an alternative its change against its baseline."""
        return Table(
            self._header(),
            (
                *self._liquidations(),
                *self._losses(),
                *self._sides(),
                *self._users(),
                *self._overrides(),
                *self._market(),
            ),
        )

    def liquidations(self) -> Table:
        """All groups but the losses."""
        return Table(self._header(), (*self._liquidations(), *self._users(), *self._overrides(), *self._market()))

    def losses(self) -> Table:
        """The groups of losses: at the end of the window, and later where the data allow; both sides of mitigations."""
        return Table(self._header(), (*self._losses(), *self._sides()))

    def verdict_table(self, judged: Judged) -> Table:
        """One row per measure of an alternative; under an ensemble with the share of each part of the doubt."""
        if judged.paired is not None:
            return self._paired_table(judged.paired)
        rows = [
            (
                each.measure.label,
                self._amount(each.baseline, each.measure.kind),
                self._signed(each.effect, each.measure.kind),
                " to ".join(self._signed(bound, each.measure.kind) for bound in each.interval),
                "unknown" if each.difference_error is None else self._amount(each.difference_error, each.measure.kind),
                self._band(each),
                each.words,
            )
            for each in judged.verdicts
        ]
        return Table(
            ("", "Baseline", "Effect", f"{verdict.LEVEL:.0%} interval", "Own error", "Band", "Verdict"), tuple(rows)
        )

    def _paired_table(self, paired: PairedVerdict) -> Table:
        rows = []
        for found in paired.findings:
            each, kind, shares = found.verdict, found.measure.kind, found.doubt.shares
            rows.append(
                (
                    found.measure.label,
                    self._amount(each.baseline, kind),
                    self._signed(each.effect, kind),
                    f"{self._signed(each.low, kind)} to {self._signed(each.high, kind)}",
                    *(f"{shares[part]:.0%}" if part in shares else MISSING for part in ("accounts", "model", "chance")),
                    self._band(each),
                    each.words,
                )
            )
        interval = f"{verdict.LEVEL:.0%} interval"
        return Table(
            ("", "Baseline", "Effect", interval, "Accounts", "Model", "Chance", "Band", "Verdict"), tuple(rows)
        )

    def remarks(self) -> list[str]:
        """What is missing for the comparison and which command makes it, a line each."""
        selection, lines = self.selection, []
        for run, label in zip(selection.runs, self.labels, strict=True):
            if run["kind"] == "alternative" and run["baseline_id"] is None:
                lines.append(
                    f"{label}: no baseline is stored, so it is not compared. Make it:"
                    f" {self._command(run, '--baseline')}"
                )
            if more := [one for one in selection.repeats(run) if one not in selection.runs]:
                lines.append(
                    f"{label}: one seed of {len(more) + 1} that are stored; run_repeats has their means with intervals."
                )
        for run, label in zip(selection.runs, self.labels, strict=True):
            if run["run_id"] in self._unmitigated and self._unmitigated[run["run_id"]] is None:
                lines.append(
                    f"{label}: the same scenario without its mitigations is not stored, so their sides are not known."
                    f" Make it: {self._command(run, '--unmitigated')}"
                )
        for judged in self.judged:
            if judged.paired is not None:
                continue
            if judged.missing:
                lacking = " and ".join(judged.missing)
                lines.append(
                    f"{judged.label}: the band lacks users who respond by {lacking}. "
                    + (
                        "Of several markets, replay the scenario with each response of its own."
                        if json.loads(judged.run["scenario"]).get("joint")
                        else f"Make it: {self._command(judged.run, '--band')}"
                    )
                )
            if judged.run["history_id"] is None:
                lines.append(
                    f"{judged.label}: no replay of history is stored for these blocks, so the replay's own error is"
                    " unknown, and what history would tell cannot be judged. Make it: backtest replay --lake"
                    f" {selection.lake} --market {selection.market} --from-block {judged.run['from_block']} --to-block"
                    f" {judged.run['to_block']}"
                )
        lines += self._not_judged()
        if any(judged.paired is None for judged in self.judged):
            lines.append(
                f"Verdicts of the stated model hold no doubt about the model. An ensemble that {selection.market}'s own"
                " liquidations allow, for compare, sweep and propose: backtest calibrate baseline --lake"
                f" {selection.lake} --market {selection.market}"
            )
        if selection.older:
            lines.append(f"{selection.older} runs of older versions are left out: replay them again.")
        return lines

    def _not_judged(self) -> list[str]:
        """Which baselines do not tell which measures of history, a line each, and what would help."""
        found: dict[str, list[verdict.Verdict]] = {}
        for judged in self.judged:
            label = judged.baseline if judged.paired is None else f"The baseline under {judged.under}"
            found.setdefault(label, [each for each in judged.each if not each.judged])
        lines = []
        for label, verdicts in found.items():
            told = [
                f"{each.measure.label.lower()} (history {self._amount(each.history, each.measure.kind)}, the baseline"
                f" {self._amount(each.baseline, each.measure.kind)})"
                for each in verdicts
                if each.history is not None
            ]
            if told:
                lines.append(f"{label} cannot judge {'; '.join(told)}. {verdict.JUDGEABLE}")
        return lines

    # -- groups ------------------------------------------------------------------------------------------------------

    def _header(self) -> tuple[str, ...]:
        kinds = []
        baselines = {run["baseline_id"] for run in self.selection.alternatives if run["baseline_id"]}
        for run in self.selection.runs:
            baseline = self.selection.run(run["baseline_id"])
            named = baseline is not None and len(baselines) > 1
            against = f"against {_label(baseline, self.selection, self.labels)}" if named and baseline else run["kind"]
            kinds.append(against)
        return (
            "",
            *(f"{label}\n{kind}" if kind != label else label for label, kind in zip(self.labels, kinds, strict=True)),
        )

    def _liquidations(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [
            ("Liquidations",),
            self._row("Liquidations", "liquidations", "count"),
            self._row("Accounts liquidated", "accounts", "count"),
        ]
        if self._any("liquidated_by_override"):
            rows += [
                self._row("  made liquidatable by prices or interest", "liquidated_by_prices", "count"),
                self._row("  made liquidatable by an override itself", "liquidated_by_override", "count"),
            ]
        rows += [
            *self._with_shares("Debt repaid by liquidators", "repaid", "repaid"),
            *self._with_shares("Collateral liquidators received", "seized", "seized"),
            *self._with_shares("Protocol fee", "protocol_fee", "protocol_fee"),
            *self._with_shares("Liquidators' profit after stated costs", "profit", "profit"),
            self._row("Largest liquidation (debt repaid)", "largest", "money"),
        ]
        if self._any("matchable"):
            cells = [
                f"{tables.count(f['matching'])} of {tables.count(f['matchable'])}" if f["matchable"] else MISSING
                for f in self._each()
            ]
            rows.append(("Liquidations equal to history's, to the last unit", *cells))
        return rows

    def _losses(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for label, words in WINDOWS.items():
            if not any((label, "realised") in figures for figures in self._each()):
                if any(label in json.loads(run["missing_windows"]) for run in self.selection.runs):
                    rows.append((f"Losses {words}: not known, the data end before",))
                continue
            rows += [
                (f"Losses {words}",),
                self._row("Bad debt, realised (written off)", (label, "realised")),
                self._row("Bad debt, open", (label, "open")),
                self._row("Bad debt, realised and open", (label, "bad_debt")),
                *(self._shares_of("bad_debt") if label == "end" else ()),
                self._row("Bad debt, at its peak", (label, "peak")),
                self._row("Borrowers' loss (bonus plus fee)", (label, "borrower_loss")),
                *(self._shares_of("borrower_loss") if label == "end" else ()),
                (
                    "Equity left to those liquidated, less the baseline's",
                    *(self._signed(f.get((label, "equity_difference")), "money") for f in self._each()),
                ),
            ]
        return rows

    def _sides(self) -> list[tuple[str, ...]]:
        """What mitigations avoid and what they cost, against the same scenario without them."""
        if not self._unmitigated:
            return []

        def row(label: str, key: str, kind: Kind = "money") -> tuple[str, ...]:
            return (label, *(self._amount(figures.get(("sides", key)), kind) for figures in self._each()))

        return [
            ("Both sides of the mitigations, against the same scenario without them",),
            row("Bad debt avoided", "avoided"),
            row("Bad debt from delay", "delayed"),
            row("Accounts spared a liquidation", "spared_accounts", "count"),
            row("Accounts liquidated because of them", "hurt_accounts", "count"),
            row("Borrowers better off by", "spared"),
            row("Borrowers worse off by", "hurt"),
            row("Borrowing power given up", "given_up"),
            row("Users' actions refused", "actions_refused", "count"),
            row("Liquidators' profit, change", "liquidators"),
            row("Written-off debt that funds paid", "paid"),
            row("Written-off debt that suppliers shared", "shared"),
        ]

    def _users(self) -> list[tuple[str, ...]]:
        made = [f"of {tables.count(figures['actions'])}" for figures in self._each()]
        rows: list[tuple[str, ...]] = []
        for outcome, words in OUTCOMES.items():
            if not any((outcome, "actions") in figures for figures in self._each()):
                continue
            values = [
                tables.money(figures.get((outcome, "value"), 0), self.selection.decimals) for figures in self._each()
            ]
            numbers = [
                f"{tables.count(figures.get((outcome, 'actions'), 0))} {of}"
                for figures, of in zip(self._each(), made, strict=True)
            ]
            rows.append((words, *(f"{value}\n{number}" for value, number in zip(values, numbers, strict=True))))
        return [("Users' actions: value, and number of all that came up",), *rows] if rows else []

    def _overrides(self) -> list[tuple[str, ...]]:
        if not self._any("made_accounts") and not self._any("reached_of"):
            return []
        touched = [
            (
                MISSING
                if not figures.get("reached_of")
                else (
                    f"{figures['reached'] / figures['reached_of']:.1%}\n{figures['reached']:,} of"
                    f" {figures['reached_of']:,}"
                )
            )
            for figures in self._each()
        ]
        return [
            ("What the overrides do by themselves",),
            ("Accounts whose health or borrowing power one touches, at most", *touched),
            (
                "Accounts in an e-mode left alone",
                *(tables.count(figures["in_emode"] if figures.get("reached_of") else None) for figures in self._each()),
            ),
            self._row("Accounts made liquidatable by an override itself", "made_accounts", "count"),
            self._row("  their debt", "made_debt"),
        ]

    def _market(self) -> list[tuple[str, ...]]:
        if not self._any("debt"):
            return []
        return [
            ("The market at the end of the window",),
            self._row("Debt of all accounts", "debt"),
            self._row("Collateral of all accounts", "collateral"),
            self._row("Liquidatable debt left", "liquidatable"),
            self._row("Accounts left liquidatable", "accounts_liquidatable", "count"),
        ]

    # -- cells -------------------------------------------------------------------------------------------------------

    def _each(self) -> list[Figures]:
        return [self._figures[run["run_id"]] for run in self.selection.runs]

    def _any(self, key: str) -> bool:
        return any(figures.get(key) for figures in self._each())

    def _row(self, label: str, key: object, kind: Kind = "money") -> tuple[str, ...]:
        """Values, and below them the changes against the baselines where any is not zero."""
        values = [self._figures[run["run_id"]].get(key) for run in self.selection.runs]
        bases = [
            self._figures[run["baseline_id"]].get(key) if run["baseline_id"] else None for run in self.selection.runs
        ]
        changes = [
            tables.change(value, base, kind, self.selection.decimals) for value, base in zip(values, bases, strict=True)
        ]
        cells = [self._amount(value, kind) for value in values]
        if set(changes) - {"", "same"}:
            cells = [f"{cell}\n{change}" if change else cell for cell, change in zip(cells, changes, strict=True)]
        return (label, *cells)

    def _with_shares(self, label: str, key: str, measure: str) -> list[tuple[str, ...]]:
        return [self._row(label, key), *self._shares_of(measure)]

    def _shares_of(self, measure: str) -> list[tuple[str, ...]]:
        """Shares of the largest one and five accounts; no row where no run has a total."""
        found = [self._shares.get((run["run_id"], measure)) for run in self.selection.runs]
        if not any(found):
            return []
        cells = [f"{row['share_largest']:.1%}, {row['share_largest_five']:.1%}" if row else MISSING for row in found]
        return [("  of which the largest one, five accounts", *cells)]

    def _amount(self, value: object, kind: Kind) -> str:
        return tables.money(value, self.selection.decimals) if kind == "money" else tables.count(value)

    def _signed(self, value: object, kind: Kind) -> str:
        text = self._amount(value, kind)
        return f"+{text}" if value is not None and int(value) > 0 else text.replace("-", "−")  # type: ignore[call-overload]

    def _band(self, each: verdict.Verdict) -> str:
        if len(each.band) < len(RESPONSES):
            return "incomplete"
        return (
            f"{self._signed(min(each.band.values()), each.measure.kind)} to"
            f" {self._signed(max(each.band.values()), each.measure.kind)}"
        )

    def _command(self, run: Row, flag: str) -> str:
        return f"backtest replay --lake {self.selection.lake} --run {run['run_id'][:12]} {flag}"


def _label(run: Row, selection: Selection, labels: Sequence[str]) -> str:
    """What a run is called among the columns, or its name where it is none of them."""
    ids = [column["run_id"] for column in selection.runs]
    return labels[ids.index(run["run_id"])] if run["run_id"] in ids else str(run["name"])


def _figures(selection: Selection) -> dict[str, Figures]:
    """Per run every figure of the table by its key: amounts and numbers as whole numbers, None where not known."""

    def whole(row: Mapping[str, object]) -> Figures:
        return {
            key: None if value is None else int(value)  # type: ignore[call-overload]
            for key, value in row.items()
            if key not in ("run_id", "label", "outcome")
        }

    found = {row["run_id"]: whole(row) for row in selection.fill(q.SUMMARY)}
    for row in selection.fill(q.LOSSES):
        found[row["run_id"]] |= {(row["label"], key): value for key, value in whole(row).items()}
    for row in selection.fill(q.ACTIONS):
        found[row["run_id"]] |= {(row["outcome"], key): value for key, value in whole(row).items()}
    for row in selection.fill(q.REACH):
        found[row["run_id"]] |= {"reached": row["accounts"], "reached_of": row["of"], "in_emode": row["in_emode"]}
    return found


def _judge(selection: Selection, labels: Sequence[str]) -> list[Judged]:
    """Verdicts on every alternative that has a baseline."""
    if not any(run["baseline_id"] for run in selection.alternatives):
        return []
    contributions: dict[str, dict[str, dict[str, int]]] = {run["run_id"]: {} for run in selection.known}
    keys = [measure.key for measure in verdict.MEASURES]
    for row in selection.fill(q.CONTRIBUTIONS):
        contributions[row["run_id"]][row["account"]] = {key: int(row[key]) for key in keys}
    populations = {row["run_id"]: row["accounts"] for row in selection.fill(q.POPULATIONS)}
    judged = []
    for run, label in zip(selection.runs, labels, strict=True):
        baseline = selection.run(run["baseline_id"])
        if baseline is None:
            continue
        verdicts = verdict.judge(
            contributions[run["run_id"]],
            contributions[baseline["run_id"]],
            population=populations.get(run["run_id"], 0),
            seed=run["seed"],
            history=None if run["history_id"] is None else contributions[run["history_id"]],
            band={
                response: (contributions[one["run_id"]], contributions[one["baseline_id"]])
                for response, one in selection.band(run).items()
            },
        )
        missing = tuple(selection.missing_responses(run))
        judged.append(
            Judged(
                run,
                label,
                _label(baseline, selection, labels),
                populations.get(run["run_id"], 0),
                tuple(verdicts),
                missing,
                selection.paired.get(run["run_id"]),
            )
        )
    return judged
