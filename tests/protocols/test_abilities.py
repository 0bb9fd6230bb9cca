"""What a protocol can do is declared in one place: what is misspelt or mistyped is an error, not a silent "cannot"."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backtest.protocols.aave_v3 import AaveV3
from backtest.protocols.interface import LendingProtocol, LiquidationTerms

ROOT = Path(__file__).parents[2]


def test_a_public_member_that_is_not_declared_is_refused() -> None:
    with pytest.raises(TypeError, match="Misspelt: a protocol has no member vieews"):

        class Misspelt(AaveV3):
            def vieews(self) -> None: ...


def test_what_is_not_overridden_says_that_it_cannot() -> None:
    class Bare(LendingProtocol[None]):
        name = "bare"

    bare = Bare()  # type: ignore[abstract]
    assert bare.views(None, None, None) is None
    assert bare.weight(None, 0, 0) is None
    assert bare.safe_prices(None, 0, 0, None, None) is None
    assert bare.exposures(None, [], None) is None
    assert bare.together(None, [], None, None, 0, cost=0, calls={}, most=1) is None
    assert bare.describe({}, []) is None
    assert not bare.open_accounts(None, None)
    assert bare.mechanism(0) is None
    assert bare.liquidation_terms({}) == LiquidationTerms(None)
    assert (bare.oracle_delay, bare.assumptions, dict(bare.gas_units), bare.market_parameters) == (0, (), {}, ())


@pytest.mark.slow
def test_a_broken_copy_fails_the_type_check(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "backtest", tmp_path / "backtest", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file = tmp_path / "backtest/protocols/aave_v3/__init__.py"
    text = file.read_text()
    for right, wrong in [
        ("    def views(", "    def vieews("),
        ("    @override\n    def settle_together(", "    def settle_together("),
        (
            "def weight(self, state: AaveState, account: AccountId, asset: AssetId) -> int:",
            "def weight(self, state: AaveState, account: AccountId, asset: AssetId) -> str:",
        ),
        ("gas_units: Mapping[str, int]", "gas_units: Mapping[str, str]"),
        ("    def quote(", "    def qoute("),
    ]:
        assert right in text
        text = text.replace(right, wrong)
    file.write_text(text)
    command = [sys.executable, "-m", "mypy", "backtest/protocols/aave_v3/__init__.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    for what in (
        'Method "vieews" is marked as an override, but no base method was found',
        'Method "settle_together" is not using @override',
        'Return type "str" of "weight" incompatible',
        "gas_units.*Incompatible types in assignment|Incompatible types in assignment.*Mapping\\[str, str\\]",
        'Cannot instantiate abstract class "AaveV3" with abstract attribute "quote"',
    ):
        assert re.search(what, done.stdout), done.stdout


def test_no_ability_is_found_by_a_string() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "backtest").rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"(get|has)attr\([^)]*protocol", line)
    ]
    assert found == []
