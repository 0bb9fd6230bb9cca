"""The book of a market's two silos during a replay, and how canonical events change it.

Assets 0 and 1 are the tokens of silo 0 and silo 1: side collateral counts shares of what is lent, side debt shares of
what is borrowed. Assets 2 and 3 are the same tokens deposited as protected collateral, which is not lent and earns
nothing: shares of it. Totals follow from the native ``amount`` beside each change of shares, so that in a changed book
they are that book's own. A share token is worth what its token is: prices of assets 2 and 3 decide nothing.

Interest. An accrual of history comes with the rate that the silo's model gave, which the fold held against its log; one
that a call makes here, and every one where interest is recomputed, follows the model (``irm``). Where a call here
accrued between two of history, the second charges what the first left of history's growth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from backtest.protocols.changes import parameter_change, unplaced
from backtest.protocols.silo_v2.irm import Charge, Gains, compound, current_down
from backtest.protocols.silo_v2.math import (
    FRACTIONS_BELOW,
    OFFSET,
    SharePool,
    fees_down,
    fraction_down,
    interest_down,
    utilisation_down,
)
from backtest.units import RAY, UINT256_MAX, WAD, mul_div_down

SILOS = (0, 1)
PROTECTED = 2
"""Asset n + 2 is token n as protected collateral."""
RULES = "silo-v2 3.18.0 (by vectors)"
TERMS = ("ltv", "liquidation_threshold", "liquidation_target_ltv", "liquidation_bonus")
"""Of each silo's token as collateral, wad; the bonus with the one in it."""
MARKET_WIDE = ("dao_fee", "deployer_fee", "fractions")
"""Wad; whether what rounding leaves of interest is kept (from 3.0.0 on)."""
BORROW_ORACLE = "other_borrow_oracle"
"""Whether borrowing against a token is checked by another oracle (maxLtvOracle) than solvency is."""
ACCRUED, WITH_ACTION, HERE = "accrued", "accrued_with_action", "accrued_here"
"""An accrual of history by itself, one that a user's call made, one that a call in this book makes: wad of the debt."""
VARIABLES = ("ri", "t_crit")
TOLD = ("interest", "interest_lent", "interest_left", "revenue_left")
"""What an accrual of history added to a debt and to what is lent, and what rounding left, for SQL alone."""
RULES_REVISION = 1
"""Of ``silo_revision``: tables that have none lack what rounding left."""
REBUILD = "rebuild the canonical tables"
NOBODY = AccountId(-1)


@dataclass(slots=True)
class Silo:
    """One silo as of ``updated`` (seconds; 0: no call yet): assets and shares of each kind, what rounding left of
    interest and of fees (wad), the model's variables. ``done``: by how much calls here grew its debt since history's
    last accrual, wad.
    """

    collateral: int = 0
    collateral_shares: int = 0
    protected: int = 0
    protected_shares: int = 0
    debt: int = 0
    debt_shares: int = 0
    updated: int = 0
    interest_left: int = 0
    revenue_left: int = 0
    ri: int = 0
    t_crit: int = 0
    done: int = WAD

    @property
    def lent(self) -> SharePool:
        """What is lent, with its shares."""
        return SharePool(self.collateral, self.collateral_shares)

    @property
    def kept(self) -> SharePool:
        """What is protected."""
        return SharePool(self.protected, self.protected_shares)

    @property
    def owed(self) -> SharePool:
        """What is borrowed."""
        return SharePool(self.debt, self.debt_shares, debt=True)

    def charge(self, rcomp: int, fees: int, fractions: bool) -> int:
        """Add the interest of one accrual (SiloLendingLib.accrueInterestForAsset, applyFractions); what it comes to."""
        if not rcomp or not self.debt:
            return 0
        debt = self.debt
        interest = interest_down(debt, rcomp)
        kept = interest - fees_down(interest, fees)
        self.debt += interest
        self.collateral += min(kept, UINT256_MAX - self.collateral)
        if fractions and debt < FRACTIONS_BELOW and self.collateral not in (0, UINT256_MAX):
            one, self.interest_left = fraction_down(debt, rcomp, self.interest_left)
            interest += one
            of_fees, self.revenue_left = fraction_down(interest, fees, self.revenue_left)
            self.debt += one
            self.collateral += one - of_fees
        return interest


