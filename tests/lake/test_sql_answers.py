"""Answers keep every digit and every type; queries are read from anywhere, and stay within their bounds."""

from __future__ import annotations

import io
import os
import sys
from datetime import UTC
from decimal import Decimal
from pathlib import Path

import pytest

from backtest.cli import main
from backtest.errors import LakeError
from backtest.lake import Lake, Limits, queries
from backtest.lake.output import write as write_rows
from tests.support.lake_tables import write
from tests.support.sql_book import book

AMOUNT = 143957893600122307676680


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write(tmp_path_factory.mktemp("answers") / "lake", book())


def ask(capfd: pytest.CaptureFixture[str], lake: Lake, *words: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["sql", "--lake", str(lake.path), *words])
    out, err = capfd.readouterr()
    return stopped.value.code, out, err


def test_a_frame_keeps_every_digit(lake: Lake) -> None:
    frame = lake.sql(
        f"SELECT {AMOUNT}::DECIMAL(38, 0) AS amount, sum(i) * 10000000000000001 AS total, NULL::DECIMAL(38, 0) AS none,"
        " 0.1::DECIMAL(38, 10) AS share, 1 AS same, 2 AS same FROM range(3) AS r(i)"
    ).df()
    assert frame["amount"].tolist() == [AMOUNT]
    assert frame["amount"][0] + 1 == AMOUNT + 1
    assert frame["total"].tolist() == [30000000000000003]
    assert frame["none"].tolist() == [None]
    assert frame["share"].tolist() == [Decimal("0.1")]
    assert frame["same"].to_numpy().tolist() == [[1, 2]]


def test_a_sum_in_pandas_is_exact(lake: Lake) -> None:
    largest = 10**38 - 1
    frame = lake.sql(f"SELECT {largest}::DECIMAL(38, 0) AS a FROM range(3)").df()
    assert frame["a"].sum() == 3 * largest


TYPES = {
    "to_timestamp(0)": "1970-01-01 00:00:00+00",
    "[to_timestamp(0)]": "['1970-01-01 00:00:00+00']",
    "TIMESTAMP '290000-01-01'": "290000-01-01 00:00:00",
    "'infinity'::TIMESTAMPTZ": "infinity",
    "DATE '-044-03-15'": "0045-03-15 (BC)",
    "INTERVAL 5 YEARS": "5 years",
    "MAP {'a': 1}": "{a=1}",
    "5::BIT": "00000000000000000000000000000101",
    "'a'::ENUM('a')": "a",
    "union_value(a := 1)": "1",
    "340282366920938463463374607431768211455::UHUGEINT": "340282366920938463463374607431768211455",
    "'7f000001-0000-0000-0000-000000000000'::UUID": "7f000001-0000-0000-0000-000000000000",
    "TIME '10:00'": "10:00:00",
    "NULL": "",
}


@pytest.mark.parametrize("expression", TYPES)
def test_every_type_is_printed(lake: Lake, expression: str) -> None:
    for form in ("csv", "table", "json"):
        out = io.BytesIO()
        write_rows(lake.session(), f"SELECT {expression} AS a", form, out)
        assert (TYPES[expression] if form != "json" or TYPES[expression] else "null") in out.getvalue().decode()


def test_an_object_of_json_has_no_name_twice(lake: Lake, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capfd, lake, "SELECT 1 AS a, 2 AS a", "--format", "json")
    assert (code, out) == (2, "")
    assert "two columns are named 'a'" in err
    assert ask(capfd, lake, "SELECT 1 AS a, 2 AS a", "--format", "csv")[:2] == (0, "a,a\n1,2\n")


def test_seconds_have_a_time_beside_them_in_every_view(lake: Lake) -> None:
    times = {"timestamp": "time", "from_timestamp": "from_time", "actual_from": "actual_from_time"}
    known = {query.name: query for query in queries.load()}
    found = {
        seconds
        for query in known.values()
        for seconds, what in query.columns.items()
        if query.folder != "checks" and (seconds == "timestamp" or "seconds since 1970" in what)
    }
    assert found >= times.keys()
    for query in known.values():
        for seconds, time in times.items():
            if query.folder != "checks" and seconds in query.columns:
                assert time in query.columns, query.name
    assert lake.sql("SELECT from_time, to_time FROM runs").fetchall() == []
    assert [str(kind) for kind in lake.sql("SELECT predicted_from_time FROM validation_episodes").types] == [
        "TIMESTAMP"
    ]


def test_now_has_a_zone_in_python_too(lake: Lake) -> None:
    ((now, one),) = lake.sql("SELECT current_timestamp, 1").fetchall()
    assert (now.utcoffset().total_seconds(), one) == (0, 1)


