"""Forms that exports have, and what is wrong with some: each gives the right value, or one line that says how to mend
it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.cli.import_ import lines
from backtest.cli.reconstruct import reconstruct as rebuild_all
from backtest.errors import UserError
from backtest.foreign import shown
from backtest.imports import ImportSummary, import_files, load, sources
from backtest.imports.mapping import ImportSource
from backtest.imports.numbers import digest32, plausible, printable, scaled, seconds, spelled, whole
from backtest.lake import Lake
from backtest.lake.mapped import TextDatabase
from backtest.protocols.registry import PROTOCOLS, folding_imports
from backtest.reconstruct import reconstruct

ROOT = Path(__file__).parents[2]
TIME = 1_704_067_200  # 2024-01-01
HASH = "0x" + "00" * 31
SELECT = """
SELECT source_row, who AS account, 'eth' AS asset, CASE what WHEN 'in' THEN 'supply' ELSE what END AS action,
    ether AS amount, block, time AS timestamp, hash AS transaction_hash, log AS log_index
FROM moves
"""
MAPPING = """
description = "moves of a vault"
{more}
[market]
name = "mine"
protocol = "{protocol}"
chain_id = 1
base_decimals = {decimals}
{market}
[assets]
eth = 18
[sources.moves]
files = {files}
columns = ["block", "time", "hash", "log", "who", "what", "ether"]
{source}
"""
Row = dict[str, Any]


def row(number: int, **other: Any) -> Row:
    """A move; ``other`` replaces what stands in it."""
    plain = {"block": 100 + number, "time": f"2024-01-01T00:{number:02d}:00Z", "hash": f"{HASH}{number:02x}", "log": 7}
    return {**plain, "who": "0xab", "what": "in", "ether": "1", **other}


def is_safe(text: str) -> bool:
    """Whether a message moves no cursor."""
    return shown(text, 10_000) == text


def csv_of(rows: Sequence[Row], separator: str = ",") -> bytes:
    """A CSV file."""
    table = [list(rows[0]), *([str(value) for value in line.values()] for line in rows)]
    return ("\n".join(separator.join(line) for line in table) + "\n").encode()


def parquet_of(columns: Mapping[str, Any]) -> bytes:
    """A Parquet file of two moves, with other columns."""
    plain = {name: [row(1)[name], row(2)[name]] for name in row(1)}
    sink = io.BytesIO()
    pq.write_table(pa.table({**plain, **columns}), sink)
    return sink.getvalue()


class Imported:
    """Imports of made-up moves, each into a lake of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.summary: ImportSummary

    def __call__(
        self,
        data: bytes,
        name: str = "moves.csv",
        *,
        select: str = SELECT,
        more: str = "",
        market: str = "",
        source: str = "",
        protocol: str = "maker",
        decimals: int = 18,
        files: str = "moves*",
    ) -> list[Row]:
        for folder in ("own", "files"):
            (self.folder / folder).mkdir(exist_ok=True)
        for old in (self.folder / "files").iterdir():
            old.unlink()
        (self.folder / "files" / name).write_bytes(data)
        (self.folder / "own/mapping.toml").write_text(
            MAPPING.format(
                more=more, market=market, source=source, protocol=protocol, decimals=decimals, files=json.dumps(files)
            )
        )
        (self.folder / "own/flow.sql").write_text(select)
        self.lake = Lake(self.folder / f"lake{len(list(self.folder.iterdir()))}", create=True)
        self.summary = import_files(self.lake, load(str(self.folder / "own")), folder=self.folder / "files")
        if not self.summary.rows:
            return []
        return self.lake.read("raw/import/Flow", self.summary.market).to_pylist()  # type: ignore[no-any-return]

    @property
    def reasons(self) -> list[str]:
        """Why rows were not taken."""
        return sorted(self.summary.reasons)


@pytest.fixture
def imported(tmp_path: Path) -> Imported:
    """See ``Imported``."""
    return Imported(tmp_path)


# -- the cases
# ---------------------------------------------------------------------------------------------------------------------


