"""Several markets in one replay: as alone where nothing is shared, and one purse where something is, worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from backtest.model import AccountId
from backtest.protocols.maker import MAKER
from backtest.replay.engine import replay
from backtest.replay.joint import JointPart, purse_of, replay_jointly
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse
from backtest.replay.shortcuts.common_start import start_of
from backtest.scenario import (
    AssetImpact,
    ChainlinkRule,
    Competitive,
    ConstantProductDepth,
    Dutch,
    English,
    Hybrid,
    Impact,
    LatencyRace,
    Mechanism,
    NoDepth,
    Oev,
    Participation,
    ProtocolsOwn,
    Scenario,
    SealedBid,
    Searcher,
)
from backtest.units import RAY, WAD
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, market
from tests.support.contest_history import COSTLY, POOL, falling, one_account
from tests.support.random_history import random_history
from tests.support.vault_history import history as vault_history


def _parts(histories: Sequence[History], scenario: Scenario, *worths: Fraction) -> list[JointPart]:
    worth = worths or (Fraction(1),) * len(histories)
    return [
        JointPart(POOL, replace(h.market, name=f"m{n}"), h.timeline(), scenario, worth[n], samples=7)
        for n, h in enumerate(histories)
    ]


def _alone(part: JointPart) -> Replay[Any]:
    return replay(part.protocol, part.market, part.timeline, part.scenario, samples=part.samples)


def _outcome(replayed: Replay[Any]) -> tuple[Any, ...]:
    return (
        list(replayed.liquidations), list(replayed.deficits), list(replayed.spells), replayed.totals, replayed.horizons,
        replayed.book.state.balances, replayed.refused, replayed.costs, replayed.events,
    )  # fmt: skip


def _rich() -> tuple[Searcher, ...]:
    return tuple(Searcher(name=name, capital=10**20, shows_up=7_000) for name in "abc")


MODELS: dict[str, tuple[Any, Mechanism]] = {
    "competitive": (Competitive(), ProtocolsOwn()),
    "sealed, borrowing": (SealedBid(private_cost=50 * USD), ProtocolsOwn()),
    "participation, rich": (Participation(distribution="searchers", searchers=_rich()), ProtocolsOwn()),
    "participation, borrowing": (Participation(mean=8_000), ProtocolsOwn()),
    "race, rich": (LatencyRace(searchers=_rich()), ProtocolsOwn()),
    "oracle auctions": (Oev(delay=3, mean=8_000), ProtocolsOwn()),
    "english, rich": (SealedBid(searchers=_rich()), English(ttl=240)),
    "dutch, rich": (SealedBid(searchers=_rich()), Dutch()),
    "hybrid, shows up": (Participation(mean=8_000), Hybrid(blocks=3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_with_nothing_short_each_market_is_as_alone(name: str) -> None:
    """Other prices, other blocks, another length: time passes in each market while the others have their events."""
    liquidators, mechanism = MODELS[name]
    scenario = Scenario(liquidators=liquidators, mechanism=mechanism, costs=COSTLY, seed=3)
    others = falling(6, 5, 130)
    others.block(171).price(WETH, 1_500 * USD).block(200).price(USDC, USD)
    parts = _parts([falling(8, 6, 100), others, one_account()], scenario)
    alone = [_outcome(_alone(part)) for part in parts]
    assert any(outcome[0] for outcome in alone)
    for purse in (purse_of(scenario), None):
        assert [_outcome(one) for one in replay_jointly(parts, purse=purse)] == alone
    assert [_outcome(one) for one in replay_jointly(parts[::-1], purse=purse_of(scenario))] == alone[::-1]


def _fallen(name: str, eth: int, usdc: int, price: int, at: int, later: int = 400) -> History:
    """One account that may be liquidated from block ``at`` on."""
    h = History(market(("WETH", 18), ("USDC", 6), accounts=2, name=name))
    h.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
    h.price(WETH, 2000 * USD).price(USDC, USD)
    borrower(h, 0, eth, usdc)
    return h.block(at).price(WETH, price * USD).block(later).price(USDC, USD)


def _took(replayed: Replay[Any]) -> list[tuple[int, int]]:
    """Time of each liquidation and whole USDC repaid."""
    return [(r.clock.timestamp, r.fill.repaid // 10**6) for r in replayed.liquidations]


def test_one_purse_for_two_markets_by_hand() -> None:
    """10 ETH against 11,300 USDC at 1400 $: health is 11,200 / 11,300, half the debt, 5,650, may be repaid; it leaves
    5.7625 ETH against 5,650: healthy. The searcher has 6,000 and gets it back after an hour. Alone, each market's
    account is liquidated at once (blocks 10 and 12: 120 s and 144 s). Together the second waits for the money: from
    120 s on it is out until 3,720 s, and from 144 s on the market is looked at again when it comes back, in a whole
    number of blocks: 3,720 - 144 = 298 times 12 s.
    """
    liquidators = Participation(
        distribution="searchers", searchers=(Searcher(name="only", capital=6_000 * USD, recycle=3_600),)
    )
    scenario = Scenario(liquidators=liquidators)
    parts = _parts([_fallen("a", 10, 11_300, 1400, 10), _fallen("b", 10, 11_300, 1400, 12)], scenario)
    assert [_took(_alone(part)) for part in parts] == [[(120, 5_650)], [(144, 5_650)]]
    together = replay_jointly(parts, purse=purse_of(scenario))
    assert [_took(one) for one in together] == [[(120, 5_650)], [(3_720, 5_650)]]
    [missed, taken] = together[1].spells
    assert (missed.ending, missed.reason, taken.ending) == ("missed", "no capital", "taken")
    assert missed.begins.timestamp == 144
    # the order of the markets decides nothing, and a purse in each is as alone
    swapped = replay_jointly(parts[::-1], purse=purse_of(scenario))
    assert [_took(one) for one in swapped] == [[(3_720, 5_650)], [(120, 5_650)]]
    assert [_took(one) for one in replay_jointly(parts)] == [[(120, 5_650)], [(144, 5_650)]]


@pytest.mark.parametrize(
    ("capital", "taken"), [(11_299, []), (11_300, [(144, 5_650)])], ids=["one dollar short", "enough"]
)
def test_the_purse_is_counted_in_one_currency(capital: int, taken: list[tuple[int, int]]) -> None:
    """One unit of the second market is worth two of the first: 5,650 there are 11,300 here."""
    liquidators = Participation(
        distribution="searchers", searchers=(Searcher(name="only", capital=capital * USD, recycle=3_600),)
    )
    scenario = Scenario(liquidators=liquidators)
    histories = [_fallen("a", 1, 1_400, 1400, 300), _fallen("b", 10, 11_300, 1400, 12)]
    parts = _parts(histories, scenario, Fraction(1), Fraction(2))
    together = replay_jointly(parts, purse=purse_of(scenario))
    assert _took(together[1]) == taken


def test_attention_is_one_too() -> None:
    """Both accounts fall in one block; who makes one call a block takes the second one block later."""
    liquidators = SealedBid(searchers=(Searcher(name="only", calls=1),))
    scenario = Scenario(liquidators=liquidators)
    parts = _parts([_fallen("a", 10, 11_300, 1400, 10), _fallen("b", 10, 11_300, 1400, 10)], scenario)
    assert [_took(_alone(part)) for part in parts] == [[(120, 5_650)]] * 2
    together = replay_jointly(parts, purse=purse_of(scenario))
    assert [_took(one) for one in together] == [[(120, 5_650)], [(132, 5_650)]]
    assert together[1].spells[0].reason == "searchers busy"


# -- prices that answer ------------------------------------------------------------------------------------------------

SHALLOW = Impact(
    assets=(
        AssetImpact(
            asset="WETH",
            depth=ConstantProductDepth(reserve=390),
            oracle=ChainlinkRule(deviation=50, heartbeat=3_600, delay=0),
        ),
    )
)


def _contagion() -> list[JointPart]:
    """Market ``a``: 23 WETH against 20,000 USDC. Market ``b``: 10 WETH against 8,200. In both WETH falls to 1050 $, in
    ``a`` a block later; nothing else happens before block 400.
    """
    scenario = Scenario(liquidators=Competitive())
    return _parts([_fallen("a", 23, 20_000, 1_050, 11), _fallen("b", 10, 8_200, 1_050, 10)], scenario)


def test_contagion_of_two_markets_by_hand() -> None:
    """At 1050 $ the account in ``a`` has a health of 23 * 840 / 20,000 = 0.966: half its debt, 10,000 USDC, is repaid
    for 10,000 * 1.05 / 1050 = 10 WETH, which are sold into 390: the price falls to (390 / 400)^2 = 0.950625 of 1050, or
    998.15625 $. The account in ``b``, at 10 * 840 / 8,200 = 1.024 before, has 10 * 798.525 / 8,200 = 0.974 now and
    is liquidated at that second: 4,100 for 4,100 * 1.05 / 998.15625 = 4.312952... WETH. Both are healthy then: at
    390^2 / 404.312952...^2 of 1050 $ 13 WETH weigh 10,160 against 10,000. Alone nothing happens in ``b``.
    """
    parts = _contagion()
    markets = [part.market for part in parts]
    alone = [
        replay(
            part.protocol, part.market, part.timeline, part.scenario, response=PriceResponse(SHALLOW, [part.market], ())
        )
        for part in parts
    ]
    assert [_took(one) for one in alone] == [[(132, 10_000)], []]
    response = PriceResponse(SHALLOW, markets, ())
    first, second = replay_jointly(parts, response=response)
    assert _took(first) == [(132, 10_000)]
    assert _took(second) == [(132, 4_100)]
    price = 99_815_625_000
    seized = 4_100 * USD * 105 * ETH // (100 * price)
    assert seized == 4_312_952_005_259_697_567
    [here], [there] = first.liquidations, second.liquidations
    assert (here.fill.seized, there.fill.seized) == (10 * ETH, seized)
    assert next(point.oracle for point in second.points if point.clock.timestamp == 132) == price
    assert second.sales[0].endogenous
    assert not first.sales[0].endogenous
    # what both hear in the end: the same market, to the last integer
    factor = RAY * (390 * ETH) ** 2 // (400 * ETH + seized) ** 2
    for one in (first, second):
        assert one.points[-1].market == one.points[-1].oracle == 1_050 * USD * factor // RAY
    # tokens are conserved: what left the accounts is what was sold
    assert sum(sale.amount for sale in response.sales) == here.fill.seized + there.fill.seized
    # the order in which markets are named decides nothing here
    swapped = replay_jointly(parts[::-1], response=PriceResponse(SHALLOW, markets[::-1], ()))
    assert [_took(one) for one in swapped] == [[(132, 4_100)], [(132, 10_000)]]


def test_contagion_without_one_of_them_by_hand() -> None:
    """Without ``a`` nobody sells before ``b`` is looked at, which is healthy at 1050 $. Without ``b`` ``a`` does as it
    does alone. Whoever is left out goes on owing what it owes.
    """
    parts = _contagion()
    markets, everybody = [part.market for part in parts], frozenset({AccountId(0), AccountId(1)})
    for screened in (True, False):
        without_a, without_b = (
            replay_jointly(
                [replace(part, without=everybody if place == out else frozenset()) for place, part in enumerate(parts)],
                response=PriceResponse(SHALLOW, markets, ()),
                screened=screened,
            )
            for out in (0, 1)
        )
        assert [_took(one) for one in without_a] == [[], []]
        assert [_took(one) for one in without_b] == [[(132, 10_000)], []]
        assert without_b[1].horizons[0].equity[AccountId(0)] == 10 * 99_815_625_000 - 8_200 * USD
    alone = replay(parts[0].protocol, markets[0], parts[0].timeline, parts[0].scenario,
                   response=PriceResponse(SHALLOW, markets[:1], ()))  # fmt: skip
    assert list(without_b[0].liquidations) == list(alone.liquidations)


def test_others_are_liquidated_as_if_nobody_was_left_out() -> None:
    """Frictionless liquidators, prices of history: an account does nothing to another."""
    [part] = _parts([falling(8, 6, 100)], Scenario(liquidators=Competitive()))
    [whole] = replay_jointly([part])
    out = frozenset(made.fill.order.account for made in list(whole.liquidations)[::2])
    assert 1 < len(out) < len({made.fill.order.account for made in whole.liquidations})
    [rest] = replay_jointly([replace(part, without=out)])
    [plain] = replay_jointly([replace(part, without=out)], screened=False)
    left = [made for made in whole.liquidations if made.fill.order.account not in out]
    assert [(made.clock, made.fill) for made in rest.liquidations] == [(made.clock, made.fill) for made in left]
    assert list(rest.liquidations) == list(plain.liquidations)


def test_a_start_knows_nobody_who_is_left_out() -> None:
    [part] = _parts([_fallen("a", 10, 11_300, 1400, 10)], Scenario(liquidators=Competitive(), from_block=5))
    start = start_of(part.protocol, part.market, part.timeline, part.scenario)
    with pytest.raises(ValueError, match="everybody may be liquidated"):
        replay_jointly([replace(part, start=start, without=frozenset({AccountId(0)}))])


def test_depth_without_bottom_is_no_contagion() -> None:
    parts = _contagion()
    deep = Impact(assets=(AssetImpact(asset="WETH", depth=NoDepth()),))
    together = replay_jointly(parts, response=PriceResponse(deep, [part.market for part in parts], ()))
    assert [list(one.liquidations) for one in together] == [list(_alone(part).liquidations) for part in parts]


# -- order, and protocols ----------------------------------------------------------------------------------------------


def test_who_comes_first_in_a_block_is_served_first() -> None:
    """Money for one, in one block: the log index decides, not the order of names; by another chain the time, then its
    number.
    """
    first, second = (
        History(market(("WETH", 18), ("USDC", 6), accounts=2, name=name)) for name in ("a", "b")
    )  # fmt: skip
    for h in (first, second):
        h.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
        h.price(WETH, 2000 * USD).price(USDC, USD)
        borrower(h, 0, 10, 11_300)
        h.block(10)
    first.price(USDC, USD).price(WETH, 1400 * USD).block(20).price(USDC, USD)
    second.price(WETH, 1400 * USD).block(20).price(USDC, USD)
    scenario = Scenario(liquidators=SealedBid(searchers=(Searcher(name="only", capital=6_000 * USD),)))
    parts = _parts([first, second], scenario)
    for order in (1, -1):
        taken = replay_jointly(parts[::order], purse=purse_of(scenario))[::order]
        assert [_took(one) for one in taken] == [[], [(120, 5_650)]]


def test_a_bid_of_one_protocol_is_missing_in_another() -> None:
    """Flips of a vault and a pool. The searcher's bid stands in the auction from 1,200 s on, so that there is too
    little for the pool's account, which falls at 1,224 s; with plenty each is as alone.
    """
    vault = vault_history(11, 1_200)
    pool = _fallen("pool", 10, 11_300, 1_400, 102, 5_000)
    names = ("only", "other")

    def parts(capital: int) -> list[JointPart]:
        each = [tuple(Searcher(name=name, capital=capital * unit) for name in names) for unit in (WAD, USD)]
        scenarios = [Scenario(liquidators=SealedBid(searchers=one)) for one in each]
        return [
            JointPart(MAKER, vault.market, vault.timeline(), scenarios[0]),
            JointPart(POOL, pool.market, pool.timeline(), scenarios[1], Fraction(10**10)),
        ]

    rich = parts(10**9)
    for found, part in zip(replay_jointly(rich, purse=purse_of(rich[0].scenario)), rich, strict=True):
        alone = _alone(part)
        assert list(alone.liquidations)
        assert list(found.liquidations) == list(alone.liquidations)
    poor = parts(6_000)
    auction, liquidated = replay_jointly(poor, purse=purse_of(poor[0].scenario))
    assert [_took(_alone(poor[1]))[0]] == [(1_224, 5_650)]
    assert any(step.stage == "auction" for step in auction.liquidations)
    assert _took(liquidated)[0][0] > 1_224
    assert liquidated.spells[0].reason == "no capital"


@pytest.mark.parametrize("seed", [0, 2, 3, 5])
@pytest.mark.parametrize("name", [pytest.param("sealed, borrowing", marks=pytest.mark.slow), "race, rich"])
def test_random_markets_are_as_alone(name: str, seed: int) -> None:
    """Interest, missing prices, changed parameters, months without a block, users who differ: with nothing short each
    of three random markets is as alone, later horizons too.
    """
    liquidators, mechanism = MODELS[name]
    scenario = Scenario(liquidators=liquidators, mechanism=mechanism, seed=seed, from_block=40 if seed % 2 else None)
    histories = [random_history(100 * seed + n, steps=30, liquidations=n == 1) for n in range(3)]
    parts = _parts(histories, scenario)
    alone = [_outcome(_alone(part)) for part in parts]
    assert [_outcome(one) for one in replay_jointly(parts, purse=purse_of(scenario))] == alone
