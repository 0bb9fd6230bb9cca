-- Purpose: no stored run, sweep, validation or measure of contagion was made from blocks that were fetched again since and came out otherwise.
-- Grain: a stored result.
-- Columns:
--   market: name of the market
--   result: run, sweep, validation or contagion
--   id: its id
--   name: its name
--   superseded: blocks that were fetched again
SELECT market, 'run' AS result, run_id AS id, name, superseded FROM results.runs JOIN lake.superseded USING (market, lake_digest)
UNION ALL
SELECT market, 'sweep', sweep_id, name, superseded FROM results.sweeps JOIN lake.superseded USING (market, lake_digest)
UNION ALL
SELECT DISTINCT market, 'contagion', contagion_id, markets, superseded FROM results.contagion JOIN lake.superseded USING (market, lake_digest)
UNION ALL
SELECT market, 'validation', run_id, name, superseded FROM results.validations JOIN lake.superseded USING (market, lake_digest)
