"""The price fold and the rules of price sources, without a chain."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.abi import event_schema
from backtest.errors import LakeError
from backtest.fetch.feeds import EVENTS
from backtest.markets import MarketConfig
from backtest.model import SourceChange
from backtest.prices import oracles
from backtest.prices.fold import PRICES, fold_prices, round_gaps
from backtest.prices.oracles import Source, parse_source
from backtest.tables import RAW_STATE

YEAR = 31_536_000
ASSET, OTHER = (f"0x{number:040x}" for number in (1, 2))
PROXY, OLD, NEW, ADAPTER, ORACLE = (f"0x{number:040x}" for number in (0xA0, 0xA1, 0xA2, 0xB0, 0xC0))
SCHEMAS = {
    f"raw/{namespace}/{spec.name}": event_schema(spec) for namespace, specs in EVENTS.items() for spec in specs
} | RAW_STATE
CONFIG = MarketConfig(
    name="m",
    protocol="aave-v3",
    chain_id=1,
    start_block=1,
    contracts=dict.fromkeys(("provider", "pool", "configurator", "oracle"), ORACLE),
)


def table(dataset: str, *rows: Mapping[str, Any]) -> pa.Table:
    """Rows of a raw dataset; addresses as text, what is left out as zero."""
    blank: dict[str, Any] = {
        "transaction_index": 0,
        "transaction_hash": b"\0" * 32,
        "updated_at": 0,
        "description": "",
        "round_id": 0,
    }

    def value(field: pa.Field, row: Mapping[str, Any]) -> Any:
        found = row.get(field.name, blank.get(field.name))
        return bytes.fromhex(found[2:]) if field.type == pa.binary(20) else found

    schema = SCHEMAS[dataset]
    return pa.table([pa.array([value(field, row) for row in rows], field.type) for field in schema], schema=schema)


def feed(address: str, *, proxy: bool = True) -> dict[str, Any]:
    return {
        "address": address,
        "kind": "feed",
        "decimals": 8,
        "parameters": Source(address, "feed", "", 8, {"proxy": proxy}).parameters_json,
    }


def source(address: str, kind: str, **parameters: Any) -> dict[str, Any]:
    return {
        "address": address,
        "kind": kind,
        "decimals": 8,
        "parameters": Source(address, kind, "", 8, parameters).parameters_json,
    }


def answers(*rows: tuple[int, int, str, int]) -> pa.Table:
    names = ("block_number", "log_index", "address", "current")
    return table("raw/chainlink/AnswerUpdated", *(dict(zip(names, row, strict=True)) for row in rows))


def states(*rows: tuple[int, str, str, int | None]) -> pa.Table:
    names = ("block_number", "address", "name", "value")
    return table("raw/oracle/State", *(dict(zip(names, row, strict=True)) for row in rows))


def reads(*rows: tuple[int, str, int | None]) -> pa.Table:
    return table("raw/oracle/Read", *(dict(zip(("block_number", "asset", "price"), row, strict=True)) for row in rows))


def phases(*rows: tuple[int, str, int, bool]) -> pa.Table:
    names = ("phase", "aggregator", "from_block", "exact")
    return table("raw/oracle/Phase", *({"address": PROXY} | dict(zip(names, row, strict=True)) for row in rows))


def change(block: int, log_index: int, source_address: str, asset: str = ASSET) -> SourceChange:
    return SourceChange(block, log_index, asset, source_address, ORACLE)


def fold(
    raw: Mapping[str, pa.Table], changes: Sequence[SourceChange], blocks: Mapping[int, int] | None = None, **more: Any
) -> list[tuple[Any, ...]]:
    """Rows as (block, log index, price, method, exact) of ``ASSET``, with the asset in front of the price of any
    other.
    """
    prices = fold_prices(CONFIG, raw, changes, blocks or {}, **more)
    assert prices.schema.remove_metadata() == PRICES
    rows = []
    for row in prices.to_pylist():
        assert row["order"] == (row["log_index"] == -1)
        price = None if row["price"] is None else int(row["price"])
        place = (
            (row["block_number"], row["log_index"])
            if row["asset"] == ASSET
            else (row["block_number"], row["log_index"], row["asset"])
        )
        rows.append((*place, price, row["method"], row["exact"]))
    return rows


FEED = {"raw/oracle/Source": table("raw/oracle/Source", feed(PROXY)), "raw/oracle/Phase": phases((1, OLD, 1, True))}


def test_updates_of_one_block_hold_from_their_own_logs() -> None:
    raw = {
        **FEED,
        "raw/chainlink/AnswerUpdated": answers((10, 7, OLD, 3), (10, 2, OLD, 1), (10, 5, OLD, 2), (9, 4, OLD, 9)),
    }
    assert fold(raw, [change(5, 0, PROXY)]) == [
        (5, 0, None, "read", False),
        (9, 4, 9, "feed", True),
        (10, 2, 1, "feed", True),
        (10, 5, 2, "feed", True),
        (10, 7, 3, "feed", True),
    ]


def test_source_change_takes_the_answer_of_its_own_position() -> None:
    raw = {
        "raw/oracle/Source": table("raw/oracle/Source", feed(OLD, proxy=False), feed(NEW, proxy=False)),
        "raw/chainlink/AnswerUpdated": answers(
            (4, 0, OLD, 100), (4, 1, NEW, 200), (10, 1, NEW, 201), (10, 3, NEW, 202), (10, 4, OLD, 101)
        ),
    }
    assert fold(raw, [change(5, 0, OLD), change(10, 2, NEW)]) == [
        (5, 0, 100, "feed", True),
        (10, 2, 201, "feed", True),
        (10, 3, 202, "feed", True),
    ]


def test_phase_switch_takes_effect_at_the_start_of_its_block() -> None:
    raw = {
        **FEED,
        "raw/oracle/Phase": phases((1, OLD, 1, True), (2, NEW, 20, True)),
        "raw/chainlink/AnswerUpdated": answers(
            (6, 0, OLD, 100), (15, 0, NEW, 200), (16, 0, OLD, 101), (21, 0, OLD, 102), (22, 0, NEW, 203)
        ),
    }
    expected = [
        (6, 0, 100, "feed", True),
        (16, 0, 101, "feed", True),
        (20, -1, 200, "feed", True),
        (22, 0, 203, "feed", True),
    ]
    assert fold(raw, [change(5, 0, PROXY)])[1:] == expected
    (switch,) = [row for row in fold(raw, [change(5, 0, PROXY)], liquidation_blocks=[20]) if row[0] == 20]
    assert switch == (20, -1, 200, "feed", False)


def test_the_earliest_report_of_a_phase_counts_and_an_exact_one_more_than_an_estimate() -> None:
    raw = {
        **FEED,
        "raw/oracle/Phase": phases((1, OLD, 1, True), (2, NEW, 25, True), (2, NEW, 20, True), (2, NEW, 12, False)),
        "raw/chainlink/AnswerUpdated": answers((6, 0, OLD, 100), (15, 0, NEW, 200)),
    }
    assert fold(raw, [change(5, 0, PROXY)])[1:] == [(6, 0, 100, "feed", True), (20, -1, 200, "feed", True)]


def test_no_answer_is_no_price() -> None:
    raw = {**FEED, "raw/chainlink/AnswerUpdated": answers((6, 0, OLD, 0), (7, 0, OLD, -5), (8, 0, OLD, 1))}
    assert fold(raw, [change(5, 0, PROXY)])[1:] == [
        (6, 0, None, "feed", True),
        (7, 0, None, "feed", True),
        (8, 0, 1, "feed", True),
    ]


def test_state_before_the_first_log_holds_from_the_next_block() -> None:
    raw = {
        **FEED,
        "raw/oracle/State": states((9, OLD, "answer", 77)),
        "raw/chainlink/AnswerUpdated": answers((10, 3, OLD, 78)),
    }
    assert fold(raw, [change(5, 0, PROXY)])[1:] == [(10, -1, 77, "feed", True), (10, 3, 78, "feed", True)]


def test_source_of_unknown_rule_changes_at_the_last_of_its_triggers() -> None:
    raw = {
        **FEED,
        "raw/oracle/Source": table(
            "raw/oracle/Source", feed(PROXY), source(ADAPTER, "sampled", feeds=[PROXY], reason="test")
        ),
        "raw/chainlink/AnswerUpdated": answers((10, 1, OLD, 1), (10, 4, OLD, 2)),
        "raw/oracle/Read": reads(
            (5, ASSET, 50), (10, ASSET, 60), (11, ASSET, 60), (12, ASSET, 70), (20, ASSET, 80), (21, ASSET, None)
        ),
    }
    assert fold(raw, [change(5, 3, ADAPTER)], liquidation_blocks=[21]) == [
        (5, 3, 50, "read", True),
        (10, 1, 50, "read", False),  # what it was between the two answers is not known
        (10, 4, 60, "read", True),
        (12, -1, 70, "read", True),  # read one block before: the change is of this block
        (20, -1, 80, "read", False),  # somewhere in 13 to 20
        (21, -1, None, "read", False),  # in this block, which has a liquidation too
    ]


def test_a_read_overrules_a_rule_and_is_counted() -> None:
    raw = {
        **FEED,
        "raw/chainlink/AnswerUpdated": answers((10, 1, OLD, 5), (11, 1, OLD, 6)),
        "raw/oracle/Read": reads((10, ASSET, 4), (11, ASSET, 6)),
    }
    assert fold(raw, [change(5, 0, PROXY)])[1:] == [(10, 1, 4, "read", False), (11, 1, 6, "feed", True)]
    assert fold_prices(CONFIG, raw, [change(5, 0, PROXY)], {}).schema.metadata == {b"mismatches": b"1"}


CAPPED = {
    **FEED,
    "raw/oracle/Source": table(
        "raw/oracle/Source", feed(PROXY), source(ADAPTER, "capped-ratio", feed=PROXY, ratio_decimals=2, scaled=False)
    ),
    "raw/chainlink/AnswerUpdated": answers((2, 0, OLD, 1000)),
}
CAP = (("snapshot_ratio", 100 * YEAR), ("snapshot_timestamp", 1000), ("max_growth_percent", 10_000))


def test_ratio_change_is_exact_where_the_block_before_was_read() -> None:
    caps = [(4, ADAPTER, name, value) for name, value in CAP]
    ratios = [(block, ADAPTER, "ratio", value) for block, value in ((5, 110), (8, 110), (9, 120), (14, 130))]
    raw = {**CAPPED, "raw/oracle/State": states(*caps, *ratios)}
    blocks = dict.fromkeys(range(30), 2000)
    assert fold(raw, [change(5, 0, ADAPTER)], blocks) == [
        (5, 0, 1100, "formula", True),
        (9, -1, 1200, "formula", True),
        (14, -1, 1300, "formula", False),
    ]


def test_a_binding_cap_steps_in_every_known_block() -> None:
    caps = [
        (4, ADAPTER, name, value)
        for name, value in (("snapshot_ratio", YEAR), ("snapshot_timestamp", 1000), ("max_growth_percent", 10_000))
    ]
    raw = {**CAPPED, "raw/oracle/State": states(*caps, (5, ADAPTER, "ratio", YEAR + 130))}
    blocks = {5: 1000, 6: 1050, 8: 1100, 9: 1200, 11: 1300}
    # growth is one a second: the limit passes the ratio 130 s after the snapshot
    limits = [0, 50, 100, 130]
    assert [row[:3] for row in fold(raw, [change(5, 2, ADAPTER)], blocks)] == [
        (block, place, 1000 * (YEAR + limit) // 100)
        for (block, place), limit in zip(((5, 2), (6, -1), (8, -1), (9, -1)), limits, strict=True)
    ]


def test_a_time_dependent_price_without_a_header_is_an_error() -> None:
    raw = {
        **CAPPED,
        "raw/oracle/State": states(*((4, ADAPTER, name, value) for name, value in CAP), (5, ADAPTER, "ratio", 110)),
    }
    with pytest.raises(LakeError, match="no header of block 5"):
        fold(raw, [change(5, 0, ADAPTER)], {4: 1})


def test_two_assets_of_one_source_and_none() -> None:
    zero = oracles.ZERO_ADDRESS
    raw = {
        **FEED,
        "raw/chainlink/AnswerUpdated": answers((4, 0, OLD, 8), (9, 1, OLD, 9)),
        "raw/oracle/Read": reads((10, OTHER, None)),
    }
    assert fold(raw, [change(5, 0, PROXY), change(5, 1, PROXY, OTHER), change(10, 0, zero, OTHER)]) == [
        (5, 0, 8, "feed", True),
        (5, 1, OTHER, 8, "feed", True),
        (9, 1, 9, "feed", True),
        (9, 1, OTHER, 9, "feed", True),
        (10, 0, OTHER, None, "read", True),
    ]


def test_an_empty_market_has_no_prices() -> None:
    assert fold({}, []) == []


@given(st.integers(0, 2**31))
def test_the_order_of_raw_rows_does_not_matter(seed: int) -> None:
    """Rows come in any order and twice, as overlapping fetches leave them: the fold is the same."""
    draw = random.Random(seed)
    places = draw.sample([(block, log_index) for block in range(6, 16) for log_index in range(4)], 12)
    logs = [(block, log_index, draw.choice((OLD, NEW)), draw.randrange(-1, 5)) for block, log_index in places]
    ratios = [(block, ADAPTER, "ratio", draw.randrange(1, 400)) for block in draw.sample(range(5, 16), 5)]
    caps = [(4, ADAPTER, name, value) for name, value in CAP]
    switches = [(1, OLD, 1, True), (2, NEW, draw.randrange(6, 16), True)]
    found = [(block, ASSET, draw.randrange(1, 99)) for block in draw.sample(range(6, 16), 2)]
    changes = [change(5, 0, PROXY), change(draw.randrange(6, 16), 9, ADAPTER), change(7, 8, ADAPTER, OTHER)]
    blocks = {block: 1000 + 12 * block for block in range(20)}

    def folded(shuffled: bool) -> list[tuple[Any, ...]]:
        def rows(some: list[Any], twice: bool = False) -> list[Any]:
            some = some * 2 if twice and shuffled else some
            return draw.sample(some, len(some)) if shuffled else some

        raw = {
            "raw/oracle/Source": CAPPED["raw/oracle/Source"],
            "raw/oracle/Phase": phases(*rows(switches, True)),
            "raw/oracle/State": states(*rows(ratios + caps, True)),
            "raw/oracle/Read": reads(*rows(found, True)),
            "raw/chainlink/AnswerUpdated": answers(*rows(logs)),
        }
        return fold(raw, changes, blocks)

    once = folded(False)
    assert once == folded(True)
    assert len({row[:2] if len(row) == 5 else row[:3] for row in once}) == len(once)


# -- rules
# -----------------------------------------------------------------------------------------------------------------

answer = st.integers(-(10**3), 10**14)
ratio = st.integers(-(10**3), 10**27)


@given(answer, answer, st.integers(0, 18))
def test_cross_is_the_product_rounded_down(a: int, b: int, decimals: int) -> None:
    got = oracles.cross_answer(a, b, 10**8, 10 ** (8 + decimals))
    assert got == (int(Fraction(a * b * 10**8, 10 ** (8 + decimals))) if a > 0 and b > 0 else 0)


@given(answer, st.integers(1, 10**9))
def test_capped_feed_is_never_above_its_cap(value: int, cap: int) -> None:
    got = oracles.capped_feed_answer(value, cap)
    assert 0 <= got <= cap
    assert got == value or got == cap < value or value < got == 0


@given(answer, ratio, ratio, st.integers(8, 24))
def test_capped_ratio_uses_the_lower_of_ratio_and_limit(base: int, rate: int, limit: int, decimals: int) -> None:
    got = oracles.capped_ratio_answer(base, rate, abs(limit), decimals)
    exact = Fraction(base * min(rate, abs(limit)), 10**decimals)
    assert got == (0 if base <= 0 or rate <= 0 else exact.__floor__())


@given(st.integers(1, 2**104 - 1), st.integers(0, 10 * YEAR), st.integers(0, 65535))
def test_the_growth_of_a_cap_is_rounded_down_and_less_so_when_scaled(snapshot: int, elapsed: int, percent: int) -> None:
    plain, scaled = (oracles.max_ratio(snapshot, elapsed, percent, kind) for kind in (False, True))
    exact = snapshot + Fraction(snapshot * percent * elapsed, 10_000 * YEAR)
    assert snapshot <= plain <= scaled <= exact
    assert exact - scaled < 1 + Fraction(elapsed, 10**6)
    assert exact - plain < 1 + elapsed


def test_max_ratio_by_hand() -> None:
    # 1.1e18 at 9.68 % a year: 1.0648e17 a year is 3376458650 a second, or 3376458650.431253 with six more digits
    assert oracles.max_ratio(11 * 10**17, 1000, 968, False) == 11 * 10**17 + 3376458650 * 1000
    assert oracles.max_ratio(11 * 10**17, 1000, 968, True) == 11 * 10**17 + 3376458650431


@given(st.integers(0, 2 * YEAR), st.integers(1, 65535), st.integers(1, 10**12))
def test_discount_and_when_it_next_changes(left: int, most: int, price: int) -> None:
    """``due`` is the first second at which the answer's discount differs."""
    maturity = 2_000_000_000
    now = maturity - left
    made = parse_source(
        ADAPTER, "discounted", "", 8, source(ADAPTER, "discounted", feed=OLD, maturity=maturity)["parameters"]
    )
    values = {(OLD, "answer"): price, (ADAPTER, "max_discount"): most}
    sources = {ADAPTER: made, OLD: Source(OLD, "feed", "", 8, {"proxy": False})}
    got, due = oracles.answer(made, sources, lambda *key: values[key], now)
    discount = left * most // YEAR
    assert got == price - price * discount // 10_000
    assert (due is None) == (discount == 0)
    if due is not None:
        assert oracles.discount_bps(maturity, due - 1, most) == discount != oracles.discount_bps(maturity, due, most)


def test_round_gaps_are_per_aggregator_and_see_doubled_rounds() -> None:
    rows = [(1, 0, OLD, 5), (1, 1, NEW, 9), (2, 0, OLD, 6), (3, 0, OLD, 8), (4, 0, NEW, 9), (5, 0, OLD, 9)]
    names = ("block_number", "log_index", "address", "round_id")
    made = table(
        "raw/chainlink/AnswerUpdated", *({"current": Decimal(1)} | dict(zip(names, row, strict=True)) for row in rows)
    )
    assert [(gap.aggregator, gap.block_number, gap.after, gap.next_round) for gap in round_gaps(made)] == [
        (OLD, 3, 6, 8),
        (NEW, 4, 9, 9),
    ]
