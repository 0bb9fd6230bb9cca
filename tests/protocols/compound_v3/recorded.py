"""What ``record`` wrote: a lake of it, and what the contract said."""

from __future__ import annotations

import gzip
import json
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


def imported(place: Path, *, without: str = "\0") -> Lake:
    """A lake of the recorded logs and facts, less lines of the facts that hold a text; not folded yet."""
    facts = place.with_suffix(".toml")
    kept = [line for line in read("facts.toml.gz").splitlines() if without not in line]
    facts.write_text("\n".join(kept))
    lake = Lake(place, create=True)
    import_logs(lake, find_market(str(FOLDER / "market.toml")), [FOLDER / "logs.json.gz"], facts=facts)
    lake.refresh()
    return lake
