"""Which logs of a pool are needed (Uniswap/v3-core 1.0.1, ``contracts/interfaces/pool/IUniswapV3PoolEvents.sol``).

The others (Flash, Collect, CollectProtocol, SetFeeProtocol, IncreaseObservationCardinalityNext) change neither price
nor liquidity.
"""

from __future__ import annotations

from backtest.model import EventSpec

NAMESPACE = "uniswap-v3"
POOL = "raw/chain/Pool"
EMITTER = "pool"
_WIDE = frozenset({"sqrtPriceX96"})
EVENTS = (
    EventSpec("Initialize", "Initialize(uint160 sqrtPriceX96, int24 tick)", EMITTER, _WIDE),
    EventSpec(
        "Mint",
        "Mint(address sender, address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount,"
        " uint256 amount0, uint256 amount1)",
        EMITTER,
    ),
    EventSpec(
        "Burn",
        "Burn(address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount, uint256 amount0,"
        " uint256 amount1)",
        EMITTER,
    ),
    EventSpec(
        "Swap",
        "Swap(address indexed sender, address indexed recipient, int256 amount0, int256 amount1, uint160 sqrtPriceX96,"
        " uint128 liquidity, int24 tick)",
        EMITTER,
        _WIDE,
    ),
)
GETTERS = ("token0()", "token1()", "fee()", "tickSpacing()")
"""What is fixed about a pool (IUniswapV3PoolImmutables.sol)."""
