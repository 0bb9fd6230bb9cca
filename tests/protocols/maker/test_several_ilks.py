"""Several ilks in one market: the same calls as a market of one ilk folds them, and another ilk's beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backtest.errors import ScenarioError, UserError
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.model import AccountId, ParamChange, PositionChange
from backtest.propose import present_of
from backtest.protocols.interface import Acted, Action, Refusal
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.events import ilks_of
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, Override, Scenario
from backtest.units import RAY, WAD
from tests.sketches.history import market
from tests.support.maker_logs import CONFIG, ILK, OTHER, RAD, SPOTTER, VAT, address, event, note, text32
from tests.support.sql_engine import assert_sql_is_the_engine, spread
from tests.support.synthetic import ChainNode
from tests.support.vault_fetch import script

FROB = "frob(bytes32,address,address,address,int256,int256)"
FILE = "file(bytes32,bytes32,uint256)"
BOTH = msgspec.structs.replace(CONFIG, parameters={"ilk": "ETH-B,WBTC-A"})


def made() -> Any:
    """``script`` and, from block 70 on, WBTC-A: alice's urn there too, at a ratio of 150 % and an accumulator of its
    own.
    """
    s = script().at(70)
    s.add(
        note(VAT, "init(bytes32)", OTHER),
        note(VAT, "file(bytes32,bytes32,uint256)", OTHER, text32("line"), 9_000 * RAD),
    )
    s.add(
        note(
            SPOTTER, "file(bytes32,bytes32,uint256)", OTHER, text32("mat"), 15 * RAY // 10, sender=address("governance")
        )
    )
    value, spot = (30_000 * WAD).to_bytes(32, "big"), 20_000 * RAY
    s.at(71).add(event(SPOTTER, "Poke(bytes32,bytes32,uint256)", OTHER, value, spot))
    urn = address("alice")
    s.at(72).add(note(VAT, FROB, OTHER, urn, urn, urn, WAD, 8_000 * WAD))
    return s.at(73).add(note(VAT, "fold(bytes32,address,int256)", OTHER, urn, 10**25))


def fetched(path: Path, config: Any) -> Lake:
    lake = Lake(path / "lake", create=True)
    with ChainNode(made().chain()) as node, Rpc(node.url, backoff=0.001, max_backoff=0.02) as rpc:
        fetch(lake, config, rpc, finality=0)
    reconstruct(lake, config.name)
    lake.refresh()
    return lake


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return fetched(tmp_path_factory.mktemp("ilks"), BOTH)


def test_each_ilk_has_its_own_assets_and_vaults(both: Lake) -> None:
    known = load_market(both, CONFIG.name)
    assert [asset.symbol for asset in known.assets] == ["ETH-B", "DAI-ETH-B", "WBTC-A", "DAI-WBTC-A"]
    mine = [text for text in known.accounts if MAKER.owner_of(text) == address("alice")]
    assert mine == [f"{address('alice')}:ETH-B", f"{address('alice')}:WBTC-A"]
    book = replay(MAKER, known, load_timeline(both, CONFIG.name), Scenario()).book
    here = known.accounts.index(mine[1])
    view = MAKER.view(book.state, here, book.prices, book.now)  # type: ignore[arg-type]
    # 8,000 art at 1.01 is 8,080 DAI; 30,000 / 1.5 carries 20,000
    assert (view.collateral_base, view.debt_base, view.borrowing_power_base) == (
        30_000 * WAD, 8_080 * WAD, 20_000 * WAD,
    )  # fmt: skip
    assert view.health == 20_000 * WAD * WAD // (8_080 * WAD)


@pytest.mark.parametrize("scenario", [Scenario(), Scenario(liquidators=Competitive())], ids=["observed", "modelled"])
def test_an_ilk_fares_as_it_does_alone(both: Lake, tmp_path: Path, scenario: Scenario) -> None:
    """What is in the first ilk is liquidated alike in a market of one."""
    alone = fetched(tmp_path, CONFIG)
    found = []
    for lake in (alone, both):
        result = replay(MAKER, load_market(lake, CONFIG.name), load_timeline(lake, CONFIG.name), scenario)
        found.append(
            [
                (row.step, row.clock, row.fill.repaid, row.fill.seized, row.matches_history)
                for row in result.liquidations
            ]
        )
        assert not result.mismatches
    assert found[0] == found[1]
    assert found[0]


@pytest.mark.slow
def test_sql_health_and_views_are_the_engines(both: Lake) -> None:
    compared = assert_sql_is_the_engine(both, CONFIG.name, spread(both, CONFIG.name, 40))
    assert compared.owing > 20
    end = replay(MAKER, load_market(both, CONFIG.name), load_timeline(both, CONFIG.name), Scenario()).book
    views = MAKER.views(end.state, end.prices, end.now)
    assert views is not None
    for who, collateral, debt in zip(views.account, views.collateral.integers(), views.debt.integers(), strict=True):
        view = MAKER.view(end.state, int(who), end.prices, end.now)  # type: ignore[arg-type]
        assert (view.collateral_base, view.debt_base) == (collateral, debt)


def test_the_ceiling_of_an_ilk_refuses_what_is_above_it(both: Lake) -> None:
    """line 9,000 less 8,080 leaves 920 DAI: floor(920 / 1.01) art is worth a last place less than that."""
    timeline = load_timeline(both, CONFIG.name)
    book = replay(MAKER, load_market(both, CONFIG.name), timeline, Scenario()).book
    drawn = next(
        change
        for change in timeline
        if isinstance(change, PositionChange) and (change.asset, change.side) == (3, "debt")
    )
    action = Action("borrow", (drawn,))
    refused = MAKER.act(book.state, action, book.prices, book.now)
    assert isinstance(refused, Refusal)
    assert refused.reason == "ceiling exceeded"
    assert refused.instead == 920 * RAY * WAD // (101 * RAY // 100) * (101 * RAY // 100) // RAY
    assert isinstance(MAKER.act(book.state, replace(action, amount=900 * WAD), book.prices, book.now), Acted)


def test_holes_are_in_common_and_each_ilks_own() -> None:
    """Hole 100: 60 raised by the first ilk leave the second 40, though its own hole has 80; the first's own has 10."""
    kinds = [("A", 18), ("DAI-A", 18), ("B", 18), ("DAI-B", 18)]
    state = MAKER.open(replace(market(*kinds), base_decimals=18))
    place: dict[str, Any] = {"seq": 1, "block_number": 1, "log_index": 1, "timestamp": 1}
    for name, value, asset in (
        ("global_hole", 100 * WAD, None), ("hole", 70 * WAD, 0), ("hole", 80 * WAD, 2),
        ("liquidation_system", 20, 0), ("liquidation_system", 20, 2), ("liquidation_penalty", WAD, 0),
        ("liquidation_penalty", WAD, 2),
    ):  # fmt: skip
        MAKER.apply(state, ParamChange(**place, name=name, value=value, asset=asset))  # type: ignore[arg-type]
    MAKER.apply(state, ParamChange(**place, name="raised", value=60 * RAD, asset=0, category=20))  # type: ignore[arg-type]
    assert [state.limits(ilk).room for ilk in (0, 1)] == [10 * RAD, 40 * RAD]


