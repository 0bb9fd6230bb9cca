-- Purpose: debt that the protocol wrote off (created) or made good later (covered).
-- Grain: one event.
-- Columns:
--   market: name of the market
--   seq: the event
--   block_number: block
--   log_index: index of the log within the block
--   timestamp: seconds since 1970, of the block
--   account_id: whose debt was written off, or who covered it
--   asset_id: asset
--   amount: native units, exact
--   kind: created or covered
--   liquidation_seq: the liquidation that created it
SELECT market, seq, block_number, log_index, timestamp, account_id, asset_id, amount, kind, liquidation_seq
FROM canonical.deficits