def _case(name: str, tmp_path: Path) -> tuple[ImportSummary, list[Row]]:
    folder = Path(os.environ.get("BACKTEST_CASES", ROOT.parent / "shared/cases")) / "import"
    if not (folder / name).is_dir():
        pytest.skip(f"no cases in {folder}: set BACKTEST_CASES")
    lake = Lake(tmp_path / "lake", create=True)
    summary = import_files(lake, load(str(folder / "own")), folder=folder / name)
    held = lake.read("raw/import/Flow", "mine").to_pylist() if summary.rows else []
    return summary, held


def test_case_one_value_out_of_range(tmp_path: Path) -> None:
    summary, held = _case("f01", tmp_path)
    assert [(found["block_number"], found["amount"]) for found in held] == [(101, 10**18)]
    assert dict(summary.reasons) == {"block: 1609459200000 is too large": 1}


def test_case_unicode_line_separators(tmp_path: Path) -> None:
    summary, held = _case("f02", tmp_path)
    assert [(found["block_number"], int(found["amount"]) // 10**18) for found in held] == [(100, 1), (101, 2), (102, 3)]
    assert not summary.reasons


def test_case_a_document_says_where_its_rows_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'rows at data.moves; say rows = "data.moves" under \[sources.moves\]'):
        _case("f04", tmp_path)


def test_case_whole_numbers_with_a_point(tmp_path: Path) -> None:
    summary, held = _case("f05", tmp_path)
    assert [(found["block_number"], found["timestamp"], found["own_index"]) for found in held] == [
        (100, TIME, 7),
        (101, TIME + 12, 7),
    ]
    assert not summary.reasons


def test_case_hashes(tmp_path: Path) -> None:
    summary, held = _case("f12", tmp_path)
    assert [found["transaction_hash"].hex()[-2:] for found in held] == ["a1", "a2", "a3", "a4"]
    assert sorted(reason.partition(":")[0].split(" ")[0] for reason in summary.reasons) == [
        "contradicts",
        "transaction_hash",
    ]


def test_case_times_without_a_zone(tmp_path: Path) -> None:
    summary, held = _case("p05", tmp_path)
    assert held == []
    assert all('states no time zone: say timezone = "UTC"' in reason for reason in summary.reasons)


# -- numbers that are not exact
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_a_float_is_never_an_amount(imported: Imported, kind: pa.DataType) -> None:
    values = pa.array([963019363229999955968.0, 1.0], pa.float64()).cast(kind)
    assert imported(parquet_of({"ether": values}), "moves.parquet") == []
    assert all("is a float, which is not exact: store the column as text" in reason for reason in imported.reasons)
    native = SELECT.replace("ether AS amount", "ether AS amount_native")
    assert imported(parquet_of({"ether": values}), "moves.parquet", select=native) == []
    # nor by way of another column, which turns DuckDB's numbers into text
    coalesced = SELECT.replace("ether AS amount", "coalesce(ether, '0') AS amount")
    assert imported(parquet_of({"ether": values}), "moves.parquet", select=coalesced) == []


def test_a_float_is_a_block_an_index_or_a_time_where_it_is_exact(imported: Imported) -> None:
    columns = {
        "block": pa.array([101.0, 102.0]),
        "log": pa.array([7.0, None]),
        "time": pa.array([float(TIME), float(TIME + 12)]),
    }
    held = imported(parquet_of(columns), "moves.parquet")
    assert [(found["block_number"], found["own_index"], found["timestamp"]) for found in held] == [
        (101, 7, TIME),
        (102, None, TIME + 12),
    ]
    assert imported(parquet_of({"block": pa.array([101.5, float("nan")])}), "moves.parquet") == []
    assert [reason.split("'")[1] for reason in imported.reasons] == ["101.5f64", "nanf64"]


def test_a_short_float_is_exact_up_to_its_own_size_only() -> None:
    assert [whole("16777215f32"), whole("9007199254740991f64"), whole("2047f16")] == [2**24 - 1, 2**53 - 1, 2047]
    for text in ("19000000f32", "9007199254740992f64", "2048f16"):
        with pytest.raises(ValueError, match="is a float too large to be exact"):
            whole(text)


def test_a_mapping_may_take_the_decimal_of_a_float_by_name(imported: Imported) -> None:
    select = SELECT.replace("ether AS amount", "split_part(ether, 'f', 1) AS amount")
    held = imported(parquet_of({"ether": pa.array([0.1, 2.5])}), "moves.parquet", select=select)
    assert [found["amount"] for found in held] == [10**17, 25 * 10**17]


def test_floats_inside_others_are_marked(imported: Imported) -> None:
    nested = pa.array([{"amount": 0.1}, {"amount": 1.0}])
    select = SELECT.replace("ether AS amount", "json_extract_string(ether, '$.amount') AS amount")
    assert imported(parquet_of({"ether": nested}), "moves.parquet", select=select) == []


# -- times
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("20200312", "timestamp: '20200312' is a date and no epoch: write it as 2020-03-12"),
        ("43902", "is too early for a time: before 2015-07-30"),
        ("2014-01-01T00:00:00Z", "is too early for a time: before 2015-07-30"),
        ("2020031207", "is in the future"),
        ("2999-01-01T00:00:00Z", "is in the future"),
        ("1704067200000", 'neither an ISO time nor epoch seconds: say epoch = "milliseconds" in mapping.toml'),
        ("1704067200000000", 'say epoch = "microseconds" in mapping.toml'),
        ("1704067200.5", "neither an ISO time nor epoch seconds"),
        ("2024-01-01T00:00:00+99:00", "is no offset from UTC"),
        ("2024-01-01T00:00:00+00:99", "is no offset from UTC"),
        ("１７０４０６７２００", "neither an ISO time nor epoch seconds"),
        ("9" * 5000, "neither an ISO time nor epoch seconds"),
    ],
)
def test_times_that_cannot_be(imported: Imported, text: str, reason: str) -> None:
    held = imported(csv_of([row(1), row(2, time=text)]))
    assert [found["block_number"] for found in held] == [101]
    (said,) = imported.reasons
    assert reason in said
    assert len(said) < 300


