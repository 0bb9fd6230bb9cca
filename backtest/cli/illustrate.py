"""``backtest illustrate``: a day replayed on assumptions, to see what a mechanism can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from backtest.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from backtest.black_thursday import CellSummary, GridRun, GridTask, Paths, Vaults

PERIOD = 600
"""Seconds for which the last row of a file speaks."""
_MEDIANS = (25, 50, 100, 150, 250)
_NUMBERS = (2, 3, 5, 10)
_STUCK = (0, 3_600)


def illustrate(
    scenario: Literal["black-thursday"],
    /,
    *,
    prices: Path,
    gas: Path,
    gas_column: str = "60.0 Perc",
    vaults: int = 800,
    debt: int = 100_000_000,
    sample: int = 8,
    size_sigma: float = 1.5,
    ratio: int = 300,
    ratio_sigma: float = 0.6,
    caps: Sequence[int] = _MEDIANS,
    cap_sigma: float = 0.75,
    keepers: Sequence[int] = _NUMBERS,
    stuck: Sequence[int] = _STUCK,
    capital: int | None = None,
    seeds: int = 8,
    seed: int = 1,
    jobs: int | None = None,
    rows: Path | None = None,
    output: Path | None = None,
) -> None:
    """Replay Maker's auctions through 12 March 2020 for vaults and keepers that are assumptions, over a grid of what
    keepers were like.

    An illustration: prices and gas are the day's, rules are Maker's of that day (and those of 2021 beside them), vaults
    and keepers are drawn from the distributions given here, and nothing is fitted to the outcome. Keepers take part
    when gas is at or below their cap. It prints the share of auctions won for nothing and the shortfall, with and
    without the spike of gas and under Liquidations 2.0, and for which keepers the share is
    that of the day. More: docs/black-thursday.md.

    Examples:

        backtest illustrate black-thursday --prices eth_usd_10m_2020-03-12.csv --gas gas_gwei_10m_2020-03-12.csv

        backtest illustrate black-thursday --prices eth.csv --gas gas.csv --keepers 3 --keepers 6 --output page.html

    Parameters
    ----------
    scenario
        Which one.
    prices
        CSV of the market: time_period_start (UTC), price_open (US dollars).
    gas
        CSV of gas prices: timestamp (UTC), and a column in wei.
    gas_column
        Column of the gas price that a call must offer.
    vaults
        Number of vaults.
    debt
        Their debt together, DAI.
    sample
        One in so many vaults is replayed and counts so many times; 1 replays all.
    size_sigma
        Spread of their debts: standard deviation of the logarithm.
    ratio
        Median collateral ratio when the day begins, percent.
    ratio_sigma
        Spread of what ratios have above 150 percent: standard deviation of the logarithm.
    caps
        Medians of keepers' highest gas price, gwei; give it several times.
    cap_sigma
        Spread of caps: standard deviation of the logarithm.
    keepers
        Numbers of keepers; give it several times.
    stuck
        Seconds for which a keeper is out once gas passed its cap; give it several times.
    capital
        Each keeper's own DAI; without it they have what they need.
    seeds
        Draws of vaults and caps for each point of the grid.
    seed
        The first of them.
    jobs
        Processes; all processors without it.
    rows
        Write the grid as CSV.
    output
        Write a page with heat maps.
    """
    from backtest.black_thursday import GridTask, Vaults, cells, summarised
    from backtest.report.illustration import as_text, write_page

    if seeds < 1 or not 0 <= seed < 2**63:
        raise UserError(f"--seeds {seeds} --seed {seed}", "give at least one seed, and the first of them as 0 or more")
    for option, values, least in (("caps", caps, 1), ("keepers", keepers, 1), ("stuck", stuck, 0)):
        if not values or min(values) < least or len(set(values)) < len(values):
            raise UserError(f"--{option} {' '.join(map(str, values))}", f"give numbers of at least {least}, each once")
    if capital is not None and capital < 1:
        raise UserError(f"--capital {capital}", "give whole DAI, 1 or more, or leave it out")
    if min(size_sigma, ratio_sigma, cap_sigma) < 0:
        raise UserError("a negative spread (--size-sigma, --ratio-sigma, --cap-sigma)", "give 0 or more")
    book = Vaults(vaults, debt, sample, size_sigma, ratio * 100, ratio_sigma)
    paths = read_paths(prices, gas, gas_column)
    grid = cells(caps, keepers, stuck, cap_sigma, capital)
    tasks = [GridTask(cell, number, book, paths) for cell in grid for number in range(seed, seed + seeds)]
    with _bar(len(tasks)) as advance:
        runs = _performed(tasks, jobs, advance)
    summaries = summarised(runs)
    facts = _facts(book, paths, gas_column, cap_sigma, capital, seeds, seed)
    flat = [_flat(each) for each in summaries]
    print(as_text(flat, facts))
    if rows is not None:
        _write_rows(flat, rows)
    if output is not None:
        write_page(flat, facts, output)
        print(f"\nPage: {output}")


def read_paths(prices: Path, gas: Path, gas_column: str) -> Paths:
    """Both files as one day. UserError where a column is missing or a value is none."""
    from backtest.black_thursday import Paths
    from backtest.units import WAD

    market = _column(prices, "time_period_start", "price_open")
    fees = _column(gas, "timestamp", gas_column)
    return Paths(
        times=list(market),
        prices=[int(value * WAD) for value in market.values()],
        gas_times=list(fees),
        gas=[int(value.to_integral_value(rounding="ROUND_HALF_EVEN")) for value in fees.values()],
        end=max(*market, *fees) + PERIOD,
    )


def _column(path: Path, time: str, value: str) -> dict[int, Any]:
    """Times (seconds) and values of a CSV file, in order of time."""
    import csv
    from datetime import UTC, datetime
    from decimal import Decimal, InvalidOperation

    found: dict[int, Decimal] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for name in (time, value):
            if name not in (reader.fieldnames or ()):
                raise UserError(f"{path} has no column '{name}'", did_you_mean(name, list(reader.fieldnames or ())))
        for line, row in enumerate(reader, start=2):
            try:
                moment = datetime.fromisoformat(row[time].rstrip("Z")[:19]).replace(tzinfo=UTC)
                number = Decimal(row[value])
            except (ValueError, InvalidOperation):
                raise UserError(
                    f"{path}, line {line}: '{row[time]}', '{row[value]}'",
                    "give a time as 2020-03-12T00:10:00 and a number",
                ) from None
            if int(moment.timestamp()) in found:
                raise UserError(f"{path}, line {line}: {row[time]} is there twice", "keep one row for each time")
            found[int(moment.timestamp())] = number
    if not found:
        raise UserError(f"{path} has no rows", "give one for each time of the day")
    return dict(sorted(found.items()))


def _performed(tasks: Sequence[GridTask], jobs: int | None, advance: Callable[[], None]) -> list[GridRun]:
    """All runs in the order of their tasks, by processes of this machine where that is worth it."""
    import multiprocessing
    import os
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from backtest.black_thursday import perform

    workers = min(jobs or os.cpu_count() or 1, len(tasks))
    if workers < 2:
        done = []
        for task in tasks:
            done.append(perform(task))
            advance()
        return done
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        futures = [pool.submit(perform, task) for task in tasks]
        for _ in as_completed(futures):
            advance()
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, gone when done; none where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TextColumn("days"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replaying", total=total)
        yield lambda: bar.advance(task)


def _flat(summary: CellSummary) -> dict[str, Any]:
    """One row of the grid; None where nothing was auctioned."""
    cell, keepers = summary.cell, summary.cell.keepers
    flat: dict[str, Any] = {
        "rules": cell.rules,
        "gas": cell.gas,
        "keepers": keepers.number,
        "cap_median_gwei": keepers.cap_median,
        "stuck_seconds": keepers.stuck,
        "seeds": summary.seeds,
    }
    for name in ("auctions", "free_share", "free_value", "shortfall", "recovered", "waiting"):
        mean = getattr(summary, name)
        flat |= {name: mean and mean.value, f"{name}_low": mean and mean.low, f"{name}_high": mean and mean.high}
    return flat


def _facts(
    book: Vaults, paths: Paths, gas_column: str, cap_sigma: float, capital: int | None, seeds: int, seed: int
) -> list[str]:
    """What the illustration assumes, in sentences."""
    calm = paths.calm_gas() / 1e9
    own = f"{capital:,} DAI of its own" if capital is not None else "as much DAI as it needs"
    return [
        (
            f"Vaults are assumed: {book.number:,} with {book.debt:,} DAI together, log-normal debts (sigma"
            f" {book.size_sigma:g}), collateral ratios above 150 % with a median of {book.ratio_median / 100:g} %"
            f" (sigma {book.ratio_sigma:g}). Nobody tops up. One in {book.sample} is replayed and counts {book.sample}"
            " times; amounts grow in proportion to the book."
        ),
        (
            f"Keepers are assumed: caps on the gas price are log-normal (sigma {cap_sigma:g}) around the median given;"
            f" each keeper has {own} and values a lot at the market's price of that moment less its calls; DAI counts"
            " as one dollar. They take part when gas is at or below their cap, and for nothing else."
        ),
        (
            f"Gas is the column '{gas_column}' of the file; without the spike it is the median of the first six hours,"
            f" {calm:.3g} gwei, all day."
        ),
        (
            "Which vaults are unsafe the oracle decides: the market's price cut to full hours and an hour old (OSM)."
            " Bites, and ends of auctions, happen at once whatever gas is."
        ),
        (
            "Rules 1.0: lump 50 ETH, bids live 10 minutes, auctions 3 days, steps of 3 % (in force until the spell of"
            " 12 March 2020). Rules 2.0: those of ETH-A from 30 April 2021."
        ),
        (
            "Most auctions open at a few full hours, when the oracle steps, and keepers differ in nothing but their"
            " caps: a draw gives away nearly all of them or nearly none, and a mean over draws is close to how probable"
            " that is."
        ),
        (
            f"Means over {seeds} draws of vaults and caps (seeds {seed} to {seed + seeds - 1}) with Student's 95 %"
            " intervals. Nothing was fitted to the outcome."
        ),
    ]


def _write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    import csv

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
