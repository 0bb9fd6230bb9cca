"""The shipped mapping for Maker vaults over small exports: what is stored, known and refused; broken copies; order and
times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from backtest.errors import UserError
from backtest.imports import import_files, load
from backtest.lake import Lake
from tests.support.import_exports import FLOWS, Row, import_vaults, mapping, seconds, tx, vaults, write

pytestmark = pytest.mark.slow

ETH, DAI = 10**18, 10**18
Files = dict[str, list[Row]]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def _flows(lake: Lake) -> list[dict[str, Any]]:
    return lake.read("raw/import/Flow", "maker-eth-b").to_pylist()


def _counts(summary: Any, what: str) -> int:
    return sum(getattr(count, what) for count in summary.files)


def _contents(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    """All imported facts without where they came from."""
    lake.refresh()
    out = {}
    for dataset in lake.datasets("maker-eth-b"):
        table = lake.read(dataset, "maker-eth-b")
        names = [name for name in table.schema.names if name not in ("source_digest", "source_row")]
        out[dataset] = sorted(zip(*(table[name].to_pylist() for name in names), strict=True), key=repr)
    return out


def test_amounts_times_and_keys_are_exact(tmp_path: Path, lake: Lake) -> None:
    summary = import_vaults(lake, write(tmp_path / "exports", vaults()))
    assert (_counts(summary, "stored"), _counts(summary, "quarantined"), _counts(summary, "aside")) == (15, 0, 4)
    flows = {(row["block_number"], row["account"], row["action"]): row for row in _flows(lake)}
    assert flows[12, "8", "supply"]["amount"] == ETH + 1
    assert flows[30, "7", "withdraw"]["amount"] == -ETH // 10
    assert (flows[12, "8", "borrow"]["amount"], flows[50, "7", "repay"]["amount"]) == (
        250_250 * DAI // 1000,
        -100 * DAI,
    )
    assert flows[10, "7", "borrow"]["transaction_hash"] == bytes.fromhex(tx(1)[2:])
    assert {row["timestamp"] - seconds(row["block_number"]) for row in flows.values()} == {0}
    (liquidation,) = lake.read("raw/import/Liquidation", "maker-eth-b").to_pylist()
    assert (liquidation["debt_scaled"], liquidation["repaid"], liquidation["seized"]) == (
        250 * DAI,
        250_250 * DAI // 1000,
        ETH + 1,
    )
    assert (liquidation["account"], liquidation["liquidator"], liquidation["bad_debt"]) == ("8", "0x" + "ab" * 20, None)
    (checkpoint,) = lake.read("raw/import/Checkpoint", "maker-eth-b").to_pylist()
    assert (checkpoint["asset"], checkpoint["side"], checkpoint["amount"]) == ("dai", "debt", 750_250 * DAI // 1000)
    assert lake.market_config("maker-eth-b").parameters == {"ilk": "ETH-B"}


def test_parameters_come_in_the_order_of_their_values_and_in_the_protocols_units(tmp_path: Path, lake: Lake) -> None:
    import_vaults(lake, write(tmp_path / "exports", vaults()))
    rows = lake.read("raw/import/Parameter", "maker-eth-b").to_pylist()
    assert [(row["name"], int(row["value"])) for row in rows if row["name"] != "line"] == [
        ("dunk", 50_000 * DAI),
        ("liquidation_penalty", 113 * DAI // 100),
        ("liquidation_system", 11),
        ("stability_fee", 6 * 10**25),
        ("tau", 172_800),
        ("tau", 21_600),
    ]
    assert [row["log_index"] for row in rows if row["block_number"] == 5] == [0, 1, 2, 3, 4, 5]


def test_what_was_set_before_the_export_begins_is_known_from_its_first_changes(tmp_path: Path, lake: Lake) -> None:
    files = vaults()
    files["parameter_changes"] = [
        {**row, "BLOCK": "55", "TIMESTAMP": _spaced(seconds(55))} for row in files["parameter_changes"][:1]
    ]
    files["parameter_changes"] += [
        {**files["parameter_changes"][0], "PARAMETER": "DOG.ilks.hole", "FROM_VALUE": "5", "TO_VALUE": "6"}
    ]
    import_vaults(lake, write(tmp_path / "exports", files))
    rows = lake.read("raw/import/Parameter", "maker-eth-b").to_pylist()
    assert [(row["block_number"], row["name"], int(row["value"])) for row in rows] == [
        (10, "hole", 5 * DAI),
        (10, "liquidation_system", 20),
        (10, "tau", 172_800),
        (55, "hole", 6 * DAI),
        (55, "tau", 21_600),
    ]


def test_rows_without_an_index_come_before_or_behind_those_with_one(tmp_path: Path, lake: Lake) -> None:
    import_vaults(lake, write(tmp_path / "exports", vaults()))
    found = [
        (row["block_number"], row["log_index"], row["own_index"], row["action"], row["ordered"]) for row in _flows(lake)
    ]
    assert found == [
        (10, 1, None, "supply", False),  # no room below log 0: the block is numbered anew, parameters first
        (10, 2, 0, "borrow", True),
        (12, 8, None, "supply", False),
        (12, 9, 9, "borrow", True),
        (30, 3, None, "supply", False),
        (30, 4, 4, "withdraw", True),
        (50, 0, 0, "withdraw", True),
        (50, 3, 3, "repay", True),
    ]


def test_importing_again_changes_nothing(tmp_path: Path, lake: Lake) -> None:
    folder = write(tmp_path / "exports", vaults())
    import_vaults(lake, folder)
    before, digest = lake.manifest, lake.digest("maker-eth-b")
    again = import_vaults(lake, folder)
    assert (again.changed, _counts(again, "stored"), _counts(again, "known")) == (False, 0, 15)
    assert lake.manifest == before
    for name in ("withdrawals", "deposits"):  # renamed, and exported again in another order
        (folder / f"{name}.csv").rename(folder / f"{name}_2.csv")
    files = vaults()
    write(folder, {"borrows": files["borrows"][::-1]})
    renamed = import_vaults(lake, folder)
    assert (_counts(renamed, "stored"), _counts(renamed, "known")) == (0, 15)
    assert lake.digest("maker-eth-b") == digest


@pytest.mark.slow
def test_what_a_lake_holds_does_not_depend_on_the_order_of_imports(tmp_path: Path) -> None:
    folder = write(tmp_path / "exports", vaults())
    whole, pieces = Lake(tmp_path / "whole", create=True), Lake(tmp_path / "pieces", create=True)
    import_vaults(whole, folder)
    for names in (["liquidations"], ["borrows"], ["deposits", "parameter_changes"], ["repayments"], ["withdrawals"]):
        given = {name: [str(folder / f"{name}.csv")] for name in [*names, "creations"]}
        import_files(pieces, load("maker-vaults"), sources=given)
    assert _contents(pieces) == _contents(whole)
    assert pieces.digest("maker-eth-b") == whole.digest("maker-eth-b")


def test_shuffled_and_doubled_rows(tmp_path: Path) -> None:
    files = vaults()
    plain, mixed = Lake(tmp_path / "plain", create=True), Lake(tmp_path / "mixed", create=True)
    import_vaults(plain, write(tmp_path / "exports", files))
    import_vaults(mixed, write(tmp_path / "shuffled", {name: rows[::-1] for name, rows in files.items()}))
    assert _contents(mixed) == _contents(plain)
    # Rows with a transaction and a log are the same fact; a deposit has neither, so both are kept and marked.
    doubled = import_vaults(
        mixed,
        write(
            tmp_path / "doubled",
            {name: rows * 2 for name, rows in files.items() if name != "parameter_changes"}
            | {"parameter_changes": files["parameter_changes"]},
        ),
    )
    counts = {count.source: (count.stored, count.known) for count in doubled.files}
    assert counts["borrows"] == (0, 4)
    assert counts["deposits"] == (3, 3)
    assert doubled.ambiguous == 6
    assert [row["account"] for row in _flows(mixed) if row["ambiguous"]] == ["7", "7", "8", "8", "7", "7"]


Change = Callable[[Files], None]


def _set(source: str, row: int, **values: str) -> Change:
    return lambda files: files[source][row].update(values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("deposits", 0, DEPOSIT_AMOUNT_ADJ="-2.5"), "amount: '-2.5' is negative"),
        (_set("borrows", 0, DAI_MINTED="nan"), "amount: 'nan' is not a decimal number"),
        (_set("borrows", 0, DAI_MINTED=""), "amount: no value"),
        (_set("withdrawals", 1, WITHDRAWN_AMOUNT_ADJ="1,000"), "amount: '1,000' is not a decimal number"),
        (
            _set("deposits", 0, DEPOSIT_AMOUNT_ADJ="0.1234567890123456789"),
            "amount: '0.1234567890123456789' has more than 18 decimals",
        ),
        (_set("repayments", 0, TX_HASH="0x12"), "transaction_hash: '0x12' is not a transaction hash"),
        (_set("repayments", 0, BLOCK_NUMBER="50.5"), "block: '50.5' is not a whole number"),
        (
            _set("repayments", 0, BLOCK_TIMESTAMP="2020-09-13 12:26:40"),
            "timestamp: '2020-09-13 12:26:40' states no time zone",
        ),
        (_set("repayments", 0, COLLATERAL_TYPE="ETH-A"), "collateral type ETH-A, not ETH-B"),
        (_set("deposits", 0, URN_ADDRESS="0x" + "09" * 20), "vault 7 has urn"),
        (_set("parameter_changes", 0, PARAMETER="POT.dsr"), "unknown parameter pot.dsr"),
        (_set("liquidations", 0, COLLATERAL_LIQUIDATED_AMOUNT=""), "seized: no value"),
        (
            _set("repayments", 0, BLOCK_TIMESTAMP="2020-09-13T20:00:00Z"),
            "block 50 has time 1600027200 here and 1600028400 in other rows",
        ),
        (_set("borrows", 1, BLOCK_NUMBER="31"), "block 31 at time 1600005600 contradicts the blocks around it"),
    ],
)
def test_a_row_that_is_wrong_is_quarantined_whole_and_the_rest_is_stored(
    tmp_path: Path, lake: Lake, change: Change, reason: str
) -> None:
    files = vaults()
    change(files)
    folder = write(tmp_path / "exports", files)
    summary = import_vaults(lake, folder)
    assert (_counts(summary, "stored"), _counts(summary, "quarantined")) == (14, 1)
    (row,) = lake.read("raw/import/Quarantine", "maker-eth-b").to_pylist()
    assert row["reason"].startswith(reason)
    (text,) = [row_ for row_ in files[row["source"]] if json.loads(row["text"]).items() <= row_.items()]
    assert files[row["source"]].index(text) == row["source_row"]
    assert lake.sql("SELECT event, reason, logs FROM quarantine").fetchall() == [
        (f"{row['source']}.csv", row["reason"], 1)
    ]
    again = import_vaults(lake, folder)
    assert (again.changed, _counts(again, "quarantined"), _counts(again, "known")) == (False, 1, 14)


def test_a_mended_file_clears_the_quarantine_of_the_earlier_one(tmp_path: Path, lake: Lake) -> None:
    files = vaults()
    files["borrows"][0]["DAI_MINTED"], files["deposits"][0]["DEPOSIT_AMOUNT_ADJ"] = "5OO", "-1"
    import_vaults(lake, write(tmp_path / "exports", files))
    files["borrows"][0]["DAI_MINTED"] = "500"
    kept = import_vaults(lake, write(tmp_path / "exports", files))
    assert (
        _counts(kept, "stored") == 2
    )  # the borrow, and the parameter that is known from its block on, which had no time without it
    assert lake.read("raw/import/Quarantine", "maker-eth-b").num_rows == 2
    assert import_vaults(lake, tmp_path / "exports", mended=True).changed
    assert [row["file"] for row in lake.read("raw/import/Quarantine", "maker-eth-b").to_pylist()] == ["deposits.csv"]
    assert not import_vaults(lake, tmp_path / "exports", mended=True).changed


def test_a_row_that_contradicts_a_stored_one_is_quarantined(tmp_path: Path, lake: Lake) -> None:
    files = vaults()
    import_vaults(lake, write(tmp_path / "exports", files))
    files["borrows"][0]["DAI_MINTED"] = "501"
    summary = import_vaults(lake, write(tmp_path / "mended", files))
    assert list(summary.reasons) == [f"contradicts a stored row with the same identity {tx(1)}:0:7:dai:debt"]
    assert [row["amount"] for row in _flows(lake) if row["block_number"] == 10] == [ETH * 5 // 2, 500 * DAI]


def _spaced(time: int) -> str:
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(time, UTC)
    return f"{moment:%Y-%m-%d} {moment.hour}:{moment:%M:%S}"


def test_a_file_in_another_time_zone_is_found_out(tmp_path: Path, lake: Lake) -> None:
    files = vaults()
    for row in files["deposits"]:
        row["BLOCK_TIMESTAMP"] = row["BLOCK_TIMESTAMP"].replace("Z", "-01:00")
    with pytest.raises(
        UserError,
        match=(
            r"deposits.csv: its times are 3600 seconds later than those of other files .* 3 blocks .*nothing was"
            r" imported"
        ),
    ):
        import_vaults(lake, write(tmp_path / "exports", files))
    assert lake.markets() == []


def test_a_file_whose_times_do_not_fit_between_the_others_is_found_out(tmp_path: Path, lake: Lake) -> None:
    files = vaults()
    import_vaults(lake, write(tmp_path / "exports", files))
    rows = [
        {**files["withdrawals"][0], "BLOCK_NUMBER": str(block), "TX_HASH": tx(500 + block)}
        for block in (20, 21, 22, 23)
    ]
    for number, row in enumerate(rows):
        row["BLOCK_TIMESTAMP"] = files["withdrawals"][1]["BLOCK_TIMESTAMP"].replace(":00Z", f":0{number}Z")
    with pytest.raises(UserError, match=r"withdrawals.csv: 100% of its times contradict those of other rows"):
        import_files(
            lake,
            load("maker-vaults"),
            sources={"withdrawals": [str(write(tmp_path / "late", {"withdrawals": rows}) / "withdrawals.csv")]},
        )


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (
            lambda text: text.replace("DAI_MINTED", "DAI_MINT"),
            "borrows.csv .* has no column 'DAI_MINTED'; did you mean 'DAI_MINT'",
        ),
        (
            lambda text: "\n".join(line.rpartition(",")[0] for line in text.splitlines()) + "\n",
            "borrows.csv .* has no column 'DAI_MINTED'",
        ),
        (lambda text: "", "borrows.csv is empty"),
    ],
)
def test_a_broken_file_leaves_the_lake_as_it_was(
    tmp_path: Path, lake: Lake, broken: Callable[[str], str], what: str
) -> None:
    folder = write(tmp_path / "exports", vaults())
    path = folder / "borrows.csv"
    path.write_text(broken(path.read_text()))
    with pytest.raises(UserError, match=what):
        import_vaults(lake, folder)
    assert (lake.markets(), Lake(lake.path).manifest.version) == ([], 1)


def test_a_file_that_is_cut_off_loses_its_last_row_only_and_says_so(tmp_path: Path, lake: Lake) -> None:
    folder = write(tmp_path / "exports", vaults())
    path = folder / "borrows.csv"
    path.write_text(path.read_text()[:-4])  # 250.25 became 250
    summary = import_vaults(lake, folder)
    assert (_counts(summary, "stored"), _counts(summary, "quarantined")) == (14, 1)
    assert "may be cut off" in next(iter(summary.reasons))


def test_another_ilk_is_another_market(tmp_path: Path, lake: Lake) -> None:
    folder = write(tmp_path / "exports", vaults())
    summary = import_vaults(lake, folder, parameters={"ilk": "ETH-A"}, market="maker-eth-a")
    assert _counts(summary, "quarantined") == 12  # all that name their collateral type
    with pytest.raises(UserError, match="market 'maker-eth-a' has ilk ETH-A, not ETH-B"):
        import_vaults(lake, folder, market="maker-eth-a")
    with pytest.raises(UserError, match="has no parameter 'ilc'; did you mean 'ilk'"):
        import_vaults(lake, folder, parameters={"ilc": "ETH-A"})


# -- facts without keys, blocks or times
# -----------------------------------------------------------------------------------------


T = 1_600_000_000


def _own(tmp_path: Path, lake: Lake, text: str, select: str = FLOWS, *, name: str = "rows.csv", more: str = "") -> Any:
    folder = tmp_path / "files"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    where = mapping(tmp_path / "own", {"flow": select}, more=more)
    return import_files(lake, load(str(where)), sources={"rows": [str(folder / name)]})


def _stored(lake: Lake, *names: str) -> Sequence[tuple[Any, ...]]:
    rows = lake.read("raw/import/Flow", "own")
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))


def test_identical_rows_without_a_key_are_kept_and_marked(tmp_path: Path, lake: Lake) -> None:
    summary = _own(tmp_path, lake, f"a,t\n1,{T}\n1,{T}\n2,{T}\n")
    assert (_counts(summary, "stored"), summary.ambiguous) == (3, 2)
    again = _own(tmp_path, lake, f"a,t\n1,{T}\n", name="rows2.csv")  # the row of another file is another row
    assert (_counts(again, "stored"), again.ambiguous) == (1, 3)
    assert not _own(tmp_path, lake, f"a,t\n1,{T}\n", name="rows3.csv").files[0].stored


def test_rows_with_a_time_only_are_placed_by_it(tmp_path: Path, lake: Lake) -> None:
    _own(tmp_path, lake, f"a,t\n1,{T}\n2,{T + 30}\n3,{T + 60}\n")
    assert _stored(lake, "block_number", "timestamp", "block_known") == [
        (T, T, False),
        (T + 30, T + 30, False),
        (T + 60, T + 60, False),
    ]
    with_blocks = FLOWS.replace("a AS amount", "a AS amount, b AS block")
    _own(tmp_path, lake, f"a,t,b\n4,{T},10\n5,{T + 60},20\n6,,20\n", with_blocks, name="rows2.csv")
    assert _stored(lake, "block_number", "timestamp", "block_known", "amount") == [
        (10, T, False, 10**18),
        (10, T, True, 4 * 10**18),
        (15, T + 30, False, 2 * 10**18),
        (20, T + 60, False, 3 * 10**18),
        (20, T + 60, True, 5 * 10**18),
        (20, T + 60, True, 6 * 10**18),
    ]
    reasons = _own(tmp_path, lake, "a,t,b\n7,,30\n8,,\n", with_blocks, name="rows3.csv").reasons
    assert sorted(reasons) == ["block 30 has no time here, and no other row tells of it", "neither block nor time"]


def test_a_time_between_neighbouring_blocks_has_no_place(tmp_path: Path, lake: Lake) -> None:
    with_blocks = FLOWS.replace("a AS amount", "a AS amount, nullif(b, '') AS block")
    summary = _own(tmp_path, lake, f"a,t,b\n1,{T},10\n2,{T + 12},11\n3,{T + 6},\n", with_blocks)
    assert list(summary.reasons) == [f"time {T + 6}: there is no block left between the known ones around it"]


def test_times_without_a_zone_are_taken_as_the_mapping_says(tmp_path: Path, lake: Lake) -> None:
    _own(tmp_path, lake, "a,t\n1,2020-07-01 12:00:00\n", more="timezone = 'Europe/Berlin'")
    assert _stored(lake, "timestamp") == [(1593597600,)]


def test_rounding_is_a_matter_of_the_mapping(tmp_path: Path, lake: Lake) -> None:
    dollars = FLOWS.replace("'eth'", "'usd'")
    assert list(_own(tmp_path, lake, f"a,t\n1.0000005,{T}\n", dollars).reasons) == [
        "amount: '1.0000005' has more than 6 decimals"
    ]
    allowed = "[rounding]\n'flow.amount' = { direction = 'half-up', reason = 'the export divides in floats' }"
    _own(tmp_path, lake, f"a,t\n1.0000005,{T + 1}\n", dollars, name="rows2.csv", more=allowed)
    assert _stored(lake, "amount") == [(1_000_001,)]


def test_a_row_that_no_select_takes_is_quarantined(tmp_path: Path, lake: Lake) -> None:
    summary = _own(tmp_path, lake, f"a,t\n1,{T}\n2,{T + 100}\n", f"{FLOWS} WHERE a <> '2'")
    assert dict(summary.reasons) == {"no SELECT of the mapping takes it": 1}
    aside = _own(
        tmp_path,
        lake,
        f"a,t\n1,{T}\n3,{T + 100}\n",
        FLOWS.replace("a AS amount", "a AS amount, CASE a WHEN '3' THEN 'a test' END AS aside"),
        name="r.csv",
    )
    assert (dict(aside.aside), aside.files[0].stored, aside.files[0].aside) == ({"a test": 1}, 1, 1)
