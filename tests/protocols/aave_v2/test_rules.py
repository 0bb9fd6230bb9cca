"""Rules of Aave V2 on numbers worked by hand from the source, and what is refused by name."""

from __future__ import annotations

import pytest

from backtest.errors import PriceMissing, RulesError
from backtest.model import AccountId, Asset, AssetId, Clock, IndexUpdate, Market, ParamChange, Prices
from backtest.protocols.aave_v2 import AAVE_V2
from backtest.protocols.aave_v2.rules import (
    Taken,
    compounded_interest,
    decreased_health,
    health_of,
    parameter_fault,
    scaled_change,
    taken_for,
)
from backtest.protocols.aave_v2.state import AaveV2State, StableDebt, open_state
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.units import RAY, WAD

WETH, DAI = AssetId(0), AssetId(1)
BORROWER, LIQUIDATOR = AccountId(0), AccountId(1)
NOW = Clock(10, 0, 1_000_000)
PLACE = {"seq": 1, "block_number": 1, "log_index": 0, "timestamp": 1}


@pytest.mark.parametrize(
    ("rate", "elapsed", "growth"),
    [
        (RAY // 10, 0, RAY),
        # 1e26 // 31536000 = 3170979198376458650 a second; one second has no second term.
        (RAY // 10, 1, RAY + 3_170_979_198_376_458_650),
        # two: twice that, and 2 * 1 * 10055109076 // 2 (the square 1.00551...e37 / 1e27, to nearest).
        (RAY // 10, 2, RAY + 6_341_958_396_752_917_300 + 10_055_109_077),
        # a rate of less than a ray a year and a second is nothing
        (31_535_999, 10**6, RAY),
    ],
)
def test_debt_grows_by_three_terms_of_the_rate_per_second(rate: int, elapsed: int, growth: int) -> None:
    assert compounded_interest(rate, elapsed) == growth


@pytest.mark.parametrize(
    ("value", "index", "sign", "scaled"),
    [(3, 2 * RAY, 1, 2), (1, 2 * RAY, -1, -1), (1, 3 * RAY, 1, 0), (100, RAY, -1, -100)],
)
def test_scaled_units_are_to_nearest_halves_up(value: int, index: int, sign: int, scaled: int) -> None:
    assert scaled_change(value, index, sign) == scaled


def test_the_average_threshold_is_cut_to_a_basis_point_first() -> None:
    # 100 at 80 % and 1 at 75 %: 807500 // 101 = 7995 (of 7995.05); (101 * 7995 + 5000) // 10000 = 81; over 81 is one.
    assert health_of(101, 100 * 8000 + 7500, 81) == WAD
    assert health_of(0, 0, 5) == 0


def test_a_decrease_is_held_against_that_average() -> None:
    # (101 * 7995 - 1 * 7500) // 100 = 7999 (of 7999.95); 100 * 0.7999 = 80 to nearest
    assert decreased_health(101, 7995, 1, 7500, 80) == WAD


@pytest.mark.parametrize(
    ("repaid", "held", "taken"),
    [
        # 5e15 wei a DAI, 1e18 a WETH: 100 DAI are 0.5 WETH, with 5 % 0.525
        (100 * WAD, WAD, Taken(100 * WAD, 525 * WAD // 1000)),
        # 0.42 WETH are 84 DAI; without the bonus 80
        (100 * WAD, 42 * WAD // 100, Taken(80 * WAD, 42 * WAD // 100)),
        # one wei of DAI is 0.00525 wei of WETH: nothing
        (1, WAD, Taken(1, 0)),
        # 191: 191 * 5e15 * 1e18, times 1.05, over 1e36 = 1.00275
        (191, WAD, Taken(191, 1)),
    ],
)
def test_what_is_taken_has_the_bonus_before_the_division(repaid: int, held: int, taken: Taken) -> None:
    assert taken_for(repaid, held, 10_500, 5 * 10**15, WAD, WAD, WAD) == taken


@pytest.mark.parametrize(
    ("ltv", "threshold", "bonus", "said"),
    [
        (7500, 8000, 10500, None),
        (0, 0, 0, None),
        (8100, 8000, 10500, "above the threshold"),
        (0, 0, 10500, "without a threshold"),
        (0, 8000, 10000, "not above 100 %"),
        (0, 9600, 10500, "seize more than all"),
    ],
)
def test_what_the_configurator_refuses(ltv: int, threshold: int, bonus: int, said: str | None) -> None:
    found = parameter_fault({"ltv": ltv, "liquidation_threshold": threshold, "liquidation_bonus": bonus})
    assert found is None if said is None else said in str(found)


# -- a book ------------------------------------------------------------------------------------------------------------

PRICES = {WETH: WAD, DAI: 5 * 10**15}


def book(*, collateral: int = WAD, variable: int = 0, stable: int = 0) -> AaveV2State:
    assets = (Asset(WETH, "0x" + "01" * 20, "WETH", 18), Asset(DAI, "0x" + "02" * 20, "DAI", 18))
    names = tuple(f"0x{i + 100:040x}" for i in range(2))
    market = Market(name="m", protocol="aave-v2", chain_id=1, assets=assets, accounts=names, base_decimals=18)
    state = open_state(market)
    AAVE_V2.apply(state, ParamChange(**PLACE, name="pool_revision", value=2))
    for reserve in state.reserves:
        reserve.ltv, reserve.liquidation_threshold, reserve.liquidation_bonus = 8000, 8250, 10500
        reserve.updated, reserve.liquidity = NOW.timestamp, 10**24
        reserve.scaled_debt = variable
    account = state.account(BORROWER)
    account.collateral, account.enabled = {WETH: collateral}, {WETH}
    account.debt = {DAI: variable} if variable else {}
    account.stable = {DAI: StableDebt(stable, RAY // 20, NOW.timestamp)} if stable else {}
    return state


def order(repay: int | None = None, *, tokens: bool = False) -> Order:
    return Order(BORROWER, Pair(DAI, WETH), LIQUIDATOR, repay=repay, receive_collateral_token=tokens)


def quoted(state: AaveV2State, what: Order) -> Fill | Refusal:
    return AAVE_V2.quote(state, what, Prices(PRICES, PRICES, PRICES), NOW)


def test_half_of_the_debt_of_both_kinds_variable_first() -> None:
    """170 DAI are 0.85 WETH, above 0.825: 85 may be repaid, of 60 variable all and 25 of 110 stable."""
    state = book(variable=60 * WAD, stable=110 * WAD)
    fill = quoted(state, order())
    assert isinstance(fill, Fill)
    assert (fill.repaid, fill.seized) == (85 * WAD, 44_625 * WAD // 100_000)
    for change in fill.changes:
        AAVE_V2.apply(state, change)
    left = state.accounts[BORROWER]
    assert (left.debt, left.stable[DAI].principal) == ({}, 85 * WAD)
    assert left.collateral == {WETH: 55_375 * WAD // 100_000}
    assert [reserve.liquidity - 10**24 for reserve in state.reserves] == [-44_625 * WAD // 100_000, 85 * WAD]


def test_collateral_tokens_enable_their_receiver_and_need_no_liquidity() -> None:
    state = book(variable=170 * WAD)
    state.reserves[WETH].liquidity = 0
    assert isinstance(refusal := quoted(state, order()), Refusal)
    assert refusal.unpaid == (WETH, 44_625 * WAD // 100_000)
    fill = quoted(state, order(tokens=True))
    assert isinstance(fill, Fill)
    for change in fill.changes:
        AAVE_V2.apply(state, change)
    assert state.accounts[LIQUIDATOR].enabled == {WETH}
    assert state.accounts[LIQUIDATOR].collateral == {WETH: fill.seized}


def test_interest_that_suppliers_do_not_earn_is_lost_at_the_call() -> None:
    """A view counts it, the call burns by the index that stayed: more than a balance cannot be burned."""
    state = book(variable=2)
    reserve = state.reserves[DAI]
    reserve.borrow_rate, reserve.updated = RAY, NOW.timestamp - 31_536_000
    assert reserve.debt_index(NOW.timestamp) > 26 * RAY // 10
    assert reserve.stored_debt_index(NOW.timestamp) == RAY
    update = IndexUpdate(
        **{**PLACE, "timestamp": NOW.timestamp},
        asset=DAI,
        supply_index=RAY,
        borrow_index=RAY,
        supply_rate=0,
        borrow_rate=RAY,
    )
    AAVE_V2.apply(state, update)
    assert reserve.lost[0] == 1
    assert reserve.lost[1] > 26 * RAY // 10


def test_an_aToken_of_its_own_kind_has_no_value_here() -> None:
    state = book(variable=WAD)
    AAVE_V2.apply(state, ParamChange(**PLACE, name="other_balances", value=1, asset=WETH))
    with pytest.raises(PriceMissing, match="rebases by its own rules"):
        AAVE_V2.view(state, BORROWER, Prices(PRICES, PRICES, PRICES), NOW)
    assert AAVE_V2.pairs(state, BORROWER, Prices(PRICES, PRICES, PRICES), NOW) == ()
    assert AAVE_V2.views(state, Prices(PRICES, PRICES, PRICES), NOW).rest == {BORROWER: None}


def test_what_is_not_covered_is_refused_by_name() -> None:
    state = book()
    with pytest.raises(RulesError, match="pool revision 3 at block 1 is unknown"):
        AAVE_V2.apply(state, ParamChange(**PLACE, name="pool_revision", value=3))
    with pytest.raises(RulesError, match="unknown parameter 'emode_category'"):
        AAVE_V2.apply(state, ParamChange(**PLACE, name="emode_category", value=3, asset=DAI))
    AAVE_V2.apply(state, ParamChange(**PLACE, name="paused", value=1))
    assert quoted(state, order()) == Refusal("the pool is paused")
