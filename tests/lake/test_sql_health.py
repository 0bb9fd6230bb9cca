"""SQL health against the exact rules, over random accounts of every pool revision of Aave V3, and by hand."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from backtest.health import health
from backtest.lake import Lake
from backtest.protocols.aave_v3.rules import RULES
from backtest.units import WAD
from tests.support.lake_tables import MARKET, RAY, account, write
from tests.support.sql_engine import assert_sql_is_the_engine

pytestmark = pytest.mark.slow

ACCOUNTS = 120
BLOCKS = [900, 1_000, 5_000_000]  # just after the last index of some assets, and 19 months later


def random_market(revision: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Six reserves with decimals from 2 to 18 and all sorts of prices, thresholds, indexes; accounts in and out of
    e-mode.
    """
    rng = random.Random(f"{revision} {seed}")
    decimals = [18, 6, 8, 18, 2, 18]
    prices = [
        rng.randrange(1, 5_000 * 10**8),
        10**8,
        rng.randrange(10**10, 10**13),
        rng.randrange(10**6, 10**12),
        10**8,
        rng.randrange(1, 10**6),
    ]
    data: dict[str, list[dict[str, Any]]] = {
        name: []
        for name in (
            "accounts",
            "assets",
            "blocks",
            "events",
            "position_events",
            "setting_events",
            "indexes",
            "prices",
            "params",
        )
    }
    seq = 0

    def add(table: str, **row: Any) -> None:
        nonlocal seq
        block = row.pop("block_number", min(1 + seq // 4, 890))
        data[table].append({"seq": seq, "block_number": block, "log_index": seq % 4 if block < 890 else seq, **row})
        seq += 1

    add("params", name="pool_revision", value=revision)
    for category in (1, 2):
        add("params", category=category, name="emode_liquidation_threshold", value=rng.randrange(9_000, 9_800))
    for asset, digits in enumerate(decimals):
        data["assets"].append(
            {"asset_id": asset, "asset": account(900 + asset), "symbol": f"T{asset}", "decimals": digits}
        )
        add(
            "params",
            asset_id=asset,
            name="liquidation_threshold",
            value=rng.choice([0, 8_000, 8_000, rng.randrange(5_000, 9_000)]),
        )
        add("params", asset_id=asset, name="emode_category", value=rng.choice([0, 1, 1, 2]))
        add("params", asset_id=asset, category=1, name="emode_collateral", value=rng.choice([0, 1, 1]))
        add("prices", asset_id=asset, price=prices[asset], method="feed", exact=True)
        if asset != 3:  # an asset whose indexes were never stored: they stay at one
            index = RAY + rng.randrange(0, rng.choice([10**12, 10**20, RAY]))
            rates = {
                "supply_rate": rng.randrange(0, RAY // 10),
                "borrow_rate": rng.randrange(0, rng.choice([10**20, RAY // 5])),
            }
            add(
                "indexes",
                asset_id=asset,
                supply_index=index,
                borrow_index=index + rng.randrange(10**25),
                block_number=rng.choice([880, 900]),
                **rates,
            )
    for number in range(ACCOUNTS):
        data["accounts"].append({"account_id": number, "account": account(number)})
        key = {"account_id": number, "action": "supply", "action_seq": seq}
        if rng.random() < 0.5:
            add("setting_events", setting="emode", value=rng.choice([0, 1, 2]), **key)
        collateral = rng.sample(range(6), rng.randrange(1, 4))
        worth = 0
        for asset in collateral:
            value = rng.randrange(10**9, 10 ** rng.randrange(10, 16))  # base units: 10 dollars to ten million
            worth += value
            add(
                "position_events",
                asset_id=asset,
                side="collateral",
                delta=value * 10 ** decimals[asset] // prices[asset],
                **key,
            )
            add("setting_events", setting="collateral_enabled", asset_id=asset, value=rng.choice([0, 1, 1, 1]), **key)
        for asset in rng.sample(range(6), rng.randrange(0, 3)):
            value = max(10 * 10**8, int(worth * rng.uniform(0.05, 0.6)))
            add(
                "position_events",
                asset_id=asset,
                side="debt",
                delta=value * 10 ** decimals[asset] // prices[asset] + 1,
                **key,
            )
        if revision <= 4 and rng.random() < 0.2:
            terms = {
                "stable_principal": rng.randrange(10**9, 10**13),
                "stable_rate": rng.randrange(RAY // 5),
                "stable_since": 12 * rng.randrange(800),
            }
            for setting, value in terms.items():
                add("setting_events", setting=setting, asset_id=1, value=value, **key)
    for name in data:
        data[name].sort(key=lambda row: (row.get("block_number", 0), row.get("seq", 0)))
    data["blocks"] = [{"block_number": block, "timestamp": 12 * block} for block in (*range(1, 901), *BLOCKS[1:])]
    return data


@pytest.mark.parametrize("revision", sorted(RULES))
def test_sql_is_the_exact_rule(revision: int, tmp_path: Path) -> None:
    """Every health, just after an index and 19 months later; few amounts are beyond SQL's integers, and within 1e-9."""
    lake = write(tmp_path / "lake", random_market(revision, seed=1))
    rows = (
        lake.sql(f"SELECT * FROM health(NULL, {BLOCKS}) ORDER BY market, block_number, account_id")
        .to_arrow_table()
        .to_pylist()
    )
    exact = health(lake, MARKET, None, BLOCKS, exact=True).to_pylist()
    beyond = {
        account
        for (account,) in lake.sql(
            f"SELECT DISTINCT account_id FROM holdings(NULL, {BLOCKS}) WHERE NOT amounts_exact AND"
            " greatest(collateral_scaled, debt_scaled) > 1e25"
        ).fetchall()
    }
    compared = 0
    for fast, sure in zip(rows, exact, strict=True):
        assert fast["missing"] == sure["missing"]
        if sure["health_wad"] is None:
            assert fast["missing"] == "no debt"
            continue
        assert sure["near_one"] is False
        if fast["health_wad"] is None:
            assert fast["account_id"] in beyond
            wanted = pytest.approx(int(sure["health_wad"]) / WAD, rel=1e-9, abs=0)
            assert fast["near_one"] or fast["health"] == wanted, (fast, sure)
            continue
        compared += 1
        assert (fast["health_wad"], fast["near_one"]) == (sure["health_wad"], False), (fast, sure)
        assert fast["health"] == pytest.approx(int(sure["health_wad"]) / WAD, rel=1e-15, abs=0)
    assert len(beyond) < ACCOUNTS // 6
    assert compared > ACCOUNTS
    assert_sql_is_the_engine(lake, MARKET, BLOCKS, beyond)


def test_a_health_of_one_is_told_from_a_wei_less(tmp_path: Path) -> None:
    """100 tokens at 80 % against 80: health is one, and one wei of debt more makes it a wei less than one in a wad.

    Prices are one dollar (1e8) and both tokens have 8 decimals, so that a unit is a base unit.
    """
    one = 10**8
    data: dict[str, list[dict[str, Any]]] = {
        "accounts": [{"account_id": number, "account": account(number)} for number in range(3)],
        "assets": [{"asset_id": n, "asset": account(900 + n), "symbol": f"T{n}", "decimals": 8} for n in range(2)],
        "blocks": [{"block_number": 5, "timestamp": 60}],
        "params": [
            {"seq": 0, "block_number": 1, "name": "pool_revision", "value": 10},
            {"seq": 1, "block_number": 1, "asset_id": 0, "name": "liquidation_threshold", "value": 8_000},
        ],
        "prices": [
            {
                "seq": 2 + n,
                "block_number": 1,
                "log_index": n,
                "asset_id": n,
                "price": one,
                "method": "feed",
                "exact": True,
            }
            for n in range(2)
        ],
        "position_events": [],
        "setting_events": [],
    }
    for number, debt in enumerate((80 * one, 80 * one + 1, 79 * one)):
        key = {
            "block_number": 2,
            "log_index": number,
            "seq": 10 + number,
            "account_id": number,
            "action": "supply",
            "action_seq": 10 + number,
        }
        data["position_events"].append({**key, "asset_id": 0, "side": "collateral", "delta": 100 * one})
        data["position_events"].append({**key, "asset_id": 1, "side": "debt", "delta": debt})
        data["setting_events"].append({**key, "asset_id": 0, "setting": "collateral_enabled", "value": 1})
    lake = write(tmp_path / "lake", data)
    rows = lake.sql("SELECT health_wad, near_one FROM health(NULL, [5]) ORDER BY account_id").fetchall()
    # 80e8 * 1e18 / 80.00000001e8 = 0.999999999875000000015..., and 3.5+ divides the wad of a sum in basis points by
    # 10000.
    assert rows == [(WAD, False), (999999999875000000, False), (80 * WAD // 79, False)]
    said, decided = (health(lake, MARKET, None, [5], exact=exact)["health_wad"] for exact in (False, True))
    assert said == decided


def test_an_average_threshold_at_the_edge_of_a_basis_point_is_decided_exactly(tmp_path: Path) -> None:
    """To 3.4 the average threshold is cut to whole basis points: a base unit of collateral may cost one of them.

    1000 at 80 % and 1000 at 60 % average to 7000 basis points exactly; with one base unit less of the first, to
    6999.99..., which is cut to 6999. Against a debt of 1000, health is 1.4 and (1999.99999999 x 0.6999 =
    1399.799999993001, to whole base units 1399.79999999) 1.3997999999. DOUBLE may not tell them apart.
    """
    one = 10**8
    data: dict[str, list[dict[str, Any]]] = {
        "accounts": [{"account_id": number, "account": account(number)} for number in range(2)],
        "assets": [{"asset_id": n, "asset": account(900 + n), "symbol": f"T{n}", "decimals": 8} for n in range(3)],
        "blocks": [{"block_number": 5, "timestamp": 60}],
        "params": [{"seq": 0, "block_number": 1, "name": "pool_revision", "value": 8}],
        "prices": [
            {
                "seq": 1 + n,
                "block_number": 1,
                "log_index": n,
                "asset_id": n,
                "price": one,
                "method": "feed",
                "exact": True,
            }
            for n in range(3)
        ],
        "position_events": [],
        "setting_events": [],
    }
    for asset, threshold in ((0, 8_000), (1, 6_000)):
        data["params"].append(
            {
                "seq": 4 + asset,
                "block_number": 1,
                "asset_id": asset,
                "name": "liquidation_threshold",
                "value": threshold,
            }
        )
    for number, first in enumerate((1_000 * one, 1_000 * one - 1)):
        key = {
            "block_number": 2,
            "log_index": number,
            "seq": 10 + number,
            "account_id": number,
            "action": "supply",
            "action_seq": 10 + number,
        }
        for asset, side, delta in ((0, "collateral", first), (1, "collateral", 1_000 * one), (2, "debt", 1_000 * one)):
            data["position_events"].append({**key, "asset_id": asset, "side": side, "delta": delta})
            if side == "collateral":
                data["setting_events"].append({**key, "asset_id": asset, "setting": "collateral_enabled", "value": 1})
    lake = write(tmp_path / "lake", data)
    assert lake.sql("SELECT health_wad, near_one FROM health(NULL, [5])").fetchall() == [
        (14 * WAD // 10, False),
        (1_399_799_999_990_000_000, False),
    ]


def test_beyond_sqls_integers_double_is_shown_and_the_exact_rule_decides(tmp_path: Path) -> None:
    """10^34 units at 80 % against 80 % of that less some: DOUBLE says one, the rule says more and less."""
    data = random_market(10, seed=4)
    unit = 10**36
    weighed = {"seq": 10_000, "block_number": 895, "action": "supply", "action_seq": 10_000}
    data["assets"] = [{"asset_id": n, "asset": account(900 + n), "symbol": f"T{n}", "decimals": 2} for n in range(2)]
    data["accounts"] = [{"account_id": number, "account": account(number)} for number in range(2)]
    data["params"] = [
        {"seq": 0, "block_number": 1, "name": "pool_revision", "value": 10},
        {"seq": 1, "block_number": 1, "asset_id": 0, "name": "liquidation_threshold", "value": 8_000},
    ]
    data["prices"] = [
        {"seq": 2 + n, "block_number": 1, "log_index": n, "asset_id": n, "price": 1, "method": "feed", "exact": True}
        for n in range(2)
    ]
    data |= {"indexes": [], "position_events": [], "setting_events": []}
    for number, more in enumerate((-(10**16), 10**16)):
        key = {**weighed, "account_id": number, "log_index": number, "seq": 10_000 + number}
        data["position_events"].append({**key, "asset_id": 0, "side": "collateral", "delta": unit})
        data["position_events"].append({**key, "asset_id": 1, "side": "debt", "delta": unit * 8 // 10 + more})
        data["setting_events"].append({**key, "asset_id": 0, "setting": "collateral_enabled", "value": 1})
    lake = write(tmp_path / "lake", data)
    rows = lake.sql("SELECT health_wad, near_one, health FROM health(NULL, [900]) ORDER BY account_id").fetchall()
    assert rows == [(None, True, pytest.approx(1)), (None, True, pytest.approx(1))]
    assert lake.sql("SELECT DISTINCT amounts_exact FROM holdings(NULL, [900])").fetchall() == [(False,)]
    decided = health(lake, MARKET, None, [900])
    assert [int(wad.as_py()) for wad in decided["health_wad"]] == [WAD, WAD - 1]
    assert decided["near_one"].to_pylist() == [False, False]


def test_missing_says_why(tmp_path: Path) -> None:
    def reasons(name: str, data: dict[str, list[dict[str, Any]]], block: int) -> list[tuple[str]]:
        query = f"SELECT DISTINCT missing FROM health(NULL, [{block}]) WHERE missing <> 'no debt'"
        return write(tmp_path / name, data).sql(query).fetchall()

    data = random_market(10, seed=2)
    assert reasons("time", data, 901) == [("block time",)]
    assert reasons("price", {**data, "prices": []}, 900) == [("price",)]
    assert reasons(
        "rules", {**data, "params": [row for row in data["params"] if row["name"] != "pool_revision"]}, 900
    ) == [("rules",)]


def test_accounts_may_be_chosen_and_addresses_in_any_case(tmp_path: Path) -> None:
    lake = write(tmp_path / "lake", random_market(7, seed=3))
    some = [account(3).upper().replace("X", "x"), account(5)]
    rows = lake.sql(f"SELECT account_id, health FROM health({some}, [900]) ORDER BY account_id").fetchall()
    every = lake.sql(
        "SELECT account_id, health FROM health(NULL, [900]) WHERE account_id IN (3, 5) ORDER BY account_id"
    ).fetchall()
    assert rows == every
    assert [row[0] for row in rows] == [3, 5]


def test_rules_table_agrees_with_the_rules(tmp_path: Path) -> None:
    rows = (
        Lake(tmp_path / "lake", create=True)
        .sql("SELECT * FROM aave_v3_rules ORDER BY revision")
        .to_arrow_table()
        .to_pylist()
    )
    assert [row["revision"] for row in rows] == sorted(RULES)
    for row in rows:
        rules = RULES[row["revision"]]
        assert row["directional"] == (rules.collateral_balance(1, RAY + RAY // 2 + 1) == 1)
        assert row["averaged"] == (rules.health.__name__ == "health_of_averaged_threshold")
        assert row["taylor_v34"] == (rules.compounded_interest.__name__ == "compounded_interest_v34")
        assert row["emode_by_bitmap"] == rules.emode_by_bitmap
        assert row["threshold_gates"] == rules.threshold_gates_collateral
