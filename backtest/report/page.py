"""The page: one HTML file that loads nothing, with its charts as pictures, and live where scripts may run."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from backtest.report import joint, notes, tables, validation
from backtest.report import queries as q
from backtest.report.charts import RUN_COLOURS, THEME, Charts, Spec
from backtest.report.comparison import CRITERION, Comparison
from backtest.report.competition import CompetitionSection
from backtest.report.selection import Row, Selection
from backtest.version import VERSION

_RATES = "Dot: share. Line: its 95 % interval, Wilson's for counts, a bootstrap over accounts for debt."
_EPISODES = 60
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


@dataclass(frozen=True, slots=True)
class CaptionedChart:
    """A chart with its words: ``spec`` is Vega-Lite, ``picture`` the same as SVG in a data address. No spec: ``empty``
    says why.
    """

    title: str
    caption: str
    spec: Spec | None
    picture: str = ""
    empty: str = ""

    @property
    def script(self) -> str:
        """The specification as JSON that may stand inside a script element."""
        return json.dumps(self.spec, separators=(",", ":")).replace("<", "\\u003c")


def write_runs(selection: Selection, path: Path, *, chain_id: int) -> None:
    """The page of a selection of runs."""
    comparison = Comparison(selection)
    labels = comparison.labels
    competition = CompetitionSection.of(selection, labels)
    symbols = {
        row["asset"]: row["label"] for row in selection.fill("SELECT asset, label FROM assets WHERE market = $market")
    }
    runs = [
        {
            **run,
            "label": label,
            "words": tables.describe(run["scenario"], selection.decimals, selection.currency, symbols),
            "colour": RUN_COLOURS[i % len(RUN_COLOURS)],
            "from_time": tables.moment(run["from_timestamp"]),
            "to_time": tables.moment(run["to_timestamp"]),
        }
        for i, (run, label) in enumerate(zip(selection.runs, labels, strict=True))
    ]
    fill_in(
        "page.html",
        path,
        selection=selection,
        chain_id=chain_id,
        runs=runs,
        main=selection.main,
        main_label=labels[selection.runs.index(selection.main)],
        start=tables.moment(selection.start),
        end=tables.moment(selection.end),
        digests=list(dict.fromkeys(run["lake_digest"] for run in selection.runs)),
        rules=list(dict.fromkeys(run["rules_version"] for run in selection.runs)),
        comparison=comparison.liquidations(),
        losses=comparison.losses(),
        verdicts=[(judged, answer_first(comparison.verdict_table(judged))) for judged in comparison.judged],
        criterion=CRITERION,
        remarks=comparison.remarks(),
        flags=tables.data_flags(selection.runs),
        effects=draw(effects(comparison, _charts(selection, labels))),
        validation=ValidationSection.of(selection),
        joints=joint.sections(selection),
        competition=competition,
        contests=[draw(figure) for figure in contests(competition, _charts(selection, labels))],
        pairs=tables.pairs(selection),
        largest=tables.largest(selection),
        figures=[draw(figure) for figure in figures(selection, labels)],
        notes=notes(selection.runs),
    )


def answer_first(table: tables.Table) -> tables.Table:
    """The last column, which is words, right behind the first: on narrow screens the others are scrolled to."""

    def moved(cells: tuple[str, ...]) -> tuple[str, ...]:
        return cells[0], cells[-1], *cells[1:-1]

    return tables.Table(moved(table.header), tuple(map(moved, table.rows)), words=frozenset({1}))


def fill_in(template: str, path: Path, **values: object) -> None:
    """Write a template, filled in with these values and with what every page needs; folders are made."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(str(files("backtest.report"))), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template(template).render(version=VERSION, library=library(), **values)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class ValidationSection:
    """The page's part on how well the model tells history; ``held`` says how a stated range of prices fares against
    what the chain accepted; ``rest`` is how many of the episodes without a match are not shown.
    """

    name: str
    run_id: str
    held: str
    figures: tables.Table
    causes: tables.Table
    episodes: tables.Table
    rest: int
    figure: CaptionedChart
    notes: list[str]

    @classmethod
    def of(cls, selection: Selection) -> ValidationSection | None:
        """From the newest validation of the page's data; None where there is none."""
        rows = validation.latest(selection)
        if not rows:
            return None
        episodes = validation.episodes_of(selection, rows[0]["run_id"])
        apart = [row for row in episodes if row["outcome"] != "hit" and row["mode"] == "one-step"]
        apart.sort(key=lambda row: (row["outcome"] != "miss", not row["throughout"], row["number"]))
        shown, ranged = validation.told(rows), rows[0]["accepted"] is not None
        drawn = draw(CaptionedChart("Recall and precision", _RATES, Charts.rates(validation.chart_rows(shown))))
        return cls(
            name=rows[0]["name"],
            run_id=rows[0]["run_id"],
            held=validation.range_sentence(rows[0]),
            figures=validation.figures_table(shown),
            causes=validation.causes_table(episodes, ranged=ranged),
            episodes=validation.episodes_table(apart[:_EPISODES], selection.decimals, ranged=ranged),
            rest=max(0, len(apart) - _EPISODES),
            figure=drawn,
            notes=json.loads(rows[0]["notes"]),
        )


