"""A scripted sequence of logs, made by a second writing of the pair's own bookkeeping: the fold gives back its state,
and one unit more in a log stops it at its block.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pytest
from msgspec.structs import replace

from backtest.errors import RulesError, UserError
from backtest.model import AccountId
from backtest.protocols.fraxlend.claims import claims
from backtest.protocols.fraxlend.events import price_sources, readings, tokens
from backtest.protocols.fraxlend.fold import fold
from backtest.tables import CANONICAL
from tests.protocols.fraxlend.hand import E18
from tests.protocols.fraxlend.pair import ALICE, FRAX, KEEPER, LENDER, ORACLE, PAIR, WETH, Raw, config, folded, played


def test_the_fold_gives_back_the_state() -> None:
    script = played()
    rows = folded(script)
    names = [row["account"] for row in rows["accounts"]]
    assert names == ["0x" + each.hex() for each in (PAIR, LENDER, ALICE, KEEPER)]
    sums: dict[tuple[int, int, str], int] = defaultdict(int)
    for row in rows["position_events"]:
        sums[row["account_id"], row["asset_id"], row["side"]] += int(row["delta"])
    assert sums[0, 0, "collateral"] + sums[1, 0, "collateral"] == script.fshares
    assert (sums[2, 0, "debt"], sums[2, 1, "collateral"], sums[0, 1, "collateral"]) == (0, 0, E18 // 10)
    (row,), (lost,) = rows["liquidations"], rows["deficits"]
    assert (row["account_id"], row["liquidator_id"], int(row["debt_scaled"])) == (2, 3, 1_150 * E18)
    assert (int(row["seized"]), int(row["protocol_fee"])) == (9 * E18 // 10, E18 // 10)
    assert int(row["repaid"]) > 1_150 * E18
    assert int(lost["amount"]) > 250 * E18
    assert [int(each["price"]) for each in rows["prices"]] == [E18 // 2_000, E18 // 2_000, E18 // 1_250]
    assert sum(each["name"] == "accrued_with_action" for each in rows["params"]) == 4


@pytest.mark.parametrize(
    ("event", "column", "what"),
    [
        ("AddInterest", "interest", "interest and fee shares"),
        ("AddInterest", "fee_shares", "interest and fee shares"),
        ("UpdateRate", "new_full_rate", "a rate and a rate at full use"),
        ("RepayAsset", "shares", "other shares"),
        ("Liquidate", "fee", "without the logs"),
        ("Deposit", "assets", "a rate and a rate at full use|interest and fee shares"),
    ],
)
def test_a_log_that_says_something_else_stops_the_fold(event: str, column: str, what: str) -> None:
    script = played()
    place = next(n for n, log in enumerate(script.logs) if log[1] == event and (event == "UpdateRate" or n > 8))
    place = max(n for n, log in enumerate(script.logs) if log[1] == event) if event != "Deposit" else place
    script.logs[place][2][column] += 10**20 if event == "Deposit" else 1
    with pytest.raises(RulesError, match=what):
        folded(script)


def test_what_is_refused_by_name() -> None:
    script = played()
    script.version = 2
    with pytest.raises(RulesError, match="not of version 3"):
        folded(script)
    with pytest.raises(UserError, match="write base_decimals = 18 and price_decimals = 18"):
        list(fold(replace(config(), base_decimals=8), Raw(played())))


def test_what_is_asked() -> None:
    raw = Raw(played())
    assert len(list(readings(raw))) == 17
    assert tokens(raw) == ["0x" + FRAX.hex(), "0x" + WETH.hex()]
    unit, price = price_sources(raw)
    assert (unit.fixed, price.oracle, price.getter, price.place) == (E18, "0x" + ORACLE.hex(), "getPrices()", 1)


def test_what_the_contract_must_return() -> None:
    script = played()
    rows = folded(script)

    def tables(name: str, columns: Sequence[str]) -> pa.Table:
        return pa.Table.from_pylist(rows[name], CANONICAL[name]).select(list(columns))

    lender = "0x" + LENDER.hex()
    told = {claim.function: claim.value for claim in claims(config(), tables, [9], {AccountId(1): lender})}
    assert (told["totalAsset()"], told["totalBorrow()"]) == (script.fshares, script.shares)
    assert (told["totalCollateral()"], told["userBorrowShares(address)"]) == (E18 // 10, 0)
