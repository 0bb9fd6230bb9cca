"""Mitigations over real protocols' rules: Maker's vaults and auctions, Aave's on the bundled crash; what a protocol
cannot is refused in one line.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from backtest.errors import ScenarioError
from backtest.lake import Lake
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.params import DOG_2_0
from backtest.replay.engine import replay
from backtest.replay.shortcuts.common_start import start_of
from backtest.resources import resource
from backtest.results import load_market, load_timeline
from backtest.scenario import (
    CircuitBreaker,
    Competitive,
    DynamicBonus,
    Grace,
    IsolatedMargin,
    Mitigation,
    Override,
    OwnerTrigger,
    Pause,
    PriceBand,
    Scenario,
    Throttle,
    ToxicHalt,
    VolatilityTiers,
)
from backtest.units import WAD
from tests.support.mitigated import POINT, blocks, did, mitigated, outcome
from tests.support.vault_history import history as vault

# -- vaults: unsafe from 1,200 s on, barked at once, sold 960 s later --------------------------------------------------


def steps(*mitigations: Mitigation) -> list[tuple[str, int]]:
    result = mitigated(vault(DOG_2_0, 1_290), *mitigations, protocol=MAKER)
    return [(made.step, made.clock.timestamp) for made in result.liquidations]


@pytest.mark.parametrize(
    ("mitigation", "expected"),
    [
        (Grace(seconds=600), [("bark", 1_800), ("take", 2_760)]),
        # It ends while the auction falls: the take waits no longer than the price.
        (Pause(from_time="1970-01-01T00:20:01", until_time="1970-01-01T00:30:00"), [("bark", 1_200), ("take", 2_160)]),
        # It ends after it fell: taken then.
        (Pause(from_time="1970-01-01T00:20:01", until_time="1970-01-01T00:40:00"), [("bark", 1_200), ("take", 2_400)]),
        (Pause(from_time="1970-01-01T00:20:00", until_time="1970-01-01T00:40:00"), [("bark", 2_400), ("take", 3_360)]),
        (Throttle(most_repaid=9_999 * WAD, seconds=3_600), []),  # the whole vault or nothing
        (Throttle(most_repaid=10_000 * WAD, seconds=3_600), [("bark", 1_200), ("take", 2_160)]),
        (ToxicHalt(), [("bark", 1_200), ("take", 2_160)]),  # an auction finds its price
        (DynamicBonus(), [("bark", 1_200), ("take", 2_160)]),
    ],
    ids=["grace", "a short pause", "a long pause", "paused before", "no room", "room", "halt", "bonus"],
)
def test_vaults_and_their_auctions(mitigation: Mitigation, expected: list[tuple[str, int]]) -> None:
    assert steps(mitigation) == expected


@pytest.mark.parametrize("by", ["repay", "top-up"])
def test_owners_of_vaults(by: str) -> None:
    result = mitigated(vault(DOG_2_0, 1_290), OwnerTrigger(by=by), protocol=MAKER)  # type: ignore[arg-type]
    assert result.liquidations == []
    health = result.book.protocol.view(result.book.state, 0, result.book.prices, result.book.now).health
    assert health is not None
    assert 0 <= health - 115 * POINT < POINT


@pytest.mark.parametrize(
    ("mitigation", "lacking"),
    [
        (OwnerTrigger(by="sell"), "orders about healthy accounts"),
        (IsolatedMargin(), "accounts that can be parted"),
        (VolatilityTiers(asset="ETH", tiers=((100, -100),)), "ltv, liquidation_threshold"),
    ],
    ids=["sell", "part", "tiers"],
)
def test_what_a_protocol_cannot(mitigation: Mitigation, lacking: str) -> None:
    with pytest.raises(ScenarioError, match=f"mitigation {mitigation.kind}: protocol maker has no {lacking}"):
        mitigated(vault(DOG_2_0, 1_290), mitigation, protocol=MAKER, from_block=1)


# -- a crash of Aave ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crash() -> Any:
    lake = Lake(resource("sample") / "lake")
    return load_market(lake, "sample-crash"), load_timeline(lake, "sample-crash")


COMBINED: dict[str, tuple[Mitigation, ...]] = {
    "stops": (CircuitBreaker(move=300, seconds=600), Grace(seconds=300), Throttle(most_repaid=10**13, seconds=3_600)),
    "prices": (PriceBand(move=200, beyond="clamp"), VolatilityTiers(asset="WETH", tiers=((500, -200), (1_500, -500)))),
    "owners": (IsolatedMargin(), OwnerTrigger(by="sell", share=5_000, cost=30), DynamicBonus()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMBINED)
def test_from_a_common_start_it_is_the_same(crash: Any, name: str) -> None:
    scenario = Scenario(
        liquidators=Competitive(), from_block=350, to_block=410, mitigations=COMBINED[name],
        overrides=(Override(parameter="liquidation_threshold", asset="WETH", change=-100, from_block=360),),
    )  # fmt: skip
    market, timeline = crash
    started = replay(
        AAVE_V3,
        market,
        timeline,
        scenario,
        start=start_of(AAVE_V3, market, timeline, replace(scenario, mitigations=())),
    )
    result = replay(AAVE_V3, market, timeline, scenario)
    assert outcome(started) == outcome(result)
    assert result.liquidations
    assert result.mitigations
    if name == "prices":  # laws compare the others, on smaller books
        assert outcome(result) == outcome(replay(AAVE_V3, market, timeline, scenario, screened=False))


@pytest.mark.slow
def test_a_throttle_on_the_crash_leaves_bad_debt_that_no_throttle_does_not(crash: Any) -> None:
    """100,000 $ an hour are too few: the queue falls with the price. The other side of a mitigation."""
    free, held = (
        replay(AAVE_V3, *crash, Scenario(liquidators=Competitive(), mitigations=parts))
        for parts in ((), (Throttle(most_repaid=10**13, seconds=3_600),))
    )
    lost = [
        result.horizons[0].realised_bad_debt_base + result.horizons[0].open_bad_debt_base for result in (free, held)
    ]
    assert lost[0] == 0 < lost[1]
    assert did(held, "withheld")[0] > 50
    assert blocks(held)[0] == blocks(free)[0]
