"""Whatever a provider does to the fetcher, the lake ends equal to one fetched without faults, or the fetch ends with a named error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backtest.lake import Lake
from tests import faults as f
from tests.synthetic import Chain, ChainNode, made_up_chain
from tests.test_fetch_logs import calls_of, run

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def chain() -> Chain:
    return made_up_chain(height=600, per_block=2.5, seed=7)


@pytest.fixture(scope="module")
def node(chain: Chain) -> Iterator[ChainNode]:
    with ChainNode(chain, calls_of(chain)) as node:
        yield node


@pytest.fixture(scope="module")
def good(node: ChainNode, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the lake fetched without faults."""
    lake = Lake(tmp_path_factory.mktemp("good"), create=True)
    run(lake, node.url, headers="all")
    return lake.digest("made-up")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


DIALECTS = {
    "alchemy": f.range_limit(10, -32600, "Under the Free tier plan, you can make eth_getLogs requests with up to a {most} block range. Based on "
                             "your parameters, this block range should work: [{first}, {fits}].", 400),
    "infura": f.result_limit(40, -32005, "query returned more than {most} results"),
    "infura range": f.range_limit(50, -32602, "range 600 exceeds limit of {most}"),
    "quicknode": f.range_limit(100, -32614, "eth_getLogs is limited to a {most} range", 413),
    "ankr": f.range_limit(64, -32600, "block range is too wide"),
    "drpc": f.range_limit(30, 35, "ranges over {most} blocks are not supported on freetier"),
    "reth": f.range_limit(77, -32602, "query exceeds max results 20000, retry with the range {first10}-{fits10}"),
    "erigon": f.result_limit(30, -32000, "query returned more than {most} results"),
    "geth": f.range_limit(1, -32000, "exceed maximum block range: {most}"),
    "nethermind": f.result_limit(25, -32005, "Too many logs requested. Max logs per response is {most}."),
    "cloudflare": f.range_limit(80, -32047, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: {most}"),
    "chainstack": f.range_limit(100, -32005, "Block range limit exceeded. See more details in the documentation"),
    "blockpi": f.range_limit(24, -32602, "eth_getLogs is limited to {most} block range"),
    "413": f.range_limit(90, 0, "", 413),
    "unknown limit": f.range_limit(70, -32005, "limit exceeded"),
    "addresses": f.address_limit(1),
    "batches": f.batch_limit(3),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_limits_of_providers(node: ChainNode, lake: Lake, good: str, name: str) -> None:
    plan = f.Plan(always=[DIALECTS[name]])
    with f.FaultProxy(node.url, plan) as proxy:
        summary = run(lake, proxy.url, headers="all")
    assert plan.dealt.total() > 0
    assert summary.requests.refused > 0
    assert lake.digest("made-up") == good


@pytest.mark.parametrize(
    "fault",
    [f.too_many_requests, f.rate_in_body, f.server_error, f.truncated, f.cut_off, f.dropped, f.stalled(0.4)],
    ids=lambda fault: fault.__qualname__,
)
def test_passing_troubles(node: ChainNode, lake: Lake, good: str, fault: f.Fault) -> None:
    plan = f.Plan(sometimes=[fault], chance=0.4, most=40)
    with f.FaultProxy(node.url, plan) as proxy:
        summary = run(lake, proxy.url, headers="all", timeout=0.2 if "stalled" in fault.__qualname__ else 5.0, attempts=12)
    assert plan.dealt["sometimes"] > 0
    assert summary.requests.retries + summary.requests.refused > 0
    assert lake.digest("made-up") == good


def test_doubled_and_shuffled_logs_are_counted_and_dropped(node: ChainNode, lake: Lake, good: str) -> None:
    with f.FaultProxy(node.url, f.Plan(always=[f.doubled])) as proxy:
        summary = run(lake, proxy.url, headers="all")
    assert summary.doubled > 0
    assert lake.digest("made-up") == good


@pytest.mark.parametrize("fault", [f.omitted, f.omitted_tail], ids=["scattered", "tail"])
def test_omitted_logs_are_found_by_the_blooms(node: ChainNode, lake: Lake, good: str, fault: f.Fault) -> None:
    """Blocks all of whose logs are left out among them: with every header read, each block has a witness."""
    plan = f.Plan(always=[f.range_limit(40, -32000, "block range is too wide")], sometimes=[fault], chance=0.6, most=25)
    with f.FaultProxy(node.url, plan) as proxy:
        summary = run(lake, proxy.url, headers="all")
    assert summary.incomplete > 0
    assert lake.digest("made-up") == good


def test_all_troubles_at_once(node: ChainNode, lake: Lake, good: str) -> None:
    troubles = [f.too_many_requests, f.server_error, f.truncated, f.cut_off, f.dropped, f.doubled, f.shuffled]
    plan = f.Plan(always=[f.range_limit(60, -32005, "query returned more than 10000 results")], sometimes=troubles, chance=0.3, most=150, seed=3)
    with f.FaultProxy(node.url, plan) as proxy:
        run(lake, proxy.url, headers="all", attempts=14)
    assert lake.digest("made-up") == good
