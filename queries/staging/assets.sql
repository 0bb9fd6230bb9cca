-- Purpose: assets of each market and their dense ids.
-- Grain: (market, asset_id).
-- Columns:
--   market: name of the market
--   asset_id: dense id
--   asset: address of the underlying token, lower-case 0x
--   symbol: symbol of the token
--   label: the symbol, with the ends of the address where another asset of the market has the same symbol
--   decimals: decimals of the token
--   collateral_token: address of the protocol's collateral token, null if it has none
--   debt_token: address of the protocol's debt token, null if it has none
SELECT market, asset_id, asset, symbol,
    symbol || CASE WHEN count(*) OVER (PARTITION BY market, lower(symbol)) > 1 THEN ' (' || asset[:6] || '…' || asset[-4:] || ')' ELSE '' END AS label,
    decimals, collateral_token, debt_token
FROM canonical.assets
