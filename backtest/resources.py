"""Where the files that ship with the package are: in a checkout at the top level, in a wheel inside the package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_CHECKOUT = {
    "queries": _PACKAGE.parent / "queries",
    "markets": _PACKAGE.parent / "data/markets",
    "sample": _PACKAGE.parent / "data/sample",
    "tokens": _PACKAGE.parent / "data/tokens",
    "crashes": _PACKAGE.parent / "data/crashes",
    "stress": _PACKAGE.parent / "data/stress",
}


def resource(name: str) -> Path:
    """The folder of ``queries``, ``markets``, ``sample``, ``tokens``, ``crashes`` or ``stress``."""
    packaged = _PACKAGE / "_assets" / name
    return packaged if packaged.is_dir() else _CHECKOUT[name]
