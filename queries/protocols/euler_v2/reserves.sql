-- Purpose: the lent token and the collateral vaults of Euler V2 markets at the end of some blocks, with interest to the block's time.
-- Grain: (market, block_number, asset_id): 0 is the lent token, the others are collateral vaults.
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
--   liquidation_threshold_wad: liquidation LTV in force, on its way down where it was lowered, wad (1e18 = one), HUGEINT
--   liquidation_bonus_wad: what a liquidation gives for one unit of debt, wad: null, an account's health finds it
--   supply_index: native units that share_unit scaled units of collateral stand for, ray (1e27), with interest to the block's time, HUGEINT
--   borrow_index: the same of debt: the interest accumulator
--   supply_excess: supply_index less one, DOUBLE (so that indexes near one keep their digits)
--   borrow_excess: borrow_index less one, DOUBLE
--   ltv_wad: borrow LTV, wad, HUGEINT
--   liquidation_ltv: liquidation LTV in force, basis points, HUGEINT
--   borrow_ltv: borrow LTV, basis points, HUGEINT
--   cash: native units in the vault, HUGEINT
--   borrows: native units owed to it, rounded up, HUGEINT
--   shares: its shares, with the fee's, HUGEINT
--   accumulator: interest accumulator, ray, HUGEINT
--   totals_exact: false where a number is beyond what SQL's integers hold (10^33): DOUBLE then, good to 1e-14
WITH RECURSIVE listed AS (
    SELECT * FROM assets_at('euler-v2', blocks)
), settled AS (
    SELECT p.market, p.asset_id, c.block_number, arg_max(p.value, p.seq) FILTER (p.name = 'vault_cash')::HUGEINT AS cash,
        arg_max(p.value, p.seq) FILTER (p.name = 'vault_debt')::HUGEINT AS debt, arg_max(p.value, p.seq) FILTER (p.name = 'vault_shares')::HUGEINT AS shares,
        arg_max(p.value, p.seq) FILTER (p.name = 'vault_accumulator')::HUGEINT AS accumulator, arg_max(p.value, p.seq) FILTER (p.name = 'vault_rate')::HUGEINT AS rate,
        arg_max(p.value, p.seq) FILTER (p.name = 'vault_fee')::HUGEINT AS fee, max(p.timestamp) FILTER (p.name = 'vault_rate') AS updated,
        arg_max(p.value, p.seq) FILTER (p.name = 'ltv')::HUGEINT AS ltv, arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_threshold')::HUGEINT AS target,
        arg_max(p.value, p.seq) FILTER (p.name = 'initial_threshold')::HUGEINT AS initial, arg_max(p.value, p.seq) FILTER (p.name = 'ramp_end')::HUGEINT AS ends,
        arg_max(p.value, p.seq) FILTER (p.name = 'ramp_duration')::HUGEINT AS lasts
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    SEMI JOIN (SELECT market FROM markets WHERE protocol = 'euler-v2') AS ours USING (market)
    WHERE p.asset_id IS NOT NULL AND p.name IN ('vault_cash', 'vault_debt', 'vault_shares', 'vault_accumulator', 'vault_rate', 'vault_fee', 'ltv', 'liquidation_threshold',
        'initial_threshold', 'ramp_end', 'ramp_duration')
    GROUP BY p.market, p.asset_id, c.block_number
), revised AS (
    SELECT p.market, c.block_number, arg_max(p.value, p.seq) AS revision
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    WHERE p.name = 'euler_revision' GROUP BY p.market, c.block_number
), stored AS (
    SELECT r.*, coalesce(s.cash, 0)::HUGEINT AS cash, coalesce(s.debt, 0)::HUGEINT AS debt, coalesce(s.shares, 0)::HUGEINT AS total,
        coalesce(s.accumulator, 1000000000000000000000000000)::HUGEINT AS accumulator_then, coalesce(s.rate, 0)::HUGEINT AS rate, coalesce(s.fee, 1000)::HUGEINT AS fee,
        greatest(r.timestamp - s.updated, 0)::BIGINT AS seconds, s.ltv, s.target, s.initial, s.ends, s.lasts
    FROM listed AS r LEFT JOIN settled AS s ON s.market = r.market AND s.asset_id = r.asset_id AND s.block_number = r.block_number
), powered AS (
    -- RPow: one plus the rate, to the power of the seconds, by squaring, each product to nearest.
    SELECT market, block_number, asset_id, 1000000000000000000000000000 + rate AS x, seconds // 2 AS n,
        CASE WHEN seconds % 2 = 1 THEN 1000000000000000000000000000 + rate ELSE 1000000000000000000000000000::HUGEINT END AS z
    FROM stored
    UNION ALL
    SELECT market, block_number, asset_id, ray_mul_half_up(x, x), n // 2, CASE WHEN n % 2 = 1 THEN ray_mul_half_up(z, ray_mul_half_up(x, x)) ELSE z END
    FROM powered WHERE n > 0
), grown AS (
    SELECT s.*, mul_div_down(s.accumulator_then, p.z, 1000000000000000000000000000) AS accumulator
    FROM stored AS s LEFT JOIN (SELECT * FROM powered WHERE n = 0) AS p ON p.market = s.market AND p.block_number = s.block_number AND p.asset_id = s.asset_id
), owed AS (
    SELECT *, mul_div_down(debt, accumulator, accumulator_then) AS debt_exact, coalesce(mul_div_down(debt, accumulator, accumulator_then),
        mul_div_near(debt, accumulator, accumulator_then)) AS debt_now
    FROM grown
), charged AS (
    -- Cache initVaultCache: the fee's assets, at the rate that they leave, become shares.
    SELECT *, cash + (debt_now + 2147483647) // 2147483648 AS assets, (debt_now - debt) * fee // 21474836480000 AS fee_assets FROM owed
), shared AS (
    SELECT *, CASE WHEN fee_assets = 0 THEN total ELSE mul_div_down(assets, total, assets - fee_assets) END AS shares_exact FROM charged
), indexed AS (
    SELECT *, coalesce(shares_exact, mul_div_near(assets, total, assets - fee_assets)) AS shares, debt_exact IS NOT NULL AND shares_exact IS NOT NULL AS totals_exact,
        CASE WHEN timestamp >= ends OR target >= initial THEN target ELSE target + (initial - target) * (ends - timestamp) // lasts END AS liquidation_ltv
    FROM shared
), priced AS (
    SELECT *, CASE WHEN asset_id = 0 THEN coalesce(mul_div_down(assets + 1000000, 1000000000000000000000000000, shares + 1000000),
            mul_div_near(assets + 1000000, 1000000000000000000000000000, shares + 1000000)) * 2147483648
        ELSE coalesce(mul_div_down(assets + 1000000, 1000000000000000000000000000, shares + 1000000),
            mul_div_near(assets + 1000000, 1000000000000000000000000000, shares + 1000000)) END AS supply_index FROM indexed
)
SELECT i.market, i.block_number, i.timestamp, i.asset_id, i.symbol, i.unit, CASE WHEN i.asset_id = 0 THEN 2147483648::HUGEINT ELSE 1::HUGEINT END AS share_unit,
    v.revision, i.price, i.price_exact, coalesce(liquidation_ltv, 0)::HUGEINT * 100000000000000 AS liquidation_threshold_wad, NULL::HUGEINT AS liquidation_bonus_wad,
    supply_index, accumulator AS borrow_index, supply_index::DOUBLE / 1e27 - 1 AS supply_excess,
    (accumulator - 1000000000000000000000000000)::DOUBLE / 1e27 AS borrow_excess, coalesce(ltv, 0)::HUGEINT * 100000000000000 AS ltv_wad,
    coalesce(liquidation_ltv, 0)::HUGEINT AS liquidation_ltv, coalesce(ltv, 0)::HUGEINT AS borrow_ltv, cash,
    (debt_now + 2147483647) // 2147483648 AS borrows, shares, accumulator, totals_exact
FROM priced AS i LEFT JOIN revised AS v ON v.market = i.market AND v.block_number = i.block_number
