"""What the fold makes of a call's logs, and what it refuses, by name."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from backtest.errors import RulesError
from backtest.protocols.liquity_v2.events import constants, discover, price_sources
from backtest.protocols.liquity_v2.fold import fold
from tests.protocols.liquity_v2.hand import E18, YEAR
from tests.protocols.liquity_v2.logs import CONFIG, REGISTRY, Logs, trove


def opened(logs: Logs, number: int, coll: int, debt: int, fee: int) -> None:
    """A trove at 5 %, its own."""
    own = {"trove": trove(number), "rate": E18 // 20}
    logs.add(1, "TroveUpdated", **own, debt=debt + fee, coll=coll, stake=coll)
    logs.add(1, "TroveOperation", **own, operation=0, fee=fee, by_debt=debt, by_coll=coll)


def made() -> Logs:
    """Two troves; a year later the smaller one, which owes 2,100 against 2 ether, is shared out at 1,000: 2,100 x 1.1 /
    1,000 = 2.31, more than its 2, so that 2 go to the other's 100.
    """
    logs = Logs()
    opened(logs, 1, 100 * E18, 20_000 * E18, 0)
    opened(logs, 2, 2 * E18, 1_990 * E18, 10 * E18)
    logs.add(1 + YEAR, "TroveUpdated", trove=trove(2))
    logs.add(1 + YEAR, "TroveOperation", trove=trove(2), operation=5, by_debt=-2_100 * E18, by_coll=-2 * E18)
    logs.add(
        1 + YEAR, "Liquidation", debt=2_100 * E18, gas_ether=375 * 10**14, coll=2 * E18, coll_sum=E18 // 50,
        debt_sum=21 * E18, price=1_000 * E18,
    )  # fmt: skip
    return logs


def folded(logs: Logs) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, table in fold(CONFIG, logs):
        found[name] += table.to_pylist()
    return found


def test_a_liquidation_with_a_year_of_interest_is_explained() -> None:
    (row,) = folded(made())["liquidations"]
    assert (int(row["repaid"]), int(row["seized"]), int(row["protocol_fee"])) == (2_100 * E18, 0, 2 * E18)


def test_recorded_debt_follows() -> None:
    """22,000 and 1,100 of interest, less 2,100 that are the DefaultPool's now."""
    rows = [row for row in folded(made())["position_events"] if row["account_id"] == 2 and row["side"] == "debt"]
    assert sum(int(row["delta"]) for row in rows) == 21_000 * E18


@pytest.mark.parametrize(
    ("event", "column", "what"),
    [
        ("TroveUpdated", "stake", "a trove is"),
        ("TroveOperation", "by_debt", "a liquidated trove is"),
        ("Liquidation", "surplus", "a call of liquidations is"),
        ("Liquidation", "debt_sum", "sums per unit staked is"),
    ],
)
def test_a_log_that_says_one_unit_more_stops_the_fold(event: str, column: str, what: str) -> None:
    logs = made()
    places = [n for n, (_, name, row) in enumerate(logs.logs) if name == event and (column in row or event[0] == "L")]
    row = logs.logs[places[-1]][2]
    row[column] = row.get(column, 0) + 1
    with pytest.raises(RulesError, match=what):
        folded(logs)


def test_contracts_and_terms_come_from_the_registry() -> None:
    logs = made()
    found = discover({"addresses_registry": frozenset({"0x" + REGISTRY.hex()})}, logs)
    assert set(found) == {
        "addresses_registry", "trove_manager", "borrower_operations", "stability_pool", "active_pool", "price_feed",
    }  # fmt: skip
    assert len(constants(logs)) == 7
    assert [(each.fixed, each.times) for each in price_sources(logs)] == [(None, 10**10), (E18, 1)]
