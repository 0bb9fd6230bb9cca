"""A local node (anvil) and a small, fast JSON-RPC client for it.

Blocks are 12 s apart from a fixed start, so the same script gives the same block hashes. Mining many blocks is slow:
warp time instead.

Reading the past: ``eth_call`` at block B executes with B's own number and timestamp (``tests/test_chain_smoke.py``
proves it), so a read "at B" sees interest accrued up to B. ``"latest"`` is the last mined block, never the next one;
``"pending"`` is not used.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Sequence
from functools import cache
from types import TracebackType
from typing import Any

import msgspec
from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from tests.chain.contracts import Artifact, anvil_binary

GENESIS_TIME = 1_583_971_200  # 2020-03-12 00:00 UTC
GAS = 30_000_000
ZERO = "0x" + "00" * 20
UINT256_MAX = 2**256 - 1
_HEAD = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_ERRORS: dict[bytes, str] = {}  # selectors of the custom errors of every ABI in use
_FREE = {"gasPrice": "0x0", "gas": hex(GAS)}

Abi = list[dict[str, Any]]
Transaction = dict[str, str]
Call = tuple[str, Sequence[Any]]


class RpcError(Exception):
    """The node answered with an error. ``data`` is the revert data (bytes), if any."""

    def __init__(self, error: dict[str, Any]) -> None:
        data = error.get("data")
        self.data = bytes.fromhex(data[2:]) if isinstance(data, str) and data.startswith("0x") else b""
        super().__init__(error.get("message", str(error)))


class Reverted(Exception):
    """A mined transaction failed. ``receipt`` is the node's."""

    def __init__(self, receipt: dict[str, Any], reason: str) -> None:
        self.receipt = receipt
        self.reason = reason
        super().__init__(f"{receipt['transactionHash']}: {reason}")


