"""Addresses numbered in the order in which they first come, millions of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from backtest.words.digits import Digit, U, compiled

Keys = npt.NDArray[np.int64]
Quads = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.int32]

_0, _1, _32 = U(0), U(1), U(32)
SPREAD = U(0x9E3779B97F4A7C15)


@compiled
def _hash(words: Quads, row: int) -> Digit:
    mixed = _0
    for place in range(5):
        mixed = (mixed ^ U(words[row, place])) * SPREAD
        mixed ^= mixed >> _32
    return mixed


@compiled
def _place(known: Quads, count: int, slots: Numbers) -> None:
    """Enter the first ``count`` known addresses into an empty open-addressed table."""
    mask = U(len(slots) - 1)
    for number in range(count):
        slot = _hash(known, number) & mask
        while slots[slot] != -1:
            slot = (slot + _1) & mask
        slots[slot] = number


@compiled
def _intern(
    words: Quads, order: Keys, start: int, known: Quads, count: int, slots: Numbers, ids: Numbers
) -> tuple[int, int]:
    """Number the addresses in ``order`` from its ``start`` on, each new one by the next number, until the table is half
    full.

    Returns how far in ``order`` it came, and the count.
    """
    mask = U(len(slots) - 1)
    for step in range(start, len(order)):
        row = order[step]
        slot = _hash(words, row) & mask
        while True:
            number = slots[slot]
            if number == -1:
                if count == len(known):
                    return step, count
                slots[slot] = number = count
                known[count] = words[row]
                count += 1
                break
            same = True
            for place in range(5):
                same = same and known[number, place] == words[row, place]
            if same:
                break
            slot = (slot + _1) & mask
        ids[row] = number
    return len(order), count


class Addresses:
    """Addresses numbered from 0 in the order in which they first come."""

    def __init__(self) -> None:
        self._count = 0
        self._known = np.zeros((1 << 11, 5), np.uint32)
        self._slots = np.full(1 << 12, -1, np.int32)

    def __len__(self) -> int:
        return self._count

    def all(self, start: int = 0) -> list[bytes]:
        """Every address from a number on, by number."""
        joined = self._known[start : self._count].tobytes()
        return [joined[place : place + 20] for place in range(0, len(joined), 20)]

    def number(self, addresses: Quads, order: Keys) -> Numbers:
        """Numbers of addresses (rows of five 32-bit words); new ones are numbered as ``order``, a permutation, meets
        them.
        """
        ids = np.zeros(len(addresses), np.int32)
        done = 0
        while done < len(order):
            if self._count == len(self._known):
                self._known = np.concatenate([self._known, np.zeros_like(self._known)])
                self._slots = np.full(2 * len(self._known), -1, np.int32)
                _place(self._known, self._count, self._slots)
            done, self._count = _intern(addresses, order, done, self._known, self._count, self._slots, ids)
        return ids
