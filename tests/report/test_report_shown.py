"""What a person sees: units beside numbers, names that differ, tables that fit, charts that are not blank."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from jinja2 import Environment, PackageLoader

from backtest.cli import main
from backtest.report import select, tables, write_report
from backtest.report.charts import RUN_COLOURS, RUN_DASHES, THEME, Charts
from backtest.report.selection import printable
from backtest.report.tables import Table
from backtest.scenario import (
    Competitive,
    English,
    Override,
    Participation,
    PriorityGas,
    Scenario,
    SealedBid,
)
from tests.support import made_up_runs


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        (Scenario(liquidators=PriorityGas(private_cost=2_000_000_000)), "private cost up to 20.00 USD"),
        (Scenario(liquidators=Participation(mean=3000)), "mean 0.3"),
        (Scenario(liquidators=SealedBid(front_run=250)), "front run 2.5\u00a0%"),
        (Scenario(liquidators=Competitive(), mechanism=English(beg=10_300, ttl=60)), "(beg 3\u00a0%, ttl 60 s)"),
        (
            Scenario(liquidators=Competitive(), overrides=(Override(parameter="dust", value=500),)),
            "dust of every asset = 500 whole tokens",
        ),
        (
            Scenario(liquidators=Competitive(), overrides=(Override(parameter="ttl", change=-60),)),
            "ttl of every asset − 60 seconds",
        ),
        (
            Scenario(liquidators=Competitive(), overrides=(Override(parameter="ltv", value=80),)),
            "ltv of every asset = 0.80\u00a0%",
        ),
    ],
)
def test_numbers_of_a_scenario_have_units(scenario: Scenario, said: str) -> None:
    assert said in tables.describe(scenario.canonical(), 8, "USD", {})


def test_health_has_a_plain_column(tmp_path: Path) -> None:
    lake = made_up_runs.make_lake(tmp_path / "lake")
    rows = lake.sql("SELECT health_before, health_factor_before FROM run_liquidations").fetchall()
    assert rows
    assert all(0 < plain < 2 and plain == pytest.approx(int(exact) / 1e18) for exact, plain in rows)


def test_models_that_share_a_name_are_told_apart(tmp_path: Path) -> None:
    models = (Competitive(), PriorityGas(), SealedBid(), Participation())
    scenarios = (Scenario(), *(Scenario(name="baseline", liquidators=model) for model in models))
    lake = made_up_runs.make_lake(tmp_path / "lake", scenarios=scenarios)
    assert set(tables.labels_of(select(lake).runs)) == {
        "history",
        "baseline (competitive)",
        "baseline (priority-gas)",
        "baseline (sealed-bid)",
        "baseline (participation)",
    }


@pytest.mark.slow
def test_names_of_older_lakes_do_not_break_the_page(tmp_path: Path) -> None:
    assert printable([{"a": "x\x01\x1b[31m", "b": 1}]) == [{"a": "x\\x01\\x1b[31m", "b": 1}]
    lake = made_up_runs.make_lake(tmp_path / "lake", name="bad\x01name")
    write_report(lake, [], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "bad\\x01name" in page
    assert "\x01" not in page


def test_tables_fit_the_terminal() -> None:
    wide = Table(
        ("Parameters", *(f"Measure {i}" for i in range(12))),
        (("WETH.liquidation_threshold=8000, " * 6, *(f"{i:,}" * 2 for i in range(12))), ("a title",)),
    )
    for width in (80, 100, 230):
        text = tables.as_text(wide, width)
        assert max(map(len, text.split("\n"))) <= width
        for i in range(12):
            assert text.count(f"Measure {i}\n") + text.count(f"Measure {i} ") == 1


def drawn_widths(spec: Mapping[str, Any], runs: Sequence[str]) -> list[float]:
    """The width of each run's line in the picture, of the first panel."""
    picture = vl_convert.vegalite_to_svg({**spec, "config": THEME})
    lines = re.findall(r'aria-label="[^"]*; run: (\w+);[^"]*"[^>]*"line mark"[^>]*stroke-width="([\d.]+)"', picture)
    found = {run: float(width) for run, width in reversed(lines)}
    return [found[run] for run in runs]


@pytest.mark.parametrize("count", [2, 5, 12])
def test_lines_that_agree_can_each_be_seen(count: int) -> None:
    runs = tuple(f"run{place}" for place in range(count))
    charts = Charts(runs, "USD", 0, 100)
    rows = [{"run": run, "bin": time, "bad_debt_usd": 1.0, "deficit_usd": 0.0} for run in runs for time in (0, 50)]
    widths = drawn_widths(charts.bad_debt(rows), runs)
    assert widths == sorted(set(widths), reverse=True)  # those below are wider
    assert widths[-1] == 1.5


