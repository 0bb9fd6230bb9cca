"""``backtest near``: who is near liquidation, at a block of a lake or at the head of the chain."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.cli.nodes import Nodes, node_of
from backtest.cli.numbers import Number, Whole
from backtest.errors import UserError

if TYPE_CHECKING:
    from backtest.near import NearList

_SHOWN = 50


def near(
    *,
    lake: Path,
    market: str | None = None,
    within: Number = Decimal(5),
    block: Whole | None = None,
    date: str | None = None,
    head: bool = False,
    rpc: Nodes = None,
    limit: Whole = _SHOWN,
    as_json: bool = False,
) -> None:
    """List accounts that are within some percent of liquidation, worst first, by the protocol's exact rules.

    Near is an account that may be liquidated once all its collateral is worth so many percent less against its debt.
    At the end of a block of the lake, or, with a node, at the head of the chain: the lake then stays as it is.

    Examples:

        backtest near --lake data/lake --within 3

        backtest near --lake data/lake --market ethereum-core --block 19000000 --as-json

        backtest near --lake data/lake --market ethereum-core --head --rpc http://127.0.0.1:8545

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Market; may be left out where the lake holds one.
    within
        Percent, 0 to 99.99; 0: those that may be liquidated now.
    block
        At the end of this block; without it and --date at the end of the history.
    date
        At this date or time of day, in UTC.
    head
        At the newest block of the chain: what the lake lacks is read from a node, into memory.
    rpc
        For --head, the address of the node, or a TOML file of providers; given several times, all are asked. Else
        the environment variable BACKTEST_RPC. Keys are shown nowhere.
    limit
        Accounts that are shown.
    as_json
        One line of JSON for each account, all of them.
    """
    from backtest.cli.follow import basis_points
    from backtest.cli.replay import only_market
    from backtest.lake import Lake
    from backtest.near import near_in_lake

    points = basis_points(within, "--within")
    if head and (block is not None or date is not None):
        raise UserError("--head with --block or --date", "give one of them")
    if rpc and not head:
        raise UserError(
            "--rpc without --head: a block of the lake is read without a node", "add --head, or leave out --rpc"
        )
    if block is not None and date is not None:
        raise UserError("--date with --block", "give one of them")
    opened = Lake(lake)
    chosen = market or only_market(opened)
    config = opened.market_config(chosen)
    if head:
        found = _at_head(opened, chosen, rpc, points)
    else:
        found = near_in_lake(opened, chosen, points, block=block, time=date)
    if as_json:
        for name, figures in rows_of(found):
            print(json.dumps({"account": name, **figures, "block": found.block, "market": chosen}))
        return
    _print(found, chosen, within, limit, config.base_currency)


def _at_head(lake: object, market: str, rpc: Nodes, points: int) -> NearList:
    from backtest.follow.head import near_at_head
    from backtest.lake import Lake

    assert isinstance(lake, Lake)
    with node_of(rpc) as node:
        return near_at_head(lake, market, node, points)


def rows_of(found: NearList) -> list[tuple[str, dict[str, str]]]:
    """Each account with its figures as text, exact."""
    from backtest.near import as_decimal

    digits = found.market.base_decimals
    return [
        (
            name,
            {
                "health": as_decimal(one.health or 0, 18),
                "collateral": as_decimal(one.collateral_base, digits),
                "debt": as_decimal(one.debt_base, digits),
            },
        )
        for name, one in found.accounts
    ]


def _print(found: NearList, market: str, within: Decimal, limit: int, currency: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from backtest.report.tables import moment
    from backtest.units import WAD

    unsafe = sum((one.health or 0) < WAD for _, one in found.accounts)
    print(f"market {market}, block {found.block}, {moment(found.timestamp)} UTC: {found.of:,} accounts have debt")
    print(f"{len(found.accounts):,} are within {within} % of liquidation, {unsafe:,} of them may be liquidated now")
    if found.unvalued:
        print(f"{found.unvalued:,} accounts are not valued: an asset of theirs has no price")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("account", no_wrap=True)
    for name in ("health", f"collateral, {currency}", f"debt, {currency}"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, figures in rows_of(found)[:limit]:
        table.add_row(name, figures["health"][:10], *(_short(figures[key]) for key in ("collateral", "debt")))
    if found.accounts:
        Console(highlight=False, markup=False, width=200).print(table)
    if len(found.accounts) > limit:
        print(f"and {len(found.accounts) - limit:,} others: --limit, or --as-json for all")


def _short(amount: str) -> str:
    """Two decimals, cut."""
    high, _, low = amount.partition(".")
    return f"{int(high):,}.{low[:2]:0<2}"
