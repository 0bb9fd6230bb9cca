"""``backtest calibrate``: parameters of a scenario from data, with how well they fit."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from backtest.cli.calibrate_baseline import baseline
from backtest.cli.calibrate_users import users
from backtest.cli.moments import FIRST, LAST, bound
from backtest.cli.numbers import Real, Whole
from backtest.cli.rows import days, listed, period, rows_of, text_table
from backtest.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from backtest.calibration.fitting import Test
    from backtest.calibration.latency import TimedLiquidation
    from backtest.calibration.participation import ParticipationFit

calibrate = App(
    name="calibrate",
    help="""Fit what a scenario says about competition and costs to data, and write it as TOML.

Every fit is tested on rows that it did not see. Without --out the TOML is printed, what it rests on being its
comments; it may be put into the file of a scenario as it is (docs/calibration.md).

Examples:

    backtest calibrate participation --single-share 0.36 --conditional

    backtest calibrate latency liquidations.csv --block-seconds 0.25 --out race.toml

    backtest calibrate oracle --lake data/lake --market my-vaults --out derived_oracle.csv

    backtest calibrate baseline --lake data/lake --market my-pool --out ensemble.toml

    backtest calibrate users --lake data/lake --market my-pool --out users.toml
""",
    help_format="plaintext",
)
calibrate.command(baseline)
calibrate.command(users)

USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
# Decimals of US dollar stablecoins of Ethereum by address, as their contracts say.
DOLLARS = {
    USDC: 6,
    "0xdac17f958d2ee523a2206206994597c13d831ec7": 6,  # USDT
    "0x6b175474e89094c44da98b954eedeac495271d0f": 18,  # DAI
    "0x0000000000085d4780b73119b644ae5ecd22b376": 18,  # TUSD
    "0x8e870d67f660d95d5be530380d0ec0bd388289e1": 18,  # USDP
}
CALM = 0.05
"""A day on which no price went further than this is called calm."""


@calibrate.command
def latency(
    file: Path,
    *,
    block_seconds: Real,
    split: Real = 0.7,
    limit: Whole = 100,
    searchers: Whole = 5,
    from_block: str | None = None,
    to_block: str | None = None,
    seed: Whole = 0,
    draws: Whole = 199,
    out: Path | None = None,
) -> None:
    """Fit how long liquidations take after the oracle's update, for kind = "latency-race".

    Several distributions are fitted by maximum likelihood, given that distances are below the limit; the one that gives
    the later rows the highest likelihood is named. The race draws exponential times: what is written is the exponential
    fit of all rows, and how far it is from the data is said.

    Examples:

        backtest calibrate latency aave_compound_arbitrum.csv --block-seconds 0.25 --from-block 22207817 --out race.toml

    Parameters
    ----------
    file
        CSV with a row for each liquidation: tx, block, dist (blocks from the update; empty where none was found); ts
        and uts (seconds of both) and ub (block of the update) where known.
    block_seconds
        Seconds a block takes.
    split
        Share of the rows, by time, that is fitted; the rest is held out.
    limit
        Distances from this on were not looked for, or are left out.
    searchers
        How many are assumed to race, all alike: the mean latency of each is this many times that of the fastest.
    from_block
        First block that counts, or a date or time in UTC, which the rows' ts is held against.
    to_block
        Last block that counts, or a date or time in UTC.
    seed
        Seed of the draws for p-values.
    draws
        How many of them.
    out
        File to write the TOML to.
    """
    from backtest.calibration import latency as fits
    from backtest.calibration.fitting import fragment, ks_test, split_at

    if block_seconds <= 0 or limit < 2 or searchers < 1 or draws < 1:
        raise UserError(
            "--block-seconds, --limit, --searchers or --draws is too small",
            "give seconds above zero, a limit of 2 or more, the others 1",
        )
    rows, left_out = _distances(file, limit, from_block, to_block)
    first = split_at(len(rows), split)
    while first < len(rows) and rows[first].update == rows[first - 1].update is not None:
        first += 1  # liquidations under one update stay together
    early, late = (fits.tally([row.distance for row in part], limit) for part in (rows[:first], rows[first:]))
    if not late.any():
        raise UserError(f"{file}: nothing is held out", "give a smaller --split")
    ranked = fits.candidates(early, late)
    best = fits.fit(ranked[0].fit.family, early + late)
    race = fits.fit(fits.EXPONENTIAL, early + late)
    floor, each = fits.race_of(race, searchers=searchers, block_seconds=block_seconds)
    own, shared = fits.own_seconds(rows), fits.sharing(rows)
    unseen = ks_test(late, ranked[0].fit.probabilities, seed=seed, draws=draws)
    notes = [
        (
            f"A latency race, fitted on {file.name}: {len(rows):,} liquidations,"
            f" {period(row.seconds for row in rows)}blocks {rows[0].block} to {rows[-1].block}."
        ),
        f"Left out: {listed(left_out)}.",
        (
            f"Distances below {limit} blocks, given that they are; the first {first:,} rows are fitted, the other"
            f" {len(rows) - first:,} held out."
        ),
        "",
        *text_table(
            ("distribution", "log-likelihood a row", "held out", "parameters (blocks)"),
            [(one.fit.family.name, f"{one.fitted:.4f}", f"{one.held_out:.4f}", one.fit.described()) for one in ranked],
        ),
        "",
        (
            f"Best on what was held out: {best.family.name}. On held-out rows its {_ks(unseen)}; fitted on all rows"
            f" {best.described()}, {_ks(fits.tested(best, early + late, seed=seed, draws=draws))}; {best.beyond:.1%}"
            f" would lie at {limit} blocks or beyond."
        ),
        (
            f"The race draws exponential times; fitted on all rows: {race.described()},"
            f" {_ks(fits.tested(race, early + late, seed=seed, draws=draws))}."
        ),
        "",
        *text_table(
            ("blocks", "half", "90 %", "99 %"),
            [
                ("data", *(str(_quantile([row.distance for row in rows], share)) for share in (0.5, 0.9, 0.99))),
                (best.family.name, *(str(best.quantile(share)) for share in (0.5, 0.9, 0.99))),
                ("race", *(str(race.quantile(share)) for share in (0.5, 0.9, 0.99))),
            ],
        ),
        "",
        "What falls short:",
        (
            f"- Only winners are seen: that {searchers} race, all alike, is assumed; each has {searchers} times the"
            " winner's mean."
        ),
        (
            f"- A block is taken to last {block_seconds:g}"
            f" s{'' if own is None else f'; the file says {own:.3g} s from update to liquidation'}."
        ),
        (
            "- In a replay latencies say who is first, and nobody is late for a block: what counts is how they differ"
            " between searchers."
        ),
        "- Who was liquidated without an update found, or later than the limit, is not in it: latency is understated.",
        *(
            []
            if best.family is fits.EXPONENTIAL
            else [f"- The times are {best.family.name}, those of the race exponential: see the table."]
        ),
        *(
            [
                f"- {shared:,} of the liquidations follow an update that others follow too: p-values take them as"
                " independent."
            ]
            if shared
            else []
        ),
    ]
    table = {
        "kind": "latency-race",
        "race": "exponential",
        "floor": floor,
        "block_seconds": max(1, round(block_seconds)),
    }
    alike = [{"name": f"searcher-{number}", "latency": each} for number in range(1, searchers + 1)]
    _give(fragment(notes, {"liquidators": table, "liquidators.searchers": alike}), out)


@calibrate.command
def participation(
    file: Path | None = None,
    *,
    single_share: Real | None = None,
    recapture: Real | None = None,
    none_share: Real | None = None,
    mean: Real | None = None,
    conditional: Annotated[bool, Parameter(negative="")] = False,
    column: str = "bidders",
    split: Real = 0.7,
    out: Path | None = None,
) -> None:
    """How many searchers show up, for kind = "participation": from a published share, or from counts of bidders.

    A Poisson mean from the share of single bidders or from the share recaptured; a negative binomial from a mean and
    the share of auctions without bidders; or both distributions by maximum likelihood from a file, the better one on
    what was held out being written.

    Examples:

        backtest calibrate participation --single-share 0.36 --conditional

        backtest calibrate participation --recapture 0.73

        backtest calibrate participation --mean 3.3 --none-share 0.2

        backtest calibrate participation auctions.csv --out keepers.toml

    Parameters
    ----------
    file
        CSV with a row for each auction in order of time, and a column with its number of bidders.
    single_share
        Share of auctions with exactly one bidder.
    recapture
        Share of what was at stake that was bid, auctions without bidders included.
    none_share
        Share of auctions without bidders; with --mean.
    mean
        Mean number of bidders, auctions without any included; with --none-share.
    conditional
        Only auctions with at least one bidder were counted.
    column
        Name of the column.
    split
        Share of the rows that is fitted; the rest is held out.
    out
        File to write the TOML to.
    """
    from backtest.calibration import participation as fits
    from backtest.calibration.fitting import fragment

    given = [
        name
        for name, value in (
            ("FILE", file),
            ("--single-share", single_share),
            ("--recapture", recapture),
            ("--mean", mean),
        )
        if value is not None
    ]
    if len(given) != 1 or (mean is None) != (none_share is None):
        raise UserError(
            f"{' and '.join(given) or 'nothing'} to fit",
            "give a file, --single-share, --recapture, or --mean and --none-share together",
        )
    if conditional and (recapture is not None or mean is not None):
        raise UserError(f"{given[0]} with --conditional: it counts auctions without bidders", "leave --conditional out")
    if file is not None:
        chosen, notes = _from_counts(file, column, split, conditional)
    elif single_share is not None:
        chosen = fits.ParticipationFit(fits.mean_of_single(single_share, conditional=conditional), None, conditional)
        notes = [
            f"Participation: {single_share:.4g} of the auctions with at least one bidder have exactly one; Poisson with"
            f" a {chosen.described()}."
        ]
    elif recapture is not None:
        chosen = fits.ParticipationFit(fits.mean_of_recapture(recapture), None, False)
        notes = [
            f"Participation: {recapture:.4g} of what is at stake is bid, 1 - e^-m (1 + m); Poisson with a"
            f" {chosen.described()}."
        ]
    else:
        assert mean is not None
        assert none_share is not None
        chosen = fits.ParticipationFit(mean, fits.size_of_none(mean, none_share), False)
        notes = [
            f"Participation: {mean:g} bidders on average, nobody in {none_share:.4g} of auctions; negative binomial"
            f" with a {chosen.described()}."
        ]
    if file is None:
        notes.append("What falls short: one figure solved for exactly, so nothing says how well the distribution fits.")
    most = chosen.most()
    notes.append(f"At most {most} show up: more come in less than one auction of 10,000.")
    notes.append(f"Nobody comes to {chosen.none:.1%} of auctions; {chosen.alone:.1%} have a single bidder.")
    table: dict[str, Any] = {
        "kind": "participation",
        "searchers": most,
        "distribution": chosen.name,
        "mean": round(10_000 * chosen.mean),
    }
    if chosen.size is not None:
        table["dispersion"] = max(1, round(10_000 * chosen.size))
    _give(fragment(notes, {"liquidators": table}), out)


@calibrate.command
def bid_share(file: Path, *, value: Whole | None = None, split: Real = 0.7, out: Path | None = None) -> None:
    """Fit how the share that is bid rises with the number of searchers, for kind = "sealed-bid".

    Least squares of s(n) = 1 - 2 C / ((n + 1) V), C being the range of the searchers' private costs.

    Examples:

        backtest calibrate bid-share bids.csv --value 5000000000 --out bids.toml

    Parameters
    ----------
    file
        CSV with a row for each auction in order of time: searchers, share (paid over what was at stake), and value
        (base units) if known.
    value
        What is at stake in a typical auction, base units (1e8 = one US dollar on the main markets); needed where the
        file has no values.
    split
        Share of the rows that is fitted; the rest is held out.
    out
        File to write the TOML to.
    """
    import numpy as np

    from backtest.calibration import bid_share as fits
    from backtest.calibration.fitting import fragment, split_at

    every = list(rows_of(file, ("searchers", "share")))
    rows = [row for row in every if row.whole("searchers", 0) > 1]
    valued = bool(rows) and rows[0].has("value")
    if valued == (value is not None):
        raise UserError(
            f"{file}: {'values in the file and --value' if valued else 'no column value, and no --value'}",
            (
                "leave --value out"
                if valued
                else "say what is at stake in a typical auction: --value 5000000000, in base units"
            ),
        )
    if value is not None and value < 1:
        raise UserError(f"--value {value}", "give base units, 1 or more")
    searchers = np.array([row.whole("searchers", 2) for row in rows], dtype=np.float64)
    shares = np.array([row.number("share", 0.0) for row in rows])
    values = np.array([row.whole("value", 1) for row in rows], dtype=np.float64) if valued else None
    first = split_at(len(rows), split)
    x = fits.regressor(searchers, values)
    early, whole = fits.fit(x[:first], shares[:first]), fits.fit(x, shares)
    wrong = fits.rmse(shares[first:], early.predicted(x[first:]))
    plain = fits.rmse(shares[first:], np.full(len(rows) - first, shares[:first].mean()))
    cost = round(whole.cost * (1 if value is None else value))
    what = "C" if valued else "C / V"
    counts = sorted({int(number) for number in searchers})
    notes = [
        (
            f"Sealed bids, fitted on {file.name}: {len(rows):,} auctions, {counts[0]} to {counts[-1]} searchers; the"
            f" first {first:,} rows are fitted, the other {len(rows) - first:,} held out; {len(every) - len(rows):,}"
            " with fewer than two are left out: one alone need not bid."
        ),
        (
            f"s(n) = 1 - 2C / ((n + 1) V) by least squares: {what} = {early.cost:.6g} (standard error"
            f" {early.error:.2g}), R^2 {early.r_squared:.3f}; on all rows {whole.cost:.6g} (standard error"
            f" {whole.error:.2g}), R^2 {whole.r_squared:.3f}."
        ),
        f"Error on what was held out (root mean square of the share): {wrong:.4f}; of the mean share {plain:.4f}.",
        *([] if valued else [_lack(fits.lack_of_fit(whole, searchers, shares))]),
        "",
        *text_table(
            ("searchers", "auctions", "mean share", "fitted"),
            [
                (
                    str(n),
                    str(int((searchers == n).sum())),
                    f"{shares[searchers == n].mean():.4f}",
                    f"{whole.predicted(x[searchers == n]).mean():.4f}",
                )
                for n in counts
            ],
        ),
        "",
        (
            "What falls short: costs are taken as even on [0, C] for"
            f" everybody{'' if valued else f', and C as that of an auction worth {value}'}; {int((shares > 1).sum())}"
            " rows paid more than was at stake and are in the fit."
        ),
    ]
    table = {"kind": "sealed-bid", "searchers": int(np.median(searchers)), "private_cost": cost}
    _give(fragment(notes, {"liquidators": table}), out)


@calibrate.command
def depth(
    file: Path,
    *,
    pair: list[str],
    into: str = USDC,
    price: Real | None = None,
    decimals: Whole | None = None,
    base_decimals: Whole = 8,
    out: Path | None = None,
) -> None:
    """Curves of slippage by size from an aggregator's quotes, for model = "depth".

    Slippage is measured against the smallest quotes of each round of quotes. Sizes in base units need to know what the
    token bought is worth: US dollar stablecoins of Ethereum are known, others need --price and --decimals.

    Examples:

        backtest calibrate depth aggregator_quotes_2023-11-20.csv --pair all --out depth.toml

    Parameters
    ----------
    file
        CSV with a row for each quote: src, dst (addresses), in_amount, out_amount (smallest units), timestamp
        (seconds).
    pair
        SRC/DST, addresses of what is sold and bought; may be repeated, one for each token sold. Or all: every token
        that is sold for --into.
    into
        What is bought, with --pair all; default USDC.
    price
        What a whole token bought is worth in the market's base currency; default 1 for stablecoins.
    decimals
        Of the token bought.
    base_decimals
        Of the market's base currency: 8 where 1e8 is one US dollar.
    out
        File to write the TOML to.
    """
    from backtest.calibration import depth as fits
    from backtest.calibration.fitting import fragment

    quotes: dict[str, list[fits.Quote]] = defaultdict(list)
    for row in rows_of(file, ("src", "dst", "in_amount", "out_amount", "timestamp")):
        amounts = (row.number("in_amount", 0.0), row.number("out_amount", 0.0))
        if not all(amounts):
            raise UserError(f"{row.where}: a quote of nothing", "leave the row out")
        quotes[f"{row['src']}/{row['dst']}".lower()].append(fits.Quote(row.whole("timestamp", 0), *amounts))
    if pair == ["all"]:
        chosen = sorted(name for name in quotes if name.endswith(f"/{into.lower()}"))
        if not chosen:
            raise UserError(
                f"{file}: no quotes into {into}",
                did_you_mean(into.lower(), {name.partition("/")[2] for name in quotes}),
            )
    else:
        chosen = [name.lower() for name in pair]
    if len({name.partition("/")[0] for name in chosen}) < len(chosen):
        raise UserError(
            "--pair names a token sold twice", "a scenario has one curve for each: choose what it is sold for"
        )
    notes = [
        (
            f"Depth, from {file.name}. Slippage is against the smallest quotes of each round: fees that those pay too"
            " are not in it."
        ),
        "",
    ]
    lines: list[tuple[str, ...]] = []
    tables: list[dict[str, Any]] = []
    for name in chosen:
        if name not in quotes:
            raise UserError(f"{file}: no quotes of {name}", did_you_mean(name, quotes))
        sold, _, bought = name.partition("/")
        places = DOLLARS.get(bought) if decimals is None else decimals
        worth = 1.0 if price is None and bought in DOLLARS else price
        if places is None or worth is None:
            raise UserError(
                f"{bought} is no stablecoin that is known", "give --price and --decimals of the token bought"
            )
        found = fits.measured(quotes[name])
        unit = worth * 10 ** (base_decimals - places)
        moved = float(found.prices.max() / found.prices.min() - 1)
        wrong = fits.held_out(found.sizes, found.lost)
        on = days([quote.seconds for quote in quotes[name]])
        lines.append(
            (
                sold,
                str(len(found.sizes)),
                str(len(found.prices)),
                f"{moved:.2%}",
                *(f"{10_000 * part:.1f}" for part in wrong[1:]),
            ),
        )
        curve = fits.points(fits.curve(found.sizes, found.lost), unit)
        tables.append(
            {
                "asset": sold,
                "model": "depth",
                "curve": curve,
                "measured": (
                    f"{on}, {'one calm day' if len(on) == 10 and moved <= CALM else f'prices moved by {moved:.1%}'}"
                ),
            }
        )
    notes += text_table(("token sold", "quotes", "rounds", "price range", "median error", "90 %", "mean error"), lines)
    notes += [
        "",
        (
            "Errors in basis points, at every second quote of a curve from the others; the mean is what the curve"
            " overstates."
        ),
        (
            "What falls short: quotes of one aggregator, other routes at the same moment not counted; in a crash depth"
            " is a fraction of it."
        ),
        "Stress it: depth = 2500 leaves a quarter.",
    ]
    _give(fragment(notes, {"costs.slippage": tables}), out)


@calibrate.command
def oracle(
    *,
    lake: Path,
    market: str | None = None,
    patience: Whole | None = None,
    to_block: str | None = None,
    out: Path | None = None,
) -> None:
    """The oracle's price as it must have been, from what the chain accepted.

    Where an asset's oracle is known by a venue's prices only: for each of its steps the interval that the venue's
    range, borrows and withdrawals that passed, liquidations that happened and accounts that stood leave, and how much
    of that holds without an account's own evidence. Where the oracle is known, the book is held against it.

    Examples:

        backtest calibrate oracle --lake data/lake --market maker-eth-b --out derived_oracle.csv

        backtest import derived-oracle --market maker-eth-b --source steps=derived_oracle.csv --lake data/lake

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Market; may be left out where the lake holds one.
    patience
        An account says something by standing under one price for more seconds than these; default: what 95 % of the
        market's own liquidations took at most.
    to_block
        Last block that counts, or a date or time in UTC.
    out
        File to write the paths to, as CSV: a row for each step, with its interval and what bounds it.
    """
    from backtest.cli.calibrate_oracle import told, written
    from backtest.cli.moments import window_of
    from backtest.cli.replay import only_market
    from backtest.lake import Lake
    from backtest.oracle_path import paths

    opened = Lake(lake)
    chosen = market or only_market(opened)
    _, last = window_of(opened, chosen, None, to_block)
    if patience is not None and patience < 0:
        raise UserError(f"--patience {patience} is negative", "give 0 or more seconds")
    found = paths(opened, chosen, patience=patience, to_block=last)
    print("\n".join(told(found)))
    if out is not None:
        print(f"written: {written(found, out)} to {out}")


def _distances(
    file: Path, limit: int, from_block: str | None, to_block: str | None
) -> tuple[list[TimedLiquidation], dict[str, int]]:
    """The liquidations of a file in order, one of each transaction, and how many rows were left out and why."""
    from backtest.calibration.latency import TimedLiquidation

    found: dict[str, TimedLiquidation] = {}
    left_out = dict.fromkeys(
        (
            "without an update found",
            "outside the blocks chosen",
            f"at {limit} blocks or beyond",
            "of a transaction already counted",
        ),
        0,
    )
    missing, outside, beyond, repeated = left_out
    first, last = bound(from_block, FIRST), bound(to_block, LAST)
    for number, row in enumerate(rows_of(file, ("tx", "block", "dist"))):
        block = row.whole("block", 0)
        begin, end = (row.whole("ts", 0) if dated else block for _, dated in (first, last))
        if not (first[0] or 0) <= begin or not end <= (end if last[0] is None else last[0]):
            left_out[outside] += 1
        elif not row.has("dist"):
            left_out[missing] += 1
        elif (distance := row.whole("dist", 0)) >= limit:
            left_out[beyond] += 1
        elif row["tx"] in found:
            left_out[repeated] += 1
        else:
            seconds, since = (row.whole(name, 0) if row.has(name) else None for name in ("ts", "uts"))
            found[row["tx"]] = TimedLiquidation(
                block,
                row.whole("idx", 0) if row.has("idx") else number,
                distance,
                row.whole("ub", 0) if row.has("ub") else None,
                seconds,
                None if seconds is None or since is None else seconds - since,
            )
    return sorted(found.values()), left_out


def _from_counts(file: Path, column: str, split: float, conditional: bool) -> tuple[ParticipationFit, list[str]]:
    """The better of both distributions of the bidders in a file, fitted on all rows, and what to say about it."""
    import numpy as np

    from backtest.calibration import participation as fits
    from backtest.calibration.fitting import split_at

    bidders = np.array([row.whole(column, 1 if conditional else 0) for row in rows_of(file, (column,))], dtype=np.int64)
    first = split_at(len(bidders), split)
    early, late = (fits.tally(part, int(bidders.max())) for part in (bidders[:first], bidders[first:]))
    ranked = fits.candidates(early, late, conditional=conditional)
    best = (fits.poisson if ranked[0].fit.size is None else fits.negative_binomial)(
        early + late, conditional=conditional
    )
    test = fits.tested(best, early + late, best.parameters)
    notes = [
        (
            f"Participation, fitted on {file.name}: {len(bidders):,}"
            f" auctions{' with at least one bidder' if conditional else ''}; the first {first:,} are fitted, the other"
            f" {len(bidders) - first:,} held out."
        ),
        "",
        *text_table(
            ("distribution", "log-likelihood an auction", "held out", "chi-square", "held out", "parameters"),
            [
                (
                    one.fit.name,
                    f"{one.fitted:.4f}",
                    f"{one.held_out:.4f}",
                    _chi(one.test),
                    _chi(one.test_held_out),
                    one.fit.described(),
                )
                for one in ranked
            ],
        ),
        "",
        f"Best on what was held out: {best.name}; on all rows {best.described()}, chi-square {_chi(test)}.",
        "What falls short: numbers of bidders are taken as independent of size, time and gas.",
    ]
    return best, notes


def _give(text: str, out: Path | None) -> None:
    """Print a fragment; or write it, and print what it rests on."""
    if out is None:
        print(text, end="")
        return
    out.write_text(text, encoding="utf-8")
    print("\n".join(line[2:] for line in text.splitlines() if line.startswith("#")))
    print(f"written: {out}")


def _ks(test: Test) -> str:
    return f"Kolmogorov-Smirnov distance is {test.statistic:.4f} (p {test.p_value:.3f})"


def _chi(test: Test) -> str:
    return (
        f"{test.statistic:.1f} ({test.freedom} df,"
        f" {'too few cells' if test.p_value is None else f'p {test.p_value:.3g}'})"
    )


def _lack(test: Test) -> str:
    if test.p_value is None:
        return "Too few auctions of one number of searchers to test the line against their means."
    return (
        f"Against a mean for each number of searchers: F {test.statistic:.2f} (p {test.p_value:.3g}); a small p says"
        " that the line is not theirs."
    )


def _quantile(distances: Sequence[int], share: float) -> int:
    """The distance at or below which this share of them lies."""
    return sorted(distances)[math.ceil(share * len(distances)) - 1]
