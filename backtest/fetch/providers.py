"""Which providers to ask: addresses and files as ``--rpc`` takes them. Addresses hold keys, and no line made here shows
more of one than its scheme and host.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from backtest import files, foreign
from backtest.errors import UserError
from backtest.fetch.provider import redact

__all__ = ["COMPARED", "ProviderSettings", "Providers", "providers_of"]

COMPARED = 0.05
"""The share of what trusted providers reply that is asked of a second one."""
MOST_PROVIDERS = 16
MOST_RATE = 100_000.0
_SIZE = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}")
_EXAMPLE = 'give [[provider]] tables with url = "https://...", and if wanted name, trusted, rate and workers'


class ProviderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One provider. ``rate``: requests per second that its plan allows; ``workers``: requests in flight, where other
    than of the others; not ``trusted``: nothing it says counts until a second provider has said the same.
    """

    url: str
    name: str | None = None
    trusted: bool = True
    rate: float | None = None
    workers: int | None = None

    def __repr__(self) -> str:
        return f"ProviderSettings({self.name or redact(self.url)})"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    provider: list[ProviderSettings]
    compare: float = COMPARED


@dataclass(frozen=True)
class Providers:
    """Providers, and the share of trusted replies that is asked of two."""

    settings: Sequence[ProviderSettings]
    compare: float = COMPARED


def providers_of(words: Sequence[str]) -> Providers:
    """What several ``--rpc`` say: each is an address, or the path of a TOML file of providers.

    Raises:
        UserError: a file cannot be read or says something else, or two files say how much to compare.
    """
    found: list[ProviderSettings] = []
    shares: set[float] = set()
    for word in words:
        path = None if "://" in word else Path(word)
        # another word than the name of what is there may be an address that lacks http://: it is shown nowhere
        if path is not None and path.suffix != ".toml" and os.path.lexists(path):
            kind = "a folder" if path.is_dir() else "a file that does not end in .toml"
            raise UserError(
                f"--rpc {foreign.shown(word)} is {kind}",
                "give the address of a node (http://...), or a TOML file of providers",
            )
        if path is not None and path.suffix == ".toml":
            read = _read(path)
            found += read.settings
            shares.add(read.compare)
        else:
            found.append(ProviderSettings(word))
    if len(shares) > 1:
        raise UserError("two files of providers with different shares to compare", "give one file")
    return Providers(found, shares.pop() if shares else COMPARED)


def _read(path: Path) -> Providers:
    where = foreign.shown(str(path))
    source = files.read_text(path, _SIZE)
    try:
        found: _File = foreign.toml_value(source, _File)
    except foreign.Unreadable as error:
        raise UserError(f"{where}: {_safe(str(error))}", _EXAMPLE) from None
    if not 0 <= found.compare <= 1:
        raise UserError(f"{where}: compare = {found.compare:g}", "give a share between 0 and 1")
    if not found.provider:
        raise UserError(f"{where} names no provider", _EXAMPLE)
    names: set[str] = set()
    for number, each in enumerate(found.provider, 1):
        place = f"{where}: provider {number}"
        if each.name is not None and (not _NAME.fullmatch(each.name) or _tells(each.name, each.url)):
            raise UserError(f"{place}: its name is not usable", "letters, digits and . _ -, no part of its address")
        if each.name in names:
            raise UserError(f"{place}: a second one named '{each.name}'", "give each a name of its own")
        if each.rate is not None and not 0 < each.rate <= MOST_RATE:
            raise UserError(f"{place}: rate = {each.rate:g}", f"give requests per second, up to {MOST_RATE:g}")
        names |= {each.name} - {None}  # type: ignore[arg-type]
    return Providers(found.provider, found.compare)


def _tells(name: str, url: str) -> bool:
    """Whether a name holds what may be a key."""
    parts = [part for part in re.split(r"[/?&=@:#]", url) if len(part) >= 8]
    return any(part in name or (len(name) >= 8 and name in part) for part in parts)


_SAID = re.compile(
    r"Expected `[a-z |]+`, got `[a-z |]+`( - at `[$][a-z.\[\]0-9]*`)?|Object missing required field `[a-z]+`.*"
)
_PLACE = re.compile(r"\(at (line [0-9]+, column [0-9]+|end of document)\)")


def _safe(text: str) -> str:
    """A reader's complaint without what stands in the file: a misplaced address may be the name of a field."""
    if _SAID.fullmatch(text) or text.startswith("a number of "):
        return text
    if "unknown field" in text:
        return "it has a field of another name than those known"
    place = _PLACE.search(text)
    return f"it is not TOML{f' {place[0]}' if place else ''}"
