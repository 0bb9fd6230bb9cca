-- Purpose: total balances agree within a thousandth with what independent sources said of them.
-- Grain: (market, asset, side, month): months with a checkpoint that differs by more.
-- Columns:
--   market: name of the market
--   asset: asset as the import names it
--   side: collateral or debt
--   month: its first day, UTC
--   checkpoints: number of checkpoints
--   differing: number of those that differ by more
--   median_total: native units by the accounts, in the middle of the month's checkpoints
--   median_difference: native units, positive where the accounts hold more
--   largest_difference: the same, of the checkpoint that is furthest off
WITH spoken AS (
    SELECT c.market, c.block_number, c.timestamp, c.asset, c.side, CAST(c.amount AS DOUBLE) AS amount, a.asset_id
    FROM raw.import_Checkpoint AS c
    JOIN assets AS a ON a.market = c.market AND (lower(a.asset) = c.asset OR lower(a.label) = c.asset)
),
-- Sums of DOUBLE would drift: exact up to each block, then converted.
running AS (
    SELECT market, asset_id, side, block_number, CAST(sum(sum(delta)) OVER (PARTITION BY market, asset_id, side ORDER BY block_number) AS DOUBLE) AS scaled
    FROM position_events GROUP BY market, asset_id, side, block_number
),
rates AS (
    SELECT market, asset_id, block_number, arg_max(supply_index, seq) AS supply_index, arg_max(borrow_index, seq) AS borrow_index
    FROM indexes GROUP BY market, asset_id, block_number
),
held AS (
    SELECT s.*, coalesce(r.scaled, 0) * coalesce(CAST(CASE WHEN s.side = 'debt' THEN i.borrow_index ELSE i.supply_index END AS DOUBLE) / 1e27, 1) AS total
    FROM spoken AS s
    ASOF LEFT JOIN running AS r ON r.market = s.market AND r.asset_id = s.asset_id AND r.side = s.side AND r.block_number <= s.block_number
    ASOF LEFT JOIN rates AS i ON i.market = s.market AND i.asset_id = s.asset_id AND i.block_number <= s.block_number
),
compared AS (SELECT *, total - amount AS difference, abs(total - amount) > amount / 1000 AS differs FROM held)
SELECT market, asset, side, CAST(date_trunc('month', make_timestamp(timestamp * 1000000)) AS DATE) AS month, count(*) AS checkpoints,
    count(*) FILTER (differs) AS differing, CAST(median(total) AS DECIMAL(38, 0)) AS median_total,
    CAST(median(difference) AS DECIMAL(38, 0)) AS median_difference, CAST(arg_max(difference, abs(difference)) AS DECIMAL(38, 0)) AS largest_difference
FROM compared
GROUP BY market, asset, side, month
HAVING count(*) FILTER (differs) > 0
ORDER BY market, asset, side, month
