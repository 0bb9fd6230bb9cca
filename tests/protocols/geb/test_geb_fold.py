"""GEB's logs over JSON-RPC into a lake, to canonical tables, into a replay: the logs are built from the ABI."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace

from backtest.cli import fetch as cli
from backtest.errors import RulesError, UserError
from backtest.fetch.decode import topic0
from backtest.fetch.market_files import find_market
from backtest.lake import Lake
from backtest.protocols.geb import GEB
from backtest.protocols.geb.events import EVENTS
from backtest.protocols.geb.params import FIXED, INCREASING
from backtest.replay.engine import replay
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, Scenario
from tests.protocols.geb.script import CONFIG, ILK, PENALTY, RATE, RATIO, SAFETY, fetched, played
from tests.support.book_views import every_view, spelt
from tests.support.maker_logs import RAD, RAY, WAD, address, text32
from tests.support.sql_engine import assert_sql_is_the_engine, spread


def test_no_two_logs_of_a_contract_look_alike() -> None:
    topics = [(spec.emitter, topic0(spec)) for spec in EVENTS]
    assert len(set(topics)) == len(topics)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return fetched(played(), tmp_path_factory.mktemp("geb"))


def rows(lake: Lake, table: str) -> list[dict[str, Any]]:
    key = "seq" if table not in ("accounts", "assets") else f"{table[:-1]}_id"
    return lake.read(f"canonical/{table}", CONFIG.name).sort_by(key).to_pylist()


def test_safes_are_what_the_calls_left(lake: Lake) -> None:
    names = {row["account_id"]: row["account"] for row in rows(lake, "accounts")}
    held: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows(lake, "position_events"):
        held[names[row["account_id"]], row["side"]] += int(row["delta"])
    made = played()
    for who in ("alice", "bob", "carol", "dave"):
        assert held[address(who), "collateral"] == made.ink[who]
        assert held[address(who), "debt"] == made.art[who]
    assert address("eve") not in names.values()  # of another collateral type


def test_actions_are_named_and_share_their_log(lake: Lake) -> None:
    found = [
        (row["action"], row["side"], int(row["delta"]) // WAD, row["action_seq"] - row["seq"])
        for row in rows(lake, "position_events")
    ]
    assert ("withdraw", "collateral", -1, 0) in found
    assert ("transfer", "debt", -500, 0) in found
    assert ("borrow", "debt", 2_000, 0) in found
    assert ("liquidation", "collateral", -10, 2) in found  # closed by the Liquidate, two logs later


def test_both_prices_are_those_that_the_relayer_divided(lake: Lake) -> None:
    steps = [
        (row["block_number"], row["asset_id"], int(row["price"]) * 10**9 + int(row["price_rest"] or 0))
        for row in rows(lake, "prices")
    ]
    assert steps == [
        (2, 1, 3 * RAY), (2, 0, 2_000 * RAY), (30, 1, 3 * RAY + 10**20), (30, 0, 1_800 * RAY),
        (50, 1, 3 * RAY + 2 * 10**20), (50, 0, 1_200 * RAY), (60, 0, 1_100 * RAY),
    ]  # fmt: skip


def test_parameters_in_the_units_of_the_tables(lake: Lake) -> None:
    """The increasing house, used from block 40 on, has another minimum bid and discounts than the fixed one."""
    last: dict[str, int] = {}
    by_block: dict[tuple[str, int], int] = {}
    for row in rows(lake, "params"):
        last[row["name"]] = by_block[row["name"], row["block_number"]] = int(row["value"])
    assert last == {
        "line": 10_000_000 * WAD,
        "dust": 500 * WAD,
        "duty": RAY + 10**18,
        "base": 0,
        "safety_ratio": SAFETY,
        "liquidation_ratio": RATIO,
        "liquidation_penalty": PENALTY,
        "dunk": 90_000 * WAD,
        "box": 1_000_000 * WAD,
        "liquidation_system": INCREASING,
        "min_discount": 95 * WAD // 100,
        "max_discount": 90 * WAD // 100,
        "discount_rate": RAY - 10**22,
        "minimum_bid": 5 * WAD,
        "redemption_price": 3 * RAY + 2 * 10**20,
        "redemption_time": last["redemption_time"],
        "redemption_rate": RATE,
    }
    assert by_block["liquidation_system", 2] == FIXED
    assert by_block["min_discount", 2] == by_block["max_discount", 2] == 97 * WAD // 100
    assert by_block["minimum_bid", 40] == 5 * WAD


def test_liquidations_of_both_houses(lake: Lake) -> None:
    names = {row["account_id"]: row["account"] for row in rows(lake, "accounts")}
    bob, carol = rows(lake, "liquidations")
    rate = played().rate
    dart = 2_200 * RAD * WAD // rate // PENALTY
    assert (names[bob["account_id"]], int(bob["debt_scaled"])) == (address("bob"), dart)
    assert int(bob["repaid"]) == dart * rate // RAY
    assert (int(carol["seized"]), int(carol["repaid"])) == (10 * WAD, 3_000 * WAD * rate // RAY)
    assert names[carol["liquidator_id"]] == "unknown"


def test_the_observed_replay_of_logs_is_exact(lake: Lake) -> None:
    result = replay(GEB, load_market(lake, CONFIG.name), load_timeline(lake, CONFIG.name), Scenario())
    assert [row.matches_history for row in result.liquidations] == [True, True]
    assert not result.mismatches
    assert list(result.rules) == [
        "GEB FixedDiscountCollateralAuctionHouse",
        "GEB IncreasingDiscountCollateralAuctionHouse",
    ]


def test_the_whole_book_at_once_is_each_safe_by_itself(lake: Lake) -> None:
    end = replay(GEB, load_market(lake, CONFIG.name), load_timeline(lake, CONFIG.name), Scenario()).book
    views = GEB.views(end.state, end.prices, end.now)
    assert views is not None
    assert not views.rest
    assert spelt(views) == every_view(GEB, end.state, end.prices, end.now)


@pytest.mark.parametrize("screened", [True, False])
def test_a_competitive_replay_starts_and_sells(lake: Lake, screened: bool) -> None:
    """Bob in lots of 2,200 with penalty (2,000, 2,000 and 500 without) when the price falls to 1,800, Carol whole at
    1,200.
    """
    scenario = Scenario(liquidators=Competitive())
    market, timeline = load_market(lake, CONFIG.name), load_timeline(lake, CONFIG.name)
    result = replay(GEB, market, timeline, scenario, screened=screened)
    steps = [(row.step, row.clock.block_number) for row in result.liquidations]
    assert steps == [("start", 30), ("buy", 30)] * 3 + [("start", 50), ("buy", 50)]
    first, bought = result.liquidations[:2]
    dart = 2_200 * RAD * WAD // played().rate // PENALTY
    assert first.fill.seized == 10 * WAD * dart // (4_500 * WAD)
    # 1,800 / 3.0000001 coins, cut, at 97 %: what 2,200 coins (as the penalty leaves them, rounded up) buy
    price = 1_800 * 10**27 * RAY // (3 * RAY + 10**20) // 10**9 * 97 // 100
    raised = dart * played().rate * PENALTY // WAD
    assert bought.fill.repaid == -(-raised // RAY)
    assert abs(bought.fill.seized - bought.fill.repaid * WAD // price) <= 1


def test_sql_health_of_every_safe_at_every_block_is_the_engines(lake: Lake) -> None:
    compared = assert_sql_is_the_engine(lake, CONFIG.name, spread(lake, CONFIG.name, 100))
    assert compared.owing > 30
    assert compared.unsafe > 4


def test_logs_that_are_missing_stop_the_fold(tmp_path: Path) -> None:
    made = played().at(70).modify("alice", -100 * WAD, 0)
    with pytest.raises(RulesError, match="would hold less than nothing; logs before it are missing"):
        fetched(made, tmp_path)


def test_what_a_description_must_say() -> None:
    raw = type("Raw", (), {"parameters": {}})()
    with pytest.raises(UserError, match="names no collateral type"):
        GEB.discover({}, raw)
    with pytest.raises(UserError, match="write base_decimals = 18 and price_decimals = 27"):
        list(GEB.fold(replace(CONFIG, price_decimals=None), raw))
    with pytest.raises(UserError, match="collateral type 'eth'"):
        GEB.describe({"collateral_type": "eth"}, [CONFIG])
    assert GEB.describe({"collateral_type": "ETH-A"}, [CONFIG]) is CONFIG
    made = GEB.describe({"collateral_type": "WSTETH-A"}, [CONFIG])
    assert (made.name, made.parameters["coin"], "collateral" in made.contracts) == ("geb-wsteth-a", "RAI", False)


def test_a_collateral_type_is_a_market_that_ships_or_one_made_of_it() -> None:
    shipped, other = (cli._described("geb", None, {"collateral-type": each}) for each in ("ETH-A", "WSTETH-B"))
    assert shipped == find_market("rai-eth-a")
    assert (other.name, other.contracts["safe_engine"]) == ("geb-wsteth-b", shipped.contracts["safe_engine"])
    with pytest.raises(UserError, match="unknown option --collateral-typ; did you mean '--collateral-type'"):
        cli._described("geb", None, {"collateral-typ": "ETH-A"})


def test_what_the_contract_must_return(lake: Lake) -> None:
    def tables(name: str, columns: Sequence[str]) -> pa.Table:
        return lake.read(f"canonical/{name}", CONFIG.name, columns=list(columns))

    dave, made = address("dave"), played()
    who = {row["account_id"]: row["account"] for row in rows(lake, "accounts") if row["account"] == dave}
    for lineage, getter in (("geb", "collateralTypes(bytes32)"), ("open-dollar", "cData(bytes32)")):
        config = replace(CONFIG, parameters={**CONFIG.parameters, "lineage": lineage})
        found = {(claim.function, claim.place): claim.value for claim in GEB.claims(config, tables, [60], who)}
        safes = "safes(bytes32,address)"
        expected = {(safes, 0): 2 * WAD, (safes, 1): 500 * WAD}
        assert found == {(getter, 0): sum(made.art.values()), **expected}


def test_which_houses_are_found(lake: Lake) -> None:
    """Those that the engine was told to use, in each lineage's words, and those that a liquidation names."""
    used = {"collateral_type": ILK, "parameter": text32("collateralAuctionHouse")}
    made = {
        "LiquidationFileHouse": [
            {**used, "data": b"\1" * 20},
            {**used, "parameter": text32("else"), "data": b"\4" * 20},
        ],
        "LiquidationFileOD": [{**used, "data": bytes(12) + b"\2" * 20}],
        "Liquidate": [{"collateral_type": ILK, "collateral_auctioneer": b"\3" * 20}],
    }

    class Raw:
        parameters = CONFIG.parameters

        def table(self, event: str) -> pa.Table:
            return pa.Table.from_pylist(made[event])

    found = GEB.discover({"liquidation_engine_1": frozenset({"0x1"}), "coin": frozenset()}, Raw())  # type: ignore[arg-type]
    houses = {"0x" + 20 * digits for digits in ("01", "02", "03")}
    assert found == {
        "liquidation_engine_1": {"0x1"},
        "liquidation_engine": {"0x1"},
        "auction_house": houses,
    }
