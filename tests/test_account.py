"""One account at any moment: the numbers of the contracts' own view, in blocks with and without events, and between."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backtest import account_at
from backtest.cli import main
from backtest.errors import UserError
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.reconstruct import is_current, reconstruct
from backtest.units import RAY, UINT256_MAX, WAD
from tests.support.aave_stage import DAY, MARKET, Stage
from tests.support.maker_logs import CONFIG, address
from tests.support.vault_fetch import RATIO, fetched, script

SAMPLE = Path(__file__).parent.parent / "data/sample/lake"
Ended = Callable[..., tuple[int, str, str]]

# -- Aave against the contracts ----------------------------------------------------------------------------------------


def _lakes(stage: Stage, folder: Path) -> tuple[Lake, Lake]:
    """The market with the headers of all blocks, and with those of blocks with events."""
    found = []
    for headers in ("all", "events"):
        lake = Lake(folder / headers, create=True)
        config, rpc = stage.market.market_config(MARKET), Rpc(stage.node.url)
        fetch(lake, config, rpc, finality=0, headers=headers)  # type: ignore[arg-type]
        lake.refresh()
        reconstruct(lake, MARKET)
        lake.refresh()
        found.append(lake)
    return found[0], found[1]


def _play(stage: Stage) -> tuple[int, int]:
    """Loans, months of interest in blocks without events, a feed that falls silent; first and last block."""
    market, node, unit = stage.market, stage.node, 10**18
    begin = node.block_number
    one, two, three = stage.people[:3]
    stage.all(market.supply(stage.lender, "DAI", 10**6 * unit), market.supply(stage.lender, "WETH", 10**4 * unit))
    stage.all(market.supply(one, "WETH", 10 * unit), market.supply(two, "wstETH", 5 * unit))
    stage.all(market.supply(three, "LINK", 100 * unit), market.set_emode(two, 1), market.supply(one, "USDC", 10**6))
    stage.all(market.borrow(one, "DAI", 1_000 * unit), market.borrow(two, "WETH", 4 * unit))
    stage.all(market.borrow(three, "DAI", 50 * unit))
    for seconds in (12, 3_600, 40 * DAY):
        stage.wait(seconds)
    stage.all(market.reserves["WETH"].feed.transmit(market.prices()["WETH"] * 9 // 10), market.repay(one, "DAI", unit))
    stage.wait(100 * DAY)
    stage.all(market.reserves["LINK"].feed.transmit(0))
    stage.wait(DAY)
    stage.all(market.supply(two, "DAI", unit))
    return begin, node.block_number


@pytest.mark.parametrize("version", ["3.0", "3.6"])
def test_the_six_numbers_are_those_of_the_contract_at_every_block(
    version: str, chain_packages: None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    stage = Stage(request.getfixturevalue("fresh_v30" if version == "3.0" else "fresh_v36"))
    begin, end = _play(stage)
    whole, sparse = _lakes(stage, tmp_path)
    known = {block for (block,) in sparse.sql("SELECT block_number FROM blocks").fetchall()}
    assert {block for (block,) in whole.sql("SELECT block_number FROM blocks").fetchall()} > known
    timed = reverts = 0
    for block in range(begin, end + 1):
        now = stage.node.timestamp(block)
        for account, theirs in zip(stage.people, stage.market.account_data(stage.people, block), strict=True):
            given = None if block in known else now
            asked = [account_at(whole, MARKET, account, block=block)]
            asked += [account_at(sparse, MARKET, account.upper().replace("X", "x"), block=block, time=given)]
            asked += [account_at(sparse, MARKET, account, time=now)]
            for found in asked:
                ours = None if found.figures is None else tuple(figure.value for figure in found.figures)
                assert ours == theirs, (account, block)
                assert (found.missing is None) == (theirs is not None)
                assert found.timestamp == now
                assert found.since <= found.block <= block
                held = {found.symbols[row.asset] for row in found.holdings if row.collateral}
                assert held <= {"WETH", "wstETH", "LINK", "DAI", "USDC"}
            assert (asked[0].block, asked[1].block) == (block, block)
            assert asked[0].inexact == ()
            # wstETH has an exchange rate of which no log tells; USDC has a cap, of which one does
            held_wsteth = account == stage.people[1] and ours is not None and ours[0] > 0
            assert asked[2].inexact == (("wstETH",) if held_wsteth and block not in known else ())
            timed += block not in known
            reverts += theirs is None
    assert timed > 10
    assert reverts >= 2
    nobody = account_at(whole, MARKET, "0x" + "77" * 20, block=end)
    assert not nobody.known
    assert nobody["health_factor"] == UINT256_MAX
    assert nobody["total_debt_base"] == 0
    assert stage.market.account_data(["0x" + "77" * 20], end) == [(0, 0, 0, 0, 0, UINT256_MAX)]


# -- Maker -------------------------------------------------------------------------------------------------------------


def test_a_vault_is_what_the_vat_holds(tmp_path: Path) -> None:
    """Blocks of events, and those between, by the script's own arithmetic."""
    lake = fetched(script(), tmp_path)
    alice = address("alice")
    expected = {
        10: (10, 5_000, RAY, 2_000),
        19: (10, 5_000, RAY, 2_000),
        20: (10, 5_000, RAY + 10**24, 2_000),
        25: (7, 3_000, RAY + 10**24, 2_000),
        29: (7, 3_000, RAY + 10**24, 2_000),
        30: (7, 3_000, RAY + 10**24, 1_500),
        50: (7, 3_000, RAY + 3 * 10**24, 1_020),
        60: (7, 3_000, RAY + 3 * 10**24, 1_000),
    }
    known = dict(lake.sql("SELECT block_number, timestamp FROM blocks").fetchall())
    for block, (ink, art, rate, price) in expected.items():
        time = None if block in known else max(time for number, time in known.items() if number < block)
        found = account_at(lake, CONFIG.name, alice, block=block, time=time)
        assert (found["ink"], found["art"], found["rate"]) == (ink * WAD, art * WAD, rate)
        assert found["debt"] == art * WAD * rate
        assert found["spot"] == price * WAD * 10**9 * RAY // RATIO
        assert found["health_factor"] == ink * WAD * found["spot"] * WAD // (art * WAD * rate)


