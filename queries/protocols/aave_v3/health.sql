-- Purpose: collateral, debt and health of accounts of Aave V3 at the end of some blocks (GenericLogic calculateUserAccountData).
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
    SELECT market, block_number, account_id, any_value(timestamp) AS timestamp, any_value(averaged) AS averaged,
        sum(collateral_value) AS collateral, sum(debt_value) AS debt, sum(collateral_value * (threshold_wad // 100000000000000)) AS weighted,
        min(threshold_wad) FILTER (collateral_value > 0) AS lowest, max(threshold_wad) FILTER (collateral_value > 0) AS highest,
        bool_or(debt_scaled <> 0 OR debt <> 0) AS owes, bool_and(price_known) FILTER (collateral_enabled OR debt_scaled <> 0 OR debt <> 0) AS priced,
        coalesce(bool_and(price_exact) FILTER (collateral_enabled OR debt <> 0), true) AS prices_exact, bool_and(amounts_exact) AS amounts_exact
    FROM aave_v3_holdings(accounts, blocks)
    GROUP BY market, block_number, account_id
), averages AS (
    -- To 3.4 the average threshold is cut to whole basis points, and what it carries is rounded to nearest.
    SELECT *, weighted // nullif(collateral, 0) AS average,
        CASE WHEN NOT owes OR debt = 0 AND priced THEN 'no debt' WHEN timestamp IS NULL THEN 'block time' WHEN averaged IS NULL THEN 'rules' WHEN NOT priced THEN 'price' END AS missing
    FROM totals
), carried AS (
    SELECT *, CASE WHEN averaged THEN (collateral * coalesce(average, 0) + 5000) // 10000 ELSE weighted END AS carries, CASE WHEN averaged THEN 1 ELSE 10000 END AS cut
    FROM averages
), whole AS (
    -- wadDiv: a quotient and eighteen digits after it, nine at a time; what a guess is off by, the next one takes back.
    SELECT *, missing IS NULL AND amounts_exact AND debt < 7e28 AND carries::DOUBLE < 1e19 * debt::DOUBLE AS fits,
        CASE WHEN fits THEN carries // debt END AS quotient, carries - quotient * debt AS rest, near_quotient(rest * 1000000000, debt) AS nine
    FROM carried
), digits AS (
    SELECT *, (rest * 1000000000 - nine * debt) * 1000000000 + (debt >> 1) AS left_over, near_quotient(left_over, debt) AS next_nine FROM whole
), rated AS (
    SELECT *, (quotient * 1000000000000000000 + nine * 1000000000 + next_nine + whole_over(left_over - next_nine * debt, debt)) // cut AS wad,
        carries::DOUBLE / nullif(debt, 0)::DOUBLE / cut AS ratio,
        averaged AND lowest <> highest AND least(weighted % nullif(collateral, 0), collateral - weighted % nullif(collateral, 0))::DOUBLE < 1e-11 * collateral::DOUBLE AS edge
    FROM digits
)
SELECT r.market, r.block_number, r.timestamp, r.account_id, a.account, r.collateral::DECIMAL(38, 0) AS collateral_base, r.debt::DECIMAL(38, 0) AS debt_base,
    wad::DECIMAL(38, 0) AS health_wad, CASE WHEN missing IS NULL THEN coalesce(wad::DOUBLE / 1e18, ratio) END AS health,
    missing IS NULL AND wad IS NULL AND (abs(ratio - 1) < 1e-6 OR coalesce(edge, false)) AS near_one, r.prices_exact, missing
FROM rated AS r JOIN accounts AS a ON a.market = r.market AND a.account_id = r.account_id
