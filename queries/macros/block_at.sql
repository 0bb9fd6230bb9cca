-- Purpose: the last block of each market whose header is known at a time: what as-of queries take where a time is meant.
-- Grain: market; markets that begin later have no row.
-- Parameters:
--   moment: TIMESTAMP in UTC, or a date; text is cast
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block
SELECT market, max(block_number) AS block_number, max(timestamp) AS timestamp
FROM blocks
WHERE timestamp <= epoch(moment::TIMESTAMP)
GROUP BY market
