"""What a Morpho Blue market needs of fetch and of prices: logs by market id, structs in events, oracles of one wide
price.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.abi import event_schema, parse_event
from backtest.errors import FetchError, LakeError
from backtest.fetch import bloom
from backtest.fetch.decode import LogColumns, topic0
from backtest.fetch.question import Omissions, Question
from backtest.fetch.rpc import Header, Log, Topics
from backtest.markets import MarketConfig
from backtest.model import SourceChange
from backtest.prices import oracles
from backtest.prices.fold import fold_prices
from backtest.protocols.morpho_blue.events import EVENTS
from backtest.tables import RAW_STATE
from tests.support.synthetic import MadeLog, bloom_of

ID, OTHER = "0x" + "11" * 32, "0x" + "22" * 32
MORPHO = "0x" + "bb" * 20
LOAN, COLLATERAL, ORACLE, ETH, USD = (f"0x{n:040x}" for n in (1, 2, 3, 4, 5))
SPECS = {spec.name: spec for spec in EVENTS}


@pytest.mark.parametrize(
    ("event", "topic"),
    [
        ("CreateMarket", "0xac4b2400f169220b0c0afdde7a0b32e775ba727ea1cb30b35f935cdaab8683ac"),
        ("Liquidate", "0xa4946ede45d0c6f06a0f5ce92c9ad3b4751452d2fe0e25010783bcab57a67e41"),
        ("AccrueInterest", "0x9d9bd501d0657d7dfe415f779a620a62b78bc508ddc0891fbbd8b7ac0f8fce87"),
        ("BorrowRateUpdate", "0x7120161a7b3d31251e01294ab351ef15a41b91659a36032e4641bb89b121e321"),
        ("SetFeeRecipient", "0x2e979f80fe4d43055c584cf4a8467c55875ea36728fc37176c05acd784eb7a73"),
        ("Withdraw", "0xa56fc0ad5702ec05ce63666221f796fb62437c32db1aa1aa075fc6484cf58fbf"),
    ],
)
def test_topics_are_those_on_the_chain(event: str, topic: str) -> None:
    assert topic0(SPECS[event]) == topic


def test_the_members_of_a_struct_are_columns() -> None:
    names = event_schema(SPECS["CreateMarket"]).names
    assert names[5:] == ["id", "loan_token", "collateral_token", "oracle", "irm", "lltv"]
    assert parse_event("E((uint256 a, address b) s, bool c)").canonical == "E((uint256,address),bool)"


@pytest.mark.parametrize(
    "signature",
    ["E((uint256, bool) x)", "E((uint256 a, string b) x)", "E((uint256 a) indexed x)", "E((uint256 indexed a) x)"],
)
def test_structs_that_cannot_be_columns(signature: str) -> None:
    with pytest.raises(ValueError, match="x"):
        parse_event(signature)


# -- one market's logs
# ---------------------------------------------------------------------------------------------------

QUESTION = Question({"morpho": [MORPHO]}, [SPECS["Supply"], SPECS["Borrow"]], ID)


def log(key: str, block: int = 7) -> Log:
    topics = (topic0(SPECS["Supply"]), key, "0x" + "00" * 32, "0x" + "00" * 32)
    return Log(
        address=MORPHO,
        topics=Topics(*topics),
        data="0x" + "00" * 64,
        block_number=hex(block),
        transaction_hash="0x" + "aa" * 32,
        transaction_index="0x0",
        block_hash="0x" + "cc" * 32,
        log_index="0x0",
    )


def test_the_filter_names_the_market_in_its_second_topic() -> None:
    topics = QUESTION.filter(1, 9)["topics"]
    assert topics == [sorted([topic0(SPECS["Supply"]), topic0(SPECS["Borrow"])]), [ID]]
    assert Question({"morpho": [MORPHO]}, [SPECS["Supply"]]).filter(1, 9)["topics"] == [[topic0(SPECS["Supply"])]]


def test_a_log_of_another_market_was_not_asked_for() -> None:
    assert len(QUESTION.judge([log(ID)], 1, 9)[0]) == 1
    with pytest.raises(FetchError, match=f"block 7 that was not asked for: its second topic is {OTHER}"):
        QUESTION.judge([log(ID), log(OTHER)], 1, 9)


@pytest.mark.parametrize(("key", "suspected"), [(ID, True), (OTHER, False)])
def test_a_block_without_the_market_in_its_bloom_is_not_suspected(key: str, suspected: bool) -> None:
    made = MadeLog(MORPHO, (topic0(SPECS["Supply"]), key), "")
    header = Header(
        number="0x7", hash="0x" + "cc" * 32, parent_hash="0x" + "dd" * 32, timestamp="0x1", logs_bloom=bloom_of([made])
    )
    found, _ = Omissions(QUESTION, "auto").suspects([header], LogColumns.of([]))
    assert (7 in found) == suspected
    assert bloom.bits([header.logs_bloom]).any()


# -- prices
# --------------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 10**60), st.lists(st.integers(0, 10**20), max_size=2), st.lists(st.integers(1, 10**20), max_size=2)
)
def test_a_quotient_is_cut_once(scale: int, base: list[int], quote: list[int]) -> None:
    exact = Fraction(scale)
    for feed in base:
        exact *= feed
    for feed in quote:
        exact /= feed
    assert oracles.quotient_answer(scale, base, quote) == exact.numerator // exact.denominator


@pytest.mark.parametrize(("base", "quote"), [([-1], []), ([5], [0]), ([], [-3])])
def test_a_quotient_that_reverts(base: list[int], quote: list[int]) -> None:
    with pytest.raises(ValueError, match="negative"):
        oracles.quotient_answer(10, base, quote)


def config(base_decimals: int) -> MarketConfig:
    return MarketConfig(
        name="m",
        protocol="morpho-blue",
        chain_id=1,
        start_block=1,
        contracts={"morpho": MORPHO},
        base_decimals=base_decimals,
        price_decimals=46,
    )


CHANGES = [
    SourceChange(3, 0, LOAN, oracles.ZERO_ADDRESS, ORACLE, fixed=10**46),
    SourceChange(3, 0, COLLATERAL, ORACLE, ORACLE, getter="price()"),
]


def table(dataset: str, *rows: dict[str, Any]) -> pa.Table:
    schema = RAW_STATE[dataset]
    return pa.table([pa.array([row[field.name] for row in rows], field.type) for field in schema], schema=schema)


def source(kind: str, **parameters: Any) -> dict[str, Any]:
    made = oracles.Source(ORACLE, kind, "", None, parameters)
    return {
        "address": bytes.fromhex(ORACLE[2:]),
        "kind": kind,
        "description": "",
        "decimals": None,
        "parameters": made.parameters_json,
    }


def reads(*rows: tuple[int, int | None]) -> pa.Table:
    return table(
        "raw/oracle/WideRead",
        *(
            {
                "block_number": block,
                "asset": bytes.fromhex(COLLATERAL[2:]),
                "price": None if price is None else price.to_bytes(32, "big"),
            }
            for block, price in rows
        ),
    )


def test_prices_of_more_than_38_digits_keep_every_digit() -> None:
    """46 decimals, 18 of them of base units: 28 digits are the rest. The loan token's price is one, from the market's
    creation on.
    """
    wide = 17_123 * 10**46 + 10**28 + 9
    raw = {
        "raw/oracle/Source": table("raw/oracle/Source", source("sampled", feeds=[], reason="x")),
        "raw/oracle/WideRead": reads((3, wide), (8, None)),
    }
    prices = fold_prices(config(18), raw, CHANGES, {3: 30, 8: 80}).to_pylist()
    found = {(row["block_number"], row["asset"]): (row["price"], row["price_rest"], row["method"]) for row in prices}
    assert found[3, LOAN] == (10**18, 0, "fixed")
    assert found[3, COLLATERAL] == (17_123 * 10**18 + 1, 9, "read")
    assert found[8, COLLATERAL] == (None, None, "read")


def test_a_price_that_does_not_fit_is_named() -> None:
    raw = {
        "raw/oracle/Source": table("raw/oracle/Source", source("sampled", feeds=[], reason="x")),
        "raw/oracle/WideRead": reads((3, 10**60)),
    }
    with pytest.raises(LakeError, match="block 3 has more than 38 digits; lower its base_decimals"):
        fold_prices(config(40), raw, CHANGES, {3: 30})
