"""Dates where blocks are taken: every verb understands both, places dates alike, and says so in its help."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.cli import main
from backtest.cli.moments import blocks_of_node, bound, window_of
from backtest.errors import UserError
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.reconstruct import is_current, reconstruct
from tests.support.calibration_files import liquidations
from tests.support.synthetic import Chain, ChainNode

pytestmark = pytest.mark.slow

LAKE = Path(__file__).parents[2] / "data" / "sample" / "lake"
CRASH = "sample-crash"
Said = Callable[..., str]
BAD = ["soon", "９", "9" * 80, "2020-13-45", "2020-03-12T99:00", "1.5", "nan", "", "2020-03-１２"]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What a verb prints; the one line of an error."""

    def run(*words: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert int(end.value.code or 0) == code, err
        if code:
            assert (err.count("\n"), out) == (1, "")
        return err if code else out

    return run


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """The bundled sample, by the rules of today."""
    copied = Path(shutil.copytree(LAKE, tmp_path / "lake"))
    if not is_current(Lake(copied), CRASH):
        reconstruct(Lake(copied), CRASH)
    return copied


@pytest.fixture(scope="module")
def window() -> tuple[int, int]:
    """The sample's blocks from 2020-03-12 to the end of that day."""
    query = f"""SELECT min(block_number), max(block_number) FROM blocks
        WHERE market = '{CRASH}' AND time >= '2020-03-12' AND time <= '2020-03-13'"""
    first, last = Lake(LAKE).sql(query).fetchall()[0]
    return first, last


DAY = ("--from-block", "2020-03-12", "--to-block", "2020-03-13T00:00:00+00:00")


def test_dates_and_blocks_name_the_same_window(window: tuple[int, int]) -> None:
    lake = Lake(LAKE)
    first, last = window_of(lake, CRASH, "2020-03-12", "2020-03-13T00:00:00")
    assert (first, last) == window
    assert window_of(lake, CRASH, str(first), f"{last}.0") == (first, last)
    assert window_of(lake, CRASH, "1_000", None) == (1000, None)
    assert window_of(lake, CRASH, None, None) == (None, None)


@pytest.mark.parametrize("text", [*BAD, "2031-01-01"])
def test_what_names_no_block_is_one_line(text: str) -> None:
    with pytest.raises(UserError):
        window_of(Lake(LAKE), CRASH, text, None)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"[0-9]{4}-[0-9T:+Z. -]{0,30}", fullmatch=True) | st.integers().map(str))
def test_any_text_is_a_block_or_a_date_or_one_line(text: str) -> None:
    said, value, dated = "", None, False
    try:
        value, dated = bound(text, "--from-block")
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    assert bool(said) == (value is None)
    assert said or dated == bool(re.match("[0-9]{4}-", text))


def test_a_replay_by_date_is_that_by_block(lake: Path, window: tuple[int, int], said: Said) -> None:
    words = ("replay", "--lake", lake, "--market", CRASH, "--liquidators", "competitive")
    shown = said(*words, *DAY)
    assert f"blocks {window[0]} to {window[1]} " in shown
    assert "stored already" in said(*words, "--from-block", window[0], "--to-block", window[1])
    assert "is no block and no date" in said(*words, "--from-block", "soon", code=2)


def test_a_validation_by_date_is_that_by_block(lake: Path, window: tuple[int, int], said: Said) -> None:
    words = ("validate", "--lake", lake, "--market", CRASH, "--rows", "1")
    said(*words, *DAY)
    assert "stored already" in said(*words, "--from-block", window[0], "--to-block", window[1])
    assert "is outside the history" in said(*words, "--from-block", "2031-01-01", code=2)


def test_a_window_of_a_sweep_by_date_is_that_by_block(lake: Path, window: tuple[int, int], said: Said) -> None:
    words = ("sweep", "--lake", lake, "--market", CRASH, "--axis", "WETH.liquidation_threshold=8000", "--workers", "1")
    said(*words, "--window", "day=2020-03-12..2020-03-13")
    said(*words, "--window", f"day={window[0]}..{window[1]}")
    rows = Lake(lake).sql("SELECT DISTINCT from_block, to_block FROM runs").fetchall()
    assert rows == [window]


