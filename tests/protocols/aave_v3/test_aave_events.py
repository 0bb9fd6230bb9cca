"""Events of Aave V3: signatures against literal topics, emitters found, price sources in force."""

from __future__ import annotations

import pytest
from eth_utils.crypto import keccak

from backtest.abi import event_schema, parse_event
from backtest.protocols.aave_v3.events import CONFIGURATOR_ID, EVENTS, deployments, discover, price_sources
from tests.support.aave_logs import CONFIGURATOR, ORACLE, POOL, PROVIDER, Logs, a_token, address, asset, debt_token

# Topic 0 of each event as deployed contracts emit it.
TOPICS = {
    "Supply": "0x2b627736bca15cd5381dcf80b0bf11fd197d01a037c52b927a881a10fb73ba61",
    "Withdraw": "0x3115d1449a7b732c986cba18244e897a450f61e1bb8d589cd2e69e6c8924f9f7",
    "Borrow": "0xb3d084820fb1a9decffb176436bd02558d15fac9b0ddfed8c465bc7359d7dce0",
    "Repay": "0xa534c8dbe71f871f9f3530e97a74601fea17b426cae02e1c5aee42c96c784051",
    "FlashLoan": "0xefefaba5e921573100900a3ad9cf29f222d995fb3b6045797eaea7521bd8d6f0",
    "LiquidationCall": "0xe413a321e8681d831f4dbccbca790d2952b56f977908e45be37335533e005286",
    "ReserveDataUpdated": "0x804c9b842b2748a22bb64b345453a3de7ca54a6ca45ce00d415894979e22897a",
    "ReserveUsedAsCollateralEnabled": "0x00058a56ea94653cdf4f152d227ace22d4c00ad99e2a43f58cb7d9e3feb295f2",
    "ReserveUsedAsCollateralDisabled": "0x44c58d81365b66dd4b1a7f36c25aa97b8c71c361ee4937adc1a00000227db5dd",
    "UserEModeSet": "0xd728da875fc88944cbf17638bcbe4af0eedaef63becd1d1c57cc097eb4608d84",
    "MintedToTreasury": "0xbfa21aa5d5f9a1f0120a95e7c0749f389863cbdbfff531aa7339077a5bc919de",
    "IsolationModeTotalDebtUpdated": "0xaef84d3b40895fd58c561f3998000f0583abb992a52fbdc99ace8e8de4d676a5",
    "DeficitCreated": "0x2bccfb3fad376d59d7accf970515eb77b2f27b082c90ed0fb15583dd5a942699",
    "DeficitCovered": "0x84b203e49f1a4b553088061534231969a68ad1c81be192205e96d23a206cb26a",
    "MintUnbacked": "0xf25af37b3d3ec226063dc9bdc103ece7eb110a50f340fe854bb7bc1b0676d7d0",
    "BackUnbacked": "0x281596e92b2d974beb7d4f124df30a0b39067b096893e95011ce4bdad798b759",
    "SwapBorrowRateMode": "0x7962b394d85a534033ba2efcf43cd36de57b7ebeb3de0ca4428965d9b3ddc481",
    "RebalanceStableBorrowRate": "0x9f439ae0c81e41a04d3fdfe07aed54e6a179fb0db15be7702eb66fa8ef6f5300",
    "PoolUpgraded": "0xbc7cd75a20ee27fd9adebab32041f755214dbc6bffa90cc0225b39da2e5c2d3b",
    "Mint": "0x458f5fa412d0f69b08dd84872b0215675cc67bc1d5b6fd93300a1c3878b86196",
    "Burn": "0x4cf25bc1d991c17529c25213d3cc0cda295eeaad5f13f361969b12ea48015f90",
    "BalanceTransfer": "0x4beccb90f994c31aced7a23b5611020728a23d8ec5cddd1a3e9d97b96fda8666",
    "DiscountPercentUpdated": "0x74ab9665e7c36c29ddb78ef88a3e2eac73d35b8b16de7bc573e313e320104956",
    "ATokenInitialized": "0xb19e051f8af41150ccccb3fc2c2d8d15f4a4cf434f32a559ba75fe73d6eea20b",
    "DebtTokenInitialized": "0x40251fbfb6656cfa65a00d7879029fec1fad21d28fdcff2f4f68f52795b74f2c",
    "TokenUpgraded": "0xbc7cd75a20ee27fd9adebab32041f755214dbc6bffa90cc0225b39da2e5c2d3b",
    "StableMint": "0xc16f4e4ca34d790de4c656c72fd015c667d688f20be64eea360618545c4c530f",
    "StableBurn": "0x44bd20a79e993bdcc7cbedf54a3b4d19fb78490124b6b90d04fe3242eea579e8",
    "ReserveInitialized": "0x3a0ca721fc364424566385a1aa271ed508cc2c0949c2272575fb3013a163a45f",
    "ReserveDropped": "0xeeec4c06f7adad215cbdb4d2960896c83c26aedce02dde76d36fa28588d62da4",
    "ReserveBorrowing": "0x2443ba28e8d1d88d531a3d90b981816a4f3b3c7f1fd4085c6029e81d1b7a570d",
    "ReserveStableRateBorrowing": "0x0b64d0941719acd363f1a6be3d8525d8ec9d71738f7445aabcd88d7939b472e7",
    "ReserveFlashLoaning": "0xc8ff3cc5b0fddaa3e6ebbbd7438f43393e4ea30e88b80ad016c1bc094655034d",
    "ReserveActive": "0xc36c7d11ba01a5869d52aa4a3781939dab851cbc9ee6e7fdcedc7d58898a3f1e",
    "ReserveFrozen": "0x0c4443d258a350d27dc50c378b2ebf165e6469725f786d21b30cab16823f5587",
    "ReservePaused": "0xe188d542a5f11925d3a3af33703cdd30a43cb3e8066a3cf68b1b57f61a5a94b5",
    "CollateralConfigurationChanged": "0x637febbda9275aea2e85c0ff690444c8d87eb2e8339bbede9715abcc89cb0995",
    "PendingLtvChanged": "0x6a3fa1f355f7c7ab43e41cb277d1f8471f2693c63dca91049d5ec127bb588e10",
    "LiquidationProtocolFeeChanged": "0xb5b0a963825337808b6e3154de8e98027595a5cad4219bb3a9bc55b192f4b391",
    "LiquidationGracePeriodChanged": "0xdf4f96448786bcd6fecc9f1fa25f1fbbbee6a5c9e76d635a615ac57bb5983d10",
    "LiquidationGracePeriodDisabled": "0x1df36dc1651d06d990805068d22811a3a9ca4396190787ef59f9102e61868fff",
    "ReserveFactorChanged": "0xb46e2b82b0c2cf3d7d9dece53635e165c53e0eaa7a44f904d61a2b7174826aef",
    "BorrowCapChanged": "0xc51aca575985d521c5072ad11549bad77013bb786d57f30f94b40ed8f8dc9bc4",
    "SupplyCapChanged": "0x0263602682188540a2d633561c0b4453b7d8566285e99f9f6018b8ef2facef49",
    "UnbackedMintCapChanged": "0x09808b1fc5abde94edf02fdde393bea0d2e4795999ba31695472848638b5c29f",
    "DebtCeilingChanged": "0x6824a6c7fbc10d2979b1f1ccf2dd4ed0436541679a661dedb5c10bd4be830682",
    "BorrowableInIsolationChanged": "0x74adf6aaf58c08bc4f993640385e136522375ea3d1589a10d02adbb906c67d1c",
    "SiloedBorrowingChanged": "0x842a280b07e8e502a9101f32a3b768ebaba3655556dd674f0831900861fc674b",
    "EModeCategoryAdded": "0x0acf8b4a3cace10779798a89a206a0ae73a71b63acdd3be2801d39c2ef7ab3cb",
    "EModeAssetCategoryChanged": "0x5bb69795b6a2ea222d73a5f8939c23471a1f85a99c7ca43c207f1b71f10c6264",
    "AssetCollateralInEModeChanged": "0x79409190108b26fcb0e4570f8e240f627bf18fd01a55f751010224d5bd486098",
    "AssetBorrowableInEModeChanged": "0x60087ca045be9d8d1301445e67d6248eddba97629c80284fa4910c0e52f103ab",
    "AssetLtvzeroInEModeChanged": "0xc0a450fbad635333e47f3322ec028a8e0b3909f79c721312a356a0fab5fa8b94",
    "EModeCategoryIsolationChanged": "0xea07f8a4f488dcc1dc8c27b9c526ac8ba2d04b8024e206616f306c51d9b16826",
    "ReserveInterestRateStrategyChanged": "0xdb8dada53709ce4988154324196790c2e4a60c377e1256790946f83b87db3c33",
    "ReserveInterestRateDataChanged": "0x1e608c2c753fede2f1f22fca4170277b53ebe5015e488a53414a8921446b7c40",
    "ATokenUpgraded": "0xa76f65411ec66a7fb6bc467432eb14767900449ae4469fa295e4441fe5e1cb73",
    "StableDebtTokenUpgraded": "0x7a943a5b6c214bf7726c069a878b1e2a8e7371981d516048b84e03743e67bc28",
    "VariableDebtTokenUpgraded": "0x9439658a562a5c46b1173589df89cf001483d685bad28aedaff4a88656292d81",
    "FlashloanPremiumTotalUpdated": "0x71aba182c9d0529b516de7a78bed74d49c207ef7e152f52f7ea5d8730138f643",
    "FlashloanPremiumToProtocolUpdated": "0xe7e0c75e1fc2d0bd83dc85d59f085b3e763107c392fb368e85572b292f1f5576",
    "BridgeProtocolFeeUpdated": "0x30b17cb587a89089d003457c432f73e22aeee93de425e92224ba01080260ecd9",
    "MarketIdSet": "0xe685c8cdecc6030c45030fd54778812cb84ed8e4467c38294403d68ba7860823",
    "PoolUpdated": "0x90affc163f1a2dfedcd36aa02ed992eeeba8100a4014f0b4cdc20ea265a66627",
    "PoolConfiguratorUpdated": "0x8932892569eba59c8382a089d9b732d1f49272878775235761a2a6b0309cd465",
    "PriceOracleUpdated": "0x56b5f80d8cac1479698aa7d01605fd6111e90b15fc4d2b377417f46034876cbd",
    "PriceOracleSentinelUpdated": "0x5326514eeca90494a14bedabcff812a0e683029ee85d1e23824d44fd14cd6ae7",
    "ProxyCreated": "0x4a465a9bd819d9662563c1e11ae958f8109e437e7f4bf1c6ef0b9a7b3f35d478",
    "AddressSet": "0x9ef0e8c8e52743bb38b83b17d9429141d494b8041ca6d616a6c77cebae9cd8b7",
    "AddressSetAsProxy": "0x3bbd45b5429b385e3fb37ad5cd1cd1435a3c8ec32196c7937597365a3fd3e99c",
    "AssetSourceUpdated": "0x22c5b7b2d8561d39f7f210b6b326a1aa69f15311163082308ac4877db6339dc1",
    "BaseCurrencySet": "0xe27c4c1372396a3d15a9922f74f9dfc7c72b1ad6d63868470787249c356454c1",
    "FallbackOracleUpdated": "0xce7a780d33665b1ea097af5f155e3821b809ecbaa839d3b33aa83ba28168cefb",
}


