"""Many accounts in one call: ``account.account_data`` and ``liquidation.quote`` over rows, as machine code.

The rules are the plain ones, compiled from their own text (``machine``); what stands here is which of them a revision
asks, in which order, over the rows of accounts. A number that is no word, or does not fit where it is put, raises
OverflowError, and whoever asked leaves its case to the plain rules. ``test_aave_valuation.py`` and
``test_aave_together.py`` in ``tests/protocols/aave_v3`` compare the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from backtest.protocols.aave_v3 import liquidation as plain
from backtest.protocols.aave_v3 import math, rules
from backtest.protocols.loop import (
    ACCOUNT,
    AFTER,
    BEFORE,
    COLLATERAL_ASSET,
    COMMON,
    DEBT_ASSET,
    FEE,
    LOST_AMOUNT,
    LOST_ASSET,
    LOST_COMMON,
    LOST_IN,
    NO_DEBT_LEFT,
    PROFIT,
    REPAID,
    SEIZED,
)  # fmt: skip
from backtest.units import BPS, WAD
from backtest.words.digits import WordConstant as Constant
from backtest.words.machine import (
    digits_of,
    in_place,
    machine,
    put_pair,
    put_row,
    with_words,
    within,
    word_of_digit,
    word_of_pair,
)  # fmt: skip

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

U = np.uint64
_0 = U(0)
LIMIT = U(1 << 62)
"""Values in base units stay below it."""
_WIDE, _WAD, _BPS, _LEFTOVER = Constant(1 << 62), Constant(WAD), Constant(BPS), Constant(rules.MIN_LEFTOVER_BASE)
DOWN, UP = math.DOWN, math.UP

_ray_mul, _ray_div, _percent_mul = machine(math.ray_mul), machine(math.ray_div), machine(math.percent_mul)
_base_value = machine(math.base_value)
_health_of_sum, _health_of_average = (
    machine(rules.health_of_weighted_sum),
    machine(rules.health_of_averaged_threshold),
)
_most_of_position, _most_of_reserve = machine(rules.max_debt_of_position), machine(rules.max_debt_of_reserve)
_after_scaled, _after_balance = machine(rules.aftermath_of_scaled_balance), machine(rules.aftermath_of_balance)
_taken_for, _fee_of, _fee_moved = machine(plain.taken_for), machine(plain.fee_of), machine(plain.fee_moved)
_without_dust = machine(plain.without_dust)
_target, _taken = machine(rules.target_of), machine(rules.taken_of)

# What an asset is, as words in a row: pairs take two.
PRICE, MARKET, EXECUTION, UNIT, INCOME, DEBT_INDEX, FEE_SHARE, COUNTS, OPEN, ACTIVE, PLACE, UNFIT = (
    0,
    1,
    2,
    3,
    4,
    6,
    8,
    9,
    10,
    11,
    12,
    13,
)
TERMS = 14
# The rules in force, as small numbers in a row; the first ten are roundings.
(
    COLLATERAL_BALANCE,
    DEBT_BALANCE,
    COLLATERAL_SCALED,
    DEBT_SCALED,
    DEBT_VALUE,
    BONUS_MUL,
    NEEDED_DIV,
    FEE_DIV,
    FEE_MUL,
    BORROW_POWER,
) = range(10)
AVERAGED, OF_POSITION, NO_DUST, WRITES_OFF, BY_SCALED = range(10, 15)
RULES = 15


# -- one account -----------------------------------------------------------------------------------------------------


@within
def _one(terms: Words, asset: int, place: int) -> Any:
    return word_of_digit(terms[asset, place])


@within
def _two(terms: Words, asset: int, place: int) -> Any:
    return word_of_pair(terms[asset, place], terms[asset, place + 1])


@within
def _amount(scaled: Words, row: int) -> Any:
    return word_of_pair(scaled[row, 1], scaled[row, 0])


@within
def _small(number: Any) -> Any:
    """A number as one digit; OverflowError where it is none."""
    d3, d2, d1, d0 = digits_of(number)
    if d3 | d2 | d1:
        raise OverflowError("digit")
    return d0


@within
def _base(amount: Any, terms: Words, asset: int, price: int, rounding: int) -> Any:
    """Native units at one of the asset's prices, in base units."""
    return _base_value(amount, _one(terms, asset, price), _one(terms, asset, UNIT), rounding)


