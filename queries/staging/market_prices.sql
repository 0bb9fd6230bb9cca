-- Purpose: prices of venues; a row speaks for its period.
-- Grain: (market, asset_id, timestamp).
-- Columns:
--   market: name of the market
--   seq: its place among the events
--   block_number: block at its time, estimated where none is known
--   log_index: -1, the start of the block
--   timestamp: seconds since 1970, start of the period
--   asset_id: asset
--   price: base-currency units per whole token at the start of the period
--   low: lowest of the period; null if not known
--   high: highest of the period; null if not known
--   period: seconds; null if not known
SELECT market, seq, block_number, log_index, timestamp, asset_id, price, low, high, period
FROM canonical.market_prices
