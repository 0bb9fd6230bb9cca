"""Views worked out here against the local node: every instruction on numbers at its edges, programs at random, and
calls of contracts by each other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from backtest.proofs import evm
from backtest.proofs.evm import Surroundings, Unrunnable, answered
from tests.chain.node import Node, RpcError

HERE, THERE, FAR = ("0x" + digit * 40 for digit in "cde")
EDGES = [0, 1, 2, 3, 31, 32, 255, 256, 2**128 - 1, 2**255 - 1, 2**255, 2**255 + 1, 2**256 - 2, 2**256 - 1]


@pytest.fixture(scope="module")
def osaka(chain_packages: None) -> Iterator[Node]:
    with Node(hardfork="osaka") as node:
        yield node


@dataclass(frozen=True)
class _Codes:
    """Contracts by their code, and what they keep."""

    codes: dict[str, bytes]
    storage: dict[tuple[str, int], int] = field(default_factory=dict)

    def word(self, contract: str, slot: int) -> int:
        return self.storage.get((contract, slot), 0)

    def code(self, address: str) -> bytes:
        return self.codes.get(address, b"")

    def balance(self, address: str) -> int:
        return 7 if address == HERE else 0


def _run(code: bytes | dict[str, bytes], data: bytes = b"", **more: Any) -> bytes | None:
    codes = code if isinstance(code, dict) else {HERE: code}
    return answered(_Codes(codes, **more), Surroundings(31_337, 5, 1_700_000_000), HERE, data)


def _push(value: int) -> str:
    return f"7f{value:064x}"


def _on_chain(node: Node, codes: dict[str, bytes], data: bytes = b"") -> bytes | None:
    overrides = {address: {"code": "0x" + code.hex()} for address, code in codes.items()}
    call = {"to": HERE, "from": "0x" + "00" * 20, "data": "0x" + data.hex(), "gas": hex(30_000_000), "gasPrice": "0x0"}
    try:
        return bytes.fromhex(node.rpc("eth_call", call, "latest", overrides)[2:])
    except RpcError:
        return None


def test_every_instruction_on_numbers_at_its_edges(osaka: Node) -> None:
    """Results side by side in memory."""
    arity = {**dict.fromkeys([*range(0x01, 0x08), 0x0A, 0x0B, *range(0x10, 0x15), *range(0x16, 0x19)], 2)}
    arity |= {**dict.fromkeys(range(0x1A, 0x1E), 2), 0x15: 1, 0x19: 1, 0x1E: 1, 0x08: 3, 0x09: 3}
    draw = random.Random(1)
    for op, count in arity.items():
        code = ""
        for place in range(60):
            chosen = [draw.choice(EDGES) if draw.random() < 0.7 else draw.getrandbits(256) for _ in range(count)]
            code += "".join(map(_push, chosen)) + f"{op:02x}61{32 * place:04x}52"
        program = bytes.fromhex(code + f"61{32 * 60:04x}5ff3")
        found = _run(program)
        assert found is not None
        assert found == _on_chain(osaka, {HERE: program}), f"{op:#x}"


STACK = [*range(0x01, 0x0C), *range(0x10, 0x1F), 0x20, 0x30, 0x32, 0x33, 0x34, 0x35, 0x36, 0x38, 0x3D, 0x46, 0x50, 0x51]
STACK += [0x52, 0x53, 0x56, 0x57, 0x58, 0x59, 0x5B, 0x5C, 0x5E, 0x37, 0x39, 0x3E, 0x5F, *range(0x80, 0x90)]
STACK += [*range(0x90, 0xA0), 0x0C, 0xFE, 0xFD, 0xF3, 0x3B, 0x3C]


def _program(draw: random.Random) -> bytes:
    """Numbers, most of them small, then instructions at random, then all memory and what is left on the stack."""
    code = bytearray()
    for _ in range(24):
        code += bytes([0x60, draw.choice([0, 1, 2, 32, 33, 64, draw.randrange(256)])])
    for _ in range(draw.randrange(4, 40)):
        op = draw.choice(STACK)
        if op in (0x3B, 0x3C):
            code += bytes.fromhex(f"73{HERE[2:]}")
        if op in (0x56, 0x57):
            code += bytes([0x60, min(len(code) + draw.choice([3, 3, 3, 4, 9]), 255), op, 0x5B])
            continue
        code += bytes([op])
        if draw.random() < 0.3:
            code += bytes([0x61, draw.randrange(4), draw.randrange(256)])
    return bytes(code) + bytes.fromhex("5952595ff3")


@pytest.mark.slow
def test_programs_at_random_return_what_the_node_returns(osaka: Node) -> None:
    """Most end well; those that take too much memory here end for lack of gas there."""
    ended = {"well": 0, "badly": 0, "unrun": 0}
    for seed in range(400):
        draw = random.Random(seed)
        program, data = _program(draw), draw.randbytes(draw.randrange(80))
        try:
            found = _run(program, data)
        except Unrunnable:
            ended["unrun"] += 1
            continue
        assert found == _on_chain(osaka, {HERE: program}, data), (seed, program.hex())
        ended["badly" if found is None else "well"] += 1
    assert ended["well"] > 50, ended
    assert ended["badly"] > 20, ended


CALLS = {
    "static": "5f5f5f5f73{}5afa",
    "plain": "5f5f5f5f5f73{}5af1",
    "delegated": "5f5f5f5f73{}5af4",
    "into memory": "60405f60205f73{}5afa",
}
CALLEES = {
    "itself and its caller": "305f5233602052365f5260405ff3",
    "a revert with data": "60aa5f5260205ffd",
    "nothing": "00",
    "an invalid instruction": "fe",
    "an empty stack": "01",
    "another contract": f"5f5f5f5f73{FAR[2:]}5afa5f523d60205260405ff3",
}


@pytest.mark.parametrize("callee", CALLEES)
def test_calls_of_each_kind_return_what_the_node_returns(osaka: Node, callee: str) -> None:
    for call in CALLS.values():
        ending = "60605260605f3d5f60803e3d60405260c05ff3"  # whether it went well, how much came back, and that
        codes = {
            HERE: bytes.fromhex(call.format(THERE[2:]) + ending.replace("60605f3d5f", "3d5f", 1)),
            THERE: bytes.fromhex(CALLEES[callee]),
            FAR: bytes.fromhex("335f5260205ff3"),
        }
        found = _run(codes)
        assert found is not None
        assert found == _on_chain(osaka, codes)


def test_words_of_storage_are_those_of_whoever_is_called(osaka: Node) -> None:
    """A delegated call reads the caller's."""
    codes = {HERE: bytes.fromhex(f"60205f5f5f73{THERE[2:]}5af45060205ff3"), THERE: bytes.fromhex("6001545f5260205ff3")}
    assert _run(codes, storage={(HERE, 1): 5, (THERE, 1): 6}) == (5).to_bytes(32)
    for address, word in ((HERE, 5), (THERE, 6)):
        osaka.rpc("anvil_setStorageAt", address, f"0x{1:064x}", f"0x{word:064x}")
    assert _on_chain(osaka, codes) == (5).to_bytes(32)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("3a", "it takes GASPRICE"),
        ("5f5f55", "it takes SSTORE"),
        ("43405f40", "it takes BLOCKHASH"),
        ("5f5f5f5f600160095af1", "it pays"),
        ("5f5f5f5f60015afa", "it calls the precompiled contract 0x0+1"),
        ("5f5f5f5f60645afa", "it calls the precompiled contract 0x0+64"),
        ("5b5f56", "steps"),
        ("5f63ffffffff52", "bytes of memory"),
        (f"5f5f5f5f73{HERE[2:]}5afa", "contracts deep"),
    ],
    ids=["gas-price", "write", "block-hash", "pay", "recovery", "of-a-chain", "endless", "memory", "deep"],
)
def test_what_cannot_be_worked_out_is_named(code: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evm, "_MOST_STEPS", 10_000)
    with pytest.raises(Unrunnable, match=said):
        _run(bytes.fromhex(code))


def test_what_the_block_says() -> None:
    said = _run(bytes.fromhex("425f5243602052466040524760605260805ff3"))
    assert said is not None
    assert [int.from_bytes(said[at : at + 32]) for at in range(0, 128, 32)] == [1_700_000_000, 5, 31_337, 7]
    assert _run(b"") == b""
    assert _run(bytes.fromhex("5f5f5f5f60045afa5f5260205ff3")) == (1).to_bytes(32)


def test_a_jump_into_data_ends_badly() -> None:
    assert _run(bytes.fromhex("600456605b00")) is None
    assert _run(bytes.fromhex("6003565b00")) == b""
