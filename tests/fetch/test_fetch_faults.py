"""Whatever a provider does to the fetcher, the lake ends equal to one fetched without faults, or the fetch ends with a
named error.
"""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backtest.errors import FetchError, LakeError
from backtest.fetch import logs as logs_module
from backtest.lake import Lake
from tests.support import faults as f
from tests.support.fetching import calls_of, run
from tests.support.synthetic import FACTORY, Chain, ChainNode, made_up_chain
from tests.support.zygote import ROOT, ZYGOTE

pytestmark = pytest.mark.slow  # together they take what a quick run has no time for


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
    "alchemy": f.range_limit(10, -32600,
    "Under the Free tier plan, you can make eth_getLogs requests with up to a {most} block range. Based on "
                             "your parameters, this block range should work: [{first}, {fits}].", 400),
    "infura": f.result_limit(40, -32005, "query returned more than {most} results"),
    "infura range": f.range_limit(50, -32602, "range 600 exceeds limit of {most}"),
    "quicknode": f.range_limit(100, -32614, "eth_getLogs is limited to a {most} range", 413),
    "ankr": f.range_limit(64, -32600, "block range is too wide"),
    "drpc": f.range_limit(30, 35, "ranges over {most} blocks are not supported on freetier"),
    "reth": f.range_limit(77, -32602, "query exceeds max results 20000, retry with the range {first10}-{fits10}"),
    "erigon": f.result_limit(30, -32000, "query returned more than {most} results"),
    "geth": f.range_limit(5, -32000, "exceed maximum block range: {most}"),
    "nethermind": f.result_limit(25, -32005, "Too many logs requested. Max logs per response is {most}."),
    "cloudflare": f.range_limit(80, -32047,
    "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: {most}"),
    "chainstack": f.range_limit(100, -32005, "Block range limit exceeded. See more details in the documentation"),
    "blockpi": f.range_limit(24, -32602, "eth_getLogs is limited to {most} block range"),
    "413": f.range_limit(90, 0, "", 413),
    "unknown limit": f.range_limit(70, -32005, "limit exceeded"),
    "addresses": f.address_limit(1),
    "batches": f.batch_limit(3),
}  # fmt: skip


@pytest.mark.slow
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
    [f.too_many_requests, f.rate_in_body, f.server_error, f.truncated, f.cut_off, f.dropped, f.stalled(1.0)],
    ids=lambda fault: fault.__qualname__,
)
def test_passing_troubles(node: ChainNode, lake: Lake, good: str, fault: f.Fault) -> None:
    plan = f.Plan(sometimes=[fault], chance=0.4, most=8 if "stalled" in fault.__qualname__ else 40)
    with f.FaultProxy(node.url, plan) as proxy:
        summary = run(
            lake, proxy.url, headers="all", timeout=0.5 if "stalled" in fault.__qualname__ else 5.0, attempts=12
        )
    assert plan.dealt["sometimes"] > 0
    assert summary.requests.retries + summary.requests.refused > 0
    assert lake.digest("made-up") == good


def test_a_plan_with_few_requests_at_once_is_kept_to(node: ChainNode, lake: Lake, good: str) -> None:
    """Sixteen workers where two may ask: they slow down together instead of giving up one by one."""
    busy = f.InFlight(2, 0.005)
    with f.FaultProxy(
        node.url, f.Plan(always=[f.range_limit(15, -32000, "eth_getLogs is limited to a {most} range"), busy])
    ) as proxy:
        run(lake, proxy.url, headers="all", workers=16)
    assert busy.refused > 0
    assert lake.digest("made-up") == good


def test_doubled_and_shuffled_logs_are_counted_and_dropped(node: ChainNode, lake: Lake, good: str) -> None:
    with f.FaultProxy(node.url, f.Plan(always=[f.doubled])) as proxy:
        summary = run(lake, proxy.url, headers="all")
    assert summary.doubled > 0
    assert lake.digest("made-up") == good


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "omissions"), [(f.omitted, "always"), (f.omitted_ends, "auto")], ids=["scattered", "ends"]
)
def test_omitted_logs_are_found(node: ChainNode, lake: Lake, good: str, fault: f.Fault, omissions: str) -> None:
    """Blocks all of whose logs are left out among them: with every header read, each block has a witness."""
    plan = f.Plan(always=[f.range_limit(40, -32000, "block range is too wide")], sometimes=[fault], chance=0.6, most=15)
    with f.FaultProxy(node.url, plan) as proxy:
        summary = run(lake, proxy.url, headers="all", omissions=omissions)
    assert summary.incomplete > 0
    assert lake.digest("made-up") == good


