-- Purpose: the markets of the lake, from its manifest.
-- Grain: market.
-- Columns:
--   market: name of the market
--   protocol: name of the protocol
--   chain_id: chain id (EIP-155)
--   start_block: first block in which one of its contracts emitted a log
--   base_currency: what prices are in, as the market's file says it (USD, ETH, USDC, ...)
--   base_decimals: decimals of the base currency that prices are in (8 for US dollars on the main markets)
--   price_digits: decimals that the oracle's own prices have below a base unit (see price_rest of prices)
--   description: free text
SELECT market, protocol, chain_id, start_block, base_currency, base_decimals, price_digits, description
FROM lake.markets
