"""Phases of Chainlink feed proxies: which aggregator a proxy read, from which block on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backtest.errors import FetchError
from backtest.fetch.adapters import address, answers, calls_at, lacks_state, raw_address, selector, word
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


def phases_of(context: FetchContext, proxies: Mapping[str, int]) -> tuple[list[Phase], bool]:
    """(the phases in force within the range, whether the node has old state), by ``phaseId`` and ``phaseAggregators``;
    switch blocks by bisection of old state. ``proxies``: each with the first block at whose end something in use reads
    it (-1: before the chain).

    The proxies emit no event for a switch (chainlink ``evm-contracts/src/v0.6/AggregatorProxy.sol`` ``setAggregator``),
    and the next aggregator answers before it is put in force, so no log tells. A proxy has a phase from its constructor
    on, so one that is in use and answers no phase is a node's that has no old state, whether it says so or not. Without
    old state phases are not exact.
    """
    start, end = context.from_block, context.to_block
    if not proxies:
        return [], True
    asked = [(proxy, selector("phaseId()"), end) for proxy in proxies]
    last = [word(data) or 0 for data in answers(context.rpc, asked)]
    try:
        before = calls_at(context.rpc, [(proxy, selector("phaseId()"), start - 1) for proxy in proxies])
        in_use = calls_at(context.rpc, [(proxy, selector("phaseId()"), block) for proxy, block in proxies.items()])
        first = [word(data) or 0 for data in before]
        archive = all(word(data) for data, block in zip(in_use, proxies.values(), strict=True) if block >= 0)
    except FetchError as error:
        if not lacks_state(error):
            raise
        archive = False
    if not archive:
        first = [1] * len(last)
    known = dict(zip(proxies, zip(first, last, strict=True), strict=True))
    return _phases(context, known, archive), archive


def phases_without_state(context: FetchContext, proxies: Sequence[str]) -> list[Phase]:
    """All phases that the proxies ever had; see ``estimated``."""
    asked = [(proxy, selector("phaseId()"), context.to_block) for proxy in proxies]
    last = [word(data) or 0 for data in answers(context.rpc, asked)]
    return _phases(context, {proxy: (1, high) for proxy, high in zip(proxies, last, strict=True)}, False)


def _phases(context: FetchContext, known: Mapping[str, tuple[int, int]], archive: bool) -> list[Phase]:
    """``known``: proxy to its phases at the ends of the block before the range and of the range."""
    start, end = context.from_block, context.to_block
    wanted = [(proxy, phase) for proxy, (low, high) in known.items() for phase in range(max(low, 1), high + 1)]
    switch = dict.fromkeys(wanted, start)
    if archive:
        searches = {key: (start - 1, end) for key in wanted if key[1] > known[key[0]][0]}
        while searches:
            asked = [(key, (low + high) // 2) for key, (low, high) in searches.items() if high - low > 1]
            told = answers(context.rpc, [(key[0], selector("phaseId()"), middle) for key, middle in asked])
            for (key, middle), data in zip(asked, told, strict=True):
                low, high = searches[key]
                searches[key] = (low, middle) if (word(data) or 0) >= key[1] else (middle, high)
            for key in [key for key, (low, high) in searches.items() if high - low <= 1]:
                switch[key] = searches.pop(key)[1]
        _check_switches(context, {key: block for key, block in switch.items() if key[1] > known[key[0]][0]})
    else:
        context.progress.note(
            "the node has no old state: when feed proxies changed their aggregator is estimated, and such prices are"
            " not exact"
        )
    calls = [(proxy, f"{selector('phaseAggregators(uint16)')}{phase:064x}", end) for proxy, phase in wanted]
    aggregators = [address(data) for data in answers(context.rpc, calls)]
    for (proxy, phase), aggregator in zip(wanted, aggregators, strict=True):
        if aggregator is None:
            context.progress.note(f"feed proxy {proxy} names no aggregator of its phase {phase}: no answers of it")
    return [
        Phase(proxy, phase, aggregator, switch[proxy, phase], archive or known[proxy][1] == 1)
        for (proxy, phase), aggregator in zip(wanted, aggregators, strict=True)
        if aggregator
    ]


def _check_switches(context: FetchContext, switch: Mapping[tuple[str, int], int]) -> None:
    """Ask again on both sides of every switch that was found.

    Raises:
        FetchError: the proxy's phase is not now what it was said to be.
    """
    asked = [(proxy, phase, at, at - back) for (proxy, phase), at in switch.items() for back in (0, 1) if at >= back]
    told = answers(context.rpc, [(proxy, selector("phaseId()"), block) for proxy, _, _, block in asked])
    for (proxy, phase, at, block), data in zip(asked, told, strict=True):
        if ((word(data) or 0) >= phase) != (block == at):
            raise FetchError(
                f"{context.rpc.name} said that feed proxy {proxy} has its phase {phase} from block {at} on, and when"
                f" asked again of block {block} otherwise",
                "use another node: what this one says of calls cannot be relied on",
            )


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
