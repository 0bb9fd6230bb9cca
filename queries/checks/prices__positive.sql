-- Purpose: oracle prices are above zero (the contract treats others as missing).
-- Grain: (market, asset_id, seq).
-- Columns:
--   market: name of the market
--   asset_id: asset
--   seq: position among the events
--   block_number: block
--   price: base-currency units per whole token
SELECT market, asset_id, seq, block_number, price
FROM prices
WHERE price <= 0
