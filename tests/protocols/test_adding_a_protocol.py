"""A protocol that the engine has never seen goes from raw logs to results by its own files alone: a folder
(``tests/toy_protocol``), a market's description in it, one line of the registry. See docs/adding-a-protocol.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from backtest.account import account_at
from backtest.cli import main
from backtest.errors import ScenarioError
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.markets import MarketConfig, parse_market
from backtest.model import AccountId, AssetId
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.registry import PROTOCOLS
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.results import load_market, load_timeline, run
from backtest.scenario import Competitive, Dutch, FixedSpread, Override, Scenario, TargetHealth, Users
from tests.support.maker_logs import address, event
from tests.support.synthetic import Chain, ChainNode
from tests.toy_protocol import PAWNSHOP, Pawnshop

ROOT = Path(__file__).parents[2]
ETH, USDX, USD = 10**18, 10**6, 10**8
FILE = Path(__file__).parents[1] / "toy_protocol/market.toml"
CONFIG: MarketConfig = parse_market(FILE.read_text(), str(FILE))
SHOP, ALICE, BOB, KEEPER = CONFIG.contracts["shop"], address("alice"), address("bob"), address("keeper")
SEIZED = 7_000 * USDX * 10_500 * USD * ETH // (10_000 * 1_700 * USD * USDX)


def _chain() -> Chain:
    """At 1,700 dollars alice's ten ETH carry 13,600 of the 14,000 that she owes; history repays a half of it."""
    return Chain(
        60,
        {
            1: [event(SHOP, "Terms(uint16,uint16)", 8_000, 10_500), event(SHOP, "Priced(uint256)", 2_000 * USD)],
            10: [event(SHOP, "Pledged(address!,int256)", ALICE, 10 * ETH)],
            11: [event(SHOP, "Lent(address!,int256)", ALICE, 14_000 * USDX)],
            12: [event(SHOP, "Pledged(address!,int256)", BOB, 5 * ETH)],
            13: [event(SHOP, "Lent(address!,int256)", BOB, 4_000 * USDX)],
            20: [event(SHOP, "Priced(uint256)", 1_700 * USD)],
            22: [event(SHOP, "Seized(address!,address!,uint256,uint256)", ALICE, KEEPER, 7_000 * USDX, SEIZED)],
            30: [event(SHOP, "Priced(uint256)", 1_650 * USD)],
            40: [event(SHOP, "Lent(address!,int256)", BOB, -1_000 * USDX)],
        },
    )


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, PAWNSHOP.name, PAWNSHOP)


@pytest.fixture
def node() -> Iterator[ChainNode]:
    with ChainNode(_chain()) as node:
        yield node


