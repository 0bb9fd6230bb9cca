-- Purpose: what connects several markets at a moment, and what a shock does to them together (backtest contagion): one measure a row.
-- Grain: (contagion_id, measure, subject, other).
-- Columns:
--   contagion_id: hash of markets, their content, moment, shock and how prices answer
--   market: name of the first market
--   lake_digest: digest of the first market's content
--   markets: names of all of them, JSON list
--   timestamp: seconds since 1970, of the moment
--   shock: what falls, is lost or paused at first, JSON; basis points
--   currency: what amounts are counted in, base units: the first market's base currency
--   decimals: its decimals
--   measure: loss, loss alone, contagion, overlap, risk index, debt rank, ...
--   subject: the market, asset or owner that it is of
--   other: the second one of measures of pairs, or the asset
--   amount_base: where it is an amount
--   number: where it is a number
--   superseded: blocks of the first market that were fetched again since and came out otherwise; null where none were
SELECT contagion_id, market, lake_digest, markets, timestamp, shock, currency, decimals, measure, subject, other, amount_base, number, superseded
FROM results.contagion LEFT JOIN lake.superseded USING (market, lake_digest)
