"""Index writes that no ``ReserveDataUpdated`` announces.

From 3.5 on ``LiquidationLogic.executeLiquidationCall`` accrues the collateral reserve before anything else
(``ReserveLogic.updateState``), and emits its new indexes only where collateral leaves the reserve. A liquidator who
takes collateral tokens leaves the write silent, yet supply interest is linear between writes, so later balances depend
on it. Up to 3.4 the reserve is accrued only where it is announced. (aave-v3-origin, tags v3.4.0, v3.5.0, v3.6.0: the
reference's "every index write is followed by this event" does not hold here.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from backtest.protocols.aave_v3.math import linear_interest, ray_mul_half_up
from backtest.protocols.aave_v3.rules import RULES
from backtest.tables import CANONICAL

SILENT_FROM_POOL = 9  # 3.5

Row = Mapping[str, Any]


class SilentAccruals:
    """Completes the canonical ``indexes`` segment by segment, remembering each asset's latest row."""

    def __init__(self) -> None:
        self._last: dict[int, Row] = {}

    def complete(self, indexes: pa.Table, silent: list[tuple[Row, int]]) -> pa.Table:
        """``indexes`` of one segment with the silent writes of its liquidations.

        Args:
            silent: (canonical liquidation row, pool revision then) of the segment's calls with
                ``receive_collateral_token``, in order.
        """
        silent = [(row, pool) for row, pool in silent if pool >= SILENT_FROM_POOL and pool in RULES]
        announced = indexes.to_pylist() if silent else list(self._latest(indexes))
        added, place = [], 0
        for row, pool in silent:
            while place < len(announced) and announced[place]["seq"] < row["seq"]:
                self._last[announced[place]["asset_id"]] = announced[place]
                place += 1
            accrued = _accrue(self._last[row["collateral_asset_id"]], row, pool)
            self._last[accrued["asset_id"]] = accrued
            added.append(accrued)
        self._last.update((row["asset_id"], row) for row in announced[place:])
        if not added:
            return indexes
        return pa.concat_tables([indexes, pa.Table.from_pylist(added, CANONICAL["indexes"])]).sort_by("seq")

    def _latest(self, indexes: pa.Table) -> Iterator[Row]:
        """The last row of each asset, without making Python values of all the others."""
        last = {asset: place for place, asset in enumerate(indexes["asset_id"].to_pylist())}
        yield from indexes.take(pa.array(sorted(last.values()), pa.int64())).to_pylist()


def _accrue(last: Row, call: Row, pool: int) -> dict[str, Any]:
    """Both indexes accrued to the call. An asset without debt keeps its borrow index on the chain; no balance depends
    on that.
    """
    elapsed = call["timestamp"] - last["timestamp"]
    supply, borrow = int(last["supply_index"]), int(last["borrow_index"])
    if elapsed:
        supply = ray_mul_half_up(linear_interest(int(last["supply_rate"]), elapsed), supply)
        borrow = ray_mul_half_up(RULES[pool].compounded_interest(int(last["borrow_rate"]), elapsed), borrow)
    place = {name: call[name] for name in ("market", "seq", "block_number", "log_index", "timestamp")}
    rates = {name: last[name] for name in ("supply_rate", "borrow_rate")}
    return {**place, "asset_id": last["asset_id"], "supply_index": supply, "borrow_index": borrow, **rates}
