"""``backtest prove`` and ``backtest verify`` against a node: headers of every fork, a market from lake to proof, a lake
that is wrong, and a node that lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from backtest.cli import main
from backtest.errors import FetchError, UserError
from backtest.fetch import fetch
from backtest.fetch.proofs import fetch_header
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.proofs import read_header
from backtest.protocols.storage import at_key
from backtest.prove import prove
from backtest.reconstruct import reconstruct
from tests.chain.morpho import Deployment, deploy
from tests.chain.node import Node

ALICE, BOB = "0x" + "a1" * 20, "0x" + "b0" * 20
NAMES = ("weth-usdc", "wbtc-weth")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


@pytest.mark.parametrize("fork", ["frontier", "berlin", "london", "paris", "shanghai", "cancun", "prague", "osaka"])
def test_headers_of_every_fork_have_their_hash(chain_packages: None, fork: str) -> None:
    with Node(hardfork=fork) as node, Rpc(node.url) as rpc:
        node.mine(2)
        told = node.block(2)
        data, found = fetch_header(rpc, 2)
        assert (found.hash, found.number) == (told["hash"], 2)
        assert "0x" + found.state_root.hex() == told["stateRoot"]
        assert read_header(data).timestamp == int(told["timestamp"], 16)


@pytest.fixture(scope="module")
def market(chain_packages: None) -> Iterator[Deployment]:
    """bob lends and alice borrows in both markets, half a year passes, and interest accrues in the last two blocks:
    only an accrual tells the rate of a model that is not the adaptive curve.
    """
    with Node() as node:
        made = deploy(node)
        for pair in made.pairs.values():
            unit, coin = 10**pair.loan_decimals, 10**pair.collateral_decimals
            for token in (pair.loan, pair.collateral):
                node.send(token.transaction("mintMany", [ALICE, BOB], 10**30))
            for user in (ALICE, BOB):
                node.send(pair.loan.transaction("approve", made.morpho.address, 10**40, sender=user))
                node.send(pair.collateral.transaction("approve", made.morpho.address, 10**40, sender=user))
            worth = pair.price * 8 // 10 * unit // 1_000
            node.send(made.call(pair, "supply", 2 * worth, 0, BOB, b"", sender=BOB))
            node.send(made.call(pair, "supplyCollateral", coin, ALICE, b"", sender=ALICE))
            node.send(made.call(pair, "borrow", worth, 0, ALICE, ALICE, sender=ALICE))
        node.warp(180 * 86_400)
        node.mine()
        for pair in made.pairs.values():
            node.send(made.morpho.transaction("accrueInterest", pair.params))
        yield made


@pytest.fixture(scope="module")
def lake(market: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return _fetched(market, tmp_path_factory.mktemp("proven"))


def _fetched(market: Deployment, path: Path) -> Lake:
    lake = Lake(path, create=True)
    for name in NAMES:
        with Rpc(market.node.url) as rpc:
            fetch(lake, market.market_config(name), rpc, finality=0, headers="all")
        lake.refresh()
        reconstruct(lake, name)
        lake.refresh()
    return lake


def test_an_account_goes_from_lake_to_proof_and_is_verified_without_a_node(
    market: Deployment, lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed is what the contract says, and which input is of which kind."""
    node, told = market.node, {}
    block = node.block_number - 2
    for name in NAMES:
        path = tmp_path / f"{name}.proof"
        words = ["prove", ALICE, "--lake", str(lake.path), "--market", name, "--rpc", node.url, "--out", str(path)]
        assert run(*words, "--block", str(block)) == 0
        made = capsys.readouterr().out
        assert "the lake says the same" in made
        assert run("verify", str(path), "--block-hash", node.block(block)["hash"]) == 0
        told[name] = capsys.readouterr().out
        assert told[name].splitlines()[:10] == made.splitlines()[:10]
        (row,) = market.positions(market.pairs[name], [ALICE], block)
        for label, value in zip(("borrow_shares", "collateral", "borrow_assets"), (*row[1:3], row[4]), strict=True):
            assert f"  {label:<30} {value:<40}" in told[name]
    for said in told.values():
        assert said.index("proven by storage") < said.index("worked out by running the contracts' code")
        assert said.index("worked out") < said.index("rate of interest since the last accrual")
        assert said.index("worked out") < said.index("price of W")
        assert "not proven" not in said


def test_an_earlier_block_is_proven_by_its_own_state(market: Deployment, lake: Lake) -> None:
    with Rpc(market.node.url) as rpc:
        block = market.node.block_number - 2
        found = prove(lake, "weth-usdc", ALICE, rpc, block=block)
        later = prove(lake, "weth-usdc", ALICE, rpc)
    assert found.differences == later.differences == ()
    assert found.checked.block.hash == market.node.block(block)["hash"]
    owed = [{each.name: each.value for each in of.checked.figures or ()}["borrow_assets"] for of in (found, later)]
    assert owed[0] is not None
    assert owed[1] is not None
    assert owed[0] < owed[1]


def test_where_the_chain_says_something_else_nothing_is_written(
    market: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of alice's collateral goes without a log."""
    node, pair = market.node, market.pairs["wbtc-weth"]
    snapshot = node.snapshot()
    slot = at_key(2, pair.id, ALICE) + 1
    shares = market.positions(pair, [ALICE])[0][1]
    word = 10**pair.collateral_decimals // 2 << 128 | shares
    node.rpc("anvil_setStorageAt", market.morpho.address, f"0x{slot:064x}", f"0x{word:064x}")
    node.mine()
    lake, out = _fetched(market, tmp_path / "lake"), tmp_path / "out.proof"
    words = ["prove", ALICE, "--lake", str(lake.path), "--market", pair.name, "--rpc", node.url, "--out", str(out)]
    assert run(*words) == 1
    said = capsys.readouterr().out
    assert "collateral: the lake says 100000000, the chain 50000000" in said
    assert said.endswith("no proof was written\n")
    assert not out.exists()
    node.revert(snapshot)


class _LyingRpc(Rpc):
    """Changes one byte of every proof of storage."""

    def call_many(self, calls: Sequence[tuple[str, Sequence[Any]]], kind: Any = Any) -> list[Any]:
        replies = super().call_many(calls, kind)
        if calls[0][0] == "eth_getProof":
            for reply in replies:
                last = reply.storage_proof[0].proof
                last[-1] = last[-1][:-2] + ("00" if last[-1][-2:] != "00" else "01")
        return replies


def test_a_node_that_lies_is_found_out(market: Deployment, lake: Lake) -> None:
    with (
        _LyingRpc(market.node.url) as rpc,
        pytest.raises(FetchError, match=r"eth_getProof of 0x\w+: the proof of slot"),
    ):
        prove(lake, "weth-usdc", ALICE, rpc)


def test_what_cannot_be_proven_is_said(market: Deployment, lake: Lake, tmp_path: Path) -> None:
    with Rpc(market.node.url) as rpc:
        with pytest.raises(FetchError, match="has no block 5000000"):
            prove(lake, "weth-usdc", ALICE, rpc, block=5_000_000)
        with pytest.raises(UserError, match="has no account 'alice'"):
            prove(lake, "weth-usdc", "alice", rpc)
    with Node(chain_id=5) as other, Rpc(other.url) as rpc, pytest.raises(UserError, match="is a node of chain 5"):
        prove(lake, "weth-usdc", ALICE, rpc)
