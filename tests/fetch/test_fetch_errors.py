"""What a node can do wrong, and what the user is told: one line with block or address and a remedy, never a key;
nothing half-written.
"""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backtest.cli import main
from backtest.errors import FetchError, UserError
from backtest.fetch.market_files import find_market
from backtest.fetch.provider import Provider, redact
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from tests.support import faults as f
from tests.support.fetching import calls_of, run
from tests.support.interrupts import LISTENS
from tests.support.synthetic import FACTORY, Chain, ChainNode, made_up_chain, market


@pytest.fixture(scope="module")
def chain() -> Chain:
    return made_up_chain(height=200, seed=5)


@pytest.fixture
def node(chain: Chain) -> Iterator[ChainNode]:
    with ChainNode(chain, calls_of(chain)) as node:
        yield node


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def changed(**fields: Any) -> f.Fault:
    """The second log of every reply with other fields."""
    return f.logs_fault(lambda logs, draw: [logs[0], *[{**log, **fields} for log in logs[1:2]], *logs[2:]])


WRONG_LOGS: dict[str, tuple[f.Fault, str]] = {
    "block before the range": (changed(blockNumber="0x1"),
    r"asked for logs of blocks 50 to 200, the node sent one of block 1"),
    "block after the range": (changed(blockNumber="0xfff"), r"block 4095"),
    "other address": (changed(address="0x" + "12" * 20), r"block \d+ that was not asked for: 0x1212"),
    "other topic": (changed(topics=["0x" + "34" * 32]), r"block \d+ that was not asked for: .*topic 0x3434"),
    "retracted": (changed(removed=True), r"retracted log of block \d+"),
    "short hash": (changed(transactionHash="0x12"),
    r"log of block \d+, of 0x\w{40}, .*transactionHash is not 32 bytes"),
    "odd number": (changed(logIndex="zz"), r"logIndex is not a hex number"),
    "odd address": (changed(address="0x" + "zz" * 20), r"address is not 20 bytes"),
    "odd data": (changed(data="0x123"), r"log of block \d+, of 0x\w{40}, breaks the RPC's format"),
    "no hex": (f.logs_fault(lambda logs, draw: [{**log, "data": log["data"][:-2] + "zz"} for log in logs]),
    r"of block \d+, of 0x\w{40}, breaks"),
    "five topics": (changed(topics=["0x" + "34" * 32] * 5), r"eth_getLogs.*cut short or not what was asked for"),
    "no block": (changed(blockNumber=None), r"eth_getLogs.*cut short or not what was asked for"),
    "contradiction": (
        f.logs_fault(lambda logs, draw: [*logs, {**logs[0], "data": "0x"}]),
        r"two different logs as log \d+ of block \d+"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_LOGS)
def test_a_reply_with_a_wrong_log(node: ChainNode, lake: Lake, name: str) -> None:
    fault, message = WRONG_LOGS[name]
    run(lake, node.url, to_block=49)
    before = lake.digest("made-up")
    with f.FaultProxy(node.url, f.Plan(always=[fault])) as proxy, pytest.raises(FetchError, match=message):
        run(lake, proxy.url, attempts=2)
    lake.refresh()
    assert "raw/vaults/Deposit" not in lake.datasets("made-up") or lake.digest("made-up") == before


def test_a_log_that_its_block_s_bloom_rules_out(lake: Lake) -> None:
    chain = made_up_chain(height=60, seed=5)
    block = max(chain.logs)
    chain.blooms[block] = "0x" + (1).to_bytes(256, "big").hex()
    with (
        ChainNode(chain, calls_of(chain)) as node,
        pytest.raises(FetchError, match=rf"log of block {block} that the block's own bloom rules out"),
    ):
        run(lake, node.url)


def test_a_chain_that_leaves_its_blooms_empty_is_no_contradiction(lake: Lake, chain: Chain) -> None:
    blank = Chain(chain.height, chain.logs)
    blank.__dict__["blooms"] = {}
    with ChainNode(blank, calls_of(blank)) as node:
        summary = run(lake, node.url)
    assert summary.rechecked <= 4  # the ends of two replies
    assert sum(summary.rows.values()) > 50


def test_saturated_blooms_are_skipped_and_counted(lake: Lake, chain: Chain) -> None:
    full = Chain(chain.height, chain.logs)
    full.__dict__["blooms"] = dict.fromkeys(chain.logs, "0x" + "ff" * 256)
    with ChainNode(full, calls_of(full)) as node:
        summary = run(lake, node.url)
        assert summary.saturated > 0
        assert summary.rechecked <= 4
        looked = run(Lake(lake.path.parent / "other", create=True), node.url, omissions="always")
    assert looked.rechecked > 50
    assert looked.incomplete == 0


def test_another_chain(node: ChainNode, lake: Lake) -> None:
    node.chain = Chain(10, chain_id=1)
    with pytest.raises(
        FetchError, match=r"is on chain 1, market 'made-up' is on chain 4242; give --rpc a node of that chain"
    ):
        run(lake, node.url)
    assert lake.markets() == []


def refusing(method: str, code: int, message: str) -> f.Fault:
    def fault(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        return f.error_reply(body, code, message) if f'"{method}"'.encode() in body else None

    return fault


NAMED: dict[str, tuple[f.Fault, str]] = {
    "archive": (
        refusing("eth_call", -32000, "missing trie node ab12 (path ) state is not available"),
        r"eth_call\(0x.*block 200.*archive node",
    ),
    "pruned state": (refusing("eth_call", 4444, "pruned history unavailable"), r"eth_call\(0x.*archive node"),
    "storage": (
        refusing("eth_getStorageAt", -32000, "required historical state unavailable (reexec=128)"),
        r"eth_getStorageAt\(0x.*archive node",
    ),
    "pruned": (
        refusing("eth_getLogs", 4444, "pruned history unavailable"),
        r"eth_getLogs of blocks 0 to 200, 0xfafa.*full history",
    ),
    "key": (
        refusing("eth_getLogs", -32000, "Unauthorized: you must authenticate your request with an API key"),
        r"check the key and the plan",
    ),
    "no logs at all": (
        refusing("eth_getLogs", -32601, "the method eth_getLogs does not exist/is not available"),
        r"use another node",
    ),
    "unknown": (
        refusing("eth_getLogs", -32000, "flux capacitor empty"),
        r"refused eth_getLogs of blocks 0 to 200.*flux capacitor empty",
    ),
    "single block": (
        refusing("eth_getLogs", -32005, "query returned more than 10000 results"),
        r"even the logs of 0xfafa\w+ in block \d+ alone",
    ),
    "rate for ever": (f.too_many_requests, r"in 2 attempts: project ID request rate exceeded; run again later"),
    "missing header": (
        lambda body, forward, draw: (
            (200, {}, b'{"jsonrpc":"2.0","id":1,"result":null}') if b'"eth_getBlockByNumber"' in body else None
        ),
        r"has no block \d+; use a node with full history",
    ),
    "wrong header": (
        lambda body, forward, draw: (
            (200, {}, forward(body)[2].replace(b'"number": "0xc8"', b'"number": "0xc7"'))
            if body.startswith(b"{") and b'"eth_getBlockByNumber"' in body
            else None
        ),
        r"answered block 199 when asked for block 200",
    ),
    "redirected": (
        lambda body, forward, draw: (301, {"Location": "http://a/key"}, b"<html>"),
        r"HTTP 301, a redirection: give the address",
    ),
    "no code": (
        lambda body, forward, draw: (
            (200, {}, b'{"jsonrpc":"2.0","id":1,"result":"0x"}') if b'"eth_getCode"' in body else None
        ),
        r"there is no contract at 0xfafa.*\(factory of market 'made-up'\)",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_node_that_cannot_answer(node: ChainNode, lake: Lake, name: str) -> None:
    fault, message = NAMED[name]
    with f.FaultProxy(node.url, f.Plan(always=[fault])) as proxy, pytest.raises(FetchError, match=message):
        run(lake, proxy.url, attempts=2)


def test_tokens_without_decimals_are_named(chain: Chain, lake: Lake) -> None:
    with ChainNode(chain) as node, pytest.raises(FetchError, match=r"0x\w{40} has no decimals\(\) at block 200"):
        run(lake, node.url)


@pytest.mark.parametrize(("options", "message"), [
    ({"finality": "finalized"}, r"no finalized block yet; count confirmations"),
    ({"finality": 0, "from_block": 300},
    r"block 300 of 'made-up' is not final: block 200 is the last final one; choose an earlier --from-block"),
    ({"finality": 500},
    r"is not final: the chain has fewer blocks than the confirmations asked for; choose .*--finality 0"),
    ({"from_block": 90, "to_block": 80}, r"blocks 90 to 80 of 'made-up': the first is after the last; swap them"),
    ({"from_block": -5}, r"block -5 of 'made-up'; block numbers start at 0"),
    ({"to_block": -1}, r"block -1 of 'made-up'; block numbers start at 0"),
])  # fmt: skip
def test_finality(node: ChainNode, lake: Lake, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FetchError, match=message):
        run(lake, node.url, **options)


def test_only_final_blocks_are_stored(node: ChainNode, lake: Lake) -> None:
    node.finalized = 120
    summary = run(lake, node.url, finality="finalized", to_block=180)
    assert summary.to_block == 120
    assert summary.notes == ["block 180 is not final yet: fetched up to block 120", summary.notes[-1]]
    assert max(lake.read("raw/chain/Header", "made-up")["block_number"].to_pylist()) == 120


# -- keys
# ------------------------------------------------------------------------------------------------------------------

SECRET = "s3cr3tK3yAbC123"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:1/v2/" + SECRET, "http://127.0.0.1:1/***"),
        ("https://rpc.example/?apikey=" + SECRET, "https://rpc.example/***"),
        (f"https://user:{SECRET}@rpc.example", "https://rpc.example/***"),
        (f"https://{SECRET}@rpc.example:8545/eth", "https://rpc.example:8545/***"),
        (f"https://rpc.example/#{SECRET}", "https://rpc.example/***"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("http://127.0.0.1:8545/", "http://127.0.0.1:8545"),
    ],
)
def test_redaction(url: str, shown: str) -> None:
    assert redact(url) == shown
    with Rpc(url) as rpc:
        (member,) = rpc.pool.members
        assert SECRET not in f"{rpc!r} {rpc.name} {member!r} {member.provider}"
        assert SECRET not in member.provider.scrub(f"failed: {url} with {SECRET if SECRET in url else 'none'}")


@pytest.mark.parametrize(
    "form",
    ["http://127.0.0.1:{port}/v3/{key}", "http://127.0.0.1:{port}/?key={key}", "http://me:{key}@127.0.0.1:{port}/"],
)
def test_keys_appear_in_no_message_log_or_file(
    chain: Chain,
    node: ChainNode,
    lake: Lake,
    form: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = refusing("eth_getLogs", -32000, f"bad request to /v3/{SECRET}?key={SECRET} of me:{SECRET}")
    plan = f.Plan(always=[echo])
    with f.FaultProxy(node.url, plan) as proxy:
        url = form.format(port=proxy.url.rpartition(":")[2], key=SECRET)
        with pytest.raises(FetchError) as caught:
            run(lake, url)
        plan.always = [f.dropped]
        with pytest.raises(FetchError) as lost:
            run(lake, url, attempts=2)
        plan.always = []
        summary = run(lake, url)
    told = [str(error.value) for error in (caught, lost)] + [
        repr(caught.getrepr(style="short")),
        caplog.text,
        str(summary),
    ]
    assert not [text for text in told if SECRET in text]
    assert caught.value.__cause__ is None
    files = [path for path in lake.path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_addresses_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    broken = ["http://127.0.0.1:99999999/" + SECRET, f"http://me:{SECRET}/x@127.0.0.1", "http://[::1/" + SECRET]
    for url in ("ftp://x/" + SECRET, SECRET, "http://", "/v2/" + SECRET, *broken):
        with pytest.raises(UserError, match="is not the address of a node") as caught:
            Rpc(url)
        assert SECRET not in str(caught.value)


def test_web3_works_over_the_provider(node: ChainNode) -> None:
    from web3 import Web3

    provider = Provider(node.url, 5.0, 1)
    web3 = Web3(provider)
    assert web3.eth.chain_id == 4242
    assert web3.eth.get_block_number() == 200
    provider.close()


# -- the command
# -----------------------------------------------------------------------------------------------------------


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(["fetch", *words])
    return int(caught.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(("words", "message"), [
    (["aave-v3", "--market", "ethereum-cor", "--lake", "x", "--rpc", "http://a"],
    "unknown market 'ethereum-cor'; did you mean 'ethereum-core'?"),
    (["aave-v4", "--market", "base", "--lake", "x", "--rpc", "http://127.0.0.1:1"],
    "unknown protocol 'aave-v4'; did you mean 'aave-v3'?"),
    (["aave-v3", "--market", "base", "--lake", "x"], "no node given; add --rpc http://..., or set BACKTEST_RPC"),
    (["aave-v3", "--market", "base", "--lake", "x", "--rpc", "nonsense"], "'***' is not the address of a node"),
    (["aave-v3", "--market", "base", "--lake", "x", "--rpc", "http://127.0.0.1:1", "--finality", "soon"],
    'give "finalized" or a number'),
    (["aave-v3", "--market", "base", "--lake", "x", "--rpc", "http://127.0.0.1:1", "--finality", "\u00b2"],
    'give "finalized" or a number'),
    (["aave-v3", "--market", "base", "--lake", "file", "--rpc", "http://127.0.0.1:1"], "cannot make a lake at"),
    (["aave-v3", "--market", "base", "--lake", "file/sub", "--rpc", "http://127.0.0.1:1"], "cannot make a lake at"),
    (["aave-v3", "--market", "missing.toml", "--lake", "x", "--rpc", "http://127.0.0.1:1"],
    "cannot read market file missing.toml"),
    (["aave-v3", "--market", "base", "--lake", "x", "--workers", "0", "--rpc", "http://127.0.0.1:1"],
    "0 requests in flight; choose 1 to 256 --workers"),
])  # fmt: skip
def test_mistakes_get_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BACKTEST_RPC", raising=False)
    (tmp_path / "file").write_text("not a folder")
    code, told = command(capsys, *words)
    assert code == 2
    assert message in told
    assert told.count("\n") == 1


def test_every_market_that_ships_can_be_named() -> None:
    assert find_market("ethereum-core").chain_id == 1
    assert {find_market(name).protocol for name in ("arbitrum", "base", "optimism", "polygon")} == {"aave-v3"}


MARKET_FILE = f"""
name = "tiny"
protocol = "aave-v3"
chain_id = 4242
start_block = 0
[contracts]
provider = "{FACTORY}"
pool = "0x{"ab" * 20}"
"""


def test_a_market_that_the_lake_holds_needs_no_file(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    with lake.writer() as writer:
        writer.set_market(market())
    words = ["aave-v3", "--market", "made-up", "--rpc", "http://127.0.0.1:1", "--lake"]
    assert "market 'made-up' is of protocol vaults" in command(capsys, *words, str(lake.path))[1]
    assert "unknown market 'made-up'" in command(capsys, *words, str(lake.path / "none"))[1]
    assert not (lake.path / "none").exists()


@pytest.mark.slow
def test_interrupted_by_ctrl_c(node: ChainNode, tmp_path: Path) -> None:
    """One line that says how to go on, at once although a request is in flight; the lake can be opened."""
    (tmp_path / "tiny.toml").write_text(MARKET_FILE)
    with f.FaultProxy(
        node.url, f.Plan(always=[lambda body, forward, draw: time.sleep(20) if b"eth_getLogs" in body else None])
    ) as proxy:
        words = [
            "fetch",
            "aave-v3",
            "--market",
            str(tmp_path / "tiny.toml"),
            "--lake",
            str(tmp_path / "lake"),
            "--finality",
            "0",
        ]
        program = f"{LISTENS}; from backtest.cli import main; main({words!r})"
        environment = {**os.environ, "BACKTEST_RPC": proxy.url}
        with subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            while "eth_getLogs" not in proxy.methods and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=15)
    assert process.returncode == 130
    last = [line for line in told.splitlines() if line.strip()][-1]
    assert re.fullmatch(
        r"backtest: interrupted; what is stored stays in .*: run the same command again to continue", last
    )
    assert Lake(tmp_path / "lake").markets() == ["tiny"]
