"""Aave V2 against its own bytecode: from the fetched lake alone, everything that the chain says, to the last integer.

A random crowd at both rates, through falling prices, changed parameters and a pause (``tests/chain/aave_v2.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.lake import Lake
from backtest.model import AccountId, HistoricalLiquidation, Market, PositionChange, SettingChange
from backtest.protocols.aave_v2 import AAVE_V2
from backtest.protocols.aave_v2.account import account_data
from backtest.protocols.aave_v2.state import AaveV2State
from backtest.protocols.book import Book
from backtest.protocols.interface import Acted, Fill, Order, Pair, Refusal
from backtest.prove import prove
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.several import state_at
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.users import actions_of
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, Override, Scenario
from tests.chain.aave_v2 import Crowd, Record, deploy_v2
from tests.chain.node import UINT256_MAX, Node
from tests.protocols.aave_v2 import user_calls
from tests.support.heads import assert_head_is_as_fetched
from tests.support.sql_engine import assert_sql_is_the_engine

pytestmark = pytest.mark.xdist_group("aave-v2")

MARKET = "local-v2"


@dataclass(frozen=True)
class History:
    """What the chain did, and what our lake makes of it."""

    record: Record
    lake: Lake
    market: Market
    timeline: Timeline

    @property
    def ids(self) -> dict[str, AccountId]:
        return {account: AccountId(i) for i, account in enumerate(self.market.accounts)}

    def pair(self, collateral: str, debt: str) -> Pair:
        assets = [self.market.asset_named(symbol) for symbol in (debt, collateral)]
        return Pair(*(asset.id for asset in assets if asset is not None))


@pytest.fixture(scope="module")
def history(chain_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with Node() as node:
        record = Crowd(deploy_v2(node), accounts=100, seed=1).play(rounds=12)
        lake = Lake(tmp_path_factory.mktemp("lake"), create=True)
        config, last = record.market.market_config(MARKET), node.block_number
        with Rpc(node.url) as rpc:
            fetch(lake, config, rpc, to_block=last, finality=0, headers="all")
        lake.refresh()
        reconstruct(lake, MARKET)
        lake.refresh()
        yield History(record, lake, load_market(lake, MARKET), load_timeline(lake, MARKET))


def test_the_crowd_did_everything(history: History) -> None:
    seen = history.record.seen
    done = {kind.removesuffix(" done") for kind in seen if kind.endswith(" done")}
    wanted = {"deposit", "withdraw", "borrow", "borrow stable", "repay", "repay stable", "transfer", "swap"}
    assert done >= {*wanted, "flash loan 0", "flash loan 2"}, seen
    assert seen["liquidate done"] > 60, seen
    assert seen["liquidate refused"] > 20, seen


def test_account_data_equals_the_chain_at_every_sample(history: History) -> None:
    """The six numbers of getUserAccountData, for every account."""
    record, ids = history.record, history.ids
    seen: Counter[str] = Counter()
    for block in record.samples:
        state, prices, now = state_at(AAVE_V2, history.market, history.timeline, block)
        for account, theirs in zip(record.accounts, record.market.account_data(record.accounts, block), strict=True):
            ours = account_data(state, ids[account.lower()], prices.oracle, now)
            assert tuple(ours) == theirs, f"{account} at block {block}"
            seen["compared"] += 1
            seen["in debt"] += ours.total_debt_base > 0
            seen["liquidatable"] += ours.health_factor < 10**18
            seen["stable"] += bool(state.accounts[ids[account.lower()]].stable)
    assert seen["compared"] == len(record.samples) * len(record.accounts)
    assert seen["in debt"] > 1_000, seen
    assert seen["liquidatable"] > 50, seen
    assert seen["stable"] > 100, seen


def test_balances_and_flags_equal_the_chain_at_the_end(history: History) -> None:
    record, market, block = history.record, history.record.market, history.record.samples[-1]
    state, *_ = state_at(AAVE_V2, history.market, history.timeline, block)
    for account in record.accounts:
        book, bits = (
            state.accounts[history.ids[account.lower()]],
            market.pool.call("getUserConfiguration", account, block=block)[0],
        )
        for asset, reserve in enumerate(market.reserves.values()):
            scaled = [
                token.call("scaledBalanceOf", account, block=block) for token in (reserve.a_token, reserve.debt_token)
            ]
            assert [book.collateral.get(asset, 0), book.debt.get(asset, 0)] == scaled
            token, stable = reserve.stable_token, book.stable.get(asset)
            terms = [
                token.call(name, account, block=block)
                for name in ("principalBalanceOf", "getUserStableRate", "getUserLastUpdated")
            ]
            assert terms == ([stable.principal, stable.rate, stable.since] if stable else [0, 0, 0])
            assert (asset in book.enabled) == bool(bits >> 2 * asset + 1 & 1)


def test_every_liquidation_is_predicted_from_the_state_before_it(history: History) -> None:
    """LiquidationCall amounts and what it left, from the amount that the liquidator asked for."""
    requests = iter(history.record.liquidations)
    book: Book[AaveV2State] = Book.open(AAVE_V2, history.market)
    seen: Counter[str] = Counter()
    for transaction in history.timeline.transactions(history.record.market.node.block_number):
        for event in transaction:
            if isinstance(event, PositionChange | SettingChange) and event.action == "liquidation":
                continue
            if not isinstance(event, HistoricalLiquidation):
                book.apply(event)
                continue
            request = next(requests)
            assert (event.block_number, history.market.accounts[event.account]) == (request.block, request.user.lower())
            assert Pair(event.debt_asset, event.collateral_asset) == history.pair(request.symbol, request.debt)
            book.now = replace(
                book.now, block_number=event.block_number, log_index=event.log_index, timestamp=event.timestamp
            )
            order = AAVE_V2.observed_order(book.state, event, book.prices, book.now)
            again = AAVE_V2.quote(book.state, order, book.prices, book.now)
            if not order.agreed:  # else the call counted interest that it then lost: only here, in its own transaction
                order = msgspec.structs.replace(order, repay=None if request.amount == UINT256_MAX else request.amount)
            seen["agreed"] += order.agreed
            fill = AAVE_V2.quote(book.state, order, book.prices, book.now)
            assert isinstance(fill, Fill), fill
            assert isinstance(again, Fill), again
            assert (fill.repaid, fill.seized) == (again.repaid, again.seized) == (event.repaid, event.seized)
            assert fill.rules_tested
            recorded = {
                (change.account, change.asset, change.side): change.delta
                for change in transaction
                if isinstance(change, PositionChange) and change.action == "liquidation"
            }
            ours = {(c.account, c.asset, c.side): c.delta for c in fill.changes if isinstance(c, PositionChange)}
            if request.liquidator != request.user or not request.tokens:
                assert ours == recorded
            for change in fill.changes:
                book.apply(change)
            seen["predicted"] += 1
            seen["tokens"] += request.tokens
            seen["all collateral"] += event.collateral_asset not in book.state.accounts[event.account].enabled
            seen["stable"] += any(c.setting == "stable_principal" for c in fill.changes if isinstance(c, SettingChange))
    assert next(requests, None) is None
    assert seen["predicted"] == len(history.record.liquidations), seen
    assert seen["agreed"] < seen["predicted"] // 10, seen
    assert min(seen["tokens"], seen["all collateral"], seen["stable"]) > 3, seen
    last = history.record.market.node.block_number
    recorded_state, *_ = state_at(AAVE_V2, history.market, history.timeline, last)
    assert book.state.accounts == recorded_state.accounts
    for ours, reserve in zip(book.state.reserves, history.record.market.reserves.values(), strict=True):
        assert ours.liquidity == reserve.asset.call("balanceOf", reserve.a_token.address)
        assert ours.told


def test_refused_liquidations_are_refused_by_the_rules(history: History) -> None:
    record, ids, seen = history.record, history.ids, Counter[str]()
    for request in record.requests:
        if request.kind != "liquidate" or not request.error:
            continue
        state, prices, now = state_at(AAVE_V2, history.market, history.timeline, request.block)
        order = Order(
            account=ids[request.user.lower()],
            pair=history.pair(request.symbol, request.debt),
            liquidator=ids[request.liquidator.lower()],
            repay=None if request.amount == UINT256_MAX else request.amount,
            receive_collateral_token=request.tokens,
        )
        answer = AAVE_V2.quote(state, order, prices, now)
        assert isinstance(answer, Refusal), (request, answer)
        seen[f"{request.error}: {answer.reason}"] += 1
    assert {text.partition(":")[0] for text in seen} >= {"42", "43", "64"}, seen
    # one error of the contract is one reason here: 42 health, 43 not its collateral, 45 not its debt, 64 paused
    reasons: dict[str, set[str]] = {}
    for text in seen:
        error, reason = text.split(": ", 1)
        reasons.setdefault(error, set()).add(reason)
    assert reasons["42"] == {"health factor is not below 1"}, seen
    assert reasons["43"] == {"the asset is not enabled as collateral"}, seen
    assert reasons["64"] == {"the pool is paused"}, seen


def test_the_chain_agrees_with_the_lake(history: History) -> None:
    with Rpc(history.record.market.node.url) as rpc:
        report = verify(history.lake, MARKET, rpc)
    assert report.mismatches == []
    assert {"user configuration", "scaled collateral total", "scaled debt total"} <= set(report.compared)


def test_sql_is_the_engine_for_every_account(history: History) -> None:
    compared = assert_sql_is_the_engine(history.lake, MARKET, history.record.samples)
    assert compared.owing > 1_000
    assert compared.unsafe > 10


def test_users_calls_made_again_do_what_they_did(history: History) -> None:
    """In the book of history every call leaves the accounts as history did, by the contract's rules alone."""
    book: Book[AaveV2State] = Book.open(AAVE_V2, history.market)
    seen: Counter[str] = Counter()
    for transaction in history.timeline.transactions(history.record.market.node.block_number):
        actions, done = actions_of(transaction), set[int]()
        for event in transaction:
            if isinstance(event, HistoricalLiquidation):
                continue
            if isinstance(event, PositionChange | SettingChange) and event.action_seq in done:
                continue
            book.now = replace(
                book.now, block_number=event.block_number, log_index=event.log_index, timestamp=event.timestamp
            )
            changes = [event]
            if isinstance(event, PositionChange | SettingChange) and event.action != "liquidation":
                changes = actions[event.action_seq]
                done.add(event.action_seq)
                if event.action != "treasury":
                    answer = AAVE_V2.act(book.state, user_calls.recorded(book.state, changes), book.prices, book.now)
                    assert isinstance(answer, Acted), (changes, answer)
                    ours, theirs = deepcopy(book.state), deepcopy(book.state)
                    for state, effects in ((ours, answer.changes), (theirs, changes)):
                        for effect in effects:
                            AAVE_V2.apply(state, effect)
                    assert ours.accounts == theirs.accounts, (changes, answer)
                    seen[event.action] += 1
            for change in changes:
                book.apply(change)
    assert seen["supply"] > 200, seen
    assert min(seen[name] for name in ("withdraw", "borrow", "repay", "transfer", "collateral-flag", "other")) > 10, (
        seen
    )


