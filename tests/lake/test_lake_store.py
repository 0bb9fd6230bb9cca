"""Commits, reads, coverage, digests, compaction, formats, and writers that are stopped, doubled or out of space."""

from __future__ import annotations

import builtins
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest import result_tables, tables
from backtest.errors import LakeError, UserError
from backtest.lake import Lake, content, storage
from backtest.lake import manifest as m
from tests.support.lake_tables import CONFIG, MARKET, SUPPLY, supplies, table

EVENT = "raw/aave-v3/Supply"


def blocks_of(lake: Lake, **limits: int) -> list[int]:
    return lake.read(EVENT, MARKET, columns=["block_number"], **limits)["block_number"].to_pylist()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Blocks 1 to 20 in two commits."""
    made = Lake(tmp_path / "lake", create=True)
    with made.writer() as writer:
        writer.set_market(CONFIG)
        writer.commit(MARKET, {EVENT: supplies([9, 3, 5])}, from_block=1, to_block=10, covers={"pool": (1, 10)})
        writer.commit(
            MARKET,
            {EVENT: supplies([12, 12, 20])},
            from_block=11,
            to_block=20,
            covers={"pool": (11, 20), "token": (15, 20)},
        )
    return made


def test_what_was_committed_is_read_back_in_chain_order(lake: Lake) -> None:
    assert blocks_of(lake) == [3, 5, 9, 12, 12, 20]
    assert blocks_of(lake, from_block=5, to_block=12) == [5, 9, 12, 12]
    assert lake.read(EVENT, MARKET).schema.equals(SUPPLY)
    assert lake.markets() == [MARKET]
    assert lake.datasets() == [EVENT]
    assert lake.market_config(MARKET) == CONFIG
    assert lake.covered(MARKET, "pool") == [(1, 20)]
    assert lake.covered(MARKET, "token") == [(15, 20)]
    assert lake.covered(MARKET, "nothing") == []
    assert lake.sources(MARKET) == ["pool", "token"]
    assert [(file.from_block, file.to_block, file.rows) for file in lake.files(EVENT)] == [(1, 10, 3), (11, 20, 3)]


def test_a_lake_is_a_snapshot_until_refreshed(lake: Lake) -> None:
    reader = Lake(lake.path)
    with lake.writer() as writer:
        writer.commit(MARKET, {EVENT: supplies([30])}, from_block=21, to_block=30, covers={"pool": (21, 30)})
    assert blocks_of(reader)[-1] == 20
    reader.refresh()
    assert blocks_of(reader)[-1] == 30


def test_datasets_with_overlapping_files_are_merged_in_order(lake: Lake) -> None:
    with lake.writer() as writer:
        writer.commit(MARKET, {EVENT: supplies([4, 18])}, from_block=1, to_block=20, covers={"late": (1, 20)})
    assert blocks_of(lake) == [3, 4, 5, 9, 12, 12, 18, 20]


@pytest.mark.parametrize(
    ("data", "covers", "message"),
    [
        ({}, {"pool": (20, 25)}, "'pool' holds blocks 20 to 20 already"),
        ({}, {"pool": (25, 21)}, "'pool' covers 25 to 21"),
        ({EVENT: supplies([40])}, {"pool": (21, 30)}, "rows of blocks 40 to 40 in a commit of 21 to 30"),
        ({EVENT: supplies([22]).drop_columns("amount")}, {}, "columns differ from the schema in amount"),
        (
            {EVENT: supplies([22]).cast(pa.schema([*list(SUPPLY)[:-1], pa.field("amount", pa.decimal128(20, 0))]))},
            {},
            "'amount' is decimal128(20, 0)",
        ),
        ({"raw/aave-v3/Odd": pa.table({"x": [1]})}, {}, "an event dataset starts with block_number"),
        ({"canonical/oddities": pa.table({"x": [1]})}, {}, "not in backtest.tables"),
        ({"../outside": supplies([22])}, {}, "not a dataset name"),
    ],
)
def test_bad_commits_are_refused_and_leave_the_lake_as_it_was(
    lake: Lake, data: dict[str, pa.Table], covers: dict[str, Any], message: str
) -> None:
    before = lake.manifest
    with lake.writer() as writer, pytest.raises(LakeError, match=message.replace("(", r"\(").replace(")", r"\)")):
        writer.commit(MARKET, data, from_block=21, to_block=30, covers=covers)
    lake.refresh()
    assert lake.manifest == before


def test_nulls_only_where_the_schema_allows_them(lake: Lake) -> None:
    rows = supplies([22]).set_column(SUPPLY.get_field_index("amount"), "amount", pa.array([None], tables.AMOUNT))
    with lake.writer() as writer, pytest.raises(LakeError, match="'amount' has 1 nulls"):
        writer.commit(MARKET, {EVENT: rows}, from_block=21, to_block=30)


def test_another_market_under_the_same_name_is_refused(lake: Lake) -> None:
    with lake.writer() as writer:
        writer.set_market(CONFIG)
        with pytest.raises(LakeError, match="differs in chain_id"):
            writer.set_market(msgspec.structs.replace(CONFIG, chain_id=2))


def test_contracts_of_a_market_may_be_added_and_not_taken_away(lake: Lake) -> None:
    more = msgspec.structs.replace(CONFIG, contracts={**CONFIG.contracts, "factory": "0x" + "fa" * 20})
    with lake.writer() as writer:
        writer.set_market(CONFIG)
        writer.set_market(more)
        with pytest.raises(LakeError, match="differs in contracts"):
            writer.set_market(CONFIG)
    lake.refresh()
    assert lake.market_config(MARKET) == more


def test_unknown_names_get_a_remedy(lake: Lake) -> None:
    with pytest.raises(LakeError, match="did you mean 'raw/aave-v3/Supply'"):
        lake.read("raw/aave-v3/Suply", MARKET)
    with pytest.raises(LakeError, match="did you mean 'toy'"):
        lake.read(EVENT, "tyo")
    with pytest.raises(LakeError, match="did you mean 'amount'"):
        lake.read(EVENT, MARKET, columns=["amuont"])
    with pytest.raises(LakeError, match="there is no lake at"):
        Lake(lake.path / "data")


def test_known_datasets_without_rows_are_empty(lake: Lake) -> None:
    assert lake.read("canonical/prices", MARKET).schema.equals(tables.CANONICAL["prices"])
    with lake.writer() as writer:
        writer.commit(MARKET, {"raw/aave-v3/Repay": SUPPLY.empty_table()}, from_block=21, to_block=30)
    assert lake.read("raw/aave-v3/Repay", MARKET).schema.equals(SUPPLY)
    assert lake.files("raw/aave-v3/Repay") == ()


def test_a_folder_with_other_things_does_not_become_a_lake(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(LakeError, match=r"not a lake and not empty \('thesis.txt'\)"):
        Lake(tmp_path, create=True)


def accounts(names: list[str]) -> tuple[str, pa.Table]:
    return "canonical/accounts", table(
        tables.CANONICAL["accounts"], [{"market": MARKET, "account_id": i, "account": n} for i, n in enumerate(names)]
    )


def test_replace_swaps_a_layer_in_one_commit(lake: Lake) -> None:
    with lake.writer() as writer:
        writer.replace(MARKET, "canonical/", iter([accounts(["0xa"])]), stamp="1:a")
        version = lake.manifest.version
        writer.replace(MARKET, "canonical/", iter([accounts(["0xb", "0xc"])]), stamp="1:b")
        assert lake.manifest.version == version + 1
        with pytest.raises(ZeroDivisionError):
            writer.replace(MARKET, "canonical/", (accounts(["0xd"]) for _ in range(1 // 0)), stamp="1:c")
    assert lake.read("canonical/accounts", MARKET)["account"].to_pylist() == ["0xb", "0xc"]
    assert [file.stamp for file in lake.files("canonical/accounts")] == ["1:b"]
    assert blocks_of(lake) == [3, 5, 9, 12, 12, 20]
    assert Lake(lake.path).manifest == lake.manifest


def test_replacements_name_their_own_market_and_layer(lake: Lake) -> None:
    strange = accounts(["0xa"])[1].set_column(0, "market", pa.array(["other"]).dictionary_encode())
    with lake.writer() as writer:
        with pytest.raises(LakeError, match="rows of market other"):
            writer.replace(MARKET, "canonical/", iter([("canonical/accounts", strange)]), stamp="")
        with pytest.raises(LakeError, match="in a replacement of 'canonical/'"):
            writer.replace(MARKET, "canonical/", iter([(EVENT, supplies([1]))]), stamp="")


def test_results_are_appended(lake: Lake) -> None:
    for run in ("a", "b"):
        row = {"run_id": run, "market": MARKET, "account": "0x1", "asset": "0x2", "collateral_enabled": True}
        amounts = dict.fromkeys(("collateral_scaled", "debt_scaled", "collateral", "debt"), 1)
        with lake.writer() as writer:
            writer.append(
                MARKET, "results/run_balances", table(result_tables.RESULTS["run_balances"], [{**row, **amounts}])
            )
    assert lake.read("results/run_balances", MARKET)["run_id"].to_pylist() == ["a", "b"]


def test_columns_that_an_older_version_did_not_write(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new column that may be null is null in old files, in Python and in SQL, also after compaction; another is an
    error.
    """
    old = tables.CANONICAL["blocks"]
    row = {"market": MARKET, "block_number": 1, "timestamp": 12, "base_fee": 7}
    with lake.writer() as writer:
        writer.replace(MARKET, "canonical/", iter([("canonical/blocks", table(old, [row]))]), stamp="1")
    monkeypatch.setitem(tables.CANONICAL, "blocks", old.append(pa.field("gas", pa.int64())))
    assert lake.read("canonical/blocks", MARKET).to_pylist() == [{**row, "gas": None}]
    assert lake.sql("SELECT timestamp, gas FROM canonical.blocks").fetchall() == [(12, None)]
    monkeypatch.setitem(tables.CANONICAL, "blocks", old.append(pa.field("gas", pa.int64(), nullable=False)))
    with pytest.raises(LakeError, match="has no column 'gas'; an older version wrote it"):
        lake.read("canonical/blocks", MARKET)