@pytest.fixture
def lake(node: ChainNode, tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake", create=True)
    with Rpc(node.url, backoff=0.001, max_backoff=0.02) as rpc:
        fetch(lake, CONFIG, rpc, finality=0)
    reconstruct(lake, CONFIG.name)
    lake.refresh()
    return lake


def test_history_s_own_liquidation_is_explained_to_the_last_unit(lake: Lake) -> None:
    result = replay(PAWNSHOP, load_market(lake, CONFIG.name), load_timeline(lake, CONFIG.name), Scenario())
    (row,) = result.liquidations
    assert row.matches_history
    assert (row.fill.repaid, row.fill.seized, row.fill.rules) == (7_000 * USDX, SEIZED, "pawnshop 1")
    assert not result.mismatches


def test_a_model_liquidates_and_the_run_is_stored_and_shown(lake: Lake) -> None:
    """Competitors repay all of it in the block of the price: 14,000 x 1.05 / 1,700 ETH."""
    made = run(lake, CONFIG.name, Scenario(liquidators=Competitive()))
    lake.refresh()
    (row,) = lake.sql(
        f"SELECT block_number, repaid, seized FROM run_liquidations WHERE run_id = '{made.run_id}'"
    ).fetchall()
    assert tuple(map(int, row)) == (20, 14_000 * USDX, 14_000 * USDX * 10_500 * ETH // (10_000 * 1_700 * USDX))
    assert lake.sql("SELECT count(*) FROM run_summary").fetchall() == [(1,)]


def test_the_screen_finds_whom_the_plain_look_finds(lake: Lake) -> None:
    market, timeline = load_market(lake, CONFIG.name), load_timeline(lake, CONFIG.name)
    scenario = Scenario(liquidators=Competitive(), users=Users(refused="shrink"))
    fast, plain = (replay(PAWNSHOP, market, timeline, scenario, screened=screened) for screened in (True, False))
    assert [r.fill for r in fast.liquidations] == [r.fill for r in plain.liquidations] != []


def test_what_ifs_of_its_own_parameters(lake: Lake) -> None:
    market, timeline = load_market(lake, CONFIG.name), load_timeline(lake, CONFIG.name)

    def rows(**more: object) -> list[int]:
        result = replay(PAWNSHOP, market, timeline, Scenario(liquidators=Competitive(), **more))  # type: ignore[arg-type]
        return [row.fill.repaid for row in result.liquidations]

    safer = Override(parameter="liquidation_threshold", value=9_000)
    assert rows() == [14_000 * USDX]
    assert rows(overrides=(safer,)) == []  # 1,650 x 10 x 0.9 carries 14,850
    with pytest.raises(ScenarioError, match="protocol pawnshop has no such parameter"):
        rows(overrides=(Override(parameter="close_factor", value=5_000),))
    with pytest.raises(ScenarioError, match="a threshold that the bonus makes more than all"):
        rows(overrides=(Override(parameter="liquidation_threshold", value=9_900),))
    beyond = Scenario(liquidators=Competitive(), overrides=(Override(parameter="liquidation_threshold", value=9_900),))
    result = replay(PAWNSHOP, market, timeline, Scenario(**{**_fields(beyond), "allow_invalid": True}))
    assert any("threshold x (1 + bonus) is 104 %" in line for line in result.costs)


def _fields(scenario: Scenario) -> dict[str, object]:
    return {name: getattr(scenario, name) for name in scenario.__struct_fields__}


@pytest.mark.parametrize("mechanism", [FixedSpread(bonus=10_300), TargetHealth(), Dutch(buf=10_100)])
def test_mechanisms_of_any_protocol_work_on_it(lake: Lake, mechanism: object) -> None:
    scenario = Scenario(liquidators=Competitive(), mechanism=mechanism)  # type: ignore[arg-type]
    assert replay(PAWNSHOP, load_market(lake, CONFIG.name), load_timeline(lake, CONFIG.name), scenario).liquidations


def test_what_the_contract_is_asked(lake: Lake) -> None:
    def tables(name: str, columns: object) -> pa.Table:
        return lake.read(f"canonical/{name}", CONFIG.name, columns=list(columns))  # type: ignore[call-overload]

    told = {claim.block: claim.value for claim in PAWNSHOP.claims(CONFIG, tables, [11, 22, 60], {AccountId(0): ALICE})}
    assert told == {11: 14_000 * USDX, 22: 7_000 * USDX, 60: 7_000 * USDX}


@pytest.mark.slow
def test_the_command_line_takes_it_like_any_other(
    node: ChainNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = str(tmp_path / "cli")
    fetched = ["fetch", "pawnshop", "--market", str(FILE), "--rpc", node.url, "--finality", "0", "--lake", lake]
    for words in (
        [*fetched, "--reconstruct"],
        ["replay", "--lake", lake, "--liquidators", "competitive", "--set", "ETH.liquidation_threshold=90%"],
        ["account", ALICE, "--lake", lake, "--block", "22"],
        ["check", "--lake", lake],
    ):
        with pytest.raises(SystemExit) as done:
            main(words)
        assert done.value.code == 0, (words, capsys.readouterr())
    held = account_at(Lake(tmp_path / "cli"), CONFIG.name, ALICE, block=22)
    assert {each.asset: each.debt for each in held.holdings if each.debt} == {AssetId(1): 7_000 * USDX}


def test_the_page_names_every_member_of_the_interface_and_every_file() -> None:
    page = (ROOT / "docs/adding-a-protocol.md").read_text(encoding="utf-8")
    members = {name for name in (*vars(LendingProtocol), *LendingProtocol.__annotations__) if not name.startswith("_")}
    assert [name for name in sorted(members) if not re.search(rf"`{name}`", page)] == []
    told = set(re.findall(r"`([a-z_]+)`", page.split("## What it must say")[1].split("## SQL")[0]))
    assert {name for name in vars(Pawnshop) if not name.startswith("_")} <= told
    for file in ("rules.py", "fold.py", "__init__.py", "market.toml"):
        assert (FILE.parent / file).is_file()
        assert file in page
