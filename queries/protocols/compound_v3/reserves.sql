-- Purpose: the base token and the collateral of Compound V3 markets at the end of some blocks, with interest to the block's time.
-- Grain: (market, block_number, asset_id): 0 is the base token.
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
--   revision: version of the contract
--   price: base-currency units per whole token, exact to the unit; null where the oracle would revert or nothing is known
--   price_exact: false where the price is not known at this position
--   liquidation_threshold_wad: share of its value as collateral that debt may reach, wad (1e18 = one), HUGEINT, outside categories
--   liquidation_bonus_wad: what a liquidation gives for one unit of debt, wad: null, an absorption gives nobody anything
--   supply_index: native units that share_unit scaled units of collateral stand for, ray (1e27), with interest to the block's time, HUGEINT
--   borrow_index: the same of debt
--   supply_excess: supply_index less one, DOUBLE (so that indexes near one keep their digits)
--   borrow_excess: borrow_index less one, DOUBLE
--   ltv_wad: what counts of a collateral when its owner borrows or withdraws, wad, HUGEINT
--   liquidation_factor_wad: what an absorbed collateral is credited at, wad, HUGEINT
--   total_supply: principal supplied, HUGEINT
--   total_borrow: principal borrowed, HUGEINT
--   utilization_wad: what is borrowed of what is supplied, at the stored indexes (Comet getUtilization), wad, HUGEINT
WITH principals AS (
    -- A call that moves nothing may round an account down, and the contract's totals do not follow (Comet repayAndSupplyAmount).
    SELECT market, block_number, sum(supplied) OVER running AS total_supply, sum(borrowed) OVER running AS total_borrow
    FROM (
        SELECT market, block_number, coalesce(sum(delta) FILTER (side = 'collateral' AND (action <> 'supply' OR delta > 0)), 0) AS supplied,
            coalesce(sum(delta) FILTER (side = 'debt' AND (action <> 'borrow' OR delta > 0)), 0) AS borrowed
        FROM position_events SEMI JOIN (SELECT market FROM markets WHERE protocol = 'compound-v3') AS ours USING (market)
        WHERE asset_id = 0 GROUP BY market, block_number
    )
    WINDOW running AS (PARTITION BY market ORDER BY block_number)
), settled AS (
    SELECT p.market, c.block_number, arg_max(p.value, p.seq) FILTER (p.name = 'comet_revision') AS revision,
        arg_max(p.value, p.seq) FILTER (p.name = 'supply_kink')::HUGEINT AS supply_kink,
        arg_max(p.value, p.seq) FILTER (p.name = 'supply_rate_base')::HUGEINT AS supply_rate_base,
        arg_max(p.value, p.seq) FILTER (p.name = 'supply_rate_slope_low')::HUGEINT AS supply_rate_slope_low,
        arg_max(p.value, p.seq) FILTER (p.name = 'supply_rate_slope_high')::HUGEINT AS supply_rate_slope_high,
        arg_max(p.value, p.seq) FILTER (p.name = 'borrow_kink')::HUGEINT AS borrow_kink,
        arg_max(p.value, p.seq) FILTER (p.name = 'borrow_rate_base')::HUGEINT AS borrow_rate_base,
        arg_max(p.value, p.seq) FILTER (p.name = 'borrow_rate_slope_low')::HUGEINT AS borrow_rate_slope_low,
        arg_max(p.value, p.seq) FILTER (p.name = 'borrow_rate_slope_high')::HUGEINT AS borrow_rate_slope_high
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    WHERE p.asset_id IS NULL AND p.name IN ('comet_revision', 'supply_kink', 'supply_rate_base', 'supply_rate_slope_low', 'supply_rate_slope_high', 'borrow_kink', 'borrow_rate_base', 'borrow_rate_slope_low', 'borrow_rate_slope_high')
    GROUP BY p.market, c.block_number
), factored AS (
    SELECT p.market, p.asset_id, c.block_number, arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_threshold')::HUGEINT AS threshold,
        arg_max(p.value, p.seq) FILTER (p.name = 'ltv')::HUGEINT AS ltv, arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_factor')::HUGEINT AS factor
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    WHERE p.name IN ('liquidation_threshold', 'ltv', 'liquidation_factor') AND p.asset_id IS NOT NULL
    GROUP BY p.market, p.asset_id, c.block_number
), listed AS (
    SELECT * FROM assets_at('compound-v3', blocks)
), stored AS (
    SELECT r.market, r.block_number, p.*, coalesce(t.total_supply, 0)::HUGEINT AS total_supply, coalesce(t.total_borrow, 0)::HUGEINT AS total_borrow,
        i.supply_index::HUGEINT // 1000000000000 AS supply_at, i.borrow_index::HUGEINT // 1000000000000 AS borrow_at,
        greatest(r.timestamp - i.timestamp, 0)::HUGEINT AS seconds
    FROM listed AS r JOIN (SELECT * RENAME (market AS of_market, block_number AS at_block) FROM settled) AS p ON p.of_market = r.market AND p.at_block = r.block_number
    ASOF JOIN index_steps AS i ON i.market = r.market AND i.asset_id = r.asset_id AND r.block_number >= i.block_number
    ASOF LEFT JOIN principals AS t ON t.market = r.market AND r.block_number >= t.block_number
    WHERE r.asset_id = 0
), present AS (
    SELECT *, mul_div_down(total_supply, supply_at, 1000000000000000) AS supplied, mul_div_down(total_borrow, borrow_at, 1000000000000000) AS borrowed FROM stored
), used AS (
    SELECT *, CASE WHEN supplied = 0 THEN 0::HUGEINT ELSE mul_div_down(borrowed, 1000000000000000000, supplied) END AS used FROM present
), rated AS (
    SELECT *, CASE WHEN used <= supply_kink THEN supply_rate_base + supply_rate_slope_low * used // 1000000000000000000
            ELSE supply_rate_base + supply_rate_slope_low * supply_kink // 1000000000000000000
                + mul_div_down(supply_rate_slope_high, used - supply_kink, 1000000000000000000) END AS supply_rate,
        CASE WHEN used <= borrow_kink THEN borrow_rate_base + borrow_rate_slope_low * used // 1000000000000000000
            ELSE borrow_rate_base + borrow_rate_slope_low * borrow_kink // 1000000000000000000
                + mul_div_down(borrow_rate_slope_high, used - borrow_kink, 1000000000000000000) END AS borrow_rate
    FROM used
), accrued AS (
    -- Comet accruedInterestIndices: each index grows by itself times its rate times the seconds, cut.
    SELECT market, block_number, revision, total_supply, total_borrow, used, supply_at + mul_div_down(supply_at, supply_rate * seconds, 1000000000000000000) AS supply_at,
        borrow_at + mul_div_down(borrow_at, borrow_rate * seconds, 1000000000000000000) AS borrow_at
    FROM rated
), indexed AS (
    SELECT r.*, s.revision, f.threshold, f.ltv, f.factor, s.total_supply, s.total_borrow, s.used,
        CASE WHEN r.asset_id = 0 THEN s.supply_at ELSE 1000000000000000::HUGEINT END * 1000000000000 AS supply_index,
        CASE WHEN r.asset_id = 0 THEN s.borrow_at ELSE 1000000000000000::HUGEINT END * 1000000000000 AS borrow_index
    FROM listed AS r LEFT JOIN accrued AS s ON s.market = r.market AND s.block_number = r.block_number
    LEFT JOIN factored AS f ON f.market = r.market AND f.block_number = r.block_number AND f.asset_id = r.asset_id
)
SELECT market, block_number, timestamp, asset_id, symbol, unit, 1::HUGEINT AS share_unit, revision, price, price_exact,
    CASE WHEN asset_id = 0 THEN 0::HUGEINT ELSE threshold END AS liquidation_threshold_wad, NULL::HUGEINT AS liquidation_bonus_wad, supply_index, borrow_index,
    (supply_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS supply_excess, (borrow_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS borrow_excess,
    ltv AS ltv_wad, factor AS liquidation_factor_wad, total_supply, total_borrow, used AS utilization_wad
FROM indexed
