-- Purpose: loan and collateral token of Morpho Blue markets at the end of some blocks, with interest to the block's time.
-- Grain: (market, block_number, asset_id): 0 is the loan token, 1 the collateral token.
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
--   liquidation_bonus_wad: what a liquidation gives for one unit of debt, wad (1.05e18 = 5 % bonus), HUGEINT, outside categories
--   supply_index: native units that share_unit scaled units of collateral stand for, ray (1e27), with interest to the block's time, HUGEINT
--   borrow_index: the same of debt
--   supply_excess: supply_index less one, DOUBLE (so that indexes near one keep their digits)
--   borrow_excess: borrow_index less one, DOUBLE
--   price_rest: what the oracle's own price has below a base unit, in 10^-price_digits of it
--   price_digits: decimals of price_rest
--   market_priced: whether both tokens have a price
--   supply_assets: loan units lent, with interest (MorphoBalancesLib expectedMarketBalances), HUGEINT
--   supply_shares: shares of them, with the fee's that an accrual would make, HUGEINT
--   borrow_assets: loan units borrowed, with interest, HUGEINT
--   borrow_shares: shares of them, HUGEINT
WITH shares AS (
    SELECT market, block_number, sum(supplied) OVER running AS supply_shares, sum(borrowed) OVER running AS borrow_shares
    FROM (
        SELECT market, block_number, coalesce(sum(delta) FILTER (side = 'collateral'), 0) AS supplied, coalesce(sum(delta) FILTER (side = 'debt'), 0) AS borrowed
        FROM position_events SEMI JOIN (SELECT market FROM markets WHERE protocol = 'morpho-blue') AS ours USING (market)
        WHERE asset_id = 0 GROUP BY market, block_number
    )
    WINDOW running AS (PARTITION BY market ORDER BY block_number)
), settled AS (
    SELECT p.market, c.block_number, arg_max(p.value, p.seq) FILTER (p.name = 'pool_revision') AS revision,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_threshold')::HUGEINT AS threshold, arg_max(p.value, p.seq) FILTER (p.name = 'fee')::HUGEINT AS fee
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    WHERE p.name IN ('pool_revision', 'liquidation_threshold', 'fee') GROUP BY p.market, c.block_number
), listed AS (
    SELECT *, bool_and(price IS NOT NULL) OVER (PARTITION BY market, block_number) AS market_priced FROM assets_at('morpho-blue', blocks)
), stored AS (
    -- Share prices are cut to a ray of 10^-6 units, finer than a unit of all assets: the totals that they came from are the next whole ones.
    SELECT r.market, r.block_number, r.asset_id, coalesce(s.supply_shares, 0)::HUGEINT AS supply_shares, coalesce(s.borrow_shares, 0)::HUGEINT AS borrow_shares,
        mul_div_up(i.supply_index, coalesce(s.supply_shares, 0)::HUGEINT + 1000000, 1000000000000000000000000000000000) - 1 AS supply_assets,
        mul_div_up(i.borrow_index, coalesce(s.borrow_shares, 0)::HUGEINT + 1000000, 1000000000000000000000000000000000) - 1 AS borrow_assets,
        i.borrow_rate::HUGEINT // 31536000000000000 AS recorded_rate, greatest(r.timestamp - i.timestamp, 0)::HUGEINT AS seconds
    FROM listed AS r
    ASOF JOIN index_steps AS i ON i.market = r.market AND i.asset_id = r.asset_id AND r.block_number >= i.block_number
    ASOF LEFT JOIN shares AS s ON s.market = r.market AND r.block_number >= s.block_number
    WHERE r.asset_id = 0
), used AS (
    SELECT s.*, coalesce(p.fee, 0) AS fee, t.value::HUGEINT AS at_target,
        CASE WHEN supply_assets = 0 THEN 0 ELSE mul_div_down(borrow_assets, 1000000000000000000, supply_assets) END - 900000000000000000 AS beyond
    FROM stored AS s LEFT JOIN settled AS p ON p.market = s.market AND p.block_number = s.block_number
    ASOF LEFT JOIN (SELECT * FROM param_steps WHERE name = 'rate_at_target') AS t ON t.market = s.market AND s.block_number >= t.block_number
), curved AS (
    -- The adaptive curve (AdaptiveCurveIrm _borrowRate): signed wads, cut towards zero as HUGEINT does.
    SELECT *, beyond * 1000000000000000000 // CASE WHEN beyond > 0 THEN 100000000000000000 ELSE 900000000000000000 END AS error
    FROM used
), adapting AS (
    SELECT *, 1585489599188 * error // 1000000000000000000 * seconds AS adaptation, least(adaptation, 20000000000000000000) AS x,
        least(adaptation // 2, 20000000000000000000) AS x_half
    FROM curved
), moved AS (
    SELECT *, morpho_blue_adapted(at_target, x, ((x + sign(x) * 346573590279972654) // 693147180559945309)::INTEGER) AS target_end,
        morpho_blue_adapted(at_target, x_half, ((x_half + sign(x_half) * 346573590279972654) // 693147180559945309)::INTEGER) AS target_middle
    FROM adapting
), rated AS (
    SELECT *, CASE WHEN at_target IS NULL THEN recorded_rate ELSE
            (CASE WHEN error < 0 THEN 750000000000000000 ELSE 3000000000000000000 END * error // 1000000000000000000 + 1000000000000000000)
            * CASE WHEN at_target = 0 THEN 1268391679 WHEN adaptation = 0 THEN at_target ELSE (at_target + target_end + 2 * target_middle) // 4 END
            // 1000000000000000000 END * seconds AS first_term
    FROM moved
), compounded AS (
    SELECT *, mul_div_down(first_term, first_term, 2000000000000000000) AS second_term FROM rated
), grown AS (
    SELECT *, mul_div_down(borrow_assets, first_term + second_term + mul_div_down(second_term, first_term, 3000000000000000000), 1000000000000000000) AS interest
    FROM compounded
), charged AS (
    SELECT *, CASE WHEN fee = 0 THEN 0::HUGEINT ELSE mul_div_down(interest, fee, 1000000000000000000) END AS fee_amount FROM grown
), accrued AS (
    SELECT market, block_number, asset_id, supply_assets + interest AS supply_assets,
        supply_shares + CASE WHEN fee = 0 THEN 0::HUGEINT ELSE mul_div_down(fee_amount, supply_shares + 1000000, supply_assets + interest - fee_amount + 1) END AS supply_shares,
        borrow_assets + interest AS borrow_assets, borrow_shares
    FROM charged
), indexed AS (
    SELECT r.*, p.revision, p.threshold, s.supply_assets, s.supply_shares, s.borrow_assets, s.borrow_shares,
        CASE WHEN r.asset_id = 1 THEN 1000000000000000000000000000::HUGEINT
            ELSE mul_div_down(s.supply_assets + 1, 1000000000000000000000000000000000, s.supply_shares + 1000000) END AS supply_index,
        CASE WHEN r.asset_id = 1 THEN 1000000000000000000000000000::HUGEINT
            ELSE mul_div_down(s.borrow_assets + 1, 1000000000000000000000000000000000, s.borrow_shares + 1000000) END AS borrow_index
    FROM listed AS r LEFT JOIN settled AS p ON p.market = r.market AND p.block_number = r.block_number
    LEFT JOIN accrued AS s ON s.market = r.market AND s.block_number = r.block_number AND s.asset_id = r.asset_id
)
SELECT market, block_number, timestamp, asset_id, symbol, unit, CASE WHEN asset_id = 0 THEN 1000000::HUGEINT ELSE 1::HUGEINT END AS share_unit, revision, price, price_exact,
    CASE WHEN asset_id = 1 THEN threshold ELSE 0::HUGEINT END AS liquidation_threshold_wad,
    -- Morpho liquidate: at most 1.15, else 1 / (1 - 0.3 (1 - threshold)), both products cut.
    CASE WHEN asset_id = 1 THEN least(1150000000000000000, 1000000000000000000000000000000000000
        // (1000000000000000000 - 300000000000000000 * (1000000000000000000 - threshold) // 1000000000000000000)) ELSE 0::HUGEINT END AS liquidation_bonus_wad,
    supply_index, borrow_index, (supply_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS supply_excess,
    (borrow_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS borrow_excess, price_rest, price_digits, market_priced, supply_assets, supply_shares, borrow_assets, borrow_shares
FROM indexed