def test_refused_calls_of_users_are_refused_by_the_rules(history: History) -> None:
    seen: Counter[str] = Counter()
    for request in history.record.requests:
        asset = history.market.asset_named(request.symbol)
        assert asset is not None
        account, other = (history.ids[name.lower()] for name in (request.user, history.record.accounts[-1]))
        if not request.error or request.kind == "liquidate":
            continue
        action = user_calls.refused(request, account, other, asset)
        if action is None:
            continue
        state, prices, now = state_at(AAVE_V2, history.market, history.timeline, request.block)
        answer = AAVE_V2.act(state, action, prices, now)
        assert isinstance(answer, Refusal), (request, answer)
        seen[f"{request.kind}: {answer.reason}"] += 1
    assert len(seen) > 12, seen
    assert sum(seen.values()) > 100, seen


def test_an_observed_replay_explains_every_liquidation(history: History) -> None:
    outcome = replay(AAVE_V2, history.market, history.timeline, Scenario())
    assert outcome.mismatches == []
    assert len(outcome.liquidations) == len(history.record.liquidations)
    assert all(liquidation.matches_history for liquidation in outcome.liquidations)


@pytest.mark.parametrize("rates", ["historical", "recomputed"])
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        (
            Override(parameter="liquidation_threshold", value=7600, asset="WETH"),
            Override(parameter="ltv", value=7000, asset="WETH"),
        ),
        (Override(parameter="close_factor", value=10_000),),
    ],
    ids=["none", "threshold", "close factor"],
)
def test_a_model_acts_the_same_with_and_without_the_screen(
    history: History, overrides: tuple[Override, ...], rates: Literal["historical", "recomputed"]
) -> None:
    scenario = Scenario(liquidators=Competitive(), overrides=overrides, rates=rates)
    screened, plain = (
        replay(AAVE_V2, history.market, history.timeline, scenario, screened=flag) for flag in (True, False)
    )
    assert [(r.clock, r.fill) for r in screened.liquidations] == [(r.clock, r.fill) for r in plain.liquidations]
    assert screened.actions == plain.actions
    assert len(screened.liquidations) > 40
    assert all(r.health_before is not None and r.health_before < 10**18 for r in screened.liquidations)


