-- Purpose: the last block of each market whose header is known at or before a time.
-- Grain: market; one whose history starts later has no row.
-- Parameters:
--   at_time: a date or time of day in UTC, such as '2020-03-12 08:00'
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block
SELECT market, max(block_number) AS block_number, max(timestamp) AS timestamp
FROM blocks
WHERE timestamp <= epoch(at_time::TIMESTAMP)
GROUP BY market