@dataclass(frozen=True, slots=True)
class Position:
    """What one account has in each silo: shares of what it lends, of what is protected, of what it owes; and which
    silo its debt is backed by (SiloConfig.borrowerCollateralSilo).
    """

    lent: tuple[int, int] = (0, 0)
    protected: tuple[int, int] = (0, 0)
    owed: tuple[int, int] = (0, 0)
    backed_by: int | None = None

    @property
    def holds(self) -> bool:
        """Whether it is anything at all."""
        return any((*self.lent, *self.protected, *self.owed))

    @property
    def debtor(self) -> int | None:
        """The silo that it owes to; None: none."""
        return next((n for n in SILOS if self.owed[n]), None)

    @property
    def pledges(self) -> bool:
        """Whether there are deposits that back a debt."""
        backing = self.backing
        return backing is not None and bool(self.lent[backing] or self.protected[backing])

    @property
    def backing(self) -> int | None:
        """The silo whose deposits back its debt; None without debt."""
        debtor = self.debtor
        return None if debtor is None else 1 - debtor if self.backed_by is None else self.backed_by


_EMPTY = Position()


def with_share(shares: tuple[int, int], silo: int, value: int) -> tuple[int, int]:
    """The shares with another number in one silo."""
    return (value, shares[1]) if silo == 0 else (shares[0], value)


@dataclass(slots=True)
class SiloState:
    """One market. ``terms`` by silo and name, ``curves`` by silo; ``params``: see ``MARKET_WIDE``."""

    market: Market
    recompute: bool = False
    silos: tuple[Silo, Silo] = field(default_factory=lambda: (Silo(), Silo()))
    positions: dict[AccountId, Position] = field(default_factory=dict)
    terms: tuple[dict[str, int], dict[str, int]] = field(default_factory=lambda: ({}, {}))
    curves: tuple[dict[str, int], dict[str, int]] = field(default_factory=lambda: ({}, {}))
    params: dict[str, int] = field(default_factory=dict)
    seen: tuple[int, tuple[Silo, Silo]] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> SiloState:
        """Independent of this one; positions never change."""
        return replace(
            self,
            silos=copied(self.silos),
            positions=self.positions.copy(),
            terms=(self.terms[0].copy(), self.terms[1].copy()),
            curves=(self.curves[0].copy(), self.curves[1].copy()),
            params=self.params.copy(),
            seen=None,
        )

    def of(self, account: AccountId) -> Position:
        """The account's position."""
        return self.positions.get(account, _EMPTY)

    def term(self, silo: int, name: str) -> int:
        """A parameter of a silo's token as collateral, wad; of the bonus what is above one."""
        value = self.terms[silo].get(name, 0)
        return max(0, value - WAD) if name == "liquidation_bonus" else value

    @property
    def fees(self) -> int:
        """The DAO's and the deployer's part of interest, wad."""
        return self.params.get("dao_fee", 0) + self.params.get("deployer_fee", 0)

    def curve(self, silo: int) -> Gains | None:
        """The silo's model; None while it is not known."""
        own = self.curves[silo]
        return Gains(**own) if len(own) == len(Gains._fields) else None

    def rate(self, silo: int, timestamp: int) -> Charge:
        """What an accrual at this time would charge."""
        own, curve = self.silos[silo], self.curve(silo)
        if curve is None or not own.updated:
            return Charge(0, own.ri, own.t_crit)
        return compound(curve, own.ri, own.t_crit, own.collateral, own.debt, timestamp - own.updated)

    def accrued(self, timestamp: int) -> tuple[Silo, Silo]:
        """The silos as a call at this time finds them after it accrued; not to be changed."""
        if self.seen is None or self.seen[0] != timestamp:
            silos = copied(self.silos)
            for n in SILOS:
                self.accrue(silos[n], timestamp, self.rate(n, timestamp))
            self.seen = timestamp, silos
        return self.seen[1]

    def found(self, timestamp: int, touched: Iterable[int]) -> tuple[Silo, Silo]:
        """The silos as a call at this time finds them that accrues some of them; not to be changed."""
        accrued, wanted = self.accrued(timestamp), set(touched)
        return (accrued if 0 in wanted else self.silos)[0], (accrued if 1 in wanted else self.silos)[1]

    def accrue(self, silo: Silo, timestamp: int, rate: Charge) -> int:
        """Accrue one silo in place; the interest that it logs."""
        if timestamp <= silo.updated:
            return 0
        first, silo.updated = not silo.updated, timestamp
        if first:
            return 0
        silo.ri, silo.t_crit = rate.ri, rate.t_crit
        return silo.charge(rate.rcomp, self.fees, bool(self.params.get("fractions")))


