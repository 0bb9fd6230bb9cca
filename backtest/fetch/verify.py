"""Samples of a lake against the chain: what an omitted or misread log would have to change.

Every balance is in some token's total, so scaled total supplies show an omission anywhere among balance events. Flags,
e-modes
and answers of feeds have no total: flags and e-modes are compared for sampled accounts, answers by their consecutive
rounds. Pools say where they stand.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import FetchError
from backtest.fetch.adapters import selector, word
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify_facts import check_facts
from backtest.lake import Lake
from backtest.model import PoolChange
from backtest.pools.uniswap_v3 import PoolState

ANSWERS = "raw/chainlink/AnswerUpdated"
_WORDS = 1 << 256
"""Negative numbers are told modulo this."""
_MOST_TICKS = 25
"""Ticks of one pool and block that are asked for."""
_MOST_ROUNDS = 1000
"""Missing rounds of one feed that are asked for; more are counted as unknown."""


@dataclass(frozen=True)
class Claim:
    """What the lake says a call returns at the end of a block; ``what`` names it in words. ``place``: which of the
    words returned.
    """

    what: str
    block: int
    address: str
    data: str
    value: int
    place: int = 0


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
    claims = list(_CLAIMS[config.protocol](lake, market, blocks, accounts, draw)) if config.protocol in _CLAIMS else []
    claims += _pools(lake, market, blocks, draw)
    answers = rpc.eth_calls([(claim.address, claim.data, claim.block) for claim in claims])
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


# -- Aave V3
# ---------------------------------------------------------------------------------------------------------------


def _aave_v3(lake: Lake, market: str, blocks: int, accounts: int, draw: random.Random) -> Iterator[Claim]:
    """Scaled totals of aTokens and variable debt tokens (``IScaledBalanceToken.scaledTotalSupply``); of accounts the
    bitmap (``IPool.getUserConfiguration``: bit 2i borrowing, 2i + 1 used as collateral, of the reserve with id i) and
    the e-mode.
    """
    pool = lake.market_config(market).contracts["pool"]
    changes = lake.read(
        "canonical/position_events", market, columns=["block_number", "account_id", "asset_id", "side", "delta"]
    )
    changes = changes.set_column(3, "side", changes.column("side").cast(pa.string()))
    settings = lake.read(
        "canonical/setting_events", market, columns=["block_number", "account_id", "setting", "asset_id", "value"]
    )
    params = lake.read("canonical/params", market, columns=["block_number", "name", "asset_id", "value"])
    listings = params.filter(pc.equal(params["name"].cast(pa.string()), "reserve_id")).to_pylist()
    since = {row["asset_id"]: row["block_number"] for row in listings}  # of the tokens that ``assets`` names: the last
    known = lake.read("canonical/accounts", market, columns=["account_id", "account"])
    names = dict(zip(known["account_id"].to_pylist(), known["account"].to_pylist(), strict=True))
    chosen = sorted(draw.sample(sorted(names), min(accounts, len(names))))
    own_changes = changes.filter(pc.is_in(changes["account_id"], pa.array(chosen, pa.int32()))).to_pylist()
    own_settings = settings.filter(pc.is_in(settings["account_id"], pa.array(chosen, pa.int32()))).to_pylist()
    assets = lake.read("canonical/assets", market).to_pylist()
    for block in _spread(changes["block_number"], blocks):
        for asset, side, total in _totals(changes, block):
            row = next(a for a in assets if a["asset_id"] == asset)
            token = row["collateral_token"] if side == "collateral" else row["debt_token"]
            if token is not None and block >= since[asset]:
                yield Claim(
                    f"scaled {side} total of {row['symbol']} ({token})",
                    block,
                    token,
                    selector("scaledTotalSupply()"),
                    total,
                )
        reserve_ids = {row["asset_id"]: int(row["value"]) for row in listings if row["block_number"] <= block}
        bitmaps, emodes = _flags(own_changes, own_settings, reserve_ids, block)
        for account in chosen:
            argument = names[account][2:].rjust(64, "0")
            for what, function, values in (
                ("user configuration", "getUserConfiguration", bitmaps),
                ("e-mode", "getUserEMode", emodes),
            ):
                yield Claim(
                    f"{what} of {names[account]}",
                    block,
                    pool,
                    selector(f"{function}(address)") + argument,
                    values.get(account, 0),
                )


def _totals(changes: pa.Table, block: int) -> Iterable[tuple[int, str, int]]:
    until = changes.filter(pc.less_equal(changes["block_number"], block))
    sums = until.group_by(["asset_id", "side"]).aggregate([("delta", "sum")])
    return [(row["asset_id"], row["side"], int(row["delta_sum"])) for row in sums.to_pylist()]


def _flags(
    changes: Sequence[Mapping[str, int | str]],
    settings: Sequence[Mapping[str, int | str]],
    reserve_ids: Mapping[int, int],
    block: int,
) -> tuple[dict[int, int], dict[int, int]]:
    """(bitmap by account, e-mode by account) at the end of a block."""
    debts: dict[tuple[int, int], int] = defaultdict(int)
    for row in changes:
        if row["side"] == "debt" and int(row["block_number"]) <= block:
            debts[int(row["account_id"]), int(row["asset_id"])] += int(row["delta"])
    stable: dict[tuple[int, int], int] = {}
    flags: dict[tuple[int, int], int] = {}
    emodes: dict[int, int] = {}
    for row in settings:
        if int(row["block_number"]) > block:
            continue
        account, value = int(row["account_id"]), int(row["value"])
        if row["setting"] == "emode":
            emodes[account] = value
        elif row["setting"] == "collateral_enabled":
            flags[account, int(row["asset_id"])] = value
        elif row["setting"] == "stable_principal":
            stable[account, int(row["asset_id"])] = value
    bitmaps: dict[int, int] = defaultdict(int)
    for (account, asset), debt in [*debts.items(), *stable.items()]:
        bitmaps[account] |= (debt > 0) << 2 * reserve_ids[asset]
    for (account, asset), enabled in flags.items():
        bitmaps[account] |= bool(enabled) << 2 * reserve_ids[asset] + 1
    return bitmaps, emodes


_CLAIMS = {"aave-v3": _aave_v3}


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
    yield Claim(f"price of pool {address}", block, address, selector("slot0()"), state.sqrt_price)
    yield Claim(f"tick of pool {address}", block, address, selector("slot0()"), state.tick % _WORDS, 1)
    yield Claim(f"active liquidity of pool {address}", block, address, selector("liquidity()"), state.liquidity)
    for tick in draw.sample(state.ticks, min(_MOST_TICKS, len(state.ticks))):
        data = selector("ticks(int24)") + f"{tick % _WORDS:064x}"
        yield Claim(f"gross liquidity of tick {tick} of pool {address}", block, address, data, state.gross[tick])
        yield Claim(
            f"net liquidity of tick {tick} of pool {address}", block, address, data, state.net[tick] % _WORDS, 1
        )


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
