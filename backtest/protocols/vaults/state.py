"""The book of one ilk or of several: vaults, accumulators, parameters. All amounts are wad.

Of ilk k (in the market's order, from 0) the collateral is asset 2k, the coin that its vaults owe asset 2k + 1: a debt
grows by the accumulator of its own ilk. A vault is an account of one ilk; the urns of one owner in several ilks are as
many accounts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from backtest.errors import RulesError
from backtest.model import (
    AccountId,
    AssetId,
    HistoricalLiquidation,
    IndexUpdate,
    MarketEvent,
    ParamChange,
    PositionChange,
    Prices,
)
from backtest.protocols.columns import Columns, refreshed, views_of
from backtest.protocols.interface import (
    AccountView,
    Exposures,
    Holding,
    Ints,
    LinearExposure,
    Opening,
    Pair,
    Views,
)
from backtest.protocols.vaults.rules import AuctionLimits, Seizure, is_unsafe, least_safe_value_up, valued
from backtest.units import RAY, WAD
from backtest.words.columns import over, words

COLLATERAL, COIN = AssetId(0), AssetId(1)
PAIR = Pair(COIN, COLLATERAL)
RAISED, RAISED_FREELY = "raised", "raised_freely"
"""Changes of what all open auctions are to raise; the other one where that bounds no liquidation."""
WHOLE = -1
"""In place of an ilk: the liquidation contracts as a whole."""
_FLOAT_ERROR = 1e-9
"""The relative error of an exposure's floats."""
_DOUBLE = 1e-12
"""More than a few operations of doubles err by."""


def collateral_of(ilk: int) -> AssetId:
    """The asset that is an ilk's collateral."""
    return AssetId(2 * ilk)


def coin_of(ilk: int) -> AssetId:
    """The asset that is the debt of an ilk's vaults."""
    return AssetId(2 * ilk + 1)


def pair_of(ilk: int) -> Pair:
    """What a bite or bark repays and takes."""
    return Pair(coin_of(ilk), collateral_of(ilk))


