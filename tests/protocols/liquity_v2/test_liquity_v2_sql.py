"""Random calls on a branch in a lake: SQL's holdings and health are the rules', to the last integer."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from backtest.lake import Lake
from backtest.model import AccountId, ParamChange, PositionChange, SettingChange
from backtest.protocols.interface import Refusal
from backtest.protocols.liquity_v2 import LIQUITY_V2
from backtest.protocols.liquity_v2.actions import registering
from backtest.protocols.liquity_v2.state import BOLD, REDEEMED_RATE, SUMS, BranchState
from tests.protocols.liquity_v2.calls import KINDS, asked
from tests.protocols.liquity_v2.hand import ASSETS, E18, MANAGER, START, TERMS, at, branch
from tests.protocols.liquity_v2.logs import CONFIG
from tests.support.lake_tables import account, write
from tests.support.sql_engine import assert_sql_is_the_engine, spread

pytestmark = pytest.mark.slow

DEPOSITORS = [AccountId(number) for number in (13, 14, 15)]
FIRST, PEOPLE = 16, 160
"""Accounts from the first on are troves, none of which is ever opened twice."""


class History:
    """Canonical rows of a branch, as its fold writes them, and the book of them."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.state: BranchState = branch(**{REDEEMED_RATE: E18 // 200})
        self.seq, self.block, self.time = -1, 10, 0
        self.kinds: Counter[str] = Counter()
        self.rows["assets"] = [
            {"asset_id": each.id, "asset": each.asset, "symbol": each.symbol, "decimals": 18} for each in ASSETS
        ]
        self.rows["accounts"] = [{"account_id": number, "account": account(number)} for number in range(PEOPLE)]
        self.tell([ParamChange(**self.at(), name=name, value=value) for name, value in self.terms().items()])
        self.tell(registering(MANAGER, E18 // 20, E18 // 100, at()))
        self.header()

    def terms(self) -> dict[str, int]:
        return {"liquity_revision": 1, **TERMS}

    def at(self) -> dict[str, int]:
        return {"seq": self.seq, "block_number": self.block, "log_index": 0, "timestamp": START + self.time}

    def header(self) -> None:
        self.rows["blocks"].append({"block_number": self.block, "timestamp": START + self.time})

    def next(self, seconds: int) -> None:
        """Two blocks on, of which the first has no log."""
        for part in (seconds // 2, seconds - seconds // 2):
            self.block, self.time = self.block + 1, self.time + part
            self.header()

    def priced(self, price: int) -> None:
        self.seq += 1
        for asset, value in ((0, price), (1, E18)):
            self.rows["prices"].append(
                {**self.at(), "asset_id": asset, "price": value, "method": "feed", "exact": True}
            )

    def tell(self, changes: Any) -> None:
        self.seq += 1
        own = self.at()
        for change in changes:
            if isinstance(change, PositionChange):
                LIQUITY_V2.apply(self.state, placed := replace(change, **own, action_seq=self.seq))
                names = ("asset", "side", "delta", "action", "amount")
                row = {name: getattr(placed, name) for name in names}
                row = {"asset_id": row.pop("asset"), **row, "account_id": placed.account, "action_seq": self.seq}
                self.rows["position_events"].append({**own, **row})
            elif isinstance(change, SettingChange):
                LIQUITY_V2.apply(self.state, replace(change, **own, asset=BOLD))
                row = {"setting": change.setting, "value": change.value, "action": change.action}
                row |= {"account_id": change.account, "asset_id": BOLD, "action_seq": self.seq}
                self.rows["setting_events"].append({**own, **row})
            else:
                LIQUITY_V2.apply(self.state, replace(change, **own))
                self.rows["params"].append({**own, "name": change.name, "value": change.value})

    def call(self, kind: str, who: AccountId, amount: int, price: int) -> None:
        made = asked(self.state, kind, who, amount, price, self.time)
        if isinstance(made, Refusal):
            return
        self.kinds[kind] += 1
        sums = [(name, getattr(self.state, name)) for name in SUMS]
        self.tell(made.changes)
        if kind == "liquidate":
            sums = [(name, getattr(self.state, name)) for name in SUMS]
            self.tell([ParamChange(**self.at(), name=name, value=value) for name, value in sums])


def wandered(seed: int, calls: int = 260) -> History:
    """Calls on troves and of three depositors; at the end the branch is shut down."""
    draw, history = random.Random(seed), History()
    history.priced(2_000 * E18)
    for step in range(calls):
        history.next(draw.choice([1, 12, 7_000, 300_000, 4_000_000]))
        kind = draw.choice([*(each for each in KINDS if each != "shutdown"), "open", "open_in", "put"])
        price = draw.randrange(600 * E18, 3_000 * E18)
        if step % 5 == 0:
            history.priced(price)
        fresh = AccountId(FIRST + history.kinds["open"] + history.kinds["open_in"])
        opened = sorted(history.state.troves) or [fresh]
        who = fresh if kind in ("open", "open_in") else draw.choice(DEPOSITORS if kind in ("put", "take") else opened)
        amount = draw.choice([draw.randrange(2_000 * E18, 6_000 * E18), draw.randrange(1, 4_000 * E18)])
        history.call(kind, who, amount, price)
    history.priced(400 * E18)
    history.call("shutdown", MANAGER, 0, 400 * E18)
    for _ in range(10):
        history.next(1_000_000)
        history.call("apply", draw.choice(sorted(history.state.troves)), 0, 400 * E18)
    return history


@pytest.fixture(scope="module")
def made() -> dict[str, History]:
    return {f"seed-{seed}": wandered(seed) for seed in (2, 5)}


@pytest.fixture(scope="module")
def lake(made: dict[str, History], tmp_path_factory: pytest.TempPathFactory) -> Lake:
    path = tmp_path_factory.mktemp("branches") / "lake"
    for name, history in made.items():
        write(path, history.rows, changed(CONFIG, name=name))
    old = {**made["seed-2"].rows, "params": [row for row in made["seed-2"].rows["params"] if row["name"] not in SUMS]}
    first = next(row for row in made["seed-2"].rows["position_events"] if row["action"] == "liquidation")
    place = {name: first[name] for name in ("seq", "block_number", "log_index", "timestamp")}
    told = {"account_id": FIRST, "liquidator_id": 9, "debt_asset_id": 1, "collateral_asset_id": 0, "repaid": 1}
    told |= {"seized": 1, "protocol_fee": 0, "receive_collateral_token": False, "transaction_hash": bytes(32)}
    write(path, {**old, "liquidations": [{**place, **told}]}, changed(CONFIG, name="old"))
    return Lake(path)


@pytest.mark.parametrize("name", ["seed-2", "seed-5"])
def test_sql_is_the_rules(lake: Lake, made: dict[str, History], name: str) -> None:
    compared = assert_sql_is_the_engine(lake, name, spread(lake, name, 60))
    assert compared.owing > 60
    assert compared.unsafe > 3
    assert compared.holdings > 150
    state = made[name].state
    assert state.debt_sum > 0
    assert state.product < 10**36
    assert state.scale > 1


def test_the_calls_are_of_every_kind(made: dict[str, History]) -> None:
    kinds = sum((history.kinds for history in made.values()), Counter())
    assert {*KINDS} == kinds.keys()
    assert all(history.state.shutdown for history in made.values())


def test_tables_made_before_sums_were_kept_have_no_rules_from_their_first_liquidation_on(lake: Lake) -> None:
    first, last = lake.sql(
        "SELECT min(l.block_number), max(b.block_number) FROM liquidations AS l JOIN blocks AS b USING (market)"
        " WHERE market = 'old'"
    ).fetchall()[0]
    rows = lake.sql(
        f"SELECT block_number, missing, health_wad FROM health(NULL, [{first - 1}, {last}])"
        " WHERE market = 'old' AND missing IS DISTINCT FROM 'no debt'"
    ).fetchall()
    assert {row[:2] for row in rows} == {(first - 1, None), (last, "rules")}
    assert all((row[2] is None) == (row[1] == "rules") for row in rows)


def test_marts_have_its_troves(lake: Lake) -> None:
    near = lake.sql("SELECT market, account_id, health FROM near_liquidation WHERE market <> 'old' ORDER BY ALL")
    assert (
        near.fetchall()
        == lake.sql(
            "SELECT market, account_id, health FROM health(NULL, (SELECT list(block_number) FROM last_blocks))"
            " SEMI JOIN last_blocks USING (market, block_number) WHERE health < 1.1 AND market <> 'old' ORDER BY ALL"
        ).fetchall()
    )
    assert lake.sql("SELECT count(*) FROM positions WHERE market = 'seed-5' AND owed > 0").fetchall()[0][0] > 5
    one = lake.sql("SELECT account FROM near_liquidation WHERE market = 'seed-5' LIMIT 1").fetchall()[0][0]
    (block,) = lake.sql("SELECT block_number FROM last_blocks WHERE market = 'seed-5'").fetchall()[0]
    alone, among = (
        lake.sql(f"SELECT * FROM health({who}, [{block}]) WHERE market = 'seed-5' AND account = '{one}'").fetchall()
        for who in (f"['{one}']", "NULL")
    )
    assert alone == among


def test_long_products_are_divided_exactly(lake: Lake) -> None:
    """Random sizes and near wholes; what is out of range is null, never wrong."""
    draw, cases = random.Random(7), []
    for _ in range(300):
        a, d = draw.randrange(2 ** draw.randint(1, 110)), draw.randrange(2**70, 2 ** draw.randint(71, 120))
        near = d + draw.randint(-1, 1) if a < 2**100 else d
        cases.append((a, draw.choice([near, draw.randrange(2 ** draw.randint(1, 120))]), d))
    values = ", ".join(f"({n}, {', '.join(f'{v}::HUGEINT' for v in case)})" for n, case in enumerate(cases))
    found = lake.sql(f"SELECT wide_mul_div_down(a, b, d) FROM (VALUES {values}) AS t(n, a, b, d) ORDER BY n").fetchall()
    for (a, b, d), (value,) in zip(cases, found, strict=True):
        assert value == a * b // d if value is not None else a * b // d > 2**118
    assert sum(value is None for (value,) in found) < 100
    out = "SELECT wide_mul_div_down(1::HUGEINT << 111, 1, 1::HUGEINT << 80), wide_mul_div_down(1, 1, 5)"
    assert lake.sql(out).fetchall() == [(None, None)]
