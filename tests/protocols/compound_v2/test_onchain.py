"""From the fetched lake alone, everything that contracts of Compound V2's lineage say of a market, to the last integer.

The script is that of ``tests/chain/compound.py``: over a hundred accounts, interest, a crash, liquidations, and in the
middle of it a Comptroller that cuts in the place of one that rounds to nearest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from backtest.account import account_at
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.lake import Lake, queries
from backtest.model import AccountId, AssetId, HistoricalLiquidation, Market, PositionChange, SettingChange
from backtest.protocols.book import Book
from backtest.protocols.compound_v2 import COMPOUND_V2
from backtest.protocols.compound_v2.math import CUT, HALF_UP
from backtest.protocols.interface import Fill, LinearExposure, Order, Pair, Refusal
from backtest.prove import prove
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.several import state_at
from backtest.replay.timeline import Timeline
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, Override, Scenario
from tests.chain.compound import CODE_SIZE_LIMIT, Record, Request, run
from tests.chain.node import Node
from tests.support.book_views import every_view, spelt
from tests.support.heads import assert_head_is_as_fetched
from tests.support.sql_engine import assert_sql_is_the_engine
from tests.support.walked import books_at

pytestmark = pytest.mark.xdist_group("compound")
WAD = 10**18
NAME = "compound"


@pytest.fixture(scope="module")
def record(chain_packages: None) -> Iterator[Record]:
    with Node(code_size_limit=CODE_SIZE_LIMIT) as node:
        yield run(node)


@pytest.fixture(scope="module")
def lake(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("compound"), create=True)
    config = record.deployment.market_config()
    fetch(lake, config, Rpc(record.deployment.node.url), to_block=record.last_block, finality=0, headers="all")
    lake.refresh()
    reconstruct(lake, NAME)
    lake.refresh()
    return lake


@dataclass(frozen=True)
class History:
    """What the chain did, and what our lake makes of it."""

    record: Record
    lake: Lake
    market: Market
    timeline: Timeline

    def id(self, address: str) -> AccountId | None:
        known = address.lower() in self.market.accounts
        return AccountId(self.market.accounts.index(address.lower())) if known else None

    def asset(self, symbol: str) -> AssetId:
        return next(asset.id for asset in self.market.assets if asset.symbol == symbol)

    def order(self, request: Request) -> Order:
        account, liquidator = self.id(request.borrower), self.id(request.liquidator)
        assert account is not None
        pair = Pair(self.asset(request.debt), self.asset(request.collateral))
        who = AccountId(-1) if liquidator is None else liquidator
        return Order(account, pair, who, repay=request.repay, receive_collateral_token=True)


@pytest.fixture(scope="module")
def history(record: Record, lake: Lake) -> History:
    return History(record, lake, load_market(lake, NAME), load_timeline(lake, NAME))


def test_the_script_covers_what_it_should(record: Record, history: History) -> None:
    assert len(record.accounts) > 110
    assert record.done["liquidateBorrow"] > 60
    assert record.refused["liquidateBorrow"] > 10
    assert {"mint", "redeem", "redeemUnderlying", "borrow", "repayBorrow", "transfer", "exitMarket"} <= set(record.done)
    assert {"redeem", "borrow", "exitMarket", "transfer"} <= set(record.refused)
    revisions = [change.value for change in history.timeline.params if change.name == "comptroller_revision"]
    assert revisions == [HALF_UP, CUT]
    found = {change.name for change in history.timeline.params}
    assert {"cash_found", "reserves_added", "reserves_reduced", "seize_paused", "mint_paused", "borrow_cap"} <= found


def test_accounts_and_ctokens_equal_the_chain_at_every_sample(history: History) -> None:
    """Liquidity, shortfall, cTokens, debts and exchange rates of every account, and the totals of every cToken."""
    record, short, owing = history.record, 0, 0
    for block, book in books_at(COMPOUND_V2, history.market, history.timeline, record.samples[::2]):
        state, prices, now = book.state, book.prices, book.now
        for symbol, totals in record.deployment.totals(block).items():
            pool = state.pools[history.asset(symbol)]
            ours = pool.cash, pool.borrows, pool.reserves, pool.supply, pool.index, pool.updated
            # Tokens that came without a call count from the next accrual on.
            assert ours[1:] == totals[1:], f"{symbol} at {block}"
            assert totals[0] - ours[0] in (0, 123_456_789 if symbol == "USDC" else 0)
        seen = record.deployment.snapshots(record.accounts, block)
        for address, theirs in zip(record.accounts, seen, strict=True):
            account = history.id(address)
            if account is None:
                assert not any(tokens or owed for tokens, owed, _ in theirs.ctokens.values())
                continue
            held = {holding.asset: holding for holding in COMPOUND_V2.holdings(state, account, now)}
            for symbol, (tokens, owed, _) in theirs.ctokens.items():
                ours_held = held.get(history.asset(symbol))
                assert (ours_held.collateral_scaled if ours_held else 0) == tokens, f"{address} {symbol} at {block}"
                assert (ours_held.debt if ours_held else 0) == owed, f"{address} {symbol} at {block}"
            figures = {figure.name: figure.value for figure in COMPOUND_V2.figures(state, account, prices, now)}
            if all(state.pools[history.asset(s)].exchange_rate == rate for s, (*_, rate) in theirs.ctokens.items()):
                assert (figures["liquidity"], figures["shortfall"]) == (theirs.liquidity, theirs.shortfall), address
            view = COMPOUND_V2.view(state, account, prices, now)
            assert (view.health is not None and view.health < WAD) == (figures["shortfall"] != 0)
            short += bool(theirs.shortfall)
            owing += view.health is not None
    assert short > 20
    assert owing > 2_000


def test_rounding_to_nearest_and_cutting_differ_here(history: History) -> None:
    """The other revision's rules give other liquidities: the comparison above can tell."""
    block = history.record.samples[10]
    state, prices, now = state_at(COMPOUND_V2, history.market, history.timeline, block)
    other = replace(state, revision=CUT if state.revision == HALF_UP else HALF_UP)
    names = ("liquidity", "shortfall")

    def all_of(book: Any) -> list[Any]:
        accounts = COMPOUND_V2.accounts(book)
        return [f.value for a in accounts for f in COMPOUND_V2.figures(book, a, prices, now) if f.name in names]

    assert all_of(state) != all_of(other)


