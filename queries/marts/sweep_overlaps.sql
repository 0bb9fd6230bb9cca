-- Purpose: windows held out that share blocks with a window that chooses: what is chosen there has seen them, so they are no check of it.
-- Grain: (sweep_id, held_out, chooses).
-- Columns:
--   sweep_id: the sweep
--   held_out: name of the window held out
--   chooses: name of the other window
--   from_block: first block of both
--   to_block: last block of both, null for the end of the market's history
SELECT h.sweep_id, coalesce(h."of", h.name) AS held_out, coalesce(c."of", c.name) AS chooses,
    greatest(coalesce(any_value(h.from_block), 0), coalesce(any_value(c.from_block), 0)) AS from_block,
    least(any_value(h.to_block), any_value(c.to_block)) AS to_block
FROM results.sweep_windows AS h JOIN results.sweep_windows AS c ON c.sweep_id = h.sweep_id
WHERE h.held_out AND NOT c.held_out
    AND coalesce(h.from_block, 0) <= coalesce(c.to_block, 9223372036854775807)
    AND coalesce(c.from_block, 0) <= coalesce(h.to_block, 9223372036854775807)
GROUP BY h.sweep_id, coalesce(h."of", h.name), coalesce(c."of", c.name)
ORDER BY h.sweep_id, min(h.ordinal), min(c.ordinal)
