-- Purpose: the last block of each market whose header is known.
-- Grain: market.
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block
SELECT market, max(block_number) AS block_number, max(timestamp) AS timestamp
FROM blocks
GROUP BY market