def test_every_liquidation_is_predicted_from_the_state_before_it(history: History) -> None:
    """The amounts of each LiquidateBorrow log, from what the liquidator asked for."""
    requests = iter([request for request in history.record.requests if request.done])
    book = Book.open(COMPOUND_V2, history.market)
    predicted, revisions = 0, set()
    logged = history.lake.sql("SELECT block_number, log_index, tokens FROM raw.compound_v2_LiquidateBorrow").fetchall()
    seized = {(block, log): int(tokens) for block, log, tokens in logged}
    for transaction in history.timeline.transactions(history.record.last_block):
        for event in transaction:
            if isinstance(event, PositionChange | SettingChange) and event.action == "liquidation":
                continue
            if not isinstance(event, HistoricalLiquidation):
                book.apply(event)
                continue
            request = next(requests)
            assert (event.block_number, history.market.accounts[event.account]) == (
                request.block,
                request.borrower.lower(),
            )
            book.now = replace(
                book.now, block_number=event.block_number, log_index=event.log_index, timestamp=event.timestamp
            )
            fill = COMPOUND_V2.quote(book.state, history.order(request), book.prices, book.now)
            assert isinstance(fill, Fill), fill
            assert (fill.repaid, fill.seized, fill.protocol_fee) == (event.repaid, event.seized, 0)
            taken = [
                -change.delta
                for change in fill.changes
                if isinstance(change, PositionChange) and change.side == "collateral" and change.delta < 0
            ]
            assert taken == [seized[event.block_number, event.log_index]]
            for change in fill.changes:
                book.apply(change)
            predicted += 1
            revisions.add(fill.rules)
    assert next(requests, None) is None
    assert predicted > 60
    assert len(revisions) == 2
    totals = history.record.deployment.totals(history.record.last_block)
    for symbol, theirs in totals.items():
        pool = book.state.pools[history.asset(symbol)]
        assert (pool.cash, pool.borrows, pool.reserves, pool.supply, pool.index, pool.updated) == theirs


