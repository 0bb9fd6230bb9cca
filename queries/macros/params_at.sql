-- Purpose: every parameter as it stands at the end of a block.
-- Grain: (market, asset_id, category, name).
-- Parameters:
--   at_block: block number
-- Columns:
--   market: name of the market
--   asset_id: asset; null for a category or the whole market
--   symbol: symbol of the asset
--   category: e-mode category; null for an asset or the whole market
--   name: name of the parameter
--   value: basis points for ratios (a bonus is 10000 + bonus), 0 or 1 for switches
--   since_block: block of the last change
SELECT p.market, p.asset_id, any_value(a.symbol) AS symbol, p.category, p.name, arg_max(p.value, p.seq) AS value,
    arg_max(p.block_number, p.seq) AS since_block
FROM params AS p LEFT JOIN assets AS a ON a.market = p.market AND a.asset_id = p.asset_id
WHERE p.block_number <= at_block
GROUP BY p.market, p.asset_id, p.category, p.name
