"""A market worked by hand: an amplification of 2, so that bands halve the price; crvUSD (18 decimals) against a token
of 18 decimals, base price 1. Alice and bob have loans; no fees and no interest unless a test says so.
"""

from __future__ import annotations

from backtest.model import AccountId, Asset, AssetId, Clock, IndexUpdate, Market, MarketEvent, ParamChange
from backtest.model import PositionChange as Moved
from backtest.model import SettingChange as Set
from backtest.protocols.llamma import LLAMMA
from backtest.protocols.llamma.amm import Amm, AmmTerms, Band
from backtest.protocols.llamma.state import BORROWED, COLLATERAL, RATE_SCALE, TO_RAY, LlammaState
from backtest.units import RAY, WAD

ONE, START = WAD, 1_000_000
POOL, ALICE, BOB, CAROL = map(AccountId, range(4))
NOW = Clock(10, 5, START)
PLACE = {"seq": 0, "block_number": 10, "log_index": 0, "timestamp": START}
MARKET = Market(
    name="hand", protocol="llamma", chain_id=1, accounts=("0xa0", "0xa1", "0xa2", "0xa3"), base_decimals=18,
    assets=(Asset(BORROWED, "0x" + "01" * 20, "crvUSD", 18), Asset(COLLATERAL, "0x" + "02" * 20, "WETH", 18)),
)  # fmt: skip


def amm(bands: dict[int, tuple[int, int]] | None = None, a: int = 2, revision: int = 3, **more: int) -> Amm:
    """An AMM of base price 1 whose bands hold these tokens, a thousand shares each."""
    made = Amm(AmmTerms(a, ONE, revision=revision), rate_time=START, **more)
    for n, (x, y) in (bands or {}).items():
        made.bands[n] = Band(x, y, 1_000)
        made.low, made.high = min(made.low, n), max(made.high, n)
    return made


def prices(price: int) -> dict[AssetId, int]:
    """The oracle's."""
    return {BORROWED: WAD, COLLATERAL: price}


def param(name: str, value: int, asset: AssetId | None = None, time: int = START) -> ParamChange:
    """A parameter takes a value."""
    return ParamChange(seq=0, block_number=10, log_index=0, timestamp=time, name=name, value=value, asset=asset)


def rate(multiplier: int, a_second: int, time: int = START) -> IndexUpdate:
    """``SetRate``: interest up to now, wad, and a second from now on."""
    return IndexUpdate(
        seq=0, block_number=10, log_index=0, timestamp=time, asset=BORROWED, supply_index=RAY,
        borrow_index=multiplier * TO_RAY, supply_rate=0, borrow_rate=a_second * RATE_SCALE,
    )  # fmt: skip


def loan(
    who: AccountId, debt: int, collateral: int, first: int, last: int, discount: int = 6 * WAD // 100
) -> list[MarketEvent]:
    """A loan in these bands."""
    own = {**PLACE, "account": who, "action": "borrow", "action_seq": 0}
    settings = {"liquidation_discount": discount, "first_band": first, "last_band": last, "deposited": collateral}
    return [
        Moved(**own, asset=BORROWED, side="debt", delta=debt, amount=debt),
        Moved(**own, asset=COLLATERAL, side="collateral", delta=collateral, amount=collateral),
        *(Set(**own, setting=name, asset=COLLATERAL, value=value) for name, value in settings.items()),
    ]


def opened(*events: MarketEvent, a: int = 2) -> LlammaState:
    """The market, then events."""
    state = LLAMMA.open(MARKET)
    terms = {"llamma_revision": 3, "amplification": a, "base_price": ONE, "amm_fee": 0, "amm_admin_fee": 0}
    for name, value in {**terms, "loan_discount": 9 * WAD // 100, "liquidation_discount": 6 * WAD // 100}.items():
        LLAMMA.apply(state, param(name, value))
    for event in (rate(WAD, 0), *events):
        LLAMMA.apply(state, event)
    return state
