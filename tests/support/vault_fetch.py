"""A vault's logs, served and fetched."""

from __future__ import annotations

from pathlib import Path

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.reconstruct import reconstruct
from tests.support.maker_logs import (
    CALC,
    CAT,
    CLIP,
    CONFIG,
    DOG,
    FLIP,
    JUG,
    OSM,
    RAD,
    RAY,
    SPOTTER,
    VAT,
    WAD,
    Script,
)
from tests.support.synthetic import ChainNode

CHOP = 113 * WAD // 100


RATIO = 13 * RAY // 10


def script() -> Script:
    """Two liquidation systems: bob is bitten at 1,500, carol barked at 1,200. Rates step twice."""
    s = Script().at(1).init()
    s.file(VAT, "line", 10_000_000 * RAD).file(VAT, "dust", 500 * RAD).file(JUG, "duty", RAY + 10**18).file(
        SPOTTER, "mat", RATIO
    )
    s.use(SPOTTER, "pip", OSM).use(CAT, "flip", FLIP).file(CAT, "chop", CHOP).file(CAT, "dunk", 5_000 * RAD).file_all(
        CAT, "box", 1_000_000 * RAD
    )
    s.at(2).file(FLIP, "beg", 103 * WAD // 100).file(FLIP, "ttl", 3_600).file(FLIP, "tau", 7_200).price(
        2_000 * WAD, RATIO
    )
    s.at(10).frob("alice", 10 * WAD, 5_000 * WAD).frob("bob", 10 * WAD, 14_000 * WAD).frob(
        "carol", 10 * WAD, 3_000 * WAD
    )
    s.at(20).fold(10**24).frob("carol", 0, 5_000 * WAD).at(25).frob("alice", -WAD, -1_000 * WAD).fork(
        "alice", "dave", 2 * WAD, 1_000 * WAD
    )
    s.at(30).price(1_500 * WAD, RATIO)
    dart = 5_000 * RAD * WAD // s.rate // CHOP
    s.at(31).bite("bob", 10 * WAD * dart // (14_000 * WAD), dart, CHOP)
    s.at(40).use(DOG, "clip", CLIP).file(DOG, "chop", CHOP).file(DOG, "hole", 2_000_000 * RAD).file_all(
        DOG, "Hole", 100_000_000 * RAD
    )
    s.use(CLIP, "calc", CALC).at(41).file(CLIP, "buf", 12 * RAY // 10).file(CLIP, "tail", 8_400).file(
        CLIP, "cusp", 4 * RAY // 10
    )
    s.file(CLIP, "chip", WAD // 1000).file(CLIP, "tip", 300 * RAD).file(CALC, "cut", 99 * RAY // 100).file(
        CALC, "step", 90
    )
    s.at(50).fold(2 * 10**24).price(1_020 * WAD, RATIO)
    return s.at(51).bark("carol", 10 * WAD, 8_000 * WAD, CHOP, "keeper").at(60).price(1_000 * WAD, RATIO)


def fetched(made: Script, path: Path) -> Lake:
    """The script's chain, fetched and reconstructed."""
    lake = Lake(path / "lake", create=True)
    with ChainNode(made.chain()) as node, Rpc(node.url, backoff=0.001, max_backoff=0.02) as rpc:
        fetch(lake, CONFIG, rpc, finality=0)
    reconstruct(lake, CONFIG.name)
    lake.refresh()
    return lake
