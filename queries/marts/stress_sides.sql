-- Purpose: both sides of what a stress's scenario changes, path by path against the stress of the same draws that changes nothing.
-- Grain: (stress_id, ordinal); stresses that change something, and of which the other one is stored.
-- Columns:
--   stress_id: the stress
--   market: name of the market
--   ordinal: the case
--   case_name: its name
--   changes: what the scenario changes, in words
--   without_id: the stress of the same draws that changes nothing
--   paths: number of paths that have an outcome in both
--   better: number of paths with less bad debt
--   worse: number of paths with more
--   bad_debt_avoided_base: mean over the paths of bad debt that is less than without, base-currency units, DOUBLE
--   bad_debt_brought_base: mean over the paths of bad debt that is more than without, DOUBLE
--   spared_base: mean over the paths of debt liquidated less than without, DOUBLE
--   hurt_base: mean over the paths of debt liquidated more than without, DOUBLE
--   borrowing_power_given_up_base: what all accounts may owe before any path, less than without (negative: more), base-currency units
--   var99_change_base: value at risk of bad debt, less that without, base-currency units
WITH plain AS (
    SELECT draws, min(stress_id) AS without_id FROM stress_books WHERE changes = '' GROUP BY draws
), compared AS (
    SELECT b.stress_id, b.market, p.ordinal, b.changes, w.without_id, p.added_bad_debt_base - o.added_bad_debt_base AS bad, p.repaid_base - o.repaid_base AS repaid
    FROM stress_books AS b JOIN plain AS w USING (draws) JOIN stress_paths AS p ON p.stress_id = b.stress_id
    JOIN stress_paths AS o ON o.stress_id = w.without_id AND o.ordinal = p.ordinal AND o.path = p.path
    WHERE b.changes <> '' AND p.error IS NULL AND o.error IS NULL
)
SELECT c.stress_id, c.market, c.ordinal, l.case_name, c.changes, c.without_id, count(*) AS paths, count(*) FILTER (c.bad < 0) AS better, count(*) FILTER (c.bad > 0) AS worse,
    avg(greatest(-c.bad, 0)) AS bad_debt_avoided_base, avg(greatest(c.bad, 0)) AS bad_debt_brought_base,
    avg(greatest(-c.repaid, 0)) AS spared_base, avg(greatest(c.repaid, 0)) AS hurt_base,
    any_value(w.borrowing_power_base - b.borrowing_power_base)::DECIMAL(38, 0) AS borrowing_power_given_up_base,
    any_value(l.var99_base - o.var99_base)::DECIMAL(38, 0) AS var99_change_base
FROM compared AS c JOIN stress_books AS b ON b.stress_id = c.stress_id JOIN stress_books AS w ON w.stress_id = c.without_id
JOIN stress_losses AS l ON l.stress_id = c.stress_id AND l.ordinal = c.ordinal JOIN stress_losses AS o ON o.stress_id = c.without_id AND o.ordinal = c.ordinal
GROUP BY c.stress_id, c.market, c.ordinal, l.case_name, c.changes, c.without_id
