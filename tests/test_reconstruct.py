"""Raw datasets of a lake to its canonical tables: places, determinism, prices between logs, refusals, the verb."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import backtest.reconstruct as module
from backtest.cli import main
from backtest.errors import LakeError, RulesError, UserError
from backtest.lake import Lake
from backtest.prices.fold import PRICES
from backtest.reconstruct import is_current, prefetched, reconstruct
from backtest.tables import CANONICAL, QUARANTINE, RAW_STATE
from tests.support.aave_logs import RAY, Logs, a_token, address, asset, debt_token, time_of


def history() -> Logs:
    """A dozen blocks: listings, supplies, a borrow, transfers, flags, an upgrade; two transactions in some blocks."""
    logs = Logs()
    logs.open()
    logs.tx()
    logs.list_asset("WETH")
    logs.list_asset("USDC", 6)
    for number in range(8):
        logs.tx()
        for who in ("alice", "bob"):
            index = RAY + number * 10**24
            logs.log("ReserveDataUpdated", reserve=asset("WETH"), liquidity_index=index, variable_borrow_index=index)
            logs.log(
                "Mint", at=a_token("WETH"), caller=who, on_behalf_of=f"{who} {number % 3}", value=10**20, index=index
            )
            logs.log("Supply", reserve=asset("WETH"), user=who, on_behalf_of=f"{who} {number % 3}", amount=10**20)
            logs.tx(same_block=True)
        logs.log(
            "BalanceTransfer", at=a_token("WETH"), **{"from": f"bob {number % 3}"}, to="carol", value=10**19, index=RAY
        )
        logs.log("Mint", at=debt_token("USDC"), caller="carol", on_behalf_of="carol", value=10**8, index=RAY)
        logs.log("Borrow", reserve=asset("USDC"), user="carol", on_behalf_of="carol", amount=10**8)
    logs.tx()
    logs.upgrade_pool(2)
    logs.log("ReservePaused", asset=asset("USDC"), paused=True)
    return logs


def written(path: Path, logs: Logs, ranges: Any = None) -> Lake:
    lake = Lake(path, create=True)
    logs.write(lake, ranges)
    return lake


def canonical(lake: Lake) -> dict[str, list[str]]:
    """SHA-256 of every canonical file, by table."""
    return {name: [file.sha256 for file in lake.files(f"canonical/{name}", "test")] for name in CANONICAL}


def rows(lake: Lake, table: str) -> list[dict[str, Any]]:
    return lake.read(f"canonical/{table}", "test").to_pylist()


def test_every_log_has_its_place(tmp_path: Path) -> None:
    logs = history()
    lake = written(tmp_path / "lake", logs)
    seen: list[tuple[int, int]] = []
    summary = reconstruct(lake, "test", progress=lambda done, total: seen.append((done, total)))
    events = rows(lake, "events")
    assert [row["seq"] for row in events] == list(range(len(logs.rows)))
    assert [row["event"] for row in events] == [f"aave-v3/{event}" for event, _ in logs.rows]
    assert [(row["block_number"], row["log_index"]) for row in events] == [
        (row["block_number"], row["log_index"]) for _, row in logs.rows
    ]
    assert {row["timestamp"] - time_of(row["block_number"]) for row in events} == {0}
    assert rows(lake, "blocks")[0] == {"market": "test", "block_number": 1, "timestamp": time_of(1), "base_fee": 7}
    assert summary.rows["events"] == len(logs.rows)
    assert summary.rows["position_events"] == 2 * 8 + 3 * 8
    assert (summary.from_block, summary.to_block) == (1, logs.block)
    assert seen[-1] == (len(logs.rows), len(logs.rows))
    places = {
        row["seq"] for name in ("position_events", "setting_events", "indexes", "params") for row in rows(lake, name)
    }
    assert places <= set(range(len(logs.rows)))


@pytest.mark.slow
@pytest.mark.parametrize("segment", [5, 40, 1 << 20])
def test_same_raw_data_same_bytes(tmp_path: Path, segment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the raw rows were cut and in whatever order gaps were filled; and again from the same lake."""
    monkeypatch.setattr(module, "SEGMENT_ROWS", segment)
    monkeypatch.setattr("backtest.protocols.aave_v3.fold.SEGMENT_ROWS", segment)
    logs = history()
    last = logs.block
    cuts = [None, [(1, 4), (5, 6), (7, last)], [(6, last), (1, 2), (3, 5)]]
    found = []
    for number, ranges in enumerate(cuts):
        lake = written(tmp_path / str(number), logs, ranges)
        reconstruct(lake, "test")
        found.append(canonical(lake))
    with lake.writer() as writer:
        writer.compact()
    reconstruct(lake, "test")
    assert canonical(lake) == found[0] == found[1] == found[2]


