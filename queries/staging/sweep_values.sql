-- Purpose: the parameter sets of sweeps.
-- Grain: (sweep_id, point, axis).
-- Columns:
--   sweep_id: the sweep
--   point: number of the parameter set, from 0
--   axis: name of the axis
--   level: place of the value among those of its axis, from 0
--   value: the value, as text
--   number: the value where it is a whole number, else null
SELECT sweep_id, point, axis, level, value, number FROM results.sweep_values
