-- Purpose: a * b / d in DOUBLE: what is shown where a number is beyond what mul_div_down holds.
-- Parameters:
--   a: HUGEINT
--   b: HUGEINT
--   d: HUGEINT
-- Result: HUGEINT, good to 1e-15; no more than 1e36; null where an argument is.
CASE WHEN d > 0 AND a IS NOT NULL AND b IS NOT NULL THEN least(floor(a::DOUBLE * (b::DOUBLE / d::DOUBLE)), 1e36)::HUGEINT END
