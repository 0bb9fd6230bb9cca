-- Purpose: no imported account gives more than it ever got, or ends with debt and no collateral: then some of its flows are not in the files.
-- Grain: (market, account).
-- Columns:
--   market: name of the market
--   account: account
--   problem: what is wrong
--   block_number: block in which it gave too much, else the last block of the account
--   collateral_unrecorded: collateral that it must have got elsewhere, scaled units; null if none
--   debt_unrecorded: debt that it must have drawn elsewhere, scaled units; null if none
--   debt_left: scaled debt at the end without any collateral; null if none
WITH ends AS (
    SELECT market, account_id, max(block_number) AS last_block,
        sum(delta) FILTER (side = 'debt') AS debt, coalesce(sum(delta) FILTER (side = 'collateral'), 0) AS collateral,
        sum(abs(delta)) FILTER (side = 'debt') AS debt_moved, sum(abs(delta)) FILTER (side = 'collateral') AS collateral_moved,
        min(block_number) FILTER (action = 'unrecorded') AS unrecorded_block,
        sum(delta) FILTER (action = 'unrecorded' AND side = 'debt') AS debt_unrecorded,
        sum(delta) FILTER (action = 'unrecorded' AND side = 'collateral') AS collateral_unrecorded
    FROM position_events
    WHERE market IN (SELECT market FROM raw.import_Flow)
    GROUP BY market, account_id
),
-- Exports round amounts to nine or ten digits: less than a billionth of what an account moved is no flow.
found AS (
    SELECT market, account_id, last_block, unrecorded_block,
        CASE WHEN CAST(debt_unrecorded AS DOUBLE) > 1e-9 * CAST(debt_moved AS DOUBLE) THEN debt_unrecorded END AS debt_unrecorded,
        CASE WHEN CAST(collateral_unrecorded AS DOUBLE) > 1e-9 * CAST(collateral_moved AS DOUBLE) THEN collateral_unrecorded END AS collateral_unrecorded,
        CASE
            WHEN CAST(debt AS DOUBLE) > 1e-9 * CAST(debt_moved AS DOUBLE)
                AND CAST(collateral AS DOUBLE) <= 1e-9 * coalesce(CAST(collateral_moved AS DOUBLE), 0) THEN debt
        END AS debt_left
    FROM ends
)
SELECT f.market, a.account,
    concat_ws(', ', CASE WHEN f.collateral_unrecorded IS NOT NULL THEN 'collateral goes negative' END,
        CASE WHEN f.debt_unrecorded IS NOT NULL THEN 'debt goes negative' END,
        CASE WHEN f.debt_left IS NOT NULL THEN 'owes without collateral' END) AS problem,
    coalesce(f.unrecorded_block, f.last_block) AS block_number, f.collateral_unrecorded, f.debt_unrecorded, f.debt_left
FROM found AS f JOIN accounts AS a ON a.market = f.market AND a.account_id = f.account_id
WHERE coalesce(f.debt_unrecorded, f.collateral_unrecorded, f.debt_left) IS NOT NULL
ORDER BY f.market, greatest(coalesce(f.debt_left, 0), coalesce(f.debt_unrecorded, 0)) DESC, a.account
