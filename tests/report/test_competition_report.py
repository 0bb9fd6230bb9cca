"""What users see of competition: the section of the page, printed lines, repeats under several seeds, and the digest of
a run's rows.
"""

from __future__ import annotations

import html
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import altair
import jsonschema
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backtest.cli import main
from backtest.errors import ScenarioError
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.params import CAT_1_1, DOG_2_0
from backtest.protocols.registry import PROTOCOLS
from backtest.replay.engine import replay
from backtest.report import opportunities_of, repeats_of, select, write_report
from backtest.report.comparison import Comparison
from backtest.report.competition import POINTS, CompetitionSection, thinned
from backtest.report.tables import money
from backtest.result_tables import RESULTS, RUN_TABLES, rows_digest
from backtest.results import repeats_of as repeated
from backtest.results import run, run_all, scenario_of
from backtest.scenario import (
    Competitive,
    Costs,
    Gas,
    LatencyRace,
    Liquidators,
    Observed,
    Oev,
    Participation,
    PriorityGas,
    Scenario,
    SealedBid,
    Searcher,
    draws,
)
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import USD
from tests.support.contest_history import COSTLY, falling
from tests.support.hand_made_replays import lake_of
from tests.support.made_up_competition import SOURCES, USES
from tests.support.made_up_runs import MARKET, make_lake
from tests.support.sketch_lake import lake_of as sketch_lake
from tests.support.vault_history import history as vault

pytestmark = pytest.mark.slow

OTHERS = (Scenario(), Scenario(name="baseline", liquidators=Competitive()))
SEEDS = repeated(Scenario(name="sealed bid", liquidators=SealedBid(private_cost=10**8)), 3)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return make_lake(tmp_path_factory.mktemp("contested") / "lake", scenarios=(*OTHERS, *SEEDS))