def test_prices_may_be_older_than_the_chain_but_not_in_1970(imported: Imported) -> None:
    select = "SELECT source_row, 'eth' AS asset, what AS kind, '1' AS price, time AS timestamp FROM moves"
    rows = [row(1, time="2012-01-01", what="market"), row(2, time="2012-01-01", what="oracle")]
    rows += [row(3, time="20120101", what="market")]
    (imported.folder / "own").mkdir()
    (imported.folder / "own/price.sql").write_text(select)
    imported(csv_of(rows), select=SELECT + " WHERE false")
    assert [found["timestamp"] for found in imported.lake.read("raw/import/Price", "mine").to_pylist()] == [1325376000]
    assert imported.reasons == [
        "timestamp: '2012-01-01' is too early for a time: before 2015-07-30",
        "timestamp: '20120101' is a date and no epoch: write it as 2012-01-01",
    ]


@pytest.mark.parametrize(
    ("text", "more", "time"),
    [
        ("2024-01-01", "", TIME),
        ("2024-01-01", "timezone = 'Europe/Berlin'", TIME - 3600),
        ("2024-01-01 00:00:00+00", "", TIME),
        ("2024-01-01 02:00:00.000+02", "", TIME),
        ("2024-01-01t00:00:00z", "", TIME),
        ("2024-01-01 00:00:00", "timezone = 'UTC'", TIME),
        ("1704067200.0", "", TIME),
        ("1.7040672E9", "", TIME),
        ("1704067200000", "epoch = 'milliseconds'", TIME),
        ("1704067200000.0", "epoch = 'milliseconds'", TIME),
        ("1704067200000000", "epoch = 'microseconds'", TIME),
        (" 2024-01-01T00:00:00Z\t", "", TIME),
    ],
)
def test_forms_of_times(imported: Imported, text: str, more: str, time: int) -> None:
    assert [found["timestamp"] for found in imported(csv_of([row(1, time=text)]), more=more)] == [time]


def test_parquet_times_and_dates(imported: Imported) -> None:
    local = pa.array([TIME * 1000, (TIME + 12) * 1000], pa.timestamp("ms"))
    zoned = imported(parquet_of({"time": local}), "moves.parquet", more="timezone = 'UTC'")
    assert [found["timestamp"] for found in zoned] == [TIME, TIME + 12]
    days = pa.array([19723, 19724], pa.date32())
    assert [found["timestamp"] for found in imported(parquet_of({"time": days}), "moves.parquet")] == [
        TIME,
        TIME + 86_400,
    ]


