"""A made-up Maker history whose oracle is known to the test and to nobody else: vaults, keepers and owners act by the
true price, and a lake gets their flows, their liquidations and a venue's candles.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from backtest.imports import import_files, load
from backtest.lake import Lake
from backtest.protocols.maker.rules import spot_down
from backtest.protocols.vaults.rules import is_unsafe
from backtest.reconstruct import reconstruct
from backtest.units import RAY, WAD

HOUR, START = 3600, 1_600_000_000 // 3600 * 3600
RATIO = 13 * RAY // 10
KEEPERS = 500
"""Seconds within which keepers come after a step."""
MAPPING = """
description = "a made-up history"
[market]
name = "made-up"
protocol = "maker"
chain_id = 1
base_decimals = 18
[assets]
eth = 18
dai = 18
[sources.flows]
files = "flows.csv"
columns = ["block", "time", "who", "asset", "what", "amount"]
[sources.bites]
files = "bites.csv"
columns = ["block", "time", "who", "art", "ink"]
[sources.settings]
files = "settings.csv"
columns = ["block", "time", "name", "value"]
[sources.candles]
files = "candles.csv"
columns = ["time", "open", "low", "high"]
"""
SELECTS = {
    "flow": """
        SELECT source_row, who AS account, asset, what AS action, amount AS amount_native, block, time AS timestamp,
            block AS log_index
        FROM flows
    """,
    "liquidation": """
        SELECT source_row, who AS account, 'dai' AS debt_asset, 'eth' AS collateral_asset, art AS debt_scaled_native,
            art AS repaid_native, ink AS seized_native, block, time AS timestamp, block AS log_index
        FROM bites
    """,
    "parameter": "SELECT source_row, name, value, block, time AS timestamp, block AS log_index FROM settings",
    "price": """
        SELECT source_row, 'eth' AS asset, 'market' AS kind, open AS price, low, high, '3600' AS period,
            time AS timestamp
        FROM candles
    """,
}


@dataclass
class Script:
    """What happened. ``truth``: the oracle's price in force from each full hour on."""

    rows: dict[str, list[dict[str, object]]] = field(
        default_factory=lambda: {"flows": [], "bites": [], "settings": [], "candles": []}
    )
    truth: dict[int, int] = field(default_factory=dict)
    ink: dict[str, int] = field(default_factory=dict)
    art: dict[str, int] = field(default_factory=dict)
    _block: int = 0

    def add(self, file: str, time: int, **columns: object) -> None:
        self._block += 1
        self.rows[file].append({"block": self._block, "time": time, **columns})

    def flow(self, time: int, who: str, what: str, amount: int) -> None:
        side = self.art if what in ("borrow", "repay") else self.ink
        side[who] = side.get(who, 0) + (amount if what in ("borrow", "supply") else -amount)
        self.add("flows", time, who=who, asset="dai" if side is self.art else "eth", what=what, amount=amount)

    def bite(self, time: int, who: str) -> None:
        self.add("bites", time, who=who, art=self.art.pop(who), ink=self.ink.pop(who))


def made_up(seed: int, *, hours: int = 60, vaults: int = 40, edge: float = 0.02) -> Script:
    """A history of ``hours``. Vaults are opened within ``edge`` of what their collateral may carry, so that they lie
    close to the price.
    """
    random, script = Random(seed), Script()
    candles, price = [], 400.0
    for hour in range(hours + 2):
        after = price * (1 + random.gauss(0, 0.01))
        low, high = min(price, after) * (1 - random.random() / 200), max(price, after) * (1 + random.random() / 200)
        row = tuple(round(value * 100) * WAD // 100 for value in (price, low, high))
        candles.append(row)
        time = START + hour * HOUR
        script.rows["candles"].append(
            {"time": time, **{name: text(value) for name, value in zip(("open", "low", "high"), row, strict=True)}}
        )
        price = after
    for name, value in (
        ("duty", RAY),
        ("liquidation_ratio", RATIO),
        ("liquidation_penalty", 113 * WAD // 100),
        ("dust", 0),
        ("dunk", 10**9 * WAD),
        ("box", 10**9 * WAD),
    ):
        script.add("settings", START, name=name, value=value)
    # The price in force from hour h + 2 on was read in the period that starts at hour h + 1, or in the one before.
    for hour in range(hours):
        time = START + (hour + 2) * HOUR
        low, high = min(c[1] for c in candles[hour : hour + 2]), max(c[2] for c in candles[hour : hour + 2])
        script.truth[time] = random.randint(low, high)
        _hour(script, random, time, vaults, edge)
    return script


def _hour(script: Script, random: Random, time: int, vaults: int, edge: float) -> None:
    spot = spot_down(script.truth[time], RAY, RATIO)
    events: list[tuple[int, str, str]] = []
    for who in sorted(script.art):
        if is_unsafe(script.ink[who], script.art[who], RAY, spot):
            events.append((time + random.randint(1, KEEPERS), "bite", who))
            if random.random() < 0.3:
                events.append((time + random.randint(1, KEEPERS), "rescue", who))
        elif random.random() < 0.1:
            events.append((time + random.randint(1, HOUR - 1), random.choice(("more", "less")), who))
    if len(script.art) < vaults:
        events += [(time + random.randint(1, HOUR - 1), "open", f"{time}-{n}") for n in range(3)]
    for moment, what, who in sorted(events):
        if what == "open":
            ink = random.randint(1, 50) * WAD
            script.flow(moment, who, "supply", ink)
            script.flow(moment, who, "borrow", int(ink * spot // RAY * (1 - random.random() * edge)))
        elif who not in script.art:
            continue
        elif what == "bite" and is_unsafe(script.ink[who], script.art[who], RAY, spot):
            script.bite(moment, who)
        elif what == "rescue":
            script.flow(moment, who, "repay", script.art[who] // 10)
        elif what == "less":
            script.flow(moment, who, "repay", script.art[who] // 50)
        elif what == "more" and (room := script.ink[who] * spot // RAY - script.art[who]) > WAD:
            script.flow(moment, who, "borrow", room)


def text(value: int) -> str:
    """Wad as a decimal."""
    return f"{value // WAD}.{value % WAD:018d}"


def lake_of(script: Script, folder: Path) -> Lake:
    """Imported and reconstructed."""
    mapping, files = folder / "mapping", folder / "files"
    mapping.mkdir(parents=True)
    files.mkdir()
    (mapping / "mapping.toml").write_text(MAPPING)
    for name, select in SELECTS.items():
        (mapping / f"{name}.sql").write_text(select)
    for name, rows in script.rows.items():
        _write(files / f"{name}.csv", rows)
    lake = Lake(folder / "lake", create=True)
    made = import_files(lake, load(str(mapping)), folder=files)
    assert not made.reasons
    reconstruct(lake, "made-up")
    lake.refresh()
    return lake


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
