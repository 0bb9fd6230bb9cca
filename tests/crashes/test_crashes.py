"""Named crashes: their files are true to themselves and strict; ours stands beside what was reported with the
differences named; an illustration says that it is one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.cli import main
from backtest.crashes import ModelBook, Ours, beside, find_crash, illustrated, parse_crash, shipped
from backtest.crashes import PricePath as Prices
from backtest.crashes.book import vaults_of
from backtest.errors import UserError
from backtest.fetch.market_files import find_market
from backtest.lake import Lake
from backtest.resources import resource
from backtest.scenario import seconds_of
from backtest.units import BPS, WAD
from tests.support.maker_logs import CONFIG
from tests.support.synthetic import ChainNode
from tests.support.vault_fetch import script

NAMES = [
    *("2020-03-12", "2020-11-26", "2021-05-19", "2022-01-22", "2022-06", "2022-11", "2022-11-crv", "2023-03-11"),
    *("2024-08-05", "2025-02-03", "2025-10-10"),
]
OWN = """
name = "own"
title = "Made up"
description = "Nothing happened."
markets = ["maker-eth-a"]
[[windows]]
chain_id = 1
from_time = "2020-03-12"
until_time = "2020-03-13"
[[reported]]
what = "collateral taken"
value = "1000"
unit = "USD"
definition = "what was seized"
scope = "one market"
period = "a day"
source = "nobody"
tag = "derived"
measure = "seized"
markets = ["maker-eth-a"]
"""
PATH = """
[path]
collateral = "A"
debt = "B"
source = "nobody"
points = [["2020-03-12", "2"], ["2020-03-13", "1"]]
[book]
accounts = 10
debt = 1000
threshold = 8000
bonus = 10500
close_factor = 5000
healths = [10100, 20000]
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


def test_the_crashes_that_ship() -> None:
    found = shipped()
    assert sorted(crash.name for crash in found) == sorted(NAMES)
    assert sorted(file.stem for file in resource("crashes").glob("*.toml")) == sorted(NAMES)
    for crash in found:
        assert find_crash(crash.name) == crash
        chains = {window.chain_id for window in crash.windows}
        for market in crash.markets:  # they ship, and the event has a window on their chain
            config = find_market(market)
            assert config.chain_id in chains
        assert crash.unknown  # no event is known whole, and its file says what is not
        for told in crash.reported:
            assert all((told.source, told.definition, told.scope, told.period))
        if crash.path is not None:
            window = crash.windows[0]
            begin, end = (seconds_of(time, "") for time in (window.from_time, window.until_time))
            times = crash.path.times()
            assert begin - 86_400 < times[0] <= times[-1] <= end
            assert len(times) < 20


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title", "titel", "unknown field `titel`"),
        ('value = "1000"', "value = 1000", "Expected `str`, got `int`"),
        ('value = "1000"', 'value = "1,000"', "the reported value '1,000'; give a decimal number as text"),
        ('value = "1000"', 'value = "１０"', "the reported value"),
        ('value = "1000"', 'value = "nan"', "the reported value"),
        ('tag = "derived"', 'tag = "memory"', "Invalid enum value 'memory'"),
        ('measure = "seized"\n', "", "give measure and markets together"),
        ('measure = "seized"', 'measure = "profit"', "Invalid enum value 'profit'"),
        ('markets = ["maker-eth-a"]\n[[windows]]', "markets = []\n[[windows]]", "names market 'maker-eth-a'; name it"),
        ('until_time = "2020-03-13"', 'until_time = "2020-03-12"', "give a later end"),
        ('until_time = "2020-03-13"', 'until_time = "soon"', "until_time = 'soon' is no date"),
        ('until_time = "2020-03-13"', 'until_time = "2020-03-13"\nfrom_block = 5', "give both, in order, or none"),
        ("[path]", "[paths]", "unknown field `paths`"),
        ('["2020-03-13", "1"]', '["2020-03-12", "1"]', "points that are not in order of time"),
        ('["2020-03-13", "1"]', '["2020-03-13", "0"]', "the price '0' at 2020-03-13; give a number above zero"),
        (', ["2020-03-13", "1"]', "", "a path of 1 points"),
        ("bonus = 10500", "bonus = 500", "book.bonus = 500; give 10000 to 20000"),
        ("healths = [10100, 20000]", "healths = [20000, 10100]", "give two bounds above 10000, in order"),
        ("accounts = 10\n", "", "missing required field `accounts`"),
        (PATH[PATH.index("[book]") :], "", "give path and book together"),
        ('title = "Made up"', 'title = "Made \\u001b[31m up"', "cannot be shown as it is"),
        ('name = "own"', 'name = "own', "own.toml"),
    ],
)
def test_broken_files_are_one_line(old: str, new: str, said: str) -> None:
    text = OWN + PATH
    assert parse_crash(text, "own.toml").name == "own"
    assert text.count(old) == 1
    with pytest.raises(UserError) as error:
        parse_crash(text.replace(old, new), "own.toml")
    assert said in str(error.value)
    assert str(error.value).startswith("own.toml")
    assert "\n" not in str(error.value)


