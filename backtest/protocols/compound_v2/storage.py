"""An account of a Compound V2 market from the storage of Comptroller and cTokens.

Layouts: compound-finance/compound-protocol ``contracts/ComptrollerStorage.sol`` (UnitrollerAdminStorage slots 0 to 3,
ComptrollerV1Storage 4 to 8, ``markets`` 9, ``allMarkets`` 13) and ``contracts/CTokenInterfaces.sol`` (CTokenStorage);
run in the tests as npm @venusprotocol/venus-protocol 0.7.0, which keeps both. cTokens of 2019 keep ``decimals`` in a
word of its own, which puts all that follows one slot further: where a cToken keeps the address of its Comptroller tells
which it is.

What the Comptroller says of an account are numbers as of the last accrual of each cToken: no rate of interest is read.
Cash is what the cToken says that it holds of its token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backtest.errors import UserError
from backtest.model import Asset, AssetId
from backtest.protocols.compound_v2.events import comptroller_revision, periods
from backtest.protocols.compound_v2.state import Account, CompoundState, CTokenMarket
from backtest.protocols.storage import (
    ACCOUNT,
    Input,
    Steps,
    StoredAccount,
    Subject,
    address_in,
    at_key,
    in_array,
    viewed,
    word,
    words,
)

_IMPLEMENTATION, _ORACLE, _CLOSE_FACTOR, _INCENTIVE, _ENTERED, _MARKETS, _ALL_MARKETS = 2, 4, 5, 6, 8, 9, 13
_COMPTROLLER, _RESERVE_FACTOR, _BALANCES, _DEBTS, _UNDERLYING = 5, 8, 14, 16, 17
_WORDS = 6
"""From ``reserveFactorMantissa`` on: accrual, borrow index, total borrows, reserves and supply."""
_NO_ADDRESS = "0x" + "00" * 20
_MOST_MARKETS = 256


@dataclass(frozen=True, slots=True)
class _CToken:
    """A cToken, how much further its words are than in today's code, and its token: itself where it lends the coin."""

    address: str
    shift: int
    token: str


def stored(subject: Subject) -> Steps[StoredAccount[CompoundState]]:
    """See ``LendingProtocol.stored``. Read are the cTokens that the account entered, which are all that count, and
    those that lend ``Subject.assets``.
    """
    comptroller = subject.contract("comptroller")
    code, oracle, close_factor, incentive, count = yield from words(
        [(comptroller, slot) for slot in (_IMPLEMENTATION, _ORACLE, _CLOSE_FACTOR, _INCENTIVE)]
        + [(comptroller, at_key(_ENTERED, subject.account))]
    )
    entered = yield from _list(comptroller, at_key(_ENTERED, subject.account), count)
    ctokens = yield from _chosen(subject, comptroller, entered)
    factors = yield from words([(comptroller, at_key(_MARKETS, each.address) + 1) for each in ctokens])
    account, parameters = Account(), subject.config.parameters
    pools: list[CTokenMarket] = []
    inputs: list[Input] = []
    prices: dict[AssetId, int] = {}
    assets = [subject.asset(id, _asset_address(subject, each)) for id, each in enumerate(ctokens)]
    for asset, ctoken, factor in zip(assets, ctokens, factors, strict=True):
        pool, cash = yield from _pool(subject, ctoken, asset, account)
        pool.factor, pool.incentive = factor, incentive
        pools.append(pool)
        source = address_in(oracle)
        view = subject.view(source, "getUnderlyingPrice(address)", ctoken.address)
        price = yield from viewed(view)
        said = Input(f"price of {asset.symbol}", f"{source}, the oracle that the Comptroller names", price, view)
        if price is not None and price > 0:
            prices[asset.id] = price * 10**asset.decimals
        inputs += [cash, said]
    account.entered = frozenset(
        asset.id for asset, each in zip(assets, ctokens, strict=True) if each.address in entered
    )
    by_second, periods_per_year = periods(parameters)
    state = CompoundState(
        subject.market(assets),
        pools,
        accounts={ACCOUNT: account},
        close_factor=close_factor,
        revision=comptroller_revision(parameters, address_in(code)),
        by_second=int(by_second),
        periods_per_year=periods_per_year,
    )
    names = ", ".join(asset.symbol for asset in assets) or "nothing"
    proven = (
        Input("implementation, oracle, close factor and incentive", f"{comptroller}, slots 2 to 6"),
        Input("what the account entered, and factors", f"{comptroller}, accountAssets and markets"),
        Input(f"balances, debts, borrows, reserves, supply and index of {names}", "storage of the cTokens"),
    )
    return StoredAccount(state.market, state, prices, (*proven, *inputs))


