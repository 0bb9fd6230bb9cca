-- Purpose: positions, with how much of an account's debt nothing that it holds covers.
-- Grain: (market, account_id, asset_id).
-- Columns:
--   protocol: as in positions
--   chain_id: as in positions
--   market: as in positions
--   block_number: as in positions
--   timestamp: as in positions
--   account_id: as in positions
--   account: as in positions
--   asset_id: as in positions
--   asset: as in positions
--   symbol: as in positions
--   held: as in positions
--   owed: as in positions
--   held_usd: as in positions
--   collateral_usd: as in positions
--   debt_usd: as in positions
--   threshold: as in positions
--   usd_from: as in positions
--   uncovered: which share of all that the account owes, by value, is beyond all that it holds, DOUBLE; 0 where it owes nothing; null where a price of what it holds or owes is missing: nobody knows
--   missing: as in positions
WITH whole AS (
    SELECT *, sum(held * price) OVER account AS all_held, sum(owed * price) OVER account AS all_owed, bool_and(price IS NOT NULL) OVER account AS known, max(owed) OVER account AS most
    FROM positions
    WINDOW account AS (PARTITION BY market, account_id)
)
SELECT protocol, chain_id, market, block_number, timestamp, account_id, account, asset_id, asset, symbol, held, owed, held_usd, collateral_usd, debt_usd, threshold, usd_from,
    CASE WHEN most = 0 THEN 0 WHEN known AND all_owed = 0 THEN 0 WHEN known THEN greatest(1 - all_held / all_owed, 0) END AS uncovered, missing
FROM whole
