"""A session on the compiled AMM and controller (``record``), by vectors: logs and readings are folded, and every number
that the contracts said of the AMM, of its bands and of every user must come out, to the last unit. Loans of 4 to 50
bands, interest, exchanges both ways named by either amount, fees that grow with the distance, soft liquidation and
back, whole and partial liquidations, repayments under water, changed discounts and fees, writes of the oracle without a
log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from backtest.account import account_at
from backtest.cli.info import info
from backtest.errors import RulesError, UserError
from backtest.lake import Lake
from backtest.model import (
    AccountId,
    Clock,
    HistoricalLiquidation,
    Market,
    ParamChange,
    PositionChange,
    SettingChange,
)
from backtest.near import near_in_lake
from backtest.protocols.book import Book
from backtest.protocols.interface import Action, Refusal
from backtest.protocols.llamma import LLAMMA
from backtest.protocols.llamma.account import health, most_debt_down
from backtest.protocols.llamma.state import AMM, LlammaState
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.forecast import look_ahead
from backtest.replay.several import state_at
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.users import actions_of
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, Override, Scenario
from backtest.units import WAD
from tests.protocols.llamma.recorded import FIRST, MARKET, figures, imported

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = imported(tmp_path_factory.mktemp("llamma") / "lake")
    reconstruct(lake, MARKET)
    lake.refresh()
    return lake


@pytest.fixture(scope="module")
def market(lake: Lake) -> Market:
    return load_market(lake, MARKET)


@pytest.fixture(scope="module")
def timeline(lake: Lake) -> Timeline:
    return load_timeline(lake, MARKET)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return figures()


def books(
    market: Market, timeline: Timeline, told: dict[str, Any]
) -> Iterator[tuple[Book[LlammaState], dict[str, Any]]]:
    """History's book at the end of each block that was told of, with what was told; liquidations by the rules."""
    book: Book[LlammaState] = Book.open(LLAMMA, market)
    transactions = timeline.transactions()
    waiting = next(transactions, None)
    for there in told["figures"]:
        while waiting is not None and waiting[0].block_number <= there["block"]:
            for event in waiting:
                if isinstance(event, HistoricalLiquidation):
                    book.now = Clock(event.block_number, event.log_index, event.timestamp)
                    order = LLAMMA.observed_order(book.state, event, book.prices, book.now)
                    for change in LLAMMA.quote(book.state, order, book.prices, book.now).changes:  # type: ignore[union-attr]
                        book.apply(change)
                elif getattr(event, "action", "") != "liquidation":
                    book.apply(event)
            waiting = next(transactions, None)
        book.now = Clock(there["block"], 1 << 30, there["time"])
        yield book, there


def test_the_session_has_what_it_is_for(told: dict[str, Any], timeline: Timeline) -> None:
    made = Counter(call["call"] for call in told["calls"] if not call["refused"])
    names = ("exchange", "exchange_dy", "create_loan", "repay", "add_collateral", "liquidate")
    assert min(made[name] for name in names) > 20
    assert min(made["borrow_more"], made["remove_collateral"]) > 5
    seen: Counter[str] = Counter()
    for event in timeline:
        if isinstance(event, HistoricalLiquidation):
            seen["hard" if event.account else "back" if event.debt_asset else "soft"] += 1
        elif isinstance(event, SettingChange) and event.setting == "withdrawn":
            seen["partial"] += event.value < WAD
        elif isinstance(event, ParamChange):
            seen["silent"] += event.name == "silent_fee"
    assert min(seen["soft"], seen["back"], seen["hard"]) > 30
    assert (seen["partial"] > 10, seen["silent"] > 0) == (True, True)


