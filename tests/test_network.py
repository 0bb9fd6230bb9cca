"""``backtest contagion``: the markets of ``tests/contagion/test_fire_sales.py`` in a lake."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from backtest.cli import main
from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import USD, USDC, WETH, History, borrower, market
from tests.support.sketch_lake import CONFIG, lake_of

pytestmark = pytest.mark.slow

TOKENS = tuple(f"0x{place:040x}" for place in range(3))
ASKED = [
    "--market", "a", "--market", "b", "--market", "c", "--shock", "WETH=47.5", "--impact", "WETH=constant-product:340",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _sketch_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "sketch", FixedSpreadPool())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    c = History(market(("WETH", 18), ("USDC", 6), ("bUSDC", 6), accounts=4, name="c"))
    c.param("liquidation_threshold", 8000, asset=2).param("liquidation_bonus", 10500, asset=2)
    c.param("close_factor", 10_000).price(USDC, USD).price(2, USD)
    c.position(3, 2, "collateral", 1_000 * 10**6).position(3, USDC, "debt", 781 * 10**6, "borrow")
    for h, receipts in ((_lent("a", 70, 60_000), {}), (_lent("b", 10, 8_200), {"USDC": TOKENS[2]}), (c, {})):
        config = msgspec.structs.replace(CONFIG, name=h.market.name)
        found = lake_of(tmp_path / "lake", h, config=config, receipts=receipts)
    return found


def _lent(name: str, eth: int, usdc: int) -> History:
    h = History(market(("WETH", 18), ("USDC", 6), accounts=4, name=name))
    h.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
    h.param("close_factor", 10_000).price(WETH, 2000 * USD).price(USDC, USD)
    borrower(h, 0, eth, usdc)
    return h.position(1, USDC, "collateral", 20_000 * 10**6)


def _asked(lake: Lake, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    with pytest.raises(SystemExit) as code:
        main(["contagion", "--lake", str(lake.path), *more])
    said = capsys.readouterr()
    assert code.value.code == 0, said.err
    return said.out


def test_the_three_markets_by_hand(lake: Lake, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """975 $ are lost in ``b``, where alone nothing is, and 781 are repaid in ``c`` for claims on it."""
    rows = json.loads(_asked(lake, capsys, *ASKED, "--format", "json"))
    found = {(row["measure"], row["subject"], row["other"]): row for row in rows}

    def amount(measure: str, subject: str, other: str | None = None) -> int:
        return int(found[measure, subject, other]["amount_base"])

    assert [amount("loss", name) for name in "abc"] == [0, 975 * USD, 0]
    assert [amount("loss alone", name) for name in "abc"] == [0, 0, 0]
    assert [amount("repaid", name) for name in "abc"] == [60_000 * USD, 7_225 * USD, 781 * USD]
    assert amount("contagion", "all") == 975 * USD
    assert amount("spared without market", "a") == 975 * USD
    assert amount("spared without asset", "WETH") == 975 * USD
    assert amount("claim", "c", "b") == 1_000 * USD
    assert amount("debt of common owners", "a", "b") == 8_200 * USD
    assert amount("debt of a common owner", "0x" + "0" * 40, "a") == 60_000 * USD
    # claims of 1,000 on b, an equity of 219 in c: all of it is taken over
    assert found["debt rank", "c", "b"]["number"] == 1
    assert found["debt rank", "a", "b"]["number"] == 0
    # depth: 100 times what lowers the price by 1 %, 340 (1 / sqrt(0.99) - 1) = 1.7129... WETH
    depth = 340 * (0.99**-0.5 - 1) * 2_000 * 100
    assert found["overlap", "a", "b"]["number"] / USD == pytest.approx(140_000 * 20_000 / depth, rel=1e-6)
    share = found["risk index", "a", None]["number"]
    assert share == pytest.approx(7 / 8, rel=1e-6)  # one asset: in proportion to what each holds
    # 8,200 of 20,000 USDC are lent; after a fifth is gone 8,200 of 16,000
    assert found["utilisation", "b", "USDC"]["number"] == pytest.approx(0.41)
    assert found["utilisation after a run", "b", "USDC"]["number"] == pytest.approx(0.5125)
    assert amount("cannot be paid out", "b", "USDC") == 0  # nothing of it stands behind debt
    lake.refresh()
    stored = lake.sql("SELECT count(*), any_value(amount_base) FROM contagion WHERE measure = 'contagion'").fetchone()
    assert stored is not None
    assert (stored[0], int(stored[1])) == (1, 975 * USD)
    said = _asked(lake, capsys, *ASKED)
    assert "Together the markets lose 975.00 USD in 3 rounds, each alone 0" in said
    assert "Owners in several markets" in said
    _asked(lake, capsys, *ASKED, "-o", str(tmp_path / "page.html"))
    assert "Liquidity-weighted overlap" in (tmp_path / "page.html").read_text()
    lake.refresh()
    [(count,)] = lake.sql("SELECT count(DISTINCT contagion_id) FROM contagion").fetchall()
    assert count == 1  # the same again is not stored again


def test_losses_pauses_and_owners(lake: Lake, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Half of ``b``'s deposits gone: claims of 500 pay for 476.19 of 781 in ``c``. A mapping makes its account that of
    the borrower in ``a``.
    """
    mapped = tmp_path / "owners.csv"
    mapped.write_text(f"account,owner,market\n0x{3:040x},0x{0:040x},c\n")
    more = ["--market", "a", "--market", "b", "--market", "c", "--loss", "b=50", "--owners", str(mapped)]
    rows = json.loads(_asked(lake, capsys, *more, "--format", "json"))
    found = {(row["measure"], row["subject"], row["other"]): row["amount_base"] for row in rows}
    assert found["loss", "c", None] == 781 * USD - 47_619_047_700
    assert found["debt of common owners", "a", "c"] == 781 * USD
    whole = _asked(lake, capsys, *more, "--loss", "a=1")
    assert "No price falls" not in whole
    assert "No other of these markets has a deposit token of a as an asset" in whole
    assert "a deposit token of b" not in whole
    quiet = _asked(lake, capsys, *more[:6])
    assert "No price falls and no deposits are gone at first" in quiet
    assert "Left out of" not in quiet
    paused = json.loads(_asked(lake, capsys, *more, "--pause", "b", "--format", "json"))
    assert [row["number"] for row in paused if row["measure"] == "accounts liquidated"] == [0, 0, 0]


