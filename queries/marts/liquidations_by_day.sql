-- Purpose: liquidations per day and pair.
-- Grain: (market, day, debt_asset_id, collateral_asset_id), without state (market, day, debt_symbol, collateral_symbol).
-- Columns:
--   protocol: name of the protocol
--   market: name of the market
--   day: day, UTC
--   debt_asset_id: asset repaid; null without state
--   debt_symbol: its symbol; assets may share one
--   collateral_asset_id: asset seized; null without state
--   collateral_symbol: its symbol
--   liquidations: number of liquidations
--   accounts: number of distinct borrowers
--   repaid_usd: US dollars, DOUBLE; null if no liquidation of the group has a price in dollars
--   seized_usd: US dollars, DOUBLE; null if no liquidation of the group has a price in dollars
--   unpriced: liquidations without a price in dollars, which the sums leave out
SELECT protocol, market, make_timestamp(timestamp * 1000000)::DATE AS day, debt_asset_id, debt_symbol, collateral_asset_id, collateral_symbol, count(*) AS liquidations,
    count(DISTINCT account) AS accounts, sum(repaid_usd) AS repaid_usd, sum(seized_usd) AS seized_usd,
    count(*) FILTER (repaid_usd IS NULL OR seized_usd IS NULL) AS unpriced
FROM liquidations
GROUP BY protocol, market, day, debt_asset_id, debt_symbol, collateral_asset_id, collateral_symbol
