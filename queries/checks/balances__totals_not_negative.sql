-- Purpose: the scaled total of every asset is never below zero.
-- Grain: (market, asset_id, side).
-- Columns:
--   market: name of the market
--   asset_id: asset
--   side: collateral or debt
--   total: scaled units at the end
SELECT market, asset_id, side, sum(delta) AS total
FROM position_events
GROUP BY market, asset_id, side
HAVING sum(delta) < 0
