"""Stresses of several markets: by hand on sketches, the same bytes whoever replays them, and shown as stored."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from backtest.cli import main
from backtest.errors import ScenarioError, UserError
from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from backtest.report.stress import as_text, find_stress
from backtest.result_tables import STRESSES
from backtest.scenario import (
    AssetImpact,
    ChainlinkRule,
    Competitive,
    ConstantProductDepth,
    ExchangeRate,
    Impact,
    Joint,
    Override,
    Scenario,
    SealedBid,
    Searcher,
)
from backtest.shocks import StressCase, Suite, parse_suite
from backtest.shocks.models import Recorded
from backtest.stress import digest_of, store, stress
from backtest.sweep import Processes
from tests.sketches.history import USD, USDC, WETH, History, borrower, market
from tests.support.sample_sweeps import sample
from tests.support.sketch_history import POOL
from tests.support.sketch_lake import CONFIG, lake_of
from tests.support.small_stress import BLOCK, TEXT

pytestmark = pytest.mark.slow

OF_ONE = {"stress_statistics", "stress_books", "stress_levels", "stress_depths", "stress_spread"}
"""Tables about models that are fitted, and about what the book of one market says by itself."""
OF_RUNS = {"stress_runs", "stress_unpaid"}
"""Tables that have rows where suppliers leave or liquidations cannot be paid (``test_runs.py``)."""
TOKENS = tuple(f"0x{place:040x}" for place in range(3))
HALVES = StressCase(name="WETH to 800", prices=Recorded(points=((300, 400_000),), assets=("WETH",)))
TOGETHER = Joint(markets=("b", "c"))


def _suite(scenario: Scenario, *cases: StressCase) -> Suite:
    return Suite(name="by hand", version=1, cases=cases or (HALVES,), horizon=900, step=300, scenario=scenario)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Market ``b``: 10 WETH at 2000 $ against 8,200 USDC, of 20,000 supplied; ``c``: 1,000 claims on these against 789.
    As in ``tests/replay/test_claims.py``.
    """
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    b = History(market(("WETH", 18), ("USDC", 6), accounts=4, name="b"))
    b.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
    b.param("close_factor", 10_000).price(WETH, 2000 * USD).price(USDC, USD)
    borrower(b, 0, 10, 8_200)
    b.position(1, USDC, "collateral", 20_000 * 10**6).block(5).price(USDC, USD)
    c = History(market(("WETH", 18), ("USDC", 6), ("bUSDC", 6), accounts=4, name="c"))
    c.param("liquidation_threshold", 8000, asset=2).param("liquidation_bonus", 10500, asset=2)
    c.param("close_factor", 10_000).price(USDC, USD).price(2, USD)
    c.position(3, 2, "collateral", 1_000 * 10**6).position(3, USDC, "debt", 789 * 10**6, "borrow")
    c.block(5).price(USDC, USD)
    for h, receipts in ((b, {"USDC": TOKENS[2]}), (c, {})):
        config = msgspec.structs.replace(CONFIG, name=h.market.name)
        found = lake_of(tmp_path / "lake", h, config=config, receipts=receipts)
    return found


def test_a_loss_on_a_path_reaches_claims_of_another_market(lake: Lake) -> None:
    """WETH goes to 800 $ at the first step. ``b`` repays 7,619.047620 and writes off 580.952380 of its 40,000; ``c``
    repays 789, alone nothing. At 600 $ ``b`` repays 5,714.285715: 2,485.714285 of 40,000 leave 93.7857 % of 1,000
    claims, which still pay for all of 789.
    """
    deeper = StressCase(name="WETH to 600", prices=Recorded(points=((300, 300_000),), assets=("WETH",)))
    outcome = stress(lake, "b", _suite(Scenario(liquidators=Competitive(), joint=TOGETHER), HALVES, deeper))
    assert (outcome.paths, outcome.failed) == (2, ())
    lake.refresh()
    found = lake.sql(
        "SELECT ordinal, of_market, repaid_base, alone_repaid_base, added_bad_debt_base, alone_added_bad_debt_base"
        " FROM stress_markets ORDER BY ordinal, place"
    ).fetchall()
    assert [tuple(map(str, row)) for row in found] == [
        ("0", "b", "761904762000", "761904762000", "58095238000", "58095238000"),
        ("0", "c", "78900000000", "0", "0", "0"),
        ("1", "b", "571428571500", "571428571500", "248571428500", "248571428500"),
        ("1", "c", "78900000000", "0", "0", "0"),
    ]
    paths = lake.sql(
        "SELECT repaid_base, added_bad_debt_base, liquidations FROM stress_paths ORDER BY ordinal"
    ).fetchall()
    assert [tuple(map(int, row)) for row in paths] == [
        (761_904_762_000 + 78_900_000_000, 58_095_238_000, 2),
        (571_428_571_500 + 78_900_000_000, 248_571_428_500, 2),
    ]
    view = find_stress(lake, "by hand")
    assert int(view.stress["debt_base"]) == 8_989 * USD
    text = as_text(view)
    assert "Each market with the others, and alone" in text
    assert "Of b, c together" in text
    assert "bUSDC is a claim on deposits of b" in text
    [row] = lake.sql(
        "SELECT mean_base, alone_mean_base FROM stress_market_losses WHERE ordinal = 0 AND of_market IS NULL"
    ).fetchall()
    assert row == (58_095_238_000, 58_095_238_000)
    # stored is not replayed, and one market's stress beside it is another
    assert stress(lake, "b", _suite(Scenario(liquidators=Competitive(), joint=TOGETHER), HALVES, deeper)).replayed == 0
    assert stress(lake, "b", _suite(Scenario(liquidators=Competitive()))).stress_id != outcome.stress_id


