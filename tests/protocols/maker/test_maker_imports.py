"""Exports of vaults to canonical tables: by hand, against the same history from logs, and on the real files where they
are there.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backtest.errors import RulesError
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.imports import import_files, load
from backtest.lake import Lake
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.auctions import Auctions
from backtest.protocols.maker.imported import fold_imports
from backtest.protocols.maker.logs import fold_logs
from backtest.protocols.maker.params import CAT_1_1
from backtest.protocols.vaults.math import per_second, rmul_down
from backtest.reconstruct import History, reconstruct
from backtest.replay.engine import replay
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, Scenario
from backtest.units import RAY, WAD, rpow_half_up
from tests.support.maker_exports import (
    COLLATERAL,
    CONFIG,
    DAI,
    FLOW,
    LIQUIDATION,
    PARAMETER,
    MemoryRaw,
    key,
    real_folder,
)
from tests.support.maker_logs import CAT, JUG, RAD, SPOTTER, VAT, Script, address
from tests.support.maker_logs import CONFIG as LOGS
from tests.support.sql_engine import assert_sql_is_the_engine, spread
from tests.support.synthetic import ChainNode

DUTY = per_second(6 * RAY // 100)
Tables = dict[str, list[dict[str, Any]]]


class Export:
    """Rows in the order of the calls; block ``n`` is at ``100 * n`` seconds."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {FLOW: [], LIQUIDATION: [], PARAMETER: []}
        self.block, self._log = 1, 0

    def at(self, block: int) -> Export:
        self.block, self._log = block, 0
        return self

    def param(self, name: str, value: int) -> Export:
        return self._add(PARAMETER, name=name, asset=None, category=None, value=value)

    def flow(self, who: str, action: str, amount: int, unit: int = WAD) -> Export:
        side = "debt" if action in ("borrow", "repay") else "collateral"
        sign = 1 if action in ("borrow", "supply") else -1
        asset = DAI if side == "debt" else COLLATERAL
        return self._add(FLOW, account=who, asset=asset, side=side, action=action, amount=sign * amount * unit)

    def liquidation(self, who: str, seized: int, art: int | None, repaid: int | None = None) -> Export:
        assets = {"debt_asset": DAI, "collateral_asset": COLLATERAL}
        return self._add(
            LIQUIDATION,
            account=who,
            liquidator=None,
            **assets,
            repaid=repaid,
            debt_scaled=art,
            seized=seized,
            bad_debt=None,
        )

    def _add(self, dataset: str, **columns: Any) -> Export:
        self.rows[dataset].append({**key(self.block, self._log, 100 * self.block), **columns})
        self._log += 1
        return self

    def folded(self) -> Tables:
        return {name: table.to_pylist() for name, table in fold_imports(CONFIG, MemoryRaw(self.rows))}