# -- command line, errors ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The bundled sample, by the rules of today."""
    lake = Lake(shutil.copytree(SAMPLE, tmp_path_factory.mktemp("sample") / "lake"))
    if not is_current(lake, "sample-crash"):
        reconstruct(lake, "sample-crash")
        lake.refresh()
    return lake


@pytest.fixture
def ended(sample: Lake, capsys: pytest.CaptureFixture[str]) -> Ended:
    """Runs ``backtest account`` on the sample: exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["account", *words, "--lake", str(sample.path)])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def _borrower(lake: Lake) -> str:
    query = "SELECT account FROM health(NULL, [400]) WHERE market = 'sample-crash' AND health IS NOT NULL ORDER BY 1"
    return str(lake.sql(query).fetchall()[0][0])


def test_the_command_prints_the_numbers_of_the_call(sample: Lake, ended: Ended) -> None:
    account = _borrower(sample)
    said = ended(account, "--market", "sample-crash", "--block", "400")
    found = account_at(sample, "sample-crash", account, block=400)
    assert found.figures is not None
    assert said[0] == 0
    numbers = re.findall(r"^  (\w+) +(\d+) ", said[1], re.MULTILINE)
    assert numbers == [(figure.name, str(figure.value)) for figure in found.figures]
    assert f"block 400, {found.timestamp}" in re.sub(r"block 400, .* UTC \((\d+)\)", r"block 400, \1", said[1])


def test_a_time_of_day_is_asked_in_words(sample: Lake, ended: Ended) -> None:
    account = _borrower(sample)
    found = account_at(sample, "sample-crash", account, time="2020-03-12T12:34:56")
    assert found.timestamp == 1_584_016_496
    assert found == account_at(sample, "sample-crash", account, time=1_584_016_496)
    said = ended(account, "--market", "sample-crash", "--date", "2020-03-12T12:34:56")
    assert said[0] == 0
    assert f"{found['health_factor']} " in said[1]
    assert "2020-03-12 12:34" in said[1]
    assert f"no event of the market since block {found.since}" in said[1] or found.since == found.block


@pytest.mark.parametrize(
    "words",
    [
        ("0xnobody", "--block", "400"),
        ("0x" + "77" * 19, "--block", "400"),
        ("0x" + "77" * 20, "--block", "999999"),
        ("0x" + "77" * 20, "--block", "-1"),
        ("0x" + "77" * 20, "--block", "９"),
        ("0x" + "77" * 20, "--block", "9" * 5_000),
        ("0x" + "77" * 20, "--block", "400", "--time", "5"),
        ("0x" + "77" * 20, "--time", "5"),
        ("0x" + "77" * 20, "--date", "2031-01-01"),
        ("0x" + "77" * 20, "--date", "yesterday"),
        ("0x" + "77" * 20, "--date", "2020-03-12", "--block", "400"),
        ("0x" + "77" * 20, "--market", "no-such-market"),
    ],
)
def test_a_moment_or_an_account_that_cannot_be_is_one_line(ended: Ended, words: tuple[str, ...]) -> None:
    market = () if "--market" in words else ("--market", "sample-crash")
    code, out, err = ended(*words, *market)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1, err
    assert len(err) < 400


def test_a_block_without_a_header_asks_for_its_time(tmp_path: Path) -> None:
    lake = fetched(script(), tmp_path)
    with pytest.raises(UserError, match=r"its time is not known.*give --time, between"):
        account_at(lake, CONFIG.name, address("alice"), block=15)
