-- Purpose: collateral, debt and health of accounts of Silo V2 markets at the end of some blocks (SiloSolvencyLib isSolvent).
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
--   collateral_base: base-currency units that count as collateral, exact; native units where a debt's own token backs it, as debt_base then
--   debt_base: base-currency units, exact
--   health_wad: lt over the loan-to-value, wad, exact: liquidatable below 1e18, 1e36 where the debt is worth nothing; null: see missing, or beyond what SQL's integers hold (amounts_exact of holdings)
--   health: health_wad as a number, DOUBLE; where that is null it is computed in DOUBLE, within 1e-9 of the exact rule unless near_one; null: see missing
--   near_one: health_wad is null and DOUBLE cannot decide (within 1e-6 of one, or what accrued is not known): backtest.health asks the exact rule
--   prices_exact: false where a price is not known at this position
--   missing: why health is null: no debt, block time, price, rules
WITH sums AS (
    -- Lent and protected deposits of a silo are valued together, cut once.
    SELECT market, block_number, account_id, silo, any_value(timestamp) AS timestamp, coalesce(sum(collateral) FILTER (collateral_enabled), 0)::HUGEINT AS held,
        coalesce(sum(debt) FILTER (silo = debtor), 0)::HUGEINT AS owed, bool_or(silo = debtor) AS owes, any_value(debtor) AS debtor, any_value(backing) AS backing,
        max(threshold_wad) FILTER (silo = backing) AS lt, any_value(price_full) AS price_full, any_value(unit_full) AS unit_full,
        bool_and(price_known OR debtor = backing OR NOT (collateral_enabled OR coalesce(silo = debtor, false))) AS priced,
        bool_and(price_exact OR debtor = backing OR NOT (collateral_enabled OR coalesce(silo = debtor, false))) AS prices_exact,
        bool_and(totals_exact) AS totals_exact, bool_and(amounts_exact) AS amounts_exact, bool_and(revision IS NOT NULL) AS ruled
    FROM silo_v2_holdings(accounts, blocks)
    GROUP BY market, block_number, account_id, silo
), valued AS (
    SELECT *, CASE WHEN debtor = backing THEN held ELSE silo_v2_value_down(held, price_full, unit_full) END AS held_exact,
        CASE WHEN debtor = backing THEN owed ELSE silo_v2_value_down(owed, price_full, unit_full) END AS owed_exact,
        coalesce(held_exact, mul_div_near(held, price_full, unit_full)) AS held_value, coalesce(owed_exact, mul_div_near(owed, price_full, unit_full)) AS owed_value
    FROM sums
), totals AS (
    SELECT market, block_number, account_id, any_value(timestamp) AS timestamp, sum(held_value)::HUGEINT AS collateral, sum(owed_value)::HUGEINT AS debt, bool_or(coalesce(owes, false)) AS owes,
        max(lt) AS lt, bool_and(priced) AS priced, bool_and(prices_exact) AS prices_exact, bool_and(totals_exact) AS totals_exact,
        bool_and(amounts_exact AND held_exact IS NOT NULL AND owed_exact IS NOT NULL) AS amounts_exact, bool_and(ruled) AS ruled
    FROM valued GROUP BY market, block_number, account_id
), rated AS (
    SELECT *, CASE WHEN NOT owes THEN 'no debt' WHEN timestamp IS NULL THEN 'block time' WHEN NOT priced THEN 'price' WHEN NOT ruled THEN 'rules' END AS missing,
        CASE WHEN missing IS NULL AND amounts_exact THEN CASE WHEN debt = 0 THEN 1000000000000000000000000000000000000::HUGEINT WHEN collateral = 0 THEN 0::HUGEINT
            ELSE mul_div_down(lt, 1000000000000000000, mul_div_up(debt, 1000000000000000000, collateral)) END END AS wad,
        CASE WHEN debt = 0 THEN 1e18 ELSE lt::DOUBLE / 1e18 * collateral::DOUBLE / debt::DOUBLE END AS ratio
    FROM totals
)
SELECT r.market, r.block_number, r.timestamp, r.account_id, a.account, CASE WHEN r.priced THEN r.collateral END::DECIMAL(38, 0) AS collateral_base,
    CASE WHEN r.priced THEN r.debt END::DECIMAL(38, 0) AS debt_base, wad::DECIMAL(38, 0) AS health_wad, CASE WHEN missing IS NULL THEN coalesce(wad::DOUBLE / 1e18, ratio) END AS health,
    missing IS NULL AND wad IS NULL AND (NOT totals_exact OR coalesce(abs(ratio - 1) < 1e-6, true)) AS near_one, r.prices_exact, missing
FROM rated AS r JOIN accounts AS a ON a.market = r.market AND a.account_id = r.account_id
