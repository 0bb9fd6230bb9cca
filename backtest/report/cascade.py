"""The cascade map of a market as text, as JSON's plain values and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import wrap
from typing import Any

from backtest.report import tables
from backtest.report.charts import WIDTH as CHART_WIDTH
from backtest.report.charts import Spec
from backtest.report.page import CaptionedChart, draw, fill_in
from backtest.report.tables import MISSING, Table, money
from backtest.report.text import WIDTH
from backtest.units import RAY

FACTS = (
    "The book is the exact one of that moment, liquidated by the protocol's own rules: by frictionless liquidators, at"
    " once, of each account again and again until nothing pays at oracle prices. What they would leave because the sale"
    " itself loses too much is sold here all the same, so that replays fall less far.",
    "The oracle is the market: no delay, no deviation. One asset falls at a time, with those that are sold as it.",
    "What is sold stays sold until all is over: nobody buys meanwhile, whatever half-life the scenario has.",
    "Slopes are between neighbouring levels: an account that is large beside the depth makes a step that is as steep as"
    " the levels are close.",
)
Row = Mapping[str, Any]


def as_text(found: Row) -> str:
    """The whole for a terminal."""
    lines = [_title(found), *wrap(_lead(found), WIDTH)]
    for asset in found["assets"]:
        lines += ["", asset["symbol"]]
        for line in _lines(asset):
            lines += wrap(line, WIDTH, initial_indent="  ", subsequent_indent="  ")
        lines += ["", tables.as_text(_shocks(asset)), "", tables.as_text(_levels(asset, found, 500))]
    lines += ["", "What it assumes"]
    for fact in FACTS:
        lines += wrap(fact, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)


def cascade_lines(rows: Sequence[Row], symbols: Mapping[str, str]) -> list[str]:
    """Printed lines on the cascades of a run (rows of ``run_cascades``), and the worst of each asset; none without."""
    if not rows:
        return []
    each = {row["cascade"]: row for row in rows}.values()  # what is of all assets stands in every row
    made, endogenous, repaid, part = (
        sum(int(row[name]) for row in each)
        for name in ("liquidations", "endogenous_liquidations", "repaid_base", "endogenous_repaid_base")
    )
    share = f" ({100 * part / repaid:.0f} % of their debt)" if endogenous else ""
    lines = [f"  cascades      {len(each):,}: {made:,} liquidations that sold, {endogenous:,} endogenous{share}"]
    for asset in sorted({row["asset"] for row in rows}, key=lambda address: symbols.get(address, address)):
        own = [row for row in rows if row["asset"] == asset and row["oracle_before"] and row["history_before"]]
        worst = min(own, key=lambda row: row["oracle_low"] / row["oracle_before"], default=None)
        if worst is not None:
            fell, then = (1 - float(worst[f"{of}_low"] / worst[f"{of}_before"]) for of in ("oracle", "history"))
            lines.append(
                f"    {symbols.get(asset, asset):<11} at worst its oracle fell by {100 * fell:.2f} %, history's by"
                f" {100 * then:.2f} %; {worst['rounds']:,} rounds that history did not have"
            )
    return lines


def write_page(found: Row, path: Path) -> None:
    """The same as one offline page with charts."""
    assets = [
        {
            "number": number,
            "name": asset["symbol"],
            "lines": _lines(asset),
            "shocks": _shocks(asset),
            "levels": _levels(asset, found, 100),
            "figures": [draw(figure) for figure in _figures(asset)],
        }
        for number, asset in enumerate(found["assets"])
    ]
    fill_in("cascade.html", path, title=_title(found), lead=_lead(found), assets=assets, facts=FACTS)


def _title(found: Row) -> str:
    return f"Cascade map of {found['market']}"


def _lead(found: Row) -> str:
    when = datetime.fromtimestamp(found["timestamp"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    debt = money(found["debt_base"], found["base_decimals"])
    return (
        f"At the end of block {found['block']} ({when} UTC): {found['accounts']:,} accounts with"
        f" {debt} {found['base_currency']} of debt. Scenario: {found['scenario']}."
    )


def _lines(asset: Row) -> list[str]:
    ruptured = asset["rupture"]
    critical = asset["critical"]
    lines = [
        asset["said"],
        f"Price {asset['price']:,.8g}; {asset['depth']:,.6g} can be sold until it is 2 % lower.",
        "The map ruptures nowhere on these levels: each fall sets off less than itself."
        if ruptured is None
        else f"The map ruptures at a fall of {_fall(ruptured['left'])}: there a further fall sets off"
        f" {ruptured['slope']:.2f} times itself.",
        "No depth is enough: some account's sale is a step on its own."
        if critical is None
        else f"Critical liquidity: {critical:,.4g} times the stated depth, {asset['depth'] * critical:,.6g} within 2 %."
        if critical
        else "A millionth of the stated depth is enough."
        if any(level["sold"]["amount"] for level in asset["levels"])
        else "Any depth is enough: nothing is sold on these levels.",
    ]
    if asset["with_it"]:
        lines.insert(1, f"With it falls what is sold as it: {', '.join(asset['with_it'])}.")
    return lines


def _fall(left: int) -> str:
    return f"{(RAY - left) * 100 / RAY:.2f} %"


def _shocks(asset: Row) -> Table:
    rows = tuple(
        (
            f"{point['shock'] / 100:g} %",
            _fall(point["left"]),
            f"{point['amplification']:.3f}",
            str(point["rounds"]),
            f"{point['sold']['amount'] / asset['unit']:,.6g}",
            f"{point['sold']['accounts']:,}",
        )
        for point in asset["points"]
    )
    return Table(("Shock", "Fall in all", "Amplification", "Rounds", "Sold", "Accounts"), rows)


def _levels(asset: Row, found: Row, every: int) -> Table:
    rows = []
    for level in asset["levels"]:
        fall = (RAY - level["left"]) * 10_000 // RAY
        if level["sold"]["amount"] and (fall % every == 0 or level == asset["rupture"]):
            slope = level["slope"]
            rows.append(
                (
                    _fall(level["left"]),
                    f"{level['sold']['accounts']:,}",
                    money(level["sold"]["repaid_base"], found["base_decimals"]),
                    f"{level['sold']['amount'] / asset['unit']:,.6g}",
                    _fall(level["answered"]),
                    MISSING if slope is None else f"{slope + 0.0:.3f}",
                )
            )
    return Table(
        ("Price lower by", "Liquidatable\naccounts", "Debt repaid", "Sold", "Sales lower it\nfurther by", "Slope"),
        tuple(rows),
    )


def _figures(asset: Row) -> list[CaptionedChart]:
    points = [
        {
            "fall": (RAY - level["left"]) * 100 / RAY,
            "set_off": (RAY - level["answered"]) * 100 / RAY,
            "slope": level["slope"],
        }
        for level in asset["levels"]
    ]
    return [
        CaptionedChart(
            "What a fall sets off",
            "Fall of the price against the further fall that its sales bring.",
            line_chart(points, "set_off", "Sales lower it further by (%)"),
        ),
        CaptionedChart(
            "Slope of the map",
            "How much of itself each further fall sets off; above the line, at one, the map ruptures.",
            line_chart([point for point in points if point["slope"] is not None], "slope", "Slope", rule=1.0),
        ),
    ]


def line_chart(points: Sequence[Row], field: str, title: str, rule: float | None = None, height: int = 220) -> Spec:
    """Something against the fall of a price (``fall``, per cent); ``rule``: a level that is marked."""
    axes = {
        "x": {"field": "fall", "type": "quantitative", "title": "Price lower by (%)"},
        "y": {"field": field, "type": "quantitative", "title": title},
    }
    tooltip = [
        {"field": name, "title": words, "type": "quantitative", "format": ".3f"}
        for name, words in (("fall", "Price lower by (%)"), (field, title))
    ]
    layers: list[Spec] = [
        {
            "data": {"values": list(points)},
            "mark": {"type": "line", "point": True, "color": "#0072B2"},
            "encoding": {**axes, "tooltip": tooltip},
        }
    ]
    if rule is not None:
        layers.append(
            {
                "data": {"values": [{"level": rule}]},
                "mark": {"type": "rule", "strokeDash": [6, 4], "color": "#D55E00"},
                "encoding": {"y": {"field": "level", "type": "quantitative", "title": title}},
            }
        )
    return {"width": CHART_WIDTH, "height": height, "layer": layers}
