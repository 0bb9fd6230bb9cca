"""What Aave V3 writes into its logs, 3.0 to 3.7: every event that positions, parameters and liquidations need.

Signatures as in ``interfaces/IPool.sol``, ``IPoolConfigurator.sol``, ``IScaledBalanceToken.sol``,
``IStableDebtToken.sol``, ``IPoolAddressesProvider.sol`` and ``IAaveOracle.sol`` of aave/aave-v3-core (3.0) and
aave-dao/aave-v3-origin (3.1 to 3.7), and in ``IGhoVariableDebtToken.sol`` of aave/gho-core. Libraries run in the pool
by delegatecall, so the pool is their emitter.

Roles of emitters: ``provider``, ``pool``, ``configurator``, ``oracle``, ``token`` (aTokens and variable debt tokens,
whose events are the same) and ``stable_debt_token`` (until 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backtest.model import Constant, Deployment, EventSpec, SourceChange
from backtest.protocols.aave import oracles
from backtest.protocols.aave.columns import address_text as address_text
from backtest.protocols.interface import RawEvents

POOL_ID = b"POOL".ljust(32, b"\0")
CONFIGURATOR_ID = b"POOL_CONFIGURATOR".ljust(32, b"\0")
_NONE = "0x" + "00" * 20

# Where a reserve's rate strategy is named, and what a strategy contract of 3.0 says of itself, rays
# (``DefaultReserveInterestRateStrategy``): of variable rates, and of stable ones.
STRATEGY_EVENTS = {
    "ReserveInitialized": "interest_rate_strategy_address",
    "ReserveInterestRateStrategyChanged": "new_strategy",
}
STRATEGY_GETTERS = {
    "optimal_usage": "OPTIMAL_USAGE_RATIO",
    "base_rate": "getBaseVariableBorrowRate",
    "slope1": "getVariableRateSlope1",
    "slope2": "getVariableRateSlope2",
}
STABLE_GETTERS = {
    "stable_base": "getBaseStableBorrowRate",
    "stable_slope1": "getStableRateSlope1",
    "stable_slope2": "getStableRateSlope2",
    "stable_excess_offset": "getStableRateExcessOffset",
    "optimal_stable_share": "OPTIMAL_STABLE_TO_TOTAL_DEBT_RATIO",
}


def _specs(emitter: str, *signatures: str, **named: str) -> tuple[EventSpec, ...]:
    """Events of one emitter: by their own names, or (an overloaded or repeated one) by the name given."""
    own = tuple(EventSpec(signature.partition("(")[0], signature, emitter) for signature in signatures)
    return own + tuple(EventSpec(name, signature, emitter) for name, signature in named.items())


POOL_EVENTS = _specs(
    "pool",
    "Supply(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint16 indexed"
    " referralCode)",
    "Withdraw(address indexed reserve, address indexed user, address indexed to, uint256 amount)",
    "Borrow(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint8 interestRateMode, "
    "uint256 borrowRate, uint16 indexed referralCode)",
    "Repay(address indexed reserve, address indexed user, address indexed repayer, uint256 amount, bool useATokens)",
    "FlashLoan(address indexed target, address initiator, address indexed asset, uint256 amount, uint8"
    " interestRateMode, uint256 premium, uint16 indexed referralCode)",
    "LiquidationCall(address indexed collateralAsset, address indexed debtAsset, address indexed user, uint256"
    " debtToCover, uint256 liquidatedCollateralAmount, address liquidator, bool receiveAToken)",
    "ReserveDataUpdated(address indexed reserve, uint256 liquidityRate, uint256 stableBorrowRate, uint256"
    " variableBorrowRate, uint256 liquidityIndex, uint256 variableBorrowIndex)",
    "ReserveUsedAsCollateralEnabled(address indexed reserve, address indexed user)",
    "ReserveUsedAsCollateralDisabled(address indexed reserve, address indexed user)",
    "UserEModeSet(address indexed user, uint8 categoryId)",
    "MintedToTreasury(address indexed reserve, uint256 amountMinted)",
    "IsolationModeTotalDebtUpdated(address indexed asset, uint256 totalDebt)",
    # from 3.3
    "DeficitCreated(address indexed user, address indexed debtAsset, uint256 amountCreated)",
    "DeficitCovered(address indexed reserve, address caller, uint256 amountCovered)",
    # until 3.3
    "MintUnbacked(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint16 indexed"
    " referralCode)",
    "BackUnbacked(address indexed reserve, address indexed backer, uint256 amount, uint256 fee)",
    # until 3.1
    "SwapBorrowRateMode(address indexed reserve, address indexed user, uint8 interestRateMode)",
    "RebalanceStableBorrowRate(address indexed reserve, address indexed user)",
    PoolUpgraded="Upgraded(address indexed implementation)",
)

TOKEN_EVENTS = _specs(
    "token",
    "Mint(address indexed caller, address indexed onBehalfOf, uint256 value, uint256 balanceIncrease, uint256 index)",
    "Burn(address indexed from, address indexed target, uint256 value, uint256 balanceIncrease, uint256 index)",
    "BalanceTransfer(address indexed from, address indexed to, uint256 value, uint256 index)",
    # the GHO debt token until 3.3
    "DiscountPercentUpdated(address indexed user, uint256 oldDiscountPercent, uint256 indexed newDiscountPercent)",
    ATokenInitialized=(
        "Initialized(address indexed underlyingAsset, address indexed pool, address treasury, address"
        " incentivesController, uint8 aTokenDecimals, string aTokenName, string aTokenSymbol, bytes params)"
    ),
    DebtTokenInitialized=(
        "Initialized(address indexed underlyingAsset, address indexed pool, address incentivesController, "
        "uint8 debtTokenDecimals, string debtTokenName, string debtTokenSymbol, bytes params)"
    ),
    TokenUpgraded="Upgraded(address indexed implementation)",
)

STABLE_EVENTS = _specs(
    "stable_debt_token",
    StableMint=(
        "Mint(address indexed user, address indexed onBehalfOf, uint256 amount, uint256 currentBalance, uint256"
        " balanceIncrease, uint256 newRate, uint256 avgStableRate, uint256 newTotalSupply)"
    ),
    StableBurn=(
        "Burn(address indexed from, uint256 amount, uint256 currentBalance, uint256 balanceIncrease, uint256"
        " avgStableRate, uint256 newTotalSupply)"
    ),
)

CONFIGURATOR_EVENTS = _specs(
    "configurator",
    "ReserveInitialized(address indexed asset, address indexed aToken, address stableDebtToken, address"
    " variableDebtToken, address interestRateStrategyAddress)",
    "ReserveDropped(address indexed asset)",
    "ReserveBorrowing(address indexed asset, bool enabled)",
    "ReserveStableRateBorrowing(address indexed asset, bool enabled)",
    "ReserveFlashLoaning(address indexed asset, bool enabled)",
    "ReserveActive(address indexed asset, bool active)",
    "ReserveFrozen(address indexed asset, bool frozen)",
    "ReservePaused(address indexed asset, bool paused)",
    "CollateralConfigurationChanged(address indexed asset, uint256 ltv, uint256 liquidationThreshold, uint256"
    " liquidationBonus)",
    "PendingLtvChanged(address indexed asset, uint256 ltv)",
    "LiquidationProtocolFeeChanged(address indexed asset, uint256 oldFee, uint256 newFee)",
    "LiquidationGracePeriodChanged(address indexed asset, uint40 gracePeriodUntil)",
    "LiquidationGracePeriodDisabled(address indexed asset)",
    "ReserveFactorChanged(address indexed asset, uint256 oldReserveFactor, uint256 newReserveFactor)",
    "BorrowCapChanged(address indexed asset, uint256 oldBorrowCap, uint256 newBorrowCap)",
    "SupplyCapChanged(address indexed asset, uint256 oldSupplyCap, uint256 newSupplyCap)",
    "UnbackedMintCapChanged(address indexed asset, uint256 oldUnbackedMintCap, uint256 newUnbackedMintCap)",
    "DebtCeilingChanged(address indexed asset, uint256 oldDebtCeiling, uint256 newDebtCeiling)",
    "BorrowableInIsolationChanged(address asset, bool borrowable)",
    "SiloedBorrowingChanged(address indexed asset, bool oldState, bool newState)",
    "EModeCategoryAdded(uint8 indexed categoryId, uint256 ltv, uint256 liquidationThreshold, uint256 liquidationBonus,"
    " address oracle, string label)",
    "EModeAssetCategoryChanged(address indexed asset, uint8 oldCategoryId, uint8 newCategoryId)",
    "AssetCollateralInEModeChanged(address indexed asset, uint8 categoryId, bool collateral)",
    "AssetBorrowableInEModeChanged(address indexed asset, uint8 categoryId, bool borrowable)",
    "AssetLtvzeroInEModeChanged(address indexed asset, uint8 categoryId, bool ltvzero)",
    "EModeCategoryIsolationChanged(uint8 indexed categoryId, bool isolated)",
    "ReserveInterestRateStrategyChanged(address indexed asset, address oldStrategy, address newStrategy)",
    "ReserveInterestRateDataChanged(address indexed asset, address indexed strategy, bytes data)",
    "ATokenUpgraded(address indexed asset, address indexed proxy, address indexed implementation)",
    "StableDebtTokenUpgraded(address indexed asset, address indexed proxy, address indexed implementation)",
    "VariableDebtTokenUpgraded(address indexed asset, address indexed proxy, address indexed implementation)",
    "FlashloanPremiumTotalUpdated(uint128 oldFlashloanPremiumTotal, uint128 newFlashloanPremiumTotal)",
    "FlashloanPremiumToProtocolUpdated(uint128 oldFlashloanPremiumToProtocol, uint128 newFlashloanPremiumToProtocol)",
    "BridgeProtocolFeeUpdated(uint256 oldBridgeProtocolFee, uint256 newBridgeProtocolFee)",
)

PROVIDER_EVENTS = _specs(
    "provider",
    "MarketIdSet(string indexed oldMarketId, string indexed newMarketId)",
    "PoolUpdated(address indexed oldAddress, address indexed newAddress)",
    "PoolConfiguratorUpdated(address indexed oldAddress, address indexed newAddress)",
    "PriceOracleUpdated(address indexed oldAddress, address indexed newAddress)",
    "PriceOracleSentinelUpdated(address indexed oldAddress, address indexed newAddress)",
    "ProxyCreated(bytes32 indexed id, address indexed proxyAddress, address indexed implementationAddress)",
    "AddressSet(bytes32 indexed id, address indexed oldAddress, address indexed newAddress)",
    "AddressSetAsProxy(bytes32 indexed id, address indexed proxyAddress, address oldImplementationAddress, address"
    " indexed newImplementationAddress)",
)

ORACLE_EVENTS = _specs(
    "oracle",
    "AssetSourceUpdated(address indexed asset, address indexed source)",
    "BaseCurrencySet(address indexed baseCurrency, uint256 baseCurrencyUnit)",
    "FallbackOracleUpdated(address indexed fallbackOracle)",
)

EVENTS = POOL_EVENTS + TOKEN_EVENTS + STABLE_EVENTS + CONFIGURATOR_EVENTS + PROVIDER_EVENTS + ORACLE_EVENTS


def discover(contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
    """Emitters per role, ``contracts`` included: pool, configurator and oracles from the provider's events, tokens from
    listings.

    The provider alone is enough to start from; addresses are lower-case 0x text. See ``LendingProtocol.discover``.
    """
    found: dict[str, set[str]] = {role: set(addresses) for role, addresses in contracts.items()}
    for role, address in _emitters(raw):
        if address != _NONE:
            found.setdefault(role, set()).add(address)
    return {role: frozenset(addresses) for role, addresses in found.items()}


def _emitters(raw: RawEvents) -> Iterator[tuple[str, str]]:
    roles = {POOL_ID: "pool", CONFIGURATOR_ID: "configurator"}
    for row in raw.table("ProxyCreated").select(["id", "proxy_address"]).to_pylist():
        if row["id"] in roles:
            yield roles[row["id"]], address_text(row["proxy_address"])
    for row in raw.table("PriceOracleUpdated").select(["new_address"]).to_pylist():
        yield "oracle", address_text(row["new_address"])
    for row in raw.table("FallbackOracleUpdated").select(["fallback_oracle"]).to_pylist():
        yield "oracle", address_text(row["fallback_oracle"])
    for row in (
        raw.table("ReserveInitialized").select(["a_token", "variable_debt_token", "stable_debt_token"]).to_pylist()
    ):
        yield "token", address_text(row["a_token"])
        yield "token", address_text(row["variable_debt_token"])
        yield "stable_debt_token", address_text(row["stable_debt_token"])


def deployments(raw: RawEvents) -> list[Deployment]:
    """Every implementation of pool and tokens, in chain order, first one of each token included."""
    found: list[tuple[int, Deployment]] = []
    getters: dict[str, str] = {}
    for row in (
        raw.table("ReserveInitialized").select(["seq", "block_number", "a_token", "variable_debt_token"]).to_pylist()
    ):
        for column, getter in (("a_token", "ATOKEN_REVISION"), ("variable_debt_token", "DEBT_TOKEN_REVISION")):
            proxy = address_text(row[column])
            getters[proxy] = getter
            found.append((row["seq"], Deployment(proxy, None, getter, row["block_number"])))
    for row in (
        raw.table("ProxyCreated")
        .select(["seq", "block_number", "id", "proxy_address", "implementation_address"])
        .to_pylist()
    ):
        if row["id"] == POOL_ID:
            pool = Deployment(
                address_text(row["proxy_address"]),
                address_text(row["implementation_address"]),
                "POOL_REVISION",
                row["block_number"],
            )
            found.append((row["seq"], pool))
    for event in ("PoolUpgraded", "TokenUpgraded"):
        for row in raw.table(event).select(["seq", "block_number", "address", "implementation"]).to_pylist():
            proxy = address_text(row["address"])
            getter = "POOL_REVISION" if event == "PoolUpgraded" else getters.get(proxy, "ATOKEN_REVISION")
            found.append(
                (row["seq"], Deployment(proxy, address_text(row["implementation"]), getter, row["block_number"]))
            )
    return [deployment for _, deployment in sorted(found, key=lambda pair: pair[0])]


def constants(raw: RawEvents) -> list[Constant]:
    """The parameters of every rate strategy that a reserve used: constants of its contract until 3.0 (later ones have
    other views).
    """
    strategies = [
        (row["seq"], address_text(row[column]))
        for event, column in STRATEGY_EVENTS.items()
        for row in raw.table(event).to_pylist()
    ]
    getters = [*STRATEGY_GETTERS.values(), *STABLE_GETTERS.values()]
    return [Constant(strategy, getter) for _, strategy in sorted(strategies) for getter in getters]


def underlying_tokens(raw: RawEvents) -> list[str]:
    """Underlying assets of all reserves ever listed, in order of listing."""
    return list(
        dict.fromkeys(address_text(asset) for asset in raw.table("ReserveInitialized").column("asset").to_pylist())
    )


def emode_price_sources(raw: RawEvents) -> list[str]:
    """What e-mode categories name as the asset whose price counts for their members (to 3.1), each once, in order."""
    named = [address_text(oracle) for oracle in raw.table("EModeCategoryAdded").column("oracle").to_pylist()]
    return list(dict.fromkeys(source for source in named if source != _NONE))


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """See ``oracles.price_sources``: of reserves, and of what e-mode categories take their price from."""
    return oracles.price_sources(raw, (("ReserveInitialized", "asset"), ("EModeCategoryAdded", "oracle")))
