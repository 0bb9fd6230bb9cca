-- Purpose: accounts and their dense ids.
-- Grain: (market, account_id).
-- Columns:
--   market: name of the market
--   account_id: dense id in order of first appearance
--   account: address, lower-case 0x
SELECT market, account_id, account
FROM canonical.accounts
