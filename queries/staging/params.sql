-- Purpose: parameters over time; a value holds until the next of the same name, asset and category.
-- Grain: one change of a parameter.
-- Columns:
--   market: name of the market
--   seq: the event that made the change
--   block_number: block
--   log_index: index of the log within the block
--   timestamp: seconds since 1970, of the block
--   asset_id: of which asset; null for a category or the whole market
--   category: of which e-mode category; null for an asset or the whole market
--   name: name of the parameter
--   value: the new value; basis points for ratios (a bonus is 10000 + bonus), 0 or 1 for switches
SELECT market, seq, block_number, log_index, timestamp, asset_id, category, name, value
FROM canonical.params
