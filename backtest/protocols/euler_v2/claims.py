"""What the vaults are asked when a lake is compared with the chain."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from backtest.markets import MarketConfig
from backtest.model import AccountId, AssetId
from backtest.protocols.claims import Claim, Tables, balances, changes, of_accounts
from backtest.protocols.euler_v2.events import VAULT
from backtest.protocols.euler_v2.math import accumulated_down, grown_down
from backtest.protocols.euler_v2.state import LENT
from backtest.units import RAY, SECONDS_PER_YEAR


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """Each account's shares of every vault (``balanceOf``) and its debt, where the block's time is known
    (``debtOfExact``: 2^-31 units, with interest). What each vault says of its totals the fold compares itself, at every
    status.
    """
    rows, vault = changes(tables), config.parameters[VAULT]
    assets = {AssetId(row["asset_id"]): row["asset"] for row in tables("assets", ["asset_id", "asset"]).to_pylist()}
    own, indexes = of_accounts(rows, list(accounts)), _Indexes(tables)
    for block in blocks:
        each = balances(own, block)
        now = indexes.at_block(block)
        for account, name in accounts.items():
            word = (int(name, 16),)
            for asset, token in assets.items():
                if (account, asset, "collateral") in each:
                    address, value = vault if asset == LENT else token, each[account, asset, "collateral"]
                    yield Claim(f"shares of {name} in {address}", block, address, "balanceOf(address)", value, word)
            stored = each.get((account, LENT, "debt"))
            if stored is None or now is None:
                continue
            debt = grown_down(stored, now, indexes.since(account, block)) if stored else 0
            yield Claim(f"debt of {name}", block, vault, "debtOfExact(address)", debt, word)


class _Indexes:
    """The lending vault's interest accumulator over time, and as of each account's last change."""

    def __init__(self, tables: Tables) -> None:
        names = ["seq", "block_number", "timestamp", "asset_id", "borrow_index", "borrow_rate"]
        rows = tables("indexes", names)
        rows = rows.filter(pc.equal(rows["asset_id"], LENT)).sort_by("seq").to_pylist()
        self._seqs, self._blocks = [r["seq"] for r in rows], [r["block_number"] for r in rows]
        self._rows = rows
        times = tables("blocks", ["block_number", "timestamp"]).to_pylist()
        self._times = {row["block_number"]: row["timestamp"] for row in times}
        moved = tables("position_events", ["seq", "block_number", "account_id", "asset_id", "side"])
        moved = moved.set_column(4, "side", moved.column("side").cast(pa.string()))
        self._moved = moved.filter(pc.and_(pc.equal(moved["asset_id"], LENT), pc.equal(moved["side"], "debt")))

    def at_block(self, block: int) -> int | None:
        """At the end of a block; None where its time is not known."""
        place, time = bisect_right(self._blocks, block) - 1, self._times.get(block)
        if place < 0 or time is None:
            return None
        row = self._rows[place]
        rate, accumulator = int(row["borrow_rate"]) // SECONDS_PER_YEAR, int(row["borrow_index"])
        return accumulated_down(accumulator, rate, time - row["timestamp"])

    def since(self, account: AccountId, block: int) -> int:
        """As of the account's last change up to a block."""
        own = self._moved.filter(
            pc.and_(pc.equal(self._moved["account_id"], account), pc.less_equal(self._moved["block_number"], block))
        )
        if not own.num_rows:
            return RAY
        return int(self._rows[bisect_right(self._seqs, pc.max(own["seq"]).as_py()) - 1]["borrow_index"])
