-- Purpose: what every account is worth in stored replays at the end of each window of run_windows.
-- Grain: (run_id, label, account); accounts that hold or owe something.
-- Columns:
--   run_id: the replay
--   market: name of the market
--   label: end, +1h, +1d or +7d
--   account: address
--   equity_base: collateral minus debt, base-currency units at oracle prices, signed
--   outside_base: what the account took out of the market beyond what it took in history, base-currency units at the same prices, signed; null in runs of older versions
SELECT run_id, market, label, account, equity_base, outside_base
FROM results.run_equity
