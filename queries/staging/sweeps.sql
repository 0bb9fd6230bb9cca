-- Purpose: sweeps that were stored, complete or not.
-- Grain: sweep_id.
-- Columns:
--   sweep_id: hash of the sweep, the lake's content and versions of rules and engine
--   name: name of the sweep
--   market: name of the market
--   spec: the sweep, canonical JSON
--   design: grid, random, latin-hypercube or sobol
--   points: number of parameter sets
--   scenarios: number of scenarios planned, baselines included
--   done: number of them that have a run
--   failed: number of them that failed
--   lake_digest: digest of the lake's content
--   rules_version: version of the rules
--   engine_version: version of the engine
SELECT s.sweep_id, s.name, s.market, s.spec, s.design, s.points, s.scenarios, count(*) FILTER (status = 'done') AS done,
    count(*) FILTER (status = 'failed') AS failed, s.lake_digest, s.rules_version, s.engine_version
FROM results.sweeps AS s LEFT JOIN sweep_scenarios AS c USING (sweep_id) GROUP BY ALL
