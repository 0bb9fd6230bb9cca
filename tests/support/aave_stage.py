"""A stage on the local node for what is rare in Aave's markets."""

from __future__ import annotations

from pathlib import Path

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.model import Market
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.account import account_data
from backtest.protocols.aave_v3.state import AaveState
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.several import state_at
from backtest.replay.timeline import Timeline
from backtest.results import load_market, load_timeline
from backtest.scenario import Scenario
from tests.chain.aave import TREASURY
from tests.chain.contracts import artifact_v30
from tests.chain.deployment import Deployment
from tests.chain.node import Contract, Transaction

MARKET = "special"


DAY = 86_400


class Stage:
    """A market, who acts in it, and what our lake makes of it."""

    def __init__(self, market: Deployment, people: int = 4) -> None:
        self.market, self.node = market, market.node
        self.lender, self.liquidator = market.node.accounts[1], market.node.accounts[2]
        self.people = [f"0x{0xE0000 + i:040x}" for i in range(people)]
        self.accounts = [*self.people, self.lender, self.liquidator, TREASURY]
        self.done: dict[str, int] = {}
        self.mint()

    def mint(self) -> None:
        everyone = [*self.people, self.lender, self.liquidator]
        self.all(*(r.asset.transaction("mintMany", everyone, 10**9 * r.unit) for r in self.market.reserves.values()))

    def all(self, *transactions: Transaction) -> None:
        """One block in which nothing may fail."""
        for transaction, receipt in zip(transactions, self.node.send_block(list(transactions)), strict=True):
            assert receipt["status"] == "0x1", self.node.revert_reason(transaction)

    def some(self, kind: str, *transactions: Transaction) -> None:
        """One block; what succeeds is counted by kind."""
        for receipt in self.node.send_block(list(transactions)):
            self.done[kind] = self.done.get(kind, 0) + (receipt["status"] == "0x1")

    def wait(self, seconds: int) -> None:
        self.node.warp(seconds)
        self.node.mine()

    def history(self, folder: Path) -> tuple[Lake, Market, Timeline]:
        lake = Lake(folder, create=True)
        fetch(
            lake,
            self.market.market_config(MARKET),
            Rpc(self.node.url),
            to_block=self.node.block_number,
            finality=0,
            headers="all",
        )
        lake.refresh()
        reconstruct(lake, MARKET)
        lake.refresh()
        return lake, load_market(lake, MARKET), load_timeline(lake, MARKET)

    def check_accounts(self, market: Market, timeline: Timeline, blocks: list[int]) -> int:
        """The six numbers of everybody at these blocks; how many were compared in debt."""
        ids = {account: id for id, account in enumerate(market.accounts)}
        in_debt = 0
        for block in blocks:
            state, prices, now = state_at(AAVE_V3, market, timeline, block)
            theirs = self.market.account_data(self.accounts, block)
            for account, numbers in zip(self.accounts, theirs, strict=True):
                if account.lower() in ids:
                    ours = account_data(state, ids[account.lower()], prices.oracle, now)
                    assert tuple(ours) == numbers, f"{account} at block {block}"
                    in_debt += ours.total_debt_base > 0
        return in_debt

    def check_recomputed(self, market: Market, timeline: Timeline, outcome_of: Scenario | None = None) -> int:
        """History by the rules alone is history: rates, amounts, accounts, totals of stable debt; how many updates."""
        recorded = replay(AAVE_V3, market, timeline, Scenario())
        outcome = replay(AAVE_V3, market, timeline, Scenario(rates="recomputed"))
        assert outcome.rate_check is not None
        assert outcome.rate_check.differing == 0, outcome.rate_check
        assert (recorded.mismatches, outcome.mismatches, outcome.actions) == ([], [], [])
        assert outcome.book.state.accounts == recorded.book.state.accounts
        self.check_reserves(outcome.book.state)
        return outcome.rate_check.updates

    def check_reserves(self, state: AaveState) -> None:
        """What only recomputed interest keeps, against storage."""
        for reserve in state.reserves:
            symbol = state.market.assets[reserve.asset].symbol
            chain = self.market.reserves[symbol].asset
            numbers = self.market.pool.call("getReserveData", chain.address)
            assert reserve.accrued_to_treasury == numbers[12], symbol
            if self.market.version == "3.0":
                assert reserve.stable_borrow_rate == numbers[5], symbol
                assert reserve.unbacked == numbers[13], symbol
                assert reserve.liquidity == chain.call("balanceOf", numbers[8]), symbol
                stable = Contract(self.node, numbers[9], artifact_v30("StableDebtToken").abi)
                principal, _, average, since = stable.call("getSupplyData")
                ours = reserve.stable_total, reserve.stable_average, reserve.stable_total_since
                assert ours == (principal, average, since), symbol
            else:
                assert reserve.liquidity == self.market.pool.call("getVirtualUnderlyingBalance", chain.address), symbol
