"""``backtest sql``, ``info`` and ``check`` as a user meets them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from backtest.cli import main
from backtest.lake import Lake
from backtest.tables import AMOUNT
from tests.support.lake_tables import MARKET, account, supplies, write
from tests.support.sql_book import book


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write(tmp_path_factory.mktemp("cli") / "lake", book())


class Run:
    """The command line run in this process: exit code, standard output, standard error."""

    def __init__(self, capfdbinary: pytest.CaptureFixture[bytes], *words: str) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        self.code = stopped.value.code
        out, err = capfdbinary.readouterr()
        self.raw, self.out, self.err = out, out.decode(errors="replace"), err.decode()


QUERY = "SELECT account_id, delta, side = 'debt' AS owed FROM position_events WHERE account_id = 0 ORDER BY seq"


def test_csv_keeps_every_digit(lake: Lake, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    run = Run(capfdbinary, "sql", QUERY, "--lake", str(lake.path), "--format", "csv")
    assert run.code == 0
    assert list(csv.reader(io.StringIO(run.out))) == [
        ["account_id", "delta", "owed"],
        ["0", "10000000000000000000", "false"],
        ["0", "-4000000000000000000", "false"],
    ]


def test_json_is_one_object_a_line_with_large_amounts_as_text(
    lake: Lake, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    amounts = "9007199254740992 AS a, 9007199254740993 AS b, NULL AS c"
    query = f"SELECT {amounts}, 'x' AS d, '\\x00\\xFF'::BLOB AS e, [1, 2] AS f, 'nan'::DOUBLE AS g, true AS h"
    run = Run(capfdbinary, "sql", query, "--lake", str(lake.path), "--format", "json")
    assert json.loads(run.out) == {
        "a": 2**53,
        "b": str(2**53 + 1),
        "c": None,
        "d": "x",
        "e": "0x00ff",
        "f": [1, 2],
        "g": None,
        "h": True,
    }


def test_parquet_goes_to_a_file_with_exact_types(
    lake: Lake, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    target = tmp_path / "out.parquet"
    assert Run(capfdbinary, "sql", QUERY, "--lake", str(lake.path), "--format", "parquet", "-o", str(target)).code == 0
    written = pq.read_table(target)
    assert written.schema.field("delta").type == AMOUNT
    assert written["owed"].to_pylist() == [False, False]


def test_a_failed_query_leaves_no_file(lake: Lake, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    target = tmp_path / "out.csv"
    target.write_text("before")
    run = Run(
        capfdbinary,
        "sql",
        "SELECT sum(delta * delta) FROM position_events",
        "--lake",
        str(lake.path),
        "--format",
        "csv",
        "-o",
        str(target),
    )
    assert run.code == 2
    assert run.err.count("\n") == 1
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_tables_are_for_reading(lake: Lake, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    run = Run(capfdbinary, "sql", QUERY, "--lake", str(lake.path))
    assert [line.split() for line in run.out.splitlines()] == [
        ["account_id", "delta", "owed"],
        ["0", "10000000000000000000", "false"],
        ["0", "-4000000000000000000", "false"],
    ]
    run = Run(capfdbinary, "sql", "SELECT * FROM range(1000)", "--lake", str(lake.path))
    assert run.out.splitlines()[-1] == "... more than 200 rows: add a LIMIT or use another format"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["FROM acounts"], "did you mean 'accounts'?"),
        (["COPY accounts TO 'x.csv'"], "COPY statements are not allowed here"),
        (["SELECT 1", "--format", "xml"], "xml"),
        (["SELECT 1", "--memory", "lots"], "check the limits"),
    ],
)
def test_mistakes_are_one_line_and_code_2(
    lake: Lake, words: list[str], message: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    run = Run(capfdbinary, "sql", *words, "--lake", str(lake.path))
    assert run.code == 2
    assert run.out == ""
    assert run.err.count("\n") == 1
    assert message in run.err


def test_no_lake_is_one_line(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for verb in (["sql", "SELECT 1"], ["info"], ["check"]):
        run = Run(capfdbinary, *verb, "--lake", str(tmp_path / "nowhere"))
        assert run.code == 2
        assert "there is no lake at" in run.err
        assert run.err.count("\n") == 1


def test_attach_writes_a_database(lake: Lake, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    run = Run(capfdbinary, "sql", "--lake", str(lake.path), "--attach", str(tmp_path / "market.duckdb"))
    assert run.code == 0
    assert (tmp_path / "market.duckdb").stat().st_size > 0


def test_the_prompt(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    typed = iter(
        [
            ".help",
            ".tables",
            ".schema balances_at",
            ".schema nothing",
            "SELECT symbol",
            "FROM assets ORDER BY symbol;",
            "FROM acounts;",
            ".format csv",
            "SELECT 1 AS n;",
        ]
    )

    def answer(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("atexit.register", lambda *_: None)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    run = Run(capfdbinary, "sql", "--lake", str(lake.path))
    assert run.code == 0
    assert "health(accounts, blocks)" in run.out
    assert "collateral_scaled         scaled units, exact" in run.out
    assert "symbol\nUSDC\nWETH\n" in run.out
    assert run.out.endswith("n\n1\n\n")
    assert "there is no view 'nothing'" in run.err
    assert "did you mean 'accounts'?" in run.err
    assert (tmp_path / "backtest/sql_history").exists()


def test_info_shows_ranges_gaps_and_what_is_stale(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    lake = write(tmp_path / "lake", book())
    with lake.writer() as writer:
        writer.set_provenance(MARKET, {"client": "anvil/1.7"})
        for start, stop in ((1, 10), (21, 30)):
            covers = {"pool": (start, stop), "configurator": (start, stop)}
            writer.commit(
                MARKET, {"raw/aave-v3/Supply": supplies([start])}, from_block=start, to_block=stop, covers=covers
            )
    run = Run(capfdbinary, "info", "--lake", str(lake.path))
    assert run.code == 0
    lines = [" ".join(line.split()) for line in run.out.splitlines()]
    assert f"{MARKET}: aave-v3 on chain 31337, from block 1" in lines
    assert "client: anvil/1.7" in lines
    assert "configurator, pool 1 to 30 11 to 20" in lines
    assert any(line.startswith("raw/aave-v3/Supply 2 2 ") for line in lines)
    assert "canonical tables are missing or older than the raw events: backtest reconstruct" in lines


def test_check_passes_and_fails(lake: Lake, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    run = Run(capfdbinary, "check", "--lake", str(lake.path))
    assert run.code == 0
    assert run.out.splitlines()[-1].endswith("checks, none violated")
    run = Run(capfdbinary, "check", "--lake", str(lake.path), "--market", "elsewhere")
    assert run.code == 2
    assert "there is no market 'elsewhere'" in run.err
    data = book()
    data["prices"][0]["price"] = 0
    bad = write(tmp_path / "lake", data)
    run = Run(capfdbinary, "check", "--lake", str(bad.path))
    assert run.code == 1
    assert run.out.splitlines()[-1].endswith("checks, 1 violated")
    assert "market toy, asset_id 0" in run.out
    assert account(0xB0B) not in run.out


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal wide enough that no line wraps."""
    monkeypatch.setenv("COLUMNS", "200")