class Node:
    """One anvil process. Use as a context manager, or call ``close``."""

    def __init__(
        self,
        *,
        timestamp: int = GENESIS_TIME,
        chain_id: int = 31337,
        interval: int = 12,
        code_size_limit: int | None = None,
        hardfork: str = "cancun",
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="anvil-")
        command = [
            str(anvil_binary()),
            "--host=127.0.0.1",
            "--port=0",
            "--accounts=10",
            "--order=fifo",
            "--auto-impersonate",
            "--no-mining",
        ]
        command += [
            f"--timestamp={timestamp}",
            f"--chain-id={chain_id}",
            "--gas-limit=1000000000000",
            "--gas-price=0",
            "--block-base-fee-per-gas=0",
        ]
        command += [
            "--disable-min-priority-fee",
            f"--hardfork={hardfork}",
            "--transaction-block-keeper=1000000000",
            "--prune-history=100000",  # past states stay in memory: those on disk take longer to write than to make
            f"--cache-path={self._folder.name}",
        ]
        command += [f"--code-size-limit={code_size_limit}"] if code_size_limit is not None else []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.port = self._read_port()
        threading.Thread(target=self._drain, daemon=True).start()
        self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=300)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb", buffering=1 << 20)
        self.chain_id = chain_id
        self.rpc("anvil_setBlockTimestampInterval", interval)
        self.accounts: list[str] = self.rpc("eth_accounts")
        self.admin = self.accounts[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _read_port(self) -> int:
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if match := re.search(r"Listening on 127\.0\.0\.1:(\d+)", line):
                return int(match.group(1))
        raise RuntimeError(f"anvil ended with {self.process.wait()}: {''.join(seen)[-500:]}")

    def _drain(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):  # closed while the last lines were on their way
            for _ in self.process.stdout:
                pass

    def close(self) -> None:
        """Stop the process this object started, and remove its files."""
        self._answers.close()
        self._socket.close()
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._folder.cleanup()

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- JSON-RPC ----------------------------------------------------------------------------------------------------
    def _post(self, *bodies: Any) -> list[Any]:
        """Answers to HTTP requests that the node works off one after the other, on one connection. Each waits for the
        answer before it: answers to requests sent at once would wait for the acknowledgement of those before them, 40
        ms each.
        """
        answers = []
        for body in bodies:
            encoded = msgspec.json.encode(body)
            self._socket.sendall(_HEAD % len(encoded) + encoded)
            answers.append(msgspec.json.decode(self._read_body()))
        return answers

    def _read_body(self) -> bytes:
        length = None
        while (line := self._answers.readline()) != b"\r\n":
            if not line:
                raise ConnectionError("the node closed the connection")
            if line[:15].lower() == b"content-length:":
                length = int(line[15:])
        if length is None:
            raise ConnectionError("the node's answer has no length")
        return bytes(self._answers.read(length))

    def rpc(self, method: str, *params: Any) -> Any:
        """The result of one request; RpcError if the node refuses."""
        return self.sequence([(method, params)])[0]

    def sequence(self, requests: Iterable[Call]) -> list[Any]:
        """Results of requests (method, params) that the node works off in this order; RpcError if it refuses one."""
        bodies = [{"jsonrpc": "2.0", "id": 1, "method": method, "params": params} for method, params in requests]
        answers = self._post(*bodies)
        for answer in answers:
            if "error" in answer:
                raise RpcError(answer["error"])
        return [answer["result"] for answer in answers]

    def batch(self, requests: Iterable[Call]) -> list[Any]:
        """Results in the order of ``requests``, which the node may work off in any order; a refused one is an
        ``RpcError`` value, not raised.
        """
        body = [
            {"jsonrpc": "2.0", "id": i, "method": method, "params": params}
            for i, (method, params) in enumerate(requests)
        ]
        if not body:
            return []
        answers = sorted(self._post(body)[0], key=lambda answer: answer["id"])
        return [RpcError(answer["error"]) if "error" in answer else answer["result"] for answer in answers]

    # -- blocks and time ---------------------------------------------------------------------------------------------
    @property
    def block_number(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    def block(self, number: int | str = "latest") -> dict[str, Any]:
        """The block's header and transaction hashes, as the node gives them."""
        return dict(self.rpc("eth_getBlockByNumber", _tag(number), False))

    def timestamp(self, number: int | str = "latest") -> int:
        return int(self.block(number)["timestamp"], 16)

    def mine(self, count: int = 1) -> int:
        """Mine ``count`` blocks, 12 s apart; the new height."""
        self.rpc("anvil_mine", hex(count))
        return self.block_number

    def set_timestamp(self, timestamp: int) -> None:
        """The next mined block gets this timestamp; later ones follow 12 s apart."""
        self.rpc("evm_setNextBlockTimestamp", timestamp)

    def warp(self, seconds: int) -> None:
        """The next mined block comes ``seconds`` after the latest one."""
        self.set_timestamp(self.timestamp() + seconds)

    def snapshot(self) -> str:
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Back to a snapshot, which is used up by it."""
        assert self.rpc("evm_revert", snapshot)

    def reorganise(self, depth: int) -> None:
        """Replace the last ``depth`` blocks by empty ones of other hashes."""
        self.rpc("anvil_reorg", depth, [])

    # -- transactions ------------------------------------------------------------------------------------------------
    def send(self, transaction: Transaction) -> dict[str, Any]:
        """Mine one transaction in a block of its own; its receipt. Reverted if it failed."""
        (receipt,) = self.send_block([transaction])
        if receipt["status"] != "0x1":
            raise Reverted(receipt, self.revert_reason(transaction, int(receipt["blockNumber"], 16)))
        return receipt

    def revert_reason(self, transaction: Transaction, block: int | str = "latest") -> str:
        """Why the transaction fails at the end of ``block``, or "" if it does not: error text, or the name of a custom
        error.
        """
        try:
            self.rpc("eth_call", transaction, _tag(block))
        except RpcError as error:
            return _reason(error)
        return ""

    def send_block(self, transactions: Sequence[Transaction], *, timestamp: int | None = None) -> list[dict[str, Any]]:
        """Mine all transactions, in this order, in one block (no block if there are none); their receipts. Failed ones
        have status 0x0.
        """
        if not transactions:
            return []
        requests: list[Call] = [("eth_sendTransaction", [_FREE | transaction]) for transaction in transactions]
        if timestamp is not None:
            requests.append(("evm_setNextBlockTimestamp", [timestamp]))
        *answers, receipts = self.sequence([*requests, ("evm_mine", []), ("eth_getBlockReceipts", ["latest"])])
        digests = answers[: len(transactions)]
        if [receipt["transactionHash"] for receipt in receipts] != digests:
            raise RuntimeError(
                f"the block holds {len(receipts)} transactions, not the {len(transactions)} sent, or in another order"
            )
        return list(receipts)

    def call(self, to: str, data: bytes, *, block: int | str = "latest", sender: str | None = None) -> bytes:
        """``eth_call`` at the end of ``block``, with that block's timestamp."""
        request = {"to": to, "data": "0x" + data.hex(), **({"from": sender} if sender else {})}
        return bytes.fromhex(self.rpc("eth_call", request, _tag(block))[2:])

    def get_logs(
        self,
        *,
        from_block: int = 0,
        to_block: int | str = "latest",
        address: str | list[str] | None = None,
        topics: Any = None,
    ) -> list[Any]:
        query = {"fromBlock": _tag(from_block), "toBlock": _tag(to_block), "address": address, "topics": topics}
        return list(self.rpc("eth_getLogs", {key: value for key, value in query.items() if value is not None}))

    def deploy(
        self, artifact: Artifact, *args: Any, libraries: dict[str, str] | None = None, sender: str | None = None
    ) -> Contract:
        """Create a contract with these constructor arguments."""
        code = artifact.linked(libraries or {})
        inputs: list[dict[str, Any]] = next(
            (entry["inputs"] for entry in artifact.abi if entry["type"] == "constructor"), []
        )
        code += encode([_type(item) for item in inputs], args)
        receipt = self.send({"from": sender or self.admin, "data": "0x" + code.hex()})
        return Contract(self, receipt["contractAddress"], artifact.abi)


def _tag(block: int | str) -> str:
    return hex(block) if isinstance(block, int) else block


def _reason(error: RpcError) -> str:
    if error.data[:4] == bytes.fromhex("08c379a0"):
        return str(decode(["string"], error.data[4:])[0])
    return _ERRORS.get(error.data[:4], "0x" + error.data[:4].hex()) if error.data else str(error)


def revert_name(node: Node, transaction_hash: str) -> str:
    """Why a mined transaction failed, exactly: error text or code (3.0), name of the custom error (3.6)."""
    trace = node.rpc(
        "debug_traceTransaction", transaction_hash, {"tracer": "callTracer", "tracerConfig": {"onlyTopCall": True}}
    )
    return _reason(RpcError({"message": trace.get("error", "reverted"), "data": trace.get("output")}))


def _type(item: dict[str, Any]) -> str:
    kind = str(item["type"])
    return (
        kind.replace("tuple", f"({','.join(_type(part) for part in item['components'])})")
        if kind.startswith("tuple")
        else kind
    )


@cache
def selector(signature: str) -> bytes:
    return keccak(text=signature)[:4]


class Function:
    """One function of an ABI: encodes calls and decodes results."""

    __slots__ = ("inputs", "outputs", "selector", "signature")

    def __init__(self, entry: dict[str, Any]) -> None:
        self.inputs = [_type(item) for item in entry["inputs"]]
        self.outputs = [_type(item) for item in entry.get("outputs", ())]
        self.signature = f"{entry['name']}({','.join(self.inputs)})"
        self.selector = selector(self.signature)

    def encode(self, args: Sequence[Any]) -> bytes:
        return self.selector + encode(self.inputs, args)

    def decode(self, data: bytes) -> Any:
        """The single value, or the tuple of values."""
        values = decode(self.outputs, data)
        return values[0] if len(values) == 1 else values


class Contract:
    """A contract at an address. Functions go by name, or by full signature where a name is overloaded."""

    def __init__(self, node: Node, address: str, abi: Abi) -> None:
        self.node = node
        self.address = to_checksum_address(address)
        self.abi = abi
        self._functions: dict[str, Function] = {}
        for entry in abi:
            if entry["type"] == "function":
                function = Function(entry)
                self._functions[function.signature] = function
                self._functions.setdefault(entry["name"], function)
            elif entry["type"] == "error":
                _ERRORS[Function(entry).selector] = entry["name"]

    def function(self, name: str) -> Function:
        return self._functions[name]

    def has(self, name: str) -> bool:
        return name in self._functions

    def call(self, name: str, *args: Any, block: int | str = "latest", sender: str | None = None) -> Any:
        """Result of a view at the end of ``block``: one value, or a tuple."""
        function = self._functions[name]
        return function.decode(self.node.call(self.address, function.encode(args), block=block, sender=sender))

    def transaction(self, name: str, *args: Any, sender: str | None = None) -> Transaction:
        """A transaction to queue for ``Node.send_block``."""
        return {
            "from": sender or self.node.admin,
            "to": self.address,
            "data": "0x" + self._functions[name].encode(args).hex(),
        }

    def send(self, name: str, *args: Any, sender: str | None = None) -> dict[str, Any]:
        """Mine one call; its receipt. Reverted if it failed."""
        return self.node.send(self.transaction(name, *args, sender=sender))