def test_segments_do_not_change_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = written(tmp_path / "lake", history())
    reconstruct(lake, "test")
    whole = {name: rows(lake, name) for name in CANONICAL}
    monkeypatch.setattr("backtest.protocols.aave_v3.fold.SEGMENT_ROWS", 1)
    reconstruct(lake, "test")
    assert {name: rows(lake, name) for name in CANONICAL} == whole


def test_current_until_the_raw_data_change(tmp_path: Path) -> None:
    logs = history()
    lake = written(tmp_path / "lake", logs)
    assert not is_current(lake, "test")
    reconstruct(lake, "test")
    assert is_current(lake, "test")
    block = logs.block + 1
    with lake.writer() as writer:
        writer.commit(
            "test",
            {"raw/chain/Header": logs.headers(block, block)},
            from_block=block,
            to_block=block,
            covers={"aave-v3": (block, block)},
        )
    assert not is_current(lake, "test")
    reconstruct(lake, "test")
    assert is_current(lake, "test")


@pytest.mark.parametrize(
    ("ranges", "missing"),
    [([(3, 9)], (1, 2)), ([(1, 4), (7, 9)], (5, 6))],
)
def test_a_gap_names_the_blocks_and_the_command(
    tmp_path: Path, ranges: list[tuple[int, int]], missing: tuple[int, int]
) -> None:
    lake = written(tmp_path / "lake", history(), ranges)
    first, last = missing
    with pytest.raises(UserError, match=rf"lacks blocks {first} to {last} of aave-v3") as caught:
        reconstruct(lake, "test")
    assert (
        f"backtest fetch aave-v3 --market test --from-block {first} --to-block {last} --lake {lake.path}"
        in caught.value.fix
    )
    assert not any(canonical(lake).values())


def test_a_source_that_ends_early_is_a_gap(tmp_path: Path) -> None:
    logs = history()
    lake = written(tmp_path / "lake", logs)
    with lake.writer() as writer:
        writer.commit("test", {}, from_block=1, to_block=4, covers={"oracle": (1, 4)})
    with pytest.raises(UserError, match=rf"lacks blocks 5 to {logs.block} of oracle"):
        reconstruct(lake, "test")


def test_a_log_held_twice(tmp_path: Path) -> None:
    logs = history()
    lake = written(tmp_path / "lake", logs)
    again = {f"raw/aave-v3/{event}": table for event, table in logs.tables(logs.rows[-1:]).items()}
    with lake.writer() as writer:
        writer.commit("test", again, from_block=logs.block, to_block=logs.block)
    with pytest.raises(LakeError, match=rf"holds log {logs.index} of block {logs.block} twice"):
        reconstruct(lake, "test")


def test_a_missing_header(tmp_path: Path) -> None:
    logs = history()
    logs.headers = lambda first=0, last=None: Logs.headers(logs, 1, 5)  # type: ignore[method-assign]
    lake = written(tmp_path / "lake", logs)
    with pytest.raises(UserError, match="no header of block 6"):
        reconstruct(lake, "test")


def test_a_failed_fold_changes_nothing(tmp_path: Path) -> None:
    logs = history()
    lake = written(tmp_path / "lake", logs)
    reconstruct(lake, "test")
    before = canonical(lake)
    row = {
        "block_number": 3,
        "transaction_index": 0,
        "log_index": 99,
        "transaction_hash": bytes(32),
        "address": bytes(20),
    }
    bad = pa.Table.from_pylist([{**row, "event": "Burn", "reason": "short", "topics": [], "data": b""}], QUARANTINE)
    with lake.writer() as writer:
        writer.commit("test", {"raw/aave-v3/Quarantine": bad}, from_block=3, to_block=3)
    with pytest.raises(RulesError, match="block 3, log 99"):
        reconstruct(lake, "test")
    lake.refresh()
    assert canonical(lake) == before
    assert not is_current(lake, "test")


