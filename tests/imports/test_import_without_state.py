"""Liquidations alone answer SQL, what no fold reads is named, amounts come in either unit, and known tokens have their
decimals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backtest.cli.check import check
from backtest.cli.import_ import lines
from backtest.cli.info import info
from backtest.cli.reconstruct import reconstruct
from backtest.errors import UserError
from backtest.imports import import_files, load
from backtest.imports.tokens import known_decimals, parse_tokens
from backtest.lake import Lake
from backtest.lake.mapped import TextDatabase
from backtest.markets import parse_market
from backtest.protocols.morpho_blue.math import incentive_factor
from backtest.resources import resource
from backtest.unread import unread_imports

pytestmark = pytest.mark.slow  # together they take what a quick run has no time for

ID, OTHER = "0x" + "a1" * 32, "0x" + "b2" * 32
USDC = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
TIME = 1_720_000_000
LLTV = 860_000_000_000_000_000


def _event(block: int, event: str, market: str, **own: Any) -> dict[str, Any]:
    place = {"block_number": block, "block_timestamp": TIME + block, "tx_hash": f"0x{block:064x}", "log_index": 3}
    return {**place, "event": event, "id": market, **own}


def _liquidate(block: int, market: str, repaid: int, seized: int) -> dict[str, Any]:
    amounts = {"repaidAssets": str(repaid), "repaidShares": "1", "seizedAssets": str(seized), "badDebtAssets": "0"}
    return _event(block, "Liquidate", market, caller="0x" + "cc" * 20, borrower="0x" + "dd" * 20, **amounts)


def _morpho(folder: Path, *, markets: Sequence[Mapping[str, Any]] = ()) -> Lake:
    """Two liquidations of two Morpho markets, in a lake."""
    folder.mkdir(exist_ok=True)
    rows = [_liquidate(14_000_000, ID, 1_000_000_000, 500), _liquidate(14_000_001, OTHER, 7, 3)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "liquidations.parquet")
    if markets:
        pq.write_table(pa.Table.from_pylist(list(markets)), folder / "markets.parquet")
    lake = Lake(folder / "lake", create=True)
    import_files(lake, load("morpho-liquidations"), folder=folder)
    lake.refresh()
    return lake


def test_liquidations_alone_answer_sql_without_state(tmp_path: Path) -> None:
    created = [_event(13_980_000, "CreateMarket", ID, lltv=str(LLTV))]
    lake = _morpho(tmp_path / "files", markets=created)
    rows = lake.sql(
        "SELECT debt_symbol, collateral_symbol, account, liquidator, repaid, seized, bonus, implied_price,"
        " without_state, seq, repaid_usd FROM liquidations ORDER BY block_number"
    ).fetchall()
    factor = incentive_factor(LLTV)
    assert rows[0][:6] == (f"{ID}:loan", f"{ID}:collateral", "0x" + "dd" * 20, "0x" + "cc" * 20, 10**9, 500)
    assert rows[0][6] == pytest.approx(factor / 10**18 - 1, rel=1e-12)
    assert rows[0][7] == pytest.approx(10**9 * factor / 10**18 / 500, rel=1e-12)
    assert rows[0][8:] == (True, None, None)
    assert rows[1][6:] == (None, None, True, None, None)  # of a market whose creation no file tells: no bonus, no price
    assert lake.sql("SELECT sum(liquidations), sum(accounts) FROM liquidations_by_day").fetchall() == [(2, 2)]


def test_a_bonus_holds_from_its_own_block_on(tmp_path: Path) -> None:
    late = [_event(14_000_001, "CreateMarket", ID, lltv=str(LLTV)), _event(14_000_000, "CreateMarket", OTHER, lltv="0")]
    rows = _morpho(tmp_path / "files", markets=late).sql("SELECT bonus FROM liquidations ORDER BY block_number")
    first, second = (bonus for (bonus,) in rows.fetchall())
    assert first is None
    assert second == pytest.approx(0.15)


@pytest.mark.parametrize("lltv", ["", "-1", "1e18", "1000000000000000000", "0.86", "nan"])
def test_a_threshold_that_is_none_is_quarantined(tmp_path: Path, lltv: str) -> None:
    lake = _morpho(tmp_path / "files", markets=[_event(13_980_000, "CreateMarket", ID, lltv=lltv)])
    assert lake.sql("SELECT reason FROM import_quarantine").fetchall() == [(f"lltv {lltv} is no threshold in wad",)]
    assert lake.sql("SELECT count(*) FROM liquidations WHERE bonus IS NOT NULL").fetchall() == [(0,)]


def test_the_bonus_of_the_mapping_is_that_of_the_contract() -> None:
    draw = Random(17)
    edges = [0, 1, 565_217_391_304_347_826, 565_217_391_304_347_827, LLTV, 980 * 10**15, 10**18 - 1]
    thresholds = [*edges, *(draw.randrange(10**18) for _ in range(2_000))]
    rows = [_event(1, "CreateMarket", f"0x{number:064x}", lltv=lltv) for number, lltv in enumerate(thresholds)]
    texts = [
        {name: str(value) for name, value in {**row, "source_row": f"0:{n}"}.items()} for n, row in enumerate(rows)
    ]
    with TextDatabase({"markets": pa.Table.from_pylist(texts)}) as database:
        found = database.select(load("morpho-liquidations").selects["parameter"], {}, "own").to_pylist()
    assert {row["asset"]: (row["value"], row["problem"]) for row in found} == {
        f"0x{number:064x}:collateral": (str(incentive_factor(lltv)), None) for number, lltv in enumerate(thresholds)
    }


def test_what_no_fold_reads_is_named_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = _morpho(tmp_path / "files", markets=[_event(13_980_000, "CreateMarket", ID, lltv=str(LLTV))])
    wanted = {"rows of Liquidation": 2, "rows of Parameter": 1}
    assert unread_imports(lake, "morpho-blue-base") == wanted
    said = ["read by no fold: 2 rows of Liquidation", "read by no fold: 1 rows of Parameter"]
    for verb in (info, reconstruct, check):
        assert not verb(lake=Path(str(lake.path)))
        out = " ".join(capsys.readouterr().out.split())
        assert all(line in out for line in said), (verb.__name__, out)
    again = import_files(lake, load("morpho-liquidations"), folder=tmp_path / "files")
    assert set(said) < set(lines(again))


# -- a mapping over one file
# ---------------------------------------------------------------------------------------------------------------------

MAPPING = """
description = "liquidations"
{more}
[market]
name = "own"
protocol = "{protocol}"
chain_id = {chain}
queries_only = true
[assets]
{assets}
[sources.rows]
files = "rows*.csv"
columns = ["block", "debt", "repaid", "repaid_units", "seized"]
"""
SELECT = """
SELECT source_row, block, 1700000000 + block::BIGINT AS timestamp, 'me' AS account,
    debt AS debt_asset, $weth AS collateral_asset,
    nullif(repaid, '') AS repaid, nullif(repaid_units, '') AS repaid_native, seized
