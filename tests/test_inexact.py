"""Which prices are not exact, and why, as ``backtest info`` says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backtest import tables
from backtest.cli import main
from backtest.inexact import BUSY, GAP, OLD_STATE, PROXY, RATIO, UNKNOWN, doubts
from backtest.lake import Lake
from backtest.reconstruct import stamp
from tests.support.lake_tables import CONFIG, MARKET, account, canonical, table

FEED, MOVED, STAKED, VAULT, CAPPED = (account(number) for number in range(1, 6))
KINDS = {
    FEED: ("feed", {"proxy": True}),
    MOVED: ("feed", {"proxy": True}),
    STAKED: ("capped-ratio", {"feed": FEED, "ratio_decimals": 18, "scaled": False}),
    VAULT: ("sampled", {"feeds": [FEED], "reason": "reads the exchange rate of a vault"}),
    CAPPED: ("capped-feed", {"feed": MOVED}),
}
CASES = [
    (FEED, "feed", True, 1, None),
    (FEED, "feed", False, 1, BUSY),
    (MOVED, "feed", False, 1, OLD_STATE),
    (CAPPED, "formula", False, 1, OLD_STATE),
    (STAKED, "formula", False, 1, RATIO),
    (STAKED, "read", False, 1, UNKNOWN),
    (FEED, "read", False, None, UNKNOWN),
    (VAULT, "read", True, 1, None),
    (VAULT, "read", False, 1, "read about once an hour, not computed: reads the exchange rate of a vault"),
    (None, "proxy", True, 1, PROXY),
    (None, "proxy-gap", False, 1, GAP),
]


def _lake(path: Path, cases: list[tuple[str | None, str, bool, int | None, str | None]]) -> Lake:
    """One asset a case, each with two exact prices by a feed and then the case's."""
    lake = Lake(path, create=True)
    address = [bytes.fromhex(one[2:]) for one in (FEED, MOVED)]
    phases = [
        {"address": proxy, "phase": 1, "aggregator": bytes(20), "from_block": 1, "exact": exact}
        for proxy, exact in zip(address, (True, False), strict=True)
    ]
    sources = [
        {
            "address": bytes.fromhex(source[2:]),
            "kind": kind,
            "description": "",
            "decimals": 8,
            "parameters": json.dumps(own),
        }
        for source, (kind, own) in KINDS.items()
    ]
    fixed = {"source": FEED, "method": "feed", "exact": True, "price": 1}
    prices: list[dict[str, Any]] = []
    for asset, (source, method, exact, price, _) in enumerate(cases):
        own = {"source": source, "method": method, "exact": exact, "price": price}
        prices += [{"asset_id": asset, "block_number": block, **row} for block, row in enumerate((fixed, fixed, own))]
    prices.sort(key=lambda row: row["block_number"])
    data: dict[str, list[dict[str, Any]]] = {name: [] for name in tables.CANONICAL}
    data["prices"] = [row | {"seq": seq} for seq, row in enumerate(prices)]
    data["assets"] = [
        {"asset_id": asset, "asset": account(100 + asset), "symbol": f"A{asset}", "decimals": 18}
        for asset in range(len(cases))
    ]
    with lake.writer() as writer:
        writer.set_market(CONFIG)
        for name, rows in (("Source", sources), ("Phase", phases)):
            writer.append(MARKET, f"raw/oracle/{name}", table(tables.RAW_STATE[f"raw/oracle/{name}"], rows))
        lake.refresh()
        writer.replace(MARKET, "canonical/", iter(canonical(data).items()), stamp=stamp(lake, MARKET))
    lake.refresh()
    return lake


def test_every_reason_is_named_with_its_count(tmp_path: Path) -> None:
    found = doubts(_lake(tmp_path / "lake", CASES), MARKET)
    expected = [(f"A{at}", 1, 3, case[-1]) for at, case in enumerate(CASES) if case[-1] is not None]
    assert [(one.asset, one.steps, one.total, one.why) for one in found] == expected


def _info(lake: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(["info", "--lake", str(lake)])
    assert not end.value.code
    return " ".join(capsys.readouterr().out.split())


def test_info_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _lake(tmp_path / "some", CASES)
    said = _info(tmp_path / "some", capsys)
    assert "prices not exact steps of why" in said
    assert "A2 1 3 the node had no old state" in said
    assert "all prices are exact" not in said
    _lake(tmp_path / "none", [case for case in CASES if case[-1] is None])
    assert "all prices are exact" in _info(tmp_path / "none", capsys)
