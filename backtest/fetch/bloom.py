"""Header blooms: does a block hold logs of ours that did not come? Pure.

A header's logsBloom has 2048 bits; each address and each topic of the block's logs sets three of them (Yellow Paper,
section 4.4.1). A filter that lacks the bits of an address or a topic proves that the block has no such log. One that
has them may have them by chance, so the block is asked again by its hash, and only what then shows up is an omission.
Blocks of busy chains (Ethereum's mainnet above all) fill their blooms so far that almost everything matches by chance;
asking all of them again would double the work and prove nothing, so a bloom is called saturated, and skipped, when
a match by chance is likely: more than half a pair of those looked for is expected.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BITS = 2048


def positions(item: bytes) -> tuple[int, int, int]:
    """The three bits that an address (20 bytes) or topic (32 bytes) sets."""
    from eth_utils.crypto import keccak

    digest = keccak(item)
    first, second, third = (int.from_bytes(digest[i : i + 2], "big") % BITS for i in (0, 2, 4))
    return first, second, third


def bits(blooms: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Blooms (0x hex) as a (blooms, 2048) array, column i telling bit i; ValueError if one is malformed."""
    raw = b"".join(bytes.fromhex(bloom[2:]) for bloom in blooms)
    if len(raw) != len(blooms) * BITS // 8:
        raise ValueError("logsBloom is not 256 bytes of hex")
    unpacked = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(len(blooms), BITS // 8), axis=1)
    return unpacked[:, ::-1].astype(bool)


def contains(table: npt.NDArray[np.bool_], items: Sequence[tuple[int, int, int]]) -> npt.NDArray[np.bool_]:
    """(blooms, items): whether the bloom may hold the item."""
    where = np.array(items, dtype=np.int64).reshape(len(items), 3)
    return np.asarray(table[:, where].all(axis=2))


def saturated(table: npt.NDArray[np.bool_], pairs: int) -> npt.NDArray[np.bool_]:
    """Which blooms are so full that of ``pairs`` (address, topic) more than half a one is expected to match by
    chance.
    """
    return np.asarray(pairs * table.mean(axis=1) ** 6 > 0.5)
