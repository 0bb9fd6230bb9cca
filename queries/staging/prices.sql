-- Purpose: oracle prices; a row holds until the next of its asset.
-- Grain: one change of a price.
-- Columns:
--   market: name of the market
--   seq: position among the events
--   block_number: block
--   log_index: index of the log within the block
--   timestamp: seconds since 1970, of the block
--   asset_id: asset
--   price: base-currency units per whole token, exact to the unit; null where the oracle would revert
--   price_rest: the oracle's digits below a base unit, in markets whose prices have some; null in others
--   source: address of the price source, null if none
--   method: feed (a log), formula (computed from logs), read (a call), fixed
--   exact: false where the price between two reads is not known at this position
SELECT market, seq, block_number, log_index, timestamp, asset_id, price, price_rest, source, method, exact
FROM canonical.prices
