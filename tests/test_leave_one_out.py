"""``backtest replay --leave-one-out``: three markets by hand, stored, resumed, ranked and shown.

WETH falls from 2000 to 1050 $ in ``a`` and ``b``. In ``a`` 23 * 840 = 19,320 stand against 20,000: half is repaid for
10,000 * 1.05 / 1050 = 10 WETH, which are sold into 390: (390 / 400)^2 of 1050 is 998.15625 $. In ``b``, where 98 % of
collateral count, 4 * 1,029 = 4,116 stood against 4,112; at 998.15625 its 4 WETH are worth 3,992.625, which pay for
3,802.5: 309.5 are bad debt. At (390 / 404)^2 of 1050 the 13 WETH left in ``a`` weigh 10,176 against 10,000. In ``c``
another token falls to 1000 $: 10 * 800 = 8,000 against 8,200, which are repaid for 8,610; nobody else has it.

``b`` counts in EUR, worth 1.25 $ each: its account and its prices are in that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from backtest import leave_one_out as module
from backtest.cli import main
from backtest.lake import Lake
from backtest.leave_one_out import leave_one_out
from backtest.model import AccountId
from backtest.protocols.book import Book
from backtest.protocols.registry import PROTOCOLS
from backtest.replay.claims import short_of
from backtest.replay.several import state_at
from backtest.report import write_report
from backtest.scenario import (
    AssetImpact,
    ChainlinkRule,
    Competitive,
    ConstantProductDepth,
    ExchangeRate,
    Impact,
    Joint,
    Scenario,
)
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import ETH, USD, USDC, WETH, History, market
from tests.support.sketch_history import POOL
from tests.support.sketch_lake import CONFIG, lake_of

pytestmark = pytest.mark.slow

SHALLOW = AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=390), oracle=ChainlinkRule(delay=0))
SCENARIO = Scenario(
    name="all three",
    liquidators=Competitive(),
    impact=Impact(assets=(SHALLOW,), netting="none"),
    joint=Joint(markets=("a", "b", "c"), rates=(ExchangeRate(currency="EUR", worth="1.25"),)),
)
OWNERS = [f"0x{account:040x}" for account in range(4)]
A = {"bad_debt": 0, "borrowers_loss": 500 * USD, "repaid": 10_000 * USD}
"""10,500 are seized for 10,000,"""
B = {
    name: euros * 5 * USD // 4_000
    for name, euros in (("bad_debt", 309_500), ("borrowers_loss", 190_125), ("repaid", 3_802_500))
}
"""3,992.625 EUR for 3,802.5 EUR,"""
C = {"bad_debt": 0, "borrowers_loss": 410 * USD, "repaid": 8_200 * USD}
"""and 8,610 for 8,200."""
A_AND_B = {key: A[key] + B[key] for key in A}
NOTHING = dict.fromkeys(A, 0)


@pytest.fixture(autouse=True)
def _sketch_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "sketch", FixedSpreadPool())


def _lent(name: str, asset: int, account: int, amount: int, usdc: int, later: int, counts: int = 8_000) -> History:
    """One account, whose collateral is worth 2000 and from block 10 on what comes ``later``; all of a debt may be
    repaid at once, in ``a`` half of it.
    """
    h = History(market(("WETH", 18), ("USDC", 6), ("OTHER", 18), accounts=4, name=name))
    h.param("liquidation_threshold", counts, asset=asset).param("liquidation_bonus", 10500, asset=asset)
    h.param("close_factor", 5_000 if name == "a" else 10_000).price(asset, 2000 * USD).price(USDC, USD)
    h.position(account, asset, "collateral", amount * ETH)
    h.position(account, USDC, "debt", usdc * 10**6, "borrow")
    return h.block(10).price(asset, later * USD).block(250).price(USDC, USD)


def _lake(path: Path) -> Lake:
    for h in (
        _lent("a", WETH, 0, 23, 20_000, 1_050),
        _lent("b", WETH, 3, 4, 4_112, 1_050, 9_800),
        _lent("c", 2, 2, 10, 8_200, 1_000),
    ):
        currency = "EUR" if h.market.name == "b" else "USD"
        found = lake_of(path, h, config=msgspec.structs.replace(CONFIG, name=h.market.name, base_currency=currency))
    return found


def test_three_markets_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = _lake(tmp_path)
    made = leave_one_out(lake, SCENARIO)
    monkeypatch.setattr("backtest.lake.Lake", lambda path: lake)  # opened once, by verb, queries and page
    assert (made.number, made.replayed) == (7, 7)
    scenario = tmp_path / "all.toml"
    scenario.write_text(
        'name = "all three"\n[liquidators]\nkind = "competitive"\n[impact]\nnetting = "none"\n[[impact.assets]]\n'
        'asset = "WETH"\ndepth = {kind = "constant-product", reserve = 390}\noracle = {kind = "chainlink", delay = 0}\n'
        '[joint]\nmarkets = ["a", "b", "c"]\nrates = [{currency = "EUR", worth = "1.25"}]\n'
    )
    with pytest.raises(SystemExit) as code:
        main(["replay", "--lake", str(tmp_path), "--scenario", str(scenario), "--leave-one-out"])
    assert code.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"7 joint replays (stored already, not replayed again), rows {made.digest[:16]}" in said
    assert f"owner {OWNERS[0]} 0 386.88 386.88 737.66 237.66 14,753 4,753" in said
    assert "market c 386.88 none none 410.00 none 8,200 none" in said
    assert "Nothing is drawn: no difference is chance" in said

    ranks = {
        (row["kind"], row["left_out"]): (
            {key: int(row[f"spared_{key}_base"]) for key in A},
            {key: int(row[f"others_{key}_base"]) for key in A},
            row["rank_bad_debt"],
        )
        for row in lake.sql("SELECT * FROM joint_ranks").to_arrow_table().to_pylist()
    }
    assert ranks == {
        ("market", "a"): (A_AND_B, B, 1),
        ("owner", OWNERS[0]): (A_AND_B, B, 1),
        ("asset", "WETH"): (B, B, 1),
        ("market", "b"): (B, NOTHING, 1),
        ("owner", OWNERS[3]): (B, NOTHING, 1),
        ("market", "c"): (C, NOTHING, 6),
        ("owner", OWNERS[2]): (C, NOTHING, 6),
    }
    # of a market that touches nothing, to the last unit
    [(number,)] = lake.sql(
        "SELECT count(*) FROM leave_one_out WHERE kind = 'market' AND left_out = 'c'"
        " AND liquidations = joint_liquidations AND seized_base = joint_seized_base AND repaid_base = joint_repaid_base"
    ).fetchall()
    assert number == 2
    spared = lake.sql("SELECT of_market FROM joint_without WHERE left_out = 'WETH' AND spared_bad_debt_base <> 0")
    assert spared.fetchall() == [("b",)]
    debts = lake.sql(
        "SELECT left_out, debt_base FROM leave_one_out WHERE kind = 'owner' AND of_market = 'a' ORDER BY place"
    )
    assert [(owner, int(debt)) for owner, debt in debts.fetchall()] == [
        (OWNERS[0], 20_000 * USD), (OWNERS[2], 8_200 * USD), (OWNERS[3], 5_140 * USD),
    ]  # fmt: skip
    page = tmp_path / "page.html"
    write_report(lake, ["all three (joint)"], page, market="a")
    assert "Who matters, in USD" in page.read_text()


def test_what_is_stored_is_not_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after three of them, the rest is made; the same question has the same digest, in another lake too."""
    lake, real, calls = _lake(tmp_path / "one"), module.replayed_without, []

    def interrupted(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(module, "replayed_without", interrupted)
    with pytest.raises(KeyboardInterrupt):
        leave_one_out(lake, SCENARIO, owners=1)
    monkeypatch.setattr(module, "replayed_without", real)
    rest = leave_one_out(lake, SCENARIO, owners=1)
    assert (rest.number, rest.replayed) == (5, 2)
    again = leave_one_out(lake, SCENARIO, owners=1)
    assert (again.replayed, again.digest) == (0, rest.digest)
    elsewhere = leave_one_out(_lake(tmp_path / "two"), SCENARIO, owners=1)
    assert (elsewhere.replayed, elsewhere.digest) == (5, rest.digest)


def test_all_net_out_what_the_whole_does(tmp_path: Path) -> None:
    """A replay that is its own baseline has history's prices, in which ``a``'s sale is, so that ``b`` is not
    liquidated at 1050 $. Without ``a`` prices are those of history without that sale, 1050 / 0.950625, or 1104.54 $,
    and neither is it. Where WETH does not move, prices are history's.
    """
    lake = _lake(tmp_path)
    netted = msgspec.structs.replace(SCENARIO, impact=Impact(assets=(SHALLOW,)))
    made = leave_one_out(lake, netted, owners=0)
    assert made.number == 4
    rows = lake.read("results/leave_one_out", "a").to_pylist()
    assert {row["of_market"]: row["liquidations"] for row in rows if row["left_out"] == "WETH"} == {
        "a": 1,
        "b": 0,
        "c": 1,
    }
    assert {row["of_market"]: row["liquidations"] for row in rows if row["left_out"] == "a"} == {"b": 0, "c": 1}
    assert all(row["liquidations"] == row["joint_liquidations"] for row in rows)


def test_owners_of_a_window(tmp_path: Path) -> None:
    """From block 5 on: the debts that there were before it, and who is left out of what happens after it."""
    lake = _lake(tmp_path)
    leave_one_out(lake, msgspec.structs.replace(SCENARIO, from_block=5), owners=1)
    rows = [row for row in lake.read("results/leave_one_out", "a").to_pylist() if row["kind"] == "owner"]
    assert {(row["left_out"], int(row["debt_base"])) for row in rows} == {(OWNERS[0], 20_000 * USD)}
    figures = {row["of_market"]: (row["joint_liquidations"], row["liquidations"]) for row in rows}
    assert figures == {"a": (0, 0), "b": (1, 0), "c": (1, 1)}


def test_what_an_owner_owed_without_cover_at_first_is_not_set_off() -> None:
    """Claims bear what is lost beyond what was without cover as the window began; of who is left out neither counts."""
    h = History(market(("WETH", 18), ("USDC", 6), accounts=3, name="a")).price(WETH, 1_000 * USD).price(USDC, USD)
    for account, debt in ((0, 1_400), (1, 1_100)):
        h.position(account, WETH, "collateral", ETH).position(account, USDC, "debt", debt * 10**6, "borrow")
    state, prices, now = state_at(POOL, h.market, h.timeline(), h.timeline().last_block)
    book = Book(POOL, h.market, state, now)
    book.oracle.update(prices.oracle)
    assert (short_of(book), short_of(book, frozenset({AccountId(0)}))) == (500 * USD, 100 * USD)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--market", "a", "--leave-one-out"], "--leave-one-out with one market; name several"),
        (["--market", "a", "--market", "c", "--largest", "2"], "--largest without --leave-one-out"),
    ],
    ids=["one market", "nobody left out"],
)
def test_what_cannot_be_asked(more: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _lake(tmp_path)
    with pytest.raises(SystemExit) as code:
        main(["replay", "--lake", str(tmp_path), "--liquidators", "competitive", *more])
    assert code.value.code == 2
    assert what in " ".join(capsys.readouterr().err.split())
