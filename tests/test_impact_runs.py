"""Runs whose prices answer to sales, in a lake: what is netted out, what is stored, and the verbs that ask."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backtest.cli import main
from backtest.errors import ScenarioError
from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from backtest.results import load_material, replayed, run, run_id_of
from backtest.scenario import AssetImpact, Competitive, ConstantProductDepth, Impact, Observed, Override, Scenario
from backtest.scenario.impact import ChainlinkRule
from backtest.scenario.settled import settled
from backtest.scenario.toml import parse_scenario
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import USD, WETH, History, borrower, opened
from tests.support.sketch_lake import lake_of

pytestmark = pytest.mark.slow

WORDS = """
[liquidators]
kind = "competitive"
[impact]
netting = "none"
[[impact.assets]]
asset = "WETH"
half_life = 3600
depth = {kind = "constant-product", reserve = 900}
"""


def crowd() -> History:
    h = opened()
    for account in range(6):
        borrower(h, account, 10, 10 * (1_550 - 20 * account))
    for block, price in ((10, 1_900), (20, 1_880), (400, 1_700), (600, 1_900)):
        h.block(block).price(WETH, price * USD)
    return h


@pytest.fixture(autouse=True)
def _sketch_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "sketch", FixedSpreadPool())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lake_of(tmp_path / "lake", crowd())


def answering(**changed: Any) -> Scenario:
    entry = AssetImpact(
        asset="WETH",
        depth=ConstantProductDepth(reserve=900),
        half_life=3_600,
        oracle=ChainlinkRule(deviation=25, heartbeat=3_600, delay=12),
    )
    return Scenario(name="answering", liquidators=Competitive(), impact=Impact(assets=(entry,)), **changed)


def ends(*words: str) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    code: int = ended.value.code
    return code


def rows(lake: Lake, text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lake.sql(text).to_arrow_table().to_pylist()
    return found


def test_a_baseline_has_historys_rounds_and_what_is_netted_out_decides(lake: Lake) -> None:
    material = load_material(lake, "sketch")
    plain = replayed(material, Scenario(name="plain", liquidators=Competitive()))
    base = replayed(material, answering())
    for row in base.tables["run_prices"].to_pylist():
        assert row["oracle_price"] == row["history_price"]
    assert not any(row["endogenous"] for row in base.tables["run_sales"].to_pylist())
    assert plain.tables["run_prices"].num_rows == 0
    # a changed parameter moves prices by what it sells more; without netting history's impact counts twice
    less = Override(parameter="liquidation_threshold", asset="WETH", value=7_900)
    net = replayed(material, answering(overrides=(less,)))
    gross = answering(overrides=(less,))
    gross = replace(gross, impact=replace(gross.impact, netting="none"))
    twice = replayed(material, gross)
    lowest = {
        name: min(row["oracle_price"] for row in one.tables["run_prices"].to_pylist())
        for name, one in (("base", base), ("net", net), ("twice", twice))
    }
    assert lowest["twice"] <= lowest["net"] <= lowest["base"] == 1_700 * USD
    assert lowest["twice"] < lowest["base"]
    # the same again, from a fresh start, is the same to the last row
    assert replayed(load_material(lake, "sketch"), answering(overrides=(less,))).digest == net.digest


def test_no_impact_is_the_run_without_it(lake: Lake) -> None:
    plain = Scenario(name="plain", liquidators=Competitive())
    none = replace(plain, impact=Impact(assets=(AssetImpact(asset="weth"),), netting="none"))
    made, other = run(lake, "sketch", plain), run(lake, "sketch", none)
    answers = {"run_prices", "run_sales", "run_cascades"}
    assert all(
        made.tables[name].drop_columns("run_id").equals(other.tables[name].drop_columns("run_id"))
        for name in made.tables.keys() - answers - {"runs"}
    )
    # words that do nothing are no other run
    empty = replace(plain, impact=Impact(netting="observed"))
    assert run_id_of(settled(empty, str), "sketch", "x") == run_id_of(settled(plain, str), "sketch", "x")


def test_observed_liquidations_are_netted_out(lake: Lake) -> None:
    impact = replace(answering().impact, netting="observed")
    seen = replace(answering(), impact=impact)
    made = run(lake, "sketch", seen)  # history had none: all that is sold moves prices
    assert any(row["oracle_price"] < row["history_price"] for row in made.tables["run_prices"].to_pylist())
    history = run(lake, "sketch", replace(seen, liquidators=Observed(), name="history"))
    assert all(row["oracle_price"] == row["history_price"] for row in history.tables["run_prices"].to_pylist())


def test_tables_and_views_say_the_same(lake: Lake) -> None:
    made = run(lake, "sketch", parse_scenario(WORDS, "impact.toml"))
    lake.refresh()
    sales = made.tables["run_sales"].to_pylist()
    assert sales
    [*found] = rows(lake, "SELECT * FROM cascades ORDER BY cascade")
    assert sum(row["liquidations"] for row in found) == len(sales)
    assert sum(row["endogenous_liquidations"] for row in found) == sum(row["endogenous"] for row in sales) > 0
    repaid = {row["ordinal"]: row["repaid_base"] for row in made.tables["run_liquidations"].to_pylist()}
    assert sum(row["repaid_base"] for row in found) == sum(repaid[row["ordinal"]] for row in sales)
    first = found[0]
    assert first["exogenous_fall"] == pytest.approx(0.06)
    assert first["fall"] > first["exogenous_fall"]
    assert first["amplification"] > 1
    blocks = rows(lake, "SELECT * FROM cascade_blocks ORDER BY block_number")
    assert sum(row["liquidations"] for row in blocks) == len(sales)
    assert ends("report", "--lake", str(lake.path), "-o", str(lake.path / "page.html")) == 0
    assert "Prices with and without what was sold" in (lake.path / "page.html").read_text()
    path = rows(lake, "SELECT reason, market_price, oracle_price FROM run_prices ORDER BY step")
    assert {"history", "sale", "deviation"} <= {row["reason"] for row in path}
    assert any("answers to sales" in note for note in json.loads(made.summary["notes"]))


def test_a_replay_says_what_its_sales_set_off(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "impact.toml").write_text('name = "thin"' + WORDS)
    words = ["replay", "--lake", str(lake.path)]
    assert ends(*words, "--scenario", str(tmp_path / "impact.toml")) == 0
    told = capsys.readouterr().out
    assert "prices of WETH (constant-product) answer to sales, none netted out" in told
    assert re.search(r"cascades +\d: \d+ liquidations that sold, \d+ endogenous \(\d+ % of their debt\)", told)
    assert re.search(r"WETH +at worst its oracle fell by [\d.]+ %, history's by [\d.]+ %; \d+ rounds", told)
    assert ends(*words, "--liquidators", "competitive", "--impact", "WETH=kyle:500@2", "--impact", "USDC=pools") == 2
    assert "no fetched pool prices" in capsys.readouterr().err
    assert ends(*words, "--liquidators", "competitive", "--impact", "WETH=kyle:500@2", "--name", "kyle") == 0
    assert "500 sold move it by 2 %, in proportion (Kyle 1985)" in capsys.readouterr().out
    assert ends(*words, "--scenario", str(tmp_path / "impact.toml"), "--impact", "WETH=kyle:500@2") == 2
    assert "--scenario and --impact together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--impact", "WETH=constant-product:none"], "--impact 'WETH=constant-product:none' is not understood"),
        (["--impact", "WTH=constant-product:5"], "'WTH' is no asset of the market"),
        (["--impact", "WETH=pools"], "no fetched pool prices"),
        ([], "no price answers to sales"),
    ],
    ids=["number", "asset", "pools", "none"],
)
def test_mistakes_get_one_line(lake: Lake, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("cascade", "--lake", str(lake.path), *words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[impact.assets]]\nasset = "A"\ndepth = {kind = "kile"}', "unknown depth 'kile'"),
        ('[[impact.assets]]\nasset = "A"\noracle = {kind = "x"}', "unknown oracle 'x'"),
        ('[[impact.assets]]\nasset = "A"\ndepth = {kind = "bands", curve = [[5, 3], [4, 9]]}', "curve is no curve"),
        ('[[impact.assets]]\nasset = "A"\ninto = "a"', "into itself"),
        ('[[impact.assets]]\nasset = "A"\n[[impact.assets]]\nasset = "a"', "two entries of one asset"),
        ('[impact]\nnetting = "none"\n[[impact.assets]]\nasset = "A"', "history's liquidations at prices"),
    ],
    ids=["depth", "oracle", "curve", "itself", "twice", "observed"],
)
def test_words_that_make_no_sense_are_refused(text: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        parse_scenario(text, "x.toml")


def test_the_cascade_of_a_book(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Six accounts whose thresholds are from 1,937 to 1,812 $, at 2,000: falls of 4 to 10 % set them off."""
    words = ["cascade", "--lake", str(lake.path), "--impact", "WETH=constant-product:700", "--at", "9"]
    assert ends(*words) == 0
    told = capsys.readouterr().out
    assert "6 accounts with 90,000 USD of debt" in told
    assert "The map ruptures at a fall of" in told
    assert " times the stated depth, " in told
    assert ends(*words, "-o", str(tmp_path / "map.json")) == 0
    found = json.loads((tmp_path / "map.json").read_text())
    [asset] = found["assets"]
    falls = [point["left"] for point in asset["points"]]
    assert falls == sorted(falls, reverse=True)
    assert [level["sold"]["amount"] for level in asset["levels"]] == sorted(
        level["sold"]["amount"] for level in asset["levels"]
    )
    deep = [*words[:4], "WETH=constant-product:900000", *words[5:]]
    capsys.readouterr()
    assert ends(*deep) == 0
    assert "ruptures nowhere" in capsys.readouterr().out
    assert ends(*words[:4], f"WETH=constant-product:{10**30}", *words[5:]) == 0
    assert "A millionth of the stated depth is enough." in capsys.readouterr().out  # and not: nothing is sold
    assert ends(*words, "--set", "WETH.liquidation_threshold=7000", "-o", str(tmp_path / "map.html")) == 0
    page = (tmp_path / "map.html").read_text()
    assert "Cascade map of sketch" in page
    assert "data:image/svg+xml" in page
