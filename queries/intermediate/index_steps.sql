-- Purpose: indexes as they stand at the end of each block that stores any.
-- Grain: (market, asset_id, block_number).
-- Columns:
--   market: name of the market
--   asset_id: asset
--   block_number: block
--   timestamp: seconds since 1970; interest accrues from here
--   supply_index: ray (1e27)
--   borrow_index: ray (1e27)
--   supply_rate: yearly, ray (1e27)
--   borrow_rate: yearly, ray (1e27)
SELECT market, asset_id, block_number, any_value(timestamp) AS timestamp, arg_max(supply_index, seq) AS supply_index,
    arg_max(borrow_index, seq) AS borrow_index, arg_max(supply_rate, seq) AS supply_rate, arg_max(borrow_rate, seq) AS borrow_rate
FROM indexes
GROUP BY market, asset_id, block_number
