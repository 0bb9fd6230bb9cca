"""What a history says that contracts return, so that a node can be asked: what ``--verify`` compares. Pure: the
node is asked by ``backtest.fetch.verify``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from backtest.model import AccountId, AssetId

Tables = Callable[[str, Sequence[str]], pa.Table]
"""A canonical table of the market by its name, these columns of it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the history says that a call returns at the end of a block.

    Attributes:
        what: names it in words; what stands before " of " is its kind.
        function: signature, ``balanceOf(address)``; ``arguments`` are words, negative ones modulo 2^256.
        value: the word returned at ``place``.
    """

    what: str
    block: int
    address: str
    function: str
    value: int
    arguments: tuple[int, ...] = ()
    place: int = 0


def changes(tables: Tables) -> pa.Table:
    """Every change of a stored balance: block_number, account_id, asset_id, side, delta."""
    rows = tables("position_events", ["block_number", "account_id", "asset_id", "side", "delta"])
    return rows.set_column(3, "side", rows.column("side").cast(pa.string()))


def totals(rows: pa.Table, block: int) -> dict[tuple[AssetId, str], int]:
    """Sums of ``changes`` over all accounts at the end of a block, by asset and side."""
    until = rows.filter(pc.less_equal(rows["block_number"], block))
    sums = until.group_by(["asset_id", "side"]).aggregate([("delta", "sum")]).to_pylist()
    return {(AssetId(row["asset_id"]), row["side"]): int(row["delta_sum"]) for row in sums}


def balances(rows: pa.Table, block: int) -> dict[tuple[AccountId, AssetId, str], int]:
    """The same of each account."""
    until = rows.filter(pc.less_equal(rows["block_number"], block))
    sums = until.group_by(["account_id", "asset_id", "side"]).aggregate([("delta", "sum")]).to_pylist()
    return {(AccountId(r["account_id"]), AssetId(r["asset_id"]), r["side"]): int(r["delta_sum"]) for r in sums}


def of_accounts(rows: pa.Table, accounts: Sequence[AccountId]) -> pa.Table:
    """The rows of some accounts."""
    return rows.filter(pc.is_in(rows["account_id"], pa.array(accounts, pa.int32())))
