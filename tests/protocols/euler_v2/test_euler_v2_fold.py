"""What the fold makes of a batch's logs, and what it refuses, by name."""

from __future__ import annotations

from typing import Any

import pytest

from backtest.errors import RulesError, UserError
from backtest.protocols.euler_v2.calls import Debts
from backtest.protocols.euler_v2.events import QUOTE, discover, price_sources, readings, tokens
from backtest.protocols.euler_v2.fold import fold
from tests.protocols.euler_v2.session import CONFIG, KEEPER, folded
from tests.protocols.euler_v2.system import (
    ADAPTER,
    E18,
    EVC,
    FACTORY,
    FEEDS,
    ROUTER,
    TOKENS,
    USD,
    VAULTS,
    Raw,
    System,
    who,
)

LENDER, ALICE, SECOND = who(1), who(2), who(2, 5)
USDC = 10**6


def made() -> System:
    """The lender lends 10,000; alice's second account borrows 1,500 before it pledges an ether, in one batch."""
    system = System()
    lend, weth = system.vaults["USDC"], system.vaults["WETH"]
    assert system.batch(lambda: lend.deposit(LENDER, 10_000 * USDC))
    system.next()
    assert system.batch(
        lambda: system.control(SECOND),
        lambda: lend.borrow(SECOND, 1_500 * USDC),
        lambda: system.enable(SECOND, "WETH"),
        lambda: weth.deposit(SECOND, E18),
    )
    system.next()
    return system


def liquidated() -> System:
    """At 1,500 an ether is worth 1,275 of 1,500: all is seized for that, and 225 are lost."""
    system = made()
    lend, weth = system.vaults["USDC"], system.vaults["WETH"]
    system.move("WETH", 1_500 * E18)
    assert system.batch(lambda: weth.deposit(KEEPER, 9 * E18))
    assert system.batch(
        lambda: system.control(KEEPER),
        lambda: system.enable(KEEPER, "WETH"),
        lambda: lend.liquidate(KEEPER, SECOND, "WETH", None),
        lambda: lend.repay(KEEPER, None),
        lambda: weth.redeem(KEEPER, 9 * E18),
    )
    return system


def moves(rows: dict[str, list[dict[str, Any]]]) -> list[tuple[Any, ...]]:
    names = ("account_id", "asset_id", "side", "action", "action_seq")
    return [(*(row[name] for name in names), int(row["delta"])) for row in rows["position_events"]]


def test_a_batch_is_one_action_that_its_check_closes() -> None:
    rows = folded(made())
    (check,) = [row for row in rows["setting_events"] if row["setting"] == "status_checked"]
    assert check["action"] == "batch"
    assert check["value"] == check["timestamp"]
    own = [row for row in moves(rows) if row[0] == 1]
    assert own == [
        (1, 0, "debt", "borrow", check["action_seq"], 1_500 * USDC << 31),
        (1, 1, "collateral", "supply", check["action_seq"], E18),
    ]
    enabled = next(row for row in rows["setting_events"] if row["setting"] == "collateral_enabled")
    assert (enabled["action"], enabled["action_seq"]) == ("enable", check["action_seq"])


def test_accounts_say_whose_they_are() -> None:
    rows = folded(made())
    names = [row["account"] for row in rows["accounts"]]
    assert names == ["0x" + each.hex() for each in (LENDER, SECOND)]
    (number,) = [row for row in rows["setting_events"] if row["setting"] == "sub_account"]
    assert (number["account_id"], number["value"]) == (1, 5)


