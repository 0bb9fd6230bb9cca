"""One small market of every protocol as a history: three borrowers with an ether of 2,000 $ each, whose price falls at
1,200 s; a fourth acts before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from backtest.model import Asset, AssetId, Market
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.maker.params import DOG_2_0
from backtest.protocols.registry import protocol_named
from backtest.replay.timeline import Timeline
from backtest.units import RAY, WAD
from tests.protocols.compound_v3 import hand as comet
from tests.protocols.euler_v2 import hand as euler
from tests.protocols.gearbox_v3 import hand as gearbox
from tests.protocols.liquity_v1 import hand as liquity
from tests.protocols.liquity_v2 import hand as branch
from tests.protocols.llamma import hand as llamma
from tests.sketches.history import History
from tests.support import vault_history

OWED = (1_000, 1_200, 1_450)
FALL, START, END = 100, 1_200, 41_200
NAMES = tuple(f"0x{number + 16:040x}" for number in range(8))
LENDER, LATER, BOTH = 5, 3, 4
"""Who lends, who acts before the fall, and who has two collaterals where an account can."""
AFTER = 1_000_000
"""Seconds that clocks of LLAMMA are ahead: its oracle is held back within two minutes of its first second."""


@dataclass(frozen=True, slots=True)
class Fallen:
    """A history with its protocol; ``asset`` is the collateral whose price falls, ``debt`` what is owed, ``usd`` base
    units of a dollar.
    """

    h: History
    protocol: LendingProtocol[Any]
    asset: AssetId
    debt: AssetId
    usd: int
    after: int = 0
    """Seconds that its clock is ahead."""

    def timeline(self) -> Timeline:
        """Of the history, prices as exact as the market's."""
        of = self.h.market
        digits = 0 if of.price_decimals is None else of.price_decimals - of.base_decimals
        return Timeline.of(self.h.tables(), price_digits=digits)


def _market(protocol: str, *, usd_first: bool = False, **more: Any) -> Market:
    ether, usd = ("0x" + "e1" * 20, "ETH", 18), ("0x" + "d1" * 20, "USDC", 6)
    assets = (usd, ether) if usd_first else (ether, usd)
    listed = tuple(Asset(AssetId(place), *each) for place, each in enumerate(assets))
    return Market(name="m", protocol=protocol, chain_id=1, assets=listed, accounts=NAMES, **more)


def _moved(h: History, who: int, asset: int, side: str, delta: int, action: str, amount: int | None = None) -> None:
    h.position(who, asset, side, delta, action)
    if amount is not None:
        h.rows["position_events"][-1]["amount"] = amount


