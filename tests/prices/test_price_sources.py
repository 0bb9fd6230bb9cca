"""Fallback oracles and e-mode price sources: what the market's oracle is asked, and by which price."""

from __future__ import annotations

from backtest.model import AccountId, Asset, AssetId, Clock, Market
from backtest.protocols.aave_v3.account import account_data, linear_exposure
from backtest.protocols.aave_v3.events import discover, price_sources
from backtest.protocols.aave_v3.rules import rules_for
from backtest.protocols.aave_v3.state import Account, Category, open_state
from tests.support.aave_logs import ORACLE, Logs, address, asset

ZERO = "0x" + "00" * 20


def test_a_fallback_that_logs_its_sources_is_asked_after_the_oracle_s_own() -> None:
    logs, fallback = Logs(), address("fallback")
    logs.tx()
    logs.log("AssetSourceUpdated", at=ORACLE, asset=asset("WETH"), source=address("feed 1"))
    logs.log("AssetSourceUpdated", at=fallback, asset=asset("WETH"), source=address("feed 2"))
    logs.tx()
    logs.log("FallbackOracleUpdated", at=ORACLE, fallback_oracle=fallback)
    logs.tx()
    logs.log("FallbackOracleUpdated", at=ORACLE, fallback_oracle=address("silent"))
    found = [(c.block_number, c.source, c.others, c.untold) for c in price_sources(logs.memory())]
    assert [row[1:] for row in found] == [
        (address("feed 1"), (), False),
        (address("feed 1"), (address("feed 2"),), False),
        (address("feed 1"), (), True),
    ]
    assert {fallback, address("silent")} <= discover({}, logs.memory())["oracle"]


def _market(revision: int) -> tuple[object, dict[AssetId, int]]:
    names = ("WETH", "USDC", "price")
    assets = tuple(Asset(AssetId(i), f"0x{i:040x}", name, 0) for i, name in enumerate(names))
    state = open_state(Market(name="m", protocol="aave-v3", chain_id=1, assets=assets, accounts=("a",)))
    state.revision = rules_for(revision, 1)
    for reserve in state.reserves[:2]:
        reserve.liquidation_threshold = reserve.ltv = 8000
        reserve.emode_category = 1
    members = {AssetId(0)}
    state.categories[1] = Category(9000, 9000, 10100, price_source=AssetId(2), collateral=members)
    state.accounts[AccountId(0)] = Account({AssetId(0): 10}, {AssetId(1): 100}, {AssetId(0)}, emode=1)
    return state, {AssetId(0): 2000, AssetId(1): 10, AssetId(2): 1000}


def test_the_category_s_price_counts_to_31_and_no_longer() -> None:
    state, prices = _market(3)
    data = account_data(state, AccountId(0), prices, Clock(1, 0, 0))  # type: ignore[arg-type]
    assert data[:2] == (10 * 1000, 100 * 1000)
    form = linear_exposure(state, AccountId(0), Clock(1, 0, 7))  # type: ignore[arg-type]
    assert form is not None
    assert set(form.weights) == {AssetId(2)}
    assert form.until == 6
    state, prices = _market(5)
    data = account_data(state, AccountId(0), prices, Clock(1, 0, 0))  # type: ignore[arg-type]
    assert data[:2] == (10 * 2000, 100 * 10)
