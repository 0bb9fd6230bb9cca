"""``backtest fetch``: a market's history from a node into a lake."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from backtest.cli.nodes import Nodes, node_of
from backtest.errors import UserError, did_you_mean
from backtest.foreign import Unreadable, integer, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

    from backtest.fetch import FetchSummary
    from backtest.fetch.provider_pool import Waiting
    from backtest.fetch.rpc import Rpc
    from backtest.lake import Lake
    from backtest.markets import MarketConfig

_OPTIONS = (
    "market",
    "lake",
    "rpc",
    "from-block",
    "to-block",
    "finality",
    "headers",
    "omissions",
    "again",
    "workers",
    "timeout",
    "reconstruct",
    "verify",
)


def fetch(
    protocol: str,
    /,
    *,
    lake: Path,
    market: str | None = None,
    rpc: Nodes = None,
    from_block: str | None = None,
    to_block: str | None = None,
    finality: str = "finalized",
    headers: Literal["events", "all"] = "events",
    omissions: Literal["auto", "always", "never"] = "auto",
    again: str | None = None,
    workers: int = 16,
    timeout: float = 30.0,
    reconstruct: bool = True,
    verify: bool = False,
    **parameters: str,
) -> int:
    """Fetch a market's history from a node into a lake, and rebuild its canonical tables.

    Stored are final blocks only. Interrupted at any moment and run again, it continues where it was. Prices that are
    not a plain feed need an archive node.

    Examples:

        backtest fetch aave-v3 --market ethereum-core --rpc http://127.0.0.1:8545 --lake data/lake

        BACKTEST_RPC=https://... backtest fetch aave-v3 --market base --to-block 20000000 --lake data/lake

        backtest fetch maker --ilk ETH-A --rpc http://127.0.0.1:8545 --lake data/lake

        backtest fetch aave-v3 --market base --rpc http://127.0.0.1:8545 --rpc providers.toml --lake data/lake

        backtest fetch aave-v3 --market mine.toml --rpc http://127.0.0.1:8545 --finality 0 --headers all --lake mine

    Parameters
    ----------
    protocol
        Protocol of the market, for example aave-v3.
    market
        Name of a market that ships with backtest (data/markets) or that the lake holds already, or the path of a TOML
        file.
    lake
        Folder of the lake; made if it does not exist.
    rpc
        Address of the node, or a TOML file of providers; given several times, all are asked. Else the environment
        variable BACKTEST_RPC. Keys are shown nowhere.
    from_block
        First block, or a date or time in UTC; default the market's first.
    to_block
        Last block, or a date or time in UTC; default the last final one.
    finality
        What counts as final: "finalized" (the node's word) or a number of confirmations (0 on a test chain).
    headers
        Headers of blocks with events, or of all blocks: those also reveal blocks whose logs the node left out
        altogether.
    omissions
        Look for omitted logs: "auto" by the headers' blooms where these are not saturated and at the ends of every
        reply, "always" by asking for every block with logs twice, "never".
    again
        A range "A..B" of blocks or dates to take anew, whatever the lake holds of it, and with it all that was read
        from contracts: the remedy where a node told something false. The lake changes at once when all of it is there.
    workers
        Requests in flight at each provider, 1 to 256.
    timeout
        Seconds until a request counts as lost, from connecting to its last byte; 0.1 to 3,600.
    reconstruct
        Rebuild the canonical tables afterwards.
    verify
        Compare samples of the result with the chain afterwards (archive node).
    parameters
        Instead of --market, what the protocol knows its markets by: for maker --ilk ETH-A.
    """
    from rich.console import Console

    from backtest.fetch import fetch as fetch_market
    from backtest.lake import Lake
    from backtest.protocols.registry import PROTOCOLS

    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol '{shown(protocol, 60)}'", did_you_mean(protocol, PROTOCOLS))
    config = market_of(protocol, market, lake, parameters)
    final = confirmations(finality)
    if again is not None and (from_block is not None or to_block is not None):
        raise UserError("--again names its blocks itself", "leave out --from-block and --to-block")
    console = Console(stderr=True)
    try:
        with node_of(rpc, workers, timeout) as node:
            with ProgressBar(console, node) as bar, ExitStack() as stack:
                first, last = _window(node, config, final, from_block, to_block, again)
                opened = stack.enter_context(Lake.made(lake))
                summary = fetch_market(
                    opened,
                    config,
                    node,
                    from_block=first if again is None else None,
                    to_block=last if again is None else None,
                    finality=final,
                    headers=headers,
                    omissions=omissions,
                    again=None if again is None or first is None or last is None else (first, last),
                    progress=bar,
                )
            _print_summary(summary)
            if reconstruct or verify:
                _reconstruct(opened, config.name)
            return _verify(opened, config.name, node) if verify else 0
    except KeyboardInterrupt:
        print(
            f"backtest: interrupted; what is stored stays in {lake.absolute()}: run the same command again to continue",
            file=sys.stderr,
        )
        sys.stderr.flush()
        os._exit(130)  # without waiting for requests in flight; every commit is atomic


def market_of(protocol: str, market: str | None, lake: Path, parameters: Mapping[str, str]) -> MarketConfig:
    """The market of a protocol that --market or the protocol's own options name."""
    config = (
        named_market(market, lake)
        if market is not None and not parameters
        else _described(protocol, market, parameters)
    )
    if config.protocol != protocol:
        raise UserError(
            f"market '{config.name}' is of protocol {config.protocol}, not {protocol}",
            f"backtest fetch {config.protocol} ...",
        )
    return config


def named_market(name: str, lake: Path | None) -> MarketConfig:
    """The market that ships under this name or is described in this file; else the one that the lake holds."""
    from backtest.errors import LakeError
    from backtest.fetch.market_files import find_market
    from backtest.lake import Lake

    try:
        return find_market(name)
    except UserError:
        try:
            if lake is not None:
                return Lake(lake).market_config(name)
        except LakeError:
            pass
        raise


def _described(protocol: str, market: str | None, parameters: Mapping[str, str]) -> MarketConfig:
    """The market that options of the protocol's own tell: one that ships with them, else what the protocol makes of
    those that ship.
    """
    from backtest.fetch.market_files import shipped_markets
    from backtest.protocols.registry import PROTOCOLS

    owner = PROTOCOLS[protocol]
    known = {name.replace("_", "-"): name for name in owner.market_parameters}
    for option in parameters:
        if option not in known:
            raise UserError(
                f"unknown option --{option}",
                did_you_mean(f"--{option}", [f"--{each}" for each in (*known, *_OPTIONS)]),
            )
    parameters = {known[option]: value for option, value in parameters.items()}
    shipped = [config for config in shipped_markets() if config.protocol == protocol]
    if market is not None or not parameters:
        own = "".join(f" or --{name}" for name in known)
        if parameters:
            raise UserError("two markets given", f"give one of --market{own}")
        there = f"{', '.join(config.name for config in shipped)}, or" if shipped else "none is bundled, so that it is"
        raise UserError("no market given", f"give one of --market{own}: {there} a TOML file (docs/own-market.md)")
    same = [config for config in shipped if config.parameters == parameters]
    described = same[0] if same else owner.describe(parameters, shipped)
    assert described is not None, "a protocol with market_parameters describes its markets"
    return described


def confirmations(finality: str) -> Literal["finalized"] | int:
    if finality == "finalized":
        return "finalized"
    try:
        count = integer(finality, bits=62)
    except Unreadable:
        count = -1
    if count < 0:
        raise UserError(
            f"--finality {shown(finality, 40)}", 'give "finalized" or a number of confirmations, for example 64'
        )
    return count


def _window(
    node: Rpc,
    config: MarketConfig,
    finality: Literal["finalized"] | int,
    from_block: str | None,
    to_block: str | None,
    again: str | None,
) -> tuple[int | None, int | None]:
    """The blocks that are asked for, by --from-block and --to-block or by --again "A..B"; the node places dates."""
    from backtest.cli.moments import FIRST, LAST, blocks_of_node
    from backtest.fetch import final_block

    first, last = (from_block, FIRST), (to_block, LAST)
    if again is not None:
        begin, _, end = again.partition("..")
        if not begin or not end:
            raise UserError(
                f"--again {shown(again, 40)}", "give the first and the last block, for example --again 100..200"
            )
        first, last = (begin, "--again"), (end, "--again")
    return blocks_of_node(node, config.start_block, lambda: final_block(node, finality), first, last)


def _reconstruct(lake: Lake, market: str) -> None:
    from backtest.cli.reconstruct import reconstruct

    lake.refresh()
    reconstruct(lake=Path(lake.path), market=market)


def _verify(lake: Lake, market: str, node: object) -> int:
    from backtest.fetch.rpc import Rpc
    from backtest.fetch.verify import verify

    assert isinstance(node, Rpc)
    lake.refresh()
    report = verify(lake, market, node)
    for line in report.lines():
        print(line)
    return 1 if report.mismatches else 0


def _print_summary(summary: FetchSummary) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{summary.market}, blocks {summary.from_block} to {summary.to_block}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    namespaces: dict[str, int] = {}
    for dataset, rows in summary.rows.items():
        namespace = dataset.split("/")[1]
        namespaces[namespace] = namespaces.get(namespace, 0) + rows
    for namespace, rows in namespaces.items():
        table.add_row(f"{namespace} logs", f"{rows:,}")
    requests = summary.requests
    figures = {
        "block headers": summary.headers,
        "contracts": summary.contracts,
        "logs that fit no event (quarantined)": summary.quarantined,
        "doubled logs dropped": summary.doubled,
        "incomplete replies asked again": summary.incomplete,
        "blocks looked at twice for omitted logs": summary.rechecked,
        "blocks whose bloom was too full to tell": summary.saturated,
        "headers without a bloom, by which no omitted log shows": requests.bloomless,
        "replies of null, taken for no logs": requests.nulls,
        "requests": requests.requests,
        "requests tried again": requests.retries,
        "ranges cut smaller": requests.refused,
        "MB received": requests.bytes // 1_000_000,
    }
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    if summary.providers:
        figures = {"replies asked of two providers": requests.compared, "replies asked again": requests.rechecked}
        for name, value in figures.items():
            table.add_row(name, f"{value:,}")
    table.add_row("seconds", f"{summary.seconds:.1f}")
    Console().print(table)
    for line in summary.providers:
        print(line)


class ProgressBar:
    """A bar with rate and time left, and below it what a node is waited for; ``backtest.fetch.Progress``."""

    def __init__(self, console: Console, node: Rpc) -> None:
        from rich.console import RenderableType
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.text import Text

        self._waiting: Waiting | None = None
        self._ended = False

        def below() -> str:
            return "" if self._waiting is None or self._waiting.over else str(self._waiting)

        class Bars(Progress):
            @override
            def get_renderables(self) -> Iterator[RenderableType]:
                if self.tasks:
                    yield self.make_tasks_table(self.tasks)
                if text := below():
                    yield Text(shown(text, 1_000), no_wrap=True, overflow="ellipsis")

        self._console = console
        self._bar: Bar = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: int | None = None
        self._logs = 0
        node.pool.on_waiting = self._waits

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exc: object) -> None:
        self._waiting, self._ended = None, True
        if self._bar.live.is_started:
            self._bar.stop()

    def _waits(self, waiting: Waiting) -> None:
        """Told by any thread of the node's: shown below the bar until the node answers; where there is no bar to see,
        said once until then.
        """
        before, self._waiting = self._waiting, waiting
        if self._console.is_terminal and not self._ended:
            if not self._bar.live.is_started:
                self._bar.start()
        elif before is None or before.over or before.name != waiting.name:
            self.note(str(waiting))

    def begin(self, what: str, total: int) -> None:
        """See ``Progress.begin``."""
        self._logs = 0
        if not self._bar.live.is_started:
            self._bar.start()
        self._task = self._bar.add_task(what, total=total, rate="")

    def advance(self, units: int, logs: int = 0) -> None:
        """See ``Progress.advance``."""
        if self._task is None:
            return
        self._logs += logs
        task = next(t for t in self._bar.tasks if t.id == self._task)
        seconds = task.elapsed or 0.0
        per_second = f"{(task.completed + units) / seconds:,.0f} blocks/s" if seconds else ""
        rate = f"{self._logs:,} logs, {per_second}" if self._logs else per_second
        self._bar.update(task.id, advance=units, rate=rate)

    def note(self, text: str) -> None:
        """See ``Progress.note``."""
        self._console.print(f"note: {shown(text, 1_000)}", markup=False, highlight=False)
