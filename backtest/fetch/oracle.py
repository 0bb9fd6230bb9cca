"""A market's oracle over time: which contract it was, which source each asset used, and what it answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backtest.fetch.adapters import calls_at, selector, word
from backtest.model import SourceChange
from backtest.prices.oracles import ZERO_ADDRESS

if TYPE_CHECKING:
    from backtest.fetch.rpc import Rpc


ASSET_PRICE = "getAssetPrice(address)"


@dataclass(frozen=True, slots=True)
class Use:
    """``oracle`` takes the price of ``asset`` from ``source`` at the end of the blocks ``first`` to ``last``; ``since``
    is the block of the change that began it; ``getter``, ``others``, ``untold``, ``about``, ``arguments`` and ``place``
    as in ``SourceChange``.
    """

    asset: str
    source: str
    oracle: str
    since: int
    first: int
    last: int
    getter: str = ASSET_PRICE
    others: tuple[str, ...] = ()
    untold: bool = False
    about: str | None = None
    arguments: tuple[int, ...] = ()
    place: int = 0

    @property
    def sources(self) -> tuple[str, ...]:
        """Those that are asked, in order."""
        return tuple(source for source in (self.source, *self.others) if source != ZERO_ADDRESS)


def uses_of(changes: Iterable[SourceChange], start: int, end: int) -> list[Use]:
    """Every use of a source at the end of some block of the range, or of the block before it; not of prices by
    definition.
    """
    history: dict[str, list[SourceChange]] = defaultdict(list)
    for change in changes:
        history[change.asset].append(change)
    uses: list[Use] = []
    for own in history.values():
        for place, change in enumerate(own):
            until = own[place + 1].block_number - 1 if place + 1 < len(own) else end
            first, last = max(change.block_number, start - 1), min(until, end)
            if first <= last and change.fixed is None:
                uses.append(
                    Use(
                        change.asset,
                        change.source,
                        change.oracle,
                        change.block_number,
                        first,
                        last,
                        change.getter,
                        change.others,
                        change.untold,
                        change.about,
                        change.arguments,
                        change.place,
                    )
                )
    return uses


class Oracles:
    """The market's oracle, whichever it was."""

    def __init__(self, rpc: Rpc, uses: Iterable[Use]) -> None:
        self.rpc = rpc
        self.uses: dict[str, list[Use]] = defaultdict(list)
        for use in uses:
            self.uses[use.asset].append(use)

    def prices(self, asked: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int | None]:
        """The price of each (asset, block) at the end of the block, in the order asked; None where the oracle reverts.

        One ``getAssetsPrices`` a block and oracle; where that reverts, each asset is asked for alone, and so an oracle
        of one price.
        """
        together: dict[tuple[str, int], list[str]] = defaultdict(list)
        own: list[tuple[str, int, Use]] = []
        for asset, block in asked:
            use = self._use(asset, block)
            if use.getter == ASSET_PRICE:
                together[use.oracle, block].append(asset)
            else:
                own.append((asset, block, use))
        prices: dict[tuple[str, int], int | None] = dict.fromkeys(asked)
        groups = list(together.items())
        calls = [(oracle, _prices_call(assets), block) for (oracle, block), assets in groups]
        alone: list[tuple[str, str, int]] = []
        for ((oracle, block), assets), data in zip(groups, calls_at(self.rpc, calls), strict=True):
            if data is None or len(data) < 64 + 32 * len(assets):
                alone += [(oracle, asset, block) for asset in assets]
                continue
            for place, asset in enumerate(assets):
                prices[asset, block] = word(data[64 + 32 * place :])
        single = [(oracle, f"{selector(ASSET_PRICE)}{asset[2:]:0>64}", block) for oracle, asset, block in alone]
        for (_, asset, block), data in zip(alone, calls_at(self.rpc, single), strict=True):
            prices[asset, block] = word(data)
        answers = calls_at(self.rpc, [(use.oracle, _own_call(use), block) for _, block, use in own])
        prices |= {(asset, block): _told(use, data) for (asset, block, use), data in zip(own, answers, strict=True)}
        return {key: price or None for key, price in prices.items()}

    def _use(self, asset: str, block: int) -> Use:
        return next(use for use in self.uses[asset] if use.first <= block <= use.last)


def _told(use: Use, data: bytes | None) -> int | None:
    """The word of an answer that is the price; None where the call reverted or returned fewer."""
    return word(data[32 * use.place :]) if data is not None else None


def _own_call(use: Use) -> str:
    """Of an oracle that is asked for one price at a time: with the address it is about, or its own arguments."""
    if use.arguments:
        return selector(use.getter) + "".join(f"{word:064x}" for word in use.arguments)
    about = f"{(use.about or use.asset)[2:]:0>64}" if use.getter.endswith("(address)") else ""
    return selector(use.getter) + about


def _prices_call(assets: Sequence[str]) -> str:
    return f"{selector('getAssetsPrices(address[])')}{32:064x}{len(assets):064x}" + "".join(
        f"{asset[2:]:0>64}" for asset in assets
    )
