-- Purpose: how fast opportunities of stored replays are taken: the share that was taken by then, and that was still open.
-- Grain: (run_id, seconds): times at which one was taken, expired or was open when the window ended.
-- Columns:
--   run_id: the replay
--   seconds: since the opportunity was first seen
--   at_risk: number of opportunities that were observed for that long and had not ended before
--   taken: number that were taken then
--   expired: number that expired then
--   open_share: share still open afterwards (Kaplan-Meier), DOUBLE
--   taken_share: share that was taken by then, expiry being a competing end (Aalen-Johansen), DOUBLE
-- Opportunities that were open when the window ended are censored then.
WITH ended AS (
    SELECT run_id, seconds, count(*) AS seen, count(*) FILTER (ending = 'taken') AS taken, count(*) FILTER (ending = 'expired') AS expired
    FROM opportunities GROUP BY run_id, seconds
), observed AS (
    SELECT *, (sum(seen) OVER (PARTITION BY run_id ORDER BY seconds DESC))::BIGINT AS at_risk FROM ended
), surviving AS (
    SELECT *, product(1 - (taken + expired) / at_risk) OVER (PARTITION BY run_id ORDER BY seconds) AS open_share FROM observed
), before AS (
    SELECT *, coalesce(lag(open_share) OVER (PARTITION BY run_id ORDER BY seconds), 1) * taken / at_risk AS taken_now FROM surviving
)
SELECT run_id, seconds, at_risk, taken, expired, open_share, sum(taken_now) OVER (PARTITION BY run_id ORDER BY seconds) AS taken_share FROM before
