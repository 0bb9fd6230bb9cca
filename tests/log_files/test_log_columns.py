"""Columns of exports, and files of logs: every spelling gives the same bytes, what is decoded is what the node's hex
gives, and whatever bytes a file holds, they are read or refused in one line.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import UserError
from backtest.fetch.decode import LogColumns, decode, topic0
from backtest.fetch.replies import Log, Topics
from backtest.log_files import columns as c
from backtest.log_files import spool
from backtest.log_files.gather import Gathered, gather
from backtest.log_files.reading import files_in
from backtest.log_files.source import BinaryLogs
from tests.support.log_exports import FORMS, exported
from tests.support.synthetic import DEPOSIT, Vaults, made_up_chain

WORDS = st.binary(min_size=32, max_size=32)


def spelled(data: bytes, draw: random.Random) -> str:
    text = "".join(draw.choice((sign, sign.upper())) for sign in data.hex())
    return draw.choice(("0x", "0X", "\\x", "")) + text


@given(st.lists(st.none() | WORDS, max_size=20), st.randoms(use_true_random=False))
def test_every_spelling_of_a_word_is_its_bytes(words: list[bytes | None], draw: random.Random) -> None:
    for column in (
        pa.array(words, pa.binary()),
        pa.array(words, pa.large_binary()),
        pa.array([None if word is None else spelled(word, draw) for word in words], pa.string()),
        pa.array([None if word is None else spelled(word, draw) for word in words], pa.large_string()),
        pa.array([None if word is None else "0x" + word.hex() for word in words]).cast(pa.string()).dictionary_encode(),
    ):
        found, held = c.fixed(column, 32, "word")
        assert held.tolist() == [word is not None for word in words]
        assert [row.tobytes() for row in found] == [word or bytes(32) for word in words]


@given(st.lists(st.none() | st.binary(max_size=70), max_size=20), st.randoms(use_true_random=False))
def test_data_of_any_length(values: list[bytes | None], draw: random.Random) -> None:
    for column in (
        pa.array(values, pa.binary()),
        pa.array([None if value is None else spelled(value, draw) for value in values], pa.string()),
        pa.array([None, *values], pa.binary()).slice(1),
    ):  # fmt: skip
        assert c.data_of(column, "data").to_pylist() == [value or b"" for value in values]


@given(st.lists(st.lists(WORDS, max_size=4), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_topics_in_every_form(topics: list[list[bytes]], draw: random.Random) -> None:
    hexed = [["0x" + word.hex() for word in row] for row in topics]
    forms: list[list[Any]] = [
        [pa.array(topics, pa.list_(pa.binary()))],
        [pa.array(topics, pa.large_list(pa.binary(32)))],
        [pa.array(hexed, pa.list_(pa.string()))],
        [pa.array([[*row, None] for row in hexed], pa.list_(pa.string()))],
        [pa.array([",".join(row) for row in hexed])],
        [pa.array([json.dumps(row) for row in hexed])],
        [pa.array([str(row).replace(",", "") if len(row) < 2 else "{" + ", ".join(row) + "}" for row in hexed])],
        [pa.array([row[place] if place < len(row) else None for row in topics], pa.binary()) for place in range(4)],
        [pa.array([row[place] if place < len(row) else "" for row in hexed]) for place in range(4)],
    ]
    for columns in forms:
        words, counts = c.topics_of(columns, "topics")
        assert counts.tolist() == [len(row) for row in topics]
        for place in range(4):
            expected = [row[place] if place < len(row) else bytes(32) for row in topics]
            assert [word.tobytes() for word in words[place]] == expected


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (["１２"], "'１２' is not a whole number"),
        (["1.0"], "is not a whole number"),
        (["-1"], "is out of range"),
        ([None], "is missing"),
        ([""], "is not a whole number"),
        ([1.5], "is not a whole number"),
        ([float(1 << 60)], "is a float too large"),
        ([1 << 62], "is out of range"),
        ([True], "is not a whole number"),
        ([[1]], "is not a whole number"),
    ],
)
def test_what_is_no_block_number(column: list[Any], said: str) -> None:
    with pytest.raises(c.Wrong, match=said):
        c.integers(pa.array(column), "block number")


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (["12", " 7 ", "0x10"], [12, 7, 16]),
        ([1.0, 2.0], [1, 2]),
        ([5, 6], [5, 6]),
        ([b"\x01\x00", b""], [256, 0]),
    ],
)
def test_what_is_a_block_number(column: list[Any], found: list[int]) -> None:
    assert c.integers(pa.array(column), "block number").tolist() == found


@pytest.mark.parametrize(
    "text", ["2020-03-12 00:00:00.5 UTC", "yesterday", "2020-13-01 00:00:00", "20200312", "0", "1583971200000000"]
)
def test_what_is_no_time(text: str) -> None:
    if text == "20200312":  # seconds since 1970, though few can mean them
        assert c.times(pa.array([text]), "time").tolist() == [20_200_312]
        return
    with pytest.raises(c.Wrong, match="time"):
        c.times(pa.array([text]), "time")


# -- decoding ----------------------------------------------------------------------------------------------------------


def gathered(folder: Path, paths: list[Path]) -> Gathered:
    topics = [bytes.fromhex(topic0(spec)[2:]) for spec in Vaults().events]
    return gather(files_in(paths), topics, folder)


@pytest.mark.parametrize("seed", range(4))
def test_bytes_decode_as_the_nodes_hex_does(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, bytes, wide words, and logs that fit no event: the same rows, the same quarantine."""
    monkeypatch.setattr(spool, "PIECE_ROWS", 97)
    chain = made_up_chain(seed=seed)
    raw = [json.loads(encoded) for block in chain.encoded for _, encoded in block]
    known = {topic0(spec) for spec in Vaults().events}
    odd = [log for log in raw if log["topics"][0] == topic0(DEPOSIT)][:3]
    odd[0]["data"] += "00"
    odd[1]["topics"] = [*odd[1]["topics"], "0x" + "00" * 32]
    odd[2]["data"] = "0x"
    own = [log for log in raw if log["topics"][0] in known]
    theirs = decode(
        LogColumns.of(
            [
                Log(
                    address=log["address"],
                    topics=Topics(*log["topics"]),
                    data=log["data"],
                    block_number=log["blockNumber"],
                    block_hash=log["blockHash"],
                    transaction_hash=log["transactionHash"],
                    transaction_index=log["transactionIndex"],
                    log_index=log["logIndex"],
                )
                for log in own
            ]
        ),
        Vaults().events,
        "x",
    )
    draw = random.Random(seed)
    draw.shuffle(raw)
    files = exported("Dune", raw, [chain.header(block) for block in range(chain.height + 1)], tmp_path / "files")
    (place := tmp_path / "spool").mkdir()
    found = gathered(place, [files])
    parts = [decode(BinaryLogs.of(part, found), Vaults().events, "x") for part in found.logs.parts(0, chain.height)]
    assert len(parts) > 1
    for dataset, table in theirs.items():
        ours = pa.concat_tables([part[dataset] for part in parts if dataset in part])
        order = [("block_number", "ascending"), ("log_index", "ascending")]
        assert ours.sort_by(order).equals(table.sort_by(order)), dataset
    assert {name for part in parts for name in part} == set(theirs)
    assert "raw/x/Quarantine" in theirs


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1000)), max_size=200), st.integers(1, 40))
def test_an_external_sort_is_a_sort(rows: list[tuple[int, int]], piece: int) -> None:
    with spool.temporary() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "PIECE_ROWS", piece)
        held = spool.Spool(Path(folder), ("block_number", "log_index"), lambda table: table)
        for start in range(0, len(rows), 7):
            some = rows[start : start + 7]
            held.add(pa.table({"block_number": [b for b, _ in some], "log_index": [i for _, i in some]}))
        held.finish()
        found = [pair for part in held.parts(0, 30) for pair in zip(*part.to_pydict().values(), strict=True)]
        assert found == sorted(rows)
        some = [pair for part in held.parts(5, 9) for pair in zip(*part.to_pydict().values(), strict=True)]
        assert some == sorted(row for row in rows if 5 <= row[0] <= 9)
        assert len(list(Path(folder).iterdir())) == len(held._pieces)


