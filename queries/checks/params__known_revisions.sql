-- Purpose: every pool revision of Aave V3 markets is one that the rules cover.
-- Grain: (market, seq).
-- Columns:
--   market: name of the market
--   seq: the event
--   block_number: block from which it is in force
--   revision: pool revision
SELECT p.market, p.seq, p.block_number, p.value AS revision
FROM params AS p JOIN markets AS m ON m.market = p.market
WHERE m.protocol = 'aave-v3' AND p.name = 'pool_revision' AND p.value NOT IN (SELECT revision FROM aave_v3_rules)
