"""Raw logs of files: a market from them equals the same market from the node, whoever exported them; and what is wrong
with files and facts is one line and changes nothing.
"""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backtest.cli import main
from backtest.errors import UserError
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake, claims
from backtest.log_files import LogImport, collect_facts, import_logs, spool
from backtest.markets import MarketConfig
from backtest.reconstruct import reconstruct
from tests.chain.market import Record
from tests.chain.morpho import run as morpho
from tests.chain.node import Node
from tests.support.log_exports import FORMS, Block, Log, blocks_of, exported, logs_of
from tests.support.maker_logs import CONFIG as MAKER
from tests.support.pooled_market import played
from tests.support.synthetic import ChainNode
from tests.support.vault_fetch import script

__all__ = ["played"]  # a fixture

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Played:
    """A market on a running node, and what fetch makes of it."""

    config: MarketConfig
    url: str
    last: int
    logs: list[Log]
    blocks: list[Block]
    lake: Lake
    folder: Path

    def files(self, form: str) -> Path:
        """All of the node's logs in this form; made once."""
        folder = self.folder / form
        return folder if folder.is_dir() else exported(form, self.logs, self.blocks, folder)

    def facts(self, *paths: Path) -> Path:
        """A facts file for the files."""
        with Rpc(self.url) as rpc:
            text, blocks = collect_facts(self.config, rpc, paths, to_block=self.last, finality=0)
        assert blocks == (self.config.start_block, self.last)
        path = self.folder / f"facts-{abs(hash(paths))}.toml"
        path.write_text(text)
        return path

    def imported(self, lake: Lake, *paths: Path, **options: Any) -> LogImport:
        """Import files that hold every log up to the last block."""
        summary = import_logs(lake, self.config, paths, to_block=options.pop("to_block", self.last), **options)
        lake.refresh()
        return summary


def fetched(config: MarketConfig, url: str, last: int, folder: Path) -> Played:
    lake = Lake(folder / "fetched", create=True)
    with Rpc(url) as rpc:
        fetch(lake, config, rpc, to_block=last, finality=0)
    lake.refresh()
    reconstruct(lake, config.name)
    lake.refresh()
    return Played(config, url, last, logs_of(url, last), blocks_of(url, last), lake, folder)


def equal(ours: Lake, theirs: Lake, market: str) -> None:
    """The same market to the last raw and canonical row."""
    reconstruct(ours, market)
    ours.refresh()
    assert ours.datasets(market) == theirs.datasets(market)
    for dataset in ours.datasets(market):
        assert ours.digest(market, dataset) == theirs.digest(market, dataset), dataset
        if dataset.startswith("canonical/"):
            assert ours.read(dataset, market).equals(theirs.read(dataset, market)), dataset
    assert ours.digest(market) == theirs.digest(market)  # coverage too


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    chain = script().chain()
    with ChainNode(chain) as node:
        folder = tmp_path_factory.mktemp("maker")
        lake = Lake(folder / "fetched", create=True)
        with Rpc(node.url) as rpc:
            fetch(lake, MAKER, rpc, finality=0)
        reconstruct(lake, MAKER.name)
        lake.refresh()
        logs = [json.loads(encoded) for block in chain.encoded for _, encoded in block]
        blocks = [chain.header(block) for block in range(chain.height + 1)]
        yield Played(MAKER, node.url, chain.height, logs, blocks, lake, folder)


@pytest.fixture(scope="module", params=["weth-usdc", "wbtc-weth"])
def blue(request: pytest.FixtureRequest, _blue: Any, tmp_path_factory: pytest.TempPathFactory) -> Played:
    config = _blue.deployment.market_config(request.param)
    return fetched(config, _blue.deployment.node.url, _blue.last_block, tmp_path_factory.mktemp("blue"))


@pytest.fixture(scope="module")
def _blue(chain_packages: None) -> Iterator[Any]:
    with Node() as node:
        yield morpho(node)