def _list(comptroller: str, slot: int, count: int) -> Steps[list[str]]:
    """The addresses of a dynamic array."""
    if count > _MOST_MARKETS:
        raise UserError(f"{comptroller} is no Comptroller: it has a list of {count} markets", "correct the market")
    found = yield from words([(comptroller, in_array(slot, place)) for place in range(count)])
    return [address_in(each) for each in found]


def _chosen(subject: Subject, comptroller: str, entered: Sequence[str]) -> Steps[list[_CToken]]:
    """The cTokens that are read, by address."""
    chosen = yield from _described(comptroller, entered)
    wanted = set(subject.assets) - {_asset_address(subject, each) for each in chosen}
    if wanted:
        count = yield from word(comptroller, _ALL_MARKETS)
        every = yield from _list(comptroller, _ALL_MARKETS, count)
        others = yield from _described(comptroller, [each for each in every if each not in entered])
        more = [each for each in others if _asset_address(subject, each) in wanted]
        if missing := wanted - {_asset_address(subject, each) for each in more}:
            raise UserError(
                f"the Comptroller lists no cToken of {min(missing)} in its storage (allMarkets)",
                "accounts that hold cTokens which they did not enter cannot be proven at this block",
            )
        chosen += more
    return sorted(chosen, key=lambda each: each.address)


def _described(comptroller: str, addresses: Sequence[str]) -> Steps[list[_CToken]]:
    """cTokens by their own words."""
    places = (_COMPTROLLER, _COMPTROLLER + 1, _UNDERLYING, _UNDERLYING + 1)
    found = yield from words([(each, place) for each in addresses for place in places])
    described = []
    for at, address in enumerate(addresses):
        first, second, *lent = found[at * len(places) : (at + 1) * len(places)]
        shifts = [shift for shift, one in enumerate((first, second)) if one == int(comptroller, 16)]
        if not shifts:
            raise UserError(
                f"{address} is no cToken of {comptroller} with a layout known here", "choose another account"
            )
        token = address_in(lent[shifts[0]])
        described.append(_CToken(address, shifts[0], address if token == _NO_ADDRESS else token))
    return described


def _asset_address(subject: Subject, ctoken: _CToken) -> str:
    """See ``events.asset_addresses``: the cToken's own where somebody named it so."""
    return ctoken.address if ctoken.address in subject.tokens else ctoken.token


def _pool(subject: Subject, ctoken: _CToken, asset: Asset, account: Account) -> Steps[tuple[CTokenMarket, Input]]:
    """A cToken as stored, and whence its cash; what the account has of it, into ``account``."""
    at, token = ctoken.shift, ctoken.token
    balance, debt = at_key(_BALANCES + at, subject.account), at_key(_DEBTS + at, subject.account)
    slots = [*range(_RESERVE_FACTOR + at, _RESERVE_FACTOR + at + _WORDS), balance, debt, debt + 1]
    found = yield from words([(ctoken.address, slot) for slot in slots])
    reserve_factor, updated, index, borrows, reserves, supply, tokens, principal, then = found
    view = subject.view(ctoken.address, "getCash()")
    cash = yield from viewed(view)
    said = Input(f"cash of {asset.symbol}", f"what {token} says that the cToken holds", cash, view)
    if tokens:
        account.tokens[asset.id] = tokens
    if principal:
        account.debts[asset.id] = principal, then
    pool = CTokenMarket(
        cash=cash or 0,
        borrows=borrows,
        reserves=reserves,
        supply=supply,
        index=index,
        updated=updated,
        reserve_factor=reserve_factor,
    )
    return pool, said
