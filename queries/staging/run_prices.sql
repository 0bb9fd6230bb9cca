-- Purpose: where prices answer to sales: the three prices of each such asset in stored replays, from each change on.
-- Grain: (run_id, step).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   step: numbers a run's changes in order
--   block_number: block
--   log_index: of the event of history that it follows; -1: at the start of the block
--   timestamp: seconds since 1970
--   asset: address of the asset
--   history_price: the oracle's in history, base units a whole token in the market's price decimals; null where there was none
--   oracle_price: the oracle's in this replay, which decides who may be liquidated
--   market_price: what the asset trades at in this replay, before a further sale
--   reason: history (its oracle), market (its market price), sale, time (buyers came back), or a round by the oracle's rule: deviation, heartbeat, period, window
SELECT run_id, market, step, block_number, log_index, timestamp, asset, history_price, oracle_price, market_price, reason
FROM results.run_prices