def test_a_round_number_of_logs_is_not_believed(lake: Lake, tmp_path: Path) -> None:
    """Some providers cut replies off at a thousand logs without a word."""
    busy = made_up_chain(height=120, per_block=30.0, seed=2)
    with ChainNode(busy, calls_of(busy)) as node:
        calm = Lake(tmp_path / "calm", create=True)
        run(calm, node.url)
        with f.FaultProxy(node.url, f.Plan(always=[f.logs_fault(lambda logs, draw: logs[:1000])])) as proxy:
            summary = run(lake, proxy.url, omissions="never")
    assert summary.rows["raw/vaults/Deposit"] > 1500
    assert lake.digest("made-up") == calm.digest("made-up")


def test_all_troubles_at_once(node: ChainNode, lake: Lake, good: str) -> None:
    troubles = [f.too_many_requests, f.server_error, f.truncated, f.cut_off, f.dropped, f.doubled, f.shuffled]
    plan = f.Plan(
        always=[f.range_limit(60, -32005, "query returned more than 10000 results")],
        sometimes=troubles,
        chance=0.3,
        most=150,
        seed=3,
    )
    with f.FaultProxy(node.url, plan) as proxy:
        run(lake, proxy.url, headers="all", attempts=14)
    assert lake.digest("made-up") == good


