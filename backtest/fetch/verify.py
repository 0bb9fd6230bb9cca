"""Samples of a lake against the chain: what an omitted or misread log would have to change.

What a protocol's contracts return it says itself (``LendingProtocol.claims``): totals show an omission anywhere among
balance events, what has no total is compared for sampled accounts. Answers of feeds are compared by their consecutive
rounds. Pools say where they stand.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import FetchError
from backtest.fetch.adapters import selector, word
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify_facts import check_facts
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.model import PoolChange
from backtest.pools.uniswap_v3 import PoolState
from backtest.protocols.claims import Claim
from backtest.protocols.registry import protocol_named

ANSWERS = "raw/chainlink/AnswerUpdated"
_WORDS = 1 << 256
"""Negative numbers are told modulo this."""
_MOST_TICKS = 25
"""Ticks of one pool and block that are asked for."""
_MOST_ROUNDS = 1000
"""Missing rounds of one feed that are asked for; more are counted as unknown."""


@dataclass
class Report:
    """``compared``: kind of check to how many were made; ``mismatches``: each in words."""

    compared: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    mismatches: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as text, mismatches last."""
        made = ", ".join(f"{count} {kind}" for kind, count in sorted(self.compared.items())) or "nothing to compare"
        verdict = f"{len(self.mismatches)} differ" if self.mismatches else "all agree"
        remedy = [
            "take the blocks that differ again, from a node that can be relied on: backtest fetch ... --again A..B"
        ]
        return [f"compared with the chain: {made}: {verdict}", *self.mismatches, *(remedy if self.mismatches else [])]


def verify(lake: Lake, market: str, rpc: Rpc, *, blocks: int = 8, accounts: int = 50, seed: int = 0) -> Report:
    """Compare ``accounts`` accounts and all tokens at ``blocks`` blocks spread over the history, and all rounds of all
    feeds.

    Raises:
        FetchError: the node is on another chain or lacks the state of a sampled block.
        LakeError: the market has no canonical tables.
    """
    config = lake.market_config(market)
    if rpc.chain_id() != config.chain_id:
        raise FetchError(
            f"{rpc.name} is on another chain than market '{market}' ({config.chain_id})",
            "give --rpc a node of that chain",
        )
    report = Report()
    draw = random.Random(seed)
    claims = [*_claims(lake, config, blocks, accounts, draw), *_pools(lake, market, blocks, draw)]
    answers = rpc.eth_calls([(claim.address, _data(claim), claim.block) for claim in claims])
    for claim, data in zip(claims, answers, strict=True):
        found = word(None if data is None else data[32 * claim.place :])
        report.compared[claim.what.partition(" of ")[0]] += 1
        if found != claim.value:
            shown = "reverts" if found is None else str(found)
            report.mismatches.append(
                f"block {claim.block}: {claim.what}: the lake says {claim.value}, the chain {shown}"
            )
    _check_rounds(lake, market, rpc, report)

    def say(kind: str, difference: str | None) -> None:
        report.compared[kind] += 1
        if difference is not None:
            report.mismatches.append(f"{kind}: {difference}")

    ends = [stop for source in lake.sources(market) for _, stop in lake.covered(market, source)]
    if ends:
        check_facts(lake, market, rpc, max(ends), draw, say)
    return report


def _claims(lake: Lake, config: MarketConfig, blocks: int, accounts: int, draw: random.Random) -> Iterable[Claim]:
    """What the protocol says, at some blocks and of some accounts."""

    def tables(name: str, columns: Sequence[str]) -> pa.Table:
        return lake.read(f"canonical/{name}", config.name, columns=list(columns))

    moments = _spread(tables("position_events", ["block_number"])["block_number"], blocks)
    names = {row["account_id"]: row["account"] for row in tables("accounts", ["account_id", "account"]).to_pylist()}
    chosen = sorted(draw.sample(sorted(names), min(accounts, len(names))))
    own = {account: names[account] for account in chosen}
    return protocol_named(config.protocol).claims(config, tables, moments, own)


def _data(claim: Claim) -> str:
    return selector(claim.function) + "".join(f"{each:064x}" for each in claim.arguments)


# -- pools
# -----------------------------------------------------------------------------------------------------------------


