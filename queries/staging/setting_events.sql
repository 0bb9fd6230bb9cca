-- Purpose: accounts' own settings: collateral flags, e-modes, and the terms of stable-rate debt (`stable_moved`: the native amount by which the last call changed it, negative where it was paid).
-- Grain: one change; a value holds until the next of the same account, setting and asset.
-- Columns:
--   market: name of the market
--   seq: the event that made the change
--   block_number: block
--   log_index: index of the log within the block
--   timestamp: seconds since 1970, of the block
--   account_id: whose setting
--   setting: collateral_enabled (0 or 1), emode (category), stable_principal (native units), stable_rate (ray a year), stable_since (seconds), stable_loan_rate (ray a year: of the loan alone, where its protocol's log has it)
--   asset_id: of which asset; null for settings of the whole account
--   value: the new value, exact, in the unit of the setting
--   action: what the user did
--   action_seq: seq of the event that closes the action
SELECT market, seq, block_number, log_index, timestamp, account_id, setting, asset_id, value, action, action_seq
FROM canonical.setting_events