@pytest.fixture(scope="module")
def page(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(lake, [], path)
    return path.read_text(encoding="utf-8")


def rows_of(lake: Lake, dataset: str, run_id: str) -> list[dict[str, Any]]:
    return [row for row in lake.read(f"results/{dataset}", MARKET).to_pylist() if row["run_id"] == run_id]


def run_id_of(lake: Lake, name: str) -> str:
    [found] = [row["run_id"] for row in lake.read("results/runs", MARKET).to_pylist() if row["name"] == name]
    return str(found)


def specs(page: str) -> dict[str, dict[str, Any]]:
    found = re.findall(r'<script type="application/json" id="chart-(contest\d)-spec">(.*?)</script>', page, re.DOTALL)
    return {name: json.loads(text) for name, text in found}


# -- the page ----------------------------------------------------------------------------------------------------------


def test_charts_are_valid_and_say_what_they_show(page: str) -> None:
    validator = jsonschema.Draft7Validator(altair.load_schema())
    assert sorted(specs(page)) == ["contest1", "contest2", "contest3"]
    for spec in specs(page).values():
        assert [error.message for error in validator.iter_errors(spec)] == []
        for panel in spec.get("vconcat", spec.get("layer", [spec])):
            assert panel["encoding"]["x"]["title"]
        assert len(json.dumps(spec)) < 200_000
    for title in ("Where the bonus goes", "How fast opportunities are taken", "What the winner bids"):
        assert page.count(f'alt="{title}"') == 1


def test_bars_of_the_waterfall_begin_where_the_one_above_ends(page: str, lake: Lake) -> None:
    stored = rows_of(lake, "run_waterfalls", run_id_of(lake, "sealed bid"))
    [panel] = specs(page)["contest1"]["vconcat"]
    bars = panel["data"]["values"]
    sums = [float(sum(row[f"{part}_base"] for row in stored)) / 1e11 for part in (*SOURCES, *USES)]
    assert [bar["amount_usd"] for bar in bars] == [pytest.approx(amount) for amount in sums if amount]
    assert bars[0]["from_usd"] == bars[-1]["from_usd"] == 0
    assert bars[-1]["to_usd"] == pytest.approx(bars[-1]["amount_usd"]) == pytest.approx(bars[-2]["to_usd"]), (
        "what is left is the rent"
    )
    assert all(after["from_usd"] == pytest.approx(before["to_usd"]) for before, after in pairwise(bars[:-1]))


def test_tables_are_those_of_the_views(page: str, lake: Lake) -> None:
    cells = [
        html.unescape(re.sub(r"<[^>]+>", "", cell))
        for cell in re.findall(r"<t[dh][^>]*>(.*?)(?:<small>.*?)?</t[dh]>", page, re.DOTALL)
    ]
    mine = run_id_of(lake, "sealed bid")
    winner = (
        lake.sql(f"FROM league_table WHERE run_id = '{mine}' ORDER BY repaid_base DESC LIMIT 1")
        .to_arrow_table()
        .to_pylist()[0]
    )
    at = cells.index(winner["searcher"])
    assert cells[at - 1] == f"sealed bid (HHI {winner['hhi']:,.0f})"
    figures = [
        str(winner["bids"]),
        str(winner["won"]),
        f"{winner['win_rate']:.1%}",
        str(winner["liquidations"]),
        money(winner["repaid_base"], 8),
    ]
    assert cells[at + 1 : at + 6] == figures
    reason = (
        lake.sql(f"FROM missed_by_reason WHERE run_id = '{mine}' ORDER BY lost_debt_base DESC LIMIT 1")
        .to_arrow_table()
        .to_pylist()[0]
    )
    at = cells.index(reason["reason"])
    assert cells[at + 1 : at + 4] == [str(reason["opportunities"]), str(reason["looks"]), money(reason["debt_base"], 8)]
    assert "sealed bid, 3 seeds from 0 to 2 (USD)" in cells
    assert cells[cells.index("Opportunities") + 1] == str(
        len({row["opportunity"] for row in rows_of(lake, "run_opportunities", mine)})
    )


def test_runs_come_in_the_order_of_the_page(tmp_path: Path) -> None:
    scenarios = [
        replace(SEEDS[0], name=name, liquidators=SealedBid(private_cost=cost))
        for name, cost in (("d", 1), ("b", 2), ("c", 3), ("a", 4))
    ]
    lake = make_lake(tmp_path / "lake", name="d", scenarios=scenarios)
    selection = select(lake, ["c", "a", "d", "b"])
    labels = [run["name"] for run in selection.runs]
    shown = CompetitionSection.of(selection, labels)
    assert shown is not None
    assert shown.endings.header == ("", *labels)
    for rows in (shown.waterfall, shown.curve, shown.bids):
        assert list(dict.fromkeys(row["run"] for row in rows)) == labels
    assert [row[0].partition(" (")[0] for row in shown.league.rows if len(row) == 1] == labels


def test_without_opportunities_nothing_is_shown(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", scenarios=OTHERS)
    write_report(lake, [], tmp_path / "report.html")
    assert "Who liquidates, at what price" not in (tmp_path / "report.html").read_text()
    assert opportunities_of(lake, run_id_of(lake, "baseline"), market=MARKET) == []
    assert repeats_of(lake, run_id_of(lake, "baseline"), market=MARKET) == ""


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=2_000, unique=True))
def test_long_curves_are_thinned_and_keep_their_ends(seconds: list[int]) -> None:
    rows = [{"run": "a", "seconds": each} for each in sorted(seconds)]
    kept = thinned(rows)
    assert len(kept) <= POINTS + 1
    assert kept == rows if len(rows) <= POINTS else kept[-1] == rows[-1]
    assert [row["seconds"] for row in kept] == sorted({row["seconds"] for row in kept} & set(seconds))


# -- repeats -----------------------------------------------------------------------------------------------------------


def test_repeats_are_one_column_and_their_number_is_said(lake: Lake) -> None:
    selection = select(lake)
    assert [run["name"] for run in selection.runs] == ["history", "baseline", "sealed bid"]
    assert (
        "sealed bid: one seed of 3 that are stored; run_repeats has their means with intervals."
        in Comparison(selection).remarks()
    )
    named = select(lake, ["sealed bid, seed 2", "sealed bid, seed 1"])
    assert [run["name"] for run in named.runs] == ["history", "sealed bid, seed 2", "sealed bid, seed 1"]


def test_lines_of_a_run_say_how_opportunities_ended_and_where_the_bonus_went(lake: Lake) -> None:
    mine = run_id_of(lake, "sealed bid")
    lines = opportunities_of(lake, mine, market=MARKET)
    spells = rows_of(lake, "run_opportunities", mine)
    taken = sum(spell["ending"] == "taken" for spell in spells)
    assert lines[0].startswith(f"  opportunities {len({spell['opportunity'] for spell in spells})}: {taken} taken (")
    bonus = sum(row["bonus_base"] for row in rows_of(lake, "run_waterfalls", mine))
    assert f"  waterfall     bonus {money(bonus, 8)} USD" in lines
    gas = sum(row["gas_base"] for row in rows_of(lake, "run_waterfalls", mine))
    assert f"                gas {money(gas, 8)} USD, {float(100 * gas / bonus):.1f} % of the bonus" in lines
    assert len([line for line in lines if line.startswith("    missed ")]) == 4


