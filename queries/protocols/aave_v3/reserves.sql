-- Purpose: every asset of Aave V3 markets at the end of some blocks: price, parameters, rules in force, and interest accrued to the block's time.
-- Grain: (market, block_number, asset_id).
-- Parameters:
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   asset_id: asset
--   symbol: symbol of the asset
--   unit: native units of one whole token, HUGEINT
--   share_unit: scaled units that stand for one native unit where the index is one, HUGEINT
--   revision: version of the pool in force
--   price: base-currency units per whole token, exact to the unit; null where the oracle would revert or nothing is known
--   price_exact: false where the price is not known at this position
--   liquidation_threshold_wad: share of its value as collateral that debt may reach, wad (1e18 = one), HUGEINT, outside categories
--   liquidation_bonus_wad: what a liquidation gives for one unit of debt, wad (1.05e18 = 5 % bonus), HUGEINT, outside categories
--   emode_category: category of the asset (to 3.1), 0 for none
--   supply_index: native units that share_unit scaled units of collateral stand for, ray (1e27), with interest to the block's time, HUGEINT
--   borrow_index: the same of debt
--   supply_excess: supply_index less one, DOUBLE (so that indexes near one keep their digits)
--   borrow_excess: borrow_index less one, DOUBLE
--   directional: rules: collateral down and debt up; else both to nearest
--   averaged: rules: average threshold in whole basis points
--   emode_by_bitmap: rules: the category lists its collateral
--   threshold_gates: rules: no base threshold, no collateral
WITH settled AS (
    SELECT p.market, coalesce(p.asset_id, -1) AS asset_id, c.block_number, arg_max(p.value, p.seq) FILTER (p.name = 'pool_revision') AS revision,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_threshold')::HUGEINT AS threshold,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_bonus')::HUGEINT AS bonus, arg_max(p.value, p.seq) FILTER (p.name = 'emode_category')::INTEGER AS category
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    WHERE p.name IN ('pool_revision', 'liquidation_threshold', 'liquidation_bonus', 'emode_category') AND p.category IS NULL
    GROUP BY p.market, p.asset_id, c.block_number
), stored AS (
    SELECT r.*, v.revision, coalesce(t.threshold, 0) AS threshold, coalesce(t.bonus, 0) AS bonus, coalesce(t.category, 0) AS emode_category,
        coalesce(i.supply_index::HUGEINT, 1000000000000000000000000000) AS supply_stored, coalesce(i.borrow_index::HUGEINT, 1000000000000000000000000000) AS borrow_stored,
        coalesce(i.supply_rate::HUGEINT, 0) AS supply_rate, coalesce(i.borrow_rate::HUGEINT, 0) AS borrow_rate,
        CASE WHEN i.block_number IS NULL THEN 0 ELSE r.timestamp - i.timestamp END AS seconds
    FROM assets_at('aave-v3', blocks) AS r
    LEFT JOIN settled AS v ON v.market = r.market AND v.block_number = r.block_number AND v.asset_id = -1
    LEFT JOIN settled AS t ON t.market = r.market AND t.block_number = r.block_number AND t.asset_id = r.asset_id
    ASOF LEFT JOIN index_steps AS i ON i.market = r.market AND i.asset_id = r.asset_id AND r.block_number >= i.block_number
), rules AS (
    -- Interest of debt is three terms of a series: binomial to 3.3, that of exp from 3.4 (MathUtils calculateCompoundedInterest).
    SELECT s.*, l.directional, l.averaged, l.taylor_v34, l.emode_by_bitmap, l.threshold_gates, borrow_rate * seconds // 31536000 AS x,
        CASE WHEN l.taylor_v34 THEN x ELSE borrow_rate END AS factor, CASE WHEN l.taylor_v34 THEN x // 6 ELSE borrow_rate END AS other
    FROM stored AS s LEFT JOIN aave_v3_rules AS l ON l.revision = s.revision
), squared AS (
    SELECT *, ray_mul_half_up(factor, other) // CASE WHEN taylor_v34 THEN 1 ELSE 994519296000000 END AS power FROM rules
), grown AS (
    SELECT *, ray_mul_half_up(factor, CASE WHEN taylor_v34 THEN x // 2 + power ELSE power END) // CASE WHEN taylor_v34 THEN 1 ELSE 31536000 END AS last_power
    FROM squared
), growth AS (
    SELECT *, 1000000000000000000000000000 + supply_rate * seconds // 31536000 AS supply_growth,
        1000000000000000000000000000 + x + CASE WHEN taylor_v34 THEN last_power WHEN NOT taylor_v34 THEN aave_v3_binomial_terms(seconds, power, last_power) END AS borrow_growth
    FROM grown
), accrued AS (
    SELECT *, ray_mul_half_up(supply_stored, supply_growth) AS supply_index, ray_mul_half_up(borrow_stored, borrow_growth) AS borrow_index FROM growth
)
SELECT market, block_number, timestamp, asset_id, symbol, unit, 1::HUGEINT AS share_unit, revision, price, price_exact,
    threshold * 100000000000000 AS liquidation_threshold_wad, bonus * 100000000000000 AS liquidation_bonus_wad, emode_category, supply_index, borrow_index,
    (supply_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS supply_excess, (borrow_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS borrow_excess,
    directional, averaged, emode_by_bitmap, threshold_gates
FROM accrued
