"""The report: its numbers are those of the tables, and the page loads nothing and holds whatever it is given."""

from __future__ import annotations

import base64
import html
import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.lake import Lake
from backtest.report import tables, write_report
from backtest.report.page import duration
from tests.support.made_up_runs import ASSETS, MARKET, SYMBOLS, make_lake

pytestmark = pytest.mark.slow  # together they take what a quick run has no time for


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return make_lake(tmp_path_factory.mktemp("made-up") / "lake")


@pytest.fixture(scope="module")
def page(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "deep" / "report.html"
    write_report(lake, [], path)
    return path.read_text(encoding="utf-8")


def _specs(page: str) -> list[dict[str, Any]]:
    return [
        json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    ]


def _rows(lake: Lake, dataset: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lake.read(dataset, MARKET).to_pylist()
    return found


# -- the page ----------------------------------------------------------------------------------------------------------


def test_page_names_no_address_but_xml_namespaces(page: str) -> None:
    assert set(re.findall(r"https?://[\w.-]+", page)) <= {"http://www.w3.org"}
    assert not re.findall(
        r"""(?:src|href|srcset|action|data)\s*=\s*["']?(?!data:)[a-z]+:""",
        re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL),
    )


def test_page_forbids_itself_to_load_anything(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules.pop("default-src") == "'none'"
    assert rules == {"img-src": "data:", "style-src": "'unsafe-inline'", "script-src": "'unsafe-inline' 'unsafe-eval'"}


def test_charts_are_valid_and_their_axes_say_what_they_show(page: str) -> None:
    import altair
    import jsonschema

    specs = _specs(page)
    assert len(specs) == 8
    validator = jsonschema.Draft7Validator(altair.load_schema())
    for spec in specs:
        assert [error.message for error in validator.iter_errors(spec)] == []
        panels = spec.get("vconcat", [spec])
        last = panels[-1]["layer"][0] if "layer" in panels[-1] else panels[-1]
        assert last["encoding"]["x"]["title"]
        for panel in panels:
            for layer in panel.get("layer", [panel]):
                y = layer["encoding"]["y"]
                assert y.get("title") or y.get("type") == "nominal" or "value" in y
        assert len(json.dumps(spec)) < 200_000


def test_each_chart_has_a_picture_for_readers_without_scripts(page: str) -> None:
    pictures = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]+)" alt="[^"]+"', page)
    assert len(pictures) == len(_specs(page))
    for picture in pictures:
        assert base64.b64decode(picture).startswith(b"<svg")


def test_page_says_what_it_was_made_from(page: str, lake: Lake) -> None:
    text = re.sub(r"<[^>]+>", " ", page)
    for run in _rows(lake, "results/runs"):
        assert run["run_id"] in page
        assert run["lake_digest"] in text
        assert f"{run['from_block']:,} to {run['to_block']:,}" in text
        for note in json.loads(run["notes"]):
            assert note.replace("'", "&#39;") in page
    assert f"{MARKET} (aave-v3), chain 31337" in text
    assert "2020-03-12 00:00:00 to 2020-03-14 00:00:00 UTC, 4 runs" in text
    assert "competitive liquidators; gas cost 5.00 USD a call; liquidation bonus of every asset = 7.00\u00a0%" in text


def test_numbers_are_those_of_the_tables(page: str, lake: Lake) -> None:
    """Recomputed here from the Parquet files without SQL."""
    hits, deficits = _rows(lake, "results/run_liquidations"), _rows(lake, "results/run_deficits")

    def _loss(hit: dict[str, Any]) -> int:
        return int(hit["seized_base"] + hit["protocol_fee_base"] - hit["repaid_base"])

    cells = [
        html.unescape(re.sub(r"<[^>]+>", "", cell))
        for cell in re.findall(r"<t[dh][^>]*>(.*?)(?:<small>.*?)?</t[dh]>", page, re.DOTALL)
    ]
    order = [run["run_id"] for run in sorted(_rows(lake, "results/runs"), key=lambda run: run["run_id"])]
    for label, of in (
        ("Debt repaid by liquidators", lambda run: sum(hit["repaid_base"] for hit in hits if hit["run_id"] == run)),
        (
            "Collateral liquidators received",
            lambda run: sum(hit["seized_base"] for hit in hits if hit["run_id"] == run),
        ),
        (
            "Bad debt, realised (written off)",
            lambda run: sum(row["amount_base"] for row in deficits if row["run_id"] == run),
        ),
        ("Borrowers' loss (bonus plus fee)", lambda run: sum(_loss(hit) for hit in hits if hit["run_id"] == run)),
        (
            "Largest liquidation (debt repaid)",
            lambda run: max(hit["repaid_base"] for hit in hits if hit["run_id"] == run),
        ),
    ):
        at = cells.index(label)
        assert cells[at + 1 : at + 5] == [tables.money(of(run), 8) for run in order]
    at = len(cells) - 1 - cells[::-1].index("Accounts liquidated")  # the first ones are verdicts
    assert cells[at + 1 : at + 5] == [
        str(len({hit["account"] for hit in hits if hit["run_id"] == run})) for run in order
    ]


def test_charts_show_the_same_totals(page: str, lake: Lake) -> None:
    hits = _rows(lake, "results/run_liquidations")
    everything = float(sum(hit["repaid_base"] for hit in hits)) / 1e8
    _, prices, cumulative, by_collateral, *_ = _specs(page)
    bars = sum(row["repaid_usd"] for panel in prices["vconcat"][1:] for row in panel["data"]["values"])
    assert bars * 1000 == pytest.approx(everything)
    absolute, beyond = ({row["run"]: row for row in panel["data"]["values"]} for panel in cumulative["vconcat"])
    assert sum(row["cumulative_usd"] for row in absolute.values()) * 1000 == pytest.approx(everything)
    compared = absolute["WETH threshold −3 points"]["cumulative_usd"] - absolute["baseline"]["cumulative_usd"]
    assert beyond["WETH threshold −3 points"]["beyond_baseline_usd"] == pytest.approx(compared)
    assert beyond["history"]["beyond_baseline_usd"] is beyond["bonus +2 points"]["beyond_baseline_usd"] is None
    assert sum(row["repaid_usd"] for row in by_collateral["data"]["values"]) * 1000 == pytest.approx(everything)
    for symbol, asset in zip(SYMBOLS, ASSETS, strict=True):
        ours = sum(row["liquidations"] for row in by_collateral["data"]["values"] if row["symbol"] == symbol)
        assert ours == sum(hit["collateral_asset"] == asset for hit in hits)


def test_prices_are_those_in_force(page: str, lake: Lake) -> None:
    prices = _rows(lake, "canonical/prices")
    shown = _specs(page)[1]["vconcat"][0]["data"]["values"]
    assert {row["symbol"] for row in shown} == set(SYMBOLS)
    for row in shown:
        known = [
            p for p in prices if p["asset_id"] == SYMBOLS.index(row["symbol"]) and p["timestamp"] <= row["time"] / 1000
        ]
        assert row["price_usd"] == pytest.approx(float(known[-1]["price"]) / 1e8)


def test_runs_without_liquidations_make_a_page(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", liquidations=0)
    write_report(lake, [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("No run liquidated anything in this window.") == 3
    assert len(_specs(page)) == 3


def test_history_alone_makes_a_page(lake: Lake, tmp_path: Path) -> None:
    write_report(lake, ["history"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Nothing to judge: no run here changes parameters and has a baseline." in page
    assert len(_specs(page)) == 7


def test_verdicts_are_on_the_page_with_what_is_missing(page: str) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    assert "WETH threshold −3 points against baseline" in text
    assert re.findall(r"<th[^>]*>([^<]*)</th>", page[page.index('class="wide verdict"') :])[:3] == [
        "",
        "Verdict",
        "Baseline",
    ]
    assert "No material difference: the 95% interval contains 0." in text
    assert "bonus +2 points: no baseline is stored, so it is not compared. Make it: backtest replay --lake" in text
    assert "the band lacks users who respond by same-ltv and same-health" in text
    assert "synthetic data: not a real market" in text


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", name="</script><script>alert(1)</script>")
    write_report(lake, [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert len(_specs(page)) == 8


@pytest.mark.slow
def test_making_a_page_neither_replays_nor_talks_to_a_node(lake: Lake, tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from backtest.lake import Lake
from backtest.report import write_report
write_report(Lake({str(lake.path)!r}), [], Path({str(tmp_path / "report.html")!r}))
print([name for name in sys.modules if name.split(".")[0] in ("web3", "numba") or name.startswith(("backtest.replay",
"backtest.fetch"))])
"""
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )


# -- words and numbers -------------------------------------------------------------------------------------------------


@given(st.integers(-(10**38), 10**38), st.integers(0, 18))
def test_money_is_exact_to_the_last_digit_shown(value: int, decimals: int) -> None:
    places = 0 if abs(value) >= 1000 * 10**decimals else min(2, decimals)
    text = tables.money(value, decimals)
    shown = Fraction(text.replace(",", "").replace("−", "-"))
    assert abs(shown - Fraction(value, 10**decimals)) <= Fraction(1, 2 * 10**places)
    assert text.startswith("−") == (shown < 0)
    assert re.fullmatch(r"−?\d{1,3}(,\d{3})*(\.\d\d?)?", text)


@pytest.mark.parametrize(
    ("value", "base", "kind", "said"),
    [
        (66, 60, "count", "+6 (+10.0%)"),
        (0, 4, "count", "−4 (−100.0%)"),
        (5, 0, "count", "+5"),
        (100_005, 100_000, "count", "+5 (<0.1%)"),
        (1210, 10, "count", "+1,200 (+12,000%)"),
        (7, 7, "count", "same"),
        (None, 7, "money", ""),
        (12_345 * 10**8, 10_000 * 10**8, "money", "+2,345 (+23.4%)"),
        (-5 * 10**8, 10 * 10**8, "money", "−15.00 (−150.0%)"),
    ],
)
def test_changes(value: int | None, base: int, kind: str, said: str) -> None:
    assert tables.change(value, base, kind, 8) == said


def test_missing_is_not_zero() -> None:
    assert tables.money(None, 8) == tables.count(None) == "–"
    assert tables.money(0, 8) == tables.count(0) == "0"


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("{}", "liquidators as in history"),
        ('{"liquidators":{"kind":"competitive","max_calls":3}}', "competitive liquidators; max calls 3"),
        (
            (
                '{"liquidators":{"kind":"competitive"},"overrides":[{"parameter":"ltv","value":7000,"emode":1,"from_block":9},'
                '{"asset":"0xAA","parameter":"liquidation_bonus","value":10500}],"from_block":5}'
            ),
            (
                "competitive liquidators; ltv of e-mode 1 = 70.00\u00a0% from block 9; liquidation bonus of WETH ="
                " 5.00\u00a0%; from block 5"
            ),
        ),
    ],
)
def test_scenarios_in_words(scenario: str, said: str) -> None:
    assert tables.describe(scenario, 8, "USD", {"0xaa": "WETH"}) == said


def test_tables_for_a_terminal() -> None:
    table = tables.Table(("", "a"), (("x", "1\n+2"), ("long", "30")))
    assert tables.as_text(table) == "       a\n--------\nx      1\n      +2\nlong  30"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (60, "1 minute"),
        (300, "5 minutes"),
        (3600, "1 hour"),
        (86_400, "1 day"),
        (604_800, "7 days"),
        (61, "61 seconds"),
    ],
)
def test_durations(seconds: int, said: str) -> None:
    assert duration(seconds) == said
