-- Purpose: what each market of a sweep of several came to under each parameter set, beside its replay alone where that is stored.
-- Grain: (sweep_id, point, response, window, of_market); baselines under point null.
-- Columns:
--   sweep_id: the sweep
--   market: the first of the markets, under which the sweep is stored
--   point: number of the parameter set; null for a baseline
--   response: what users do
--   window: name of the window
--   held_out: whether the window is kept apart
--   joint_id: the joint replay
--   of_market: the market that the row is of
--   place: its place among the markets
--   run_id: its run
--   liquidations: number of liquidations
--   repaid_base: debt repaid, base units of the first market, rounded up
--   bad_debt_base: debt written off, and beyond the collateral of its account at the end of the window
--   alone_bad_debt_base: the same of its replay alone; null where that is not stored
SELECT s.sweep_id, s.market, s.point, s.response, s."window", s.held_out, l.joint_id, l.market AS of_market, l.place, p.part_id AS run_id, l.liquidations,
    l.repaid_base, l.bad_debt_base, l.alone_bad_debt_base
FROM sweep_scenarios AS s JOIN sweep_parts AS p USING (run_id) JOIN joints AS j ON j.run_id = p.part_id
JOIN joint_losses AS l ON l.joint_id = j.joint_id AND l.market = j.market AND l.label = 'end'