def _wavered(h: History, asset: int, price: int, after: int = 0) -> None:
    """The price falls by 2 % and comes back; then it is block 50."""
    h.block(44, after + 528).price(asset, price * 98 // 100).block(46, after + 552).price(asset, price)
    h.block(50, after + 600)


def _ended(h: History, asset: int, debt: int, price: int, usd: int) -> History:
    """The price falls, and much later the other's is said again."""
    h.block(FALL, START).price(asset, price * usd)
    return h.block(4_000, END).price(debt, usd)


def aave(protocol: str, price: int, revision: int, usd: int) -> Fallen:
    """Threshold 80 %, bonus 5 %, close factor one half."""
    h = History(_market(protocol, base_decimals=18 if usd == WAD else 8))
    h.param("pool_revision", revision)
    for asset in (0, 1):
        terms = {"ltv": 7_500, "liquidation_threshold": 8_000, "liquidation_bonus": 10_500, "borrowing_enabled": 1}
        for name, value in ({**terms, "active": 1} if protocol == "aave-v2" else terms).items():
            h.param(name, value, asset)
        h.index(asset)
    h.price(0, 2_000 * usd).price(1, usd)
    _moved(h, LENDER, 1, "collateral", 10**12, "supply")
    for who, owed in enumerate(OWED):
        _moved(h, who, 0, "collateral", 10**18, "supply")
        h.setting(who, "collateral_enabled", 1, 0)
        _moved(h, who, 1, "debt", owed * 10**6, "borrow")
    _moved(h, BOTH, 0, "collateral", 10**18, "supply")
    _moved(h, BOTH, 1, "collateral", 500 * 10**6, "supply")
    for asset in (0, 1):
        h.setting(BOTH, "collateral_enabled", 1, asset)
    _moved(h, BOTH, 1, "debt", 1_700 * 10**6, "borrow")
    _wavered(h, 0, 2_000 * usd)
    _moved(h, LATER, 0, "collateral", 10**18, "supply")
    h.setting(LATER, "collateral_enabled", 1, 0)
    _moved(h, LATER, 1, "debt", 500 * 10**6, "borrow")
    return Fallen(_ended(h, 0, 1, price, usd), protocol_named(protocol), AssetId(0), AssetId(1), usd)


def compound_v2(price: int) -> Fallen:
    """Collateral factor 75 %, incentive 8 %, close factor one half."""
    h = History(_market("compound-v2", base_decimals=18, price_decimals=36))
    h.param("close_factor", WAD // 2)
    for asset, factor in ((0, 75), (1, 80)):
        terms = {"liquidation_threshold": factor, "liquidation_bonus": 108}
        h.param("created", 1, asset)
        for name, value in terms.items():
            h.param(name, value * WAD // 100, asset)
    h.price(0, 2_000 * WAD).price(1, WAD)
    _moved(h, LENDER, 1, "collateral", 500_000 * 10**8, "supply", 10_000 * 10**6)
    for who, owed in (*enumerate(OWED), (LATER, 500)):
        if who == LATER:
            _wavered(h, 0, 2_000 * WAD)
        _moved(h, who, 0, "collateral", 50 * 10**8, "supply", 10**18)
        for asset in (0, 1):
            h.setting(who, "collateral_enabled", 1, asset, "enter")
        _moved(h, who, 1, "debt", owed * 10**6, "borrow")
    return Fallen(_ended(h, 0, 1, price, WAD), protocol_named("compound-v2"), AssetId(0), AssetId(1), WAD)


def compound_v3(price: int) -> Fallen:
    """A Comet; see ``tests.protocols.compound_v3.hand``."""
    h = History(replace(comet.MARKET, accounts=NAMES))
    for name, value in comet.PARAMS.items():
        h.param(name, value)
    for asset, factors in comet.OF_ASSETS.items():
        for name, value in zip(("ltv", "liquidation_threshold", "liquidation_factor"), factors, strict=False):
            h.param(name, value * WAD // 1_000, asset)
        h.param("supply_cap", factors[3], asset)
    h.param("created", h.now)
    h.price(0, comet.USD).price(comet.WETH, 2_000 * comet.USD).price(comet.WBTC, 30_000 * comet.USD)
    _moved(h, LENDER, 0, "collateral", 10_000 * comet.USDC, "supply")
    _moved(h, BOTH, comet.WETH, "collateral", comet.ETH, "supply")
    _moved(h, BOTH, comet.WBTC, "collateral", comet.BTC // 20, "supply")
    _moved(h, BOTH, 0, "debt", 2_300 * comet.USDC, "borrow")
    for who, owed in (*enumerate(OWED), (LATER, 500)):
        if who == LATER:
            _wavered(h, comet.WETH, 2_000 * comet.USD)
        _moved(h, who, comet.WETH, "collateral", comet.ETH, "supply")
        _moved(h, who, 0, "debt", owed * comet.USDC, "borrow")
    made = _ended(h, comet.WETH, 0, price, comet.USD)
    return Fallen(made, protocol_named("compound-v3"), comet.WETH, AssetId(0), comet.USD)


def euler_v2(price: int) -> Fallen:
    """A vault; see ``tests.protocols.euler_v2.hand``. Every account is an owner's first."""
    h = History(replace(euler.MARKET, accounts=tuple(f"0x{number + 16:038x}00" for number in range(8))))
    for name, value in (("created", h.now), ("max_liquidation_discount", 1_500)):
        h.param(name, value)
    for asset, (ltv, threshold) in euler.OF_ASSETS.items():
        unit = 10 ** euler.MARKET.assets[asset].decimals
        own = {"vault_cash": 1_000 * unit, "vault_debt": 0, "vault_shares": 1_000 * unit, "vault_rate": 0}
        terms = {"ltv": ltv, "initial_threshold": 0, "ramp_duration": 0, "ramp_end": h.now}
        for name, value in {**own, **terms, "liquidation_threshold": threshold}.items():
            h.param(name, value, asset)
    h.price(0, euler.USD).price(euler.WETH, 2_000 * euler.USD).price(euler.WBTC, 30_000 * euler.USD)
    _moved(h, LENDER, 0, "collateral", 10_000 * euler.USDC, "supply", 10_000 * euler.USDC)
    for who, owed in (*enumerate(OWED), (LATER, 500)):
        if who == LATER:
            _wavered(h, euler.WETH, 2_000 * euler.USD)
        h.setting(who, "collateral_enabled", 1, euler.WETH, "enable")
        _moved(h, who, euler.WETH, "collateral", euler.ETH, "supply", euler.ETH)
        _moved(h, who, 0, "debt", owed * euler.USDC << 31, "borrow", owed * euler.USDC)
    made = _ended(h, euler.WETH, 0, price, euler.USD)
    return Fallen(made, protocol_named("euler-v2"), euler.WETH, AssetId(0), euler.USD)


def fraxlend(price: int) -> Fallen:
    """A pair of 75 %, clean fee 10 %, dirty fee 9 %; no interest."""
    h = History(_market("fraxlend", usd_first=True))
    curve = dict.fromkeys(("min_full_util_rate", "max_full_util_rate", "zero_util_rate"), 0)
    curve |= {"min_target_util": 75_000, "max_target_util": 85_000, "vertex_utilization": 80_000}
    for name, value in {"created": 1, **curve, "rate_half_life": 172_800, "vertex_rate_percent": WAD // 5}.items():
        h.param(name, value)
    terms = {"liquidation_threshold": 75_000, "liquidation_bonus": 110_000, "partial_liquidation_bonus": 109_000}
    for name, value in terms.items():
        h.param(name, value, 1)
    h.price(0, 10**8).price(1, 2_000 * 10**8)
    _moved(h, LENDER, 0, "collateral", 10**10, "supply", 10**10)
    for who, owed in (*enumerate(OWED), (LATER, 500)):
        if who == LATER:
            _wavered(h, 1, 2_000 * 10**8)
        _moved(h, who, 1, "collateral", 10**18, "supply", 10**18)
        _moved(h, who, 0, "debt", owed * 10**6, "borrow", owed * 10**6)
    return Fallen(_ended(h, 1, 0, price, 10**8), protocol_named("fraxlend"), AssetId(1), AssetId(0), 10**8)


def silo_v2(price: int) -> Fallen:
    """Two silos, ether with lt 80 %, a target of 70 % and a fee of 5 %; no interest. A base unit is one of USDC."""
    kept = tuple(Asset(AssetId(n + 2), f"0x{n + 48:040x}", name, 0) for n, name in enumerate(("nbETH", "nbUSDC")))
    two = _market("silo-v2", base_decimals=6, price_decimals=24)
    listed = (*two.assets, *(replace(each, decimals=own.decimals) for each, own in zip(kept, two.assets, strict=True)))
    h = History(replace(two, assets=listed))
    for name in ("created", "fractions"):
        h.param(name, 1)
    terms = {"ltv": 75, "liquidation_threshold": 80, "liquidation_target_ltv": 70, "liquidation_bonus": 105}
    curve = {"uopt": 80, "ucrit": 90, "ulow": 50} | dict.fromkeys(("ki", "kcrit", "klow", "klin", "beta"), 0)
    for asset in (0, 1):
        for name, value in {**terms, **curve, "accrued": 0}.items():
            h.param(name, value * WAD // 100, asset)
    for asset, usd in enumerate((2_000, 1, 2_000, 1)):
        h.price(asset, usd * 10**6)
    _moved(h, LENDER, 1, "collateral", 10**13, "supply", 10**10)
    for who, owed in (*enumerate(OWED), (LATER, 500)):
        if who == LATER:
            _wavered(h, 0, 2_000 * 10**6)
        _moved(h, who, 0, "collateral", 10**21, "supply", 10**18)
        _moved(h, who, 1, "debt", owed * 10**6, "borrow", owed * 10**6)
    return Fallen(_ended(h, 0, 1, price, 10**6), protocol_named("silo-v2"), AssetId(0), AssetId(1), 10**6)


def gearbox_v3(price: int) -> Fallen:
    """A credit manager; see ``tests.protocols.gearbox_v3.hand``. Each has a quota of 3,000."""
    h = History(replace(gearbox.MARKET, accounts=NAMES))
    for name, value in {**gearbox.TERMS, "quota_rates_updated": h.now}.items():
        h.param(name, value)
    terms = {"liquidation_threshold": 9_000, "quota_rate": 0, "quota_index": 1, "quota_limit": 10**15}
    for name, value in terms.items():
        h.param(name, value, gearbox.WETH)
    for name in ("others_expected", "others_available"):
        h.param(name, 10**12)
    h.price(0, gearbox.USD).price(gearbox.WETH, 2_000 * gearbox.USD)
    for who, owed in (*enumerate(OWED), (LATER, 500)):
        if who == LATER:
            _wavered(h, gearbox.WETH, 2_000 * gearbox.USD)
        _moved(h, who, 0, "debt", owed * gearbox.USDC, "borrow", owed * gearbox.USDC)
        h.setting(who, "debt_index", RAY, 0, "borrow")
        h.setting(who, "quota", 3_000 * gearbox.USDC, gearbox.WETH, "borrow")
        _moved(h, who, gearbox.WETH, "collateral", gearbox.ETH, "supply", gearbox.ETH)
    made = _ended(h, gearbox.WETH, 0, price, gearbox.USD)
    return Fallen(made, protocol_named("gearbox-v3"), gearbox.WETH, AssetId(0), gearbox.USD)


def liquity_v1(price: int) -> Fallen:
    """Minimum ratio 110 %, ten times as much of everything, and a stability pool of a million."""
    h = History(replace(liquity.MARKET, accounts=("pool", "default", *NAMES)))
    for name, value in {**liquity.TERMS, "fee_time": h.now}.items():
        h.param(name, value)
    h.price(0, 2_000 * WAD).price(1, WAD)
    _moved(h, 0, 1, "collateral", 1_000_000 * WAD, "offset")
    _moved(h, 2 + LENDER, 1, "collateral", 1_000_000 * WAD, "supply")
    for who, owed in (*enumerate(OWED), (LATER, 500)):
        if who == LATER:
            _wavered(h, 0, 2_000 * WAD)
        call = h.next_seq + 1
        with h.transaction():
            h.position(2 + who, 1, "debt", owed * 10 * WAD, "open", action_seq=call)
            h.position(2 + who, 0, "collateral", 10 * WAD, "open", action_seq=call)
    return Fallen(_ended(h, 0, 1, price, WAD), protocol_named("liquity-v1"), AssetId(0), AssetId(1), WAD)


def liquity_v2(price: int) -> Fallen:
    """Minimum ratio 110 %, ten times as much of everything, the least rate, and a stability pool of a million."""
    h = History(replace(branch.MARKET, accounts=("pool", "default", "active", "surplus", *NAMES)))
    for name, value in branch.TERMS.items():
        h.param(name, value)
    h.price(0, 2_000 * WAD).price(1, WAD)
    _moved(h, 0, 1, "collateral", 1_000_000 * WAD, "offset")
    _moved(h, 4 + LENDER, 1, "collateral", 1_000_000 * WAD, "supply")
    for who, owed in (*enumerate(OWED), (LATER, 500)):
        if who == LATER:
            _wavered(h, 0, 2_000 * WAD)
        call = h.next_seq + 1
        with h.transaction():
            h.position(2, 1, "debt", owed * 10 * WAD, "rebatch", action_seq=call)
            h.position(4 + who, 1, "debt", owed * 10 * WAD, "open", action_seq=call)
            h.position(4 + who, 0, "collateral", 10 * WAD, "open", action_seq=call)
            h.setting(4 + who, "rate", WAD // 200, 1, "open")
            h.rows["setting_events"][-1]["action_seq"] = call
    return Fallen(_ended(h, 0, 1, price, WAD), protocol_named("liquity-v2"), AssetId(0), AssetId(1), WAD)


def llamma_market(price: int) -> Fallen:
    """Bands that halve the price; see ``tests.protocols.llamma.hand``. A token is a dollar: each has 2,000 of them, and
    owes a fifth of what others do.
    """
    h = History(replace(llamma.MARKET, accounts=NAMES)).block(2, AFTER)
    terms = {"llamma_revision": 3, "amplification": 2, "base_price": WAD, "amm_fee": 0, "amm_admin_fee": 0}
    for name, value in {**terms, "loan_discount": 9 * WAD // 100, "liquidation_discount": 6 * WAD // 100}.items():
        h.param(name, value)
    h.index(0)
    h.price(0, WAD).price(1, WAD)
    for who, owed in (*enumerate(OWED), (LATER, 1_500)):
        if who == LATER:
            _wavered(h, 1, WAD, AFTER)
        settings = {"liquidation_discount": 6 * WAD // 100, "first_band": 1, "last_band": 4, "deposited": 2_000 * WAD}
        call = h.next_seq + 1 + len(settings)
        with h.transaction():
            h.position(1 + who, 0, "debt", owed * WAD // 5, "borrow", action_seq=call)
            h.position(1 + who, 1, "collateral", 2_000 * WAD, "borrow", action_seq=call)
            for name, value in settings.items():
                h.setting(1 + who, name, value, 1, "borrow")
                h.rows["setting_events"][-1]["action_seq"] = call
    h.block(FALL, AFTER + START).price(1, price).block(4_000, AFTER + END).price(0, WAD)
    return Fallen(h, protocol_named("llamma"), AssetId(1), AssetId(0), WAD, AFTER)


def maker(price: int) -> Fallen:
    """One vault, and another one that draws before the fall; see ``tests.support.vault_history``."""
    h = vault_history.history(DOG_2_0, price, later=draws_later)
    return Fallen(h, protocol_named("maker"), AssetId(0), AssetId(1), WAD)


def geb(price: int) -> Fallen:
    """One SAFE of 10 ETH that owes 4,000 coins of 2.5 $, liquidated at 135 %, sold at a discount of 5 % that grows to
    15 % within half an hour; another one draws before the fall.
    """
    h = History(replace(_market("geb"), base_decimals=18, price_decimals=27))
    assets = tuple(replace(each, decimals=18) for each in h.market.assets)
    h.market = replace(h.market, assets=assets)
    settings = {
        "liquidation_ratio": 135 * RAY // 100,
        "safety_ratio": 140 * RAY // 100,
        "liquidation_penalty": 11 * WAD // 10,
        "liquidation_system": 31,
        "dunk": 90_000 * WAD,
        "min_discount": 95 * WAD // 100,
        "max_discount": 85 * WAD // 100,
        "discount_rate": 99994 * RAY // 100000,
        "discount_seconds": 1_800,
    }
    for name, value in settings.items():
        h.param(name, value)
    h.index(1).price(1, 5 * WAD // 2).price(0, 2_000 * WAD)
    _moved(h, 0, 0, "collateral", 10 * WAD, "supply")
    _moved(h, 0, 1, "debt", 4_000 * WAD, "borrow")
    _wavered(h, 0, 2_000 * WAD)
    call = h.next_seq + 1
    with h.transaction():
        h.position(LATER, 0, "collateral", 10 * WAD, "supply", action_seq=call)
        h.position(LATER, 1, "debt", 2_000 * WAD, "borrow", action_seq=call)
    h.block(FALL, START).price(0, price * WAD).block(4_000, END).price(1, 5 * WAD // 2)
    return Fallen(h, protocol_named("geb"), AssetId(0), AssetId(1), WAD)


def draws_later(h: History) -> None:
    """A vault of 10 ETH that owes 5,000 DAI."""
    _wavered(h, 0, 2_000 * WAD)
    call = h.next_seq + 1
    with h.transaction():
        h.position(LATER, 0, "collateral", 10 * WAD, "supply", action_seq=call)
        h.position(LATER, 1, "debt", 5_000 * WAD, "borrow", action_seq=call)


def morpho_blue(price: int) -> Fallen:
    """One market of 86 %."""
    h = History(_market("morpho-blue", usd_first=True, price_decimals=24))
    for name, value in (("created", 1), ("liquidation_threshold", 86 * WAD // 100), ("fee", 0)):
        h.param(name, value, 1)
    h.price(0, 10**8).price(1, 2_000 * 10**8)
    _moved(h, LENDER, 0, "collateral", 10**16, "supply", 10**10)
    for who, owed in (*enumerate(OWED), (LATER, 500)):
        if who == LATER:
            _wavered(h, 1, 2_000 * 10**8)
        _moved(h, who, 1, "collateral", 10**18, "supply")
        _moved(h, who, 0, "debt", owed * 10**12, "borrow", owed * 10**6)
    return Fallen(_ended(h, 1, 0, price, 10**8), protocol_named("morpho-blue"), AssetId(1), AssetId(0), 10**8)


FALLEN: Mapping[str, Callable[[], Fallen]] = {
    "aave-v2": lambda: aave("aave-v2", 1_480, 2, WAD),
    "aave-v3": lambda: aave("aave-v3", 1_480, 1, 10**8),
    "compound-v2": lambda: compound_v2(1_520),
    "compound-v3": lambda: compound_v3(1_350),
    "euler-v2": lambda: euler_v2(1_500),
    "fraxlend": lambda: fraxlend(1_500),
    "gearbox-v3": lambda: gearbox_v3(1_450),
    "silo-v2": lambda: silo_v2(1_400),
    "geb": lambda: geb(1_300),
    "liquity-v1": lambda: liquity_v1(1_310),
    "liquity-v2": lambda: liquity_v2(1_310),
    "llamma": lambda: llamma_market(WAD // 4),
    "maker": lambda: maker(1_290),
    "morpho-blue": lambda: morpho_blue(1_390),
}
"""By protocol: at these prices the largest borrower, or the two largest, may be liquidated."""
