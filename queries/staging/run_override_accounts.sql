-- Purpose: accounts that an override itself made liquidatable in stored replays: healthy right before it took effect, not right after.
-- Grain: one account at one moment.
-- Columns:
--   run_id: the replay
--   market: name of the market
--   account: address
--   block_number: block
--   timestamp: seconds since 1970, of the block
--   debt_base: its debt then, base-currency units
SELECT run_id, market, account, block_number, timestamp, debt_base
FROM results.run_override_accounts
