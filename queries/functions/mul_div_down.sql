-- Purpose: a * b / d, rounded down: see mul_add_div_down.
-- Parameters:
--   a: HUGEINT
--   b: HUGEINT
--   d: HUGEINT
-- Result: HUGEINT.
mul_add_div_down(a, b, 0, d)
