-- Purpose: collateral, debt and health of accounts of branches of Liquity V2 at the end of some blocks (LiquityBase getCurrentICR over MCR).
-- Grain: (market, block_number, account_id); only accounts that hold or owe something.
-- Parameters:
--   accounts: list of addresses (a trove's is its id of 32 bytes); NULL for all
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   account_id: account
--   account: address
--   collateral_base: base-currency units that count as collateral, exact
--   debt_base: base-currency units, exact
--   health_wad: the trove's ratio over the least one, wad, exact: below 1e18 it may be liquidated; null: see missing, or beyond what SQL's integers hold (amounts_exact of holdings)
--   health: health_wad as a number, DOUBLE; where that is null it is computed in DOUBLE, of what is stored, and near_one; null: see missing
--   near_one: health_wad is null, and with it what it would be of: backtest.health asks the exact rule
--   prices_exact: false where a price is not known at this position
--   missing: why health is null: no debt, block time, price, rules
WITH totals AS (
    SELECT market, block_number, account_id, any_value(timestamp) AS timestamp, coalesce(sum(collateral) FILTER (collateral_enabled), 0)::HUGEINT AS coll, sum(collateral_value) AS collateral,
        sum(debt)::HUGEINT AS owed, bool_or(debt <> 0) AS owes, bool_and(price_exact) AS prices_exact, bool_and(amounts_exact) AS amounts_exact, max(least_ratio_wad) AS least,
        max(coll_price) AS price, bool_and(revision IS NOT NULL) AS ruled
    FROM liquity_v2_holdings(accounts, blocks)
    GROUP BY market, block_number, account_id
), rated AS (
    SELECT *, CASE WHEN NOT owes THEN 'no debt' WHEN timestamp IS NULL THEN 'block time' WHEN coalesce(price, 0) = 0 THEN 'price' WHEN NOT ruled OR least IS NULL THEN 'rules' END AS missing,
        CASE WHEN missing IS NULL AND amounts_exact THEN mul_div_down(mul_div_down(coll, price, owed), 1000000000000000000, least) END AS wad,
        coll::DOUBLE * price::DOUBLE / nullif(owed, 0)::DOUBLE / nullif(least, 0)::DOUBLE AS ratio
    FROM totals
)
SELECT r.market, r.block_number, r.timestamp, r.account_id, a.account, r.collateral::DECIMAL(38, 0) AS collateral_base, r.owed::DECIMAL(38, 0) AS debt_base,
    wad::DECIMAL(38, 0) AS health_wad, CASE WHEN missing IS NULL THEN coalesce(wad::DOUBLE / 1e18, ratio) END AS health,
    missing IS NULL AND wad IS NULL AS near_one, r.prices_exact, missing
FROM rated AS r JOIN accounts AS a ON a.market = r.market AND a.account_id = r.account_id
