"""What a run stores of an outcome and says about it, from outcomes written down by hand."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backtest.errors import UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId, Clock
from backtest.outcome import notes_of, question_of, tables_of, terms_of
from backtest.replay.record import ActionCount, MadeLiquidatable, RateCheck, Reach, Replay
from backtest.result_tables import RESULTS, RUN_TABLES, as_table
from backtest.scenario import RESPONSES, Competitive, Override, Scenario, Users
from backtest.tables import AMOUNT
from tests.support.hand_made_replays import U, address, hit, replay_of
from tests.support.lake_tables import CONFIG, MARKET

MODEL = Scenario(name="model", liquidators=Competitive())
REAL = MarketConfig(name=MARKET, protocol="aave-v3", chain_id=1, start_block=1, contracts={"pool": "0x" + "11" * 20})
ACTIONS = [
    ActionCount("borrow", "skipped", "health factor too low", False, 3, 250 * U),
    ActionCount("withdraw", "skipped", "health factor too low", False, 1, 40 * U),
    ActionCount("borrow", "skipped", "cap exceeded", False, 2, 7 * U),
    ActionCount("borrow", "shrunk", "health factor too low", False, 1, 5 * U),
    ActionCount("withdraw", "cut", "", True, 4, 9 * U),
    ActionCount("repay", "changed", "", False, 6, U // 2),
]


def rows_of(
    outcome: Replay[Any], scenario: Scenario = MODEL, config: MarketConfig = CONFIG, *, proxy_prices: bool = False
) -> dict[str, list[Any]]:
    tables = tables_of(
        outcome, scenario, config, "r1", lake_digest="d", proxy_prices=proxy_prices, notes=("one", "two")
    )
    assert {name: table.schema for name, table in tables.items()} == {name: RESULTS[name] for name in RUN_TABLES}
    return {name: table.to_pylist() for name, table in tables.items()}


# -- tables ------------------------------------------------------------------------------------------------------------


def test_a_run_is_one_row_that_says_what_it_is() -> None:
    scenario = Scenario(
        name="x",
        liquidators=Competitive(),
        overrides=(Override(parameter="ltv", asset="COL", value=1),),
        users=Users(response="same-ltv", refused="shrink"),
        rates="recomputed",
        allow_invalid=True,
        seed=4,
    )
    outcome = replay_of(
        [hit("A", repaid=3, seized=4, fee=0)] * 2,
        actions=ACTIONS,
        actions_made=90,
        rate_check=RateCheck(updates=8, differing=2, largest=5),
    )
    (run,) = rows_of(outcome, scenario)["runs"]
    assert (run["response"], run["refused"], run["rates"], run["overridden"]) == (
        "same-ltv",
        "shrink",
        "recomputed",
        True,
    )
    assert (run["liquidations"], run["accounts_liquidated"], run["actions"], run["actions_altered"]) == (2, 1, 90, 17)
    assert (run["rate_updates"], run["rate_updates_differing"], run["rate_difference"]) == (8, 2, 5)
    assert (run["synthetic"], run["proxy_prices"], run["missing_windows"]) == (True, False, '["+1h", "+1d", "+7d"]')
    assert run["terms"] == replace(scenario, overrides=(), allow_invalid=False, name="any").canonical()
    assert run["question"] == replace(scenario, users=Users(refused="shrink")).canonical()
    (run,) = rows_of(replay_of([]), Scenario(), REAL, proxy_prices=True)["runs"]
    assert (run["synthetic"], run["proxy_prices"], run["overridden"], run["liquidator_model"]) == (
        False,
        True,
        False,
        "observed",
    )
    assert run["rate_updates"] is run["rate_difference"] is None


def test_the_responses_share_a_question_and_not_their_terms() -> None:
    band = [replace(MODEL, users=Users(response=response)) for response in RESPONSES]  # type: ignore[arg-type]
    assert len({question_of(one) for one in band}) == 1
    assert len({terms_of(one) for one in band}) == len(RESPONSES) == 3


def test_windows_equity_actions_and_reach_are_stored() -> None:
    outcome = replay_of(
        [hit("B", repaid=50, seized=54, fee=2, by_override=True)],
        deficits={"B": 20},
        equity={"end": {"A": 30, "C": -7}, "+1h": {"A": 29}},
        peak=40,
        unpriced={"+1h": 2},
        actions=ACTIONS[:1],
        made_liquidatable=[MadeLiquidatable(account=AccountId(1), clock=Clock(12, -1, 120), debt_base=60 * U)],
        reach=[Reach(override="o", accounts=3, of=9, in_emode=1)],
    )
    stored = rows_of(outcome)
    end, later = stored["run_windows"]
    assert (
        end["label"],
        end["realised_bad_debt_base"],
        end["open_bad_debt_base"],
        end["peak_bad_debt_base"],
        end["peak_block"],
    ) == (
        "end",
        20 * U,
        7 * U,
        40 * U,
        55,
    )
    assert (
        later["label"],
        later["timestamp"] - end["timestamp"],
        later["open_bad_debt_base"],
        later["accounts_unpriced"],
    ) == ("+1h", 3600, 0, 2)
    assert {(row["label"], row["account"], int(row["equity_base"])) for row in stored["run_equity"]} == {
        ("end", address("A"), 30 * U),
        ("end", address("C"), -7 * U),
        ("+1h", address("A"), 29 * U),
    }
    (action,) = stored["run_actions"]
    assert (action["action"], action["outcome"], action["actions"], action["value_base"]) == (
        "borrow",
        "skipped",
        3,
        250 * U,
    )
    (made,) = stored["run_override_accounts"]
    assert (made["account"], made["block_number"], made["debt_base"]) == (address("B"), 12, 60 * U)
    (reach,) = stored["run_reach"]
    assert (reach["override"], reach["accounts"], reach["accounts_with_debt"], reach["accounts_in_emode"]) == (
        "o",
        3,
        9,
        1,
    )
    assert stored["run_liquidations"][0]["made_by_override"] is True


def test_what_was_reenacted_before_the_first_block_is_no_part_of_the_run() -> None:
    """Liquidations of ``replay_of`` are in blocks 20 and 21."""
    hits = [hit("A", repaid=3, seized=4, fee=0), hit("B", repaid=5, seized=6, fee=0)]
    stored = rows_of(replay_of(hits, deficits={"A": 1}, from_clock=Clock(21, -1, 2001)))
    assert [(row["ordinal"], row["repaid_base"]) for row in stored["run_liquidations"]] == [(1, 5 * U)]
    assert (
        stored["runs"][0]["from_block"],
        stored["runs"][0]["liquidations"],
        stored["runs"][0]["accounts_liquidated"],
    ) == (21, 1, 1)
    assert stored["run_deficits"] == []


def test_a_value_that_fits_no_column_is_named() -> None:
    with pytest.raises(UserError, match="a value of debt_base does not fit"):
        rows_of(
            replay_of(
                [], made_liquidatable=[MadeLiquidatable(account=AccountId(0), clock=Clock(1, -1, 1), debt_base=10**39)]
            )
        )


# -- notes -------------------------------------------------------------------------------------------------------------


def notes(outcome: Replay[Any], scenario: Scenario = MODEL, config: MarketConfig = CONFIG) -> list[str]:
    return notes_of(outcome, scenario, config, ("The protocol's own.",))


def test_actions_are_counted_by_value_with_their_reasons() -> None:
    said = notes(replay_of([], actions=ACTIONS))
    for note in (
        (
            "5 borrow actions of users would have reverted and were skipped, 257.00 USD in all (health factor too low:"
            " 3; cap exceeded: 2)."
        ),
        (
            "1 withdraw actions of users would have reverted and were skipped, 40.00 USD in all (health factor too"
            " low: 1)."
        ),
        (
            "1 borrow actions of users would have reverted and were shrunk to what the rules allow, 5.00 USD in all"
            " (health factor too low: 1)."
        ),
        (
            "4 withdraw actions of accounts that history's liquidations paid did not fit the changed book and were cut,"
            " 9.00 USD in all."
        ),
        "6 repay actions of users are of another size than in history, 0.50 USD in all.",
    ):
        assert said.count(note) == 1, note
    assert not [note for note in notes(replay_of([])) if "actions of users" in note]


@pytest.mark.parametrize(
    ("scenario", "check", "said"),
    [
        (MODEL, None, ["Interest rates and indexes are history's: they do not react to what the model changes."]),
        (
            MODEL,
            RateCheck(updates=8, differing=2, largest=5),
            [
                "Recomputed interest would give, before the model acts: 2 of 8 rate updates differ from history's, by"
                " at most 5 ray."
            ],
        ),
        (
            replace(MODEL, rates="recomputed"),
            None,
            ["Recomputed interest before the model acts: nothing to compare with history."],
        ),
        (
            replace(MODEL, rates="recomputed"),
            RateCheck(updates=0, differing=0, largest=0),
            ["Recomputed interest before the model acts: nothing to compare with history."],
        ),
        (
            replace(MODEL, rates="recomputed"),
            RateCheck(updates=8, differing=0, largest=0),
            [
                "Interest follows this book's utilisation through the market's own rate strategies.",
                (
                    "Recomputed interest before the model acts: 0 of 8 rate updates differ from history's, by at most 0"
                    " ray."
                ),
            ],
        ),
        (
            MODEL,
            None,
            [
                "Users act as in history; each action is checked again by the market's rules, and one that would revert"
                " is skipped."
            ],
        ),
        (
            replace(MODEL, users=Users(response="same-health", refused="shrink")),
            None,
            [
                "Users borrow and withdraw so that they have the same health factor as in history; each action is"
                " checked again by the market's rules, and one that would revert is shrunk to the largest amount"
                " allowed."
            ],
        ),
    ],
)
def test_rates_and_responses_are_said(scenario: Scenario, check: RateCheck | None, said: list[str]) -> None:
    found = notes(replay_of([], rate_check=check), scenario)
    assert [note for note in said if note not in found] == []


def test_overrides_windows_and_data_are_said() -> None:
    outcome = replay_of(
        [],
        equity={"end": {}, "+1h": {}},
        unpriced={"+1h": 2},
        overrides={"ltv of COL = 1 from block 0": 4},
        reach=[
            Reach(override="ltv of COL = 1", accounts=1, of=4, in_emode=2),
            Reach(override="early", accounts=0, of=0, in_emode=0),
        ],
        made_liquidatable=[
            MadeLiquidatable(account=AccountId(n % 2), clock=Clock(1, -1, 1), debt_base=30 * U) for n in range(3)
        ],
    )
    said = notes(outcome)
    for note in (
        "Override ltv of COL = 1 from block 0: 4 values.",
        "Override ltv of COL = 1 touches 1 of 4 accounts with debt (25.0%); 2 with debt in an e-mode are left alone.",
        "Override early reaches nobody: no account has debt.",
        "Overrides themselves, not prices, made 2 accounts with 90.00 USD of debt liquidatable.",
        "No figures for windows that end +1d, +7d later: the data end before.",
        "Totals and equity leave out accounts that use an asset without a price: up to 2 accounts.",
        "Not a real market: a local node, chain id 31337.",
        "The protocol's own.",
    ):
        assert said.count(note) == 1, note
    assert not [note for note in notes(outcome, config=REAL) if note.startswith("Not a real market")]
    whole = replay_of([], equity={label: {} for label in ("end", "+1h", "+1d", "+7d")})
    assert not [note for note in notes(whole) if "No figures" in note]


def test_history_says_nothing_about_a_model() -> None:
    said = notes(replay_of([hit("A", repaid=3, seized=4, fee=0, matches=True)]), Scenario())
    assert "1 of 1 re-enacted liquidations equal history's to the last unit; 0 would have reverted." in said
    assert not [note for note in said if "Users" in note or "Interest" in note or "left out" in note]


@given(st.lists(st.one_of(st.none(), st.integers(-(10**38) + 1, 10**38 - 1), st.integers(-5, 5))))
def test_amounts_are_stored_to_the_last_digit(values: list[int | None]) -> None:
    table = as_table(
        pa.schema([("amount", AMOUNT), ("run", pa.string())]), [{"amount": value} for value in values], {"run": "a"}
    )
    table.validate(full=True)
    assert [None if value is None else int(value) for value in table["amount"].to_pylist()] == values
    assert table["run"].to_pylist() == ["a"] * len(values)


@pytest.mark.parametrize("value", [10**38, -(10**38), 2**200])
def test_an_amount_of_more_digits_is_refused(value: int) -> None:
    with pytest.raises(UserError, match="a value of amount does not fit"):
        as_table(pa.schema([("amount", AMOUNT)]), [{"amount": 1}, {"amount": value}])
