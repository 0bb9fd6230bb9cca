-- Purpose: what each case of a stress loses over its paths: value at risk of bad debt, and of what is liquidated.
-- Grain: (stress_id, ordinal); cases that do not concern the market are left out.
-- Columns:
--   stress_id: the stress
--   market: name of the market
--   suite: name of the suite
--   ordinal: the case
--   case_name: its name
--   paths: number of paths that have an outcome
--   losing: number of them that add bad debt
--   mean_base: mean of the bad debt added, base-currency units, DOUBLE
--   median_base: half of the paths add no more, base-currency units
--   var95_base: nineteen paths of twenty add no more, base-currency units
--   var99_base: ninety-nine paths of a hundred add no more, base-currency units
--   worst_base: the worst path's, base-currency units
--   worst_path: its number, the first where several are equal
--   lar95_base: nineteen paths of twenty liquidate no more debt, base-currency units
--   lar99_base: ninety-nine of a hundred liquidate no more debt, base-currency units
--   liquidations: mean number of liquidations, DOUBLE
--   lowest_price: the deepest that any asset came to on any path, basis points of its beginning
SELECT s.stress_id, s.market, s.name AS suite, c.ordinal, c.name AS case_name, count(*) AS paths,
    count(*) FILTER (p.added_bad_debt_base > 0) AS losing, avg(p.added_bad_debt_base) AS mean_base,
    quantile_disc(p.added_bad_debt_base, 0.5) AS median_base, quantile_disc(p.added_bad_debt_base, 0.95) AS var95_base,
    quantile_disc(p.added_bad_debt_base, 0.99) AS var99_base, max(p.added_bad_debt_base) AS worst_base,
    arg_min(p.path, (-p.added_bad_debt_base, p.path)) AS worst_path, quantile_disc(p.repaid_base, 0.95) AS lar95_base,
    quantile_disc(p.repaid_base, 0.99) AS lar99_base, avg(p.liquidations) AS liquidations, min(p.lowest_price) AS lowest_price
FROM stresses AS s JOIN stress_cases AS c USING (stress_id) JOIN stress_paths AS p ON p.stress_id = s.stress_id AND p.ordinal = c.ordinal
WHERE p.error IS NULL GROUP BY s.stress_id, s.market, s.name, c.ordinal, c.name
