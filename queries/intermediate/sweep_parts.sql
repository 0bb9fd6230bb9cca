-- Purpose: the runs that each replay of a sweep is made of: its own, or of several markets together those of each.
-- Grain: (run_id, part_id).
-- Columns:
--   run_id: the replay as the sweep names it; of several markets the first one's run
--   part_id: a run that it is made of
--   market: the market of that run
--   up: how many base units of the first market one of this one's is, a fraction
--   down: see up
SELECT s.run_id, coalesce(o.run_id, s.run_id) AS part_id, coalesce(o.market, s.market) AS market, coalesce(o.worth_numerator, 1)::HUGEINT AS up,
    coalesce(o.worth_denominator, 1)::HUGEINT AS down
FROM (SELECT DISTINCT run_id, market FROM results.sweep_scenarios WHERE run_id IS NOT NULL) AS s
LEFT JOIN results.joints AS j ON j.run_id = s.run_id LEFT JOIN results.joints AS o ON o.joint_id = j.joint_id
