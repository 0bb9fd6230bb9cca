"""Searchers that compete in a replay: where each bonus goes, what came of each opportunity, and the signs that the
literature reports.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from backtest.errors import ScenarioError
from backtest.replay.competition.gas import BaseFees
from backtest.replay.engine import replay
from backtest.replay.record import Replay, Waterfall
from backtest.scenario import (
    Competitive,
    Contest,
    Costs,
    Gas,
    LatencyRace,
    Oev,
    Participation,
    PriorityGas,
    Scenario,
    SealedBid,
    Searcher,
    Slippage,
)
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, market, opened
from tests.support.closed_forms import two_step
from tests.support.contest_history import COSTLY, GAS, GWEI, POOL, falling, one_account

FREE = Costs()


def run(
    h: History, liquidators: Any, costs: Costs = FREE, *, seed: int = 0, fees: BaseFees | None = None, **more: Any
) -> Replay[Any]:
    """With the screen and without: the same result."""
    scenario = Scenario(liquidators=liquidators, costs=costs, seed=seed, **more)
    options: dict[str, Any] = {} if fees is None else {"base_fees": fees}
    result, plain = (
        replay(POOL, h.market, h.timeline(), scenario, screened=screened, **options) for screened in (True, False)
    )
    assert result.liquidations == plain.liquidations
    assert result.spells == plain.spells
    return result


MODELS: dict[str, Contest] = {
    "open": PriorityGas(private_cost=20 * USD),
    "cooperating": PriorityGas(cooperative=True),
    "sealed": SealedBid(private_cost=50 * USD),
    "front-run two-step": SealedBid(front_run=5_000, strategy="two-step"),
    "poisson": Participation(),
    "negative binomial": Participation(distribution="negative-binomial", mean=33_000, dispersion=15_000, searchers=20),
    "of their own": Participation(
        distribution="searchers",
        searchers=(Searcher(name="a", shows_up=3_000), Searcher(name="b", shows_up=8_000, capital=10**13)),
    ),
    "lane": LatencyRace(
        searchers=(Searcher(name="slow", latency=900), Searcher(name="fast", latency=100)),
        express_lane="slow",
        lane_fee=3_000,
    ),
    "softmax": LatencyRace(race="softmax"),
    "oev": Oev(delay=3),
    "oev half covered": Oev(coverage=5_000, mean=8_000),
    "best size": SealedBid(size="most-profitable"),
}


@pytest.mark.parametrize("name", ["frictionless", *MODELS])
@pytest.mark.parametrize("costs", [Costs(), COSTLY], ids=["free", "costly"])
def test_every_bonus_is_accounted_for(name: str, costs: Costs) -> None:
    """bonus + basis + reward is the sum of the uses, and the rent is what cash flows leave."""
    result = run(falling(), MODELS.get(name, Competitive(gas_cost=3 * USD)), costs, seed=11)
    assert result.liquidations
    for r in result.liquidations:
        w = r.waterfall
        uses = [getattr(w, name) for name in Waterfall.__struct_fields__ if name not in ("bonus", "basis", "reward")]
        assert w.bonus + w.basis + w.reward == sum(uses)
        assert all(use >= 0 for use in uses[:-1])
        price = result_price(result, r.clock.block_number)
        bought = r.fill.seized * price // ETH - w.slippage - w.sandwich
        assert (
            w.rent
            == bought
            - -(-r.fill.repaid * USD // 10**6)
            - w.gas
            - w.funding
            - w.private
            - w.bid
            - w.protocol_share
            - w.oracle_share
        )
        assert r.profit_base == w.rent


def result_price(result: Replay[Any], block: int) -> int:
    """WETH's price of ``falling``, base units."""
    return (2000 - 60 * min(block // 10, 12)) * USD


@pytest.mark.parametrize("name", MODELS)
def test_every_opportunity_ends(name: str) -> None:
    result = run(falling(), MODELS[name], COSTLY, seed=3)
    last = {}
    for spell in result.spells:
        known = last.get(spell.opportunity)
        assert known is None or (
            known.ending == "missed"
            and known.account == spell.account
            and spell.begins.timestamp >= known.ends.timestamp
        )
        last[spell.opportunity] = spell
    assert sorted(last) == list(range(len(last)))
    taken = [spell for spell in result.spells if spell.ending == "taken"]
    assert [spell.liquidation for spell in taken] == [r.ordinal for r in result.liquidations]
    for spell, r in zip(taken, result.liquidations, strict=True):
        assert (spell.account, spell.repaid) == (r.fill.order.account, r.fill.repaid)
        [won] = [bid for bid in spell.bids if bid.won]
        paid = r.waterfall.bid + r.waterfall.protocol_share + r.waterfall.oracle_share
        assert won.bid == won.paid == paid <= won.value
        assert result.book.address(r.fill.order.liquidator) == f"model:{won.searcher}"
        # what is on offer before bids is what is left after them and the winner's own costs
        assert spell.profit_base == r.waterfall.rent + paid + r.waterfall.private


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    model = SealedBid(private_cost=50 * USD)
    first, again, other = (run(falling(), model, seed=seed) for seed in (1, 1, 2))
    assert first.liquidations == again.liquidations
    assert [r.waterfall.private for r in first.liquidations] != [r.waterfall.private for r in other.liquidations]


def test_two_scenarios_share_their_draws() -> None:
    """Another gas price changes values, not who has which costs."""
    cheap = run(falling(), SealedBid(private_cost=50 * USD), seed=5)
    dear = run(falling(), SealedBid(private_cost=50 * USD), Costs(gas=GAS), seed=5)
    assert [r.waterfall.private for r in cheap.liquidations] == [r.waterfall.private for r in dear.liquidations]
    assert {r.waterfall.gas for r in dear.liquidations} != {0}


# -- why opportunities are missed --------------------------------------------------------------------------------------


def reasons(result: Replay[Any]) -> list[tuple[str, str, int]]:
    return [(spell.ending, spell.reason, spell.looks) for spell in result.spells]


def test_unprofitable_until_gas_is_paid_for() -> None:
    h = one_account()
    h.block(20).price(WETH, 1410 * USD)
    h.block(30).price(WETH, 1500 * USD)
    dear = Costs(gas=Gas(fee="constant", base_fee=1_000 * GWEI, units=500_000))  # 700 $ against a bonus of 282
    assert reasons(run(h, SealedBid(), dear)) == [("missed", "unprofitable", 2), ("expired", "price back", 1)]


def test_an_owner_who_acts_is_no_price_that_came_back() -> None:
    h = one_account()
    h.block(20).position(0, USDC, "debt", -5_000 * 10**6, "repay").price(WETH, 1400 * USD)
    result = run(h, Participation(mean=0))
    assert [(e, r) for e, r, _ in reasons(result)] == [("missed", "not included"), ("expired", "owner acted")]


def test_gas_caps() -> None:
    h = one_account()
    h.block(20).price(USDC, USD)
    fees = BaseFees([0, 12 * 15], [200 * GWEI, 50 * GWEI])
    model = SealedBid(searchers=(Searcher(name="careful", gas_cap=100 * GWEI),))
    result = run(h, model, Costs(gas=Gas(units=400_000)), fees=fees)
    assert [(e, r) for e, r, _ in reasons(result)] == [("missed", "gas above caps"), ("taken", "")]
    [record] = result.liquidations
    assert record.clock.timestamp == 12 * 15  # by time alone: the first block whose fee is below the cap
    assert record.waterfall.gas == 400_000 * 50 * 1400 * GWEI * USD // ETH


def test_a_stuck_transaction_keeps_a_searcher_out() -> None:
    h = one_account()
    h.block(60).price(USDC, USD)
    fees = BaseFees([0, 12 * 12], [200 * GWEI, 50 * GWEI])
    model = SealedBid(searchers=(Searcher(name="careful", gas_cap=100 * GWEI, stuck=300),))
    result = run(h, model, Costs(gas=Gas(units=400_000)), fees=fees)
    assert [(e, r) for e, r, _ in reasons(result)] == [
        ("missed", "gas above caps"),
        ("missed", "transaction stuck"),
        ("taken", ""),
    ]
    assert result.liquidations[0].clock.timestamp == 120 + 300


def test_capital_comes_back() -> None:
    h = opened()
    for account in range(3):
        borrower(h, account, 10, 11_300)
    h.block(10).price(WETH, 1400 * USD)
    h.block(300).price(USDC, USD)
    model = SealedBid(searchers=(Searcher(name="own", capital=6_000 * USD, recycle=600),), max_calls=1)
    result = run(h, model, Costs(flash_fee=50))
    assert [r.clock.timestamp for r in result.liquidations][:3] == [120, 720, 1320]
    assert {r.waterfall.funding for r in result.liquidations} == {0}
    assert ("missed", "no capital") in {(e, r) for e, r, _ in reasons(result)}


def test_nobody_shows_up_and_then_somebody_does() -> None:
    h = falling(6)
    result = run(h, Participation(mean=5_000), seed=9)
    waits = [spell.looks for spell in result.spells if spell.reason == "not included"]
    assert waits
    late = [r for r in result.liquidations if (r.clock.timestamp // 12) % 10]
    assert late  # between two prices, by time alone
    bids = Counter(r.waterfall.bid > 0 for r in result.liquidations)
    assert bids[True]
    assert bids[False]


def test_what_stays_open_is_missed_to_the_end() -> None:
    result = run(one_account(), Participation(mean=0))
    assert [(e, r) for e, r, _ in reasons(result)] == [("missed", "not included")]
    assert result.liquidations == []


def test_where_nobody_ever_shows_up_time_alone_is_no_reason_to_look_again() -> None:
    """A day of looks at every block took minutes."""
    h = one_account()
    h.block(7_200).price(USDC, USD)
    absent = Searcher(name="absent", shows_up=0)
    for model in (Participation(mean=0), Participation(searchers=(absent,), distribution="searchers")):
        [spell] = run(h, model).spells
        assert (spell.reason, spell.looks) == ("not included", 2)  # once a price


# -- strategies --------------------------------------------------------------------------------------------------------


def test_two_steps_gain_what_they_should() -> None:
    """C = 100, D = 84, LT = 0.83, i = 5 %, CF = 50 %: the first step repays 7.782, both together gain 9.26 % more (Qin
    et al.).
    """
    h = History(market(("WETH", 18), ("USDC", 6)))
    h.param("liquidation_threshold", 8300, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
    h.price(WETH, 2000 * USD).price(USDC, USD)
    h.position(0, WETH, "collateral", 100 * ETH).position(0, USDC, "debt", 84_000 * 10**6, "borrow")
    h.block(10).price(WETH, 1000 * USD)
    plain, both = (run(h, LatencyRace(searchers=1, max_calls=2, strategy=s)) for s in ("greedy", "two-step"))
    first, gain = two_step(100, 84, 0.83, 0.05, 0.5)
    assert [r.fill.repaid / 10**9 for r in both.liquidations] == pytest.approx([first, (84 - first) / 2], rel=1e-5)
    assert first == pytest.approx(7.782, abs=5e-4)
    assert gain == pytest.approx(0.0926, abs=5e-5)
    assert sum(r.profit_base for r in both.liquidations) / plain.liquidations[0].profit_base - 1 == pytest.approx(
        gain, abs=5e-5
    )
    assert both.liquidations[0].health_after < 10**18
    assert {result.book.address(r.fill.order.liquidator) for result in (both,) for r in result.liquidations} == {
        "model:searcher-1"
    }


def test_patient_searchers_wait_for_the_whole_debt() -> None:
    h = one_account()
    h.block(20).price(WETH, 1300 * USD)
    result = run(h, SealedBid(strategy="patient"))
    assert [(e, r) for e, r, _ in reasons(result)] == [("missed", "waiting")]
    h.param("close_factor", 10_000)
    result = run(h, SealedBid(strategy="patient"))
    assert [(e, r) for e, r, _ in reasons(result)] == [("missed", "waiting"), ("taken", "")]
    assert result.liquidations[0].fill.repaid == 11_300 * 10**6


def test_smaller_sales_where_the_market_is_thin() -> None:
    thin = Costs(slippage=(Slippage(model="constant-product", reserve=50_000 * USD, fee=0),))
    all_of_it, best = (
        run(one_account(), SealedBid(size=size, max_calls=1), thin) for size in ("largest", "most-profitable")
    )
    assert all_of_it.liquidations == []  # 5,932 $ into 50,000 loses 10.6 %, more than the bonus
    [record] = best.liquidations
    assert record.fill.repaid == 11_300 * 10**6 // 2 >> 2  # the halving that leaves most
    assert record.profit_base + record.waterfall.bid > 0


def test_a_front_runner_takes_what_it_copies() -> None:
    result = run(one_account(), SealedBid(front_run=10_000, private_cost=10 * USD), Costs(gas=GAS), seed=1)
    record = result.liquidations[0]
    assert result.book.address(record.fill.order.liquidator) == "model:front-runner"
    spell = next(spell for spell in result.spells if spell.ending == "taken")
    assert [bid.paid for bid in spell.bids if not bid.won and bid.paid] == [record.waterfall.gas // 4]


# -- signs of the literature -------------------------------------------------------------------------------------------


def bid_share(result: Replay[Any]) -> float:
    bids = sum(r.waterfall.bid for r in result.liquidations)
    return bids / sum(r.waterfall.bid + r.waterfall.private + r.waterfall.rent for r in result.liquidations)


@pytest.mark.parametrize("model", [SealedBid, PriorityGas])
def test_the_bid_share_rises_with_searchers(model: Any) -> None:
    shares = [bid_share(run(falling(), model(searchers=n, private_cost=150 * USD), seed=2)) for n in (2, 4, 8)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


def test_selling_updates_late_costs_bad_debt_where_prices_keep_falling() -> None:
    """Nobody bids at the update, and prices fall on while the others wait."""
    h = opened(10)
    for account in range(10):
        borrower(h, account, 10, 14_000)
    for step in range(1, 9):
        h.block(10 * step).price(WETH, (1760 - 50 * step) * USD)
    h.block(200).price(USDC, USD)

    def bad_debt(delay: int) -> int:
        return run(h, Oev(mean=0, delay=delay)).horizons[-1].open_bad_debt_base

    losses = [bad_debt(delay) for delay in (0, 5, 40)]
    assert losses[0] < losses[-1]
    assert losses == sorted(losses)


def test_a_sold_update_shares_its_bid() -> None:
    result = run(falling(), Oev(mean=100_000, searchers=20))
    for r in result.liquidations:
        bid = r.waterfall.bid + r.waterfall.protocol_share + r.waterfall.oracle_share
        assert r.waterfall.protocol_share == bid * 6_500 // 10_000
        assert r.waterfall.oracle_share == bid * 3_500 // 10_000
        assert r.waterfall.rent == 0  # several bidders that value it alike bid all of it


def test_a_gas_spike_makes_zero_bids_where_few_have_high_caps() -> None:
    """Caps spread from 50 to 500 gwei; a spike leaves one bidder, which bids nothing."""
    each = tuple(Searcher(name=f"cap-{gwei}", gas_cap=gwei * GWEI) for gwei in (50, 60, 80, 100, 500))
    shares = []
    for spike in (1, 6):
        gas = Gas(fee="constant", base_fee=40 * GWEI, units=100_000, spike=spike)
        result = run(falling(), Participation(distribution="searchers", searchers=each), Costs(gas=gas))
        shares.append(sum(r.waterfall.bid == 0 for r in result.liquidations) / len(result.liquidations))
    assert shares == [0, 1]


# -- what a scenario must say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (
            Costs(gas=Gas(fee="constant", base_fee=1)),
            "how much gas 'liquidate' uses is not known; give costs.gas.units",
        ),
        (Costs(gas=Gas(units=1)), "no base fee at the window's start; use fee = 'constant'"),
        (Costs(gas=Gas(fee="constant", base_fee=1, native="WET", units=1)), "did you mean 'WETH'"),
        (Costs(gas=Gas(fee="constant", base_fee=1, native="USDC", units=1)), "has 6 decimals"),
        (Costs(slippage=(Slippage(asset="LINK"),)), "'LINK' is no asset of the market; known: USDC, WETH"),
    ],
)
def test_costs_that_do_not_fit_the_market(costs: Costs, message: str) -> None:
    with pytest.raises(ScenarioError, match=message.replace("(", "\\(").replace(";", ";")):
        run(one_account(), SealedBid(), costs)


def test_runs_say_what_costs_rest_on() -> None:
    result = run(falling(), SealedBid(), COSTLY)
    text = " ".join(result.costs)
    for part in (
        "a base fee of 30 gwei",
        "Slippage of every other asset: constant-product",
        "Flash loans cost 0.05 %",
        "Sandwiching takes 0.2 %",
    ):
        assert part in text


def test_equals_win_alike() -> None:
    """Of searchers with equal values each wins as often, whoever comes first in the list."""
    wins: Counter[str] = Counter()
    for seed in range(12):
        result = run(falling(), Participation(mean=1_000_000, searchers=4), seed=seed)
        wins.update(result.book.address(r.fill.order.liquidator) for r in result.liquidations)
    total = sum(wins.values())
    assert (
        sum((count - total / 4) ** 2 / (total / 4) for count in wins.values()) < 21.1
    )  # chi-square, 3 degrees of freedom, 1 in 10,000
    assert len(wins) == 4
