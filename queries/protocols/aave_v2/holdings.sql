-- Purpose: what accounts of Aave V2 hold and owe at the end of some blocks, and how it counts towards their health.
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
--   amounts_exact: false where a number is beyond what SQL's integers hold (5 x 10^30 native or scaled units): DOUBLE then, good to 1e-14
--   known: whether the pool's revision is one that these rules cover
WITH chosen AS (
    SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number
), people AS (
    SELECT market, account_id FROM accounts WHERE accounts IS NULL OR account IN (SELECT lower(unnest(accounts::VARCHAR[])))
), settings AS (
    SELECT * FROM setting_steps SEMI JOIN people USING (market, account_id)
), loans AS (
    SELECT s.market, s.account_id, s.asset_id, c.block_number, arg_max(s.value, s.block_number) FILTER (s.setting = 'stable_principal')::HUGEINT AS principal,
        arg_max(s.value, s.block_number) FILTER (s.setting = 'stable_rate')::HUGEINT // 31536000 AS per_second,
        any_value(b.timestamp) - arg_max(s.value, s.block_number) FILTER (s.setting = 'stable_since')::HUGEINT AS seconds
    FROM settings AS s JOIN chosen AS c ON s.block_number <= c.block_number
    LEFT JOIN blocks AS b ON b.market = s.market AND b.block_number = c.block_number
    WHERE s.setting IN ('stable_principal', 'stable_rate', 'stable_since') GROUP BY s.market, s.account_id, s.asset_id, c.block_number
), squared AS (
    SELECT *, ray_mul_half_up(per_second, per_second) AS power_two FROM loans
), stable AS (
    SELECT *, CASE WHEN principal = 0 THEN 0::HUGEINT ELSE ray_mul_half_up(principal,
        aave_v2_compounded(per_second, seconds, power_two, ray_mul_half_up(power_two, per_second))) END AS owed
    FROM squared
), held AS (
    SELECT s.*, coalesce(flag.value, 0) = 1 AS collateral_enabled, coalesce(d.principal, 0) AS stable_principal,
        CASE WHEN d.principal IS NULL THEN 0::HUGEINT ELSE d.owed END AS stable_debt
    FROM scaled_at('aave-v2', accounts, blocks) AS s
    ASOF LEFT JOIN (SELECT * FROM settings WHERE setting = 'collateral_enabled') AS flag
        ON flag.market = s.market AND flag.account_id = s.account_id AND flag.asset_id = s.asset_id AND s.block_number >= flag.block_number
    LEFT JOIN stable AS d ON d.market = s.market AND d.account_id = s.account_id AND d.asset_id = s.asset_id AND d.block_number = s.block_number
), placed AS (
    SELECT h.*, r.timestamp, r.symbol, r.unit, r.price::HUGEINT AS price, r.price_exact, r.liquidation_threshold_wad, r.supply_index, r.borrow_index, r.other_balances, r.known,
        CASE WHEN h.collateral_scaled < 5e30 THEN h.collateral_scaled::HUGEINT END AS supplied, CASE WHEN h.debt_scaled < 5e30 THEN h.debt_scaled::HUGEINT END AS borrowed
    FROM held AS h
    JOIN aave_v2_reserves(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    WHERE h.collateral_scaled <> 0 OR h.debt_scaled <> 0 OR h.stable_principal <> 0 OR h.collateral_enabled
), native AS (
    SELECT *, mul_div_half_up(supplied, supply_index, 1000000000000000000000000000::HUGEINT) AS collateral_exact,
        mul_div_half_up(borrowed, borrow_index, 1000000000000000000000000000::HUGEINT) + stable_debt AS debt_exact
    FROM placed
), valued AS (
    SELECT *, mul_div_down(collateral_exact, price, unit) AS supplied_value, mul_div_down(debt_exact, price, unit) AS owed_value,
        coalesce(collateral_exact, mul_div_near(collateral_scaled, supply_index, 1000000000000000000000000000::HUGEINT)) AS collateral,
        coalesce(debt_exact, mul_div_near(debt_scaled, borrow_index, 1000000000000000000000000000::HUGEINT) + stable_debt) AS debt
    FROM native
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, collateral_enabled, 0 AS emode, collateral, debt,
    CASE WHEN collateral_enabled AND liquidation_threshold_wad <> 0 THEN coalesce(supplied_value, mul_div_near(collateral, price, unit)) ELSE 0::HUGEINT END AS collateral_value,
    coalesce(owed_value, mul_div_near(debt, price, unit)) AS debt_value, liquidation_threshold_wad AS threshold_wad,
    coalesce(price > 0, false) AND NOT other_balances AS price_known, coalesce(price_exact, false) AS price_exact,
    supply_index IS NULL OR collateral_exact IS NOT NULL AND debt_exact IS NOT NULL AND (price IS NULL OR supplied_value IS NOT NULL AND owed_value IS NOT NULL) AS amounts_exact,
    known
FROM valued
