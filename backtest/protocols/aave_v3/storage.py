"""An account of an Aave V3 market from the storage of pool, tokens, provider and oracle.

Layouts: aave/aave-v3-core (npm @aave/core-v3 1.19.3) and aave-dao/aave-v3-origin (npm @aave-dao/aave-v3-origin 3.6.0;
v3.7.0 by its source alone, whose categories have ``isolated`` in what was free of their first word):
``VersionedInitializable`` takes slots 0 to 51 (revision in slot 0); ``PoolStorage`` follows; ``DataTypes``
(ReserveData, ReserveConfigurationMap, UserConfigurationMap, EModeCategory); ``IncentivizedERC20._userState`` of AToken
(slot 52), VariableDebtToken and StableDebtToken (56: EIP712Base and DebtTokenBase come first; ``_timestamps`` 62);
``AaveOracle.assetsSources`` (slot 0). Fields that a version does not
have are deprecated in place, so that they stand where they stood.
"""

from __future__ import annotations

from dataclasses import dataclass

from backtest.model import Asset, AssetId
from backtest.protocols.aave.storage import NO_ADDRESS, flagged, own_pool, provided, source_prices
from backtest.protocols.aave_v3.rules import Rules, rules_for
from backtest.protocols.aave_v3.state import AaveState, Account, Category, Reserve, StableDebt
from backtest.protocols.storage import (
    ACCOUNT,
    Input,
    Steps,
    StoredAccount,
    Subject,
    address_in,
    at_key,
    bits,
    words,
)

_REVISION = 0
_RESERVES, _USERS, _LIST, _CATEGORIES, _CATEGORY_OF = 52, 53, 54, 55, 56
_ATOKEN_BALANCES, _DEBT_BALANCES, _STABLE_TIMES = 52, 56, 62
_SOURCES = 0
_WORDS = 7
"""Words of a reserve that are read, ``configuration`` to ``variableDebtTokenAddress``."""
_BALANCE_BITS = 120
"""Of a ``UserState``; the byte above is a mode of delegation (aave-v3-origin, ``IncentivizedERC20``), which no balance
reaches.
"""


@dataclass(frozen=True, slots=True)
class _Listed:
    """A reserve that the account touches: its place in the list, its words, and where the account's balances are."""

    asset: Asset
    place: int
    data: list[int]

    @property
    def slots(self) -> tuple[str, str, str]:
        """aToken, stable and variable debt token."""
        return address_in(self.data[4]), address_in(self.data[5]), address_in(self.data[6])


def stored(subject: Subject) -> Steps[StoredAccount[AaveState]]:
    """See ``LendingProtocol.stored``. Read are the reserves that the account's own map flags, which are all that health
    depends on, and those of ``Subject.assets``.
    """
    pool, provider = subject.contract("pool"), subject.contract("provider")
    revision, flags, chosen, pool_slot, oracle_slot = yield from words(
        [
            (pool, _REVISION),
            (pool, at_key(_USERS, subject.account)),
            (pool, at_key(_CATEGORY_OF, subject.account)),
            provided(provider, "POOL"),
            provided(provider, "PRICE_ORACLE"),
        ]
    )
    own_pool(provider, pool_slot, pool)
    rules, oracle, emode = rules_for(revision, subject.now.block_number), address_in(oracle_slot), bits(chosen, 0, 8)
    lists = yield from _category(pool, rules, emode)
    source = address_in(lists[0], 48) if emode and not rules.emode_by_bitmap else NO_ADDRESS
    reserves = yield from _listed(subject, pool, flags, {*subject.assets, source} - {NO_ADDRESS})
    priced_only = [] if source in {NO_ADDRESS, *(each.asset.asset for each in reserves)} else [source]
    unlisted = [_Listed(subject.asset(len(reserves), each, 0), 0, [0] * _WORDS) for each in priced_only]
    book, stable_seen = yield from _balances(subject, reserves, flags, emode)
    state = AaveState(
        subject.market([each.asset for each in (*reserves, *unlisted)]),
        [_reserve(each, rules) for each in (*reserves, *unlisted)],
        books={ACCOUNT: book},
        revision=rules,
    )
    if emode:
        state.categories[emode] = _filled(lists, source, [*reserves, *unlisted], rules)
    inputs = [
        Input(f"pool revision {revision}, whose rules are {rules.name}", f"{pool}, slot 0"),
        Input("flags and e-mode of the account", f"{pool}, mappings _usersConfig and _usersEModeCategory"),
    ]
    if reserves:
        names = ", ".join(each.asset.symbol for each in reserves)
        said = "balances" + (" (stable debt among them)" if stable_seen else "")
        inputs.append(Input(f"parameters, indexes and rates of {names}", f"{pool}, mapping _reserves"))
        inputs.append(Input(f"{said} in {names}", "mappings _userState of the tokens that the reserves name"))
    if emode:
        inputs.append(Input(f"parameters of e-mode {emode}", f"{pool}, mapping _eModeCategories"))
    prices, priced_by = yield from source_prices(subject, oracle, _SOURCES, state.market.assets)
    return StoredAccount(state.market, state, prices, (*inputs, *priced_by))


