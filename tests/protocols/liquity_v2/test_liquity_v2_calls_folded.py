"""What the fold makes of batches, deposits, redemptions and shutdowns: every number of the logs is worked by hand, so
that a fold that goes through agrees with it to the unit, and one unit more is refused.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest

from backtest.errors import RulesError
from backtest.model import AccountId, Clock, Market, ParamChange, PositionChange, SettingChange
from backtest.protocols.interface import Acted, Action
from backtest.protocols.liquity_v2 import LIQUITY_V2
from backtest.protocols.liquity_v2.fold import fold
from backtest.protocols.liquity_v2.state import POINTED, ZOMBIE, BranchState
from backtest.replay.engine import replay
from backtest.replay.timeline import Timeline
from backtest.scenario import Scenario
from backtest.tables import CANONICAL
from tests.protocols.liquity_v2.hand import ASSETS, E18, START, YEAR, prices
from tests.protocols.liquity_v2.logs import CONFIG, Logs, trove

MANAGER, DEPOSITOR, OTHER = b"\xa1" * 20, b"\xa2" * 20, b"\xa3" * 20
PERCENT = E18 // 100
P_LEFT, S_GROWN = 10**36 // 1_101, 995 * 10**33 // 1_101
"""Of a pool of 1,101 BOLD that pays 1,100 and gets 0.995 ether: 10^36 x 1 / 1,101 and 10^36 x 0.995 / 1,101."""


def wide(value: int) -> bytes:
    """A word of 32 bytes."""
    return value.to_bytes(32, "big")


def opened(logs: Logs, number: int, coll: int, debt: int, fee: int = 0, rate: int = 5) -> None:
    """A trove by itself, at a rate in percent."""
    own = {"trove": trove(number), "rate": rate * PERCENT}
    logs.add(1, "TroveUpdated", **own, debt=debt + fee, coll=coll, stake=coll)
    logs.add(1, "TroveOperation", **own, operation=0, fee=fee, by_debt=debt, by_coll=coll)


def batch(logs: Logs, time: int, operation: int, debt: int, shares: int, rate: int, fee: int, upfront: int = 0) -> None:
    """What became of the manager's batch; rates in thousandths."""
    logs.add(
        time, "BatchUpdated", manager=MANAGER, operation=operation, debt=debt, shares=shares, rate=rate * E18 // 1_000,
        management_fee=fee * E18 // 1_000, fee=upfront,
    )  # fmt: skip


def batched() -> Logs:
    """Registered at 5 % and 1 %. After a year trove 2 joins with 4,000 x 1.05 = 4,200 and a fee of 100: 4,300 shares.

    2 years: 4,300 x 1.06 = 4,558, and a fee of 42 for 10 %: 4,600. 3 years: 4,600 x 1.11 = 5,106, from then on 0.5 %.
    4 years: 5,106 x 1.105 = 5,642.13; trove 3 opens in it with as much: 4,300 shares more. 5 years: 11,284.26 x 1.105 =
    12,469.1073, of which trove 2 takes a half, 6,234.55365, with it, and pays 10.
    """
    logs = Logs()
    opened(logs, 1, 100 * E18, 20_000 * E18)
    opened(logs, 2, 10 * E18, 4_000 * E18)
    batch(logs, 1, 0, 0, 0, 50, 10)
    own = {"manager": MANAGER, "shares": 4_300 * E18, "coll": 10 * E18, "stake": 10 * E18}
    logs.add(1 + YEAR, "BatchedTroveUpdated", trove=trove(2), **own)
    logs.add(1 + YEAR, "TroveOperation", trove=trove(2), operation=8, rate=5 * PERCENT, fee=100 * E18)
    batch(logs, 1 + YEAR, 4, 4_300 * E18, 4_300 * E18, 50, 10)
    batch(logs, 1 + 2 * YEAR, 2, 4_600 * E18, 4_300 * E18, 100, 10, 42 * E18)
    batch(logs, 1 + 3 * YEAR, 1, 5_106 * E18, 4_300 * E18, 100, 5)
    half = 564_213 * E18 // 100
    logs.add(1 + 4 * YEAR, "BatchedTroveUpdated", trove=trove(3), **own)
    logs.add(
        1 + 4 * YEAR, "TroveOperation", trove=trove(3), operation=7, rate=10 * PERCENT, by_debt=half, by_coll=10 * E18
    )
    batch(logs, 1 + 4 * YEAR, 4, 2 * half, 8_600 * E18, 100, 5)
    half = 623_455_365 * E18 // 10**5
    left = {"trove": trove(2), "rate": 7 * PERCENT}
    logs.add(1 + 5 * YEAR, "TroveUpdated", **left, debt=half + 10 * E18, coll=10 * E18, stake=10 * E18)
    logs.add(1 + 5 * YEAR, "TroveOperation", **left, operation=9, fee=10 * E18)
    batch(logs, 1 + 5 * YEAR, 5, half, 4_300 * E18, 100, 5)
    return logs