def test_seconds_are_no_milliseconds(imported: Imported) -> None:
    assert imported(csv_of([row(1, time="1704067000")]), more="epoch = 'milliseconds'") == []
    assert imported.reasons == ["timestamp: '1704067000' is too early for a time: before 2015-07-30"]


# -- one row does not lose the others
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "column"),
    [
        ({"block": "1609459200000"}, "block"),
        ({"block": "9" * 5000}, "block"),
        ({"block": "１００"}, "block"),
        ({"log": "99999999999"}, "log_index"),
        ({"log": "-1"}, "log_index"),
        ({"hash": "0x" + "aa " * 21 + "a"}, "transaction_hash"),
        ({"ether": "1e30"}, "amount"),
        ({"ether": "9" * 5000}, "amount"),
        ({"ether": "1e9999"}, "amount"),
        ({"who": "a\x1b[31mb"}, "account"),
        ({"who": "a" * 300}, "account"),
        ({"what": "borrowed\x07"}, "action"),
    ],
)
def test_a_wrong_value_is_quarantined_alone(imported: Imported, other: Row, column: str) -> None:
    held = imported(csv_of([row(1), row(2, **other)]))
    assert [found["block_number"] for found in held] == [101]
    (reason,) = imported.reasons
    assert reason.startswith(f"{column}: ")
    assert reason.isprintable()
    assert len(reason) < 300


def test_native_amounts_beyond_38_digits(imported: Imported) -> None:
    native = SELECT.replace("ether AS amount", "ether AS amount_native")
    held = imported(csv_of([row(1, ether="1.0E18"), row(2, ether="1" + "0" * 38)]), select=native)
    assert [found["amount"] for found in held] == [10**18]
    assert "needs more than 38 digits" in imported.reasons[0]


def test_text_of_half_characters_is_quarantined(imported: Imported) -> None:
    text = json.dumps(row(1)) + "\n" + json.dumps(row(2)).replace("0xab", "\\ud800") + "\n"
    for data, name in ((text, "moves.jsonl"), ("[" + ",".join(text.splitlines()) + "]", "moves.json")):
        held = imported(data.encode(), name)
        assert [found["block_number"] for found in held] == [101]
        assert imported.reasons == ["it holds half a character (a lone surrogate): it is not Unicode"]
    whole_pair = json.dumps(row(1, who="\U0001f600"))
    assert [found["account"] for found in imported(whole_pair.encode(), "moves.jsonl")] == ["\U0001f600"]


def test_deep_json_is_one_row_or_one_line(imported: Imported) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    lines_ = json.dumps(row(1)) + '\n{"block": ' + deep + "}\n"
    assert len(imported(lines_.encode(), "moves.jsonl")) == 1
    assert imported.reasons == ["not JSON: it is nested deeper than 64 levels"]
    with pytest.raises(UserError, match="nested deeper than 64 levels"):
        imported(deep.encode(), "moves.json")


def test_a_null_log_index_is_an_unknown_order(imported: Imported) -> None:
    text = json.dumps([row(1, log=None), row(2, log=0)])
    held = imported(text.encode(), "moves.json")
    assert [(found["own_index"], found["ordered"]) for found in held] == [(None, False), (0, True)]


# -- forms of names, separators, documents
# ---------------------------------------------------------------------------------------------------------------------


def test_one_account_has_one_name(imported: Imported) -> None:
    names = ["0x" + "aB" * 20, "\\x" + "ab" * 20, "AB" * 20, "0X" + "AB" * 20, "  0x" + "ab" * 20 + " "]
    held = imported(csv_of([row(number, who=name) for number, name in enumerate(names)]))
    assert {found["account"] for found in held} == {"0x" + "ab" * 20}
    assert [spelled("12" * 20), spelled("Vault 7")] == ["12" * 20, "vault 7"]


def test_blanks_are_no_part_of_a_value(imported: Imported) -> None:
    held = imported(csv_of([row(1, what=" in ", ether=" 1.5\u00a0", log="7 ", block=" 101")]))
    assert [(found["action"], found["amount"], found["own_index"]) for found in held] == [("supply", 15 * 10**17, 7)]


