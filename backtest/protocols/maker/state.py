"""The book of one ilk: vaults, accumulator, parameters. Collateral is asset 0 and DAI asset 1, both in wad."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from backtest.auctions.dutch import Bounds, Curve
from backtest.errors import PriceMissing, RulesError
from backtest.model import (
    AccountId,
    AssetId,
    HistoricalLiquidation,
    IndexUpdate,
    Market,
    MarketEvent,
    ParamChange,
    PositionChange,
    Prices,
)
from backtest.protocols.columns import Columns, refreshed, views_of
from backtest.protocols.interface import (
    AccountView,
    Exposures,
    Figure,
    Holding,
    LinearExposure,
    Opening,
    Pair,
    SafePrices,
    Views,
)
from backtest.protocols.maker.params import DEFAULTS, DOG_2_0, RAISED, RAISED_FREELY
from backtest.protocols.maker.rules import AuctionLimits, is_unsafe, least_safe_price_up, spot_down, valued
from backtest.units import RAY, WAD
from backtest.words.columns import over

COLLATERAL, DAI = AssetId(0), AssetId(1)
PAIR = Pair(DAI, COLLATERAL)
_FLOAT_ERROR = 1e-9
"""The relative error of an exposure's floats."""
_DOUBLE = 1e-12
"""More than a few operations of doubles err by."""


