"""How an account that may be liquidated becomes a settled liquidation.

A mechanism owns liquidations from the moment they open until they close. One that settles at once (``Immediate``) keeps
nothing; an auction opens (``kick``), is priced over time, taken in parts, reset and ended, and tells the engine when
time alone changes what it offers. The protocol says who may be liquidated and what an order does to the book; the
mechanism says at which price; the liquidator model says who takes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, TypedDict

from msgspec import Struct
from msgspec.structs import replace
from typing_extensions import override

from backtest.auctions.bidding import Bid, Bidder
from backtest.model import AccountId, Clock
from backtest.protocols.book import Book
from backtest.protocols.interface import Fill, Order, Refusal, State


class Bidders(Protocol):
    """Those who compete in auctions that last, as a model of liquidators knows them."""

    def bidding(self, book: Book[State], account: AccountId, lot: int) -> Sequence[Bidder]:
        """Who is there for an open lot of an account."""
        ...

    def keenest(self, book: Book[State], holder: str | None) -> Bidder | None:
        """One to whom every lot is worth as much as to anybody but ``holder`` who may be there now, whoever is drawn;
        the same object as long as it is the same. None where it cannot be told without asking who is there.
        """
        ...

    def bidding_changes(self, now: int) -> int:
        """The first time after ``now`` (seconds) at which others may be there, or the same with other costs."""
        ...

    def bidding_from(self, account: AccountId, lot: int, now: int) -> int:
        """The first of the times that ``bidding_changes`` says, asked for again at each of them, at which anybody may
        be there for this lot: at those before it nobody is.
        """
        ...


class Opportunity(Struct, frozen=True):
    """Something a liquidator can do now, and what it does.

    ``profit`` is what it earns before its own costs, base units, at the market price of what it pays and the execution
    price of what it gets. ``step`` names what happens in a mechanism with several steps; ``lot`` is the open
    liquidation meant. ``always``: it happens whatever it earns, since somebody who means to go on from there makes it
    (opening an auction, say). ``opens``: it takes collateral and debt from the account and begins a liquidation of
    several steps. ``taker``: who does it, where the mechanism knows; ``bids``: the last ones of an auction that lasted.
    """

    order: Order
    fill: Fill
    profit: int
    step: str = "liquidate"
    lot: int | None = None
    always: bool = False
    opens: bool = False
    taker: str | None = None
    bids: tuple[Bid, ...] = ()


class Mechanism(Protocol[State]):
    """One way of liquidating, with whatever it holds open. Owned by one replay."""

    name: str
    bidders: Bidders | None = None
    """Who bids where bidding lasts, set by the engine; None: what bidders do is the mechanism's to say."""
    as_quoted: bool = False
    """What it offers is what the protocol quotes, settled at once, and it keeps nothing: fast ways of asking the
    protocol itself come to the same.
    """

    def opportunities(
        self, book: Book[State], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """All that ``liquidator`` could do now about this account, in a fixed order; what would revert, as its
        refusal.
        """
        ...

    def settle(self, book: Book[State], opportunity: Opportunity) -> int | None:
        """The opportunity is taken: the mechanism's own bookkeeping, before the engine applies the fill's changes. The
        number of the open liquidation that it begins or belongs to; None where it settles at once.
        """
        ...

    def open_accounts(self) -> Collection[AccountId]:
        """Accounts with open liquidations: looked at whenever the engine decides, whatever the screen says of them."""
        ...

    def due(self, book: Book[State]) -> Collection[AccountId]:
        """Those of ``open_accounts`` about which something may be offered now: nothing is about the others."""
        return self.open_accounts()

    def wake(self, now: Clock) -> int | None:
        """The next timestamp after ``now`` at which time alone changes what is offered; None: never."""
        ...


class Immediate(Mechanism[State]):
    """Settles at once: nothing stays open."""

    @override
    def settle(self, book: Book[State], opportunity: Opportunity) -> int | None:
        """Nothing stays open."""
        return None

    @override
    def open_accounts(self) -> Collection[AccountId]:
        """None: nothing stays open."""
        return ()

    @override
    def wake(self, now: Clock) -> int | None:
        """Never: without open liquidations time alone offers nothing."""
        return None


class ProtocolSpread(Immediate[State]):
    """Settles at once at the protocol's own price: repay debt, receive collateral with the bonus."""

    name = "fixed-spread"
    as_quoted = True

    @override
    def opportunities(
        self, book: Book[State], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """One for each pair: as much as the rules allow, or what they accept instead."""
        protocol, state, prices, now = book.protocol, book.state, book.prices, book.now
        found: list[Opportunity | Refusal] = []
        for pair in protocol.pairs(state, account, prices, now):
            order = Order(account, pair, liquidator, receive_collateral_token=receive_collateral_token)
            fill = protocol.quote(state, order, prices, now)
            if isinstance(fill, Refusal) and fill.instead is not None:
                order = replace(order, repay=fill.instead)
                fill = protocol.quote(state, order, prices, now)
            found.append(fill if isinstance(fill, Refusal) else Opportunity(order, fill, spread(book, fill), fill.step))
        return found


def spread(book: Book[State], fill: Fill) -> int:
    """Value of what the liquidator gets minus cost of what it pays, base units; both rounded against it."""
    pair = fill.order.pair
    gets = book.proceeds_down(pair.collateral_asset, fill.seized) + book.proceeds_down(pair.debt_asset, fill.reward)
    return gets - book.cost_up(pair.debt_asset, fill.paid)


class InBase(TypedDict):
    """Amounts of a fill in base units."""

    repaid_base: int
    seized_base: int
    protocol_fee_base: int


def in_base(book: Book[State], fill: Fill) -> InBase:
    """A fill's amounts in base units at the oracle's prices, rounded down."""
    pair = fill.order.pair
    return {
        "repaid_base": book.value_down(pair.debt_asset, fill.repaid),
        "seized_base": book.value_down(pair.collateral_asset, fill.seized),
        "protocol_fee_base": book.value_down(pair.collateral_asset, fill.protocol_fee),
    }
