"""Health factors from SQL, and from the protocol's exact rule where SQL's integers do not hold a number.

The macro ``health`` of ``queries/`` is exact (``health_wad``) but for amounts beyond its range; where DOUBLE, which it
shows then, cannot decide (``near_one``), the market's history is replayed to the block and the protocol asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from backtest.errors import UserError
from backtest.lake import Lake
from backtest.model import AccountId, HistoricalLiquidation
from backtest.protocols.book import Book
from backtest.protocols.registry import protocol_named
from backtest.results import load_market, load_timeline
from backtest.tables import AMOUNT
from backtest.units import WAD

Wanted = dict[int, list[tuple[int, int]]]
"""Block to (row of the result, account id)."""


def health(
    lake: Lake, market: str, accounts: Sequence[str] | None, blocks: Iterable[int], *, exact: bool = False
) -> pa.Table:
    """Health of accounts of a market at the end of blocks: rows of the SQL macro ``health``, decided exactly where
    SQL cannot.

    Args:
        market: name of the market.
        accounts: addresses; None for all.
        blocks: block numbers whose header the lake has.
        exact: ask the exact rule for every row (a replay to the last block), not only for those that need it: what SQL
            says can be held against it.

    Returns: the macro's columns. ``health_wad`` is the exact health: compare it with 1e18 (liquidatable below). Where
        the rule was asked, ``health`` is ``health_wad`` / 1e18 and ``near_one`` is false.

    Raises:
        UserError: a block without a header in the lake.
        LakeError: rows need the exact rule and the market's canonical tables are stale.
    """
    wanted = sorted(set(blocks))
    people = "NULL" if accounts is None else "[" + ", ".join(f"'{_address(account)}'" for account in accounts) + "]"
    lake.market_config(market)
    rows = (
        f"FROM health({people}::VARCHAR[], {wanted}::BIGINT[]) WHERE market = '{market}' ORDER BY block_number,"
        " account_id"
    )
    table = lake.sql(f"SELECT * {rows}").to_arrow_table()
    times = table["timestamp"].to_pylist()
    if None in times:
        block = table["block_number"][times.index(None)].as_py()
        raise UserError(
            f"block {block} of '{market}' has no header in this lake", "choose a block of the view 'blocks'"
        )
    asked: Wanted = {}
    columns = (table[name].to_pylist() for name in ("block_number", "account_id", "near_one", "missing"))
    for row, (block, account, near, missing) in enumerate(zip(*columns, strict=True)):
        if missing is None and (near or exact):
            asked.setdefault(block, []).append((row, account))
    values, near_one = table["health"].to_pylist(), table["near_one"].to_pylist()
    wads: list[int | None] = table["health_wad"].to_pylist()
    for row, wad in _decide(lake, market, asked) if asked else ():
        values[row], near_one[row], wads[row] = wad / WAD, False, wad
    for name, column in (
        ("health", pa.array(values, pa.float64())),
        ("near_one", pa.array(near_one, pa.bool_())),
        ("health_wad", pa.array(wads, AMOUNT)),
    ):
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def _decide(lake: Lake, name: str, wanted: Wanted) -> Iterable[tuple[int, int]]:
    """(row, exact health) of every wanted account, in one replay of the market's history."""
    market, timeline = load_market(lake, name), load_timeline(lake, name)
    protocol = protocol_named(market.protocol)
    book: Book[Any] = Book.open(protocol, market)
    blocks = sorted(wanted)
    answers: list[tuple[int, int]] = []

    def ask(block: int) -> None:
        for row, account in wanted[block]:
            view = protocol.view(book.state, AccountId(account), book.prices, timeline.clock_at(block))
            if view.health is not None:
                answers.append((row, view.health))

    for transaction in timeline.transactions(blocks[-1]):
        while blocks and blocks[0] < transaction[0].block_number:
            ask(blocks.pop(0))
        for event in transaction:
            if type(event) is not HistoricalLiquidation:
                book.apply(event)
    for block in blocks:
        ask(block)
    return answers


def _address(text: str) -> str:
    lower = text.lower()
    if not (lower.startswith("0x") and len(lower) == 42 and all(digit in "0123456789abcdef" for digit in lower[2:])):
        raise UserError(f"'{text}' is not an address", "give 0x and 40 hex digits")
    return lower
