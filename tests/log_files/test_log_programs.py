"""Files that the programs themselves wrote (``tests/recorded``): cryo 0.3.2 and ethereum-etl 2.4.2, of the local node
with the script of ``tests/chain/morpho.py``. No node is needed to read them.

ethereum-etl pins libraries that this project's cannot stand beside, so its output is recorded. To record it again, with
the node at URL and its last block at N, in environments of their own:

    cryo logs 0:N+1 --rpc URL --chunk-size 40; cryo blocks 0:N+1 --rpc URL --include-columns parent_hash
    ethereumetl export_blocks_and_transactions -s 0 -e N -p URL --blocks-output blocks.csv --transactions-output tx.csv
    ethereumetl extract_csv_column -i tx.csv -c hash -o hashes.txt
    ethereumetl export_receipts_and_logs --transaction-hashes hashes.txt -p URL --logs-output logs.csv (and logs.json)
    backtest facts cryo/ --market market.toml --rpc URL --finality 0 --out facts.toml
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from backtest.cli import main
from backtest.fetch import fetch
from backtest.fetch.market_files import find_market
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.log_files import import_logs
from backtest.markets import MarketConfig
from backtest.reconstruct import reconstruct
from tests.chain.morpho import run
from tests.chain.node import Node

RECORDED = Path(__file__).parents[1] / "recorded"
FACTS = RECORDED / "facts.toml"
ETL = RECORDED / "ethereum-etl"
LAST, LAST_HASH = 312, "0x93c37633e72f680a564aaa0eecd18427908191d5816a0969456065cfeec465a6"


@pytest.fixture(scope="module")
def config() -> MarketConfig:
    return find_market(str(RECORDED / "market.toml"))


def imported(config: MarketConfig, place: Path, *paths: Path) -> Lake:
    lake = Lake(place, create=True)
    summary = import_logs(lake, config, paths, facts=FACTS)
    assert (summary.read, summary.last, summary.notes) == (3_073, LAST, [])
    lake.refresh()
    reconstruct(lake, config.name)
    lake.refresh()
    return lake


@pytest.fixture(scope="module")
def cryo(config: MarketConfig, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return imported(config, tmp_path_factory.mktemp("cryo") / "lake", RECORDED / "cryo")


@pytest.mark.parametrize("logs", ["logs.csv.gz", "logs.json.gz"])
def test_ethereum_etl_and_cryo_tell_the_same(cryo: Lake, config: MarketConfig, logs: str, tmp_path: Path) -> None:
    lake = imported(config, tmp_path / "lake", ETL / logs, ETL / "blocks.csv.gz")
    assert lake.digest(config.name) == cryo.digest(config.name)
    assert lake.digest(config.name, "canonical/") == cryo.digest(config.name, "canonical/")
    assert lake.read("canonical/liquidations", config.name).num_rows == 81


@pytest.mark.xdist_group("morpho-files")
def test_both_tell_what_the_node_does(cryo: Lake, config: MarketConfig, chain_packages: None, tmp_path: Path) -> None:
    with Node() as node:
        run(node)
        if node.rpc("eth_getBlockByNumber", hex(LAST), False)["hash"] != LAST_HASH:
            pytest.skip("the script of tests/chain/morpho.py is another one now: record tests/recorded again")
        lake = Lake(tmp_path / "lake", create=True)
        with Rpc(node.url) as rpc:
            fetch(lake, config, rpc, to_block=LAST, finality=0)
    lake.refresh()
    reconstruct(lake, config.name)
    lake.refresh()
    assert lake.digest(config.name) == cryo.digest(config.name)
    for dataset in lake.datasets(config.name):
        assert lake.read(dataset, config.name).equals(cryo.read(dataset, config.name)), dataset


@pytest.mark.slow
def test_a_newcomers_walk_without_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The five commands of docs/import.md, on a folder of cryo's files: a verdict in the end."""
    page = (Path(__file__).parents[2] / "docs/import.md").read_text()
    commands = page.split("```sh walk\n")[1].split("```")[0].strip().splitlines()
    assert len(commands) == 5
    (tmp_path / "logs").symlink_to(RECORDED / "cryo")
    (tmp_path / "facts.toml").symlink_to(FACTS)
    (tmp_path / "mine.toml").symlink_to(RECORDED / "market.toml")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command)[1:])
        said = capsys.readouterr().out
        assert ended.value.code == 0, f"{command}\n{said}"
    assert "liquidations" in said
