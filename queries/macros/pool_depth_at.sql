-- Purpose: how much of the token that a pool prices can be sold at the end of a block until the pool's price has fallen by 1, 2, 5 and 10 %.
-- Grain: (market, pool_id, fall); pools that are not initialized yet have no row.
-- Parameters:
--   at_block: block number
-- Columns:
--   market: name of the market
--   pool_id: pool
--   pool: its address
--   asset_id: which asset of the market is sold; null where it is none
--   fall: by how much the price falls, as a share of it
--   price: whole units of the other token per whole token before the sale, DOUBLE
--   sold: whole tokens that are put in, the pool's fee included, DOUBLE
--   received: whole units of the other token that come out, DOUBLE
--   slippage: by how much the average price is below the price before the sale, fee included, DOUBLE; null where nothing can be sold
WITH past AS (
    SELECT * FROM pool_events WHERE block_number <= at_block
), standing AS (
    SELECT market, pool_id, arg_max(hex(sqrt_price), seq) AS digits
    FROM past WHERE sqrt_price IS NOT NULL
    GROUP BY market, pool_id
), now AS (
    SELECT market, pool_id, (('0x' || substr(digits, 49, 16))::UBIGINT::DOUBLE + ('0x' || substr(digits, 33, 16))::UBIGINT::DOUBLE * pow(2.0, 64)
        + ('0x' || substr(digits, 17, 16))::UBIGINT::DOUBLE * pow(2.0, 128)) / pow(2.0, 96) AS root
    FROM standing
), edges AS (
    SELECT market, pool_id, tick, sum(change) AS net
    FROM (
        SELECT market, pool_id, tick, liquidity AS change FROM past WHERE upper IS NOT NULL
        UNION ALL SELECT market, pool_id, upper, -liquidity FROM past WHERE upper IS NOT NULL
    )
    GROUP BY market, pool_id, tick
), ranges AS (
    SELECT market, pool_id, pow(1.0001, tick / 2.0) AS low, pow(1.0001, lead(tick) OVER along / 2.0) AS high, (sum(net) OVER along)::DOUBLE AS liquidity
    FROM edges
    WINDOW along AS (PARTITION BY market, pool_id ORDER BY tick)
), wanted AS (
    SELECT n.market, n.pool_id, p.pool, p.prices = p.token0 AS down, p.decimals0, p.decimals1, p.asset0_id, p.asset1_id, 1 - p.fee / 1e6 AS kept, f.fall, n.root,
        CASE WHEN p.prices = p.token0 THEN n.root * sqrt(1 - f.fall) ELSE n.root / sqrt(1 - f.fall) END AS target
    FROM now AS n
    JOIN pools AS p ON p.market = n.market AND p.pool_id = n.pool_id
    CROSS JOIN (VALUES (0.01), (0.02), (0.05), (0.1)) AS f(fall)
), crossed AS (
    SELECT w.*, greatest(r.low, least(w.root, w.target)) AS low, least(r.high, greatest(w.root, w.target)) AS high, r.liquidity
    FROM wanted AS w
    LEFT JOIN ranges AS r ON r.market = w.market AND r.pool_id = w.pool_id AND r.low < greatest(w.root, w.target) AND r.high > least(w.root, w.target)
), amounts AS (
    SELECT market, pool_id, pool, down, asset0_id, asset1_id, fall, root, kept, decimals0, decimals1,
        coalesce(sum(liquidity * (1 / low - 1 / high)), 0) AS native0, coalesce(sum(liquidity * (high - low)), 0) AS native1
    FROM crossed
    GROUP BY ALL
), whole AS (
    SELECT *, native0 / pow(10, decimals0) AS amount0, native1 / pow(10, decimals1) AS amount1 FROM amounts
), sales AS (
    SELECT market, pool_id, pool, CASE WHEN down THEN asset0_id ELSE asset1_id END AS asset_id, fall,
        pow(root * root * pow(10, decimals0 - decimals1), CASE WHEN down THEN 1 ELSE -1 END) AS price,
        CASE WHEN down THEN amount0 ELSE amount1 END / kept AS sold, CASE WHEN down THEN amount1 ELSE amount0 END AS received
    FROM whole
)
SELECT market, pool_id, pool, asset_id, fall::DOUBLE AS fall, price, sold, received, 1 - received / nullif(sold, 0) / price AS slippage
FROM sales
