"""Joint replays in a lake: stored as a run of each market beside its run alone, reported, and asked for on the command
line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from backtest.cli import main
from backtest.errors import ScenarioError, UserError
from backtest.joint import run_jointly
from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from backtest.report import write_report
from backtest.results import run
from backtest.scenario import (
    AssetImpact,
    ChainlinkRule,
    Competitive,
    ConstantProductDepth,
    ExchangeRate,
    Impact,
    Joint,
    Override,
    Participation,
    Scenario,
    SealedBid,
    Searcher,
)
from backtest.scenario.toml import parse_scenario
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, market
from tests.support.sketch_lake import CONFIG, lake_of

pytestmark = pytest.mark.slow

LIQUIDATORS = SealedBid(searchers=(Searcher(name="only", capital=6_000 * USD),))
SCENARIO = Scenario(name="one purse", liquidators=LIQUIDATORS, joint=Joint(markets=("one", "two")))


@pytest.fixture(autouse=True)
def _sketch_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "sketch", FixedSpreadPool())


def _fallen(name: str, at: int, later: int, lent: Sequence[int] = ()) -> History:
    """10 ETH against 11,300 USDC, at 1400 $ from block ``at`` on: 5,650 of debt may be repaid; at 1000 $ an hour
    later, 1,300 of debt are without cover if it was not. ``lent``: USDC that accounts 1, 2, ... lend.
    """
    h = History(market(("WETH", 18), ("USDC", 6), accounts=3, name=name))
    h.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
    h.price(WETH, 2000 * USD).price(USDC, USD)
    borrower(h, 0, 10, 11_300)
    for account, amount in enumerate(lent, 1):
        h.position(account, USDC, "collateral", amount * 10**6)
    h.block(at).price(WETH, 1400 * USD).block(at + 100).price(WETH, 1000 * USD)
    h.block(250).price(USDC, USD)
    return h if later == 250 else h.block(later).price(USDC, USD)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    for name, at, later in (("one", 10, 250), ("two", 12, 310)):
        config = msgspec.structs.replace(CONFIG, name=name)
        lake = lake_of(tmp_path / "lake", _fallen(name, at, later), config=config)
    return lake


def test_a_joint_run_is_stored_beside_the_runs_alone(lake: Lake) -> None:
    """The searcher's 6,000 pay for one of the two at first: alone no market has bad debt, together the second has. At
    1000 $ its 10 ETH are worth 10,000 against 11,300.
    """
    made = run_jointly(lake, SCENARIO)
    assert made.replayed
    lake.refresh()
    again = run_jointly(lake, SCENARIO)
    assert not again.replayed
    assert [one.digest for one in again.runs] == [one.digest for one in made.runs]
    assert [one.summary["name"] for one in (*made.runs, *made.alone)] == ["one purse (joint)"] * 2 + ["one purse"] * 2
    found = lake.sql(
        "SELECT market, alone_liquidations, liquidations, alone_bad_debt_base, bad_debt_base, contagion_base"
        " FROM joint_losses WHERE label = 'end' ORDER BY place"
    ).fetchall()
    assert [row[0] for row in found] == ["one", "two"]
    one, two = found
    assert (one[1], one[2], int(one[5])) == (one[1], one[1], 0)
    assert (int(two[3]), int(two[4]), int(two[5])) == (0, 1_300 * USD, 1_300 * USD)
    total = lake.sql("SELECT contagion_base, markets, of_markets FROM joint_totals WHERE label = 'end'").fetchone()
    assert total is not None
    assert [int(value) for value in total] == [1_300 * USD, 2, 2]
    # the second history goes on; its window ends with the first's
    assert made.runs[1].summary["to_block"] == 250
    assert any("its history goes on" in note for note in made.runs[1].notes)
    assert made.runs[0].notes[0].startswith("Replayed together with two: searchers have one purse")


def test_with_a_purse_in_each_the_rows_are_those_of_the_runs_alone(lake: Lake) -> None:
    apart = msgspec.structs.replace(SCENARIO, joint=Joint(markets=("one", "two"), purse="each"))
    made = run_jointly(lake, apart)
    assert [one.digest for one in made.runs] == [one.digest for one in made.alone]
    assert {one.run_id for one in made.runs}.isdisjoint(one.run_id for one in made.alone)


def test_overrides_hold_where_they_are_said_to(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Override(parameter="liquidation_threshold", asset="WETH", value=9_000, market="two")
    made = run_jointly(lake, msgspec.structs.replace(SCENARIO, overrides=(kept,)))
    assert [one.summary["overridden"] for one in made.alone] == [False, True]
    run_jointly(lake, msgspec.structs.replace(SCENARIO, name="as it was"))
    with pytest.raises(SystemExit) as code:
        main(["compare", "--lake", str(lake.path), "--market", "two", "as it was (joint)", "one purse (joint)"])
    assert code.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    # the baselines and users who respond are replayed together too
    assert "the band lacks" not in told
    assert "--band" not in told
    lake.refresh()
    names = {name for (name,) in lake.sql("SELECT DISTINCT name FROM runs WHERE market = 'two'").fetchall()}
    assert {"one purse, same-ltv (joint)", "one purse, same-health (joint)"} <= names
    for market_, fix in (("three", "none of the joint ones"), ("two", "no such thing")):
        wrong = Override(parameter="liquidation_threshold", asset="DAI", value=9_900, market=market_)
        with pytest.raises(ScenarioError, match=fix):
            run_jointly(lake, msgspec.structs.replace(SCENARIO, overrides=(wrong,)))


def test_another_base_currency_needs_a_rate(lake: Lake, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, name="three", base_currency="EUR")
    lake_of(tmp_path / "lake", _fallen("three", 14, 250), config=config)
    lake.refresh()
    joint = Joint(markets=("one", "three"))
    with pytest.raises(UserError, match="what a EUR is worth in USD is not said; give it: --rate EUR=1"):
        run_jointly(lake, msgspec.structs.replace(SCENARIO, joint=joint))
    for currency, fix in (("EURO", "did you mean 'EUR'"), ("USD", "known: EUR")):
        strange = (ExchangeRate(currency=currency, worth="2"),)
        with pytest.raises(UserError, match=f"no market's amounts are in '{currency}' .*{fix}"):
            run_jointly(lake, msgspec.structs.replace(SCENARIO, joint=msgspec.structs.replace(joint, rates=strange)))
    rates = (ExchangeRate(currency="EUR", worth="1.25"),)
    made = run_jointly(lake, msgspec.structs.replace(SCENARIO, joint=msgspec.structs.replace(joint, rates=rates)))
    lake.refresh()
    [row] = lake.sql(
        "SELECT alone_bad_debt_base, bad_debt_base FROM joint_losses WHERE market = 'three' AND label = 'end'"
    ).fetchall()
    # 1,300 EUR; alone its searcher has 6,000 / 1.25 = 4,800 EUR, too little for 5,650 as well
    assert [int(value) for value in row] == [1_625 * USD, 1_625 * USD]
    assert "One EUR is taken for 1.25 throughout." in made.runs[1].notes


def test_blocks_of_an_override_are_those_of_one_chain(lake: Lake, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, name="three", chain_id=CONFIG.chain_id + 1)
    lake_of(tmp_path / "lake", _fallen("three", 14, 250), config=config)
    lake.refresh()
    apart = msgspec.structs.replace(SCENARIO, joint=Joint(markets=("one", "three")))
    late = Override(parameter="liquidation_threshold", asset="WETH", value=9_000, from_block=100)
    with pytest.raises(UserError, match=r"its blocks are not those of 'three'.*give from_time"):
        run_jointly(lake, msgspec.structs.replace(apart, overrides=(late,)))
    own = msgspec.structs.replace(late, market="three")
    assert run_jointly(lake, msgspec.structs.replace(apart, overrides=(own,))).replayed


def test_one_market_refuses_a_scenario_of_several(lake: Lake) -> None:
    with pytest.raises(ScenarioError, match="a scenario of 2 markets where one is replayed"):
        run(lake, "one", SCENARIO)


def test_verbs_replay_and_report(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "joint.toml"
    scenario.write_text(
        'name = "one purse"\n[joint]\nmarkets = ["one", "two"]\n[liquidators]\nkind = "sealed-bid"\n'
        f'searchers = [{{name = "only", capital = {6_000 * USD}}}]\n'
    )
    where = ["--lake", str(lake.path)]
    with pytest.raises(SystemExit) as code:
        main(["replay", *where, "--scenario", str(scenario)])
    assert code.value.code == 0
    shown = capsys.readouterr().out
    assert "one purse: 2 markets together" in shown
    assert "1,300 USD together, 0 in the sum of each alone: 1,300 comes of what they share." in shown
    page = tmp_path / "page.html"
    write_report(Lake(lake.path), ["one purse (joint)"], page, market="two")
    assert "Several markets: one purse" in page.read_text()
    assert "What connects them" in page.read_text()
    for more, said in (
        (["--market", "one", "--market", "two"], "several markets with observed liquidators"),
        (["--market", "one", "--rate", "EUR=1"], "--rate with one market"),
        (["--market", "one", "--market", "two", "--liquidators", "competitive", "--rate", "EUR"], "CURRENCY=NUMBER"),
        (["--market", "two", "--scenario", str(scenario)], "the scenario names its markets"),
    ):
        with pytest.raises(SystemExit) as code:
            main(["replay", *where, *more])
        assert code.value.code == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit) as code:
        main(["replay", *where, "--market", "one", "--market", "two", "--liquidators", "competitive"])
    assert code.value.code == 0


def test_one_set_of_prices_for_all_markets(tmp_path: Path) -> None:
    """The contagion of ``tests/replay/test_joint.py``, stored: without netting, ``a``'s sale makes ``b``'s liquidation;
    as its own baseline, whose sales history's prices hold already, it does not.
    """
    for name, eth, usdc, at in (("a", 23, 20_000, 11), ("b", 10, 8_200, 10)):
        h = History(market(("WETH", 18), ("USDC", 6), accounts=2, name=name))
        h.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
        h.price(WETH, 2000 * USD).price(USDC, USD)
        borrower(h, 0, eth, usdc)
        h.block(at).price(WETH, 1050 * USD).block(250).price(USDC, USD)
        lake = lake_of(tmp_path / "lake", h, config=msgspec.structs.replace(CONFIG, name=name))
    asset = AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=390), oracle=ChainlinkRule(delay=0))
    both = Joint(markets=("a", "b"))
    cases = {
        "none": [(1, 1), (1, 0)],
        "baseline": [(1, 1), (0, 0)],
        "observed": [(1, 1), (1, 0)],
    }  # history sold nothing
    for netting, expected in cases.items():
        impact = Impact(assets=(asset,), netting=netting)  # type: ignore[arg-type]
        made = run_jointly(lake, Scenario(name=netting, liquidators=Competitive(), impact=impact, joint=both))
        found = [
            (one.summary["liquidations"], two.summary["liquidations"])
            for one, two in zip(made.runs, made.alone, strict=True)
        ]
        assert found == expected
    lake.refresh()
    endogenous = lake.sql(
        "SELECT market, endogenous FROM run_sales JOIN joints USING (run_id, market) WHERE name = 'none'"
    )
    assert sorted(endogenous.fetchall()) == [("a", False), ("b", True)]


def test_the_same_owner_in_two_markets(lake: Lake) -> None:
    """One address has both accounts: liquidated twice alone, once together. At 1000 $
    the first is worth what is left of its 10 ETH less 5,650, the second 10,000 - 11,300 together.
    """
    run_jointly(lake, SCENARIO)
    lake.refresh()
    [row] = lake.sql(
        "SELECT account, markets, liquidations, alone_liquidations, equity_base, alone_equity_base FROM joint_owners"
    ).fetchall()
    assert row[:4] == ("0x" + "0" * 40, 2, 1, 2)
    seized = 5_650 * 105 * ETH // (100 * 1_400)
    left = (10 * ETH - seized) * 1_000 * USD // ETH - 5_650 * USD
    assert (int(row[4]), int(row[5])) == (left - 1_300 * USD, 2 * left)


def test_a_vault_that_lends_in_both_markets_bears_its_share_of_both(tmp_path: Path) -> None:
    """It lends 30,000 of 40,000 USDC in one and all in two, where the joint replay leaves 1,300 without cover."""
    for name, at, later, lent in (("one", 10, 250, (30_000, 10_000)), ("two", 12, 310, (20_000,))):
        h = _fallen(name, at, later, lent)
        lake = lake_of(tmp_path / "lake", h, config=msgspec.structs.replace(CONFIG, name=name))
    run_jointly(lake, SCENARIO)
    lake.refresh()
    found = lake.sql(
        "SELECT account[-1:], markets, lent_base, loss_base, alone_loss_base, contagion_base FROM joint_lenders"
        " ORDER BY 1"
    )
    assert [tuple(map(int, row)) for row in found.fetchall()] == [
        (1, 2, 50_000 * USD, 1_300 * USD, 0, 1_300 * USD),
        (2, 1, 10_000 * USD, 0, 0, 0),
    ]
    shares = lake.sql("SELECT DISTINCT account[-1:], share FROM run_lenders WHERE market = 'one' ORDER BY 1").fetchall()
    assert shares == [("1", 0.75), ("2", 0.25)]


def test_a_joint_run_again_by_its_name(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """The stored scenario names its markets; its parts and the runs alone keep their names."""
    first = run_jointly(lake, SCENARIO)
    with pytest.raises(SystemExit) as code:
        main(["replay", "--lake", str(lake.path), "--run", first.runs[1].run_id[:12]])
    assert code.value.code == 0
    assert "(stored already, not replayed again)" in capsys.readouterr().out
    lake.refresh()
    names = lake.sql("SELECT DISTINCT name FROM runs ORDER BY name").fetchall()
    assert names == [("one purse",), ("one purse (joint)",)]


def test_a_name_made_up_here_renames_nothing(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """And seeds are replayed one after another."""
    run(lake, "one", Scenario(name="mine", liquidators=Participation()))
    asked = ["--market", "one", "--market", "two", "--liquidators", "participation", "--repeats", "2"]
    with pytest.raises(SystemExit) as code:
        main(["replay", "--lake", str(lake.path), *asked])
    assert code.value.code == 0
    assert capsys.readouterr().out.count("2 markets together; joint replay") == 2
    lake.refresh()
    names = {name for (name,) in lake.sql("SELECT name FROM runs WHERE market = 'one'").fetchall()}
    seeds = {"participation (joint)", "participation, seed 1", "participation, seed 1 (joint)"}
    assert names == {"mine"} | seeds


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('markets = ["one"]', "give from 2 to 64 names"),
        ('markets = ["one", "one"]', "one of them twice"),
        ('markets = ["one", "two"]\nrates = [{currency = "EUR", worth = "0"}]', "give more than 0"),
        ('markets = ["one", "two"]\nrates = [{currency = "EUR", worth = "１"}]', "is not a number"),
        ('markets = ["one", "two"]\npurse = "mine"', "Invalid enum value 'mine'"),
        ('market = ["one", "two"]', "unknown field 'joint.market'"),
    ],
    ids=["one", "twice", "worth nothing", "wide digits", "purse", "unknown field"],
)
def test_what_a_scenario_of_several_says(body: str, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        parse_scenario(f"[joint]\n{body}\n", "joint.toml")
    assert said in str(error.value)
