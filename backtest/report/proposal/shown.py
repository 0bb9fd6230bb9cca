"""The tables of a proposal, made from exact numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from backtest.report import tables
from backtest.report.doubt import Bounds
from backtest.report.proposal import BPS, MEASURES, SHORT, WAD, Proposal, ProposalFinding, Search, Term
from backtest.report.proposal.words import short
from backtest.report.tables import MISSING, Table
from backtest.report.verdict import LEVEL, Measure

_NAMES = {"ltv": "loan-to-value"}


PLACES, ROWS = 2, 8
"""On the one screen: of more assets and categories than this only what changes is shown, in so many rows."""


def terms_table(p: Proposal, *, full: bool) -> Table:
    """The parameters side by side, with the frontiers that they come to."""
    rows: list[tuple[str, ...]] = []
    places = dict.fromkeys(term.of for term in p.terms)
    many = not full and len(places) > PLACES
    for of in places:
        own = {term.name: term for term in p.terms if term.of == of}
        for term in own.values():
            label = f"{of} {_NAMES.get(term.name) or term.name.replace('_', ' ')}"
            if not many or term.present != term.proposed:
                rows.append((label, *(_value(term, value) for value in (term.present, term.proposed))))
        threshold, bonus = own.get("liquidation_threshold"), own.get("liquidation_bonus")
        if threshold and bonus and bonus.basis_points and not many:
            if full:
                rows.append((f"{of} threshold x (1 + bonus)", *_frontier(threshold, bonus)))
            rows.append((f"{of} liquidations do harm from a loan-to-value of", *_toxic(bonus)))
    if many and len(rows) > ROWS:
        rows[ROWS:] = [(f"... and {len(rows) - ROWS} more: --full", "", "")]
    moment = p.moment
    powers = (moment.power_before, moment.power_after)
    if full or powers[0] != powers[1]:
        label = f"Borrowing power at block {moment.block:,}, {p.currency}"
        rows.append((label, *(tables.money(power, p.decimals) for power in powers)))
    return Table(("", "present", "proposed"), tuple(rows))


def terms_said(p: Proposal) -> str:
    """The same as a sentence, present -> proposed where they differ."""
    rows = terms_table(p, full=False).rows
    said = (f"{label} {now}" if now == then else f"{label} {now} -> {then}" for label, now, then in rows)
    return f"{'; '.join(said)}."


def _value(term: Term, value: int | None) -> str:
    if value is None:
        return MISSING
    if not term.basis_points:
        return f"{value:,}"
    return f"{(value - BPS if term.name in ('liquidation_bonus', 'liquidation_penalty') else value) / 100:.2f} %"


def _frontier(threshold: Term, bonus: Term) -> Iterator[str]:
    for at, by in ((threshold.present, bonus.present), (threshold.proposed, bonus.proposed)):
        yield MISSING if at is None or by is None else f"{at * by / BPS / 100:.2f} %"


def _toxic(bonus: Term) -> Iterator[str]:
    for by in (bonus.present, bonus.proposed):
        yield MISSING if not by else f"{BPS * 100 / by:.2f} %"


def newly_table(p: Proposal, most: int) -> Table:
    """The largest accounts that the change makes liquidatable."""
    days, steps = p.moment.days, p.moment.steps
    rows = [
        (
            one.account,
            tables.money(one.debt, p.decimals),
            f"{one.health_before / WAD:.4f}",
            f"{one.health_after / WAD:.4f}",
            f"day {days * one.step // steps}",
        )
        for one in p.moment.newly[:most]
    ]
    more = len(p.moment.newly) - len(rows)
    if more > 0:
        rows.append((f"... and {more:,} more", "", "", "", ""))
    title = f"a {days}-day ramp\nof {steps} steps: safe until"
    return Table(("Newly liquidatable", "debt", "health", "then", title), tuple(rows))


def findings_table(p: Proposal, *, full: bool) -> Table:
    """One row a measure."""
    shown = p.findings if full else p.findings[:SHORT]
    wide = full or all(len(_cell(p, each.verdict.baseline, each.measure)) <= 10 for each in shown)

    def level(value: int | None, each: ProposalFinding) -> str:
        return _cell(p, value, each.measure) if wide else _compact(value, p, each.measure)

    rows = [
        (
            each.measure.label,
            level(each.verdict.history, each) if full else _compact(each.verdict.history, p, each.measure),
            level(each.verdict.baseline, each),
            level(each.proposed, each),
            _signed(p, each.verdict.effect, each.measure)
            if wide
            else _compact(each.verdict.effect, p, each.measure, sign=True),
            _range(p, _told(each), each.measure) if full else _compact_range(p, _told(each), each.measure),
            each.verdict.words,
        )
        for each in shown
    ]
    header = ("", "history", "present", "proposed", "effect", f"{LEVEL:.0%} interval", "verdict")
    return Table(header, tuple(rows), words=frozenset({6}))


def markets_table(p: Proposal) -> Table:
    """Of several markets what each comes to beside the others, in its own base currency; no rows of one market."""
    rows: list[tuple[str, ...]] = []
    for part in p.parts:
        rows.append((f"{part.market}, {part.currency}",))
        for each in part.findings[:SHORT]:
            levels = (each.verdict.history, each.verdict.baseline, each.proposed)
            rows.append(
                (
                    f"  {each.measure.label}",
                    *(_compact(value, part, each.measure) for value in levels),
                    _compact(each.verdict.effect, part, each.measure, sign=True),
                    _compact_range(part, _told(each), each.measure),
                    each.verdict.words,
                )
            )
    header = ("Of each", "history", "present", "proposed", "effect", f"{LEVEL:.0%} interval", "verdict")
    return Table(header, tuple(rows), words=frozenset({6}))


def shares_table(p: Proposal) -> Table:
    """Which share of the doubt in each effect (``PartedDoubt.shares``) is about single accounts, about the model and of
    chance, the range over users' responses, and the effect without the largest account.
    """
    rows = []
    for each in p.findings[:SHORT]:
        shares, band = each.doubt.shares, each.verdict.band.values()
        absent = {"accounts": None, "model": p.ensemble, "chance": each.doubt.random}
        cells = (
            f"{shares[part]:.0%}" if part in shares else MISSING if absent[part] in (None, True) else _ABSENT[part]
            for part in absent
        )
        users = _compact_range(p, (min(band), max(band)) if band else None, each.measure)
        without = (_compact(each.without_largest, p, each.measure, sign=True),) if p.largest is not None else ()
        rows.append((each.measure.label, *cells, users, *without))
    largest = (f"without {short(p.largest)}",) if p.largest is not None else ()
    return Table(("Doubt in the effect", "accounts", "model", "chance", "over users' responses", *largest), tuple(rows))


_ABSENT = {"model": "not known", "chance": "none"}


def doubts_table(p: Proposal) -> Table:
    """Where the doubt about each effect comes from, and how it changes: a row a measure, whose columns are fewer."""
    shown = p.findings
    columns: list[tuple[str, ...]] = [
        ("single accounts", *(_compact_range(p, each.doubt.accounts, each.measure) for each in shown)),
        (f"the model, {p.draws} draws", *(_compact_range(p, each.doubt.model, each.measure) for each in shown))
        if p.ensemble
        else ("the model", *("not known" for _ in shown)),
        (
            f"chance, {p.seeds} {'seed' if p.seeds == 1 else 'seeds'}",
            *(_compact_range(p, each.doubt.chance, each.measure) if each.doubt.random else "none" for each in shown),
        ),
    ]
    for response in p.responses:
        columns.append(
            (
                f"users {response}",
                *(_compact(each.verdict.band.get(response), p, each.measure, sign=True) for each in shown),
            )
        )
    if p.largest is not None:
        columns.append(
            (
                f"not {short(p.largest)}",
                *(_compact(each.without_largest, p, each.measure, sign=True) for each in shown),
            )
        )
    heads, cells = [column[0] for column in columns], [column[1:] for column in columns]
    rows = tuple((each.measure.label, *row) for each, row in zip(shown, zip(*cells, strict=True), strict=True))
    return Table(("Effect, by", *(head.replace(", ", "\n", 1).replace("users ", "users\n", 1) for head in heads)), rows)


def shocks_table(p: Proposal) -> Table:
    """A column for each fall of all that move: debt that is liquidatable then, and bad debt, present and proposed."""
    assets, shocks = list(p.asset_shocks().items())[-1]

    def cell(pair: tuple[int, int]) -> str:
        present, proposed = (_compact(value, p) for value in pair)
        return present if present == proposed else f"{present} -> {proposed}"

    return Table(
        (f"At once, {assets}", *(f"−{shock.fall / 100:g} %" for shock in shocks)),
        (("liquidatable", *(cell(shock.debt) for shock in shocks)), ("bad debt", *(cell(s.bad_debt) for s in shocks))),
    )


def shocks_tables(p: Proposal) -> Iterator[tuple[str, Table]]:
    """Of each set of assets a table: accounts, debt, what of it is liquidated, and bad debt, present and proposed."""
    header = (
        "Fall",
        "accounts",
        "\nproposed",
        "debt",
        "\nproposed",
        "liquidated",
        "\nproposed",
        "bad debt",
        "\nproposed",
    )
    for assets, shocks in p.asset_shocks().items():
        rows = []
        for shock in shocks:
            amounts = (*shock.debt, *(shock.repaid or (None, None)), *shock.bad_debt)
            cells = (*map(tables.count, shock.accounts), *(tables.money(value, p.decimals) for value in amounts))
            rows.append((f"−{shock.fall / 100:g} %", *cells))
        yield assets, Table(header, tuple(rows))


def front_table(search: Search, p: Proposal) -> Table:
    """The sets of a search that are not dominated, and the present and the proposed one."""
    on_front = {point.values for point in search.front()}
    named = {search.present: "present", search.proposed: "proposed"}
    shown = [(point, point.totals) for point in search.points if point.values in {*on_front, *named} and point.totals]
    shown.sort(key=lambda pair: (pair[1][search.loss], pair[1][search.against], pair[0].values))
    measures = list(dict.fromkeys((search.against, search.loss, "bad_debt", "borrower_loss")))
    labels = {measure.key: measure.label for measure in MEASURES}
    rows = [
        (
            named.get(point.values, "not dominated"),
            *(f"{value:,}" for value in point.values),
            *(tables.money(totals[key], p.decimals) for key in measures),
            "yes" if point.values in on_front else "no",
        )
        for point, totals in shown
    ]
    names = (name.replace(".", "\n").replace("_", "\n") for name in search.names)
    header = ("", *names, *(labels[key].replace(" ", "\n") for key in measures), "on the\nfront")
    return Table(header, tuple(rows))


def _cell(p: Proposal, value: int | None, measure: Measure) -> str:
    return tables.count(value) if measure.kind == "count" else tables.money(value, p.decimals)


def _told(each: ProposalFinding) -> Bounds | None:
    """The interval, where any of its parts is known."""
    parts = (each.doubt.accounts, each.doubt.model, each.doubt.chance)
    return None if all(part is None for part in parts) else each.verdict.interval


def _signed(p: Proposal, value: int, measure: Measure) -> str:
    text = _cell(p, value, measure).replace("-", "−")
    return f"+{text}" if value > 0 else text


def _range(p: Proposal, bounds: Bounds | None, measure: Measure) -> str:
    return MISSING if bounds is None else " to ".join(_signed(p, bound, measure) for bound in bounds)


def _compact_range(p: Proposal, bounds: Bounds | None, measure: Measure) -> str:
    if bounds is None:
        return MISSING
    if not any(bounds):
        return "0"
    return "..".join(_compact(bound, p, measure, sign=True) for bound in bounds)


def _compact(value: int | None, p: Proposal, measure: Measure = MEASURES[0], *, sign: bool = False) -> str:
    """Three digits and a letter for thousands, millions, ...: for looking at, not for calculating."""
    if value is None:
        return MISSING
    size = abs(value) / (1 if measure.kind == "count" else 10**p.decimals)
    if 0 < size < 0.995:
        text = f"{size:.2f}" if measure.kind == "money" else f"{size:.0f}"
    else:
        letter = ""
        for letter in ("", "k", "M", "bn", "tn"):  # noqa: B007
            if size < 999.5:
                break
            size /= 1000
        text = f"{size:.{max(0, 2 - max(0, len(str(int(size))) - 1))}f}" if letter else f"{size:.0f}"
        text += letter
    minus = "−" if value < 0 and text not in ("0", "0.00") else ""
    return f"+{text}" if sign and value > 0 and text not in ("0", "0.00") else f"{minus}{text}"


COUNTS = frozenset(measure.key for measure in MEASURES if measure.kind == "count")
"""Measures that are numbers, not amounts."""
