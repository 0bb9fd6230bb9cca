"""Market descriptions by name or file."""

from __future__ import annotations

from pathlib import Path

from backtest.errors import UserError, did_you_mean
from backtest.files import read_text
from backtest.foreign import shown
from backtest.markets import MarketConfig, parse_market
from backtest.resources import resource


def find_market(name_or_path: str) -> MarketConfig:
    """The description that ships under this name (``data/markets``), or the one in the user's own TOML file."""
    path = Path(name_or_path)
    if path.suffix != ".toml" and path.name == name_or_path:
        shipped = {file.stem: file for file in resource("markets").glob("*.toml")}
        if name_or_path not in shipped:
            raise UserError(
                f"unknown market '{shown(name_or_path, 100)}'",
                f"{did_you_mean(name_or_path[:100], shipped)} or give the path of a TOML file",
            )
        path = shipped[name_or_path]
    try:
        text = read_text(path)
    except UserError as error:
        raise UserError(
            f"cannot read market file {shown(str(path))}: {error.what}",
            "give the name of a market or the path of a TOML file",
        ) from None
    return parse_market(text, str(path))


def shipped_markets() -> list[MarketConfig]:
    """Every description that ships, by name."""
    return [
        parse_market(path.read_text(encoding="utf-8"), str(path)) for path in sorted(resource("markets").glob("*.toml"))
    ]
