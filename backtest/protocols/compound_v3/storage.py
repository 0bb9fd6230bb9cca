"""An account of a Comet from what the contract itself answers: the proxy's storage holds principals, totals and
collateral, and the implementation's code the parameters, so that all of it is worked out by running them.

Source: compound-finance/comet ``contracts/Comet.sol``, ``CometExt.sol`` (``totalsBasic``, ``userBasic``,
``collateralBalanceOf``), ``CometStorage.sol`` (TotalsBasic, UserBasic), ``CometCore.sol`` (AssetInfo). The
implementation is where ERC-1967 keeps it.
"""

from __future__ import annotations

from backtest.errors import UserError
from backtest.model import Asset, AssetId
from backtest.protocols.compound_v3.events import (
    ASSET_INFO,
    BASE_FEED,
    BASE_TOKEN,
    COMET,
    COUNT,
    GETTERS,
    TOTALS,
    USER,
    ZERO_ADDRESS,
)
from backtest.protocols.compound_v3.state import BASE, PER_ASSET, CometState, Indexes, Position
from backtest.protocols.storage import (
    ACCOUNT,
    Input,
    Steps,
    StoredAccount,
    Subject,
    address_in,
    answers,
    signed,
    viewed,
    word,
)

IMPLEMENTATION = 0x360894A13BA1A3210667C828492DB98DCA3E2076CC3735A920A3CA505D382BBC
"""Where a proxy of ERC-1967 keeps the address of its implementation."""
_MOST_ASSETS = 24
_SCALE, _COLLATERAL, _PRICE = "baseScale()", "collateralBalanceOf(address,address)", "getPrice(address)"


def stored(subject: Subject) -> Steps[StoredAccount[CometState]]:
    """See ``LendingProtocol.stored``."""
    comet = subject.contract(COMET)
    code = address_in((yield from word(comet, IMPLEMENTATION)))
    if code == ZERO_ADDRESS:
        raise UserError(f"{comet} names no implementation where ERC-1967 keeps it", "correct the market")
    of_code = subject.view(code, COUNT)
    count, base, feed, scale, *terms = yield from answers(
        *((subject.view(code, call), 1) for call in (COUNT, BASE_TOKEN, BASE_FEED, _SCALE, *GETTERS.values()))
    )
    if count > _MOST_ASSETS:
        raise UserError(f"{code} is no Comet: it says that it has {count} assets", "correct the market")
    told = yield from answers(*((subject.view(code, ASSET_INFO, place), 8) for place in range(count)))
    infos = [told[at : at + 8] for at in range(0, len(told), 8)]
    assets = [_asset(subject, 0, base, scale), *(_asset(subject, 1 + n, one[1], one[3]) for n, one in enumerate(infos))]
    of_totals, of_user = subject.view(comet, TOTALS), subject.view(comet, USER, subject.account)
    totals = yield from answers((of_totals, 7), (of_user, 3))
    supply, borrow, tracking_supply, tracking_borrow, supplied, borrowed, updated, principal, tracking, earned = totals
    balances = [subject.view(comet, _COLLATERAL, subject.account, each.asset) for each in assets[1:]]
    held = yield from answers(*((view, 1) for view in balances))
    state = CometState(
        subject.market(assets),
        indexes=Indexes(supply, borrow, tracking_supply, tracking_borrow, updated),
        total_supply=supplied,
        total_borrow=borrowed,
        positions={
            ACCOUNT: Position(
                signed(principal),
                {AssetId(1 + n): amount for n, amount in enumerate(held) if amount},
                tracking,
                earned,
            )
        },
        params=dict(zip(GETTERS, terms, strict=True)),
        of_assets={
            (name, AssetId(1 + n)): value
            for n, info in enumerate(infos)
            for name, value in zip(PER_ASSET, info[4:], strict=True)
        },
    )
    state.rates = state.curve_rates()
    inputs = [
        Input("implementation", f"{comet}, where ERC-1967 keeps it: {code}"),
        Input("parameters of the market and of its assets", f"{code}, its getters", view=of_code),
        Input("indexes and totals of the market", f"{comet}, {TOTALS}", view=of_totals),
        Input("principal of the account, and its rewards", f"{comet}, {USER}", view=of_user),
        *(
            Input(f"collateral in {asset.symbol}", f"{comet}, collateralBalanceOf", amount, view)
            for asset, amount, view in zip(assets[1:], held, balances, strict=True)
        ),
    ]
    prices: dict[AssetId, int] = {}
    for asset, source in zip(assets, [feed, *(info[2] for info in infos)], strict=True):
        if asset.id != BASE and asset.id not in state.positions[ACCOUNT].held:
            continue
        view = subject.view(comet, _PRICE, address_in(source))
        price = yield from viewed(view)
        why = f"{comet}, getPrice of the feed {address_in(source)}, which its implementation names"
        inputs.append(Input(f"price of {asset.symbol}", why, price, view))
        if price is not None and price > 0:
            prices[asset.id] = price
    return StoredAccount(state.market, state, prices, tuple(inputs))


def _asset(subject: Subject, id: int, token: int, scale: int) -> Asset:
    """An asset of the list, whose scale is a power of ten. UserError where it is none."""
    decimals = len(str(scale)) - 1
    if scale != 10**decimals:
        raise UserError(f"a scale of {scale} of {address_in(token)} is no power of ten", "correct the market")
    return subject.asset(id, address_in(token), decimals)
