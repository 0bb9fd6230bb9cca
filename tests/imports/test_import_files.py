"""Files of every form become the same text; broken ones are an error in one line, or a row in quarantine. Nothing is
lost.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backtest.errors import UserError
from backtest.imports import import_files, load
from backtest.imports.mapping import ImportSource
from backtest.imports.sources import Sources, read
from backtest.lake import Lake
from tests.support.import_exports import FLOWS, mapping

SOURCE = {"rows": ImportSource(files="rows*", columns=("a", "t"))}
TEXT = "a,t,note\n0.10,10,x\n2.5E+3,20,\n"
ROWS = [{"a": "0.10", "t": "10", "note": "x"}, {"a": "2.5E+3", "t": "20", "note": ""}]


def _read(folder: Path, name: str, data: bytes) -> Sources:
    (folder / name).write_bytes(data)
    return read(SOURCE, folder, {})


def _rows(found: Sources) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name != "source_row"} for row in found.tables["rows"].to_pylist()
    ]


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _lines(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.csv", TEXT.encode()),
        ("rows.csv", b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()),
        ("rows.csv", b'a,t,note\n"0.10","10",x\n\n2.5E+3,20,""\n'),
        ("rows.tsv", TEXT.replace(",", "\t").encode()),
        ("rows.csv.gz", gzip.compress(TEXT.encode(), mtime=0)),
        ("rows.json", json.dumps(ROWS).encode()),
        ("rows.json", _lines(ROWS)),
        ("rows.jsonl.gz", gzip.compress(_lines(ROWS), mtime=0)),
        ("rows.parquet", _parquet(pa.Table.from_pylist(ROWS))),
    ],
)
def test_every_form_gives_the_same_text(tmp_path: Path, name: str, data: bytes) -> None:
    found = _read(tmp_path, name, data)
    assert _rows(found) == ROWS
    assert found.tables["rows"]["source_row"].to_pylist() == ["0:0", "0:1"]
    assert (found.bad, found.files[0].rows) == ([], 2)


def test_numbers_of_json_keep_their_digits(tmp_path: Path) -> None:
    data = (
        b'[{"a": 123456789012345678901234567890.10, "t": 1E+2, "deep": {"x": [1.50, null, true]}, "no": null, "yes":'
        b" true}]"
    )
    found = _rows(_read(tmp_path, "rows.json", data))
    assert found == [
        {
            "a": "123456789012345678901234567890.10",
            "t": "1E+2",
            "deep": '{"x": ["1.50", null, true]}',
            "no": None,
            "yes": "true",
        }
    ]


def test_columns_of_parquet_are_written_out(tmp_path: Path) -> None:
    table = pa.table(
        {
            "a": pa.array([2**63, None], pa.uint64()),
            "t": pa.array([1_600_000_000, None], pa.timestamp("s", "UTC")),
            "hash": pa.array([b"\xab\x01", None], pa.binary()),
            "kind": pa.array(["x", None]).dictionary_encode(),
        }
    )
    found = _rows(_read(tmp_path, "rows.parquet", _parquet(table)))
    assert found[0] == {"a": "9223372036854775808", "t": "2020-09-13 12:26:40.000Z", "hash": "0xab01", "kind": "x"}
    assert set(found[1].values()) == {None}


def test_names_of_columns_may_differ_in_case_and_files_in_columns(tmp_path: Path) -> None:
    (tmp_path / "rows1.csv").write_text("A,T\n1,2\n")
    (tmp_path / "rows2.csv").write_text("t,a,More\n4,3,x\n")
    assert _rows(read(SOURCE, tmp_path, {})) == [{"a": "1", "t": "2", "More": None}, {"a": "3", "t": "4", "More": "x"}]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("rows.csv", b"a,t\n1,2\n3,4,5\n6\n7,8\n", {1: "3 fields, not 2", 2: "1 fields, not 2"}),
        ("rows.csv", TEXT.encode()[:-1], {1: "the last line does not end"}),
        ("rows.csv", TEXT.encode()[:-3], {1: "2 fields, not 3"}),
        ("rows.jsonl", _lines(ROWS)[:-3], {1: "not JSON"}),
        ("rows.jsonl", b'{"a": 1, "t": 2}\n[1]\n{"a": 1, "a": 2}\n', {1: "not an object", 2: "a name comes twice"}),
    ],
)
def test_rows_that_do_not_fit_are_kept_apart_whole(
    tmp_path: Path, name: str, data: bytes, reason: dict[int, str]
) -> None:
    found = _read(tmp_path, name, data)
    assert {bad.row: bad.reason[: len(reason[bad.row])] for bad in found.bad} == reason
    assert found.files[0].rows == len(found.bad) + found.tables["rows"].num_rows
    assert all(json.loads(bad.text) for bad in found.bad)


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        (
            "rows.csv.gz",
            gzip.compress(TEXT.encode() * 99, mtime=0)[:-9],
            "rows.csv.gz cannot be unpacked: .*cut off or damaged",
        ),
        ("rows.csv.gz", b"plain", "rows.csv.gz cannot be unpacked"),
        ("rows.parquet", _parquet(pa.Table.from_pylist(ROWS))[:-20], "rows.parquet: .*cut off or not Parquet"),
        ("rows.json", json.dumps(ROWS).encode()[:-3], "rows.json: .*cut off or not JSON"),
        ("rows.csv", b'a,t\n1,"2\n', "rows.csv, line 2: unexpected end of data; the file is cut off"),
        ("rows.csv", b"", "rows.csv is empty"),
        ("rows.csv", b"a,t\n\xff,2\n", "rows.csv: byte 4 is not UTF-8"),
        ("rows.xlsx", b"PK", "rows.xlsx: unknown kind of file; its name ends with"),
        ("rows.csv", b"a,t,A\n", "column 'a' comes twice"),
        ("rows.csv", b"a,t,source_row\n", "has a column 'source_row'"),
        ("rows.csv", b"a\n1\n", r"rows.csv \(source 'rows'\) has no column 't'"),
        ("rows.csv", b"a,tt\n1,2\n", "has no column 't'; did you mean 'tt'.*nothing was imported"),
    ],
)
def test_files_that_cannot_be_read_are_one_line(tmp_path: Path, name: str, data: bytes, what: str) -> None:
    with pytest.raises(UserError, match=what) as error:
        _read(tmp_path, name, data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("folder", "given", "what"),
    [
        (True, {}, "no file of source 'rows' in .*; expected rows"),
        (False, {}, "no files to import"),
        (False, {"row": ["x"]}, "the mapping has no source 'row'; did you mean 'rows'"),
        (False, {"rows": ["nowhere/*.csv"]}, r"--source rows=nowhere/\*.csv: no such file"),
    ],
)
def test_sources_without_files(tmp_path: Path, folder: bool, given: dict[str, list[str]], what: str) -> None:
    with pytest.raises(UserError, match=what):
        read(SOURCE, tmp_path if folder else None, given)


def test_the_same_file_twice_is_read_once(tmp_path: Path) -> None:
    for name in ("rows1.csv", "rows2.csv"):
        (tmp_path / name).write_text(TEXT)
    found = read(SOURCE, tmp_path, {})
    assert (len(found.files), found.repeated, found.tables["rows"].num_rows) == (1, ["rows2.csv"], 2)


# -- mappings
# ------------------------------------------------------------------------------------------------------------------


def _own(tmp_path: Path, select: str, *, target: str = "flow", more: str = "") -> Callable[[], object]:
    folder = tmp_path / "files"
    folder.mkdir(exist_ok=True)
    (folder / "rows.csv").write_text("a,t\n1,1600000000\n2,1600000100\n")
    where = mapping(tmp_path / "own", {target: select}, more=more)
    return lambda: import_files(Lake(tmp_path / "lake", create=True), load(str(where)), folder=folder)


@pytest.mark.parametrize(
    ("select", "what"),
    [
        (FLOWS.replace("a AS", "b AS"), "own/flow.sql: no source has a column 'b'"),
        (FLOWS.replace("FROM rows", "FROM row"), "own/flow.sql: there is no source 'row'; did you mean 'rows'"),
        (FLOWS.replace("AS amount", "AS amuont"), "own/flow.sql: unknown column 'amuont'; did you mean 'amount'"),
        (FLOWS.replace("'me' AS account,", ""), "own/flow.sql has no column 'account'"),
        (FLOWS.replace("a AS amount,", ""), "own/flow.sql has no column 'amount'"),
        (FLOWS.replace(", t AS timestamp", ""), "own/flow.sql has no column 'timestamp'"),
        (FLOWS.replace("source_row,", "a AS source_row,"), "own/flow.sql: '1' is no source_row"),
        (FLOWS.replace("a AS amount", "CAST(a AS DOUBLE) AS amount"), "column 'amount' is DOUBLE, which is not exact"),
        (FLOWS.replace("'me'", "$who"), "own/flow.sql: unknown parameter '\\$who'"),
        (FLOWS.replace("FROM rows", "FROM read_csv('/etc/passwd')"), "there is no table function 'read_csv'"),
        (FLOWS.replace("FROM rows", "FROM '/etc/passwd'"), "own/flow.sql: "),
        (f"{FLOWS}; SELECT 1", "own/flow.sql: 2 statements"),
        ("COPY rows TO 'x.csv'", "own/flow.sql: COPY statements are not allowed"),
        ("SELEKT 1", "own/flow.sql: Parser Error"),
    ],
)
def test_a_wrong_select_is_one_line_and_leaves_the_lake(tmp_path: Path, select: str, what: str) -> None:
    _own(tmp_path, FLOWS)()
    before = sorted(path.name for path in (tmp_path / "lake").rglob("*"))
    with pytest.raises(UserError, match=what) as error:
        _own(tmp_path, select)()
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in (tmp_path / "lake").rglob("*")) == before


@pytest.mark.parametrize(
    ("toml", "what"),
    [
        ("timezon = 'UTC'", "own/mapping.toml: .*unknown field `timezon`; did you mean 'timezone'"),
        ("timezone = 'Mars/Olympus'", "own/mapping.toml: unknown timezone 'Mars/Olympus'"),
        (
            "[rounding]\n'flow.amuont' = { direction = 'down', reason = 'x' }",
            "rounding of 'flow.amuont'; did you mean 'flow.amount'",
        ),
        ("[rounding]\n'flow.amount' = { direction = 'up', reason = 'x' }", "own/mapping.toml: Invalid enum value 'up'"),
        ("[rounding]\n'flow.amount' = { direction = 'down', reason = ' ' }", "gives no reason"),
        ("[parameters]\n'A-B' = 'x'", "parameter 'A-B'; use lower-case"),
        ("oops", "own/mapping.toml: .*not TOML"),
    ],
)
def test_a_wrong_description_is_one_line(tmp_path: Path, toml: str, what: str) -> None:
    with pytest.raises(UserError, match=what) as error:
        _own(tmp_path, FLOWS, more=toml)()
    assert "\n" not in str(error.value)


def test_folders_that_are_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no mapping 'maker-vault'; did you mean 'maker-vaults'"):
        load("maker-vault")
    with pytest.raises(UserError, match=r"has no mapping.toml"):
        load(str(tmp_path))
    folder = mapping(tmp_path / "own", {"flows": FLOWS})
    with pytest.raises(UserError, match=r"own/flows.sql feeds no table; did you mean 'flow.sql'"):
        load(str(folder))
    (folder / "flows.sql").unlink()
    with pytest.raises(UserError, match="has no SELECT"):
        load(str(folder))
