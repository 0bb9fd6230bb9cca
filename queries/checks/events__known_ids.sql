-- Purpose: every id names an account or an asset of its market.
-- Grain: (origin, market, account_id, asset_id).
-- Columns:
--   origin: table that has the unknown id
--   market: name of the market
--   account_id: account, null where it is not the problem
--   asset_id: asset, null where it is not the problem
--   rows: number of rows
WITH used AS (
    SELECT 'position_events' AS origin, market, account_id, asset_id FROM position_events
    UNION ALL SELECT 'setting_events', market, account_id, asset_id FROM setting_events
    UNION ALL SELECT 'deficits', market, account_id, asset_id FROM deficits
    UNION ALL SELECT 'indexes', market, NULL, asset_id FROM indexes
    UNION ALL SELECT 'prices', market, NULL, asset_id FROM prices
    UNION ALL SELECT 'params', market, NULL, asset_id FROM params
    UNION ALL SELECT 'liquidations', market, account_id, debt_asset_id FROM canonical.liquidations
    UNION ALL SELECT 'liquidations', market, liquidator_id, collateral_asset_id FROM canonical.liquidations
)
SELECT u.origin, u.market, CASE WHEN p.account_id IS NULL THEN u.account_id END AS account_id, CASE WHEN a.asset_id IS NULL THEN u.asset_id END AS asset_id,
    count(*) AS rows
FROM used AS u
LEFT JOIN accounts AS p ON p.market = u.market AND p.account_id = u.account_id
LEFT JOIN assets AS a ON a.market = u.market AND a.asset_id = u.asset_id
WHERE (u.account_id IS NOT NULL AND p.account_id IS NULL) OR (u.asset_id IS NOT NULL AND a.asset_id IS NULL)
GROUP BY ALL
