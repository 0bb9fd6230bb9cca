"""Both sides of mitigations: the view and the section of a comparison, against sums by hand and by Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace

from backtest.lake import Lake
from backtest.outcome import notes_of, tables_of
from backtest.replay.engine import replay
from backtest.replay.record import MitigationEffect
from backtest.report import select
from backtest.report.comparison import Comparison
from backtest.report.text import as_text
from backtest.result_tables import rows_digest
from backtest.scenario import Competitive, Override, ReserveFund, Scenario, ToxicHalt
from tests.support.contest_history import POOL, falling
from tests.support.hand_made_replays import U, hit, lake_of, replay_of
from tests.support.lake_tables import CONFIG

pytestmark = pytest.mark.slow

PLAIN = Scenario(name="plain", liquidators=Competitive())
HALTED = replace(PLAIN, name="halted", mitigations=(ToxicHalt(), ReserveFund(name="fund", reserve=7 * U)))
LOWER = (Override(parameter="liquidation_threshold", asset="COL", value=8000),)


def lake(path: Path, *, plain: Scenario = PLAIN, halted: Scenario = HALTED) -> Lake:
    """A is liquidated without the halt alone, B in both, C with it alone; lost are 20 of A, 5 of C, 3 of B in both."""
    without = replay_of(
        [hit("A", repaid=100, seized=105, fee=1), hit("B", repaid=50, seized=55, fee=0)],
        deficits={"A": 20, "B": 3},
        equity={"end": {"B": 40, "C": 30}},
        peak=25,
    )
    halted_ = replay_of(
        [hit("B", repaid=50, seized=53, fee=0), hit("C", repaid=10, seized=11, fee=0)],
        deficits={"B": 3, "C": 4},
        equity={"end": {"A": 12, "B": 42, "C": -1}},
        peak=9,
        mitigations=[
            MitigationEffect(place=0, kind="toxic-halt", effect="withheld", number=1, value_base=100 * U),
            MitigationEffect(place=1, kind="reserve-fund", effect="paid", detail="fund", number=2, value_base=7 * U),
        ],
    )
    return lake_of(path, {"a" * 64: (plain, without), "b" * 64: (halted, halted_)})


def sides(found: Lake) -> dict[str, Any]:
    [row] = found.sql("FROM run_sides").to_arrow_table().to_pylist()
    return dict(row)


def test_both_sides_by_hand(tmp_path: Path) -> None:
    row = sides(lake(tmp_path / "lake"))
    assert (row["run_id"], row["without_id"]) == ("b" * 64, "a" * 64)
    assert row["mitigations"] == "toxic-halt, reserve-fund"
    assert row["bad_debt_avoided_base"] == 20 * U  # A's
    assert row["bad_debt_from_delay_base"] == 5 * U  # C's: 4 written off, 1 open
    assert (row["spared_accounts"], row["hurt_accounts"]) == (1, 1)
    assert row["spared_base"] == (12 + 2) * U  # A holds nothing without the halt, B 40
    assert row["hurt_base"] == 31 * U
    assert row["borrowing_power_given_up_base"] == 0
    assert row["liquidators_profit_base"] == (3 + 1 - 5 - 5) * U
    assert (row["paid_base"], row["shared_base"]) == (7 * U, 0)


def test_without_the_run_without_them_nothing_is_compared(tmp_path: Path) -> None:
    other = replace(PLAIN, overrides=LOWER)
    found = lake(tmp_path / "lake", plain=other)
    row = sides(found)
    assert row["without_id"] is None
    assert {row[key] for key in row if key.endswith("_base") and key[:4] not in ("paid", "shar")} == {None}
    assert row["spared_accounts"] is None
    text = "\n".join(Comparison(select(found, ["halted"])).remarks())
    assert "halted: the same scenario without its mitigations is not stored" in text
    assert "--run bbbbbbbbbbbb --unmitigated" in text


def test_with_overrides_the_other_side_has_them_too(tmp_path: Path) -> None:
    found = lake(tmp_path / "lake", plain=replace(PLAIN, overrides=LOWER), halted=replace(HALTED, overrides=LOWER))
    assert sides(found)["without_id"] == "a" * 64


def test_a_comparison_has_a_section_of_them(tmp_path: Path) -> None:
    found = lake(tmp_path / "lake")
    text = as_text(select(found))
    assert "Both sides of the mitigations, against the same scenario without them" in text
    [avoided] = [line for line in text.splitlines() if line.startswith("Bad debt avoided")]
    assert avoided.split()[-1] == "20.00"
    assert "Mitigation: No liquidation above the toxic frontier" in " ".join(text.split())
    plain = as_text(select(lake(tmp_path / "other", halted=replace(PLAIN, name="lower", overrides=LOWER))))
    assert "Both sides" not in plain


def test_parts_of_an_account_are_one_account(tmp_path: Path) -> None:
    """C is parted: what its part owes and loses is C's."""
    found = lake(tmp_path / "lake")
    whole = sides(found)
    with found.writer() as writer:
        for name, column in (("run_equity", "account"), ("run_deficits", "account"), ("run_liquidations", "account")):
            rows = found.read(f"results/{name}", CONFIG.name)
            texts = [
                f"{who}#WBTC" if run == "b" * 64 and who.endswith("a3") else who
                for run, who in zip(rows["run_id"].to_pylist(), rows[column].to_pylist(), strict=True)
            ]
            place = rows.schema.get_field_index(column)
            field = rows.schema.field(place)
            column_ = pa.array(texts, pa.string()).cast(field.type)
            writer.replace(
                CONFIG.name, f"results/{name}", [(f"results/{name}", rows.set_column(place, field, column_))], stamp="x"
            )
    found.refresh()
    assert any("#" in row["account"] for row in found.read("results/run_equity", CONFIG.name).to_pylist())
    assert sides(found) == whole


@pytest.mark.parametrize("mitigations", [(), (ToxicHalt(),)], ids=["none", "a halt that never binds"])
def test_rows_are_those_of_today(mitigations: tuple[Any, ...]) -> None:
    """Digest of all rows: no new table in it, and none where nothing bound."""
    h = falling(8, 12)

    def tables(scenario: Scenario) -> Any:
        result = replay(POOL, h.market, h.timeline(), scenario, samples=5)
        notes = notes_of(result, scenario, CONFIG, ())
        return tables_of(result, scenario, CONFIG, "r", lake_digest="d", proxy_prices=False, notes=notes)

    plain, same = tables(PLAIN), tables(replace(PLAIN, mitigations=mitigations))
    assert rows_digest(plain) == rows_digest(same)
    assert plain["run_mitigations"].num_rows == 0
