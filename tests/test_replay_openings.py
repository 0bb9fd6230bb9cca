"""Accounts opened with what their past comes to are those that every change of it was applied to, in book and users."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import RulesError
from backtest.model import AccountId, AssetId, PositionChange, SettingChange, Side
from backtest.protocols import Opening
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.replay.book import Book
from backtest.replay.engine import replay
from backtest.replay.users import UserActions
from backtest.scenario import Competitive, Scenario, Users
from tests.sketches.history import History, market

MARKET = market(("WETH", 18), ("USDC", 6), ("DAI", 18), protocol="aave-v3")
IDS = st.integers(0, 3).map(AccountId)
ASSETS = st.integers(0, 2).map(AssetId)
SIDES: st.SearchStrategy[Side] = st.sampled_from(("collateral", "debt"))
BALANCES = st.dictionaries(st.tuples(IDS, ASSETS, SIDES), st.integers(0, 2**110))
SETTINGS = st.dictionaries(
    st.tuples(IDS, st.sampled_from(("collateral_enabled", "stable_principal", "stable_rate", "stable_since")), ASSETS)
    | st.tuples(IDS, st.just("emode"), st.none()),
    st.integers(0, 3),
)
CHANGES = st.lists(st.tuples(st.booleans(), IDS, ASSETS, SIDES, st.integers(-(2**100), 2**100), st.integers(0, 2)), max_size=8)

Balances = dict[tuple[AccountId, AssetId, Side], int]
Settings = dict[tuple[AccountId, str, AssetId | None], int]


def position(account: AccountId, asset: AssetId, side: Side, delta: int) -> PositionChange:
    return PositionChange(
        seq=0, block_number=3, log_index=0, timestamp=36, account=account, asset=asset, side=side, delta=delta, action="supply", action_seq=0
    )


def setting(account: AccountId, name: str, asset: AssetId | None, value: int) -> SettingChange:
    return SettingChange(
        seq=0, block_number=3, log_index=0, timestamp=36, account=account, setting=name, asset=asset, value=value, action="other", action_seq=0
    )


def events(balances: Balances, choices: Settings) -> list[PositionChange | SettingChange]:
    """Up to each balance and beyond, and back; each setting twice."""
    made: list[PositionChange | SettingChange] = []
    for (account, asset, side), amount in balances.items():
        made += [position(account, asset, side, amount + 7), position(account, asset, side, -7)]
    for (account, name, of), value in choices.items():
        made += [setting(account, name, of, 1), setting(account, name, of, value)]
    return made


def opening(balances: Balances, choices: Settings) -> Opening:
    held, owned = (sorted(found.items(), key=lambda each: each[0][0]) for found in (balances, choices))
    return Opening(
        ([k[0] for k, _ in held], [k[1] for k, _ in held], [k[2] for k, _ in held], [v for _, v in held]),
        ([k[0] for k, _ in owned], [k[1] for k, _ in owned], [k[2] for k, _ in owned], [v for _, v in owned], [3] * len(owned)),
    )


@settings(max_examples=200, deadline=None)
@given(BALANCES, SETTINGS)
def test_the_book_is_that_of_the_changes(balances: Balances, choices: Settings) -> None:
    plain, at_once = (Book.open(AAVE_V3, MARKET) for _ in range(2))
    for event in events(balances, choices):
        plain.apply(event)
    AAVE_V3.open_accounts(at_once.state, opening(balances, choices))
    assert at_once == plain


@settings(max_examples=200, deadline=None)
@given(BALANCES, SETTINGS, CHANGES)
def test_users_begin_where_the_changes_left_them(
    balances: Balances, choices: Settings, later: list[tuple[bool, AccountId, AssetId, Side, int, int]]
) -> None:
    """Who differs from history, what an action empties, and what is compared with by users who respond: all as after every change."""
    plain, at_once = (UserActions(AAVE_V3, MARKET, Users(response="same-health"), recompute=False) for _ in range(2))
    plain.repeat(events(balances, choices))
    at_once.open(opening(balances, choices))
    at_once = at_once.copy()
    for users in (plain, at_once):
        for ours, account, asset, side, delta, value in later:
            note = users.modelled if ours else users.historical
            note(position(account, asset, side, delta))
            note(setting(account, "collateral_enabled", asset, value))
        assert users._shadow is not None
    assert at_once.differs == plain.differs
    assert at_once._shadow == plain._shadow
    for (account, asset, side), amount in balances.items():
        change = position(account, asset, side, -amount)
        assert at_once._emptied([change]) == plain._emptied([change])


@pytest.mark.parametrize(("name", "asset"), [("unheard_of", 0), ("collateral_enabled", None)])
def test_a_setting_that_nobody_knows_is_refused_as_by_the_plain_replay(name: str, asset: int | None) -> None:
    h = History(MARKET)
    h.param("pool_revision", 10).price(0, 1).block(5).setting(0, name, 1, asset).position(1, 0, "collateral", 5).block(9).price(0, 1)
    said = []
    for screened in (True, False):
        with pytest.raises(RulesError) as error:
            replay(AAVE_V3, h.market, h.timeline(), Scenario(liquidators=Competitive(), from_block=9), screened=screened)
        said.append(error.value.what)
    assert said[0] == said[1]
    assert "block 5" in said[0]
