"""The command line: what it says and how it ends. What verbs do is tested with what they call."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from backtest.cli import VERBS, main, spelled
from backtest.errors import UserError
from backtest.version import VERSION

Ended = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ended(capsys: pytest.CaptureFixture[str]) -> Ended:
    """Runs the command line: exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(words)
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def _verb_that(monkeypatch: pytest.MonkeyPatch, does: Callable[[], Any]) -> None:
    monkeypatch.setattr("backtest.cli.report.report", does)


def test_help_lists_every_verb(ended: Ended) -> None:
    code, out, err = ended("--help")
    assert (code, err) == (0, "")
    for verb in VERBS:
        assert f" {verb} " in out
    assert ended() == (0, out, "")


def test_version(ended: Ended) -> None:
    assert ended("--version") == (0, f"{VERSION}\n", "")


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself_with_examples(verb: str, ended: Ended) -> None:
    function = getattr(import_module(f"backtest.cli.{spelled(verb)}"), spelled(verb))
    text = function.help if isinstance(function, App) else function.__doc__
    code, out, err = ended(verb, "--help")
    assert (code, err) == (0, "")
    first = text.strip().splitlines()[0]
    assert first.rstrip(".")[:40] in " ".join(out.split())
    assert f"backtest {verb}" in text.partition("Examples:")[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["repaly"], "unknown verb 'repaly'; did you mean 'replay'?"),
        (["--verison"], "unknown verb '--verison'; did you mean '--version'?"),
        (["zzz"], "unknown verb 'zzz'; known: --help, --version, -h, account, calibrate,"),
        (["report", "--lak", "x"], "Unknown option: --lak. Did you mean --lake?"),
        (["report"], "lake"),
        (["report", "--lake", "/nonexistent/lake"], "there is no lake at /nonexistent/lake; "),
        (["demo", f"{__file__}/folder"], "check the path: a part of it is no folder"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(words: list[str], said: str, ended: Ended) -> None:
    code, out, err = ended(*words)
    assert (code, out) == (2, "")
    assert err.startswith("backtest: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_user_error_of_many_lines_is_one_line(monkeypatch: pytest.MonkeyPatch, ended: Ended) -> None:
    def fail() -> None:
        raise UserError("first\n  second", "do this")

    _verb_that(monkeypatch, fail)
    assert ended("report") == (2, "", "backtest: first second; do this\n")


def test_a_full_disk_is_told_and_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, ended: Ended) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x.parquet")

    def defect() -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    _verb_that(monkeypatch, full)
    assert ended("report") == (
        2,
        "",
        "backtest: No space left on device (/data/x.parquet); free some space and run it again\n",
    )
    _verb_that(monkeypatch, defect)
    with pytest.raises(OSError, match="Bad file descriptor"):
        main(["report"])


def test_interrupted(monkeypatch: pytest.MonkeyPatch, ended: Ended) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    _verb_that(monkeypatch, interrupt)
    assert ended("report") == (130, "", "backtest: interrupted\n")


def test_what_a_verb_returns_is_the_exit_code(monkeypatch: pytest.MonkeyPatch, ended: Ended) -> None:
    _verb_that(monkeypatch, lambda: 1)
    assert ended("report") == (1, "", "")


@pytest.mark.parametrize("prints", ["print('x')", "print('x' * 10**6)"])
def test_a_reader_that_leaves_is_no_error(prints: str) -> None:
    program = (
        f"import backtest.cli.report as verb; verb.report = lambda: {prints}; from backtest.cli import main;"
        " main(['report'])"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_demo_leaves_folders_of_others_alone(tmp_path: Path, ended: Ended) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    code, _, err = ended("demo", str(tmp_path))
    assert (code, err) == (
        2,
        f"backtest: {tmp_path} holds something else; name an empty or a new folder: backtest demo FOLDER\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
