-- Purpose: changes of scaled balances; their sum up to a point is the balance there.
-- Grain: one change; several may share a seq.
-- Columns:
--   market: name of the market
--   seq: the event that made the change
--   block_number: block
--   log_index: index of the log within the block
--   timestamp: seconds since 1970, of the block
--   account_id: whose balance
--   asset_id: of which asset
--   side: collateral or debt
--   delta: change in scaled units (native units divided by an index), exact, signed
--   action: what the user did: supply, withdraw, borrow, repay, transfer, liquidation, treasury, other
--   action_seq: seq of the event that closes the action
SELECT market, seq, block_number, log_index, timestamp, account_id, asset_id, side, delta, action, action_seq
FROM canonical.position_events
