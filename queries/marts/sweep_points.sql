-- Purpose: each parameter set of a sweep over its windows: mean with its interval, and worst case, those held out apart.
-- Grain: (sweep_id, point, response, held_out, measure).
-- Columns:
--   sweep_id: the sweep
--   point: number of the parameter set
--   response: what users do
--   held_out: whether these are the windows kept apart
--   measure: as in sweep_measures
--   unit: of all amounts here: base (base-currency units), number, seconds, points or bps
--   windows: number of windows that have a run, each counted once for every seed
--   complete: whether that is all windows; an incomplete set is in no front and no ranking
--   total: sum over windows
--   mean: mean over windows, DOUBLE
--   half_width: of the 95 % interval (Student's t) by which the set differs from the mean of all complete sets, DOUBLE: over windows, each the mean of its seeds; of a single window over its seeds; null with a single one of these, and of incomplete sets
--   worst: the worst window's
--   worst_window: its name, the first in order of names where several are equal
--   total_cost: the sum with its sign turned where more is better
--   worst_cost: the worst with its sign turned where more is better
WITH planned AS (
    SELECT sweep_id, held_out, count(*) AS windows FROM results.sweep_windows GROUP BY sweep_id, held_out
), counted AS (
    SELECT m.*, count(*) OVER (PARTITION BY m.sweep_id, m.point, m.response, m.held_out, m.measure) AS found, p.windows, u.unit AS apart
    FROM sweep_measures AS m JOIN planned AS p USING (sweep_id, held_out) JOIN sweep_units AS u USING (sweep_id, "window")
), apart AS (
    SELECT *, amount::DOUBLE - (sum(amount) FILTER (found = windows) OVER same)::DOUBLE / count(*) FILTER (found = windows) OVER same AS difference
    FROM counted WINDOW same AS (PARTITION BY sweep_id, response, "window", measure)
), units AS (
    SELECT sweep_id, point, response, held_out, measure, apart, avg(difference ORDER BY "window") AS difference
    FROM apart GROUP BY sweep_id, point, response, held_out, measure, apart
), spread AS (
    SELECT sweep_id, point, response, held_out, measure, count(*) AS units, stddev_samp(difference ORDER BY apart) / sqrt(count(*)) AS standard_error
    FROM units GROUP BY sweep_id, point, response, held_out, measure
), summed AS (
    SELECT sweep_id, point, response, held_out, measure, any_value(unit) AS unit, count(*) AS windows, count(*) = any_value(windows) AS complete,
        sum(amount)::DECIMAL(38, 0) AS total, sum(amount)::DOUBLE / count(*) AS mean,
        first(amount ORDER BY cost DESC, "window") AS worst, first("window" ORDER BY cost DESC, "window") AS worst_window,
        sum(cost)::DECIMAL(38, 0) AS total_cost, max(cost) AS worst_cost
    FROM apart GROUP BY sweep_id, point, response, held_out, measure
)
SELECT s.sweep_id, s.point, s.response, s.held_out, s.measure, s.unit, s.windows, s.complete, s.total, s.mean,
    CASE WHEN s.complete THEN t.t * e.standard_error END AS half_width, s.worst, s.worst_window, s.total_cost, s.worst_cost
FROM summed AS s JOIN spread AS e USING (sweep_id, point, response, held_out, measure) LEFT JOIN student_t AS t ON t.degrees = least(e.units - 1, 1000)