def test_one_purse_and_one_price(lake: Lake, tmp_path: Path) -> None:
    """A second ``b``: 6,000 $ pay for one of two accounts at once; and what one sells lowers the other's price."""
    d = History(market(("WETH", 18), ("USDC", 6), accounts=4, name="d"))
    d.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
    d.price(WETH, 2000 * USD).price(USDC, USD)
    borrower(d, 0, 10, 8_200)
    d.block(5).price(USDC, USD)
    lake_of(tmp_path / "lake", d, config=msgspec.structs.replace(CONFIG, name="d", base_currency="EUR"))
    lake.refresh()
    to_1000 = StressCase(name="to 1000", prices=Recorded(points=((300, 500_000),), assets=("WETH",)))
    joint = Joint(markets=("b", "d"), rates=(ExchangeRate(currency="EUR", worth="1"),))
    half = Override(parameter="close_factor", value=5_000, market="b")
    only = SealedBid(searchers=(Searcher(name="only", capital=6_000 * USD),))
    bidding = Scenario(liquidators=only, joint=joint, overrides=(half,))
    short = stress(lake, "b", _suite(bidding, to_1000))
    each = Scenario(liquidators=only, joint=msgspec.structs.replace(joint, purse="each"), overrides=(half,))
    apart = stress(lake, "b", _suite(each, to_1000))
    rule = ChainlinkRule(deviation=50, heartbeat=3_600, delay=0)
    answers = Impact(assets=(AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=2_000), oracle=rule),))
    selling = Scenario(liquidators=Competitive(), joint=joint, overrides=(half,), impact=answers)
    moved = stress(lake, "b", _suite(selling, to_1000))
    lake.refresh()

    def counts(stress_id: str) -> list[tuple[int, int]]:
        return lake.sql(
            "SELECT liquidations, alone_liquidations FROM stress_markets"
            f" WHERE stress_id = '{stress_id}' ORDER BY place"
        ).fetchall()

    assert counts(short.stress_id) == [(1, 1), (0, 1)]
    assert counts(apart.stress_id) == [(1, 1), (1, 1)]
    [(both, alone)] = lake.sql(
        f"SELECT sum(repaid_base), sum(alone_repaid_base) FROM stress_markets WHERE stress_id = '{moved.stress_id}'"
    ).fetchall()
    assert both >= alone > 0


def test_alone_is_the_stress_of_one_market(lake: Lake) -> None:
    """And a market beside which nothing happens changes nothing."""
    one = stress(lake, "b", _suite(Scenario(liquidators=Competitive())))
    both = stress(lake, "b", _suite(Scenario(liquidators=Competitive(), joint=TOGETHER)))
    lake.refresh()
    [alone] = lake.sql(
        f"SELECT repaid_base, added_bad_debt_base FROM stress_paths WHERE stress_id = '{one.stress_id}'"
    ).fetchall()
    found = lake.sql(
        "SELECT repaid_base, added_bad_debt_base, alone_repaid_base, alone_added_bad_debt_base FROM stress_markets"
        f" WHERE stress_id = '{both.stress_id}' AND of_market = 'b'"
    ).fetchall()
    assert found == [(*alone, *alone)]


