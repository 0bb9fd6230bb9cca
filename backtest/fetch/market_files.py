"""Market descriptions by name or file."""

from __future__ import annotations

from pathlib import Path

from backtest.errors import UserError, did_you_mean
from backtest.markets import MarketConfig, parse_market
from backtest.resources import resource


def find_market(name_or_path: str) -> MarketConfig:
    """The description that ships under this name (``data/markets``), or the one in the user's own TOML file."""
    path = Path(name_or_path)
    if path.suffix != ".toml" and path.name == name_or_path:
        shipped = resource("markets")
        path = shipped / f"{name_or_path}.toml"
        if not path.is_file():
            known = [file.stem for file in shipped.glob("*.toml")]
            raise UserError(
                f"unknown market '{name_or_path}'",
                f"{did_you_mean(name_or_path, known)} or give the path of a TOML file",
            )
    try:
        return parse_market(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read market file {path}: {error}", "give the name of a market or the path of a TOML file"
        ) from None


def shipped_markets() -> list[MarketConfig]:
    """Every description that ships, by name."""
    return [
        parse_market(path.read_text(encoding="utf-8"), str(path)) for path in sorted(resource("markets").glob("*.toml"))
    ]