def _listed(subject: Subject, pool: str, flags: int, others: set[str]) -> Steps[list[_Listed]]:
    """The reserves that are flagged, and others that are listed, in the order of the pool's list."""
    addresses = sorted((yield from flagged(pool, _LIST, flags)) | others)
    starts = [at_key(_RESERVES, address) for address in addresses]
    data = yield from words([(pool, start + field) for start in starts for field in range(_WORDS)])
    found = []
    for at, address in enumerate(addresses):
        own = data[at * _WORDS : (at + 1) * _WORDS]
        if bits(own[4], 0, 160):  # initialised
            found.append((bits(own[3], 168, 16), address, own))
    return [
        _Listed(subject.asset(id, address, bits(own[0], 48, 8)), place, own)
        for id, (place, address, own) in enumerate(sorted(found))
    ]


def _reserve(listed: _Listed, rules: Rules) -> Reserve:
    """What health depends on, and what a reader of terms wants beside it (ReserveConfiguration, all versions)."""
    config, supply, borrow, third = listed.data[:4]
    return Reserve(
        listed.asset.id,
        10**listed.asset.decimals,
        listed.place,
        supply_index=bits(supply, 0, 128),
        supply_rate=bits(supply, 128, 128),
        borrow_index=bits(borrow, 0, 128),
        borrow_rate=bits(borrow, 128, 128),
        updated=bits(third, 128, 40),
        ltv=bits(config, 0, 16),
        own_ltv=bits(config, 0, 16),
        liquidation_threshold=bits(config, 16, 16),
        liquidation_bonus=bits(config, 32, 16),
        liquidation_protocol_fee=bits(config, 152, 16),
        active=bits(config, 56, 1),
        frozen=bits(config, 57, 1),
        paused=bits(config, 60, 1),
        debt_ceiling=bits(config, 212, 40),
        emode_category=0 if rules.emode_by_bitmap else bits(config, 168, 8),
        grace_until=bits(third, 184, 40) if rules.grace_period else 0,
    )


def _category(pool: str, rules: Rules, emode: int) -> Steps[list[int]]:
    """The words of the account's e-mode category that terms and lists are in."""
    start = at_key(_CATEGORIES, emode)
    slots = [start, start + 2] if rules.emode_by_bitmap else [start]
    return (yield from words([(pool, slot) for slot in slots if emode]))


def _filled(found: list[int], source: str, reserves: list[_Listed], rules: Rules) -> Category:
    """A category with its lists (3.2+), or the asset whose price counts for its members (to 3.1)."""
    ltv, threshold, bonus = (bits(found[0], first, 16) for first in (0, 16, 32))
    category = Category(ltv=ltv, liquidation_threshold=threshold, liquidation_bonus=bonus)
    if not rules.emode_by_bitmap:
        category.price_source = next((each.asset.id for each in reserves if each.asset.asset == source), None)
        return category
    category.isolated = bits(found[0], 176, 8) if rules.isolated_emode else 0
    lists = (
        (category.collateral, found[0] >> 48),
        (category.borrowable, found[1]),
        (category.ltvzero, found[1] >> 128),
    )
    for members, bitmap in lists if rules.emode_ltv_own else lists[:2]:
        members |= {each.asset.id for each in reserves if bits(bitmap, each.place, 1)}
    return category


def _balances(subject: Subject, reserves: list[_Listed], flags: int, emode: int) -> Steps[tuple[Account, bool]]:
    """What the account holds and owes; whether stable debt is there to be read."""
    account, slots = subject.account, []
    for each in reserves:
        collateral, stable, variable = each.slots
        slots.append((collateral, at_key(_ATOKEN_BALANCES, account)))
        slots.append((variable, at_key(_DEBT_BALANCES, account)))
        if stable != NO_ADDRESS:
            slots += [(stable, at_key(_DEBT_BALANCES, account)), (stable, at_key(_STABLE_TIMES, account))]
    found = iter((yield from words(slots)))
    book, stable_seen = Account(emode=emode), False
    for each in reserves:
        asset: AssetId = each.asset.id
        held, owed = next(found), next(found)
        if balance := bits(held, 0, _BALANCE_BITS):
            book.collateral[asset] = balance
        if debt := bits(owed, 0, _BALANCE_BITS):
            book.debt[asset] = debt
        if bits(flags, 2 * each.place + 1, 1):
            book.enabled.add(asset)
        if each.slots[1] != NO_ADDRESS:
            principal, since = next(found), next(found)
            if bits(principal, 0, 128):
                stable_seen = True
                book.stable[asset] = StableDebt(bits(principal, 0, 128), bits(principal, 128, 128), bits(since, 0, 40))
    return book, stable_seen
