"""The reserves of a market, their tokens, and which code those ran when. Read once, before the fold streams the
rest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtest.errors import RulesError, UserError
from backtest.protocols.aave.columns import INCOMPLETE, address_set, address_text, rows
from backtest.protocols.aave_v3.events import POOL_ID, emode_price_sources
from backtest.protocols.aave_v3.tokens import Kind, rounding, unscaled_transfers
from backtest.protocols.interface import RawEvents

DISCOUNT_EVENT = "DiscountPercentUpdated"
FLAGS_AFTER_FROM_POOL = 8
"""First pool revision (3.4) whose aTokens log BalanceTransfer before the flags that the transfer changes."""

_TOKEN_REVISION_OF_POOL = {1: 1, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2, 8: 3, 9: 4, 10: 5, 11: 5}
"""Revision of a token as it was listed, by the pool's, where it was not read: listings use the code that fits the
pool.
"""


@dataclass(frozen=True, slots=True)
class Token:
    """An aToken or variable debt token of one asset, listed at ``seq``."""

    address: str
    asset: int
    kind: Kind
    seq: int
    block_number: int


@dataclass(frozen=True, slots=True)
class ListedReserve:
    """One listing of an asset. ``id`` is the pool's: the lowest that is free (``PoolLogic.executeInitReserve``)."""

    asset: int
    id: int
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Drop:
    """The end of a listing: the reserve left its ``id``, which the next one takes."""

    asset: int
    id: int
    row: Mapping[str, Any]


@dataclass
class Listing:
    """Assets, dense in order of listing; their tokens; and Arrow value sets that turn addresses into these numbers.

    ``priced``: what e-mode categories name as their price source to the number that stands for it: a reserve's own, or
    one after those of all reserves.
    """

    assets: list[str] = field(default_factory=list)
    priced: dict[str, int] = field(default_factory=dict)
    reserves: list[ListedReserve] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    stable_tokens: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    def read(cls, raw: RawEvents) -> Listing:
        listing = cls()
        slots: list[int | None] = []
        changes = [(row["seq"], row) for event in ("ReserveInitialized", "ReserveDropped") for row in rows(raw, event)]
        for seq, row in sorted(changes, key=lambda change: change[0]):
            address = address_text(row["asset"])
            if "a_token" not in row:
                asset = listing.assets.index(address)
                listing.drops.append(Drop(asset, slots.index(asset), row))
                slots[slots.index(asset)] = None
                continue
            if address not in listing.assets:
                listing.assets.append(address)
            asset = listing.assets.index(address)
            if None in slots:
                slots[slots.index(None)] = asset
            else:
                slots.append(asset)
            listing.reserves.append(ListedReserve(asset, slots.index(asset), row))
            listing.tokens.append(Token(address_text(row["a_token"]), asset, "collateral", seq, row["block_number"]))
            listing.tokens.append(
                Token(address_text(row["variable_debt_token"]), asset, "debt", seq, row["block_number"])
            )
            listing.stable_tokens.append((address_text(row["stable_debt_token"]), asset))
        known = {address: asset for asset, address in enumerate(listing.assets)}
        for source in emode_price_sources(raw):
            listing.priced[source] = known.setdefault(source, len(known))
        return listing

    def asset_set(self) -> pa.Array:
        return address_set(self.assets)

    def token_set(self) -> pa.Array:
        return address_set([token.address for token in self.tokens])


@dataclass(frozen=True, slots=True)
class Revision:
    """A contract's revision constant from ``seq`` on."""

    seq: int
    revision: int
    row: Mapping[str, Any]


