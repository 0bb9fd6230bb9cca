-- Purpose: each parameter set of a sweep over its windows: mean and worst case, those held out apart.
-- Grain: (sweep_id, point, response, held_out, measure).
-- Columns:
--   sweep_id: the sweep
--   point: number of the parameter set
--   response: what users do
--   held_out: whether these are the windows kept apart
--   measure: bad_debt, borrower_loss, borrowing_power or repaid
--   windows: number of windows that have a run
--   complete: whether that is all windows; an incomplete set is in no front and no ranking
--   total_base: sum over windows, base-currency units
--   mean_base: mean over windows, base-currency units, DOUBLE
--   worst_base: the worst window's, base-currency units
--   worst_window: its name, the first in order of names where several are equal
--   total_cost_base: the sum with its sign turned where more is better, base-currency units
--   worst_cost_base: the worst with its sign turned where more is better, base-currency units
WITH planned AS (
    SELECT sweep_id, held_out, count(*) AS windows FROM results.sweep_windows GROUP BY sweep_id, held_out
)
SELECT m.sweep_id, m.point, m.response, m.held_out, m.measure, count(*) AS windows, count(*) = any_value(p.windows) AS complete,
    sum(m.amount_base)::DECIMAL(38, 0) AS total_base, sum(m.amount_base)::DOUBLE / count(*) AS mean_base,
    first(m.amount_base ORDER BY m.cost_base DESC, m."window") AS worst_base, first(m."window" ORDER BY m.cost_base DESC, m."window") AS worst_window,
    sum(m.cost_base)::DECIMAL(38, 0) AS total_cost_base, max(m.cost_base) AS worst_cost_base
FROM sweep_measures AS m JOIN planned AS p USING (sweep_id, held_out) GROUP BY m.sweep_id, m.point, m.response, m.held_out, m.measure
