"""What the chain accepted, as bounds on the oracle's price: history's own book, walked once.

The protocol's own check says at which price of an asset an account passes (``LendingProtocol.safe_prices``). A call
that raised its owner's risk passed it, so that the price was on one side of where it turns; a liquidation was let
through, so that the price was on the other. An account that stood, long enough for somebody to come, is a bound as
well, of another kind: it says what people did, not what the contracts allowed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal

from backtest.errors import PriceMissing
from backtest.model import (
    AUTHORIZE,
    AccountId,
    AssetId,
    Clock,
    HistoricalLiquidation,
    Market,
    MarketEvent,
    PositionChange,
    Prices,
    PriceUpdate,
    SettingChange,
)
from backtest.protocols.book import Book
from backtest.protocols.interface import LendingProtocol, State
from backtest.replay.forecast import UNRECORDED, PriceRanges
from backtest.replay.timeline import Timeline

NEAR = 20
"""Of who stood, only bounds within one part in this many of the price are kept, and those inside its range."""
Kind = Literal["action", "liquidation", "stood"]
ACTION: Kind = "action"
LIQUIDATION: Kind = "liquidation"
STOOD: Kind = "stood"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The oracle's price of ``asset`` was ``least_up`` or more, or ``most_down`` or less, at ``clock`` (its integers).

    ``step``: when the price in force then came into force (seconds). ``what``: the owner's action, or liquidation, or
    stood; ``stood``: for how many seconds, 0 for the other kinds. ``said``: the price of the book then.
    """

    kind: Kind
    asset: AssetId
    account: AccountId
    step: int
    clock: Clock
    seq: int
    what: str
    least_up: int | None = None
    most_down: int | None = None
    stood: int = 0
    said: int | None = None

    def allows(self, price: int) -> bool:
        """Whether what happened could happen at this price."""
        return (self.least_up is None or price >= self.least_up) and (self.most_down is None or price <= self.most_down)


@dataclass(slots=True)
class Accepted:
    """All bounds in order of time. ``untold`` counts, by kind, what happened and says nothing of the price: the
    protocol cannot tell where its check turns, or another asset's price is not known.
    """

    bounds: list[Bound] = field(default_factory=list)
    untold: dict[Kind, int] = field(default_factory=lambda: {ACTION: 0, LIQUIDATION: 0, STOOD: 0})


def accepted_bounds(
    protocol: LendingProtocol[State],
    market: Market,
    timeline: Timeline,
    asset: AssetId,
    steps: Sequence[int],
    ranges: Mapping[AssetId, PriceRanges],
    *,
    standing: bool,
    to_block: int | None = None,
) -> Accepted:
    """Every bound that history puts on the oracle's price of one asset.

    Args:
        steps: ascending times (seconds) at which the oracle's price may have changed; between two of them it is one
            price. What happened before the first is left out.
        ranges: of assets whose oracle price is not known exactly. Of others than ``asset`` the price is taken that
            makes a bound weakest.
        standing: whether accounts that stood say something: those whose bound lies within a twentieth of the book's
            price or inside the asset's own range, or that could have been liquidated; others bound nothing.
        to_block: the last block.
    """
    walk = _Walk(protocol, market, asset, steps, ranges, standing)
    for transaction in timeline.transactions(to_block):
        walk.advance(transaction)
    walk.finish()
    return walk.found


