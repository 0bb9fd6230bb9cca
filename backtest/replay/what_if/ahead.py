"""A book of one moment carried on along prices that are given: the outcome of one path, by the engine and in exact
integers. Pure.

What is fixed (the book, everybody's exposure, history's parameters) is made once and shared by all paths. A path is a
short timeline of its own: one transaction a step, in which the oracle says the prices of all assets that moved, so that
nobody acts on a moment in which one asset has moved and another not yet. Of users those withdraw who are told to; no
other acts, and interest goes on at the rates of the book's moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import structs

from backtest.errors import UserError
from backtest.model import AccountId, AssetId, Market
from backtest.protocols.interface import LendingProtocol, State
from backtest.replay.claims import deposits_of, short_of
from backtest.replay.competition.gas import NO_FEES, BaseFees
from backtest.replay.engine import replay
from backtest.replay.joint import JointPart
from backtest.replay.measure import Onlooker
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse
from backtest.replay.shortcuts.common_start import Start, start_of
from backtest.replay.timeline import Timeline
from backtest.replay.watch.foresight import Foresight, Ticks
from backtest.replay.what_if.impact import views_of
from backtest.scenario import Competitive, Override, Scenario
from backtest.tables import AMOUNT

PARTS = 10**12
"""A factor of a price is taken in whole parts of this: what floats of two machines differ by is below half of one."""

Prices = Mapping[AssetId, Sequence[int | None]]
"""By asset one price a step, None where nothing is said at that step."""


SPACE = 1_000
"""Places of events in a step: withdrawals, then prices."""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A supplier asks for a part of what it supplied before the prices of a step (from one on) are said: scaled units
    as stored, and about the same in native ones. Who may not is refused by the protocol's rules, as any user is.
    """

    step: int
    account: AccountId
    asset: AssetId
    scaled: int
    amount: int


@dataclass(frozen=True, slots=True)
class Lying:
    """What lies ahead of a book.

    Attributes:
        seconds: of each step, how long after the book's moment; increasing, the first above zero.
        oracle: what the oracle says. traded: market prices, of assets whose market price is another than the oracle's.
        base_fees: of blocks from the book's moment on.
        withdrawals: in order of their steps, fewer than ``SPACE`` in a step.
    """

    seconds: Sequence[int]
    oracle: Prices
    traded: Prices
    base_fees: BaseFees = NO_FEES
    withdrawals: Sequence[Withdrawal] = ()


