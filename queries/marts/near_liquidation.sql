-- Purpose: accounts with a health below 1.1 at the last known block, worst first; those below one could be liquidated.
-- Grain: (market, account_id).
-- Columns:
--   market: name of the market
--   block_number: block
--   account_id: account
--   account: address
--   collateral_usd: US dollars that count as collateral, DOUBLE; null where nothing in the lake turns the base currency into dollars
--   debt_usd: US dollars, DOUBLE; null likewise
--   health: health factor, DOUBLE
--   near_one: SQL cannot decide whether health is below one (see health): backtest.health asks the exact rule
SELECT h.market, h.block_number, h.account_id, h.account, h.collateral_base::DOUBLE / pow(10, m.base_decimals) * d.usd AS collateral_usd,
    h.debt_base::DOUBLE / pow(10, m.base_decimals) * d.usd AS debt_usd, h.health, h.near_one
FROM health(NULL, (SELECT list(block_number) FROM last_blocks)) AS h
JOIN last_blocks AS l ON l.market = h.market AND l.block_number = h.block_number
JOIN markets AS m ON m.market = h.market
ASOF LEFT JOIN dollars AS d ON d.market = h.market AND h.block_number >= d.block_number
WHERE h.health < 1.1
ORDER BY h.health
