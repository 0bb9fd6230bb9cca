"""A Maker-like vault with a Dutch auction, small enough to work out by hand: does the interface carry it?

A vault holds ink of ETH and owes art * rate of DAI (both 18 decimals). It is unsafe when ink * price / ratio < art *
rate. An unsafe
vault is barked: its collateral goes to an auction for the debt times chop, as far as the market-wide ceiling ``hole``
has room beside ``dirt``, the debt under auction. The price of an auction starts at oracle * buf and falls by ``cut``
every ``step`` seconds.
Parameters: ratio, chop, buf, cut (basis points), step, tail (seconds), hole, dirt (DAI wad), tip (base units).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from backtest.model import IndexUpdate, ParamChange, PositionChange
from backtest.protocols.changes import parameter_change, position_change
from backtest.protocols.interface import (
    AccountView,
    Acted,
    Fill,
    Holding,
    LendingProtocol,
    LinearExposure,
    Order,
    Pair,
    Refusal,
)
from backtest.protocols.mechanism import Opportunity
from backtest.units import BPS, RAY, WAD

ETH, DAI = 0, 1
PAIR = Pair(DAI, ETH)


@dataclass
class Vaults:
    ink: dict[int, int] = field(default_factory=dict)
    art: dict[int, int] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)
    rate: int = RAY

    def debt(self, account: int) -> int:
        return self.art.get(account, 0) * self.rate // RAY


class VaultProtocol(LendingProtocol[Any]):
    name = "vault"
    events = liquidation_events = ()
    exposure_parameters = frozenset({"ratio"})
    order_parameters = frozenset({"dirt", "hole"})

    parameters = {}  # noqa: RUF012

    def open(self, market, *, recompute=False):
        return Vaults()

    def fault(self, values):
        return None

    def act(self, state, action, prices, now):
        return Acted(action.changes[0].account, action.changes)

    def apply(self, state, event):
        if isinstance(event, PositionChange):
            side = state.ink if event.side == "collateral" else state.art
            side[event.account] = side.get(event.account, 0) + event.delta
            assert side[event.account] >= 0
        elif isinstance(event, ParamChange):
            state.params[event.name] = event.value
        elif isinstance(event, IndexUpdate) and event.asset == DAI:
            state.rate = event.borrow_index

    def accounts(self, state):
        return sorted(a for a in state.ink.keys() | state.art.keys() if state.ink.get(a) or state.art.get(a))

    def exposure(self, state, account, now):
        if not state.art.get(account):
            return None
        ink, debt = state.ink.get(account, 0), state.debt(account) + 1
        return LinearExposure(
            {ETH: ink * BPS / (state.params["ratio"] * WAD), DAI: -debt / WAD}, constant=-2.0, relative_error=1e-9
        )

    def view(self, state, account, prices, now):
        collateral = state.ink.get(account, 0) * prices.oracle[ETH] // WAD
        debt = state.debt(account) * prices.oracle[DAI] // WAD
        return AccountView(collateral, debt, collateral * BPS * WAD // (state.params["ratio"] * debt) if debt else None)

    def holdings(self, state, account, now):
        ink, art = state.ink.get(account, 0), state.art.get(account, 0)
        found = [Holding(ETH, ink, 0, ink, 0, True), Holding(DAI, 0, art, 0, state.debt(account), False)]
        return [h for h in found if h.collateral or h.debt]

    def pairs(self, state, account, prices, now):
        health = self.view(state, account, prices, now).health
        return [PAIR] if health is not None and health < WAD else []

    def quote(self, state, order, prices, now):
        """Bark: what leaves the vault for an auction. ``repaid`` is the debt to raise, ``seized`` the collateral put
        up.
        """
        if not self.pairs(state, order.account, prices, now):
            return Refusal("not unsafe")
        art, ink, chop = state.art[order.account], state.ink[order.account], state.params["chop"]
        room = state.params["hole"] - state.params["dirt"]
        dart = min(art, room * RAY // state.rate * BPS // chop)
        if dart <= 0:
            return Refusal("liquidation limit hit")
        tab, dink = dart * state.rate // RAY * chop // BPS, ink * dart // art
        changes = (
            position_change(now, order.account, ETH, "collateral", -dink),
            position_change(now, order.account, DAI, "debt", -dart),
            parameter_change(now, "dirt", state.params["dirt"] + tab),
        )
        return Fill(order, tab, dink, 0, changes, rules="vault")


@dataclass
class Auction:
    account: int
    tab: int
    lot: int
    top: int
    started: int


class DutchAuction:
    """Kick, partial takes at a falling price, redo after ``tail`` seconds, end. ``most`` is the most ETH one take can
    carry.
    """

    name = "dutch-auction"
    as_quoted = False

    def __init__(self, most: int) -> None:
        self.most, self.open, self.ended, self._next = most, {}, [], 0
        self._params: dict[str, int] = {}

    def price(self, auction, timestamp):
        steps = (timestamp - auction.started) // self._params["step"]
        price = auction.top
        for _ in range(steps):
            price = price * self._params["cut"] // BPS
        return price

    def opportunities(self, book, account, liquidator, *, receive_collateral_token):
        self._params = book.state.params
        found = []
        for lot, auction in self.open.items():
            if auction.account == account:
                found.append(
                    self._redo(book, lot, auction, liquidator)
                    if self._expired(auction, book.now)
                    else self._take(book, lot, auction, liquidator)
                )
        for pair in book.protocol.pairs(book.state, account, book.prices, book.now):
            fill = book.protocol.quote(book.state, Order(account, pair, liquidator), book.prices, book.now)
            found.append(
                fill
                if isinstance(fill, Refusal)
                else Opportunity(fill.order, fill, book.state.params["tip"], "kick", opens=True)
            )
        return found

    def _expired(self, auction, now):
        return now.timestamp - auction.started > self._params["tail"]

    def _redo(self, book, lot, auction, liquidator):
        fill = Fill(Order(auction.account, PAIR, liquidator), 0, 0, 0, (), rules="clip")
        return Opportunity(fill.order, fill, self._params["tip"], "redo", lot)

    def _take(self, book, lot, auction, liquidator):
        price = self.price(auction, book.now.timestamp)
        piece = min(auction.lot, self.most)
        owe = piece * price // WAD
        if owe > auction.tab:
            owe, piece = auction.tab, auction.tab * WAD // price
        left, tab = auction.lot - piece, auction.tab - owe
        now, dirt = book.now, book.state.params["dirt"]
        changes = [parameter_change(now, "dirt", dirt - (auction.tab if left == 0 else owe))]
        if tab == 0 and left:
            changes.append(position_change(now, auction.account, ETH, "collateral", left))
        deficits = ((DAI, tab),) if left == 0 and tab else ()
        fill = Fill(
            Order(auction.account, PAIR, liquidator, owe), owe, piece, 0, tuple(changes), deficits, rules="clip"
        )
        return Opportunity(fill.order, fill, book.proceeds_down(ETH, piece) - book.cost_up(DAI, owe), "take", lot)

    def settle(self, book, opportunity):
        self._params, fill = book.state.params, opportunity.fill
        now, top = book.now.timestamp, book.oracle[ETH] * WAD // book.oracle[DAI] * book.state.params["buf"] // BPS
        if opportunity.step == "kick":
            self.open[self._next] = Auction(fill.order.account, fill.repaid, fill.seized, top, now)
            self._next += 1
            return
        auction = self.open[opportunity.lot]
        if opportunity.step == "redo":
            auction.top, auction.started = top, now
            return
        auction.tab, auction.lot = auction.tab - fill.repaid, auction.lot - fill.seized
        if not auction.tab or not auction.lot:
            self.ended.append(self.open.pop(opportunity.lot))

    def open_accounts(self):
        return {auction.account for auction in self.open.values()}

    def due(self, book):
        return self.open_accounts()

    def wake(self, now):
        step, tail = self._params.get("step", 0), self._params.get("tail", 0)
        times = []
        for auction in self.open.values():
            times.append(auction.started + ((now.timestamp - auction.started) // step + 1) * step)
            times.append(max(auction.started + tail + 1, now.timestamp + 1))
        return min(times, default=None)
