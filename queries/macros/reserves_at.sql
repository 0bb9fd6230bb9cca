-- Purpose: every asset of a market (protocols of protocol_rules) at the end of some blocks: price, threshold, rules in force, and interest accrued to the block's time.
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
--   revision: pool revision in force
--   price: base-currency units per whole token, exact to the unit; null where the oracle would revert or nothing is known
--   price_exact: false where the price is not known at this position
--   liquidation_threshold: basis points, without e-mode
--   emode_category: category of the asset (to 3.1), 0 for none
--   supply_excess: accrued supply index minus one, DOUBLE (so that indexes near one keep their digits)
--   borrow_excess: accrued borrow index minus one, DOUBLE
--   directional: rules: collateral down and debt up; else both to nearest
--   averaged: rules: average threshold in whole basis points
--   emode_by_bitmap: rules: the category lists its collateral
--   threshold_gates: rules: no base threshold, no collateral
WITH wanted AS (
    SELECT DISTINCT m.market, m.protocol, b.block_number
    FROM markets AS m CROSS JOIN (SELECT unnest(blocks::BIGINT[]) AS block_number) AS b
    WHERE m.protocol IN (SELECT protocol FROM protocol_rules)
), clocks AS (
    SELECT w.market, w.protocol, w.block_number, b.timestamp, r.value AS revision
    FROM wanted AS w
    LEFT JOIN blocks AS b ON b.market = w.market AND b.block_number = w.block_number
    ASOF LEFT JOIN (SELECT * FROM param_steps WHERE name = 'pool_revision') AS r ON r.market = w.market AND w.block_number >= r.block_number
), reserves AS (
    SELECT c.*, a.asset_id, a.symbol, pow(10, a.decimals)::HUGEINT AS unit
    FROM clocks AS c JOIN assets AS a ON a.market = c.market
), stored AS (
    SELECT r.*, p.price, p.exact AS price_exact, coalesce(t.value, 0) AS threshold_stored, pow(10, coalesce(u.value, 0))::HUGEINT AS share_unit, coalesce(e.value, 0)::INTEGER AS emode_category,
        coalesce((i.supply_index - CAST('1000000000000000000000000000' AS DECIMAL(38, 0)))::DOUBLE / 1e27, 0) AS supply_stored,
        coalesce((i.borrow_index - CAST('1000000000000000000000000000' AS DECIMAL(38, 0)))::DOUBLE / 1e27, 0) AS borrow_stored,
        coalesce(i.supply_rate, 0)::DOUBLE AS supply_rate, coalesce(i.borrow_rate, 0)::DOUBLE AS borrow_rate,
        (CASE WHEN i.block_number IS NULL THEN 0 ELSE r.timestamp - i.timestamp END)::DOUBLE AS seconds
    FROM reserves AS r
    ASOF LEFT JOIN price_steps AS p ON p.market = r.market AND p.asset_id = r.asset_id AND r.block_number >= p.block_number
    ASOF LEFT JOIN index_steps AS i ON i.market = r.market AND i.asset_id = r.asset_id AND r.block_number >= i.block_number
    ASOF LEFT JOIN (SELECT * FROM param_steps WHERE name = 'liquidation_threshold' AND category = -1) AS t
        ON t.market = r.market AND t.asset_id = r.asset_id AND r.block_number >= t.block_number
    ASOF LEFT JOIN (SELECT * FROM param_steps WHERE name = 'share_decimals') AS u
        ON u.market = r.market AND u.asset_id = r.asset_id AND r.block_number >= u.block_number
    ASOF LEFT JOIN (SELECT * FROM param_steps WHERE name = 'emode_category') AS e
        ON e.market = r.market AND e.asset_id = r.asset_id AND r.block_number >= e.block_number
), grown AS (
    -- The square and cube terms of the older polynomial are cut to whole ray a second, which tells after months without an update.
    SELECT s.*, l.directional, l.averaged, l.emode_by_bitmap, l.threshold_gates, l.supply_compounds,
        (s.threshold_stored::HUGEINT * 10000 // coalesce(l.threshold_unit, 10000))::INTEGER AS liquidation_threshold,
        supply_rate * seconds / 31536000 / 1e27 AS linear_growth,
        borrow_rate * seconds / 31536000 / 1e27 AS x,
        floor(borrow_rate * borrow_rate / 1e27 / (31536000.0 * 31536000.0)) AS rate_squared,
        l.taylor_v34
    FROM stored AS s LEFT JOIN protocol_rules AS l ON l.protocol = s.protocol AND l.revision = s.revision
), borrowed AS (
    SELECT *,
        CASE WHEN taylor_v34 THEN x + x * (x / 2 + x * (x / 6))
            ELSE x + seconds * greatest(seconds - 1, 0) * rate_squared / 2 / 1e27
                + seconds * greatest(seconds - 1, 0) * greatest(seconds - 2, 0) * floor(rate_squared * borrow_rate / 1e27 / 31536000) / 6 / 1e27
        END AS borrow_growth
    FROM grown
), accrued AS (
    SELECT *, CASE WHEN supply_compounds AND borrow_rate > 0 THEN borrow_growth * supply_rate / borrow_rate ELSE linear_growth END AS supply_growth
    FROM borrowed
)
SELECT market, block_number, timestamp, asset_id, symbol, unit, share_unit, revision, price, price_exact, liquidation_threshold, emode_category,
    supply_stored + supply_growth + supply_stored * supply_growth AS supply_excess,
    CASE WHEN taylor_v34 IS NOT NULL THEN borrow_stored + borrow_growth + borrow_stored * borrow_growth END AS borrow_excess,
    directional, averaged, emode_by_bitmap, threshold_gates
FROM accrued