class Versions:
    """Revisions of the pool and of every token over time, from Upgraded logs and ``raw/chain/Revision``.

    Raises UserError where the revision of an implementation was not read, RulesError for a token's unknown revision. A
    pool revision that is not known is kept: whoever replays meets it at its block.
    """

    def __init__(self, raw: RawEvents, listing: Listing) -> None:
        read = raw.table("raw/chain/Revision").to_pylist()
        self._read = {
            (address_text(row["address"]), address_text(row["implementation"])): int(row["revision"]) for row in read
        }
        self.pool = self._pool_history(raw)
        self._pool_seqs = [change.seq for change in self.pool]
        upgrades: dict[str, list[dict[str, Any]]] = {}
        for row in rows(raw, "TokenUpgraded"):
            upgrades.setdefault(address_text(row["address"]), []).append(row)
        # That a token emits it at all says what it is; interfaces differ in which argument is indexed, so some may be
        # quarantined.
        undecoded = [row for row in raw.table("Quarantine").to_pylist() if row["event"] == DISCOUNT_EVENT]
        discounted = {address_text(row["address"]) for row in [*rows(raw, DISCOUNT_EVENT), *undecoded]}
        self.tokens = [self._token_history(token, listing, upgrades.get(token.address, [])) for token in listing.tokens]
        self._kinds = [(token.kind, token.address in discounted, token.address) for token in listing.tokens]
        self._breaks = sorted({change.seq for history in [self.pool, *self.tokens] for change in history})

    def pool_at(self, seq: int) -> int:
        """The pool's revision at a position."""
        found = bisect_right(self._pool_seqs, seq)
        if not found:
            raise UserError("the pool's first revision is not in the lake", INCOMPLETE)
        return self.pool[found - 1].revision

    def stretches(self, seqs: npt.NDArray[np.int64]) -> Iterator[tuple[slice, int]]:
        """Cut ascending positions where any revision changes: (rows, position from which one set of rules holds for
        them).
        """
        cuts = [0, *np.searchsorted(seqs, self._breaks, side="left").tolist(), len(seqs)]
        for start, stop in pairwise(cuts):
            if start < stop:
                yield slice(start, stop), int(seqs[start])

    def rules_at(self, seq: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
        """Per token: rounding rule (``tokens.rounding``), and whether its transfers log amounts; a token not listed yet
        has rule -1.
        """
        pool = self.pool_at(seq)
        rules = np.full(len(self.tokens), -1, np.int8)
        unscaled = np.zeros(len(self.tokens), np.bool_)
        for number, ((kind, discounted, address), history) in enumerate(zip(self._kinds, self.tokens, strict=True)):
            past = [change for change in history if change.seq <= seq]
            if past:
                where = f"of token {address} from block {past[-1].row['block_number']} on"
                rules[number] = rounding(kind, past[-1].revision, pool, discounted, where)
                unscaled[number] = kind == "collateral" and unscaled_transfers(self._address, past[-1].revision)
        return rules, unscaled

    def _revision(self, proxy: str, row: Mapping[str, Any], implementation: bytes) -> int:
        key = (proxy, address_text(implementation))
        if key not in self._read:
            what = (
                f"the revision of {key[1]}, which {proxy} runs from block {row['block_number']} on, is not in the lake"
            )
            raise UserError(what, "run the fetch again: it reads what is missing")
        return self._read[key]

    def _pool_history(self, raw: RawEvents) -> list[Revision]:
        changes = [
            (row, row["proxy_address"], row["implementation_address"])
            for row in rows(raw, "ProxyCreated")
            if row["id"] == POOL_ID
        ]
        changes += [(row, row["address"], row["implementation"]) for row in rows(raw, "PoolUpgraded")]
        self._address = address_text(changes[0][1]) if changes else ""
        found = [
            Revision(row["seq"], self._revision(address_text(proxy), row, code), row) for row, proxy, code in changes
        ]
        return sorted(found, key=lambda change: change.seq)

    def _token_history(self, token: Token, listing: Listing, upgrades: list[dict[str, Any]]) -> list[Revision]:
        listed = next(reserve.row for reserve in listing.reserves if reserve.row["seq"] == token.seq)
        later = {(token.address, address_text(row["implementation"])) for row in upgrades}
        first = [revision for key, revision in self._read.items() if key[0] == token.address and key not in later]
        if not first:
            pool = self.pool_at(token.seq)
            if pool not in _TOKEN_REVISION_OF_POOL:
                raise RulesError(
                    f"token {token.address} was listed at block {token.block_number} under the unknown pool revision"
                    f" {pool}",
                    "install a newer version of backtest",
                )
            first = [_TOKEN_REVISION_OF_POOL[pool]]
        changes = [
            Revision(row["seq"], self._revision(token.address, row, row["implementation"]), row) for row in upgrades
        ]
        return [Revision(token.seq, min(first), listed), *changes]
