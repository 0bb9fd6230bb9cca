"""Parts of the price fetch that need no node: selectors, constant bytecode, sampling, and that every adapter event is
folded.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backtest.abi import event_schema
from backtest.fetch import feeds
from backtest.fetch.adapters import is_constant
from backtest.fetch.adapters import selector as ours
from backtest.fetch.sampling import refine
from backtest.prices import fold as module
from tests.chain.node import selector


def test_selectors_are_those_of_solidity() -> None:
    assert all(
        ours(name) == "0x" + selector(name).hex()
        for name in ("latestAnswer()", "getAssetsPrices(address[])", "phaseId()")
    )
    assert ours("phaseId()") == "0x58303b10"


def test_constant_code() -> None:
    assert is_constant(bytes.fromhex("6305f5e10060005260206000f3"))
    assert is_constant(bytes.fromhex("6154546000526020600000")), "0x54 as data of a push is no opcode"
    assert not is_constant(bytes.fromhex("60005460005260206000f3")), "reads storage"
    assert not is_constant(bytes.fromhex("4260005260206000f3")), "reads the time"
    assert not is_constant(b"")


@given(st.dictionaries(st.integers(1, 999), st.integers(0, 5), max_size=6), st.integers(1, 400))
def test_refine_finds_every_step_that_samples_show(steps: dict[int, int], gap: int) -> None:
    def value(block: int) -> int:
        return steps[max(at for at in steps if at <= block)] if any(at <= block for at in steps) else 9

    samples: dict[int, int | None] = dict.fromkeys(sorted({*range(0, 1000, gap), 999}))
    grid = sorted(samples)
    series = {"key": samples}
    restless = refine(series, lambda asked: [value(block) for _, block in asked])
    assert all(value(block) == found for block, found in series["key"].items())
    for low, high in pairwise(grid):
        changes = [block for block in range(low + 1, high + 1) if value(block) != value(block - 1)]
        if len(changes) == 1:
            assert {changes[0] - 1, changes[0]} <= set(series["key"])
    assert restless <= {"key"}


def test_every_adapter_event_has_a_place_in_the_fold() -> None:
    known = {
        f"raw/{namespace}/{spec.name}": event_schema(spec).names
        for namespace, specs in feeds.EVENTS.items()
        for spec in specs
    }
    used = {
        dataset: [argument for name, argument, _ in module._VALUES if name == dataset]
        for dataset, _, _ in module._VALUES
    }
    assert used.keys() == known.keys()
    assert all(set(arguments) <= set(known[dataset]) for dataset, arguments in used.items())
