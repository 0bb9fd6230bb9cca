-- Purpose: every asset of Aave V2 markets at the end of some blocks: price, parameters, rules in force, and interest accrued to the block's time.
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
--   supply_index: native units that share_unit scaled units of collateral stand for, ray (1e27), with interest to the block's time, HUGEINT
--   borrow_index: the same of debt
--   supply_excess: supply_index less one, DOUBLE (so that indexes near one keep their digits)
--   borrow_excess: borrow_index less one, DOUBLE
--   other_balances: whether its aToken is worth what no rule here says
--   known: whether the pool's revision is one that these rules cover
WITH settled AS (
    SELECT p.market, coalesce(p.asset_id, -1) AS asset_id, c.block_number, arg_max(p.value, p.seq) FILTER (p.name = 'pool_revision') AS revision,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_threshold')::HUGEINT AS threshold,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_bonus')::HUGEINT AS bonus, bool_or(p.name = 'other_balances') AS other_balances
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    WHERE p.name IN ('pool_revision', 'liquidation_threshold', 'liquidation_bonus', 'other_balances') AND p.category IS NULL
    GROUP BY p.market, p.asset_id, c.block_number
), stored AS (
    SELECT r.*, v.revision, coalesce(t.threshold, 0) AS threshold, coalesce(t.bonus, 0) AS bonus, coalesce(t.other_balances, false) AS other_balances,
        coalesce(i.supply_index::HUGEINT, 1000000000000000000000000000) AS supply_stored, coalesce(i.borrow_index::HUGEINT, 1000000000000000000000000000) AS borrow_stored,
        coalesce(i.supply_rate::HUGEINT, 0) AS supply_rate, coalesce(i.borrow_rate::HUGEINT, 0) // 31536000 AS per_second,
        CASE WHEN i.block_number IS NULL THEN 0 ELSE r.timestamp - i.timestamp END::HUGEINT AS seconds
    FROM assets_at('aave-v2', blocks) AS r
    LEFT JOIN settled AS v ON v.market = r.market AND v.block_number = r.block_number AND v.asset_id = -1
    LEFT JOIN settled AS t ON t.market = r.market AND t.block_number = r.block_number AND t.asset_id = r.asset_id
    ASOF LEFT JOIN index_steps AS i ON i.market = r.market AND i.asset_id = r.asset_id AND r.block_number >= i.block_number
), squared AS (
    SELECT *, ray_mul_half_up(per_second, per_second) AS power_two FROM stored
), cubed AS (
    SELECT *, ray_mul_half_up(power_two, per_second) AS power_three FROM squared
), accrued AS (
    SELECT *, ray_mul_half_up(supply_stored, 1000000000000000000000000000 + supply_rate * seconds // 31536000) AS supply_index,
        ray_mul_half_up(borrow_stored, aave_v2_compounded(per_second, seconds, power_two, power_three)) AS borrow_index
    FROM cubed
)
SELECT market, block_number, timestamp, asset_id, symbol, unit, 1::HUGEINT AS share_unit, revision, price, price_exact,
    threshold * 100000000000000 AS liquidation_threshold_wad, bonus * 100000000000000 AS liquidation_bonus_wad, supply_index, borrow_index,
    (supply_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS supply_excess, (borrow_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS borrow_excess,
    other_balances, coalesce(revision BETWEEN 1 AND 2, false) AS known
FROM accrued
