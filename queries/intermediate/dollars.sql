-- Purpose: what one whole unit of a market's base currency is worth in US dollars, over time.
-- Grain: (market, block_number): from that block on, until the next of the market. A market whose currency nothing in the lake prices has no row.
-- Columns:
--   market: name of the market
--   block_number: first block for which it holds
--   usd: US dollars, DOUBLE; null where the oracle it is taken from would revert
--   usd_from: base currency where prices are in dollars already; else whose oracle price of it this is: a market of the lake in dollars, on the same chain
-- The currency is known by its symbol (ETH also as WETH), so a market counts only where one asset alone has it.
WITH named AS (
    SELECT m.market, m.chain_id, m.base_decimals, a.asset_id, upper(a.symbol) AS symbol
    FROM markets AS m JOIN assets AS a ON a.market = m.market
    WHERE m.base_currency = 'USD'
), wanted AS (
    SELECT m.market, n.market AS source, any_value(n.asset_id) AS asset_id, any_value(n.base_decimals) AS base_decimals
    FROM markets AS m JOIN named AS n ON n.chain_id = m.chain_id AND n.symbol IN (upper(m.base_currency), 'W' || upper(m.base_currency))
    WHERE m.base_currency <> 'USD'
    GROUP BY m.market, n.market
    HAVING count(*) = 1
), chosen AS (
    SELECT market, min(source) AS source, arg_min(asset_id, source) AS asset_id, arg_min(base_decimals, source) AS base_decimals FROM wanted GROUP BY market
), steps AS (
    SELECT market, asset_id, block_number, arg_max(struct_pack(price := price), log_index).price AS price FROM prices GROUP BY market, asset_id, block_number
)
SELECT market, 0::BIGINT AS block_number, 1::DOUBLE AS usd, 'base currency' AS usd_from
FROM markets
WHERE base_currency = 'USD'
UNION ALL
SELECT c.market, s.block_number, s.price::DOUBLE / pow(10, c.base_decimals), c.source
FROM chosen AS c JOIN steps AS s ON s.market = c.source AND s.asset_id = c.asset_id
