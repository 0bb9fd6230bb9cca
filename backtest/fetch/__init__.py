"""From a node to raw datasets: ``fetch`` fills what a lake lacks of one market, in any number of runs.

``rpc`` talks to the node, ``question`` judges its replies, ``logs`` cuts, orders and commits, ``decode`` turns logs
into columns, ``state`` and ``feeds`` read what no log tells.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import structs

from backtest.errors import FetchError
from backtest.fetch.context import FetchContext, LogSource, Progress, Silent
from backtest.fetch.feeds import PriceSummary, fetch_prices
from backtest.fetch.headers import forget_tip
from backtest.fetch.logs import LogFetcher
from backtest.fetch.pools import fetch_pools
from backtest.fetch.raw import LakeEvents
from backtest.fetch.rpc import Misled, Rpc, Stats
from backtest.fetch.state import fetch_constants, fetch_readings, fetch_revisions, fetch_tokens, unanswered
from backtest.lake import Lake, Writer, claims, superseded
from backtest.lake.manifest import merge
from backtest.markets import MOST_BLOCK, MarketConfig
from backtest.model import EventSpec
from backtest.protocols.interface import LendingProtocol, RawEvents
from backtest.protocols.registry import protocol_named
from backtest.tables import IMPORTED

__all__ = ["FetchContext", "FetchSummary", "Progress", "Rpc", "fetch"]

_HEADERS_AT_ONCE = 20_000


@dataclass
class FetchSummary:
    """What a fetch did. ``rows``: dataset to logs added in this run; ``notes``: what a user should know."""

    market: str
    from_block: int
    to_block: int
    rows: dict[str, int] = field(default_factory=dict)
    headers: int = 0
    contracts: int = 0
    doubled: int = 0
    incomplete: int = 0
    rechecked: int = 0
    saturated: int = 0
    quarantined: int = 0
    prices: PriceSummary | None = None
    requests: Stats = field(default_factory=Stats)
    providers: list[str] = field(default_factory=list)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def fetch(
    lake: Lake,
    config: MarketConfig,
    rpc: Rpc,
    *,
    from_block: int | None = None,
    to_block: int | None = None,
    finality: Literal["finalized"] | int = "finalized",
    headers: Literal["events", "all"] = "events",
    omissions: Literal["auto", "always", "never"] = "auto",
    again: tuple[int, int] | None = None,
    at_once: bool = False,
    progress: Progress | None = None,
    protocol: LendingProtocol[Any] | None = None,
) -> FetchSummary:
    """Fill the gaps of one market between two blocks, inclusive; run again after an interruption it continues.

    Args:
        from_block: default the market's ``start_block``. Positions need the history from the start. Blocks that the
            lake holds next to the range are completed with it: what is found in one part (a token, a feed) is then
            fetched in the others too. Prices are fetched once the range begins at the market's first block.
        to_block: default the last final block; later ones are never stored.
        finality: "finalized" asks the node for its finalized block; a number counts confirmations below the latest one.
        headers: "all" stores the header of every block of the range, and so also finds blocks whose logs were all
            omitted.
        omissions: how to look for omitted logs, see ``backtest.fetch.question.Omissions``; unless "never", the first
            and the last block with logs of every reply are asked for twice, since that is where replies are cut short.
        again: an inclusive block range that is taken anew, whatever the lake holds of it, and with it everything that
            was read from contracts (symbols, constants, price sources); ``from_block`` and ``to_block`` are then its
            ends. The lake changes when all of it is there, and at once; if the fetch fails, not at all.
        at_once: the lake changes when all of it is there, as with ``again``; of what an interruption leaves, nothing.
        protocol: default the one that ``config.protocol`` names.

    What a provider of several said and was found lying about is taken anew, from the others.

    Raises:
        FetchError: the node is on another chain, lacks blocks or state, was reorganised, or cannot be made to answer.
        LakeError: the lake cannot be written, or holds another market under this name.
    """
    if again is not None and again[0] > again[1]:
        raise FetchError(f"blocks {again[0]} to {again[1]}: the first is after the last", "swap them")
    if again is not None:
        from_block, to_block = again
    started = time.monotonic()
    protocol = protocol or protocol_named(config.protocol)
    notes = _Notes(progress or Silent())
    while True:
        try:
            summary = _fetch(
                lake, config, rpc, from_block, to_block, finality, headers, omissions, again, at_once, notes, protocol
            )
        except FetchError as error:
            misled = rpc.doubted(error)
            with suppress(Misled):
                rpc.report(notes)
            if misled is None:
                raise
            lake.refresh()
            _take_back(lake, config, misled, at_once or again is not None, notes)
        else:
            summary.seconds = time.monotonic() - started
            return summary


def _take_back(lake: Lake, config: MarketConfig, misled: Misled, nothing_stored: bool, notes: Progress) -> None:
    """Take out of the lake what rests on false replies, so that it is missing and will be fetched."""
    if nothing_stored or misled.blocks is None or config.name not in lake.markets():
        notes.note(f"{misled.what}: asked again of others")
        return
    first, last = misled.blocks
    with lake.writer() as writer:
        rows = _withdraw(lake, writer, config.name, first, last)
    lake.refresh()
    notes.note(f"{misled.what}: blocks {first} to {last} are fetched again, {rows:,} rows of the lake are replaced")


def _fetch(
    lake: Lake,
    config: MarketConfig,
    rpc: Rpc,
    from_block: int | None,
    to_block: int | None,
    finality: Literal["finalized"] | int,
    headers: Literal["events", "all"],
    omissions: Literal["auto", "always", "never"],
    again: tuple[int, int] | None,
    at_once: bool,
    notes: _Notes,
    protocol: LendingProtocol[Any],
) -> FetchSummary:
    """One run of ``fetch``. Misled where it rests on false replies; with ``again`` or ``at_once`` nothing is stored
    then.
    """
    check_chain(rpc, config)
    final = final_block(rpc, finality)
    first, last = _range(config, final, from_block, to_block)
    if to_block is not None and last < to_block:
        notes.note(f"block {to_block} is not final yet: fetched up to block {last}")
    with lake.writer() as writer, writer.one_commit() if again or at_once else nullcontext(), _rare_collections():
        if again:
            digest = lake.digest(config.name) if config.name in lake.markets() else ""
            taken = _withdraw(lake, writer, config.name, first, last)
            notes.note(f"blocks {first} to {last} are fetched again: {taken:,} rows of the lake are replaced")
        writer.set_market(structs.replace(config, pools=()))  # its pools once they are known to be some
        asked, (first, last) = (first, last), with_neighbours(lake, config, first, last)
        logs = LogFetcher(lake, writer, config.name, rpc, notes, omissions, headers == "all", config.parameters)
        logs.check_tip()
        writer.set_provenance(config.name, {"client": rpc.client_version()})
        raw = LakeEvents(lake, config.name, config.protocol, protocol.events, config.parameters)
        contracts = fetch_protocol_logs(logs, protocol, config, raw, first, last)
        logs.fetch_headers([first, last])
        if headers == "all":
            _fetch_all_headers(logs, *asked, notes)  # what an earlier run without this option left out
        prices = fetch_facts(lake, writer, config, rpc, protocol, raw, logs, first, last, notes)
        logs.check_tip()
        rpc.confirm()
        rpc.report(notes)
        if providers := rpc.providers():
            writer.set_provenance(config.name, {"providers": "; ".join(providers)})
        writer.compact(config.name)
        if again and lake.digest(config.name) != digest:
            superseded.note(lake, writer, config.name, *asked)
    stats = logs.stats
    return FetchSummary(
        market=config.name,
        from_block=first,
        to_block=last,
        rows=dict(sorted(stats.rows.items())),
        headers=stats.headers,
        contracts=contracts,
        doubled=stats.doubled,
        incomplete=stats.incomplete,
        rechecked=stats.rechecked,
        saturated=stats.saturated,
        quarantined=sum(rows for dataset, rows in stats.rows.items() if dataset.endswith("/Quarantine")),
        prices=prices,
        requests=rpc.stats,
        providers=providers,
        notes=notes.texts,
    )


def _withdraw(lake: Lake, writer: Writer, market: str, first: int, last: int) -> int:
    """Take the range out of the lake, and everything that has no blocks; imported rows stay. How many rows."""
    if market not in lake.markets():
        raise FetchError(
            f"the lake holds nothing of market '{market}' that could be fetched again", "leave out --again"
        )
    forget_tip(lake, writer, market, first, last)
    claims.disown(lake, writer, market, first, last)
    return writer.withdraw(market, first, last, lambda name: name.startswith("raw/") and name not in IMPORTED)


def _range(config: MarketConfig, final: int, from_block: int | None, to_block: int | None) -> tuple[int, int]:
    """The inclusive range that is asked for, as far as it is final."""
    first = config.start_block if from_block is None else from_block
    if max(first, to_block or 0) > MOST_BLOCK:
        raise FetchError(f"a block of '{config.name}' is out of range", f"no block is above {MOST_BLOCK}")
    if first < 0 or (to_block is not None and to_block < 0):
        raise FetchError(f"block {first if first < 0 else to_block} of '{config.name}'", "block numbers start at 0")
    if to_block is not None and first > to_block:
        fix = (
            "swap them" if from_block is not None else f"the market starts at block {first}: choose a later --to-block"
        )
        raise FetchError(f"blocks {first} to {to_block} of '{config.name}': the first is after the last", fix)
    if first > final:
        none = (
            f"block {final} is the last final one"
            if final >= 0
            else "the chain has fewer blocks than the confirmations asked for"
        )
        raise FetchError(
            f"block {first} of '{config.name}' is not final: {none}",
            "choose an earlier --from-block, or on a short test chain fewer confirmations (--finality 0)",
        )
    return first, final if to_block is None else min(to_block, final)


def with_neighbours(lake: Lake, config: MarketConfig, first: int, last: int) -> tuple[int, int]:
    """The range joined with what the lake has of the market's own contracts next to it, so that gaps can be filled in
    any order.
    """
    own = [source for source in lake.sources(config.name) if source.rpartition("/")[2] in config.contracts.values()]
    covered = merge([(first, last), *(part for source in own for part in lake.covered(config.name, source))])
    return next(part for part in covered if part[0] <= first and last <= part[1])


def final_block(rpc: Rpc, finality: Literal["finalized"] | int) -> int:
    """The last block that is taken as final."""
    if isinstance(finality, int):
        return rpc.final(rpc.block_number() - finality)
    try:
        header = rpc.header("finalized")
    except FetchError as error:
        raise FetchError(
            f"{rpc.name} does not know its finalized block: {error.what}", "count confirmations instead: --finality 64"
        ) from None
    if header is None or int(header.number, 16) == 0:
        raise FetchError(
            f"{rpc.name} has no finalized block yet", "count confirmations instead: --finality 64, on a test chain 0"
        )
    return rpc.final(int(header.number, 16))


def check_chain(rpc: Rpc, config: MarketConfig) -> None:
    found = rpc.chain_id()
    if found != config.chain_id:
        raise FetchError(
            f"{rpc.name} is on chain {found}, market '{config.name}' is on chain {config.chain_id}",
            "give --rpc a node of that chain",
        )
    for (role, address), code in zip(
        config.contracts.items(), rpc.has_code(list(config.contracts.values())), strict=True
    ):
        if not code:
            raise FetchError(
                f"there is no contract at {address} ({role} of market '{config.name}')",
                "check the market's contracts, and that the node is in sync",
            )


def fetch_protocol_logs(
    logs: LogSource, protocol: LendingProtocol[Any], config: MarketConfig, raw: RawEvents, first: int, last: int
) -> int:
    """Logs of every contract that the market ever used; how many contracts. What is found may name further ones, until
    none is new.
    """
    start = {role: frozenset([address]) for role, address in config.contracts.items()}
    contracts = protocol.discover(start, raw)
    while True:
        logs.fetch(config.protocol, protocol.events, contracts, first, last)
        known, contracts = contracts, protocol.discover(contracts, raw)
        if contracts == known:
            return sum(map(len, contracts.values()))


def fetch_facts(
    lake: Lake,
    writer: Writer,
    config: MarketConfig,
    rpc: Rpc,
    protocol: LendingProtocol[Any],
    raw: LakeEvents,
    logs: LogSource,
    first: int,
    last: int,
    progress: Progress,
) -> PriceSummary | None:
    """Everything that the market's own logs do not say: symbols, revisions, constants, pools with their logs, and what
    prices are made of; None where prices have to wait for earlier blocks.
    """
    fetch_constants(lake, writer, config.name, rpc, protocol.constants(raw), last)  # which may name tokens
    fetch_readings(lake, writer, config.name, rpc, lambda: protocol.readings(raw), last)
    fetch_tokens(lake, writer, config.name, rpc, protocol.tokens(raw), last)
    fetch_revisions(lake, writer, config.name, rpc, protocol.deployments(raw), last)
    for text in unanswered(lake, config.name):
        progress.note(text)
    fetch_pools(lake, writer, config, rpc, logs, first, last)
    if first > config.start_block:  # which sources are in use in the range, only earlier blocks tell
        progress.note(f"prices wait for the blocks before {first}: the market starts at block {config.start_block}")
        return None
    return _fetch_prices(lake, writer, config, rpc, protocol, raw, logs, first, last, progress)


def _fetch_all_headers(logs: LogFetcher, first: int, last: int, progress: Progress) -> None:
    progress.begin("headers", last - first + 1)
    for low in range(first, last + 1, _HEADERS_AT_ONCE):
        high = min(last, low + _HEADERS_AT_ONCE - 1)
        logs.fetch_headers(range(low, high + 1))
        progress.advance(high - low + 1)


def _fetch_prices(
    lake: Lake,
    writer: Writer,
    config: MarketConfig,
    rpc: Rpc,
    protocol: LendingProtocol[Any],
    raw: LakeEvents,
    logs: LogSource,
    first: int,
    last: int,
    progress: Progress,
) -> PriceSummary:
    def fetch_logs(
        specs: Sequence[EventSpec], addresses: Iterable[str], namespace: str, from_block: int, to_block: int
    ) -> int:
        found = sorted(addresses)
        return logs.fetch(namespace, specs, {spec.emitter: found for spec in specs}, from_block, to_block)

    context = FetchContext(lake, writer, config, rpc, first, last, progress, fetch_logs, logs.fetch_headers)
    liquidations = {
        block
        for event in protocol.liquidation_events
        for block in raw.table(event).column("block_number").to_pylist()
        if first <= block <= last
    }
    return fetch_prices(context, protocol.price_sources(raw), sorted(liquidations))


class _Notes:
    """Passes progress on and keeps the notes for the summary."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self.texts: list[str] = []
        self.begin, self.advance = inner.begin, inner.advance

    def note(self, text: str) -> None:
        if text not in self.texts:
            self.texts.append(text)
            self._inner.note(text)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Parsing replies makes many objects and no cycles: with the default thresholds a third of the time goes into
    looking for some.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
