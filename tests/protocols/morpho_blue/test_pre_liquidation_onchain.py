"""Pre-liquidations from the fetched lake, against what the chain did: ``tests/chain/pre_liquidations.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.lake import Lake, queries
from backtest.model import AccountId, Market
from backtest.protocols.interface import Fill, Order
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.morpho_blue.liquidation import PAIR
from backtest.protocols.morpho_blue.pre_liquidation import AS_RECORDED, RULES, STEP
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.several import state_at
from backtest.replay.timeline import Timeline
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, Scenario
from backtest.units import WAD
from tests.chain.node import Node
from tests.chain.pre_liquidations import BORROWERS, LENDER, Call, Played, play
from tests.support.heads import assert_head_is_as_fetched

pytestmark = pytest.mark.xdist_group("morpho-pre")
NAME = "weth-usdc"


@dataclass(frozen=True)
class History:
    played: Played
    lake: Lake
    market: Market
    timeline: Timeline

    def id(self, address: str) -> AccountId:
        return AccountId(self.market.accounts.index(address.lower()))


@pytest.fixture(scope="module")
def history(chain_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with Node() as node:
        played = play(node)
        lake = Lake(tmp_path_factory.mktemp("pre"), create=True)
        fetch(lake, played.market_config(), Rpc(node.url), to_block=played.last_block, finality=0, headers="all")
        lake.refresh()
        reconstruct(lake, NAME)
        lake.refresh()
        yield History(played, lake, load_market(lake, NAME), load_timeline(lake, NAME))


def _made(history: History) -> list[Call]:
    return [call for call in history.played.calls if not call.error]


def test_the_script_covers_what_it_should(history: History) -> None:
    made = Counter((call.contract, bool(call.seized)) for call in _made(history))
    assert {(name, form) for name in ("", "early", "whole", "other") for form in (True, False)} <= made.keys()
    refused = {call.error for call in history.played.calls if call.error}
    assert refused >= {"NotHere", "TooLarge", "unauthorized"}


def test_history_has_each_call_once_and_labelled(history: History) -> None:
    """By kind of log, and no user's action among what a contract did."""
    kinds = history.lake.sql(
        "SELECT e.event, count(*) FROM liquidations AS l JOIN events AS e USING (market, seq) GROUP BY ALL"
    ).fetchall()
    made = _made(history)
    ours = sum(bool(call.contract) for call in made)
    assert dict(kinds) == {"morpho-blue/PreLiquidate": ours, "morpho-blue/Liquidate": len(made) - ours}
    assert ours > 40
    users = history.lake.sql(
        "SELECT count(*) FROM position_events WHERE action IN ('repay', 'withdraw') AND asset_id IN (0, 1)"
    ).fetchone()
    assert users == (0,)


def test_who_authorised_what_is_as_the_contract_says(history: History) -> None:
    """Those of another market's contract are not of this one."""
    played = history.played
    state, _, _ = state_at(MORPHO_BLUE, history.market, history.timeline, played.last_block)
    order = ("early", "whole", "other", "endless")
    for user in BORROWERS:
        told = frozenset(
            number
            for number, name in enumerate(order)
            if played.deployment.morpho.call("isAuthorized", user, played.contracts[name].address)
        )
        assert state.authorized.get(history.id(user), frozenset()) == told
        assert told == {order.index(name) for name in played.authorized[user]}
    assert history.id(LENDER) not in state.authorized
    assert [terms.known for _, terms in sorted(state.pre_terms.items())] == [1, 1, 0, 0]


def test_observed_replay_explains_every_call_and_ends_in_the_chain_s_state(history: History) -> None:
    played = history.played
    outcome = replay(MORPHO_BLUE, history.market, history.timeline, Scenario())
    assert outcome.mismatches == []
    by_contract = [row for row in outcome.liquidations if row.step == STEP]
    made = _made(history)
    assert len(by_contract) == sum(bool(call.contract) for call in made)
    assert len(outcome.liquidations) == len(made)
    rules = Counter(row.fill.rules for row in by_contract)
    assert rules[RULES] == sum(call.contract in ("early", "whole") for call in made)
    assert rules[AS_RECORDED] == sum(call.contract == "other" for call in made)
    assert all(row.health_before is not None and row.health_before >= WAD for row in by_contract)
    state = outcome.book.state
    for user, row in zip(BORROWERS, played.deployment.positions(played.pair, BORROWERS), strict=True):
        held = state.positions[history.id(user)]
        assert row[:3] == (held.supply_shares, held.borrow_shares, held.collateral)
    totals = state.totals
    assert played.deployment.totals(played.pair)[:4] == (
        totals.supply_assets, totals.supply_shares, totals.borrow_assets, totals.borrow_shares,
    )  # fmt: skip


