"""Coverage-guided fuzzing of the pure doors, with a fixed budget; ``python -m tests.guided`` takes a larger one."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz import doors
from tests.guided import PLANTED, PURE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has wheels for Linux on x86-64 only"),
]


def guided(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.guided", *words]
    return subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)


def test_guided_inputs_end_as_a_value_or_in_one_line() -> None:
    done = guided("--inputs", "3000")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert [line[:12].strip() for line in done.stdout.splitlines()] == list(PURE)
    assert done.stdout.count("3000 inputs") == len(PURE)


def test_the_guided_fuzzer_finds_what_chance_would_not() -> None:
    done = guided(PLANTED, "--inputs", "500000")
    assert done.returncode == 1
    assert "KeyError" in done.stdout
    assert r"b'{*]\x11" in done.stdout


def test_pure_doors_are_doors() -> None:
    assert set(PURE) <= {door.name for door in doors()}
