-- Purpose: every event's block has a header with the same time.
-- Grain: (market, block_number).
-- Columns:
--   market: name of the market
--   block_number: block
--   event_time: seconds since 1970, of the events
--   block_time: seconds since 1970, of the header; null if there is none
SELECT e.market, e.block_number, any_value(e.timestamp) AS event_time, any_value(b.timestamp) AS block_time
FROM events AS e LEFT JOIN blocks AS b ON b.market = e.market AND b.block_number = e.block_number
WHERE b.timestamp IS NULL OR b.timestamp <> e.timestamp
GROUP BY e.market, e.block_number
