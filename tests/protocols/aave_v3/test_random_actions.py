"""Random sequences of actions on the real contracts: the fetched lake gives back the chain's state and account data,
whatever was done.
"""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.account import account_data
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.several import state_at
from backtest.results import load_market, load_timeline
from backtest.scenario import Scenario
from tests.chain.deployment import Deployment
from tests.chain.node import UINT256_MAX, Transaction

PEOPLE = [f"0x{0xA11CE000 + i:040x}" for i in range(5)]
SYMBOLS = ("WETH", "WBTC", "USDC", "DAI", "wstETH", "LINK")
KINDS = (
    "supply",
    "borrow",
    "repay",
    "withdraw",
    "transfer",
    "flag",
    "emode",
    "repay_with_a_tokens",
    "liquidate",
    "price",
    "treasury",
    "warp",
)

# kind, who, other, asset, other asset, size (dollars to about a million; 0 means everything), yes or no
Action = tuple[str, int, int, int, int, int, bool]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 5),
        st.integers(0, 5),
        st.one_of(st.just(0), st.integers(1, 10**6), st.integers(1, 50)),
        st.booleans(),
    ),
    min_size=20,
    max_size=60,
)


def _transaction(market: Deployment, prices: dict[str, int], action: Action) -> Transaction | None:
    kind, i, j, asset, other_asset, dollars, yes = action
    who, other, symbol = PEOPLE[i], PEOPLE[j], SYMBOLS[asset]
    amount = dollars * 10**8 * market.reserves[symbol].unit // prices[symbol] + 7 if dollars else UINT256_MAX
    match kind:
        case "supply":
            return market.supply(who, symbol, amount if dollars else 12_345_678)
        case "borrow":
            return market.borrow(who, symbol, amount if dollars else 1_000)
        case "repay":
            return market.repay(who, symbol, amount)
        case "withdraw":
            return market.withdraw(who, symbol, amount)
        case "transfer":
            return market.transfer(who, other, symbol, amount if dollars else 1)
        case "flag":
            return market.set_collateral(who, symbol, yes)
        case "emode":
            return market.set_emode(who, int(yes))
        case "repay_with_a_tokens":
            return market.repay_with_a_tokens(who, symbol, amount)
        case "liquidate":
            return market.liquidate(other, symbol, SYMBOLS[other_asset], who, UINT256_MAX, yes)
        case "price":
            feed = market.reserves[symbol].feed
            factor = 80 + dollars % 41 if dollars else 55
            return feed.transmit(feed.aggregator.call("latestAnswer") * factor // 100)
        case "treasury":
            return market.mint_to_treasury(symbol)
    return None


def _play(market: Deployment, actions: list[Action]) -> int:
    """Each action in a block of its own, whether it succeeds or not; how many succeeded."""
    for reserve in market.reserves.values():
        market.node.send_block([reserve.asset.transaction("mintMany", PEOPLE, 10**9 * reserve.unit)])
    prices, opening = market.prices(), []
    for person, symbol in zip(PEOPLE, SYMBOLS, strict=False):
        opening.append(market.supply(person, symbol, 400_000 * 10**8 * market.reserves[symbol].unit // prices[symbol]))
    for person, symbol in zip(PEOPLE, ("USDC", "USDC", "DAI", "WETH", "USDC"), strict=True):
        opening.append(market.borrow(person, symbol, 250_000 * 10**8 * market.reserves[symbol].unit // prices[symbol]))
    done = sum(receipt["status"] == "0x1" for receipt in market.node.send_block(opening))
    for action in actions:
        if action[0] == "warp":
            market.node.warp(3600 * (action[5] % 2000 + 1))
            market.node.mine()
            continue
        transaction = _transaction(market, market.prices(), action)
        assert transaction is not None
        (receipt,) = market.node.send_block([transaction])
        done += receipt["status"] == "0x1"
    return done


def _compare(market: Deployment, first: int) -> None:
    last = market.node.block_number
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder, create=True)
        fetch(lake, market.market_config("random"), Rpc(market.node.url), to_block=last, finality=0, headers="all")
        lake.refresh()
        reconstruct(lake, "random")
        lake.refresh()
        book, timeline = load_market(lake, "random"), load_timeline(lake, "random")
    people = [*PEOPLE, market.treasury]
    ids = {account: i for i, account in enumerate(book.accounts)}
    assets = {symbol: asset.id for symbol in SYMBOLS if (asset := book.asset_named(symbol))}
    for block in {last, (first + last) // 2}:
        state, prices, now = state_at(AAVE_V3, book, timeline, block)
        held, flags, modes = (
            market.scaled_balances(people, block),
            market.user_configuration(people, block),
            market.user_emode(people, block),
        )
        for person, balances, bits, mode, six in zip(
            people, held, flags, modes, market.account_data(people, block), strict=True
        ):
            id = ids.get(person.lower())
            ours = state.accounts.get(id) if id is not None else None
            if ours is None:
                assert not any(balances)
                continue
            mine = [ours.collateral.get(assets[s], 0) for s in SYMBOLS] + [ours.debt.get(assets[s], 0) for s in SYMBOLS]
            assert mine == list(balances)
            assert ours.enabled == {assets[s] for i, s in enumerate(SYMBOLS) if bits >> (2 * i + 1) & 1}
            assert ours.emode == mode
            assert tuple(account_data(state, id, prices.oracle, now)) == six
    final, _, _ = state_at(AAVE_V3, book, timeline, last)
    recomputed = replay(AAVE_V3, book, timeline, Scenario(rates="recomputed"))
    assert recomputed.rate_check is not None
    assert (recomputed.rate_check.differing, recomputed.actions, recomputed.mismatches) == (0, [], [])
    treasury = [
        market.data_provider.call("getReserveData", market.reserves[symbol].asset.address, block=last)[1]
        for symbol in SYMBOLS
    ]
    assert [recomputed.book.state.reserves[assets[symbol]].accrued_to_treasury for symbol in SYMBOLS] == treasury
    observed = replay(AAVE_V3, book, timeline, Scenario())
    assert observed.mismatches == []
    assert {
        a: (x.collateral, x.debt, x.enabled, x.emode)
        for a, x in observed.book.state.accounts.items()
        if x.collateral or x.debt
    } == {a: (x.collateral, x.debt, x.enabled, x.emode) for a, x in final.accounts.items() if x.collateral or x.debt}


CHAIN = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def _check(market: Deployment, actions: list[Action]) -> None:
    snapshot, first = market.node.snapshot(), market.node.block_number
    try:
        assert _play(market, actions) > 8
        _compare(market, first)
    finally:
        market.node.revert(snapshot)


@pytest.mark.xdist_group("random")
@CHAIN
@given(actions=ACTIONS)
def test_random_actions_on_36(fresh_v36: Deployment, actions: list[Action]) -> None:
    _check(fresh_v36, actions)


@pytest.mark.xdist_group("random")
@CHAIN
@given(actions=ACTIONS)
def test_random_actions_on_30(fresh_v30: Deployment, actions: list[Action]) -> None:
    _check(fresh_v30, actions)