@pytest.mark.parametrize(("separator", "written"), [(";", '";"'), ("\t", r'"\t"'), ("|", '"|"')])
def test_other_separators(imported: Imported, separator: str, written: str) -> None:
    data = csv_of([row(1)], separator)
    with pytest.raises(UserError, match="seem to be separated by") as error:
        imported(data)
    assert f"say separator = {written} under [sources.moves]" in str(error.value)
    assert len(imported(data, source=f"separator = {written}")) == 1


def test_an_index_without_a_name_is_a_column(imported: Imported) -> None:
    data = b"\n".join(f"{number},".encode() + line for number, line in enumerate(csv_of([row(1)]).splitlines()))
    assert len(imported(data.replace(b"0,", b",", 1) + b"\n")) == 1


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ({"data": {"moves": [row(1), row(2)]}}, "data.moves"),
        ({"result": {"rows": [row(1), row(2)], "metadata": {}}}, "result.rows"),
        ([{"data": {"moves": [row(1)]}}, {"data": {"moves": [row(2)]}}], "data.moves"),
    ],
)
def test_rows_inside_of_a_document(imported: Imported, document: Any, rows: str) -> None:
    for text in (json.dumps(document), json.dumps(document, indent=2)):
        with pytest.raises(UserError, match=f'say rows = "{rows}" under'):
            imported(text.encode(), "moves.json")
        held = imported(text.encode(), "moves.json", source=f'rows = "{rows}"')
        assert [found["block_number"] for found in held] == [101, 102]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"data": None, "errors": [{"message": "timeout"}]}, "tells of errors: .*timeout"),
        ({"data": {"move": []}}, "there is nothing at 'data.moves'; did you mean 'move'"),
        ({"data": {"moves": {"block": 1}}}, "there is no list at 'data.moves'"),
        ({}, "there is nothing at 'data'"),
    ],
)
def test_documents_without_rows_are_one_line(imported: Imported, document: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        imported(json.dumps(document).encode(), "moves.json", source='rows = "data.moves"')
    assert "\n" not in str(error.value)


# -- files and mappings that bite
# ---------------------------------------------------------------------------------------------------------------------


def test_files_that_are_of_another_kind(imported: Imported) -> None:
    for data, name, said in (
        (parquet_of({}), "moves.csv", "moves.csv is a Parquet file; name it .parquet"),
        (csv_of([row(1)]), "moves.parquet", "moves.parquet: .*not Parquet"),
        (
            gzip.compress(csv_of([row(1)]), mtime=0),
            "moves.csv",
            "moves.csv is packed with gzip; name it with .gz behind",
        ),
        (b"PK\x03\x04" + bytes(99), "moves.csv", "is a zip file, as spreadsheets are"),
        (csv_of([row(1)]) + b"\0", "moves.csv", "is NUL: it is not text"),
        (parquet_of({})[:-9], "moves.parquet", r"moves\.parquet: "),
    ):
        with pytest.raises(UserError, match=said) as error:
            imported(data, name)
        assert "\n" not in str(error.value)


def test_parquet_of_other_types_is_text_or_one_line(imported: Imported) -> None:
    columns: dict[str, Any] = {
        "ether": pa.array([1, 2], pa.int8()),
        "log": pa.array([7, 8], pa.uint16()),
        "block": pa.array(["101", "102"], pa.large_string()),
        "what": pa.array(["in", "in"]).dictionary_encode(),
    }
    assert len(imported(parquet_of(columns), "moves.parquet")) == 2
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], np.int32).tobytes()), pa.py_buffer(b"\xff\xfe")]
    )
    with pytest.raises(UserError, match=r"moves\.parquet: "):
        imported(parquet_of({"ether": bad}), "moves.parquet")


