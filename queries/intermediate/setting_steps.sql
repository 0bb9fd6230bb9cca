-- Purpose: accounts' settings as they stand at the end of each block that changes any.
-- Grain: (market, account_id, setting, asset_id, block_number); asset_id is -1 for settings of the whole account.
-- Columns:
--   market: name of the market
--   account_id: account
--   setting: name of the setting
--   asset_id: asset, -1 for none
--   block_number: block
--   value: in the unit of the setting
SELECT market, account_id, setting, coalesce(asset_id, -1) AS asset_id, block_number, arg_max(value, seq) AS value
FROM setting_events
GROUP BY ALL
