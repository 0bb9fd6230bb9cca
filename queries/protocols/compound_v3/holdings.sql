-- Purpose: what accounts of Compound V3 markets hold and owe at the end of some blocks, and how it counts towards their health.
-- Grain: (market, block_number, account_id, asset_id); only rows with a balance or with debt.
-- Parameters:
--   accounts: list of addresses; NULL for all
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   account_id: account
--   asset_id: asset
--   symbol: symbol of the asset
--   collateral_scaled: scaled units (of a share token: shares), exact
--   debt_scaled: scaled units, exact
--   collateral_enabled: whether it counts as the account's collateral
--   emode: the account's category with parameters of its own, 0 for none
--   collateral: native units with interest, HUGEINT, rounded as the contract does
--   debt: native units with interest, HUGEINT, rounded as the contract does
--   collateral_value: base-currency units that count as collateral (HUGEINT), 0 where it does not count; null where time, price or rules are not known
--   debt_value: base-currency units (HUGEINT); null where time, price or rules are not known
--   threshold_wad: liquidation threshold that applies, wad (1e18 = one), HUGEINT
--   price_known: whether the oracle has a price
--   price_exact: false where the price is not known at this position
--   amounts_exact: false where a number is beyond what SQL's integers hold (10^33 units): DOUBLE then, good to 1e-14
--   carries: base-currency units that the collateral counts for before the account may be absorbed (Comet isLiquidatable), HUGEINT
WITH placed AS (
    SELECT h.*, r.timestamp, r.symbol, r.unit, r.price::HUGEINT AS price, r.price_exact, r.liquidation_threshold_wad, h.asset_id = 0 AS is_base,
        h.collateral_scaled::HUGEINT AS held, h.debt_scaled::HUGEINT AS owed, r.supply_index // 1000000000000 AS supplied_at, r.borrow_index // 1000000000000 AS borrowed_at
    FROM scaled_at('compound-v3', accounts, blocks) AS h
    JOIN compound_v3_reserves(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    WHERE h.collateral_scaled <> 0 OR h.debt_scaled <> 0
), native AS (
    SELECT *, CASE WHEN is_base THEN mul_div_down(held, supplied_at, 1000000000000000) ELSE held END AS collateral_exact,
        CASE WHEN owed = 0 THEN 0::HUGEINT ELSE mul_div_down(owed, borrowed_at, 1000000000000000) END AS debt_exact
    FROM placed
), valued AS (
    SELECT *, CASE WHEN is_base THEN 0::HUGEINT ELSE mul_div_down(held, price, unit) END AS collateral_value,
        CASE WHEN owed = 0 THEN 0::HUGEINT ELSE mul_div_down(debt_exact, price, unit) END AS debt_value
    FROM native
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, NOT is_base AS collateral_enabled, 0 AS emode,
    coalesce(collateral_exact, mul_div_near(held, supplied_at, 1000000000000000::HUGEINT)) AS collateral,
    coalesce(debt_exact, mul_div_near(owed, borrowed_at, 1000000000000000::HUGEINT)) AS debt,
    coalesce(collateral_value, mul_div_near(held, price, unit)) AS collateral_value, coalesce(debt_value, mul_div_near(debt_exact, price, unit)) AS debt_value,
    liquidation_threshold_wad AS threshold_wad, price IS NOT NULL AS price_known, coalesce(price_exact, false) AS price_exact,
    collateral_exact IS NOT NULL AND debt_exact IS NOT NULL AND (price IS NULL OR collateral_value IS NOT NULL AND debt_value IS NOT NULL) AS amounts_exact,
    CASE WHEN is_base THEN 0::HUGEINT ELSE coalesce(mul_div_down(collateral_value, liquidation_threshold_wad, 1000000000000000000),
        mul_div_near(mul_div_near(held, price, unit), liquidation_threshold_wad, 1000000000000000000::HUGEINT)) END AS carries
FROM valued
