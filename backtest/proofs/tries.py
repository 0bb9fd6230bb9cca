"""Values of Ethereum's tries from a bag of their nodes: Yellow Paper, appendix D; each node goes by its hash, so that a
node that is not the one named is as good as none. RLP and tries are the libraries ``rlp`` and ``trie``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import rlp
from eth_utils.crypto import keccak
from trie.exceptions import MissingTraversalNode, MissingTrieNode
from trie.hexary import HexaryTrie

NO_CODE = keccak(b"")


class Unproven(Exception):
    """The proof does not show what it should; the message is one clause."""


class Absent(Unproven):
    """The block has no such contract, which is proven."""


@dataclass(slots=True)
class Nodes:
    """A bag of trie nodes by hash, and of contracts' codes by theirs. Remembers which were used, so that a proof with
    others in it can be refused, and which words were read.
    """

    by_hash: dict[bytes, bytes] = field(default_factory=dict)
    codes: dict[bytes, bytes] = field(default_factory=dict)
    used: set[bytes] = field(default_factory=set)
    words: set[tuple[str, int]] = field(default_factory=set)
    accounts: dict[tuple[bytes, str], list[bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[bytes], codes: Iterable[bytes] = ()) -> Nodes:
        """A bag of these."""
        return cls({keccak(node): node for node in nodes}, {keccak(code): code for code in codes})

    def add(self, nodes: Iterable[bytes]) -> None:
        """More of them."""
        self.by_hash |= {keccak(node): node for node in nodes}

    def add_code(self, code: bytes) -> None:
        """A contract's code more."""
        self.codes[keccak(code)] = code

    def storage_root(self, state_root: bytes, contract: str) -> bytes:
        """The root of a contract's storage. Unproven where a node lacks, Absent where there is no contract."""
        fields = self._account(state_root, contract)
        if len(fields) != 4 or fields[3] == NO_CODE or len(fields[2]) != 32:
            raise Absent(f"there is no contract {contract} in this block")
        return fields[2]

    def code(self, state_root: bytes, address: str) -> bytes:
        """The code of an account, empty where there is none. Unproven where a node or the code lacks."""
        fields = self._account(state_root, address)
        if len(fields) != 4 or fields[3] == NO_CODE:
            return b""
        if fields[3] not in self.codes:
            raise Unproven(f"the code of {address} lacks or is another")
        self.used.add(fields[3])
        return self.codes[fields[3]]

    def balance(self, state_root: bytes, address: str) -> int:
        """The wei of an account. Unproven where a node lacks."""
        fields = self._account(state_root, address)
        return int.from_bytes(fields[1]) if len(fields) == 4 else 0

    def _account(self, state_root: bytes, address: str) -> list[bytes]:
        """Nonce, balance, root of storage, hash of the code; nothing where the state has no such account."""
        if (state_root, address) not in self.accounts:
            found = self._get(state_root, keccak(bytes.fromhex(address[2:])), f"account {address}")
            self.accounts[state_root, address] = _list_of(found, f"account {address}") if found else []
        return self.accounts[state_root, address]

    def word(self, state_root: bytes, contract: str, slot: int) -> int:
        """A word of a contract's storage, 0 where the trie has none. Unproven where a node lacks."""
        what = f"slot {slot:#x} of {contract}"
        self.words.add((contract, slot))
        found = self._get(self.storage_root(state_root, contract), keccak(slot.to_bytes(32)), what)
        if not found:
            return 0
        value = _decoded(found, what)
        if not isinstance(value, bytes) or len(value) > 32:
            raise Unproven(f"{what} holds no word")
        return int.from_bytes(value)

    def _get(self, root: bytes, key: bytes, what: str) -> bytes:
        try:
            found = HexaryTrie(_Watched(self.by_hash, self.used), root).get(key)
        except (MissingTrieNode, MissingTraversalNode, KeyError):
            raise Unproven(
                f"the proof of {what} does not lead to the block: a node of it lacks or is another"
            ) from None
        return bytes(found)


class _Watched(dict[bytes, bytes]):
    """A database of nodes as the library asks for it, which notes what is read."""

    def __init__(self, nodes: Mapping[bytes, bytes], used: set[bytes]) -> None:
        super().__init__()
        self._nodes, self._used = nodes, used

    def __getitem__(self, key: bytes) -> bytes:
        found = self._nodes[key]
        self._used.add(key)
        return found

    def __contains__(self, key: object) -> bool:
        return key in self._nodes


def _decoded(data: bytes, what: str) -> Any:
    try:
        return rlp.decode(data)
    except rlp.exceptions.RLPException:
        raise Unproven(f"{what} is not RLP") from None


def _list_of(data: bytes, what: str) -> list[bytes]:
    value = _decoded(data, what)
    return [each for each in value if isinstance(each, bytes)] if isinstance(value, list | tuple) else []
