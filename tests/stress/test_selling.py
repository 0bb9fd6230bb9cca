"""What selling costs on a path, by hand; its value at risk in SQL against ``risk.tail``."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from backtest.report.stress import as_text, find_stress
from backtest.result_tables import STRESSES, as_table
from backtest.risk.tail import adjusted, tail_risk
from backtest.scenario import AssetImpact, Competitive, ConstantProductDepth, Costs, Impact, Joint, Scenario, Slippage
from backtest.shocks import StressCase, Suite
from backtest.shocks.models import Recorded
from backtest.stress import digest_of, stress
from backtest.tables import RULES_VERSION
from tests.sketches.history import ETH, USD, USDC, WETH, History, market
from tests.support.sketch_history import POOL
from tests.support.sketch_lake import CONFIG, lake_of

HALF = StressCase(
    name="to 1000", prices=Recorded(points=((300, 500_000),), assets=("WETH", "THIN", "BARE"))
)  # fmt: skip
DEPTH = Costs(
    slippage=(
        Slippage(asset="WETH", model="constant-product", reserve=100_000 * USD, fee=0),
        Slippage(asset="THIN", model="depth", curve=((1, 4_000), (10**20, 5_000))),
    )
)
"""A sale of v WETH loses v^2 / (100,000 + v); of THIN 40 %, and a hundred thousandth more for each million; of BARE
nobody says anything.
"""


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Four accounts with 10 tokens of 2000 $: WETH against 8,200, THIN against 8,200 and 11,000, BARE against 8,200."""
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    for name in ("e", "f"):
        h = History(market(("WETH", 18), ("USDC", 6), ("THIN", 18), ("BARE", 18), accounts=4, name=name))
        for asset in (WETH, 2, 3):
            h.param("liquidation_threshold", 8000, asset=asset).param("liquidation_bonus", 10500, asset=asset)
            h.price(asset, 2000 * USD)
        h.param("close_factor", 5_000).price(USDC, USD)
        for account, (asset, debt) in enumerate(((WETH, 8_200), (2, 8_200), (2, 11_000), (3, 8_200))):
            h.position(account, asset, "collateral", 10 * ETH)
            h.position(account, USDC, "debt", debt * 10**6, "borrow")
        h.block(5).price(USDC, USD)
        found = lake_of(tmp_path / "lake", h, config=msgspec.structs.replace(CONFIG, name=name))
    return found


def _suite(scenario: Scenario) -> Suite:
    return Suite(name="by hand", version=1, cases=(HALF,), horizon=900, step=300, scenario=scenario)


def _selling(lake: Lake, suite: Suite) -> list[int]:
    outcome = stress(lake, "e", suite)
    assert outcome.failed == ()
    lake.refresh()
    [row] = lake.sql(
        f"SELECT sold_base, left_base, unstated_base FROM stress_selling WHERE stress_id = '{outcome.stress_id}'"
    ).fetchall()
    return [int(value) for value in row]


def test_a_path_by_hand(lake: Lake) -> None:
    """At 1000 $ half of the first and the last debt is repaid for 4,305 each: of WETH that loses 4,305^2 / 104,305 =
    177.68. THIN sells for 60 %: nobody takes it. At the end its 20,000, sold at once, would bring 12,000 (less
    0.0004): 6,000 behind 8,200, where there was enough, and 6,000 behind 11,000, where 1,000 lacked: 2,200 + 4,000.
    """
    value = 4_305 * USD
    sold = value - value * 100_000 * USD // (100_000 * USD + value)
    whole, size = 20_000 * USD, 10**20 - 1
    lost = -(-whole * (4_000 * size + 1_000 * (whole - 1)) // (10_000 * size))
    left = 6_200 * USD + 2 * -(-(lost - 8_000 * USD) // 2)
    one = _selling(lake, _suite(Scenario(liquidators=Competitive(), costs=DEPTH)))
    assert one == [sold, left, value]
    both = Scenario(liquidators=Competitive(), costs=DEPTH, joint=Joint(markets=("e", "f")))
    assert _selling(lake, _suite(both)) == [2 * amount for amount in one]
    [row] = lake.sql(
        "SELECT var_base, adjusted_var_base, adjusted_high_base, unstated_mean_base FROM stress_liquidity"
        " WHERE level = 9900 ORDER BY adjusted_var_base LIMIT 1"
    ).fetchall()
    assert (int(row[0]), int(row[1]), row[2], row[3]) == (1_000 * USD, 1_000 * USD + sold + left, None, value)


def test_prices_that_answer(lake: Lake) -> None:
    """A constant product of 390 WETH: 4.305 of them lose 4.305 / 394.305 of their worth; the others state nothing."""
    impact = Impact(assets=(AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=390)),), netting="none")
    sold, left, unstated = _selling(lake, _suite(Scenario(liquidators=Competitive(), impact=impact)))
    assert sold == pytest.approx(4_305 * USD * 4.305 / 394.305, rel=1e-9)
    # each of the other three is liquidated once, and the third again and again until nothing pays
    assert left == 0
    assert unstated >= 3 * 4_305 * USD


