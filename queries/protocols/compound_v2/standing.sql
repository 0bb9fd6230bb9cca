-- Purpose: what accounts of Compound V2 markets hold, owe and entered at the end of some blocks, and how the Comptroller counts it (getHypotheticalAccountLiquidityInternal).
-- Grain: (market, block_number, account_id, asset_id); assets that the account ever had anything to do with.
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
--   collateral_scaled: cTokens, exact
--   debt_scaled: principal as of the account's last call in the cToken, exact
--   collateral_enabled: whether the account entered the cToken
--   revision: revision of the Comptroller
--   threshold_wad: collateral factor, wad (1e18 = one), HUGEINT
--   price_known: whether the oracle has a price
--   price_exact: false where the price is not known at this position
--   collateral: native units at the stored exchange rate, HUGEINT
--   debt: native units at the stored borrow index, HUGEINT
--   worth: base units of the collateral, entered or not, HUGEINT
--   owed_value: base units of the debt, HUGEINT
--   carries: base units that the collateral carries where it is entered, HUGEINT
--   amounts_exact: false where a number is beyond what SQL's integers hold (10^33): DOUBLE then, good to 1e-14
WITH people AS (
    SELECT market, account_id FROM accounts SEMI JOIN (SELECT market FROM markets WHERE protocol = 'compound-v2') AS ours USING (market)
    WHERE accounts IS NULL OR account IN (SELECT lower(unnest(accounts::VARCHAR[])))
), flags AS (
    SELECT * FROM setting_steps SEMI JOIN people USING (market, account_id) WHERE setting = 'collateral_enabled'
), touched AS (
    -- The borrow index as of the last call of an account in a cToken: principals are as of then.
    SELECT e.market, e.account_id, e.asset_id, e.block_number, i.borrow_index
    FROM (
        SELECT market, account_id, asset_id, block_number, max(seq) AS seq FROM position_events SEMI JOIN people USING (market, account_id)
        WHERE side = 'debt' GROUP BY market, account_id, asset_id, block_number
    ) AS e
    ASOF JOIN indexes AS i ON i.market = e.market AND i.asset_id = e.asset_id AND e.seq >= i.seq
), placed AS (
    SELECT s.*, r.timestamp, r.symbol, r.revision, r.unit, r.price::HUGEINT AS price, r.price_rest, r.price_exact, r.exchange_rate,
        r.liquidation_threshold_wad AS threshold_wad, coalesce(f.value, 0) = 1 AS collateral_enabled, r.borrow_index // 1000000000 AS index_now,
        t.borrow_index::HUGEINT // 1000000000 AS index_then,
        -- The Comptroller's price, per native unit, is price times more, and below that what price_rest holds in whole units.
        CASE WHEN r.unit <= 1000000000000000000 THEN 1000000000000000000 // r.unit END AS more, r.price_rest // r.unit AS below
    FROM scaled_at('compound-v2', accounts, blocks) AS s
    JOIN compound_v2_reserves(blocks) AS r ON r.market = s.market AND r.block_number = s.block_number AND r.asset_id = s.asset_id
    ASOF LEFT JOIN flags AS f ON f.market = s.market AND f.account_id = s.account_id AND f.asset_id = s.asset_id AND s.block_number >= f.block_number
    ASOF LEFT JOIN touched AS t ON t.market = s.market AND t.account_id = s.account_id AND t.asset_id = s.asset_id AND s.block_number >= t.block_number
), native AS (
    SELECT *, mul_div_down(exchange_rate, collateral_scaled::HUGEINT, 1000000000000000000) AS held,
        CASE WHEN debt_scaled = 0 THEN 0::HUGEINT ELSE mul_div_down(debt_scaled::HUGEINT, index_now, index_then) END AS owed,
        CASE WHEN revision = 1 THEN mul_div_half_up(threshold_wad, exchange_rate, 1000000000000000000)
            ELSE mul_div_down(threshold_wad, exchange_rate, 1000000000000000000) END AS counted
    FROM placed
), priced AS (
    SELECT *, mul_add_div_down(counted, price, mul_add_div_down(counted, below, CASE WHEN revision = 1 THEN 500000000000000000::HUGEINT ELSE 0::HUGEINT END, more), unit) AS each,
        mul_add_div_down(held, price, mul_div_down(held, below, more), unit) AS held_value,
        mul_add_div_down(owed, price, mul_div_down(owed, below, more), unit) AS owed_exact
    FROM native
), carried AS (
    SELECT *, mul_div_down(each, collateral_scaled::HUGEINT, 1000000000000000000) AS carries_exact FROM priced
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, collateral_enabled, revision, threshold_wad,
    price IS NOT NULL AND (price > 0 OR price_rest > 0) AS price_known, coalesce(price_exact, false) AS price_exact,
    coalesce(held, mul_div_near(exchange_rate, collateral_scaled::HUGEINT, 1000000000000000000::HUGEINT)) AS collateral,
    coalesce(owed, mul_div_near(debt_scaled::HUGEINT, index_now, index_then)) AS debt,
    coalesce(held_value, mul_div_near(coalesce(held, mul_div_near(exchange_rate, collateral_scaled::HUGEINT, 1000000000000000000::HUGEINT)), price, unit)) AS worth,
    coalesce(owed_exact, mul_div_near(coalesce(owed, mul_div_near(debt_scaled::HUGEINT, index_now, index_then)), price, unit)) AS owed_value,
    CASE WHEN NOT collateral_enabled THEN 0::HUGEINT ELSE coalesce(carries_exact, mul_div_near(mul_div_near(held, price, unit), threshold_wad, 1000000000000000000::HUGEINT)) END AS carries,
    held IS NOT NULL AND owed IS NOT NULL AND (price IS NULL OR held_value IS NOT NULL AND owed_exact IS NOT NULL AND carries_exact IS NOT NULL) AS amounts_exact
FROM carried
