"""The rules of Compound V2 by hand: each number is worked out beside its test."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import PriceMissing, RulesError, UserError
from backtest.model import AccountId, Asset, AssetId, Clock, Market, ParamChange, PositionChange, SettingChange
from backtest.protocols.compound_v2 import COMPOUND_V2
from backtest.protocols.compound_v2.events import ROUNDING_IMPLEMENTATIONS, comptroller_revision, periods
from backtest.protocols.compound_v2.liquidation import most_repay_down
from backtest.protocols.compound_v2.math import (
    CUT,
    DEPRECATING,
    HALF_UP,
    NO_KINK,
    borrow_balance_down,
    borrow_rate_down,
    exchange_rate_down,
    factor_up,
    mul_down,
    mul_half_up,
    seize_tokens_down,
    tokens_to_denom,
)
from backtest.protocols.compound_v2.state import CompoundState, CTokenMarket
from backtest.protocols.interface import Action, BoxExposure, Fill, LinearExposure, Order, Pair, Refusal
from backtest.units import WAD

ETH, USD = AssetId(0), AssetId(1)
ANN, LIQUIDATOR = AccountId(0), AccountId(1)
NOW = Clock(100, 0, 1_000)
MARKET = Market(
    name="m",
    protocol="compound-v2",
    chain_id=1,
    assets=(Asset(ETH, "0x" + "e1" * 20, "ETH", 18), Asset(USD, "0x" + "d1" * 20, "USDC", 6)),
    accounts=("0x" + "aa" * 20, "0x" + "bb" * 20),
    base_decimals=18,
    price_decimals=36,
)


class Prices:
    """ETH at 100 dollars unless said otherwise, USDC at one: per whole token with 36 decimals."""

    def __init__(self, eth: int = 100, usd: int = 1) -> None:
        self.oracle = {ETH: eth * 10**36, USD: usd * 10**36}
        self.market = self.execution = self.oracle


def book(*, revision: int = CUT, share: int = 0) -> CompoundState:
    """Ann holds 500 cETH at an exchange rate of 0.02, 10 ETH, entered, and owes 700 USDC; ETH counts for 75 %.

    cETH: 1,000 cTokens (8 decimals) for 20 ETH of cash, so the rate is 20e18 x 1e18 / 1000e8 = 2e26.
    cUSDC: 10,000 USDC of cash, 700 lent, 10,700 x 1e8 / 0.02 cTokens.
    """
    state = COMPOUND_V2.open(MARKET)
    state.revision, state.close_factor = revision, WAD // 2
    eth = CTokenMarket(cash=20 * 10**18, supply=1_000 * 10**8, updated=100, factor=75 * WAD // 100)
    usd = CTokenMarket(
        cash=10_000 * 10**6, borrows=700 * 10**6, supply=535_000 * 10**8, updated=100, factor=80 * WAD // 100
    )
    for pool in (eth, usd):
        pool.incentive, pool.seize_share = 108 * WAD // 100, share
    state.pools = [eth, usd]
    place = {"seq": 0, "block_number": 100, "log_index": 0, "timestamp": 1_000, "account": ANN, "action_seq": 0}
    for asset in (ETH, USD):
        COMPOUND_V2.apply(
            state, SettingChange(**place, setting="collateral_enabled", asset=asset, value=1, action="enter")
        )
    held = PositionChange(**place, asset=ETH, side="collateral", delta=500 * 10**8, action="transfer", amount=0)
    COMPOUND_V2.apply(state, held)
    owed = PositionChange(**place, asset=USD, side="debt", delta=700 * 10**6, action="borrow", amount=0)
    COMPOUND_V2.apply(state, owed)
    return state


def order(repay: int | None = None, **rest: bool) -> Order:
    return Order(ANN, Pair(USD, ETH), LIQUIDATOR, repay=repay, receive_collateral_token=rest.get("ctokens", True))


# -- arithmetic --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "cut", "nearest"),
    [
        (WAD, 3, 3, 3),
        (WAD // 2, 3, 1, 2),  # 1.5: a half goes up
        (WAD // 2 - 1, 3, 1, 1),  # 1.4999...
        (6 * WAD // 10, 1, 0, 1),
    ],
)
def test_products_of_mantissas(a: int, b: int, cut: int, nearest: int) -> None:
    assert (mul_down(a, b), mul_half_up(a, b)) == (cut, nearest)


def test_what_a_ctoken_counts_for() -> None:
    """0.75 x 3 units of 1e-18 is 2.25, cut and to nearest 2; times 1.3 is 2.6: cut 2, to nearest 3."""
    assert tokens_to_denom(75 * WAD // 100, 3, 13 * WAD // 10, CUT) == 2
    assert tokens_to_denom(75 * WAD // 100, 3, 13 * WAD // 10, HALF_UP) == 3


def test_exchange_rate_and_borrow_balance_are_cut() -> None:
    """(10 + 5 - 1) / 3 cTokens is 4.666...; 7 of index 3 at index 10 are 23.33."""
    assert exchange_rate_down(10, 5, 1, 3) == 4_666_666_666_666_666_666
    assert borrow_balance_down(7, 10, 3) == 23


@pytest.mark.parametrize(
    ("borrows", "rate"),
    [
        (0, 10),  # nothing is lent: the base rate
        (50, 35),  # half is lent, below the kink: 10 + 0.5 x 50
        (80, 50),  # at the kink: 10 + 0.8 x 50
        (90, 150),  # 0.1 above it: 50 + 0.1 x 1000
    ],
)
def test_the_jump_rate(borrows: int, rate: int) -> None:
    assert borrow_rate_down(100 - borrows, borrows, 0, 10, 50, 1000, 8 * WAD // 10) == rate


def test_the_straight_rate_has_no_kink_and_reserves_count_against_cash() -> None:
    """50 of 50 + 50 - 20 is 0.625: 10 + 0.625 x 80 = 60; 200 of 100 + 200 - 250 are four times all there is: 330."""
    assert borrow_rate_down(50, 50, 20, 10, 80, 0, NO_KINK) == 60
    assert borrow_rate_down(100, 200, 250, 10, 80, 0, NO_KINK) == 330


@given(st.integers(WAD, 10**25), st.integers(0, 10**18))
def test_an_index_tells_its_factor(before: int, factor: int) -> None:
    assert factor_up(before, before + mul_down(factor, before)) == factor


def test_accrual() -> None:
    """1,000 lent at 3e-6 a period for 50 periods: 1.5e-4 of them; reserves keep a tenth. 0.15 of 1,000.000000 units."""
    pool = CTokenMarket(cash=0, borrows=1_000_000_000, updated=10, reserve_factor=WAD // 10)
    pool.accrue(3 * 10**12, 60)
    assert (pool.borrows, pool.reserves, pool.index, pool.updated) == (1_000_150_000, 15_000, 1_000_150 * 10**12, 60)


@pytest.mark.parametrize(("revision", "tokens"), [(CUT, 3), (HALF_UP, 1)])
def test_seize_tokens_round_at_every_step(revision: int, tokens: int) -> None:
    """108 % of a price of 1 is 1.08: 1 both ways. A price of 1 times a rate of 1.5 is cut 1, to nearest 2. So 3 repaid
    seize 3 x 1 / 1, or 3 x 1 / 2, cut.
    """
    assert seize_tokens_down(3, 108 * WAD // 100, 1, 1, 15 * WAD // 10, revision) == tokens


@given(st.integers(1, 10**30), st.integers(0, 10**20))
def test_the_most_that_may_be_repaid_seizes_no_more_than_there_is(ratio: int, tokens: int) -> None:
    most = most_repay_down(tokens, ratio)
    assert mul_down(ratio, most) <= tokens < mul_down(ratio, most + 1)


# -- accounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("eth", "short"), [(100, False), (94, False), (93, True)])
def test_liquidity(eth: int, short: bool) -> None:
    """10 ETH x 0.75 carry 750 dollars at 100, 705 at 94, 697.5 at 93, against 700."""
    state = book()
    view = COMPOUND_V2.view(state, ANN, Prices(eth), NOW)
    assert view.borrowing_power_base == eth * 75 * 10**17
    assert (view.collateral_base, view.debt_base) == (eth * 10 * WAD, 700 * WAD)
    assert view.health == eth * 75 * 10**17 * WAD // (700 * WAD)
    found = {figure.name: figure.value for figure in COMPOUND_V2.figures(state, ANN, Prices(eth), NOW)}
    assert found["shortfall"] == (max(0, 7000 - 75 * eth) * 10**17)
    assert bool(COMPOUND_V2.pairs(state, ANN, Prices(eth), NOW)) == short


def test_every_entered_ctoken_needs_a_price_and_no_other() -> None:
    state, prices = book(), Prices(93)
    state.accounts[ANN] = replace(state.accounts[ANN], entered=frozenset({USD}))
    del prices.oracle[ETH]
    assert COMPOUND_V2.view(state, ANN, prices, NOW).collateral_base == 0
    state.accounts[ANN] = replace(state.accounts[ANN], entered=frozenset({ETH, USD}), tokens={})
    with pytest.raises(PriceMissing):
        COMPOUND_V2.view(state, ANN, prices, NOW)


def test_a_call_accrues_what_it_touches() -> None:
    """At 93.34 dollars ETH carries 700.05; 1e-4 of interest on 700 are 0.07: the stored debt is safe, accrued not."""
    state, prices = book(), Prices()
    prices.oracle[ETH] = 9334 * 10**34
    state.pools[USD].rate = 10**12
    assert COMPOUND_V2.view(state, ANN, prices, NOW).health >= WAD
    assert not COMPOUND_V2.pairs(state, ANN, prices, NOW)
    later = replace(NOW, block_number=200)
    assert COMPOUND_V2.view(state, ANN, prices, later).health >= WAD
    assert COMPOUND_V2.pairs(state, ANN, prices, later) == [Pair(USD, ETH)]
    form = COMPOUND_V2.exposure(state, ANN, NOW)
    assert isinstance(form, LinearExposure)
    assert sum(weight * prices.oracle[asset] for asset, weight in form.weights.items()) + form.constant < 0


# -- liquidations ------------------------------------------------------------------------------------------------------


def test_a_liquidation_without_a_seize_share() -> None:
    """At 90 dollars: at most half of 700 is repaid, 350 dollars x 1.08 are 378, 4.2 ETH, 210 cTokens."""
    fill = COMPOUND_V2.quote(book(), order(), Prices(90), NOW)
    assert isinstance(fill, Fill)
    assert (fill.repaid, fill.seized, fill.protocol_fee) == (350 * 10**6, 42 * 10**17, 0)
    assert fill.rules_tested


def test_reserves_keep_their_share_of_what_is_seized() -> None:
    """2.8 % of 210 cTokens are 5.88, which are 0.1176 ETH; the liquidator gets 204.12, 4.0824 ETH."""
    state = book(share=28 * WAD // 1000)
    fill = COMPOUND_V2.quote(state, order(), Prices(90), NOW)
    assert isinstance(fill, Fill)
    assert (fill.seized, fill.protocol_fee) == (40_824 * 10**14, 1_176 * 10**14)
    moves = [change for change in fill.changes if isinstance(change, PositionChange) and change.side == "collateral"]
    assert [(move.account, move.delta) for move in moves] == [(ANN, -210 * 10**8), (LIQUIDATOR, 20_412 * 10**6)]
    assert not fill.rules_tested
    for change in fill.changes:
        COMPOUND_V2.apply(state, change)
    pool = state.pools[ETH]
    assert (pool.supply, pool.reserves, pool.cash) == (1_000 * 10**8 - 588 * 10**6, 1_176 * 10**14, 20 * 10**18)
    assert pool.exchange_rate == 2 * 10**26  # what is burned and what reserves get are worth the same


def test_a_share_is_cut_and_worth_what_is_cut() -> None:
    """301 units of 1e-6 dollars x 1.08 / 90 are 3.612e-6 ETH, over 0.02 180.6e-6 cTokens: 18,060 units of 1e-8. 2.8 %
    of them are 505.68: 505 are kept, worth 505 x 2e8, and 17,555 given.
    """
    state = book(share=28 * WAD // 1000)
    fill = COMPOUND_V2.quote(state, order(301), Prices(90), NOW)
    assert isinstance(fill, Fill)
    moves = [
        change.delta for change in fill.changes if isinstance(change, PositionChange) and change.side == "collateral"
    ]
    assert moves == [-18_060, 17_555]
    assert (fill.protocol_fee, fill.seized) == (505 * 2 * 10**8, 17_555 * 2 * 10**8)


def test_the_liquidator_may_redeem_at_once_if_there_is_cash() -> None:
    state = book()
    fill = COMPOUND_V2.quote(state, order(ctokens=False), Prices(90), NOW)
    assert isinstance(fill, Fill)
    assert fill.seized == 42 * 10**17
    for change in fill.changes:
        COMPOUND_V2.apply(state, change)
    assert (state.pools[ETH].cash, state.pools[ETH].supply) == (158 * 10**17, 790 * 10**8)
    assert LIQUIDATOR not in state.accounts
    state = book()
    state.pools[ETH].cash, state.pools[ETH].borrows = 10**18, 19 * 10**18
    refused = COMPOUND_V2.quote(state, order(ctokens=False), Prices(90), NOW)
    assert isinstance(refused, Refusal)
    assert refused.unpaid == (ETH, 42 * 10**17)


@pytest.mark.parametrize(
    ("repay", "eth", "reason", "instead"),
    [
        (350 * 10**6 + 1, 90, "repays more than the close factor allows", 350 * 10**6),
        # 10 ETH at 30 dollars are 300, over 1.08 277.777777: 350 would seize more.
        (350 * 10**6, 30, "seizes more than the account holds", 277_777_777),
        (1, 100, "the account has no shortfall", None),
        (0, 90, "nothing is repaid", None),
    ],
)
def test_what_is_refused(repay: int, eth: int, reason: str, instead: int | None) -> None:
    found = COMPOUND_V2.quote(book(), order(repay), Prices(eth), NOW)
    assert isinstance(found, Refusal)
    assert (found.reason, found.instead) == (reason, instead)
    if instead is not None:
        assert isinstance(COMPOUND_V2.quote(book(), order(instead), Prices(eth), NOW), Fill)


def test_nobody_liquidates_itself_or_while_seizing_is_paused() -> None:
    state = book()
    own = Order(ANN, Pair(USD, ETH), ANN)
    assert COMPOUND_V2.quote(state, own, Prices(90), NOW) == Refusal("an account cannot liquidate itself")
    state.seize_paused = 1
    assert COMPOUND_V2.quote(state, order(), Prices(90), NOW) == Refusal("seize is paused")
    assert not COMPOUND_V2.pairs(state, ANN, Prices(90), NOW)


def test_whoever_owes_a_deprecated_market_may_be_liquidated_in_full() -> None:
    """No collateral factor, borrowing paused, all interest to reserves: 700 at once, without a shortfall."""
    state = book(revision=DEPRECATING)
    assert not COMPOUND_V2.pairs(state, ANN, Prices(100), NOW)
    pool = state.pools[USD]
    pool.factor, pool.borrow_paused, pool.reserve_factor = 0, 1, WAD
    assert COMPOUND_V2.pairs(state, ANN, Prices(100), NOW) == [Pair(USD, ETH)]
    assert isinstance(COMPOUND_V2.exposure(state, ANN, NOW), BoxExposure)
    fill = COMPOUND_V2.quote(state, order(), Prices(100), NOW)
    assert isinstance(fill, Fill)
    # 700 x 1.08 / 100 = 7.56 ETH
    assert (fill.repaid, fill.seized, fill.rules_tested) == (700 * 10**6, 756 * 10**16, False)
    state.revision = CUT
    assert not COMPOUND_V2.pairs(state, ANN, Prices(100), NOW)


def test_agreed_amounts_ignore_close_factor_and_incentive() -> None:
    agreed = Order(ANN, Pair(USD, ETH), LIQUIDATOR, repay=600 * 10**6, seize=7 * 10**18, agreed=True)
    fill = COMPOUND_V2.quote(book(), agreed, Prices(90), NOW)
    assert isinstance(fill, Fill)
    assert (fill.repaid, fill.seized) == (600 * 10**6, 7 * 10**18)


# -- users' calls ------------------------------------------------------------------------------------------------------


def change(asset: AssetId, side: str, delta: int, action: str, amount: int) -> PositionChange:
    return PositionChange(
        seq=0, block_number=100, log_index=0, timestamp=1_000, account=ANN, asset=asset, side=side, delta=delta,
        action=action, action_seq=0, amount=amount,
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize(
    ("made", "eth", "reason"),
    [
        (change(USD, "debt", 50 * 10**6, "borrow", 50 * 10**6), 100, None),  # 750 carry 750
        (change(USD, "debt", 50 * 10**6, "borrow", 50 * 10**6 + 1), 100, "insufficient liquidity"),
        (change(ETH, "collateral", -33 * 10**8, "withdraw", 66 * 10**16), 100, None),  # 9.34 ETH carry 700.5
        (change(ETH, "collateral", -34 * 10**8, "withdraw", 68 * 10**16), 100, "insufficient liquidity"),
        (change(ETH, "collateral", -34 * 10**8, "transfer", 68 * 10**16), 100, "insufficient liquidity"),
        (change(ETH, "collateral", -501 * 10**8, "withdraw", 1002 * 10**16), 1000, "redeems more than it holds"),
        (change(USD, "debt", -701 * 10**6, "repay", 701 * 10**6), 100, "repays more than it owes"),
        (change(USD, "debt", 10_001 * 10**6, "borrow", 10_001 * 10**6), 10_000, "the cToken has not the cash"),
    ],
)
def test_calls_are_checked(made: PositionChange, eth: int, reason: str | None) -> None:
    found = COMPOUND_V2.act(book(), Action(made.action, (made,)), Prices(eth), NOW)
    assert (found.reason if isinstance(found, Refusal) else None) == reason


def test_caps_and_pauses_and_leaving() -> None:
    state = book()
    state.pools[USD].cap = 701 * 10**6  # what all owe must stay below it
    one = change(USD, "debt", 10**6, "borrow", 10**6)
    assert COMPOUND_V2.act(state, Action("borrow", (one,)), Prices(), NOW) == Refusal("market borrow cap reached")
    state.pools[USD].cap, state.pools[USD].borrow_paused = 0, 1
    assert COMPOUND_V2.act(state, Action("borrow", (one,)), Prices(), NOW) == Refusal("borrow is paused")
    state.pools[ETH].mint_paused = 1
    mint = change(ETH, "collateral", 10**8, "supply", 2 * 10**16)
    assert COMPOUND_V2.act(state, Action("supply", (mint,)), Prices(), NOW) == Refusal("mint is paused")
    place = {"seq": 0, "block_number": 100, "log_index": 0, "timestamp": 1_000, "account": ANN, "action_seq": 0}
    for asset, reason in ((USD, "owes what it would leave"), (ETH, "insufficient liquidity")):
        leave = SettingChange(**place, setting="collateral_enabled", asset=asset, value=0, action="exit")
        assert COMPOUND_V2.act(state, Action("exit", (leave,)), Prices(), NOW) == Refusal(reason)


# -- what a market must say --------------------------------------------------------------------------------------------


def test_an_unknown_implementation_follows_what_the_description_says() -> None:
    unknown = "0x" + "12" * 20
    assert comptroller_revision({"revision": "3"}, min(ROUNDING_IMPLEMENTATIONS)) == HALF_UP
    assert comptroller_revision({"revision": "3"}, unknown) == DEPRECATING
    assert (
        comptroller_revision({"revision": "2", "rounding_implementations": unknown.upper().replace("X", "x")}, unknown)
        == HALF_UP
    )
    with pytest.raises(UserError, match=r"nothing says which rules Comptroller 0x1212.* parameters\.revision = ''"):
        comptroller_revision({}, unknown)
    assert periods({"accrual": "seconds", "periods_per_year": "31536000"}) == (True, 31_536_000)
    for wrong in ({}, {"accrual": "days", "periods_per_year": "365"}, {"accrual": "blocks", "periods_per_year": "٣"}):
        with pytest.raises(UserError, match="write accrual"):
            periods(wrong)


def test_recomputed_interest_needs_a_known_model() -> None:
    state = COMPOUND_V2.open(MARKET, recompute=True)
    event = ParamChange(seq=0, block_number=5, log_index=0, timestamp=60, name="accrued", value=1, asset=USD)
    with pytest.raises(RulesError, match="block 5: USDC has an interest rate model that the rules do not know"):
        COMPOUND_V2.apply(state, event)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"liquidation_threshold": 9 * WAD // 10, "close_factor": WAD // 2, "liquidation_bonus": WAD}, None),
        ({"liquidation_threshold": 9 * WAD // 10 + 1}, "a collateral factor above 0.9"),
        ({"close_factor": WAD // 25}, "a close factor outside of 0.05 to 0.9"),
        ({"liquidation_bonus": WAD - 1}, "a liquidation incentive below one"),
    ],
)
def test_parameters_that_the_comptroller_refuses(values: dict[str, int], why: str | None) -> None:
    assert COMPOUND_V2.fault(values) == why