@pytest.mark.parametrize("form", FORMS)
def test_maker_from_files_is_maker_from_the_node(maker: Played, form: str, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", create=True)
    files = maker.files(form)
    if form == "cryo":  # the synthetic chain has another number
        for path in files.glob("*logs*"):
            table = pq.read_table(path)
            pq.write_table(table.drop_columns(["chain_id"]), path)
    maker.imported(lake, files, facts=maker.facts(files))
    equal(lake, maker.lake, MAKER.name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.xdist_group("morpho-files")
def test_morpho_from_files_is_morpho_from_the_node(blue: Played, form: str, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", create=True)
    files = blue.files(form)
    summary = blue.imported(lake, files, facts=blue.facts(files))
    assert summary.read == len(blue.logs)
    equal(lake, blue.lake, blue.config.name)


@pytest.mark.parametrize(
    "market",
    [
        pytest.param(name, marks=pytest.mark.xdist_group(name))
        for name in ("market_v30", "market_v36", "market_upgraded")
    ],
)
def test_aave_from_files_is_aave_from_the_node(
    request: pytest.FixtureRequest, chain_packages: None, market: str, tmp_path: Path
) -> None:
    record: Record = request.getfixturevalue(market)
    one = fetched(
        record.deployment.market_config("local-aave"), record.deployment.node.url, record.last_block, tmp_path
    )
    facts = one.facts(one.files("cryo"))  # the same for all forms that describe every block
    for form in ("cryo", "ethereum-etl, CSV", "Dune"):
        lake = Lake(tmp_path / f"lake {form}", create=True)
        one.imported(lake, one.files(form), facts=facts)
        equal(lake, one.lake, "local-aave")


@pytest.mark.xdist_group("pooled-files")
def test_pools_come_with_the_market(played: Any, tmp_path: Path) -> None:
    one = fetched(played.config, played.deployment.node.url, played.last, tmp_path)
    lake = Lake(tmp_path / "lake", create=True)
    files = one.files("HyperSync")
    one.imported(lake, files, facts=one.facts(files))
    assert lake.market_config(one.config.name).pools == one.config.pools
    equal(lake, one.lake, one.config.name)


@pytest.mark.xdist_group("morpho-files")
def test_what_cryo_itself_writes(blue: Played, tmp_path: Path) -> None:
    """The program, not our idea of it (``pip install cryo``, extra ``bench``)."""
    if find_spec("cryo") is None:
        pytest.skip("cryo is not installed")
    out = tmp_path / "cryo"
    common = f"rpc='{blue.url}', blocks=['0:{blue.last + 1}'], output_dir='{out}', network_name='local', verbose=False"
    program = (
        f"import cryo, os; cryo.freeze('logs', chunk_size=40, {common});"
        f" cryo.freeze('blocks', chunk_size=1000, include_columns=['parent_hash'], {common});"
        " os._exit(0)"  # as a program of its own, which it may leave without ceremony: it does not always end well
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    assert len(list(out.glob("*.parquet"))) == 9
    lake = Lake(tmp_path / "lake", create=True)
    blue.imported(lake, out, facts=blue.facts(out))
    equal(lake, blue.lake, blue.config.name)


# -- sizes, order, parts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["gzip", "zstd", "list", "document"])
def test_packed_files_and_documents(maker: Played, packing: str, tmp_path: Path) -> None:
    plain = maker.files("ethereum-etl, JSON") / "logs.json"
    path = tmp_path / "files" / "logs"
    path.parent.mkdir()
    if packing == "gzip":
        half = len(plain.read_bytes()) // 2
        path.write_bytes(gzip.compress(plain.read_bytes()[:half]) + gzip.compress(plain.read_bytes()[half:]))
    elif packing == "zstd":
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            out.write(plain.read_bytes())
    else:
        rows = [json.loads(line) for line in plain.read_text().splitlines()]
        path.write_text(json.dumps(rows if packing == "list" else {"result": {"rows": rows, "metadata": {}}}, indent=1))
    lake = Lake(tmp_path / "lake", create=True)
    maker.imported(lake, path, facts=maker.facts(path))
    equal(lake, maker.lake, MAKER.name)


@pytest.mark.parametrize("rows", [7, 50])
def test_a_thousand_files_in_any_order(
    maker: Played, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in random order over a thousand files, some of them twice, and pieces far smaller than the whole."""
    monkeypatch.setattr(spool, "PIECE_ROWS", rows)
    draw = random.Random(rows)
    lines = (maker.files("ethereum-etl, JSON") / "logs.json").read_text().splitlines()
    twice = draw.sample(lines, 20)
    lines = [*lines, *twice]
    draw.shuffle(lines)
    folder = tmp_path / "many"
    for number in range(1000):
        (folder / f"{number % 7}").mkdir(parents=True, exist_ok=True)
        own = lines[number::1000] or [draw.choice(lines)]
        (folder / f"{number % 7}" / f"part-{number}.json").write_text("".join(f"{line}\n" for line in own))
    lake = Lake(tmp_path / "lake", create=True)
    summary = maker.imported(lake, folder, facts=maker.facts(maker.files("ethereum-etl, JSON")))
    assert summary.doubled == summary.read - len(maker.logs) >= 20
    equal(lake, maker.lake, MAKER.name)


def test_history_in_two_parts(maker: Played, tmp_path: Path) -> None:
    facts = maker.facts(maker.files("ethereum-etl, JSON"))
    lake = Lake(tmp_path / "lake", create=True)
    parts: list[list[Log]] = [[], []]
    for log in maker.logs:
        parts[int(log["blockNumber"], 16) > 31].append(log)
    first, second = (
        exported("ethereum-etl, JSON", part, maker.blocks, tmp_path / part[0]["blockNumber"]) for part in parts
    )
    assert maker.imported(lake, first, facts=facts, to_block=31).claimed == ((MAKER.start_block, 31),)
    summary = maker.imported(lake, second, facts=facts)
    assert summary.claimed == ((32, maker.last),)
    assert any("first named in these files" in note and "blocks 1 to 31 again" in note for note in summary.notes)
    with pytest.raises(UserError, match=r"lacks blocks 1 to 31 of .* or import the files that hold them"):
        reconstruct(lake, MAKER.name)
    assert maker.imported(lake, first, facts=facts, to_block=31).claimed == ((MAKER.start_block, 31),)
    equal(lake, maker.lake, MAKER.name)
    for files in (first, second):
        assert maker.imported(lake, files, facts=facts, to_block=31 if files == first else maker.last).rows == {}


def test_times_from_the_logs_alone(maker: Played, tmp_path: Path) -> None:
    """Without blocks and headers the market is the same but for base fees and blocks without logs."""
    files = maker.files("Dune") / "logs.csv"
    lake = Lake(tmp_path / "lake", create=True)
    facts = maker.facts(files)
    text = facts.read_text()
    start = text.index("\n# block_number, block_hash")
    facts.write_text(text[:start] + text[text.index("]\n", text.index("headers = [")) + 2 :].lstrip("]\n"))
    maker.imported(lake, files, facts=facts)
    reconstruct(lake, MAKER.name)
    lake.refresh()
    for dataset in lake.datasets(MAKER.name):
        if dataset.startswith("canonical/") and dataset != "canonical/blocks":
            assert lake.read(dataset, MAKER.name).equals(maker.lake.read(dataset, MAKER.name)), dataset
    ours, theirs = (one.read("canonical/blocks", MAKER.name).to_pylist() for one in (lake, maker.lake))
    known = {row["block_number"]: row["timestamp"] for row in theirs}
    assert all(row["base_fee"] is None and known[row["block_number"]] == row["timestamp"] for row in ours)


# -- claims ------------------------------------------------------------------------------------------------------------


def described(config: MarketConfig) -> str:
    """A market's file."""
    plain = {
        k: v for k, v in msgspec.to_builtins(config).items() if v not in (None, [], {}) and not isinstance(v, dict)
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    for part in ("contracts", "parameters"):
        lines += [f"[{part}]", *(f'{name} = "{value}"' for name, value in getattr(config, part).items())]
    return "\n".join(lines)


def test_what_files_claim_is_said_to_be_claimed(
    maker: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, market = maker.files("ethereum-etl, JSON"), tmp_path / "market.toml"
    market.write_text(described(MAKER))
    lake, facts = tmp_path / "lake", tmp_path / "facts.toml"
    for words in (
        ["facts", str(files), "--market", str(market), "--rpc", maker.url, "--finality", "0", "--out", str(facts)],
        ["import", "logs", str(files), "--market", str(market), "--facts", str(facts), "--lake", str(lake)],
        ["reconstruct", "--lake", str(lake)],
        ["info", "--lake", str(lake)],
        ["check", "--lake", str(lake)],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        out = capsys.readouterr().out
        assert ended.value.code == 0, out
        if words[0] != "facts":
            assert f"blocks {MAKER.start_block} to" in out
            assert "claim" in out
    opened = Lake(lake)
    assert claims.claimed(opened, MAKER.name) == ((MAKER.start_block, int(maker.logs[-1]["blockNumber"], 16)),)
    with Rpc(maker.url) as rpc:
        fetch(opened, MAKER, rpc, finality=0, again=(20, 30))
    assert claims.claimed(opened, MAKER.name) == ((1, 19), (31, int(maker.logs[-1]["blockNumber"], 16)))


# -- a node beside files -----------------------------------------------------------------------------------------------


def test_a_node_continues_what_files_began(maker: Played, tmp_path: Path) -> None:
    """And the other way round: what a lake holds of a node is continued by files."""
    early = exported(
        "ethereum-etl, JSON",
        [log for log in maker.logs if int(log["blockNumber"], 16) <= 31],
        maker.blocks,
        tmp_path / "early",
    )
    facts = maker.facts(maker.files("ethereum-etl, JSON"))
    lake = Lake(tmp_path / "lake", create=True)
    maker.imported(lake, early, facts=facts, to_block=31)
    with Rpc(maker.url) as rpc:
        fetch(lake, MAKER, rpc, finality=0)
    assert claims.claimed(lake, MAKER.name) == ((1, 31),)
    equal(lake, maker.lake, MAKER.name)
    other = Lake(tmp_path / "other", create=True)
    with Rpc(maker.url) as rpc:
        fetch(other, MAKER, rpc, finality=0, to_block=45)
    summary = maker.imported(other, maker.files("ethereum-etl, JSON"), facts=facts)
    assert summary.claimed == ((46, maker.last),)
    reconstruct(other, MAKER.name)
    other.refresh()
    for dataset in other.datasets(MAKER.name):
        if dataset.startswith("canonical/") and dataset != "canonical/blocks":  # the node told of block 45, its last
            assert other.read(dataset, MAKER.name).equals(maker.lake.read(dataset, MAKER.name)), dataset


def test_facts_of_a_node_alone_are_those_beside_files(maker: Played) -> None:
    files = maker.files("ethereum-etl, JSON")
    assert maker.facts().read_text() == maker.facts(files).read_text()


# -- what is wrong -----------------------------------------------------------------------------------------------------


def refused(one: Played, tmp_path: Path, *paths: Path, **options: Any) -> str:
    lake = Lake(tmp_path / "refused", create=True)
    before = lake.manifest
    with pytest.raises(UserError) as error:
        one.imported(lake, *paths, **options)
    lake.refresh()
    assert lake.manifest == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_facts_are_listed_with_the_command(maker: Played, tmp_path: Path) -> None:
    said = refused(maker, tmp_path, maker.files("ethereum-etl, JSON"))
    assert "no log of market" in said
    assert "times of blocks (" in said
    assert (
        f"backtest facts {maker.files('ethereum-etl, JSON')} --market {MAKER.name} --rpc URL --out facts.toml" in said
    )


@pytest.mark.xdist_group("market_v36")
def test_missing_facts_of_aave(market_v36: Record, tmp_path: Path) -> None:
    one = fetched(market_v36.deployment.market_config("local-aave"), market_v36.deployment.node.url,
                  market_v36.last_block, tmp_path)  # fmt: skip
    files = one.files("cryo")
    said = refused(one, tmp_path, files)
    for kind in ("symbol and decimals of tokens", "revisions of implementations", "constants of contracts",
                 "price sources", "oracle state"):  # fmt: skip
        assert f"{kind} (" in said, said
    facts = one.facts(files)
    text = facts.read_text()
    start = text.index("phases = [")
    facts.write_text(text[:start] + text[text.index("]\n\n", start) + 3 :])
    assert "feed phases (" in refused(one, tmp_path, files, facts=facts)
    pool = one.config.contracts["pool"]
    own = {pool, one.config.contracts["provider"], one.config.contracts["configurator"], one.config.contracts["oracle"]}
    few = exported("Dune", [log for log in one.logs if log["address"] in own], one.blocks, tmp_path / "few")
    assert "none of the" in refused(one, tmp_path, few, facts=one.facts(files))


def rewritten(one: Played, tmp_path: Path, change: Callable[[list[Log]], object]) -> Path:
    logs: list[Log] = json.loads(json.dumps(one.logs))
    change(logs)
    return exported("ethereum-etl, JSON", logs, one.blocks, tmp_path / "changed")


def _put(field: str, value: str) -> Callable[[list[Log]], object]:
    return lambda logs: logs[10].update({field: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda logs: logs.append({**logs[3], "data": logs[3]["data"] + "00"}), "two different logs as log"),
        (_put("blockHash", "0x" + "ee" * 32), "two hashes: they are of two branches"),
        (_put("transactionHash", "0xabc"), "row 11: transaction hash '0xabc' is not hex"),
        (_put("address", "0x12"), "row 11: address '0x12' is not 20 bytes"),
        (
            lambda logs: logs[10].update(topics=[*logs[10]["topics"][:1], "0x12"]),
            "row 11: topics '0x12' is not 32 bytes",
        ),
        (lambda logs: [log.update(logIndex="0x0") for log in logs], "two different logs as log 0"),
        (lambda logs: [log.update(address="0x" + "11" * 20) for log in logs], "is of market 'vaults'"),
    ],
)
def test_files_that_contradict_themselves(maker: Played, tmp_path: Path, change: Any, said: str) -> None:
    files = rewritten(maker, tmp_path, change)
    assert said in refused(maker, tmp_path, files, facts=maker.facts(maker.files("ethereum-etl, JSON")))


def test_indexes_within_transactions_are_no_order(maker: Played, tmp_path: Path) -> None:
    def anew(logs: list[Log]) -> None:
        for log in logs:
            index, place = int(log["logIndex"], 16), int(log["transactionIndex"], 16)
            log["transactionIndex"] = hex(40 - place)
            log["logIndex"] = hex(index)

    files = rewritten(maker, tmp_path, anew)
    said = refused(maker, tmp_path, files, facts=maker.facts(maker.files("ethereum-etl, JSON")))
    assert "count log indexes within each transaction" in said


def test_a_missing_log_of_whole_files_is_noted(maker: Played, tmp_path: Path) -> None:
    """Where log indexes count each block without a gap, a gap is a log that is not there."""
    block = next(log["blockNumber"] for log in maker.logs if log["logIndex"] == "0x2")

    whole: list[Log] = []
    for number in range(100, 200):
        whole.append({**maker.logs[0], "blockNumber": hex(number), "logIndex": "0x0", "topics": ["0x" + "77" * 32]})

    def and_more(logs: list[Log]) -> None:
        logs.remove(next(log for log in logs if (log["blockNumber"], log["logIndex"]) == (block, "0x1")))
        logs += whole

    files = rewritten(maker, tmp_path, and_more)
    lake = Lake(tmp_path / "lake", create=True)
    summary = maker.imported(lake, files, facts=maker.facts(maker.files("ethereum-etl, JSON")))
    assert any(f"logs of block {int(block, 16)} are not there" in note for note in summary.notes), summary.notes


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"block_number,timestamp,account,amount\n1,2,3,4\n", "are those of no mapping of logs"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"log_index,LOG_INDEX\n1,2\n", "comes twice"),
        ("a.csv", b"\xff\xfea\n", "is not UTF-8"),
        ("a.json", b'{"a": 1}\n{"a": ', "are those of no mapping of logs"),
        ("a.json", b"[1, 2]", "its rows are no objects"),
        ("a.json", b'{"result": 1}\n', "are those of no mapping"),
        ("a.json", b"[" * 200_000, "cut off or not JSON"),
        ("a.parquet", b"PAR1 and no more", "cut off or damaged"),
        ("a.zip", b"PK\x03\x04....", "is a zip file"),
        ("a.gz", gzip.compress(b"log_index\n" * 1000, mtime=0)[:40], "cut off or damaged"),
        ("a.zst", b"\x28\xb5\x2f\xfd\x00", "cut off or damaged"),
    ],
)
def test_files_that_are_none(maker: Played, tmp_path: Path, name: str, data: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert said in refused(maker, tmp_path, path)


def test_files_that_are_cut_off(maker: Played, tmp_path: Path) -> None:
    for form, name in (("ethereum-etl, CSV", "logs.csv"), ("ethereum-etl, JSON", "logs.json"),
                       ("HyperSync", "logs.parquet")):  # fmt: skip
        data = (maker.files(form) / name).read_bytes()
        path = tmp_path / name
        for cut in (40, len(data) // 2, len(data) - 100):
            path.write_bytes(data[:-cut])
            assert "cut off" in (said := refused(maker, tmp_path, path)) or "truncated" in said or "row" in said, said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("chain_id = ", "chain_id = 9"), "has facts of chain 9"),
        (lambda text: text.replace('market = "', 'market = "x'), "has facts of market 'x"),
        (lambda text: text + "\nnonsense = 1\n", "unknown field `nonsense`"),
        (lambda text: text + "\ntimes = [[1, 2]]\n", "times, row 1: 2 values, not 3"),
        (lambda text: text + '\ntimes = [["１", 2, ""]]\n', "times, row 1, block_number: '１' is not a whole number"),
        (lambda text: text + '\ntimes = [[1, 2, "1e5"]]\n', "times, row 1, base_fee"),
        (
            lambda text: text + '\npools = [["0x12", "", "", "", 1, 1]]\n',
            "pools, row 1, address: '0x12' is not 0x and 40",
        ),
        (lambda text: text + '\nblocks = "x"\n', "facts"),
        (lambda text: "\0", "NUL"),
    ],
)
def test_facts_that_are_wrong(maker: Played, tmp_path: Path, change: Callable[[str], str], said: str) -> None:
    files = maker.files("ethereum-etl, JSON")
    path = tmp_path / "facts.toml"
    path.write_text(change(maker.facts(files).read_text()))
    assert said in refused(maker, tmp_path, files, facts=path)


def test_a_mapping_of_ones_own(maker: Played, tmp_path: Path) -> None:
    text = (maker.files("ethereum-etl, CSV") / "logs.csv").read_text()
    header, _, rows = text.partition("\n")
    path = tmp_path / "own.csv"
    path.write_text(header.replace("log_index", "nr").replace("address", "who") + "\n" + rows)
    assert "nearest is" in refused(maker, tmp_path, path)
    mapping = tmp_path / "own.toml"
    mapping.write_text(
        'description = "ours"\n[logs]\nblock_number = "block_number"\ntransaction_index = "transaction_index"\n'
        'log_index = "nr"\ntransaction_hash = "transaction_hash"\naddress = "who"\ndata = "data"\ntopics = "topics"\n'
    )
    lake = Lake(tmp_path / "lake", create=True)
    maker.imported(lake, path, mapping=str(mapping), facts=maker.facts(maker.files("ethereum-etl, JSON")))
    equal(lake, maker.lake, MAKER.name)
    assert "did you mean 'cryo'" in refused(maker, tmp_path, path, mapping="cyro")