def test_a_liquidation_with_what_it_wrote_off() -> None:
    rows = folded(liquidated())
    (row,) = rows["liquidations"]
    assert (int(row["repaid"]), int(row["seized"]), row["receive_collateral_token"]) == (1_275_000_000, E18, True)
    (lost,) = rows["deficits"]
    assert int(lost["amount"]) == 225 * USDC + 6  # of interest, in 24 seconds
    own = [(who, asset, side, action) for who, asset, side, action, _, _ in moves(rows)][-7:]
    assert own == [
        (1, 0, "debt", "liquidation"), (2, 0, "debt", "liquidation"), (1, 1, "collateral", "liquidation"),
        (2, 1, "collateral", "liquidation"), (1, 0, "debt", "liquidation"), (2, 0, "debt", "repay"),
        (2, 1, "collateral", "withdraw"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("event", "column", "what"),
    [
        ("VaultStatus", "total_borrows", "total borrows of 0x"),
        ("VaultStatus", "cash", "cash of 0x"),
        ("VaultStatus", "total_shares", "total shares of 0x"),
        ("VaultStatus", "accumulated_fees", "accumulated fees of 0x"),
        ("VaultStatus", "interest_accumulator", "interest accumulator of 0x"),
        ("Repay", "assets", "of debt moved and|less is owed by the rules"),
        ("Deposit", "shares", "total shares of 0x"),
        ("Liquidate", "yield_balance", "without the transfer of what it seized"),
        ("Liquidate", "repay_assets", "by the rules"),
    ],
)
def test_a_log_that_says_one_unit_more_stops_the_fold_at_its_block(event: str, column: str, what: str) -> None:
    system = liquidated()
    place = max(n for n, log in enumerate(system.logs) if log[4] == event)
    system.logs[place][5][column] += 1
    with pytest.raises(RulesError, match=f"block {system.logs[place][0]}, log .*({what})"):
        folded(system)


def test_a_missing_log_shows_at_the_next_status() -> None:
    system = made()
    place = next(n for n, log in enumerate(system.logs) if log[4] == "Borrow")
    del system.logs[place]
    with pytest.raises(RulesError, match=f"block {system.logs[place][0]}, log .*total borrows of 0x"):
        folded(system)


def test_collateral_that_is_not_priced_by_its_shares_stops_the_fold() -> None:
    system = made()
    system.logs = [log for log in system.logs if log[4] != "ResolvedVaultSet"]
    assert system.batch(lambda: system.vaults["USDC"].borrow(SECOND, 1))
    with pytest.raises(RulesError, match="a2 is not priced by what its shares convert to"):
        folded(system)


def test_collateral_of_another_kind_is_refused() -> None:
    system = made()
    system.logs = [log for log in system.logs if not (log[4] == "ProxyCreated" and log[5]["proxy"] == VAULTS["WBTC"])]
    with pytest.raises(RulesError, match=r"collateral 0xa3.* is no vault of the factory"):
        folded(system)


def test_a_market_is_what_its_description_says() -> None:
    from msgspec.structs import replace

    with pytest.raises(UserError, match=r"the unit of account 0x0+348 has 18"):
        list(fold(replace(CONFIG, base_decimals=8), Raw(made())))
    system = made()
    system.logs = [log for log in system.logs if not (log[4] == "ProxyCreated" and log[5]["proxy"] == VAULTS["USDC"])]
    with pytest.raises(UserError, match="the factory made no vault 0xa1"):
        folded(system)


def test_contracts_are_found_in_the_logs_of_two() -> None:
    raw = Raw(made())
    start = {"evc": frozenset({"0x" + EVC.hex()}), "factory": frozenset({"0x" + FACTORY.hex()})}
    found = discover(start, raw)
    assert found["vault"] == {"0x" + VAULTS[name].hex() for name in VAULTS}
    assert found["router"] == {"0x" + ROUTER.hex()}
    assert tokens(raw) == ["0x" + each.hex() for each in (TOKENS["USDC"], VAULTS["WETH"], VAULTS["WBTC"])]
    asked = {(each.address, each.function) for each in readings(raw)}
    assert ("0x" + ADAPTER["WETH"].hex(), "feed()") in asked
    assert ("0x" + FEEDS["WETH"].hex(), "decimals()") in asked
    assert len([call for _, call in asked if call == "kink()"]) == 1


def test_prices_are_feeds_or_the_router_s_own() -> None:
    """An adapter that names a feed in this direction is that feed times 10^10; one that does not is asked."""
    raw = Raw(made())
    last = {change.asset: change for change in price_sources(raw)}
    weth = last["0x" + VAULTS["WETH"].hex()]
    assert (weth.source, weth.getter, weth.times) == ("0x" + FEEDS["WETH"].hex(), "latestAnswer()", 10**10)
    system = made()
    pair = sorted((TOKENS["WETH"], USD))
    other = bytes([0xBB]) * 20
    system.log(ROUTER, "ConfigSet", {"asset0": pair[0], "asset1": pair[1], "oracle": other})
    asked = {change.asset: change for change in price_sources(Raw(system))}["0x" + VAULTS["WETH"].hex()]
    assert (asked.source, asked.oracle, asked.getter) == ("0x" + other.hex(), "0x" + ROUTER.hex(), QUOTE)
    assert asked.arguments == (E18, int.from_bytes(TOKENS["WETH"], "big"), 840)


def test_calls_on_a_debt_are_told_by_what_follows_them() -> None:
    """A repayment and a loan of another account are two calls; before a PullDebt they are one."""
    one, two, vault = who(1), who(2), VAULTS["USDC"]

    def log(event: str, **columns: Any) -> tuple[int, str, dict[str, Any]]:
        return 0, event, {"address": vault, **columns}

    both = [log("Repay", account=one, assets=5), log("Borrow", account=two, assets=5)]
    assert [call.kind for call in Debts.of(both).calls] == ["repay", "borrow"]
    pulled = [*both, log("PullDebt", **{"from": one, "to": two, "assets": 5})]
    (call,) = Debts.of(pulled).calls
    assert (call.kind, call.giver, call.taker, call.at) == ("transfer", one, two, 2)
    other = [*both, log("PullDebt", **{"from": two, "to": one, "assets": 5})]
    assert [call.kind for call in Debts.of(other).calls] == ["repay", "borrow"]
    shares = [log("Withdraw", owner=one, receiver=one, assets=5, shares=4), log("Repay", account=one, assets=5)]
    found = Debts.of(shares)
    assert ([call.kind for call in found.calls], found.with_shares) == (["repay_with_shares"], {0})
