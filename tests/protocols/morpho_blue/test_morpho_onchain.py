"""From the fetched lake alone, everything that Morpho Blue's own contract says about two of its markets, to the last
integer.

The script is that of ``tests/chain/morpho.py``: over a hundred accounts, a crash, liquidations by collateral and by
shares, bad debt, fees.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backtest.account import account_at
from backtest.errors import FetchError, UserError
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.lake import Lake, queries
from backtest.model import AccountId, HistoricalLiquidation, Market, PositionChange, SettingChange
from backtest.protocols.book import Book
from backtest.protocols.interface import Fill, Order, Refusal
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.morpho_blue.liquidation import PAIR
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.several import state_at
from backtest.replay.timeline import Timeline
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, Override, Scenario
from tests.chain.morpho import Pair, Record, Request, run
from tests.chain.node import Node
from tests.support.book_views import every_view, spelt
from tests.support.heads import assert_head_is_as_fetched
from tests.support.sql_engine import assert_sql_is_the_engine

pytestmark = pytest.mark.xdist_group("morpho")
WAD = 10**18


@pytest.fixture(scope="module")
def record(chain_packages: None) -> Iterator[Record]:
    with Node() as node:
        yield run(node)


@pytest.fixture(scope="module")
def lake(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("morpho"), create=True)
    for name in record.deployment.pairs:
        config = record.deployment.market_config(name)
        fetch(lake, config, Rpc(record.deployment.node.url), to_block=record.last_block, finality=0, headers="all")
        lake.refresh()
        reconstruct(lake, name)
        lake.refresh()
    return lake


@dataclass(frozen=True)
class History:
    """What the chain did in one market, and what our lake makes of it."""

    record: Record
    lake: Lake
    pair: Pair
    market: Market
    timeline: Timeline

    def id(self, address: str) -> AccountId:
        return AccountId(self.market.accounts.index(address.lower()))


@pytest.fixture(params=["weth-usdc", "wbtc-weth"])
def history(request: pytest.FixtureRequest, record: Record, lake: Lake) -> History:
    name = request.param
    return History(record, lake, record.deployment.pairs[name], load_market(lake, name), load_timeline(lake, name))


def test_the_script_covers_what_it_should(record: Record) -> None:
    kinds = {(request.pair, bool(request.seized)) for request in record.requests if not request.error}
    assert kinds == {(name, form) for name in record.deployment.pairs for form in (True, False)}
    assert len(record.accounts) > 100
    assert len(record.samples) > 60
    assert {what for _, _, what, _ in record.refused} >= {"borrow", "withdraw", "withdrawCollateral"}


def test_totals_and_positions_equal_the_chain_at_every_sample(history: History) -> None:
    """Stored and expected totals, shares, collateral, balances with interest, and health, for every account."""
    record, accounts = history.record, history.record.accounts
    ids: dict[str, int] = {account: i for i, account in enumerate(history.market.accounts)}
    compared = unhealthy = accruing = 0
    for block in record.samples:
        state, prices, now = state_at(MORPHO_BLUE, history.market, history.timeline, block)
        stored, virtual = state.totals, state.accrued(now.timestamp)
        theirs = record.deployment.totals(history.pair, block)
        assert theirs == (
            *(
                stored.supply_assets,
                stored.supply_shares,
                stored.borrow_assets,
                stored.borrow_shares,
                stored.updated,
                stored.fee,
            ),
            *(virtual.supply_assets, virtual.supply_shares, virtual.borrow_assets, virtual.borrow_shares),
        ), f"block {block}"
        accruing += stored.borrow_assets != virtual.borrow_assets
        assert prices.oracle[COLLATERAL] == history.pair.oracle.call("price", block=block)
        assert prices.oracle[LOAN] == 10**history.pair.price_decimals
        for account, row in zip(accounts, record.deployment.positions(history.pair, accounts, block), strict=True):
            lent, owed_shares, collateral, lent_assets, owed, healthy = row
            number = ids.get(account.lower())
            if number is None:
                assert not any(row[:5]), f"{account} holds something at {block} that we never saw"
                continue
            held = {h.asset: h for h in MORPHO_BLUE.holdings(state, AccountId(number), now)}
            loan, coins = held.get(LOAN), held.get(COLLATERAL)
            ours = (loan.collateral_scaled, loan.debt_scaled, loan.collateral, loan.debt) if loan else (0, 0, 0, 0)
            assert ours == (lent, owed_shares, lent_assets, owed), f"{account} at {block}"
            assert (coins.collateral if coins else 0) == collateral
            view = MORPHO_BLUE.view(state, AccountId(number), prices, now)
            assert (view.health is None or view.health >= WAD) == bool(healthy)
            assert bool(MORPHO_BLUE.pairs(state, AccountId(number), prices, now)) == (not healthy)
            compared += 1
            unhealthy += not healthy
    assert compared > 60 * 100
    assert unhealthy > 20
    assert accruing > 10


def test_an_account_asked_for_alone_is_the_contracts(history: History) -> None:
    """``account_at`` at the end of blocks, and at their times: shares, collateral, assets with interest, health."""
    record, name = history.record, history.market.name
    with_debt = 0
    for block in record.samples[:: len(record.samples) // 12]:
        rows = record.deployment.positions(history.pair, record.accounts, block)
        owing = [(account, row) for account, row in zip(record.accounts, rows, strict=True) if row[1]]
        for account, row in [*owing[:2], (record.accounts[0], rows[0])]:
            found = account_at(history.lake, name, account, block=block)
            assert found.timestamp == record.deployment.node.timestamp(block)
            lent, owed_shares, collateral, lent_assets, owed, healthy = row
            names = ("supply_shares", "borrow_shares", "collateral", "supply_assets", "borrow_assets")
            assert tuple(found[n] for n in names) == (lent, owed_shares, collateral, lent_assets, owed)
            health = found["health_factor"]
            assert (health is None or health >= WAD) == bool(healthy)
            assert health is None or (found["max_borrow"] >= owed) == bool(healthy)
            again = account_at(history.lake, name, account, time=found.timestamp)
            assert (again.figures, again.holdings) == (found.figures, found.holdings)
            with_debt += bool(owed)
    assert with_debt > 10


def test_the_whole_book_at_once_is_each_account_by_itself(history: History) -> None:
    for block in history.record.samples[::5]:
        state, prices, now = state_at(MORPHO_BLUE, history.market, history.timeline, block)
        views = MORPHO_BLUE.views(state, prices, now)
        if views is not None:
            assert not views.rest
            assert spelt(views) == every_view(MORPHO_BLUE, state, prices, now)
    assert views is not None
    assert len(views.account) > 50


def test_every_liquidation_is_predicted_from_the_state_before_it(history: History) -> None:
    """The amounts of each Liquidate log, from what the liquidator asked for; in between and after, the book is the
    chain's.
    """
    requests = iter(
        [request for request in history.record.requests if request.pair == history.pair.name and not request.error]
    )
    book = Book.open(MORPHO_BLUE, history.market)
    predicted = lost = 0
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
            fill = MORPHO_BLUE.quote(book.state, _order(history, request), book.prices, book.now)
            assert isinstance(fill, Fill), fill
            assert (fill.repaid, fill.seized, fill.protocol_fee, fill.deficits) == (
                event.repaid,
                event.seized,
                0,
                event.deficits,
            )
            debts = [
                -change.delta for change in fill.changes if isinstance(change, PositionChange) and change.side == "debt"
            ]
            logged = history.lake.sql(
                "SELECT repaid_shares, bad_debt_shares FROM raw.morpho_blue_Liquidate WHERE market ="
                f" '{history.market.name}' AND transaction_hash = unhex('{request.transaction_hash[2:]}')"
            ).fetchall()
            assert [tuple(debts)] == [tuple(int(shares) for shares in row[: len(debts)]) for row in logged]
            for change in fill.changes:
                book.apply(change)
            predicted += 1
            lost += bool(fill.deficits)
    assert next(requests, None) is None
    assert predicted > 40
    assert lost > 3
    totals = book.state.totals
    assert history.record.deployment.totals(history.pair)[:4] == (
        totals.supply_assets,
        totals.supply_shares,
        totals.borrow_assets,
        totals.borrow_shares,
    )


def _order(history: History, request: Request) -> Order:
    borrower, liquidator = history.id(request.borrower), history.id(request.liquidator)
    return Order(borrower, PAIR, liquidator, repay_scaled=request.shares or None, seize=request.seized or None)


def test_refused_calls_would_be_refused_by_the_rules(history: History) -> None:
    """A call that reverted is a refusal in the state at the end of its block, where no other liquidation of the
    borrower changed that.
    """
    refused = [request for request in history.record.requests if request.error and request.pair == history.pair.name]
    paid = {(request.block, request.borrower) for request in history.record.requests if not request.error}
    reasons = set()
    for request in refused:
        if (request.block, request.borrower) in paid:
            continue
        state, prices, now = state_at(MORPHO_BLUE, history.market, history.timeline, request.block)
        found = MORPHO_BLUE.quote(state, _order(history, request), prices, now)
        assert isinstance(found, Refusal), f"{request.error} on the chain, here {found}"
        reasons.add(found.reason)
        assert (found.reason == "position is healthy") == (request.error == "position is healthy")
    assert reasons >= {
        "position is healthy",
        "repays more than the position owes",
        "seizes more collateral than there is",
    }


def test_observed_replay_ends_in_the_chain_s_own_state(history: History) -> None:
    record = history.record
    outcome = replay(MORPHO_BLUE, history.market, history.timeline, Scenario())
    assert outcome.mismatches == []
    assert len(outcome.liquidations) > 40
    assert all(liquidation.matches_history for liquidation in outcome.liquidations)
    for account, row in zip(record.accounts, record.deployment.positions(history.pair, record.accounts), strict=True):
        position = (
            outcome.book.state.positions.get(history.id(account))
            if account.lower() in history.market.accounts
            else None
        )
        assert row[:3] == (
            (position.supply_shares, position.borrow_shares, position.collateral) if position else (0, 0, 0)
        )


def test_recomputed_interest_is_the_chain_s(history: History) -> None:
    """Every user's call made again by the rules, interest by the curve: each index, rate and total as on the chain."""
    scenario = Scenario(rates="recomputed", liquidators=Competitive(), from_block=history.record.last_block)
    if history.pair.name == "wbtc-weth":
        with pytest.raises(
            UserError, match=r"block \d+: market 'wbtc-weth' has an interest rate model other than the adaptive curve"
        ):
            replay(MORPHO_BLUE, history.market, history.timeline, scenario)
        return
    outcome = replay(MORPHO_BLUE, history.market, history.timeline, scenario)
    assert outcome.mismatches == []
    assert outcome.actions == []
    assert outcome.rate_check is not None
    assert outcome.rate_check.updates > 200
    assert (outcome.rate_check.differing, outcome.rate_check.largest) == (0, 0)
    totals = outcome.book.state.totals
    ours = (
        totals.supply_assets,
        totals.supply_shares,
        totals.borrow_assets,
        totals.borrow_shares,
        totals.updated,
        totals.fee,
    )
    assert history.record.deployment.totals(history.pair)[:6] == ours


