"""What few markets have, against the bytecode: stable-rate debt, bridged debt, a reserve dropped and listed again.

Each market is played by a short script on a local node and fetched; reconstruction, account data and recomputed rates
are the chain's, to the last integer.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.account import account_data
from backtest.replay.engine import replay
from backtest.replay.several import state_at
from backtest.scenario import Competitive, Override, Scenario
from tests.chain.aave import LISTINGS, TREASURY
from tests.chain.contracts import artifact_v30, artifacts_v36
from tests.chain.deployment import Deployment
from tests.chain.node import UINT256_MAX, ZERO, Contract, Transaction
from tests.support.aave_stage import DAY, MARKET, Stage

_OF_DEBT = ("stable", "stable", "variable", "swap 1", "swap 2", "rebalance", "repay", "repay all", "tokens")
KINDS = (*_OF_DEBT, "supply", "unbacked", "back", "factor", "treasury", "one")


def _stable_rates(stage: Stage) -> None:
    """Strategies whose stable rates matter, and stable loans allowed, for DAI and USDC."""
    market, ray = stage.market, 10**23
    for symbol, share in (("DAI", 2000), ("USDC", 500)):
        rates = next(listing.rates for listing in LISTINGS if listing.symbol == symbol)
        numbers = [*rates.constructor()[:4], 50 * ray, 6000 * ray, 100 * ray, 800 * ray, share * ray]
        strategy = stage.node.deploy(
            artifact_v30("DefaultReserveInterestRateStrategy"), market.provider.address, *numbers
        )
        address = market.reserves[symbol].asset.address
        change = market.configurator.transaction("setReserveInterestRateStrategyAddress", address, strategy.address)
        stage.all(change, market.configure("setReserveStableRateBorrowing", symbol, True))


def _pool(stage: Stage, function: str, symbol: str, *args: Any, sender: str) -> Transaction:
    return stage.market.pool.transaction(function, stage.market.reserves[symbol].asset.address, *args, sender=sender)


def _wish(stage: Stage, kind: str, symbol: str, user: str, amount: int, draw: random.Random) -> Transaction:
    market, bridge, mode, factor = stage.market, stage.people[-1], draw.choice((1, 1, 2)), draw.choice((0, 500, 3000))
    wishes = {
        "stable": market.borrow(user, symbol, amount, 1),
        "variable": market.borrow(user, symbol, 3 * amount),
        "swap 1": _pool(stage, "swapBorrowRateMode", symbol, 1, sender=user),
        "swap 2": _pool(stage, "swapBorrowRateMode", symbol, 2, sender=user),
        "rebalance": _pool(stage, "rebalanceStableBorrowRate", symbol, user, sender=stage.lender),
        "repay": market.repay(stage.lender, symbol, amount // 2, user, mode=mode),
        "repay all": market.repay(user, symbol, UINT256_MAX, mode=mode),
        "tokens": _pool(stage, "repayWithATokens", symbol, amount, mode, sender=user),
        "supply": market.supply(user, symbol, amount // 7 + 1),
        "unbacked": _pool(stage, "mintUnbacked", symbol, amount, user, 0, sender=bridge),
        "back": _pool(stage, "backUnbacked", symbol, amount, amount // 300, sender=bridge),
        "factor": market.set_reserve_factor(symbol, factor),
        "treasury": market.mint_to_treasury(symbol),
        "one": market.supply(stage.lender, symbol, 1),
    }
    return wishes[kind]


def _play_stable(stage: Stage, seed: int, rounds: int = 90) -> list[int]:
    """Loans of both kinds at random, swaps, rebalances, repayments with aTokens, bridges, a crash; blocks to see."""
    market, draw, blocks = stage.market, random.Random(seed), []
    _stable_rates(stage)
    bridge = stage.people[-1]
    stage.all(
        market.acl.transaction("addBridge", bridge),
        market.configurator.transaction("updateBridgeProtocolFee", 1500),
        *(market.configure("setUnbackedMintCap", symbol, 10**8) for symbol in ("DAI", "USDC")),
        *(market.supply(stage.lender, symbol, 10**6 * market.reserves[symbol].unit) for symbol in ("DAI", "USDC")),
        *(market.supply(user, "WETH", 10**21) for user in stage.people[:-1]),
    )
    for _ in range(rounds):
        symbol = draw.choice(("DAI", "USDC"))
        user, unit = draw.choice(stage.people[:-1]), market.reserves[symbol].unit
        amount = draw.randrange(1, 40_000 * unit)
        kind = draw.choice(KINDS)
        wish = _wish(stage, kind, symbol, user, amount, draw)
        stage.some(kind, wish)
        stage.wait(draw.choice((12, 3_600, 5 * DAY)))
        blocks.append(stage.node.block_number)
    fresh, doomed, unit = f"0x{0xF0000:040x}", f"0x{0xF0001:040x}", market.reserves["DAI"].unit
    stage.accounts += [fresh, doomed]
    people = [fresh, doomed]
    stage.all(*(market.reserves[s].asset.transaction("mintMany", people, 10**9 * unit) for s in ("DAI", "WETH")))
    stage.all(market.supply(doomed, "WETH", unit), market.borrow(doomed, "DAI", 150 * unit, 1))
    stage.all(market.supply(fresh, "WETH", 10**22), market.supply(fresh, "DAI", 10 * unit))
    stage.all(market.borrow(fresh, "DAI", 500 * unit, 1), market.borrow(fresh, "DAI", 7 * unit))
    stage.wait(DAY)
    for mode, amount in ((1, 3 * unit), (2, 2 * unit), (2, UINT256_MAX)):
        stage.some("tokens", _pool(stage, "repayWithATokens", "DAI", amount, mode, sender=fresh))
    stage.some("variable", market.borrow(fresh, "DAI", 9 * unit))
    for mode in (2, 1, 2):
        stage.wait(DAY)
        stage.some(f"swap {mode}", _pool(stage, "swapBorrowRateMode", "DAI", mode, sender=fresh))
    # suppliers leave: usage near its top, so that old cheap stable loans are rebalanced
    for symbol in ("DAI", "USDC"):
        reserve = market.reserves[symbol]
        left = reserve.asset.call("balanceOf", reserve.a_token.address)
        stage.some("leave", market.withdraw(stage.lender, symbol, left - 10 * reserve.unit))
        stage.wait(DAY)
        stage.some(
            "rebalance",
            *(_pool(stage, "rebalanceStableBorrowRate", symbol, user, sender=stage.lender) for user in stage.people),
        )
        blocks.append(stage.node.block_number)
    stage.wait(300 * DAY)
    weth = market.reserves["WETH"]
    data = [row for row in market.account_data(stage.people[:-1]) if row and row[1]]
    for part in (95, 80, 60):
        worst = max(row[1] * 10_000 * 100 // (row[0] * row[3]) for row in data if row[0])
        stage.all(weth.feed.transmit(market.prices()["WETH"] * min(worst, 100) * part // 10_000))
        for user in [*stage.people[:-1], doomed]:
            for symbol in ("DAI", "USDC"):
                repay = draw.choice((UINT256_MAX, 10_000 * market.reserves[symbol].unit))
                tokens = draw.random() < 0.4
                stage.some("liquidate", market.liquidate(stage.liquidator, "WETH", symbol, user, repay, tokens))
        blocks.append(stage.node.block_number)
    return blocks


@pytest.mark.parametrize("seed", range(2))
def test_stable_and_bridged_debt_of_30(fresh_v30: Deployment, seed: int, tmp_path: Path) -> None:
    stage = Stage(fresh_v30)
    blocks = _play_stable(stage, seed)
    lake, market, timeline = stage.history(tmp_path)
    assert stage.check_accounts(market, timeline, blocks) > 50
    assert stage.check_recomputed(market, timeline) > 50
    for kind in ("stable", "variable", "swap 1", "swap 2", "rebalance", "tokens", "unbacked", "back", "liquidate"):
        assert stage.done[kind], stage.done
    seized = "SELECT count(*) FROM setting_events WHERE setting = 'stable_moved' AND action = 'liquidation'"
    assert lake.sql(seized).fetchall()[0][0] > 0, "a liquidation reaches stable debt"
    report = verify(lake, MARKET, Rpc(stage.node.url))
    assert report.mismatches == []


# -- a reserve dropped and listed again --------------------------------------------------------------------------------


def _list(stage: Stage, *symbols: str) -> None:
    """List these assets, with new tokens, in this order; their numbers in the test's deployment follow."""
    market, node = stage.market, stage.node
    inputs, codes = [], artifacts_v36() if market.version == "3.6" else {}
    for symbol in symbols:
        reserve, rates = market.reserves[symbol], next(row.rates for row in LISTINGS if row.symbol == symbol)
        if market.version == "3.6":
            a_token = node.deploy(codes["ATokenInstance"], market.pool.address, ZERO, TREASURY).address
            debt = node.deploy(codes["VariableDebtTokenInstance"], market.pool.address, ZERO).address
            texts = [f"Again {kind}{symbol}" for kind in ("a", "a", "debt", "debt")]
            inputs.append((a_token, debt, reserve.asset.address, *texts, b"", rates.encoded()))
            continue
        code = [artifact_v30(name) for name in ("AToken", "StableDebtToken", "VariableDebtToken")]
        a_token, stable, debt = (node.deploy(artifact, market.pool.address).address for artifact in code)
        strategy = node.deploy(
            artifact_v30("DefaultReserveInterestRateStrategy"), market.provider.address, *rates.constructor()
        )
        texts = [f"Again {kind}{symbol}" for kind in ("a", "a", "debt", "debt", "stable", "stable")]
        fixed = a_token, stable, debt, reserve.decimals, strategy.address, reserve.asset.address, TREASURY, ZERO
        inputs.append((*fixed, *texts, b""))
    stage.all(market.configurator.transaction("initReserves", inputs))
    for symbol in symbols:
        reserve = market.reserves[symbol]
        a_token, *_, debt = market.data_provider.call("getReserveTokensAddresses", reserve.asset.address)
        reserve.a_token = Contract(node, a_token, reserve.a_token.abi)
        reserve.debt_token = Contract(node, debt, reserve.debt_token.abi)


