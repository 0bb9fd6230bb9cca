"""The files of ``data/crashes``: one TOML file an event."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Literal

import msgspec

from backtest.errors import UserError, did_you_mean
from backtest.files import read_text
from backtest.foreign import Unreadable, shown, toml_value
from backtest.resources import resource
from backtest.scenario import seconds_of
from backtest.units import BPS, WAD

Measure = Literal["repaid", "seized", "bad_debt", "liquidations", "accounts"]
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,18})?", re.ASCII)
_FIX = "see data/crashes for complete examples"


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class CrashWindow(_Strict, frozen=True):
    """When the event was on a chain: from a time (UTC) up to another one, which is not part of it; blocks where they
    are known.
    """

    chain_id: int
    from_time: str
    until_time: str
    from_block: int | None = None
    to_block: int | None = None

    def __post_init__(self) -> None:
        if not seconds_of(self.from_time, "from_time") < seconds_of(self.until_time, "until_time"):
            raise UserError(f"a window from {self.from_time} until {self.until_time}", "give a later end")
        if (self.from_block is None) != (self.to_block is None) or (self.from_block or 0) > (self.to_block or 0):
            raise UserError(f"a window from block {self.from_block} to {self.to_block}", "give both, in order, or none")


class Reported(_Strict, frozen=True):
    """A figure that was reported: ``value`` as text, in ``unit``. ``definition`` is what it counts, ``scope`` where,
    ``period`` when. ``tag``: primary (read in the source that is named), second-hand (another quotes it), derived
    (worked out of the others). ``measure``: which of ours may stand beside it; ``markets``: those that ship and lie in
    its scope.
    """

    what: str
    value: str
    unit: str
    definition: str
    scope: str
    period: str
    source: str
    tag: Literal["primary", "second-hand", "derived"]
    measure: Measure | None = None
    markets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NUMBER.fullmatch(self.value):
            raise UserError(f"the reported value '{shown(self.value, 40)}'", "give a decimal number as text")
        if (self.measure is None) != (not self.markets):
            raise UserError(f"reported '{shown(self.what, 60)}'", "give measure and markets together, or none of them")

    @property
    def number(self) -> Decimal:
        """The value."""
        return Decimal(self.value)


class PricePath(_Strict, frozen=True):
    """Prices that happened, few of them: (time, price as text). ``inverted``: the price is the debt's in collateral,
    else the collateral's in debt.
    """

    collateral: str
    debt: str
    source: str
    points: tuple[tuple[str, str], ...]
    inverted: bool = False

    def __post_init__(self) -> None:
        if len(self.points) < 2:
            raise UserError(f"a path of {len(self.points)} points", "give two at least")
        for time, price in self.points:
            if not _NUMBER.fullmatch(price) or not Decimal(price):
                raise UserError(f"the price '{shown(price, 40)}' at {time}", "give a number above zero, as text")
        for before, after in pairwise(self.times()):
            if not before < after:
                raise UserError("points that are not in order of time", "give each time once, in order")

    def times(self) -> list[int]:
        """Seconds since 1970."""
        return [seconds_of(time, "points") for time, _ in self.points]

    def prices(self) -> list[int]:
        """The collateral in debt, wad, cut."""
        found = [int(Decimal(price).scaleb(18)) for _, price in self.points]
        return [WAD * WAD // price for price in found] if self.inverted else found


class ModelBook(_Strict, frozen=True):
    """A model book: so many accounts with the same debt, whose health when the path begins is spread evenly between two
    bounds; basis points. ``debt``: of all together, whole units. ``bonus``: one and the bonus.
    """

    accounts: int
    debt: int
    threshold: int
    bonus: int
    close_factor: int
    healths: tuple[int, int]

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("accounts", self.accounts, 1, 100_000),
            ("debt", self.debt, self.accounts, 10**15),
            ("threshold", self.threshold, 1, BPS),
            ("bonus", self.bonus, BPS, 2 * BPS),
            ("close_factor", self.close_factor, 1, BPS),
        ):
            if not low <= value <= high:
                raise UserError(f"book.{name} = {value}", f"give {low} to {high}")
        if not BPS < self.healths[0] <= self.healths[1] <= 100 * BPS:
            raise UserError(f"book.healths = {list(self.healths)}", f"give two bounds above {BPS}, in order")


class Crash(_Strict, frozen=True):
    """One event. ``markets``: those that ship and were hit; ``size``: what is known of the fetch; ``unknown``: facts
    that were looked for and not found.
    """

    name: str
    title: str
    description: str
    windows: tuple[CrashWindow, ...]
    reported: tuple[Reported, ...]
    markets: tuple[str, ...] = ()
    size: str = ""
    unknown: tuple[str, ...] = ()
    path: PricePath | None = None
    book: ModelBook | None = None

    def __post_init__(self) -> None:
        if not self.windows or not self.reported:
            raise UserError(f"crash '{shown(self.name, 60)}'", "give one window and one reported figure at least")
        if (self.path is None) != (self.book is None):
            raise UserError(f"crash '{shown(self.name, 60)}'", "give path and book together, or none of them")
        named = {market for each in self.reported for market in each.markets}
        if strange := sorted(named - set(self.markets)):
            raise UserError(f"a reported figure names market '{shown(strange[0], 60)}'", "name it under markets too")

    def window(self, chain_id: int) -> CrashWindow:
        """The window of a chain; UserError where the event has none there."""
        for window in self.windows:
            if window.chain_id == chain_id:
                return window
        chains = ", ".join(str(window.chain_id) for window in self.windows)
        raise UserError(f"crash {self.name} has no window on chain {chain_id}", f"its chains: {chains}")


def parse_crash(text: str, where: str) -> Crash:
    """A crash from TOML text; ``where`` names its file. UserError in one line."""
    try:
        found: Crash = toml_value(text, Crash)
    except Unreadable as error:
        raise UserError(f"{shown(where)}: {error}", _FIX) from None
    except UserError as error:
        raise UserError(f"{shown(where)}: {error.what}", error.fix) from None
    if odd := next((each for each in _texts(msgspec.to_builtins(found)) if shown(each, len(each)) != each), None):
        raise UserError(f"{shown(where)}: '{shown(odd, 60)}' cannot be shown as it is", "leave control characters out")
    return found


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def shipped() -> list[Crash]:
    """Every crash that ships, in order of time."""
    files = sorted(resource("crashes").glob("*.toml"))
    return [parse_crash(read_text(file), file.name) for file in files]


def find_crash(name: str) -> Crash:
    """The crash that ships under this name, or the one of a TOML file."""
    if name.endswith(".toml"):
        return parse_crash(read_text(pathlib.Path(name)), pathlib.Path(name).name)
    known = {crash.name: crash for crash in shipped()}
    if name not in known:
        raise UserError(f"there is no crash '{shown(name, 60)}'", did_you_mean(name[:60], known))
    return known[name]
