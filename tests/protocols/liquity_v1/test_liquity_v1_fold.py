"""What the fold makes of a call's logs, and what it refuses, by name."""

from __future__ import annotations

from typing import Any

import pytest

from backtest.errors import RulesError, UserError
from backtest.protocols.liquity_v1.events import constants, discover, price_sources, tokens
from backtest.protocols.liquity_v1.fold import fold
from tests.protocols.liquity_v1.session import CALLER, CONFIG, folded
from tests.protocols.liquity_v1.system import AT, E18, Raw, System, who

ALICE, BOB, CAROL = map(who, range(3))


def made() -> System:
    """Bob is rich, alice owes 2,210 against 3 ether; at 780 she is liquidated without a pool."""
    system = System()
    system.move(2_000 * E18)
    system.open(BOB, 100 * E18, 20_000 * E18)
    system.open(ALICE, 3 * E18, 2_000 * E18)
    return system


def liquidated() -> System:
    system = made()
    system.move(780 * E18)
    system.liquidate([ALICE], CALLER)
    return system


def moves(system: System) -> list[tuple[Any, ...]]:
    names = ("account_id", "asset_id", "side", "action")
    return [(*(row[name] for name in names), int(row["delta"])) for row in folded(system)["position_events"]]


def test_accounts_are_the_systems_own_two_and_then_owners() -> None:
    rows = folded(liquidated())
    names = [row["account"] for row in rows["accounts"]]
    assert names == ["0x" + each.hex() for each in (AT["stability"], AT["default"], BOB, ALICE, CALLER)]
    assert [row["symbol"] for row in rows["assets"]] == ["ETH", "LUSD"]


def test_an_opened_trove_owes_its_fee_and_the_gas_reserve() -> None:
    """2,000 and 0.5 %, 10, and 200; the call moved 2,000."""
    rows = [row for row in folded(made())["position_events"] if row["account_id"] == 3]
    assert [(row["asset_id"], int(row["delta"]), int(row["amount"])) for row in rows] == [
        (1, 2_210 * E18, 2_000 * E18), (0, 3 * E18, 3 * E18),
    ]  # fmt: skip


def test_a_liquidation_closes_the_trove_and_gives_to_the_default_pool() -> None:
    """0.015 ether to the caller, 2.985 and the debt to the other troves; who called is told by the ether it got."""
    system = liquidated()
    assert moves(system)[-4:] == [
        (3, 0, "collateral", "liquidation", -3 * E18), (3, 1, "debt", "liquidation", -2_210 * E18),
        (1, 0, "collateral", "liquidation", 2_985 * E18 // 1_000), (1, 1, "debt", "liquidation", 2_210 * E18),
    ]  # fmt: skip
    (row,) = folded(system)["liquidations"]
    assert (int(row["repaid"]), int(row["seized"]), int(row["protocol_fee"]), row["liquidator_id"]) == (
        2_210 * E18, 15 * E18 // 1_000, 2_985 * E18 // 1_000, 4,
    )  # fmt: skip
    assert folded(system)["deficits"] == []


@pytest.mark.parametrize(
    ("event", "column", "what"),
    [
        ("TroveAdjusted", "stake", "a trove is"),
        ("TotalStakesUpdated", "stakes", "all stakes is"),
        ("LTermsUpdated", "debt_sum", "LTermsUpdated is"),
        ("SystemSnapshotsUpdated", "colls", "SystemSnapshotsUpdated is"),
        ("TroveLiquidated", "debt", "a liquidated trove is"),
        ("Liquidation", "gas_coll", "a call of liquidations is"),
    ],
)
def test_a_log_that_says_one_unit_more_stops_the_fold_at_its_block(event: str, column: str, what: str) -> None:
    system = liquidated()
    place = max(n for n, (_, name, _) in enumerate(system.logs) if name == event)
    system.logs[place][2][column] += 1
    with pytest.raises(RulesError, match=f"block {system.logs[place][0]}, log .*{what}"):
        folded(system)


def test_a_liquidation_in_the_other_mode_is_not_explained() -> None:
    system = liquidated()
    next(row for _, name, row in system.logs if name == "TroveLiquidated")["operation"] = 2
    with pytest.raises(RulesError, match="a liquidation in recovery mode, the other one by the rules"):
        folded(system)


def test_a_trove_above_the_least_ratio_is_not_explained() -> None:
    system = liquidated()
    block = system.logs[-1][0]
    last = max(n for n, (at, name, _) in enumerate(system.logs) if at == block and name == "LastGoodPriceUpdated")
    system.logs[last][2]["price"] = 1_900 * E18
    with pytest.raises(RulesError, match="nothing to liquidate by the rules"):
        folded(system)


@pytest.mark.parametrize("status", [1, 2, 3])
def test_a_feed_that_does_not_trust_chainlink_stops_the_fold(status: int) -> None:
    system = made()
    system.logs.append((system.block + 1, "PriceFeedStatusChanged", {"status": status}))
    with pytest.raises(RulesError, match=rf"does not trust Chainlink any more \(status {status}\)"):
        folded(system)


def test_a_feed_that_trusts_chainlink_alone_does_not() -> None:
    """Status 4: Tellor is not trusted; Chainlink's answer counts as before (PriceFeed.fetchPrice, case 5)."""
    system = made()
    system.logs.append((system.block + 1, "PriceFeedStatusChanged", {"status": 4}))
    assert len(folded(system)["position_events"]) == len(folded(made())["position_events"])


def test_contracts_are_found_in_the_logs_of_one() -> None:
    raw = Raw(made())
    found = discover({"trove_manager": frozenset({"0x" + AT["manager"].hex()})}, raw)
    assert {role: set(addresses) for role, addresses in found.items()} == {
        role: {"0x" + AT[name].hex()}
        for role, name in (
            ("trove_manager", "manager"), ("borrower_operations", "borrowing"), ("stability_pool", "stability"),
            ("active_pool", "active"), ("price_feed", "feed"),
        )
    }  # fmt: skip
    assert [(each.getter, each.contract) for each in constants(raw)] == [("priceAggregator", True)]
    assert tokens(raw) == ["0x" + AT["lusd"].hex()]
    assert [(each.fixed, each.times) for each in price_sources(raw)] == [(None, 10**10), (E18, 1)]


def test_a_market_without_contracts_is_a_mistake_of_its_description() -> None:
    system = System()
    system.logs.clear()
    with pytest.raises(UserError, match="has no contracts by the last block fetched"):
        list(fold(CONFIG, Raw(system)))