def test_every_number_of_the_amm(market: Market, timeline: Timeline, told: dict[str, Any]) -> None:
    logged = {
        event.block_number for event in timeline if isinstance(event, HistoricalLiquidation) and not event.account
    }
    tried = [call["block"] for call in told["calls"] if call["call"].startswith("exchange") and not call["refused"]]
    for book, there in books(market, timeline, told):
        state, amm, time = book.state, book.state.amm, there["time"]
        limited, fee = amm.limited(there["price"], time)
        assert limited == there["limited"]
        ours = [amm.active, amm.low, amm.high, amm.base_price_down(time), amm.rate_mul_at(time)]
        silent = max((block for block in tried if block <= there["block"]), default=0) not in {0, *logged}
        fee = there["amm"][6] if silent else max(amm.fee, fee)  # an exchange of nothing leaves no log before the next
        ours += [amm.price_down(limited, time), fee, amm.kept_x, amm.kept_y]
        assert ours == there["amm"]
        bands = [[n, amm.band(n).x, amm.band(n).y, amm.up(n, time)] for n, *_ in there["bands"]]
        assert bands == there["bands"]
        amounts = [[target, *amm.amount_for_price(target, (limited, fee), time)] for target, *_ in there["amounts"]]
        assert amounts == there["amounts"]
        assert state.total_debt_down(time) == there["debt"]
        assert [most_debt_down(state, 10**8, n, limited, time) for n in (4, 10, 50)] == there["most"]


def test_every_number_of_every_user(market: Market, timeline: Timeline, told: dict[str, Any]) -> None:
    seen: Counter[str] = Counter()
    for book, there in books(market, timeline, told):
        seen += check_users(market, book, told["users"], there)
    assert min(seen.values()) > 20


def check_users(market: Market, book: Book[LlammaState], users: Sequence[str], there: dict[str, Any]) -> Counter[str]:
    """At one moment; how many there are of each kind."""
    ids = {address: AccountId(n) for n, address in enumerate(market.accounts)}
    seen: Counter[str] = Counter()
    state, amm, time = book.state, book.state.amm, there["time"]
    limited = amm.limited(there["price"], time)[0]
    for user, numbers in zip(users, there["users"], strict=True):
        loan = state.loan(ids.get(user, AccountId(-1)))
        if not numbers:
            assert not loan.initial
            continue
        x, y = amm.held_down(loan.shares, loan.first)
        debt = state.debt_up(loan, time)
        worth = [amm.worth_down(loan.shares, loan.first, limited, time, in_y=in_y) for in_y in (False, True)]
        healths = [
            health(state, loan, debt, limited, time, full=full, discount=loan.discount) for full in (False, True)
        ]
        assert [y, x, debt, loan.first, loan.last, *worth, *healths, loan.discount] == numbers
        seen["soft" if x and y else "x" if x else "y"] += 1
        book.oracle[market.assets[1].id] = there["price"]
        pairs = LLAMMA.pairs(state, ids[user], book.prices, book.now)
        assert bool(pairs) == (healths[1] < 0)
        seen["liquidatable"] += bool(pairs)
    return seen


def test_history_is_explained_to_the_last_unit(market: Market, timeline: Timeline) -> None:
    made = replay(LLAMMA, market, timeline, Scenario())
    assert (len(made.liquidations), made.mismatches) == (232, [])
    assert all(one.matches_history for one in made.liquidations)


def test_the_screen_misses_nobody_and_the_arbitrageur_acts(market: Market, timeline: Timeline) -> None:
    scenario = Scenario(liquidators=Competitive(gas_cost=0))
    fast, plain = (replay(LLAMMA, market, timeline, scenario, screened=screened) for screened in (True, False))
    shown = [[(one.fill, one.profit_base, one.step) for one in run.liquidations] for run in (fast, plain)]
    assert shown[0] == shown[1]
    steps = Counter(step for _, _, step in shown[0])
    assert min(steps["arbitrage"], steps["liquidate"]) > 10
    assert all(one.fill.order.account == AMM for one in fast.liquidations if one.step == "arbitrage")
    assert all(profit > 0 for _, profit, _ in shown[0])


def test_another_amplification(market: Market, timeline: Timeline) -> None:
    override = Override(parameter="amplification", value=50)
    made = replay(LLAMMA, market, timeline, Scenario(liquidators=Competitive(gas_cost=0), overrides=(override,)))
    loan = next(loan for loan in made.book.state.loans.values() if loan.initial)
    assert made.book.state.amm.terms.amplification == 50
    assert loan.shares
    late = Override(parameter="amplification", value=50, from_block=400)
    with pytest.raises(UserError, match="of an AMM with deposits cannot change"):
        replay(LLAMMA, market, timeline, Scenario(liquidators=Competitive(gas_cost=0), overrides=(late,)))


