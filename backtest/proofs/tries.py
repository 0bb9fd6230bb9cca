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
    """A bag of trie nodes by hash. Remembers which were used, so that a proof with others in it can be refused."""

    by_hash: dict[bytes, bytes] = field(default_factory=dict)
    used: set[bytes] = field(default_factory=set)
    roots: dict[tuple[bytes, str], bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[bytes]) -> Nodes:
        """A bag of these."""
        return cls({keccak(node): node for node in nodes})

    def add(self, nodes: Iterable[bytes]) -> None:
        """More of them."""
        self.by_hash |= {keccak(node): node for node in nodes}

    def storage_root(self, state_root: bytes, contract: str) -> bytes:
        """The root of a contract's storage. Unproven where a node lacks, Absent where there is no contract."""
        known = self.roots.get((state_root, contract))
        if known is not None:
            return known
        found = self._get(state_root, keccak(bytes.fromhex(contract[2:])), f"contract {contract}")
        fields = _list_of(found, f"contract {contract}") if found else []
        if len(fields) != 4 or fields[3] == NO_CODE or len(fields[2]) != 32:
            raise Absent(f"there is no contract {contract} in this block")
        self.roots[state_root, contract] = fields[2]
        return fields[2]

    def word(self, state_root: bytes, contract: str, slot: int) -> int:
        """A word of a contract's storage, 0 where the trie has none. Unproven where a node lacks."""
        what = f"slot {slot:#x} of {contract}"
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
