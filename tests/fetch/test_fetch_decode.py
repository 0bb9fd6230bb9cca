"""Decoding by columns against web3's own decoder, log by log, on random events with random defects."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from eth_abi.abi import encode
from eth_abi.exceptions import DecodingError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web3 import Web3
from web3._utils.events import get_event_data
from web3.exceptions import LogTopicError, MismatchedABI

from backtest.abi import EventAbi, column_type, event_schema, parse_event, snake_case
from backtest.fetch import bloom
from backtest.fetch.decode import LogColumns, decode, topic0
from backtest.fetch.rpc import Log, Topics
from backtest.model import EventSpec
from backtest.tables import AMOUNT
from tests.support.synthetic import MadeLog, bloom_of, word

CODEC = Web3().codec
MOST = 10**38 - 1

integers = st.builds(lambda signed, size: ("" if signed else "u") + f"int{size * 8}", st.booleans(), st.integers(1, 32))
static = st.one_of(integers, st.sampled_from(["address", "bool", "bytes32", "bytes4", "bytes20"]))
kinds = st.one_of(static, st.sampled_from(["string", "bytes", "bytes32[]"]))


@st.composite
def events(draw: st.DrawFn) -> EventSpec:
    arguments = draw(st.lists(kinds, min_size=0, max_size=5))
    indexed = draw(st.lists(st.booleans(), min_size=len(arguments), max_size=len(arguments)))
    parts, count = [], 0
    for number, (kind, chosen) in enumerate(zip(arguments, indexed, strict=True)):
        count += chosen and count < 3
        parts.append(
            f"{kind}{' indexed' if chosen and count <= 3 and sum('indexed' in p for p in parts) < 3 else ''}"
            f" theArg{number}"
        )
    wide = frozenset(
        f"theArg{number}"
        for number, kind in enumerate(arguments)
        if kind in ("uint256", "int256") and draw(st.booleans())
    )
    return EventSpec("Thing", f"Thing({', '.join(parts)})", "pool", wide)


def value_of(draw: st.DrawFn, kind: str) -> Any:
    if kind == "address":
        return "0x" + draw(st.binary(min_size=20, max_size=20)).hex()
    if kind == "bool":
        return draw(st.booleans())
    if kind == "string":
        return draw(st.text(max_size=70))
    if kind == "bytes":
        return draw(st.binary(max_size=70))
    if kind == "bytes32[]":
        return draw(st.lists(st.binary(min_size=32, max_size=32), max_size=3))
    if kind.startswith("bytes"):
        return draw(st.binary(min_size=int(kind[5:]), max_size=int(kind[5:])))
    signed, bits = kind.startswith("int"), int(kind.lstrip("uint"))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    edges = [
        v
        for v in (low, high, 0, 1, -1, MOST, MOST + 1, -MOST, -MOST - 1, 2**64 - 1, 2**64, 2**127, -(2**64))
        if low <= v <= high
    ]
    return draw(st.one_of(st.sampled_from(edges), st.integers(low, high)))


@st.composite
def logs_of(draw: st.DrawFn, spec: EventSpec) -> MadeLog:
    """A log of the event; one in three is damaged: topics added or lost, data cut, grown or with flipped bytes."""
    abi = parse_event(spec.signature)
    values = [value_of(draw, argument.type) for argument in abi.arguments]
    topics = [topic0(spec)]
    for argument, value in zip(abi.arguments, values, strict=True):
        if argument.indexed:
            raw = (
                Web3.keccak(text=value)
                if argument.type == "string"
                else Web3.keccak(value)
                if argument.type == "bytes"
                else Web3.keccak(b"".join(value))
                if argument.type == "bytes32[]"
                else None
            )
            topics.append("0x" + (bytes(raw) if raw is not None else encode([argument.type], [value])).hex())
    data = encode(
        [a.type for a in abi.data], [v for a, v in zip(abi.arguments, values, strict=True) if not a.indexed]
    ).hex()
    damage = draw(st.sampled_from(["", "", "", "", "topic+", "topic-", "cut", "grow", "flip", "dirt"]))
    if damage == "topic+" and len(topics) < 4:
        topics.append("0x" + draw(st.binary(min_size=32, max_size=32)).hex())
    elif damage == "topic-" and len(topics) > 1:
        topics.pop()
    elif damage == "cut" and data:
        data = data[: 2 * draw(st.integers(0, len(data) // 2 - 1))]
    elif damage == "grow":
        data += draw(st.binary(min_size=1, max_size=40)).hex()
    elif damage == "flip" and data:
        at = 2 * draw(st.integers(0, len(data) // 2 - 1))
        data = data[:at] + draw(st.binary(min_size=1, max_size=1)).hex() + data[at + 2 :]
    elif damage == "dirt" and len(topics) > 1:
        topics[1] = "0x" + draw(st.binary(min_size=1, max_size=1)).hex() + topics[1][4:]
    return MadeLog("0x" + "aa" * 20, tuple(topics), data)


def columns(made: list[MadeLog]) -> LogColumns:
    return LogColumns.of(
        [
            Log(
                log.address,
                Topics(*log.topics),
                "0x" + log.data,
                hex(5),
                "0x" + "bb" * 32,
                "0x" + "cc" * 32,
                hex(1),
                hex(number),
            )
            for number, log in enumerate(made)
        ]
    )


def json_abi(abi: EventAbi) -> dict[str, Any]:
    inputs = [{"name": a.name, "type": a.type, "indexed": a.indexed} for a in abi.arguments]
    return {"type": "event", "name": abi.name, "anonymous": False, "inputs": inputs}


def oracle(spec: EventSpec, log: MadeLog) -> dict[str, Any] | None:
    """What web3 makes of the log; None where it refuses it."""
    receipt = {
        "address": Web3.to_checksum_address(log.address),
        "topics": [bytes.fromhex(topic[2:]) for topic in log.topics],
        "data": bytes.fromhex(log.data),
        "blockNumber": 5,
        "logIndex": 0,
        "transactionIndex": 1,
        "transactionHash": b"\xcc" * 32,
        "blockHash": b"\xbb" * 32,
    }
    try:
        return dict(get_event_data(CODEC, json_abi(parse_event(spec.signature)), receipt)["args"])  # type: ignore[arg-type]
    except (LogTopicError, MismatchedABI, ValueError, OverflowError, DecodingError):
        return None


def as_stored(spec: EventSpec, values: dict[str, Any]) -> dict[str, Any] | None:
    """The values as the lake's columns hold them; None where a number has more than 38 digits and is not wide."""
    out = {}
    for argument in parse_event(spec.signature).arguments:
        value = values[argument.name]
        wide = argument.name in spec.wide
        if argument.type == "bytes32[]" and not argument.indexed:
            value = b"".join(value)
        if argument.integer is not None:
            if wide:
                value = (value % (1 << 256)).to_bytes(32, "big")
            elif argument.integer[1] > 32:
                if abs(value) > MOST:
                    return None
                value = Decimal(value)
        elif argument.type == "address":
            value = bytes.fromhex(value[2:])
        elif argument.indexed and argument.dynamic:
            value = bytes(value)
        out[argument.column] = value
    return out


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_is_kept_is_what_web3_reads_and_what_it_refuses_is_quarantined(data: st.DataObject) -> None:
    spec = data.draw(events())
    made = data.draw(st.lists(logs_of(spec), min_size=1, max_size=8))
    tables = decode(columns(made), [spec], "x")
    kept = {row["log_index"]: row for row in tables.get("raw/x/Thing", event_schema(spec).empty_table()).to_pylist()}
    refused = (
        {row["log_index"]: row for row in tables["raw/x/Quarantine"].to_pylist()}
        if "raw/x/Quarantine" in tables
        else {}
    )
    assert sorted([*kept, *refused]) == list(range(len(made)))
    dynamic = any(a.dynamic for a in parse_event(spec.signature).data)
    for number, log in enumerate(made):
        values = oracle(spec, log)
        expected = None if values is None else as_stored(spec, values)
        if number in kept:
            assert expected is not None
            assert expected == {name: kept[number][name] for name in expected}
        else:
            assert refused[number]["topics"] == [bytes.fromhex(topic[2:]) for topic in log.topics]
            assert refused[number]["data"].hex() == log.data
            assert refused[number]["reason"]
            if (
                expected is not None
            ):  # web3 ignores what follows the arguments, and padding of indexed ones; Solidity emits neither
                size = 32 * len(parse_event(spec.signature).data)
                assert (not dynamic and len(log.data) != 2 * size) or "indexed" in spec.signature


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("uint256", word(MOST + 1), "'v' has more than 38 digits"),
        ("uint256", word(2**256 - 1), "'v' has more than 38 digits"),
        ("int256", word(-MOST - 1), "'v' has more than 38 digits"),
        ("uint16", word(1 << 16), "'v' does not fit uint16"),
        ("int8", word(128), "'v' does not fit int8"),
        ("int8", word(-129), "'v' does not fit int8"),
        ("uint40", word(1 << 40), "'v' does not fit uint40"),
        ("address", word(1 << 160), "'v' is an address with dirty padding"),
        ("bool", word(2), "'v' is neither 0 nor 1"),
        ("bytes4", "0" * 63 + "1", "'v' does not fit bytes4"),
        ("uint256", word(1) + word(1), "64 bytes of data where E has 32"),
        ("uint256", "", "0 bytes of data where E has 32"),
        ("uint256", "00", "1 bytes of data where E has 32"),
    ],
)
def test_reasons_of_quarantine(kind: str, text: str, reason: str) -> None:
    spec = EventSpec("E", f"E({kind} v)", "pool")
    good = MadeLog("0x" + "aa" * 20, (topic0(spec),), word(1) if kind != "bytes4" else word(b"abcd"))
    bad = MadeLog("0x" + "aa" * 20, (topic0(spec),), text)
    tables = decode(columns([good, bad, good]), [spec], "x")
    assert tables["raw/x/E"].column("log_index").to_pylist() == [0, 2]
    assert tables["raw/x/Quarantine"].column("reason").to_pylist() == [reason]


