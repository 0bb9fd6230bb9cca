"""A made-up chain with an oracle, and a node that answers calls from the state of the block that they name: feed
proxies with phases, their aggregators' logs, and, where asked for, an adapter with a cap. For tests of fetched prices.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backtest.fetch.adapters import selector
from backtest.fetch.decode import topic0
from backtest.fetch.feeds import FEED_EVENTS
from backtest.model import SourceChange
from backtest.protocols.interface import RawEvents
from tests.support.fetching import calls_of
from tests.support.synthetic import Chain, ChainNode, MadeLog, RpcFault, Vaults, made_up_chain, word

ORACLE = "0x" + "0c" * 20
CAP = 104_000_000
ANSWERED = FEED_EVENTS[0]
Call = Callable[[int, str], "str | None"]


class Priced(Vaults):
    """Each vault's asset is priced by a feed from the vault's creation on; labels count as liquidations."""

    liquidation_events: Sequence[str] = ("Label",)

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def price_sources(self, raw: RawEvents) -> Sequence[SourceChange]:
        return [
            SourceChange(row["block_number"], row["log_index"], asset, self._sources[asset], ORACLE)
            for row in raw.table("Created").to_pylist()
            if (asset := "0x" + row["asset"].hex()) in self._sources
        ]


@dataclass
class Aggregator:
    """Answers by block, ascending."""

    address: str
    blocks: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    def at(self, block: int) -> int | None:
        place = bisect_right(self.blocks, block)
        return self.values[place - 1] if place else None


class PricedNode(ChainNode):
    """``protocol`` is what a fetch from it takes. One feed in each asset; the first proxy changes its aggregator once.
    With ``capped`` the last asset is priced by an adapter over its feed.
    """

    def __init__(self, height: int, seed: int, capped: bool) -> None:
        chain = made_up_chain(height=height, per_block=2.0, seed=seed, odd=False)
        calls = calls_of(chain)
        draw = random.Random(seed)
        created = [log for block in sorted(chain.logs) for log in chain.logs[block] if len(log.topics) == 2]
        assets = list(dict.fromkeys("0x" + log.data[-40:] for log in created if log.address == "0x" + "fa" * 20))
        self._switch = height // 2
        self._views: dict[str, dict[str, Call]] = {}
        sources: dict[str, str] = {}
        logs = {block: list(own) for block, own in chain.logs.items()}
        for number, asset in enumerate(assets):
            phases = [Aggregator(f"0x{number:02x}{phase:02x}" + "a9" * 18) for phase in range(1 + (number == 0))]
            for one in phases:
                for block in sorted({1, *draw.sample(range(2, height + 1), height // 3)}):
                    self._answer(one, block, draw.randrange(90_000_000, 120_000_000), logs)
            proxy = f"0x{number:02x}" + "fe" * 19
            self._add_feed(proxy, phases)
            sources[asset] = proxy
            if capped and number == len(assets) - 1:
                sources[asset] = adapter = f"0x{number:02x}" + "ad" * 19
                feed = self._views[proxy][selector("latestAnswer()")]
                self._views[adapter] = {
                    selector("ASSET_TO_USD_AGGREGATOR()"): lambda block, data, proxy=proxy: word(proxy),
                    selector("getPriceCap()"): lambda block, data: word(CAP),
                    selector("decimals()"): lambda block, data: word(8),
                    selector("latestAnswer()"): lambda block, data, feed=feed: word(
                        min(CAP, int(feed(block, data) or "0", 16))
                    ),
                }
        self._views[ORACLE] = {
            selector("getAssetPrice(address)"): lambda block, data: self._price(sources["0x" + data[-40:]], block),
            selector("getAssetsPrices(address[])"): lambda block, data: self._prices(sources, block, data),
        }
        self.protocol = Priced(sources)
        super().__init__(Chain(height, logs), calls)

    def _answer(self, aggregator: Aggregator, block: int, value: int, logs: dict[int, list[MadeLog]]) -> None:
        aggregator.blocks.append(block)
        aggregator.values.append(value)
        topics = (topic0(ANSWERED), "0x" + word(value), "0x" + word(len(aggregator.blocks)))
        logs.setdefault(block, []).append(MadeLog(aggregator.address, topics, word(1_600_000_000 + 12 * block)))

    def _add_feed(self, proxy: str, phases: list[Aggregator]) -> None:
        def phase(block: int) -> int:
            return len(phases) if block >= self._switch else 1

        def answer(block: int, one: Aggregator) -> str | None:
            value = one.at(block)
            return None if value is None else word(value)

        for one in phases:
            self._views[one.address] = {
                selector("latestAnswer()"): lambda block, data, one=one: answer(block, one),
                selector("latestRound()"): lambda block, data, one=one: word(bisect_right(one.blocks, block)),
                selector("decimals()"): lambda block, data: word(8),
                selector("getRoundData(uint80)"): lambda block, data, one=one: _round(one, int(data[10:], 16)),
            }
        self._views[proxy] = {
            selector("latestAnswer()"): lambda block, data: answer(block, phases[phase(block) - 1]),
            selector("aggregator()"): lambda block, data: word(phases[phase(block) - 1].address),
            selector("phaseId()"): lambda block, data: word(phase(block)),
            selector("phaseAggregators(uint16)"): lambda block, data: word(phases[int(data[10:], 16) - 1].address),
            selector("decimals()"): lambda block, data: word(8),
        }

    def _price(self, source: str, block: int) -> str | None:
        return self._views[source][selector("latestAnswer()")](block, "")

    def _prices(self, sources: Mapping[str, str], block: int, data: str) -> str | None:
        body = data[10 + 128 :]
        told = [self._price(sources["0x" + body[at + 24 : at + 64]], block) for at in range(0, len(body), 64)]
        return None if None in told else word(32) + word(len(told)) + "".join(one or "" for one in told)

    def _result(self, method: str, params: list[Any]) -> bytes:
        if method != "eth_call" or params[0]["to"] not in self._views:
            return super()._result(method, params)
        data = params[0]["data"]
        view = self._views[params[0]["to"]].get(data[:10])
        block = self._block(params[1])
        found = view(block if block is not None else self.chain.height, data) if view else None
        if found is None:
            raise RpcFault(3, "execution reverted")
        return json.dumps("0x" + found).encode()


def _round(one: Aggregator, number: int) -> str | None:
    if not 1 <= number <= len(one.values):
        return None
    return word(number) + word(one.values[number - 1]) + word(0) * 2 + word(number)
