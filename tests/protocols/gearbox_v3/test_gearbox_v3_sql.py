"""Random histories in a lake: SQL's holdings and health are the rules', to the last integer; and the pool that a
replay recomputes without a change is history's.
"""

from __future__ import annotations

from itertools import chain, groupby
from typing import Any

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
    compared = assert_sql_is_the_engine(lake, name, spread(lake, name, 60))
    assert compared.owing > 200
    assert compared.unsafe > 30
    assert compared.holdings > 500


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


@pytest.fixture(scope="module")
def last(lake: Lake) -> int:
    """The last block of the small markets."""
    return max(spread(lake, "known", 3))


@pytest.fixture(scope="module")
def found(lake: Lake, last: int) -> dict[tuple[str, bytes], dict[str, Any]]:
    """Health there, by market and account."""
    rows = lake.sql(f"SELECT * FROM health(NULL, [{last}])").to_arrow_table().to_pylist()
    return {(row["market"], bytes.fromhex(row["account"][2:])): row for row in rows}


def test_what_is_not_known_is_said(lake: Lake, found: dict[tuple[str, bytes], dict[str, Any]]) -> None:
    """Without a token's price, in tables of an older fold, which replays refuse, and without the block's time."""
    for name in ("price", "rules", "block-time"):
        for who in PEOPLE[:3]:
            row = found[name, who]
            assert row["missing"] == ("no debt" if who == PEOPLE[2] else name.replace("-", " "))
            assert (row["health"], row["near_one"]) == (None, False)
            assert (row["collateral_base"] is None) == (name == "price" and who != PEOPLE[2])
    old, events = GEARBOX_V3.open(load_market(lake, "rules")), load_timeline(lake, "rules").transactions(10**9)
    (told,) = (each for each in chain.from_iterable(events) if getattr(each, "name", "") == "gearbox_revision")
    with pytest.raises(RulesError, match="tables of market 'rules' were made by older rules"):
        GEARBOX_V3.apply(old, told)


def test_beyond_what_the_integers_hold(found: dict[tuple[str, bytes], dict[str, Any]]) -> None:
    """Balances of 10^35 units: no exact health, a number near it, and no doubt about who is far from one."""
    for who in PEOPLE[:2]:
        known, vast = found["known", who], found["vast", who]
        assert (known["missing"], vast["missing"], vast["health_wad"]) == (None, None, None)
        assert known["health_wad"] is not None
        assert vast["health"] == pytest.approx(known["health"], rel=1e-9)
        assert not known["near_one"]
        assert not vast["near_one"]
        assert (known["health"] < 1) == (who == PEOPLE[1])


def test_common_views_have_its_accounts(lake: Lake, last: int, found: dict[tuple[str, bytes], dict[str, Any]]) -> None:
    """Positions; principals alone as balances; one account by itself; the versions that SQL knows."""
    ((owed,),) = lake.sql(f"SELECT sum(owed) FROM positions_on(NULL, [{last}]) WHERE market = 'known'").fetchall()
    assert owed == pytest.approx(2_750 * (1 + 0.07 * 1.25) + 6_000 * 0.05 * 1.25, rel=1e-3)
    ((debt,),) = lake.sql(f"SELECT sum(debt) FROM balances_at({last}) WHERE market = 'known'").fetchall()
    assert debt == 2_750 * USDC
    alone = lake.sql(f"SELECT * FROM health(['0x{PEOPLE[1].hex()}'], [{last}]) WHERE market = 'known'")
    assert alone.to_arrow_table().to_pylist() == [found["known", PEOPLE[1]]]
    assert lake.sql("SELECT revision FROM protocol_rules WHERE protocol = 'gearbox-v3'").fetchall() == [(2,)]
