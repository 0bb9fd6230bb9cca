"""Morpho Blue in the compiled loop of a replay: its columns as a stretch begins, and the book after it."""

from __future__ import annotations

import numpy as np

from backtest.model import AccountId, AssetId, Clock, Side
from backtest.protocols import loop
from backtest.protocols.columns import InPlace, refreshed
from backtest.protocols.interface import Fill, Ints, Order
from backtest.protocols.loop import CompiledRules, Position, Setting, Stretch, Words, number, numbers
from backtest.protocols.morpho_blue import moment as m
from backtest.protocols.morpho_blue.account import FLOAT_ERROR, row_of
from backtest.protocols.morpho_blue.liquidation import NOTHING, PAIR, REASONS, TOO_MUCH, taken
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN, RULES, MorphoState, accounts, accrued_at
from backtest.protocols.morpho_blue.state import Position as Held

_WORD = (1 << 64) - 1


def live_of(state: MorphoState) -> InPlace:
    """The positions in place, as they are now."""
    if state.live is None:
        columns = refreshed(
            state.columns, state.moved, lambda: accounts(state), lambda account: row_of(state, account), 3
        )
        state.live = InPlace.of(columns, state.market.accounts)
    else:
        state.live.refresh(lambda account: row_of(state, account))
    return state.live


def compiled_rules(state: MorphoState, now: Clock) -> CompiledRules | None:
    """See ``LendingProtocol.compiled_rules``: not where interest is recomputed, or where
    somebody authorised a pre-liquidation contract.
    """
    totals, market = state.totals, state.market
    rows = (
        totals.supply_assets, totals.supply_shares, totals.borrow_assets, totals.borrow_shares, totals.fee, totals.rate,
        totals.rate_at_target or 0, state.lltv, state.incentive_factor, market.unit(COLLATERAL), market.unit(LOAN),
    )  # fmt: skip
    if state.recompute or state.authorized or max(rows) >> 128:
        return None
    live, curve = live_of(state), totals.rate_at_target is not None
    kept = np.array([(row & _WORD, row >> 64) for row in rows], np.uint64)
    updated = np.array([totals.updated, curve], np.int64)
    return CompiledRules(
        (
            live.values,
            live.plain,
            live.rank,
            kept,
            updated,
            (np.zeros(len(live.plain), np.bool_), *np.empty((2, len(live.plain)), np.int64)),
            np.zeros_like(kept),
            np.zeros_like(updated),
        ),
        m.index,
        m.moment,
        m.form,
        m.MADE,
        m.LOST,
        (REASONS[NOTHING], REASONS[TOO_MUCH]),
        FLOAT_ERROR,
        (RULES, True),
        lambda made, lost, liquidator: settle(state, live, kept, updated, made, lost, liquidator),
    )


def settle(
    state: MorphoState, live: InPlace, kept: Words, updated: Ints, made: Words, lost: Words, liquidator: AccountId
) -> Stretch:
    """See ``CompiledRules.settle``."""
    totals = state.totals
    totals.supply_assets, totals.supply_shares, totals.borrow_assets, totals.borrow_shares = (
        int(row[1]) << 64 | int(row[0]) for row in kept[: m.SHARE_OF_FEE]
    )
    totals.updated, curve = int(updated[m.UPDATED]), bool(updated[m.CURVE])
    if curve:
        totals.rate_at_target = int(kept[m.TARGET, 1]) << 64 | int(kept[m.TARGET, 0])
    account = made[:, loop.ACCOUNT].astype(np.int64)
    left = live.values[account, m.HELD].tolist()
    positions = state.positions
    for who, (low, high) in zip(account.tolist(), left, strict=True):
        positions[who] = Held(positions[who].supply_shares, 0, high << 64 | low)
    state.columns = None
    state.moved.clear()

    def fill(row: Words, losses: Words, now: Clock) -> Fill:
        return fill_of(row, losses, now, liquidator, curve=curve)

    return Stretch(made, lost, [], _sums, fill, ordered=True)


def fill_of(row: Words, losses: Words, now: Clock, liquidator: AccountId, *, curve: bool) -> Fill:
    """As ``liquidation.quote`` makes it."""
    account = AccountId(int(row[loop.ACCOUNT]))
    repaid, seized, lost_shares = number(row, loop.REPAID), number(row, loop.SEIZED), number(row, m.LOST_SHARES)
    lost = number(losses[0], loop.LOST_AMOUNT) if len(losses) else 0
    changes = (
        *accrued_at(now, number(row, m.ACCRUED_RATE), number(row, m.ACCRUED_TARGET) if curve else None),
        *taken(now, account, number(row, m.SHARES), repaid, seized, lost_shares, lost),
    )
    deficits = ((LOAN, lost),) if lost_shares else ()
    return Fill(Order(account, PAIR, liquidator), repaid, seized, 0, changes, deficits, rules=RULES, rules_tested=True)


def _sums(stretch: Stretch) -> tuple[list[Position], list[Setting]]:
    made, lost = stretch.made, stretch.lost
    account: list[AccountId] = made[:, loop.ACCOUNT].tolist()
    sums: dict[tuple[AccountId, AssetId, Side], int] = {}
    moved = zip(numbers(made, m.SHARES), numbers(made, m.LOST_SHARES), numbers(made, loop.SEIZED), strict=True)
    for who, (shares, lost_shares, seized) in zip(account, moved, strict=True):
        sums[who, LOAN, "debt"] = sums.get((who, LOAN, "debt"), 0) - shares - lost_shares
        sums[who, COLLATERAL, "collateral"] = sums.get((who, COLLATERAL, "collateral"), 0) - seized
    written_off = zip(lost[:, loop.LOST_IN].tolist(), numbers(lost, loop.LOST_AMOUNT), strict=True)
    settings: list[Setting] = [(account[row], "bad_debt", LOAN, amount) for row, amount in written_off]
    return [(*key, delta) for key, delta in sums.items() if delta], settings
