"""``backtest crash``: named crashes, what was reported of them, and what replays say."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from backtest.cli.nodes import Nodes
from backtest.errors import UserError, did_you_mean
from backtest.foreign import shown

if TYPE_CHECKING:
    from backtest.crashes import Crash, Ours
    from backtest.lake import Lake


def crash(
    name: str | None = None,
    /,
    *,
    lake: Path | None = None,
    rpc: Nodes = None,
    market: list[str] | None = None,
    finality: str = "finalized",
    illustrate: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """List named crashes; or show one, or replay it: history and the baseline of its markets beside what was reported.

    With a node, what the lake lacks is fetched first, from each market's first block to the end of the event. With a
    lake alone (fetched or imported), its markets are replayed. With neither, what is known is shown. Differences
    between a reported figure and ours (what, where, when) are named, never averaged away.

    Examples:

        backtest crash

        backtest crash 2024-08-05

        backtest crash 2021-05-19 --illustrate

        backtest crash 2025-10-10 --lake data/lake

        backtest crash 2025-10-10 --market gnosis --rpc http://127.0.0.1:8545 --lake data/lake

        backtest crash 2020-03-12 --market maker-eth-a=my-vaults --lake data/lake

    Parameters
    ----------
    name
        Name of a crash, or path of a TOML file like those of data/crashes; without it all are listed.
    lake
        Folder of the lake; with --rpc made if it does not exist, by default crash-NAME.
    rpc
        Address of an archive node of the markets' chain, or a TOML file of providers; given several times, all are
        asked. Give --market where the event was on several chains. Keys are shown nowhere.
    market
        Only this market of the event; NAME=OTHER takes market OTHER of the lake, or of a TOML file where it is to be
        fetched, in its place. May be repeated.
    finality
        With --rpc, as of backtest fetch.
    illustrate
        Replay a model book, which is no one's, along the event's price path.
    """
    from backtest.crashes import find_crash

    if name is None:
        if lake is not None or rpc or illustrate or market:
            raise UserError("no crash named", "give its name; backtest crash lists them")
        _list()
        return
    found = find_crash(name)
    chosen = _chosen(found, market or [])
    if illustrate:
        if lake is not None or rpc or market:
            raise UserError("--illustrate with --lake, --rpc or --market", "a model book needs none of them")
        _illustrate(found)
        return
    if not rpc and lake is None:
        _show(found)
        return
    if not chosen:
        raise UserError(f"crash {found.name} names no market that ships", "backtest crash NAME shows what is known")
    place = lake or Path(f"crash-{found.name}")
    if rpc:
        chosen = _fetch(found, chosen, place, rpc, finality)
    _replay(found, chosen, place)


def _chosen(found: Crash, market: list[str]) -> dict[str, str]:
    """Markets of the event to the lake's own names."""
    if not market:
        return {each: each for each in found.markets}
    out = {}
    for said in market:
        name, _, other = said.partition("=")
        if name not in found.markets:
            raise UserError(f"crash {found.name} has no market '{shown(name, 60)}'", did_you_mean(name, found.markets))
        out[name] = other or name
    return out


def _list() -> None:
    from rich.console import Console
    from rich.table import Table

    from backtest.crashes import shipped

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("crash", "what", "from", "until", "markets here", "reported", "path"):
        table.add_column(column, overflow="fold")
    for each in shipped():
        window = each.windows[0]
        table.add_row(
            each.name,
            each.title,
            window.from_time,
            window.until_time,
            str(len(each.markets)) if each.markets else "none",
            str(len(each.reported)),
            "yes" if each.path is not None else "no",
        )
    Console(highlight=False, markup=False).print(table)
    print("backtest crash NAME shows one; --illustrate replays a model book where there is a path.")


def _show(found: Crash) -> None:
    from backtest.crashes.compare import reported_lines

    print(f"{found.name}: {found.title}. {found.description}")
    for window in found.windows:
        blocks = (
            f"blocks {window.from_block} to {window.to_block}"
            if window.from_block is not None
            else "its blocks are found by these times"
        )
        print(f"chain {window.chain_id}: {window.from_time} until {window.until_time} UTC, {blocks}")
    print(f"markets: {', '.join(found.markets) or 'none of the protocols that were hit ships'}")
    print(f"size of the fetch: {found.size or 'not known'}")
    for fact in found.unknown:
        print(f"not known: {fact}")
    for told in found.reported:
        print()
        for line in reported_lines(told):
            print(line)
    if found.markets:
        print(f"\nReplay it: backtest crash {found.name} --market {found.markets[0]} --rpc URL --lake LAKE")


