-- Purpose: how far each account with debt is from liquidation and insolvency at the last known block, if all of its collateral falls and its debts do not.
-- Grain: (market, account_id); accounts with debt whose health is known.
-- Columns:
--   market: name of the market
--   block_number: block
--   account_id: account
--   account: address
--   collateral_usd: US dollars that count as collateral, DOUBLE; null where nothing in the lake turns the base currency into dollars
--   debt_usd: US dollars, DOUBLE; null likewise
--   health: health factor, DOUBLE
--   to_liquidation: share by which collateral has to fall, 1 - 1 / health; 0: it may be liquidated, DOUBLE
--   to_insolvency: share, 1 - debt / collateral; 0: it owes more than its collateral, DOUBLE
--   kind: type I where it owes more than its collateral, else sound
-- Closed forms: which prices fall together, bonuses and the toxic frontier are backtest risk's, exact.
SELECT h.market, h.block_number, h.account_id, h.account, h.collateral_base::DOUBLE / pow(10, m.base_decimals) * d.usd AS collateral_usd,
    h.debt_base::DOUBLE / pow(10, m.base_decimals) * d.usd AS debt_usd, h.health, CASE WHEN h.health < 1 THEN 0 ELSE 1 - 1 / h.health END AS to_liquidation,
    CASE WHEN h.debt_base >= h.collateral_base THEN 0 ELSE 1 - h.debt_base::DOUBLE / h.collateral_base::DOUBLE END AS to_insolvency,
    CASE WHEN h.debt_base > h.collateral_base THEN 'type I' ELSE 'sound' END AS kind
FROM health(NULL, (SELECT list(block_number) FROM last_blocks)) AS h
JOIN last_blocks AS l ON l.market = h.market AND l.block_number = h.block_number
JOIN markets AS m ON m.market = h.market
ASOF LEFT JOIN dollars AS d ON d.market = h.market AND h.block_number >= d.block_number
WHERE h.debt_base > 0 AND h.health IS NOT NULL
