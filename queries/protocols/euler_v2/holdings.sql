-- Purpose: what accounts of Euler V2 markets hold and owe at the end of some blocks, and how it counts towards their health.
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
--   collateral_scaled: shares, exact
--   debt_scaled: 2^-31 native units as of the account's last call, exact
--   collateral_enabled: whether it counts as the account's collateral
--   emode: the account's category with parameters of its own, 0 for none
--   collateral: native units that the shares convert to, HUGEINT
--   debt: native units with interest, HUGEINT, rounded up
--   collateral_value: base-currency units that count as collateral (HUGEINT), 0 where it does not count; null where time, price or rules are not known
--   debt_value: base-currency units (HUGEINT); null where time, price or rules are not known
--   threshold_wad: liquidation LTV in force, wad (1e18 = one), HUGEINT
--   price_known: whether the oracle has a price
--   price_exact: false where the price is not known at this position
--   amounts_exact: false where a number is beyond what SQL's integers hold (10^33 units, shares or 2^-31 units): DOUBLE then, good to 1e-14
--   carries: base units that count against liquidation (EVault accountLiquidity), HUGEINT
WITH flags AS (
    SELECT * FROM setting_steps SEMI JOIN (SELECT market FROM markets WHERE protocol = 'euler-v2') AS ours USING (market) WHERE setting = 'collateral_enabled'
), touched AS (
    -- The accumulator as of the last change of an account's debt: it is stored as of then.
    SELECT e.market, e.account_id, e.asset_id, e.block_number, i.borrow_index
    FROM (
        SELECT market, account_id, asset_id, block_number, max(seq) AS seq FROM position_events
        SEMI JOIN (SELECT market FROM markets WHERE protocol = 'euler-v2') AS ours USING (market)
        WHERE side = 'debt' GROUP BY market, account_id, asset_id, block_number
    ) AS e
    ASOF JOIN indexes AS i ON i.market = e.market AND i.asset_id = e.asset_id AND e.seq >= i.seq
), placed AS (
    SELECT h.*, r.timestamp, r.symbol, r.unit, r.revision, r.price::HUGEINT AS price, r.price_exact, r.cash + r.borrows + 1000000 AS assets, r.shares + 1000000 AS shares,
        r.accumulator, r.liquidation_ltv, r.liquidation_threshold_wad, r.totals_exact, t.borrow_index::HUGEINT AS since, coalesce(f.value, 0) = 1 AS is_enabled,
        h.collateral_scaled::HUGEINT AS held, h.debt_scaled::HUGEINT AS owed
    FROM scaled_at('euler-v2', accounts, blocks) AS h
    JOIN euler_v2_reserves(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    ASOF LEFT JOIN flags AS f ON f.market = h.market AND f.account_id = h.account_id AND f.asset_id = h.asset_id AND h.block_number >= f.block_number
    ASOF LEFT JOIN touched AS t ON t.market = h.market AND t.account_id = h.account_id AND t.asset_id = h.asset_id AND h.block_number >= t.block_number
    WHERE h.collateral_scaled <> 0 OR h.debt_scaled <> 0
), native AS (
    SELECT *, mul_div_down(held, assets, shares) AS collateral_exact, CASE WHEN owed = 0 THEN 0::HUGEINT ELSE mul_div_down(owed, accumulator, since) END AS grown
    FROM placed
), whole AS (
    SELECT *, coalesce(collateral_exact, mul_div_near(held, assets, shares)) AS tokens,
        (coalesce(grown, mul_div_near(owed, accumulator, since)) + 2147483647) // 2147483648 AS debt
    FROM native
), valued AS (
    SELECT *, CASE WHEN NOT is_enabled THEN 0::HUGEINT ELSE mul_div_down(tokens, price, unit) END AS value_exact, mul_div_down(debt, price, unit) AS debt_value_exact FROM whole
), counted AS (
    SELECT *, CASE WHEN NOT is_enabled THEN 0::HUGEINT ELSE coalesce(value_exact, mul_div_near(tokens, price, unit)) END AS collateral_value,
        coalesce(debt_value_exact, mul_div_near(debt, price, unit)) AS debt_value
    FROM valued
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, is_enabled AS collateral_enabled, 0 AS emode, tokens AS collateral,
    debt, collateral_value, debt_value, liquidation_threshold_wad AS threshold_wad, price IS NOT NULL AND price > 0 AS price_known,
    coalesce(price_exact, false) AS price_exact, totals_exact AND collateral_exact IS NOT NULL AND grown IS NOT NULL
        AND (price IS NULL OR value_exact IS NOT NULL AND debt_value_exact IS NOT NULL) AS amounts_exact,
    collateral_value * liquidation_ltv // 10000 AS carries
FROM counted
