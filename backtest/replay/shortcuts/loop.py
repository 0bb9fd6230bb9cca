"""The inner loop of a replay as machine code: from one event of users or governance to the next, prices and indexes
advance, whoever may be unsafe is looked at, and liquidators take what pays.

It is compiled once for each protocol, with that one's functions in the place of those named here
(``protocols.loop.CompiledRules``). ``stretch`` prepares what it reads and makes records of what it wrote.
"""

from __future__ import annotations

from functools import cache
from inspect import getsource
from math import exp
from sys import modules
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from backtest.protocols.loop import (
    ACCOUNT,
    COLLATERAL_ASSET,
    DEBT_ASSET,
    DONE,
    FEE,
    LOST_AMOUNT,
    LOST_ASSET,
    MARKET,
    MOMENT,
    ORACLE,
    REPAID,
    SEIZED,
    CompiledRules,
)  # fmt: skip
from backtest.replay.watch.compiled import first_unsafe
from backtest.replay.watch.queue import put, remove
from backtest.units import RAY, SECONDS_PER_YEAR
from backtest.words.digits import compiled
from backtest.words.machine import digest, digits_of, word_of_digit, word_of_pair

U = np.uint64
_0 = U(0)
_RAY, _YEAR, _WORD = float(RAY), float(SECONDS_PER_YEAR), 2.0**64
PRICE_UPDATE, INDEX_UPDATE, MARKET_PRICE, OTHER = range(4)
"""Kinds of events, as the loop reads them."""

# Floats of an asset's index, in units of one and yearly shares.
UPDATED, SUPPLY, BORROW, SUPPLY_RATE, BORROW_RATE = range(5)
INDEX = 5
# Sums of base units that the loop keeps, two words each.
TOOK_REPAID, TOOK_SEIZED, TOOK_FEE, REALISED, PEAK = range(0, 10, 2)
SUMS = 10
# Where it stands, when it comes back.
TRANSACTION, TICK, COUNT, USED, PEAKED_AT, ENDED, EVENTS, GONE = range(8)
STATE = 8


class Events(NamedTuple):
    """A timeline for the loop. By transaction: where its rows end, block, time, whether nothing but prices and indexes
    is in it, and whether it is a tick; by row: kind, and place among its kind; by kind: asset, words, whether known.
    """

    ends: Any
    block: Any
    time: Any
    passes: Any
    ticks: Any
    kind: Any
    place: Any
    price_asset: Any
    price: Any
    priced: Any
    index_asset: Any
    index: Any
    market_asset: Any
    market: Any
    marketed: Any


class Looks(NamedTuple):
    """Forms, when each is looked up next, and the values over ticks: as ``watch.foresight`` has them; columns and
    shares of parameters that are known ahead: as ``watch.screen.Rows``.
    """

    account: Any
    span: Any
    column: Any
    weight: Any
    base: Any
    due: Any
    head: Any
    after: Any
    before: Any
    values: Any
    unit_of: Any
    low: Any
    high: Any
    offset: Any
    path: Any
    share: Any


class Scratch(NamedTuple):
    """Room for the rows of a tick and the terms of a form."""

    rows: Any
    start: Any
    stop: Any
    found: Any
    who: Any
    row_of: Any
    calls: Any
    owes: Any
    refused: Any
    assets: Any
    owed: Any
    amounts: Any
    gone: Any


def _moment(*args: Any) -> Any:
    """Stands for that of the protocol."""


def _index(*args: Any) -> Any:
    """Stands for that of the protocol."""


def _form(*args: Any) -> Any:
    """Stands for that of the protocol."""


def _add(sums: Any, place: int, amount: Any) -> None:
    _, _, sums[place], sums[place + 1] = digits_of(word_of_pair(sums[place], sums[place + 1]) + amount)


def _valued(row: Any, place: int, asset: Any, price: Any, known: Any, units: Any) -> Any:
    """Native units at the oracle price, in base units, rounded down; 0 without a price."""
    if not known[asset, ORACLE]:
        return word_of_digit(_0)
    amount = word_of_pair(row[place], row[place + 1])
    return (
        amount
        * word_of_pair(price[asset, ORACLE], price[asset, ORACLE + 1])
        // word_of_pair(units[asset, 0], units[asset, 1])
    )


