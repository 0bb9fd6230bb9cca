-- Purpose: no log, and no row of an imported file, is in quarantine.
-- Grain: (market, event, reason).
-- Columns:
--   market: name of the market
--   event: the event whose signature matched, or the file
--   reason: why it could not be decoded or imported
--   logs: number of logs or rows
--   first_block: first block with one; null for files
SELECT market, event, reason, logs, first_block
FROM quarantine
