-- Purpose: how far the overrides of stored replays reach when they take effect, or at the end of the window where nobody had debt then.
-- Grain: (run_id, override).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   override: the override in words
--   accounts: accounts with debt whose health or borrowing power it changed
--   accounts_with_debt: all accounts with debt then
--   accounts_in_emode: accounts with debt in an e-mode, which an override of base parameters leaves alone
SELECT run_id, market, override, accounts, accounts_with_debt, accounts_in_emode
FROM results.run_reach
