"""One scenario, one form; assets that share a symbol; numbers in their units, whichever way they come."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from backtest.cli import main
from backtest.errors import ScenarioError, UserError
from backtest.model import Asset, AssetId, Market
from backtest.report import select
from backtest.report.page import write_runs
from backtest.report.text import as_text
from backtest.results import run_id_of
from backtest.scenario import (
    Competitive,
    Costs,
    Gas,
    Override,
    Participation,
    Scenario,
    Searcher,
    Slippage,
    parse_override,
)
from backtest.scenario.options import parse_gas, parse_mechanism
from backtest.scenario.settled import settled
from backtest.scenario.toml import parse_scenario
from backtest.sweep import with_axes
from backtest.sweep.spec import Axis, at
from tests.support import made_up_runs

WETH, USDC, BRIDGED = (f"0x{digit * 40}" for digit in "abc")
MARKET = Market(
    name="twins",
    protocol="aave-v3",
    chain_id=1,
    assets=tuple(
        Asset(AssetId(i), address, symbol, 6)
        for i, (address, symbol) in enumerate(((WETH, "WETH"), (USDC, "USDC"), (BRIDGED, "USDC")))
    ),
    accounts=(),
)


# -- two assets of one symbol


def test_a_symbol_of_two_assets_is_refused_with_their_addresses() -> None:
    with pytest.raises(ScenarioError) as caught:
        MARKET.asset_named("usdc")
    assert str(caught.value) == (
        f"2 assets of market twins have the symbol 'USDC'; give the address: {USDC} or {BRIDGED}"
    )
    twin = MARKET.asset_named(BRIDGED.upper().replace("X", "x"))
    assert twin is not None
    assert twin.id == 2


def test_what_is_shown_tells_twins_apart() -> None:
    assert [MARKET.label(asset.id) for asset in MARKET.assets] == [
        "WETH",
        "USDC (0xbbbb…bbbb)",
        "USDC (0xcccc…cccc)",
    ]
    assert MARKET.names == ["WETH", USDC, BRIDGED]


@pytest.mark.slow
def test_pages_and_tables_tell_twins_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_up_runs, "SYMBOLS", ("WETH", "weth", "wstETH", "LINK", "USDC", "DAI"))
    lake = made_up_runs.make_lake(tmp_path / "lake")
    labels = [row[0] for row in lake.sql("SELECT label FROM assets ORDER BY asset_id").fetchall()]
    assert labels == ["WETH (0x0000…0001)", "weth (0x0000…0002)", "wstETH", "LINK", "USDC", "DAI"]
    shown = select(lake)
    write_runs(shown, tmp_path / "page.html", chain_id=1)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "WETH (0x0000…0001) / " in page
    assert "weth (0x0000…0002) / " in page


# -- one form


def form(scenario: Scenario) -> str:
    return run_id_of(settled(scenario, MARKET.name_of), "twins", "digest")


def competitive(**more: Any) -> Scenario:
    return Scenario(liquidators=Competitive(), **more)


def test_a_scenario_written_otherwise_is_the_same() -> None:
    ltv = parse_override("WETH.ltv=7000@2024-02-01")
    one = competitive(overrides=(ltv, parse_override("WETH.liquidation_threshold=8000")))
    others = [
        ("weth.liquidation_threshold=8_000", f"{WETH}.ltv=70%@2024-02-01T00:00:00"),
        (f"{WETH.upper().replace('X', 'x')}.liquidation_threshold=80%", "Weth.ltv=7e3@2024-02-01"),
        ("WETH.ltv=7000.0@2024-02-01", "WETH.liquidation_threshold=8000.0@0"),
    ]
    for texts in others:
        assert form(competitive(overrides=tuple(map(parse_override, texts)))) == form(one), texts
    assert form(competitive(overrides=one.overrides, from_block=0)) == form(one)
    assert form(competitive(overrides=(*one.overrides, one.overrides[-1]))) == form(one)
    assert form(competitive(overrides=(replace_value(ltv, 7001), one.overrides[1]))) != form(one)


def replace_value(override: Override, value: int) -> Override:
    return Override(**{name: getattr(override, name) for name in override.__struct_fields__} | {"value": value})


def test_the_order_of_overrides_is_kept_where_it_decides() -> None:
    free = [parse_override(text) for text in ("WETH.ltv=7000", f"{USDC}.ltv=6000", "close_factor=5000", "ltv=1@9")]
    assert len({form(competitive(overrides=order)) for order in permutations(free)}) == 1
    for first, second in (("ltv=1", "ltv=2"), ("WETH.ltv=1", "WETH.ltv=2"), ("WETH.ltv=1@2024-01-01", "WETH.ltv=2")):
        both = [parse_override(first), parse_override(second)]
        assert form(competitive(overrides=tuple(both))) != form(competitive(overrides=tuple(reversed(both))))


def test_costs_have_one_form_too() -> None:
    entries = [Slippage(model="pools", asset="WETH"), Slippage(model="none", asset=USDC)]
    gas = Gas(native="weth", spike=2, spike_from="2024-01-01")
    one = competitive(costs=Costs(gas=gas, slippage=tuple(entries)))
    other = competitive(
        costs=Costs(
            gas=Gas(native=WETH, spike=2, spike_from="2024-01-01T00:00:00+00:00"), slippage=tuple(reversed(entries))
        )
    )
    assert form(one) == form(other)


def test_an_ambiguous_name_has_no_form() -> None:
    with pytest.raises(ScenarioError, match="give the address"):
        form(competitive(overrides=(parse_override("USDC.ltv=1"),)))


# -- units


@pytest.mark.parametrize(
    ("text", "value"),
    [("WETH.ltv=80%", 8000), ("WETH.ltv=80.5 %", 8050), ("WETH.liquidation_bonus=106%", 10_600), ("dust=5e2", 500)],
)
def test_percent_and_whole_decimals_are_understood(text: str, value: int) -> None:
    assert parse_override(text).value == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("WETH.ltv=0.8", r"ltv counts in basis points; did you mean 8000 \(basis points\) or 80%\?"),
        ("WETH.liquidation_bonus=600", r"a bonus is 10000 \+ bonus: did you mean 10600, a bonus of 6 %\?"),
        ("WETH.liquidation_bonus=0.05", r"did you mean 10500 \(basis points\) or 105%\?"),
        ("dust=80%", "give whole tokens, a whole number"),
        ("WETH.ltv=１０００", "is not a number"),
        ("WETH.ltv=nan", "is not a number"),
        ("WETH.ltv=1e400", "is out of range"),
        (f"WETH.ltv={'9' * 5000}", "is out of range"),
        ("WETH.ltv=1@99999999999999999999", "is out of range"),
        ("WETH.ltv=1@1..2000000000/1000000000", "steps = 1,000,000,000; give at most 10,000"),
    ],
)
def test_other_units_and_numbers_are_answered(text: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        parse_override(text)


@pytest.mark.parametrize("value", ["0.8", '"80%"'])
def test_files_answer_with_the_unit_too(value: str) -> None:
    text = f'[liquidators]\nkind = "competitive"\n[[overrides]]\nparameter = "ltv"\nvalue = {value}'
    with pytest.raises(ScenarioError, match=r"overrides\[0\].value: .*; did you mean 8000 \(basis points\) or 80%\?"):
        parse_scenario(text, "f.toml")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Scenario(overrides=[]), r"Scenario.overrides is a list; give a tuple"),
        (lambda: Scenario(liquidators="competitive"), r"Scenario.liquidators = 'competitive': .*Competitive"),
        (lambda: Competitive(gas_cost=5.5), r"Competitive.gas_cost = 5.5: Expected `int`"),
        (lambda: Competitive(gas_cost="5"), r"Competitive.gas_cost = '5': Expected `int`"),
        (lambda: Competitive(max_calls=True), r"Competitive.max_calls = True"),
        (lambda: Competitive(gas_cost=10**5000), r"Competitive.gas_cost is no number that can be stored .16610 bits"),
        (lambda: Competitive(max_calls=2**63), r"Competitive.max_calls is no number that can be stored .64 bits"),
        (lambda: Override(parameter="ltv", value=0.80), r"Override.value = 0.8: .*did you mean 8000"),
        (lambda: Override(parameter="ltv", value="80%"), r"Override.value = '80%': .*did you mean 8000"),
        (lambda: Slippage(model="depth", curve=[(1, 2)]), r"Slippage.curve is a list"),
        (lambda: Participation(mean=1.78), r"Participation.mean = 1.78"),
        (lambda: Axis(field="seed", values=[1, 2]), r"Axis.values is a list"),
        (lambda: Scenario(name="a\x01b"), r"name = 'a\\x01b' is no name"),
        (lambda: Searcher(name="\x1b[31m"), "is no name"),
        (lambda: Override(parameter="ltv", value=1, from_time="２０２４-01-01"), "is no date"),
    ],
)
def test_constructors_check_what_files_check(make: Any, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        make()


def test_a_number_too_large_is_named_by_its_place_in_the_file() -> None:
    text = f'[liquidators]\nkind = "sealed-bid"\n[[liquidators.searchers]]\nname = "a"\nlatency = {2**63}'
    with pytest.raises(ScenarioError, match=r"f\.toml: liquidators\.searchers\[0\]\.latency is no number that"):
        parse_scenario(text, "f.toml")
    with pytest.raises(ScenarioError, match=r"known: calls, capital, gas_cap,"):
        parse_scenario(text.replace("latency", "count"), "f.toml")


def test_amounts_may_need_more_than_64_bits() -> None:
    assert Competitive(gas_cost=10**25).gas_cost == 10**25
    assert at(competitive(), [(Axis(field="liquidators.gas_cost", values=(10**25,)), 10**25)])


# -- numbers of flags


@pytest.mark.parametrize("text", ["constant:1e400", "constant:1e999999999", "constant:nan", "spike:１", "spike:1e99"])
def test_gas_is_bounded(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"is not understood|no number that can be stored"):
        parse_gas(text)


def test_mechanisms_take_ascii_digits() -> None:
    with pytest.raises(ScenarioError, match="no whole number"):
        parse_mechanism("dutch:step=６０")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--searchers", "1.5"], "--searchers 1.5 is no whole number"),
        (["--searchers", "１"], "is not a number"),
        (["--seed", "9" * 30], "is no whole number of 64 bits"),
        (["--seed", "9" * 5000], "is out of range"),
        (["--mean", "nan"], "--mean: 'nan' is not a number"),
        (["--mean", "inf"], "--mean: 'inf' is not a number"),
        (["--gas-cost", "1e999999999"], "is out of range"),
        (["--scenario", "/dev/zero"], "/dev/zero is not a regular file"),
        (["--scenario", "a\0b"], "an argument holds NUL"),
        (["--scenario", "DEEP"], "nested deeper than 64 levels"),
        (["--scenario", "DIGITS"], "a number of 5000 digits is out of range"),
    ],
)
def test_flags_end_in_one_line(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up_runs.make_lake(tmp_path / "lake")
    contents = {"DEEP": "a = " + "[" * 5000 + "]" * 5000, "DIGITS": f"seed = {'9' * 5000}"}
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    given = [str(tmp_path / word) if word in contents else word for word in words]
    with pytest.raises(SystemExit) as end:
        main(["replay", "--lake", str(tmp_path / "lake"), *given])
    line = capsys.readouterr().err
    assert (end.value.code, line.count("\n")) == (2, 1), line
    assert said in line


# -- axes that move several parameters


def test_an_axis_moves_threshold_and_ltv_together() -> None:
    base, [axis] = with_axes(competitive(), ["WETH.liquidation_threshold,WETH.ltv=80%:75%,8200:7700"])
    assert list(axis.levels) == [(8000, 7500), (8200, 7700)]
    moved = at(base, [(axis, axis.levels[1])]).overrides
    assert [(one.parameter, one.value) for one in moved] == [("liquidation_threshold", 8200), ("ltv", 7700)]
    base, [axis] = with_axes(competitive(), ["WETH.liquidation_threshold-,WETH.ltv-=0..600/300"])
    assert list(axis.levels) == [0, -300, -600]
    assert [one.change for one in at(base, [(axis, -300)]).overrides] == [-300, -300]
    with pytest.raises(UserError, match="has 3 values for 2 paths"):
        with_axes(competitive(), ["WETH.liquidation_threshold,WETH.ltv=1:2:3"])
    with pytest.raises(UserError, match="another number of values than fields"):
        Axis(field=("seed", "from_block"), values=((1, 2, 3),))


def test_text_of_a_comparison_tells_twins_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_up_runs, "SYMBOLS", ("WETH", "WETH", "wstETH", "LINK", "USDC", "DAI"))
    scenarios = (
        Scenario(),
        competitive(
            name="one of both", overrides=(Override(parameter="ltv", asset=made_up_runs.ASSETS[1], value=7000),)
        ),
    )
    lake = made_up_runs.make_lake(tmp_path / "lake", scenarios=scenarios)
    assert "ltv of WETH (0x0000…0002) = 70.00" in as_text(select(lake))