@pytest.mark.parametrize("value", [0, 1, -1, MOST, -MOST, 2**64, -(2**64), 2**64 - 1, -(2**64) - 1])
def test_decimal_limbs(value: int) -> None:
    spec = EventSpec("E", "E(int256 v)", "pool")
    table = decode(columns([MadeLog("0x" + "aa" * 20, (topic0(spec),), word(value))]), [spec], "x")["raw/x/E"]
    assert table.column("v").type == AMOUNT
    assert table.column("v").to_pylist() == [Decimal(value)]


def test_events_that_share_a_topic_are_told_apart_by_what_is_indexed() -> None:
    two = EventSpec("Two", "Moved(address indexed a, address indexed b)", "pool")
    one = EventSpec("One", "Moved(address indexed a, address b)", "pool")
    zero, first = "0x" + word(0), topic0(one)
    assert first == topic0(two)
    made = [MadeLog("0x" + "aa" * 20, (first, zero), word(7)), MadeLog("0x" + "aa" * 20, (first, zero, zero), "")]
    tables = decode(columns(made), [two, one], "x")
    assert {name: table.num_rows for name, table in tables.items()} == {"raw/x/One": 1, "raw/x/Two": 1}


def test_schema_of_an_event() -> None:
    spec = EventSpec(
        "Sup",
        "Supply(address indexed reserve, address onBehalfOf, uint256 amount, uint16 indexed code, uint x)",
        "pool",
        frozenset({"x"}),
    )
    assert [(f.name, str(f.type)) for f in event_schema(spec)][5:] == [
        ("reserve", "fixed_size_binary[20]"),
        ("on_behalf_of", "fixed_size_binary[20]"),
        ("amount", "decimal128(38, 0)"),
        ("code", "int64"),
        ("x", "fixed_size_binary[32]"),
    ]
    assert column_type(parse_event("E(string indexed s)").arguments[0], False) == pa.binary(32)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("onBehalfOf", "on_behalf_of"),
        ("receiveAToken", "receive_a_token"),
        ("_to", "to"),
        ("aTokenDecimals", "a_token_decimals"),
        ("ID", "id"),
    ],
)
def test_column_names(name: str, column: str) -> None:
    assert snake_case(name) == column


@pytest.mark.parametrize(
    "signature",
    ["E(uint256[] x)", "E((uint256,bool) x)", "E(address address)", "E(uint256 a, uint256 a)", "E", "E(uint256 a b c)"],
)
def test_signatures_that_cannot_be_stored(signature: str) -> None:
    with pytest.raises(ValueError, match=r"E"):
        parse_event(signature)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=4), min_size=1, max_size=5))
def test_blooms_hold_what_was_put_in(blocks: list[list[bytes]]) -> None:
    blooms = [bloom_of([MadeLog("0x" + "aa" * 20, tuple("0x" + item.hex() for item in items), "")]) for items in blocks]
    table = bloom.bits(blooms)
    for row, items in enumerate(blocks):
        assert bloom.contains(table, [bloom.positions(item) for item in [*items, b"\xaa" * 20]])[row].all()
        assert not bloom.saturated(table, 1)[row]
