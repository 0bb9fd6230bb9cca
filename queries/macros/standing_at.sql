-- Purpose: collateral, debt and health of accounts of every protocol at a time, each market at its last known block, in one unit.
-- Grain: (market, account_id); a market whose history starts later has no rows.
-- Parameters:
--   accounts: list of addresses; NULL for all
--   at_time: a date or time of day in UTC, such as '2020-03-12 08:00'
-- Columns:
--   protocol: name of the protocol
--   chain_id: chain id (EIP-155)
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   account_id: account
--   account: address
--   collateral_usd: US dollars that count as collateral, before thresholds, DOUBLE; null: see missing
--   debt_usd: US dollars, DOUBLE; null: see missing
--   health: health factor of the protocol's own rules, liquidatable below one, DOUBLE; null: see missing
--   health_wad: the same, wad, exact; null where health is, or beyond what SQL's integers hold
--   near_one: DOUBLE cannot decide (see health): backtest.health asks the exact rule
--   usd_from: base currency where the market's prices are in dollars; else the market whose oracle turns its base currency into dollars
--   missing: why health is null (no debt, block time, price, rules), or why only the dollars are (dollars)
SELECT m.protocol, m.chain_id, h.market, h.block_number, h.timestamp, h.account_id, h.account, h.collateral_base::DOUBLE / pow(10, m.base_decimals) * d.usd AS collateral_usd,
    h.debt_base::DOUBLE / pow(10, m.base_decimals) * d.usd AS debt_usd, h.health, h.health_wad, h.near_one, d.usd_from,
    coalesce(h.missing, CASE WHEN d.usd IS NULL THEN 'dollars' END) AS missing
FROM health(accounts, (SELECT list(block_number) FROM block_at(at_time))) AS h
SEMI JOIN block_at(at_time) AS b USING (market, block_number)
JOIN markets AS m ON m.market = h.market
ASOF LEFT JOIN dollars AS d ON d.market = h.market AND h.block_number >= d.block_number