def test_a_model_that_draws_nothing_has_no_repeats() -> None:
    for liquidators in (Observed(), Competitive(), SealedBid(), LatencyRace(searchers=1)):
        assert not draws(liquidators)
        with pytest.raises(ScenarioError, match=r"which draw nothing here: every seed gives the same; leave"):
            repeated(Scenario(liquidators=liquidators), 3)
    with pytest.raises(ScenarioError, match="1 repeats; give 2 or more"):
        repeated(SEEDS[0], 1)
    assert [(one.seed, one.name) for one in repeated(replace(SEEDS[0], seed=7), 2)] == [
        (7, "sealed bid"),
        (8, "sealed bid, seed 8"),
    ]


@pytest.mark.parametrize(
    ("liquidators", "drawn"),
    [
        (SealedBid(private_cost=1), True),
        (SealedBid(private_cost=1, searchers=0), False),
        (SealedBid(front_run=1), True),
        (PriorityGas(), False),
        (PriorityGas(cooperative=True), True),
        (PriorityGas(cooperative=True, searchers=1), False),
        (PriorityGas(private_cost=1), True),
        (Participation(), True),
        (Participation(mean=0), False),
        (Participation(distribution="searchers", searchers=(Searcher(name="a"),)), False),
        (Participation(distribution="searchers", searchers=(Searcher(name="a", shows_up=9_999),)), True),
        (LatencyRace(), True),
        (LatencyRace(race="softmax", searchers=2), True),
        (Oev(), True),
        (Oev(coverage=0), False),
        (Oev(mean=0), False),
        (Oev(mean=0, coverage=1), True),
    ],
)
def test_which_models_draw(liquidators: Liquidators, drawn: bool) -> None:
    assert draws(liquidators) is drawn


def test_mistakes_get_one_line(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (
            ["--repeats", "3"],
            "repeats of 'observed' liquidators, which draw nothing here: every seed gives the same; leave them out",
        ),
        (
            ["--liquidators", "competitive", "--repeats", "3", "--band"],
            "--band and --repeats together; give one of them",
        ),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["replay", "--lake", str(lake.path), *words])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


# -- what the engine stores --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A falling market, replayed with searchers of costs that make them miss some."""
    terms = SealedBid(searchers=3, private_cost=20_000 * USD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, "sketch", FixedSpreadPool())
        lake = sketch_lake(tmp_path_factory.mktemp("replayed") / "lake", falling())
        for scenario in repeated(Scenario(name="sealed bid", liquidators=terms, costs=COSTLY), 3):
            run(lake, "sketch", scenario)
    lake.refresh()
    return lake


def test_views_of_a_replay_agree_with_its_liquidations(replayed: Lake) -> None:
    rows = replayed.sql("""
        SELECT s.liquidations, s.repaid_base, t.taken, l.liquidations, l.repaid, l.rent, l.hhi, w.sources, w.uses,
        w.rent, m.lost,
            t.expired + t.still_open
        FROM run_summary AS s JOIN time_to_liquidation AS t USING (run_id)
        JOIN (SELECT run_id, sum(liquidations) AS liquidations, sum(repaid_base) AS repaid, sum(rent_base) AS rent,
        max(hhi) AS hhi
            FROM league_table GROUP BY run_id) AS l USING (run_id)
        JOIN (SELECT run_id, sum(amount_base) FILTER (side = 'source') AS sources, sum(amount_base) FILTER (side =
        'use') AS uses,
            sum(amount_base) FILTER (part = 'rent') AS rent FROM waterfall GROUP BY run_id) AS w USING (run_id)
        JOIN (SELECT run_id, sum(lost) AS lost FROM missed_by_reason GROUP BY run_id) AS m USING (run_id)
        """).fetchall()
    assert len(rows) == 3
    for liquidations, repaid, taken, counted, volume, rent, hhi, sources, uses, left, lost, untaken in rows:
        assert liquidations == taken == counted > 10
        assert (repaid, sources, rent) == (volume, uses, left)
        assert lost == untaken
        assert 3333 <= hhi <= 10_000
    assert sum(untaken for *_, untaken in rows) > 0
    [(runs,)] = replayed.sql("SELECT DISTINCT runs FROM run_repeats").fetchall()
    assert runs == 3
    [(took, unknown)] = replayed.sql(
        "SELECT count(*), count(*) FILTER (rivals IS NULL) FROM opportunities WHERE ending = 'taken'"
    ).fetchall()
    assert took > 30
    assert unknown == 0