def test_event_columns_may_have_any_name(lake: Lake) -> None:
    """Arguments of events are called from, to, user, index; in SQL too, with rows and without."""
    schema = pa.schema(
        [*tables.RAW_KEY, *(pa.field(name, tables.ADDRESS, nullable=False) for name in ("from", "to", "user", "index"))]
    )
    key = {
        "block_number": 22,
        "transaction_index": 0,
        "log_index": 0,
        "transaction_hash": bytes(32),
        "address": bytes(20),
    }
    full = table(schema, [{**key, **dict.fromkeys(("from", "to", "user", "index"), bytes(20))}])
    with lake.writer() as writer:
        writer.commit(
            MARKET, {"raw/aave-v3/Full": full, "raw/aave-v3/Empty": schema.empty_table()}, from_block=21, to_block=30
        )
    for name, count in (("Full", 1), ("Empty", 0)):
        assert (
            lake.sql(f'SELECT "from", "to", "user", "index" FROM raw.aave_v3_{name}').fetchall()
            == [(bytes(20),) * 4] * count
        )


# -- compaction and garbage
# ------------------------------------------------------------------------------------------------


def test_compaction_changes_files_only(lake: Lake) -> None:
    rows, digest = lake.read(EVENT, MARKET), lake.digest(MARKET)
    with lake.writer() as writer:
        assert writer.compact() == 1
        assert writer.compact() == 0
    assert lake.read(EVENT, MARKET).equals(rows)
    assert [(file.from_block, file.to_block) for file in lake.files(EVENT)] == [(1, 20)]
    assert lake.digest(MARKET) == digest


