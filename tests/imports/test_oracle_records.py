"""Oracles' own records: Maker's pokes and what its OSM says, Chainlink rounds through phases; a proxy only where
nothing better is known, and ``info`` says which is which.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from backtest.cli.info import info
from backtest.imports import import_files, load
from backtest.inexact import GAP, PLACED, PROXY, READ_BY, TAKEN, doubts, kinds
from backtest.lake import Lake
from backtest.reconstruct import reconstruct
from tests.support.import_exports import at, import_vaults, seconds, tx, vaults, write

pytestmark = pytest.mark.slow  # together they take what a quick run has no time for

MARKET = "maker-eth-b"
OSM, OTHER = "0x" + "5a" * 20, "0x" + "5b" * 20
POKE = "evt_block_number,evt_block_time,evt_tx_hash,evt_index,ilk,val,spot"
LOG = "evt_block_number,evt_block_time,evt_tx_hash,evt_index,contract_address,val"
ILK = "0x" + b"ETH-B".hex().ljust(64, "0")
HOUR = 3600


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two vaults of ETH-B in blocks 5 to 60."""
    lake = Lake(tmp_path / "lake", create=True)
    import_vaults(lake, write(tmp_path / "exports", vaults()))
    return lake


def _word(price: int) -> str:
    return f"0x{price:064x}"


def _poke(block: int, price: int, *, ilk: str = ILK, spot: str = "7", val: str | None = None) -> str:
    time = at(block).replace("T", " ").replace("Z", ".000 UTC")
    return f"{block},{time},{tx(block)},9,{ilk},{_word(price) if val is None else val},{spot}"


def _said(block: int, price: int, *, osm: str = OSM) -> str:
    return f"{block},{at(block)},{tx(1000 + block)},8,{osm},{_word(price)}"


def _add(lake: Lake, mapping: str, folder: Path, files: dict[str, Sequence[str]], **parameters: str) -> Any:
    folder.mkdir(exist_ok=True)
    for name, lines in files.items():
        (folder / name).write_text("\n".join([*lines, ""]))
    summary = import_files(lake, load(mapping), market=MARKET, folder=folder, parameters=parameters)
    lake.refresh()
    return summary


