"""English auctions of two phases: bids rise to the tab (``tend``), then the lot that is asked for it falls (``dent``).
The rules are those of makerdao/dss 1.0 and 1.1 ``src/flip.sol``.

Bids and tabs rad, lots wad, ``beg`` a wad ratio, times seconds. Each function returns None where the call goes through,
else the contract's error in words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from backtest.units import WAD


@dataclass(frozen=True, slots=True)
class EnglishAuction:
    """One auction. ``expires`` is when the last bid wins (``tic``, 0 without a bid), ``end`` when bidding ends at the
    latest.
    """

    tab: int
    lot: int
    end: int
    bid: int = 0
    expires: int = 0

    def is_open(self, now: int) -> bool:
        """Whether bids are taken."""
        return (self.expires > now or self.expires == 0) and self.end > now

    def is_won(self, now: int) -> bool:
        """``deal`` goes through: there was a bid, and its life or the auction is over."""
        return self.expires != 0 and (self.expires < now or self.end < now)

    def is_abandoned(self, now: int) -> bool:
        """``tick`` goes through: the auction is over and nobody bid."""
        return self.end < now and self.expires == 0

    def tend_refused(self, bid: int, beg: int, now: int) -> str | None:
        """``tend``: a higher bid for the same lot, by ``beg`` at least unless it is the whole tab."""
        if not self.is_open(now):
            return "already finished"
        if bid > self.tab:
            return "higher than tab"
        if bid <= self.bid:
            return "bid not higher"
        return None if bid * WAD >= beg * self.bid or bid == self.tab else "insufficient increase"

    def dent_refused(self, lot: int, beg: int, now: int) -> str | None:
        """``dent``: the whole tab for a smaller lot, by ``beg`` at least."""
        if not self.is_open(now):
            return "already finished"
        if self.bid != self.tab:
            return "tend not finished"
        if lot >= self.lot:
            return "lot not lower"
        return None if beg * lot <= self.lot * WAD else "insufficient decrease"

    def with_bid(self, bid: int, lot: int, ttl: int, now: int) -> EnglishAuction:
        """After ``tend`` or ``dent``."""
        return replace(self, bid=bid, lot=lot, expires=now + ttl)

    def restarted(self, tau: int, now: int) -> EnglishAuction:
        """After ``tick``."""
        return replace(self, end=now + tau)
