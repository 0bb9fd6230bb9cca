"""Damage and edits: a flipped bit, a manifest that was edited, files of another schema. One clear error, or the right
result.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backtest.cli import main
from backtest.errors import LakeError
from backtest.lake import Lake, checks
from backtest.lake import manifest as m
from backtest.resources import resource
from tests.support.lake_tables import MARKET, write
from tests.support.sql_book import book

CRASH = "sample-crash"
FLIPS = 120
QUERIES = (
    "SELECT count(*), sum(delta), min(seq), max(timestamp) FROM position_events",
    "SELECT count(*), sum(price), sum(log_index) FROM prices",
    "SELECT count(*), sum(value) FROM params",
    "SELECT count(*), sum(repaid), sum(seized), max(account) FROM liquidations",
    "SELECT count(*), sum(hash(*COLUMNS(*))) FROM accounts",
    "SELECT market, protocol, chain_id, start_block, base_decimals FROM markets",
    "SELECT sum(rows), sum(bytes) FROM files",
    "SELECT count(*), sum(to_block - from_block) FROM coverage",
)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled lake, its manifest written by this version, and one run in it."""
    path = tmp_path_factory.mktemp("damage") / "lake"
    shutil.copytree(resource("sample") / "lake", path)
    replay(path)
    newest = max((path / "manifest").iterdir())
    for older in (path / "manifest").iterdir():
        if older != newest:
            older.unlink()
    return path


def replay(path: Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["replay", "--lake", str(path), "--market", CRASH, "--liquidators", "competitive", "--name", "model"])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def answers(path: Path) -> list[Any]:
    """All that a reader may ask of a lake: rows by SQL and by Arrow, digests, coverage, the description."""
    lake = Lake(path)
    found: list[Any] = [lake.sql(query).fetchall() for query in QUERIES]
    for market in lake.markets():
        found += [lake.market_config(market), lake.digest(market), lake.provenance(market)]
        found += [(source, lake.covered(market, source)) for source in lake.sources(market)]
        for dataset in lake.datasets(market):
            found.append((dataset, hash_of(lake.read(dataset, market))))
            found.append(lake.read(dataset, market, from_block=100, to_block=150).num_rows)
    return found


def hash_of(table: pa.Table) -> str:
    return hashlib.sha256(repr(table.to_pydict()).encode()).hexdigest()


