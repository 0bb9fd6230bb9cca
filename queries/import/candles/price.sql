-- The close is left alone: it is the open of the next candle, or belongs to a gap.
SELECT source_row, $asset AS asset, 'market' AS kind, open AS price, low, high, 3600 AS period, hour_utc AS timestamp
FROM hours
UNION ALL
SELECT source_row, $asset, 'market', price_open, price_low, price_high, 600, time_period_start
FROM ten_minutes
