-- Purpose: no log is in quarantine.
-- Grain: (market, event, reason).
-- Columns:
--   market: name of the market
--   event: the event whose signature matched
--   reason: why it could not be decoded
--   logs: number of logs
--   first_block: first block with one
SELECT market, event, reason, logs, first_block
FROM quarantine
