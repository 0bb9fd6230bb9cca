"""The book of Maker vaults: what dss makes of ``vaults.state``. All amounts are wad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from backtest.auctions.dutch import Bounds, Curve
from backtest.errors import PriceMissing, RulesError
from backtest.model import AccountId, AssetId, Market, Prices
from backtest.protocols.interface import Figure, SafePrices
from backtest.protocols.maker.params import DEFAULTS, DOG_2_0
from backtest.protocols.maker.rules import CONTRACTS, seizure, spot_down
from backtest.protocols.vaults.rules import AuctionLimits, Seizure
from backtest.protocols.vaults.state import WHOLE, VaultState, collateral_of, least_safe_value, view
from backtest.units import RAY


@dataclass
class MakerState(VaultState):
    """Vaults of Vat and Spotter. DAI counts as one unit of the base currency, times par; prices are wad."""

    DEFAULTS: ClassVar[Mapping[str, int]] = DEFAULTS

    @override
    def spot(self, prices: Prices, ilk: int = 0) -> int:
        """Ray; PriceMissing without a price."""
        price = prices.oracle.get(collateral_of(ilk))
        if price is None:
            raise PriceMissing("the collateral has no price here", "import or fetch its prices")
        return spot_down(price, self.param("par"), self.param("liquidation_ratio", ilk))

    @override
    def par(self, prices: Prices) -> int:
        """Spotter ``par``: what counts as one DAI."""
        return self.param("par")

    @override
    def peg(self) -> float:
        """DAI has a price of one."""
        return self.param("par") / RAY

    @override
    def limits(self, ilk: int = 0) -> AuctionLimits:
        """What bounds the next auction: Cat ``box`` less litter, or the lesser room of Dog ``hole`` and ``Hole``, of
        all ilks of the market together.
        """
        system = self.system(ilk)
        if self.ilks == 1:
            own = whole = self.params.get("raising", 0)
        else:
            own, whole = (self.dirt.get((place, system), 0) for place in (ilk, WHOLE))
        if system == DOG_2_0:
            holes = ((self.set(ilk, "hole"), own), (self.params.get("global_hole"), whole))
            room = min((hole * RAY - raising for hole, raising in holes if hole is not None), default=None)
        else:
            room = self.param("box") * RAY - whole
        return AuctionLimits(
            self.param("liquidation_penalty", ilk),
            self.param("dust", ilk) * RAY,
            self.param("lump", ilk),
            self.param("dunk", ilk) * RAY,
            room,
        )

    @override
    def seizure(self, account: AccountId, limits: AuctionLimits) -> Seizure | str:
        """See ``rules.seizure``."""
        ilk = self.ilk_of(account)
        return seizure(self.system(ilk), self.ink.get(account, 0), self.art[account], self.rate(ilk), limits)

    @override
    def contracts(self, ilk: int = 0) -> str:
        """Cat or Dog, with its version."""
        return CONTRACTS.get(self.system(ilk), str(self.system(ilk)))

    def curve(self, ilk: int = 0) -> Curve:
        """How prices of an ilk's auctions fall now: all open ones ask the same Abacus."""
        return Curve(
            self.param("calc", ilk), self.param("calc_tau", ilk), self.param("step", ilk), self.param("cut", ilk)
        )

    def bounds(self, ilk: int = 0) -> Bounds:
        """When auctions must be reset."""
        return Bounds(self.param("tail", ilk), self.param("cusp", ilk))


def open_state(market: Market) -> MakerState:
    """The empty book. RulesError where the market is not pairs of a collateral and the DAI owed for it."""
    decimals = [asset.decimals for asset in market.assets]
    if set(decimals) != {18} or len(decimals) % 2 or market.base_decimals != 18:
        raise RulesError(
            f"market '{market.name}' is no Maker ilk: two assets of 18 decimals each and base_decimals = 18 are needed",
            "rebuild it with backtest reconstruct",
        )
    return MakerState(ilks=len(decimals) // 2)


def figures(state: MakerState, account: AccountId, prices: Prices) -> list[Figure]:
    """Vat ``urns`` (ink, art) and ``ilks`` (rate, spot), what the vault owes, and its health as ``view`` says it."""
    ilk = state.ilk_of(account)
    return [
        Figure("ink", state.ink.get(account, 0), "wad"),
        Figure("art", state.art.get(account, 0), "wad"),
        Figure("rate", state.rate(ilk), "ray"),
        Figure("spot", state.spot(prices, ilk), "ray"),
        Figure("debt", state.debt(account), "rad"),
        Figure("health_factor", view(state, account, prices).health, "wad"),
    ]


def safe_prices(state: MakerState, account: AccountId, asset: AssetId) -> SafePrices | None:
    """Of the collateral of a vault with debt: from there on neither "not-safe" (dss ``src/vat.sol`` ``frob``: tab <=
    ink * spot) nor a bite or bark can be.
    """
    least = least_safe_value(state, account, asset, state.param("par"))
    return None if least is None else SafePrices(least_up=-(-least // 10**9))
