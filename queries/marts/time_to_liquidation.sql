-- Purpose: how long opportunities of stored replays last until somebody takes them.
-- Grain: run_id.
-- Columns:
--   run_id: the replay
--   opportunities: number of opportunities
--   taken: number that were taken
--   expired: number whose owner acted, whose price came back, or that a mitigation withheld
--   still_open: number that were open at the end of the window
--   at_once: number that were taken in the second in which they were first seen
--   mean_seconds: from first seen to taken, mean over those taken, DOUBLE; null without any
--   median_seconds: median over those taken, the lower of two; null without any
--   p90_seconds: 90 % of those taken were taken by then; null without any
--   p99_seconds: 99 % of those taken were taken by then; null without any
--   longest_seconds: the longest of those taken; null without any
--   median_blocks: median over those taken, the lower of two; null without any
--   half_taken_seconds: when half of all opportunities were taken, by liquidation_curve; null where that never happened
-- The share is DOUBLE: half is half within 1e-9.
WITH half AS (
    SELECT run_id, min(seconds) AS seconds FROM liquidation_curve WHERE taken_share >= 0.5 - 1e-9 GROUP BY run_id
)
SELECT o.run_id, count(*) AS opportunities, count(*) FILTER (ending = 'taken') AS taken, count(*) FILTER (ending = 'expired') AS expired,
    count(*) FILTER (ending = 'missed') AS still_open, count(*) FILTER (ending = 'taken' AND o.seconds = 0) AS at_once,
    avg(o.seconds) FILTER (ending = 'taken') AS mean_seconds, quantile_disc(o.seconds, 0.5) FILTER (ending = 'taken') AS median_seconds,
    quantile_disc(o.seconds, 0.9) FILTER (ending = 'taken') AS p90_seconds, quantile_disc(o.seconds, 0.99) FILTER (ending = 'taken') AS p99_seconds,
    max(o.seconds) FILTER (ending = 'taken') AS longest_seconds, quantile_disc(blocks, 0.5) FILTER (ending = 'taken') AS median_blocks,
    any_value(half.seconds) AS half_taken_seconds
FROM opportunities AS o LEFT JOIN half ON half.run_id = o.run_id GROUP BY o.run_id
