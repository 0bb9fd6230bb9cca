-- Purpose: collateral, debt and health of accounts of Fraxlend pairs at the end of some blocks (FraxlendPairCore _isSolvent).
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
--   health_wad: maxLTV over the loan-to-value, wad, exact: liquidatable below 1e18, 1e36 in a pair without a maxLTV; null: see missing, or beyond what SQL's integers hold (amounts_exact of holdings)
--   health: health_wad as a number, DOUBLE; where that is null it is computed in DOUBLE, within 1e-9 of the exact rule, or one digit of the contract's loan-to-value, which has five; null: see missing
--   near_one: health_wad is null and DOUBLE cannot decide (a loan-to-value within 1e-6 of the first that is too high): backtest.health asks the exact rule
--   prices_exact: false where a price is not known at this position
--   missing: why health is null: no debt, block time, price, rules
WITH totals AS (
    SELECT market, block_number, account_id, any_value(timestamp) AS timestamp, sum(collateral_value) AS collateral, sum(debt_value) AS debt, sum(pledged)::HUGEINT AS pledged,
        sum(debt)::HUGEINT AS owed, max(asked) AS asked, max(exchange_rate) AS exchange_rate, max(max_ltv) AS max_ltv, bool_or(debt_scaled <> 0) AS owes,
        bool_and(price_exact) AS prices_exact, bool_and(amounts_exact) AS amounts_exact, bool_and(revision IS NOT NULL AND debt IS NOT NULL) AS ruled
    FROM fraxlend_holdings(accounts, blocks)
    GROUP BY market, block_number, account_id
), rated AS (
    SELECT *, CASE WHEN NOT owes THEN 'no debt' WHEN timestamp IS NULL THEN 'block time' WHEN NOT ruled THEN 'rules' WHEN exchange_rate IS NULL THEN 'price' END AS missing,
        CASE WHEN missing IS NULL AND amounts_exact THEN CASE WHEN max_ltv = 0 THEN 1000000000000000000000000000000000000::HUGEINT WHEN pledged = 0 THEN 0::HUGEINT
            ELSE max_ltv * 1000000000000000000 // greatest(1, asked * 100000 // pledged) END END AS wad,
        CASE WHEN pledged > 0 THEN coalesce(asked, mul_div_near(owed, exchange_rate, 1000000000000000000))::DOUBLE * 1e5 / pledged::DOUBLE END AS ltv,
        CASE WHEN max_ltv = 0 THEN 1e18 WHEN pledged = 0 THEN 0 ELSE max_ltv::DOUBLE / greatest(1, floor(ltv)) END AS ratio
    FROM totals
)
SELECT r.market, r.block_number, r.timestamp, r.account_id, a.account, r.collateral::DECIMAL(38, 0) AS collateral_base, r.debt::DECIMAL(38, 0) AS debt_base,
    wad::DECIMAL(38, 0) AS health_wad, CASE WHEN missing IS NULL THEN coalesce(wad::DOUBLE / 1e18, ratio) END AS health,
    missing IS NULL AND wad IS NULL AND coalesce(max_ltv > 0 AND abs(ltv - max_ltv::DOUBLE - 1) < 1e-6 * ltv, pledged <> 0) AS near_one, r.prices_exact, missing
FROM rated AS r JOIN accounts AS a ON a.market = r.market AND a.account_id = r.account_id
