"""The headline claim: from the fetched lake alone, everything that the chain says about a market, to the last integer.

Each market is the script of ``tests/chain/market.py`` on real Aave bytecode: 3.0, 3.6, and 3.0 upgraded to 3.6 in the
middle of the crash.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.model import AccountId, AssetId, HistoricalLiquidation, Market, PositionChange, SettingChange
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.account import account_data
from backtest.protocols.aave_v3.state import AaveState
from backtest.protocols.book import Book
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.several import state_at
from backtest.replay.timeline import Timeline
from backtest.results import load_market, load_timeline
from backtest.scenario import Scenario
from tests.chain.market import Record
from tests.chain.node import UINT256_MAX
from tests.support.sql_engine import assert_sql_is_the_engine

MARKET = "local-aave"


@dataclass(frozen=True)
class History:
    """What the chain did, and what our lake makes of it."""

    record: Record
    lake: Lake
    market: Market
    timeline: Timeline

    def asset(self, symbol: str) -> int:
        asset = self.market.asset_named(symbol)
        assert asset is not None
        return asset.id


VERSIONS = [
    pytest.param(version, marks=pytest.mark.xdist_group(version))
    for version in ("market_v30", "market_v36", "market_upgraded")
]


@pytest.fixture(scope="module", params=VERSIONS)
def history(request: pytest.FixtureRequest, chain_packages: None, tmp_path_factory: pytest.TempPathFactory) -> History:
    record: Record = request.getfixturevalue(request.param)
    lake = Lake(tmp_path_factory.mktemp("lake"), create=True)
    fetch(
        lake,
        record.deployment.market_config(MARKET),
        Rpc(record.deployment.node.url),
        to_block=record.last_block,
        finality=0,
        headers="all",
    )
    lake.refresh()
    reconstruct(lake, MARKET)
    lake.refresh()
    return History(record, lake, load_market(lake, MARKET), load_timeline(lake, MARKET))


def test_account_data_equals_the_chain_at_every_sample(history: History) -> None:
    """The six numbers of getUserAccountData, for every account."""
    record, accounts = history.record, [account.lower() for account in history.record.accounts]
    ids = {account: i for i, account in enumerate(history.market.accounts)}
    compared = in_debt = liquidatable = 0
    for block in record.samples:
        state, prices, now = state_at(AAVE_V3, history.market, history.timeline, block)
        for account, theirs in zip(accounts, record.deployment.account_data(accounts, block), strict=True):
            if account not in ids:
                assert theirs is not None
                assert theirs[:3] == (0, 0, 0), f"{account} holds something at {block} that we never saw"
                continue
            ours = account_data(state, ids[account], prices.oracle, now)
            assert tuple(ours) == theirs, f"{account} at block {block}"
            compared += 1
            in_debt += ours.total_debt_base > 0
            liquidatable += ours.health_factor < 10**18
    assert compared > 40 * len(accounts)
    assert in_debt > 1000
    assert liquidatable > 10


def test_sql_is_the_engine_for_every_account(history: History) -> None:
    compared = assert_sql_is_the_engine(history.lake, MARKET, history.record.samples)
    assert compared.owing > 1_000
    assert compared.unsafe > 10


def test_every_liquidation_is_predicted_from_the_state_before_it(history: History) -> None:
    """LiquidationCall and DeficitCreated amounts, from the amount that the liquidator asked for."""
    requests = iter(history.record.liquidations)
    book = Book.open(AAVE_V3, history.market)
    predicted = deficits = 0
    for transaction in history.timeline.transactions(history.record.last_block):
        for event in transaction:
            if isinstance(event, PositionChange | SettingChange) and event.action == "liquidation":
                continue
            if not isinstance(event, HistoricalLiquidation):
                book.apply(event)
                continue
            request = next(requests)
            assert (event.block_number, history.market.accounts[event.account]) == (request.block, request.user.lower())
            assert (event.collateral_asset, event.debt_asset) == (
                history.asset(request.collateral),
                history.asset(request.debt),
            )
            assert event.receive_collateral_token == request.receive_a_token
            book.now = replace(
                book.now, block_number=event.block_number, log_index=event.log_index, timestamp=event.timestamp
            )
            order = AAVE_V3.observed_order(book.state, event, book.prices, book.now)
            order = msgspec.structs.replace(order, repay=None if request.amount == UINT256_MAX else request.amount)
            fill = AAVE_V3.quote(book.state, order, book.prices, book.now)
            assert isinstance(fill, Fill), fill
            assert (fill.repaid, fill.seized, fill.protocol_fee) == (event.repaid, event.seized, event.protocol_fee)
            assert sorted(fill.deficits) == sorted(event.deficits)
            for change in fill.changes:
                book.apply(change)
            predicted += 1
            deficits += len(fill.deficits)
    assert next(requests, None) is None
    assert predicted == len(history.record.liquidations) > 100
    assert deficits or history.record.version == "3.0"


def test_refused_requests_would_be_refused_by_the_rules(history: History) -> None:
    """A liquidationCall that reverted on the chain is a refusal here, unless users acted between the state we know and
    the call.
    """
    market, ids = history.market, {account: i for i, account in enumerate(history.market.accounts)}
    refused = [request for request in history.record.requests if request.error]
    assert refused
    checked = 0
    acted = {request.block for request in history.record.liquidations}
    for request in refused:
        if request.block in acted or request.user.lower() not in ids:
            continue
        state, prices, now = state_at(AAVE_V3, market, history.timeline, request.block)
        pair = Pair(AssetId(history.asset(request.debt)), AssetId(history.asset(request.collateral)))
        account, liquidator = (
            AccountId(ids[request.user.lower()]),
            AccountId(ids.get(request.liquidator.lower(), len(ids))),
        )
        amount = None if request.amount == UINT256_MAX else request.amount
        found = AAVE_V3.quote(state, Order(account, pair, liquidator, amount, request.receive_a_token), prices, now)
        assert isinstance(found, Refusal), f"{request.error} on the chain, here {found}"
        checked += 1
    assert checked > 3


def test_observed_replay_ends_in_the_chain_s_own_state(history: History) -> None:
    record, market = history.record, history.market
    outcome = replay(AAVE_V3, market, history.timeline, Scenario())
    assert outcome.mismatches == []
    assert len(outcome.liquidations) == len(record.liquidations)
    assert all(liquidation.matches_history for liquidation in outcome.liquidations)
    assert_state_is_the_chain_s(history, outcome.book.state, record.last_block)
    if record.version != "3.0":
        covered = history.lake.sql(
            "SELECT asset_id, sum(amount) FROM deficits WHERE kind = 'covered' GROUP BY asset_id"
        ).fetchall()
        for symbol, reserve in record.deployment.reserves.items():
            left = record.deployment.pool.call("getReserveDeficit", reserve.asset.address, block=record.last_block)
            ours = outcome.book.state.reserves[history.asset(symbol)].deficit
            assert ours - int(dict(covered).get(history.asset(symbol), 0)) == left


def test_folded_state_is_the_chain_s_at_every_sample(history: History) -> None:
    for block in history.record.samples[::8]:
        state, _, _ = state_at(AAVE_V3, history.market, history.timeline, block)
        assert_state_is_the_chain_s(history, state, block)


def assert_state_is_the_chain_s(history: History, state: AaveState, block: int) -> None:
    """Scaled balances, collateral flags and e-modes."""
    record, deployment = history.record, history.record.deployment
    accounts = record.accounts
    ids: dict[str, Any] = {account: i for i, account in enumerate(history.market.accounts)}
    assets = [history.asset(symbol) for symbol in deployment.reserves]
    balances, flags = deployment.scaled_balances(accounts, block), deployment.user_configuration(accounts, block)
    emodes = deployment.user_emode(accounts, block)
    for account, theirs, bits, emode in zip(accounts, balances, flags, emodes, strict=True):
        ours = state.accounts.get(ids.get(account.lower(), -1))
        if ours is None:
            assert not any(theirs), account
            continue
        mine = [ours.collateral.get(a, 0) for a in assets] + [ours.debt.get(a, 0) for a in assets]
        assert mine == list(theirs), f"{account} at {block}"
        enabled = {asset for i, asset in enumerate(assets) if bits >> (2 * i + 1) & 1}
        assert ours.enabled == enabled, f"{account} at {block}"
        assert ours.emode == emode


def test_prices_equal_the_oracle_at_every_sample(history: History) -> None:
    for block in history.record.samples:
        _, prices, _ = state_at(AAVE_V3, history.market, history.timeline, block)
        for symbol, price in history.record.deployment.prices(block).items():
            assert prices.oracle[history.asset(symbol)] == price, f"{symbol} at {block}"


def test_recomputed_interest_is_that_of_the_chain(history: History) -> None:
    """Every call made again by the rules, every rate from this book's own utilisation: history, to the last unit."""
    recorded = replay(AAVE_V3, history.market, history.timeline, Scenario())
    outcome = replay(AAVE_V3, history.market, history.timeline, Scenario(rates="recomputed"))
    assert outcome.rate_check is not None
    assert outcome.rate_check.updates > 1000
    assert outcome.rate_check.differing == 0
    assert outcome.mismatches == []
    assert outcome.actions == []
    ours, theirs = outcome.book.state, recorded.book.state
    assert ours.accounts == theirs.accounts
    assert [reserve.scaled_supply for reserve in ours.reserves] == [
        reserve.scaled_supply for reserve in theirs.reserves
    ]