def test_one_address_on_two_chains_is_two_tokens(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake_of(tmp_path / "lake", _lent("d", 1, 1), config=msgspec.structs.replace(CONFIG, name="d", chain_id=10))
    with pytest.raises(SystemExit) as code:
        main(["contagion", "--lake", str(lake.path), "--market", "a", "--market", "d"])
    assert code.value.code == 2
    assert "is a token of 'a' on chain 31337 and of 'd' on chain 10" in capsys.readouterr().err


def test_accounts_that_nobody_can_value_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    d = History(market(("WETH", 18), ("USDC", 6), accounts=4, name="d"))
    d.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH).price(USDC, USD)
    borrower(d, 0, 70, 60_000)
    for h in (_lent("a", 70, 60_000), d):
        found = lake_of(tmp_path / "lake", h, config=msgspec.structs.replace(CONFIG, name=h.market.name))
    said = _asked(found, capsys, "--market", "a", "--market", "d", "--shock", "WETH=10")
    assert "- Left out of d: 1 account of which a price is missing." in said
    assert "Left out of a" not in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--market", "a"], "contagion of fewer than two markets"),
        (["--market", "a", "--market", "b", "--shock", "WETH"], "write WETH=30 for 30 %"),
        (["--market", "a", "--market", "b", "--shock", "WETH=130"], "give per cent from 0 to 100"),
        (["--market", "a", "--market", "b", "--shock", "WETH=３０"], "is not a number"),
        (["--market", "a", "--market", "b", "--shock", "DAI=3"], "no market has such an asset"),
        (["--market", "a", "--market", "b", "--loss", "d=3"], "'d' is none of the markets"),
        (["--market", "a", "--market", "nowhere"], "nowhere"),
    ],
    ids=["one market", "no per cent", "too much", "wide digits", "no such asset", "no such market", "not in the lake"],
)
def test_what_a_user_can_mend(lake: Lake, capsys: pytest.CaptureFixture[str], more: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as code:
        main(["contagion", "--lake", str(lake.path), *more])
    assert code.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
