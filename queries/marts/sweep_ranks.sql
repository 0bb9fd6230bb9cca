-- Purpose: the place of each parameter set of a sweep in each window.
-- Grain: (sweep_id, point, response, window, measure); sets that lack a window, held out or not, are left out.
-- Columns:
--   sweep_id: the sweep
--   point: number of the parameter set
--   response: what users do
--   window: name of the window
--   held_out: whether the window is kept apart
--   measure: as in sweep_measures
--   place: 1 is best; equal sets share the best of their places
--   rank: the same, equal sets share the mean of their places, DOUBLE
--   points: number of sets that are ranked
WITH whole AS (
    SELECT m.*, count(*) OVER (PARTITION BY m.sweep_id, m.point, m.response, m.measure) AS found FROM sweep_measures AS m
), planned AS (
    SELECT sweep_id, count(*) AS windows FROM results.sweep_windows GROUP BY sweep_id
), placed AS (
    SELECT w.*, rank() OVER (PARTITION BY w.sweep_id, w.response, w."window", w.measure ORDER BY w.cost) AS place,
        count(*) OVER (PARTITION BY w.sweep_id, w.response, w."window", w.measure, w.cost) AS equal,
        count(*) OVER (PARTITION BY w.sweep_id, w.response, w."window", w.measure) AS points
    FROM whole AS w JOIN planned AS p ON p.sweep_id = w.sweep_id AND p.windows = w.found
)
SELECT sweep_id, point, response, "window", held_out, measure, place, place + (equal - 1) / 2 AS rank, points FROM placed
