"""What ships and how it is installed: locks, the environment that make builds, the wheel outside the checkout."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-bench.lock")


def _tracked(*suffixes: str) -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    return [ROOT / name for name in names if name.endswith(suffixes) and (ROOT / name).exists()]


def _pins(lock: str) -> dict[str, list[Version]]:
    """Package to its versions; several where they depend on the version of Python."""
    found: dict[str, list[Version]] = {}
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE):
        found.setdefault(name, []).append(Version(version))
    return found


# -- locks -------------------------------------------------------------------------------------------------------------


def test_locks_and_configuration_name_no_address_and_no_path_of_a_machine() -> None:
    files = _tracked(".lock", ".toml", ".json", "package-lock.json")
    assert {ROOT / lock for lock in LOCKS} <= set(files)
    bad = re.compile(r"https?://|file:|\"resolved\"|(?<![\w.])/(?:home|root|Users|opt|work|tmp|var)/")
    assert [(path.name, bad.findall(path.read_text())[:3]) for path in files if bad.search(path.read_text())] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str) -> None:
    entries = re.split(r"^(?=[\w.-]+==)", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    assert entries
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_locks_satisfy_what_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    extras = [requirement for extra in project["project"]["optional-dependencies"].values() for requirement in extra]
    for lock, declared in (
        ("requirements.lock", project["project"]["dependencies"] + groups["build"]),
        ("requirements-dev.lock", project["project"]["dependencies"] + groups["build"] + groups["dev"] + extras),
        ("requirements-bench.lock", groups["bench"]),
    ):
        pins = _pins(lock)
        for requirement in map(Requirement, declared):
            assert pins.get(requirement.name), f"{requirement.name} is not in {lock}: run make lock"
            assert all(requirement.specifier.contains(version) for version in pins[requirement.name]), requirement


def test_tests_run_on_the_versions_that_users_get() -> None:
    dev = _pins("requirements-dev.lock")
    assert {name: versions for name, versions in _pins("requirements.lock").items() if dev.get(name) != versions} == {}


# -- the environment ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci/environment.py"))


def test_an_old_python_and_a_missing_module_have_a_remedy(environment: dict[str, Any]) -> None:
    remedy = environment["remedy"]
    assert "Python 3.11 or newer is needed, this is 3.9" in remedy((3, 9, 18), lambda name: True)
    assert "apt install python3.12-venv" in remedy((3, 12, 1), lambda name: name != "ensurepip")
    assert remedy((3, 11, 0), lambda name: True) is None


def _fake_python(path: Path, before: str) -> Path:
    """A python3 in which ``before`` has been run."""
    program = f"import runpy, sys; {before}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("sys.version_info = (3, 9, 2)", "Python 3.11 or newer is needed, this is 3.9"),
        (
            "sys.modules['ensurepip'] = None",
            "module ensurepip is missing: install it, on Debian and Ubuntu with: apt install python3.",
        ),
        (None, "not found: install Python 3.11 or newer, or name one: make PYTHON=python3.12 demo"),
    ],
)
def test_make_says_in_one_line_what_is_missing(before: str | None, said: str, tmp_path: Path) -> None:
    python = tmp_path / "python3" if before is None else _fake_python(tmp_path / "python3", before)
    alone = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # these tests run under make, too
    done = subprocess.run(["make", f"PYTHON={python}", "demo"], cwd=ROOT, env=alone, capture_output=True, text=True)
    assert done.returncode != 0
    first, *rest = done.stderr.splitlines()
    assert first.startswith("make: ")
    assert said in first
    assert all(line.startswith("make: ***") for line in rest)


def test_an_environment_is_made_again_only_when_its_lock_changes(environment: dict[str, Any], tmp_path: Path) -> None:
    satisfied, digest = environment["satisfied"], environment["digest"]
    assert not satisfied(str(tmp_path), "demo")
    (tmp_path / "made-for-test").write_text(digest("test"))
    assert satisfied(str(tmp_path), "demo"), "what tests need includes what the demo needs"
    assert satisfied(str(tmp_path), "test")
    assert not satisfied(str(tmp_path), "bench")
    (tmp_path / "made-for-test").write_text("made from another lock")
    assert not satisfied(str(tmp_path), "demo")


def test_an_unfinished_environment_is_not_usable(environment: dict[str, Any], tmp_path: Path) -> None:
    assert environment["usable"](sys.executable)
    assert not environment["usable"](str(tmp_path / "bin/python"))
    assert not environment["usable"](str(_fake_python(tmp_path / "python", "raise SystemExit(1)")))


# -- the wheel ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_carries_code_queries_markets_and_sample(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = {"markets", "tokens", "crashes", "stress"}
    data = [path for folder in folders for path in ROOT.glob(f"data/{folder}/*.toml")]
    assert {path.parent.name for path in data} == folders
    for path in [*ROOT.glob("queries/**/*.sql"), *data, *_tracked_sample()]:
        inside = path.relative_to(ROOT).as_posix().removeprefix("data/")
        assert f"backtest/_assets/{inside}" in names
    for path in ROOT.glob("backtest/**/*.py"):
        assert path.relative_to(ROOT).as_posix() in names
    assert "backtest/report/page.html" in names
    assert not [name for name in names if not name.startswith(("backtest/", "liquidation_backtest-"))]
    assert wheel.stat().st_size < 6_000_000


def _tracked_sample() -> list[Path]:
    return [path for path in _tracked("") if path.is_relative_to(ROOT / "data/sample")]


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Installed without dependencies into an environment of its own, which borrows them from this one."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin/python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = subprocess.run(
        [str(python), "-c", "import backtest; print(backtest.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(venv)
    done = subprocess.run([str(venv / "bin/backtest"), "demo", "out"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for said in (
        "history",
        "more is refused under it",
        "calibrated on sample-crash",
        ": 0 liquidations (each would be a false alarm)",
        "out/answer.html",
        "out/report.html",
        "backtest sql --lake out/lake",
    ):
        assert said in " ".join(done.stdout.split())
    assert (tmp_path / "out/report.html").stat().st_size > 500_000
    assert list((tmp_path / "out/lake").glob("data/*/results/runs/*.parquet"))
