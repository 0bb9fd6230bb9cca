"""What a liquidation costs and leaves: its bonus from the account to the searcher's rent, in base units, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from backtest.errors import ScenarioError, did_you_mean
from backtest.model import AssetId, Market
from backtest.protocols.book import Book
from backtest.protocols.interface import LendingProtocol, State
from backtest.protocols.mechanism import Opportunity
from backtest.replay.competition.gas import FLASH_LOAN_GAS, NEVER, NO_FEES, SALE_GAS, BaseFees, GasPrice, units_of
from backtest.replay.competition.slippage import loss_up
from backtest.replay.record import Waterfall
from backtest.replay.response import Seat
from backtest.scenario import Costs, Slippage
from backtest.units import BPS


@dataclass(slots=True)
class CostModel:
    """A scenario's costs in one market. ``fixed`` base units come on top of each call.

    Attributes:
        free: nothing costs anything but what is ``fixed``.
        sales: quotes of sales that had slippage; of them ``beyond`` were larger than what was measured, ``drained``
            than what a pool takes.
        poolless: assets that were to be sold into fetched pools, and none was there: sold at the market price.
    """

    terms: Costs
    market: Market
    gas_units: dict[str, int]
    gas: GasPrice | None = None
    fixed: int = 0
    sales: int = 0
    beyond: int = 0
    drained: int = 0
    poolless: set[AssetId] = field(default_factory=set)
    seat: Seat | None = None
    free: bool = field(init=False)
    _slippage: dict[AssetId | None, Slippage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.free = self.terms == Costs()

    @classmethod
    def of(
        cls,
        terms: Costs,
        market: Market,
        protocol: LendingProtocol[State],
        *,
        fees: BaseFees = NO_FEES,
        start: int = 0,
        fixed: int = 0,
    ) -> CostModel:
        """For a market of a protocol; ``fees`` and ``start`` as in ``GasPrice``. ScenarioError where the scenario does
        not fit the market.
        """
        gas = None if terms.gas is None else GasPrice(terms.gas, market, fees, start)
        model = cls(terms, market, dict(protocol.gas_units), gas, fixed)
        for entry in terms.slippage:
            asset = market.asset_named(entry.asset) if entry.asset else None
            if entry.asset and asset is None:
                raise ScenarioError(
                    f"costs.slippage: '{entry.asset}' is no asset of the market",
                    did_you_mean(entry.asset, market.names),
                )
            if (asset.id if asset else None) in model._slippage:
                raise ScenarioError(f"costs.slippage: two entries of {entry.asset}", "give one for each asset")
            model._slippage[asset.id if asset else None] = entry
        return model

    @property
    def counts(self) -> bool:
        """Quotes of sales are counted, or depend on what was sold before: asking twice is not asking once."""
        return bool(self._slippage) or self.seat is not None

    def answered_by(self, seat: Seat | None) -> None:
        """Sales meet a market that remembers those before; of assets whose price answers, in the place of slippage."""
        self.seat = seat if seat is not None and seat.assets else None
        self.free = self.free and self.seat is None

    @property
    def moves(self) -> bool:
        """Costs change with time alone."""
        return self.seat is not None or (self.gas is not None and self.gas.moves)

    def call_up(self, book: Book[State], step: str, *, flash: bool, sells: bool) -> int:
        """What one call costs now, before anything is paid to be included."""
        if self.gas is None:
            return self.fixed
        return self.fixed + self.gas.cost_up(
            book, units_of(self.terms.gas, self.gas_units, step, flash=flash, sells=sells)
        )

    def bidding_up(self, book: Book[State]) -> int:
        """What a bid and the call that ends its auction cost now."""
        return self.call_up(book, "tend", flash=False, sells=False) + self.call_up(
            book, "deal", flash=False, sells=True
        )

    def changes_after(self, now: int) -> int:
        """The first time after ``now`` (seconds) from which gas may cost something else."""
        return NEVER if self.gas is None else self.gas.next_change(now)

    def funding_up(self, book: Book[State], opportunity: Opportunity) -> int:
        """Fee of a flash loan of what is repaid."""
        if not self.terms.flash_fee or opportunity.opens:
            return 0
        fill = opportunity.fill
        return -(-book.cost_up(fill.order.pair.debt_asset, fill.paid) * self.terms.flash_fee // BPS)

    def charged(
        self, book: Book[State], opportunity: Opportunity, *, flash: bool = False, sells: bool = True
    ) -> Waterfall:
        """Where the bonus goes if somebody takes it now and bids nothing. ``sells``: what is seized is sold at once."""
        fill = opportunity.fill
        debt, collateral = fill.order.pair.debt_asset, fill.order.pair.collateral_asset
        moves = not opportunity.opens and bool(fill.repaid or fill.seized)
        gas = self.call_up(
            book,
            opportunity.step,
            flash=flash and moves and not fill.repaid_by_others,
            sells=sells and bool(fill.seized),
        )
        if not moves:
            return Waterfall(reward=opportunity.profit, gas=gas, rent=opportunity.profit - gas)
        cost, kept = book.cost_up(debt, fill.repaid), book.proceeds_down(collateral, fill.seized)
        value = book.proceeds_down(collateral, fill.seized + fill.protocol_fee)
        bonus = book.value_down(collateral, fill.seized + fill.protocol_fee) - book.value_up(debt, fill.repaid)
        reward = opportunity.profit - (kept - cost)
        slippage = self.slippage_up(book, collateral, fill.seized, kept) if sells else 0
        if self.seat is not None:
            slippage += self.seat.premium_up(debt, fill.paid, book.cost_up(debt, fill.paid), book.now)
        sandwich = -(-kept * self.terms.sandwich // BPS) if sells else 0
        funding = self.funding_up(book, opportunity) if flash else 0
        return Waterfall(
            bonus=bonus,
            basis=value - cost - bonus,
            reward=reward,
            protocol_fee=value - kept,
            slippage=slippage,
            sandwich=sandwich,
            gas=gas,
            funding=funding,
            rent=kept - slippage - sandwich - cost + reward - gas - funding,
        )

    def slippage_of(self, asset: AssetId) -> Slippage | None:
        """What the scenario says of sales of an asset."""
        return self._slippage.get(asset) or self._slippage.get(None)

    def slippage_up(self, book: Book[State], asset: AssetId, amount: int, value: int) -> int:
        """What selling ``amount`` native units brings less than their ``value`` at the market price."""
        if self.seat is not None and (met := self.seat.loss_up(asset, amount, value, book.now)) is not None:
            return met
        terms = self.slippage_of(asset)
        if terms is None or terms.model == "none":
            return 0
        self.sales += 1
        if terms.model != "pools":
            loss, beyond = loss_up(value, terms)
            self.beyond += beyond
            return loss
        sale = book.sale_down(asset, amount)
        if sale is None:
            self.poolless.add(asset)
            return 0
        self.drained += sale.sold < amount
        return value - sale.proceeds

    def sentences(self) -> Iterator[str]:
        """What costs rest on."""
        terms = self.terms
        if self.gas is None:
            yield "Gas costs nothing." if not self.fixed else "Gas: one fixed amount for each call."
        else:
            yield self.gas.sentence()
            if self.gas.terms.units is None:
                calls = ", ".join(f"{step} {units:,}" for step, units in self.gas_units.items())
                extra = f"{FLASH_LOAN_GAS:,} for a flash loan and {SALE_GAS:,} for a sale on top"
                yield f"Gas of one call: {calls}; {extra}: typical figures, not those of any one transaction."
        if not terms.slippage:
            which = "Collateral whose price does not answer" if self.seat is not None else "Collateral"
            yield f"{which} is sold at the market price: no slippage."
        for entry in terms.slippage:
            of = entry.asset or "every other asset"
            measured = f", measured {entry.measured}" if entry.measured else ""
            left = f", with {entry.depth / 100:g} % of that depth" if entry.depth != BPS else ""
            yield (
                f"Slippage of {of}: {entry.model}{measured}{left}; each sale meets the market as if no other had been"
                " made."
            )
        if self.beyond:
            yield (
                f"{self.beyond:,} of {self.sales:,} quotes of sales were larger than what was measured: extrapolated by"
                " the square root of size."
            )
        if self.drained:
            yield (
                f"{self.drained:,} of {self.sales:,} quotes of sales found too little in the pool: what it did not take"
                " brings nothing."
            )
        if self.poolless:
            names = ", ".join(self.market.label(asset) for asset in sorted(self.poolless))
            yield f"No pool was fetched that prices {names}: sold at the market price, without slippage."
        if terms.flash_fee:
            yield f"Flash loans cost {terms.flash_fee / 100:g} % of the debt repaid."
        if terms.sandwich:
            yield f"Sandwiching takes {terms.sandwich / 100:g} % of each sale."


def with_bid(
    paid: Waterfall, *, bid: int = 0, private: int = 0, protocol_share: int = 0, oracle_share: int = 0, funding: int = 0
) -> Waterfall:
    """A waterfall after what the searcher pays to be the one: its rent shrinks by as much."""
    rent = paid.rent - bid - private - protocol_share - oracle_share - funding
    return replace(
        paid,
        bid=paid.bid + bid,
        private=paid.private + private,
        protocol_share=paid.protocol_share + protocol_share,
        oracle_share=paid.oracle_share + oracle_share,
        funding=paid.funding + funding,
        rent=rent,
    )


def before_bids(paid: Waterfall) -> int:
    """What was left before anything was paid to be the one."""
    return paid.rent + paid.bid + paid.private + paid.protocol_share + paid.oracle_share
