"""The test chain does what other tests rely on: order, reproducibility, snapshots, and reads of the past."""

from __future__ import annotations

import pytest

from tests.chain.contracts import own
from tests.chain.node import Node, Reverted


def test_one_block_keeps_the_order_of_its_transactions(anvil: Node) -> None:
    token = anvil.deploy(own("Token.sol")["Token"], "ABC", 6)
    receipts = anvil.send_block([token.transaction("mint", anvil.admin, amount, sender=f"0x{amount + 16:040x}") for amount in range(50)])
    logs = anvil.get_logs(address=token.address)
    assert [int(log["data"], 16) for log in logs] == list(range(50))
    assert {receipt["blockNumber"] for receipt in receipts} == {logs[0]["blockNumber"]}
    assert token.call("balanceOf", anvil.admin) == sum(range(50))


def test_failed_transactions_are_told(anvil: Node) -> None:
    token = anvil.deploy(own("Token.sol")["Token"], "ABC", 6)
    with pytest.raises(Reverted):
        token.send("transfer", anvil.accounts[1], 1)
    receipts = anvil.send_block([token.transaction("mint", anvil.admin, 5), token.transaction("transfer", anvil.accounts[1], 9)])
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