def test_refused_calls_would_be_refused_by_the_rules(history: History) -> None:
    """A liquidation that failed is a refusal in the state at the end of its block, where no other one of the borrower
    changed that.
    """
    paid = {(request.block, request.borrower) for request in history.record.requests if request.done}
    reasons = set()
    refused = [r for r in history.record.requests if not r.done and (r.block, r.borrower) not in paid]
    books = books_at(COMPOUND_V2, history.market, history.timeline, {request.block for request in refused})
    for book, request in ((book, r) for block, book in books for r in refused if r.block == block):
        found = COMPOUND_V2.quote(book.state, history.order(request), book.prices, book.now)
        assert isinstance(found, Refusal), f"{request} went through here: {found}"
        reasons.add(found.reason)
    assert reasons >= {
        "the account has no shortfall",
        "repays more than the close factor allows",
        "seize is paused",
    }


def test_observed_replay_ends_in_the_chain_s_own_state(history: History) -> None:
    record = history.record
    outcome = replay(COMPOUND_V2, history.market, history.timeline, Scenario())
    assert outcome.mismatches == []
    assert len(outcome.liquidations) > 60
    assert all(liquidation.matches_history for liquidation in outcome.liquidations)
    book = outcome.book
    seen = record.deployment.snapshots(record.accounts, record.last_block)
    for address, theirs in zip(record.accounts, seen, strict=True):
        account = history.id(address)
        if account is not None:
            held = {h.asset: h for h in COMPOUND_V2.holdings(book.state, account, book.now)}
            for symbol, (tokens, owed, _) in theirs.ctokens.items():
                ours = held.get(history.asset(symbol))
                assert (ours.collateral_scaled if ours else 0, ours.debt if ours else 0) == (tokens, owed)


def test_recomputed_interest_is_the_chain_s(history: History) -> None:
    """Every user's call made again by the rules, interest by the rate models: each index and rate as on the chain."""
    scenario = Scenario(rates="recomputed", liquidators=Competitive(), from_block=history.record.last_block)
    outcome = replay(COMPOUND_V2, history.market, history.timeline, scenario)
    assert outcome.mismatches == []
    assert outcome.actions == []
    assert outcome.rate_check is not None
    assert outcome.rate_check.updates > 500
    assert (outcome.rate_check.differing, outcome.rate_check.largest) == (0, 0)


@pytest.mark.parametrize("rates", ["historical", "recomputed"])
def test_a_model_acts_the_same_with_and_without_the_screen(history: History, rates: Any) -> None:
    for overrides in (
        (),
        (
            Override(parameter="liquidation_threshold", value=6000, asset="WETH"),
            Override(parameter="close_factor", value=9000),
        ),
    ):
        scenario = Scenario(liquidators=Competitive(), rates=rates, overrides=overrides)
        screened, plain = (
            replay(COMPOUND_V2, history.market, history.timeline, scenario, screened=flag) for flag in (True, False)
        )
        assert [(r.clock, r.fill) for r in screened.liquidations] == [(r.clock, r.fill) for r in plain.liquidations]
        assert len(screened.liquidations) > 20


def test_an_account_asked_for_alone_is_the_contracts(history: History) -> None:
    record, with_debt = history.record, 0
    for block in record.samples[::9]:
        for account in record.accounts[20:40:5]:
            (theirs,) = record.deployment.snapshots([account], block)
            found = account_at(history.lake, NAME, account, block=block)
            assert (found["liquidity"], found["shortfall"]) == (theirs.liquidity, theirs.shortfall)
            for symbol, (tokens, owed, _) in theirs.ctokens.items():
                if tokens or owed:
                    assert (found[f"ctokens of {symbol}"], found[f"borrow_balance of {symbol}"]) == (tokens, owed)
            with_debt += any(owed for _, owed, _ in theirs.ctokens.values())
    assert with_debt > 8


def test_the_whole_book_at_once_is_each_account_by_itself(history: History) -> None:
    """Views to the last integer; exposures safe nowhere where those one by one are not."""
    compared = 0
    for _, book in books_at(COMPOUND_V2, history.market, history.timeline, history.record.samples[::8]):
        views = COMPOUND_V2.views(book.state, book.prices, book.now)
        assert views is not None
        assert spelt(views) == every_view(COMPOUND_V2, book.state, book.prices, book.now)
        ids = COMPOUND_V2.accounts(book.state)
        found = COMPOUND_V2.exposures(book.state, ids, book.now)
        assert found is not None
        for row, account in enumerate(found.account.tolist()):
            one = COMPOUND_V2.exposure(book.state, AccountId(account), book.now)
            assert isinstance(one, LinearExposure)
            held = owed = dust = 0.0
            for at in range(found.start[row], found.start[row + 1]):
                asset = AssetId(int(found.asset[at]))
                worth = found.amount[at] * book.oracle[asset]
                dust += 3 * book.oracle[asset] / history.market.unit(asset)  # native units
                held, owed = (held, owed + worth) if found.owed[at] else (held + worth, owed)
            plain = sum(weight * book.oracle[asset] for asset, weight in one.weights.items()) + one.constant
            together = held - owed + found.constant[row]
            assert together <= plain + 1e-15 * (held + owed)
            assert together == pytest.approx(plain, abs=1e-9 * (held + owed) + dust)
            compared += 1
        assert compared
        assert {a for a in ids if COMPOUND_V2.exposure(book.state, a, book.now)} == set(found.account.tolist())
    assert compared > 300