def _steps(lake: Lake) -> list[tuple[int, int, str, bool]]:
    """Canonical prices: block, whole price, method, exact."""
    reconstruct(lake, MARKET)
    lake.refresh()
    rows = lake.read("canonical/prices", MARKET).to_pylist()
    return [(row["block_number"], int(row["price"]) // 10**18, row["method"], row["exact"]) for row in rows]


def test_pokes_are_exact_and_what_comes_before_is_the_next_best(
    tmp_path: Path, lake: Lake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    candles = [f"{seconds(0) + hour * HOUR},{price},{price},{price},{price}" for hour, price in ((-2, 350), (0, 360))]
    _add(lake, "candles", tmp_path / "c", {"eth_usd_1h_x.csv": ["hour_utc,open,high,low,close", *candles]})
    files = {
        "LogValue.csv": [LOG, _said(20, 370 * 10**18), _said(40, 380 * 10**18), _said(50, 381 * 10**18)],
        "pokes.csv": [POKE, _poke(45, 382 * 10**18 + 1), _poke(55, 390 * 10**18)],
    }
    summary = _add(lake, "maker-prices", tmp_path / "m", files)
    assert [count.quarantined for count in summary.files] == [0, 0]
    found = _steps(lake)
    assert [step for step in found if step[2] in ("source", "feed")] == [
        (20, 370, "source", False),
        (40, 380, "source", False),
        (45, 382, "feed", True),
        (55, 390, "feed", True),
    ]
    assert all(block < 20 for block, _, method, _ in found if method == "proxy")
    rows = lake.read("canonical/prices", MARKET).to_pylist()
    assert int(rows[-2]["price"]) == 382 * 10**18 + 1  # to the last digit of the 32 bytes
    told = [(one.kind, one.steps) for one in kinds(lake, MARKET)]
    assert told[-3:] == [
        ("imported: what the oracle reads said", 2),
        ("the oracle's own log", 2),
        ("fixed", 1),
    ]
    assert "a venue's price in the oracle's place" in [kind for kind, _ in told[:-3]]
    assert {one.why for one in doubts(lake, MARKET)} == {PROXY, GAP, READ_BY, TAKEN}
    info(lake=Path(str(lake.path)))
    out = " ".join(capsys.readouterr().out.split())
    assert f"the oracle's own log 2 {at(45)[:10]}" in out
    assert "a venue's price in the oracle's place" in out


@pytest.mark.parametrize(
    ("line", "reason", "aside"),
    [
        (_poke(45, 0, ilk="0x" + b"ETH-A".hex().ljust(64, "0")), None, "of collateral type 0x"),
        (_poke(45, 10**18, ilk="ETH-A"), None, "of collateral type ETH-A"),
        (_poke(45, 10**18, spot="0"), "the feed had no price: spot is 0", None),
        (_poke(45, 10**18, spot=""), "the feed had no price: spot is missing", None),
        (_poke(45, 0), "price: '0e-18' is not above zero", None),
        (_poke(45, 1 << 255), "is no price", None),
        (_poke(45, 0, val="0x12"), "price: '0x12e-18' is not a decimal number", None),
        (_poke(45, 0, val="３"), "price: '３e-18' is not a decimal number", None),
    ],
)
def test_pokes_that_are_no_price_are_named(
    tmp_path: Path, lake: Lake, line: str, reason: str | None, aside: str | None
) -> None:
    summary = _add(lake, "maker-prices", tmp_path / "m", {"pokes.csv": [POKE, line]})
    assert [count.stored for count in summary.files] == [0]
    (said,) = summary.aside if aside else summary.reasons
    assert (aside or reason or "?") in said


@pytest.mark.parametrize("val", [str(382 * 10**18 + 1), _word(382 * 10**18 + 1).replace("0x", "\\x")])
@pytest.mark.parametrize("ilk", ["ETH-B", ILK, ILK.replace("0x", "\\x")])
def test_pokes_have_the_forms_of_exports(tmp_path: Path, lake: Lake, val: str, ilk: str) -> None:
    _add(lake, "maker-prices", tmp_path / "m", {"pokes.csv": [POKE, _poke(45, 0, val=val, ilk=ilk)]})
    rows = lake.read("raw/import/Price", MARKET).to_pylist()
    assert [(row["kind"], int(row["price"])) for row in rows] == [("oracle", 382 * 10**18 + 1)]


def test_values_of_several_osms_need_a_name(tmp_path: Path, lake: Lake) -> None:
    files = {"LogValue.csv": [LOG, _said(20, 370 * 10**18), _said(21, 5 * 10**18, osm=OTHER)]}
    summary = _add(lake, "maker-prices", tmp_path / "m", files)
    assert dict(summary.reasons) == {"LogValue of 2 contracts: say whose with --set osm=0x...": 2}
    summary = _add(lake, "maker-prices", tmp_path / "m", files, osm=OSM)
    assert (summary.files[0].stored, dict(summary.aside)) == (1, {f"of OSM {OTHER}": 1})


# -- Chainlink
# ---------------------------------------------------------------------------------------------------------------------


def _round(phase: int, number: int, price: int, hour: int) -> str:
    return f"{(phase << 64) + number},{price * 10**8},{seconds(0) + hour * HOUR}"


ROUNDS = ["round,answer,updated_at"]
OVERLAP = [
    *ROUNDS,
    _round(5, 1, 300, 1),
    _round(6, 1, 400, 2),  # the new aggregator reports before the proxy changes
    _round(6, 2, 401, 3),
    _round(5, 2, 301, 4),
    _round(5, 3, 302, 6),  # the old one still reports afterwards
    _round(6, 3, 402, 7),
]


def _prices(lake: Lake) -> list[tuple[int, int]]:
    """Hours and prices of the imported rows."""
    rows = lake.read("raw/import/Price", MARKET).to_pylist()
    return sorted(((row["timestamp"] - seconds(0)) // HOUR, int(row["price"]) // 10**18) for row in rows)


def test_rounds_count_in_their_phase_only(tmp_path: Path, lake: Lake) -> None:
    phases = ["phase,started_at", f"6,{seconds(0) + 5 * HOUR}"]
    files = {"chainlink_rounds.csv": OVERLAP, "chainlink_phases.csv": phases}
    summary = _add(lake, "chainlink-rounds", tmp_path / "r", files)
    assert _prices(lake) == [(1, 300), (4, 301), (5, 401), (7, 402)]
    assert dict(summary.aside) == {"of phase 5, after it ended": 1, "of phase 6, before it began": 1}
    assert not summary.reasons
    steps = [step for step in _steps(lake) if step[2] == "feed"]
    assert [price for _, price, _, _ in steps] == [300, 301, 401, 402]
    assert {one.why for one in doubts(lake, MARKET)} == {PLACED, TAKEN}


def test_times_of_phases_may_be_iso(tmp_path: Path, lake: Lake) -> None:
    phases = ["phase,started_at", f"5,{at(0)}", f"6,{at(30)}"]
    files = {"chainlink_rounds.csv": OVERLAP, "chainlink_phases.csv": phases}
    _add(lake, "chainlink-rounds", tmp_path / "r", files)
    assert _prices(lake) == [(1, 300), (4, 301), (5, 401), (7, 402)]


def test_rounds_of_phases_that_overlap_are_quarantined_without_their_times(tmp_path: Path, lake: Lake) -> None:
    summary = _add(lake, "chainlink-rounds", tmp_path / "r", {"chainlink_rounds.csv": OVERLAP})
    (reason,) = summary.reasons
    assert reason.startswith("rounds of several phases at one time: say in a file of phases")
    assert _prices(lake) == [(1, 300), (7, 402)]


def test_rounds_of_phases_one_after_the_other_need_no_times(tmp_path: Path, lake: Lake) -> None:
    lines = [*ROUNDS, _round(5, 1, 300, 1), _round(5, 2, 301, 2), _round(6, 9, 400, 3)]
    summary = _add(lake, "chainlink-rounds", tmp_path / "r", {"chainlink_rounds.csv": lines})
    assert not summary.reasons
    assert _prices(lake) == [(1, 300), (2, 301), (3, 400)]


def test_an_aggregators_own_rounds_are_told_apart_by_the_phase(tmp_path: Path, lake: Lake) -> None:
    for phase, price, hour in ((5, 300, 1), (6, 400, 2)):
        lines = [*ROUNDS, _round(0, 1, price, hour)]
        _add(lake, "chainlink-rounds", tmp_path / f"r{phase}", {"chainlink_rounds.csv": lines}, phase=str(phase))
    assert _prices(lake) == [(1, 300), (2, 400)]
    summary = _add(
        lake, "chainlink-rounds", tmp_path / "r", {"chainlink_rounds.csv": [*ROUNDS, _round(5, 8, 1, 3)]}, phase="5"
    )
    (reason,) = summary.reasons
    assert reason.endswith("names its phase itself: leave out --set phase")


@pytest.mark.parametrize("number", ["", "-4", "x", "9" * 60])
def test_a_round_that_is_none_is_quarantined(tmp_path: Path, lake: Lake, number: str) -> None:
    lines = [*ROUNDS, f"{number},{10**8},{seconds(0)}"]
    summary = _add(lake, "chainlink-rounds", tmp_path / "r", {"chainlink_rounds.csv": lines})
    assert list(summary.reasons) == [f"round {number} is no round id"]
