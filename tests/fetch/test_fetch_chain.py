"""The fetcher on a node with real contracts: faults leave no trace in the lake, and samples against the chain find what
is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from backtest.cli import main
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.lake import Lake
from backtest.reconstruct import is_current, reconstruct
from tests.chain.market import Record
from tests.support import faults as f

NAME = "local-aave"


def fetched(record: Record, url: str, path: Path) -> Lake:
    lake = Lake(path, create=True)
    with Rpc(url, workers=4, backoff=0.01, attempts=12) as rpc:
        fetch(
            lake,
            record.deployment.market_config(NAME),
            rpc,
            to_block=record.last_block,
            finality=0,
            headers="all",
            omissions="always",
        )
    return lake


@pytest.fixture(scope="module")
def good(market_upgraded: Record, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = fetched(market_upgraded, market_upgraded.deployment.node.url, tmp_path_factory.mktemp("good") / "lake")
    reconstruct(lake, NAME)
    lake.refresh()
    return lake


@pytest.fixture
def node(market_upgraded: Record) -> Iterator[Rpc]:
    with Rpc(market_upgraded.deployment.node.url, workers=4) as rpc:
        yield rpc


def test_faults_leave_no_trace(market_upgraded: Record, good: Lake, tmp_path: Path) -> None:
    troubles = [
        f.too_many_requests,
        f.server_error,
        f.truncated,
        f.cut_off,
        f.dropped,
        f.doubled,
        f.shuffled,
        f.omitted,
    ]
    limit = f.range_limit(
        150, -32005, "query returned more than 10000 results. Try with this block range [{first}, {fits}]."
    )
    plan = f.Plan(always=[limit, f.batch_limit(40)], sometimes=troubles, chance=0.25, most=120, seed=2)
    with f.FaultProxy(market_upgraded.deployment.node.url, plan) as proxy:
        lake = fetched(market_upgraded, proxy.url, tmp_path / "lake")
    assert plan.dealt["sometimes"] > 20
    assert lake.digest(NAME) == good.digest(NAME)


def test_the_chain_agrees(good: Lake, node: Rpc) -> None:
    report = verify(good, NAME, node)
    assert report.mismatches == []
    assert {"user configuration", "e-mode", "scaled collateral total", "scaled debt total", "feed rounds"} <= set(
        report.compared
    )
    assert report.lines()[0].endswith("all agree")


def changed(lake: Lake, dataset: str, change: Callable[[pa.Table], pa.Table], path: Path) -> Lake:
    """A copy of the lake in which one dataset is another."""
    copy = Lake(path, create=True)
    with copy.writer() as writer:
        writer.set_market(lake.market_config(NAME))
        span = lake.covered(NAME, next(iter(lake.sources(NAME))))[0]
        writer.commit(NAME, {}, from_block=span[0], to_block=span[1], covers={"all": span, "oracle": span})
        for name in lake.datasets(NAME):
            if name.startswith(("canonical/", "raw/")):
                table = lake.read(name, NAME)
                writer.append(NAME, name, change(table) if name == dataset else table)
    return copy


def one_more(table: pa.Table, column: str, rows: pa.ChunkedArray) -> pa.Table:
    """``column`` + 1 in the first row where ``rows`` is true."""
    at = pc.index(rows, True).as_py()
    values = table.column(column).to_pylist()
    values[at] += 1 if isinstance(values[at], int) else Decimal(1)
    return table.set_column(
        table.schema.get_field_index(column),
        table.schema.field(column),
        pa.array(values, table.schema.field(column).type),
    )


def plain(table: pa.Table, column: str) -> pa.ChunkedArray:
    return table.column(column).cast(pa.string())


def without(table: pa.Table, row: int) -> pa.Table:
    return pa.concat_tables([table.slice(0, row), table.slice(row + 1)])


def no(setting: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.filter(pc.not_equal(plain(table, "setting"), setting))


def twice(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(table.num_rows // 2, 1)]).sort_by("block_number")


def test_the_command(market_upgraded: Record, good: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a node to canonical tables that agree with the chain, in one command; again, it finds nothing to do."""
    config = market_upgraded.deployment.market_config(NAME)
    contracts = "".join(f'{role} = "{address}"\n' for role, address in config.contracts.items())
    head = (
        f'name = "{NAME}"\nprotocol = "{config.protocol}"\nchain_id = {config.chain_id}\nstart_block ='
        f" {config.start_block}\n"
    )
    (tmp_path / "market.toml").write_text(f"{head}[contracts]\n{contracts}")
    words = [
        "fetch",
        "aave-v3",
        "--market",
        str(tmp_path / "market.toml"),
        "--rpc",
        market_upgraded.deployment.node.url,
        "--finality",
        "0",
    ]
    words += [
        "--to-block",
        str(market_upgraded.last_block),
        "--headers",
        "all",
        "--lake",
        str(tmp_path / "lake"),
        "--verify",
    ]
    for said in ("liquidations", "up to date"):
        with pytest.raises(SystemExit) as caught:
            main(words)
        told = capsys.readouterr().out
        assert caught.value.code == 0
        assert said in told
        assert "all agree" in told
    lake = Lake(tmp_path / "lake")
    assert lake.digest(NAME) == good.digest(NAME)
    assert is_current(lake, NAME)


POSITIONS, SETTINGS, ANSWERS = "canonical/position_events", "canonical/setting_events", "raw/chainlink/AnswerUpdated"
TOKENS, HEADERS, READS = "raw/chain/Token", "raw/chain/Header", "raw/oracle/Read"


def falsely_named(table: pa.Table) -> pa.Table:
    names = ["FALSE", *table["symbol"].to_pylist()[1:]]
    place = table.schema.get_field_index("symbol")
    return table.set_column(place, table.schema.field(place), pa.array(names, table.schema.field(place).type))


WRONG: dict[str, tuple[str, Callable[[pa.Table], pa.Table], str]] = {
    "a balance": (
        POSITIONS,
        lambda t: one_more(t, "delta", pc.equal(plain(t, "side"), "debt")),
        r"block \d+: scaled debt total of \w+ \(0x",
    ),
    "a supply left out": (POSITIONS, lambda t: without(t, 0), r"scaled collateral total of"),
    "flags": (SETTINGS, no("collateral_enabled"), r"user configuration of 0x\w{40}: the lake says \d+, the chain \d+"),
    "e-modes": (SETTINGS, no("emode"), r"e-mode of 0x\w{40}: the lake says 0, the chain"),
    "an answer left out": (
        ANSWERS,
        lambda t: without(t, t.num_rows // 2),
        r"feed 0x\w{40}: round \d+ is missing, the chain has it",
    ),
    "a symbol": (TOKENS, falsely_named, r"symbols: symbol\(\) of 0x\w{40}: the lake says FALSE, the chain \w+"),
    "a header": (
        HEADERS,
        lambda t: one_more(t, "timestamp", pc.greater(t["block_number"], 0)),
        r"headers: block \d+: hash, parent",
    ),
    "reads left out": (READS, lambda t: t.slice(0, 0), r"oracle reads: block \d+: the price of 0x\w{40} was not read"),
    "an answer twice": (ANSWERS, twice, r"round \d+ follows round"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(good: Lake, node: Rpc, tmp_path: Path, name: str) -> None:
    dataset, change, message = WRONG[name]
    report = verify(changed(good, dataset, change, tmp_path / "lake"), NAME, node, blocks=3, accounts=200)
    assert report.mismatches
    assert any(re.search(message, line) for line in report.mismatches), report.mismatches
    assert f"{len(report.mismatches)} differ" in report.lines()[0]
