-- Purpose: no price is missing because a call to the oracle gave none: it reverted, or the node did not tell.
-- Grain: (market, asset_id): first and last block without a price that only a call could tell.
-- Columns:
--   market: name of the market
--   asset_id: asset
--   reads: number of reads without a price
--   first_block: the first of them
--   last_block: the last of them
SELECT market, asset_id, count(*) AS reads, min(block_number) AS first_block, max(block_number) AS last_block
FROM prices
WHERE price IS NULL AND method = 'read'
GROUP BY market, asset_id
