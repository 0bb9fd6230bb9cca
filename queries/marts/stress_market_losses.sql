-- Purpose: what each market of a stress of several loses over the paths of a case, together with the others and alone.
-- Grain: (stress_id, ordinal, of_market); under of_market null all of them: the sum on each path.
-- Columns:
--   stress_id: the stress
--   market: the first of the markets, under which the stress is stored
--   ordinal: the case
--   case_name: its name
--   place: place among the markets, from 0
--   of_market: the market that the row is of; null: all of them
--   paths: number of paths that have an outcome
--   losing: number of them that add bad debt, together
--   alone_losing: the same, alone
--   mean_base: mean of the bad debt added, together, base units of the first market, DOUBLE
--   alone_mean_base: the same, alone
--   contagion_mean_base: the difference, DOUBLE
--   var99_base: ninety-nine paths of a hundred add no more, together
--   alone_var99_base: the same, alone; of all of them: of the sum on each path
--   worst_base: the worst path's, together
--   alone_worst_base: the same, alone
WITH each AS (
    SELECT stress_id, market, ordinal, path, place, of_market, added_bad_debt_base AS loss, alone_added_bad_debt_base AS alone FROM stress_markets
    UNION ALL SELECT stress_id, market, ordinal, path, NULL, NULL, sum(added_bad_debt_base)::DECIMAL(38, 0), sum(alone_added_bad_debt_base)::DECIMAL(38, 0)
    FROM stress_markets GROUP BY stress_id, market, ordinal, path
)
SELECT e.stress_id, e.market, e.ordinal, c.name AS case_name, e.place, e.of_market, count(*) AS paths, count(*) FILTER (e.loss > 0) AS losing,
    count(*) FILTER (e.alone > 0) AS alone_losing, avg(e.loss) AS mean_base, avg(e.alone) AS alone_mean_base, avg(e.loss) - avg(e.alone) AS contagion_mean_base,
    quantile_disc(e.loss, 0.99) AS var99_base, quantile_disc(e.alone, 0.99) AS alone_var99_base, max(e.loss) AS worst_base, max(e.alone) AS alone_worst_base
FROM each AS e JOIN stress_cases AS c USING (stress_id, ordinal) GROUP BY e.stress_id, e.market, e.ordinal, c.name, e.place, e.of_market