def _illustrate(found: Crash) -> None:
    from backtest.crashes import illustrated
    from backtest.units import WAD

    if found.path is None or found.book is None:
        raise UserError(
            f"crash {found.name}: no price path of it is known here", "backtest crash lists those that have one"
        )
    path, book = found.path, found.book
    made = illustrated(path, book)

    def units(value: int) -> str:
        return f"{Decimal(value) / WAD:,.0f} {path.debt}"

    print(
        f"ILLUSTRATION, not the event: a model book of {book.accounts:,} accounts, which are no one's, along the price"
        f" of {path.collateral} in {path.debt} of {path.points[0][0]} to {path.points[-1][0]} UTC"
    )
    low, high = (bound / 10_000 for bound in book.healths)
    prices = path.prices()
    print(f"  path          {len(path.points)} points, {path.source}")
    print(f"  its fall      {100 * (1 - min(prices) / prices[0]):.1f} % at most, from the first point")
    print(
        f"  book          {units(made.debt)} in equal debts; healths from {low:g} to {high:g} in equal steps; threshold"
        f" {book.threshold / 100:g} %, bonus {book.bonus / 100 - 100:g} %, close factor {book.close_factor / 100:g} %"
    )
    print("  liquidators   whoever profits, at once and at no cost; sales do not move the price; nobody tops up")
    print(f"  liquidations  {made.liquidations:,} of {made.liquidated:,} accounts")
    print(f"  debt repaid   {units(made.repaid)}")
    print(f"  collateral    {units(made.seized)} taken, at the path's prices")
    print(f"  bad debt      {units(made.bad_debt)}")
    print("Reported of the event (of other books, so that nothing here is to be compared with it):")
    for told in found.reported:
        print(f"  {told.what}: {told.number:,f} {told.unit} ({told.scope}; {told.source}, {told.tag})")


def _fetch(found: Crash, chosen: dict[str, str], lake: Path, rpc: list[str], finality: str) -> dict[str, str]:
    """Fetch up to the end of the event what the lake lacks of each market; markets of the event to the lake's names."""
    from backtest.cli.fetch import fetch, named_market

    names = {}
    for name, own in chosen.items():
        config = named_market(own, lake)
        window = found.window(config.chain_id)
        last = str(window.to_block) if window.to_block is not None else window.until_time
        print(f"{name}: {found.size or 'size of the fetch not known'}; from block {config.start_block} to {last}")
        fetch(config.protocol, lake=lake, market=own, rpc=rpc, to_block=last, finality=finality)
        names[name] = config.name
    return names


def _replay(found: Crash, chosen: dict[str, str], place: Path) -> None:
    from backtest.crashes import beside
    from backtest.lake import Lake

    opened = Lake(place)
    held = {name: own for name, own in chosen.items() if own in opened.markets()}
    if not held:
        raise UserError(
            f"{place} holds none of the markets of crash {found.name} ({', '.join(chosen.values())})",
            f"it holds: {', '.join(opened.markets()) or 'none'}; fetch or import one, or give --market NAME=OTHER",
        )
    ours = [_ours(opened, found, name, own) for name, own in held.items()]
    print(f"{found.name}: {found.title}. {found.description}")
    for one in ours:
        print(f"{one.market}: {one.blocks} ({one.times}); runs 'history of {found.name}', 'baseline of {found.name}'")
    for line in beside(found, ours):
        print(line)


def _ours(lake: Lake, found: Crash, name: str, own: str) -> Ours:
    """What history and the baseline of a market's window say; both runs are stored."""
    from backtest.cli.moments import window_of
    from backtest.cli.replay import progress_bar
    from backtest.crashes import Ours
    from backtest.results import require_current, run_all
    from backtest.scenario import Competitive, Scenario, seconds_of

    config = lake.market_config(own)
    window = found.window(config.chain_id)
    require_current(lake, own)
    begin, until = seconds_of(window.from_time, "from_time"), seconds_of(window.until_time, "until_time")
    ((first_time, last_time),) = lake.sql(
        f"SELECT min(timestamp), max(timestamp) FROM blocks WHERE market = '{own}'"
    ).fetchall()
    if last_time is None or last_time < begin or first_time >= until:
        held = "nothing" if last_time is None else f"{_moment(first_time)} to {_moment(last_time)} UTC"
        raise UserError(
            f"the history of '{own}' is {held}, crash {found.name} was {window.from_time} until {window.until_time}",
            f"fetch what is missing: backtest crash {found.name} --market {name} --rpc URL --lake {lake.path}",
        )
    if window.from_block is not None:
        first, last = str(window.from_block), str(window.to_block)
    else:
        first, last = _moment(max(begin, first_time)), _moment(min(until - 1, last_time))
    low, high = window_of(lake, own, first, last)
    wanted = [
        Scenario(name=f"history of {found.name}", from_block=low, to_block=high),
        Scenario(name=f"baseline of {found.name}", liquidators=Competitive(), from_block=low, to_block=high),
    ]
    with progress_bar() as progress:
        stored = list(run_all(lake, own, wanted, progress=progress))
    lake.refresh()
    history, baseline = (_measured(lake, run.run_id, config.base_decimals) for run in stored)
    cut = "" if last_time >= until - 3_600 else ", where the history ends"
    return Ours(
        own, name, config.base_currency, f"blocks {low} to {high}", f"{first} to {last} UTC{cut}", history, baseline
    )


def _measured(lake: Lake, run_id: str, decimals: int) -> dict[str, Decimal]:
    ((repaid, seized, fee, bad, liquidations, accounts),) = lake.sql(
        "SELECT repaid_base, seized_base, protocol_fee_base, bad_debt_base, liquidations, accounts_liquidated FROM"
        f" run_summary WHERE run_id = '{run_id}'"
    ).fetchall()
    amounts = {"repaid": repaid, "seized": seized + fee, "bad_debt": bad or 0}
    return {
        **{measure: Decimal(value).scaleb(-decimals) for measure, value in amounts.items()},
        "liquidations": Decimal(liquidations),
        "accounts": Decimal(accounts),
    }


def _moment(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S")
