-- Purpose: parameters as they stand at the end of each block that changes any.
-- Grain: (market, asset_id, category, name, block_number); asset_id and category are -1 where the parameter has none.
-- Columns:
--   market: name of the market
--   asset_id: asset, -1 for none
--   category: e-mode category, -1 for none
--   name: name of the parameter
--   block_number: block
--   value: basis points for ratios, 0 or 1 for switches
SELECT market, coalesce(asset_id, -1) AS asset_id, coalesce(category, -1) AS category, name, block_number, arg_max(value, seq) AS value
FROM params
GROUP BY ALL