FROM rows
"""


def _own(folder: Path, rows: Sequence[str], *, chain: int = 1, assets: str = "", protocol: str = "aave-v3") -> Lake:
    folder.mkdir(exist_ok=True)
    more = f'[parameters]\nweth = "{WETH}"'
    text = MAPPING.format(more=more, chain=chain, assets=assets, protocol=protocol)
    (folder / "mapping.toml").write_text(text)
    (folder / "liquidation.sql").write_text(SELECT)
    (folder / "rows.csv").write_text("\n".join(["block,debt,repaid,repaid_units,seized", *rows, ""]))
    lake = Lake(folder / "lake", create=True)
    import_files(lake, load(str(folder)), folder=folder)
    lake.refresh()
    return lake


def _amounts(lake: Lake) -> list[tuple[Any, ...]]:
    return lake.sql("SELECT repaid, seized FROM liquidations ORDER BY block_number").fetchall()


def _reasons(lake: Lake) -> list[str]:
    return [reason for (reason,) in lake.sql("SELECT reason FROM import_quarantine ORDER BY source_row").fetchall()]


def test_rows_give_whole_or_native_units_one_by_one(tmp_path: Path) -> None:
    lake = _own(tmp_path / "own", [f"100,{USDC},1.5,,2", f"101,{USDC},,1500001,0.5", f"102,{USDC},1,1000000,1"])
    assert _amounts(lake) == [
        (Decimal(1_500_000), Decimal(2 * 10**18)),
        (Decimal(1_500_001), Decimal(5 * 10**17)),
    ]
    assert _reasons(lake) == ["repaid: both '1' whole and 1000000 native: give one of them"]


def test_known_tokens_have_their_decimals_by_chain_and_a_mapping_overrides_them(tmp_path: Path) -> None:
    rows = [f"100,{USDC},1.5,,2"]
    assert _amounts(_own(tmp_path / "known", rows)) == [(Decimal(1_500_000), Decimal(2 * 10**18))]
    own = _own(tmp_path / "overridden", rows, assets=f'"{USDC.lower()}" = 8')
    assert _amounts(own)[0][0] == 150_000_000
    other = _own(tmp_path / "other chain", rows, chain=10)
    assert _amounts(other) == []
    assert _reasons(other) == [
        f"repaid: the decimals of '{USDC}' are not known: say them under [assets] of mapping.toml"
    ]


def test_a_bonus_in_other_units_than_wad_is_quarantined(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "parameter.sql").write_text(
        f"SELECT source_row, block, 1700000000 + block::BIGINT AS timestamp, 'liquidation_bonus' AS name, '{WETH}' AS"
        " asset, seized AS value, CASE WHEN contains(seized, '.') THEN '18' END AS decimals FROM rows"
    )
    lake = _own(folder, [f"100,{USDC},,5,1.05", f"101,{USDC},,5,10500"])
    assert _reasons(lake) == ["value: a liquidation_bonus of 10500: give one and the bonus in wad (1.05, decimals 18)"]
    ((bonus, price),) = lake.sql("SELECT bonus, implied_price FROM liquidations WHERE bonus IS NOT NULL").fetchall()
    assert (bonus, price) == (pytest.approx(0.05), pytest.approx(5 * 1.05 / 1.05e18))


def test_a_protocol_that_does_not_exist_is_refused_with_those_that_can(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown protocol 'aave-v9'; did you mean 'aave-v3'\?.*maker can be folded"):
        _own(tmp_path / "own", [f"100,{USDC},1,,1"], protocol="aave-v9")
    assert Lake(tmp_path / "own/lake").markets() == []


# -- the bundled list
# ---------------------------------------------------------------------------------------------------------------------


def test_bundled_tokens_are_well_formed_and_of_their_chain() -> None:
    files = sorted(resource("tokens").glob("*.toml"))
    assert {int(file.stem) for file in files} >= {1, 10, 137, 8453, 42161}
    assert all(known_decimals(int(file.stem)) for file in files)
    assert [known_decimals(1)[address] for address in (USDC.lower(), WETH)] == [6, 18]
    assert known_decimals(999_999) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chain_id = 1", "missing required field `decimals`"),
        ('chain_id = 1\n[decimals]\n"0xAb" = 18', "give 0x and 40 lower-case hex digits"),
        (f'chain_id = 1\n[decimals]\n"{WETH}" = 39', "decimals from 0 to 38"),
        (f'chain_id = 1\n[decimals]\n"{WETH}" = "18"', "Expected `int`, got `str`"),
        ("chain_id = 1\nother = 2\n[decimals]", "unknown field `other`"),
        ("chain_id = ", "own.toml"),
    ],
)
def test_broken_lists_of_tokens_are_one_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        parse_tokens(text, "own.toml")
    assert "\n" not in str(error.value)


def test_the_bundled_wrapped_ether_is_that_of_the_market_files() -> None:
    maker = parse_market((resource("markets") / "maker-eth-a.toml").read_text(encoding="utf-8"), "maker-eth-a.toml")
    assert {known_decimals(1)[maker.contracts[role]] for role in ("gem", "dai")} == {18}
