-- Purpose: stored interest indexes and rates; a row holds until the next of its asset.
-- Grain: (market, asset_id, seq).
-- Columns:
--   market: name of the market
--   seq: the event that stored them
--   block_number: block
--   log_index: index of the log within the block
--   timestamp: seconds since 1970; interest accrues from here
--   asset_id: asset
--   supply_index: native units per scaled unit of collateral, ray (1e27)
--   borrow_index: native units per scaled unit of debt, ray (1e27)
--   supply_rate: yearly rate, ray (1e27)
--   borrow_rate: yearly rate, ray (1e27)
SELECT market, seq, block_number, log_index, timestamp, asset_id, supply_index, borrow_index, supply_rate, borrow_rate
FROM canonical.indexes
