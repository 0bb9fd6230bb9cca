"""Aave V3.0 and V3.6 deployed from their own bytecode, and the upgrade from one to the other on the same proxies.

Versions: ``@aave/core-v3`` 1.19.3 (3.0.x) and ``@aave-dao/aave-v3-origin`` 3.6.0. Both markets have the same six
    reserves and price sources:

    WETH, WBTC, DAI   feed proxy (phases) over an aggregator
    USDC              price cap over a feed proxy
    wstETH            capped exchange rate over WETH's feed
    LINK              an aggregator, read directly

E-mode 1 is WETH with wstETH, 2 is USDC with DAI; 3.6 has 3 as well: WETH and WBTC as collateral for USDC and DAI.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.chain.contracts import Artifact, artifact_v30, artifacts_v36, own
from tests.chain.deployment import Deployment, Feed, Rates, Reserve
from tests.chain.node import ZERO, Contract, Node

TREASURY = "0x7EA50000000000000000000000000000007EA500"
LIBRARIES_V30 = (
    "SupplyLogic",
    "BorrowLogic",
    "LiquidationLogic",
    "EModeLogic",
    "BridgeLogic",
    "PoolLogic",
    "FlashLoanLogic",
)
LIBRARIES_V36 = ("SupplyLogic", "BorrowLogic", "LiquidationLogic", "PoolLogic", "FlashLoanLogic")
FIRST_RATIO = 1_100_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Listing:
    """How a reserve starts: price with 8 decimals, the rest in basis points."""

    symbol: str
    decimals: int
    price: int
    ltv: int
    threshold: int
    bonus: int
    protocol_fee: int
    reserve_factor: int
    rates: Rates


LISTINGS = (
    Listing("WETH", 18, 194_61000000, 8000, 8250, 10500, 1000, 1500, Rates(9000, 100, 300, 8000)),
    Listing("WBTC", 8, 7_934_00000000, 7300, 7800, 10650, 1000, 2000, Rates(8000, 0, 400, 30000)),
    Listing("USDC", 6, 1_00000000, 7700, 8000, 10450, 1000, 1000, Rates(9200, 0, 550, 4000)),
    Listing("DAI", 18, 1_00500000, 7500, 7800, 10500, 1000, 1000, Rates(9200, 0, 550, 4000)),
    Listing("wstETH", 18, 0, 7850, 8100, 10600, 1000, 500, Rates(8000, 0, 450, 8500)),
    Listing("LINK", 18, 3_85000000, 5300, 6800, 10700, 2000, 2000, Rates(4500, 0, 700, 30000)),
)
EMODES = (
    (1, 9300, 9500, 10100, "ETH correlated", ("WETH", "wstETH")),
    (2, 9300, 9500, 10150, "Stablecoins", ("USDC", "DAI")),
)


def _feeds(node: Node) -> tuple[dict[str, Feed], dict[str, str], Contract]:
    """Feeds and oracle sources by symbol, and the exchange rate of wstETH."""
    code = own("Feeds.sol")
    feeds: dict[str, Feed] = {}
    for listing in LISTINGS:
        if listing.price:
            aggregator = node.deploy(code["Aggregator"], 8, f"{listing.symbol} / USD", listing.price)
            proxy = None if listing.symbol == "LINK" else node.deploy(code["FeedProxy"], aggregator.address)
            feeds[listing.symbol] = Feed(aggregator, proxy)
    feeds["wstETH"] = feeds["WETH"]
    ratio = node.deploy(code["RatioProvider"], FIRST_RATIO)
    base, week = feeds["WETH"].address, 7 * 86400
    args = base, ratio.address, "Capped wstETH / ETH / USD", 18, FIRST_RATIO, node.timestamp() - week, 968
    sources = {symbol: feed.address for symbol, feed in feeds.items()}
    sources["wstETH"] = node.deploy(code["CappedRatioAdapter"], *args).address
    sources["USDC"] = node.deploy(
        code["CappedStableAdapter"], feeds["USDC"].address, "Capped USDC / USD", 1_04000000
    ).address
    return feeds, sources, ratio


def _tokens(node: Node) -> dict[str, Contract]:
    return {
        listing.symbol: node.deploy(own("Token.sol")["Token"], listing.symbol, listing.decimals) for listing in LISTINGS
    }


def _libraries(node: Node, code: dict[str, Artifact], names: tuple[str, ...]) -> dict[str, str]:
    """Deploy libraries in order; a later one may link earlier ones."""
    deployed: dict[str, str] = {}
    for name in names:
        deployed[name] = node.deploy(code[name], libraries=deployed).address
    return deployed


def _provider_and_acl(node: Node, code: dict[str, Artifact]) -> tuple[Contract, Contract]:
    provider = node.deploy(code["PoolAddressesProvider"], "local", node.admin)
    provider.send("setACLAdmin", node.admin)
    acl = node.deploy(code["ACLManager"], provider.address)
    provider.send("setACLManager", acl.address)
    node.send_block([acl.transaction("addPoolAdmin", node.admin), acl.transaction("addEmergencyAdmin", node.admin)])
    return provider, acl


def _finish(
    node: Node,
    version: str,
    code: dict[str, Artifact],
    provider: Contract,
    acl: Contract,
    tokens: dict[str, Contract],
    start: int,
    reader: Contract,
) -> Deployment:
    """Oracle and data provider, once the pool and the configurator are set."""
    feeds, sources, ratio = _feeds(node)
    assets = [tokens[listing.symbol].address for listing in LISTINGS]
    oracle_args = provider.address, assets, [sources[listing.symbol] for listing in LISTINGS], ZERO, ZERO, 10**8
    oracle = node.deploy(code["AaveOracle"], *oracle_args)
    data_provider = node.deploy(code["AaveProtocolDataProvider"], provider.address)
    node.send_block(
        [
            provider.transaction("setPriceOracle", oracle.address),
            provider.transaction("setPoolDataProvider", data_provider.address),
        ]
    )
    suffix = "Instance" if version == "3.6" else ""
    pool = Contract(node, provider.call("getPool"), code[f"Pool{suffix}"].abi)
    configurator = Contract(node, provider.call("getPoolConfigurator"), code[f"PoolConfigurator{suffix}"].abi)
    deployment = Deployment(
        node, version, provider, pool, configurator, oracle, data_provider, acl, TREASURY, reader, ratio, start
    )
    blank = Contract(node, ZERO, [])
    for i, listing in enumerate(LISTINGS):
        symbol = listing.symbol
        reserve = Reserve(symbol, i, listing.decimals, tokens[symbol], blank, blank, feeds[symbol], sources[symbol])
        deployment.reserves[symbol] = reserve
    return deployment


def _configure(deployment: Deployment, code: dict[str, Artifact]) -> Deployment:
    """After initReserves: token addresses, risk parameters, e-modes."""
    node, v36 = deployment.node, deployment.version == "3.6"
    transactions = []
    for listing in LISTINGS:
        reserve = deployment.reserves[listing.symbol]
        a_token, *_, debt = deployment.data_provider.call("getReserveTokensAddresses", reserve.asset.address)
        reserve.a_token = Contract(node, a_token, code["ATokenInstance" if v36 else "AToken"].abi)
        reserve.debt_token = Contract(node, debt, code["VariableDebtTokenInstance" if v36 else "VariableDebtToken"].abi)
        transactions += [
            deployment.configure_collateral(listing.symbol, listing.ltv, listing.threshold, listing.bonus),
            deployment.configure("setReserveBorrowing", listing.symbol, True),
            deployment.configure("setReserveFlashLoaning", listing.symbol, True),
            deployment.set_reserve_factor(listing.symbol, listing.reserve_factor),
            deployment.set_protocol_fee(listing.symbol, listing.protocol_fee),
        ]
    for category, ltv, threshold, bonus, label, assets in EMODES:
        transactions.append(deployment.set_emode_category(category, ltv, threshold, bonus, label))
        transactions += deployment.set_emode_assets(category, assets, assets)
    if v36:
        transactions.append(deployment.set_emode_category(3, 8500, 8800, 10400, "Majors for stables"))
        transactions += deployment.set_emode_assets(3, ("WETH", "WBTC"), ("USDC", "DAI"))
    _all_succeed(node, transactions)
    return deployment


def _all_succeed(node: Node, transactions: list[dict[str, str]]) -> None:
    for transaction, receipt in zip(transactions, node.send_block(transactions), strict=True):
        if receipt["status"] != "0x1":
            raise RuntimeError(f"setup failed: {node.revert_reason(transaction)}")


def deploy_v30(node: Node) -> Deployment:
    """A market of 3.0.x, pool revision 1."""
    tokens_code = ("AToken", "StableDebtToken", "VariableDebtToken")
    common = ("PoolAddressesProvider", "ACLManager", "AaveOracle", "AaveProtocolDataProvider")
    code = {
        name: artifact_v30(name)
        for name in (*LIBRARIES_V30, "ConfiguratorLogic", "Pool", "PoolConfigurator", *common, *tokens_code)
    }
    reader, tokens, start = node.deploy(own("Reader.sol")["Reader"]), _tokens(node), node.block_number + 1
    provider, acl = _provider_and_acl(node, code)
    pool = node.deploy(code["Pool"], provider.address, libraries=_libraries(node, code, LIBRARIES_V30))
    configurator = node.deploy(code["PoolConfigurator"], libraries=_libraries(node, code, ("ConfiguratorLogic",)))
    provider.send("setPoolImpl", pool.address)
    provider.send("setPoolConfiguratorImpl", configurator.address)
    deployment = _finish(node, "3.0", code, provider, acl, tokens, start, reader)
    a_token, stable, variable = (node.deploy(code[name], deployment.pool.address).address for name in tokens_code)
    inputs = []
    for listing in LISTINGS:
        strategy = node.deploy(
            artifact_v30("DefaultReserveInterestRateStrategy"), provider.address, *listing.rates.constructor()
        )
        symbol = listing.symbol
        kinds = ("a", "variableDebt", "stableDebt")
        texts = [text for kind in kinds for text in (f"Local {kind}{symbol}", f"{kind}{symbol}")]
        fixed = a_token, stable, variable, listing.decimals, strategy.address, tokens[symbol].address, TREASURY, ZERO
        inputs.append((*fixed, *texts, b""))
    deployment.configurator.send("initReserves", inputs)
    return _configure(deployment, code)


def deploy_v36(node: Node) -> Deployment:
    """A market of 3.6.0, pool revision 10."""
    code = artifacts_v36()
    reader, tokens, start = node.deploy(own("Reader.sol")["Reader"]), _tokens(node), node.block_number + 1
    provider, acl = _provider_and_acl(node, code)
    strategy = node.deploy(code["DefaultReserveInterestRateStrategyV2"], provider.address)
    pool = node.deploy(
        code["PoolInstance"], provider.address, strategy.address, libraries=_libraries(node, code, LIBRARIES_V36)
    )
    configurator = node.deploy(
        code["PoolConfiguratorInstance"], libraries=_libraries(node, code, ("ConfiguratorLogic",))
    )
    provider.send("setPoolImpl", pool.address)
    provider.send("setPoolConfiguratorImpl", configurator.address)
    deployment = _finish(node, "3.6", code, provider, acl, tokens, start, reader)
    a_token = node.deploy(code["ATokenInstance"], deployment.pool.address, ZERO, TREASURY).address
    debt = node.deploy(code["VariableDebtTokenInstance"], deployment.pool.address, ZERO).address
    inputs = []
    for listing in LISTINGS:
        symbol = listing.symbol
        texts = [text for kind in ("a", "variableDebt") for text in (f"Local {kind}{symbol}", f"{kind}{symbol}")]
        inputs.append((a_token, debt, tokens[symbol].address, *texts, b"", listing.rates.encoded()))
    deployment.configurator.send("initReserves", inputs)
    return _configure(deployment, code)


def upgrade_v30_to_v36(deployment: Deployment) -> Deployment:
    """Upgrade pool, configurator, aTokens and debt tokens of a 3.0 market to 3.6 on the same proxies, in one block, as
    governance would.

    Storage is taken over by ``PoolFromV30`` (contracts/Upgrade.sol). The rate strategies become data of the one
    strategy of 3.6 (as first listed) and the e-mode memberships become bitmaps, both by the configurator, with its
    events. The oracle stays. The new implementations are
    deployed in the blocks before. Debt must be variable: 3.6 has no stable debt.

    Returns: the market as 3.6 from here on; the argument is of no use any more.
    """
    node, provider, code = deployment.node, deployment.provider, artifacts_v36()
    strategy = node.deploy(code["DefaultReserveInterestRateStrategyV2"], provider.address)
    pool = node.deploy(
        code["PoolFromV30"], provider.address, strategy.address, libraries=_libraries(node, code, LIBRARIES_V36)
    )
    configurator = node.deploy(
        code["PoolConfiguratorInstance"], libraries=_libraries(node, code, ("ConfiguratorLogic",))
    )
    data_provider = node.deploy(code["AaveProtocolDataProvider"], provider.address)
    a_token = node.deploy(code["ATokenInstance"], deployment.pool.address, ZERO, TREASURY)
    debt = node.deploy(code["VariableDebtTokenInstance"], deployment.pool.address, ZERO)
    upgraded = replace(
        deployment,
        version="3.6",
        pool=Contract(node, deployment.pool.address, pool.abi),
        configurator=Contract(node, deployment.configurator.address, configurator.abi),
        data_provider=data_provider,
        reserves={
            symbol: replace(
                reserve,
                a_token=Contract(node, reserve.a_token.address, a_token.abi),
                debt_token=Contract(node, reserve.debt_token.address, debt.abi),
            )
            for symbol, reserve in deployment.reserves.items()
        },
    )
    transactions = [
        provider.transaction("setPoolImpl", pool.address),
        provider.transaction("setPoolConfiguratorImpl", configurator.address),
        provider.transaction("setPoolDataProvider", data_provider.address),
    ]
    for listing in LISTINGS:
        asset = deployment.reserves[listing.symbol].asset.address
        for function, name, implementation in (
            ("updateAToken", "a", a_token),
            ("updateVariableDebtToken", "variableDebt", debt),
        ):
            update = asset, f"Local {name}{listing.symbol}", f"{name}{listing.symbol}", implementation.address, b""
            transactions.append(upgraded.configurator.transaction(function, update))
        transactions.append(upgraded.set_rates(listing.symbol, listing.rates))
    for symbol, reserve in deployment.reserves.items():
        if category := deployment.data_provider.call("getReserveEModeCategory", reserve.asset.address):
            transactions += upgraded.set_emode_assets(category, [symbol], [symbol])
    _all_succeed(node, transactions)
    return upgraded
