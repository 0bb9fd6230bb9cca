"""What connects the markets of a joint replay, stored beside it: two markets by hand.

Before block 50 WETH is at 2000 $. In ``a`` 23 WETH stand behind 20,000 USDC, so that equity is 26,000; in ``b`` 10
behind 8,200: 11,800. A constant product of 390 WETH is 1 % lower after 390 (1 / sqrt(0.99) - 1) = 1.9648 of them, so
that depth is D = 100 * 1.9648 * 2,000 = 392,958 and the overlap 46,000 * 20,000 / D = 2,341.2.

WETH falls to 1050 $ (blocks 120 and 121). In ``a`` 23 * 840 = 19,320 is less than 20,000: half of it is repaid for
10,500, which are 10 WETH; they are sold, and (390 / 400)^2 of 1050 is 998.16. In ``b`` 10 * 840 = 8,400 was enough for
8,200, and 7,985 is not: 8,200 are repaid for 8,610, 8.626 WETH, whose sale leaves 956.49. There 13 WETH count 9,947 in
``a``, which is less than the 10,000 that are left: half of them is repaid for 5,250, and 5,000 stay. So ``a`` loses
500 alone and 750 together, ``b`` nothing alone and 410 together.

A second owner, who only lends in ``a``, borrows in ``b`` at block 100.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from backtest.cli import main
from backtest.joint import asked_of, members_of, replayed_jointly, run_jointly
from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from backtest.results import load_material
from backtest.scenario import (
    AssetImpact,
    ChainlinkRule,
    Competitive,
    ConstantProductDepth,
    Impact,
    Joint,
    Scenario,
)
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, market
from tests.support.sketch_lake import CONFIG, lake_of

SHALLOW = AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=390), oracle=ChainlinkRule(delay=0))
SCENARIO = Scenario(
    name="both",
    liquidators=Competitive(),
    impact=Impact(assets=(SHALLOW,), netting="none"),
    joint=Joint(markets=("a", "b")),
    from_block=50,
)
D = 390 * (0.99**-0.5 - 1) * 2_000 * 100
OVERLAP = 46_000 * 20_000 / D
EQUITY = {"a": 26_000, "b": 11_800}
FIRST, SECOND = (f"0x{account:040x}" for account in range(2))


@pytest.fixture(autouse=True)
def _sketch_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "sketch", FixedSpreadPool())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    for name, eth, usdc, late in (("a", 23, 20_000, False), ("b", 10, 8_200, True)):
        h = History(market(("WETH", 18), ("USDC", 6), accounts=2, name=name))
        h.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
        h.param("close_factor", 10_000 if late else 5_000).price(WETH, 2000 * USD).price(USDC, USD)
        borrower(h, 0, eth, usdc)
        if not late:
            h.position(1, WETH, "collateral", 2 * ETH)
        h.block(50).price(USDC, USD).block(100)
        if late:
            borrower(h, 1, 1, 500)
        h.block(121 - late).price(WETH, 1050 * USD).block(250).price(USDC, USD)
        found = lake_of(tmp_path / "lake", h, config=msgspec.structs.replace(CONFIG, name=name))
    return found


def test_two_markets_by_hand(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    made = run_jointly(lake, SCENARIO)
    lake.refresh()
    held = lake.sql(
        "SELECT of_market, held_base // 100000000, supplied_base // 100000000, lent_base // 100000000, depth_base / 1e8"
        " FROM joint_exposures WHERE step = 0 AND symbol = 'WETH' ORDER BY of_market"
    ).fetchall()
    assert [tuple(map(float, row[1:4])) for row in held] == [(46_000, 50_000, 0), (20_000, 20_000, 0)]
    assert [row[4] for row in held] == [pytest.approx(D, rel=1e-9)] * 2
    rows = lake.sql("SELECT measure, subject, other, amount_base, number FROM joint_network WHERE step = 0").fetchall()
    found = {tuple(row[:3]): float(row[4] if row[3] is None else row[3] / USD) for row in rows}
    assert [found["debt", name, None] for name in "ab"] == [20_000, 8_200]
    assert found["debt of common owners", "a", "b"] == 8_200
    assert found["overlap", "a", "b"] == pytest.approx(OVERLAP * USD, rel=1e-9)
    assert found["risk index", "a", None] == pytest.approx(46 / 66, rel=1e-9)  # one asset: by what each holds
    by_a, by_b = OVERLAP / EQUITY["b"], OVERLAP / EQUITY["a"]
    assert found["debt rank with sales", "b", "a"] == pytest.approx(by_a, rel=1e-9)
    assert found["debt rank with sales", "others", "b"] == pytest.approx(by_b, rel=1e-9)
    # of what a loses alone a part reaches b, and of that a part comes back
    began = 500 / EQUITY["a"]
    assert [found["distress alone", name, None] for name in "ab"] == [pytest.approx(began), 0]
    assert found["distress passed on", "b", None] == pytest.approx(began * by_a)
    assert found["distress passed on", "a", None] == pytest.approx(began * (1 + by_a * by_b))
    assert found["distress together", "a", None] == pytest.approx(750 / EQUITY["a"])
    assert found["distress together", "b", None] == pytest.approx(410 / EQUITY["b"])
    steps = lake.sql("SELECT DISTINCT step, timestamp FROM joint_network ORDER BY step").fetchall()
    assert [step for step, _ in steps] == list(range(7))
    assert (steps[0][1], steps[-1][1]) == (12, 3_000)
    again = run_jointly(lake, SCENARIO)  # nothing is replayed or stored again
    assert not again.replayed
    lake.refresh()
    [(count,)] = lake.sql("SELECT count(*) FROM joint_network WHERE measure = 'eigenvalue'").fetchall()
    assert count == 7
    with pytest.raises(SystemExit):
        main(["replay", "--lake", str(lake.path), "--run", made.runs[0].run_id[:12]])
    said = " ".join(capsys.readouterr().out.split())
    assert "What connects them" in said
    assert "Owners in several markets" in said


def test_owners_who_come_later_are_linked(lake: Lake) -> None:
    """The second owner has accounts in both markets from block 100 on, after the window began."""
    run_jointly(lake, SCENARIO)
    lake.refresh()
    rows = lake.sql(
        "SELECT owner, of_market, since, linked_at, later, start_debt_base, most_debt_base, end_debt_base,"
        " liquidations, alone_liquidations, repaid_base, alone_repaid_base, borrowers_loss_base, bad_debt_base"
        " FROM joint_links ORDER BY owner, of_market"
    ).fetchall()
    shown = [(*row[:5], *(int(value) for value in row[5:])) for row in rows]
    before, repaid = (20_000 * USD, 20_000 * USD, 5_000 * USD), (15_000 * USD, 10_000 * USD)
    assert shown[0] == (FIRST, "a", 12, 12, False, *before, 2, 1, *repaid, 750 * USD - 1, 0)
    assert shown[1][:10] == (FIRST, "b", 12, 12, False, 8_200 * USD, 8_200 * USD, 0, 1, 0)
    assert shown[1][10:12] == (8_200 * USD, 0)
    assert shown[2] == (SECOND, "a", 12, 1_200, True, *(0,) * 9)
    assert shown[3] == (SECOND, "b", 1_200, 1_200, True, 0, 500 * USD, 500 * USD, *(0,) * 6)


def test_looking_changes_nothing(lake: Lake) -> None:
    looked = run_jointly(lake, SCENARIO)
    assert SCENARIO.joint is not None
    members = members_of(lake, SCENARIO.joint)
    materials = [load_material(lake, name) for name in SCENARIO.joint.markets]
    plain = replayed_jointly(materials, members, asked_of(SCENARIO, members))
    assert [run.digest for run, _ in plain] == [run.digest for run in looked.runs]
