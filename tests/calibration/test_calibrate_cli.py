"""``backtest calibrate``: fragments that scenarios take, what they say they rest on, and one line for every mistake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from backtest.calibration.fitting import fragment, generator
from backtest.cli import main
from backtest.scenario import LatencyRace, Participation, Scenario, SealedBid
from backtest.scenario.toml import parse_scenario
from tests.support.calibration_files import liquidations, written
from tests.support.import_exports import real

Said = Callable[..., str]
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What ``backtest calibrate`` prints: the TOML, or the line of an error."""

    def run(*words: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as end:
            main(["calibrate", *map(str, words)])
        out, err = capsys.readouterr()
        assert end.value.code == code, err
        assert (err.count("\n"), out if code else err) == (1 if code else 0, "")
        return err if code else out

    return run


def quotes(folder: Path, sold: str = WETH) -> Path:
    """240 quotes of a pool of 1,000 tokens at 2,000, in 12 rounds."""
    sizes = np.exp(generator(2).uniform(-9, 0, (12, 20)))
    rows = [
        {
            "src": sold,
            "dst": USDC,
            "in_amount": 10**21 * size,
            "out_amount": 2_000 * 10**9 * size / (1 + size),
            "timestamp": 1_700_438_400 + 3_600 * r + i,
        }
        for r, part in enumerate(sizes)
        for i, size in enumerate(part)
    ]
    return written(folder / "quotes.csv", rows)


def auctions(folder: Path) -> Path:
    numbers = generator(3).negative_binomial(1.24, 1.24 / 4.54, 800)
    return written(folder / "auctions.csv", [{"bidders": number} for number in numbers])


def bids(folder: Path, *, values: bool = False) -> Path:
    """Shares of 1 - 0.6 / (n + 1) and a little, of 2 to 10 searchers, and 50 auctions with one."""
    random = generator(4)
    rows = [
        {"searchers": 2 + i % 9, "share": 1 - 0.6 / (3 + i % 9) + 0.01 * random.standard_normal()} for i in range(300)
    ]
    alone = [{"searchers": 1, "share": 0}] * 50
    return written(folder / "bids.csv", [{**row, **({"value": 10**10} if values else {})} for row in [*rows, *alone]])


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_race_from_liquidations(said: Said, tmp_path: Path) -> None:
    text = said("latency", liquidations(tmp_path), "--block-seconds", "2", "--searchers", "4", "--draws", "19")
    race = parse_scenario(text, "fragment").liquidators
    assert isinstance(race, LatencyRace)
    assert [one.latency for one in race.each] == [race.each[0].latency] * 4
    assert (
        4 * 2_000 * 2.4 < race.each[0].latency < 4 * 2_000 * 3.6
    )  # a mean of three blocks of two seconds, of the fastest of four
    assert race.block_seconds == 2
    assert "300 liquidations, 2022-04-15, blocks 1000 to 15950." in text
    assert (
        "Left out: 100 rows without an update found, 10 rows at 100 blocks or beyond, 20 rows of a transaction already"
        " counted." in text
    )
    assert "the first 210 rows are fitted, the other 90 held out" in text
    assert "the file says 2 s from update to liquidation" in text
    assert text == said("latency", liquidations(tmp_path), "--block-seconds", "2", "--searchers", "4", "--draws", "19")
    assert "270 rows outside the blocks chosen" in said(
        "latency", liquidations(tmp_path), "--block-seconds", "2", "--from-block", "8000", "--draws", "1"
    )


@pytest.mark.parametrize(
    ("options", "mean", "size"),
    [
        (("--single-share", "0.36", "--conditional"), 17_846, None),
        (("--recapture", "0.73"), 25_865, None),
        (("--mean", "3.3", "--none-share", "0.2"), 33_000, 12_403),
    ],
)
def test_participation_from_one_figure(options: Sequence[str], mean: int, size: int | None, said: Said) -> None:
    model = parse_scenario(said("participation", *options), "fragment").liquidators
    assert isinstance(model, Participation)
    assert (model.mean, model.distribution) == (mean, "poisson" if size is None else "negative-binomial")
    assert size is None or model.dispersion == size
    assert isinstance(model.searchers, int)
    assert model.searchers > mean / 10_000


def test_participation_from_counts(said: Said, tmp_path: Path) -> None:
    out = tmp_path / "fragment.toml"
    printed = said("participation", auctions(tmp_path), "--out", out)
    model = parse_scenario(out.read_text(), "fragment").liquidators
    assert isinstance(model, Participation)
    assert model.distribution == "negative-binomial"
    assert 27_000 < model.mean < 39_000
    assert 9_000 < model.dispersion < 16_000
    assert f"written: {out}" in printed
    assert "the first 560 are fitted, the other 240 held out" in printed
    assert "[liquidators]" not in printed


@pytest.mark.parametrize("values", [False, True])
def test_bid_shares(values: bool, said: Said, tmp_path: Path) -> None:
    file = bids(tmp_path, values=values)
    text = said("bid-share", file, *([] if values else ["--value", 10**10]))
    model = parse_scenario(text, "fragment").liquidators
    assert isinstance(model, SealedBid)
    assert model.private_cost == pytest.approx(3 * 10**9, rel=0.03)
    assert "50 with fewer than two are left out" in text


@pytest.mark.parametrize("pair", ["all", f"{WETH}/{USDC.upper().replace('0X', '0x')}"])
def test_curves_from_quotes(pair: str, said: Said, tmp_path: Path) -> None:
    text = said("depth", quotes(tmp_path), "--pair", pair)
    [entry] = parse_scenario(text, "fragment").costs.slippage
    assert (entry.asset, entry.model, entry.measured) == (WETH, "depth", "2023-11-20, one calm day")
    for size, loss in entry.curve:  # the pool holds tokens worth two million dollars
        share = size / (2_000_000 * 10**8)
        assert loss / 10_000 == pytest.approx(share / (1 + share), abs=0.02)
    other = said("depth", quotes(tmp_path), "--pair", pair, "--price", "2", "--base-decimals", "18")
    assert parse_scenario(other, "fragment").costs.slippage[0].curve[-1][0] == pytest.approx(
        2 * 10**10 * entry.curve[-1][0], rel=1e-6
    )


def test_fragments_go_together(said: Said, tmp_path: Path) -> None:
    parts = [
        'name = "calibrated"\n',
        said("participation", "--recapture", "0.73"),
        said("depth", quotes(tmp_path), "--pair", "all"),
    ]
    scenario = parse_scenario("\n".join(parts), "scenario.toml")
    assert isinstance(scenario.liquidators, Participation)
    assert [entry.asset for entry in scenario.costs.slippage] == [WETH]
    assert scenario.name == "calibrated"


def test_a_fragment_says_what_it_was_given() -> None:
    text = fragment(
        ["a", "", "b"], {"costs.slippage": [{"model": "depth", "measured": 'a "b" \\', "curve": [(1, 2)]}], "users": {}}
    )
    assert text.startswith("# a\n#\n# b\n\n[[costs.slippage]]\n")
    assert parse_scenario(text, "fragment").costs.slippage[0].measured == 'a "b" \\'
    assert parse_scenario(fragment([], {}), "fragment") == Scenario()


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["latency", "nothing.csv", "--block-seconds", "1"], "No such file or directory"),
        (["latency", "empty.csv", "--block-seconds", "1"], "no column 'tx'; the file is empty"),
        (["latency", "typo.csv", "--block-seconds", "1"], "no column 'dist'; did you mean 'dits'?"),
        (["latency", "text.csv", "--block-seconds", "1"], "text.csv line 2: dist is 'far'; give a number of 0 or more"),
        (["latency", "half.csv", "--block-seconds", "1"], "half.csv line 2: dist is '1.5'; give a whole number"),
        (["latency", "binary.csv", "--block-seconds", "1"], "binary.csv is no CSV file"),
        (["latency", "few.csv", "--block-seconds", "1"], "each part needs 20 rows or more"),
        (["latency", "few.csv", "--block-seconds", "0"], "give seconds above zero"),
        (["participation"], "nothing to fit; give a file"),
        (["participation", "few.csv", "--recapture", "0.5"], "FILE and --recapture to fit"),
        (["participation", "--mean", "3"], "--mean and --none-share together"),
        (["participation", "--recapture", "0.5", "--conditional"], "it counts auctions without bidders"),
        (["participation", "few.csv"], "no column 'bidders'"),
        (["participation", "few.csv", "--column", "dist", "--split", "2"], "give a share between 0 and 1"),
        (["participation", "negative.csv"], "negative.csv line 3: bidders is '-1'; give a number of 0 or more"),
        (["participation", "--single-share", "36", "--conditional"], "0.36 is 36 %"),
        (["bid-share", "bids.csv"], "no column value, and no --value"),
        (["bid-share", "bids.csv", "--value", "0"], "give base units, 1 or more"),
        (["bid-share", "valued.csv", "--value", "5"], "values in the file and --value; leave --value out"),
        (["depth", "quotes.csv", "--pair", f"{USDC}/{WETH}"], "no quotes of"),
        (["depth", "quotes.csv", "--pair", "all", "--into", WETH], "no quotes into"),
        (["depth", "quotes.csv", "--pair", f"{WETH}/{USDC}", "--pair", f"{WETH}/{USDC}"], "a token sold twice"),
        (["depth", "other.csv", "--pair", f"{USDC}/{WETH}"], "give --price and --decimals of the token bought"),
        (["depth", "zero.csv", "--pair", "all"], "zero.csv line 2: a quote of nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_get_one_line(
    words: list[str], line: str, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bids(tmp_path, values=True).rename("valued.csv")
    bids(tmp_path)
    quotes(tmp_path)
    few = {"tx": "0x1", "block": 5, "dist": 1}
    quote = {"src": USDC, "dst": WETH, "in_amount": 1, "out_amount": 1, "timestamp": 1}
    Path("empty.csv").write_text("")
    Path("binary.csv").write_bytes(b"tx,block,dist\n\xff\xfe\x00")
    written(tmp_path / "few.csv", [few])
    written(tmp_path / "typo.csv", [{"tx": 1, "block": 1, "dits": 1}])
    written(tmp_path / "text.csv", [{**few, "dist": "far"}])
    written(tmp_path / "half.csv", [{**few, "dist": 1.5}])
    written(tmp_path / "negative.csv", [{"bidders": 1}, {"bidders": -1}])
    written(tmp_path / "other.csv", [quote])
    written(tmp_path / "zero.csv", [{**quote, "in_amount": 0}])
    assert line in said(*words, code=2)


# -- real history ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_latency_on_arbitrum(said: Said) -> None:
    """Under Nitro a block is a quarter of a second; most winners are in the next block, the others far behind: no
    exponential fits that.
    """
    text = said(
        "latency", real("latency") / "aave_compound_arbitrum.csv", "--block-seconds", "0.25", "--from-block", "22207817"
    )
    assert "1,027 liquidations, 2022-09-01 to 2023-08-31" in text
    assert (
        "1,885 rows without an update found, 2,613 rows outside the blocks chosen, 33 rows of a transaction already"
        " counted" in text
    )
    assert "the file says 0.252 s from update to liquidation" in text
    assert "Best on what was held out: log-normal." in text
    race = parse_scenario(text, "fragment").liquidators
    assert isinstance(race, LatencyRace)
    assert 5 * 700 < race.each[0].latency < 5 * 1_700


def test_depth_of_a_calm_day(said: Said) -> None:
    """WETH into USDC: the quotes of one million dollars lose a few basis points, those of a hundred million more than
    the bonus of a market.
    """
    file = real("depth") / "aggregator_quotes_2023-11-20.csv"
    entries = parse_scenario(said("depth", file, "--pair", "all"), "fragment").costs.slippage
    assert len(entries) == 7
    assert {entry.measured for entry in entries} == {"2023-11-20, one calm day"}
    [weth] = [entry for entry in entries if entry.asset == WETH]
    sizes, losses = np.array(weth.curve).T
    assert np.interp(10**6 * 10**8, sizes, losses) < 20
    assert 300 < np.interp(10**8 * 10**8, sizes, losses) < 900
