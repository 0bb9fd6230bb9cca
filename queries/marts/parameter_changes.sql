-- Purpose: natural experiments: changes of parameters that a scenario may change too, with what was liquidated around them.
-- Grain: (market, seq, name, asset_id, category): one change of a value; the first one from nothing, which lists an asset, is left out.
-- Columns:
--   protocol: name of the protocol
--   market: name of the market
--   seq: the event that made the change
--   block_number: block of the change
--   timestamp: seconds since 1970, of the block
--   asset_id: of which asset; null for a category or the whole market
--   symbol: its symbol
--   category: of which e-mode category; null for an asset or the whole market
--   name: name of the parameter
--   value_before: the value until then, in the parameter's own unit
--   value: the new value
--   from_timestamp: seconds since 1970: 14 days earlier, or the same parameter's change before, or the market's first block
--   until_timestamp: seconds since 1970: 14 days later, or the same parameter's next change, or the market's last block
--   days_before: days from the one to the change, DOUBLE
--   days_after: days from the change to the other, DOUBLE
--   liquidations_before: number of liquidations in the days before
--   liquidations_after: number of liquidations in the days after
--   repaid_usd_before: debt that those repaid, US dollars, DOUBLE; null without prices in dollars
--   repaid_usd_after: debt that those repaid, US dollars, DOUBLE; null without prices in dollars
--   others: changes of other such parameters of the market in the same days
--   scorable: whether both sides have ten liquidations, as backtest calibrate baseline --split asks for
WITH names AS (
    SELECT unnest(['ltv', 'liquidation_threshold', 'liquidation_target_ltv', 'liquidation_bonus', 'partial_liquidation_bonus', 'liquidation_protocol_fee',
        'liquidation_factor', 'store_front_price_factor', 'close_factor', 'liquidation_ratio', 'safety_ratio', 'critical_ratio', 'shutdown_ratio',
        'batch_margin', 'gas_share', 'liquidation_penalty', 'redistribution_penalty', 'liquidation_system', 'dust', 'line',
        'lump', 'dunk', 'box', 'hole', 'global_hole', 'beg', 'ttl', 'tau', 'buf', 'tail', 'cusp', 'chip', 'tip', 'calc', 'calc_tau',
        'step', 'cut', 'min_discount', 'max_discount', 'discount_seconds', 'minimum_bid', 'amplification', 'loan_discount', 'liquidation_discount', 'amm_fee', 'max_liquidation_discount',
        'liquidation_cool_off', 'liquidation_premium', 'liquidation_fee']) AS word
), told AS (
    SELECT market, seq, block_number, timestamp, asset_id, category, name, value, lag(value) OVER own AS value_before, row_number() OVER own AS nth
    FROM params WHERE name IN (SELECT word FROM names) OR (category IS NOT NULL AND EXISTS (SELECT 1 FROM names WHERE ends_with(name, '_' || word)))
    WINDOW own AS (PARTITION BY market, name, asset_id, category ORDER BY seq)
), known AS (
    SELECT market, min(timestamp) AS first, max(timestamp) AS last FROM events GROUP BY market
), changed AS (
    SELECT * EXCLUDE (nth), lag(timestamp) OVER own AS earlier, lead(timestamp) OVER own AS later, row_number() OVER (ORDER BY market, seq, name, asset_id, category) AS id
    FROM told WHERE value <> value_before AND NOT (nth = 2 AND value_before = 0)
    WINDOW own AS (PARTITION BY market, name, asset_id, category ORDER BY seq)
), changes AS (
    SELECT changed.*, greatest(timestamp - 1209600, coalesce(earlier, first), first) AS from_timestamp,
        least(timestamp + 1209600, coalesce(later, last), last) AS until_timestamp
    FROM changed JOIN known USING (market)
), around AS (
    SELECT c.id, count(*) FILTER (l.timestamp < c.timestamp) AS liquidations_before, count(*) FILTER (l.timestamp >= c.timestamp) AS liquidations_after,
        sum(repaid_usd) FILTER (l.timestamp < c.timestamp) AS repaid_usd_before, sum(repaid_usd) FILTER (l.timestamp >= c.timestamp) AS repaid_usd_after
    FROM changes AS c JOIN liquidations AS l ON l.market = c.market AND l.timestamp BETWEEN c.from_timestamp AND c.until_timestamp GROUP BY c.id
), beside AS (
    SELECT c.id, count(*) AS others
    FROM changes AS c JOIN changes AS o ON o.market = c.market AND o.timestamp BETWEEN c.from_timestamp AND c.until_timestamp
        AND (o.name, o.asset_id, o.category) IS DISTINCT FROM (c.name, c.asset_id, c.category) GROUP BY c.id
)
SELECT protocol, market, seq, block_number, timestamp, asset_id, symbol, category, name, value_before, value, from_timestamp, until_timestamp,
    (timestamp - from_timestamp) / 86400 AS days_before, (until_timestamp - timestamp) / 86400 AS days_after,
    coalesce(liquidations_before, 0) AS liquidations_before, coalesce(liquidations_after, 0) AS liquidations_after, repaid_usd_before, repaid_usd_after,
    coalesce(others, 0) AS others, coalesce(liquidations_before >= 10 AND liquidations_after >= 10, false) AS scorable
FROM changes LEFT JOIN around USING (id) LEFT JOIN beside USING (id) JOIN markets USING (market)
    LEFT JOIN assets USING (market, asset_id)
