"""Whatever comes to the doors for foreign bytes is a value or one line; ``tests.fuzz`` prints the counts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest import foreign
from backtest.fetch import replies
from tests.fuzz import Door, doors, run

DOORS = {door.name: door for door in doors()}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DOORS))
def test_2000_inputs_end_as_a_value_or_in_one_line(name: str) -> None:
    outcome = run(DOORS[name])
    assert outcome.counts.total() == 2_000
    assert not outcome.failures, list(outcome.failures)


def test_the_fuzzer_finds_what_it_looks_for() -> None:
    def odd(data: bytes) -> None:
        if b"9" * 20 in data:
            raise KeyError
        if b"\x1b" in data:
            raise ValueError("\x1b[2J")

    outcome = run(Door("odd", odd, (ValueError,), [b'{"a": 1}']), 200)
    assert len(outcome.failures) == 2
    assert outcome.counts["failed"] > 0
    assert outcome.counts["read"] > 0


@pytest.mark.parametrize("name", sorted(DOORS))
def test_seeds_are_accepted_or_refused_in_one_line(name: str) -> None:
    door = DOORS[name]
    for seed in door.seeds:
        try:
            door.read(seed)
        except door.allowed as error:
            assert foreign.shown(str(error), 5_000) == str(error)  # noqa: PT017


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.from_regex(r"0[xX][0-9a-fA-F]*"),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(
                ["id", "result", "error", "code", "message", "data", "topics", "address", "number", "hash", "removed"]
            )
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(JSON, st.sampled_from([200, 302, 400, 429, 503]))
def test_any_json_is_a_reply_or_none(value: object, status: int) -> None:
    import json

    data = json.dumps(value).encode("utf-8", "surrogatepass")
    for read in (replies.result_of, replies.all_logs_of, replies.batch_of(2)):
        try:
            read(data, status)
        except (replies.BrokenReply, replies.Complained) as error:
            assert foreign.shown(str(error), 5_000) == str(error)  # noqa: PT017
    for loose in (replies.logs_of, replies.header_of):
        try:
            loose(data)
        except foreign.Unreadable as error:
            assert foreign.shown(str(error), 5_000) == str(error)  # noqa: PT017