def test_calibrated_rows_are_chosen_by_block_or_by_their_own_time(tmp_path: Path, said: Said) -> None:
    """Blocks 1000 + 50 i are at 1,650,000,000 + 100 i seconds: row 140 is in block 8000."""
    words = ("calibrate", "latency", liquidations(tmp_path), "--block-seconds", "2", "--draws", "1")
    date = datetime.fromtimestamp(1_650_000_000 + 100 * 140, UTC).isoformat()
    by_block, by_date = (said(*words, "--from-block", text) for text in ("8000", date))
    assert by_block == by_date
    assert "270 rows outside the blocks chosen" in by_date
    assert "is no block and no date" in said(*words, "--to-block", "soon", code=2)
    bare = tmp_path / "bare.csv"
    bare.write_text("tx,block,dist\na,1,2\nb,2,3\n", encoding="utf-8")
    assert "ts" in said("calibrate", "latency", bare, "--block-seconds", "2", "--from-block", date, code=2)


def _date(block: int, more: int = 0) -> str:
    """Of a block of a made-up chain, and seconds after it."""
    return datetime.fromtimestamp(1_600_000_000 + 12 * block + more, UTC).isoformat()


def test_a_node_places_dates_by_its_headers() -> None:
    with ChainNode(Chain(200)) as node, Rpc(node.url, backoff=0.001, max_backoff=0.02) as rpc:

        def asked(first: str | None, last: str | None) -> tuple[int | None, int | None]:
            return blocks_of_node(rpc, 5, lambda: 200, (first, "--from-block"), (last, "--to-block"))

        for block in (5, 6, 77, 199):
            assert asked(_date(block), _date(block)) == (block, block)
            assert asked(_date(block, 1), _date(block, 1)) == (block + 1, block)
            assert asked(_date(block, -1), _date(block, 11)) == (block, block)
        assert asked("2001-01-01", "2031-01-01") == (5, 200)
        assert asked("17", None) == (17, None)
        with pytest.raises(UserError, match="after block 200, the last final one"):
            asked("2031-01-01", None)
        with pytest.raises(UserError, match="before block 5, the market's first"):
            asked(None, "2001-01-01")
        seen = len(node.seen)
        assert asked(None, _date(123)) == (None, 123)
        assert len(node.seen) - seen < 20


def test_a_fetch_asks_for_dates(tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fetch is asked for, with --from-block and --to-block and with --again."""
    calls: list[dict[str, object]] = []

    def asked(*_: object, **options: object) -> None:
        calls.append(options)
        raise UserError("seen", "nothing more is wanted")

    monkeypatch.setattr("backtest.fetch.fetch", asked)
    with ChainNode(Chain(200)) as node:
        mine = tmp_path / "mine.toml"
        text = (LAKE.parents[1] / "markets/maker-eth-a.toml").read_text(encoding="utf-8")
        text = re.sub("start_block = [0-9_]+", "start_block = 1", text).replace('"maker-eth-a"', '"mine"')
        mine.write_text(text, encoding="utf-8")
        words = ("fetch", "maker", "--market", mine, "--rpc", node.url, "--finality", "0", "--lake", tmp_path / "lake")
        said(*words, "--from-block", _date(50), "--to-block", _date(90, 5), code=2)
        said(*words, "--again", f"{_date(50)}..120", code=2)
        bad = [
            said(*words, *option, code=2)
            for option in (("--from-block", "soon"), ("--again", "5"), ("--again", "5..x"))
        ]
    assert [(one["from_block"], one["to_block"], one["again"]) for one in calls] == [
        (50, 90, None),
        (None, None, (50, 120)),
    ]
    assert all("seen" not in line for line in bad)


def test_sql_gives_the_block_of_a_time(window: tuple[int, int]) -> None:
    query = f"SELECT block_number FROM block_at('2020-03-13') WHERE market = '{CRASH}'"
    assert Lake(LAKE).sql(query).fetchall() == [(window[1],)]
    within = f"SELECT count(*) FROM price_at(({query})) WHERE market = '{CRASH}'"
    assert Lake(LAKE).sql(within).fetchall()[0][0] > 0
    assert Lake(LAKE).sql("FROM block_at('2001-01-01')").fetchall() == []


@pytest.mark.parametrize("verb", ["replay", "validate", "fetch", "calibrate latency", "sweep"])
def test_help_says_it(verb: str, said: Said) -> None:
    text = " ".join(said(*verb.split(), "--help").replace("│", " ").split())
    ends = text.count(", or a date or time in UTC")
    assert (ends, "locks or dates" in text) == {"sweep": (0, True), "fetch": (2, True)}.get(verb, (2, False)), text
