-- Purpose: a * b / d, rounded up: see mul_add_div_down.
-- Parameters:
--   a: HUGEINT
--   b: HUGEINT
--   d: HUGEINT
-- Result: HUGEINT.
mul_add_div_down(a, b, (d)::HUGEINT - 1, d)
