-- Purpose: collateral, debt and health of Gearbox V3.1 credit accounts at the end of some blocks (CreditManagerV3 isLiquidatable: what collateral carries over what is owed).
-- Grain: (market, block_number, account_id); only accounts that hold or owe something.
-- Parameters:
--   accounts: list of addresses; NULL for all
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   account_id: credit account
--   account: address
--   collateral_base: base-currency units that count as collateral, exact
--   debt_base: base-currency units, exact
--   health_wad: what the collateral carries at its thresholds and quotas over what is owed, wad, exact: liquidatable below 1e18; null: see missing, or beyond what SQL's integers hold (amounts_exact of holdings)
--   health: health_wad as a number, DOUBLE; where that is null it is computed in DOUBLE, within 1e-9 of the exact rule unless near_one; null: see missing
--   near_one: health_wad is null and DOUBLE cannot decide (within 1e-6 of one): backtest.health asks the exact rule
--   prices_exact: false where a price is not known at this position
--   missing: why health is null: no debt, block time, price, rules
WITH totals AS (
    SELECT market, block_number, account_id, any_value(timestamp) AS timestamp, sum(collateral_value)::HUGEINT AS collateral, sum(debt_value)::HUGEINT AS owed, sum(carried)::HUGEINT AS carried,
        bool_or(debt_scaled <> 0) AS owes, bool_and(price_known OR NOT collateral_enabled OR collateral_scaled = 0) AND bool_and(base_price IS NOT NULL) AS priced,
        bool_and(base_exact AND (price_exact OR NOT collateral_enabled)) AS prices_exact, bool_and(amounts_exact) AS amounts_exact, bool_and(revision IS NOT NULL) AS ruled
    FROM gearbox_v3_holdings(accounts, blocks)
    GROUP BY market, block_number, account_id
), rated AS (
    SELECT *, CASE WHEN NOT owes THEN 'no debt' WHEN timestamp IS NULL THEN 'block time' WHEN NOT ruled THEN 'rules' WHEN NOT priced THEN 'price' WHEN owed = 0 THEN 'no debt' END AS missing,
        CASE WHEN missing IS NULL AND amounts_exact THEN mul_div_down(carried, 1000000000000000000, owed) END AS wad,
        carried::DOUBLE / nullif(owed, 0)::DOUBLE AS ratio
    FROM totals
)
SELECT r.market, r.block_number, r.timestamp, r.account_id, a.account, CASE WHEN r.priced THEN r.collateral END::DECIMAL(38, 0) AS collateral_base, r.owed::DECIMAL(38, 0) AS debt_base,
    wad::DECIMAL(38, 0) AS health_wad, CASE WHEN missing IS NULL THEN coalesce(wad::DOUBLE / 1e18, ratio) END AS health,
    missing IS NULL AND wad IS NULL AND coalesce(abs(ratio - 1) < 1e-6, true) AS near_one, r.prices_exact, missing
FROM rated AS r JOIN accounts AS a ON a.market = r.market AND a.account_id = r.account_id
