"""What no log of a Compound V2 market says: tokens, seize shares, prices of an oracle that logs nothing; and histories
that lack something, which are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pytest

from backtest.errors import RulesError, UserError
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.lake import Lake
from backtest.log_files import collect_facts, import_logs
from backtest.markets import MarketConfig
from backtest.protocols.compound_v2 import COMPOUND_V2
from backtest.protocols.compound_v2.fold import fold
from backtest.reconstruct import History, reconstruct
from backtest.replay.engine import replay
from backtest.results import load_market, load_timeline
from backtest.scenario import Scenario
from tests.chain.compound import CODE_SIZE_LIMIT, Record, run
from tests.chain.node import Node
from tests.support.log_exports import blocks_of, exported, logs_of

pytestmark = pytest.mark.xdist_group("compound")
NAME = "compound"


@pytest.fixture(scope="module")
def record(chain_packages: None) -> Iterator[Record]:
    with Node(code_size_limit=CODE_SIZE_LIMIT) as node:
        yield run(node, users=30, quiet=True)


@pytest.fixture(scope="module")
def lake(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("quiet"), create=True)
    config = record.deployment.market_config()
    fetch(lake, config, Rpc(record.deployment.node.url), to_block=record.last_block, finality=0, headers="all")
    lake.refresh()
    reconstruct(lake, NAME)
    lake.refresh()
    return lake


def test_tokens_and_decimals_are_those_that_ctokens_name(record: Record, lake: Lake) -> None:
    rows = lake.read("canonical/assets", NAME).to_pylist()
    found = {row["symbol"]: (row["asset"], row["decimals"], row["collateral_token"]) for row in rows}
    assert found == {
        symbol: (ctoken.token.address.lower(), ctoken.decimals, ctoken.contract.address.lower())
        for symbol, ctoken in record.deployment.ctokens.items()
    }


def test_prices_are_what_the_oracle_answers_scaled_to_whole_tokens(record: Record, lake: Lake) -> None:
    """Each read is the contract's own number; every liquidation of history is explained by them."""
    deployment = record.deployment
    reads = lake.read("raw/oracle/WideRead", NAME).to_pylist()
    by_token = {ctoken.token.address.lower(): ctoken for ctoken in deployment.ctokens.values()}
    for row in reads[:: max(1, len(reads) // 40)]:
        ctoken = by_token["0x" + row["asset"].hex()]
        price = deployment.oracle.call("getUnderlyingPrice", ctoken.contract.address, block=row["block_number"])
        assert row["price"] == (price.to_bytes(32, "big") if price else None)
    market, timeline = load_market(lake, NAME), load_timeline(lake, NAME)
    outcome = replay(COMPOUND_V2, market, timeline, Scenario())
    assert outcome.mismatches == []
    assert len(outcome.liquidations) > 10
    for asset in market.assets:
        ctoken = deployment.ctokens[asset.symbol]
        price = deployment.oracle.call("getUnderlyingPrice", ctoken.contract.address)
        assert outcome.book.oracle[asset.id] == price * 10**asset.decimals


def test_the_chain_agrees(record: Record, lake: Lake) -> None:
    with Rpc(record.deployment.node.url) as rpc:
        report = verify(lake, NAME, rpc, blocks=4, accounts=10)
    assert report.mismatches == []
    assert {"constants", "oracle reads", "decimals"} <= set(report.compared)


def test_a_market_from_files_is_the_market_from_the_node(record: Record, tmp_path: Path) -> None:
    """Logs as cryo writes them, and a facts file with the tokens that cTokens name: equal raw and canonical rows."""
    config, url, last = record.deployment.market_config(), record.deployment.node.url, record.last_block
    ours, theirs = (Lake(tmp_path / name, create=True) for name in ("ours", "theirs"))
    files, told = exported("cryo", logs_of(url, last), blocks_of(url, last), tmp_path / "cryo"), tmp_path / "facts.toml"
    with Rpc(url) as rpc:
        fetch(theirs, config, rpc, to_block=last, finality=0)
        told.write_text(collect_facts(config, rpc, [files], to_block=last, finality=0)[0])
    assert "references = " in told.read_text()
    import_logs(ours, config, [files], facts=told, to_block=last)
    for lake in (ours, theirs):
        lake.refresh()
        reconstruct(lake, NAME)
        lake.refresh()
    assert ours.datasets(NAME) == theirs.datasets(NAME)
    for dataset in ours.datasets(NAME):
        assert ours.digest(NAME, dataset) == theirs.digest(NAME, dataset), dataset


class Without:
    """The history without one log of an event, or with a description of another kind."""

    def __init__(self, lake: Lake, config: MarketConfig, event: str = "", row: int = 0) -> None:
        self._history = History(lake, config, COMPOUND_V2, lambda done, total: None)
        self.parameters, self._event, self._row = config.parameters, event, row

    def _cut(self, event: str, table: Any) -> Any:
        if event != self._event or table.num_rows <= self._row:
            return table
        seq = self._history.table(event).sort_by("seq")["seq"][self._row].as_py()
        return table.filter(pc.not_equal(table["seq"], seq))

    def table(self, event: str) -> Any:
        return self._cut(event, self._history.table(event))

    def segments(self, rows: int, columns: Any) -> Any:
        for segment in self._history.segments(rows, columns):
            yield {event: self._cut(event, table) for event, table in segment.items()}


@pytest.mark.parametrize(
    ("event", "row", "said"),
    [
        ("Borrow", 3, r"block \d+, log \d+: .* in the log"),
        ("RepayBorrow", 1, r"block \d+, log \d+: .*(in the log|not there)"),
        ("AccrueInterest", 40, r"block \d+, log \d+: .*(in the log|no rate gives)"),
        ("Redeem", 0, r"block \d+, log \d+: "),
        ("ReservesReduced", 0, r"block \d+, log \d+: .*in the log"),
    ],
)
def test_a_history_without_one_log_is_refused_or_shows(lake: Lake, event: str, row: int, said: str) -> None:
    """A lost log contradicts a later one; of a redemption the cTokens then lie with the cToken and cash is lost."""
    config = lake.market_config(NAME)
    history = Without(lake, config, event, row)
    if event in ("Redeem", "ReservesReduced"):
        names = [r["name"] for table, rows in fold(config, history) if table == "params" for r in rows.to_pylist()]
        whole = [
            r["name"]
            for table, rows in fold(config, Without(lake, config))
            if table == "params"
            for r in rows.to_pylist()
        ]
        assert names.count("cash_lost") > whole.count("cash_lost")
        return
    with pytest.raises(RulesError, match=said):
        list(fold(config, history))


def test_what_the_description_must_say(record: Record, lake: Lake, tmp_path: Path) -> None:
    config = lake.market_config(NAME)
    for change, said in (
        ({"price_decimals": 18}, "write base_decimals = 18 and price_decimals = 36"),
        ({"parameters": {"revision": "2"}}, 'write accrual = "blocks" or "seconds"'),
        ({"parameters": {**config.parameters, "rounding_implementations": "", "revision": ""}}, "write revision = "),
    ):
        other = msgspec.structs.replace(config, **change)
        with pytest.raises(UserError, match=said):
            list(fold(other, Without(lake, other)))


def test_interest_of_another_clock_is_refused(lake: Lake) -> None:
    """By the second no whole rate gives the recorded indexes: the description is wrong, and says so."""
    config = lake.market_config(NAME)
    other = msgspec.structs.replace(config, parameters={**config.parameters, "accrual": "seconds"})
    with pytest.raises(RulesError, match="which no rate gives"):
        list(fold(other, Without(lake, other)))
