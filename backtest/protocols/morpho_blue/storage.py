"""A Morpho Blue market and one account of it from the contract's storage.

Layout: morpho-org/morpho-blue v1.0.0 (npm @morpho-org/morpho-blue 1.0.0), ``src/Morpho.sol`` (state variables ``owner``
to ``idToMarketParams``, slots 0 to 8) and ``src/interfaces/IMorpho.sol`` (structs Position, Market, MarketParams).
"""

from __future__ import annotations

from backtest.errors import UserError
from backtest.protocols.morpho_blue.events import ID, ZERO_ADDRESS
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN, MorphoState, Position, Totals
from backtest.protocols.storage import (
    ACCOUNT,
    Input,
    Steps,
    StoredAccount,
    Subject,
    address_in,
    at_key,
    bits,
    viewed,
    words,
)

_POSITION, _MARKET, _PARAMS = 2, 3, 8
_RATE_VIEW = (
    "borrowRateView((address,address,address,address,uint256),(uint128,uint128,uint128,uint128,uint128,uint128))"
)


def stored(subject: Subject) -> Steps[StoredAccount[MorphoState]]:
    """See ``LendingProtocol.stored``. The rate since the last accrual is what the model's view says."""
    morpho, id = subject.contract("morpho"), subject.word(ID)
    at_market, at_params = at_key(_MARKET, id), at_key(_PARAMS, id)
    at_position = at_key(_POSITION, id, subject.account)
    supplied, borrowed, last, *terms, lent, owed = yield from words(
        [
            *((morpho, at_market + field) for field in range(3)),
            *((morpho, at_params + field) for field in range(5)),
            (morpho, at_position),
            (morpho, at_position + 1),
        ]
    )
    loan, collateral, oracle, model = (address_in(each) for each in terms[:4])
    if loan == ZERO_ADDRESS:
        raise UserError(f"market {id} does not exist at block {subject.now.block_number}", "choose a later block")
    totals = Totals(
        supply_assets=bits(supplied, 0, 128),
        supply_shares=bits(supplied, 128, 128),
        borrow_assets=bits(borrowed, 0, 128),
        borrow_shares=bits(borrowed, 128, 128),
        updated=bits(last, 0, 128),
        fee=bits(last, 128, 128),
    )
    position = Position(lent, bits(owed, 0, 128), bits(owed, 128, 128))
    state = MorphoState(
        subject.market([subject.asset(LOAN, loan), subject.asset(COLLATERAL, collateral)]),
        totals=totals,
        positions={ACCOUNT: position},
        lltv=terms[4],
    )
    rate = yield from _rate(subject, model, terms, totals)
    view = subject.view(oracle, "price()")
    price = yield from viewed(view)
    symbol = state.market.assets[COLLATERAL].symbol
    priced_by = Input(f"price of {symbol}", f"{oracle}, the source that the market names", price, view)
    config = subject.config
    prices = {LOAN: 10 ** (config.base_decimals if config.price_decimals is None else config.price_decimals)}
    if price is not None:
        prices[COLLATERAL] = price
    return StoredAccount(
        state.market,
        state,
        prices,
        (
            Input("position: shares lent and borrowed, collateral", f"{morpho}, mapping position"),
            Input("totals, fee and last accrual of the market", f"{morpho}, mapping market"),
            Input(
                "tokens, oracle, rate model and threshold of the market",
                f"{morpho}, mapping idToMarketParams",
            ),
            rate,
            priced_by,
        ),
    )


def _rate(subject: Subject, model: str, terms: list[int], totals: Totals) -> Steps[Input]:
    """The interest since the last accrual, into ``totals``."""
    what = "rate of interest since the last accrual"
    if model == ZERO_ADDRESS:
        return Input(what, "the market has no rate model, which is no interest (Morpho._accrueInterest)", 0)
    if totals.updated == subject.now.timestamp:
        return Input(what, "interest was accrued in this block", 0)
    numbers = (
        totals.supply_assets, totals.supply_shares, totals.borrow_assets, totals.borrow_shares, totals.updated,
        totals.fee,
    )  # fmt: skip
    view = subject.view(model, _RATE_VIEW, *terms, *numbers)
    found = yield from viewed(view)
    if found is None:
        raise UserError(f"the rate model {model} reverts", "accounts of this market cannot be proven at this block")
    totals.rate = found
    return Input(what, f"{model}, the model that the market names", found, view)
