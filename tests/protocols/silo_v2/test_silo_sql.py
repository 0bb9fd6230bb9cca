"""Random histories in a lake: SQL's holdings and health are the rules', to the last integer, between accruals too; and
it says where not.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.structs import replace

from backtest.lake import Lake
from backtest.protocols.silo_v2.irm import X_MAX, Gains, exp_down
from tests.protocols.silo_v2.hand import E6, E18, PERCENT, STEEP
from tests.protocols.silo_v2.market import Rows, Script, config, folded, wandered
from tests.support.lake_tables import write
from tests.support.sql_engine import assert_sql_is_the_engine, spread

pytestmark = pytest.mark.slow

REAL = Gains(
    80 * PERCENT, 90 * PERCENT, 50 * PERCENT, 367_011, 951_293_759_513, 10**9, 1_585_489_599, 277_777_777_777_778
)
"""About what markets of stable coins have."""
RANDOM: dict[str, tuple[Any, ...]] = {"steep": (8, STEEP), "old": (5, REAL, False)}
LEND, FIRST, SECOND, HELD = (bytes([number]) * 20 for number in range(40, 44))


def lake_rows(script: Script, seed: int = 1) -> Rows:
    """All canonical rows: with blocks, and prices of ether with digits below a base unit."""
    draw, rows, times = random.Random(seed), folded(script), script.times
    first = {"seq": 0, "log_index": 0, "block_number": 1, "timestamp": times[1], "exact": True}
    prices = [{**first, "asset_id": n, "price": price, "method": "fixed"} for n, price in ((0, 2_000 * E6), (1, E6))]
    names = ("seq", "block_number", "log_index", "timestamp")
    for place in sorted({tuple(row[name] for name in names) for row in rows["position_events"]})[::6]:
        row = dict(zip(names, place, strict=True))
        price = {"price": draw.randrange(900, 2_600) * E6 + draw.randrange(E6), "price_rest": draw.randrange(E18)}
        prices.append({**row, **price, "asset_id": 0, "method": "feed", "exact": True})
    blocks = [{"block_number": block, "timestamp": time} for block, time in times.items()]
    return {**rows, "prices": [{"price_rest": 0, **row} for row in prices], "blocks": blocks}


def small(one: int = 1) -> Script:
    """Two loans of dollars against an ether each, one that a month makes unsafe, and a deposit."""
    script = Script()
    script.next(60)
    script.deposit(1, 3_500 * E6 * one, LEND)
    for who, amount in ((FIRST, 1_000), (SECOND, 1_599)):
        script.deposit(0, E18 * one, who)
        script.borrow(1, amount * E6 * one, who)
    script.deposit(0, E18 * one, HELD, "kept")
    script.next(30 * 86_400)
    return script


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Random markets, and small ones that lack something."""
    path, few = tmp_path_factory.mktemp("silos") / "lake", lake_rows(small())
    rows = {**few, "prices": few["prices"][:2]}
    vast = lake_rows(small(10**16))
    markets: dict[str, Rows] = {name: lake_rows(wandered(*how)) for name, how in RANDOM.items()} | {
        "known": rows,
        "price": {**rows, "prices": [row for row in rows["prices"] if row["asset_id"] == 1]},
        "rules": {**rows, "params": [row for row in rows["params"] if row["name"] != "silo_revision"]},
        "block-time": {**rows, "blocks": rows["blocks"][:-1]},
        "vast": {**vast, "prices": vast["prices"][:2]},
        "gains": {
            **rows,
            "params": [{**row, "value": 10**15} if row["name"] == "kcrit" else row for row in rows["params"]],
        },
    }
    for name, made in markets.items():
        named = {table: [{**row, "market": name} for row in each] for table, each in made.items()}
        write(path, named, replace(config(), name=name))
    return Lake(path)


@pytest.mark.parametrize("name", list(RANDOM))
def test_sql_is_the_rules(lake: Lake, name: str) -> None:
    compared = assert_sql_is_the_engine(lake, name, spread(lake, name, 50))
    assert compared.owing > 100
    assert compared.unsafe > 10
    assert compared.holdings > 300


@pytest.fixture(scope="module")
def last(lake: Lake) -> int:
    """The last block of the small markets."""
    return int(lake.sql("SELECT max(block_number) FROM params WHERE market = 'known'").fetchall()[0][0]) + 2


