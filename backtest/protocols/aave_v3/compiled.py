"""The rules of totals, health and liquidations as machine code: ``account.account_data`` and ``liquidation.quote`` of
many accounts in one call.

Every function says which plain rule it is, where the source is cited. ``tests/test_aave_valuation.py`` and
``tests/test_aave_together.py`` compare them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from backtest.protocols.aave_v3.rules import CLOSE_FACTOR_HEALTH, MIN_BASE_MAX_CLOSE_FACTOR, MIN_LEFTOVER_BASE
from backtest.protocols.aave_v3.words import (
    DOWN,
    HALF_UP,
    ONE,
    OVER,
    SCRATCH,
    UP,
    ZERO,
    Pair,
    U,
    Word,
    Words,
    add,
    compiled,
    less,
    mul,
    mul_div,
    pair,
    some,
    sub,
)
from backtest.units import BPS, RAY, WAD

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LIMIT = U(1 << 62)
"""Values in base units stay below it."""
_0, _1, _RAY, _WAD, _BPS = U(0), U(1), pair(RAY), pair(WAD), pair(BPS)
_CLOSE_FACTOR_HEALTH, _LEFTOVER = pair(CLOSE_FACTOR_HEALTH), pair(MIN_LEFTOVER_BASE)
_MIN_BASE = U(MIN_BASE_MAX_CLOSE_FACTOR)

# What an asset is, as words in a row: pairs take two.
PRICE, MARKET, EXECUTION, UNIT, INCOME, DEBT_INDEX, FEE, COUNTS, OPEN, ACTIVE, PLACE = (
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
)
TERMS = 13
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


@compiled
def _one(terms: Words, asset: int, place: int) -> Pair:
    return _0, terms[asset, place]


@compiled
def _two(terms: Words, asset: int, place: int) -> Pair:
    return terms[asset, place], terms[asset, place + 1]


@compiled
def _collateral(w: Words, scaled: Pair, terms: Words, asset: int, how: Ints) -> Pair:
    """``account.collateral_of``: native units."""
    return mul_div(w, scaled, _two(terms, asset, INCOME), _RAY, how[COLLATERAL_BALANCE])


@compiled
def _debt(w: Words, scaled: Pair, terms: Words, asset: int, how: Ints) -> Pair:
    """``account.debt_of``, of variable debt: native units."""
    return mul_div(w, scaled, _two(terms, asset, DEBT_INDEX), _RAY, how[DEBT_BALANCE])


@compiled
def _base(w: Words, amount: Pair, terms: Words, asset: int, price: int, rounding: int) -> Pair:
    """Native units at one of the asset's prices, in base units."""
    return mul_div(w, amount, _one(terms, asset, price), _one(terms, asset, UNIT), rounding)


@compiled
def _health(w: Words, collateral: Word, weighted: Pair, debt: Word, averaged: int) -> Pair:
    """``rules.health_of_weighted_sum``, or ``health_of_averaged_threshold``; the debt is not 0."""
    if averaged:
        if collateral:
            average = mul_div(w, weighted, ONE, (_0, collateral), DOWN)
            weighted = mul_div(w, (_0, collateral), average, _BPS, HALF_UP)
        else:
            weighted = ZERO
    health = mul_div(w, weighted, _WAD, (_0, debt), HALF_UP)
    return health if averaged else mul_div(w, health, ONE, _BPS, DOWN)


@compiled
def _row_value(w: Words, of: int, owed: bool, amount: Pair, terms: Words, how: Ints) -> Word:
    """Base value of a scaled amount of an asset; ``LIMIT`` where it does not fit or has no price."""
    if not terms[of, PRICE]:
        return LIMIT
    if owed:
        value = _base(w, _debt(w, amount, terms, of, how), terms, of, PRICE, how[DEBT_VALUE])
    else:
        value = _base(w, _collateral(w, amount, terms, of, how), terms, of, PRICE, DOWN)
    fits = not w[OVER] and not value[0] and value[1] < LIMIT
    w[OVER] = _0
    return value[1] if fits else LIMIT


@compiled
def row_values(asset: Ints, owed: Mask, scaled: Words, terms: Words, how: Ints, value: Words) -> None:
    """Base value of each row of ``valuation.Columns``; ``LIMIT`` where it does not fit or has no price. ``terms``:
    assets x ``TERMS``.
    """
    w = np.zeros(SCRATCH, np.uint64)
    for row in range(len(asset)):
        value[row] = _row_value(w, asset[row], owed[row], (scaled[row, 1], scaled[row, 0]), terms, how)