def test_what_packs_too_well_is_not_unpacked(imported: Imported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_PACKED_FLOOR", 1 << 16)
    bomb = gzip.compress(csv_of([row(1)]) + b"1,2,3,4,5,6,7\n" * 200_000)
    with pytest.raises(UserError, match=r"moves.csv.gz unpacks to more than .* MiB"):
        imported(bomb, "moves.csv.gz")
    monkeypatch.setattr(sources, "_ROWS", 10)
    for data, name in (
        (csv_of([row(number) for number in range(20)]), "moves.csv"),
        (json.dumps([row(number) for number in range(20)]).encode(), "moves.json"),
        ("\n".join(json.dumps(row(number)) for number in range(20)).encode(), "moves.jsonl"),
    ):
        with pytest.raises(UserError, match="has more than 10 rows; split it"):
            imported(data, name)


def test_sources_that_are_no_files(imported: Imported, tmp_path: Path) -> None:
    imported(csv_of([row(1)]))
    own = load(str(tmp_path / "own"))
    os.mkfifo(tmp_path / "pipe.csv")
    for where, said in (
        ("/dev/zero", "not a regular file"),
        (str(tmp_path / "pipe.csv"), "not a regular file"),
        ("a\0b", "a path holds no NUL"),
        ("nowhere.csv", "no such file"),
    ):
        with pytest.raises(UserError, match=said):
            import_files(imported.lake, own, sources={"moves": [where]})


@pytest.mark.parametrize("files", ["/etc/*", "../*.csv", "a/../../x", "", "mo\x1bves*"])
def test_patterns_stay_in_the_folder(imported: Imported, files: str) -> None:
    with pytest.raises(UserError, match="give a pattern below the folder of --folder"):
        imported(csv_of([row(1)]), files=files)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"decimals": -1}, "market.base_decimals = -1; give a number from 0 to 36"),
        ({"market": "start_block = -1"}, "market.start_block = -1"),
        ({"more": "x = " + "[" * 9_000}, "nested deeper|not TOML"),
        ({"more": "x = " + "9" * 5_000}, "a number of 5000 digits is out of range"),
        ({"source": 'separator = ";;"'}, "give one character"),
        ({"source": 'rows = "data..moves"'}, "give names with points between"),
        ({"more": 'epoch = "weeks"'}, "own/mapping.toml: "),
        ({"protocol": "compound"}, "unknown protocol 'compound'"),
    ],
)
def test_mappings_that_are_one_line(imported: Imported, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        imported(csv_of([row(1)]), **given)
    assert "\n" not in str(error.value)


def test_mappings_that_are_no_text(imported: Imported, tmp_path: Path) -> None:
    imported(csv_of([row(1)]))
    for name in ("mapping.toml", "flow.sql"):
        before = (tmp_path / "own" / name).read_bytes()
        (tmp_path / "own" / name).write_bytes(b"\xff\xfe" + before)
        with pytest.raises(UserError, match="byte 0 is not UTF-8"):
            load(str(tmp_path / "own"))
        (tmp_path / "own" / name).write_bytes(before)
    for name in ("a\0b", "a" * 5_000):
        with pytest.raises(UserError, match="there is no mapping"):
            load(name)


@pytest.mark.parametrize("name", ["a\x1b[31m", "../x", "", "a" * 65, "a\nb", "a b"])
def test_names_of_markets(imported: Imported, tmp_path: Path, name: str) -> None:
    imported(csv_of([row(1)]))
    lake = Lake(tmp_path / "other", create=True)
    own = load(str(tmp_path / "own"))
    if name == "":
        assert import_files(lake, own, folder=tmp_path / "files", market=None).market == "mine"
        return
    with pytest.raises(UserError, match="name it with up to 64 letters") as error:
        import_files(lake, own, folder=tmp_path / "files", market=name)
    assert str(error.value).isprintable()


def test_names_of_files_are_shown_safely(imported: Imported) -> None:
    imported(csv_of([row(1)]), "moves\x1b[31m.csv")
    assert all(line.isprintable() for line in lines(imported.summary))


def test_made_up_source_rows_are_one_line(imported: Imported) -> None:
    for text in ("'0:99'", "'0:' || repeat('9', 5000)", "'²:0'", "'7:0'"):
        with pytest.raises(UserError, match="is no source_row"):
            imported(csv_of([row(1)]), select=SELECT.replace("source_row", f"{text} AS source_row", 1))


# -- SELECTs without bound
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "select", "said"),
    [
        (
            {},
            "SELECT x.a FROM rows AS x, rows AS y",
            "own: it returns more than 1,100,000 rows; is there a join without",
        ),
        (
            {"seconds": 0.2},
            "SELECT count(*) AS a FROM rows AS x, rows AS y, rows AS z WHERE x.a || y.a < z.a",
            r"own: it ran longer than 0\.2 seconds; is there a join",
        ),
        (
            {"memory": "50MB"},
            "SELECT list(x.a || y.a || z.a)::VARCHAR AS a FROM rows AS x, rows AS y, rows AS z",
            r"own: .*is there a join",
        ),
    ],
)
def test_a_join_without_a_condition_is_stopped(limits: dict[str, Any], select: str, said: str) -> None:
    rows = pa.table({"a": pa.array([str(number) for number in range(5_000)])})
    with TextDatabase({"rows": rows}, **limits) as database, pytest.raises(UserError, match=said):
        database.select(select, {}, "own")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("'\\xFF'::BLOB", "BLOB"),
        ("{'a': who}", "STRUCT"),
        ("[who]", "VARCHAR"),
        ("MAP {'a': who}", "MAP"),
        ("INTERVAL 1 DAY", "INTERVAL"),
    ],
)
def test_values_that_are_no_text_are_one_line(imported: Imported, value: str, kind: str) -> None:
    with pytest.raises(
        UserError, match=rf"own/flow.sql: column 'account' is {kind}.*, which is no text; give it as text"
    ):
        imported(csv_of([row(1)]), select=SELECT.replace("who AS account", f"{value} AS account"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "moves.json is empty"),
        ('{"\\ud800": 1}', "none of its rows can be read: it holds half a character"),
        ('{"block": 1', "cut off or not JSON"),
        ("[1, 2]", "none of its rows can be read: not an object"),
    ],
)
def test_json_without_rows_is_one_line(imported: Imported, text: str, said: str) -> None:
    assert imported(b"[]", "moves.json") == []
    assert imported(b'{"data": {"moves": []}}', "moves.json", source='rows = "data.moves"') == []
    with pytest.raises(UserError, match=said):
        imported(text.encode(), "moves.json")