def effects(comparison: Comparison, charts: Charts) -> CaptionedChart:
    """The verdicts as a chart, not yet drawn."""
    title, scale = "Effects, intervals and bands", 10**comparison.selection.decimals
    rows = []
    for judged in comparison.judged:
        for each in judged.verdicts:
            divisor = scale if each.measure.kind == "money" else 1
            whole = judged.missing == ()
            ends: dict[str, int | None] = {
                "effect": each.effect,
                "low": each.interval[0],
                "high": each.interval[1],
            }
            ends |= {
                "band_low": min(each.band.values()) if whole else None,
                "band_high": max(each.band.values()) if whole else None,
            }
            error = each.difference_error
            ends |= {"error_low": None if error is None else -error, "error_high": error}
            shown = {key: None if value is None else value / divisor for key, value in ends.items()}
            rows.append(
                {
                    "run": judged.label,
                    "measure": each.measure.label,
                    "kind": each.measure.kind,
                    "words": each.words,
                    **shown,
                }
            )
    caption = (
        "Dot: effect against the baseline. Line: its 95 % interval. Coloured bar: range over the users' responses,"
        " where all are stored. Grey bar: the replay's own error, the distance of the baseline from history, where it"
        " is known."
    )
    return CaptionedChart(
        title, caption, charts.effects(rows) if rows else None, empty="No run has a baseline to be compared with."
    )


def contests(competition: CompetitionSection | None, charts: Charts) -> list[CaptionedChart]:
    """The figures of who liquidates at what price, not yet drawn; none without opportunities."""
    if competition is None:
        return []
    bids, waterfall = competition.bids, competition.waterfall
    return [
        CaptionedChart(
            "Where the bonus goes",
            "What liquidations give away, then what becomes of it: each bar begins where the one above ends, and the"
            " rent is what is left.",
            charts.waterfall(waterfall) if waterfall else None,
            empty="No opportunity was taken.",
        ),
        CaptionedChart(
            "How fast opportunities are taken",
            "Share of all opportunities that somebody had taken by then. Those that expired stay untaken; those open at"
            " the end of the window count for as long as they were seen (Aalen-Johansen).",
            charts.time_to_liquidation(competition.curve),
        ),
        CaptionedChart(
            "What the winner bids",
            "Dot: mean of bid over value, where the value is above zero. Line: its 95 % interval (Student's t), none"
            " where there was one contest.",
            charts.bid_share(bids) if bids else None,
            empty="Nobody bids in these runs.",
        ),
    ]


def _charts(selection: Selection, labels: Sequence[str]) -> Charts:
    return Charts(tuple(labels), selection.currency, selection.start, selection.end)


