-- Purpose: the parameter sets of a sweep under each response of users, and which are not dominated: none is at least as good in every objective and better in one.
-- Grain: (sweep_id, point, response, held_out); sets that lack a window or an objective are left out.
-- Columns:
--   sweep_id: the sweep
--   point: number of the parameter set
--   response: what users do
--   held_out: whether these are the windows kept apart
--   parameters: its values, as text
--   bad_debt_base: mean over windows, base-currency units, DOUBLE; null where it is no objective of the sweep, as those below (sweep_points has every objective)
--   borrower_loss_base: mean over windows, base-currency units, DOUBLE
--   borrowing_power_base: mean over windows, base-currency units, DOUBLE
--   repaid_base: mean over windows of the liquidated volume, base-currency units, DOUBLE
--   worst_bad_debt_base: in its worst window, base-currency units
--   worst_borrower_loss_base: in its worst window, base-currency units
--   on_front: not dominated by the means
--   on_worst_front: not dominated by the worst windows
--   dominated_by: the lowest number of a set of the front that dominates it beyond the interval: in each objective their difference is zero in every window, or the 95 % interval of its mean (Student's t; over windows, each the mean of its seeds, or over the seeds of a single window) lies on the better side; null where none does, and with a single window and seed
--   standing: not dominated, dominated, or not told apart: beaten by the means, and by no set of the front beyond the interval
-- Most sets are beaten by one of the 50 with the best ranks; others are compared with each other, since what beats them is among them.
WITH measures AS MATERIALIZED (
    SELECT * FROM sweep_measures
), points AS MATERIALIZED (
    SELECT * FROM sweep_points WHERE complete
), wanted AS (
    SELECT sweep_id, count(*) AS objectives FROM results.sweep_objectives GROUP BY sweep_id
), flat AS (
    SELECT sweep_id, point, response, held_out, any_value(objectives) AS objectives,
        max(mean) FILTER (measure = 'bad_debt') AS bad_debt_base, max(mean) FILTER (measure = 'borrower_loss') AS borrower_loss_base,
        max(mean) FILTER (measure = 'borrowing_power') AS borrowing_power_base, max(mean) FILTER (measure = 'repaid') AS repaid_base,
        max(worst) FILTER (measure = 'bad_debt') AS worst_bad_debt_base, max(worst) FILTER (measure = 'borrower_loss') AS worst_borrower_loss_base
    FROM points JOIN wanted USING (sweep_id) GROUP BY sweep_id, point, response, held_out HAVING count(*) = any_value(objectives)
), costs AS MATERIALIZED (
    SELECT p.sweep_id, p.response, p.held_out, p.point, list(p.total_cost ORDER BY p.measure) AS total, list(p.worst_cost ORDER BY p.measure) AS worst,
        row_number() OVER (PARTITION BY p.sweep_id, p.response, p.held_out ORDER BY sum(p.rank), p.point) AS place
    FROM (SELECT *, rank() OVER (PARTITION BY sweep_id, response, held_out, measure ORDER BY total_cost) AS rank FROM points) AS p
    JOIN flat AS f USING (sweep_id, point, response, held_out) GROUP BY p.sweep_id, p.response, p.held_out, p.point
), early_beaten AS MATERIALIZED (
    SELECT DISTINCT m.sweep_id, m.response, m.held_out, m.point FROM costs AS m JOIN costs AS o USING (sweep_id, response, held_out)
    WHERE o.place <= 50 AND o.total <> m.total AND len(list_filter(list_zip(o.total, m.total), lambda pair: pair[1] > pair[2])) = 0
), late_beaten AS MATERIALIZED (
    SELECT * FROM costs ANTI JOIN early_beaten USING (sweep_id, response, held_out, point)
), beaten AS MATERIALIZED (
    SELECT * FROM early_beaten
    UNION SELECT m.sweep_id, m.response, m.held_out, m.point FROM late_beaten AS m JOIN late_beaten AS o USING (sweep_id, response, held_out)
    WHERE o.total <> m.total AND len(list_filter(list_zip(o.total, m.total), lambda pair: pair[1] > pair[2])) = 0
), early_beaten_worst AS MATERIALIZED (
    SELECT DISTINCT m.sweep_id, m.response, m.held_out, m.point FROM costs AS m JOIN costs AS o USING (sweep_id, response, held_out)
    WHERE o.place <= 50 AND o.worst <> m.worst AND len(list_filter(list_zip(o.worst, m.worst), lambda pair: pair[1] > pair[2])) = 0
), late_beaten_worst AS MATERIALIZED (
    SELECT * FROM costs ANTI JOIN early_beaten_worst USING (sweep_id, response, held_out, point)
), beaten_worst AS MATERIALIZED (
    SELECT * FROM early_beaten_worst
    UNION SELECT m.sweep_id, m.response, m.held_out, m.point FROM late_beaten_worst AS m JOIN late_beaten_worst AS o USING (sweep_id, response, held_out)
    WHERE o.worst <> m.worst AND len(list_filter(list_zip(o.worst, m.worst), lambda pair: pair[1] > pair[2])) = 0
), front AS (
    SELECT * FROM costs ANTI JOIN beaten USING (sweep_id, response, held_out, point)
), pairs AS MATERIALIZED (
    SELECT m.sweep_id, m.response, m.held_out, m.point, o.point AS other FROM costs AS m JOIN front AS o USING (sweep_id, response, held_out)
    WHERE o.total <> m.total AND len(list_filter(list_zip(o.total, m.total), lambda pair: pair[1] > pair[2])) = 0
), mine AS MATERIALIZED (
    SELECT p.*, m."window", m.measure, m.cost FROM pairs AS p JOIN measures AS m USING (sweep_id, response, held_out, point)
), each AS (
    SELECT m.sweep_id, m.response, m.held_out, m.point, m.other, m.measure, u.unit, bool_and(m.cost = o.cost) AS equal,
        sum(m.cost - o.cost)::DOUBLE / count(*) AS difference
    FROM mine AS m JOIN measures AS o ON o.sweep_id = m.sweep_id AND o.response = m.response AND o.held_out = m.held_out AND o.point = m.other
        AND o."window" = m."window" AND o.measure = m.measure
    JOIN sweep_units AS u ON u.sweep_id = m.sweep_id AND u."window" = m."window"
    GROUP BY m.sweep_id, m.response, m.held_out, m.point, m.other, m.measure, u.unit
), differences AS (
    SELECT sweep_id, response, held_out, point, other, measure, count(*) AS units, bool_and(equal) AS equal, avg(difference ORDER BY unit) AS mean,
        stddev_samp(difference ORDER BY unit) / sqrt(count(*)) AS standard_error
    FROM each GROUP BY sweep_id, response, held_out, point, other, measure
), sure AS (
    SELECT d.sweep_id, d.response, d.held_out, d.point, d.other FROM differences AS d LEFT JOIN student_t AS t ON t.degrees = least(d.units - 1, 1000)
    GROUP BY d.sweep_id, d.response, d.held_out, d.point, d.other
    HAVING bool_and(coalesce(d.units > 1 AND (d.equal OR d.mean - t.t * d.standard_error > 0), false))
), dominated AS (
    SELECT sweep_id, response, held_out, point, min(other) AS dominated_by FROM sure GROUP BY sweep_id, response, held_out, point
), named AS (
    SELECT sweep_id, point, string_agg(axis || '=' || value, ', ' ORDER BY axis) AS parameters FROM sweep_values GROUP BY sweep_id, point
)
SELECT m.sweep_id, m.point, m.response, m.held_out, coalesce(n.parameters, '') AS parameters, m.bad_debt_base, m.borrower_loss_base,
    m.borrowing_power_base, m.repaid_base, m.worst_bad_debt_base, m.worst_borrower_loss_base, b.point IS NULL AS on_front,
    w.point IS NULL AS on_worst_front, d.dominated_by,
    CASE WHEN d.point IS NOT NULL THEN 'dominated' WHEN b.point IS NOT NULL THEN 'not told apart' ELSE 'not dominated' END AS standing
FROM flat AS m LEFT JOIN named AS n USING (sweep_id, point) LEFT JOIN beaten AS b USING (sweep_id, point, response, held_out)
LEFT JOIN beaten_worst AS w USING (sweep_id, point, response, held_out) LEFT JOIN dominated AS d USING (sweep_id, point, response, held_out)
