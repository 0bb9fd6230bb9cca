"""Competition and costs as configuration: what is accepted, what is refused in one line, what the command line says in
short.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backtest.errors import ScenarioError
from backtest.scenario import (
    Costs,
    Demand,
    Dutch,
    Gas,
    Participation,
    Scenario,
    SealedBid,
    Searcher,
    Slippage,
    TargetHealth,
)
from backtest.scenario.options import parse_gas, parse_mechanism, parse_slippage
from backtest.scenario.toml import parse_scenario

GWEI = 10**9


def test_searchers_are_a_number_or_each_of_them() -> None:
    alike = parse_scenario('[liquidators]\nkind = "sealed-bid"\nsearchers = 3\n', "f.toml").liquidators
    assert alike == SealedBid(searchers=3)
    assert [searcher.name for searcher in alike.each] == ["searcher-1", "searcher-2", "searcher-3"]  # type: ignore[union-attr]
    text = (
        '[liquidators]\nkind = "sealed-bid"\n[[liquidators.searchers]]\nname = "a"\ngas_cap ='
        ' 5\n[[liquidators.searchers]]\nname = "b"\n'
    )
    assert parse_scenario(text, "f.toml").liquidators == SealedBid(
        searchers=(Searcher(name="a", gas_cap=5), Searcher(name="b"))
    )


def test_defaults_are_not_part_of_a_scenario_s_id() -> None:
    plain = Scenario(liquidators=SealedBid())
    assert plain.canonical() == '{"liquidators":{"kind":"sealed-bid"},"version":1}'
    assert Scenario(liquidators=SealedBid(searchers=5), costs=Costs(flash_fee=0)).digest() == plain.digest()
    assert (
        Scenario(liquidators=SealedBid(), costs=Costs(gas=Gas())).canonical()
        == '{"costs":{"gas":{}},"liquidators":{"kind":"sealed-bid"},"version":1}'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[liquidators]\nkind = "sealed-bid"\nsearcher = 3',
            "unknown field 'liquidators.searcher'; did you mean 'searchers'?",
        ),
        ('[liquidators]\nkind = "sealedbid"', "unknown liquidators 'sealedbid'; did you mean 'sealed-bid'?"),
        (
            '[liquidators]\nkind = "sealed-bid"\nsearchers = -1',
            "liquidators.searchers = -1; give a number from 0 to 1000",
        ),
        (
            '[liquidators]\nkind = "sealed-bid"\nprivate_cost = -1',
            "liquidators.private_cost = -1 is negative; give 0 or more",
        ),
        ('[liquidators]\nkind = "participation"\nmean = -1', "liquidators.mean = -1 is negative"),
        (
            '[liquidators]\nkind = "participation"\nreserve = 10001',
            "liquidators.reserve = 10001 is no share; give basis points, 0 to 10000",
        ),
        ('[liquidators]\nkind = "oev"\nprotocol_share = 9000', "liquidators.shares_together = 12500 is no share"),
        ('[liquidators]\nkind = "latency-race"\nexpress_lane = "me"', "express_lane = 'me' is no searcher"),
        ('[liquidators]\nkind = "sealed-bid"\nsearchers = [{name = "a"}, {name = "a"}]', "a name appears twice"),
        (
            '[liquidators]\nkind = "sealed-bid"\nsearchers = [{name = "front-runner"}]',
            "the name 'front-runner' has a meaning of its own",
        ),
        ('[costs.gas]\nfee = "constant"', "costs.gas: fee = 'constant' without base_fee; give base_fee, in wei"),
        ("[costs.gas]\nbase_fee = 5", "costs.gas: fee = 'historical' with base_fee"),
        ('[costs.gas]\nfee = "steps"', "costs.gas: fee = 'steps' without steps"),
        ('[costs.gas]\nspike_from = "yesterday"', "costs.gas.spike_from = 'yesterday' is no date"),
        ('[[costs.slippage]]\nmodel = "depth"', "costs.slippage of every asset: depth without curve; give curve"),
        ('[[costs.slippage]]\nmodel = "depth"\ncurve = [[10, 5], [5, 9]]', "the curve does not rise"),
        ('[[costs.slippage]]\nmodel = "pools"\nreserve = 5', "pools with reserve; leave out reserve"),
        ("[[costs.slippage]]\n[[costs.slippage]]", "two entries of one asset"),
        ("[costs]\nflash_fee = 20000", "costs.flash_fee = 20000 is no share"),
        ('mechanism = {kind = "duch"}', "unknown mechanism 'duch'"),
    ],
)
def test_a_mistake_is_one_line(text: str, message: str) -> None:
    with pytest.raises(ScenarioError) as error:
        parse_scenario(text, "f.toml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_gas_in_short() -> None:
    assert parse_gas("historical") == Gas()
    assert parse_gas("spike:6") == Gas(spike=6)
    assert parse_gas("constant:0.05") == Gas(fee="constant", base_fee=50_000_000)
    demand = (Demand(blocks=20, used=20_000), Demand(blocks=100, used=5_000))
    assert parse_gas("eip-1559:30:20@200,100@50") == Gas(fee="eip-1559", base_fee=30 * GWEI, demand=demand)


def test_slippage_in_short() -> None:
    assert parse_slippage("pools", 10**8) == Slippage(model="pools")
    assert parse_slippage("constant-product:5_000_000", 10**8) == Slippage(model="constant-product", reserve=5 * 10**14)
    assert parse_slippage("square-root:200000000@4.5", 10**8) == Slippage(
        model="square-root", daily_volume=2 * 10**16, daily_volatility=450
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spike",
        "spike:0",
        "spike:1.5",
        "constant:",
        "constant:-5",
        "constant:nan",
        "eip-1559:30:x",
        "historical:1",
        "foo",
    ],
)
def test_gas_that_is_not_understood(text: str) -> None:
    with pytest.raises(
        ScenarioError, match=re.escape(f"--gas '{text}' is not understood; write historical, constant:30")
    ):
        parse_gas(text)


@pytest.mark.parametrize("text", ["", "pools:1", "constant-product", "square-root:5", "square-root:5@0", "depth:1"])
def test_slippage_that_is_not_understood(text: str) -> None:
    with pytest.raises(ScenarioError, match=re.escape(f"--slippage '{text}' is not understood")):
        parse_slippage(text, 10**8)


def test_the_documented_scenarios_parse() -> None:
    page = (Path(__file__).parents[2] / "docs/scenarios.md").read_text(encoding="utf-8")
    texts = re.findall(r"```toml\n(.*?)```", page, re.S)
    kinds = [type(parse_scenario(text, "docs/scenarios.md").liquidators) for text in texts]
    assert Participation in kinds


def test_a_mechanism_in_short() -> None:
    assert parse_mechanism("dutch:step=60,cut=9_950") == Dutch(step=60, cut=9_950)
    assert parse_mechanism("target-health") == TargetHealth()
    for text, message in (
        ("duch", "unknown mechanism 'duch'; did you mean 'dutch'?"),
        ("dutch:stp=1", "unknown field 'stp'; did you mean 'step'?"),
        ("dutch:step=x", "step = 'x' is no whole number; write dutch:step=NUMBER"),
        ("dutch:step=0", "mechanism.step = 0 is too small"),
    ):
        with pytest.raises(ScenarioError, match=re.escape(message)):
            parse_mechanism(text)
