"""The engine carries what is not Aave: a vault with an auction that lives in time, a signed margin account. Numbers by
hand.
"""

from __future__ import annotations

import pytest

from backtest.replay.engine import replay
from backtest.scenario import Competitive, Scenario
from tests.sketches.history import History, market
from tests.sketches.margin import MarginProtocol
from tests.sketches.vault_auction import DAI, ETH, DutchAuction, VaultProtocol

WAD, USD = 10**18, 10**8
COMPETITIVE = Scenario(liquidators=Competitive())


# -- vaults ------------------------------------------------------------------------------------------------------------


def vaults(*, hole: int = 10_000) -> History:
    """10 ETH against 1000 DAI at a ratio of 150 %, ETH at 200 $: unsafe below 150 $. Penalty 13 %."""
    h = History(market(("ETH", 18), ("DAI", 18)))
    for name, value in {
        "ratio": 15000,
        "chop": 11300,
        "buf": 12000,
        "cut": 9000,
        "step": 60,
        "tail": 3600,
        "dirt": 0,
        "tip": 100 * USD,
    }.items():
        h.param(name, value)
    h.param("hole", hole * WAD).price(ETH, 200 * USD).price(DAI, USD)
    h.position(0, ETH, "collateral", 10 * WAD).position(0, DAI, "debt", 1000 * WAD)
    return h


