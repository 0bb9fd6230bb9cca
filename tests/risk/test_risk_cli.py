"""``backtest risk`` over the bundled crash: text, JSON and rows agree, SQL's closed forms with them, mistakes are one
line.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from backtest.cli import main
from backtest.lake import Lake
from backtest.resources import resource

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("risk") / "lake"
    shutil.copytree(resource("sample") / "lake", path)
    return path


def said(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["risk", "--market", "sample-crash", *words])
    out = capsys.readouterr()
    assert stopped.value.code == code, out.err
    return out.out if code == 0 else out.err


def test_one_book_in_every_form(lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--lake", str(lake), "--reserves", "1000", "--cost", "20"]
    text = said([*words, "--no-everywhere"], capsys)
    assert "186 accounts owe" in text
    assert "Reserves of 1,000 do not cover a fall together of" in text
    early = said([*words, "--no-everywhere", "--at", "2020-03-13"], capsys)
    assert "Reserves of 1,000 do not cover what there is already, where no price falls: bad debt 129,985." in early
    found: dict[str, Any] = json.loads(said([*words, "--format", "json"], capsys))
    assert found["accounts_with_debt"] == len(found["accounts"]) == 186
    assert sum(int(one["debt"]) for one in found["accounts"]) == int(found["debt"])
    # Bad debt after a fall of x is more than reserves from the reverse stress's fall on, and not before.
    least = found["reverse"]["fall"]
    for row in found["after_falls"]:
        assert (int(row["bad_debt"]) > 1000 * 10**8) == (row["fall"] >= least)
    assert int(found["reverse"]["bad_debt_before"]) <= 1000 * 10**8 < int(found["reverse"]["bad_debt"])
    everywhere = found["reverse_everywhere"]["found"]
    assert everywhere[0]["size"] <= found["reverse"]["size"]
    assert all(int(one["bad_debt"]) > 1000 * 10**8 >= int(one["bad_debt_before"]) for one in everywhere)
    # The accounts that may be liquidated within a fall are those whose distance is at most it.
    within = next(row for row in found["debt_within"] if row["fall"] == 3_000)
    then = next(row for row in found["after_falls"] if row["fall"] == 3_000)
    near = [one for one in found["accounts"] if one["to_liquidation"] is not None and one["to_liquidation"] <= 3_000]
    assert sum(int(one["debt"]) for one in near) == int(within["liquidation"])
    assert len(near) == then["accounts"]
    for name, read in (("a.parquet", pq.read_table), ("a.csv", csv.read_csv)):
        said([*words, "--no-everywhere", "-o", str(tmp_path / name)], capsys)
        rows = read(tmp_path / name).to_pylist()
        assert [row["account"] for row in rows] == [one["account"] for one in found["accounts"]]
        assert [row["to_liquidation_bps"] for row in rows] == [one["to_liquidation"] for one in found["accounts"]]


def test_sqls_closed_forms_are_its_distances(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where one collateral is held against debts whose prices stand, all collateral falls together."""
    opened = Lake(lake)
    rows = {
        row["account"]: row
        for row in opened.sql("SELECT * FROM account_distances WHERE market = 'sample-crash'")
        .to_arrow_table()
        .to_pylist()
    }
    found = json.loads(said(["--lake", str(lake), "--format", "json"], capsys))
    assert rows.keys() == {one["account"] for one in found["accounts"]}
    symbols = opened.sql(
        "SELECT account_id, list(symbol) FILTER (collateral > 0) AS held, list(symbol) FILTER (debt > 0) AS owed"
        " FROM holdings(NULL, [697]) WHERE market = 'sample-crash' GROUP BY account_id"
    )
    sides = {row["account_id"]: (row["held"], row["owed"]) for row in symbols.to_arrow_table().to_pylist()}
    moving = set(found["direction"])
    assert moving == {"WETH", "WBTC", "wstETH", "LINK"}
    compared = 0
    for one in found["accounts"]:
        row = rows[one["account"]]
        assert row["debt_usd"] == pytest.approx(int(one["debt"]) / 10**8)
        assert row["health"] == pytest.approx(int(one["health"]) / 10**18)
        held, owed = (set(symbols or ()) for symbols in sides[row["account_id"]])
        if held <= moving and not owed & moving:
            compared += 1
            for name in ("to_liquidation", "to_insolvency"):  # none: beyond 99.99 %
                assert -0.001 <= (10_000 if one[name] is None else one[name]) - row[name] * 10_000 <= 1.01
    assert compared > 8


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--fall", "WTEH"], "no asset 'WTEH'; did you mean 'WETH'?"),
        (["--accounts=-1"], "--accounts -1; give 0 or more"),
        (["--fall", "WETH=x"], "--fall WETH"),
        (["--fall", "WETH=0"], "--fall WETH=0"),
        (["--depth", "WETH"], "--depth WETH"),
        (["--depth", "WETH=0"], "depth of 0"),
        (["--reserves=-1"], "--reserves -1"),
        (["--cost", "２"], "--cost"),
        (["--at", "99999999"], "does not hold block 99999999"),
        (["--at", "1999-01-01"], "outside the history"),
        (["--format", "csv"], "csv is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(lake: Path, capsys: pytest.CaptureFixture[str], words: list[str], wrong: str) -> None:
    text = said(["--lake", str(lake), *words], capsys, 2)
    assert wrong in text
    assert text.count("\n") == 1
