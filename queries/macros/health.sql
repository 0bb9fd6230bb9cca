-- Purpose: collateral, debt and health of accounts (protocols of protocol_rules) at the end of some blocks.
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
--   collateral_base: base-currency units that count as collateral
--   debt_base: base-currency units
--   health: health factor, DOUBLE, within 1e-9 of the exact rule for debts above 10 whole units of the base currency, unless near_one; null: see missing
--   near_one: DOUBLE cannot decide (within 1e-6 of one, or the average threshold at the edge of a basis point): backtest.health asks the exact rule
--   prices_exact: false where a price is not known at this position
--   missing: why health is null: no debt, block time, price, rules
WITH totals AS (
    SELECT market, block_number, account_id, any_value(timestamp) AS timestamp, any_value(averaged) AS averaged, any_value(revision) AS revision,
        sum(collateral_value) AS collateral, sum(debt_value) AS debt, sum(collateral_value * threshold) AS weighted,
        min(threshold) FILTER (collateral_value > 0) AS lowest, max(threshold) FILTER (collateral_value > 0) AS highest,
        sum(1 + collateral_value // 1000000000000000) AS slack,
        bool_or(debt_scaled <> 0 OR debt <> 0) AS owes, bool_and(price_known) FILTER (collateral_enabled OR debt <> 0) AS priced,
        coalesce(bool_and(price_exact) FILTER (collateral_enabled OR debt <> 0), true) AS prices_exact
    FROM holdings(accounts, blocks)
    GROUP BY market, block_number, account_id
), rated AS (
    SELECT *,
        CASE WHEN NOT owes OR debt = 0 AND priced THEN 'no debt' WHEN timestamp IS NULL THEN 'block time' WHEN averaged IS NULL THEN 'rules' WHEN NOT priced THEN 'price' END AS missing,
        CASE WHEN averaged THEN ((collateral * coalesce(weighted // nullif(collateral, 0), 0) + 5000) // 10000)::DOUBLE / nullif(debt, 0)::DOUBLE
            ELSE weighted::DOUBLE / nullif(debt, 0)::DOUBLE / 10000 END AS ratio,
        averaged AND lowest <> highest AND (weighted % nullif(collateral, 0) < slack * highest OR collateral - weighted % nullif(collateral, 0) < slack * highest) AS edge
    FROM totals
)
SELECT r.market, r.block_number, r.timestamp, r.account_id, a.account, r.collateral::DECIMAL(38, 0) AS collateral_base, r.debt::DECIMAL(38, 0) AS debt_base,
    CASE WHEN missing IS NULL THEN ratio END AS health, missing IS NULL AND (abs(ratio - 1) < 1e-6 OR coalesce(edge, false)) AS near_one, r.prices_exact, missing
FROM rated AS r JOIN accounts AS a ON a.market = r.market AND a.account_id = r.account_id
