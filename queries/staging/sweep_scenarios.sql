-- Purpose: the scenarios of sweeps, each as it ended when it was last tried.
-- Grain: (sweep_id, ordinal); scenarios that were not tried yet are left out.
-- Columns:
--   sweep_id: the sweep
--   market: name of the market
--   ordinal: place in the sweep, from 0
--   role: scenario, or baseline
--   point: number of its parameter set (sweep_values); null for a baseline
--   window: name of the window
--   held_out: whether the window is kept apart from what chooses
--   response: what users do: frozen, same-ltv, same-health
--   name: name of the scenario
--   run_id: its replay; null where it failed
--   status: done or failed
--   error: why it failed; null where it did not
--   replayed: whether this sweep made the run; false where the lake held it, or another scenario of the sweep shares it
--   attempts: number of times that it was tried
WITH latest AS (
    SELECT *, row_number() OVER (PARTITION BY sweep_id, ordinal ORDER BY attempt DESC) AS place FROM results.sweep_scenarios
)
SELECT l.sweep_id, l.market, l.ordinal, l.role, l.point, l."window", w.held_out, l.response, l.name, l.run_id, l.status, l.error, l.replayed,
    l.attempt AS attempts
FROM latest AS l LEFT JOIN results.sweep_windows AS w ON w.sweep_id = l.sweep_id AND w.name = l."window" WHERE l.place = 1
