"""What holds of a Comet whatever is called: totals are the sums of accounts, rounding favours the protocol, nobody wins
by coming and going, an absorption leaves nothing behind, and the fast ways say what the plain rules say.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import AccountId, AssetId, Clock, ParamChange, PositionChange, Prices
from backtest.protocols.book import Book
from backtest.protocols.compound_v3 import COMPOUND_V3
from backtest.protocols.compound_v3.account import is_collateralized, is_liquidatable
from backtest.protocols.compound_v3.liquidation import sold
from backtest.protocols.compound_v3.state import BASE, CometState
from backtest.protocols.compound_v3.storefront import Storefront
from backtest.protocols.interface import Acted, Action, Fill, LinearExposure, Order, Refusal
from backtest.protocols.mechanism import Opportunity
from tests.protocols.compound_v3.hand import BTC, ETH, MARKET, START, USD, USDC, WBTC, WETH, at, moved, opened
from tests.support.book_views import every_view, spelt

USERS = [AccountId(n) for n in range(4)]
HELD = {WETH: ETH, WBTC: BTC}
CALLS = st.lists(
    st.tuples(
        st.sampled_from(
            ("supply", "withdraw", "withdraw", "send", "pledge", "take", "move", "wait", "price", "absorb")
        ),
        st.sampled_from(USERS),
        st.sampled_from((WETH, WBTC)),
        st.integers(1, 10**9) | st.integers(1, 3 * 10**10),
    ),
    min_size=5,
    max_size=30,
)
FEW = settings(max_examples=60, deadline=None)


@dataclass
class World:
    """A market in which interest follows the calls, and who has brought and taken what of the base token."""

    state: CometState
    time: int = START
    weth: int = 2_000 * USD
    wbtc: int = 30_000 * USD
    paid_out: int = 0

    @property
    def now(self) -> Clock:
        return Clock(10, 0, self.time)

    @property
    def prices(self) -> Prices:
        return at(self.weth, self.wbtc)

    def act(self, name: str, *changes: PositionChange) -> Acted | Refusal:
        acted = COMPOUND_V3.act(self.state, Action(name, changes), self.prices, self.now)
        if isinstance(acted, Acted):
            for change in acted.changes:
                COMPOUND_V3.apply(self.state, change)
        return acted

    def step(self, kind: str, user: AccountId, asset: AssetId, size: int) -> None:
        other = AccountId((user + 1) % len(USERS))
        native = size * HELD[asset] // 10**9
        if kind == "supply":
            self.act("supply", moved(user, BASE, "collateral", 1, "supply", size))
        elif kind == "withdraw":
            acted = self.act("withdraw", moved(user, BASE, "debt", 1, "withdraw", size))
            if isinstance(acted, Acted) and self.state.position(user).principal < 0:
                assert is_collateralized(self.state, self.state.position(user), self.state.indexes, self.prices.oracle)
                assert not COMPOUND_V3.pairs(self.state, user, self.prices, self.now)
        elif kind == "send":
            gives, takes = (moved(who, BASE, "collateral", 1, "transfer", size) for who in (user, other))
            self.act("transfer", gives, takes)
        elif kind == "pledge":
            self.act("supply", moved(user, asset, "collateral", native, "supply", native))
        elif kind == "take":
            self.act("withdraw", moved(user, asset, "collateral", -native, "withdraw", native))
        elif kind == "move":
            gives, takes = (
                moved(who, asset, "collateral", delta, "transfer", native)
                for who, delta in ((user, -native), (other, native))
            )
            self.act("transfer", gives, takes)
        elif kind == "wait":
            self.time += size % 10**6
        elif kind == "price":
            self.weth = max(1, self.weth * (size % 60 + 60) // 100)
            self.wbtc = max(1, self.wbtc * (size % 50 + 70) // 100)
        else:
            self.absorb(user)

    def absorb(self, user: AccountId) -> None:
        for pair in COMPOUND_V3.pairs(self.state, user, self.prices, self.now):
            fill = COMPOUND_V3.quote(self.state, Order(user, pair, other := USERS[0]), self.prices, self.now)
            assert isinstance(fill, Fill), other
            before = self.state.reserves(self.time)
            for change in fill.changes:
                COMPOUND_V3.apply(self.state, change)
            position = self.state.position(user)
            assert (position.principal >= 0, dict(position.held)) == (True, {})
            paid = before - self.state.reserves(self.time)
            supplied = self.state.indexes.present(position.principal)
            assert abs(paid - fill.repaid - supplied) <= 3  # each side is cut
            assert sum(amount for _, amount in fill.deficits) <= fill.repaid
            assert not (fill.deficits and position.principal)


def world() -> World:
    """The first user lends 20,000; the others have an ether each."""
    state = opened(recompute=True)
    made = World(state)
    made.step("supply", USERS[0], WETH, 20_000 * USDC)
    for user in USERS[1:]:
        made.step("pledge", user, WETH, 10**9)
    return made


def played(calls: list[tuple[str, AccountId, AssetId, int]]) -> World:
    made = world()
    for call in calls:
        before = made.state.accrued(made.time)
        made.step(*call)
        after = made.state.accrued(made.time)
        assert (after.supply, after.borrow) >= (before.supply, before.borrow)
    return made


@FEW
@given(CALLS)
def test_totals_are_the_sums_of_accounts(calls: list[tuple[str, AccountId, AssetId, int]]) -> None:
    state = played(calls).state
    principals = [position.principal for position in state.positions.values()]
    assert state.total_supply == sum(max(each, 0) for each in principals)
    assert state.total_borrow == sum(max(-each, 0) for each in principals)
    for asset in HELD:
        assert state.total_held.get(asset, 0) == sum(each.held.get(asset, 0) for each in state.positions.values())
        assert state.total_held.get(asset, 0) >= 0
    assert all(amount > 0 for each in state.positions.values() for amount in each.held.values())


@FEW
@given(CALLS, st.sampled_from(USERS), st.integers(1, 10**10))
def test_nobody_gains_by_coming_and_going(
    calls: list[tuple[str, AccountId, AssetId, int]], user: AccountId, amount: int
) -> None:
    """Supplying and taking the same leaves a principal no higher, and reserves no lower."""
    made = played(calls)
    state = made.state
    before, reserves = state.position(user).principal, state.reserves(made.time)
    assert isinstance(made.act("supply", moved(user, BASE, "collateral", 1, "supply", amount)), Acted)
    back = made.act("withdraw", moved(user, BASE, "debt", 1, "withdraw", amount))
    if isinstance(back, Acted):
        assert state.position(user).principal <= before
        assert state.reserves(made.time) >= reserves - 2


@FEW
@given(CALLS, st.sampled_from(USERS), st.integers(1, 10**10))
def test_what_is_sent_is_not_more_on_arrival(
    calls: list[tuple[str, AccountId, AssetId, int]], user: AccountId, amount: int
) -> None:
    made, other = played(calls), AccountId((user + 1) % len(USERS))
    state = made.state

    def value() -> int:
        now = state.accrued(made.time)
        return sum(now.present(state.position(who).principal) for who in (user, other))

    before = value()
    made.step("send", user, WETH, amount)
    assert value() <= before


@FEW
@given(CALLS)
def test_the_fast_ways_say_what_the_rules_say(calls: list[tuple[str, AccountId, AssetId, int]]) -> None:
    made = played(calls)
    state, prices, now = made.state, made.prices, made.now
    views = COMPOUND_V3.views(state, prices, now)
    assert views is not None
    assert spelt(views) == every_view(COMPOUND_V3, state, prices, now)
    forms = COMPOUND_V3.exposures(state, USERS, now)
    assert forms is not None
    told = dict(zip(forms.account.tolist(), range(len(forms.account)), strict=True))
    for user in USERS:
        form = COMPOUND_V3.exposure(state, user, now)
        assert (form is None) == (user not in told)
        if not isinstance(form, LinearExposure):
            continue
        own = sum(weight * prices.oracle[asset] for asset, weight in form.weights.items()) + form.constant
        rows = range(forms.start[told[user]], forms.start[told[user] + 1])
        fast = forms.constant[told[user]] + sum(
            float(forms.amount[row]) * (-1 if forms.owed[row] else 1) * prices.oracle[AssetId(int(forms.asset[row]))]
            for row in rows
        )
        assert fast <= own + 1e-6 * abs(own) + 1
        if COMPOUND_V3.pairs(state, user, prices, now):
            assert own < 0
            assert fast < 0


@FEW
@given(CALLS, st.sampled_from(USERS), st.sampled_from((WETH, WBTC)))
def test_the_safe_price_is_where_the_account_turns(
    calls: list[tuple[str, AccountId, AssetId, int]], user: AccountId, asset: AssetId
) -> None:
    made = played(calls)
    state = made.state
    safe = COMPOUND_V3.safe_prices(state, user, asset, made.prices, made.now)
    if safe is None or safe.least_up is None:
        return
    at_now, position = state.accrued(made.time), state.position(user)
    for price, expected in ((safe.least_up, False), (safe.least_up - 1, True)):
        prices = {**made.prices.oracle, asset: price}
        if price > 0:
            assert is_liquidatable(state, position, at_now, prices) == expected


@FEW
@given(st.integers(1, 10**24), st.integers(100, 10**14), st.sampled_from((WETH, WBTC)))
def test_a_purchase_never_takes_more_than_there_is(most: int, price: int, asset: AssetId) -> None:
    """And what is left is less than one more unit of the base token buys."""
    state, prices = opened(), at(price, price).oracle
    sale = sold(state, asset, most, prices)
    one = sold(state, asset, 10**60, prices)
    assert one is not None
    if sale is not None:
        assert 0 <= sale.bought <= most
        assert sale.paid * one.bought >= (sale.bought - 1) * one.paid - one.bought  # at the same price, to a unit


# -- the mechanism -----------------------------------------------------------------------------------------------------


def book_of(made: World) -> Book[CometState]:
    book = Book(COMPOUND_V3, MARKET, made.state, made.now, oracle=dict(made.prices.oracle))
    book.state.recompute = False
    return book


def offers(mechanism: Storefront, book: Book[CometState], user: AccountId) -> list[Opportunity]:
    found = mechanism.opportunities(book, user, USERS[0], receive_collateral_token=False)
    return [offer for offer in found if isinstance(offer, Opportunity)]


def take(mechanism: Storefront, book: Book[CometState], offer: Opportunity) -> int | None:
    lot = mechanism.settle(book, offer)
    for change in offer.fill.changes:
        book.apply(change)
    return lot


def indebted() -> tuple[World, Storefront, Book[CometState]]:
    """The second user owes 1,600 against an ether and 0.01 bitcoin; ether falls to 1,400."""
    made = world()
    made.step("pledge", USERS[1], WBTC, 10**7)
    made.step("withdraw", USERS[1], WETH, 1_600 * USDC)
    made.weth = 1_400 * USD
    return made, Storefront(), book_of(made)


def test_absorbed_and_sold() -> None:
    made, mechanism, book = indebted()
    (absorb,) = offers(mechanism, book, USERS[1])
    assert (absorb.step, absorb.always, absorb.opens, absorb.profit) == ("absorb", True, True, 0)
    assert take(mechanism, book, absorb) == 0
    assert mechanism.open_accounts() == {USERS[1]}
    first, second = offers(mechanism, book, USERS[1])
    # 1,400 x 0.975 = 1,365 for an ether; 30,000 x 0.965 x 0.01 = 289.5
    assert [(each.step, each.fill.repaid, each.fill.seized, each.profit) for each in (first, second)] == [
        ("buy", 1_365 * USDC, ETH, 35 * USD),
        ("buy", 289_500_000, BTC // 100, 10 * USD + USD // 2),
    ]
    before = book.state.reserves(made.time)
    assert [take(mechanism, book, each) for each in (second, first)] == [1, 0]
    assert book.state.reserves(made.time) - before == 1_654_500_000
    assert mechanism.open_accounts() == set()
    assert offers(mechanism, book, USERS[1]) == []


def test_a_lot_waits_for_a_market_that_pays() -> None:
    """Ether trades at 1,300 where its oracle says 1,400: the offer loses 65, and whoever chooses leaves it."""
    _, mechanism, book = indebted()
    take(mechanism, book, offers(mechanism, book, USERS[1])[0])
    book.traded[WETH] = 1_300 * USD
    book._price()
    first = offers(mechanism, book, USERS[1])[0]
    assert (first.profit, first.always) == (-65 * USD, False)


def test_nothing_is_for_sale_at_the_target_or_while_buying_is_paused() -> None:
    _, mechanism, book = indebted()
    take(mechanism, book, offers(mechanism, book, USERS[1])[0])
    paused = deepcopy(book.state)
    book.apply(_param("target_reserves", 0))
    book.apply(_param("cash_here", 10_000 * USDC))
    assert offers(mechanism, book, USERS[1]) == []
    book.state = paused
    assert len(offers(mechanism, book, USERS[1])) == 2
    book.apply(_param("pause_flags", 1 << 4))
    assert offers(mechanism, book, USERS[1]) == []


def test_a_purchase_that_may_end_other_offers_says_so() -> None:
    """Reserves are 1,609 short after the absorption; both lots together bring 1,654.5."""
    made, mechanism, book = indebted()
    take(mechanism, book, offers(mechanism, book, USERS[1])[0])
    assert book.state.reserves(made.time) == -1_609 * USDC
    for target, near in ((45_500_000, True), (45_500_001, False)):
        book.apply(_param("target_reserves", target))
        told = [change.name for each in offers(mechanism, book, USERS[1]) for change in each.fill.changes]  # type: ignore[union-attr]
        assert ("storefront_near" in told) == near
    assert COMPOUND_V3.order_parameters == {"storefront_near"}


def _param(name: str, value: int) -> ParamChange:
    return ParamChange(seq=0, block_number=10, log_index=0, timestamp=START, name=name, value=value)
