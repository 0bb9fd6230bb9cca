"""The book of one crvUSD or LlamaLend market: its AMM, its loans, and how canonical events change them.

Asset 0 is the borrowed token, asset 1 the collateral. A loan's stored debt is what it was at its last call, with the
interest multiplier of then (``Controller.Loan``); its stored collateral is what its last call deposited: what is left
of it, and the borrowed tokens that came in its place, follow from its shares of bands.

Calls come as settings, in this order: ``withdrawn`` (a part of the shares, wad, leaves the bands),
``liquidation_discount`` (the loan's own), ``first_band`` and ``last_band``, ``deposited`` (collateral, native, enters
them). An exchange comes as two parameters: ``exchange_price`` (the oracle's price) and ``sold`` (what was paid, of the
asset) or ``bought`` (what was asked for). ``silent_fee`` says what an exchange that gave nothing, and left no log, made
of the least fee at ``exchange_price``. What they do to bands follows from the book that they meet.

Source: curvefi/curve-stablecoin at 58289a42, ``contracts/Controller.vy`` and ``contracts/AMM.vy``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from backtest.errors import RulesError, UserError
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    IndexUpdate,
    Market,
    MarketEvent,
    ParamChange,
    PositionChange,
    PriceUpdate,
    SettingChange,
)
from backtest.protocols.llamma.amm import RECENT_BANDS, Amm, AmmTerms, Ints
from backtest.protocols.llamma.math import AmmReverts
from backtest.units import RAY, SECONDS_PER_YEAR, WAD

BORROWED, COLLATERAL = AssetId(0), AssetId(1)
AMM = AccountId(0)
"""The AMM's own account: exchanges are liquidations of it. It holds nothing; what is in its bands is the users'."""
TO_RAY = RAY // WAD
RATE_SCALE = SECONDS_PER_YEAR * TO_RAY
"""A rate a second (wad) times this is the same rate a year (ray)."""
EXCHANGED = frozenset({"sold", "bought"})
TOLD = frozenset({"band_x", "band_y", "band_shares", "active_band", "created"})
"""Parameters that say, for SQL, what the book has already."""
RULES = "llamma"


@dataclass(frozen=True, slots=True)
class Loan:
    """One user's loan; ``shares`` of bands ``first`` on, ``discount`` its liquidation discount (wad)."""

    initial: int = 0
    rate_mul: int = WAD
    discount: int = 0
    first: int = 0
    last: int = 0
    shares: Ints = ()
    deposited: int = 0


NO_LOAN = Loan()


