-- Purpose: what each replay of a sweep was for liquidators: what they kept and paid, how fast they came, how few they were, and what nobody took.
-- Grain: (sweep_id, point, response, window); baselines and failed scenarios are left out.
-- Columns:
--   sweep_id: the sweep
--   point: number of the parameter set
--   response: what users do
--   window: name of the window
--   held_out: whether the window is kept apart
--   run_id: the replay; of several markets the first one's run, and amounts are sums over all, in its base units
--   parameters: the set's values, as text
--   rent_base: what stays with liquidators, base-currency units
--   bid_base: what block builders, the express lane or the auctioneer get, base-currency units
--   protocol_share_base: the protocol's share of bids, base-currency units
--   oracle_share_base: the oracle's share of bids, base-currency units
--   opportunities: number of opportunities
--   median_seconds: of those that were taken, until they were: the median
--   p90_seconds: the 90th percentile
--   missed_debt_base: what could have been repaid of those that nobody took, base-currency units
--   hhi: concentration of the debt repaid among searchers (Herfindahl-Hirschman index, 10000 = one has all), DOUBLE; null of several markets
--   contests: number of contests that somebody bid in
--   zero_bid_share: share of contests that were won for nothing, DOUBLE; null without contests
WITH named AS (
    SELECT sweep_id, point, string_agg(axis || '=' || value, ', ' ORDER BY axis) AS parameters FROM sweep_values GROUP BY sweep_id, point
), told AS (
    SELECT p.run_id, p.part_id, p.up, p.down, o.seconds, o.ending, CASE WHEN o.ending <> 'taken' AND o.missed IS NOT NULL THEN o.repaid_base END AS missed
    FROM sweep_parts AS p JOIN opportunities AS o ON o.run_id = p.part_id
), paid AS (
    UNPIVOT (
        SELECT p.run_id, p.up, p.down, sum(w.rent_base)::HUGEINT AS rent, sum(w.bid_base)::HUGEINT AS bid, sum(w.protocol_share_base)::HUGEINT AS protocol,
            sum(w.oracle_share_base)::HUGEINT AS oracle
        FROM sweep_parts AS p JOIN run_waterfalls AS w ON w.run_id = p.part_id GROUP BY p.run_id, p.part_id, p.up, p.down
    ) ON rent, bid, protocol, oracle INTO NAME kind VALUE amount
    UNION ALL SELECT run_id, up, down, 'missed', sum(missed)::HUGEINT FROM told GROUP BY run_id, part_id, up, down
), kept AS (
    SELECT run_id, sum(amount) FILTER (kind = 'rent') AS rent, sum(amount) FILTER (kind = 'bid') AS bid, sum(amount) FILTER (kind = 'protocol') AS protocol,
        sum(amount) FILTER (kind = 'oracle') AS oracle, sum(amount) FILTER (kind = 'missed') AS debt
    FROM (SELECT run_id, kind, CASE WHEN up = down THEN amount ELSE sign(amount) * mul_div_down(abs(amount), up, down) END AS amount FROM paid)
    GROUP BY run_id
), seen AS (
    SELECT run_id, count(*) AS opportunities, quantile_disc(seconds, 0.5) FILTER (ending = 'taken') AS median_seconds,
        quantile_disc(seconds, 0.9) FILTER (ending = 'taken') AS p90_seconds
    FROM told GROUP BY run_id
), concentrated AS (
    SELECT p.run_id, CASE WHEN count(DISTINCT p.part_id) = 1 THEN any_value(l.hhi) END AS hhi
    FROM sweep_parts AS p JOIN league_table AS l ON l.run_id = p.part_id GROUP BY p.run_id
), won AS (
    SELECT p.run_id, sum(z.contests)::BIGINT AS contests, sum(z.share * z.contests) / sum(z.contests) AS share
    FROM sweep_parts AS p JOIN zero_bids AS z ON z.run_id = p.part_id GROUP BY p.run_id
)
SELECT s.sweep_id, s.point, s.response, s."window", s.held_out, s.run_id, coalesce(n.parameters, '') AS parameters,
    coalesce(k.rent, 0)::DECIMAL(38, 0) AS rent_base, coalesce(k.bid, 0)::DECIMAL(38, 0) AS bid_base,
    coalesce(k.protocol, 0)::DECIMAL(38, 0) AS protocol_share_base, coalesce(k.oracle, 0)::DECIMAL(38, 0) AS oracle_share_base,
    coalesce(t.opportunities, 0) AS opportunities, t.median_seconds, t.p90_seconds, coalesce(k.debt, 0)::DECIMAL(38, 0) AS missed_debt_base,
    c.hhi, coalesce(z.contests, 0) AS contests, z.share AS zero_bid_share
FROM sweep_scenarios AS s LEFT JOIN named AS n USING (sweep_id, point) LEFT JOIN kept AS k ON k.run_id = s.run_id
LEFT JOIN seen AS t ON t.run_id = s.run_id
LEFT JOIN concentrated AS c ON c.run_id = s.run_id LEFT JOIN won AS z ON z.run_id = s.run_id
WHERE s.role = 'scenario' AND s.status = 'done'
