-- Purpose: which blocks are complete, for each source of logs or reads.
-- Grain: (market, source, from_block); ranges of a source do not overlap or touch.
-- Columns:
--   market: name of the market
--   source: what was fetched
--   from_block: first block of the range
--   to_block: last block of the range, inclusive
SELECT market, source, from_block, to_block
FROM lake.coverage
