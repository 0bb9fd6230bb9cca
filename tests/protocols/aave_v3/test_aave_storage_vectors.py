"""An account of Aave 3.7 from words laid out by hand as aave-v3-origin v3.7.0 lays them out (``DataTypes.sol``,
``PoolStorage.sol``): its contracts are on no package registry.
"""

from __future__ import annotations

import pytest

from backtest.markets import MarketConfig
from backtest.proofs import Checked, check, decoded, encoded, make
from backtest.protocols.storage import at_key
from backtest.units import RAY, WAD
from tests.support.made_states import MadeState

POOL, PROVIDER, ORACLE, WETH, USDC, AWETH, DUSDC = ("0x" + digit * 40 for digit in "1234567")
ALICE = "0x" + "a1" * 20
EURC, DEURC = "0x" + "8" * 40, "0x" + "9" * 40
CONFIG = MarketConfig(
    name="made-up", protocol="aave-v3", chain_id=1, start_block=1, contracts={"pool": POOL, "provider": PROVIDER},
    base_currency="USD", base_decimals=8,
)  # fmt: skip


def _name(text: str) -> str:
    return "0x" + text.encode().ljust(32, b"\0").hex()


def _oracle(prices: dict[str, int]) -> bytes:
    """Code that answers with the price of the address that it is asked for: a sum of (asked = asset) x price."""
    terms = (f"60043573{asset[2:]}147f{price:064x}0201" for asset, price in prices.items())
    return bytes.fromhex("5f" + "".join(terms) + "5f5260205ff3")


def _reserve(at: int, decimals: int, ltv: int, threshold: int, place: int, held: str, owed: str) -> dict[int, int]:
    """Indexes of one, no rates, as of the block."""
    config = ltv | threshold << 16 | 10_500 << 32 | decimals << 48 | 1 << 56 | 1 << 58 | 1_000 << 152
    third = 1_700_000_000 << 128 | place << 168
    return {at: config, at + 1: RAY, at + 2: RAY, at + 3: third, at + 4: int(held, 16), at + 6: int(owed, 16)}


def _state(isolated: int, member: int) -> MadeState:
    """Ten WETH at 2,000 against 8,000 USDC, in e-mode 1 (90 %, 95 %), which has WETH as a member or not."""
    category = at_key(55, 1)
    pool = {
        0: 11,
        at_key(53, ALICE): 0b0110,
        at_key(56, ALICE): 1,
        at_key(54, 0): int(WETH, 16),
        at_key(54, 1): int(USDC, 16),
        **_reserve(at_key(52, WETH), 18, 7_500, 8_000, 0, AWETH, DEURC),
        **_reserve(at_key(52, USDC), 6, 0, 0, 1, EURC, DUSDC),
        category: 9_000 | 9_500 << 16 | 10_100 << 32 | member << 48 | isolated << 176,
        category + 2: 0b10,
    }
    provider = {at_key(2, _name("POOL")): int(POOL, 16), at_key(2, _name("PRICE_ORACLE")): int(ORACLE, 16)}
    return MadeState(
        {
            POOL: pool,
            PROVIDER: provider,
            ORACLE: {at_key(0, WETH): 1, at_key(0, USDC): 1},
            AWETH: {at_key(52, ALICE): 10 * WAD | RAY << 128},
            DUSDC: {at_key(56, ALICE): 8_000 * 10**6},
            EURC: {1: 1},
            DEURC: {1: 1},
        },
        codes={ORACLE: _oracle({WETH: 2_000 * 10**8, USDC: 10**8})},
    )


def _checked(state: MadeState) -> Checked:
    header, nodes = state.made
    proof = make(
        state.subject(CONFIG, ALICE, tokens={WETH: ("WETH", 18), USDC: ("USDC", 6)}), header, nodes, state.view
    )
    return check(decoded(encoded(proof), "made"), state.header.hash)


@pytest.mark.parametrize(
    ("isolated", "member", "ltv", "threshold"),
    [(0, 0, 7_500, 8_000), (1, 0, 0, 8_000), (1, 1, 9_000, 9_500), (0, 1, 9_000, 9_500)],
)
def test_an_isolated_category_leaves_others_no_loan_to_value(
    isolated: int, member: int, ltv: int, threshold: int
) -> None:
    """20,000 dollars against 8,000; what is no member keeps its own threshold."""
    found = _checked(_state(isolated, member))
    assert found.view is not None
    assert found.view.health == 20_000 * threshold * WAD // 10_000 // 8_000
    assert found.view.category == 1
    assert {each.name: each.value for each in found.figures or ()}["ltv"] == ltv
    assert found.stated == frozenset()
