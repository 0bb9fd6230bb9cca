"""What a user's SQL cannot do, and that it says so in one line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backtest.cli import main
from backtest.errors import LakeError
from backtest.lake import Lake, Limits
from backtest.lake.sql import attach
from tests.support.interrupts import LISTENS
from tests.support.lake_tables import CONFIG, MARKET, supplies, write
from tests.support.sql_book import book

secret = pa.table({"a": [1]})  # a Python variable of the caller, which SQL must not see


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("sandbox")
    (folder / "secret.csv").write_text("a,b\n1,2\n")
    made = write(folder / "lake", book())
    with made.writer() as writer:
        writer.commit(MARKET, {"raw/aave-v3/Supply": supplies([2])}, from_block=1, to_block=5)
    return made


def filled(lake: Lake, query: str) -> str:
    """The query with ``{lake}``, ``{file}`` (one that counts) and ``{secret}`` filled in."""
    return query.format(
        lake=lake.path, file=lake.files("canonical/prices")[0].path, secret=lake.path.parent / "secret.csv"
    )


REFUSED = [
    "COPY accounts TO '{lake}/x.csv'",
    "ATTACH ':memory:' AS other",
    "PRAGMA database_list",
    "SET threads = 1",
    "SET VARIABLE x = 1",
    "RESET threads",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CALL pragma_version()",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW accounts AS SELECT 1",
    "CREATE MACRO m() AS 1",
    "DROP VIEW accounts",
    "INSERT INTO accounts VALUES (1)",
    "DELETE FROM accounts",
    "UPDATE accounts SET account = ''",
    "EXPORT DATABASE '{lake}/x'",
    "IMPORT DATABASE '{lake}/x'",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "BEGIN",
    "CHECKPOINT",
    "VACUUM",
    "USE memory",
    "SELECT 1; SELECT 2",
    "",
    "-- nothing",
    # statements inside a SELECT
    "WITH x AS (COPY (SELECT 42 AS a) TO '{file}' (USE_TMP_FILE false)) SELECT 1",
    "WITH x AS (INSERT INTO accounts VALUES (1) RETURNING *) SELECT * FROM x",
    "SELECT * FROM (WITH x AS (COPY (SELECT 42 AS a) TO '{file}' (USE_TMP_FILE false)) SELECT 1)",
    "SELECT * FROM accounts WHERE EXISTS (WITH x AS (COPY (SELECT 42 AS a) TO '{file}' (USE_TMP_FILE false)) SELECT 1)",
    "EXPLAIN ANALYZE COPY (SELECT 42 AS a) TO '{file}' (USE_TMP_FILE false)",
    "/* c */ EXPLAIN /* c */ ANALYZE COPY (SELECT 42 AS a) TO '{file}' (USE_TMP_FILE false)",
    "EXPLAIN (ANALYZE) COPY (SELECT 42 AS a) TO '{file}' (USE_TMP_FILE false)",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 42 AS a) TO '{file}' (USE_TMP_FILE false)) SELECT 1",
    "EXPLAIN (ANALYZE /* ) SELECT 1 -- */ ) COPY (SELECT 42 AS a) TO '{file}' (USE_TMP_FILE false)",
    "EXPLAIN (ANALYZE /* ) SELECT 1 -- */ ) DROP VIEW accounts",
    "EXPLAIN (ANALYZE $$) SELECT 1 --$$) DROP VIEW accounts",
    'EXPLAIN (ANALYZE ") SELECT 1 --") DROP VIEW accounts',
    "/* /* */ EXPLAIN SELECT 1 -- */ EXPLAIN ANALYZE DROP VIEW accounts",
    "SELECT * FROM query('WITH x AS (COPY (SELECT 42 AS a) TO ''{file}'' (USE_TMP_FILE false)) SELECT 1')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 42'))",
    # reading elsewhere
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM '{secret}'",
    "FROM '{secret}'",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('{lake}/writer.lock')",
    "SELECT * FROM '{lake}/manifest/00000001.json'",
    "SELECT * FROM read_parquet('{lake}/data/*/*/*/*.parquet')",
    "SELECT * FROM glob('{lake}/**')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM read_duckdb('{lake}/x.duckdb')",
    "SELECT * FROM 'https://example.com/x.parquet'",
    "SELECT * FROM sqlite_scan('a', 'b')",
    "SELECT * FROM secret",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_settings()",
    "SELECT getenv('HOME')",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM query_table('accounts')",
]


@pytest.mark.parametrize("query", REFUSED)
def test_refused_in_one_line_and_nothing_changes(lake: Lake, query: str) -> None:
    before = {path: path.read_bytes() for path in lake.path.rglob("*") if path.is_file()}
    with pytest.raises(LakeError) as caught:
        lake.sql(filled(lake, query)).fetchall()
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in lake.path.rglob("*") if path.is_file()} == before
    assert lake.sql("SELECT count(*) FROM accounts").fetchall() == [(2,)]


ALLOWED = [
    "SELECT 1",
    "FROM accounts",
    "TABLE accounts",
    "VALUES (1)",
    "DESCRIBE accounts",
    "SUMMARIZE accounts",
    "SHOW TABLES",
    "EXPLAIN SELECT * FROM accounts",
    "EXPLAIN ANALYZE SELECT * FROM accounts",
    "EXPLAIN (FORMAT json) SELECT * FROM accounts",
    "/* /* nested */ */ EXPLAIN -- c\n(SELECT 1)",
    "EXPLAIN (FORMAT json, ANALYZE) SELECT * FROM accounts",
    "-- a comment\nSELECT 1;",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT * FROM n",
    "SELECT * FROM accounts UNION ALL SELECT * FROM accounts",
    "SELECT 'COPY_QUERY_NODE' AS type",
    "SELECT * FROM balances_at(5)",
    "SELECT * FROM health(NULL, [5])",
    "SELECT * FROM range(3), unnest([1, 2])",
    "SELECT * FROM duckdb_views()",
    "SELECT * FROM (PIVOT assets ON symbol IN ('WETH', 'USDC') USING count(*))",
]


SPELLED = [
    "SELECT count(*) FROM ACCOUNTS",
    'SELECT count(*) FROM "accounts"',
    "SELECT count(*) FROM main.accounts",
    "SELECT count(*) FROM canonical.Accounts",
    "SELECT count(*) FROM Balances_At(5)",
    'SELECT count(*) FROM "balances_at"(5)',
    "SELECT count(*) FROM balances_at /* at */ (5)",
    "SELECT count(*) FROM balances_at -- at\n (5)",
    "WITH health AS (SELECT 1 AS prices) SELECT count(prices) FROM health",
    "SELECT product_difference(6::HUGEINT, 7::HUGEINT, 1::HUGEINT, 2::HUGEINT)",
]
"""However a view or macro is named, it is there; each in a session that has made none yet."""


@pytest.mark.parametrize("query", ALLOWED)
def test_reading_is_allowed(lake: Lake, query: str) -> None:
    assert lake.sql(query).fetchall()


@pytest.mark.parametrize("query", SPELLED)
def test_what_is_named_is_there_however_it_is_spelled(lake: Lake, query: str) -> None:
    assert len(Lake(lake.path).sql(query).fetchall()) == 1


def test_sessions_make_what_is_named_and_no_more(lake: Lake) -> None:
    fresh = Lake(lake.path)

    def views() -> set[str]:
        """Asked of the connection: a query that names the catalogue has all made."""
        rows = fresh.session().connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        return {name for (name,) in rows}

    assert views() == set()
    fresh.sql("SELECT * FROM accounts")
    assert views() == {"accounts"}
    fresh.sql("SELECT * FROM assets, accounts")
    assert {"accounts", "assets"} <= views()
    assert "sweep_points" not in views()
    assert {name for (name,) in fresh.sql("SELECT view_name FROM duckdb_views()").fetchall()} > {"sweep_points"}


def test_threads_may_ask_one_session(lake: Lake) -> None:
    fresh = Lake(lake.path)
    fresh.session()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fresh.sql("SELECT count(*) FROM near_liquidation").fetchall(), range(4)))
    assert found == found[:1] * 4


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM acounts", "there is no view or function 'acounts'; did you mean 'accounts'?"),
        (
            "SELECT * FROM liquity_v1_health",
            "'liquity_v1_health' is a function and takes arguments; FROM liquity_v1_he",
        ),
        ("SELECT * FROM helth(NULL, [5])", "there is no table function 'helth' here; did you mean 'health'?"),
        ("SELECT acount FROM accounts", 'Referenced column "acount" not found'),
        ("SELEC 1", 'Parser Error: syntax error at or near "SELEC"'),
        ("COPY accounts TO 'x'", "COPY statements are not allowed here; only SELECT and EXPLAIN"),
        ("SELECT 1; SELECT 2", "2 statements; give one SELECT"),
    ],
)
def test_errors_say_what_to_do(lake: Lake, query: str, message: str) -> None:
    with pytest.raises(LakeError) as caught:
        lake.sql(query)
    assert message in str(caught.value)


@pytest.mark.slow
def test_memory_and_disk_are_limited_and_spills_stay_private(lake: Lake) -> None:
    import duckdb

    big = (
        "SELECT max(s) FROM (SELECT md5(a::VARCHAR) AS s, row_number() OVER (ORDER BY hash(a)) AS r FROM range(3000000)"
        " AS t(a)) WHERE r > 5"
    )
    enough, too_little = Limits(memory="60MB", threads=1, disk="1GB"), Limits(memory="60MB", threads=1, disk="1MB")
    assert len(Lake(lake.path).sql(big, limits=enough).fetchall()) == 1
    with pytest.raises(duckdb.Error, match="max_temp_directory_size"):
        Lake(lake.path).sql(big, limits=too_little).fetchall()
    assert {path.parts[-1] for path in lake.path.iterdir()} == {"data", "manifest", "writer.lock"}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["table", "csv"])
def test_ctrl_c_stops_a_query(lake: Lake, tmp_path: Path, form: str) -> None:
    """In a process of its own that has asked before (a signal amid an import is the interpreter's), asked again like a
    user would until it stops: one signal may fall between two moments that listen.
    """
    endless = "SELECT count(*) FROM range(1000000000000) AS a, range(1000000) AS b"
    words = ["--lake", str(lake.path), "--format", form, "--threads", "1"]
    program = (
        f"{LISTENS}\nfrom contextlib import suppress\nfrom backtest.cli import main\n"
        f"with suppress(SystemExit): main(['sql', 'SELECT 1', *{words!r}, '-o', {str(tmp_path / 'warm')!r}])\n"
        f"print('ready', flush=True)\nmain(['sql', '{endless}', *{words!r}])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(60):
            time.sleep(2)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                break
        else:
            process.kill()
        _, said = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in said


@pytest.mark.parametrize("words", [["-o", "{0}"], ["-o", "{0}/no/x.csv"]])
def test_an_output_that_cannot_be_written_is_one_line(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sql", "SELECT 1", "--lake", str(lake.path), *(word.format(tmp_path) for word in words)])
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (2, 1)
    assert str(tmp_path) in err


def test_results_are_relations_pandas_and_arrow(lake: Lake) -> None:
    relation = lake.sql("SELECT symbol, decimals FROM assets ORDER BY asset_id")
    assert relation.columns == ["symbol", "decimals"]
    assert relation.to_arrow_table().to_pylist() == [
        {"symbol": "WETH", "decimals": 18},
        {"symbol": "USDC", "decimals": 6},
    ]
    assert relation.df()["decimals"].tolist() == [18, 6]


def test_queries_see_the_version_that_the_lake_sees(tmp_path: Path) -> None:
    lake = write(tmp_path / "lake", book())
    reader = Lake(lake.path)
    count = "SELECT count(*) FROM raw.aave_v3_Supply"
    with pytest.raises(LakeError):
        reader.sql(count)
    with lake.writer() as writer:
        writer.commit(MARKET, {"raw/aave-v3/Supply": supplies([2, 3])}, from_block=1, to_block=5)
    assert lake.sql(count).fetchall() == [(2,)]
    reader.refresh()
    assert reader.sql(count).fetchall() == [(2,)]


def test_the_path_of_a_lake_may_hold_quotes_and_spaces(tmp_path: Path) -> None:
    lake = write(tmp_path / "it's a lake [1] *", book())
    assert lake.sql("SELECT count(*) FROM assets").fetchall() == [(2,)]


def test_data_files_are_read_only(lake: Lake) -> None:
    assert {os.stat(file.path).st_mode & 0o777 for file in lake.files(None)} == {0o444}


# -- database files for other clients
# --------------------------------------------------------------------------------------

_CLIENT = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
print(connection.execute("SELECT count(*) FROM assets").fetchall())
print(connection.execute("SELECT symbol, collateral_scaled FROM balances_at(1)").fetchall())
print(connection.execute("SELECT round(health, 2) FROM health(NULL, [2]) WHERE health IS NOT NULL").fetchall())
print(connection.execute("SELECT count(*) FROM raw.aave_v3_Supply").fetchall())
"""


def test_an_attached_file_serves_another_process(lake: Lake, tmp_path: Path) -> None:
    target = tmp_path / "market.duckdb"
    attach(lake, target)
    attach(lake, target)  # its own file is replaced
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, str(target)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    expected = """\
        [(2,)]
        [('WETH', Decimal('10000000000000000000'))]
        [(3.2,)]
        [(1,)]
    """
    assert done.stdout == textwrap.dedent(expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["market.duckdb"]


def test_an_attached_file_has_the_format_of_duckdb_1(lake: Lake, tmp_path: Path) -> None:
    """The main header: 8 bytes of checksum, DUCK, then the version number of the storage: 64 is what DuckDB 0.9 to 1.1
    write and all 1.x read.
    """
    attach(lake, tmp_path / "market.duckdb")
    head = (tmp_path / "market.duckdb").read_bytes()[:20]
    assert head[8:12] == b"DUCK"
    assert int.from_bytes(head[12:20], "little") == 64


def test_other_files_are_not_overwritten(lake: Lake, tmp_path: Path) -> None:
    import duckdb

    text = tmp_path / "notes.txt"
    text.write_text("precious")
    other = tmp_path / "other.duckdb"
    with duckdb.connect(str(other)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1")
    for path in (text, other):
        with pytest.raises(LakeError, match="exists and was not written by backtest"):
            attach(lake, path)
    assert text.read_text() == "precious"


def test_an_attached_empty_lake_has_all_views(tmp_path: Path) -> None:
    import duckdb

    lake = Lake(tmp_path / "lake", create=True)
    with lake.writer() as writer:
        writer.set_market(CONFIG)
    attach(lake, tmp_path / "x.duckdb")
    with duckdb.connect(str(tmp_path / "x.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM liquidations").fetchall() == [(0,)]
        assert connection.execute("SELECT market FROM markets").fetchall() == [(MARKET,)]


def test_exact_amounts_survive_parquet(lake: Lake) -> None:
    table = pq.read_table(lake.files("canonical/position_events")[0].path)
    assert table.schema.field("delta").type == pa.decimal128(38, 0)
