-- Purpose: totals of stored replays at the end of sampled blocks.
-- Grain: (run_id, block_number).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block
--   collateral_base: base-currency units
--   debt_base: base-currency units
--   liquidatable_debt_base: debt of accounts with a health below one, base-currency units
--   bad_debt_base: debt above the collateral of its account, base-currency units
--   deficit_base: debt written off so far, base-currency units
--   accounts_liquidatable: number of accounts with a health below one
SELECT run_id, market, block_number, timestamp, collateral_base, debt_base, liquidatable_debt_base, bad_debt_base, deficit_base, accounts_liquidatable
FROM results.run_totals
