"""An account of an Aave V2 market from the storage of pool, tokens, provider and oracle.

Layouts: aave/protocol-v2 (npm @aave/protocol-v2 1.0.1): ``VersionedInitializable`` takes slots 0 to 51 (revision in
slot 0), ``LendingPoolStorage`` follows (provider 52, reserves 53, users 54, list 55); ``DataTypes``; ``AToken`` is
initializable first and has its ``_balances`` in slot 52; ``DebtTokenBase`` is an ``IncentivizedERC20`` first, with
``_balances`` in slot 0, and ends with ``_borrowAllowances`` in slot 58, so that ``StableDebtToken`` has ``_timestamps``
in 60 and ``_usersStableRate`` in 61; ``AaveOracle.assetsSources`` comes after an owner (slot 1).
"""

from __future__ import annotations

from backtest.model import Asset
from backtest.protocols.aave.storage import flagged, own_pool, provided, source_prices
from backtest.protocols.aave_v2.rules import OTHER_BALANCES, label, revision_known
from backtest.protocols.aave_v2.state import AaveV2State, Account, Reserve, StableDebt
from backtest.protocols.storage import ACCOUNT, Input, Steps, StoredAccount, Subject, address_in, at_key, bits, words

_REVISION = 0
_RESERVES, _USERS, _LIST = 53, 54, 55
_ATOKEN_BALANCES, _DEBT_BALANCES, _STABLE_TIMES, _STABLE_RATES = 52, 0, 60, 61
_SOURCES = 1
_WORDS = 8
"""Words of a reserve, ``configuration`` to ``id``."""


def stored(subject: Subject) -> Steps[StoredAccount[AaveV2State]]:
    """See ``LendingProtocol.stored``. Read are the reserves that the account's own map flags, which are all that health
    depends on, and those of ``Subject.assets``.
    """
    pool, provider = subject.contract("pool"), subject.contract("provider")
    revision, flags, pool_word, oracle_word = yield from words(
        [
            (pool, _REVISION),
            (pool, at_key(_USERS, subject.account)),
            provided(provider, "LENDING_POOL"),
            provided(provider, "PRICE_ORACLE"),
        ]
    )
    own_pool(provider, pool_word, pool)
    addresses = sorted((yield from flagged(pool, _LIST, flags)) | set(subject.assets))
    starts = [at_key(_RESERVES, address) for address in addresses]
    data = yield from words([(pool, start + field) for start in starts for field in range(_WORDS)])
    rows = [(address, data[at * _WORDS : (at + 1) * _WORDS]) for at, address in enumerate(addresses)]
    listed = sorted((bits(own[7], 160, 8), address, own) for address, own in rows if bits(own[4], 0, 160))
    assets = [subject.asset(id, address, bits(own[0], 48, 8)) for id, (_, address, own) in enumerate(listed)]
    reserves = [_reserve(asset, own) for asset, (_, _, own) in zip(assets, listed, strict=True)]
    book = Account()
    for asset, (place, _, own) in zip(assets, listed, strict=True):
        yield from _balances(subject, book, asset, own)
        if bits(flags, 2 * place + 1, 1):
            book.enabled.add(asset.id)
    state = AaveV2State(
        subject.market(assets),
        reserves,
        {ACCOUNT: book},
        revision=revision_known(revision, subject.now.block_number),
    )
    inputs = [
        Input(f"revision of the pool, whose rules are {label(revision)}", f"{pool}, slot 0"),
        Input("flags of the account", f"{pool}, mapping _usersConfig"),
    ]
    if assets:
        names = ", ".join(asset.symbol for asset in assets)
        inputs.append(Input(f"parameters, indexes and rates of {names}", f"{pool}, mapping _reserves"))
        inputs.append(Input(f"balances in {names}", "mappings _balances of the reserves' tokens"))
    prices, priced_by = yield from source_prices(subject, address_in(oracle_word), _SOURCES, assets)
    return StoredAccount(state.market, state, prices, (*inputs, *priced_by))


def _reserve(asset: Asset, own: list[int]) -> Reserve:
    """``ReserveData`` and its configuration."""
    config, indexes, rates, third = own[:4]
    return Reserve(
        asset.id,
        10**asset.decimals,
        supply_index=bits(indexes, 0, 128),
        borrow_index=bits(indexes, 128, 128),
        supply_rate=bits(rates, 0, 128),
        borrow_rate=bits(rates, 128, 128),
        updated=bits(third, 128, 40),
        ltv=bits(config, 0, 16),
        liquidation_threshold=bits(config, 16, 16),
        liquidation_bonus=bits(config, 32, 16),
        active=bits(config, 56, 1),
        frozen=bits(config, 57, 1),
        borrowing_enabled=bits(config, 58, 1),
        stable_borrowing_enabled=bits(config, 59, 1),
        reserve_factor=bits(config, 64, 16),
        other_balances=int(address_in(own[4]) in OTHER_BALANCES),
    )


def _balances(subject: Subject, book: Account, asset: Asset, own: list[int]) -> Steps[None]:
    """What the account holds and owes of an asset, into ``book``."""
    account, (collateral, stable, variable) = subject.account, map(address_in, own[4:7])
    held, owed, principal, since, rate = yield from words(
        [
            (collateral, at_key(_ATOKEN_BALANCES, account)),
            (variable, at_key(_DEBT_BALANCES, account)),
            (stable, at_key(_DEBT_BALANCES, account)),
            (stable, at_key(_STABLE_TIMES, account)),
            (stable, at_key(_STABLE_RATES, account)),
        ]
    )
    if held:
        book.collateral[asset.id] = held
    if owed:
        book.debt[asset.id] = owed
    if principal:
        book.stable[asset.id] = StableDebt(principal, rate, bits(since, 0, 40))