@dataclass
class MakerState:
    """``ink`` and ``art`` (wad) by account, no zeros; ``rate`` ray; ``params`` by name (``params``); ``raising`` is the
    debt with penalty of all open auctions, rad (Cat ``litter``, Dog ``Dirt``).
    """

    ink: dict[AccountId, int] = field(default_factory=dict)
    art: dict[AccountId, int] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)
    rate: int = RAY
    changes: int = field(default=0, compare=False, repr=False)
    """How often a parameter was set: what is made of them holds as long."""
    owed: int = field(default=0, compare=False)
    """The sum of ``art``."""
    columns: Columns | None = field(default=None, compare=False, repr=False)
    """Of every vault (``columns_of``) but those in ``moved``, which changed since. Copies share it."""
    moved: set[AccountId] = field(default_factory=set, compare=False, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> MakerState:
        """Independent of this one."""
        return replace(
            self, ink=self.ink.copy(), art=self.art.copy(), params=self.params.copy(), moved=self.moved.copy()
        )

    def param(self, name: str) -> int:
        """The parameter's value, or what is assumed where the history has none; RulesError where nothing may be
        assumed.
        """
        value = self.params.get(name, DEFAULTS.get(name))
        if value is None:
            raise RulesError(
                f"nothing says the {name} of this ilk", "fetch or import its parameters, or set it in the scenario"
            )
        return value

    @property
    def system(self) -> int:
        """The liquidation contracts in force."""
        return self.param("liquidation_system")

    def debt(self, account: AccountId) -> int:
        """Rad: art times the stored rate. Interest since the last drip counts nowhere (dss ``src/vat.sol``)."""
        return self.art.get(account, 0) * self.rate

    def spot(self, prices: Prices) -> int:
        """Ray; PriceMissing without a price."""
        price = prices.oracle.get(COLLATERAL)
        if price is None:
            raise PriceMissing("the collateral has no price here", "import or fetch its prices")
        return spot_down(price, self.param("par"), self.param("liquidation_ratio"))

    def limits(self) -> AuctionLimits:
        """What bounds the next auction: Cat ``box`` less litter, or the lesser room of Dog ``hole`` and ``Hole``."""
        raising = self.params.get("raising", 0)
        if self.system == DOG_2_0:
            rooms = [self.params[name] * RAY - raising for name in ("hole", "global_hole") if name in self.params]
            room = min(rooms, default=None)
        else:
            room = self.param("box") * RAY - raising
        return AuctionLimits(
            self.param("liquidation_penalty"),
            self.param("dust") * RAY,
            self.param("lump"),
            self.param("dunk") * RAY,
            room,
        )

    def is_free(self, limits: AuctionLimits) -> bool:
        """Whether what auctions are to raise bounds no liquidation, however many vaults are liquidated."""
        if limits.room is None:
            return True
        return limits.room >= self.owed * self.rate * limits.chop // WAD + 1 + max(limits.dust, limits.dunk)

    def curve(self) -> Curve:
        """How prices of auctions fall now: all open ones ask the same Abacus."""
        return Curve(self.param("calc"), self.param("calc_tau"), self.param("step"), self.param("cut"))

    def bounds(self) -> Bounds:
        """When auctions must be reset."""
        return Bounds(self.param("tail"), self.param("cusp"))


def open_state(market: Market) -> MakerState:
    """The empty book. RulesError where the market is not one collateral and DAI."""
    if [asset.decimals for asset in market.assets] != [18, 18] or market.base_decimals != 18:
        raise RulesError(
            f"market '{market.name}' is no Maker ilk: two assets of 18 decimals and base_decimals = 18 are needed",
            "rebuild it with backtest reconstruct",
        )
    return MakerState()


def apply(state: MakerState, event: MarketEvent) -> None:
    """One canonical event. RulesError where a balance would fall below zero (dss ``src/vat.sol`` ``add`` reverts)."""
    if isinstance(event, PositionChange):
        side = state.ink if event.side == "collateral" else state.art
        balance = side.get(event.account, 0) + event.delta
        if balance < 0:
            what = "ink" if event.side == "collateral" else "art"
            raise RulesError(
                f"block {event.block_number}, log {event.log_index}: {what} of account {event.account} would be"
                f" {balance}",
                "run backtest check",
            )
        state.moved.add(event.account)
        if side is state.art:
            state.owed += event.delta
        if balance:
            side[event.account] = balance
        else:
            side.pop(event.account, None)
    elif isinstance(event, ParamChange):
        if event.name in (RAISED, RAISED_FREELY):
            state.params["raising"] = state.params.get("raising", 0) + event.value
        else:
            state.params[event.name] = event.value
            state.changes += 1
    elif isinstance(event, IndexUpdate):
        if event.asset == DAI:
            state.rate = event.borrow_index
    elif not isinstance(event, HistoricalLiquidation):
        raise RulesError(
            f"block {event.block_number}: Maker vaults have no {type(event).__name__}",
            "rebuild the market with backtest reconstruct",
        )


def open_accounts(state: MakerState, opening: Opening) -> None:
    """The vaults that a replay begins with, into a book that knows none of them."""
    state.columns = None  # of a book that was looked at when it was empty
    for who, _, side, balance in opening.balances:
        if balance:
            (state.ink if side == "collateral" else state.art)[who] = balance
            state.moved.add(who)
            if side == "debt":
                state.owed += balance
    if opening.settings:
        raise RulesError(
            f"block {opening.settings[0][-1]}: Maker vaults have no SettingChange",
            "rebuild the market with backtest reconstruct",
        )


def accounts(state: MakerState) -> Iterable[AccountId]:
    """Vaults that hold or owe anything, in id order."""
    return sorted(state.ink.keys() | state.art.keys())


def exposure(state: MakerState, account: AccountId) -> LinearExposure | None:
    """Safe while ink * price / ratio >= art * rate * par: linear in the two prices. Roundings are below 1e-15 of either
    side.
    """
    if account not in state.art:
        return None
    debt = state.debt(account) / RAY / WAD
    carried = state.ink.get(account, 0) / WAD * (RAY / state.param("liquidation_ratio"))
    return LinearExposure({COLLATERAL: carried, DAI: -debt}, relative_error=_FLOAT_ERROR, debt={DAI: debt})


def exposures(state: MakerState, ids: Sequence[AccountId]) -> Exposures:
    """``exposure`` of those of some vaults that owe."""
    columns = columns_of(state).among(ids)
    owing = columns.values[_ART].any(axis=1)
    columns = Columns(columns.account[owing], columns.values[:, owing])
    count = len(columns.account)
    carried = columns.floats(_INK) / WAD
    if count:
        carried *= RAY / state.param("liquidation_ratio") * (1 - _DOUBLE)
    debt = columns.floats(_ART) * (state.rate / RAY / WAD * (1 + _DOUBLE))
    return Exposures(
        account=columns.account,
        start=2 * np.arange(count + 1),
        asset=np.tile(np.array([COLLATERAL, DAI], np.int64), count),
        owed=np.tile(np.array([False, True]), count),
        amount=np.stack([carried, debt], axis=1).ravel(),
        constant=np.zeros(count),
        relative_error=_FLOAT_ERROR,
    )


def view(state: MakerState, account: AccountId, prices: Prices) -> AccountView:
    """See ``rules.valued``."""
    ink, art = state.ink.get(account, 0), state.art.get(account, 0)
    collateral, debt, power, health = valued(ink, art, *_terms(state, prices))
    return AccountView(collateral, debt, health if art and state.rate else None, power)


def views(state: MakerState, prices: Prices) -> Views | None:
    """``view`` of every vault; None where the price is missing."""
    columns = columns_of(state)
    if not len(columns.account) or COLLATERAL not in prices.oracle:
        return None
    vaults = columns.values[_INK], columns.values[_ART]
    found = over(valued, *vaults, *_terms(state, prices), rows=len(columns.account))
    return views_of(columns, found, lambda account: view(state, account, prices))


def _terms(state: MakerState, prices: Prices) -> tuple[int, int, int, int]:
    """What ``valued`` takes that is the same for all vaults."""
    spot = state.spot(prices)
    return state.rate, prices.oracle[COLLATERAL], spot, state.param("par")


_INK, _ART = 0, 1
"""Columns of the book."""


def columns_of(state: MakerState) -> Columns:
    """What each vault holds and owes, kept until it changes."""

    def row(account: AccountId) -> tuple[int, int] | None:
        numbers = state.ink.get(account, 0), state.art.get(account, 0)
        return numbers if any(numbers) else None

    state.columns = refreshed(state.columns, state.moved, lambda: accounts(state), row, 2)
    state.moved.clear()
    return state.columns


def figures(state: MakerState, account: AccountId, prices: Prices) -> list[Figure]:
    """Vat ``urns`` (ink, art) and ``ilks`` (rate, spot), what the vault owes, and its health as ``view`` says it."""
    return [
        Figure("ink", state.ink.get(account, 0), "wad"),
        Figure("art", state.art.get(account, 0), "wad"),
        Figure("rate", state.rate, "ray"),
        Figure("spot", state.spot(prices), "ray"),
        Figure("debt", state.debt(account), "rad"),
        Figure("health_factor", view(state, account, prices).health, "wad"),
    ]


def holdings(state: MakerState, account: AccountId) -> list[Holding]:
    """Collateral locked and DAI owed; debt rounded up to a wad."""
    ink, art = state.ink.get(account, 0), state.art.get(account, 0)
    found = [Holding(COLLATERAL, ink, 0, ink, 0, True), Holding(DAI, 0, art, 0, -(-art * state.rate // RAY), False)]
    return [holding for holding in found if holding.collateral_scaled or holding.debt_scaled]


def pairs(state: MakerState, account: AccountId, prices: Prices) -> list[Pair]:
    """The one pair of an unsafe vault; none where it is safe or has no price (spot stays zero)."""
    if account not in state.art or COLLATERAL not in prices.oracle:
        return []
    return [PAIR] if is_unsafe(state.ink.get(account, 0), state.art[account], state.rate, state.spot(prices)) else []


def safe_prices(state: MakerState, account: AccountId, asset: AssetId) -> SafePrices | None:
    """Of the collateral of a vault with debt; see ``rules.least_safe_price_up``."""
    ink, art = state.ink.get(account), state.art.get(account)
    if asset != COLLATERAL or not ink or not art:
        return None
    least = least_safe_price_up(ink, art, state.rate, state.param("par"), state.param("liquidation_ratio"))
    return SafePrices(least_up=least)