# -- imports that nothing would read
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", sorted(set(PROTOCOLS) - {"maker"}))
def test_a_protocol_that_cannot_be_folded_is_refused(
    imported: Imported, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folding_imports() == ["maker"]
    refusal = f"{protocol} cannot be folded from imports; maker can; take its raw logs.*backtest import logs"
    with pytest.raises(UserError, match=refusal):
        imported(csv_of([row(1)]), protocol=protocol)
    assert imported.lake.markets() == []
    held = imported(csv_of([row(1)]), protocol=protocol, market="queries_only = true")
    assert len(held) == 1
    assert "its rows are there to be queried" in lines(imported.summary)[-1]
    with pytest.raises(UserError, match=f"'mine' holds imports to be queried; {protocol} cannot be folded"):
        reconstruct(imported.lake, "mine")
    rebuild_all(lake=Path(str(imported.lake.path)))  # of all markets of a lake, such a one is named and left alone
    assert f"'mine' holds imports to be queried; {protocol} cannot be folded" in capsys.readouterr().out


def test_what_the_fold_does_not_read_is_counted(imported: Imported) -> None:
    (imported.folder / "own").mkdir()
    (imported.folder / "own/parameter.sql").write_text(
        "SELECT source_row, CASE block WHEN '102' THEN 'dustt' ELSE 'dust' END AS name, '5' AS value, '3' AS category,"
        " block, time AS timestamp FROM moves"
    )
    imported(csv_of([row(1), row(2)]), select=SELECT + " WHERE false")
    assert dict(imported.summary.unread) == {"values of Parameter.category": 1}
    assert "read by no fold: 1 values of Parameter.category" in lines(imported.summary)
    assert imported.reasons == ["name: 'dustt' is no parameter; did you mean 'dust'?"]


# -- laws of the converters
# ---------------------------------------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.text(max_size=80),
    st.from_regex(r"[-+]?[0-9]{0,40}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,4})?(f(16|32|64))?", fullmatch=True),
    st.from_regex(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[-+][0-9]{2}(:?[0-9]{2})?)?)?", fullmatch=True
    ),
    st.integers(1, 6_000).map(lambda count: "9" * count),
)


