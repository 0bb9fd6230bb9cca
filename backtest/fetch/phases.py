"""Phases of Chainlink feed proxies: which aggregator a proxy read, from which block on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backtest.errors import FetchError
from backtest.fetch.adapters import address, calls_at, lacks_state, raw_address, selector, word
from backtest.fetch.context import FetchContext


@dataclass(frozen=True, slots=True)
class Phase:
    proxy: str
    phase: int
    aggregator: str
    from_block: int
    exact: bool

    @property
    def row(self) -> tuple[object, ...]:
        return raw_address(self.proxy), self.phase, raw_address(self.aggregator), self.from_block, self.exact


def phases_of(context: FetchContext, proxies: Sequence[str]) -> list[Phase]:
    """The phases in force within the range, by ``phaseId`` and ``phaseAggregators``; switch blocks by bisection of old
    state.

    The proxies emit no event for a switch (chainlink ``evm-contracts/src/v0.6/AggregatorProxy.sol`` ``setAggregator``),
    and the next aggregator answers before it is put in force, so no log tells. A node without old state gives phases
    that are not exact.
    """
    start, end = context.from_block, context.to_block
    if not proxies:
        return []
    last = [
        word(data) or 0 for data in context.rpc.eth_calls([(proxy, selector("phaseId()"), end) for proxy in proxies])
    ]
    try:
        first = [
            word(data) or 0
            for data in calls_at(context.rpc, [(proxy, selector("phaseId()"), start - 1) for proxy in proxies])
        ]
        archive = True
    except FetchError as error:
        if not lacks_state(error):
            raise
        first, archive = [1] * len(proxies), False
    wanted = [
        (proxy, phase)
        for proxy, low, high in zip(proxies, first, last, strict=True)
        for phase in range(max(low, 1), high + 1)
    ]
    in_force = dict(zip(proxies, first, strict=True))
    switch = dict.fromkeys(wanted, start)
    if archive:
        searches = {key: (start - 1, end) for key in wanted if key[1] > in_force[key[0]]}
        while searches:
            asked = [(key, (low + high) // 2) for key, (low, high) in searches.items() if high - low > 1]
            answers = context.rpc.eth_calls([(key[0], selector("phaseId()"), middle) for key, middle in asked])
            for (key, middle), data in zip(asked, answers, strict=True):
                low, high = searches[key]
                searches[key] = (low, middle) if (word(data) or 0) >= key[1] else (middle, high)
            for key in [key for key, (low, high) in searches.items() if high - low <= 1]:
                switch[key] = searches.pop(key)[1]
    else:
        context.progress.note(
            "the node has no old state: when feed proxies changed their aggregator is estimated, and such prices are"
            " not exact"
        )
    calls = [(proxy, f"{selector('phaseAggregators(uint16)')}{phase:064x}", end) for proxy, phase in wanted]
    aggregators = [address(data) for data in context.rpc.eth_calls(calls)]
    return [
        Phase(proxy, phase, aggregator, switch[proxy, phase], archive or last[proxies.index(proxy)] == 1)
        for (proxy, phase), aggregator in zip(wanted, aggregators, strict=True)
        if aggregator
    ]


def estimated(context: FetchContext, phases: list[Phase], logs: Mapping[str, Sequence[int]]) -> list[Phase]:
    """Without old state: a phase begins at the first answer that its aggregator gave in the range, which may be too
    early.
    """
    if all(phase.exact for phase in phases):
        return phases
    begun = [logs.get(phase.aggregator, [context.from_block])[0] for phase in phases]
    return [
        phase if phase.exact else Phase(phase.proxy, phase.phase, phase.aggregator, block, False)
        for phase, block in zip(phases, begun, strict=True)
    ]