def test_what_a_market_may_list() -> None:
    assert ilks_of({"ilk": "ETH-B, WBTC-A"}) == (ILK, OTHER)
    assert ilks_of({"ilk": "*"}) == ()
    with pytest.raises(UserError, match="named twice"):
        ilks_of({"ilk": "ETH-B,ETH-B"})


def test_an_override_of_one_ilk_leaves_the_others_as_they_are(both: Lake) -> None:
    """WBTC-A at 200 %: 30,000 of collateral carries 15,000 DAI in place of 20,000; ETH-B's vault is as it was."""
    known, timeline = load_market(both, CONFIG.name), load_timeline(both, CONFIG.name)

    def power(*overrides: Override) -> list[int]:
        scenario = Scenario(liquidators=Competitive(), overrides=overrides)
        book = replay(MAKER, known, timeline, scenario).book
        owners = [known.accounts.index(f"{address('alice')}:{ilk}") for ilk in ("ETH-B", "WBTC-A")]
        return [MAKER.view(book.state, AccountId(who), book.prices, book.now).borrowing_power_base for who in owners]

    plain, one = power(), power(Override(parameter="liquidation_ratio", value=20_000, asset="WBTC-A"))
    assert plain[1] == 20_000 * WAD
    assert one == [plain[0], 15_000 * WAD]
    every = power(Override(parameter="liquidation_ratio", value=20_000))
    assert every[0] < plain[0]
    assert every[1] == 15_000 * WAD
    # of the ilk's own and of every ilk's, its own holds
    mixed = power(
        Override(parameter="liquidation_ratio", value=30_000),
        Override(parameter="liquidation_ratio", value=20_000, asset="WBTC-A"),
    )
    assert (mixed[0] < every[0], mixed[1]) == (True, 15_000 * WAD)
    with pytest.raises(ScenarioError, match=r"'DAI-WBTC-A' has none of its own; give one of ETH-B, WBTC-A"):
        power(Override(parameter="dust", value=5, asset="DAI-WBTC-A"))
    with pytest.raises(ScenarioError, match="one for the whole market"):
        Override(parameter="box", value=5, asset="WBTC-A")
    asked = Override(parameter="liquidation_ratio", change=0, asset="WBTC-A")
    assert present_of(asked, known, timeline, MAKER, timeline.last_block) == 15_000
    with pytest.raises(UserError, match="not one number"):
        present_of(msgspec.structs.replace(asked, asset=None), known, timeline, MAKER, timeline.last_block)


def test_a_market_of_one_ilk_has_no_parts(tmp_path: Path) -> None:
    lake = fetched(tmp_path, CONFIG)
    known = load_market(lake, CONFIG.name)
    override = Override(parameter="liquidation_ratio", value=20_000, asset=known.assets[0].symbol)
    scenario = Scenario(liquidators=Competitive(), overrides=(override,))
    with pytest.raises(ScenarioError, match="one for the whole market; leave the asset out"):
        replay(MAKER, known, load_timeline(lake, CONFIG.name), scenario)
