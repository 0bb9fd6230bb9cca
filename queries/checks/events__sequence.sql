-- Purpose: events, and prices of oracles and venues that no log gives, are numbered without gaps from 0, in the order of (block, log index), with times that never go back.
-- Grain: one violation, at most one per number.
-- Columns:
--   market: name of the market
--   seq: the number
--   block_number: block
--   log_index: index of the log within the block; -1 where a price holds from the start of the block
--   problem: what is wrong
WITH places AS (
    SELECT market, seq, block_number, log_index, timestamp FROM events
    UNION SELECT market, seq, block_number, log_index, timestamp FROM prices
    UNION SELECT v.market, v.seq, v.block_number, v.log_index, b.timestamp
    FROM market_prices AS v JOIN blocks AS b ON b.market = v.market AND b.block_number = v.block_number
    UNION SELECT market, seq, block_number, log_index, timestamp FROM pool_events
)
SELECT market, seq, block_number, log_index,
    CASE WHEN seq <> expected THEN 'expected seq ' || expected WHEN timestamp < time_before THEN 'time goes back' ELSE 'out of chain order' END AS problem
FROM (
    SELECT market, seq, block_number, log_index, timestamp, row_number() OVER ordered - 1 AS expected, lag(timestamp) OVER ordered AS time_before,
        lag(block_number) OVER ordered AS block_before, lag(log_index) OVER ordered AS log_before
    FROM places
    WINDOW ordered AS (PARTITION BY market ORDER BY seq, block_number, log_index)
)
WHERE seq <> expected OR timestamp < time_before OR block_number < block_before OR (block_number = block_before AND log_index <= log_before)
