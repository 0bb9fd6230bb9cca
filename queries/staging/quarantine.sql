-- Purpose: logs that matched a filter and could not be decoded, and rows of files that could not be imported, counted.
-- Grain: (market, event, reason).
-- Columns:
--   market: name of the market
--   event: the event whose signature matched, or the file
--   reason: why it could not be decoded or imported
--   logs: number of logs or rows
--   first_block: first block with one; null for files
--   last_block: last block with one; null for files
SELECT market, event, reason, count(*) AS logs, min(block_number) AS first_block, max(block_number) AS last_block
FROM raw.quarantine
GROUP BY market, event, reason
UNION ALL
SELECT market, file, reason, count(*), NULL, NULL
FROM raw.import_Quarantine
GROUP BY market, file, reason
