-- Purpose: collateral flags are 0 or 1 and name an asset; e-modes and terms of debt are not negative (what a call moved may be).
-- Grain: (market, seq, account_id, setting).
-- Columns:
--   market: name of the market
--   seq: the event
--   account_id: account
--   setting: name of the setting
--   value: its value
SELECT market, seq, account_id, setting, value
FROM setting_events
WHERE (setting = 'collateral_enabled' AND (value NOT IN (0, 1) OR asset_id IS NULL)) OR (value < 0 AND setting <> 'stable_moved')
