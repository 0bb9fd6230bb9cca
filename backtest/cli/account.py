"""``backtest account``: one account at any moment, in the protocol's own numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backtest.cli.numbers import Whole

if TYPE_CHECKING:
    from backtest.protocols.interface import Figure


def account(
    address: str,
    *,
    lake: Path,
    market: str | None = None,
    block: Whole | None = None,
    date: str | None = None,
    time: Whole | None = None,
) -> None:
    """Show one account at the end of any block, or at any time, exactly as the protocol's contracts say it.

    The numbers are those that the protocol's own view of an account returns, under its names: whole numbers in the
    contracts' own units. Then what is held.
    In a block without events the state is that after the last one, with interest up to the block's time.

    Examples:

        backtest account 0x70997970c51812dc3a010c7d01b50e0d17dc79c8 --lake data/lake --block 19000000

        backtest account 0x70997970c51812dc3a010c7d01b50e0d17dc79c8 --lake data/lake --date 2024-03-12T08:00:00

    Parameters
    ----------
    address
        Address of the account, or the name that the market knows it by.
    lake
        Folder of the lake.
    market
        Market; may be left out where the lake holds one.
    block
        At the end of this block; without it and --date at the end of the history.
    date
        At this date or time of day, in UTC: what a call at that second says.
    time
        The time of --block, seconds since 1970, where the lake does not have its header.
    """
    from backtest.account import account_at
    from backtest.cli.replay import only_market
    from backtest.errors import UserError
    from backtest.lake import Lake
    from backtest.protocols.registry import protocol_named
    from backtest.report.tables import moment

    if date is not None and (block is not None or time is not None):
        raise UserError("--date with --block or --time", "give --date alone, or --block")
    if time is not None and block is None:
        raise UserError("--time without --block", "give the block whose time it is, or --date")
    opened = Lake(lake)
    chosen = market or only_market(opened)
    config = opened.market_config(chosen)
    found = account_at(opened, chosen, address, block=block, time=time if date is None else date)
    print(f"{found.account}: market {chosen}, block {found.block}, {moment(found.timestamp)} UTC ({found.timestamp})")
    if found.since < found.block:
        print(f"  no event of the market since block {found.since}: the state after that, with interest to this time")
    if not found.known:
        print("  no event of the market names this account")
    if found.figures is None:
        print(f"  the contract would revert: {found.missing}")
    if not found.figures and found.figures is not None and found.known:
        print("  no position: the protocol tells no figures of an account without one")
    for figure in found.figures or ():
        print(f"  {figure.name:<30} {_whole(figure):<40} {_unit(figure, config.base_currency, config.base_decimals)}")
    for holding in found.holdings:
        sides = (
            ("collateral", holding.collateral, holding.collateral_scaled),
            ("debt", holding.debt, holding.debt_scaled),
        )
        for side, amount, scaled in sides:
            if amount or scaled:
                off = " (not used as collateral)" if side == "collateral" and not holding.collateral_enabled else ""
                print(f"  {side} {found.symbols[holding.asset]}: {amount} native units, {scaled} scaled{off}")
    for symbol in found.inexact:
        print(f"  the price of {symbol} is not known exactly at this moment")
    if evidence := protocol_named(config.protocol).evidence:
        print(f"  these numbers are exact {evidence}: no test runs the contract's bytecode")


def _whole(figure: Figure) -> str:
    return "none" if figure.value is None else str(figure.value)


def _unit(figure: Figure, currency: str, decimals: int) -> str:
    return f"{currency}, {decimals} decimals" if figure.unit == "base" else figure.unit