@pytest.mark.parametrize("rates", ["historical", "recomputed"])
def test_a_model_acts_the_same_with_and_without_the_screen(history: History, rates: Any) -> None:
    if rates == "recomputed" and history.pair.name == "wbtc-weth":
        pytest.skip("its rate model is not the adaptive curve")
    symbol = history.market.assets[COLLATERAL].symbol
    for overrides in ((), (Override(parameter="liquidation_threshold", value=7800, asset=symbol),)):
        scenario = Scenario(liquidators=Competitive(), rates=rates, overrides=overrides)
        screened, plain = (
            replay(MORPHO_BLUE, history.market, history.timeline, scenario, screened=flag) for flag in (True, False)
        )
        assert [(r.clock, r.fill) for r in screened.liquidations] == [(r.clock, r.fill) for r in plain.liquidations]
        assert len(screened.liquidations) > 10
        assert all(r.health_before is not None and r.health_before < WAD for r in screened.liquidations)
        if overrides:
            assert any(count.reason == "insufficient collateral" for count in screened.actions)


def test_sql_balances_and_health_are_the_chain_s(history: History) -> None:
    """Shares and native amounts of holdings to the last integer, with what the curve would accrue; those of balances_at
    to DOUBLE.
    """
    lake, name, record = history.lake, history.market.name, history.record
    compared = 0
    for block in record.samples[5::9]:
        held = lake.sql(
            f"SELECT h.*, a.account FROM holdings(NULL, [{block}]) AS h JOIN accounts AS a USING (market, account_id)"
            f" WHERE market = '{name}'"
        )
        rows = {(row["account"], row["asset_id"]): row for row in held.to_arrow_table().to_pylist()}
        balances = lake.sql(f"SELECT * FROM balances_at({block}) WHERE market = '{name}'").to_arrow_table().to_pylist()
        at = {(row["account"], row["asset_id"]): row for row in balances}
        for account, theirs in zip(
            record.accounts, record.deployment.positions(history.pair, record.accounts, block), strict=True
        ):
            loan, coins = (account.lower(), LOAN), (account.lower(), COLLATERAL)
            if theirs[0] or theirs[1]:
                exact = tuple(
                    rows[loan][column] for column in ("collateral_scaled", "debt_scaled", "collateral", "debt")
                )
                assert exact == (*theirs[:2], *theirs[3:5])
                assert float(at[loan]["collateral"]) == pytest.approx(theirs[3], rel=1e-12, abs=2)
                assert float(at[loan]["debt"]) == pytest.approx(theirs[4], rel=1e-12, abs=2)
                compared += 1
            if theirs[2]:
                assert rows[coins]["collateral"] == theirs[2]
    assert compared > 300


