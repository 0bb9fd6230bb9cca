"""``backtest follow``: the head of a chain into a lake, with alerts."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from backtest.cli.nodes import Nodes, node_of
from backtest.cli.numbers import Number, Real, Whole
from backtest.errors import FetchError, LakeBusy, UserError, did_you_mean
from backtest.foreign import shown

if TYPE_CHECKING:
    from backtest.follow import AlertLimits, Follower
    from backtest.markets import MarketConfig


def follow(
    protocol: str,
    /,
    *,
    lake: Path,
    market: str | None = None,
    rpc: Nodes = None,
    within: Number = Decimal(5),
    large: Number | None = None,
    late: Whole | None = None,
    deviates: Number | None = None,
    exec_: Annotated[list[str] | None, Parameter(name="--exec")] = None,
    webhook: list[str] | None = None,
    quiet: bool = False,
    finality: str = "finalized",
    poll: Real = 1.0,
    workers: Whole = 8,
    timeout: Real = 10.0,
    **parameters: str,
) -> int:
    """Follow the head of a chain into a lake, and say who can be liquidated, or nearly.

    The health of every account is kept current in memory, block by block, by the protocol's exact rules. Alerts are
    lines of JSON: liquidatable, near, large position, feed late, feed deviating, bad debt; and undone, where the block
    of an alert left the chain. Each is written once into the lake's folder before it is handed over; started again,
    it goes on where it was.
    The lake gets final blocks only, and ends as a fetch of the same blocks leaves it. End it with Ctrl-C.

    Examples:

        backtest follow aave-v3 --market ethereum-core --rpc http://127.0.0.1:8545 --lake data/lake

        backtest follow morpho-blue --market morpho-wsteth-usdc --within 2 --exec "sh alarm.sh" --lake data/lake

        backtest follow aave-v3 --market base --large 1000000 --webhook http://127.0.0.1:9000/alerts --lake data/lake

    Parameters
    ----------
    protocol
        Protocol of the market, for example aave-v3.
    market
        Name of a market that ships with backtest (data/markets) or that the lake holds already, or the path of a TOML
        file.
    lake
        Folder of the lake, on a local disk; made if it does not exist, and filled first with what is final.
    rpc
        Address of the node, or a TOML file of providers; given several times, all are asked. Else the environment
        variable BACKTEST_RPC. Keys are shown nowhere.
    within
        An account is near where it could be liquidated once all its collateral is worth so many percent less.
    large
        A position is large from this debt on, in whole units of the market's base currency.
    late
        A feed is late after so many seconds without an answer.
    deviates
        An oracle's price deviates where one block moves it by more than so many percent.
    exec_
        A command that is started for every alert and gets it on standard input; may be given several times.
    webhook
        An HTTP address of this machine that gets every alert as the body of a POST; may be given several times.
    quiet
        No alerts on standard output.
    finality
        What counts as final: "finalized" (the node's word) or a number of confirmations.
    poll
        Seconds between two looks at the node, 0.01 to 60.
    workers
        Requests in flight, 1 to 256.
    timeout
        Seconds until a request counts as lost, 0.1 to 3,600.
    parameters
        Instead of --market, what the protocol knows its markets by: for maker --ilk ETH-A.
    """
    from rich.console import Console

    from backtest.cli.fetch import ProgressBar, confirmations, market_of
    from backtest.fetch import check_chain
    from backtest.follow import Follower
    from backtest.lake import Lake
    from backtest.protocols.registry import PROTOCOLS

    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol '{shown(protocol, 60)}'", did_you_mean(protocol, PROTOCOLS))
    config = market_of(protocol, market, lake, parameters)
    if not 0.01 <= poll <= 60:
        raise UserError(f"--poll {poll:g}", "give 0.01 to 60 seconds")
    limits, final = _limits(config, within, large, late, deviates), confirmations(finality)
    wanted = _destinations(quiet, exec_ or [], webhook or [])
    stop = threading.Event()
    with node_of(rpc, workers, timeout, attempts=4, max_backoff=2.0) as node, ExitStack() as stack:
        with ProgressBar(Console(stderr=True), node) as bar:
            check_chain(node, config)  # before there is a lake
            opened = stack.enter_context(Lake.made(lake))
            follower = Follower(
                opened, config, node, limits, finality=final, destinations=wanted, note=_note, progress=bar
            )
            stack.enter_context(follower)
        node.pool.on_waiting = None  # the follower says itself what it waits for
        _note(f"following {config.name} from block {follower.head.branch.tip.number} on; end with Ctrl-C")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: _stop(stop))
        try:
            follower.run(stop, poll=poll)
        finally:
            _end(follower)
    return 0


def _stop(stop: threading.Event) -> None:
    """The second time at once."""
    if stop.is_set():
        raise KeyboardInterrupt
    stop.set()


def _limits(
    config: MarketConfig, within: Decimal, large: Decimal | None, late: int | None, deviates: Decimal | None
) -> AlertLimits:
    from backtest.follow import AlertLimits

    large_base = None if large is None else int(large.scaleb(config.base_decimals))
    if large_base is not None and large_base <= 0:
        raise UserError(f"--large {large}", "give an amount above 0")
    if late is not None and late <= 0:
        raise UserError(f"--late {late}", "give seconds above 0")
    return AlertLimits(
        within=basis_points(within, "--within"),
        large_base=large_base,
        late=late,
        deviates=None if deviates is None else basis_points(deviates, "--deviates"),
    )


def basis_points(percent: Decimal, option: str) -> int:
    """A share in percent, below 100, as basis points; UserError for anything else."""
    points = percent * 100
    if points != points.to_integral_value() or not 0 <= points < 10_000:
        raise UserError(f"{option} {percent}", "give percent, 0 to 99.99, with at most two decimals")
    return int(points)


def _destinations(quiet: bool, commands: list[str], webhooks: list[str]) -> list[tuple[str, Any]]:
    from backtest.follow.destinations import to_command, to_stdout, to_webhook

    wanted: list[tuple[str, Any]] = [] if quiet else [("standard output", to_stdout)]
    wanted += [(f"command {command}", to_command(command)) for command in dict.fromkeys(commands)]
    return wanted + [(f"webhook {url}", to_webhook(url)) for url in dict.fromkeys(webhooks)]


def _end(follower: Follower) -> None:
    """Store what is final, rebuild the tables, hand over what waits, and say what was done."""
    from backtest.reconstruct import reconstruct

    follower.settle(all_of_it=True)
    try:
        reconstruct(follower.lake, follower.config.name)
    except (FetchError, LakeBusy) as error:
        _note(str(error))
    left, counts = follower.close(), follower.counts
    _note(
        f"{counts.blocks:,} blocks, {counts.reorganisations:,} reorganisations ({counts.undone:,} blocks undone),"
        f" {counts.alerts:,} alerts, {counts.retracted:,} undone; the lake has blocks up to {counts.stored_to}"
        + (f"; {left:,} alerts wait for the next start" if left else "")
    )


def _note(text: str) -> None:
    print(f"backtest: {shown(text, 1_000)}", file=sys.stderr, flush=True)
