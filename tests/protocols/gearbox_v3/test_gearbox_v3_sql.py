"""Random histories in a lake: SQL's holdings and health are the rules', to the last integer; and the pool that a
replay recomputes without a change is history's.
"""

from __future__ import annotations

from itertools import chain, groupby

import pytest
from msgspec.structs import replace

from backtest.errors import RulesError
from backtest.lake import Lake
from backtest.model import HistoricalLiquidation, IndexUpdate
from backtest.protocols.gearbox_v3 import GEARBOX_V3
from backtest.results import load_market, load_timeline
from tests.protocols.gearbox_v3.hand import USDC
from tests.protocols.gearbox_v3.manager import FLAT, PEOPLE, STEEP, Rows, Script, lake_rows, wandered
from tests.protocols.gearbox_v3.raw import CONFIG
from tests.support.lake_tables import write
from tests.support.sql_engine import assert_sql_is_the_engine, spread

pytestmark = pytest.mark.slow

RANDOM = {"steep": (1, STEEP), "flat": (2, FLAT)}


def small(one: int = 1) -> Script:
    """Two accounts, one healthy, one not, and one without debt, in units of ``one`` dollar; a year passes."""
    script = Script(FLAT)
    for asset, price in ((0, 10**8), (1, 2_000 * 10**8), (2, 30_000 * 10**8)):
        script.price(asset, price)
    script.lend(10_000 * USDC * one)
    for who, amount in ((PEOPLE[0], 1_000), (PEOPLE[1], 1_750)):
        script.begin(who)
        script.borrow(who, amount * USDC * one)
        script.add(who, 0, -script.accounts[who].held[0])
        script.add(who, 1, 10**18 * one)
        script.quote(who, 1, 3_000 * USDC * one)
        script.log("FinishMultiCall")
    script.begin(PEOPLE[2])
    script.add(PEOPLE[2], 0, USDC)
    script.log("FinishMultiCall")
    script.settle(2_628_000)
    return script


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Random markets, and small ones that lack something."""
    path, rows = tmp_path_factory.mktemp("managers") / "lake", lake_rows(small())
    older = [{**row, "value": 1} if row["name"] == "gearbox_revision" else row for row in rows["params"]]
    markets: dict[str, Rows] = {name: lake_rows(wandered(*how)) for name, how in RANDOM.items()} | {
        "known": rows,
        "price": {**rows, "prices": [row for row in rows["prices"] if row["asset_id"] != 1]},
        "rules": {**rows, "params": older},
        "block-time": {**rows, "blocks": rows["blocks"][:-1]},
        "vast": lake_rows(small(10**17)),
    }
    for name, made in markets.items():
        named = {table: [{**row, "market": name} for row in each] for table, each in made.items()}
        write(path, named, replace(CONFIG, name=name))
    return Lake(path)


@pytest.mark.parametrize("name", list(RANDOM))
def test_sql_is_the_rules(lake: Lake, name: str) -> None:
    compared = assert_sql_is_the_engine(lake, name, spread(lake, name, 100))
    assert compared.owing > 300
    assert compared.unsafe > 50
    assert compared.holdings > 800


@pytest.mark.parametrize("name", list(RANDOM))
def test_a_pool_that_is_recomputed_without_a_change_is_the_one_of_history(lake: Lake, name: str) -> None:
    """What others brought is counted without the interest that the pool earned meanwhile."""
    recorded, recomputed = (GEARBOX_V3.open(load_market(lake, name), recompute=again) for again in (False, True))
    blocks = groupby(chain.from_iterable(load_timeline(lake, name).transactions(10**9)), lambda e: e.block_number)
    accrued = 0
    for block, events in blocks:
        for event in events:
            if not isinstance(event, HistoricalLiquidation):
                GEARBOX_V3.apply(recorded, event)
                if not isinstance(event, IndexUpdate):
                    GEARBOX_V3.apply(recomputed, event)
        accrued += recorded.pool.updated == event.timestamp
        assert recomputed.pool == recorded.pool, block
    assert accrued > 100
    assert recorded.pool.borrowed > 0


def test_what_is_not_known_is_said(lake: Lake) -> None:
    """Without a token's price, in tables of an older fold, which replays refuse, and without the block's time."""
    last = max(spread(lake, "known", 3))
    for name in ("price", "rules", "block-time"):
        found = lake.sql(
            "SELECT account, missing, health, near_one, collateral_base IS NULL"
            f" FROM health(NULL, [{last}]) WHERE market = '{name}' ORDER BY 1"
        ).fetchall()
        names = ["0x" + who.hex() for who in PEOPLE[:3]]
        missing = [name.replace("-", " ")] * 2 + ["no debt"]
        assert [row[:4] for row in found] == [(*each, None, False) for each in zip(names, missing, strict=True)]
        assert [row[4] for row in found] == ([True, True, False] if name == "price" else [False] * 3)
    old, events = GEARBOX_V3.open(load_market(lake, "rules")), load_timeline(lake, "rules").transactions(10**9)
    (told,) = (each for each in chain.from_iterable(events) if getattr(each, "name", "") == "gearbox_revision")
    with pytest.raises(RulesError, match="tables of market 'rules' were made by older rules"):
        GEARBOX_V3.apply(old, told)


def test_beyond_what_the_integers_hold(lake: Lake) -> None:
    """Balances of 10^35 units: no exact health, a number near it, and no doubt about who is far from one."""
    last = max(spread(lake, "known", 3))
    vast, known = (
        lake.sql(
            "SELECT account, health_wad, health, near_one, missing"
            f" FROM health(NULL, [{last}]) WHERE market = '{name}' AND missing IS NULL ORDER BY 1"
        ).fetchall()
        for name in ("vast", "known")
    )
    assert [row[1] is None for row in (*vast, *known)] == [True, True, False, False]
    assert [row[2] for row in vast] == pytest.approx([row[2] for row in known], rel=1e-9)
    assert not any(row[3] or row[4] for row in (*vast, *known))
    assert [row[2] < 1 for row in known] == [False, True]


def test_common_views_have_its_accounts(lake: Lake) -> None:
    """Positions; principals alone as balances; one account by itself; the versions that SQL knows."""
    block = max(spread(lake, "known", 3))
    (owed,) = lake.sql(f"SELECT sum(owed) FROM positions_on(NULL, [{block}]) WHERE market = 'known'").fetchall()[0]
    assert owed == pytest.approx(2_750 * (1 + 0.07 * 1.25) + 6_000 * 0.05 * 1.25, rel=1e-3)
    (debt,) = lake.sql(f"SELECT sum(debt) FROM balances_at({block}) WHERE market = 'known'").fetchall()[0]
    assert debt == 2_750 * USDC
    alone, among = (
        lake.sql(
            f"SELECT * FROM health({who}, [{block}]) WHERE market = 'known' AND account = '0x{PEOPLE[1].hex()}'"
        ).fetchall()
        for who in (f"['0x{PEOPLE[1].hex()}']", "NULL")
    )
    assert alone == among
    assert lake.sql("SELECT * FROM protocol_rules WHERE protocol = 'gearbox-v3'").fetchall() == [
        ("gearbox-v3", "gearbox_revision", 2)
    ]
