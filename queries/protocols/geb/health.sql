-- Purpose: collateral, debt and health of GEB SAFEs at the end of some blocks: unsafe below one (LiquidationEngine liquidateSAFE).
-- Grain: (market, block_number, account_id); only SAFEs that hold or owe something.
-- Parameters:
--   accounts: list of SAFEs; NULL for all
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   account_id: account
--   account: address
--   collateral_base: base-currency units that count as collateral, exact
--   debt_base: base-currency units, exact
--   health_wad: health factor, wad, exact: liquidatable below 1e18; null: see missing, or beyond what SQL's integers hold (amounts_exact of holdings)
--   health: health_wad as a number, DOUBLE; where that is null it is computed in DOUBLE, within 1e-9 of the exact rule unless near_one; null: see missing
--   near_one: health_wad is null and DOUBLE cannot decide (within 1e-6 of one): backtest.health asks the exact rule
--   prices_exact: false where a price is not known at this position
--   missing: why health is null: no debt, price, rules (nothing says the liquidation ratio); the block's time does not matter
WITH totals AS (
    SELECT market, block_number, account_id, any_value(timestamp) AS timestamp, sum(collateral_value) AS collateral, sum(debt_value) AS debt, sum(collateral) AS ink,
        sum(debt_scaled)::HUGEINT AS art, any_value(rate) AS rate, any_value(spot) AS spot, any_value(threshold_wad) FILTER (collateral_enabled) AS threshold,
        coalesce(bool_and(price_exact) FILTER (collateral_enabled), true) AS prices_exact, bool_and(amounts_exact) AS amounts_exact
    FROM geb_holdings(accounts, blocks)
    GROUP BY market, block_number, account_id
), carried AS (
    -- ink * spot * wad / (art * rate), cut once: over the accumulator first, whose rest comes back as wads of a wad.
    SELECT *, mul_div_down(ink, spot, rate) AS carries, CASE WHEN carries IS NOT NULL THEN product_difference(ink, spot, carries, rate) END AS rest,
        ink::DOUBLE * spot::DOUBLE / rate::DOUBLE / nullif(art, 0)::DOUBLE AS ratio
    FROM totals
), rated AS (
    SELECT *, CASE WHEN art = 0 THEN 'no debt' WHEN spot IS NULL THEN 'price' END AS missing,
        CASE WHEN missing IS NULL AND amounts_exact THEN mul_add_div_down(carries, 1000000000000000000, mul_div_down(rest, 1000000000000000000, rate), art) END AS wad
    FROM carried
)
SELECT r.market, r.block_number, r.timestamp, r.account_id, a.account, r.collateral::DECIMAL(38, 0) AS collateral_base, r.debt::DECIMAL(38, 0) AS debt_base,
    wad::DECIMAL(38, 0) AS health_wad, CASE WHEN missing IS NULL THEN coalesce(wad::DOUBLE / 1e18, ratio) END AS health,
    missing IS NULL AND wad IS NULL AND abs(ratio - 1) < 1e-6 AS near_one, r.prices_exact, missing
FROM rated AS r JOIN accounts AS a ON a.market = r.market AND a.account_id = r.account_id
