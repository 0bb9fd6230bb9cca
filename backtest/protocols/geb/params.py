"""The parameters of one collateral type in canonical tables: names, units, and what holds where the history is silent.

Everything here is a plain integer of at most 38 digits. Amounts that the contracts keep as rad are coins (wad) here,
rounded down. Names are those of Maker where the contracts' meaning is the same.

==========================  =============  =============================================================================
name                        unit           contract
==========================  =============  =============================================================================
liquidation_ratio           ray            OracleRelayer ``liquidationCRatio`` (1.35e27 = 135 %)
safety_ratio                ray            OracleRelayer ``safetyCRatio``: what users' calls must leave
liquidation_penalty         wad            LiquidationEngine ``liquidationPenalty`` (1.1e18 = 10 %)
dust, line                  coins wad      SAFEEngine ``debtFloor``, ``debtCeiling``
dunk, box                   coins wad      LiquidationEngine ``liquidationQuantity``, ``onAuctionSystemCoinLimit``
duty, base                  ray a second   TaxCollector ``stabilityFee``, ``globalStabilityFee``
redemption_price            ray            OracleRelayer: as of ``redemption_time``
redemption_time             seconds        when that was
redemption_rate             ray a second   OracleRelayer ``redemptionRate``
liquidation_system          version        30, 31 and 32: which auction house sells (``SYSTEMS``)
min_discount, max_discount  wad            houses: ``minDiscount``, ``maxDiscount``; a fixed ``discount`` is both
discount_rate               ray a second   ``perSecondDiscountUpdateRate``
discount_seconds            seconds        ``maxDiscountUpdateRateTimeline``
minimum_bid                 coins wad      ``minimumBid``
lower_collateral_deviation  wad            ``lowerCollateralMedianDeviation``, and likewise the next ones
upper_collateral_deviation  wad
lower_coin_deviation        wad            ``lowerSystemCoinMedianDeviation``
upper_coin_deviation        wad
min_coin_deviation          wad            ``minSystemCoinMedianDeviation``
coin_oracle                 0 or 1         whether the house has a ``systemCoinOracle``
raised, raised_freely       coins rad      replays only: by how much ``raising`` changes; freely: it bounds nothing now
raising                     coins rad      replays only: LiquidationEngine ``currentOnAuctionSystemCoins``
==========================  =============  =============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping

from backtest.units import RAY, WAD

ENGLISH, FIXED, INCREASING, OPEN_DOLLAR = 29, 30, 31, 32
SYSTEMS: Mapping[int, str] = {
    ENGLISH: "GEB EnglishCollateralAuctionHouse",
    FIXED: "GEB FixedDiscountCollateralAuctionHouse",
    INCREASING: "GEB IncreasingDiscountCollateralAuctionHouse",
    OPEN_DOLLAR: "Open Dollar CollateralAuctionHouse",
}
SOLD: frozenset[int] = frozenset({FIXED, INCREASING, OPEN_DOLLAR})
"""Those whose auctions are modelled."""

RAY_BPS, WAD_BPS = RAY // 10_000, WAD // 10_000

UNITS: Mapping[str, int] = {
    "liquidation_ratio": RAY_BPS,
    "safety_ratio": RAY_BPS,
    "liquidation_penalty": WAD_BPS,
    "liquidation_system": 1,
    "dust": WAD,
    "line": WAD,
    "dunk": WAD,
    "box": WAD,
    "min_discount": WAD_BPS,
    "max_discount": WAD_BPS,
    "discount_seconds": 1,
    "minimum_bid": WAD,
}
"""What a scenario may override: basis points for ratios, else whole coins, seconds or a code. The value here is the
stored units of one of those.
"""

SAID = (
    "One for the whole collateral type: a ratio of 135 % is 13500, a penalty of 10 % 11000, a discount of 5 % 9500"
    " (`min_discount` is what an auction starts with, `max_discount` what it ends with); tokens are system coins;"
    " `dunk` is the liquidation quantity, `box` the limit on all auctions, `dust` the debt floor;"
    " `liquidation_system` is 30 (fixed discount), 31 (increasing discount) or 32 (Open Dollar)."
)

DEFAULTS: Mapping[str, int] = {
    "dust": 0,
    "min_discount": 95 * WAD // 100,
    "max_discount": 95 * WAD // 100,
    "discount_rate": RAY,
    "discount_seconds": 3600,
    "minimum_bid": 5 * WAD,
    "lower_collateral_deviation": 90 * WAD // 100,
    "upper_collateral_deviation": 95 * WAD // 100,
    "lower_coin_deviation": WAD,
    "upper_coin_deviation": WAD,
    "min_coin_deviation": 999 * WAD // 1000,
    "coin_oracle": 0,
    "redemption_rate": RAY,
    "liquidation_system": INCREASING,
}
"""What a replay takes where the history does not say: the values that the GEB auction houses and the OracleRelayer are
deployed with (``CollateralAuctionHouse.sol``, ``OracleRelayer.sol``).
"""

ASSUMPTIONS: tuple[str, ...] = (
    (
        "GEB: the redemption price that health goes by steps where history's collateral price was updated, as the"
        " contracts' own liquidation price does; auctions go by it to the second."
    ),
    "GEB: a change of a ratio holds at once; the OracleRelayer takes it up at its next update of the price.",
    (
        "GEB: the market's price of the collateral stands for the median behind the oracle, and of the coin for its"
        " oracle where the auction house has one; an auction lets neither deviate further than its parameters say."
    ),
    "GEB: no saviour steps in beyond what history's own logs show.",
    "GEB: collateral that an auction gives back goes to the owner outside the SAFE, as in the auction houses.",
)


def fault(values: Mapping[str, int]) -> str | None:
    """Why the contracts' own checks would refuse these values (stored units); None: they pass.

    geb ``OracleRelayer.sol`` ``modifyParameters`` ("safety-lower-than-liquidation-cratio"),
    ``CollateralAuctionHouse.sol`` ``modifyParameters`` ("invalid-min-discount", "invalid-max-discount").
    """
    ratio, safety = values.get("liquidation_ratio"), values.get("safety_ratio")
    if ratio is not None and safety is not None and safety < ratio:
        return "a safety ratio below the liquidation ratio"
    least, most = (values.get(name, DEFAULTS[name]) for name in ("min_discount", "max_discount"))
    if not 0 < most <= least <= WAD:
        return "discounts that are not 0 < max_discount <= min_discount <= 100 %: they are what is paid, 9500 for 5 %"
    if values.get("liquidation_system", INCREASING) not in SOLD:
        return "no such auction house: 30, 31 or 32"
    return None