def test_mistakes(lake: Lake) -> None:
    def asked(**more: object) -> Suite:
        return _suite(Scenario(liquidators=Competitive(), joint=TOGETHER, **more))  # type: ignore[arg-type]

    for market_, suite, said in (
        ("c", asked(), "market 'c' where the scenario names b, c"),
        ("b", asked(overrides=(Override(parameter="liquidation_bonus", asset="DAI", value=10_100),)), "no such thing"),
    ):
        with pytest.raises((UserError, ScenarioError), match=said):
            stress(lake, market_, suite)
    with pytest.raises(UserError, match="block 99 is not within the history"):
        stress(lake, "b", asked(), block=99)


def _both() -> Suite:
    """Of both markets of the bundled sample: what one sells, the other's accounts see."""
    suite = parse_suite(TEXT, "small.toml")
    impact = Impact(assets=(AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=3_000)),), netting="none")
    joint = Joint(markets=("sample-crash", "sample-calm"))
    scenario = Scenario(liquidators=Competitive(), impact=impact, joint=joint)
    return msgspec.structs.replace(suite, scenario=scenario, paths=4, cases=(suite.cases[0], suite.cases[2]))


@pytest.mark.xdist_group("stress")
def test_two_processes_give_the_same_bytes_and_a_page_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "CHUNK", 2)
    lake, again = sample(tmp_path / "lake"), sample(tmp_path / "again")
    outcome = stress(lake, "sample-crash", _both(), Processes(2), block=BLOCK, seed=3)
    assert (outcome.paths, outcome.replayed, outcome.failed) == (5, 5, ())
    plain = stress(again, "sample-crash", _both(), block=BLOCK, seed=3)
    assert digest_of(again, "sample-crash", plain.stress_id) == digest_of(lake, "sample-crash", outcome.stress_id)
    for name in STRESSES:
        tables = [one.read(f"results/{name}", "sample-crash").to_pylist() for one in (lake, again)]
        assert sorted(map(repr, tables[0])) == sorted(map(repr, tables[1]))
        assert tables[0] or name in OF_ONE | OF_RUNS
    [(worse,)] = again.sql("SELECT count(*) FROM stress_markets WHERE repaid_base > alone_repaid_base").fetchall()
    assert worse
    words = ["report", "--stress", "small", "--lake", str(again.path), "-o", str(tmp_path / "page.html")]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Each market with the others, and alone" in page
    assert page.count("not of several together") == 3, "pictures of one book are not said to be empty"
    assert "http://" not in capsys.readouterr().out


def test_who_loses_by_whose_fall(lake: Lake) -> None:
    """WETH falls alone by 50 %, to 1,000 $. A bonus of 50 % repays 6,666.666667 of ``b``'s 8,200: 1,533.333333 of
    40,000 deposits are lost, which leaves 96.1667 % of the 1,000 claims of ``c``; of these, at a bonus of 30 %,
    739.743590 of 789 are repaid and 49.256410 lost. Alone ``c`` loses nothing. By 30 % nobody may be liquidated: 8,200
    against 80 % of 14,000.
    """
    bonuses = tuple(
        Override(parameter="liquidation_bonus", asset=asset, value=value, market=of)
        for asset, value, of in (("WETH", 15_000, "b"), ("bUSDC", 13_000, "c"))
    )
    terms = Scenario(liquidators=Competitive(), joint=TOGETHER, overrides=bonuses, allow_invalid=True)
    stress(lake, "b", _suite(terms))
    lake.refresh()
    view = find_stress(lake, "by hand")
    assert as_text(view).startswith("Stress by hand of b, c:")
    found = {
        (row["fallen"], row["fall"], row["of_market"]): (int(row["loss_base"]), int(row["contagion_base"]))
        for row in view.rows("SELECT * FROM stress_contagion WHERE stress_id = $stress")
    }
    assert found["WETH", 3_000, "b"] == (0, 0)
    lost, others = found["WETH", 5_000, "b"]
    assert (lost, others) == (pytest.approx(1_533.333333 * USD, abs=200), 0)
    lost, others = found["WETH", 5_000, "c"]
    assert lost == others == pytest.approx(49.256410 * USD, abs=1_000)
    assert {fallen for fallen, _, _ in found} == {"WETH", "USDC"}, "a claim is what it stands for"
    [figure] = [figure for figure in view.figures() if figure.title == "Who loses by whose fall"]
    assert figure.spec is not None
    assert len(figure.spec["vconcat"]) == 2
