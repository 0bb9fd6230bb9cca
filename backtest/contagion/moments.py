"""What connects the markets of a joint replay as it goes on: its own books at some moments, from right before its first
block to its window's end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from backtest.contagion.books import Connected, MarketBook, Token, connected, merged
from backtest.contagion.depths import depth_value_up, follow
from backtest.contagion.fire_sales import DepthOf
from backtest.model import AccountId, AssetId, Market
from backtest.protocols.book import Book
from backtest.protocols.interface import LendingProtocol
from backtest.replay.measure import Onlooker
from backtest.replay.response.curves import PoolCurve
from backtest.replay.timeline import Timeline

MOMENTS = 6
"""How many there are, evenly in time, beside the one before the first block."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A market at one moment. ``step``: 0 before the first block, ``MOMENTS`` at the end; ``depth``: by token, what
    ``depths.depth_value_up`` says of it.
    """

    step: int
    timestamp: int
    bound: Connected
    depth: Mapping[Token, int]


@dataclass(slots=True)
class MarketLooks:
    """One market of a joint replay, looked at. ``worth``, ``claims``: as those of ``MarketBook``; ``depths``: what
    prices do, the same for all markets (``depths.curves_of``).
    """

    protocol: LendingProtocol[Any]
    market: Market
    worth: Fraction
    claims: Mapping[AssetId, tuple[str, Token]]
    depths: Mapping[Token, DepthOf]
    steps: Mapping[int, int]
    """To the block at whose end a step's look is taken."""
    seen: list[Seen] = field(default_factory=list)
    _told: dict[AccountId, str] = field(default_factory=dict)
    """Whose accounts are where only the market's logs say it, as of the last look at which they did."""

    @property
    def onlooker(self) -> Onlooker:
        """For the engine."""
        return Onlooker(tuple(self.steps.values()), self._look)

    def owner(self, account: AccountId) -> str:
        """Whose an account is, of those that there were at some look and those that came and went between."""
        return self._told.get(account) or self.protocol.owner_of(self.market.accounts[account])

    def exposures(self, place: int) -> Iterator[dict[str, Any]]:
        """Rows of ``joint_exposures``; ``place``: among the markets."""
        labels = {asset.asset: self.market.label(asset.id) for asset in self.market.assets}
        claimed = {self.market.assets[asset].asset: issuer for asset, (issuer, _) in self.claims.items()}
        for seen in self.seen:
            held = dict(zip(seen.bound.tokens, seen.bound.held[0], strict=True))
            for (_, token), supplied in sorted(seen.bound.supplied.items()):
                lent = seen.bound.lent[self.market.name, token]
                if supplied or lent:
                    yield {
                        "step": seen.step,
                        "timestamp": seen.timestamp,
                        "place": place,
                        "of_market": self.market.name,
                        "asset": token,
                        "symbol": labels[token],
                        "claim_on": claimed.get(token),
                        "held_base": held.get(token, 0),
                        "supplied_base": supplied,
                        "lent_base": lent,
                        "depth_base": seen.depth.get(token),
                    }

    def _look(self, book: Book[Any]) -> None:
        step = list(self.steps)[len(self.seen)]
        here = MarketBook(self.market.name, book, self.worth, claims=self.claims)
        for account in self.protocol.accounts(book.state):
            told = self.protocol.owner_in(book.state, account)
            if told is not None and account < len(self.market.accounts):
                self._told[account] = told
        self.seen.append(Seen(step, book.now.timestamp, connected([here]), self._depth(here)))

    def _depth(self, here: MarketBook) -> dict[Token, int]:
        """Of tokens that this market has; of a pool, only where it follows it."""
        followed = follow(self.depths, here)
        found = {
            token: depth_value_up(token, [here], self.depths)
            for token, depth in self.depths.items()
            if token in followed or not isinstance(depth.curve, PoolCurve)
        }
        return {token: depth for token, depth in found.items() if depth is not None}


def steps_of(timeline: Timeline, first: int | None, end: int, since: int, until: int) -> dict[int, int]:
    """At the end of which block of a market each look is taken, by step: ``since`` and ``until`` are seconds, those of
    the window of all markets; ``first`` and ``end`` the market's own first and last block in it. No look before the
    market's history begins.
    """
    found: dict[int, int] = {}
    begins = timeline.first_block if first is None else max(first, timeline.first_block)
    if begins > timeline.first_block:
        found[0] = timeline.last_known_block(begins - 1)
    for step in range(1, MOMENTS + 1):
        block = end if step == MOMENTS else timeline.block_before(since + (until - since) * step // MOMENTS)
        if block is not None and begins <= block:
            found[step] = min(block, end)
    return found


def at_each(markets: Sequence[MarketLooks]) -> list[tuple[int, Connected, dict[Token, int]]]:
    """By step what connects the markets, each as if it was empty where its history has not begun, and depth by token:
    that of the first market that tells it.
    """
    by_step: dict[int, dict[str, Seen]] = {}
    for one in markets:
        for seen in one.seen:
            by_step.setdefault(seen.step, {})[one.market.name] = seen
    found = []
    for step, there in sorted(by_step.items()):
        bound = merged([there[one.market.name].bound if one.market.name in there else _NOTHING for one in markets])
        depth: dict[Token, int] = {}
        for seen in there.values():
            depth = {**seen.depth, **depth}
        found.append((step, bound, depth))
    return found


def linked_accounts(
    markets: Sequence[MarketLooks], hit: Sequence[Collection[str]], since: Sequence[Mapping[int, int]]
) -> list[dict[str, Any]]:
    """Rows of ``joint_accounts``: of owners who have accounts in several markets.

    ``hit``: addresses that were liquidated, by market; ``since``: when each account was first seen, those that were.
    """
    by_owner: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    matter = {owner for one in markets for seen in one.seen for owner in seen.bound.owed}
    for one, addresses, first in zip(markets, hit, since, strict=True):
        for number, time in first.items():
            address, owner = one.market.accounts[number], one.owner(AccountId(number))
            row = {"of_market": one.market.name, "account": address, "owner": owner, "since": time}
            by_owner[owner].append(row)
            if address in addresses:
                matter.add(owner)
    return [
        row
        for owner, rows in sorted(by_owner.items())
        if owner in matter and len({row["of_market"] for row in rows}) > 1
        for row in rows
    ]


_NOTHING = Connected((), ((),), (0,), (0,), (0,), {}, {}, {}, {})
