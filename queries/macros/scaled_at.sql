-- Purpose: scaled balances of a protocol's accounts at the end of some blocks: what holdings start from.
-- Grain: (market, block_number, account_id, asset_id); assets that the account ever had a balance, or a setting of its own, of.
-- Parameters:
--   of_protocol: name of the protocol
--   accounts: list of addresses; NULL for all
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   account_id: account
--   asset_id: asset
--   collateral_scaled: scaled units, exact
--   debt_scaled: scaled units, exact
WITH chosen AS (
    SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number
), ours AS (
    SELECT market FROM markets WHERE protocol = of_protocol
), people AS (
    SELECT market, account_id FROM accounts SEMI JOIN ours USING (market) WHERE accounts IS NULL OR account IN (SELECT lower(unnest(accounts::VARCHAR[])))
), buckets AS (
    -- Each change counts from the first wanted block at or after it; a running sum then gives every wanted block.
    SELECT e.block_number, c.block_number AS counts_from
    FROM (SELECT DISTINCT block_number FROM position_events WHERE block_number <= (SELECT max(block_number) FROM chosen)) AS e
    ASOF JOIN chosen AS c ON e.block_number <= c.block_number
), changes AS (
    -- Two branches, of which one is empty: a filter that lets everything pass would cost as much as the sums.
    SELECT * FROM position_events WHERE accounts IS NULL
    UNION ALL SELECT * FROM position_events SEMI JOIN people USING (market, account_id) WHERE accounts IS NOT NULL
), moved AS (
    SELECT e.market, e.account_id, e.asset_id, b.counts_from AS block_number, sum(e.delta) FILTER (e.side = 'collateral') AS collateral,
        sum(e.delta) FILTER (e.side = 'debt') AS debt
    FROM changes AS e JOIN buckets AS b ON b.block_number = e.block_number
    GROUP BY e.market, e.account_id, e.asset_id, b.counts_from
), keys AS (
    SELECT market, account_id, asset_id FROM moved SEMI JOIN ours USING (market)
    UNION
    SELECT market, account_id, asset_id FROM setting_events SEMI JOIN people USING (market, account_id) WHERE asset_id IS NOT NULL
)
SELECT k.market, c.block_number, k.account_id, k.asset_id, coalesce(sum(m.collateral) OVER running, 0)::DECIMAL(38, 0) AS collateral_scaled,
    coalesce(sum(m.debt) OVER running, 0)::DECIMAL(38, 0) AS debt_scaled
FROM keys AS k CROSS JOIN chosen AS c
LEFT JOIN moved AS m ON m.market = k.market AND m.account_id = k.account_id AND m.asset_id = k.asset_id AND m.block_number = c.block_number
WINDOW running AS (PARTITION BY k.market, k.account_id, k.asset_id ORDER BY c.block_number ROWS UNBOUNDED PRECEDING)