def _pools(lake: Lake, market: str, blocks: int, draw: random.Random) -> Iterator[Claim]:
    """Of every pool its price and tick (``IUniswapV3PoolState.slot0``), its active liquidity, and gross and net
    liquidity of some ticks.
    """
    events = lake.read("canonical/pool_events", market)
    for pool in lake.read("canonical/pools", market).to_pylist():
        rows = events.filter(pc.equal(events["pool_id"], pool["pool_id"]))
        changes, state = deque(_changes(rows)), PoolState(pool["fee"], pool["tick_spacing"])
        for block in _spread(rows["block_number"], blocks):
            while changes and changes[0].block_number <= block:
                state.apply(changes.popleft())
            yield from _pool_claims(pool["pool"], state, block, draw)


def _changes(rows: pa.Table) -> Iterator[PoolChange]:
    names = ("seq", "block_number", "log_index", "timestamp", "pool_id", "tick", "upper", "liquidity", "sqrt_price")
    for seq, block, log, time, pool, tick, upper, liquidity, price in zip(
        *(rows[name].to_pylist() for name in names), strict=True
    ):
        yield PoolChange(
            seq=seq,
            block_number=block,
            log_index=log,
            timestamp=time,
            pool=pool,
            tick=tick,
            upper=upper,
            liquidity=int(liquidity),
            sqrt_price=None if price is None else int.from_bytes(price, "big"),
        )


def _pool_claims(address: str, state: PoolState, block: int, draw: random.Random) -> Iterator[Claim]:
    yield Claim(f"price of pool {address}", block, address, "slot0()", state.sqrt_price)
    yield Claim(f"tick of pool {address}", block, address, "slot0()", state.tick % _WORDS, place=1)
    yield Claim(f"active liquidity of pool {address}", block, address, "liquidity()", state.liquidity)
    for tick in draw.sample(state.ticks, min(_MOST_TICKS, len(state.ticks))):
        for what, value, place in (
            ("gross liquidity", state.gross[tick], 0),
            ("net liquidity", state.net[tick] % _WORDS, 1),
        ):
            said = f"{what} of tick {tick} of pool {address}"
            yield Claim(said, block, address, "ticks(int24)", value, (tick % _WORDS,), place)


# -- feeds
# -----------------------------------------------------------------------------------------------------------------


def _check_rounds(lake: Lake, market: str, rpc: Rpc, report: Report) -> None:
    """Rounds of an aggregator follow each other. A round that is missing here must be without an answer there: old
    aggregators (FluxAggregator) let rounds time out, and then ``answeredInRound`` is an earlier one
    (AggregatorV3Interface).
    """
    if ANSWERS not in lake.datasets(market):
        return
    rows = lake.read(ANSWERS, market, columns=["address", "round_id"])
    by_feed: dict[bytes, list[int]] = defaultdict(list)
    for address, round_id in zip(rows["address"].to_pylist(), rows["round_id"].to_pylist(), strict=True):
        by_feed[address].append(int(round_id))
    last = max(stop for source in lake.sources(market) for _, stop in lake.covered(market, source))
    for raw, rounds in sorted(by_feed.items()):
        feed = "0x" + raw.hex()
        report.compared["feed rounds"] += len(rounds)
        for before, after in itertools.pairwise(rounds):
            if after <= before:
                report.mismatches.append(f"feed {feed}: round {after} follows round {before}")
        missing = sorted(set(range(min(rounds), max(rounds))) - set(rounds))
        if len(missing) > _MOST_ROUNDS:
            report.mismatches.append(f"feed {feed}: {len(missing)} rounds are missing, from round {missing[0]} on")
            continue
        calls = [(feed, selector("getRoundData(uint80)") + f"{number:064x}", last) for number in missing]
        for number, data in zip(missing, rpc.eth_calls(calls), strict=True):
            if data is not None and len(data) >= 160 and int.from_bytes(data[128:160], "big") == number:
                report.mismatches.append(f"feed {feed}: round {number} is missing, the chain has it")


def _spread(numbers: pa.ChunkedArray, count: int) -> list[int]:
    """``count`` of the distinct values, evenly spread, the last one among them."""
    values = np.unique(numbers.to_numpy())
    if not len(values):
        return []
    return sorted({int(values[at]) for at in np.linspace(0, len(values) - 1, count + 1).astype(int)[1:]})
