-- Purpose: what accounts of Aave V3 hold and owe at the end of some blocks, and how it counts towards their health.
-- Grain: (market, block_number, account_id, asset_id); only rows with a balance or with debt, or flagged as collateral.
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
--   amounts_exact: false where a number is beyond what SQL's integers hold: 1.5 x 10^26 native units of interest, 10^33 scaled units, 10^38 native units times price: DOUBLE then, good to 1e-14
--   averaged: rules: average threshold in whole basis points
WITH chosen AS (
    SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number
), people AS (
    SELECT market, account_id FROM accounts WHERE accounts IS NULL OR account IN (SELECT lower(unnest(accounts::VARCHAR[])))
), settings AS (
    SELECT * FROM setting_steps SEMI JOIN people USING (market, account_id)
), stable AS (
    -- Debt at a stable rate: few accounts, and none since 3.2.
    SELECT *, ray_mul_half_up(yearly, yearly) // 994519296000000 AS power_two
    FROM (
        SELECT s.market, s.account_id, s.asset_id, c.block_number, arg_max(s.value, s.block_number) FILTER (s.setting = 'stable_principal')::HUGEINT AS principal,
            arg_max(s.value, s.block_number) FILTER (s.setting = 'stable_rate')::HUGEINT AS yearly,
            any_value(b.timestamp) - arg_max(s.value, s.block_number) FILTER (s.setting = 'stable_since')::HUGEINT AS seconds
        FROM settings AS s JOIN chosen AS c ON s.block_number <= c.block_number
        LEFT JOIN blocks AS b ON b.market = s.market AND b.block_number = c.block_number
        WHERE s.setting IN ('stable_principal', 'stable_rate', 'stable_since') GROUP BY s.market, s.account_id, s.asset_id, c.block_number
    )
), stable_owed AS (
    SELECT market, account_id, asset_id, block_number, principal, CASE WHEN principal = 0 THEN 0::HUGEINT ELSE ray_mul_half_up(principal,
        1000000000000000000000000000 + yearly * seconds // 31536000 + aave_v3_binomial_terms(seconds, power_two, power_three)) END AS owed
    FROM (SELECT *, ray_mul_half_up(power_two, yearly) // 31536000 AS power_three FROM stable)
), categories AS (
    SELECT p.market, p.category, c.block_number, arg_max(p.value, p.seq) FILTER (p.name = 'emode_liquidation_threshold')::HUGEINT AS threshold,
        arg_max(p.value, p.seq) FILTER (p.name = 'emode_price_source')::INTEGER AS price_source
    FROM params AS p JOIN chosen AS c ON p.block_number <= c.block_number
    WHERE p.name IN ('emode_liquidation_threshold', 'emode_price_source') GROUP BY p.market, p.category, c.block_number
), members AS (
    SELECT p.market, p.category, p.asset_id, c.block_number, arg_max(p.value, p.seq) = 1 AS is_listed
    FROM params AS p JOIN chosen AS c ON p.block_number <= c.block_number
    WHERE p.name = 'emode_collateral' GROUP BY p.market, p.category, p.asset_id, c.block_number
), held AS (
    SELECT s.*, coalesce(flag.value, 0) = 1 AS collateral_enabled, coalesce(mode.value, 0)::INTEGER AS emode,
        coalesce(d.principal, 0) AS stable_principal, CASE WHEN d.principal IS NULL THEN 0 ELSE d.owed END AS stable_debt
    FROM scaled_at('aave-v3', accounts, blocks) AS s
    ASOF LEFT JOIN (SELECT * FROM settings WHERE setting = 'collateral_enabled') AS flag
        ON flag.market = s.market AND flag.account_id = s.account_id AND flag.asset_id = s.asset_id AND s.block_number >= flag.block_number
    ASOF LEFT JOIN (SELECT * FROM settings WHERE setting = 'emode') AS mode
        ON mode.market = s.market AND mode.account_id = s.account_id AND s.block_number >= mode.block_number
    LEFT JOIN stable_owed AS d ON d.market = s.market AND d.account_id = s.account_id AND d.asset_id = s.asset_id AND d.block_number = s.block_number
), reserves AS (
    SELECT *, (supply_index // 1000000000000000000000000000)::HUGEINT AS supply_whole, supply_index % 1000000000000000000000000000 AS supply_rest,
        (borrow_index // 1000000000000000000000000000)::HUGEINT AS borrow_whole, borrow_index % 1000000000000000000000000000 AS borrow_rest,
        -- What is added before a division by a ray so that rounding down gives the rounding wanted.
        CASE WHEN directional THEN 0::HUGEINT ELSE 500000000000000000000000000::HUGEINT END AS supply_added,
        CASE WHEN directional THEN 999999999999999999999999999::HUGEINT ELSE 500000000000000000000000000::HUGEINT END AS borrow_added,
        CASE WHEN directional THEN unit - 1 ELSE 0::HUGEINT END AS value_added
    FROM aave_v3_reserves(blocks)
), placed AS (
    SELECT h.*, r.timestamp, r.symbol, r.unit, r.revision, r.averaged, r.supply_index, r.borrow_index, r.supply_whole, r.supply_rest, r.borrow_whole, r.borrow_rest, r.supply_added, r.borrow_added,
        r.value_added,
        -- A category with a price source of its own (to 3.1) values its members by that, and asks for it first of all.
        coalesce(o.asset_id IS NOT NULL AND r.emode_category = h.emode, false) AS by_category_price,
        CASE WHEN by_category_price THEN o.price ELSE r.price END::HUGEINT AS price,
        CASE WHEN by_category_price THEN o.price_exact ELSE r.price_exact END AS price_exact, (o.asset_id IS NULL OR coalesce(o.price, 0) > 0) AS source_known,
        (r.liquidation_threshold_wad <> 0 OR NOT r.threshold_gates) AS may_count,
        h.emode <> 0 AND CASE WHEN r.emode_by_bitmap THEN coalesce(listed.is_listed, false) ELSE r.emode_category = h.emode END AS in_emode,
        CASE WHEN in_emode THEN coalesce(by_category.threshold, 0) * 100000000000000 ELSE r.liquidation_threshold_wad END AS threshold_wad,
        h.collateral_scaled < 1e33 AND h.debt_scaled < 1e33 AND h.collateral_scaled::DOUBLE * r.supply_rest::DOUBLE < 1.5e53
            AND h.debt_scaled::DOUBLE * r.borrow_rest::DOUBLE < 1.5e53 AS scaled_fit
    FROM held AS h
    JOIN reserves AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    LEFT JOIN categories AS by_category ON by_category.market = h.market AND by_category.category = h.emode AND by_category.block_number = h.block_number
    LEFT JOIN reserves AS o
        ON o.market = h.market AND o.block_number = h.block_number AND o.asset_id = by_category.price_source AND NOT o.emode_by_bitmap AND h.emode <> 0
    LEFT JOIN members AS listed
        ON listed.market = h.market AND listed.asset_id = h.asset_id AND listed.category = h.emode AND listed.block_number = h.block_number
    WHERE h.collateral_scaled <> 0 OR h.debt_scaled <> 0 OR h.stable_principal <> 0 OR h.collateral_enabled
), guessed AS (
    -- Scaled units times the index, over a ray: whole rays are a product, and of the rest DOUBLE guesses what the limbs then correct
    -- (for more than 1.5e26 units of interest a guess is not near enough).
    SELECT *, CASE WHEN scaled_fit THEN collateral_scaled::HUGEINT ELSE 0::HUGEINT END AS supplied, CASE WHEN scaled_fit THEN debt_scaled::HUGEINT ELSE 0::HUGEINT END AS borrowed,
        near_quotient(supplied::DOUBLE * supply_rest::DOUBLE, 1e27) AS supply_guess, near_quotient(borrowed::DOUBLE * borrow_rest::DOUBLE, 1e27) AS borrow_guess
    FROM placed
), corrected AS (
    SELECT *, supplied * supply_whole + supply_guess AS supply_near, borrowed * borrow_whole + borrow_guess AS borrow_near,
        product_difference(supplied, supply_rest, supply_guess, 1000000000000000000000000000::HUGEINT) + supply_added AS supply_left,
        product_difference(borrowed, borrow_rest, borrow_guess, 1000000000000000000000000000::HUGEINT) + borrow_added AS borrow_left
    FROM guessed
), native AS (
    SELECT *,
        CASE WHEN scaled_fit THEN supply_near + near_quotient(supply_left, 1e27)
                + whole_over(supply_left - near_quotient(supply_left, 1e27) * 1000000000000000000000000000, 1000000000000000000000000000::HUGEINT)
            ELSE mul_div_near(collateral_scaled, supply_index, 1000000000000000000000000000::HUGEINT) END AS collateral,
        CASE WHEN scaled_fit THEN borrow_near + near_quotient(borrow_left, 1e27)
                + whole_over(borrow_left - near_quotient(borrow_left, 1e27) * 1000000000000000000000000000, 1000000000000000000000000000::HUGEINT)
            ELSE mul_div_near(debt_scaled, borrow_index, 1000000000000000000000000000::HUGEINT) END + stable_debt AS debt
    FROM corrected
), priced AS (
    SELECT *, coalesce(scaled_fit, true) AND coalesce(collateral::DOUBLE * price::DOUBLE < 1e38 AND debt::DOUBLE * price::DOUBLE < 1e38, true) AS amounts_exact,
        CASE WHEN amounts_exact THEN collateral * price ELSE 0::HUGEINT END AS supply_product,
        CASE WHEN amounts_exact THEN debt * price + value_added ELSE 0::HUGEINT END AS debt_product,
        near_quotient(supply_product, unit) AS supply_value_near, near_quotient(debt_product, unit) AS debt_value_near
    FROM native
), reduced AS (
    SELECT *, supply_product - supply_value_near * unit AS supply_value_left, debt_product - debt_value_near * unit AS debt_value_left
    FROM priced
), valued AS (
    SELECT *,
        CASE WHEN amounts_exact THEN supply_value_near + near_quotient(supply_value_left, unit)
                + whole_over(supply_value_left - near_quotient(supply_value_left, unit) * unit, unit)
            ELSE mul_div_near(collateral, price, unit) END AS supplied_value,
        CASE WHEN amounts_exact THEN debt_value_near + near_quotient(debt_value_left, unit)
                + whole_over(debt_value_left - near_quotient(debt_value_left, unit) * unit, unit)
            ELSE mul_div_near(debt, price, unit) END AS debt_value
    FROM reduced
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, collateral_enabled, emode, collateral, debt,
    CASE WHEN collateral_enabled AND may_count THEN supplied_value ELSE 0::HUGEINT END AS collateral_value,
    debt_value, threshold_wad, coalesce(price > 0, false) AND source_known AS price_known, coalesce(price_exact, false) AS price_exact, amounts_exact, averaged
FROM valued
