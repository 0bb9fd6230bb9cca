"""Timeline: order, transactions, exact integers; property: any set of tables comes out merged by seq, ints
unchanged.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import UserError
from backtest.model import (
    Clock,
    HistoricalLiquidation,
    IndexUpdate,
    ParamChange,
    PositionChange,
    PriceUpdate,
    SettingChange,
)
from backtest.replay import timeline as module
from backtest.replay.timeline import Timeline
from tests.sketches.history import History, market

MARKET = market(("WETH", 18), ("USDC", 6))
BIG = 10**38 - 1


def example() -> History:
    h = History(MARKET)
    h.param("liquidation_threshold", 8000, asset=0).param("emode_ltv", 9000, category=1).price(0, 2000 * 10**8)
    h.block(5).position(0, 0, "collateral", BIG)
    with h.transaction():
        h.index(1, borrow=10**28).position(0, 1, "debt", -(2**70), "repay").setting(0, "emode", 1)
    h.block(6).price(0, None)
    seq = h.next_seq
    h.liquidation(0, 1, 1, 0, repaid=7, seized=8, fee=9)
    h.deficit(0, 1, 5, seq)
    return h


def test_every_field_of_every_event_comes_through() -> None:
    one, five, six = ({"block_number": n, "timestamp": n * 12} for n in (1, 5, 6))
    events = list(example().timeline())
    assert events == [
        ParamChange(seq=0, **one, log_index=0, name="liquidation_threshold", value=8000, asset=0),
        ParamChange(seq=1, **one, log_index=1, name="emode_ltv", value=9000, category=1),
        PriceUpdate(seq=2, **one, log_index=2, asset=0, price=2000 * 10**8),
        PositionChange(
            seq=3,
            **five,
            log_index=0,
            account=0,
            asset=0,
            side="collateral",
            delta=BIG,
            action="supply",
            action_seq=3,
            amount=BIG,
        ),
        IndexUpdate(
            seq=4, **five, log_index=1, asset=1, supply_index=10**27, borrow_index=10**28, supply_rate=0, borrow_rate=0
        ),
        PositionChange(
            seq=5,
            **five,
            log_index=2,
            account=0,
            asset=1,
            side="debt",
            delta=-(2**70),
            action="repay",
            action_seq=5,
            amount=2**70,
        ),
        SettingChange(
            seq=6, **five, log_index=3, account=0, setting="emode", asset=None, value=1, action="other", action_seq=6
        ),
        PriceUpdate(seq=7, **six, log_index=0, asset=0, price=None),
        HistoricalLiquidation(
            seq=8,
            **six,
            log_index=1,
            account=0,
            liquidator=1,
            debt_asset=1,
            collateral_asset=0,
            repaid=7,
            seized=8,
            protocol_fee=9,
            receive_collateral_token=False,
            deficits=((1, 5),),
        ),
    ]


def test_transactions_follow_the_spine_and_blocks() -> None:
    timeline = example().timeline()
    assert [[e.seq for e in t] for t in timeline.transactions()] == [[0], [1], [2], [3], [4, 5, 6], [7], [8]]
    assert [[e.seq for e in t] for t in timeline.transactions(to_block=5)] == [[0], [1], [2], [3], [4, 5, 6]]
    assert list(timeline.transactions(to_block=0)) == []


def test_without_a_spine_each_seq_is_a_transaction_and_missing_tables_are_empty() -> None:
    tables = example().tables()
    timeline = Timeline.of({"params": tables["params"], "prices": tables["prices"]})
    assert [[e.seq for e in t] for t in timeline.transactions()] == [[0], [1], [2], [7]]
    assert len(Timeline.of({})) == 0


def test_rows_of_one_log_come_parameters_first() -> None:
    h = History(MARKET)
    h.price(0, 1).param("ltv", 1, asset=0)
    tables = h.tables()
    same_seq = tables["params"].set_column(1, "seq", [[0]])
    assert [type(e).__name__ for e in Timeline.of({**tables, "params": same_seq})] == ["ParamChange", "PriceUpdate"]


def test_clock_is_known_only_for_known_blocks() -> None:
    timeline = example().timeline()
    assert timeline.clock_at(5) == Clock(5, module.END_OF_BLOCK, 60)
    with pytest.raises(UserError, match=r"block 4 has no known timestamp; .*: 1, 5"):
        timeline.clock_at(4)
    assert timeline.last_known_block(4) == 1
    with pytest.raises(UserError, match="before the first"):
        timeline.last_known_block(0)


def test_sample_blocks_follow_time_and_activity_and_end_with_the_last() -> None:
    h = History(MARKET)
    for number in range(2, 102):  # a hundred seconds with a block each, then four blocks a hundred seconds apart
        h.block(number, number).price(0, number)
    for number in range(102, 106):
        h.block(number, 101 + (number - 101) * 100).price(0, number)
    timeline = h.timeline()
    picked = timeline.sample_blocks(10, 2, 105)
    assert picked[0] == 2
    assert picked[-1] == 105
    assert {102, 103, 104} <= set(picked)
    assert len([block for block in picked if block < 102]) >= 4
    assert timeline.sample_blocks(1000, 0, 105) == list(range(2, 106))
    assert timeline.sample_blocks(0, 0, 101) == []
    assert timeline.sample_blocks(5, 90, 95)[-1] == 95


def test_params_are_all_parameter_changes() -> None:
    assert [p.name for p in example().timeline().params] == ["liquidation_threshold", "emode_ltv"]


@given(
    st.lists(st.tuples(st.sampled_from("pio"), st.integers(-BIG, BIG), st.booleans()), max_size=60),
    st.sampled_from([1, 2, 7, 16_384]),
)
def test_any_history_comes_out_in_order_whatever_the_chunk(logs: list[tuple[str, int, bool]], chunk: int) -> None:
    h = History(MARKET)
    for number, (kind, amount, new_block) in enumerate(logs):
        if new_block:
            h.block(number + 2)
        if kind == "p":
            h.price(0, abs(amount))
        elif kind == "i":
            h.index(0, borrow=abs(amount))
        else:
            h.position(0, 0, "debt", amount)
    timeline = h.timeline()
    before, module._CHUNK = module._CHUNK, chunk
    try:
        events = list(timeline)
    finally:
        module._CHUNK = before
    assert [e.seq for e in events] == list(range(len(logs)))
    for event, (_, amount, _) in zip(events, logs, strict=True):
        value = (
            event.delta
            if isinstance(event, PositionChange)
            else event.price
            if isinstance(event, PriceUpdate)
            else event.borrow_index
        )
        assert value == (amount if isinstance(event, PositionChange) else abs(amount))


def test_ends_are_int64_and_increasing() -> None:
    ends = example().timeline().ends
    assert ends.dtype == np.int64
    assert (np.diff(ends) > 0).all()
