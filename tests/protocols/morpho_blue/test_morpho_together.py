"""The liquidations of one moment in a Morpho market at once are those that a replay takes one by one."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import AccountId, Asset, AssetId, Clock, Market, ParamChange, PositionChange, Prices, Side
from backtest.protocols.interface import Fill, Order, Refusal
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.morpho_blue.irm import INITIAL_RATE_AT_TARGET
from backtest.protocols.morpho_blue.liquidation import PAIR
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN, MorphoState
from backtest.units import WAD

LENDER, LIQUIDATOR = AccountId(8), AccountId(9)
BORROWERS = [AccountId(number) for number in range(6)]
PLACE = {"seq": 0, "block_number": 1, "log_index": 0, "timestamp": 1_000}
MARKET = Market(
    name="made", protocol="morpho-blue", chain_id=1,
    assets=(Asset(LOAN, "0x" + "01" * 20, "USDC", 6), Asset(COLLATERAL, "0x" + "02" * 20, "WETH", 18)),
    accounts=tuple(f"0x{97 * number % 101:040x}" for number in range(10)), base_decimals=8, price_decimals=24,
)  # fmt: skip


def move(state: MorphoState, account: AccountId, asset: AssetId, side: Side, delta: int, amount: int) -> None:
    action = "supply" if side == "collateral" else "borrow"
    change = PositionChange(
        **PLACE, account=account, asset=asset, side=side, delta=delta, action=action, action_seq=0, amount=amount
    )
    MORPHO_BLUE.apply(state, change)


@st.composite
def books(draw: st.DrawFn) -> tuple[MorphoState, Prices, Clock]:
    """Positions around a health of one, alike and unlike, some of a few units, some without collateral."""
    state = MORPHO_BLUE.open(MARKET)
    values = [("created", 1), ("liquidation_threshold", draw(st.sampled_from((86, 77, 98))) * WAD // 100)]
    if draw(st.booleans()):
        values.append(("rate_at_target", INITIAL_RATE_AT_TARGET))
    values.append(("fee", draw(st.sampled_from((0, WAD // 10)))))
    for name, value in values:
        MORPHO_BLUE.apply(state, ParamChange(**PLACE, name=name, value=value, asset=COLLATERAL))
    move(state, LENDER, LOAN, "collateral", 10**20, 10**14)
    skew = draw(st.sampled_from((0, 1, 10**12)))
    for account in BORROWERS:
        worth = draw(st.sampled_from((1, 3, 1_000, 10**6, 10**9, 10**12, 10**12)))
        share = draw(st.sampled_from((60, 84, 86, 88, 95, 104, 150)))
        if draw(st.integers(0, 9)):
            move(state, account, COLLATERAL, "collateral", worth * 10**12 // 2_000, worth * 10**12 // 2_000)
        owed = worth * share // 100
        move(state, account, LOAN, "debt", owed * 10**6, owed)
    state.totals.borrow_assets += skew  # shares are worth an odd number
    price = draw(st.sampled_from((2_000, 1_990, 1_500))) * 10**24 + draw(st.integers(0, 10**20))
    sold = price * draw(st.integers(97, 103)) // 100
    now = Clock(1, 5, 1_000 + draw(st.sampled_from((0, 12, 10**6))))
    oracle = {LOAN: 10**24, COLLATERAL: price}
    return state, Prices(oracle, oracle, {**oracle, COLLATERAL: sold}), now


def spread(prices: Prices, fill: Fill) -> int:
    kept = fill.seized * prices.execution[COLLATERAL] // MARKET.unit(COLLATERAL)
    return kept - -(-fill.repaid * prices.market[LOAN] // MARKET.unit(LOAN))


def one_by_one(
    state: MorphoState, prices: Prices, now: Clock, cost: int, calls: dict[AccountId, int], most: int
) -> tuple[list[tuple[int, Fill, int | None, int | None]], list[AccountId], set[tuple[AccountId, str]]]:
    """Everyone quoted again after each liquidation; the state is changed."""
    made: list[tuple[int, Fill, int | None, int | None]] = []
    refused: set[tuple[AccountId, str]] = set()
    done = dict(calls)
    while True:
        offers: list[tuple[int, str, AccountId, Fill]] = []
        for account in BORROWERS:
            if MORPHO_BLUE.pairs(state, account, prices, now):
                fill = MORPHO_BLUE.quote(state, Order(account, PAIR, LIQUIDATOR), prices, now)
                if isinstance(fill, Refusal):
                    refused.add((account, fill.reason))
                else:
                    offers.append((-spread(prices, fill), MARKET.accounts[account], account, fill))
        pays = [offer for offer in offers if -offer[0] > cost and done.get(offer[2], 0) < most]
        if not pays:
            return made, [account for _, _, account, _ in offers], refused
        profit, _, account, fill = min(pays, key=lambda offer: offer[:2])
        before = MORPHO_BLUE.view(state, account, prices, now).health
        for change in fill.changes:
            MORPHO_BLUE.apply(state, change)
        done[account] = done.get(account, 0) + 1
        made.append((-profit - cost, fill, before, MORPHO_BLUE.view(state, account, prices, now).health))


@settings(max_examples=400, deadline=None)
@given(books(), st.sampled_from((0, 5 * 10**7)), st.sampled_from((1, 2, 10)), st.integers(0, 1))
def test_together_is_one_by_one(book: tuple[MorphoState, Prices, Clock], cost: int, most: int, called: int) -> None:
    state, prices, now = book
    plain, untouched, calls = deepcopy(state), deepcopy(state), {BORROWERS[0]: called}
    found = MORPHO_BLUE.together(state, BORROWERS, prices, now, LIQUIDATOR, cost=cost, calls=calls, most=most)
    assert found is not None
    assert state == untouched
    made, on_offer, refused = one_by_one(plain, prices, now, cost, calls, most)
    rows = range(len(found.account))
    assert [found.fill(row) for row in rows] == [fill for _, fill, _, _ in made]
    assert list(zip(found.profit, found.health_before, found.health_after, strict=True)) == [
        (profit, before, after) for profit, _, before, after in made
    ]
    assert (found.on_offer, set(found.refused)) == (on_offer, refused)
    assert [(found.repaid[row], found.seized[row]) for row in rows] == [(f.repaid, f.seized) for _, f, _, _ in made]
    assert [lost for _, *lost in found.deficits] == [list(lost) for _, fill, _, _ in made for lost in fill.deficits]
    MORPHO_BLUE.settle_together(state, found)
    assert state == plain
    for account, asset, side, delta in found.positions:
        then, after = untouched.positions[account], plain.positions[account]
        held = (then.borrow_shares, after.borrow_shares) if side == "debt" else (then.collateral, after.collateral)
        assert (asset, held[1] - held[0]) == (LOAN if side == "debt" else COLLATERAL, delta)


@pytest.mark.parametrize("why", ["recompute", "no price", "too large"])
def test_what_is_left_to_the_plain_rules(why: str) -> None:
    state = MORPHO_BLUE.open(MARKET, recompute=why == "recompute")
    move(state, BORROWERS[0], COLLATERAL, "collateral", 1 << (255 if why == "too large" else 60), 1)
    move(state, BORROWERS[0], LOAN, "debt", 10**15, 10**9)
    oracle = {LOAN: 10**24} if why == "no price" else {LOAN: 10**24, COLLATERAL: 10**24}
    prices = Prices(oracle, oracle, oracle)
    now = replace(Clock(1, 5, 1_000))
    assert MORPHO_BLUE.together(state, BORROWERS, prices, now, LIQUIDATOR, cost=0, calls={}, most=10) is None
