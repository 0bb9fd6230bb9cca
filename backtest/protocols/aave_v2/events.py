"""What Aave V2 writes into its logs: every event that positions, parameters and liquidations need.

Signatures as in ``interfaces/ILendingPool.sol``, ``ILendingPoolConfigurator.sol``,
``ILendingPoolAddressesProvider.sol``, ``IStableDebtToken.sol``, ``IVariableDebtToken.sol`` and ``IAToken.sol``, and in
``misc/AaveOracle.sol`` of aave/protocol-v2 (npm @aave/protocol-v2 1.0.1, whose oracle logs ``WethSet``, and the
repository's head, whose oracle logs ``BaseCurrencySet``). The collateral manager and the libraries run in the pool by
delegatecall, so the pool is their emitter.

Roles of emitters: ``provider``, ``pool``, ``configurator``, ``oracle``, ``a_token``, ``debt_token`` (variable) and
``stable_debt_token``: an aToken's Mint and Burn are other events than a debt token's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backtest.model import Constant, Deployment, EventSpec, SourceChange
from backtest.protocols.aave import oracles
from backtest.protocols.aave.columns import address_text, rows
from backtest.protocols.interface import RawEvents

POOL_ID = b"LENDING_POOL".ljust(32, b"\0")
CONFIGURATOR_ID = b"LENDING_POOL_CONFIGURATOR".ljust(32, b"\0")
REVISION_GETTER = "LENDINGPOOL_REVISION"
_NONE = "0x" + "00" * 20

STRATEGY_EVENTS = {
    "ReserveInitialized": "interest_rate_strategy_address",
    "ReserveInterestRateStrategyChanged": "strategy",
}
STRATEGY_GETTERS = {
    "optimal_usage": "OPTIMAL_UTILIZATION_RATE",
    "base_rate": "baseVariableBorrowRate",
    "slope1": "variableRateSlope1",
    "slope2": "variableRateSlope2",
}
"""Where a reserve's rate strategy is named, and what its contract says of itself, rays
(``DefaultReserveInterestRateStrategy``).
"""


def _specs(emitter: str, *signatures: str, **named: str) -> tuple[EventSpec, ...]:
    """Events of one emitter: by their own names, or (one that others have too) by the name given."""
    own = tuple(EventSpec(signature.partition("(")[0], signature, emitter) for signature in signatures)
    return own + tuple(EventSpec(name, signature, emitter) for name, signature in named.items())


POOL_EVENTS = _specs(
    "pool",
    "Deposit(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint16 indexed"
    " referral)",
    "Withdraw(address indexed reserve, address indexed user, address indexed to, uint256 amount)",
    "Borrow(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint256"
    " borrowRateMode, uint256 borrowRate, uint16 indexed referral)",
    "Repay(address indexed reserve, address indexed user, address indexed repayer, uint256 amount)",
    "Swap(address indexed reserve, address indexed user, uint256 rateMode)",
    "RebalanceStableBorrowRate(address indexed reserve, address indexed user)",
    "ReserveUsedAsCollateralEnabled(address indexed reserve, address indexed user)",
    "ReserveUsedAsCollateralDisabled(address indexed reserve, address indexed user)",
    "FlashLoan(address indexed target, address indexed initiator, address indexed asset, uint256 amount, uint256"
    " premium, uint16 referralCode)",
    "LiquidationCall(address indexed collateralAsset, address indexed debtAsset, address indexed user, uint256"
    " debtToCover, uint256 liquidatedCollateralAmount, address liquidator, bool receiveAToken)",
    "ReserveDataUpdated(address indexed reserve, uint256 liquidityRate, uint256 stableBorrowRate, uint256"
    " variableBorrowRate, uint256 liquidityIndex, uint256 variableBorrowIndex)",
    "Paused()",
    "Unpaused()",
    PoolUpgraded="Upgraded(address indexed implementation)",
)

TOKEN_EVENTS = (
    *_specs(
        "a_token",
        "Mint(address indexed from, uint256 value, uint256 index)",
        "Burn(address indexed from, address indexed target, uint256 value, uint256 index)",
        "BalanceTransfer(address indexed from, address indexed to, uint256 value, uint256 index)",
    ),
    *_specs(
        "debt_token",
        DebtMint="Mint(address indexed from, address indexed onBehalfOf, uint256 value, uint256 index)",
        DebtBurn="Burn(address indexed user, uint256 amount, uint256 index)",
    ),
    *_specs(
        "stable_debt_token",
        StableMint=(
            "Mint(address indexed user, address indexed onBehalfOf, uint256 amount, uint256 currentBalance, uint256"
            " balanceIncrease, uint256 newRate, uint256 avgStableRate, uint256 newTotalSupply)"
        ),
        StableBurn=(
            "Burn(address indexed user, uint256 amount, uint256 currentBalance, uint256 balanceIncrease, uint256"
            " avgStableRate, uint256 newTotalSupply)"
        ),
    ),
)

CONFIGURATOR_EVENTS = _specs(
    "configurator",
    "ReserveInitialized(address indexed asset, address indexed aToken, address stableDebtToken, address"
    " variableDebtToken, address interestRateStrategyAddress)",
    "BorrowingEnabledOnReserve(address indexed asset, bool stableRateEnabled)",
    "BorrowingDisabledOnReserve(address indexed asset)",
    "CollateralConfigurationChanged(address indexed asset, uint256 ltv, uint256 liquidationThreshold, uint256"
    " liquidationBonus)",
    "StableRateEnabledOnReserve(address indexed asset)",
    "StableRateDisabledOnReserve(address indexed asset)",
    "ReserveActivated(address indexed asset)",
    "ReserveDeactivated(address indexed asset)",
    "ReserveFrozen(address indexed asset)",
    "ReserveUnfrozen(address indexed asset)",
    "ReserveFactorChanged(address indexed asset, uint256 factor)",
    "ReserveInterestRateStrategyChanged(address indexed asset, address strategy)",
    "ATokenUpgraded(address indexed asset, address indexed proxy, address indexed implementation)",
    "StableDebtTokenUpgraded(address indexed asset, address indexed proxy, address indexed implementation)",
    "VariableDebtTokenUpgraded(address indexed asset, address indexed proxy, address indexed implementation)",
)

PROVIDER_EVENTS = _specs(
    "provider",
    "LendingPoolUpdated(address indexed newAddress)",
    "LendingPoolCollateralManagerUpdated(address indexed newAddress)",
    "PriceOracleUpdated(address indexed newAddress)",
    "ProxyCreated(bytes32 id, address indexed newAddress)",
)

ORACLE_EVENTS = _specs(
    "oracle",
    "AssetSourceUpdated(address indexed asset, address indexed source)",
    "FallbackOracleUpdated(address indexed fallbackOracle)",
    "BaseCurrencySet(address indexed baseCurrency, uint256 baseCurrencyUnit)",
    "WethSet(address indexed weth)",
)

EVENTS = POOL_EVENTS + TOKEN_EVENTS + CONFIGURATOR_EVENTS + PROVIDER_EVENTS + ORACLE_EVENTS


def discover(contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
    """Emitters per role, ``contracts`` included: pool, configurator and oracles from the provider's events, tokens from
    listings. See ``LendingProtocol.discover``.
    """
    found: dict[str, set[str]] = {role: set(addresses) for role, addresses in contracts.items()}
    for role, address in _emitters(raw):
        if address != _NONE:
            found.setdefault(role, set()).add(address)
    return {role: frozenset(addresses) for role, addresses in found.items()}


def _emitters(raw: RawEvents) -> Iterator[tuple[str, str]]:
    roles = {POOL_ID: "pool", CONFIGURATOR_ID: "configurator"}
    for row in rows(raw, "ProxyCreated"):
        if row["id"] in roles:
            yield roles[row["id"]], address_text(row["new_address"])
    for row in rows(raw, "PriceOracleUpdated"):
        yield "oracle", address_text(row["new_address"])
    for row in rows(raw, "FallbackOracleUpdated"):
        yield "oracle", address_text(row["fallback_oracle"])
    for row in rows(raw, "ReserveInitialized"):
        yield "a_token", address_text(row["a_token"])
        yield "debt_token", address_text(row["variable_debt_token"])
        yield "stable_debt_token", address_text(row["stable_debt_token"])


def deployments(raw: RawEvents) -> list[Deployment]:
    """Every implementation of the pool, in chain order: the first is named where it was set (``LendingPoolUpdated``),
    later ones by the proxy.
    """
    return [
        Deployment(proxy, implementation, REVISION_GETTER, row["block_number"])
        for row, proxy, implementation in pool_changes(raw)
    ]


def pool_changes(raw: RawEvents) -> list[tuple[Mapping[str, Any], str, str]]:
    """The logs that put an implementation behind the pool's proxy: row, proxy, implementation; in chain order."""
    proxies = [row["new_address"] for row in rows(raw, "ProxyCreated") if row["id"] == POOL_ID]
    first = rows(raw, "LendingPoolUpdated")[:1] if proxies else []
    logs = [(row, proxies[0], row["new_address"]) for row in first]
    logs += [(row, row["address"], row["implementation"]) for row in rows(raw, "PoolUpgraded")]
    logs.sort(key=lambda log: log[0]["seq"])
    return [(row, address_text(proxy), address_text(code)) for row, proxy, code in logs]


def constants(raw: RawEvents) -> list[Constant]:
    """The parameters of every rate strategy that a reserve used: constants of its contract."""
    strategies = [
        (row["seq"], address_text(row[column])) for event, column in STRATEGY_EVENTS.items() for row in rows(raw, event)
    ]
    return [Constant(strategy, getter) for _, strategy in sorted(strategies) for getter in STRATEGY_GETTERS.values()]


def underlying_tokens(raw: RawEvents) -> list[str]:
    """Underlying assets of all reserves, in order of listing."""
    return list(dict.fromkeys(address_text(row["asset"]) for row in rows(raw, "ReserveInitialized")))


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """See ``oracles.price_sources``."""
    return oracles.price_sources(raw, (("ReserveInitialized", "asset"),), ("BaseCurrencySet", "WethSet"))
