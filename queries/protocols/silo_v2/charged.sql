-- Purpose: what an accrual would charge each silo of Silo V2 markets at the end of some blocks, and its totals before (InterestRateModelV2 calculateCompoundInterestRate).
-- Grain: (market, block_number, silo): 0 and 1.
-- Parameters:
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   silo: 0 or 1
--   revision: version of the rules; null where tables lack what rounding left of interest
--   lent: native units that are lent, as of the last accrual, HUGEINT
--   lent_shares: shares of them, HUGEINT
--   kept: native units of protected collateral, HUGEINT
--   kept_shares: shares of them, HUGEINT
--   debt: native units borrowed, as of the last accrual, HUGEINT
--   debt_shares: shares of them, HUGEINT
--   fees: the DAO's and the deployer's part of interest, wad, HUGEINT
--   fractions: whether what rounding leaves of interest is kept
--   interest_left: what it left of interest, wad, HUGEINT
--   revenue_left: what it left of fees, wad, HUGEINT
--   seconds: since the last accrual, HUGEINT; null where the block's time is not known
--   rcomp: what is charged, wad of the debt, HUGEINT; null where a number is beyond what SQL's integers hold (gains of 10^15 and more, 136 years), or the block's time is not known
WITH ours AS (
    SELECT market FROM markets WHERE protocol = 'silo-v2'
), flows AS (
    -- Totals are sums of what history's logs moved, and of interest.
    SELECT market, block_number, asset_id % 2 AS silo, coalesce(sum(signed) FILTER (side = 'collateral' AND asset_id < 2), 0) AS lent,
        coalesce(sum(delta) FILTER (side = 'collateral' AND asset_id < 2), 0) AS lent_shares, coalesce(sum(signed) FILTER (asset_id >= 2), 0) AS kept,
        coalesce(sum(delta) FILTER (asset_id >= 2), 0) AS kept_shares, coalesce(sum(signed) FILTER (side = 'debt'), 0) AS debt, coalesce(sum(delta) FILTER (side = 'debt'), 0) AS debt_shares
    FROM (SELECT *, CASE WHEN delta > 0 THEN amount ELSE -amount END AS signed FROM canonical.position_events SEMI JOIN ours USING (market))
    GROUP BY market, block_number, asset_id % 2
    UNION ALL
    SELECT market, block_number, asset_id, coalesce(sum(value) FILTER (name = 'interest_lent'), 0), 0, 0, 0, coalesce(sum(value) FILTER (name = 'interest'), 0), 0
    FROM params SEMI JOIN ours USING (market) WHERE name IN ('interest', 'interest_lent') GROUP BY market, block_number, asset_id
), totals AS (
    SELECT market, silo, block_number, sum(sum(lent)) OVER running AS lent, sum(sum(lent_shares)) OVER running AS lent_shares, sum(sum(kept)) OVER running AS kept,
        sum(sum(kept_shares)) OVER running AS kept_shares, sum(sum(debt)) OVER running AS debt, sum(sum(debt_shares)) OVER running AS debt_shares
    FROM flows GROUP BY market, silo, block_number
    WINDOW running AS (PARTITION BY market, silo ORDER BY block_number)
), clocks AS (
    SELECT DISTINCT m.market, c.block_number, b.timestamp FROM ours AS m CROSS JOIN (SELECT unnest(blocks::BIGINT[]) AS block_number) AS c
    LEFT JOIN blocks AS b ON b.market = m.market AND b.block_number = c.block_number
), past AS (
    SELECT c.market, c.block_number, c.timestamp AS now, p.asset_id, p.name, p.value::HUGEINT AS value, p.seq, p.timestamp
    FROM clocks AS c JOIN params AS p ON p.market = c.market AND p.block_number <= c.block_number
), terms AS (
    SELECT market, block_number, arg_max(value, seq) FILTER (name = 'silo_revision')::BIGINT AS revision, coalesce(arg_max(value, seq) FILTER (name = 'dao_fee'), 0)
        + coalesce(arg_max(value, seq) FILTER (name = 'deployer_fee'), 0) AS fees, coalesce(arg_max(value, seq) FILTER (name = 'fractions'), 0) <> 0 AS fractions
    FROM past WHERE asset_id IS NULL GROUP BY market, block_number
), models AS (
    SELECT market, block_number, asset_id AS silo, any_value(now) AS now, max(timestamp) FILTER (name IN ('accrued', 'accrued_with_action')) AS updated,
        coalesce(arg_max(value, seq) FILTER (name = 'interest_left'), 0) AS interest_left, coalesce(arg_max(value, seq) FILTER (name = 'revenue_left'), 0) AS revenue_left,
        coalesce(arg_max(value, seq) FILTER (name = 'ri'), 0) AS ri, coalesce(arg_max(value, seq) FILTER (name = 't_crit'), 0) AS t_crit,
        arg_max(value, seq) FILTER (name = 'uopt') AS uopt, arg_max(value, seq) FILTER (name = 'ucrit') AS ucrit, arg_max(value, seq) FILTER (name = 'ulow') AS ulow,
        arg_max(value, seq) FILTER (name = 'ki') AS ki, arg_max(value, seq) FILTER (name = 'kcrit') AS kcrit, arg_max(value, seq) FILTER (name = 'klow') AS klow,
        arg_max(value, seq) FILTER (name = 'klin') AS klin, arg_max(value, seq) FILTER (name = 'beta') AS beta
    FROM past WHERE asset_id IS NOT NULL GROUP BY market, block_number, asset_id
), placed AS (
    SELECT m.*, t.revision, t.fees, t.fractions, s.lent, s.lent_shares, s.kept, s.kept_shares, s.debt, s.debt_shares, CASE WHEN m.now IS NOT NULL THEN greatest(0, m.now - coalesce(m.updated, m.now)) END::HUGEINT AS seconds
    FROM models AS m JOIN terms AS t ON t.market = m.market AND t.block_number = m.block_number
    ASOF LEFT JOIN totals AS s ON s.market = m.market AND s.silo = m.silo AND m.block_number >= s.block_number
), stored AS (
    SELECT * REPLACE (coalesce(lent, 0)::HUGEINT AS lent, coalesce(lent_shares, 0)::HUGEINT AS lent_shares, coalesce(kept, 0)::HUGEINT AS kept, coalesce(kept_shares, 0)::HUGEINT AS kept_shares,
        coalesce(debt, 0)::HUGEINT AS debt, coalesce(debt_shares, 0)::HUGEINT AS debt_shares) FROM placed
), used AS (
    -- What does not hold is left out, so that no product below is longer than 127 bits.
    SELECT * REPLACE (CASE WHEN abs(ri) < 1000000000000000000 THEN ri END AS ri, CASE WHEN t_crit < 10000000000000000000000 THEN t_crit END AS t_crit,
            CASE WHEN ki < 1000000000000000 THEN ki END AS ki, CASE WHEN kcrit < 1000000000000000 THEN kcrit END AS kcrit, CASE WHEN klow < 1000000000000000000 THEN klow END AS klow,
            CASE WHEN klin < 1000000000000000000 THEN klin END AS klin, CASE WHEN beta < 100000000000000000 THEN beta END AS beta),
        CASE WHEN seconds < 4294967296 THEN seconds END AS run, CASE WHEN lent = 0 OR debt = 0 THEN 0::HUGEINT WHEN debt >= lent THEN 1000000000000000000::HUGEINT
            ELSE mul_div_down(debt, 1000000000000000000, lent) END AS used
    FROM stored
), sloped AS (
    -- Divisions of SQL cut towards zero, as the contract's do.
    SELECT *, klin * used // 1000000000000000000 AS least_rate, ki * (used - uopt) // 1000000000000000000 + CASE WHEN used > ucrit THEN kcrit * beta // 1000000000000000000 * (used - ucrit) // 1000000000000000000
            ELSE 0 END AS slope, greatest(ri, least_rate) + CASE WHEN used > ucrit THEN kcrit * (1000000000000000000 + t_crit) // 1000000000000000000 * (used - ucrit) // 1000000000000000000
            ELSE least(0, klow * (used - ulow) // 1000000000000000000) END AS begin_rate
    FROM used
    WHERE ri IS NOT NULL AND t_crit IS NOT NULL AND klin IS NOT NULL AND used IS NOT NULL AND kcrit IS NOT NULL AND klow IS NOT NULL AND ki IS NOT NULL AND beta IS NOT NULL
), lasting AS (
    SELECT *, begin_rate + slope * run AS end_rate FROM sloped
), summed AS (
    -- The mean rate times the time: what is below the least rate counts as that.
    SELECT market, block_number, silo, run, CASE WHEN begin_rate >= least_rate AND end_rate >= least_rate THEN (begin_rate + end_rate) * run // 2 WHEN begin_rate < least_rate AND end_rate < least_rate THEN least_rate * run
        WHEN begin_rate >= least_rate THEN least_rate * run + mul_div_down(begin_rate - least_rate, begin_rate - least_rate, -slope) // 2
        ELSE least_rate * run + mul_div_down(end_rate - least_rate, end_rate - least_rate, slope) // 2 END AS x
    FROM lasting
), raised AS (
    SELECT market, block_number, silo, CASE WHEN x >= 11090370147631773313 THEN 65536000000000000000000::HUGEINT WHEN x <= 0 THEN 0::HUGEINT
        WHEN x > 0 THEN greatest(0, silo_v2_exp_down(x) - 1000000000000000000) END AS grown, run
    FROM summed
)
SELECT s.market, s.block_number, s.silo, s.revision, s.lent, s.lent_shares, s.kept, s.kept_shares, s.debt, s.debt_shares, s.fees, s.fractions, s.interest_left, s.revenue_left, s.seconds,
    CASE WHEN s.seconds = 0 OR s.uopt IS NULL THEN 0::HUGEINT WHEN r.grown IS NOT NULL THEN least(r.grown, 3170979198376 * r.run) END AS rcomp
FROM stored AS s LEFT JOIN raised AS r ON r.market = s.market AND r.block_number = s.block_number AND r.silo = s.silo
