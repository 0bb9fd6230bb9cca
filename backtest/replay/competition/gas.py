"""What gas costs: a base fee at every moment, and calls in base units."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from backtest.errors import PriceMissing, ScenarioError, did_you_mean
from backtest.model import Asset, Market
from backtest.protocols.book import Book
from backtest.protocols.interface import State
from backtest.scenario import Demand, Gas, seconds_of
from backtest.units import BPS, WAD

FLASH_LOAN_GAS = 90_000
"""Gas of borrowing and repaying within one call, beside the liquidation's own: an estimate, see ``assumption``."""
SALE_GAS = 130_000
"""Gas of selling what was seized in a pool: an estimate, see ``assumption``."""
BID_GAS = 95_000
"""Gas of a bid in an auction that is not the protocol's own: an estimate."""
BLOCK_SECONDS = 12
NEVER = 2**63
_NATIVE = ("WETH", "ETH")


@dataclass(frozen=True, slots=True)
class BaseFees:
    """Base fees (wei) of a history's blocks, by time (seconds); a fee holds until the next known block."""

    times: Sequence[int] = ()
    fees: Sequence[int] = ()

    def at(self, timestamp: int) -> int | None:
        """The fee then; None before the first known one."""
        place = bisect_right(self.times, timestamp) - 1
        return self.fees[place] if place >= 0 else None


NO_FEES = BaseFees()


