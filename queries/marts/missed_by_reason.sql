-- Purpose: why opportunities of stored replays were not taken: how often, and for good.
-- Grain: (run_id, reason); an opportunity that was missed for several reasons is in the row of each, but lost in one row at most.
-- Columns:
--   run_id: the replay
--   reason: why nobody took it at a look: unprofitable, gas above caps, no capital, not included, ...
--   opportunities: number of opportunities that were missed for it at some look, taken later or not
--   debt_base: debt that the best offers would have repaid when they were first missed for it, base-currency units at the oracle price
--   looks: number of looks at which that was so
--   lost: number of them that nobody ever took and for which it was the last reason
--   lost_expired: number of these whose owner acted, whose price came back, or that a mitigation withheld; the others were open at the end of the window
--   lost_debt_base: debt that their best offers would have repaid in the end, base-currency units at the oracle price
--   lost_profit_base: what these would have left after costs and before bids, where that is above zero, base-currency units
WITH each AS (
    SELECT run_id, opportunity, reason, sum(looks)::BIGINT AS looks, arg_min(repaid_base, spell) AS debt
    FROM run_opportunities WHERE ending = 'missed' GROUP BY run_id, opportunity, reason
)
SELECT e.run_id, e.reason, count(*) AS opportunities, sum(e.debt)::DECIMAL(38, 0) AS debt_base, sum(e.looks)::BIGINT AS looks,
    count(*) FILTER (o.ending <> 'taken') AS lost, count(*) FILTER (o.ending = 'expired') AS lost_expired,
    coalesce(sum(o.repaid_base) FILTER (o.ending <> 'taken'), 0)::DECIMAL(38, 0) AS lost_debt_base,
    coalesce(sum(greatest(o.profit_base, 0)) FILTER (o.ending <> 'taken'), 0)::DECIMAL(38, 0) AS lost_profit_base
FROM each AS e LEFT JOIN opportunities AS o ON o.run_id = e.run_id AND o.opportunity = e.opportunity AND o.missed = e.reason
GROUP BY e.run_id, e.reason