def _reformed(
    columns: Any, account: int, row: int, looks: Any, scratch: Any, assets: int, price: Any, indexes: Any, time: int,
    tilt: float,
) -> bool:  # fmt: skip
    """The row's form is the account's as it is now; False where it owes nothing. Terms never become more."""
    count, constant = _form(columns, account, scratch.assets, scratch.owed, scratch.amounts)
    begin = looks.span[row, 0]
    if not count:
        for part in range(3):
            looks.span[row, part] = 0
        return False
    follows = False
    for term in range(begin, looks.span[row, 1]):
        follows |= looks.column[term] > 2 * assets
    place, most, base = begin, 0.0, 0
    for owed in (False, True):
        for term in range(count):
            if scratch.owed[term] != owed:
                continue
            of, amount = scratch.assets[term], scratch.amounts[term]
            years = max(0.0, time - indexes[of, UPDATED]) / _YEAR
            if owed:
                low = indexes[of, BORROW] * (1.0 + indexes[of, BORROW_RATE] * years)
                looks.column[place], looks.weight[place] = 1 + assets + of, amount / low * tilt
                worth = amount * (np.float64(price[of, ORACLE]) * _WORD + np.float64(price[of, ORACLE + 1]))
                if worth > most:
                    base, most = 1 + of, worth
            else:
                high = indexes[of, SUPPLY] * exp(indexes[of, SUPPLY_RATE] * years)
                if follows and looks.path[of] >= 0:
                    looks.column[place], looks.weight[place] = looks.path[of], amount / high / looks.share[of]
                else:
                    looks.column[place], looks.weight[place] = 1 + of, amount / high
            place += 1
        if not owed:
            looks.span[row, 1] = place
    looks.column[place], looks.weight[place] = 0, -constant * tilt
    looks.span[row, 2], looks.base[row] = place + 1, base
    return True