def test_a_single_point_is_drawn() -> None:
    charts = Charts(("baseline", "alternative"), "USD", 0, 100)
    rows = [{"run": run, "bin": 0, "bad_debt_usd": 1.0, "deficit_usd": 0.0} for run in ("baseline", "alternative")]
    assert charts.bad_debt(rows)["vconcat"][0]["mark"]["point"] is True
    assert charts.bad_debt([*rows, *({**row, "bin": 50} for row in rows)])["vconcat"][0]["mark"]["point"] is False


def test_a_dozen_runs_have_colours_of_their_own() -> None:
    assert len(set(RUN_COLOURS)) == len(RUN_COLOURS) == 12
    pairs = {(RUN_COLOURS[i % len(RUN_COLOURS)], str(RUN_DASHES[i % len(RUN_DASHES)])) for i in range(84)}
    assert len(pairs) == 84


@pytest.mark.parametrize(("other", "end"), [(600, 600), (0, 12)])
def test_what_is_taken_at_once_is_a_line_too(other: int, end: int) -> None:
    charts = Charts(("fast", "slow"), "USD", 0, 100)
    rows = [
        {"run": "fast", "seconds": 0, "taken_share": 1.0, "open_share": 0.0},
        {"run": "slow", "seconds": other, "taken_share": 0.5, "open_share": 0.5},
    ]
    shown = charts.time_to_liquidation(rows)["data"]["values"]
    reach = {run: max(row["seconds"] for row in shown if row["run"] == run) for run in ("fast", "slow")}
    assert reach == {"fast": end, "slow": end}


def test_every_line_of_a_header_and_text_columns_are_shown(tmp_path: Path) -> None:
    table = Table(("", "one step\nall alarms\nall accounts", "Cause"), (("a", "1", "its owner acted"),), frozenset({2}))
    assert [line.split() for line in tables.as_text(table).splitlines()[:3]] == [
        ["one", "step", "Cause"],
        ["all", "alarms"],
        ["all", "accounts"],
    ]
    assert tables.as_text(table).splitlines()[-1].endswith("  its owner acted")
    page = Environment(loader=PackageLoader("backtest", "report"), autoescape=True).from_string(
        "{% from 'parts.html' import grid %}{{ grid(table, 'a caption') }}"
    )
    shown = page.render(table=table)
    assert "<small>all alarms</small><small>all accounts</small>" in shown
    assert '<td class="words">its owner acted</td>' in shown
    assert "<caption><span>a caption</span></caption>" in shown
    narrow = Table(("", "x"), (("WETH.liquidation_threshold=8300", "1"),))
    shown = page.render(table=narrow)
    assert "WETH.liquidation_<wbr>threshold=8300<" in shown  # a line ends between words before it ends in a number


@pytest.mark.slow
def test_first_columns_of_a_narrow_page_keep_their_words(tmp_path: Path) -> None:
    lake = made_up_runs.make_lake(tmp_path / "lake")
    write_report(lake, [], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "tbody th { font-weight: 400; overflow-wrap: anywhere; min-width: min(12rem, 42vw); }" in page
    assert "@media (max-width: 40rem)" in page


def test_intervals_of_shares_stay_within_0_and_1(tmp_path: Path) -> None:
    scenarios = (Scenario(), *(Scenario(name="b", liquidators=model) for model in (SealedBid(), Participation())))
    lake = made_up_runs.make_lake(tmp_path / "lake", scenarios=scenarios)
    rows = lake.sql("SELECT low, high FROM bid_share WHERE low IS NOT NULL").fetchall()
    assert rows
    assert all(0 <= low <= high <= 1 for low, high in rows)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"bidders\n\xff\n", "is not UTF-8"),
        ("bidders\n１\n".encode(), "bidders is '１'; give a number of 0 or more"),
        (b"bidders\n1.5\n", "give a whole number below 2^63"),
        (b"bidders\n" + b"9" * 5000 + b"\n", "give a number of 0 or more"),
        (b"bidders\nnan\n", "bidders is 'nan'"),
        (b"bidders\n1,2,3\n", "more fields than columns"),
        (b'bidders\n"' + b"x" * 200_000 + b'"\n', "a.csv line 2: bidders is 'xxx"),
        (b"bidders\n\x00\n", "NUL"),
    ],
)
def test_a_csv_file_that_is_none_ends_in_one_line(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(SystemExit) as end:
        main(["calibrate", "participation", str(tmp_path / "a.csv")])
    line = capsys.readouterr().err
    assert (end.value.code, line.count("\n")) == (2, 1), line
    assert said in line


def test_devices_are_not_read_as_csv(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["calibrate", "participation", "/dev/zero"])
    assert "is not a regular file" in capsys.readouterr().err


def test_a_mean_of_nobody_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["calibrate", "participation", "--mean", "0", "--none-share", "0.2"])
    assert end.value.code == 2
    assert json.dumps(capsys.readouterr().err).count("\\n") == 1
