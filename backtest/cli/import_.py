"""``backtest import``: files that a user has, into a lake."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.errors import UserError

if TYPE_CHECKING:
    from backtest.imports import ImportSummary

SHOWN = 8
_VALUES = re.compile(r"'[^']*'|[0-9]+|0x[0-9a-f]+")


def import_(
    mapping: str,
    /,
    *,
    lake: Path,
    market: str | None = None,
    folder: Path | None = None,
    source: list[str] | None = None,
    set_: list[str] | None = None,
    mended: bool = False,
) -> None:
    """Import exports (CSV, JSON, Parquet, also .gz) into a lake through a mapping: a folder of SELECTs that say what
    the columns mean.

    Mappings that ship with backtest: maker-vaults, candles, chainlink-rounds, derived-oracle, morpho-liquidations.
    docs/import.md shows how to write one. Importing the same files again changes nothing; a mistake leaves the lake as
    it was.

    Examples:

        backtest import maker-vaults --folder exports/ --lake data/lake

        backtest import candles --market maker-eth-b --source hours='prices/eth_usd_1h_*.csv' --lake data/lake

        backtest import my-mapping/ --market my-market --folder exports/ --set ilk=ETH-A --lake data/lake

    Parameters
    ----------
    mapping
        Name of a shipped mapping, or the path of a folder with mapping.toml and SELECTs.
    lake
        Folder of the lake; made if it does not exist.
    market
        Name of the market; default the mapping's.
    folder
        Where the files are: each source takes those that its pattern in mapping.toml matches.
    source
        Files of one source: NAME=GLOB, in quotes. May be repeated; instead of, or before, --folder.
    set_
        Value of a parameter of the mapping: NAME=VALUE. May be repeated.
    mended
        The files are mended versions of earlier ones of the same names: rows of those leave the quarantine.
    """
    from backtest.imports import import_files, load
    from backtest.lake import Lake

    loaded = load(mapping)
    given: dict[str, list[str]] = {}
    for name, pattern in _pairs(source or [], "--source", "NAME=GLOB"):
        given.setdefault(name, []).append(pattern)
    parameters = dict(_pairs(set_ or [], "--set", "NAME=VALUE"))
    if folder is not None and not folder.is_dir():
        raise UserError(f"there is no folder {folder}", "check the path")
    summary = import_files(
        Lake(lake, create=True),
        loaded,
        market=market,
        folder=folder,
        sources=given,
        parameters=parameters,
        mended=mended,
    )
    for line in lines(summary):
        print(line)


def _pairs(words: Sequence[str], option: str, form: str) -> list[tuple[str, str]]:
    out = []
    for word in words:
        name, found, value = word.partition("=")
        if not found or not name or not value:
            raise UserError(f"{option} {word} is not understood", f"write {option} {form}")
        out.append((name, value))
    return out


def lines(summary: ImportSummary) -> list[str]:
    """What an import did, for people."""
    out = [f"{count.name} ({count.source}): {count}" for count in summary.files]
    out += [f"{name}: the same file as one before, left out" for name in summary.repeated]
    if summary.absent:
        out.append(f"no files of: {', '.join(summary.absent)}")
    alike: dict[str, list[tuple[str, int]]] = {}
    for reason, rows in sorted(summary.reasons.items()):
        alike.setdefault(_VALUES.sub("", reason), []).append((reason, rows))
    for reasons in sorted(alike.values(), key=lambda found: -sum(rows for _, rows in found))[:SHOWN]:
        out.append(
            f"quarantined {sum(rows for _, rows in reasons)}:"
            f" {reasons[0][0]}{' (the first of several values)' if len(reasons) > 1 else ''}"
        )
    if summary.reasons:
        out.append("the rows: SELECT * FROM import_quarantine")
    out += [f"set aside {rows}: {reason}" for reason, rows in sorted(summary.aside.items())[:SHOWN]]
    for column, values in sorted(summary.unread.items()):
        out.append(f"read by nothing: {values} values of {column}")
    held = (
        ", ".join(f"{rows} {name.removeprefix('raw/import/').lower()}" for name, rows in summary.rows.items())
        or "nothing"
    )
    out.append(
        f"market '{summary.market}' now holds {held}{f' ({summary.ambiguous} ambiguous)' if summary.ambiguous else ''}"
    )
    total = {
        what: sum(getattr(count, what) for count in summary.files)
        for what in ("rows", "stored", "known", "quarantined", "aside")
    }
    counted = ", ".join(f"{total[what]} {what}" for what in ("stored", "known", "quarantined"))
    out.append(f"{total['rows']} rows: {counted}, {total['aside']} set aside")
    out.append(
        "the lake changed; nothing of this market is folded or replayed, its rows are there to be queried"
        if summary.changed and total["stored"] and summary.queries_only
        else "the lake changed: run backtest reconstruct"
        if summary.changed and total["stored"]
        else "nothing new"
        if not summary.changed
        else ""
    )
    return [line for line in out if line]
