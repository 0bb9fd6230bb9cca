"""Which prices of a market are not exact, and why: what ``backtest info`` says of them, from the lake alone."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from backtest.fetch.raw import LakeEvents
from backtest.lake import Lake
from backtest.lake.relations import literal
from backtest.prices.fold import read_sources
from backtest.prices.oracles import CAPPED_RATIO, SAMPLED, Source
from backtest.protocols.registry import protocol_named

PROXY = "a venue's market prices stand for the oracle's"
GAP = "a venue's market prices stand for the oracle's, and at that time it has none: the last one before"
UNTOLD = "the oracle falls back on one of which no log tells: read about once an hour"
OLD_STATE = "the node had no old state: when a feed proxy changed its aggregator is estimated"
RATIO = "an exchange rate of which no log tells: read about once an hour, and around changes between"
UNKNOWN = "what it is computed from is not in the lake, or a read of the oracle says otherwise"
READ_BY = "imported: what the oracle reads, not what it said: when it took that up is not known"
PLACED = "imported: its block, or its place among the events of the block, is not known"
TAKEN = "taken as fixed: no record tells its price"
IN_SAMPLE = "derived in-sample from what the chain accepted"
BUSY = "a change of which no log tells fell into a block with other events"
_OF_A_VENUE = {"proxy": PROXY, "proxy-gap": GAP}
_OF_IMPORTS = {"source": READ_BY, "derived": IN_SAMPLE}
_WITHOUT_SOURCE = {"feed": PLACED, "fixed": TAKEN}
_KINDS = {
    "feed": "the oracle's own log",
    "formula": "computed from logs by the source's rule",
    "fixed": "fixed",
    "read": "read from the oracle",
    "source": "imported: what the oracle reads said",
    "derived": "derived in-sample from what the chain accepted",
    "proxy": "a venue's price in the oracle's place",
    "proxy-gap": "a venue's last price before a gap, in the oracle's place",
}


@dataclass(frozen=True, slots=True)
class Doubt:
    """``steps`` of the ``total`` price steps of an asset (as ``assets.label`` calls it) are not exact, for this
    reason.
    """

    asset: str
    steps: int
    total: int
    why: str


@dataclass(frozen=True, slots=True)
class Kind:
    """``steps`` of an asset's price are of this kind, the first and the last of them at these times (seconds since
    1970).
    """

    asset: str
    kind: str
    steps: int
    first: int
    last: int


def kinds(lake: Lake, market: str) -> list[Kind]:
    """Which price steps of a market are of which kind, by asset in the order in which the kinds begin. The market has
    canonical prices.
    """
    rows = lake.sql(
        "SELECT label, method, count(*), min(p.timestamp), max(p.timestamp) FROM prices AS p JOIN assets USING (market,"
        f" asset_id) WHERE market = {literal(market)} GROUP BY asset_id, label, method"
        " ORDER BY asset_id, min(p.timestamp), method"
    )
    return [
        Kind(label, _KINDS.get(method, method), steps, first, last)
        for label, method, steps, first, last in rows.fetchall()
    ]


def doubts(lake: Lake, market: str) -> list[Doubt]:
    """By asset and reason, in order of assets; nothing where all is exact. The market has canonical prices.

    The reason of a step is the first that applies of: another's prices, a fallback that logs nothing, a source that is
    read, a node without old state, an exchange rate that is read.
    """
    columns = ["asset_id", "block_number", "log_index", "price", "source", "method", "exact"]
    table = lake.read("canonical/prices", market, columns=columns)
    proxy = pc.is_in(table["method"].cast(pa.string()), pa.array(list(_OF_A_VENUE)))
    doubtful = table.filter(pc.or_(pc.invert(table["exact"]), proxy))
    if not doubtful.num_rows:
        return []
    totals = Counter(table["asset_id"].to_pylist())
    datasets = lake.datasets(market)
    sources = read_sources(lake.read("raw/oracle/Source", market) if "raw/oracle/Source" in datasets else None)
    phases = lake.read("raw/oracle/Phase", market).to_pylist() if "raw/oracle/Phase" in datasets else []
    estimated = {f"0x{row['address'].hex()}" for row in phases if not row["exact"]}
    query = f"SELECT asset_id, asset, label FROM assets WHERE market = '{market}'"
    named = {asset_id: (asset, label) for asset_id, asset, label in lake.sql(query).fetchall()}
    untold = _untold(lake, market)
    found: Counter[tuple[int, str]] = Counter()
    rows = zip(*(doubtful[name].to_pylist() for name in columns), strict=True)
    for asset_id, block, log_index, price, source, method, _ in rows:
        if method in _OF_A_VENUE:
            why = _OF_A_VENUE[method]
        elif method in _OF_IMPORTS or (source is None and method in _WITHOUT_SOURCE):
            why = _OF_IMPORTS.get(method) or _WITHOUT_SOURCE[method]
        elif _at(untold.get(named[asset_id][0], ()), block, log_index):
            why = UNTOLD
        else:
            why = _why(source, sources, estimated, method, price is None)
        found[asset_id, why] += 1
    return [Doubt(named[asset][1], steps, totals[asset], why) for (asset, why), steps in sorted(found.items())]


def _why(source: str | None, sources: Mapping[str, Source], estimated: set[str], method: str, unknown: bool) -> str:
    tree = list(_tree(source, sources))
    sampled = next((one for one in tree if one.kind == SAMPLED), None)
    if sampled is not None:
        return f"read about once an hour, not computed: {sampled.parameters['reason']}"
    if not estimated.isdisjoint(one.address for one in tree):
        return OLD_STATE
    if unknown or method == "read":
        return UNKNOWN
    return RATIO if any(one.kind == CAPPED_RATIO and "ratio_feed" not in one.parameters for one in tree) else BUSY


def _tree(address: str | None, sources: Mapping[str, Source]) -> Iterable[Source]:
    """A source and all that it reads."""
    if address is not None and address in sources:
        yield sources[address]
        for feed in sources[address].feeds:
            yield from _tree(feed, sources)


_Steps = list[tuple[tuple[int, int], bool]]


def _untold(lake: Lake, market: str) -> Mapping[str, _Steps]:
    """By asset address, from which position on its oracle falls back on one that logs nothing, or does no more."""
    config = lake.market_config(market)
    protocol = protocol_named(config.protocol)
    raw = LakeEvents(lake, market, config.protocol, protocol.events, config.parameters)
    found: dict[str, _Steps] = defaultdict(list)
    for change in protocol.price_sources(raw):
        found[change.asset].append(((change.block_number, change.log_index), change.untold))
    return found if any(untold for steps in found.values() for _, untold in steps) else {}


def _at(steps: _Steps | tuple[()], block: int, log_index: int) -> bool:
    """What holds at a position. A price without a log is that of the start of its block, and found at its end."""
    if log_index < 0:
        log_index = 1 << 31
    place = bisect_right([position for position, _ in steps], (block, log_index))
    return place > 0 and steps[place - 1][1]
