-- Purpose: who won each opportunity that was bid for in stored replays, against how many, and what it paid.
-- Grain: (run_id, ordinal).
-- Columns:
--   run_id: the replay
--   opportunity: number of the opportunity within the replay (opportunities)
--   ordinal: the liquidation (run_liquidations)
--   timestamp: seconds since 1970
--   rivals: number of others who bid; where somebody copied the winner's transaction, who made it is one of them
--   winner: name of the searcher that won
--   value_base: what the opportunity leaves the winner before its bid, base-currency units
--   bid_base: the winner's bid, base-currency units
--   paid_base: what the winner paid in the end, base-currency units
--   share: bid over value, DOUBLE; null where the value is not above zero
SELECT run_id, opportunity, ordinal, timestamp, count(*) OVER (PARTITION BY run_id, ordinal) - 1 AS rivals, searcher AS winner, value_base, bid_base,
    paid_base, CASE WHEN value_base > 0 THEN bid_base::DOUBLE / value_base::DOUBLE END AS share
FROM run_bids WHERE ordinal IS NOT NULL QUALIFY won