def test_every_event_has_a_known_topic() -> None:
    assert [spec.name for spec in EVENTS] == list(TOPICS)
    assert len({spec.name for spec in EVENTS}) == len(EVENTS)


@pytest.mark.parametrize("spec", EVENTS, ids=lambda spec: spec.name)
def test_topic(spec) -> None:
    assert "0x" + keccak(parse_event(spec.signature).canonical.encode()).hex() == TOPICS[spec.name]
    assert event_schema(spec).names[:5] == [
        "block_number",
        "transaction_index",
        "log_index",
        "transaction_hash",
        "address",
    ]


def test_one_topic_and_emitter_are_one_dataset() -> None:
    assert len({(spec.emitter, TOPICS[spec.name]) for spec in EVENTS}) == len(EVENTS)


def test_discover_starts_from_the_provider() -> None:
    logs = Logs()
    logs.open()
    logs.log("ProxyCreated", id=CONFIGURATOR_ID, proxy_address=CONFIGURATOR)
    logs.log("ProxyCreated", id=b"INCENTIVES".ljust(32, b"\0"), proxy_address=address("other"))
    logs.tx()
    logs.list_asset("WETH")
    logs.log("ReserveInitialized", asset=asset("USDC"), a_token=a_token("USDC"), variable_debt_token=debt_token("USDC"))
    found = discover({"provider": frozenset({PROVIDER})}, logs.memory())
    assert found == {
        "provider": {PROVIDER},
        "pool": {POOL},
        "configurator": {CONFIGURATOR},
        "oracle": {ORACLE},
        "token": {a_token("WETH"), debt_token("WETH"), a_token("USDC"), debt_token("USDC")},
        "stable_debt_token": {address("stable WETH")},  # none from 3.2 on
    }


