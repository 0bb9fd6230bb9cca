"""The pruning screen on three books of 100,000 accounts x 8 assets x 20,000 ticks, against a dense compiled loop over
the same book in the same run.

``python -m tests.bench.bench_screen`` prints the rows; ``make bench`` collects ``run()``. Both sides look for each
account's first crossing, with the same number of threads, and must find the same. Each side gets the book as arrays of
its kind; the screen's time includes the pyramid.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from backtest.replay.watch.bounds import Pyramid, groups
from backtest.replay.watch.forms import Forms

ACCOUNTS, ASSETS, TICKS = 100_000, 8, 20_000
THREADS = os.cpu_count() or 1
ETH, STAKED = 0, 1  # they move together; other assets of the first half by themselves, those of the second half hardly


@dataclass
class Book:
    """``held`` and ``owed``: accounts x assets, weights (threshold included; not negative). An account's weights hold
    from ``first`` to ``stop``.
    """

    name: str
    prices: np.ndarray
    held: np.ndarray
    owed: np.ndarray
    first: np.ndarray
    stop: np.ndarray

    def pyramid(self) -> Pyramid:
        """The bounds of its prices. Columns: the assets, then the base currency itself."""
        assets = self.prices.shape[1]
        bases = [leader if leader >= 0 else assets for leader in groups(self.prices)]
        return Pyramid.over(np.concatenate([self.prices, np.ones((len(self.prices), 1))], axis=1), bases)

    def forms(self) -> Forms:
        """As the screen takes it: sparse, the base is what is owed most."""
        held, owed = self.held > 0, self.owed > 0
        both = np.stack([held, owed], axis=1)
        weights = np.stack([self.held, self.owed], axis=1)
        ends = np.concatenate([[0], np.cumsum(both.sum(axis=2).ravel())])
        column = np.broadcast_to(np.arange(both.shape[2], dtype=np.int32), both.shape)[both]
        most = np.argmax(self.owed * self.prices[0], axis=1)
        return Forms(ends, column, weights[both], most.astype(np.int32))


def walk(ticks: int, fall: float, draw: np.random.Generator, assets: int = ASSETS) -> np.ndarray:
    """Prices: one volatile asset moves a tick, by 0.1 %; all of them fall by ``fall`` in the middle tenth.

    The staked token follows ETH within 0.05 %.
    """
    log, volatile = np.zeros((ticks, assets)), assets // 2
    log[np.arange(ticks), np.arange(ticks) % volatile] = draw.normal(0, 0.001, ticks)
    log[ticks * 9 // 20 : ticks * 11 // 20, :volatile] += np.log(1 - fall) / max(1, ticks // 10)
    log = np.cumsum(log, axis=0)
    log[:, STAKED] = log[:, ETH] + 0.0005 * np.sin(np.arange(ticks) / 500) + np.arange(ticks) * 1e-7
    log[:, volatile:] = draw.normal(0, 1e-5, (ticks, assets - volatile))
    return np.exp(log) * np.repeat([2000.0, 1.0], [volatile, assets - volatile])


def book(
    name: str,
    accounts: int = ACCOUNTS,
    ticks: int = TICKS,
    *,
    fall: float = 0.0,
    loops: float = 0.0,
    actions: int = 0,
    assets: int = ASSETS,
) -> Book:
    """Accounts that hold two volatile assets and owe one or two stable ones at a health of 1.05 to 3; a share ``loops``
    of them hold the staked token and owe ETH at a health of 1.01 to 1.05. With ``actions`` each changes its weights so
    often, at random ticks (a row for each stretch); half of those rows are under a threshold of another step of a
    ramp.
    """
    draw, volatile = np.random.default_rng(1), assets // 2
    prices = walk(ticks, fall, draw, assets)
    rows = accounts * (actions + 1)
    cut = np.sort(draw.integers(1, ticks, (accounts, actions)), axis=1)
    first = np.concatenate([np.zeros((accounts, 1), dtype=np.int64), cut], axis=1)
    stop = np.concatenate([cut, np.full((accounts, 1), ticks)], axis=1)
    account = np.repeat(np.arange(accounts), actions + 1)
    at = prices[first.ravel()]
    held, owed = np.zeros((rows, assets)), np.zeros((rows, assets))
    row = np.arange(rows)
    one, two = account % volatile, (account // 4) % volatile
    debt, more = volatile + (account // 16) % (assets - volatile), volatile + (account // 64) % (assets - volatile)
    worth = 10 ** draw.uniform(2, 6, rows)
    health = draw.uniform(1.05, 3, rows)
    ramp = np.where(row % 2, 1.0, draw.integers(98, 101, rows) / 100) if actions else np.ones(rows)
    held[row, one] += worth * 0.4 * ramp / at[row, one]
    held[row, two] += worth * 0.4 * ramp / at[row, two]
    owed[row, debt] += worth * 0.4 / health / at[row, debt]
    owed[row, more] += worth * 0.4 / health / at[row, more]
    looped = account < loops * accounts
    held[looped], owed[looped] = 0, 0
    tight = draw.uniform(1.01, 1.05, rows)
    held[looped, STAKED] = (worth / at[:, STAKED])[looped]
    owed[looped, ETH] = (worth / tight / at[:, ETH])[looped]
    return Book(name, prices, held, owed, first.ravel(), stop.ravel())


@numba.njit(nogil=True)
def _dense(
    held: np.ndarray, owed: np.ndarray, prices: np.ndarray, first: np.ndarray, stop: np.ndarray, found: np.ndarray
) -> None:
    for row in range(len(found)):
        found[row] = stop[row]
        for tick in range(first[row], stop[row]):
            value = 0.0
            for asset in range(prices.shape[1]):
                value += (held[row, asset] - owed[row, asset]) * prices[tick, asset]
            if not value > 0.0:
                found[row] = tick
                break


def dense(book: Book, threads: int) -> np.ndarray:
    """Every account at every tick up to its first crossing."""
    found = np.empty(len(book.first), dtype=np.int64)
    edges = [k * len(found) // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        arrays = [[a[i:j] for a in (book.held, book.owed, found, book.first, book.stop)] for i, j in pairwise(edges)]
        list(pool.map(lambda a: _dense(a[0], a[1], book.prices, a[3], a[4], a[2]), arrays))
    return found


def screen(book: Book, forms: Forms, threads: int) -> tuple[np.ndarray, int]:
    """The same by the screen, from prices and sparse rows."""
    return book.pyramid().first_unsafe(forms, np.arange(len(forms)), book.first, book.stop, threads=threads)


def _best(call: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def run(accounts: int = ACCOUNTS, ticks: int = TICKS) -> list[dict[str, Any]]:
    """Account-ticks a second on the three books and on loops alone."""
    small = book("warm", 200, 300, loops=0.5, actions=2)
    screen(small, small.forms(), 1), dense(small, 1)
    rows = []
    for made in (
        book("calm", accounts, ticks),
        book("crash", accounts, ticks, fall=0.4),
        book("LST loops", accounts, ticks, loops=1.0),
        book("event-heavy", accounts, ticks, fall=0.1, loops=0.3, actions=4),
    ):
        forms = made.forms()
        seconds, (found, looks) = _best(lambda m=made, f=forms: screen(m, f, THREADS), 5)
        plain, same = _best(lambda m=made: dense(m, THREADS), 2)
        if found.tolist() != same.tolist():
            raise AssertionError(f"{made.name}: the screen and the dense loop differ")
        total = accounts * ticks
        shape = (
            f"{accounts} accounts x {ASSETS} assets x {ticks} ticks, {len(found)} rows, {int((same < made.stop).sum())}"
            f" cross, {looks / total:.2g} of account-ticks evaluated, {seconds * 1e3:.0f} ms on {THREADS} threads"
        )
        name = f"screen, {made.name}"
        rows.append(
            {
                "name": name,
                "value": total / seconds,
                "unit": "account-ticks/s",
                "baseline": total / plain,
                "ratio": plain / seconds,
                "shape": shape,
            }
        )
    return rows + curves(accounts, ticks)


def curves(accounts: int, ticks: int) -> list[dict[str, Any]]:
    """How the screen's time on the crash book grows in accounts, ticks and assets."""
    sizes = [(accounts // k, ticks, ASSETS) for k in (4, 2, 1)]
    sizes += [(accounts, ticks // k, ASSETS) for k in (4, 2)] + [(accounts, ticks, ASSETS * k) for k in (2, 4)]
    rows = []
    for some, few, assets in sizes:
        made = book("crash", some, few, fall=0.4, assets=assets)
        forms = made.forms()
        seconds, _ = _best(lambda m=made, f=forms: screen(m, f, THREADS), 9)
        shape = f"{some} accounts x {assets} assets x {few} ticks"
        rows.append(
            {
                "name": "cost curve, screen",
                "value": seconds * 1e3,
                "unit": "ms",
                "baseline": None,
                "ratio": None,
                "shape": shape,
            }
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:20} {row['value']:>20,.1f} {row['unit']:16} {row['ratio'] or 0:>8,.0f} {row['shape']}")
