"""A book carried on along given prices: against history with these prices behind it, against the plain reference, and
against the book of one moment after a fall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from backtest.errors import UserError
from backtest.lake import Lake
from backtest.model import AccountId, AssetId
from backtest.protocols.registry import protocol_named
from backtest.replay.competition.gas import BaseFees
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.shortcuts import stretch
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.ahead import PARTS, SPACE, Lying, StandingBook, Withdrawal, scaled_down, standing
from backtest.replay.what_if.proposal import after_move
from backtest.resources import resource
from backtest.results import Material, load_material
from backtest.scenario import Competitive, Scenario, Users, parse_override
from backtest.scenario.toml import parse_scenario
from backtest.tables import CANONICAL
from backtest.units import WAD

BLOCK, STEPS, STEP = 150, 30, 300
NAME = "sample-crash"


@pytest.fixture(scope="module")
def material() -> Material:
    return load_material(Lake(resource("sample") / "lake"), NAME)


@pytest.fixture(scope="module")
def stands(material: Material) -> StandingBook[Any]:
    timeline, params = material.timeline(), material.tables["params"]
    return standing(protocol_named(material.config.protocol), material.market, timeline, params, BLOCK)


def ahead_of(stands: StandingBook[Any], seed: int, *, said: float = 1.0) -> Lying:
    """A fall of all that moves, with noise; some steps say nothing. Two assets trade below what the oracle says."""
    draw = np.random.default_rng(seed)
    oracle: dict[AssetId, list[int | None]] = {}
    traded: dict[AssetId, list[int | None]] = {}
    for asset, now in stands.oracle.items():
        level = np.exp(np.cumsum(draw.normal(-0.012 if now > 2 * 10**8 else 0, 0.01, STEPS)))
        says = draw.random(STEPS) < said
        prices = [scaled_down(now, factor) for factor in level.tolist()]
        oracle[asset] = [price if there else None for price, there in zip(prices, says.tolist(), strict=True)]
        if asset < 2 and said < 1:
            traded[asset] = [price * 98 // 100 for price in prices]
    return Lying([STEP * (step + 1) for step in range(STEPS)], oracle, traded)


def outcome(made: Replay[Any]) -> list[Any]:
    return [made.horizons, list(made.liquidations), list(made.deficits), made.refused]


def behind_history(material: Material, stands: StandingBook[Any], ahead: Lying) -> Timeline:
    """History up to the block with the path's prices as further rows of its tables."""
    tables = {
        name: table.filter(pc.less_equal(table["block_number"], BLOCK))
        for name, table in material.tables.items()
        if name in CANONICAL and "block_number" in table.column_names
    }
    last, start = stands.start.book.seq, stands.timestamp
    for name, prices in (("prices", ahead.oracle), ("market_prices", ahead.traded)):
        found: list[dict[str, Any]] = []
        for step, seconds in enumerate(ahead.seconds, 1):
            for asset, each in sorted(prices.items()):
                if each[step - 1] is not None:
                    place = {"seq": last + SPACE * step, "block_number": BLOCK + step, "timestamp": start + seconds}
                    found.append({**place, "log_index": 0, "asset_id": asset, "price": each[step - 1]})
                    if name == "market_prices":
                        found[-1]["source"] = "path"
        schema = pa.schema([field for field in tables[name].schema if not found or field.name in found[0]])
        own = list(schema.names)
        more = pa.Table.from_pylist(found, schema.remove_metadata()) if found else tables[name].select(own).slice(0, 0)
        tables[name] = pa.concat_tables([tables[name], more], promote_options="default")
    spine = {
        "seq": [last + SPACE * step for step in range(1, STEPS + 1)],
        "block_number": [BLOCK + step for step in range(1, STEPS + 1)],
    }
    events = pa.table({"seq": spine["seq"], "block_number": spine["block_number"], "transaction_index": [0] * STEPS})
    tables["events"] = pa.concat_tables(
        [tables["events"].select(["seq", "block_number", "transaction_index"]), events], promote_options="permissive"
    )
    times = pa.table({"block_number": spine["block_number"], "timestamp": [start + each for each in ahead.seconds]})
    tables["blocks"] = pa.concat_tables(
        [tables["blocks"].select(["block_number", "timestamp"]), times], promote_options="permissive"
    )
    return Timeline.of(tables)


@pytest.mark.parametrize("said", [1.0, 0.6], ids=["every-step", "now-and-then"])
def test_a_path_is_history_that_goes_on(material: Material, stands: StandingBook[Any], said: float) -> None:
    """Replayed from the first block of history, and by the plain reference: the same in every record."""
    for seed in range(3):
        ahead = ahead_of(stands, seed, said=said)
        scenario = Scenario(liquidators=Competitive())
        made = stands.along(ahead, scenario)
        assert made.horizons[0].liquidations > 50
        assert outcome(made) == outcome(stands.along(ahead, scenario, screened=False))
        whole = Scenario(liquidators=Competitive(), from_block=BLOCK + 1)
        again = replay(
            protocol_named(material.config.protocol), material.market, behind_history(material, stands, ahead), whole
        )
        assert made.horizons == again.horizons
        assert [each.fill for each in made.liquidations] == [each.fill for each in again.liquidations]
        assert list(made.deficits) == list(again.deficits)