@given(st.binary(max_size=300))
def test_whatever_a_file_holds_is_read_or_one_line(data: bytes) -> None:
    try:
        parse_crash(data.decode("utf-8", "replace"), "own.toml")
    except UserError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said


# -- ours beside what was reported
# ---------------------------------------------------------------------------------------------------------------------


def _ours(market: str, currency: str = "USD", *, seized: str = "900", stands_for: str | None = None) -> Ours:
    history = {"seized": Decimal(seized), "bad_debt": Decimal(0), "liquidations": Decimal(3)}
    baseline = {"seized": Decimal(800), "bad_debt": Decimal(1), "liquidations": Decimal(5)}
    return Ours(market, stands_for or market, currency, "blocks 1 to 9", "10:00 to 11:00 UTC", history, baseline)


def test_differences_are_named() -> None:
    crash = find_crash("2024-08-05")
    text = "\n".join(beside(crash, [_ours("base"), _ours("mine", seized="0.5", stands_for="gnosis")]))
    assert "reported  253,400,000 USD: value of liquidations; Aave V3, all chains; 5 August 2024" in text
    assert "ours      history 900.50 USD, baseline 1,600.00 USD (base, mine)" in text
    assert "what: value of liquidations; ours: collateral taken at oracle prices" in text
    absent = "ethereum-core, arbitrum, avalanche, optimism, polygon, bnb"
    assert f"where: Aave V3, all chains; ours: base, mine; not {absent}" in text
    assert "when: 5 August 2024; ours: blocks 1 to 9 (10:00 to 11:00 UTC)" in text
    assert "mine stands in the place of gnosis, at your word" in text
    assert "ours      none: a replay of a market here does not tell it" in text
    assert "ours      none: no market of its scope is at hand (maker-eth-a)" in text


def test_currencies_are_not_added_up() -> None:
    crash = find_crash("2021-05-19")
    text = "\n".join(beside(crash, [_ours("maker-eth-a"), _ours("maker-eth-b", "EUR")]))
    assert "history 900.00 USD, baseline 800.00 USD (maker-eth-a)" in text
    assert "history 900.00 EUR, baseline 800.00 EUR (maker-eth-b)" in text
    assert "unit: USD; ours: USD, EUR" in text


