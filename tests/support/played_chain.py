"""The logs of a made-up chain played on a local node, so that blocks have true hashes, blooms, receipts and receipts
roots.

Contracts at the chain's own addresses are a few bytes of code: called with a selector, they return the word stored at
it; called with a count, topics and data, they log those.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backtest.fetch.adapters import selector
from tests.chain.node import Node, Transaction
from tests.support.synthetic import CHAIN_ID, FACTORY, Chain, made_up_chain, word

_OPS = {
    "STOP": 0x00, "ADD": 0x01, "SUB": 0x03, "EQ": 0x14, "SHL": 0x1B, "SHR": 0x1C, "CALLDATALOAD": 0x35,
    "CALLDATASIZE": 0x36, "CALLDATACOPY": 0x37, "POP": 0x50, "MSTORE": 0x52, "SLOAD": 0x54, "JUMPI": 0x57,
    "JUMPDEST": 0x5B, "DUP1": 0x80, "DUP2": 0x81, "SWAP1": 0x90, "RETURN": 0xF3,
}  # fmt: skip


def _assembled(text: str) -> str:
    """Words are operations, numbers are pushed as two bytes, ``@name`` pushes where ``:name`` stands."""
    code, labels, wanted = bytearray(), {}, []
    for part in text.split():
        if part[0] == ":":
            labels[part[1:]] = len(code)
            code.append(_OPS["JUMPDEST"])
        elif part[0] == "@" or part.isdigit():
            code.append(0x61)
            wanted += [(len(code), part[1:])] if part[0] == "@" else []
            code += b"\0\0" if part[0] == "@" else int(part).to_bytes(2, "big")
        else:
            code.append(int(part[1:], 16) if part[0] == "x" else _OPS[part])
    for place, name in wanted:
        code[place : place + 2] = labels[name].to_bytes(2, "big")
    return "0x" + code.hex()


def _code() -> str:
    text = "CALLDATASIZE 4 EQ @read JUMPI 0 CALLDATALOAD 248 SHR DUP1 5 SHL 1 ADD DUP1 CALLDATASIZE SUB SWAP1"
    text += " DUP2 SWAP1 0 CALLDATACOPY SWAP1"
    text += "".join(f" DUP1 {count} EQ @log{count} JUMPI" for count in range(1, 5)) + " STOP"
    for count in range(1, 5):
        topics = " ".join(f"{1 + 32 * at} CALLDATALOAD" for at in reversed(range(count)))
        text += f" :log{count} POP {topics} x{0x80 + count:x} 0 x{0xA0 + count:x} STOP"
    return _assembled(text + " :read 0 CALLDATALOAD 224 SHR SLOAD 0 MSTORE 32 0 RETURN")


def played(node: Node, chain: Chain) -> None:
    """Play the logs of a chain, block by block; contracts answer ``symbol()``, ``decimals()`` and the like."""
    addresses = {log.address for logs in chain.logs.values() for log in logs}
    created = [log for logs in chain.logs.values() for log in logs if log.address == FACTORY]
    assets = ["0x" + log.data[-40:] for log in created]
    for address in sorted(addresses | set(assets)):
        node.rpc("anvil_setCode", address, _code())
    for number, log in enumerate(created):
        asset, vault = assets[number], "0x" + log.topics[1][-40:]
        for where, function, value in (
            (asset, "symbol()", word(f"TOK{number}".encode())),
            (asset, "decimals()", word(18 - number)),
            (vault, "VAULT_REVISION()", word(number + 1)),
        ):
            node.rpc("anvil_setStorageAt", where, "0x" + word(int(selector(function), 16)), "0x" + value)
    for block in range(1, chain.height + 1):
        sent: list[Transaction] = []
        for log in chain.logs.get(block, ()):
            data = f"0x{len(log.topics):02x}" + "".join(topic[2:] for topic in log.topics) + log.data
            sent.append({"from": node.admin, "to": log.address, "data": data})
        if sent:
            node.send_block(sent)
        else:
            node.mine()


@contextmanager
def played_chain(height: int = 120, per_block: float = 2.0, seed: int = 4) -> Iterator[tuple[Node, Chain]]:
    """A local node whose chain has the logs of a made-up one."""
    chain = made_up_chain(height=height, per_block=per_block, seed=seed, odd=False)
    with Node(chain_id=CHAIN_ID) as node:
        played(node, chain)
        yield node, chain
