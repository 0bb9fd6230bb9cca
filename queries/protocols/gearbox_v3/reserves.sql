-- Purpose: the underlying and collateral tokens of Gearbox V3.1 credit managers at the end of some blocks, with the pool's index and each token's quota index.
-- Grain: (market, block_number, asset_id): 0 is the underlying.
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
--   revision: version of the rules; null where they are not known, or of tables that lack the pool's index in some blocks
--   price: base-currency units per whole token, exact to the unit; null where the oracle would revert or nothing is known
--   price_exact: false where the price is not known at this position
--   liquidation_threshold_wad: share of its value as collateral that debt may reach, along its ramp, wad (1e18 = one), HUGEINT; a quota may let less count
--   liquidation_bonus_wad: what an unhealthy account's liquidation gives for one unit paid, wad (1.05e18 = 5 % bonus), HUGEINT
--   supply_index: one in ray (1e27), HUGEINT: tokens are held as they are
--   borrow_index: one in ray (1e27), HUGEINT: principals, whose interest is each account's own (gearbox_v3_owed)
--   supply_excess: supply_index less one, DOUBLE
--   borrow_excess: borrow_index less one, DOUBLE
--   threshold_bps: liquidation_threshold_wad in basis points, as the contract has it, HUGEINT
--   quota_index: of a token's quotas, with what accrued to the block's time (PoolQuotaKeeperV3 cumulativeIndex), ray, HUGEINT
--   pool_index: the pool's interest index, with what accrued to the block's time (PoolV3 baseInterestIndex), ray, HUGEINT
--   interest_fee: the treasury's share on top of interest, basis points, HUGEINT
--   base_price: of the underlying, as price, HUGEINT
--   base_exact: of the underlying, as price_exact
--   base_unit: of the underlying, as unit, HUGEINT
WITH ours AS (
    SELECT market FROM markets WHERE protocol = 'gearbox-v3'
), past AS (
    SELECT p.market, c.block_number, p.asset_id, p.name, p.value, p.seq
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    SEMI JOIN ours ON ours.market = p.market
), terms AS (
    SELECT market, block_number, nullif(arg_max(value, seq) FILTER (name = 'gearbox_revision'), 1) AS revision, arg_max(value, seq) FILTER (name = 'interest_fee')::HUGEINT AS interest_fee,
        arg_max(value, seq) FILTER (name = 'liquidation_fee')::HUGEINT AS fee, arg_max(value, seq) FILTER (name = 'liquidation_premium')::HUGEINT AS premium,
        coalesce(arg_max(value, seq) FILTER (name = 'quota_rates_updated'), 0)::HUGEINT AS rates_updated
    FROM past WHERE asset_id IS NULL GROUP BY market, block_number
), tokens AS (
    SELECT market, block_number, asset_id, coalesce(arg_max(value, seq) FILTER (name = 'liquidation_threshold'), 0)::HUGEINT AS threshold,
        arg_max(value, seq) FILTER (name = 'threshold_from')::HUGEINT AS ramp_from, arg_max(value, seq) FILTER (name = 'threshold_to')::HUGEINT AS ramp_to,
        arg_max(value, seq) FILTER (name = 'threshold_ramp_start')::HUGEINT AS ramp_start, arg_max(value, seq) FILTER (name = 'threshold_ramp_end')::HUGEINT AS ramp_end,
        coalesce(arg_max(value, seq) FILTER (name = 'quota_rate'), 0)::HUGEINT AS quota_rate, coalesce(arg_max(value, seq) FILTER (name = 'quota_index'), 1)::HUGEINT AS quota_stored
    FROM past WHERE asset_id IS NOT NULL GROUP BY market, block_number, asset_id
), placed AS (
    SELECT r.market, r.block_number, r.timestamp::HUGEINT AS now, r.timestamp, r.asset_id, r.symbol, r.unit, r.price, r.price_exact, t.* EXCLUDE (market, block_number), k.* EXCLUDE (market, block_number, asset_id),
        coalesce(i.borrow_index, 1000000000000000000000000000)::HUGEINT AS stored, coalesce(i.borrow_rate, 0)::HUGEINT AS rate, greatest(0, r.timestamp - coalesce(i.timestamp, r.timestamp))::HUGEINT AS seconds
    FROM assets_at('gearbox-v3', blocks) AS r
    LEFT JOIN terms AS t ON t.market = r.market AND t.block_number = r.block_number
    LEFT JOIN tokens AS k ON k.market = r.market AND k.block_number = r.block_number AND k.asset_id = r.asset_id
    ASOF LEFT JOIN (SELECT * FROM index_steps SEMI JOIN ours USING (market) WHERE asset_id = 0) AS i ON i.market = r.market AND r.block_number >= i.block_number
), moved AS (
    -- A threshold that something else than its ramp's own begin says does not move (CreditLogic getLiquidationThreshold).
    SELECT *, CASE WHEN asset_id = 0 THEN 10000 - premium - fee WHEN threshold IS NULL THEN 0::HUGEINT WHEN ramp_from IS DISTINCT FROM threshold OR now <= ramp_start THEN threshold
        WHEN now >= ramp_end THEN ramp_to ELSE (threshold * (ramp_end - now) + ramp_to * (now - ramp_start)) // (ramp_end - ramp_start) END AS threshold_bps
    FROM placed
)
SELECT market, block_number, timestamp, asset_id, symbol, unit, 1::HUGEINT AS share_unit, revision, price, price_exact, threshold_bps * 100000000000000 AS liquidation_threshold_wad,
    CASE WHEN premium < 10000 THEN 10000000000000000000000 // (10000 - premium) END AS liquidation_bonus_wad, 1000000000000000000000000000::HUGEINT AS supply_index,
    1000000000000000000000000000::HUGEINT AS borrow_index, 0::DOUBLE AS supply_excess, 0::DOUBLE AS borrow_excess, threshold_bps,
    coalesce(quota_stored, 1)::HUGEINT + 100000000000000000000000 * greatest(0, now - coalesce(rates_updated, 0))::HUGEINT * coalesce(quota_rate, 0) // 31536000 AS quota_index,
    mul_div_down(stored, 1000000000000000000000000000 + rate * seconds // 31536000, 1000000000000000000000000000) AS pool_index, interest_fee,
    max(price::HUGEINT) FILTER (asset_id = 0) OVER own AS base_price, coalesce(bool_and(price_exact) FILTER (asset_id = 0) OVER own, false) AS base_exact, max(unit) FILTER (asset_id = 0) OVER own AS base_unit
FROM moved
WINDOW own AS (PARTITION BY market, block_number)