def _configure(stage: Stage, symbol: str, ltv: int, threshold: int) -> list[Transaction]:
    market = stage.market
    return [
        market.configure_collateral(symbol, ltv, threshold, 10500),
        market.configure("setReserveBorrowing", symbol, True),
        market.set_reserve_factor(symbol, 1000),
    ]


@pytest.mark.parametrize("version", ["3.0", "3.6"])
@pytest.mark.parametrize("order", [("wstETH", "LINK"), ("LINK", "wstETH")], ids=["same place", "places changed"])
def test_a_reserve_dropped_and_listed_again(
    version: str, order: tuple[str, str], chain_packages: None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """wstETH (of e-mode 1) and LINK, both siloed, borrowable in isolation, with interest behind them, leave and come
    back: in their old places, or each in the other's, where 3.6's e-mode lists are the other's.
    """
    stage = Stage(request.getfixturevalue("fresh_v30" if version == "3.0" else "fresh_v36"), people=3)
    market, node = stage.market, stage.node
    early, late, third = stage.people
    unit = 10**18
    stage.all(
        *(market.configure("setSiloedBorrowing", symbol, True) for symbol in order),
        *(market.configure("setBorrowableInIsolation", symbol, True) for symbol in order),
        market.set_reserve_factor("wstETH", 0),
        market.set_reserve_factor("LINK", 0),
        market.supply(stage.lender, "WETH", 10**5 * unit),
        market.supply(stage.lender, "USDC", 10**6 * 10**6),
        *(market.supply(stage.lender, symbol, 1000 * unit) for symbol in order),
        market.supply(early, "WETH", 100 * unit),
    )
    stage.all(market.borrow(early, "LINK", 300 * unit))
    stage.wait(100 * DAY)
    blocks = [node.block_number]
    stage.all(market.repay(early, "LINK"))
    stage.all(*(market.withdraw(stage.lender, symbol) for symbol in order))
    if version == "3.6":
        stage.all(market.set_paused("LINK", True), market.set_paused("LINK", False, 3600))
    stage.all(*(market.configure("dropReserve", symbol) for symbol in order))
    blocks.append(node.block_number)
    _list(stage, *order)
    blocks.append(node.block_number)
    stage.all(*_configure(stage, "wstETH", 4500, 5000), *_configure(stage, "LINK", 5000, 5500))
    stage.all(
        *(market.supply(stage.lender, symbol, 1000 * unit) for symbol in order),
        *(market.set_emode(user, 1) for user in (late, third)),
    )
    stage.all(market.supply(late, "wstETH", 50 * unit), market.supply(third, "LINK", 500 * unit))
    blocks.append(node.block_number)
    for user in (late, third):
        stage.some("borrow", market.borrow(user, "WETH", unit // 10))
    stage.some("borrow", market.borrow(early, "LINK", unit))
    stage.some("borrow", market.borrow(early, "USDC", 10**6))  # siloed debts no more
    stage.wait(30 * DAY)
    stage.some("liquidate", market.reserves["WETH"].feed.transmit(market.prices()["WETH"] * 3))
    for user in (late, third):
        stage.some("liquidate", market.liquidate(stage.liquidator, "wstETH", "WETH", user))
        stage.some("liquidate", market.liquidate(stage.liquidator, "LINK", "WETH", user))
    stage.all(market.mint_to_treasury("WETH"))
    blocks.append(node.block_number)
    assert stage.done["borrow"] >= 3, stage.done
    moved = version == "3.6" and order[0] == "LINK"
    assert [row and row[3] for row in market.account_data([third])] == [9500 if moved else 5500]
    lake, ours, timeline = stage.history(tmp_path)
    assert stage.check_accounts(ours, timeline, blocks) >= 3
    state, *_ = state_at(AAVE_V3, ours, timeline, blocks[-1])
    for symbol, reserve in market.reserves.items():
        mine = next(r for r in state.reserves if ours.assets[r.asset].symbol == symbol)
        numbers = market.pool.call("getReserveData", reserve.asset.address)
        assert mine.reserve_id == numbers[7], symbol
        indexes = mine.supply_index, mine.supply_rate, mine.borrow_index, mine.borrow_rate
        assert indexes == tuple(numbers[1:5]), symbol
    assert stage.check_recomputed(ours, timeline) > 10
    assert verify(lake, MARKET, Rpc(node.url)).mismatches == []


# -- a freeze under an override ----------------------------------------------------------------------------------------


def _play_freeze(stage: Stage, changed: int, at: str) -> dict[str, int]:
    """WETH is frozen, its loan-to-value history's or ``changed`` from the step ``at`` on; blocks of steps."""
    market, node = stage.market, stage.node
    plain, apart, both, late = stage.people
    unit, steps, held = 10**18, {}, {"ltv": 0}
    v36 = market.version == "3.6"

    def govern(name: str, ltv: int) -> None:
        if name == at:
            held["ltv"] = changed
        value = held["ltv"] or ltv
        stage.all(market.configure_collateral("WETH", value, 8250, 10500))
        steps[name] = node.block_number

    start = node.timestamp() + 1000
    stage.all(
        market.supply(stage.lender, "DAI", 10**7 * unit),
        *(market.supply(user, "WETH", 100 * unit) for user in (plain, apart, both)),
        market.supply(both, "WBTC", 10**8),
        market.set_emode(apart, 1),
    )
    govern("before", 8000)
    node.send_block([market.borrow(plain, "DAI", 5_000 * unit)], timestamp=start)
    stage.all(market.configure("setReserveFreeze", "WETH", True))
    steps["frozen"] = node.block_number
    node.send_block([market.borrow(both, "DAI", 3_000 * unit)], timestamp=start + DAY)  # by its WBTC
    govern("while frozen", 7000)
    node.send_block([market.repay(plain, "DAI", 100 * unit)], timestamp=start + 2 * DAY)
    steps["later"] = node.block_number
    stage.all(market.configure("setReserveFreeze", "WETH", False))
    steps["unfrozen"] = node.block_number
    if v36:
        stage.all(market.configurator.transaction("setReserveLtvzero", market.reserves["WETH"].asset.address, False))
        steps["given back"] = node.block_number
        change = market.configure("setAssetLtvzeroInEMode", "WETH", 1, False)
        stage.all(change)
    node.send_block([market.supply(late, "WETH", unit)], timestamp=start + 3 * DAY)
    steps["end"] = node.block_number
    return steps


@pytest.mark.parametrize("version", ["3.0", "3.6"])
@pytest.mark.parametrize("at", ["before", "while frozen"])
@pytest.mark.parametrize("rates", ["recomputed", "historical"])
def test_an_override_of_a_loan_to_value_does_not_undo_a_freeze(
    version: str, at: str, rates: str, chain_packages: None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The chain whose governance set 55 % is the replay of the one that had 80 and 70 %: nothing while frozen (3.6),
    the new value when it is given back.
    """
    deployment = request.getfixturevalue("fresh_v30" if version == "3.0" else "fresh_v36")
    stage = Stage(deployment)
    snapshot = stage.node.snapshot()
    steps = _play_freeze(stage, 0, at)
    _, market, timeline = stage.history(tmp_path)
    stage.node.revert(snapshot)
    assert _play_freeze(stage, 5500, at) == steps
    ids = {account: id for id, account in enumerate(market.accounts)}
    override = Override(parameter="ltv", asset="WETH", value=5500, from_block=steps[at])
    seen = {}
    for name, block in steps.items():
        overrides = (override,) if block >= steps[at] else ()
        scenario = Scenario(liquidators=Competitive(gas_cost=0), rates=rates, overrides=overrides, to_block=block)
        outcome = replay(AAVE_V3, market, timeline, scenario)
        book, now = outcome.book, replace(outcome.book.now, timestamp=stage.node.timestamp(block))
        theirs = deployment.account_data(stage.people, block)
        for who, numbers in zip(stage.people, theirs, strict=True):
            if who.lower() in ids and ids[who.lower()] in book.state.accounts:
                ours = account_data(book.state, ids[who.lower()], book.prices.oracle, now)
                assert numbers is not None
                compared = slice(0, 6) if rates == "recomputed" else slice(3, 5)
                assert tuple(ours)[compared] == numbers[compared], (name, who)
        seen[name] = theirs[0] and theirs[0][4]
    assert seen["later"] == (5500 if version == "3.0" else 0)
    assert seen["end"] == 5500
