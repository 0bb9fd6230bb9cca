-- Purpose: where prices answer to sales: of each block with sales in stored replays how many liquidations sold, in how many rounds until nobody more could be liquidated, and how much of it was endogenous.
-- Grain: (run_id, block_number).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of its first sale
--   liquidations: liquidations that sold
--   rounds: times that liquidators looked after a round of an oracle: one, and each round that history did not have
--   endogenous_liquidations: those that history's oracle prices would not have made
--   repaid_base: debt they repaid, base-currency units
--   endogenous_repaid_base: of the endogenous ones
--   endogenous_share: part of the debt repaid that is endogenous, DOUBLE
WITH each AS (
    SELECT run_id, market, block_number, ordinal, min(timestamp) AS timestamp, min(round) AS round, bool_or(endogenous) AS endogenous
    FROM results.run_sales GROUP BY ALL
)
SELECT run_id, s.market, s.block_number, min(s.timestamp) AS timestamp, count(*) AS liquidations, count(DISTINCT s.round) AS rounds,
    count(*) FILTER (s.endogenous) AS endogenous_liquidations, sum(l.repaid_base)::DECIMAL(38, 0) AS repaid_base,
    coalesce(sum(l.repaid_base) FILTER (s.endogenous), 0)::DECIMAL(38, 0) AS endogenous_repaid_base,
    coalesce(sum(l.repaid_base) FILTER (s.endogenous), 0)::DOUBLE / nullif(sum(l.repaid_base), 0)::DOUBLE AS endogenous_share
FROM each AS s JOIN results.run_liquidations AS l USING (run_id, ordinal) GROUP BY run_id, s.market, s.block_number
