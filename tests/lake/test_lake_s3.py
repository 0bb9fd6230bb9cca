"""A lake on an S3 server: created, written, read, asked, replayed; one winner of two writers; copies; errors in one
line.
"""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backtest.cli import main
from backtest.errors import LakeError
from backtest.lake import Lake, bucket, checks
from backtest.lake import manifest as m
from backtest.lake.storage import open_storage
from backtest.resources import resource
from backtest.results import run
from backtest.scenario import Competitive, Scenario
from tests.support.bucket_lakes import address, copied_sample, server
from tests.support.lake_tables import CONFIG, MARKET, supplies

__all__ = ["address", "server"]  # fixtures

EVENT = "raw/aave-v3/Supply"
CRASH = "sample-crash"


def filled(address: str) -> Lake:
    lake = Lake(address, create=True)
    with lake.writer() as writer:
        writer.set_market(CONFIG)
        writer.commit(MARKET, {EVENT: supplies([9, 3, 5])}, from_block=1, to_block=10, covers={"pool": (1, 10)})
        writer.commit(MARKET, {EVENT: supplies([12, 20])}, from_block=11, to_block=20, covers={"pool": (11, 20)})
    return lake


def test_a_lake_in_a_bucket_is_made_written_read_and_asked(address: str) -> None:
    with pytest.raises(LakeError, match="there is no lake at s3://"):
        Lake(address)
    lake = filled(address)
    again = Lake(Path(address))  # as the command line reads it: pathlib folds the two slashes
    assert str(again.path) == address
    assert again.read(EVENT, MARKET, columns=["block_number"])["block_number"].to_pylist() == [3, 5, 9, 12, 20]
    assert again.sql("SELECT sum(amount) FROM raw.aave_v3_Supply").fetchall() == [(7 + 8 + 9 + 7 + 8,)]
    assert again.digest(MARKET) == lake.digest(MARKET)
    assert all(finding.passed for finding in checks.run(again) if finding.check in ("files", "content", "coverage"))
    with again.writer() as writer:
        assert writer.compact() == 1
    assert Lake(address).digest(MARKET) == lake.digest(MARKET)


def test_of_two_writers_one_wins_and_the_other_is_told(address: str) -> None:
    filled(address)
    one, other = Lake(address), Lake(address)
    with one.writer() as first, other.writer() as second:
        first.commit(MARKET, {EVENT: supplies([25])}, from_block=21, to_block=30)
        with pytest.raises(LakeError, match=r"another writer published version 5 of s3://.*; run again"):
            second.commit(MARKET, {EVENT: supplies([26])}, from_block=21, to_block=30)
    assert Lake(address).read(EVENT, MARKET)["block_number"].to_pylist()[-1] == 25


def test_of_many_conditional_puts_at_once_exactly_one_succeeds(address: str) -> None:
    stores = [open_storage(address) for _ in range(8)]
    ready = threading.Barrier(len(stores))

    def put(i: int) -> bool:
        ready.wait()
        return stores[i].put_if_absent("manifest/00000001.json", str(i).encode())

    with ThreadPoolExecutor(len(stores)) as pool:
        won = list(pool.map(put, range(len(stores))))
    assert won.count(True) == 1
    assert stores[0].read("manifest/00000001.json") == str(won.index(True)).encode()


def test_a_writer_that_fell_far_behind_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bucket.Bucket, "grace", 0
    )  # old manifests go at once, so that the late writer's number is free again
    late = filled(address)
    with late.writer() as behind:
        for block in range(21, 23 + m.KEEP_VERSIONS):
            with Lake(address).writer() as writer:
                writer.commit(MARKET, {EVENT: supplies([block])}, from_block=block, to_block=block)
        assert late.manifest.version + 1 < m.versions(late.storage)[0]
        with pytest.raises(LakeError, match="another writer published"):
            behind.commit(MARKET, {EVENT: supplies([90])}, from_block=90, to_block=90)


def test_what_another_writer_is_about_to_publish_is_no_garbage_yet(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = filled(address)
    lake.storage.put("data/toy/orphan.parquet", b"not published yet")
    with lake.writer() as writer:
        writer.collect_garbage()
    assert "data/toy/orphan.parquet" in lake.storage.list("data")
    monkeypatch.setattr(bucket.Bucket, "grace", 0)
    with lake.writer() as writer:
        writer.collect_garbage()
    assert "data/toy/orphan.parquet" not in lake.storage.list("data")


def test_copies_are_made_once_and_may_be_deleted(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(address)
    copied: list[str] = []
    plain = bucket.Bucket.read
    monkeypatch.setattr(bucket.Bucket, "read", lambda self, key: (copied.append(key), plain(self, key))[1])
    for _ in range(2):
        assert Lake(address).read(EVENT, MARKET).num_rows == 5
    assert len([key for key in copied if key.endswith(".parquet")]) == 2
    shutil.rmtree(tmp_path / "cache")
    assert Lake(address).read(EVENT, MARKET).num_rows == 5


def test_damage_in_the_bucket_is_found_though_a_copy_is_whole(address: str) -> None:
    lake = filled(address)
    lake.read(EVENT, MARKET)
    lake.storage.put(lake.manifest.markets[MARKET].files[0].path, b"damaged")
    (files,) = (finding for finding in checks.run(lake) if finding.check == "files")
    assert files.violations == 1


def test_mistakes_are_one_line(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["info", "--lake", "s3://no-such-bucket/lake"])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "cannot list s3://no-such-bucket/lake" in err
    lake = filled(address)
    lake.storage.delete(lake.manifest.markets[MARKET].files[0].path)
    with pytest.raises(LakeError, match=r"s3://.* is gone; the lake was compacted"):
        lake.read(EVENT, MARKET)
    lake.storage.put("strange/thing", b"x")
    with pytest.raises(LakeError, match=r"some is not a lake and not empty \('lake/"):
        Lake(address.rsplit("/", 1)[0], create=True)


@pytest.mark.slow
def test_a_replay_on_s3_equals_the_local_one(address: str, tmp_path: Path) -> None:
    scenario = Scenario(name="baseline", liquidators=Competitive())
    shutil.copytree(resource("sample") / "lake", tmp_path / "lake")
    here = run(Lake(tmp_path / "lake"), CRASH, scenario)
    there = run(copied_sample(address), CRASH, scenario)
    assert (there.replayed, there.run_id) == (True, here.run_id)
    assert all(there.tables[name].equals(table) for name, table in here.tables.items())
    stored = run(Lake(address), CRASH, scenario)
    assert not stored.replayed
    assert stored.tables["run_liquidations"].equals(here.tables["run_liquidations"])