@pytest.mark.parametrize("system", [CAT_1_1, DOG_2_0])
def test_auctions_are_in_the_views_once(system: int, tmp_path: Path) -> None:
    """What opens an auction, its steps and its buyers: every profit is in the waterfall, the debt bought in the league
    table.
    """
    history = vault(system, 1_290)
    scenario = Scenario(
        liquidators=Participation(mean=40_000, searchers=9), costs=Costs(gas=Gas(fee="constant", base_fee=40 * 10**9))
    )
    outcome = replay(MAKER, history.market, history.timeline(), scenario)
    config = MarketConfig(
        name=history.market.name,
        protocol="maker",
        chain_id=31_337,
        start_block=1,
        contracts={},
        base_decimals=18,
        base_currency="DAI",
    )
    lake = lake_of(tmp_path / "lake", {"a" * 64: (scenario, outcome)}, config)
    profit, bought = (
        sum(r.profit_base for r in outcome.liquidations),
        sum(r.repaid_base for r in outcome.liquidations if r.stage == "auction"),
    )
    assert lake.sql("SELECT amount_base FROM waterfall WHERE part = 'rent'").fetchall() == [(profit,)]
    assert lake.sql("SELECT sum(rent_base), sum(repaid_base) FROM league_table").fetchall() == [(profit, bought)]
    sides = dict(lake.sql("SELECT side, sum(amount_base) FROM waterfall GROUP BY side").fetchall())
    assert sides["source"] == sides["use"]
    assert lake.sql("SELECT count(*) FROM opportunities").fetchall() == [
        (len({spell.opportunity for spell in outcome.spells}),)
    ]


def test_scenarios_that_share_their_history_come_to_what_each_comes_to_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROTOCOLS, "sketch", FixedSpreadPool())
    late = repeated(
        Scenario(name="late", liquidators=SealedBid(private_cost=900 * USD), costs=COSTLY, from_block=45), 2
    )
    together = run_all(sketch_lake(tmp_path / "a", falling()), "sketch", late)
    alone = [run(sketch_lake(tmp_path / f"b{one.seed}", falling()), "sketch", one) for one in late]
    assert [one.digest for one in together] == [one.digest for one in alone]


def test_the_same_seed_gives_the_same_rows_and_another_others(
    replayed: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROTOCOLS, "sketch", FixedSpreadPool())
    there = {row["run_id"]: row for row in replayed.read("results/runs", "sketch").to_pylist()}
    elsewhere = sketch_lake(tmp_path / "lake", falling())
    digests = []
    for row in there.values():
        made = run(elsewhere, "sketch", scenario_of(row))
        known = run(replayed, "sketch", scenario_of(row))
        assert (made.replayed, known.replayed) == (True, False)
        assert made.digest == known.digest
        digests.append(made.digest)
    assert len(set(digests)) == 3


# -- the digest of a run's rows ----------------------------------------------------------------------------------------


def stored(lake: Lake, run_id: str) -> dict[str, pa.Table]:
    tables = {name: lake.read(f"results/{name}", MARKET) for name in RUN_TABLES}
    return {name: table.filter(pc.equal(table["run_id"], run_id)) for name, table in tables.items()}


def test_the_digest_is_of_the_outcome_alone(lake: Lake, tmp_path: Path) -> None:
    """Not of ids, names or files: but every value, every row and their order count."""
    mine = stored(lake, run_id_of(lake, "sealed bid"))
    digest = rows_digest(mine)
    again = make_lake(tmp_path / "lake", scenarios=(*OTHERS, *SEEDS))
    assert rows_digest(stored(again, run_id_of(again, "sealed bid"))) == digest
    assert (
        rows_digest({name: table.set_column(0, "run_id", pa.array(["x"] * len(table))) for name, table in mine.items()})
        == digest
    )
    assert rows_digest({name: pa.concat_tables([table[:3], table[3:]]) for name, table in mine.items()}) == digest
    assert rows_digest({**mine, "runs": mine["runs"][:0]}) == digest
    others = [stored(lake, run_id_of(lake, one.name)) for one in SEEDS[1:]]
    assert len({digest, *map(rows_digest, others)}) == 3
    for name in ("run_liquidations", "run_bids", "run_waterfalls"):
        table = mine[name]
        assert rows_digest({**mine, name: table[1:]}) != digest
        assert rows_digest({**mine, name: pa.concat_tables([table[1:], table[:1]])}) != digest
    rows = mine["run_waterfalls"].to_pylist()
    rows[0]["rent_base"] += 1
    assert rows_digest({**mine, "run_waterfalls": pa.Table.from_pylist(rows, RESULTS["run_waterfalls"])}) != digest
