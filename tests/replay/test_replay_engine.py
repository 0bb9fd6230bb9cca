"""The replay loop on a minimal pool with hand-worked numbers: what is re-enacted, replaced, overridden, clamped."""

from __future__ import annotations

import dataclasses

import pytest

from backtest.errors import RulesError, ScenarioError
from backtest.model import AccountId, Market
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.several import state_at
from backtest.scenario import Competitive, Observed, Override, Scenario, Users
from backtest.units import WAD
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, market, opened
from tests.support.sketch_history import POOL, liquidated_history

COMPETITIVE = Scenario(liquidators=Competitive())


def run(h: History, scenario: Scenario = COMPETITIVE, **options: object) -> Replay[object]:
    """With the screen and without: the same result."""
    result, reference = (replay(POOL, h.market, h.timeline(), scenario, screened=s, **options) for s in (True, False))
    assert result.liquidations == reference.liquidations
    assert result.totals == reference.totals
    assert result.deficits == reference.deficits
    assert result.actions == reference.actions
    assert result.refused == reference.refused
    assert result.book.state.balances == reference.book.state.balances
    return result


def amounts(result: Replay[object]) -> list[tuple[int, int, int]]:
    return [(r.fill.order.account, r.fill.repaid, r.fill.seized) for r in result.liquidations]


# -- observed ----------------------------------------------------------------------------------------------------------


