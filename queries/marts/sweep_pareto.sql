-- Purpose: the parameter sets of a sweep under each response of users, and which are not dominated: none is at least as good in every measure and better in one.
-- Grain: (sweep_id, point, response, held_out); sets that lack a window or a measure are left out.
-- Columns:
--   sweep_id: the sweep
--   point: number of the parameter set
--   response: what users do
--   held_out: whether these are the windows kept apart
--   parameters: its values, as text
--   bad_debt_base: mean over windows, base-currency units, DOUBLE
--   borrower_loss_base: mean over windows, base-currency units, DOUBLE
--   borrowing_power_base: mean over windows, base-currency units, DOUBLE
--   repaid_base: mean over windows of the liquidated volume, base-currency units, DOUBLE
--   worst_bad_debt_base: in its worst window, base-currency units
--   worst_borrower_loss_base: in its worst window, base-currency units
--   on_front: not dominated by the means
--   on_worst_front: not dominated by the worst windows
WITH flat AS (
    SELECT sweep_id, point, response, held_out,
        max(mean_base) FILTER (measure = 'bad_debt') AS bad_debt_base, max(mean_base) FILTER (measure = 'borrower_loss') AS borrower_loss_base,
        max(mean_base) FILTER (measure = 'borrowing_power') AS borrowing_power_base, max(mean_base) FILTER (measure = 'repaid') AS repaid_base,
        max(worst_base) FILTER (measure = 'bad_debt') AS worst_bad_debt_base,
        max(worst_base) FILTER (measure = 'borrower_loss') AS worst_borrower_loss_base,
        max(total_cost_base) FILTER (measure = 'bad_debt') AS a, max(total_cost_base) FILTER (measure = 'borrower_loss') AS b,
        max(total_cost_base) FILTER (measure = 'borrowing_power') AS c, max(total_cost_base) FILTER (measure = 'repaid') AS d,
        max(worst_cost_base) FILTER (measure = 'bad_debt') AS e, max(worst_cost_base) FILTER (measure = 'borrower_loss') AS f,
        max(worst_cost_base) FILTER (measure = 'borrowing_power') AS g, max(worst_cost_base) FILTER (measure = 'repaid') AS h
    FROM sweep_points WHERE complete GROUP BY sweep_id, point, response, held_out HAVING count(*) = 4
), named AS (
    SELECT sweep_id, point, string_agg(axis || '=' || value, ', ' ORDER BY axis) AS parameters FROM sweep_values GROUP BY sweep_id, point
), dominated AS (
    SELECT DISTINCT m.sweep_id, m.point, m.response, m.held_out
    FROM flat AS m JOIN flat AS o ON o.sweep_id = m.sweep_id AND o.response = m.response AND o.held_out = m.held_out
        AND o.a <= m.a AND o.b <= m.b AND o.c <= m.c AND o.d <= m.d AND (o.a < m.a OR o.b < m.b OR o.c < m.c OR o.d < m.d)
), worse AS (
    SELECT DISTINCT m.sweep_id, m.point, m.response, m.held_out
    FROM flat AS m JOIN flat AS o ON o.sweep_id = m.sweep_id AND o.response = m.response AND o.held_out = m.held_out
        AND o.e <= m.e AND o.f <= m.f AND o.g <= m.g AND o.h <= m.h AND (o.e < m.e OR o.f < m.f OR o.g < m.g OR o.h < m.h)
)
SELECT m.sweep_id, m.point, m.response, m.held_out, coalesce(n.parameters, '') AS parameters, m.bad_debt_base, m.borrower_loss_base,
    m.borrowing_power_base, m.repaid_base, m.worst_bad_debt_base, m.worst_borrower_loss_base, x.point IS NULL AS on_front,
    y.point IS NULL AS on_worst_front
FROM flat AS m LEFT JOIN named AS n USING (sweep_id, point) LEFT JOIN dominated AS x USING (sweep_id, point, response, held_out)
LEFT JOIN worse AS y USING (sweep_id, point, response, held_out)
