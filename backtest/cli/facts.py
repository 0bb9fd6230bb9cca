"""``backtest facts``: what no log of a market says, from a node into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from backtest.cli.nodes import Nodes, node_of
from backtest.errors import UserError
from backtest.foreign import shown


def facts(
    *files: Annotated[Path, Parameter(negative=())],
    market: str,
    out: Path,
    rpc: Nodes = None,
    mapping: str | None = None,
    to_block: int | None = None,
    finality: str = "finalized",
    workers: int = 16,
    timeout: float = 30.0,
) -> None:
    """Write a file of what no log of a market says: symbols and decimals, revisions of contracts, what its price
    sources are and what they answered, headers of blocks that no file describes. backtest import logs reads it.

    Logs are those of the files, so that the node is asked for nothing that they hold; without files they are the
    node's. Any node will do for a market of plain feeds; prices from adapters need an archive node.

    Examples:

        backtest facts logs/ blocks/ --market ethereum-core --rpc http://127.0.0.1:8545 --out facts.toml

        BACKTEST_RPC=https://... backtest facts logs/ --market base --to-block 20000000 --out facts.toml

        backtest facts --market mine.toml --rpc http://127.0.0.1:8545 --finality 0 --out facts.toml

    Parameters
    ----------
    files
        Files, and folders of files, of logs and of blocks, as for backtest import logs.
    market
        Name of a market that ships with backtest (data/markets), or the path of a TOML file.
    out
        The file to write.
    rpc
        Address of the node, or a TOML file of providers; given several times, all are asked. Else the environment
        variable BACKTEST_RPC. Keys are shown nowhere.
    mapping
        How the columns of the files are named; default what they say themselves.
    to_block
        Last block; default the last one with a log in the files, without files the last final one.
    finality
        What counts as final: "finalized" (the node's word) or a number of confirmations (0 on a test chain).
    workers
        Requests in flight at each provider, 1 to 256.
    timeout
        Seconds until a request counts as lost; 0.1 to 3,600.
    """
    from rich.console import Console

    from backtest.cli.fetch import ProgressBar, confirmations, named_market
    from backtest.log_files import collect_facts

    config = named_market(market, None)
    if out.is_dir():
        raise UserError(f"{shown(str(out))} is a folder", "name a file for --out")
    with node_of(rpc, workers, timeout) as node, ProgressBar(Console(stderr=True), node) as bar:
        text, (first, last) = collect_facts(
            config,
            node,
            files,
            mapping=mapping,
            to_block=to_block,
            finality=confirmations(finality),
            progress=bar,
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(out)
    print(f"{out}: facts of market '{config.name}', blocks {first} to {last}, {len(text):,} characters")