def test_without_depth_nothing_is_said(lake: Lake) -> None:
    outcome = stress(lake, "e", _suite(Scenario(liquidators=Competitive())))
    lake.refresh()
    assert lake.sql("SELECT count(*) FROM stress_selling").fetchall() == [(0,)]
    assert "what selling costs" not in as_text(find_stress(lake, outcome.stress_id[:12]))


def test_value_at_risk_in_sql_is_that_of_the_formula(lake: Lake) -> None:
    """Cases of few and many paths: the same order statistics, and none where there are too few paths."""
    outcome = stress(lake, "e", _suite(Scenario(liquidators=Competitive(), costs=DEPTH)))
    before = digest_of(lake, "e", outcome.stress_id)
    draw, sizes = random.Random(5), (1, 19, 20, 58, 59, 72, 73, 199, 368, 369, 400, 1_000)
    common, [stored] = {"stress_id": "x", "market": "e"}, lake.read("results/stresses", "e").to_pylist()
    tables: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("stresses", "stress_cases", "stress_paths", "stress_selling")
    }
    whole = {key: int(value) if isinstance(value, Decimal) else value for key, value in stored.items()}
    tables["stresses"].append({**whole, "still_bad_debt_base": 7, "name": "made up"})
    losses: dict[int, tuple[list[int], list[int]]] = {}
    for ordinal, size in enumerate(sizes):
        case = {"ordinal": ordinal, "name": f"{size} paths", "model": "", "events": "", "source": "", "paths": size}
        tables["stress_cases"].append(case)
        bad = [draw.choice((0, draw.randrange(10**12))) for _ in range(size)]
        short = [draw.randrange(10**10) for _ in range(size)]
        losses[ordinal] = bad, short
        for path, (lost, added) in enumerate(zip(bad, short, strict=True)):
            row = dict.fromkeys(STRESSES["stress_paths"].names) | {
                "liquidations": 0,
                "lowest_price": 1,
                "repaid_base": 0,
            }
            tables["stress_paths"].append({**row, "ordinal": ordinal, "path": path, "bad_debt_base": lost + 7})
            selling = {"sold_base": added // 2, "left_base": added - added // 2, "unstated_base": 0}
            tables["stress_selling"].append({"ordinal": ordinal, "path": path, **selling})
    with lake.writer() as writer:
        made = {f"results/{name}": as_table(STRESSES[name], rows, common) for name, rows in tables.items()}
        writer.append_all("e", made, stamp=RULES_VERSION)
    lake.refresh()
    found = lake.sql("SELECT * FROM stress_liquidity WHERE stress_id = 'x'").to_arrow_table().to_pylist()
    assert len(found) == 2 * len(sizes)
    for row in found:
        bad, short = losses[row["ordinal"]]
        plain, more = tail_risk(bad, row["level"]), tail_risk(adjusted(bad, short), row["level"])
        assert row["paths"] == len(bad)
        assert [_int(row[f"var{end}_base"]) for end in ("", "_low", "_high")] == [
            plain.var, plain.var_low, plain.var_high,
        ]  # fmt: skip
        assert [_int(row[f"adjusted{end}_base"]) for end in ("_var", "_low", "_high")] == [
            more.var, more.var_low, more.var_high,
        ]  # fmt: skip
    assert digest_of(lake, "e", outcome.stress_id) == before
    text = " ".join(as_text(find_stress(lake, "x")).split())
    assert "Bad debt with what selling costs at the stated depth" in text


def _int(value: object) -> int | None:
    return None if value is None else int(value)  # type: ignore[call-overload,no-any-return]
