"""A proposal as text for a terminal, as Markdown, as JSON, and as one offline page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

from backtest.report import tables
from backtest.report.difference import MEASURED_ON
from backtest.report.proposal import MEASURES, WAD, Proposal, ProposalFinding, Search
from backtest.report.proposal import shown as tabled
from backtest.report.proposal.words import answer, basis, largest_newly, liquidators, next_steps, overturned_by
from backtest.report.tables import Table
from backtest.report.verdict import LEVEL, Measure

WIDTH = 100
SCHEMA = 1
"""Of the JSON form: a change of names or meanings is another number."""
READING = (
    f"The {LEVEL:.0%} interval is of the effect and holds doubt about single accounts (a paired bootstrap), about the"
    " model (draws of the ensemble) and about chance (seeds), each apart below it; and the own error of a difference:"
    f" the share of the baseline's distance from history that does not cancel, measured on {MEASURED_ON}. Cannot be"
    " judged here: the baseline has a third or less of what history had of the measure, or three times as much or more."
    " Protocol income is the liquidation fee and the protocol's share of liquidators' bids. Falls are of the prices of"
    " one moment, all at once; frictionless liquidators then act until nothing pays."
)


def sections(p: Proposal) -> Iterator[tuple[str, Table]]:
    """Every table with its title."""
    yield f"Parameters, and the book at block {p.moment.block:,}", tabled.terms_table(p, full=True)
    if p.moment.newly:
        yield "The moment it takes effect", tabled.newly_table(p, 20)
    yield f"What it would have done, in {p.currency}", tabled.findings_table(p, full=True)
    yield "How sure that is: by what the effect changes", tabled.doubts_table(p)
    yield "Which share of the doubt is whose, by squared width", tabled.shares_table(p)
    for assets, table in tabled.shocks_tables(p):
        yield f"Were {assets} to fall at once at block {p.moment.block:,}: liquidatable then, in {p.currency}", table
    if p.search is not None:
        yield _front(p, p.search)
    for part in p.parts:
        for title, table in sections(part):
            yield f"{part.market}: {title}", table


def _front(p: Proposal, search: Search) -> tuple[str, Table]:
    label = next(measure.label for measure in MEASURES if measure.key == search.loss).lower()
    title = f"Around the proposal, within {search.within} basis points: the front of {label}"
    return title, tabled.front_table(search, p)


def as_text(p: Proposal, *, full: bool = False) -> str:
    """For a terminal of ``WIDTH`` columns: one screen, or with ``full`` every table, row and assumption."""
    lines = wrap(f"{p.market}: {', '.join(p.changes)}{''.join(f'; {flag}' for flag in p.flags)}", WIDTH)
    lines += _wrapped(" ".join(answer(p)))
    for warning in p.warnings:
        lines += _wrapped(warning)
    steps = next_steps(p)
    if not full:
        lines += _wrapped(tabled.terms_said(p))
        if p.moment.newly:
            lines += _wrapped(largest_newly(p))
        shown = (tabled.findings_table(p, full=False), tabled.markets_table(p), tabled.shares_table(p))
        for table in shown:
            lines += ["", tables.as_text(table, WIDTH)] if table.rows else []
        if p.shocks:
            lines += ["", tables.as_text(tabled.shocks_table(p), WIDTH)]
        if p.search is not None:
            title, table = _front(p, p.search)
            lines += ["", title, tables.as_text(table, WIDTH)]
        lines += ["", *_wrapped(f"Would overturn it: {' '.join(overturned_by(p))}"), *_command("Next: ", steps[0])]
        window = f"blocks {p.from_block:,} to {p.to_block:,}, seed {p.seed}"
        rest = f"{len(p.notes)} assumptions, every account, fall and draw: --full"
        lines += _wrapped(f"Baseline: {liquidators(p)} {p.runs} runs of {window}. {rest}.")
        return "\n".join(lines)
    for title, table in sections(p):
        lines += ["", title, tables.as_text(table, WIDTH)]
    lines += ["", *_wrapped(f"Would overturn it: {' '.join(overturned_by(p))}")]
    lines += [line for step in steps for line in _command("Next: ", step)]
    lines += _wrapped(f"Baseline: {liquidators(p)} {basis(p)[:1].upper()}{basis(p)[1:]}.")
    lines += ["", *_wrapped(READING), "", "What all runs assume"]
    lines += [line for note in p.notes for line in wrap(f"- {note}", WIDTH, subsequent_indent="  ")]
    return "\n".join(lines)


def as_answer(p: Proposal) -> str:
    """The sentences, and the table they rest on: what fits beside other things on one screen."""
    table = tabled.findings_table(p, full=False)
    return "\n".join((*_wrapped(" ".join(answer(p))), "", tables.as_text(table, WIDTH)))


def as_markdown(p: Proposal) -> str:
    """The whole answer as Markdown."""
    lines = [f"# {p.market}: {', '.join(p.changes)}", "", " ".join(answer(p)), ""]
    lines += [f"- {flag}" for flag in p.flags]
    lines += [f"- {warning}" for warning in p.warnings]
    for title, table in sections(p):
        lines += ["", f"## {title}", "", *_grid(table)]
    lines += ["", "## What would overturn it", "", *(f"- {one}" for one in overturned_by(p))]
    lines += ["", "## What to look at next", "", *(f"- {_coded(one)}" for one in next_steps(p))]
    lines += ["", "## What it rests on", "", liquidators(p), "", basis(p), "", READING, ""]
    lines += [f"- {note}" for note in p.notes]
    return "\n".join(lines) + "\n"


def as_json(p: Proposal) -> str:
    """The whole answer as JSON. Amounts are texts in whole units of the currency, exact; healths are texts too. Of
    several markets the answer of each stands under ``parts``.
    """
    return json.dumps(_plain(p), indent=2, ensure_ascii=False)


def _plain(p: Proposal) -> dict[str, Any]:

    def money(value: int | None) -> str | None:
        return None if value is None else exact(value, p.decimals)

    def amount(measure: Measure, value: int | None) -> str | int | None:
        return money(value) if measure.kind == "money" else value

    def bounds(measure: Measure, pair: tuple[int, int] | None) -> list[str | int | None] | None:
        return None if pair is None else [amount(measure, value) for value in pair]

    def finding(each: ProposalFinding) -> dict[str, Any]:
        measure, verdict = each.measure, each.verdict
        return {
            "measure": measure.key,
            "label": measure.label,
            "unit": p.currency if measure.kind == "money" else "number",
            "history": amount(measure, verdict.history),
            "present": amount(measure, verdict.baseline),
            "proposed": amount(measure, each.proposed),
            "effect": amount(measure, verdict.effect),
            "interval": bounds(measure, verdict.interval),
            "doubt": {
                "accounts": bounds(measure, each.doubt.accounts),
                "model": bounds(measure, each.doubt.model),
                "chance": bounds(measure, each.doubt.chance),
                "shares": each.doubt.shares,
            },
            "responses": {name: amount(measure, value) for name, value in verdict.band.items()},
            "without_largest": amount(measure, each.without_largest),
            "draws": [{"weight": share, "effect": amount(measure, value)} for share, value in each.draws],
            "own_error": amount(measure, verdict.own_error),
            "difference_error": amount(measure, verdict.difference_error),
            "judged": verdict.judged,
            "verdict": verdict.words,
        }

    moment, search = p.moment, p.search
    front = [] if search is None else search.front()
    body = {
        "schema": SCHEMA,
        "market": p.market,
        "changes": list(p.changes),
        "answer": answer(p),
        "warnings": list(p.warnings),
        "overturned_by": overturned_by(p),
        "next": next_steps(p),
        "currency": p.currency,
        "decimals": p.decimals,
        "level": LEVEL,
        "terms": [
            {
                "of": term.of,
                "parameter": term.name,
                "present": term.present,
                "proposed": term.proposed,
                "basis_points": term.basis_points,
            }
            for term in p.terms
        ],
        "moment": {
            "block": moment.block,
            "timestamp": moment.timestamp,
            "accounts_with_debt": moment.of,
            "accounts_touched": moment.touched,
            "accounts_left_alone": moment.left_alone,
            "accounts_newly_liquidatable": len(moment.newly),
            "debt_newly_liquidatable": money(moment.debt),
            "borrowing_power": [money(moment.power_before), money(moment.power_after)],
            "ramp": {"days": moment.days, "steps": moment.steps},
            "newly_liquidatable": [
                {
                    "account": one.account,
                    "debt": money(one.debt),
                    "collateral": money(one.collateral),
                    "health": [exact(value, len(str(WAD)) - 1) for value in (one.health_before, one.health_after)],
                    "liquidatable_at_step": one.step,
                }
                for one in moment.newly
            ],
        },
        "refused_actions": [money(value) for value in p.refused],
        "findings": [finding(each) for each in p.findings],
        "shocks": [
            {
                "assets": shock.assets,
                "fall": shock.fall,
                "accounts": list(shock.accounts),
                "debt_liquidatable": [money(value) for value in shock.debt],
                "debt_liquidated": None if shock.repaid is None else [money(value) for value in shock.repaid],
                "bad_debt": [money(value) for value in shock.bad_debt],
            }
            for shock in p.shocks
        ],
        "search": None
        if search is None
        else {
            "parameters": list(search.names),
            "present": list(search.present),
            "proposed": list(search.proposed),
            "within": search.within,
            "loss": search.loss,
            "against": search.against,
            "points": [
                {
                    "values": list(point.values),
                    "refused": point.refused or None,
                    "on_front": point in front,
                    "measures": None
                    if point.totals is None
                    else {key: value if key in tabled.COUNTS else money(value) for key, value in point.totals.items()},
                }
                for point in search.points
            ],
        },
        "basis": {
            "baseline": p.baseline,
            "frictionless": p.frictionless,
            "ensemble": p.ensemble,
            "draws": p.draws,
            "seeds": p.seeds,
            "seed": p.seed,
            "blocks": [p.from_block, p.to_block],
            "timestamps": [p.from_timestamp, p.to_timestamp],
            "data": p.digest,
            "rules": p.rules,
            "engine": p.engine,
            "accounts": p.population,
            "largest_account": p.largest,
            "runs": p.runs,
            "sweep": p.sweep,
            "kind_of_data": list(p.flags),
            "assumptions": list(p.notes),
        },
    }
    return body | {"parts": [_plain(part) for part in p.parts]} if p.parts else body


def write_page(p: Proposal, path: Path) -> None:
    """The whole answer as one page that loads nothing."""
    from backtest.report.page import answer_first, draw, fill_in
    from backtest.report.proposal.charts import figures

    fill_in(
        "proposal.html",
        path,
        p=p,
        answer=answer(p),
        sections=[(title, answer_first(table) if table.words else table) for title, table in sections(p)],
        figures=[draw(figure) for figure in figures(p)],
        overturned=overturned_by(p),
        steps=next_steps(p),
        liquidators=liquidators(p),
        reading=READING,
        start=tables.moment(p.from_timestamp),
        end=tables.moment(p.to_timestamp),
    )


def exact(value: int, decimals: int) -> str:
    """Base units as whole units, every digit: -1.50000000."""
    whole, rest = divmod(abs(value), 10**decimals)
    return f"{'-' if value < 0 else ''}{whole}" + (f".{rest:0{decimals}d}" if decimals else "")


def _wrapped(text: str) -> list[str]:
    return wrap(text, WIDTH)


def _command(before: str, step: str) -> list[str]:
    """A command stays on its line, so that it can be copied."""
    said, colon, command = step.partition(": backtest ")
    return [f"{before}{said}:", f"  backtest {command}"] if colon else wrap(f"{before}{step}", WIDTH)


def _coded(step: str) -> str:
    said, colon, command = step.partition(": backtest ")
    return f"{said}: `backtest {command}`" if colon else step


def _grid(table: Table) -> list[str]:
    def row(cells: tuple[str, ...]) -> str:
        return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ').strip() for cell in cells)} |"

    marks = ["---" if at == 0 or at in table.words else "---:" for at in range(len(table.header))]
    return [row(table.header), f"|{'|'.join(marks)}|", *(row(cells) for cells in table.rows)]
