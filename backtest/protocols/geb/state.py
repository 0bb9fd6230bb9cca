"""The book of SAFEs: what GEB makes of ``vaults.state``. Amounts wad, prices ray.

The coin's price is its redemption price as of the last update of the collateral's price, so that both prices are what
``OracleRelayer.updateCollateralPrice`` divided: the feed's value times 10^9, and the redemption price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from backtest.errors import PriceMissing, RulesError
from backtest.model import AccountId, AssetId, Clock, Market, Prices
from backtest.protocols.geb.params import DEFAULTS, SYSTEMS
from backtest.protocols.geb.rules import redemption_price_down, seizure
from backtest.protocols.interface import Figure, SafePrices
from backtest.protocols.vaults.rules import AuctionLimits, Seizure, carried_down
from backtest.protocols.vaults.state import COIN, COLLATERAL, VaultState, least_safe_value, view
from backtest.units import RAY

BASE_DECIMALS, PRICE_DECIMALS = 18, 27


@dataclass
class SafeState(VaultState):
    """SAFEs of one collateral type."""

    DEFAULTS: ClassVar[Mapping[str, int]] = DEFAULTS
    UNIT: ClassVar[int] = RAY

    @override
    def spot(self, prices: Prices, ilk: int = 0) -> int:
        """SAFEEngine ``liquidationPrice``."""
        return self._carried(prices, self.param("liquidation_ratio"))

    @override
    def cap(self, prices: Prices, ilk: int = 0) -> int:
        """SAFEEngine ``safetyPrice``; that of the liquidation ratio where no other is known."""
        return self._carried(prices, self.params.get("safety_ratio") or self.param("liquidation_ratio"))

    def _carried(self, prices: Prices, ratio: int) -> int:
        price = prices.oracle.get(COLLATERAL)
        if price is None:
            raise PriceMissing("the collateral has no price here", "import or fetch its prices")
        return carried_down(price, self.par(prices), ratio)

    @override
    def par(self, prices: Prices) -> int:
        """The redemption price."""
        price = prices.oracle.get(COIN)
        if not price:
            raise PriceMissing("the system coin has no redemption price here", "import or fetch its prices")
        return price

    @override
    def peg(self) -> float:
        """The coin's price is the redemption price itself."""
        return 1.0

    @override
    def limits(self, ilk: int = 0) -> AuctionLimits:
        """LiquidationEngine: quantity, and what its limit leaves beside ``currentOnAuctionSystemCoins``."""
        box = self.params.get("box")
        return AuctionLimits(
            self.param("liquidation_penalty"),
            self.param("dust") * RAY,
            0,
            self.param("dunk") * RAY,
            None if box is None else box * RAY - self.params.get("raising", 0),
        )

    @override
    def seizure(self, account: AccountId, limits: AuctionLimits) -> Seizure | str:
        """See ``rules.seizure``."""
        return seizure(self.ink.get(account, 0), self.art[account], self.rate(), limits)

    @override
    def contracts(self, ilk: int = 0) -> str:
        """The auction house, with its lineage."""
        return SYSTEMS.get(self.system(), str(self.system()))

    def redemption_price(self, prices: Prices, now: Clock) -> int:
        """Ray: what OracleRelayer ``redemptionPrice`` returns; where no log told it, what health goes by."""
        price, time = self.params.get("redemption_price"), self.params.get("redemption_time")
        if price is None or time is None:
            return self.par(prices)
        return redemption_price_down(price, self.param("redemption_rate"), max(0, now.timestamp - time))


def open_state(market: Market) -> SafeState:
    """The empty book. RulesError where the market is not a collateral and a coin, with prices as rays."""
    decimals = [asset.decimals for asset in market.assets]
    if decimals != [18, 18] or (market.base_decimals, market.price_decimals) != (BASE_DECIMALS, PRICE_DECIMALS):
        raise RulesError(
            f"market '{market.name}' is no GEB collateral type: two assets of 18 decimals each, base_decimals = 18 and"
            " price_decimals = 27 are needed",
            "correct its description and rebuild it with backtest reconstruct",
        )
    return SafeState()


def figures(state: SafeState, account: AccountId, prices: Prices, now: Clock) -> list[Figure]:
    """SAFEEngine ``safes`` and ``collateralTypes``, OracleRelayer ``redemptionPrice``, what the SAFE owes, and its
    health as ``view`` says it.
    """
    return [
        Figure("lockedCollateral", state.ink.get(account, 0), "wad"),
        Figure("generatedDebt", state.art.get(account, 0), "wad"),
        Figure("accumulatedRate", state.rate(), "ray"),
        Figure("liquidationPrice", state.spot(prices), "ray"),
        Figure("safetyPrice", state.cap(prices), "ray"),
        Figure("redemptionPrice", state.redemption_price(prices, now), "ray"),
        Figure("debt", state.debt(account), "rad"),
        Figure("health_factor", view(state, account, prices).health, "wad"),
    ]


def safe_prices(state: SafeState, account: AccountId, asset: AssetId, prices: Prices) -> SafePrices | None:
    """Of the collateral of a SAFE with debt, at this redemption price."""
    least = least_safe_value(state, account, asset, state.par(prices)) if COIN in prices.oracle else None
    return None if least is None else SafePrices(least_up=least)
