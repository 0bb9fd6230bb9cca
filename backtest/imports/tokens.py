"""Decimals of well-known tokens by chain, bundled (``data/tokens``): what an export names by address need not say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec

from backtest.errors import UserError
from backtest.files import read_text
from backtest.foreign import Unreadable, shown, toml_value
from backtest.resources import resource

_ADDRESS = re.compile(r"0x[0-9a-f]{40}", re.ASCII)


class TokenFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of ``data/tokens``: lower-case addresses of tokens of one chain, and their decimals."""

    chain_id: int
    decimals: dict[str, int]


def parse_tokens(text: str, where: str) -> TokenFile:
    """A file's content; UserError in one line where it is none."""
    try:
        found: TokenFile = toml_value(text, TokenFile)
    except Unreadable as error:
        raise UserError(f"{where}: {error}", "see data/tokens") from None
    for address, decimals in found.decimals.items():
        if not _ADDRESS.fullmatch(address) or not 0 <= decimals <= 38:
            raise UserError(
                f"{where}: {shown(address, 60)} = {shown(str(decimals), 20)}",
                "give 0x and 40 lower-case hex digits, and decimals from 0 to 38",
            )
    return found


@cache
def known_decimals(chain_id: int) -> Mapping[str, int]:
    """Lower-case address to decimals of the tokens that are known of a chain; empty where none are."""
    path: Path = resource("tokens") / f"{chain_id}.toml"
    if not path.is_file():
        return {}
    found = parse_tokens(read_text(path), path.name)
    if found.chain_id != chain_id:
        raise UserError(f"{path.name} is of chain {found.chain_id}", "name it after its chain")
    return found.decimals