def test_prices_between_logs_have_places_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = history()
    lake = written(tmp_path / "lake", logs)
    place = next(row for event, row in logs.rows if event == "Mint" and row["block_number"] == 4)
    steps = [
        (4, -1, 1, asset("USDC"), 100),
        (4, -1, 1, asset("WETH"), 200),
        (4, place["log_index"], 0, asset("WETH"), 201),
        (6, -1, 1, asset("WETH"), None),
        (7, -1, 1, address("unlisted"), 5),
        (99, -1, 1, asset("WETH"), 7),  # after everything
    ]
    body = [
        {
            "block_number": block,
            "log_index": log,
            "order": order,
            "asset": of,
            "price": price,
            "source": None,
            "method": "feed",
            "exact": True,
        }
        for block, log, order, of, price in steps
    ]
    given: dict[str, Any] = {}

    def fold_prices(config: Any, raw: Any, sources: Any, blocks: Any, *, liquidation_blocks: Any) -> pa.Table:
        given.update(sources=sources, blocks=blocks)
        return pa.Table.from_pylist(body, PRICES).replace_schema_metadata({"mismatches": "2"})

    monkeypatch.setattr(module, "fold_prices", fold_prices)
    summary = reconstruct(lake, "test")
    events, prices = rows(lake, "events"), rows(lake, "prices")
    first = {block: min(row["seq"] for row in events if row["block_number"] == block) for block in (4, 6, 7)}
    mint = next(row["seq"] for row in events if row["block_number"] == 4 and row["log_index"] == place["log_index"])
    assert [(row["seq"], row["asset_id"], row["price"]) for row in prices] == [
        (first[4] - 1, 1, 100),
        (first[4] - 1, 0, 200),
        (mint, 0, 201),
        (first[6] - 1, 0, None),
    ]
    assert prices[0]["timestamp"] == time_of(4)
    taken = sorted({row["seq"] for row in events} | {row["seq"] for row in prices} | {first[7] - 1})
    assert taken == list(range(len(logs.rows) + 3))
    assert given["blocks"] == {block: time_of(block) for block in range(1, logs.block + 1)}
    assert given["sources"] == []
    assert summary.notes == (
        "oracle reads that overruled a price rule: 2",
        "assets with prices that are not listed, left out: 1",
    )


def test_a_step_in_a_block_without_header_holds_from_the_next_known_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = history()
    keep = logs.headers().filter([row != 6 for row in range(1, logs.block + 1)])
    logs.rows = [(event, row) for event, row in logs.rows if row["block_number"] != 6]
    logs.headers = lambda first=0, last=None: keep  # type: ignore[method-assign]
    lake = written(tmp_path / "lake", logs)
    body = [
        {
            "block_number": block,
            "log_index": -1,
            "order": 1,
            "asset": asset("WETH"),
            "price": price,
            "source": None,
            "method": "read",
            "exact": True,
        }
        for block, price in ((6, 1), (7, 2))
    ]
    monkeypatch.setattr(module, "fold_prices", lambda *_, **__: pa.Table.from_pylist(body, PRICES))
    reconstruct(lake, "test")
    assert [(row["block_number"], row["price"]) for row in rows(lake, "prices")] == [(7, 2)]


def test_prices_by_the_real_fold(tmp_path: Path) -> None:
    """A fixed source set for an asset: its price holds from that log on."""
    logs = history()
    logs.tx()
    set_at = logs.log("AssetSourceUpdated", asset=asset("WETH"), source=address("fixed"))
    lake = written(tmp_path / "lake", logs)
    source = {
        "address": bytes.fromhex(address("fixed")[2:]),
        "kind": "fixed",
        "description": "",
        "decimals": 8,
        "parameters": '{"constant": 100000000}',
    }
    with lake.writer() as writer:
        writer.commit(
            "test",
            {"raw/oracle/Source": pa.Table.from_pylist([source], RAW_STATE["raw/oracle/Source"])},
            from_block=1,
            to_block=1,
        )
    reconstruct(lake, "test")
    assert [(row["seq"], row["asset_id"], row["price"], row["method"]) for row in rows(lake, "prices")] == [
        (set_at, 0, 100000000, "fixed")
    ]


def test_prefetching_keeps_order_and_raises_errors_where_they_are_read() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise KeyError("late")

    read = prefetched(items(), depth=2)
    assert list(itertools.islice(read, 5)) == list(range(5))
    with pytest.raises(KeyError, match="late"):
        next(read)
    assert list(prefetched([])) == []


def test_ahead_stops_its_thread_with_the_reader() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            made.append(number)
            yield number

    read = prefetched(items(), depth=1)
    assert next(read) == 0
    read.close()
    count = len(made)
    assert count < 5
    assert len(made) == count


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = written(tmp_path / "lake", history())
    command = ["reconstruct", "--lake", str(lake.path)]
    for expected in ("test: blocks 1 to 11: 4 accounts", "test: up to date"):
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert caught.value.code == 0
        assert expected.split(":")[1] in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main([*command, "--market", "tset"])
    assert caught.value.code == 2
    assert "there is no market 'tset'" in capsys.readouterr().err
