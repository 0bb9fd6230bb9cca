-- Purpose: prices of venues; an imported row speaks for its period, one of a pool until the next of its asset.
-- Grain: (market, asset_id, timestamp) of imported prices; one change of a pool's price.
-- Columns:
--   market: name of the market
--   seq: its place among the events
--   block_number: block; of imported prices the one at its time, estimated where none is known
--   log_index: index of the log within the block; -1, the start of the block, for imported prices
--   timestamp: seconds since 1970; of imported prices the start of the period
--   asset_id: asset
--   price: base-currency units per whole token at that time; null where a pool does not tell it any more
--   low: lowest of the period; null if not known
--   high: highest of the period; null if not known
--   period: seconds; null if not known
--   source: address of the pool; null for imported prices
SELECT market, seq, block_number, log_index, timestamp, asset_id, price, low, high, period, source
FROM canonical.market_prices