@compiled
def _sums(
    first: int, stop: int, asset: Ints, owed: Mask, value: Words, terms: Words, threshold: Words, ltv: Words
) -> tuple[bool, Word, Word, Pair, Pair]:
    """Of the account in these rows: whether it fits, collateral and debt in base units, collateral weighted by
    threshold and by loan-to-value.
    """
    collateral = debt = _0
    weighted = by_ltv = ZERO
    for row in range(first, stop):
        of, worth = asset[row], value[row]
        if not terms[of, PRICE]:
            return False, _0, _0, ZERO, ZERO
        if owed[row]:
            debt += worth
        elif terms[of, COUNTS]:
            collateral += worth
            weighted = add(weighted, mul(worth, threshold[of]))
            by_ltv = add(by_ltv, mul(worth, ltv[of]))
        else:
            continue
        if worth >= LIMIT or collateral >= LIMIT or debt >= LIMIT:
            return False, _0, _0, ZERO, ZERO
    return True, collateral, debt, weighted, by_ltv


@compiled
def values(
    start: Ints, asset: Ints, owed: Mask, value: Words, group: Ints, terms: Words, threshold: Words, ltv: Words,
    how: Ints,
    totals: Words, health: Words, fits: Mask,
) -> None:  # fmt: skip
    """``account.account_data`` of each account: collateral, debt and power (three rows of ``totals``), health (low,
    high).

    Args:
        start, asset, owed, group: see ``valuation.Columns``; the group is a row of ``threshold`` and ``ltv`` (groups x
        assets, bps).
        value: of ``row_values``. how: ``RULES``.
        fits: False where an account is left to the plain rule.
    """
    w = np.zeros(SCRATCH, np.uint64)
    for account in range(len(start) - 1):
        w[OVER] = _0
        of = group[account]
        fit, collateral, debt, weighted, by_ltv = _sums(
            start[account], start[account + 1], asset, owed, value, terms, threshold[of], ltv[of]
        )
        if not fit:
            continue
        power = ZERO
        if collateral:
            average = mul_div(w, by_ltv, ONE, (_0, collateral), DOWN)
            power = mul_div(w, (_0, collateral), average, _BPS, how[BORROW_POWER])
        if debt:
            health[account, 1], health[account, 0] = _health(w, collateral, weighted, debt, how[AVERAGED])
        if w[OVER] or power[0] or power[1] >= LIMIT:
            health[account] = _0
            continue
        totals[0, account], totals[1, account], totals[2, account] = collateral, debt, power[1]
        fits[account] = True


# -- one liquidation -------------------------------------------------------------------------------------------------

# A liquidation, as words in a row: amounts take two, scaled ones by how much they fall.
ACCOUNT, DEBT_ROW, COLLATERAL_ROW, CLEARS, WRITES, HAS_ASKED, NO_DEBT_LEFT, PROFIT = range(8)
REPAID, SEIZED, PAID_FEE, ASKED, DEBT_BURNED, COLLATERAL_SEIZED, FEE_MOVED, BEFORE, AFTER = range(8, 26, 2)
MADE = 26
# Debt that is written off in one: its liquidation, row, amount and scaled amount; the amount of the row that was repaid
# has none.
LOST_IN, LOST_ROW, LOST_AMOUNT, LOST_SCALED = 0, 1, 2, 4
LOST = 6

FILLED, NO_DEBT, NO_BONUS, DUST, NO_COLLATERAL_BURNED, NO_DEBT_BURNED = range(6)
"""How a quote ends; all but the first are refusals."""
NO_ROOM, NO_FIT = -1, -2
SAFE, ON_OFFER = 0, 1
"""How an account ends: nothing more can be done, or what can does not pay, or not in this block."""


@compiled
def _put(row: Words, place: int, number: Pair) -> None:
    row[place], row[place + 1] = number


@compiled
def _most(
    w: Words,
    debt: Pair,
    held: Pair,
    owing: int,
    held_of: int,
    terms: Words,
    how: Ints,
    total_debt: Word,
    health: Pair,
    close_factor: Word,
) -> Pair:
    """``rules.max_debt_of_position``, or ``max_debt_of_reserve``."""
    beyond = less(_CLOSE_FACTOR_HEALTH, health)
    if not how[OF_POSITION]:
        return mul_div(w, debt, (_0, close_factor if beyond else U(BPS)), _BPS, HALF_UP)
    if beyond and _base(w, held, terms, held_of, PRICE, DOWN)[1] >= _MIN_BASE:
        worth = _base(w, debt, terms, owing, PRICE, how[DEBT_VALUE])
        share = mul_div(w, (_0, total_debt), (_0, close_factor), _BPS, HALF_UP)
        if worth[1] >= _MIN_BASE and less(share, worth):
            return mul_div(w, share, _one(terms, owing, UNIT), _one(terms, owing, PRICE), DOWN)
    return debt