def _run(
    columns: Any, events: Any, looks: Any, scratch: Any, price: Any, known: Any, units: Any, indexes: Any, made: Any,
    lost: Any, refused: Any, done: Any, done_in: Any, sums: Any, state: Any, last_block: int, stop: int, cost: int,
    most: int, tilt: float,
) -> None:  # fmt: skip
    """Transactions from ``state[TRANSACTION]`` on, up to ``stop`` or to the first that is not the loop's: ``ENDED``
    says how the last moment ended. ``TICK`` is of the chunk; ``done`` and ``done_in`` (accounts): calls, and the block
    of the last.
    """
    assets, count, used, tick = len(price), state[COUNT], state[USED], state[TICK]
    state[ENDED] = DONE
    transaction = state[TRANSACTION]
    while transaction < stop:
        if not events.passes[transaction] or events.block[transaction] > last_block:
            break
        if events.ticks[transaction] and tick + 1 >= len(looks.head):
            break
        first = events.ends[transaction - 1] if transaction else 0
        time, block = events.time[transaction], events.block[transaction]
        for event in range(first, events.ends[transaction]):
            at = events.place[event]
            if events.kind[event] == PRICE_UPDATE:
                of = events.price_asset[at]
                known[of, ORACLE] = events.priced[at]
                price[of, ORACLE], price[of, ORACLE + 1] = events.price[at, 0], events.price[at, 1]
            elif events.kind[event] == MARKET_PRICE:
                of = events.market_asset[at]
                known[of, MARKET] = events.marketed[at]
                price[of, MARKET], price[of, MARKET + 1] = events.market[at, 0], events.market[at, 1]
            else:
                of = events.index_asset[at]
                _index(columns, of, events.index[at], time)
                indexes[of, UPDATED] = time
                for number in range(4):
                    high, low = events.index[at, 2 * number], events.index[at, 2 * number + 1]
                    indexes[of, 1 + number] = (np.float64(high) * _WORD + np.float64(low)) / _RAY
        if not events.ticks[transaction]:
            state[EVENTS] += events.ends[transaction] - first
            transaction += 1
            continue
        due = 0
        row = looks.head[tick]
        while row >= 0:  # they were unsafe a tick ago
            scratch.rows[due], scratch.start[due], scratch.stop[due] = row, tick + 1, len(looks.head)
            due += 1
            row = looks.after[row]
        if due:
            first_unsafe(
                scratch.rows[:due], scratch.start, scratch.stop, looks.span, looks.column, looks.weight, looks.base,
                looks.values, looks.unit_of, looks.low, looks.high, looks.offset, scratch.found,
            )  # fmt: skip
            for at in range(due):
                put(scratch.rows[at], scratch.found[at], looks.due, looks.head, looks.after, looks.before)
        unsafe = 0
        row = looks.head[tick + 1]
        while row >= 0:
            account = looks.account[row]
            scratch.who[unsafe], scratch.row_of[unsafe] = account, row
            scratch.calls[unsafe] = done[account] if done_in[account] == block else 0
            unsafe += 1
            row = looks.after[row]
        if unsafe:
            ended, number, rest = _moment(
                columns, scratch.who[:unsafe], price, known, time, cost, scratch.calls, most, made, count, lost, used,
                scratch.refused, scratch.owes,
            )  # fmt: skip
            if ended != DONE:
                state[ENDED] = ended
                break
            for at in range(count, number):
                owing, held = np.int64(made[at, DEBT_ASSET]), np.int64(made[at, COLLATERAL_ASSET])
                made[at, MOMENT] = U(transaction)
                _add(sums, TOOK_REPAID, _valued(made[at], REPAID, owing, price, known, units))
                _add(sums, TOOK_SEIZED, _valued(made[at], SEIZED, held, price, known, units))
                _add(sums, TOOK_FEE, _valued(made[at], FEE, held, price, known, units))
                account = np.int64(made[at, ACCOUNT])
                if done_in[account] != block:
                    done[account], done_in[account] = 0, block
                done[account] += 1
            for at in range(used, rest):
                _add(
                    sums, REALISED, _valued(lost[at], LOST_AMOUNT, np.int64(lost[at, LOST_ASSET]), price, known, units)
                )
            bad = word_of_pair(sums[REALISED], sums[REALISED + 1])
            changed = 0
            for at in range(unsafe):
                bad += word_of_digit(U(scratch.owes[at]))
                account, row = scratch.who[at], scratch.row_of[at]
                for reason in range(refused.shape[1]):
                    refused[account, reason] |= scratch.refused[at, reason]
                if done_in[account] == block and done[account] != scratch.calls[at]:
                    if _reformed(columns, account, row, looks, scratch, assets, price, indexes, time, tilt):
                        scratch.rows[changed], scratch.start[changed] = row, tick + 1
                        scratch.stop[changed] = len(looks.head)
                        changed += 1
                    else:
                        remove(row, looks.due, looks.head, looks.after, looks.before)
                        scratch.gone[state[GONE]] = row
                        state[GONE] += 1
            if changed:
                first_unsafe(
                    scratch.rows[:changed], scratch.start, scratch.stop, looks.span, looks.column, looks.weight,
                    looks.base, looks.values, looks.unit_of, looks.low, looks.high, looks.offset, scratch.found,
                )  # fmt: skip
            for at in range(changed):
                put(scratch.rows[at], scratch.found[at], looks.due, looks.head, looks.after, looks.before)
            if bad > word_of_pair(sums[PEAK], sums[PEAK + 1]):
                _, _, sums[PEAK], sums[PEAK + 1] = digits_of(bad)
                state[PEAKED_AT] = transaction
            count, used = number, rest
        tick += 1
        state[EVENTS] += events.ends[transaction] - first
        transaction += 1
    state[TRANSACTION], state[TICK], state[COUNT], state[USED] = transaction, tick, count, used


@cache
def _composed(moment: Any, index: Any, form: Any) -> Any:
    own = {"_moment": moment, "_index": index, "_form": form}

    def made(function: Any) -> Any:
        twin = FunctionType(function.__code__, {**globals(), **own}, function.__name__)
        twin.__qualname__ = function.__qualname__
        return compiled(twin, made_of=digest(twin, _SOURCE), inner=function is not _run, borrows=True)

    for inner in (_add, _valued, _reformed):
        own[inner.__name__] = made(inner)
    return made(_run)


def loop_of(rules: CompiledRules) -> Any:
    """The loop with a protocol's rules."""
    return _composed(rules.moment, rules.index, rules.form)


_SOURCE = getsource(modules[__name__])