@pytest.mark.slow
def test_a_lake_is_replayed_beside_what_was_reported(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    """The bundled market in the place of a market of the event, in the days of its liquidations."""
    shutil.copytree(resource("sample") / "lake", tmp_path / "lake")
    run("reconstruct", "--lake", tmp_path / "lake", "--market", "sample-crash")
    lake = Lake(tmp_path / "lake")
    words = ("--lake", tmp_path / "lake", "--market", "maker-eth-a=sample-crash")
    ((chain, first, last),) = lake.sql(
        "SELECT any_value(chain_id), min(timestamp), max(timestamp) FROM liquidations WHERE market = 'sample-crash'"
    ).fetchall()
    code, out, err = run("crash", "2020-03-12", *words)
    assert (code, out) == (2, "")
    assert f"crash 2020-03-12 has no window on chain {chain}" in err
    own = OWN.replace("chain_id = 1", f"chain_id = {chain}")
    (tmp_path / "own.toml").write_text(own.replace("2020-03", "2015-09"))
    code, out, err = run("crash", tmp_path / "own.toml", *words)
    assert (code, out) == (2, "")
    assert "the history of 'sample-crash' is " in err
    assert err.count("\n") == 1
    begin, until = (datetime.fromtimestamp(time, UTC).isoformat()[:19] for time in (first - 600, last + 600))
    (tmp_path / "own.toml").write_text(own.replace('"2020-03-12"', f'"{begin}"').replace('"2020-03-13"', f'"{until}"'))
    code, out, err = run("crash", tmp_path / "own.toml", *words)
    assert code == 0, err
    ((seized,),) = lake.sql(
        "SELECT sum(seized_usd + protocol_fee_usd) FROM liquidations WHERE market = 'sample-crash'"
    ).fetchall()
    line = next(line for line in out.splitlines() if line.startswith("  ours"))
    told = float(line.split("history ")[1].split(" ")[0].replace(",", ""))
    assert told == pytest.approx(seized, rel=1e-4)
    assert "sample-crash stands in the place of maker-eth-a, at your word" in out
    lake.refresh()
    names = [name for (name,) in lake.sql("SELECT name FROM runs WHERE market = 'sample-crash'").fetchall()]
    assert {"history of own", "baseline of own"} <= set(names)


@pytest.mark.slow
def test_what_is_missing_is_fetched_from_a_node(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    """A market of two liquidations, of which the event's hour holds the first: bob's, 5,000 of debt and the penalty."""
    own = OWN.replace("chain_id = 1", f"chain_id = {CONFIG.chain_id}")
    begin, until = (datetime.fromtimestamp(1_600_000_000 + 12 * block, UTC).isoformat()[:19] for block in (30, 40))
    (tmp_path / "own.toml").write_text(own.replace('"2020-03-12"', f'"{begin}"').replace('"2020-03-13"', f'"{until}"'))
    top = f'name = "{CONFIG.name}"\nprotocol = "{CONFIG.protocol}"\nchain_id = {CONFIG.chain_id}\nbase_decimals = 18\n'
    tables = {"parameters": CONFIG.parameters, "contracts": CONFIG.contracts}
    parts = ["\n".join([f"[{name}]", *(f'{k} = "{v}"' for k, v in held.items())]) for name, held in tables.items()]
    (tmp_path / "market.toml").write_text("\n".join([f"{top}start_block = {CONFIG.start_block}", *parts]))
    place = ("--lake", tmp_path / "lake", "--market", f"maker-eth-a={tmp_path / 'market.toml'}", "--finality", 0)
    with ChainNode(script().chain()) as node:
        code, out, err = run("crash", tmp_path / "own.toml", "--rpc", node.url, *place)
        again = run("crash", tmp_path / "own.toml", "--rpc", node.url, *place)
    assert code == 0, err
    assert f"maker-eth-a: size of the fetch not known; from block {CONFIG.start_block} to {until}" in out
    assert f"{CONFIG.name} stands in the place of maker-eth-a" in out
    lake = Lake(tmp_path / "lake")
    assert max(stop for source in lake.sources(CONFIG.name) for _, stop in lake.covered(CONFIG.name, source)) == 40
    ((seized,),) = lake.sql("SELECT sum(seized_usd) FROM liquidations").fetchall()
    line = next(line for line in out.splitlines() if line.startswith("  ours"))
    assert float(line.split("history ")[1].split(" ")[0].replace(",", "")) == pytest.approx(seized, abs=0.01)
    assert seized > 0
    assert next(line for line in again[1].splitlines() if line.startswith("  ours")) == line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["2024-8-5"], "there is no crash '2024-8-5'; did you mean '2024-08-05'?"),
        (["2024-08-05", "--market", "bass"], "crash 2024-08-05 has no market 'bass'; did you mean 'base'?"),
        (["2022-06", "--illustrate"], "crash 2022-06: no price path of it is known here"),
        (["--illustrate"], "no crash named"),
        (["2021-05-19", "--illustrate", "--rpc", "http://127.0.0.1:1"], "a model book needs none of them"),
        (["2020-11-26", "--lake", "LAKE"], "crash 2020-11-26 names no market that ships"),
        (["2021-05-19", "--lake", "LAKE"], "there is no lake at"),
        (["nowhere.toml"], "nowhere.toml"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]], words: list[str], said: str
) -> None:
    code, out, err = run("crash", *(word.replace("LAKE", str(tmp_path / "lake")) for word in words))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_lake_without_its_markets_is_named(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    Lake(tmp_path / "lake", create=True)
    code, _, err = run("crash", "2021-05-19", "--lake", tmp_path / "lake")
    assert code == 2
    assert "holds none of the markets of crash 2021-05-19 (maker-eth-a, maker-eth-b); it holds: none" in err


def test_all_are_listed_and_each_is_shown(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("crash")
    assert code == 0
    assert all(name in out for name in NAMES)
    code, out, _ = run("crash", "2022-06")
    assert "not known: what was liquidated: no figure of those days was at hand" in out
    assert "800,000,000 USD: withdrawn from Curve, about" in out


# -- the illustration
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [crash.name for crash in shipped() if crash.path is not None])
def test_an_illustration_says_in_its_first_line_that_it_is_one(
    name: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = run("crash", name, "--illustrate")
    assert code == 0
    assert out.startswith("ILLUSTRATION, not the event: a model book of ")
    assert "which are no one's" in out.splitlines()[0]


def test_an_illustration_by_hand() -> None:
    """Two accounts of 100 debt at 80 %: healths 1.1 and 2. A fall of 20 % liquidates the first alone: 50 of debt for
    52.5 of value, which leaves 110 - 52.5 = 57.5 against 50, health 0.92: again 25 for 26.25 (31.25 against 25, at
    80 % exactly 1: safe).
    """
    path = Prices(collateral="A", debt="B", source="", points=(("2020-01-01", "1"), ("2020-01-02", "0.8")))
    book = ModelBook(accounts=2, debt=200, threshold=8_000, bonus=10_500, close_factor=5_000, healths=(11_000, 20_000))
    made = illustrated(path, book)
    assert (made.liquidated, made.liquidations) == (1, 2)
    assert made.repaid == 75 * WAD
    assert made.seized == pytest.approx(78.75 * 10**18, abs=2)
    assert made.bad_debt == 0


@given(st.integers(1, 60), st.integers(1, 10**9), st.integers(5_000, 9_900), st.integers(1, 10**24))
def test_the_book_is_what_it_states(accounts: int, each: int, threshold: int, price: int) -> None:
    text = f"{price // 10**18}.{price % 10**18:018d}"
    path = Prices(collateral="A", debt="B", source="", points=(("2020-01-01", text), ("2020-01-02", text)))
    book = ModelBook(
        accounts=accounts,
        debt=accounts * each,
        threshold=threshold,
        bonus=BPS,
        close_factor=1,
        healths=(10_100, 30_000),
    )
    vaults = vaults_of(path, book)
    assert len(vaults) == accounts
    assert sum(debt for _, debt in vaults) == book.debt * WAD
    for held, owed in vaults:
        health = held * price * threshold / (owed * WAD * BPS)
        assert 1.0099999 <= health <= 3.0000001 + price * threshold / (owed * WAD)
