"""Holds SQL's holdings and health against the engine's own view of every account, to the last integer."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from backtest.errors import PriceMissing, RulesError
from backtest.lake import Lake
from backtest.model import AccountId, HistoricalLiquidation
from backtest.protocols.book import Book
from backtest.protocols.registry import protocol_named
from backtest.results import load_market, load_timeline


@dataclass
class Compared:
    """How many rows were equal: of accounts, of those with debt, below one, of holdings, and accounts without price."""

    accounts: int = 0
    owing: int = 0
    unsafe: int = 0
    holdings: int = 0
    unpriced: int = 0


def assert_sql_is_the_engine(lake: Lake, name: str, blocks: Iterable[int], beyond: Collection[int] = ()) -> Compared:
    """Every account at the end of every block (whose header the lake has): totals, health, balances. Accounts
    ``beyond`` what SQL's integers hold are left out.
    """
    wanted = sorted(set(blocks))
    condition = f"WHERE market = '{name}'"
    health = {
        (row["block_number"], row["account_id"]): row
        for row in lake.sql(f"SELECT * FROM health(NULL, {wanted}) {condition}").to_arrow_table().to_pylist()
    }
    holdings = {
        (row["block_number"], row["account_id"], row["asset_id"]): row
        for row in lake.sql(f"SELECT * FROM holdings(NULL, {wanted}) {condition}").to_arrow_table().to_pylist()
    }
    market, timeline = load_market(lake, name), load_timeline(lake, name)
    protocol = protocol_named(market.protocol)
    book: Book[Any] = Book.open(protocol, market)
    compared = Compared()

    def ask(block: int) -> None:
        now = timeline.clock_at(block)
        for number in protocol.accounts(book.state):
            account = AccountId(number)
            if number in beyond:
                continue
            where = f"{market.accounts[account]} at block {block}"
            for held in protocol.holdings(book.state, account, now):
                ours = holdings.pop((block, account, held.asset), None)
                amounts = (held.collateral_scaled, held.debt_scaled, held.collateral, held.debt)
                if ours is None:
                    assert not any(amounts), where
                    continue
                found = tuple(int(ours[name]) for name in ("collateral_scaled", "debt_scaled", "collateral", "debt"))
                assert found == amounts, f"{where}: asset {held.asset}"
                assert ours["amounts_exact"]
                assert ours["collateral_enabled"] == held.collateral_enabled
                compared.holdings += 1
            row = health.pop((block, account), None)
            try:
                view = protocol.view(book.state, account, book.prices, now)
            except (PriceMissing, RulesError):
                assert row is None or row["missing"] is not None, where
                compared.unpriced += 1
                continue
            if row is None:
                assert (view.collateral_base, view.debt_base) == (0, 0), where
                continue
            assert (int(row["collateral_base"]), int(row["debt_base"])) == (view.collateral_base, view.debt_base), where
            assert (None if row["health_wad"] is None else int(row["health_wad"])) == view.health, where
            assert (row["missing"] == "no debt") == (view.health is None), where
            assert not row["near_one"]
            compared.accounts += 1
            if view.health is not None:
                compared.owing += 1
                compared.unsafe += view.health < 10**18
                assert row["health"] == pytest.approx(view.health / 1e18, rel=1e-15, abs=0)

    for transaction in timeline.transactions(wanted[-1]):
        while wanted and wanted[0] < transaction[0].block_number:
            ask(wanted.pop(0))
        for event in transaction:
            if type(event) is not HistoricalLiquidation:
                book.apply(event)
    for block in wanted:
        ask(block)
    own = {key: row for key, row in {**holdings, **health}.items() if key[1] not in beyond}
    amounts = ("collateral_scaled", "debt_scaled", "debt", "collateral_base", "debt_base")
    assert not [key for key, row in own.items() if any(row.get(name) for name in amounts)], "rows of nobody"
    return compared


def spread(lake: Lake, name: str, count: int) -> list[int]:
    """Blocks with a header, evenly over the history."""
    found = lake.sql(f"SELECT block_number FROM blocks WHERE market = '{name}' ORDER BY 1").fetchall()
    known = [block for (block,) in found]
    return sorted({known[i * (len(known) - 1) // (count - 1)] for i in range(count)})
