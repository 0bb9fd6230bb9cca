"""Imported facts as reconstruction needs them: rows of the spine, times of their blocks, and price steps. Pure.

A price that is a market's, or whose block is not known, is placed by its time: in a block of its own between the known
ones, so that it is in force from its own moment on and not from the next known event only. Such places are estimates,
and those steps are not exact.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtest.blocks import place
from backtest.prices.fold import PRICES, START_OF_BLOCK
from backtest.prices.proxy import HOP, gaps, proxy_steps
from backtest.tables import AMOUNT, TEXT

PRICE, CHECKPOINT = "raw/import/Price", "raw/import/Checkpoint"
PROXY, PROXY_GAP, DERIVED, FEED, SOURCE = "proxy", "proxy-gap", "derived", "feed", "source"
SAID = ("oracle", "source")
"""Kinds of rows that are records of the chain: what the oracle said, and what it reads said."""
STAND_IN = (PROXY, PROXY_GAP, DERIVED)
"""Methods of prices that stand for an oracle's: a venue's, or those that ``calibrate oracle`` derived from history."""
IN_SAMPLE = "derived in-sample"
"""What every result that rests on derived prices says of them."""
_BEFORE = 7 * 86_400
"""Market prices of so many seconds before the first known block are kept: an oracle with a longer delay says them
then.
"""
MARKET_PRICES = pa.schema(
    [
        pa.field("block_number", pa.int64(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("asset", TEXT, nullable=False),
        pa.field("price", AMOUNT, nullable=False),
        pa.field("low", AMOUNT),
        pa.field("high", AMOUNT),
        pa.field("period", pa.int64()),
    ]
)


def spine_rows(dataset: str, table: pa.Table) -> npt.NDArray[np.bool_]:
    """Which imported rows are events of the chain: all but checkpoints, and prices that are a market's or whose block
    is not known.
    """
    if dataset == CHECKPOINT:
        return np.zeros(table.num_rows, np.bool_)
    if dataset != PRICE:
        return np.ones(table.num_rows, np.bool_)
    return np.asarray(pc.and_(pc.is_in(table["kind"], pa.array(SAID)), table["block_known"]), np.bool_)


@dataclass(frozen=True, slots=True)
class ImportedPrices:
    """Price steps in the schema ``PRICES``, market prices in ``MARKET_PRICES``, both placed; the estimated blocks with
    their times; and what a user should know.
    """

    steps: pa.Table
    market: pa.Table
    placed: Mapping[int, int]
    notes: Sequence[str] = field(default=())


def imported_prices(
    rows: pa.Table, blocks: Sequence[int], times: Sequence[int], *, delay: int | None
) -> ImportedPrices:
    """Steps of all assets from the rows of ``raw/import/Price``.

    An asset's oracle is what rows of kind oracle say, from the first of them on; before, and without any, it is what
    rows of kind source say of what the oracle reads, from the first of them on (``source``, not exact: when the oracle
    took it up they do not say); before, what rows of kind derived say for their periods, and else a proxy: the market's
    price ``delay`` seconds late (``proxy``). Of market prices at one time those of the shortest period count. Steps
    after the last known block are left out, and of those before the first known one all but the last.

    Args:
        rows: all of them.
        blocks: known blocks of the market, ascending; times: theirs.
        delay: seconds from a market price to the protocol's oracle, 0 or more. None: the market's own oracle is known,
            so there are no steps, and market prices stand beside it.
    """
    if not rows.num_rows or not blocks:
        return ImportedPrices(PRICES.empty_table(), MARKET_PRICES.empty_table(), {})
    timed: list[_Step] = []
    logged: list[_Step] = []
    market: list[tuple[int, str, int, int | None, int | None, int | None]] = []
    notes = []
    for asset in sorted(set(rows["asset"].to_pylist())):
        mine = rows.filter(pc.equal(rows["asset"], asset))
        said = _told(asset, mine.filter(pc.equal(mine["kind"], "oracle")), FEED)
        read = _told(asset, mine.filter(pc.equal(mine["kind"], SOURCE)), SOURCE)
        venue = _market(mine.filter(pc.equal(mine["kind"], "market")))
        derived = _market(mine.filter(pc.equal(mine["kind"], DERIVED)))
        if delay is not None:
            since = min((step.time for step in said), default=None)
            told = said + [step for step in read if since is None or step.time < since]
            until = min((step.time for step in told), default=None)
            proxy = _proxy(asset, venue, delay) if venue else []
            stand_in = _instead(asset, proxy, derived)
            logged += [step for step in told if step.at is not None]
            timed += [step for step in told if step.at is None]
            timed += [step for step in stand_in if until is None or step.time < until]
        elif count := len(said) + len(read):
            notes.append(f"imported oracle prices of {asset}, left out for those of the market's own oracle: {count}")
        market += [(time, asset, *row) for time, row in sorted(venue.items())]
        if missing := gaps(sorted(venue), [venue[time][3] for time in sorted(venue)]):
            notes.append(
                f"market prices of {asset} have {len(missing)} gaps, the longest of {max(b - a for a, b in missing)}"
                " seconds"
            )
    return _placed(timed, logged, market, (blocks, times), notes)


@dataclass(frozen=True, slots=True)
class _Step:
    time: int
    asset: str
    price: int
    method: str
    exact: bool
    at: tuple[int, int] | None = None  # block and log index where they are known


def _told(asset: str, rows: pa.Table, method: str) -> list[_Step]:
    """Steps by time, those with a block at their place. Exact is what the oracle itself said in a place that the rows
    tell.
    """
    out = []
    names = ("timestamp", "price", "block_known", "ordered", "block_number", "log_index")
    for time, price, known, ordered, block, index in zip(*(rows[name].to_pylist() for name in names), strict=True):
        if known:
            out.append(_Step(time, asset, int(price), method, ordered and method == FEED, (block, index)))
        else:
            out.append(_Step(time, asset, int(price), method, False))
    return sorted(out, key=lambda step: step.time)


def _market(rows: pa.Table) -> dict[int, tuple[int, int | None, int | None, int | None]]:
    """Time to price, low, high and period."""
    out: dict[int, tuple[int, int | None, int | None, int | None]] = {}
    names = ("timestamp", "price", "low", "high", "period")
    for time, price, low, high, period in zip(*(rows[name].to_pylist() for name in names), strict=True):
        held = out.get(time)
        if held is None or (period is not None and (held[3] is None or period < held[3])):
            out[time] = (int(price), None if low is None else int(low), None if high is None else int(high), period)
    return out


def _proxy(asset: str, venue: Mapping[int, tuple[int, int | None, int | None, int | None]], delay: int) -> list[_Step]:
    times = sorted(venue)
    steps = proxy_steps(
        times, [venue[time][0] for time in times], [venue[time][3] for time in times], delay=delay, hop=HOP
    )
    return [_Step(step.timestamp, asset, step.price, PROXY_GAP if step.gap else PROXY, False) for step in steps]


def _instead(
    asset: str, proxy: Sequence[_Step], derived: Mapping[int, tuple[int, int | None, int | None, int | None]]
) -> list[_Step]:
    """The proxy's steps with derived ones in their place, each for its period; from its end on the proxy's price of
    then holds again.
    """
    if not derived:
        return list(proxy)
    times = sorted(derived)
    ends = [time + (derived[time][3] or 1) for time in times]
    kept = [step for step in proxy if (at := bisect_right(times, step.time) - 1) < 0 or step.time >= ends[at]]
    starts = {step.time for step in kept} | set(times)
    steps = [step.time for step in proxy]
    for end in ends:
        # Where nothing begins as a derived price ends, the price that the proxy has by then does.
        if end not in starts and (at := bisect_right(steps, end) - 1) >= 0:
            kept.append(_Step(end, asset, proxy[at].price, proxy[at].method, False))
    return kept + [_Step(time, asset, derived[time][0], DERIVED, False) for time in times]


def _placed(
    timed: Sequence[_Step],
    logged: Sequence[_Step],
    market: Sequence[tuple[int, str, int, int | None, int | None, int | None]],
    known: tuple[Sequence[int], Sequence[int]],
    notes: list[str],
) -> ImportedPrices:
    blocks, times = known
    first, last = times[0], times[-1]
    latest = {step.asset: step for step in sorted(timed, key=lambda step: step.time) if step.time <= first}
    kept = [step for step in timed if first < step.time <= last or latest.get(step.asset) is step]
    venue = [row for row in market if first - _BEFORE <= row[0] <= last]
    if left := sum(step.time > last for step in timed):
        notes.append(f"price steps after the last known block, left out: {left}")
    moments = sorted({step.time for step in kept if step.time > first} | {row[0] for row in venue if row[0] > first})
    found = dict(zip(moments, place(moments, blocks, times), strict=True))
    held = set(blocks)
    placed = {block: time for time, block in found.items() if block is not None and block not in held}

    def block_of(time: int) -> int:
        """Its block, else the first known one at or after it."""
        at = found.get(time)
        return blocks[bisect_left(times, time)] if at is None else at

    if placed:
        notes.append(f"blocks of prices, placed by their time: {len(placed)}")
    rows = [(*(step.at or (0, 0)), 0, step) for step in logged] + [
        (block_of(step.time), START_OF_BLOCK, 1, step) for step in kept
    ]
    return ImportedPrices(_steps(rows), _market_table(venue, block_of), placed, tuple(notes))


def follows_market(prices: pa.Table) -> bool:
    """Whether any canonical price stands for an oracle's: a market's, or one derived from it."""
    return bool(pc.any(_proxies(prices)).as_py())


def _proxies(prices: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(prices["method"].cast(pa.string()), value_set=pa.array(STAND_IN))


def delayed_prices(prices: pa.Table, market: pa.Table, blocks: pa.Table, delay: int) -> pa.Table:
    """Canonical prices of a market under another delay of its oracle: what a replay of ``oracle_delay`` takes instead
    of its own.

    Steps that follow market prices, or were derived, are made anew from market prices, in the places that
    reconstruction gave to prices; what an oracle said stays.

    Args:
        prices, market, blocks: the canonical tables ``prices``, ``market_prices`` and ``blocks``.
        delay: seconds from a market price to the oracle's.

    Returns: the columns of ``prices`` that a replay reads, sorted by seq.
    """
    names = [name for name in prices.schema.names if name not in ("market", "source", "method", "exact")]
    stays = prices.filter(pc.invert(_proxies(prices))).select(names)
    block_times = dict(zip(blocks["block_number"].to_pylist(), blocks["timestamp"].to_pylist(), strict=True))
    starts = [table.filter(pc.equal(table["log_index"], START_OF_BLOCK)) for table in (prices, market)]
    numbers = [
        (seq, block)
        for table in starts
        for seq, block in zip(table["seq"].to_pylist(), table["block_number"].to_pylist(), strict=True)
    ]
    places = sorted({(block_times[block], seq, block) for seq, block in numbers})
    rows: dict[tuple[int, int], dict[str, object]] = {}
    for asset in sorted(set(market["asset_id"].to_pylist())):
        until = min(stays.filter(pc.equal(stays["asset_id"], asset))["timestamp"].to_pylist(), default=None)
        mine = market.filter(pc.equal(market["asset_id"], asset)).sort_by("timestamp")
        values = [int(price) for price in mine["price"].to_pylist()]
        for step in proxy_steps(mine["timestamp"].to_pylist(), values, mine["period"].to_pylist(), delay=delay):
            place_ = bisect_left(places, (step.timestamp,))
            if place_ == len(places) or (until is not None and step.timestamp >= until):
                break
            time, seq, block = places[place_]
            row = {
                "seq": seq,
                "block_number": block,
                "log_index": START_OF_BLOCK,
                "timestamp": time,
                "asset_id": asset,
                "price": Decimal(step.price),
            }
            rows[seq, asset] = row  # of two steps that share a place the later one counts
    made = pa.Table.from_pylist([rows[key] for key in sorted(rows)], schema=stays.schema)
    return pa.concat_tables([stays, made]).sort_by([("seq", "ascending"), ("asset_id", "ascending")])


def _steps(rows: Iterable[tuple[int, int, int, _Step]]) -> pa.Table:
    ordered = sorted(rows, key=lambda row: (row[0], row[1], row[3].asset, row[3].time))
    named = [
        {
            "block_number": block,
            "log_index": index,
            "order": order,
            "asset": step.asset,
            "price": Decimal(step.price),
            "method": step.method,
            "exact": step.exact,
        }
        for block, index, order, step in ordered
    ]
    return pa.Table.from_pylist(named, schema=PRICES)  # columns that are not named are null


def _market_table(
    venue: Sequence[tuple[int, str, int, int | None, int | None, int | None]], block_of: Callable[[int], int]
) -> pa.Table:
    rows = sorted((block_of(row[0]), *row) for row in venue)
    columns = list(zip(*rows, strict=True)) or [()] * len(MARKET_PRICES)
    return pa.table(
        [_exact(column, f.type) for column, f in zip(columns, MARKET_PRICES, strict=True)], schema=MARKET_PRICES
    )


def _exact(column: Sequence[object], kind: pa.DataType) -> pa.Array:
    """An array; integers become DECIMAL through Decimal, since Arrow takes them up to 64 bits only."""
    if pa.types.is_decimal(kind):
        return pa.array([None if value is None else Decimal(str(value)) for value in column], kind)
    return pa.array(column, kind)
