"""Block headers: the fields that are hashed, in their order, of every fork; and what of one is read.

Source: ethereum/execution-specs, ``Header`` of each fork (``src/ethereum/forks/*/blocks.py``). Forks add fields at the
end: London base_fee_per_gas, Shanghai withdrawals_root, Cancun blob_gas_used, excess_blob_gas,
parent_beacon_block_root, Prague requests_hash. A reader needs none of that: the hash is that of the bytes, and parent,
state root, number and time have stood in their places since the first block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rlp
from eth_utils.crypto import keccak

from backtest.proofs.tries import Unproven

_HEX = re.compile("0x[0-9a-fA-F]*", re.ASCII)
_DATA, _NUMBER = "data", "number"
FIELDS: tuple[tuple[str, str], ...] = (
    ("parentHash", _DATA),
    ("sha3Uncles", _DATA),
    ("miner", _DATA),
    ("stateRoot", _DATA),
    ("transactionsRoot", _DATA),
    ("receiptsRoot", _DATA),
    ("logsBloom", _DATA),
    ("difficulty", _NUMBER),
    ("number", _NUMBER),
    ("gasLimit", _NUMBER),
    ("gasUsed", _NUMBER),
    ("timestamp", _NUMBER),
    ("extraData", _DATA),
    ("mixHash", _DATA),
    ("nonce", _DATA),
)
LATER: tuple[tuple[str, str], ...] = (
    ("baseFeePerGas", _NUMBER),
    ("withdrawalsRoot", _DATA),
    ("blobGasUsed", _NUMBER),
    ("excessBlobGas", _NUMBER),
    ("parentBeaconBlockRoot", _DATA),
    ("requestsHash", _DATA),
)
"""Fields of later forks, each of which has all before it."""
_STATE_ROOT, _BLOCK_NUMBER, _TIMESTAMP = 3, 8, 11


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """A header: its hash (lower-case 0x text), state root, number and time (seconds since 1970)."""

    hash: str
    state_root: bytes
    number: int
    timestamp: int


def encoded_header(block: Mapping[str, Any]) -> bytes:
    """The RLP of a header from a block as ``eth_getBlockByNumber`` gives it. ValueError where a field lacks or is not
    0x hex.
    """
    fields = [*FIELDS, *((name, kind) for name, kind in LATER if block.get(name) is not None)]
    values = []
    for name, kind in fields:
        text = block.get(name)
        if not isinstance(text, str) or not _HEX.fullmatch(text):
            raise ValueError(f"it has no {name}")
        digits = text[2:]
        if kind == _NUMBER:
            number = int(digits or "0", 16)
            values.append(number.to_bytes((number.bit_length() + 7) // 8))
        else:
            values.append(bytes.fromhex(digits))
    return bytes(rlp.encode(values))


def read_header(data: bytes) -> BlockHeader:
    """A header from its RLP. Unproven where it is none."""
    try:
        fields = rlp.decode(data)
    except rlp.exceptions.RLPException:
        raise Unproven("the block's header is not RLP") from None
    if (
        not isinstance(fields, list | tuple)
        or len(fields) < len(FIELDS)
        or not all(isinstance(field, bytes) for field in fields)
        or len(fields[_STATE_ROOT]) != 32
        or not all(len(fields[at]) <= 8 for at in (_BLOCK_NUMBER, _TIMESTAMP))
    ):
        raise Unproven("the block's header does not have the fields of one")
    number, timestamp = (int.from_bytes(fields[at]) for at in (_BLOCK_NUMBER, _TIMESTAMP))
    return BlockHeader("0x" + keccak(data).hex(), fields[_STATE_ROOT], number, timestamp)