def _outcome(parse: Callable[[], Any]) -> Any:
    """What a converter gives; None for a ValueError, whose message is short and safe to show."""
    try:
        return parse()
    except ValueError as error:
        said = str(error)
    assert is_safe(said)
    assert len(said) < 250
    return None


@given(TEXTS, st.integers(0, 77), st.sampled_from([None, "down", "half-up"]))
def test_every_text_is_a_value_or_a_value_error(text: str, decimals: int, rounding: str | None) -> None:
    for value, least, most in (
        (_outcome(lambda: scaled(text, decimals, rounding)), -(10**38) + 1, 10**38 - 1),
        (_outcome(lambda: whole(text)), 0, 10**38 - 1),
        (_outcome(lambda: seconds(text, None)), -(10**12), 10**12),
        (_outcome(lambda: seconds(text, ZoneInfo("America/New_York"), 1000)), -(10**12), 10**12),
        (_outcome(lambda: plausible(whole(text), text, 10**9, 2 * 10**9)), 10**9, 2 * 10**9),
    ):
        assert value is None or (type(value) is int and least <= value <= most)
    assert len(_outcome(lambda: digest32(text)) or bytes(32)) == 32
    assert len(_outcome(lambda: printable(spelled(text))) or "") <= 256


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS), min_size=1, max_size=5))
def test_every_row_is_stored_or_quarantined(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, ...]]
) -> None:
    imported = Imported(tmp_path_factory.mktemp("any"))
    rows = [
        row(number, block=block, time=time, log=log, who=who, ether=ether)
        for number, (block, time, log, who, ether) in enumerate(values)
    ]
    text = json.dumps([*rows, row(99, time="2024-01-01T01:00:00Z", block=10**9)])
    imported(text.encode(), "moves.json")
    (count,) = imported.summary.files
    assert count.rows == len(rows) + 1 == count.stored + count.quarantined + count.known


BITS = (
    *(b'"', b",", b"\n", b"\r", b"\0", b"\\ud800", b"\xff", b"\xe2\x80\xa8", b"9" * 400, b"{", b"[", b"]", b"}", b":"),
    *(b"-", b"e99", b"null", b"nan", b"source_row", b"\x1b[31m", b"1e400", b"  ", "１".encode(), b"[" * 2_000, b";"),
)
"""What files are broken with."""


def _broken(data: bytes, random: Random) -> bytes:
    made = bytearray(data)
    for _ in range(random.randrange(1, 6)):
        at = random.randrange(len(made) + 1)
        way = random.randrange(4)
        if way == 0 and at < len(made):
            made[at] = random.randrange(256)
        elif way == 1:
            made[at:at] = random.choice(BITS)
        elif way == 2:
            del made[at : at + random.randrange(20)]
        elif random.random() < 0.3:
            del made[at:]
    return bytes(made)


@pytest.mark.slow
def test_two_thousand_broken_files_are_read_or_one_line(tmp_path: Path) -> None:
    rows = [row(number) for number in range(3)]
    whole_files = {
        "moves.csv": csv_of(rows),
        "moves.tsv": csv_of(rows, "\t"),
        "moves.csv.gz": gzip.compress(csv_of(rows)),
        "moves.json": json.dumps(rows).encode(),
        "moves.jsonl": "\n".join(map(json.dumps, rows)).encode(),
        "moves.parquet": parquet_of({"ether": pa.array([1.5, 2.0])}),
    }
    declared = {"moves": ImportSource(files="moves*", columns=tuple(rows[0]))}
    random, read = Random(12), 0
    for _ in range(2_000):
        name, data = random.choice(list(whole_files.items()))
        (tmp_path / name).write_bytes(_broken(data, random))
        said = ""
        try:
            found = sources.read(declared, None, {"moves": [str(tmp_path / name)]})
        except UserError as error:
            said = str(error)
        else:
            read += 1
            assert found.files[0].rows == found.tables["moves"].num_rows + len(found.bad)
        assert is_safe(said)
    assert 200 < read < 1_800
