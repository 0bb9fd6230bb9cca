"""Every mitigation over every protocol, by one small market of each: it acts, has no say there and says so, or is
refused in one line; and the table of docs/mitigations.md is what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from backtest.errors import ScenarioError
from backtest.protocols.registry import PROTOCOLS
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.scenario import (
    CircuitBreaker,
    Competitive,
    DepthCap,
    DynamicBonus,
    DynamicCloseFactor,
    Grace,
    IsolatedMargin,
    Mitigation,
    OwnerTrigger,
    Pause,
    PriceBand,
    ReserveFund,
    RiskSizing,
    Scenario,
    SizeTiers,
    SocialisedLoss,
    Throttle,
    ToxicHalt,
    VolatilityTiers,
)
from backtest.scenario.settled import settled
from tests.support.fallen_markets import FALLEN, START, Fallen
from tests.support.mitigated import outcome

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[3] / "docs" / "mitigations.md"


def at(f: Fallen, seconds: int) -> str:
    """A time beside that of the fall, UTC."""
    return datetime.fromtimestamp(START + f.after + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def of(f: Fallen) -> str:
    return f.h.market.names[f.asset]


CASES: Mapping[str, Callable[[Fallen], Mitigation]] = {
    "`pause`": lambda f: Pause(from_time=at(f, -60), until_time=at(f, 1_800), stops="liquidations"),
    "`circuit-breaker`": lambda f: CircuitBreaker(move=1_000, seconds=1_800),
    "`circuit-breaker` of the market": lambda f: CircuitBreaker(move=1_000, seconds=1_800, scope="market"),
    "`price-band`": lambda f: PriceBand(move=1_000),
    "`grace`": lambda f: Grace(seconds=1_800),
    "`toxic-halt`": lambda f: ToxicHalt(),
    "`throttle`": lambda f: Throttle(most_repaid=100 * f.usd, seconds=3_600),
    "`size-tiers`": lambda f: SizeTiers(tiers=((20_000 * f.usd, 6_000),)),
    "`volatility-tiers`": lambda f: VolatilityTiers(asset=of(f), tiers=((2_000, -500),)),
    "`volatility-tiers` of the threshold": lambda f: VolatilityTiers(
        asset=of(f), tiers=((2_000, -500),), parameters="liquidation_threshold"
    ),
    "`dynamic-bonus`": lambda f: DynamicBonus(),
    "`dynamic-close-factor`": lambda f: DynamicCloseFactor(),
    "`depth-cap`": lambda f: DepthCap(asset=of(f), depth_base=f.usd, multiple=10_000),
    "`isolated-margin`": lambda f: IsolatedMargin(),
    "`owner-trigger`, repay": lambda f: OwnerTrigger(by="repay"),
    "`owner-trigger`, top-up": lambda f: OwnerTrigger(by="top-up"),
    "`owner-trigger`, sell": lambda f: OwnerTrigger(by="sell"),
    "`risk-sizing`": lambda f: RiskSizing(ranges=380_000),
    "`reserve-fund`": lambda f: ReserveFund(name="umbrella", reserve=10 * f.usd),
    "`socialised-loss`": lambda f: SocialisedLoss(),
}
AFTERWARDS = {"`reserve-fund`", "`socialised-loss`"}
"""They pay for what was written off, and change nothing that happens."""


def run(f: Fallen, *mitigations: Mitigation) -> Replay[Any]:
    """With the screen and without: the same."""
    scenario = settled(Scenario(liquidators=Competitive(), mitigations=mitigations, from_block=40), f.h.market.name_of)
    found = [
        replay(f.protocol, f.h.market, f.timeline(), scenario, screened=screened, samples=6)
        for screened in (True, False)
    ]
    assert outcome(found[0]) == outcome(found[1])
    return found[0]


@cache
def without(protocol: str) -> tuple[Fallen, Replay[Any]]:
    f = FALLEN[protocol]()
    return f, run(f)


def cell(protocol: str, row: str) -> str:
    """What comes of one mitigation over one protocol."""
    f, plain = without(protocol)
    mitigation = CASES[row](f)
    try:
        result = run(f, mitigation)
    except ScenarioError as refused:
        line = str(refused)
        return "no" if line.startswith(f"mitigation {mitigation.kind}: protocol {protocol} has no ") else line
    if row in AFTERWARDS:
        assert (result.liquidations, result.deficits) == (plain.liquidations, plain.deficits)
        lost = sum(deficit.amount_base for deficit in result.deficits)
        borne = [each for each in result.mitigations if each.effect in ("paid", "shared", "unpaid")]
        assert sum(each.value_base for each in borne) == lost
        return "yes"
    effects = {each.effect for each in result.mitigations}
    same = (result.liquidations, result.actions, result.spells) == (plain.liquidations, plain.actions, plain.spells)
    return "whole" if same and effects <= {"passed"} else "yes"


def table() -> dict[tuple[str, str], str]:
    """The page's, by (protocol, mitigation)."""
    text = PAGE.read_text(encoding="utf-8").split("## Over which protocols")[1]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header, *body = [[part.strip() for part in line.strip("|").split("|")] for line in lines if "---" not in line]
    return {(protocol, row[0]): mark for row in body for protocol, mark in zip(header[1:], row[1:], strict=True)}