@pytest.fixture(scope="module")
def found(lake: Lake, last: int) -> dict[tuple[str, bytes], dict[str, Any]]:
    """Health there, by market and account."""
    rows = lake.sql(f"SELECT * FROM health(NULL, [{last}])").to_arrow_table().to_pylist()
    return {(row["market"], bytes.fromhex(row["account"][2:])): row for row in rows}


def test_what_is_not_known_is_said(found: dict[tuple[str, bytes], dict[str, Any]]) -> None:
    """Without a price, in tables that lack what rounding left, and without the block's time."""
    for name in ("price", "rules", "block-time"):
        for who in (FIRST, SECOND, HELD):
            row = found[name, who]
            assert row["missing"] == ("no debt" if who == HELD else name.replace("-", " "))
            assert (row["health"], row["near_one"]) == (None, False)
    assert found["price", HELD]["collateral_base"] is None


def test_beyond_what_the_integers_hold(found: dict[tuple[str, bytes], dict[str, Any]]) -> None:
    """Deposits of 10^34 units: a number near it. Gains that are too long: nothing accrues, and it is said."""
    for who in (FIRST, SECOND):
        rows = [found[name, who] for name in ("known", "vast", "gains")]
        assert [row["missing"] for row in rows] == [None] * 3
        assert [row["health_wad"] is None for row in rows] == [False, True, True]
        assert [row["near_one"] for row in rows] == [False, False, True]
        known, vast, without = (row["health"] for row in rows)
        assert vast == pytest.approx(known, rel=1e-6)
        assert without >= known
        assert (known < 1) == (who == SECOND)


def test_common_views_have_its_accounts(lake: Lake, last: int, found: dict[tuple[str, bytes], dict[str, Any]]) -> None:
    """Positions, balances near them, one account by itself, the versions that SQL knows."""
    ((owed, held),) = lake.sql(
        f"SELECT sum(owed), sum(held) FILTER (symbol = 'WETH') FROM positions_on(NULL, [{last}]) WHERE market = 'known'"
    ).fetchall()
    ((debt, lent),) = lake.sql(
        f"SELECT sum(debt), sum(collateral) FILTER (symbol = 'WETH') FROM balances_at({last}) WHERE market = 'known'"
    ).fetchall()
    assert 2_600 < owed < 2_700
    assert (debt, lent) == pytest.approx((owed * E6, held * E18), rel=1e-9)
    alone = lake.sql(f"SELECT * FROM health(['0x{SECOND.hex()}'], [{last}]) WHERE market = 'known'")
    assert alone.to_arrow_table().to_pylist() == [found["known", SECOND]]
    assert lake.sql("SELECT revision FROM protocol_rules WHERE protocol = 'silo-v2'").fetchall() == [(1,)]


def test_the_exponential_is_cut_where_the_contract_cuts(lake: Lake) -> None:
    draw = random.Random(5)
    cases = [0, 1, X_MAX - 1, *(draw.randrange(10 ** draw.randrange(1, 19)) for _ in range(200))]
    cases += [draw.randrange(X_MAX) for _ in range(200)]
    values = ", ".join(f"({n}, {x}::HUGEINT)" for n, x in enumerate(cases))
    found = lake.sql(f"SELECT silo_v2_exp_down(x) FROM (VALUES {values}) AS t(n, x) ORDER BY n").fetchall()
    assert [int(value) for (value,) in found] == [exp_down(x) for x in cases]
    assert lake.sql("SELECT silo_v2_exp_down(NULL)").fetchall() == [(None,)]
    wide = [(draw.randrange(2 ** draw.randint(1, 128)), draw.randrange(2 ** draw.randint(1, 128))) for _ in range(200)]
    wide.append((2**128 - 1, 2**128 - 1))
    values = ", ".join(f"({n}, {a}::UHUGEINT, {b}::UHUGEINT)" for n, (a, b) in enumerate(wide))
    found = lake.sql(f"SELECT high_product(a, b) FROM (VALUES {values}) AS t(n, a, b) ORDER BY n").fetchall()
    assert [int(value) for (value,) in found] == [a * b >> 128 for a, b in wide]
