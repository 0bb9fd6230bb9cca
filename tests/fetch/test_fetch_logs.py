"""Fetching from a made-up chain: what arrives is what was logged, in any number of runs; every wrong reply is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backtest.errors import FetchError
from backtest.fetch.decode import topic0
from backtest.lake import Lake
from backtest.model import EventSpec
from tests.support.fetching import calls_of, run
from tests.support.synthetic import Chain, ChainNode, Vaults, made_up_chain, market, word

OTHER_OF_VAULT = EventSpec("Later", "Later(uint256 x)", "vault")


@pytest.fixture(scope="module")
def chain() -> Chain:
    return made_up_chain()


@pytest.fixture
def node(chain: Chain) -> Iterator[ChainNode]:
    with ChainNode(chain, calls_of(chain)) as node:
        yield node


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def test_everything_that_was_logged_arrives(chain: Chain, node: ChainNode, lake: Lake) -> None:
    summary = run(lake, node.url)
    born: set[str] = set()
    expected: dict[str, int] = {}
    odd = 0
    for block in range(chain.height + 1):
        for log in chain.logs.get(block, ()):
            if log.address == market().contracts["factory"]:
                expected["Created"] = expected.get("Created", 0) + 1
                born.add("0x" + log.topics[1][-40:])
            elif log.address in born:
                if word(1 << 200) in log.data and len(log.data) == 192:
                    odd += 1
                    continue
                name = next(s.name for s in Vaults.events if log.topics[0] == topic0(s))
                expected[name] = expected.get(name, 0) + 1
    assert {name: lake.read(f"raw/vaults/{name}", "made-up").num_rows for name in expected} == expected
    assert lake.read("raw/vaults/Quarantine", "made-up").num_rows == odd == summary.quarantined > 0
    with_logs = {
        row
        for name in [*expected, "Quarantine"]
        for row in lake.read(f"raw/vaults/{name}", "made-up")["block_number"].to_pylist()
    }
    headers = lake.read("raw/chain/Header", "made-up").to_pylist()
    assert [row["block_number"] for row in headers] == sorted(with_logs | {0, chain.height})
    assert all(
        row["block_hash"].hex() == chain.hashes[row["block_number"]][2:]
        and row["timestamp"] == 1_600_000_000 + 12 * row["block_number"]
        for row in headers
    )
    tokens = {row["symbol"]: row["decimals"] for row in lake.read("raw/chain/Token", "made-up").to_pylist()}
    assert tokens == {"OLD0": 18, "TOK1": 17, "OLD2": 16}
    assert sorted(lake.read("raw/chain/Revision", "made-up")["revision"].to_pylist()) == [1, 2, 3]


def test_a_second_run_asks_for_no_logs_and_changes_nothing(node: ChainNode, lake: Lake) -> None:
    run(lake, node.url)
    digest = lake.digest("made-up")
    node.seen.clear()
    summary = run(lake, node.url)
    assert "eth_getLogs" not in node.seen
    assert summary.rows == {}
    assert lake.digest("made-up") == digest


def test_progress_ends_where_it_said(node: ChainNode, lake: Lake) -> None:
    class Seen:
        def __init__(self) -> None:
            self.stages: list[list[object]] = []
            self.logs = 0

        def begin(self, what: str, total: int) -> None:
            self.stages.append([what, total, 0])

        def advance(self, units: int, logs: int = 0) -> None:
            self.stages[-1][2] += units  # type: ignore[operator]
            self.logs += logs

        def note(self, text: str) -> None:
            pass

    seen = Seen()
    summary = run(lake, node.url, progress=seen)
    assert [stage[0] for stage in seen.stages] == ["vaults logs", "vaults logs"]
    assert all(total == done == 401 for _, total, done in seen.stages)
    assert seen.logs == sum(summary.rows.values())


def test_a_set_of_events_that_grew_is_not_taken_for_covered(node: ChainNode, lake: Lake) -> None:
    run(lake, node.url)
    grown = Vaults()
    grown.events = (*Vaults.events, OTHER_OF_VAULT)
    with pytest.raises(
        FetchError,
        match=(
            r"logs of vault 0x\w{40} as an older version of backtest defined its events; fetch the market into a new"
            r" lake"
        ),
    ):
        run(lake, node.url, protocol=grown)


@pytest.mark.parametrize(
    "cuts",
    [
        [(0, 150), (0, 400)],
        [(200, 300), (0, 400)],
        [(300, 400), (0, 100), (50, 400)],
        [(200, 400), (0, 199)],
        [(300, 400), (0, 100), (101, 299)],
        [(101, 299), (300, 400), (0, 100)],
    ],
)
def test_gaps_fill_in_any_order(node: ChainNode, lake: Lake, tmp_path: Path, cuts: list[tuple[int, int]]) -> None:
    whole = Lake(tmp_path / "whole", create=True)
    run(whole, node.url, headers="all")
    for first, last in cuts:
        run(lake, node.url, from_block=first, to_block=last, headers="all")
    for dataset in ("Created", "Deposit", "Label", "Word", "Quarantine"):
        assert lake.read(f"raw/vaults/{dataset}", "made-up").equals(whole.read(f"raw/vaults/{dataset}", "made-up"))
    assert lake.digest("made-up") == whole.digest("made-up")
