-- Purpose: within the market's history the periods of venue prices follow on each other without gaps.
-- Grain: (market, asset_id, from_time): one gap.
-- Columns:
--   market: name of the market
--   asset_id: asset
--   from_time: first moment without a price, UTC
--   to_time: first moment with one again, UTC
--   seconds: length of the gap
SELECT market, asset_id, make_timestamp((timestamp + period) * 1000000) AS from_time, make_timestamp(next_time * 1000000) AS to_time,
    next_time - timestamp - period AS seconds
FROM (
    SELECT market, asset_id, timestamp, period, lead(timestamp) OVER (PARTITION BY market, asset_id ORDER BY timestamp) AS next_time FROM market_prices
    WHERE source IS NULL
)
WHERE next_time > timestamp + period
ORDER BY market, asset_id, timestamp