def export(fee: int = 6 * RAY // 100) -> Export:
    return (
        Export()
        .param("stability_fee", fee)
        .param("liquidation_ratio", 13 * RAY // 10)
        .param("dust", 500 * WAD)
        .param("dunk", 50_000 * WAD)
    )


def changes(tables: Tables) -> list[tuple[str, str, int, str]]:
    names = {row["account_id"]: row["account"] for row in tables["accounts"]}
    return [
        (names[row["account_id"]], row["side"], int(row["delta"]), row["action"]) for row in tables["position_events"]
    ]


def balances(tables: Tables) -> dict[tuple[str, str], int]:
    held: dict[tuple[str, str], int] = defaultdict(int)
    for who, side, delta, _ in changes(tables):
        held[who, side] += delta
    return dict(held)


def test_the_accumulator_compounds_from_the_fee_at_every_flow_and_before_a_new_fee() -> None:
    made = (
        export()
        .at(5)
        .flow("a", "supply", 1)
        .at(9)
        .param("stability_fee", 4 * RAY // 100)
        .at(12)
        .flow("a", "supply", 1)
        .folded()
    )
    first = rmul_down(rpow_half_up(DUTY, 400), RAY)
    second = rmul_down(rpow_half_up(DUTY, 400), first)
    third = rmul_down(rpow_half_up(per_second(4 * RAY // 100), 300), second)
    steps = [(row["block_number"], int(row["borrow_index"])) for row in made["indexes"] if row["asset_id"] == 1]
    assert steps == [(1, RAY), (5, first), (9, second), (12, third)]


def test_a_base_fee_adds_to_the_duty_and_a_duty_may_be_given_itself() -> None:
    made = Export().param("duty", DUTY).param("base", 10**18).at(5).flow("a", "supply", 1).folded()
    assert int(made["indexes"][-1]["borrow_index"]) == rmul_down(rpow_half_up(DUTY + 10**18, 400), RAY)


def test_parameters_show_the_system_in_force() -> None:
    found = {row["name"]: int(row["value"]) for row in export().at(2).flow("a", "supply", 1).folded()["params"]}
    assert found["liquidation_system"] == CAT_1_1
    assert found["duty"] == DUTY


def test_borrows_draw_up_and_repayments_wipe_down() -> None:
    made = export().at(2).flow("a", "supply", 10).flow("a", "borrow", 1_000).at(3).flow("a", "repay", 100).folded()
    rate = rmul_down(rpow_half_up(DUTY, 100), RAY)
    later = rmul_down(rpow_half_up(DUTY, 100), rate)
    drawn, wiped = -(-1_000 * WAD * RAY // rate), 100 * WAD * RAY // later
    assert changes(made) == [
        ("a", "debt", drawn, "borrow"),
        ("a", "collateral", 10 * WAD, "borrow"),
        ("a", "debt", -wiped, "repay"),
    ]
    assert drawn * rate >= 1_000 * WAD * RAY > (drawn - 1) * rate


def test_flows_of_a_vault_in_one_block_are_one_action() -> None:
    """The deposit comes last in the export: nothing is unsafe in between, and all share one place."""
    made = export().at(2).flow("a", "borrow", 1_000).flow("b", "supply", 1).flow("a", "supply", 10).folded()
    rows = made["position_events"]
    assert len({row["seq"] for row in rows if row["account_id"] == 0}) == 1
    assert [row["action"] for row in rows] == ["supply", "borrow", "borrow"]
    assert [int(row["amount"]) for row in rows] == [WAD, 1_000 * WAD, 10 * WAD]


def test_a_repayment_that_leaves_less_than_half_of_dust_leaves_nothing() -> None:
    made = (
        export()
        .at(2)
        .flow("a", "supply", 10)
        .flow("a", "borrow", 1_000)
        .at(3)
        .flow("a", "repay", 751)
        .at(4)
        .flow("b", "supply", 10)
    )
    made.flow("b", "borrow", 1_000).at(5).flow("b", "repay", 749)
    held = balances(made.folded())
    assert held["a", "debt"] == 0
    assert 250 * WAD < held["b", "debt"] < 252 * WAD
    over = balances(
        export().at(2).flow("a", "supply", 10).flow("a", "borrow", 1_000).at(3).flow("a", "repay", 1_001).folded()
    )
    assert over["a", "debt"] == 0


def test_a_withdrawal_within_the_rounding_of_the_export_empties() -> None:
    """Ten digits: 366.9008898 of 366.90088975."""
    made = (
        export()
        .at(2)
        .flow("a", "supply", 36_690_088_975, 10**10)
        .at(3)
        .flow("a", "withdraw", 3_669_008_898, 10**11)
        .folded()
    )
    assert balances(made)["a", "collateral"] == 0
    assert [action for *_, action in changes(made)] == ["supply", "withdraw"]


def test_what_an_export_lacks_is_added_and_named() -> None:
    made = (
        export()
        .at(2)
        .flow("a", "supply", 1)
        .at(3)
        .flow("a", "withdraw", 3)
        .at(4)
        .flow("b", "supply", 9)
        .flow("b", "borrow", 600)
    )
    made.at(5).flow("b", "repay", 2_000)
    found = [change for change in changes(made.folded()) if change[3] == "unrecorded"]
    assert found[0] == ("a", "collateral", 2 * WAD, "unrecorded")
    assert found[1][:2] == ("b", "debt")
    assert 1_399 * WAD < found[1][2] < 1_401 * WAD
    assert set(balances(made.folded()).values()) == {0, 9 * WAD}


def test_a_liquidation_of_everything_leaves_nothing_a_part_leaves_the_rest() -> None:
    opened = export(fee=1).at(2).flow("a", "supply", 10).flow("a", "borrow", 1_000)
    whole = opened.at(3).liquidation("a", 10 * WAD - 10**9, 999_999 * WAD // 1_000).folded()
    assert balances(whole) == {("a", "collateral"): 0, ("a", "debt"): 0}
    row = whole["liquidations"][0]
    assert (int(row["seized"]), int(row["protocol_fee"])) == (10 * WAD - 10**9, 0)
    assert {account["account"] for account in whole["accounts"]} == {"a", "unknown"}
    opened = export(fee=1).at(2).flow("a", "supply", 10).flow("a", "borrow", 1_000)
    part = balances(opened.at(3).liquidation("a", 4 * WAD, 400 * WAD, 400 * WAD).folded())
    assert part["a", "collateral"] == 6 * WAD
    assert 600 * WAD <= part["a", "debt"] < 601 * WAD


def test_what_an_export_does_not_say_of_a_liquidation() -> None:
    """No art: from the DAI; neither: the share of the collateral."""
    opened = export(fee=1).at(2).flow("a", "supply", 10).flow("a", "borrow", 1_000)
    assert (
        499 * WAD < balances(opened.at(3).liquidation("a", 5 * WAD, None, 500 * WAD).folded())["a", "debt"] < 501 * WAD
    )
    opened = export(fee=1).at(2).flow("a", "supply", 10).flow("a", "borrow", 1_000)
    assert 699 * WAD < balances(opened.at(3).liquidation("a", 3 * WAD, None).folded())["a", "debt"] < 701 * WAD


def test_mistakes_name_their_row_and_the_nearest_name() -> None:
    with pytest.raises(RulesError, match=r"no parameter 'liquidation_ration'; did you mean 'liquidation_ratio'"):
        Export().param("liquidation_ration", 1).folded()
    with pytest.raises(RulesError, match="block 2: debt moves before a stability fee"):
        Export().param("dust", 1).at(2).flow("a", "borrow", 1).folded()
    wrong = export().at(2).flow("a", "supply", 1).flow("b", "supply", 1)
    wrong.rows[FLOW][1]["asset"] = "ehh"
    with pytest.raises(RulesError, match=r"no asset 'ehh'; did you mean 'eth'"):
        wrong.folded()


# -- two origins
# -----------------------------------------------------------------------------------------------------------


def two_origins() -> tuple[Script, Export]:
    """The same history as logs and as an export: dripped at every flow, drawn up and wiped down as proxies do."""
    script, made = Script().at(1).init(), Export()
    script.file(JUG, "duty", DUTY).file(SPOTTER, "mat", 13 * RAY // 10).file(CAT, "dunk", 50_000 * RAD).file(
        CAT, "chop", 113 * WAD // 100
    )
    made.param("duty", DUTY).param("liquidation_ratio", 13 * RAY // 10).param("dunk", 50_000 * WAD).param(
        "liquidation_penalty", 113 * WAD // 100
    )
    made.param("dust", 500 * WAD)
    script.file(VAT, "dust", 500 * RAD)
    dripped = 1

    def step(block: int) -> None:
        nonlocal dripped
        script.at(block)
        made.at(block)
        rate = rmul_down(rpow_half_up(DUTY, 12 * (block - dripped)), script.rate)
        dripped = block
        script.fold(rate - script.rate)

    def flow(who: str, supply: int = 0, borrow: int = 0) -> None:
        script.frob(who, supply * WAD, -(-borrow * WAD * RAY // script.rate))  # up when drawn, down when wiped
        for action, amount in (
            ("supply" if supply > 0 else "withdraw", supply),
            ("borrow" if borrow > 0 else "repay", borrow),
        ):
            if amount:
                made.flow(address(who), action, abs(amount))

    step(10)
    flow("alice", 10, 8_000)
    flow("bob", 20, 9_000)
    step(1_000)
    flow("alice", -1, -700)
    step(5_000)
    flow("bob", 3, 4_321)
    step(5_001)
    dink, dart = script.ink["alice"], script.art["alice"]
    script.bite("alice", dink, dart, 113 * WAD // 100)
    made.liquidation(address("alice"), dink, dart, dart * script.rate // RAY)
    step(9_000)
    flow("bob", -5, -2_000)
    for rows in made.rows.values():
        for row in rows:
            row["timestamp"] = 1_600_000_000 + 12 * row["block_number"]
    return script, made


def test_logs_and_exports_of_the_same_history_make_the_same_positions(tmp_path: Path) -> None:
    script, made = two_origins()
    lake = Lake(tmp_path / "lake", create=True)
    with ChainNode(script.chain()) as node, Rpc(node.url, backoff=0.001, max_backoff=0.02) as rpc:
        fetch(lake, LOGS, rpc, finality=0)
    history = History(lake, LOGS, MAKER, lambda done, total: None)
    ours: Tables = {name: table.to_pylist() for name, table in fold_logs(LOGS, history)}
    theirs = made.folded()
    assert steps_of(ours) == steps_of(theirs)
    assert rates_of(ours) == rates_of(theirs)
    liquidations = [
        [(int(row["repaid"]), int(row["seized"])) for row in tables["liquidations"]] for tables in (ours, theirs)
    ]
    assert liquidations[0] == liquidations[1] != []
    shared = {"duty", "dust", "dunk", "liquidation_ratio", "liquidation_penalty", "liquidation_system"}
    values = [
        {row["name"]: int(row["value"]) for row in tables["params"] if row["name"] in shared}
        for tables in (ours, theirs)
    ]
    assert values[0] == values[1]
    assert values[0].keys() == shared


def steps_of(tables: Tables) -> list[tuple[int, str, str, int]]:
    """Changes of balances as (block, account, side, delta)."""
    names = {row["account_id"]: row["account"] for row in tables["accounts"]}
    return sorted(
        (row["block_number"], names[row["account_id"]], row["side"], int(row["delta"]))
        for row in tables["position_events"]
    )


def rates_of(tables: Tables) -> list[tuple[int, int]]:
    return [(row["block_number"], int(row["borrow_index"])) for row in tables["indexes"] if row["asset_id"] == 1]


# -- the real files
# --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The exports and candles, imported and reconstructed."""
    folder = real_folder()
    lake = Lake(tmp_path_factory.mktemp("real") / "lake", create=True)
    import_files(lake, load("maker-vaults"), folder=folder / "maker_eth_b")
    candles = {"hours": [str(folder / "prices" / "eth_usd_1h_2020_2021.csv")]}
    import_files(lake, load("candles"), market="maker-eth-b", sources=candles)
    reconstruct(lake, "maker-eth-b")
    lake.refresh()
    return lake


def rows(lake: Lake, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lake.read(f"canonical/{table}", "maker-eth-b").to_pylist()
    return found


@dataclass
class Episode:
    """Liquidations of one vault less than three hours apart: what it held before, and what they took."""

    last: int
    ink: int
    art: int
    seized: int = 0
    taken: int = 0


def episodes(lake: Lake) -> list[Episode]:
    debts = {
        (row["block_number"], row["log_index"]): int(row["debt_scaled"])
        for row in lake.read(LIQUIDATION, "maker-eth-b").to_pylist()
    }
    held: dict[tuple[int, str], int] = defaultdict(int)
    before: dict[int, tuple[int, int]] = {}
    for row in sorted(rows(lake, "position_events"), key=lambda row: row["seq"]):
        account = row["account_id"]
        if row["action"] == "liquidation":
            before.setdefault(row["seq"], (held[account, "collateral"], held[account, "debt"]))
        held[account, row["side"]] += int(row["delta"])
    found: dict[int, list[Episode]] = defaultdict(list)
    for row in sorted(rows(lake, "liquidations"), key=lambda row: row["seq"]):
        mine = found[row["account_id"]]
        if not mine or row["timestamp"] - mine[-1].last > 3 * 3_600:
            mine.append(Episode(row["timestamp"], *before[row["seq"]]))
        mine[-1].last = row["timestamp"]
        mine[-1].seized += int(row["seized"])
        mine[-1].taken += debts[row["block_number"], row["log_index"]]
    return [episode for some in found.values() for episode in some]


@pytest.mark.slow
def test_real_vaults_are_rebuilt_within_the_bounds(real: Lake) -> None:
    """Whole vaults: collateral within 1e-4 of what was seized; debt within 1e-6 at the median and 5e-4 at the 95th
    percentile.
    """
    whole = [episode for episode in episodes(real) if episode.seized >= 0.99 * episode.ink]
    assert len(episodes(real)) == 49
    assert len(whole) >= 40
    collateral = [abs(episode.ink / episode.seized - 1) for episode in whole]
    debt = sorted(abs(episode.art / episode.taken - 1) for episode in whole)
    assert max(collateral) <= 1e-4
    assert statistics.median(debt) <= 1e-6
    assert debt[int(0.95 * len(debt))] <= 5e-4


@pytest.mark.slow
def test_the_real_accumulator_is_that_of_every_liquidation(real: Lake) -> None:
    steps = [(row["seq"], int(row["borrow_index"])) for row in rows(real, "indexes") if row["asset_id"] == 1]
    debts = {
        (row["block_number"], row["log_index"]): int(row["debt_scaled"])
        for row in real.read(LIQUIDATION, "maker-eth-b").to_pylist()
    }
    places, worst = [seq for seq, _ in steps], 0.0
    for row in rows(real, "liquidations"):
        rate = steps[bisect_right(places, row["seq"]) - 1][1]
        worst = max(worst, abs(rate / RAY * debts[row["block_number"], row["log_index"]] / int(row["repaid"]) - 1))
    assert worst <= 1e-4


@pytest.mark.slow
def test_the_four_real_vaults_with_flows_outside_the_export_are_named(real: Lake) -> None:
    names = {row["account_id"]: row["account"] for row in rows(real, "accounts")}
    found = {names[row["account_id"]] for row in rows(real, "position_events") if row["action"] == "unrecorded"}
    assert found == {"18295", "19092", "20083", "20111"}


@pytest.mark.slow
def test_sql_health_of_the_real_vaults_is_the_engines(real: Lake) -> None:
    compared = assert_sql_is_the_engine(real, "maker-eth-b", spread(real, "maker-eth-b", 12))
    assert compared.owing > 500


@pytest.mark.slow
def test_the_real_history_replays(real: Lake) -> None:
    """Observed: nearly all liquidations find an unsafe vault at the proxied price. Competitive: auctions open, settle,
    and end.
    """
    described, timeline = load_market(real, "maker-eth-b"), load_timeline(real, "maker-eth-b")
    observed = replay(MAKER, described, timeline, Scenario())
    refused = [mismatch.reason for mismatch in observed.mismatches if mismatch.ours is None]
    assert len(observed.liquidations) + len(refused) == 459
    assert refused.count("not unsafe") == len(refused) <= 20
    auctions = Auctions()
    replayed = replay(MAKER, described, timeline, Scenario(liquidators=Competitive()), mechanism=auctions)
    count = Counter(row.step for row in replayed.liquidations)
    assert count["bite"] == count["deal"] > 0
    assert count["bark"] == count["take"] + len(auctions.lots) > 0
    assert set(replayed.rules) == {"Cat 1.1/1.2", "Dog 2.0"}
