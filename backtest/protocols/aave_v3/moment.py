"""What the compiled loop asks of Aave V3 (``protocols.loop.CompiledRules``), over the columns of a ``live.Live``.

A moment is tried as a whole: where a number does not fit, a reserve may run short, or an offer stays, the columns are
as before and the plain rules take over. ``tests/replay/shortcuts/test_loop.py`` compares the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest.protocols.aave_v3 import math
from backtest.protocols.aave_v3.compiled import (
    AVERAGED,
    CLEARS,
    COLLATERAL_BALANCE,
    COLLATERAL_ROW,
    COUNTS,
    DEBT_INDEX,
    EXECUTION,
    INCOME,
    LEAVES,
    ON_OFFER,
    OPEN,
    PRICE,
    UNFIT,
    UNIT,
    Ints,
    Mask,
    Words,
    _ray_mul,
    _two,
    one_by_one,
)  # fmt: skip
from backtest.protocols.aave_v3.compiled import MARKET as MARKET_PRICE
from backtest.protocols.aave_v3.compiled import NO_ROOM as NO_ROWS
from backtest.protocols.loop import (
    ACCOUNT,
    COLLATERAL_ASSET,
    DEBT_ASSET,
    DONE,
    INDEX_WORDS,
    MARKET,
    NO_ROOM,
    NOT_HERE,
    ORACLE,
    REPAID,
    SEIZED,
)  # fmt: skip
from backtest.units import BPS, RAY
from backtest.words.digits import WordConstant
from backtest.words.machine import (
    digits_of,
    in_place,
    machine,
    put_each,
    put_pair,
    within,
    word_of_digit,
    word_of_pair,
)  # fmt: skip

U = np.uint64
_0, _63 = U(0), U(63)
_earned, _half_up = machine(math.linear_interest), machine(math.ray_mul_half_up)
_owed_30, _owed_34 = machine(math.compounded_interest_v30), machine(math.compounded_interest_v34)
_PRICES, _INDEXES, _SIGN = WordConstant(1 << 63), WordConstant(1 << 112), WordConstant(1 << 128)

# An asset's reserve, beside its ``compiled`` terms: the last index update, and what the terms at a moment come from.
SUPPLY_INDEX, BORROW_INDEX, SUPPLY_RATE, BORROW_RATE = range(0, INDEX_WORDS, 2)
UPDATED, SHUT, GRACE, WIDE = range(INDEX_WORDS, INDEX_WORDS + 4)
RESERVE = INDEX_WORDS + 4
"""``SHUT``: not active, or paused. ``WIDE``: something does not fit, whatever the moment."""
# What a reserve can pay (see ``state.is_short``): its liquidity in two's complement, the most that one borrower holds
# of it (scaled), whether it is asked, and that most as a balance at the moment.
LIQUIDITY, LARGEST, ASKED, MOST = 0, 2, 4, 5
POOL = 7
# Numbers that hold for all.
CLOSE_FACTOR, GRACED, SERIES = range(3)
NUMBERS = 3


@within
def _signed(row: Words, place: int) -> Any:
    number = word_of_pair(row[place], row[place + 1])
    return number - _SIGN if row[place] >> _63 else number


@within
def _move(pool: Words, asset: int, by: Any) -> None:
    """What a reserve can pay changes."""
    _, _, pool[asset, LIQUIDITY], pool[asset, LIQUIDITY + 1] = digits_of(_signed(pool[asset], LIQUIDITY) + by)


@within
def _enter(
    terms: Words, reserves: Words, pool: Words, numbers: Ints, how: Ints, price: Words, known: Mask, timestamp: int
) -> None:
    """The terms of every asset at a moment: as ``valuation.terms_of``."""
    for asset in range(len(terms)):
        terms[asset, PRICE], terms[asset, UNFIT] = _0, reserves[asset, WIDE]
        if not known[asset, ORACLE]:
            continue
        oracle = word_of_pair(price[asset, ORACLE], price[asset, ORACLE + 1])
        market = word_of_pair(price[asset, MARKET], price[asset, MARKET + 1]) if known[asset, MARKET] else oracle
        elapsed = timestamp - np.int64(reserves[asset, UPDATED])
        income, index = _two(reserves, asset, SUPPLY_INDEX), _two(reserves, asset, BORROW_INDEX)
        if elapsed < 0:
            raise OverflowError("time")
        if elapsed:
            seconds = word_of_digit(U(elapsed))
            income = _half_up(_earned(_two(reserves, asset, SUPPLY_RATE), seconds), income)
            rate = _two(reserves, asset, BORROW_RATE)
            index = _half_up(_owed_34(rate, seconds) if numbers[SERIES] else _owed_30(rate, seconds), index)
        if oracle >= _PRICES or market >= _PRICES or income >= _INDEXES or index >= _INDEXES:
            terms[asset, UNFIT] = U(1)
            continue
        if terms[asset, UNFIT]:
            continue
        terms[asset, PRICE] = digits_of(oracle)[3]
        terms[asset, MARKET_PRICE] = terms[asset, EXECUTION] = digits_of(market)[3]
        put_pair(terms[asset], INCOME, income)
        put_pair(terms[asset], DEBT_INDEX, index)
        graced = numbers[GRACED] and np.int64(reserves[asset, GRACE]) >= timestamp
        terms[asset, OPEN] = U(not reserves[asset, SHUT] and not graced)
        if pool[asset, ASKED]:
            largest = word_of_pair(pool[asset, LARGEST], pool[asset, LARGEST + 1])
            put_pair(pool[asset], MOST, _ray_mul(largest, income, how[COLLATERAL_BALANCE]))


@within
def _short(pool: Words, asset: int, seized: Any) -> bool:
    """Whether a reserve may have too little once so much more of it is paid out."""
    before = _signed(pool[asset], LIQUIDITY)
    if not pool[asset, ASKED] or before < 0:
        return False
    return bool(before - seized < word_of_pair(pool[asset, MOST], pool[asset, MOST + 1]))


@within
def _pays(
    pool: Words, accounts: Ints, begin: Ints, end: Ints, asset: Ints, made: Words, first: int, count: int, gone: Words
) -> bool:
    """Whether every reserve can pay, whoever comes first."""
    for account in accounts:
        for row in range(begin[account], end[account]):
            if _short(pool, asset[row], word_of_digit(_0)):
                return False
    for number in range(first, count):
        put_each(gone[np.int64(made[number, COLLATERAL_ASSET])], _0)
    for number in range(first, count):
        of = np.int64(made[number, COLLATERAL_ASSET])
        seized = word_of_pair(made[number, SEIZED], made[number, SEIZED + 1])
        put_pair(gone[of], 0, word_of_pair(gone[of, 0], gone[of, 1]) + seized)
    for number in range(first, count):
        of = np.int64(made[number, COLLATERAL_ASSET])
        if _short(pool, of, word_of_pair(gone[of, 0], gone[of, 1])):
            return False
    return True


@within
def _leave(
    begin: Ints, end: Ints, asset: Ints, owed: Mask, scaled: Words, others: Ints, made: Words, first: int, count: int
) -> None:
    """Rows of debts that are paid and of flags that were cleared go."""
    for number in range(first, count):
        if made[number, CLEARS]:
            asset[np.int64(made[number, COLLATERAL_ROW])] = -1
            others[np.int64(made[number, ACCOUNT])] += made[number, CLEARS] == LEAVES
    for number in range(first, count):
        account = np.int64(made[number, ACCOUNT])
        kept = begin[account]
        for row in range(begin[account], end[account]):
            if asset[row] < 0 or (owed[row] and not (scaled[row, 0] | scaled[row, 1])):
                continue
            if kept != row:
                asset[kept], owed[kept] = asset[row], owed[row]
                scaled[kept, 0], scaled[kept, 1] = scaled[row, 0], scaled[row, 1]
            kept += 1
        end[account] = kept


@in_place
def moment(
    columns: Any, accounts: Ints, price: Words, known: Mask, timestamp: int, cost: int, calls: Ints, most: int,
    made: Words, count: int, lost: Words, used: int, refused: Mask, owes: Ints,
) -> tuple[int, int, int]:  # fmt: skip
    """See ``CompiledRules``."""
    (
        begin, end, asset, owed, scaled, value, group, threshold, bonus, how, terms, reserves, pool, numbers, kept,
        gone, out, best, none, others,
    ) = columns  # fmt: skip
    for account in accounts:
        if group[account] < 0:
            return NOT_HERE, count, used
    at = 0
    for account in accounts:
        for row in range(begin[account], end[account]):
            kept[at, 0], kept[at, 1] = scaled[row, 0], scaled[row, 1]
            at += 1
    status, number, rest = DONE, count, used
    try:
        _enter(terms, reserves, pool, numbers, how, price, known, timestamp)
        for place in range(len(accounts)):
            account = accounts[place]
            of = group[account]
            put_each(refused[place], False)
            ended, number, rest, collateral, debt = one_by_one(
                account, begin[account], end[account], asset, owed, scaled, value, terms, threshold[of], bonus[of], how,
                numbers[CLOSE_FACTOR], cost, calls[place], most, made, number, lost, rest, refused[place], out, best,
                none,
            )  # fmt: skip
            if ended == NO_ROWS:
                status = NO_ROOM
                break
            if ended == ON_OFFER:
                status = NOT_HERE
                break
            owes[place] = np.int64(debt) - np.int64(collateral) if debt > collateral else 0
        if status == DONE and not _pays(pool, accounts, begin, end, asset, made, count, number, gone):
            status = NOT_HERE
    except Exception:
        status = NOT_HERE
    if status != DONE:
        at = 0
        for account in accounts:
            for row in range(begin[account], end[account]):
                scaled[row, 0], scaled[row, 1] = kept[at, 0], kept[at, 1]
                at += 1
        return status, count, used
    for place in range(count, number):
        _move(pool, np.int64(made[place, DEBT_ASSET]), word_of_pair(made[place, REPAID], made[place, REPAID + 1]))
        _move(
            pool, np.int64(made[place, COLLATERAL_ASSET]), -word_of_pair(made[place, SEIZED], made[place, SEIZED + 1])
        )
    _leave(begin, end, asset, owed, scaled, others, made, count, number)
    return DONE, number, rest


@in_place
def index(columns: Any, asset: int, words: Words, timestamp: int) -> None:
    """See ``CompiledRules``."""
    reserves = columns[11]
    for place in range(INDEX_WORDS):
        reserves[asset, place] = words[place]
    reserves[asset, UPDATED] = U(timestamp)


@in_place
def form(columns: Any, account: int, assets: Ints, owes: Mask, amounts: Any) -> tuple[int, float]:
    """See ``CompiledRules``: as ``valuation.exposures``, in doubles, hence a unit more on the safe side."""
    begin, end, asset, owed, scaled = columns[0], columns[1], columns[2], columns[3], columns[4]
    group, threshold, how, terms = columns[6], columns[7], columns[9], columns[10]
    count = 0
    some = False
    for row in range(begin[account], end[account]):
        of = asset[row]
        if owed[row]:
            some = True
        elif not terms[of, COUNTS] or not (scaled[row, 0] | scaled[row, 1]):
            continue
        place = DEBT_INDEX if owed[row] else INCOME
        index = (np.float64(terms[of, place]) * 2.0**64 + np.float64(terms[of, place + 1])) / RAY_FLOAT
        balance = (np.float64(scaled[row, 1]) * 2.0**64 + np.float64(scaled[row, 0])) * index
        unit = np.float64(terms[of, UNIT])
        if owed[row]:
            amounts[count] = (np.ceil(balance) + 2.0) / unit
        else:
            share = max(np.int64(threshold[group[account], of]) - how[AVERAGED], 0) / BPS_FLOAT
            amounts[count] = max(np.floor(balance) - 2.0, 0.0) * share / unit
            if amounts[count] <= 0.0:
                continue
        assets[count], owes[count] = of, owed[row]
        count += 1
    return (count, -1.0 - count) if some else (0, 0.0)


RAY_FLOAT, BPS_FLOAT = float(RAY), float(BPS)
