"""What a stress says of its book, and of stresses of the same draws beside it: against the exact book asked otherwise,
and reckoned again from the rows of its paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backtest.cascade import cascades
from backtest.lake import Lake
from backtest.protocols.registry import protocol_named
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.proposal import after_fall, book_at, power_of
from backtest.report.stress import StressView, find_stress, write_stress_report
from backtest.results import load_material
from backtest.risk.tail import tail_risk
from backtest.scenario import Competitive, Scenario, parse_override
from backtest.shocks import Suite
from backtest.stress import moment, stress
from tests.support.sample_sweeps import sample
from tests.support.small_stress import BLOCK, MARKET, small_suite

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("stress")]
CHANGES = {"": (), "safer": ("WETH.ltv=5000", "WETH.liquidation_bonus=10200")}
SAFER = "WETH.liquidation_bonus=10200, WETH.ltv=5000"


def suite_with(*words: str) -> Suite:
    suite = small_suite(answers=True)
    return replace(suite, scenario=replace(suite.scenario, overrides=tuple(map(parse_override, words))))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Mapping[str, str]]:
    """Two parameter sets over the same paths, and one over others; ids by what they change."""
    lake = sample(tmp_path_factory.mktemp("stress") / "lake")
    made = {
        name: stress(lake, MARKET, suite_with(*words), block=BLOCK, seed=3, paths=3).stress_id
        for name, words in CHANGES.items()
    }
    stress(lake, MARKET, suite_with(), block=BLOCK, seed=4, paths=1)
    return lake, made


@pytest.fixture(scope="module")
def view(done: tuple[Lake, Mapping[str, str]]) -> StressView:
    return find_stress(done[0], done[1]["safer"])


def test_the_frontier_is_of_the_same_paths_alone_and_none_on_it_is_beaten(
    done: tuple[Lake, Mapping[str, str]], view: StressView
) -> None:
    rows = view.rows(
        "SELECT * FROM stress_frontier WHERE draws = (SELECT draws FROM stress_books WHERE stress_id = $stress)"
    )
    assert {row["stress_id"] for row in rows} == {*done[1].values()}
    for row in rows:
        losses = find_stress(done[0], row["stress_id"]).losses(row["ordinal"])
        assert int(row["var99_base"]) == tail_risk(losses, 9_900).var
        beaten = any(
            other["ordinal"] == row["ordinal"]
            and (other["borrowing_power_base"], -other["var99_base"])
            != (row["borrowing_power_base"], -row["var99_base"])
            and other["borrowing_power_base"] >= row["borrowing_power_base"]
            and other["var99_base"] <= row["var99_base"]
            for other in rows
        )
        assert row["efficient"] is not beaten
    power = {row["changes"]: int(row["borrowing_power_base"]) for row in rows}
    assert power[""] > power[SAFER]
    assert power[""] == power_of(views_of(book(done[0])))


def test_both_sides_are_the_paths_differences(done: tuple[Lake, Mapping[str, str]], view: StressView) -> None:
    rows = view.rows("SELECT * FROM stress_sides WHERE stress_id = $stress ORDER BY ordinal")
    assert [row["ordinal"] for row in rows] == [0, 1, 2]
    other = find_stress(done[0], done[1][""])
    for row in rows:
        assert row["without_id"] == done[1][""]
        here, there = (each.losses(row["ordinal"]) for each in (view, other))
        apart = [mine - theirs for mine, theirs in zip(here, there, strict=True)]
        assert (row["paths"], row["better"]) == (len(apart), sum(each < 0 for each in apart))
        assert row["bad_debt_brought_base"] == pytest.approx(sum(max(each, 0) for each in apart) / len(apart))
        assert row["bad_debt_avoided_base"] == pytest.approx(sum(max(-each, 0) for each in apart) / len(apart))
    assert any(row["bad_debt_avoided_base"] != row["bad_debt_brought_base"] for row in rows)
    assert not other.rows("SELECT * FROM stress_sides WHERE stress_id = $stress")


def book(lake: Lake) -> Any:
    material = load_material(lake, MARKET)
    return book_at(protocol_named(material.config.protocol), material.market, material.timeline(), BLOCK, ended=True)


def test_what_one_fall_does_to_the_others_adds_up(done: tuple[Lake, Mapping[str, str]]) -> None:
    """Bad debt by asset is what the exact book says of all, but for roundings of each account's part."""
    lake, ids = done
    own, rows = book(lake), find_stress(lake, ids[""]).rows("SELECT * FROM stress_spread WHERE stress_id = $stress")
    assert {row["fall"] for row in rows} == {*moment.FALLS}
    assert {row["fallen"] for row in rows} == {"DAI", "LINK", "USDC", "WBTC", "WETH", "wstETH"}, "moving of late or not"
    by_label = {own.market.label(asset.id): asset.id for asset in own.market.assets}
    bad = 0
    for fallen in {row["fallen"] for row in rows}:
        for fall in moment.FALLS:
            there = sum(int(r["bad_debt_base"]) for r in rows if (r["fallen"], r["fall"]) == (fallen, fall))
            whole = after_fall(own, [by_label[fallen]], fall).bad_debt_base
            assert there == pytest.approx(whole, abs=4 * len(own.market.accounts))
            bad += there
    assert bad
    assert any(row["sold_base"] and row["asset"] != row["fallen"] for row in rows)


def test_the_map_is_that_of_the_verb(done: tuple[Lake, Mapping[str, str]]) -> None:
    lake, ids = done
    view = find_stress(lake, ids[""])
    found = cascades(lake, MARKET, suite_with().scenario, block=BLOCK, falls=moment.LEVELS)
    for asset in found.assets:
        rows = view.rows(
            f"SELECT * FROM stress_levels WHERE stress_id = $stress AND asset = '{asset.symbol}' ORDER BY fall"
        )
        assert [(row["accounts"], int(row["repaid_base"]), row["slope"]) for row in rows] == [
            (level.sold.accounts, level.sold.repaid_base, level.slope) for level in asset.levels
        ]
        [depth] = view.rows(f"SELECT * FROM stress_depths WHERE stress_id = $stress AND asset = '{asset.symbol}'")
        assert (depth["depth"], depth["critical"]) == (asset.depth, asset.critical)
        assert (depth["rupture_fall"] is None) is (asset.rupture is None)
    assert {asset.symbol for asset in found.assets} == {"WETH", "wstETH"}


def test_the_page_shows_all_of_it(view: StressView, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_stress_report(view, page)
    text = page.read_text(encoding="utf-8")
    for title in (
        "Both sides",
        "Cascade map",
        "Contagion",
        "Borrowing power against value at risk",
        "Critical liquidity",
    ):
        assert f"<h2>{title}" in text
    assert SAFER in text
    assert "No price answers" not in text


def test_what_a_scenario_changes_in_words() -> None:
    overrides = tuple(map(parse_override, ("WETH.ltv+=100", "emode1.ltv=9000", "close_factor=10000")))
    scenario = Scenario(liquidators=Competitive(), overrides=overrides)
    assert moment.changes_of(scenario) == "WETH.ltv+100, emode1.ltv=9000, close_factor=10000"
    assert moment.changes_of(Scenario()) == ""