def copied(silos: Sequence[Silo]) -> tuple[Silo, Silo]:
    """Silos that may be changed."""
    return replace(silos[0]), replace(silos[1])


def open_state(market: Market, *, recompute: bool = False) -> SiloState:
    """The empty book. UserError where the market does not have two tokens, each twice."""
    if len(market.assets) != 2 * PROTECTED:
        raise UserError(f"market '{market.name}' has {len(market.assets)} assets, a Silo market has four", REBUILD)
    return SiloState(market, recompute)


def apply(state: SiloState, event: MarketEvent) -> None:
    """Apply one canonical event or effect.

    Raises:
        RulesError: a balance would fall below zero, an unknown parameter or setting, an amount that history does not
            say.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    if isinstance(event, PositionChange):
        _apply_position(state, event)
    elif isinstance(event, ParamChange):
        _apply_param(state, event)
    elif isinstance(event, SettingChange):
        if event.setting != "collateral_silo":
            raise RulesError(f"block {event.block_number}: unknown setting '{event.setting}'", REBUILD)
        state.positions[event.account] = replace(state.of(event.account), backed_by=event.value)
    elif not isinstance(event, PriceUpdate | IndexUpdate):
        raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")


def _apply_position(state: SiloState, event: PositionChange) -> None:
    if event.amount is None:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: history does not say how many tokens moved", REBUILD
        )
    state.seen = None
    new, left = moved(state.of(event.account), event.asset, event.side == "debt", event.delta)
    if left < 0:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: account {state.market.accounts[event.account]} would"
            f" hold {left} units of {state.market.assets[event.asset].symbol} as {event.side}",
            "the history before it is incomplete",
        )
    state.positions[event.account] = new
    move(state.silos, event.asset, event.side == "debt", event.delta, event.amount)


def moved(has: Position, asset: AssetId, debt: bool, delta: int) -> tuple[Position, int]:
    """A position with so many shares more of an asset, and how many it then has of it."""
    silo = asset % PROTECTED
    if debt:
        left = has.owed[silo] + delta
        return replace(has, owed=with_share(has.owed, silo, left)), left
    if asset >= PROTECTED:
        left = has.protected[silo] + delta
        return replace(has, protected=with_share(has.protected, silo, left)), left
    left = has.lent[silo] + delta
    return replace(has, lent=with_share(has.lent, silo, left)), left


def move(silos: Sequence[Silo], asset: AssetId, debt: bool, delta: int, amount: int) -> None:
    """The same in a silo's totals; ``amount`` is not negative."""
    silo = silos[asset % PROTECTED]
    signed = amount if delta > 0 else -amount
    if debt:
        silo.debt_shares += delta
        silo.debt += signed
    elif asset >= PROTECTED:
        silo.protected_shares += delta
        silo.protected += signed
    else:
        silo.collateral_shares += delta
        silo.collateral += signed


