"""Scaled balances from token logs: by hand, the compiled twin against the plain rules, and models of the contracts of
each version.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import RulesError
from backtest.markets import MarketConfig
from backtest.protocols.aave.addresses import Addresses
from backtest.protocols.aave_v3 import token_rows, tokens
from tests.support.aave_logs import (
    ALICE,
    BOB,
    CONFIG,
    ORACLE,
    POOL,
    PROVIDER,
    RAY,
    Logs,
    a_token,
    address,
    changes,
    debt_token,
    folded,
    market,
)

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
    if op in (token_rows.OUT, token_rows.IN):
        moved = tokens.transfer_amount(unscaled, value, index)
        return -moved if op == token_rows.OUT else moved
    signed = -value if op == token_rows.BURN else value
    if rule == tokens.HALF_UP:
        return tokens.half_up_delta(signed, interest, index)
    if rule == tokens.DISCOUNTED:
        return tokens.discounted_delta(balance, last, signed, interest, index)
    return tokens.directed_delta(rule, balance, signed, interest, index)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans(), st.integers(0, 2), amounts, amounts, indexes),
        min_size=1,
        max_size=12,
    )
)
def test_kernel_is_the_plain_rule(events: list[tuple[int, int, bool, int, int, int, int]]) -> None:
    """Event by event, up to the first that would leave a negative or a too large balance: both stop there."""
    balances, last = defaultdict(int), defaultdict(int)
    expected, stop = [], None
    good = []
    for place, (op, rule, unscaled, holder, value, interest, index) in enumerate(events):
        if rule == tokens.DISCOUNTED and op < token_rows.OUT:
            # The log of a discounted token never exceeds the interest accrued, and its index never falls.
            index = max(index, last[holder], RAY)
            accrued = tokens.ray_mul_half_up(balances[holder], index) - tokens.ray_mul_half_up(
                balances[holder], last[holder]
            )
            interest = min(interest, accrued)
        good.append((op, rule, unscaled, holder, value, interest, index))
        try:
            delta = _plain(op, rule, unscaled, balances[holder], last[holder], value, interest, index)
        except ValueError:
            stop = (token_rows.NEGATIVE, place)
            break
        if rule == tokens.DISCOUNTED and op < token_rows.OUT:
            last[holder] = index
        balances[holder] += delta
        if not 0 <= balances[holder] < 10**38:
            stop = (token_rows.NEGATIVE if balances[holder] < 0 else token_rows.TOO_LARGE, place)
            break
        expected.append(delta)
    op, rule, unscaled, holder, value, interest, index = zip(*good, strict=True)
    running = token_rows.Balances()
    code, row, out = running.deltas(
        np.array(op, np.int8),
        np.array(rule, np.int8),
        np.array(unscaled, np.bool_),
        np.array(holder, np.int64),
        _words(list(value)),
        _words(list(interest)),
        _words(list(index)),
    )
    assert (code, row) == (stop or (token_rows.OK, 0))
    assert [_signed(line) for line in out[: len(expected)]] == expected


def test_tables_grow() -> None:
    """More accounts than a first table holds, each touched twice in calls of their own."""
    count = 20_000
    running = token_rows.Balances()
    zeros, one = np.zeros(count, np.int8), _words([RAY] * count)
    for sign, value in ((token_rows.MINT, 7), (token_rows.BURN, 7)):
        code, _, out = running.deltas(
            zeros + np.int8(sign),
            zeros,
            zeros.astype(np.bool_),
            np.arange(count) * 3,
            _words([value] * count),
            one * np.uint64(0),
            one,
        )
        assert code == token_rows.OK
        assert {_signed(line) for line in out} == {7 if sign == token_rows.MINT else -7}
    code, row, _ = running.deltas(
        zeros[:1] + np.int8(token_rows.BURN),
        zeros[:1],
        np.zeros(1, np.bool_),
        np.array([3]),
        _words([1]),
        _words([0]),
        _words([RAY]),
    )
    assert (code, row) == (token_rows.NEGATIVE, 0)


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.binary(min_size=20, max_size=20) | st.sampled_from([bytes(20), b"\xff" * 20]), max_size=8),
        max_size=4,
    )
)
def test_addresses_are_numbered_as_they_come(calls: list[list[bytes]]) -> None:
    numbered, expected = Addresses(), dict[bytes, int]()
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
    """A scaled-balance token in a few lines: stores scaled balances, emits what ScaledBalanceTokenBase of its version
    emits.
    """

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
            self.logs.log(
                "Mint",
                at=self.token,
                caller=who,
                on_behalf_of=who,
                value=logged,
                balance_increase=interest,
                index=index,
            )
        else:
            self.logs.log(
                "Burn",
                at=self.token,
                **{"from": who},
                target=who,
                value=-logged,
                balance_increase=interest,
                index=index,
            )

    def transfer(self, sender: str, to: str, amount: int, index: int) -> None:
        scaled = min(self.to_scaled(amount, index, up=True), self.scaled[sender])
        for who in dict.fromkeys((sender, to)):
            interest = self.shown(self.scaled[who], index) - self.shown(self.scaled[who], self.last[who])
            self.last[who] = index
            if interest:
                self.logs.log(
                    "Mint",
                    at=self.token,
                    caller=sender,
                    on_behalf_of=who,
                    value=interest,
                    balance_increase=interest,
                    index=index,
                )
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
    book = {
        debt: Contract(logs, (debt_token if debt else a_token)("WETH"), debt=debt, directed=directed)
        for debt in (False, True)
    }
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
    assert {who: scaled for who, scaled in contract.scaled.items() if scaled} == {
        who: scaled for who, scaled in sums.items() if scaled
    }


@pytest.mark.parametrize("decoded", [True, False])
def test_discounted_debt_by_a_model_of_gho(decoded: bool) -> None:
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

    for amount, percent, growth in (
        (10**21, 0, 0),
        (5 * 10**20, 3000, 10**25 + 7),
        (0, 3000, 10**24 + 1),
        (-(10**20), 3000, 3 * 10**25),
    ):
        logs.tx()
        index += growth
        act(amount, percent)
        if decoded:
            logs.log("DiscountPercentUpdated", at=token, user=ALICE, new_discount_percent=3000)
        else:
            logs.quarantined("DiscountPercentUpdated", token)
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
        logs.log(
            "ProxyCreated", id=b"POOL".ljust(32, b"\0"), proxy_address=pool, implementation_address=address("pool 1")
        )
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
