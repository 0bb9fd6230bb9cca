"""Logs of calls (LogNote) and Maker's events, over JSON-RPC into a lake, to canonical tables, into a replay. The
contracts are on no registry, so the logs are built from the ABI.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backtest.auctions.dutch import STAIRSTEP
from backtest.cli import fetch as cli
from backtest.cli import main
from backtest.errors import RulesError, UserError
from backtest.fetch import fetch
from backtest.fetch.decode import topic0
from backtest.fetch.market_files import find_market
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.events import EVENTS
from backtest.protocols.maker.params import CAT_1_1, DOG_2_0
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, Scenario
from tests.support.book_views import every_view, spelt
from tests.support.heads import assert_head_is_as_fetched
from tests.support.maker_logs import (
    CONFIG,
    OTHER,
    RAD,
    RAY,
    VAT,
    WAD,
    address,
    note,
)
from tests.support.sql_engine import assert_sql_is_the_engine, spread
from tests.support.synthetic import ChainNode, MadeLog
from tests.support.vault_fetch import CHOP, RATIO, fetched, script

# Signatures as the reference states their first topics.
TOPICS = {
    "VatInit": "0x3b663195",
    "VatFile": "0x1a0b287e",
    "VatFrob": "0x76088703",
    "VatFork": "0x870c616d",
    "VatGrab": "0x7bab3f40",
    "VatFold": "0xb65337df",
    "JugFileBase": "0x29ae8114",
    "SpotterFilePip": "0xebecb39d",
    "FlipTend": "0x4b43ed12",
    "FlipDent": "0x5ff3a382",
    "FlipDeal": "0xc959c42b",
    "FlipTick": "0xfc7b6aee",
    "FlipYank": "0x26e027f1",
    "Poke": "0xdfd7467e425a8107cfd368d159957692c25085aacbcf5228ce08f10f2146486e",
    "LogValue": "0x296ba4ca62c6c21c95e828080cb8aec7481b71390585605300a8a76f9e95b527",
    "Bite": "0xa716da86bc1fb6d43d1493373f34d7a418b619681cd7b90f7ea667ba1489be28",
    "FlipKick": "0xc84ce3a1172f0dec3173f04caaa6005151a4bfe40d4c9f3ea28dba5f719b2a7a",
    "DogFile": "0xe986e40cc8c151830d4f61050f4fb2e4add8567caad2d5f5496f9158e91fe4c7",
    "DogFileIlk": "0x851aa1caf4888170ad8875449d18f0f512fd6deb2a6571ea1a41fb9f95acbcd1",
    "DogFileClip": "0x4ff2caaa972a7c6629ea01fae9c93d73cc307d13ea4c369f9bbbb7f9b7e9461d",
    "Bark": "0x85258d09e1e4ef299ff3fc11e74af99563f022d21f3f940db982229dc2a3358c",
    "ClipFileAddress": "0x8fef588b5fc1afbf5b2f06c1a435d513f208da2e6704c3d8f0e0ec91167066ba",
    "ClipKick": "0x7c5bfdc0a5e8192f6cd4972f382cec69116862fb62e6abff8003874c58e064b8",
    "ClipTake": "0x05e309fd6ce72f2ab888a20056bb4210df08daed86f21f95053deb19964d86b1",
    "ClipRedo": "0x275de7ecdd375b5e8049319f8b350686131c219dd4dc450a08e9cf83b03c865f",
    "ClipYank": "0x2c5d2826eb5903b8fc201cf48094b858f42f61c7eaac9aaf43ebed490138144e",
}


@pytest.mark.parametrize("spec", [spec for spec in EVENTS if spec.name in TOPICS], ids=lambda spec: spec.name)
def test_first_topics_are_those_of_the_reference(spec: Any) -> None:
    assert topic0(spec) == TOPICS[spec.name].ljust(66, "0")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return fetched(script(), tmp_path_factory.mktemp("maker"))


def rows(lake: Lake, table: str) -> list[dict[str, Any]]:
    return (
        lake.read(f"canonical/{table}", CONFIG.name)
        .sort_by("seq" if table not in ("accounts", "assets") else f"{table[:-1]}_id")
        .to_pylist()
    )


def test_vaults_are_what_the_calls_left(lake: Lake) -> None:
    names = {row["account_id"]: row["account"] for row in rows(lake, "accounts")}
    held: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows(lake, "position_events"):
        held[names[row["account_id"]], row["side"]] += int(row["delta"])
    made = script()
    for who in ("alice", "bob", "carol", "dave"):
        assert held[address(who), "collateral"] == made.ink[who]
        assert held[address(who), "debt"] == made.art[who]
    assert held[address("alice"), "debt"] == 3_000 * WAD
    assert held[address("carol"), "collateral"] == 0


def test_actions_are_named_and_share_their_log(lake: Lake) -> None:
    found = [
        (row["action"], row["side"], int(row["delta"]) // WAD, row["action_seq"] - row["seq"])
        for row in rows(lake, "position_events")
    ]
    assert ("withdraw", "collateral", -1, 0) in found
    assert ("transfer", "debt", -1_000, 0) in found
    assert ("transfer", "debt", 1_000, 0) in found
    assert ("borrow", "debt", 5_000, 0) in found
    assert ("liquidation", "collateral", -10, 2) in found  # closed by the bark, two logs later


def test_the_accumulator_steps_with_folds_only_and_has_no_rate_between(lake: Lake) -> None:
    steps = [row for row in rows(lake, "indexes") if row["asset_id"] == 1]
    assert [int(row["borrow_index"]) for row in steps] == [RAY, RAY + 10**24, RAY + 3 * 10**24]
    assert {int(row["borrow_rate"]) for row in steps} == {0}


def test_parameters_in_the_units_of_the_tables(lake: Lake) -> None:
    last = {row["name"]: int(row["value"]) for row in rows(lake, "params")}
    assert last == {
        "duty": RAY + 10**18,
        "line": 10_000_000 * WAD,
        "dust": 500 * WAD,
        "liquidation_ratio": RATIO,
        "liquidation_penalty": CHOP,
        "dunk": 5_000 * WAD,
        "box": 1_000_000 * WAD,
        "beg": 103 * WAD // 100,
        "ttl": 3_600,
        "tau": 7_200,
        "hole": 2_000_000 * WAD,
        "global_hole": 100_000_000 * WAD,
        "buf": 12 * RAY // 10,
        "tail": 8_400,
        "cusp": 4 * RAY // 10,
        "chip": WAD // 1000,
        "tip": 300 * WAD,
        "cut": 99 * RAY // 100,
        "step": 90,
        "calc": STAIRSTEP,
        "liquidation_system": DOG_2_0,
    }
    assert [int(row["value"]) for row in rows(lake, "params") if row["name"] == "liquidation_system"] == [
        CAT_1_1,
        DOG_2_0,
    ]


def test_prices_are_those_that_the_spotter_took_up(lake: Lake) -> None:
    steps = [
        (row["block_number"], int(row["price"]) // WAD, row["exact"])
        for row in rows(lake, "prices")
        if row["asset_id"] == 0
    ]
    assert steps == [(2, 2_000, True), (30, 1_500, True), (50, 1_020, True), (60, 1_000, True)]


def test_liquidations_of_both_systems(lake: Lake) -> None:
    names = {row["account_id"]: row["account"] for row in rows(lake, "accounts")}
    made = script()
    bite, bark = rows(lake, "liquidations")
    dart = 5_000 * RAD * WAD // (RAY + 10**24) // CHOP
    assert (names[bite["account_id"]], int(bite["repaid"])) == (address("bob"), dart * (RAY + 10**24) // RAY)
    assert names[bite["liquidator_id"]] == "unknown"
    assert (names[bark["account_id"]], names[bark["liquidator_id"]]) == (address("carol"), address("keeper"))
    assert (int(bark["seized"]), int(bark["repaid"])) == (10 * WAD, 8_000 * WAD * made.rate // RAY)


def test_the_observed_replay_of_logs_is_exact(lake: Lake) -> None:
    result = replay(MAKER, load_market(lake, CONFIG.name), load_timeline(lake, CONFIG.name), Scenario())
    assert [row.matches_history for row in result.liquidations] == [True, True]
    assert not result.mismatches
    assert result.rules == {"Cat 1.1/1.2": False, "Dog 2.0": False}


def test_the_whole_book_at_once_is_each_vault_by_itself(lake: Lake) -> None:
    end = replay(MAKER, load_market(lake, CONFIG.name), load_timeline(lake, CONFIG.name), Scenario()).book
    views = MAKER.views(end.state, end.prices, end.now)
    assert views is not None
    assert len(views.account)
    assert not views.rest
    assert spelt(views) == every_view(MAKER, end.state, end.prices, end.now)


def test_a_competitive_replay_bites_barks_and_settles(lake: Lake) -> None:
    """Bob is bitten in lots of 5,000 with penalty when the price falls to 1,500, carol whole at 1,020 in block 50."""
    scenario = Scenario(liquidators=Competitive())
    result = replay(MAKER, load_market(lake, CONFIG.name), load_timeline(lake, CONFIG.name), scenario)
    opened = [(row.step, row.clock.block_number) for row in result.liquidations if row.step in ("bite", "bark")]
    assert opened == [("bite", 30)] * 4 + [("bark", 50)]
    first = result.liquidations[0]
    dart = 5_000 * RAD * WAD // (RAY + 10**24) // CHOP
    assert first.fill.repaid == dart * (RAY + 10**24) // RAY
    assert first.fill.seized == 10 * WAD * dart // (14_000 * WAD)


def test_sql_health_of_every_vault_at_every_block_is_the_engines(lake: Lake) -> None:
    """Bob and Carol are below one before their liquidations, at accumulators that stepped twice."""
    compared = assert_sql_is_the_engine(lake, CONFIG.name, spread(lake, CONFIG.name, 100))
    assert compared.owing > 30
    assert compared.unsafe > 5


def test_a_note_that_contradicts_itself_is_quarantined(tmp_path: Path) -> None:
    made = script()
    good = note(VAT, "fold(bytes32,address,int256)", b"ETH-B".ljust(32, b"\0"), address("x"), 5)
    wrong = MadeLog(VAT, (*good.topics[:3], "0x" + "00" * 31 + "07"), good.data)
    short = MadeLog(VAT, good.topics, good.data[:-64])
    made.at(70).add(wrong, short)
    lake = Lake(tmp_path / "lake", create=True)
    with ChainNode(made.chain()) as node, Rpc(node.url, backoff=0.001, max_backoff=0.02) as rpc:
        summary = fetch(lake, CONFIG, rpc, finality=0)
    assert summary.quarantined == 2
    reasons = lake.read("raw/maker/Quarantine", CONFIG.name)["reason"].to_pylist()
    assert sorted(reasons) == [
        "256 bytes of data where a note has 288",
        "not a note of fold(bytes32,address,int256): topics and call data differ",
    ]
    with pytest.raises(RulesError, match=r"block 70, log 0: a VatFold log .* could not be decoded"):
        reconstruct(lake, CONFIG.name)


# -- the command line --------------------------------------------------------------------------------------------------


def described(ilk: str) -> MarketConfig:
    return cli._described("maker", None, {"ilk": ilk})


def test_an_ilk_is_a_market_that_ships_or_one_made_of_it() -> None:
    assert described("ETH-A") == find_market("maker-eth-a")
    other, known = described("WBTC-A"), find_market("maker-eth-a")
    assert (other.name, other.parameters) == ("maker-wbtc-a", {"ilk": "WBTC-A"})
    assert other.contracts == {role: address for role, address in known.contracts.items() if role != "gem"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "maker",
            "no market given; give one of --market or --ilk: maker-all, maker-eth-a, maker-eth-b, or a TOML file",
        ),
        ("silo-v2", "no market given; give one of --market: none is bundled, so that it is a TOML file"),
        ("maker --ilk eth-b", "ilk 'eth-b'; write it as the Vat does, for example ETH-A"),
        ("maker --ilkk ETH-B", "unknown option --ilkk; did you mean '--ilk'?"),
        ("maker --ilk ETH-B --market maker-eth-b", "two markets given; give one of --market or --ilk"),
        ("aave-v3 --ilk ETH-B", "unknown option --ilk; did you mean '--lake'?"),
        ("aave-v3", "no market given; give one of --market"),
    ],
)
def test_what_the_command_line_says_of_markets(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fetch", *words.split(), "--lake", str(tmp_path / "lake"), "--rpc", "http://127.0.0.1:1"])
    error = capsys.readouterr().err
    assert (stopped.value.code, error.startswith(f"backtest: {said}"), error.count("\n")) == (2, True, 1)


def test_of_the_vat_only_the_ilks_own_logs_are_asked_for(tmp_path: Path) -> None:
    """Another ilk's frob between those of this one: it is neither stored nor looked for again."""
    made = script()
    other = note(VAT, "frob(bytes32,address,address,address,int256,int256)", OTHER, *[address("x")] * 3, 5, 6)
    made.at(70).add(other).frob("alice", WAD, 0).add(other)
    lake = Lake(tmp_path / "lake", create=True)
    with ChainNode(made.chain()) as node, Rpc(node.url, backoff=0.001, max_backoff=0.02) as rpc:
        fetch(lake, CONFIG, rpc, finality=0, omissions="always")
    frobs = lake.read("raw/maker/VatFrob", CONFIG.name)
    assert set(frobs["ilk"].to_pylist()) == {b"ETH-B".ljust(32, b"\0")}
    assert frobs["block_number"].to_pylist().count(70) == 1


def test_a_market_without_its_ilk_says_so(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", create=True)
    with (
        ChainNode(script().chain()) as node,
        Rpc(node.url, backoff=0.001, max_backoff=0.02) as rpc,
        pytest.raises(UserError, match="names no ilk"),
    ):
        fetch(lake, msgspec.structs.replace(CONFIG, parameters={}), rpc, finality=0)


def test_the_head_is_as_fetched(tmp_path: Path) -> None:
    """From shortly before the first bite on: prices come from the Spotter's logs."""
    whole = Lake(tmp_path / "whole", create=True)
    with ChainNode(script().chain()) as node:
        with Rpc(node.url, backoff=0.001, max_backoff=0.02) as rpc:
            fetch(whole, CONFIG, rpc, finality=0, headers="all")
        reconstruct(whole, CONFIG.name)
        whole.refresh()
        assert_head_is_as_fetched(CONFIG, node.url, whole, 28, tmp_path / "lake", least=2)