@dataclass(frozen=True)
class StandingBook(Generic[State]):
    """History's book at the end of a block, from which any number of paths go on.

    Attributes:
        block: that block. start: everything a replay needs to go on from there.
        params: history's changes of parameters up to there, a table.
    """

    protocol: LendingProtocol[State]
    market: Market
    block: int
    start: Start[State]
    params: pa.Table

    @property
    def timestamp(self) -> int:
        """Of the block, seconds."""
        return self.start.book.now.timestamp

    @property
    def oracle(self) -> Mapping[AssetId, int]:
        """Prices of that moment, in the units of the book's integers."""
        return self.start.book.oracle

    @cached_property
    def _digits(self) -> int:
        return 0 if self.market.price_decimals is None else self.market.price_decimals - self.market.base_decimals

    def totals(self) -> tuple[int, int, int]:
        """Collateral, debt, and debt beyond the collateral of its account, over all accounts that can be valued; base
        units.
        """
        views = views_of(self.start.book)
        least = views.collateral.minus(views.debt)
        rest = [view for view in views.rest.values() if view is not None]
        return (
            views.collateral.total() + sum(view.collateral_base for view in rest),
            views.debt.total() + sum(view.debt_base for view in rest),
            -least.take(least.negative).total() + sum(max(0, view.debt_base - view.collateral_base) for view in rest),
        )

    def response(self, scenario: Scenario) -> PriceResponse | None:
        """Prices that answer to what is sold on one path: it holds no sale of its own, so nothing is netted out."""
        return PriceResponse(scenario.impact, [self.market], ()) if scenario.impact.assets else None

    def along(
        self,
        ahead: Lying,
        scenario: Scenario,
        *,
        screened: bool = True,
        response: PriceResponse | None = None,
        onlooker: Onlooker | None = None,
    ) -> Replay[State]:
        """Replay a path. The scenario's blocks are those of the path; its overrides hold from the first step on; its
        users are those that the book was made for (else ValueError). ``response``: what ``response`` makes, by
        default; ``onlooker``: who looks at the book on the way. ``screened`` and errors as those of ``replay``.
        """
        part = self.part(ahead, scenario)
        return replay(
            self.protocol,
            self.market,
            part.timeline,
            part.scenario,
            start=part.start,
            base_fees=part.base_fees,
            response=self.response(scenario) if response is None else response,
            screened=screened,
            onlooker=onlooker,
        )

    def part(self, ahead: Lying, scenario: Scenario, **several: Any) -> JointPart:
        """A path as one market of several that are replayed together (``replay_jointly``); ``several``: what else that
        says of it.
        """
        timeline = self._timeline(ahead)
        overrides = tuple(map(self._from_start, scenario.overrides))
        scenario = structs.replace(scenario, from_block=self.block + 1, to_block=None, overrides=overrides)
        watch = self.start.watch.copy()
        watch.ticks = Ticks(timeline, len(self.market.assets))
        watch.tick, watch.first, watch.stop, watch.pyramid = -1, 0, 0, None
        start = replace(self.start, timeline=timeline, watch=watch)
        return JointPart(
            self.protocol, self.market, timeline, scenario, base_fees=ahead.base_fees, start=start, **several
        )

    @cached_property
    def backed(self) -> tuple[int, int]:
        """What is supplied, and debt without cover, base units: what claims on its deposits rest on."""
        return deposits_of(self.start.book), short_of(self.start.book)

    def _from_start(self, override: Override) -> Override:
        return structs.replace(
            override, from_block=self.block + 1, from_time=None, until_block=None, until_time=None, steps=1
        )

    def _timeline(self, ahead: Lying) -> Timeline:
        """Prices and indexes of the moment as events of its block, which are not replayed but known; then the path."""
        book = self.start.book
        rows: list[tuple[int, AssetId, int | None]] = [(0, *price) for price in sorted(book.oracle.items())]
        rows += _moved(ahead.oracle)
        traded = _moved(ahead.traded)
        tables = {
            "params": self.params,
            "prices": self._priced(rows, ahead, source=False),
            "market_prices": self._priced(traded, ahead, source=True),
            "indexes": self._indexes,
            "position_events": self._withdrawn(ahead),
            "blocks": pa.table(
                {
                    "block_number": [self.block + step for step in range(len(ahead.seconds) + 1)],
                    "timestamp": [self.timestamp, *(self.timestamp + each for each in ahead.seconds)],
                }
            ),
        }
        return Timeline.of(tables, price_digits=self._digits)

    def _priced(self, rows: Sequence[tuple[int, AssetId, int | None]], ahead: Lying, *, source: bool) -> pa.Table:
        rows = sorted(rows, key=lambda row: row[:2])
        step = np.array([row[0] for row in rows], np.int64)
        after = np.array([0, *ahead.seconds], np.int64)
        unit = 10**self._digits
        prices = [row[2] for row in rows]
        columns: dict[str, Any] = {
            **_key(self.start.book.seq + SPACE * step, self.block + step, self.timestamp + after[step]),
            "asset_id": pa.array([row[1] for row in rows], pa.int16()),
            "price": pa.array([None if price is None else price // unit for price in prices], AMOUNT),
        }
        if unit > 1:
            columns["price_rest"] = pa.array([None if price is None else price % unit for price in prices], AMOUNT)
        if source:
            columns["source"] = pa.array(["path"] * len(rows))
        return pa.table(columns)

    def _withdrawn(self, ahead: Lying) -> pa.Table:
        """As users' actions, each a transaction of its own."""
        steps = np.array([each.step for each in ahead.withdrawals], np.int64)
        nth = np.arange(len(steps)) - np.searchsorted(steps, steps)
        if len(nth) and int(nth.max()) >= SPACE - 1:
            raise UserError(f"more than {SPACE - 2} withdrawals in a step", "let fewer leave, or over several steps")
        seq = self.start.book.seq + SPACE * (steps - 1) + 1 + nth
        after = np.array([0, *ahead.seconds], np.int64)
        count = len(steps)
        return pa.table(
            {
                **_key(seq, self.block + steps, self.timestamp + after[steps]),
                "account_id": pa.array([each.account for each in ahead.withdrawals], pa.int32()),
                "asset_id": pa.array([each.asset for each in ahead.withdrawals], pa.int16()),
                "side": pa.array(["collateral"] * count, pa.string()).dictionary_encode(),
                "delta": pa.array([-each.scaled for each in ahead.withdrawals], AMOUNT),
                "action": pa.array(["withdraw"] * count, pa.string()).dictionary_encode(),
                "action_seq": pa.array(seq, pa.int64()),
                "amount": pa.array([each.amount for each in ahead.withdrawals], AMOUNT),
            }
        )

    @cached_property
    def suppliers(self) -> Mapping[AssetId, Sequence[tuple[AccountId, int, int]]]:
        """Of each asset who supplies it and owes nothing, the largest first: (account, scaled, native units)."""
        book, found = self.start.book, dict[AssetId, list[tuple[AccountId, int, int]]]()
        for account in sorted(self.protocol.accounts(book.state)):
            held = self.protocol.holdings(book.state, account, book.now)
            if not any(each.debt_scaled for each in held):
                for each in held:
                    if each.collateral_scaled:
                        found.setdefault(each.asset, []).append((account, each.collateral_scaled, each.collateral))
        return {asset: sorted(each, key=lambda one: (-one[1], one[0])) for asset, each in found.items()}

    @cached_property
    def lending(self) -> Mapping[AssetId, tuple[int, int]]:
        """What is supplied and what is owed of each asset, native units."""
        book, found = self.start.book, dict[AssetId, tuple[int, int]]()
        for account in self.protocol.accounts(book.state):
            for each in self.protocol.holdings(book.state, account, book.now):
                supplied, owed = found.get(each.asset, (0, 0))
                found[each.asset] = supplied + each.collateral, owed + each.debt
        return found

    @cached_property
    def _indexes(self) -> pa.Table:
        """Those of the moment, each as of its last update."""
        updates = sorted(self.start.book.indexes.values(), key=lambda update: (update.seq, update.asset))
        columns: dict[str, Any] = _key(
            *(
                np.array([getattr(update, name) for update in updates], np.int64)
                for name in ("seq", "block_number", "timestamp")
            )
        )
        columns["asset_id"] = pa.array([update.asset for update in updates], pa.int16())
        for name in ("supply_index", "borrow_index", "supply_rate", "borrow_rate"):
            columns[name] = pa.array([getattr(update, name) for update in updates], AMOUNT)
        return pa.table(columns)


def standing(
    protocol: LendingProtocol[State],
    market: Market,
    timeline: Timeline,
    params: pa.Table,
    block: int,
    scenario: Scenario | None = None,
) -> StandingBook[State]:
    """History up to the end of a block, for any number of paths.

    Args:
        params: the canonical table of changes of parameters.
        scenario: whose users respond; only that is read.

    Raises:
        UserError: the block is not one of the history, or interest cannot go on from it.
    """
    last = timeline.last_block
    if not timeline.first_block <= block <= last:
        raise UserError(f"block {block} is not within the history", f"it goes from {timeline.first_block} to {last}")
    if block == last:  # a window begins with a block that is known
        after = int(timeline.timestamps[-1]) + 1
        timeline = replace(
            timeline, blocks=np.append(timeline.blocks, last + 1), timestamps=np.append(timeline.timestamps, after)
        )
    first = Scenario(name="stress", liquidators=Competitive(), from_block=block + 1)
    if scenario is not None:
        first = structs.replace(first, users=scenario.users)
    start: Start[State] = start_of(protocol, market, timeline, first)
    assert isinstance(start.watch, Foresight)
    start.book.now = timeline.clock_at(timeline.last_known_block(block))
    earlier = params.filter(pa.array(params["block_number"].to_numpy() <= block))
    return StandingBook(protocol, market, block, replace(start, block=block + 1), earlier)


def scaled_down(price: int, factor: float) -> int:
    """A price times a factor, whose parts are taken to nearest, rounded down; one unit at least, since an oracle that
    says zero reverts.
    """
    return max(1, price * round(factor * PARTS) // PARTS)


def _moved(prices: Prices) -> list[tuple[int, AssetId, int | None]]:
    """(step from one on, asset, price) wherever a price is said that is not the last one. The first that is said always
    is an event: whoever may be liquidated before anything moves is so on every path, also on one that stands still.
    """
    found: list[tuple[int, AssetId, int | None]] = []
    for asset, each in sorted(prices.items()):
        known: int | None = None
        for step, price in enumerate(each, 1):
            if price is not None and price != known:
                found.append((step, asset, price))
                known = price
    return found


def _key(seq: npt.NDArray[np.int64], block: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> dict[str, Any]:
    return {
        "seq": pa.array(seq, pa.int64()),
        "block_number": pa.array(block, pa.int64()),
        "log_index": pa.array(np.zeros(len(seq), np.int32)),
        "timestamp": pa.array(time, pa.int64()),
    }