def test_sql_is_the_engine_for_every_account(history: History) -> None:
    compared = assert_sql_is_the_engine(history.lake, history.market.name, history.record.samples)
    assert compared.owing > 2_000
    assert compared.unsafe > 20
    assert compared.unpriced == 0


def test_every_check_passes(lake: Lake) -> None:
    found = {query.name: lake.sql(query.select).fetchall() for query in queries.load() if query.folder == "checks"}
    assert {name: rows[:2] for name, rows in found.items() if rows} == {}
    assert len(found) > 10


def test_the_chain_agrees_and_a_changed_balance_is_named(record: Record, lake: Lake, tmp_path: Path) -> None:
    """Shares of the market and of accounts: what the contract's own getters return."""
    for name in record.deployment.pairs:
        with Rpc(record.deployment.node.url) as rpc:
            report = verify(lake, name, rpc, blocks=5, accounts=20)
            assert report.mismatches == []
            wanted = {"total supply shares", "total borrow shares", "supply shares", "borrow shares", "collateral"}
            assert wanted <= set(report.compared)
            assert report.compared["collateral"] >= 5 * 3
            copy = Lake(tmp_path / name, create=True)
            with copy.writer() as writer:
                writer.set_market(lake.market_config(name))
                span = lake.covered(name, next(iter(lake.sources(name))))[0]
                writer.commit(name, {}, from_block=span[0], to_block=span[1], covers={"all": span})
                for dataset in lake.datasets(name):
                    if dataset.startswith(("canonical/", "raw/")):
                        table = lake.read(dataset, name)
                        writer.append(
                            name, dataset, table.slice(1) if dataset == "canonical/position_events" else table
                        )
            copy.refresh()
            wrong = verify(copy, name, rpc, blocks=5, accounts=20).mismatches
            assert any("shares" in line for line in wrong), wrong