def test_the_compiled_loop_settles_a_path_alike(stands: StandingBook[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ahead, scenario = ahead_of(stands, 7, said=0.8), Scenario(liquidators=Competitive())
    plain = outcome(stands.along(ahead, scenario))
    monkeypatch.setattr(stretch, "MANY", 0)
    ran: list[int] = []
    run = stretch.Stretches._run
    monkeypatch.setattr(stretch.Stretches, "_run", lambda self, *rest: (ran.append(1), run(self, *rest))[1])
    assert outcome(stands.along(ahead, scenario)) == plain
    assert ran


def test_one_step_is_the_book_after_a_fall(stands: StandingBook[Any]) -> None:
    moving = [asset for asset, price in stands.oracle.items() if price > 2 * 10**8]
    for share in (0.9, 0.7, 0.4):
        factors = dict.fromkeys(moving, int(share * PARTS) * (WAD // PARTS))
        fallen = after_move(stands.start.book, factors)
        # a second later: interest of a second is in the path's amounts
        prices = {asset: [scaled_down(stands.oracle[asset], share)] for asset in moving}
        end = stands.along(Lying([1], prices, {}), Scenario(liquidators=Competitive())).horizons[0]
        assert end.repaid_base == pytest.approx(fallen.repaid_base, rel=1e-6)
        assert end.realised_bad_debt_base + end.open_bad_debt_base == pytest.approx(fallen.bad_debt_base, rel=1e-4)


def test_paths_leave_the_book_as_it_is(stands: StandingBook[Any]) -> None:
    ahead, scenario = ahead_of(stands, 1), Scenario(liquidators=Competitive())
    before = stands.totals()
    first = outcome(stands.along(ahead, scenario))
    changed = Scenario(liquidators=Competitive(), overrides=(parse_override("WETH.liquidation_threshold=8100"),))
    other = stands.along(ahead, changed)
    assert other.horizons[0].repaid_base > first[0][0].repaid_base
    assert outcome(stands.along(ahead, scenario)) == first
    assert stands.totals() == before


def test_a_book_at_the_end_of_history_goes_on_too(material: Material) -> None:
    timeline = material.timeline()
    protocol, params = protocol_named(material.config.protocol), material.tables["params"]
    last = standing(protocol, material.market, timeline, params, timeline.last_block)
    still = Lying([STEP], {asset: [price] for asset, price in last.oracle.items()}, {})
    end = last.along(still, Scenario(liquidators=Competitive())).horizons[0]
    assert end.clock.block_number == timeline.last_block + 1
    assert end.totals.debt_base > 0
    with pytest.raises(UserError, match="not within the history"):
        standing(protocol, material.market, timeline, params, timeline.last_block + 1)


def supplied(made: Replay[Any], asset: AssetId) -> int:
    """Native units that all accounts together hold at the end."""
    book = made.book
    held = (book.protocol.holdings(book.state, account, book.now) for account in book.protocol.accounts(book.state))
    return sum(one.collateral for each in held for one in each if one.asset == asset)


def test_suppliers_who_leave_take_what_they_ask_for(stands: StandingBook[Any]) -> None:
    """Half of what all who owe nothing supplied, at the first step: worth what is gone; the same by the reference."""
    still = {asset: [price, price] for asset, price in stands.oracle.items()}
    scenario = Scenario(liquidators=Competitive())
    leaving = [
        Withdrawal(1, account, asset, scaled // 2, amount // 2)
        for asset, held in sorted(stands.suppliers.items())
        for account, scaled, amount in held
    ]
    assert len(leaving) > 100
    plain, left = Lying([STEP, 2 * STEP], still, {}), Lying([STEP, 2 * STEP], still, {}, withdrawals=leaving)
    before, after = stands.along(plain, scenario), stands.along(left, scenario)
    assert outcome(after) == outcome(stands.along(left, scenario, screened=False))
    for asset in stands.suppliers:
        asked = sum(each.amount for each in leaving if each.asset == asset)
        assert asked > 0
        assert supplied(before, asset) - supplied(after, asset) == pytest.approx(asked, rel=1e-6)
    assert after.horizons[0].totals.debt_base == before.horizons[0].totals.debt_base
    crowd = [Withdrawal(1, AccountId(0), AssetId(0), 1, 1)] * SPACE
    with pytest.raises(UserError, match="withdrawals in a step"):
        stands.along(Lying([STEP, 2 * STEP], still, {}, withdrawals=crowd), scenario)
    responding = Scenario(liquidators=Competitive(), users=Users(refused="shrink"))
    with pytest.raises(ValueError, match="go on from this start"):
        stands.along(plain, responding)


def test_gas_of_the_path_is_what_calls_cost(stands: StandingBook[Any]) -> None:
    """Base fees rise so far in the middle that nobody acts from there on."""
    text = '[liquidators]\nkind = "priority-gas"\n[costs.gas]\nfee = "historical"\n'
    scenario = parse_scenario(text, "gas.toml")
    ahead = ahead_of(stands, 2)
    cheap = BaseFees([stands.timestamp], [10**9])
    dear = BaseFees([stands.timestamp, stands.timestamp + STEP * 15], [10**9, 10**16])
    with_fees: Callable[[BaseFees], Lying] = lambda fees: Lying(ahead.seconds, ahead.oracle, ahead.traded, fees)  # noqa: E731
    one, other = (stands.along(with_fees(fees), scenario) for fees in (cheap, dear))
    assert {each.clock.block_number > BLOCK + 15 for each in one.liquidations} == {False, True}
    assert {each.clock.block_number >= BLOCK + 15 for each in other.liquidations} == {False}


def test_a_price_is_rounded_down_and_never_nothing() -> None:
    assert scaled_down(100_000_007, 0.5) == 50_000_003
    assert scaled_down(10**30 + 1, 1.0) == 10**30 + 1
    assert scaled_down(3, 1e-9) == 1
    assert scaled_down(5, 0.0) == 1