@pytest.mark.parametrize("screened", [True, False])
def test_an_auction_is_kicked_priced_over_time_taken_in_parts_and_ended(screened: bool) -> None:
    """At 149 $: top 178.8; 160.92 after 60 s; 144.828 after 120 s, below the market. 1130 DAI are to be raised."""
    h = vaults().block(100, 1200).price(ETH, 149 * USD).block(200, 2400).price(DAI, USD)
    auctions = DutchAuction(most=4 * WAD)
    result = replay(VaultProtocol(), h.market, h.timeline(), COMPETITIVE, mechanism=auctions, screened=screened)
    assert [(r.step, r.clock.timestamp, r.fill.repaid, r.fill.seized) for r in result.liquidations] == [
        ("kick", 1200, 1130 * WAD, 10 * WAD),
        ("take", 1320, 579_312 * 10**15, 4 * WAD),
        ("take", 1320, 550_688 * 10**15, 550_688 * 10**15 * WAD // (144_828 * 10**15)),
    ]
    assert result.liquidations[1].profit_base == 16_688 * USD // 1000  # 4 * 149 - 579.312
    left = 6 * WAD - result.liquidations[2].fill.seized
    assert result.book.state.ink == {0: left}
    assert result.book.state.art == {0: 0}
    assert result.book.state.params["dirt"] == 0
    assert not auctions.open
    assert not result.deficits


@pytest.mark.parametrize("screened", [True, False])
def test_the_market_wide_ceiling_holds_a_second_vault_back_until_the_first_is_sold(screened: bool) -> None:
    h = vaults(hole=1130).position(1, ETH, "collateral", 10 * WAD).position(1, DAI, "debt", 1000 * WAD)
    h.block(100, 1200).price(ETH, 149 * USD).block(300, 3600).price(DAI, USD)
    result = replay(
        VaultProtocol(), h.market, h.timeline(), COMPETITIVE, mechanism=DutchAuction(most=10 * WAD), screened=screened
    )
    assert [(r.fill.order.account, r.step, r.clock.timestamp) for r in result.liquidations] == [
        (0, "kick", 1200),
        (0, "take", 1320),
        (1, "kick", 1320),
        (1, "take", 1440),
    ]
    assert result.refused == {"liquidation limit hit": 1}


def test_a_partial_bark_fills_the_room_that_is_left() -> None:
    h = vaults(hole=565).block(100, 1200).price(ETH, 149 * USD)
    result = replay(VaultProtocol(), h.market, h.timeline(), COMPETITIVE, mechanism=DutchAuction(most=WAD))
    assert [(r.fill.repaid, r.fill.seized) for r in result.liquidations] == [(565 * WAD, 5 * WAD)]
    assert result.book.state.art == {0: 500 * WAD}


def test_an_expired_auction_is_started_again_at_the_new_price() -> None:
    """``tail`` of 100 s ends it before the price meets the market at 120 s; then the market has risen to 170: top 204,
    183.6, 165.24.
    """
    h = (
        vaults()
        .param("tail", 100)
        .block(100, 1200)
        .price(ETH, 149 * USD)
        .block(107, 1290)
        .price(ETH, 170 * USD)
        .block(200, 2400)
        .price(DAI, USD)
    )
    result = replay(VaultProtocol(), h.market, h.timeline(), COMPETITIVE, mechanism=DutchAuction(most=10 * WAD))
    # after 60 s the price is 160.92, after 90 s the market is at 170: profitable at once
    assert [(r.step, r.clock.timestamp) for r in result.liquidations] == [("kick", 1200), ("take", 1290)]
    h = vaults().param("tail", 100).block(100, 1200).price(ETH, 149 * USD).block(200, 1330).price(DAI, USD)
    auctions = DutchAuction(most=10 * WAD)
    result = replay(VaultProtocol(), h.market, h.timeline(), COMPETITIVE, mechanism=auctions)
    assert [(r.step, r.clock.timestamp) for r in result.liquidations] == [("kick", 1200), ("redo", 1301)]
    assert auctions.open[0].started == 1301


def test_an_auction_that_raises_too_little_leaves_bad_debt() -> None:
    h = vaults().block(100, 1200).price(ETH, 60 * USD).block(200, 2400).price(DAI, USD)
    result = replay(VaultProtocol(), h.market, h.timeline(), COMPETITIVE, mechanism=DutchAuction(most=10 * WAD))
    # top 72, 64.8, 58.32: 583.2 DAI raised of 1130
    assert [(d.asset, d.amount) for d in result.deficits] == [(DAI, 1130 * WAD - 583_200 * 10**15)]


def test_the_stability_fee_is_an_index() -> None:
    """Debt 1000 grows to 1340 by the rate: unsafe at 200 $ (needs 2010)."""
    h = vaults().block(100, 1200).index(DAI, borrow=134 * 10**25)
    result = replay(VaultProtocol(), h.market, h.timeline(), COMPETITIVE, mechanism=DutchAuction(most=10 * WAD))
    assert [(r.step, r.fill.repaid) for r in result.liquidations] == [("kick", 15142 * 10**17)]


# -- margin accounts ---------------------------------------------------------------------------------------------------

CASH, BTC, EUR = 0, 1, 2


def margins() -> History:
    """Margin 10 %, fee 1 %. Account 0: long 1 BTC (10000 $) on 8000 $ borrowed. Account 1: short 1 BTC with 12000 $
    cash.
    Account 2: long 1 BTC, short 5000 EUR (1.1 $), 0 cash."""
    h = History(market(("USD", 18), ("BTC", 18), ("EUR", 18)))
    h.param("margin", 1000).param("fee", 100).price(CASH, USD).price(BTC, 10_000 * USD).price(EUR, 11 * USD // 10)
    h.position(0, BTC, "collateral", WAD).position(0, CASH, "debt", 8000 * WAD)
    h.position(1, BTC, "debt", WAD).position(1, CASH, "collateral", 12_000 * WAD)
    return h.position(2, BTC, "collateral", WAD).position(2, EUR, "debt", 5000 * WAD)


@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("screened", [True, False])
def test_positions_of_either_sign_are_liquidated_on_their_own_side(boxes: bool, screened: bool) -> None:
    """The long falls below 10 % at 8000 / 0.9 = 8888.9 $, the short at 12000 / 1.1 = 10909.1 $."""
    h = (
        margins()
        .block(10)
        .price(BTC, 8889 * USD)
        .block(11)
        .price(BTC, 8888 * USD)
        .block(12)
        .price(BTC, 10_909 * USD)
        .block(13)
        .price(BTC, 10_910 * USD)
    )
    result = replay(MarginProtocol(boxes), h.market, h.timeline(), COMPETITIVE, screened=screened)
    assert [(r.fill.order.account, r.clock.block_number) for r in result.liquidations] == [(0, 11), (1, 13)]
    long, short = (r.fill for r in result.liquidations)
    assert (long.order.pair.debt_asset, long.repaid, long.seized) == (CASH, 8888 * 99 * WAD // 100, WAD)
    assert (short.order.pair.collateral_asset, short.repaid, short.seized) == (CASH, WAD, 10_910 * 101 * WAD // 100)
    assert result.liquidations[0].profit_base == 8888 * USD // 100
    held = result.book.state.held
    assert (held[0][CASH], held[0][BTC]) == ((8888 * 99 - 800_000) * WAD // 100, 0)
    assert (held[1][CASH], held[1][BTC]) == ((1_200_000 - 10_910 * 101) * WAD // 100, 0)


@pytest.mark.parametrize("screened", [True, False])
def test_an_account_with_both_signs(screened: bool) -> None:
    """1 BTC long, 5000 EUR short: 0.9 * BTC < 1.1 * 5000 * EUR: at 10000 $ unsafe from EUR 1.6364 on."""
    h = margins().block(10).price(EUR, 163 * USD // 100).block(11).price(EUR, 164 * USD // 100)
    result = replay(MarginProtocol(), h.market, h.timeline(), COMPETITIVE, screened=screened)
    first = result.liquidations[0]
    assert (first.fill.order.account, first.clock.block_number) == (2, 11)
    assert (first.fill.order.pair.collateral_asset, first.profit_base) == (
        BTC,
        100 * USD,
    )  # the long earns 1 % of 10000, the short of 8200
    assert result.book.state.held[2] == {BTC: 0, EUR: -5000 * WAD, CASH: 9900 * WAD}