def test_discover_keeps_what_it_is_given() -> None:
    logs = Logs()
    logs.open()
    assert discover({"pool": frozenset({address("old")})}, logs.memory())["pool"] == {address("old"), POOL}


def test_deployments_name_what_must_be_read() -> None:
    logs = Logs()
    logs.open()
    logs.tx()
    logs.list_asset("WETH")
    logs.tx()
    logs.upgrade_pool(10)
    logs.upgrade_token(debt_token("WETH"), 5)
    assert [(d.proxy, d.implementation, d.getter, d.block_number) for d in deployments(logs.memory())] == [
        (POOL, address("pool 1"), "POOL_REVISION", 1),
        (a_token("WETH"), None, "ATOKEN_REVISION", 2),
        (debt_token("WETH"), None, "DEBT_TOKEN_REVISION", 2),
        (POOL, address("pool 10"), "POOL_REVISION", 3),
        (debt_token("WETH"), address("token 5"), "DEBT_TOKEN_REVISION", 3),
    ]


def test_price_sources_follow_the_oracle_in_force() -> None:
    logs, newer = Logs(), address("newer oracle")
    logs.tx()
    logs.log("AssetSourceUpdated", at=ORACLE, asset=asset("WETH"), source=address("feed 1"))  # by its constructor
    logs.log("AssetSourceUpdated", at=ORACLE, asset=asset("USDC"), source=address("feed 2"))
    logs.open()
    logs.tx()
    logs.log("AssetSourceUpdated", at=ORACLE, asset=asset("WETH"), source=address("feed 3"))
    logs.log("AssetSourceUpdated", at=newer, asset=asset("WETH"), source=address("feed 4"))  # not in force yet
    logs.tx()
    logs.log("PriceOracleUpdated", new_address=newer)
    logs.tx()
    logs.log("AssetSourceUpdated", at=ORACLE, asset=asset("WETH"), source=address("feed 5"))  # no longer in force
    found = [(c.block_number, c.log_index, c.asset, c.source, c.oracle) for c in price_sources(logs.memory())]
    assert found == [
        (2, 1, asset("WETH"), address("feed 1"), ORACLE),
        (2, 1, asset("USDC"), address("feed 2"), ORACLE),
        (3, 0, asset("WETH"), address("feed 3"), ORACLE),
        (4, 0, asset("WETH"), address("feed 4"), newer),
        (4, 0, asset("USDC"), "0x" + "00" * 20, newer),  # the new oracle has no source for it
    ]


def test_price_sources_without_a_provider_log() -> None:
    logs = Logs()
    logs.tx()
    logs.log("AssetSourceUpdated", at=ORACLE, asset=asset("WETH"), source=address("feed 1"))
    assert [(c.source, c.oracle) for c in price_sources(logs.memory())] == [(address("feed 1"), ORACLE)]