def test_only_the_market_s_own_logs_are_asked_for_and_kept(record: Record, lake: Lake) -> None:
    for name, pair in record.deployment.pairs.items():
        for event in ("Supply", "Borrow", "Liquidate", "AccrueInterest", "CreateMarket"):
            ids = lake.sql(
                f"SELECT DISTINCT lower(hex(id)) FROM raw.morpho_blue_{event} WHERE market = '{name}'"
            ).fetchall()
            assert ids == [(pair.id[2:],)]


def test_what_the_market_s_description_must_say(record: Record, tmp_path: Path) -> None:
    deployment = record.deployment
    config = deployment.market_config("weth-usdc")
    lake = Lake(tmp_path / "lake", create=True)
    with pytest.raises(FetchError, match=r"market 'a': parameters\.id = '' is not a 32-byte word"):
        fetch(lake, msgspec.structs.replace(config, name="a", parameters={}), Rpc(deployment.node.url), finality=0)
    wrong = {
        "b": (msgspec.structs.replace(config, name="b", price_decimals=20), "write price_decimals = 24"),
        "c": (
            msgspec.structs.replace(config, name="c", parameters={"id": "0x" + "12" * 32}),
            "was not created by the last block fetched",
        ),
    }
    for name, (described, message) in wrong.items():
        fetch(lake, described, Rpc(deployment.node.url), to_block=record.last_block, finality=0)
        lake.refresh()
        with pytest.raises(UserError, match=message):
            reconstruct(lake, name)


