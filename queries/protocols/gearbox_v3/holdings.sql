-- Purpose: tokens of Gearbox V3.1 credit accounts and what they owe at the end of some blocks, and how it counts towards their health.
-- Grain: (market, block_number, account_id, asset_id); only rows with a balance or with debt.
-- Parameters:
--   accounts: list of addresses; NULL for all
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   account_id: credit account
--   asset_id: asset
--   symbol: symbol of the asset
--   collateral_scaled: native units, exact
--   debt_scaled: the principal, native units, exact
--   collateral_enabled: whether it counts: the underlying, and tokens of which the account has a quota
--   emode: the account's category with parameters of its own, 0 for none
--   collateral: native units, HUGEINT
--   debt: native units with interest and fees, HUGEINT; null where the block's time or the rules are not known
--   collateral_value: base-currency units that count as collateral (HUGEINT), 0 where it does not count; null where the price is not known
--   debt_value: base-currency units (HUGEINT); null where time, price or rules are not known
--   threshold_wad: liquidation threshold that applies, wad (1e18 = one), HUGEINT
--   price_known: whether the oracle has a price
--   price_exact: false where the price is not known at this position
--   amounts_exact: false where a number is beyond what SQL's integers hold (10^33 units): DOUBLE then, good to 1e-14
--   quota: native units of the underlying for which the token counts at most, HUGEINT; null for the underlying
--   carried: base-currency units of debt that it carries (CollateralLogic calcCollateral), HUGEINT; null where price, time or rules are not known
--   base_price: of the underlying, HUGEINT; null where the oracle would revert
--   base_exact: false where that price is not known at this position
--   revision: version of the rules; null where they are not known
WITH placed AS (
    SELECT h.market, h.block_number, h.account_id, h.asset_id, h.collateral_scaled, h.debt_scaled, h.collateral_scaled::HUGEINT AS held, h.debt_scaled::HUGEINT AS principal, r.timestamp,
        r.symbol, r.unit, r.revision, nullif(r.price, 0)::HUGEINT AS price, r.price_exact, r.threshold_bps, r.liquidation_threshold_wad, nullif(r.base_price, 0) AS base_price,
        r.base_unit, r.base_exact, q.quota, o.total, coalesce(o.owed_exact, true) AS owed_exact, h.asset_id = 0 OR q.quota IS NOT NULL AS counts
    FROM scaled_at('gearbox-v3', accounts, blocks) AS h
    JOIN gearbox_v3_reserves(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    LEFT JOIN gearbox_v3_quotas(accounts, blocks) AS q ON q.market = h.market AND q.block_number = h.block_number AND q.account_id = h.account_id AND q.asset_id = h.asset_id
    LEFT JOIN gearbox_v3_owed(accounts, blocks) AS o ON o.market = h.market AND o.block_number = h.block_number AND o.account_id = h.account_id AND h.asset_id = 0
    WHERE h.collateral_scaled <> 0 OR h.debt_scaled <> 0
), native AS (
    SELECT *, CASE WHEN principal = 0 THEN 0::HUGEINT ELSE total END AS debt, CASE WHEN counts AND held <> 0 THEN mul_div_down(held, price, unit) ELSE 0::HUGEINT END AS worth_exact,
        -- What a quota is worth: the price of a ray of the underlying is cut first.
        mul_div_down(1000000000000000000000000000, base_price, base_unit) AS base_ray
    FROM placed
), valued AS (
    SELECT *, CASE WHEN debt = 0 THEN 0::HUGEINT ELSE mul_div_down(debt, price, unit) END AS debt_exact, coalesce(worth_exact, mul_div_near(held, price, unit)) AS worth,
        mul_div_down(quota, base_ray, 1000000000000000000000000000) AS quota_exact, coalesce(quota_exact, mul_div_near(quota, base_price, base_unit)) AS quota_worth
    FROM native
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, counts AS collateral_enabled, 0 AS emode, held AS collateral, debt,
    worth AS collateral_value, coalesce(debt_exact, mul_div_near(debt, price, unit)) AS debt_value, liquidation_threshold_wad AS threshold_wad, price IS NOT NULL AS price_known,
    coalesce(price_exact, false) AS price_exact, owed_exact AND (price IS NULL OR worth_exact IS NOT NULL AND (debt IS NULL OR debt_exact IS NOT NULL))
        AND (quota IS NULL OR base_price IS NULL OR quota_exact IS NOT NULL) AS amounts_exact, quota,
    CASE WHEN NOT counts OR held = 0 THEN 0::HUGEINT WHEN asset_id = 0 THEN worth * threshold_bps // 10000 WHEN worth IS NOT NULL AND quota_worth IS NOT NULL THEN least(worth * threshold_bps // 10000, quota_worth) END AS carried,
    base_price, base_exact, revision
FROM valued