def test_refused_calls_are_refused_by_the_rules(history: History) -> None:
    """In the state at the end of the block, of accounts of which nothing else became in it; at most Morpho itself
    would let them through.
    """
    reasons: Counter[str] = Counter()
    paid = {(call.block, call.borrower) for call in _made(history)}
    for call in history.played.calls:
        if not call.error or (call.block, call.borrower) in paid or not call.contract:
            continue
        state, prices, now = state_at(MORPHO_BLUE, history.market, history.timeline, call.block)
        borrower = history.id(call.borrower)
        number = ("early", "whole", "other", "endless").index(call.contract)
        if number not in state.authorized.get(borrower, ()):
            assert call.error in ("unauthorized", "NotHere", "TooLarge")
            continue
        state.authorized[borrower] = frozenset({number})
        order = Order(borrower, PAIR, borrower, seize=call.seized or None, repay_scaled=call.shares or None)
        found = MORPHO_BLUE.quote(state, order, prices, now)
        if isinstance(found, Fill):
            assert found.step == "liquidate"
            assert call.error == "NotHere" or call.contract == "other"  # which asks another oracle
        else:
            reasons[found.reason] += 1
    assert reasons.keys() >= {"position is healthy", "repays more than the pre-liquidation contract allows"}


@pytest.mark.parametrize("rates", ["historical", "recomputed"])
def test_a_model_pre_liquidates_the_same_with_and_without_the_screen(history: History, rates: Any) -> None:
    scenario = Scenario(liquidators=Competitive(), rates=rates)
    screened, plain = (
        replay(MORPHO_BLUE, history.market, history.timeline, scenario, screened=flag) for flag in (True, False)
    )
    assert [(row.clock, row.fill, row.step) for row in screened.liquidations] == [
        (row.clock, row.fill, row.step) for row in plain.liquidations
    ]
    steps = Counter(row.step for row in screened.liquidations)
    assert steps[STEP] > 20
    assert steps["liquidate"] > 0
    assert any("an oracle of its own" in reason for reason in screened.refused), screened.refused


def test_what_a_contract_may_take_is_taken_by_the_call_of_the_chain(history: History) -> None:
    """The largest call of the rules goes through on the chain with those amounts; a share more does not."""
    played, node = history.played, history.played.deployment.node
    state, prices, now = state_at(MORPHO_BLUE, history.market, history.timeline, played.last_block)
    tried = 0
    for user in BORROWERS:
        for number, name in enumerate(("early", "whole")):
            account = history.id(user)
            if number not in state.authorized.get(account, ()):
                continue
            alone = frozenset({number})
            before, state.authorized[account] = state.authorized[account], alone
            fill = MORPHO_BLUE.quote(state, Order(account, PAIR, account), prices, now)
            state.authorized[account] = before
            if not isinstance(fill, Fill) or fill.step != STEP:
                continue
            shares = next(-change.delta for change in fill.changes if getattr(change, "side", "") == "debt")
            contract = played.contracts[name]
            for more in (0, 1):
                asked = contract.transaction("preLiquidate", user, 0, shares + more, b"", sender=LENDER)
                try:
                    data = node.rpc("eth_call", asked, hex(played.last_block))
                except Exception:
                    assert more
                else:
                    assert not more
                    assert (int(data[2:66], 16), int(data[66:130], 16)) == (fill.seized, fill.repaid)
            tried += 1
    assert tried > 3


def test_the_chain_agrees_and_every_check_passes(history: History) -> None:
    lake = history.lake
    with Rpc(history.played.deployment.node.url) as rpc:
        assert verify(lake, NAME, rpc, blocks=3, accounts=10).mismatches == []
    found = {query.name: lake.sql(query.select).fetchall() for query in queries.load() if query.folder == "checks"}
    assert {name: rows[:2] for name, rows in found.items() if rows} == {}


def test_a_lake_without_the_factory_takes_it_on(history: History, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Calls are repayments and withdrawals until the factory is known; then the lake is as one fetched with it."""
    played, lake = history.played, Lake(tmp_path_factory.mktemp("before"), create=True)
    for config in (played.deployment.market_config(NAME), played.market_config()):
        with Rpc(played.deployment.node.url) as rpc:
            fetch(lake, config, rpc, to_block=played.last_block, finality=0, headers="all")
        lake.refresh()
        reconstruct(lake, NAME)
        lake.refresh()
        found = lake.sql("SELECT count(*) FILTER (action = 'repay') FROM position_events").fetchone()
        assert found is not None
        assert bool(found[0]) == ("pre_liquidation_factory" not in config.contracts)
    kinds = """
        SELECT event, count(*), median(bonus) BETWEEN 0.01 AND 0.09
        FROM liquidations JOIN events USING (market, seq) GROUP BY event ORDER BY event
    """
    assert lake.sql(kinds).fetchall() == history.lake.sql(kinds).fetchall()
    for table in ("position_events", "setting_events", "params", "liquidations"):
        ours, whole = (each.read(f"canonical/{table}", NAME) for each in (lake, history.lake))
        assert ours.equals(whole), table


def test_the_head_is_as_fetched(history: History, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Contracts that are made, and authorised, in a part of the history that is read later."""
    config = history.played.market_config()
    first = config.start_block + 14
    url = history.played.deployment.node.url
    assert_head_is_as_fetched(config, url, history.lake, first, tmp_path_factory.mktemp("head"))
