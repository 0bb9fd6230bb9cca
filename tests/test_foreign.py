"""The doors for foreign bytes: what is refused, in words; and that nothing else than ``Unreadable`` comes out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest import files, foreign
from backtest.errors import UserError

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\xff", "byte 0 is not UTF-8"),
        (b"a\0b", "character 1 is NUL"),
    ],
)
def test_text_that_is_none(data: bytes, what: str) -> None:
    with pytest.raises(foreign.Unreadable, match=what):
        foreign.text(data)


@pytest.mark.parametrize("digits", ["", "１０", "1.0", "0x10", "1e3", "1_000", " 1", "9" * 5000, str(1 << 256)])
def test_numbers_that_are_none(digits: str) -> None:
    with pytest.raises(foreign.Unreadable):
        foreign.integer(digits)


def test_numbers() -> None:
    assert foreign.integer(str((1 << 256) - 1)) == (1 << 256) - 1
    assert foreign.integer("-12", bits=8) == -12


@pytest.mark.parametrize("depth", [foreign.DEPTH + 1, 5_000, 1_000_000])
def test_deep_json_and_toml(depth: int) -> None:
    for door in (foreign.json_value, foreign.exact_json):
        with pytest.raises(foreign.Unreadable, match="nested deeper than 64 levels"):
            door("[" * depth + "]" * depth)
    if depth < 10_000:
        with pytest.raises(foreign.Unreadable, match="nested deeper"):
            foreign.toml_value("a = " + "[" * depth + "]" * depth)


def test_deep_json_after_a_library_raised_the_recursion_limit() -> None:
    program = (
        "import sys; from backtest import foreign; sys.setrecursionlimit(100_000)\n"
        "for door in (foreign.json_value, foreign.exact_json):\n"
        "    try: door('[' * 1_000_000)\n"
        "    except foreign.Unreadable as error: print(error)\n"
        "print(sys.getrecursionlimit())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["it is nested deeper than 64 levels"] * 2 + ["100000"], done.stderr


def test_json_keeps_every_digit() -> None:
    assert foreign.exact_json('{"a": 963019363229999955968.10}') == {"a": "963019363229999955968.10"}


def test_large_numbers() -> None:
    with pytest.raises(foreign.Unreadable):
        foreign.toml_value(f"a = {'9' * 5_000}")
    with pytest.raises(foreign.Unreadable):
        foreign.json_value("9" * 5_000, int)


def test_shown_text_moves_no_cursor() -> None:
    assert foreign.shown("a\x1b[2J\u202eb\nc") == "a\\x1b[2J\\u202eb\\nc"
    assert len(foreign.shown("x" * 1_000, 50)) == 50


@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
def test_whatever_comes_is_read_or_unreadable(data: bytes) -> None:
    doors: list[Any] = [
        foreign.text,
        foreign.json_value,
        foreign.exact_json,
        lambda data: foreign.toml_value(foreign.text(data)),
        lambda data: foreign.integer(foreign.text(data)),
    ]
    for door in doors:
        try:
            door(data)
        except foreign.Unreadable as error:
            assert foreign.shown(str(error), 1_000) == str(error)  # noqa: PT017


def test_files_that_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    large = tmp_path / "large"
    large.write_bytes(b"x" * 11)
    for path, what in [
        (Path("/dev/zero"), "/dev/zero is not a regular file"),
        (tmp_path / "pipe", "is not a regular file"),
        (tmp_path, "is not a regular file"),
        (tmp_path / "none", "No such file"),
        (Path("a\0b"), "a path holds no NUL"),
        (large, "is larger than"),
    ]:
        with pytest.raises(UserError, match=what):
            files.read_bytes(path, 10)
    assert files.read_bytes(large, 11) == b"x" * 11


@pytest.mark.parametrize("text", ["", "nan", "inf", "１", "1_0", "1e101", "1e999999999999", "9" * 101, "1 ", "0x1"])
def test_decimals_that_are_none(text: str) -> None:
    with pytest.raises(foreign.Unreadable):
        foreign.decimal(text)


def test_decimals_are_exact() -> None:
    assert foreign.decimal("963019363229999955968.10") * 10 == 9630193632299999559681
    assert foreign.decimal("-8e3") == -8000
