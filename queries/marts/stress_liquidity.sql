-- Purpose: value at risk of a stress's cases with what selling costs at the stated depth added to each path's loss, beside that without.
-- Grain: (stress_id, ordinal, level); stresses of a scenario that states depth.
-- Columns:
--   stress_id: the stress
--   market: name of the market
--   ordinal: the case
--   case_name: its name
--   level: percentile, basis points: 9500 or 9900
--   paths: number of paths that have an outcome
--   var_base: the bad debt added that a share level of the paths does not exceed, base-currency units
--   var_low_base: lower end of its 95 % interval; null: too few paths
--   var_high_base: upper end; null: too few paths
--   adjusted_var_base: the same of bad debt added plus what selling costs on the path (sold and left): liquidity-adjusted
--   adjusted_low_base: lower end of its 95 % interval; null: too few paths
--   adjusted_high_base: upper end; null: too few paths
--   sold_mean_base: mean of what liquidations brought less than the market price, DOUBLE
--   left_mean_base: mean of the bad debt that selling the rest at once would add, DOUBLE
--   unstated_mean_base: mean of the collateral whose depth nobody states, DOUBLE; it is in no figure before
WITH losses AS (
    SELECT p.stress_id, p.market, p.ordinal, p.path, p.added_bad_debt_base AS loss, (p.added_bad_debt_base + s.sold_base + s.left_base)::DECIMAL(38, 0) AS adjusted,
        s.sold_base, s.left_base, s.unstated_base
    FROM stress_paths AS p JOIN stress_selling AS s USING (stress_id, ordinal, path) WHERE p.error IS NULL
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY stress_id, ordinal ORDER BY loss) AS at, row_number() OVER (PARTITION BY stress_id, ordinal ORDER BY adjusted) AS adjusted_at,
        count(*) OVER (PARTITION BY stress_id, ordinal) AS paths
    FROM losses
)
SELECT p.stress_id, p.market, p.ordinal, c.name AS case_name, r.level::BIGINT AS level, p.paths, max(p.loss) FILTER (p.at = r.rank) AS var_base,
    max(p.loss) FILTER (p.at = r.low_rank) AS var_low_base, max(p.loss) FILTER (p.at = r.high_rank) AS var_high_base,
    max(p.adjusted) FILTER (p.adjusted_at = r.rank) AS adjusted_var_base, max(p.adjusted) FILTER (p.adjusted_at = r.low_rank) AS adjusted_low_base,
    max(p.adjusted) FILTER (p.adjusted_at = r.high_rank) AS adjusted_high_base, avg(p.sold_base) AS sold_mean_base, avg(p.left_base) AS left_mean_base,
    avg(p.unstated_base) AS unstated_mean_base
FROM placed AS p JOIN stress_ranks AS r USING (paths) JOIN stress_cases AS c ON c.stress_id = p.stress_id AND c.ordinal = p.ordinal
GROUP BY p.stress_id, p.market, p.ordinal, c.name, r.level, p.paths