def test_a_reader_of_an_older_version_keeps_its_files(lake: Lake) -> None:
    reader = Lake(lake.path)
    with lake.writer() as writer:
        writer.compact()
        assert blocks_of(reader) == [3, 5, 9, 12, 12, 20]
        for version in range(m.KEEP_VERSIONS):
            writer.set_provenance(MARKET, {"client": str(version)})
        writer.collect_garbage()
    with pytest.raises(LakeError, match="refresh"):
        blocks_of(reader)
    reader.refresh()
    assert blocks_of(reader) == [3, 5, 9, 12, 12, 20]
    assert len(m.versions(lake.storage)) == m.KEEP_VERSIONS
    assert len(list((lake.path / "data").rglob("*.parquet"))) == 1


def test_what_interrupted_writes_left_is_collected(lake: Lake) -> None:
    orphan = lake.path / "data" / MARKET / EVENT / "1-2-0123.parquet"
    orphan.write_bytes(b"orphan")
    half = lake.path / "manifest" / "00000099.json.unfinished-1"
    half.write_bytes(b"{")
    assert blocks_of(Lake(lake.path)) == [3, 5, 9, 12, 12, 20]
    with lake.writer() as writer:
        writer.collect_garbage()
    assert not orphan.exists()
    assert not half.exists()
    assert blocks_of(lake) == [3, 5, 9, 12, 12, 20]


