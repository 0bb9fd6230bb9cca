"""Accounts read from storage are the contracts' own: ``getUserAccountData``, balances; 3.0, 3.6, and an upgrade."""

from __future__ import annotations

import random

import pytest

from backtest.fetch.rpc import Rpc
from backtest.units import WAD
from tests.chain.deployment import Deployment
from tests.chain.market import Record
from tests.support.storage_reads import from_storage, numbers

ACCOUNTS_A_BLOCK = 3


def _compare(record: Record, blocks: int) -> None:
    market, draw = record.deployment, random.Random(blocks)
    config = market.market_config()
    assets = tuple(reserve.asset.address for reserve in market.reserves.values())
    compared = unhealthy = in_emode = 0
    with Rpc(market.node.url) as rpc:
        for block in sorted(draw.sample(record.samples[len(record.samples) // 4 :], blocks)):
            accounts = draw.sample(record.accounts, ACCOUNTS_A_BLOCK)
            scaled = market.scaled_balances(accounts, block)
            for account, theirs, balances in zip(accounts, market.account_data(accounts, block), scaled, strict=True):
                found = from_storage(rpc, config, account, block, assets)
                assert numbers(found) == theirs, f"{account} at {block}"
                held = {each.asset: each for each in found.holdings}
                mine = [
                    getattr(held[id], side) if id in held else 0  # reserves are in the pool's order
                    for side in ("collateral_scaled", "debt_scaled")
                    for id in range(len(assets))
                ]
                assert tuple(mine) == balances
                compared += bool(found.holdings)
                unhealthy += found.view is not None and found.view.health is not None and found.view.health < WAD
                in_emode += found.view is not None and found.view.category != 0
    assert compared > blocks
    assert unhealthy
    assert in_emode


@pytest.mark.slow
def test_accounts_of_30_from_storage_are_the_contracts(market_v30: Record) -> None:
    _compare(market_v30, 6)


@pytest.mark.slow
def test_accounts_of_36_from_storage_are_the_contracts(market_v36: Record) -> None:
    _compare(market_v36, 6)


@pytest.mark.slow
def test_accounts_across_an_upgrade_from_storage_are_the_contracts(market_upgraded: Record) -> None:
    _compare(market_upgraded, 6)


def test_stable_debt_and_the_price_of_an_e_mode_of_30_from_storage(fresh_v30: Deployment) -> None:
    """A borrower of both kinds of debt; then in an e-mode that takes another asset's price for its members."""
    market, node = fresh_v30, fresh_v30.node
    lender, borrower = node.accounts[1], node.accounts[2]
    dai, weth, config = market.reserves["DAI"], market.reserves["WETH"], market.market_config()
    node.send_block([market.configure("setReserveStableRateBorrowing", "DAI", True)])
    node.send_block([dai.asset.transaction("mint", lender, 10**25), weth.asset.transaction("mint", borrower, 10**21)])
    node.send_block([market.supply(lender, "DAI", 10**25), market.supply(borrower, "WETH", 10**21)])
    for receipt in node.send_block([market.borrow(borrower, "DAI", 10**22), market.borrow(borrower, "DAI", 10**23, 1)]):
        assert receipt["status"] == "0x1"
    node.warp(200 * 86_400)
    node.mine()
    with Rpc(node.url) as rpc:
        found = from_storage(rpc, config, borrower, node.block_number)
        assert numbers(found) == market.account_data([borrower])[0]
        assert any("stable debt among them" in each.what for each in found.inputs)
        node.send_block([market.configure("setAssetEModeCategory", symbol, 1) for symbol in ("DAI", "WETH")])
        node.send(market.set_emode(borrower, 1))
        unlisted = "0x" + "0e" * 20
        node.send(market.oracle.transaction("setAssetSources", [unlisted], [weth.source]))
        for source in (market.reserves["USDC"].asset.address, unlisted):
            category = (1, 9_000, 9_300, 10_100, source, "one price")
            node.send(market.configurator.transaction("setEModeCategory", *category))
            found = from_storage(rpc, config, borrower, node.block_number)
            assert numbers(found) == market.account_data([borrower])[0]
            assert found.view is not None
            assert found.view.category == 1
