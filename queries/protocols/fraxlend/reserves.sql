-- Purpose: lent token and collateral of Fraxlend pairs at the end of some blocks, with interest to the block's time.
-- Grain: (market, block_number, asset_id): 0 is the lent token, 1 the collateral.
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
--   revision: version of the pair; null where its interest is not in the lake, whose tables were made before it was kept
--   price: base-currency units per whole token, exact to the unit; null where the oracle would revert or nothing is known
--   price_exact: false where the price is not known at this position
--   liquidation_threshold_wad: maxLTV, wad (1e18 = one), HUGEINT
--   liquidation_bonus_wad: what a liquidation that takes all collateral gives for one unit of debt, wad (1.05e18 = 5 % clean fee), HUGEINT
--   supply_index: native units that share_unit scaled units of collateral stand for, ray (1e27), with interest to the block's time, HUGEINT
--   borrow_index: the same of debt
--   supply_excess: supply_index less one, DOUBLE (so that indexes near one keep their digits)
--   borrow_excess: borrow_index less one, DOUBLE
--   price_full: the price with the digits that it has below a base unit, HUGEINT
--   unit_full: native units times price_full are this many times their value in base units, HUGEINT
--   max_ltv: maxLTV, of 10^5, HUGEINT
--   lent: native units lent, with interest (FraxlendPairCore previewAddInterest), HUGEINT
--   lent_shares: fTokens, with the fee's that an accrual would make, HUGEINT
--   borrowed: native units borrowed, with interest, HUGEINT
--   borrow_shares: shares of them, HUGEINT
--   exchange_rate: native collateral for 1e18 native units lent, by the oracle's low rate, HUGEINT; null where a token has no price
--   totals_exact: false where a number is beyond what SQL's integers hold (10^33 units, a rate at full use above 2.8e14 wad a second): DOUBLE then, good to 1e-14
WITH ours AS (
    SELECT market FROM markets WHERE protocol = 'fraxlend'
), flows AS (
    -- Totals are sums of what history's logs moved (FraxlendPairCore totalAsset, totalBorrow); fTokens that change hands move nothing.
    SELECT market, block_number, coalesce(sum(delta) FILTER (side = 'collateral'), 0) AS lent_shares, coalesce(sum(delta) FILTER (side = 'debt'), 0) AS borrow_shares,
        coalesce(sum(signed) FILTER (side = 'collateral' AND action <> 'transfer'), 0) AS lent, coalesce(sum(signed) FILTER (side = 'debt'), 0) AS borrowed
    FROM (
        SELECT *, CASE WHEN action IN ('withdraw', 'repay', 'liquidation') THEN -amount ELSE amount END AS signed
        FROM canonical.position_events SEMI JOIN ours USING (market) WHERE asset_id = 0
    )
    GROUP BY market, block_number
    UNION ALL
    SELECT market, block_number, 0, 0, sum(value), sum(value) FROM params SEMI JOIN ours USING (market) WHERE name = 'interest' GROUP BY market, block_number
    UNION ALL
    SELECT market, block_number, 0, 0, -sum(amount), 0 FROM deficits SEMI JOIN ours USING (market) WHERE kind = 'created' GROUP BY market, block_number
), totals AS (
    SELECT market, block_number, sum(sum(lent_shares)) OVER running AS lent_shares, sum(sum(borrow_shares)) OVER running AS borrow_shares,
        sum(sum(lent)) OVER running AS lent, sum(sum(borrowed)) OVER running AS borrowed
    FROM flows GROUP BY market, block_number
    WINDOW running AS (PARTITION BY market ORDER BY block_number)
), settled AS (
    SELECT p.market, c.block_number, arg_max(p.value, p.seq) FILTER (p.name = 'pair_version') AS version,
        count(*) FILTER (p.name IN ('accrued', 'accrued_with_action')) = count(*) FILTER (p.name = 'interest') AS interest_kept,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_threshold')::HUGEINT AS max_ltv, arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_bonus')::HUGEINT AS bonus,
        arg_max(p.value, p.seq) FILTER (p.name = 'fee')::HUGEINT AS fee, arg_max(p.value, p.seq) FILTER (p.name = 'full_rate')::HUGEINT AS full_rate,
        arg_max(p.value, p.seq) FILTER (p.name = 'interest_paused') = 1 AS paused,
        -- No interest of the time in which it was paused (FraxlendPair pauseInterest); the constructor accrues right after it was made.
        max(p.timestamp) FILTER (p.name IN ('accrued', 'accrued_with_action') OR p.name = 'interest_paused' AND p.value = 0) AS accrued,
        min(p.timestamp) FILTER (p.name = 'created') - 1 AS created,
        arg_max(p.value, p.seq) FILTER (p.name = 'min_target_util')::HUGEINT AS min_target, arg_max(p.value, p.seq) FILTER (p.name = 'max_target_util')::HUGEINT AS max_target,
        arg_max(p.value, p.seq) FILTER (p.name = 'vertex_utilization')::HUGEINT AS vertex_use, arg_max(p.value, p.seq) FILTER (p.name = 'vertex_rate_percent')::HUGEINT AS vertex_part,
        arg_max(p.value, p.seq) FILTER (p.name = 'min_full_util_rate')::HUGEINT AS least, arg_max(p.value, p.seq) FILTER (p.name = 'max_full_util_rate')::HUGEINT AS most,
        arg_max(p.value, p.seq) FILTER (p.name = 'zero_util_rate')::HUGEINT AS zero_rate, arg_max(p.value, p.seq) FILTER (p.name = 'rate_half_life')::HUGEINT AS half_life
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    SEMI JOIN ours ON ours.market = p.market
    GROUP BY p.market, c.block_number
), listed AS (
    SELECT *, price::HUGEINT * pow(10, price_digits)::HUGEINT + price_rest AS price_full, unit * pow(10, price_digits)::HUGEINT AS unit_full
    FROM assets_at('fraxlend', blocks)
), stored AS (
    SELECT r.market, r.block_number, coalesce(s.lent, 0)::HUGEINT AS lent, coalesce(s.lent_shares, 0)::HUGEINT AS lent_shares, coalesce(s.borrowed, 0)::HUGEINT AS borrowed,
        coalesce(s.borrow_shares, 0)::HUGEINT AS borrow_shares, p.* EXCLUDE (market, block_number, fee), coalesce(p.fee, 0)::HUGEINT AS fee,
        CASE WHEN coalesce(p.paused, false) THEN 0::HUGEINT WHEN r.timestamp IS NOT NULL THEN greatest(r.timestamp - coalesce(p.accrued, p.created), 0)::HUGEINT END AS seconds
    FROM listed AS r JOIN settled AS p ON p.market = r.market AND p.block_number = r.block_number
    ASOF LEFT JOIN totals AS s ON s.market = r.market AND r.block_number >= s.block_number
    WHERE r.asset_id = 0
), used AS (
    SELECT *, CASE WHEN lent = 0 THEN 0::HUGEINT ELSE mul_div_down(100000, borrowed, lent) END AS use_exact, coalesce(use_exact, mul_div_near(100000, borrowed, lent)) AS use,
        CASE WHEN use_exact IS NOT NULL AND full_rate < 281474976710656 THEN full_rate END AS before
    FROM stored
), strayed AS (
    -- How far utilisation is outside its target, wad (VariableInterestRate getFullUtilizationInterest).
    SELECT *, CASE WHEN use < min_target THEN (min_target - use) * 1000000000000000000 // min_target
        WHEN use > max_target THEN (use - max_target) * 1000000000000000000 // (100000 - max_target) ELSE 0::HUGEINT END AS stray
    FROM used
), guessed AS (
    -- Below the target: a quotient in DOUBLE, within one of the exact one. Above it: what the rate grows by, of which this is the dividend over 1e18.
    SELECT *, CASE WHEN use < min_target THEN full_rate::DOUBLE / weight ELSE full_rate::DOUBLE * weight END AS near, least(before, floor(near)::HUGEINT) AS guess,
        mul_div_down(before * seconds, stray, 1000000000000000000) AS raised
    FROM (SELECT *, 1 + stray::DOUBLE / 1e18 * (stray::DOUBLE / 1e18) * seconds::DOUBLE / half_life::DOUBLE AS weight FROM strayed)
), moved AS (
    SELECT *, guess + 1 AS above, CASE WHEN use > max_target THEN before + mul_add_div_down(raised, stray,
        product_difference(before * seconds, stray, raised, 1000000000000000000) * stray // 1000000000000000000, 1000000000000000000 * half_life) ELSE before END AS grown
    FROM guessed
), decayed AS (
    SELECT *, CASE WHEN before IS NULL OR use >= min_target THEN grown ELSE guess - (fraxlend_decay_left(guess, before, half_life, stray, seconds) < 0)::HUGEINT
        + (above <= before AND fraxlend_decay_left(above, before, half_life, stray, seconds) >= 0)::HUGEINT END AS new_full
    FROM moved
), bounded AS (
    -- The contract cuts the result to 64 bits before it is bounded; of one that is known in DOUBLE alone nobody knows what that leaves.
    SELECT *, new_full IS NOT NULL AS rate_exact, coalesce(new_full % 18446744073709551616, CASE WHEN near < 18446744073709551616 THEN near::HUGEINT END) AS cut,
        CASE WHEN cut IS NOT NULL THEN greatest(least, least(most, cut)) END AS full_now
    FROM decayed
), bent AS (
    SELECT *, (full_now - zero_rate) * vertex_part // 1000000000000000000 + zero_rate AS vertex FROM bounded
), rated AS (
    SELECT *, CASE WHEN use < vertex_use THEN zero_rate + use * (vertex - zero_rate) // vertex_use
        ELSE vertex + (use - vertex_use) * (full_now - vertex) // (100000 - vertex_use) END AS rate
    FROM bent
), earned AS (
    -- One rate for all the time since the last accrual (FraxlendPairCore _calculateInterest).
    SELECT *, CASE WHEN seconds = 0 THEN 0::HUGEINT WHEN rate_exact THEN mul_div_down(borrowed, seconds * rate, 1000000000000000000) END AS interest_exact,
        CASE WHEN seconds = 0 THEN 0::HUGEINT ELSE mul_div_near(borrowed, seconds * rate, 1000000000000000000) END AS interest_near
    FROM rated
), charged AS (
    SELECT *, coalesce(interest_exact, interest_near) AS interest, coalesce(mul_div_down(interest, fee, 100000), mul_div_near(interest, fee, 100000)) AS of_fee FROM earned
), shared AS (
    SELECT *, CASE WHEN of_fee = 0 THEN 0::HUGEINT ELSE mul_div_down(of_fee, lent_shares, lent + interest - of_fee) END AS fee_shares FROM charged
), accrued AS (
    SELECT * EXCLUDE (lent, lent_shares, borrowed), lent + interest AS lent, borrowed + interest AS borrowed,
        lent_shares + coalesce(fee_shares, mul_div_near(of_fee, lent_shares, lent + interest - of_fee)) AS lent_shares,
        interest_exact IS NOT NULL AND fee_shares IS NOT NULL AS totals_exact
    FROM shared
), rates AS (
    SELECT market, block_number, mul_div_down(lent, 1000000000000000000 * of_collateral // of_lent, collateral) AS exchange_rate
    FROM (
        SELECT market, block_number, max(price_full) FILTER (asset_id = 0) AS lent, max(price_full) FILTER (asset_id = 1) AS collateral,
            max(unit) FILTER (asset_id = 0) AS of_lent, max(unit) FILTER (asset_id = 1) AS of_collateral
        FROM listed GROUP BY market, block_number
    )
    WHERE lent > 0 AND collateral > 0
), indexed AS (
    SELECT r.*, a.* EXCLUDE (market, block_number), x.exchange_rate,
        CASE WHEN r.asset_id = 1 OR a.lent = 0 OR a.lent_shares = 0 THEN 1000000000000000000000000000::HUGEINT
            ELSE coalesce(mul_div_down(a.lent, 1000000000000000000000000000, a.lent_shares), mul_div_near(a.lent, 1000000000000000000000000000, a.lent_shares)) END AS supply_index,
        CASE WHEN r.asset_id = 1 OR a.borrowed = 0 OR a.borrow_shares = 0 THEN 1000000000000000000000000000::HUGEINT
            ELSE coalesce(mul_div_down(a.borrowed, 1000000000000000000000000000, a.borrow_shares), mul_div_near(a.borrowed, 1000000000000000000000000000, a.borrow_shares)) END AS borrow_index
    FROM listed AS r LEFT JOIN accrued AS a ON a.market = r.market AND a.block_number = r.block_number
    LEFT JOIN rates AS x ON x.market = r.market AND x.block_number = r.block_number
)
SELECT market, block_number, timestamp, asset_id, symbol, unit, 1::HUGEINT AS share_unit, CASE WHEN interest_kept THEN version END AS revision, price, price_exact,
    CASE WHEN asset_id = 1 THEN max_ltv * 10000000000000 ELSE 0::HUGEINT END AS liquidation_threshold_wad,
    CASE WHEN asset_id = 1 THEN bonus * 10000000000000 ELSE 0::HUGEINT END AS liquidation_bonus_wad,
    supply_index, borrow_index, (supply_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS supply_excess,
    (borrow_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS borrow_excess, price_full, unit_full, max_ltv, lent, lent_shares, borrowed, borrow_shares, exchange_rate, totals_exact
FROM indexed
