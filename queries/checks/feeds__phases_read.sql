-- Purpose: the block in which a feed proxy changed its aggregator was read from the chain, not estimated for want of old state (an archive node and fetch --again mend it).
-- Grain: (market, proxy, phase).
-- Columns:
--   market: name of the market
--   proxy: address of the feed proxy, lower-case 0x
--   phase: number of the phase
--   from_block: estimated block from which it is in force
SELECT market, '0x' || lower(hex(address)) AS proxy, phase, min(from_block) AS from_block
FROM raw.oracle_Phase
GROUP BY market, address, phase
HAVING NOT bool_or(exact)
