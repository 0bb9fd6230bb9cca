-- Purpose: debt written off in stored replays.
-- Grain: (run_id, ordinal).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   ordinal: number within the run, from 0
--   seq: event after which it happened
--   block_number: block
--   timestamp: seconds since 1970, of the block
--   account: address of the borrower
--   asset: address of the debt asset
--   amount: native units, exact
--   amount_base: base-currency units at the oracle price
SELECT run_id, market, ordinal, seq, block_number, timestamp, account, asset, amount, amount_base
FROM results.run_deficits