def _apply_param(state: SiloState, event: ParamChange) -> None:
    name, value = event.name, event.value
    state.seen = None
    if name in (*MARKET_WIDE, "created", "silo_revision"):
        state.params[name] = value
        return
    if event.asset is None or event.asset >= PROTECTED:
        raise RulesError(
            f"block {event.block_number}: '{name}' is a parameter of one of the two tokens",
            "name the token: its protected deposits have the parameters that it has",
        )
    n = event.asset % PROTECTED
    silo = state.silos[n]
    if name in (*TERMS, BORROW_ORACLE, "flashloan_fee"):
        state.terms[n][name] = value
    elif name in Gains._fields:
        state.curves[n][name] = value
    elif name in VARIABLES:  # of the accrual that follows; where interest is recomputed of the model's first one alone
        if not (state.recompute and silo.updated):
            setattr(silo, name, value)
    elif name in (ACCRUED, WITH_ACTION):
        _recorded(state, n, value, event)
    elif name == HERE:
        rate = state.rate(n, event.timestamp)
        if event.timestamp > silo.updated:
            silo.done = mul_div_down(silo.done, WAD + value, WAD)
        state.accrue(silo, event.timestamp, rate._replace(rcomp=value))
    elif name not in TOLD:
        raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", REBUILD)


def _recorded(state: SiloState, n: int, rcomp: int, event: ParamChange) -> None:
    silo, done = state.silos[n], state.silos[n].done
    if state.recompute:
        if event.name == ACCRUED:  # one with an action the action makes by itself, where it is not refused
            state.accrue(silo, event.timestamp, state.rate(n, event.timestamp))
        return
    silo.done = WAD
    left = rcomp if done == WAD else max(0, mul_div_down(WAD + rcomp, WAD, done) - WAD)
    state.accrue(silo, event.timestamp, Charge(left, silo.ri, silo.t_crit))


def accruals(state: SiloState, now: Clock, silos: Iterable[int] = SILOS) -> list[ParamChange]:
    """The changes that a call makes by accruing at ``now``, before its own."""
    return [
        parameter_change(now, HERE, state.rate(n, now.timestamp).rcomp, AssetId(n))
        for n in silos
        if now.timestamp > state.silos[n].updated
    ]


def indexes_after(state: SiloState, silos: Sequence[Silo], now: Clock) -> list[IndexUpdate]:
    """The indexes that a call leaves, with the totals after it; where interest is as recorded they are history's."""
    return [index_update(state, n, silos[n], unplaced(now)) for n in SILOS] if state.recompute else []


def index_update(state: SiloState, n: int, silo: Silo, place: dict[str, int]) -> IndexUpdate:
    """Share prices (ray; of a thousand shares of what is lent), and the yearly rates at this utilisation. For SQL and
    for screens: the rules use totals.
    """
    curve = state.curve(n)
    rate = 0 if curve is None else current_down(curve, silo.ri, silo.t_crit, silo.collateral, silo.debt, 0)
    used = utilisation_down(silo.collateral, silo.debt)
    kept = mul_div_down(mul_div_down(rate, used, WAD), max(0, WAD - state.fees), WAD)
    return IndexUpdate(
        **place,
        asset=AssetId(n),
        supply_index=silo.lent.assets_down(OFFSET * RAY),
        borrow_index=silo.owed.assets_down(RAY) if silo.debt and silo.debt_shares else RAY,
        supply_rate=kept * (RAY // WAD),
        borrow_rate=rate * (RAY // WAD),
    )


def accounts(state: SiloState) -> Sequence[AccountId]:
    """Accounts that hold anything, in id order."""
    return sorted(account for account, has in state.positions.items() if has.holds)
