"""The test chain does what other tests rely on: order, reproducibility, snapshots, and reads of the past."""

from __future__ import annotations

import socket

import pytest
from pytest_socket import SocketConnectBlockedError

from tests.chain.aave import upgrade_v30_to_v36
from tests.chain.contracts import own
from tests.chain.deployment import Deployment
from tests.chain.market import START, Record, run
from tests.chain.node import Node, Reverted, Transaction


@pytest.mark.filterwarnings("ignore:A test tried to use socket")
def test_the_network_is_loopback_only() -> None:
    with pytest.raises(SocketConnectBlockedError):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


def test_one_block_keeps_the_order_of_its_transactions(anvil: Node) -> None:
    token = anvil.deploy(own("Token.sol")["Token"], "ABC", 6)
    receipts = anvil.send_block(
        [token.transaction("mint", anvil.admin, amount, sender=f"0x{amount + 16:040x}") for amount in range(50)]
    )
    logs = anvil.get_logs(address=token.address)
    assert [int(log["data"], 16) for log in logs] == list(range(50))
    assert {receipt["blockNumber"] for receipt in receipts} == {logs[0]["blockNumber"]}
    assert token.call("balanceOf", anvil.admin) == sum(range(50))


def test_failed_transactions_are_told(anvil: Node) -> None:
    token = anvil.deploy(own("Token.sol")["Token"], "ABC", 6)
    with pytest.raises(Reverted):
        token.send("transfer", anvil.accounts[1], 1)
    receipts = anvil.send_block(
        [token.transaction("mint", anvil.admin, 5), token.transaction("transfer", anvil.accounts[1], 9)]
    )
    assert [receipt["status"] for receipt in receipts] == ["0x1", "0x0"]


def test_blocks_are_reproducible_and_snapshots_go_back(anvil: Node) -> None:
    start, hashes = anvil.block_number, []
    for _ in range(2):
        snapshot = anvil.snapshot()
        token = anvil.deploy(own("Token.sol")["Token"], "ABC", 6)
        anvil.warp(3600)
        token.send("mint", anvil.admin, 1)
        assert anvil.timestamp() - anvil.timestamp(start + 1) == 3600
        hashes.append(anvil.block()["hash"])
        anvil.revert(snapshot)
        assert anvil.block_number == start
    assert hashes[0] == hashes[1]


def test_a_read_of_the_past_runs_at_that_block_number_and_time(anvil: Node) -> None:
    anvil.mine(3)
    anvil.warp(5000)
    anvil.mine(3)
    returns_timestamp, returns_number = "0x4260005260206000f3", "0x4360005260206000f3"
    for block in range(anvil.block_number + 1):
        assert int(anvil.rpc("eth_call", {"data": returns_timestamp}, hex(block)), 16) == anvil.timestamp(block)
        assert int(anvil.rpc("eth_call", {"data": returns_number}, hex(block)), 16) == block
    assert int(anvil.rpc("eth_call", {"data": returns_timestamp}, "latest"), 16) == anvil.timestamp()


def _one_loan(market: Deployment) -> tuple[str, str]:
    node = market.node
    lender, borrower = node.accounts[1], node.accounts[2]
    mint = [
        market.reserves["USDC"].asset.transaction("mint", lender, 10**12),
        market.reserves["WETH"].asset.transaction("mint", borrower, 10**20),
    ]
    steps = [
        market.supply(lender, "USDC", 10**12),
        market.supply(borrower, "WETH", 10**20),
        market.borrow(borrower, "USDC", 10**10),
    ]
    _mined(node, mint + steps)
    return lender, borrower


def _check_account_data(market: Deployment) -> None:
    node, accounts = market.node, list(_one_loan(market))
    first = node.block_number
    debts = []
    for _ in range(3):
        node.warp(86400)
        node.mine()
    for block in range(first, first + 4):
        data = market.account_data(accounts, block)
        assert data[1] == market.pool.call("getUserAccountData", accounts[1], block=block)
        assert data[1] is not None
        debts.append(data[1][1])
    assert debts == sorted(set(debts)), "interest accrues up to the block that is read"
    assert market.scaled_balances(accounts)[1][0] == 10**20
    assert market.user_configuration(accounts) == [2 << 2 * 2, 2 | 1 << 2 * 2]


def test_market_of_version_30(fresh_v30: Deployment) -> None:
    assert fresh_v30.pool.call("POOL_REVISION") == 1
    _check_account_data(fresh_v30)


def test_market_of_version_36(fresh_v36: Deployment) -> None:
    assert fresh_v36.pool.call("POOL_REVISION") == 10
    _check_account_data(fresh_v36)


