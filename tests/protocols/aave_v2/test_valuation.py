"""Books of random accounts at once, held against the plain rule of each."""

from __future__ import annotations

import random
from copy import deepcopy

import numpy as np
import pytest

from backtest.errors import PriceMissing
from backtest.model import AccountId, Asset, AssetId, Clock, Market, Prices
from backtest.protocols.aave_v2 import AAVE_V2
from backtest.protocols.aave_v2.state import AaveV2State, StableDebt, open_state
from backtest.units import RAY

NOW = Clock(100, 0, 5_000_000)
DECIMALS = (18, 6, 8, 18)


def book(rng: random.Random, accounts: int) -> AaveV2State:
    assets = tuple(Asset(AssetId(i), f"0x{i + 1:040x}", f"T{i}", decimals) for i, decimals in enumerate(DECIMALS))
    names = tuple(f"0x{i + 100:040x}" for i in range(accounts))
    state = open_state(
        Market(name="m", protocol="aave-v2", chain_id=1, assets=assets, accounts=names, base_decimals=18)
    )
    for reserve in state.reserves:
        reserve.supply_index, reserve.borrow_index = (RAY + rng.randrange(RAY) for _ in range(2))
        reserve.supply_rate, reserve.borrow_rate = (rng.randrange(RAY) for _ in range(2))
        reserve.ltv, reserve.liquidation_threshold = rng.choice([(7500, 8000), (0, 0), (8000, 8250), (0, 6000)])
        reserve.updated = NOW.timestamp - rng.choice([0, 12, 3_000_000])
    for id in range(accounts):
        change(state, AccountId(id), rng)
    return state


def change(state: AaveV2State, id: AccountId, rng: random.Random) -> None:
    account = state.account(id)
    account.collateral, account.debt, account.enabled, account.stable = {}, {}, set(), {}
    for asset in rng.sample(range(4), rng.randrange(5)):
        account.collateral[AssetId(asset)] = rng.randrange(1, 10 ** rng.randrange(1, 34))
    account.enabled = {AssetId(asset) for asset in range(4) if rng.random() < 0.6}
    for asset in rng.sample(range(4), rng.choice([0, 0, 1, 2])):
        account.debt[AssetId(asset)] = rng.randrange(1, 10 ** rng.randrange(1, 28))
    if rng.random() < 0.1:
        account.stable[AssetId(1)] = StableDebt(rng.choice([0, 10**9]), RAY // 20, NOW.timestamp - 1_000)


def priced(rng: random.Random) -> Prices:
    known = {AssetId(i): rng.randrange(1, 10 ** rng.randrange(3, 22)) for i in range(4) if rng.random() < 0.9}
    return Prices(known, known, known)


@pytest.mark.parametrize("seed", range(12))
def test_views_are_the_plain_ones(seed: int) -> None:
    rng = random.Random(seed)
    state = book(rng, 60)
    seen = 0
    for _ in range(3):
        prices, copied = priced(rng), deepcopy(state)
        found = AAVE_V2.views(state, prices, NOW)
        columns = found.collateral, found.debt, found.power
        rows = zip(
            found.account.tolist(), *(column.integers() for column in columns), found.health.tolist(), strict=True
        )
        made = {AccountId(id): (*three, low | high << 64) for id, *three, (low, high) in rows}
        assert sorted([*made, *found.rest]) == AAVE_V2.accounts(copied)
        for id in AAVE_V2.accounts(copied):
            try:
                view = AAVE_V2.view(copied, id, prices, NOW)
            except PriceMissing:
                assert found.rest[id] is None
                continue
            if id in made:
                assert made[id] == (view.collateral_base, view.debt_base, view.borrowing_power_base, view.health or 0)
                seen += 1
            else:
                assert found.rest[id] == view
        for id in rng.sample(range(60), 7):
            change(state, AccountId(id), rng)
    assert seen > 60


@pytest.mark.parametrize("seed", range(12))
def test_exposures_are_the_plain_ones(seed: int) -> None:
    rng = random.Random(seed)
    state = book(rng, 60)
    for _ in range(3):
        asked = [AccountId(id) for id in rng.sample(range(60), 40)]
        found = AAVE_V2.exposures(state, asked, NOW)
        borrowers = [id for id in sorted(asked) if state.accounts[id].debt]
        stable = [id for id in borrowers if any(debt.principal for debt in state.accounts[id].stable.values())]
        assert found.account.tolist() == [id for id in borrowers if id not in stable]
        for place, id in enumerate(found.account.tolist()):
            plain = AAVE_V2.exposure(state, AccountId(id), NOW)
            assert plain is not None
            rows = range(found.start[place], found.start[place + 1])
            weights: dict[int, float] = {}
            for row in rows:
                signed = -found.amount[row] if found.owed[row] else found.amount[row]
                weights[int(found.asset[row])] = weights.get(int(found.asset[row]), 0.0) + signed
            for asset in weights.keys() | plain.weights.keys():
                ours, theirs, unit = weights.get(asset, 0.0), plain.weights.get(asset, 0.0), 10.0 ** DECIMALS[asset]
                near = 1e-12 * (abs(theirs) + plain.debt.get(asset, 0.0))
                assert theirs - 2 / unit - near <= ours <= theirs + near  # no more than two units stricter, never laxer
            assert found.constant[place] == plain.constant
        assert found.until is None
        assert np.all(found.amount >= 0)
        for id in rng.sample(range(60), 7):
            change(state, AccountId(id), rng)
