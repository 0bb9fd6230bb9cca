"""``backtest import``: files that a user has, into a lake."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from backtest.errors import UserError

if TYPE_CHECKING:
    from backtest.imports import ImportSummary
    from backtest.log_files import LogImport

SHOWN = 8
_VALUES = re.compile(r"'[^']*'|[0-9]+|0x[0-9a-f]+")


import_ = App(name="import", help_format="plaintext")


@import_.default
def mapped(
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
    the columns mean. Raw logs of any protocol go by backtest import logs, which needs none.

    Mappings that ship with backtest: maker-vaults, maker-prices, candles, chainlink-rounds, derived-oracle,
    morpho-liquidations.
    docs/import.md shows how to write one. Importing the same files again changes nothing; a mistake leaves the lake as
    it was.

    Examples:

        backtest import maker-vaults --folder exports/ --lake data/lake

        backtest import candles --market maker-eth-b --source hours='prices/eth_usd_1h_*.csv' --lake data/lake

        backtest import logs cryo/ --market ethereum-core --facts facts.toml --lake data/lake

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
    with Lake.made(lake) as opened:
        summary = import_files(
            opened, loaded, market=market, folder=folder, sources=given, parameters=parameters, mended=mended
        )
    for line in lines(summary):
        print(line)


@import_.command
def logs(
    *files: Annotated[Path, Parameter(negative=())],
    market: str,
    lake: Path,
    facts: Path | None = None,
    mapping: str | None = None,
    from_block: int | None = None,
    to_block: int | None = None,
) -> None:
    """Import raw logs of a chain, as cryo, ethereum-etl, HyperSync, BigQuery, Dune and Flipside export them: the same
    raw datasets that a fetch from a node makes, for every protocol, its price feeds and pools.

    Parquet, CSV and JSON (one object a line), plain or packed with gzip or zstd, of any size; files of the chain's
    blocks among them give block times and base fees. Tables of decoded events under the names of their ABI
    (Pool_evt_Supply.csv) are logs too. What no log says (symbols, revisions, kinds of price sources) is
    read from a facts file, which backtest facts gets from a node. That the files leave nothing out is their claim:
    backtest info and check say so.

    Examples:

        backtest facts logs/ blocks/ --market ethereum-core --rpc http://127.0.0.1:8545 --out facts.toml

        backtest import logs logs/ blocks/ --market ethereum-core --facts facts.toml --lake data/lake

        backtest import logs bq-*.json.gz --market mine.toml --facts facts.toml --to-block 21000000 --lake data/lake

        backtest import logs own.csv --mapping own.toml --market mine.toml --facts facts.toml --lake data/lake

    Parameters
    ----------
    files
        Files, and folders of files, of logs and of blocks.
    market
        Name of a market that ships with backtest (data/markets) or that the lake holds already, or the path of a TOML
        file.
    lake
        Folder of the lake; made if it does not exist.
    facts
        File of what no log says.
    mapping
        How the columns are named: cryo, ethereum-etl, bigquery, hypersync, dune, flipside, or the path of a TOML file;
        default what the columns of each file say.
    from_block
        First block that the files are complete from; default the market's first.
    to_block
        Last block that they are complete up to; default the last one with a log in the files.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from backtest.cli.fetch import named_market
    from backtest.lake import Lake
    from backtest.log_files import files_in, import_logs

    config = named_market(market, lake)
    size = sum(file.size() for file in files_in(files))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Lake.made(lake) as opened, Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading logs", total=size)
        summary = import_logs(
            opened,
            config,
            files,
            facts=facts,
            mapping=mapping,
            from_block=from_block,
            to_block=to_block,
            advance=lambda done: bar.advance(task, done),
            command=f"backtest facts {shlex.join(map(str, files))} --market {shlex.quote(market)} --rpc URL",
        )
    for line in log_lines(summary):
        print(line)


def log_lines(summary: LogImport) -> list[str]:
    """What an import of logs did, for people."""
    from backtest.lake.claims import in_words

    kinds = ", ".join(f"{count} of {layout}" for layout, count in sorted(summary.files.items()))
    out = [f"files: {kinds}; {summary.read:,} logs read"]
    spaces: dict[str, int] = {}
    for dataset, rows in summary.rows.items():
        space = dataset.split("/")[1]
        spaces[space] = spaces.get(space, 0) + rows
    out += [f"{space} logs: {rows:,}" for space, rows in spaces.items()]
    counted = {
        "block headers": summary.headers,
        "logs that fit no event (quarantined)": summary.quarantined,
        "doubled logs left out": summary.doubled,
        "retracted logs left out": summary.removed,
    }
    out += [f"{what}: {count:,}" for what, count in counted.items() if count]
    out += [f"note: {note}" for note in summary.notes]
    if summary.claimed:
        out.append(
            f"market '{summary.market}': {in_words(tuple(summary.claimed))} are complete as the files claim; no node"
            " has shown it"
        )
        out.append("the lake changed: run backtest reconstruct, then backtest check")
    else:
        out.append("nothing new: the lake holds these blocks already")
    return out


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
    from backtest.unread import in_words

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
    out += in_words(summary.unread)
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
