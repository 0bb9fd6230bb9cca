-- Purpose: every asset that is borrowed, or enabled as collateral by a holder, has a price from then on.
-- Grain: (market, asset_id).
-- Columns:
--   market: name of the market
--   asset_id: asset
--   symbol: symbol of the asset
--   used_from_block: first block in which it is used
--   priced_from_block: first block with a price; null if there is none
SELECT u.market, u.asset_id, a.symbol, u.used_from_block, p.priced_from_block
FROM (
    SELECT market, asset_id, min(block_number) AS used_from_block
    FROM (
        SELECT market, asset_id, block_number FROM position_events WHERE side = 'debt' AND delta > 0
        UNION ALL SELECT market, asset_id, block_number FROM setting_events WHERE setting = 'collateral_enabled' AND value = 1
    )
    GROUP BY market, asset_id
) AS u
JOIN assets AS a ON a.market = u.market AND a.asset_id = u.asset_id
LEFT JOIN (SELECT market, asset_id, min(block_number) AS priced_from_block FROM prices WHERE price IS NOT NULL GROUP BY market, asset_id) AS p
    ON p.market = u.market AND p.asset_id = u.asset_id
WHERE p.priced_from_block IS NULL OR p.priced_from_block > u.used_from_block
