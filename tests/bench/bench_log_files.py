"""Logs of files to a committed raw dataset, on one core: Parquet, CSV and JSON lines, as cryo and ethereum-etl write
them.

Seconds are those of the processor, so that neighbours on the machine do not count. Bounds: 200,000 logs/s of Parquet,
80,000 of CSV and JSON.
``python -m tests.bench.bench_log_files`` prints the rows; ``make bench`` collects ``run()``.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from backtest.fetch.decode import topic0
from backtest.lake import Lake
from backtest.log_files.gather import gather
from backtest.log_files.reading import files_in
from backtest.log_files.source import FileLogs
from backtest.log_files.spool import temporary
from backtest.markets import MarketConfig
from backtest.model import EventSpec

LOGS = 1_000_000
PER_BLOCK = 50
FILES = 10
MINT = EventSpec(
    "Mint",
    "Mint(address indexed caller, address indexed onBehalfOf, uint256 value, uint256 balanceIncrease, uint256 index)",
    "token",
)
TOKEN = bytes.fromhex("ab" * 20)
SHAPE = f"{LOGS:,} Mint logs, {PER_BLOCK} a block, {FILES} files, one core"


def _columns(first: int, count: int) -> dict[str, Any]:
    """``count`` logs from number ``first`` on, as cryo's columns."""
    draw = random.Random(first)
    numbers = range(first, first + count)
    users = [draw.randbytes(20).rjust(32, b"\0") for _ in range(5_000)]
    return {
        "block_number": pa.array([1 + number // PER_BLOCK for number in numbers], pa.uint32()),
        "transaction_index": pa.array([number % PER_BLOCK // 3 for number in numbers], pa.uint32()),
        "log_index": pa.array([number % PER_BLOCK for number in numbers], pa.uint32()),
        "transaction_hash": pa.array([(number // 3).to_bytes(32, "big") for number in numbers], pa.large_binary()),
        "address": pa.array([TOKEN] * count, pa.large_binary()),
        "topic0": pa.array([bytes.fromhex(topic0(MINT)[2:])] * count, pa.large_binary()),
        "topic1": pa.array([draw.choice(users) for _ in numbers], pa.large_binary()),
        "topic2": pa.array([draw.choice(users) for _ in numbers], pa.large_binary()),
        "topic3": pa.nulls(count, pa.large_binary()),
        "data": pa.array(
            [
                draw.getrandbits(80).to_bytes(32, "big")
                + draw.getrandbits(60).to_bytes(32, "big")
                + (10**27 + draw.getrandbits(88)).to_bytes(32, "big")
                for _ in numbers
            ],
            pa.large_binary(),
        ),
        "chain_id": pa.array([1] * count, pa.uint64()),
    }


def write(folder: Path) -> dict[str, Path]:
    """The same logs in each form: form to its folder."""
    made = {form: folder / form for form in ("Parquet", "CSV", "JSON")}
    for path in made.values():
        path.mkdir()
    count = LOGS // FILES
    for number in range(FILES):
        columns = _columns(number * count, count)
        pq.write_table(pa.table(columns), made["Parquet"] / f"logs-{number:02d}.parquet")
        names = ("log_index", "transaction_hash", "transaction_index", "block_number", "address", "data", "topics")
        rows = [
            (log, "0x" + hash_.hex(), transaction, block, "0x" + address.hex(), "0x" + data.hex(), topics)
            for log, hash_, transaction, block, address, data, *topics in zip(
                *(
                    columns[name].to_pylist()
                    for name in (
                        "log_index",
                        "transaction_hash",
                        "transaction_index",
                        "block_number",
                        "address",
                        "data",
                    )
                ),
                *(columns[f"topic{place}"].to_pylist() for place in range(3)),
                strict=True,
            )
        ]
        with open(made["CSV"] / f"logs-{number:02d}.csv", "w") as file:
            file.write(",".join(names) + "\n")
            for row in rows:
                topics = ",".join("0x" + topic.hex() for topic in row[-1])
                file.write(",".join(map(str, row[:-1])) + f',"{topics}"\n')
        with open(made["JSON"] / f"logs-{number:02d}.json", "w") as file:
            for row in rows:
                own = ", ".join(
                    f'"{name}": {value}' if isinstance(value, int) else f'"{name}": "{value}"'
                    for name, value in zip(names[:-1], row[:-1], strict=True)
                )
                topics = ", ".join(f'"0x{topic.hex()}"' for topic in row[-1])
                file.write(f'{{{own}, "topics": [{topics}]}}\n')
    return made


def load(path: Path, folder: Path) -> int:
    """Files to a committed dataset; rows."""
    shutil.rmtree(folder, ignore_errors=True)
    lake = Lake(folder, create=True)
    config = MarketConfig(name="bench", protocol="x", chain_id=1, start_block=1, contracts={})
    last = LOGS // PER_BLOCK
    with temporary() as place, lake.writer() as writer, writer.one_commit():
        gathered = gather(files_in([path]), [bytes.fromhex(topic0(MINT)[2:])], Path(place), chain_id=1)
        writer.set_market(config)
        logs = FileLogs(lake, writer, config, gathered, (1, last))
        return logs.fetch("x", [MINT], {"token": ["0x" + TOKEN.hex()]}, 1, last)


def run() -> list[dict[str, Any]]:
    held = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(held)})
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    try:
        out = []
        with tempfile.TemporaryDirectory() as temporary_:
            folder = Path(temporary_)
            forms = write(folder)
            load(forms["Parquet"], folder / "warm")
            for form, bound in (("Parquet", 200_000.0), ("CSV", 80_000.0), ("JSON", 80_000.0)):
                seconds = []
                for _ in range(3):
                    started = time.process_time()
                    assert load(forms[form], folder / "lake") == LOGS
                    seconds.append(time.process_time() - started)
                rate = LOGS / min(seconds)
                out.append(
                    {
                        "name": f"import logs: {form} to raw dataset",
                        "value": rate,
                        "unit": "logs/s of one core",
                        "baseline": bound,
                        "ratio": rate / bound,
                        "shape": SHAPE,
                    }
                )
        return out
    finally:
        os.sched_setaffinity(0, held)


if __name__ == "__main__":
    for figure in run():
        print(figure)
