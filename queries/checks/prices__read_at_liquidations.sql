-- Purpose: in every block with a liquidation the oracle was asked for the price of every asset that has a price source.
-- Grain: (market, asset_id).
-- Columns:
--   market: name of the market
--   asset_id: asset
--   missing: number of blocks with a liquidation and without a read of this asset
--   demanded: number of such reads that the history demands
--   first_block: the first block without one
WITH sourced AS (
    SELECT p.market, p.asset_id, a.asset, min(p.block_number) AS from_block
    FROM prices AS p JOIN assets AS a ON a.market = p.market AND a.asset_id = p.asset_id
    WHERE p.source <> '0x0000000000000000000000000000000000000000'  -- a price by definition has no source to ask
    GROUP BY p.market, p.asset_id, a.asset
),
demanded AS (
    SELECT DISTINCT l.market, l.block_number, s.asset_id, s.asset
    FROM canonical.liquidations AS l
    JOIN sourced AS s ON s.market = l.market AND s.from_block <= l.block_number
    JOIN lake.coverage AS c ON c.market = l.market AND c.source = 'oracle' AND l.block_number BETWEEN c.from_block AND c.to_block
),
told AS (
    SELECT DISTINCT market, block_number, '0x' || lower(hex(asset)) AS asset FROM raw.oracle_Read
    UNION SELECT DISTINCT market, block_number, '0x' || lower(hex(asset)) FROM raw.oracle_WideRead
)
SELECT d.market, d.asset_id, count(*) FILTER (t.asset IS NULL) AS missing, count(*) AS demanded, min(d.block_number) FILTER (t.asset IS NULL) AS first_block
FROM demanded AS d
LEFT JOIN told AS t ON t.market = d.market AND t.block_number = d.block_number AND t.asset = lower(d.asset)
GROUP BY d.market, d.asset_id
HAVING count(*) FILTER (t.asset IS NULL) > 0
