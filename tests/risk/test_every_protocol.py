"""Distances and the smallest shock of a small book of every protocol, held against its own rule at each basis point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backtest.model import AccountId, Asset, AssetId, Clock, Market, ParamChange, PositionChange, SettingChange
from backtest.protocols.aave_v2 import AAVE_V2
from backtest.protocols.aave_v2.state import open_state
from backtest.protocols.book import Book
from backtest.protocols.compound_v2 import COMPOUND_V2
from backtest.protocols.compound_v2.state import CTokenMarket
from backtest.protocols.compound_v3 import COMPOUND_V3
from backtest.protocols.liquity_v1 import LIQUITY_V1
from backtest.protocols.maker import MAKER
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.replay.what_if import proposal as what_if
from backtest.risk.book import insolvent, moves, standings_of
from backtest.risk.reverse import bad_debt_after, reverse_along
from backtest.units import RAY, WAD
from tests.protocols.compound_v3 import hand
from tests.protocols.liquity_v1 import hand as trove
from tests.support import vault_history

NOW = Clock(100, 0, 1_000)
PLACE = {"seq": 0, "block_number": 100, "log_index": 0, "timestamp": 1_000}
ETH, USD = AssetId(0), AssetId(1)
OWED = (1_000, 1_200, 1_450)
NAMES = tuple(f"0x{number + 16:040x}" for number in range(6))


def market(protocol: str, **more: int) -> Market:
    assets = (Asset(ETH, "0x" + "e1" * 20, "ETH", 18), Asset(USD, "0x" + "d1" * 20, "USDC", 6))
    return Market(name="m", protocol=protocol, chain_id=1, assets=assets, accounts=NAMES, **more)


def aave_v2() -> tuple[Book[Any], AssetId]:
    of = market("aave-v2", base_decimals=18)
    state = open_state(of)
    state.revision = 4
    for reserve, bonus in zip(state.reserves, (10_500, 10_400), strict=True):
        reserve.supply_index = reserve.borrow_index = RAY
        reserve.ltv, reserve.liquidation_threshold, reserve.liquidation_bonus = 7_500, 8_000, bonus
        reserve.updated = NOW.timestamp
    for number, owed in enumerate(OWED):
        account = state.account(AccountId(number))
        account.collateral, account.enabled, account.debt = {ETH: 10**18}, {ETH}, {USD: owed * 10**6}
    return Book(AAVE_V2, of, state, NOW, oracle={ETH: 2_000 * WAD, USD: WAD}), ETH


def compound_v2() -> tuple[Book[Any], AssetId]:
    of = market("compound-v2", base_decimals=18, price_decimals=36)
    state = COMPOUND_V2.open(of)
    state.close_factor = WAD // 2
    eth = CTokenMarket(cash=20 * 10**18, supply=1_000 * 10**8, updated=100, factor=75 * WAD // 100)
    usd = CTokenMarket(
        cash=10_000 * 10**6, borrows=3_650 * 10**6, supply=682_500 * 10**8, updated=100, factor=80 * WAD // 100
    )
    for pool in (eth, usd):
        pool.incentive, pool.seize_share = 108 * WAD // 100, 28 * WAD // 1_000
    state.pools = [eth, usd]
    for number, owed in enumerate(OWED):
        own = {**PLACE, "account": AccountId(number), "action_seq": 0}
        for asset in (ETH, USD):
            COMPOUND_V2.apply(
                state, SettingChange(**own, setting="collateral_enabled", asset=asset, value=1, action="enter")
            )
        for asset, side, delta in ((ETH, "collateral", 50 * 10**8), (USD, "debt", owed * 10**6)):
            COMPOUND_V2.apply(
                state, PositionChange(**own, asset=asset, side=side, delta=delta, action="transfer", amount=0)
            )
    return Book(COMPOUND_V2, of, state, NOW, oracle={ETH: 2_000 * 10**36, USD: 10**36}), ETH


def compound_v3() -> tuple[Book[Any], AssetId]:
    borrowers = [account for account in map(AccountId, range(6)) if account != hand.LENDER][:3]
    events = []
    for account, owed in zip(borrowers, OWED, strict=True):
        events += [
            hand.moved(account, hand.WETH, "collateral", hand.ETH, "supply", hand.ETH),
            hand.moved(account, hand.BASE, "debt", owed * hand.USDC, "borrow", owed * hand.USDC),
        ]
    lent = hand.moved(hand.LENDER, hand.BASE, "collateral", 10_000 * hand.USDC, "supply", 10_000 * hand.USDC)
    state = hand.opened(lent, *events)
    prices = hand.at(2_000 * hand.USD).oracle
    return Book(COMPOUND_V3, hand.MARKET, state, Clock(10, 0, hand.START), oracle=dict(prices)), hand.WETH


def liquity_v1() -> tuple[Book[Any], AssetId]:
    troves = [trove.opens(AccountId(2 + number), WAD, owed * WAD) for number, owed in enumerate(OWED)]
    return Book(
        LIQUITY_V1, trove.MARKET, trove.opened(*troves), NOW, oracle=dict(trove.prices(2_000 * WAD).oracle)
    ), ETH


def maker() -> tuple[Book[Any], AssetId]:
    h = vault_history.history(20, 1_900)
    return what_if.book_at(MAKER, h.market, h.timeline(), 1, ended=True), AssetId(vault_history.ETH)


def morpho_blue() -> tuple[Book[Any], AssetId]:
    assets = (Asset(AssetId(0), "0x" + "01" * 20, "USDC", 6), Asset(AssetId(1), "0x" + "02" * 20, "WETH", 18))
    of = Market(
        name="m", protocol="morpho-blue", chain_id=1, assets=assets, accounts=NAMES, base_decimals=8, price_decimals=24
    )
    state = MORPHO_BLUE.open(of)
    for name, value in (("created", 1), ("liquidation_threshold", 86 * WAD // 100), ("fee", 0)):
        MORPHO_BLUE.apply(state, ParamChange(**PLACE, name=name, value=value, asset=AssetId(1)))
    lender = (AccountId(5), AssetId(0), "collateral", 10**16, 10**10)
    borrowers = [
        row
        for number, owed in enumerate(OWED)
        for row in (
            (AccountId(number), AssetId(1), "collateral", 10**18, 10**18),
            (AccountId(number), AssetId(0), "debt", owed * 10**12, owed * 10**6),
        )
    ]
    for account, asset, side, delta, amount in (lender, *borrowers):
        own = {"account": account, "asset": asset, "side": side, "delta": delta, "amount": amount}
        MORPHO_BLUE.apply(state, PositionChange(**PLACE, **own, action="supply", action_seq=0))
    return Book(MORPHO_BLUE, of, state, NOW, oracle={AssetId(0): 10**24, AssetId(1): 2_000 * 10**24}), AssetId(1)


BOOKS: dict[str, tuple[Callable[[], tuple[Book[Any], AssetId]], float | None]] = {
    "aave-v2": (aave_v2, 1.05),
    "compound-v2": (compound_v2, 1.08),
    "compound-v3": (compound_v3, None),
    "liquity-v1": (liquity_v1, 1.1),
    "maker": (maker, None),
    "morpho-blue": (morpho_blue, 1.0438),
}


@pytest.mark.slow  # each compiles its rules
@pytest.mark.parametrize("name", BOOKS)
def test_the_rule_turns_at_each_distance(name: str) -> None:
    make, bonus = BOOKS[name]
    book, falls = make()
    direction = {falls: 10_000}
    found, unvalued = standings_of(book, direction, cost=0)
    assert unvalued == 0
    assert len(found) == (1 if name == "maker" else 3)
    assert sum(one.accounts for one in insolvent(found)) == 0

    def after(account: AccountId, fall: int) -> Any:
        then = what_if.moved(book, moves(direction, fall))
        return book.protocol.view(then.state, account, then.prices, then.now)

    for one in found:
        assert one.liquidation is not None
        assert one.insolvency is not None
        assert 0 < one.liquidation < one.insolvency
        assert after(one.account, one.liquidation).health < WAD <= after(one.account, one.liquidation - 1).health
        at, before = (after(one.account, fall) for fall in (one.insolvency, one.insolvency - 1))
        assert at.debt_base > at.collateral_base
        assert before.debt_base <= before.collateral_base
        if bonus is None:
            assert (one.bonus, one.toxicity) == (None, None)
        else:
            assert one.bonus is not None
            assert one.toxicity is not None
            assert one.bonus / WAD == pytest.approx(bonus, abs=2e-3)
            assert one.toxicity <= one.insolvency
            then = after(one.account, one.toxicity)
            assert then.debt_base * one.bonus > then.collateral_base * WAD
    owed = sum(one.debt for one in found)
    least = reverse_along(book, direction, owed // 10)
    assert least is not None
    assert least.before <= owed // 10 < least.bad_debt
    assert bad_debt_after(book, direction, least.fall) == least.bad_debt
