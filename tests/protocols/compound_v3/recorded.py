"""What ``record`` wrote: a lake of it, and what the contract said."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

from backtest.fetch.market_files import find_market
from backtest.lake import Lake
from backtest.log_files import import_logs

FOLDER = Path(__file__).parents[2] / "recorded/compound-v3"
MARKET = "recorded-comet"


def read(name: str) -> str:
    """The text of a file."""
    return gzip.decompress((FOLDER / name).read_bytes()).decode()


def figures() -> dict[str, Any]:
    """See ``record.told``."""
    found: dict[str, Any] = json.loads(read("figures.json.gz"))
    return found


def imported(place: Path, old: str = "", new: str = "") -> Lake:
    """A lake of the recorded logs and facts, not folded yet. ``old`` (a text, or else a pattern) stands for ``new`` in
    each line of the facts; lines that would lack it are left out.
    """
    lines = read("facts.toml.gz").splitlines()
    if old and not new:
        lines = [line for line in lines if old not in line]
    elif old:
        found = any(old in line for line in lines)
        lines = [line.replace(old, new) if found else re.sub(old, new, line) for line in lines]
    facts = place.with_suffix(".toml")
    facts.write_text("\n".join(lines))
    lake = Lake(place, create=True)
    import_logs(lake, find_market(str(FOLDER / "market.toml")), [FOLDER / "logs.json.gz"], facts=facts)
    lake.refresh()
    return lake