@compiled
def _without_dust(
    w: Words, debt: Pair, held: Pair, most: Pair, owing: int, held_of: int, terms: Words, bonus: Pair
) -> Pair:
    """``liquidation._without_dust``; 0 for None."""
    kept = mul_div(w, _LEFTOVER, _one(terms, held_of, UNIT), _one(terms, held_of, PRICE), UP)
    left = mul_div(w, _LEFTOVER, _one(terms, owing, UNIT), _one(terms, owing, PRICE), UP)
    if not less(kept, held) or not less(left, debt):
        return ZERO
    taken = mul_div(w, sub(held, kept), _BPS, bonus, DOWN)
    there, here = mul(terms[held_of, PRICE], terms[owing, UNIT]), mul(terms[owing, PRICE], terms[held_of, UNIT])
    repaid = mul_div(w, taken, there, here, DOWN)
    most = sub(debt, left) if less(sub(debt, left), most) else most
    return repaid if less(repaid, most) else most


@compiled
def _quote(
    w: Words, out: Words, debt_row: int, collateral_row: int, asset: Ints, scaled: Words, terms: Words,
    bonuses: Words, how: Ints,
    close_factor: Word, total_collateral: Word, total_debt: Word, health: Pair, asked: Pair, gas: int,
) -> int:  # fmt: skip
    """``liquidation.quote`` of one pair; ``asked`` is 0 for all that may be repaid. Fills ``out`` but for the account
    and what happens to its health; where dust would be left, ``ASKED`` is what goes instead.
    """
    owing, held_of = asset[debt_row], asset[collateral_row]
    debt_scaled, held_scaled = (
        (scaled[debt_row, 1], scaled[debt_row, 0]),
        (scaled[collateral_row, 1], scaled[collateral_row, 0]),
    )
    income, index = _two(terms, held_of, INCOME), _two(terms, owing, DEBT_INDEX)
    debt, held = _debt(w, debt_scaled, terms, owing, how), _collateral(w, held_scaled, terms, held_of, how)
    bonus = _0, bonuses[held_of]
    if not some(debt):
        return NO_DEBT
    if not some(bonus):
        return NO_BONUS
    # SIZE
    repaid = _most(w, debt, held, owing, held_of, terms, how, total_debt, health, close_factor)
    if some(asked) and less(asked, repaid):
        repaid = asked
    here, there = mul(terms[owing, PRICE], terms[held_of, UNIT]), mul(terms[held_of, PRICE], terms[owing, UNIT])
    gross = mul_div(w, mul_div(w, repaid, here, there, DOWN), bonus, _BPS, how[BONUS_MUL])
    if less(held, gross):
        gross = held
        repaid = mul_div(w, mul_div(w, gross, there, here, DOWN), _BPS, bonus, how[NEEDED_DIV])
    fee = ZERO
    if terms[held_of, FEE]:
        part = mul_div(w, gross, _BPS, bonus, how[FEE_DIV])
        if less(gross, part):
            w[OVER] = _1
        fee = mul_div(w, sub(gross, part), _one(terms, held_of, FEE), _BPS, how[FEE_MUL])
    if less(debt, repaid) or less(gross, fee):
        w[OVER] = _1
    seized = sub(gross, fee)
    if how[NO_DUST] and less(repaid, debt) and less(gross, held):
        debt_left = _base(w, sub(debt, repaid), terms, owing, PRICE, how[DEBT_VALUE])
        held_left = _base(w, sub(held, gross), terms, held_of, PRICE, DOWN)
        if less(debt_left, _LEFTOVER) or less(held_left, _LEFTOVER):
            _put(out, ASKED, _without_dust(w, debt, held, repaid, owing, held_of, terms, bonus))
            return DUST
    seized_scaled = mul_div(w, seized, _RAY, income, how[COLLATERAL_SCALED])
    if not some(seized_scaled):
        return NO_COLLATERAL_BURNED
    # SETTLE
    if how[BY_SCALED]:  # rules.aftermath_of_scaled_balance
        consumed = add(mul_div(w, seized, _RAY, income, UP), mul_div(w, fee, _RAY, income, UP))
        consumed = held_scaled if less(held_scaled, consumed) else consumed
        value = _base(w, mul_div(w, consumed, income, _RAY, DOWN), terms, held_of, PRICE, DOWN)
        depleted = value == (_0, total_collateral)
        clears = depleted or consumed == held_scaled
    else:  # rules.aftermath_of_balance
        depleted = _base(w, gross, terms, held_of, PRICE, DOWN) == (_0, total_collateral)
        clears = gross == held
    writes = bool(how[WRITES_OFF]) and depleted
    burned = mul_div(w, debt if writes else repaid, _RAY, index, how[DEBT_SCALED])
    if not some(burned):
        return NO_DEBT_BURNED
    if less(debt_scaled, burned) or less(held_scaled, seized_scaled):
        w[OVER] = _1
    moved = ZERO
    if some(fee):
        moved, remaining = mul_div(w, fee, _RAY, income, how[COLLATERAL_SCALED]), sub(held_scaled, seized_scaled)
        if less(remaining, moved):
            moved, fee = remaining, mul_div(w, remaining, income, _RAY, how[COLLATERAL_BALANCE])
    kept, cost = _base(w, seized, terms, held_of, EXECUTION, DOWN), _base(w, repaid, terms, owing, MARKET, UP)
    if kept[0] or cost[0] or kept[1] >= LIMIT or cost[1] >= LIMIT:
        w[OVER] = _1
    out[DEBT_ROW], out[COLLATERAL_ROW], out[CLEARS], out[WRITES] = U(debt_row), U(collateral_row), U(clears), U(writes)
    out[PROFIT] = U(np.int64(kept[1]) - np.int64(cost[1]) - gas)
    out[HAS_ASKED] = U(some(asked))
    _put(out, REPAID, repaid)
    _put(out, SEIZED, seized)
    _put(out, PAID_FEE, fee)
    _put(out, ASKED, asked)
    _put(out, DEBT_BURNED, burned)
    _put(out, COLLATERAL_SEIZED, seized_scaled)
    _put(out, FEE_MOVED, moved)
    _put(out, BEFORE, health)
    return FILLED


