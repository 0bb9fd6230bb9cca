-- Purpose: blocks whose header is known: those with events, and samples.
-- Grain: (market, block_number).
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block
--   base_fee: base fee per gas, wei; null before EIP-1559
SELECT market, block_number, timestamp, base_fee
FROM canonical.blocks