# -- interruptions
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again(node: ChainNode, tmp_path: Path, good: str) -> None:
    """kill -9, fifteen times at random moments; then once to the end."""
    draw = random.Random(11)
    path = tmp_path / "lake"
    killed = 0
    with subprocess.Popen(
        [sys.executable, "-c", ZYGOTE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as zygote:
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        for attempt in range(16):
            zygote.stdin.write(f"{node.url} {path}\n")
            zygote.stdin.flush()
            child = int(zygote.stdout.readline())
            if attempt < 15:
                time.sleep(draw.uniform(0.0, 0.6 if attempt % 3 == 2 else 0.1))
                os.kill(child, signal.SIGKILL)
            zygote.stdin.write("wait\n")
            zygote.stdin.flush()
            killed += os.WIFSIGNALED(int(zygote.stdout.readline()))
        zygote.stdin.close()
    assert killed >= 5
    lake = Lake(path)
    assert lake.digest("made-up") == good
    named = {file.path for file in lake.files(None)}
    assert {str(found) for found in (path / "data").rglob("*.parquet")} >= named


@pytest.mark.parametrize("writes", [0, 2, 7, 12])
def test_disk_full_and_run_again(
    node: ChainNode, lake: Lake, good: str, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_module, "COMMIT_ROWS", 50)
    done = 0
    real = os.fsync

    def full(handle: int) -> None:
        nonlocal done
        done += stat.S_ISREG(os.fstat(handle).st_mode)
        if done > writes:
            raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as disk:
        disk.setattr("backtest.lake.storage.os.fsync", full)
        with pytest.raises(LakeError, match="No space left on device"):
            run(lake, node.url, headers="all")
    lake = Lake(lake.path)
    run(lake, node.url, headers="all")
    assert lake.digest("made-up") == good


def test_an_error_in_the_middle_keeps_what_was_ready(
    node: ChainNode, lake: Lake, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_module, "COMMIT_ROWS", 50)
    plan = f.Plan(always=[f.range_limit(20, -32000, "block range is too wide")])
    with f.FaultProxy(node.url, plan) as proxy:

        def dies(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
            late = proxy.requests > 60 and b"fromBlock" in body
            return f.error_reply(body, -32000, "unauthorized: key expired") if late else None

        plan.always = [dies, *plan.always]
        with pytest.raises(FetchError, match="key expired"):
            run(lake, proxy.url, headers="all", workers=2)
    covered = [stretch for source in lake.sources("made-up") for stretch in lake.covered("made-up", source)]
    assert covered
    run(lake, node.url, headers="all")
    assert lake.digest("made-up") == good


# -- reorganisations
# -------------------------------------------------------------------------------------------------------


def forked(chain: Chain, block: int) -> Chain:
    """Another branch from ``block`` on, with other logs there."""
    other = made_up_chain(height=chain.height, per_block=2.5, seed=99)
    kept = {number: own for number, own in chain.logs.items() if number < block}
    born = {log.topics[1] for own in kept.values() for log in own if log.address == FACTORY}
    assert born
    later = {
        number: [log for log in own if log.address != FACTORY] for number, own in other.logs.items() if number >= block
    }
    return Chain(chain.height, kept | {number: own for number, own in later.items() if own}, salt="b", fork_block=block)


def test_a_reorganisation_above_the_final_block_changes_nothing(chain: Chain, tmp_path: Path) -> None:
    branch = forked(chain, 560)
    with ChainNode(chain, calls_of(chain)) as node:
        calm, lake = Lake(tmp_path / "calm", create=True), Lake(tmp_path / "lake", create=True)
        run(calm, node.url, finality=50)

        def flip(body: bytes, forward: f.Forward, draw: random.Random) -> None:
            node.chain = branch if draw.random() < 0.5 else chain

        with f.FaultProxy(
            node.url, f.Plan(always=[flip, f.range_limit(30, -32000, "block range is too wide")])
        ) as proxy:
            run(lake, proxy.url, finality=50)
    assert lake.digest("made-up") == calm.digest("made-up")


def test_a_reorganisation_below_what_is_stored_ends_the_fetch(chain: Chain, lake: Lake) -> None:
    with ChainNode(chain, calls_of(chain)) as node:
        run(lake, node.url, to_block=300)
        digest = lake.digest("made-up")
        node.chain = forked(chain, 250)
        with pytest.raises(FetchError, match=r"block 300 has hash 0x.*reorganised.*new lake"):
            run(lake, node.url)
        assert lake.digest("made-up") == digest
        node.chain = chain
        run(lake, node.url)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [60, 100_000])
def test_a_reorganisation_during_the_fetch_mixes_no_branches(
    chain: Chain, lake: Lake, tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not stored yet is asked for again; where something of the old branch is, the first commit after the
    change notices.
    """
    monkeypatch.setattr(logs_module, "COMMIT_ROWS", rows)
    branch = forked(chain, 100)
    with ChainNode(branch, calls_of(chain)) as node:
        calm = Lake(tmp_path / "calm", create=True)
        run(calm, node.url, headers="all")
        node.chain = chain
        switched: list[bool] = []

        def switch(body: bytes, forward: f.Forward, draw: random.Random) -> None:
            """In the middle of the second round, of the vaults; where nothing may be stored by then, in the first."""
            request = json.loads(body)
            if isinstance(request, dict) and request["method"] == "eth_getLogs" and not switched:
                question = request["params"][0]
                if question.get("fromBlock") == hex(300) and (len(question["address"]) > 1 or rows > 60):
                    switched.append(True)
                    node.chain = branch

        plan = f.Plan(always=[switch, f.range_limit(15, -32000, "eth_getLogs is limited to a {most} range")])
        with f.FaultProxy(node.url, plan) as proxy:
            if rows == 60:
                with pytest.raises(FetchError, match="reorganised"):
                    run(lake, proxy.url, headers="all", workers=2)
                stored = lake.read("raw/chain/Header", "made-up").to_pylist()
                assert all("0x" + row["block_hash"].hex() == chain.hashes[row["block_number"]] for row in stored)
            else:
                run(lake, proxy.url, headers="all", workers=2)
                assert lake.digest("made-up") == calm.digest("made-up")
    assert switched == [True]


def test_a_node_behind_a_load_balancer_lags_for_a_while(node: ChainNode, lake: Lake, good: str) -> None:
    """Logs of an abandoned branch and missing blocks come a few times; asked again, the node agrees with itself."""
    wrong = f.logs_fault(lambda logs, draw: [{**log, "blockHash": "0x" + "ab" * 32} for log in logs])

    def unknown(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        return f.error_reply(body, -32000, "header not found") if b"eth_getBlockByNumber" in body else None

    plan = f.Plan(
        always=[f.range_limit(50, -32000, "block range is too wide")],
        sometimes=[f.once(wrong), f.once(unknown)],
        chance=0.5,
        seed=5,
    )
    with f.FaultProxy(node.url, plan) as proxy:
        run(lake, proxy.url, headers="all", workers=2)
    assert plan.dealt["sometimes"] > 0
    assert lake.digest("made-up") == good