class _Walk(Generic[State]):
    def __init__(
        self,
        protocol: LendingProtocol[State],
        market: Market,
        asset: AssetId,
        steps: Sequence[int],
        ranges: Mapping[AssetId, PriceRanges],
        standing: bool,
    ) -> None:
        self.book: Book[State] = Book.open(protocol, market)
        self.found = Accepted()
        self._asset, self._steps, self._standing = asset, steps, standing
        self._own, self._others = ranges.get(asset), {a: known for a, known in ranges.items() if a != asset}
        self._step = -1  # place in steps
        self._since: dict[AccountId, int] = {}  # last change of each account that has debt, or may have
        self._open: tuple[int, str, dict[AccountId, bool]] | None = None  # an action: seq, name, account to risk raised

    def advance(self, transaction: Sequence[MarketEvent]) -> None:
        """One transaction of history."""
        book = self.book
        waiting = {event.seq: event for event in transaction if isinstance(event, HistoricalLiquidation)}
        for event in transaction:
            change = event if isinstance(event, PositionChange | SettingChange) else None
            if self._open is not None and (
                isinstance(event, PriceUpdate) or (change is not None and change.action_seq != self._open[0])
            ):
                self._passed()
            self._begin_steps(event.timestamp)
            book.now, book.seq = Clock(event.block_number, event.log_index, event.timestamp), event.seq
            if isinstance(event, HistoricalLiquidation):
                if waiting.pop(event.seq, None):
                    self._liquidated(event)
                book.relive(event)
                continue
            if change is not None:
                if taken := waiting.pop(change.action_seq, None):
                    self._liquidated(taken)
                self._changed(change)
            book.apply(event)
        if self._open is not None:
            self._passed()

    def finish(self) -> None:
        """Whoever stands at the end of history."""
        self._stand(self.book.now.timestamp + 1)

    def _begin_steps(self, time: int) -> None:
        """Close every step that ended at or before this time."""
        place = bisect_right(self._steps, time) - 1
        while self._step < place:
            if self._step >= 0:
                self._stand(self._steps[self._step + 1])
            self._step += 1

    # -- what happened

    def _changed(self, change: PositionChange | SettingChange) -> None:
        """An account is about to change: what it stood until now, and whether the change raises its risk."""
        account = change.account
        self._stood(account, change.timestamp)
        self._since[account] = change.timestamp
        if change.action not in (UNRECORDED, AUTHORIZE, "liquidation"):
            if self._open is None:
                self._open = (change.action_seq, change.action, {})
            risky = (
                (change.delta > 0) == (change.side == "debt")
                if isinstance(change, PositionChange)
                else (change.setting, change.value) != ("collateral_enabled", 1)
            )
            self._open[2][account] = self._open[2].get(account, False) or risky

    def _passed(self) -> None:
        """An action of an owner is complete: whose risk it raised passes the check."""
        assert self._open is not None
        _, name, risky = self._open
        self._open = None
        for account, raised in risky.items():
            if raised:
                self._add(ACTION, account, name, passed=True)

    def _liquidated(self, event: HistoricalLiquidation) -> None:
        self._add(LIQUIDATION, event.account, "liquidation", passed=False)

    def _stand(self, end: int) -> None:
        """The step ends: every account stood from its last change, or from the start of the step, on."""
        if self._standing:
            for account in list(self._since):
                self._stood(account, end)

    def _stood(self, account: AccountId, until: int) -> None:
        since = self._since.get(account)
        if since is None or self._step < 0 or not self._standing:
            return
        seconds = until - max(since, self._steps[self._step])
        if seconds > 0 and not self._add(STOOD, account, "stood", passed=True, stood=seconds):
            del self._since[account]  # owes nothing that this price decides, until it changes again

    # -- bounds

    def _add(self, kind: Kind, account: AccountId, what: str, *, passed: bool, stood: int = 0) -> bool:
        """Add the bound, where the price is on the side of passing or on the other; False: there is none."""
        if self._step < 0:
            return True
        book = self.book
        try:
            prices = self._weakest(account, favourable=passed)
            safe = prices and book.protocol.safe_prices(book.state, account, self._asset, prices, book.now)
        except PriceMissing:
            safe = None
        if not safe:
            self.found.untold[kind] += 1
            return False
        if passed:
            least, most = safe.least_up, safe.most_down
        else:
            least = None if safe.most_down is None else safe.most_down + 1
            most = None if safe.least_up is None else safe.least_up - 1
        step = self._steps[self._step]
        if kind == STOOD and not self._near(least, most):
            return True
        self.found.bounds.append(
            Bound(
                kind=kind,
                asset=self._asset,
                account=account,
                step=step,
                clock=book.now,
                seq=book.seq,
                what=what,
                least_up=least,
                most_down=most,
                stood=stood,
                said=book.oracle.get(self._asset),
            )
        )
        return True

    def _near(self, least_up: int | None, most_down: int | None) -> bool:
        """Whether a bound of an account that stood lies where the price may be."""
        said = self.book.oracle.get(self._asset)
        known = None if self._own is None else self._own.at(self._steps[self._step])
        if said is None or (self._own is not None and known is None):
            return True  # the price may be anywhere
        low, high = known or (said, said)
        return (least_up is not None and (least_up * NEAR > said * (NEAR - 1) or least_up > low)) or (
            most_down is not None and (most_down * (NEAR - 1) < said * NEAR or most_down < high)
        )

    def _weakest(self, account: AccountId, *, favourable: bool) -> Prices | None:
        """Prices of the other assets at which the bound is weakest: best for an owner who passed, worst for one who was
        liquidated; None where one is not known.
        """
        book = self.book
        if not self._others:
            return book.prices
        prices = dict(book.oracle)
        for holding in book.protocol.holdings(book.state, account, book.now):
            if (known := self._others.get(holding.asset)) is not None:
                if (bounds := known.at(book.now.timestamp)) is None:
                    return None
                prices[holding.asset] = bounds[1] if favourable == bool(holding.collateral) else bounds[0]
        return Prices(prices, prices, prices)
