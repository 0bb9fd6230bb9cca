-- Purpose: pools that the market's file names.
-- Grain: (market, pool_id).
-- Columns:
--   market: name of the market
--   pool_id: dense number of the pool
--   pool: its address
--   kind: whose rules it follows: uniswap-v3
--   token0: address of token 0
--   token1: address of token 1
--   decimals0: decimals of token 0
--   decimals1: decimals of token 1
--   asset0_id: which asset of the market token 0 is; null: none
--   asset1_id: which asset of the market token 1 is; null: none
--   fee: parts of a million of what is put in
--   tick_spacing: ticks between two that may be initialized
--   prices: address of the token whose market price the pool tells, and that is sold into it
SELECT market, pool_id, pool, kind, token0, token1, decimals0, decimals1, asset0_id, asset1_id, fee, tick_spacing, prices
FROM canonical.pools
