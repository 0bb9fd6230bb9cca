"""What each call moved, in native units: as its own log says, since scaled units alone do not tell it.

A transfer of aTokens logs the scaled amount only (its ``Transfer`` log, which has the amount, is not fetched: every
mint and burn emits one too). Several amounts scale to the same number once the index is above one ray; the roundest of
them is taken, as people type amounts. It matters only where a replay recomputes interest, and then by at most one or
two units.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtest.protocols.aave.columns import words
from backtest.protocols.aave_v3 import bundles
from backtest.protocols.aave_v3.bundles import Codes, Keys
from backtest.protocols.aave_v3.frame import SOURCES, Frame
from backtest.protocols.aave_v3.tokens import DIRECTED_COLLATERAL
from backtest.tables import AMOUNT
from backtest.units import RAY
from backtest.words.columns import Words

# Closing log to the column of its amount.
LOGGED = {
    "Supply": "amount",
    "MintUnbacked": "amount",
    "Withdraw": "amount",
    "Borrow": "amount",
    "Repay": "amount",
    "MintedToTreasury": "amount_minted",
    "DeficitCovered": "amount_covered",
}
_NUMBER = {source[0]: number for number, source in enumerate(SOURCES)}


def moved(
    frame: Frame, segment: Mapping[str, pa.Table], closing: Keys, transfers: npt.NDArray[np.bool_], rule: Codes,
    unscaled: npt.NDArray[np.bool_],
    value: Words, index: Words,
) -> pa.Array:  # fmt: skip
    """One amount a position change, DECIMAL(38, 0): its call's, or that of its transfer; null where neither says it.

    ``closing`` is the row of the frame that closes each change's action; the rest are columns of the changes
    themselves.
    """
    found, known = np.zeros((len(closing), 2), np.uint64), np.zeros(len(closing), np.bool_)
    for event, column in LOGGED.items():
        rows = np.flatnonzero(frame.source[closing] == _NUMBER[event])
        if len(rows):
            found[rows] = words(segment[event], column)[frame.source_row[closing[rows]]]
            known[rows] = True
    rows = np.flatnonzero(transfers & (frame.kind[closing] == bundles.TRANSFER))
    for row in rows.tolist():
        scaled, ray = (int(low) | int(high) << 64 for low, high in (value[row], index[row]))
        amount = scaled if unscaled[row] else roundest(*_range(scaled, ray, rule[row] == DIRECTED_COLLATERAL))
        found[row] = amount & 0xFFFFFFFFFFFFFFFF, amount >> 64
    known[rows] = True
    valid = pa.array(known).buffers()[1]
    return pa.Array.from_buffers(AMOUNT, len(closing), [valid, pa.py_buffer(found)])


def _range(scaled: int, index: int, directed: bool) -> tuple[int, int]:
    """Least and greatest amount that scales to this number: divided by the index rounding up (3.5+), or to nearest
    (``rayDiv``).
    """
    if not scaled:
        return 0, 0
    if directed:
        return (scaled - 1) * index // RAY + 1, scaled * index // RAY
    # (amount * RAY + index // 2) // index == scaled
    low = -((index // 2 - scaled * index) // RAY)
    high = ((scaled + 1) * index - 1 - index // 2) // RAY
    return low, high


def roundest(low: int, high: int) -> int:
    """The number within [low, high] that ends in the most zeros; the lowest of those."""
    power, best = 10, low
    while low and (multiple := -(-low // power) * power) <= high:
        best = multiple
        power *= 10
    return best
