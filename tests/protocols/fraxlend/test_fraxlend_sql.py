"""Random histories in a lake: SQL's holdings and health are the rules', to the last integer, and it says where not."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from backtest.lake import Lake
from backtest.protocols.fraxlend.math import RateCurve
from tests.protocols.fraxlend.hand import E18, STEEP
from tests.protocols.fraxlend.pair import Rows, Script, config, lake_rows, wandered
from tests.support.lake_tables import write
from tests.support.sql_engine import assert_sql_is_the_engine, spread

pytestmark = pytest.mark.slow

QUICK = RateCurve(40_000, 50_000, 45_000, 10**7, 10**12, 10**8 // 20, 7_200, 4 * 10**17)
"""Rates that move within hours, mostly up."""
RANDOM = {"steep-18": (1, STEEP, 18), "steep-6": (2, STEEP, 6), "quick-8": (5, QUICK, 8)}


def small(one: int = E18) -> Rows:
    """A lender and two loans of a day, one healthy and one not, in units of ``one``."""
    script = Script()
    script.next(60)
    script.lend(10_000 * one)
    for who, amount in ((b"\x21" * 20, 1_400), (b"\x22" * 20, 2_000)):
        script.pledge(one, who)
        script.borrow(amount * one, who)
    script.next(86_400)
    return lake_rows(script)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Random markets, and small ones that lack something."""
    path, rows = tmp_path_factory.mktemp("pairs") / "lake", small()
    markets: dict[str, tuple[Rows, int]] = {
        name: (lake_rows(wandered(*how)), how[2]) for name, how in RANDOM.items()
    } | {
        "known": (rows, 18),
        "price": ({**rows, "prices": [row for row in rows["prices"] if row["asset_id"] == 1]}, 18),
        "rules": ({**rows, "params": [row for row in rows["params"] if row["name"] != "interest"]}, 18),
        "block-time": ({**rows, "blocks": rows["blocks"][:-1]}, 18),
        "vast": (small(10**30), 18),
    }
    for name, (made, decimals) in markets.items():
        named = {table: [{**row, "market": name} for row in each] for table, each in made.items()}
        write(path, named, replace(config(decimals), name=name))
    return Lake(path)


@pytest.mark.parametrize("name", list(RANDOM))
def test_sql_is_the_rules(lake: Lake, name: str) -> None:
    compared = assert_sql_is_the_engine(lake, name, spread(lake, name, 80))
    assert compared.owing > 150
    assert compared.unsafe > 20
    assert compared.holdings > 400


def test_what_is_not_known_is_said(lake: Lake) -> None:
    """Without a price, in tables that were made before interest was kept, and without the block's time."""
    for name in ("price", "rules", "block-time"):
        found = lake.sql(
            "SELECT account_id, missing, health, near_one FROM health(NULL, [5])"
            f" WHERE market = '{name}' AND account_id > 0 ORDER BY 1"
        ).fetchall()
        assert found == [(1, "no debt", None, False), *((who, name.replace("-", " "), None, False) for who in (2, 3))]


def test_beyond_what_the_integers_hold(lake: Lake) -> None:
    """A loan of 10^33 units and more: no exact health, a number near it, and no doubt about who is far from one."""
    columns = "account_id, health_wad, health, near_one, missing"
    vast, known = (
        lake.sql(f"SELECT {columns} FROM health(NULL, [5]) WHERE market = '{name}' AND account_id > 1").fetchall()
        for name in ("vast", "known")
    )
    assert [row[1] is None for row in (*vast, *known)] == [True, True, False, False]
    assert [row[2] for row in sorted(vast)] == pytest.approx([row[2] for row in sorted(known)], rel=1e-9)
    assert not any(row[3] or row[4] for row in (*vast, *known))
    exact = lake.sql("SELECT DISTINCT market FROM holdings(NULL, [5]) WHERE debt > 0 AND NOT amounts_exact").fetchall()
    assert exact == [("vast",)]


def test_marts_have_its_accounts(lake: Lake) -> None:
    """Near liquidation, positions at the last block, the versions that SQL knows."""
    last = "(SELECT list(block_number) FROM last_blocks)"
    near = lake.sql("SELECT market, account_id, health FROM near_liquidation ORDER BY ALL").fetchall()
    assert (
        near
        == lake.sql(
            f"SELECT market, account_id, health FROM health(NULL, {last}) SEMI JOIN last_blocks USING (market,"
            " block_number) WHERE health < 1.1 ORDER BY ALL"
        ).fetchall()
    )
    assert {("known", 2), ("known", 3)} <= {row[:2] for row in near}
    assert {"steep-18", "steep-6", "quick-8"} <= {row[0] for row in near}
    (owed,) = lake.sql("SELECT sum(owed) FROM positions_on(NULL, [5]) WHERE market = 'known'").fetchall()[0]
    assert owed == pytest.approx(3_400, rel=0.01)
    assert lake.sql("SELECT * FROM protocol_rules WHERE protocol = 'fraxlend'").fetchall() == [
        ("fraxlend", "pair_version", 3)
    ]


def test_the_rest_of_a_decay_says_which_quotient_is_the_one(lake: Lake) -> None:
    """Dividends of up to 220 bits: the greatest quotient whose rest is not below zero."""
    draw, cases = random.Random(3), []
    for _ in range(200):
        before, half = draw.randrange(2 ** draw.randint(1, 48)), draw.randint(1, 2 ** draw.randint(1, 40))
        short, seconds = draw.choice([0, 1, E18, draw.randrange(E18)]), draw.randrange(2 ** draw.randint(1, 33))
        life, more = half * E18 * E18, short * short * seconds
        quotient = before * life // (life + more) + draw.choice([-1, 0, 1])
        if 0 <= quotient <= before:
            cases.append((quotient, before, half, short, seconds, before * life - quotient * (life + more)))
    values = ", ".join(f"({n}, {', '.join(f'{v}::HUGEINT' for v in case[:5])})" for n, case in enumerate(cases))
    found = lake.sql(
        "SELECT fraxlend_decay_left(quotient, past, half_life, short, seconds)"
        f" FROM (VALUES {values}) AS t(n, quotient, past, half_life, short, seconds) ORDER BY n"
    ).fetchall()
    assert [int(rest) for (rest,) in found] == [case[5] // E18 for case in cases]
    assert len(cases) > 100
    assert min(case[5] for case in cases) < 0
