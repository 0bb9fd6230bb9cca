"""The rules against the bytecode of Aave 3.0 and 3.6: random accounts, prices and calls; every amount, balance, flag
and deficit exact.

The book is read from the chain by calls (``tests/chain/aave_state.py``), so that nothing but the rules is under test.
"""

from __future__ import annotations

import copy
import random
from collections import Counter

import pytest

from backtest.model import AccountId, AssetId, Clock, PositionChange
from backtest.protocols.aave_v3.account import account_data
from backtest.protocols.aave_v3.liquidation import pairs, quote
from backtest.protocols.aave_v3.state import AaveState, StableDebt, apply
from backtest.protocols.interface import Fill, Order, Pair
from tests.chain.aave import upgrade_v30_to_v36
from tests.chain.aave_state import read_book
from tests.chain.contracts import artifact_v30
from tests.chain.deployment import Deployment
from tests.chain.node import UINT256_MAX, Contract

BORROWERS = 12
LIQUIDATION_CALL = "0xe413a321e8681d831f4dbccbca790d2952b56f977908e45be37335533e005286"
DEFICIT_CREATED = "0x2bccfb3fad376d59d7accf970515eb77b2f27b082c90ed0fb15583dd5a942699"
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


class Crowd:
    """Random borrowers of one market. Accounts: borrowers, then the liquidator, then the treasury."""

    def __init__(self, market: Deployment, seed: int) -> None:
        self.market, self.random = market, random.Random(seed)
        self.symbols = list(market.reserves)
        self.borrowers = [f"0x{0xB0000 + seed * 100 + i:040x}" for i in range(BORROWERS)]
        self.lender, self.liquidator = market.node.accounts[1], market.node.accounts[2]
        self.accounts = [*self.borrowers, self.liquidator, market.treasury]
        self.seen: Counter[str] = Counter()

    def populate(self) -> None:
        """Deep reserves, borrowers with one or two collaterals and debts from dust to millions near their limit, some
        in e-mode; then time.
        """
        market, node, draw = self.market, self.market.node, self.random
        prices = market.prices()
        lent = {symbol: 10**10 * 10**8 * reserve.unit // prices[symbol] for symbol, reserve in market.reserves.items()}
        for symbol, reserve in market.reserves.items():
            for user in (self.lender, self.liquidator):
                node.send_block([reserve.asset.transaction("mint", user, 3 * lent[symbol])])
            node.send_block(
                [
                    market.supply(self.lender, symbol, lent[symbol]),
                    market.borrow(self.lender, symbol, lent[symbol] // 3),
                ]
            )
        for user in self.borrowers:
            emode = draw.choice([0, 0, 1, 2, 3]) if market.version != "3.0" else draw.choice([0, 0, 1, 2])
            collaterals = draw.sample(self.symbols, draw.choice([1, 1, 2, 3]))
            if emode:
                collaterals[0] = draw.choice({1: ["WETH", "wstETH"], 2: ["USDC", "DAI"], 3: ["WETH", "WBTC"]}[emode])
                node.send_block([market.set_emode(user, emode)])
            worth = int(10 ** draw.uniform(-1, 6.5) * 10**8)
            for symbol in dict.fromkeys(collaterals):
                amount = worth * market.reserves[symbol].unit // prices[symbol] + draw.randrange(10**3)
                node.send_block([market.reserves[symbol].asset.transaction("mint", user, amount)])
                node.send_block([market.supply(user, symbol, amount)])
            for symbol in (
                draw.sample(self.symbols, draw.choice([1, 2, 3]))
                if not emode
                else ["WETH"]
                if emode == 1
                else ["USDC", "DAI"]
            ):
                available = market.account_data([user])[0]
                assert available is not None
                amount = int(available[2] * draw.uniform(0.7, 0.9999)) * market.reserves[symbol].unit // prices[symbol]
                if amount:
                    node.send_block([market.borrow(user, symbol, amount)])
            if draw.random() < 0.2:
                node.send_block([market.set_collateral(user, collaterals[-1], False)])
        node.warp(int(10 ** draw.uniform(1, 7.3)))
        node.mine()

    def shake(self) -> None:
        """Other prices, fees and bonuses; time passes."""
        market, draw = self.market, self.random
        symbols = [s for s in ("WETH", "WBTC", "DAI", "LINK") if draw.random() < 0.8]
        transactions = [
            market.reserves[s].feed.transmit(max(1, int(market.prices()[s] * draw.choice([0.75, 0.9, 1.0, 1.05, 1.2]))))
            for s in symbols
        ]
        if draw.random() < 0.5:
            transactions.append(market.set_protocol_fee(draw.choice(self.symbols), draw.choice([0, 1, 3333, 10_000])))
        if draw.random() < 0.3:
            symbol, ltv = draw.choice([("USDC", 0), ("LINK", 0), ("WBTC", 7300)])
            config = market.data_provider.call("getReserveConfigurationData", market.reserves[symbol].asset.address)
            transactions.append(market.configure_collateral(symbol, ltv, config[2], draw.choice([10300, 10777])))
        market.node.send_block(transactions)
        market.node.warp(draw.choice([12, 3600, 30 * 86400]))
        market.node.mine()

    def read(self) -> AaveState:
        return read_book(self.market, self.accounts)

    def check_account_data(self) -> None:
        """The six numbers of every account at the end of the latest block."""
        state, prices, now = self.read(), self.oracle(), self.clock(self.market.node.timestamp())
        for i, expected in enumerate(self.market.account_data(self.accounts)):
            assert expected is not None
            assert tuple(account_data(state, AccountId(i), prices, now)) == expected, self.accounts[i]
            self.seen["checked"] += 1

    def oracle(self) -> dict[AssetId, int]:
        return {AssetId(i): price for i, price in enumerate(self.market.prices().values())}

    def clock(self, timestamp: int) -> Clock:
        return Clock(self.market.node.block_number, 0, timestamp)

    def liquidate_all(self) -> None:
        """Everyone who may be liquidated, and now and then someone who may not."""
        state, oracle, now = self.read(), self.oracle(), self.clock(self.market.node.timestamp())
        for i in range(BORROWERS):
            options = list(pairs(state, AccountId(i), oracle, now))
            if self.random.random() < 0.1:
                options = [Pair(AssetId(self.random.randrange(6)), AssetId(self.random.randrange(6)))]
            if options:
                self.liquidate(AccountId(i), self.random.choice(options))

    def liquidate(self, account: AccountId, pair: Pair) -> None:
        """Predict one call from the state before it, make it, compare all it did."""
        market, node, draw = self.market, self.market.node, self.random
        liquidator = account if draw.random() < 0.05 else AccountId(BORROWERS)
        collateral, owed = self.symbols[pair.collateral_asset], self.symbols[pair.debt_asset]
        debt = market.balances([self.accounts[account]])[0][len(self.symbols) + pair.debt_asset]
        if liquidator == account:
            node.send_block([market.reserves[owed].asset.transaction("mint", self.accounts[account], 2 * debt)])
        repay = (
            None
            if draw.random() < 0.5
            else draw.choice([0, 1, 1000, debt // 3, debt // 2, debt - debt // 50, debt, debt + 1, 2 * debt])
        )
        tokens = draw.random() < 0.4
        state, at = self.read(), node.timestamp() + draw.choice([1, 12, 86400])
        call = market.liquidate(
            self.accounts[liquidator],
            collateral,
            owed,
            self.accounts[account],
            UINT256_MAX if repay is None else repay,
            tokens,
        )
        (receipt,) = node.send_block([call], timestamp=at)
        now = self.clock(at)
        order = Order(account=account, pair=pair, liquidator=liquidator, repay=repay, receive_collateral_token=tokens)
        answer = quote(state, order, self.oracle(), now)  # prices as of the call's block: wstETH's grows with time
        if not isinstance(answer, Fill):
            assert receipt["status"] == "0x0", (answer, order)
            self.seen[answer.reason.split(":")[0]] += 1
            if answer.instead is not None:
                (receipt,) = node.send_block(
                    [
                        market.liquidate(
                            self.accounts[liquidator], collateral, owed, self.accounts[account], answer.instead, tokens
                        )
                    ]
                )
                assert receipt["status"] == "0x1", answer
            return
        assert receipt["status"] == "0x1", (answer, node.revert_reason(call, node.block_number - 1))
        self._compare(state, answer, receipt)

    def _compare(self, state: AaveState, fill: Fill, receipt) -> None:  # type: ignore[no-untyped-def]
        (event,) = [log for log in receipt["logs"] if log["topics"][0] == LIQUIDATION_CALL]
        assert (fill.repaid, fill.seized) == (int(event["data"][2:66], 16), int(event["data"][66:130], 16))
        deficits = [
            (log["topics"][2][-40:], int(log["data"], 16))
            for log in receipt["logs"]
            if log["topics"][0] == DEFICIT_CREATED
        ]
        assert [(state.market.assets[asset].asset[2:], amount) for asset, amount in fill.deficits] == deficits
        a_token = self.market.reserves[self.symbols[fill.order.pair.collateral_asset]].a_token.address.lower()
        treasury = self.market.treasury[2:].lower()
        fees = [
            log
            for log in receipt["logs"]
            if log["address"] == a_token and log["topics"][0] == TRANSFER and log["topics"][2][-40:] == treasury
        ]
        assert [int(log["data"], 16) for log in fees if int(log["topics"][1], 16)] == [fill.protocol_fee] * bool(
            _fee_scaled(fill)
        )
        for change in fill.changes:
            apply(state, change)
        after = self.read()
        assert state.accounts == after.accounts
        for ours, chain in zip(state.reserves, after.reserves, strict=True):
            assert (ours.scaled_supply, ours.scaled_debt, ours.deficit) == (
                chain.scaled_supply,
                chain.scaled_debt,
                chain.deficit,
            )
        partial = state.accounts[fill.order.account].debt.get(fill.order.pair.debt_asset, 0)
        self.seen["partial" if partial else "whole debt"] += 1
        self.seen["deficit"] += bool(fill.deficits)
        self.seen["tokens"] += fill.order.receive_collateral_token
        self.seen["in e-mode"] += bool(state.accounts[fill.order.account].emode)
        self.seen["all collateral"] += (
            fill.order.pair.collateral_asset not in state.accounts[fill.order.account].enabled
        )


def _fee_scaled(fill: Fill) -> int:
    """Scaled units that the fill moves to the treasury."""
    return sum(
        change.delta
        for change in fill.changes
        if isinstance(change, PositionChange) and change.account == BORROWERS + 1
    )


def play(market: Deployment, seed: int) -> Counter[str]:
    crowd = Crowd(market, seed)
    crowd.populate()
    crowd.check_account_data()
    for _ in range(5):
        crowd.shake()
        crowd.check_account_data()
        crowd.liquidate_all()
    crowd.check_account_data()
    return crowd.seen


@pytest.mark.parametrize("seed", range(3))
def test_rules_of_30_are_those_of_its_bytecode(fresh_v30: Deployment, seed: int) -> None:
    seen = play(fresh_v30, seed)
    assert seen["partial"] + seen["whole debt"] >= 4, seen


@pytest.mark.parametrize("seed", range(3))
def test_rules_of_36_are_those_of_its_bytecode(fresh_v36: Deployment, seed: int) -> None:
    seen = play(fresh_v36, seed)
    assert seen["partial"] + seen["whole debt"] >= 4, seen


def test_a_market_upgraded_from_30(fresh_v30: Deployment) -> None:
    crowd = Crowd(fresh_v30, 77)
    crowd.populate()
    crowd.market = upgrade_v30_to_v36(fresh_v30)
    crowd.check_account_data()
    crowd.shake()
    crowd.check_account_data()
    crowd.liquidate_all()
    crowd.check_account_data()
    assert crowd.seen["partial"] + crowd.seen["whole debt"] >= 1, crowd.seen


def test_stable_debt_of_30(fresh_v30: Deployment) -> None:
    """Variable and stable debt in one asset: totals after months, then liquidations that reach the stable part, leave
    some of it, and clear it.
    """
    market, node = fresh_v30, fresh_v30.node
    crowd = Crowd(market, 5)
    borrower, dai, weth = crowd.borrowers[0], market.reserves["DAI"], market.reserves["WETH"]
    node.send_block([market.configure("setReserveStableRateBorrowing", "DAI", True)])
    mints = [dai.asset.transaction("mint", user, 10**25) for user in (crowd.lender, crowd.liquidator)]
    node.send_block([*mints, weth.asset.transaction("mint", borrower, 10**21)])
    node.send_block([market.supply(crowd.lender, "DAI", 10**25), market.supply(borrower, "WETH", 10**21)])
    stable_borrow = market.pool.transaction("borrow", dai.asset.address, 10**23, 1, 0, borrower, sender=borrower)
    for receipt in node.send_block([market.borrow(borrower, "DAI", 10**22), stable_borrow]):
        assert receipt["status"] == "0x1"
    node.warp(200 * 86_400)
    node.mine()
    token = Contract(
        node,
        market.data_provider.call("getReserveTokensAddresses", dai.asset.address)[1],
        artifact_v30("StableDebtToken").abi,
    )

    def read() -> AaveState:
        state = crowd.read()
        principal, rate, since = (
            token.call(name, borrower) for name in ("principalBalanceOf", "getUserStableRate", "getUserLastUpdated")
        )
        if principal:
            state.accounts[AccountId(0)].stable[AssetId(3)] = StableDebt(principal, rate, since)
        return state

    state = read()
    assert state.accounts[AccountId(0)].stable[AssetId(3)].rate > 0
    assert (
        tuple(account_data(state, AccountId(0), crowd.oracle(), crowd.clock(node.timestamp())))
        == market.account_data([borrower])[0]
    )
    seen = []
    for repay, price in ((10**21, 128), (2 * 10**22, 128), (None, 120)):
        node.send_block([weth.feed.transmit(price * 10**8)])
        state = read()
        before = copy.copy(state.accounts[AccountId(0)].stable[AssetId(3)])
        (receipt,) = node.send_block(
            [market.liquidate(crowd.liquidator, "WETH", "DAI", borrower, UINT256_MAX if repay is None else repay)]
        )
        order = Order(
            account=AccountId(0), pair=Pair(AssetId(3), AssetId(0)), liquidator=AccountId(BORROWERS), repay=repay
        )
        fill = quote(state, order, crowd.oracle(), crowd.clock(node.timestamp()))
        assert receipt["status"] == "0x1"
        assert isinstance(fill, Fill), fill
        (event,) = [log for log in receipt["logs"] if log["topics"][0] == LIQUIDATION_CALL]
        assert (fill.repaid, fill.seized) == (int(event["data"][2:66], 16), int(event["data"][66:130], 16))
        for change in fill.changes:
            apply(state, change)
        after = read()
        if not after.accounts[AccountId(0)].stable:
            assert state.accounts[AccountId(0)].stable.pop(AssetId(3)) == StableDebt(0, 0, 0)
        assert state.accounts == after.accounts
        left = after.accounts[AccountId(0)].stable.get(AssetId(3))
        seen.append("gone" if left is None else "untouched" if left == before else "reached")
    assert seen == ["untouched", "reached", "gone"]