@pytest.mark.parametrize("protocol", FALLEN)
def test_the_table_is_what_comes_out(protocol: str) -> None:
    f, plain = without(protocol)
    assert plain.liquidations
    assert all(made.clock.timestamp >= START + f.after for made in plain.liquidations)
    said = table()
    assert {row: cell(protocol, row) for row in CASES} == {row: said[protocol, row] for row in CASES}


def test_the_table_has_every_protocol_and_every_mitigation() -> None:
    assert {protocol for protocol, _ in table()} == set(FALLEN) == set(PROTOCOLS)
    assert {row for _, row in table()} == set(CASES)
    kinds = {kind.__struct_config__.tag for kind in Mitigation.__args__}  # type: ignore[attr-defined]
    assert {row.split("`")[1] for row in CASES} == kinds


def test_results_tell_what_a_mitigation_has_no_say_in() -> None:
    """A Comet absorbs an account as a whole: a close factor has nothing to make smaller, and that is counted."""
    f, _ = without("compound-v3")
    [told] = run(f, DynamicCloseFactor()).mitigations
    assert (told.effect, told.number) == ("passed", 1)
    assert told.value_base >= 1_450 * f.usd


def test_a_pool_that_collateral_lies_in_is_not_liquidated() -> None:
    """LLAMMA's AMM trades at its own price: neither a bonus nor a halt is about that."""
    f, plain = without("llamma")
    assert [made.step for made in plain.liquidations].count("arbitrage")
    for mitigation in (DynamicBonus(), ToxicHalt()):
        assert run(f, mitigation).liquidations == plain.liquidations


def test_parts_of_a_comet_hold_what_the_account_held() -> None:
    """1 WETH of 1,960 $ at 89.5 % and 0.05 WBTC of 30,000 $ at 77 % against 2,300 $: the debt is parted as 1,754.2 to
    1,155.
    """
    f, _ = without("compound-v3")
    result = run(f, IsolatedMargin())
    [own] = [account for account, name in enumerate(result.book.market.accounts) if "#WBTC" in name]
    [parted] = [each for each in result.mitigations if each.effect == "parted"]
    assert (parted.number, parted.value_base // f.usd) == (1, 2_300)
    view = f.protocol.view(result.book.state, own, result.book.prices, result.book.now)
    assert view.collateral_base == 1_500 * f.usd
    assert view.debt_base / f.usd == pytest.approx(2_300 * 1_155 / 2_909.2, rel=1e-3)
