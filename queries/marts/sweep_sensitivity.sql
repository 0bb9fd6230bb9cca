-- Purpose: how much each axis of a sweep moves each measure, over the windows that are not held out.
-- Grain: (sweep_id, response, measure, axis).
-- Columns:
--   sweep_id: the sweep
--   response: what users do
--   measure: bad_debt, borrower_loss, borrowing_power or repaid
--   axis: name of the axis
--   points: number of complete parameter sets
--   rank_correlation: Spearman's, of the axis's number with the measure's sum over windows, DOUBLE; null for an axis of words, and where either is the same everywhere
--   effect_base: the measure's mean at the level where it is highest, less that where it is lowest, base-currency units, DOUBLE
--   place: 1 moves the measure most, by effect
WITH each AS (
    SELECT p.sweep_id, p.response, p.measure, p.point, p.total_base, p.mean_base, v.axis, v.level, v.number
    FROM sweep_points AS p JOIN sweep_values AS v USING (sweep_id, point) WHERE p.complete AND NOT p.held_out
), ranked AS (
    SELECT *, rank() OVER by_value + (count(*) OVER same_value - 1) / 2 AS value_rank,
        rank() OVER by_total + (count(*) OVER same_total - 1) / 2 AS total_rank
    FROM each WINDOW by_value AS (PARTITION BY sweep_id, response, measure, axis ORDER BY number),
        same_value AS (PARTITION BY sweep_id, response, measure, axis, number),
        by_total AS (PARTITION BY sweep_id, response, measure, axis ORDER BY total_base),
        same_total AS (PARTITION BY sweep_id, response, measure, axis, total_base)
), levels AS (
    SELECT sweep_id, response, measure, axis, level, avg(mean_base) AS mean FROM each GROUP BY ALL
), effects AS (
    SELECT sweep_id, response, measure, axis, max(mean) - min(mean) AS effect FROM levels GROUP BY sweep_id, response, measure, axis
), correlated AS (
    SELECT sweep_id, response, measure, axis, count(*) AS points,
        CASE WHEN count(number) = count(*) AND count(DISTINCT number) > 1 AND count(DISTINCT total_base) > 1 THEN corr(value_rank, total_rank) END
            AS correlation
    FROM ranked GROUP BY sweep_id, response, measure, axis
)
SELECT c.sweep_id, c.response, c.measure, c.axis, c.points, c.correlation AS rank_correlation, e.effect AS effect_base,
    rank() OVER (PARTITION BY c.sweep_id, c.response, c.measure ORDER BY e.effect DESC) AS place
FROM correlated AS c JOIN effects AS e USING (sweep_id, response, measure, axis)