def test_the_command_line_knows_no_difference(record: Record, tmp_path: Path) -> None:
    """fetch, replay, sql, check: as for any other protocol."""
    node, lake = record.deployment.node, tmp_path / "lake"
    config = record.deployment.market_config("weth-usdc")
    description = tmp_path / "weth-usdc.toml"
    own = {key: value for key, value in msgspec.to_builtins(config).items() if value is not None}
    tables = {key: own.pop(key) for key in ("contracts", "parameters")}
    lines = [f"{key} = {json.dumps(value)}" for key, value in own.items()]
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    description.write_text("\n".join(lines))

    def backtest(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from backtest.cli import main; main()", *arguments, "--lake", str(lake)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    backtest(
        "fetch",
        "morpho-blue",
        "--market",
        str(description),
        "--rpc",
        node.url,
        "--finality",
        "0",
        "--to-block",
        str(record.last_block),
    )
    backtest("reconstruct", "--market", "weth-usdc")
    assert "liquidations" in backtest("replay", "--market", "weth-usdc", "--liquidators", "observed")
    backtest(
        "replay", "--market", "weth-usdc", "--liquidators", "competitive", "--set", "WETH.liquidation_threshold=8000"
    )
    count = backtest("sql", "SELECT count(*) AS n FROM liquidations", "--format", "csv").split()[-1]
    assert int(count) == sum(1 for request in record.requests if request.pair == "weth-usdc" and not request.error)
    runs = backtest("sql", "SELECT liquidations FROM runs ORDER BY liquidations", "--format", "csv").split()
    assert count in runs
    assert len(runs) >= 3
    assert "none violated" in backtest("check", "--market", "weth-usdc", "--rpc", node.url)


@pytest.mark.parametrize("name", ["weth-usdc", "wbtc-weth"])
def test_the_head_is_as_fetched(record: Record, lake: Lake, tmp_path: Path, name: str) -> None:
    config = record.deployment.market_config(name)
    middle = (config.start_block + record.last_block) // 2
    assert_head_is_as_fetched(config, record.deployment.node.url, lake, middle, tmp_path / "lake")
