"""A made-up chain and a node that serves it: headers with true blooms, logs of a made-up protocol. For tests and
benchmarks of the fetcher.

The protocol: a factory (role ``factory``) creates vaults (role ``vault``); vaults log deposits and labels.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from eth_utils.crypto import keccak

from backtest.fetch.decode import topic0
from backtest.markets import MarketConfig
from backtest.model import Constant, Deployment, EventSpec, SourceChange
from backtest.protocols.interface import LendingProtocol, RawEvents

CHAIN_ID = 4242
FACTORY = "0x" + "fa" * 20
CREATED = EventSpec("Created", "Created(address indexed vault, address asset)", "factory")
DEPOSIT = EventSpec("Deposit", "Deposit(address indexed user, uint256 amount, int256 change, bool locked)", "vault")
LABEL = EventSpec("Label", "Label(uint16 indexed id, string text)", "vault")
WORD = EventSpec("Word", "Word(bytes32 indexed key, uint256 value)", "vault", frozenset({"value"}))
OTHER = EventSpec("Other", "Other(uint256 x)", "nobody")


class Vaults(LendingProtocol[Any]):
    """The part of ``LendingProtocol`` that a fetch uses."""

    name = "vaults"
    events: Sequence[EventSpec] = (CREATED, DEPOSIT, LABEL, WORD)
    liquidation_events: Sequence[str] = ()

    def discover(self, contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
        found = {"0x" + vault.hex() for vault in raw.table("Created").column("vault").to_pylist()}
        return {**contracts, "vault": contracts.get("vault", frozenset()) | found}

    def price_sources(self, raw: RawEvents) -> Sequence[SourceChange]:
        return []

    def deployments(self, raw: RawEvents) -> Sequence[Deployment]:
        vaults = raw.table("Created").select(["vault", "block_number"]).to_pylist()
        return [Deployment("0x" + row["vault"].hex(), None, "VAULT_REVISION", row["block_number"]) for row in vaults]

    def constants(self, raw: RawEvents) -> Sequence[Constant]:
        return []

    def tokens(self, raw: RawEvents) -> Sequence[str]:
        return ["0x" + asset.hex() for asset in raw.table("Created").column("asset").to_pylist()]


def market(start_block: int = 0) -> MarketConfig:
    return MarketConfig(
        name="made-up", protocol="vaults", chain_id=CHAIN_ID, start_block=start_block, contracts={"factory": FACTORY}
    )


def word(value: int | bytes | str) -> str:
    """One ABI word as 64 hex digits."""
    if isinstance(value, str):
        return value[2:].rjust(64, "0")
    if isinstance(value, bytes):
        return value.hex().ljust(64, "0")
    return f"{value % (1 << 256):064x}"


def text_data(text: str) -> str:
    body = text.encode()
    return word(32) + word(len(body)) + body.hex().ljust(-(-len(body) // 32) * 64, "0")


@dataclass(frozen=True)
class MadeLog:
    address: str
    topics: tuple[str, ...]
    data: str  # hex without 0x


class MadeBlocks:
    """Logs, a block at a time. The logs of one block make up transactions of three logs each, as ``Chain`` cuts them.
    ``filler``: a log of something else.
    """

    def __init__(self, filler: MadeLog) -> None:
        self.logs: dict[int, list[MadeLog]] = {}
        self.block = 0
        self._filler = filler

    def at(self, block: int) -> Self:
        assert block > self.block
        self.block = block
        return self

    def add(self, *logs: MadeLog) -> Self:
        self.logs.setdefault(self.block, []).extend(logs)
        return self

    def pad(self) -> Self:
        """Fill the transaction with what is of something else."""
        while len(self.logs.get(self.block, ())) % 3:
            self.add(self._filler)
        return self


@dataclass
class Chain:
    """Blocks 0 to ``height``; ``logs``: block to its logs in order. Hashes depend on everything before, as on a real
    chain.
    """

    height: int
    logs: dict[int, list[MadeLog]] = field(default_factory=dict)
    salt: str = ""
    fork_block: int = 0  # blocks from here on are salted: two chains that differ in ``salt`` share what is before
    chain_id: int = CHAIN_ID

    @cached_property
    def hashes(self) -> list[str]:
        found, parent = [], b"\0" * 32
        for block in range(self.height + 1):
            salt = self.salt if block >= self.fork_block else ""
            parent = keccak(parent + block.to_bytes(8, "big") + salt.encode() + repr(self.logs.get(block, ())).encode())
            found.append("0x" + parent.hex())
        return found

    @cached_property
    def blooms(self) -> dict[int, str]:
        return {block: bloom_of(logs) for block, logs in self.logs.items()}

    @cached_property
    def encoded(self) -> list[list[tuple[MadeLog, bytes]]]:
        """Per block, every log with its JSON."""
        out: list[list[tuple[MadeLog, bytes]]] = []
        for block in range(self.height + 1):
            rows = []
            for index, log in enumerate(self.logs.get(block, ())):
                body = {
                    "address": log.address,
                    "topics": log.topics,
                    "data": "0x" + log.data,
                    "blockNumber": hex(block),
                    "transactionHash": "0x" + keccak(f"{block} {index}".encode()).hex(),
                    "transactionIndex": hex(index // 3),
                    "blockHash": self.hashes[block],
                    "logIndex": hex(index),
                    "removed": False,
                }
                rows.append((log, json.dumps(body, separators=(",", ":")).encode()))
            out.append(rows)
        return out

    def header(self, block: int) -> dict[str, Any]:
        return {
            "number": hex(block),
            "hash": self.hashes[block],
            "parentHash": self.hashes[block - 1] if block else "0x" + "00" * 32,
            "timestamp": hex(1_600_000_000 + 12 * block),
            "baseFeePerGas": hex(10**9 + block),
            "logsBloom": self.blooms.get(block, "0x" + "00" * 256),
            "transactions": [],
        }


def bloom_of(logs: Iterable[MadeLog]) -> str:
    """logsBloom by the Yellow Paper's definition, written independently of the package's."""
    value = 0
    for log in logs:
        for item in (log.address, *log.topics):
            digest = keccak(hexstr=item)
            for at in (0, 2, 4):
                value |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return "0x" + value.to_bytes(256, "big").hex()


def made_up_chain(height: int = 400, vaults: int = 3, per_block: float = 1.5, seed: int = 1, odd: bool = True) -> Chain:
    """Vaults created over the first quarter; random deposits, labels and words; with ``odd`` logs that do not fit their
    ABI.
    """
    draw = random.Random(seed)
    addresses = [f"0x{draw.getrandbits(160):040x}" for _ in range(vaults)]
    assets = [f"0x{draw.getrandbits(160):040x}" for _ in range(vaults)]
    users = [f"0x{draw.getrandbits(160):040x}" for _ in range(20)]
    logs: dict[int, list[MadeLog]] = {}
    born: list[str] = []
    for block in range(1, height + 1):
        own: list[MadeLog] = []
        if len(born) < vaults and block % max(1, height // 4 // vaults) == 0:
            vault, asset = addresses[len(born)], assets[len(born)]
            born.append(vault)
            own.append(MadeLog(FACTORY, (topic0(CREATED), "0x" + word(vault)), word(asset)))
        for _ in range(int(draw.random() * 2 * per_block + 0.5) if born else 0):
            vault = draw.choice(born)
            kind = draw.random()
            if kind < 0.7:
                amount = draw.getrandbits(draw.choice([8, 64, 100, 126]))
                data = word(amount) + word(draw.choice([-1, 1]) * draw.getrandbits(90)) + word(draw.getrandbits(1))
                own.append(MadeLog(vault, (topic0(DEPOSIT), "0x" + word(draw.choice(users))), data))
            elif kind < 0.8:
                own.append(
                    MadeLog(
                        vault,
                        (topic0(LABEL), "0x" + word(draw.getrandbits(16))),
                        text_data("label " * draw.randrange(12)),
                    )
                )
            elif kind < 0.9:
                own.append(
                    MadeLog(vault, (topic0(WORD), "0x" + word(draw.getrandbits(256))), word(draw.getrandbits(256)))
                )
            elif kind < 0.95 and odd:
                own.append(
                    MadeLog(
                        vault, (topic0(DEPOSIT), "0x" + word(draw.choice(users))), word(1 << 200) + word(0) + word(2)
                    )
                )
            else:
                own.append(MadeLog(draw.choice(users), (topic0(OTHER),), word(1)))
        if own:
            logs[block] = own
    return Chain(height, logs)


# --------------------------------------------------------------------------------------------------------------------


class RpcServer:
    """An HTTP server of JSON-RPC on 127.0.0.1. ``answer(request) -> reply`` gets one request object (method, params)
    and returns the JSON of its result as bytes, or raises ``RpcFault``. ``whole(body) -> (status, headers, bytes) |
    None`` may take over.
    """

    def __init__(self) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, data = owner.handle(body)
                if status == 0:  # drop the connection, after as much as ``data`` holds
                    self.wfile.write(data)
                    self.close_connection = True
                    return
                lines = [
                    f"HTTP/1.1 {status} X",
                    "Content-Type: application/json",
                    *(f"{k}: {v}" for k, v in headers.items()),
                ]
                if "Content-Length" not in headers:
                    lines.append(f"Content-Length: {len(data)}")
                self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode() + data)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients that hang up are part of the tests

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def handle(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        raise NotImplementedError


class RpcFault(Exception):
    """An error object to answer with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ChainNode(RpcServer):
    """Serves a ``Chain``; ``chain`` may be replaced while it runs (a reorganisation). ``calls``: (address, selector) to
    returned hex.
    """

    def __init__(
        self, chain: Chain, calls: Mapping[tuple[str, str], str] | None = None, finalized: int | None = None
    ) -> None:
        self.chain = chain
        self.calls = dict(calls or {})
        self.finalized = finalized
        self.seen: list[str] = []
        self.slow: Callable[[str], None] | None = None
        super().__init__()

    def handle(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        request = json.loads(body)
        if isinstance(request, list):
            return 200, {}, b"[" + b",".join(self._reply(one) for one in request) + b"]"
        return 200, {}, self._reply(request)

    def _reply(self, request: dict[str, Any]) -> bytes:
        number = json.dumps(request["id"]).encode()
        self.seen.append(request["method"])
        try:
            return (
                b'{"jsonrpc":"2.0","id":'
                + number
                + b',"result":'
                + self._result(request["method"], request.get("params", []))
                + b"}"
            )
        except RpcFault as fault:
            error = json.dumps({"code": fault.code, "message": str(fault)}).encode()
            return b'{"jsonrpc":"2.0","id":' + number + b',"error":' + error + b"}"

    def _result(self, method: str, params: list[Any]) -> bytes:
        chain = self.chain
        if method == "eth_getLogs":
            return b"[" + b",".join(self._logs(chain, params[0])) + b"]"
        if method == "eth_getBlockByNumber":
            block = self._block(params[0])
            return b"null" if block is None or block > chain.height else json.dumps(chain.header(block)).encode()
        simple: dict[str, Any] = {
            "eth_chainId": hex(chain.chain_id),
            "eth_blockNumber": hex(chain.height),
            "web3_clientVersion": "made-up/1",
        }
        if method in simple:
            return json.dumps(simple[method]).encode()
        if method == "eth_getCode":
            return b'"0x6001"'
        if method == "eth_getStorageAt":
            return json.dumps("0x" + word(params[0])).encode()
        if method == "eth_call":
            found = self.calls.get((params[0]["to"], params[0]["data"][:10]))
            if found is None:
                raise RpcFault(3, "execution reverted")
            return json.dumps(found).encode()
        raise RpcFault(-32601, f"the method {method} does not exist/is not available")

    def _block(self, tag: str) -> int | None:
        if tag == "finalized":
            return self.finalized
        return self.chain.height if tag == "latest" else int(tag, 16)

    def _logs(self, chain: Chain, question: dict[str, Any]) -> Iterator[bytes]:
        if "blockHash" in question:
            if question["blockHash"] not in chain.hashes:
                raise RpcFault(-32000, "unknown block")
            first = last = chain.hashes.index(question["blockHash"])
        else:
            first, last = int(question["fromBlock"], 16), min(int(question["toBlock"], 16), chain.height)
        addresses = set(question["address"])
        topics, *others = (set(some) for some in question["topics"])
        for block in range(first, last + 1):
            for log, encoded in chain.encoded[block]:
                if (
                    log.address in addresses
                    and log.topics[0] in topics
                    and all(t in some for t, some in zip(log.topics[1:], others, strict=False))
                ):
                    yield encoded
