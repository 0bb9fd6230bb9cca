"""What a header proves: that its fields are those of its hash, and which logs its block has. Pure.

A block's hash is the keccak of its header in RLP (``proofs.headers``). The header's ``receiptsRoot`` is the root of a
Merkle-Patricia trie of the block's receipts by their index (Yellow Paper, section 4.3.1 and appendix D; EIP-2718 for
those with a type), and receipts hold all logs. So receipts that give this root are the block's own, whoever sent them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rlp
from eth_utils.crypto import keccak
from trie.hexary import HexaryTrie

from backtest.proofs.headers import encoded_header

_DEPOSIT = 0x7E
"""Optimism's deposit transactions: from Canyon on their receipts end with two further fields (OP specs, "Deposits")."""


def header_holds(header: Mapping[str, Any]) -> bool:
    """Whether the fields of a header (as ``eth_getBlockByNumber`` gives them) have the keccak that it names as its
    hash. False as well for a header of a chain with other fields, of which this says nothing.
    """
    try:
        return keccak(encoded_header(header)) == _bytes(header["hash"])
    except (KeyError, ValueError, TypeError):
        return False


def receipts_hold(receipts: Sequence[Mapping[str, Any]], root: str) -> bool:
    """Whether these receipts of a block (as ``eth_getBlockReceipts`` gives them), in order, have this root."""
    try:
        return _root([_receipt(receipt) for receipt in receipts]) == _bytes(root)
    except (KeyError, ValueError, TypeError, AttributeError):
        return False


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _number(value: str | int) -> bytes:
    number = value if isinstance(value, int) else int(value, 16)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _receipt(receipt: Mapping[str, Any]) -> bytes:
    kind = int(_number(receipt.get("type") or "0x0").hex() or "0", 16)
    first = _bytes(receipt["root"]) if receipt.get("root") else _number(receipt["status"])
    logs = [
        [_bytes(log["address"]), [_bytes(topic) for topic in log["topics"]], _bytes(log["data"])]
        for log in receipt["logs"]
    ]
    fields: list[Any] = [first, _number(receipt["cumulativeGasUsed"]), _bytes(receipt["logsBloom"]), logs]
    if kind == _DEPOSIT and receipt.get("depositReceiptVersion") is not None:
        fields += [_number(receipt["depositNonce"]), _number(receipt["depositReceiptVersion"])]
    encoded: bytes = rlp.encode(fields)
    return encoded if kind == 0 else bytes([kind]) + encoded


def _root(values: Sequence[bytes]) -> bytes:
    """The root of the trie that has value number i at the key rlp(i)."""
    trie = HexaryTrie({})
    for index, value in enumerate(values):
        trie[rlp.encode(index)] = value
    return bytes(trie.root_hash)
