-- Purpose: collateral, debt and health of accounts of Aave V2 at the end of some blocks (GenericLogic calculateUserAccountData).
-- Grain: (market, block_number, account_id); only accounts that hold or owe something, or have a flag.
-- Parameters:
--   accounts: list of addresses; NULL for all
--   blocks: list of block numbers (accounts times blocks rows are computed: ask for what you need)
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
--   near_one: health_wad is null and DOUBLE cannot decide (within 1e-6 of one, or the average threshold at the edge of a basis point): backtest.health asks the exact rule
--   prices_exact: false where a price is not known at this position
--   missing: why health is null: no debt, block time, price, rules
WITH totals AS (
    SELECT market, block_number, account_id, any_value(timestamp) AS timestamp, bool_and(known) AS known,
        sum(collateral_value) AS collateral, sum(debt_value) AS debt, sum(collateral_value * (threshold_wad // 100000000000000)) AS weighted,
        min(threshold_wad) FILTER (collateral_value > 0) AS lowest, max(threshold_wad) FILTER (collateral_value > 0) AS highest,
        bool_or(debt_scaled <> 0 OR debt <> 0) AS owes, bool_and(price_known) FILTER (collateral_enabled OR debt_scaled <> 0 OR debt <> 0) AS priced,
        coalesce(bool_and(price_exact) FILTER (collateral_enabled OR debt <> 0), true) AS prices_exact, bool_and(amounts_exact) AS amounts_exact
    FROM aave_v2_holdings(accounts, blocks)
    GROUP BY market, block_number, account_id
), carried AS (
    -- The average threshold is cut to whole basis points, and what it carries is rounded to nearest.
    SELECT *, (collateral * coalesce(weighted // nullif(collateral, 0), 0) + 5000) // 10000 AS carries,
        CASE WHEN NOT owes OR debt = 0 AND priced THEN 'no debt' WHEN timestamp IS NULL THEN 'block time' WHEN NOT known THEN 'rules' WHEN NOT priced THEN 'price' END AS missing
    FROM totals
), rated AS (
    -- wadDiv: whole parts, and eighteen digits of the rest to nearest.
    SELECT *, CASE WHEN missing IS NULL AND amounts_exact AND carries::DOUBLE < 1e19 * debt::DOUBLE
            THEN carries // debt * 1000000000000000000 + mul_div_half_up(carries % debt, 1000000000000000000::HUGEINT, debt) END AS wad,
        carries::DOUBLE / nullif(debt, 0)::DOUBLE AS ratio,
        lowest <> highest AND least(weighted % nullif(collateral, 0), collateral - weighted % nullif(collateral, 0))::DOUBLE < 1e-11 * collateral::DOUBLE AS edge
    FROM carried
)
SELECT r.market, r.block_number, r.timestamp, r.account_id, a.account, r.collateral::DECIMAL(38, 0) AS collateral_base, r.debt::DECIMAL(38, 0) AS debt_base,
    wad::DECIMAL(38, 0) AS health_wad, CASE WHEN missing IS NULL THEN coalesce(wad::DOUBLE / 1e18, ratio) END AS health,
    missing IS NULL AND wad IS NULL AND (abs(ratio - 1) < 1e-6 OR coalesce(edge, false)) AS near_one, r.prices_exact, missing
FROM rated AS r JOIN accounts AS a ON a.market = r.market AND a.account_id = r.account_id
