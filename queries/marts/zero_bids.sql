-- Purpose: how many contests of stored replays were won for nothing.
-- Grain: run_id.
-- Columns:
--   run_id: the replay
--   contests: number of contests with a winner
--   zero_bids: number in which the winner bid 0
--   alone: number in which nobody else bid
--   share: zero bids over contests, DOUBLE
--   low: lower end of its 95 % interval (Wilson), DOUBLE
--   high: upper end, DOUBLE
--   repaid_base: debt repaid in all of them, base-currency units at the oracle price
--   zero_bid_repaid_base: debt repaid in those won for nothing, base-currency units at the oracle price
WITH counted AS (
    SELECT c.run_id, count(*) AS contests, count(*) FILTER (c.bid_base = 0) AS zero_bids, count(*) FILTER (c.rivals = 0) AS alone,
        sum(l.repaid_base)::DECIMAL(38, 0) AS repaid_base,
        coalesce(sum(l.repaid_base) FILTER (c.bid_base = 0), 0)::DECIMAL(38, 0) AS zero_bid_repaid_base
    FROM run_contests AS c JOIN results.run_liquidations AS l ON l.run_id = c.run_id AND l.ordinal = c.ordinal GROUP BY c.run_id
), weighed AS (
    SELECT *, zero_bids / contests AS share, 1.9599639845 ** 2 AS z2 FROM counted
)
SELECT run_id, contests, zero_bids, alone, share,
    greatest(0, (share + z2 / (2 * contests) - sqrt(z2 * (share * (1 - share) / contests + z2 / (4 * contests ** 2)))) / (1 + z2 / contests)) AS low,
    least(1, (share + z2 / (2 * contests) + sqrt(z2 * (share * (1 - share) / contests + z2 / (4 * contests ** 2)))) / (1 + z2 / contests)) AS high,
    repaid_base, zero_bid_repaid_base
FROM weighed
