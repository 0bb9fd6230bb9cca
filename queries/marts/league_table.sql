-- Purpose: who liquidates in stored replays: bids, wins, volume, what was paid and kept, and how concentrated that is.
-- Grain: (run_id, searcher).
-- Columns:
--   run_id: the replay
--   searcher: name of the searcher, or address of the liquidator where nobody bid
--   bids: number of contests in which it bid; null where nobody bids
--   won: number of them that it won; null where nobody bids
--   win_rate: won over bids, DOUBLE; null where it made no bid
--   liquidations: number of liquidations, or of steps of their auctions; those that only open an auction are not counted
--   repaid_base: debt repaid in them, base-currency units at the oracle price
--   volume_share: share of the run's debt repaid, DOUBLE; null where there is none
--   bid_paid_base: paid to win, shares of protocol and oracle included, base-currency units
--   lost_base: paid where it lost: gas of reverted calls, base-currency units
--   rent_base: what its liquidations left it after costs and bids, before what it lost elsewhere, base-currency units
--   hhi: of the run: Herfindahl-Hirschman index of volume shares, 0 to 10000 (one has all), DOUBLE; the same in all its rows
WITH taken AS (
    SELECT w.run_id, coalesce(c.winner, l.liquidator) AS searcher, count(*) FILTER (l.stage IS DISTINCT FROM 'opened') AS liquidations,
        coalesce(sum(l.repaid_base) FILTER (l.stage IS DISTINCT FROM 'opened'), 0) AS repaid,
        sum(w.bid_base + w.protocol_share_base + w.oracle_share_base) AS paid, sum(w.rent_base) AS rent
    FROM run_waterfalls AS w JOIN results.run_liquidations AS l ON l.run_id = w.run_id AND l.ordinal = w.ordinal
    LEFT JOIN run_contests AS c ON c.run_id = w.run_id AND c.ordinal = w.ordinal GROUP BY w.run_id, coalesce(c.winner, l.liquidator)
), made AS (
    SELECT run_id, searcher, count(*) AS bids, count(*) FILTER (won) AS won, sum(paid_base) FILTER (NOT won) AS lost FROM run_bids GROUP BY run_id, searcher
), both_sides AS (
    SELECT run_id, searcher, m.bids, m.won, coalesce(t.liquidations, 0) AS liquidations, coalesce(t.repaid, 0) AS repaid, coalesce(t.paid, 0) AS paid,
        coalesce(m.lost, 0) AS lost, coalesce(t.rent, 0) AS rent
    FROM taken AS t FULL JOIN made AS m USING (run_id, searcher)
), shared AS (
    SELECT *, CASE WHEN sum(repaid) OVER run > 0 THEN repaid::DOUBLE / (sum(repaid) OVER run)::DOUBLE END AS volume_share
    FROM both_sides WINDOW run AS (PARTITION BY run_id)
)
SELECT run_id, searcher, bids, won, won / bids AS win_rate, liquidations, repaid::DECIMAL(38, 0) AS repaid_base, volume_share,
    paid::DECIMAL(38, 0) AS bid_paid_base, lost::DECIMAL(38, 0) AS lost_base, rent::DECIMAL(38, 0) AS rent_base,
    10000 * sum(volume_share * volume_share) OVER (PARTITION BY run_id) AS hhi
FROM shared
