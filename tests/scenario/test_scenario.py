"""Scenarios: strict parsing with a remedy in one line, canonical form, the documentation that follows the types."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import ScenarioError
from backtest.scenario import PARAMETERS, Competitive, Observed, Override, Scenario, Users, parse_override
from backtest.scenario.toml import parse_scenario
from tests.docs import scenarios as scenario_docs

FULL = """
name = "stricter"
from_block = 19_000_000
to_block = 19_500_000
seed = 7

[liquidators]
kind = "competitive"
gas_cost = 500_000_000
pair = "largest-debt"
settle = "collateral-token"
max_calls = 3

[[overrides]]
parameter = "liquidation_threshold"
value = 8000
asset = "WETH"

[[overrides]]
parameter = "liquidation_bonus"
value = 10200
emode = 1
from_block = 19_100_000
"""


def test_every_field_is_read() -> None:
    assert parse_scenario(FULL, "f.toml") == Scenario(
        name="stricter",
        from_block=19_000_000,
        to_block=19_500_000,
        seed=7,
        liquidators=Competitive(gas_cost=500_000_000, pair="largest-debt", settle="collateral-token", max_calls=3),
        overrides=(
            Override(parameter="liquidation_threshold", value=8000, asset="WETH"),
            Override(parameter="liquidation_bonus", value=10200, emode=1, from_block=19_100_000),
        ),
    )


def test_an_empty_file_is_history() -> None:
    assert parse_scenario("", "f.toml") == Scenario(liquidators=Observed())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("liquidator = 1", "f.toml: unknown field 'liquidator'; did you mean 'liquidators'?"),
        ('liquidators = {kind = "observd"}', "f.toml: unknown liquidators 'observd'; did you mean 'observed'?"),
        (
            '[liquidators]\nkind = "competitive"\ngascost = 5',
            "f.toml: unknown field 'liquidators.gascost'; did you mean 'gas_cost'?",
        ),
        ('[liquidators]\nkind = "observed"\ngas_cost = 5', "f.toml: unknown field 'liquidators.gas_cost'; known: none"),
        ('[[overrides]]\nparam = "x"', "f.toml: unknown field 'overrides[0].param'; did you mean 'parameter'?"),
        ('[[overrides]]\nparameter = "ltv"', "f.toml: override ltv: neither value and change; give one of them"),
        ('[users]\nrespons = "frozen"', "f.toml: unknown field 'users.respons'; did you mean 'response'?"),
        ('[users]\nresponse = "melted"', "f.toml: users.response: Invalid enum value 'melted'; see docs/scenarios.md"),
        ("oracle_delay = 0", "f.toml: 'observed' liquidators with overrides: "),
        ('seed = "a"', "f.toml: seed: Expected `int`, got `str`; see docs/scenarios.md"),
        ("seed = 1.5", "f.toml: seed: Expected `int`, got `float`; see docs/scenarios.md"),
        (
            '[liquidators]\nkind = "competitive"\npair = "x"',
            "f.toml: liquidators.pair: Invalid enum value 'x'; see docs/scenarios.md",
        ),
        ("a =", "f.toml is not TOML: "),
        (
            "liquidators = {}",
            (
                "f.toml: liquidators says no kind; known: competitive, latency-race, observed, oev, participation,"
                " priority-gas, sealed-bid"
            ),
        ),
        ("from_block = 5\nto_block = 4", "f.toml: from_block = 5 is after to_block = 4; swap them"),
        ("from_block = -5", "f.toml: from_block = -5 is negative"),
        ('[[overrides]]\nparameter = "ltv"\nvalue = 1', "f.toml: 'observed' liquidators with overrides: "),
        (
            '[liquidators]\nkind = "competitive"\nmax_calls = 0',
            "f.toml: liquidators.max_calls = 0 lets nobody liquidate",
        ),
        ('[liquidators]\nkind = "competitive"\ngas_cost = -1', "f.toml: liquidators.gas_cost = -1 is negative"),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy(text: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, "f.toml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"parameter": "liquidation_treshold", "value": 1},
            r"unknown parameter 'liquidation_treshold' in an override; did you mean 'liquidation_threshold'\?",
        ),
        ({"parameter": "ltv", "value": 10_001}, "ltv = 10001 is out of range; give basis points from 0 to 10000$"),
        ({"parameter": "liquidation_bonus", "value": 500}, "a bonus is 10000 \\+ bonus"),
        ({"parameter": "close_factor", "value": 0}, "out of range"),
        ({"parameter": "close_factor", "value": 1, "asset": "WETH"}, "one for the whole market"),
        ({"parameter": "close_factor", "value": 1, "emode": 1}, "e-mode categories have no such parameter"),
        ({"parameter": "ltv", "value": 1, "asset": "WETH", "emode": 1}, "together; give one of them"),
        ({"parameter": "ltv", "value": 1, "from_block": -1}, "a block below zero"),
        ({"parameter": "ltv", "value": 1, "change": 1}, "both value and change; give one of them"),
        (
            {"parameter": "ltv", "value": 1, "from_block": 5, "until_block": 5},
            "until_block = 5 is not after from_block = 5; swap them",
        ),
        (
            {"parameter": "ltv", "value": 1, "from_block": 5, "from_time": "2020-01-01"},
            "from_block and from_time together; give one of them",
        ),
        (
            {"parameter": "ltv", "value": 1, "until_time": "2020-13-01"},
            "until_time = '2020-13-01' is no date; write 2020-03-12",
        ),
        ({"parameter": "ltv", "value": 1, "steps": 3}, "steps = 3 without an end"),
    ],
)
def test_overrides_that_no_market_could_take(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        Override(**fields)


@pytest.mark.parametrize(
    ("text", "override"),
    [
        ("WETH.liquidation_threshold=8000", Override(parameter="liquidation_threshold", value=8000, asset="WETH")),
        ("close_factor=10000", Override(parameter="close_factor", value=10_000)),
        ("emode2.ltv=9_000@19_000_000", Override(parameter="ltv", value=9000, emode=2, from_block=19_000_000)),
        ("USDC.e.ltv=1", Override(parameter="ltv", value=1, asset="USDC.e")),
        ("WETH.liquidation_threshold-=300", Override(parameter="liquidation_threshold", change=-300, asset="WETH")),
        ("liquidation_bonus+=200@7", Override(parameter="liquidation_bonus", change=200, from_block=7)),
        ("WETH+emode.ltv=7000", Override(parameter="ltv", value=7000, asset="WETH", emode="all")),
        (
            "WETH.ltv=7000@2024-01-01..2024-02-01T12:00:00/10",
            Override(
                parameter="ltv",
                value=7000,
                asset="WETH",
                from_time="2024-01-01",
                until_time="2024-02-01T12:00:00",
                steps=10,
            ),
        ),
        ("ltv=1@5..9/2", Override(parameter="ltv", value=1, from_block=5, until_block=9, steps=2)),
        (f"0x{'a' * 40}.ltv=1@5", Override(parameter="ltv", value=1, asset=f"0x{'a' * 40}", from_block=5)),
    ],
)
def test_overrides_on_the_command_line(text: str, override: Override) -> None:
    assert parse_override(text) == override


@pytest.mark.parametrize(
    "text", ["", "WETH", "WETH.ltv", "ltv=", "ltv=x", "ltv=-1", "ltv=1@", "ltv=0.5", "ltv=1@5..", "ltv=1@5/3"]
)
def test_what_is_no_override(text: str) -> None:
    with pytest.raises(ScenarioError, match=re.escape(f"--set '{text}' is not understood")):
        parse_override(text)


# -- canonical form ----------------------------------------------------------------------------------------------------


def test_the_canonical_form_leaves_defaults_and_the_name_out() -> None:
    assert Scenario().canonical() == '{"version":1}'
    assert Scenario(name="x", seed=0, liquidators=Observed()).digest() == Scenario().digest()
    spelled_out = Scenario(
        name="y", liquidators=Competitive(gas_cost=0, pair="most-profitable", settle="underlying", max_calls=10)
    )
    assert spelled_out.canonical() == '{"liquidators":{"kind":"competitive"},"version":1}'


overrides = st.builds(
    lambda name, share, asset, emode, block, ramp: Override(
        parameter=name,
        value=PARAMETERS[name][0] + share * (PARAMETERS[name][1] - PARAMETERS[name][0]) // 100,
        asset=asset if PARAMETERS[name].per_asset else None,
        emode=emode if asset is None and name in ("ltv", "liquidation_threshold", "liquidation_bonus") else None,
        from_block=block,
        until_block=block + ramp if ramp else None,
        steps=max(1, ramp),
    ),
    st.sampled_from(sorted(PARAMETERS)),
    st.integers(0, 100),
    st.none() | st.sampled_from(["WETH", "USDC"]),
    st.none() | st.integers(1, 9),
    st.integers(0, 10**8),
    st.integers(0, 5),
)
models = st.builds(
    Competitive,
    gas_cost=st.integers(0, 10**12),
    pair=st.sampled_from(["most-profitable", "largest-debt"]),
    max_calls=st.integers(1, 99),
)
scenarios = st.builds(
    Scenario,
    name=st.text("abc ", max_size=9),
    liquidators=models,
    overrides=st.lists(overrides, max_size=3).map(tuple),
    users=st.builds(
        Users,
        response=st.sampled_from(["frozen", "same-ltv", "same-health"]),
        refused=st.sampled_from(["skip", "shrink"]),
    ),
    rates=st.sampled_from(["historical", "recomputed"]),
    seed=st.integers(0, 9),
)


def toml(scenario: Scenario) -> str:
    """A scenario as a user would write it, defaults left out."""
    body = {"name": scenario.name, **json.loads(scenario.canonical())}
    body.pop("version")
    users = [("[users]", body.pop("users"))] if "users" in body else []
    tables = [
        ("[liquidators]", body.pop("liquidators")),
        *users,
        *(("[[overrides]]", override) for override in body.pop("overrides", ())),
    ]
    return "\n".join(
        f"{head}\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
        for head, table in [("", body), *tables]
    )


@given(scenarios)
def test_a_scenario_comes_back_from_toml_and_json_as_it_was(scenario: Scenario) -> None:
    assert parse_scenario(toml(scenario), "f.toml") == scenario
    body = json.loads(scenario.canonical())
    assert body.pop("version") == 1
    again = msgspec.convert(body, Scenario)
    assert again.digest() == scenario.digest()
    assert msgspec.structs.replace(again, name=scenario.name) == scenario


@given(scenarios, scenarios)
def test_equal_digests_are_equal_scenarios(one: Scenario, other: Scenario) -> None:
    same = msgspec.structs.replace(one, name="") == msgspec.structs.replace(other, name="")
    assert (one.digest() == other.digest()) == same


# -- documentation -----------------------------------------------------------------------------------------------------


def test_the_page_documents_the_types_as_they_are() -> None:
    written = scenario_docs.PAGE.read_text(encoding="utf-8")
    assert written == scenario_docs.page(), "run python -m tests.docs.scenarios"
    for struct in (Scenario, Competitive, Users, Override):
        for field in msgspec.structs.fields(struct):
            row = next(line for line in written.splitlines() if line.startswith(f"| `{field.name}` |"))
            assert row.split("|")[4].strip(), f"{field.name} has no meaning"


def test_the_example_on_the_page_is_a_scenario() -> None:
    text = scenario_docs.PAGE.read_text(encoding="utf-8")
    example = parse_scenario(text.split("```toml\n")[1].split("```")[0], "docs/scenarios.md")
    assert len(example.overrides) == 2
