-- Purpose: collateral, debt and health of accounts of Liquity V1 systems at the end of some blocks (TroveManager getCurrentICR over MCR).
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
--   health_wad: the trove's ratio over the least one, wad, exact: below 1e18 it may be liquidated; in recovery mode others may be too; null: see missing, or beyond what SQL's integers hold (amounts_exact of holdings)
--   health: health_wad as a number, DOUBLE; where that is null it is computed in DOUBLE, within 1e-9 of the exact rule unless near_one; null: see missing
--   near_one: health_wad is null and DOUBLE cannot decide (within 1e-6 of one): backtest.health asks the exact rule
--   prices_exact: false where a price is not known at this position
--   missing: why health is null: no debt, block time, price, rules
WITH totals AS (
    SELECT market, block_number, account_id, any_value(timestamp) AS timestamp, sum(collateral) FILTER (asset_id = 0) AS ether, sum(collateral_value) AS collateral,
        sum(debt_value) AS debt, bool_or(debt_scaled <> 0) AS owes, bool_and(price_known) AS priced, bool_and(price_exact) AS prices_exact, bool_and(amounts_exact) AS amounts_exact,
        any_value(least_ratio_wad) AS least, any_value(price) AS price
    FROM (
        SELECT h.*, r.price::HUGEINT AS price
        FROM liquity_v1_holdings(accounts, blocks) AS h
        LEFT JOIN liquity_v1_reserves(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = 0
    )
    GROUP BY market, block_number, account_id
), rated AS (
    SELECT *, CASE WHEN NOT owes THEN 'no debt' WHEN timestamp IS NULL THEN 'block time' WHEN NOT priced THEN 'price' WHEN least IS NULL THEN 'rules' END AS missing,
        CASE WHEN missing IS NULL AND amounts_exact THEN mul_div_down(mul_div_down(ether::HUGEINT, price, debt::HUGEINT), 1000000000000000000, least) END AS wad,
        ether::DOUBLE * price::DOUBLE / nullif(debt, 0)::DOUBLE / nullif(least, 0)::DOUBLE AS ratio
    FROM totals
)
SELECT r.market, r.block_number, r.timestamp, r.account_id, a.account, r.collateral::DECIMAL(38, 0) AS collateral_base, r.debt::DECIMAL(38, 0) AS debt_base,
    wad::DECIMAL(38, 0) AS health_wad, CASE WHEN missing IS NULL THEN coalesce(wad::DOUBLE / 1e18, ratio) END AS health,
    missing IS NULL AND wad IS NULL AND coalesce(abs(ratio - 1) < 1e-6, true) AS near_one, r.prices_exact, missing
FROM rated AS r JOIN accounts AS a ON a.market = r.market AND a.account_id = r.account_id
