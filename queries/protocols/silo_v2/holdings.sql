-- Purpose: what accounts of Silo V2 markets hold and owe at the end of some blocks, and how it counts towards their health.
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
--   collateral_scaled: shares of what is lent, or protected, exact
--   debt_scaled: shares of what is owed, exact
--   collateral_enabled: whether it counts: with debt what is in the silo that backs it, else every token that has a threshold
--   emode: the account's category with parameters of its own, 0 for none
--   collateral: native units with interest, HUGEINT, rounded down; null where the block's time is not known
--   debt: native units with interest, HUGEINT, rounded up; null where the block's time is not known
--   collateral_value: base-currency units that count as collateral (HUGEINT), 0 where it does not count; health cuts those of both kinds together; null where time or price are not known
--   debt_value: base-currency units (HUGEINT); null where time or price are not known
--   threshold_wad: lt of the token, wad (1e18 = one), HUGEINT
--   price_known: whether the oracle has a price
--   price_exact: false where the price is not known at this position
--   amounts_exact: false where a number is beyond what SQL's integers hold (10^33 units or shares, see silo_v2_reserves): DOUBLE then, good to 1e-14, without what accrued since the last call
--   silo: 0 or 1
--   debtor: the silo that the account owes to; null without debt
--   backing: the silo whose deposits back the debt (SiloConfig borrowerCollateralSilo); null without debt
--   price_full: the price with the digits that it has below a base unit, HUGEINT
--   unit_full: native units times price_full are this many times their value in base units, HUGEINT
--   totals_exact: as in silo_v2_reserves
--   revision: version of the rules; null where tables lack what rounding left of interest
WITH backed AS (
    SELECT * FROM setting_steps SEMI JOIN (SELECT market FROM markets WHERE protocol = 'silo-v2') AS ours USING (market) WHERE setting = 'collateral_silo'
), placed AS (
    SELECT h.market, h.block_number, h.account_id, h.asset_id, h.collateral_scaled, h.debt_scaled, h.collateral_scaled::HUGEINT AS held, h.debt_scaled::HUGEINT AS owed,
        r.* EXCLUDE (market, block_number, asset_id), min(r.silo) FILTER (h.debt_scaled <> 0) OVER own AS debtor, CASE WHEN debtor IS NOT NULL THEN coalesce(b.value::BIGINT, 1 - debtor) END AS backing
    FROM scaled_at('silo-v2', accounts, blocks) AS h
    JOIN silo_v2_reserves(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    ASOF LEFT JOIN backed AS b ON b.market = h.market AND b.account_id = h.account_id AND h.block_number >= b.block_number
    WHERE h.collateral_scaled <> 0 OR h.debt_scaled <> 0
    WINDOW own AS (PARTITION BY h.market, h.block_number, h.account_id)
), native AS (
    SELECT *, held <> 0 AND CASE WHEN backing IS NULL THEN liquidation_threshold_wad <> 0 ELSE silo = backing END AS counts,
        CASE WHEN held = 0 THEN 0::HUGEINT ELSE mul_div_down(held, supplied + 1, supplied_shares + 1000) END AS collateral_exact,
        CASE WHEN owed = 0 THEN 0::HUGEINT ELSE mul_div_up(owed, borrowed, borrow_shares) END AS debt_exact
    FROM placed
), whole AS (
    SELECT *, coalesce(collateral_exact, mul_div_near(held, supplied + 1, supplied_shares + 1000)) AS collateral, coalesce(debt_exact, mul_div_near(owed, borrowed, borrow_shares)) AS debt
    FROM native
), valued AS (
    -- A debt that its own token backs is measured in that.
    SELECT *, CASE WHEN NOT counts THEN 0::HUGEINT WHEN debtor = backing THEN collateral ELSE silo_v2_value_down(collateral, price_full, unit_full) END AS value_exact,
        CASE WHEN debt = 0 THEN 0::HUGEINT WHEN debtor = backing THEN debt ELSE silo_v2_value_down(debt, price_full, unit_full) END AS debt_value_exact
    FROM whole
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, counts AS collateral_enabled, 0 AS emode, collateral, debt,
    coalesce(value_exact, mul_div_near(collateral, price_full, unit_full)) AS collateral_value, coalesce(debt_value_exact, mul_div_near(debt, price_full, unit_full)) AS debt_value,
    liquidation_threshold_wad AS threshold_wad, price IS NOT NULL AS price_known, coalesce(price_exact, false) AS price_exact, totals_exact AND collateral_exact IS NOT NULL AND debt_exact IS NOT NULL
        AND (price IS NULL OR value_exact IS NOT NULL AND debt_value_exact IS NOT NULL) AS amounts_exact, silo, debtor, backing, price_full, unit_full, totals_exact, revision
FROM valued
