"""100,000 logs from a local node to Parquet: ours, web3's ``contract.events.X.get_logs`` loop, and cryo, on the same
server in the same run.

The server runs in a process of its own and holds its replies ready, so that what is measured is the client. All three
ask for the same range in pieces of ``PIECE`` blocks and get the same decoded event; ours also reads and checks the
header of every block, which the others do not. ``python -m tests.bench.bench_fetch`` prints the rows.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from backtest.fetch import _rare_collections
from backtest.fetch.context import Silent
from backtest.fetch.decode import LogColumns, decode, topic0
from backtest.fetch.logs import LogFetcher
from backtest.fetch.rpc import Log, Rpc
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.model import EventSpec
from tests.support.synthetic import CHAIN_ID, Chain, ChainNode, MadeLog, word

LOGS = 100_000
PER_BLOCK = 50
PIECE = 199  # blocks of one request: just under the 10,000 logs that most providers allow
WEB3_LOGS = 20_000  # web3 is measured on the first part
MINT = EventSpec(
    "Mint",
    "Mint(address indexed caller, address indexed onBehalfOf, uint256 value, uint256 balanceIncrease, uint256 index)",
    "token",
)
TOKEN = "0x" + "ab" * 20
SHAPE = f"{LOGS:,} Mint logs, {PER_BLOCK} a block, {PIECE} blocks a request"


def _chain() -> Chain:
    draw = random.Random(1)
    users = ["0x" + word(draw.getrandbits(160)) for _ in range(5_000)]
    height = LOGS // PER_BLOCK
    topic = topic0(MINT)

    def log() -> MadeLog:
        data = word(draw.getrandbits(80)) + word(draw.getrandbits(60)) + word(10**27 + draw.getrandbits(88))
        return MadeLog(TOKEN, (topic, draw.choice(users), draw.choice(users)), data)

    return Chain(height, {block: [log() for _ in range(PER_BLOCK)] for block in range(1, height + 1)})


class _Ready(ChainNode):
    """Serves every block's logs as bytes made before, whatever the filter."""

    def __init__(self, chain: Chain) -> None:
        self._blocks = [b",".join(encoded for _, encoded in rows) for rows in chain.encoded]
        self._headers = [json.dumps(chain.header(block)).encode() for block in range(chain.height + 1)]
        super().__init__(chain)

    def _result(self, method: str, params: list[Any]) -> bytes:
        if method == "eth_getLogs" and "fromBlock" in params[0]:
            first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
            return b"[" + b",".join(filter(None, self._blocks[first : last + 1])) + b"]"
        if method == "eth_getBlockByNumber" and params[0].startswith("0x"):
            return self._headers[int(params[0], 16)]
        return super()._result(method, params)


def _serve(pipe: Connection) -> None:
    with _Ready(_chain()) as node:
        pipe.send(node.url)
        pipe.recv()


