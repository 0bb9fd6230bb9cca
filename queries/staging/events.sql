-- Purpose: every raw event of a market once, in chain order. Numbers that are missing here belong to prices that no log gives.
-- Grain: (market, seq).
-- Columns:
--   market: name of the market
--   seq: number of the event within the market, from 0 (dense together with prices)
--   block_number: block
--   log_index: index of the log within the block
--   timestamp: seconds since 1970, of the block
--   transaction_index: index of the transaction within the block
--   transaction_hash: 32 bytes
--   address: emitting contract, lower-case 0x
--   event: name of the event
SELECT market, seq, block_number, log_index, timestamp, transaction_index, transaction_hash, address, event
FROM canonical.events
