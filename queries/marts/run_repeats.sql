-- Purpose: stored replays that differ by their seed alone: the mean of each measure over seeds, with a 95 % interval.
-- Grain: (repeats_id, measure); single runs are left out, and so are measures that none of the runs has.
-- Columns:
--   repeats_id: the same for all runs of one market, data, versions and scenario but for the seed (run_seeds)
--   market: name of the market
--   name: name of the run with the lowest seed
--   measure: liquidations; repaid, bad_debt (realised and open at the end), missed_debt (of opportunities nobody took); the parts of waterfall
--   runs: number of runs
--   first_seed: the lowest seed
--   last_seed: the highest seed
--   mean: a number for liquidations, else base-currency units, DOUBLE
--   standard_error: of the mean, DOUBLE
--   low: lower end of the mean's 95 % interval (Student's t), DOUBLE
--   high: upper end, DOUBLE
--   smallest: of all runs, exact
--   largest: of all runs, exact
-- A run without liquidations has no rows in waterfall, one without opportunities none in opportunities: it has 0 of them.
WITH each AS (
    SELECT run_id, 'liquidations' AS measure, liquidations::DECIMAL(38, 0) AS amount FROM run_windows WHERE label = 'end'
    UNION ALL SELECT run_id, 'repaid', repaid_base FROM run_windows WHERE label = 'end'
    UNION ALL SELECT run_id, 'bad_debt', (realised_bad_debt_base + open_bad_debt_base)::DECIMAL(38, 0) FROM run_windows WHERE label = 'end'
    UNION ALL SELECT run_id, 'missed_debt', coalesce(sum(repaid_base) FILTER (ending <> 'taken'), 0)::DECIMAL(38, 0) FROM opportunities GROUP BY run_id
    UNION ALL SELECT run_id, part, amount_base FROM waterfall
), families AS (
    SELECT s.repeats_id, any_value(r.market) AS market, arg_min(r.name, s.place) AS name, count(*) AS runs, min(s.seed) AS first_seed,
        max(s.seed) AS last_seed
    FROM run_seeds AS s JOIN runs AS r USING (run_id) GROUP BY s.repeats_id HAVING count(*) > 1
), wanted AS (
    SELECT DISTINCT s.repeats_id, e.measure FROM each AS e JOIN run_seeds AS s USING (run_id)
), summed AS (
    SELECT w.repeats_id, w.measure, sum(coalesce(e.amount, 0))::DOUBLE / count(*) AS mean,
        stddev_samp(coalesce(e.amount, 0)::DOUBLE) / sqrt(count(*)) AS standard_error, min(coalesce(e.amount, 0)) AS smallest,
        max(coalesce(e.amount, 0)) AS largest
    FROM wanted AS w JOIN run_seeds AS s USING (repeats_id) LEFT JOIN each AS e ON e.run_id = s.run_id AND e.measure = w.measure
    GROUP BY w.repeats_id, w.measure
)
SELECT repeats_id, f.market, f.name, m.measure, f.runs, f.first_seed, f.last_seed, m.mean, m.standard_error, m.mean - t * m.standard_error AS low,
    m.mean + t * m.standard_error AS high, m.smallest, m.largest
FROM families AS f JOIN summed AS m USING (repeats_id) LEFT JOIN student_t ON degrees = least(f.runs - 1, 1000)
