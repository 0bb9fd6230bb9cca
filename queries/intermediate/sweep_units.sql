-- Purpose: what the intervals of a sweep are over: its windows, each the mean of its seeds; of a single window its seeds.
-- Grain: (sweep_id, window).
-- Columns:
--   sweep_id: the sweep
--   window: name of the window, with its seed where combinations are repeated
--   unit: name of what it counts for in intervals: rows of one unit are averaged
SELECT sweep_id, name AS "window",
    CASE WHEN count(DISTINCT coalesce("of", name)) OVER (PARTITION BY sweep_id, held_out) > 1 THEN coalesce("of", name) ELSE name END AS unit
FROM results.sweep_windows