@within
def _health(collateral: Any, weighted: Any, debt: Any, averaged: int) -> Any:
    """By ``rules.Rules.health``; the debt is not 0."""
    return _health_of_average(collateral, weighted, debt) if averaged else _health_of_sum(collateral, weighted, debt)


@within
def _row_value(of: int, owed: bool, amount: Any, terms: Words, how: Ints) -> Any:
    """Base value of a scaled amount of an asset; ``LIMIT`` where it does not fit or has no price."""
    if not terms[of, PRICE]:
        return LIMIT
    if owed:
        value = _base(
            _ray_mul(amount, _two(terms, of, DEBT_INDEX), how[DEBT_BALANCE]), terms, of, PRICE, how[DEBT_VALUE]
        )
    else:
        value = _base(_ray_mul(amount, _two(terms, of, INCOME), how[COLLATERAL_BALANCE]), terms, of, PRICE, DOWN)
    return digits_of(value)[3] if value < _WIDE else LIMIT


@in_place
def row_values(asset: Ints, owed: Mask, scaled: Words, terms: Words, how: Ints, value: Words) -> None:
    """Base value of each row of ``valuation.Columns``; ``LIMIT`` where it does not fit or has no price. ``terms``:
    assets x ``TERMS``.
    """
    for row in range(len(asset)):
        value[row] = _row_value(asset[row], owed[row], _amount(scaled, row), terms, how)


@within
def _sums(
    first: int, stop: int, asset: Ints, owed: Mask, value: Words, terms: Words, threshold: Words, ltv: Words
) -> Any:
    """Of the account in these rows: whether it fits, collateral and debt in base units, collateral weighted by
    threshold and by loan-to-value.
    """
    collateral = debt = _0
    weighted, by_ltv = word_of_digit(_0), word_of_digit(_0)
    for row in range(first, stop):
        of, worth = asset[row], value[row]
        if not terms[of, PRICE]:
            return False, word_of_digit(_0), word_of_digit(_0), weighted, by_ltv
        if owed[row]:
            debt += worth
        elif terms[of, COUNTS]:
            collateral += worth
            weighted += word_of_digit(worth) * word_of_digit(threshold[of])
            by_ltv += word_of_digit(worth) * word_of_digit(ltv[of])
        else:
            continue
        if worth >= LIMIT or collateral >= LIMIT or debt >= LIMIT:
            return False, word_of_digit(_0), word_of_digit(_0), weighted, by_ltv
    return True, word_of_digit(collateral), word_of_digit(debt), weighted, by_ltv