# -- digests
# ---------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.data())
@settings(max_examples=60, deadline=None)
def test_content_digests_add_up_however_rows_are_cut_and_ordered(blocks: list[int], data: st.DataObject) -> None:
    rows = supplies(blocks)
    whole = content.content_digest(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(blocks)), max_size=4)))
    parts = [rows.slice(start, stop - start) for start, stop in zip([0, *cuts], [*cuts, len(blocks)], strict=True)]
    assert content.add(content.content_digest(part) for part in parts) == whole
    order = data.draw(st.permutations(range(len(blocks))))
    assert content.content_digest(rows.take(order)) == whole


@pytest.mark.parametrize("column", SUPPLY.names)
def test_content_digests_see_every_column(column: str) -> None:
    rows = supplies([1, 2, 3])
    values = rows[column].to_pylist()
    other = {int: lambda v: v + 1, bytes: lambda v: v[:-1] + b"\xff"}.get(type(values[1]), lambda v: v + 1)(values[1])
    changed = rows.set_column(
        SUPPLY.get_field_index(column),
        SUPPLY.field(column),
        pa.array([values[0], other, values[2]], SUPPLY.field(column).type),
    )
    assert content.content_digest(changed) != content.content_digest(rows)
    swapped = rows.set_column(SUPPLY.get_field_index("amount"), "amount", rows["amount"].take([1, 0, 2]))
    assert content.content_digest(swapped) != content.content_digest(rows)


def test_content_digests_tell_values_apart_in_every_type() -> None:
    """Null is not zero, not empty, not false; text depends on its value, not on how a dictionary numbers it."""
    schema = pa.schema(
        [
            ("n", pa.int64()),
            ("t", pa.string()),
            ("b", pa.bool_()),
            ("x", pa.binary()),
            ("l", pa.list_(pa.binary(2))),
            ("d", tables.CATEGORY),
        ]
    )
    rows = [
        {},
        {"n": 0},
        {"t": ""},
        {"t": "a"},
        {"b": False},
        {"b": True},
        {"x": b""},
        {"x": b"a"},
        {"l": []},
        {"l": [b"ab"]},
        {"l": [b"ab", b"ab"]},
        {"d": "a"},
        {"d": "b"},
    ]
    digests = [content.content_digest(table(schema, [row])) for row in rows]
    assert len(set(digests)) == len(rows)
    together = table(schema, rows)
    assert content.add(digests) == content.content_digest(together)
    renumbered = together.take(list(range(len(rows) - 1, -1, -1)))
    assert content.content_digest(pa.table(renumbered.to_pydict(), schema=schema)) == content.content_digest(together)


