"""What a header proves: that its fields are those of its hash, and which logs its block has. Pure.

A block's hash is the keccak of its header in RLP (Yellow Paper, section 4.4; EIP-1559, 4895, 4844, 4788 and 7685 added
fields at its end, in this order). The header's ``receiptsRoot`` is the root of a Merkle-Patricia trie of the block's
receipts by their index (section 4.3.1 and appendix D; EIP-2718 for those with a type), and receipts hold all logs. So
receipts that give this root are the block's own, whoever sent them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rlp
from eth_utils.crypto import keccak

_ALWAYS = (
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty",
    "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce",
)  # fmt: skip
_LATER = (
    "baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash",
)  # fmt: skip
_NUMBERS = frozenset(
    ("difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed", "excessBlobGas")
)
_DEPOSIT = 0x7E
"""Optimism's deposit transactions: from Canyon on their receipts end with two further fields (OP specs, "Deposits")."""


def header_holds(header: Mapping[str, Any]) -> bool:
    """Whether the fields of a header (as ``eth_getBlockByNumber`` gives them) have the keccak that it names as its
    hash. False as well for a header of a chain with other fields, of which this says nothing.
    """
    try:
        fields = [_field(header, name) for name in _ALWAYS]
        fields += [_field(header, name) for name in _LATER if header.get(name) is not None]
        return keccak(rlp.encode(fields)) == _bytes(header["hash"])
    except (KeyError, ValueError, TypeError, AttributeError):
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


def _field(row: Mapping[str, Any], name: str) -> bytes:
    return _number(row[name]) if name in _NUMBERS else _bytes(row[name])


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
    if not values:
        return keccak(rlp.encode(b""))
    items = sorted((_nibbles(rlp.encode(index)), value) for index, value in enumerate(values))
    return keccak(rlp.encode(_node(items)))


def _nibbles(key: bytes) -> tuple[int, ...]:
    return tuple(nibble for byte in key for nibble in (byte >> 4, byte & 15))


def _path(nibbles: Sequence[int], leaf: bool) -> bytes:
    """Hex-prefix encoding (Yellow Paper, appendix C)."""
    odd = len(nibbles) % 2
    flagged = [2 * leaf + odd, *([] if odd else [0]), *nibbles]
    return bytes(high << 4 | low for high, low in zip(flagged[::2], flagged[1::2], strict=True))


def _node(items: Sequence[tuple[tuple[int, ...], bytes]]) -> list[Any]:
    """The node over these keys and values; keys are distinct, sorted, and what is left of them."""
    if len(items) == 1:
        return [_path(items[0][0], True), items[0][1]]
    first, last = items[0][0], items[-1][0]
    shared = next(
        (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other),
        min(len(first), len(last)),
    )
    if shared:
        return [_path(first[:shared], False), _child([(key[shared:], value) for key, value in items])]
    branch: list[Any] = [b""] * 17
    for nibble in range(16):
        below = [(key[1:], value) for key, value in items if key and key[0] == nibble]
        if below:
            branch[nibble] = _child(below)
    branch[16] = next((value for key, value in items if not key), b"")
    return branch


def _child(items: Sequence[tuple[tuple[int, ...], bytes]]) -> Any:
    """A node as its parent holds it: whole where it is short, else its hash."""
    node = _node(items)
    encoded = rlp.encode(node)
    return node if len(encoded) < 32 else keccak(encoded)