def test_what_was_not_read_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"views of contracts \(1: A\(\) of"):
        imported(tmp_path / "lake", "A()")


def test_other_revisions_explain_it_less(tmp_path: Path) -> None:
    lake = imported(tmp_path / "lake", revision="2")
    with pytest.raises(RulesError, match="the market's revision is another"):
        reconstruct(lake, MARKET)


def test_value_counts(market: Market, timeline: Timeline, told: dict[str, Any]) -> None:
    """A user's view is of both tokens in its bands; the AMM's account has none."""
    *_, (book, there) = books(market, timeline, told)
    book.oracle[market.assets[1].id] = there["price"]
    assert LLAMMA.view(book.state, AMM, book.prices, book.now).collateral_base == 0
    for account in LLAMMA.accounts(book.state):
        view = LLAMMA.view(book.state, account, book.prices, book.now)
        of_bands = {holding.asset: holding for holding in LLAMMA.holdings(book.state, account, book.now)}
        value = sum(
            holding.collateral * book.oracle.get(asset, WAD) // book.units[asset] for asset, holding in of_bands.items()
        )
        assert view.collateral_base == value


def test_users_calls_made_again_are_historys(market: Market, timeline: Timeline) -> None:
    """Of every call that went through: in which band the loan begins, what is owed, what lies in the bands."""
    seen = remade(market, timeline)
    assert min(seen[name] for name in ("borrow", "supply", "withdraw", "repay")) > 5


def remade(market: Market, timeline: Timeline) -> Counter[str]:
    """Holds every call of users, made again in history's book, against history's; how many of each."""
    book: Book[LlammaState] = Book.open(LLAMMA, market)
    seen: Counter[str] = Counter()
    for transaction in timeline.transactions():
        waiting = actions_of(transaction)
        for event in transaction:
            book.now = Clock(event.block_number, event.log_index, event.timestamp)
            if isinstance(event, HistoricalLiquidation):
                order = LLAMMA.observed_order(book.state, event, book.prices, book.now)
                for change in LLAMMA.quote(book.state, order, book.prices, book.now).changes:  # type: ignore[union-attr]
                    book.apply(change)
            elif not isinstance(event, PositionChange | SettingChange):
                book.apply(event)
            elif event.action != "liquidation" and waiting[event.action_seq][-1] is event:
                own = waiting[event.action_seq]
                debt = own[0]
                assert isinstance(debt, PositionChange)
                closes = book.state.loan(event.account).initial + debt.delta == 0
                action = Action(event.action, tuple(own), frozenset({0} if closes else ()))
                acted = LLAMMA.act(book.state, action, book.prices, book.now)
                assert not isinstance(acted, Refusal), (event, acted)
                assert [_what(change) for change in acted.changes] == [_what(change) for change in own]
                seen[event.action] += 1
                for change in own:
                    book.apply(change)
    return seen


def _what(change: object) -> tuple[object, ...]:
    if isinstance(change, PositionChange):
        return change.account, change.asset, change.side, change.delta, change.amount
    assert isinstance(change, SettingChange)
    return change.account, change.setting, change.value


def test_what_a_node_is_asked(lake: Lake, market: Market, told: dict[str, Any]) -> None:
    """``--verify``: every claim about bands and users is what the contracts said."""
    config = lake.market_config(MARKET)
    there = next(one for one in told["figures"] if sum(map(bool, one["users"])) > 5)
    block, ids = there["block"], {address: AccountId(n) for n, address in enumerate(market.accounts)}
    people = {ids[user]: user for user in told["users"] if user in ids}
    claims = list(LLAMMA.claims(config, lambda name, columns: _canonical(lake, name, columns), [block], people))
    said: dict[tuple[str, int], int] = {}
    for n, x, y, _ in there["bands"]:
        said["bands_x(int256)", n % 2**256], said["bands_y(int256)", n % 2**256] = x, y
    for user, numbers in zip(told["users"], there["users"], strict=True):
        said["loan_exists(address)", int(user, 16)] = int(bool(numbers))
    seen = Counter(claim.function for claim in claims if (claim.function, *claim.arguments) in said)
    assert min(seen.values()) > 5
    for claim in claims:
        if claim.function == "active_band()":
            assert claim.value == there["amm"][0] % 2**256
        elif claim.function == "read_user_tick_numbers(address)":
            user = next(user for user in told["users"] if int(user, 16) == claim.arguments[0])
            assert claim.value == there["users"][told["users"].index(user)][3 + claim.place] % 2**256
        elif (key := (claim.function, *claim.arguments)) in said:
            assert claim.value == said[key], claim


