-- Purpose: what happened to pools; what was before the market's first block is summed up there, one mint for each range and one initialize.
-- Grain: one log of a pool that moves its price or liquidity.
-- Columns:
--   market: name of the market
--   seq: position among the events
--   block_number: block
--   log_index: index of the log within the block; -1 in the sum
--   timestamp: seconds since 1970, of the block
--   pool_id: pool
--   event: initialize, mint, burn or swap
--   tick: where a swap or the initialization left the pool; of mint and burn the first tick of the range
--   upper: the tick before which a range ends; null for swap and initialize
--   liquidity: active after a swap or the initialization; of mint and burn what was added, negative for burn
--   sqrt_price: square root of token 1 per token 0 in native units, times 2^96, as 32 big-endian bytes; null for mint and burn
--   amount0: token 0 that the pool got (negative: gave), native units; null in the sum and for initialize
--   amount1: token 1 that the pool got (negative: gave), native units; null in the sum and for initialize
SELECT market, seq, block_number, log_index, timestamp, pool_id, event, tick, upper, liquidity, sqrt_price, amount0, amount1
FROM canonical.pool_events
