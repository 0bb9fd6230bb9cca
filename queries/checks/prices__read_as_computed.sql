-- Purpose: no read of the oracle overrules the rule of its price source: where one does, the oracle has a rule that is not known, or the node did not tell the truth (fetch --again asks anew).
-- Grain: (market, asset_id).
-- Columns:
--   market: name of the market
--   asset_id: asset
--   reads: number of reads that overrule
--   first_block: the first of them
--   last_block: the last of them
SELECT p.market, p.asset_id, count(*) AS reads, min(p.block_number) AS first_block, max(p.block_number) AS last_block
FROM prices AS p
JOIN raw.oracle_Source AS s ON s.market = p.market AND '0x' || lower(hex(s.address)) = p.source
WHERE p.method = 'read' AND NOT p.exact AND p.price IS NOT NULL AND s.kind <> 'sampled'
GROUP BY p.market, p.asset_id