def test_an_account_of_one_moment_is_what_the_contracts_said(lake: Lake, told: dict[str, Any]) -> None:
    """With no replay: an exchange with the AMM moves every loan's tokens, and leaves a change of no account."""
    there = told["figures"][-1]
    names = ("collateral in bands", "borrowed tokens in bands", "debt", "first band", "last band", "x_down", "y_up",
             "health", "full health", "liquidation discount")  # fmt: skip
    for user, numbers in zip(told["users"], there["users"], strict=True):
        if numbers:
            account = account_at(lake, MARKET, user, block=there["block"])
            assert [account[name] for name in names] == numbers
    assert account_at(lake, MARKET, "0x" + "07" * 20).figures == ()


def test_who_is_near_has_the_health_that_the_contracts_said(lake: Lake, told: dict[str, Any]) -> None:
    there = told["figures"][-1]
    found = near_in_lake(lake, MARKET, 9_999, block=there["block"])
    assert [one.health for _, one in found.accounts] == sorted(
        numbers[8] + WAD for numbers in there["users"] if numbers
    )


def test_where_sql_has_no_rows_is_said(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    info(lake=lake.path)
    assert "no rows in views of positions and health" in capsys.readouterr().out
    assert lake.sql("SELECT * FROM positions").fetchall() == []


def test_a_state_of_one_moment_has_what_the_amm_holds(market: Market, timeline: Timeline, told: dict[str, Any]) -> None:
    there = told["figures"][-1]
    state, _, _ = state_at(LLAMMA, market, timeline, there["block"])
    bands = [[n, x, y] for n, x, y, _ in there["bands"]]
    assert [[n, state.amm.band(n).x, state.amm.band(n).y] for n, *_ in bands] == bands


def test_a_model_that_only_looks_finds_liquidatable_what_history_liquidated(market: Market, timeline: Timeline) -> None:
    """The book in which offers of history stand; an owner may close a loan that others may not."""
    ahead = look_ahead(LLAMMA, market, timeline, Competitive(), {})
    hard = [past for past in ahead.pasts if past.event.account]
    assert len(hard) == 44
    others = [past.refusal for past in hard if past.event.liquidator != past.event.account]
    assert len(others) > 20
    assert set(others) <= {None, "does not pay"}


def test_a_history_that_goes_on_is_folded_on(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In segments of a few logs, across which calls and exchanges reach."""
    monkeypatch.setattr("backtest.protocols.llamma.fold.SEGMENT_ROWS", 100)
    again = imported(tmp_path / "lake")
    reconstruct(again, MARKET)
    for name in ("position_events", "setting_events", "params", "liquidations", "indexes", "accounts"):
        assert _canonical(again, name, None).equals(_canonical(lake, name, None)), name


def test_the_contracts_of_june_2023(tmp_path: Path) -> None:
    """AMM and controller of revision 1: the same of a session of theirs."""
    lake, there = imported(tmp_path / "lake", folder=FIRST), figures(FIRST)
    reconstruct(lake, MARKET)
    lake.refresh()
    of, history = load_market(lake, MARKET), load_timeline(lake, MARKET)
    assert sum(isinstance(event, HistoricalLiquidation) for event in history) > 40
    test_every_number_of_the_amm(of, history, there)
    for book, moment in books(of, history, there):
        check_users(of, book, there["users"], moment)
    assert replay(LLAMMA, of, history, Scenario()).mismatches == []
    assert sum(remade(of, history).values()) > 40


def _canonical(lake: Lake, name: str, columns: Sequence[str] | None) -> pa.Table:
    return lake.read(f"canonical/{name}", MARKET, columns=None if columns is None else list(columns))