@dataclass(slots=True)
class LlammaState:
    """One market. ``total`` and ``total_mul``: all debts as ``Controller._total_debt`` stores them; discounts are wad,
    those of loans that come. ``price``: of the exchange that follows; ``grid``: amplification and base price of the
    deposits that are there.
    """

    market: Market
    amm: Amm
    loans: dict[AccountId, Loan] = field(default_factory=dict)
    debtors: int = 0
    total: int = 0
    total_mul: int = WAD
    loan_discount: int = 0
    liquidation_discount: int = 0
    price: int = 0
    grid: tuple[int, int] = (0, 0)

    @property
    def is_regridded(self) -> bool:
        """Whether another amplification or base price came after the deposits that are there."""
        return bool(self.loans) and self.grid != (self.amm.terms.amplification, self.amm.terms.base_price)

    def refuse_regridded(self, event: MarketEvent | Clock) -> None:
        """UserError where bands do not mean any more what they did when they were filled."""
        if self.is_regridded:
            raise UserError(
                f"block {event.block_number}: the amplification of an AMM with deposits cannot change",
                "let the override begin at the market's first block, and liquidators act from there on",
            )

    def copy(self) -> LlammaState:
        """Independent of this one; loans never change, so that both have the same."""
        return replace(self, amm=self.amm.copy(), loans=self.loans.copy())

    def __deepcopy__(self, memo: dict[int, Any]) -> LlammaState:
        return self.copy()

    def loan(self, account: AccountId) -> Loan:
        """An account's loan."""
        return self.loans.get(account, NO_LOAN)

    def debt_up(self, loan: Loan, time: int) -> int:
        """What a loan owes, native: rounded up where there are others, else down (``Controller._debt``); down always in
        the controllers of June 2023.
        """
        if not loan.initial:
            return 0
        owed = loan.initial * self.amm.rate_mul_at(time)
        return (
            -(-owed // loan.rate_mul)
            if self.debtors > 1 and self.amm.terms.revision >= RECENT_BANDS
            else owed // loan.rate_mul
        )

    def total_debt_down(self, time: int) -> int:
        """All debts, native (``Controller.total_debt``)."""
        return self.total * self.amm.rate_mul_at(time) // self.total_mul


def open_state(market: Market, *, recompute: bool = False) -> LlammaState:
    """The empty book.

    Raises:
        UserError: interest is to be recomputed (monetary policies are contracts of their own), or the market does not
            have a borrowed and a collateral token of 18 decimals at most.
    """
    if recompute:
        raise UserError(
            f"market '{market.name}': its rates are what a monetary policy says, which looks at other contracts",
            "leave rates as recorded: rates = 'historical'",
        )
    if len(market.assets) != 2 or any(asset.decimals > 18 for asset in market.assets):
        raise UserError(
            f"market '{market.name}' is not one of a borrowed and a collateral token, of 18 decimals at most",
            "rebuild the canonical tables",
        )
    scales = [10 ** (18 - asset.decimals) for asset in market.assets]
    return LlammaState(market, Amm(AmmTerms(0, 0, *scales)))


def accounts(state: LlammaState) -> Sequence[AccountId]:
    """Accounts with a loan, in id order."""
    return sorted(state.loans)


def apply(state: LlammaState, event: MarketEvent) -> None:
    """Apply one canonical event or effect.

    Raises:
        RulesError: history says what the contract would refuse, or an unknown parameter or setting.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    try:
        if isinstance(event, PositionChange):
            _position(state, event)
        elif isinstance(event, SettingChange):
            _setting(state, event)
        elif isinstance(event, ParamChange):
            _param(state, event)
        elif isinstance(event, IndexUpdate):
            if event.asset == BORROWED:
                amm = state.amm
                amm.rate_mul, amm.rate = event.borrow_index // TO_RAY, event.borrow_rate // RATE_SCALE
                amm.rate_time = event.timestamp
        elif not isinstance(event, PriceUpdate):
            raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")
    except AmmReverts as refused:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: {refused}, which the contract refuses",
            "logs before it are missing: run backtest check",
        ) from None


def _position(state: LlammaState, event: PositionChange) -> None:
    loan = state.loan(event.account)
    if event.side == "collateral":
        loan = replace(loan, deposited=loan.deposited + event.delta)
    else:
        now = state.amm.rate_mul_at(event.timestamp)
        after = loan.initial + event.delta
        if after < 0:
            raise AmmReverts(f"a debt of {after}")
        state.debtors += bool(after) - bool(loan.initial)
        loan = replace(loan, initial=after, rate_mul=now)
        if moved := event.amount or 0:
            total = state.total * now // state.total_mul
            state.total = total + moved if event.action == "borrow" else max(total - moved, 0)
            state.total_mul = now
    _put(state, event.account, loan)


def _put(state: LlammaState, account: AccountId, loan: Loan) -> None:
    if loan.initial or loan.shares or loan.deposited:
        state.loans[account] = loan
    else:
        state.loans.pop(account, None)


def _setting(state: LlammaState, event: SettingChange) -> None:
    loan, name, value = state.loan(event.account), event.setting, event.value
    if name in ("withdrawn", "deposited"):
        if not any(one.shares for one in state.loans.values()):
            state.grid = state.amm.terms.amplification, state.amm.terms.base_price
        state.refuse_regridded(event)
    if name == "withdrawn":
        *_, left = state.amm.withdraw(loan.shares, loan.first, value)
        loan = replace(loan, shares=left)
    elif name == "deposited":
        loan = replace(loan, shares=state.amm.deposit(value, loan.first, loan.last))
    elif name == "first_band":
        loan = replace(loan, first=value)
    elif name == "last_band":
        loan = replace(loan, last=value)
    elif name == "liquidation_discount":
        loan = replace(loan, discount=value)
    else:
        raise AmmReverts(f"the unknown setting '{name}'")
    _put(state, event.account, loan)


def _param(state: LlammaState, event: ParamChange) -> None:
    name, value, amm = event.name, event.value, state.amm
    if name in EXCHANGED:
        state.refuse_regridded(event)
        pump = (event.asset == BORROWED) == (name == "sold")
        paid, wanted = (value, 0) if name == "sold" else (0, value)
        amm.exchange(state.price, event.timestamp, pump=pump, paid=paid, wanted=wanted)
    elif name == "exchange_price":
        state.price = value
    elif name == "silent_fee":
        amm.price_time, amm.old_price, amm.old_fee = event.timestamp, state.price, value
    elif name == "amm_fee":
        amm.fee = value
    elif name == "amm_admin_fee":
        amm.admin_fee = value
    elif name == "loan_discount":
        state.loan_discount = value
    elif name == "liquidation_discount":
        state.liquidation_discount = value
    elif name in ("amplification", "base_price", "llamma_revision"):
        amm.terms = replace(amm.terms, **{name.removeprefix("llamma_"): value})
    elif name not in TOLD:
        raise AmmReverts(f"the unknown parameter '{name}'")