def test_upgrade_of_a_market_in_use(fresh_v30: Deployment) -> None:
    """Balances and settings outlive the upgrade to the last unit of scaled balance; the new rules are in force on the
    same addresses.
    """
    node, (lender, borrower) = fresh_v30.node, _one_loan(fresh_v30)
    _mined(node, [fresh_v30.set_emode(lender, 2)])
    node.warp(86400 * 100)
    before = (
        fresh_v30.scaled_balances([lender, borrower]),
        fresh_v30.user_configuration([lender, borrower]),
        fresh_v30.user_emode([lender]),
    )
    market = upgrade_v30_to_v36(fresh_v30)
    assert market.pool.call("POOL_REVISION") == 10
    assert before == (
        market.scaled_balances([lender, borrower]),
        market.user_configuration([lender, borrower]),
        market.user_emode([lender]),
    )
    for reserve in market.reserves.values():
        assert reserve.a_token.call("ATOKEN_REVISION") == reserve.debt_token.call("DEBT_TOKEN_REVISION") == 5
        held = reserve.asset.call("balanceOf", reserve.a_token.address)
        assert market.pool.call("getVirtualUnderlyingBalance", reserve.asset.address) == held
        assert market.pool.call("getReserveDeficit", reserve.asset.address) == 0
    for symbol in ("USDC", "DAI"):
        assert market.pool.call("getEModeCategoryCollateralBitmap", 2) >> market.reserves[symbol].id & 1
    crash = (
        market.reserves["WETH"].feed.transmit(50_00000000),
        market.reserves["USDC"].asset.transaction("mint", lender, 10**12),
    )
    _mined(node, [*crash, market.liquidate(lender, "WETH", "USDC", borrower, receive_a_token=True)])
    (loss,) = node.get_logs(
        topics=["0x2bccfb3fad376d59d7accf970515eb77b2f27b082c90ed0fb15583dd5a942699"], address=market.pool.address
    )
    assert int(loss["data"], 16) == market.pool.call("getReserveDeficit", market.reserves["USDC"].asset.address) > 0
    assert market.scaled_balances([borrower])[0] == (0,) * 12


def _mined(node: Node, transactions: list[Transaction]) -> None:
    for transaction, receipt in zip(transactions, node.send_block(transactions), strict=True):
        assert receipt["status"] == "0x1", node.revert_reason(transaction, int(receipt["blockNumber"], 16) - 1)


def _check_story(record: Record) -> None:
    """Every kind of thing that other tests want to meet did happen."""
    wanted = {
        "supply",
        "borrow",
        "repay",
        "repay all",
        "repay with aTokens",
        "withdraw",
        "withdraw all",
        "transfer",
        "transfer all",
        "flag",
        "emode",
    }
    assert wanted | {"liquidate", "report", "flash loan", "treasury"} <= {
        kind for kind, count in record.done.items() if count
    }
    assert {
        "phase",
        "source",
        "ratio",
        "threshold",
        "bonus",
        "protocol fee",
        "reserve factor",
        "rates",
        "pause",
        "freeze",
    } <= set(record.marks)
    done = record.liquidations
    assert len(record.accounts) > 200
    assert len(done) > 100
    assert {request.receive_a_token for request in done} == {True, False}
    assert len({request.liquidator for request in done}) > 1
    assert len(record.requests) > len(done), "some requests are refused"
    assert len({request.debt for request in done}) > 3
    assert len({request.collateral for request in done}) > 3
    assert record.samples == sorted(set(record.samples))


def test_crash_on_version_30(market_v30: Record) -> None:
    _check_story(market_v30)
    market = market_v30.deployment
    rows = market.account_data(market_v30.accounts)
    assert any(row and row[1] and not row[0] for row in rows), "bad debt stays in the account"


def test_crash_on_version_36(market_v36: Record) -> None:
    _check_story(market_v36)
    market = market_v36.deployment
    created = market.node.get_logs(topics=["0x2bccfb3fad376d59d7accf970515eb77b2f27b082c90ed0fb15583dd5a942699"])
    assert created, "bad debt is written off"
    assert market_v36.marks["deficit covered"]
    assert "MustNotLeaveDust" in {request.error for request in market_v36.requests}


def test_crash_with_an_upgrade_in_the_middle(market_upgraded: Record) -> None:
    _check_story(market_upgraded)
    (upgrade,) = market_upgraded.marks["upgrade"]
    blocks = [request.block for request in market_upgraded.liquidations]
    assert min(blocks) < upgrade < max(blocks)
    market = market_upgraded.deployment
    assert [market.pool.call("POOL_REVISION", block=block) for block in (upgrade - 1, upgrade)] == [1, 10]


def test_calm_market(market_calm: Record) -> None:
    assert (market_calm.refused, market_calm.requests) == ([], [])
    assert sum(market_calm.done.values()) > 1000


def test_the_story_is_reproducible(chain_packages: None) -> None:
    hashes = []
    for _ in range(2):
        with Node(timestamp=START) as node:
            run(node, "3.6", accounts=100, calm=True)
            hashes.append(node.block()["hash"])
    assert hashes[0] == hashes[1]
