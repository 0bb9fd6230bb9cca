"""Which logs Aave V2 needs: topics as on the chain, and what the provider's logs say of emitters, code and prices."""

from __future__ import annotations

import pytest

from backtest.fetch.decode import topic0
from backtest.protocols.aave_v2.events import EVENTS

TOPICS = {
    "Deposit": "0xde6857219544bb5b7746f48ed30be6386fefc61b2f864cacf559893bf50fd951",
    "Withdraw": "0x3115d1449a7b732c986cba18244e897a450f61e1bb8d589cd2e69e6c8924f9f7",
    "Borrow": "0xc6a898309e823ee50bac64e45ca8adba6690e99e7841c45d754e2a38e9019d9b",
    "Repay": "0x4cdde6e09bb755c9a5589ebaec640bbfedff1362d4b255ebf8339782b9942faa",
    "Swap": "0xea368a40e9570069bb8e6511d668293ad2e1f03b0d982431fd223de9f3b70ca6",
    "RebalanceStableBorrowRate": "0x9f439ae0c81e41a04d3fdfe07aed54e6a179fb0db15be7702eb66fa8ef6f5300",
    "ReserveUsedAsCollateralEnabled": "0x00058a56ea94653cdf4f152d227ace22d4c00ad99e2a43f58cb7d9e3feb295f2",
    "ReserveUsedAsCollateralDisabled": "0x44c58d81365b66dd4b1a7f36c25aa97b8c71c361ee4937adc1a00000227db5dd",
    "FlashLoan": "0x631042c832b07452973831137f2d73e395028b44b250dedc5abb0ee766e168ac",
    "LiquidationCall": "0xe413a321e8681d831f4dbccbca790d2952b56f977908e45be37335533e005286",
    "ReserveDataUpdated": "0x804c9b842b2748a22bb64b345453a3de7ca54a6ca45ce00d415894979e22897a",
    "Paused": "0x9e87fac88ff661f02d44f95383c817fece4bce600a3dab7a54406878b965e752",
    "Unpaused": "0xa45f47fdea8a1efdd9029a5691c7f759c32b7c698632b563573e155625d16933",
    "Mint": "0x4c209b5fc8ad50758f13e2e1088ba56a560dff690a1c6fef26394f4c03821c4f",
    "Burn": "0x5d624aa9c148153ab3446c1b154f660ee7701e549fe9b62dab7171b1c80e6fa2",
    "BalanceTransfer": "0x4beccb90f994c31aced7a23b5611020728a23d8ec5cddd1a3e9d97b96fda8666",
    "DebtMint": "0x2f00e3cdd69a77be7ed215ec7b2a36784dd158f921fca79ac29deffa353fe6ee",
    "DebtBurn": "0x49995e5dd6158cf69ad3e9777c46755a1a826a446c6416992167462dad033b2a",
    "StableMint": "0xc16f4e4ca34d790de4c656c72fd015c667d688f20be64eea360618545c4c530f",
    "StableBurn": "0x44bd20a79e993bdcc7cbedf54a3b4d19fb78490124b6b90d04fe3242eea579e8",
    "ReserveInitialized": "0x3a0ca721fc364424566385a1aa271ed508cc2c0949c2272575fb3013a163a45f",
    "BorrowingEnabledOnReserve": "0xab2f7f9e5ca2772fafa94f355c1842a80ae6b9e41f83083098d81f67d7a0b508",
    "BorrowingDisabledOnReserve": "0xe9a7e5fd4fc8ea18e602350324bf48e8f05d12434af0ce0be05743e6a5fdcb9e",
    "CollateralConfigurationChanged": "0x637febbda9275aea2e85c0ff690444c8d87eb2e8339bbede9715abcc89cb0995",
    "StableRateEnabledOnReserve": "0x8dee2b2f3e98319ae6347eda521788f73f4086c9be9a594942b370b137fb8cb1",
    "StableRateDisabledOnReserve": "0x8bbf35441ac2c607ddecadd3d8ee58636d32f217fad201fb2655581502dd84e3",
    "ReserveActivated": "0x35b80cd8ea3440e9a8454f116fa658b858da1b64c86c48451f4559cefcdfb56c",
    "ReserveDeactivated": "0x6f60cf8bd0f218cabe1ea3150bd07b0b758c35c4cfdf7138017a283e65564d5e",
    "ReserveFrozen": "0x85dc710add8a0914461a7dc5a63f6fc529a7700f8c6089a3faf5e93256ccf12a",
    "ReserveUnfrozen": "0x838ecdc4709a31a26db48b0c853212cedde3f725f07030079d793fb071964760",
    "ReserveFactorChanged": "0x2694ccb0b585b6a54b8d8b4a47aa874b05c257b43d34e98aee50838be00d3405",
    "ReserveInterestRateStrategyChanged": "0x5644b64ebb0ce18c4032248ca52f58355469092ff072866c3dcd8640e817d6a5",
    "ATokenUpgraded": "0xa76f65411ec66a7fb6bc467432eb14767900449ae4469fa295e4441fe5e1cb73",
    "StableDebtTokenUpgraded": "0x7a943a5b6c214bf7726c069a878b1e2a8e7371981d516048b84e03743e67bc28",
    "VariableDebtTokenUpgraded": "0x9439658a562a5c46b1173589df89cf001483d685bad28aedaff4a88656292d81",
    "LendingPoolUpdated": "0xc4e6c6cdf28d0edbd8bcf071d724d33cc2e7a30be7d06443925656e9cb492aa4",
    "LendingPoolCollateralManagerUpdated": "0x991888326f0eab3df6084aadb82bee6781b5c9aa75379e8bc50ae86934541638",
    "PriceOracleUpdated": "0xefe8ab924ca486283a79dc604baa67add51afb82af1db8ac386ebbba643cdffd",
    "ProxyCreated": "0x1eb35cb4b5bbb23d152f3b4016a5a46c37a07ae930ed0956aba951e231142438",
    "AssetSourceUpdated": "0x22c5b7b2d8561d39f7f210b6b326a1aa69f15311163082308ac4877db6339dc1",
    "FallbackOracleUpdated": "0xce7a780d33665b1ea097af5f155e3821b809ecbaa839d3b33aa83ba28168cefb",
    "BaseCurrencySet": "0xe27c4c1372396a3d15a9922f74f9dfc7c72b1ad6d63868470787249c356454c1",
}
"""As the tables of topics of the protocol's reference list them."""
ELSEWHERE = {"PoolUpgraded", "WethSet"}


@pytest.mark.parametrize("spec", [spec for spec in EVENTS if spec.name not in ELSEWHERE], ids=lambda spec: spec.name)
def test_topics_are_those_on_the_chain(spec) -> None:  # type: ignore[no-untyped-def]
    assert topic0(spec) == TOPICS[spec.name]


def test_no_two_events_of_one_emitter_share_a_topic() -> None:
    keys = [(spec.emitter, topic0(spec)) for spec in EVENTS]
    assert len(set(keys)) == len(keys)
    assert {spec.name for spec in EVENTS} == TOPICS.keys() | ELSEWHERE
