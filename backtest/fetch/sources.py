"""What the coverage of a contract's logs is called in a lake: its role, its address, and the set of events asked
for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from backtest.errors import FetchError
from backtest.lake import Lake
from backtest.model import EventSpec

EVERY = "*"
"""In place of a key's value: a market of all that share the contracts."""


class CoverageSources:
    """The sources of one market. ``keys``: the market's parameters that ``EventSpec.key`` names (0x hex words, or
    names).
    """

    def __init__(self, lake: Lake, market: str, keys: Mapping[str, str]) -> None:
        self._lake, self._market, self._keys = lake, market, keys

    def key(self, specs: Sequence[EventSpec], role: str) -> str:
        """The word that the first indexed argument of all events of a role has, or "": any. A name is ASCII at the left
        of its word.
        """
        (name,) = {spec.key for spec in specs if spec.emitter == role}
        if name is None:
            return ""
        given = self._keys.get(name, "")
        if given == EVERY or "," in given:  # of a market of several, all are asked for and the fold takes its own
            return ""
        word = (
            given.lower()
            if given.startswith("0x") or not given.isascii()
            else f"0x{given.encode().ljust(32, bytes(1)).hex()}"
        )
        if not given or len(word) != 66 or not word.startswith("0x") or set(word[2:]) - set("0123456789abcdef"):
            raise FetchError(
                f"market '{self._market}': parameters.{name} = '{given}' is not a 32-byte word",
                "give 0x and 64 hex digits, or a name",
            )
        return word

    def of(self, namespace: str, specs: Sequence[EventSpec], role: str, address: str) -> str:
        """The coverage source of one contract; it names the set of events, so that a set that grew is not taken for
        covered.
        """
        own = sorted(f"{spec.name} {spec.signature} {sorted(spec.wide)}" for spec in specs if spec.emitter == role)
        own += [key] if (key := self.key(specs, role)) else []
        prefix = f"{namespace}/{role}@"
        source = f"{prefix}{hashlib.sha256('|'.join(own).encode()).hexdigest()[:8]}/{address}"
        sources = self._lake.sources(self._market) if self._market in self._lake.markets() else []
        for other in sources:
            if other != source and other.startswith(prefix) and other.endswith(address):
                raise FetchError(
                    f"the lake holds logs of {role} {address} as an older version of backtest defined its events",
                    "fetch the market into a new lake",
                )
        return source
