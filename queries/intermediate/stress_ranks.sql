-- Purpose: which losses of a sorted case are its value at risk and the ends of its 95 % interval, exact for any distribution: the number of losses up to the quantile is binomial.
-- Grain: (paths, level); numbers of paths that some case of a stress has.
-- Columns:
--   paths: number of paths
--   level: percentile, basis points: 9500 or 9900
--   rank: of the value at risk, from 1, the least loss first
--   low_rank: of the lower end; null: too few paths
--   high_rank: of the upper end; null: too few paths
WITH sizes AS (
    SELECT DISTINCT count(*) AS paths FROM stress_paths WHERE error IS NULL GROUP BY stress_id, ordinal
), levels AS (
    SELECT paths, level, level / 10000 AS share FROM sizes CROSS JOIN (VALUES (9500), (9900)) AS of_level(level)
), chances AS (
    SELECT paths, level, count_of, exp(lgamma(paths + 1) - lgamma(count_of + 1) - lgamma(paths - count_of + 1) + count_of * ln(share) + (paths - count_of) * ln(1 - share)) AS chance
    FROM (SELECT paths, level, share, unnest(range(paths + 1)) AS count_of FROM levels)
), summed AS (
    SELECT paths, level, count_of, sum(chance) OVER (PARTITION BY paths, level ORDER BY count_of) AS up_to,
        sum(chance) OVER (PARTITION BY paths, level ORDER BY count_of DESC) - chance AS beyond
    FROM chances
)
SELECT paths, level, (paths * level + 9999) // 10000 AS rank, max(count_of + 1) FILTER (up_to <= 0.025) AS low_rank,
    min(count_of + 1) FILTER (beyond <= 0.025 AND count_of < paths) AS high_rank
FROM summed GROUP BY paths, level
