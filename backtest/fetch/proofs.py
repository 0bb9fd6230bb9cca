"""What a proof of an account takes from a node: a block's header, words of storage with the trie nodes that prove them,
code, and views. Every word and code is checked against the header before it is believed, and what a view answers is
worked out from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from backtest.errors import FetchError, UserError
from backtest.fetch.rpc import Refused, Rpc
from backtest.fetch.state import call_data
from backtest.model import Reading
from backtest.proofs import Absent, BlockHeader, Nodes, Unproven, encoded_header, read_header, view_of, word_of
from backtest.proofs.evm import Unrunnable
from backtest.protocols.storage import Question, Slot

_SLOTS_AT_ONCE = 64
"""Slots of a contract in one eth_getProof."""
_ANOTHER = "use another node"


class _StorageProof(msgspec.Struct):
    proof: list[str]


class _AccountProof(msgspec.Struct, rename="camel"):
    account_proof: list[str]
    storage_proof: list[_StorageProof]


def fetch_header(rpc: Rpc, block: int) -> tuple[bytes, BlockHeader]:
    """The header of a block, as RLP and read.

    The node's own encoding is asked for only where the fields that are known do not give the hash it names.

    Raises:
        FetchError: the node does not have the block, or what it says of it does not have the hash that it names.
    """
    told = rpc.call("eth_getBlockByNumber", [hex(block), False], dict[str, Any] | None)
    if told is None:
        raise FetchError(f"{rpc.name} has no block {block}", "give a block that exists")
    named = told.get("hash")
    for own in (False, True):
        try:
            data = _own_encoding(rpc, block) if own else encoded_header(told)
            found = read_header(data)
        except (ValueError, Unproven, FetchError, Refused):
            continue
        if found.hash == named and found.number == block:
            return data, found
    raise FetchError(
        f"{rpc.name}: the header of block {block} does not have the hash that it names: the chain's headers have fields"
        " that are not known here, or the node is wrong",
        "use a node that answers debug_getRawHeader, or another one",
    )


def _own_encoding(rpc: Rpc, block: int) -> bytes:
    return bytes.fromhex(str(rpc.call("debug_getRawHeader", [hex(block)], str)).removeprefix("0x"))


class Prover:
    """Answers the questions of a protocol's steps at the end of one block, and keeps what proves the answers.

    Attributes:
        nodes: trie nodes, every one from ``block.state_root`` down, and codes. What views need is asked for when they
            need it.
    """

    def __init__(self, rpc: Rpc, block: BlockHeader) -> None:
        self.rpc, self.block, self._chain = rpc, block, rpc.chain_id()
        self.nodes = Nodes()
        self._codes: dict[str, bytes] = {}
        self._views: dict[Reading, int | None] = {}
        self._words: dict[Slot, int] = {}

    def answer(self, questions: Sequence[Question]) -> list[int | None]:
        """In order. FetchError where the node has no proof, or one that does not hold; UserError where the block has no
        such contract.
        """
        slots = [each for each in questions if not isinstance(each, Reading) and each not in self._words]
        self._prove(sorted(set(slots)))
        self._ask([each for each in questions if isinstance(each, Reading) and each not in self._views])
        return [self._views[each] if isinstance(each, Reading) else self._words[each] for each in questions]

    def view(self, asked: Reading) -> int | None:
        """What a view said that was asked; None where it reverted."""
        return self._views[asked]

    def word(self, contract: str, slot: int) -> int:
        """A word of an account's storage."""
        self._prove([(contract, slot)] if (contract, slot) not in self._words else [])
        return self._words[contract, slot]

    def code(self, address: str) -> bytes:
        """An account's code."""
        if address not in self._codes:
            self._know(address)
            told = self.rpc.call("eth_getCode", [address, hex(self.block.number)], str)
            try:
                self.nodes.add_code(bytes.fromhex(told.removeprefix("0x")))
                self._codes[address] = self.nodes.code(self.block.state_root, address)
            except (ValueError, Unproven) as error:
                raise FetchError(f"{self.rpc.name}: eth_getCode of {address}: {error}", _ANOTHER) from None
        return self._codes[address]

    def balance(self, address: str) -> int:
        """An account's wei."""
        self._know(address)
        return self.nodes.balance(self.block.state_root, address)

    def _know(self, address: str) -> None:
        """An account's own fields, with their proof."""
        (reply,) = self.rpc.call_many([("eth_getProof", [address, [], hex(self.block.number)])], _AccountProof | None)
        if reply is None:
            raise FetchError(f"{self.rpc.name} gave no proof of {address} at block {self.block.number}", _ANOTHER)
        try:
            self.nodes.add(bytes.fromhex(node.removeprefix("0x")) for node in reply.account_proof)
            self.nodes.balance(self.block.state_root, address)
        except (ValueError, Unproven) as error:
            raise FetchError(f"{self.rpc.name}: eth_getProof of {address}: {error}", _ANOTHER) from None

    def _prove(self, slots: Sequence[Slot]) -> None:
        by_contract: dict[str, list[int]] = {}
        for contract, slot in slots:
            by_contract.setdefault(contract, []).append(slot)
        parts = [
            (contract, of[start : start + _SLOTS_AT_ONCE])
            for contract, of in by_contract.items()
            for start in range(0, len(of), _SLOTS_AT_ONCE)
        ]
        block = hex(self.block.number)
        calls = [("eth_getProof", [contract, [f"0x{slot:064x}" for slot in of], block]) for contract, of in parts]
        for (contract, of), reply in zip(parts, self.rpc.call_many(calls, _AccountProof | None), strict=True):
            if reply is None:
                raise FetchError(f"{self.rpc.name} gave no proof of {contract} at block {self.block.number}", _ANOTHER)
            try:
                for proof in (reply.account_proof, *(each.proof for each in reply.storage_proof)):
                    self.nodes.add(bytes.fromhex(node.removeprefix("0x")) for node in proof)
                for slot in of:
                    self._words[contract, slot] = self.nodes.word(self.block.state_root, contract, slot)
            except Absent as error:
                raise UserError(str(error), "choose a later block, or correct the market") from None
            except (ValueError, Unproven) as error:
                raise FetchError(f"{self.rpc.name}: eth_getProof of {contract}: {error}", _ANOTHER) from None

    def _ask(self, views: Sequence[Reading]) -> None:
        calls = [(each.address, call_data(each), self.block.number) for each in views]
        for view, data in zip(views, self.rpc.eth_calls(calls), strict=True):
            said = word_of(data, view)
            try:
                found = view_of(self, self._chain, self.block, view)
            except Unrunnable:
                found = said
            if found != said:
                raise FetchError(
                    f"{self.rpc.name}: {view.function} of {view.address} says {said}, its own code {found}",
                    "the node is wrong, or the chain's instructions are not Ethereum's: use another node",
                )
            self._views[view] = said
