"""``make bench``: run every ``bench_*.py``, print a table, write build/bench.json. Names as arguments choose some:
``make bench ONLY="fetch lake"``.

Each module has ``run() -> list[dict]`` of {name, value, unit, baseline, ratio, shape}: ``baseline`` is the figure of
the peer measured in the same run, or the bound asked for; ``ratio`` how much better than it (above one is better); both
None where there is nothing to compare with.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
FIELDS = ("name", "value", "unit", "baseline", "ratio", "shape")


def main(wanted: list[str]) -> int:
    """Exit code: 1 if a benchmark failed; the figures of the others are written all the same."""
    names = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        print(f"bench: unknown {', '.join(unknown)}; known: {', '.join(names)}", file=sys.stderr)
        return 2
    figures: list[dict[str, Any]] = []
    failed = []
    for name in wanted or names:
        started = time.perf_counter()
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows = importlib.import_module(f"tests.bench.bench_{name}").run()
            figures += [{field: row[field] for field in FIELDS} for row in rows]
        except Exception:
            traceback.print_exc()
            failed.append(name)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    target = ROOT / "build/bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(_table(figures))
    print(f"\nwritten to {target.relative_to(ROOT)}")
    if failed:
        print(f"bench: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _table(figures: list[dict[str, Any]]) -> str:
    rows = [FIELDS, *(tuple(_text(figure[field]) for field in FIELDS) for figure in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(FIELDS))]
    numbers = {1, 3, 4}
    return "\n".join(
        "  ".join(
            cell.rjust(widths[i]) if i in numbers else cell.ljust(widths[i]) for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    )


def _text(value: object) -> str:
    return (
        ""
        if value is None
        else (
            f"{value:,.3g}"
            if isinstance(value, float) and abs(value) < 1000
            else f"{value:,.0f}"
            if isinstance(value, (int, float))
            else str(value)
        )
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
