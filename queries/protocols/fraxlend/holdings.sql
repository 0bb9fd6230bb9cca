-- Purpose: what accounts of Fraxlend pairs hold and owe at the end of some blocks, and how it counts towards their health.
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
--   collateral_scaled: fTokens, or native units of the collateral, exact
--   debt_scaled: borrow shares, exact
--   collateral_enabled: whether it counts as the account's collateral: not what is lent
--   emode: the account's category with parameters of its own, 0 for none
--   collateral: native units with interest, HUGEINT, rounded down
--   debt: native units with interest, HUGEINT, rounded up; null where the contract reverts (shares of nothing)
--   collateral_value: base-currency units that count as collateral (HUGEINT), 0 where it does not count; null where time, price or rules are not known
--   debt_value: base-currency units (HUGEINT), rounded up; null where time, price or rules are not known
--   threshold_wad: maxLTV of the collateral, wad (1e18 = one), HUGEINT
--   price_known: whether the oracle has a price
--   price_exact: false where the price is not known at this position
--   amounts_exact: false where a number is beyond what SQL's integers hold (10^33 units or shares): DOUBLE then, good to 1e-14
--   pledged: native units of the collateral, HUGEINT
--   max_ltv: maxLTV, of 10^5, HUGEINT
--   revision: version of the pair; null where rules are not known
--   exchange_rate: native collateral for 1e18 native units lent, HUGEINT; null where a token has no price
--   asked: native collateral that the debt is worth at the exchange rate (FraxlendPairCore _isSolvent), HUGEINT; null without debt or a price, or beyond those integers
WITH placed AS (
    SELECT h.*, r.timestamp, r.symbol, r.revision, r.price, r.price_full, r.unit_full, r.price_exact, r.liquidation_threshold_wad, r.max_ltv, r.lent, r.lent_shares,
        r.borrowed, r.borrow_shares, r.exchange_rate, r.totals_exact, h.asset_id = 0 AS is_lent, h.collateral_scaled::HUGEINT AS held, h.debt_scaled::HUGEINT AS owed
    FROM scaled_at('fraxlend', accounts, blocks) AS h
    JOIN fraxlend_reserves(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    WHERE h.collateral_scaled <> 0 OR h.debt_scaled <> 0
), native AS (
    SELECT *, CASE WHEN NOT is_lent THEN held WHEN held = 0 THEN 0::HUGEINT ELSE mul_div_down(held, lent, lent_shares) END AS collateral_exact,
        CASE WHEN owed = 0 THEN 0::HUGEINT WHEN borrowed > 0 THEN mul_div_up(owed, borrowed, borrow_shares) END AS debt_exact
    FROM placed
), whole AS (
    SELECT *, coalesce(collateral_exact, mul_div_near(held, lent, lent_shares)) AS collateral,
        CASE WHEN owed = 0 OR borrowed > 0 THEN coalesce(debt_exact, mul_div_near(owed, borrowed, borrow_shares)) END AS debt
    FROM native
), valued AS (
    SELECT *, CASE WHEN is_lent THEN 0::HUGEINT ELSE mul_div_down(held, price_full, unit_full) END AS collateral_value_exact,
        CASE WHEN owed = 0 THEN 0::HUGEINT ELSE mul_div_up(debt, price_full, unit_full) END AS debt_value_exact,
        CASE WHEN owed <> 0 THEN mul_div_down(debt, exchange_rate, 1000000000000000000) END AS asked
    FROM whole
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, NOT is_lent AS collateral_enabled, 0 AS emode, collateral, debt,
    coalesce(collateral_value_exact, mul_div_near(held, price_full, unit_full)) AS collateral_value, coalesce(debt_value_exact, mul_div_near(debt, price_full, unit_full)) AS debt_value,
    liquidation_threshold_wad AS threshold_wad, price IS NOT NULL AS price_known, coalesce(price_exact, false) AS price_exact,
    (totals_exact OR NOT is_lent) AND collateral_exact IS NOT NULL AND debt_exact IS NOT NULL
        AND (price IS NULL OR collateral_value_exact IS NOT NULL AND debt_value_exact IS NOT NULL) AND (owed = 0 OR exchange_rate IS NULL OR asked IS NOT NULL) AS amounts_exact,
    CASE WHEN is_lent THEN 0::HUGEINT ELSE held END AS pledged, max_ltv, revision, exchange_rate, asked
FROM valued
