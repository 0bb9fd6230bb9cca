"""The oracle's path from what the chain accepted: bounds by every protocol's own check, intervals around a truth that
only the test knows, a book held against a known oracle, and the real vaults.
"""

from __future__ import annotations

import csv
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.calibration.oracle import Moment, derive, patience_of, set_apart
from backtest.calibration.ordering import EDGES, standing
from backtest.cli import main
from backtest.cli.calibrate_oracle import told, written
from backtest.errors import UserError
from backtest.imports import import_files, load
from backtest.lake import Lake
from backtest.model import AccountId, AssetId, Clock, Prices
from backtest.oracle_path import Held, paths
from backtest.oracle_path import Path as Derived
from backtest.prices.imported import IN_SAMPLE
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.account import account_data
from backtest.protocols.interface import SafePrices
from backtest.protocols.maker import MAKER
from backtest.protocols.morpho_blue.account import least_healthy_price_up
from backtest.protocols.morpho_blue.math import ORACLE_PRICE_SCALE
from backtest.protocols.registry import PROTOCOLS
from backtest.protocols.vaults.rules import carried_down, is_unsafe, least_safe_value_up
from backtest.reconstruct import reconstruct
from backtest.replay.accepted import ACTION, LIQUIDATION, STOOD, Bound, Kind, accepted_bounds
from backtest.replay.forecast import PriceRanges
from backtest.results import load_market, load_timeline, run
from backtest.scenario import Competitive, Scenario
from backtest.units import RAY, WAD, mul_div_down
from backtest.validation import FREE, derived_ranges, price_ranges, validate, with_and_without
from tests.support.aave_books import ALICE, COL, DEBT, NOW, ONE, OTHER, Toy
from tests.support.made_up_oracle import HOUR, KEEPERS, Script, lake_of, made_up
from tests.support.maker_exports import real_folder
from tests.support.sketch_history import POOL, liquidated_history
from tests.support.sketch_lake import lake_of as made_lake

pytestmark = pytest.mark.slow  # together they take what a quick run has no time for

ROOT = Path(__file__).parent.parent
MODEL = Scenario(name="model", liquidators=Competitive())
amounts = st.integers(1, 10**27)


# -- where a protocol's own check turns --------------------------------------------------------------------------------