def next_base_fee_down(base_fee: int, used: int) -> int:
    """Of the block after one that used ``used`` basis points of its target (EIP-1559: an eighth at most, up by 1 wei at
    least).
    """
    if used > BPS:
        return base_fee + max(base_fee * (used - BPS) // BPS // 8, 1)
    return base_fee - base_fee * (BPS - used) // BPS // 8


def path_of(start: int, first: int, demand: Iterable[Demand], block_seconds: int) -> BaseFees:
    """Base fees of a demand, from time ``start`` (seconds) on."""
    times, fees = [start], [first]
    for stretch in demand:
        for _ in range(stretch.blocks):
            times.append(times[-1] + block_seconds)
            fees.append(next_base_fee_down(fees[-1], stretch.used))
    return BaseFees(times, fees)


@dataclass(slots=True)
class GasPrice:
    """Gas as a scenario says. ScenarioError where history lacks what that needs, or the market has no price of the
    native token.

    ``history`` are the blocks' own base fees; ``start`` is the first moment at which the model acts (seconds).
    """

    terms: Gas
    market: Market
    history: BaseFees
    start: int
    _native: Asset | None = field(init=False)
    _fees: BaseFees = field(init=False)
    _spike: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        terms = self.terms
        self._native = None if terms.native_price is not None else _native_of(terms, self.market)
        if terms.fee == "steps":
            self._fees = BaseFees(
                [seconds_of(s.from_time, "costs.gas.steps") for s in terms.steps], [s.base_fee for s in terms.steps]
            )
        elif terms.base_fee is not None:
            demand = terms.demand if terms.fee == "eip-1559" else ()
            self._fees = path_of(self.start if demand else 0, terms.base_fee, demand, BLOCK_SECONDS)
        else:
            self._fees = self.history
        if self._fees.at(self.start) is None:
            where = f"market '{self.market.name}' has no base fee at the window's start"
            raise ScenarioError(
                f"costs.gas: {where}", "use fee = 'constant' or 'steps' (--gas constant:30), or fetch the block headers"
            )
        since = seconds_of(terms.spike_from, "costs.gas.spike_from") if terms.spike_from else 0
        until = seconds_of(terms.spike_until, "costs.gas.spike_until") if terms.spike_until else NEVER
        self._spike = since, until

    @property
    def moves(self) -> bool:
        """Whether the base fee changes with time."""
        return self.terms.fee != "constant" or (
            self.terms.spike > 1 and bool(self.terms.spike_from or self.terms.spike_until)
        )

    def base_fee(self, timestamp: int) -> int:
        """Wei."""
        fee = self._fees.at(timestamp)
        if fee is None:
            fee = self._fees.fees[0]
        since, until = self._spike
        return fee * self.terms.spike if since <= timestamp < until else fee

    def next_change(self, now: int) -> int:
        """The first time after ``now`` from which the base fee may be another."""
        place = bisect_right(self._fees.times, now)
        times = (*self._fees.times[place : place + 1], *(time for time in self._spike if time > now))
        return min(times, default=NEVER)

    def cost_up(self, book: Book[State], units: int) -> int:
        """Base units of so much gas now, with the priority fee. PriceMissing where the native token has no price
        now.
        """
        wei = units * (self.base_fee(book.now.timestamp) + self.terms.tip)
        if self._native is None:
            assert self.terms.native_price is not None
            return -(-wei * self.terms.native_price // WAD)
        if self._native.id not in book.oracle:
            raise PriceMissing(
                f"gas: {self._native.symbol} has no price at time {book.now.timestamp}", "give costs.gas.native_price"
            )
        return book.cost_up(self._native.id, wei)

    def sentence(self) -> str:
        """What the cost rests on."""
        terms = self.terms
        lowest, highest = min(self._fees.fees) / 1e9, max(self._fees.fees) / 1e9
        source = {
            "historical": f"history's base fee ({lowest:g} to {highest:g} gwei in the data)",
            "constant": f"a base fee of {(terms.base_fee or 0) / 1e9:g} gwei",
            "steps": "a stated path of base fees",
            "eip-1559": "a base fee moved by stated demand (EIP-1559)",
        }[terms.fee]
        times = (
            ""
            if terms.spike == 1
            else f", {terms.spike} times as high{' for a time' if terms.spike_from or terms.spike_until else ''}"
        )
        tip = f" and a priority fee of {terms.tip / 1e9:g} gwei" if terms.tip else ""
        return (
            f"Gas: {source}{times}{tip}, valued at the oracle price of"
            f" {self._native.symbol if self._native else 'the native token as stated'}."
        )


def fees_within(terms: Gas | None, market: Market, history: BaseFees, start: int, end: int) -> tuple[int, ...]:
    """The base fees, wei, that hold one after the other from ``start`` to ``end`` (seconds); none where gas costs
    nothing.
    """
    if terms is None:
        return ()
    price, time, found = GasPrice(terms, market, history, start), start, []
    while time <= end:
        found.append(price.base_fee(time))
        time = price.next_change(time)
    return tuple(found)


def units_of(terms: Gas | None, of_calls: Mapping[str, int], step: str, *, flash: bool, sells: bool) -> int:
    """Gas of one call. ``of_calls``: the protocol's own, by step. A mechanism that is not the
    protocol's own settles for as much as that does. ScenarioError where neither says so."""
    if terms is None:
        return 0
    if terms.units is not None:
        return terms.units
    settles = of_calls.get("liquidate", of_calls.get("take"))  # of a mechanism that is not the protocol's own
    units = of_calls.get(step, BID_GAS if settles and step in ("tend", "dent") else settles)
    if units is None:
        raise ScenarioError(f"costs.gas: how much gas '{step}' uses is not known", "give costs.gas.units")
    return units + (FLASH_LOAN_GAS if flash else 0) + (SALE_GAS if sells else 0)


def _native_of(terms: Gas, market: Market) -> Asset:
    if terms.native is not None:
        found = market.asset_named(terms.native)
        if found is None:
            raise ScenarioError(
                f"costs.gas.native = '{terms.native}' is no asset of the market",
                did_you_mean(terms.native, market.names),
            )
    else:
        found = next((asset for name in _NATIVE if (asset := market.asset_named(name)) is not None), None)
    if found is None:
        raise ScenarioError(
            "costs.gas: the market has no WETH to value gas with", "give costs.gas.native or costs.gas.native_price"
        )
    if found.decimals != 18:
        raise ScenarioError(
            f"costs.gas.native = '{found.symbol}' has {found.decimals} decimals",
            "the native token has 18: give native_price",
        )
    return found
