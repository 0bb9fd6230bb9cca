"""Aave V3 in the compiled loop of a replay: its columns at the begin of a stretch, and what the book is after it."""

from __future__ import annotations

import numpy as np

from backtest.model import AccountId, AssetId, Clock, Side
from backtest.protocols import loop
from backtest.protocols.aave_v3 import compiled as c
from backtest.protocols.aave_v3 import moment as m
from backtest.protocols.aave_v3.account import FLOAT_ERROR, is_collateral
from backtest.protocols.aave_v3.math import compounded_interest_v34
from backtest.protocols.aave_v3.state import AaveState, largest_of
from backtest.protocols.aave_v3.together import REASONS, fill_of
from backtest.protocols.aave_v3.valuation import how_of, live_of, weights_of
from backtest.protocols.interface import Fill
from backtest.protocols.loop import (
    INDEX_WORDS,
    CompiledRules,
    Position,
    Setting,
    Stretch,
    Words,
    numbers,
    total,
)  # fmt: skip

_WORD = (1 << 64) - 1


def compiled_rules(state: AaveState, now: Clock) -> CompiledRules | None:
    """See ``LendingProtocol.compiled_rules``: not where interest is recomputed."""
    if state.recompute or state.revision is None or now.block_number < state.told_from:
        return None
    live, rules, count = live_of(state), state.rules, len(state.reserves)
    group, (threshold, _, bonus) = weights_of(state, live)
    terms = np.zeros((count, c.TERMS), np.uint64)
    reserves = np.zeros((count, m.RESERVE), np.uint64)
    pool = np.zeros((count, m.POOL), np.uint64)
    for at, reserve in enumerate(state.reserves):
        indexes = reserve.supply_index, reserve.borrow_index, reserve.supply_rate, reserve.borrow_rate
        wide = reserve.unit >= 1 << 63 or max(indexes) >= 1 << 127
        unpaid = reserve.treasury is None and reserve.liquidation_protocol_fee != 0
        reserves[at, m.WIDE] = wide or unpaid
        if wide:
            continue
        terms[at, c.UNIT], terms[at, c.FEE_SHARE] = reserve.unit, reserve.liquidation_protocol_fee
        terms[at, c.COUNTS] = is_collateral(rules, reserve)
        terms[at, c.ACTIVE], terms[at, c.PLACE] = reserve.active != 0, reserve.reserve_id
        reserves[at, :INDEX_WORDS] = [word for each in indexes for word in (each >> 64, each & _WORD)]
        reserves[at, m.UPDATED], reserves[at, m.GRACE] = reserve.updated, reserve.grace_until
        reserves[at, m.SHUT] = bool(not reserve.active or reserve.paused)
        liquidity, largest = reserve.liquidity & ((1 << 128) - 1), largest_of(state, reserve.asset)
        pool[at, : m.MOST] = (
            liquidity >> 64, liquidity & _WORD, largest >> 64, largest & _WORD, reserve.told,
        )  # fmt: skip
    numbers = np.zeros(m.NUMBERS, np.int64)
    numbers[m.CLOSE_FACTOR], numbers[m.GRACED] = state.close_factor, rules.grace_period
    numbers[m.SERIES] = rules.compounded_interest is compounded_interest_v34
    rows = len(live.asset)
    columns = (
        live.begin, live.end, live.asset, live.owed, live.scaled, np.empty(rows, np.uint64), group, threshold, bonus,
        how_of(rules), terms, reserves, pool, numbers, np.empty((rows, 2), np.uint64), np.zeros((count, 2), np.uint64),
        np.zeros(c.MADE, np.uint64), np.zeros(c.MADE, np.uint64), np.zeros(count, np.uint64), live.others,
    )  # fmt: skip
    reasons = tuple(REASONS.get(code, "") for code in range(len(REASONS) + 1))
    return CompiledRules(
        columns,
        m.index,
        m.moment,
        m.form,
        c.MADE,
        c.LOST,
        reasons,
        FLOAT_ERROR,
        (rules.label, rules.tested),
        lambda made, lost, liquidator: settle(state, made, lost, liquidator),
    )


def settle(state: AaveState, made: Words, lost: Words, liquidator: AccountId) -> Stretch:
    """See ``CompiledRules.settle``."""
    treasuries = {reserve.asset: reserve.treasury for reserve in state.reserves}
    told = frozenset(reserve.asset for reserve in state.reserves if reserve.told)
    label, tested = state.rules.label, state.rules.tested
    fees: list[tuple[AccountId, AssetId, int]] = []
    touched = {*made[:, loop.DEBT_ASSET].tolist(), *made[:, loop.COLLATERAL_ASSET].tolist()}
    for asset in map(AssetId, sorted(touched.union(lost[:, loop.LOST_ASSET].tolist()))):  # a stretch may be one call
        reserve = state.reserves[asset]
        owing, held = made[made[:, loop.DEBT_ASSET] == asset], made[made[:, loop.COLLATERAL_ASSET] == asset]
        gone = lost[lost[:, loop.LOST_ASSET] == asset]
        reserve.scaled_debt -= total(owing, c.DEBT_BURNED) + total(gone, c.LOST_SCALED)
        reserve.scaled_supply -= total(held, c.COLLATERAL_SEIZED)
        reserve.liquidity += total(owing, loop.REPAID) - total(held, loop.SEIZED)
        reserve.deficit += total(gone, loop.LOST_AMOUNT)
        if (fee := total(held, c.FEE_MOVED)) and (treasury := reserve.treasury) is not None:
            fees.append((AccountId(treasury), asset, fee))
            book = state.to_write(AccountId(treasury))
            book.collateral[asset] = book.collateral.get(asset, 0) + fee
            state.moved.add(AccountId(treasury))
    if state.live is not None:
        state.live.changed[made[:, loop.ACCOUNT].astype(np.int64)] = True
    state.latest.clear()

    def fill(row: Words, losses: Words, now: Clock) -> Fill:
        return fill_of(row, losses, now, AccountId(int(row[loop.ACCOUNT])), treasuries, told, label, tested, liquidator)

    stretch = Stretch(made, lost, fees, _sums, fill)
    state.passed.append(stretch)
    return stretch


def _sums(stretch: Stretch) -> tuple[list[Position], list[Setting]]:
    made, lost = stretch.made, stretch.lost
    account, held = made[:, loop.ACCOUNT].tolist(), made[:, loop.COLLATERAL_ASSET].tolist()
    sums: dict[tuple[AccountId, AssetId, Side], int] = {}
    for who, what, burned in zip(account, made[:, loop.DEBT_ASSET].tolist(), numbers(made, c.DEBT_BURNED), strict=True):
        sums[who, what, "debt"] = sums.get((who, what, "debt"), 0) - burned
    taken, moved = numbers(made, c.COLLATERAL_SEIZED), numbers(made, c.FEE_MOVED)
    for who, what, seized, fee in zip(account, held, taken, moved, strict=True):
        sums[who, what, "collateral"] = sums.get((who, what, "collateral"), 0) - seized - fee
    rows = lost[:, loop.LOST_IN].tolist()
    for row, what, scaled in zip(rows, lost[:, loop.LOST_ASSET].tolist(), numbers(lost, c.LOST_SCALED), strict=True):
        who = account[row]
        sums[who, what, "debt"] = sums.get((who, what, "debt"), 0) - scaled
    settings: list[Setting] = [
        (AccountId(who), "collateral_enabled", AssetId(what), 0)
        for who, what, clears in zip(account, held, made[:, c.CLEARS].tolist(), strict=True)
        if clears
    ]
    return [(*key, delta) for key, delta in sums.items() if delta], settings
