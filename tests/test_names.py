"""One word, one meaning: no two classes share a name.

Protocols know nothing of each other and speak their contracts' own words: two of them may both have a ``Position``, but
none may give a new meaning to a name from outside its folder. What begins with an underscore is its module's own.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TWICE = {
    "Columns": "accounts as columns: a table of words (protocols/columns), and Aave V3's own of balances (valuation)",
    "Measure": "a figure that a report judges (verdict), and the sums of one replay, read off at its blocks (measure)",
}


def classes(root: Path) -> Iterator[tuple[str, str, str]]:
    """Name, module and protocol's folder ("" outside) of each public class of a module."""
    for path in sorted((root / "backtest").rglob("*.py")):
        place = path.relative_to(root / "backtest").with_suffix("").parts
        folder = place[1] if place[0] == "protocols" and len(place) > 2 else ""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, ".".join(place), folder


def doubled(root: Path) -> Mapping[str, list[str]]:
    """Names with the modules of their classes, where these are two of one folder or one is outside all folders."""
    found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, module, folder in classes(root):
        found[name].append((folder, module))
    return {
        name: [module for _, module in places]
        for name, places in sorted(found.items())
        if len(places) > len({folder for folder, _ in places}) or (len(places) > 1 and any(not p for p, _ in places))
    }


def test_no_class_name_is_defined_twice() -> None:
    assert {name: places for name, places in doubled(ROOT).items() if name not in TWICE} == {}


def test_nothing_is_on_the_list_without_need() -> None:
    assert TWICE.keys() <= doubled(ROOT).keys()


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"one.py": "class Row: ...", "two.py": "class Row: ..."}, {"Row"}),
        ({"one.py": "class Row: ...", "protocols/aave/rules.py": "class Row: ..."}, {"Row"}),
        ({"protocols/aave/rules.py": "class Row: ...", "protocols/aave/state.py": "class Row: ..."}, {"Row"}),
        ({"protocols/book.py": "class Row: ...", "protocols/aave/state.py": "class Row: ..."}, {"Row"}),
        ({"protocols/aave/rules.py": "class Row: ...", "protocols/maker/rules.py": "class Row: ..."}, set()),
        ({"one.py": "class _Row: ...", "two.py": "class _Row: ..."}, set()),
    ],
)
def test_names_that_are_found_and_that_are_not(files: Mapping[str, str], names: set[str], tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / "backtest" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert doubled(tmp_path).keys() == names
