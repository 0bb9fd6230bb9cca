-- Purpose: the markets of the lake, from its manifest.
-- Grain: market.
-- Columns:
--   market: name of the market
--   protocol: name of the protocol, for example aave-v3
--   chain_id: chain id (EIP-155)
--   start_block: first block in which one of its contracts emitted a log
--   base_decimals: decimals of the base currency that prices are in (8 for US dollars on the main markets)
--   description: free text
SELECT market, protocol, chain_id, start_block, base_decimals, description
FROM lake.markets
