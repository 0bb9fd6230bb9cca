"""Records ``data/sample``: markets played on a local node with the real contracts, and fetched with the tool's own
fetcher. Two in ``lake``; in ``may-2021`` another crash with other people, on which nothing is fitted.

    python -m tests.chain.sample            (make sample)

The recording is reproducible: the same packages give the same lake content (``Lake.digest``).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.reconstruct import reconstruct
from tests.chain.market import DAY, Version, run
from tests.chain.node import Node
from tests.chain.path import MARCH, MAY, Fall

SAMPLE = Path(__file__).parents[2] / "data/sample"


@dataclass(frozen=True, slots=True)
class Recording:
    """One market of the sample."""

    market: str
    version: Version
    accounts: int
    description: str
    seed: int = 1
    calm: bool = False
    fall: Fall = MARCH


RECORDINGS = {
    "lake": (
        Recording(
            market="sample-crash",
            version="3.6",
            accounts=320,
            description="Aave V3.6 contracts on a local node, made-up accounts,"
            " ETH/USD of 2020-03-12 and 13 by the hour",
        ),
        Recording(
            market="sample-calm",
            version="3.6",
            accounts=120,
            description="Aave V3.6 contracts on a local node, made-up accounts,"
            " flat made-up prices: nobody is liquidated",
            calm=True,
        ),
    ),
    "may-2021": (
        Recording(
            market="sample-crash-2021",
            version="3.6",
            accounts=320,
            seed=2,
            fall=MAY,
            description="Aave V3.6 contracts on a local node, made-up accounts, ETH/USD of 2021-05-19 by ten minutes",
        ),
    ),
}


def record(lake: Lake, recordings: Sequence[Recording]) -> None:
    """These markets, in an empty lake."""
    for recording in recordings:
        print(f"recording {recording.market}: {recording.accounts} accounts on {recording.version}", file=sys.stderr)
        with Node(timestamp=recording.fall.midnight - 7 * DAY) as node:
            played = run(
                node,
                recording.version,
                accounts=recording.accounts,
                seed=recording.seed,
                calm=recording.calm,
                fall=recording.fall,
            )
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
    parser = ArgumentParser(description="Record the bundled lakes anew.")
    parser.add_argument("names", nargs="*", default=list(RECORDINGS), help="lakes; all without it")
    for name in parser.parse_args().names:
        with tempfile.TemporaryDirectory(prefix="sample-") as folder:
            lake = Lake(Path(folder) / "lake", create=True)
            record(lake, RECORDINGS[name])
            publish(lake, SAMPLE / name)
    size = sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file())
    print(f"{SAMPLE}: {size / 1e6:.1f} MB", file=sys.stderr)


def publish(lake: Lake, target: Path) -> None:
    """Only what counts: the newest manifest and the files that it names."""
    shutil.rmtree(target, ignore_errors=True)
    newest = max((lake.path / "manifest").glob("*.json"))
    for path in [newest, *(Path(file.path) for file in lake.files(None))]:
        copy = target / path.relative_to(lake.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


if __name__ == "__main__":
    main()
