-- Purpose: the cTokens of Compound V2 markets at the end of some blocks, as stored at their last accrual: what the Comptroller counts.
-- Grain: (market, block_number, asset_id).
-- Parameters:
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   asset_id: asset
--   symbol: symbol of the asset
--   unit: native units of one whole token, HUGEINT
--   share_unit: scaled units that stand for one native unit where the index is one, HUGEINT
--   revision: revision of the Comptroller
--   price: base-currency units per whole token, rounded down to the unit; null where the oracle would revert or nothing is known
--   price_exact: false where the price is not known at this position
--   liquidation_threshold_wad: collateral factor, wad (1e18 = one), HUGEINT, outside categories
--   liquidation_bonus_wad: liquidation incentive, wad (1.08e18 = 8 % bonus), HUGEINT, outside categories
--   supply_index: native units of a cToken, ray (1e27), as stored, HUGEINT
--   borrow_index: the borrow index, ray (1e27), as stored, HUGEINT
--   supply_excess: supply_index less one, DOUBLE (so that indexes near one keep their digits)
--   borrow_excess: borrow_index less one, DOUBLE
--   price_rest: what the oracle's own price has below a base unit, in 10^-price_digits of it
--   price_digits: decimals of price_rest
--   exchange_rate: native units of a cToken, mantissa (1e18), HUGEINT
WITH chosen AS (
    SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number
), ours AS (
    SELECT p.* FROM params AS p SEMI JOIN (SELECT market FROM markets WHERE protocol = 'compound-v2') AS m USING (market)
), settled AS (
    SELECT p.market, p.asset_id, c.block_number, arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_threshold')::HUGEINT AS threshold,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_bonus')::HUGEINT AS bonus
    FROM ours AS p JOIN chosen AS c ON p.block_number <= c.block_number
    WHERE p.name IN ('liquidation_threshold', 'liquidation_bonus') GROUP BY p.market, p.asset_id, c.block_number
), revised AS (
    SELECT p.market, c.block_number, arg_max(p.value, p.seq) AS revision
    FROM ours AS p JOIN chosen AS c ON p.block_number <= c.block_number
    WHERE p.name = 'comptroller_revision' GROUP BY p.market, c.block_number
)
SELECT l.market, l.block_number, l.timestamp, l.asset_id, l.symbol, l.unit, 1::HUGEINT AS share_unit, v.revision, l.price, l.price_exact,
    coalesce(s.threshold, 0)::HUGEINT AS liquidation_threshold_wad, coalesce(s.bonus, 0)::HUGEINT AS liquidation_bonus_wad, i.supply_index::HUGEINT AS supply_index,
    i.borrow_index::HUGEINT AS borrow_index, (i.supply_index::DOUBLE - 1e27) / 1e27 AS supply_excess,
    (i.borrow_index::HUGEINT - 1000000000000000000000000000)::DOUBLE / 1e27 AS borrow_excess, l.price_rest, l.price_digits,
    i.supply_index::HUGEINT // 1000000000 AS exchange_rate
FROM assets_at('compound-v2', blocks) AS l
LEFT JOIN settled AS s ON s.market = l.market AND s.asset_id = l.asset_id AND s.block_number = l.block_number
LEFT JOIN revised AS v ON v.market = l.market AND v.block_number = l.block_number
ASOF LEFT JOIN index_steps AS i ON i.market = l.market AND i.asset_id = l.asset_id AND l.block_number >= i.block_number
