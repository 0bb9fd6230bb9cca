-- Purpose: what share of an opportunity's value the winner bids, by the number of rivals, in stored replays.
-- Grain: (run_id, rivals); contests in which the winner's value is not above zero are left out.
-- Columns:
--   run_id: the replay
--   rivals: number of others who bid
--   contests: number of contests
--   mean_share: mean of the winner's bid over its value, DOUBLE
--   standard_error: of the mean, DOUBLE; null for one contest
--   low: lower end of its 95 % interval (Student's t, cut at 0 and 1), DOUBLE; null for one contest
--   high: upper end, DOUBLE; null for one contest
--   median_share: median, DOUBLE
--   bid_base: sum of the winners' bids, base-currency units
--   value_base: sum of their values, base-currency units
WITH summed AS (
    SELECT run_id, rivals, count(*) AS contests, avg(share) AS mean_share, stddev_samp(share) / sqrt(count(*)) AS standard_error,
        median(share) AS median_share, sum(bid_base)::DECIMAL(38, 0) AS bid_base, sum(value_base)::DECIMAL(38, 0) AS value_base
    FROM run_contests WHERE share IS NOT NULL GROUP BY run_id, rivals
)
SELECT run_id, rivals, contests, mean_share, standard_error, greatest(mean_share - t * standard_error, least(mean_share, 0)) AS low,
    least(mean_share + t * standard_error, greatest(mean_share, 1)) AS high, median_share,
    bid_base, value_base
FROM summed LEFT JOIN student_t ON degrees = least(contests - 1, 1000)
