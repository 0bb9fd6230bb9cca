"""Import of a million rows of one file, and of the same file again.

``python -m tests.bench.bench_import`` prints the rows; ``make bench`` collects ``run()``.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

from backtest.imports import import_files, load
from backtest.lake import Lake
from tests.support.import_exports import mapping, tx

ROWS = 1_000_000
SELECT = """
SELECT source_row, who AS account, 'eth' AS asset, 'supply' AS action, a AS amount, block, t AS timestamp, hash AS
transaction_hash, log AS log_index
FROM rows
"""


def run() -> list[dict[str, Any]]:
    """Rows a second, first and second import."""
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        _write(folder / "rows.csv")
        made = load(str(mapping(folder / "own", {"flow": SELECT})))
        lake = Lake(folder / "lake", create=True)
        out = []
        for name in ("first", "same file again"):
            started = time.perf_counter()
            import_files(lake, made, folder=folder)
            speed = ROWS / (time.perf_counter() - started)
            out.append(
                {
                    "name": f"import, {name}",
                    "value": round(speed),
                    "unit": "rows/s",
                    "baseline": None,
                    "ratio": None,
                    "shape": f"{ROWS} rows CSV",
                }
            )
    return out


def _write(path: Path) -> None:
    rng = random.Random(1)
    with open(path, "w") as file:
        file.write("a,t,block,hash,log,who\n")
        for row in range(ROWS):
            block = 10_000_000 + row // 3
            file.write(
                f"{rng.randrange(10**12) / 10**6},{1_600_000_000 + 13 * (row // 3)},{block},{tx(row)},{row % 3 + 5},{row % 5000}\n"  # noqa: E501
            )


if __name__ == "__main__":
    for figure in run():
        print(figure)
