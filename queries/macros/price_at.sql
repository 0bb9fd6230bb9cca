-- Purpose: the oracle price of every asset at the end of a block.
-- Grain: (market, asset_id); assets without a price yet have no row.
-- Parameters:
--   at_block: block number
-- Columns:
--   market: name of the market
--   asset_id: asset
--   symbol: symbol of the asset
--   price: base-currency units per whole token, exact; null where the oracle would revert
--   price_usd: US dollars per whole token, DOUBLE; null where nothing in the lake turns the base currency into dollars
--   exact: false where the price is not known at this position
--   since_block: block of the last change
SELECT p.market, p.asset_id, a.symbol, p.last.price AS price, p.last.price::DOUBLE / pow(10, m.base_decimals) * d.usd AS price_usd, p.last.exact AS exact,
    p.last.block_number AS since_block
FROM (
    SELECT market, asset_id,
        arg_max(struct_pack(price := price, exact := exact, block_number := block_number), (block_number, log_index)) AS last
    FROM prices
    WHERE block_number <= at_block
    GROUP BY market, asset_id
) AS p
JOIN assets AS a ON a.market = p.market AND a.asset_id = p.asset_id
JOIN markets AS m ON m.market = p.market
LEFT JOIN (SELECT market, arg_max(struct_pack(usd := usd), block_number).usd AS usd FROM dollars WHERE block_number <= at_block GROUP BY market) AS d ON d.market = p.market