@contextmanager
def _node() -> Iterator[str]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def _best(work: Callable[[], object], times: int = 3) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _ours(url: str, folder: Path, omissions: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lake = Lake(folder, create=True)
    config = MarketConfig(name="bench", protocol="x", chain_id=CHAIN_ID, start_block=1, contracts={})
    with Rpc(url, workers=4) as rpc, lake.writer() as writer, _rare_collections():
        writer.set_market(config)
        fetcher = LogFetcher(lake, writer, "bench", rpc, Silent(), omissions)
        fetcher._width.blocks = fetcher._width._most = PIECE
        rows = fetcher.fetch("x", [MINT], {"token": [TOKEN]}, 1, LOGS // PER_BLOCK)
    assert rows == LOGS


def _web3(url: str) -> None:
    from web3 import Web3

    abi = {"type": "event", "name": "Mint", "anonymous": False, "inputs": [
        {"name": "caller", "type": "address", "indexed": True}, {"name": "onBehalfOf", "type": "address",
        "indexed": True},
        {"name": "value", "type": "uint256", "indexed": False}, {"name": "balanceIncrease", "type": "uint256",
        "indexed": False},
        {"name": "index", "type": "uint256", "indexed": False},
    ]}  # fmt: skip
    web3 = Web3(Web3.HTTPProvider(url))
    contract = web3.eth.contract(address=Web3.to_checksum_address(TOKEN), abi=[abi])  # type: ignore[list-item]
    found = 0
    for first in range(1, WEB3_LOGS // PER_BLOCK + 1, PIECE):
        found += len(
            contract.events.Mint.get_logs(from_block=first, to_block=min(first + PIECE - 1, WEB3_LOGS // PER_BLOCK))
        )
    assert found == WEB3_LOGS


def _cryo(url: str, folder: Path) -> None:
    import cryo
    import pyarrow.parquet as pq

    shutil.rmtree(folder, ignore_errors=True)
    cryo.freeze(
        "logs",
        rpc=url,
        blocks=[f"1:{LOGS // PER_BLOCK + 1}"],
        output_dir=str(folder),
        contract=[TOKEN],
        topic0=[topic0(MINT)],
        event_signature=MINT.signature,
        inner_request_size=PIECE,
        chunk_size=LOGS // PER_BLOCK,
        verbose=False,
        network_name="bench",
    )
    assert sum(pq.read_metadata(path).num_rows for path in folder.rglob("*.parquet")) == LOGS


def _transport(url: str) -> list[bytes]:
    """The replies alone, over one connection."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port)
    replies = []
    for first in range(1, LOGS // PER_BLOCK + 1, PIECE):
        last = min(first + PIECE - 1, LOGS // PER_BLOCK)
        question = {"fromBlock": hex(first), "toBlock": hex(last), "address": [TOKEN], "topics": [[topic0(MINT)]]}
        connection.request(
            "POST", "/", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [question]})
        )
        replies.append(connection.getresponse().read())
    connection.close()
    return replies


class _Reply(msgspec.Struct):
    result: list[Log]


def run() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []

    def add(name: str, logs: int, seconds: float, baseline: float | None = None) -> float:
        rate = logs / seconds
        ratio = None if baseline is None else rate / baseline
        rows.append(
            {
                "name": f"fetch: {name}",
                "value": rate,
                "unit": "logs/s",
                "baseline": baseline,
                "ratio": ratio,
                "shape": SHAPE,
            }
        )
        return rate

    with _node() as url, tempfile.TemporaryDirectory() as temporary, _rare_collections():
        folder = Path(temporary)
        _ours(url, folder / "warm", "never")  # imports and first touches
        replies = _transport(url)
        add("transport alone", LOGS, _best(lambda: _transport(url)))
        parsed = [msgspec.json.decode(reply, type=_Reply).result for reply in replies]
        add("parse JSON alone", LOGS, _best(lambda: [msgspec.json.decode(reply, type=_Reply) for reply in replies]))
        decode_seconds = _best(lambda: [decode(LogColumns.of(logs), [MINT], "x") for logs in parsed])
        add("decode alone", LOGS, decode_seconds)
        tables = [decode(LogColumns.of(logs), [MINT], "x")["raw/x/Mint"] for logs in parsed]
        write_seconds = _best(lambda: _write(folder / "write", tables))
        add("write alone (one commit to the lake)", LOGS, write_seconds)
        add("decode and write", LOGS, decode_seconds + write_seconds, 400_000.0)
        web3 = WEB3_LOGS / _best(lambda: _web3(url), 1)
        ours = _best(lambda: _ours(url, folder / "ours", "auto"))
        add("node to lake, with headers and checks; baseline web3 get_logs", LOGS, ours, web3)
        try:
            import cryo  # noqa: F401
        except ImportError:
            add("node to lake, with headers and checks; cryo is not installed", LOGS, ours)
        else:
            add(
                "node to lake, with headers and checks; baseline cryo",
                LOGS,
                ours,
                LOGS / _best(lambda: _cryo(url, folder / "cryo")),
            )
    return rows


def _write(folder: Path, tables: list[Any]) -> None:
    import pyarrow as pa

    shutil.rmtree(folder, ignore_errors=True)
    lake = Lake(folder, create=True)
    with lake.writer() as writer:
        writer.commit("bench", {"raw/x/Mint": pa.concat_tables(tables)}, from_block=1, to_block=LOGS // PER_BLOCK)


if __name__ == "__main__":
    for row in run():
        print(row)