def test_observed_reenacts_what_happened_and_compares() -> None:
    h = liquidated_history()
    result = run(h, Scenario())
    [record] = result.liquidations
    assert record.matches_history is True
    assert (record.fill.repaid, record.fill.seized) == (300 * 10**6, 262_500_000_000_000_000)
    assert (record.repaid_base, record.seized_base, record.profit_base) == (300 * USD, 315 * USD, 15 * USD)
    assert (record.health_before, record.health_after) == (96 * WAD // 100, (1200 * 7375 * 8000 * WAD) // (7 * 10**10))
    assert result.mismatches == []
    assert result.book.state.balances[0] == {(WETH, "collateral"): 737_500_000_000_000_000, (USDC, "debt"): 700 * 10**6}
    assert result.book.state.balances == state_at(POOL, h.market, h.timeline(), 11)[0].balances


def test_observed_lists_what_the_rules_explain_otherwise() -> None:
    result = run(liquidated_history(seized=ETH // 4), Scenario())
    assert [r.matches_history for r in result.liquidations] == [False]
    [mismatch] = result.mismatches
    assert (mismatch.past.seized, mismatch.ours, mismatch.reason) == (
        ETH // 4,
        (300 * 10**6, 262_500_000_000_000_000, 0),
        "amounts differ",
    )


def test_observed_lists_a_liquidation_that_the_rules_refuse() -> None:
    h = borrower(opened(), 0, 1, 1000)
    h.block(11).position(0, USDC, "debt", -300 * 10**6, "liquidation").liquidation(
        0, 3, USDC, WETH, repaid=300 * 10**6, seized=1
    )
    result = run(h, Scenario())
    assert [(m.ours, m.reason) for m in result.mismatches] == [(None, "healthy")]
    assert result.liquidations == []
    assert result.book.state.balances[0][USDC, "debt"] == 1000 * 10**6


# -- competitive -------------------------------------------------------------------------------------------------------


def test_competitive_acts_at_the_price_and_leaves_history_out() -> None:
    """At 1200 $ health is 0.96: half the debt, and again until health is above 1 (or 10 calls)."""
    result = run(liquidated_history())
    first = result.liquidations[0]
    assert first.clock.block_number == 10
    assert amounts(result)[0] == (0, 500 * 10**6, 437_500_000_000_000_000)
    assert first.matches_history is None
    assert result.book.address(first.fill.order.liquidator) == "model:competitive"
    assert result.left_out == 1
    # 0.5625 ETH at 1200 $ and 80 % = 540 > 500: safe after one call
    assert len(result.liquidations) == 1


def test_most_profitable_first_ties_by_address_and_the_maximum_of_calls() -> None:
    h = borrower(borrower(borrower(opened(), 2, 2, 2000), 1, 1, 1000), 0, 1, 1000)
    h.block(10).price(WETH, 1000 * USD)  # health 0.8
    result = run(h)
    # each call repays half: 1000 -> profit 50, then 500 -> 25, ...; accounts 0 and 1 tie at 25
    assert [a for a, _, _ in amounts(result)][:4] == [2, 0, 1, 2]
    assert [r.profit_base for r in result.liquidations][:3] == [50 * USD, 25 * USD, 25 * USD]
    capped = run(h, Scenario(liquidators=Competitive(max_calls=1)))
    assert [a for a, _, _ in amounts(capped)] == [2, 0, 1]


def test_maximum_of_calls_is_per_block() -> None:
    h = borrower(opened(), 0, 1, 1000)
    h.block(10).price(WETH, 1000 * USD).price(WETH, 1000 * USD).block(11).price(WETH, 1000 * USD)
    result = run(h, Scenario(liquidators=Competitive(max_calls=1)))
    assert [r.clock.block_number for r in result.liquidations] == [10, 11]


def test_gas_cost_decides_what_pays() -> None:
    h = borrower(borrower(opened(), 0, 1, 1000), 1, 2, 2000)
    h.block(10).price(WETH, 1240 * USD)  # health 0.992; 500 repaid earn 25 $, 1000 earn 50 $
    result = run(h, Scenario(liquidators=Competitive(gas_cost=30 * USD)))
    assert [a for a, _, _ in amounts(result)] == [1]
    assert result.liquidations[0].profit_base == pytest.approx(20 * USD, abs=1)
    assert not run(h, Scenario(liquidators=Competitive(gas_cost=50 * USD))).liquidations


def test_observed_before_the_first_block_of_the_model() -> None:
    h = liquidated_history()
    h.block(20).price(WETH, 900 * USD)
    result = run(h, Scenario(liquidators=Competitive(max_calls=1), from_block=12))
    assert [(r.clock.block_number, r.matches_history) for r in result.liquidations] == [(11, True), (20, None)]
    assert result.left_out == 0


def test_nobody_acts_inside_another_transaction() -> None:
    """The price dips within a transaction: never seen."""
    h = borrower(opened(), 0, 1, 1000)
    h.block(10)
    with h.transaction():
        h.price(WETH, 1000 * USD).price(WETH, 2000 * USD)
    assert not run(h).liquidations


def test_collateral_token_goes_to_the_liquidator() -> None:
    h = borrower(opened(), 0, 1, 1000)
    h.block(10).price(WETH, 1200 * USD)
    result = run(h, Scenario(liquidators=Competitive(settle="collateral-token")))
    assert result.book.state.balances[8] == {(WETH, "collateral"): 437_500_000_000_000_000}


def three_assets() -> History:
    """Collateral 1 WETH (2000 $, bonus 5 %) and 1000 DAI (bonus 10 %, 1 $); debts 1500 USDC and 700 EURC."""
    h = History(market(("WETH", 18), ("USDC", 6), ("DAI", 18), ("EURC", 6)))
    h.param("close_factor", 1000)
    h.param("liquidation_threshold", 8000, asset=0).param("liquidation_bonus", 10500, asset=0)
    h.param("liquidation_threshold", 8000, asset=2).param("liquidation_bonus", 11000, asset=2)
    h.price(0, 2500 * USD).price(1, USD).price(2, USD).price(3, USD)
    h.position(0, 0, "collateral", ETH).position(0, 2, "collateral", 1000 * ETH)
    h.position(0, 1, "debt", 1500 * 10**6).position(0, 3, "debt", 1000 * 10**6)
    h.block(10).price(0, 1900 * USD)
    return h


@pytest.mark.parametrize(
    ("pair", "expected"),
    [("most-profitable", (1, 2)), ("largest-debt", (1, 2)), ("largest-collateral", (1, 0))],
)
def test_pair_choice(pair: str, expected: tuple[int, int]) -> None:
    result = run(three_assets(), Scenario(liquidators=Competitive(pair=pair, max_calls=1)))
    assert [(r.fill.order.pair.debt_asset, r.fill.order.pair.collateral_asset) for r in result.liquidations] == [
        expected
    ]


def test_deficits_are_booked() -> None:
    h = borrower(opened(), 0, 1, 1000)
    h.param("close_factor", 10000)
    h.block(10).price(WETH, 525 * USD)
    result = run(h)
    assert amounts(result) == [(0, 500 * 10**6, ETH)]
    [deficit] = result.deficits
    assert (deficit.account, deficit.asset, deficit.amount, deficit.amount_base) == (0, USDC, 500 * 10**6, 500 * USD)
    assert 0 not in [a for a, held in result.book.state.balances.items() if held]


def test_interest_alone_is_seen_at_the_next_decision() -> None:
    h = borrower(opened(), 0, 1, 1000)
    h.index(USDC, borrow_rate=10**27)
    h.block(100, 12 * 100).price(USDC, USD)
    assert not run(h).liquidations
    h.block(101, 12 + 31_536_000 * 3 // 4).price(USDC, USD)  # debt 1750 > 1600
    result = run(h)
    assert result.liquidations[0].clock.block_number == 101
    assert amounts(result)[0][1] == pytest.approx(875 * 10**6, rel=1e-5)


# -- overrides ---------------------------------------------------------------------------------------------------------


def overridden(*overrides: Override, h: History | None = None) -> Replay[object]:
    return run(
        h or borrower(opened(), 0, 1, 1000).block(10).price(WETH, 1400 * USD),
        Scenario(liquidators=Competitive(), overrides=overrides),
    )


def test_an_override_replaces_what_history_set() -> None:
    assert not overridden().liquidations  # 1400 * 0.8 = 1120
    result = overridden(Override(parameter="liquidation_threshold", value=7000, asset="WETH"))  # 980
    assert [r.clock.block_number for r in result.liquidations] == [10]
    assert result.overrides["liquidation_threshold of WETH = 7000 from block 0"] > 0


def test_an_override_from_a_block_holds_against_later_history() -> None:
    h = borrower(opened(), 0, 1, 1000)
    h.block(10).price(WETH, 1400 * USD).block(15).price(USDC, USD).block(20).param(
        "liquidation_threshold", 9000, asset=WETH
    )
    result = overridden(Override(parameter="liquidation_threshold", value=7000, asset="weth", from_block=15), h=h)
    assert [r.clock.block_number for r in result.liquidations] == [15]
    assert result.book.state.params["liquidation_threshold", WETH] == 7000


def test_the_latest_override_wins() -> None:
    h = borrower(opened(), 0, 1, 1000)
    h.block(10).price(WETH, 1400 * USD).block(15).price(USDC, USD).block(16).price(USDC, USD)
    early = Override(parameter="liquidation_threshold", value=8500, asset="WETH")
    late = Override(parameter="liquidation_threshold", value=7000, from_block=15)
    assert [r.clock.block_number for r in overridden(late, early, h=h).liquidations] == [15]


def test_for_every_asset_an_override_makes_no_new_collateral() -> None:
    result = overridden(Override(parameter="liquidation_threshold", value=7000))
    assert ("liquidation_threshold", USDC) not in result.book.state.params
    assert result.book.state.params["liquidation_threshold", WETH] == 7000


def test_a_parameter_that_history_never_set_is_set() -> None:
    result = overridden(
        Override(parameter="close_factor", value=10000), Override(parameter="liquidation_threshold", value=7000)
    )
    assert amounts(result) == [(0, 1000 * 10**6, 750_000_000_000_000_000)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            Override(parameter="liquidation_threshold", value=7000, asset="WTEH"),
            r"market sketch has no asset 'WTEH'; did you mean 'WETH'\?",
        ),
        (
            Override(parameter="liquidation_threshold", value=9700, asset="WETH"),
            r"WETH at block 1: threshold 9700 with bonus 10500 would seize",
        ),
        (
            Override(parameter="ltv", value=7000, emode=7),
            r"override ltv of e-mode 7 = 7000 from block 0 touches nothing",
        ),
        (Override(parameter="ltv", value=7000, from_block=11), r"touches nothing in this history; check its asset"),
    ],
)
def test_overrides_that_make_no_sense(override: Override, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        overridden(override)


# -- users -------------------------------------------------------------------------------------------------------------


def counted(result: Replay[object]) -> list[tuple[str, str, int, int]]:
    return [(one.action, one.outcome, one.count, one.value_base) for one in result.actions]


def diverged() -> History:
    """The model liquidates at block 10 (500 of 1000 USDC for 0.4375 of 1 ETH); history did not."""
    return borrower(opened(), 0, 1, 1000).block(10).price(WETH, 1200 * USD).block(11).price(WETH, 2000 * USD).block(12)


def test_an_action_that_emptied_a_balance_empties_it() -> None:
    h = diverged().position(0, USDC, "debt", -1000 * 10**6, "repay").position(0, WETH, "collateral", -ETH, "withdraw")
    result = run(h)
    assert not result.book.state.balances[0]
    assert counted(result) == [("repay", "changed", 1, 500 * USD), ("withdraw", "changed", 1, 875 * USD)]


def test_an_action_that_emptied_a_balance_also_empties_a_larger_one() -> None:
    h = liquidated_history()  # history: 700 debt left; the model's max_calls=1 call repays more
    h.block(12).price(WETH, 2000 * USD).position(0, USDC, "debt", -700 * 10**6, "repay")
    result = run(h, Scenario(liquidators=Competitive(gas_cost=10**6 * USD)))  # nobody liquidates: 1000 debt
    assert (USDC, "debt") not in result.book.state.balances[0]
    assert counted(result) == [("repay", "changed", 1, 300 * USD)]


def test_a_repayment_is_cut_to_the_debt() -> None:
    result = run(
        diverged()
        .position(0, USDC, "debt", -800 * 10**6, "repay")
        .position(0, WETH, "collateral", -ETH // 2, "withdraw")
    )
    assert result.book.state.balances[0] == {(WETH, "collateral"): 62_500_000_000_000_000}
    assert counted(result) == [("repay", "cut", 1, 300 * USD)]


def test_a_transfer_hands_over_what_the_sender_has_and_conserves() -> None:
    h = diverged().position(0, USDC, "debt", -1000 * 10**6, "repay")
    last = h.next_seq + 1
    with h.transaction():
        h.position(0, WETH, "collateral", -ETH, "transfer", last).position(1, WETH, "collateral", ETH, "transfer", last)
    result = run(h)
    assert result.book.state.balances[1] == {(WETH, "collateral"): 562_500_000_000_000_000}
    assert counted(result)[1] == ("transfer", "changed", 1, 875 * USD)


def test_an_action_that_would_revert_is_skipped_with_all_that_hangs_on_it() -> None:
    """After the seizure 0.5625 ETH back 500 USDC: 0.2 ETH more cannot leave (0.3625 * 2000 * 80 % = 580 is enough), 0.3
    cannot (420).
    """
    fits, too_much = ETH // 5, 3 * ETH // 10
    assert counted(run(diverged().position(0, WETH, "collateral", -fits, "withdraw"))) == []
    result = run(diverged().position(0, WETH, "collateral", -too_much, "withdraw"))
    assert counted(result) == [("withdraw", "skipped", 1, 600 * USD)]
    assert result.actions[0].reason == "health would fall below 1"
    last = (h := diverged()).next_seq + 1
    with h.transaction():
        h.position(0, WETH, "collateral", -too_much, "transfer", last).position(
            1, WETH, "collateral", too_much, "transfer", last
        )
    assert not run(h).book.state.balances.get(1)


def test_a_refused_action_may_be_shrunk_to_what_is_allowed() -> None:
    """0.25 ETH may leave: 0.3125 * 2000 * 80 % = 500, exactly the debt."""
    scenario = Scenario(liquidators=Competitive(), users=Users(refused="shrink"))
    result = run(diverged().position(0, WETH, "collateral", -3 * ETH // 10, "withdraw"), scenario)
    assert counted(result) == [("withdraw", "shrunk", 1, 100 * USD)]
    assert result.book.state.balances[0][WETH, "collateral"] == 312_500_000_000_000_000


def test_users_who_respond_keep_their_health() -> None:
    """History: 1 ETH at 2000 $ with 80 % backs 1000 USDC, health 1.6. With 70 % the same health allows 875."""
    h = opened().position(0, WETH, "collateral", ETH).position(0, USDC, "debt", 1000 * 10**6, "borrow").block(12)
    lower = (Override(parameter="liquidation_threshold", value=7000, asset="WETH"),)
    for response, debt in (("frozen", 1000), ("same-health", 875)):
        result = run(h, Scenario(liquidators=Competitive(), overrides=lower, users=Users(response=response)))
        assert result.book.state.balances[0][USDC, "debt"] == debt * 10**6
    assert counted(result) == [("borrow", "changed", 1, 125 * USD)]
    higher = (Override(parameter="liquidation_threshold", value=9000, asset="WETH"),)
    result = run(h, Scenario(liquidators=Competitive(), overrides=higher, users=Users(response="same-health")))
    assert result.book.state.balances[0][USDC, "debt"] == 1125 * 10**6


def test_what_users_take_out_counts_as_if_they_held_it() -> None:
    """A refused borrow leaves 1000 USDC less debt, and 1000 USDC less in the user's hands; half an ETH less withdrawn
    counts at the end's price.
    """
    h = opened().position(0, WETH, "collateral", ETH).position(0, USDC, "debt", 1000 * 10**6, "borrow")
    h.position(1, WETH, "collateral", ETH).position(1, USDC, "debt", 100 * 10**6, "borrow")
    h.position(1, WETH, "collateral", -9 * ETH // 10, "withdraw").block(12).price(WETH, 3000 * USD)
    base = run(h)
    strict = Scenario(
        liquidators=Competitive(), overrides=(Override(parameter="liquidation_threshold", value=4000, asset="WETH"),)
    )
    alternative = run(h, strict)
    assert counted(alternative) == [("borrow", "skipped", 1, 1000 * USD), ("withdraw", "skipped", 1, 1800 * USD)]
    (then,), (now,) = base.horizons, alternative.horizons
    assert then.outside == {}
    assert now.outside == {0: -1000 * USD, 1: -2700 * USD}
    assert [now.equity[a] + now.outside.get(a, 0) for a in (0, 1)] == [then.equity[a] for a in (0, 1)]


def test_what_history_s_liquidators_did_with_their_proceeds_counts_apart() -> None:
    """Account 3 received the collateral as tokens in the liquidation that is left out, and withdrew it."""
    h = borrower(opened(), 0, 1, 1000).block(10).price(WETH, 1200 * USD).block(11)
    with h.transaction():
        h.position(0, USDC, "debt", -300 * 10**6, "liquidation").position(
            0, WETH, "collateral", -ETH // 4, "liquidation"
        )
        h.position(3, WETH, "collateral", ETH // 4, "liquidation").liquidation(
            0, 3, USDC, WETH, repaid=300 * 10**6, seized=ETH // 4
        )
    result = run(h.block(12).position(3, WETH, "collateral", -ETH // 8, "withdraw"))
    assert counted(result) == [("withdraw", "skipped", 1, 150 * USD)]
    assert result.actions[0].unfunded


def test_no_divergence_no_clamping() -> None:
    h = borrower(opened(), 0, 1, 1000)
    h.block(12).position(0, USDC, "debt", -1000 * 10**6, "repay").position(0, WETH, "collateral", -ETH, "withdraw")
    result = run(h)
    assert not result.actions
    assert not result.book.state.balances[0]


# -- totals, windows, several markets ----------------------------------------------------------------------------------


def test_totals_at_sampled_blocks() -> None:
    h = borrower(borrower(opened(), 0, 1, 1000), 1, 1, 1900)
    h.block(10).price(WETH, 1200 * USD)
    result = run(h, Scenario(), samples=10)
    assert [t.clock.block_number for t in result.totals] == [1, 10]
    last = result.totals[-1]
    assert (last.collateral_base, last.debt_base) == (2400 * USD, 2900 * USD)
    assert (last.accounts_liquidatable, last.liquidatable_debt_base, last.bad_debt_base) == (2, 2900 * USD, 700 * USD)


def test_accounts_with_an_unpriced_asset_are_counted_not_valued() -> None:
    h = borrower(borrower(opened(), 0, 1, 1000), 1, 1, 1900).position(2, USDC, "collateral", 5 * 10**6)
    h.block(10).price(WETH, None)
    result = run(h, samples=10)
    last = result.totals[-1]
    assert (last.accounts_unpriced, last.collateral_base, last.debt_base) == (2, 5 * USD, 0)
    assert not result.liquidations or result.liquidations[-1].clock.block_number == 1


def test_the_window_ends_with_its_last_block() -> None:
    h = borrower(opened(), 0, 1, 1000).block(10).price(WETH, 1200 * USD).block(11).price(WETH, 100 * USD)
    result = run(h, Scenario(liquidators=Competitive(), to_block=10))
    assert {r.clock.block_number for r in result.liquidations} == {10}
    assert result.book.now.block_number == 10


def test_a_rules_error_names_the_block() -> None:
    class Picky(FixedSpreadPool):
        def apply(self, state: object, event: object) -> None:
            if getattr(event, "name", "") == "pool_revision":
                raise RulesError("unknown revision 99", "replay up to it")
            super().apply(state, event)

    h = opened().block(77).param("pool_revision", 99)
    with pytest.raises(RulesError, match="block 77: unknown revision 99; replay up to it"):
        replay(Picky(), h.market, h.timeline(), Scenario())


def test_replay_leaves_market_and_timeline_as_they_were() -> None:
    h = liquidated_history()
    timeline, before = h.timeline(), dataclasses.replace(h.market)
    first = replay(POOL, h.market, timeline, COMPETITIVE)
    assert replay(POOL, h.market, timeline, COMPETITIVE).liquidations == first.liquidations
    assert isinstance(h.market, Market)
    assert h.market == before
    assert first.book.market.accounts[AccountId(8)] == "model:competitive"


def test_observed_with_overrides_is_refused() -> None:
    with pytest.raises(ScenarioError, match="did not see the changed parameters"):
        Scenario(liquidators=Observed(), overrides=(Override(parameter="ltv", value=1),))