def test_the_lake_digest_ignores_cuts_and_sees_rows_and_coverage(tmp_path: Path) -> None:
    def filled(name: str, commits: list[tuple[int, int, list[int]]]) -> str:
        made = Lake(tmp_path / name, create=True)
        with made.writer() as writer:
            writer.set_market(CONFIG)
            for start, stop, blocks in commits:
                rows = supplies([3, 5, 9, 12]).filter(pa.array([block in blocks for block in (3, 5, 9, 12)]))
                writer.commit(MARKET, {EVENT: rows}, from_block=start, to_block=stop, covers={"pool": (start, stop)})
        return made.digest(MARKET)

    one = filled("one", [(1, 20, [3, 5, 9, 12])])
    assert filled("two", [(10, 20, [12]), (1, 4, [3]), (5, 9, [5, 9])]) == one
    assert filled("fewer", [(1, 20, [3, 5, 9])]) != one
    assert filled("longer", [(1, 21, [3, 5, 9, 12])]) != one


# -- formats
# ---------------------------------------------------------------------------------------------------------------


def as_format_1(lake: Lake) -> None:
    """Rewrite the newest manifest as the first version of this program did: no schemas, no digests, no seal."""
    path = lake.path / m.name_of(lake.manifest.version)
    body = json.loads(path.read_bytes())
    body["format"] = 1
    del body["schemas"], body["sha256"]
    for record in body["markets"].values():
        for file in record["files"]:
            file.pop("sha256", None)
            file.pop("content", None)
    path.chmod(0o644)
    path.write_text(json.dumps(body))


def test_format_1_is_read_and_migrated_by_the_first_writer(lake: Lake) -> None:
    digest, files = lake.digest(MARKET), lake.files(EVENT)
    as_format_1(lake)
    old = Lake(lake.path)
    assert blocks_of(old) == [3, 5, 9, 12, 12, 20]
    assert old.read(EVENT, MARKET).schema.equals(SUPPLY)
    assert old.digest(MARKET) == digest
    assert {file.sha256 for file in old.files(EVENT)} == {""}
    with old.writer():
        pass
    assert old.files(EVENT) == files
    assert json.loads((lake.path / m.name_of(old.manifest.version)).read_bytes())["format"] == 3
    assert Lake(lake.path).digest(MARKET) == digest


def test_a_newer_format_is_refused(lake: Lake) -> None:
    body = json.loads((lake.path / m.name_of(lake.manifest.version)).read_bytes())
    (lake.path / m.name_of(lake.manifest.version + 1)).write_text(json.dumps({**body, "format": 4, "surprise": 1}))
    for use in (lambda: Lake(lake.path), lake.refresh, lambda: Lake(lake.path, create=True)):
        with pytest.raises(LakeError, match=r"has format 4, this version reads up to 3; install a newer version"):
            use()


def test_a_broken_manifest_is_named(lake: Lake) -> None:
    (lake.path / m.name_of(lake.manifest.version + 1)).write_text("{")
    with pytest.raises(LakeError, match=r"json is not a manifest"):
        Lake(lake.path)


# -- writers
# ---------------------------------------------------------------------------------------------------------------


def test_the_second_writer_is_told_who_the_first_is(lake: Lake) -> None:
    with (
        lake.writer(),
        pytest.raises(LakeError, match=f"is being written by process {os.getpid()}"),
        Lake(lake.path).writer(),
    ):
        pass
    with Lake(lake.path).writer():
        pass


def test_two_writers_cannot_publish_the_same_version(lake: Lake) -> None:
    """Even without the lock, the loser of a race learns of it and the winner's commit stands."""
    from backtest.lake.writer import Writer

    first, second = Lake(lake.path), Lake(lake.path)
    Writer(first).set_provenance(MARKET, {"by": "first"})
    with pytest.raises(LakeError, match="another writer published version"):
        Writer(second).set_provenance(MARKET, {"by": "second"})
    assert Lake(lake.path).provenance(MARKET) == {"by": "first"}


