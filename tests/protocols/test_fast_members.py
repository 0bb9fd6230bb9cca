"""docs/speed.md says which protocol can what at once."""

from __future__ import annotations

from pathlib import Path

from backtest.protocols.interface import LendingProtocol
from backtest.protocols.registry import PROTOCOLS

PAGE = Path(__file__).parents[2] / "docs/speed.md"
MEMBERS = ("exposures", "views", "open_accounts", "together", "compiled_rules", "spreads", "shortfall", "mechanism")


def test_the_table_of_fast_members_is_right() -> None:
    head = "| protocol | " + " | ".join(f"`{member}`" for member in MEMBERS) + " |"
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    at = lines.index(head) + 2
    expected = [
        f"| {name} | "
        + " | ".join(
            "yes" if getattr(type(PROTOCOLS[name]), member) is not getattr(LendingProtocol, member) else ""
            for member in MEMBERS
        )
        + " |"
        for name in sorted(PROTOCOLS)
    ]
    assert lines[at : at + len(expected)] == expected
    assert not lines[at + len(expected)].startswith("|")
