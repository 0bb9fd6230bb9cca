"""A market that was imported only: its spine, times, prices and checks. And the verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backtest.cli import main
from backtest.errors import LakeError, UserError
from backtest.imports import import_files, load
from backtest.lake import Lake, checks, queries
from backtest.markets import MarketConfig
from backtest.prices.imported import delayed_prices
from backtest.protocols.registry import PROTOCOLS
from backtest.reconstruct import is_current, reconstruct
from backtest.results import load_timeline
from backtest.tables import RAW_KEY
from tests.support.import_exports import Toy, import_vaults, real, seconds, vaults, write
from tests.support.lake_tables import table

pytestmark = pytest.mark.slow

HOUR = 3600
MARKET = "maker-eth-b"
MAKER = PROTOCOLS.get("maker")
FIRST = 5  # block of the first parameter


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "maker", Toy())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """The vaults of ``vaults()``."""
    lake = Lake(tmp_path / "lake", create=True)
    import_vaults(lake, write(tmp_path / "exports", vaults()))
    return lake


def _candles(lake: Lake, folder: Path, hours: Sequence[tuple[int, str]], name: str = "eth_usd_1h_test.csv") -> None:
    """Hourly candles: hours since block 0 and open."""
    folder.mkdir(exist_ok=True)
    lines = [f"{seconds(0) + hour * HOUR},{price},{price},{price},{price}" for hour, price in hours]
    (folder / name).write_text("\n".join(["hour_utc,open,high,low,close", *lines]) + "\n")
    import_files(lake, load("candles"), market=MARKET, folder=folder)


def _table(lake: Lake, name: str, *columns: str) -> list[tuple[Any, ...]]:
    table = lake.read(f"canonical/{name}", MARKET)
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))


def _findings(lake: Lake) -> Mapping[str, checks.Finding]:
    return {finding.check: finding for finding in checks.run(lake)}


def test_the_spine_has_every_fact_of_the_chain_once_and_the_blocks_their_times(lake: Lake) -> None:
    summary = reconstruct(lake, MARKET)
    assert (summary.rows["events"], summary.to_block) == (8 + 1 + 8, 60)
    events = _table(lake, "events", "seq", "block_number", "timestamp", "event", "address")
    assert [event[0] for event in events] == list(range(17))
    assert all(time == seconds(block) for _, block, time, _, _ in events)
    assert {event[3] for event in events} == {"import/Flow", "import/Liquidation", "import/Parameter"}
    assert {event[4] for event in events} == {None}
    assert _table(lake, "blocks", "block_number", "timestamp") == [
        (block, seconds(block)) for block in (5, 10, 12, 30, 40, 50, 60)
    ]
    assert is_current(lake, MARKET)
    assert all(
        finding.passed
        for finding in _findings(lake).values()
        if not finding.check.startswith(("prices__", "totals__", "imports__"))
    )


def test_market_prices_become_oracle_prices_an_hour_late(tmp_path: Path, lake: Lake) -> None:
    # Known blocks reach from 5 to 60: 50 minutes to 10 hours after block 0.
    _candles(lake, tmp_path / "prices", [(hour, str(100 + hour)) for hour in range(12)])
    summary = reconstruct(lake, MARKET)
    prices = _table(lake, "prices", "timestamp", "price", "method", "exact", "log_index")
    assert [((time - seconds(0)) / HOUR, int(price) // 10**18) for time, price, *_ in prices] == [
        (hour, 99 + hour) for hour in range(1, 11)
    ]
    assert {row[2:] for row in prices} == {("proxy", False, -1)}
    # Each step is in a block of its time: an estimated one, or the known one of that very time (60 at 10 h, 12 at 2 h,
    # 30 at 5 h).
    assert [block for block, _ in _table(lake, "prices", "block_number", "price")] == [
        6,
        12,
        18,
        24,
        30,
        36,
        42,
        48,
        54,
        60,
    ]
    market = _table(lake, "market_prices", "timestamp", "price", "period")
    assert [((time - seconds(0)) // HOUR, int(price) // 10**18, period) for time, price, period in market] == [
        (h, 100 + h, HOUR) for h in range(11)
    ]
    assert "blocks of prices, placed by their time: 7" in summary.notes
    assert _findings(lake)["events__sequence"].passed
    assert _findings(lake)["market_prices__no_gaps"].passed


def test_a_gap_between_candles_is_flagged_and_named(tmp_path: Path, lake: Lake) -> None:
    _candles(lake, tmp_path / "prices", [(0, "100"), (1, "101"), (4, "104"), (5, "105")])
    summary = reconstruct(lake, MARKET)
    prices = _table(lake, "prices", "timestamp", "price", "method")
    assert [((time - seconds(0)) // HOUR, int(price) // 10**18, method) for time, price, method in prices] == [
        (1, 100, "proxy"),
        (2, 101, "proxy"),
        (3, 101, "proxy-gap"),
        (4, 101, "proxy-gap"),
        (5, 104, "proxy"),
        (6, 105, "proxy"),
    ]
    assert "market prices of eth have 1 gaps, the longest of 7200 seconds" in summary.notes
    found = _findings(lake)["market_prices__no_gaps"]
    assert found.violations == 1
    assert "seconds 7200" in found.examples[0]


def test_what_an_oracle_said_counts_from_its_first_word_on(tmp_path: Path, lake: Lake) -> None:
    _candles(lake, tmp_path / "prices", [(hour, "100") for hour in range(9)])
    rounds = [(1, 11_000_000_000, seconds(33)), (2, 12_000_000_000, seconds(40))]
    lines = [f"{number},{answer},{time}" for number, answer, time in rounds]
    (tmp_path / "prices" / "chainlink_rounds.csv").write_text("\n".join(["round,answer,updated_at", *lines]) + "\n")
    import_files(lake, load("chainlink-rounds"), market=MARKET, folder=tmp_path / "prices")
    reconstruct(lake, MARKET)
    prices = _table(lake, "prices", "block_number", "price", "method")
    assert [(block, int(price) // 10**18, method) for block, price, method in prices] == [
        *((block, 100, "proxy") for block in (6, 12, 18, 24, 30)),
        (33, 110, "feed"),
        (40, 120, "feed"),
    ]


def test_candles_before_the_market_and_behind_it(tmp_path: Path, lake: Lake) -> None:
    _candles(lake, tmp_path / "prices", [(-20, "1"), (-19, "2"), (30, "3")])
    summary = reconstruct(lake, MARKET)
    assert _table(lake, "prices", "block_number", "price")[0] == (
        FIRST,
        2 * 10**18,
    )  # the last one before is in force at the start
    assert "price steps after the last known block, left out: 21" in summary.notes
    assert [int(price) for (price,) in _table(lake, "market_prices", "price")] == [
        10**18,
        2 * 10**18,
    ]  # those of the week before are kept
    assert {block for (block,) in _table(lake, "market_prices", "block_number")} == {FIRST}


def _delayed(lake: Lake, delay: int) -> list[tuple[float, int]]:
    """Hours since block 0 and prices under another delay."""
    tables = [lake.read(f"canonical/{name}", MARKET) for name in ("prices", "market_prices", "blocks")]
    made = delayed_prices(*tables, delay)
    assert made["seq"].to_pylist() == sorted(made["seq"].to_pylist())
    return [
        ((time - seconds(0)) / HOUR, int(price) // 10**18)
        for time, price in zip(made["timestamp"].to_pylist(), made["price"].to_pylist(), strict=True)
    ]


def test_a_scenario_may_set_another_delay(tmp_path: Path, lake: Lake) -> None:
    _candles(lake, tmp_path / "prices", [(hour, str(100 + hour)) for hour in range(-3, 12) if hour not in (4, 5)])
    reconstruct(lake, MARKET)
    start = FIRST / 6  # the first block; what was in force before it is in force there
    own = [
        ((time - seconds(0)) / HOUR, int(price) // 10**18)
        for time, price in _table(lake, "prices", "timestamp", "price")
    ]
    assert own == [
        (start, 99),
        (1, 100),
        (2, 101),
        (3, 102),
        (4, 103),
        (5, 103),
        (6, 103),
        (7, 106),
        (8, 107),
        (9, 108),
        (10, 109),
    ]
    assert _delayed(lake, HOUR) == own
    assert _delayed(lake, 3 * HOUR) == [
        (start, 97),
        (1, 98),
        (2, 99),
        (3, 100),
        (4, 101),
        (5, 102),
        (6, 103),
        (7, 103),
        (8, 103),
        (9, 106),
        (10, 107),
    ]
    assert _delayed(lake, 0) == [
        (start, 100),
        (1, 101),
        (2, 102),
        (3, 103),
        (4, 103),
        (6, 106),
        (7, 107),
        (8, 108),
        (9, 109),
        (10, 110),
    ]


def test_another_delay_needs_market_prices(lake: Lake) -> None:
    reconstruct(lake, MARKET)
    with pytest.raises(UserError, match="oracle_delay: market 'maker-eth-b' has no market prices; import them"):
        load_timeline(lake, MARKET, oracle_delay=0)


def test_candles_may_come_first(tmp_path: Path) -> None:
    first, last = Lake(tmp_path / "first", create=True), Lake(tmp_path / "last", create=True)
    folder, prices = write(tmp_path / "exports", vaults()), [(hour, "100.25") for hour in range(4)]
    import_files(first, load("maker-vaults"), sources={"deposits": [str(folder / "deposits.csv")]})
    _candles(first, tmp_path / "prices", prices)
    import_vaults(first, folder)
    import_vaults(last, folder)
    _candles(last, tmp_path / "prices", prices)
    assert first.digest(MARKET) == last.digest(MARKET)


def test_headers_that_were_fetched_must_agree(tmp_path: Path, lake: Lake) -> None:
    header = {"block_number": 12, "block_hash": bytes(32), "parent_hash": bytes(32), "timestamp": seconds(12) + 1}
    with lake.writer() as writer:
        writer.commit(
            MARKET, {"raw/chain/Header": table(lake.schema("raw/chain/Header"), [header])}, from_block=12, to_block=12
        )
    with pytest.raises(LakeError, match="block 12 has another time in imported rows than in its header"):
        reconstruct(lake, MARKET)


def test_market_prices_of_an_asset_that_the_market_lacks_are_named(tmp_path: Path, lake: Lake) -> None:
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "btc_1h_test.csv").write_text(f"hour_utc,open,high,low\n{seconds(0)},1,1,1\n{seconds(0) + HOUR},1,1,1\n")
    import_files(lake, load("candles"), market=MARKET, folder=folder, parameters={"asset": "btc"})
    notes = reconstruct(lake, MARKET).notes
    assert "market prices of btc, which this market does not have, left out: 2" in notes


def test_beside_a_fetched_market_prices_of_venues_are_no_oracle(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", create=True)
    config = MarketConfig(name=MARKET, protocol="maker", chain_id=1, start_block=1, contracts={}, base_decimals=18)
    note = {
        "block_number": 12,
        "transaction_index": 0,
        "log_index": 1,
        "transaction_hash": bytes(32),
        "address": bytes(20),
    }
    headers = [
        {"block_number": block, "block_hash": bytes(32), "parent_hash": bytes(32), "timestamp": seconds(block)}
        for block in (12, 60)
    ]
    rows = {
        "raw/maker/Note": table(pa.schema(RAW_KEY), [note]),
        "raw/chain/Header": table(lake.schema("raw/chain/Header"), headers),
    }
    with lake.writer() as writer:
        writer.set_market(config)
        writer.commit(MARKET, rows, from_block=1, to_block=60, covers={"logs": (1, 60)})
    given = {name: [str(write(tmp_path / "exports", vaults()) / f"{name}.csv")] for name in ("deposits", "borrows")}
    import_files(lake, load("maker-vaults"), sources=given)
    _candles(lake, tmp_path / "prices", [(hour, "100") for hour in range(9)])
    reconstruct(lake, MARKET)
    assert _table(lake, "prices", "price") == []
    assert len(_table(lake, "market_prices", "price")) == 9
    events = _table(lake, "events", "block_number", "event", "address")
    assert events.count((12, "maker/Note", "0x" + "00" * 20)) == 1
    assert len(events) == 1 + 5
    assert _findings(lake)["events__sequence"].passed
    with pytest.raises(UserError, match="oracle_delay: the oracle prices of market 'maker-eth-b' are its own"):
        load_timeline(lake, MARKET, oracle_delay=0)


# -- checks
# ----------------------------------------------------------------------------------------------------------------------


def test_accounts_whose_flows_are_not_in_the_files_are_named(tmp_path: Path) -> None:
    files = vaults()
    files["deposits"] = files["deposits"][1:]  # vault 7 lacks 2.5 ETH: it withdraws 0.1 of 0.5, and 0.2
    files["withdrawals"][1]["WITHDRAWN_AMOUNT_ADJ"] = "1.4"
    lake = Lake(tmp_path / "lake", create=True)
    import_vaults(lake, write(tmp_path / "exports", files))
    reconstruct(lake, MARKET)
    found = _findings(lake)["imports__flows_complete"]
    assert found.violations == 1
    assert "account 7, problem collateral goes negative, owes without collateral, block_number 50" in found.examples[0]
    assert f"collateral_unrecorded {10**18}" in found.examples[0]


def test_amounts_with_wrong_decimals_are_found_by_the_checks(tmp_path: Path) -> None:
    files = vaults()
    for row in files["withdrawals"]:  # wei where the column should have tokens
        row["WITHDRAWN_AMOUNT_ADJ"] = "1E+17"
    lake = Lake(tmp_path / "lake", create=True)
    import_vaults(lake, write(tmp_path / "exports", files))
    reconstruct(lake, MARKET)
    assert "account 7, problem collateral goes negative" in _findings(lake)["imports__flows_complete"].examples[0]


@pytest.mark.parametrize(
    ("line", "difference"), [("1750.25", None), ("1751", None), ("1752.25", "-200000"), ("1748.25", "200000")]
)
def test_total_debt_is_held_against_the_debt_ceiling(tmp_path: Path, line: str, difference: str | None) -> None:
    files = vaults()
    files["parameter_changes"][-1]["TO_VALUE"] = line  # 1000 more than 750.25 Dai of debt in block 40
    lake = Lake(tmp_path / "lake", create=True)
    import_vaults(lake, write(tmp_path / "exports", files))
    reconstruct(lake, MARKET)
    found = _findings(lake)["totals__match_checkpoints"]
    assert found.violations == (difference is not None)
    assert difference is None or "month 2020-09-01, checkpoints 1, differing 1" in found.examples[0]
    assert (
        difference is None or f"median_difference {difference}" in found.examples[0]
    )  # 2 Dai, the rest of the digits is a float's


def test_rows_that_may_be_one_fact_are_named(tmp_path: Path) -> None:
    files = vaults()
    files["deposits"].append(dict(files["deposits"][2]))
    lake = Lake(tmp_path / "lake", create=True)
    import_vaults(lake, write(tmp_path / "exports", files))
    reconstruct(lake, MARKET)
    found = _findings(lake)["imports__unambiguous"]
    assert (found.violations, found.examples) == (
        1,
        (f"market {MARKET}, dataset flow, block_number 30, account 7, rows 2",),
    )


# -- the verb
# --------------------------------------------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def test_the_verb_prints_what_became_of_every_row_and_info_keeps_it(tmp_path: Path, run: Run) -> None:
    files = vaults()
    files["deposits"][0]["DEPOSIT_AMOUNT_ADJ"] = "-1"
    folder, lake = write(tmp_path / "exports", files), tmp_path / "lake"
    code, out, err = run("import", "maker-vaults", "--folder", folder, "--lake", lake)
    assert (code, err) == (0, "")
    assert "deposits.csv (deposits): 3 rows: 2 stored, 0 known, 1 quarantined" in out
    assert "quarantined 1: amount: '-1' is negative" in out
    assert "18 rows: 14 stored, 0 known, 1 quarantined, 4 set aside" in out.replace("19 rows", "18 rows")
    assert "nothing new" in run("import", "maker-vaults", "--folder", folder, "--lake", lake)[1]
    told = " ".join(run("info", "--lake", lake)[1].split())
    assert "maker-vaults: 3 rows: 2 stored, 0 known, 1 quarantined" in told
    assert "1 logs or rows are in quarantine" in told
    assert run("reconstruct", "--lake", lake)[0] == 0
    code, out, _ = run("check", "--lake", lake)
    assert code == 1
    assert "amount: '-1' is negative" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["maker-vault"], "there is no mapping 'maker-vault'; did you mean 'maker-vaults'?"),
        (["maker-vaults", "--source", "deposits"], "--source deposits is not understood; write --source NAME=GLOB"),
        (["maker-vaults", "--set", "ilk"], "--set ilk is not understood; write --set NAME=VALUE"),
        (["maker-vaults", "--folder", "/nowhere"], "there is no folder /nowhere; check the path"),
        (["candles", "--market", "none"], "there is no market 'none'"),
        (["candles"], "mapping 'candles' names no market; name one of the lake with --market"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, run: Run, words: list[str], said: str) -> None:
    code, out, err = run("import", *words, "--lake", tmp_path / "lake")
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


# -- real exports
# ------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_morpho_liquidations_are_exact(tmp_path: Path) -> None:
    folder = real("morpho_base")
    lake = Lake(tmp_path / "lake", create=True)
    summary = import_files(lake, load("morpho-liquidations"), folder=folder)
    rows = lake.read("raw/import/Liquidation", "morpho-blue-base").to_pylist()
    told = pq.read_table(folder / "liquidations.parquet").to_pylist()
    assert [count.stored for count in summary.files] == [len(told)]
    wanted = sorted(
        (
            row["block_number"],
            row["log_index"],
            int(row["repaidAssets"]),
            int(row["seizedAssets"]),
            int(row["badDebtAssets"]),
        )
        for row in told
    )
    assert [
        (row["block_number"], row["log_index"], row["repaid"], row["seized"], row["bad_debt"]) for row in rows
    ] == wanted


@pytest.mark.slow
def test_chainlink_rounds_and_candles_of_a_crash(tmp_path: Path, lake: Lake) -> None:
    folder = real("prices")
    summary = import_files(lake, load("chainlink-rounds"), market=MARKET, folder=folder)
    assert [(count.stored, count.quarantined) for count in summary.files] == [(11_106, 0)]
    candles = import_files(lake, load("candles"), market=MARKET, folder=folder)
    assert [(count.rows - count.stored, count.quarantined) for count in candles.files] == [(0, 0)] * 3
    rows = {row["identity"]: row for row in lake.read("raw/import/Price", MARKET).to_pylist()}
    assert rows["eth:round:110680464442257309697"]["price"] == 190818855732 * 10**10
    assert [int(rows["1583971200:eth:market:600"][name]) for name in ("price", "low", "high")] == [
        19521 * 10**16,
        19438 * 10**16,
        19543 * 10**16,
    ]


@pytest.mark.slow
def test_the_whole_history_of_eth_b(tmp_path: Path) -> None:
    folder = real("maker_eth_b")
    lake = Lake(tmp_path / "lake", create=True)
    summary = import_vaults(lake, folder)
    counts = {count.source: (count.rows, count.stored, count.quarantined) for count in summary.files}
    assert {name: found[1:] for name, found in counts.items()} == {
        **{name: (rows, 0) for name, (rows, _, _) in counts.items()},
        "creations": (0, 0),
        "parameter_changes": (counts["parameter_changes"][0] - sum(summary.aside.values()), 0),
    }
    before = lake.manifest
    assert not import_vaults(lake, folder).changed
    assert lake.manifest == before
    whole = lake.sql("SELECT sum(seized) FROM raw.import_Liquidation").fetchall()[0][0]
    assert round(int(whole) / 10**18, 1) == 19_041.8
    import_files(lake, load("candles"), market=MARKET, folder=real("prices"))
    told = reconstruct(lake, MARKET)
    assert "market prices of eth have 9 gaps, the longest of 14400 seconds" in told.notes
    found = _findings(lake)
    assert found["market_prices__no_gaps"].violations == 9
    assert found["events__sequence"].passed
    (query,) = [query for query in queries.load() if query.name == "imports__flows_complete"]
    problems = {row[1]: row[2] for row in lake.sql(query.select).fetchall()}
    assert problems["20083"].startswith("collateral goes negative")
    assert {problems.get(vault) for vault in ("18247", "24052", "17637")} == {"owes without collateral"}


@pytest.mark.slow
def test_the_checks_find_what_the_exports_of_eth_b_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rules of Maker: four vaults owe without collateral, which makes up the 0.8 million Dai by which total debt
    is off from June 2021.
    """
    folder = real("maker_eth_b")
    if MAKER is None:
        pytest.skip("this version has no protocol 'maker'")
    monkeypatch.setitem(PROTOCOLS, "maker", MAKER)
    lake = Lake(tmp_path / "lake", create=True)
    import_vaults(lake, folder)
    import_files(lake, load("candles"), market=MARKET, folder=real("prices"))
    reconstruct(lake, MARKET)
    wanted = ("imports__flows_complete", "totals__match_checkpoints")
    found = {query.name: lake.sql(query.select).fetchall() for query in queries.load() if query.name in wanted}
    problems = {row[1]: row[2] for row in found["imports__flows_complete"]}
    assert {vault for vault, problem in problems.items() if problem == "owes without collateral"} == {
        "18247",
        "24052",
        "17608",
        "17637",
    }
    assert {vault: problem.partition(",")[0] for vault, problem in problems.items() if "negative" in problem} == {
        "20083": "collateral goes negative",
        "20111": "debt goes negative",
    }
    months = {str(row[3]): int(row[7]) / 10**24 for row in found["totals__match_checkpoints"]}
    assert all(0.75 < months[f"2021-{month:02d}-01"] < 0.85 for month in (6, 7, 8))
    assert "2020-12-01" not in months


def test_a_refused_import_leaves_no_lake_where_there_was_none(tmp_path: Path, run: Run) -> None:
    (tmp_path / "none").mkdir()
    broken = write(tmp_path / "exports", vaults())
    (broken / "deposits.csv").write_text("no,such,columns\n1,2,3\n")
    for folder in (tmp_path / "none", broken):
        code, _, err = run("import", "maker-vaults", "--folder", str(folder), "--lake", str(tmp_path / "new/lake"))
        assert (code, err.count("\n")) == (2, 1), err
        assert not (tmp_path / "new").exists()
