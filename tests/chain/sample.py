"""Records ``data/sample/lake``: two markets played on a local node with the real contracts, and fetched with the tool's
own fetcher.

    python -m tests.chain.sample            (make sample)

The recording is reproducible: the same packages give the same lake content (``Lake.digest``).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.reconstruct import reconstruct
from tests.chain.market import START, Version, run
from tests.chain.node import Node

SAMPLE = Path(__file__).parents[2] / "data/sample/lake"


@dataclass(frozen=True, slots=True)
class Recording:
    """One market of the sample."""

    market: str
    version: Version
    accounts: int
    calm: bool
    description: str


RECORDINGS = (
    Recording(
        market="sample-crash",
        version="3.6",
        accounts=320,
        calm=False,
        description="Aave V3.6 contracts on a local node, made-up accounts, ETH/USD of 2020-03-12 and 13 by the hour",
    ),
    Recording(
        market="sample-calm",
        version="3.6",
        accounts=120,
        calm=True,
        description="Aave V3.6 contracts on a local node, made-up accounts, flat made-up prices: nobody is liquidated",
    ),
)


def record(lake: Lake) -> None:
    """Both markets, in an empty lake."""
    for recording in RECORDINGS:
        print(f"recording {recording.market}: {recording.accounts} accounts on {recording.version}", file=sys.stderr)
        with Node(timestamp=START) as node:
            played = run(node, recording.version, accounts=recording.accounts, calm=recording.calm)
            config = msgspec.structs.replace(
                played.deployment.market_config(recording.market), description=recording.description
            )
            fetch(lake, config, Rpc(node.url), to_block=played.last_block, finality=0, headers="all")
        lake.refresh()
        reconstruct(lake, recording.market)
        lake.refresh()
    with lake.writer() as writer:
        writer.compact()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sample-") as folder:
        lake = Lake(Path(folder) / "lake", create=True)
        record(lake)
        publish(lake)
    size = sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file())
    print(f"{SAMPLE}: {size / 1e6:.1f} MB", file=sys.stderr)


def publish(lake: Lake) -> None:
    """Only what counts: the newest manifest and the files that it names."""
    shutil.rmtree(SAMPLE, ignore_errors=True)
    newest = max((lake.path / "manifest").glob("*.json"))
    for path in [newest, *(Path(file.path) for file in lake.files(None))]:
        copy = SAMPLE / path.relative_to(lake.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


if __name__ == "__main__":
    main()
