-- Purpose: what GEB SAFEs hold and owe at the end of some blocks, and how it counts towards their health.
-- Grain: (market, block_number, account_id, asset_id); only rows with a balance or with debt.
-- Parameters:
--   accounts: list of SAFEs; NULL for all
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
--   collateral: wad, HUGEINT; of the coin rounded up from the rad that the SAFEEngine keeps
--   debt: wad, HUGEINT; of the coin rounded up from the rad that the SAFEEngine keeps
--   collateral_value: base-currency units that count as collateral (HUGEINT), 0 where it does not count; null where time, price or rules are not known
--   debt_value: base-currency units (HUGEINT); null where time, price or rules are not known
--   threshold_wad: liquidation threshold that applies, wad (1e18 = one), HUGEINT
--   price_known: whether the oracle has a price
--   price_exact: false where the price is not known at this position
--   amounts_exact: false where a number is beyond what SQL's integers hold (10^33 wad): DOUBLE then, good to 1e-14
--   rate: coins owed per unit of normalised debt, ray (SAFEEngine accumulatedRate), HUGEINT
--   spot: coins that one unit of collateral may carry, ray (SAFEEngine liquidationPrice), HUGEINT
WITH placed AS (
    SELECT h.*, r.timestamp, r.symbol, r.price, r.ray, r.price_exact, r.liquidation_threshold_wad, h.asset_id = 0 AS is_collateral, r.par, r.rate, r.spot,
        h.collateral_scaled::HUGEINT AS ink, h.debt_scaled::HUGEINT AS art
    FROM scaled_at('geb', accounts, blocks) AS h
    JOIN geb_reserves(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    WHERE h.collateral_scaled <> 0 OR h.debt_scaled <> 0
), divided AS (
    SELECT *, CASE WHEN ink = 0 THEN 0::HUGEINT ELSE mul_div_down(ink, ray, 1000000000000000000000000000) END AS collateral_exact,
        mul_div_down(art, rate, 1000000000000000000000000000) AS whole_coins
    FROM placed
), owing AS (
    -- rad to wad and coins to base units, up at the end alone.
    SELECT *, CASE WHEN whole_coins IS NOT NULL THEN product_difference(art, rate, whole_coins, 1000000000000000000000000000::HUGEINT) END AS rest_coins,
        whole_coins + CASE WHEN rest_coins > 0 THEN 1 ELSE 0 END AS debt_exact,
        CASE WHEN art = 0 THEN 0::HUGEINT ELSE mul_add_div_down(whole_coins, par,
            mul_div_up(rest_coins, par, 1000000000000000000000000000) + 999999999999999999999999999, 1000000000000000000000000000) END AS value_exact
    FROM divided
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, is_collateral AS collateral_enabled, 0 AS emode, ink AS collateral,
    coalesce(debt_exact, mul_div_near(art, rate, 1000000000000000000000000000::HUGEINT)) AS debt,
    coalesce(collateral_exact, mul_div_near(ink, ray, 1000000000000000000000000000::HUGEINT)) AS collateral_value,
    coalesce(value_exact, mul_div_near(mul_div_near(art, rate, 1000000000000000000000000000::HUGEINT), par, 1000000000000000000000000000::HUGEINT)) AS debt_value,
    liquidation_threshold_wad AS threshold_wad,
    price IS NOT NULL AND (is_collateral OR spot IS NOT NULL) AS price_known, coalesce(price_exact, false) AS price_exact,
    (collateral_exact IS NOT NULL OR price IS NULL) AND (value_exact IS NOT NULL OR par IS NULL) AS amounts_exact, rate, spot
FROM owing
