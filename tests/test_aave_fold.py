"""Raw Aave V3 logs to canonical tables: scaled balances per token version, actions, settings, parameters, refusals."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.protocols.aave_v3 import kernel, tokens
from backtest.protocols.aave_v3.fold import fold
from tests.aave_logs import CONFIG, ORACLE, POOL, PROVIDER, RAY, TREASURY, Logs, a_token, address, asset, debt_token, time_of

ALICE, BOB, BOT = "alice", "bob", "bot"


def market(revision: int, *assets: str) -> Logs:
    logs = Logs()
    logs.open(revision)
    logs.tx()
    for name in assets or ("WETH", "USDC"):
        logs.list_asset(name)
    return logs


def folded(logs: Logs, config: MarketConfig = CONFIG) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, table in fold(config, logs.memory()):
        found[name] += table.to_pylist()
    return found


def people(found: dict[str, list[dict[str, Any]]]) -> dict[int, str]:
    names = {address(name): name for name in (ALICE, BOB, BOT, "treasury")}
    return {row["account_id"]: names.get(row["account"], row["account"]) for row in found["accounts"]}


def changes(found: dict[str, list[dict[str, Any]]]) -> list[tuple[str, int, str, int, str, int]]:
    """Position changes as (account, asset, side, delta, action, action_seq)."""
    who = people(found)
    return [(who[r["account_id"]], r["asset_id"], r["side"], int(r["delta"]), r["action"], r["action_seq"]) for r in found["position_events"]]


def flags(found: dict[str, list[dict[str, Any]]]) -> list[tuple[str, str, int | None, int, str, int]]:
    who = people(found)
    return [(who[r["account_id"]], r["setting"], r["asset_id"], int(r["value"]), r["action"], r["action_seq"]) for r in found["setting_events"]]


# -- scaled changes, worked by hand ------------------------------------------------------------------------------------

INDEX = RAY * 11 // 10


@pytest.mark.parametrize(
    ("value", "interest", "delta"),
    [
        (110, 0, 100),
        (111, 0, 101),  # 100.909...
        (121, 10, 101),  # amount 111
        (10, 10, 0),  # prints interest
        (4, 10, -5),  # a burn of 6: 5.4545... to nearest is 5
        (-100, 10, -100),  # Burn of 110
        (-1, 0, -1),  # 0.909...
    ],
)
def test_half_up_by_hand(value: int, interest: int, delta: int) -> None:
    assert tokens.half_up_delta(value, interest, INDEX) == delta


@pytest.mark.parametrize(
    ("rule", "balance", "value", "interest", "delta"),
    [
        # Collateral shows floor(1.1 s). 101 shows 111; 100 show 110.
        (tokens.DIRECTED_COLLATERAL, 100, 1, 0, 1),
        (tokens.DIRECTED_COLLATERAL, 101, -1, 0, -1),
        (tokens.DIRECTED_COLLATERAL, 100, 7, 7, 0),
        (tokens.DIRECTED_COLLATERAL, 100, 2, 4, -1),  # shows 108: 99 show 108
        # Debt shows ceil(1.1 s): 101 show 112.
        (tokens.DIRECTED_DEBT, 100, 2, 0, 1),
        (tokens.DIRECTED_DEBT, 101, -112, 0, -101),
        (tokens.DIRECTED_DEBT, 0, 2, 0, 1),
    ],
)
def test_directed_by_hand(rule: int, balance: int, value: int, interest: int, delta: int) -> None:
    assert tokens.directed_delta(rule, balance, value, interest, INDEX) == delta


def test_directed_burn_beyond_the_balance_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        tokens.directed_delta(tokens.DIRECTED_DEBT, 100, -111, 0, INDEX)


def test_discount_burns_part_of_the_interest() -> None:
    # 1000 scaled at index 1 show 1000; at 1.1 they would show 1100, of 100 interest 30 are forgiven: 27 scaled (27.27).
    assert tokens.discounted_delta(1000, RAY, 70, 70, INDEX) == -27
    # Borrowing 110 more: 100 scaled, less 27.
    assert tokens.discounted_delta(1000, RAY, 180, 70, INDEX) == 73
    # Repaying all 1070 burns every scaled unit, though 1070 / 1.1 + 27 = 1000 only by luck.
    assert tokens.discounted_delta(1000, RAY, -1000, 70, INDEX) == -1000


@pytest.mark.parametrize(
    ("kind", "revision", "pool", "discounted", "rule"),
    [
        ("collateral", 1, 1, False, tokens.HALF_UP),
        ("collateral", 3, 8, False, tokens.HALF_UP),
        ("collateral", 4, 9, False, tokens.DIRECTED_COLLATERAL),
        ("collateral", 5, 11, False, tokens.DIRECTED_COLLATERAL),
        ("debt", 4, 8, True, tokens.HALF_UP),  # GHO counts one more, and lost its discount in 3.4
        ("debt", 6, 10, False, tokens.DIRECTED_DEBT),
        ("debt", 2, 7, True, tokens.DISCOUNTED),
        ("debt", 1, 10, False, tokens.HALF_UP),  # not upgraded yet
    ],
)
def test_rounding_by_revision(kind: Any, revision: int, pool: int, discounted: bool, rule: int) -> None:
    assert tokens.rounding(kind, revision, pool, discounted, "here") == rule


@pytest.mark.parametrize("revision", [-1, 0, 6])
def test_an_unknown_token_revision_is_refused(revision: int) -> None:
    with pytest.raises(RulesError, match=rf"ATOKEN_REVISION {revision} of token .* from block 3 on"):
        tokens.rounding("collateral", revision, 12, False, "of token 0x1 from block 3 on")


# -- the compiled twin -------------------------------------------------------------------------------------------------

indexes = st.integers(RAY, RAY * 100) | st.integers(RAY, 2**127)
amounts = st.integers(0, 10**6) | st.integers(0, 10**30) | st.integers(0, 10**37)


def _words(values: list[int]) -> np.ndarray:
    return np.array([[value % 2**64, value // 2**64] for value in values], np.uint64).reshape(-1, 2)


def _signed(row: np.ndarray) -> int:
    value = int(row[0]) | int(row[1]) << 64
    return value - 2**128 if value >> 127 else value


def _plain(op: int, rule: int, unscaled: bool, balance: int, last: int, value: int, interest: int, index: int) -> int:
    if op in (kernel.OUT, kernel.IN):
        moved = tokens.transfer_amount(unscaled, value, index)
        return -moved if op == kernel.OUT else moved
    signed = -value if op == kernel.BURN else value
    if rule == tokens.HALF_UP:
        return tokens.half_up_delta(signed, interest, index)
    if rule == tokens.DISCOUNTED:
        return tokens.discounted_delta(balance, last, signed, interest, index)
    return tokens.directed_delta(rule, balance, signed, interest, index)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans(), st.integers(0, 2), amounts, amounts, indexes), min_size=1, max_size=12)
)
def test_kernel_is_the_plain_rule(events: list[tuple[int, int, bool, int, int, int, int]]) -> None:
    """Event by event, up to the first that would leave a negative or a too large balance: both stop there."""
    balances, last = defaultdict(int), defaultdict(int)
    expected, stop = [], None
    good = []
    for place, (op, rule, unscaled, holder, value, interest, index) in enumerate(events):
        if rule == tokens.DISCOUNTED and op < kernel.OUT:
            # The log of a discounted token never exceeds the interest accrued, and its index never falls.
            index = max(index, last[holder], RAY)
            accrued = tokens.ray_mul_half_up(balances[holder], index) - tokens.ray_mul_half_up(balances[holder], last[holder])
            interest = min(interest, accrued)
        good.append((op, rule, unscaled, holder, value, interest, index))
        try:
            delta = _plain(op, rule, unscaled, balances[holder], last[holder], value, interest, index)
        except ValueError:
            stop = (kernel.NEGATIVE, place)
            break
        if rule == tokens.DISCOUNTED and op < kernel.OUT:
            last[holder] = index
        balances[holder] += delta
        if not 0 <= balances[holder] < 10**38:
            stop = (kernel.NEGATIVE if balances[holder] < 0 else kernel.TOO_LARGE, place)
            break
        expected.append(delta)
    op, rule, unscaled, holder, value, interest, index = zip(*good, strict=True)
    running = kernel.Balances()
    code, row, out = running.deltas(
        np.array(op, np.int8),
        np.array(rule, np.int8),
        np.array(unscaled, np.bool_),
        np.array(holder, np.int64),
        _words(list(value)),
        _words(list(interest)),
        _words(list(index)),
    )
    assert (code, row) == (stop or (kernel.OK, 0))
    assert [_signed(line) for line in out[: len(expected)]] == expected


def test_tables_grow() -> None:
    """More accounts than a first table holds, each touched twice in calls of their own."""
    count = 20_000
    running = kernel.Balances()
    zeros, one = np.zeros(count, np.int8), _words([RAY] * count)
    for sign, value in ((kernel.MINT, 7), (kernel.BURN, 7)):
        code, _, out = running.deltas(
            zeros + np.int8(sign), zeros, zeros.astype(np.bool_), np.arange(count) * 3, _words([value] * count), one * np.uint64(0), one
        )
        assert code == kernel.OK
        assert {_signed(line) for line in out} == {7 if sign == kernel.MINT else -7}
    code, row, _ = running.deltas(
        zeros[:1] + np.int8(kernel.BURN), zeros[:1], np.zeros(1, np.bool_), np.array([3]), _words([1]), _words([0]), _words([RAY])
    )
    assert (code, row) == (kernel.NEGATIVE, 0)


@settings(deadline=None)
@given(st.lists(st.lists(st.binary(min_size=20, max_size=20) | st.sampled_from([bytes(20), b"\xff" * 20]), max_size=8), max_size=4))
def test_addresses_are_numbered_as_they_come(calls: list[list[bytes]]) -> None:
    numbered, expected = kernel.Addresses(), dict[bytes, int]()
    for call in calls:
        words = np.frombuffer(b"".join(call), np.uint32).reshape(-1, 5).copy()
        order = np.arange(len(call))[::-1].copy()
        ids = numbered.number(words, order)
        for item in reversed(call):
            expected.setdefault(item, len(expected))
        assert ids.tolist() == [expected[item] for item in call]
    assert numbered.all() == list(expected)


# -- a model of the contracts ------------------------------------------------------------------------------------------


class Contract:
    """A scaled-balance token in a few lines: stores scaled balances, emits what ScaledBalanceTokenBase of its version emits."""

    def __init__(self, logs: Logs, token: str, *, debt: bool, directed: bool) -> None:
        self.logs, self.token, self.debt, self.directed = logs, token, debt, directed
        self.scaled: dict[str, int] = defaultdict(int)
        self.last: dict[str, int] = defaultdict(int)

    def shown(self, scaled: int, index: int) -> int:
        if not self.directed:
            return (scaled * index + RAY // 2) // RAY
        return -(-scaled * index // RAY) if self.debt else scaled * index // RAY

    def to_scaled(self, amount: int, index: int, *, up: bool) -> int:
        if not self.directed:
            return (amount * RAY + index // 2) // index
        return -(-amount * RAY // index) if up else amount * RAY // index

    def change(self, who: str, amount: int, index: int, *, mint: bool) -> None:
        scaled = self.to_scaled(amount, index, up=mint == self.debt)
        scaled = scaled if mint else min(scaled, self.scaled[who])
        if not scaled:
            return  # the contract reverts
        previous = self.shown(self.scaled[who], self.last[who])
        interest = self.shown(self.scaled[who], index) - previous
        after = self.scaled[who] + (scaled if mint else -scaled)
        logged = self.shown(after, index) - previous if self.directed else (amount if mint else -amount) + interest
        self.scaled[who], self.last[who] = after, index
        if mint or logged > 0:
            self.logs.log("Mint", at=self.token, caller=who, on_behalf_of=who, value=logged, balance_increase=interest, index=index)
        else:
            self.logs.log("Burn", at=self.token, **{"from": who}, target=who, value=-logged, balance_increase=interest, index=index)

    def transfer(self, sender: str, to: str, amount: int, index: int) -> None:
        scaled = min(self.to_scaled(amount, index, up=True), self.scaled[sender])
        for who in dict.fromkeys((sender, to)):
            interest = self.shown(self.scaled[who], index) - self.shown(self.scaled[who], self.last[who])
            self.last[who] = index
            if interest:
                self.logs.log("Mint", at=self.token, caller=sender, on_behalf_of=who, value=interest, balance_increase=interest, index=index)
        self.scaled[sender] -= scaled
        self.scaled[to] += scaled
        self.logs.log("BalanceTransfer", at=self.token, **{"from": sender}, to=to, value=scaled, index=index)


steps = st.tuples(
    st.sampled_from(["mint", "burn", "transfer"]),
    st.sampled_from([ALICE, BOB]),
    st.sampled_from([ALICE, BOB]),
    st.integers(1, 50) | st.integers(1, 10**24),
    st.integers(0, 3) | st.integers(0, 10**26),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([(1, 1), (8, 3), (9, 4), (10, 5)]), st.lists(steps, min_size=1, max_size=25))
def test_fold_gives_back_the_scaled_balances(versions: tuple[int, int], actions: list[Any]) -> None:
    pool, revision = versions
    logs = market(pool, "WETH")
    directed = pool >= 9
    index = {False: RAY, True: RAY}
    book = {debt: Contract(logs, (debt_token if debt else a_token)("WETH"), debt=debt, directed=directed) for debt in (False, True)}
    for token in (a_token("WETH"), debt_token("WETH")):
        logs.revision(token, "first", revision)
    for kind, who, to, amount, growth, debt in actions:
        logs.tx()
        contract = book[debt]
        index[debt] += growth
        if kind == "transfer" and not debt:
            contract.transfer(who, to, min(amount, contract.shown(contract.scaled[who], index[debt])), index[debt])
        else:
            mint = kind == "mint"
            held = contract.shown(contract.scaled[who], index[debt])
            amount = amount if mint else min(amount, held)
            if amount:
                contract.change(who, amount, index[debt], mint=mint)
    found = folded(logs)
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for who, _, side, delta, *_ in changes(found):
        sums[who, side] += delta
        assert delta
    for debt, contract in book.items():
        for who, scaled in contract.scaled.items():
            assert sums[who, "debt" if debt else "collateral"] == scaled


@settings(max_examples=50, deadline=None)
@given(st.lists(steps, min_size=1, max_size=12), st.lists(steps, min_size=1, max_size=12))
def test_fold_across_an_upgrade(before: list[Any], after: list[Any]) -> None:
    """Half-up until the token's own upgrade, directed from there on, on the balances that there are."""
    logs = market(1, "WETH")
    contract = Contract(logs, a_token("WETH"), debt=False, directed=False)
    index = RAY
    for part in (before, after):
        for kind, who, to, amount, growth, _ in part:
            logs.tx()
            index += growth
            held = contract.shown(contract.scaled[who], index)
            if kind == "transfer":
                contract.transfer(who, to, min(amount, held), index)
            elif kind == "mint" or held:
                contract.change(who, amount if kind == "mint" else min(amount, held), index, mint=kind == "mint")
        if part is before:
            logs.tx()
            logs.upgrade_pool(10)
            logs.upgrade_token(a_token("WETH"), 5)
            contract.directed = True
    sums: dict[str, int] = defaultdict(int)
    for who, _, _, delta, *_ in changes(folded(logs)):
        sums[who] += delta
    assert {who: scaled for who, scaled in contract.scaled.items() if scaled} == {who: scaled for who, scaled in sums.items() if scaled}


