"""Processes that fetch and may be killed."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


ZYGOTE = """
import os, sys
from backtest.fetch import logs
from backtest.lake import Lake
from tests.support.fetching import run
logs.COMMIT_ROWS = 25
for line in sys.stdin:
    url, path = line.split()
    child = os.fork()
    if not child:
        run(Lake(path, create=True), url, headers="all", workers=4)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()  # not before the kill, if any: until then the child's number is its own
    print(os.waitpid(child, 0)[1], flush=True)
"""
