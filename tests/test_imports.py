"""House rules that tools check: types, style, who may import whom; and that the command line starts light."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("altair", "duckdb", "numba", "numpy", "pandas", "pyarrow", "vl_convert", "web3")


def _run(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_types() -> None:
    _run("mypy")


def test_style() -> None:
    _run("ruff", "check", "--quiet", "backtest", "tests", ".ci", "notebooks")


def test_format() -> None:
    _run("ruff", "format", "--check", "--quiet", "backtest", "tests", ".ci", "notebooks")


def test_import_contracts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from importlinter.cli import lint_imports

    monkeypatch.chdir(ROOT)
    assert lint_imports() == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    "module", ["backtest", *sorted(f"backtest.cli.{file.stem}" for file in (ROOT / "backtest/cli").glob("[a-z]*.py"))]
)
def test_verbs_import_nothing_heavy_before_they_run(module: str) -> None:
    program = f"import sys, {module}; print(sorted(set(sys.modules) & set({HEAVY!r})))"
    assert (
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_public_names_are_where_they_are_said_to_be() -> None:
    import backtest

    for name in dir(backtest):
        assert getattr(backtest, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = backtest.nothing


def test_files_are_short() -> None:
    long = [
        str(path)
        for folder in ("backtest", "tests", ".ci")
        for path in (ROOT / folder).rglob("*.py")
        if len(path.read_text().splitlines()) > 800
    ]
    assert long == []


def test_no_test_is_imported() -> None:
    """What several tests share stands in ``tests/support``: in programs that tests start, too."""
    imported = re.compile(r"(?:from|import)\s+tests(?:\.\w+)*(?:\.|\s+import\s+(?:\w+,\s*)*)test_\w+")
    assert imported.search("from tests.fetch.test_fetch_logs import run")
    assert imported.search("from tests.support import faults, test_faults")
    found = {str(path): imported.findall(path.read_text()) for path in (ROOT / "tests").rglob("*.py")}
    del found[str(Path(__file__))]
    assert {path: lines for path, lines in found.items() if lines} == {}