def figures(selection: Selection, labels: Sequence[str]) -> list[CaptionedChart]:
    """Every figure of the page but the verdicts', not yet drawn."""
    names = dict(zip((run["run_id"] for run in selection.runs), labels, strict=True))

    def rows(text: str) -> list[Row]:
        found = [{"run": names[row.pop("run_id")], **row} if "run_id" in row else row for row in selection.fill(text)]
        places = {label: place for place, label in enumerate(labels)}
        # Later runs are drawn above earlier ones.
        return sorted(found, key=lambda row: places.get(row.get("run", ""), 0))

    charts = _charts(selection, labels)
    every = duration(selection.step)
    timeline, totals = rows(q.TIMELINE), rows(q.TOTALS)
    by_collateral, concentration, health = rows(q.BY_COLLATERAL), rows(q.CONCENTRATION), rows(q.HEALTH)
    none, unsampled = "No run liquidated anything in this window.", "These runs stored no totals over time."
    sampled = f"Valued at oracle prices, at the last sampled block of bins of {every}."
    indebted = any(row["bad_debt_usd"] or row["deficit_usd"] for row in totals)
    some = any(row["liquidations"] for row in timeline)
    answered = rows(q.ANSWERED)
    with_and_without = CaptionedChart(
        "Prices with and without what was sold",
        f"The lowest of bins of {every}. History's path is the one without; where nothing is netted out it holds"
        " history's own impact as well.",
        charts.answered(answered) if answered else None,
    )
    return [
        *([with_and_without] if answered else []),
        CaptionedChart(
            "Prices and liquidations over time",
            f"A bar is {every} wide; all runs have the same scale.",
            charts.prices_and_liquidations(selection.fill(q.PRICES), timeline, selection.step, every),
        ),
        CaptionedChart(
            "Debt liquidated since the start",
            "Debt repaid by liquidators, valued at the oracle price of each liquidation.",
            charts.cumulative(timeline) if some else None,
            empty=none,
        ),
        CaptionedChart(
            "Liquidations by collateral asset",
            "Debt repaid, by the collateral that liquidators took for it.",
            charts.by_collateral(by_collateral) if some else None,
            empty=none,
        ),
        CaptionedChart("Collateral and debt", sampled, charts.totals(totals) if totals else None, empty=unsampled),
        CaptionedChart(
            "Bad debt and deficits",
            sampled,
            charts.bad_debt(totals) if indebted else None,
            empty="No run had bad debt or a deficit at any sampled block." if totals else unsampled,
        ),
        CaptionedChart(
            "How concentrated the liquidations were",
            "A line that starts high means that a few accounts made up most of the debt repaid.",
            charts.concentration(concentration) if some else None,
            empty=none,
        ),
        CaptionedChart(
            "How far below the threshold accounts were",
            "Debt repaid by the account's health factor just before each liquidation.",
            charts.health(health) if health else None,
            empty="No run recorded a health factor.",
        ),
    ]


def duration(seconds: int) -> str:
    """A time bin in words: 300 is '5 minutes'."""
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            number = seconds // size
            return f"{number} {name}" if number == 1 else f"{number} {name}s"
    return f"{seconds} seconds"


def draw(figure: CaptionedChart) -> CaptionedChart:
    """The figure with its picture."""
    if figure.spec is None:
        return figure
    import vl_convert

    spec = {**figure.spec, "config": THEME}
    svg = _numbered(vl_convert.vegalite_to_svg({"$schema": _SCHEMA, **spec}))
    picture = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return CaptionedChart(figure.title, figure.caption, spec, picture)


def _numbered(svg: str) -> str:
    """An SVG whose gradients and clips are numbered from 0: Vega counts on through a process, and the same page is the
    same bytes.
    """
    places: dict[str, int] = {}
    named = re.compile(r"\b(gradient_|clip)(\d+)\b")
    return named.sub(lambda found: f"{found[1]}{places.setdefault(found[0], len(places))}", svg)


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, its links to their sites cut to paths (the page may load nothing
    anyway).
    """
    import vl_convert

    script: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub is wrong
    return re.sub(r"https://(?:vega\.github\.io|github\.com)", "", script).replace("</script", "<\\/script")