def test_the_chain_agrees_with_what_the_lake_claims(record: Record, lake: Lake) -> None:
    with Rpc(record.deployment.node.url) as rpc:
        report = verify(lake, NAME, rpc, blocks=6, accounts=20)
    assert report.mismatches == []
    assert {"supply", "borrow index", "exchange rate", "cTokens", "debt"} <= set(report.compared)
    assert report.compared["debt"] > 30


def test_sql_balances_and_health_are_the_chain_s(history: History) -> None:
    """``holdings`` to the last integer, those of ``balances_at`` to DOUBLE."""
    lake, record, compared = history.lake, history.record, 0
    for block in record.samples[6::22]:
        held = lake.sql(
            f"SELECT h.*, a.account FROM holdings(NULL, [{block}]) AS h JOIN accounts AS a USING (market, account_id)"
        )
        rows = {(row["account"], row["symbol"]): row for row in held.to_arrow_table().to_pylist()}
        balances = lake.sql(f"SELECT * FROM balances_at({block})").to_arrow_table().to_pylist()
        at = {(row["account"], row["symbol"]): row for row in balances}
        for account, theirs in zip(record.accounts, record.deployment.snapshots(record.accounts, block), strict=True):
            for symbol, (tokens, owed, rate) in theirs.ctokens.items():
                if not tokens and not owed:
                    continue
                key = account.lower(), symbol
                assert (rows[key]["collateral_scaled"], rows[key]["debt"]) == (tokens, owed)
                assert float(at[key]["debt"]) == pytest.approx(owed, rel=1e-12, abs=2)
                assert float(at[key]["collateral"]) == pytest.approx(tokens * rate / WAD, rel=1e-6, abs=2)
                compared += 1
    assert compared > 300


def test_sql_is_the_engine_for_every_account(history: History) -> None:
    compared = assert_sql_is_the_engine(history.lake, NAME, history.record.samples[::3])
    assert compared.owing > 1_000
    assert compared.unsafe > 10
    assert compared.unpriced == 0


def test_every_check_passes(lake: Lake) -> None:
    found = {query.name: lake.sql(query.select).fetchall() for query in queries.load() if query.folder == "checks"}
    assert {name: rows[:2] for name, rows in found.items() if rows} == {}
    assert len(found) > 10


def test_accounts_are_proven_from_storage(history: History) -> None:
    """Before and after the upgrade, in shortfall and not; cash and prices are in mappings that the proof finds out."""
    record, deployment = history.record, history.record.deployment
    compared = short = 0
    with Rpc(deployment.node.url) as rpc:
        for block in (record.samples[len(record.samples) // 3], record.last_block):
            snapshots = deployment.snapshots(record.accounts, block)
            rows = sorted(zip(record.accounts, snapshots, strict=True), key=lambda row: -row[1].shortfall)
            for account, theirs in (*rows[:3], *rows[20:40:7]):
                found = prove(history.lake, NAME, account, rpc, block=block)
                figures = {each.name: each.value for each in found.checked.figures or ()}
                assert found.differences == ()
                assert (figures["liquidity"], figures["shortfall"]) == (theirs.liquidity, theirs.shortfall)
                assert found.checked.stated == frozenset()
                compared, short = compared + bool(found.checked.holdings), short + bool(theirs.shortfall)
    assert compared >= 10
    assert short


def test_the_head_is_as_fetched(record: Record, lake: Lake, tmp_path: Path) -> None:
    config = record.deployment.market_config()
    middle = record.last_block - 30
    assert_head_is_as_fetched(config, record.deployment.node.url, lake, middle, tmp_path / "lake")
