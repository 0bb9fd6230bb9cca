"""Programs that nobody runs in a test: what they import exists."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

PROGRAMS = sorted(
    f"tests.{folder}.{path.stem}"
    for folder in ("bench", "docs")
    for path in (Path(__file__).parent / folder).glob("*.py")
    if not path.stem.startswith("__")
)


@pytest.mark.slow  # the first ones import most of the package
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_measures_or_writes_is_there(name: str) -> None:
    importlib.import_module(name)
