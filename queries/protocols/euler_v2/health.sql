-- Purpose: collateral, debt and health of accounts of Euler V2 markets at the end of some blocks (EVault accountLiquidity for liquidation).
-- Grain: (market, block_number, account_id); only accounts that hold or owe something.
-- Parameters:
--   accounts: list of addresses; NULL for all
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
--   missing: why health is null: no debt, block time, price, rules
WITH totals AS (
    SELECT market, block_number, account_id, any_value(timestamp) AS timestamp, coalesce(sum(collateral_value), 0) AS collateral, coalesce(sum(debt_value), 0) AS debt,
        coalesce(sum(carries), 0) AS carries, bool_or(debt_scaled <> 0) AS owes, coalesce(bool_and(price_known) FILTER (collateral_enabled OR debt_scaled <> 0), true) AS priced,
        coalesce(bool_and(price_exact) FILTER (collateral_enabled OR debt_scaled <> 0), true) AS prices_exact, bool_and(amounts_exact) AS amounts_exact
    FROM euler_v2_holdings(accounts, blocks)
    GROUP BY market, block_number, account_id
), rated AS (
    SELECT *, CASE WHEN NOT owes THEN 'no debt' WHEN timestamp IS NULL THEN 'block time' WHEN NOT priced THEN 'price' WHEN debt = 0 THEN 'no debt' END AS missing,
        -- A debt equal to what is carried may be liquidated: health is what is carried, less a hair, over the debt.
        CASE WHEN missing IS NULL AND amounts_exact THEN CASE WHEN carries = 0 THEN 0::HUGEINT ELSE mul_div_up(carries::HUGEINT, 1000000000000000000, debt::HUGEINT) - 1 END END AS wad,
        carries::DOUBLE / nullif(debt, 0)::DOUBLE AS ratio
    FROM totals
)
SELECT r.market, r.block_number, r.timestamp, r.account_id, a.account, r.collateral::DECIMAL(38, 0) AS collateral_base, r.debt::DECIMAL(38, 0) AS debt_base,
    wad::DECIMAL(38, 0) AS health_wad, CASE WHEN missing IS NULL THEN coalesce(wad::DOUBLE / 1e18, ratio) END AS health,
    missing IS NULL AND wad IS NULL AND coalesce(abs(ratio - 1) < 1e-6, true) AS near_one, r.prices_exact, missing
FROM rated AS r JOIN accounts AS a ON a.market = r.market AND a.account_id = r.account_id