@dataclass
class VaultState(ABC):
    """``ink`` and ``art`` (wad) by account, no zeros; ``rates`` ray by ilk, one where it is not there; ``params`` by
    name (``params``), those of the market as a whole, which is all of them where it has one ilk; ``raising`` among them
    is the debt with penalty of all open auctions, rad (Cat ``litter``, Dog ``Dirt``).

    With several ilks: ``ilks`` of them; ``ilk`` of each account, the first where it is not there; ``own`` parameters by
    ilk and name; ``dirt`` is what auctions are to raise, rad, by ilk (``WHOLE``: all of them) and liquidation system.

    A protocol says in a class of its own what its contracts make of them. ``DEFAULTS``: parameters that are taken where
    the history has none; ``UNIT``: by what a wad times a price is divided for base units (wad).
    """

    DEFAULTS: ClassVar[Mapping[str, int]] = {}
    UNIT: ClassVar[int] = WAD

    ink: dict[AccountId, int] = field(default_factory=dict)
    art: dict[AccountId, int] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)
    rates: dict[int, int] = field(default_factory=dict)
    ilks: int = 1
    ilk: dict[AccountId, int] = field(default_factory=dict)
    own: dict[int, dict[str, int]] = field(default_factory=dict)
    dirt: dict[tuple[int, int], int] = field(default_factory=dict)
    changes: int = field(default=0, compare=False, repr=False)
    """How often a parameter was set: what is made of them holds as long."""
    owed: dict[int, int] = field(default_factory=dict, compare=False)
    """The sum of ``art`` by ilk (Vat ``Art``)."""
    columns: Columns | None = field(default=None, compare=False, repr=False)
    """Of every vault (``columns_of``) but those in ``moved``, which changed since. Copies share it."""
    moved: set[AccountId] = field(default_factory=set, compare=False, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Independent of this one."""
        return replace(
            self,
            ink=self.ink.copy(),
            art=self.art.copy(),
            params=self.params.copy(),
            rates=self.rates.copy(),
            ilk=self.ilk.copy(),
            own={ilk: values.copy() for ilk, values in self.own.items()},
            dirt=self.dirt.copy(),
            owed=self.owed.copy(),
            moved=self.moved.copy(),
        )

    def set(self, ilk: int, name: str) -> int | None:
        """The parameter of an ilk, or else of all; None where the history has none."""
        value = self.own[ilk].get(name) if ilk in self.own else None
        return self.params.get(name) if value is None else value

    def param(self, name: str, ilk: int = 0) -> int:
        """The same, or what is assumed where the history has none; RulesError where nothing may be assumed."""
        value = self.set(ilk, name)
        value = self.DEFAULTS.get(name) if value is None else value
        if value is None:
            raise RulesError(
                f"nothing says the {name} of this ilk", "fetch or import its parameters, or set it in the scenario"
            )
        return value

    def ilk_of(self, account: AccountId) -> int:
        """The ilk of a vault."""
        return self.ilk.get(account, 0)

    def rate(self, ilk: int = 0) -> int:
        """Ray: what one unit of an ilk's art owes."""
        return self.rates.get(ilk, RAY)

    def debt(self, account: AccountId) -> int:
        """Rad: art times the stored rate. Interest since the last drip counts nowhere (dss ``src/vat.sol``)."""
        return self.art.get(account, 0) * self.rate(self.ilk_of(account))

    def system(self, ilk: int = 0) -> int:
        """The liquidation contracts in force."""
        return self.param("liquidation_system", ilk)

    def is_free(self, limits: AuctionLimits) -> bool:
        """Whether what auctions are to raise bounds no liquidation, however many vaults are liquidated. With several
        ilks: never, which only makes others be asked again.
        """
        if limits.room is None:
            return True
        if self.ilks > 1:
            return False
        owed = self.owed.get(0, 0) * self.rate()
        return limits.room >= owed * limits.chop // WAD + 1 + max(limits.dust, limits.dunk)

    def cap(self, prices: Prices, ilk: int = 0) -> int:
        """Ray: the debt that a unit of collateral may carry after its owner's call; PriceMissing without a price."""
        return self.spot(prices, ilk)

    @abstractmethod
    def spot(self, prices: Prices, ilk: int = 0) -> int:
        """Ray: the debt that a unit of collateral may carry before it is liquidated; PriceMissing without a price."""

    @abstractmethod
    def par(self, prices: Prices) -> int:
        """Ray: what one coin of debt is worth in base units; PriceMissing where that is a price and there is none."""

    @abstractmethod
    def peg(self) -> float:
        """By what the coin's own price is multiplied to give that, for screens."""

    @abstractmethod
    def limits(self, ilk: int = 0) -> AuctionLimits:
        """What bounds the next auction."""

    @abstractmethod
    def seizure(self, account: AccountId, limits: AuctionLimits) -> Seizure | str:
        """What an auction of an unsafe vault takes, or the contract's error in words."""

    @abstractmethod
    def contracts(self, ilk: int = 0) -> str:
        """The name of the contracts that liquidate."""


def apply(state: VaultState, event: MarketEvent) -> None:
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
        ilk = event.asset // 2
        if ilk:
            state.ilk[event.account] = ilk
        if side is state.art:
            state.owed[ilk] = state.owed.get(ilk, 0) + event.delta
        if balance:
            side[event.account] = balance
        else:
            side.pop(event.account, None)
    elif isinstance(event, ParamChange):
        _set(state, event)
    elif isinstance(event, IndexUpdate):
        if event.asset % 2:
            state.rates[event.asset // 2] = event.borrow_index
    elif not isinstance(event, HistoricalLiquidation):
        raise RulesError(
            f"block {event.block_number}: vaults have no {type(event).__name__}",
            "rebuild the market with backtest reconstruct",
        )


def _set(state: VaultState, change: ParamChange) -> None:
    """A parameter; ``category`` of what auctions are to raise is the liquidation system."""
    ilk = None if change.asset is None else change.asset // 2
    if change.name not in (RAISED, RAISED_FREELY):
        (state.params if ilk is None else state.own.setdefault(ilk, {}))[change.name] = change.value
        state.changes += 1
    elif ilk is None or change.category is None:
        state.params["raising"] = state.params.get("raising", 0) + change.value
    else:
        for place in (ilk, WHOLE):
            key = place, change.category
            state.dirt[key] = state.dirt.get(key, 0) + change.value


def open_accounts(state: VaultState, opening: Opening) -> None:
    """The vaults that a replay begins with, into a book that knows none of them."""
    state.columns = None  # of a book that was looked at when it was empty
    for who, asset, side, balance in opening.balances:
        if balance:
            (state.ink if side == "collateral" else state.art)[who] = balance
            state.moved.add(who)
            ilk = asset // 2
            if ilk:
                state.ilk[who] = ilk
            if side == "debt":
                state.owed[ilk] = state.owed.get(ilk, 0) + balance
    if opening.settings:
        raise RulesError(
            f"block {opening.settings[0][-1]}: vaults have no SettingChange",
            "rebuild the market with backtest reconstruct",
        )


def accounts(state: VaultState) -> Iterable[AccountId]:
    """Vaults that hold or owe anything, in id order."""
    return sorted(state.ink.keys() | state.art.keys())


def exposure(state: VaultState, account: AccountId) -> LinearExposure | None:
    """Safe while ink * price / ratio >= art * rate * par: linear in the two prices. Roundings are below 1e-15 of either
    side.
    """
    if account not in state.art:
        return None
    ilk = state.ilk_of(account)
    debt = state.debt(account) / RAY / state.UNIT * state.peg()
    carried = state.ink.get(account, 0) / state.UNIT * (RAY / state.param("liquidation_ratio", ilk))
    collateral, coin = collateral_of(ilk), coin_of(ilk)
    return LinearExposure({collateral: carried, coin: -debt}, relative_error=_FLOAT_ERROR, debt={coin: debt})


def exposures(state: VaultState, ids: Sequence[AccountId]) -> Exposures:
    """``exposure`` of those of some vaults that owe."""
    columns = columns_of(state).among(ids)
    owing = columns.values[_ART].any(axis=1)
    columns = Columns(columns.account[owing], columns.values[:, owing])
    count = len(columns.account)
    carried = columns.floats(_INK) / state.UNIT
    debt = columns.floats(_ART) * state.peg()
    asset = np.tile(np.array([COLLATERAL, COIN], np.int64), count)
    if state.ilks > 1:
        ilk, each = _ilks_of(state, columns), range(state.ilks)
        asset += 2 * np.repeat(ilk, 2)
        ratios = [state.set(one, "liquidation_ratio") for one in each]
        carries = np.array([RAY / ratio if ratio else 0.0 for ratio in ratios])
        carried *= carries[ilk] * (1 - _DOUBLE)
        debt *= np.array([state.rate(one) / RAY / state.UNIT * (1 + _DOUBLE) for one in each])[ilk]
    elif count:
        carried *= RAY / state.param("liquidation_ratio") * (1 - _DOUBLE)
        debt *= state.rate() / RAY / state.UNIT * (1 + _DOUBLE)
    return Exposures(
        account=columns.account,
        start=2 * np.arange(count + 1),
        asset=asset,
        owed=np.tile(np.array([False, True]), count),
        amount=np.stack([carried, debt], axis=1).ravel(),
        constant=np.zeros(count),
        relative_error=_FLOAT_ERROR,
    )


def view(state: VaultState, account: AccountId, prices: Prices) -> AccountView:
    """See ``rules.valued``."""
    ink, art, ilk = state.ink.get(account, 0), state.art.get(account, 0), state.ilk_of(account)
    collateral, debt, power, health = valued(ink, art, *_terms(state, prices, ilk))
    return AccountView(collateral, debt, health if art and state.rate(ilk) else None, power)


def views(state: VaultState, prices: Prices) -> Views | None:
    """``view`` of every vault; None where a price is missing."""
    columns = columns_of(state)
    if not len(columns.account):
        return None
    if state.ilks == 1:
        if COLLATERAL not in prices.oracle:
            return None
        terms: list[Any] = [*_terms(state, prices, 0)]
    else:
        ilk = _ilks_of(state, columns)
        here, place = np.unique(ilk, return_inverse=True)
        if any(collateral_of(one) not in prices.oracle for one in here.tolist()):
            return None
        each = [_terms(state, prices, one) for one in here.tolist()]
        terms = [words(list(column))[place] for column in zip(*each, strict=True)]
    found = over(valued, columns.values[_INK], columns.values[_ART], *terms, rows=len(columns.account))
    return views_of(columns, found, lambda account: view(state, account, prices))


def _terms(state: VaultState, prices: Prices, ilk: int) -> tuple[int, int, int, int, int, int]:
    """What ``valued`` takes that is the same for all vaults of an ilk."""
    spot, cap, price = state.spot(prices, ilk), state.cap(prices, ilk), prices.oracle[collateral_of(ilk)]
    return state.rate(ilk), price, state.UNIT, spot, cap, state.par(prices)


def _ilks_of(state: VaultState, columns: Columns) -> Ints:
    """The ilk of each account."""
    return np.fromiter((state.ilk_of(account) for account in columns.account.tolist()), np.int64)


_INK, _ART = 0, 1
"""Columns of the book."""


def columns_of(state: VaultState) -> Columns:
    """What each vault holds and owes, kept until it changes."""

    def row(account: AccountId) -> tuple[int, int] | None:
        numbers = state.ink.get(account, 0), state.art.get(account, 0)
        return numbers if any(numbers) else None

    state.columns = refreshed(state.columns, state.moved, lambda: accounts(state), row, 2)
    state.moved.clear()
    return state.columns


def holdings(state: VaultState, account: AccountId) -> list[Holding]:
    """Collateral locked and coins owed; debt rounded up to a wad."""
    ink, art, ilk = state.ink.get(account, 0), state.art.get(account, 0), state.ilk_of(account)
    found = [
        Holding(collateral_of(ilk), ink, 0, ink, 0, True),
        Holding(coin_of(ilk), 0, art, 0, -(-art * state.rate(ilk) // RAY), False),
    ]
    return [holding for holding in found if holding.collateral_scaled or holding.debt_scaled]


def pairs(state: VaultState, account: AccountId, prices: Prices) -> list[Pair]:
    """The one pair of an unsafe vault; none where it is safe or has no price (spot stays zero)."""
    ilk = state.ilk_of(account)
    if account not in state.art or collateral_of(ilk) not in prices.oracle:
        return []
    unsafe = is_unsafe(state.ink.get(account, 0), state.art[account], state.rate(ilk), state.spot(prices, ilk))
    return [pair_of(ilk)] if unsafe else []


def least_safe_value(state: VaultState, account: AccountId, asset: AssetId, par: int) -> int | None:
    """Ray: from which price of its collateral on a vault with debt is safe (``rules.least_safe_value_up``); None where
    the asset does not decide.
    """
    ink, art, ilk = state.ink.get(account), state.art.get(account), state.ilk_of(account)
    if asset != collateral_of(ilk) or not ink or not art:
        return None
    return least_safe_value_up(ink, art, state.rate(ilk), par, state.param("liquidation_ratio", ilk))
