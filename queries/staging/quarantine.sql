-- Purpose: logs that matched a filter and could not be decoded, counted.
-- Grain: (market, event, reason).
-- Columns:
--   market: name of the market
--   event: the event whose signature matched
--   reason: why it could not be decoded
--   logs: number of logs
--   first_block: first block with one
--   last_block: last block with one
SELECT market, event, reason, count(*) AS logs, min(block_number) AS first_block, max(block_number) AS last_block
FROM raw.quarantine
GROUP BY market, event, reason
