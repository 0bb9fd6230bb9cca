-- Purpose: every asset of a protocol's markets at the end of some blocks, with its price: what reserves start from.
-- Grain: (market, block_number, asset_id).
-- Parameters:
--   of_protocol: name of the protocol
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   asset_id: asset
--   symbol: symbol of the asset
--   unit: native units of one whole token, HUGEINT
--   price: base-currency units per whole token, rounded down to the unit; null where the oracle would revert or nothing is known
--   price_rest: what the oracle's own price has below a base unit, in 10^-price_digits of it
--   price_digits: decimals of price_rest
--   price_exact: false where the price is not known at this position
WITH wanted AS (
    SELECT DISTINCT m.market, m.price_digits, b.block_number
    FROM markets AS m CROSS JOIN (SELECT unnest(blocks::BIGINT[]) AS block_number) AS b
    WHERE m.protocol = of_protocol
), clocks AS (
    SELECT w.*, b.timestamp FROM wanted AS w LEFT JOIN blocks AS b ON b.market = w.market AND b.block_number = w.block_number
), listed AS (
    SELECT c.*, a.asset_id, a.symbol, pow(10, a.decimals)::HUGEINT AS unit FROM clocks AS c JOIN assets AS a ON a.market = c.market
)
SELECT l.market, l.block_number, l.timestamp, l.asset_id, l.symbol, l.unit, p.price, coalesce(p.price_rest, 0)::HUGEINT AS price_rest, l.price_digits,
    p.exact AS price_exact
FROM listed AS l
ASOF LEFT JOIN price_steps AS p ON p.market = l.market AND p.asset_id = l.asset_id AND l.block_number >= p.block_number