def pooled() -> Logs:
    """1,000 are put in; 7.5 of an upfront fee of 10 were waiting. After a year 1,100 of interest: 832.5 are paid out
    with 500 of the deposit. After another 825, kept, and 224 go: 500 - 224 + 825 = 1,101.

    Trove 2 owes 2,200 against 2 ether at 1,000: 1,100 are offset for 1 ether, of which 0.005 are the caller's (1,100 x
    1.05 / 1,000 is more than the rest), 1,100 are shared out with the other ether, over 100 staked. Another depositor
    puts 1,000 in; the first one leaves, and its collateral only later.
    """
    logs = Logs()
    opened(logs, 1, 100 * E18, 20_000 * E18)
    opened(logs, 2, 2 * E18, 1_990 * E18, 10 * E18)
    one = {"product": 10**36}
    deposit(logs, 1, 0, {"moved": 1_000 * E18}, {**one, "deposit": 1_000 * E18})
    paid = 8_325 * E18 // 10
    deposit(
        logs, 1 + YEAR, 1, {"moved": -500 * E18, "yielded": paid, "yield_claimed": paid},
        {**one, "deposit": 500 * E18, "yields": wide(8_325 * 10**32)},
    )  # fmt: skip
    end = 1 + 2 * YEAR
    deposit(
        logs, end, 1, {"moved": -224 * E18, "yielded": 825 * E18},
        {**one, "deposit": 1_101 * E18, "yields": wide(24_825 * 10**32)},
    )  # fmt: skip
    logs.add(end, "TroveUpdated", trove=trove(2))
    logs.add(end, "TroveOperation", trove=trove(2), operation=5, by_debt=-2_200 * E18, by_coll=-2 * E18)
    logs.add(end, "S_Updated", sum=wide(S_GROWN), scale=0)
    logs.add(end, "P_Updated", product=P_LEFT)
    logs.add(end, "StabilityPoolBoldBalanceUpdated", balance=E18)
    logs.add(end, "StabilityPoolCollBalanceUpdated", balance=995 * E18 // 1_000)
    logs.add(
        end, "Liquidation", offset=1_100 * E18, debt=1_100 * E18, gas_ether=375 * 10**14, gas_coll=E18 // 200,
        to_pool=995 * E18 // 1_000, coll=E18, coll_sum=E18 // 100, debt_sum=11 * E18, price=1_000 * E18,
    )  # fmt: skip
    deposit(
        logs, end, 0, {"depositor": OTHER, "moved": 1_000 * E18},
        {"depositor": OTHER, "deposit": 1_000 * E18, "product": P_LEFT, "gains": wide(S_GROWN),
         "yields": wide(24_825 * 10**32)},
    )  # fmt: skip
    left, gain = 1_101 * E18 * P_LEFT // 10**36, 1_101 * E18 * S_GROWN // 10**36
    deposit(logs, end, 1, {"loss": 1_101 * E18 - left, "moved": -left, "gain": gain}, {"stashed": gain})
    deposit(logs, end, 2, {"gain_claimed": gain}, {})
    return logs


def deposit(logs: Logs, time: int, operation: int, moved: dict[str, Any], became: dict[str, Any]) -> None:
    """A call of a depositor, and what its deposit became."""
    zero = {"gains": wide(0), "yields": wide(0), "depositor": DEPOSITOR}
    logs.add(time, "DepositOperation", **{"depositor": DEPOSITOR, "operation": operation, **moved})
    logs.add(time, "DepositUpdated", **{**zero, **became})


def redemption(logs: Logs, time: int, redeemed: int, coll: int, fee: int, price: int) -> None:
    """The end of a redemption, at the oracle's price."""
    told = {"redeemed": redeemed, "coll": coll, "fee": fee, "price": price, "paid_at": price}
    logs.add(time, "Redemption", attempted=redeemed, **told)


def lot(logs: Logs, time: int, number: int, left: dict[str, Any], by_debt: int, by_coll: int, fee: int) -> None:
    """What a redemption took from a trove and left of it."""
    event = "BatchedTroveUpdated" if "manager" in left else "TroveUpdated"
    logs.add(time, event, trove=trove(number), **left)
    logs.add(time, "TroveOperation", trove=trove(number), operation=6, by_debt=-by_debt, by_coll=-by_coll)
    if "manager" in left:
        batch(logs, time, 6, left["shares"], left["shares"], 20, 10)
    logs.add(time, "RedemptionFeePaidToTrove", trove=trove(number), fee=fee)


def redeemed() -> Logs:
    """At 2,000 and 0.5 %: of trove 2, at 1 %, 3,000 for 1.5 - 0.0075 ether; it is left with 1,000 and the next one's
    first: all of it for 0.5 - 0.0025, then 500 of trove 3, in a batch at 2 %, for 0.25 - 0.00125.
    """
    logs = Logs()
    opened(logs, 1, 100 * E18, 20_000 * E18)
    opened(logs, 2, 10 * E18, 4_000 * E18, rate=1)
    batch(logs, 1, 0, 0, 0, 20, 10)
    own = {"manager": MANAGER, "shares": 3_000 * E18, "coll": 10 * E18, "stake": 10 * E18}
    logs.add(1, "BatchedTroveUpdated", trove=trove(3), **own)
    logs.add(1, "TroveOperation", trove=trove(3), operation=7, by_debt=3_000 * E18, by_coll=10 * E18)
    batch(logs, 1, 4, 3_000 * E18, 3_000 * E18, 20, 10)
    coll, left = 85_075 * E18 // 10_000, {"rate": PERCENT}
    lot(
        logs, 1, 2, {**left, "debt": 1_000 * E18, "coll": coll, "stake": coll}, 3_000 * E18, 14_925 * E18 // 10_000,
        75 * E18 // 10_000,
    )  # fmt: skip
    redemption(logs, 1, 3_000 * E18, 14_925 * E18 // 10_000, 75 * E18 // 10_000, 2_000 * E18)
    coll -= 4_975 * E18 // 10_000
    lot(logs, 1, 2, {**left, "coll": coll, "stake": coll}, 1_000 * E18, 4_975 * E18 // 10_000, 25 * E18 // 10_000)
    gets, fee = 24_875 * E18 // 100_000, 125 * E18 // 100_000
    own |= {"shares": 2_500 * E18, "coll": 10 * E18 - gets, "stake": 10 * E18 - gets}
    lot(logs, 1, 3, own, 500 * E18, gets, fee)
    redemption(logs, 1, 1_500 * E18, 4_975 * E18 // 10_000 + gets, 25 * E18 // 10_000 + fee, 2_000 * E18)
    return logs


def shut(*, failed: bool = False, ether: bool = True) -> Logs:
    """Shut down after a year, when trove 2 owes 4,200; a year later still so, and 1,000 of it are redeemed at 1,000 for
    1.02 ether.
    """
    logs = Logs(ether=ether)
    opened(logs, 1, 100 * E18, 20_000 * E18)
    opened(logs, 2, 10 * E18, 4_000 * E18)
    if failed:
        logs.add(1 + YEAR, "ShutDownFromOracleFailure", failed=b"\xfe" * 20)
    else:
        logs.add(1 + YEAR, "ShutDown", ratio=E18)
    coll = 898 * E18 // 100
    left = {"rate": 5 * PERCENT, "debt": 3_200 * E18, "coll": coll, "stake": coll}
    lot(logs, 1 + 2 * YEAR, 2, left, 1_000 * E18, 102 * E18 // 100, 0)
    redemption(logs, 1 + 2 * YEAR, 1_000 * E18, 102 * E18 // 100, 0, 1_000 * E18)
    return logs


def folded(logs: Logs) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, table in fold(CONFIG, logs):
        found[name] += table.to_pylist()
    return found


def balance(rows: dict[str, list[dict[str, Any]]], account: int, side: str, asset: int = 1) -> int:
    """What an account came to."""
    own = {"account_id": account, "side": side, "asset_id": asset}
    return sum(int(row["delta"]) for row in rows["position_events"] if own.items() <= row.items())


def claimed(make: Callable[[], Logs], accounts: dict[AccountId, str]) -> dict[str, int]:
    """What the contracts should say at the last block."""
    got: dict[str, pa.Table] = {}
    for name, table in fold(CONFIG, make()):
        got[name] = pa.concat_tables([got[name], table]) if name in got else table
    last = max(row["block_number"] for row in got["position_events"].to_pylist())
    got["blocks"] = pa.table({"block_number": [last], "timestamp": [START - 10 + last]})

    def tables(name: str, columns: Sequence[str]) -> pa.Table:
        return got.get(name, CANONICAL[name].empty_table()).select(list(columns))

    return {each.what: each.value for each in LIQUITY_V2.claims(CONFIG, tables, [last], accounts)}


def test_the_chain_is_asked_of_troves_in_batches_and_of_the_branch() -> None:
    """Trove 2 left with 6,244.55365 at 7 %; trove 3 has the other half. Weighted: 20,000 at 5 % (nobody touched it),
    6,244.55365 at 7 %, 6,234.55365 at 10 %.
    """
    name = "0x" + trove(3).hex()
    told = claimed(batched, {AccountId(7): name})
    assert told["aggRecordedDebt of the active pool"] == 25_000 * E18 + 124_791_073 * E18 // 10**4
    assert told["aggBatchManagementFees of the active pool"] == 0
    assert told["aggWeightedDebtSum of the active pool"] == (
        20_000 * E18 * 5 * PERCENT
        + 624_455_365 * E18 // 10**5 * 7 * PERCENT
        + 623_455_365 * E18 // 10**5 * 10 * PERCENT
    )
    assert told[f"debt of {name}"] == 623_455_365 * E18 // 10**5
    assert told[f"collateral of {name}"] == 10 * E18


def test_the_chain_is_asked_of_deposits() -> None:
    """All that the second depositor put in, and what is left of the first one's BOLD."""
    other = "0x" + OTHER.hex()
    rows = folded(pooled())["accounts"]
    account = next(AccountId(row["account_id"]) for row in rows if row["account"] == other)
    told = claimed(pooled, {account: other})
    assert told[f"deposit of {other}"] == 1_000 * E18
    assert told["getTotalBoldDeposits of the stability pool"] == 1_001 * E18 - 1_101 * E18 * P_LEFT // 10**36
    assert (told["P of the stability pool"], told["currentScale of the stability pool"]) == (P_LEFT, 0)


def test_batches_follow() -> None:
    """Recorded: trove 1 owes 20,000 and five times 1,000, the others 6,244.55365 and 6,234.55365."""
    rows = folded(batched())
    assert balance(rows, 2, "debt") == 25_000 * E18 + 124_791_073 * E18 // 10**4


def test_deposits_follow() -> None:
    """What stays is a BOLD less what the first depositor took, and 1,000; of the collateral what its gain cut."""
    rows, left = folded(pooled()), 1_101 * E18 * P_LEFT // 10**36
    assert balance(rows, 0, "collateral") == 1_001 * E18 - left
    assert balance(rows, 0, "collateral", 0) == 995 * E18 // 1_000 - 1_101 * E18 * S_GROWN // 10**36
    assert balance(rows, 0, "debt") == 0
    told = {row["name"]: int(row["value"]) for row in rows["params"]}
    assert [told[name] for name in ("coll_sum", "debt_sum", "product", "scale")] == [E18 // 100, 11 * E18, P_LEFT, 0]
    assert (told["stakes_then"], told["colls_then"]) == (100 * E18, 101 * E18)


def test_redemptions_follow() -> None:
    rows = folded(redeemed())
    assert balance(rows, 2, "debt") == (27_000 - 4_500) * E18
    assert [row["value"] for row in rows["setting_events"] if row["setting"] == "zombie"] == [POINTED, ZOMBIE]
    assert {int(row["value"]) for row in rows["params"] if row["name"] == "redemption_rate"} == {E18 // 200}


def test_a_shutdown_ends_interest_and_any_trove_is_redeemed() -> None:
    """24,000 and a year of 1,200, less 1,000."""
    assert balance(folded(shut()), 2, "debt") == 24_200 * E18


def test_where_the_oracle_of_ether_failed_the_fold_says_so() -> None:
    with pytest.raises(RulesError, match="ether's oracle failed and shut the branch down"):
        folded(shut(failed=True))


def test_another_collateral_is_priced_by_its_own_feed_and_goes_on() -> None:
    assert balance(folded(shut(failed=True, ether=False)), 2, "debt") == 24_200 * E18
    assert any("oracle" in each for each in LIQUITY_V2.assumptions)


_COLUMNS = {
    "BatchUpdated": ("debt", "shares", "rate", "management_fee"),
    "BatchedTroveUpdated": ("shares", "coll", "stake", "debt_sum"),
    "DepositUpdated": ("deposit", "stashed", "product"),
    "DepositOperation": ("moved", "yielded", "gain_claimed"),
    "TroveUpdated": ("debt", "coll", "stake", "coll_sum"),
    "TroveOperation": ("by_debt", "by_coll", "fee", "coll_shared", "debt_shared"),
    "Redemption": ("redeemed", "coll", "fee"),
    "Liquidation": ("offset", "to_pool", "coll", "gas_coll", "surplus"),
    "P_Updated": ("product",),
    "StabilityPoolBoldBalanceUpdated": ("balance",),
    "StabilityPoolCollBalanceUpdated": ("balance",),
}


_ALWAYS_ZERO = {
    ("TroveOperation", "fee", 5),
    ("TroveOperation", "fee", 6),
    ("DepositOperation", "moved", 2),
    ("DepositOperation", "yielded", 2),
} | {("TroveOperation", column, operation) for column in ("by_debt", "by_coll") for operation in (8, 9)}
"""What the contracts write as a zero whatever happens: numbers of a log, and its operation."""


def altered(make: Callable[[], Logs]) -> Iterator[tuple[Logs, str, str, int]]:
    """The logs with one number of one of them a unit higher: which, whose, and its operation, -1 where it has none."""
    for place, (_, event, _) in enumerate(make().logs):
        for column in _COLUMNS.get(event, ()):
            logs = make()
            row = logs.logs[place][2]
            if event in ("TroveUpdated", "DepositUpdated") and not {"stake", "deposit", "stashed"} & row.keys():
                continue  # of a trove or a deposit that is gone
            row[column] = row.get(column, 0) + 1
            yield logs, event, column, row.get("operation", -1)


def refused(logs: Logs) -> bool:
    try:
        folded(logs)
    except RulesError:
        return True
    return False


@pytest.mark.parametrize("make", [batched, pooled, redeemed, shut])
def test_one_unit_more_in_a_log_is_refused(make: Callable[[], Logs]) -> None:
    passed = {(event, column, operation) for logs, event, column, operation in altered(make) if not refused(logs)}
    assert passed <= _ALWAYS_ZERO


def told(rows: dict[str, list[dict[str, Any]]]) -> tuple[Market, Timeline]:
    """The market and its history, ether at 1,000."""
    place = {"seq": 1, "block_number": 10, "log_index": 1, "timestamp": START}
    priced = {"market": "hand", **place, "method": "feed", "exact": True}
    rows["prices"] = [{**priced, "asset_id": asset, "price": price * E18} for asset, price in ((0, 1_000), (1, 1))]
    names = [name for name in rows if "seq" in CANONICAL[name].names]
    history = Timeline.of({name: pa.Table.from_pylist(rows[name], CANONICAL[name]) for name in names})
    accounts = tuple(row["account"] for row in sorted(rows["accounts"], key=lambda row: row["account_id"]))
    own: Any = {"protocol": "liquity-v2", "chain_id": 1, "assets": ASSETS, "base_decimals": 18}
    return Market(name="hand", accounts=accounts, **own), history


@pytest.mark.parametrize("make", [batched, pooled, redeemed, shut])
def test_a_history_is_replayed_to_the_last_unit(make: Callable[[], Logs]) -> None:
    """From the canonical tables alone: the book of the replay says what the fold's logs said at their end."""
    rows = folded(make())
    market, history = told(rows)
    result: Any = replay(LIQUITY_V2, market, history, Scenario())
    assert result.mismatches == []
    assert len(result.liquidations) == len(rows["liquidations"]) == (make is pooled)
    state: BranchState = result.book.state
    assert state.recorded == balance(rows, 2, "debt")
    assert (state.pool_deposits, state.pool_coll) == (balance(rows, 0, "collateral"), balance(rows, 0, "collateral", 0))
    last: dict[bytes, dict[str, Any]] = {}
    for _, event, row in make().logs:
        if event in ("TroveUpdated", "BatchedTroveUpdated"):
            last[row["trove"]] = row
    for each, row in last.items():
        trove = state.trove(AccountId(market.accounts.index("0x" + each.hex())))
        ours = trove.coll, trove.stake, trove.debt, trove.shares
        assert ours == tuple(row.get(name, 0) for name in ("coll", "stake", "debt", "shares"))


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (batched, {"register_batch", "lower_fee"}),
        (pooled, {"supply", "withdraw", "offset"}),
        (redeemed, {"register_batch", "redemption"}),
    ],
)
def test_a_call_made_again_does_what_history_did(make: Callable[[], Logs], kinds: set[str]) -> None:
    """By the contract's own checks, in history's book; but for calls whose upfront fee the logs above made up. The
    redemptions of the logs were at 2,000.
    """
    market, history = told(folded(make()))
    state, seen = LIQUITY_V2.open(market), set[str]()
    price = 2_000 if make is redeemed else 1_000
    for _, group in itertools.groupby(history, key=lambda event: (event.seq, isinstance(event, ParamChange))):
        changes = [each for each in group if isinstance(each, PositionChange | SettingChange | ParamChange)]
        asked = [each for each in changes if isinstance(each, PositionChange | SettingChange)]
        named = next((each.action for each in reversed(asked) if each.action not in _PART), "offset")
        if asked and named in kinds:
            now = Clock(asked[0].block_number, asked[0].log_index, asked[0].timestamp)
            made = LIQUITY_V2.act(state, Action(named, tuple(asked)), prices(price), now)
            assert isinstance(made, Acted), made
            assert [plain(each) for each in made.changes if plain(each)] == [plain(e) for e in asked if plain(e)]
            seen.add(named)
        for change in changes:
            LIQUITY_V2.apply(state, change)
    assert seen == kinds


_PART = frozenset({"interest", "offset", "redistribution", "upfront_fee", "rebatch"})


def plain(change: Any) -> tuple[Any, ...]:
    """What a change is of and by how much; nothing of one that moves nothing."""
    if isinstance(change, SettingChange):
        return change.account, change.setting, change.value, change.action
    if isinstance(change, PositionChange) and change.delta:
        return change.account, change.asset, change.side, change.delta, change.action
    return ()