def test_control_sequences_are_shown_and_not_obeyed(lake: Lake) -> None:
    out = io.BytesIO()
    write_rows(lake.session(), "SELECT chr(27) || '[31mred' AS a, chr(8238) AS b", "table", out)
    assert b"\\x1b[31mred" in out.getvalue()
    assert b"\\u202e" in out.getvalue()


def test_a_query_comes_from_standard_input_a_file_or_begins_with_a_comment(
    lake: Lake, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "-- what is it?\nSELECT 41 + 1 AS answer"
    file = tmp_path / "q.sql"
    file.write_text(text)
    expected = (0, "answer\n    42\n", "")
    assert ask(capfd, lake, text) == expected
    assert ask(capfd, lake, "--file", str(file)) == expected
    with file.open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert ask(capfd, lake, "-") == expected


@pytest.mark.parametrize("limit", [1_000, 100_000])
def test_a_deep_query_is_refused_whatever_the_recursion_limit(
    lake: Lake, capfd: pytest.CaptureFixture[str], limit: int
) -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        flat = ask(capfd, lake, "SELECT " + "+".join(["1"] * 200) + " AS n")
        deep = ask(capfd, lake, "SELECT " + "[" * 400 + "1" + "]" * 400)
    finally:
        sys.setrecursionlimit(before)
    assert flat[:2] == (0, "  n\n200\n")
    assert deep[:2] == (2, "")
    assert "nested too deep" in deep[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["UPDATE EXTENSIONS"], "such statements are not allowed here"),
        (["SELECT " + "[" * 400 + "1" + "]" * 400], "nested too deep"),
        (["SELECT '\ud800'"], "no text"),
        (["SELECT 1\0"], "NUL"),
        (["SELECT 1" + " " * 1_000_000], "characters"),
        (["SELECT 1", "--timeout", "nan"], "no number of seconds"),
        (["SELECT 1", "--timeout", "inf"], "no number of seconds"),
        (["SELECT 1", "--timeout", "0"], "no number of seconds"),
        (["SELECT 1", "--threads", "0"], "give 1 or more"),
        (["SELECT 1", "--memory", "nan"], "is no amount"),
        (["SELECT 1", "--memory=-1GB"], "is no amount"),
        (["SELECT 1", "--file", "x.sql"], "give one of them"),
        (["--file", "/dev/zero"], "not a regular file"),
        (["--formt"], "unknown option"),
        (["SELECT length(repeat('x', 2000000000))", "--memory", "500MB"], "Out of Memory"),
        (
            ["SELECT count(*) FROM range(1000000) AS a, range(10000000) AS b", "--timeout", "0.5"],
            "was stopped after 0.5 s",
        ),
    ],
    ids=range(16),
)
def test_bounds_and_mistakes_are_one_line(
    lake: Lake, capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, out, err = ask(capfd, lake, *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert len(err) < 700


def test_threads_are_no_more_than_cores(lake: Lake) -> None:
    session = Lake(lake.path).session(Limits(threads=999_999_999_999))
    (threads,) = session.connection.execute("SELECT current_setting('threads')").fetchall()[0]
    assert threads == os.cpu_count()


@pytest.mark.parametrize("place", ["manifest/00000099.json", "data/x.parquet", "x.csv"])
def test_nothing_is_written_into_the_lake(lake: Lake, capfd: pytest.CaptureFixture[str], place: str) -> None:
    before = sorted(Path(lake.path).rglob("*"))
    for words in (["SELECT 1", "-o"], ["--attach"]):
        code, _, err = ask(capfd, lake, *words, str(Path(lake.path) / place))
        assert code == 2
        assert "lies in the lake" in err
    assert sorted(Path(lake.path).rglob("*")) == before


def test_a_lake_is_bounded_in_python_too() -> None:
    with pytest.raises(LakeError, match="is no amount"):
        Limits(memory="1e400GB")


def test_every_view_with_a_timestamp_has_its_time_in_utc(lake: Lake) -> None:
    with_time = [query for query in queries.load() if "timestamp" in query.columns and query.folder != "checks"]
    assert len(with_time) >= 20
    for query in with_time:
        names = list(query.columns)
        assert names[names.index("timestamp") + 1] == "time"
    rows = lake.sql("SELECT timestamp, time, epoch(time)::BIGINT FROM position_events").fetchall()
    assert rows
    for seconds, time, again in rows:
        assert (time.timestamp() if time.tzinfo else time.replace(tzinfo=UTC).timestamp()) == seconds == again
    out = io.BytesIO()
    write_rows(lake.session(), "SELECT DISTINCT time FROM blocks WHERE block_number = 1", "csv", out)
    assert out.getvalue() == b"time\n2020-09-13 12:26:40\n"
