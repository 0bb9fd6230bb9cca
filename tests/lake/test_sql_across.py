"""One question across protocols: positions, health, liquidations and bad debt of every market in one unit, worked
out by hand from tiny books.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from backtest.lake import Lake
from tests.support.lake_tables import CONFIG, RAY, account, write
from tests.support.sql_book import book

BOB, KEEPER = account(0xB0B), account(0xA11CE)
WAD = 10**18
FIRST = 1_600_000_000
"""The book's first time: its block 1."""
pytestmark = pytest.mark.slow


def _vaults() -> dict[str, list[dict[str, Any]]]:
    """Bob's vault of ten ETH against 12,000 DAI, at 150 %, on the book's chain, its ETH at 2,000 of the market's
    currency and then, at block 4, at 1,000: 2,000 DAI are owed above what it holds.
    """

    def at(seq: int, block: int, **row: Any) -> dict[str, Any]:
        return {"seq": seq, "block_number": block, "timestamp": FIRST + block, **row}

    moved = {"account_id": 0, "action": "borrow", "action_seq": 4}
    return {
        "accounts": [{"account_id": 0, "account": BOB}],
        "assets": [
            {"asset_id": 0, "asset": account(0xE7), "symbol": "ETH", "decimals": 18},
            {"asset_id": 1, "asset": account(0xDA1), "symbol": "DAI", "decimals": 18},
        ],
        "blocks": [{"block_number": block, "timestamp": FIRST + block} for block in (1, 2, 4)],
        "params": [at(0, 1, name="liquidation_ratio", value=15 * RAY // 10)],
        "indexes": [at(1, 1, asset_id=1, supply_index=RAY, borrow_index=RAY, supply_rate=0, borrow_rate=0)],
        "prices": [
            at(2, 1, asset_id=1, price=WAD, method="fixed", exact=False),
            at(2, 1, asset_id=0, price=2_000 * WAD, method="feed", exact=True),
            at(5, 4, asset_id=0, price=1_000 * WAD, method="feed", exact=True),
        ],
        "position_events": [
            at(3, 2, **moved, asset_id=0, side="collateral", delta=10 * WAD),
            at(4, 2, **moved, asset_id=1, side="debt", delta=12_000 * WAD),
        ],
    }


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The book in dollars; the same vaults in dollars, in ETH (which the book prices) and in a coin."""
    path = tmp_path_factory.mktemp("across") / "lake"
    write(path, book())
    vaults = msgspec.structs.replace(CONFIG, name="vaults", protocol="maker", base_decimals=18)
    write(path, _vaults(), vaults)
    for name, currency in (("in-eth", "ETH"), ("in-coins", "COIN")):
        write(path, _vaults(), msgspec.structs.replace(vaults, name=name, base_currency=currency))
    return Lake(path)


def rows(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    return [
        tuple(round(value, 4) if isinstance(value, float) else value for value in row)
        for row in lake.sql(sql).fetchall()
    ]


def test_all_accounts_of_an_owner_are_one_query(lake: Lake) -> None:
    """Bob holds 10 ETH and owes 12,000 DAI in each of three vault markets."""
    found = rows(
        lake,
        "SELECT protocol, market, symbol, held, owed, held_usd, collateral_usd, debt_usd, usd_from, missing"
        f" FROM positions_at(['{BOB}'], make_timestamp({(FIRST + 50) * 1_000_000})) ORDER BY market, symbol",
    )
    own = "base currency"
    assert [row for row in found if row[1] == "vaults"] == [
        ("maker", "vaults", "DAI", 0, 12_000, 0, 0, 12_000, own, None),
        ("maker", "vaults", "ETH", 10, 0, 10_000, 10_000, 0, own, None),
    ]
    # At block 4 the book's oracle has WETH at 1,000 dollars, and ETH itself is at 1,000 ETH here.
    assert [row for row in found if row[1] == "in-eth"] == [
        ("maker", "in-eth", "DAI", 0, 12_000, 0, 0, 12_000_000, "toy", None),
        ("maker", "in-eth", "ETH", 10, 0, 10_000_000, 10_000_000, 0, "toy", None),
    ]
    assert [row for row in found if row[1] == "in-coins"] == [
        ("maker", "in-coins", "DAI", 0, 12_000, None, None, None, None, "dollars"),
        ("maker", "in-coins", "ETH", 10, 0, None, None, None, None, "dollars"),
    ]
    assert not [row for row in found if row[1] == "toy"], "Bob comes to the book in block 2, fifty seconds later"


def test_the_view_is_the_macro_at_the_last_blocks(lake: Lake) -> None:
    assert rows(lake, "FROM positions ORDER BY ALL") == rows(lake, "FROM positions_at(NULL, '2100-01-01') ORDER BY ALL")
    markets = rows(lake, "SELECT market, count(DISTINCT block_number) FROM positions GROUP BY market ORDER BY market")
    assert markets == [("in-coins", 1), ("in-eth", 1), ("toy", 1), ("vaults", 1)]


def test_health_of_every_protocol_at_a_time(lake: Lake) -> None:
    """10 ETH at 1,000 count for 10,000 / 1.5; health is that over 12,000 in whichever currency."""
    found = rows(
        lake,
        "SELECT market, collateral_usd, debt_usd, round(health, 4), missing FROM standing_at(NULL, '2100-01-01')"
        f" WHERE account = '{BOB}' AND market <> 'toy' ORDER BY market",
    )
    health = round(10_000 / 1.5 / 12_000, 4)
    assert found == [
        ("in-coins", None, None, health, "dollars"),
        ("in-eth", 10_000_000, 12_000_000, health, None),
        ("vaults", 10_000, 12_000, health, None),
    ]
    distances = rows(
        lake, "SELECT market, collateral_usd, debt_usd FROM account_distances WHERE market <> 'toy' ORDER BY 1"
    )
    assert distances == [row[:3] for row in found]
    ((exact,),) = lake.sql(
        f"SELECT health_wad FROM standing_at(['{BOB}'], '2100-01-01') WHERE market = 'vaults'"
    ).fetchall()
    assert exact == lake.sql(f"SELECT health_wad FROM health(['{BOB}'], [4]) WHERE market = 'vaults'").fetchall()[0][0]


def test_bad_debt_stands_or_is_written_off_and_what_is_not_known_is_named(lake: Lake, tmp_path: Path) -> None:
    found = rows(
        lake,
        "SELECT market, kind, symbol, amount, amount_usd, missing FROM bad_debt WHERE market <> 'toy' ORDER BY market",
    )
    assert found == [
        ("in-coins", "standing", "DAI", 2_000, None, "dollars"),
        ("in-eth", "standing", "DAI", 2_000, 2_000_000, None),
        ("vaults", "standing", "DAI", 2_000, 2_000, None),
    ]
    unpriced = _vaults()
    unpriced["prices"][2]["price"] = None
    other = write(tmp_path / "unpriced", unpriced, msgspec.structs.replace(CONFIG, name="v", protocol="maker"))
    assert rows(other, "SELECT kind, amount, amount_usd, missing FROM bad_debt") == [("standing", None, None, "price")]
    written_off = book()
    written_off["deficits"] = [
        {
            "seq": 10, "block_number": 4, "log_index": 2, "account_id": 1, "asset_id": 1, "amount": 7_000_000,
            "kind": "created", "liquidation_seq": 10,
        }
    ]  # fmt: skip
    lost = write(tmp_path / "lost", written_off)
    assert rows(lost, "SELECT protocol, kind, symbol, amount, amount_usd FROM bad_debt WHERE kind = 'created'") == [
        ("aave-v3", "created", "USDC", 7, 7)
    ]


def _lent(price: int | None) -> dict[str, list[dict[str, Any]]]:
    """The book with 900 and 300 USDC of two lenders; at last WETH costs ``price``."""
    found = book()
    found["accounts"] += [{"account_id": 2, "account": account(0xCA401)}, {"account_id": 3, "account": account(0xDA4)}]
    moved = {"block_number": 2, "timestamp": FIRST + 100, "asset_id": 1, "side": "collateral", "action": "supply"}
    found["position_events"] += [
        {"seq": 5, "log_index": 1, "account_id": number, "delta": amount * 10**6, "action_seq": 5, **moved}
        for number, amount in ((2, 900), (3, 300))
    ]
    found["prices"][-1]["price"] = price
    return found


def test_lenders_bear_what_no_collateral_covers_by_what_they_lent(tmp_path: Path) -> None:
    """Bob owes 994.650001 USDC, 720 at 1.25 with a year at 10 %, and holds 2.044875 WETH: at 400 dollars 817.95. Of
    1,200 lent 205.349999 are not out.
    """
    asked = "SELECT account, symbol, against, lent, share, used, withdrawable, uncovered, missing FROM lenders"
    lent = write(tmp_path / "lent", _lent(400 * 10**8))
    used, idle, lost = round(994.650001 / 1200, 4), round(1200 - 994.650001, 4), 994.650001 - 2.044875 * 400
    assert rows(lent, f"{asked} ORDER BY lent DESC") == [
        (account(0xCA401), "USDC", "WETH", 900, 0.75, used, idle, round(lost * 0.75, 4), None),
        (account(0xDA4), "USDC", "WETH", 300, 0.25, used, idle, round(lost * 0.25, 4), None),
    ]
    assert rows(lent, "SELECT sum(uncovered) FROM lenders") == rows(lent, "SELECT sum(amount) FROM bad_debt")
    unknown = write(tmp_path / "unknown", _lent(None))
    assert {row[7] for row in rows(unknown, asked)} == {None}
    covered = write(tmp_path / "covered", _lent(10**11))
    assert {row[7] for row in rows(covered, asked)} == {0}


def test_liquidations_name_protocol_and_tokens_and_are_in_dollars(lake: Lake, tmp_path: Path) -> None:
    assert rows(
        lake,
        "SELECT protocol, market, debt_asset, collateral_asset, repaid_usd, seized_usd, usd_from FROM liquidations",
    ) == [("aave-v3", "toy", account(0x05D), account(0xE7), 100, 52.5, "base currency")]
    coins = write(tmp_path / "coins", book(), msgspec.structs.replace(CONFIG, base_currency="COIN"))
    assert rows(coins, "SELECT repaid_usd, seized_usd, usd_from, round(bonus, 4) FROM liquidations") == [
        (None, None, None, -0.475)
    ]
    assert rows(coins, "SELECT repaid_usd, unpriced FROM liquidations_by_day") == [(None, 1)]
    assert rows(coins, "SELECT DISTINCT price_usd FROM price_at(5)") == [(None,)]
    assert rows(coins, "SELECT DISTINCT debt_usd FROM balances_at(5)") == [(None,)]


def test_a_symbol_that_two_assets_share_prices_nothing(tmp_path: Path) -> None:
    shared = book()
    shared["assets"].append({"asset_id": 2, "asset": account(0xE8), "symbol": "ETH", "decimals": 18})
    write(tmp_path / "lake", shared)
    config = msgspec.structs.replace(CONFIG, name="in-eth", protocol="maker", base_currency="ETH")
    other = write(tmp_path / "lake", _vaults(), config)
    assert rows(other, "SELECT market FROM dollars") == [("toy",)]
    elsewhere = msgspec.structs.replace(config, chain_id=5)
    write(tmp_path / "far", book())
    assert rows(write(tmp_path / "far", _vaults(), elsewhere), "SELECT market FROM dollars") == [("toy",)]