def flipped(path: Path, bit: int) -> bytes:
    """Flip one bit of a file; returns what it was."""
    before = path.read_bytes()
    damaged = bytearray(before)
    damaged[bit // 8] ^= 1 << bit % 8
    path.chmod(0o644)
    path.write_bytes(damaged)
    return before


@pytest.mark.slow
def test_a_flipped_bit_is_one_clear_error_and_never_a_wrong_answer(sample: Path) -> None:
    right = answers(sample)
    files = sorted(path for path in sample.rglob("*") if path.is_file() and path.name != "writer.lock")
    draw = random.Random(9)
    [manifest] = [path for path in files if path.suffix == ".json"]
    chosen = [draw.choice(files) for _ in range(FLIPS - 20)] + [manifest] * 20
    errors = []
    for path in chosen:
        before = flipped(path, draw.randrange(8 * path.stat().st_size))
        with pytest.raises(LakeError) as error:
            assert answers(sample) == right
        errors.append((path, str(error.value)))
        path.write_bytes(before)
    for path, message in errors:
        assert path.name in message
        assert "\n" not in message
    assert answers(sample) == right


@pytest.mark.slow
@pytest.mark.parametrize(
    "table", ["canonical/prices", "canonical/position_events", "results/runs", "results/run_totals"]
)
def test_a_replay_over_damage_stores_and_serves_nothing(
    sample: Path, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = Lake(sample)
    version, path = lake.manifest.version, Path(lake.files(table, CRASH)[0].path)
    before = flipped(path, 8 * (path.stat().st_size // 2))
    try:
        assert replay(sample) == 2
        out, err = capsys.readouterr()
        assert "stored already" not in out
        assert err.count("\n") == 1
        assert path.name in err
        found = {finding.check: finding for finding in checks.run(Lake(sample))}
        assert found["files"].violations == 1
        assert path.name in found["files"].examples[0]
        assert not found["prices__positive"].passed
    finally:
        path.write_bytes(before)
    assert Lake(sample).manifest.version == version
    assert replay(sample) == 0
    assert "stored already" in capsys.readouterr().out


def test_damaged_canonical_tables_are_built_anew_by_the_command_that_the_error_names(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lake"
    shutil.copytree(sample, path)
    right = hash_of(Lake(path).read("canonical/prices", CRASH))
    flipped(Path(Lake(path).files("canonical/prices", CRASH)[0].path), 8 * 200)
    with pytest.raises(LakeError, match="backtest reconstruct --lake"):
        Lake(path).read("canonical/prices", CRASH)
    with pytest.raises(SystemExit) as stopped:
        main(["reconstruct", "--lake", str(path), "--market", CRASH])
    assert stopped.value.code == 0
    assert hash_of(Lake(path).read("canonical/prices", CRASH)) == right


def test_compaction_does_not_carry_damage_on(tmp_path: Path) -> None:
    from tests.support.lake_tables import CONFIG, supplies

    lake = Lake(tmp_path / "lake", create=True)
    with lake.writer() as writer:
        writer.set_market(CONFIG)
        for block in (1, 2):
            writer.commit(MARKET, {"raw/aave-v3/Supply": supplies([block])}, from_block=block, to_block=block)
    flipped(Path(lake.files("raw/aave-v3/Supply")[0].path), 8 * 60)
    with lake.writer() as writer, pytest.raises(LakeError, match="is not the file that was written"):
        writer.compact()
    assert len(lake.files("raw/aave-v3/Supply")) == 2


def test_trust_reads_without_a_look_and_writes_nothing(sample: Path) -> None:
    path = Path(Lake(sample).files("canonical/accounts", CRASH)[0].path)
    before = path.read_bytes()
    table = pq.read_table(path)
    path.chmod(0o644)
    pq.write_table(table, path)  # the same rows, other bytes
    try:
        with pytest.raises(LakeError, match="is not the file that was written"):
            Lake(sample).read("canonical/accounts", CRASH)
        trusted = Lake(sample, trust=True)
        assert trusted.read("canonical/accounts", CRASH).num_rows == table.num_rows
        assert trusted.sql(f"SELECT count(*) FROM accounts WHERE market = '{CRASH}'").fetchall() == [(table.num_rows,)]
        with pytest.raises(LakeError, match="open it without trust"), trusted.writer():
            pass
    finally:
        path.write_bytes(before)


# -- manifests


def edit(path: Path, change: Callable[[dict[str, Any]], None], *, seal: bool = False, form: int = 2) -> None:
    """Edit the newest manifest: as an editor would, as a manifest of format 2, or with a right seal."""
    newest = max((path / "manifest").glob("*.json"))
    body = json.loads(newest.read_bytes())
    del body["sha256"]
    body["format"] = form
    change(body)
    text = json.dumps(body, separators=(",", ":")).encode()
    newest.chmod(0o644)
    newest.write_bytes(text[:-1] + b',"sha256":"' + hashlib.sha256(text).hexdigest().encode() + b'"}' if seal else text)


def first_file(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["markets"][MARKET]["files"][0]
    return found


def twice(body: dict[str, Any]) -> None:
    body["markets"][MARKET]["files"].append(first_file(body))


def test_any_edit_breaks_the_seal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(write(tmp_path / "lake", book()).path)
    edit(path, lambda body: body["markets"][MARKET]["files"].pop(), form=3)
    with pytest.raises(LakeError, match="damaged, or edited by hand; restore it"):
        Lake(path)
    for words in (["check"], ["info"], ["sql", "SELECT 1"]):
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--lake", str(path)])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("form", [0, -1, 1.5, "2", None, True, 10**30, [1]], ids=str)
def test_formats_that_are_none(tmp_path: Path, form: Any) -> None:
    path = Path(write(tmp_path / "lake", book()).path)
    edit(path, lambda body: body.update(format=form))
    with pytest.raises(LakeError, match=r"is not a manifest|has format"):
        Lake(path)


@pytest.mark.parametrize(
    "text",
    [
        b'{"format": 1e400}',
        b'{"format": Infinity}',
        b'{"format": NaN}',
        b'{"format": 2, "markets": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"format": ' + b"9" * 5000 + b"}",
        b'{"format": 2, "version": ' + b"9" * 5000 + b', "markets": {}}',
        b"\xff\xfe",
        b"",
        b"[]",
        b'"format"',
    ],
    ids=range(10),
)
def test_bytes_that_are_no_manifest(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "lake"
    (path / "manifest").mkdir(parents=True)
    (path / "manifest/00000001.json").write_bytes(text)
    with pytest.raises(LakeError) as error:
        Lake(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


EDITS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a file twice": (twice, "twice"),
    "negative": (lambda body: first_file(body).update(rows=-1), "rows"),
    "beyond 64 bits": (lambda body: first_file(body).update(rows=2**63), "rows"),
    "a fraction": (lambda body: first_file(body).update(rows=1.5), "rows"),
    "elsewhere": (lambda body: first_file(body).update(path="/etc/passwd"), "no data file"),
    "above": (lambda body: first_file(body).update(path="data/../../x.parquet"), "no data file"),
    "NUL": (lambda body: first_file(body).update(path="data/\x00.parquet"), "no data file"),
    "deep type": (lambda body: body.update(schemas={"raw/x/Y": [["a", "list<item: " * 50, True]]}), "has type"),
}


@pytest.mark.parametrize("edited", EDITS)
@pytest.mark.parametrize("seal", [False, True])
def test_manifests_that_contradict_themselves(tmp_path: Path, edited: str, seal: bool) -> None:
    """Without a seal, as format 2 had none; and with a right one."""
    change, message = EDITS[edited]
    path = Path(write(tmp_path / "lake", book()).path)
    edit(path, change, seal=seal, form=3 if seal else 2)
    with pytest.raises(LakeError, match=message):
        Lake(path)


def test_rows_that_are_not_as_many_as_the_manifest_says(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "lake", book()).path)
    edit(path, lambda body: first_file(body).update(rows=first_file(body)["rows"] + 1))
    lake = Lake(path)
    file = lake.files(None)[0]
    with pytest.raises(LakeError, match=f"{file.rows - 1} rows, not {file.rows}"):
        lake.read(file.dataset, MARKET)
    with pytest.raises(LakeError, match=r"rows, not"):
        lake.sql("SELECT 1")
    [found] = [finding for finding in checks.run(lake) if finding.check == "files"]
    assert found.violations == 1


def test_a_manifest_under_another_number(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "lake", book()).path)
    newest = max((path / "manifest").glob("*.json"))
    newest.rename(newest.with_name("00000099.json"))
    with pytest.raises(LakeError, match="is the manifest of version"):
        Lake(path)


# -- Parquet files


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda table: table.set_column(2, "block_number", pa.array(["x"] * table.num_rows)), "is string, not int64"),
        (lambda table: table.drop_columns(["timestamp"]), "has no column 'timestamp'"),
        (lambda table: table.set_column(1, "seq", pa.nulls(table.num_rows, pa.int64())), "nulls, where none may be"),
    ],
    ids=["type", "column", "nulls"],
)
def test_a_file_of_another_schema(tmp_path: Path, make: Callable[[pa.Table], pa.Table], message: str) -> None:
    lake = write(tmp_path / "lake", book())
    file = next(file for file in lake.files("canonical/position_events"))
    path = Path(file.path)
    table = pq.ParquetFile(path).read()
    assert table.schema.names[1:3] == ["seq", "block_number"]
    path.chmod(0o644)
    pq.write_table(make(table), path)
    with pytest.raises(LakeError, match="is not the file that was written"):
        lake.read("canonical/position_events", MARKET)
    with pytest.raises(LakeError, match=message):
        Lake(lake.path, trust=True).read("canonical/position_events", MARKET)


def test_a_path_with_nul() -> None:
    with pytest.raises(LakeError, match="holds no NUL"):
        Lake("a\0b")


def test_m_parses_what_it_wrote(tmp_path: Path) -> None:
    manifest = write(tmp_path / "lake", book()).manifest
    assert m.parse(m.encode(manifest), "x") == manifest