@given(
    amounts,
    amounts,
    st.integers(RAY, 3 * RAY),
    st.integers(RAY // 2, 2 * RAY),
    st.integers(RAY, 4 * RAY),
)
def test_a_vault_is_safe_from_its_least_safe_price_on_and_not_below(
    ink: int, art: int, rate: int, par: int, ratio: int
) -> None:
    least = least_safe_value_up(ink, art, rate, par, ratio)
    assert ink * carried_down(least, par, ratio) >= art * rate
    assert ink * carried_down(least - 1, par, ratio) < art * rate
    assert not is_unsafe(ink, art, rate, carried_down(least, par, ratio))


@given(amounts, amounts, st.integers(WAD // 10, WAD))
def test_a_position_is_healthy_from_its_least_healthy_price_on_and_not_below(
    collateral: int, owed: int, lltv: int
) -> None:
    def carries(price: int) -> int:
        return mul_div_down(mul_div_down(collateral, price, ORACLE_PRICE_SCALE), lltv, WAD)

    least = least_healthy_price_up(collateral, owed, lltv)
    assert carries(least) >= owed > carries(least - 1)


@settings(max_examples=60)
@given(
    st.sampled_from([1, 4, 6]),
    st.integers(1, 10**9),
    st.integers(1, 10**9),
    st.integers(0, 10**9),
    st.integers(1, 10**14),
)
def test_health_reaches_one_at_the_price_that_is_found_and_not_beside_it(
    revision: int, held: int, owed: int, more: int, price: int
) -> None:
    """Of collateral and of debt, with other collateral at a price of its own."""
    toy = Toy(revision)
    toy.supply(COL, held)
    toy.borrow(DEBT, owed)
    if more:
        toy.supply(OTHER, more)
    prices = {COL: price, DEBT: ONE, OTHER: ONE}

    def healthy(asset: AssetId, at: int) -> bool:
        return account_data(toy.state, ALICE, {**prices, asset: at}, NOW).health_factor >= WAD

    def asked(asset: AssetId) -> SafePrices | None:
        every = dict(prices)
        return AAVE_V3.safe_prices(toy.state, ALICE, asset, Prices(every, every, every), NOW)

    collateral, debt = asked(COL), asked(DEBT)
    if collateral is None:
        assert healthy(COL, 1) or not healthy(COL, 2**126)
    else:
        assert collateral.least_up is not None
        assert collateral.most_down is None
        assert healthy(COL, collateral.least_up)
        assert not healthy(COL, collateral.least_up - 1)
    if debt is not None:
        assert debt.most_down is not None
        assert debt.least_up is None
        assert healthy(DEBT, debt.most_down)
        assert not healthy(DEBT, debt.most_down + 1)


def test_where_health_does_not_turn_at_one_price_none_is_given() -> None:
    prices = {COL: ONE, DEBT: ONE, OTHER: ONE}
    every = Prices(prices, prices, prices)
    both = Toy(6)
    both.supply(COL, 1_000)
    both.borrow(COL, 100)
    assert AAVE_V3.safe_prices(both.state, ALICE, COL, every, NOW) is None
    averaged = Toy(1)
    averaged.param("liquidation_threshold", 7000, asset=OTHER)
    averaged.supply(COL, 1_000)
    averaged.supply(OTHER, 1_000)
    averaged.borrow(DEBT, 500)
    assert AAVE_V3.safe_prices(averaged.state, ALICE, COL, every, NOW) is None
    owing_nothing = Toy(6)
    owing_nothing.supply(COL, 1_000)
    assert AAVE_V3.safe_prices(owing_nothing.state, ALICE, COL, every, NOW) is None


# -- intervals ---------------------------------------------------------------------------------------------------------


def bound(
    kind: Kind,
    account: int,
    *,
    least: int | None = None,
    most: int | None = None,
    step: int = 0,
    stood: int = 0,
    said: int | None = None,
) -> Bound:
    return Bound(
        kind=kind,
        asset=AssetId(0),
        account=AccountId(account),
        step=step,
        clock=Clock(step, 0, step + 1),
        seq=0,
        what=kind,
        least_up=least,
        most_down=most,
        stood=stood,
        said=said,
    )


@st.composite
def true_bounds(draw: st.DrawFn) -> tuple[list[Moment], list[Bound], list[int]]:
    """Moments with bounds that a truth in each obeys."""
    moments, bounds, truths = [], [], []
    for place in range(draw(st.integers(1, 5))):
        low = draw(st.integers(1, 1000))
        high = low + draw(st.integers(0, 200))
        truth, proxy = draw(st.integers(low, high)), draw(st.integers(1, 1500))
        moments.append(Moment(HOUR * place, HOUR, proxy, draw(st.sampled_from([None, (low, high)]))))
        truths.append(truth)
        for _ in range(draw(st.integers(0, 6))):
            kind = draw(st.sampled_from([ACTION, LIQUIDATION, STOOD]))
            account, off = draw(st.integers(0, 4)), draw(st.integers(0, 300))
            collateral = draw(st.booleans())
            passes_below = (kind == LIQUIDATION) == collateral
            sides = {"most": truth + off} if passes_below else {"least": max(1, truth - off)}
            stood = draw(st.sampled_from([10, 1000])) if kind == STOOD else 0
            bounds.append(bound(kind, account, **sides, step=HOUR * place, stood=stood))
    return moments, bounds, truths


@given(true_bounds())
def test_the_interval_holds_the_truth_and_the_price_is_in_it(case: tuple[list[Moment], list[Bound], list[int]]) -> None:
    moments, bounds, truths = case
    assert set_apart(bounds, moments, {}) == {}
    made = derive(moments, bounds, {}, 500)
    assert not made.conflicts
    for step, truth in zip(made.steps, truths, strict=True):
        assert step.low is None or step.low <= min(truth, step.price)
        assert step.high is None or step.high >= max(truth, step.price)
        assert not step.unused
        if step.moment.venue is None and not [one for one in bounds if one.step == step.moment.time]:
            assert (step.low, step.high, step.price) == (None, None, step.moment.proxy)
    for score in made.scores:  # with the truth in every interval of all others, nothing lies outside one
        assert score.inside == score.path == score.bounds
        assert score.proxy <= score.bounds


def test_each_end_says_what_made_it_and_the_price_moves_as_far_as_it_must() -> None:
    moment = Moment(0, HOUR, 100, (90, 120))
    made = derive(
        [moment],
        [
            bound(ACTION, 1, least=105),
            bound(LIQUIDATION, 2, most=115),
            bound(STOOD, 3, least=108, stood=600),  # longer than liquidators take
            bound(STOOD, 4, least=111, stood=60),  # not so long: says only where in the interval the price was
            bound(STOOD, 5, least=118, stood=60),  # would contradict the liquidation
            bound(STOOD, 2, least=119, stood=600),  # waits for its own liquidation
        ],
        {},
        500,
    )
    (step,) = made.steps
    assert (step.low, step.high, step.price) == (108, 115, 111)
    assert step.low_by is not None
    assert step.high_by is not None
    assert (step.low_by.account, step.high_by.account) == (3, 2)
    assert not step.unused
    silent = derive([moment], [bound(STOOD, 3, least=108, stood=600)], {}, None)
    assert (silent.steps[0].low, silent.steps[0].price) == (90, 100)


def test_a_contradiction_is_a_conflict_and_the_range_stands() -> None:
    made = derive(
        [Moment(0, HOUR, 100, (90, 120))],
        [bound(ACTION, 1, least=110), bound(LIQUIDATION, 2, most=105), bound(STOOD, 3, least=119, stood=600)],
        {},
        500,
    )
    (step,) = made.conflicts
    assert (step.low, step.high, step.price) == (90, 120, 100)
    assert "action in block 0 contradicts liquidation in block 0" in step.conflict
    without = derive(
        [Moment(0, HOUR, 100, (90, 120))],
        [bound(LIQUIDATION, 2, most=105), bound(STOOD, 3, least=119, stood=600)],
        {},
        500,
    )
    assert (without.steps[0].high, without.steps[0].unused) == (105, (3,))


def test_who_acted_where_the_range_forbids_it_is_set_apart_and_counted() -> None:
    moments = [Moment(0, HOUR, 100, (90, 120))]
    bounds = [bound(ACTION, 1, least=132), bound(LIQUIDATION, 2, most=80), bound(STOOD, 3, least=130, stood=600)]
    apart = set_apart(bounds, moments, {AccountId(7): "known"})
    assert apart == {
        7: "known",
        1: "action 10.00% beyond the venue's range",
        2: "liquidation 11.11% beyond the venue's range",
    }
    made = derive(moments, bounds, apart, 500)
    assert made.outside == {ACTION: 1, LIQUIDATION: 1, STOOD: 1}
    assert made.used == {ACTION: 0, LIQUIDATION: 0, STOOD: 1}
    assert made.steps[0].unused == (3,)


def test_leaving_an_account_out_gives_back_what_only_it_knew() -> None:
    moments = [Moment(0, HOUR, 100, (90, 120)), Moment(HOUR, HOUR, 100, (90, 120))]
    bounds = [
        bound(LIQUIDATION, 1, most=95),  # nobody else says so
        bound(LIQUIDATION, 1, most=96, step=HOUR),
        bound(LIQUIDATION, 2, most=94, step=HOUR),  # says what account 1 says, and more
    ]
    (score,) = [one for one in derive(moments, bounds, {}, None).scores if one.kind == LIQUIDATION]
    # the path obeys all three; without account 1 its second is still obeyed, without account 2 its own is not
    assert (score.bounds, score.proxy, score.path, score.others, score.inside) == (3, 0, 3, 1, 3)


def test_patience_is_what_most_liquidations_took_of_an_accounts_first_in_a_step() -> None:
    taken = [bound(LIQUIDATION, account, most=1, step=0) for account in range(20)]
    assert patience_of(taken) == 1
    assert patience_of([]) is None


# -- what can be defended ----------------------------------------------------------------------------------------------


def test_order_and_shares_by_hand() -> None:
    """A price of 100. One is liquidated that is safe from 103 on; one at 110 is left, one at 101 too, and one at 104 is
    rescued after 60 s. The next step has no liquidation.
    """
    told = [
        bound(LIQUIDATION, 1, most=102, said=100),
        bound(LIQUIDATION, 1, most=102, said=100),  # of a lot more: the account counts once
        bound(STOOD, 1, least=103, stood=3000, said=100),
        bound(STOOD, 2, least=110, stood=3000, said=100),
        bound(STOOD, 3, least=101, stood=3000, said=100),
        bound(STOOD, 4, least=104, stood=60, said=100),
        bound(STOOD, 2, least=99, stood=3600, said=100, step=HOUR),
        bound(STOOD, 3, least=50, stood=3600, said=100, step=HOUR),  # far from it
        bound(STOOD, 5, least=100, stood=3600, said=100, step=HOUR),  # just safe
    ]
    found = standing(told, 500)
    assert (found.steps, found.left) == (1, [(0, 2)])
    shares = dict(zip(EDGES, found.counts, strict=True))
    assert {edge: count for edge, count in shares.items() if count[0]} == {
        -0.02: (1, 0),  # 99: the price is 1.01 % above
        0.0: (1, 0),
        0.005: (1, 0),  # 101
        0.02: (1, 1),  # 103
        0.05: (1, 0),  # 110: 9.1 %
    }
    assert found.wrong == 2  # 101 and 110 are below and were left
    assert (found.total, found.taken) == (5, 1)
    assert found.brier() == pytest.approx((2 / 5, 1 / 5 * 4 / 5, 0))
    assert standing([], 500).brier() is None


def test_order_of_debts_looks_the_other_way() -> None:
    """Who owes the asset is safe up to a price: the lower that is, the riskier."""
    told = [
        bound(LIQUIDATION, 1, least=98, said=100),  # safe up to 97
        bound(STOOD, 2, most=95, stood=3000, said=100),
        bound(STOOD, 3, most=99, stood=3000, said=100),
    ]
    found = standing(told, 500)
    assert found.left == [(0, 2)]
    assert found.wrong == 2


# -- a history whose oracle only the test knows ------------------------------------------------------------------------


def path_of(script: Script, folder: Path) -> tuple[Lake, Derived]:
    lake = lake_of(script, folder)
    (found,) = paths(lake, "made-up", patience=KEEPERS)
    assert isinstance(found, Derived)
    return lake, found


def test_bounds_far_from_the_price_are_left_out_and_decide_nothing(tmp_path: Path) -> None:
    """Who stood within a twentieth of the price, or inside the range, is all that a path needs."""
    script = made_up(2, hours=30, edge=0.4)
    lake = lake_of(script, tmp_path)
    protocol, market, timeline = MAKER, load_market(lake, "made-up"), load_timeline(lake, "made-up")
    ranges = price_ranges(lake, "made-up", HOUR)
    (asset,) = ranges
    times = ranges[asset].times
    near, every = (
        accepted_bounds(protocol, market, timeline, asset, times, known, standing=True).bounds
        for known in (ranges, {asset: PriceRanges(times, [None] * len(times))})
    )
    assert len(near) < len(every) / 2
    moments = [Moment(time, HOUR, 400 * WAD, venue) for time, venue in zip(times, ranges[asset].bounds, strict=True)]
    for apart in ({}, {AccountId(0): "tried"}):
        assert derive(moments, near, apart, KEEPERS).steps == derive(moments, every, apart, KEEPERS).steps


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--patience", "-5"], "--patience -5 is negative; give 0 or more seconds"),
        (["--patience", "soon"], "give a number in digits"),
        (["--market", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = lake_of(made_up(0, hours=3), tmp_path)
    with pytest.raises(SystemExit) as done:
        main(["calibrate", "oracle", "--lake", str(lake.path), *words])
    err = capsys.readouterr().err
    assert (done.value.code, err.count("\n")) == (2, 1)
    assert said in err


def test_a_protocol_that_cannot_tell_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    lake = made_lake(tmp_path / "lake", liquidated_history())
    with pytest.raises(UserError, match="nothing in market 'sketch' bounds an oracle's price"):
        paths(lake, "sketch")


@pytest.mark.parametrize("seed", range(3))
def test_the_true_oracle_is_in_every_interval(seed: int, tmp_path: Path) -> None:
    script = made_up(seed)
    _, found = path_of(script, tmp_path)
    steps = {step.moment.time: step for step in found.derived.steps}
    assert len(steps.keys() & script.truth.keys()) == len(script.truth)
    for time, truth in script.truth.items():
        step = steps[time]
        assert step.low is None or step.low <= truth
        assert step.high is None or truth <= step.high
    assert not found.derived.conflicts
    assert not found.derived.apart
    assert not any(step.unused for step in found.derived.steps)
    for score in found.derived.scores:
        assert score.inside == score.path == score.bounds  # who is left out lies in the others' intervals
        assert score.others > score.proxy  # where many say something, it holds for those who said nothing
    mean = {
        name: sum(abs(price - script.truth[time]) for time, price in prices.items() if time in script.truth)
        for name, prices in (
            ("path", {time: step.price for time, step in steps.items()}),
            ("venue", {time: step.moment.proxy for time, step in steps.items()}),
        )
    }
    assert mean["path"] < mean["venue"] / 2


def test_a_book_that_contradicts_itself_is_named(tmp_path: Path) -> None:
    """An account borrows what no price of the range allows."""
    script = made_up(0, hours=20)
    who = sorted(script.art)[0]
    last = max(row["time"] for row in script.rows["flows"])  # type: ignore[type-var]
    script.flow(last, who, "borrow", script.art[who])
    _, found = path_of(script, tmp_path)
    names = {found.market.accounts[account]: why for account, why in found.derived.apart.items()}
    assert list(names) == [who]
    assert "beyond the venue's range" in names[who]
    assert f"  {who}: borrow" in "\n".join(told([found]))


def test_a_derived_path_replaces_the_proxy_and_says_so_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = made_up(1, hours=40)
    lake = lake_of(script, tmp_path)
    out = tmp_path / "derived_oracle.csv"

    def command(*words: str) -> str:
        with pytest.raises(SystemExit) as done:
            main(list(words))
        said = capsys.readouterr()
        assert done.value.code == 0, said.err
        return said.out

    printed = command("calibrate", "oracle", "--lake", str(lake.path), "--patience", str(KEEPERS), "--out", str(out))
    assert "Conflicts among the rest: 0 of" in printed
    assert "derived in-sample" in printed
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {IN_SAMPLE}
    assert {row["high_by"] for row in rows} == {"venue", "liquidation", ""}  # of the first step no range is known
    assert {row["low_by"] for row in rows} >= {"venue", "borrow", "stood"}
    lake.refresh()
    before = lake.read("canonical/prices", "made-up")
    import_files(lake, load("derived-oracle"), market="made-up", sources={"steps": [str(out)]})
    reconstruct(lake, "made-up")
    lake.refresh()
    prices = lake.read("canonical/prices", "made-up").to_pylist()
    derived = {row["timestamp"]: int(row["price"]) for row in prices if row["method"] == "derived"}
    assert len(rows) - 2 <= len(derived) <= len(rows)  # a step without a block of its own gives way to the next
    assert len(prices) == len(before)
    assert {f"{price // WAD}.{price % WAD:018d}" for price in derived.values()} <= {row["price"] for row in rows}
    (ranges,) = derived_ranges(lake, "made-up").values()
    assert ranges.bounds[1] == tuple(int(Decimal(rows[1][end]) * WAD) for end in ("low", "high"))

    made = run(lake, "made-up", MODEL, samples=0)
    assert any(IN_SAMPLE in note for note in made.notes)
    assert made.summary["proxy_prices"]
    lake.refresh()
    without = run(lake, "made-up", Scenario(name="venue", liquidators=Competitive(), oracle_delay=HOUR), samples=0)
    assert not any(IN_SAMPLE in note for note in without.notes)
    assert any("are a proxy" in note for note in without.notes)
    lake.refresh()
    said = command("validate", "--lake", str(lake.path), "--rows", "0")
    assert "validation, oracle derived in-sample: market made-up" in said
    assert "validation, venue's price: market made-up" in said
    assert "how much the price explains, not" in said
    figures = {
        row["name"]: row["recall"]
        for row in lake_rows(
            lake, "SELECT name, recall FROM validations WHERE mode = 'free' AND alarms = 'all' AND accounts = 'all'"
        )
    }
    assert figures["validation, oracle derived in-sample"] > figures["validation, venue's price"]
    page = tmp_path / "page.html"
    command("report", "--lake", str(lake.path), "--output", str(page))
    assert f"oracle prices {IN_SAMPLE}" in page.read_text()
    # the same path is derived again where it is in force, since it is made from the venue's prices
    again = tmp_path / "again.csv"
    command("calibrate", "oracle", "--lake", str(lake.path), "--patience", str(KEEPERS), "--out", str(again))
    assert again.read_text() == out.read_text()


def lake_rows(lake: Lake, query: str) -> list[dict[str, Any]]:
    lake.refresh()
    rows: list[dict[str, Any]] = lake.sql(query).to_arrow_table().to_pylist()
    return rows


# -- known oracles -----------------------------------------------------------------------------------------------------


def test_a_known_oracle_holds_in_the_bundled_market(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "data/sample/lake", tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    found = paths(lake, "sample-crash")
    assert found
    assert all(isinstance(one, Held) for one in found)
    assert sum(one.bounds[LIQUIDATION] for one in found if isinstance(one, Held)) > 20
    assert sum(one.bounds[ACTION] for one in found if isinstance(one, Held)) > 100
    assert [one.broken for one in found if isinstance(one, Held)] == [[]] * len(found)
    with pytest.raises(SystemExit) as done:
        main(
            ["calibrate", "oracle", "--lake", str(lake.path), "--market", "sample-crash", "--out", str(tmp_path / "x")]
        )
    assert done.value.code == 2
    assert "the oracle of this market is known" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


# -- the real vaults ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_vaults_leave_a_price_in_every_hour(tmp_path: Path) -> None:
    folder = real_folder()
    lake = Lake(tmp_path / "lake", create=True)
    import_files(lake, load("maker-vaults"), folder=folder / "maker_eth_b")
    candles = str(folder / "prices/eth_usd_1h_2020_2021.csv")
    import_files(lake, load("candles"), market="maker-eth-b", sources={"hours": [candles]})
    reconstruct(lake, "maker-eth-b")
    lake.refresh()
    (found,) = paths(lake, "maker-eth-b")
    assert isinstance(found, Derived)
    derived, out = found.derived, tmp_path / "derived_oracle.csv"
    assert len(derived.steps) > 10_000
    assert not derived.conflicts
    assert {"24714", "19172"} < {found.market.accounts[account] for account in derived.apart}
    assert len(derived.apart) < 12
    assert sum(len(step.unused) for step in derived.steps) <= 1
    scores = {score.kind: score for score in derived.scores}
    assert scores[LIQUIDATION].path == scores[LIQUIDATION].bounds
    assert scores[ACTION].others > scores[ACTION].proxy  # what others say is worth a little,
    assert scores[LIQUIDATION].others <= scores[LIQUIDATION].proxy  # and for liquidations nothing, which is said
    assert "0 are explained without the account's own evidence" in "\n".join(told([found]))

    written([found], out)
    import_files(lake, load("derived-oracle"), market="maker-eth-b", sources={"steps": [str(out)]})
    reconstruct(lake, "maker-eth-b")
    lake.refresh()
    apart = {found.market.accounts[account] for account in derived.apart}
    rates = []
    for scenario in with_and_without(lake, "maker-eth-b", MODEL):
        made = validate(lake, "maker-eth-b", scenario)
        (row,) = [row for row in made.rows if (row["mode"], row["alarms"], row["accounts"]) == (FREE, "all", "all")]
        rates.append((row["recall"], row["precision"]))
        (ordering,) = [note for note in made.notes if "ordering, whatever the price was" in note]
        assert "in 2 of 38 steps" in ordering
        assert ordering.endswith("24714 2 times.")
        assert any("Brier score" in note for note in made.notes)
        kept = [one for one in made.episodes if one["mode"] == FREE and one["account"] not in apart]
        hits, predicted = (sum(one["outcome"] in of for one in kept) for of in (("hit",), ("hit", "false alarm")))
        rates.append((hits / sum(one["outcome"] != "false alarm" for one in kept), hits / predicted))
        lake.refresh()
    (derived_rates, without_apart), (venue, venue_without_apart) = rates[:2], rates[2:]
    assert min(derived_rates) > 0.65 > 0.55 > max(venue)
    assert derived_rates[0] > 0.9
    assert min(without_apart) > 0.8 > max(venue_without_apart)
