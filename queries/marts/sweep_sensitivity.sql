-- Purpose: how much each axis of a sweep, of numbers or of words, moves each measure, over the windows that are not held out.
-- Grain: (sweep_id, response, measure, axis).
-- Columns:
--   sweep_id: the sweep
--   response: what users do; all: over every response together, where there are several: then users is an axis too
--   measure: as in sweep_measures
--   unit: of the effect: base (base-currency units), number, seconds, points or bps
--   axis: name of the axis; users: what users do
--   points: number of complete parameter sets; of all: times responses, without sets that lack one of them
--   rank_correlation: Spearman's, of the axis's number with the measure's sum over windows, DOUBLE; null for an axis of words, and where either is the same everywhere
--   rank_share: share of the variance of the measure's ranks that the levels explain (correlation ratio, eta squared), 0 to 1, DOUBLE: of words as of numbers, in whatever order; null where the measure is the same everywhere
--   effect: the measure's mean at the level where it is highest, less that where it is lowest, DOUBLE
--   lowest_value: the value where it is lowest, as text, the first of its axis where several are equal
--   highest_value: the value where it is highest
--   place: 1 moves the measure most, by effect
-- Ranks are halves of whole numbers, whose sums are exact in any order; their mean is half of the number of sets plus one.
WITH points AS (
    SELECT * FROM sweep_points WHERE complete AND NOT held_out
), answered AS (
    SELECT *, dense_rank() OVER (PARTITION BY sweep_id, measure ORDER BY response) - 1 AS level,
        count(*) OVER (PARTITION BY sweep_id, measure, point) AS responses FROM points
), several AS (
    SELECT * FROM answered QUALIFY responses > 1 AND responses = max(level + 1) OVER (PARTITION BY sweep_id, measure)
), each AS (
    SELECT p.sweep_id, p.response, p.measure, p.point, p.unit, p.windows, p.total, v.axis, v.level, v.value, v.number
    FROM points AS p JOIN sweep_values AS v USING (sweep_id, point)
    UNION ALL
    SELECT p.sweep_id, 'all', p.measure, p.point, p.unit, p.windows, p.total, v.axis, v.level, v.value, v.number
    FROM several AS p JOIN sweep_values AS v USING (sweep_id, point)
    UNION ALL
    SELECT sweep_id, 'all', measure, point, unit, windows, total, 'users', level, response, NULL FROM several
), ranked AS (
    SELECT *, rank() OVER by_value + (count(*) OVER same_value - 1) / 2 AS value_rank,
        rank() OVER by_total + (count(*) OVER same_total - 1) / 2 AS total_rank
    FROM each WINDOW by_value AS (PARTITION BY sweep_id, response, measure, axis ORDER BY number),
        same_value AS (PARTITION BY sweep_id, response, measure, axis, number),
        by_total AS (PARTITION BY sweep_id, response, measure, axis ORDER BY total),
        same_total AS (PARTITION BY sweep_id, response, measure, axis, total)
), levels AS (
    SELECT sweep_id, response, measure, axis, level, any_value(value) AS value, sum(total)::DOUBLE / sum(windows) AS mean, count(*) AS sets, avg(total_rank) AS rank
    FROM ranked GROUP BY sweep_id, response, measure, axis, level
), effects AS (
    SELECT sweep_id, response, measure, axis, max(mean) - min(mean) AS effect, first(value ORDER BY mean, level) AS lowest_value,
        first(value ORDER BY mean DESC, level) AS highest_value, sum(sets * (rank - (points + 1) / 2) ** 2 ORDER BY level) AS between_levels
    FROM (SELECT *, sum(sets) OVER (PARTITION BY sweep_id, response, measure, axis) AS points FROM levels)
    GROUP BY sweep_id, response, measure, axis
), centred AS (
    SELECT *, value_rank - (points + 1) / 2 AS v, total_rank - (points + 1) / 2 AS t
    FROM (SELECT *, count(*) OVER (PARTITION BY sweep_id, response, measure, axis) AS points FROM ranked)
), correlated AS (
    SELECT sweep_id, response, measure, axis, any_value(unit) AS unit, count(*) AS points,
        CASE WHEN count(number) = count(*) AND count(DISTINCT number) > 1 AND count(DISTINCT total) > 1
            THEN sum(v * t) / sqrt(sum(v * v) * sum(t * t)) END AS correlation,
        CASE WHEN count(DISTINCT total) > 1 THEN sum(t * t) END AS of_all
    FROM centred GROUP BY sweep_id, response, measure, axis
)
SELECT c.sweep_id, c.response, c.measure, c.unit, c.axis, c.points, c.correlation AS rank_correlation, e.between_levels / c.of_all AS rank_share, e.effect,
    e.lowest_value, e.highest_value, rank() OVER (PARTITION BY c.sweep_id, c.response, c.measure ORDER BY e.effect DESC) AS place
FROM correlated AS c JOIN effects AS e USING (sweep_id, response, measure, axis)
