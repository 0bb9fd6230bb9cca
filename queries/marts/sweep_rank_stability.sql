-- Purpose: whether windows agree about which parameter sets of a sweep are better: Spearman's rank correlation of each two windows.
-- Grain: (sweep_id, response, measure, window, other_window), each two windows once.
-- Columns:
--   sweep_id: the sweep
--   response: what users do
--   measure: as in sweep_measures
--   window: the one that comes first in the sweep
--   other_window: the other
--   held_out: whether one of them is kept apart
--   points: number of parameter sets that both rank
--   correlation: from -1 to 1, DOUBLE; null where all sets are equal in one of them
WITH ranked AS (
    SELECT r.*, w.ordinal FROM sweep_ranks AS r JOIN results.sweep_windows AS w ON w.sweep_id = r.sweep_id AND w.name = r."window"
)
SELECT a.sweep_id, a.response, a.measure, a."window", b."window" AS other_window, a.held_out OR b.held_out AS held_out, count(*) AS points,
    CASE WHEN count(DISTINCT a.rank) > 1 AND count(DISTINCT b.rank) > 1 THEN corr(a.rank, b.rank) END AS correlation
FROM ranked AS a JOIN ranked AS b ON b.sweep_id = a.sweep_id AND b.response = a.response AND b.measure = a.measure AND b.point = a.point
    AND a.ordinal < b.ordinal
GROUP BY a.sweep_id, a.response, a.measure, a."window", b."window", a.held_out OR b.held_out
