-- Purpose: interest indexes start at one (ray) or above and never fall.
-- Grain: (market, asset_id, seq).
-- Columns:
--   market: name of the market
--   asset_id: asset
--   seq: the event
--   block_number: block
--   supply_index: ray (1e27)
--   borrow_index: ray (1e27)
SELECT market, asset_id, seq, block_number, supply_index, borrow_index
FROM (
    SELECT market, asset_id, seq, block_number, supply_index, borrow_index, lag(supply_index) OVER ordered AS supply_before,
        lag(borrow_index) OVER ordered AS borrow_before
    FROM indexes
    WINDOW ordered AS (PARTITION BY market, asset_id ORDER BY seq)
)
WHERE supply_index < supply_before OR borrow_index < borrow_before OR least(supply_index, borrow_index) < CAST('1000000000000000000000000000' AS DECIMAL(38, 0))
