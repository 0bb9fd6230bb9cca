"""See the package."""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from backtest.errors import UserError
from tests.coverage.pairs import PARAMETERS, world_of
from tests.coverage.scored import table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.coverage", description=__doc__)
    parser.add_argument("--pairs", type=int, default=60, help="at least so many pairs (five a world)")
    parser.add_argument("--seed", type=int, default=1, help="of the first world")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--rows", type=Path, help="write a JSON line a pair here; what is there already is read, not made"
    )
    words = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if words.rows and words.rows.exists():
        rows = [json.loads(line) for line in words.rows.read_text().splitlines()]
    done = {row["seed"] for row in rows}
    refusals: list[str] = []
    failed: list[str] = []
    seeds = [seed for seed in range(words.seed, words.seed - (-words.pairs // len(PARAMETERS))) if seed not in done]
    with ProcessPoolExecutor(words.workers, get_context("spawn")) as pool:
        jobs = {pool.submit(world_of, seed): seed for seed in seeds}
        for job in as_completed(jobs):
            if (error := job.exception()) is not None:
                refused = isinstance(error, UserError)  # calibrate baseline says that it cannot, and why
                said = f"world {jobs[job]} {f'refused: {error}' if refused else f'failed: {error!r}'}"
                (refusals if refused else failed).append(said)
                print(said, file=sys.stderr, flush=True)
                continue
            rows += job.result()
            print(f"world {jobs[job]}: {len(job.result())} pairs", file=sys.stderr, flush=True)
            if words.rows:
                words.rows.parent.mkdir(parents=True, exist_ok=True)
                words.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print("\n".join([*table(rows), "", *refusals, *failed]))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
