-- Purpose: how often each parameter set of a sweep is among the best k of a window, and how it does in the windows kept apart.
-- Grain: (sweep_id, point, response, measure).
-- Parameters:
--   k: how many places count
-- Columns:
--   sweep_id: the sweep
--   point: number of the parameter set
--   response: what users do
--   measure: as in sweep_measures
--   windows: number of windows that are not kept apart
--   share: share of them in which its place is k or better, DOUBLE
--   held_out_windows: number of windows that are kept apart
--   held_out_share: share of them in which its place is k or better, DOUBLE; null without any
--   worst_place: its worst place in a window that is not kept apart
SELECT sweep_id, point, response, measure, count(*) FILTER (NOT held_out) AS windows,
    count(*) FILTER (NOT held_out AND place <= k) / nullif(count(*) FILTER (NOT held_out), 0) AS share,
    count(*) FILTER (held_out) AS held_out_windows,
    count(*) FILTER (held_out AND place <= k) / nullif(count(*) FILTER (held_out), 0) AS held_out_share,
    max(place) FILTER (NOT held_out) AS worst_place
FROM sweep_ranks GROUP BY sweep_id, point, response, measure