def test_discounted_debt_by_a_model_of_gho() -> None:
    """Borrow, a discount, a rebalance, a partial and a full repayment; after 3.4 the same token has no discount."""
    logs = market(1, "GHO")
    token, index, scaled, last = debt_token("GHO"), RAY, 0, 0
    expected = []

    def shown(s: int, i: int) -> int:
        return (s * i + RAY // 2) // RAY

    def act(amount: int, percent: int) -> None:
        nonlocal scaled, last
        gross = shown(scaled, index) - shown(scaled, last)
        discount = (gross * percent + 5000) // 10000
        forgiven = (discount * RAY + index // 2) // index
        net, whole = gross - discount, shown(scaled, index) - discount
        moved = (abs(amount) * RAY + index // 2) // index
        delta = moved - forgiven if amount >= 0 else -scaled if -amount == whole else -moved - forgiven
        scaled, last = scaled + delta, index
        value = amount + net
        if value > 0 or amount >= 0:
            logs.log("Mint", at=token, caller=ALICE, on_behalf_of=ALICE, value=value, balance_increase=net, index=index)
        else:
            logs.log("Burn", at=token, **{"from": ALICE}, value=-value, balance_increase=net, index=index)
        expected.append(delta)

    for amount, percent, growth in ((10**21, 0, 0), (5 * 10**20, 3000, 10**25 + 7), (0, 3000, 10**24 + 1), (-(10**20), 3000, 3 * 10**25)):
        logs.tx()
        index += growth
        act(amount, percent)
        logs.log("DiscountPercentUpdated", at=token, user=ALICE, new_discount_percent=3000)
    logs.tx()
    index += 10**26
    gross = shown(scaled, index) - shown(scaled, last)
    act(-(shown(scaled, index) - (gross * 3000 + 5000) // 10000), 3000)
    assert scaled == 0
    logs.tx()
    act(10**18, 0)
    logs.tx()
    logs.upgrade_pool(8)
    logs.upgrade_token(token, 4)
    index += 10**25
    logs.tx()
    act(10**18, 0)
    found = changes(folded(logs))
    assert [delta for _, _, _, delta, *_ in found] == expected
    assert found[2][4] == "other"  # a rebalance is no user action of the pool


def test_transfers_of_2022_are_amounts_until_the_upgrade() -> None:
    old = MarketConfig(
        name="test",
        protocol="aave-v3",
        chain_id=137,
        start_block=1,
        contracts={"provider": PROVIDER, "pool": tokens.MARCH_2022_POOL, "oracle": ORACLE},
    )

    def history(pool: str) -> list[int]:
        logs = Logs()
        logs.tx()
        logs.log("ProxyCreated", id=b"POOL".ljust(32, b"\0"), proxy_address=pool, implementation_address=address("pool 1"))
        logs.revision(pool, "pool 1", 1)
        logs.list_asset("WETH")
        logs.tx()
        logs.log("Mint", at=a_token("WETH"), on_behalf_of=ALICE, value=1100, index=INDEX)
        logs.log("BalanceTransfer", at=a_token("WETH"), **{"from": ALICE}, to=BOB, value=110, index=INDEX)
        logs.tx()
        logs.upgrade_token(a_token("WETH"), 2)
        logs.log("BalanceTransfer", at=a_token("WETH"), **{"from": ALICE}, to=BOB, value=110, index=INDEX)
        config = old if pool == tokens.MARCH_2022_POOL else CONFIG
        return [delta for _, _, _, delta, *_ in changes(folded(logs, config))]

    assert history(tokens.MARCH_2022_POOL) == [1000, -100, 100, -110, 110]
    assert history(POOL) == [1000, -110, 110, -110, 110]


# -- actions -----------------------------------------------------------------------------------------------------------


def supply(logs: Logs, who: str, name: str, amount: int, *, first: bool = False) -> int:
    logs.log("ReserveDataUpdated", reserve=asset(name), liquidity_index=RAY, variable_borrow_index=RAY)
    logs.log("Mint", at=a_token(name), caller=who, on_behalf_of=who, value=amount, index=RAY)
    if first:
        logs.log("ReserveUsedAsCollateralEnabled", reserve=asset(name), user=who)
    return logs.log("Supply", reserve=asset(name), user=who, on_behalf_of=who, amount=amount)


def borrow(logs: Logs, who: str, name: str, amount: int) -> int:
    logs.log("Mint", at=debt_token(name), caller=who, on_behalf_of=who, value=amount, index=RAY)
    logs.log("ReserveDataUpdated", reserve=asset(name), liquidity_index=RAY, variable_borrow_index=RAY)
    return logs.log("Borrow", reserve=asset(name), user=who, on_behalf_of=who, amount=amount, interest_rate_mode=2)


def burn(logs: Logs, token: str, who: str, amount: int) -> int:
    return logs.log("Burn", at=token, **{"from": who}, value=amount, index=RAY)


def transfer(logs: Logs, name: str, sender: str, to: str, amount: int) -> int:
    return logs.log("BalanceTransfer", at=a_token(name), **{"from": sender}, to=to, value=amount, index=RAY)


def flag(logs: Logs, who: str, name: str, on: bool) -> int:
    return logs.log("ReserveUsedAsCollateral" + ("Enabled" if on else "Disabled"), reserve=asset(name), user=who)


def liquidation(logs: Logs, *, collateral: str = "WETH", debt: str = "USDC", takes_tokens: bool = False, repaid: int = 5, seized: int = 7) -> int:
    return logs.log(
        "LiquidationCall",
        collateral_asset=asset(collateral),
        debt_asset=asset(debt),
        user=ALICE,
        debt_to_cover=repaid,
        liquidated_collateral_amount=seized,
        liquidator=BOT,
        receive_a_token=takes_tokens,
    )


def test_supply_borrow_withdraw_repay() -> None:
    logs = market(1)
    logs.tx()
    s = supply(logs, ALICE, "WETH", 100, first=True)
    b = borrow(logs, ALICE, "USDC", 40)
    burn(logs, debt_token("USDC"), ALICE, 40)
    burn(logs, a_token("USDC"), BOB, 0)  # value 0, interest 0: nothing
    r = logs.log("Repay", reserve=asset("USDC"), user=ALICE, repayer=BOB, amount=40)
    flag(logs, ALICE, "WETH", False)
    burn(logs, a_token("WETH"), ALICE, 100)
    w = logs.log("Withdraw", reserve=asset("WETH"), user=ALICE, to=ALICE, amount=100)
    found = folded(logs)
    assert changes(found) == [
        (ALICE, 0, "collateral", 100, "supply", s),
        (ALICE, 1, "debt", 40, "borrow", b),
        (ALICE, 1, "debt", -40, "repay", r),
        (ALICE, 0, "collateral", -100, "withdraw", w),
    ]
    assert flags(found) == [
        (ALICE, "collateral_enabled", 0, 1, "supply", s),
        (ALICE, "collateral_enabled", 0, 0, "withdraw", w),
    ]


def test_a_withdrawal_that_clears_the_flag_after_the_burn() -> None:
    """3.5 and later."""
    logs = market(10)
    logs.tx()
    supply(logs, ALICE, "WETH", 100, first=True)
    burn(logs, a_token("WETH"), ALICE, 100)
    flag(logs, ALICE, "WETH", False)
    w = logs.log("Withdraw", reserve=asset("WETH"), user=ALICE, to=ALICE, amount=100)
    found = folded(logs)
    assert changes(found)[-1][4:] == ("withdraw", w)
    assert flags(found)[-1][4:] == ("withdraw", w)


def test_repay_with_a_tokens_takes_both_burns() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "USDC", 40, first=True)
    borrow(logs, ALICE, "USDC", 40)
    burn(logs, debt_token("USDC"), ALICE, 40)
    burn(logs, a_token("USDC"), ALICE, 40)
    flag(logs, ALICE, "USDC", False)
    r = logs.log("Repay", reserve=asset("USDC"), user=ALICE, repayer=ALICE, amount=40, use_a_tokens=True)
    found = folded(logs)
    assert [change[4:] for change in changes(found)[-2:]] == [("repay", r)] * 2
    assert flags(found)[-1][4:] == ("repay", r)


@pytest.mark.parametrize("revision", [1, 10])
def test_bare_transfers_take_their_flags(revision: int) -> None:
    """Before BalanceTransfer until 3.3, after it from 3.4 on; two transfers in a row keep theirs apart."""
    logs = market(revision)
    logs.tx()
    supply(logs, ALICE, "WETH", 100, first=True)
    logs.tx()
    seqs, changed = [], []
    for sender, to in ((ALICE, BOB), (BOB, BOT)):
        logs.log("Mint", at=a_token("WETH"), on_behalf_of=sender, value=3, balance_increase=3, index=RAY)  # prints interest
        if revision == 10:
            seqs.append(transfer(logs, "WETH", sender, to, 100))
        for who, on in ((sender, False), (to, True)):
            flag(logs, who, "WETH", on)
            changed.append((who, on))
        if revision == 1:
            seqs.append(transfer(logs, "WETH", sender, to, 100))
    found = folded(logs)
    assert changes(found)[1:] == [
        (who, 0, "collateral", delta, "transfer", seq)
        for seq, pair in zip(seqs, ((ALICE, BOB), (BOB, BOT)), strict=True)
        for who, delta in zip(pair, (-100, 100), strict=True)
    ]
    assert [(row[0], row[3], row[4], row[5]) for row in flags(found)[1:]] == [
        (who, int(on), "transfer", seqs[place // 2]) for place, (who, on) in enumerate(changed)
    ]


def test_a_transfer_to_oneself_changes_nothing() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "WETH", 100)
    transfer(logs, "WETH", ALICE, ALICE, 60)
    assert len(changes(folded(logs))) == 1


def test_bare_flags_modes_and_treasury() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "WETH", 100)
    f = flag(logs, ALICE, "WETH", True)
    e = logs.log("UserEModeSet", user=BOB, category_id=3)
    logs.tx()
    logs.log("Mint", at=a_token("USDC"), caller=POOL, on_behalf_of=TREASURY, value=9, index=RAY)
    m = logs.log("MintedToTreasury", reserve=asset("USDC"), amount_minted=9)
    found = folded(logs)
    assert flags(found) == [(ALICE, "collateral_enabled", 0, 1, "collateral-flag", f), (BOB, "emode", None, 3, "emode", e)]
    assert changes(found)[-1] == ("treasury", 1, "collateral", 9, "treasury", m)


def test_a_flag_before_a_supply_is_not_part_of_it() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "WETH", 100)
    f = flag(logs, ALICE, "WETH", True)
    s = supply(logs, ALICE, "WETH", 5)
    found = folded(logs)
    assert flags(found)[0][4:] == ("collateral-flag", f)
    assert changes(found)[1][4:] == ("supply", s)


def opened(revision: int) -> Logs:
    logs = market(revision)
    logs.tx()
    supply(logs, ALICE, "WETH", 100, first=True)
    supply(logs, BOB, "USDC", 1000, first=True)
    borrow(logs, ALICE, "USDC", 50)
    borrow(logs, ALICE, "WETH", 20)
    logs.tx()
    return logs


def test_liquidation_takes_its_own_logs_only() -> None:
    """3.0, one transaction of a bot: it supplies, is sent aTokens by the borrower, liquidates twice, and moves its own aTokens between."""
    logs = opened(1)
    s = supply(logs, BOT, "WETH", 30, first=True)
    t = transfer(logs, "WETH", ALICE, BOT, 1)
    burn(logs, debt_token("USDC"), ALICE, 20)
    logs.log("ReserveDataUpdated", reserve=asset("USDC"), liquidity_index=RAY, variable_borrow_index=RAY)
    transfer(logs, "WETH", ALICE, BOT, 22)
    logs.log("Mint", at=a_token("WETH"), on_behalf_of=TREASURY, value=2, balance_increase=2, index=RAY)
    transfer(logs, "WETH", ALICE, TREASURY, 1)
    first = liquidation(logs, takes_tokens=True, repaid=20, seized=22)
    u = transfer(logs, "WETH", BOT, BOB, 10)
    flag(logs, ALICE, "WETH", False)
    burn(logs, debt_token("USDC"), ALICE, 30)
    burn(logs, a_token("WETH"), ALICE, 70)
    transfer(logs, "WETH", ALICE, TREASURY, 6)
    second = liquidation(logs, repaid=30, seized=70)
    e = logs.log("UserEModeSet", user=BOT, category_id=1)
    found = folded(logs)
    assert changes(found)[4:] == [
        (BOT, 0, "collateral", 30, "supply", s),
        (ALICE, 0, "collateral", -1, "transfer", t),
        (BOT, 0, "collateral", 1, "transfer", t),
        (ALICE, 1, "debt", -20, "liquidation", first),
        (ALICE, 0, "collateral", -22, "liquidation", first),
        (BOT, 0, "collateral", 22, "liquidation", first),
        (ALICE, 0, "collateral", -1, "liquidation", first),
        ("treasury", 0, "collateral", 1, "liquidation", first),
        (BOT, 0, "collateral", -10, "transfer", u),
        (BOB, 0, "collateral", 10, "transfer", u),
        (ALICE, 1, "debt", -30, "liquidation", second),
        (ALICE, 0, "collateral", -70, "liquidation", second),
        (ALICE, 0, "collateral", -6, "liquidation", second),
        ("treasury", 0, "collateral", 6, "liquidation", second),
    ]
    assert flags(found)[-2:] == [(ALICE, "collateral_enabled", 0, 0, "liquidation", second), (BOT, "emode", None, 1, "emode", e)]
    who = people(found)
    assert [
        (who[r["account_id"]], who[r["liquidator_id"]], int(r["repaid"]), int(r["seized"]), int(r["protocol_fee"]), r["receive_collateral_token"])
        for r in found["liquidations"]
    ] == [(ALICE, BOT, 20, 22, 1, True), (ALICE, BOT, 30, 70, 6, False)]


def test_bad_debt_belongs_to_the_liquidation() -> None:
    """3.6: the named debt and every other one are burned and booked as deficit."""
    logs = opened(10)
    flag(logs, ALICE, "WETH", False)
    burn(logs, debt_token("USDC"), ALICE, 50)
    logs.log("DeficitCreated", user=ALICE, debt_asset=asset("USDC"), amount_created=12)
    burn(logs, a_token("WETH"), ALICE, 97)
    transfer(logs, "WETH", ALICE, TREASURY, 3)
    burn(logs, debt_token("WETH"), ALICE, 20)
    logs.log("DeficitCreated", user=ALICE, debt_asset=asset("WETH"), amount_created=20)
    seq = liquidation(logs, repaid=38, seized=97)
    logs.tx()
    burn(logs, a_token("USDC"), BOB, 12)
    c = logs.log("DeficitCovered", reserve=asset("USDC"), caller=BOB, amount_covered=12)
    found = folded(logs)
    assert changes(found)[4:] == [
        (ALICE, 1, "debt", -50, "liquidation", seq),
        (ALICE, 0, "collateral", -97, "liquidation", seq),
        (ALICE, 0, "collateral", -3, "liquidation", seq),
        ("treasury", 0, "collateral", 3, "liquidation", seq),
        (ALICE, 0, "debt", -20, "liquidation", seq),
        (BOB, 1, "collateral", -12, "other", c),
    ]
    assert [(r["kind"], r["asset_id"], int(r["amount"]), r["liquidation_seq"]) for r in found["deficits"]] == [
        ("created", 1, 12, seq),
        ("created", 0, 20, seq),
        ("covered", 1, 12, None),
    ]


def test_liquidator_flag_until_3_5() -> None:
    logs = opened(8)
    burn(logs, debt_token("USDC"), ALICE, 5)
    transfer(logs, "WETH", ALICE, BOT, 7)
    flag(logs, BOT, "WETH", True)
    seq = liquidation(logs, takes_tokens=True)
    f = flag(logs, BOT, "WETH", False)  # the bot's own, right after
    assert [row[4:] for row in flags(folded(logs))[-2:]] == [("liquidation", seq), ("collateral-flag", f)]


def test_same_asset_on_both_sides() -> None:
    logs = opened(10)
    burn(logs, debt_token("WETH"), ALICE, 5)
    burn(logs, a_token("WETH"), ALICE, 6)
    seq = liquidation(logs, collateral="WETH", debt="WETH", seized=6)
    assert [change[2:] for change in changes(folded(logs))[4:]] == [("debt", -5, "liquidation", seq), ("collateral", -6, "liquidation", seq)]


def test_small_burns_logged_as_mints_belong_to_the_liquidation() -> None:
    """The interest accrued exceeds what is burned: Mint with value below balanceIncrease."""
    logs = opened(1)
    logs.log("Mint", at=debt_token("USDC"), on_behalf_of=ALICE, value=3, balance_increase=8, index=RAY)
    logs.log("Mint", at=a_token("WETH"), on_behalf_of=ALICE, value=1, balance_increase=8, index=RAY)
    seq = liquidation(logs)
    assert [change[2:] for change in changes(folded(logs))[4:]] == [("debt", -5, "liquidation", seq), ("collateral", -7, "liquidation", seq)]


def test_fee_in_native_units_by_the_tokens_rounding() -> None:
    """100 scaled at 1.007 are 100.7: nearest 101, down 100."""
    index = RAY * 1007 // 1000
    for revision, fee in ((1, 101), (10, 100)):
        logs = opened(revision)
        burn(logs, debt_token("USDC"), ALICE, 5)
        logs.log("BalanceTransfer", at=a_token("WETH"), **{"from": ALICE}, to=TREASURY, value=100, index=index)
        liquidation(logs)
        assert int(folded(logs)["liquidations"][0]["protocol_fee"]) == fee


# -- settings, parameters, indexes, assets -----------------------------------------------------------------------------


def test_stable_debt() -> None:
    logs = market(1)
    stable = address("stable USDC")
    logs.tx()
    borrowed = logs.block
    logs.log("StableMint", at=stable, on_behalf_of=ALICE, amount=100, current_balance=0, balance_increase=0, new_rate=5 * 10**25)
    b = logs.log("Borrow", reserve=asset("USDC"), on_behalf_of=ALICE, amount=100, interest_rate_mode=1)
    logs.tx()
    # 100 have become 103; 30 repaid: 27 net of interest.
    logs.log("StableBurn", at=stable, **{"from": ALICE}, amount=27, current_balance=103, balance_increase=3)
    r = logs.log("Repay", reserve=asset("USDC"), user=ALICE, amount=30)
    repaid = logs.block
    logs.tx()
    logs.log("StableBurn", at=stable, **{"from": ALICE}, amount=73, current_balance=75, balance_increase=2)
    swap = logs.log("Mint", at=debt_token("USDC"), on_behalf_of=ALICE, value=75, index=RAY)
    logs.log("SwapBorrowRateMode", reserve=asset("USDC"), user=ALICE, interest_rate_mode=1)
    found = folded(logs)
    assert flags(found) == [
        (ALICE, "stable_principal", 1, 100, "borrow", b),
        (ALICE, "stable_rate", 1, 5 * 10**25, "borrow", b),
        (ALICE, "stable_since", 1, time_of(borrowed), "borrow", b),
        (ALICE, "stable_principal", 1, 73, "repay", r),
        (ALICE, "stable_since", 1, time_of(repaid), "repay", r),
        (ALICE, "stable_principal", 1, 0, "other", swap + 1),
        (ALICE, "stable_rate", 1, 0, "other", swap + 1),
        (ALICE, "stable_since", 1, 0, "other", swap + 1),
    ]
    assert changes(found) == [(ALICE, 1, "debt", 75, "other", swap + 1)]


def test_indexes_start_at_one_ray() -> None:
    logs = market(1, "WETH")
    logs.tx()
    logs.log(
        "ReserveDataUpdated",
        reserve=asset("WETH"),
        liquidity_rate=2,
        stable_borrow_rate=9,
        variable_borrow_rate=3,
        liquidity_index=RAY + 4,
        variable_borrow_index=RAY + 5,
    )
    names = ("supply_index", "borrow_index", "supply_rate", "borrow_rate")
    assert [tuple(int(row[name]) for name in names) for row in folded(logs)["indexes"]] == [(RAY, RAY, 0, 0), (RAY + 4, RAY + 5, 2, 3)]


def test_parameters() -> None:
    logs = market(4)
    a = asset("WETH")
    logs.tx()
    logs.log("CollateralConfigurationChanged", asset=a, ltv=8000, liquidation_threshold=8250, liquidation_bonus=10500)
    logs.log("LiquidationProtocolFeeChanged", asset=a, old_fee=0, new_fee=1000)
    logs.log("LiquidationGracePeriodChanged", asset=a, grace_period_until=99)
    logs.log("LiquidationGracePeriodDisabled", asset=a)
    logs.log("EModeCategoryAdded", category_id=1, ltv=9000, liquidation_threshold=9300, liquidation_bonus=10100, label="ETH")
    logs.log("EModeAssetCategoryChanged", asset=a, new_category_id=1)
    logs.log("ReserveInterestRateDataChanged", asset=a, data=b"".join(n.to_bytes(32, "big") for n in (9000, 0, 270, 8000)))
    logs.tx()
    logs.upgrade_pool(12)
    logs.log("AssetCollateralInEModeChanged", asset=a, category_id=1, collateral=True)
    logs.log("ReservePaused", asset=asset("USDC"), paused=True)
    logs.log("FlashloanPremiumTotalUpdated", new_flashloan_premium_total=5)
    found = folded(logs)
    rows = [(r["name"], int(r["value"]), r["asset_id"], r["category"]) for r in found["params"] if r["block_number"] > 2]
    assert rows == [
        ("ltv", 8000, 0, None),
        ("liquidation_threshold", 8250, 0, None),
        ("liquidation_bonus", 10500, 0, None),
        ("liquidation_protocol_fee", 1000, 0, None),
        ("grace_until", 99, 0, None),
        ("grace_until", 0, 0, None),
        ("emode_ltv", 9000, None, 1),
        ("emode_liquidation_threshold", 9300, None, 1),
        ("emode_liquidation_bonus", 10100, None, 1),
        ("emode_category", 1, 0, None),
        ("optimal_usage", 9000, 0, None),
        ("base_rate", 0, 0, None),
        ("slope1", 270, 0, None),
        ("slope2", 8000, 0, None),
        ("pool_revision", 12, None, None),  # not known: kept, so that a replay stops at its block
        ("emode_collateral", 1, 0, 1),
        ("paused", 1, 1, None),
        ("flash_premium_total", 5, None, None),
    ]
    listed = [(r["name"], int(r["value"])) for r in found["params"] if r["block_number"] <= 2 and r["asset_id"] == 1]
    assert listed[:4] == [("treasury", 0), ("collateral_token_revision", 2), ("debt_token_revision", 2), ("reserve_id", 1)]
    assert ("active", 1) in listed
    assert ("ltv", 0) in listed


def test_a_dropped_reserve_frees_its_id() -> None:
    logs = market(1, "A", "B", "C")
    logs.tx()
    logs.log("ReserveDropped", asset=asset("B"))
    logs.tx()
    logs.list_asset("D")
    found = folded(logs)
    assert [(r["asset_id"], int(r["value"])) for r in found["params"] if r["name"] == "reserve_id"] == [(0, 0), (1, 1), (2, 2), (3, 1)]


def test_accounts_in_order_of_first_appearance() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, BOB, "WETH", 100)
    transfer(logs, "WETH", BOB, ALICE, 5)
    logs.log("UserEModeSet", user=BOT, category_id=1)
    found = folded(logs)
    assert list(people(found).values()) == ["treasury", BOB, ALICE, BOT]
    assert [(r["asset_id"], r["symbol"], r["decimals"], r["debt_token"]) for r in found["assets"]] == [
        (0, "WETH", 18, debt_token("WETH")),
        (1, "USDC", 18, debt_token("USDC")),
    ]


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_balance_below_zero_names_the_log() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "WETH", 10)
    logs.tx()
    burn(logs, a_token("WETH"), ALICE, 11)
    with pytest.raises(RulesError, match=rf"block 4, log 0: {address(ALICE)} would hold less than no scaled units of {a_token('WETH')}"):
        folded(logs)


def test_an_upgrade_to_unknown_token_code_stops_the_fold() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "WETH", 10)
    logs.tx()
    logs.upgrade_token(a_token("WETH"), 7)
    logs.tx()
    supply(logs, ALICE, "WETH", 10)
    with pytest.raises(RulesError, match=r"ATOKEN_REVISION 7 .* from block 4 on"):
        folded(logs)


def test_a_revision_that_was_not_read() -> None:
    logs = market(1)
    logs.tx()
    logs.log("TokenUpgraded", at=a_token("WETH"), implementation=address("unread"))
    with pytest.raises(UserError, match=r"which .* runs from block 3 on"):
        folded(logs)


def test_a_quarantined_log_stops_the_fold_unless_nothing_depends_on_it() -> None:
    logs = market(1)
    row = {"block_number": 2, "transaction_index": 0, "log_index": 9, "transaction_hash": bytes(32), "address": bytes(20)}
    logs.quarantine.append({**row, "event": "FlashLoan", "reason": "amount needs more than 38 digits", "topics": [], "data": b""})
    folded(logs)
    logs.quarantine.append({**row, "event": "Mint", "reason": "data too short", "topics": [], "data": b""})
    with pytest.raises(RulesError, match=r"block 2, log 9: a Mint log .* \(data too short\)"):
        folded(logs)


def test_a_token_of_no_reserve() -> None:
    logs = market(1)
    logs.tx()
    burn(logs, address("stranger"), ALICE, 1)
    with pytest.raises(RulesError, match=rf"block 3: {address('stranger')} is not a token of this market"):
        folded(logs)
