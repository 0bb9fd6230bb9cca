-- Purpose: what each replay of a sweep was for liquidators: what they kept and paid, how fast they came, how few they were, and what nobody took.
-- Grain: (sweep_id, point, response, window); baselines and failed scenarios are left out.
-- Columns:
--   sweep_id: the sweep
--   point: number of the parameter set
--   response: what users do
--   window: name of the window
--   held_out: whether the window is kept apart
--   run_id: the replay
--   parameters: the set's values, as text
--   rent_base: what stays with liquidators, base-currency units
--   bid_base: what block builders, the express lane or the auctioneer get, base-currency units
--   protocol_share_base: the protocol's share of bids, base-currency units
--   oracle_share_base: the oracle's share of bids, base-currency units
--   opportunities: number of opportunities
--   median_seconds: of those that were taken, until they were: the median
--   p90_seconds: the 90th percentile
--   missed_debt_base: what could have been repaid of those that nobody took, base-currency units
--   hhi: concentration of the debt repaid among searchers (Herfindahl-Hirschman index, 10000 = one has all), DOUBLE
--   contests: number of contests that somebody bid in
--   zero_bid_share: share of contests that were won for nothing, DOUBLE; null without contests
WITH named AS (
    SELECT sweep_id, point, string_agg(axis || '=' || value, ', ' ORDER BY axis) AS parameters FROM sweep_values GROUP BY sweep_id, point
), kept AS (
    SELECT run_id, sum(rent_base) AS rent, sum(bid_base) AS bid, sum(protocol_share_base) AS protocol, sum(oracle_share_base) AS oracle
    FROM run_waterfalls GROUP BY run_id
), seen AS (
    SELECT run_id, count(*) AS opportunities, quantile_disc(seconds, 0.5) FILTER (ending = 'taken') AS median_seconds,
        quantile_disc(seconds, 0.9) FILTER (ending = 'taken') AS p90_seconds,
        sum(repaid_base) FILTER (ending <> 'taken' AND missed IS NOT NULL) AS debt
    FROM opportunities GROUP BY run_id
), concentrated AS (
    SELECT run_id, any_value(hhi) AS hhi FROM league_table GROUP BY run_id
)
SELECT s.sweep_id, s.point, s.response, s."window", s.held_out, s.run_id, coalesce(n.parameters, '') AS parameters,
    coalesce(k.rent, 0)::DECIMAL(38, 0) AS rent_base, coalesce(k.bid, 0)::DECIMAL(38, 0) AS bid_base,
    coalesce(k.protocol, 0)::DECIMAL(38, 0) AS protocol_share_base, coalesce(k.oracle, 0)::DECIMAL(38, 0) AS oracle_share_base,
    coalesce(t.opportunities, 0) AS opportunities, t.median_seconds, t.p90_seconds, coalesce(t.debt, 0)::DECIMAL(38, 0) AS missed_debt_base,
    c.hhi, coalesce(z.contests, 0) AS contests, z.share AS zero_bid_share
FROM sweep_scenarios AS s LEFT JOIN named AS n USING (sweep_id, point) LEFT JOIN kept AS k ON k.run_id = s.run_id
LEFT JOIN seen AS t ON t.run_id = s.run_id
LEFT JOIN concentrated AS c ON c.run_id = s.run_id LEFT JOIN zero_bids AS z ON z.run_id = s.run_id
WHERE s.role = 'scenario' AND s.status = 'done'
