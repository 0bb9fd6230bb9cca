"""Files to calibrate from."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from backtest.calibration.fitting import generator


def written(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """A CSV file."""
    with path.open("w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def liquidations(folder: Path) -> Path:
    """400 liquidations: 300 have an update, 20 of them twice, 10 a distance that was not looked for."""
    distances = np.floor(generator(1).exponential(3.0, 300) + 1).astype(int)
    rows = []
    for i, d in enumerate(distances):
        block, second = 1_000 + 50 * i, 1_650_000_000 + 100 * i
        rows.append({"tx": f"0x{i}", "block": block, "ts": second, "ub": block - d, "uts": second - 2 * d, "dist": d})
    lost = [{**rows[0], "tx": f"0xn{i}", "dist": "", "ub": "", "uts": ""} for i in range(100)]
    far = [{**rows[0], "tx": f"0xf{i}", "dist": "100.0"} for i in range(10)]
    return written(folder / "liquidations.csv", [*lost, *rows, *rows[:20], *far])