def test_recomputed_interest_is_the_chain_s(history: History) -> None:
    """Every call made again by the rules, with its share for the treasury: each index and rate as on the chain, and the
    book at the end.
    """
    outcome = replay(AAVE_V2, history.market, history.timeline, Scenario(rates="recomputed"))
    assert outcome.mismatches == []
    assert outcome.actions == [], outcome.actions
    assert outcome.rate_check is not None
    assert outcome.rate_check.updates > 500
    assert (outcome.rate_check.differing, outcome.rate_check.largest) == (0, 0)
    last = history.record.market.node.block_number
    recorded, *_ = state_at(AAVE_V2, history.market, history.timeline, last)
    assert outcome.book.state.accounts == recorded.accounts
    for ours, reserve in zip(outcome.book.state.reserves, history.record.market.reserves.values(), strict=True):
        assert ours.liquidity == reserve.asset.call("balanceOf", reserve.a_token.address)
        total = reserve.stable_token.call("getSupplyData")
        assert [ours.stable.principal, ours.stable.average, ours.stable.since] == [total[0], *total[2:]]


def test_views_and_exposures_of_the_book_are_the_plain_ones(history: History) -> None:
    block = history.record.samples[-2]
    state, prices, now = state_at(AAVE_V2, history.market, history.timeline, block)
    found = AAVE_V2.views(state, prices, now)
    collateral, debt, health = found.collateral.integers(), found.debt.integers(), found.health.tolist()
    for place, account in enumerate(found.account.tolist()):
        view = AAVE_V2.view(state, AccountId(account), prices, now)
        low, high = health[place]
        assert (collateral[place], debt[place]) == (view.collateral_base, view.debt_base)
        assert low | high << 64 == (view.health or 0)
    assert len(found.account) > 60
    assert all(state.accounts[account].stable for account in found.rest)


def test_accounts_are_proven_from_storage(history: History) -> None:
    """Both kinds of debt, flags and balances beside them."""
    record, stable = history.record, 0
    with Rpc(record.market.node.url) as rpc:
        for block in (record.samples[len(record.samples) // 2], record.samples[-1]):
            accounts = record.accounts[:60:12]
            for account, theirs in zip(accounts, record.market.account_data(accounts, block), strict=True):
                found = prove(history.lake, MARKET, account, rpc, block=block)
                assert found.differences == ()
                assert tuple(each.value for each in found.checked.figures or ()) == (theirs or ())
                debts = [each for each in found.checked.holdings if each.debt]
                stable += any(each.debt_scaled == 0 for each in debts)
    assert stable


def test_the_head_is_as_fetched(history: History, tmp_path: Path) -> None:
    node, config = history.record.market.node, history.record.market.market_config(MARKET)
    middle = node.block_number - 50
    assert_head_is_as_fetched(config, node.url, history.lake, middle, tmp_path / "lake")
