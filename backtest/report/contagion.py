"""What connects several markets, as text and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import wrap
from typing import Any

from backtest.report import tables
from backtest.report.charts import Spec
from backtest.report.page import CaptionedChart, draw, fill_in
from backtest.report.tables import MISSING, Table, count, money
from backtest.report.text import WIDTH

FACTS = (
    "The books are the exact ones of that moment, liquidated by the protocols' own rules: by frictionless liquidators,"
    " at once, of each account again and again until nothing pays at the prices of the round.",
    "The oracle is the market, and what is sold stays sold: prices only fall. What goes into an auction counts as sold;"
    " what an auction loses does not count. Alone, no other market sells, and no claim on another loses.",
    "A loss of a market is borne by all its depositors alike, those among them whose deposits are collateral"
    " elsewhere.",
    "Overlap, risk index and the linear round (Cont and Schaanning 2019; Greenwood, Landier and Thesmar 2015) are"
    " measures in linear form: depth is a hundred times what lowers a price by one per cent. They check and rank; the"
    " losses above are those of the rules.",
    "DebtRank (Battiston et al. 2012): what others take over of one market's failure, through their claims on it, each"
    " passing on once; equity is collateral less debt.",
)
Row = Mapping[str, Any]


def as_text(found: Sequence[Row], rounds: int, said: Sequence[str]) -> str:
    """The whole for a terminal."""
    lines = [_title(found), *wrap(lead(found, rounds), WIDTH)]
    for title, table in shown(found):
        lines += ["", title, tables.as_text(table)]
    lines += ["", "What it assumes"]
    for fact in (*said, *FACTS):
        lines += wrap(fact, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)


def write_page(found: Sequence[Row], rounds: int, said: Sequence[str], path: Path) -> None:
    """The same as one offline page, with the overlap as a heat map."""
    fill_in(
        "contagion.html",
        path,
        title=_title(found),
        lead=lead(found, rounds),
        tables=shown(found),
        heat=draw(_heat(found)),
        facts=(*said, *FACTS),
    )


def lead(found: Sequence[Row], rounds: int) -> str:
    """When, what, and what comes of it."""
    first = found[0]
    when = datetime.fromtimestamp(first["timestamp"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    together, alone = (sum(_of(found, name).values()) for name in ("loss", "loss alone"))
    unit, decimals = first["currency"], first["decimals"]
    return (
        f"At {when} UTC. Together the markets lose {money(together, decimals)} {unit} in {rounds}"
        f" round{'s' * (rounds != 1)}, each alone"
        f" {money(alone, decimals)} in all: {money(together - alone, decimals)} comes of what connects them."
    )


def shown(found: Sequence[Row]) -> list[tuple[str, Table]]:
    """Titles and tables; those of which there is nothing are left out."""
    made = [
        ("Losses", _losses(found)),
        ("What is spared without one of them", _spared(found)),
        ("Liquidity-weighted overlap: what the row loses where the column sells", _overlap(found)),
        ("One linear round, parts of equity", _linear(found)),
        ("Owners in several markets", _owners(found)),
        ("Claims of one market on another", _claims(found)),
        ("Runs on deposits", _runs(found)),
    ]
    return [(title, table) for title, table in made if table.rows]


def _title(found: Sequence[Row]) -> str:
    return f"Contagion between {', '.join(_names(found))}"


def _names(found: Sequence[Row]) -> list[str]:
    return [row["subject"] for row in found if row["measure"] == "debt"]


def _of(found: Sequence[Row], measure: str) -> dict[str, Any]:
    """Amount or number by subject."""
    return {row["subject"]: _value(row) for row in found if row["measure"] == measure}


def _pairs(found: Sequence[Row], measure: str) -> dict[tuple[str, str], Any]:
    return {(row["subject"], row["other"]): _value(row) for row in found if row["measure"] == measure}


def _value(row: Row) -> Any:
    return row["number"] if row["amount_base"] is None else int(row["amount_base"])


def _losses(found: Sequence[Row]) -> Table:
    decimals = found[0]["decimals"]
    debt, lost, alone, repaid, accounts = (
        _of(found, name) for name in ("debt", "loss", "loss alone", "repaid", "accounts liquidated")
    )
    rows = [
        (
            name,
            money(debt[name], decimals),
            count(int(accounts[name])),
            money(repaid[name], decimals),
            money(lost[name], decimals),
            money(alone[name], decimals),
            money(lost[name] - alone[name], decimals),
        )
        for name in _names(found)
    ]
    header = ("Market", "Debt", "Accounts\nliquidated", "Repaid", "Lost", "alone", "By the others")
    return Table(header, tuple(rows))


def _spared(found: Sequence[Row]) -> Table:
    decimals, start = found[0]["decimals"], "spared without "
    rows = [
        (row["subject"], row["measure"].removeprefix(start), money(_value(row), decimals))
        for row in found
        if row["measure"].startswith(start)
    ]
    return Table(("Left out", "Kind", "Spared"), tuple(rows), words=frozenset({1}))


def _overlap(found: Sequence[Row]) -> Table:
    names, pairs, index = _names(found), _pairs(found, "overlap"), _of(found, "risk index")
    if not any(pairs.values()):
        return Table((), ())
    decimals = found[0]["decimals"]
    rows = [
        (one, *(money(round(pairs[one, other]), decimals) for other in names), f"{index[one]:.3f}") for one in names
    ]
    return Table(("Market", *names, "Risk index"), tuple(rows))


def _linear(found: Sequence[Row]) -> Table:
    measures = ("direct loss of equity", "indirect loss of equity", "systemicness")
    columns = [_of(found, name) for name in measures]
    if not any(value for column in columns for value in column.values()):
        return Table((), ())
    rows = [(name, *(_share(column[name]) for column in columns)) for name in _names(found)]
    whole = _of(found, "aggregate vulnerability")["all"]
    return Table(("Market", "Direct", "By all sales", "Of all, by its sales"), (*rows, ("All", "", "", _share(whole))))


def _owners(found: Sequence[Row]) -> Table:
    decimals = found[0]["decimals"]
    common = [
        (f"{one} and {other}", "the smaller of each owner's", money(value, decimals))
        for (one, other), value in _pairs(found, "debt of common owners").items()
        if value
    ]
    largest = [
        (owner, market, money(value, decimals))
        for (owner, market), value in _pairs(found, "debt of a common owner").items()
    ]
    return Table(("Owner", "Market", "Debt"), (*common, *largest), words=frozenset({1}))


def _claims(found: Sequence[Row]) -> Table:
    decimals, ranks = found[0]["decimals"], _pairs(found, "debt rank")
    rows = [
        (f"{whose} on {on}", money(value, decimals), _share(ranks.get((whose, on))))
        for (whose, on), value in _pairs(found, "claim").items()
    ]
    return Table(("Claim", "Behind debt", "Taken over\nwhere it fails"), tuple(rows))


def _runs(found: Sequence[Row]) -> Table:
    decimals = found[0]["decimals"]
    after, withheld, now, then = (
        _pairs(found, name)
        for name in (
            "utilisation after a run", "withheld in a run", "cannot be paid out", "cannot be paid out in a run",
        )
    )  # fmt: skip
    rows = [
        (
            " ".join(place),
            *map(_share, (value, after[place], withheld[place])),
            *(money(column[place], decimals) for column in (now, then)),
        )
        for place, value in _pairs(found, "utilisation").items()
    ]
    header = ("Asset", "Utilisation", "after the run", "Withheld", "Collateral that\ncannot be paid", "after the run")
    return Table(header, tuple(rows))


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1%}"


def _heat(found: Sequence[Row]) -> CaptionedChart:
    values = [
        {"loses": one, "sells": other, "value": value / 10 ** found[0]["decimals"]}
        for (one, other), value in _pairs(found, "overlap").items()
    ]
    names = _names(found)
    spec: Spec = {
        "data": {"values": values},
        "mark": {"type": "rect"},
        "width": max(120, 60 * len(names)),
        "height": max(120, 40 * len(names)),
        "encoding": {
            "x": {"field": "sells", "type": "nominal", "sort": names, "title": "Sells all that it holds"},
            "y": {"field": "loses", "type": "nominal", "sort": names, "title": "Loses"},
            "color": {"field": "value", "type": "quantitative", "title": found[0]["currency"]},
            "tooltip": [{"field": field, "type": "nominal"} for field in ("loses", "sells")]
            + [{"field": "value", "type": "quantitative", "format": ",.0f"}],
        },
    }
    caption = "What each market loses where another sells all collateral that stands behind its debt, in linear form."
    return CaptionedChart("Overlap", caption, spec if any(row["value"] for row in values) else None)
