"""What the compiled loop asks of Morpho Blue (``protocols.loop.CompiledRules``).

Each liquidation moves the market's totals, on which all others depend, by its roundings: after each, those who may pay
most are quoted anew, as ``together`` does. A moment is tried as a whole: where a number does not fit, or an offer
stays, the columns are as before and the plain rules take over. ``tests/protocols/morpho_blue/test_morpho_loop.py``
compares the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest.protocols.loop import (
    ACCOUNT,
    BEFORE,
    COLLATERAL_ASSET,
    COMMON,
    DEBT_ASSET,
    DONE,
    LOST_AMOUNT,
    LOST_ASSET,
    LOST_COMMON,
    LOST_IN,
    MARKET,
    NO_DEBT_LEFT,
    NO_ROOM,
    NOT_HERE,
    ORACLE,
    PROFIT,
    REPAID,
    SEIZED,
)  # fmt: skip
from backtest.protocols.morpho_blue import account as health
from backtest.protocols.morpho_blue import irm, liquidation, state
from backtest.protocols.morpho_blue.liquidation import HEALTHY, NOTHING, ON_OFFER
from backtest.words.columns import Words
from backtest.words.digits import WordConstant
from backtest.words.machine import (
    digits_of,
    in_place,
    machine,
    put_each,
    put_pair,
    put_row,
    within,
    word_of_digit,
    word_of_pair,
)  # fmt: skip

U = np.uint64
_1 = U(1)
_offered, _most_of, _left_by = machine(liquidation.offered), machine(liquidation.most_of), machine(liquidation.left_by)
_at_most, _is_between = machine(liquidation.offered_at_most), machine(liquidation.is_between)
_least_after = machine(liquidation.least_assets_after)
_valued, _rate, _interest = machine(health.valued), machine(irm.borrow_rate), machine(state.interest_down)
_RATE_SCALE, _FITS = WordConstant(state.RATE_SCALE), WordConstant(1 << 63)

# An account's numbers (``account.row_of``), each of two words, the low one first.
HELD, OWED = 0, 1
# Rows of the market's numbers, two words each, the low one first.
SUPPLY_ASSETS, SUPPLY_SHARES, BORROW_ASSETS, BORROW_SHARES, SHARE_OF_FEE, RATE, TARGET = range(7)
LLTV, INCENTIVE, UNIT, LOAN_UNIT = range(7, 11)
MARKET_ROWS = 11
# Its other numbers.
UPDATED, CURVE = range(2)
"""Seconds; whether it uses the adaptive curve."""
# A liquidation's own words: shares repaid, shares written off, the rates of the accrual before it.
SHARES, LOST_SHARES, ACCRUED_RATE, ACCRUED_TARGET = range(COMMON, COMMON + 8, 2)
MADE, LOST = COMMON + 8, LOST_COMMON
_LOAN, _COLLATERAL = int(state.LOAN), int(state.COLLATERAL)


@within
def _of(rows: Words, place: int) -> Any:
    return word_of_pair(rows[place, 1], rows[place, 0])


@within
def _keep(rows: Words, place: int, number: Any) -> None:
    d3, d2, d1, d0 = digits_of(number)
    if d3 | d2:
        raise OverflowError("number")
    rows[place, 0], rows[place, 1] = d0, d1


@within
def _price(price: Words, known: Any, asset: int) -> Any:
    """What an asset is bought and sold for."""
    place = MARKET if known[asset, MARKET] else ORACLE
    return word_of_pair(price[asset, place], price[asset, place + 1])


@within
def _accrue(market: Words, numbers: Any, timestamp: int) -> tuple[Any, Any]:
    """As ``MorphoState.accrued``: in place, and the rates that a call now would accrue with."""
    elapsed = timestamp - numbers[UPDATED]
    if elapsed < 0:
        raise OverflowError("time")
    seconds = word_of_digit(U(elapsed))
    supplied, borrowed = _of(market, SUPPLY_ASSETS), _of(market, BORROW_ASSETS)
    rate, end = _of(market, RATE), word_of_digit(U(0))
    if numbers[CURVE]:
        rate, end = _rate(supplied, borrowed, _of(market, TARGET), seconds)
    if elapsed:
        shares = _of(market, SUPPLY_SHARES)
        interest, fee = _interest(borrowed, supplied, shares, _of(market, SHARE_OF_FEE), rate, seconds)
        _keep(market, BORROW_ASSETS, borrowed + interest)
        _keep(market, SUPPLY_ASSETS, supplied + interest)
        _keep(market, SUPPLY_SHARES, shares + fee)
        numbers[UPDATED] = timestamp
        if numbers[CURVE]:
            _keep(market, TARGET, end)
    return rate, end


@within
def _health(held: Words, market: Words, price: Any, loan_price: Any) -> Any:
    """Of a position: see ``account.valued``."""
    return _valued(
        _of(held, HELD), _of(held, OWED), _of(market, BORROW_ASSETS), _of(market, BORROW_SHARES), price, loan_price,
        _of(market, LLTV), _of(market, UNIT), _of(market, LOAN_UNIT),
    )  # fmt: skip


@within
def _quoted(position: Words, market: Words, price: Any, sold: Any, loan: Any) -> tuple[Any, Any]:
    """How a call ends that asks for as much as possible (``liquidation.offered``), and what it pays."""
    how, paid, brought = _offered(
        _of(position, OWED), _of(position, HELD), _of(market, BORROW_ASSETS), _of(market, BORROW_SHARES), price,
        _of(market, LLTV), _of(market, INCENTIVE), sold, loan, _of(market, UNIT), _of(market, LOAN_UNIT),
    )  # fmt: skip
    profit = brought - paid
    if profit >= _FITS or -profit >= _FITS:
        raise OverflowError("profit")
    return np.int64(digits_of(how)[3]), np.int64(digits_of(profit)[3])


@within
def _choose(
    held: Words, rank: Any, accounts: Any, gone: Any, market: Words, price: Any, sold: Any, loan: Any, cost: int,
    calls: Any, most: int, refused: Any,
) -> tuple[int, bool, Any]:  # fmt: skip
    """Of all that are there: the place of who pays most (-1: nobody does), whether an offer stands that does not pay,
    and the profit.
    """
    best, stays, least = -1, False, np.int64(cost)
    for place in range(len(accounts)):
        account = accounts[place]
        if gone[place] or not _of(held[account], OWED):
            continue
        how, pays = _quoted(held[account], market, price, sold, loan)
        if how == HEALTHY:
            continue
        if how != ON_OFFER:
            refused[place, 0 if how == NOTHING else 1] = True
        elif pays <= cost or calls[place] >= most:
            stays = True
        elif pays > least or (best >= 0 and pays == least and rank[account] < rank[accounts[best]]):
            best, least = place, pays
    return best, stays, least


@within
def _sift(order: Any, bound: Any, root: int, count: int) -> None:
    """The first ``count`` of a heap whose root, the least, may be none."""
    while 2 * root + 1 < count:
        child = 2 * root + 1
        if child + 1 < count and bound[order[child + 1]] < bound[order[child]]:
            child += 1
        if bound[order[root]] <= bound[order[child]]:
            return
        order[root], order[child] = order[child], order[root]
        root = child


@within
def _sort(order: Any, bound: Any, count: int) -> None:
    """Places by their bound, the greatest first: in place, by a heap."""
    for root in range(count // 2 - 1, -1, -1):
        _sift(order, bound, root, count)
    for left in range(count - 1, 0, -1):
        order[0], order[left] = order[left], order[0]
        _sift(order, bound, 0, left)


@within
def _list(
    held: Words, accounts: Any, gone: Any, market: Words, price: Any, sold: Any, loan: Any, cost: int, calls: Any,
    most: int, order: Any, bound: Any,
) -> tuple[Any, int]:  # fmt: skip
    """Who may pay as long as debt per share stays as it is but for roundings (``liquidation.offered_at_most``), in
    order of how much at most: down to which assets at the shares of now, and how many they are.
    """
    calls_left = 1  # that of the one who is taken now
    for place in range(len(accounts)):
        calls_left += not gone[place]
    assets, shares = _of(market, BORROW_ASSETS), _of(market, BORROW_SHARES)
    lltv, incentive = _of(market, LLTV), _of(market, INCENTIVE)
    unit, loan_unit = _of(market, UNIT), _of(market, LOAN_UNIT)
    least, listed = _least_after(assets, word_of_digit(U(calls_left))), 0
    for place in range(len(accounts)):
        owed = _of(held[accounts[place]], OWED)
        if gone[place] or not owed:
            continue
        pays = _at_most(
            owed, _of(held[accounts[place]], HELD), assets, shares, least, price, lltv, incentive, sold, loan, unit,
            loan_unit,
        )  # fmt: skip
        if pays >= _FITS:
            raise OverflowError("profit")
        if pays > 0 and calls[place] < most and np.int64(digits_of(pays)[3]) > cost:
            order[listed], bound[place] = place, np.int64(digits_of(pays)[3])
            listed += 1
    _sort(order, bound, listed)
    return least, listed


@within
def _choose_listed(
    held: Words, rank: Any, accounts: Any, market: Words, price: Any, sold: Any, loan: Any, cost: int,
    order: Any, bound: Any, first: int, listed: int,
) -> tuple[int, Any]:  # fmt: skip
    """As ``_choose`` of all that are there, with a list that holds: place and profit. The chosen one becomes the first
    of the list, from ``first`` on.
    """
    best, least = -1, np.int64(cost)
    for at in range(first, listed):
        place = order[at]
        if bound[place] < least:
            break
        account = accounts[place]
        how, pays = _quoted(held[account], market, price, sold, loan)
        if how != ON_OFFER or pays <= cost:
            continue
        if best < 0 or pays > least or (pays == least and rank[account] < rank[accounts[order[best]]]):
            best, least = at, pays
    if best < 0:
        return -1, least
    place = order[best]
    for at in range(best, first, -1):
        order[at] = order[at - 1]
    order[first] = place
    return place, least


@within
def _take(
    row: Words, position: Words, market: Words, price: Any, loan_price: Any, account: int, profit: int, rate: Any,
    end: Any,
) -> Any:  # fmt: skip
    """A position that pays is called, in the market and in a row; the shares that are written off, and their debt."""
    owed, collateral = _of(position, OWED), _of(position, HELD)
    assets, total = _of(market, BORROW_ASSETS), _of(market, BORROW_SHARES)
    shares, seized = _most_of(owed, collateral, price, _of(market, INCENTIVE), assets, total)
    _, _, _, before = _health(position, market, price, loan_price)
    repaid, lost_shares, written_off, assets, total = _left_by(shares, seized, owed, collateral, assets, total)
    if shares + lost_shares != owed:
        raise OverflowError("debt is left")
    _keep(market, BORROW_ASSETS, assets)
    _keep(market, BORROW_SHARES, total)
    _keep(market, SUPPLY_ASSETS, _of(market, SUPPLY_ASSETS) - written_off)
    put_each(row, U(0))
    row[ACCOUNT], row[DEBT_ASSET], row[COLLATERAL_ASSET] = U(account), U(_LOAN), U(_COLLATERAL)
    row[NO_DEBT_LEFT], row[PROFIT] = _1, U(profit)
    put_pair(row, REPAID, repaid)
    put_pair(row, SEIZED, seized)
    put_pair(row, BEFORE, before)
    put_pair(row, SHARES, shares)
    put_pair(row, LOST_SHARES, lost_shares)
    put_pair(row, ACCRUED_RATE, rate)
    put_pair(row, ACCRUED_TARGET, end)
    return lost_shares, written_off


@within
def _all(
    held: Words, rank: Any, accounts: Any, scratch: Any, market: Words, numbers: Any, price: Words, known: Any,
    timestamp: int, cost: int, calls: Any, most: int, made: Words, number: int, lost: Words, rest: int, refused: Any,
    owes: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """Everyone who pays, in turn; who is gone, the market and its numbers are as they are then."""
    gone, order, bound = scratch
    oracle = word_of_pair(price[_COLLATERAL, ORACLE], price[_COLLATERAL, ORACLE + 1])
    loan_oracle = word_of_pair(price[_LOAN, ORACLE], price[_LOAN, ORACLE + 1])
    sold, loan = _price(price, known, _COLLATERAL), _price(price, known, _LOAN)
    rate, end = _accrue(market, numbers, timestamp)
    first, at, listed, stays = number, 0, 0, False
    least, highest, shares = word_of_digit(U(0)), word_of_digit(U(0)), word_of_digit(U(0))
    while True:
        place, profit = -1, np.int64(cost)
        holds = listed and _is_between(_of(market, BORROW_ASSETS), _of(market, BORROW_SHARES), least, highest, shares)
        if holds:
            place, profit = _choose_listed(
                held, rank, accounts, market, oracle, sold, loan, cost, order, bound, at, listed
            )
            at += 1
        if place < 0:
            place, stays, profit = _choose(
                held, rank, accounts, gone, market, oracle, sold, loan, cost, calls, most, refused
            )
            if place < 0:
                break
            highest, shares = _of(market, BORROW_ASSETS), _of(market, BORROW_SHARES)
            gone[place] = True
            least, listed = _list(held, accounts, gone, market, oracle, sold, loan, cost, calls, most, order, bound)
            at = 0
        if number >= len(made) or rest >= len(lost):
            return NO_ROOM, number, rest
        if number > first:  # nothing is left to accrue, and the contract's event says at which rate
            rate, end = _accrue(market, numbers, timestamp)
        account = accounts[place]
        lost_shares, written_off = _take(
            made[number], held[account], market, oracle, loan_oracle, account, profit - cost, rate, end
        )
        if lost_shares:
            lost[rest, LOST_IN], lost[rest, LOST_ASSET] = U(number), U(_LOAN)
            put_pair(lost[rest], LOST_AMOUNT, written_off)
            rest += 1
        gone[place] = True
        number += 1
    if stays:
        return NOT_HERE, number, rest
    for place in range(len(accounts)):
        position = held[accounts[place]]
        if not gone[place] and _of(position, OWED):
            worth, debt, _, _ = _health(position, market, oracle, loan_oracle)
            short = debt - worth
            if short >= _FITS:
                raise OverflowError("debt")
            owes[place] = np.int64(digits_of(short)[3]) if short > 0 else 0
    return DONE, number, rest


@in_place
def moment(
    columns: Any, accounts: Any, price: Words, known: Any, timestamp: int, cost: int, calls: Any, most: int,
    made: Words, count: int, lost: Words, used: int, refused: Any, owes: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """See ``CompiledRules``."""
    held, plain, rank, kept, kept_numbers, scratch, market, numbers = columns
    gone = scratch[0]
    if not known[_COLLATERAL, ORACLE] or not known[_LOAN, ORACLE]:
        return NOT_HERE, count, used
    for place in range(len(accounts)):
        put_each(refused[place], False)
        owes[place], gone[place] = 0, False
        if plain[accounts[place]]:
            return NOT_HERE, count, used
    for row in range(MARKET_ROWS):
        put_row(market[row], kept[row])
    put_row(numbers, kept_numbers)
    status, number, rest = NOT_HERE, count, used
    try:
        status, number, rest = _all(
            held, rank, accounts, scratch, market, numbers, price, known, timestamp, cost, calls, most, made, count,
            lost, used, refused, owes,
        )  # fmt: skip
    except Exception:
        status = NOT_HERE
    if status != DONE:
        return status, count, used
    for at in range(count, number):
        position = held[np.int64(made[at, ACCOUNT])]
        _keep(position, HELD, _of(position, HELD) - word_of_pair(made[at, SEIZED], made[at, SEIZED + 1]))
        position[OWED, 0] = position[OWED, 1] = U(0)
    if number > count:  # nobody else accrues
        for row in range(MARKET_ROWS):
            put_row(kept[row], market[row])
        put_row(kept_numbers, numbers)
    return DONE, number, rest


@in_place
def index(columns: Any, asset: int, words: Words, timestamp: int) -> None:
    """See ``CompiledRules``: the recorded rate of the period that begins."""
    rate = word_of_pair(words[6], words[7]) // _RATE_SCALE
    columns[3][RATE, 0], columns[3][RATE, 1] = digits_of(rate)[3], digits_of(rate)[2]


@in_place
def form(columns: Any, account: int, assets: Any, owes: Any, amounts: Any) -> tuple[int, float]:
    """See ``CompiledRules``: whoever is liquidated owes nothing afterwards."""
    return 0, 0.0