# -- broken files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_broken_files_are_read_or_refused(form: str, tmp_path: Path) -> None:
    """Bytes changed, cut out, doubled: each is read, or one line says what is wrong."""
    chain = made_up_chain(height=40)
    raw = [json.loads(encoded) for block in chain.encoded for _, encoded in block]
    files = exported(form, raw, [chain.header(block) for block in range(chain.height + 1)], tmp_path / "files")
    paths = sorted(path for path in files.iterdir() if "blocks" not in path.name)
    draw = random.Random(form)
    refused: list[str] = []
    for number in range(60):
        data = bytearray(draw.choice(paths).read_bytes())
        for _ in range(draw.choice((1, 1, 3))):
            at = draw.randrange(len(data))
            kind = draw.randrange(4)
            if kind == 0:
                data[at] = draw.randrange(256)
            elif kind == 1:
                data[at : at + draw.randrange(1, 200)] = b""
            elif kind == 2:
                data[at:at] = data[at : at + draw.randrange(1, 200)]
            else:
                data[at : at + 4] = draw.choice((b"null", b"\0\0\0\0", b'"",,', b"\xff\xfe\xfd\xfc", b"1e99", b"[[[["))
            if not data:
                data = bytearray(b"x")
        path = tmp_path / f"broken-{number}"
        path.write_bytes(bytes(data))
        (place := tmp_path / f"spool-{number}").mkdir()
        try:
            gathered(place, [path])
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all(line.isprintable() for line in refused)


def test_times_are_quantities_too() -> None:
    assert c.times(pa.array(["0x5e69afc0", "1583984576"]), "time").tolist() == [1_583_984_576] * 2
    assert c.times(pa.array([bytes.fromhex("5e69afc0"), None]), "time").tolist() == [1_583_984_576, -1]


def test_an_empty_part_is_no_rows() -> None:
    assert c.fixed(pa.array([], pa.string()), 20, "address")[0].shape == (0, 20)
    assert len(c.times(pa.array([], pa.string()), "time")) == 0
    assert np.asarray(c.flags(pa.array([None, "FALSE", "t"]), "removed")).tolist() == [False, False, True]
    with pytest.raises(c.Wrong, match="neither true nor false"):
        c.flags(pa.array(["maybe"]), "removed")
