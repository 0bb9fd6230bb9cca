"""A node that lies about contents: order, calls, state, headers, symbols. Every lie is refused by a line that says what
and where, or is found by ``check`` and by ``--verify``, and is mended by fetching the range again.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from backtest.errors import FetchError
from backtest.fetch.adapters import selector
from backtest.lake import Lake, checks
from tests.support import faults as f
from tests.support.fetching import calls_of, run
from tests.support.lies import counted_anew, false_header
from tests.support.synthetic import Chain, ChainNode, made_up_chain, word


@pytest.fixture(scope="module")
def chain() -> Chain:
    return made_up_chain(height=300, per_block=3.0, seed=12, odd=False)


@pytest.fixture
def node(chain: Chain) -> Iterator[ChainNode]:
    with ChainNode(chain, calls_of(chain)) as node:
        yield node


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def finding(lake: Lake, check: str) -> checks.Finding:
    return next(found for found in checks.run(Lake(lake.path)) if found.check == check)


# -- order
# -----------------------------------------------------------------------------------------------------------


def test_log_indexes_counted_within_each_transaction_are_refused(node: ChainNode, lake: Lake) -> None:
    plan = f.Plan(always=[f.logs_fault(lambda logs, draw: [counted_anew(log) for log in logs])])
    message = r"log \d+ of block \d+|counts log indexes within each transaction: in block \d+.*use another node"
    with f.FaultProxy(node.url, plan) as proxy, pytest.raises(FetchError, match=message):
        run(lake, proxy.url)
    lake.refresh()
    assert "raw/vaults/Deposit" not in lake.datasets("made-up")


@pytest.mark.slow
def test_logs_out_of_order_in_a_lake_are_found_by_the_check(node: ChainNode, lake: Lake) -> None:
    run(lake, node.url)
    assert finding(lake, "logs__in_order").violations == 0
    table = lake.read("raw/vaults/Deposit", "made-up")
    place = table.schema.get_field_index("transaction_index")
    field = table.schema.field(place)
    indexes, blocks = table["transaction_index"].to_pylist(), table["block_number"].to_pylist()
    first = next(row for row in range(len(blocks)) if blocks[row] == blocks[row + 1])
    indexes[first] = 9
    wrong = table.set_column(place, field, pa.array(indexes, field.type))
    with lake.writer() as writer:
        writer.replace("made-up", "raw/vaults/Deposit", [("raw/vaults/Deposit", wrong)], stamp="")
    found = finding(lake, "logs__in_order")
    assert found.violations
    assert f"block_number {blocks[first]}" in " ".join(found.examples)


# -- one bad reply, mended by fetching again
# ---------------------------------------------------------------------------------------------------------


def digest_of(lake: Lake) -> str:
    return Lake(lake.path).digest("made-up")


@pytest.fixture
def clean(node: ChainNode, tmp_path: Path) -> str:
    calm = Lake(tmp_path / "clean", create=True)
    run(calm, node.url, headers="all")
    return calm.digest("made-up")


@pytest.mark.slow
def test_an_undecodable_log_is_mended_by_fetching_its_blocks_again(
    chain: Chain, node: ChainNode, lake: Lake, clean: str
) -> None:
    block, log = next((b, log) for b, own in sorted(chain.logs.items()) for log in own if len(log.data) == 192)

    def broken(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        """Its flag is neither 0 nor 1, whichever way it is asked for."""
        if b"eth_getLogs" not in body:
            return None
        status, headers, data = forward(body)
        return status, headers, data.replace(log.data.encode(), (log.data[:-2] + "ff").encode())

    with f.FaultProxy(node.url, f.Plan(always=[broken])) as proxy:
        run(lake, proxy.url, headers="all")
    assert finding(lake, "quarantine__empty").violations == 1
    run(lake, node.url, headers="all")
    assert digest_of(lake) != clean, "its range counts as covered"
    summary = run(lake, node.url, headers="all", again=(block, block))
    assert any(f"blocks {block} to {block} are fetched again" in note for note in summary.notes)
    assert digest_of(lake) == clean
    assert finding(lake, "quarantine__empty").violations == 0


@pytest.mark.slow
@pytest.mark.parametrize("part", [(0, 300), (40, 120), (0, 10), (299, 300)])
def test_fetching_any_part_again_from_the_same_node_changes_nothing(
    node: ChainNode, lake: Lake, clean: str, part: tuple[int, int]
) -> None:
    run(lake, node.url, headers="all")
    run(lake, node.url, headers="all", again=part)
    assert digest_of(lake) == clean
    assert all(finding.passed for finding in checks.run(Lake(lake.path)) if finding.check != "prices__present")


def test_an_interrupted_fetch_again_leaves_the_lake_as_it_was(node: ChainNode, lake: Lake, clean: str) -> None:
    run(lake, node.url, headers="all")
    version = Lake(lake.path).manifest.version

    def dies(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        late = proxy.requests > 12 and b"fromBlock" in body
        return f.error_reply(body, -32000, "unauthorized: key expired") if late else None

    plan = f.Plan(always=[f.range_limit(20, -32000, "block range is too wide")])
    with f.FaultProxy(node.url, plan) as proxy:
        plan.always = [dies, *plan.always]
        with pytest.raises(FetchError, match="key expired"):
            run(lake, proxy.url, headers="all", again=(0, 300))
    assert lake.digest("made-up") == digest_of(lake) == clean
    assert Lake(lake.path).manifest.version == version


def test_a_false_symbol_is_mended_by_fetching_again(chain: Chain, node: ChainNode, lake: Lake, clean: str) -> None:
    calls = calls_of(chain)
    symbol = next(key for key in calls if key[1] == selector("symbol()"))
    with ChainNode(chain, {**calls, symbol: "0x" + word(b"FALSE")}) as liar:
        run(lake, liar.url, headers="all")
    assert "FALSE" in lake.read("raw/chain/Token", "made-up")["symbol"].to_pylist()
    run(lake, node.url, headers="all", again=(5, 5))
    assert digest_of(lake) == clean


@pytest.mark.parametrize(
    "fields", [{"parentHash": "0x" + "ab" * 32}, {"hash": "0x" + "cd" * 32}, {"timestamp": "0x1"}], ids=str
)
def test_a_header_that_does_not_fit_its_neighbours_is_refused(
    node: ChainNode, lake: Lake, clean: str, fields: dict[str, str]
) -> None:
    message = r"headers of blocks (149|150) and 15[01] contradict|logs of block 150 name its hash|block 0xcd"
    with (
        f.FaultProxy(node.url, f.Plan(always=[false_header(150, **fields)])) as proxy,
        pytest.raises(FetchError, match=message),
    ):
        run(lake, proxy.url, headers="all")
    run(lake, node.url, headers="all")
    assert digest_of(lake) == clean


def test_a_false_header_that_is_stored_is_told_by_its_neighbours_and_mended(
    chain: Chain, node: ChainNode, lake: Lake, clean: str
) -> None:
    """With headers of events only, no neighbour may be there; once one comes, it tells."""
    block = min(chain.logs)  # the one before has no logs
    with f.FaultProxy(node.url, f.Plan(always=[false_header(block, parentHash="0x" + "ab" * 32)])) as proxy:
        run(lake, proxy.url)
    with pytest.raises(FetchError, match=rf"headers of blocks {block - 1} and {block} contra.*--again {block - 1}\.\."):
        run(lake, node.url, headers="all")
    run(lake, node.url, headers="all", again=(block - 1, block))
    run(lake, node.url, headers="all")
    assert digest_of(lake) == clean


# -- calls
# -----------------------------------------------------------------------------------------------------------


SYMBOL, REVISION = selector("symbol()"), selector("VAULT_REVISION()")


def denied(*functions: str, chance: float = 1.0) -> f.Fault:
    """Calls of these functions revert one by one, whatever company they are in."""

    def fault(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        if not any(function.encode() in body for function in functions):
            return None
        status, headers, data = forward(body)
        requests, replies = json.loads(body), json.loads(data)
        asked = {one["id"]: one for one in (requests if isinstance(requests, list) else [requests])}
        for reply in replies if isinstance(replies, list) else [replies]:
            call = asked[reply["id"]]
            if call["method"] == "eth_call" and call["params"][0]["data"][:10] in functions and draw.random() < chance:
                reply.pop("result", None)
                reply["error"] = {"code": 3, "message": "execution reverted"}
        return status, headers, json.dumps(replies).encode()

    return fault


@pytest.mark.slow
def test_contracts_that_gave_nothing_are_named_and_asked_again(node: ChainNode, lake: Lake, clean: str) -> None:
    """Denied each time it is asked, nothing tells a lie from a token without a symbol: it is stored, and named."""
    with f.FaultProxy(node.url, f.Plan(always=[denied(SYMBOL, REVISION)])) as proxy:
        summary = run(lake, proxy.url, headers="all")
    notes = [note for note in summary.notes if "contracts__answered" in note]
    assert [note.split(":")[0] for note in notes] == [
        "3 contracts gave no symbol(), by whose addresses they go",
        "3 contracts gave no revision",
    ]
    found = finding(lake, "contracts__answered")
    assert found.violations == 6
    assert any("asked revision" in example for example in found.examples)
    summary = run(lake, node.url, headers="all")
    assert not any("contracts__answered" in note for note in summary.notes)
    assert digest_of(lake) == clean
    assert finding(lake, "contracts__answered").violations == 0


def test_a_batch_of_reverts_alone_is_told_by_a_call_that_answered(node: ChainNode, lake: Lake) -> None:
    """Each request with a symbol in it is denied as a whole, both times: the witness in it tells."""

    def whole(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        return f.error_reply(body, 3, "execution reverted") if SYMBOL.encode() in body else None

    message = (
        r"answered eth_call of 0x\w{40} \(0x313ce567\) at block 300 with a value, and when asked again with nothing"
    )
    with f.FaultProxy(node.url, f.Plan(always=[whole])) as proxy, pytest.raises(FetchError, match=message):
        run(lake, proxy.url)
    lake.refresh()
    assert "raw/chain/Token" not in lake.datasets("made-up")


def test_null_for_a_call_is_no_answer(node: ChainNode, lake: Lake) -> None:
    """As of a node without the state of the block (Besu): taken as a revert, and said of the call that must answer."""

    def null(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        return f.changed_results(body, forward, lambda result: None) if b'"eth_call"' in body else None

    with (
        f.FaultProxy(node.url, f.Plan(always=[null])) as proxy,
        pytest.raises(FetchError, match=r"has no decimals\(\)"),
    ):
        run(lake, proxy.url)


def test_constants_that_were_denied_are_asked_again(node: ChainNode, tmp_path: Path) -> None:
    from backtest.model import Constant
    from tests.support.synthetic import Vaults

    class WithConstants(Vaults):
        def constants(self, raw: Any) -> list[Constant]:
            return [Constant("0x" + row.hex(), "VAULT_REVISION") for row in raw.table("Created")["vault"].to_pylist()]

    calm, lake = Lake(tmp_path / "calm", create=True), Lake(tmp_path / "denied", create=True)
    run(calm, node.url, protocol=WithConstants())
    with f.FaultProxy(node.url, f.Plan(always=[denied(REVISION)])) as proxy:
        run(lake, proxy.url, protocol=WithConstants())
    assert lake.read("raw/chain/Constant", "made-up")["value"].to_pylist() == [None] * 3
    run(lake, node.url, protocol=WithConstants())
    assert digest_of(lake) == digest_of(calm)


def test_a_log_that_is_told_in_two_ways_is_not_believed(node: ChainNode, lake: Lake, clean: str) -> None:
    """Two logs of a block change places in the reply for a range; asked for by the block's hash they do not."""

    def swap(logs: list[dict[str, Any]], draw: random.Random) -> list[dict[str, Any]]:
        for one, other in itertools.pairwise(logs):
            if one["blockNumber"] == other["blockNumber"]:
                one["logIndex"], other["logIndex"] = other["logIndex"], one["logIndex"]
                one["transactionIndex"], other["transactionIndex"] = other["transactionIndex"], one["transactionIndex"]
                break
        return logs

    message = r"told log \d+ of block \d+ in one way, and when asked again in another"
    with f.FaultProxy(node.url, f.Plan(always=[f.logs_fault(swap)])) as proxy, pytest.raises(FetchError, match=message):
        run(lake, proxy.url, headers="all", omissions="always")
    with f.FaultProxy(node.url, f.Plan(sometimes=[f.logs_fault(swap)], chance=0.3, most=2)) as proxy:
        run(lake, proxy.url, headers="all", omissions="always")
    assert digest_of(lake) == clean