@compiled
def _best(
    w: Words, out: Words, best: Words, first: int, stop: int, asset: Ints, owed: Mask, scaled: Words, terms: Words,
    bonuses: Words, how: Ints,
    close_factor: Word, total_collateral: Word, total_debt: Word, health: Pair, gas: int, refused: Mask,
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
                w, out, debt_row, row, asset, scaled, terms, bonuses, how, close_factor, total_collateral,
                total_debt, health, ZERO, gas
            )  # fmt: skip
            if ended == DUST and (out[ASKED] | out[ASKED + 1]):
                asked = out[ASKED], out[ASKED + 1]
                ended = _quote(
                    w, out, debt_row, row, asset, scaled, terms, bonuses, how, close_factor, total_collateral,
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
                other = asset[np.int64(best[DEBT_ROW])]
                better = asset[debt_row] < other or (
                    asset[debt_row] == other and of < asset[np.int64(best[COLLATERAL_ROW])]
                )
            if better:
                best[:] = out
                pays = True
    return any_filled, pays


@compiled
def _fall(w: Words, scaled: Words, row: int, by: Pair) -> None:
    now = scaled[row, 1], scaled[row, 0]
    if less(now, by):
        w[OVER] = _1
    scaled[row, 1], scaled[row, 0] = sub(now, by)


@compiled
def _write_off(
    w: Words,
    made: Words,
    lost: Words,
    number: int,
    used: int,
    first: int,
    stop: int,
    asset: Ints,
    owed: Mask,
    scaled: Words,
    terms: Words,
    how: Ints,
) -> int:
    """``liquidation._write_off``, after the debt of the pair was burned; how many rows of ``lost`` are used then, -1
    where there is no room.
    """
    debt_row = int(made[DEBT_ROW])
    owing = asset[debt_row]
    index = _two(terms, owing, DEBT_INDEX)
    before = add((scaled[debt_row, 1], scaled[debt_row, 0]), (made[DEBT_BURNED], made[DEBT_BURNED + 1]))
    debt, repaid = mul_div(w, before, index, _RAY, how[DEBT_BALANCE]), (made[REPAID], made[REPAID + 1])
    if used + stop - first > len(lost):
        return -1
    if less(repaid, debt):
        lost[used, LOST_IN], lost[used, LOST_ROW] = U(number), U(debt_row)
        _put(lost[used], LOST_AMOUNT, sub(debt, repaid))
        _put(lost[used], LOST_SCALED, ZERO)
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
        owing = asset[found]
        debt = _debt(w, (scaled[found, 1], scaled[found, 0]), terms, owing, how)
        burned = mul_div(w, debt, _RAY, _two(terms, owing, DEBT_INDEX), how[DEBT_SCALED])
        _fall(w, scaled, found, burned)
        lost[used, LOST_IN], lost[used, LOST_ROW] = U(number), U(found)
        _put(lost[used], LOST_AMOUNT, debt)
        _put(lost[used], LOST_SCALED, burned)
        used += 1


@compiled
def liquidate(
    start: Ints, asset: Ints, owed: Mask, scaled: Words, group: Ints, terms: Words, threshold: Words, bonus: Words,
    how: Ints, close_factor: int,
    gas: int, calls: Ints, most: int, made: Words, lost: Words, refused: Mask, ends: Ints,
) -> tuple[int, int]:  # fmt: skip
    """Each account is liquidated by its most profitable pair as long as one pays, at most ``most`` times with the
    ``calls`` there were.

    Args:
        start to how: see ``values`` and ``row_values``; ``scaled`` is what is left afterwards, nothing where a flag was
            cleared. ``bonus`` is as ``threshold``.
        gas: base units that each call costs the liquidator.
        made: liquidations x ``MADE``, of one account after another, filled from the front. lost: as many rows of
            ``LOST`` as are needed.
        refused: accounts x ways of refusing. ends: ``SAFE`` or ``ON_OFFER``.

    Returns: how many rows of ``made`` and of ``lost`` are used; (``NO_ROOM``, 0), or (``NO_FIT``, 0) where words are
        too small.
    """
    w, out, best = np.zeros(SCRATCH, np.uint64), np.zeros(MADE, np.uint64), np.zeros(MADE, np.uint64)
    count = used = 0
    none, value = np.zeros(threshold.shape[1], np.uint64), np.zeros(len(asset), np.uint64)
    for account in range(len(start) - 1):
        of, first, stop, done = group[account], start[account], start[account + 1], calls[account]
        last = -1
        for row in range(first, stop):
            if not terms[asset[row], PRICE]:
                last = -2
        if last == -2:  # a price is missing: nobody may be liquidated
            continue
        while True:
            for row in range(first, stop):
                value[row] = _row_value(w, asset[row], owed[row], (scaled[row, 1], scaled[row, 0]), terms, how)
            fit, collateral, debt, weighted, _ = _sums(first, stop, asset, owed, value, terms, threshold[of], none)
            if not fit:
                return NO_FIT, 0
            health = _health(w, collateral, weighted, debt, how[AVERAGED]) if debt else ZERO
            if last >= 0:
                made[last, NO_DEBT_LEFT] = U(debt == _0)
                _put(made[last], AFTER, health)
            if not debt or not less(health, _WAD):
                break
            any_filled, pays = _best(
                w,
                out,
                best,
                first,
                stop,
                asset,
                owed,
                scaled,
                terms,
                bonus[of],
                how,
                U(close_factor),
                collateral,
                debt,
                health,
                gas,
                refused[account],
            )
            if w[OVER]:
                return NO_FIT, 0
            if not pays or done >= most:
                ends[account] = ON_OFFER if any_filled else SAFE
                break
            if count == len(made):
                return NO_ROOM, 0
            made[count] = best
            made[count, ACCOUNT] = U(account)
            last = count
            count += 1
            done += 1
            _fall(w, scaled, int(best[DEBT_ROW]), (best[DEBT_BURNED], best[DEBT_BURNED + 1]))
            row = int(best[COLLATERAL_ROW])
            _fall(w, scaled, row, (best[COLLATERAL_SEIZED], best[COLLATERAL_SEIZED + 1]))
            _fall(w, scaled, row, (best[FEE_MOVED], best[FEE_MOVED + 1]))
            if best[CLEARS]:
                scaled[row] = _0
            if best[WRITES]:
                used = _write_off(w, best, lost, last, used, first, stop, asset, owed, scaled, terms, how)
                if used < 0:
                    return NO_ROOM, 0
            if w[OVER]:
                return NO_FIT, 0
    return count, used
