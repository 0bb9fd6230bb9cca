"""What a person sees: units beside numbers, names that differ, tables that fit, charts that are not blank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backtest.cli import main
from backtest.report import select, tables, write_report
from backtest.report.charts import Charts
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
from tests import made_up_runs


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


def test_lines_that_agree_can_both_be_seen_and_a_single_point_is_drawn() -> None:
    charts = Charts(("baseline", "alternative"), "USD", 0, 100)
    rows = [{"run": run, "bin": 0, "bad_debt_usd": 1.0, "deficit_usd": 0.0} for run in ("baseline", "alternative")]
    panel = charts.bad_debt(rows)["vconcat"][0]
    below, above = panel["encoding"]["strokeWidth"]["scale"]["range"]
    assert below > above
    assert panel["mark"]["point"] is True
    assert charts.bad_debt([*rows, *({**row, "bin": 50} for row in rows)])["vconcat"][0]["mark"]["point"] is False


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
