"""Runs on deposits along a path: what suppliers ask back and get, how much of what is supplied is lent out, and which
liquidations the market cannot pay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from backtest.model import AccountId, AssetId
from backtest.protocols.book import Book
from backtest.replay.measure import Onlooker
from backtest.replay.record import Replay
from backtest.replay.what_if.ahead import StandingBook, Withdrawal

MOMENTS = 12
"""Steps at which utilisation is taken, at most: those of withdrawals, evenly among them, and the last."""


@dataclass(slots=True)
class Leaving:
    """Who leaves on a path, looked at. ``steps``: of the path."""

    standing: StandingBook[Any]
    withdrawals: Sequence[Withdrawal]
    steps: int
    _left: list[dict[tuple[AccountId, AssetId], tuple[int, int]]] = field(default_factory=list)
    """By moment: what is still there of those who leave, scaled and native units."""

    @property
    def moments(self) -> list[int]:
        """Steps, increasing; none where nobody leaves."""
        if not self.withdrawals:
            return []
        asked = sorted({each.step for each in self.withdrawals})
        count = min(MOMENTS - 1, len(asked))
        chosen = {asked[(len(asked) - 1) * place // max(1, count - 1)] for place in range(count)}
        return sorted(chosen | {self.steps})

    @property
    def onlooker(self) -> Onlooker | None:
        """For the engine; None where nobody leaves."""
        blocks = tuple(self.standing.block + step for step in self.moments)
        return Onlooker(blocks, self._look) if blocks else None

    def _look(self, book: Book[Any]) -> None:
        there = {}
        for account in {each.account for each in self.withdrawals}:
            for holding in book.protocol.holdings(book.state, account, book.now):
                if holding.collateral_scaled:
                    there[account, holding.asset] = holding.collateral_scaled, holding.collateral
        self._left.append(there)

    def rows(self, ended: Replay[Any]) -> Iterator[dict[str, Any]]:
        """Of each asset that somebody leaves, at each moment: native units, from the path's beginning on. What is paid
        is worth what its units are at the moment, and what lacks no more than rounding is all of it, so that nothing is
        taken for withheld that was paid; other interest of the path is in no figure.
        """
        before = {
            (account, asset): (scaled, amount)
            for asset, held in self.standing.suppliers.items()
            for account, scaled, amount in held
        }
        for moment, there in zip(self.moments, self._left, strict=True):
            until = self.standing.block + moment
            asked, paid, rounded = Counter[AssetId](), Counter[AssetId](), Counter[AssetId]()
            for each in self.withdrawals:
                asked[each.asset] += each.amount if each.step <= moment else 0
            largest = {asset: held for (_, asset), held in sorted(there.items(), key=lambda one: one[1])}
            for account, asset in sorted({(each.account, each.asset) for each in self.withdrawals}):
                scaled, amount = before[account, asset]
                gone = scaled - there.get((account, asset), (0, 0))[0]
                units, worth = largest.get(asset, (scaled, amount))
                paid[asset] += max(0, gone) * worth // units
                rounded[asset] += 1 - (-worth // units)
            repaid, taken = _moved(ended, self.standing.timestamp, until)
            for asset in sorted(asked):
                supplied, owed = self.standing.lending[asset]
                got = asked[asset] if asked[asset] - paid[asset] <= rounded[asset] else paid[asset]
                yield {
                    "asset": self.standing.market.label(asset),
                    "step": moment,
                    "asked": asked[asset],
                    "paid": got,
                    "supplied": max(0, supplied - got - taken[asset]),
                    "lent": max(0, owed - repaid[asset]),
                }


def _moved(ended: Replay[Any], since: int, until: int) -> tuple[Counter[AssetId], Counter[AssetId]]:
    """What liquidations repaid and wrote off, and what they were paid out of, up to the end of a block."""
    repaid, taken = Counter[AssetId](), Counter[AssetId]()
    for made in ended.liquidations:
        if since < made.clock.timestamp and made.clock.block_number <= until:
            order = made.fill.order
            repaid[order.pair.debt_asset] += made.fill.repaid * made.takes
            if not order.receive_collateral_token:
                taken[order.pair.collateral_asset] += made.fill.seized * made.ends
    for deficit in ended.deficits:
        if since < deficit.clock.timestamp and deficit.clock.block_number <= until:
            repaid[deficit.asset] += deficit.amount
    return repaid, taken


def unpaid_rows(ended: Replay[Any]) -> list[dict[str, Any]]:
    """By asset how many accounts' liquidations the market could not pay in it at some look, and how much of it they
    would have taken, base units: of each account the most at one.
    """
    accounts, value = Counter[AssetId](), Counter[AssetId]()
    for each in ended.unpaid:
        accounts[each.asset] += 1
        value[each.asset] += each.value_base
    label = ended.book.market.label
    return [
        {"asset": label(asset), "accounts": accounts[asset], "value_base": value[asset]} for asset in sorted(accounts)
    ]
