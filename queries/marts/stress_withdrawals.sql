-- Purpose: runs on deposits over the paths of a case: what is withheld, how far utilisation rises, and which liquidations cannot be paid.
-- Grain: (stress_id, ordinal, of_market, asset); assets that suppliers leave on some path, or in which some liquidation could not be paid.
-- Columns:
--   stress_id: the stress
--   market: name of the market; of several the first
--   ordinal: the case
--   case_name: its name
--   of_market: the market that the asset is of
--   asset: label of the asset
--   paths: number of paths that have an outcome
--   withheld_paths: number of them at whose end a part of what was asked is not paid
--   withheld_mean: mean over the paths of the part withheld at the end, DOUBLE; null: nobody leaves
--   withheld_most: the most on a path, DOUBLE
--   utilisation_mean: mean over the paths of the highest utilisation on each, DOUBLE; null: nobody leaves
--   utilisation_most: the highest on any path, DOUBLE
--   short_paths: number of paths on which a liquidation could not be paid in it
--   short_accounts: mean over all paths of the accounts that this was so of, DOUBLE
--   short_mean_base: mean over all paths of the collateral that they would have given, base-currency units, DOUBLE
--   short_most_base: the most on a path, base-currency units
WITH ends AS (
    SELECT stress_id, market, ordinal, path, of_market, asset, arg_max(withheld, step) AS withheld, max(utilisation) AS utilisation
    FROM stress_runs GROUP BY ALL
), each AS (
    SELECT stress_id, market, ordinal, path, of_market, asset, e.withheld, e.utilisation, coalesce(u.accounts, 0) AS accounts, coalesce(u.value_base, 0) AS value
    FROM ends AS e FULL JOIN stress_unpaid AS u USING (stress_id, market, ordinal, path, of_market, asset)
), done AS (
    SELECT stress_id, ordinal, count(*) AS paths FROM stress_paths WHERE error IS NULL GROUP BY ALL
)
SELECT e.stress_id, e.market, e.ordinal, c.name AS case_name, e.of_market, e.asset, d.paths, count(*) FILTER (e.withheld > 0) AS withheld_paths, avg(e.withheld) AS withheld_mean,
    max(e.withheld) AS withheld_most, avg(e.utilisation) AS utilisation_mean, max(e.utilisation) AS utilisation_most, count(*) FILTER (e.accounts > 0) AS short_paths,
    sum(e.accounts) / d.paths AS short_accounts, sum(e.value)::DOUBLE / d.paths AS short_mean_base, max(e.value)::DECIMAL(38, 0) AS short_most_base
FROM each AS e JOIN done AS d USING (stress_id, ordinal) JOIN stress_cases AS c USING (stress_id, ordinal)
GROUP BY e.stress_id, e.market, e.ordinal, c.name, e.of_market, e.asset, d.paths
