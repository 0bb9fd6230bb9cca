"""The Black Thursday illustration on made-up days, and on the real one where its files are at hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.black_thursday import (
    Cell,
    GridRun,
    GridTask,
    Gwei,
    Keepers,
    Mean,
    Paths,
    Vaults,
    cells,
    perform,
    region,
    summarised,
)
from backtest.black_thursday.day import RULES_1_0, RULES_2_0, market_of
from backtest.cli import main
from backtest.cli.illustrate import read_paths
from backtest.errors import UserError
from backtest.model import MarketPrice, PriceUpdate
from backtest.protocols.maker import MAKER
from backtest.replay.competition.draws import Draws
from backtest.replay.engine import replay
from backtest.scenario import Costs, Gas, Participation, Scenario, Searcher
from backtest.units import BPS, RAY, WAD
from tests.support.maker_exports import real_folder

MIDNIGHT = 1_583_971_200  # 2020-03-12
HOURS = 12
TIMES = [MIDNIGHT + 600 * i for i in range(6 * HOURS)]
FALL = 4 * 6
"""The row in which the price falls from 200 to 120 and gas rises from 10 to 150 gwei, for three hours."""
DAY = Paths(
    times=TIMES,
    prices=[(200 if i < FALL else 120) * WAD for i in range(len(TIMES))],
    gas_times=TIMES,
    gas=[(150 if FALL <= i < FALL + 18 else 10) * Gwei for i in range(len(TIMES))],
    end=TIMES[-1] + 600,
)
BOOK = Vaults(number=16, debt=1_600_000, sample=2, ratio_median=25_000)
FEW = Keepers(number=4, cap_median=100, cap_sigma=0.5)


def run(cell: Cell, seed: int = 1, book: Vaults = BOOK) -> GridRun:
    return perform(GridTask(cell, seed, book, DAY))


def test_a_spike_of_gas_with_auctions_of_fixed_length_makes_zero_bids() -> None:
    """Keepers with caps around 100 gwei: without the spike all four are there and nothing is given away; with it, in
    some draws, one alone is.
    """
    spike = [run(Cell(10, "day", FEW), seed) for seed in range(1, 9)]
    calm = [run(Cell(10, "calm", FEW), seed) for seed in range(1, 9)]
    assert [one.free for one in calm] == [0] * 8
    assert all(one.closed == one.opened > 0 for one in calm)
    assert sum(one.free for one in spike) > sum(one.closed for one in spike) // 10
    assert sum(one.shortfall for one in spike) > 0 == sum(one.shortfall for one in calm)


def test_who_is_alone_follows_from_the_caps_and_nothing_else() -> None:
    """Of each draw: everything for nothing where one cap is at or above the spike, nothing for nothing where two are;
    none: gas comes back first.
    """
    seen = set()
    for seed in range(1, 13):
        above = sum((searcher.gas_cap or 0) >= 150 * Gwei for searcher in FEW.drawn(Draws(seed)))
        one = run(Cell(10, "day", FEW), seed)
        assert one.free == (one.closed if above == 1 else 0)
        seen.add(min(above, 2))
    assert seen == {0, 1, 2}


def test_dutch_auctions_never_sell_for_nothing() -> None:
    """Where nobody can act for hours the price falls until a reset: to cusp times buf, 0.52 of the oracle's price, and
    no lower.
    """
    runs = [run(Cell(20, "day", FEW), seed) for seed in range(1, 9)]
    assert [one.free for one in runs] == [0] * 8
    assert all(one.paid * 100 >= one.sold_value * 52 for one in runs if one.closed)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    cell = Cell(10, "day", replace(FEW, stuck=3_600))
    assert run(cell) == run(cell)
    assert run(cell) != replace(run(cell, seed=2), seed=1)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, 5),
    st.sampled_from((20, 100, 300)),
    st.sampled_from((0, 3_600)),
    st.sampled_from((None, 50_000, 1_000_000)),
    st.sampled_from((10, 20)),
)
def test_nothing_is_lost_on_the_way_through_auctions(
    seed: int, number: int, median: int, stuck: int, capital: int | None, rules: int
) -> None:
    """Collateral: seized from vaults, bought, given back, or under auction. DAI: what vaults owed was paid or is short,
    or is still under auction; nobody pays more than a lot is worth, and nobody has more in auctions than it owns.
    """
    vaults = BOOK.drawn(DAY.prices[0], Draws(seed))
    market, timeline = market_of(DAY, vaults, RULES_1_0 if rules == 10 else RULES_2_0)
    keepers = Keepers(number, median, 0.75, stuck, capital).drawn(Draws(seed)) if number else ()
    gas = Gas(fee="constant", base_fee=150 * Gwei)
    scenario = Scenario(
        liquidators=Participation(searchers=keepers, distribution="searchers"),
        costs=Costs(gas=gas),
        from_block=2,
        seed=seed,
    )
    result = replay(MAKER, market, timeline, scenario)
    state, lots = result.book.state, {}
    for row in result.liquidations:
        assert row.lot is not None
        lots.setdefault(row.lot, []).append(row)
        if row.fill.seized and row.stage != "opened":
            assert row.fill.repaid <= row.fill.seized * result.book.oracle[0] // WAD + 1 or row.profit_base >= 0
    for steps in lots.values():
        opened, sold = steps[0].fill, [row.fill for row in steps[1:] if row.fill.seized]
        assert sum(fill.seized for fill in sold) <= opened.seized
        if steps[-1].step == "deal":
            short = sum(deficit.amount for deficit in result.deficits if deficit.liquidation == steps[-1].ordinal)
            assert sum(fill.repaid for fill in sold) + short >= opened.repaid
    bitten = sum(steps[0].fill.seized for steps in lots.values())
    assert sum(ink for ink, _ in vaults) == bitten + sum(state.ink.values())
    assert sum(art for _, art in vaults) == sum(steps[0].fill.repaid for steps in lots.values()) + sum(
        state.art.values()
    )
    if not number:
        assert {row.step for row in result.liquidations} <= {"bite", "bark", "redo"}


def test_the_oracle_is_the_market_an_hour_ago_at_full_hours() -> None:
    _, timeline = market_of(DAY, BOOK.drawn(200 * WAD, Draws(1)), RULES_1_0)
    assert [(event.timestamp, event.price) for event in timeline if isinstance(event, MarketPrice)] == list(
        zip(DAY.times, DAY.prices, strict=True)
    )
    steps = [
        ((event.timestamp - MIDNIGHT) / 3_600, event.price)
        for event in timeline
        if isinstance(event, PriceUpdate) and event.asset == 0
    ]
    assert steps == [(0, 200 * WAD), *((hour, (200 if hour < 5 else 120) * WAD) for hour in range(1, HOURS))]


def test_a_day_that_begins_within_a_row_begins_at_its_price() -> None:
    late = [MIDNIGHT + 900 + 600 * i for i in range(10)]
    paths = replace(DAY, prices=[(200 + i) * WAD for i in range(len(TIMES))], gas_times=late, gas=[Gwei] * 10)
    _, timeline = market_of(paths, [], RULES_1_0)
    traded = [(event.timestamp, event.price) for event in timeline if isinstance(event, MarketPrice)]
    assert traded[:2] == [(MIDNIGHT + 900, 201 * WAD), (MIDNIGHT + 1_200, 202 * WAD)]


def test_lots_are_worth_the_market_price_of_the_moment_and_vaults_are_unsafe_at_the_oracle_s() -> None:
    """The market falls from 200 to 120 after four hours, which the oracle says an hour later: two lots of one vault. By
    then it is at 110, and ten
    minutes later at 130, while the oracle still says 120: two bidders whose calls cost nothing raise each other to all
    of it, and again while bids stand, which here is longer than on that day.
    """
    prices = [
        (200 if i < FALL else 120 if i < FALL + 6 else 110 if i == FALL + 6 else 130) * WAD for i in range(len(TIMES))
    ]
    market, timeline = market_of(replace(DAY, prices=prices), [(75 * WAD, 9_900 * WAD)], {**RULES_1_0, "ttl": 1_200})
    keepers = tuple(Searcher(name=name) for name in ("a", "b"))
    free = Costs(gas=Gas(fee="constant", base_fee=0, native_price=WAD, units=0))
    terms = Participation(searchers=keepers, distribution="searchers")
    result = replay(MAKER, market, timeline, Scenario(liquidators=terms, costs=free, from_block=2))
    for lot, size in ((0, 50), (1, 25)):
        mine = [row for row in result.liquidations if row.lot == lot]
        assert [(row.step, row.clock.timestamp - MIDNIGHT - 5 * 3_600) for row in mine] == [
            ("bite", 0),
            ("tend", 0),
            ("tend", 600),
            ("deal", 1_801),
        ]
        assert [row.fill.order.repay for row in mine[1:3]] == [size * 110 * WAD * RAY, size * 130 * WAD * RAY]
        assert (mine[3].fill.repaid, mine[3].profit_base, mine[3].seized_base) == (
            size * 130 * WAD,
            0,
            size * 120 * WAD,
        )


def test_vaults_have_the_stated_debt_and_are_safe_when_the_day_begins() -> None:
    drawn = Vaults(number=800, debt=8_000_000, sample=4).drawn(195 * WAD, Draws(3))
    assert len(drawn) == 200
    assert abs(sum(art for _, art in drawn) - 2_000_000 * WAD) <= 100 * 200 * WAD
    assert all(ink * 195 * BPS >= art * 15_001 for ink, art in drawn)
    above = sum(ink * 195 * 10 >= art * 30 for ink, art in drawn)
    assert 70 < above < 130  # half of them above the median


def test_more_keepers_are_the_same_and_others_and_caps_grow_with_their_median() -> None:
    few, more, higher = (Keepers(n, median).drawn(Draws(5)) for n, median in ((2, 100), (5, 100), (2, 200)))
    assert more[:2] == few
    assert all(abs((high.gas_cap or 0) - 2 * (low.gas_cap or 0)) <= 2 for low, high in zip(few, higher, strict=True))
    assert {one.capital for one in Keepers(2, 100, capital=80).drawn(Draws(5), sample=8)} == {10 * WAD}


def test_the_grid_and_its_summaries() -> None:
    grid = cells([50, 100], [2, 3], [0, 60], 0.75)
    assert len(grid) == 8 + 4 + 8
    cell = grid[0]
    made = GridRun(cell, 1, 10, 10, 10, 5 * WAD, 5 * WAD, 0, 4 * WAD, 0)
    [summary] = summarised([made, replace(made, seed=2, free=0, shortfall=0)])
    assert summary.free_share == Mean(0.5, 0.0, 1.0)
    assert (summary.shortfall.value, summary.shortfall.low) == (2.0, 0.0)
    assert summary.shortfall.high == pytest.approx(
        2 + 12.7062047 * 2
    )  # Student's t, one degree: 12.706 standard errors of 2
    assert region([summary]) == [summary]
    [certain] = summarised([made])
    assert certain.free_share == Mean(1.0, 1.0, 1.0)
    assert region([certain]) == []
    [nothing] = summarised([replace(made, opened=0, closed=0, free=0, sold_value=0)])
    assert (nothing.free_share, nothing.recovered) == (None, None)


# -- files
# ---------------------------------------------------------------------------------------------------------------------


BOOK_OPTIONS = "--vaults 16 --debt 1600000 --sample 2 --ratio 250 --seeds 2 --jobs 1"
GRID_OPTIONS = "--keepers 2 --keepers 4 --caps 100 --stuck 0"


def written(folder: Path) -> tuple[Path, Path]:
    prices, gas = folder / "eth.csv", folder / "gas.csv"
    stamps = [f"2020-03-12T{(time - MIDNIGHT) // 3_600:02}:{(time - MIDNIGHT) % 3_600 // 60:02}:00" for time in TIMES]
    with prices.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time_period_start", "price_open"])
        rows.writerows([f"{stamp}.0000000Z", price / WAD] for stamp, price in zip(stamps, DAY.prices, strict=True))
    with gas.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["datetime", "timestamp", "60.0 Perc"])
        rows.writerows(["", f"{stamp}.000Z", f"{fee}.25"] for stamp, fee in zip(stamps, DAY.gas, strict=True))
    return prices, gas


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    assert read_paths(*written(tmp_path), "60.0 Perc") == DAY
    assert DAY.calm_gas() == 10 * Gwei


@pytest.mark.slow
def test_the_command_prints_and_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices, gas = written(tmp_path)
    small = [*BOOK_OPTIONS.split(), *GRID_OPTIONS.split()]
    page, rows = tmp_path / "out/page.html", tmp_path / "out/rows.csv"
    with pytest.raises(SystemExit) as done:
        main(
            [
                "illustrate",
                "black-thursday",
                "--prices",
                str(prices),
                "--gas",
                str(gas),
                *small,
                "--output",
                str(page),
                "--rows",
                str(rows),
            ]
        )
    assert done.value.code == 0
    said = capsys.readouterr().out
    assert "Illustration: vaults and keepers are assumptions, nothing was fitted to the outcome." in said
    for part in (
        "Rules 1.0, gas as it was",
        "Rules 1.0, gas without the spike",
        "Rules 2.0, gas as it was",
        "5.67 million DAI",
        "36%",
        "One in 2",
    ):
        assert part in said
    html = page.read_text()
    assert "Illustration: vaults and keepers are assumptions" in html
    assert html.count("data:image/svg+xml") == 2
    with rows.open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 6
    assert {row["free_share"] for row in table if row["gas"] == "calm"} == {"0.0"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("price_open", "price"), "no column 'price_open'; did you mean 'price'?"),
        (("200.0", "much"), "line 2: '2020-03-12T00:00:00.0000000Z', 'much'; give a time"),
        (("T00:10", "T00:00"), "line 3: 2020-03-12T00:00:00.0000000Z is there twice"),
        (("200.0", "0"), "prices: a value that is not above zero"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    prices, gas = written(tmp_path)
    prices.write_text(prices.read_text().replace(*change))
    with pytest.raises(UserError) as error:
        read_paths(prices, gas, "60.0 Perc")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seeds 0", "at least one seed"),
        ("--keepers 0", "--keepers 0; give numbers of at least 1"),
        ("--caps 5 --caps 5", "--caps 5 5"),
        ("--capital 0", "whole DAI"),
        ("--cap-sigma -1", "a negative spread"),
        ("--vaults 0", "at least one vault"),
        ("--sample 900", "one in 900 of 800 vaults"),
        ("--ratio 150", "above the liquidation ratio"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    prices, gas = written(tmp_path)
    with pytest.raises(SystemExit) as done:
        main(["illustrate", "black-thursday", "--prices", str(prices), "--gas", str(gas), *words.split()])
    assert done.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_real_day() -> None:
    """The files of the day: the clock of ``timestamp`` is the one by which gas rises as the price falls. Without the
    spike nothing is given away.
    """
    folder = real_folder() / "prices"
    paths = read_paths(folder / "eth_usd_10m_2020-03-12.csv", folder / "gas_gwei_10m_2020-03-12.csv", "60.0 Perc")
    assert len(paths.times) == len(paths.gas_times) == 144
    noon = paths.times.index(MIDNIGHT + 12 * 3_600)
    assert paths.gas[noon] > 5 * paths.gas[0]
    assert paths.prices[noon] < 75 * paths.prices[0] // 100
    book, keepers = Vaults(sample=80), Keepers(number=5, cap_median=75)
    runs = {
        way: [perform(GridTask(Cell(*way, keepers), seed, book, paths)) for seed in range(1, 9)]
        for way in ((10, "day"), (10, "calm"), (20, "day"))
    }
    assert sum(one.free for one in runs[10, "calm"]) == sum(one.free for one in runs[20, "day"]) == 0
    shares = [one.free_share or 0 for one in runs[10, "day"]]
    assert min(shares) < 0.36 < max(shares)
