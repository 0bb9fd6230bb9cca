"""Many accounts at once: what is the same for all of them is worked out once a cToken, not once an account.

The same numbers as ``account``, which says where the rules are from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.compound_v2.account import EXPOSURE_ERROR, HORIZON, may_grow, price_of, view_of
from backtest.protocols.compound_v2.math import DEPRECATING, mul_down, tokens_to_denom
from backtest.protocols.compound_v2.state import CompoundState, accounts
from backtest.protocols.interface import AccountView, Exposures, Views
from backtest.units import WAD

_LOW = (1 << 62) - 1
_WORD = (1 << 64) - 1
_WIDE = 1 << 124
_DOUBLE = 1e-12
"""More than a few operations of doubles err by."""


def exposures(state: CompoundState, ids: Sequence[AccountId], now: Clock) -> Exposures:
    """``account.exposure`` of those that owe, in doubles, hence a unit more on the safe side; nobody who owes a
    deprecated market.
    """
    held_at: list[float] = []
    owed_at: list[float] = []
    growth: list[float] = []
    barred: set[AssetId] = set()
    for asset in (each.id for each in state.market.assets):
        pool, unit = state.pools[asset], state.market.unit(asset)
        behind, apart = may_grow(state, asset, now)
        held_at.append(pool.exchange_rate * pool.factor / (WAD * WAD) / apart / unit * (1 - _DOUBLE))
        owed_at.append(behind / unit * (1 + _DOUBLE))
        growth.append(float(pool.index))
        if state.revision == DEPRECATING and pool.deprecated:
            barred.add(asset)
    found: list[AccountId] = []
    start, assets, owes, amounts, constants = [0], list[int](), list[bool](), list[float](), list[float]()
    for account in sorted(set(ids)):
        own = state.accounts.get(account)
        if own is None or not own.debts or not barred.isdisjoint(own.debts):
            continue
        constant = 0.0
        for asset in sorted(own.entered):
            tokens, debt = own.tokens.get(asset, 0), own.debts.get(asset)
            if not tokens and debt is None:
                continue
            constant -= tokens / WAD + 4
            if tokens:
                assets.append(asset)
                owes.append(False)
                amounts.append(tokens * held_at[asset])
            if debt is not None:
                assets.append(asset)
                owes.append(True)
                amounts.append((debt[0] * growth[asset] / debt[1] + 2) * owed_at[asset])
        found.append(account)
        start.append(len(assets))
        constants.append(constant - 1)
    return Exposures(
        account=np.array(found, np.int64),
        start=np.array(start, np.int64),
        asset=np.array(assets, np.int64),
        owed=np.array(owes, np.bool_),
        amount=np.array(amounts, np.float64),
        constant=np.array(constants, np.float64),
        relative_error=EXPOSURE_ERROR,
        until=now.timestamp + HORIZON,
    )


def views(state: CompoundState, prices: Mapping[AssetId, int]) -> Views:
    """``account.view`` of every account that holds anything."""
    terms: dict[AssetId, tuple[int, int, int, int]] = {}
    for asset in (each.id for each in state.market.assets):
        pool = state.pools[asset]
        try:
            price = price_of(state, asset, prices)
        except PriceMissing:
            continue
        rate = pool.exchange_rate
        terms[asset] = price, rate, tokens_to_denom(pool.factor, rate, price, state.revision), pool.index
    ids: list[AccountId] = []
    columns: tuple[list[int], list[int], list[int]] = ([], [], [])
    health: list[int] = []
    rest: dict[AccountId, AccountView | None] = {}
    for account in accounts(state):
        own = state.accounts[account]
        if not own.entered <= terms.keys():
            rest[account] = None
            continue
        worth = carried = owed = 0
        for asset in own.entered:
            price, rate, each, index = terms[asset]
            if tokens := own.tokens.get(asset):
                carried += mul_down(each, tokens)
                worth += mul_down(price, mul_down(rate, tokens))
            owed += mul_down(price, own.owed(asset, index))
        found = carried * WAD // owed if owed else 0
        if max(worth, owed, carried) >= _WIDE or found >> 128:
            rest[account] = view_of(state, own, prices)
            continue
        ids.append(account)
        for column, number in zip(columns, (worth, owed, carried), strict=True):
            column.append(number)
        health.append(found)
    low = [np.array([number & _LOW for number in column], np.int64) for column in columns]
    high = np.array([[number >> 62 for number in column] for column in columns], np.int64)
    words = np.array([[number & _WORD, number >> 64] for number in health], np.uint64).reshape(len(ids), 2)
    return Views(
        np.array(ids, np.int64), low[0], low[1], low[2], words, np.zeros(len(ids), np.int64), rest,
        high if high.any() else None,
    )  # fmt: skip
