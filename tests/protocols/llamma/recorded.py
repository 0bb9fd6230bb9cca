"""What ``record`` wrote: a lake of it, and what the contracts said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from backtest.fetch.market_files import find_market
from backtest.lake import Lake
from backtest.log_files import import_logs

FOLDER = Path(__file__).parents[2] / "recorded/llamma"
FIRST = FOLDER.with_name("llamma-2023")
"""The contracts of June 2023."""
MARKET = "recorded-llamma"


def read(name: str, folder: Path = FOLDER) -> str:
    """The text of a file."""
    return gzip.decompress((folder / name).read_bytes()).decode()


def figures(folder: Path = FOLDER) -> dict[str, Any]:
    """See ``record.told``."""
    found: dict[str, Any] = json.loads(read("figures.json.gz", folder))
    return found


def imported(place: Path, without: str = "", revision: str = "3", folder: Path = FOLDER) -> Lake:
    """A lake of the recorded logs and facts, not folded yet; lines of facts with a text are left out."""
    lines = [line for line in read("facts.toml.gz", folder).splitlines() if not (without and without in line)]
    facts, market = place.with_suffix(".toml"), place.with_name("market.toml")
    facts.write_text("\n".join(lines))
    market.write_text((folder / "market.toml").read_text().replace('revision = "3"', f'revision = "{revision}"'))
    lake = Lake(place, create=True)
    import_logs(lake, find_market(str(market)), [folder / "logs.json.gz"], facts=facts)
    lake.refresh()
    return lake