@in_place
def values(
    which: Ints, start: Ints, asset: Ints, owed: Mask, value: Words, group: Ints, terms: Words, threshold: Words,
    ltv: Words, how: Ints,
    totals: Words, health: Words, fits: Mask,
) -> None:  # fmt: skip
    """``account.account_data`` of each account: collateral, debt and power (three rows of ``totals``), health (low,
    high).

    Args:
        which: places of the accounts that are asked for.
        start, asset, owed, group: see ``valuation.Columns``; the group is a row of ``threshold`` and ``ltv`` (groups x
        assets, bps).
        value: of ``row_values``. how: ``RULES``.
        fits: False where an account is left to the plain rule.
    """
    for account in which:
        of = group[account]
        fits[account] = False
        fit, collateral, debt, weighted, by_ltv = _sums(
            start[account], start[account + 1], asset, owed, value, terms, threshold[of], ltv[of]
        )
        if not fit:
            continue
        power, found = word_of_digit(_0), word_of_digit(_0)
        if collateral:
            power = _percent_mul(collateral, by_ltv // collateral, how[BORROW_POWER])
        if debt:
            found = _health(collateral, weighted, debt, how[AVERAGED])
        d3, d2, d1, d0 = digits_of(found)
        if power >= _WIDE or d3 | d2:
            continue
        health[account, 1], health[account, 0] = d1, d0
        for place, number in enumerate((collateral, debt, power)):
            totals[place, account] = digits_of(number)[3]
        fits[account] = True


# -- one liquidation -------------------------------------------------------------------------------------------------

# What a liquidation is beside the columns that all protocols have (``loop``), as words in a row: amounts take two,
# scaled ones by how much they fall.
DEBT_ROW, COLLATERAL_ROW, CLEARS, WRITES, HAS_ASKED = range(COMMON, COMMON + 5)
ASKED, DEBT_BURNED, COLLATERAL_SEIZED, FEE_MOVED = range(COMMON + 5, COMMON + 13, 2)
MADE = COMMON + 13
LEAVES = U(2)
"""``CLEARS`` where something is left of what is no collateral any more."""
# The same of debt that is written off in one; the amount of the row that was repaid has no scaled amount.
LOST_ROW, LOST_SCALED = LOST_COMMON, LOST_COMMON + 1
LOST = LOST_COMMON + 3

FILLED, NO_DEBT, NO_BONUS, DUST, NO_COLLATERAL_BURNED, NO_DEBT_BURNED = range(6)
"""How a quote ends; all but the first are refusals."""
NO_ROOM = -1
SAFE, ON_OFFER = 0, 1
"""How an account ends: nothing more can be done, or what can does not pay, or not in this block."""


@within
def _most(
    debt: Any, held: Any, owing: int, held_of: int, terms: Words, how: Ints, total_debt: Any, health: Any,
    close_factor: int,
) -> Any:  # fmt: skip
    """By ``rules.Rules.max_debt``."""
    target = _target(
        debt, _base(debt, terms, owing, PRICE, how[DEBT_VALUE]), _base(held, terms, held_of, PRICE, DOWN), total_debt,
        health, close_factor, _one(terms, owing, UNIT), _one(terms, owing, PRICE),
    )  # fmt: skip
    return _most_of_position(target) if how[OF_POSITION] else _most_of_reserve(target)


@within
def _quote(
    out: Words, debt_row: int, collateral_row: int, asset: Ints, scaled: Words, terms: Words, bonuses: Words, how: Ints,
    close_factor: int, total_collateral: Any, total_debt: Any, health: Any, asked: Any, gas: int,
) -> int:  # fmt: skip
    """``liquidation.quote`` of one pair; ``asked`` is 0 for all that may be repaid. Fills ``out`` but for the account
    and what happens to its health; where dust would be left, ``ASKED`` is what goes instead.
    """
    owing, held_of = asset[debt_row], asset[collateral_row]
    debt_scaled, held_scaled = _amount(scaled, debt_row), _amount(scaled, collateral_row)
    income, index = _two(terms, held_of, INCOME), _two(terms, owing, DEBT_INDEX)
    debt_price, debt_unit = _one(terms, owing, PRICE), _one(terms, owing, UNIT)
    price, unit = _one(terms, held_of, PRICE), _one(terms, held_of, UNIT)
    debt, held = _ray_mul(debt_scaled, index, how[DEBT_BALANCE]), _ray_mul(held_scaled, income, how[COLLATERAL_BALANCE])
    bonus = word_of_digit(bonuses[held_of])
    if not debt:
        return NO_DEBT
    if not bonus:
        return NO_BONUS
    # SIZE
    most = _most(debt, held, owing, held_of, terms, how, total_debt, health, close_factor)
    repaid = min(asked, most) if asked else most
    repaid, gross = _taken_for(repaid, held, bonus, debt_price, debt_unit, price, unit, how[BONUS_MUL], how[NEEDED_DIV])
    fee = _fee_of(gross, bonus, _one(terms, held_of, FEE_SHARE), how[FEE_DIV], how[FEE_MUL])
    seized = gross - fee
    if repaid > debt or seized < 0:
        raise OverflowError("more than there is")
    if how[NO_DUST] and repaid < debt and gross < held:
        debt_left = _base(debt - repaid, terms, owing, PRICE, how[DEBT_VALUE])
        held_left = _base(held - gross, terms, held_of, PRICE, DOWN)
        if debt_left < _LEFTOVER or held_left < _LEFTOVER:
            put_pair(out, ASKED, max(_without_dust(debt, held, repaid, bonus, debt_price, debt_unit, price, unit), 0))
            return DUST
    seized_scaled = _ray_div(seized, income, how[COLLATERAL_SCALED])
    if not seized_scaled:
        return NO_COLLATERAL_BURNED
    # SETTLE
    taken = _taken(gross, seized, fee, held, held_scaled, income, price, unit, total_collateral)
    after = _after_scaled(taken) if how[BY_SCALED] else _after_balance(taken)
    writes = bool(how[WRITES_OFF]) and after.depleted
    burned = _ray_div(debt if writes else repaid, index, how[DEBT_SCALED])
    if not burned:
        return NO_DEBT_BURNED
    if burned > debt_scaled or seized_scaled > held_scaled:
        raise OverflowError("more than there is")
    moved = word_of_digit(_0)
    if fee:
        moved, fee = _fee_moved(
            fee, held_scaled - seized_scaled, income, how[COLLATERAL_SCALED], how[COLLATERAL_BALANCE]
        )
    kept, cost = _base(seized, terms, held_of, EXECUTION, DOWN), _base(repaid, terms, owing, MARKET, UP)
    if kept >= _WIDE or cost >= _WIDE:
        raise OverflowError("base units")
    out[DEBT_ROW], out[COLLATERAL_ROW] = U(debt_row), U(collateral_row)
    out[DEBT_ASSET], out[COLLATERAL_ASSET] = U(owing), U(held_of)
    out[CLEARS], out[WRITES] = U(after.clears_flag), U(writes)
    out[PROFIT] = U(np.int64(_small(kept)) - np.int64(_small(cost)) - gas)
    out[HAS_ASKED] = U(asked != 0)
    put_pair(out, REPAID, repaid)
    put_pair(out, SEIZED, seized)
    put_pair(out, FEE, fee)
    put_pair(out, ASKED, asked)
    put_pair(out, DEBT_BURNED, burned)
    put_pair(out, COLLATERAL_SEIZED, seized_scaled)
    put_pair(out, FEE_MOVED, moved)
    put_pair(out, BEFORE, health)
    return FILLED


@within
def _best(
    out: Words, best: Words, first: int, stop: int, asset: Ints, owed: Mask, scaled: Words, terms: Words,
    bonuses: Words, how: Ints,
    close_factor: int, total_collateral: Any, total_debt: Any, health: Any, gas: int, refused: Mask,
) -> tuple[bool, bool]:  # fmt: skip
    """The most profitable quote of an account that may be liquidated; ties by debt asset, then collateral asset.
    Whether there is any, and one that pays.
    """
    any_filled = pays = False
    for debt_row in range(first, stop):
        if not owed[debt_row] or not terms[asset[debt_row], OPEN] or not (scaled[debt_row, 0] | scaled[debt_row, 1]):
            continue
        for row in range(first, stop):
            of = asset[row]
            if owed[row] or not terms[of, OPEN] or not terms[of, COUNTS] or not (scaled[row, 0] | scaled[row, 1]):
                continue
            ended = _quote(
                out, debt_row, row, asset, scaled, terms, bonuses, how, close_factor, total_collateral,
                total_debt, health, word_of_digit(_0), gas
            )  # fmt: skip
            if ended == DUST and (out[ASKED] | out[ASKED + 1]):
                asked = word_of_pair(out[ASKED], out[ASKED + 1])
                ended = _quote(
                    out, debt_row, row, asset, scaled, terms, bonuses, how, close_factor, total_collateral,
                    total_debt, health, asked, gas
                )  # fmt: skip
            if ended != FILLED:
                refused[ended] = True
                continue
            any_filled = True
            profit = np.int64(out[PROFIT])
            if profit <= 0:
                continue
            better = not pays or profit > np.int64(best[PROFIT])
            if not better and profit == np.int64(best[PROFIT]):
                other = np.int64(best[DEBT_ASSET])
                better = asset[debt_row] < other or (asset[debt_row] == other and of < np.int64(best[COLLATERAL_ASSET]))
            if better:
                put_row(best, out)
                pays = True
    return any_filled, pays


@within
def _fall(scaled: Words, row: int, by: Any) -> None:
    left = _amount(scaled, row) - by
    if left < 0:
        raise OverflowError("more than there is")
    _, _, scaled[row, 1], scaled[row, 0] = digits_of(left)


@within
def _write_off(
    made: Words, lost: Words, number: int, used: int, first: int, stop: int, asset: Ints, owed: Mask, scaled: Words,
    terms: Words, how: Ints,
) -> int:  # fmt: skip
    """``liquidation._write_off``, after the debt of the pair was burned; how many rows of ``lost`` are used then, -1
    where there is no room.
    """
    debt_row = np.int64(made[DEBT_ROW])
    index = _two(terms, asset[debt_row], DEBT_INDEX)
    before = _amount(scaled, debt_row) + word_of_pair(made[DEBT_BURNED], made[DEBT_BURNED + 1])
    debt, repaid = _ray_mul(before, index, how[DEBT_BALANCE]), word_of_pair(made[REPAID], made[REPAID + 1])
    if used + stop - first > len(lost):
        return -1
    if repaid < debt:
        lost[used, LOST_IN], lost[used, LOST_ROW], lost[used, LOST_ASSET] = U(number), U(debt_row), U(asset[debt_row])
        put_pair(lost[used], LOST_AMOUNT, debt - repaid)
        put_pair(lost[used], LOST_SCALED, word_of_digit(_0))
        used += 1
    last = np.int64(-1)
    while True:
        found = -1
        for row in range(first, stop):
            if owed[row] and row != debt_row and terms[asset[row], ACTIVE] and (scaled[row, 0] | scaled[row, 1]):
                place = np.int64(terms[asset[row], PLACE])
                if place > last and (found < 0 or place < np.int64(terms[asset[found], PLACE])):
                    found = row
        if found < 0:
            return used
        last = np.int64(terms[asset[found], PLACE])
        index = _two(terms, asset[found], DEBT_INDEX)
        debt = _ray_mul(_amount(scaled, found), index, how[DEBT_BALANCE])
        burned = _ray_div(debt, index, how[DEBT_SCALED])
        _fall(scaled, found, burned)
        lost[used, LOST_IN], lost[used, LOST_ROW], lost[used, LOST_ASSET] = U(number), U(found), U(asset[found])
        put_pair(lost[used], LOST_AMOUNT, debt)
        put_pair(lost[used], LOST_SCALED, burned)
        used += 1


@within
def one_by_one(
    number: int, first: int, stop: int, asset: Ints, owed: Mask, scaled: Words, value: Words, terms: Words,
    threshold: Words, bonus: Words, how: Ints, close_factor: int, gas: int, done: int, most: int, made: Words,
    count: int, lost: Words, used: int, refused: Mask, out: Words, best: Words, none: Words,
) -> Any:  # fmt: skip
    """An account, in these rows, is liquidated by its most profitable pair as long as one pays, at most ``most`` times
    with those already ``done``. How it ends (``SAFE`` ...), rows used of ``made`` and ``lost``, and what its collateral
    and debt are worth then. ``threshold`` and ``bonus`` are those of its group.
    """
    last = -1
    for row in range(first, stop):
        if terms[asset[row], UNFIT]:
            raise OverflowError("price or index")
        if not terms[asset[row], PRICE]:
            last = -2
    if last == -2:  # a price is missing: nobody may be liquidated
        return SAFE, count, used, _0, _0
    while True:
        for row in range(first, stop):
            value[row] = _row_value(asset[row], owed[row], _amount(scaled, row), terms, how)
        fit, collateral, debt, weighted, _ = _sums(first, stop, asset, owed, value, terms, threshold, none)
        if not fit:
            raise OverflowError("base units")
        health = _health(collateral, weighted, debt, how[AVERAGED]) if debt else word_of_digit(_0)
        if last >= 0:
            made[last, NO_DEBT_LEFT] = U(debt == 0)
            put_pair(made[last], AFTER, health)
        if not debt or health >= _WAD:
            return SAFE, count, used, _small(collateral), _small(debt)
        any_filled, pays = _best(
            out, best, first, stop, asset, owed, scaled, terms, bonus, how, close_factor, collateral, debt, health,
            gas, refused,
        )  # fmt: skip
        if not pays or done >= most:
            return ON_OFFER if any_filled else SAFE, count, used, _small(collateral), _small(debt)
        if count == len(made):
            return NO_ROOM, count, used, _0, _0
        put_row(made[count], best)
        made[count, ACCOUNT] = U(number)
        last = count
        count += 1
        done += 1
        _fall(scaled, np.int64(best[DEBT_ROW]), word_of_pair(best[DEBT_BURNED], best[DEBT_BURNED + 1]))
        row = int(best[COLLATERAL_ROW])
        _fall(scaled, row, word_of_pair(best[COLLATERAL_SEIZED], best[COLLATERAL_SEIZED + 1]))
        _fall(scaled, row, word_of_pair(best[FEE_MOVED], best[FEE_MOVED + 1]))
        if best[CLEARS]:
            if scaled[row, 0] | scaled[row, 1]:
                made[last, CLEARS] = LEAVES
            scaled[row, 0] = scaled[row, 1] = _0
        if best[WRITES]:
            used = _write_off(best, lost, last, used, first, stop, asset, owed, scaled, terms, how)
            if used < 0:
                return NO_ROOM, count, used, _0, _0


@with_words
def liquidate(
    start: Ints, asset: Ints, owed: Mask, scaled: Words, group: Ints, terms: Words, threshold: Words, bonus: Words,
    how: Ints, close_factor: int,
    gas: int, calls: Ints, most: int, made: Words, lost: Words, refused: Mask, ends: Ints,
) -> tuple[int, int]:  # fmt: skip
    """``one_by_one`` of many accounts.

    Args:
        start to how: see ``values`` and ``row_values``; ``scaled`` is what is left afterwards, nothing where a flag was
            cleared. ``bonus`` is as ``threshold``.
        gas: base units that each call costs the liquidator.
        made: liquidations x ``MADE``, of one account after another, filled from the front. lost: as many rows of
            ``LOST`` as are needed.
        refused: accounts x ways of refusing. ends: ``SAFE`` or ``ON_OFFER``.

    Returns: how many rows of ``made`` and of ``lost`` are used, or (``NO_ROOM``, 0).
    Raises: OverflowError, ZeroDivisionError: a number does not fit.
    """
    out, best = np.zeros(MADE, np.uint64), np.zeros(MADE, np.uint64)
    count = used = 0
    none, value = np.zeros(threshold.shape[1], np.uint64), np.zeros(len(asset), np.uint64)
    for account in range(len(start) - 1):
        of = group[account]
        ended, count, used, _, _ = one_by_one(
            account, start[account], start[account + 1], asset, owed, scaled, value, terms, threshold[of], bonus[of],
            how, close_factor, gas, calls[account], most, made, count, lost, used, refused[account], out, best, none,
        )  # fmt: skip
        if ended == NO_ROOM:
            return NO_ROOM, 0
        ends[account] = ended
    return count, used


PAIR_OF, OWED, HELD, PAID, BROUGHT = range(5)
"""A pair that an order would fill: the account's place, both assets, and base units."""
PAIR = 5


@within
def _spreads(
    place: int, first: int, stop: int, asset: Ints, owed: Mask, scaled: Words, value: Words, terms: Words,
    threshold: Words, bonus: Words, how: Ints, close_factor: int, pairs: Ints, count: int, refused: Mask, out: Words,
    none: Words,
) -> int:  # fmt: skip
    """The pairs of an account in these rows, as ``_best`` quotes them; how many rows of ``pairs`` are used then."""
    for row in range(first, stop):
        value[row] = _row_value(asset[row], owed[row], _amount(scaled, row), terms, how)
    fit, collateral, debt, weighted, _ = _sums(first, stop, asset, owed, value, terms, threshold, none)
    if not fit:
        raise OverflowError("base units")
    if not debt:
        return count
    health = _health(collateral, weighted, debt, how[AVERAGED])
    if health >= _WAD:
        return count
    for debt_row in range(first, stop):
        if not owed[debt_row] or not terms[asset[debt_row], OPEN] or not (scaled[debt_row, 0] | scaled[debt_row, 1]):
            continue
        for row in range(first, stop):
            of = asset[row]
            if owed[row] or not terms[of, OPEN] or not terms[of, COUNTS] or not (scaled[row, 0] | scaled[row, 1]):
                continue
            ended = _quote(
                out, debt_row, row, asset, scaled, terms, bonus, how, close_factor, collateral, debt, health,
                word_of_digit(_0), 0
            )  # fmt: skip
            if ended == DUST and (out[ASKED] | out[ASKED + 1]):
                asked = word_of_pair(out[ASKED], out[ASKED + 1])
                ended = _quote(
                    out, debt_row, row, asset, scaled, terms, bonus, how, close_factor, collateral, debt, health,
                    asked, 0
                )  # fmt: skip
            if ended != FILLED:
                refused[ended] = True
                continue
            owing = asset[debt_row]
            paid = _base(word_of_pair(out[REPAID], out[REPAID + 1]), terms, owing, MARKET, UP)
            pairs[count, PAIR_OF], pairs[count, OWED], pairs[count, HELD] = place, owing, of
            pairs[count, PAID] = np.int64(_small(paid))
            pairs[count, BROUGHT] = np.int64(out[PROFIT]) + pairs[count, PAID]
            count += 1
    return count


@with_words
def spreads(
    start: Ints, asset: Ints, owed: Mask, scaled: Words, group: Ints, terms: Words, threshold: Words, bonus: Words,
    how: Ints, close_factor: int, unsure: Mask, pairs: Ints, refused: Mask, plain: Mask,
) -> int:  # fmt: skip
    """What settling each pair of many accounts would cost and bring; how many rows of ``pairs`` are used.

    Args:
        start to how: see ``values``; ``scaled`` does not change. ``bonus`` is as ``threshold``.
        unsure: assets whose reserve may have a say as well: who holds one as collateral is left to the plain rules.
        pairs: rows of ``PAIR`` numbers, as many as debts times collaterals. refused: accounts x ways of refusing.
        plain: whether an account is left to the plain rules.
    """
    out = np.zeros(MADE, np.uint64)
    count = 0
    none, value = np.zeros(threshold.shape[1], np.uint64), np.zeros(len(asset), np.uint64)
    for account in range(len(start) - 1):
        priced = True
        for row in range(start[account], start[account + 1]):
            of = asset[row]
            if terms[of, UNFIT] or (unsure[of] and not owed[row]):
                plain[account] = True
            elif not terms[of, PRICE]:
                priced = False
        if plain[account] or not priced:
            continue
        of, before = group[account], count
        try:
            count = _spreads(
                account, start[account], start[account + 1], asset, owed, scaled, value, terms, threshold[of],
                bonus[of], how, close_factor, pairs, count, refused[account], out, none,
            )  # fmt: skip
        except Exception:
            plain[account], count = True, before
    return count
