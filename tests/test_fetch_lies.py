"""A node that lies about contents: order, calls, state, headers, symbols. Every lie is refused by a line that says what
and where, or is found by ``check`` and by ``--verify``, and is mended by fetching the range again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from backtest.errors import FetchError
from backtest.lake import Lake, checks
from tests import faults as f
from tests.synthetic import Chain, ChainNode, made_up_chain
from tests.test_fetch_logs import calls_of, run


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


def counted_anew(log: dict[str, Any]) -> dict[str, Any]:
    """The made-up chain has three logs a transaction."""
    return {**log, "logIndex": hex(int(log["logIndex"], 16) % 3)}


def test_log_indexes_counted_within_each_transaction_are_refused(node: ChainNode, lake: Lake) -> None:
    plan = f.Plan(always=[f.logs_fault(lambda logs, draw: [counted_anew(log) for log in logs])])
    message = r"log \d+ of block \d+|counts log indexes within each transaction: in block \d+.*use another node"
    with f.FaultProxy(node.url, plan) as proxy, pytest.raises(FetchError, match=message):
        run(lake, proxy.url)
    lake.refresh()
    assert "raw/vaults/Deposit" not in lake.datasets("made-up")


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