@pytest.mark.parametrize("failing", ["data", "manifest"])
def test_a_full_disk_commits_nothing(lake: Lake, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, files = lake.manifest, set(lake.path.rglob("*"))

    def full(path: Path, mode: str) -> IO[bytes]:
        if path.relative_to(lake.path).parts[0] == failing:
            path.write_bytes(b"as much as fits")
            raise OSError(errno.ENOSPC, "No space left on device")
        return builtins.open(path, mode)

    monkeypatch.setattr(storage, "open", full, raising=False)
    with (
        pytest.raises(LakeError, match=r"cannot write .*: No space left on device; nothing was committed"),
        lake.writer() as writer,
    ):
        writer.commit(MARKET, {EVENT: supplies([25])}, from_block=21, to_block=30, covers={"pool": (21, 30)})
    monkeypatch.undo()
    assert Lake(lake.path).manifest == before
    if failing == "data":
        assert set(lake.path.rglob("*")) == files
    with lake.writer() as writer:
        writer.commit(MARKET, {EVENT: supplies([25])}, from_block=21, to_block=30, covers={"pool": (21, 30)})
        writer.collect_garbage()
    assert blocks_of(lake)[-1] == 25
    assert len(list((lake.path / "data").rglob("*.parquet"))) == 3


_WRITER = """
import sys
from backtest.lake import Lake
from tests.support.lake_tables import CONFIG, MARKET, supplies
lake = Lake(sys.argv[1])
with lake.writer() as writer:
    start = max([stop for _, stop in lake.covered(MARKET, "pool")], default=0) + 1
    for first in range(start, start + 40 * 1000, 10):
        last = first + 9
        data = {f"raw/aave-v3/{name}": supplies([first, first + 5, last]) for name in ("Supply", "Repay")}
        writer.commit(MARKET, data, from_block=first, to_block=last, covers={"pool": (first, last)})
        if first % 30 == 1:
            writer.compact()
        print(last, flush=True)
"""


@pytest.mark.slow
def test_kill_at_any_moment_leaves_a_committed_prefix(tmp_path: Path) -> None:
    """A writer that commits and compacts is killed again and again; each time what is covered is there, once, and no
    more.
    """
    lake = Lake(tmp_path / "lake", create=True)
    with lake.writer() as writer:
        writer.set_market(CONFIG)
        writer.commit(
            MARKET,
            {f"raw/aave-v3/{name}": SUPPLY.empty_table() for name in ("Supply", "Repay")},
            from_block=0,
            to_block=0,
        )
    rng = random.Random(7)
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(lake.path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(rng.randrange(1, 6)):
                committed = int(process.stdout.readline())
            time.sleep(rng.uniform(0, 0.03))
            os.kill(process.pid, signal.SIGKILL)
        lake.refresh()
        covered = lake.covered(MARKET, "pool")
        assert len(covered) == 1
        top = covered[0][1]
        assert top >= committed
        wanted = [block for first in range(1, top, 10) for block in (first, first + 5, first + 9)]
        for name in ("Supply", "Repay"):
            assert lake.read(f"raw/aave-v3/{name}", MARKET)["block_number"].to_pylist() == wanted
    with lake.writer() as writer:  # the lock went with its holder
        writer.compact()
    named = {file.path for file in lake.files(None)}
    assert named <= {str(path) for path in (lake.path / "data").rglob("*.parquet")}


def test_files_are_plain_parquet_with_exact_types(lake: Lake) -> None:
    read = pq.ParquetFile(lake.files(EVENT)[0].path)
    assert read.schema_arrow.field("amount").type == tables.AMOUNT
    assert read.metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_lake_made_for_what_failed_is_not_left_behind(tmp_path: Path) -> None:
    """Not even what a writer had begun; a lake and a folder that were there before stay."""

    def fails(folder: Path) -> None:
        with Lake.made(folder) as made:
            made.storage.put("data/unfinished.parquet", b"named by no manifest")
            raise UserError("refused", "mend it")

    (tmp_path / "empty").mkdir()
    Lake(tmp_path / "older", create=True)
    for name in ("new/deep/lake", "empty", "older"):
        with pytest.raises(UserError, match="refused"):
            fails(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "older"}
    assert list((tmp_path / "empty").iterdir()) == []
    assert Lake(tmp_path / "older").markets() == []


def test_a_lake_in_which_something_was_stored_stays(tmp_path: Path) -> None:
    def fails() -> None:
        with Lake.made(tmp_path / "lake") as made, made.writer() as writer:
            writer.set_market(CONFIG)
            raise UserError("refused", "mend it")

    with pytest.raises(UserError, match="refused"):
        fails()
    assert Lake(tmp_path / "lake").markets() == [MARKET]
